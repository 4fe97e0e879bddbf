//! The command against a program that runs in another process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A folder for sessions of its own, so that tests see nobody else's.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rb-cli-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Place(path)
    }

    /// Runs the command here.
    fn raybolt(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raybolt"));
        command.args(arguments).env("XDG_RUNTIME_DIR", &self.0).env("TMPDIR", &self.0);
        command.output().unwrap()
    }

    /// What the command prints, which must succeed.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.raybolt(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.told(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What it says when it fails.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.raybolt(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty(), "stdout is data only");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A program in one process, with so many queued tasks.
    fn program(&self, queued: u64) -> Program {
        let queued = queued.to_string();
        let (running, words) =
            self.start("watched", &[("RAYBOLT_WATCH", "1"), ("QUEUED", &queued)]);
        let [waiting, last, counted] = words.try_into().expect("it says what waits");
        Program { running, waiting, last, counted }
    }

    /// Starts an example of this crate, and waits until it says that it is ready; says what it says.
    fn start(&self, name: &str, variables: &[(&str, &str)]) -> (Running, Vec<String>) {
        let path = Path::new(env!("CARGO_BIN_EXE_raybolt"));
        let path = path.parent().unwrap().join("examples").join(name);
        let mut command = Command::new(path);
        command.env("XDG_RUNTIME_DIR", &self.0).env("TMPDIR", &self.0);
        command.env_remove("RAYBOLT_WORKERS").env("RAYBOLT_LOG", "off");
        command.envs(variables.iter().copied());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut running = Running(child.expect("`cargo test` builds the examples too"));
        let mut ready = String::new();
        BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let mut words = ready.split_whitespace().map(str::to_owned);
        assert_eq!(words.next().as_deref(), Some("ready"));
        (running, words.collect())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that is being watched; ends with this.
struct Running(Child);

/// One that runs in one process.
struct Program {
    running: Running,
    /// What waits for the seat.
    waiting: String,
    /// What waits for that.
    last: String,
    /// A call that waits in a queue.
    counted: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take()); // It ends when this does.
        let status = self.0.wait().unwrap();
        assert!(status.success() || std::thread::panicking());
    }
}

#[test]
fn status_and_lists_show_what_runs_and_what_waits() {
    let place = Place::new();
    let program = place.program(3);

    let status = place.json(&["status"]);
    assert_eq!(status["pid"], program.running.0.id());
    assert_eq!(status["program"], "watched");
    let tasks = &status["tasks"];
    assert_eq!(
        (&tasks["running"], &tasks["queued"], &tasks["waiting"]),
        (&1.into(), &3.into(), &1.into())
    );
    assert_eq!(
        (&status["calls"], &status["actors"], &status["errors"]),
        (&2.into(), &1.into(), &1.into())
    );
    let text = place.told(&["status"]);
    assert!(text.contains("1 running, 3 queued, 1 waiting for arguments"), "{text}");
    assert!(text.contains("seat: 0 of 1"), "{text}");

    let tasks = place.json(&["list", "tasks"]);
    assert_eq!(tasks["total"], 7);
    let states: Vec<_> = tasks["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["running", "running", "queued", "queued", "queued", "queued", "waiting"]);
    let queued = place.json(&["list", "tasks", "--state", "queued", "--name", "queue"]);
    assert_eq!(queued["total"], 3);
    let calls = place.json(&["list", "tasks", "--name", "Clerk::count"]);
    assert_eq!((&calls["total"], &calls["items"][0]["actor"]), (&1.into(), &"actor-1".into()));

    let output = place.raybolt(&["list", "tasks", "--limit", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 3, "a header and two tasks: {text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "and 5 more (`--limit`)\n");

    let actors = place.told(&["list", "actors"]);
    assert!(
        actors.contains("actor-1  clerk  alive  1        1        Clerk::serve for "),
        "{actors}"
    );
    let workers = place.told(&["list", "workers"]);
    assert!(workers.contains("driver") && workers.contains(" sit for "), "{workers}");
    let errors = place.told(&["list", "errors"]);
    assert!(errors.contains("fails") && errors.contains("no luck"), "{errors}");
    let objects = place.json(&["list", "objects"]);
    assert!(objects["total"].as_u64().unwrap() >= 6);
    assert_eq!(place.json(&["list", "placement-groups"])["total"], 0);
    assert!(place.json(&["memory"])["process_bytes"].as_u64().unwrap() > 0);
    assert_eq!(place.told(&["logs"]), "");
}

#[test]
fn why_follows_a_wait_to_its_root() {
    let place = Place::new();
    let program = place.program(1);
    let text = place.told(&["why", &program.last]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("`sum` waits for its argument"), "{text}");
    assert!(
        lines[1].starts_with("  task-") && lines[1].contains("needs seat: 1 (0 of 1 free)"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("    task-") && lines[2].contains("`sit` holds seat: 1"),
        "{text}"
    );

    let why = place.json(&["why", &program.counted]);
    assert_eq!(why["steps"][0]["cause"], "actor-queue");
    assert_eq!(why["steps"][1]["cause"], "running");
    let why = place.json(&["why", &program.waiting]);
    assert_eq!(why["steps"][0]["cause"], "resource");
    // Nobody waits in a `get`.
    assert_eq!(place.told(&["why"]), "");
}

#[test]
fn what_cannot_be_told_is_told_with_what_could_be() {
    let place = Place::new();
    let error = place.refused(&["status"]);
    assert!(error.starts_with("error: no session is running here (looked in "), "{error}");
    let lever = "start a program with RAYBOLT_WORKERS=processes or RAYBOLT_WATCH=1";
    assert!(error.trim_end().ends_with(lever), "{error}");

    let program = place.program(1);
    let nearly = format!("{}f", program.waiting);
    let error = place.refused(&["why", &nearly]);
    assert!(error.contains(&format!("did you mean `{}`?", program.waiting)), "{error}");
    let error = place.refused(&["why", "pingu"]);
    assert!(error.contains("`pingu` is no id: they look like task-1f"), "{error}");
    for other in ["/nowhere", "/tmp"] {
        let error = place.refused(&["status", "--session", other]);
        let message = format!("{other} is no directory of a session; these are running:");
        assert!(error.contains(&message), "{error}");
    }
    let error = place.refused(&["status", "--session", "1"]);
    assert!(error.contains("process 1 is no driver of a session; these are running:"), "{error}");
    let error = place.refused(&["logs", "worker-7"]);
    assert!(error.contains("no log of `worker-7`"), "{error}");
    let error = place.refused(&["list", "actors", "--state", "running"]);
    assert!(error.contains("`--state` and `--name` choose among tasks"), "{error}");
    let usage = place.raybolt(&["list", "pingus"]);
    assert_eq!(usage.status.code(), Some(2));
    let usage = place.raybolt(&["list", "tasks", "--state", "lost"]);
    let error = String::from_utf8(usage.stderr).unwrap();
    assert!(error.contains("a task is waiting, queued or running, not `lost`"), "{error}");
}

#[test]
fn of_several_sessions_the_newest_is_shown_and_all_are_named() {
    let place = Place::new();
    let first = place.program(1);
    let second = place.program(1);
    let output = place.raybolt(&["status", "--json"]);
    let error = String::from_utf8(output.stderr).unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["pid"], second.running.0.id());
    assert!(error.starts_with("2 sessions are running; this is the newest one"), "{error}");
    assert!(error.contains(&format!("process {}", first.running.0.id())), "{error}");
    let line = error.lines().find(|line| line.contains(&first.running.0.id().to_string())).unwrap();
    let directory = line.split_whitespace().next().unwrap();
    let status = place.json(&["status", "--session", directory]);
    assert_eq!(status["pid"], first.running.0.id());
    let status = place.json(&["status", "--session", &first.running.0.id().to_string()]);
    assert_eq!(status["pid"], first.running.0.id());
}

#[test]
fn a_session_that_has_ended_leaves_nothing_behind() {
    let place = Place::new();
    drop(place.program(1));
    let left: Vec<_> = std::fs::read_dir(&place.0)
        .unwrap()
        .flat_map(|root| {
            std::fs::read_dir(root.unwrap().path()).unwrap().map(|entry| entry.unwrap().file_name())
        })
        .collect();
    assert_eq!(left, ["lock"]);
}

/// Within a second, on a machine that has nothing else to do: `-- hundred_thousand --nocapture` says how long it takes
/// on this one. A busy one promises nothing.
#[test]
fn a_hundred_thousand_queued_tasks_are_listed_at_once() {
    let place = Place::new();
    let program = place.program(100_000);
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let tasks = place.json(&["list", "tasks", "--name", "queue"]);
        fastest = fastest.min(began.elapsed());
        assert_eq!(tasks["total"], 100_000);
        assert_eq!(tasks["items"].as_array().unwrap().len(), 100);
    }
    eprintln!("100,000 queued tasks are listed within {fastest:?}");
    drop(program);
}

#[test]
fn worker_processes_and_those_who_wait_in_them_are_seen() {
    let place = Place::new();
    let (running, words) = place.start("workers", &[]);
    let [waiting, queued, counted, learned] = words.try_into().expect("it says what waits");

    let status = place.json(&["status"]);
    assert_eq!((&status["pid"], &status["worker_processes"]), (&running.0.id().into(), &2.into()));
    let workers = place.json(&["list", "workers"]);
    let ids: Vec<_> =
        workers.as_array().unwrap().iter().map(|worker| worker["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["driver", "worker-1", "worker-2"]);

    let count = |what: &str| -> u64 {
        workers.as_array().unwrap().iter().map(|worker| worker[what].as_u64().unwrap()).sum()
    };
    // `sit`, `waits` and `Clerk::serve` at least.
    assert!(count("threads") >= 3 && count("blocked") >= 1, "{workers}");

    let text = place.told(&["why", &waiting]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("`waits` on thread ") && lines[0].contains(" of worker-"), "{text}");
    assert!(lines[0].contains(" waits in `get` for object-w"), "{text}");
    assert!(lines[1].contains("`sit` is running on thread "), "{text}");
    let text = place.told(&["why", &queued]);
    assert!(text.contains("`queue` needs seat: 1 (0 of 1 free)"), "{text}");
    assert!(text.contains("`sit` holds seat: 1, and runs on thread "), "{text}");
    let text = place.told(&["why", &counted]);
    assert!(
        text.contains(
            "`Clerk::count` waits in the queue of actor-1 `Clerk`: 0 calls are before it, 1 running"
        ),
        "{text}"
    );
    assert!(
        text.contains("\n  task-") && text.contains("`Clerk::serve` is running on thread "),
        "{text}"
    );
    let text = place.told(&["why", &learned]);
    assert!(
        text.contains(
            "`Apprentice::learn` waits for actor-2 `Apprentice`, which takes no calls yet"
        ),
        "{text}"
    );
    assert!(
        text.contains("\n  the constructor of actor-2 `Apprentice` is running, on thread "),
        "{text}"
    );
    let tasks = place.json(&["list", "tasks", "--name", "sit"]);
    assert!(tasks["items"][0]["thread"].as_str().unwrap().contains(" of worker-"), "{tasks}");
    let error = place.refused(&["why", "object-wfffffff"]);
    assert!(error.contains("object-wfffffff was freed, or never was"), "{error}");

    let objects = place.json(&["list", "objects"]);
    let in_store = |object: &&Value| object["bytes"].as_u64().is_some();
    let stored: Vec<_> = objects["items"].as_array().unwrap().iter().filter(in_store).collect();
    assert_eq!(stored.len(), 1, "one value is long enough: {objects}");
    assert!(stored[0]["bytes"].as_u64().unwrap() >= 1 << 20 && stored[0]["place"] == "memory");
    let text = place.told(&["list", "objects"]);
    assert!(text.contains("1.00 MiB") && text.contains("  memory  "), "{text}");
    let text = place.told(&["memory"]);
    assert!(text.contains("1.00 MiB of ") && text.contains("workers  "), "{text}");
    assert!(text.contains("lineage") && text.contains(" kept to run again, "), "{text}");

    let status = place.told(&["status"]);
    let memory = status.lines().find(|line| line.contains("memory: ")).unwrap();
    assert!(memory.contains("iB of "), "{status}");

    let silent = place.raybolt(&["logs", "2"]);
    let error = String::from_utf8_lossy(&silent.stderr);
    assert_eq!(silent.stdout.is_empty(), error == "`2` has written nothing yet\n", "{error}");

    let is_word =
        |line: &str| line.starts_with("worker-") && line.ends_with(" out: a word from a worker");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let logs = place.told(&["logs"]);
        if logs.lines().any(is_word) {
            break;
        }
        assert!(Instant::now() < until, "{logs}");
    }

    let file = place.0.join("trace.json");
    assert_eq!(place.told(&["timeline", "-o", file.to_str().unwrap()]), "");
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let quick = events.iter().filter(|event| event["name"] == "quick" && event["ph"] == "X");
    assert_eq!(quick.clone().count(), 20);
    assert!(quick.clone().all(|event| event["pid"] != running.0.id()), "they ran in workers");
}

#[test]
fn a_timeline_that_nobody_keeps_is_empty_and_says_how_to_keep_one() {
    let place = Place::new();
    let _program = place.program(1);
    let output = place.raybolt(&["timeline"]);
    let trace: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(trace["displayTimeUnit"], "ms");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("start the program with RAYBOLT_TIMELINE=1"), "{error}");
}
