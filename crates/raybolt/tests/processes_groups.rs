//! Placement groups whose tasks run in worker processes.
//!
//! A program of its own, since its workers are this very file started again.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use raybolt::inspect::placement_groups;
use raybolt::{
    Builder, Bundle, LogLevel, PlacementGroup, PlacementStrategy, Result, get, get_timeout,
    is_cancelled, placement_group, remote,
};

use cases::{Case, Harness};

const SOON: Duration = Duration::from_secs(60);

const CASES: &[Case<Result<()>>] = &[
    ("a task of a group runs in a worker", in_a_worker),
    ("a group is passed to a worker, whose tasks run in it", passed),
    ("a worker waits for a group", waits_in_a_worker),
    ("groups are made and removed by workers too", made_by_workers),
    ("what is wrong with a task of a worker is its error", refused),
    ("removal ends what runs in a worker", removed),
    ("an actor lives in a bundle and ends with its group", actors),
];

fn main() -> ExitCode {
    let builder = Builder::new().processes(2).num_cpus(4.0).log_level(LogLevel::Off);
    let session = builder.start().expect("the session starts");
    let mut harness = Harness::new();
    harness.all(CASES);
    drop(session);
    harness.end()
}

#[remote]
fn process() -> u32 {
    std::process::id()
}

#[remote]
fn inner(group: PlacementGroup) -> Result<u32> {
    get(process::options().placement_group(&group, Some(1)).remote())
}

#[remote]
fn waits(group: PlacementGroup) -> Result<bool> {
    group.wait(SOON)?;
    get(group.ready())?;
    Ok(true)
}

#[remote]
fn makes() -> Result<PlacementGroup> {
    placement_group([Bundle::new().num_cpus(1.0)], PlacementStrategy::Pack).name("made").create()
}

#[remote]
fn removes(group: PlacementGroup) -> Result<()> {
    group.remove()
}

#[remote]
fn asks_too_much(group: PlacementGroup) -> String {
    let options = process::options().num_cpus(3.0).placement_group(&group, None);
    get(options.remote()).unwrap_err().to_string()
}

#[remote]
fn patient() {
    while !is_cancelled() {
        std::thread::yield_now();
    }
}

struct Painter;

#[remote(num_cpus = 1)]
impl Painter {
    pub fn new() -> Self {
        Painter
    }

    pub fn place(&self) -> u32 {
        std::process::id()
    }
}

fn two(name: &str) -> Result<PlacementGroup> {
    let one = Bundle::new().num_cpus(1.0);
    placement_group([one.clone(), one], PlacementStrategy::Pack).name(name).create()
}

fn in_a_worker() -> Result<()> {
    let group = two("plain")?;
    let worker = get(process::options().placement_group(&group, Some(0)).remote())?;
    assert_ne!(worker, std::process::id());
    group.remove()
}

fn passed() -> Result<()> {
    let group = two("passed")?;
    let task = inner::options().placement_group(&group, Some(0)).remote(group.clone());
    assert_ne!(get(task)?, std::process::id());
    group.remove()
}

fn waits_in_a_worker() -> Result<()> {
    let group = two("awaited")?;
    assert!(get(waits::remote(group.clone()))?);
    group.remove()
}

fn made_by_workers() -> Result<()> {
    // It outlives the task that has made it: the driver has it.
    let group = get(makes::remote())?;
    group.wait(SOON)?;
    assert_ne!(
        get(process::options().placement_group(&group, Some(0)).remote())?,
        std::process::id()
    );
    get(removes::remote(group.clone()))?;
    let error = get(process::options().placement_group(&group, None).remote()).unwrap_err();
    let text = "`process` was in placement group `made`, which was removed";
    assert_eq!(error.to_string(), text);
    Ok(())
}

fn refused() -> Result<()> {
    let group = two("small")?;
    let text = "`process` can never run: it needs CPU: 3, the largest bundle of its placement group \
                has 1 (`Bundle::num_cpus`)";
    assert_eq!(get(asks_too_much::remote(group.clone()))?, text);
    group.remove()?;
    let text = "`process` was in placement group `small`, which was removed";
    assert_eq!(get(asks_too_much::remote(group))?, text);
    Ok(())
}

fn removed() -> Result<()> {
    let group = two("gone")?;
    let task = patient::options().placement_group(&group, Some(0)).remote();
    let late = Instant::now() + SOON;
    while placement_groups(9)?.items[0].leases == 0 {
        assert!(Instant::now() < late, "the task does not start");
        std::thread::yield_now();
    }
    group.remove()?;
    let error = get_timeout(task, SOON).unwrap_err();
    assert_eq!(error.to_string(), "`patient` was in placement group `gone`, which was removed");
    // What it held comes back when it has stopped.
    get_timeout(process::options().num_cpus(4.0).remote(), SOON)?;
    Ok(())
}

fn actors() -> Result<()> {
    let group = two("studio")?;
    let painter = Painter::options().placement_group(&group, Some(0)).remote();
    assert_ne!(get(painter.place())?, std::process::id());
    assert_eq!(placement_groups(9)?.items[0].leases, 1);
    let second = Painter::options().placement_group(&group, Some(0)).remote();
    let call = second.place();
    group.remove()?;
    let text = "actor `Painter` is gone: its placement group `studio` was removed";
    assert_eq!(get_timeout(call, SOON).unwrap_err().to_string(), text);
    assert_eq!(get_timeout(painter.place(), SOON).unwrap_err().to_string(), text);
    get_timeout(process::options().num_cpus(4.0).remote(), SOON)?;
    Ok(())
}
