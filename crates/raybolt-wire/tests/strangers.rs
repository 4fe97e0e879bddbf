//! Strangers at a session's door: nothing is given to them, they cost little, and the session works on.
//!
//! The strangers of these tests are of the same user, for others do not get as far as the socket.

mod house;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use house::{House, WORKER, identity, soon};
use raybolt_core::ids::{NodeId, SessionId};
use raybolt_wire::door::{Door, DoorError, Limits};
use raybolt_wire::handshake::{Handshake, HandshakeError, Identity, Nonce, Refusal, Role};
use raybolt_wire::knock::{KnockError, knock};
use raybolt_wire::secret::Secret;

/// A whole letter of the door's that refuses for `code`.
fn refusal(code: u8) -> Vec<u8> {
    vec![2, 0, 0, 0, b'r', code]
}

/// Everything the door says until it hangs up.
fn last_words(mut stranger: &UnixStream) -> Vec<u8> {
    let mut words = Vec::new();
    // A door that hangs up on unread bytes is a reset, after what it said.
    let _ = stranger.read_to_end(&mut words);
    words
}

#[test]
fn a_worker_and_a_watcher_are_let_in_and_know_whom_they_met() {
    let house = House::open(Limits::default());
    let (_stream, host) = knock(house.socket(), &identity(), WORKER, soon()).unwrap();
    assert_eq!((host.role, host.node, host.session), (Role::Host, NodeId(1), SessionId(7)));
    let guest = house.guest();
    assert_eq!((guest.hello.role, guest.pid), (WORKER, std::process::id()));

    let watcher = Identity { session: SessionId(0), ..identity() };
    let (_stream, host) = knock(house.socket(), &watcher, Role::Watcher, soon()).unwrap();
    assert_eq!(host.session, SessionId(7));
    assert_eq!(house.guest().hello.role, Role::Watcher);
    assert_eq!(house.door.stats().admitted, 2);
}

#[test]
fn what_follows_the_handshake_reaches_the_other_side_both_ways() {
    let house = House::open(Limits::default());
    let (stream, _) = knock(house.socket(), &identity(), WORKER, soon()).unwrap();
    house.guest().answer_to(&stream);
}

#[test]
fn without_the_secret_nobody_is_let_in_and_is_told_why() {
    let house = House::open(Limits::default());
    let stranger = Identity { secret: Secret::from_bytes([9; 32]), ..identity() };
    let error = knock(house.socket(), &stranger, WORKER, soon()).unwrap_err();
    let KnockError::Handshake { cause, .. } = error else { panic!("{error}") };
    assert_eq!(cause, HandshakeError::Refused(Refusal::Proof));
    house.still_works();
}

#[test]
fn recorded_letters_of_a_rightful_worker_are_worth_nothing() {
    let house = House::open(Limits::default());
    // A worker whose every byte is recorded.
    let mut worker = Handshake::knock(&identity(), WORKER, Nonce::random().unwrap());
    let mut stream = house.connect();
    let mut recorded = Vec::new();
    while worker.met().is_none() {
        let letters = worker.take_letters();
        stream.write_all(&letters).unwrap();
        recorded.push(letters);
        while worker.letters().is_empty() && worker.wants() > 0 {
            let mut bytes = vec![0; worker.wants()];
            stream.read_exact(&mut bytes).unwrap();
            worker.push(&bytes).unwrap();
        }
    }
    house.guest();

    let mut replay = house.connect();
    replay.write_all(&recorded.concat()).unwrap();
    assert!(last_words(&replay).ends_with(&refusal(1)));
    house.still_works();
}

#[test]
fn garbage_is_answered_once_and_hung_up_on() {
    let house = House::open(Limits::default());
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 300], &[0xff; 300]] {
        let mut stranger = house.connect();
        // The door may hang up before all of it is written.
        let _ = stranger.write_all(garbage);
        assert_eq!(last_words(&stranger), refusal(4));
    }
    house.still_works();
}

#[test]
fn a_claim_of_four_gigabytes_is_refused_by_its_length() {
    let house = House::open(Limits::default());
    let mut stranger = house.connect();
    stranger.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert_eq!(last_words(&stranger), refusal(4));
    house.still_works();
}

#[test]
fn who_says_nothing_is_sent_away_in_time_and_others_are_served_meanwhile() {
    let house = House::open(Limits { deadline: Duration::from_millis(300), ..Limits::default() });
    let silent: Vec<UnixStream> = (0..20).map(|_| house.connect()).collect();
    house.still_works();
    for stranger in &silent {
        assert_eq!(last_words(stranger), refusal(5));
    }
    // On a slow machine also one that was rightful and tried again.
    assert!(house.door.stats().late >= 20);
}

#[test]
fn who_talks_byte_by_byte_is_sent_away_in_time() {
    let house = House::open(Limits { deadline: Duration::from_millis(300), ..Limits::default() });
    let mut slow = house.connect();
    slow.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut knocker = Handshake::knock(&identity(), WORKER, Nonce::random().unwrap());
    let mut answer = [0; 6];
    // One more byte each time nothing was answered for a while, and never the last one.
    while let Err(error) = slow.read_exact(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        if let [next, _, ..] = *knocker.letters() {
            knocker.sent(1);
            // It may be over by now.
            let _ = slow.write_all(&[next]);
        }
    }
    assert_eq!(answer[..], refusal(5));
    assert_eq!(house.door.stats().late, 1);
    house.still_works();
}

#[test]
fn a_knocker_of_another_session_is_told_so() {
    let house = House::open(Limits::default());
    let other = Identity { session: SessionId(8), ..identity() };
    let text = knock(house.socket(), &other, WORKER, soon()).unwrap_err().to_string();
    assert!(
        text.ends_with("cannot be joined: the door refuses: it is another session's"),
        "{text}"
    );
    house.still_works();
}

#[test]
fn guests_stay_when_the_door_closes_and_nobody_else_gets_in() {
    let house = House::open(Limits::default());
    let (stream, _) = knock(house.socket(), &identity(), WORKER, soon()).unwrap();
    let guest = house.guest();
    let silent = house.connect();
    let socket = house.socket().to_owned();
    let _folder = house.close();
    assert!(!socket.exists());
    assert_eq!(last_words(&silent), b"");
    guest.answer_to(&stream);
    let text = knock(&socket, &identity(), WORKER, soon()).unwrap_err().to_string();
    assert!(text.contains("no session answers at"), "{text}");
}

#[test]
fn a_door_that_does_not_answer_costs_no_more_than_the_deadline() {
    let house = House::new();
    // Bound, but nobody accepts.
    let _listener = std::os::unix::net::UnixListener::bind(house.socket()).unwrap();
    let deadline = Instant::now() + Duration::from_millis(50);
    let text = knock(house.socket(), &identity(), WORKER, deadline).unwrap_err().to_string();
    assert!(text.contains("let nobody in within"), "{text}");
    assert!(text.ends_with("is its driver stopped?"), "{text}");
}

#[test]
fn a_directory_that_is_open_to_others_is_no_place_for_a_door() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    let directory = house.socket().parent().unwrap();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = Door::open(house.socket(), identity(), Limits::default(), |_| {}).unwrap_err();
    assert!(matches!(error, DoorError::Exposed { mode: 0o755, .. }), "{error}");
    assert!(error.to_string().contains("`chmod 700 "), "{error}");
}

#[test]
fn a_path_that_is_too_long_for_a_socket_names_the_lever() {
    let house = House::new();
    let path = house.socket().with_file_name("s".repeat(120));
    let text = Door::open(&path, identity(), Limits::default(), |_| {}).unwrap_err().to_string();
    assert!(text.contains("set XDG_RUNTIME_DIR or TMPDIR to a shorter directory"), "{text}");
}

#[test]
fn the_socket_is_nobody_elses() {
    use std::os::unix::fs::MetadataExt;
    let house = House::open(Limits::default());
    assert_eq!(std::fs::metadata(house.socket()).unwrap().mode() & 0o777, 0o600);
}

/// Runs `act` on a thread of another user; only root can have one, so others skip what needs it.
fn as_somebody_else<R: Send>(act: impl FnOnce() -> R + Send) -> Option<R> {
    let nobody = rustix::fs::Uid::from_raw(65_534);
    let act = || rustix::thread::set_thread_uid(nobody).is_ok().then(act);
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

/// Lets other users get at what the house keeps from them.
fn throw_open(house: &House<impl Sized>) {
    use std::os::unix::fs::PermissionsExt;
    let everybody = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(house.socket().parent().unwrap(), everybody(0o777)).unwrap();
    if house.socket().exists() {
        std::fs::set_permissions(house.socket(), everybody(0o666)).unwrap();
    }
}

#[test]
fn another_user_is_not_let_in_even_where_the_files_allow_it() {
    let house = House::open(Limits::default());
    throw_open(&house);
    let socket = house.socket();
    let said = as_somebody_else(|| last_words(&UnixStream::connect(socket).unwrap()));
    if let Some(said) = said {
        assert_eq!(said, b"");
        house.still_works();
        assert_eq!(house.door.stats().foreign, 1);
    }
}

#[test]
fn a_socket_of_another_user_is_not_spoken_to() {
    let house = House::new();
    throw_open(&house);
    let socket = house.socket();
    let bind = || std::os::unix::net::UnixListener::bind(socket).unwrap();
    if let Some(_listener) = as_somebody_else(bind) {
        throw_open(&house);
        let error = knock(house.socket(), &identity(), WORKER, soon()).unwrap_err();
        assert!(matches!(error, KnockError::Foreign { theirs: 65_534, .. }), "{error}");
    }
}
