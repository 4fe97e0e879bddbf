//! Reach.
use crate::harness::Bench;

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    Vec::new()
}
