//! What workers die of, what the user is told, and that the session goes on.
//!
//! This is a program of its own, since its workers are this very file started again. A case that needs a
//! session of its own runs in a child, whose part the variable `CRASHES_PART` names.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::fs::File;
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use raybolt::{Builder, Error, Result, remote};

use cases::Harness;

const PART: &str = "CRASHES_PART";
/// How long a worker may take to start, in milliseconds.
const START_MILLIS: &str = "CRASHES_START_MILLIS";
/// Names a file that the first worker makes.
const MARKER: &str = "CRASHES_MARKER";
/// No case takes so long; one that hangs fails.
const LONG: Duration = Duration::from_secs(60);

#[remote]
fn twice(x: u64) -> u64 {
    2 * x
}

#[remote]
fn panics() -> u64 {
    panic!("boo")
}

#[remote]
fn aborts() -> u64 {
    eprintln!("about to abort");
    std::process::abort()
}

#[remote]
fn writes_to_nowhere() -> u64 {
    let nowhere = std::ptr::without_provenance_mut::<u64>(8);
    // SAFETY: none; this is what the case is about.
    unsafe { nowhere.write_volatile(1) };
    1
}

#[remote]
fn exits() -> u64 {
    std::process::exit(3)
}

#[remote]
fn kills_itself() -> u64 {
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
    1
}

#[remote]
fn goes_too_deep(x: u64) -> u64 {
    #[inline(never)]
    fn deeper(x: u64) -> u64 {
        let ballast = std::hint::black_box([x; 64]);
        if x == u64::MAX { 0 } else { deeper(x + 1) + ballast[3] }
    }
    deeper(x)
}

#[remote]
fn runs_for_ever(begun: &str) -> u64 {
    File::create(begun).unwrap();
    loop {
        std::hint::spin_loop();
    }
}

#[remote]
fn waits_until_it_is_cancelled(begun: &str) -> u64 {
    File::create(begun).unwrap();
    while !raybolt::is_cancelled() {
        std::thread::yield_now();
    }
    1
}

#[remote]
fn fills_memory(mib: usize) -> usize {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while kept.len() < mib {
        kept.push(vec![kept.len() as u8 | 1; 1 << 20]);
        // Slowly enough for whoever watches.
        std::thread::sleep(Duration::from_millis(2));
    }
    kept.len()
}

/// Keeps what it was told to.
struct Hog(Vec<Vec<u8>>);

#[remote]
impl Hog {
    pub fn new() -> Self {
        Hog(Vec::new())
    }

    pub fn grow(&mut self, mib: usize) -> usize {
        while self.0.len() < mib {
            self.0.push(vec![self.0.len() as u8 | 1; 1 << 20]);
            // Slowly enough for whoever watches.
            std::thread::sleep(Duration::from_millis(2));
        }
        self.0.len()
    }

    pub fn held(&self) -> usize {
        self.0.len()
    }
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Unreadable(u64);

impl<'de> serde::Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("nobody can read this"))
    }
}

#[remote]
fn takes_what_cannot_be_read(it: Unreadable) -> u64 {
    it.0
}

#[remote]
fn returns_much(bytes: usize) -> String {
    // Fresh pages of zeros, which nobody has touched.
    String::from_utf8(vec![0; bytes]).unwrap()
}

#[remote]
fn own_pid() -> u32 {
    std::process::id()
}

#[remote]
fn prints() {
    println!("to stdout");
    eprintln!("to stderr");
}

#[remote]
fn environment_of_a_child() -> String {
    let output = Command::new("env").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The sockets of this process, of which its link is one.
fn sockets() -> Vec<i32> {
    let is_socket = |fd: &i32| {
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        target.is_ok_and(|path| path.to_string_lossy().starts_with("socket:"))
    };
    (3..1024).filter(is_socket).collect()
}

#[remote]
fn closes_descriptors() {
    for fd in 3..1024 {
        // SAFETY: none; this is what the case is about.
        unsafe { rustix::io::close(fd) };
    }
}

#[remote]
fn writes_into_sockets() -> usize {
    let sockets = sockets();
    for fd in &sockets {
        // SAFETY: it is open; whose it is, is what the case is about.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(*fd) };
        let _ = rustix::io::write(socket, &[0xff; 64]);
    }
    sockets.len()
}

#[remote]
fn begins_a_session() -> String {
    raybolt::init().map(drop).unwrap_err().to_string()
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u8>,
    second: Vec<u8>,
}

#[remote]
fn takes_what_is_sparse(it: Sparse) -> (Option<u8>, Vec<u8>) {
    (it.first, it.second)
}

struct Exits;

#[remote]
impl Exits {
    pub fn new() -> Self {
        Exits
    }

    pub fn exits(&mut self) -> u64 {
        std::process::exit(3)
    }
}

type Case = (&'static str, fn());

const CASES: &[Case] = &[
    ("a panic is an error of its task alone", a_panic),
    ("abort", an_abort),
    ("a write to nowhere", a_segfault),
    ("exit", an_exit),
    ("kill -9", a_kill),
    ("a stack that overflows", an_overflow),
    ("a task that waits behind one that dies loses nothing", the_innocent),
    ("an endless loop with a deadline", an_endless_loop),
    ("an endless loop that is cancelled by force", a_cancel_by_force),
    ("a task that heeds a cancel costs nobody anything", a_cancel_that_is_heeded),
    ("memory until the limit", memory_until_the_limit),
    ("an actor's memory until the limit", an_actors_memory_until_the_limit),
    ("an argument that cannot be decoded", an_unreadable_argument),
    ("a result of 3 GiB", a_result_of_3_gib),
    ("a driver that is killed in mid-call", a_killed_driver),
    ("what workers print has their names before it", what_workers_print),
    ("what a worker starts is no worker", what_a_worker_starts),
    ("a task that closes its worker's descriptors", a_broken_link),
    ("a task that writes into its worker's link", a_garbled_link),
    ("an actor that ends its worker", an_actor_that_exits),
    ("a session within a session", a_session_within),
    ("an argument that would be read as another", an_ambiguous_argument),
    ("a driver that is interrupted at a terminal", an_interrupted_driver),
    ("a worker that never starts", never_starts),
    ("a worker that ends before it starts", ends_at_once),
    ("a worker that is late beside one that serves", late_beside_another),
];

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        return play(&part);
    }
    let session = Builder::new().processes(1).num_cpus(2.0).log_to_driver(false);
    let session = session.deadline_grace(Duration::from_millis(100)).object_store_memory(1 << 30);
    let session = session.start().unwrap();
    let mut harness = Harness::new();
    for (name, case) in CASES {
        harness.case(name, || {
            case();
            assert_eq!(get(twice::remote(21)).unwrap(), 42, "the session lives on");
        });
    }
    drop(session);
    harness.end()
}

fn get<T: raybolt::Value>(object: raybolt::ObjectRef<T>) -> Result<T> {
    raybolt::get_timeout(object, LONG)
}

/// The text of the error, which has all of these in it, in this order.
#[track_caller]
fn assert_told<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) -> Error {
    let error = result.unwrap_err();
    let text = error.to_string();
    let mut rest = text.as_str();
    for part in parts {
        let Some(place) = rest.find(part) else { panic!("`{part}` is not in:\n{text}") };
        rest = &rest[place + part.len()..];
    }
    error
}

fn a_panic() {
    let error = assert_told(get(panics::remote()), &["task `panics` panicked at", "boo"]);
    assert!(error.is_task_failed());
}

fn an_abort() {
    let error = assert_told(
        get(aborts::options().max_retries(1).remote()),
        &[
            "the worker that ran `aborts` is gone",
            "killed by signal 6 (SIGABRT)",
            "while it ran `aborts`",
            "| about to abort",
            "was sent to a worker 2 times",
        ],
    );
    assert!(error.is_worker_died());
}

fn a_segfault() {
    assert_told(
        get(writes_to_nowhere::options().max_retries(0).remote()),
        &["the worker that ran `writes_to_nowhere` is gone", "killed by signal 11 (SIGSEGV)"],
    );
}

fn an_exit() {
    let listed = || {
        let died = |failure: &raybolt::FailureReport| {
            failure.kind == "worker-died" && failure.error.task == "exits"
        };
        raybolt::errors().unwrap().iter().filter(|failure| died(failure)).count()
    };
    let before = listed();
    assert_told(
        get(exits::options().max_retries(0).remote()),
        &["the worker that ran `exits` is gone: it exited with code 3 while it ran `exits`"],
    );
    assert_eq!(listed(), before + 1);
}

fn a_kill() {
    // With all the retries that a task has if nobody says otherwise.
    assert_told(
        get(kills_itself::remote()),
        &[
            "`kills_itself` is gone: it was killed by signal 9 (SIGKILL)",
            "was sent to a worker 4 times",
        ],
    );
}

fn an_overflow() {
    assert_told(
        get(goes_too_deep::options().max_retries(0).remote(1)),
        &["`goes_too_deep` is gone", "SIGABRT", "has overflowed its stack"],
    );
}

fn the_innocent() {
    let doomed = exits::options().max_retries(2).remote();
    let others: Vec<_> = (0..500).map(|x| twice::options().max_retries(1).remote(x)).collect();
    assert!(get(doomed).unwrap_err().is_worker_died());
    for (x, other) in others.into_iter().enumerate() {
        assert_eq!(get(other).unwrap(), 2 * x as u64);
    }
}

/// A file that a task makes when it begins.
struct Mark(PathBuf);

impl Mark {
    fn new(name: &str) -> Self {
        Mark(std::env::temp_dir().join(format!("rb-{}-{name}", std::process::id())))
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn is_made(&self) -> bool {
        self.0.exists()
    }

    fn wait(&self) {
        let until = Instant::now() + LONG;
        while !self.is_made() {
            assert!(Instant::now() < until, "the task does not begin");
            std::thread::yield_now();
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn an_endless_loop() {
    let before = get(own_pid::remote()).unwrap();
    let (innocent_runs, begun) = (Mark::new("innocent"), Mark::new("endless"));
    let innocent =
        waits_until_it_is_cancelled::options().max_retries(0).remote(innocent_runs.name());
    innocent_runs.wait();
    let mut deadline = Duration::from_millis(50);
    loop {
        let endless = runs_for_ever::options().deadline(deadline).remote(begun.name());
        let text = format!("task `runs_for_ever` did not end within {deadline:?}");
        assert!(assert_told(get(endless), &[&text]).is_deadline());
        if begun.is_made() {
            break;
        }
        deadline *= 2; // It was over before the task began, so that there was nothing to stop.
    }
    // The loop has the worker's CPU until the worker is replaced.
    while get(own_pid::remote()).unwrap() == before {
        std::thread::yield_now();
    }
    raybolt::cancel(&innocent).unwrap();
    assert!(get(innocent).unwrap_err().is_cancelled(), "it ran again, at no cost");
}

fn a_cancel_by_force() {
    let before = get(own_pid::remote()).unwrap();
    let begun = Mark::new("forced");
    let endless = runs_for_ever::remote(begun.name());
    begun.wait();
    raybolt::cancel_force(&endless).unwrap();
    assert!(get(endless).unwrap_err().is_cancelled());
    while get(own_pid::remote()).unwrap() == before {
        std::thread::yield_now();
    }
}

fn a_cancel_that_is_heeded() {
    let before = get(own_pid::remote()).unwrap();
    let begun = Mark::new("patient");
    let patient = waits_until_it_is_cancelled::remote(begun.name());
    begun.wait();
    raybolt::cancel(&patient).unwrap();
    assert!(get(patient).unwrap_err().is_cancelled());
    assert_eq!(get(own_pid::remote()).unwrap(), before);
}

fn memory_until_the_limit() {
    let output = child("memory");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "the worker that ran `fills_memory` is gone: it was stopped before memory ran out",
        "of the session's 300 MiB were used",
        "of them by this worker while it ran `fills_memory`; no task that uses as much has retries left",
        "`RAYBOLT_MEMORY_LIMIT`",
        "then 42",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

/// One that can begin anew does; the other is gone.
fn an_actors_memory_until_the_limit() {
    let output = child("actors-memory");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "first: actor `Hog` is gone: its worker died: it was stopped before memory ran out: ",
        "of the session's 300 MiB were used",
        "of them by this worker while it ran `Hog::grow`; no task uses as much, and `Hog` can begin anew (1 left); let its actors hold less, or raise `memory_limit`",
        "then it holds 0",
        "last: actor `Hog` is gone: ",
        "none of the actors that do can begin anew (`max_restarts` of `Hog`)",
        "then 42",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

fn an_unreadable_argument() {
    let object = takes_what_cannot_be_read::remote(Unreadable(1));
    assert_told(
        get(object),
        &["`takes_what_cannot_be_read` got bytes that it cannot read", "`crashes::Unreadable`"],
    );
}

fn a_result_of_3_gib() {
    assert_told(
        get(returns_much::remote(3 << 30)),
        &["`returns_much`", "do not fit into a store of 1073741824 (`object_store_memory`)"],
    );
}

fn a_killed_driver() {
    // What no worker has lived to remove, the next session removes.
    for (what, is_stopped, who_removes) in [
        ("runs-for-ever", false, "a worker"),
        ("idle", false, "a worker"),
        ("idle", true, "a worker"),
        ("blocks", false, "the next"),
    ] {
        let mut driver = Command::new(std::env::current_exe().unwrap())
            .env(PART, what)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(driver.stdout.take().unwrap()).lines();
        let worker: u32 = lines.next().unwrap().unwrap().parse().unwrap();
        let directory = PathBuf::from(lines.next().unwrap().unwrap());
        assert!(directory.join("node.sock").exists());
        if is_stopped {
            stop(worker);
        }
        driver.kill().unwrap();
        // That nobody asks for its end makes no difference: until then it is listed, but gone.
        if who_removes == "the next" {
            driver.wait().unwrap(); // It is dead only then.
            assert!(child("empty").status.success());
        }
        let until = Instant::now() + LONG;
        while is_alive(worker) || directory.exists() {
            assert!(Instant::now() < until, "{what}: {worker} or {directory:?} is left");
            std::thread::yield_now();
        }
        driver.wait().unwrap();
    }
}

fn a_broken_link() {
    let told = get(closes_descriptors::options().max_retries(0).remote());
    // The library looks where it closes a descriptor: then the worker may end before its link is seen to be closed.
    let aborts =
        told.as_ref().is_err_and(|error| error.to_string().contains("IO Safety violation"));
    let parts: &[&str] = match aborts {
        true => &["`closes_descriptors` is gone: it was killed by signal 6 (SIGABRT) while it ran"],
        false => &[
            "`closes_descriptors` is gone: its link closed",
            "close file descriptors",
            "while it ran `closes_descriptors`",
        ],
    };
    assert_told(told, parts);
}

fn a_garbled_link() {
    assert_told(
        get(writes_into_sockets::options().max_retries(0).remote()),
        &[
            "`writes_into_sockets` is gone: it was killed, since its link brought bytes that are no messages",
        ],
    );
}

fn an_actor_that_exits() {
    let actor = Exits::remote();
    assert_told(
        get(actor.exits()),
        &[
            "actor `Exits` is gone: its worker died: it exited with code 3 while it ran `Exits::exits`",
        ],
    );
}

fn a_session_within() {
    let before = get(own_pid::remote()).unwrap();
    let text = get(begins_a_session::options().max_retries(0).remote()).unwrap();
    assert!(text.contains("runs here already"), "{text}");
    assert_eq!(get(own_pid::remote()).unwrap(), before);
}

fn an_ambiguous_argument() {
    let sparse = Sparse { first: None, second: vec![9] };
    assert_told(
        get(takes_what_is_sparse::remote(sparse.clone())),
        &["its field `first` is left out"],
    );
    let whole = Sparse { first: Some(1), ..sparse };
    assert_eq!(get(takes_what_is_sparse::remote(whole)).unwrap(), (Some(1), vec![9]));
}

fn an_interrupted_driver() {
    // Whoever runs tests in the background may have them ignore interrupts, and their children too.
    let mut driver = Command::new("env");
    driver.arg("--default-signal=INT").arg(std::env::current_exe().unwrap()).env(PART, "idle");
    driver.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut driver = driver.spawn().unwrap();
    let mut lines = std::io::BufReader::new(driver.stdout.take().unwrap()).lines();
    let worker: u32 = lines.next().unwrap().unwrap().parse().unwrap();
    let directory = PathBuf::from(lines.next().unwrap().unwrap());
    let group = rustix::process::Pid::from_child(&driver);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    let until = Instant::now() + LONG;
    while is_alive(worker) || directory.exists() {
        assert!(Instant::now() < until, "{worker} or {directory:?} is left");
        std::thread::yield_now();
    }
    driver.wait().unwrap();
}

/// Stops a process, and waits until it stands.
fn stop(pid: u32) {
    let process = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    let until = Instant::now() + LONG;
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ") {
        assert!(Instant::now() < until, "{pid} does not stop");
        std::thread::yield_now();
    }
}

/// Whether there is a process of this number that has not ended; one that has may still be listed.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// The directory of the session of this process.
fn own_directory() -> PathBuf {
    let sessions = raybolt_runtime::session_dir::sessions().unwrap();
    let own = sessions.into_iter().find(|found| found.pid == std::process::id());
    own.unwrap().path
}

fn what_workers_print() {
    let output = child("prints");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for line in ["(worker 1) to stdout\n", "the driver itself\n"] {
        assert!(out.contains(line), "`{line}` is not in:\n{out}");
    }
    assert!(err.contains("(worker 1) to stderr\n"), "{err}");
    let hidden = Command::new(std::env::current_exe().unwrap())
        .env(PART, "prints")
        .env("RAYBOLT_LOG_TO_DRIVER", "0")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&hidden.stdout);
    assert!(!out.contains("to stdout") && out.contains("the driver itself"), "{out}");
}

fn what_a_worker_starts() {
    let environment = get(environment_of_a_child::remote()).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("RAYBOLT_WORKER="));
    assert!(!raybolt::is_worker());
}

fn never_starts() {
    let told = |millis: u64| {
        let output = player("never-starts").env(START_MILLIS, millis.to_string()).output().unwrap();
        (Duration::from_millis(millis), String::from_utf8(output.stdout).unwrap())
    };
    // How long a worker takes to its first line is the machine's affair.
    let has_begun = |(_, text): &(Duration, String)| text.contains("| a worker blocks");
    let (time, text) = [300, 2_000, 10_000].into_iter().map(told).find(has_begun).unwrap();
    let within = format!("worker 1 did not come within {time:?}");
    for part in [
        "`twice` cannot run, for no worker starts: a worker is this program started again",
        "must reach `raybolt::init`, `Builder::start` or `#[raybolt::main]`",
        &within,
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

fn ends_at_once() {
    let output = child("ends-at-once");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["`twice` cannot run", "ended before it served: it exited with code 7"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

/// This program as it plays that part.
fn player(part: &str) -> Command {
    let mut player = Command::new(std::env::current_exe().unwrap());
    player.env(PART, part).stdin(Stdio::null());
    player
}

fn late_beside_another() {
    let marker = std::env::temp_dir().join(format!("raybolt-late-{}", std::process::id()));
    let output = player("late").env(MARKER, &marker).output().unwrap();
    let _ = std::fs::remove_file(marker);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 serve"), "{output:?}");
}

fn child(part: &str) -> Output {
    let output = player(part).output().unwrap();
    assert!(output.status.success(), "{}: {output:?}", output.status);
    output
}

/// A part that is played in a child.
fn play(part: &str) -> ExitCode {
    let is_worker = raybolt::is_worker();
    match part {
        "never-starts" => {
            if is_worker {
                eprintln!("a worker blocks");
                loop {
                    std::thread::park();
                }
            }
            let builder = Builder::new().processes(1).log_to_driver(false);
            let millis = std::env::var(START_MILLIS).unwrap().parse().unwrap();
            let _session =
                builder.worker_start_timeout(Duration::from_millis(millis)).start().unwrap();
            println!("{}", get(twice::remote(1)).unwrap_err());
        }
        "memory" => {
            let builder = Builder::new().processes(1).log_to_driver(false);
            let _session = builder.memory_limit(300 << 20).start().unwrap();
            let filling = fills_memory::options().max_retries(0).remote(2_000);
            println!("{}", get(filling).unwrap_err());
            println!("then {}", get(twice::remote(21)).unwrap());
        }
        "actors-memory" => {
            let builder = Builder::new().processes(1).log_to_driver(false);
            let _session = builder.memory_limit(300 << 20).start().unwrap();
            let hog = Hog::options().max_restarts(1).remote();
            println!("first: {}", get(hog.grow(2_000)).unwrap_err());
            println!("then it holds {}", get(hog.held()).unwrap());
            println!("last: {}", get(hog.grow(2_000)).unwrap_err());
            println!("then {}", get(twice::remote(21)).unwrap());
        }
        "runs-for-ever" | "idle" => {
            let _session = Builder::new().processes(1).num_cpus(2.0).start().unwrap();
            let begun = Mark::new("runs-for-ever");
            let endless = (part != "idle").then(|| runs_for_ever::remote(begun.name()));
            if endless.is_some() {
                begun.wait();
            }
            drop(begun);
            println!("{}", get(own_pid::remote()).unwrap());
            println!("{}", own_directory().display());
            let _ = endless.map(get);
            loop {
                std::thread::park();
            }
        }
        "prints" => {
            let _session = Builder::new().processes(1).start().unwrap();
            get(prints::remote()).unwrap();
            println!("the driver itself");
        }
        "empty" => drop(Builder::new().processes(1).start().unwrap()),
        "blocks" => {
            if is_worker {
                println!("{}", std::process::id());
                loop {
                    std::thread::park();
                }
            }
            let _session = Builder::new().processes(1).log_to_driver(false).start().unwrap();
            let log = own_directory().join("logs/worker-1.out");
            let pid = loop {
                let pid = std::fs::read_to_string(&log).unwrap_or_default();
                if pid.ends_with('\n') {
                    break pid;
                }
            };
            print!("{pid}");
            println!("{}", own_directory().display());
            let _ = get(twice::remote(1));
        }
        "late" => {
            let marker = std::env::var(MARKER).unwrap();
            if is_worker && File::create_new(marker).is_ok() {
                loop {
                    std::thread::park(); // The first of them.
                }
            }
            let builder = Builder::new().processes(2).log_to_driver(false);
            let _session = builder.worker_start_timeout(Duration::from_secs(1)).start().unwrap();
            let until = Instant::now() + LONG;
            while raybolt::inspect::status().unwrap().worker_processes < 2 {
                assert!(Instant::now() < until, "nobody came in place of the first");
                std::thread::yield_now();
            }
            println!("{} serve", raybolt::inspect::status().unwrap().worker_processes);
        }
        "ends-at-once" => {
            if is_worker {
                std::process::exit(7);
            }
            let _session = Builder::new().processes(1).log_to_driver(false).start().unwrap();
            println!("{}", get(twice::remote(1)).unwrap_err());
            println!("{}", get(twice::remote(1)).unwrap_err());
        }
        other => panic!("nobody plays `{other}`"),
    }
    ExitCode::SUCCESS
}
