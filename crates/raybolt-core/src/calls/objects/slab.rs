//! Room lent to a process that writes objects there on its own.

use std::collections::BTreeMap;

use super::space::{ALIGN, Block, Space};
use super::types::Region;
use crate::ids::ProcessId;

/// What is left of a slab: the parts in which nothing has been sealed.
#[derive(Debug)]
pub(super) struct Slab {
    pub(super) process: ProcessId,
    /// By offset.
    parts: BTreeMap<u64, Block>,
}

impl Slab {
    pub(super) fn new(process: ProcessId, block: Block, space: &Space) -> Self {
        Slab { process, parts: BTreeMap::from([(space.offset(&block), block)]) }
    }

    /// Cuts `region` out of what is left. The region comes from another process: it may be anything.
    pub(super) fn cut(&mut self, region: Region, space: &mut Space) -> Option<Block> {
        let end = region.end()?.checked_next_multiple_of(ALIGN)?;
        let end = end.max(region.offset.checked_add(ALIGN)?);
        let (start, block) = self.parts.range(..=region.offset).next_back()?;
        let is_inside = end <= start + space.bytes(block);
        if !region.offset.is_multiple_of(ALIGN) || !is_inside {
            return None;
        }
        let start = *start;
        let mut block = self.parts.remove(&start)?;
        if region.offset > start {
            let (before, from) = space.split(block, region.offset - start);
            self.parts.insert(start, before);
            block = from?;
        }
        let (cut, rest) = space.split(block, region.bytes);
        if let Some(rest) = rest {
            self.parts.insert(space.offset(&rest), rest);
        }
        Some(cut)
    }

    pub(super) fn bytes(&self, space: &Space) -> u64 {
        self.parts.values().map(|part| space.bytes(part)).sum()
    }

    pub(super) fn into_parts(self) -> impl Iterator<Item = Block> {
        self.parts.into_values()
    }
}
