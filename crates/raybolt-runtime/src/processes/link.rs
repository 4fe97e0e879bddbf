//! A Unix socket between a driver and one of its workers.
//!
//! # Invariants
//! - **LINK-1 (never waits).** Neither sending nor reading waits for the other side: what the socket
//!   does not take lies in the outbox, and goes when the socket has room (the leader sees to it). So two
//!   sides that send to each other never wait for each other.
//! - **LINK-2 (in order).** Frames arrive in the order in which they were appended.
//! - **LINK-3 (no user code).** Nothing of the user's runs while the outbox is locked.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard};

use raybolt_wire::frame::{Decoder, TooLong};
use rustix::net::{RecvFlags, SendFlags};

/// The longest frame: values beyond 100 KiB go by way of the store.
pub(crate) const FRAME_MAX: usize = 64 << 20;
/// How much one system call reads.
const CHUNK: usize = 256 << 10;

pub(crate) struct Link {
    stream: UnixStream,
    out: Mutex<Outbox>,
    arrived: Mutex<Arrived>,
}

#[derive(Default)]
struct Outbox {
    /// Frames that nobody has written yet.
    bytes: Vec<u8>,
    /// Somebody writes, and will see what is appended meanwhile.
    is_writing: bool,
    /// The socket is full: whoever polls writes on.
    is_stuck: bool,
    is_closed: bool,
}

struct Arrived {
    decoder: Decoder,
    chunk: Box<[u8]>,
}

/// What became of the bytes to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Sent {
    /// The socket has them, or somebody else is about to write them.
    All,
    /// Some are left until the socket has room.
    Stuck,
    /// Nobody is there to read them.
    Closed,
}

/// Why a link is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the other side closed the link")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl Link {
    /// A link over a socket whose handshake is over.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Link {
            stream,
            out: Mutex::default(),
            arrived: Mutex::new(Arrived {
                decoder: Decoder::new(FRAME_MAX),
                chunk: vec![0; CHUNK].into(),
            }),
        })
    }

    /// Appends frames with `append`, without sending them.
    pub(crate) fn append<R>(&self, append: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        append(&mut self.out().bytes)
    }

    /// Sends what was appended.
    pub(crate) fn flush(&self) -> Sent {
        let mut out = self.out();
        if out.is_closed {
            out.bytes.clear();
            return Sent::Closed;
        }
        if out.is_writing {
            return Sent::All; // LINK-2: they go after what is being written.
        }
        let mut stuck = false;
        while !out.bytes.is_empty() && !stuck {
            let mut bytes = std::mem::take(&mut out.bytes);
            out.is_writing = true;
            drop(out);
            let written = self.write(&bytes);
            out = self.out();
            out.is_writing = false;
            match written {
                Ok(count) if count == bytes.len() => {
                    if out.bytes.is_empty() {
                        bytes.clear();
                        out.bytes = bytes; // Its memory serves again.
                    }
                }
                Ok(count) => {
                    bytes.drain(..count);
                    bytes.append(&mut out.bytes);
                    out.bytes = bytes;
                    stuck = true;
                }
                Err(_) => {
                    out.is_closed = true;
                    out.bytes = Vec::new();
                    return Sent::Closed;
                }
            }
        }
        out.is_stuck = stuck;
        if stuck { Sent::Stuck } else { Sent::All }
    }

    /// Reads what has arrived, without waiting, and hands out the frames.
    pub(crate) fn read(&self, mut each: impl FnMut(&[u8])) -> Result<(), Broken> {
        let mut arrived = self.arrived.lock().expect("no thread panics with this lock");
        let Arrived { decoder, chunk } = &mut *arrived;
        loop {
            let count = match rustix::net::recv(&self.stream, &mut **chunk, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Broken::Closed),
                Ok((_, count)) => count,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Broken::Io(error.into())),
            };
            decoder.push(&chunk[..count]);
            while let Some(frame) = decoder.next_frame()? {
                each(&frame);
            }
            if count < chunk.len() {
                return Ok(()); // Most likely there is no more: the poll will tell.
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.stream, &bytes[written..], flags) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }

    fn out(&self) -> MutexGuard<'_, Outbox> {
        self.out.lock().expect("no thread panics while it holds an outbox")
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
