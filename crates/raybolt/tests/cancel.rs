//! Cancelling, and deadlines.

mod common;

use std::time::Duration;

use common::{SOON, await_count, await_in, count, let_out, pass, reach, session, session_with};
use raybolt::{
    Builder, CallOptions, Error, ObjectRef, Result, cancel, get, get_timeout, is_cancelled, put,
    remote, wait,
};

const NOT_LONG: Duration = Duration::from_millis(20);

#[remote]
fn held(place: &str) -> u64 {
    pass(place);
    1
}

#[remote]
fn counts(place: &str, _after: u64) {
    reach(place);
}

/// Goes on until it is asked to stop.
#[remote]
fn patient(place: &str) {
    reach(&format!("{place} begun"));
    while !is_cancelled() {
        std::thread::yield_now();
    }
    reach(&format!("{place} stopped"));
}

#[test]
fn a_queued_task_never_runs() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(1.0));
    let first = held::remote("queued");
    await_in("queued", 1);
    let second = counts::remote("queued ran", 0);
    cancel(&second)?;
    let error = get(&second).unwrap_err();
    assert_eq!(error.to_string(), "task `counts` was cancelled");
    assert!(error.is_cancelled());
    let_out("queued");
    get(&first)?;
    get(&counts::remote("queued after", 0))?;
    assert_eq!(count("queued ran"), 0);
    Ok(())
}

#[test]
fn a_task_that_waits_for_arguments_never_runs() -> Result<()> {
    let _session = session();
    let first = held::remote("arguments");
    let second = counts::remote("arguments ran", &first);
    cancel(&second)?;
    assert!(get(&second).unwrap_err().is_cancelled());
    let_out("arguments");
    get(&first)?;
    assert_eq!(count("arguments ran"), 0);
    Ok(())
}

#[test]
fn a_running_task_is_asked_to_stop_and_its_caller_told_at_once() -> Result<()> {
    let _session = session();
    let object = patient::remote("running");
    await_count("running begun", 1);
    cancel(&object)?;
    assert_eq!(get(&object).unwrap_err().to_string(), "task `patient` was cancelled");
    await_count("running stopped", 1);
    Ok(())
}

#[remote]
fn double(x: u64) -> u64 {
    2 * x
}

#[test]
fn who_depends_on_a_cancelled_task_is_told() -> Result<()> {
    let _session = session();
    let first = held::remote("depends");
    await_in("depends", 1);
    let second = double::remote(&first);
    cancel(&first)?;
    assert_eq!(get(&second).unwrap_err().to_string(), "task `held` was cancelled");
    let_out("depends");
    Ok(())
}

#[test]
fn what_is_there_stays() -> Result<()> {
    let _session = session();
    let object = double::remote(2);
    get(&object)?;
    cancel(&object)?;
    assert_eq!(get(&object)?, 4);
    let object = put(3)?;
    cancel(&object)?;
    assert_eq!(get(&object)?, 3);
    Ok(())
}

#[test]
fn nobody_is_cancelled_outside_a_task() {
    let _session = session();
    assert!(!is_cancelled());
}

#[remote]
async fn never() {
    std::future::pending::<()>().await;
}

#[test]
fn an_async_task_is_cancelled_too() -> Result<()> {
    let _session = session();
    let object = never::remote();
    cancel(&object)?;
    assert!(get(&object).unwrap_err().is_cancelled());
    Ok(())
}

/// Calls with a deadline, longer each time, until `patient` begins at `place` before it is over: how soon a task
/// begins is the machine's affair. Says what the call failed with, and its deadline.
fn overdue(place: &str, call: impl Fn(Duration) -> ObjectRef<()>) -> (Error, Duration) {
    let mut deadline = NOT_LONG;
    loop {
        let error = get(&call(deadline)).unwrap_err();
        if count(&format!("{place} begun")) > 0 {
            return (error, deadline);
        }
        deadline *= 2;
    }
}

#[test]
fn a_deadline_ends_the_wait_and_the_task() {
    let _session = session();
    let call = |deadline| patient::options().deadline(deadline).remote("deadline");
    let (error, deadline) = overdue("deadline", call);
    let text = format!("task `patient` did not end within {deadline:?} (`deadline`)");
    assert_eq!(error.to_string(), text);
    assert!(error.is_deadline());
    await_count("deadline stopped", 1);
}

#[test]
fn a_deadline_also_ends_the_wait_in_the_queue() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(1.0));
    let first = held::remote("late");
    await_in("late", 1);
    let second = counts::options().deadline(NOT_LONG).name("second").remote("late ran", 0);
    let error = get(&second).unwrap_err();
    assert_eq!(error.to_string(), "task `second` did not end within 20ms (`deadline`)");
    let_out("late");
    get(&first)?;
    assert_eq!(count("late ran"), 0);
    Ok(())
}

#[test]
fn what_is_done_in_time_stays() -> Result<()> {
    let _session = session();
    let object = double::options().deadline(SOON).remote(2);
    assert_eq!(get(&object)?, 4);
    Ok(())
}

#[remote]
fn calls_patient(place: &str) -> Result<()> {
    get(&patient::options().deadline(SOON).remote(place))
}

#[test]
fn a_deadline_travels_to_the_tasks_that_are_called() {
    let _session = session();
    let call = |deadline| calls_patient::options().deadline(deadline).remote("travels");
    assert!(overdue("travels", call).0.is_deadline());
    await_count("travels stopped", 1);
}

struct Worker;

#[remote]
impl Worker {
    pub fn new() -> Self {
        Worker
    }

    pub fn hold(&mut self, place: &str) {
        pass(place);
    }

    pub fn count(&mut self, place: &str) {
        reach(place);
    }

    pub fn work(&mut self, place: &str) {
        patient(place);
    }
}

#[test]
fn calls_of_actors_are_cancelled_like_tasks() -> Result<()> {
    let _session = session();
    let worker = Worker::remote();
    let running = worker.work("call");
    await_count("call begun", 1);
    let queued = worker.count("call ran");
    cancel(&queued)?;
    assert!(get(&queued).unwrap_err().is_cancelled());
    cancel(&running)?;
    let error = get(&running).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    await_count("call stopped", 1);
    get(&worker.count("call after"))?;
    assert_eq!((count("call ran"), count("call after")), (0, 1));
    Ok(())
}

#[test]
fn calls_of_actors_have_deadlines_and_names() -> Result<()> {
    let _session = session();
    let worker = Worker::remote();
    let held = worker.hold("patience");
    await_in("patience", 1);
    let options = CallOptions::new().deadline(NOT_LONG).name("impatient");
    let late = worker.with(options).count("patience ran");
    let error = get(&late).unwrap_err();
    assert_eq!(error.to_string(), "task `impatient` did not end within 20ms (`deadline`)");
    let_out("patience");
    get(&held)?;
    get(&worker.count("patience after"))?;
    assert_eq!(count("patience ran"), 0);
    Ok(())
}

#[test]
fn a_cancelled_task_is_ready() -> Result<()> {
    let _session = session();
    let object = patient::remote("ready");
    cancel(&object)?;
    let (ready, _) = wait(std::slice::from_ref(&object), 1, Some(SOON))?;
    assert!(get_timeout(&ready[0], SOON).unwrap_err().is_cancelled());
    Ok(())
}
