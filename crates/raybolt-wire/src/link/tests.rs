use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::frame::{Decoder, LENGTH_BYTES};

const LIMITS: Limits = Limits { frame_bytes_max: 4 << 20, outbox_bytes_max: 8 << 20 };

/// Both ends of a link; every test of the contract runs on each kind.
fn pairs() -> Vec<(Box<dyn Link>, Box<dyn Link>)> {
    let (here, there) = UnixStream::pair().unwrap();
    let (a, b) = MemoryLink::pair(LIMITS, 100_000);
    vec![
        (Box::new(UnixLink::over(here, LIMITS)), Box::new(UnixLink::over(there, LIMITS))),
        (Box::new(a), Box::new(b)),
    ]
}

fn append(link: &dyn Link, lane: Lane, content: &[u8]) -> Result<(), NotTaken> {
    link.append_with(lane, &mut |out| {
        frame::append(out, &[content], LIMITS.frame_bytes_max).unwrap();
    })
}

/// Whatever has arrived.
fn received(link: &dyn Link) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while link.receive(&mut |frame| frames.push(frame.to_vec())).unwrap().bytes > 0 {}
    frames
}

fn ignore(_room: bool) {}

/// Reads there and writes on here until nothing is left.
fn drain(here: &dyn Link, there: &dyn Link, watch: &dyn Fn(bool)) -> Vec<Vec<u8>> {
    let mut frames = received(there);
    while here.wants_room() {
        let _ = here.resume(watch);
        frames.extend(received(there));
    }
    frames
}

#[test]
fn frames_arrive_as_they_were_appended_both_ways() {
    for (here, there) in pairs() {
        for content in [&b"one"[..], b"", b"three"] {
            append(&*here, Lane::Control, content).unwrap();
        }
        assert_eq!(received(&*there), Vec::<Vec<u8>>::new(), "before the flush");
        assert_eq!(here.flush(&ignore), Sent::All);
        append(&*there, Lane::Control, b"back").unwrap();
        assert_eq!(there.flush(&ignore), Sent::All);
        assert_eq!(received(&*there), [&b"one"[..], b"", b"three"]);
        assert_eq!(received(&*here), [b"back"]);
        assert_eq!((here.outbox_bytes(), there.outbox_bytes()), (0, 0));
    }
}

#[test]
fn a_link_whose_other_side_does_not_read_is_stuck_says_so_once_and_goes_on() {
    for (here, there) in pairs() {
        let told = RefCell::new(Vec::new());
        let watch = |room| told.borrow_mut().push(room);
        let content = vec![7; 1000];
        let mut appended = 0;
        while here.flush(&watch) == Sent::All {
            append(&*here, Lane::Control, &content).unwrap();
            appended += 1;
        }
        append(&*here, Lane::Control, &content).unwrap();
        assert_eq!(here.flush(&watch), Sent::Stuck);
        assert_eq!((here.wants_room(), &*told.borrow()), (true, &vec![true]));

        assert_eq!(drain(&*here, &*there, &watch).len(), appended + 1);
        assert_eq!((here.wants_room(), &*told.borrow()), (false, &vec![true, false]));
        assert_eq!(here.outbox_bytes(), 0);
    }
}

#[test]
fn an_outbox_that_is_full_takes_nothing_and_does_not_encode() {
    for (here, _there) in pairs() {
        for lane in [Lane::Control, Lane::Bulk].into_iter().cycle() {
            let before = here.outbox_bytes();
            match append(&*here, lane, &[0; 1 << 20]) {
                Ok(()) => assert!(before < LIMITS.outbox_bytes_max),
                Err(full) => {
                    assert_eq!(full, NotTaken::Full { bytes: before, max_bytes: 8 << 20 });
                    break;
                }
            }
        }
        let refused = here.append_with(Lane::Control, &mut |_| panic!("encoded"));
        assert!(matches!(refused, Err(NotTaken::Full { .. })));
    }
}

#[test]
fn a_small_frame_waits_for_one_piece_of_a_large_one_at_most() {
    for (here, there) in pairs() {
        let large = vec![1; 4 << 20];
        append(&*here, Lane::Bulk, &large).unwrap();
        assert_eq!(here.flush(&ignore), Sent::Stuck);
        // Everything that is on its way already is read, so that what comes now is what comes next.
        assert_eq!(received(&*there), Vec::<Vec<u8>>::new());
        append(&*here, Lane::Control, b"small").unwrap();
        let mut bytes = 0;
        let mut frames = Vec::new();
        while frames.is_empty() {
            let _ = here.resume(&ignore);
            bytes += there.receive(&mut |frame| frames.push(frame.to_vec())).unwrap().bytes;
        }
        assert_eq!(frames, [b"small"]);
        // A write goes on until there is no room, so pieces behind the small one have come as well.
        let room = 1 << 20;
        assert!(bytes < PIECE_BYTES_MAX + room, "{bytes}");
        assert_eq!(drain(&*here, &*there, &ignore), [large]);
    }
}

#[test]
fn who_is_gone_was_heard_to_the_end() {
    for (here, there) in pairs() {
        append(&*here, Lane::Control, b"last words").unwrap();
        assert_eq!(here.flush(&ignore), Sent::All);
        drop(here);
        assert_eq!(received_until_broken(&*there).0, [b"last words"]);
        append(&*there, Lane::Control, b"anybody?").unwrap();
        assert_eq!(there.flush(&ignore), Sent::Closed);
        assert_eq!(append(&*there, Lane::Control, b"no"), Err(NotTaken::Closed));
        assert_eq!((there.outbox_bytes(), there.wants_room()), (0, false));
    }
}

fn received_until_broken(link: &dyn Link) -> (Vec<Vec<u8>>, Broken) {
    let mut frames = Vec::new();
    loop {
        if let Err(broken) = link.receive(&mut |frame| frames.push(frame.to_vec())) {
            return (frames, broken);
        }
    }
}

#[test]
fn a_frame_that_was_cut_off_is_no_end_like_others() {
    for (here, there) in pairs() {
        let mut bulk = vec![1; 4 << 20];
        bulk[..4].copy_from_slice(b"bulk");
        append(&*here, Lane::Bulk, &bulk).unwrap();
        assert_eq!(here.flush(&ignore), Sent::Stuck);
        drop(here);
        let (frames, broken) = received_until_broken(&*there);
        assert_eq!(frames, Vec::<Vec<u8>>::new());
        assert!(matches!(broken, Broken::Cut { bytes } if bytes > 0), "{broken}");
    }
}

#[test]
fn closing_while_stuck_takes_the_watch_back() {
    for (here, there) in pairs() {
        let told = RefCell::new(Vec::new());
        let watch = |room| told.borrow_mut().push(room);
        append(&*here, Lane::Control, &vec![0; 4 << 20]).unwrap();
        assert_eq!(here.flush(&watch), Sent::Stuck);
        drop(there);
        assert_eq!(here.resume(&watch), Sent::Closed);
        assert_eq!(*told.borrow(), [true, false]);
    }
}

#[test]
fn an_append_that_panics_leaves_nothing_behind() {
    for (here, there) in pairs() {
        append(&*here, Lane::Control, b"before").unwrap();
        for lane in [Lane::Control, Lane::Bulk] {
            let half = AssertUnwindSafe(|| {
                here.append_with(lane, &mut |out| {
                    out.extend_from_slice(b"\x09\0\0\0ha");
                    panic!("a user's value does not want to be written");
                })
            });
            catch_unwind(half).unwrap_err();
        }
        append(&*here, Lane::Control, b"after").unwrap();
        assert_eq!(here.flush(&ignore), Sent::All);
        assert_eq!(received(&*there), [&b"before"[..], b"after"]);
    }
}

#[test]
fn threads_that_append_at_once_keep_each_its_order() {
    const FRAMES: u32 = 5_000;
    for (here, there) in pairs() {
        let mut seen = [0; 4];
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let here = &here;
                scope.spawn(move || {
                    for number in 0..FRAMES {
                        let content = [&[thread][..], &number.to_le_bytes()].concat();
                        append(&**here, Lane::Control, &content).unwrap();
                        let _ = here.flush(&ignore);
                    }
                });
            }
            while seen.iter().sum::<u32>() < 4 * FRAMES {
                let _ = here.resume(&ignore);
                for frame in received(&*there) {
                    let seen = &mut seen[usize::from(frame[0])];
                    assert_eq!(frame[1..], seen.to_le_bytes());
                    *seen += 1;
                }
            }
        });
    }
}

/// Counts what it is asked for.
struct Counting {
    memory: MemoryLink,
    writes: AtomicUsize,
}

impl Transport for Counting {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.memory.transport().write(parts)
    }
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.memory.transport().read(buffer)
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[test]
fn many_frames_go_by_one_write() {
    let (memory, _there) = MemoryLink::pair(LIMITS, 1 << 20);
    let link = Framed::new(Counting { memory, writes: AtomicUsize::new(0) }, LIMITS);
    for number in 0..1000_u32 {
        append(&link, Lane::Control, &number.to_le_bytes()).unwrap();
    }
    append(&link, Lane::Bulk, &[0; 1000]).unwrap();
    assert_eq!(link.flush(&ignore), Sent::All);
    assert_eq!(link.transport().writes.load(Ordering::Relaxed), 1);
}

#[test]
fn a_link_without_bulk_is_a_plain_stream_of_frames() {
    let (memory, there) = MemoryLink::pair(LIMITS, 1 << 20);
    append(&memory, Lane::Control, b"hello").unwrap();
    append(&memory, Lane::Bulk, b"ok").unwrap();
    assert_eq!(memory.flush(&ignore), Sent::All);
    let mut stream = [0; 64];
    let bytes = there.transport().read(&mut stream).unwrap();
    assert_eq!(&stream[..bytes], b"\x05\0\0\0hello\x02\0\0\xc0ok");
}

#[test]
fn a_waker_hears_of_bytes_room_and_the_end() {
    let (here, there) = MemoryLink::pair(LIMITS, 10);
    let heard = std::sync::Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    here.transport().wake_by(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    append(&there, Lane::Control, b"hi").unwrap();
    assert_eq!(there.flush(&ignore), Sent::All);
    assert_eq!(heard.load(Ordering::Relaxed), 1);
    append(&here, Lane::Control, &[0; 20]).unwrap();
    assert_eq!(here.flush(&ignore), Sent::Stuck);
    there.receive(&mut |_| {}).unwrap();
    assert_eq!(heard.load(Ordering::Relaxed), 2);
    drop(there);
    assert_eq!(heard.load(Ordering::Relaxed), 3);
}

/// What an inbox makes of a stream in pieces, and how it ends.
fn inbox_frames(stream: &[u8], piece: usize, max: usize) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let mut inbox = Inbox::new(max);
    let mut frames = Vec::new();
    let mut error = None;
    for piece in stream.chunks(piece) {
        inbox.space()[..piece.len()].copy_from_slice(piece);
        error = inbox.take(piece.len(), &mut |frame| frames.push(frame.to_vec())).err();
    }
    (frames, error)
}

fn decoder_frames(stream: &[u8], max: usize) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let mut decoder = Decoder::new(max);
    decoder.push(stream);
    let mut frames = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => frames.push(frame.to_vec()),
            Ok(None) => return (frames, None),
            Err(too_long) => return (frames, Some(too_long)),
        }
    }
}

#[test]
fn a_long_frame_is_kept_where_it_arrives_and_its_memory_given_back() {
    let (here, there) = MemoryLink::pair(LIMITS, 50_000);
    let long = vec![5; 3 << 20];
    append(&here, Lane::Control, &long).unwrap();
    append(&here, Lane::Control, b"next").unwrap();
    let _ = here.flush(&ignore);
    assert_eq!(drain(&here, &there, &ignore), [long, b"next".to_vec()]);
    let _ = there.receive(&mut |_| {}).unwrap();
    let mut inbox = there.arrived.lock().unwrap();
    assert_eq!(inbox.space().len(), 256 << 10);
}

#[test]
fn a_claim_reserves_nothing_and_a_frame_beyond_the_limit_ends_the_stream() {
    let mut inbox = Inbox::new(1 << 29);
    inbox.space()[..4].copy_from_slice(&(1_u32 << 29).to_le_bytes());
    inbox.take(4, &mut |_| panic!("a frame")).unwrap();
    assert!(inbox.space().len() < 256 << 10);

    // Pieces count together, and a last one must be of something.
    let piece = (PIECE | 60).to_le_bytes();
    let stream = [&piece[..], &[0; 60], &piece, &[0; 60]].concat();
    let too_long = TooLong { bytes: 120, max_bytes: 100 };
    assert_eq!(inbox_frames(&stream, 1000, 100), (vec![], Some(too_long)));
    let stream = (LAST | 1).to_le_bytes();
    let (frames, error) = inbox_frames(&stream, 1000, 100);
    assert_eq!((frames.len(), error.unwrap().bytes), (0, (1 << 30) + 1));
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_the_same_frames(
        stream in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0x80), Just(0xc0), any::<u8>()], 0..300),
        piece in 1..50_usize,
    ) {
        let whole = inbox_frames(&stream, 300, 200);
        prop_assert_eq!(inbox_frames(&stream, piece, 200), whole);
    }

    #[test]
    fn a_plain_stream_is_read_as_a_decoder_reads_it(
        lengths in proptest::collection::vec(0..40_u8, 0..12),
        piece in 1..50_usize,
    ) {
        let mut stream = Vec::new();
        for length in lengths {
            stream.extend_from_slice(&u32::from(length).to_le_bytes());
            stream.extend((0..length).map(|byte| byte ^ 0x55));
        }
        prop_assert_eq!(inbox_frames(&stream, piece, 30), decoder_frames(&stream, 30));
    }

    /// Appends, flushes and reads in any order: nothing is lost, and lanes keep their order.
    #[test]
    fn every_frame_arrives_once_and_in_its_lanes_order(
        steps in proptest::collection::vec((0..4_u8, 0..200_000_usize), 1..40),
        room in 1..80_000_usize,
    ) {
        let (here, there) = MemoryLink::pair(LIMITS, room);
        let (mut sent, mut arrived) = ([Vec::new(), Vec::new()], Vec::new());
        for (step, bytes) in steps {
            match step {
                0 | 1 => {
                    let lane = [Lane::Control, Lane::Bulk][usize::from(step)];
                    let sent: &mut Vec<Vec<u8>> = &mut sent[usize::from(step)];
                    let mut content = vec![step];
                    content.resize(1 + bytes / if step == 0 { 100 } else { 1 }, sent.len() as u8);
                    prop_assert_eq!(append(&here, lane, &content), Ok(()));
                    sent.push(content);
                }
                2 => {
                    let _ = here.resume(&ignore);
                }
                _ => {
                    there.receive(&mut |frame| arrived.push(frame.to_vec())).unwrap();
                }
            }
        }
        let _ = here.resume(&ignore);
        arrived.extend(drain(&here, &there, &ignore));
        prop_assert_eq!(here.outbox_bytes(), 0);
        for (lane, sent) in sent.iter().enumerate() {
            let arrived = arrived.iter().filter(|frame| usize::from(frame[0]) == lane);
            prop_assert!(arrived.eq(sent));
        }
    }
}

#[test]
fn pieces_are_as_long_as_the_protocol_says() {
    let (here, there) = MemoryLink::pair(LIMITS, 1 << 20);
    append(&here, Lane::Bulk, &[0; PIECE_BYTES_MAX + 2]).unwrap();
    assert_eq!(here.flush(&ignore), Sent::All);
    let mut stream = vec![0; 1 << 20];
    let bytes = there.transport().read(&mut stream).unwrap();
    assert_eq!(bytes, 2 * LENGTH_BYTES + PIECE_BYTES_MAX + 2);
    assert_eq!(stream[..4], [0, 0, 1, 0x80]);
    assert_eq!(stream[4 + PIECE_BYTES_MAX..][..4], [2, 0, 0, 0xc0]);
}
