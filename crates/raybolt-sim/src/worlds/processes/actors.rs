//! The driver's shell around actors: where they live, and what becomes of their calls.

use raybolt_core::calls::incarnations::{Cancelled, Incarnation, Incarnations, Lost};
use raybolt_core::calls::owner::{ActorKey, ClassId, TaskKey};
use raybolt_core::calls::queue::{CallerId, Mode};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{Call, Code, Host, MethodCode, Offset, Outcome, ToWorker};
use slotmap::{Key, KeyData};

use super::messages::Parcel;
use super::worker::SHARED;
use super::{SEAT, World, lease_id, task_id, task_key};
use crate::checkers::lives::Lives;
use crate::trace::{Verdict, require};

/// An actor, as its owner's process knows it.
#[derive(Debug)]
pub struct Actor {
    class: ClassId,
    calls: Incarnations<Sendable>,
    limits: Vec<usize>,
    /// What it holds over all its lives.
    lease: Option<LeaseKey>,
    /// Where it lives.
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    home: ProcessId,
    incarnation: Incarnation,
}

/// What is needed to send a call.
#[derive(Clone, Copy, Debug)]
struct Sendable {
    serial: u64,
    caller: CallerId,
    group: usize,
    mode: Mode,
}

/// A call as the program makes it.
pub struct NewCall {
    pub actor: ActorKey,
    pub caller: CallerId,
    pub task: TaskKey,
    pub serial: u64,
    pub group: usize,
    pub mode: Mode,
    pub retries: u32,
    /// Whether its arguments are there.
    pub ready: bool,
}

impl World<'_> {
    /// A new actor; the scheduler is asked for its lease.
    pub fn make_actor(&mut self, limits: &[usize]) -> ActorKey {
        // An actor keeps its resources for life. If it took CPUs, a program whose calls wait for tasks
        // could block itself, rightly.
        let demand = super::demand(&[(SEAT, self.shared.rng.count(0..=1))]);
        let name = format!("actor{}", self.demands.len());
        let class = self.scheduler.class(&name, &demand).expect("a node has seats");
        self.demands.insert(class, demand);
        let restarts = self.shared.rng.count(0..=self.shared.options.restarts_max);
        let calls = Incarnations::with_plants(limits, usize::MAX, restarts, self.plants);
        let (limits, lease, place) = (limits.to_vec(), None, None);
        let lives = Lives::new(&limits);
        let key = self.actors.insert(Actor { class, calls, limits, lease, place });
        self.shared.lives.insert(actor_id(key), lives);
        self.want(class, 1);
        key
    }

    /// The actor that waits for a lease of this class, or has one.
    pub fn actor_of_class(&self, class: ClassId) -> Option<ActorKey> {
        self.actors.iter().find(|(_, actor)| actor.class == class).map(|(key, _)| key)
    }

    /// The actors that live in a process.
    pub fn actors_at(&self, process: ProcessId) -> Vec<ActorKey> {
        let lives_there = |actor: &Actor| actor.place.is_some_and(|place| place.home == process);
        self.actors.iter().filter(|(_, actor)| lives_there(actor)).map(|(key, _)| key).collect()
    }

    /// An actor has its lease.
    pub fn actor_granted(&mut self, key: ActorKey, lease: LeaseKey) -> Verdict {
        self.resources.started(lease);
        self.scheduler.started(lease);
        let actor = &mut self.actors[key];
        let class = actor.class;
        if !actor.calls.is_placing() {
            self.want(class, 0);
            return self.give_back(lease); // Killed while it waited.
        }
        actor.lease = Some(lease);
        self.want(class, 0);
        self.settle_down(key)
    }

    /// Finds a worker to live in; without one the actor waits.
    pub fn settle_down(&mut self, key: ActorKey) -> Verdict {
        let Some(home) = self.fleet.place_actor(key) else { return Ok(()) };
        let actor = &mut self.actors[key];
        let incarnation = actor.calls.placed();
        let incarnation = incarnation.expect("who was killed does not wait for a worker");
        actor.place = Some(Place { home, incarnation });
        let message = ToWorker::Host(Host {
            actor: actor_id(key),
            incarnation: incarnation.0,
            code: Code { shell: Offset(0), body: Offset(0), declared: Offset(0) },
            name: String::new(),
            limits: actor.limits.iter().map(|limit| *limit as u64).collect(),
            pending_max: u64::MAX,
            lease: actor.lease.map(lease_id),
        });
        self.tell(home, message, &Parcel::default());
        self.pump(key)
    }

    fn tell(&mut self, to: ProcessId, message: ToWorker, parcel: &Parcel) {
        self.shared.tell(to, message, parcel);
    }

    /// A call is made; a dead actor answers at once.
    pub fn call(&mut self, call: NewCall) -> Verdict {
        let NewCall { actor: key, caller, task, serial, group, mode, retries, ready } = call;
        self.shared.life(actor_id(key)).made(task, caller, group, retries);
        let job = Sendable { serial, caller, group, mode };
        let calls = &mut self.actors[key].calls;
        if calls.submitted(caller, task, group, (job, retries), ready).is_err() {
            return self.fail(task, 0);
        }
        self.pump(key)
    }

    /// The arguments of a call are there.
    pub fn call_ready(&mut self, key: ActorKey, task: TaskKey) -> Verdict {
        self.actors[key].calls.argument_ready(task);
        self.pump(key)
    }

    /// An argument of a call failed.
    pub fn call_failed(&mut self, key: ActorKey, task: TaskKey) -> Verdict {
        if self.tasks.has_ended(task) {
            return Ok(()); // Its actor died before.
        }
        self.tasks.argument_failed(task)?;
        self.cancel_call(key, task)
    }

    /// A call shall not run.
    pub fn cancel_call(&mut self, key: ActorKey, task: TaskKey) -> Verdict {
        match self.actors[key].calls.cancelled(task) {
            Cancelled::Waiting(_) => self.fail(task, 0)?,
            Cancelled::Sent(incarnation, _) => {
                let Some(Place { home, .. }) = self.actors[key].place else { return Ok(()) };
                let (actor, incarnation) = (actor_id(key), incarnation.0);
                let message = ToWorker::StopCall { actor, incarnation, task: task_id(task) };
                self.tell(home, message, &Parcel::default());
            }
            Cancelled::Unknown => {}
        }
        // Those behind it may go now.
        self.pump(key)
    }

    /// A worker answered a call.
    pub fn call_answered(
        &mut self,
        from: ProcessId,
        (actor, incarnation, number): (u64, u32, u64),
        outcome: Outcome,
        parcel: &Parcel,
    ) -> Verdict {
        let key = actor_key(actor);
        let answered = self.actors[key].calls.answered(Incarnation(incarnation), number);
        let Some((task, _)) = answered else { return Ok(()) };
        let (truth, place) = (task_key(parcel.truth), self.actors[key].place);
        let lives = place.is_some_and(|place| place.incarnation.0 == incarnation);
        require(task == truth && lives, "lives", || {
            format!(
                "INC-1: what incarnation {incarnation} says of {truth:?} is taken as the answer of \
                 {task:?} at {place:?}"
            )
        })?;
        match outcome {
            Outcome::Returned => self.finish(task, 0, Some(from), &parcel.values)?,
            Outcome::Failed => self.fail(task, 0)?,
        }
        self.pump(key)
    }

    /// The actor's worker says that it has ended.
    pub fn actor_ended(&mut self, actor: u64, incarnation: u32) -> Verdict {
        let key = actor_key(actor);
        let ended = self.actors[key].calls.ended(Incarnation(incarnation));
        ended.map_or(Ok(()), |left| self.over(key, left))
    }

    /// The actor's worker is dead: calls are tried again or fail, and the actor begins anew or is over.
    pub fn actor_lost(&mut self, key: ActorKey) -> Verdict {
        let actor = &mut self.actors[key];
        let place = actor.place.take().expect("it was found where it lived");
        let Some(lost) = actor.calls.lost(place.incarnation) else { return Ok(()) };
        let Lost { restarts, failed } = lost;
        self.shared.trace.line(|| format!("{key:?} lost its worker; begins anew: {restarts}"));
        if !restarts {
            return self.over(key, failed);
        }
        for (task, _) in failed {
            self.fail(task, 0)?;
        }
        self.settle_down(key)
    }

    /// It is dead; these are the calls that nobody will answer.
    fn over(&mut self, key: ActorKey, left: Vec<(TaskKey, Sendable)>) -> Verdict {
        let actor = &mut self.actors[key];
        actor.place = None;
        let lease = actor.lease.take();
        self.fleet.actor_ended(key);
        if let Some(lease) = lease {
            self.give_back(lease)?;
        }
        left.into_iter().try_for_each(|(task, _)| self.fail(task, 0))
    }

    /// The last handle is gone.
    pub fn last_handle_dropped(&mut self, key: ActorKey) -> Verdict {
        self.actors[key].calls.last_handle_gone();
        self.pump(key)
    }

    /// The actor is over: killed, or out of handles and calls.
    pub fn kill_actor(&mut self, key: ActorKey) -> Verdict {
        let actor = &mut self.actors[key];
        let (class, waits) = (actor.class, actor.lease.is_none() && actor.calls.is_placing());
        let waiting = actor.calls.killed();
        let place = actor.place;
        self.shared.trace.line(|| format!("{key:?} ends, {} calls waiting", waiting.len()));
        if waits {
            self.want(class, 0);
        }
        let Some(Place { home, incarnation }) = place else { return self.over(key, waiting) };
        for (task, _) in waiting {
            self.fail(task, 0)?;
        }
        let (actor, incarnation) = (actor_id(key), incarnation.0);
        let message = ToWorker::EndActor { actor, incarnation, because: None };
        self.tell(home, message, &Parcel::default());
        Ok(())
    }

    /// Sends the calls that may be sent, and ends the actor when it is done.
    fn pump(&mut self, key: ActorKey) -> Verdict {
        let Some(Place { home, .. }) = self.actors[key].place else { return Ok(()) };
        while let Some(outgoing) = self.actors[key].calls.send_next() {
            let Sendable { serial, caller, group, mode } = *outgoing.job;
            let (number, task, incarnation) =
                (outgoing.number, outgoing.task, outgoing.incarnation.0);
            self.tasks.sent(task)?;
            let message = ToWorker::Call(Call {
                actor: actor_id(key),
                incarnation,
                number,
                task: task_id(task),
                caller: caller.0,
                method: MethodCode {
                    shell: Offset(0),
                    body: Offset(self.returns_of(serial)),
                    kind: if mode == Mode::Shared { SHARED } else { 0 },
                    group: group as u16,
                    name: Offset(0),
                    name_bytes: 0,
                },
                deadline_us: None,
                name: None,
            });
            let parcel = self.packed(serial, home);
            self.tell(home, message, &parcel);
        }
        if self.actors[key].calls.is_over() { self.kill_actor(key) } else { Ok(()) }
    }
}

fn actor_id(key: ActorKey) -> u64 {
    key.data().as_ffi()
}

fn actor_key(id: u64) -> ActorKey {
    KeyData::from_ffi(id).into()
}
