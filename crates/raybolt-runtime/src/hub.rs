//! The machines of calls under one lock, and what they want done when it is released.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use raybolt_core::calls::fleet::Fleet;
use raybolt_core::calls::lineage::Lineage;
use raybolt_core::calls::owner::{
    self, ActorKey, Attempt, ClassId, ObjectKey, Owner, Target, TaskKey,
};
use raybolt_core::calls::scheduler::{
    self, ClassSpec, Demand, LeaseKey, Refused, Scheduler, Within,
};
use raybolt_core::ids::JobId;
use slotmap::SlotMap;

use crate::actor::AnyActor;
use crate::error::{Error, Kind};
use crate::ids::Id;
use crate::job::Job;
use crate::members::Groups;
use crate::object::AnyObject;
use crate::processes::lent::Lent;
use crate::processes::lineage::{self, Recipe};

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
    /// The placement group of this task was removed before the task came back to its queue.
    Refuse(TaskKey, Attempt, Box<dyn Job>, Error),
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
    /// Tasks whose values may be lost; none in one process.
    pub(crate) lineage: Lineage<Arc<Recipe>>,
    pub(crate) actors: SlotMap<ActorKey, Weak<dyn AnyActor>>,
    /// Actors that wait for a lease, by class; all others of that class are tasks.
    placing: BTreeMap<ClassId, VecDeque<Arc<dyn AnyActor>>>,
    pub(crate) groups: Groups,
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
            lineage: Lineage::new(lineage::BYTES_MAX as u64),
            actors: SlotMap::with_key(),
            placing: BTreeMap::new(),
            groups: Groups::default(),
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
                owner::Effect::Queued(class) if self.scheduler.is_over(class) => {
                    while let Some((task, attempt, job)) = self.owner.lend(class) {
                        let group = self.groups.name_of_removed(class);
                        let error = Error::group_removed(job.name(), group);
                        todo.push(Todo::Refuse(task, attempt, job, error));
                    }
                }
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
        self.return_those_in_vain();
        while let Some(effect) = self.scheduler.poll_effect() {
            match effect {
                scheduler::Effect::Grant(lease, class) => todo.extend(self.granted(lease, class)),
                // Who waits for it is a task of it, which is granted a lease now.
                scheduler::Effect::Ready(_) => {}
            }
        }
        todo
    }

    /// FLEET-4: leases that wait for a worker, and whose tasks were cancelled or taken by others.
    fn return_those_in_vain(&mut self) {
        while let Some((lease, class)) = {
            let Hub { owner, scheduler, fleet, .. } = &mut *self;
            fleet.in_vain(|class| scheduler.starting(class).saturating_sub(owner.queued(class)))
        } {
            self.give_back(lease, class);
        }
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

    pub(crate) fn class(
        &mut self,
        name: &str,
        demand: &Demand,
        within: Within,
    ) -> Result<ClassId, Refused> {
        self.scheduler.class_of(ClassSpec { name, demand, job: JobId(0), within })
    }

    pub(crate) fn actor(&self, key: ActorKey) -> Option<Arc<dyn AnyActor>> {
        self.actors.get(key).and_then(Weak::upgrade)
    }

    /// No actor gets a lease any more: those that wait for one, to be dropped without the lock.
    pub(crate) fn stop_placing(&mut self) -> Vec<Arc<dyn AnyActor>> {
        self.placing.values_mut().flat_map(std::mem::take).collect()
    }

    /// The same for those of one class.
    pub(crate) fn stop_placing_of(&mut self, class: ClassId) -> VecDeque<Arc<dyn AnyActor>> {
        self.placing.remove(&class).unwrap_or_default()
    }

    /// The class of the lease that an actor waits for.
    pub(crate) fn placing_class(&self, actor: ActorKey) -> Option<ClassId> {
        let waits = |waiting: &VecDeque<Arc<dyn AnyActor>>| {
            waiting.iter().any(|waiting| waiting.key() == actor)
        };
        self.placing.iter().find(|(_, waiting)| waits(waiting)).map(|(class, _)| *class)
    }

    /// The name of a task that has not ended.
    pub(crate) fn name_of(&self, task: TaskKey) -> String {
        let Some(task) = self.owner.task(task) else { return "ended".into() };
        match (task.job, task.target) {
            (Some(job), _) => job.name().to_owned(),
            (None, Target::Class(class)) => self.scheduler.class_name(class).to_owned(),
            (None, Target::Actor(actor)) => {
                let call = self.actor(actor).and_then(|actor| actor.call(task.key));
                call.map_or("a call", |call| call.method()).to_owned()
            }
        }
    }

    /// The name of the task that makes `object`.
    pub(crate) fn task_name(&self, object: ObjectKey) -> String {
        match self.owner.producer(object) {
            Some(task) => self.name_of(task),
            None => Id::Object(object).to_string(),
        }
    }
}
