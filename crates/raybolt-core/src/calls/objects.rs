//! Says what lies where in a node's store, who reads it, and what goes to disk when room is needed.
//!
//! # Words
//! *Room* is a region of the arena. Room that was asked for is *admitted* to hold one object, or to be a
//! *slab*: room lent to another process, which writes many objects there without asking again. A written
//! object is *sealed*: it has a key, and never changes. Whoever reads it *pins* it meanwhile. An object
//! that is *released* is wanted by its owner no more. A *primary* must not be lost while it is wanted;
//! a *copy* lies elsewhere too, on another node or on this node's disk.
//!
//! # Protocol
//! ```text
//!             wanted              sealed             released
//!  (nothing) ---------> room ---------------> memory ---------> (nothing), once nobody reads it
//!                        | given_up            |  ^ pinned*, unpinned: stays
//!                        v              Spill  v  | Restore
//!                    (nothing)                disk
//! ```
//! 1. [`Objects::wanted`] asks for room and may have to wait; [`Objects::taken_now`] only takes what is
//!    there. An [`Effect`] tells how a wait ends.
//! 2. Room is made in this order: free room; copies, least recently used first; primaries that nobody
//!    reads, least recently used first, several of them written to one file. What is pinned stays.
//! 3. [`Objects::sealed`] makes an object of a room, [`Objects::sealed_in_slab`] of a part of a slab.
//!    The rest of a slab comes back when it is [`Objects::slab_returned`] or its process is lost.
//! 4. [`Objects::pinned_now`] pins what is in memory; [`Objects::pin_wanted`] waits until it is. An object
//!    that was read back keeps its place on disk, so that it can go again at no cost.
//! 5. [`Objects::deadlines_passed`] ends waits that have lasted too long, [`Objects::closed`] all of them.
//!
//! # Invariants
//! - **OBJ-1 (exact).** Used room is that of objects in memory, of rooms and of what is left of slabs,
//!   to the byte; when all is released, given up and returned it is zero, and so is what is on disk.
//! - **OBJ-2 (readers first).** The region of a pinned object is neither moved nor used otherwise.
//! - **OBJ-3 (nothing lost).** A primary that is wanted is in memory or on disk, whole: it leaves memory
//!   after it was written, and a failed write changes nothing.
//! - **OBJ-4 (an answer).** Each wait ends with exactly one of admit, pinned or refuse, by its deadline.
//! - **OBJ-5 (in turn).** Those who wait for room are served in order, restores before new objects; one
//!   is passed over only if nothing that could go would make its room.
//! - **OBJ-6 (the dead hold nothing).** What a lost process had pinned or been lent is free; what it had
//!   sealed stays.
//!
//! - **OBJ-7 (room for answers).** What is [lent](Objects::lent_now) leaves half of the store to others, unless it is
//!   the only object that is read: then readers can always say what they have found. An object that is lent
//!   already is lent to others too, whatever its size: that takes no more room.
//!
//! # Not promised
//! Room is not moved together: pinned objects may leave gaps that are too small. A spill file stays
//! until nobody wants anything in it.

mod files;
mod pins;
mod report;
mod room;
mod shelf;
mod slab;
mod space;
mod types;

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

pub use self::space::{ALIGN, CAPACITY_BYTES_MAX};
pub use self::types::{
    Effect, FileId, Holder, Holders, Key, ObjectReport, Options, Purpose, Refusal, Region,
    SealError, Standing, Ticket, Usage, WaitReport, Whereabouts,
};

use self::files::{Files, OnDisk};
use self::shelf::{Shelf, Worth};
use self::space::{Block, Space};
use self::types::{PinWait, Rank, Room, Wait, Want};
use crate::hash::{IdMap, IdSet};
use crate::ids::ProcessId;
use crate::plant::{Plant, Plants};

/// The machine; see the module's documentation.
#[derive(Debug)]
pub struct Objects {
    options: Options,
    space: Space,
    objects: IdMap<Key, Object>,
    shelf: Shelf,
    files: Files,
    rooms: BTreeMap<Ticket, Room>,
    /// One entry per thread that waits, so few: searched by walking.
    waiting: BTreeMap<(Rank, Ticket), Wait>,
    pin_waits: BTreeMap<Key, Vec<PinWait>>,
    holders: BTreeMap<ProcessId, IdMap<Key, u32>>,
    /// Who will not be heard any more: a number for each process that died.
    lost: IdSet<ProcessId>,
    spilling: BTreeMap<FileId, Vec<Key>>,
    effects: VecDeque<Effect>,
    /// Nobody waits any more.
    is_closed: bool,
    tickets: u64,
    pinned_bytes: u64,
    writing_bytes: u64,
    slab_bytes: u64,
    slabs: u64,
    spilled_objects: u64,
    spilled_bytes: u64,
    plants: Plants,
}

#[derive(Debug)]
struct Object {
    bytes: u64,
    standing: Standing,
    place: Place,
    /// Where it lies on disk too, or only.
    on_disk: Option<OnDisk>,
    pins: u32,
    /// Its place on the shelf, where it is while it is in memory and has no pins.
    stamp: u64,
    is_released: bool,
}

#[derive(Debug)]
enum Place {
    Memory(Block),
    /// In memory, and being written to disk.
    Spilling(Block),
    /// On disk, and being read.
    Restoring(Block),
    Disk,
}

/// What [`Objects::pinned_now`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PinNow {
    /// The object lies here, until it is unpinned.
    Pinned(Region),
    /// It lies on disk: ask again with [`Objects::pin_wanted`].
    OnDisk,
    /// There is no such object, or the process is lost.
    Unknown,
}

/// What [`Objects::lent_now`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum LendNow {
    /// The object lies here, until it is unpinned.
    Pinned(Region),
    /// So much is read already that it may be lent only when something was unpinned.
    TooMuch,
    /// It may be lent, but lies on disk.
    OnDisk,
    /// There is no such object, or the process is lost.
    Unknown,
}

impl Objects {
    /// An empty store.
    pub fn new(options: Options) -> Self {
        Objects {
            space: Space::new(options.capacity_bytes),
            options,
            objects: IdMap::default(),
            shelf: Shelf::default(),
            files: Files::default(),
            rooms: BTreeMap::new(),
            waiting: BTreeMap::new(),
            pin_waits: BTreeMap::new(),
            holders: BTreeMap::new(),
            lost: IdSet::default(),
            spilling: BTreeMap::new(),
            effects: VecDeque::new(),
            is_closed: false,
            tickets: 0,
            pinned_bytes: 0,
            writing_bytes: 0,
            slab_bytes: 0,
            slabs: 0,
            spilled_objects: 0,
            spilled_bytes: 0,
            plants: Plants::NONE,
        }
    }

    /// An empty store with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(options: Options, plants: Plants) -> Self {
        Objects { plants, ..Self::new(options) }
    }

    /// What the shell has to do next; call until `None`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// A room is full: it becomes an object.
    ///
    /// # Errors
    /// If the key is taken, and then the room is free again; or if there is no such room.
    pub fn sealed(
        &mut self,
        ticket: Ticket,
        key: Key,
        standing: Standing,
    ) -> Result<(), SealError> {
        let Some(Room::Object { .. }) = self.rooms.get(&ticket) else {
            return Err(SealError::NoSuchRoom(ticket));
        };
        if self.objects.contains_key(&key) {
            self.given_up(ticket);
            return Err(SealError::KeyTaken(key));
        }
        if let Some(Room::Object { block, bytes }) = self.rooms.remove(&ticket) {
            self.writing_bytes -= self.space.bytes(&block);
            self.insert(key, block, bytes, standing);
        }
        Ok(())
    }

    /// `process` has written an object in a part of its slab.
    ///
    /// # Errors
    /// If the key is taken, or if the process may not write there; nothing changes.
    pub fn sealed_in_slab(
        &mut self,
        process: ProcessId,
        ticket: Ticket,
        key: Key,
        region: Region,
        standing: Standing,
    ) -> Result<(), SealError> {
        let slab = match self.rooms.get_mut(&ticket) {
            Some(Room::Slab(slab)) if slab.process == process => slab,
            _ => return Err(SealError::NoSuchRoom(ticket)),
        };
        if self.objects.contains_key(&key) {
            return Err(SealError::KeyTaken(key));
        }
        let cut = slab.cut(region, &mut self.space);
        let block = cut.ok_or(SealError::NotInSlab(region))?;
        self.slab_bytes -= self.space.bytes(&block);
        self.insert(key, block, region.bytes, standing);
        Ok(())
    }

    /// The owner wants the object no more. It goes when nobody reads it any more.
    pub fn released(&mut self, key: Key) {
        let Some(object) = self.objects.get_mut(&key) else { return };
        if std::mem::replace(&mut object.is_released, true) {
            return;
        }
        if object.pins == 0 && matches!(object.place, Place::Memory(_)) {
            self.unshelve(key);
        }
        self.refuse_pins(key, &Refusal::Unknown(key));
        self.drop_if_done(key);
        self.settle();
    }

    /// A process died: what it read and what it was lent is free, and it waits for nothing any more.
    pub fn process_lost(&mut self, process: ProcessId) {
        self.lost.insert(process);
        self.refuse_process(process);
        let keeps_pins = self.plants.has(Plant::KeepDeadPins);
        let pins = if keeps_pins { None } else { self.holders.remove(&process) };
        for (key, pins) in pins.unwrap_or_default() {
            self.drop_pins(key, pins);
        }
        let is_its = |room: &Room| matches!(room, Room::Slab(slab) if slab.process == process);
        let lent = self.rooms.iter().filter(|(_, room)| is_its(room));
        let lent: Vec<_> = lent.map(|(ticket, _)| *ticket).collect();
        let keeps_slabs = self.plants.has(Plant::KeepSlab);
        for ticket in lent.into_iter().filter(|_| !keeps_slabs) {
            self.give_room_back(ticket);
        }
        self.settle();
    }

    /// Ends the waits whose deadline is not after `now`.
    pub fn deadlines_passed(&mut self, now: Instant) {
        self.refuse_late_pins(now);
        let is_late = |wait: &Wait| wait.deadline.is_some_and(|deadline| deadline <= now);
        let late = self.waiting.iter().filter(|(_, wait)| is_late(wait));
        let late: Vec<_> = late.map(|((_, ticket), wait)| (*ticket, wait.bytes)).collect();
        for (ticket, bytes) in late {
            self.waiting.remove(&(Rank::New, ticket));
            let refusal = Refusal::Full { bytes, usage: Box::new(self.usage()) };
            self.effects.push_back(Effect::Refuse(ticket, refusal));
        }
        self.settle();
    }

    /// When [`Objects::deadlines_passed`] has to be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let rooms = self.waiting.values().filter_map(|wait| wait.deadline);
        let pins = self.pin_waits.values().flatten().map(|wait| wait.deadline);
        rooms.chain(pins).min()
    }

    fn insert(&mut self, key: Key, block: Block, bytes: u64, standing: Standing) {
        let place = Place::Memory(block);
        let object =
            Object { bytes, standing, place, on_disk: None, pins: 0, stamp: 0, is_released: false };
        self.objects.insert(key, object);
        self.shelve(key);
        self.settle();
    }

    /// Puts an object that is in memory, and that nobody reads, where it can be taken from.
    fn shelve(&mut self, key: Key) {
        let object = self.objects.get_mut(&key).expect("only what is there is shelved");
        if let Place::Memory(block) = &object.place {
            let room_bytes = self.space.bytes(block);
            object.stamp = self.shelf.put(key, object.worth(), room_bytes);
        }
    }

    fn unshelve(&mut self, key: Key) {
        let object = self.objects.get_mut(&key).expect("only what is there is on the shelf");
        if let Place::Memory(block) = &object.place {
            self.shelf.take(object.stamp, object.worth(), self.space.bytes(block));
        }
    }

    /// Forgets an object that is released, not pinned and not on its way to or from disk.
    fn drop_if_done(&mut self, key: Key) {
        let Some(object) = self.objects.get(&key) else { return };
        let is_moving = matches!(object.place, Place::Spilling(_) | Place::Restoring(_));
        if object.is_released && object.pins == 0 && !is_moving {
            self.forget(key);
        }
    }

    /// Forgets an object that is not on the shelf.
    fn forget(&mut self, key: Key) {
        let object = self.objects.remove(&key).expect("only what is there is forgotten");
        match object.place {
            Place::Memory(block) | Place::Spilling(block) | Place::Restoring(block) => {
                self.space.give_back(block);
            }
            Place::Disk => {
                self.spilled_objects -= 1;
                self.spilled_bytes -= object.bytes;
            }
        }
        if let Some(OnDisk { file, .. }) = object.on_disk
            && self.files.dropped(file)
        {
            self.effects.push_back(Effect::RemoveFile(file));
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}

impl Object {
    fn worth(&self) -> Worth {
        let is_copy = self.standing == Standing::Copy || self.on_disk.is_some();
        if is_copy { Worth::Copy } else { Worth::Only }
    }
}
