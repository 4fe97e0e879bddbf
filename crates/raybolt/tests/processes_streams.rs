//! Streams whose generators run in worker processes.
//!
//! A program of its own, since its workers are this very file started again. Places where the driver and
//! its workers meet are files and sockets in a directory of its own.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use raybolt::{
    Builder, CallOptions, LogLevel, ObjectRef, RefStream, Result, Session, Value, errors, get,
    memory, put, remote,
};
use serde::{Deserialize, Serialize, Serializer};

use cases::Harness;

type Case = (&'static str, fn(&Session, &Place) -> Result<()>);

const CASES: &[Case] = &[
    ("items come in order and then none", items_come_in_order),
    ("items are objects like others", items_are_objects),
    ("items may refer to objects", items_refer),
    ("a full stream holds its generator but no cpu", full_stream),
    ("dropping a stream stops its generator", dropping),
    ("a generator that nobody wants any more does not begin", not_begun),
    ("what a generator fails with is its last item", failures),
    ("another attempt goes on where the last one ended", another_attempt),
    ("a worker's death costs no item and repeats none", a_death),
    ("the last item tells of a death without another attempt", a_death_for_good),
    ("a stream can be awaited", awaited),
    ("who gives up on an item may ask again", gives_up),
    ("a deadline ends a stream", a_deadline),
    ("an item that cannot travel ends the stream", secret_items),
    ("a worker may read a stream", nested),
    ("a stream that a worker reads ends like others", nested_ends),
    ("a reader's death stops the generator", nested_death),
    ("calls of actors may return streams", methods),
    ("nothing is left of streams", nothing_is_left),
];

fn main() -> ExitCode {
    let builder = Builder::new().processes(2).num_cpus(2.0);
    let session = builder.log_level(LogLevel::Off).start().expect("the session starts");
    let mut harness = Harness::new();
    for (name, case) in CASES {
        harness.case(name, || case(&session, &Place::new(name)));
    }
    harness.case(END, || the_end(session));
    harness.end()
}

/// Where a case and its tasks meet.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = name.replace(|c: char| !c.is_alphanumeric(), "-");
        let dir = std::env::temp_dir().join(format!("streams-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Place(dir)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn listen(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.at(name)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// One more has come to this place.
fn reach(place: &str) {
    let file = OpenOptions::new().create(true).append(true).open(place);
    if let Ok(mut file) = file {
        file.write_all(b".").unwrap(); // The case may be over.
    }
}

/// How many have.
fn count(place: &str) -> u64 {
    std::fs::metadata(place).map_or(0, |file| file.len())
}

/// Comes to the listener at this place, if there is one, and goes on when it hangs up.
fn pass(place: &str) {
    if let Ok(mut stream) = UnixStream::connect(place) {
        drop(stream.read(&mut [0]));
    }
}

fn values<T: Value>(stream: RefStream<T>) -> Result<Vec<T>> {
    stream.map(|item| get(item?)).collect()
}

fn texts<T: Value + std::fmt::Debug>(stream: RefStream<T>) -> Vec<String> {
    let text = |item: Result<_>| match item.and_then(get) {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    };
    stream.map(text).collect()
}

#[remote]
fn numbers(from: u64, to: u64) -> impl Iterator<Item = u64> {
    from..to
}

fn items_come_in_order(_: &Session, _: &Place) -> Result<()> {
    let mut stream = numbers::remote(0, 3);
    let items: Vec<_> = stream.by_ref().map(|item| get(item?)).collect::<Result<_>>()?;
    assert_eq!(items, [0, 1, 2]);
    assert!(stream.next().is_none() && stream.next().is_none());
    assert_eq!(values(numbers::remote(0, 10_000))?, (0..10_000).collect::<Vec<_>>());
    let small = numbers::options().stream_buffer(1).remote(0, 100);
    assert_eq!(values(small)?, (0..100).collect::<Vec<_>>());
    assert!(values(numbers::remote(3, 3))?.is_empty());
    Ok(())
}

#[remote]
fn double(x: u64) -> u64 {
    2 * x
}

fn items_are_objects(_: &Session, _: &Place) -> Result<()> {
    let doubled: Vec<_> =
        numbers::remote(1, 4).map(|item| Ok(double::remote(item?))).collect::<Result<_>>()?;
    assert_eq!(get(&doubled)?, [2, 4, 6]);
    Ok(())
}

#[remote]
fn stored(to: u64) -> impl Iterator<Item = Result<ObjectRef<u64>>> {
    (0..to).map(put)
}

fn items_refer(_: &Session, _: &Place) -> Result<()> {
    let references = values(stored::remote(5))?;
    assert_eq!(get(&references)?, [0, 1, 2, 3, 4]);
    Ok(())
}

/// Endless: tells how many it has made, and when it is dropped.
struct Source {
    place: String,
    made: u64,
}

impl Iterator for Source {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.made += 1;
        reach(&format!("{}/made", self.place));
        Some(self.made)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        pass(&format!("{}/dropped", self.place));
    }
}

#[remote]
fn source(place: String) -> impl Iterator<Item = u64> {
    Source { place, made: 0 }
}

fn full_stream(_: &Session, place: &Place) -> Result<()> {
    let mut stream = source::options().num_cpus(2.0).stream_buffer(3).remote(place.at(""));
    assert_eq!(get(stream.next().unwrap()?)?, 1);
    // The CPUs are free when the generator waits for room.
    assert_eq!(get(double::options().num_cpus(2.0).remote(4))?, 8);
    let made = count(&place.at("made"));
    assert!(made <= 1 + 3 + 1, "{made} items were made");
    assert_eq!(get(stream.next().unwrap()?)?, 2);
    for taken in 3..100 {
        assert_eq!(get(stream.next().unwrap()?)?, taken);
        let made = count(&place.at("made"));
        assert!(made <= taken + 3 + 1, "{made} items were made, and {taken} taken");
    }
    Ok(())
}

#[remote]
fn held(place: &str) {
    pass(place);
}

fn not_begun(_: &Session, place: &Place) -> Result<()> {
    let gate = place.listen("gate");
    let first = held::options().num_cpus(2.0).remote(place.at("gate"));
    let (held, _) = gate.accept().unwrap();
    drop(source::options().num_cpus(2.0).remote(place.at("")));
    drop(held);
    get(&first)?;
    get(&double::options().num_cpus(2.0).remote(1))?;
    assert_eq!(count(&place.at("made")), 0);
    Ok(())
}

fn dropping(_: &Session, place: &Place) -> Result<()> {
    let dropped = place.listen("dropped");
    let mut stream = source::options().stream_buffer(2).remote(place.at(""));
    assert!(stream.next().is_some());
    drop(stream);
    drop(dropped.accept().unwrap());
    // One that never waits for room.
    let mut stream = source::options().stream_buffer(1 << 40).remote(place.at(""));
    assert!(stream.next().is_some());
    drop(stream);
    drop(dropped.accept().unwrap());
    Ok(())
}

#[remote]
fn panics_at(n: u64) -> impl Iterator<Item = u64> {
    (0..).inspect(move |i| assert!(*i < n, "no further"))
}

#[remote]
fn fails_at(n: u64) -> impl Iterator<Item = Result<u64, String>> {
    (0..).map(move |i| if i < n { Ok(i) } else { Err(format!("not {i}")) })
}

#[remote]
fn may_not_begin(well: bool) -> Result<impl Iterator<Item = u64>, String> {
    if well { Ok(0..2) } else { Err("not at all".into()) }
}

fn failures(_: &Session, _: &Place) -> Result<()> {
    let before = errors()?.len();
    assert_eq!(texts(fails_at::remote(2)), ["0", "1", "task `fails_at` failed: not 2"]);
    let panicked = texts(panics_at::remote(1));
    assert_eq!((panicked.len(), &*panicked[0]), (2, "0"));
    assert!(panicked[1].starts_with("task `panics_at` panicked at "), "{}", panicked[1]);
    assert!(panicked[1].ends_with(": no further"), "{}", panicked[1]);
    let named = may_not_begin::options().name("shy").remote(false);
    assert_eq!(texts(named), ["task `shy` failed: not at all"]);
    assert_eq!(texts(may_not_begin::remote(true)), ["0", "1"]);
    assert_eq!(errors()?.len() - before, 3);
    Ok(())
}

#[remote]
fn gets_further(place: String) -> impl Iterator<Item = Result<u64, String>> {
    reach(&place);
    let limit = 2 * count(&place);
    (0..5).map(move |i| if i < limit { Ok(i) } else { Err(format!("not {i} yet")) })
}

fn another_attempt(_: &Session, place: &Place) -> Result<()> {
    let stream = gets_further::options().retry_on(|error| error.message.ends_with("yet"));
    assert_eq!(values(stream.remote(place.at("attempts")))?, [0, 1, 2, 3, 4]);
    assert_eq!(count(&place.at("attempts")), 3);
    Ok(())
}

/// Kills its process when it has made so many items for the first time.
#[remote]
fn dies_at(n: u64, place: String) -> impl Iterator<Item = u64> {
    (0..10).inspect(move |i| {
        if *i == n && !Path::new(&place).exists() {
            reach(&place);
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
    })
}

fn a_death(_: &Session, place: &Place) -> Result<()> {
    let stream = dies_at::options().stream_buffer(2).remote(5, place.at("small"));
    assert_eq!(values(stream)?, (0..10).collect::<Vec<_>>());
    assert_eq!(count(&place.at("small")), 1);
    let stream = dies_at::remote(5, place.at("large"));
    assert_eq!(values(stream)?, (0..10).collect::<Vec<_>>());
    assert_eq!(count(&place.at("large")), 1);
    Ok(())
}

fn a_death_for_good(_: &Session, place: &Place) -> Result<()> {
    // Read one by one, each item is here before the next one is made.
    let stream = dies_at::options().max_retries(0).stream_buffer(1).remote(3, place.at("dies"));
    let texts = texts(stream);
    let (last, items) = texts.split_last().unwrap();
    assert!(items.len() >= 2 && items == &["0", "1", "2"][..items.len()], "{items:?}");
    assert!(last.contains("dies_at") && last.contains("SIGKILL"), "{last}");
    Ok(())
}

fn awaited(session: &Session, _: &Place) -> Result<()> {
    let sum = session.block_on(async {
        let mut stream = numbers::options().stream_buffer(2).remote(0, 100);
        let mut sum = 0;
        while let Some(item) = stream.next_async().await {
            sum += item?.await?;
        }
        Ok::<_, raybolt::Error>(sum)
    })?;
    assert_eq!(sum, 4_950);
    Ok(())
}

#[remote]
fn gated(place: String) -> impl Iterator<Item = u64> {
    (0..2).inspect(move |i| {
        if *i == 1 {
            pass(&place);
        }
    })
}

fn gives_up(_: &Session, place: &Place) -> Result<()> {
    let gate = place.listen("gate");
    let mut stream = gated::remote(place.at("gate"));
    assert_eq!(get(stream.next().unwrap()?)?, 0);
    let (held, _) = gate.accept().unwrap();
    let error = stream.next_timeout(Duration::from_millis(1)).unwrap().unwrap_err();
    let text = "the next item of a stream was not there within 1ms (`timeout`): ";
    assert!(error.to_string().starts_with(text), "{error}");
    drop(held);
    assert_eq!(get(stream.next().unwrap()?)?, 1);
    assert!(stream.next().is_none());
    Ok(())
}

fn a_deadline(_: &Session, place: &Place) -> Result<()> {
    let after = Duration::from_millis(20);
    let mut stream = source::options().stream_buffer(1).deadline(after).remote(place.at(""));
    let items: Vec<_> = stream.by_ref().collect();
    let last = items.last().unwrap().as_ref().unwrap_err();
    assert_eq!(last.to_string(), "task `source` did not end within 20ms (`deadline`)");
    while memory()?.tasks > 0 {
        std::thread::yield_now(); // It stops, if it has begun at all.
    }
    Ok(())
}

/// A value that will not be written.
#[derive(Clone, Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a secret stays where it is"))
    }
}

#[remote]
fn secrets() -> impl Iterator<Item = Secret> {
    std::iter::repeat(Secret)
}

fn secret_items(_: &Session, _: &Place) -> Result<()> {
    let error = secrets::remote().next().unwrap().unwrap_err();
    let text = "`secrets`: a value of type `processes_streams::Secret` cannot be serialized: a \
                secret stays where it is";
    assert_eq!(error.to_string(), text);
    Ok(())
}

/// A stream that is read in a worker.
#[remote]
fn sums(to: u64) -> Result<u64> {
    let stream = numbers::options().stream_buffer(8).remote(0, to);
    let sum = stream.map(|item| get(item?)).sum::<Result<u64>>()?;
    Ok(sum + values(stored::remote(3))?.iter().map(get).sum::<Result<u64>>()?)
}

fn nested(_: &Session, _: &Place) -> Result<()> {
    assert_eq!(get(sums::remote(1_000))?, 499_500 + 3);
    let several: Vec<_> = (0..4).map(|_| sums::remote(100)).collect();
    assert_eq!(get(&several)?, [4_953; 4]);
    Ok(())
}

#[remote]
fn last_texts(place: &str) -> Vec<String> {
    let stream = dies_at::options().stream_buffer(2).remote(5, format!("{place}/dies"));
    let mut last = texts(stream);
    last.extend(texts(fails_at::remote(0)));
    last
}

#[remote]
fn reads_one(place: &str) -> Result<u64> {
    let mut stream = source::options().stream_buffer(2).remote(place);
    get(stream.next().expect("it is endless")?)
}

fn nested_ends(_: &Session, place: &Place) -> Result<()> {
    // What dies may be the reader's own worker; then both run again.
    let texts = get(last_texts::remote(place.at("")))?;
    assert_eq!(texts[..10], (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(texts[10..], ["task `fails_at` failed: not 0"]);
    let dropped = place.listen("dropped");
    assert_eq!(get(reads_one::remote(place.at("")))?, 1);
    drop(dropped.accept().unwrap());
    Ok(())
}

/// Reads one item, and its worker dies.
#[remote]
fn reads_and_dies(place: &str) -> Result<u64> {
    let mut stream = source::options().stream_buffer(2).remote(place);
    get(stream.next().expect("it is endless")?)?;
    std::process::abort()
}

fn nested_death(_: &Session, place: &Place) -> Result<()> {
    let dropped = place.listen("dropped");
    let reader = reads_and_dies::options().max_retries(0).remote(place.at(""));
    assert!(get(&reader).unwrap_err().to_string().contains("SIGABRT"));
    // The generator stops, unless it died as well: then another attempt stops, or never begins.
    dropped.set_nonblocking(true).unwrap();
    while dropped.accept().is_err() && memory()?.tasks > 0 {
        std::thread::yield_now();
    }
    Ok(())
}

struct Library {
    place: String,
}

#[remote]
impl Library {
    pub fn new(place: String) -> Self {
        Library { place }
    }

    pub fn onwards(&self, first: u64) -> impl Iterator<Item = u64> {
        Source { place: self.place.clone(), made: first - 1 }
    }

    pub fn failing(&mut self) -> impl Iterator<Item = Result<u64, String>> {
        (0..).map(|i| if i < 2 { Ok(i) } else { Err(format!("not {i}")) })
    }
}

fn methods(_: &Session, place: &Place) -> Result<()> {
    let library = Library::remote(place.at(""));
    assert_eq!(texts(library.failing()), ["0", "1", "task `Library::failing` failed: not 2"]);
    let dropped = place.listen("dropped");
    let mut stream = library.with(CallOptions::new().stream_buffer(3)).onwards(10);
    for expected in 10..30 {
        assert_eq!(get(stream.next().unwrap()?)?, expected);
        let made = count(&place.at("made"));
        assert!(made <= expected - 9 + 3 + 1, "{made} items were made before {expected} was taken");
    }
    drop(stream);
    drop(dropped.accept().unwrap());
    // An actor that is killed leaves no generator that waits for room.
    let mut stream = library.with(CallOptions::new().stream_buffer(1)).onwards(1);
    assert_eq!(get(stream.next().unwrap()?)?, 1);
    library.kill();
    drop(dropped.accept().unwrap());
    assert!(stream.last().unwrap().is_err());
    Ok(())
}

fn nothing_is_left(_: &Session, place: &Place) -> Result<()> {
    assert_eq!(values(numbers::remote(0, 100))?.len(), 100);
    assert_eq!(values(stored::remote(10))?.len(), 10);
    let dropped = place.listen("dropped");
    let mut stream = source::options().stream_buffer(5).remote(place.at(""));
    assert!(stream.next().is_some());
    drop(stream);
    drop(dropped.accept().unwrap());
    while (memory()?.objects, memory()?.tasks, memory()?.bytes) != (0, 0, 0) {
        std::thread::yield_now(); // Its last attempt is about to be reported.
    }
    Ok(())
}

const END: &str = "the end of a session ends its streams";

fn the_end(session: Session) -> bool {
    let place = Place::new(END);
    let dropped = place.listen("dropped");
    let mut stream = source::options().stream_buffer(2).remote(place.at(""));
    assert!(stream.next().is_some());
    let ending = std::thread::spawn(move || drop(session));
    drop(dropped.accept().unwrap());
    ending.join().unwrap();
    let last = stream.last().unwrap().map(drop).map_err(|error| error.to_string());
    let is_told = matches!(&last, Err(error) if error.starts_with("the session ended before "));
    is_told
}
