//! A stream of a stranger: frames, the messages in them, and values by their bytes.
//!
//! Besides not to panic, it is asked that the frames do not depend on the cut into chunks (FRAME-2), and
//! that what was understood can be said again.

#![no_main]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use raybolt_wire::frame::{self, Decoder, TooLong};
use raybolt_wire::work::{self, ToDriver, ToWorker};
use raybolt_wire::{Value, value};

const FRAME_BYTES_MAX: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    let frames = frames_of(stream, usize::from(*first) + 1);
    assert_eq!(frames, frames_of(stream, stream.len().max(1)), "FRAME-2");
    for frame in frames.iter().flat_map(|(frames, _)| frames) {
        read(frame);
    }
    // Most bytes are no frame; so that messages are reached as well:
    read(stream);
});

/// The frames of a stream, and how it ended.
fn frames_of(stream: &[u8], chunk_bytes: usize) -> Option<(Vec<Vec<u8>>, Option<TooLong>)> {
    let mut decoder = Decoder::new(FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    for chunk in stream.chunks(chunk_bytes) {
        decoder.push(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(too_long) => return Some((frames, Some(too_long))),
            }
        }
    }
    Some((frames, None))
}

fn read(content: &[u8]) {
    read_as::<ToWorker>(content);
    read_as::<ToDriver>(content);
    type Mixed = (String, Vec<(u64, Option<i16>)>, BTreeMap<u8, Vec<char>>);
    if let Ok(mixed) = value::decode::<Mixed>(content) {
        let again = value::encode(&mixed).expect("what was read can be written");
        assert_eq!(value::decode::<Mixed>(&again), Ok(mixed));
    }
}

fn read_as<M: Value + PartialEq + Debug>(content: &[u8]) {
    let Ok((message, body)) = work::read::<M>(content) else { return };
    let mut stream = Vec::new();
    let append = |out: &mut Vec<u8>| {
        out.extend_from_slice(body);
        Ok::<(), Infallible>(())
    };
    work::append(&mut stream, &message, usize::MAX, append).expect("what was read can be written");
    assert_eq!(work::read(&stream[frame::LENGTH_BYTES..]), Ok((message, body)));
}
