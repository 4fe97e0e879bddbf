//! Tasks in the driver's shell: their jobs, how they are handed out, and how they end.

use std::collections::BTreeMap;

use raybolt_core::calls::kinds::WorkerKind;
use raybolt_core::calls::owner::{Attempt, ObjectKey, Retry, Returns, Submit, Target, TaskKey};
use raybolt_core::calls::scheduler::{GPU, LeaseKey};
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{self, Code, Offset, Outcome, Run};

use super::messages::{Content, Parcel, Place};
use super::{World, lease_id, object_id, task_id};
use crate::trace::{Verdict, require};

/// One task, as whoever submitted it made it.
#[derive(Debug)]
pub struct Job {
    key: TaskKey,
    needs: Vec<ObjectKey>,
    /// References inside its arguments: handles that live as long as the job.
    lent: Vec<ObjectKey>,
    returns: Vec<ObjectKey>,
    may_block: bool,
    /// If it is a generator: its stream.
    stream: Option<u64>,
}

/// A task as it is submitted, wherever.
pub struct NewTask {
    pub target: Target,
    pub retries: u32,
    pub needs: Vec<ObjectKey>,
    pub lent: Vec<ObjectKey>,
    pub returns: Vec<ObjectKey>,
    /// If it is a generator: the stream that the only object it returns stands for.
    pub stream: Option<u64>,
}

/// What the driver knows of one worker.
#[derive(Debug, Default)]
pub struct Record {
    /// What it is for.
    pub kind: WorkerKind,
    /// Tasks in its hands (NODE-1), calls of actors among them.
    pub lent: BTreeMap<TaskKey, Lent>,
    /// Objects that it made, by the ids that it chose.
    pub chosen: BTreeMap<u64, ObjectKey>,
}

/// A task in a worker's hands.
#[derive(Clone, Copy, Debug)]
pub struct Lent {
    pub attempt: Attempt,
    /// A call of an actor has none of its own.
    pub lease: Option<LeaseKey>,
    pub serial: u64,
}

impl Record {
    /// A worker of this kind, without anything in its hands.
    pub fn of(kind: WorkerKind) -> Self {
        Record { kind, ..Record::default() }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.lent.is_empty() && self.chosen.is_empty()
    }
}

impl World<'_> {
    /// Submits a task or a call. Returns its serial too, and whether it waits for arguments.
    pub fn submit(&mut self, task: NewTask) -> (TaskKey, u64, bool) {
        let NewTask { target, retries, needs, lent, returns, stream } = task;
        for object in &needs {
            self.shared.holds.used(*object);
        }
        for object in &lent {
            self.hold(*object);
        }
        let serial = self.program.next_serial;
        self.program.next_serial += 1;
        let is_call = matches!(target, Target::Actor(_));
        let (key, waits) = self.owner.submit(Submit {
            target,
            job: (!is_call).then_some(serial),
            needs: needs.clone().into(),
            returns: match returns[..] {
                [object] => Returns::One(object),
                _ => Returns::Many(returns.clone().into()),
            },
            retries,
        });
        self.shared.trace.line(|| {
            format!("submitted: {key:?} to {target:?} over {needs:?} and {lent:?}, for {returns:?}")
        });
        self.tasks.submitted(key, is_call, retries, needs.clone(), returns.clone());
        let may_block = match target {
            Target::Class(class) => self.demands[&class].amount(GPU) == 0,
            Target::Actor(_) => false,
        };
        self.serials.insert(key, serial);
        self.jobs.insert(serial, Job { key, needs, lent, returns, may_block, stream });
        (key, serial, waits)
    }

    /// A task as it travels: the values of its arguments, and the references in them, which are lent.
    pub fn packed(&mut self, serial: u64, to: ProcessId) -> Parcel {
        let job = &self.jobs[&serial];
        let (needs, lent, stream) = (job.needs.clone(), job.lent.clone(), job.stream);
        let values = needs.iter().map(|need| self.content(*need, to)).collect();
        let refs = lent.iter().map(|object| self.lend(*object, to)).collect();
        let stream = stream.map(|truth| self.announced(truth));
        Parcel { values, refs, stream, ..Parcel::default() }
    }

    /// What is run.
    pub fn run_of(&self, serial: u64, attempt: Attempt, lease: Option<LeaseKey>) -> Run {
        let job = &self.jobs[&serial];
        let code = Code {
            shell: Offset(0),
            body: Offset(job.may_block.into()),
            declared: Offset(if job.stream.is_some() { 0 } else { job.returns.len() as u32 }),
        };
        Run {
            task: task_id(job.key),
            attempt,
            lease: lease.map_or(0, lease_id),
            code,
            deadline_us: None,
            name: None,
        }
    }

    /// How many values a task returns.
    pub fn returns_of(&self, serial: u64) -> u32 {
        self.jobs[&serial].returns.len() as u32
    }

    /// Hands a task to a worker.
    pub fn push(&mut self, to: ProcessId, lease: LeaseKey, task: TaskKey, lent: Lent) -> Verdict {
        let run = self.run_of(lent.serial, lent.attempt, Some(lease));
        let parcel = self.packed(lent.serial, to);
        let record = self.records.get_mut(&to).expect("leases are given to workers that live");
        let gpus = self.resources.gpus(lease);
        require(record.kind.gpu_ids() == gpus, "kinds", || {
            format!("KIND-2: what holds GPUs {gpus:?} goes to {to}, which is {:?}", record.kind)
        })?;
        record.lent.insert(task, lent);
        self.shared.tell(to, work::ToWorker::Run(run), &parcel);
        Ok(())
    }

    /// A value on its way to a worker.
    pub fn content(&mut self, object: ObjectKey, to: ProcessId) -> Content {
        let inside = self.contents.get(&object).cloned().unwrap_or_default();
        let refs = inside.iter().map(|object| self.lend(*object, to)).collect();
        let place = if self.is_stored(object) { Place::Stored } else { Place::Inline };
        Content { object: object_id(object), refs, place }
    }

    /// One more reference goes to a worker.
    pub fn lend(&mut self, object: ObjectKey, to: ProcessId) -> u64 {
        self.shared.holds.sent(object, to);
        self.owner.borrowed(object, to);
        object_id(object)
    }

    /// One handle of the driver more.
    pub fn hold(&mut self, object: ObjectKey) {
        if self.shared.holds.cloned(object) {
            self.owner.held_again(object);
        }
    }

    /// One handle of the driver less.
    pub fn drop_handle(&mut self, object: ObjectKey) {
        if self.shared.holds.dropped(object) {
            self.owner.released(object);
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
        if again == Some(false) { self.fail(task, attempt) } else { Ok(()) }
    }

    /// An attempt was lost with its worker before it began.
    pub fn queue_again(&mut self, task: TaskKey, lent: Lent) -> Verdict {
        let again = match self.owner.queue_again(task, lent.attempt, lent.serial) {
            Retry::Again => Some(true),
            Retry::Exhausted(_) => Some(false),
            Retry::Stale(_) => None,
        };
        self.tasks.queued_again(task, lent.attempt, again)?;
        if again == Some(false) { self.fail(task, lent.attempt) } else { Ok(()) }
    }

    /// Ends a task with an error, unless this attempt is a stale one.
    pub fn fail(&mut self, task: TaskKey, attempt: Attempt) -> Verdict {
        self.finish(task, attempt, None, &[])
    }

    /// Ends a task, unless the answer is a stale one. `values` come from a process, or from nowhere if
    /// the task failed.
    pub fn finish(
        &mut self,
        task: TaskKey,
        attempt: Attempt,
        from: Option<ProcessId>,
        values: &[Content],
    ) -> Verdict {
        let success = from.is_some();
        let accepted = self.owner.finished(task, attempt, success);
        let ended = self.tasks.answered(task, attempt, success, accepted)?;
        let Some((needs, returns)) = ended else { return Ok(()) };
        if let Some(from) = from {
            for (object, value) in returns.iter().zip(values) {
                self.keep_value(*object, value, from)?;
            }
        }
        for need in needs {
            self.shared.holds.unused(need);
        }
        self.cancelled.remove(&task);
        let serial = self.serials.remove(&task);
        let job = serial.and_then(|serial| self.jobs.remove(&serial));
        let Job { lent, stream, .. } = job.expect("an unfinished task has its job");
        for object in lent {
            self.drop_handle(object);
        }
        match stream {
            Some(truth) => self.stream_over(truth, success, returns.is_empty()),
            None => self.delivered(returns, success),
        }
        Ok(())
    }

    /// A value has come: the references in it are the driver's as long as it is there.
    pub fn keep_value(&mut self, object: ObjectKey, value: &Content, from: ProcessId) -> Verdict {
        let refs: Vec<_> =
            value.refs.iter().map(|id| self.key_of(*id, from)).collect::<Verdict<_>>()?;
        for inside in &refs {
            self.hold(*inside);
        }
        if !refs.is_empty() {
            self.contents.insert(object, refs);
        }
        self.store_value(object, value.place, from)
    }

    fn delivered(&mut self, objects: Vec<ObjectKey>, success: bool) {
        for object in objects {
            self.shared.holds.settled(object);
            self.stream_ends(object, success);
            self.tell_of(object, success);
        }
    }

    /// Whoever waits for an object is told.
    pub fn tell_of(&mut self, object: ObjectKey, success: bool) {
        for (process, asked_as) in self.asked.remove(&object).unwrap_or_default() {
            self.send_value(object, process, asked_as, success);
        }
        self.got(object);
    }

    /// The stream of a generator.
    pub fn stream_of_job(&self, serial: u64) -> Option<u64> {
        self.jobs.get(&serial)?.stream
    }

    /// A worker gets a value that it asked for, or hears that there is none.
    pub fn send_value(&mut self, object: ObjectKey, to: ProcessId, asked_as: u64, is_there: bool) {
        let values = if is_there { vec![self.content(object, to)] } else { Vec::new() };
        let outcome = if is_there { Outcome::Returned } else { Outcome::Failed };
        let message = work::ToWorker::Value { object: asked_as, outcome };
        self.shared.tell(to, message, &Parcel { values, ..Parcel::default() });
    }

    /// Who waits for what a cancelled task makes need not wait for its end.
    pub fn give_up(&mut self, task: TaskKey, object: ObjectKey) {
        self.owner.given_up(object);
        let failed = self.tasks.given_up(task);
        self.delivered(failed, false);
    }
}
