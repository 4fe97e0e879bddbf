//! What the API is not meant for, and what it says then.

mod common;

use std::time::Duration;

use common::{session, session_with, turn};
use raybolt::{
    Builder, Error, Kind, LogLevel, ObjectRef, Result, TaskError, get, put, remote, wait,
};

#[remote]
fn square(x: u64) -> u64 {
    x * x
}

#[remote]
fn numbers() -> impl Iterator<Item = u64> {
    0..3
}

#[remote(num_returns = 2)]
fn both() -> (u64, u64) {
    (1, 2)
}

struct Counter;

#[remote]
impl Counter {
    pub fn new() -> Self {
        Counter
    }

    pub fn ping(&self) {}
}

const NOT_RUNNING: &str =
    "raybolt is not running here; call `raybolt::init()` first and keep what it returns";

#[test]
fn without_a_session_everything_says_what_to_call() {
    let _turn = turn();
    let is_told = |error: Error| {
        assert_eq!(error.to_string(), NOT_RUNNING);
        assert_eq!(error.kind_name(), "not-initialized");
    };
    is_told(get(square::remote(3)).unwrap_err());
    is_told(get(square::options().name("x").remote(3)).unwrap_err());
    let (one, two) = both::remote();
    is_told(get((one, two)).unwrap_err());
    is_told(numbers::remote().next().unwrap().unwrap_err());
    let counter = Counter::remote();
    is_told(get(counter.ping()).unwrap_err());
    counter.kill();
    is_told(Counter::find("counter").unwrap_err());
    is_told(put(3).unwrap_err());
    is_told(wait(&[square::remote(3)], 1, None).unwrap_err());
    is_told(raybolt::cancel(&square::remote(3)).unwrap_err());
    is_told(raybolt::memory().unwrap_err());
    is_told(raybolt::resources().unwrap_err());
    is_told(raybolt::errors().unwrap_err());
    assert!(!raybolt::is_initialized() && !raybolt::is_cancelled());
    assert_eq!(raybolt::gpu_ids(), [0; 0]);
    assert_eq!(raybolt::blocking(|| 7), 7);
}

#[test]
fn a_second_session_is_refused_and_the_first_goes_on() -> Result<()> {
    let _session = session();
    assert!(raybolt::is_initialized());
    let error = raybolt::init().unwrap_err();
    let text = "raybolt runs here already; use the session there is, or drop it before another \
                `init`";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.kind_name(), "already-initialized");
    assert_eq!(get(square::remote(3))?, 9);
    Ok(())
}

#[test]
fn one_session_may_follow_another() -> Result<()> {
    for _ in 0..3 {
        let _session = session();
        assert_eq!(get(square::remote(3))?, 9);
    }
    Ok(())
}

#[test]
fn handles_outlive_their_session_without_harm() -> Result<()> {
    let running = session();
    let (ready, counter) = (put(3)?, Counter::remote());
    get(&ready)?;
    drop(running);
    let _session = session();
    assert_eq!(get(&ready)?, 3, "a value that is there stays");
    let error = get(counter.ping()).unwrap_err().to_string();
    assert_eq!(error, "actor `Counter` is gone: its session ended");
    assert_eq!(raybolt::memory()?.objects, 0);
    drop((ready, counter));
    Ok(())
}

#[remote]
fn held(place: &str) {
    common::pass(place);
}

#[test]
fn what_a_session_has_not_begun_at_its_end_fails() {
    let _turn = turn();
    let running = Builder::new().num_cpus(1.0).start().unwrap();
    let first = held::remote("end");
    common::await_in("end", 1);
    let second = square::options().name("second").remote(2);
    std::thread::scope(|scope| {
        scope.spawn(|| drop(running));
        let error = loop {
            match second.is_ready() {
                true => break get(&second).unwrap_err(),
                false => std::thread::yield_now(),
            }
        };
        let text = "the session ended before the result of task `second` was there";
        assert_eq!(error.to_string(), text);
        common::let_out("end");
    });
    assert!(get(&first).is_ok(), "what had begun was waited for");
}

#[test]
fn settings_must_make_sense() {
    let _turn = turn();
    let error =
        |builder: Builder| builder.log_level(LogLevel::Off).start().unwrap_err().to_string();
    let text = "the amount of `CPU` must be a number from 0 to 1,000,000,000";
    assert_eq!(error(Builder::new().num_cpus(-2.0)), text);
    let text = "the amount of `disk` must be a number from 0 to 1,000,000,000";
    assert_eq!(error(Builder::new().resource("disk", f64::INFINITY)), text);
    let text = "`worker_threads` must be from 1 to 32768, not 0";
    assert_eq!(error(Builder::new().worker_threads(0)), text);
    let text = "a log level (`RAYBOLT_LOG`) is off, error, warn, info, debug or trace, not `loud`";
    assert_eq!("loud".parse::<LogLevel>().unwrap_err().to_string(), text);
    assert_eq!("debug".parse::<LogLevel>().unwrap(), LogLevel::Debug);
}

#[test]
fn a_full_store_says_how_full_and_what_to_do() -> Result<()> {
    let _session = session_with(Builder::new().object_store_memory(1_000));
    let first = put(vec![0_u8; 600])?;
    let error = put(vec![0_u8; 600]).unwrap_err();
    let text = "no room for 608 bytes: objects fill 608 of 1000 bytes; drop references or raise \
                `object_store_memory`";
    assert_eq!(error.to_string(), text);
    drop(first);
    put(vec![0_u8; 600])?;
    Ok(())
}

#[test]
fn a_session_tells_what_it_is() {
    let running = session_with(
        Builder::new().num_cpus(2.0).num_gpus(1).resource("disk", 0.5).object_store_memory(1 << 20),
    );
    let text = running.session.to_string();
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.starts_with(&format!("raybolt {version} in one process: ")), "{text}");
    for part in ["CPU: 2, ", "GPU: 1, ", "disk: 0.5, ", "store: 1048576 bytes, "] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.ends_with("no address: nothing listens"), "{text}");
}

#[test]
fn every_kind_of_error_is_a_sentence() {
    let (task, actor) = (|| "f".to_owned(), || "A".to_owned());
    let because = || "it rains".to_owned();
    let after = Duration::from_millis(1500);
    let failed = |location: Option<&str>, attempt| TaskError {
        task: task(),
        attempt,
        message: "no luck".into(),
        causes: vec!["this".into(), "that".into()],
        location: location.map(Into::into),
        backtrace: None,
    };
    let sentences = [
        (Kind::NotInitialized, "not-initialized", NOT_RUNNING),
        (
            Kind::AlreadyInitialized,
            "already-initialized",
            "raybolt runs here already; use the session there is, or drop it before another `init`",
        ),
        (
            Kind::SessionEnded { what: "the end".into() },
            "session-ended",
            "the session ended before the end was there",
        ),
        (Kind::Invalid("`x` is wrong".into()), "invalid", "`x` is wrong"),
        (
            Kind::Task(failed(None, 0)),
            "task",
            "task `f` failed: no luck\n  caused by: this\n  caused by: that",
        ),
        (
            Kind::Task(failed(Some("a.rs:1:2"), 1)),
            "panic",
            "task `f` panicked at a.rs:1:2: no luck (attempt 2)\n  caused by: this\n  caused by: that",
        ),
        (Kind::Cancelled { task: task() }, "cancelled", "task `f` was cancelled"),
        (
            Kind::Deadline { task: task(), after },
            "deadline",
            "task `f` did not end within 1.5s (`deadline`)",
        ),
        (
            Kind::Timeout { what: "object-7".into(), after, because: because() },
            "timeout",
            "object-7 was not there within 1.5s (`timeout`): it rains",
        ),
        (
            Kind::Unschedulable {
                task: task(),
                because: "needs rain".into(),
                lever: "Sky::rain".into(),
            },
            "unschedulable",
            "`f` can never run: it needs rain (`Sky::rain`)",
        ),
        (Kind::Encode { task: task(), because: because() }, "encode", "`f`: it rains"),
        (
            Kind::StoreFull { needed: 3, used: 2, limit: 4 },
            "store-full",
            "no room for 3 bytes: objects fill 2 of 4 bytes; drop references or raise \
             `object_store_memory`",
        ),
        (
            Kind::ActorDied { actor: actor(), because: because() },
            "actor-died",
            "actor `A` is gone: it rains",
        ),
        (
            Kind::ActorBusy { actor: actor(), pending_max: 2 },
            "actor-busy",
            "actor `A` has 2 calls waiting, as many as it allows (`max_pending_calls`)",
        ),
        (
            Kind::Circle { members: vec!["task-1 `f`".into(), "task-2 `g`".into()] },
            "circle",
            "task-1 `f`, which waits for task-2 `g`, which waits for the first again: none of them \
             could go on; let calls of an actor run at once (`&self`, `max_concurrency`), or do not \
             wait inside of them",
        ),
        (Kind::ActorName("no `A` here".into()), "actor-name", "no `A` here"),
    ];
    for (kind, name, text) in sentences {
        let error = Error::new(kind);
        assert_eq!((error.kind_name(), &*error.to_string()), (name, text));
    }
}

#[test]
fn references_and_handles_are_not_read_from_bytes_in_one_process() -> Result<()> {
    let _session = session();
    let object = put(3)?;
    let bytes = raybolt_wire::value::encode(&object).expect("a reference can be written");
    let error = raybolt_wire::value::decode::<ObjectRef<i32>>(&bytes).unwrap_err();
    // The decoder has no words of its own for what a type says.
    assert!(error.to_string().contains("no value of type"), "{error}");
    Ok(())
}
