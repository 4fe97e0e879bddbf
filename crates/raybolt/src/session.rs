//! Beginning a session, and what it tells about itself.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use raybolt_runtime::error::{Error, Kind, Result};
use raybolt_runtime::session::{self, SessionGuard};
use raybolt_runtime::session_dir;
use tracing_subscriber::filter::LevelFilter;

/// Begins a session with the machine's CPUs and nothing else, in this process.
///
/// It lasts as long as what is returned. A process has one at a time.
///
/// ```
/// use raybolt::remote;
///
/// #[remote]
/// fn hello() -> String {
///     "Hello world !".into()
/// }
///
/// # fn main() -> raybolt::Result<()> {
/// let _session = raybolt::init()?;
/// assert_eq!(raybolt::get(hello::remote())?, "Hello world !");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When there is a session already, or `RAYBOLT_LOG` names no level.
pub fn init() -> Result<Session> {
    Builder::new().start()
}

/// How a session is built, when [`init`] is not enough.
///
/// ```
/// # fn main() -> raybolt::Result<()> {
/// let _session = raybolt::Builder::new()
///     .num_cpus(2.0)
///     .num_gpus(1)
///     .resource("disk", 4.0)
///     .object_store_memory(64 << 20)
///     .start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Builder {
    inner: session::Builder,
    store_bytes: Option<usize>,
    log_level: Option<LogLevel>,
}

/// A running session; it ends when this is dropped.
///
/// Then tasks that have not started fail, actors end, and user code that runs is waited for, at most
/// five seconds. Displays as what was started.
#[derive(Debug)]
#[must_use = "the session ends when this is dropped"]
pub struct Session {
    guard: SessionGuard,
    store_bytes: Option<usize>,
}

/// How much goes to the log on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed and nobody waits for.
    Error,
    /// Also what is unusual.
    Warn,
    /// Also what happens now and then.
    Info,
    /// Also what developers of raybolt look for.
    Debug,
    /// Everything.
    Trace,
}

impl Builder {
    /// A session with the machine's CPUs and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// CPUs that tasks may hold together; as many as the process may use by default.
    pub fn num_cpus(mut self, count: f64) -> Self {
        self.inner = self.inner.num_cpus(count);
        self
    }

    /// GPUs that tasks may hold together; none by default.
    pub fn num_gpus(mut self, count: usize) -> Self {
        self.inner = self.inner.num_gpus(count);
        self
    }

    /// Bytes of memory that tasks may hold together; as many as the machine, or the control group that the
    /// process runs in, has. They are counted, not enforced.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.inner = self.inner.memory(bytes);
        self
    }

    /// Any other resource that tasks may ask for by name.
    pub fn resource(mut self, name: &str, amount: f64) -> Self {
        self.inner = self.inner.resource(name, amount);
        self
    }

    /// Threads that run user code at once, those that wait in `get` aside, in this process or in each of
    /// its worker processes; one per CPU by default.
    pub fn worker_threads(mut self, count: usize) -> Self {
        self.inner = self.inner.worker_threads(count);
        self
    }

    /// Bytes that objects may fill. In one process objects are values in its memory: there is no bound
    /// by default, and [`put`](crate::put) fails beyond one. Over processes it is the size of their shared
    /// store, by default a third of the memory that the machine or its control group has, at most
    /// 128 GiB; what does not fit goes to [`spill_dir`](Self::spill_dir).
    pub fn object_store_memory(mut self, bytes: usize) -> Self {
        self.inner = self.inner.object_store_memory(bytes);
        self.store_bytes = Some(bytes);
        self
    }

    /// Runs tasks and actors in so many worker processes; in this process by default, or as the
    /// variable `RAYBOLT_WORKERS` says (`processes`, or `processes:4`).
    ///
    /// A worker is this program started again, with the same arguments: it comes as far as
    /// [`start`](Builder::start), [`init`] or `#[raybolt::main]`, and runs tasks from there on.
    pub fn processes(mut self, count: usize) -> Self {
        self.inner = self.inner.processes(count);
        self
    }

    /// How long a worker process may take from its start to `start`, before the tasks that wait for it
    /// fail; 10 seconds by default.
    pub fn worker_start_timeout(mut self, time: Duration) -> Self {
        self.inner = self.inner.worker_start_timeout(time);
        self
    }

    /// Whether this process shows what its worker processes print, with their names before it. It does
    /// by default, unless the variable `RAYBOLT_LOG_TO_DRIVER` is `0`.
    pub fn log_to_driver(mut self, shows: bool) -> Self {
        self.inner = self.inner.log_to_driver(shows);
        self
    }

    /// How long a task may run on after its deadline before its worker process is killed; 5 seconds by
    /// default. Whatever else runs in that process runs again.
    pub fn deadline_grace(mut self, time: Duration) -> Self {
        self.inner = self.inner.deadline_grace(time);
        self
    }

    /// How many bytes this process and its worker processes may use together, what they share aside.
    /// Beyond that a worker is stopped, with the task that can best be repeated. As the variable
    /// `RAYBOLT_MEMORY_LIMIT` says by default (`512MiB`), or as much as the machine or its control group
    /// has.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.inner = self.inner.memory_limit(bytes);
        self
    }

    /// Whether others of this user may watch the session with the command `raybolt`, from another
    /// terminal; by default as the variable `RAYBOLT_WATCH` says (`1`), else not, and nothing listens. A
    /// session over processes can always be watched.
    pub fn watchable(mut self, is_watchable: bool) -> Self {
        self.inner = self.inner.watchable(is_watchable);
        self
    }

    /// Whether the session keeps a timeline of what ran when, for `raybolt timeline`; by default as the
    /// variable `RAYBOLT_TIMELINE` says (`1`), else not: each task would read the clock twice.
    pub fn timeline(mut self, is_kept: bool) -> Self {
        self.inner = self.inner.timeline(is_kept);
        self
    }

    /// Where objects go that do not fit into the store of worker processes: the temporary directory by
    /// default, or what the variable `RAYBOLT_SPILL_DIR` says.
    pub fn spill_dir(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.inner = self.inner.spill_dir(path);
        self
    }

    /// How many bytes are kept of tasks that have ended, to make their values again if the store of worker
    /// processes loses them; 64 MiB by default. Beyond that the oldest are forgotten.
    pub fn lineage_memory(mut self, bytes: usize) -> Self {
        self.inner = self.inner.lineage_memory(bytes);
        self
    }

    /// How long a value may wait for room in the store of worker processes, before that is an error; a minute by
    /// default. It waits only for what cannot be spilled: values that somebody reads in place.
    pub fn store_timeout(mut self, time: Duration) -> Self {
        self.inner = self.inner.store_timeout(time);
        self
    }

    /// What goes to the log: warnings and errors by default, or what the variable `RAYBOLT_LOG` says. A
    /// subscriber that the program has installed itself stays.
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.log_level = Some(level);
        self
    }

    /// Begins the session.
    ///
    /// # Errors
    /// When there is one already, or a setting makes no sense.
    pub fn start(self) -> Result<Session> {
        let level = match self.log_level {
            Some(level) => level,
            None => level_of_environment()?,
        };
        let guard = self.inner.start()?;
        // Someone may have installed a subscriber already; then it hears us too.
        let _ = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::from(level))
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .try_init();
        if guard.directory().is_some() {
            session_dir::warn_if_elsewhere();
        }
        Ok(Session { guard, store_bytes: self.store_bytes })
    }
}

fn level_of_environment() -> Result<LogLevel> {
    match std::env::var("RAYBOLT_LOG") {
        Ok(text) => text.parse(),
        Err(_) => Ok(LogLevel::Warn),
    }
}

impl Session {
    /// Runs a future on this thread, which may await references.
    ///
    /// ```
    /// # #[raybolt::remote]
    /// # fn square(x: u64) -> u64 { x * x }
    /// # fn main() -> raybolt::Result<()> {
    /// let session = raybolt::init()?;
    /// let nine = session.block_on(async { square::remote(3).await })?;
    /// assert_eq!(nine, 9);
    /// # Ok(())
    /// # }
    /// ```
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.guard.block_on(future)
    }
}

/// What was started, in a line.
impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raybolt {} ", env!("CARGO_PKG_VERSION"))?;
        match self.guard.worker_processes() {
            0 => write!(f, "in one process: ")?,
            1 => write!(f, "over a worker process: ")?,
            count => write!(f, "over {count} worker processes: ")?,
        }
        let resources = session::resources().unwrap_or_default();
        for resource in &resources {
            write!(f, "{resource}, ")?;
        }
        if resources.iter().all(|resource| resource.name != "GPU") {
            write!(f, "GPU: 0, ")?;
        }
        match self.guard.store_bytes().or(self.store_bytes.map(|bytes| bytes as u64)) {
            Some(bytes) if bytes >= 10 << 20 => write!(f, "store: {} MiB, ", bytes >> 20)?,
            Some(bytes) => write!(f, "store: {bytes} bytes, ")?,
            None => write!(f, "store: as large as memory, ")?,
        }
        match self.guard.directory() {
            Some(directory) => write!(f, "address: {}", directory.display()),
            None => write!(f, "no address: nothing listens"),
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

impl FromStr for LogLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(LogLevel::Off),
            "error" => Ok(LogLevel::Error),
            "warn" => Ok(LogLevel::Warn),
            "info" => Ok(LogLevel::Info),
            "debug" => Ok(LogLevel::Debug),
            "trace" => Ok(LogLevel::Trace),
            other => Err(Error::new(Kind::Invalid(format!(
                "a log level (`RAYBOLT_LOG`) is off, error, warn, info, debug or trace, not `{other}`"
            )))),
        }
    }
}
