//! What workers say, and what follows from it.
//!
//! # Protocol
//! 1. Whoever [leads](super::leader) reads all links that have something, frame by frame. Most frames are done
//!    with on the spot; answers are only collected, in a [`Batch`].
//! 2. When nothing more is there the batch is concluded: one visit to the hub for all tasks that have ended,
//!    in which their leases are filled again, and one system call for each worker that has got some.
//! 3. A link that ends, or brings what is no message, is closed; the [keeper](super::keeper) settles the
//!    worker's death. What came before its end counts: [`Workers::take`] reads it.

use std::sync::Arc;
use std::time::Duration;

use raybolt_core::calls::fleet::Assigned;
use raybolt_core::calls::owner::{Attempt, ClassId, TaskKey};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;
use raybolt_store::Ticket;
use raybolt_wire::link::Broken;
use raybolt_wire::work::{self, Outcome, ToDriver};
use slotmap::KeyData;

use crate::error::{Error, Kind, Result};
use crate::job::Ended;
use crate::object::AnyObject;
use crate::panics;
use crate::processes::circles::Said;
use crate::processes::inlet::Maker;
use crate::processes::keeper::Order;
use crate::processes::leader::{self, Source};
use crate::processes::lineage;
use crate::processes::node::Workers;
use crate::processes::parcel;
use crate::processes::poll::Ready;
use crate::processes::remote_actor::Remote;
use crate::processes::worker::Worker;
use crate::session::{Place, Session};

/// What a read of the links brought.
#[derive(Default)]
pub(super) struct Batch {
    ended: Vec<(TaskKey, Attempt, Ended)>,
    /// How many tasks of each lease were answered.
    leases: Vec<(LeaseKey, ClassId, u32)>,
    /// Actors whose calls were answered.
    actors: Vec<Arc<Remote>>,
    over: Vec<Over>,
    /// Waits of which workers have told.
    waits: Vec<(ProcessId, Said)>,
    /// What is wrong with a frame that is no message.
    garbled: Option<String>,
}

/// An actor has ended.
struct Over {
    actor: Arc<Remote>,
    incarnation: u32,
    because: String,
    error: Option<Error>,
}

impl Source for Arc<Workers> {
    fn read(&self, timeout: Option<Duration>) {
        let mut batch = Batch::default();
        let session = self.session();
        let ready = |ready: Ready| {
            let Some(session) = &session else { return };
            let process = ProcessId(ready.token);
            let Some(worker) = self.all().get(&process).cloned() else { return };
            let mut each = |frame: &[u8]| self.arrived(session, &worker, frame, &mut batch);
            let read = worker.link.ready(ready, &mut each);
            let garbled = batch.garbled.take();
            if read.is_err() || garbled.is_some() {
                let too_long = read.err().filter(|broken| matches!(broken, Broken::TooLong(_)));
                worker.link.end();
                let garbled = garbled.or(too_long.map(|broken| broken.to_string()));
                self.keeper_order(Order::LinkEnded(process, garbled));
            }
        };
        leader::gathering(|| self.poll.look_and_wait(timeout, ready));
        if let Some(session) = session {
            self.conclude(&session, batch);
        }
    }

    fn interrupt(&self) {
        self.poll.interrupt();
    }
}

impl Workers {
    /// Takes a dead worker off the list, after its last words.
    pub(crate) fn take(
        self: &Arc<Self>,
        session: &Arc<Session>,
        process: ProcessId,
    ) -> Option<Arc<Worker>> {
        let worker = self.all().remove(&process)?;
        let mut batch = Batch::default();
        // Most often it was read to its end before.
        let mut each = |frame: &[u8]| self.arrived(session, &worker, frame, &mut batch);
        let _ = worker.link.read(&mut each); // Its end is why we are here.
        worker.link.end();
        batch.waits.clear();
        self.conclude(session, batch);
        self.waits.process_lost(process);
        Some(worker)
    }

    fn arrived(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        frame: &[u8],
        batch: &mut Batch,
    ) {
        let (message, body) = match work::read::<ToDriver>(frame) {
            Ok(read) => read,
            Err(error) => {
                batch.garbled = Some(error.to_string());
                return;
            }
        };
        match message {
            ToDriver::Finished { task, attempt, outcome, refs } => {
                let task = TaskKey::from(KeyData::from_ffi(task));
                let Some(lent) = worker.take(task, attempt) else { return };
                let (answer, keeps) = answer(session, outcome, &refs, body, || lent.job.name());
                let (lease, class) = (lent.lease, lent.class);
                let keeps_task = answer.as_ref().is_ok_and(|body| parcel::has_stored(body));
                let making =
                    keeps_task.then(|| session.keep_task((task, attempt, class), &*lent.job, body));
                let take = || lent.job.answered(attempt, answer, keeps);
                let ended = match making {
                    None => take(),
                    Some(making) => lineage::making(making, take),
                };
                batch.ended.push((task, attempt, ended));
                batch.answered_under(lease, class);
            }
            ToDriver::Blocked { lease } => {
                session.act(|hub| hub.blocked(KeyData::from_ffi(lease).into()));
            }
            ToDriver::Unblocked { lease } => {
                session.act(|hub| hub.unblocked(KeyData::from_ffi(lease).into()));
            }
            ToDriver::Submit(submit) => self.submitted(session, worker, submit, body),
            ToDriver::Put { object, refs } => self.stored(session, worker, object, &refs, body),
            ToDriver::Fetch { object } => self.wanted(session, worker, object),
            ToDriver::Expect { objects } => self.expected(session, worker, &objects),
            ToDriver::Released { object } => {
                session.act(|hub| {
                    if let Some(key) = hub.lent.key(object) {
                        hub.owner.returned(key, worker.process);
                    }
                });
            }
            ToDriver::CancelObject { object } => session.cancel_lent(object, false),
            ToDriver::KillTask { object } => session.cancel_lent(object, true),
            ToDriver::Yielded { task, actor, attempt, index, refs } => {
                self.yielded(session, worker, Maker { task, attempt, actor }, index, &refs, body);
            }
            ToDriver::Stalled { task, actor, attempt, index } => {
                self.stalled(worker, Maker { task, attempt, actor }, index);
            }
            ToDriver::Taken { stream, until } => self.relays.room(stream, until),
            ToDriver::Called { actor, incarnation, number, outcome, refs } => {
                let Some(actor) = worker.actor(actor) else { return };
                let Some((task, made)) = actor.answered(incarnation, number) else { return };
                let (answer, keeps) = answer(session, outcome, &refs, body, || made.call.name());
                // One that was stopped says so; why, is said by who stopped it.
                let stopped = matches!(&answer, Err(error) if error.is_cancelled());
                let ended = match stopped && session.is_stopped(task) {
                    true => Ended::Failed,
                    false => made.call.answered(answer, keeps),
                };
                batch.ended.push((task, 0, ended));
                panics::drop_here(&actor.name, made);
                if !batch.actors.iter().any(|other| Arc::ptr_eq(other, &actor)) {
                    batch.actors.push(actor);
                }
            }
            ToDriver::CreateActor(create) => self.actor_wanted(session, worker, create, body),
            ToDriver::FindActor { name, class, kind, answer } => {
                self.actor_sought(session, worker, (&name, &class, kind), answer);
            }
            ToDriver::CallActor(call) => self.actor_called(session, worker, call, body),
            ToDriver::KillActor { actor } => self.actor_killed(session, actor),
            ToDriver::Judged { object, attempt, again } => {
                self.judges.judged(session, object, attempt, again);
            }
            ToDriver::ActorEnded { actor, incarnation, because } => {
                let Some(actor) = worker.actor(actor) else { return };
                let error = (!body.is_empty()).then(|| error_in(body, &actor.name));
                batch.over.push(Over { actor, incarnation, because, error });
            }
            ToDriver::Ask { object, code } => self.asked(session, worker, object, code, body),
            ToDriver::SlabWanted { request, bytes } => {
                self.slab_wanted(session, worker, request, bytes);
            }
            ToDriver::SlabReturned { slab } => {
                if let Place::Workers(node) = &session.place {
                    node.shelf.store().slab_returned(worker.process, Ticket(slab));
                }
            }
            ToDriver::Waits { task, wait, object, actor } => {
                let task = KeyData::from_ffi(task).into();
                batch.waits.push((worker.process, Said::Waits { task, wait, object, actor }));
            }
            ToDriver::WaitsNoMore { task, wait } => {
                let task = KeyData::from_ffi(task).into();
                batch.waits.push((worker.process, Said::WaitsNoMore { task, wait }));
            }
            ToDriver::Unpinned { key } => {
                if let Place::Workers(node) = &session.place {
                    node.shelf.unpinned(worker.process, key);
                }
            }
        }
    }

    /// Tells the machines what has ended, and sends what there is room for now.
    pub(super) fn conclude(self: &Arc<Self>, session: &Arc<Session>, batch: Batch) {
        let Batch { ended, leases, actors, over, waits, garbled: _ } = batch;
        if !(ended.is_empty() && over.is_empty() && leases.is_empty()) {
            self.conclude_ended(session, ended, leases, actors, over);
        }
        if !waits.is_empty() {
            self.hear_of_waits(session, waits);
        }
    }

    fn conclude_ended(
        self: &Arc<Self>,
        session: &Arc<Session>,
        ended: Vec<(TaskKey, Attempt, Ended)>,
        leases: Vec<(LeaseKey, ClassId, u32)>,
        actors: Vec<Arc<Remote>>,
        over: Vec<Over>,
    ) {
        let now_us = self.now_us();
        let mut again = Vec::new();
        let pushes = session.act(|hub| {
            for (task, attempt, ended) in ended {
                match ended {
                    Ended::Retry { .. } | Ended::Unsure { .. } => {
                        again.push((task, attempt, ended));
                    }
                    Ended::Success(_) | Ended::Failed => {
                        Session::report(hub, task, attempt, &ended);
                        session.stop_is_over(task);
                    }
                }
            }
            let mut pushes = Vec::new();
            for (lease, class, count) in leases {
                let Some(process) = hub.fleet.process(lease) else { continue };
                if hub.fleet.answered(lease, count, now_us) {
                    hub.scheduler.blocked(lease);
                }
                hub.refill(Assigned { lease, class, process }, now_us, &mut pushes);
            }
            pushes
        });
        for (task, attempt, ended) in again {
            session.conclude(task, attempt, ended);
        }
        self.push(session, pushes);
        for actor in actors {
            actor.resume();
        }
        for Over { actor, incarnation, because, error } in over {
            if let Some(error) = error.as_ref().and_then(Error::task_error) {
                crate::failures::record(error, true);
            }
            actor.ended(incarnation, &because);
        }
    }
}

impl Batch {
    /// A task was answered that lay at its worker under this lease.
    #[inline]
    fn answered_under(&mut self, lease: LeaseKey, class: ClassId) {
        match self.leases.iter_mut().find(|(other, ..)| *other == lease) {
            Some((_, _, count)) => *count += 1,
            None => self.leases.push((lease, class, 1)),
        }
    }

    /// A task of a lease has failed before it was sent.
    pub(super) fn failed(task: TaskKey, attempt: Attempt, lease: LeaseKey, class: ClassId) -> Self {
        let (ended, leases) = (vec![(task, attempt, Ended::Failed)], vec![(lease, class, 1)]);
        Batch { ended, leases, ..Batch::default() }
    }

    /// A task of a lease is back with its owner.
    pub(super) fn unsent(lease: LeaseKey, class: ClassId) -> Self {
        Batch { leases: vec![(lease, class, 1)], ..Batch::default() }
    }
}

/// What code in a worker has answered, and the objects that the values refer to.
#[inline]
fn answer<'a, 'n>(
    session: &Session,
    outcome: Outcome,
    refs: &[u64],
    body: &'a [u8],
    name: impl FnOnce() -> &'n str,
) -> (Result<&'a [u8]>, Vec<Arc<dyn AnyObject>>) {
    match outcome {
        Outcome::Returned => match session.keep(refs) {
            Ok(keeps) => (Ok(body), keeps),
            Err(error) => (Err(error), Vec::new()),
        },
        Outcome::Failed => (Err(error_in(body, name())), Vec::new()),
    }
}

/// The error in a message.
fn error_in(body: &[u8], task: &str) -> Error {
    raybolt_wire::value::decode(body).unwrap_or_else(|error| {
        let (task, because) = (task.into(), error.to_string());
        Error::new(Kind::Decode { task, because })
    })
}
