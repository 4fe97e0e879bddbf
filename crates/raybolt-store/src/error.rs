//! Why an object was not stored, and why it cannot be read.

use raybolt_core::calls::objects::{Key, Refusal, SealError, Usage};
use raybolt_core::ids::ProcessId;

/// Why there is no room for what should be written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// It would not fit into an empty store.
    #[error("{bytes} bytes do not fit into a store of {capacity_bytes} (`object_store_memory`)")]
    TooLarge {
        /// How much was asked for.
        bytes: u64,
        /// How large the store is.
        capacity_bytes: u64,
    },
    /// What is in the way was not released in time, and could not go to disk.
    #[error(
        "no room for {bytes} bytes came free in time in a store of {}: {} are being read, {} written, {} lent to workers, {} wait to be \
         released (`object_store_memory`, `spill_dir`)",
        usage.capacity_bytes, usage.pinned_bytes, usage.writing_bytes, usage.slab_bytes,
        usage.object_bytes - usage.pinned_bytes
    )]
    Full {
        /// How much was asked for.
        bytes: u64,
        /// Who has the room.
        usage: Box<Usage>,
    },
    /// The disk took no more. All that was stored is still there.
    #[error(
        "no room for {bytes} bytes, and nothing can be spilled to {place}: {reason} (make room there, or name another \
         place: `spill_dir`)"
    )]
    SpillFailed {
        /// How much was asked for.
        bytes: u64,
        /// Where objects are spilled to.
        place: String,
        /// What the system says.
        reason: String,
    },
    /// The system has no memory for the store's pages.
    #[error("no memory for {bytes} bytes of the store: {reason}")]
    NoMemory {
        /// How much was asked for.
        bytes: u64,
        /// What the system says.
        reason: String,
    },
    /// The process that wanted a slab is gone.
    #[error("process {0} is gone")]
    ProcessLost(ProcessId),
    /// It would have to wait for room, and the session ends.
    #[error("no room for {bytes} bytes, and the store is closed")]
    Closed {
        /// How much was asked for.
        bytes: u64,
    },
    /// The room was there, but the object was not taken.
    #[error(transparent)]
    NotSealed(#[from] SealError),
}

/// Why an object cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// There is no such object, or its owner wants it no more.
    #[error("no object {} in the store", .0.0)]
    Unknown(Key),
    /// It lies on disk and could not be read.
    #[error("object {} lies in {place} and cannot be read: {reason}", .key.0)]
    Unreadable {
        /// Which object.
        key: Key,
        /// Where objects are spilled to.
        place: String,
        /// What the system says.
        reason: String,
    },
    /// It lies on disk, and there is no room for it in memory.
    #[error("object {} lies on disk and cannot come back: {cause}", .key.0)]
    NoRoom {
        /// Which object.
        key: Key,
        /// Why there is no room.
        #[source]
        cause: PutError,
    },
    /// The process that wanted to read is gone.
    #[error("process {0} is gone")]
    ProcessLost(ProcessId),
}

/// What a wait ended with, when not with success.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) place: String,
    pub(crate) reason: String,
}

impl Refused {
    pub(crate) fn put_error(self, bytes: u64) -> PutError {
        let Refused { refusal, place, reason } = self;
        match refusal {
            Refusal::TooLarge { bytes, capacity_bytes } => {
                PutError::TooLarge { bytes, capacity_bytes }
            }
            Refusal::Full { bytes, usage } => PutError::Full { bytes, usage },
            Refusal::ProcessLost(process) => PutError::ProcessLost(process),
            Refusal::Closed => PutError::Closed { bytes },
            Refusal::SpillFailed | Refusal::RestoreFailed(_) | Refusal::Unknown(_) => {
                PutError::SpillFailed { bytes, place, reason }
            }
        }
    }

    pub(crate) fn pin_error(self, key: Key, bytes: u64) -> PinError {
        match self.refusal {
            Refusal::Unknown(key) => PinError::Unknown(key),
            Refusal::ProcessLost(process) => PinError::ProcessLost(process),
            Refusal::RestoreFailed(key) => {
                PinError::Unreadable { key, place: self.place, reason: self.reason }
            }
            Refusal::TooLarge { .. }
            | Refusal::Full { .. }
            | Refusal::SpillFailed
            | Refusal::Closed => PinError::NoRoom { key, cause: self.put_error(bytes) },
        }
    }
}
