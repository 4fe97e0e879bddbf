//! The handshake: how two processes find out that they belong to one session.
//!
//! # Words
//! The *door* is the side that listens, the *knocker* the side that connects. A *proof* is an HMAC-SHA256
//! under the session's [`Secret`]. A *hello* says who a side is.
//!
//! # Protocol
//! Each letter is a frame ([`crate::frame`]) of at most [`LETTER_BYTES_MAX`] bytes that begins with a byte
//! for its kind.
//!
//! ```text
//! knocker                                                  door
//!   | -- k "raybolt\0" protocol nonce ----------------------> |
//!   | <----------------------- c "raybolt\0" protocol nonce -- |  it has told nothing of itself but this
//!   | -- p hello proof -------------------------------------> |  checks the proof, then reads the hello
//!   | <-------------------------------------- w hello proof -- |
//!   |                    from here on: frames                 |
//!   | <--------------------------------------------- r code -- |  instead of c or w: go away
//! ```
//! A proof is the HMAC of a label (that of the knocker or that of the door) and of every frame so far,
//! that of the proof itself up to the proof. Numbers are little endian; a hello is in postcard's format.
//!
//! # Invariants
//! - **HAND-1 (the knocker proves first).** Before the knocker has proved that it knows the secret it is
//!   told the protocol's version, a random number and why it is refused; nothing of the session.
//! - **HAND-2 (this meeting only).** A proof covers both nonces, both hellos and the side that speaks: it
//!   is of no use in another meeting (replay), to the side that made it (reflection), or with any bit
//!   changed. Proofs are compared in constant time.
//! - **HAND-3 (bounded).** A handshake holds at most three letters, whatever the other side does; a
//!   length is checked before anything is kept for it.
//! - **HAND-4 (not a byte further).** A handshake takes no byte behind its last letter: what follows
//!   belongs to the link.
//! - **HAND-5 (any bytes, any cut).** Whatever arrives, in whatever pieces, the handshake answers; what
//!   it answers does not depend on the pieces. After an error it stays with that error.
//!
//! # Not promised
//! Frames after the handshake are neither encrypted nor signed, and a proof can be relayed by someone who
//! sits between the two: a Unix socket in a directory of mode 0700 has no such place. A link between
//! machines puts the channel's own binding into the transcript.

mod error;
mod hello;
#[cfg(test)]
mod tests;

use hmac::Mac;
use raybolt_core::ids::SessionId;

use crate::PROTOCOL;
use crate::frame::LENGTH_BYTES;
use crate::secret::Secret;

pub use error::{HandshakeError, Refusal};
pub use hello::{Hello, Identity, Nonce, Role};

/// The longest letter, without its length.
pub const LETTER_BYTES_MAX: usize = 1 << 10;

const MAGIC: &[u8; 8] = b"raybolt\0";
const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;
/// Kind, magic, protocol, nonce. The first letters of all versions begin so, that they can part politely.
const OPENING_BYTES: usize = 1 + MAGIC.len() + 4 + NONCE_BYTES;

const KNOCK: u8 = b'k';
const CHALLENGE: u8 = b'c';
const PROOF: u8 = b'p';
const WELCOME: u8 = b'w';
const REFUSED: u8 = b'r';

const KNOCKERS_LABEL: &[u8] = b"raybolt handshake 1: proof of the knocker\0";
const DOORS_LABEL: &[u8] = b"raybolt handshake 1: proof of the door\0";

/// One side of a handshake, as a plain value: bytes in, bytes out.
///
/// ```
/// use raybolt_core::ids::{Epoch, NodeId, SessionId};
/// use raybolt_wire::handshake::{Handshake, Identity, Nonce, Role};
/// use raybolt_wire::secret::Secret;
///
/// let us = Identity {
///     secret: Secret::random()?,
///     session: SessionId(7),
///     node: NodeId(1),
///     epoch: Epoch(1),
///     features: 0,
/// };
/// let mut knocker = Handshake::knock(&us, Role::Watcher, Nonce::random()?);
/// let mut door = Handshake::answer(&us, Nonce::random()?);
/// while knocker.met().is_none() {
///     let letter = knocker.take_letters();
///     door.push(&letter)?;
///     let letter = door.take_letters();
///     knocker.push(&letter)?;
/// }
/// assert_eq!(door.met().map(|hello| hello.role), Some(Role::Watcher));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Handshake {
    secret: Secret,
    ours: Hello,
    nonce: Nonce,
    step: Step,
    /// The beginning of the letter that is awaited.
    arrived: Vec<u8>,
    /// Every whole letter so far, both ways (HAND-2, HAND-3).
    transcript: Vec<u8>,
    to_send: Vec<u8>,
}

/// What is awaited.
#[derive(Clone, Copy, Debug)]
enum Step {
    Knock,
    Challenge,
    Proof,
    Welcome,
    Done(Hello),
    Failed(HandshakeError),
}

impl Handshake {
    /// The side that connects.
    pub fn knock(identity: &Identity, role: Role, nonce: Nonce) -> Self {
        let mut handshake = Handshake::new(identity, role, nonce, Step::Challenge);
        handshake.send_opening(KNOCK);
        handshake
    }

    /// The side that listens.
    pub fn answer(identity: &Identity, nonce: Nonce) -> Self {
        Handshake::new(identity, Role::Host, nonce, Step::Knock)
    }

    /// How many bytes are wanted next: read no more than that from a stream (HAND-4). Zero after the
    /// last letter, or an error.
    pub fn wants(&self) -> usize {
        match self.step {
            Step::Done(_) | Step::Failed(_) => 0,
            _ => self.letter_end() - self.arrived.len(),
        }
    }

    /// Takes the next bytes that arrived and says how many: fewer than there are only if the handshake
    /// ended before them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, HandshakeError> {
        let mut rest = bytes;
        while !rest.is_empty() && self.wants() > 0 {
            let (next, behind) = rest.split_at(self.wants().min(rest.len()));
            rest = behind;
            self.arrived.extend_from_slice(next);
            self.read_letters();
        }
        match self.step {
            Step::Failed(error) => Err(error),
            _ => Ok(bytes.len() - rest.len()),
        }
    }

    /// What is to be sent next; also after an error, so that the other side learns why.
    pub fn letters(&self) -> &[u8] {
        &self.to_send
    }

    /// Notes that the first `bytes` of [`Handshake::letters`] are on their way.
    pub fn sent(&mut self, bytes: usize) {
        self.to_send.drain(..bytes);
    }

    /// What is to be sent next, as if it were sent.
    pub fn take_letters(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_send)
    }

    /// Who the other side has proved to be, once both have; letters may remain to be sent.
    pub fn met(&self) -> Option<Hello> {
        match self.step {
            Step::Done(hello) => Some(hello),
            _ => None,
        }
    }

    fn new(identity: &Identity, role: Role, nonce: Nonce, step: Step) -> Self {
        let Identity { session, node, epoch, features, .. } = *identity;
        Handshake {
            secret: identity.secret.clone(),
            ours: Hello { session, node, epoch, features, role },
            nonce,
            step,
            arrived: Vec::new(),
            transcript: Vec::new(),
            to_send: Vec::new(),
        }
    }

    /// Where the letter that is awaited ends, as far as that is known.
    fn letter_end(&self) -> usize {
        match self.arrived.first_chunk::<LENGTH_BYTES>() {
            Some(length) => LENGTH_BYTES + u32::from_le_bytes(*length) as usize,
            None => LENGTH_BYTES,
        }
    }

    /// Reads what was pushed, if it is a whole letter or cannot become one.
    fn read_letters(&mut self) {
        let bytes = self.letter_end() - LENGTH_BYTES;
        let read = if bytes > LETTER_BYTES_MAX {
            Err(HandshakeError::TooLong { bytes })
        } else if self.arrived.len() < LENGTH_BYTES || self.arrived.len() < self.letter_end() {
            return;
        } else {
            let letter = std::mem::take(&mut self.arrived);
            self.read_letter(&letter)
        };
        if let Err(error) = read {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: HandshakeError) {
        let we_are_the_door = self.ours.role == Role::Host;
        if let Some(refusal) = error.refusal().filter(|_| we_are_the_door) {
            self.to_send.extend(refusal.letter());
        }
        self.arrived = Vec::new();
        self.transcript = Vec::new();
        self.step = Step::Failed(error);
    }

    /// A whole letter, with its length.
    fn read_letter(&mut self, letter: &[u8]) -> Result<(), HandshakeError> {
        let content = &letter[LENGTH_BYTES..];
        match self.step {
            Step::Knock => {
                let protocol = read_opening(content, KNOCK, "a knock")?;
                self.transcript.extend_from_slice(letter);
                // Told also to those of another version, so that they can say what is wrong.
                self.send_opening(CHALLENGE);
                check_protocol(protocol)?;
                self.step = Step::Proof;
            }
            Step::Challenge => {
                check_refusal(content)?;
                check_protocol(read_opening(content, CHALLENGE, "a challenge")?)?;
                self.transcript.extend_from_slice(letter);
                self.send_proof(PROOF, KNOCKERS_LABEL);
                self.step = Step::Welcome;
            }
            Step::Proof => {
                let theirs = self.check_proof(letter, PROOF, KNOCKERS_LABEL, "a proof")?;
                if theirs.role == Role::Host {
                    return Err(HandshakeError::Role { theirs: theirs.role });
                }
                // Only knockers may not know the session; whoever knows it must know it right.
                if theirs.session != SessionId(0) {
                    self.check_session(theirs.session)?;
                }
                self.send_proof(WELCOME, DOORS_LABEL);
                self.end(theirs);
            }
            Step::Welcome => {
                check_refusal(content)?;
                let theirs = self.check_proof(letter, WELCOME, DOORS_LABEL, "a welcome")?;
                if theirs.role != Role::Host {
                    return Err(HandshakeError::Role { theirs: theirs.role });
                }
                if self.ours.session != SessionId(0) {
                    self.check_session(theirs.session)?;
                }
                self.end(theirs);
            }
            Step::Done(_) | Step::Failed(_) => unreachable!("nothing is wanted at the end"),
        }
        Ok(())
    }

    fn end(&mut self, theirs: Hello) {
        self.transcript = Vec::new();
        self.step = Step::Done(theirs);
    }

    fn check_session(&self, theirs: SessionId) -> Result<(), HandshakeError> {
        let ours = self.ours.session;
        if theirs == ours { Ok(()) } else { Err(HandshakeError::Session { ours, theirs }) }
    }

    fn send_opening(&mut self, kind: u8) {
        let letter = frame(kind, &[MAGIC, &PROTOCOL.to_le_bytes(), &self.nonce.0]);
        self.send(&letter);
    }

    fn send_proof(&mut self, kind: u8, label: &[u8]) {
        let hello: Vec<u8> = postcard::to_allocvec(&self.ours)
            .expect("a hello has no parts that refuse to be written");
        let mut letter = frame(kind, &[&hello, &[0; PROOF_BYTES]]);
        let proof_start = letter.len() - PROOF_BYTES;
        let proof = self.proof(label, &letter[..proof_start]).finalize().into_bytes();
        letter[proof_start..].copy_from_slice(&proof);
        self.send(&letter);
    }

    fn send(&mut self, letter: &[u8]) {
        self.transcript.extend_from_slice(letter);
        self.to_send.extend_from_slice(letter);
    }

    /// What the other side says of itself, if its proof is right.
    fn check_proof(
        &mut self,
        letter: &[u8],
        kind: u8,
        label: &[u8],
        expected: &'static str,
    ) -> Result<Hello, HandshakeError> {
        let garbage = HandshakeError::Garbage { expected };
        if letter.get(LENGTH_BYTES) != Some(&kind) {
            return Err(garbage);
        }
        let (unproven, proof) = letter.split_last_chunk::<PROOF_BYTES>().ok_or(garbage)?;
        // Before the proof nothing of the letter is looked at. The comparison takes constant time.
        let right = self.proof(label, unproven).verify_slice(proof);
        right.map_err(|_| HandshakeError::Secret)?;
        let hello = unproven.get(LENGTH_BYTES + 1..).ok_or(garbage)?;
        // What a later version puts behind its hello is covered by the proof and left alone.
        let (hello, _later) = postcard::take_from_bytes(hello).map_err(|_| garbage)?;
        self.transcript.extend_from_slice(letter);
        Ok(hello)
    }

    /// The proof of all letters so far and of `unproven`, the beginning of the one that carries it.
    fn proof(&self, label: &[u8], unproven: &[u8]) -> hmac::Hmac<sha2::Sha256> {
        let mut proof = self.secret.prove();
        proof.update(label);
        proof.update(&self.transcript);
        proof.update(unproven);
        proof
    }
}

fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let bytes: usize = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let length = u32::try_from(bytes).expect("letters are short");
    let mut frame = Vec::with_capacity(LENGTH_BYTES + bytes);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.push(kind);
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// The protocol that the sender of a knock or challenge speaks; its nonce counts by the transcript.
fn read_opening(content: &[u8], kind: u8, expected: &'static str) -> Result<u32, HandshakeError> {
    let garbage = HandshakeError::Garbage { expected };
    let (kind_and_magic, rest) = content.split_at_checked(1 + MAGIC.len()).ok_or(garbage)?;
    let (protocol, nonce) = rest.split_first_chunk::<4>().ok_or(garbage)?;
    if kind_and_magic[0] != kind || &kind_and_magic[1..] != MAGIC || nonce.len() < NONCE_BYTES {
        return Err(garbage);
    }
    let protocol = u32::from_le_bytes(*protocol);
    // Later versions may say more in their opening; ours does not.
    if protocol == PROTOCOL && content.len() != OPENING_BYTES {
        return Err(garbage);
    }
    Ok(protocol)
}

fn check_protocol(theirs: u32) -> Result<(), HandshakeError> {
    let ours = PROTOCOL;
    if theirs == ours { Ok(()) } else { Err(HandshakeError::Protocol { ours, theirs }) }
}

fn check_refusal(content: &[u8]) -> Result<(), HandshakeError> {
    let &[REFUSED, code] = content else { return Ok(()) };
    let refusal = Refusal::ALL.into_iter().find(|refusal| refusal.code() == code);
    Err(match refusal {
        Some(refusal) => HandshakeError::Refused(refusal),
        None => HandshakeError::Garbage { expected: "a refusal that this version knows" },
    })
}
