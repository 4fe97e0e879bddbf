//! The driver's shell around the store: performs its effects on an arena and on files, late and sometimes in
//! vain.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use raybolt_core::calls::objects::{
    ALIGN, Effect, FileId, Key as StoreKey, LendNow, Objects, Options as StoreOptions, PinNow,
    Purpose, Region, Standing, Ticket,
};
use raybolt_core::calls::owner::ObjectKey;
use raybolt_core::ids::ProcessId;
use raybolt_core::plant::Plants;
use slotmap::KeyData;

use super::links::Way;
use super::messages::{Parcel, Place, ToDriver, ToWorker};
use super::options::Options;
use super::{DRIVER, Event, World, object_id};
use crate::trace::{Verdict, require};

/// The store, and what the driver knows of those who wait for it.
#[derive(Debug)]
pub struct Store {
    machine: Objects,
    /// The objects in each file: how long each is, and its units.
    files: BTreeMap<FileId, Vec<(u64, Vec<u64>)>>,
    waits: BTreeMap<Ticket, Wait>,
    /// What lies in the store and is wanted.
    stored: BTreeSet<ObjectKey>,
    /// What tells each value that ever lay there.
    tags: BTreeMap<ObjectKey, u64>,
    /// Pins that were had without a wait, to be told of.
    at_once: Vec<(ProcessId, ObjectKey, u64, Region)>,
    /// Who reads what, and its tag.
    reads: BTreeMap<(ProcessId, ObjectKey), (u64, u32)>,
    /// Whether somebody comes at the next deadline.
    deadline: Option<u64>,
    /// Workers that wait until something is unpinned: which object each wants, what it calls it, and its deadline.
    loans: Vec<(ProcessId, ObjectKey, u64, Instant)>,
}

#[derive(Debug)]
enum Wait {
    /// The user puts a value with these references in it.
    Put(Vec<ObjectKey>),
    Slab(ProcessId),
    /// A process wants to read an object that it names so.
    Pin(ProcessId, ObjectKey, u64),
}

/// What is done in the background.
#[derive(Debug)]
pub enum StoreEvent {
    /// The driver has written into its room.
    Written(Ticket, Vec<ObjectKey>),
    Spilled(FileId, Vec<Region>),
    Restored(StoreKey, FileId, u64, Region),
    /// The driver has read an object.
    Read(ObjectKey, Region),
    Deadline,
    /// A worker has waited long enough for others to read.
    LoanDeadline,
}

impl Store {
    /// An empty store.
    pub fn new(options: &Options, plants: Plants) -> Self {
        let options = StoreOptions {
            capacity_bytes: options.capacity_units * ALIGN,
            spill_file_bytes: options.disk.then_some(4 * ALIGN),
        };
        Store {
            machine: Objects::with_plants(options, plants),
            files: BTreeMap::new(),
            waits: BTreeMap::new(),
            stored: BTreeSet::new(),
            tags: BTreeMap::new(),
            at_once: Vec::new(),
            reads: BTreeMap::new(),
            deadline: None,
            loans: Vec::new(),
        }
    }
}

impl World<'_> {
    /// Whether an object's value lies in the store.
    pub fn is_stored(&self, object: ObjectKey) -> bool {
        self.store.stored.contains(&object)
    }

    /// The user puts a large value, and waits for room.
    pub fn put_large(&mut self, inside: Vec<ObjectKey>) {
        let most = (self.shared.options.capacity_units / 3).max(1) * ALIGN;
        let bytes = self.shared.rng.within(&(0..=most));
        let deadline = self.shared.clock.instant() + self.patience();
        let ticket = self.store.machine.wanted(Purpose::Object, bytes, deadline);
        self.store.waits.insert(ticket, Wait::Put(inside));
    }

    fn patience(&mut self) -> Duration {
        Duration::from_micros(self.shared.rng.within(&(1..=self.shared.options.store_wait_us)))
    }

    /// A value has come that lies in the slab of its sender: it is sealed.
    pub fn store_value(&mut self, object: ObjectKey, place: Place, from: ProcessId) -> Verdict {
        let Place::InSlab { slab, region, tag } = place else { return Ok(()) };
        self.shared.arena.holds(region, tag)?;
        let key = StoreKey(object_id(object));
        let standing = Standing::Primary;
        let sealed = self.store.machine.sealed_in_slab(from, Ticket(slab), key, region, standing);
        require(sealed.is_ok(), "store", || format!("{region} of slab {slab}: {sealed:?}"))?;
        self.shared.arena.slab_cut(region);
        self.stored(object, tag);
        Ok(())
    }

    /// An object was freed.
    pub fn unstore(&mut self, object: ObjectKey) {
        if self.store.stored.remove(&object) {
            self.store.machine.released(StoreKey(object_id(object)));
        }
    }

    /// A process is lost.
    pub fn store_lost(&mut self, process: ProcessId) -> Verdict {
        self.shared.arena.process_lost(process);
        self.store.reads.retain(|(by, _), _| *by != process);
        self.store.loans.retain(|(by, ..)| *by != process);
        self.store.machine.process_lost(process);
        Ok(())
    }

    /// A worker asks the store for something.
    pub fn asked_of_store(&mut self, from: ProcessId, message: ToDriver) -> Verdict {
        match message {
            ToDriver::Pin { object } => {
                let key = self.key_of(object, from)?;
                let deadline = self.shared.clock.instant() + self.patience();
                self.lend_stored((from, key, object, deadline))
            }
            // What is read may be gone for its owner: it lies there as long as it is pinned.
            ToDriver::Unpin { object } => self.unpin(from, KeyData::from_ffi(object).into()),
            ToDriver::WantSlab => {
                let bytes = self.shared.rng.within(&(1..=8)) * ALIGN;
                let deadline = self.shared.clock.instant() + self.patience();
                let ticket = self.store.machine.wanted(Purpose::Slab(from), bytes, deadline);
                self.store.waits.insert(ticket, Wait::Slab(from));
                Ok(())
            }
            ToDriver::ReturnSlab { slab } => {
                self.shared.arena.slab_returned(slab);
                self.store.machine.slab_returned(from, Ticket(slab));
                Ok(())
            }
            other => unreachable!("no worker says {other:?} here"),
        }
    }

    /// A thread of the driver reads a value, for a while.
    pub fn read_here(&mut self, object: ObjectKey) {
        if self.is_stored(object) {
            self.pin(DRIVER, object, 0);
        }
    }

    /// A worker wants to read a value: it is pinned now, or when it is back from disk, or when others have read
    /// enough.
    fn lend_stored(&mut self, loan: (ProcessId, ObjectKey, u64, Instant)) -> Verdict {
        let (process, object, asked_as, deadline) = loan;
        self.pins_had_at_once()?;
        let key = StoreKey(object_id(object));
        let may = self.may_be_lent(object);
        let lent = self.store.machine.lent_now(DRIVER, key);
        require(may != (lent == LendNow::TooMuch), "store", || {
            format!("OBJ-7: {object:?} may be lent to {process}: {may}, and is: {lent:?}")
        })?;
        match lent {
            LendNow::Pinned(region) => {
                let is_pinned = self.store.machine.pinned_now(process, key);
                self.store.machine.unpinned(DRIVER, key);
                require(is_pinned == PinNow::Pinned(region), "store", || {
                    format!("OBJ-2: {object:?} is lent to {process}, and is {is_pinned:?}")
                })?;
                self.pinned(process, object, asked_as, region)
            }
            LendNow::TooMuch => {
                self.store.loans.push(loan);
                let at = self.shared.clock.to_micros(deadline);
                self.shared.clock.at(at, Event::Store(StoreEvent::LoanDeadline));
                Ok(())
            }
            LendNow::OnDisk | LendNow::Unknown => {
                let ticket = self.store.machine.pin_wanted(process, key, deadline);
                self.store.waits.insert(ticket, Wait::Pin(process, object, asked_as));
                Ok(())
            }
        }
    }

    /// Something may have been unpinned: those who waited for that try again. Says whether that changes anything.
    fn lend_to_those_who_wait(&mut self) -> Verdict<bool> {
        let now = self.shared.clock.instant();
        for index in 0..self.store.loans.len() {
            let (process, object, asked_as, deadline) = self.store.loans[index];
            if self.may_be_lent(object) {
                let loan = self.store.loans.remove(index);
                self.lend_stored(loan)?;
                return Ok(true);
            }
            if deadline <= now {
                self.store.loans.remove(index);
                self.refused(Wait::Pin(process, object, asked_as));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an object may be lent now, or is gone, and whoever wants it is told so.
    fn may_be_lent(&self, object: ObjectKey) -> bool {
        let key = StoreKey(object_id(object));
        if !self.store.machine.contains(key) {
            return true;
        }
        let (tag, bytes) = (self.store.tags[&object], self.store.machine.object_bytes(key));
        self.shared.arena.may_be_lent(tag, bytes.expect("it is there"), DRIVER)
    }

    fn pin(&mut self, process: ProcessId, object: ObjectKey, asked_as: u64) {
        let key = StoreKey(object_id(object));
        if let PinNow::Pinned(region) = self.store.machine.pinned_now(process, key) {
            self.store.at_once.push((process, object, asked_as, region));
            return;
        }
        let deadline = self.shared.clock.instant() + self.patience();
        let ticket = self.store.machine.pin_wanted(process, key, deadline);
        self.store.waits.insert(ticket, Wait::Pin(process, object, asked_as));
    }

    fn pinned(
        &mut self,
        process: ProcessId,
        object: ObjectKey,
        asked_as: u64,
        region: Region,
    ) -> Verdict {
        let tag = self.store.tags[&object];
        self.shared.arena.pinned(tag, region, process)?;
        let (_, count) = self.store.reads.entry((process, object)).or_insert((tag, 0));
        *count += 1;
        if process == DRIVER {
            let after = self.shared.rng.within(&(1..=self.shared.options.keep_us));
            self.shared.clock.after(after, Event::Store(StoreEvent::Read(object, region)));
            return Ok(());
        }
        let key = object_id(object);
        let message = ToWorker::Pinned { object: asked_as, key, region, tag };
        self.shared.write(process, Way::ToWorker, &message, &Parcel::default());
        Ok(())
    }

    fn unpin(&mut self, process: ProcessId, object: ObjectKey) -> Verdict {
        let read = self.store.reads.get_mut(&(process, object));
        let Some((tag, count)) = read else {
            return require(false, "store", || format!("{process} does not read {object:?}"));
        };
        let tag = *tag;
        *count -= 1;
        if *count == 0 {
            self.store.reads.remove(&(process, object));
        }
        self.shared.arena.unpinned(tag, process);
        let had = self.store.machine.unpinned(process, StoreKey(object_id(object)));
        require(had, "store", || format!("the store forgot that {process} reads {object:?}"))
    }

    /// Something in the background is done.
    pub fn store_event(&mut self, event: StoreEvent) -> Verdict {
        self.note(&[10], || format!("store: {event:?}"));
        let is_bad = !self.shared.healed && self.shared.rng.chance(self.shared.options.bad_disk);
        match event {
            StoreEvent::Written(ticket, inside) => self.written(ticket, inside)?,
            StoreEvent::Spilled(file, _) if is_bad => self.store.machine.spill_failed(file),
            StoreEvent::Spilled(file, regions) => {
                let copied = regions.iter().map(|region| self.shared.arena.copy(*region));
                let bytes = regions.iter().map(|region| region.bytes);
                self.store.files.insert(file, bytes.zip(copied).collect());
                self.store.machine.spilled(file);
            }
            StoreEvent::Restored(key, ..) if is_bad => self.store.machine.restore_failed(key),
            StoreEvent::Restored(key, file, offset, region) => {
                let file = self.store.files.get(&file);
                let mut at = 0;
                let part = file.and_then(|parts| {
                    parts.iter().find(|(bytes, _)| {
                        let found = at == offset && *bytes == region.bytes;
                        at += bytes;
                        found
                    })
                });
                require(part.is_some(), "store", || {
                    format!("OBJ-3: {key:?} is read at {offset} of a file without it: {file:?}")
                })?;
                let (_, copied) = part.expect("it was asked a line ago");
                self.shared.arena.paste(region, copied);
                self.store.machine.restored(key);
            }
            StoreEvent::Read(object, region) => {
                let read = self.store.reads.get(&(DRIVER, object));
                let (tag, _) = read.expect("it is read until this moment");
                self.shared.arena.holds(region, *tag)?;
                self.unpin(DRIVER, object)?;
            }
            StoreEvent::LoanDeadline => {} // Whoever waits too long is told when all is settled.
            StoreEvent::Deadline => {
                self.store.deadline = None;
                self.store.machine.deadlines_passed(self.shared.clock.instant());
            }
        }
        Ok(())
    }

    fn written(&mut self, ticket: Ticket, inside: Vec<ObjectKey>) -> Verdict {
        let region = self.shared.arena.room_done(ticket.0).expect("it was given");
        let tag = self.shared.arena.tag();
        self.shared.arena.write(region, tag);
        let object = self.new_object(inside);
        self.stored(object, tag);
        let key = StoreKey(object_id(object));
        let sealed = self.store.machine.sealed(ticket, key, Standing::Primary);
        self.user_has(object);
        require(sealed.is_ok(), "store", || format!("{ticket:?}: {sealed:?}"))
    }

    fn stored(&mut self, object: ObjectKey, tag: u64) {
        self.store.stored.insert(object);
        self.store.tags.insert(object, tag);
    }

    /// Performs the effects of the store; whether there were any.
    pub fn settle_store(&mut self) -> Verdict<bool> {
        let mut was_busy = false;
        self.pins_had_at_once()?;
        while let Some(effect) = self.store.machine.poll_effect() {
            was_busy = true;
            self.shared.trace.line(|| format!("store: {effect:?}"));
            self.perform_in_store(effect)?;
        }
        self.plan_deadline();
        Ok(self.lend_to_those_who_wait()? || was_busy)
    }

    fn pins_had_at_once(&mut self) -> Verdict {
        for (process, object, asked_as, region) in std::mem::take(&mut self.store.at_once) {
            self.pinned(process, object, asked_as, region)?;
        }
        Ok(())
    }

    /// What the checker demands of the store whenever nothing is left to do.
    pub fn store_is_exact(&self) -> Verdict {
        self.shared.arena.agrees(&self.store.machine.usage())
    }

    /// Everything was let go of.
    pub fn store_is_empty(&self) -> Verdict {
        let (usage, store) = (self.store.machine.usage(), &self.store);
        let is_empty = usage.is_zero()
            && store.files.is_empty()
            && store.waits.is_empty()
            && store.loans.is_empty();
        require(is_empty, "leaks", || {
            format!("OBJ-1: left in the store: {usage:?}, {:?}, {:?}", store.files, store.waits)
        })
    }

    fn plan_deadline(&mut self) {
        let Some(at) = self.store.machine.next_deadline() else { return };
        let at = self.shared.clock.to_micros(at);
        if self.store.deadline.is_none_or(|planned| planned > at) {
            self.store.deadline = Some(at);
            self.shared.clock.at(at, Event::Store(StoreEvent::Deadline));
        }
    }

    fn perform_in_store(&mut self, effect: Effect) -> Verdict {
        match effect {
            Effect::Admit(ticket, region) => self.admitted(ticket, region),
            Effect::Pinned(ticket, region) => match self.store.waits.remove(&ticket) {
                Some(Wait::Pin(process, object, asked_as)) => {
                    self.pinned(process, object, asked_as, region)
                }
                other => require(false, "store", || format!("OBJ-4: {ticket:?} is {other:?}")),
            },
            Effect::Refuse(ticket, refusal) => {
                let wait = self.store.waits.remove(&ticket);
                require(wait.is_some(), "store", || {
                    format!("OBJ-4: {ticket:?} has its second answer: {refusal:?}")
                })?;
                self.refused(wait.expect("it was asked a line ago"));
                Ok(())
            }
            Effect::Spill(file, regions) => {
                self.after_disk(StoreEvent::Spilled(file, regions));
                Ok(())
            }
            Effect::Restore { key, file, offset, region } => {
                self.shared.arena.restoring(region)?;
                self.after_disk(StoreEvent::Restored(key, file, offset, region));
                Ok(())
            }
            Effect::RemoveFile(file) => {
                self.store.files.remove(&file);
                Ok(())
            }
            Effect::Evict(key) => {
                require(false, "store", || format!("OBJ-3: {key:?} is a primary, and is dropped"))
            }
        }
    }

    fn after_disk(&mut self, event: StoreEvent) {
        let delay = self.shared.rng.within(&(1..=self.shared.options.disk_us));
        self.shared.clock.after(delay, Event::Store(event));
    }

    fn admitted(&mut self, ticket: Ticket, region: Region) -> Verdict {
        match self.store.waits.remove(&ticket) {
            Some(Wait::Put(inside)) => {
                self.shared.arena.room_given(ticket.0, region)?;
                self.after_disk(StoreEvent::Written(ticket, inside));
                Ok(())
            }
            Some(Wait::Slab(process)) => {
                self.shared.arena.slab_given(process, ticket.0, region)?;
                let message = ToWorker::SlabLent { slab: ticket.0, region };
                self.shared.write(process, Way::ToWorker, &message, &Parcel::default());
                Ok(())
            }
            other => require(false, "store", || format!("OBJ-4: {ticket:?} is {other:?}")),
        }
    }

    fn refused(&mut self, wait: Wait) {
        match wait {
            Wait::Put(inside) => {
                for object in inside {
                    self.drop_handle(object);
                }
            }
            Wait::Slab(process) => {
                let message = ToWorker::SlabRefused;
                self.shared.write(process, Way::ToWorker, &message, &Parcel::default());
            }
            Wait::Pin(DRIVER, ..) => {}
            Wait::Pin(process, _, asked_as) => {
                let message = ToWorker::PinRefused { object: asked_as };
                self.shared.write(process, Way::ToWorker, &message, &Parcel::default());
            }
        }
    }
}
