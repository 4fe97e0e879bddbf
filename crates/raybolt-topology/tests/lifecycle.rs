//! Submit, activate, deactivate, rebalance, kill; back-pressure, ticks, bolts that wait or block.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use raybolt_topology::*;

type Number = (u64,);

/// Counts up for ever.
#[derive(Clone, Default)]
struct Endless(u64);

impl Spout for Endless {
    type Out = Number;

    fn next_tuple(&mut self, out: &mut SpoutCollector<Number>) -> Next {
        out.emit((self.0,));
        self.0 += 1;
        Next::Emitted
    }
}

/// Takes a tuple whenever the test opens its gate.
#[derive(Clone)]
struct Gated {
    gate: Arc<Mutex<Receiver<()>>>,
    entered: Sender<u64>,
}

fn gated() -> (Gated, Sender<()>, Receiver<u64>) {
    let (open, gate) = channel();
    let (entered, seen) = channel();
    (Gated { gate: Arc::new(Mutex::new(gate)), entered }, open, seen)
}

impl Bolt for Gated {
    type In = Number;
    type Out = ();

    fn execute(&mut self, (n,): Number, _: &mut Collector<()>) -> Result<(), BoltError> {
        let _ = self.entered.send(n);
        let _ = self.gate.lock().unwrap().recv();
        Ok(())
    }
}

fn emitted(handle: &TopologyHandle, component: &str) -> u64 {
    handle.stats().component(component).unwrap().sum(|it| it.emitted)
}

fn executed(handle: &TopologyHandle, component: &str) -> u64 {
    handle.stats().component(component).unwrap().sum(|it| it.executed)
}

#[test]
fn a_slow_bolt_slows_its_producers_down_to_the_spout() {
    let (gated, open, entered) = gated();
    let pass = apply(|number: Number, out: &mut Collector<Number>| {
        out.emit(number);
        Ok(())
    });
    let mut builder = TopologyBuilder::new();
    builder.set_spout("endless", Endless::default(), 1);
    builder.set_bolt("pass", pass, 1).shuffle_grouping("endless").queue_tuples_max(1_000);
    builder.set_bolt("slow", gated, 1).shuffle_grouping("pass").queue_tuples_max(1_000).blocking();
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("slow", Config::default(), builder).unwrap();
    take(&entered, 1);
    let queued = |component: &str| -> usize {
        handle.stats().component(component).unwrap().instances.iter().map(|it| it.queued).sum()
    };
    // One that was full is filled again when no more than half of it is left.
    until("both queues are full", || queued("pass") > 500 && queued("slow") > 500);
    // Each stage holds its queue, one batch over, what it has taken, and what it could not ship.
    let most = 2 * (1_000 + 512 + 1_024 + 1_024);
    for n in 1..500 {
        open.send(()).unwrap();
        assert_eq!(take(&entered, 1), [n]);
    }
    let emitted_by_now = emitted(&handle, "endless");
    assert!(emitted_by_now <= most + 500, "{emitted_by_now}");
    drop(open); // The gate stays open, and everything flows again.
    until("the spout goes on", || emitted(&handle, "endless") > 2 * most);
}

#[test]
fn ticks_come_in_their_rhythm_also_without_tuples() {
    #[derive(Clone)]
    struct Clock(Sender<usize>, usize);
    impl Bolt for Clock {
        type In = Number;
        type Out = ();
        fn prepare(&mut self, context: &Context) {
            self.1 = context.instance();
        }
        fn execute(&mut self, _: Number, _: &mut Collector<()>) -> Result<(), BoltError> {
            Ok(())
        }
        fn tick(&mut self, _: &mut Collector<()>) -> Result<(), BoltError> {
            let _ = self.0.send(self.1);
            Err(BoltError::new("a tick may fail"))
        }
    }
    let (ticks, ticked) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("none", given::<Number>([]), 1);
    let period = Duration::from_millis(3);
    builder.set_bolt("clock", Clock(ticks, 0), 2).shuffle_grouping("none").tick_every(period);
    let cluster = LocalCluster::with_threads(2);
    let start = std::time::Instant::now();
    let handle = cluster.submit("ticks", Config::default(), builder).unwrap();
    let mut counts = [0; 2];
    while counts.contains(&0) || counts.iter().sum::<u32>() < 20 {
        counts[take(&ticked, 1)[0]] += 1;
    }
    let most = *counts.iter().max().unwrap();
    assert!(start.elapsed() >= most * period, "{counts:?} ticks of two instances");
    assert_eq!(handle.stats().errors[0].message, "a tick may fail");
    drop((cluster, handle));
    ticked.iter().for_each(drop); // Ends, since with the instances the ticks do.
}

#[test]
fn an_inactive_topology_emits_nothing_and_goes_on_when_active() {
    let mut builder = TopologyBuilder::new();
    builder.set_spout("endless", Endless::default(), 1);
    let (tell, seen) = tell::<Number>();
    builder.set_bolt("tell", tell, 1).shuffle_grouping("endless");
    let cluster = LocalCluster::with_threads(2);
    let config = Config { active: false, ..Config::default() };
    let handle = cluster.submit("inactive", config, builder).unwrap();
    assert_eq!(handle.stats().status, Status::Inactive);
    handle.activate();
    take(&seen, 1_000);
    handle.deactivate();
    let settled = |handle: &TopologyHandle| {
        let before = emitted(handle, "endless");
        until("all is processed", || executed(handle, "tell") == emitted(handle, "endless"));
        before == emitted(handle, "endless")
    };
    until("nothing more comes", || settled(&handle));
    let before = emitted(&handle, "endless");
    handle.activate();
    until("it goes on", || emitted(&handle, "endless") > before);
}

/// Counts up for ever, with ids, and remembers which have been acked.
#[derive(Clone)]
struct Remembering {
    next: u64,
    /// How many instances there have been: each has numbers of its own.
    opened: Arc<AtomicU64>,
    acked: Arc<Mutex<Vec<u64>>>,
    failed: Arc<AtomicU64>,
}

impl Spout for Remembering {
    type Out = Number;

    fn open(&mut self, _: &Context) {
        self.next = self.opened.fetch_add(1, Ordering::SeqCst) << 32;
    }

    fn next_tuple(&mut self, out: &mut SpoutCollector<Number>) -> Next {
        out.emit_with_id((self.next,), MessageId(self.next));
        self.next += 1;
        Next::Emitted
    }
    fn ack(&mut self, id: MessageId) {
        self.acked.lock().unwrap().push(id.0);
    }
    fn fail(&mut self, _: MessageId, _: &str) {
        self.failed.fetch_add(1, Ordering::SeqCst);
    }
}

/// A chain under load: everything that was acked must have reached the end exactly once.
struct Load {
    cluster: LocalCluster,
    handle: TopologyHandle,
    acked: Arc<Mutex<Vec<u64>>>,
    failed: Arc<AtomicU64>,
    counted: Arc<Mutex<BTreeMap<u64, u64>>>,
}

fn load() -> Load {
    let (acked, failed) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::<AtomicU64>::default());
    let counted = Arc::<Mutex<BTreeMap<u64, u64>>>::default();
    let opened = Arc::default();
    let spout = Remembering { next: 0, opened, acked: acked.clone(), failed: failed.clone() };
    let pass = apply(|number: Number, out: &mut Collector<Number>| {
        out.emit(number);
        Ok(())
    });
    let counts = counted.clone();
    let count = apply(move |(n,): Number, _: &mut Collector<()>| {
        *counts.lock().unwrap().entry(n).or_default() += 1;
        Ok(())
    });
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("pass", pass, 2).shuffle_grouping("numbers").queue_tuples_max(500);
    builder.set_bolt("count", count, 2).fields_grouping("pass", ["0"]).queue_tuples_max(500);
    let cluster = LocalCluster::with_threads(2);
    let config = Config { max_spout_pending: Some(2_000), ..Config::default() };
    let handle = cluster.submit("load", config, builder).unwrap();
    Load { cluster, handle, acked, failed, counted }
}

impl Load {
    fn acked(&self) -> usize {
        self.acked.lock().unwrap().len()
    }

    fn goes_on(&self) {
        let before = self.acked();
        until("tuples are acked", || self.acked() > before + 5_000);
    }

    fn check(&self) {
        assert_eq!(self.failed.load(Ordering::SeqCst), 0);
        let acked = self.acked.lock().unwrap().clone();
        let counted = self.counted.lock().unwrap();
        for id in acked {
            assert_eq!(counted.get(&id), Some(&1), "tuple {id} was acked");
        }
    }
}

#[test]
fn rebalancing_under_load_loses_nothing() {
    let load = load();
    for (component, instances) in
        [("count", 5), ("pass", 1), ("numbers", 3), ("count", 1), ("pass", 4)]
    {
        load.goes_on();
        load.handle.rebalance(component, instances).unwrap();
        assert_eq!(load.handle.stats().component(component).unwrap().instances.len(), instances);
        assert_eq!(load.handle.stats().status, Status::Active);
    }
    load.goes_on();
    let per_instance = |component: &str| -> Vec<u64> {
        let stats = load.handle.stats();
        stats.component(component).unwrap().instances.iter().map(|it| it.executed).collect()
    };
    until("all four take part", || per_instance("pass").iter().all(|&n| n > 0));
    assert!(load.handle.kill(LONG));
    load.check();
}

#[test]
fn killing_with_a_wait_processes_everything_that_was_emitted() {
    let load = load();
    load.goes_on();
    assert!(load.handle.kill(LONG), "drained within the wait");
    assert!(load.cluster.list().is_empty());
    load.check();
    let counted = load.counted.lock().unwrap().len();
    assert_eq!(load.acked(), counted, "what was counted was acked as well");
}

#[test]
fn killing_without_a_wait_ends_at_once_and_frees_the_name() {
    #[derive(Clone)]
    struct Closing(Endless, Sender<()>);
    impl Spout for Closing {
        type Out = Number;
        fn next_tuple(&mut self, out: &mut SpoutCollector<Number>) -> Next {
            self.0.next_tuple(out)
        }
        fn close(&mut self) {
            let _ = self.1.send(());
        }
    }
    let (gated, open, entered) = gated();
    let (closing, closed) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("endless", Closing(Endless::default(), closing), 1);
    builder.set_bolt("slow", gated, 1).shuffle_grouping("endless").blocking();
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("name", Config::default(), builder).unwrap();
    take(&entered, 1);
    std::thread::scope(|scope| {
        let killed = scope.spawn(|| handle.kill(Duration::ZERO));
        take(&closed, 1);
        drop(open); // The slice that runs is waited for.
        assert!(!killed.join().unwrap(), "it had more to do");
    });
    assert!(cluster.topology("name").is_none());
    let mut builder = TopologyBuilder::new();
    builder.set_spout("endless", Endless::default(), 1);
    cluster.submit("name", Config::default(), builder).unwrap();
}

#[test]
fn cleanup_and_close_are_called_once_on_each_instance() {
    #[derive(Clone)]
    struct Tidy(Sender<&'static str>);
    impl Bolt for Tidy {
        type In = Number;
        type Out = ();
        fn prepare(&mut self, _: &Context) {
            let _ = self.0.send("prepare");
        }
        fn execute(&mut self, _: Number, _: &mut Collector<()>) -> Result<(), BoltError> {
            Ok(())
        }
        fn cleanup(&mut self) {
            let _ = self.0.send("bolt");
        }
    }
    #[derive(Clone)]
    struct Source(Sender<&'static str>);
    impl Spout for Source {
        type Out = Number;
        fn open(&mut self, _: &Context) {
            let _ = self.0.send("open");
        }
        fn next_tuple(&mut self, _: &mut SpoutCollector<Number>) -> Next {
            Next::Idle
        }
        fn deactivate(&mut self) {
            let _ = self.0.send("deactivate");
        }
        fn close(&mut self) {
            let _ = self.0.send("close");
        }
    }
    let (to, events) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("source", Source(to.clone()), 2);
    builder.set_bolt("tidy", Tidy(to), 3).shuffle_grouping("source");
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("tidy", Config::default(), builder).unwrap();
    let mut begun = take(&events, 5);
    begun.sort_unstable();
    assert_eq!(begun, ["open", "open", "prepare", "prepare", "prepare"]);
    assert!(handle.kill(LONG));
    let mut rest = take(&events, 7);
    rest.sort_unstable();
    assert_eq!(rest, ["bolt", "bolt", "bolt", "close", "close", "deactivate", "deactivate"]);
    drop((cluster, handle));
    assert_over(&events);
}

#[test]
fn an_idle_spout_is_asked_again_when_its_waker_is_woken() {
    #[derive(Clone)]
    struct Source {
        numbers: Arc<Mutex<Vec<u64>>>,
        wakers: Sender<Waker>,
    }
    impl Spout for Source {
        type Out = Number;
        fn open(&mut self, context: &Context) {
            let _ = self.wakers.send(context.waker());
        }
        fn next_tuple(&mut self, out: &mut SpoutCollector<Number>) -> Next {
            match self.numbers.lock().unwrap().pop() {
                Some(number) => {
                    out.emit((number,));
                    Next::Emitted
                }
                None => Next::Idle,
            }
        }
    }
    let (wakers, waker) = channel();
    let numbers = Arc::<Mutex<Vec<u64>>>::default();
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("source", Source { numbers: numbers.clone(), wakers }, 1);
    builder.set_bolt("tell", tell, 1).shuffle_grouping("source");
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("wake", Config::default(), builder).unwrap();
    let waker = take(&waker, 1).remove(0);
    for number in 0..1_000 {
        numbers.lock().unwrap().push(number);
        waker.wake();
        assert_eq!(take(&seen, 1)[0].tuple, (number,));
    }
}

#[test]
fn a_spout_that_wants_to_be_asked_later_is() {
    #[derive(Clone)]
    struct Slow(u64);
    impl Spout for Slow {
        type Out = Number;
        fn next_tuple(&mut self, out: &mut SpoutCollector<Number>) -> Next {
            out.emit((self.0,));
            self.0 += 1;
            Next::After(Duration::from_millis(2))
        }
    }
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("slow", Slow(0), 1);
    builder.set_bolt("tell", tell, 1).shuffle_grouping("slow");
    let cluster = LocalCluster::with_threads(2);
    let start = std::time::Instant::now();
    cluster.submit("later", Config::default(), builder).unwrap();
    take(&seen, 11);
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_spout_that_panics_is_recorded_and_tried_again() {
    #[derive(Clone)]
    struct Broken(Arc<AtomicBool>);
    impl Spout for Broken {
        type Out = Number;
        fn next_tuple(&mut self, out: &mut SpoutCollector<Number>) -> Next {
            assert!(self.0.swap(true, Ordering::SeqCst), "the source is not there yet");
            out.emit((1,));
            Next::Done
        }
    }
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("broken", Broken(Arc::default()), 1);
    builder.set_bolt("tell", tell, 1).shuffle_grouping("broken");
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("broken", Config::default(), builder).unwrap();
    take(&seen, 1);
    let error = handle.stats().errors.remove(0);
    assert!(error.message.ends_with("the source is not there yet"), "{error:?}");
    assert_eq!(error.component, "broken");
}

/// Waits for the test, tuple by tuple.
#[derive(Clone)]
struct Waiting {
    gate: Arc<tokio::sync::Semaphore>,
    begun: Sender<u64>,
}

impl AsyncBolt for Waiting {
    type In = Number;
    type Out = Number;
    const IN_FLIGHT_MAX: usize = 8;

    async fn execute(&self, (n,): Number, out: &mut Emits<Number>) -> Result<(), BoltError> {
        let _ = self.begun.send(n);
        self.gate.acquire().await?.forget();
        match n % 100 {
            13 => Err(BoltError::new("unlucky")),
            14 => panic!("worse"),
            _ => {
                out.emit((n,));
                Ok(())
            }
        }
    }
}

#[test]
fn an_async_bolt_has_a_bounded_number_of_tuples_in_flight() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (begun, in_flight) = channel();
    let (spout, fates) = followed((0..200u64).map(|n| (n,)));
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder
        .set_async_bolt("waiting", Waiting { gate: gate.clone(), begun }, 1)
        .shuffle_grouping("numbers");
    builder.set_bolt("tell", tell, 1).shuffle_grouping("waiting");
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("async", Config::default(), builder).unwrap();
    assert_eq!(take(&in_flight, 8).len(), 8);
    until("the rest waits", || executed(&handle, "numbers") >= 200);
    assert!(in_flight.try_recv().is_err(), "eight are in flight, and no more begin");
    gate.add_permits(200);
    let failed: BTreeMap<u64, String> = take(&fates, 200)
        .into_iter()
        .filter_map(|fate| match fate {
            Fate::Acked(_) => None,
            Fate::Failed(id, reason) => Some((id, reason)),
        })
        .collect();
    assert_eq!(failed.keys().copied().collect::<Vec<_>>(), [13, 14, 113, 114]);
    assert_eq!(failed[&13], "unlucky");
    assert!(failed[&14].starts_with("panicked at") && failed[&14].ends_with("worse"));
    assert_eq!(take(&seen, 196).len(), 196);
}

#[test]
fn blocking_bolts_do_not_hold_up_others() {
    let (gated, open, entered) = gated();
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given((0..100u64).map(|n| (n,))), 1);
    builder.set_bolt("block", gated, 4).shuffle_grouping("numbers").blocking();
    builder.set_bolt("tell", tell, 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("blocking", Config::default(), builder).unwrap();
    take(&entered, 1); // At least one is stuck, and three will be behind its gate.
    assert_eq!(take(&seen, 100).len(), 100);
    drop(open);
    assert_eq!(take(&entered, 99).len(), 99);
}

#[test]
fn several_topologies_run_side_by_side_and_are_listed() {
    let cluster = LocalCluster::with_threads(2);
    let mut all_seen = Vec::new();
    for name in ["b", "a"] {
        let (tell, seen) = tell::<Number>();
        let mut builder = TopologyBuilder::new();
        builder.set_spout("numbers", given((0..10u64).map(|n| (n,))), 1);
        builder.set_bolt("tell", tell, 1).shuffle_grouping("numbers");
        cluster.submit(name, Config::default(), builder).unwrap();
        all_seen.push(seen);
    }
    for seen in &all_seen {
        take(seen, 10);
    }
    let names: Vec<_> = cluster.list().iter().map(|it| it.name().to_owned()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn max_task_parallelism_lowers_what_was_asked_for() {
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given((0..10u64).map(|n| (n,))), 1);
    builder.set_bolt("tell", tell, 12).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(2);
    let config = Config { max_task_parallelism: Some(3), ..Config::default() };
    let handle = cluster.submit("max", config, builder).unwrap();
    take(&seen, 10);
    assert_eq!(handle.stats().component("tell").unwrap().instances.len(), 3);
}
