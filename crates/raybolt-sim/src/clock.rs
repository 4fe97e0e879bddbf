//! Virtual time, and the one queue of all that is going to happen.
//!
//! # Invariants
//! - **CLOCK-1 (one order).** Events happen by time, those of one time in the order in which they were
//!   planned. There is no other order, so a run is a function of its seed.
//! - **CLOCK-2 (forward).** Time moves only from event to event, and never back.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Virtual microseconds since the run began.
pub type Micros = u64;

/// The queue of events, and the time.
#[derive(Debug)]
pub struct Clock<E> {
    now: Micros,
    planned: u64,
    events: BinaryHeap<Planned<E>>,
    /// What the machines see as time zero; only differences to it matter to them.
    origin: Instant,
}

#[derive(Debug)]
struct Planned<E> {
    at: Micros,
    number: u64,
    event: E,
}

impl<E> Clock<E> {
    /// Time zero, with nothing planned.
    pub fn new() -> Self {
        Clock { now: 0, planned: 0, events: BinaryHeap::new(), origin: Instant::now() }
    }

    /// The virtual time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// The virtual time as the machines take it.
    pub fn instant(&self) -> Instant {
        self.to_instant(self.now)
    }

    /// A virtual time as the machines take it.
    pub fn to_instant(&self, at: Micros) -> Instant {
        self.origin + Duration::from_micros(at)
    }

    /// A machine's time as virtual time: the first microsecond that is not before it.
    pub fn to_micros(&self, at: Instant) -> Micros {
        at.saturating_duration_since(self.origin).as_nanos().div_ceil(1000) as Micros
    }

    /// Plans an event; one for a time that has passed happens next.
    pub fn at(&mut self, at: Micros, event: E) {
        let at = at.max(self.now);
        self.planned += 1;
        self.events.push(Planned { at, number: self.planned, event });
    }

    /// Plans an event so many microseconds from now.
    pub fn after(&mut self, delay: Micros, event: E) {
        self.at(self.now + delay, event);
    }

    /// The next event; it becomes its time.
    pub fn next_event(&mut self) -> Option<E> {
        let Planned { at, event, .. } = self.events.pop()?;
        self.now = at;
        Some(event)
    }

    /// How many events are planned.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing is going to happen.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl<E> Default for Clock<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Ord for Planned<E> {
    /// The heap gives its greatest, which is to be the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Planned<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_happen_by_time_and_then_in_the_order_of_planning() {
        let mut clock = Clock::new();
        clock.at(20, 'c');
        clock.at(10, 'a');
        clock.at(10, 'b');
        assert_eq!(clock.next_event(), Some('a'));
        clock.at(0, 'x'); // Too late: it happens now, behind what is planned for now.
        assert_eq!(
            (clock.next_event(), clock.next_event(), clock.now()),
            (Some('b'), Some('x'), 10)
        );
        assert_eq!((clock.next_event(), clock.now()), (Some('c'), 20));
        assert!(clock.next_event().is_none() && clock.is_empty());
    }

    #[test]
    fn a_machines_time_is_rounded_up() {
        let clock = Clock::<()>::new();
        let at = clock.to_instant(7);
        assert_eq!(clock.to_micros(at), 7);
        assert_eq!(clock.to_micros(at + Duration::from_nanos(1)), 8);
    }
}
