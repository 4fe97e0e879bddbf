//! Values whose spill files are lost are made again by the tasks that made them.
//!
//! A program of its own, since its workers are this very file started again. Spill files have no names, so that
//! what loses them here is the driver itself: it cuts off what it has open.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raybolt::{Array, Builder, LogLevel, ObjectRef, Result, get, get_timeout, memory, put, remote};

use cases::{Case, Harness};

const MIB: usize = 1 << 20;
const STORE_BYTES: usize = 16 * MIB;
/// How many numbers a large value has.
const NUMBERS: usize = MIB / 8;
/// What takes longer does not come.
const LONG: Duration = Duration::from_secs(60);

const CASES: &[Case<Result<()>>] = &[
    ("one that is lost is made again when it is read", read_here),
    ("one of which a bit has changed is lost, too", flipped),
    ("a chain of which all is lost is made again from its beginning", a_chain),
    ("the same when nobody holds its beginning any more", a_chain_of_its_end),
    ("small arguments are kept, by value and by reference", small_arguments),
    ("a task that takes one waits for it", taken_by_a_task),
    ("so does a call of an actor", taken_by_a_call),
    ("so does code in a worker that reads it", read_in_a_worker),
    ("one that a worker's task made is made again", made_for_a_worker),
    ("of several results only those that were lost are new", several_results),
    ("a get ends in time while it is made", in_time),
    ("what was put is lost, and says so", was_put),
    ("retries are spent, and then it says so", retries_are_spent),
    ("without retries it says so at once", without_retries),
    ("a task whose second run fails says so", second_run_fails),
    ("arguments that are not kept are named", not_kept),
    ("nothing is kept of what nobody holds", nothing_is_kept),
];

fn main() -> ExitCode {
    let mut harness = Harness::new();
    let builder = || {
        Builder::new().object_store_memory(STORE_BYTES).log_level(LogLevel::Off).store_timeout(LONG)
    };
    let session = builder().processes(2).num_cpus(2.0).start().expect("the session starts");
    harness.all(CASES);
    drop(session);
    let session = builder().processes(1).num_cpus(1.0).start().expect("a second one starts");
    harness.case("one CPU is enough to make what a task waits for", taken_by_a_task);
    drop(session);
    let session = builder().processes(1).num_cpus(1.0).lineage_memory(1_500).start();
    let session = session.expect("a third one starts");
    harness.case("beyond their bound tasks are forgotten, the oldest first", forgotten);
    drop(session);
    harness.end()
}

/// A directory in which tasks say that they have run.
struct Runs(PathBuf);

impl Runs {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("raybolt-lineage-{process}-{number}"));
        fs::create_dir(&path).expect("a directory can be made");
        Runs(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// How often the task of this name has run.
    fn of(&self, name: &str) -> usize {
        fs::read(self.0.join(name)).map_or(0, |bytes| bytes.len())
    }

    #[track_caller]
    fn are(&self, expected: &[(&str, usize)]) {
        let runs: Vec<_> = expected.iter().map(|(name, _)| (*name, self.of(name))).collect();
        assert_eq!(runs, expected);
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is there");
    }
}

/// This task runs.
fn count(runs: &str, name: &str) -> usize {
    let path = Path::new(runs).join(name);
    let mut file = OpenOptions::new().create(true).append(true).open(&path);
    file.as_mut().expect("the test made room").write_all(b"x").expect("and there is enough");
    fs::read(path).map_or(0, |bytes| bytes.len())
}

#[remote]
fn make(runs: String, name: String, first: u64) -> Array<u64> {
    count(&runs, &name);
    (first..first + NUMBERS as u64).collect()
}

#[remote]
fn next(runs: String, name: String, of: &Array<u64>) -> Array<u64> {
    count(&runs, &name);
    of.iter().map(|number| number + 1).collect()
}

#[remote]
fn sum(of: &Array<u64>) -> u64 {
    of.iter().sum()
}

fn expected_sum(first: u64) -> u64 {
    (first..first + NUMBERS as u64).sum()
}

/// Fills the store, so that all that lay there goes to disk.
fn spill() -> Result<()> {
    // What is read is not spilled, and who read it last may not have said yet that he is done.
    let until = Instant::now() + LONG;
    while memory()?.store.is_some_and(|store| store.pinned > 0) {
        assert!(Instant::now() < until, "something is read for ever");
        std::thread::yield_now();
    }
    let fill = || put(Array::from(vec![0_u8; MIB]));
    let fillers = (0..STORE_BYTES / MIB).map(|_| fill()).collect::<Result<Vec<_>>>()?;
    drop(fillers);
    Ok(())
}

/// Cuts off all spill files of this process.
fn lose() -> Result<()> {
    harm(|file| file.set_len(0))
}

fn harm(harm: impl Fn(&File) -> std::io::Result<()>) -> Result<()> {
    spill()?;
    let mine = format!("raybolt-spill-{}-", std::process::id());
    for entry in fs::read_dir("/proc/self/fd").expect("a process has a list of its files") {
        let path = entry.expect("and can read it").path();
        let is_mine = |target: PathBuf| target.display().to_string().contains(&mine);
        if fs::read_link(&path).is_ok_and(is_mine) {
            let file = OpenOptions::new().read(true).write(true).open(&path);
            harm(&file.expect("it is open already")).expect("what is open can be written");
        }
    }
    Ok(())
}

/// Waits until all that is asked for is so.
#[track_caller]
fn soon(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + LONG;
    while !is_so()? {
        assert!(Instant::now() < until, "{what}: {:?}", memory()?);
        std::thread::yield_now();
    }
    Ok(())
}

fn nothing_is_left() -> Result<()> {
    soon("nothing is kept any more", || {
        let now = memory()?;
        let objects = now.store.map_or(0, |store| store.objects);
        Ok((now.kept_tasks, now.kept_bytes, now.objects, objects) == (0, 0, 0, 0))
    })
}

fn read_here() -> Result<()> {
    let runs = Runs::new();
    let object = make::remote(runs.path(), "one", 7);
    assert_eq!(get(&object)?[0], 7);
    lose()?;
    let numbers = get(&object)?;
    assert_eq!((numbers[0], numbers.len()), (7, NUMBERS));
    assert_eq!(get(&object)?[1], 8);
    drop(numbers);
    runs.are(&[("one", 2)]);
    // Taken by value, too.
    lose()?;
    assert_eq!(get(object)?[2], 9);
    runs.are(&[("one", 3)]);
    nothing_is_left()
}

fn flipped() -> Result<()> {
    let runs = Runs::new();
    let object = make::remote(runs.path(), "one", 7);
    assert_eq!(get(&object)?[0], 7);
    // One in each part of a file, for several objects may lie there.
    harm(|file| {
        (0..file.metadata()?.len()).step_by(MIB / 4).try_for_each(|at| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&[byte[0] ^ 1], at)
        })
    })?;
    assert_eq!(get(sum::remote(&object))?, expected_sum(7));
    runs.are(&[("one", 2)]);
    drop(object);
    nothing_is_left()
}

fn chain(runs: &Runs) -> Result<[ObjectRef<Array<u64>>; 3]> {
    let one = make::remote(runs.path(), "one", 1);
    let two = next::remote(runs.path(), "two", &one);
    let three = next::remote(runs.path(), "three", &two);
    assert_eq!(get(&three)?[0], 3);
    Ok([one, two, three])
}

fn a_chain() -> Result<()> {
    let runs = Runs::new();
    let [one, two, three] = chain(&runs)?;
    lose()?;
    assert_eq!(get(sum::remote(&three))?, expected_sum(3));
    runs.are(&[("one", 2), ("two", 2), ("three", 2)]);
    assert_eq!((get(&one)?[5], get(&two)?[5]), (6, 7));
    runs.are(&[("one", 2), ("two", 2), ("three", 2)]);
    drop((one, two, three));
    nothing_is_left()
}

fn a_chain_of_its_end() -> Result<()> {
    let runs = Runs::new();
    let [one, two, three] = chain(&runs)?;
    drop((one, two));
    soon("only the last value is there", || {
        Ok(memory()?.store.is_some_and(|store| store.objects == 1))
    })?;
    assert_eq!(memory()?.kept_tasks, 3);
    lose()?;
    assert_eq!(get(&three)?[5], 8);
    runs.are(&[("one", 2), ("two", 2), ("three", 2)]);
    drop(three);
    nothing_is_left()
}

#[remote]
fn small(number: u64) -> u64 {
    number * 2
}

#[remote]
fn of_small(runs: String, text: String, number: u64, other: u64) -> Array<u64> {
    count(&runs, "of_small");
    (0..NUMBERS as u64).map(|at| at + number + other + text.len() as u64).collect()
}

fn small_arguments() -> Result<()> {
    let runs = Runs::new();
    let object = of_small::remote(runs.path(), "four", small::remote(50), put(1_000)?);
    assert_eq!(get(&object)?[0], 1_104);
    lose()?;
    assert_eq!(get(&object)?[1], 1_105);
    runs.are(&[("of_small", 2)]);
    drop(object);
    nothing_is_left()
}

fn taken_by_a_task() -> Result<()> {
    let runs = Runs::new();
    let object = make::remote(runs.path(), "one", 5);
    assert_eq!(get(sum::remote(&object))?, expected_sum(5));
    lose()?;
    let sums: Vec<_> = (0..20).map(|_| sum::remote(&object)).collect();
    drop(object);
    for sum in sums {
        assert_eq!(get(sum)?, expected_sum(5));
    }
    runs.are(&[("one", 2)]);
    nothing_is_left()
}

struct Adder(u64);

#[remote]
impl Adder {
    pub fn new() -> Self {
        Adder(0)
    }

    pub fn add(&mut self, numbers: Array<u64>) -> u64 {
        self.0 += numbers.iter().sum::<u64>();
        self.0
    }
}

fn taken_by_a_call() -> Result<()> {
    let runs = Runs::new();
    let object = make::remote(runs.path(), "one", 5);
    let adder = Adder::remote();
    assert_eq!(get(adder.add(&object))?, expected_sum(5));
    lose()?;
    let sums = [adder.add(&object), adder.add(&object)];
    drop(object);
    assert_eq!(get(&sums[1])?, 3 * expected_sum(5));
    assert_eq!(get(&sums[0])?, 2 * expected_sum(5));
    runs.are(&[("one", 2)]);
    drop((sums, adder));
    nothing_is_left()
}

#[remote]
fn reads(object: Vec<ObjectRef<Array<u64>>>) -> Result<u64> {
    Ok(get(&object[0])?.iter().sum())
}

fn read_in_a_worker() -> Result<()> {
    let runs = Runs::new();
    let object = make::remote(runs.path(), "one", 5);
    assert_eq!(get(&object)?[0], 5);
    lose()?;
    assert_eq!(get(reads::remote(vec![object.clone()]))?, expected_sum(5));
    runs.are(&[("one", 2)]);
    drop(object);
    nothing_is_left()
}

#[remote]
fn makes_more(runs: String) -> Vec<ObjectRef<Array<u64>>> {
    let one = make::remote(runs.clone(), "one", 1);
    let two = next::remote(runs, "two", &one);
    vec![two]
}

fn made_for_a_worker() -> Result<()> {
    let runs = Runs::new();
    let made = get(makes_more::remote(runs.path()))?;
    assert_eq!(get(&made[0])?[0], 2);
    soon("only the last value is there", || {
        Ok(memory()?.store.is_some_and(|store| store.objects == 1))
    })?;
    lose()?;
    assert_eq!(get(sum::remote(&made[0]))?, expected_sum(2));
    runs.are(&[("one", 2), ("two", 2)]);
    drop(made);
    nothing_is_left()
}

#[remote(num_returns = 3)]
fn three(runs: String) -> (Array<u64>, u64, Array<u64>) {
    let run = count(&runs, "three") as u64;
    let numbers = |first: u64| (first..first + NUMBERS as u64).collect();
    (numbers(run * 10), run, numbers(run * 100))
}

fn several_results() -> Result<()> {
    let runs = Runs::new();
    let (one, two, other) = three::remote(runs.path());
    assert_eq!((get(&one)?[0], get(&two)?, get(&other)?[0]), (10, 1, 100));
    lose()?;
    assert_eq!(get(&one)?[0], 20);
    // The other one was made along with it, but nobody wanted it then.
    assert_eq!(get(&two)?, 1);
    assert!(get(&other)?[0] >= 200);
    drop((one, two, other));
    nothing_is_left()
}

/// Its second run waits until it may go on.
#[remote]
fn waits(runs: String) -> Array<u64> {
    if count(&runs, "waits") == 2 {
        while !Path::new(&runs).join("go on").exists() {
            std::thread::yield_now();
        }
    }
    (0..NUMBERS as u64).collect()
}

fn in_time() -> Result<()> {
    let runs = Runs::new();
    let object = waits::remote(runs.path());
    assert_eq!(get(&object)?[1], 1);
    lose()?;
    let error = get_timeout(&object, Duration::from_millis(50)).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains("a value that is made again as object-"), "{error}");
    fs::write(runs.0.join("go on"), "").expect("there is room");
    assert_eq!(get(&object)?[2], 2);
    runs.are(&[("waits", 2)]);
    drop(object);
    nothing_is_left()
}

fn was_put() -> Result<()> {
    let object = put((0..NUMBERS as u64).collect::<Array<u64>>())?;
    lose()?;
    let error = get(&object).unwrap_err();
    assert!(error.is_object_lost(), "{error}");
    let begin = format!("{} is lost: it lies in ", put_name(&object));
    assert!(error.to_string().starts_with(&begin), "{error}");
    let end = "; it was put, or came from an actor or a stream: no task can make it again";
    assert!(error.to_string().ends_with(end), "{error}");
    let error = get(sum::remote(&object)).unwrap_err().to_string();
    assert!(error.starts_with(&begin) && error.ends_with(end), "{error}");
    let error = get(reads::remote(vec![object.clone()])).unwrap_err().to_string();
    assert!(error.contains(&begin) && error.contains(end), "{error}");
    drop(object);
    nothing_is_left()
}

fn put_name(object: &ObjectRef<Array<u64>>) -> String {
    object.to_string()
}

fn retries_are_spent() -> Result<()> {
    let runs = Runs::new();
    let object = make::options().max_retries(1).remote(runs.path(), "one", 1);
    assert_eq!(get(&object)?[0], 1);
    lose()?;
    assert_eq!(get(&object)?[0], 1);
    lose()?;
    let error = get(&object).unwrap_err();
    assert!(error.is_object_lost(), "{error}");
    let end = "; task `make`, which made it, has run twice, as often as it may (`max_retries`)";
    assert!(error.to_string().ends_with(end), "{error}");
    let error = get(sum::remote(&object)).unwrap_err().to_string();
    assert!(error.ends_with(end), "{error}");
    runs.are(&[("one", 2)]);
    drop(object);
    nothing_is_left()
}

fn without_retries() -> Result<()> {
    let runs = Runs::new();
    let first = make::options().max_retries(0).remote(runs.path(), "one", 1);
    let second = next::remote(runs.path(), "two", &first);
    assert_eq!(get(&second)?[0], 2);
    lose()?;
    let end = "; task `make`, which made it, has run once, as often as it may (`max_retries`)";
    let error = get(&first).unwrap_err().to_string();
    assert!(error.ends_with(end), "{error}");
    // It needs what cannot be had.
    let error = get(&second).unwrap_err().to_string();
    let begin = format!("{second} is lost: it lies in ");
    let middle = format!("; task `next` ran again to make it, and failed: {first} is lost: ");
    assert!(error.starts_with(&begin) && error.contains(&middle), "{error}");
    assert!(error.ends_with(end), "{error}");
    drop((first, second));
    nothing_is_left()
}

#[remote]
fn only_once(runs: String) -> Result<Array<u64>, String> {
    match count(&runs, "only_once") {
        1 => Ok((0..NUMBERS as u64).collect()),
        _ => Err("not again".into()),
    }
}

fn second_run_fails() -> Result<()> {
    let runs = Runs::new();
    let object = only_once::remote(runs.path());
    assert_eq!(get(&object)?[1], 1);
    lose()?;
    let end =
        "; task `only_once` ran again to make it, and failed: task `only_once` failed: not again";
    for error in [get(&object).unwrap_err(), get(sum::remote(&object)).unwrap_err()] {
        assert!(error.is_object_lost(), "{error}");
        assert!(error.to_string().ends_with(end), "{error}");
    }
    runs.are(&[("only_once", 2)]);
    drop(object);
    nothing_is_left()
}

#[remote]
fn of_references(objects: Vec<ObjectRef<u64>>) -> Array<u64> {
    (0..NUMBERS + objects.len()).map(|at| at as u64).collect()
}

#[remote]
fn of_long(numbers: Vec<u64>) -> Array<u64> {
    Array::from(numbers)
}

fn not_kept() -> Result<()> {
    let one = of_references::remote(vec![small::remote(1)]);
    let two = of_long::remote(vec![7; NUMBERS]);
    assert_eq!((get(&one)?[1], get(&two)?[1]), (1, 7));
    lose()?;
    let error = get(&one).unwrap_err().to_string();
    let why = "task `of_references`, which made it, takes references inside of its arguments";
    assert!(error.contains(why), "{error}");
    let error = get(&two).unwrap_err().to_string();
    let why = "task `of_long`, which made it, takes more than 16384 bytes of arguments by value";
    assert!(error.contains(why), "{error}");
    drop((one, two));
    nothing_is_left()
}

fn nothing_is_kept() -> Result<()> {
    let runs = Runs::new();
    let small = small::remote(1);
    assert_eq!(get(&small)?, 2);
    assert_eq!(memory()?.kept_tasks, 0, "small values are never lost");
    let mut last = make::remote(runs.path(), "one", 0);
    for _ in 0..100 {
        last = next::remote(runs.path(), "next", &last);
    }
    assert_eq!(get(&last)?[0], 100);
    soon("only the last value is there", || {
        Ok(memory()?.store.is_some_and(|store| store.objects == 1))
    })?;
    let kept = memory()?;
    assert_eq!(kept.kept_tasks, 101);
    assert!(kept.kept_bytes > 0);
    lose()?;
    assert_eq!(get(&last)?[0], 100);
    runs.are(&[("one", 2), ("next", 200)]);
    drop((small, last));
    nothing_is_left()
}

fn forgotten() -> Result<()> {
    let runs = Runs::new();
    let objects = ["one", "two", "three"].map(|name| make::remote(runs.path(), name, 1));
    for object in &objects {
        assert_eq!(get(object)?[0], 1);
    }
    lose()?;
    assert_eq!(get(&objects[2])?[0], 1);
    let error = get(&objects[0]).unwrap_err().to_string();
    let end = "; task `make`, which made it, was forgotten: no more than 1500 bytes are kept of tasks that could run again (`lineage_memory`)";
    assert!(error.ends_with(end), "{error}");
    runs.are(&[("one", 1), ("three", 2)]);
    drop(objects);
    nothing_is_left()
}
