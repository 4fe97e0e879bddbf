//! Whether a failure is worth another attempt, asked of the worker whose code has submitted the task.
//!
//! # Words
//! `retry_on` is a closure of the user's, and holds what it likes: it cannot leave the process that submits
//! the task. If that is a worker, it is the task's *judge*.
//!
//! # Protocol
//! 1. A worker keeps the closure of a task that it submits, and says that it is to be asked.
//! 2. When an attempt fails the driver sends the error to the judge, and keeps the task meanwhile. Its lease
//!    is free.
//! 3. The judge runs the closure on a thread of its pool, and says whether the task is to run again.
//! 4. When the task is over the driver says so, and the judge forgets the closure.
//!
//! # Invariants
//! - **JUDGE-1 (nothing hangs).** A task that waits for its judge has its verdict, or its failure stands
//!   when the judge's process is dead.
//! - **JUDGE-2 (one verdict).** A verdict names the attempt that it is about; the first one counts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use raybolt_core::calls::owner::{Attempt, TaskKey};
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{self, ToDriver, ToWorker};

use crate::error::{Error, TaskError};
use crate::failures;
use crate::job::{Ended, Job};
use crate::options::RetryOn;
use crate::panics;
use crate::pool::Runnable;
use crate::processes::link::FRAME_MAX;
use crate::processes::raw::RawJob;
use crate::processes::worker::Worker;
use crate::session::{Place, Session};

/// Who judges the failures of a task; it is told when this is dropped, with the task.
pub(crate) struct Judge {
    worker: Weak<Worker>,
    /// The task, as the worker names it.
    object: u64,
}

/// The driver's side: tasks that wait for a verdict, by the names that their judges have for them.
#[derive(Default)]
pub(crate) struct Judges(Mutex<HashMap<u64, Open>>);

struct Open {
    task: TaskKey,
    attempt: Attempt,
    job: Box<RawJob>,
    error: Error,
}

/// The worker's side: what the failures of tasks are worth that code here has submitted.
#[derive(Default)]
pub(crate) struct Predicates(Mutex<HashMap<u64, RetryOn>>);

impl Judge {
    pub(crate) fn new(worker: &Arc<Worker>, object: u64) -> Self {
        Judge { worker: Arc::downgrade(worker), object }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.upgrade() {
            worker.say(&ToWorker::JudgeNoMore { object: self.object });
        }
    }
}

impl Judges {
    /// An attempt has failed.
    pub(crate) fn ask(
        &self,
        session: &Arc<Session>,
        task: TaskKey,
        attempt: Attempt,
        job: Box<RawJob>,
        error: Error,
    ) {
        let open = Open { task, attempt, job, error };
        let judge = open.job.judge.as_ref().map(|judge| (judge.worker.upgrade(), judge.object));
        let Some((Some(worker), object)) = judge else { return open.close(session, false) };
        let mut frame = Vec::new();
        let error = raybolt_wire::value::encode(&open.error).expect("errors are data");
        let appended =
            work::append(&mut frame, &ToWorker::Judge { object, attempt }, FRAME_MAX, |out| {
                out.extend_from_slice(&error);
                Ok::<_, Infallible>(())
            });
        if appended.is_err() {
            return open.close(session, false); // Its text is longer than a frame.
        }
        self.lock().insert(object, open);
        worker.link.append(|out| out.extend_from_slice(&frame));
        worker.link.flush();
        if worker.is_lost() {
            self.judged(session, object, attempt, false); // Its death may have been settled before.
        }
    }

    /// A verdict, if it is the first (JUDGE-2).
    pub(crate) fn judged(
        &self,
        session: &Arc<Session>,
        object: u64,
        attempt: Attempt,
        again: bool,
    ) {
        let open = {
            let mut open = self.lock();
            let is_asked = open.get(&object).is_some_and(|open| open.attempt == attempt);
            is_asked.then(|| open.remove(&object)).flatten()
        };
        if let Some(open) = open {
            open.close(session, again);
        }
    }

    /// A worker is dead, and judges no more (JUDGE-1).
    pub(crate) fn lost(&self, session: &Arc<Session>, process: ProcessId) {
        let left: Vec<_> = self.lock().extract_if(|_, open| open.is_judged_by(process)).collect();
        for (_, open) in left {
            open.close(session, false);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

impl Open {
    fn is_judged_by(&self, process: ProcessId) -> bool {
        let judge = self.job.judge.as_ref().and_then(|judge| judge.worker.upgrade());
        judge.is_none_or(|worker| worker.process == process)
    }

    fn close(self, session: &Arc<Session>, again: bool) {
        let Open { task, attempt, job, error } = self;
        if again {
            return session.conclude(task, attempt, Ended::Retry { job, error });
        }
        if let Some(failure) = error.task_error() {
            failures::record(failure, false);
        }
        job.fail(Some(error));
        session.conclude(task, attempt, Ended::Failed);
    }
}

impl Predicates {
    pub(crate) fn add(&self, object: u64, when: RetryOn) {
        self.lock().insert(object, when);
    }

    /// An attempt of a task has failed.
    pub(crate) fn judge(&self, session: &Arc<Session>, object: u64, attempt: Attempt, body: &[u8]) {
        let when = self.lock().get(&object).cloned();
        let error = raybolt_wire::value::decode::<Error>(body).ok();
        let failure = error.and_then(|error| error.task_error().cloned());
        let case = when.zip(failure);
        // The user's code runs, which may take its time or wait: not on the thread that reads the link.
        session.pool.schedule(Arc::new(Hearing {
            session: session.clone(),
            object,
            attempt,
            case,
        }));
    }

    /// A task is over.
    pub(crate) fn forget(&self, object: u64) {
        let when = self.lock().remove(&object);
        panics::drop_here("retry_on", when); // What it holds is the user's.
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, RetryOn>> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

/// A failure that is about to be judged.
struct Hearing {
    session: Arc<Session>,
    object: u64,
    attempt: Attempt,
    case: Option<(RetryOn, TaskError)>,
}

impl Runnable for Hearing {
    fn run(self: Arc<Self>) {
        let Hearing { session, object, attempt, case } = &*self;
        let again = case.as_ref().is_some_and(|(when, failure)| {
            let judged = panics::catch(&failure.task, *attempt, || when(failure));
            judged.unwrap_or_else(|panicked| {
                failures::record(&panicked, true);
                false // The failure itself stands.
            })
        });
        if let Place::Driver(upstream) = &session.place {
            let (object, attempt) = (*object, *attempt);
            upstream.send(&ToDriver::Judged { object, attempt, again }, &[]);
        }
    }
}
