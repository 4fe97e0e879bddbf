//! What is to be sent: two lanes, and the batch that somebody writes.
//!
//! A *batch* is what one system call is given: all control frames that waited when it was made, and at
//! most one piece of the bulk lane behind them. The next one is made when it is written, so that its
//! bytes are never mixed with others.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::{LAST, Lane, NotTaken, PIECE, PIECE_BYTES_MAX, Transport};
use crate::frame::LENGTH_BYTES;

/// A buffer that has grown beyond this is not kept.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What waits to be sent.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Frames, as they travel.
    control: Vec<u8>,
    /// Buffers of whole frames, with the lengths that [`crate::frame`] gives them.
    bulk: VecDeque<Vec<u8>>,
    bulk_bytes: usize,
    /// Who writes has it in hand.
    batch: Option<Batch>,
    /// What the batch held when it was last seen.
    batch_bytes: usize,
    bytes_max: usize,
    /// The transport took no more; whoever was told by `watch` will try again.
    pub(super) is_stuck: bool,
    pub(super) is_closed: bool,
}

/// What one system call is given.
#[derive(Debug, Default)]
pub(super) struct Batch {
    control: Vec<u8>,
    /// How much of `control` is written.
    control_written: usize,
    /// A buffer of the bulk lane, as long as there is something of it to be sent.
    bulk: Vec<u8>,
    /// Where the rest of it begins.
    bulk_start: usize,
    /// Bytes of the frame at `bulk_start` that are still to be cut.
    frame_left: usize,
    /// The piece that is to be sent now.
    piece: Piece,
}

/// A piece within `bulk`, and its length as it travels.
#[derive(Debug, Default)]
struct Piece {
    head: [u8; LENGTH_BYTES],
    /// Of head and bytes together.
    written: usize,
    /// Of head and bytes together; zero if there is none.
    end: usize,
}

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        Outbox {
            control: Vec::new(),
            bulk: VecDeque::new(),
            bulk_bytes: 0,
            batch: Some(Batch::default()),
            batch_bytes: 0,
            bytes_max,
            is_stuck: false,
            is_closed: false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.control.len() + self.bulk_bytes + self.batch_bytes
    }

    /// LANE-4, LANE-7.
    pub(super) fn append(
        &mut self,
        lane: Lane,
        encode: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), NotTaken> {
        if self.is_closed {
            return Err(NotTaken::Closed);
        }
        if self.bytes() >= self.bytes_max {
            return Err(NotTaken::Full { bytes: self.bytes(), max_bytes: self.bytes_max });
        }
        match lane {
            Lane::Control => {
                let mut undo = Undo { length: self.control.len(), buffer: &mut self.control };
                encode(undo.buffer);
                undo.length = undo.buffer.len();
            }
            Lane::Bulk => {
                let mut buffer = Vec::new();
                encode(&mut buffer);
                assert!(is_whole_frames(&buffer), "what is appended are whole frames");
                self.bulk_bytes += buffer.len();
                self.bulk.push_back(buffer);
            }
        }
        Ok(())
    }

    /// The writer's place; `None` if somebody has it.
    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.batch.take()
    }

    /// Gives the writer's place back.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.batch_bytes = batch.left();
        self.batch = Some(batch);
    }

    /// Fills a batch that is written with what waits; whether it has anything.
    pub(super) fn fill(&mut self, batch: &mut Batch) -> bool {
        if batch.is_written() {
            batch.control.clear();
            batch.control_written = 0;
            if batch.control.capacity() > KEPT_BYTES_MAX {
                batch.control = Vec::new();
            }
            std::mem::swap(&mut batch.control, &mut self.control);
            while !batch.cut_piece()
                && let Some(buffer) = self.bulk.pop_front()
            {
                self.bulk_bytes -= buffer.len();
                batch.bulk = buffer;
                batch.bulk_start = 0;
            }
        }
        self.batch_bytes = batch.left();
        !batch.is_written()
    }

    pub(super) fn close(&mut self) {
        *self = Outbox { is_closed: true, is_stuck: self.is_stuck, ..Outbox::new(self.bytes_max) };
    }
}

impl Batch {
    pub(super) fn write(&self, transport: &impl Transport) -> io::Result<usize> {
        let control = &self.control[self.control_written..];
        if self.piece.written == self.piece.end {
            return transport.write(&[IoSlice::new(control)]);
        }
        let head = &self.piece.head[self.piece.written.min(LENGTH_BYTES)..];
        let bytes = &self.bulk[self.bulk_start..][..self.piece.end - LENGTH_BYTES];
        let bytes = &bytes[self.piece.written.saturating_sub(LENGTH_BYTES)..];
        transport.write(&[IoSlice::new(control), IoSlice::new(head), IoSlice::new(bytes)])
    }

    /// Notes that `bytes` are written.
    pub(super) fn advance(&mut self, bytes: usize) {
        let control = bytes.min(self.control.len() - self.control_written);
        self.control_written += control;
        self.piece.written += bytes - control;
        if self.piece.end > 0 && self.piece.written == self.piece.end {
            self.bulk_start += self.piece.end - LENGTH_BYTES;
            self.piece = Piece::default();
        }
    }

    fn is_written(&self) -> bool {
        self.control_written == self.control.len() && self.piece.written == self.piece.end
    }

    /// Bytes to be sent, as far as they are known.
    fn left(&self) -> usize {
        self.control.len() - self.control_written + self.bulk.len() - self.bulk_start
    }

    /// Makes a piece of what comes next in this batch's buffer; false if the buffer is at its end.
    fn cut_piece(&mut self) -> bool {
        let rest = &self.bulk[self.bulk_start..];
        if rest.is_empty() {
            self.bulk = Vec::new();
            self.bulk_start = 0;
            return false;
        }
        if self.frame_left == 0 {
            let length = rest.first_chunk().expect("it was checked when it was appended");
            self.frame_left = u32::from_le_bytes(*length) as usize;
            self.bulk_start += LENGTH_BYTES;
        }
        let bytes = self.frame_left.min(PIECE_BYTES_MAX);
        self.frame_left -= bytes;
        let last = if self.frame_left == 0 { LAST } else { 0 };
        let length = u32::try_from(bytes).expect("pieces are short");
        let head = (PIECE | last | length).to_le_bytes();
        self.piece = Piece { head, written: 0, end: LENGTH_BYTES + bytes };
        true
    }
}

fn is_whole_frames(mut buffer: &[u8]) -> bool {
    while let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_BYTES>() {
        let Some(rest) = rest.get(u32::from_le_bytes(*length) as usize..) else { return false };
        buffer = rest;
    }
    buffer.is_empty()
}

/// Takes back what a function appended that did not return (LANE-7).
struct Undo<'a> {
    buffer: &'a mut Vec<u8>,
    length: usize,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.length);
    }
}
