//! Keeps the calls of an actor that lives in another process, over its deaths.
//!
//! # Words
//! An *incarnation* is one life of the actor in one process; its number is a fencing epoch. A call is
//! *sent* to the incarnation and *answered* by it; in between it is *in flight*. A call that is not sent
//! *waits*. A *window* is how many calls of a concurrency group may be in flight: more than may run, so
//! that the process never waits for the next, and so few that a death does not take many along.
//!
//! # Protocol
//! 1. [`Incarnations::submitted`] takes a call, [`Incarnations::argument_ready`] says that it may go.
//! 2. The actor is [`Incarnations::placed`]; [`Incarnations::send_next`] names the calls to be sent, in
//!    order, and [`Incarnations::answered`] takes their answers.
//! 3. When the process is [`Incarnations::lost`], the actor begins anew if restarts are left: calls in
//!    flight that may be tried again wait once more, before all others; the rest of them fail. Calls that
//!    were not sent wait for the new incarnation. Without restarts all of them fail.
//! 4. An actor whose last handle is gone [is over](Incarnations::is_over) when it has no calls. One that is
//!    [`Incarnations::killed`] gets no more calls; those in flight are answered by its process, which
//!    says at last that it has [`Incarnations::ended`].
//!
//! ```text
//!  Placing --placed--> Alive --killed--> Killed --ended or lost--> Dead
//!     ^                  |
//!     +--lost, restart---+--lost, no restart; ended--------------> Dead
//! ```
//!
//! # Invariants
//! - **INC-1 (fenced).** What an earlier incarnation says is not heard: a call is answered once, by the
//!   incarnation that it was last sent to.
//! - **INC-2 (caller order).** Calls of one caller in one group are sent in the order they were made, also
//!   those that are sent again.
//! - **INC-3 (bounded).** A call is sent at most `1 + retries` times, an actor begins at most `1 + restarts`
//!   times.
//! - **INC-4 (all are handed back).** Each call taken is handed back exactly once.

use std::collections::VecDeque;

use super::owner::TaskKey;
use super::queue::{Call, CallerId, Mode, Place, Queue};
use crate::plant::{Plant, Plants};

/// As many restarts, or retries, as it takes.
pub const FOREVER: u32 = u32::MAX;
/// How many calls of a group may be in flight beyond those that may run.
pub const AHEAD: usize = 512;

/// Which life of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation(pub u32);

/// The machine; see the module's documentation.
#[derive(Debug)]
pub struct Incarnations<J> {
    phase: Phase,
    incarnation: Incarnation,
    restarts_left: u32,
    pending_max: usize,
    queue: Queue<Job<J>>,
    /// Calls by their numbers, which begin at `first`; those that were answered are gone.
    sent: VecDeque<Option<Sent<J>>>,
    first: u64,
    in_flight: usize,
    is_ending: bool,
    plants: Plants,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Placing,
    Alive,
    Killed,
    Dead,
}

#[derive(Debug)]
struct Job<J> {
    job: J,
    retries_left: u32,
}

#[derive(Debug)]
struct Sent<J> {
    task: TaskKey,
    group: usize,
    job: Job<J>,
}

/// A call to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing<'a, J> {
    /// To which incarnation.
    pub incarnation: Incarnation,
    /// Its number, which the answer repeats; calls are numbered in the order in which they are sent.
    pub number: u64,
    /// Its task at the owner.
    pub task: TaskKey,
    /// What the shell needs to send it.
    pub job: &'a J,
}

/// Why a call was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The actor is gone, or about to.
    Dead,
    /// As many calls wait as may.
    Busy,
}

/// Where a call was that is cancelled.
#[derive(Debug, PartialEq, Eq)]
pub enum Cancelled<J> {
    /// It was not sent, and never will be.
    Waiting(J),
    /// It is in flight: only its process can stop it.
    Sent(Incarnation, u64),
    /// It has been answered.
    Unknown,
}

/// What a loss leads to.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost<J> {
    /// Whether the actor is to be placed again.
    pub restarts: bool,
    /// Calls that fail.
    pub failed: Vec<(TaskKey, J)>,
}

impl<J> Incarnations<J> {
    /// An actor that waits to be placed. `limits` says how many calls of each group may run at once.
    pub fn new(limits: &[usize], pending_max: usize, restarts: u32) -> Self {
        let windows: Vec<usize> = limits.iter().map(|limit| limit.saturating_add(AHEAD)).collect();
        Incarnations {
            phase: Phase::Placing,
            incarnation: Incarnation(0),
            restarts_left: restarts,
            pending_max,
            queue: Queue::new(&windows),
            sent: VecDeque::new(),
            first: 0,
            in_flight: 0,
            is_ending: false,
            plants: Plants::NONE,
        }
    }

    /// The same with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(
        limits: &[usize],
        pending_max: usize,
        restarts: u32,
        plants: Plants,
    ) -> Self {
        let mut machine = Self::new(limits, pending_max, restarts);
        let windows: Vec<usize> = limits.iter().map(|limit| limit.saturating_add(AHEAD)).collect();
        machine.queue = Queue::with_plants(&windows, plants);
        machine.plants = plants;
        machine
    }

    /// Whether a call made now would be taken.
    pub fn admits(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Killed | Phase::Dead => Err(Refusal::Dead),
            _ if self.queue.len() >= self.pending_max => Err(Refusal::Busy),
            _ => Ok(()),
        }
    }

    /// A call was made, which may be sent `1 + retries` times; `ready` says whether its arguments are there.
    pub fn submitted(
        &mut self,
        caller: CallerId,
        task: TaskKey,
        group: usize,
        (job, retries_left): (J, u32),
        ready: bool,
    ) -> Result<(), (Refusal, J)> {
        if let Err(refusal) = self.admits() {
            return Err((refusal, job));
        }
        let job = Job { job, retries_left };
        self.queue.submitted(caller, Call { task, group, mode: Mode::Shared, job }, ready);
        Ok(())
    }

    /// The arguments of a call are there.
    pub fn argument_ready(&mut self, task: TaskKey) {
        self.queue.argument_ready(task);
    }

    /// A process has it now: which incarnation that is. None if it was killed meanwhile.
    pub fn placed(&mut self) -> Option<Incarnation> {
        if self.phase != Phase::Placing {
            return None;
        }
        self.phase = Phase::Alive;
        Some(self.incarnation)
    }

    /// The next call to be sent now.
    pub fn send_next(&mut self) -> Option<Outgoing<'_, J>> {
        if self.phase != Phase::Alive {
            return None;
        }
        let Call { task, group, job, .. } = self.queue.start_next()?;
        let number = self.first + self.sent.len() as u64;
        self.sent.push_back(Some(Sent { task, group, job }));
        self.in_flight += 1;
        let sent = self.sent.back().and_then(Option::as_ref).expect("pushed a line ago");
        let incarnation = self.incarnation;
        Some(Outgoing { incarnation, number, task, job: &sent.job.job })
    }

    /// A call was answered. None if nobody waits for that answer (INC-1).
    pub fn answered(&mut self, incarnation: Incarnation, number: u64) -> Option<(TaskKey, J)> {
        if incarnation != self.incarnation && !self.plants.has(Plant::Unfenced) {
            return None;
        }
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let Sent { task, group, job } = self.sent.get_mut(index)?.take()?;
        self.queue.finished(group, Mode::Shared);
        self.in_flight -= 1;
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
        Some((task, job.job))
    }

    /// A call shall not run.
    pub fn cancelled(&mut self, task: TaskKey) -> Cancelled<J> {
        if let Some(call) = self.queue.cancelled(task) {
            return Cancelled::Waiting(call.job.job);
        }
        let mut sent = self.sent.iter();
        match sent.position(|sent| sent.as_ref().is_some_and(|sent| sent.task == task)) {
            Some(index) => Cancelled::Sent(self.incarnation, self.first + index as u64),
            None => Cancelled::Unknown,
        }
    }

    /// The actor shall end now: calls that wait are handed back. Those in flight are answered by its
    /// process, if it has one.
    pub fn killed(&mut self) -> Vec<(TaskKey, J)> {
        self.phase = match self.phase {
            Phase::Alive | Phase::Killed => Phase::Killed,
            Phase::Placing | Phase::Dead => Phase::Dead,
        };
        self.drain_waiting()
    }

    /// Its process says that an incarnation has ended: all calls that are left fail. None if it is not
    /// the present one (INC-1).
    pub fn ended(&mut self, incarnation: Incarnation) -> Option<Vec<(TaskKey, J)>> {
        let lives = matches!(self.phase, Phase::Alive | Phase::Killed);
        (lives && incarnation == self.incarnation).then(|| self.die())
    }

    /// The process of an incarnation is gone. None if it is not the present one (INC-1).
    pub fn lost(&mut self, incarnation: Incarnation) -> Option<Lost<J>> {
        let lives = matches!(self.phase, Phase::Alive | Phase::Killed);
        if !lives || incarnation != self.incarnation {
            return None;
        }
        if self.phase == Phase::Killed || self.restarts_left == 0 {
            return Some(Lost { restarts: false, failed: self.die() });
        }
        if self.restarts_left != FOREVER {
            self.restarts_left -= 1;
        }
        self.phase = Phase::Placing;
        self.incarnation.0 += 1;
        let (mut again, failed): (Vec<_>, Vec<_>) =
            self.drain_sent().into_iter().partition(|sent| sent.job.retries_left > 0);
        if self.plants.has(Plant::LoseAtRestart) {
            again.clear();
        } else if self.plants.has(Plant::ResendBackwards) {
            again.reverse();
        }
        for mut sent in again.into_iter().rev() {
            if sent.job.retries_left != FOREVER {
                sent.job.retries_left -= 1;
            }
            let Sent { task, group, job } = sent;
            self.queue.put_back(Call { task, group, mode: Mode::Shared, job });
        }
        let failed = failed.into_iter().map(|sent| (sent.task, sent.job.job)).collect();
        Some(Lost { restarts: true, failed })
    }

    /// Nobody has a handle any more.
    pub fn last_handle_gone(&mut self) {
        self.is_ending = true;
    }

    /// Whether it lives only for handles that are gone.
    pub fn is_over(&self) -> bool {
        let idle = self.queue.is_empty() && self.in_flight == 0;
        self.is_ending && idle && self.phase == Phase::Alive
    }

    /// Whether it takes calls, now or when it is placed.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Placing | Phase::Alive)
    }

    /// Whether it waits to be placed.
    pub fn is_placing(&self) -> bool {
        self.phase == Phase::Placing
    }

    /// Which incarnation is the present one.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The calls in flight, in the order in which they were sent.
    pub fn sent(&self) -> impl Iterator<Item = (TaskKey, &J)> {
        self.sent.iter().flatten().map(|sent| (sent.task, &sent.job.job))
    }

    /// The calls that wait, in no order between callers and groups.
    pub fn calls(&self) -> impl Iterator<Item = (TaskKey, &J)> {
        self.queue.calls().map(|call| (call.task, &call.job.job))
    }

    /// Where a call is that waits.
    pub fn place(&self, task: TaskKey) -> Option<(Place, &J)> {
        self.queue.place(task).map(|(place, job)| (place, &job.job))
    }

    /// How many calls are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How often it may begin anew; [`FOREVER`] if there is no end to that.
    pub fn restarts_left(&self) -> u32 {
        self.restarts_left
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn die(&mut self) -> Vec<(TaskKey, J)> {
        self.phase = Phase::Dead;
        let sent = self.drain_sent().into_iter().map(|sent| (sent.task, sent.job.job));
        let mut calls: Vec<_> = sent.collect();
        calls.extend(self.drain_waiting());
        calls
    }

    fn drain_sent(&mut self) -> Vec<Sent<J>> {
        let sent: Vec<_> = self.sent.drain(..).flatten().collect();
        for call in &sent {
            self.queue.finished(call.group, Mode::Shared);
        }
        self.first = 0;
        self.in_flight = 0;
        sent
    }

    fn drain_waiting(&mut self) -> Vec<(TaskKey, J)> {
        self.queue.closed().into_iter().map(|call| (call.task, call.job.job)).collect()
    }
}

#[cfg(test)]
mod tests;
