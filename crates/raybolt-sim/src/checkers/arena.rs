//! An arena in which every unit holds a number that tells whose it is, and what must not be touched.
//!
//! # Checked
//! - Room is given out only where nobody reads, writes, or has a slab (OBJ-2, SPACE-1).
//! - Who reads sees what was written, also after it was on disk (OBJ-2, OBJ-3).
//! - What is lent to workers is at most half of the store, one object, or what is lent already (OBJ-7).
//! - The machine's account of pins, rooms and slabs is that of the model, to the byte (OBJ-1).

use std::collections::BTreeMap;

use raybolt_core::calls::objects::{ALIGN, Region, Usage};
use raybolt_core::ids::ProcessId;

use crate::trace::{Verdict, require};

const NAME: &str = "store";

/// The truth about one node's store.
#[derive(Debug, Default)]
pub struct Arena {
    units: Vec<u64>,
    /// Objects that are read, by their tags: where, and by whom how often.
    pinned: BTreeMap<u64, (Region, BTreeMap<ProcessId, u32>)>,
    /// Rooms that are written by the driver.
    rooms: BTreeMap<u64, Region>,
    /// What is left of slabs, unit by unit: who has it, and in which slab.
    slabs: BTreeMap<u64, (ProcessId, u64)>,
    next_tag: u64,
}

impl Arena {
    /// An arena of so many units.
    pub fn new(units: u64) -> Self {
        Arena { units: vec![0; units as usize], ..Arena::default() }
    }

    /// A number that nobody used before.
    pub fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    /// The driver got room to write.
    pub fn room_given(&mut self, ticket: u64, region: Region) -> Verdict {
        self.is_untouched(region)?;
        self.rooms.insert(ticket, region);
        Ok(())
    }

    /// The driver has written, or needs the room no more.
    pub fn room_done(&mut self, ticket: u64) -> Option<Region> {
        self.rooms.remove(&ticket)
    }

    /// A worker got a slab.
    pub fn slab_given(&mut self, to: ProcessId, slab: u64, region: Region) -> Verdict {
        self.is_untouched(region)?;
        self.slabs.extend(units(region).map(|unit| (unit, (to, slab))));
        Ok(())
    }

    /// A slab is given back.
    pub fn slab_returned(&mut self, slab: u64) {
        self.slabs.retain(|_, (_, other)| *other != slab);
    }

    /// A part of a slab became an object.
    pub fn slab_cut(&mut self, region: Region) {
        for unit in units(region) {
            self.slabs.remove(&unit);
        }
    }

    /// A process is lost: it reads nothing and has no slabs.
    pub fn process_lost(&mut self, process: ProcessId) {
        self.slabs.retain(|_, (owner, _)| *owner != process);
        self.pinned.retain(|_, (_, readers)| {
            readers.remove(&process);
            !readers.is_empty()
        });
    }

    /// An object is read back into this place.
    pub fn restoring(&self, region: Region) -> Verdict {
        self.is_untouched(region)
    }

    /// OBJ-7: whether an object of so many bytes may be lent to somebody.
    pub fn may_be_lent(&self, tag: u64, bytes: u64, lender: ProcessId) -> bool {
        let room = |region: &Region| units(*region).count() as u64 * ALIGN;
        let pinned: u64 = self.pinned.values().map(|(region, _)| room(region)).sum();
        let more = room(&Region { offset: 0, bytes });
        let half = self.units.len() as u64 * ALIGN / 2;
        let others = self
            .pinned
            .get(&tag)
            .map_or(0, |(_, readers)| readers.keys().filter(|reader| **reader != lender).count());
        others > 0 || pinned == 0 || pinned + more <= half
    }

    /// Somebody reads an object from now on.
    pub fn pinned(&mut self, tag: u64, region: Region, by: ProcessId) -> Verdict {
        self.holds(region, tag)?;
        let (place, readers) = self.pinned.entry(tag).or_insert((region, BTreeMap::new()));
        let place = *place;
        *readers.entry(by).or_default() += 1;
        require(place == region, NAME, || {
            format!("OBJ-2: value {tag} is read at {place}, and now lies at {region}")
        })
    }

    /// Somebody has read an object.
    pub fn unpinned(&mut self, tag: u64, by: ProcessId) {
        let Some((_, readers)) = self.pinned.get_mut(&tag) else { return };
        if let Some(count) = readers.get_mut(&by) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&by);
            }
        }
        if readers.is_empty() {
            self.pinned.remove(&tag);
        }
    }

    /// Somebody writes.
    pub fn write(&mut self, region: Region, tag: u64) {
        for unit in units(region) {
            self.units[unit as usize] = tag;
        }
    }

    /// Somebody reads: nothing else may be there.
    pub fn holds(&self, region: Region, tag: u64) -> Verdict {
        let other = units(region).find(|unit| self.units.get(*unit as usize) != Some(&tag));
        require(other.is_none(), NAME, || {
            format!("OBJ-2: value {tag} at {region} is spoiled in unit {other:?}")
        })
    }

    /// What lies there, to be written to disk.
    pub fn copy(&self, region: Region) -> Vec<u64> {
        units(region).map(|unit| self.units[unit as usize]).collect()
    }

    /// What was read from disk.
    pub fn paste(&mut self, region: Region, copied: &[u64]) {
        for (unit, value) in units(region).zip(copied) {
            self.units[unit as usize] = *value;
        }
    }

    /// The machine's account is right.
    pub fn agrees(&self, usage: &Usage) -> Verdict {
        let bytes_of = |region: &Region| units(*region).count() as u64 * ALIGN;
        let pinned: u64 = self.pinned.values().map(|(region, _)| bytes_of(region)).sum();
        let rooms: u64 = self.rooms.values().map(bytes_of).sum();
        let slabs = self.slabs.len() as u64 * ALIGN;
        let claimed = (usage.pinned_bytes, usage.writing_bytes, usage.slab_bytes);
        let fits = usage.used_bytes <= usage.capacity_bytes;
        require(fits && claimed == (pinned, rooms, slabs), NAME, || {
            format!(
                "OBJ-1: pinned, written and lent are {pinned}, {rooms}, {slabs} bytes: {usage:?}"
            )
        })
    }

    fn is_untouched(&self, region: Region) -> Verdict {
        let overlaps =
            |other: &Region| units(region).any(|unit| units(*other).any(|other| other == unit));
        let mut taken = self.pinned.values().map(|(region, _)| region).chain(self.rooms.values());
        let taken = taken.find(|other| overlaps(other));
        require(taken.is_none(), NAME, || {
            format!("OBJ-2: {region} is given out, though {taken:?} is read or written")
        })?;
        let lent = units(region).find_map(|unit| self.slabs.get(&unit));
        require(lent.is_none(), NAME, || {
            format!("SPACE-1: {region} is given out, though {lent:?} has a slab there")
        })
    }
}

/// The units of a region, at least one.
fn units(region: Region) -> std::ops::Range<u64> {
    let first = region.offset / ALIGN;
    first..first + region.bytes.div_ceil(ALIGN).max(1)
}
