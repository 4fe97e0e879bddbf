//! What goes between a proxy and its host.

use std::fmt;

use raybolt_core::ids::RequestId;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// What a host is to know about its instance.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) topology: String,
    pub(crate) component: String,
    pub(crate) instance: usize,
    pub(crate) instances: usize,
    /// Component and stream of each edge of the plan.
    pub(crate) sources: Vec<(String, String)>,
}

/// What a host is to do.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Work on these tuples.
    Work(Tuples),
    /// Say what was done meanwhile.
    Look,
    Tick,
    Finish(RequestId),
    Abandon(RequestId),
    Cleanup,
}

/// The tuples of one batch, or of a part of it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Tuples {
    /// The number of the edge in the plan, and which instance of its producer sent them.
    pub(crate) origin: (u32, u32),
    /// The name of the first one, if they are followed; the others count on from there.
    pub(crate) first: Option<u64>,
    pub(crate) tuples: Packed,
}

/// What a host has done.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Another number than before: the host has begun anew.
    pub(crate) incarnation: u64,
    /// How many tuples were not taken by the bolt, though they have come.
    pub(crate) waiting: u64,
    /// Whether more will be done by itself.
    pub(crate) busy: bool,
    pub(crate) emitted: Vec<Emitted>,
    /// Tuples that were processed, by their names.
    pub(crate) acked: Vec<u64>,
    /// Tuples that failed, and why.
    pub(crate) failed: Vec<(u64, String)>,
    /// How many tuples failed, also of those that are not followed.
    pub(crate) failures: u64,
    pub(crate) panics: u64,
    /// Errors to be recorded.
    pub(crate) errors: Vec<String>,
    pub(crate) state_lost: Option<String>,
    pub(crate) request_failure: Option<String>,
}

/// What the host of a spout is to do.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum SpoutAsk {
    /// A slice.
    Next(Wanted),
    Close,
}

/// What is wanted of a slice, and what it is to know.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// How many tuples it may emit.
    pub(crate) credit: u32,
    /// Whether the topology is active.
    pub(crate) active: bool,
    /// Tuples whose trees are done, by their names.
    pub(crate) acked: Vec<u64>,
    /// Tuples whose trees failed, and why.
    pub(crate) failed: Vec<(u64, String)>,
}

/// What the host of a spout has done in a slice.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SpoutAnswer {
    /// Another number than before: the host has begun anew.
    pub(crate) incarnation: u64,
    pub(crate) emitted: Vec<Emitted>,
    /// How often it was asked for tuples.
    pub(crate) executed: u64,
    pub(crate) panics: u64,
    /// Errors to be recorded.
    pub(crate) errors: Vec<String>,
    pub(crate) rest: Rest,
}

/// What is to be had from a spout.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rest {
    /// Perhaps more, at once.
    More,
    /// Nothing, until the host says so, or it is told what became of a tuple.
    Nothing,
    /// Nothing but replays.
    Exhausted,
}

/// A batch that was emitted.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Emitted {
    pub(crate) stream: u32,
    pub(crate) tuples: Packed,
    /// For each the tuple it is anchored to, 0 for none; or nothing at all.
    pub(crate) anchors: Vec<u64>,
    /// Further anchors: (position of the tuple, anchor), ascending.
    pub(crate) more: Vec<(u32, u64)>,
}

/// Bytes that travel as such, not one by one.
#[derive(Clone, Default)]
pub(crate) struct Packed(pub(crate) Vec<u8>);

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Packed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Packed, E> {
        Ok(Packed(bytes.to_vec()))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Packed, E> {
        Ok(Packed(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Packed, A::Error> {
        let mut packed = Vec::new();
        while let Some(byte) = bytes.next_element()? {
            packed.push(byte);
        }
        Ok(Packed(packed))
    }
}
