//! Copies into the arena.
//!
//! One thread does not use all the memory can do: on the machine of `docs/design/0010-the-store.md` two
//! threads copy 1.9 times as fast as one. The threads take steps from one line, so that one for which there
//! is no processor costs little.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Below this a thread that finds no processor at once costs more than it could gain.
const SHARED_BYTES_MIN: usize = 256 << 20;
/// More threads than this gain nothing: memory is the limit.
const THREADS_MAX: usize = 4;
/// How much a thread copies at a time. Longer steps are faster: the C library writes past the caches what
/// would not fit there anyway.
const STEP_BYTES: RangeInclusive<usize> = 8 << 20..=128 << 20;

/// Copies `from` into `to`, which must be as long; by several threads if that is faster.
pub fn copy(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy fills what it is for");
    if from.len() < SHARED_BYTES_MIN {
        to.copy_from_slice(from);
        return;
    }
    let _busy = Busy::begin();
    let threads = free_processors();
    if threads == 1 {
        to.copy_from_slice(from);
        return;
    }
    let step = (from.len() / threads / 4).clamp(*STEP_BYTES.start(), *STEP_BYTES.end());
    share(to, from, threads, step);
}

/// Copies by so many threads, this one among them.
fn share(to: &mut [u8], from: &[u8], threads: usize, step: usize) {
    let steps = Mutex::new(to.chunks_mut(step).zip(from.chunks(step)));
    let next = || steps.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take_steps = || {
        while let Some((to, from)) = next() {
            to.copy_from_slice(from);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where no thread is to be had, this one copies more.
            drop(thread::Builder::new().spawn_scoped(scope, take_steps));
        }
        take_steps();
    });
}

/// How many threads of this process are at large copies now: they leave each other room.
static BUSY: AtomicUsize = AtomicUsize::new(0);

struct Busy;

impl Busy {
    fn begin() -> Self {
        BUSY.fetch_add(1, Ordering::Relaxed);
        Busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many threads a large copy may use: those that no other large copy began with.
fn free_processors() -> usize {
    let all = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let others = BUSY.load(Ordering::Relaxed).saturating_sub(1);
    all.saturating_sub(others).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_however_many_threads_make_it() {
        let from: Vec<u8> = (0..10_007).map(|index| (index % 251) as u8).collect();
        for (threads, step) in [(1, 10), (2, 4096), (4, 1), (3, 10_007), (2, 20_000)] {
            let mut to = vec![0; from.len()];
            share(&mut to, &from, threads, step);
            assert!(to == from, "{threads} threads, steps of {step}");
        }
        copy(&mut [], &[]);
    }
}
