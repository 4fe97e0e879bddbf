//! How a task is to be run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raybolt_core::calls::scheduler::{CPU, Demand, GPU, MEMORY};

use crate::error::{Error, Kind, TaskError};
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

/// What a task demands if its options do not say.
pub(crate) fn one_cpu() -> Demand {
    let mut demand = Demand::default();
    demand.set(CPU, 1.0).expect("one CPU is a quantity");
    demand
}
