//! What goes into the machine and what comes out.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ids::ProcessId;

/// Names an object; given by whoever owns it, and not used again while the object lives.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Key(pub u64);

/// Names a wait, and the room that it ended with; never used again.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ticket(pub u64);

/// Names a spill file; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// A part of the arena. It begins at a multiple of [`ALIGN`](super::ALIGN).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Where it begins, from the arena's beginning.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// What else there is of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This is the object: it must not be lost while it is wanted.
    Primary,
    /// Another node has it; this is a copy that may go at any time.
    Copy,
}

/// What room is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// One object, written by the process that has the store.
    Object,
    /// A slab, in which another process writes objects.
    Slab(ProcessId),
}

/// The bounds of a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// How large the arena is.
    pub capacity_bytes: u64,
    /// About how much is written to one spill file; `None`: there is no disk to spill to.
    pub spill_file_bytes: Option<u64>,
}

impl Options {
    /// A store that spills files of about 100 MB, or an eighth of a small arena.
    pub fn new(capacity_bytes: u64) -> Self {
        let file_bytes = (capacity_bytes / 8).clamp(1, 100_000_000);
        Options { capacity_bytes, spill_file_bytes: Some(file_bytes) }
    }
}

/// What the shell has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Room was found: tell whoever waits for it.
    Admit(Ticket, Region),
    /// The object is in memory and pinned: tell whoever waits for it.
    Pinned(Ticket, Region),
    /// The wait is over without success: tell whoever waits.
    Refuse(Ticket, Refusal),
    /// Write these regions, one after the other, to a new file; then say `spilled` or `spill_failed`.
    Spill(FileId, Vec<Region>),
    /// Read an object; then say `restored` or `restore_failed`.
    Restore {
        /// The object.
        key: Key,
        /// The file it lies in.
        file: FileId,
        /// Where it begins there.
        offset: u64,
        /// Where it goes.
        region: Region,
    },
    /// Nobody wants anything in this file any more: remove it.
    RemoveFile(FileId),
    /// A [`Standing::Copy`] was dropped to make room: tell who counted on it.
    Evict(Key),
}

/// Why a wait ended without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The arena is smaller than what was asked for.
    TooLarge {
        /// How much was asked for.
        bytes: u64,
        /// How much there is in all.
        capacity_bytes: u64,
    },
    /// The deadline passed, and what was in the way could not go.
    Full {
        /// How much was asked for.
        bytes: u64,
        /// Who had the room.
        usage: Box<Usage>,
    },
    /// What was in the way had to go to disk, and that failed.
    SpillFailed,
    /// The object lies on disk and could not be read.
    RestoreFailed(Key),
    /// There is no such object, or nobody wants it any more.
    Unknown(Key),
    /// The process that asked is gone.
    ProcessLost(ProcessId),
    /// The store is closed: nobody waits any more.
    Closed,
}

/// Why an object was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is an object of that name.
    #[error("there is an object {} in the store already", .0.0)]
    KeyTaken(Key),
    /// The process has no such room.
    #[error("no room numbered {} is lent to this process", .0.0)]
    NoSuchRoom(Ticket),
    /// The region is not one that is left in the slab.
    #[error("{0} is not a free part of the slab")]
    NotInSlab(Region),
}

/// Who has the arena's room, and what lies on disk. Room is counted in whole units of
/// [`ALIGN`](super::ALIGN).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// How large the arena is.
    pub capacity_bytes: u64,
    /// Room taken: by objects, by what is being written and by slabs.
    pub used_bytes: u64,
    /// Room of objects in memory.
    pub object_bytes: u64,
    /// Of these, room of objects that somebody reads.
    pub pinned_bytes: u64,
    /// Room that is being written by the process that has the store.
    pub writing_bytes: u64,
    /// What is left of slabs lent to other processes.
    pub slab_bytes: u64,
    /// Objects, wherever they lie.
    pub objects: u64,
    /// Objects that lie on disk only.
    pub spilled_objects: u64,
    /// Bytes of objects that lie on disk only.
    pub spilled_bytes: u64,
    /// Spill files.
    pub files: u64,
    /// Bytes in spill files, parts that nobody wants any more included.
    pub file_bytes: u64,
    /// Slabs that are lent.
    pub slabs: u64,
    /// How many wait for room or for an object.
    pub waiting: u64,
}

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whereabouts {
    /// In the arena.
    Memory,
    /// In a spill file.
    Disk,
    /// In the arena, on its way to a file.
    Spilling,
    /// In a spill file, on its way to the arena.
    Restoring,
}

/// One object, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectReport {
    /// Its name.
    pub key: Key,
    /// How long it is.
    pub bytes: u64,
    /// Where it lies.
    pub whereabouts: Whereabouts,
    /// How many pins it has.
    pub pins: u32,
    /// Whether its owner wants it no more, so that it lives only until its last pin goes.
    pub is_released: bool,
}

/// Who has the arena's room, for whoever asks why there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// In sum.
    pub usage: Usage,
    /// Objects in memory, those that are read before others, the largest first; not all of them.
    pub objects: Vec<Holder>,
    /// What is left of the slabs of each process, in bytes.
    pub slabs: Vec<(ProcessId, u64)>,
}

/// An object in memory, and who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The object.
    pub object: ObjectReport,
    /// The processes that have pins on it.
    pub readers: Vec<ProcessId>,
}

/// One who waits, for whoever asks why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitReport {
    /// For room for a new object.
    Room(u64),
    /// For room for a slab of a process.
    Slab(ProcessId, u64),
    /// For an object to come back from disk for a process.
    Object(ProcessId, Key),
}

impl Usage {
    /// Room that nobody has.
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes - self.used_bytes
    }

    /// Whether nothing is left of anything: what a session's end must find.
    pub fn is_zero(&self) -> bool {
        *self == Usage { capacity_bytes: self.capacity_bytes, ..Usage::default() }
    }
}

impl Region {
    /// One past its last byte; `None` if there is no such number.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {}", self.bytes, self.offset)
    }
}

/// Room that was admitted and holds no object yet.
#[derive(Debug)]
pub(super) enum Room {
    Object { block: super::space::Block, bytes: u64 },
    Slab(super::slab::Slab),
}

/// Somebody who waits for room.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) want: Want,
    pub(super) bytes: u64,
    /// `None`: its pins have deadlines.
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    New(Purpose),
    Restore(Key),
}

/// Who is served first: what running tasks need to go on comes before what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Restore,
    New,
}

/// Somebody who waits for an object to come back from disk.
#[derive(Debug)]
pub(super) struct PinWait {
    pub(super) ticket: Ticket,
    pub(super) process: ProcessId,
    pub(super) deadline: Instant,
}
