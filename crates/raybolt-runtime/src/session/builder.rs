//! How a session is built: what a program may say, and what the machine and the environment say otherwise.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raybolt_core::calls::kinds::{self, Devices};
use raybolt_core::calls::lineage::Lineage;
use raybolt_core::calls::scheduler::{CPU, Demand, GPU, MEMORY, UNIT};

use super::{CHANGE, CURRENT, Place, SHUTDOWN_TIME, Session, SessionGuard, THREADS_MAX};
use crate::error::{Error, Kind, Result};
use crate::inspect::serve::Post;
use crate::machine;
use crate::processes::keeper::Settings;
use crate::processes::node::Node;
use crate::processes::shelf::PATIENCE;
use crate::processes::start::{self, Invitation};
use crate::timeline;

/// How many GPUs a node may have; each has an id that is kept.
const GPUS_MAX: usize = 65_536;
/// How long a worker process may take from its start to its driver.
const START_TIME: Duration = Duration::from_secs(10);
/// No value waits longer for the store, whatever is asked for: a clock can add so much.
const PATIENCE_MAX: Duration = Duration::from_secs(1 << 32);
/// How long a task in a worker process may run on after its deadline.
const GRACE: Duration = Duration::from_secs(5);

/// How a session is built.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    cpus: Option<f64>,
    gpus: f64,
    memory: Option<usize>,
    resources: Vec<(String, f64)>,
    worker_threads: Option<usize>,
    object_store_memory: Option<usize>,
    processes: Option<usize>,
    spill_dir: Option<PathBuf>,
    lineage_memory: Option<usize>,
    store_time: Option<Duration>,
    worker_start_time: Option<Duration>,
    watchable: Option<bool>,
    timeline: Option<bool>,
    log_to_driver: Option<bool>,
    deadline_grace: Option<Duration>,
    memory_limit: Option<u64>,
}

impl Builder {
    /// A session with the machine's CPUs and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// CPUs that tasks may hold together; as many as the process may use by default.
    pub fn num_cpus(mut self, count: f64) -> Self {
        self.cpus = Some(count);
        self
    }

    /// GPUs that tasks may hold together; none by default.
    pub fn num_gpus(mut self, count: usize) -> Self {
        self.gpus = count as f64;
        self
    }

    /// Bytes of memory that tasks may hold together; as many as the machine, or the control group that the
    /// process runs in, has. They are counted, not enforced.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Any other resource that tasks may ask for by name.
    pub fn resource(mut self, name: impl Into<String>, amount: f64) -> Self {
        self.resources.push((name.into(), amount));
        self
    }

    /// Threads that run user code at once, those that wait in `get` aside, in this process or in each of
    /// its worker processes; one per CPU by default.
    pub fn worker_threads(mut self, count: usize) -> Self {
        self.worker_threads = Some(count);
        self
    }

    /// Bytes that objects may fill. In one process objects are values in its memory: there is no bound
    /// by default, and [`put`](crate::call::put) fails beyond one. Over processes it is the size of their shared
    /// store, by default a third of the memory that the machine or its control group has, at most
    /// 128 GiB; what does not fit goes to [`spill_dir`](Self::spill_dir).
    pub fn object_store_memory(mut self, bytes: usize) -> Self {
        self.object_store_memory = Some(bytes);
        self
    }

    /// Where objects go that do not fit into the store of worker processes: the temporary directory by
    /// default, or what the variable `RAYBOLT_SPILL_DIR` says.
    pub fn spill_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.spill_dir = Some(path.into());
        self
    }

    /// How many bytes are kept of tasks that have ended, to make their values again if the store of worker
    /// processes loses them; 64 MiB by default. Beyond that the oldest are forgotten.
    pub fn lineage_memory(mut self, bytes: usize) -> Self {
        self.lineage_memory = Some(bytes);
        self
    }

    /// How long a value may wait for room in the store of worker processes, before that is an error; a minute by
    /// default. It waits only for what cannot be spilled: values that somebody reads in place.
    pub fn store_timeout(mut self, time: Duration) -> Self {
        self.store_time = Some(time);
        self
    }

    /// Runs tasks and actors in so many worker processes; in this process by default, or as the
    /// variable `RAYBOLT_WORKERS` says.
    pub fn processes(mut self, count: usize) -> Self {
        self.processes = Some(count);
        self
    }

    /// How long a worker process may take from its start to this driver, before the tasks that wait
    /// for it fail; 10 seconds by default.
    pub fn worker_start_timeout(mut self, time: Duration) -> Self {
        self.worker_start_time = Some(time);
        self
    }

    /// Whether this process shows what its worker processes print, with their names before it. It does
    /// by default, unless the variable `RAYBOLT_LOG_TO_DRIVER` is `0`.
    pub fn log_to_driver(mut self, shows: bool) -> Self {
        self.log_to_driver = Some(shows);
        self
    }

    /// How long a task may run on after its deadline before its worker process is killed; 5 seconds by
    /// default. Whatever else runs in that process runs again.
    pub fn deadline_grace(mut self, time: Duration) -> Self {
        self.deadline_grace = Some(time);
        self
    }

    /// How many bytes this process and its worker processes may use together, what they share aside.
    /// Beyond that a worker is stopped, with the task that can best be repeated. As the variable
    /// `RAYBOLT_MEMORY_LIMIT` says by default, or as much as the machine or its control group has.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Whether others of this user may watch the session with the command `raybolt`; by default as the
    /// variable `RAYBOLT_WATCH` says (`1`), else not. A session over processes can always be watched.
    pub fn watchable(mut self, is_watchable: bool) -> Self {
        self.watchable = Some(is_watchable);
        self
    }

    /// Whether the session keeps a timeline of what ran when; by default as the variable
    /// `RAYBOLT_TIMELINE` says (`1`), else not.
    pub fn timeline(mut self, is_kept: bool) -> Self {
        self.timeline = Some(is_kept);
        self
    }

    /// Begins the session. In a worker process it serves the driver instead, and never returns.
    ///
    /// # Errors
    /// When there is one already, or a setting makes no sense.
    pub fn start(self) -> Result<SessionGuard> {
        let keeps_timeline = self.timeline.unwrap_or_else(|| is_set("RAYBOLT_TIMELINE"));
        if let Some(invitation) = Invitation::of_this_process() {
            static SERVES: AtomicBool = AtomicBool::new(false);
            if SERVES.swap(true, Ordering::SeqCst) {
                return Err(Error::new(Kind::AlreadyInitialized)); // Code that runs in this worker asks.
            }
            timeline::start(keeps_timeline);
            start::serve(&invitation);
        }
        let invalid = |message: String| Error::new(Kind::Invalid(message));
        let memory = self.memory.map_or_else(machine::memory_limit, |bytes| bytes as u64);
        let mut total = Demand::default();
        let named = self.resources.iter().map(|(name, amount)| (name.as_str(), *amount));
        let cpus = self.cpus.unwrap_or_else(|| machine::cpus() as f64);
        let basic = [(CPU, cpus), (GPU, self.gpus)];
        let memory = (memory != u64::MAX).then_some((MEMORY, memory as f64));
        for (name, amount) in basic.into_iter().chain(memory).chain(named) {
            total.set(name, amount).map_err(|error| invalid(error.to_string()))?;
        }
        if self.gpus > GPUS_MAX as f64 {
            let message = format!("`num_gpus` must be at most {GPUS_MAX}, not {}", self.gpus);
            return Err(invalid(message));
        }
        let visible = std::env::var(kinds::VISIBLE_DEVICES).ok();
        let gpus = (total.amount(GPU) as usize).div_ceil(UNIT as usize);
        let devices = Devices::new(gpus, visible.as_deref());
        let devices = devices.map_err(|error| invalid(error.to_string()))?;
        let cpus = (total.amount(CPU) / UNIT) as usize;
        let width = self.worker_threads.unwrap_or(cpus.clamp(1, THREADS_MAX));
        if width == 0 || width > THREADS_MAX {
            let message = format!("`worker_threads` must be from 1 to {THREADS_MAX}, not {width}");
            return Err(invalid(message));
        }
        let _change = CHANGE.lock().expect("no thread panics with this lock");
        if CURRENT.load().is_some() {
            return Err(Error::new(Kind::AlreadyInitialized));
        }
        let processes = match self.processes {
            None => start::processes_of_environment()?,
            Some(0) => return Err(invalid("`processes` must be at least 1".into())),
            some => some,
        };
        let memory_limit = match self.memory_limit {
            None => start::memory_limit_of_environment()?,
            some => some,
        };
        let place = match processes {
            None => Place::Here,
            Some(_) => {
                let patience = self.store_time.unwrap_or(PATIENCE).min(PATIENCE_MAX);
                let store =
                    start::store(self.object_store_memory, self.spill_dir.clone(), patience);
                let node = store.and_then(|store| Node::start(store, patience));
                Place::Workers(node.map_err(|error| start::failed(&error))?)
            }
        };
        timeline::start(keeps_timeline);
        let session = Session::new(&total, self.object_store_memory, width, place);
        if let Some(bytes) = self.lineage_memory {
            session.lock().lineage = Lineage::new(bytes as u64);
        }
        CURRENT.store(Some(session.clone()));
        if let Some(count) = processes {
            let settings = Settings {
                workers: count,
                threads: width,
                start_time: self.worker_start_time.unwrap_or(START_TIME),
                end_time: SHUTDOWN_TIME,
                grace: self.deadline_grace.unwrap_or(GRACE),
                memory_limit,
                shows_logs: self.log_to_driver.unwrap_or_else(start::logs_to_driver),
                devices,
            };
            if let Err(error) = session.keep_workers(settings) {
                CURRENT.store(None);
                return Err(error);
            }
        } else if self.watchable.unwrap_or_else(|| is_set("RAYBOLT_WATCH")) {
            let post = Post::open().inspect_err(|_| CURRENT.store(None))?;
            *session.post() = Some(post);
        }
        Ok(SessionGuard(session))
    }
}

/// Whether a variable asks for something.
fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|text| !text.is_empty() && text != "0")
}
