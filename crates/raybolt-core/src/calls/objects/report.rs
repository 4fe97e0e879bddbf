//! What there is, for whoever watches.

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
        self.objects.iter().map(|(key, object)| ObjectReport {
            key: *key,
            bytes: object.bytes,
            whereabouts: match object.place {
                Place::Memory(_) => Whereabouts::Memory,
                Place::Spilling(_) => Whereabouts::Spilling,
                Place::Restoring(_) => Whereabouts::Restoring,
                Place::Disk => Whereabouts::Disk,
            },
            pins: object.pins,
            is_released: object.is_released,
        })
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
