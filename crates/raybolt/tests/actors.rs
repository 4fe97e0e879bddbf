//! Actors: order, concurrency, names, life and death.

mod common;

use std::time::Duration;

use common::{await_count, await_in, count, let_out, pass, reach, session, session_with};
use raybolt::{Builder, ObjectRef, Result, errors, get, get_timeout, kill, memory, put, remote};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

const NOT_LONG: Duration = Duration::from_millis(1);

/// What most tests use: counts, and stays where it is told to.
struct Counter {
    value: u64,
    last_words: String,
}

#[remote]
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

    pub fn hold(&mut self, place: &str) -> u64 {
        pass(place);
        self.value
    }

    pub fn fail(&mut self, text: &str) -> Result<u64, String> {
        self.value += 1;
        Err(text.into())
    }

    pub fn panic(&mut self) {
        self.value += 1;
        panic!("a bad day");
    }

    pub fn say_at_the_end(&mut self, place: String) {
        self.last_words = place;
    }

    pub fn count_down(&mut self) -> impl Iterator<Item = u64> {
        std::iter::from_fn(|| {
            self.value = self.value.checked_sub(1)?;
            Some(self.value)
        })
    }

    fn _not_for_others(self) {}
}

impl Drop for Counter {
    fn drop(&mut self) {
        if !self.last_words.is_empty() {
            reach(&self.last_words);
        }
    }
}

#[test]
fn calls_run_in_the_order_of_their_caller() -> Result<()> {
    let _session = session();
    let counter = Counter::remote(0);
    let values: Vec<_> = (0..1_000).map(|_| counter.add(1)).collect();
    assert_eq!(get(&values)?, (1..=1_000).collect::<Vec<_>>());
    Ok(())
}

#[remote]
fn held(place: &str) -> u64 {
    pass(place);
    1_000
}

#[remote]
fn adds(counter: CounterHandle) -> Result<u64> {
    get(counter.add(1))
}

#[test]
fn a_call_that_waits_for_an_argument_holds_back_its_caller_alone() -> Result<()> {
    let _session = session();
    let counter = Counter::remote(0);
    let slow = held::remote("argument");
    await_in("argument", 1);
    let first = counter.add(&slow);
    let second = counter.add(1);
    // Another caller comes first, however long that takes.
    assert_eq!(get(&adds::remote(counter.clone()))?, 1);
    assert!(!first.is_ready() && !second.is_ready());
    let_out("argument");
    assert_eq!(get((&first, &second))?, (1_001, 1_002));
    Ok(())
}

#[test]
fn what_an_argument_fails_with_is_what_the_call_fails_with() -> Result<()> {
    let _session = session();
    let counter = Counter::remote(0);
    let error = get(counter.add(counter.fail("no number"))).unwrap_err();
    assert_eq!(error.to_string(), "task `Counter::fail` failed: no number");
    assert_eq!(get(counter.value())?, 1, "the call did not run");
    Ok(())
}

#[test]
fn two_actors_run_beside_each_other() -> Result<()> {
    let _session = session();
    let (one, other) = (Counter::remote(1), Counter::remote(1));
    let calls = [one.hold("beside"), other.hold("beside")];
    await_in("beside", 2);
    let_out("beside");
    assert_eq!(get(&calls)?, [1, 1]);
    Ok(())
}

#[test]
fn handles_travel() -> Result<()> {
    #[derive(Clone, Serialize, Deserialize)]
    struct Team {
        counters: Vec<CounterHandle>,
    }

    #[remote]
    fn add_to_all(team: &Team) -> Result<Vec<u64>> {
        let values: Vec<_> = team.counters.iter().map(|counter| counter.add(1)).collect();
        get(values)
    }

    let _session = session();
    let team = Team { counters: vec![Counter::remote(1), Counter::remote(2)] };
    assert_eq!(get(&add_to_all::remote(team.clone()))?, [2, 3]);
    assert_eq!(get(&add_to_all::remote(put(team)?))?, [3, 4]);
    Ok(())
}

#[test]
fn failures_and_panics_of_calls_leave_the_actor_alive() -> Result<()> {
    let _session = session();
    let counter = Counter::remote(0);
    let error = get(counter.fail("not today")).unwrap_err();
    assert_eq!(error.to_string(), "task `Counter::fail` failed: not today");
    let error = get(counter.panic()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("task `Counter::panic` panicked at "), "{text}");
    assert_eq!(get(counter.value())?, 2);
    assert_eq!(errors()?.len(), 2);
    Ok(())
}

#[test]
fn a_method_may_return_a_stream() -> Result<()> {
    let _session = session();
    let counter = Counter::remote(3);
    let values = counter.count_down().map(|value| get(value?)).collect::<Result<Vec<_>>>()?;
    assert_eq!(values, [2, 1, 0]);
    Ok(())
}

/// Many calls of it wait at once.
struct Meeting {
    doors: Notify,
}

#[remote(concurrency_groups(door = 1))]
impl Meeting {
    pub fn new() -> Self {
        Meeting { doors: Notify::new() }
    }

    pub async fn wait(&self, place: &str) -> u64 {
        let opened = self.doors.notified();
        reach(place);
        opened.await;
        1
    }

    pub async fn open(&self) {
        self.doors.notify_waiters();
    }

    pub async fn close(&mut self) -> u64 {
        2
    }

    #[method(concurrency_group = "door")]
    pub fn knock(&self, place: &str) {
        pass(place);
    }

    pub async fn falls(&self) {
        panic!("over the step");
    }
}

#[test]
fn async_methods_wait_together() -> Result<()> {
    let _session = session();
    let meeting = Meeting::remote();
    let waiting: Vec<_> = (0..500).map(|_| meeting.wait("meeting")).collect();
    await_count("meeting", 500);
    get(meeting.open())?;
    assert_eq!(get(&waiting)?.iter().sum::<u64>(), 500);
    assert_eq!(get(meeting.close())?, 2);
    let text = get(meeting.falls()).unwrap_err().to_string();
    assert!(text.starts_with("task `Meeting::falls` panicked at "), "{text}");
    Ok(())
}

#[test]
fn a_mut_call_waits_for_all_others() -> Result<()> {
    let _session = session();
    let meeting = Meeting::remote();
    let waiting = meeting.wait("alone");
    await_count("alone", 1);
    let closed = meeting.close();
    assert!(get_timeout(&closed, NOT_LONG).unwrap_err().is_timeout());
    Meeting::remote(); // Another one, which nobody waits for.
    raybolt::cancel(&waiting)?;
    Ok(())
}

struct Library;

#[remote(max_concurrency = 3, concurrency_groups(io = 2, compute = 1))]
impl Library {
    pub fn new() -> Self {
        Library
    }

    pub fn read(&self, place: &str) {
        pass(place);
    }

    #[method(concurrency_group = "io")]
    pub fn fetch(&self, place: &str) {
        pass(place);
    }

    #[method(concurrency_group = "compute", num_returns = 2)]
    pub fn both(&self, x: u64) -> (u64, String) {
        (x, x.to_string())
    }
}

#[test]
fn as_many_shared_calls_run_at_once_as_the_actor_allows() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(2.0).worker_threads(8));
    let library = Library::remote();
    let reads: Vec<_> = (0..4).map(|_| library.read("three")).collect();
    await_in("three", 3);
    assert_eq!(count("three in"), 3);
    let_out("three");
    get(&reads)?;
    let library = Library::options().max_concurrency(5).remote();
    let reads: Vec<_> = (0..5).map(|_| library.read("five")).collect();
    await_in("five", 5);
    let_out("five");
    get(&reads)?;
    Ok(())
}

struct SlowStart;

#[remote]
impl SlowStart {
    pub fn new(place: String) -> Self {
        pass(&place);
        SlowStart
    }

    pub fn read(&self, place: &str) {
        pass(place);
    }
}

#[test]
fn calls_made_before_the_constructor_has_ended_run_beside_each_other_too() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(2.0).worker_threads(8));
    let actor = SlowStart::options().max_concurrency(5).remote("start");
    await_in("start", 1);
    let reads: Vec<_> = (0..5).map(|_| actor.read("started")).collect();
    let_out("start");
    await_in("started", 5);
    let_out("started");
    get(&reads)?;
    Ok(())
}

#[test]
fn a_group_that_is_full_leaves_the_others_free() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(2.0).worker_threads(8));
    let library = Library::remote();
    let fetches: Vec<_> = (0..3).map(|_| library.fetch("group")).collect();
    await_in("group", 2);
    let (number, text) = library.both(7);
    assert_eq!(get((&number, &text))?, (7, "7".to_owned()));
    assert_eq!(count("group in"), 2);
    let_out("group");
    get(&fetches)?;
    Ok(())
}

#[test]
fn an_actor_is_found_by_its_name() -> Result<()> {
    let _session = session();
    let counter = Counter::options().name("left").remote(5);
    assert_eq!(get(Counter::find("left")?.add(1))?, 6);
    assert_eq!(format!("{counter:?}"), r#"CounterHandle("left")"#);
    let error = Counter::find("lift").unwrap_err();
    assert_eq!(error.to_string(), "no actor is named `lift`; did you mean `left`?");
    let error = Counter::find("elsewhere").unwrap_err();
    assert_eq!(error.to_string(), "no actor is named `elsewhere`");
    let error = Meeting::find("left").unwrap_err();
    assert_eq!(error.to_string(), "actor `left` is a `Counter`, not a `Meeting`");
    Ok(())
}

#[test]
fn a_name_has_one_actor() -> Result<()> {
    let _session = session();
    let first = Counter::options().name("one").remote(1);
    let second = Counter::options().name("one").remote(2);
    let text = "an actor named `one` exists already; choose another name, or take that one with \
                `get_if_exists`";
    assert_eq!(get(second.value()).unwrap_err().to_string(), text);
    let third = Counter::options().name("one").get_if_exists().remote(3);
    assert_eq!(get((third.add(1), first.value()))?, (2, 2));
    let other = Counter::options().name("new").get_if_exists().remote(4);
    assert_eq!(get(other.value())?, 4);
    let meeting = Meeting::options().name("one").get_if_exists().remote();
    let text = "actor `one` is a `Counter`, not a `Meeting`";
    assert_eq!(get(meeting.open()).unwrap_err().to_string(), text);
    Ok(())
}

#[test]
fn a_name_goes_with_its_actor() -> Result<()> {
    let _session = session();
    let counter = Counter::options().name("short").remote(1);
    get(counter.say_at_the_end("short ended"))?;
    drop(counter);
    await_count("short ended", 1);
    assert!(Counter::find("short").is_err());
    assert_eq!(get(Counter::options().name("short").remote(2).value())?, 2);
    Ok(())
}

#[test]
fn a_detached_actor_lives_without_handles() -> Result<()> {
    let _session = session();
    get(Counter::options().name("alone").detached().remote(1).add(1))?;
    let counter = Counter::find("alone")?;
    get(counter.say_at_the_end("alone ended"))?;
    assert_eq!(get(counter.value())?, 2);
    counter.kill();
    drop(counter);
    await_count("alone ended", 1);
    assert!(Counter::find("alone").is_err());
    Ok(())
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let _session = session();
    let error = |counter: CounterHandle| get(counter.value()).unwrap_err().to_string();
    let text = "`get_if_exists` needs the `name` of the actor";
    assert_eq!(error(Counter::options().get_if_exists().remote(0)), text);
    let text = "a `detached` actor needs a `name`, or nobody could find it";
    assert_eq!(error(Counter::options().detached().remote(0)), text);
    let text = "`max_concurrency` must be at least 1";
    assert_eq!(error(Counter::options().max_concurrency(0).remote(0)), text);
    let text =
        "`Counter` can never run: it needs GPU: 1, the largest node has 0 (`Builder::num_gpus`)";
    assert_eq!(error(Counter::options().num_gpus(1.0).remote(0)), text);
    let text = "the amount of `CPU` must be a number from 0 to 1,000,000,000";
    assert_eq!(error(Counter::options().num_cpus(-1.0).remote(0)), text);
}

#[test]
fn who_is_killed_answers_no_more() -> Result<()> {
    let _session = session();
    let counter = Counter::remote(0);
    let running = counter.hold("killed");
    await_in("killed", 1);
    let waiting = counter.add(1);
    kill(&counter);
    let text = "actor `Counter` is gone: it was killed";
    let error = get(&waiting).unwrap_err();
    assert_eq!(error.to_string(), text);
    assert!(error.is_actor_died());
    assert_eq!(get(counter.add(1)).unwrap_err().to_string(), text);
    let_out("killed");
    assert_eq!(get(&running)?, 0, "what runs may end");
    kill(&counter); // Once more is no harm.
    Ok(())
}

#[test]
fn who_is_killed_in_its_call_is_asked_to_stop() {
    struct Patient;

    #[remote]
    impl Patient {
        pub fn new() -> Self {
            Patient
        }

        pub fn work(&mut self) {
            reach("patient begun");
            while !raybolt::is_cancelled() {
                std::thread::yield_now();
            }
            reach("patient stopped");
        }
    }

    let _session = session();
    let patient = Patient::remote();
    let _work = patient.work();
    await_count("patient begun", 1);
    patient.kill();
    await_count("patient stopped", 1);
}

#[test]
fn the_last_handle_ends_the_actor_after_its_calls() -> Result<()> {
    let _session = session();
    let counter = Counter::remote(0);
    let calls = [counter.hold("last"), counter.add(1), counter.add(1)];
    let end = counter.say_at_the_end("last ended");
    drop((counter.clone(), counter));
    await_in("last", 1);
    assert_eq!(count("last ended"), 0);
    let_out("last");
    assert_eq!(get(&calls)?, [0, 1, 2]);
    get(&end)?;
    await_count("last ended", 1);
    Ok(())
}

/// An actor that is not always made.
struct Fragile;

#[remote]
impl Fragile {
    pub fn new(how: &str) -> Result<Self, String> {
        match how {
            "well" => Ok(Fragile),
            "panic" => panic!("broken"),
            other => Err(format!("no way to do it `{other}`")),
        }
    }

    pub fn ping(&self) {}
}

#[remote]
fn says(text: &str) -> Result<String, String> {
    if text == "nothing" { Err("no word".into()) } else { Ok(text.into()) }
}

#[test]
fn what_a_constructor_fails_with_is_what_each_call_fails_with() -> Result<()> {
    let _session = session();
    get(Fragile::remote("well").ping())?;
    get(Fragile::remote(says::remote("well")).ping())?;
    let fragile = Fragile::remote("wrong");
    let text = "actor `Fragile` is gone: its constructor failed: task `Fragile` failed: no way to \
                do it `wrong`";
    assert_eq!(get(fragile.ping()).unwrap_err().to_string(), text);
    assert_eq!(get(fragile.ping()).unwrap_err().to_string(), text);
    let text = get(Fragile::remote("panic").ping()).unwrap_err().to_string();
    let start = "actor `Fragile` is gone: its constructor failed: task `Fragile` panicked at ";
    assert!(text.starts_with(start) && text.ends_with(": broken"), "{text}");
    let text = get(Fragile::remote(says::remote("nothing")).ping()).unwrap_err().to_string();
    let end = "its constructor failed: task `says` failed: no word";
    assert!(text.ends_with(end), "{text}");
    Ok(())
}

#[test]
fn an_actor_may_bound_its_queue() -> Result<()> {
    let _session = session();
    let counter = Counter::options().max_pending_calls(2).remote(0);
    let first = counter.hold("bounded");
    await_in("bounded", 1);
    let waiting = [counter.add(1), counter.add(1)];
    let text = "actor `Counter` has 2 calls waiting, as many as it allows (`max_pending_calls`)";
    assert_eq!(get(counter.add(1)).unwrap_err().to_string(), text);
    let_out("bounded");
    get(&first)?;
    assert_eq!(get(&waiting)?, [1, 2]);
    assert_eq!(get(counter.add(1))?, 3);
    Ok(())
}

/// Calls another one and waits for it.
struct Caller {
    counter: CounterHandle,
}

#[remote]
impl Caller {
    pub fn new(counter: CounterHandle) -> Self {
        Caller { counter }
    }

    pub fn add_twice(&self, x: ObjectRef<u64>) -> Result<u64> {
        let first = self.counter.add(&x);
        get(self.counter.add(first))
    }
}

#[test]
fn actors_call_actors() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(1.0));
    let caller = Caller::remote(Counter::remote(1));
    // The argument is a reference to a reference: the method receives a reference.
    assert_eq!(get(caller.add_twice(put(put(2)?)?))?, 6);
    Ok(())
}

#[test]
fn an_actor_that_waits_for_resources_says_so() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(1.0).resource("seat", 1.0));
    let first = Counter::options().resource("seat", 1.0).remote(1);
    assert_eq!(get(first.value())?, 1);
    let second = Counter::options().resource("seat", 1.0).name("second").remote(2);
    let value = second.value();
    let text = get_timeout(&value, NOT_LONG).unwrap_err().to_string();
    assert!(text.contains(" `second` needs seat: 1 (0 of 1 free); actor-"), "{text}");
    assert!(text.ends_with(" `Counter` holds seat: 1 as long as it lives"), "{text}");
    drop(first);
    assert_eq!(get(&value)?, 2, "the seat is free when the first has ended");
    Ok(())
}

#[test]
fn nothing_is_left_of_actors() -> Result<()> {
    let _session = session();
    let counter = Counter::remote(0);
    get(counter.add(1))?;
    get(counter.say_at_the_end("nothing left"))?;
    assert_eq!(memory()?.actors, 1);
    drop(counter);
    await_count("nothing left", 1);
    while memory()?.actors > 0 {
        std::thread::yield_now(); // Its destructor has run; what holds it is about to let go.
    }
    Ok(())
}
