//! Pins: who reads what, and what has to come back from disk for it.

use super::*;

impl Objects {
    /// Pins an object for `process` if it is in memory. A process may pin an object several times.
    pub fn pinned_now(&mut self, process: ProcessId, key: Key) -> PinNow {
        if self.lost.contains(&process) {
            return PinNow::Unknown;
        }
        match self.objects.get(&key) {
            Some(object) if object.is_released => PinNow::Unknown,
            Some(Object { place: Place::Memory(_) | Place::Spilling(_), .. }) => {
                PinNow::Pinned(self.pin(process, key))
            }
            Some(_) => PinNow::OnDisk,
            None => PinNow::Unknown,
        }
    }

    /// Pins an object that is about to be sent to another process, as OBJ-7 allows, if it is in memory. `process`,
    /// which has the store, keeps it until it is pinned for whoever gets it.
    pub fn lent_now(&mut self, process: ProcessId, key: Key) -> LendNow {
        let object = self.objects.get(&key).filter(|object| !object.is_released);
        let Some(object) = object else { return LendNow::Unknown };
        let bytes = object.bytes.max(1).next_multiple_of(ALIGN);
        let has = |(reader, pins): (&ProcessId, &IdMap<Key, u32>)| {
            *reader != process && pins.contains_key(&key)
        };
        let is_lent = self.holders.iter().any(has) && !self.plants.has(Plant::LendAnew);
        let fits = self.pinned_bytes == 0
            || self.pinned_bytes + bytes <= self.space.capacity_bytes() / 2
            || self.plants.has(Plant::LendMuch);
        if !fits && !is_lent {
            return LendNow::TooMuch;
        }
        match self.pinned_now(process, key) {
            PinNow::Pinned(region) => LendNow::Pinned(region),
            PinNow::OnDisk => LendNow::OnDisk,
            PinNow::Unknown => LendNow::Unknown,
        }
    }

    /// `process` wants to read an object, and waits until `deadline` for it to come back from disk.
    pub fn pin_wanted(&mut self, process: ProcessId, key: Key, deadline: Instant) -> Ticket {
        let ticket = self.ticket();
        let effect = match self.pinned_now(process, key) {
            PinNow::Pinned(region) => Effect::Pinned(ticket, region),
            PinNow::Unknown => Effect::Refuse(ticket, Refusal::Unknown(key)),
            PinNow::OnDisk if self.is_closed => Effect::Refuse(ticket, Refusal::Closed),
            PinNow::OnDisk => {
                self.pin_waits.entry(key).or_default().push(PinWait { ticket, process, deadline });
                self.want_back(key);
                return ticket;
            }
        };
        self.effects.push_back(effect);
        ticket
    }

    /// `process` has read what it wanted. Says whether it had a pin.
    pub fn unpinned(&mut self, process: ProcessId, key: Key) -> bool {
        let Some(pins) = self.holders.get_mut(&process) else { return false };
        let Some(count) = pins.get_mut(&key) else { return false };
        *count -= 1;
        if *count == 0 {
            pins.remove(&key);
            if pins.is_empty() {
                self.holders.remove(&process);
            }
        }
        self.drop_pins(key, 1);
        self.settle();
        true
    }

    /// An object was read from disk.
    pub fn restored(&mut self, key: Key) {
        self.restore_ended(key);
        for wait in self.pin_waits.remove(&key).unwrap_or_default() {
            let region = self.pin(wait.process, key);
            self.effects.push_back(Effect::Pinned(wait.ticket, region));
        }
        self.settle();
    }

    /// An object could not be read from disk, where it stays.
    pub fn restore_failed(&mut self, key: Key) {
        self.restore_ended(key);
        if let Some(object) = self.objects.get(&key)
            && object.pins == 0
        {
            self.evict(key);
        }
        self.refuse_pins(key, &Refusal::RestoreFailed(key));
        self.settle();
    }

    /// Begins to read an object into `block`.
    pub(super) fn restore(&mut self, key: Key, block: Block) {
        let offset = self.space.offset(&block);
        let object = self.objects.get_mut(&key).expect("who waits for an object keeps it");
        let on_disk = object.on_disk.expect("an object that is not in memory is on disk");
        self.spilled_objects -= 1;
        self.spilled_bytes -= object.bytes;
        object.place = Place::Restoring(block);
        let region = Region { offset, bytes: object.bytes };
        let OnDisk { file, offset } = on_disk;
        self.effects.push_back(Effect::Restore { key, file, offset, region });
    }

    /// Tells all who wait for `key` that they wait in vain.
    pub(super) fn refuse_pins(&mut self, key: Key, refusal: &Refusal) {
        for wait in self.pin_waits.remove(&key).unwrap_or_default() {
            self.effects.push_back(Effect::Refuse(wait.ticket, refusal.clone()));
        }
        self.want_back_no_more(key);
    }

    pub(super) fn refuse_process(&mut self, process: ProcessId) {
        let refusal = Refusal::ProcessLost(process);
        self.refuse_some_pins(|wait| wait.process == process, |_| refusal.clone());
        let is_its = |wait: &Wait| matches!(wait.want, Want::New(Purpose::Slab(wanted_by)) if wanted_by == process);
        let its = self.waiting.iter().filter(|(_, wait)| is_its(wait));
        let its: Vec<_> = its.map(|(entry, _)| *entry).collect();
        for (rank, ticket) in its {
            self.refuse_wait(rank, ticket, refusal.clone());
        }
    }

    pub(super) fn refuse_late_pins(&mut self, now: Instant) {
        let usage = self.usage();
        self.refuse_some_pins(
            |wait| wait.deadline <= now,
            |bytes| Refusal::Full { bytes, usage: Box::new(usage) },
        );
    }

    /// Forgets who waits for an object under `ticket`; whether there was such a wait.
    pub(super) fn give_up_pin(&mut self, ticket: Ticket) -> bool {
        let is_waited_for = |waits: &Vec<PinWait>| waits.iter().any(|wait| wait.ticket == ticket);
        let mut waits = self.pin_waits.iter();
        let Some(key) = waits.find(|(_, waits)| is_waited_for(waits)).map(|(key, _)| *key) else {
            return false;
        };
        if let Some(waits) = self.pin_waits.get_mut(&key) {
            waits.retain(|wait| wait.ticket != ticket);
        }
        self.want_back_no_more(key);
        true
    }

    /// Takes `count` pins off an object, which goes if it was wanted by its readers only.
    pub(super) fn drop_pins(&mut self, key: Key, count: u32) {
        let object = self.objects.get_mut(&key).expect("a pinned object stays");
        object.pins -= count;
        if object.pins > 0 {
            return;
        }
        let (Place::Memory(block) | Place::Spilling(block)) = &object.place else {
            unreachable!("a pinned object is in memory");
        };
        self.pinned_bytes -= self.space.bytes(block);
        if object.is_released {
            self.drop_if_done(key);
        } else {
            self.shelve(key);
        }
    }

    fn pin(&mut self, process: ProcessId, key: Key) -> Region {
        let object = self.objects.get_mut(&key).expect("only what is there is pinned");
        let is_first = object.pins == 0;
        object.pins += 1;
        let (Place::Memory(block) | Place::Spilling(block)) = &object.place else {
            unreachable!("only what is in memory is pinned");
        };
        let region = Region { offset: self.space.offset(block), bytes: object.bytes };
        if is_first {
            self.pinned_bytes += self.space.bytes(block);
            self.unshelve(key);
        }
        *self.holders.entry(process).or_default().entry(key).or_default() += 1;
        region
    }

    /// Asks for room for an object that lies on disk, unless that was done.
    fn want_back(&mut self, key: Key) {
        let is_wanted = |wait: &Wait| matches!(wait.want, Want::Restore(other) if other == key);
        let object = self.objects.get(&key).expect("who waits for an object keeps it");
        let is_coming = matches!(object.place, Place::Restoring(_));
        if is_coming || self.waiting.values().any(is_wanted) {
            return;
        }
        let wait = Wait { want: Want::Restore(key), bytes: object.bytes, deadline: None };
        let ticket = self.ticket();
        self.waiting.insert((Rank::Restore, ticket), wait);
        self.settle();
    }

    /// Wants no room for an object for which nobody waits any more.
    fn want_back_no_more(&mut self, key: Key) {
        if self.pin_waits.get(&key).is_some_and(|waits| !waits.is_empty()) {
            return;
        }
        self.pin_waits.remove(&key);
        self.waiting.retain(|_, wait| !matches!(wait.want, Want::Restore(other) if other == key));
    }

    /// An object is in memory, on the shelf unless it is released, and then it may be gone.
    fn restore_ended(&mut self, key: Key) {
        let object = self.objects.get_mut(&key).expect("an object stays while it is read");
        let Place::Restoring(block) = std::mem::replace(&mut object.place, Place::Disk) else {
            unreachable!("an object that is read is not moved meanwhile");
        };
        object.place = Place::Memory(block);
        if object.is_released {
            self.drop_if_done(key);
        } else {
            self.shelve(key);
        }
    }

    fn refuse_some_pins(&mut self, which: impl Fn(&PinWait) -> bool, why: impl Fn(u64) -> Refusal) {
        let keys: Vec<_> = self.pin_waits.keys().copied().collect();
        for key in keys {
            let bytes = self.object_bytes(key).unwrap_or(0);
            let waits = self.pin_waits.get_mut(&key).expect("its key was there");
            for wait in waits.extract_if(.., |wait| which(wait)) {
                self.effects.push_back(Effect::Refuse(wait.ticket, why(bytes)));
            }
            self.want_back_no_more(key);
        }
    }
}
