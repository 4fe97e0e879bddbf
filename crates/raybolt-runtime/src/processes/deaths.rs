//! What the death of a worker means for the tasks that lay there.
//!
//! # Words
//! A task at a dead worker *ran*, or had been *answered* (it had ended, but nobody heard of it), or was
//! still *waiting* behind others of its lease. The worker's [black box](super::blackbox) tells; without
//! one the oldest task of each lease is taken for the one that ran.
//!
//! A worker that we kill has a *doom*: why, and because of which task, the *culprit*.
//!
//! # Invariants
//! - **DEATH-1 (who ran pays).** A death costs a retry of each task that ran, and nothing for those that
//!   did not. If there is a culprit it alone pays.
//! - **DEATH-2 (nothing hangs).** Each task that lay at the worker is queued again, or has an error.
//! - **DEATH-3 (no orphans).** A task that code at the dead worker called, and for whose result nobody
//!   else can ask, is cancelled: whoever called it runs again and calls it again, or never will. Without
//!   that, tasks that call tasks would leave more behind with each death than they get done.

use std::sync::Arc;

use raybolt_core::calls::owner::{Attempt, ObjectKey, Retry, TaskKey};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;
use slotmap::{KeyData, SecondaryMap};

use crate::error::{Error, Kind};
use crate::failures;
use crate::hub::Hub;
use crate::job::Job;
use crate::processes::blackbox::BlackBox;
use crate::processes::keeper::{Order, quoted};
use crate::processes::monitor::{Living, Running};
use crate::processes::node::Workers;
use crate::processes::worker::Lent;
use crate::session::{Place, Session};

/// How often a task is sent to a worker before each death costs it a retry, wherever it stood: workers that die
/// unobserved must not make it run for ever.
const FREE_ATTEMPTS_MAX: Attempt = 1000;
/// How many tasks a message names.
const NAMED_MAX: usize = 5;

/// What became of a worker.
pub(crate) struct Death {
    pub(crate) process: ProcessId,
    /// In words.
    pub(crate) how: String,
    /// What its black box says that it ran.
    pub(crate) running: Option<Vec<u64>>,
    pub(crate) doom: Option<Doom>,
    pub(crate) last_lines: Vec<String>,
    /// It was asked to end.
    pub(crate) is_expected: bool,
}

/// Why a worker is killed.
#[derive(Debug, Clone)]
pub(crate) struct Doom {
    /// Because of which task; null if it is an actor, and no task pays.
    pub(crate) culprit: TaskKey,
    /// In place of how the process ended.
    pub(crate) because: String,
    /// What is said behind what ran.
    pub(crate) lever: String,
    /// Whether the culprit may run again.
    pub(crate) may_repeat: bool,
}

/// What a task at a dead worker was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ran,
    Answered,
    Waited,
}

/// A task that will not run again.
struct Fallen {
    task: TaskKey,
    attempt: Attempt,
    job: Box<dyn Job>,
    fate: Fate,
    /// The owner knows nothing of it any more.
    is_stale: bool,
}

impl Workers {
    /// A worker is dead: its tasks run again, or fail. Says whether it had been given anything.
    pub(crate) fn lost(self: &Arc<Self>, session: &Arc<Session>, death: Death) -> bool {
        // First: what finds it dead on its way there goes back to its queue, and would come here again.
        session.act(|hub| hub.fleet.dying(death.process));
        let Some(worker) = self.take(session, death.process) else { return false };
        let (lent, was_given_tasks) = worker.bury();
        let was_given = was_given_tasks || worker.has_actors();
        self.relays.lost(death.process);
        self.judges.lost(session, death.process);
        let mut lent = with_fates(lent, death.running.as_deref());
        // Who is given back first stands behind those that are given back later.
        lent.sort_by_key(|(_, lent, _)| std::cmp::Reverse(lent.order));
        let ran = lent.iter().filter(|(.., fate)| *fate == Fate::Ran);
        let ran: Vec<_> = ran.map(|(_, lent, _)| lent.job.name().to_owned()).collect();
        let (fallen, borrowed) = session.act(|hub| {
            let leases = hub.fleet.lost(death.process);
            let of_task = |(task, lent, fate)| hub.lose(session, task, lent, fate, &death);
            let fallen: Vec<_> = lent.into_iter().filter_map(of_task).collect();
            for (lease, class) in leases {
                hub.give_back(lease, class);
            }
            (fallen, hub.owner.process_lost(death.process))
        });
        if let Place::Workers(node) = &session.place {
            node.shelf.process_lost(death.process);
        }
        let because = death.because(&ran);
        if !session.has_ended() && !death.is_expected {
            tracing::warn!(target: "raybolt", "worker {}: {because}", death.process);
        }
        for fallen in fallen {
            self.fail(session, fallen, &because);
        }
        cancel_orphans(session, borrowed);
        self.actors_lost(&worker, |ran| format!("its worker died: {}", death.because(ran)));
        was_given
    }

    /// The tasks that a worker runs.
    pub(crate) fn running(
        &self,
        session: &Session,
        process: ProcessId,
        blackbox: Option<&BlackBox>,
    ) -> Vec<Running> {
        let Some(worker) = self.worker(process) else { return Vec::new() };
        let running = {
            let hands = worker.hands();
            let orders: Vec<_> =
                hands.tasks.iter().map(|(task, lent)| (task, lent.lease, lent.order)).collect();
            let fates = fates(&orders, blackbox.map(BlackBox::running).as_deref());
            let ran = orders.iter().zip(fates).filter(|(_, fate)| *fate == Fate::Ran);
            let running = ran.filter_map(|((task, ..), _)| {
                let lent = hands.tasks.get(*task)?;
                let (name, since) = (lent.job.name().to_owned(), lent.since);
                Some(Running { task: *task, name, retries_left: 0, since })
            });
            running.collect::<Vec<_>>()
        };
        let hub = session.lock();
        let with_retries = |running: Running| {
            let retries_left = hub.owner.retries_left(running.task).unwrap_or(0);
            Running { retries_left, ..running }
        };
        running.into_iter().map(with_retries).collect()
    }

    /// The actors that live in a worker.
    pub(crate) fn living(&self, process: ProcessId) -> Vec<Living> {
        let Some(worker) = self.worker(process) else { return Vec::new() };
        let actors: Vec<_> = worker.actors().values().cloned().collect();
        actors.iter().map(|actor| actor.living()).collect()
    }

    /// No worker is to be had: what waits for one fails, and what comes, until one is there.
    pub(crate) fn give_up(&self, session: &Arc<Session>, because: &str) {
        *self.gave_up() = Some(because.to_owned());
        self.fail_waiting(session);
    }

    /// Fails the tasks that wait for a worker, if none is to be had.
    pub(crate) fn fail_waiting(&self, session: &Arc<Session>) {
        let Some(because) = self.gave_up().clone() else { return };
        let (failed, actors) = session.act(|hub| {
            let actors = hub.fleet.give_up_actors().into_iter();
            let actors: Vec<_> = actors.filter_map(|actor| hub.actor(actor)).collect();
            let mut failed = Vec::new();
            for (lease, class) in hub.fleet.give_up() {
                failed.extend(std::iter::from_fn(|| hub.lend(lease, class)));
                hub.give_back(lease, class);
            }
            (failed, actors)
        });
        for actor in actors {
            actor.kill(&because);
        }
        for work in failed {
            let (task, because) = (work.job.name().to_owned(), because.clone());
            let error = Error::new(Kind::NoWorker { task, because });
            failures::record_error(&error);
            work.job.fail(Some(error));
            session.act(|hub| hub.owner.finished(work.task, work.attempt, false));
        }
        self.keeper_order(Order::Wanted);
    }

    fn fail(&self, session: &Arc<Session>, fallen: Fallen, because: &str) {
        let Fallen { task, attempt, job, fate, is_stale } = fallen;
        if is_stale {
            return; // It is dropped here, without the hub's lock: SESS-1.
        }
        let name = job.name().to_owned();
        let because = match fate {
            Fate::Answered => format!("`{name}` had ended, but its result was lost: {because}"),
            Fate::Ran | Fate::Waited if attempt > 0 => {
                let times = attempt + 1;
                format!(
                    "{because}\n  (`{name}` was sent to a worker {times} times; those where it had not begun are no retries)"
                )
            }
            Fate::Ran | Fate::Waited => because.to_owned(),
        };
        let error = match session.has_ended() {
            true => Kind::SessionEnded { what: format!("the result of task `{name}`") },
            false => Kind::WorkerDied { task: name, because },
        };
        let error = Error::new(error);
        if !session.is_stopped(task) {
            failures::record_error(&error);
        }
        job.fail(Some(error));
        session.act(|hub| hub.owner.finished(task, attempt, false));
        session.stop_is_over(task);
    }
}

/// DEATH-3. `candidates` were known to the dead worker.
fn cancel_orphans(session: &Arc<Session>, mut candidates: Vec<ObjectKey>) {
    while let Some(object) = candidates.pop() {
        let (task, needs) = {
            let hub = session.lock();
            if !hub.is_orphan(object) {
                continue;
            }
            (hub.task_name(object), hub.owner.pending_needs(object))
        };
        let error = Error::new(Kind::Cancelled { task });
        session.cancel(object, &error, false, || {}); // There is nobody to be told.
        candidates.extend(needs); // Perhaps nobody else wanted these.
    }
}

impl Death {
    fn because(&self, ran: &[String]) -> String {
        let mut text = match &self.doom {
            Some(doom) => doom.because.clone(),
            None => self.how.clone(),
        };
        if !ran.is_empty() {
            let named: Vec<_> =
                ran.iter().take(NAMED_MAX).map(|name| format!("`{name}`")).collect();
            text.push_str(&format!(" while it ran {}", named.join(", ")));
            if ran.len() > NAMED_MAX {
                text.push_str(&format!(" and {} more", ran.len() - NAMED_MAX));
            }
        }
        if self.doom.is_none() && self.how.contains("SIGKILL") {
            text.push_str(", by somebody, or by the kernel for lack of memory");
        }
        text.push_str(self.doom.as_ref().map_or("", |doom| &doom.lever));
        text + &quoted(&self.last_lines)
    }
}

impl Hub {
    /// A task is lost with its worker; gives it back if it will not run again.
    fn lose(
        &mut self,
        session: &Session,
        task: TaskKey,
        lent: Lent,
        fate: Fate,
        death: &Death,
    ) -> Option<Fallen> {
        let Lent { attempt, job, .. } = lent;
        let fallen = |job, is_stale| Some(Fallen { task, attempt, job, fate, is_stale });
        if session.is_stopped(task) {
            return fallen(job, false);
        }
        let doom = death.doom.as_ref();
        let is_culprit = doom.map(|doom| doom.culprit == task);
        let pays = match (fate, is_culprit) {
            (_, Some(true)) => true,
            _ if attempt >= FREE_ATTEMPTS_MAX => true,
            (Fate::Ran, None) => true,
            // It may have had effects: it runs again only if it might have to anyway.
            (Fate::Answered, _) => self.owner.retries_left(task) == Some(0),
            (Fate::Ran, Some(false)) | (Fate::Waited, _) => false,
        };
        let retry = match (pays, is_culprit) {
            (true, Some(true)) if doom.is_some_and(|doom| !doom.may_repeat) => {
                return fallen(job, false);
            }
            (true, _) => self.owner.retry(task, attempt, job),
            (false, _) => self.owner.queue_again(task, attempt, job),
        };
        match retry {
            Retry::Again => None,
            Retry::Stale(job) => fallen(job, true),
            Retry::Exhausted(job) => fallen(job, false),
        }
    }
}

/// DEATH-1: tells what ran from what did not.
fn with_fates(
    lent: SecondaryMap<TaskKey, Lent>,
    running: Option<&[u64]>,
) -> Vec<(TaskKey, Lent, Fate)> {
    let orders = lent.iter().map(|(task, lent)| (task, lent.lease, lent.order)).collect::<Vec<_>>();
    let fates = fates(&orders, running);
    lent.into_iter().zip(fates).map(|((task, lent), fate)| (task, lent, fate)).collect()
}

/// The same for tasks of which only lease and order are known.
fn fates(tasks: &[(TaskKey, LeaseKey, u64)], running: Option<&[u64]>) -> Vec<Fate> {
    let ran: Vec<bool> = match running {
        Some(running) => {
            let running: Vec<_> =
                running.iter().map(|task| TaskKey::from(KeyData::from_ffi(*task))).collect();
            tasks.iter().map(|(task, ..)| running.contains(task)).collect()
        }
        None => {
            let mut oldest = SecondaryMap::new();
            for (_, lease, order) in tasks {
                let least = oldest.get(*lease).map_or(*order, |least: &u64| *least.min(order));
                oldest.insert(*lease, least);
            }
            tasks.iter().map(|(_, lease, order)| oldest.get(*lease) == Some(order)).collect()
        }
    };
    let mut latest = SecondaryMap::new();
    for ((_, lease, order), _) in tasks.iter().zip(&ran).filter(|(_, ran)| **ran) {
        let most = latest.get(*lease).map_or(*order, |most: &u64| *most.max(order));
        latest.insert(*lease, most);
    }
    let fate = |((_, lease, order), ran): (&(_, LeaseKey, u64), bool)| match latest.get(*lease) {
        _ if ran => Fate::Ran,
        Some(latest) if order < latest => Fate::Answered,
        _ => Fate::Waited,
    };
    tasks.iter().zip(ran).map(fate).collect()
}

#[cfg(test)]
mod tests {
    use slotmap::{Key, SlotMap};

    use super::*;

    /// Five tasks: three under one lease, two under another.
    fn tasks() -> Vec<(TaskKey, LeaseKey, u64)> {
        let mut leases = SlotMap::<LeaseKey, ()>::with_key();
        let (first, second) = (leases.insert(()), leases.insert(()));
        let mut tasks = SlotMap::<TaskKey, ()>::with_key();
        [first, second, first, first, second]
            .into_iter()
            .enumerate()
            .map(|(order, lease)| (tasks.insert(()), lease, order as u64))
            .collect()
    }

    #[test]
    fn the_black_box_tells_what_ran_what_had_ended_and_what_waited() {
        let tasks = tasks();
        let running = [tasks[2].0.data().as_ffi(), 0xdead_0000_0001];
        use Fate::{Answered, Ran, Waited};
        assert_eq!(fates(&tasks, Some(&running)), [Answered, Waited, Ran, Waited, Waited]);
        assert_eq!(fates(&tasks, Some(&[])), [Waited; 5]);
    }

    #[test]
    fn without_a_black_box_the_oldest_of_each_lease_ran() {
        use Fate::{Ran, Waited};
        assert_eq!(fates(&tasks(), None), [Ran, Ran, Waited, Waited, Waited]);
        assert_eq!(fates(&[], None), []);
    }
}
