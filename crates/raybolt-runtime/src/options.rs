//! How tasks, calls of actors and actors are to be run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raybolt_core::calls::scheduler::{CPU, Demand, GPU, MEMORY};

use crate::error::{Error, Kind, Result, TaskError};
use crate::group::{Membership, PlacementGroup};

/// Whether a failure is worth another attempt.
pub type RetryOn = Arc<dyn Fn(&TaskError) -> bool + Send + Sync>;

/// How a task is to be run; all but the defaults is rare, so it lies in a box.
#[derive(Clone, Default)]
pub struct TaskOptions(Option<Box<Set>>);

/// Where a task should run. On one node every strategy leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// Fill a node to half, then spread; go where the largest arguments lie.
    #[default]
    Default,
    /// Spread over the nodes.
    Spread,
}

#[derive(Clone, Default)]
pub(crate) struct Set {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) demand: Option<Demand>,
    pub(crate) max_retries: Option<u32>,
    pub(crate) retry_on: Option<RetryOn>,
    pub(crate) deadline: Option<Duration>,
    /// The deadline as a time, and how long it was given; set when the task is submitted.
    pub(crate) until: Option<(Instant, Duration)>,
    pub(crate) strategy: Strategy,
    pub(crate) group: Option<Membership>,
    pub(crate) stream_buffer: Option<usize>,
    pub(crate) error: Option<Error>,
}

/// How often a lost task is run again if its options do not say.
pub const MAX_RETRIES: u32 = 3;

impl TaskOptions {
    /// CPUs that the task holds while it runs; 1 by default, 0 for async tasks, parts allowed.
    pub fn num_cpus(self, count: f64) -> Self {
        self.resource(CPU, count)
    }

    /// GPUs that the task holds; none by default. Parts of one are shared.
    pub fn num_gpus(self, count: f64) -> Self {
        self.resource(GPU, count)
    }

    /// Any other resource that the node was given by name.
    pub fn resource(self, name: &str, amount: f64) -> Self {
        self.set(|set| {
            let demand = set.demand.get_or_insert_with(one_cpu);
            if let Err(error) = demand.set(name, amount) {
                set.error = Some(Error::new(Kind::Invalid(error.to_string())));
            }
        })
    }

    /// Bytes of memory that the task holds; none by default. They are counted, not enforced.
    pub fn memory(self, bytes: usize) -> Self {
        self.resource(MEMORY, bytes as f64)
    }

    /// Runs it on what a placement group has set aside: in one bundle, which count from 0, or in any.
    pub fn placement_group(self, group: &PlacementGroup, bundle: Option<usize>) -> Self {
        let member = Membership::new(group, bundle);
        self.set(|set| set.group = Some(member))
    }

    /// How often the task may be run again; 3 by default.
    pub fn max_retries(self, count: u32) -> Self {
        self.set(|set| set.max_retries = Some(count))
    }

    /// Which failures of user code are worth another attempt; none by default.
    pub fn retry_on(self, when: impl Fn(&TaskError) -> bool + Send + Sync + 'static) -> Self {
        self.set(|set| set.retry_on = Some(Arc::new(when)))
    }

    /// A name for messages, instead of the function's.
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set(|set| set.name = Some(name))
    }

    /// How long the task may take from now on, waiting included. Tasks that it calls have no more.
    pub fn deadline(self, after: Duration) -> Self {
        self.set(|set| set.deadline = Some(after))
    }

    /// Where it should run.
    pub fn strategy(self, strategy: Strategy) -> Self {
        self.set(|set| set.strategy = strategy)
    }

    /// How many items of a generator may wait to be taken; 1,000 by default.
    pub fn stream_buffer(self, items: usize) -> Self {
        self.set(|set| match items {
            0 => set.error = Some(Error::new(Kind::Invalid(STREAM_BUFFER_ZERO.into()))),
            items => set.stream_buffer = Some(items),
        })
    }

    pub(crate) fn settings(&self) -> Option<&Set> {
        self.0.as_deref()
    }

    /// Fixes the deadline: the task's own or that of the task which submits it, whichever is first.
    pub(crate) fn fix_deadline(&mut self, now: Instant, inherited: Option<Instant>) {
        let own = self
            .settings()
            .and_then(|set| set.deadline)
            .and_then(|after| Some((now.checked_add(after)?, after)));
        let inherited = inherited.map(|until| (until, until.saturating_duration_since(now)));
        if let Some(until) = own.into_iter().chain(inherited).min() {
            self.0.get_or_insert_default().until = Some(until);
        }
    }

    pub(crate) fn group(&self) -> Option<&Membership> {
        self.settings().and_then(|set| set.group.as_ref())
    }

    pub(crate) fn until(&self) -> Option<(Instant, Duration)> {
        self.settings().and_then(|set| set.until)
    }

    fn set(mut self, change: impl FnOnce(&mut Set)) -> Self {
        change(self.0.get_or_insert_default());
        self
    }
}

const STREAM_BUFFER_ZERO: &str = "`stream_buffer` must be at least 1";

/// How one call of an actor is to be made.
///
/// ```
/// use raybolt_runtime::options::CallOptions;
/// use std::time::Duration;
///
/// let options = CallOptions::new().name("refill").deadline(Duration::from_secs(2));
/// # drop(options);
/// ```
#[derive(Clone, Default)]
pub struct CallOptions(TaskOptions);

impl CallOptions {
    /// A call like any other.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name for messages, instead of the method's.
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        CallOptions(self.0.name(name))
    }

    /// How long the call may take from now on, waiting included. Tasks that it calls have no more.
    pub fn deadline(self, after: Duration) -> Self {
        CallOptions(self.0.deadline(after))
    }

    /// How many items of a generator may wait to be taken; 1,000 by default.
    pub fn stream_buffer(self, items: usize) -> Self {
        CallOptions(self.0.stream_buffer(items))
    }

    pub(crate) fn into_inner(self) -> TaskOptions {
        self.0
    }
}

/// How an actor is to be made.
#[derive(Clone, Default)]
pub struct ActorOptions {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) get_if_exists: bool,
    pub(crate) detached: bool,
    pub(crate) demand: Demand,
    pub(crate) group: Option<Membership>,
    pub(crate) max_concurrency: Option<usize>,
    pub(crate) max_pending_calls: Option<usize>,
    pub(crate) max_restarts: u32,
    pub(crate) max_task_retries: u32,
    error: Option<Error>,
}

impl ActorOptions {
    /// CPUs that the actor holds as long as it lives; none by default.
    pub fn num_cpus(self, count: f64) -> Self {
        self.resource(CPU, count)
    }

    /// GPUs that the actor holds as long as it lives; none by default.
    pub fn num_gpus(self, count: f64) -> Self {
        self.resource(GPU, count)
    }

    /// Any other resource that the actor holds as long as it lives.
    pub fn resource(mut self, name: &str, amount: f64) -> Self {
        if let Err(error) = self.demand.set(name, amount) {
            self.error = Some(Error::new(Kind::Invalid(error.to_string())));
        }
        self
    }

    /// Bytes of memory that the actor holds as long as it lives; none by default. They are counted, not
    /// enforced.
    pub fn memory(self, bytes: usize) -> Self {
        self.resource(MEMORY, bytes as f64)
    }

    /// Lives on what a placement group has set aside: in one bundle, which count from 0, or in any.
    pub fn placement_group(mut self, group: &PlacementGroup, bundle: Option<usize>) -> Self {
        self.group = Some(Membership::new(group, bundle));
        self
    }

    /// A name under which others find the actor.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Takes the actor of this name, if there is one, instead of making it.
    pub fn get_if_exists(mut self) -> Self {
        self.get_if_exists = true;
        self
    }

    /// The actor lives on without handles, until it is killed or the session ends. It needs a name.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// How many `&self` calls may run at once: by default 1, or 1,000 with async methods.
    pub fn max_concurrency(mut self, calls: usize) -> Self {
        self.max_concurrency = Some(calls);
        self
    }

    /// How many calls may wait; a call beyond that fails at once. No bound by default.
    pub fn max_pending_calls(mut self, calls: usize) -> Self {
        self.max_pending_calls = Some(calls);
        self
    }

    /// How often the actor begins anew when its worker process dies: with a new state, from its
    /// constructor. Never by default; [`FOREVER`](crate::handle::FOREVER) for as often as it takes.
    pub fn max_restarts(mut self, restarts: u32) -> Self {
        self.max_restarts = restarts;
        self
    }

    /// How often a call that was lost with the actor's worker process is made again, once the actor has
    /// begun anew. Never by default: it may have run, in part or whole. [`FOREVER`](crate::handle::FOREVER)
    /// for as often as it takes.
    pub fn max_task_retries(mut self, retries: u32) -> Self {
        self.max_task_retries = retries;
        self
    }

    /// Whether they make sense together.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(Kind::Invalid(message.into())));
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        match self {
            Self { name: None, get_if_exists: true, .. } => {
                invalid("`get_if_exists` needs the `name` of the actor")
            }
            Self { name: None, detached: true, .. } => {
                invalid("a `detached` actor needs a `name`, or nobody could find it")
            }
            Self { max_concurrency: Some(0), .. } => {
                invalid("`max_concurrency` must be at least 1")
            }
            _ => Ok(()),
        }
    }
}

/// What a task demands if its options do not say.
pub(crate) fn one_cpu() -> Demand {
    let mut demand = Demand::default();
    demand.set(CPU, 1.0).expect("one CPU is a quantity");
    demand
}
