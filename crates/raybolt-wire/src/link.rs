//! Links: frames between two sides that never make each other wait.
//!
//! # Words
//! A *transport* carries bytes (a Unix socket, memory; TCP with TLS is to come). The *outbox* holds frames
//! that the transport has not taken yet. A *lane* is a queue within it: frames of one lane keep their
//! order. The link is *stuck* while the transport takes nothing more.
//!
//! # Protocol
//! A frame of the control lane travels as [`crate::frame`] says: its length and as many bytes. A frame of
//! the bulk lane is cut into *pieces* of at most [`PIECE_BYTES_MAX`], between which control frames find
//! room. The two highest bits of a length, which no frame needs, say what it is the length of:
//!
//! ```text
//! 00 a control frame          | 05 00 00 00 | h e l l o |
//! 10 a piece, more follow     | 00 00 01 80 | 65,536 bytes |
//! 11 the last piece           | 02 00 00 c0 | o k |
//! ```
//! So a small frame waits for one piece of a large one at most, and a link that sends nothing in bulk is a
//! plain stream of frames.
//!
//! # Use
//! ```
//! use raybolt_wire::frame;
//! use raybolt_wire::link::{Lane, Limits, Link, MemoryLink};
//!
//! let limits = Limits::default();
//! let (here, there) = MemoryLink::pair(limits, 1 << 16);
//! here.append(Lane::Control, |out| frame::append(out, &[b"hello"], limits.frame_bytes_max))??;
//! here.flush(&|_room| {});
//!
//! let mut heard = Vec::new();
//! there.receive(&mut |frame| heard.push(frame.to_vec()))?;
//! assert_eq!(heard, [b"hello"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//! - **LANE-1 (never waits).** No call waits for the other side. What the transport does not take stays
//!   in the outbox until there is room.
//! - **LANE-2 (in order).** Frames of one lane arrive in the order in which they were appended. Between
//!   lanes there is no order: what has to arrive before or after a control frame is one.
//! - **LANE-3 (one call for many).** All control frames that wait, and one piece, go by one system call.
//!   Whoever writes also writes what others append meanwhile.
//! - **LANE-4 (bounded).** An outbox that holds `outbox_bytes_max` takes nothing more: the frames are not
//!   even encoded. It thus holds less than that and one append more. Memory for what arrives is reserved
//!   by what has arrived (FRAME-1).
//! - **LANE-5 (small before large).** Once appended, a control frame waits for at most one piece of the
//!   bulk lane, besides control frames before it.
//! - **LANE-6 (somebody sees to it).** While a link is stuck, the last call of a `watch` function was
//!   with `true`; afterwards with `false`. It is called with the outbox's lock held, so that the calls
//!   arrive in order; it must not call the link.
//! - **LANE-7 (whole or nothing).** An append that panics leaves the outbox as it was.

mod inbox;
mod memory;
mod outbox;
#[cfg(test)]
mod tests;
mod unix;

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::frame::{self, TooLong};

use inbox::Inbox;
use outbox::Outbox;

pub use memory::{Memory, MemoryLink};
pub use unix::{Unix, UnixLink};

/// The longest piece of a frame of the bulk lane.
pub const PIECE_BYTES_MAX: usize = 64 << 10;

/// The longest frame that a link can carry: two bits of a length are flags.
pub const FRAME_BYTES_MAX: usize = (1 << 30) - 1;

/// Set in the length of a piece.
const PIECE: u32 = 1 << 31;
/// Set in the length of the last piece of a frame.
const LAST: u32 = 1 << 30;

/// How many reads one [`Link::receive`] does at most, for the sake of other links.
const READS_MAX: usize = 4;

/// How much a link may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest frame, both ways; both sides have to agree.
    pub frame_bytes_max: usize,
    /// With so much in the outbox nothing more is appended.
    pub outbox_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { frame_bytes_max: frame::DEFAULT_MAX_BYTES, outbox_bytes_max: 64 << 20 }
    }
}

/// Which queue of a link frames wait in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What somebody waits for.
    Control,
    /// What is large and may be overtaken.
    Bulk,
}

/// What became of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// The transport has it, or another thread is writing and will see it.
    All,
    /// Some of it waits for room; `watch` was told.
    Stuck,
    /// Nobody is there to read it.
    Closed,
}

/// What a look at the transport brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// How many bytes.
    pub bytes: usize,
    /// Whether there may be more already: look again before waiting.
    pub more: bool,
}

/// Frames that were not taken, nor encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The other side does not keep up.
    #[error(
        "the link's outbox holds {bytes} bytes, its limit is {max_bytes} (`outbox_bytes_max`): the other side does \
         not read"
    )]
    Full {
        /// How many bytes wait.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The other side is gone.
    #[error("the link is closed")]
    Closed,
}

/// Why a link brings nothing any more.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other side went, between two frames.
    #[error("the other side closed the link")]
    Closed,
    /// The other side went in the middle of a frame.
    #[error("the other side closed the link in the middle of a frame, after {bytes} bytes of it")]
    Cut {
        /// How much of the frame there was.
        bytes: usize,
    },
    /// The transport failed.
    #[error("the link failed: {0}")]
    Transport(#[from] io::Error),
    /// A frame that is longer than agreed.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// What links are, whatever carries them.
pub trait Link: Send + Sync {
    /// Appends to a lane the frames that `encode` writes, each by [`frame::append`] or alike; nothing is
    /// sent before [`Link::flush`].
    fn append_with(&self, lane: Lane, encode: &mut dyn FnMut(&mut Vec<u8>))
    -> Result<(), NotTaken>;

    /// Sends what was appended, unless the link is stuck: then [`Link::resume`] will.
    ///
    /// `watch(true)` asks that [`Link::resume`] be called when there is room, `watch(false)` takes it back.
    fn flush(&self, watch: &dyn Fn(bool)) -> Sent;

    /// Sends on: there is room, most likely.
    fn resume(&self, watch: &dyn Fn(bool)) -> Sent;

    /// Reads what has arrived and calls `each` with every whole frame.
    fn receive(&self, each: &mut dyn FnMut(&[u8])) -> Result<Received, Broken>;

    /// How many bytes wait to be sent.
    fn outbox_bytes(&self) -> usize;

    /// Whether the link is stuck.
    fn wants_room(&self) -> bool;

    /// What to poll, if the transport has such a thing.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// [`Link::append_with`] for a function that is called once and returns something.
    fn append<R>(&self, lane: Lane, encode: impl FnOnce(&mut Vec<u8>) -> R) -> Result<R, NotTaken>
    where
        Self: Sized,
    {
        let mut encode = Some(encode);
        let mut result = None;
        self.append_with(lane, &mut |out| result = encode.take().map(|encode| encode(out)))?;
        Ok(result.expect("what is appended is encoded once"))
    }
}

/// What carries the bytes of a link. Neither call waits: [`io::ErrorKind::WouldBlock`] says that it would.
pub trait Transport: Send + Sync {
    /// Takes bytes from the front of `parts`, as many as it has room for.
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Brings bytes; none at the end.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// What to poll, if there is such a thing.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// A link over some transport.
#[derive(Debug)]
pub struct Framed<T> {
    transport: T,
    out: Mutex<Outbox>,
    arrived: Mutex<Inbox>,
}

impl<T: Transport> Framed<T> {
    /// A link over `transport`, at its beginning.
    ///
    /// # Panics
    /// If frames of more than [`FRAME_BYTES_MAX`] are asked for.
    pub fn new(transport: T, limits: Limits) -> Self {
        assert!(limits.frame_bytes_max <= FRAME_BYTES_MAX, "no frame can be that long");
        Framed {
            transport,
            out: Mutex::new(Outbox::new(limits.outbox_bytes_max)),
            arrived: Mutex::new(Inbox::new(limits.frame_bytes_max)),
        }
    }

    /// What carries it.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    fn out(&self) -> MutexGuard<'_, Outbox> {
        // LANE-7: whoever panicked left it in order.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until nothing is left or there is no room.
    fn write<'a>(&'a self, mut out: MutexGuard<'a, Outbox>, watch: &dyn Fn(bool)) -> Sent {
        // LANE-2: only one writes; what was appended meanwhile goes after what it has in hand.
        let Some(mut batch) = out.take_batch() else { return Sent::All };
        while out.fill(&mut batch) {
            drop(out);
            let written = batch.write(&self.transport);
            out = self.out();
            match written {
                Ok(bytes) => batch.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    out.put_back(batch);
                    if !std::mem::replace(&mut out.is_stuck, true) {
                        watch(true);
                    }
                    return Sent::Stuck;
                }
                Err(_) => {
                    out.close();
                    self.unstick(&mut out, watch);
                    return Sent::Closed;
                }
            }
        }
        out.put_back(batch);
        self.unstick(&mut out, watch);
        Sent::All
    }

    fn unstick(&self, out: &mut Outbox, watch: &dyn Fn(bool)) {
        if std::mem::replace(&mut out.is_stuck, false) {
            watch(false);
        }
    }
}

impl<T: Transport> Link for Framed<T> {
    fn append_with(
        &self,
        lane: Lane,
        encode: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), NotTaken> {
        self.out().append(lane, encode)
    }

    fn flush(&self, watch: &dyn Fn(bool)) -> Sent {
        let out = self.out();
        match (out.is_closed, out.is_stuck) {
            (true, _) => Sent::Closed,
            // No system call to be told what is known.
            (false, true) => Sent::Stuck,
            (false, false) => self.write(out, watch),
        }
    }

    fn resume(&self, watch: &dyn Fn(bool)) -> Sent {
        let out = self.out();
        if out.is_closed { Sent::Closed } else { self.write(out, watch) }
    }

    fn receive(&self, each: &mut dyn FnMut(&[u8])) -> Result<Received, Broken> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = Received::default();
        for _ in 0..READS_MAX {
            let space = arrived.space();
            let room = space.len();
            match self.transport.read(space) {
                Ok(0) => return Err(arrived.end()),
                Ok(bytes) => {
                    received.bytes += bytes;
                    arrived.take(bytes, each)?;
                    if bytes < room {
                        // Most likely there is no more; who polls will be told.
                        return Ok(received);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(received),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(arrived.end());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Received { more: true, ..received })
    }

    fn outbox_bytes(&self) -> usize {
        self.out().bytes()
    }

    fn wants_room(&self) -> bool {
        self.out().is_stuck
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.transport.fd()
    }
}
