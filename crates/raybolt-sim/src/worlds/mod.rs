//! The worlds: each runs some production machines among parties, links and faults of its own.

pub(crate) mod dag;
mod flow;
mod groups;
mod lineage;
mod processes;
mod requests;

use raybolt_core::plant::Plants;

use crate::rng::Rng;
use crate::trace::{Trace, Verdict};

/// The worlds a seed may choose from.
const WORLDS: [fn(Rng, Plants, &mut Trace) -> Verdict; 6] =
    [processes::run, processes::run, flow::run, requests::run, groups::run, lineage::run];

/// Runs the world that the seed chooses.
pub(crate) fn run(seed: u64, plants: Plants, trace: &mut Trace) -> Verdict {
    let mut rng = Rng::new(seed);
    let world = *rng.pick(&WORLDS);
    world(rng, plants, trace)
}
