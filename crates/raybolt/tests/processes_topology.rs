//! Topologies with bolts in worker processes: the same results as in one process, and what is different when
//! a process dies.
//!
//! A worker is this executable started again, so `main` begins with a session; the cases run one after
//! the other in sessions of their own.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

#[path = "common/elsewhere.rs"]
mod elsewhere;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raybolt::drpc::{DrpcRequest, LinearDrpcTopologyBuilder, LocalDrpc};
use raybolt::topology::{
    Bolt, BoltError, Collector, Config, Context, Held, LocalCluster, Next, ReplaySpout, RequestId,
    Spout, SpoutCollector, TopologyBuilder,
};
use raybolt::{Builder, LogLevel};
use serde::{Deserialize, Serialize};

use cases::{Case, Harness};
use elsewhere::{Gate, LONG, keep, kill, pass};

const CASES: &[Case] = &cases![
    words_are_counted_exactly,
    a_slow_process_slows_the_spout_down,
    what_was_lost_with_a_process_is_replayed,
    held_tuples_ticks_and_failures_are_as_here,
    requests_are_answered_by_bolts_in_processes,
    too_few_processes_are_refused_with_the_lever,
];

fn main() -> ExitCode {
    let mut harness = Harness::new();
    let builder = Builder::new().processes(2).log_level(LogLevel::Off);
    harness.in_sessions(&builder, CASES);
    harness.end()
}

/// Counts words; here or elsewhere.
#[derive(Clone, Serialize, Deserialize, Default)]
struct Count(BTreeMap<String, u64>);

impl Bolt for Count {
    type In = (String,);
    type Out = (String, u64, u32);

    fn execute(
        &mut self,
        (word,): Self::In,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        let count = self.0.entry(word.clone()).or_default();
        *count += 1;
        out.emit((word, *count, std::process::id()));
        Ok(())
    }
}

fn words_are_counted_exactly() {
    let words: Vec<(String,)> =
        (0..20_000).map(|number| (format!("word {}", number % 97),)).collect();
    let (done, all_done) = channel();
    let (keep, kept) = keep::<(String, u64, u32)>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("words", ReplaySpout::new(words).on_done(move || done.send(()).unwrap()), 1);
    builder.set_bolt("count", Count::default(), 3).fields_grouping("words", ["0"]).in_processes(2);
    builder.set_bolt("keep", keep, 1).global_grouping("count");
    let cluster = LocalCluster::with_threads(2);
    let topology = cluster.submit("words", Config::default(), builder).unwrap();
    all_done.recv_timeout(LONG).unwrap();
    let (mut counts, mut processes) = (BTreeMap::new(), BTreeSet::new());
    for (word, count, process) in kept.try_iter() {
        let most = counts.entry(word).or_insert(0);
        *most = count.max(*most);
        processes.insert(process);
    }
    assert_eq!(counts.len(), 97);
    assert_eq!(counts.values().sum::<u64>(), 20_000);
    assert_eq!(counts["word 0"], 207);
    assert!(!processes.contains(&std::process::id()), "all were counted elsewhere");
    let stats = topology.stats();
    assert_eq!((stats.pending_trees, stats.errors_total), (0, 0));
    assert!(topology.kill(LONG));
}

/// Numbers, as fast as they are taken.
#[derive(Clone)]
struct Numbers {
    emitted: Arc<AtomicU64>,
    end: u64,
}

impl Spout for Numbers {
    type Out = (u64,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        let number = self.emitted.load(Ordering::Relaxed);
        if number == self.end {
            return Next::Done;
        }
        out.emit((number,));
        self.emitted.store(number + 1, Ordering::Relaxed);
        Next::Emitted
    }
}

/// Waits in the gate with its first tuple.
#[derive(Clone, Serialize, Deserialize)]
struct Slow {
    gate: Option<String>,
}

impl Bolt for Slow {
    type In = (u64,);
    type Out = (u64,);

    fn execute(&mut self, it: (u64,), out: &mut Collector<(u64,)>) -> Result<(), BoltError> {
        if let Some(gate) = self.gate.take() {
            pass(&gate);
        }
        out.emit(it);
        Ok(())
    }
}

/// How far the spout is ahead of what arrives, at most.
#[derive(Clone)]
struct Lead {
    emitted: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
    last: Sender<()>,
    end: u64,
}

impl Bolt for Lead {
    type In = (u64,);
    type Out = ();

    fn execute(&mut self, (number,): (u64,), _: &mut Collector<()>) -> Result<(), BoltError> {
        let lead = self.emitted.load(Ordering::Relaxed) - number;
        self.most.fetch_max(lead, Ordering::Relaxed);
        if number + 1 == self.end {
            self.last.send(()).unwrap();
        }
        Ok(())
    }
}

fn a_slow_process_slows_the_spout_down() {
    let (gate, end) = (Gate::new("slow"), 60_000);
    let (emitted, most) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let (last, arrived) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", Numbers { emitted: emitted.clone(), end }, 1);
    let slow = Slow { gate: Some(gate.name()) };
    builder.set_bolt("slow", slow, 1).shuffle_grouping("numbers").in_processes(1);
    let lead = Lead { emitted: emitted.clone(), most: most.clone(), last, end };
    builder.set_bolt("lead", lead, 1).shuffle_grouping("slow");
    let cluster = LocalCluster::with_threads(2);
    let config = Config { queue_tuples_max: 512, ..Config::default() };
    let topology = cluster.submit("slow", config, builder).unwrap();
    let entered = gate.entered();
    // Its inbox is full, or was and is not half empty, and it has calls under way: nothing moves any more.
    while topology.stats().components[1].instances[0].queued <= 256 {
        std::thread::yield_now();
    }
    drop(entered);
    arrived.recv_timeout(LONG).unwrap();
    // Four calls of 512, and before and behind them an inbox, a batch that waits for room, and what a slice has
    // in hand.
    let most = most.load(Ordering::Relaxed);
    assert!((256..=10_000).contains(&most), "the spout was {most} tuples ahead");
    assert!(topology.kill(LONG));
}

/// Says which process worked on a number; one number is worked on as long as the gate is there.
#[derive(Clone, Serialize, Deserialize)]
struct Stamp {
    gate: String,
}

impl Bolt for Stamp {
    type In = (u64,);
    type Out = (u64, u32);

    fn execute(
        &mut self,
        (number,): (u64,),
        out: &mut Collector<(u64, u32)>,
    ) -> Result<(), BoltError> {
        if number == 5_000 {
            pass(&self.gate);
        }
        out.emit((number, std::process::id()));
        Ok(())
    }
}

fn what_was_lost_with_a_process_is_replayed() {
    let (gate, (done, all_done)) = (Gate::new("murder"), channel());
    let (keep, kept) = keep::<(u64, u32)>();
    let mut builder = TopologyBuilder::new();
    let numbers = ReplaySpout::new((0..30_000u64).map(|number| (number,)));
    builder.set_spout("numbers", numbers.on_done(move || done.send(()).unwrap()), 1);
    let stamp = Stamp { gate: gate.name() };
    builder.set_bolt("stamp", stamp, 1).shuffle_grouping("numbers").in_processes(1);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("stamp");
    let cluster = LocalCluster::with_threads(2);
    // What is lost is told at once: a timeout would come too late.
    let message_timeout = Duration::from_secs(3_600);
    let config = Config { max_spout_pending: Some(4_000), message_timeout, ..Config::default() };
    let topology = cluster.submit("replayed", config, builder).unwrap();
    let (victim, _stream) = gate.entered();
    gate.open(); // The next one passes.
    kill(victim);
    all_done.recv_timeout(LONG).unwrap();
    let kept: Vec<_> = kept.try_iter().collect();
    let numbers: BTreeSet<u64> = kept.iter().map(|it| it.0).collect();
    assert_eq!(numbers.len(), 30_000, "each was seen at least once");
    assert!(kept.contains(&(0, victim)), "it had begun");
    assert!(kept.iter().any(|it| it.0 == 5_000 && it.1 != victim), "another process went on");
    let stats = topology.stats();
    assert_eq!(stats.pending_trees, 0);
    assert!(stats.errors_total > 0, "the loss is recorded");
    assert!(stats.components[1].instances[0].failed > 0, "tuples were lost with it");
    assert!(topology.kill(LONG));
}

/// Adds numbers up: holds them until a tick comes.
#[derive(Clone, Serialize, Deserialize, Default)]
struct Holding {
    #[serde(skip)]
    row: Row,
}

/// What a bolt holds, which belongs to one instance.
#[derive(Default)]
struct Row(Mutex<(u64, Vec<Held>)>);

impl Clone for Row {
    fn clone(&self) -> Self {
        Row::default()
    }
}

impl Bolt for Holding {
    type In = (u64,);
    type Out = (u64,);

    fn execute(&mut self, (number,): (u64,), out: &mut Collector<(u64,)>) -> Result<(), BoltError> {
        if number == 13 {
            return Err(BoltError::new("thirteen"));
        }
        let (sum, held) = self.row.0.get_mut().unwrap();
        *sum += number;
        held.push(out.hold());
        Ok(())
    }

    fn tick(&mut self, out: &mut Collector<(u64,)>) -> Result<(), BoltError> {
        let (sum, mut held) = std::mem::take(self.row.0.get_mut().unwrap());
        if !held.is_empty() {
            out.emit_anchored(held.iter_mut(), (sum,));
            held.into_iter().for_each(|held| out.ack(held));
        }
        Ok(())
    }
}

/// Emits each number once, and keeps what became of it.
#[derive(Clone)]
struct Once {
    next: u64,
    told: Sender<(u64, Option<String>)>,
}

impl Spout for Once {
    type Out = (u64,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        if self.next == 100 {
            return Next::Done;
        }
        out.emit_with_id((self.next,), raybolt::topology::MessageId(self.next));
        self.next += 1;
        Next::Emitted
    }

    fn ack(&mut self, id: raybolt::topology::MessageId) {
        self.told.send((id.0, None)).unwrap();
    }

    fn fail(&mut self, id: raybolt::topology::MessageId, reason: &str) {
        self.told.send((id.0, Some(reason.to_owned()))).unwrap();
    }
}

fn held_tuples_ticks_and_failures_are_as_here() {
    let (told, fates) = channel();
    let (keep, kept) = keep::<(u64,)>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("once", Once { next: 0, told }, 1);
    builder
        .set_bolt("sum", Holding::default(), 1)
        .shuffle_grouping("once")
        .tick_every(Duration::from_millis(5))
        .in_processes(1);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("sum");
    let cluster = LocalCluster::with_threads(2);
    let topology = cluster.submit("held", Config::default(), builder).unwrap();
    for _ in 0..100 {
        let (number, failure) = fates.recv_timeout(LONG).unwrap();
        assert_eq!(failure.is_some(), number == 13, "{number}: {failure:?}");
        assert!(failure.is_none_or(|reason| reason.contains("thirteen")));
    }
    let sum: u64 = kept.try_iter().map(|it| it.0).sum();
    assert_eq!(sum, (0..100).sum::<u64>() - 13);
    assert_eq!(topology.stats().errors_total, 1);
    assert!(topology.kill(LONG));
}

#[derive(Clone, Serialize, Deserialize)]
struct Split;

impl Bolt for Split {
    type In = DrpcRequest;
    type Out = (RequestId, String);

    fn execute(
        &mut self,
        it: DrpcRequest,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        if it.text()? == "die" {
            std::process::abort();
        }
        for word in it.text()?.split_whitespace() {
            out.emit((it.request, word.to_owned()));
        }
        Ok(())
    }
}

/// How many words a request has, said when it has seen all.
#[derive(Clone, Serialize, Deserialize, Default)]
struct Total {
    counts: BTreeMap<u64, u64>,
    instances: usize,
}

impl Bolt for Total {
    type In = (RequestId, String);
    type Out = (RequestId, String);

    const WANTS_FINISHED: bool = true;

    fn prepare(&mut self, context: &Context) {
        self.instances = context.instances();
    }

    fn execute(&mut self, it: Self::In, _: &mut Collector<Self::Out>) -> Result<(), BoltError> {
        *self.counts.entry(it.0.0).or_default() += 1;
        Ok(())
    }

    fn finished(
        &mut self,
        request: RequestId,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        let count = self.counts.remove(&request.0).unwrap_or(0);
        out.emit((request, format!("{count} words, {} instance", self.instances)));
        Ok(())
    }
}

fn requests_are_answered_by_bolts_in_processes() {
    let (drpc, cluster) = (LocalDrpc::new(), LocalCluster::with_threads(2));
    let mut builder = LinearDrpcTopologyBuilder::new("words");
    builder.add_bolt(Split, 2).in_processes(2);
    builder.add_bolt(Total::default(), 1).global_grouping().in_processes(2);
    let topology = builder.create_local_topology(&drpc).unwrap();
    let topology = cluster.submit("words", Config::default(), topology).unwrap();
    let answer = drpc.execute("words", "to be or not to be").unwrap();
    assert_eq!(answer, "6 words, 1 instance");
    let pending: Vec<_> = (0..200).map(|n| drpc.submit("words", &"word ".repeat(n))).collect();
    for (n, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap(), format!("{n} words, 1 instance"));
    }
    let error = drpc.execute("words", "die").unwrap_err().to_string();
    assert!(error.contains("died") || error.contains("worker"), "{error}");
    // Until all instances that lived there have begun anew, others may be lost as well.
    let again = (0..20).find_map(|_| drpc.execute("words", "alive again").ok());
    assert_eq!(again.unwrap(), "2 words, 1 instance");
    topology.kill(LONG);
}

fn too_few_processes_are_refused_with_the_lever() {
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", Numbers { emitted: Arc::default(), end: 0 }, 1);
    builder
        .set_bolt("stamp", Stamp { gate: String::new() }, 1)
        .shuffle_grouping("numbers")
        .in_processes(3);
    let submitted = LocalCluster::with_threads(1).submit("refused", Config::default(), builder);
    assert_eq!(
        submitted.map(drop).unwrap_err().to_string(),
        "bolt `stamp` is declared to run in 3 worker processes, but the session has 2; begin it \
         with `Builder::processes(3)` or `RAYBOLT_WORKERS=processes:3`"
    );
}
