//! Large objects, through a store that is smaller than they are.
//!
//! A program of its own, since its workers are this very file started again. `STORE_MIB=1024 TIMES=12` makes
//! the first case pass 12 GiB through a store of 1 GiB.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raybolt::{
    Array, Builder, Error, LogLevel, ObjectRef, Result, StoreReport, get, memory, put, remote, wait,
};

use cases::{Case, Harness};

const MIB: usize = 1 << 20;
/// What takes longer does not come.
const LONG: Duration = Duration::from_secs(60);
/// Tells this program that it is the one whose disk is full.
const FULL_DISK: &str = "full-disk";
/// Tells this program that it is the one whose tasks keep what they read.
const KEEPS_ALL: &str = "keeps-all";

const CASES: &[Case<Result<()>>] = &[
    ("many times the store's size passes through it", passes_through),
    ("whoever reads numbers reads them in place", in_place),
    ("what does not fit is an error that names both sizes", too_large),
    ("large arguments, results and parts of values", large_values),
    ("plain vectors, text and bytes travel as they lie", plain_runs),
    ("what a worker has is not sent to it again", had_already),
    ("what nobody reads is pinned for nobody", unread),
    ("a task that goes on does not keep what it has dropped", dropped_in_mid_task),
    ("who reads a value may pass it on, however long it is", passed_on),
    ("a worker reads a stream of more than the store", long_stream),
    ("a worker gets many at once: small ones, large ones, errors", many_at_once),
    ("a task reads more than may be lent at a time, one after the other", more_than_is_lent),
    ("what comes unasked and is not read stands in nobody's way", unasked),
    ("a long answer from the driver is read", long_answer),
    ("a million objects leave nothing behind", a_million),
];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(FULL_DISK) {
        return full_disk();
    }
    if std::env::args().nth(1).as_deref() == Some(KEEPS_ALL) {
        return keeps_all();
    }
    let _session = Builder::new()
        .processes(2)
        .num_cpus(2.0)
        .object_store_memory(store_bytes())
        .log_level(LogLevel::Off)
        .start()
        .expect("the session starts");
    let mut harness = Harness::new();
    harness.all(CASES);
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$1\""])
        .args([std::env::current_exe().expect("a test has a path").as_os_str()])
        .arg(FULL_DISK)
        .status()
        .expect("a shell can be started");
    let program = std::env::current_exe().expect("a test has a path");
    let keeps_all = Command::new(program).arg(KEEPS_ALL).status().expect("it can be started");
    harness.case("who reads too much at a time is told so", || keeps_all.success());
    harness.case("a full disk is an error on `put`, and nothing is lost", || status.success());
    harness.end()
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn store_bytes() -> usize {
    number("STORE_MIB", 64) * MIB
}

fn pattern(seed: u64, bytes: usize) -> Array<u64> {
    (0..bytes as u64 / 8).map(|at| at.wrapping_mul(seed | 1) ^ seed).collect()
}

fn checksum(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |sum: u64, number| sum.rotate_left(5) ^ number)
}

#[remote]
fn make(seed: u64, bytes: usize) -> Array<u64> {
    pattern(seed, bytes)
}

#[remote]
fn check(numbers: &Array<u64>) -> u64 {
    checksum(numbers)
}

#[remote]
fn reads_and_passes_on(object: Vec<ObjectRef<Array<u64>>>) -> Result<u64> {
    let here = get(&object[0])?;
    assert_eq!(get(check::remote(&object[0]))?, checksum(&here), "as another reads it meanwhile");
    Ok(checksum(&here))
}

/// It is lent twice then, and takes no more room.
fn passed_on() -> Result<()> {
    let object = put(pattern(3, store_bytes() / 8 * 3))?;
    let sum = checksum(&pattern(3, store_bytes() / 8 * 3));
    assert_eq!(get(reads_and_passes_on::remote(vec![object.clone()]))?, sum);
    drop(object);
    empty_in_the_end();
    Ok(())
}

#[remote]
fn makes(count: u64, bytes: usize) -> impl Iterator<Item = Array<u64>> {
    (0..count).map(move |seed| pattern(seed, bytes))
}

/// The checksums of a stream's items, each of which is let go before the next is taken.
#[remote]
fn reads(count: u64, bytes: usize) -> Result<u64> {
    let mut sum = 0;
    for (seed, item) in (0..).zip(makes::remote(count, bytes)) {
        sum ^= checksum(&get(item?)?).rotate_left(seed);
        assert_eq!(get(check::remote(pattern(1, 8)))?, checksum(&pattern(1, 8)));
    }
    Ok(sum)
}

/// The items are lent to the reader until half of the store is; those that are made meanwhile wait, and nobody
/// else does.
fn long_stream() -> Result<()> {
    let bytes = store_bytes() / 16;
    let sums = (0..32).map(|seed| checksum(&pattern(seed, bytes)).rotate_left(seed as u32));
    assert_eq!(get(reads::remote(32, bytes))?, sums.fold(0, |sum, item| sum ^ item));
    empty_in_the_end();
    Ok(())
}

/// Half of the objects are put here, half are made by workers; each is read by a worker and here.
fn passes_through() -> Result<()> {
    let bytes = store_bytes() / 16;
    let count = 16 * number("TIMES", 12);
    let seeds = 0..count as u64;
    let objects: Vec<ObjectRef<Array<u64>>> = seeds
        .clone()
        .map(|seed| match seed % 2 {
            0 => put(pattern(seed, bytes)),
            _ => Ok(make::remote(seed, bytes)),
        })
        .collect::<Result<_>>()?;
    let sums: Vec<_> = objects.iter().map(check::remote).collect();
    let spilled = store().spilled;
    for ((seed, object), sum) in seeds.zip(&objects).zip(&sums) {
        let expected = checksum(&pattern(seed, bytes));
        assert_eq!(get(sum)?, expected, "object {seed} as a worker reads it");
        assert_eq!(checksum(&get(object)?), expected, "object {seed} as it is read here");
    }
    println!("{} MiB through a store of {} MiB", count * bytes / MIB, store_bytes() / MIB);
    assert!(spilled + store().spilled > 0, "it does not all fit into memory");
    drop((objects, sums));
    empty_in_the_end();
    Ok(())
}

#[remote]
fn is_same(one: &Array<u64>, other: &Array<u64>) -> bool {
    one.as_ptr() == other.as_ptr()
}

fn in_place() -> Result<()> {
    let made = make::remote(7, 4 * MIB);
    let (one, other) = (get(&made)?, get(&made)?);
    assert_eq!(one.as_ptr(), other.as_ptr());
    assert!(get(is_same::remote(&made, &made))?, "nor does a worker copy it");
    drop((one, other, made));
    empty_in_the_end();
    Ok(())
}

fn too_large() -> Result<()> {
    let error = put(Array::from(vec![0_u8; store_bytes() + 1])).unwrap_err().to_string();
    let end = format!("do not fit into a store of {} (`object_store_memory`)", store_bytes());
    assert!(error.ends_with(&end), "{error}");
    let error = get(make::remote(1, store_bytes() + 8)).unwrap_err().to_string();
    assert!(error.ends_with(&end), "{error}");
    empty_in_the_end();
    Ok(())
}

#[remote]
fn calls_and_forgets(count: u64) -> Vec<ObjectRef<Array<u64>>> {
    (0..count).map(|seed| make::remote(seed, MIB / 4)).collect()
}

#[remote]
fn first_of(array: Array<u64>) -> u64 {
    array[0]
}

/// What a task returns that code in a worker has called comes there, whether anybody reads it or not.
fn unread() -> Result<()> {
    for _ in 0..20 {
        let refs = get(calls_and_forgets::remote(2))?;
        // Read twice by tasks, and once here.
        assert_eq!(get(first_of::remote(&refs[0]))?, get(first_of::remote(&refs[0]))?);
        drop(get(&refs[0])?);
    }
    nothing_is_pinned("after all of them")
}

/// Says on which address it listens, has an array, drops it, and waits there for somebody.
#[remote]
fn drops_and_goes_on(array: Array<u8>, door: std::path::PathBuf) -> u64 {
    let first = u64::from(array[0]);
    drop(array);
    let listener = std::os::unix::net::UnixListener::bind(door).expect("the test made room");
    drop(listener.accept().expect("the test comes"));
    first
}

fn dropped_in_mid_task() -> Result<()> {
    let door = std::env::temp_dir().join(format!("rb-{}-drops", std::process::id()));
    let array = put(Array::from(vec![3_u8; 4 * MIB]))?;
    let task = drops_and_goes_on::remote(&array, door.clone());
    let until = Instant::now() + LONG;
    while !door.exists() {
        assert!(Instant::now() < until, "the task does not begin");
        std::thread::yield_now();
    }
    nothing_is_pinned("while the task goes on")?;
    // Its door is there a moment before it listens.
    while std::os::unix::net::UnixStream::connect(&door).is_err() {
        assert!(Instant::now() < until, "the task does not listen");
        std::thread::yield_now();
    }
    assert_eq!(get(task)?, 3);
    std::fs::remove_file(door).expect("the task has made it");
    Ok(())
}

fn nothing_is_pinned(when: &str) -> Result<()> {
    let until = Instant::now() + LONG;
    while let Some(store) = memory()?.store
        && store.pinned > 0
    {
        assert!(Instant::now() < until, "{when} {} bytes are pinned", store.pinned);
        std::thread::yield_now();
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Table {
    name: String,
    columns: Vec<Array<f64>>,
    notes: Vec<u8>,
}

#[remote]
fn turned(mut table: Table) -> Table {
    table.columns.reverse();
    table
}

fn large_values() -> Result<()> {
    let column = |from: u32| (from..from + 50_000).map(f64::from).collect::<Array<f64>>();
    let table = Table {
        name: "large".into(),
        columns: vec![column(0), column(50_000), Array::from(vec![0.5])],
        notes: vec![7; MIB],
    };
    let back = get(turned::remote(turned::remote(table.clone())))?;
    assert_eq!(back, table);
    drop(back);
    empty_in_the_end();
    Ok(())
}

#[remote(num_returns = 3)]
fn reversed(
    mut bytes: Vec<u8>,
    mut numbers: Vec<f64>,
    text: String,
) -> (Vec<u8>, Vec<f64>, String) {
    bytes.reverse();
    numbers.reverse();
    (bytes, numbers, text.chars().rev().collect())
}

#[remote]
fn shorter(bytes: Bytes) -> Bytes {
    bytes.slice(1..)
}

#[remote]
fn lie_together(one: Bytes, other: Bytes) -> bool {
    one.as_ptr() == other.as_ptr()
}

/// Some through the store, some with the messages.
fn plain_runs() -> Result<()> {
    for length in [10, 10_000, 200_000] {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let numbers: Vec<f64> = (0..length as u32).map(f64::from).collect();
        let text: String = ('a'..='z').cycle().take(length).collect();
        let back = reversed::remote(bytes.clone(), numbers.clone(), &*text);
        let (back_bytes, back_numbers, back_text) = get(back)?;
        assert!(back_bytes.iter().eq(bytes.iter().rev()), "{length} bytes");
        assert!(back_numbers.iter().eq(numbers.iter().rev()), "{length} numbers");
        assert!(back_text.chars().eq(text.chars().rev()), "{length} letters");
        assert_eq!(get(shorter::remote(Bytes::from(bytes.clone())))?, bytes[1..]);
        assert_eq!(get(put(numbers.clone())?)?, numbers);
    }
    let object = put(Bytes::from(vec![7; MIB]))?;
    assert_eq!(get(&object)?.as_ptr(), get(&object)?.as_ptr(), "bytes are read where they lie");
    assert!(get(lie_together::remote(&object, &object))?, "in a worker too");
    drop(object);
    empty_in_the_end();
    Ok(())
}

/// Tells how often it was read from bytes in this process.
#[derive(Clone, serde::Serialize)]
struct Counted(String);

static READ: AtomicUsize = AtomicUsize::new(0);

impl<'de> serde::Deserialize<'de> for Counted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        READ.fetch_add(1, Ordering::Relaxed);
        String::deserialize(deserializer).map(Counted)
    }
}

fn reads_while<R>(run: impl FnOnce() -> Result<R>) -> Result<(R, usize)> {
    let before = READ.load(Ordering::Relaxed);
    Ok((run()?, READ.load(Ordering::Relaxed) - before))
}

/// The second handle comes when the first has its value.
#[remote]
fn reads_of(
    one: Vec<ObjectRef<Counted>>,
    holder: Vec<ObjectRef<Vec<ObjectRef<Counted>>>>,
) -> Result<[usize; 2]> {
    let (value, first) = reads_while(|| get(&one[0]))?;
    let other = get(&holder[0])?;
    let (again, second) = reads_while(|| get(&other[0]))?;
    assert_eq!(value.0, again.0);
    Ok([first, second])
}

/// Of what this worker put itself: first, after more than it keeps, and when that is gone.
#[remote]
fn reads_of_own() -> Result<[usize; 3]> {
    let long = || put(Counted("x".repeat(90_000)));
    let first = long()?;
    let many = (0..(64 * MIB) / 90_000).map(|_| long()).collect::<Result<Vec<_>>>()?;
    let reads = |object: &ObjectRef<Counted>| Ok::<_, Error>(reads_while(|| get(object))?.1);
    let (of_first, of_last) = (reads(&first)?, reads(&many[many.len() - 1])?);
    drop(many);
    Ok([of_first, of_last, reads(&long()?)?])
}

fn had_already() -> Result<()> {
    let object = put(Counted("once".into()))?;
    let holder = put(vec![object.clone()])?;
    assert_eq!(get(reads_of::remote(vec![object.clone()], vec![holder.clone()]))?, [1, 0]);
    drop((object, holder));
    assert_eq!(get(reads_of_own::remote())?, [0, 1, 0]);
    empty_in_the_end();
    Ok(())
}

/// Twice: of references that stay, and of references that go.
#[remote]
fn firsts(refs: Vec<ObjectRef<Vec<u64>>>, twice: bool) -> Result<Vec<u64>> {
    let firsts = |values: Vec<Vec<u64>>| values.iter().map(|value| value[0]).collect::<Vec<_>>();
    let kept = if twice { Some(firsts(get(&refs)?)) } else { None };
    let gone = firsts(get(refs)?);
    assert!(kept.is_none_or(|kept| kept == gone));
    Ok(gone)
}

#[remote(max_retries = 0)]
fn fails() -> Result<Vec<u64>> {
    get(put(Array::from(vec![0_u8; 2 * store_bytes()]))?).map(|_| Vec::new())
}

fn many_at_once() -> Result<()> {
    let length = |x: u64| if x % 100 == 7 { 20_000 } else { 3 };
    let refs: Vec<_> = (0..700).map(|x| put(vec![x; length(x)])).collect::<Result<_>>()?;
    assert_eq!(get(firsts::remote(refs.clone(), true))?, (0..700).collect::<Vec<_>>());
    let mut with_error = refs;
    with_error[300] = fails::remote();
    assert!(get(&with_error[300]).is_err());
    let error = get(firsts::remote(with_error, true)).unwrap_err().to_string();
    assert!(error.contains("do not fit into a store"), "{error}");
    // More than may be lent to workers at a time.
    let count = 2 * store_bytes() as u64 / (4 * MIB) as u64;
    let large = (0..count).map(|x| put(vec![x; MIB / 2])).collect::<Result<Vec<_>>>()?;
    assert_eq!(get(firsts::remote(large, false))?, (0..count).collect::<Vec<_>>());
    empty_in_the_end();
    Ok(())
}

/// The references stay, and are read twice: vectors, which are copied, and arrays, which are mapped.
#[remote]
fn reads_each(
    vectors: Vec<ObjectRef<Vec<u64>>>,
    arrays: Vec<ObjectRef<Array<u64>>>,
) -> Result<Vec<u64>> {
    let firsts = || vectors.iter().map(|vector| Ok(get(vector)?[0])).collect::<Result<Vec<_>>>();
    let mut all = firsts()?;
    assert_eq!(firsts()?, all);
    for array in &arrays {
        let (one, other) = (get(array)?, get(array)?);
        assert_eq!(one.as_ptr(), other.as_ptr(), "in place, as long as somebody has it");
        all.push(one[0]);
    }
    let again = arrays.iter().map(|array| Ok(get(array)?[0])).collect::<Result<Vec<_>>>()?;
    assert_eq!(again, all[vectors.len()..]);
    Ok(all)
}

/// The same without a thread that blocks, and at last without references.
#[remote]
async fn reads_each_later(vectors: Vec<ObjectRef<Vec<u64>>>) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for vector in &vectors {
        all.push((vector.await?[0], vector.await?[1]).0);
    }
    let mut again = Vec::new();
    for vector in vectors {
        again.push(vector.await?[0]);
    }
    assert_eq!(all, again);
    Ok(all)
}

fn more_than_is_lent() -> Result<()> {
    let count = store_bytes() as u64 / (4 * MIB) as u64 + 4;
    let vectors = (0..count).map(|x| put(vec![x; MIB / 2])).collect::<Result<Vec<_>>>()?;
    let arrays = (count..2 * count).map(|x| put(Array::from(vec![x; MIB / 2])));
    let arrays = arrays.collect::<Result<Vec<_>>>()?;
    let all = get(reads_each::remote(vectors.clone(), arrays))?;
    assert_eq!(all, (0..2 * count).collect::<Vec<_>>());
    assert_eq!(get(reads_each_later::remote(vectors))?, (0..count).collect::<Vec<_>>());
    empty_in_the_end();
    Ok(())
}

/// Waits for them all, passes them on, and reads them only then.
#[remote]
fn makes_and_passes_on(count: u64) -> Result<(u64, u64)> {
    let made: Vec<_> = (0..count).map(|seed| make::remote(seed, 4 * MIB)).collect();
    let (made, missing) = wait(made, count as usize, None)?;
    assert!(missing.is_empty());
    let sums: Vec<_> = made.iter().map(check::remote).collect();
    let there = get(&sums)?.into_iter().fold(0, u64::wrapping_add);
    let read = made.iter().map(|array| Ok(checksum(&get(array)?)));
    let here = read.collect::<Result<Vec<_>>>()?.into_iter().fold(0, u64::wrapping_add);
    Ok((there, here))
}

fn unasked() -> Result<()> {
    let count = store_bytes() as u64 / (4 * MIB) as u64 + 4;
    let (there, here) = get(makes_and_passes_on::remote(count))?;
    assert_eq!(there, here);
    empty_in_the_end();
    Ok(())
}

#[remote]
fn counts() -> Result<usize> {
    Ok(raybolt::inspect::objects(100_000)?.items.len())
}

/// More than a worker holds on to without being asked; and nobody could ask for it again.
fn long_answer() -> Result<()> {
    let objects = (0..20_000_u64).map(put).collect::<Result<Vec<_>>>()?;
    assert!(get(counts::remote())? >= objects.len());
    drop(objects);
    empty_in_the_end();
    Ok(())
}

#[remote(max_retries = 0)]
fn keeps(refs: Vec<ObjectRef<Array<u64>>>) -> Result<usize> {
    Ok(refs.iter().map(get).collect::<Result<Vec<_>>>()?.len())
}

/// A session whose store soon gives up.
fn keeps_all() -> ExitCode {
    let _session = Builder::new()
        .processes(1)
        .object_store_memory(16 * MIB)
        .store_timeout(Duration::from_secs(1))
        .log_level(LogLevel::Off)
        .start()
        .expect("the session starts");
    let kept = || {
        let refs =
            (0..6).map(|x| put(Array::from(vec![x; MIB / 4]))).collect::<Result<Vec<_>>>()?;
        get(keeps::remote(refs))
    };
    let error = kept().map(drop).unwrap_err().to_string();
    for part in
        ["to a worker within 1s: ", "at most 8388608, half of", "drop arrays", "(`store_timeout`)"]
    {
        assert!(error.contains(part), "{error}");
    }
    empty_in_the_end();
    ExitCode::SUCCESS
}

fn a_million() -> Result<()> {
    for _ in 0..100 {
        let objects = (0..10_000_u64).map(put).collect::<Result<Vec<_>>>()?;
        assert_eq!(get(&objects[9_999])?, 9_999);
    }
    empty_in_the_end();
    Ok(())
}

fn store() -> StoreReport {
    memory().expect("there is a session").store.expect("it is over processes")
}

/// Workers tell that they have let go of what they read as soon as they are done.
fn empty_in_the_end() {
    let late = Instant::now() + LONG;
    let left = || {
        let memory = memory().expect("there is a session");
        let store = memory.store.expect("it is over processes");
        (memory.objects, memory.bytes, store.objects, store.pinned, store.spilled)
    };
    while left() != (0, 0, 0, 0, 0) && Instant::now() < late {
        std::thread::yield_now();
    }
    assert_eq!(left(), (0, 0, 0, 0, 0), "objects, bytes; in the store: objects, pinned, spilled");
}

/// Files of this process cannot grow beyond a MiB.
fn full_disk() -> ExitCode {
    let _session = Builder::new()
        .processes(1)
        .object_store_memory(16 * MIB)
        .log_level(LogLevel::Off)
        .start()
        .expect("the session starts");
    let limit = rustix::process::Rlimit { current: Some(MIB as u64), maximum: Some(MIB as u64) };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).expect("a lower limit");
    let mut kept = Vec::new();
    let error = loop {
        match put(pattern(kept.len() as u64, 2 * MIB)) {
            Ok(object) => kept.push(object),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("nothing can be spilled to"), "{error}");
    assert!(kept.len() >= 5, "{} objects fitted", kept.len());
    for (seed, object) in kept.iter().enumerate() {
        let numbers = get(object).expect("nothing that was written is lost");
        assert_eq!(checksum(&numbers), checksum(&pattern(seed as u64, 2 * MIB)));
    }
    ExitCode::SUCCESS
}
