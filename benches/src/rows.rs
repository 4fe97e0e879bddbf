//! What is measured. Each file is a group of benches; `benches/README.md` has a budget for each.

pub mod calls;
pub mod flow;
pub mod reach;

use crate::harness::Bench;

/// All benches, in the order in which they run.
pub fn all() -> Vec<Bench> {
    [calls::benches(), flow::benches(), reach::benches()].into_iter().flatten().collect()
}
