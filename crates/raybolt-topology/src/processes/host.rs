//! The worker's side: an instance whose output is captured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raybolt_core::ids::{ComponentIndex, InstanceId, InstanceIndex};
use raybolt_runtime::args::Held;
use raybolt_runtime::job::Failure;
use raybolt_runtime::output::One;
use raybolt_runtime::pool::{self, Options, Pool};
use raybolt_runtime::timer::Timer;
use raybolt_wire::Value;

use crate::batch::{Anchor, Batch, Origin};
use crate::bolt::Bolt;
use crate::builder::declared;
use crate::collector::Collector;
use crate::context::{Context, Waker};
use crate::inbox::{Inbox, Sink};
use crate::instance::{BoltInstance, Plain};
use crate::ledger::{Ledger, Relay};
use crate::processes::Captured;
use crate::processes::wire::{Answer, Ask, Place, Tuples};
use crate::shared::{self, Shared};
use crate::stats::Published;
use crate::task::{Body, Command, Slice, Task};
use crate::tuple::decode_batch;
use crate::wiring::Streams;

/// The actor: one call runs at a time.
pub(super) struct Host<B: Bolt>(Mutex<Inner<B>>);

struct Inner<B: Bolt> {
    instance: BoltInstance<Plain<B>>,
    inbox: Arc<Inbox<B::In>>,
    task: Arc<Task>,
    shared: Arc<Shared>,
    captured: Arc<Captured>,
    incarnation: u64,
    /// How many errors, failures and panics have been told.
    told: (u64, u64, u64),
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
        static LAST: AtomicU64 = AtomicU64::new(0);
        let Place { topology, component, instance, instances, sources } = place;
        let shared = Shared::new(
            &topology,
            [component.as_str().into()].into(),
            Timer::new(),
            Duration::ZERO,
            None,
        );
        // Slices are run by calls: the pool never starts a thread, since the task is claimed for good.
        let options = Options { name: "raybolt-host", width: 1, threads_max: 1, overseer: false };
        let of_pool = pool::Place { home: 0, level: 0 };
        let task = Task::new(Pool::new(options), shared.clone(), of_pool);
        let _ = task.claim();
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
        let streams = Arc::new(Streams::new(&component, declared(&bolt), sources.into()));
        let nobody = [ComponentIndex(0)];
        let ledger = Ledger::new(place, task.clone(), shared.clone(), InstanceId(0), &nobody, 1);
        let mut collector = Collector::new(streams, ledger);
        let captured = Arc::<Captured>::default();
        collector.capture(&captured, &task);
        collector.ledger.relay = Some(Relay::default());
        let inbox = Inbox::new(task.clone(), usize::MAX);
        let published = Arc::<Published>::default();
        let bolt = Plain(bolt);
        let mut instance = BoltInstance::new(bolt, context, inbox.clone(), collector, published);
        let _ = instance.slice(&task); // Which prepares the bolt.
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let incarnation = u64::from(std::process::id()) << 32 | number;
        Inner { instance, inbox, task, shared, captured, incarnation, told: (0, 0, 0) }
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
        let (failures, panics) = (ledger.counters.failed, ledger.counters.panics);
        let (recent, errors) = self.shared.errors();
        let fresh = usize::try_from(errors - self.told.0).unwrap_or(usize::MAX).min(recent.len());
        let mut answer = Answer {
            incarnation: self.incarnation,
            acked: relay.acked,
            failed: relay.failed,
            failures: failures - self.told.1,
            panics: panics - self.told.2,
            errors: recent.into_iter().rev().take(fresh).map(|record| record.message).collect(),
            state_lost: relay.state_lost,
            request_failure: relay.request_failure,
            emitted: Vec::new(),
        };
        answer.errors.reverse();
        self.told = (errors, failures, panics);
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
