//! Stopping a task that a worker has.
//!
//! # Protocol
//! 1. The worker is asked: a task that has not begun there is answered as cancelled; one that runs is
//!    told when it looks ([`is_cancelled`](crate::session::is_cancelled)).
//! 2. One that runs on for a while after its deadline, or that is to be stopped by force, costs its
//!    worker its life; whatever else ran there runs again, without losing a retry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::TaskKey;
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{self, ToWorker};
use slotmap::Key;

use crate::error::Error;
use crate::processes::deaths::Doom;
use crate::processes::keeper::Order;
use crate::processes::link::FRAME_MAX;
use crate::processes::node::Workers;
use crate::session::Session;

/// How soon a worker that was asked is looked at again.
const AGAIN: Duration = Duration::from_millis(10);

impl Workers {
    /// Asks the worker that has a task to stop it. If that worker has it still after `grace`, it dies.
    pub(crate) fn stop(
        self: &Arc<Self>,
        session: &Arc<Session>,
        task: TaskKey,
        grace: Option<(Duration, String)>,
    ) {
        let Some((process, attempt)) = self.holder(task) else { return };
        self.tell(process, &ToWorker::Cancel { task: task.data().as_ffi() });
        let Some((grace, because)) = grace else { return };
        let (workers, doom) = (
            self.clone(),
            Doom { culprit: task, because, lever: String::new(), may_repeat: false },
        );
        let strike = move || {
            if workers.holder(task) == Some((process, attempt)) {
                workers.keeper_order(Order::KillIfRunning(process, doom));
            }
        };
        if grace.is_zero() {
            strike();
        } else {
            session.timer.at(Instant::now() + grace, strike);
        }
    }

    /// It has not begun, and will be answered as cancelled unless it begins just now: looks again soon.
    pub(crate) fn look_again(
        self: &Arc<Self>,
        session: &Arc<Session>,
        process: ProcessId,
        doom: Doom,
    ) {
        let workers = self.clone();
        session.timer.at(Instant::now() + AGAIN, move || {
            if workers.holder(doom.culprit).is_some_and(|(holder, _)| holder == process) {
                workers.keeper_order(Order::KillIfRunning(process, doom));
            }
        });
    }

    /// Sends a message without a body; says whether there was somebody to send it to.
    pub(crate) fn tell(&self, process: ProcessId, message: &ToWorker) -> bool {
        let Some(worker) = self.worker(process) else { return false };
        let nothing = |_: &mut Vec<u8>| Ok::<_, Error>(());
        let told = worker.link.append(|out| work::append(out, message, FRAME_MAX, nothing));
        worker.link.flush();
        told.is_some_and(|told| told.is_ok())
    }
}
