//! Runs many seeds on all cores; each seed on one thread.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use raybolt_core::plant::Plant;

use crate::run::{Run, run_seed};

/// What came of many seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many seeds were run.
    pub seeds: u64,
    /// How many events happened in them.
    pub events: u64,
    /// How much virtual time passed in them, in microseconds.
    pub virtual_us: u64,
    /// The failing run with the lowest seed.
    pub finding: Option<Run>,
}

/// Runs `seeds` until one fails. `progress` is told the sums so far, from any thread.
///
/// The finding is the lowest failing seed, whatever the number of threads: seeds are taken in order,
/// and those below one that failed are finished.
pub fn sweep(
    seeds: Range<u64>,
    plant: Option<Plant>,
    progress: impl Fn(&Summary) + Sync,
) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let summary = Mutex::new(Summary::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return;
            }
            let run = run_seed(seed, plant);
            if run.violation.is_some() {
                end.fetch_min(seed, Ordering::Relaxed);
            }
            let mut sums = summary.lock().expect("a thread that panics ends the sweep");
            sums.add(run);
            progress(&sums);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    summary.into_inner().expect("no thread is left")
}

impl Summary {
    fn add(&mut self, run: Run) {
        self.seeds += 1;
        self.events += run.events;
        self.virtual_us += run.virtual_us;
        let lowest = self.finding.as_ref().map_or(u64::MAX, |finding| finding.seed);
        if run.violation.is_some() && run.seed < lowest {
            self.finding = Some(run);
        }
    }
}
