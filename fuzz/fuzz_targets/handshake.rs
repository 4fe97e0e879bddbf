//! Both sides of the handshake, before a stranger and before someone who changes letters on their way.
//!
//! Besides not to panic, it is asked that the end does not depend on the cut into pieces (HAND-5), that
//! nobody gets in without the secret (HAND-1), that what is kept is bounded (HAND-3), and that two who
//! both got in exchanged what they meant to (HAND-2).

#![no_main]

use libfuzzer_sys::fuzz_target;
use raybolt_core::ids::{Epoch, NodeId, ProcessId, SessionId};
use raybolt_wire::handshake::{Handshake, HandshakeError, Identity, LETTER_BYTES_MAX, Nonce, Role};
use raybolt_wire::secret::Secret;

const WORKER: Role = Role::Worker { process: ProcessId(4) };

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    if first % 2 == 0 {
        stranger(rest, usize::from(*first) + 1);
    } else {
        meddler(rest);
    }
});

fn sides() -> [Handshake; 2] {
    let identity = Identity {
        secret: Secret::from_bytes([0x5e; 32]),
        session: SessionId(7),
        node: NodeId(1),
        epoch: Epoch(2),
        features: 3,
    };
    [
        Handshake::knock(&identity, WORKER, Nonce::from_bytes([1; 32])),
        Handshake::answer(&identity, Nonce::from_bytes([2; 32])),
    ]
}

/// Someone who says `stream` to either side.
fn stranger(stream: &[u8], piece_bytes: usize) {
    let pieces = sides().map(|side| hear(side, stream, piece_bytes));
    let whole = sides().map(|side| hear(side, stream, stream.len().max(1)));
    assert_eq!(pieces, whole, "HAND-5");
}

/// How a side ends, and what it says meanwhile.
fn hear(
    mut side: Handshake,
    stream: &[u8],
    piece_bytes: usize,
) -> (Option<HandshakeError>, Vec<u8>) {
    let mut error = None;
    for piece in stream.chunks(piece_bytes) {
        error = side.push(piece).err();
        assert!(side.wants() <= 4 + LETTER_BYTES_MAX, "HAND-3");
        assert!(side.met().is_none(), "HAND-1");
    }
    (error, side.take_letters())
}

/// Someone between the two who changes, cuts and adds bytes.
fn meddler(changes: &[u8]) {
    let [mut knocker, mut door] = sides();
    let mut changes = changes.chunks_exact(3);
    let mut meddled = false;
    for _ in 0..4 {
        let sent = knocker.take_letters();
        let arrives = change(&sent, changes.next());
        meddled |= arrives != sent;
        let _ = door.push(&arrives);
        let sent = door.take_letters();
        let arrives = change(&sent, changes.next());
        meddled |= arrives != sent;
        let _ = knocker.push(&arrives);
    }
    let roles = [&knocker, &door].map(|side| side.met().map(|hello| hello.role));
    for (role, own) in roles.into_iter().zip([Role::Host, WORKER]) {
        assert!(role.is_none_or(|role| role == own), "HAND-2");
    }
    assert!(meddled || roles.iter().all(Option::is_some), "two of one session meet");
}

fn change(letters: &[u8], change: Option<&[u8]>) -> Vec<u8> {
    let mut letters = letters.to_vec();
    let Some(&[what, place, value]) = change else { return letters };
    let place = usize::from(place) % letters.len().max(1);
    match what % 8 {
        0 => letters.truncate(place),
        1 => letters.insert(place.min(letters.len()), value),
        2 if !letters.is_empty() => letters[place] ^= value,
        _ => {}
    }
    letters
}
