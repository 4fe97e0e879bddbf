//! Frames: how messages are told apart in a stream of bytes.
//!
//! # Protocol
//! A frame is a length (`u32`, little endian) and as many bytes. A stream is one frame after the
//! other, without padding. Both sides of a link agree on the longest frame they accept.
//!
//! ```text
//! | 05 00 00 00 | h e l l o | 00 00 00 00 | 02 00 00 00 | o k |
//! ```
//!
//! # Invariants
//! - **FRAME-1 (bounded first).** A length is compared with the limit before anything is reserved
//!   for it, and memory is reserved by what has arrived: a stranger who claims 4 GiB and sends
//!   nothing costs nothing.
//! - **FRAME-2 (any cut).** The frames that come out do not depend on how the stream was cut into
//!   chunks.
//! - **FRAME-3 (broken stays broken).** After a frame that is too long the stream has no more frames:
//!   its position is lost, so the link has to be closed.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a frame before its content.
pub const LENGTH_BYTES: usize = 4;

/// The longest frame where nothing else was agreed: an inline argument is at most 100 KiB, so this
/// is room for a large batch of calls; larger values go through the store.
pub const DEFAULT_MAX_BYTES: usize = 8 << 20;

/// A frame that is longer than the link allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame of {bytes} bytes exceeds the link's limit of {max_bytes} bytes (`max_frame_bytes`)"
)]
pub struct TooLong {
    /// The length that the frame has or claims.
    pub bytes: usize,
    /// The limit.
    pub max_bytes: usize,
}

/// Appends one frame to `stream` whose content is `parts`, one after the other.
///
/// Nothing is appended if the content is longer than `max_bytes`.
pub fn append(stream: &mut Vec<u8>, parts: &[&[u8]], max_bytes: usize) -> Result<(), TooLong> {
    let bytes = parts.iter().map(|part| part.len()).sum();
    let length = match u32::try_from(bytes) {
        Ok(length) if bytes <= max_bytes => length,
        _ => return Err(TooLong { bytes, max_bytes }),
    };
    stream.reserve(LENGTH_BYTES + bytes);
    stream.extend_from_slice(&length.to_le_bytes());
    for part in parts {
        stream.extend_from_slice(part);
    }
    Ok(())
}

/// Cuts a stream that arrives in chunks into its frames.
///
/// ```
/// use raybolt_wire::frame::{self, Decoder};
///
/// let mut stream = Vec::new();
/// frame::append(&mut stream, &[b"he", b"llo"], 100)?;
///
/// let mut decoder = Decoder::new(100);
/// decoder.push(&stream[..6]);
/// assert_eq!(decoder.next_frame()?, None);
/// decoder.push(&stream[6..]);
/// assert_eq!(decoder.next_frame()?.as_deref(), Some(&b"hello"[..]));
/// # Ok::<(), frame::TooLong>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    /// What arrived and was not handed out yet: whole frames and the beginning of one more.
    arrived: BytesMut,
    max_bytes: usize,
    /// Set once and for all by the first frame that is too long (FRAME-3).
    broken: Option<TooLong>,
}

impl Decoder {
    /// A decoder at the beginning of a stream whose frames hold at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Decoder { arrived: BytesMut::new(), max_bytes, broken: None }
    }

    /// Takes the next chunk of the stream. Take the frames out before pushing more: what is held is
    /// bounded by one frame and one chunk only if you do.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.broken.is_none() {
            self.arrived.extend_from_slice(chunk);
        }
    }

    /// The next whole frame, or `None` until more has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, TooLong> {
        if let Some(too_long) = self.broken {
            return Err(too_long);
        }
        let Some(length) = self.arrived.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > self.max_bytes {
            return Err(self.break_with(TooLong { bytes, max_bytes: self.max_bytes }));
        }
        if self.arrived.len() - LENGTH_BYTES < bytes {
            return Ok(None);
        }
        self.arrived.advance(LENGTH_BYTES);
        Ok(Some(self.arrived.split_to(bytes).freeze()))
    }

    /// How many bytes wait for the rest of their frame.
    pub fn pending_bytes(&self) -> usize {
        self.arrived.len()
    }

    fn break_with(&mut self, too_long: TooLong) -> TooLong {
        self.broken = Some(too_long);
        self.arrived = BytesMut::new();
        too_long
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames_of(stream: &[u8], chunk_bytes: usize, max: usize) -> Result<Vec<Bytes>, TooLong> {
        let mut decoder = Decoder::new(max);
        let mut frames = Vec::new();
        for chunk in stream.chunks(chunk_bytes) {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn a_frame_is_a_length_and_its_bytes() {
        let mut stream = Vec::new();
        append(&mut stream, &[b"hello"], 5).unwrap();
        append(&mut stream, &[], 5).unwrap();
        assert_eq!(stream, b"\x05\0\0\0hello\0\0\0\0");
    }

    #[test]
    fn a_content_above_the_limit_is_not_sent() {
        let mut stream = vec![1];
        let text = append(&mut stream, &[b"he", b"llo"], 4).unwrap_err().to_string();
        assert_eq!(
            text,
            "a frame of 5 bytes exceeds the link's limit of 4 bytes (`max_frame_bytes`)"
        );
        assert_eq!(stream, [1]);
    }

    #[test]
    fn a_claim_above_the_limit_reserves_nothing_and_breaks_the_stream() {
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(&u32::MAX.to_le_bytes());
        let too_long = TooLong { bytes: u32::MAX as usize, max_bytes: 1 << 20 };
        assert_eq!(decoder.next_frame(), Err(too_long));
        decoder.push(b"\x01\0\0\0a");
        assert_eq!(decoder.next_frame(), Err(too_long));
        assert_eq!(decoder.pending_bytes(), 0);
    }

    #[test]
    fn a_claim_within_the_limit_reserves_what_arrived() {
        let mut decoder = Decoder::new(1 << 30);
        decoder.push(&(1_u32 << 30).to_le_bytes());
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.arrived.capacity() < 1 << 12);
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_the_cut(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10),
            chunk_bytes in 1..50_usize,
        ) {
            let mut stream = Vec::new();
            for content in &contents {
                append(&mut stream, &[content], 40).unwrap();
            }
            prop_assert_eq!(frames_of(&stream, chunk_bytes, 40).unwrap(), contents);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(
            stream in proptest::collection::vec(any::<u8>(), 0..300),
            chunk_bytes in 1..50_usize,
        ) {
            prop_assert_eq!(frames_of(&stream, chunk_bytes, 200), frames_of(&stream, 300, 200));
        }
    }
}
