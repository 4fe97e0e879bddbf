//! Owns what one process created: tasks, and the objects they return.
//!
//! # Words
//! An object is *held* by this process's handles (counted once, however many clones there are), by
//! *uses* (unfinished tasks that take it as an argument) and by *borrowers* (other processes with
//! handles to it). A task *waits* until its arguments are ready, is then *queued* under its class or
//! handed to its actor, is *lent* to a worker, and ends. `J`, the job, is what the shell needs to run
//! the task; the machine only keeps it, and hands it out with each attempt.
//!
//! # Protocol
//! 1. [`Owner::expect`] makes the objects that a task will return, [`Owner::submit`] the task.
//! 2. When its last argument is ready the task is queued; [`Effect::Queued`] asks the shell to see
//!    that a lease exists. [`Owner::lend`] hands the oldest task of a class to a worker. Tasks for an
//!    actor lie in that actor's queue from the start; [`Effect::CallReady`] opens it for them.
//! 3. [`Owner::finished`] ends a task, readies or fails its objects and, through them, the tasks
//!    that wait. A task whose argument failed is never run: [`Effect::Fail`] hands its job back.
//! 4. An attempt that failed or was lost goes back to the queue while retries are left.
//! 5. An object that nobody holds is freed, once, at once, and after its task has ended or was given up.
//!
//! ```text
//!  Waiting --ready--> Queued --lend--> Lent --finished--> (gone)
//!     |                 ^               |
//!     |                 +---- retry ----+
//!     +--argument failed / cancelled----------> (gone, its objects failed)
//! ```
//!
//! # Invariants
//! - **OWN-1 (counted).** An object is freed only when handles, uses and borrowers are all zero.
//! - **OWN-2 (once).** A task ends once. What an earlier attempt reports later is not heard.
//! - **OWN-3 (bounded).** A task is lent at most `1 + retries` times, those aside that it was given back
//!   without having begun.
//! - **OWN-4 (no leak).** When every task has ended and every holder has let go, nothing is left.
//!
//! # Not promised
//! Where a value lies, and waking those who wait for it, are affairs of the shell.

use std::collections::{BTreeMap, VecDeque};

use slotmap::{SlotMap, new_key_type};

use crate::ids::ProcessId;
use crate::plant::{Plant, Plants};

mod views;

pub use views::{ObjectView, Tally, TaskView};

new_key_type! {
    /// Names a task within its owner; never reused.
    pub struct TaskKey;
    /// Names an object within its owner; never reused.
    pub struct ObjectKey;
    /// Names an actor within its owner; never reused.
    pub struct ActorKey;
}

/// Tasks of one class can be served by the same lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

/// How often a task was lent before; names one attempt.
pub type Attempt = u32;

/// Where a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// On any worker with a lease for this class.
    Class(ClassId),
    /// In the queue of this actor, which keeps the job.
    Actor(ActorKey),
}

/// The objects that a task returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returns {
    /// The usual case, without an allocation.
    One(ObjectKey),
    /// None or several.
    Many(Box<[ObjectKey]>),
}

impl Returns {
    /// The objects in order.
    pub fn as_slice(&self) -> &[ObjectKey] {
        match self {
            Returns::One(object) => std::slice::from_ref(object),
            Returns::Many(objects) => objects,
        }
    }
}

/// A task as it is submitted.
#[derive(Debug)]
pub struct Submit<J> {
    /// Where it runs.
    pub target: Target,
    /// What the shell needs to run it; `None` if the actor's queue keeps it.
    pub job: Option<J>,
    /// Its arguments that are objects of this owner.
    pub needs: Box<[ObjectKey]>,
    /// What it returns, from [`Owner::expect`].
    pub returns: Returns,
    /// How often it may be tried again.
    pub retries: u32,
}

/// What the shell has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<J> {
    /// A task joined the queue of this class: see that a lease for it exists or is asked for.
    Queued(ClassId),
    /// The arguments of a call are ready: tell its actor's queue.
    CallReady(ActorKey, TaskKey),
    /// An argument of this task failed. Give its error to the objects of the task, then report the
    /// task as finished.
    Fail(TaskKey, J),
    /// The same for a call; its job lies in the actor's queue.
    CallFailed(ActorKey, TaskKey),
    /// No other process borrows this object any more: what was kept for them can go.
    Unborrowed(ObjectKey),
    /// Nobody holds this object any more: drop its value.
    Free(ObjectKey),
}

/// What became of an attempt that did not succeed.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Retry<J> {
    /// The task is queued again.
    Again,
    /// No retries are left: fail its objects and report it as finished.
    Exhausted(J),
    /// An earlier attempt, or a task that has ended: nobody waits for this.
    Stale(J),
}

/// What [`Owner::cancel`] found.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Cancel<J> {
    /// The task had not started. Fail its objects and report it as finished.
    Taken(TaskKey, J),
    /// It is a call of this actor: ask the actor's queue.
    Call(ActorKey, TaskKey),
    /// It runs: only its worker can stop it.
    Lent(TaskKey),
    /// There is nothing to cancel.
    Ended,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many of its arguments are not ready.
    Waiting(u32),
    /// It could run.
    Queued,
    /// A worker has it.
    Running,
}

/// Counts for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Objects that somebody holds, or whose task has not ended.
    pub objects: usize,
}

/// The machine; see the module's documentation.
#[derive(Debug)]
pub struct Owner<J> {
    tasks: SlotMap<TaskKey, Task<J>>,
    objects: SlotMap<ObjectKey, Object>,
    queues: Vec<VecDeque<TaskKey>>,
    /// How many tasks of each class are queued; a queue may also hold keys that were claimed.
    queued: Vec<usize>,
    /// How many tasks workers have, and how many are calls: for reports, which must not count.
    lent: usize,
    calls: usize,
    borrows: BTreeMap<ProcessId, BTreeMap<ObjectKey, u32>>,
    effects: VecDeque<Effect<J>>,
    /// Whether this process stops: nothing is tried again.
    stopping: bool,
    plants: Plants,
}

#[derive(Debug)]
struct Task<J> {
    state: State<J>,
    target: Target,
    attempt: Attempt,
    retries_left: u32,
    needs: Box<[ObjectKey]>,
    returns: Returns,
}

#[derive(Debug)]
enum State<J> {
    /// How many arguments are not ready yet.
    Waiting(u32, Option<J>),
    Queued(J),
    Lent,
    /// Handed to the shell to be failed; only `finished` is to come.
    Failing,
}

#[derive(Debug)]
struct Object {
    status: Status,
    /// How many handles this process has, clones not counted.
    handles: u32,
    uses: u32,
    borrows: u32,
    /// The task that makes it; null for a `put`.
    producer: TaskKey,
    /// Tasks that wait for it; behind a pointer, since for most objects there are none.
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting(Vec<TaskKey>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Ready,
    Failed,
}

impl<J> Default for Owner<J> {
    fn default() -> Self {
        Self::new()
    }
}

impl<J> Owner<J> {
    /// An owner of nothing.
    pub fn new() -> Self {
        Owner {
            tasks: SlotMap::with_key(),
            objects: SlotMap::with_key(),
            queues: Vec::new(),
            queued: Vec::new(),
            lent: 0,
            calls: 0,
            borrows: BTreeMap::new(),
            effects: VecDeque::new(),
            stopping: false,
            plants: Plants::NONE,
        }
    }

    /// An owner with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(plants: Plants) -> Self {
        Owner { plants, ..Self::new() }
    }

    /// What the shell has to do next. Call until `None`.
    pub fn poll_effect(&mut self) -> Option<Effect<J>> {
        self.effects.pop_front()
    }

    /// An object that a task will return; this process has a handle to it.
    pub fn expect(&mut self) -> ObjectKey {
        self.insert_object(Status::Pending)
    }

    /// An object whose value is there; this process has a handle to it.
    pub fn put(&mut self) -> ObjectKey {
        self.insert_object(Status::Ready)
    }

    /// A task was submitted. Says whether it waits for arguments: a call that does not is ready from
    /// the start, and nothing more is said about it.
    pub fn submit(&mut self, submit: Submit<J>) -> (TaskKey, bool) {
        let Submit { target, job, needs, returns, retries } = submit;
        let key = self.tasks.insert(Task {
            state: State::Waiting(0, None),
            target,
            attempt: 0,
            retries_left: retries,
            needs: Box::default(),
            returns,
        });
        self.calls += usize::from(matches!(target, Target::Actor(_)));
        let failed = self.use_needs(key, &needs);
        let waiting = needs.iter().filter(|need| self.is_pending(**need)).count() as u32;
        let task = &mut self.tasks[key];
        for object in task.returns.as_slice() {
            self.objects[*object].producer = key;
        }
        task.needs = needs;
        task.state = State::Waiting(waiting, job);
        if failed {
            self.fail_waiting(key);
        } else if waiting == 0 && matches!(target, Target::Class(_)) {
            self.start(key);
        }
        (key, waiting > 0 || failed)
    }

    /// The oldest queued task of a class goes to a worker.
    pub fn lend(&mut self, class: ClassId) -> Option<(TaskKey, Attempt, J)> {
        let queue = self.queues.get_mut(class.0 as usize)?;
        while let Some(key) = queue.pop_front() {
            if let Some(task) = self.tasks.get_mut(key)
                && let Some(lent) = Self::lend_task(task)
            {
                self.queued[class.0 as usize] -= 1;
                self.lent += 1;
                return Some((key, lent.0, lent.1));
            }
            // Claimed, cancelled, or queued a second time by a retry that was claimed.
        }
        None
    }

    /// Hands out the task that makes `object`, if it is queued: whoever waits for the object may run
    /// it. Says the task's class too.
    pub fn claim(&mut self, object: ObjectKey) -> Option<(TaskKey, Attempt, J)> {
        let producer = self.objects.get(object)?.producer;
        let task = self.tasks.get_mut(producer)?;
        let Target::Class(class) = task.target else { return None };
        let (attempt, job) = Self::lend_task(task)?;
        self.queued[class.0 as usize] -= 1;
        self.lent += 1;
        self.compact(class);
        Some((producer, attempt, job))
    }

    /// The class of the task that makes `object`, if that task is queued.
    pub fn claimable(&self, object: ObjectKey) -> Option<ClassId> {
        let task = self.tasks.get(self.objects.get(object)?.producer)?;
        match (&task.state, task.target) {
            (State::Queued(_), Target::Class(class)) => Some(class),
            _ => None,
        }
    }

    /// How many tasks of a class are queued.
    pub fn queued(&self, class: ClassId) -> usize {
        self.queued.get(class.0 as usize).copied().unwrap_or(0)
    }

    /// A task has ended and its objects have their values, or their errors.
    ///
    /// Returns false, and does nothing, if this attempt is not the one awaited (OWN-2).
    pub fn finished(&mut self, key: TaskKey, attempt: Attempt, success: bool) -> bool {
        let hear_stale = self.plants.has(Plant::HearStale);
        let current = self.tasks.get(key).is_some_and(|task| match task.state {
            State::Lent => task.attempt == attempt + 1 || hear_stale,
            State::Failing => true,
            // A call is reported by its actor's queue, whatever its state here.
            State::Waiting(..) => matches!(task.target, Target::Actor(_)),
            State::Queued(_) => false,
        });
        if !current {
            return false;
        }
        let task = self.tasks.remove(key).expect("it was there a line ago");
        self.lent -= usize::from(matches!(task.state, State::Lent));
        self.calls -= usize::from(matches!(task.target, Target::Actor(_)));
        let status = if success { Status::Ready } else { Status::Failed };
        for object in task.returns.as_slice() {
            self.settle(*object, status);
        }
        for need in &task.needs {
            self.objects[*need].uses -= 1;
            self.free_if_unheld(*need);
        }
        true
    }

    /// An attempt failed, or was lost with its worker, and may be tried again.
    pub fn retry(&mut self, key: TaskKey, attempt: Attempt, job: J) -> Retry<J> {
        let forget = self.plants.has(Plant::ForgetRetry);
        let Some(task) = self.tasks.get_mut(key) else { return Retry::Stale(job) };
        if !matches!(task.state, State::Lent) || task.attempt != attempt + 1 {
            return Retry::Stale(job);
        }
        let Target::Class(class) = task.target else { return Retry::Exhausted(job) };
        if task.retries_left == 0 || self.stopping {
            return Retry::Exhausted(job);
        }
        task.retries_left -= u32::from(!self.plants.has(Plant::RetryForEver));
        task.state = State::Queued(job);
        self.lent -= 1;
        if !forget {
            self.enqueue(key, class);
        }
        Retry::Again
    }

    /// A task was lost with its worker, but through no fault of its own: it had not begun, or had ended
    /// and nobody heard of it. It is first in its queue again, and has as many retries left as before.
    pub fn queue_again(&mut self, key: TaskKey, attempt: Attempt, job: J) -> Retry<J> {
        let Some(task) = self.tasks.get_mut(key) else { return Retry::Stale(job) };
        if !matches!(task.state, State::Lent) || task.attempt != attempt + 1 {
            return Retry::Stale(job);
        }
        let Target::Class(class) = task.target else { return Retry::Exhausted(job) };
        if self.stopping {
            return Retry::Exhausted(job);
        }
        task.state = State::Queued(job);
        self.lent -= 1;
        self.queues[class.0 as usize].push_front(key);
        self.queued[class.0 as usize] += 1;
        self.effects.push_back(Effect::Queued(class));
        Retry::Again
    }

    /// A task that was lent has not begun, and cannot: values that it takes are lost, and are made again as
    /// these objects. It waits for them, and has as many retries left as before.
    pub fn wait_again(
        &mut self,
        key: TaskKey,
        attempt: Attempt,
        job: J,
        needs: &[ObjectKey],
    ) -> Retry<J> {
        let Some(task) = self.tasks.get_mut(key) else { return Retry::Stale(job) };
        if !matches!(task.state, State::Lent) || task.attempt != attempt + 1 {
            return Retry::Stale(job);
        }
        if self.stopping || matches!(task.target, Target::Actor(_)) {
            return Retry::Exhausted(job);
        }
        task.attempt -= 1; // Nobody was told of this one.
        task.needs = task.needs.iter().chain(needs).copied().collect();
        task.state = State::Waiting(0, Some(job));
        self.lent -= 1;
        let failed = self.use_needs(key, needs);
        let waiting = needs.iter().filter(|need| self.is_pending(**need)).count() as u32;
        if let State::Waiting(left, _) = &mut self.tasks[key].state {
            *left = waiting;
        }
        if failed {
            self.fail_waiting(key);
        } else if waiting == 0 {
            self.start(key);
        }
        Retry::Again
    }

    /// How often a task that has not ended may be tried again.
    pub fn retries_left(&self, key: TaskKey) -> Option<u32> {
        self.tasks.get(key).map(|task| task.retries_left)
    }

    /// Somebody wants the task that makes `object` to stop.
    pub fn cancel(&mut self, object: ObjectKey) -> Cancel<J> {
        let Some(producer) = self.objects.get(object).map(|object| object.producer) else {
            return Cancel::Ended;
        };
        let Some(task) = self.tasks.get_mut(producer) else { return Cancel::Ended };
        if let Target::Actor(actor) = task.target {
            return Cancel::Call(actor, producer);
        }
        match std::mem::replace(&mut task.state, State::Failing) {
            State::Queued(job) => {
                let Target::Class(class) = task.target else {
                    unreachable!("calls are not queued")
                };
                self.queued[class.0 as usize] -= 1;
                self.compact(class);
                Cancel::Taken(producer, job)
            }
            State::Waiting(_, Some(job)) => Cancel::Taken(producer, job),
            state @ State::Lent => {
                task.state = state;
                Cancel::Lent(producer)
            }
            State::Waiting(_, None) | State::Failing => Cancel::Ended,
        }
    }

    /// The task that makes `object` still runs, but in place of its values lies an error already,
    /// whatever it returns: tasks that wait for them need not wait for its end.
    pub fn given_up(&mut self, object: ObjectKey) {
        let producer = self.objects.get(object).map(|object| object.producer);
        let Some(task) = producer.and_then(|producer| self.tasks.get(producer)) else { return };
        for object in task.returns.clone().as_slice() {
            self.settle(*object, Status::Failed);
        }
    }

    /// The last handle of this process to `object` is gone.
    pub fn released(&mut self, object: ObjectKey) {
        if let Some(record) = self.objects.get_mut(object) {
            record.handles = record.handles.saturating_sub(1);
            if self.plants.has(Plant::FreeOnFirstRelease) {
                record.uses = 0;
                record.borrows = 0;
            }
            self.free_if_unheld(object);
        }
    }

    /// This process has one more handle to `object`, which is let go by itself; false if there is no such
    /// object any more.
    pub fn held_again(&mut self, object: ObjectKey) -> bool {
        let record = self.objects.get_mut(object);
        record.map(|record| record.handles += 1).is_some()
    }

    /// Another process has handles to `object` now.
    pub fn borrowed(&mut self, object: ObjectKey, by: ProcessId) {
        if self.plants.has(Plant::DropBorrow) {
            return;
        }
        if let Some(record) = self.objects.get_mut(object) {
            *self.borrows.entry(by).or_default().entry(object).or_insert(0) += 1;
            record.borrows += 1;
        }
    }

    /// Another process has given one borrow back.
    pub fn returned(&mut self, object: ObjectKey, by: ProcessId) {
        let Some(borrows) = self.borrows.get_mut(&by) else { return };
        let Some(count) = borrows.get_mut(&object) else { return };
        let given = if self.plants.has(Plant::ReleaseAll) { *count } else { 1 };
        *count -= given;
        if *count == 0 {
            borrows.remove(&object);
        }
        self.give_back(object, given);
    }

    /// A process is dead; it borrows nothing any more. What it ran is told by [`Owner::retry`].
    /// Says what it borrowed.
    pub fn process_lost(&mut self, process: ProcessId) -> Vec<ObjectKey> {
        if self.plants.has(Plant::KeepDeadBorrows) {
            return Vec::new();
        }
        let borrows = self.borrows.remove(&process).unwrap_or_default();
        for (object, count) in &borrows {
            self.give_back(*object, *count);
        }
        borrows.into_keys().collect()
    }

    /// Takes the jobs of all tasks that have not started: this process stops. Each task is still to
    /// be reported as finished; those that run are not tried again, for nobody would run them.
    pub fn drain(&mut self) -> Vec<(TaskKey, J)> {
        self.stopping = true;
        let mut jobs = Vec::new();
        for (key, task) in &mut self.tasks {
            match std::mem::replace(&mut task.state, State::Failing) {
                State::Queued(job) | State::Waiting(_, Some(job)) => jobs.push((key, job)),
                state => task.state = state,
            }
        }
        self.queues.iter_mut().for_each(VecDeque::clear);
        self.queued.fill(0);
        jobs
    }

    /// What the task that makes `object` is doing; `None` once it has ended.
    pub fn progress(&self, object: ObjectKey) -> Option<(Progress, Target)> {
        let task = self.tasks.get(self.objects.get(object)?.producer)?;
        Some((views::progress(&task.state), task.target))
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts { tasks: self.tasks.len(), objects: self.objects.len() }
    }

    /// Who holds an object: (this process has handles, uses, borrows); `None` once it is freed.
    pub fn holders(&self, object: ObjectKey) -> Option<(bool, u32, u32)> {
        self.objects.get(object).map(|object| (object.handles > 0, object.uses, object.borrows))
    }

    /// What the task that makes `object` still waits for: the arguments that are pending.
    pub fn pending_needs(&self, object: ObjectKey) -> Vec<ObjectKey> {
        let producer = self.objects.get(object).and_then(|object| self.tasks.get(object.producer));
        let needs = producer.map(|task| &*task.needs).unwrap_or_default();
        needs.iter().copied().filter(|need| self.is_pending(*need)).collect()
    }

    /// The task that makes `object`, while it has not ended.
    pub fn producer(&self, object: ObjectKey) -> Option<TaskKey> {
        self.objects
            .get(object)
            .map(|object| object.producer)
            .filter(|task| self.tasks.contains_key(*task))
    }

    fn insert_object(&mut self, status: Status) -> ObjectKey {
        self.objects.insert(Object {
            status,
            handles: 1,
            uses: 0,
            borrows: 0,
            producer: TaskKey::default(),
            waiting: None,
        })
    }

    fn is_pending(&self, object: ObjectKey) -> bool {
        self.objects[object].status == Status::Pending
    }

    /// Counts a task as a user of its arguments. Says whether one of them has failed already.
    fn use_needs(&mut self, key: TaskKey, needs: &[ObjectKey]) -> bool {
        let mut failed = false;
        for need in needs {
            let object = self.objects.get_mut(*need).expect("a task's arguments are held");
            object.uses += 1;
            failed |= object.status == Status::Failed;
            if object.status == Status::Pending {
                object.waiting.get_or_insert_default().0.push(key);
            }
        }
        failed
    }

    fn lend_task(task: &mut Task<J>) -> Option<(Attempt, J)> {
        match std::mem::replace(&mut task.state, State::Lent) {
            State::Queued(job) => {
                task.attempt += 1;
                Some((task.attempt - 1, job))
            }
            other => {
                task.state = other;
                None
            }
        }
    }

    /// All arguments are ready.
    fn start(&mut self, key: TaskKey) {
        let task = &mut self.tasks[key];
        let State::Waiting(_, job) = &mut task.state else { return };
        match task.target {
            Target::Class(class) => {
                let job = job.take().expect("a task that is not a call has its job");
                task.state = State::Queued(job);
                self.enqueue(key, class);
            }
            Target::Actor(actor) => self.effects.push_back(Effect::CallReady(actor, key)),
        }
    }

    fn enqueue(&mut self, key: TaskKey, class: ClassId) {
        let index = class.0 as usize;
        if self.queues.len() <= index {
            self.queues.resize_with(index + 1, VecDeque::new);
            self.queued.resize(index + 1, 0);
        }
        self.queues[index].push_back(key);
        self.queued[index] += 1;
        self.effects.push_back(Effect::Queued(class));
    }

    /// Claimed and cancelled tasks leave their keys in the queue; drops them when they are most of
    /// it, so that a queue nobody serves stays as small as what it holds.
    fn compact(&mut self, class: ClassId) {
        let index = class.0 as usize;
        let queue = &mut self.queues[index];
        if queue.len() > 2 * self.queued[index] + 64 {
            let tasks = &self.tasks;
            queue.retain(|key| {
                tasks.get(*key).is_some_and(|task| matches!(task.state, State::Queued(_)))
            });
        }
    }

    fn settle(&mut self, object: ObjectKey, status: Status) {
        // It was given up, and so has failed before, or is even gone.
        let pending = |record: &&mut Object| record.status == Status::Pending;
        let Some(record) = self.objects.get_mut(object).filter(pending) else { return };
        record.status = status;
        for key in record.waiting.take().unwrap_or_default().0 {
            if status == Status::Failed {
                self.fail_waiting(key);
            } else {
                self.argument_ready(key);
            }
        }
        self.free_if_unheld(object);
    }

    fn argument_ready(&mut self, key: TaskKey) {
        // The task may have been cancelled meanwhile, or failed by another argument.
        let Some(task) = self.tasks.get_mut(key) else { return };
        if let State::Waiting(left, _) = &mut task.state {
            *left -= 1;
            if *left == 0 {
                self.start(key);
            }
        }
    }

    fn fail_waiting(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if !matches!(task.state, State::Waiting(..)) {
            return;
        }
        let State::Waiting(_, job) = std::mem::replace(&mut task.state, State::Failing) else {
            return;
        };
        self.effects.push_back(match (task.target, job) {
            (Target::Actor(actor), _) => Effect::CallFailed(actor, key),
            (Target::Class(_), Some(job)) => Effect::Fail(key, job),
            (Target::Class(_), None) => unreachable!("a task that is not a call has its job"),
        });
    }

    /// OWN-1 and OWN-4: frees an object as soon as nobody can reach it, and not before.
    fn give_back(&mut self, object: ObjectKey, borrows: u32) {
        let record = &mut self.objects[object];
        record.borrows -= borrows;
        if record.borrows == 0 {
            self.effects.push_back(Effect::Unborrowed(object));
        }
        self.free_if_unheld(object);
    }

    fn free_if_unheld(&mut self, object: ObjectKey) {
        let record = &self.objects[object];
        let held = record.handles > 0 || record.uses > 0 || record.borrows > 0;
        let ended = record.status != Status::Pending;
        if !held && (ended || !self.tasks.contains_key(record.producer)) {
            self.objects.remove(object);
            self.effects.push_back(Effect::Free(object));
        }
    }
}

#[cfg(test)]
mod tests;
