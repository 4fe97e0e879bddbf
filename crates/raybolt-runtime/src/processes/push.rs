//! The way to the workers: tasks are packed where their leases are, and all that go to one worker are sent
//! with one system call.
//!
//! # Invariants
//! - **PUSH-1 (held first).** A task is in the hands of its worker, and what its frame names is lent to that
//!   worker, before the frame is on the link: an answer may be here before the sender is done.
//! - **PUSH-2 (no reader waits).** The thread that pushes is often the one that reads the links. Arguments
//!   that have to wait for room in the store are packed by a thread of the pool.
//! - **PUSH-3 (a death is settled once).** A task that finds its worker dead goes back to its queue alone; its
//!   lease is settled with the worker's death.
//! - **PUSH-4 (no lease waits for a task).** A task whose argument is made again goes back to its owner: its lease
//!   may be what the other task needs.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use raybolt_core::calls::owner::{Attempt, ClassId, Retry, TaskKey};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{self, NotAppended, Run, ToWorker};
use slotmap::Key;

use crate::awaited::on_behalf_of;
use crate::error::{Error, Kind};
use crate::hub::Work;
use crate::job::Job;
use crate::object::Object;
use crate::pool::Runnable;
use crate::processes::answers::Batch;
use crate::processes::link::FRAME_MAX;
use crate::processes::node::Workers;
use crate::processes::parcel::{self, Packed};
use crate::processes::raw::Raw;
use crate::processes::shelf;
use crate::processes::worker::{Lent, Worker};
use crate::session::{Place, Session};

/// A task to be pushed.
pub(crate) struct Push {
    pub(crate) lease: LeaseKey,
    pub(crate) class: ClassId,
    pub(crate) process: ProcessId,
    pub(crate) work: Work,
}

impl Workers {
    /// Sends tasks to their workers, all that go to one with one system call.
    pub(crate) fn push(self: &Arc<Self>, session: &Arc<Session>, pushes: Vec<Push>) {
        self.push_all(session, pushes, false);
    }

    fn push_all(self: &Arc<Self>, session: &Arc<Session>, pushes: Vec<Push>, may_wait: bool) {
        let mut touched: Vec<(Arc<Worker>, Frames)> = Vec::new();
        for push in pushes {
            let place = match touched.iter().position(|(w, _)| w.process == push.process) {
                Some(place) => place,
                None => {
                    let Some(worker) = self.all().get(&push.process).cloned() else {
                        Self::give_back(session, push.work);
                        continue;
                    };
                    touched.push((worker, Frames::new()));
                    touched.len() - 1
                }
            };
            match touched[place].1.append(push, may_wait) {
                Ok(()) => {}
                Err((push, Unsent::Awaits(objects))) => self.wait_again(session, push, &objects),
                Err((push, Unsent::Late)) => {
                    let push = Mutex::new(Some(push));
                    let (workers, session) = (self.clone(), session.clone());
                    session.clone().pool.schedule(Arc::new(LatePush { workers, session, push }));
                }
                Err((push, Unsent::Failed(error))) => self.refuse(session, push, error),
            }
        }
        for (worker, frames) in touched {
            let Frames { bytes, lent, needs, .. } = frames;
            if let Err(lent) = worker.hold(lent) {
                for (task, Lent { attempt, job, .. }) in lent {
                    Self::give_back(session, Work { task, attempt, job });
                }
                continue;
            }
            self.send_parcel(session, &worker, &bytes, needs);
            self.watch_over();
        }
    }

    /// Sends frames, and sees to it that what they name lives on.
    pub(crate) fn send_parcel(
        &self,
        session: &Arc<Session>,
        worker: &Worker,
        frames: &[u8],
        needs: Packed,
    ) {
        self.lend(session, worker, needs);
        worker.link.append(|out| out.extend_from_slice(frames));
        worker.link.flush();
    }

    /// What frames need that are about to be appended goes to a worker.
    pub(crate) fn lend(&self, session: &Arc<Session>, worker: &Worker, needs: Packed) {
        let Packed { refs, guards, .. } = needs;
        session.lend_objects(refs, worker.process);
        if let Place::Workers(node) = &session.place {
            node.shelf.pin_for(worker.process, &guards);
        }
        if worker.is_lost() {
            // Its death may have been settled before it was lent these.
            self.forget_loans(session, worker.process);
        }
    }

    /// A worker is dead: what it was lent is nobody's.
    pub(crate) fn forget_loans(&self, session: &Arc<Session>, process: ProcessId) {
        session.act(|hub| drop(hub.owner.process_lost(process)));
        if let Place::Workers(node) = &session.place {
            node.shelf.process_lost(process);
        }
    }

    /// The worker died before it was given this task; its leases are settled with its death.
    fn give_back(session: &Arc<Session>, work: Work) {
        let Work { task, attempt, job } = work;
        match session.act(|hub| hub.owner.queue_again(task, attempt, job)) {
            Retry::Again | Retry::Stale(_) => {}
            Retry::Exhausted(job) => Self::end_unsent(session, task, attempt, job),
        }
    }

    /// Values that a task takes were lost, and are made again as these objects. Its lease may be what they need.
    fn wait_again(
        self: &Arc<Self>,
        session: &Arc<Session>,
        push: Push,
        objects: &[Arc<Object<Raw>>],
    ) {
        let Push { lease, class, work, .. } = push;
        let Work { task, attempt, job } = work;
        let keys: Vec<_> = objects.iter().map(|object| object.hold.key()).collect();
        match session.act(|hub| hub.owner.wait_again(task, attempt, job, &keys)) {
            Retry::Again | Retry::Stale(_) => {}
            Retry::Exhausted(job) => Self::end_unsent(session, task, attempt, job),
        }
        self.conclude(session, Batch::unsent(lease, class));
    }

    /// The session ends before a task was sent.
    fn end_unsent(session: &Arc<Session>, task: TaskKey, attempt: Attempt, job: Box<dyn Job>) {
        let what = format!("the result of task `{}`", job.name());
        job.fail(Some(Error::new(Kind::SessionEnded { what })));
        session.act(|hub| hub.owner.finished(task, attempt, false));
    }

    /// A task cannot be sent.
    fn refuse(self: &Arc<Self>, session: &Arc<Session>, push: Push, error: Error) {
        let Push { lease, class, work, .. } = push;
        let Work { task, attempt, job } = work;
        job.fail(Some(error));
        self.conclude(session, Batch::failed(task, attempt, lease, class));
    }
}

/// Tasks on their way to one worker.
struct Frames {
    since: Instant,
    bytes: Vec<u8>,
    lent: Vec<(TaskKey, Lent)>,
    needs: Packed,
}

/// A task that has to wait for the store before it can be sent.
struct LatePush {
    workers: Arc<Workers>,
    session: Arc<Session>,
    push: Mutex<Option<Push>>,
}

impl Runnable for LatePush {
    fn run(self: Arc<Self>) {
        let push = self.push.lock().expect("no thread panics with this lock").take();
        self.workers.push_all(&self.session, push.into_iter().collect(), true);
    }
}

/// Why a task is not sent now.
enum Unsent {
    /// It has to wait for the store.
    Late,
    /// It has to wait for these objects.
    Awaits(Vec<Arc<Object<Raw>>>),
    Failed(Error),
}

impl Frames {
    fn new() -> Self {
        Frames {
            since: Instant::now(),
            bytes: Vec::new(),
            lent: Vec::new(),
            needs: Packed::default(),
        }
    }

    fn append(&mut self, push: Push, may_wait: bool) -> Result<(), (Push, Unsent)> {
        let job = &push.work.job;
        let code = match job.code() {
            Ok(code) => code,
            Err(error) => return Err((push, Unsent::Failed(error))),
        };
        let (task, attempt, lease) = (push.work.task, push.work.attempt, push.lease);
        let deadline_us = job
            .deadline()
            .map(|until| until.saturating_duration_since(Instant::now()).as_micros() as u64);
        let message = ToWorker::Run(Run {
            task: task.data().as_ffi(),
            attempt,
            lease: lease.data().as_ffi(),
            code,
            deadline_us,
            name: job.own_name().map(str::to_owned),
        });
        let bytes = &mut self.bytes;
        let pack = |out: &mut Vec<u8>| match may_wait {
            true => on_behalf_of(task, || shelf::without_waiting_for_tasks(|| job.pack(out))),
            false => shelf::without_waiting(|| job.pack(out)),
        };
        let start = bytes.len();
        let (appended, needs) = parcel::packing(|| work::append(bytes, &message, FRAME_MAX, pack));
        match appended {
            Ok(()) => {}
            Err(NotAppended::Body(error)) if matches!(error.kind(), Kind::WouldWait) => {
                let unsent = match needs.awaited.is_empty() {
                    true => Unsent::Late,
                    false => Unsent::Awaits(needs.awaited),
                };
                return Err((push, unsent));
            }
            Err(NotAppended::Body(error)) => return Err((push, Unsent::Failed(error))),
            Err(NotAppended::TooLong(too_long)) => {
                let task = push.work.job.name().into();
                let because = too_long.to_string();
                let error = Error::new(Kind::Encode { task, because });
                return Err((push, Unsent::Failed(error)));
            }
        }
        needs.announce(start, bytes);
        self.needs.add(needs);
        let (order, since) = (0, self.since); // The order is known when the worker holds it.
        let (class, job) = (push.class, push.work.job);
        self.lent.push((task, Lent { attempt, lease, class, order, since, job }));
        Ok(())
    }
}
