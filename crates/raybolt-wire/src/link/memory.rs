//! Memory as a transport, for tests and simulations: behaves as a Unix socket does.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Read};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Framed, Limits, Transport};

/// One end of a pair. Dropping it closes both ways; the other end reads what was written before.
#[derive(Debug)]
pub struct Memory {
    pair: Arc<Pair>,
    /// 0 or 1.
    side: usize,
}

/// A link within one process.
pub type MemoryLink = Framed<Memory>;

#[derive(Debug)]
struct Pair {
    /// What each side has written and the other has not read.
    ways: [Mutex<Way>; 2],
    wakers: [OnceLock<Waker>; 2],
    room_bytes: usize,
}

#[derive(Debug, Default)]
struct Way {
    bytes: VecDeque<u8>,
    is_closed: bool,
}

struct Waker(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker(..)")
    }
}

impl MemoryLink {
    /// Both ends of a link that carries up to `room_bytes` each way at a time.
    pub fn pair(limits: Limits, room_bytes: usize) -> (Self, Self) {
        let pair = Pair { ways: Default::default(), wakers: Default::default(), room_bytes };
        let pair = Arc::new(pair);
        let end = |side| Framed::new(Memory { pair: Arc::clone(&pair), side }, limits);
        (end(0), end(1))
    }
}

impl Memory {
    /// Has `wake` called whenever bytes arrive here, there is room again, or the other end closes; what
    /// a poll would tell of a socket. Only the first one counts.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.pair.wakers[self.side].set(Waker(Box::new(wake)));
    }

    fn way(&self, side: usize) -> MutexGuard<'_, Way> {
        self.pair.ways[side].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn other(&self) -> usize {
        1 - self.side
    }

    fn wake_other(&self) {
        if let Some(Waker(wake)) = self.pair.wakers[self.other()].get() {
            wake();
        }
    }
}

impl Transport for Memory {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut way = self.way(self.side);
        if way.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut written = 0;
        for part in parts {
            let room = self.pair.room_bytes - way.bytes.len();
            let part = &part[..room.min(part.len())];
            way.bytes.extend(part);
            written += part.len();
        }
        drop(way);
        if written == 0 && parts.iter().any(|part| !part.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.wake_other();
        Ok(written)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut way = self.way(self.other());
        if way.bytes.is_empty() {
            return if way.is_closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let bytes = way.bytes.read(buffer)?;
        drop(way);
        self.wake_other();
        Ok(bytes)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for side in [0, 1] {
            self.way(side).is_closed = true;
        }
        self.wake_other();
    }
}
