//! What is measured. Each file is a group of benches; `benches/README.md` has a budget for each.

pub mod calls;
pub mod drpc;
pub mod flow;
pub mod idle;
pub mod objects;
pub mod reach;

use crate::harness::Bench;

/// How many threads work, on every side that can choose.
pub const THREADS: usize = 2;

/// All benches, in the order in which they run.
pub fn all() -> Vec<Bench> {
    let groups = [
        calls::benches(),
        objects::benches(),
        drpc::benches(),
        flow::benches(),
        reach::benches(),
        idle::benches(),
    ];
    groups.into_iter().flatten().collect()
}
