//! The ids that machines, links and users share; each is a newtype, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares number newtypes that print as the number they hold.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($number:ty);)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

ids! {
    /// A process that holds references: a driver or a worker. Never used again after its death.
    ProcessId(u64);

    /// One DRPC request, or any other group of tuples whose completion is asked for.
    ///
    /// Whoever opens requests numbers them; a number is not used again while its request lives.
    RequestId(u64);

    /// A tuple that a spout emitted and wants acknowledged, with all that is derived from it.
    RootId(u64);

    /// A component's place in its topology, in the order of declaration.
    ComponentIndex(u16);

    /// An instance's place among the instances of its component, from 0.
    InstanceIndex(u32);

    /// An instance's number in its topology: ascending over components, then over their instances.
    InstanceId(u32);

    /// One run of a driver.
    JobId(u32);

    /// One process tree from its start to its end; zero means that the speaker does not know it.
    SessionId(u64);

    /// The daemon of one machine.
    NodeId(u32);

    /// Which life of something that dies and comes back; what an earlier life says is not heard.
    Epoch(u32);
}

impl ComponentIndex {
    /// As an index into a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl InstanceIndex {
    /// As an index into a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl InstanceId {
    /// As an index into a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
