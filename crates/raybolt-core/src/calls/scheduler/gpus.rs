//! GPUs have ids: whole ones go to one lease, parts of one may be shared.
//!
//! # Invariants
//! - **GPU-1 (exclusive).** Who holds a whole GPU holds it alone.
//! - **GPU-2 (not split).** A part comes from one GPU, and from the fullest that has room, so that others
//!   stay whole.

use super::demand::UNIT;

/// GPUs taken together: ids, and how much of each.
pub(in crate::calls) type Picks = Vec<(u32, i64)>;

/// What is free of each GPU of a node, or of those that a bundle has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::calls) struct Gpus(Vec<(u32, i64)>);

impl Gpus {
    /// So many GPUs in 1/[`UNIT`], all free.
    pub(super) fn new(units: i64) -> Self {
        let count = (units + UNIT - 1).div_euclid(UNIT);
        Gpus((0..count).map(|id| (id as u32, UNIT.min(units - id * UNIT))).collect())
    }

    /// These GPUs, as far as they were picked.
    pub(super) fn of(picks: &[(u32, i64)]) -> Self {
        Gpus(picks.to_vec())
    }

    /// Which would be taken for so many units; `None` if there are not enough.
    pub(super) fn pick(&self, units: i64) -> Option<Picks> {
        if units == 0 {
            return Some(Vec::new());
        }
        let free = self.0.iter().copied();
        if units < UNIT {
            let room = free.filter(|(_, free)| *free >= units).min_by_key(|(_, free)| *free)?;
            return Some(vec![(room.0, units)]);
        }
        let count = (units / UNIT) as usize;
        let whole: Picks = free.filter(|(_, free)| *free == UNIT).take(count).collect();
        (whole.len() == count).then_some(whole)
    }

    pub(super) fn take(&mut self, picks: &[(u32, i64)]) {
        for (id, units) in picks {
            *self.free_of(*id) -= units;
        }
    }

    pub(super) fn give(&mut self, picks: &[(u32, i64)]) {
        for (id, units) in picks {
            *self.free_of(*id) += units;
        }
    }

    /// What is free of each.
    pub(super) fn free(&self) -> &[(u32, i64)] {
        &self.0
    }

    /// How much of what is free is of use to who needs so many units: whole GPUs, or the largest part.
    pub(super) fn free_for(&self, units: i64) -> i64 {
        let free = self.0.iter().map(|(_, free)| *free);
        if units < UNIT { free.max().unwrap_or(0) } else { free.filter(|free| *free == UNIT).sum() }
    }

    fn free_of(&mut self, id: u32) -> &mut i64 {
        let position = self.0.binary_search_by_key(&id, |(id, _)| *id);
        &mut self.0[position.expect("only what was picked here comes back")].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_comes_from_the_fullest_gpu_that_has_room_and_is_never_split() {
        let mut gpus = Gpus::new(3 * UNIT);
        gpus.take(&[(0, 3_000), (1, 6_000)]);
        assert_eq!(gpus.pick(4_000), Some(vec![(1, 4_000)]));
        assert_eq!(gpus.pick(5_000), Some(vec![(0, 5_000)]));
        assert_eq!(gpus.pick(8_000), Some(vec![(2, 8_000)]));
        gpus.take(&[(2, UNIT)]);
        assert_eq!(gpus.pick(8_000), None, "7,000 and 4,000 are free, of two");
        assert_eq!(gpus.free_for(8_000), 7_000);
    }

    #[test]
    fn whole_gpus_are_those_that_nobody_uses() {
        let mut gpus = Gpus::new(3 * UNIT);
        gpus.take(&[(1, 1)]);
        assert_eq!(gpus.pick(2 * UNIT), Some(vec![(0, UNIT), (2, UNIT)]));
        assert_eq!(gpus.pick(3 * UNIT), None);
        assert_eq!(gpus.free_for(3 * UNIT), 2 * UNIT);
        gpus.give(&[(1, 1)]);
        assert_eq!(gpus, Gpus::new(3 * UNIT));
    }

    #[test]
    fn a_node_may_have_a_part_of_a_gpu() {
        assert_eq!(Gpus::new(UNIT / 2).pick(UNIT / 2), Some(vec![(0, UNIT / 2)]));
        assert_eq!(Gpus::new(UNIT / 2).pick(UNIT), None);
    }
}
