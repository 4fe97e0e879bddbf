//! What happened in a run: a hash that tells two runs apart, and on demand the last lines.
//!
//! Lines are made only when asked for: a seed that failed is run a second time with its lines kept,
//! which is possible since it does the same again.

use std::collections::VecDeque;
use std::fmt;

use crate::clock::Micros;

/// How many lines a failing seed's report shows, unless more are asked for.
pub const LINES: usize = 60;

/// How many events a run may have after it is healed.
const EVENTS_MAX: u64 = 2_000_000;

/// A rule that a machine broke, as its checker tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which checker.
    pub checker: &'static str,
    /// What should not have happened.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.checker, self.message)
    }
}

/// What a checker says.
pub type Verdict<T = ()> = Result<T, Violation>;

/// Breaks the run unless `holds`; the message is made only then.
pub fn require(holds: bool, checker: &'static str, message: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { checker, message: message() }) }
}

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// How many there had been when the world was healed.
    healed_after: Option<u64>,
    now: Micros,
    lines: VecDeque<String>,
    lines_max: usize,
    /// Which world runs, and with which options; set first of all.
    pub options: String,
}

impl Trace {
    /// An empty record that keeps so many lines, the last ones.
    pub fn new(lines_max: usize) -> Self {
        let lines = VecDeque::new();
        let options = String::new();
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            healed_after: None,
            now: 0,
            lines,
            lines_max,
            options,
        }
    }

    /// An event happens. `words` are what tells it from others.
    pub fn event(&mut self, now: Micros, words: &[u64], line: impl FnOnce() -> String) {
        self.events += 1;
        self.now = now;
        self.fold(now);
        for word in words {
            self.fold(*word);
        }
        self.line(line);
    }

    /// Something worth a line that is no event of its own.
    pub fn line(&mut self, line: impl FnOnce() -> String) {
        if self.lines_max == 0 {
            return;
        }
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>10} us  {}", self.now, line()));
    }

    /// Two runs that did the same have the same hash.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether the run does not come to rest: something goes round in circles.
    pub fn is_endless(&self) -> bool {
        self.healed_after.is_some_and(|before| self.events - before > EVENTS_MAX)
    }

    /// Faults are over.
    pub fn healed(&mut self) {
        self.healed_after.get_or_insert(self.events);
    }

    /// What to say then, if nothing in particular is missing.
    pub fn endless(&self) -> Verdict {
        require(false, "liveness", || {
            format!("it does not come to rest within {EVENTS_MAX} events of being healed")
        })
    }

    /// How many events happened.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// When the last one did.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// The last lines, oldest first.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }

    fn fold(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_orders_apart_and_only_the_last_lines_are_kept() {
        let run = |events: &[u64]| {
            let mut trace = Trace::new(LINES);
            for event in events {
                trace.event(*event, &[*event], || format!("event {event}"));
            }
            (trace.hash(), trace.into_lines())
        };
        assert_ne!(run(&[1, 2]).0, run(&[2, 1]).0);
        let many: Vec<_> = (0..100).collect();
        assert_eq!(run(&many).1.len(), LINES);
        assert!(run(&many).1[LINES - 1].ends_with("event 99"));
    }
}
