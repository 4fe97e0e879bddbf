//! Hands out regions of an arena, and takes them back.
//!
//! # Words
//! The arena is counted in *units* of [`ALIGN`] bytes. A *block* is a run of units, free or taken;
//! blocks cover the arena without gaps, and each knows its neighbours. Free blocks lie in *bins* by
//! size, 32 bins for each power of two, as in TLSF (Masmano, Ripoll, Crespo and Real, 2004); two levels
//! of bit sets find the first bin that has one.
//!
//! All of it lies outside the arena, so that a stray write of a worker cannot spoil it, and a free page
//! is never touched.
//!
//! # Invariants
//! - **SPACE-1 (disjoint).** Taken blocks do not overlap and lie inside the arena.
//! - **SPACE-2 (merged).** No two free blocks are neighbours, so that an empty arena is one block.
//! - **SPACE-3 (warm first).** A block is cut from the low end of a free one, and the free block that was
//!   freed last is taken first from its bin: pages never touched are taken last.
//! - **SPACE-4 (cheap).** Taking and giving back cost the same however many blocks there are.
//!
//! # Not promised
//! That the last fitting block is found: a request is rounded up to the next bin (at most 1/32 more);
//! of the blocks in its own bin only the first [`TRIES_MAX`] are looked at.

/// Every region begins at a multiple of this: a cache line, and what vector loads want.
pub const ALIGN: u64 = 64;

/// The largest arena: units are counted in 32 bits.
pub const CAPACITY_BYTES_MAX: u64 = ALIGN * u32::MAX as u64;

/// Bins per power of two, and below that one bin per size.
const STEPS: u32 = 32;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
const LEVELS: usize = (u32::BITS - STEPS_LOG2 + 1) as usize;
/// How many blocks of a request's own bin are looked at.
const TRIES_MAX: usize = 64;
const NONE: u32 = u32::MAX;

/// A taken block. It cannot be copied, so it is given back once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block(u32);

#[derive(Debug, Clone, Copy)]
struct Node {
    start: u32,
    units: u32,
    /// Neighbours in the arena.
    below: u32,
    above: u32,
    /// Neighbours in the bin, while free; `next` also links unused nodes.
    previous: u32,
    next: u32,
    is_free: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Space {
    nodes: Vec<Node>,
    unused: u32,
    heads: Box<[u32]>,
    /// Which levels have a bin that is not empty, and which bins of a level.
    levels: u32,
    bins: [u32; LEVELS],
    units: u32,
    used: u32,
}

impl Space {
    /// All of an arena, free. What does not fill a unit is left out.
    pub(super) fn new(capacity_bytes: u64) -> Self {
        assert!(capacity_bytes <= CAPACITY_BYTES_MAX, "an arena has at most 2^32 units");
        let units = (capacity_bytes / ALIGN) as u32;
        let mut space = Space {
            nodes: Vec::new(),
            unused: NONE,
            heads: vec![NONE; LEVELS * STEPS as usize].into_boxed_slice(),
            levels: 0,
            bins: [0; LEVELS],
            units,
            used: 0,
        };
        if units > 0 {
            let all = space.node(0, units, NONE, NONE);
            space.shelve(all);
        }
        space
    }

    /// Takes a block of at least `bytes`, at least one unit.
    pub(super) fn take(&mut self, bytes: u64) -> Option<Block> {
        let units = units_of(bytes)?;
        let index = self.find(units)?;
        self.unshelve(index);
        Some(self.occupy(index, units))
    }

    /// Takes the first run of at least `bytes_min` that is free and begins at `from` or later, or as much of
    /// it as `bytes_max`. Walks over all blocks.
    pub(super) fn take_run(&mut self, from: u64, bytes_min: u64, bytes_max: u64) -> Option<Block> {
        let (units_min, units_max) = (units_of(bytes_min)?, units_of(bytes_max)?);
        let mut index = self.lowest();
        while let Some(node) = self.nodes.get(index as usize) {
            let is_after = u64::from(node.start) * ALIGN >= from;
            if node.is_free && is_after && node.units >= units_min {
                let units = node.units.min(units_max);
                self.unshelve(index);
                return Some(self.occupy(index, units));
            }
            index = node.above;
        }
        None
    }

    /// Takes `block` back, and joins it with free neighbours.
    pub(super) fn give_back(&mut self, block: Block) {
        let index = block.0;
        let node = self.nodes[index as usize];
        debug_assert!(!node.is_free, "a block is given back once");
        self.used -= node.units;
        self.nodes[index as usize].is_free = true;
        if self.is_free(node.above) {
            self.unshelve(node.above);
            self.absorb(index, node.above);
        }
        let whole = if self.is_free(node.below) {
            self.unshelve(node.below);
            self.absorb(node.below, index);
            node.below
        } else {
            index
        };
        self.shelve(whole);
    }

    /// Cuts a taken block in two: the first `bytes`, rounded up to units, and what is left, if any.
    pub(super) fn split(&mut self, block: Block, bytes: u64) -> (Block, Option<Block>) {
        let units = units_of(bytes).expect("a part is no larger than its block");
        let node = self.nodes[block.0 as usize];
        assert!(units <= node.units, "a part is no larger than its block");
        if units == node.units {
            return (block, None);
        }
        let rest = self.insert_above(block.0, units);
        self.nodes[rest as usize].is_free = false;
        (block, Some(Block(rest)))
    }

    /// Where `block` begins.
    pub(super) fn offset(&self, block: &Block) -> u64 {
        u64::from(self.nodes[block.0 as usize].start) * ALIGN
    }

    /// How much room `block` takes.
    pub(super) fn bytes(&self, block: &Block) -> u64 {
        u64::from(self.nodes[block.0 as usize].units) * ALIGN
    }

    /// How much there is.
    pub(super) fn capacity_bytes(&self) -> u64 {
        u64::from(self.units) * ALIGN
    }

    /// How much is taken.
    pub(super) fn used_bytes(&self) -> u64 {
        u64::from(self.used) * ALIGN
    }

    /// Offset and length of each free block, in order of offsets. For giving pages back and for tests.
    pub(super) fn free_runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut at = self.lowest();
        std::iter::from_fn(move || {
            while let Some(node) = self.nodes.get(at as usize) {
                at = node.above;
                if node.is_free {
                    return Some((u64::from(node.start) * ALIGN, u64::from(node.units) * ALIGN));
                }
            }
            None
        })
    }

    /// The block at the arena's beginning: node 0 is made first and absorbs, but is never absorbed.
    fn lowest(&self) -> u32 {
        if self.nodes.is_empty() { NONE } else { 0 }
    }

    fn find(&self, units: u32) -> Option<u32> {
        self.first_from(bin_of(round_up(units)))
            .filter(|index| self.nodes[*index as usize].units >= units)
            .or_else(|| self.search(bin_of(units), units))
    }

    /// The first block of the first bin from `bin` on that has one.
    fn first_from(&self, bin: usize) -> Option<u32> {
        let (level, step) = (bin / STEPS as usize, bin as u32 % STEPS);
        let here = self.bins.get(level)? & (u32::MAX << step);
        if here != 0 {
            return Some(self.heads[level * STEPS as usize + here.trailing_zeros() as usize]);
        }
        let above = self.levels & u32::MAX.checked_shl(level as u32 + 1).unwrap_or(0);
        if above == 0 {
            return None;
        }
        let level = above.trailing_zeros() as usize;
        Some(self.heads[level * STEPS as usize + self.bins[level].trailing_zeros() as usize])
    }

    fn search(&self, bin: usize, units: u32) -> Option<u32> {
        let mut at = self.heads[bin];
        for _ in 0..TRIES_MAX {
            let node = self.nodes.get(at as usize)?;
            if node.units >= units {
                return Some(at);
            }
            at = node.next;
        }
        None
    }

    /// Takes the first `units` of a block that is in no bin; the rest becomes a free block.
    fn occupy(&mut self, index: u32, units: u32) -> Block {
        if self.nodes[index as usize].units > units {
            let rest = self.insert_above(index, units);
            self.shelve(rest);
        }
        self.nodes[index as usize].is_free = false;
        self.used += units;
        Block(index)
    }

    /// Shortens a block to `units` and makes a block, in no bin, of what was above.
    fn insert_above(&mut self, index: u32, units: u32) -> u32 {
        let node = self.nodes[index as usize];
        let rest = self.node(node.start + units, node.units - units, index, node.above);
        self.nodes[index as usize].units = units;
        self.nodes[index as usize].above = rest;
        if let Some(above) = self.nodes.get_mut(node.above as usize) {
            above.below = rest;
        }
        rest
    }

    /// Makes `upper`, in no bin, part of its neighbour `lower`.
    fn absorb(&mut self, lower: u32, upper: u32) {
        let node = self.nodes[upper as usize];
        self.nodes[lower as usize].units += node.units;
        self.nodes[lower as usize].above = node.above;
        if let Some(above) = self.nodes.get_mut(node.above as usize) {
            above.below = lower;
        }
        self.nodes[upper as usize].is_free = false;
        self.nodes[upper as usize].next = self.unused;
        self.unused = upper;
    }

    fn node(&mut self, start: u32, units: u32, below: u32, above: u32) -> u32 {
        let node = Node { start, units, below, above, previous: NONE, next: NONE, is_free: true };
        if self.unused == NONE {
            self.nodes.push(node);
            return self.nodes.len() as u32 - 1;
        }
        let index = self.unused;
        self.unused = self.nodes[index as usize].next;
        self.nodes[index as usize] = node;
        index
    }

    fn is_free(&self, index: u32) -> bool {
        self.nodes.get(index as usize).is_some_and(|node| node.is_free)
    }

    fn shelve(&mut self, index: u32) {
        let bin = bin_of(self.nodes[index as usize].units);
        let next = std::mem::replace(&mut self.heads[bin], index);
        let node = &mut self.nodes[index as usize];
        (node.is_free, node.previous, node.next) = (true, NONE, next);
        if let Some(next) = self.nodes.get_mut(next as usize) {
            next.previous = index;
        }
        self.levels |= 1 << (bin / STEPS as usize);
        self.bins[bin / STEPS as usize] |= 1 << (bin as u32 % STEPS);
    }

    fn unshelve(&mut self, index: u32) {
        let node = self.nodes[index as usize];
        if let Some(next) = self.nodes.get_mut(node.next as usize) {
            next.previous = node.previous;
        }
        if let Some(previous) = self.nodes.get_mut(node.previous as usize) {
            previous.next = node.next;
            return;
        }
        let bin = bin_of(node.units);
        self.heads[bin] = node.next;
        if node.next == NONE {
            let level = bin / STEPS as usize;
            self.bins[level] &= !(1 << (bin as u32 % STEPS));
            if self.bins[level] == 0 {
                self.levels &= !(1 << level);
            }
        }
    }
}

/// How many units `bytes` take; `None` if more than an arena can have.
fn units_of(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(ALIGN).max(1)).ok()
}

/// The bin of a free block: the largest whose blocks all have at least its lower bound.
fn bin_of(units: u32) -> usize {
    if units < STEPS {
        return units as usize;
    }
    let log2 = units.ilog2();
    let step = (units >> (log2 - STEPS_LOG2)) & (STEPS - 1);
    ((log2 - STEPS_LOG2 + 1) * STEPS + step) as usize
}

/// Lies in the first bin all of whose blocks have at least `units`, if there is one.
fn round_up(units: u32) -> u32 {
    if units < STEPS {
        return units;
    }
    let step = 1 << (units.ilog2() - STEPS_LOG2);
    units.saturating_add(step - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_freed_last_is_taken_first() {
        let mut space = Space::new(1 << 20);
        let blocks: Vec<_> = (0..6).filter_map(|_| space.take(1000)).collect();
        let offsets: Vec<_> = blocks.iter().map(|block| space.offset(block)).collect();
        let mut blocks: Vec<_> = blocks.into_iter().map(Some).collect();
        for index in [1, 3] {
            space.give_back(blocks[index].take().unwrap());
        }
        let hot = space.take(1000).unwrap();
        assert_eq!(space.offset(&hot), offsets[3]);
        let warm = space.take(1000).unwrap();
        assert_eq!(space.offset(&warm), offsets[1]);
    }

    #[test]
    fn the_whole_arena_is_one_block_and_is_so_again() {
        for bytes in [64, 4096, 1 << 20, 3_333_333, 64 << 30, CAPACITY_BYTES_MAX] {
            let mut space = Space::new(bytes);
            let whole = space.take(bytes / ALIGN * ALIGN).unwrap();
            assert_eq!(space.used_bytes(), space.capacity_bytes());
            assert_eq!(space.take(1), None);
            space.give_back(whole);
            assert_eq!(space.free_runs().collect::<Vec<_>>(), [(0, space.capacity_bytes())]);
        }
        assert_eq!(Space::new(0).take(1), None);
        assert_eq!(Space::new(1 << 20).take(u64::MAX), None);
    }

    #[test]
    fn free_runs_can_be_taken_in_order() {
        let mut space = Space::new(64 * 10);
        let blocks: Vec<_> = (0..10).filter_map(|_| space.take(64)).collect();
        for (index, block) in blocks.into_iter().enumerate() {
            if [1, 4, 5, 6, 9].contains(&index) {
                space.give_back(block);
            }
        }
        let mut from = 0;
        let mut runs = Vec::new();
        while let Some(block) = space.take_run(from, 64, 128) {
            from = space.offset(&block) + space.bytes(&block);
            runs.push((space.offset(&block) / 64, space.bytes(&block) / 64));
            space.give_back(block);
        }
        assert_eq!(runs, [(1, 1), (4, 2), (9, 1)]);
        assert_eq!(space.take_run(0, 256, 512), None);
        assert_eq!(space.used_bytes(), 5 * 64);
    }

    #[test]
    fn a_part_that_is_split_off_lives_by_itself() {
        let mut space = Space::new(1 << 20);
        let slab = space.take(64 * 10).unwrap();
        let (first, rest) = space.split(slab, 65);
        let (second, rest) = space.split(rest.unwrap(), 64);
        assert_eq!((space.offset(&first), space.bytes(&first)), (0, 128));
        assert_eq!((space.offset(&second), space.bytes(&second)), (128, 64));
        space.give_back(first);
        space.give_back(rest.unwrap());
        assert_eq!(space.used_bytes(), 64);
        assert_eq!(space.free_runs().count(), 2);
        let (second, none) = space.split(second, 1);
        assert_eq!(none, None);
        space.give_back(second);
        assert_eq!(space.free_runs().count(), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(u64),
        GiveBack(usize),
        Split(usize, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..20_000).prop_map(Step::Take),
            1 => (0u64..400_000).prop_map(Step::Take),
            4 => any::<usize>().prop_map(Step::GiveBack),
            1 => (any::<usize>(), 1u64..10_000).prop_map(|(at, bytes)| Step::Split(at, bytes)),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// SPACE-1, SPACE-2, and that the count of used bytes is exact.
        #[test]
        fn blocks_are_disjoint_merged_and_counted(steps in steps()) {
            let mut space = Space::new(1 << 20);
            let mut taken: Vec<Block> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(bytes) => {
                        let largest = space.free_runs().map(|run| run.1).max().unwrap_or(0);
                        match space.take(bytes) {
                            Some(block) => taken.push(block),
                            None => prop_assert!(largest < bytes.max(1).next_multiple_of(ALIGN)),
                        }
                    }
                    Step::GiveBack(at) if !taken.is_empty() => {
                        let block = taken.swap_remove(at % taken.len());
                        space.give_back(block);
                    }
                    Step::Split(at, bytes) if !taken.is_empty() => {
                        let block = taken.swap_remove(at % taken.len());
                        let bytes = bytes.min(space.bytes(&block));
                        let (first, rest) = space.split(block, bytes);
                        taken.push(first);
                        taken.extend(rest);
                    }
                    Step::GiveBack(_) | Step::Split(..) => {}
                }
                let mut runs: BTreeMap<u64, (u64, bool)> =
                    space.free_runs().map(|(offset, bytes)| (offset, (bytes, true))).collect();
                for block in &taken {
                    let previous = runs.insert(space.offset(block), (space.bytes(block), false));
                    prop_assert_eq!(previous, None);
                }
                let mut end = 0;
                let mut was_free = false;
                for (offset, (bytes, is_free)) in runs {
                    prop_assert_eq!(offset, end, "neither gap nor overlap");
                    prop_assert!(!(was_free && is_free), "free neighbours are merged");
                    (end, was_free) = (offset + bytes, is_free);
                }
                prop_assert_eq!(end, space.capacity_bytes());
                let used: u64 = taken.iter().map(|block| space.bytes(block)).sum();
                prop_assert_eq!(used, space.used_bytes());
            }
            for block in taken {
                space.give_back(block);
            }
            prop_assert_eq!(space.free_runs().count(), 1);
            prop_assert_eq!(space.used_bytes(), 0);
        }
    }
}
