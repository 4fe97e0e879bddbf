//! Who a side is.

use std::fmt;

use raybolt_core::ids::{Epoch, NodeId, ProcessId, SessionId};
use serde::{Deserialize, Serialize};

use super::NONCE_BYTES;
use crate::secret::{Secret, random_bytes};

/// What one side is, and what it knows.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What both sides have to know.
    pub secret: Secret,
    /// The session; a knocker that knows only the secret says zero.
    pub session: SessionId,
    /// The machine it is on.
    pub node: NodeId,
    /// Which life of that machine's daemon it belongs to.
    pub epoch: Epoch,
    /// A bit per optional part of the protocol that it can do.
    pub features: u64,
}

/// In which capacity a side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It hosts the session; only doors say so.
    Host,
    /// It runs tasks and actors for the session.
    Worker {
        /// Which process of the session it is.
        process: ProcessId,
    },
    /// It looks and changes nothing: status, lists, logs, `why`.
    Watcher,
}

/// Who a side is; told to those that have proved themselves, or by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session it belongs to.
    pub session: SessionId,
    /// The machine it is on.
    pub node: NodeId,
    /// Which life of that machine's daemon it belongs to. Whether that life is over is for the receiver
    /// to know.
    pub epoch: Epoch,
    /// A bit per optional part of the protocol; both sides use those that both have.
    pub features: u64,
    /// In which capacity it speaks.
    pub role: Role,
}

/// A number that is used once, by one side in one handshake.
#[derive(Clone, Copy)]
pub struct Nonce(pub(super) [u8; NONCE_BYTES]);

impl Nonce {
    /// A nonce of given bytes, for whoever wants the same handshake twice.
    pub fn from_bytes(bytes: [u8; NONCE_BYTES]) -> Self {
        Nonce(bytes)
    }

    /// A nonce that nobody can foresee.
    pub fn random() -> Result<Self, getrandom::Error> {
        random_bytes().map(Nonce)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}
