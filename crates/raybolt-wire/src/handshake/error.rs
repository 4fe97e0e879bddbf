//! Why a handshake comes to nothing, and what a door tells of that.

use std::fmt;

use raybolt_core::ids::SessionId;

use super::{LETTER_BYTES_MAX, REFUSED, Role, frame};

/// Why a door sends someone away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The proof was wrong.
    Proof,
    /// The proof was right, the session's number was not.
    Session,
    /// Too many are knocking; worth another try.
    Busy,
    /// What arrived was no handshake.
    Garbage,
    /// The proof took too long.
    Late,
}

impl Refusal {
    pub(super) const ALL: [Refusal; 5] =
        [Refusal::Proof, Refusal::Session, Refusal::Busy, Refusal::Garbage, Refusal::Late];

    /// The refusal as a whole letter.
    pub(crate) fn letter(self) -> Vec<u8> {
        frame(REFUSED, &[&[self.code()]])
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Refusal::Proof => 1,
            Refusal::Session => 2,
            Refusal::Busy => 3,
            Refusal::Garbage => 4,
            Refusal::Late => 5,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Proof => {
                "it has another secret: is this the `secret` beside the socket, of the same session?"
            }
            Refusal::Session => "it is another session's",
            Refusal::Busy => "too many are knocking; try again",
            Refusal::Garbage => "it did not understand the handshake",
            Refusal::Late => "the proof took too long",
        })
    }
}

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The other side is of another version.
    #[error(
        "the other side speaks protocol {theirs}, this one speaks {ours}: run both from the same version of raybolt"
    )]
    Protocol {
        /// What this build speaks.
        ours: u32,
        /// What the other side speaks.
        theirs: u32,
    },
    /// The other side does not know the session's secret.
    #[error(
        "the other side did not prove that it knows the session's secret (the file `secret` beside the socket)"
    )]
    Secret,
    /// The other side knows the secret and belongs elsewhere all the same.
    #[error("the other side belongs to session {theirs}, this one to session {ours}")]
    Session {
        /// Ours.
        ours: SessionId,
        /// The other's.
        theirs: SessionId,
    },
    /// A knocker said that it hosts the session, or a door that it does not.
    #[error("the other side speaks as {theirs:?}, which its end of a link cannot be")]
    Role {
        /// What it said.
        theirs: Role,
    },
    /// What arrived is no letter that belongs here.
    #[error("what arrived is not raybolt's handshake: {expected} was expected")]
    Garbage {
        /// What was expected.
        expected: &'static str,
    },
    /// A letter that is too long.
    #[error("a letter of {bytes} bytes exceeds the handshake's limit of {LETTER_BYTES_MAX} bytes")]
    TooLong {
        /// The length that it claims.
        bytes: usize,
    },
    /// The door sent us away.
    #[error("the door refuses: {0}")]
    Refused(Refusal),
}

impl HandshakeError {
    /// What a door tells the knocker of it; nothing where the challenge has told already.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            HandshakeError::Secret => Some(Refusal::Proof),
            HandshakeError::Session { .. } => Some(Refusal::Session),
            HandshakeError::Role { .. }
            | HandshakeError::Garbage { .. }
            | HandshakeError::TooLong { .. } => Some(Refusal::Garbage),
            HandshakeError::Protocol { .. } | HandshakeError::Refused(_) => None,
        }
    }
}
