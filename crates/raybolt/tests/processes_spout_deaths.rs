//! Topologies with spouts in worker processes that die: what is emitted again, who is told, and what is not begun
//! again.
//!
//! A worker is this executable started again, so `main` begins with a session; the cases run one after
//! the other in sessions of their own. What a spout does in its worker it writes into a [`Diary`].

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

#[path = "common/elsewhere.rs"]
mod elsewhere;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raybolt::topology::{
    Bolt, BoltError, Collector, Config, Context, LocalCluster, MessageId, Next, Spout,
    SpoutCollector, TopologyBuilder, TopologyHandle,
};
use raybolt::{Builder, LogLevel};
use serde::{Deserialize, Serialize};

use cases::{Case, Harness};
use elsewhere::{Diary, Gate, LONG, kill, meanwhile, pass, twice};

const CASES: &[Case] = &cases![
    each_message_of_a_killed_spout_is_delivered_at_least_once,
    nobody_is_told_what_becomes_of_the_tuples_of_the_dead,
    a_spout_that_has_ended_stays_ended,
];

fn main() -> ExitCode {
    let mut harness = Harness::new();
    let builder = Builder::new().processes(2).log_level(LogLevel::Off);
    harness.in_sessions(&builder, CASES);
    harness.end()
}

/// Emits numbers, each again until it is done, and stops in a gate on its way. How far it is it keeps in itself.
#[derive(Clone, Serialize, Deserialize)]
struct Replaying {
    gate: String,
    diary: Diary,
    end: u64,
    next: u64,
    pending: BTreeSet<u64>,
    again: Vec<u64>,
}

/// Nobody is held up there.
const NO_GATE: &str = "/nowhere";

impl Replaying {
    fn new(gate: &str, diary: &Diary, end: u64) -> Self {
        let (pending, again) = (BTreeSet::new(), Vec::new());
        Replaying { gate: gate.into(), diary: diary.clone(), end, next: 0, pending, again }
    }
}

impl Spout for Replaying {
    type Out = (u64, u32);

    fn open(&mut self, _: &Context) {
        self.diary.note(&format!("opened by {}", std::process::id()));
    }

    fn next_tuple(&mut self, out: &mut SpoutCollector<Self::Out>) -> Next {
        let number = match self.again.pop() {
            Some(number) => number,
            None if self.next == self.end => return Next::Done,
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        if number == self.end / 2 {
            pass(&self.gate);
        }
        self.pending.insert(number);
        out.emit_with_id((number, std::process::id()), MessageId(number));
        Next::Emitted
    }

    fn ack(&mut self, id: MessageId) {
        assert!(self.pending.remove(&id.0), "{id:?} is none of mine");
        if self.next == self.end && self.pending.is_empty() {
            self.diary.note("all done");
        }
    }

    fn fail(&mut self, id: MessageId, _: &str) {
        self.diary.note("failed");
        assert!(self.pending.contains(&id.0), "{id:?} is none of mine");
        self.again.push(id.0);
    }
}

/// The process that first opened a [`Replaying`].
fn opened_by(diary: &Diary) -> u32 {
    let opened = diary.lines()[0].clone();
    opened.strip_prefix("opened by ").unwrap().parse().unwrap()
}

/// Fails each number once.
#[derive(Clone)]
struct Reluctant(BTreeSet<u64>, Sender<(u64, u32)>);

impl Bolt for Reluctant {
    type In = (u64, u32);
    type Out = ();

    fn execute(&mut self, it: (u64, u32), _: &mut Collector<()>) -> Result<(), BoltError> {
        if it.0.is_multiple_of(5) && self.0.insert(it.0) {
            return Err(BoltError::new("not at once"));
        }
        let _ = self.1.send(it);
        Ok(())
    }
}

/// What a worker emits is failed once, and then comes to the test.
fn reluctantly(
    replaying: Replaying,
    config: Config,
) -> (TopologyHandle, LocalCluster, Receiver<(u64, u32)>) {
    let (sender, kept) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("replaying", replaying, 1).in_processes(1);
    let reluctant = Reluctant(BTreeSet::new(), sender);
    builder.set_bolt("reluctant", reluctant, 1).shuffle_grouping("replaying");
    let cluster = LocalCluster::with_threads(2);
    let topology = cluster.submit("replaying", config, builder).unwrap();
    (topology, cluster, kept)
}

fn each_message_of_a_killed_spout_is_delivered_at_least_once() {
    let (gate, diary, end) = (Gate::new("murder"), Diary::new("replaying"), 10_000);
    let replaying = Replaying::new(&gate.name(), &diary, end);
    // Nothing here waits for a timeout.
    let message_timeout = Duration::from_secs(3_600);
    let config = Config { max_spout_pending: Some(1_000), message_timeout, ..Config::default() };
    let (topology, _cluster, kept) = reluctantly(replaying, config);
    let (victim, _stream) = gate.entered();
    gate.open();
    kill(victim);
    diary.wait_for("all done", 1);
    assert!(topology.kill(LONG));
    let kept: Vec<_> = kept.try_iter().collect();
    let numbers: BTreeSet<u64> = kept.iter().map(|it| it.0).collect();
    assert_eq!(numbers.len() as u64, end, "each was delivered");
    assert!(kept.iter().any(|it| it.1 == victim), "the dead one had begun");
    let by_another: BTreeSet<u64> =
        kept.iter().filter(|it| it.1 != victim).map(|it| it.0).collect();
    assert_eq!(
        by_another.len() as u64,
        end,
        "the next one begins where its state does: at the beginning"
    );
    assert_eq!(diary.count("opened"), 2);
    let stats = topology.stats();
    assert_eq!(stats.pending_trees, 0);
    assert_eq!(stats.errors_total, end / 5 + 1, "the loss is recorded, once");
    assert_eq!(stats.components[0].instances[0].panics, 0, "nobody was told of what is not his");
}

/// Once it may, fails each number once, but for those that one process emitted.
#[derive(Clone)]
struct Judge(Arc<Mutex<Receiver<u32>>>, u32, BTreeSet<u64>);

impl Bolt for Judge {
    type In = (u64, u32);
    type Out = ();

    fn execute(&mut self, it: (u64, u32), _: &mut Collector<()>) -> Result<(), BoltError> {
        if self.1 == 0 {
            self.1 = self.0.lock().unwrap().recv()?;
        }
        if it.1 != self.1 && self.2.insert(it.0) {
            return Err(BoltError::new("not at once"));
        }
        Ok(())
    }
}

fn nobody_is_told_what_becomes_of_the_tuples_of_the_dead() {
    let diary = Diary::new("judged");
    let (judge, leave) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("replaying", Replaying::new(NO_GATE, &diary, 10), 1).in_processes(1);
    let bolt = Judge(Arc::new(Mutex::new(leave)), 0, BTreeSet::new());
    builder.set_bolt("judge", bolt, 1).shuffle_grouping("replaying").blocking();
    let cluster = LocalCluster::with_threads(2);
    let topology = cluster.submit("judged", Config::default(), builder).unwrap();
    let emitted = |count| {
        while topology.stats().components[0].instances[0].emitted < count {
            std::thread::yield_now();
        }
    };
    emitted(10);
    let victim = opened_by(&diary);
    meanwhile(); // It has said that it has ended, but not all of its tuples are done.
    kill(victim);
    emitted(20);
    assert_eq!(topology.stats().pending_trees, 20);
    judge.send(victim).unwrap();
    diary.wait_for("all done", 1);
    assert!(topology.kill(LONG));
    let stats = topology.stats();
    let spout = &stats.components[0].instances[0];
    assert_eq!((spout.emitted, spout.acked, spout.failed), (30, 20, 10));
    assert_eq!((diary.count("opened"), diary.count("failed")), (2, 10), "its own failures");
}

fn a_spout_that_has_ended_stays_ended() {
    let diary = Diary::new("ended");
    let replaying = Replaying::new(NO_GATE, &diary, 1_000);
    let (topology, _cluster, kept) = reluctantly(replaying, Config::default());
    diary.wait_for("all done", 1);
    let process = opened_by(&diary);
    topology.deactivate();
    // Which waits until nothing is under way: it has said that it has ended.
    topology.rebalance("reluctant", 1).unwrap();
    kill(process);
    // Its death is known when its worker's place is taken.
    while raybolt::get(&twice::remote(1)).is_err() {}
    meanwhile();
    topology.activate();
    topology.deactivate();
    topology.activate();
    meanwhile();
    assert_eq!(diary.count("opened"), 1, "nobody wants anything of it any more");
    assert_eq!(kept.try_iter().count(), 1_000);
    assert!(topology.kill(LONG));
}
