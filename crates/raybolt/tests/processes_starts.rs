//! What a session over processes says of itself when it starts, and why, when it does not.
//!
//! A program of its own, since its workers are this very file started again. Each case runs in a child, whose
//! part the variable `STARTS_PART` names.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::process::{Command, ExitCode, Stdio};

use raybolt::{Builder, LogLevel, get, remote};

use cases::{Case, Harness};

const PART: &str = "STARTS_PART";

#[remote]
fn twice(x: u64) -> u64 {
    2 * x
}

struct Unborn;

#[remote]
impl Unborn {
    pub fn new() -> Self {
        panic!("not today")
    }
    pub fn ok(&self) -> u64 {
        1
    }
}

const CASES: &[Case] = &[
    ("a session says how large its store is", says_its_store),
    ("too few open files for a node", too_few_files),
    ("too few open files for so many workers", too_many_workers),
    ("a store that may not be mapped", too_large_a_store),
    ("a store without bytes", no_store),
    ("a file where objects should be spilled", no_spill_dir),
    ("no place for the session's directory", no_place),
    ("a place that is of no use for the session's directory", no_runtime_dir),
    ("a log is named if it says more than the error", names_logs_that_are_there),
    ("a memory limit that is exceeded already", too_little_memory),
    ("a constructor that fails is told once", told_once),
];

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        play(&part);
        return ExitCode::SUCCESS;
    }
    let mut harness = Harness::new();
    harness.all(CASES);
    harness.end()
}

/// A part, played in a child that a shell has prepared.
fn play(part: &str) {
    let builder = Builder::new().num_cpus(1.0).log_to_driver(false).log_level(LogLevel::Off);
    let builder = match part {
        "a constructor fails" => builder.log_level(LogLevel::Error),
        "elsewhere" => builder.log_level(LogLevel::Warn),
        _ => builder,
    };
    let store = |bytes| builder.clone().processes(1).object_store_memory(bytes);
    let builder = match part {
        "64 MiB" => store(64 << 20),
        "64 GiB" => store(64 << 30),
        "nothing" => store(0),
        "spills to a file" => builder.processes(1).spill_dir("/dev/null"),
        "many workers" => builder.processes(1_000),
        "a worker that says little" | "a worker that says much" if raybolt::is_worker() => {
            let lines = if part.ends_with("much") { 100 } else { 3 };
            for line in 0..lines {
                eprintln!("line {line}");
            }
            std::process::exit(7)
        }
        _ => builder.processes(1),
    };
    match builder.start() {
        Ok(session) => {
            println!("{session}");
            println!("{:?}", get(twice::remote(21)));
            if part == "a constructor fails" {
                println!("{}", get(Unborn::remote().ok()).unwrap_err());
            }
        }
        Err(error) => println!("{error}"),
    }
}

/// What the child says that plays `part` after `before`, in the shell's words.
fn told(part: &str, before: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", &format!("{before} exec \"$0\"")])
        .arg(std::env::current_exe().unwrap())
        .env(PART, part)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

fn says_its_store() {
    assert_has(&told("64 MiB", ""), &["over a worker process: ", "store: 64 MiB, ", "Ok(42)"]);
    let text = told("a third", "");
    assert_has(&text, &[" MiB, address: "]);
    assert!(!text.contains("as large as memory"), "{text}");
}

fn too_few_files() {
    let text = told("few files", "ulimit -n 5;");
    assert_has(&text, &["Too many open files", "(`ulimit -n`)"]);
}

fn too_many_workers() {
    let text = told("many workers", "ulimit -n 512;");
    assert_has(
        &text,
        &["worker processes (1000) and their driver need about 5016 open files", "may have 512"],
    );
}

fn too_large_a_store() {
    let text = told("64 GiB", "ulimit -v 8000000;");
    let parts =
        ["may not map 65536 MiB", "(`object_store_memory`)", "(`ulimit -v`)", "os error 12"];
    assert_has(&text, &parts);
}

fn too_little_memory() {
    for limit in ["0", "1MiB"] {
        let text = told("anything", &format!("export RAYBOLT_MEMORY_LIMIT={limit};"));
        assert_has(&text, &["`memory_limit` (`RAYBOLT_MEMORY_LIMIT`) is", "raise it"]);
    }
}

fn no_store() {
    assert_has(&told("nothing", ""), &["bytes, not 0 (`object_store_memory`)"]);
}

fn no_spill_dir() {
    let parts = ["spills to /dev/null (`spill_dir`, `RAYBOLT_SPILL_DIR`) cannot be made"];
    assert_has(&told("spills to a file", ""), &parts);
}

fn no_place() {
    let text = told("anywhere", "export XDG_RUNTIME_DIR=/proc;");
    assert_has(&text, &["no session can have its directory in /proc/", "set `XDG_RUNTIME_DIR` to"]);
}

fn no_runtime_dir() {
    let none = std::env::temp_dir().join("raybolt-no-such-directory").display().to_string();
    let because = ["cannot be used (No such file", "is no directory", "is no absolute path"];
    for (dir, because) in [&*none, "/dev/null", "tmp"].into_iter().zip(because) {
        let text = told("elsewhere", &format!("exec 2>&1; export XDG_RUNTIME_DIR={dir};"));
        let name = format!("{dir} (`XDG_RUNTIME_DIR`) {because}");
        assert_has(&text, &[&name, " instead; make that directory, or unset", "Ok(42)"]);
        assert_eq!(text.matches("(`XDG_RUNTIME_DIR`)").count(), 1, "{text}");
    }
    let text = told("elsewhere", "exec 2>&1; unset XDG_RUNTIME_DIR;");
    assert!(!text.contains("XDG_RUNTIME_DIR"), "{text}");
}

fn names_logs_that_are_there() {
    let text = told("a worker that says little", "");
    assert_has(&text, &["it exited with code 7", "| line 2"]);
    assert!(!text.contains("all of it"), "{text}");
    let text = told("a worker that says much", "");
    assert_has(&text, &["| line 99", "(all of it, as long as the session lasts: "]);
}

fn told_once() {
    let text = told("a constructor fails", "exec 2>&1;");
    assert_has(&text, &["actor `Unborn` is gone: its constructor failed: ", "ERROR raybolt"]);
    assert_eq!(text.matches("ERROR raybolt").count(), 1, "{text}");
}
