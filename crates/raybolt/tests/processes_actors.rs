//! Actors in worker processes: the same program as in one process, and what is different when a process
//! dies.
//!
//! A worker is this executable started again, so `main` begins with a session; the cases run one after
//! the other in sessions of their own.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

#[path = "common/elsewhere.rs"]
mod elsewhere;

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use raybolt::{Builder, CallOptions, LogLevel, ObjectRef, Result, get, kill, put, remote};

use cases::{Case, Harness};
use elsewhere::{Gate, knock, pass};

const CASES: &[Case<Result<()>>] = &cases![
    calls_run_in_the_order_of_their_caller_in_another_process,
    failures_name_the_method_and_the_actor_goes_on,
    arguments_may_be_objects_and_hold_back_their_caller_alone,
    a_constructor_that_fails_fails_the_calls,
    an_actor_ends_when_its_last_handle_is_dropped_after_its_calls,
    a_killed_actor_fails_its_waiting_calls_and_runs_no_more,
    groups_run_beside_each_other_within_their_limits,
    a_cancelled_call_does_not_run,
    a_call_past_its_deadline_fails,
    an_actor_with_too_many_calls_says_so,
    named_actors_are_found_and_detached_ones_stay,
    an_actor_holds_its_resources_as_long_as_it_lives,
    handles_travel_to_tasks_and_back,
    an_actor_lives_as_long_as_a_worker_has_a_handle,
    actors_call_others_and_themselves,
    tasks_find_and_make_named_actors,
    a_worker_that_dies_takes_its_actors_along_and_the_error_says_how,
    an_actor_that_may_begins_anew_and_lost_calls_are_made_again,
    an_actor_begins_anew_without_calls_that_may_not_be_repeated,
];

fn main() -> ExitCode {
    let mut harness = Harness::new();
    let builder = Builder::new().processes(2).resource("arm", 1.0).log_level(LogLevel::Off);
    harness.in_sessions(&builder, CASES);
    harness.end()
}

struct Counter {
    value: u64,
    last_words: String,
}

#[remote(concurrency_groups(side = 2))]
impl Counter {
    pub fn new(start: u64) -> Self {
        Counter { value: start, last_words: String::new() }
    }

    pub fn add(&mut self, x: u64) -> u64 {
        self.value += x;
        self.value
    }

    pub fn value(&self) -> u64 {
        self.value
    }

    pub fn hold(&mut self, gate: String) -> u64 {
        pass(&gate);
        self.value
    }

    #[method(concurrency_group = "side")]
    pub fn look(&self, gate: String) -> u64 {
        pass(&gate);
        self.value
    }

    pub fn fail(&mut self, text: String) -> Result<u64, String> {
        self.value += 1;
        Err(text)
    }

    pub fn panic(&mut self) {
        panic!("a bad day");
    }

    pub async fn later(&mut self, x: u64) -> u64 {
        tokio::task::yield_now().await;
        self.value += x;
        self.value
    }

    #[method(num_returns = 2)]
    pub fn both(&self) -> (u64, String) {
        (self.value, "both".into())
    }

    pub fn process(&self) -> u32 {
        std::process::id()
    }

    pub fn say_at_the_end(&mut self, gate: String) {
        self.last_words = gate;
    }

    pub fn abort(&mut self) {
        std::process::abort();
    }

    pub fn count_down(&mut self) -> impl Iterator<Item = u64> {
        0..self.value
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if !self.last_words.is_empty() {
            let mut stream = knock(&self.last_words).unwrap();
            stream.write_all(b"gone").unwrap();
        }
    }
}

struct Picky;

#[remote]
impl Picky {
    pub fn new(text: String) -> Result<Self, String> {
        if text == "fine" { Ok(Picky) } else { Err(format!("`{text}` is not fine")) }
    }

    pub fn nod(&self) -> bool {
        true
    }
}

#[remote]
fn twice(x: u64) -> u64 {
    2 * x
}

#[remote]
fn slow(gate: String) -> u64 {
    pass(&gate);
    1_000
}

#[remote]
fn adds(counter: CounterHandle, x: u64) -> Result<u64> {
    get(counter.add(x))
}

#[remote]
fn makes(start: u64) -> Result<CounterHandle> {
    let counter = Counter::remote(start);
    get(counter.add(1))?;
    Ok(counter)
}

#[remote]
fn tallies(name: String, x: u64) -> Result<u64> {
    let counter = Counter::options().name(name.as_str()).get_if_exists().detached().remote(100);
    get(counter.add(twice::remote(x)))?;
    get(Counter::find(&name)?.value())
}

#[remote]
fn fails_to_find(name: String) -> Result<u64> {
    get(Picky::find(&name)?.nod()).map(u64::from)
}

#[remote]
fn keeps(counter: CounterHandle, gate: String) -> Result<u64> {
    pass(&gate);
    get(counter.add(1))
}

#[remote]
fn ends(counter: CounterHandle) {
    kill(&counter);
}

/// Holds a handle to another actor, and passes calls on.
struct Relay {
    next: Option<CounterHandle>,
    itself: Option<RelayHandle>,
}

#[remote(max_concurrency = 2)]
impl Relay {
    pub fn new(next: Option<CounterHandle>) -> Self {
        Relay { next, itself: None }
    }

    pub fn add(&self, x: u64) -> Result<u64> {
        match &self.next {
            Some(next) => get(next.add(x)),
            None => Ok(0),
        }
    }

    pub fn know(&mut self, itself: RelayHandle) {
        self.itself = Some(itself);
    }

    pub fn next(&self) -> Option<CounterHandle> {
        self.next.clone()
    }

    /// Calls itself: both calls run at once.
    pub fn twice(&self, x: u64) -> Result<u64> {
        let itself = self.itself.as_ref().expect("it was told");
        Ok(get(itself.add(x))? + x)
    }

    /// Waits for a call of its own that cannot start.
    pub fn knot(&mut self) -> Result<u64> {
        let itself = self.itself.clone().expect("it was told");
        get(itself.add(1))
    }
}

fn handles_travel_to_tasks_and_back() -> Result<()> {
    let counter = Counter::remote(1);
    let tasks: Vec<_> = (0..20).map(|_| adds::remote(counter.clone(), 1)).collect();
    get(&tasks)?;
    assert_eq!(get(counter.value())?, 21);
    let made = get(makes::remote(7))?;
    assert_eq!(get(made.add(1))?, 9, "it outlives the task that made it");
    assert_eq!(get(adds::remote(made.clone(), 1))?, 10);
    let error = get(counter.add(ends_and_value(&made)?)).unwrap_err();
    assert!(error.is_actor_died(), "{error}");
    Ok(())
}

fn ends_and_value(counter: &CounterHandle) -> Result<ObjectRef<u64>> {
    get(ends::remote(counter.clone()))?;
    Ok(counter.value())
}

fn an_actor_lives_as_long_as_a_worker_has_a_handle() -> Result<()> {
    let (gate, last) = (Gate::new("keeps"), Gate::new("keeps-last"));
    let counter = Counter::remote(1);
    counter.say_at_the_end(last.name());
    let kept = keeps::remote(counter, gate.name());
    drop(gate.entered());
    assert_eq!(get(kept)?, 2);
    let mut words = String::new();
    last.entered().1.read_to_string(&mut words).unwrap();
    assert_eq!(words, "gone");
    Ok(())
}

fn actors_call_others_and_themselves() -> Result<()> {
    let counter = Counter::remote(1);
    let relay = Relay::remote(Some(counter.clone()));
    assert_eq!(get(relay.add(1))?, 2);
    assert_eq!(get(get(relay.next())?.expect("it has one").value())?, 2);
    get(relay.know(relay.clone()))?;
    assert_eq!(get(relay.twice(5))?, 12);
    let error = get(relay.knot()).unwrap_err().to_string();
    assert!(error.contains("waits for a call of its own"), "{error}");
    kill(&relay); // It holds itself.
    Ok(())
}

fn tasks_find_and_make_named_actors() -> Result<()> {
    assert_eq!(get(tallies::remote("tally", 1))?, 102);
    assert_eq!(get(tallies::remote("tally", 2))?, 106);
    assert_eq!(get(Counter::find("tally")?.value())?, 106);
    let error = get(fails_to_find::remote("tally")).unwrap_err().to_string();
    assert!(error.contains("actor `tally` is a `Counter`, not a `Picky`"), "{error}");
    let error = get(fails_to_find::remote("tall")).unwrap_err().to_string();
    assert!(error.contains("no actor is named `tall`; did you mean `tally`?"), "{error}");
    Ok(())
}

fn a_worker_that_dies_takes_its_actors_along_and_the_error_says_how() -> Result<()> {
    let counter = Counter::remote(0);
    get(counter.add(1))?;
    let (dying, behind) = (counter.abort(), counter.add(1));
    for error in [get(dying).unwrap_err(), get(behind).unwrap_err()] {
        assert!(error.is_actor_died(), "{error}");
        assert!(error.to_string().contains("it was killed by signal 6 (SIGABRT)"), "{error}");
    }
    assert!(get(counter.value()).unwrap_err().is_actor_died());
    assert_eq!(get(Counter::remote(5).value())?, 5, "the session lives on");
    Ok(())
}

fn an_actor_that_may_begins_anew_and_lost_calls_are_made_again() -> Result<()> {
    let counter = Counter::options().max_restarts(1).max_task_retries(1).remote(10);
    let first = get(counter.process())?;
    get(counter.add(1))?;
    let gate = Gate::new("restart");
    let held = counter.hold(gate.name());
    let entered = gate.entered();
    let after: Vec<_> = (0..100).map(|_| counter.add(1)).collect();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(first as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    drop(entered);
    drop(gate.entered()); // Its second try, in the second life.
    assert_eq!(get(held)?, 10, "the state is new");
    assert_eq!(get(&after)?, (11..=110).collect::<Vec<_>>(), "in order, each once");
    assert_ne!(get(counter.process())?, first);
    let error = get(counter.abort()).unwrap_err();
    assert!(error.is_actor_died(), "{error}");
    Ok(())
}

fn an_actor_begins_anew_without_calls_that_may_not_be_repeated() -> Result<()> {
    let counter = Counter::options().max_restarts(1).remote(10);
    let dying = counter.abort();
    let error = get(dying).unwrap_err().to_string();
    assert!(error.contains("it was killed by signal 6 (SIGABRT)"), "{error}");
    assert_eq!(get(counter.add(1))?, 11);
    Ok(())
}

fn calls_run_in_the_order_of_their_caller_in_another_process() -> Result<()> {
    let counter = Counter::remote(0);
    let values: Vec<_> = (0..10_000).map(|_| counter.add(1)).collect();
    assert_eq!(get(&values)?, (1..=10_000).collect::<Vec<_>>());
    assert_ne!(get(counter.process())?, std::process::id());
    assert_eq!(get(counter.later(5))?, 10_005);
    assert_eq!(get(counter.both())?, (10_005, "both".into()));
    Ok(())
}

fn failures_name_the_method_and_the_actor_goes_on() -> Result<()> {
    let counter = Counter::remote(0);
    let error = get(counter.fail("no number")).unwrap_err();
    assert_eq!(error.to_string(), "task `Counter::fail` failed: no number");
    let error = get(counter.panic()).unwrap_err().to_string();
    assert!(error.starts_with("task `Counter::panic` panicked at "), "{error}");
    assert!(error.ends_with(": a bad day"), "{error}");
    assert_eq!(get(counter.value())?, 1);
    let items = counter.count_down().map(|item| item.and_then(get));
    assert_eq!(items.collect::<Result<Vec<_>>>()?, [0]);
    Ok(())
}

fn arguments_may_be_objects_and_hold_back_their_caller_alone() -> Result<()> {
    let gate = Gate::new("argument");
    let counter = Counter::remote(put(7)?);
    assert_eq!(get(counter.add(twice::remote(4)))?, 15);
    let argument = slow::remote(gate.name());
    let entered = gate.entered();
    let first = counter.add(&argument);
    let second = counter.add(1);
    let other = counter.clone();
    let theirs = std::thread::spawn(move || get(other.add(1))).join().unwrap()?;
    assert_eq!(theirs, 16, "another caller comes first");
    assert!(!first.is_ready() && !second.is_ready());
    drop(entered);
    assert_eq!(get((&first, &second))?, (1_016, 1_017));
    let error = get(counter.add(counter.fail("no number"))).unwrap_err();
    assert_eq!(error.to_string(), "task `Counter::fail` failed: no number");
    Ok(())
}

fn a_constructor_that_fails_fails_the_calls() -> Result<()> {
    assert!(get(Picky::remote("fine").nod())?);
    let error = get(Picky::remote("so so").nod()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "actor `Picky` is gone: its constructor failed: task `Picky` failed: `so so` is not fine"
    );
    let broken: ObjectRef<u64> = Counter::remote(1).fail("no start");
    let error = get(Counter::remote(broken).value()).unwrap_err().to_string();
    assert!(
        error.contains("its constructor failed: task `Counter::fail` failed: no start"),
        "{error}"
    );
    Ok(())
}

fn an_actor_ends_when_its_last_handle_is_dropped_after_its_calls() -> Result<()> {
    let gate = Gate::new("last-words");
    let counter = Counter::remote(0);
    counter.say_at_the_end(gate.name());
    let value = counter.add(1);
    drop(counter);
    let mut words = String::new();
    gate.entered().1.read_to_string(&mut words).unwrap();
    assert_eq!(words, "gone");
    assert_eq!(get(value)?, 1);
    Ok(())
}

fn a_killed_actor_fails_its_waiting_calls_and_runs_no_more() -> Result<()> {
    let gate = Gate::new("kill");
    let counter = Counter::remote(0);
    let running = counter.hold(gate.name());
    let entered = gate.entered();
    let waiting = counter.add(1);
    kill(&counter);
    let error = get(waiting).unwrap_err();
    assert_eq!(error.to_string(), "actor `Counter` is gone: it was killed");
    assert!(get(counter.add(1)).unwrap_err().is_actor_died());
    drop(entered);
    assert_eq!(get(running)?, 0, "what runs is asked to stop, not stopped");
    Ok(())
}

fn groups_run_beside_each_other_within_their_limits() -> Result<()> {
    let gate = Gate::new("groups");
    let counter = Counter::remote(5);
    let first = counter.look(gate.name());
    let second = counter.look(gate.name());
    let entered = (gate.entered(), gate.entered());
    assert_eq!(get(counter.value())?, 5, "the default group is free");
    drop(entered);
    assert_eq!(get((first, second))?, (5, 5));
    Ok(())
}

fn a_cancelled_call_does_not_run() -> Result<()> {
    let (gate, never) = (Gate::new("cancel"), Gate::new("never"));
    let counter = Counter::remote(0);
    let running = (counter.look(gate.name()), counter.look(gate.name()));
    let entered = (gate.entered(), gate.entered());
    let cancelled = counter.look(never.name());
    raybolt::cancel(&cancelled)?;
    let error = get(cancelled).unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(error.to_string(), "task `Counter::look` was cancelled");
    get(counter.value())?; // What its worker answers now it does after it knows.
    drop(entered);
    get(running)?;
    assert!(never.is_deserted(), "it never ran");
    Ok(())
}

fn a_call_past_its_deadline_fails() -> Result<()> {
    let gate = Gate::new("deadline");
    let counter = Counter::remote(0);
    let running = counter.hold(gate.name());
    let entered = gate.entered();
    let late = counter.with(CallOptions::new().deadline(Duration::from_millis(10))).add(1);
    let error = get(late).unwrap_err();
    assert!(error.is_deadline(), "{error}");
    drop(entered);
    get(running)?;
    // It may have begun in the moment in which its worker is told.
    assert!(get(counter.value())? <= 1);
    Ok(())
}

fn an_actor_with_too_many_calls_says_so() -> Result<()> {
    let gate = Gate::new("busy");
    let counter = Counter::options().max_pending_calls(1).remote(0);
    let running = counter.hold(gate.name());
    let entered = gate.entered();
    let waiting = counter.add(1);
    let error = get(counter.add(1)).unwrap_err().to_string();
    assert!(error.contains("has 1 calls waiting, as many as it allows"), "{error}");
    drop(entered);
    assert_eq!(get((running, waiting))?, (0, 1));
    Ok(())
}

fn named_actors_are_found_and_detached_ones_stay() -> Result<()> {
    let counter = Counter::options().name("tally").remote(3);
    assert_eq!(get(Counter::find("tally")?.value())?, 3);
    let same = Counter::options().name("tally").get_if_exists().remote(0);
    assert_eq!(get(same.add(1))?, 4);
    let error = Picky::find("tally").unwrap_err().to_string();
    assert_eq!(error, "actor `tally` is a `Counter`, not a `Picky`");
    drop((counter, same));
    Counter::options().name("stays").detached().remote(9);
    assert_eq!(get(Counter::find("stays")?.value())?, 9);
    kill(&Counter::find("stays")?);
    assert!(Counter::find("stays").is_err());
    Ok(())
}

fn an_actor_holds_its_resources_as_long_as_it_lives() -> Result<()> {
    let first = Counter::options().resource("arm", 1.0).remote(1);
    assert_eq!(get(first.value())?, 1);
    let second = Counter::options().resource("arm", 1.0).remote(2);
    let value = second.value();
    let error = raybolt::get_timeout(&value, Duration::from_millis(10)).unwrap_err();
    assert!(error.to_string().contains("`Counter` needs arm: 1"), "{error}");
    drop(first);
    assert_eq!(get(value)?, 2);
    let never = Counter::options().resource("arm", 3.0).remote(3);
    assert!(get(never.value()).unwrap_err().to_string().contains("can never run"));
    Ok(())
}
