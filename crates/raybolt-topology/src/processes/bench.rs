//! What instances in a worker have in common: a place to work at, without a topology around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raybolt_core::ids::{ComponentIndex, InstanceId, InstanceIndex};
use raybolt_runtime::pool::{self, Options, Pool};
use raybolt_runtime::timer::Timer;

use crate::collector::Collector;
use crate::context::{Context, Waker};
use crate::ledger::{Ledger, Relay};
use crate::processes::Captured;
use crate::processes::bell::Bell;
use crate::processes::wire::Place;
use crate::shared::{self, Shared};
use crate::task::Task;
use crate::tuple::Tuple;
use crate::wiring::{StreamSpec, Streams};

/// What an instance is made from.
pub(super) struct Bench<Out> {
    /// Its slices are run by calls: when it wants one, the bell rings. The pool never starts a thread.
    pub(super) task: Arc<Task>,
    pub(super) bell: Bell,
    pub(super) context: Context,
    /// What is emitted there is captured, and what becomes of tuples is told to a relay.
    pub(super) collector: Collector<Out>,
    pub(super) captured: Arc<Captured>,
    /// Another number for each instance that was made in any process.
    pub(super) incarnation: u64,
}

impl<Out: Tuple> Bench<Out> {
    pub(super) fn new(place: Place, streams: Vec<StreamSpec>, timer: Timer) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let Place { topology, component, instance, instances, sources } = place;
        let names = [component.as_str().into()].into();
        let shared = Shared::new(&topology, names, timer, Duration::ZERO, None);
        let options = Options { name: "raybolt-host", width: 1, threads_max: 1, overseer: false };
        let (pool, of_pool) = (Pool::new(options), pool::Place { home: 0, level: 0 });
        let task = Task::new(pool.clone(), shared.clone(), of_pool);
        let place = shared::Place {
            component: ComponentIndex(0),
            instance: InstanceIndex(u32::try_from(instance).unwrap_or(u32::MAX)),
        };
        let context = Context {
            topology: shared.name.clone(),
            component: component.as_str().into(),
            instance,
            instances,
            waker: Waker(Arc::downgrade(&task)),
        };
        let streams = Arc::new(Streams::new(&component, streams, sources.into()));
        let nobody = [ComponentIndex(0)];
        let ledger = Ledger::new(place, task.clone(), shared.clone(), InstanceId(0), &nobody, 1);
        let mut collector = Collector::new(streams, ledger);
        collector.ledger.relay = Some(Relay::default());
        let captured = Arc::<Captured>::default();
        // Who takes what is emitted is scheduled for good, so nothing is run when there is some.
        let taker = Task::new(pool, shared, of_pool);
        let _ = taker.claim();
        collector.capture(&captured, &taker);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let incarnation = u64::from(std::process::id()) << 32 | number;
        let bell = Bell::new(incarnation);
        let rings = bell.clone();
        task.hang(move || rings.ring());
        Bench { task, bell, context, collector, captured, incarnation }
    }
}

/// How many panics and errors have been told.
#[derive(Default)]
pub(super) struct Told {
    panics: u64,
    errors: u64,
}

impl Told {
    /// How many panics and which errors have not been told; oldest first.
    pub(super) fn fresh(&mut self, shared: &Shared, panics: u64) -> (u64, Vec<String>) {
        let (recent, errors) = shared.errors();
        let fresh = usize::try_from(errors - self.errors).unwrap_or(usize::MAX).min(recent.len());
        let known = recent.len() - fresh;
        let messages = recent.into_iter().skip(known).map(|record| record.message).collect();
        let before = std::mem::replace(self, Told { panics, errors });
        (panics - before.panics, messages)
    }
}
