//! The store in one process: what fits, what does not, and what is left at the end.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use raybolt_core::ids::ProcessId;
use raybolt_store::{
    ALIGN, ArenaView, Disk, FileId, Key, Options, PinError, PutError, SealError, SpillDir, Store,
};

const MIB: u64 = 1 << 20;

/// A directory of one test, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("raybolt-store-test-{}-{number}", std::process::id());
        Dir(std::env::temp_dir().join(name))
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).map(Iterator::count).unwrap_or(0)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn spilling_store(capacity_bytes: u64, dir: &Dir) -> Store {
    let spill_dir = Some(dir.0.clone());
    Store::open(Options { spill_dir, ..Options::new(capacity_bytes) }).unwrap()
}

/// Bytes that no other object has, and their checksum.
fn fill(key: u64, bytes: &mut [u8]) -> u64 {
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        let value = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(key);
        word.copy_from_slice(&value.to_le_bytes());
    }
    checksum(bytes)
}

fn checksum(bytes: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(bytes)
}

#[test]
fn twelve_times_the_capacity_goes_through_and_comes_back() {
    let dir = Dir::new();
    let store = spilling_store(64 * MIB, &dir);
    let sizes = [MIB, 3 * MIB + 17, 9 * MIB, 100_000, 6 * MIB];
    let (mut sums, mut total, mut key) = (Vec::new(), 0, 0);
    while total < 12 * 64 * MIB {
        let bytes = sizes[key as usize % sizes.len()];
        let mut writer = store.create(Key(key), bytes).unwrap();
        sums.push(fill(key, &mut writer));
        writer.seal().unwrap();
        total += bytes;
        key += 1;
    }
    let usage = store.usage();
    assert!(usage.spilled_bytes >= 11 * 64 * MIB, "{usage:?}");
    assert!(usage.files < key / 2, "small objects share files: {usage:?}");
    assert_eq!(dir.files(), 0, "spill files have no names: they go with their process");
    for (key, sum) in sums.iter().enumerate() {
        assert_eq!(checksum(&store.pin(Key(key as u64)).unwrap()), *sum, "object {key}");
    }
    (0..key).for_each(|key| store.release(Key(key)));
    assert!(store.usage().is_zero(), "{:?}", store.usage());
    assert_eq!(dir.files(), 0);
}

#[test]
fn a_reader_sees_the_bytes_where_the_writer_put_them() {
    let store = Store::open(Options::new(MIB)).unwrap();
    let mut writer = store.create(Key(1), 800).unwrap();
    let written_at = writer.as_ptr();
    bytemuck::cast_slice_mut::<u8, f64>(&mut writer)[99] = 0.5;
    writer.seal().unwrap();
    let first = store.pin(Key(1)).unwrap();
    let second = first.clone();
    assert_eq!((first.as_ptr(), second.as_ptr()), (written_at, written_at));
    let numbers = first.as_slice_of::<f64>().unwrap();
    assert_eq!((numbers.len(), numbers[99]), (100, 0.5));
    assert_eq!(numbers.as_ptr().cast(), written_at);

    let part = first.slice(8..24).unwrap();
    assert_eq!(part.as_slice_of::<u64>().unwrap().len(), 2);
    assert_eq!(part.as_ptr(), written_at.wrapping_add(8));
    assert!(first.slice(1..9).unwrap().as_slice_of::<u64>().is_err(), "not aligned");
    assert!(first.slice(0..9).unwrap().as_slice_of::<u64>().is_err(), "not a whole number");
    assert!(first.slice(800..).is_some_and(|part| part.is_empty()));
    assert!(first.slice(0..801).is_none());
    let (from, to) = (9, 8);
    assert!(first.slice(from..to).is_none());
}

#[test]
fn a_released_object_lives_while_it_is_read() {
    let store = Store::open(Options::new(MIB)).unwrap();
    store.put(Key(1), &[7; 1000]).unwrap();
    let mapped = store.pin(Key(1)).unwrap();
    let part = mapped.slice(500..).unwrap();
    drop(mapped);
    store.release(Key(1));
    assert!(matches!(store.pin(Key(1)), Err(PinError::Unknown(Key(1)))));
    assert_eq!(store.usage().pinned_bytes, 1024);
    assert_eq!(part[..], [7; 500]);
    drop(part);
    assert!(store.usage().is_zero());
}

#[test]
fn an_unsealed_object_leaves_nothing_and_a_key_is_not_taken_twice() {
    let store = Store::open(Options::new(MIB)).unwrap();
    drop(store.create(Key(1), 1000).unwrap());
    assert!(store.usage().is_zero());
    store.put(Key(1), b"first").unwrap();
    let second = store.put(Key(1), b"second");
    assert!(matches!(second, Err(PutError::NotSealed(SealError::KeyTaken(Key(1))))));
    assert_eq!(store.pin(Key(1)).unwrap()[..], *b"first");
    store.release(Key(1));
    assert!(store.usage().is_zero());
}

/// A disk of which the test says when it is full or slow.
struct Scripted {
    dir: SpillDir,
    is_full: Arc<AtomicBool>,
    written: mpsc::SyncSender<()>,
}

impl Disk for Scripted {
    fn write(&self, file: FileId, parts: &[&[u8]]) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.dir.write(file, parts)?;
        self.written.send(()).map_err(io::Error::other)
    }

    fn read(&self, file: FileId, offset: u64, part: &mut [u8]) -> io::Result<()> {
        self.dir.read(file, offset, part)
    }

    fn remove(&self, file: FileId) {
        self.dir.remove(file);
    }

    fn place(&self) -> String {
        self.dir.place()
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_that_was_stored_is_lost() {
    let dir = Dir::new();
    let is_full = Arc::new(AtomicBool::new(false));
    let (written, _heard) = mpsc::sync_channel(1000);
    let disk = Scripted { dir: SpillDir::new(&dir.0).unwrap(), is_full: is_full.clone(), written };
    let store = Store::with_disk(Options::new(8 * MIB), Some(Box::new(disk))).unwrap();
    let mut sums = Vec::new();
    let put = |key: u64, sums: &mut Vec<u64>| {
        let mut writer = store.create(Key(key), MIB)?;
        sums.push(fill(key, &mut writer));
        Ok::<_, PutError>(writer.seal()?)
    };
    for key in 0..16 {
        put(key, &mut sums).unwrap();
    }
    is_full.store(true, Ordering::SeqCst);
    let error = put(16, &mut sums).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PutError::SpillFailed { .. }), "{text}");
    assert!(text.contains(dir.0.to_str().unwrap()) && text.contains("spill_dir"), "{text}");
    let sum_of = |key: u64| store.pin(Key(key)).map(|mapped| checksum(&mapped));
    for key in 8..16 {
        assert_eq!(sum_of(key).unwrap(), sums[key as usize], "in memory");
    }
    let error = sum_of(0).unwrap_err();
    assert!(matches!(error, PinError::NoRoom { .. }), "{error}");
    store.release(Key(15));
    assert_eq!(sum_of(0).unwrap(), sums[0], "on disk, now that there is room in memory");

    is_full.store(false, Ordering::SeqCst);
    put(16, &mut sums).unwrap();
    for key in (0..15).chain([16]) {
        assert_eq!(sum_of(key).unwrap(), sums[key as usize]);
        store.release(Key(key));
    }
    assert!(store.usage().is_zero());
    assert_eq!(dir.files(), 0);
}

#[test]
fn a_put_waits_for_a_reader_before_it_fails() {
    let store = Store::open(Options::new(MIB)).unwrap();
    store.put(Key(1), &vec![1; MIB as usize]).unwrap();
    let reader = store.pin(Key(1)).unwrap();
    store.release(Key(1));

    let error = store.create_by(Key(2), 1, Instant::now(), || ()).err().unwrap();
    let PutError::Full { usage, .. } = &error else { panic!("{error}") };
    assert_eq!(usage.pinned_bytes, MIB, "it says who has the room");
    assert!(error.to_string().contains("object_store_memory"), "{error}");

    let putter = thread::spawn({
        let store = store.clone();
        move || store.put(Key(3), &[3; 100])
    });
    while store.usage().waiting == 0 {
        thread::yield_now();
    }
    drop(reader);
    putter.join().unwrap().unwrap();
    assert_eq!(store.pin(Key(3)).unwrap()[..], [3; 100]);
}

#[test]
fn a_closed_store_lets_nobody_wait() {
    let patience = Duration::MAX;
    let store = Store::open(Options { patience, ..Options::new(MIB) }).unwrap();
    let _room = store.create(Key(1), MIB).unwrap();
    let putter = thread::spawn({
        let store = store.clone();
        move || store.put(Key(2), &[2; 100])
    });
    while store.usage().waiting == 0 {
        thread::yield_now();
    }
    store.close();
    let error = putter.join().unwrap().unwrap_err();
    assert!(matches!(error, PutError::Closed { bytes: 100 }), "{error}");
}

#[test]
fn what_can_never_fit_is_refused_at_once() {
    let store = Store::open(Options::new(MIB)).unwrap();
    let error = store.create(Key(1), MIB + 1).err().unwrap();
    assert!(matches!(error, PutError::TooLarge { .. }), "{error}");
    assert!(store.usage().is_zero());
}

/// STORE-5: whoever waits does the work, whoever it is for.
#[test]
fn many_threads_put_and_read_more_than_fits() {
    let dir = Dir::new();
    let store = spilling_store(4 * MIB, &dir);
    let (threads, rounds) = (4, 60);
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for thread in 0..threads as u64 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                let key = |round: u64| Key(thread * 1000 + round);
                let mut sums = Vec::new();
                for round in 0..rounds {
                    let bytes = 50_000 + (round * 37 + thread * 11) % 17 * 10_000;
                    let mut writer = store.create(key(round), bytes).unwrap();
                    sums.push(fill(key(round).0, &mut writer));
                    writer.seal().unwrap();
                    let earlier = round * 7 / 11;
                    let mapped = store.pin(key(earlier)).unwrap();
                    assert_eq!(checksum(&mapped), sums[earlier as usize]);
                }
                (0..rounds).for_each(|round| store.release(key(round)));
            });
        }
    });
    assert!(store.usage().is_zero(), "{:?}", store.usage());
    assert_eq!(dir.files(), 0);
}

#[test]
fn a_million_small_objects_leave_nothing() {
    let store = Store::open(Options::new(64 * MIB)).unwrap();
    for round in 0..10 {
        for key in 0..100_000 {
            store.put(Key(round * 100_000 + key), &key.to_le_bytes()).unwrap();
        }
        for key in 0..100_000 {
            let key = Key(round * 100_000 + key);
            assert_eq!(store.pin(key).unwrap()[..], (key.0 % 100_000).to_le_bytes());
            store.release(key);
        }
    }
    assert!(store.usage().is_zero());
}

#[test]
fn a_slab_is_filled_without_asking_and_its_objects_outlive_it() {
    let worker = ProcessId(9);
    let store = Store::open(Options::new(4 * MIB)).unwrap();
    let view = ArenaView::open(&store.arena_path(), store.capacity_bytes()).unwrap();
    let lent = store.try_lend_slab(worker, MIB).unwrap();
    let slab = view.slab(lent.region).unwrap();
    for key in 0..1000 {
        let mut part = slab.take(key).unwrap().unwrap();
        part.fill(key as u8);
        let region = part.seal();
        assert_eq!(region.offset % ALIGN, 0);
        store.sealed_in_slab(worker, lent.slab, Key(key), region).unwrap();
    }
    drop(slab.take(1000).unwrap().unwrap());
    assert!(slab.take(MIB).unwrap().is_none(), "it is too short for that");
    assert!(slab.take(u64::MAX).unwrap().is_none());
    store.slab_returned(worker, lent.slab);
    assert_eq!(store.usage().slab_bytes, 0);

    let region = store.pin_for(worker, Key(77), Instant::now()).unwrap();
    let (unpinned, is_unpinned) = mpsc::channel();
    let unpin = move || unpinned.send(()).unwrap();
    let mapped = view.mapped(region, unpin).unwrap();
    assert_eq!(mapped[..], [77; 77]);
    drop(mapped.clone());
    assert!(is_unpinned.try_recv().is_err());
    drop(mapped);
    is_unpinned.try_recv().unwrap();
    store.process_lost(worker);
    (0..1000).for_each(|key| store.release(Key(key)));
    assert!(store.usage().is_zero(), "{:?}", store.usage());
}

#[test]
fn pages_are_kept_until_the_store_is_trimmed() {
    let store = Store::open(Options::new(64 * MIB)).unwrap();
    assert_eq!(store.resident_bytes(), 0, "an arena that nobody wrote takes no memory");
    let object = |key: u64| vec![key as u8; 4 * MIB as usize];
    (0..8).for_each(|key| store.put(Key(key), &object(key)).unwrap());
    assert_eq!(store.resident_bytes(), 32 * MIB);
    (0..8).filter(|key| *key != 3).for_each(|key| store.release(Key(key)));
    assert_eq!(store.resident_bytes(), 32 * MIB);
    (10..15).for_each(|key| store.put(Key(key), &object(key)).unwrap());
    assert_eq!(store.resident_bytes(), 32 * MIB, "warm pages are used first");
    (10..15).for_each(|key| store.release(Key(key)));
    store.trim().unwrap();
    assert_eq!(store.resident_bytes(), 4 * MIB);
    assert_eq!(store.pin(Key(3)).unwrap()[..], object(3));
    (20..28).for_each(|key| store.put(Key(key), &object(key)).unwrap());
    (20..28).for_each(|key| assert_eq!(store.pin(Key(key)).unwrap()[..], object(key)));
    assert_eq!(store.reports(100).len(), 9);
    assert_eq!(store.wait_reports(), []);
}

#[test]
fn what_is_no_arena_is_not_opened() {
    let dir = Dir::new();
    std::fs::create_dir_all(&dir.0).unwrap();
    let path = dir.0.join("file");
    std::fs::write(&path, vec![0; 4096]).unwrap();
    let error = ArenaView::open(&path, 4096).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "it could be truncated: {error}");
    let store = Store::open(Options::new(MIB)).unwrap();
    let error = ArenaView::open(&store.arena_path(), 2 * MIB).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    let view = ArenaView::open(&store.arena_path(), MIB).unwrap();
    let outside = raybolt_store::Region { offset: MIB - 10, bytes: 11 };
    assert!(view.mapped(outside, || {}).is_none() && view.slab(outside).is_err());
    assert!(Store::open(Options::new(0)).is_err());
}

/// The wait for a disk that takes its time does not hold up those who need none.
#[test]
fn a_slow_disk_holds_up_only_those_who_need_it() {
    let dir = Dir::new();
    let (written, may_go_on) = mpsc::sync_channel(0);
    let is_full = Arc::new(AtomicBool::new(false));
    let disk = Scripted { dir: SpillDir::new(&dir.0).unwrap(), is_full, written };
    let patience = Duration::from_secs(600);
    let options = Options { patience, ..Options::new(MIB) };
    let store = Store::with_disk(options, Some(Box::new(disk))).unwrap();
    store.put(Key(1), &vec![1; MIB as usize]).unwrap();
    let putter = thread::spawn({
        let store = store.clone();
        move || store.put(Key(2), &[2; 10])
    });
    while store.usage().waiting == 0 {
        thread::yield_now();
    }
    assert_eq!(store.pin(Key(1)).unwrap()[0], 1, "readable while it is being written");
    may_go_on.recv().unwrap();
    putter.join().unwrap().unwrap();
    drop(may_go_on);
    assert_eq!(store.pin(Key(2)).unwrap()[..], [2; 10]);
}
