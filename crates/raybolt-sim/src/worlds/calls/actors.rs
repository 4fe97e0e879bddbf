//! The driver's shell around actors: where they live, and what becomes of their calls.

use std::collections::BTreeMap;

use raybolt_core::calls::owner::{ActorKey, Attempt, ClassId, TaskKey};
use raybolt_core::calls::queue::{Call, CallerId, Mode, Queue};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::{ActorId, Epoch, ProcessId};
use raybolt_wire::Envelope;
use raybolt_wire::envelope::BodyBuilder;
use raybolt_wire::message::{ActorCall, Message};
use slotmap::Key;

use super::{SEAT, World};
use crate::checkers::order::Order;
use crate::trace::Verdict;

/// An actor, as its owner's process knows it.
#[derive(Debug)]
pub struct Actor {
    class: ClassId,
    queue: Queue<u64>,
    phase: Phase,
    /// What it holds, and where it lives. A dead actor keeps it until the calls that run are over.
    place: Option<(LeaseKey, ProcessId)>,
    /// Which life it lives (MSG-1).
    epoch: Epoch,
    restarts_left: u32,
    running: BTreeMap<TaskKey, Running>,
    /// Whether the last handle is gone: it ends after its calls.
    ending: bool,
    sequence: u64,
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Placing,
    Alive,
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    group: usize,
    mode: Mode,
}

/// A call is tried once.
const ONLY_ATTEMPT: Attempt = 0;

/// A call as the program makes it.
pub struct NewCall {
    pub actor: ActorKey,
    pub caller: CallerId,
    pub task: TaskKey,
    pub serial: u64,
    pub group: usize,
    pub mode: Mode,
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
        let key = self.actors.insert(Actor {
            class,
            queue: Queue::with_plants(limits, self.plants),
            phase: Phase::Placing,
            place: None,
            epoch: Epoch(0),
            restarts_left: self.shared.rng.count(0..=self.shared.options.restarts_max),
            running: BTreeMap::new(),
            ending: false,
            sequence: 0,
            order: Order::new(limits),
        });
        self.want(class, 1);
        key
    }

    /// The actor that waits for a lease of this class.
    pub fn actor_of_class(&self, class: ClassId) -> Option<ActorKey> {
        self.actors.iter().find(|(_, actor)| actor.class == class).map(|(key, _)| key)
    }

    /// An actor has its lease, and a worker to live in.
    pub fn actor_placed(&mut self, key: ActorKey, lease: LeaseKey, home: ProcessId) -> Verdict {
        if self.actors[key].phase != Phase::Placing {
            // Killed while it waited.
            self.give_back(lease);
            return Ok(());
        }
        self.actors[key].phase = Phase::Alive;
        self.actors[key].place = Some((lease, home));
        self.pump(key)
    }

    /// A call is made; a dead actor answers at once.
    pub fn call(&mut self, call: NewCall) -> Verdict {
        let NewCall { actor: key, caller, task, serial, group, mode, ready } = call;
        if self.actors[key].phase == Phase::Dead {
            return self.finish(task, ONLY_ATTEMPT, false);
        }
        let actor = &mut self.actors[key];
        actor.order.made(caller, group, task);
        actor.queue.submitted(caller, Call { task, group, mode, job: serial }, ready);
        self.pump(key)
    }

    /// The arguments of a call are there.
    pub fn call_ready(&mut self, key: ActorKey, task: TaskKey) -> Verdict {
        self.actors[key].queue.argument_ready(task);
        self.pump(key)
    }

    /// An argument of a call failed.
    pub fn call_failed(&mut self, key: ActorKey, task: TaskKey) -> Verdict {
        if self.tasks.has_ended(task) {
            return Ok(()); // Its actor died before.
        }
        self.tasks.argument_failed(task)?;
        self.withdraw(key, task)
    }

    /// Somebody cancelled a call; one that runs is not stopped.
    pub fn cancel_call(&mut self, key: ActorKey, task: TaskKey) -> Verdict {
        if self.actors[key].running.contains_key(&task) {
            return Ok(());
        }
        self.withdraw(key, task)
    }

    fn withdraw(&mut self, key: ActorKey, task: TaskKey) -> Verdict {
        let actor = &mut self.actors[key];
        if actor.queue.cancelled(task).is_some() {
            actor.order.ended(task);
            self.finish(task, ONLY_ATTEMPT, false)?;
        }
        // Those behind it may go now.
        self.pump(key)
    }

    /// Whether a task is a call.
    pub fn is_call(&self, task: TaskKey) -> bool {
        self.tasks.is_call(task)
    }

    /// The worker answered a call.
    pub fn call_answered(&mut self, task: TaskKey, attempt: Attempt, success: bool) -> Verdict {
        let running = self.actors.iter().find(|(_, actor)| actor.running.contains_key(&task));
        let key = running.map(|(key, _)| key);
        if let Some(key) = key {
            self.call_ended(key, task);
        }
        self.finish(task, attempt, success)?;
        key.map_or(Ok(()), |key| self.pump(key))
    }

    fn call_ended(&mut self, key: ActorKey, task: TaskKey) {
        let actor = &mut self.actors[key];
        let ended = actor.running.remove(&task).expect("it was found running");
        actor.order.ended(task);
        actor.queue.finished(ended.group, ended.mode);
    }

    /// The actor's worker is dead: what ran is answered, and the actor starts again or is over.
    pub fn actor_lost(&mut self, lease: LeaseKey) -> Verdict {
        let lives_there = |actor: &Actor| actor.place.is_some_and(|place| place.0 == lease);
        let key = self.actors.iter().find(|(_, actor)| lives_there(actor)).map(|(key, _)| key);
        self.give_back(lease);
        let Some(key) = key else { return Ok(()) };
        self.shared.trace.line(|| format!("{key:?} lost its worker"));
        let actor = &mut self.actors[key];
        actor.place = None;
        let was_alive = actor.phase == Phase::Alive;
        if was_alive {
            actor.phase = Phase::Placing;
        }
        let running: Vec<_> = self.actors[key].running.keys().copied().collect();
        for task in running {
            self.call_ended(key, task);
            self.finish(task, ONLY_ATTEMPT, false)?;
        }
        let actor = &mut self.actors[key];
        if !was_alive {
            return Ok(());
        }
        if actor.restarts_left == 0 {
            return self.end_actor(key);
        }
        actor.restarts_left -= 1;
        actor.epoch.0 += 1;
        actor.sequence = 0;
        let class = actor.class;
        self.want(class, 1);
        Ok(())
    }

    /// The last handle is gone.
    pub fn last_handle_dropped(&mut self, key: ActorKey) -> Verdict {
        self.actors[key].ending = true;
        self.pump(key)
    }

    /// The actor is over: killed, out of restarts, or out of handles and calls.
    pub fn end_actor(&mut self, key: ActorKey) -> Verdict {
        let actor = &mut self.actors[key];
        let phase = std::mem::replace(&mut actor.phase, Phase::Dead);
        let class = actor.class;
        let calls = actor.queue.closed();
        for call in &calls {
            actor.order.ended(call.task);
        }
        self.shared.trace.line(|| format!("{key:?} ends, with {} calls waiting", calls.len()));
        for call in calls {
            self.finish(call.task, ONLY_ATTEMPT, false)?;
        }
        if phase == Phase::Placing {
            self.want(class, 0);
        }
        self.pump(key)
    }

    /// Starts the calls that may start, and ends the actor when it is done.
    fn pump(&mut self, key: ActorKey) -> Verdict {
        let actor = &mut self.actors[key];
        let Some((lease, home)) = actor.place else { return Ok(()) };
        if actor.phase == Phase::Dead {
            if actor.running.is_empty() {
                actor.place = None;
                self.give_back(lease);
            }
            return Ok(());
        }
        let mut calls = Vec::new();
        let mut body = BodyBuilder::default();
        while let Some(call) = self.actors[key].queue.start_next() {
            let Call { task, group, mode, job: serial } = call;
            self.actors[key].order.started(task, group, mode)?;
            self.tasks.lent(task, ONLY_ATTEMPT)?;
            let message = self.message(serial, ONLY_ATTEMPT, &mut body);
            let actor = &mut self.actors[key];
            actor.running.insert(task, Running { group, mode });
            calls.push(ActorCall { sequence: actor.sequence, task: message });
            actor.sequence += 1;
        }
        let actor = &self.actors[key];
        if !calls.is_empty() {
            let message = Message::PushCalls {
                actor: ActorId(key.data().as_ffi()),
                epoch: actor.epoch,
                calls,
            };
            self.shared.tell_worker(home, &Envelope { message, body: body.finish() });
        } else if actor.ending && actor.queue.is_empty() && actor.running.is_empty() {
            return self.end_actor(key);
        }
        Ok(())
    }
}
