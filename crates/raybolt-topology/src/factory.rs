//! Makes instances of a component whose type only the factory knows.

use std::any::Any;
use std::sync::{Arc, Mutex};

use raybolt_core::ids::{ComponentIndex, InstanceId};

use crate::collector::{Collector, SpoutCollector};
use crate::context::Context;
use crate::inbox::{FromValues, Inbox, Sink};
use crate::instance::{BoltInstance, Operator};
use crate::ledger::Ledger;
use crate::shared::{Place, Shared};
use crate::spout_instance::{Source, SpoutInstance};
use crate::stats::Published;
use crate::task::{Body, Task};
use crate::tuple::Tuple;
use crate::values::Values;
use crate::wiring::{Sinks, Streams};

/// What an instance is made from.
pub(crate) struct Seat {
    pub(crate) task: Arc<Task>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    /// Who it is for the acknowledgement machine, if it is a spout.
    pub(crate) spout: InstanceId,
    pub(crate) context: Context,
    pub(crate) streams: Arc<Streams>,
    pub(crate) downstream: Vec<ComponentIndex>,
    pub(crate) queue_tuples_max: usize,
    pub(crate) pending_max: Option<usize>,
    pub(crate) active: bool,
    pub(crate) seed: u64,
}

/// An instance that is not connected yet.
pub(crate) struct Made {
    pub(crate) body: Box<dyn Body>,
    /// The ways into its inbox, if it is a bolt.
    pub(crate) sinks: Option<Sinks>,
    pub(crate) published: Arc<Published>,
    /// How many tuples wait in its inbox.
    pub(crate) queued: Box<dyn Fn() -> usize + Send + Sync>,
}

/// Makes the instances of one component.
pub(crate) trait Factory: Any + Send + Sync {
    fn make(&self, seat: Seat) -> Made;
}

pub(crate) struct BoltFactory<O>(Mutex<O>);

impl<O: Operator> BoltFactory<O> {
    pub(crate) fn new(prototype: O) -> Arc<Self> {
        Arc::new(BoltFactory(Mutex::new(prototype)))
    }

    /// A copy of the prototype.
    pub(crate) fn prototype(&self) -> O {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fresh()
    }
}

impl<O: Operator> Factory for BoltFactory<O> {
    fn make(&self, seat: Seat) -> Made {
        let mut prototype = self.prototype();
        prototype.seated(&seat);
        let inbox = Inbox::<O::In>::new(seat.task.clone(), seat.queue_tuples_max);
        let published = Arc::<Published>::default();
        let sinks = sinks(&inbox, &seat.shared, seat.place);
        let context = seat.context.clone();
        let collector = Collector::new(seat.streams.clone(), ledger(seat));
        let body =
            BoltInstance::new(prototype, context, inbox.clone(), collector, published.clone());
        let queued = Box::new(move || inbox.len());
        Made { body: Box::new(body), sinks: Some(sinks), published, queued }
    }
}

pub(crate) struct SpoutFactory<S>(Mutex<S>);

impl<S: Source> SpoutFactory<S> {
    pub(crate) fn new(prototype: S) -> Arc<Self> {
        Arc::new(SpoutFactory(Mutex::new(prototype)))
    }

    /// A copy of the prototype.
    pub(crate) fn prototype(&self) -> S {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fresh()
    }
}

impl<S: Source> Factory for SpoutFactory<S> {
    fn make(&self, seat: Seat) -> Made {
        let mut prototype = self.prototype();
        prototype.seated(&seat);
        let published = Arc::<Published>::default();
        let (context, pending_max, active) = (seat.context.clone(), seat.pending_max, seat.active);
        let collector = SpoutCollector::new(Collector::new(seat.streams.clone(), ledger(seat)));
        let out = published.clone();
        let body = SpoutInstance::new(prototype, context, collector, pending_max, active, out);
        Made { body: Box::new(body), sinks: None, published, queued: Box::new(|| 0) }
    }
}

fn ledger(seat: Seat) -> Ledger {
    Ledger::new(seat.place, seat.task, seat.shared, seat.spout, &seat.downstream, seat.seed)
}

fn sinks<T: Tuple>(inbox: &Arc<Inbox<T>>, shared: &Arc<Shared>, place: Place) -> Sinks {
    let typed: Arc<dyn Sink<T>> = inbox.clone();
    // For `Values` the typed way is found first, and this one is never asked for.
    let values: Arc<dyn Sink<Values>> =
        Arc::new(FromValues { inbox: inbox.clone(), shared: shared.clone(), place });
    Sinks { typed: Box::new(typed), values, shared: shared.clone(), place }
}
