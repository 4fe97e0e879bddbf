//! Topologies whose bolts do more in a worker than a call asks for: async bolts, and tuples that are held there and
//! settled by other threads.
//!
//! A worker is this executable started again, so `main` begins with a session; the cases run one after
//! the other in sessions of their own.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

#[path = "common/elsewhere.rs"]
mod elsewhere;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use raybolt::topology::{
    AsyncBolt, Bolt, BoltError, Collector, Config, Emits, LocalCluster, Next, ReplaySpout, Spout,
    SpoutCollector, TopologyBuilder,
};
use raybolt::{Builder, LogLevel};
use serde::{Deserialize, Serialize};

use cases::{Case, Harness};
use elsewhere::{Diary, Gate, LONG, keep, kill, meanwhile, pass, settled};

const CASES: &[Case] = &cases![
    async_bolts_work_in_processes,
    futures_that_wait_hold_the_spout_back,
    what_futures_had_is_replayed_when_their_process_dies,
    tuples_that_other_threads_settle_are_settled_at_once,
];

fn main() -> ExitCode {
    let mut harness = Harness::new();
    let builder = Builder::new().processes(2).log_level(LogLevel::Off);
    harness.in_sessions(&builder, CASES);
    harness.end()
}

/// Gives way a few times, then says in which process. Thirteen fails, once for each process.
#[derive(Clone, Serialize, Deserialize)]
struct Yielding {
    diary: Diary,
    #[serde(skip)]
    running: Arc<AtomicU64>,
}

impl AsyncBolt for Yielding {
    type In = (u64,);
    type Out = (u64, u32);

    const IN_FLIGHT_MAX: usize = 8;

    async fn execute(&self, it: (u64,), out: &mut Emits<Self::Out>) -> Result<(), BoltError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst);
        if running >= 8 {
            self.diary.note("too many");
        }
        for _ in 0..it.0 % 10 {
            tokio::task::yield_now().await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        if it.0 == 13 && self.diary.count("thirteen") == 0 {
            self.diary.note("thirteen");
            return Err(BoltError::new("thirteen"));
        }
        out.emit((it.0, std::process::id()));
        Ok(())
    }
}

fn async_bolts_work_in_processes() {
    let diary = Diary::new("yielding");
    let (done, all_done) = channel();
    let (keep, kept) = keep::<(u64, u32)>();
    let mut builder = TopologyBuilder::new();
    let numbers = ReplaySpout::new((0..10_000u64).map(|number| (number,)));
    builder.set_spout("numbers", numbers.on_done(move || done.send(()).unwrap()), 1);
    let yielding = Yielding { diary: diary.clone(), running: Arc::default() };
    builder.set_async_bolt("yielding", yielding, 2).shuffle_grouping("numbers").in_processes(2);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("yielding");
    let cluster = LocalCluster::with_threads(2);
    let topology = cluster.submit("yielding", Config::default(), builder).unwrap();
    all_done.recv_timeout(LONG).unwrap();
    assert!(topology.kill(LONG));
    let kept: Vec<_> = kept.try_iter().collect();
    let numbers: BTreeSet<u64> = kept.iter().map(|it| it.0).collect();
    assert_eq!((numbers.len(), kept.len()), (10_000, 10_000), "each once");
    assert!(kept.iter().all(|it| it.1 != std::process::id()), "all were worked on elsewhere");
    assert_eq!(diary.count("too many"), 0);
    let stats = topology.stats();
    assert_eq!((stats.pending_trees, stats.errors_total), (0, 1), "{:?}", stats.errors);
    let bolt = &stats.components[1];
    assert_eq!((bolt.sum(|it| it.acked), bolt.sum(|it| it.failed)), (10_000, 1));
}

/// Waits in a gate with its first tuples.
#[derive(Clone, Serialize, Deserialize)]
struct Waiting(String);

impl AsyncBolt for Waiting {
    type In = (u64,);
    type Out = (u64, u32);

    const IN_FLIGHT_MAX: usize = 4;

    async fn execute(&self, it: (u64,), out: &mut Emits<Self::Out>) -> Result<(), BoltError> {
        let gate = self.0.clone();
        tokio::task::spawn_blocking(move || pass(&gate)).await?;
        out.emit((it.0, std::process::id()));
        Ok(())
    }
}

/// Numbers, unfollowed, as fast as they are taken.
#[derive(Clone)]
struct Numbers(u64);

impl Spout for Numbers {
    type Out = (u64,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        out.emit((self.0,));
        self.0 += 1;
        Next::Emitted
    }
}

fn futures_that_wait_hold_the_spout_back() {
    let gate = Gate::new("waiting");
    let (keep, kept) = keep::<(u64, u32)>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", Numbers(0), 1);
    let waiting = Waiting(gate.name());
    builder.set_async_bolt("waiting", waiting, 1).shuffle_grouping("numbers").in_processes(1);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("waiting");
    let cluster = LocalCluster::with_threads(2);
    let config = Config { queue_tuples_max: 256, ..Config::default() };
    let topology = cluster.submit("waiting", config, builder).unwrap();
    let inside: Vec<_> = (0..4).map(|_| gate.entered()).collect();
    // Or the inbox would be filled again.
    while topology.stats().components[1].instances[0].queued <= 128 {
        std::thread::yield_now();
    }
    let before = settled(|| topology.stats().components[0].instances[0].emitted);
    assert!((128..=10_000).contains(&before), "{before} were emitted");
    assert!(kept.try_recv().is_err());
    gate.open();
    drop(inside);
    let numbers: BTreeSet<u64> = (0..before).map(|_| kept.recv_timeout(LONG).unwrap().0).collect();
    assert!(numbers.len() as u64 == before, "none is lost, none comes twice");
    topology.deactivate();
    assert!(topology.kill(LONG));
    let stats = topology.stats();
    let kept = kept.try_iter().count() as u64 + before;
    assert_eq!(stats.components[0].instances[0].emitted, kept, "what was there is worked off");
    assert_eq!(stats.errors_total, 0, "{:?}", stats.errors);
}

fn what_futures_had_is_replayed_when_their_process_dies() {
    let (gate, (done, all_done)) = (Gate::new("futures"), channel());
    let (keep, kept) = keep::<(u64, u32)>();
    let mut builder = TopologyBuilder::new();
    let numbers = ReplaySpout::new((0..1_000u64).map(|number| (number,)));
    builder.set_spout("numbers", numbers.on_done(move || done.send(()).unwrap()), 1);
    let waiting = Waiting(gate.name());
    builder.set_async_bolt("waiting", waiting, 1).shuffle_grouping("numbers").in_processes(1);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("waiting");
    let cluster = LocalCluster::with_threads(2);
    // What is lost is told at once, also if no call is under way.
    let message_timeout = Duration::from_secs(3_600);
    let config = Config { message_timeout, ..Config::default() };
    let topology = cluster.submit("futures", config, builder).unwrap();
    let inside: Vec<_> = (0..4).map(|_| gate.entered()).collect();
    let victim = inside[0].0;
    meanwhile();
    gate.open();
    kill(victim);
    all_done.recv_timeout(LONG).unwrap();
    assert!(topology.kill(LONG));
    let kept: Vec<_> = kept.try_iter().collect();
    let numbers: BTreeSet<u64> = kept.iter().map(|it| it.0).collect();
    assert_eq!(numbers.len(), 1_000);
    assert!(kept.iter().all(|it| it.1 != victim), "another process did it");
    let stats = topology.stats();
    assert_eq!(stats.pending_trees, 0);
    assert!(stats.components[1].instances[0].failed >= 4, "what it had was lost with it");
}

/// Holds each tuple, and has it settled by a thread.
#[derive(Clone, Serialize, Deserialize)]
struct Handing;

impl Bolt for Handing {
    type In = (u64,);
    type Out = ();

    fn execute(&mut self, (number,): (u64,), out: &mut Collector<()>) -> Result<(), BoltError> {
        let held = out.hold();
        std::thread::spawn(move || match number % 10 {
            3 => held.fail("threes are not liked"),
            _ => held.ack(),
        });
        Ok(())
    }
}

/// Emits 100 numbers, the next when it knows of the last, and gives none again.
#[derive(Clone)]
struct OneByOne(u64);

impl Spout for OneByOne {
    type Out = (u64,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        if out.pending() > 0 {
            return Next::Idle;
        }
        if self.0 == 100 {
            return Next::Done;
        }
        out.emit_with_id((self.0,), raybolt::topology::MessageId(self.0));
        self.0 += 1;
        Next::Emitted
    }
}

fn tuples_that_other_threads_settle_are_settled_at_once() {
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", OneByOne(0), 1);
    builder.set_bolt("handing", Handing, 1).shuffle_grouping("numbers").in_processes(1);
    let cluster = LocalCluster::with_threads(2);
    let message_timeout = Duration::from_secs(3_600);
    let config = Config { message_timeout, ..Config::default() };
    let topology = cluster.submit("handing", config, builder).unwrap();
    let begun = std::time::Instant::now();
    let told = || {
        let stats = topology.stats();
        let spout = &stats.components[0].instances[0];
        (spout.acked, spout.failed)
    };
    while told().0 + told().1 < 100 {
        assert!(begun.elapsed() < LONG, "{:?} of 100 were settled", told());
        std::thread::yield_now();
    }
    assert_eq!(told(), (90, 10));
    assert!(topology.kill(LONG));
}
