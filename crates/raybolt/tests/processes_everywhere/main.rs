//! What code in the driver may do, code in worker processes may do too: each case runs in the driver, in a
//! task, and in a call of an actor, and must not see a difference.
//!
//! A program of its own, since its workers are this very file started again. Places where the driver and
//! its workers meet are files and sockets in a directory of its own.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "../common/cases.rs"]
mod cases;
mod flow;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raybolt::inspect::{self, TaskFilter};
use raybolt::{
    Array, Builder, Bundle, CallOptions, LogLevel, ObjectRef, PlacementStrategy, RefStream, Result,
    Value, cancel, cancel_force, errors, get, get_timeout, gpu_ids, is_cancelled, is_initialized,
    is_worker, kill, memory, placement_group, put, remote, resources, wait,
};

use self::flow::{servers, topologies};

use cases::Harness;

const SOON: Duration = Duration::from_secs(60);
const PROCESSES: usize = 3;

/// What must be the same wherever it runs.
type Case = (&'static str, fn(&Place) -> Result<()>);

const CASES: &[Case] = &[
    ("objects are stored, read, awaited and passed on", objects),
    ("a failure that is worth another attempt has one", another_attempt),
    ("a stream goes on in another attempt", another_attempt_of_a_stream),
    ("tasks are cancelled, also by force", stopped),
    ("a method's stream is read as it is made", a_methods_stream),
    ("a method's stream ends with its actor", a_methods_stream_ends),
    ("a method's stream survives its worker", a_methods_stream_goes_on),
    ("calls that were lost are made again", lost_calls),
    ("actors are named, found, detached and killed", named_actors),
    ("placement groups are made, used and removed", groups),
    ("reports are about the session", reports),
    ("a session is begun once", begun_once),
    ("a topology runs where it is submitted", topologies),
    ("a server answers where it is made", servers),
];

/// What only code in workers can meet.
const THERE: &[Case] = &[
    ("a failure stands when its judge is dead", dead_judge),
    ("a task may be cancelled while it is judged", cancelled_in_court),
    ("a predicate that panics lets the failure stand", judge_in_panic),
    ("a generator of an actor stops when its reader dies", a_readers_death),
    ("arguments of actors that wait for room keep nobody else waiting", late_arguments),
];

fn main() -> ExitCode {
    let builder = Builder::new().processes(PROCESSES).num_cpus(6.0).object_store_memory(64 << 20);
    let session = builder.log_level(LogLevel::Off).start().expect("the session starts");
    let mut harness = Harness::new();
    let mut run = |name: &str, case: &dyn Fn(&Place) -> Result<()>| {
        harness.case(name, || {
            all_workers_are_there();
            case(&Place::new(name))
        });
    };
    for (index, (name, case)) in CASES.iter().enumerate() {
        run(&format!("{name}, in the driver"), case);
        run(&format!("{name}, in a task"), &|place| {
            get(in_a_task::options().max_retries(0).remote(index, place.at("")))
        });
        run(&format!("{name}, in an actor"), &|place| {
            get(Actor::remote().runs(index, place.at("")))
        });
    }
    for (name, case) in THERE {
        run(name, case);
    }
    drop(session);
    harness.end()
}

/// Cases kill workers, and the next ones count on some that are not their own. One of whose death nobody has heard
/// yet is still counted, but does not answer.
fn all_workers_are_there() {
    wait_until(|| {
        let answering = inspect::workers().map_or(0, |workers| workers.len());
        let counted = inspect::status().map_or(0, |status| status.worker_processes);
        (answering, counted) == (1 + PROCESSES, PROCESSES)
    });
}

#[remote]
fn in_a_task(case: usize, place: String) -> Result<()> {
    assert!(is_worker());
    CASES[case].1(&Place::known(&place))
}

struct Actor;

#[remote]
impl Actor {
    pub fn new() -> Self {
        Actor
    }

    pub fn runs(&mut self, case: usize, place: String) -> Result<()> {
        assert!(is_worker());
        CASES[case].1(&Place::known(&place))
    }
}

/// Where a case and its tasks meet.
struct Place {
    dir: PathBuf,
    is_own: bool,
}

impl Place {
    fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("rb-all-{}-{number}", std::process::id()));
        let made = std::fs::create_dir_all(&dir);
        made.unwrap_or_else(|error| panic!("no place for `{name}`: {error}"));
        Place { dir, is_own: true }
    }

    fn known(path: &str) -> Self {
        Place { dir: path.into(), is_own: false }
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn listen(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.at(name)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_own {
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

/// One more has come to this place; how many have.
fn reach(place: &str) -> u64 {
    let file = OpenOptions::new().create(true).append(true).open(place);
    if let Ok(mut file) = file {
        file.write_all(b".").unwrap(); // The case may be over.
    }
    count(place)
}

fn count(place: &str) -> u64 {
    std::fs::metadata(place).map_or(0, |file| file.len())
}

/// Comes to the listener at this place, if there is one, and goes on when it hangs up.
fn pass(place: &str) {
    if let Ok(mut stream) = UnixStream::connect(place) {
        drop(stream.read(&mut [0]));
    }
}

fn die() -> ! {
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
    std::process::abort()
}

fn texts<T: Value + std::fmt::Debug>(stream: RefStream<T>) -> Vec<String> {
    let text = |item: Result<_>| match item.and_then(get) {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    };
    stream.map(text).collect()
}

fn values<T: Value>(stream: RefStream<T>) -> Result<Vec<T>> {
    stream.map(|item| get(item?)).collect()
}

#[remote]
fn square(x: u64) -> u64 {
    x * x
}

#[remote]
fn waits(gate: String) -> u64 {
    pass(&gate);
    7
}

fn objects(place: &Place) -> Result<()> {
    let gate = place.listen("gate");
    let late = waits::remote(place.at("gate"));
    let (ready, remaining) = wait(vec![late.clone(), square::remote(3)], 1, None)?;
    assert_eq!((get(&ready[0])?, ready.len(), remaining.len()), (9, 1, 1));
    let (_, none) = wait(&remaining, 1, Some(Duration::ZERO))?;
    assert_eq!(none.len(), 1);
    let error = get_timeout(&late, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind_name(), "timeout");
    drop(gate.accept().unwrap());
    assert_eq!(get(late)?, 7);
    let large = put(vec![5_u64; 100_000])?;
    let nested = put(vec![large.clone()])?;
    assert_eq!(get(&get(nested)?[0])?, vec![5; 100_000]);
    let named = square::options().name("late").deadline(Duration::ZERO).remote(2);
    assert!(get(named).unwrap_err().to_string().starts_with("task `late`"));
    assert!(gpu_ids().is_empty() && !is_cancelled() && is_initialized());
    Ok(())
}

/// Fails until it is called for the third time.
#[remote]
fn third_time(place: String) -> Result<u64, String> {
    match reach(&place) {
        3 => Ok(3),
        times => Err(format!("not {times} times")),
    }
}

fn another_attempt(place: &Place) -> Result<()> {
    let seen = Arc::new(AtomicU64::new(0));
    let counted = seen.clone();
    // What the predicate holds lives where it was made.
    let judged = third_time::options().retry_on(move |error| {
        counted.fetch_add(1, Ordering::SeqCst);
        error.message.starts_with("not")
    });
    let task = judged.clone().remote(place.at("enough"));
    assert_eq!(get(task)?, 3);
    assert_eq!((count(&place.at("enough")), seen.load(Ordering::SeqCst)), (3, 2));

    let (few, other) = (place.at("few"), place.at("other"));
    let error = get(judged.max_retries(1).name("few").remote(few.clone())).unwrap_err();
    assert_eq!(error.to_string(), "task `few` failed: not 2 times (attempt 2)");
    assert_eq!((count(&few), seen.load(Ordering::SeqCst)), (2, 4));
    let judged = third_time::options().retry_on(|error| error.message == "another");
    let error = get(judged.remote(other.clone())).unwrap_err();
    assert_eq!(error.to_string(), "task `third_time` failed: not 1 times");
    assert_eq!(count(&other), 1);
    // The closure goes with its task.
    drop((error, wait_until(|| Arc::strong_count(&seen) == 1)));
    Ok(())
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let late = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < late, "it does not come true");
        std::thread::yield_now();
    }
}

#[remote]
fn gets_further(place: String) -> impl Iterator<Item = Result<u64, String>> {
    let limit = 2 * reach(&place);
    (0..5).map(move |i| if i < limit { Ok(i) } else { Err(format!("not {i} yet")) })
}

fn another_attempt_of_a_stream(place: &Place) -> Result<()> {
    let stream = gets_further::options().retry_on(|error| error.message.ends_with("yet"));
    assert_eq!(values(stream.stream_buffer(2).remote(place.at("attempts")))?, [0, 1, 2, 3, 4]);
    assert_eq!(count(&place.at("attempts")), 3);
    Ok(())
}

#[remote]
fn patient(place: String) {
    pass(&place);
    while !is_cancelled() {
        std::thread::yield_now();
    }
}

/// Says which it is and where, and ends when it is told to; never looks whether it was asked to stop.
#[remote]
fn deaf(place: String, index: u32) {
    let Ok(mut stream) = UnixStream::connect(place) else { return };
    stream.write_all(&[index.to_le_bytes(), std::process::id().to_le_bytes()].concat()).unwrap();
    drop(stream.read(&mut [0]));
}

fn stopped(place: &Place) -> Result<()> {
    let gate = place.listen("patient");
    let task = patient::remote(place.at("patient"));
    drop(gate.accept().unwrap());
    cancel(&task)?;
    assert!(get_timeout(task, SOON).unwrap_err().is_cancelled());
    // By force its process dies, which must not be our own: of several, one is elsewhere.
    let gate = place.listen("deaf");
    let tasks: Vec<_> = (0..4).map(|index| deaf::remote(place.at("deaf"), index)).collect();
    let mut entered = Vec::new();
    let elsewhere = loop {
        let (mut stream, mut said) = (gate.accept().unwrap().0, [0; 8]);
        stream.read_exact(&mut said).unwrap();
        entered.push(stream);
        let word = |at: usize| u32::from_le_bytes(said[at..at + 4].try_into().unwrap());
        if word(4) != std::process::id() {
            break word(0) as usize;
        }
    };
    cancel_force(&tasks[elsewhere])?;
    assert!(get_timeout(&tasks[elsewhere], SOON).unwrap_err().is_cancelled());
    // It has not heard of it, and yet it is gone.
    let mut last = entered.pop().unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
    Ok(())
}

struct Library {
    place: String,
}

/// Endless; says what it has made, and when it is dropped.
struct Source {
    place: String,
    made: u64,
}

impl Iterator for Source {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.made += 1;
        reach(&format!("{}/made", self.place));
        Some(self.made - 1)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        pass(&format!("{}/dropped", self.place));
    }
}

#[remote]
impl Library {
    pub fn new(place: String) -> Self {
        Library { place }
    }

    pub fn numbers(&self, to: u64) -> impl Iterator<Item = u64> {
        0..to
    }

    pub fn endless(&mut self) -> impl Iterator<Item = u64> {
        Source { place: self.place.clone(), made: 0 }
    }

    pub fn failing(&mut self, of: u64) -> impl Iterator<Item = Result<u64, String>> {
        (0..).map(move |i| if i < of { Ok(i) } else { Err(format!("not {i}")) })
    }

    /// Kills its process when it has made so many items for the first time.
    pub fn dies_at(&mut self, n: u64) -> impl Iterator<Item = u64> {
        let place = format!("{}/died", self.place);
        (0..20).inspect(move |i| {
            if *i == n && reach(&place) == 1 {
                die();
            }
        })
    }

    pub fn once_more(&mut self) -> u64 {
        let times = reach(&format!("{}/calls", self.place));
        if times == 1 {
            die();
        }
        times
    }

    pub fn process(&self) -> u32 {
        std::process::id()
    }
}

fn a_methods_stream(place: &Place) -> Result<()> {
    let library = Library::remote(place.at(""));
    assert_eq!(values(library.numbers(3_000))?, (0..3_000).collect::<Vec<_>>());
    assert!(values(library.numbers(0))?.is_empty());
    assert_eq!(texts(library.failing(2)), ["0", "1", "task `Library::failing` failed: not 2"]);
    let dropped = place.listen("dropped");
    let mut stream = library.with(CallOptions::new().stream_buffer(3)).endless();
    for expected in 0..30 {
        assert_eq!(get(stream.next().unwrap()?)?, expected);
        let made = count(&place.at("made"));
        assert!(made <= expected + 1 + 3 + 1, "{made} items were made when {expected} was taken");
    }
    drop(stream);
    drop(dropped.accept().unwrap());
    assert_eq!(values(library.numbers(2))?, [0, 1]); // It is free again.
    Ok(())
}

fn a_methods_stream_ends(place: &Place) -> Result<()> {
    let library = Library::remote(place.at(""));
    let dropped = place.listen("dropped");
    let mut stream = library.with(CallOptions::new().stream_buffer(1)).endless();
    assert_eq!(get(stream.next().unwrap()?)?, 0);
    kill(&library);
    drop(dropped.accept().unwrap());
    let last = stream.last().unwrap().unwrap_err();
    assert_eq!(last.to_string(), "actor `Library` is gone: it was killed");
    let error = texts(library.numbers(2));
    assert_eq!(error, ["actor `Library` is gone: it was killed"]);
    // The same when its process dies.
    let mut beside = elsewhere(place)?;
    let stream = beside.with(CallOptions::new().stream_buffer(1)).dies_at(3);
    let texts = texts(stream);
    let (last, items) = texts.split_last().unwrap();
    assert!(items.len() >= 2 && items == &["0", "1", "2"][..items.len()], "{items:?}");
    assert!(last.contains("SIGKILL"), "{last}");
    beside = Library::remote(place.at(""));
    assert_eq!(values(beside.numbers(1))?, [0]);
    Ok(())
}

/// A library in another process than this one, with options for those that die.
fn elsewhere(place: &Place) -> Result<LibraryHandle> {
    let mut all = Vec::new();
    loop {
        let library = Library::options().max_restarts(0).remote(place.at(""));
        if get(library.process())? != std::process::id() {
            return Ok(library);
        }
        all.push(library); // Places are given in turn.
        assert!(all.len() < 100, "they all live here");
    }
}

fn lasting(place: &Place) -> Result<LibraryHandle> {
    let mut all = Vec::new();
    loop {
        let options = Library::options().max_restarts(3).max_task_retries(2);
        let library = options.remote(place.at(""));
        if get(library.process())? != std::process::id() {
            return Ok(library);
        }
        all.push(library);
        assert!(all.len() < 100, "they all live here");
    }
}

fn a_methods_stream_goes_on(place: &Place) -> Result<()> {
    let library = lasting(place)?;
    let stream = library.with(CallOptions::new().stream_buffer(2)).dies_at(7);
    assert_eq!(values(stream)?, (0..20).collect::<Vec<_>>());
    assert!(count(&place.at("died")) >= 1);
    Ok(())
}

fn lost_calls(place: &Place) -> Result<()> {
    let library = lasting(place)?;
    assert_eq!(get(library.once_more())?, 2);
    Ok(())
}

fn named_actors(place: &Place) -> Result<()> {
    let options = || Library::options().name("library").get_if_exists();
    let library = options().detached().remote(place.at(""));
    let process = get(library.process())?;
    assert_eq!(get(options().remote(place.at("")).process())?, process);
    drop(library);
    let found = Library::find("library")?;
    assert_eq!(get(found.process())?, process);
    kill(&found);
    let error = get(found.process()).unwrap_err();
    assert_eq!(error.to_string(), "actor `library` is gone: it was killed");
    let error = Library::find("library").map(drop).unwrap_err();
    assert_eq!(error.to_string(), "no actor is named `library`");
    Ok(())
}

#[remote]
fn process() -> u32 {
    std::process::id()
}

struct Painter;

#[remote(num_cpus = 1)]
impl Painter {
    pub fn new(colours: u64) -> Self {
        assert_eq!(colours, 9);
        Painter
    }

    pub fn paint(&self) -> u32 {
        std::process::id()
    }
}

fn groups(_: &Place) -> Result<()> {
    let one = Bundle::new().num_cpus(1.0);
    let group = placement_group([one.clone(), one], PlacementStrategy::StrictPack).name("pair");
    let group = group.create()?;
    group.wait(SOON)?;
    get(group.ready())?;
    assert_eq!((group.name(), group.bundle_specs().len()), ("pair", 2));
    let colours = square::remote(3);
    let painter = Painter::options().placement_group(&group, Some(1)).remote(colours);
    get(painter.paint())?;
    get(process::options().placement_group(&group, Some(0)).remote())?;
    // The actor holds a part of it, and the task does no more.
    let is_held = |known: inspect::PlacementGroupReport| {
        known.id == group.id() && known.name.as_deref() == Some("pair") && known.leases == 1
    };
    wait_until(|| inspect::placement_groups(9).unwrap().items.into_iter().any(is_held));
    let too_much = Painter::options().num_cpus(2.0).placement_group(&group, None).remote(9);
    let text = "`Painter` can never run: it needs CPU: 2, the largest bundle of its placement group \
                has 1 (`Bundle::num_cpus`)";
    assert_eq!(get(too_much.paint()).unwrap_err().to_string(), text);
    group.remove()?;
    let text = "actor `Painter` is gone: its placement group `pair` was removed";
    assert_eq!(get_timeout(painter.paint(), SOON).unwrap_err().to_string(), text);
    let error = get(process::options().placement_group(&group, None).remote()).unwrap_err();
    let text = "`process` was in placement group `pair`, which was removed";
    assert_eq!(error.to_string(), text);
    let apart = [Bundle::new().num_cpus(1.0), Bundle::new().num_cpus(1.0)];
    let apart = placement_group(apart, PlacementStrategy::StrictSpread).name("apart").create()?;
    let text = "placement group `apart` can never be placed: it needs 2 nodes, there is 1";
    assert_eq!(get(apart.ready()).unwrap_err().to_string(), text);
    apart.remove()
}

#[remote]
fn fails(text: String) -> Result<(), String> {
    Err(text)
}

fn reports(place: &Place) -> Result<()> {
    let gate = place.listen("gate");
    let task = waits::remote(place.at("gate"));
    let library = Library::options().name("known").remote(place.at(""));
    get(library.process())?;
    let entered = gate.accept().unwrap();

    let store = memory()?.store.expect("there are worker processes");
    assert_eq!(store.capacity, 64 << 20);
    assert!(memory()?.actors >= 1 && memory()?.tasks >= 1 && memory()?.copies > 0);
    let cpus = resources()?.into_iter().find(|resource| resource.name == "CPU").unwrap();
    assert!(cpus.total == 6.0 && cpus.available <= 5.0, "{cpus:?}");
    let text = format!("reported from {}", place.at(""));
    get(fails::remote(text.clone())).unwrap_err();
    assert_eq!(errors()?.last().unwrap().error.message, text);
    assert_eq!(errors()?.last().unwrap().kind, "task");

    let status = inspect::status()?;
    assert_eq!(status.worker_processes, PROCESSES);
    assert!(status.pid != std::process::id() || !is_worker());
    let filter = TaskFilter { name: Some("waits".into()), ..TaskFilter::default() };
    let tasks = inspect::tasks(&filter, 9)?;
    assert_eq!(tasks.items.len(), 1);
    let why = inspect::why(Some(&tasks.items[0].id))?.to_string();
    assert!(why.contains("`waits`"), "{why}");
    let error = inspect::why(Some("nothing")).unwrap_err();
    assert!(error.to_string().starts_with("`nothing` is no id"), "{error}");
    assert!(inspect::actors(99)?.items.iter().any(|actor| actor.name == "known"));
    assert!(inspect::objects(99)?.total > 0 && inspect::memory()?.objects > 0);
    // Who is asked while it has no processor may be late.
    wait_until(|| inspect::workers().is_ok_and(|workers| workers.len() == 1 + PROCESSES));
    assert_eq!(inspect::errors(1)?.items[0].message, text);
    assert!(inspect::timeline()?.is_object());
    drop(entered);
    get(task).map(drop)
}

fn begun_once(_: &Place) -> Result<()> {
    let error = raybolt::init().map(drop).unwrap_err();
    assert_eq!(error.kind_name(), "already-initialized");
    Ok(())
}

/// Submits a task that fails when it comes through its gate, and judges it in its own way.
#[remote]
fn judges(place: String, how: String) -> ObjectRef<u64> {
    let court = format!("{place}/court");
    let options = fails_late::options().retry_on(move |_| match &*how {
        "dies" => die(),
        "panics" => panic!("no verdict"),
        _ => {
            pass(&court);
            true
        }
    });
    options.remote(place)
}

#[remote]
fn fails_late(place: String) -> Result<u64, String> {
    reach(&format!("{place}/attempts"));
    pass(&format!("{place}/gate"));
    Err("in vain".into())
}

fn dead_judge(place: &Place) -> Result<()> {
    // Dead before it is asked.
    let gate = place.listen("gate");
    let judge = Judge::remote();
    let task = get(judge.submits(place.at("")))?;
    let entered = gate.accept().unwrap();
    let process = i32::try_from(get(judge.process())?).unwrap();
    let process = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    get(judge.process()).unwrap_err(); // From now on the driver knows.
    drop((entered, gate));
    std::fs::remove_file(place.at("gate")).unwrap(); // If the task was there too, it has run again.
    let error = get_timeout(task, SOON).unwrap_err();
    assert!(error.to_string().ends_with("in vain"), "{error}");
    // Dead as it is asked.
    let task = get(judges::remote(place.at(""), "dies".to_owned()))?;
    let error = get_timeout(task, SOON).unwrap_err();
    assert!(error.to_string().ends_with("in vain"), "{error}");
    Ok(())
}

struct Judge;

#[remote]
impl Judge {
    pub fn new() -> Self {
        Judge
    }

    pub fn submits(&mut self, place: String) -> ObjectRef<u64> {
        fails_late::options().retry_on(|_| true).remote(place)
    }

    pub fn process(&self) -> u32 {
        std::process::id()
    }
}

fn cancelled_in_court(place: &Place) -> Result<()> {
    let court = place.listen("court");
    let task = get(judges::remote(place.at(""), "waits".to_owned()))?;
    let entered = court.accept().unwrap();
    cancel(&task)?;
    assert!(get(task).unwrap_err().is_cancelled());
    drop(entered);
    wait_until(|| memory().is_ok_and(|memory| memory.tasks == 0));
    assert_eq!(count(&place.at("attempts")), 1);
    Ok(())
}

fn judge_in_panic(place: &Place) -> Result<()> {
    let task = get(judges::remote(place.at(""), "panics".to_owned()))?;
    let error = get_timeout(task, SOON).unwrap_err();
    assert_eq!(error.to_string(), "task `fails_late` failed: in vain");
    assert_eq!(count(&place.at("attempts")), 1);
    Ok(())
}

/// Reads one item of a library elsewhere, and dies.
#[remote]
fn reads_and_dies(place: String) -> Result<()> {
    let library = elsewhere(&Place::known(&place))?;
    let mut stream = library.with(CallOptions::new().stream_buffer(2)).endless();
    get(stream.next().expect("it is endless")?)?;
    die()
}

fn a_readers_death(place: &Place) -> Result<()> {
    let dropped = place.listen("dropped");
    let reader = reads_and_dies::options().max_retries(0).remote(place.at(""));
    assert!(get(&reader).unwrap_err().to_string().contains("SIGKILL"));
    drop(dropped.accept().unwrap());
    Ok(())
}

/// Keeps what it was given where it lies in the store.
struct Holder(Vec<Array<u64>>);

#[remote]
impl Holder {
    pub fn new() -> Self {
        Holder(Vec::new())
    }

    pub fn hold(&mut self, array: Array<u64>) -> u64 {
        self.0.push(array);
        self.0.len() as u64
    }

    pub fn release(&mut self) {
        self.0.clear();
    }
}

struct Taker(u64);

#[remote]
impl Taker {
    pub fn new(array: Array<u64>, more: u64) -> Self {
        Taker(array.len() as u64 + more)
    }

    pub fn takes(&mut self, array: Array<u64>, more: u64) -> u64 {
        self.0 + array.len() as u64 + more
    }
}

#[remote]
fn calls_taker(taker: TakerHandle, array: Vec<ObjectRef<Array<u64>>>) -> Result<u64> {
    get(taker.takes(&array[0], 0))
}

fn late_arguments(place: &Place) -> Result<()> {
    const COUNT: usize = 3 << 20; // 24 MiB each; the store has 64.
    let array = |x: u64| Array::from(vec![x; COUNT]);
    let holder = Holder::remote();
    let small = Taker::remote(put(Array::from(vec![1_u64]))?, 0);
    get(small.takes(Array::from(vec![1_u64]), 0))?;
    let large = put(array(1))?;
    let gate = place.listen("gate");
    let late = waits::remote(place.at("gate"));
    // Packed when the last argument is there, by whoever hears of that.
    let call = small.takes(&large, &late);
    let taker = Taker::remote(&large, &late);
    let made = taker.takes(Array::from(vec![1_u64]), 0);
    // Half of the store may be lent at a time.
    get(holder.hold(put(array(2))?))?;
    drop(gate.accept().unwrap());
    assert_eq!(get_timeout(&late, SOON)?, 7);
    let of_worker = calls_taker::remote(small.clone(), vec![large.clone()]);
    // There is no room, and still everybody else goes on.
    assert_eq!(get_timeout(square::remote(5), SOON)?, 25);
    assert_eq!(
        wait(&[call.clone(), made.clone(), of_worker.clone()], 1, Some(Duration::ZERO))?.0.len(),
        0
    );
    get_timeout(holder.release(), SOON)?;
    let count = COUNT as u64;
    assert_eq!(get_timeout(call, SOON)?, 1 + count + 7);
    assert_eq!(get_timeout(made, SOON)?, count + 7 + 1);
    assert_eq!(get_timeout(of_worker, SOON)?, 1 + count);
    Ok(())
}
