//! A link by any steps, and what it makes of a stranger's bytes.
//!
//! Besides not to panic, it is asked that what arrives does not depend on the cut into pieces (FRAME-2),
//! that a plain stream is read as a decoder reads it, and that frames keep their lane's order (LANE-2).

#![no_main]

use std::io::IoSlice;

use libfuzzer_sys::fuzz_target;
use raybolt_wire::frame::{self, Decoder};
use raybolt_wire::link::{Lane, Limits, Link, MemoryLink, Sent, Transport};

const LIMITS: Limits = Limits { frame_bytes_max: 1 << 16, outbox_bytes_max: 1 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    if first % 2 == 0 {
        stranger(rest, usize::from(*first) + 1);
    } else {
        steps(rest, usize::from(*first) * 512);
    }
});

/// Someone who sends `stream`.
fn stranger(stream: &[u8], piece_bytes: usize) {
    let whole = heard(stream, stream.len().max(1));
    assert_eq!(heard(stream, piece_bytes), whole, "FRAME-2");
    let (plain, ended) = decoded(stream);
    // Up to the first length with a flag the two agree.
    assert!(whole.0.starts_with(&plain) || whole.0.len() < plain.len());
    if !ended {
        assert_eq!(whole.0, plain);
    }
}

/// The frames of a stream that arrives in pieces, and whether it ended badly.
fn heard(stream: &[u8], piece_bytes: usize) -> (Vec<Vec<u8>>, bool) {
    let (stranger, link) = MemoryLink::pair(LIMITS, piece_bytes);
    let mut frames = Vec::new();
    let mut broken = false;
    for piece in stream.chunks(piece_bytes) {
        stranger.transport().write(&[IoSlice::new(piece)]).expect("all was read before");
        broken |= link.receive(&mut |frame| frames.push(frame.to_vec())).is_err();
    }
    (frames, broken)
}

fn decoded(stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = Decoder::new(LIMITS.frame_bytes_max);
    decoder.push(stream);
    let mut frames = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => frames.push(frame.to_vec()),
            Ok(None) => return (frames, false),
            Err(_) => return (frames, true),
        }
    }
}

/// Each step is three bytes: what, and how long.
fn steps(bytes: &[u8], room: usize) {
    let (here, there) = MemoryLink::pair(LIMITS, room);
    let (mut sent, mut arrived) = ([Vec::new(), Vec::new()], Vec::new());
    for step in bytes.chunks_exact(3) {
        let (what, length) = (step[0] % 5, usize::from(u16::from_le_bytes([step[1], step[2]])));
        match what {
            0 | 1 => {
                let lane = [Lane::Control, Lane::Bulk][usize::from(what)];
                let sent: &mut Vec<Vec<u8>> = &mut sent[usize::from(what)];
                let mut content = vec![what];
                content.resize(length.max(1), sent.len() as u8);
                let max = LIMITS.frame_bytes_max;
                if let Ok(appended) = here.append(lane, |out| frame::append(out, &[&content], max))
                {
                    appended.expect("it is no longer than a frame may be");
                    sent.push(content);
                }
            }
            2 => assert_open(here.flush(&|_| {})),
            3 => assert_open(here.resume(&|_| {})),
            _ => receive(&there, &mut arrived),
        }
    }
    while here.outbox_bytes() > 0 {
        let _ = here.resume(&|_| {});
        receive(&there, &mut arrived);
    }
    receive(&there, &mut arrived);
    for (lane, sent) in sent.iter().enumerate() {
        let of_lane = arrived.iter().filter(|frame: &&Vec<u8>| usize::from(frame[0]) == lane);
        assert!(of_lane.eq(sent), "LANE-2");
    }
}

fn receive(link: &MemoryLink, arrived: &mut Vec<Vec<u8>>) {
    while link.receive(&mut |frame| arrived.push(frame.to_vec())).expect("both ends are ours").bytes
        > 0
    {}
}

fn assert_open(sent: Sent) {
    assert_ne!(sent, Sent::Closed);
}
