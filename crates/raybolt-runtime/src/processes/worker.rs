//! One worker, as its driver knows it: its link, and what lies in its hands.
//!
//! A task comes into a worker's hands before its frame is sent ([`Worker::hold`]), and leaves them when its
//! answer is taken ([`Worker::take`]) or when the worker is dead ([`Worker::bury`]): that is NODE-1. A dead
//! worker takes nothing more, so that whoever comes too late is told so and looks for another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use raybolt_core::calls::owner::{ActorKey, Attempt, ClassId, TaskKey};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{self, ToWorker};
use slotmap::{KeyData, SecondaryMap};

use crate::error::Error;
use crate::job::Job;
use crate::processes::inlet::{Inlet, Maker};
use crate::processes::link::{FRAME_MAX, Link};
use crate::processes::remote_actor::Remote;

/// A worker process.
pub(crate) struct Worker {
    pub(crate) process: ProcessId,
    pub(crate) link: Link,
    hands: Mutex<Hands>,
    /// Actors that live there.
    actors: Mutex<HashMap<ActorKey, Arc<Remote>>>,
}

/// What lies at a worker.
#[derive(Default)]
pub(crate) struct Hands {
    pub(crate) tasks: SecondaryMap<TaskKey, Lent>,
    /// How many it was ever given.
    given: u64,
    is_dead: bool,
}

/// A task in the hands of a worker.
pub(crate) struct Lent {
    pub(crate) attempt: Attempt,
    pub(crate) lease: LeaseKey,
    pub(super) class: ClassId,
    /// How many the worker was given before it.
    pub(crate) order: u64,
    /// When it was sent there.
    pub(crate) since: Instant,
    pub(crate) job: Box<dyn Job>,
}

impl Worker {
    pub(super) fn new(process: ProcessId, link: Link) -> Self {
        Worker { process, link, hands: Mutex::default(), actors: Mutex::default() }
    }

    /// An actor comes to live there; says false if the worker is lost.
    pub(crate) fn take_actor(&self, actor: &Arc<Remote>) -> bool {
        let mut actors = self.actors();
        if self.is_lost() {
            return false;
        }
        actors.insert(actor.key, actor.clone());
        true
    }

    pub(crate) fn forget_actor(&self, actor: ActorKey) {
        let gone = self.actors().remove(&actor);
        drop(gone); // Outside the lock.
    }

    /// Whether it is dead, so that nothing more may be given to it.
    pub(crate) fn is_lost(&self) -> bool {
        self.hands().is_dead
    }

    pub(super) fn actor(&self, id: u64) -> Option<Arc<Remote>> {
        self.actors().get(&ActorKey::from(KeyData::from_ffi(id))).cloned()
    }

    /// Whether any actor lives there.
    pub(crate) fn has_actors(&self) -> bool {
        !self.actors().is_empty()
    }

    /// Whether any of them has calls there.
    pub(super) fn has_calls(&self) -> bool {
        let actors: Vec<_> = self.actors().values().cloned().collect();
        actors.iter().any(|actor| actor.has_calls())
    }

    pub(super) fn actors(&self) -> MutexGuard<'_, HashMap<ActorKey, Arc<Remote>>> {
        self.actors.lock().expect("no thread panics with this lock")
    }

    /// Says something that has no body.
    pub(crate) fn say(&self, message: &ToWorker) {
        let nothing = |_: &mut Vec<u8>| Ok::<_, Error>(());
        // Without a body such a message is short.
        let _ = self.link.append(|out| work::append(out, message, FRAME_MAX, nothing));
        self.link.flush();
    }

    /// Its answer is here: takes a task, if this attempt of it lies there (NODE-1).
    pub(super) fn take(&self, task: TaskKey, attempt: Attempt) -> Option<Lent> {
        let tasks = &mut self.hands().tasks;
        match tasks.get(task) {
            Some(found) if found.attempt == attempt => tasks.remove(task),
            _ => None,
        }
    }

    /// Where the items of a generator that runs here go.
    pub(crate) fn inlet(&self, maker: Maker) -> Option<Arc<dyn Inlet>> {
        let task = TaskKey::from(KeyData::from_ffi(maker.task));
        if let Some(actor) = maker.actor {
            return self.actor(actor)?.inlet(task, maker.attempt);
        }
        let hands = self.hands();
        let lent = hands.tasks.get(task)?;
        if lent.attempt == maker.attempt { lent.job.inlet() } else { None }
    }

    /// Tasks are about to be sent (NODE-1); hands them back if the worker is dead.
    pub(super) fn hold(&self, lent: Vec<(TaskKey, Lent)>) -> Result<(), Vec<(TaskKey, Lent)>> {
        let mut hands = self.hands();
        if hands.is_dead {
            return Err(lent);
        }
        for (task, mut lent) in lent {
            lent.order = hands.given;
            hands.given += 1;
            hands.tasks.insert(task, lent);
        }
        Ok(())
    }

    /// It is dead: takes what lies there; says too whether it was ever given anything.
    pub(crate) fn bury(&self) -> (SecondaryMap<TaskKey, Lent>, bool) {
        let mut hands = self.hands();
        hands.is_dead = true;
        (std::mem::take(&mut hands.tasks), hands.given > 0)
    }

    pub(crate) fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().expect("no thread panics while it holds what is lent")
    }
}
