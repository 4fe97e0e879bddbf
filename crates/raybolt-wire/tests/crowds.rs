//! More strangers at a session's door than it has room for, from processes of their own.

mod house;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use house::{House, WORKER, identity, soon};
use raybolt_wire::door::{DoorStats, Limits};
use raybolt_wire::handshake::{Handshake, HandshakeError, Nonce, Refusal};
use raybolt_wire::knock::knock;

/// Where strangers in processes of their own learn what to do.
const PART: &str = "RAYBOLT_TEST_STRANGER";

/// How many connections a flood makes before it says so.
const FLOOD: usize = 10_000;

/// Room for what the other tests of this process have open.
const FILES_OF_OTHERS: usize = 100;

/// Another process at the door; it ends with its value.
struct Stranger {
    child: Child,
    says: BufReader<ChildStdout>,
    _until_closed: ChildStdin,
}

impl Stranger {
    fn new(part: &str, house: &House) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "be_a_stranger", "--ignored", "--nocapture"])
            .env(PART, format!("{part} {}", house.socket().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        let _until_closed = child.stdin.take().unwrap();
        Stranger { child, says, _until_closed }
    }

    /// Waits until it has done what it is for.
    fn done(&mut self) {
        let lines = self.says.by_ref().lines();
        assert!(lines.map(Result::unwrap).any(|line| line.ends_with("done")));
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the part of a stranger, which other tests start in a process of its own"]
fn be_a_stranger() {
    let Ok(part) = std::env::var(PART) else { return };
    let (part, socket) = part.split_once(' ').unwrap();
    match part {
        "sit" => {
            let _held = UnixStream::connect(socket).unwrap();
            say_done();
            let _ = std::io::stdin().read(&mut [0]);
        }
        "flood" => flood(socket),
        _ => panic!("no part: {part}"),
    }
}

/// For [`Stranger::done`].
fn say_done() {
    std::io::stdout().write_all(b"done\n").unwrap();
}

/// Connections without end: silent ones, garbage, and halves of knocks, as many at a time as there may be.
fn flood(socket: &str) {
    let mut held = VecDeque::new();
    let knock = Handshake::knock(&identity(), WORKER, Nonce::from_bytes([0; 32]));
    for number in 0.. {
        let Ok(mut stream) = UnixStream::connect(socket) else { continue };
        let letters = knock.letters();
        // The door may have hung up.
        let _ = match number % 4 {
            0 => Ok(()),
            1 => stream.write_all(letters),
            2 => stream.write_all(&letters[..letters.len() / 2]),
            _ => stream.write_all(&[0xff; 2000]),
        };
        held.push_back(stream);
        if held.len() > 500 {
            held.pop_front();
        }
        if number == FLOOD {
            say_done();
        }
    }
}

/// Memory that this process has to itself, and how many files it has open.
fn held() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (kib << 10, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

#[test]
fn ten_thousand_strangers_keep_no_worker_out_and_take_no_memory() {
    let house = House::open(Limits::default());
    let (stream, _) = knock(house.socket(), &identity(), WORKER, soon()).unwrap();
    let guest = house.guest();
    house.still_works();
    let (bytes_before, files_before) = held();

    let mut flood = Stranger::new("flood", &house);
    std::thread::scope(|scope| {
        let flooded = scope.spawn(|| flood.done());
        while !flooded.is_finished() {
            // Who is in is not disturbed, and who belongs here gets in.
            guest.answer_to(&stream);
            house.still_works();
            let (bytes, files) = held();
            assert!(house.door.stats().callers <= 64);
            assert!(
                files <= files_before + 64 + FILES_OF_OTHERS,
                "{files_before} files became {files}"
            );
            assert!(bytes <= bytes_before + (8 << 20), "{bytes_before} bytes became {bytes}");
        }
    });
    drop(flood);
    house.still_works();
    let stats = house.door.stats();
    let turned_away = stats.failed + stats.crowded_out + stats.late;
    assert!(turned_away >= FLOOD as u64 - 500, "{stats:?}");
}

/// Waits until the door has seen something.
fn wait_for(house: &House, seen: impl Fn(DoorStats) -> bool) {
    let end = soon();
    while !seen(house.door.stats()) {
        assert!(Instant::now() < end, "{:?}", house.door.stats());
        std::thread::yield_now();
    }
}

/// Goes on with a handshake whose knock was sent, and says how it ended.
fn finish(mut worker: Handshake, mut stream: &UnixStream) -> Result<(), Option<Refusal>> {
    while worker.met().is_none() {
        let mut bytes = vec![0; worker.wants()];
        stream.read_exact(&mut bytes).map_err(|_| None)?;
        worker.push(&bytes).map_err(|error| match error {
            HandshakeError::Refused(refusal) => Some(refusal),
            error => panic!("{error}"),
        })?;
        // Who is hung up on reads why.
        let _ = stream.write_all(&worker.take_letters());
    }
    Ok(())
}

fn knocked(house: &House) -> (Handshake, UnixStream) {
    let mut worker = Handshake::knock(&identity(), WORKER, Nonce::random().unwrap());
    let mut stream = house.connect();
    stream.write_all(&worker.take_letters()).unwrap();
    (worker, stream)
}

#[test]
fn a_process_with_many_callers_crowds_out_itself_and_not_others() {
    let limits = Limits { callers_max: 4, deadline: Duration::from_secs(600) };
    let house = House::open(limits);
    let mut other = Stranger::new("sit", &house);
    other.done();
    wait_for(&house, |stats| stats.callers == 1);
    // Ours are five, so the oldest of ours goes, though the other's is older.
    let (oldest, oldest_stream) = knocked(&house);
    let _silent: Vec<UnixStream> = (0..3).map(|_| house.connect()).collect();
    wait_for(&house, |stats| stats.crowded_out == 1);
    assert_eq!(finish(oldest, &oldest_stream), Err(Some(Refusal::Busy)));
    let (newest, newest_stream) = knocked(&house);
    assert_eq!(finish(newest, &newest_stream), Ok(()));
    wait_for(&house, |stats| stats.callers == 3);
}

#[test]
fn a_process_that_is_expected_is_not_crowded_out_by_many_others() {
    let limits = Limits { callers_max: 4, deadline: Duration::from_secs(600) };
    let house = House::open(limits);
    house.door.expect(std::process::id());
    let (worker, stream) = knocked(&house);
    let mut others: Vec<Stranger> = (0..6).map(|_| Stranger::new("sit", &house)).collect();
    others.iter_mut().for_each(Stranger::done);
    // One worker and six others are three too many, and the worker is the oldest.
    wait_for(&house, |stats| stats.crowded_out == 3);
    assert_eq!(finish(worker, &stream), Ok(()));
    house.guest().answer_to(&stream);
}
