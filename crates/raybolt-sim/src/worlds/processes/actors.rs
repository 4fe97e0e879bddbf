//! The driver's shell around actors: where they live, and what becomes of their calls.

use raybolt_core::calls::fleet::Assigned;
use raybolt_core::calls::incarnations::{Cancelled, Incarnation, Incarnations, Lost};
use raybolt_core::calls::owner::{ActorKey, ClassId, TaskKey};
use raybolt_core::calls::queue::{CallerId, Mode};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::Outcome;
use slotmap::{Key, KeyData};

use super::links::Way;
use super::messages::{self, Content, Parcel, ToWorker};
use super::{SEAT, World, task_id};
use crate::checkers::lives::Lives;
use crate::trace::{Verdict, require};

/// An actor, as its owner's process knows it.
#[derive(Debug)]
pub struct Actor {
    class: ClassId,
    calls: Incarnations<Sendable>,
    limits: Vec<usize>,
    /// What it holds, and where it lives, from its placing until its end there.
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    lease: LeaseKey,
    home: ProcessId,
    incarnation: Incarnation,
}

/// What is needed to send a call.
#[derive(Clone, Copy, Debug)]
pub struct Sendable {
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
        let key = self.actors.insert(Actor { class, calls, limits: limits.to_vec(), place: None });
        self.shared.lives.insert(actor_id(key), Lives::new(limits));
        self.want(class, 1);
        key
    }

    /// The actor that waits for a lease of this class.
    pub fn actor_of_class(&self, class: ClassId) -> Option<ActorKey> {
        self.actors.iter().find(|(_, actor)| actor.class == class).map(|(key, _)| key)
    }

    /// The actor that lives under a lease.
    pub fn actor_under(&self, lease: LeaseKey) -> Option<ActorKey> {
        let lives_there = |actor: &Actor| actor.place.is_some_and(|place| place.lease == lease);
        self.actors.iter().find(|(_, actor)| lives_there(actor)).map(|(key, _)| key)
    }

    /// An actor has its lease, and a worker to live in.
    pub fn actor_placed(&mut self, key: ActorKey, assigned: Assigned) -> Verdict {
        let Assigned { lease, class, process: home } = assigned;
        self.resources.started(lease);
        self.scheduler.started(lease);
        self.want(class, 0);
        let actor = &mut self.actors[key];
        let Some(incarnation) = actor.calls.placed() else {
            return self.evict(lease); // Killed while it waited.
        };
        actor.place = Some(Place { lease, home, incarnation });
        let limits = actor.limits.iter().map(|limit| *limit as u64).collect();
        let (actor, incarnation) = (actor_id(key), incarnation.0);
        self.tell(home, &ToWorker::Host { actor, incarnation, limits });
        self.pump(key)
    }

    fn evict(&mut self, lease: LeaseKey) -> Verdict {
        self.fleet.returned(lease);
        self.give_back(lease);
        Ok(())
    }

    fn tell(&mut self, to: ProcessId, message: &ToWorker) {
        self.shared.write(to, Way::ToWorker, message, &Parcel::default());
    }

    /// A call is made; a dead actor answers at once.
    pub fn call(&mut self, call: NewCall) -> Verdict {
        let NewCall { actor: key, caller, task, serial, group, mode, retries, ready } = call;
        let lives = self.shared.lives.get_mut(&actor_id(key)).expect("it was made");
        lives.made(task, caller, group, retries);
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

    /// A call shall not run; one that was sent is not stopped.
    pub fn cancel_call(&mut self, key: ActorKey, task: TaskKey) -> Verdict {
        if let Cancelled::Waiting(_) = self.actors[key].calls.cancelled(task) {
            self.fail(task, 0)?;
        }
        // Those behind it may go now.
        self.pump(key)
    }

    /// A worker answered a call; `truth` is the one that it ran.
    pub fn call_answered(
        &mut self,
        from: ProcessId,
        (actor, incarnation, number): (u64, u32, u64),
        truth: TaskKey,
        outcome: Outcome,
        values: &[Content],
    ) -> Verdict {
        let key = actor_key(actor);
        let answered = self.actors[key].calls.answered(Incarnation(incarnation), number);
        let Some((task, _)) = answered else { return Ok(()) };
        let place = self.actors[key].place;
        let lives = place.is_some_and(|place| place.incarnation.0 == incarnation);
        require(task == truth && lives, "lives", || {
            format!(
                "INC-1: what incarnation {incarnation} says of {truth:?} is taken as the answer of \
                 {task:?} at {place:?}"
            )
        })?;
        match outcome {
            Outcome::Returned => self.finish(task, 0, Some(from), values)?,
            Outcome::Failed => self.fail(task, 0)?,
        }
        self.pump(key)
    }

    /// The actor's worker says that it has ended.
    pub fn actor_ended(&mut self, actor: u64, incarnation: u32) -> Verdict {
        let key = actor_key(actor);
        let Some(left) = self.actors[key].calls.ended(Incarnation(incarnation)) else {
            return Ok(());
        };
        for (task, _) in left {
            self.fail(task, 0)?;
        }
        let place = self.actors[key].place.take().expect("what has ended lived somewhere");
        self.evict(place.lease)
    }

    /// The actor's worker is dead: calls are tried again or fail, and the actor begins anew or is over.
    pub fn actor_lost(&mut self, key: ActorKey, lease: LeaseKey) -> Verdict {
        let actor = &mut self.actors[key];
        let place = actor.place.take().expect("it was found under its lease");
        let class = actor.class;
        let lost = actor.calls.lost(place.incarnation);
        self.give_back(lease);
        let Some(Lost { restarts, failed }) = lost else { return Ok(()) };
        self.shared.trace.line(|| format!("{key:?} lost its worker; begins anew: {restarts}"));
        for (task, _) in failed {
            self.fail(task, 0)?;
        }
        if restarts {
            self.want(class, 1);
        }
        Ok(())
    }

    /// The last handle is gone.
    pub fn last_handle_dropped(&mut self, key: ActorKey) -> Verdict {
        self.actors[key].calls.last_handle_gone();
        self.pump(key)
    }

    /// The actor is over: killed, or out of handles and calls.
    pub fn kill_actor(&mut self, key: ActorKey) -> Verdict {
        let actor = &mut self.actors[key];
        let (class, was_placing) = (actor.class, actor.calls.is_placing());
        let waiting = actor.calls.killed();
        let place = actor.place;
        self.shared.trace.line(|| format!("{key:?} ends, {} calls waiting", waiting.len()));
        if was_placing {
            self.want(class, 0);
        }
        for (task, _) in waiting {
            self.fail(task, 0)?;
        }
        if let Some(Place { home, incarnation, .. }) = place {
            let message = ToWorker::EndActor { actor: actor_id(key), incarnation: incarnation.0 };
            self.tell(home, &message);
        }
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
            let message = ToWorker::Call(messages::Call {
                actor: actor_id(key),
                incarnation,
                number,
                task: task_id(task),
                caller: caller.0,
                group: group as u16,
                is_shared: mode == Mode::Shared,
                returns: self.returns_of(serial),
            });
            let parcel = self.packed(serial, home);
            self.shared.write(home, Way::ToWorker, &message, &parcel);
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
