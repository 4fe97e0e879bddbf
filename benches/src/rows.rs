//! What is measured. Each file is a group of benches; `benches/README.md` has a budget for each.

pub mod calls;
pub mod drpc;
pub mod flow;
pub mod idle;
pub mod objects;
pub mod processes;
pub mod reach;

use crate::harness::Bench;

/// How many threads work, on every side that can choose.
pub const THREADS: usize = 2;

/// All benches, in the order in which they run.
pub fn all() -> Vec<Bench> {
    let groups = [
        calls::benches(),
        objects::benches(),
        processes::benches(),
        drpc::benches(),
        flow::benches(),
        reach::benches(),
        idle::benches(),
    ];
    groups.into_iter().flatten().collect()
}

/// Something done so many times, or somewhat fewer; returns how often.
#[cfg(feature = "budget")]
pub type Path = (&'static str, Box<dyn Fn(usize) -> anyhow::Result<usize>>);

/// The hot paths, for [`budget`](crate::budget).
#[cfg(feature = "budget")]
pub fn paths() -> Vec<Path> {
    let groups = [calls::paths(), processes::paths(), drpc::paths(), flow::paths(), reach::paths()];
    groups.into_iter().flatten().collect()
}
