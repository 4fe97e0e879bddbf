//! The driver's shell: performs the effects of owner and scheduler, and hears what workers say.
//!
//! It does what the runtime's shells do, in the same order, with workers at the other end of a link.

use raybolt_core::calls::owner::{self, Attempt, ClassId, Effect, ObjectKey, Retry, TaskKey};
use raybolt_core::calls::scheduler::{self, LeaseKey};
use raybolt_core::ids::ProcessId;
use raybolt_wire::Envelope;
use raybolt_wire::envelope::BodyBuilder;
use raybolt_wire::message::{
    Arg, Failure, FailureKind, Lent, Message, Outcome, Payload, Task, TaskFinished,
};

use super::worker::{MAY_BLOCK, NEVER_BLOCKS};
use super::{DRIVER, World, lease_id, lease_key, object_id, object_key, task_id, task_key};
use crate::trace::{Verdict, require};

/// A lease in the hands of the shell.
#[derive(Debug)]
pub struct Leased {
    class: ClassId,
    /// Where it runs; nobody while there is no worker.
    pub worker: Option<ProcessId>,
    /// Tasks that were pushed and not answered.
    out: Vec<(TaskKey, Attempt, u64)>,
    taken: u32,
    /// Whether it takes no more, since other classes wait.
    closing: bool,
    /// Whether an actor lives under it.
    pub is_actor: bool,
}

impl World<'_> {
    /// Performs effects until there are none.
    pub fn settle(&mut self) -> Verdict {
        loop {
            if let Some(effect) = self.owner.poll_effect() {
                self.shared.trace.line(|| format!("owner: {effect:?}"));
                self.perform(effect)?;
            } else if let Some(effect) = self.scheduler.poll_effect() {
                self.shared.trace.line(|| format!("scheduler: {effect:?}"));
                match effect {
                    scheduler::Effect::Grant(lease, class) => self.granted(lease, class)?,
                    scheduler::Effect::Ready(group) => unreachable!("nobody asked for {group:?}"),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn perform(&mut self, effect: Effect<u64>) -> Verdict {
        match effect {
            Effect::Queued(class) => {
                self.want(class, self.owner.queued(class));
                let open: Vec<_> = self
                    .leases
                    .iter()
                    .filter(|(_, leased)| leased.class == class && !leased.is_actor)
                    .map(|(lease, _)| *lease)
                    .collect();
                open.into_iter().try_for_each(|lease| self.serve(lease))
            }
            Effect::Fail(task, _) => {
                self.tasks.argument_failed(task)?;
                self.finish(task, 0, false)
            }
            Effect::CallReady(actor, task) => self.call_ready(actor, task),
            Effect::CallFailed(actor, task) => self.call_failed(actor, task),
            Effect::Free(object) => self.shared.objects.freed(object),
            Effect::Unborrowed(_) => Ok(()), // Nothing is kept for borrowers here.
        }
    }

    fn granted(&mut self, lease: LeaseKey, class: ClassId) -> Verdict {
        let demand = &self.demands[&class];
        self.resources.granted(lease, class, demand, &self.scheduler)?;
        let leased = Leased {
            class,
            worker: None,
            out: Vec::new(),
            taken: 0,
            closing: false,
            is_actor: false,
        };
        self.leases.insert(lease, leased);
        self.house(lease)
    }

    /// Gives a lease a worker, the one with the fewest.
    fn house(&mut self, lease: LeaseKey) -> Verdict {
        let count = |process| self.leases.values().filter(|l| l.worker == Some(process)).count();
        let trusted = self.workers.values().filter(|worker| worker.trusted);
        let Some(process) = trusted.map(|worker| worker.process).min_by_key(|p| count(*p)) else {
            return Ok(());
        };
        let leased = self.leases.get_mut(&lease).expect("it was granted");
        leased.worker = Some(process);
        let class = leased.class;
        match self.actor_of_class(class) {
            Some(actor) => {
                leased_of(self, lease).is_actor = true;
                self.resources.started(lease);
                self.scheduler.started(lease);
                self.want(class, 0);
                self.actor_placed(actor, lease, process)
            }
            None => self.serve(lease),
        }
    }

    /// A worker has come: leases that had none go there.
    pub fn house_the_homeless(&mut self) -> Verdict {
        let homeless: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, leased)| leased.worker.is_none())
            .map(|(lease, _)| *lease)
            .collect();
        homeless.into_iter().try_for_each(|lease| self.house(lease))
    }

    /// Pushes tasks under a lease, and returns it when there are none.
    fn serve(&mut self, lease: LeaseKey) -> Verdict {
        let options = &self.shared.options;
        let (pipeline, slice_tasks) = (options.pipeline, options.slice_tasks);
        let leased = leased_of(self, lease);
        let (class, worker) = (leased.class, leased.worker);
        let Some(worker) = worker else { return Ok(()) };
        let mut tasks = Vec::new();
        let mut body = BodyBuilder::default();
        loop {
            let leased = leased_of(self, lease);
            let slice_over = leased.taken >= slice_tasks;
            if leased.closing || leased.out.len() >= pipeline {
                break;
            }
            if slice_over && self.scheduler.must_yield(lease) {
                leased_of(self, lease).closing = true;
                break;
            }
            let Some((task, attempt, serial)) = self.owner.lend(class) else { break };
            self.resources.started(lease);
            self.scheduler.started(lease);
            self.tasks.lent(task, attempt)?;
            let leased = leased_of(self, lease);
            leased.taken = if slice_over { 1 } else { leased.taken + 1 };
            leased.out.push((task, attempt, serial));
            tasks.push(self.message(serial, attempt, &mut body));
        }
        if !tasks.is_empty() {
            let message = Message::PushTasks { lease: lease_id(lease), tasks };
            self.shared.tell_worker(worker, &Envelope { message, body: body.finish() });
        }
        if leased_of(self, lease).out.is_empty() {
            self.give_back(lease);
        }
        Ok(())
    }

    /// The scheduler hears how many tasks of a class are queued.
    pub fn want(&mut self, class: ClassId, queued: usize) {
        self.resources.wanted(class, &self.demands[&class], queued);
        self.scheduler.wanted(class, queued);
    }

    /// Returns a lease; its class may still have tasks.
    pub fn give_back(&mut self, lease: LeaseKey) {
        let leased = self.leases.remove(&lease).expect("a lease is returned once");
        self.resources.returned(lease);
        if leased.is_actor {
            self.scheduler.returned(lease);
            return;
        }
        self.want(leased.class, 0);
        self.scheduler.returned(lease);
        let queued = self.owner.queued(leased.class);
        if queued > 0 {
            self.want(leased.class, queued);
        }
    }

    /// A task as it travels. Small values go along, others are asked for by the worker.
    pub fn message(&mut self, serial: u64, attempt: Attempt, body: &mut BodyBuilder) -> Task {
        let job = &self.jobs[&serial];
        let lend = |object: &ObjectKey| Lent { object: object_id(*object), owner: DRIVER };
        let mut args = Vec::new();
        for need in &job.needs {
            args.push(if self.shared.rng.chance(self.shared.options.inline_values) {
                let value = object_id(*need).0.to_le_bytes();
                let span = body.push(&value).expect("far below 4 GiB");
                Arg::Inline { span, lent: Vec::new() }
            } else {
                Arg::Object(lend(need))
            });
        }
        let span = body.push(&serial.to_le_bytes()).expect("far below 4 GiB");
        args.push(Arg::Inline { span, lent: job.lent.iter().map(lend).collect() });
        Task {
            task: task_id(job.key),
            attempt,
            function: if job.may_block { MAY_BLOCK } else { NEVER_BLOCKS }.into(),
            args,
            returns: job.returns,
            deadline_ms: None,
            request: None,
        }
    }

    /// A worker says something.
    pub fn heard(&mut self, from: ProcessId, message: Message) -> Verdict {
        let trusted = self.workers.get(&from).is_some_and(|worker| worker.trusted);
        let dead = !trusted && !self.has_leases(from);
        // What the dead say is not heard (MSG-1). A shell that has not heard of the death, or forgets
        // it, is saved by OWN-2 where answers are concerned.
        let answer = matches!(message, Message::TaskFinished(_));
        if dead && !(answer && self.shared.options.hear_the_dead) {
            return Ok(());
        }
        match message {
            Message::TaskFinished(TaskFinished { task, attempt, outcome }) => {
                self.answered(task_key(task), attempt, outcome)
            }
            Message::RefBorrowed { object, borrower } => {
                self.shared.objects.borrow_heard(object_key(object), borrower);
                self.owner.borrowed(object_key(object), borrower);
                Ok(())
            }
            Message::RefReleased { object, borrower } => {
                self.shared.objects.release_heard(object_key(object), borrower);
                self.owner.returned(object_key(object), borrower);
                Ok(())
            }
            Message::Fetch { object } => self.asked_for(object_key(object), from),
            Message::Blocked { lease } => {
                self.resources.blocked(lease_key(lease), true);
                self.scheduler.blocked(lease_key(lease));
                Ok(())
            }
            Message::Unblocked { lease } => {
                self.resources.blocked(lease_key(lease), false);
                self.scheduler.unblocked(lease_key(lease));
                Ok(())
            }
            other => unreachable!("no worker says {other:?}"),
        }
    }

    fn answered(&mut self, task: TaskKey, attempt: Attempt, outcome: Outcome) -> Verdict {
        if self.is_call(task) {
            return self.call_answered(task, attempt, matches!(outcome, Outcome::Returned(_)));
        }
        let is_out =
            |leased: &Leased| leased.out.iter().any(|out| (out.0, out.1) == (task, attempt));
        let lease = self.leases.iter().find(|(_, leased)| is_out(leased)).map(|(key, _)| *key);
        let serial = lease.and_then(|lease| {
            let leased = leased_of(self, lease);
            let position = leased.out.iter().position(|out| (out.0, out.1) == (task, attempt))?;
            Some(leased.out.remove(position).2)
        });
        self.conclude(task, attempt, serial, outcome)?;
        lease.map_or(Ok(()), |lease| self.serve(lease))
    }

    /// Ends an attempt as its outcome says; `serial` is known unless the answer is a stale one.
    pub fn conclude(
        &mut self,
        task: TaskKey,
        attempt: Attempt,
        serial: Option<u64>,
        outcome: Outcome,
    ) -> Verdict {
        match outcome {
            Outcome::Returned(_) => self.finish(task, attempt, true),
            Outcome::Failed(Failure { kind: FailureKind::Panicked, .. })
                if self.shared.options.retry_failures =>
            {
                self.retry(task, attempt, serial.unwrap_or(u64::MAX))
            }
            Outcome::Failed(_) | Outcome::Cancelled | Outcome::Expired => {
                self.finish(task, attempt, false)
            }
        }
    }

    /// An attempt failed or was lost: once more, or for good.
    pub fn retry(&mut self, task: TaskKey, attempt: Attempt, serial: u64) -> Verdict {
        let again = match self.owner.retry(task, attempt, serial) {
            Retry::Again => Some(true),
            Retry::Exhausted(_) => Some(false),
            Retry::Stale(_) => None,
        };
        self.tasks.retried(task, attempt, again)?;
        if again == Some(false) { self.finish(task, attempt, false) } else { Ok(()) }
    }

    /// Ends a task, unless the answer is a stale one.
    pub fn finish(&mut self, task: TaskKey, attempt: Attempt, success: bool) -> Verdict {
        let accepted = self.owner.finished(task, attempt, success);
        let ended = self.tasks.answered(task, attempt, success, accepted)?;
        let Some((needs, returns)) = ended else { return Ok(()) };
        for need in needs {
            self.shared.objects.unused(need);
        }
        let serial = self.serials.remove(&task);
        let job = serial.and_then(|serial| self.jobs.remove(&serial));
        for object in job.expect("an unfinished task has its job").lent {
            self.drop_handle(object);
        }
        self.delivered(returns, success);
        Ok(())
    }

    fn delivered(&mut self, objects: Vec<ObjectKey>, success: bool) {
        for object in objects {
            self.shared.objects.settled(object);
            self.tell_who_asked(object, success);
            self.got(object);
        }
    }

    /// Who waits for what a cancelled task makes need not wait for its end.
    fn give_up(&mut self, task: TaskKey, object: ObjectKey) {
        self.owner.given_up(object);
        let failed = self.tasks.given_up(task);
        self.delivered(failed, false);
    }

    /// A process asks for an object that it holds.
    fn asked_for(&mut self, object: ObjectKey, by: ProcessId) -> Verdict {
        self.shared.objects.fetched(object, by)?;
        let holders = self.owner.holders(object);
        require(holders.is_some(), "objects", || format!("the owner does not know {object:?}"))?;
        match self.tasks.result(object) {
            Some(success) => self.send_value(object, by, success),
            None => self.asked.entry(object).or_default().push(by),
        }
        Ok(())
    }

    fn tell_who_asked(&mut self, object: ObjectKey, success: bool) {
        for process in self.asked.remove(&object).unwrap_or_default() {
            self.send_value(object, process, success);
        }
    }

    fn send_value(&mut self, object: ObjectKey, to: ProcessId, success: bool) {
        let mut body = BodyBuilder::default();
        let value = if success {
            let span = body.push(&object_id(object).0.to_le_bytes()).expect("far below 4 GiB");
            Ok(Payload::Inline { span, lent: Vec::new() })
        } else {
            Err(Failure {
                kind: FailureKind::Dependency,
                function: NEVER_BLOCKS.into(),
                chain: Vec::new(),
                location: None,
                backtrace: None,
                value: None,
            })
        };
        let message = Message::Fetched { object: object_id(object), value };
        self.shared.tell_worker(to, &Envelope { message, body: body.finish() });
    }

    /// The node declares a worker dead: its tasks are retried, its borrows are void, its leases go.
    pub fn lost(&mut self, process: ProcessId) -> Verdict {
        self.note(&[5, process.0], || format!("{process} is declared dead"));
        if let Some(worker) = self.workers.get_mut(&process) {
            worker.trusted = false;
        }
        self.shared.objects.process_lost(process);
        self.owner.process_lost(process);
        let mut leases: Vec<_> =
            self.leases.iter().map(|(key, leased)| (*key, leased.worker)).collect();
        leases.retain(|(_, worker)| *worker == Some(process));
        for (lease, _) in leases {
            if leased_of(self, lease).is_actor {
                self.actor_lost(lease)?;
                continue;
            }
            for (task, attempt, serial) in std::mem::take(&mut leased_of(self, lease).out) {
                self.retry(task, attempt, serial)?;
            }
            self.give_back(lease);
        }
        let delay = self.shared.rng.within(&(1..=self.shared.options.detect_us));
        self.shared.clock.after(delay, super::Event::Join);
        Ok(())
    }

    /// Somebody wants the task that makes an object to stop.
    pub fn cancel(&mut self, object: ObjectKey) -> Verdict {
        match self.owner.cancel(object) {
            owner::Cancel::Taken(task, _) => {
                self.tasks.taken_back(task)?;
                self.finish(task, 0, false)
            }
            owner::Cancel::Call(actor, task) => {
                self.cancel_call(actor, task)?;
                self.give_up(task, object);
                Ok(())
            }
            owner::Cancel::Lent(task) => {
                let out = |leased: &&Leased| leased.out.iter().any(|(other, _, _)| *other == task);
                if let Some(worker) = self.leases.values().find(out).and_then(|l| l.worker) {
                    let message = Message::Cancel { task: task_id(task), force: false };
                    self.shared.tell_worker(worker, &Envelope::new(message));
                }
                self.give_up(task, object);
                Ok(())
            }
            owner::Cancel::Ended => Ok(()),
        }
    }

    /// One handle of this process less.
    pub fn drop_handle(&mut self, object: ObjectKey) {
        if self.shared.objects.dropped(object) {
            self.owner.released(object);
        }
    }

    /// A thread that waits for an object runs its task itself, if that can be had.
    pub fn run_here(&mut self, object: ObjectKey) -> Verdict {
        let Some(class) = self.owner.claimable(object) else { return Ok(()) };
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
        self.shared.clock.after(duration, super::Event::RanHere(task, attempt, serial, lease));
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
        self.note(&[6, serial], || format!("the driver has run {task:?}"));
        if self.shared.rng.chance(self.shared.options.fail) && self.shared.options.retry_failures {
            self.retry(task, attempt, serial)?;
        } else {
            self.finish(task, attempt, true)?;
        }
        if let Some(lease) = lease {
            self.resources.returned(lease);
            self.scheduler.returned(lease);
        }
        Ok(())
    }

    fn has_leases(&self, process: ProcessId) -> bool {
        self.leases.values().any(|leased| leased.worker == Some(process))
    }
}

fn leased_of<'a>(world: &'a mut World<'_>, lease: LeaseKey) -> &'a mut Leased {
    world.leases.get_mut(&lease).expect("the shell speaks of leases that it holds")
}
