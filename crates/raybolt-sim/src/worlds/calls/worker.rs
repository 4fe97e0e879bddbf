//! A worker process, as simple as one can be: it does what messages say, and user code does what chance
//! says.
//!
//! Under one lease tasks run one after the other; but one that is blocked lets the next one start, for
//! the object it waits for may be made by a task behind it. An actor's calls start as they arrive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raybolt_core::ids::{LeaseId, ObjectId, ProcessId, TaskId};
use raybolt_wire::Envelope;
use raybolt_wire::envelope::BodyBuilder;
use raybolt_wire::message::{
    Arg, Failure, FailureKind, Lent, Message, Outcome, Payload, Task, TaskFinished,
};

use super::{Event, Shared};
use crate::trace::Verdict;

/// The function whose tasks may wait in `get`. Those that hold more than a CPU must not: they keep it
/// while they wait, perhaps for a task that needs it.
pub const MAY_BLOCK: &str = "may_block";
/// The function of all others.
pub const NEVER_BLOCKS: &str = "never_blocks";

/// A process that runs user code.
#[derive(Debug)]
pub struct Worker {
    /// Its name, never used again.
    pub process: ProcessId,
    /// Whether its node believes that it lives.
    pub trusted: bool,
    /// Tasks that were pushed and have not started, by lease.
    lines: BTreeMap<LeaseId, VecDeque<Task>>,
    /// What runs, by task.
    runs: BTreeMap<TaskId, Run>,
    /// Leases of which the node knows that all their tasks wait.
    blocked: BTreeSet<LeaseId>,
    /// Who waits for the answer to a `Fetch`, first asked first.
    fetches: BTreeMap<ObjectId, VecDeque<TaskId>>,
}

#[derive(Debug)]
struct Run {
    task: Task,
    /// A call of an actor has none of its own.
    lease: Option<LeaseId>,
    phase: Phase,
    cancelled: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for so many arguments.
    Resolving(usize),
    Running,
    Blocked,
}

impl Worker {
    /// A worker that was just started.
    pub fn new(process: ProcessId) -> Self {
        Worker {
            process,
            trusted: true,
            lines: BTreeMap::new(),
            runs: BTreeMap::new(),
            blocked: BTreeSet::new(),
            fetches: BTreeMap::new(),
        }
    }

    /// A message arrives.
    pub fn heard(&mut self, shared: &mut Shared, envelope: Envelope) -> Verdict {
        match envelope.message {
            Message::PushTasks { lease, tasks } => {
                self.lines.entry(lease).or_default().extend(tasks);
                self.start_next(shared, lease)
            }
            Message::PushCalls { calls, .. } => {
                calls.into_iter().try_for_each(|call| self.start(shared, None, call.task))
            }
            Message::Cancel { task, .. } => self.cancel(shared, task),
            Message::Fetched { object, value } => self.fetched(shared, object, value.is_ok()),
            other => unreachable!("nobody sends {other:?} to a worker"),
        }
    }

    /// User code has come to its next step: it blocks, or ends.
    pub fn stepped(&mut self, shared: &mut Shared, task: TaskId, attempt: u32) -> Verdict {
        let Some(run) = self.runs.get_mut(&task) else { return Ok(()) };
        if run.task.attempt != attempt || run.phase != Phase::Running {
            return Ok(());
        }
        let lent: Vec<_> = lent_values(&run.task).collect();
        let may_block = run.task.function == MAY_BLOCK && run.lease.is_some() && !lent.is_empty();
        let blocks = may_block && shared.rng.chance(shared.options.block);
        if !blocks {
            return self.end(shared, task);
        }
        run.phase = Phase::Blocked;
        let lease = run.lease.expect("it was asked a moment ago");
        let object = shared.rng.pick(&lent).object;
        self.fetch(shared, task, object);
        self.start_next(shared, lease)
    }

    /// User code uses a reference that it kept, once more or for the last time.
    pub fn uses_kept(&mut self, shared: &mut Shared, object: ObjectId, last: bool) {
        if last {
            if self.trusted {
                shared.objects.let_go(super::object_key(object), self.process);
            }
            let borrower = self.process;
            self.say(shared, Message::RefReleased { object, borrower });
        } else {
            self.say(shared, Message::Fetch { object });
        }
    }

    /// Starts the next task under a lease, unless one runs.
    fn start_next(&mut self, shared: &mut Shared, lease: LeaseId) -> Verdict {
        if !self.is_working(lease)
            && let Some(task) = self.lines.get_mut(&lease).and_then(VecDeque::pop_front)
        {
            self.start(shared, Some(lease), task)?;
        }
        self.tell_whether_blocked(shared, lease);
        Ok(())
    }

    fn is_working(&self, lease: LeaseId) -> bool {
        self.runs.values().any(|run| run.lease == Some(lease) && run.phase != Phase::Blocked)
    }

    /// The lease's CPU is free while all its tasks wait, and only then.
    fn tell_whether_blocked(&mut self, shared: &mut Shared, lease: LeaseId) {
        let working = self.is_working(lease);
        let is_over = !self.runs.values().any(|run| run.lease == Some(lease));
        if is_over {
            self.blocked.remove(&lease);
        } else if working && self.blocked.remove(&lease) {
            self.say(shared, Message::Unblocked { lease });
        } else if !working && self.blocked.insert(lease) {
            self.say(shared, Message::Blocked { lease });
        }
    }

    fn start(&mut self, shared: &mut Shared, lease: Option<LeaseId>, task: Task) -> Verdict {
        let id = task.task;
        let missing: Vec<_> = task
            .args
            .iter()
            .filter_map(|arg| match arg {
                Arg::Object(lent) => Some(lent.object),
                Arg::Inline { .. } => None,
            })
            .collect();
        let phase = Phase::Resolving(missing.len());
        self.runs.insert(id, Run { task, lease, phase, cancelled: false });
        for object in &missing {
            self.fetch(shared, id, *object);
        }
        if missing.is_empty() {
            self.run(shared, id);
        }
        Ok(())
    }

    fn run(&mut self, shared: &mut Shared, task: TaskId) {
        let run = self.runs.get_mut(&task).expect("it was started");
        run.phase = Phase::Running;
        let duration = shared.rng.within(&(1..=shared.options.task_us));
        let attempt = run.task.attempt;
        shared.clock.after(duration, Event::Step(self.process, task, attempt));
    }

    fn fetch(&mut self, shared: &mut Shared, task: TaskId, object: ObjectId) {
        self.fetches.entry(object).or_default().push_back(task);
        self.say(shared, Message::Fetch { object });
    }

    fn fetched(&mut self, shared: &mut Shared, object: ObjectId, there: bool) -> Verdict {
        let waiting = self.fetches.get_mut(&object).and_then(VecDeque::pop_front);
        let Some((task, run)) =
            waiting.and_then(|task| self.runs.get_mut(&task).map(|run| (task, run)))
        else {
            return Ok(()); // A kept reference was used, or the task has ended.
        };
        match run.phase {
            Phase::Resolving(_) if !there => {
                self.answer(shared, task, Err(FailureKind::Dependency))
            }
            Phase::Resolving(missing) => {
                run.phase = Phase::Resolving(missing - 1);
                if missing == 1 {
                    self.run(shared, task);
                }
                Ok(())
            }
            Phase::Blocked => {
                let lease = run.lease.expect("only tasks block");
                self.run(shared, task);
                self.tell_whether_blocked(shared, lease);
                Ok(())
            }
            Phase::Running => Ok(()),
        }
    }

    fn cancel(&mut self, shared: &mut Shared, task: TaskId) -> Verdict {
        for line in self.lines.values_mut() {
            if let Some(position) = line.iter().position(|other| other.task == task) {
                let task = line.remove(position).expect("it was found there");
                let (task, attempt) = (task.task, task.attempt);
                let outcome = Outcome::Cancelled;
                self.say(shared, Message::TaskFinished(TaskFinished { task, attempt, outcome }));
                return Ok(());
            }
        }
        if let Some(run) = self.runs.get_mut(&task) {
            run.cancelled = true;
        }
        Ok(())
    }

    fn end(&mut self, shared: &mut Shared, task: TaskId) -> Verdict {
        let fails = shared.rng.chance(shared.options.fail);
        self.answer(shared, task, if fails { Err(FailureKind::Panicked) } else { Ok(()) })
    }

    /// Answers a task; references that it keeps are told of first (MSG-3).
    fn answer(
        &mut self,
        shared: &mut Shared,
        task: TaskId,
        result: Result<(), FailureKind>,
    ) -> Verdict {
        let Run { task, lease, cancelled, .. } =
            self.runs.remove(&task).expect("what answers was started");
        for lent in lent_values(&task) {
            if shared.rng.chance(shared.options.borrow) {
                self.keep(shared, lent.object)?;
            }
        }
        let mut body = BodyBuilder::default();
        let outcome = match result {
            // It heeds the cancel, or has not seen it.
            Ok(()) if cancelled && shared.rng.chance(500) => Outcome::Cancelled,
            Ok(()) => {
                let value = task.task.0.to_le_bytes();
                let payload = |_| Payload::Inline {
                    span: body.push(&value).expect("far below 4 GiB"),
                    lent: Vec::new(),
                };
                Outcome::Returned((0..task.returns).map(payload).collect())
            }
            Err(kind) => Outcome::Failed(Failure {
                kind,
                function: task.function.clone(),
                chain: vec!["planned failure".into()],
                location: None,
                backtrace: None,
                value: None,
            }),
        };
        let (task, attempt) = (task.task, task.attempt);
        let message = Message::TaskFinished(TaskFinished { task, attempt, outcome });
        shared.tell_driver(self.process, &Envelope { message, body: body.finish() });
        lease.map_or(Ok(()), |lease| self.start_next(shared, lease))
    }

    fn keep(&mut self, shared: &mut Shared, object: ObjectId) -> Verdict {
        if self.trusted {
            shared.objects.kept(super::object_key(object), self.process)?;
        }
        self.say(shared, Message::RefBorrowed { object, borrower: self.process });
        let first = shared.rng.within(&(1..=shared.options.keep_us));
        let second = first + shared.rng.within(&(1..=shared.options.keep_us));
        shared.clock.after(first, Event::UsesKept(self.process, object, false));
        shared.clock.after(second, Event::UsesKept(self.process, object, true));
        Ok(())
    }

    fn say(&mut self, shared: &mut Shared, message: Message) {
        shared.tell_driver(self.process, &Envelope::new(message));
    }
}

/// The references inside the values that a task was given.
fn lent_values(task: &Task) -> impl Iterator<Item = Lent> + '_ {
    task.args.iter().flat_map(|arg| match arg {
        Arg::Inline { lent, .. } => lent.clone(),
        Arg::Object(_) => Vec::new(),
    })
}
