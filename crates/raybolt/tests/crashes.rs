//! What workers die of, what the user is told, and that the session goes on.
//!
//! This is a program of its own, since its workers are this very file started again. A case that needs a
//! session of its own runs in a child, whose part the variable `CRASHES_PART` names.

#![allow(clippy::print_stdout, reason = "this is a program")]

use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

use raybolt::{Builder, Error, Result, remote};

const PART: &str = "CRASHES_PART";
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

type Case = (&'static str, fn());

const CASES: &[Case] = &[
    ("a panic is an error of its task alone", a_panic),
    ("abort", an_abort),
    ("a write to nowhere", a_segfault),
    ("exit", an_exit),
    ("kill -9", a_kill),
    ("a stack that overflows", an_overflow),
    ("a task that waits behind one that dies loses nothing", the_innocent),
    ("a worker that never starts", never_starts),
    ("a worker that ends before it starts", ends_at_once),
];

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        return play(&part);
    }
    let session = Builder::new().processes(1).num_cpus(2.0).log_to_driver(false).start().unwrap();
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    let mut failed = 0;
    for (name, case) in CASES.iter().filter(|(name, _)| is_wanted(name)) {
        let ended = std::panic::catch_unwind(case);
        let lives = std::panic::catch_unwind(|| assert_eq!(get(twice::remote(21)).unwrap(), 42));
        let is_good = ended.is_ok() && lives.is_ok();
        failed += usize::from(!is_good);
        let word = if is_good { "ok" } else { "FAILED" };
        println!("{name} ... {word}");
    }
    drop(session);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
            "attempt 2",
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
    assert_told(
        get(exits::options().max_retries(0).remote()),
        &["the worker that ran `exits` is gone: it exited with code 3 while it ran `exits`"],
    );
}

fn a_kill() {
    // With all the retries that a task has if nobody says otherwise.
    assert_told(
        get(kills_itself::remote()),
        &["`kills_itself` is gone: it was killed by signal 9 (SIGKILL)", "attempt 4"],
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

fn never_starts() {
    let output = child("never-starts");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "`twice` cannot run, for no worker starts: a worker is this program started again",
        "must reach `raybolt::init`, `Builder::start` or `#[raybolt::main]`",
        "worker 1 did not come within 300ms",
        "| a worker blocks",
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

fn child(part: &str) -> Output {
    let output = Command::new(std::env::current_exe().unwrap())
        .env(PART, part)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {output:?}", output.status);
    output
}

/// A part that is played in a child.
fn play(part: &str) -> ExitCode {
    let is_worker = std::env::var_os("RAYBOLT_WORKER").is_some();
    match part {
        "never-starts" => {
            if is_worker {
                eprintln!("a worker blocks");
                loop {
                    std::thread::park();
                }
            }
            let builder = Builder::new().processes(1).log_to_driver(false);
            let _session =
                builder.worker_start_timeout(Duration::from_millis(300)).start().unwrap();
            println!("{}", get(twice::remote(1)).unwrap_err());
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
