//! Who may run a runnable next: at most one thread at a time, and never a lost notification.
//!
//! # States
//! ```text
//!            notify                 start                finish
//!   Idle ------------> Scheduled ----------> Running ------------> Idle
//!                                               | notify
//!                                               v         finish
//!                                            Notified ------------> Scheduled
//! ```
//! A runnable is in the pool's queue exactly while it is `Scheduled`.
//!
//! # Invariants
//! - **TURN-1 (one at a time).** Between `start` and `finish` no other thread starts the runnable.
//! - **TURN-2 (nothing lost).** What happened before a `notify` is seen by a run that starts after
//!   it: either the notification schedules one, or `finish` tells the runner to.

use crate::sync::{AtomicU8, Ordering};

const IDLE: u8 = 0;
const SCHEDULED: u8 = 1;
const RUNNING: u8 = 2;
const NOTIFIED: u8 = 3;

/// The scheduling state of one runnable.
#[derive(Debug)]
pub struct Turn(AtomicU8);

/// What the caller of [`Turn::notify`] or [`Turn::finish`] has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Hand the runnable to the pool.
    Schedule,
    /// Nothing: someone else has it in hand, or there is nothing to do.
    Nothing,
}

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

impl Turn {
    /// A runnable that nobody has asked to run.
    pub fn new() -> Self {
        Turn(AtomicU8::new(IDLE))
    }

    /// Asks for a run that sees all that happened before this call.
    pub fn notify(&self) -> Next {
        // A runnable that is scheduled already will run after this point; but the read must not be
        // moved before the caller's writes, hence a read-modify-write in each case.
        let mut state = self.0.load(Ordering::Relaxed);
        loop {
            let (target, next) = match state {
                IDLE => (SCHEDULED, Next::Schedule),
                RUNNING => (NOTIFIED, Next::Nothing),
                scheduled_or_notified => (scheduled_or_notified, Next::Nothing),
            };
            match self.0.compare_exchange_weak(state, target, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(actual) => state = actual,
            }
        }
    }

    /// The run begins.
    ///
    /// # Panics
    /// When the runnable was not scheduled: a bug of its owner.
    pub fn start(&self) {
        let state = self.0.swap(RUNNING, Ordering::AcqRel);
        assert_eq!(state, SCHEDULED, "a runnable starts only after it was scheduled");
    }

    /// The run is over; `more` says that it left work behind.
    pub fn finish(&self, more: bool) -> Next {
        let to_idle =
            || self.0.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Relaxed);
        if !more && to_idle().is_ok() {
            return Next::Nothing;
        }
        // A plain store would hide a notification that came since: what its sender wrote before would
        // not have to be seen by the next run.
        self.0.swap(SCHEDULED, Ordering::AcqRel);
        Next::Schedule
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_notification_during_a_run_schedules_another() {
        let turn = Turn::new();
        assert_eq!(turn.notify(), Next::Schedule);
        assert_eq!(turn.notify(), Next::Nothing);
        turn.start();
        assert_eq!(turn.notify(), Next::Nothing);
        assert_eq!(turn.finish(false), Next::Schedule);
        turn.start();
        assert_eq!(turn.finish(false), Next::Nothing);
        assert_eq!(turn.notify(), Next::Schedule);
    }

    #[test]
    #[should_panic(expected = "a runnable starts only after it was scheduled")]
    fn a_run_without_a_schedule_is_a_bug() {
        Turn::new().start();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;

    /// TURN-2: two threads add work and notify; whoever is told to schedule runs it at once.
    #[test]
    fn no_notification_is_lost() {
        loom::model(|| {
            let shared = Arc::new((Turn::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
            let act = |shared: &(Turn, AtomicUsize, AtomicUsize)| {
                let (turn, todo, done) = shared;
                todo.fetch_add(1, Ordering::Relaxed);
                let mut next = turn.notify();
                while next == Next::Schedule {
                    turn.start();
                    let taken = todo.swap(0, Ordering::Relaxed);
                    done.fetch_add(taken, Ordering::Relaxed);
                    next = turn.finish(false);
                }
            };
            let other = shared.clone();
            let thread = loom::thread::spawn(move || act(&other));
            act(&shared);
            thread.join().unwrap();
            assert_eq!(shared.2.load(Ordering::Relaxed), 2);
        });
    }

    /// TURN-2 again, for a run that says it left work behind while someone notifies.
    #[test]
    fn a_run_after_more_sees_what_was_notified_meanwhile() {
        loom::model(|| {
            let shared = Arc::new((Turn::new(), AtomicUsize::new(0)));
            assert_eq!(shared.0.notify(), Next::Schedule);
            shared.0.start();
            let other = shared.clone();
            let thread = loom::thread::spawn(move || {
                other.1.store(1, Ordering::Relaxed);
                other.0.notify()
            });
            assert_eq!(shared.0.finish(true), Next::Schedule);
            shared.0.start();
            let seen = shared.1.load(Ordering::Relaxed);
            let again = shared.0.finish(false);
            let scheduled = thread.join().unwrap();
            // Whoever notified is seen by this run, or leads to another one.
            assert!(seen == 1 || again == Next::Schedule || scheduled == Next::Schedule);
        });
    }
}
