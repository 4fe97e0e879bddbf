//! Failures of user code: what reaches the caller, those who depend on it, and the report.

mod common;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{count, reach, session};
use raybolt::{FAILURES_MAX, ObjectRef, Result, errors, get, put, remote};
use serde::{Deserialize, Serialize, Serializer};

#[remote]
fn panics(text: &str) -> u64 {
    panic!("no luck with {text}")
}

#[remote]
fn double(x: u64) -> u64 {
    2 * x
}

#[test]
fn a_panic_has_message_place_and_stack() {
    let _session = session();
    let error = get(&panics::remote("this")).unwrap_err();
    let failed = error.task_error().expect("it is a failure of user code");
    assert_eq!(failed.message, "no luck with this");
    let location = failed.location.as_deref().unwrap();
    assert!(location.contains("tests/errors.rs:"), "{location}");
    let backtrace = failed.backtrace.as_deref().unwrap();
    assert!(backtrace.contains("errors::panics"), "{backtrace}");
    assert_eq!(
        error.to_string(),
        format!("task `panics` panicked at {location}: no luck with this")
    );
    assert!(format!("{error:?}").contains("errors::panics"), "what `main` shows has the stack");
    assert_eq!(error.kind_name(), "panic");
}

#[test]
fn a_worker_outlives_panics() -> Result<()> {
    let _session = session();
    let failed: Vec<_> = (0..100).map(|_| panics::remote("any")).collect();
    assert!(failed.iter().all(|object| get(object).is_err()));
    assert_eq!(get(&double::remote(2))?, 4);
    Ok(())
}

#[remote]
fn panics_with_a_number() {
    std::panic::panic_any(7);
}

#[remote]
async fn panics_later() {
    panics_inside().await;
}

async fn panics_inside() {
    panic!("too late");
}

#[test]
fn any_panic_is_an_error() {
    let _session = session();
    let error = get(&panics_with_a_number::remote()).unwrap_err();
    assert_eq!(error.task_error().unwrap().message, "a panic without a text");
    let error = get(&panics_later::remote()).unwrap_err();
    assert_eq!(error.task_error().unwrap().message, "too late");
}

/// An error with two causes below it.
#[derive(Debug)]
struct Layer(u32);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {}", self.0)
    }
}

impl std::error::Error for Layer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.0 {
            0 => Some(&Layer(1)),
            1 => Some(&Layer(2)),
            _ => None,
        }
    }
}

#[remote]
fn returns_an_error() -> Result<u64, Layer> {
    Err(Layer(0))
}

#[test]
fn a_returned_error_arrives_with_its_causes() {
    let _session = session();
    let error = get(&returns_an_error::remote()).unwrap_err();
    let failed = error.task_error().unwrap();
    assert_eq!(failed.message, "layer 0");
    assert_eq!(failed.causes, ["layer 1", "layer 2"]);
    assert_eq!((&failed.location, &failed.backtrace), (&None, &None));
    let text =
        "task `returns_an_error` failed: layer 0\n  caused by: layer 1\n  caused by: layer 2";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.kind_name(), "task");
}

#[test]
fn a_failure_goes_through_all_who_depend_on_it() {
    let _session = session();
    let failed = returns_an_error::remote();
    let next = double::remote(&failed);
    let last = double::remote(double::remote(&next));
    for object in [&failed, &next, &last] {
        let error = get(object).unwrap_err();
        assert_eq!(error.task_error().unwrap().task, "returns_an_error");
    }
}

#[remote]
fn asks(object: ObjectRef<u64>) -> Result<u64> {
    get(object)
}

#[test]
fn a_failure_that_a_task_passes_on_names_both() {
    let _session = session();
    let error = get(&asks::remote(put(panics::remote("that")).unwrap())).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("task `asks` failed: task `panics` panicked at "), "{text}");
    assert!(text.ends_with(": no luck with that"), "{text}");
}

#[test]
fn the_report_lists_what_failed_oldest_first() -> Result<()> {
    let _session = session();
    assert!(errors()?.is_empty());
    let _ = get(&returns_an_error::remote());
    let _ = get(&panics::remote("it"));
    let reports = errors()?;
    let lines: Vec<_> = reports
        .iter()
        .map(|report| (report.kind, &*report.error.task, &*report.error.message))
        .collect();
    let expected =
        [("task", "returns_an_error", "layer 0"), ("panic", "panics", "no luck with it")];
    assert_eq!(lines, expected);
    assert!(reports[0].time <= reports[1].time);
    Ok(())
}

#[remote]
fn fails_with(n: usize) -> Result<(), String> {
    Err(n.to_string())
}

#[test]
fn the_report_forgets_the_oldest() -> Result<()> {
    let _session = session();
    for n in 0..=FAILURES_MAX {
        let _ = get(&fails_with::remote(n));
    }
    let reports = errors()?;
    assert_eq!(reports.len(), FAILURES_MAX);
    assert_eq!(reports[0].error.message, "1");
    Ok(())
}

#[remote]
fn third_time(place: &str) -> Result<usize, String> {
    reach(place);
    match count(place) {
        n @ 1..3 => Err(format!("busy at {n}")),
        n => Ok(n),
    }
}

#[test]
fn what_is_worth_it_is_tried_again() -> Result<()> {
    let _session = session();
    let patient = || third_time::options().retry_on(|error| error.message.starts_with("busy"));
    assert_eq!(get(&patient().remote("patient"))?, 3);
    assert!(errors()?.is_empty(), "what succeeds in the end has not failed");
    let error = get(&patient().max_retries(1).remote("less patient")).unwrap_err();
    assert_eq!(error.to_string(), "task `third_time` failed: busy at 2 (attempt 2)");
    assert_eq!(errors()?.len(), 1);
    let error = get(&third_time::remote("not patient")).unwrap_err();
    assert_eq!(error.to_string(), "task `third_time` failed: busy at 1");
    Ok(())
}

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

#[remote]
async fn second_time(words: Vec<String>) -> String {
    assert!(ATTEMPTS.fetch_add(1, Ordering::Relaxed) > 0, "first time");
    words.concat()
}

#[test]
fn another_attempt_has_the_same_arguments() -> Result<()> {
    let _session = session();
    let words = vec!["a".to_owned(), "b".to_owned()];
    let object = second_time::options().retry_on(|error| error.location.is_some()).remote(words);
    assert_eq!(get(&object)?, "ab");
    Ok(())
}

/// A value that will not be written.
#[derive(Clone, Debug, Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a secret stays where it is"))
    }
}

#[remote]
fn takes(_: Vec<Secret>) {}

#[remote]
fn gives() -> Secret {
    Secret
}

#[test]
fn a_value_that_cannot_travel_is_an_error_that_names_its_type() {
    let _session = session();
    let because = "cannot be serialized: a secret stays where it is";
    let error = get(&takes::remote(vec![Secret])).unwrap_err();
    let text = format!("`takes`: a value of type `alloc::vec::Vec<errors::Secret>` {because}");
    assert_eq!(error.to_string(), text);
    let error = get(&takes::options().name("other").remote(vec![Secret])).unwrap_err();
    assert!(error.to_string().starts_with("`other`: "), "{error}");
    let error = get(&gives::remote()).unwrap_err();
    assert_eq!(error.to_string(), format!("`gives`: a value of type `errors::Secret` {because}"));
    let error = put(Secret).unwrap_err();
    assert_eq!(error.to_string(), format!("`put`: a value of type `errors::Secret` {because}"));
    assert_eq!(error.kind_name(), "encode");
}
