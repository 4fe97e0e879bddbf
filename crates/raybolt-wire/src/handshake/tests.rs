use proptest::prelude::*;
use raybolt_core::ids::{Epoch, NodeId, ProcessId};

use super::*;

const WORKER: Role = Role::Worker { process: ProcessId(300) };

fn identity(secret: u8) -> Identity {
    Identity {
        secret: Secret::from_bytes([secret; 32]),
        session: SessionId(7),
        node: NodeId(1),
        epoch: Epoch(2),
        features: 5,
    }
}

/// Both sides, with nonces that tell them apart.
fn pair(knocker: &Identity, door: &Identity) -> (Handshake, Handshake) {
    let knocker = Handshake::knock(knocker, WORKER, Nonce::from_bytes([0x11; 32]));
    let door = Handshake::answer(door, Nonce::from_bytes([0x22; 32]));
    (knocker, door)
}

/// Carries letters to and fro until nothing is left to carry; returns all of them.
fn converse(knocker: &mut Handshake, door: &mut Handshake) -> Vec<Vec<u8>> {
    let mut letters = Vec::new();
    loop {
        let there = knocker.take_letters();
        let _ = door.push(&there);
        let back = door.take_letters();
        let _ = knocker.push(&back);
        if there.is_empty() && back.is_empty() {
            return letters;
        }
        letters.extend([there, back].into_iter().filter(|letter| !letter.is_empty()));
    }
}

fn failed(handshake: &mut Handshake) -> HandshakeError {
    handshake.push(b"").unwrap_err()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn two_of_one_session_learn_who_the_other_is() {
    let (mut knocker, mut door) = pair(&identity(1), &Identity { node: NodeId(9), ..identity(1) });
    assert_eq!(converse(&mut knocker, &mut door).len(), 4);
    let guest = door.met().unwrap();
    assert_eq!((guest.role, guest.node, guest.features), (WORKER, NodeId(1), 5));
    let host = knocker.met().unwrap();
    assert_eq!((host.role, host.node, host.session), (Role::Host, NodeId(9), SessionId(7)));
}

#[test]
fn the_letters_keep_their_bytes() {
    // A change here means that builds do not understand each other: raise `PROTOCOL`.
    let (mut knocker, mut door) = pair(&identity(1), &identity(1));
    let letters: Vec<String> =
        converse(&mut knocker, &mut door).iter().map(|letter| hex(letter)).collect();
    assert_eq!(
        letters,
        [
            "2d0000006b726179626f6c740001000000\
             1111111111111111111111111111111111111111111111111111111111111111",
            "2d00000063726179626f6c740001000000\
             2222222222222222222222222222222222222222222222222222222222222222",
            "28000000700701020501ac02\
             0e5dff85e94989101ecd6ac31a59d680deff0e0494a1ec35756594e238555674",
            "26000000770701020500\
             8aa2c11c21071bca93c579a11e7ac51d34577bca29be919032d9834f01dc8e61",
        ]
    );
}

#[test]
fn a_knocker_that_knows_only_the_secret_is_told_the_session() {
    let watcher = Identity { session: SessionId(0), ..identity(1) };
    let mut knocker = Handshake::knock(&watcher, Role::Watcher, Nonce::from_bytes([3; 32]));
    let mut door = Handshake::answer(&identity(1), Nonce::from_bytes([4; 32]));
    converse(&mut knocker, &mut door);
    assert_eq!(knocker.met().map(|host| host.session), Some(SessionId(7)));
}

#[test]
fn a_wrong_secret_is_refused_on_both_sides_and_nothing_is_told() {
    let (mut knocker, mut door) = pair(&identity(1), &identity(2));
    let letters = converse(&mut knocker, &mut door);
    assert_eq!(failed(&mut door), HandshakeError::Secret);
    assert_eq!(failed(&mut knocker), HandshakeError::Refused(Refusal::Proof));
    // HAND-1: a challenge and the reason.
    assert_eq!(letters[1].len(), LENGTH_BYTES + OPENING_BYTES);
    assert_eq!(letters[3], Refusal::Proof.letter());
    assert_eq!(
        failed(&mut knocker).to_string(),
        "the door refuses: it has another secret: is this the `secret` beside the socket, of the same session?"
    );
}

#[test]
fn a_door_that_does_not_know_the_secret_is_found_out() {
    let (mut knocker, mut door) = pair(&identity(1), &identity(1));
    door.push(&knocker.take_letters()).unwrap();
    knocker.push(&door.take_letters()).unwrap();
    let welcome = frame(WELCOME, &[&[0; 40]]);
    assert_eq!(knocker.push(&welcome), Err(HandshakeError::Secret));
    assert_eq!(knocker.met(), None);
}

#[test]
fn another_session_with_the_same_secret_is_refused() {
    let (mut knocker, mut door) =
        pair(&Identity { session: SessionId(8), ..identity(1) }, &identity(1));
    converse(&mut knocker, &mut door);
    assert_eq!(
        failed(&mut door).to_string(),
        "the other side belongs to session 8, this one to session 7"
    );
    assert_eq!(failed(&mut knocker), HandshakeError::Refused(Refusal::Session));
}

#[test]
fn a_knocker_cannot_be_the_host() {
    let mut knocker = Handshake::knock(&identity(1), Role::Host, Nonce::from_bytes([3; 32]));
    let mut door = Handshake::answer(&identity(1), Nonce::from_bytes([4; 32]));
    converse(&mut knocker, &mut door);
    assert_eq!(failed(&mut door), HandshakeError::Role { theirs: Role::Host });
}

#[test]
fn sides_of_different_versions_both_name_both() {
    let (mut knocker, mut door) = pair(&identity(1), &identity(1));
    let protocol_at = LENGTH_BYTES + 1 + MAGIC.len();
    let mut knock = knocker.take_letters();
    knock[protocol_at] = 9;
    assert_eq!(
        door.push(&knock).unwrap_err().to_string(),
        "the other side speaks protocol 9, this one speaks 1: run both from the same version of raybolt"
    );
    let mut challenge = door.take_letters();
    challenge[protocol_at] = 9;
    assert_eq!(
        knocker.push(&challenge),
        Err(HandshakeError::Protocol { ours: PROTOCOL, theirs: 9 })
    );
}

#[test]
fn a_later_version_may_say_more_in_its_opening() {
    let mut door = Handshake::answer(&identity(1), Nonce::from_bytes([4; 32]));
    let knock = frame(KNOCK, &[MAGIC, &9_u32.to_le_bytes(), &[0; 100]]);
    assert_eq!(door.push(&knock), Err(HandshakeError::Protocol { ours: PROTOCOL, theirs: 9 }));
}

#[test]
fn a_recorded_handshake_opens_no_door_again() {
    let (mut knocker, mut door) = pair(&identity(1), &identity(1));
    let letters = converse(&mut knocker, &mut door);
    let mut again = Handshake::answer(&identity(1), Nonce::from_bytes([0x23; 32]));
    again.push(&letters[0]).unwrap();
    assert_eq!(again.push(&letters[2]), Err(HandshakeError::Secret));
    // Nor does a recorded welcome deceive a knocker.
    let mut knocker = Handshake::knock(&identity(1), WORKER, Nonce::from_bytes([0x12; 32]));
    knocker.push(&letters[1]).unwrap();
    assert_eq!(knocker.push(&letters[3]), Err(HandshakeError::Secret));
}

#[test]
fn a_side_does_not_take_its_own_letters_for_the_others() {
    // A reflector without the secret sends the door what the door sent, and the knocker what it sent.
    let (mut knocker, mut door) = pair(&identity(1), &identity(1));
    let knock = knocker.take_letters();
    assert_eq!(knocker.push(&knock), Err(HandshakeError::Garbage { expected: "a challenge" }));
    door.push(&knock).unwrap();
    let challenge = door.take_letters();
    assert_eq!(door.push(&challenge), Err(HandshakeError::Garbage { expected: "a proof" }));

    // Even relabelled: the proof of a knocker is not that of a door.
    let (mut knocker, mut door) = pair(&identity(1), &identity(1));
    door.push(&knocker.take_letters()).unwrap();
    knocker.push(&door.take_letters()).unwrap();
    let mut proof = knocker.take_letters();
    proof[LENGTH_BYTES] = WELCOME;
    assert_eq!(knocker.push(&proof), Err(HandshakeError::Secret));
}

#[test]
fn any_flipped_bit_ends_the_handshake() {
    let (mut knocker, mut door) = pair(&identity(1), &identity(1));
    let letters = converse(&mut knocker, &mut door);
    for (index, letter) in letters.iter().enumerate() {
        for bit in 0..letter.len() * 8 {
            let (mut knocker, mut door) = pair(&identity(1), &identity(1));
            let mut flipped = letter.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            for (index, before) in letters[..index].iter().enumerate() {
                let [reader, writer] = by_turn(index, &mut knocker, &mut door);
                assert_eq!(writer.take_letters(), *before);
                reader.push(before).unwrap();
            }
            let [reader, writer] = by_turn(index, &mut knocker, &mut door);
            writer.take_letters();
            let _ = reader.push(&flipped);
            converse(&mut knocker, &mut door);
            let both = knocker.met().is_some() && door.met().is_some();
            assert!(!both, "letter {index}, bit {bit}");
        }
    }
}

/// Who reads letter `index` and who writes it.
fn by_turn<'a>(
    index: usize,
    knocker: &'a mut Handshake,
    door: &'a mut Handshake,
) -> [&'a mut Handshake; 2] {
    if index.is_multiple_of(2) { [door, knocker] } else { [knocker, door] }
}

#[test]
fn a_letter_that_is_too_long_is_refused_by_its_length() {
    let mut door = Handshake::answer(&identity(1), Nonce::from_bytes([4; 32]));
    let claim = u32::MAX.to_le_bytes();
    assert_eq!(
        door.push(&claim).unwrap_err().to_string(),
        "a letter of 4294967295 bytes exceeds the handshake's limit of 1024 bytes"
    );
    assert_eq!(door.take_letters(), Refusal::Garbage.letter());
    assert_eq!((door.wants(), door.arrived.capacity()), (0, 0));
}

#[test]
fn what_follows_the_last_letter_is_left_to_the_link() {
    let (mut knocker, mut door) = pair(&identity(1), &identity(1));
    door.push(&knocker.take_letters()).unwrap();
    knocker.push(&door.take_letters()).unwrap();
    let mut proof = knocker.take_letters();
    let end = proof.len();
    proof.extend_from_slice(b"frames");
    assert_eq!(door.push(&proof), Ok(end));
    assert_eq!((door.wants(), door.push(b"frames")), (0, Ok(0)));
}

/// How a side ends when it is fed `bytes` in pieces, and what it wrote meanwhile.
fn feed(mut side: Handshake, bytes: &[u8], piece: usize) -> (Option<Hello>, String, Vec<u8>) {
    let mut ended = String::new();
    for piece in bytes.chunks(piece) {
        if let Err(error) = side.push(piece) {
            ended = error.to_string();
        }
        assert!(side.arrived.len() <= LENGTH_BYTES + LETTER_BYTES_MAX, "HAND-3");
        assert!(side.transcript.len() <= 3 * (LENGTH_BYTES + LETTER_BYTES_MAX), "HAND-3");
    }
    (side.met(), ended, side.take_letters())
}

/// Bytes that get past the first looks: openings, letters of a kind, or anything.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let content = proptest::collection::vec(any::<u8>(), 0..120);
    let kind = prop::sample::select(vec![KNOCK, CHALLENGE, PROOF, WELCOME, REFUSED]);
    let letter = prop_oneof![
        Just(frame(KNOCK, &[MAGIC, &PROTOCOL.to_le_bytes(), &[9; NONCE_BYTES]])),
        Just(frame(CHALLENGE, &[MAGIC, &PROTOCOL.to_le_bytes(), &[9; NONCE_BYTES]])),
        (kind, content.clone()).prop_map(|(kind, content)| frame(kind, &[&content])),
        content,
    ];
    proptest::collection::vec(letter, 0..5).prop_map(|letters| letters.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_end_alike_and_let_nobody_in(stream in streams(), piece in 1..60_usize) {
        let (knocker, door) = pair(&identity(1), &identity(1));
        for side in [knocker, door] {
            let side = || Handshake {
                secret: side.secret.clone(),
                arrived: side.arrived.clone(),
                transcript: side.transcript.clone(),
                to_send: side.to_send.clone(),
                ..side
            };
            let whole = feed(side(), &stream, stream.len().max(1));
            prop_assert_eq!(whole.0, None);
            prop_assert_eq!(feed(side(), &stream, piece), whole);
        }
    }
}
