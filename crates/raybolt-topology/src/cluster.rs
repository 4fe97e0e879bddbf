//! Topologies in this process: submit, look at, change, end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use raybolt_core::flow::graph::{GraphError, check_name};
use raybolt_core::ids::RequestId;
use raybolt_core::suggest::Hint;
use raybolt_runtime::pool::{Options, Pool};
use raybolt_runtime::timer::Timer;

use crate::builder::{BuildError, Topology, TopologyBuilder};
use crate::config::{Config, MESSAGE_TIMEOUT_MIN};
use crate::shared::Shared;
use crate::stats::{Status, TopologyStats};
use crate::task::is_in_slice_of;
use crate::worker::TopologyWorker;

/// How long a rebalance, and the end of a cluster, wait for what is in flight.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How long a kill waits for user code that is in the middle of something.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How many bolts may wait at once, for a task or a function that they call, without taking a thread
/// from others.
const BLOCKED_MAX: usize = 256;

/// Runs topologies in this process. Dropping it ends them.
pub struct LocalCluster {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    timer: Timer,
    topologies: Mutex<BTreeMap<String, TopologyHandle>>,
}

/// A topology that was submitted; clones name the same one.
#[derive(Clone)]
pub struct TopologyHandle {
    name: Arc<str>,
    worker: Arc<Mutex<TopologyWorker>>,
    shared: Arc<Shared>,
    cluster: std::sync::Weak<Inner>,
}

/// Why a topology was not submitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The description is wrong.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// With this setting nothing would ever move, or all would fail at once.
    #[error("`{setting}` is too small for anything to move; give it at least {least}")]
    Setting {
        /// The setting of the configuration.
        setting: &'static str,
        /// Its least value.
        least: &'static str,
    },
    /// There is a topology of that name.
    #[error("topology `{name}` is running already; choose another name, or kill it first")]
    NameTaken {
        /// The name.
        name: String,
    },
}

/// Why a running topology was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is no such component.
    #[error("topology `{topology}` has no component `{component}`{hint}")]
    UnknownComponent {
        /// The topology.
        topology: String,
        /// The component.
        component: String,
        /// The nearest and the known ones.
        hint: Hint,
    },
    /// The new number of instances is not possible.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The new instances cannot be made.
    #[error(transparent)]
    Build(BuildError),
    /// What is in flight did not end in time.
    #[error("topology `{topology}` has not drained within {seconds} s, so nothing was changed")]
    NotDrained {
        /// The topology.
        topology: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The topology was killed, or is being rebalanced by someone else.
    #[error("topology `{topology}` is {status}; nothing was changed")]
    Busy {
        /// The topology.
        topology: String,
        /// What it is.
        status: &'static str,
    },
}

impl From<BuildError> for ChangeError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Graph(error) => ChangeError::Graph(error),
            other => ChangeError::Build(other),
        }
    }
}

impl Default for LocalCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalCluster {
    /// A cluster with a thread per core. Threads start when there is work.
    pub fn new() -> Self {
        Self::with_threads(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// A cluster with so many threads, beside those of instances that block.
    pub fn with_threads(threads: usize) -> Self {
        let width = threads.max(1);
        let threads_max = width + BLOCKED_MAX;
        let options = Options { name: "raybolt-flow", width, threads_max, overseer: false };
        let inner =
            Inner { pool: Pool::new(options), timer: Timer::new(), topologies: Mutex::default() };
        LocalCluster { inner: Arc::new(inner) }
    }

    /// Runs a topology under this name.
    ///
    /// # Errors
    /// When the description or a setting is wrong, or the name is taken.
    pub fn submit(
        &self,
        name: &str,
        config: Config,
        topology: impl IntoTopology,
    ) -> Result<TopologyHandle, SubmitError> {
        check_name("topology", name).map_err(BuildError::from)?;
        check_config(&config)?;
        let topology = topology.into_topology()?;
        topology.check_processes(raybolt_runtime::session::worker_processes())?;
        let mut topologies = self.inner.topologies();
        if topologies.contains_key(name) {
            return Err(SubmitError::NameTaken { name: name.to_owned() });
        }
        let (pool, timer) = (self.inner.pool.clone(), self.inner.timer.clone());
        let worker = TopologyWorker::start(name, topology, config, pool, timer)?;
        let handle = TopologyHandle {
            name: name.into(),
            shared: worker.shared().clone(),
            worker: Arc::new(Mutex::new(worker)),
            cluster: Arc::downgrade(&self.inner),
        };
        topologies.insert(name.to_owned(), handle.clone());
        Ok(handle)
    }

    /// The topologies, by name.
    pub fn list(&self) -> Vec<TopologyHandle> {
        self.inner.topologies().values().cloned().collect()
    }

    /// The topology of that name.
    pub fn topology(&self, name: &str) -> Option<TopologyHandle> {
        self.inner.topologies().get(name).cloned()
    }

    /// Ends all topologies at once; what is in flight is lost. Dropping the cluster does the same.
    pub fn shutdown(self) {}
}

/// Refuses what would stop everything. (The graph's own options are checked by its plan.)
fn check_config(config: &Config) -> Result<(), SubmitError> {
    if config.queue_tuples_max == 0 {
        return Err(SubmitError::Setting { setting: "queue_tuples_max", least: "1" });
    }
    if config.message_timeout < MESSAGE_TIMEOUT_MIN {
        return Err(SubmitError::Setting { setting: "message_timeout", least: "1 ms" });
    }
    Ok(())
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        for handle in self.list() {
            handle.kill(Duration::ZERO);
        }
        self.inner.pool.shutdown(Instant::now() + DRAIN_MAX);
    }
}

impl Inner {
    fn topologies(&self) -> MutexGuard<'_, BTreeMap<String, TopologyHandle>> {
        self.topologies.lock().expect("no thread panics while it holds the topologies")
    }
}

impl TopologyHandle {
    /// The topology's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counters, errors, and what is pending.
    pub fn stats(&self) -> TopologyStats {
        self.worker().stats()
    }

    /// Lets the spouts emit again; during a rebalance, when that is over.
    pub fn activate(&self) {
        self.worker().activate();
    }

    /// Stops the spouts; what is in flight goes on. During a rebalance they stay stopped when that is over.
    pub fn deactivate(&self) {
        self.worker().deactivate();
    }

    /// Gives a component another number of instances. The spouts pause, what is in flight is worked
    /// off, then the component's instances are replaced by fresh ones (after their `cleanup`). No
    /// tuple is lost.
    ///
    /// # Errors
    /// When there is no such component, the number is not possible, what is in flight takes too long, or it is
    /// one of the topology's own spouts or bolts that asks.
    pub fn rebalance(&self, component: &str, instances: usize) -> Result<(), ChangeError> {
        self.begin_rebalance(component)?;
        let draining = self.worker().draining();
        // A spout takes with it what it knows of its trees.
        let trees_too = self.worker().is_spout(component);
        let drained = draining.wait(Some(Instant::now() + DRAIN_MAX), trees_too);
        let mut worker = self.worker();
        if worker.status() != Status::Rebalancing {
            return Err(self.busy("killed")); // Meanwhile.
        }
        let result = if drained {
            let instances = u32::try_from(instances).unwrap_or(u32::MAX);
            worker.rebalance(component, instances).map_err(ChangeError::from)
        } else {
            Err(self.not_drained())
        };
        worker.resume();
        result
    }

    fn begin_rebalance(&self, component: &str) -> Result<(), ChangeError> {
        if is_in_slice_of(&self.shared) {
            return Err(self.busy("running the code that asks"));
        }
        let mut worker = self.worker();
        let status = match worker.status() {
            Status::Active | Status::Inactive => "",
            Status::Rebalancing => "being rebalanced",
            Status::Killed => "killed",
        };
        if !status.is_empty() {
            return Err(self.busy(status));
        }
        if worker.plan().find(component).is_none() {
            let known = worker.plan().components().iter().map(|component| component.id.as_str());
            return Err(ChangeError::UnknownComponent {
                topology: self.name.to_string(),
                component: component.to_owned(),
                hint: Hint::new(component, known),
            });
        }
        worker.pause();
        Ok(())
    }

    fn busy(&self, status: &'static str) -> ChangeError {
        ChangeError::Busy { topology: self.name.to_string(), status }
    }

    fn not_drained(&self) -> ChangeError {
        ChangeError::NotDrained { topology: self.name.to_string(), seconds: DRAIN_MAX.as_secs() }
    }

    /// Stops the spouts, waits until everything in flight is done, but at most for `wait`, and ends
    /// the topology. Says whether everything was done. Its name is free then.
    ///
    /// User code that is in the middle of something is not waited for longer than five seconds more; its
    /// instance ends when it returns. A topology may end itself: called by one of its own spouts or bolts, this
    /// waits for nothing.
    pub fn kill(&self, wait: Duration) -> bool {
        let draining = {
            let mut worker = self.worker();
            worker.kill();
            worker.draining()
        };
        let from_within = is_in_slice_of(&self.shared);
        let drained = !from_within && draining.wait(Instant::now().checked_add(wait), true);
        self.worker().stop();
        if !from_within && !draining.wait_for_end(Instant::now() + STOP_MAX) {
            tracing::warn!(topology = &*self.name, "killed, but user code is still running");
        }
        if let Some(cluster) = self.cluster.upgrade() {
            let mut topologies = cluster.topologies();
            let ours = topologies.get(&*self.name);
            if ours.is_some_and(|it| Arc::ptr_eq(&it.worker, &self.worker)) {
                topologies.remove(&*self.name);
            }
        }
        drained
    }

    /// Fails a request with this reason; says whether it was open.
    pub fn cancel_request(&self, request: RequestId, reason: &str) -> bool {
        self.shared.coordinate(|batches| batches.cancelled(request, reason)).unwrap_or(false)
    }

    fn worker(&self) -> MutexGuard<'_, TopologyWorker> {
        self.worker.lock().expect("no thread panics while it holds a worker")
    }
}

/// What can be submitted: a topology, or a builder that makes one.
pub trait IntoTopology {
    /// The checked topology.
    ///
    /// # Errors
    /// When the description is wrong.
    fn into_topology(self) -> Result<Topology, BuildError>;
}

impl IntoTopology for Topology {
    fn into_topology(self) -> Result<Topology, BuildError> {
        Ok(self)
    }
}

impl IntoTopology for TopologyBuilder {
    fn into_topology(self) -> Result<Topology, BuildError> {
        self.build()
    }
}
