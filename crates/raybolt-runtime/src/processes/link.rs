//! A link between a driver and one of its workers, and its place among those that are polled.
//!
//! # Invariants
//! - **LINK-1 (no user code).** Nothing of the user's runs while the outbox is locked.
//! - **LINK-2 (given up).** A side that reads nothing while [`OUTBOX_MAX`] bytes wait for it is given up: the
//!   link is closed, which both sides take for the other's death.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use raybolt_wire::link::{Broken, Lane, Limits, Link as _, NotTaken, Sent, UnixLink};

use crate::processes::poll::{Poll, Ready};

/// The longest frame: larger values go by way of the store.
pub(crate) const FRAME_MAX: usize = 64 << 20;
/// How much may wait for the other side to read.
const OUTBOX_MAX: usize = 1 << 30;

pub(crate) struct Link {
    wire: UnixLink,
    poll: Arc<Poll>,
    token: u64,
    /// What this process does when it can send no more: a worker ends.
    if_closed: fn(),
}

impl Link {
    /// A link over a socket whose handshake is over. It is read once it [starts](Link::start).
    pub(crate) fn new(
        stream: UnixStream,
        poll: Arc<Poll>,
        token: u64,
        if_closed: fn(),
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let limits = Limits { frame_bytes_max: FRAME_MAX, outbox_bytes_max: OUTBOX_MAX };
        Ok(Link { wire: UnixLink::over(stream, limits), poll, token, if_closed })
    }

    /// From now on the link is polled under its token.
    pub(crate) fn start(&self) -> io::Result<()> {
        self.wire.fd().map_or(Ok(()), |fd| self.poll.add(&fd, self.token))
    }

    /// The link is of no more use.
    pub(crate) fn end(&self) {
        if let Some(fd) = self.wire.fd() {
            self.poll.remove(&fd);
            // Closed by the other side already: all the same.
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
        }
    }

    /// Appends frames with `append`, without sending them. What is said to a side that is gone is not said.
    pub(crate) fn append<R>(&self, append: impl FnOnce(&mut Vec<u8>) -> R) -> Option<R> {
        match self.wire.append(Lane::Control, append) {
            Ok(appended) => return Some(appended),
            Err(NotTaken::Closed) => {}
            Err(NotTaken::Full { .. }) => {
                tracing::error!(target: "raybolt", "a process reads nothing while {OUTBOX_MAX} bytes wait for it, and is given up");
                self.end();
            }
        }
        None
    }

    /// Sends what was appended, as far as the other side takes it; the rest goes when it does.
    pub(crate) fn flush(&self) {
        if self.wire.flush(&|room| self.watch(room)) == Sent::Closed {
            (self.if_closed)();
        }
    }

    /// Acts on what the poll says; hands out the frames that have arrived.
    pub(crate) fn ready(&self, ready: Ready, each: &mut dyn FnMut(&[u8])) -> Result<(), Broken> {
        if ready.is_writable && self.wire.resume(&|room| self.watch(room)) == Sent::Closed {
            (self.if_closed)();
        }
        if ready.is_readable {
            // What is left is there at the next poll.
            self.wire.receive(each)?;
        }
        Ok(())
    }

    /// Hands out what has arrived, without being asked by the poll.
    pub(crate) fn read(&self, each: &mut dyn FnMut(&[u8])) -> Result<(), Broken> {
        while self.wire.receive(each)?.more {}
        Ok(())
    }

    fn watch(&self, room: bool) {
        if let Some(fd) = self.wire.fd() {
            // One that cannot be watched is closed.
            let _ = self.poll.watch_room(&fd, self.token, room);
        }
    }
}
