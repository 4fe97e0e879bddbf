//! The worker's side: an instance whose output is captured.

use std::sync::{Arc, Mutex, PoisonError};

use raybolt_runtime::args::Held;
use raybolt_runtime::job::Failure;
use raybolt_runtime::output::One;
use raybolt_runtime::timer::Timer;
use raybolt_wire::Value;

use crate::batch::{Anchor, Batch, Origin};
use crate::bolt::Bolt;
use crate::builder::declared;
use crate::inbox::{Inbox, Sink};
use crate::instance::{BoltInstance, Plain};
use crate::ledger::Relay;
use crate::processes::Captured;
use crate::processes::bench::{Bench, Told};
use crate::processes::wire::{Answer, Ask, Place, Tuples};
use crate::shared::Shared;
use crate::stats::Published;
use crate::task::{Body, Command, Slice, Task};
use crate::tuple::decode_batch;

/// The actor: one call runs at a time.
pub(super) struct Host<B: Bolt>(Mutex<Inner<B>>);

struct Inner<B: Bolt> {
    instance: BoltInstance<Plain<B>>,
    inbox: Arc<Inbox<B::In>>,
    task: Arc<Task>,
    shared: Arc<Shared>,
    captured: Arc<Captured>,
    incarnation: u64,
    told: Told,
    /// How many failures have been told.
    failures: u64,
}

/// The constructor.
pub(super) fn new<B: Bolt + Value>(
    (bolt, place): (Held<B>, Held<Place>),
) -> Result<Host<B>, Failure> {
    Ok(Host(Mutex::new(Inner::new(bolt.into_owned(), place.into_owned()))))
}

/// The one method.
pub(super) fn ask<B: Bolt>(
    host: &mut Host<B>,
    (ask,): (Held<Ask>,),
) -> Result<One<Answer>, Failure> {
    // User code that panics is caught below.
    let inner = host.0.get_mut().unwrap_or_else(PoisonError::into_inner);
    inner.ask(ask.into_owned()).map(One)
}

impl<B: Bolt> Inner<B> {
    fn new(bolt: B, place: Place) -> Self {
        let streams = declared(&bolt);
        let Bench { task, context, mut collector, captured, incarnation } =
            Bench::new(place, streams, Timer::new());
        let shared = collector.ledger.shared.clone();
        // Slices are run by calls, and nobody is told that one is wanted.
        let _ = task.claim();
        collector.ledger.relay = Some(Relay::default());
        let inbox = Inbox::new(task.clone(), usize::MAX);
        let published = Arc::<Published>::default();
        let bolt = Plain(bolt);
        let mut instance = BoltInstance::new(bolt, context, inbox.clone(), collector, published);
        let _ = instance.slice(&task); // Which prepares the bolt.
        Inner {
            instance,
            inbox,
            task,
            shared,
            captured,
            incarnation,
            told: Told::default(),
            failures: 0,
        }
    }

    fn ask(&mut self, ask: Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::Work(tuples) => self.queue(&tuples)?,
            Ask::Tick => self.task.send(Command::Tick),
            Ask::Finish(request) => self.task.send(Command::Finish(request)),
            Ask::Abandon(request) => self.task.send(Command::Abandon(request)),
            Ask::Cleanup => {
                self.instance.stop();
                return Ok(self.answer());
            }
        }
        loop {
            let slice = self.instance.slice(&self.task);
            if slice == Slice::Wait && self.instance.is_quiet() && !self.task.has_mail() {
                return Ok(self.answer());
            }
        }
    }

    fn queue(&mut self, tuples: &Tuples) -> Result<(), Failure> {
        let Tuples { origin, first, tuples } = tuples;
        let tuples = decode_batch::<B::In>(&tuples.0).map_err(Failure::new)?;
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
        let ledger = &mut self.instance.collector().ledger;
        let relay = std::mem::take(ledger.relay.get_or_insert_default());
        let failures = std::mem::replace(&mut self.failures, ledger.counters.failed);
        let failures = ledger.counters.failed - failures;
        let (panics, errors) = self.told.fresh(&self.shared, ledger.counters.panics);
        let mut answer = Answer {
            incarnation: self.incarnation,
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
