//! What arrives: frames of the control lane where they lie, and those of the bulk lane from their pieces.
//!
//! Whole frames are handed out from the buffer that was read into; only a frame that is not whole yet is
//! moved to the buffer's beginning.

use super::{Broken, LAST, PIECE};
use crate::frame::{LENGTH_BYTES, TooLong};

/// How much one read asks for.
const CHUNK_BYTES: usize = 256 << 10;

/// A buffer for bulk frames that has grown beyond this is not kept.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What has arrived and was not handed out.
#[derive(Debug)]
pub(super) struct Inbox {
    /// All of it may be written to; it is touched as bytes arrive.
    buffer: Vec<u8>,
    /// What arrived lies in `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The pieces so far of a frame of the bulk lane.
    bulk: Vec<u8>,
    /// Whether a frame of the bulk lane has begun.
    is_in_bulk: bool,
    frame_bytes_max: usize,
    /// After a frame that was too long there are no more (FRAME-3).
    broken: Option<TooLong>,
}

impl Inbox {
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Inbox {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            bulk: Vec::new(),
            is_in_bulk: false,
            frame_bytes_max,
            broken: None,
        }
    }

    /// Where the next bytes are to be read into; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            // Zeroed memory that nobody touches costs nothing; what a long frame needed is given back.
            if self.buffer.len() != CHUNK_BYTES {
                self.buffer = vec![0; CHUNK_BYTES];
            }
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < CHUNK_BYTES / 2 {
            // By half of what has arrived (FRAME-1).
            let target = self.buffer.len() + (self.buffer.len() / 2).max(CHUNK_BYTES);
            self.buffer.resize(target, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Takes `bytes` that were read into the space, and hands out the frames that are whole.
    pub(super) fn take(
        &mut self,
        bytes: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        self.end += bytes;
        while self.broken.is_none() {
            let arrived = &self.buffer[self.start..self.end];
            let Some((head, rest)) = arrived.split_first_chunk::<LENGTH_BYTES>() else { break };
            let head = u32::from_le_bytes(*head);
            let bytes = (head & !(PIECE | LAST)) as usize;
            if let Err(too_long) = self.check(head, bytes) {
                self.broken = Some(too_long);
                break;
            }
            let Some(content) = rest.get(..bytes) else { break };
            // First, so that a frame whose receiver panics is not handed out again.
            self.start += LENGTH_BYTES + bytes;
            if head & PIECE == 0 {
                each(content);
            } else {
                self.bulk.extend_from_slice(content);
                self.is_in_bulk = head & LAST == 0;
                if !self.is_in_bulk {
                    let frame = std::mem::take(&mut self.bulk);
                    each(&frame);
                    self.keep(frame);
                }
            }
        }
        match self.broken {
            None => Ok(()),
            Some(too_long) => {
                // Nothing is kept of what follows.
                self.start = self.end;
                Err(too_long)
            }
        }
    }

    /// There will be no more bytes.
    pub(super) fn end(&self) -> Broken {
        let bytes = self.end - self.start + self.bulk.len();
        if bytes > 0 || self.is_in_bulk { Broken::Cut { bytes } } else { Broken::Closed }
    }

    fn check(&self, head: u32, bytes: usize) -> Result<(), TooLong> {
        let max_bytes = self.frame_bytes_max;
        // Only pieces have a last one.
        let is_known = head & PIECE != 0 || head & LAST == 0;
        let before = if head & PIECE == 0 { 0 } else { self.bulk.len() };
        let bytes = if is_known { before + bytes } else { head as usize };
        if bytes > max_bytes { Err(TooLong { bytes, max_bytes }) } else { Ok(()) }
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BYTES_MAX {
            buffer.clear();
            self.bulk = buffer;
        }
    }
}
