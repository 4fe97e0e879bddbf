//! Settings that cannot work, and panics and calls at moments that nobody expects.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use raybolt_core::flow::grouping::Grouping;
use raybolt_topology::*;

type Number = (u64,);

fn two_numbers() -> TopologyBuilder {
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", followed([(0u64,), (1,)]).0, 1);
    builder
}

#[test]
fn settings_that_would_stop_everything_are_refused_by_name() {
    let cluster = LocalCluster::with_threads(1);
    let wrong =
        |config| cluster.submit("wrong", config, two_numbers()).err().map(|e| e.to_string());
    assert_eq!(
        wrong(Config { queue_tuples_max: 0, ..Config::default() }).unwrap(),
        "`queue_tuples_max` is too small for anything to move; give it at least 1"
    );
    assert_eq!(
        wrong(Config { message_timeout: Duration::ZERO, ..Config::default() }).unwrap(),
        "`message_timeout` is too small for anything to move; give it at least 1 ms"
    );
    assert!(cluster.topology("wrong").is_none());
}

#[test]
fn a_spout_may_have_more_pending_than_32_bits_can_count() {
    let (spout, fates) = followed([(0u64,), (1,)]);
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    let cluster = LocalCluster::with_threads(1);
    let config = Config { max_spout_pending: Some(1 << 32), ..Config::default() };
    cluster.submit("many", config, builder).unwrap();
    assert_eq!(take(&fates, 2).len(), 2);
}

/// Sleeps for an hour unless it is woken.
#[derive(Clone)]
struct Sleepy {
    waker: Sender<Waker>,
    asked: Sender<()>,
}

impl Spout for Sleepy {
    type Out = Number;

    fn open(&mut self, context: &Context) {
        let _ = self.waker.send(context.waker());
    }
    fn next_tuple(&mut self, _: &mut SpoutCollector<Number>) -> Next {
        let _ = self.asked.send(());
        Next::After(Duration::from_secs(3_600))
    }
}

#[test]
fn a_waker_wakes_a_spout_that_wanted_to_wait() {
    let (waker, wakers) = channel();
    let (asked, asks) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("sleepy", Sleepy { waker, asked }, 1);
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("sleepy", Config::default(), builder).unwrap();
    let waker = take(&wakers, 1).remove(0);
    for _ in 0..3 {
        take(&asks, 1);
        waker.wake();
    }
    take(&asks, 1);
}

#[test]
fn a_custom_grouping_without_its_function_is_refused() {
    let mut builder = two_numbers();
    builder.set_bolt("tell", tell::<Number>().0, 1).grouping_on(
        "numbers",
        "default",
        Grouping::Custom("mine".into()),
    );
    assert_eq!(
        builder.build().err().expect("it has no function").to_string(),
        "bolt `tell` reads stream `default` of component `numbers` by a custom grouping without its function; use `custom_grouping_on`"
    );
}

/// Panics when it is cloned for the n-th time.
struct Unclonable {
    clones: Arc<AtomicUsize>,
    fatal: usize,
}

impl Clone for Unclonable {
    fn clone(&self) -> Self {
        let clone = self.clones.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(clone != self.fatal, "no more of me");
        Unclonable { clones: self.clones.clone(), fatal: self.fatal }
    }
}

impl Bolt for Unclonable {
    type In = Number;
    type Out = ();

    fn execute(&mut self, _: Number, _: &mut Collector<()>) -> Result<(), BoltError> {
        Ok(())
    }
}

#[test]
fn a_prototype_that_panics_when_it_is_cloned_is_an_error_of_submit() {
    let mut builder = two_numbers();
    let bolt = Unclonable { clones: Arc::default(), fatal: 1 };
    builder.set_bolt("unclonable", bolt, 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(1);
    let error = cluster.submit("unclonable", Config::default(), builder).err().unwrap().to_string();
    assert!(error.starts_with("an instance of component `unclonable` cannot be made: "), "{error}");
    assert!(error.ends_with(": no more of me"), "{error}");
    assert!(cluster.list().is_empty());
    cluster.submit("unclonable", Config::default(), two_numbers()).unwrap();
}

#[test]
fn a_prototype_that_panics_in_a_rebalance_changes_nothing() {
    let (spout, fates) = followed([(0u64,)]);
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    let clones = Arc::<AtomicUsize>::default();
    let bolt = Unclonable { clones: clones.clone(), fatal: 1_001 };
    builder.set_bolt("unclonable", bolt, 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("unclonable", Config::default(), builder).unwrap();
    take(&fates, 1);
    clones.store(1_000, Ordering::SeqCst);
    let error = handle.rebalance("unclonable", 2).unwrap_err().to_string();
    assert!(error.ends_with(": no more of me"), "{error}");
    let stats = handle.stats();
    assert_eq!((stats.status, stats.components[1].instances.len()), (Status::Active, 1));
    handle.rebalance("unclonable", 3).unwrap();
    assert_eq!(handle.stats().components[1].instances.len(), 3);
}

#[test]
fn a_custom_grouping_that_panics_when_it_is_cloned_is_an_error_of_submit() {
    let mut builder = two_numbers();
    let state = Unclonable { clones: Arc::default(), fatal: 1 };
    let grouping = move |_: &Number, _: usize, chosen: &mut Vec<usize>| {
        let _ = &state;
        chosen.push(0);
    };
    builder.set_bolt("tell", tell::<Number>().0, 1).custom_grouping("numbers", grouping);
    let cluster = LocalCluster::with_threads(1);
    let error = cluster.submit("grouped", Config::default(), builder).err().unwrap().to_string();
    assert!(error.ends_with(": no more of me"), "{error}");
    cluster.submit("grouped", Config::default(), two_numbers()).unwrap();
}

#[test]
fn a_panic_in_emit_anchored_fails_the_tuple_at_hand() {
    let (spout, fates) = followed([(0u64,)]);
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    let join = apply(|tuple: Number, out: &mut Collector<Number>| {
        out.emit_anchored([], tuple);
        Ok(())
    });
    builder.set_bolt("join", join, 1).shuffle_grouping("numbers");
    let broken = |_: &Number, _: usize, _: &mut Vec<usize>| panic!("no way");
    builder.set_bolt("tell", tell::<Number>().0, 1).custom_grouping("join", broken);
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("joined", Config::default(), builder).unwrap();
    let fates = take(&fates, 1);
    assert!(matches!(&fates[0], Fate::Failed(0, why) if why.ends_with("no way")), "{fates:?}");
}

/// Emits once, on a stream that is not there.
#[derive(Clone)]
struct Astray {
    emitted: Arc<AtomicUsize>,
    fates: Sender<Fate>,
}

impl Spout for Astray {
    type Out = Number;

    fn next_tuple(&mut self, out: &mut SpoutCollector<Number>) -> Next {
        if self.emitted.fetch_add(1, Ordering::SeqCst) == 0 {
            out.emit_on_with_id("nowhere", (0u64,), MessageId(7));
        }
        Next::Done
    }
    fn ack(&mut self, id: MessageId) {
        let _ = self.fates.send(Fate::Acked(id.0));
    }
    fn fail(&mut self, id: MessageId, reason: &str) {
        let _ = self.fates.send(Fate::Failed(id.0, reason.to_owned()));
    }
}

#[test]
fn a_tuple_that_was_not_sent_because_of_a_panic_has_failed() {
    let (fates, heard) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("astray", Astray { emitted: Arc::default(), fates }, 1);
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("astray", Config::default(), builder).unwrap();
    let fates = take(&heard, 1);
    assert!(matches!(&fates[0], Fate::Failed(7, why) if why.contains("nowhere")), "{fates:?}");
    assert_eq!(handle.stats().pending_trees, 0);
}

/// Panics whenever it is told something.
struct Fragile(Mutex<Sender<RequestId>>);

impl RequestObserver for Fragile {
    fn started(&self) {
        panic!("not started");
    }
    fn completed(&self, requests: &[RequestId]) {
        for &request in requests {
            let _ = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).send(request);
        }
        panic!("not completed");
    }
    fn failed(&self, _: RequestId, _: &str) {
        panic!("not failed");
    }
    fn ended(&self) {
        panic!("not ended");
    }
}

#[test]
fn an_observer_that_panics_ends_nothing_but_itself() {
    let (ends, ended) = channel();
    let mut builder = TopologyBuilder::new();
    builder.coordinate(Arc::new(Fragile(Mutex::new(ends))));
    let requests = (1..=3).map(|n| (RequestId(n), n));
    builder.set_spout("requests", given(requests), 1);
    builder.set_bolt("tell", tell::<(RequestId, u64)>().0, 1).shuffle_grouping("requests");
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("fragile", Config::default(), builder).unwrap();
    assert!(!take(&ended, 1).is_empty());
    until("nothing is open", || handle.stats().pending_requests == 0);
    handle.kill(LONG);
}

#[test]
fn what_is_asked_for_during_a_rebalance_holds_afterwards() {
    for first in [true, false] {
        let (begun, begins) = channel();
        let (goes_on, go_on) = channel::<()>();
        let go_on = Arc::new(Mutex::new(go_on));
        let slow = apply(move |_: Number, _: &mut Collector<()>| {
            let _ = begun.send(());
            let _ = go_on.lock().unwrap().recv_timeout(LONG);
            Ok(())
        });
        let mut builder = TopologyBuilder::new();
        builder.set_spout("numbers", given([(0u64,)]), 1);
        builder.set_bolt("slow", slow, 1).shuffle_grouping("numbers").blocking();
        let cluster = LocalCluster::with_threads(1);
        let handle = cluster.submit("asked", Config::default(), builder).unwrap();
        take(&begins, 1);
        if !first {
            handle.deactivate();
        }
        let rebalanced = handle.clone();
        let rebalance = std::thread::spawn(move || rebalanced.rebalance("slow", 2));
        until("it drains", || handle.stats().status == Status::Rebalancing);
        if first {
            handle.deactivate();
        } else {
            handle.activate();
        }
        goes_on.send(()).unwrap();
        rebalance.join().unwrap().unwrap();
        let expected = if first { Status::Inactive } else { Status::Active };
        assert_eq!(handle.stats().status, expected);
    }
}

#[test]
fn a_topology_that_kills_itself_does_not_wait_for_itself() {
    let own = Arc::new(Mutex::new(None::<TopologyHandle>));
    let (killed, heard) = channel();
    let end = own.clone();
    let bolt = apply(move |_: Number, _: &mut Collector<()>| {
        let handle = end.lock().unwrap().clone().expect("it is there before the spout emits");
        let rebalanced = handle.rebalance("numbers", 2).map_err(|error| error.to_string());
        let _ = killed.send((rebalanced, handle.kill(Duration::from_secs(3_600))));
        Ok(())
    });
    let mut builder = two_numbers();
    builder.set_bolt("end", bolt, 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(1);
    let config = Config { active: false, ..Config::default() };
    let handle = cluster.submit("own", config, builder).unwrap();
    *own.lock().unwrap() = Some(handle.clone());
    handle.activate();
    let (rebalanced, drained) = take(&heard, 1).remove(0);
    let busy = "topology `own` is running the code that asks; nothing was changed";
    assert_eq!(rebalanced, Err(busy.to_owned()));
    assert!(!drained, "it cannot wait for itself");
    assert!(cluster.topology("own").is_none());
    assert_eq!(handle.stats().status, Status::Killed);
}
