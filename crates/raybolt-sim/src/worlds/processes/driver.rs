//! The driver's shell: performs the effects of owner and scheduler, gives leases to workers, hears their
//! answers, and loses them.

use raybolt_core::calls::fleet::Assigned;
use raybolt_core::calls::kinds::{self, WorkerKind};
use raybolt_core::calls::owner::{self, Attempt, ClassId, Effect, ObjectKey, TaskKey};
use raybolt_core::calls::scheduler::{self, CPU, GPU, LeaseKey};
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{self, Outcome};

use super::messages::{Content, Parcel, ToDriver};
use super::tasks::{Lent, Record};
use super::{Event, World, lease_key, task_id, task_key};
use crate::trace::{Verdict, require};

/// A lease that the scheduler granted.
#[derive(Debug)]
pub struct Leased {
    class: ClassId,
    /// How many tasks it took since others had their turn.
    taken: u32,
    /// Whether it takes no more, since other classes wait.
    is_closing: bool,
    /// Tasks that were pushed and not answered, and how many of them said that they wait.
    out: u32,
    waits: u32,
    /// Whether the fleet says that its CPU is free.
    is_free: bool,
    /// Whether it ever had a task.
    has_served: bool,
    /// Whether a worker has it.
    is_given: bool,
}

impl Leased {
    fn new(class: ClassId) -> Self {
        Leased {
            class,
            taken: 0,
            is_closing: false,
            out: 0,
            waits: 0,
            is_free: false,
            has_served: false,
            is_given: false,
        }
    }
}

impl World<'_> {
    /// Performs effects until there are none.
    pub fn settle(&mut self) -> Verdict {
        loop {
            if let Some(effect) = self.owner.poll_effect() {
                self.shared.trace.line(|| format!("owner: {effect:?}"));
                self.perform(effect)?;
            } else if let Some((lease, _)) = {
                let (scheduler, owner) = (&self.scheduler, &self.owner);
                let surplus = |id| scheduler.starting(id).saturating_sub(owner.queued(id));
                self.fleet.in_vain(surplus)
            } {
                self.shared.trace.line(|| format!("fleet: {lease:?} waits in vain"));
                self.give_back(lease)?;
            } else if let Some(effect) = self.scheduler.poll_effect() {
                self.shared.trace.line(|| format!("scheduler: {effect:?}"));
                let scheduler::Effect::Grant(lease, class) = effect else {
                    unreachable!("no placement groups here");
                };
                self.granted(lease, class)?;
            } else if !self.settle_store()? {
                self.pushed_behind.clear();
                return self.none_waits_in_vain();
            }
        }
    }

    /// FLEET-4: there is a task for each lease that waits for a worker.
    fn none_waits_in_vain(&self) -> Verdict {
        if self.leases.values().all(|leased| leased.is_given) {
            return Ok(());
        }
        for (class, _) in &self.classes {
            let waits = |leased: &&Leased| leased.class == *class && !leased.is_given;
            let (waiting, queued) =
                (self.leases.values().filter(waits).count(), self.owner.queued(*class));
            require(waiting <= queued, "resources", || {
                format!(
                    "FLEET-4: {waiting} leases of {class:?} wait for a worker, and it has {queued} tasks"
                )
            })?;
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect<u64>) -> Verdict {
        match effect {
            Effect::Queued(class) => {
                self.want(class, self.owner.queued(class));
                Ok(())
            }
            Effect::Fail(task, _) => {
                self.tasks.argument_failed(task)?;
                self.fail(task, 0)
            }
            Effect::CallReady(actor, task) => self.call_ready(actor, task),
            Effect::CallFailed(actor, task) => self.call_failed(actor, task),
            Effect::Unborrowed(_) => Ok(()),
            Effect::Free(object) => {
                self.shared.holds.freed(object)?;
                for inside in self.contents.remove(&object).unwrap_or_default() {
                    self.drop_handle(inside);
                }
                self.unstore(object);
                self.stream_freed(object);
                Ok(())
            }
        }
    }

    fn granted(&mut self, lease: LeaseKey, class: ClassId) -> Verdict {
        let demand = &self.demands[&class];
        self.resources.granted(lease, class, demand, &self.scheduler)?;
        self.leases.insert(lease, Leased::new(class));
        if let Some(actor) = self.actor_of_class(class) {
            self.leased(lease).is_given = true;
            return self.actor_granted(actor, lease);
        }
        let is_exclusive = demand.iter().any(|(name, _)| name != CPU);
        let kind = kinds::of_lease(&self.scheduler, lease);
        match self.fleet.granted_to(kind.clone(), lease, class, is_exclusive) {
            Some(assigned) => self.refill(assigned.lease),
            None => {
                self.want_worker(kind);
                Ok(())
            }
        }
    }

    /// A lease waits for a worker of its kind: those end that have its GPUs, and one is started. Shared ones
    /// are always kept.
    fn want_worker(&mut self, kind: WorkerKind) {
        let superseded = self.fleet.superseded(&kind);
        superseded.into_iter().for_each(|process| self.kill(process));
        if kind != WorkerKind::Shared && !self.is_closing && self.starting.insert(kind.clone()) {
            let delay = self.shared.rng.within(&(1..=self.shared.options.detect_us));
            self.shared.clock.after(delay, Event::Join(kind));
        }
    }

    /// Pushes what there is room for under a lease, and returns it when nothing is left.
    fn refill(&mut self, lease: LeaseKey) -> Verdict {
        let Some(process) = self.fleet.process(lease) else { return Ok(()) };
        self.leased(lease).is_given = true;
        let slice_tasks = self.shared.options.slice_tasks;
        let class = self.leased(lease).class;
        while {
            let (queued, starting) = (self.owner.queued(class), self.scheduler.starting(class));
            self.fleet.takes_one(lease, queued, starting)
        } {
            let leased = self.leases.get_mut(&lease).expect("what is given was granted");
            let slice_over = leased.taken >= slice_tasks;
            leased.is_closing |= slice_over && self.scheduler.must_yield(lease);
            if leased.is_closing {
                break;
            }
            leased.taken = if slice_over { 1 } else { leased.taken + 1 };
            let Some((task, attempt, serial)) = self.owner.lend(class) else { break };
            self.resources.started(lease);
            self.scheduler.started(lease);
            self.tasks.lent(task, attempt)?;
            self.fleet.pushed(lease, self.shared.clock.now());
            let leased = self.leased(lease);
            leased.out += 1;
            leased.has_served = true;
            let is_behind = leased.out > 1;
            if is_behind && self.scheduler.starting(class) > 0 {
                self.pushed_behind.insert(class);
            }
            self.push(process, lease, task, Lent { attempt, lease: Some(lease), serial })?;
        }
        if self.fleet.is_idle(lease) {
            self.fleet.returned(lease);
            self.give_back(lease)?;
        }
        Ok(())
    }

    /// The scheduler hears how many tasks of a class are queued.
    pub fn want(&mut self, class: ClassId, queued: usize) {
        self.resources.wanted(class, &self.demands[&class], queued);
        self.scheduler.wanted(class, queued);
    }

    /// Returns a lease; its class may still have tasks.
    pub fn give_back(&mut self, lease: LeaseKey) -> Verdict {
        let leased = self.leases.remove(&lease).expect("a lease is returned once");
        self.resources.returned(lease);
        if self.actor_of_class(leased.class).is_some() {
            self.scheduler.returned(lease);
            return Ok(());
        }
        let came_in_vain = !leased.has_served && self.pushed_behind.contains(&leased.class);
        require(!came_in_vain, "resources", || {
            format!("FLEET-3: {lease:?} finds no task, since one was pushed behind another")
        })?;
        self.want(leased.class, 0);
        self.scheduler.returned(lease);
        let queued = self.owner.queued(leased.class);
        if queued > 0 {
            self.want(leased.class, queued);
        }
        Ok(())
    }

    /// A worker has proved itself.
    pub fn joined(&mut self, process: ProcessId, kind: WorkerKind) -> Verdict {
        self.records.insert(process, Record::of(kind.clone()));
        for Assigned { lease, .. } in self.fleet.ready_as(kind, process) {
            self.refill(lease)?;
        }
        let actors = self.fleet.waiting_actors();
        actors.into_iter().try_for_each(|actor| self.settle_down(actor))
    }

    /// A worker says something. What the dead say is not heard; a shell that forgets that is saved by
    /// OWN-2 and INC-1 where answers are concerned.
    pub fn heard(&mut self, from: ProcessId, message: ToDriver, parcel: &Parcel) -> Verdict {
        let is_answer = matches!(
            message,
            ToDriver::Work(
                work::ToDriver::Finished { .. }
                    | work::ToDriver::Called { .. }
                    | work::ToDriver::Yielded { .. }
            )
        );
        let is_dead = !self.records.contains_key(&from);
        if is_dead && !(is_answer && self.shared.options.hear_the_dead) {
            return Ok(());
        }
        match message {
            ToDriver::Work(message) => self.heard_of_work(from, message, parcel),
            other => self.asked_of_store(from, other),
        }
    }

    fn heard_of_work(
        &mut self,
        from: ProcessId,
        message: work::ToDriver,
        parcel: &Parcel,
    ) -> Verdict {
        match message {
            work::ToDriver::Finished { task, attempt, outcome, .. } => {
                self.answered(from, task_key(task), attempt, outcome, &parcel.values)
            }
            work::ToDriver::Called { actor, incarnation, number, outcome, .. } => {
                self.call_answered(from, (actor, incarnation, number), outcome, parcel)
            }
            work::ToDriver::ActorEnded { actor, incarnation, .. } => {
                self.actor_ended(actor, incarnation)
            }
            work::ToDriver::Yielded { task, attempt, index, .. } => {
                self.yielded((from, task_key(task), attempt), index, parcel)
            }
            work::ToDriver::Stalled { task, attempt, index, .. } => {
                self.stalled((from, task_key(task), attempt), index);
                Ok(())
            }
            work::ToDriver::Taken { stream, until } => {
                self.room_there(stream, from, until);
                Ok(())
            }
            work::ToDriver::Blocked { lease } => {
                let lease = lease_key(lease);
                if self.fleet.process(lease) != Some(from) {
                    return Ok(());
                }
                self.leased(lease).waits += 1;
                let is_free = self.fleet.blocked(lease);
                self.may_be_free(lease, is_free)
            }
            work::ToDriver::Unblocked { lease } => {
                let lease = lease_key(lease);
                if self.fleet.process(lease) != Some(from) {
                    return Ok(());
                }
                self.leased(lease).waits -= 1;
                if self.fleet.unblocked(lease) {
                    self.leased(lease).is_free = false;
                    self.resources.blocked(lease, false);
                    self.scheduler.unblocked(lease);
                }
                self.may_be_free(lease, false)
            }
            other => self.asked(from, other, parcel),
        }
    }

    fn leased(&mut self, lease: LeaseKey) -> &mut Leased {
        self.leases.get_mut(&lease).expect("what is given was granted")
    }

    /// The fleet was asked whether a lease's CPU is free from now on: while all its tasks wait, and only
    /// then.
    fn may_be_free(&mut self, lease: LeaseKey, becomes_free: bool) -> Verdict {
        let leased = self.leased(lease);
        leased.is_free |= becomes_free;
        let all_wait = leased.waits > 0 && leased.waits >= leased.out;
        require(leased.is_free == all_wait, "resources", || {
            format!("the CPU of {lease:?} is free: {}, of its tasks: {leased:?}", leased.is_free)
        })?;
        if becomes_free {
            self.resources.blocked(lease, true);
            self.scheduler.blocked(lease);
        }
        Ok(())
    }

    fn answered(
        &mut self,
        from: ProcessId,
        task: TaskKey,
        attempt: Attempt,
        outcome: Outcome,
        values: &[Content],
    ) -> Verdict {
        let record = self.records.get_mut(&from);
        let lent = record.and_then(|record| record.lent.remove(&task));
        match outcome {
            Outcome::Returned => self.finish(task, attempt, Some(from), values)?,
            Outcome::Failed if self.may_retry(task) => {
                self.retry(task, attempt, lent.map_or(u64::MAX, |lent| lent.serial))?;
            }
            Outcome::Failed => self.fail(task, attempt)?,
        }
        let Some(lease) = lent.and_then(|lent| lent.lease) else { return Ok(()) };
        self.leased(lease).out -= 1;
        let is_free = self.fleet.answered(lease, 1, self.shared.clock.now());
        self.may_be_free(lease, is_free)?;
        self.refill(lease)
    }

    fn may_retry(&self, task: TaskKey) -> bool {
        self.shared.options.retry_failures && !self.cancelled.contains(&task)
    }

    /// The driver sees the end of a worker's stream, or is told of its death: its tasks are retried, its
    /// borrows are void, its leases go.
    pub fn lost(&mut self, process: ProcessId) -> Verdict {
        let Some(record) = self.records.remove(&process) else { return Ok(()) };
        self.note(&[6, process.0], || format!("{process} is lost"));
        if !self.shared.options.hear_the_dead {
            self.shared.forget(process);
        }
        self.shared.holds.process_lost(process);
        self.owner.process_lost(process);
        self.store_lost(process)?;
        self.reader_lost(process);
        for waiting in self.asked.values_mut() {
            waiting.retain(|(by, _)| *by != process);
        }
        self.asked.retain(|_, waiting| !waiting.is_empty());
        for (task, lent) in record.lent {
            if self.cancelled.contains(&task) {
                self.fail(task, lent.attempt)?;
            } else if self.shared.rng.chance(self.shared.options.had_not_begun) {
                self.queue_again(task, lent)?;
            } else {
                self.retry(task, lent.attempt, lent.serial)?;
            }
        }
        for (lease, _) in self.fleet.lost(process) {
            self.give_back(lease)?;
        }
        for actor in self.actors_at(process) {
            self.actor_lost(actor)?;
        }
        // Others are started when they are wanted.
        if !self.is_closing && record.kind == WorkerKind::Shared {
            let delay = self.shared.rng.within(&(1..=self.shared.options.detect_us));
            self.shared.clock.after(delay, Event::Join(WorkerKind::Shared));
        }
        Ok(())
    }

    /// Somebody wants the task that makes an object to stop.
    pub fn cancel(&mut self, object: ObjectKey, force: bool) -> Verdict {
        match self.owner.cancel(object) {
            owner::Cancel::Taken(task, _) => {
                self.tasks.taken_back(task)?;
                self.fail(task, 0)
            }
            owner::Cancel::Call(actor, task) => {
                self.cancel_call(actor, task)?;
                self.give_up(task, object);
                Ok(())
            }
            owner::Cancel::Lent(task) => {
                self.cancelled.insert(task);
                let mut records = self.records.iter();
                let found = records.find(|(_, record)| record.lent.contains_key(&task));
                if let Some(process) = found.map(|(process, _)| *process) {
                    let message = work::ToWorker::Cancel { task: task_id(task) };
                    self.shared.tell(process, message, &Parcel::default());
                    if force && !self.shared.healed {
                        self.kill(process);
                    }
                }
                self.give_up(task, object);
                Ok(())
            }
            owner::Cancel::Ended => Ok(()),
        }
    }

    /// A task's deadline passes: whoever waits is told, and it is stopped.
    pub fn deadline_passed(&mut self, task: TaskKey, object: ObjectKey) -> Verdict {
        self.note(&[7], || format!("the deadline of {task:?} passes"));
        if self.tasks.has_ended(task) {
            return Ok(());
        }
        let force = self.shared.rng.chance(self.shared.options.force);
        self.cancel(object, force)
    }

    /// A thread that waits for an object runs its task itself, if that can be had.
    pub fn run_here(&mut self, object: ObjectKey) -> Verdict {
        let Some(class) = self.owner.claimable(object) else { return Ok(()) };
        if self.demands[&class].amount(GPU) > 0 {
            return Ok(()); // It runs in a process of its own kind.
        }
        let awaited = self.scheduler.is_awaited(class, self.owner.queued(class));
        let lease = if awaited { None } else { self.scheduler.lease_now(class) };
        if let Some(lease) = lease {
            self.resources.taken(lease, class, &self.demands[&class], &self.scheduler)?;
        } else if !awaited {
            return Ok(());
        }
        let (task, attempt, serial) = self.owner.claim(object).expect("it is claimable");
        self.tasks.lent(task, attempt)?;
        self.shared.trace.line(|| format!("the driver runs {task:?} itself"));
        let duration = self.shared.rng.within(&(1..=self.shared.options.task_us));
        self.shared.clock.after(duration, Event::RanHere(task, attempt, serial, lease));
        Ok(())
    }

    /// That task has ended.
    pub fn ran_here(
        &mut self,
        task: TaskKey,
        attempt: Attempt,
        serial: u64,
        lease: Option<LeaseKey>,
    ) -> Verdict {
        self.note(&[8, serial], || format!("the driver has run {task:?}"));
        if self.shared.rng.chance(self.shared.options.fail) && self.may_retry(task) {
            self.retry(task, attempt, serial)?;
        } else {
            self.finish(task, attempt, Some(super::DRIVER), &[])?;
        }
        if let Some(lease) = lease {
            self.resources.returned(lease);
            self.scheduler.returned(lease);
        }
        Ok(())
    }
}
