//! Credit: how a receiver keeps a sender from running ahead.
//!
//! # Protocol
//! The receiver of a stream lets the sender be a *window* ahead of what it has consumed. It tells the
//! sender up to which byte of the stream it may send, counted from the stream's beginning; the sender
//! stops there.
//!
//! ```text
//! sender: Credit            receiver: Window(100)
//!   | <---- up to 100 -------- |
//!   | ===== 60 bytes ========> |  consumes 60: more than half of a window is used
//!   | <---- up to 160 -------- |
//! ```
//! The numbers are totals and not increments: one that is told twice, late or not at all does no harm
//! once a later one arrives.
//!
//! # Invariants
//! - **CREDIT-1 (never ahead).** The sender begins no frame at or beyond what it was last told.
//! - **CREDIT-2 (bounded).** What was sent and is not consumed is at most a window and one frame. The
//!   frame, because one that is longer than what is left, or than the window, could not go otherwise.
//! - **CREDIT-3 (goes on).** A receiver that has consumed everything has told the sender enough for at
//!   least half a window more. So a sender that waits for credit waits for the receiver, not for a
//!   message that nobody sends; and half a window travels for every message about it.

/// What a sender may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    granted: u64,
    used: u64,
}

impl Credit {
    /// A sender that was granted `bytes` at the beginning.
    pub fn new(bytes: u64) -> Self {
        Credit { granted: bytes, used: 0 }
    }

    /// How much may be sent now.
    pub fn left(&self) -> u64 {
        self.granted.saturating_sub(self.used)
    }

    /// How much was sent since the beginning.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Takes credit for a frame of `bytes`; whether it may go now. The last one may overdraw (CREDIT-2).
    #[must_use]
    pub fn take(&mut self, bytes: u64) -> bool {
        let may = self.left() > 0;
        if may {
            self.used = self.used.saturating_add(bytes);
        }
        may
    }

    /// The receiver said that it takes bytes up to `total`; whether that is more than before.
    pub fn grant(&mut self, total: u64) -> bool {
        let more = total > self.granted;
        self.granted = self.granted.max(total);
        more
    }
}

/// What a receiver has consumed and granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    bytes: u64,
    consumed: u64,
    granted: u64,
}

impl Window {
    /// A receiver that lets the sender be `bytes` ahead; the sender begins with [`Credit::new`] of as many.
    pub fn new(bytes: u64) -> Self {
        Window { bytes, consumed: 0, granted: bytes }
    }

    /// Notes that `bytes` are consumed; the total to tell the sender, if it is time to (CREDIT-3).
    #[must_use]
    pub fn consume(&mut self, bytes: u64) -> Option<u64> {
        self.consumed = self.consumed.saturating_add(bytes);
        let total = self.consumed.saturating_add(self.bytes);
        if total - self.granted <= self.bytes / 2 {
            return None;
        }
        self.granted = total;
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sender_stops_at_what_it_was_granted() {
        let mut credit = Credit::new(100);
        assert!(credit.take(60) && credit.take(39) && credit.take(1));
        assert!(!credit.take(1));
        assert!(credit.grant(150));
        assert!(credit.take(1));
        assert_eq!((credit.left(), credit.used()), (49, 101));
    }

    #[test]
    fn a_grant_that_comes_late_or_twice_changes_nothing() {
        let mut credit = Credit::new(100);
        assert!(credit.grant(300));
        assert!(!credit.grant(200) && !credit.grant(300));
        assert_eq!(credit.left(), 300);
    }

    #[test]
    fn a_receiver_speaks_once_per_half_window() {
        let mut window = Window::new(100);
        assert_eq!(window.consume(50), None);
        assert_eq!(window.consume(1), Some(151));
        assert_eq!(window.consume(0), None);
    }

    proptest! {
        /// A sender and a receiver with messages under way both ways, in any order of steps.
        #[test]
        fn what_is_sent_arrives_and_is_bounded(
            window in 1..200_u64,
            frames in proptest::collection::vec(1..400_u64, 1..60),
            steps in proptest::collection::vec(0..3_u8, 0..300),
        ) {
            let (mut credit, mut receiver) = (Credit::new(window), Window::new(window));
            let mut waiting: VecDeque<u64> = frames.iter().copied().collect();
            let (mut under_way, mut grants) = (VecDeque::new(), VecDeque::new());
            // After the given steps all three in turn: nothing may be left over (CREDIT-3).
            for step in steps.into_iter().chain((0..3).cycle().take(4 * 3 * frames.len())) {
                match step {
                    0 => if let Some(frame) = waiting.front().copied() && credit.take(frame) {
                        waiting.pop_front();
                        under_way.push_back(frame);
                    },
                    1 => if let Some(frame) = under_way.pop_front() {
                        grants.extend(receiver.consume(frame));
                    },
                    _ => if let Some(total) = grants.pop_front() {
                        credit.grant(total);
                    },
                }
                let unread: u64 = under_way.iter().sum();
                prop_assert!(unread <= window + 400, "CREDIT-2");
            }
            prop_assert_eq!((waiting.len(), under_way.len()), (0, 0));
        }
    }
}
