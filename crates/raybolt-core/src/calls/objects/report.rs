//! What there is, for whoever watches.

use std::collections::BTreeSet;

use super::*;

impl Objects {
    /// Whether there is an object that is wanted.
    pub fn contains(&self, key: Key) -> bool {
        self.objects.get(&key).is_some_and(|object| !object.is_released)
    }

    /// How long an object is.
    pub fn object_bytes(&self, key: Key) -> Option<u64> {
        self.objects.get(&key).map(|object| object.bytes)
    }

    /// Who has the room, and what lies on disk.
    pub fn usage(&self) -> Usage {
        let used_bytes = self.space.used_bytes();
        let pin_waits: usize = self.pin_waits.values().map(Vec::len).sum();
        let rooms = self.waiting.keys().filter(|(rank, _)| *rank == Rank::New).count();
        Usage {
            capacity_bytes: self.space.capacity_bytes(),
            used_bytes,
            object_bytes: used_bytes - self.writing_bytes - self.slab_bytes,
            pinned_bytes: self.pinned_bytes,
            writing_bytes: self.writing_bytes,
            slab_bytes: self.slab_bytes,
            objects: self.objects.len() as u64,
            spilled_objects: self.spilled_objects,
            spilled_bytes: self.spilled_bytes,
            files: self.files.len() as u64,
            file_bytes: self.files.bytes(),
            slabs: self.slabs,
            waiting: (pin_waits + rooms) as u64,
        }
    }

    /// Room that nobody has, in order of offsets: whose pages may be given back to the system.
    pub fn free_regions(&self) -> impl Iterator<Item = Region> {
        self.space.free_runs().map(|(offset, bytes)| Region { offset, bytes })
    }

    /// All objects, in no particular order.
    pub fn reports(&self) -> impl Iterator<Item = ObjectReport> {
        self.objects.iter().map(|(key, object)| report(*key, object))
    }

    /// One object.
    pub fn report(&self, key: Key) -> Option<ObjectReport> {
        self.objects.get(&key).map(|object| report(key, object))
    }

    /// Who has the arena's room; at most `count` objects.
    pub fn room_holders(&self, count: usize) -> Holders {
        // The least of them comes first, to be the one that goes.
        let mut largest = BTreeSet::new();
        for (key, object) in &self.objects {
            if matches!(object.place, Place::Disk) {
                continue;
            }
            largest.insert((object.pins > 0, object.bytes, *key));
            if largest.len() > count {
                largest.pop_first();
            }
        }
        let holder = |(_, _, key): (bool, u64, Key)| {
            let readers = self.holders.iter().filter(|(_, pins)| pins.contains_key(&key));
            let readers = readers.map(|(process, _)| *process).collect();
            Some(Holder { object: self.report(key)?, readers })
        };
        let mut slabs = BTreeMap::new();
        for room in self.rooms.values() {
            if let Room::Slab(slab) = room {
                *slabs.entry(slab.process).or_insert(0) += slab.bytes(&self.space);
            }
        }
        Holders {
            usage: self.usage(),
            objects: largest.into_iter().rev().filter_map(holder).collect(),
            slabs: slabs.into_iter().collect(),
        }
    }

    /// All who wait, those who wait for objects first.
    pub fn wait_reports(&self) -> impl Iterator<Item = WaitReport> {
        let for_object = |(key, waits): (&Key, &Vec<PinWait>)| {
            let reports = waits.iter().map(|wait| WaitReport::Object(wait.process, *key));
            reports.collect::<Vec<_>>()
        };
        let for_room = |wait: &Wait| match wait.want {
            Want::New(Purpose::Object) => Some(WaitReport::Room(wait.bytes)),
            Want::New(Purpose::Slab(process)) => Some(WaitReport::Slab(process, wait.bytes)),
            Want::Restore(_) => None,
        };
        let rooms = self.waiting.values().filter_map(for_room);
        self.pin_waits.iter().flat_map(for_object).chain(rooms)
    }
}

fn report(key: Key, object: &Object) -> ObjectReport {
    ObjectReport {
        key,
        bytes: object.bytes,
        whereabouts: match object.place {
            Place::Memory(_) => Whereabouts::Memory,
            Place::Spilling(_) => Whereabouts::Spilling,
            Place::Restoring(_) => Whereabouts::Restoring,
            Place::Disk => Whereabouts::Disk,
        },
        pins: object.pins,
        is_released: object.is_released,
    }
}
