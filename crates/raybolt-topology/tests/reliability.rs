//! At-least-once: trees that are done, that fail, that time out, and what spouts are told.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use raybolt_topology::*;

type Number = (u64,);

#[test]
fn a_tuple_is_acked_when_all_that_came_of_it_is_processed() {
    let (spout, fates) = followed((0..5_000u64).map(|n| (n,)));
    let spread = apply(|(n,): Number, out: &mut Collector<Number>| {
        (0..n % 4).for_each(|copy| out.emit((10 * n + copy,)));
        Ok(())
    });
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("spread", spread, 2).shuffle_grouping("numbers");
    builder.set_bolt("tell", tell, 3).fields_grouping("spread", ["0"]).all_grouping("spread");
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("acks", Config::default(), builder).unwrap();
    let acked: BTreeSet<u64> = take(&fates, 5_000)
        .into_iter()
        .map(|fate| match fate {
            Fate::Acked(id) => id,
            Fate::Failed(id, reason) => panic!("{id} failed: {reason}"),
        })
        .collect();
    assert_eq!(acked.len(), 5_000);
    assert_eq!(take(&seen, 4 * 7_500).len(), 30_000);
    assert_eq!(handle.stats().pending_trees, 0);
}

#[test]
fn a_failure_is_told_with_its_message_and_the_others_are_acked() {
    let (spout, fates) = followed((0..100u64).map(|n| (n,)));
    let picky = apply(
        |(n,): Number, _: &mut Collector<()>| {
            if n % 10 == 3 { Err(BoltError::new(format!("not {n}"))) } else { Ok(()) }
        },
    );
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("picky", picky, 2).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("fails", Config::default(), builder).unwrap();
    for fate in take(&fates, 100) {
        match fate {
            Fate::Acked(id) => assert_ne!(id % 10, 3),
            Fate::Failed(id, reason) => assert_eq!((id % 10, reason), (3, format!("not {id}"))),
        }
    }
    // Counters are published at the end of the slice that tells the spout.
    let numbers = || handle.stats().component("numbers").unwrap().clone();
    until("all have been told", || numbers().sum(|it| it.acked + it.failed) == 100);
    assert_eq!(numbers().sum(|it| it.failed), 10);
    let stats = handle.stats();
    assert_eq!(stats.component("picky").unwrap().sum(|it| it.failed), 10);
    assert_eq!(stats.errors_total, 10);
    assert_eq!(stats.errors[0].component, "picky");
}

/// Fails each tuple the first time it sees it, in one of two ways.
#[derive(Clone)]
struct Flaky {
    seen: Arc<Mutex<BTreeSet<u64>>>,
    counted: Counts,
}

impl Bolt for Flaky {
    type In = (u64, String);
    type Out = ();

    fn execute(&mut self, (id, word): Self::In, _: &mut Collector<()>) -> Result<(), BoltError> {
        if id.is_multiple_of(7) && self.seen.lock().unwrap().insert(id) {
            assert!(!id.is_multiple_of(2), "an injected panic");
            return Err(BoltError::new("an injected failure"));
        }
        *self.counted.lock().unwrap().entry(word).or_default() += 1;
        Ok(())
    }
}

#[test]
fn a_replayed_source_counts_everything_despite_failures_and_panics() {
    let source = (0..2_000u64).map(|id| (id, format!("word{}", id % 5)));
    let (done, is_done) = channel();
    let spout = ReplaySpout::new(source.collect::<Vec<_>>()).on_done(move || {
        let _ = done.send(());
    });
    let flaky = Flaky { seen: Arc::default(), counted: Counts::default() };
    let counted = flaky.counted.clone();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("words", spout, 1);
    builder.set_bolt("count", flaky, 3).fields_grouping("words", ["1"]);
    let cluster = LocalCluster::with_threads(2);
    let config = Config { max_spout_pending: Some(64), ..Config::default() };
    let handle = cluster.submit("replay", config, builder).unwrap();
    take(&is_done, 1);
    let expected: BTreeMap<_, _> = (0..5).map(|n| (format!("word{n}"), 400)).collect();
    assert_eq!(*counted.lock().unwrap(), expected);
    let sum = |component: &str, of: fn(&InstanceStats) -> u64| {
        handle.stats().component(component).unwrap().sum(of)
    };
    until("the panics are published", || sum("count", |it| it.panics) == 143);
    until("the failures are published", || sum("words", |it| it.failed) == 286);
}

#[test]
fn a_tuple_that_is_held_too_long_times_out_exactly() {
    let (hold, held) = channel();
    let keep = apply(move |_: Number, out: &mut Collector<()>| {
        let _ = hold.send((out.hold(), Instant::now()));
        Ok(())
    });
    let (spout, fates) = followed([(0u64,)]);
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("numbers");
    let timeout = Duration::from_millis(80);
    let config = Config { message_timeout: timeout, ..Config::default() };
    let start = Instant::now();
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("timeout", config, builder).unwrap();
    let (held, _) = take(&held, 1).remove(0);
    assert_eq!(take(&fates, 1), [Fate::Failed(0, "message timeout".to_owned())]);
    assert!(start.elapsed() >= timeout, "never before its time");
    held.ack(); // Too late: nobody is told twice.
    drop(cluster);
    assert_over(&fates);
}

/// Pairs tuples of equal key from two streams; its output is anchored to both.
#[derive(Clone, Default)]
struct Pair {
    waiting: BTreeMap<u64, Arc<Mutex<Option<Held>>>>,
}

impl Bolt for Pair {
    type In = Number;
    type Out = Number;

    fn execute(&mut self, (key,): Number, out: &mut Collector<Number>) -> Result<(), BoltError> {
        let mut mine = out.hold();
        match self.waiting.remove(&key) {
            None => {
                self.waiting.insert(key, Arc::new(Mutex::new(Some(mine))));
            }
            Some(other) => {
                let mut other = other.lock().unwrap().take().expect("it waits once");
                out.emit_anchored([&mut mine, &mut other], (key,));
                out.ack(mine);
                out.ack(other);
            }
        }
        Ok(())
    }
}

#[test]
fn a_join_fails_both_of_its_sources_when_its_output_fails() {
    let (left, left_fates) = followed((0..50u64).map(|n| (n,)));
    let (right, right_fates) = followed((0..50u64).map(|n| (n,)));
    let picky = apply(
        |(n,): Number, _: &mut Collector<()>| {
            if n == 13 { Err(BoltError::new("unlucky")) } else { Ok(()) }
        },
    );
    let mut builder = TopologyBuilder::new();
    builder.set_spout("left", left, 1);
    builder.set_spout("right", right, 1);
    builder
        .set_bolt("pair", Pair::default(), 2)
        .fields_grouping("left", ["0"])
        .fields_grouping("right", ["0"]);
    builder.set_bolt("picky", picky, 2).shuffle_grouping("pair");
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("join", Config::default(), builder).unwrap();
    for fates in [left_fates, right_fates] {
        let fates = take(&fates, 50);
        let failed: Vec<_> = fates.iter().filter(|fate| matches!(fate, Fate::Failed(..))).collect();
        assert_eq!(failed, [&Fate::Failed(13, "unlucky".to_owned())]);
    }
}

#[test]
fn a_spout_is_not_asked_while_its_maximum_is_pending() {
    let (hold, held) = channel();
    let keep = apply(move |_: Number, out: &mut Collector<()>| {
        let _ = hold.send(out.hold());
        Ok(())
    });
    let (spout, fates) = followed((0..100u64).map(|n| (n,)));
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(2);
    let config = Config { max_spout_pending: Some(10), ..Config::default() };
    let handle = cluster.submit("pending", config, builder).unwrap();
    for round in 0..10 {
        let held = take(&held, 10);
        let emitted = || handle.stats().component("numbers").unwrap().sum(|it| it.emitted);
        until("the counter is published", || emitted() == 10 * (round + 1));
        held.into_iter().for_each(Held::ack);
        take(&fates, 10);
    }
}

#[test]
fn a_tuple_with_an_id_that_nobody_reads_is_acked() {
    let (spout, fates) = followed([(1u64,)]);
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("nobody", Config::default(), builder).unwrap();
    assert_eq!(take(&fates, 1), [Fate::Acked(0)]);
}

#[test]
fn a_panic_is_recorded_with_its_place_and_the_instance_goes_on_afresh() {
    let prepared = Arc::new(AtomicU64::new(0));
    #[derive(Clone)]
    struct Fragile(Arc<AtomicU64>, u64);
    impl Bolt for Fragile {
        type In = Number;
        type Out = ();
        fn prepare(&mut self, _: &Context) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        fn execute(&mut self, (n,): Number, _: &mut Collector<()>) -> Result<(), BoltError> {
            self.1 += 1;
            assert!(self.1 <= 1, "state {} of a clone at {n}", self.1);
            Ok(())
        }
    }
    let (spout, fates) = followed((0..4u64).map(|n| (n,)));
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("fragile", Fragile(prepared.clone(), 0), 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("panics", Config::default(), builder).unwrap();
    let mut fates = take(&fates, 4);
    fates.sort_by_key(|fate| match fate {
        Fate::Acked(id) | Fate::Failed(id, _) => *id,
    });
    assert_eq!((&fates[0], &fates[2]), (&Fate::Acked(0), &Fate::Acked(2)));
    let Fate::Failed(1, reason) = &fates[1] else { panic!("{fates:?}") };
    assert!(reason.starts_with("panicked at crates/raybolt-topology/tests/reliability.rs:"));
    assert!(reason.ends_with("state 2 of a clone at 1"), "{reason}");
    assert_eq!(prepared.load(Ordering::SeqCst), 3);
    let panics = || handle.stats().component("fragile").unwrap().sum(|it| it.panics);
    until("the panics are published", || panics() == 2);
}

#[test]
fn a_bolt_that_cannot_be_prepared_fails_its_tuples_with_a_reason() {
    #[derive(Clone)]
    struct Hopeless;
    impl Bolt for Hopeless {
        type In = Number;
        type Out = ();
        fn prepare(&mut self, _: &Context) {
            panic!("no database");
        }
        fn execute(&mut self, _: Number, _: &mut Collector<()>) -> Result<(), BoltError> {
            Ok(())
        }
    }
    let (spout, fates) = followed([(0u64,), (1,)]);
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("hopeless", Hopeless, 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("hopeless", Config::default(), builder).unwrap();
    for fate in take(&fates, 2) {
        let Fate::Failed(_, reason) = fate else { panic!("{fate:?}") };
        assert_eq!(reason, "the instance could not be prepared");
    }
    let errors = handle.stats().errors;
    assert!(errors[0].message.starts_with("prepare panicked at"), "{errors:?}");
    assert!(errors[0].message.ends_with("no database"), "{errors:?}");
}

#[test]
fn a_dynamic_tuple_that_does_not_fit_fails() {
    let (spout, fates) = followed([values!["not a number"], values![7]]);
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("values", spout, 1);
    builder.set_bolt("tell", tell, 1).shuffle_grouping("values");
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("convert", Config::default(), builder).unwrap();
    let message = "field `0` expects u64, not the value \"not a number\"".to_owned();
    let mut fates = take(&fates, 2);
    fates.sort_by_key(|fate| matches!(fate, Fate::Acked(_)));
    assert_eq!(fates, [Fate::Failed(0, message.clone()), Fate::Acked(1)]);
    assert_eq!(take(&seen, 1)[0].tuple, (7,));
    assert_eq!(handle.stats().errors[0].message, message);
}
