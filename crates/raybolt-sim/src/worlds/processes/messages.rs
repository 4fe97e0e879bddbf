//! What driver and workers say to each other: the messages of `raybolt-wire`, and what it has none for yet.

use raybolt_core::calls::objects::Region;
use raybolt_wire::work;
use serde::{Deserialize, Serialize};

/// What a driver says to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    Work(work::ToWorker),
    /// `key` names it from now on: its references may be gone before it is unpinned.
    Pinned {
        object: u64,
        key: u64,
        region: Region,
        tag: u64,
    },
    PinRefused {
        object: u64,
    },
    SlabLent {
        slab: u64,
        region: Region,
    },
    SlabRefused,
}

/// What a worker says to its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one is written and read at a time")]
pub enum ToDriver {
    Work(work::ToDriver),
    Pin { object: u64 },
    Unpin { object: u64 },
    WantSlab,
    ReturnSlab { slab: u64 },
}

/// The body of a message: values, references that stand for values, and references inside of values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    pub values: Vec<Content>,
    pub needs: Vec<u64>,
    pub refs: Vec<u64>,
    /// For checkers: the task of a call that is answered.
    pub truth: u64,
    /// If it is of a stream.
    pub stream: Option<OfStream>,
}

/// What is said of a stream beside the messages of `raybolt-wire`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfStream {
    /// Its name, for the checker.
    pub truth: u64,
    /// How many items the generator makes.
    pub total: u64,
    /// What is announced to an attempt: how many items are made, and until which there is room.
    pub made: u64,
    pub until: u64,
    /// An item's number.
    pub index: u64,
}

/// A value on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Whose value it is; 0 if that is understood.
    pub object: u64,
    /// The references in it.
    pub refs: Vec<u64>,
    /// Where it lies, if in the store.
    pub place: Place,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the message.
    #[default]
    Inline,
    /// In the store, where it is to be pinned.
    Stored,
    /// In a slab of the sender.
    InSlab { slab: u64, region: Region, tag: u64 },
}

impl Parcel {
    /// Every reference in it, as often as it is in it.
    pub fn occurrences(&self) -> impl Iterator<Item = u64> + '_ {
        let inside = self.values.iter().flat_map(|value| &value.refs);
        self.refs.iter().chain(&self.needs).chain(inside).copied()
    }
}
