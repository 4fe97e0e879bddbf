//! The worker's side of a spout: an instance that runs a slice when it is asked to.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use raybolt_core::flow::acks::FailReason;
use raybolt_core::ids::RootId;
use raybolt_runtime::args::Held;
use raybolt_runtime::job::Failure;
use raybolt_runtime::output::One;
use raybolt_runtime::timer::Timer;
use raybolt_wire::Value;

use crate::builder::spout_streams;
use crate::collector::SpoutCollector;
use crate::instance::Plain;
use crate::processes::Captured;
use crate::processes::bell::{Bell, Rings};
use crate::processes::bench::{Bench, Told};
use crate::processes::wire::{Place, Rest, SpoutAnswer, SpoutAsk, Wanted};
use crate::spout::Spout;
use crate::spout_instance::SpoutInstance;
use crate::stats::Published;
use crate::task::{Body, Command, Slice, Task};

/// Wakes spouts that wait for a time.
static TIMER: LazyLock<Timer> = LazyLock::new(Timer::new);

/// The actor. All its calls are shared ones, since one of them may wait long.
pub(super) struct SpoutHost<S: Spout> {
    inner: Mutex<Inner<S>>,
    bell: Bell,
}

struct Inner<S: Spout> {
    instance: SpoutInstance<Plain<S>>,
    task: Arc<Task>,
    captured: Arc<Captured>,
    incarnation: u64,
    active: bool,
    told: Told,
    /// How many calls of `next_tuple` have been told.
    executed: u64,
}

/// The constructor.
pub(super) fn new<S: Spout + Value>(
    (spout, place): (Held<S>, Held<Place>),
) -> Result<SpoutHost<S>, Failure> {
    let (inner, bell) = Inner::new(spout.into_owned(), place.into_owned());
    Ok(SpoutHost { inner: Mutex::new(inner), bell })
}

/// Runs a slice.
pub(super) fn ask<S: Spout>(
    host: &SpoutHost<S>,
    (ask,): (Held<SpoutAsk>,),
) -> Result<One<SpoutAnswer>, Failure> {
    // User code that panics is caught in the slice.
    let mut inner = host.lock();
    match ask.into_owned() {
        SpoutAsk::Next(wanted) => Ok(One(inner.next(wanted))),
        SpoutAsk::Close => {
            inner.instance.stop();
            host.bell.ring(); // Or the actor could not end.
            Ok(One(inner.answer(Slice::Wait)))
        }
    }
}

impl<S: Spout> Rings for SpoutHost<S> {
    fn bell(&self) -> &Bell {
        &self.bell
    }
}

impl<S: Spout> SpoutHost<S> {
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Spout> Inner<S> {
    fn new(spout: S, place: Place) -> (Self, Bell) {
        let streams = spout_streams(&spout);
        let Bench { task, bell, context, collector, captured, incarnation } =
            Bench::new(place, streams, TIMER.clone());
        let collector = SpoutCollector::new(collector);
        let published = Arc::<Published>::default();
        // How many are pending is known where they are counted.
        let instance = SpoutInstance::new(Plain(spout), context, collector, None, false, published);
        let told = Told::default();
        let inner =
            Inner { instance, task, captured, incarnation, active: false, told, executed: 0 };
        (inner, bell)
    }

    fn next(&mut self, wanted: Wanted) -> SpoutAnswer {
        let Wanted { credit, active, acked, failed } = wanted;
        let acked = acked.into_iter().map(|name| Command::Acked(RootId(name)));
        let failed = failed.into_iter().map(|(name, message)| failure(name, message));
        let turned = std::mem::replace(&mut self.active, active) != active;
        let turned = turned.then_some(if active { Command::Activate } else { Command::Deactivate });
        let (instance, task) = (&mut self.instance, &self.task);
        instance.allow(credit);
        let slice = task.slice_here(|| {
            task.leave(acked.chain(failed).chain(turned));
            instance.slice(task)
        });
        self.answer(slice)
    }

    /// What was done since the last answer.
    fn answer(&mut self, slice: Slice) -> SpoutAnswer {
        let ledger = &mut self.instance.collector().inner.ledger;
        let relay = std::mem::take(ledger.relay.get_or_insert_default());
        let executed = std::mem::replace(&mut self.executed, ledger.counters.executed);
        let executed = ledger.counters.executed - executed;
        let (panics, mut errors) = self.told.fresh(&ledger.shared, ledger.counters.panics);
        // What never left is known to nobody else: the instance is told with its next slice.
        let mut lost = relay.failed;
        let mut emitted = Vec::new();
        for captured in self.captured.take() {
            match captured {
                Ok(batch) => emitted.push(batch),
                Err(refused) => {
                    let names = refused.anchors.into_iter();
                    lost.extend(names.map(|name| (name, refused.message.clone())));
                    errors.push(refused.message);
                }
            }
        }
        let will_replay = !lost.is_empty();
        for (name, message) in lost {
            self.task.send(failure(name, message));
        }
        let rest = match slice {
            Slice::Wait if will_replay => Rest::More, // Or may want to.
            Slice::More => Rest::More,
            Slice::Wait if self.instance.is_exhausted() => Rest::Exhausted,
            Slice::Wait => Rest::Nothing,
        };
        let incarnation = self.incarnation;
        SpoutAnswer { incarnation, emitted, executed, panics, errors, rest }
    }
}

fn failure(name: u64, message: String) -> Command {
    Command::Failed(RootId(name), FailReason::Failed(message.into()))
}
