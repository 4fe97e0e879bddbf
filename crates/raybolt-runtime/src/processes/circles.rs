//! Circles of tasks and calls that wait for each other, over processes.
//!
//! In one process whoever is about to sleep looks for himself ([`circle`](crate::inspect::circle)); here only the
//! driver sees all of them.
//!
//! # Words
//! A *long wait* is a `get` of a task or call in a worker that has no time limit and has lasted for [`LONG`]. It
//! is *alone* if it is that of a call beside which its actor begins no other.
//!
//! # Protocol
//! 1. A worker tells of its long waits when they begin (`Waits`) and end (`WaitsNoMore`).
//! 2. The driver keeps them, and follows each new one: from the object to the task that makes it, and to the long
//!    wait of that; or, if it is a call that has to wait for one that is alone, to that one's.
//! 3. If this comes back to where it began the worker hears of it (`Circle`), and its `get` is an error.
//!
//! # Invariants
//! - **CIRCLE-3 (seen).** A circle is closed by the last long wait in it, which is followed after all others are
//!   known.
//! - **CIRCLE-4 (nothing old).** A long wait is kept only after all answers that its worker sent before it have
//!   been concluded, it counts only while its object is not there, and a worker's waits go before its tasks begin
//!   anew. So each wait on the way lasts, or its object has come and the way ends there.
//!
//! # Not promised
//! What is awaited, `wait` for several and waits with a time limit are not followed; `why` shows them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::{ActorKey, Target, TaskKey};
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{ToDriver, ToWorker};
use slotmap::{Key, KeyData};

use crate::context;
use crate::error::{Error, Kind, Result};
use crate::hub::Hub;
use crate::inspect::circle::{MEMBERS_MAX, named};
use crate::object::AnyObject;
use crate::processes::node::Workers;
use crate::processes::upstream::Upstream;
use crate::session::Session;
use crate::slot::Slot;

/// How long a wait lasts before the driver is told of it: most are over sooner, and cost nothing.
const LONG: Duration = Duration::from_millis(50);

/// The driver's side: the long waits of all workers.
#[derive(Default)]
pub(crate) struct LongWaits(Mutex<Table>);

#[derive(Default)]
struct Table {
    of_tasks: HashMap<TaskKey, LongWait>,
    /// The calls that are alone, and wait.
    alone: HashMap<ActorKey, TaskKey>,
}

#[derive(Debug, Clone, Copy)]
struct LongWait {
    process: ProcessId,
    /// As that worker numbers it.
    wait: u64,
    object: u64,
    /// Beside which of whose calls it is alone.
    actor: Option<ActorKey>,
}

/// What a worker said of its waits, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said {
    Waits { task: TaskKey, wait: u64, object: u64, actor: Option<u64> },
    WaitsNoMore { task: TaskKey, wait: u64 },
}

impl Workers {
    /// Takes in what workers have said of their waits, after all that they had answered before (CIRCLE-4).
    pub(crate) fn hear_of_waits(&self, session: &Session, said: Vec<(ProcessId, Said)>) {
        let mut new = Vec::new();
        for (process, said) in said {
            match said {
                Said::Waits { task, wait, object, actor } => {
                    let actor = actor.map(|actor| KeyData::from_ffi(actor).into());
                    self.waits.lock().add(task, LongWait { process, wait, object, actor });
                    new.push(task);
                }
                Said::WaitsNoMore { task, wait } => self.waits.lock().remove(task, process, wait),
            }
        }
        for task in new {
            let Some((wait, members)) = self.waits.circle_from(session, task) else { continue };
            if let Some(worker) = self.worker(wait.process) {
                worker.say(&ToWorker::Circle { wait: wait.wait, members });
            }
        }
    }
}

impl LongWaits {
    /// A worker is lost, and its waits with it.
    pub(crate) fn process_lost(&self, process: ProcessId) {
        let mut table = self.lock();
        table.of_tasks.retain(|_, wait| wait.process != process);
        let Table { of_tasks, alone } = &mut *table;
        alone.retain(|_, task| of_tasks.contains_key(task));
    }

    /// The wait of `own`, and who is in the circle that it closes, if it does. It does not count any more then.
    fn circle_from(&self, session: &Session, own: TaskKey) -> Option<(LongWait, Vec<String>)> {
        let mut seen = Vec::new(); // Dropped last, without the hub's lock: SESS-1.
        let hub = session.lock();
        let mut table = self.lock();
        let way = table.way(&hub, own, &mut seen)?;
        let wait = *table.of_tasks.get(&own)?;
        table.remove(own, wait.process, wait.wait);
        let members = way.iter().map(|task| named(&hub, *task)).collect();
        drop((table, hub));
        Some((wait, members))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("no thread panics while it holds the waits")
    }
}

impl Table {
    fn add(&mut self, task: TaskKey, wait: LongWait) {
        if let Some(actor) = wait.actor {
            self.alone.insert(actor, task);
        }
        self.of_tasks.insert(task, wait);
    }

    fn remove(&mut self, task: TaskKey, process: ProcessId, number: u64) {
        let is_it = |wait: &LongWait| (wait.process, wait.wait) == (process, number);
        let Some(wait) = self.of_tasks.get(&task).copied().filter(is_it) else { return };
        self.of_tasks.remove(&task);
        if let Some(actor) = wait.actor
            && self.alone.get(&actor) == Some(&task)
        {
            self.alone.remove(&actor);
        }
    }

    /// From `own` back to `own`.
    fn way(
        &self,
        hub: &Hub,
        own: TaskKey,
        seen: &mut Vec<Arc<dyn AnyObject>>,
    ) -> Option<Vec<TaskKey>> {
        let (mut way, mut at) = (vec![own], self.of_tasks.get(&own)?);
        while way.len() < MEMBERS_MAX {
            let object = hub.lent.find(at.object)?;
            let (key, is_there) = (object.key(), object.is_ready());
            seen.push(object);
            let task = hub.owner.producer(key).filter(|_| !is_there)?;
            let mut waiting = task;
            if !self.of_tasks.contains_key(&task) {
                let Target::Actor(actor) = hub.owner.task(task)?.target else { return None };
                way.push(task);
                waiting = *self.alone.get(&actor)?;
            }
            if waiting == own {
                return Some(way);
            }
            way.push(waiting);
            at = self.of_tasks.get(&waiting)?;
        }
        None
    }
}

/// The worker's side: the long waits that the driver knows of.
#[derive(Default)]
pub(crate) struct Told(Mutex<HashMap<u64, Arc<Slot<Vec<String>>>>>);

impl Upstream {
    /// Waits for what comes into `slot`, the place of an object.
    ///
    /// # Errors
    /// When it would wait for ever, in a circle.
    pub(crate) fn wait_for_value<'a, T>(
        &self,
        object: u64,
        slot: &'a Slot<T>,
    ) -> Result<Option<&'a T>> {
        if let Some(value) = self.leader.wait_for(slot, Some(Instant::now() + LONG)) {
            return Ok(Some(value));
        }
        let context = context::current().filter(|context| !context.task.is_null());
        let Some(context) = context else { return Ok(self.leader.wait_for(slot, None)) };
        let actor = context::actor_of_caller(context.caller).map(|actor| actor.data().as_ffi());
        let actor = actor.filter(|actor| self.serving.hosts.runs_alone(*actor).is_some());
        let (wait, task) = (self.name(), context.task.data().as_ffi());
        let circle = Arc::new(Slot::new());
        self.told.lock().insert(wait, circle.clone());
        self.send(&ToDriver::Waits { task, wait, object, actor }, &[]);
        self.leader.wait_for_either(slot, &circle);
        self.told.lock().remove(&wait);
        self.say(&ToDriver::WaitsNoMore { task, wait });
        match (slot.get(), circle.get()) {
            (None, Some(members)) => Err(Error::new(match self.waits_for_itself(object) {
                Some(actor) => Kind::WaitsForItself { actor },
                None => Kind::Circle { members: members.clone() },
            })),
            (value, _) => Ok(value),
        }
    }

    /// The driver has found a circle.
    pub(crate) fn circle_found(&self, wait: u64, members: Vec<String>) {
        let told = self.told.lock().get(&wait).cloned();
        if let Some(told) = told {
            let first = told.set(members).is_ok();
            debug_assert!(first, "a wait is told of one circle");
        }
    }
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot<Vec<String>>>>> {
        self.0.lock().expect("no thread panics while it holds what was told")
    }
}
