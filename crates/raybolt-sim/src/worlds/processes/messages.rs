//! What driver and workers say to each other, beyond what `raybolt-wire` has a message for yet.

use raybolt_core::calls::objects::Region;
use raybolt_wire::work::{Outcome, Run};
use serde::{Deserialize, Serialize};

/// What a driver says to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    Run(Run),
    Host {
        actor: u64,
        incarnation: u32,
        limits: Vec<u64>,
    },
    Call(Call),
    EndActor {
        actor: u64,
        incarnation: u32,
    },
    Cancel {
        task: u64,
    },
    Fetched {
        object: u64,
        is_there: bool,
    },
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

/// A call of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub actor: u64,
    pub incarnation: u32,
    pub number: u64,
    pub task: u64,
    pub caller: u64,
    pub group: u16,
    pub is_shared: bool,
    pub returns: u32,
}

/// What a worker says to its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDriver {
    Finished { task: u64, attempt: u32, outcome: Outcome },
    Called { actor: u64, incarnation: u32, number: u64, task: u64, outcome: Outcome },
    ActorEnded { actor: u64, incarnation: u32 },
    Blocked { lease: u64 },
    Unblocked { lease: u64 },
    Submit { returns: Vec<u64>, needs: Vec<u64>, class: u32, retries: u32 },
    Put { object: u64 },
    Fetch { object: u64 },
    Cancel { object: u64 },
    Released { object: u64 },
    Pin { object: u64 },
    Unpin { object: u64 },
    WantSlab,
    ReturnSlab { slab: u64 },
}

/// The body of a message: values, and references beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    pub values: Vec<Content>,
    pub refs: Vec<u64>,
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
        self.refs.iter().chain(self.values.iter().flat_map(|value| &value.refs)).copied()
    }
}
