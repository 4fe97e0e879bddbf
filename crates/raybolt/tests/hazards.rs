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

#[test]
fn an_argument_that_failed_at_its_call_fails_the_task_that_takes_it() {
    within(|| {
        let _session = session();
        let refused = same::options().num_gpus(3.0).remote(1);
        let error = get(same::remote(&refused)).unwrap_err();
        assert!(error.to_string().contains("GPU: 3"), "{error}");
        let error = get(Counter::remote(0).add(&refused)).unwrap_err();
        assert!(error.to_string().contains("GPU: 3"), "{error}");
    });
}

#[test]
fn objects_of_an_earlier_session_are_values_or_errors() {
    within(|| {
        let first = session();
        let (ready, gate) = (put(3u64).unwrap(), Gate::new());
        let old = Counter::remote(5);
        drop(first);
        let _second = session();
        let other = pass::remote(gate.clone(), 4);
        assert_eq!(get(same::remote(&ready)).unwrap(), 3);
        raybolt::cancel(&ready).unwrap();
        gate.open();
        assert_eq!(get(&other).unwrap(), 4);
        let late = put(1u64).unwrap();
        assert!(get(old.add(&late)).unwrap_err().to_string().contains("session"));
    });
}

#[test]
fn a_task_that_was_cancelled_while_it_ran_fails_those_that_wait_for_it() {
    within(|| {
        let _session = session();
        let (began, gate) = (Gate::new(), Gate::new());
        let running = begin_and_pass::remote(began.clone(), gate.clone(), 1);
        let next = same::remote(&running);
        began.wait();
        raybolt::cancel(&running).unwrap();
        gate.open();
        let error = get(&next).unwrap_err();
        assert!(error.is_cancelled(), "{error}");
    });
}

#[test]
fn no_duration_is_too_long() {
    within(|| {
        let _session = session();
        assert_eq!(get_timeout(&same::remote(1), Duration::MAX).unwrap(), 1);
        let objects = [same::remote(1)];
        assert_eq!(raybolt::wait(&objects, 1, Some(Duration::MAX)).unwrap().0.len(), 1);
        assert_eq!(get(same::options().deadline(Duration::MAX).remote(2)).unwrap(), 2);
    });
}

#[derive(Clone, Debug, Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a secret stays where it is"))
    }
}

#[remote(num_returns = 2)]
fn half_a_secret() -> (Vec<u8>, Secret) {
    (vec![0; 1000], Secret)
}

#[test]
fn several_values_are_delivered_all_or_none() {
    within(|| {
        let _session = session();
        let (plain, secret) = half_a_secret::remote();
        assert!(get(secret).unwrap_err().to_string().contains("a secret stays"));
        assert!(get(plain).unwrap_err().to_string().contains("a secret stays"));
        let _thousand = put(vec![0u8; 992]).unwrap();
        assert_eq!(raybolt::memory().unwrap().bytes, 1000);
    });
}

/// A value whose every method fails in the way it is told to.
#[derive(Clone, Deserialize)]
struct Bomb(Fuse);

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Fuse {
    Serialize,
    Drop,
}

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != Fuse::Serialize, "serialize");
        self.0.serialize(serializer)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(self.0 != Fuse::Drop || std::thread::panicking(), "drop");
    }
}

#[remote]
fn bomb_after(fuse: Fuse, _: u64) -> Bomb {
    Bomb(fuse)
}

#[remote]
async fn async_bomb_after(fuse: Fuse, _: u64) -> Bomb {
    Bomb(fuse)
}

struct Arsenal;

#[remote]
impl Arsenal {
    pub fn new() -> Self {
        Arsenal
    }

    pub fn bomb_after(&mut self, fuse: Fuse, _: u64) -> Bomb {
        Bomb(fuse)
    }

    pub async fn async_bomb_after(&self, fuse: Fuse, _: u64) -> Bomb {
        Bomb(fuse)
    }

    pub fn count(&mut self) -> u64 {
        1
    }
}

fn on_the_pool<T: raybolt::Value>(object: raybolt::ObjectRef<T>) -> String {
    let error = get_timeout(&object, SOON).map(drop).unwrap_err();
    assert!(error.is_task_failed(), "{error}");
    error.to_string()
}

#[test]
fn a_result_that_panics_when_it_is_written_is_an_error() {
    within(|| {
        let _session = session();
        assert!(on_the_pool(bomb_after::remote(Fuse::Serialize, 0)).contains("serialize"));
        assert!(on_the_pool(async_bomb_after::remote(Fuse::Serialize, 0)).contains("serialize"));
        let arsenal = Arsenal::remote();
        assert!(on_the_pool(arsenal.bomb_after(Fuse::Serialize, 0)).contains("serialize"));
        assert!(on_the_pool(arsenal.async_bomb_after(Fuse::Serialize, 0)).contains("serialize"));
        assert_eq!(get(arsenal.count()).unwrap(), 1);
        // A result is there a moment before its task has ended.
        while raybolt::memory().unwrap().tasks > 0 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_result_that_nobody_wants_may_panic_when_it_is_dropped() {
    within(|| {
        let _session = session();
        let arsenal = Arsenal::remote();
        let gate = Gate::new();
        let late = pass::remote(gate.clone(), 0);
        drop(bomb_after::remote(Fuse::Drop, &late));
        drop(async_bomb_after::remote(Fuse::Drop, &late));
        drop(arsenal.bomb_after(Fuse::Drop, &late));
        drop(arsenal.async_bomb_after(Fuse::Drop, &late));
        gate.open();
        assert_eq!(get(arsenal.count()).unwrap(), 1);
        assert_eq!(get(same::remote(1)).unwrap(), 1);
    });
}

struct Selfish(Option<SelfishHandle>);

#[remote]
impl Selfish {
    pub fn new() -> Self {
        Selfish(None)
    }

    pub fn meet(&mut self, own: SelfishHandle) {
        self.0 = Some(own);
    }

    pub fn ask(&mut self) -> Result<u64, raybolt::Error> {
        let own = self.0.take().unwrap();
        get(own.answer())
    }

    pub fn answer(&mut self) -> u64 {
        42
    }
}

#[test]
fn an_actor_that_waits_for_itself_is_told_so() {
    within(|| {
        let _session = session();
        let selfish = Selfish::remote();
        get(selfish.meet(selfish.clone())).unwrap();
        let error = get(selfish.ask()).unwrap_err().to_string();
        assert!(error.contains("waits for a call of its own"), "{error}");
        assert_eq!(get(selfish.answer()).unwrap(), 42);
    });
}
