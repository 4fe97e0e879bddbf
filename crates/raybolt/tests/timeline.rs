//! The timeline: a trace that tools open, with what ran inside of what.

mod common;

use std::collections::BTreeMap;

use common::{SOON, session, session_with};
use raybolt::{Builder, Result, get, get_timeout, inspect, remote};
use serde_json::Value;

#[remote]
fn leaf(x: u64) -> u64 {
    x
}

/// Runs leaves on its own stack.
#[remote]
fn branch(x: u64) -> Result<u64> {
    let leaves: Vec<_> = (0..x).map(leaf::remote).collect();
    Ok(get(leaves)?.into_iter().sum())
}

#[remote]
async fn later(x: u64) -> u64 {
    tokio::task::yield_now().await;
    x
}

struct Clerk;

#[remote]
impl Clerk {
    pub fn new() -> Self {
        Clerk
    }

    pub fn serve(&mut self, x: u64) -> u64 {
        x
    }
}

fn with_timeline() -> common::Running {
    session_with(Builder::new().num_cpus(2.0).timeline(true))
}

/// The events of the trace, after what every tool demands of them was checked.
fn events() -> Vec<Value> {
    let trace: Value = serde_json::from_str(&inspect::timeline().unwrap().to_string()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap().clone();
    for event in &events {
        assert!(
            event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(),
            "{event}"
        );
        match event["ph"].as_str().unwrap() {
            "X" => assert!(
                event["ts"].as_f64().unwrap() >= 0.0 && event["dur"].as_f64().unwrap() >= 0.0
            ),
            "b" | "e" => {
                assert!(
                    event["ts"].is_f64() && event["id"].is_string() && event["cat"].is_string()
                );
            }
            "M" => assert!(event["args"]["name"].is_string()),
            other => panic!("{other}: {event}"),
        }
    }
    events
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["name"] == name && event["ph"] != "e").collect()
}

#[test]
fn what_ran_is_told_by_name_and_id() -> Result<()> {
    let _session = with_timeline();
    let object = leaf::options().name("by another name").remote(1);
    get(&object)?;
    get_timeout(&leaf::remote(2), SOON)?;
    let clerk = Clerk::remote();
    get(clerk.serve(1))?;
    get_timeout(&later::remote(3), SOON)?;
    let events = events();
    let task = named(&events, "by another name")[0];
    assert_eq!((&task["cat"], &task["ph"]), (&"task".into(), &"X".into()));
    assert!(task["args"]["id"].as_str().unwrap().starts_with("task-"));
    assert_eq!(named(&events, "leaf").len(), 1);
    assert_eq!(named(&events, "Clerk::serve")[0]["cat"], "call");
    assert_eq!(named(&events, "Clerk")[0]["cat"], "constructor");
    let later: Vec<_> = events.iter().filter(|event| event["name"] == "later").collect();
    let phases: Vec<_> = later.iter().map(|event| event["ph"].as_str().unwrap()).collect();
    assert_eq!(phases, ["b", "e"]);
    assert_eq!(later[0]["id"], later[1]["id"]);
    let process = named(&events, "process_name")[0];
    assert_eq!(process["args"]["name"], format!("driver ({})", std::process::id()));
    let threads = named(&events, "thread_name");
    for event in events.iter().filter(|event| event["ph"] == "X") {
        assert!(threads.iter().any(|thread| thread["tid"] == event["tid"]), "{event}");
    }
    Ok(())
}

/// TIME-2: spans of one thread lie inside each other or beside each other.
#[test]
fn spans_of_a_thread_are_nested() -> Result<()> {
    let _session = with_timeline();
    let branches: Vec<_> = (0..50).map(branch::remote).collect();
    get(branches)?;
    let events = events();
    assert_eq!(named(&events, "branch").len(), 50);
    assert_eq!(named(&events, "leaf").len(), (0..50).sum::<usize>());
    let mut threads: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let start = event["ts"].as_f64().unwrap();
        let span = (start, start + event["dur"].as_f64().unwrap());
        threads.entry(event["tid"].as_u64().unwrap()).or_default().push(span);
    }
    let mut nested = 0;
    for spans in threads.values_mut() {
        spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<f64> = Vec::new();
        for (start, end) in spans {
            // Times are told in parts of a microsecond, as fractions that are a little off.
            let slack = 0.000_5;
            while open.last().is_some_and(|last| *last <= *start + slack) {
                open.pop();
            }
            assert!(open.last().is_none_or(|last| *end <= *last + slack), "they overlap");
            nested += usize::from(!open.is_empty());
            open.push(*end);
        }
    }
    assert!(nested > 0, "leaves ran on their branches' stacks");
    Ok(())
}

#[test]
fn without_being_asked_to_a_session_keeps_nothing() -> Result<()> {
    {
        let _session = with_timeline();
        get(leaf::remote(1))?;
        assert_eq!(named(&events(), "leaf").len(), 1);
    }
    let _session = session();
    get(leaf::remote(1))?;
    assert!(named(&events(), "leaf").is_empty(), "and what an earlier one kept is gone");
    Ok(())
}
