//! A value in the driver's store, as the handles of a worker have it.
//!
//! # Protocol
//! 1. A value comes with a pin. The handle *holds* it while there is room in this process's allowance.
//! 2. Without room it is *lent*: to the thread or the future that waits for it, until it was read once; if nobody
//!    waits for it, not at all.
//! 3. After that the handle only remembers where it lies. While somebody still reads it in place, whoever reads
//!    once more shares that; else it is asked for again, as if it had never come.
//!
//! # Invariants
//! - **MAP-1 (handles hold little).** What handles of this process keep in memory for themselves is at most
//!   1/128 of the store, whatever number of them there is and however often they were read. Beyond that the
//!   store is kept only by who reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use raybolt_store::{Mapped, WeakMapped};

use crate::processes::shelf::Pins;
use crate::session::{self, Place};

/// Which part of the store the handles of a process may hold.
const HELD_SHARE: u64 = 128;

/// See the module's documentation.
pub(crate) struct Mapping {
    state: Mutex<State>,
    bytes: u64,
    /// Whether it counts against the allowance.
    is_held: bool,
}

enum State {
    Pinned { mapped: Mapped, _pins: Pins },
    LetGo(WeakMapped),
}

/// What the handles of this process hold.
#[derive(Default)]
pub(crate) struct Allowance(AtomicU64);

impl Allowance {
    /// Holds so many bytes more, if they fit into this part of a store of `capacity_bytes`.
    fn take(&self, bytes: u64, capacity_bytes: u64) -> bool {
        let fits =
            |held: u64| held.checked_add(bytes).filter(|held| *held <= capacity_bytes / HELD_SHARE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

impl Mapping {
    /// A value that has come; whether somebody waits for it.
    pub(crate) fn new(mapped: Mapped, pins: Pins, is_awaited: bool) -> Self {
        let bytes = mapped.region().bytes;
        let is_held = with_allowance(|allowance, capacity| allowance.take(bytes, capacity));
        let state = match is_held || is_awaited {
            true => State::Pinned { mapped, _pins: pins },
            false => State::LetGo(mapped.downgrade()),
        };
        Mapping { state: Mutex::new(state), bytes, is_held }
    }

    /// Reads it; nothing if it was let go of.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&Mapped) -> R) -> Option<R> {
        let mapped = self.mapped()?;
        populate(&mapped);
        let result = read(&mapped);
        if !self.is_held {
            let let_go = State::LetGo(mapped.downgrade());
            let before = std::mem::replace(&mut *self.state(), let_go);
            drop(before); // Without the lock: the driver is told.
        }
        Some(result)
    }

    /// Whether it would be read now.
    pub(crate) fn is_here(&self) -> bool {
        self.mapped().is_some()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn mapped(&self) -> Option<Mapped> {
        match &*self.state() {
            State::Pinned { mapped, .. } => Some(mapped.clone()),
            State::LetGo(mapped) => mapped.upgrade(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with this lock")
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_held {
            with_allowance(|allowance, _| {
                allowance.0.fetch_sub(self.bytes, Ordering::Relaxed);
                true
            });
        }
    }
}

fn populate(mapped: &Mapped) {
    // Without a session it is slower.
    let _ = session::with(|session| {
        if let Place::Driver(upstream) = &session.place {
            upstream.populate(mapped);
        }
    });
}

/// What `ask` says; no without a session.
fn with_allowance(ask: impl FnOnce(&Allowance, u64) -> bool) -> bool {
    session::with(|session| match &session.place {
        Place::Driver(upstream) => ask(&upstream.shelf.held, upstream.capacity_bytes()),
        Place::Here | Place::Workers(_) => false,
    })
    .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_hold_a_part_of_the_store_and_no_more() {
        let held = Allowance::default();
        assert!(held.take(300, 128_000));
        assert!(!held.take(701, 128_000), "MAP-1");
        assert!(held.take(700, 128_000));
        assert!(!held.take(u64::MAX, 128_000));
        assert!(held.take(0, 128_000));
    }
}
