//! What was asked to stop, and runs on until it looks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use raybolt_core::calls::owner::TaskKey;
use raybolt_core::calls::queue::CallerId;

/// Running tasks and calls that were asked to stop.
#[derive(Default)]
pub(super) struct Stopped {
    count: AtomicUsize,
    keys: Mutex<BTreeSet<Stop>>,
}

/// What was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    Task(TaskKey),
    /// All calls of an actor that was killed.
    CallsOf(CallerId),
}

impl Stopped {
    pub(super) fn add(&self, stop: Stop) {
        if self.lock().insert(stop) {
            self.count.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn forget(&self, stop: Stop) {
        if self.count.load(Ordering::Acquire) > 0 && self.lock().remove(&stop) {
            self.count.fetch_sub(1, Ordering::Release);
        }
    }

    pub(super) fn contains(&self, stop: Stop) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lock().contains(&stop)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Stop>> {
        self.keys.lock().expect("no thread panics with this lock")
    }
}
