//! Calls and objects over worker processes, beside the same in one process and the machine's limits.
//!
//! A process has one session at a time, so a contender begins its own in each round, warms it up, and ends
//! it; only what lies between is measured.

pub mod calls;
mod flow;
mod places;
pub mod start;
mod store;

use std::time::Instant;

use anyhow::{Result, ensure};
use raybolt::{Builder, remote};

use super::THREADS;
use crate::harness::{Bench, Effort};

const WORKER: &str = "raybolt, a worker";
const HERE: &str = "raybolt, one process";

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    let parts =
        [calls::benches(), store::benches(), places::benches(), start::benches(), flow::benches()];
    parts.into_iter().flatten().collect()
}

/// Where tasks and actors run.
#[derive(Clone, Copy)]
enum Place {
    Here,
    Workers(usize),
}

/// What every small task here does.
#[remote]
fn after(x: u64) -> u64 {
    x + 1
}

/// In which process a task runs.
#[remote]
fn process() -> u32 {
    std::process::id()
}

struct Tally(u64);

#[remote]
impl Tally {
    pub fn new(start: u64) -> Self {
        Tally(start)
    }

    pub fn add(&mut self, x: u64) -> u64 {
        self.0 += x;
        self.0
    }
}

impl Place {
    fn builder(self) -> Builder {
        let builder = Builder::new().num_cpus(THREADS as f64).worker_threads(THREADS);
        match self {
            Place::Here => builder,
            Place::Workers(count) => builder.processes(count),
        }
    }

    /// Measures within a session of its own, whose workers have answered already.
    fn within<T>(self, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        self.within_with(|builder| builder, measure)
    }

    fn within_with<T>(
        self,
        settings: impl FnOnce(Builder) -> Builder,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let _session = settings(self.builder()).start()?;
        let refs: Vec<_> = (0..1_000).map(after::remote).collect();
        ensure!(raybolt::get(&refs)? == (1..=1_000).collect::<Vec<u64>>(), "every task answers");
        measure()
    }
}

/// How many rounds count: beginning a session takes its time, too.
fn rounds(effort: Effort) -> usize {
    effort.pick(1, 5)
}

/// Does it once; how many of `count` were done in a second.
fn rate(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Does it over and over for a sample's time; how often in a second.
fn rate_for(effort: Effort, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let (start, time) = (Instant::now(), effort.sample());
    let mut times = 0.0;
    while times == 0.0 || start.elapsed() < time {
        work()?;
        times += 1.0;
    }
    Ok(times / start.elapsed().as_secs_f64())
}

/// What the budget counts, in the driver alone.
#[cfg(feature = "budget")]
pub fn paths() -> Vec<super::Path> {
    calls::paths()
}
