//! Room: who waits for it, and what goes to make it.

use super::*;

impl Objects {
    /// Somebody wants room for `purpose` and waits for it until `deadline`.
    pub fn wanted(&mut self, purpose: Purpose, bytes: u64, deadline: Instant) -> Ticket {
        let ticket = self.ticket();
        if let Some(refusal) = self.hopeless(purpose, bytes) {
            self.effects.push_back(Effect::Refuse(ticket, refusal));
            return ticket;
        }
        let wait = Wait { want: Want::New(purpose), bytes, deadline: Some(deadline) };
        self.waiting.insert((Rank::New, ticket), wait);
        if !self.is_closed {
            self.settle();
        } else if !self.try_admit(Rank::New, ticket) {
            self.refuse_wait(Rank::New, ticket, Refusal::Closed);
        }
        ticket
    }

    /// Takes room if it is there without a wait and nobody waits for room already.
    pub fn taken_now(&mut self, purpose: Purpose, bytes: u64) -> Option<(Ticket, Region)> {
        if !self.waiting.is_empty() || self.hopeless(purpose, bytes).is_some() {
            return None;
        }
        let block = self.find(bytes)?;
        let ticket = self.ticket();
        Some((ticket, self.open_room(ticket, purpose, block, bytes)))
    }

    /// Takes room that nobody uses, `from` some offset on and at most so much of it, to give its pages back to
    /// the system; then it has to be [`Objects::given_up`]. Nothing goes to make it, and nobody waits for it.
    pub fn idle_taken(
        &mut self,
        from: u64,
        bytes_min: u64,
        bytes_max: u64,
    ) -> Option<(Ticket, Region)> {
        if !self.waiting.is_empty() {
            return None;
        }
        let block = self.space.take_run(from, bytes_min, bytes_max)?;
        let (ticket, bytes) = (self.ticket(), self.space.bytes(&block));
        Some((ticket, self.open_room(ticket, Purpose::Object, block, bytes)))
    }

    /// Whoever waits under `ticket`, or has room under it that holds no object, wants it no more.
    pub fn given_up(&mut self, ticket: Ticket) {
        if self.waiting.remove(&(Rank::New, ticket)).is_none() && !self.give_up_pin(ticket) {
            self.give_room_back(ticket);
        }
        self.settle();
    }

    /// `process` needs its slab no more; what it has sealed there stays.
    pub fn slab_returned(&mut self, process: ProcessId, ticket: Ticket) {
        if matches!(self.rooms.get(&ticket), Some(Room::Slab(slab)) if slab.process == process) {
            self.give_room_back(ticket);
            self.settle();
        }
    }

    /// The session ends: whoever waits is refused, and so is whoever would have to wait from now on. What
    /// takes no wait goes on.
    pub fn closed(&mut self) {
        self.is_closed = true;
        let keys: Vec<_> = self.pin_waits.keys().copied().collect();
        keys.into_iter().for_each(|key| self.refuse_pins(key, &Refusal::Closed));
        let waiting: Vec<_> = self.waiting.keys().copied().collect();
        for (rank, ticket) in waiting {
            self.refuse_wait(rank, ticket, Refusal::Closed);
        }
    }

    /// A file was written: what is in it needs no room any more, unless somebody reads it.
    pub fn spilled(&mut self, file: FileId) {
        let keys = self.spilling.remove(&file).expect("a file is written once");
        let (mut offset, mut wanted) = (0, Vec::new());
        for key in keys {
            let object = self.objects.get_mut(&key).expect("an object stays while it is written");
            let on_disk = OnDisk { file, offset };
            offset += object.bytes;
            let Place::Spilling(block) = std::mem::replace(&mut object.place, Place::Disk) else {
                unreachable!("an object that is written is not moved meanwhile");
            };
            let is_read = object.pins > 0 && !self.plants.has(Plant::SpillPinned);
            if object.is_released || is_read {
                object.place = Place::Memory(block);
            } else {
                self.spilled_objects += 1;
                let times = if self.plants.has(Plant::CountSpillTwice) { 2 } else { 1 };
                self.spilled_bytes += times * object.bytes;
                self.space.give_back(block);
            }
            if !object.is_released {
                object.on_disk = Some(on_disk);
                wanted.push(key);
            }
            self.drop_if_done(key);
        }
        if wanted.is_empty() {
            self.effects.push_back(Effect::RemoveFile(file));
        } else {
            self.files.written(file, wanted.len(), offset);
        }
        self.settle();
    }

    /// A file could not be written. Nothing is lost; whoever needs the room is told.
    pub fn spill_failed(&mut self, file: FileId) {
        let keys = self.spilling.remove(&file).expect("a file is written once");
        for key in keys {
            let object = self.objects.get_mut(&key).expect("an object stays while it is written");
            if let Place::Spilling(block) = std::mem::replace(&mut object.place, Place::Disk) {
                object.place = Place::Memory(block);
            }
            if object.pins == 0 && !object.is_released {
                self.shelve(key);
            }
            self.drop_if_done(key);
        }
        let waiting: Vec<_> = self.waiting.keys().copied().collect();
        for (rank, ticket) in waiting {
            if !self.try_admit(rank, ticket) {
                self.refuse_wait(rank, ticket, Refusal::SpillFailed);
            }
        }
    }

    /// Serves those who wait, in order, and starts to make room for the first who cannot be served.
    pub(super) fn settle(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting: Vec<_> = self.waiting.keys().copied().collect();
        for (rank, ticket) in waiting {
            if !self.try_admit(rank, ticket) && (!self.spilling.is_empty() || self.spill()) {
                return;
            }
        }
    }

    pub(super) fn give_room_back(&mut self, ticket: Ticket) {
        match self.rooms.remove(&ticket) {
            Some(Room::Object { block, .. }) => {
                self.writing_bytes -= self.space.bytes(&block);
                self.space.give_back(block);
            }
            Some(Room::Slab(slab)) => {
                self.slabs -= 1;
                for part in slab.into_parts() {
                    self.slab_bytes -= self.space.bytes(&part);
                    self.space.give_back(part);
                }
            }
            None => {}
        }
    }

    /// Ends a wait for room; if it was for an object on disk, all who wait for that.
    pub(super) fn refuse_wait(&mut self, rank: Rank, ticket: Ticket, refusal: Refusal) {
        match self.waiting.remove(&(rank, ticket)).map(|wait| wait.want) {
            Some(Want::New(_)) => self.effects.push_back(Effect::Refuse(ticket, refusal)),
            Some(Want::Restore(key)) => self.refuse_pins(key, &refusal),
            None => {}
        }
    }

    /// Why a wait need not begin.
    fn hopeless(&self, purpose: Purpose, bytes: u64) -> Option<Refusal> {
        let capacity_bytes = self.space.capacity_bytes();
        match purpose {
            Purpose::Slab(process) if self.lost.contains(&process) => {
                Some(Refusal::ProcessLost(process))
            }
            _ if bytes > capacity_bytes => Some(Refusal::TooLarge { bytes, capacity_bytes }),
            _ => None,
        }
    }

    fn try_admit(&mut self, rank: Rank, ticket: Ticket) -> bool {
        let Some(wait) = self.waiting.get(&(rank, ticket)) else { return true };
        let (want, bytes) = (wait.want, wait.bytes);
        let Some(block) = self.find(bytes) else { return false };
        self.waiting.remove(&(rank, ticket));
        match want {
            Want::New(purpose) => {
                let region = self.open_room(ticket, purpose, block, bytes);
                self.effects.push_back(Effect::Admit(ticket, region));
            }
            Want::Restore(key) => self.restore(key, block),
        }
        true
    }

    fn open_room(&mut self, ticket: Ticket, purpose: Purpose, block: Block, bytes: u64) -> Region {
        let (offset, room_bytes) = (self.space.offset(&block), self.space.bytes(&block));
        match purpose {
            Purpose::Object => {
                self.writing_bytes += room_bytes;
                self.rooms.insert(ticket, Room::Object { block, bytes });
                Region { offset, bytes }
            }
            Purpose::Slab(process) => {
                self.slab_bytes += room_bytes;
                self.slabs += 1;
                let slab = slab::Slab::new(process, block, &self.space);
                self.rooms.insert(ticket, Room::Slab(slab));
                Region { offset, bytes: room_bytes }
            }
        }
    }

    /// Finds room that is free, or that copies have.
    fn find(&mut self, bytes: u64) -> Option<Block> {
        loop {
            if let Some(block) = self.space.take(bytes) {
                return Some(block);
            }
            let free_bytes = self.space.capacity_bytes() - self.space.used_bytes();
            if free_bytes + self.shelf.copy_bytes() < bytes {
                return None;
            }
            let key = self.shelf.coldest(Worth::Copy)?;
            self.evict(key);
        }
    }

    /// Drops a copy from memory.
    pub(super) fn evict(&mut self, key: Key) {
        self.unshelve(key);
        let object = self.objects.get_mut(&key).expect("what is on the shelf is there");
        if object.on_disk.is_none() {
            self.forget(key);
            self.effects.push_back(Effect::Evict(key));
            return;
        }
        self.spilled_objects += 1;
        self.spilled_bytes += object.bytes;
        if let Place::Memory(block) = std::mem::replace(&mut object.place, Place::Disk) {
            self.space.give_back(block);
        }
    }

    /// Begins to write the coldest primaries to one file; whether there were any.
    fn spill(&mut self) -> bool {
        let Some(file_bytes) = self.options.spill_file_bytes else { return false };
        let (mut keys, mut regions, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < file_bytes
            && let Some(key) = self.shelf.coldest(Worth::Only)
        {
            self.unshelve(key);
            let object = self.objects.get_mut(&key).expect("what is on the shelf is there");
            if let Place::Memory(block) = std::mem::replace(&mut object.place, Place::Disk) {
                regions.push(Region { offset: self.space.offset(&block), bytes: object.bytes });
                object.place = Place::Spilling(block);
            }
            bytes += object.bytes.max(1);
            keys.push(key);
        }
        if keys.is_empty() {
            return false;
        }
        let file = self.files.name();
        self.spilling.insert(file, keys);
        self.effects.push_back(Effect::Spill(file, regions));
        true
    }
}
