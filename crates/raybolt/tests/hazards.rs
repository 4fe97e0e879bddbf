//! What users may do to a session without taking it down or being left waiting.

mod common;

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use common::{SOON, session};
use raybolt::{get, get_timeout, put, remote};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Runs a test on a thread of its own; one that hangs fails, and takes the others with it.
fn within(body: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        body();
        drop(done);
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(2 * SOON) {
        eprintln!("it hangs");
        std::process::abort();
    }
    thread.join().unwrap();
}

/// A task that ends when it is told to.
#[derive(Clone)]
struct Gate(std::sync::Arc<(Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    fn new() -> Self {
        Gate(Default::default())
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }
}

impl Serialize for Gate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Gate {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Gate::new())
    }
}

#[remote]
fn pass(gate: Gate, x: u64) -> u64 {
    gate.wait();
    x
}

/// Says when it runs.
#[remote]
fn begin_and_pass(began: Gate, gate: Gate, x: u64) -> u64 {
    began.open();
    gate.wait();
    x
}

#[remote]
fn same(x: u64) -> u64 {
    x
}

struct Counter(u64);

#[remote]
impl Counter {
    pub fn new(start: u64) -> Self {
        Counter(start)
    }

    pub fn add(&mut self, x: u64) -> u64 {
        self.0 += x;
        self.0
    }

    pub fn stand(&mut self, began: Gate, gate: Gate) -> u64 {
        began.open();
        gate.wait();
        self.0
    }
}

struct Crowd;

#[remote(concurrency_groups(io = 2))]
impl Crowd {
    pub fn new() -> Self {
        Crowd
    }

    pub fn size(&self) -> u64 {
        1
    }
}

#[test]
fn a_call_that_has_not_started_can_be_cancelled() {
    within(|| {
        let _session = session();
        let counter = Counter::remote(0);
        let (began, gate) = (Gate::new(), Gate::new());
        let first = counter.stand(began.clone(), gate.clone());
        began.wait();
        let second = counter.add(1);
        raybolt::cancel(&second).unwrap();
        assert!(get(&second).unwrap_err().is_cancelled());
        gate.open();
        assert_eq!(get(&first).unwrap(), 0);
    });
}

#[test]
fn a_refused_task_lets_its_arguments_go() {
    within(|| {
        let _session = session();
        let only = put(7u64).unwrap();
        let refused = same::options().num_gpus(3.0).remote(only);
        assert!(get(refused).unwrap_err().to_string().contains("GPU"));
        let only = put(7u64).unwrap();
        let refused = Counter::options().num_gpus(3.0).remote(only).add(1);
        assert!(get(refused).unwrap_err().to_string().contains("GPU"));
        assert_eq!(raybolt::memory().unwrap().objects, 0);
    });
}

#[test]
fn several_actors_hold_resources_at_once() {
    within(|| {
        let _session = session();
        let actors: Vec<_> = (0..2).map(|n| Counter::options().num_cpus(1.0).remote(n)).collect();
        for (n, actor) in (0..).zip(&actors) {
            assert_eq!(get(actor.add(1)).unwrap(), n + 1);
        }
        let third = Counter::options().num_cpus(1.0).remote(2u64);
        let late = third.add(1);
        assert!(get_timeout(&late, Duration::from_millis(5)).unwrap_err().is_timeout());
        drop(actors);
        assert_eq!(get(&late).unwrap(), 3);
        drop(third);
        let fourth = Counter::options().num_cpus(2.0).remote(3u64);
        assert_eq!(get(fourth.add(1)).unwrap(), 4);
    });
}

#[test]
fn an_actor_without_handles_lives_for_a_call_that_waits() {
    within(|| {
        let _session = session();
        let (began, gate) = (Gate::new(), Gate::new());
        let late = begin_and_pass::remote(began.clone(), gate.clone(), 5);
        began.wait();
        let sum = Counter::remote(1).add(&late);
        // The other thread sees to the actor, which can do nothing yet, and then to these.
        for n in 0..100 {
            assert_eq!(get_timeout(&same::remote(n), SOON).unwrap(), n);
        }
        gate.open();
        assert_eq!(get(sum).unwrap(), 6);
    });
}

#[test]
fn no_limit_is_too_large() {
    within(|| {
        let _session = session();
        let crowd = Crowd::options().max_concurrency(usize::MAX).remote();
        assert_eq!(get(crowd.size()).unwrap(), 1);
    });
}

#[test]
fn what_a_long_chain_waits_for_is_told_in_short() {
    within(|| {
        let _session = session();
        let gate = Gate::new();
        let mut last = pass::remote(gate.clone(), 1);
        for _ in 0..100_000 {
            last = same::remote(last);
        }
        let error = get_timeout(&last, Duration::from_millis(1)).unwrap_err().to_string();
        assert!(error.len() < 2_000, "{}", error.len());
        gate.open();
        assert_eq!(get(last).unwrap(), 1);
    });
}
