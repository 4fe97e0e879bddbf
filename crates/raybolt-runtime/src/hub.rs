//! The machines of calls under one lock, and what they want done when it is released.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use raybolt_core::calls::fleet::Fleet;
use raybolt_core::calls::owner::{
    self, ActorKey, Attempt, ClassId, ObjectKey, Owner, Progress, Target, TaskKey,
};
use raybolt_core::calls::scheduler::{
    self, Demand, Infeasible, LeaseKey, Scheduler, display_units,
};
use slotmap::{Key, SlotMap};

use crate::actor::AnyActor;
use crate::error::{Error, Kind};
use crate::job::Job;
use crate::object::AnyObject;
use crate::processes::lent::Lent;

/// How far a message follows a chain of tasks that wait for each other.
const WHY_DEPTH: usize = 8;

/// What is to be done once the hub's lock is released.
pub(crate) enum Todo {
    /// Run tasks of this class under this lease.
    Serve(LeaseKey, ClassId),
    /// Start an actor that waited for this lease.
    Place(Arc<dyn AnyActor>, LeaseKey),
    /// An argument of this task failed.
    Fail(TaskKey, Box<dyn Job>),
    /// Nobody borrows this any more.
    LetGo(Arc<dyn AnyObject>),
    /// The arguments of this call are ready.
    CallReady(Arc<dyn AnyActor>, TaskKey),
    /// An argument of this call failed.
    CallFailed(Arc<dyn AnyActor>, TaskKey),
}

/// A task in the hands of a worker.
pub(crate) struct Work {
    pub(crate) task: TaskKey,
    pub(crate) attempt: Attempt,
    pub(crate) job: Box<dyn Job>,
}

/// A task that the thread which waits for its result runs itself.
pub(crate) struct Claimed {
    pub(crate) work: Work,
    /// The lease it runs under.
    pub(crate) lease: Option<LeaseKey>,
    /// Whether that lease was taken for it, and is to be returned.
    pub(crate) own_lease: bool,
}

/// The machines of calls of this process.
pub(crate) struct Hub {
    pub(crate) owner: Owner<Box<dyn Job>>,
    pub(crate) scheduler: Scheduler,
    /// Without workers in one process.
    pub(crate) fleet: Fleet,
    /// What other processes know of; nothing in one process.
    pub(crate) lent: Lent,
    pub(crate) actors: SlotMap<ActorKey, Weak<dyn AnyActor>>,
    /// Actors that wait for a lease, by class; all others of that class are tasks.
    placing: BTreeMap<ClassId, VecDeque<Arc<dyn AnyActor>>>,
    /// Bytes of the values that are there, about.
    /// A value may be counted after it was let go: for a moment the sum can be negative.
    pub(crate) bytes: i64,
    /// How many bytes `put` may fill.
    pub(crate) bytes_max: Option<usize>,
    /// How many values were copied into the store.
    pub(crate) copies: u64,
    pub(crate) ended: bool,
}

impl Hub {
    pub(crate) fn new(resources: &Demand, bytes_max: Option<usize>) -> Self {
        Hub {
            owner: Owner::new(),
            scheduler: Scheduler::new(resources),
            fleet: Fleet::new(),
            lent: Lent::default(),
            actors: SlotMap::with_key(),
            placing: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            copies: 0,
            ended: false,
        }
    }

    /// Whether a value of so many bytes may be stored.
    pub(crate) fn check_room(&self, needed: usize) -> Result<(), Error> {
        let used = self.bytes.max(0) as usize;
        match self.bytes_max {
            Some(limit) if used.saturating_add(needed) > limit => {
                Err(Error::new(Kind::StoreFull { needed, used, limit }))
            }
            _ => Ok(()),
        }
    }

    /// Passes effects from machine to machine until only the shell's part is left.
    pub(crate) fn settle(&mut self) -> Vec<Todo> {
        let mut todo = Vec::new();
        while let Some(effect) = self.owner.poll_effect() {
            match effect {
                owner::Effect::Queued(class) => {
                    self.scheduler.wanted(class, self.owner.queued(class));
                }
                owner::Effect::Fail(task, job) => todo.push(Todo::Fail(task, job)),
                owner::Effect::CallReady(actor, task) => {
                    todo.extend(self.actor(actor).map(|actor| Todo::CallReady(actor, task)));
                }
                owner::Effect::CallFailed(actor, task) => {
                    todo.extend(self.actor(actor).map(|actor| Todo::CallFailed(actor, task)));
                }
                // The value went with the last handle: that is how the owner came to know.
                owner::Effect::Free(object) => self.lent.forget(object),
                owner::Effect::Unborrowed(object) => {
                    todo.extend(self.lent.let_go(object).map(Todo::LetGo));
                }
            }
        }
        while let Some(effect) = self.scheduler.poll_effect() {
            match effect {
                scheduler::Effect::Grant(lease, class) => todo.extend(self.granted(lease, class)),
                scheduler::Effect::Ready(_) => {}
            }
        }
        todo
    }

    fn granted(&mut self, lease: LeaseKey, class: ClassId) -> Option<Todo> {
        let Some(waiting) = self.placing.get_mut(&class) else {
            return Some(Todo::Serve(lease, class));
        };
        let actor = waiting.pop_front();
        // The lease is the actor's for life: who waits behind it needs one of its own.
        self.scheduler.started(lease);
        self.scheduler.wanted(class, waiting.len());
        if actor.is_none() {
            self.scheduler.returned(lease);
        }
        actor.map(|actor| Todo::Place(actor, lease))
    }

    /// The next task of a class for whoever serves it under `lease`.
    pub(crate) fn lend(&mut self, lease: LeaseKey, class: ClassId) -> Option<Work> {
        let (task, attempt, job) = self.owner.lend(class)?;
        self.scheduler.started(lease);
        Some(Work { task, attempt, job })
    }

    /// Gives a lease back; its class may still have tasks.
    pub(crate) fn give_back(&mut self, lease: LeaseKey, class: ClassId) {
        self.scheduler.wanted(class, 0);
        self.scheduler.returned(lease);
        let queued = self.owner.queued(class);
        if queued > 0 {
            self.scheduler.wanted(class, queued);
        }
    }

    /// The queued task that makes `object`, for a thread that waits for it, which may hold the lease
    /// `held` itself. The task runs in place of that thread's own work, or under a lease that is to
    /// be had at once, or in place of a worker that was called for it and has not come yet.
    pub(crate) fn claim(&mut self, object: ObjectKey, held: Option<LeaseKey>) -> Option<Claimed> {
        let class = self.owner.claimable(object)?;
        let covered = held.filter(|lease| self.scheduler.covers(*lease, class));
        let expected = self.scheduler.is_awaited(class, self.owner.queued(class));
        let (lease, own_lease) = match covered {
            Some(lease) => (Some(lease), false),
            None if expected => (None, false),
            None => (Some(self.scheduler.lease_now(class)?), true),
        };
        let (task, attempt, job) = self.owner.claim(object)?;
        Some(Claimed { work: Work { task, attempt, job }, lease, own_lease })
    }

    /// An actor waits for a lease of this class.
    pub(crate) fn place(&mut self, class: ClassId, actor: Arc<dyn AnyActor>) {
        let waiting = self.placing.entry(class).or_default();
        waiting.push_back(actor);
        self.scheduler.wanted(class, waiting.len());
    }

    pub(crate) fn class(&mut self, name: &str, demand: &Demand) -> Result<ClassId, Infeasible> {
        self.scheduler.class(name, demand)
    }

    pub(crate) fn actor(&self, key: ActorKey) -> Option<Arc<dyn AnyActor>> {
        self.actors.get(key).and_then(Weak::upgrade)
    }

    /// No actor gets a lease any more: those that wait for one, to be dropped without the lock.
    pub(crate) fn stop_placing(&mut self) -> Vec<Arc<dyn AnyActor>> {
        self.placing.values_mut().flat_map(std::mem::take).collect()
    }

    /// What the object with this key waits for, in words.
    pub(crate) fn why(&self, object: ObjectKey) -> String {
        self.why_within(object, WHY_DEPTH)
    }

    fn why_within(&self, object: ObjectKey, depth: usize) -> String {
        let Some((progress, target)) = self.owner.progress(object) else {
            return "its task has ended".into();
        };
        let name = match target {
            Target::Class(class) => self.scheduler.class_name(class).to_owned(),
            Target::Actor(_) => "its actor".to_owned(),
        };
        match (progress, target) {
            (Progress::Waiting(_), _) => {
                let needs = self.owner.pending_needs(object);
                let count = needs.len();
                match needs.first() {
                    Some(first) if depth > 0 => {
                        let first = self.why_within(*first, depth - 1);
                        format!("`{name}` waits for {count} argument(s); of the first, {first}")
                    }
                    _ => format!("`{name}` waits for {count} argument(s), and so on"),
                }
            }
            (Progress::Running, Target::Class(_)) => format!("task `{name}` is running"),
            (Progress::Running, Target::Actor(_)) => "the call is running".into(),
            (Progress::Queued, Target::Actor(key)) => match self.actor(key) {
                Some(actor) => actor.why(),
                None => "its actor is gone".into(),
            },
            (Progress::Queued, Target::Class(class)) => match self.scheduler.lacking(class) {
                Some((resource, needed, available)) => format!(
                    "task `{name}` is queued for {resource}: {}, of which {} is free now",
                    display_units(needed),
                    display_units(available.max(0)),
                ),
                None => format!("task `{name}` is queued behind {} others", self.others(class)),
            },
        }
    }

    /// The name of the task that makes `object`.
    pub(crate) fn task_name(&self, object: ObjectKey) -> String {
        match self.owner.progress(object) {
            Some((_, Target::Class(class))) => self.scheduler.class_name(class).into(),
            Some((_, Target::Actor(key))) => {
                self.actor(key).map_or_else(|| "a call".into(), |actor| actor.name().to_owned())
            }
            None => format!("object {:x}", object.data().as_ffi()),
        }
    }

    fn others(&self, class: ClassId) -> usize {
        self.owner.queued(class).saturating_sub(1)
    }
}
