//! Waiting until instances have nothing left to do.
//!
//! While someone waits, every slice that ends says so; otherwise a slice costs one load here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use raybolt_runtime::pool::blocking;

/// Woken at the end of slices.
#[derive(Default)]
pub(crate) struct Drain {
    waiting: AtomicUsize,
    slices: Mutex<u64>,
    changed: Condvar,
}

impl Drain {
    /// A slice or a request has ended.
    pub(crate) fn moved(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            *self.slices.lock().expect("the drain's lock is sound") += 1;
            self.changed.notify_all();
        }
    }

    /// Waits until `is_done`, which is asked again after each slice; at most until `deadline`.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        mut is_done: impl FnMut() -> bool,
    ) -> bool {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // Who waits may be a thread of the pool, such as a bolt that kills another topology.
        let done = blocking(|| self.wait_counted(deadline, &mut is_done));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        done
    }

    fn wait_counted(&self, deadline: Option<Instant>, is_done: &mut dyn FnMut() -> bool) -> bool {
        let sound = "the drain's lock is sound";
        loop {
            let seen = *self.slices.lock().expect(sound);
            if is_done() {
                return true;
            }
            let mut slices = self.slices.lock().expect(sound);
            while *slices == seen {
                slices = match deadline {
                    None => self.changed.wait(slices).expect(sound),
                    Some(deadline) => {
                        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                            return false;
                        };
                        self.changed.wait_timeout(slices, left).expect(sound).0
                    }
                };
            }
        }
    }
}
