//! Serves the tasks of one class under one lease, a slice at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::ClassId;
use raybolt_core::calls::scheduler::LeaseKey;

use crate::context::Context;
use crate::hub::{Hub, Work};
use crate::job::{Began, Ended};
use crate::pool::Runnable;
use crate::session::Session;

/// How many tasks a slice runs at most before others have their turn.
const SLICE_TASKS: u32 = 64;
/// How long a slice may last before others have their turn, looked at between tasks.
const SLICE_TIME: Duration = Duration::from_millis(1);

/// A lease in the hands of the pool: one thread at a time runs its tasks.
pub(crate) struct Server {
    pub(crate) session: Arc<Session>,
    pub(crate) lease: LeaseKey,
    pub(crate) class: ClassId,
}

impl Runnable for Server {
    fn run(self: Arc<Self>) {
        let session = &self.session;
        // One visit to the hub reports the last task and fetches the next.
        let mut work = session.act(|hub| self.next_or_end(hub));
        let mut tasks = 0;
        let start = Instant::now();
        while let Some(Work { task, attempt, job }) = work {
            let context = Context::of_task(task, attempt, Some(self.lease), job.deadline());
            let ended = match job.run(context) {
                Began::Ended(ended) => ended,
                Began::Later(future) => {
                    // It may hold resources while it waits, but no thread and no CPU.
                    let demands = session.act(|hub| hub.scheduler.blocked_has_more(self.lease));
                    session.continue_later(task, attempt, future, demands.then_some(self.lease));
                    if demands {
                        return;
                    }
                    work = session.act(|hub| self.next_or_end(hub));
                    continue;
                }
            };
            tasks += 1;
            let over = tasks >= SLICE_TASKS || start.elapsed() >= SLICE_TIME;
            if over && session.lock().scheduler.must_yield(self.lease) {
                session.conclude(task, attempt, ended);
                session.act(|hub| hub.give_back(self.lease, self.class));
                return;
            }
            if over {
                session.conclude(task, attempt, ended);
                session.pool.schedule(self.clone());
                return;
            }
            work = match ended {
                Ended::Retry { .. } | Ended::Unsure { .. } => {
                    session.conclude(task, attempt, ended);
                    session.act(|hub| self.next_or_end(hub))
                }
                Ended::Success(_) | Ended::Failed => {
                    let next = session.act(|hub| {
                        Session::report(hub, task, attempt, &ended);
                        self.next_or_end(hub)
                    });
                    session.stop_is_over(task);
                    next
                }
            };
        }
    }
}

impl Server {
    fn next_or_end(&self, hub: &mut Hub) -> Option<Work> {
        let work = hub.lend(self.lease, self.class);
        if work.is_none() {
            hub.give_back(self.lease, self.class);
        }
        work
    }
}
