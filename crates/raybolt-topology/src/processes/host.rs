//! The worker's side: an instance whose output is captured.

use std::sync::{Arc, Mutex, PoisonError};

use raybolt_runtime::args::Held;
use raybolt_runtime::job::Failure;
use raybolt_runtime::output::One;
use raybolt_runtime::timer::Timer;

use crate::batch::{Anchor, Batch, Origin};
use crate::inbox::{Inbox, Sink};
use crate::instance::BoltInstance;
use crate::processes::Captured;
use crate::processes::bell::{Bell, Rings};
use crate::processes::bench::{Bench, Told};
use crate::processes::kind::Kind;
use crate::processes::wire::{Answer, Ask, Place, Tuples};
use crate::shared::Shared;
use crate::stats::Published;
use crate::task::{Body, Command, Slice, Task};
use crate::tuple::decode_batch;

/// The actor. All its calls are shared ones, since one of them may wait long; of the others one runs at a time.
pub(super) struct Host<K: Kind> {
    inner: Mutex<Inner<K>>,
    bell: Bell,
}

struct Inner<K: Kind> {
    instance: BoltInstance<K::Operator>,
    inbox: Arc<Inbox<K::In>>,
    task: Arc<Task>,
    shared: Arc<Shared>,
    captured: Arc<Captured>,
    incarnation: u64,
    told: Told,
    /// How many failures have been told.
    failures: u64,
}

/// The constructor.
pub(super) fn new<K: Kind>(
    (bolt, place): (Held<K::Bolt>, Held<Place>),
) -> Result<Host<K>, Failure> {
    let (inner, bell) = Inner::new(bolt.into_owned(), place.into_owned());
    Ok(Host { inner: Mutex::new(inner), bell })
}

/// Does something.
pub(super) fn ask<K: Kind>(host: &Host<K>, (ask,): (Held<Ask>,)) -> Result<One<Answer>, Failure> {
    // User code that panics is caught below.
    let mut inner = host.inner.lock().unwrap_or_else(PoisonError::into_inner);
    match ask.into_owned() {
        Ask::Cleanup => {
            inner.instance.stop();
            host.bell.ring(); // Or the actor could not end.
            Ok(One(inner.answer()))
        }
        ask => inner.ask(ask).map(One),
    }
}

impl<K: Kind> Rings for Host<K> {
    fn bell(&self) -> &Bell {
        &self.bell
    }
}

impl<K: Kind> Inner<K> {
    fn new(bolt: K::Bolt, place: Place) -> (Self, Bell) {
        let streams = K::streams(&bolt);
        let Bench { task, bell, context, collector, captured, incarnation } =
            Bench::new(place, streams, Timer::new());
        let shared = collector.ledger.shared.clone();
        let inbox = Inbox::new(task.clone(), usize::MAX);
        let published = Arc::<Published>::default();
        let bolt = K::operator(bolt);
        let mut instance = BoltInstance::new(bolt, context, inbox.clone(), collector, published);
        let _ = task.slice_here(|| instance.slice(&task)); // Which prepares the bolt.
        let told = Told::default();
        let inner =
            Inner { instance, inbox, task, shared, captured, incarnation, told, failures: 0 };
        (inner, bell)
    }

    fn ask(&mut self, ask: Ask) -> Result<Answer, Failure> {
        let command = match ask {
            Ask::Work(tuples) => {
                self.queue(&tuples)?;
                None
            }
            Ask::Look | Ask::Cleanup => None,
            Ask::Tick => Some(Command::Tick),
            Ask::Finish(request) => Some(Command::Finish(request)),
            Ask::Abandon(request) => Some(Command::Abandon(request)),
        };
        let (instance, task) = (&mut self.instance, &self.task);
        task.slice_here(|| {
            task.leave(command);
            while instance.slice(task) == Slice::More || task.has_mail() {}
        });
        Ok(self.answer())
    }

    fn queue(&mut self, tuples: &Tuples) -> Result<(), Failure> {
        let Tuples { origin, first, tuples } = tuples;
        let tuples = decode_batch::<K::In>(&tuples.0).map_err(Failure::new)?;
        let names = first.map(|first| first..first + tuples.len() as u64);
        // The edge within a name's tree is of no matter here: who reads the answer has the real ones.
        let anchor = |root| Anchor { root, edge: 1 };
        let anchors = names.into_iter().flatten().map(anchor).collect();
        let origin = Origin { edge: origin.0, instance: origin.1 };
        self.inbox.put(Batch::new(tuples, anchors, Vec::new(), origin));
        Ok(())
    }

    /// What was done since the last answer.
    fn answer(&mut self) -> Answer {
        let (waiting, busy) = (self.instance.waiting() as u64, !self.instance.is_quiet());
        let ledger = &mut self.instance.collector().ledger;
        let relay = std::mem::take(ledger.relay.get_or_insert_default());
        let failures = std::mem::replace(&mut self.failures, ledger.counters.failed);
        let failures = ledger.counters.failed - failures;
        let (panics, errors) = self.told.fresh(&self.shared, ledger.counters.panics);
        let mut answer = Answer {
            incarnation: self.incarnation,
            waiting,
            busy,
            acked: relay.acked,
            failed: relay.failed,
            failures,
            panics,
            errors,
            state_lost: relay.state_lost,
            request_failure: relay.request_failure,
            emitted: Vec::new(),
        };
        for emitted in self.captured.take() {
            match emitted {
                Ok(emitted) => answer.emitted.push(emitted),
                Err(refused) => {
                    let failed = refused.anchors.iter();
                    answer.failed.extend(failed.map(|name| (*name, refused.message.clone())));
                    answer.errors.push(refused.message);
                }
            }
        }
        answer
    }
}
