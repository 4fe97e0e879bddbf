//! Bolts made per request and async bolts of the DRPC builders, and spouts that replay, in worker processes: the same
//! answers as in one process, and an error or a replay when one dies.
//!
//! A worker is this executable started again, so `main` begins with a session; the cases run one after
//! the other in sessions of their own.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

#[path = "common/elsewhere.rs"]
mod elsewhere;

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use raybolt::drpc::{
    BatchBolt, DrpcRequest, DrpcTopologyBuilder, LinearDrpcTopologyBuilder, LocalDrpc, PerRequest,
};
use raybolt::topology::{
    AsyncBolt, Bolt, BoltError, Collector, Config, Context, Emits, LocalCluster, ReplaySpout,
    RequestId, TopologyBuilder,
};
use raybolt::{Builder, LogLevel};
use serde::{Deserialize, Serialize};

use cases::{Case, Harness};
use elsewhere::{Gate, LONG, keep, kill, pass};

const CASES: &[Case] = &cases![
    batch_and_async_bolts_of_both_builders_answer_from_processes,
    a_request_fails_when_the_process_dies_that_has_its_batch,
    a_request_fails_when_the_process_dies_that_has_its_future,
    a_replaying_spout_in_processes_says_when_all_of_it_is_done,
    a_replaying_spout_begins_anew_when_its_process_dies,
];

fn main() -> ExitCode {
    let mut harness = Harness::new();
    let builder = Builder::new().processes(2).log_level(LogLevel::Off);
    harness.in_sessions(&builder, CASES);
    harness.end()
}

type Word = (RequestId, String);

#[derive(Clone, Serialize, Deserialize)]
struct Split;

impl Bolt for Split {
    type In = DrpcRequest;
    type Out = Word;

    fn execute(&mut self, it: DrpcRequest, out: &mut Collector<Word>) -> Result<(), BoltError> {
        for word in it.text()?.split_whitespace() {
            out.emit((it.request, word.to_owned()));
        }
        Ok(())
    }
}

/// Makes words great, and waits in the gate with one of them.
#[derive(Clone, Serialize, Deserialize)]
struct Upper(Option<String>);

impl AsyncBolt for Upper {
    type In = Word;
    type Out = Word;

    async fn execute(&self, (request, word): Word, out: &mut Emits<Word>) -> Result<(), BoltError> {
        tokio::task::yield_now().await;
        if let Some(gate) = self.0.clone().filter(|_| word == "async") {
            tokio::task::spawn_blocking(move || pass(&gate)).await?;
        }
        out.emit((request, word.to_uppercase()));
        Ok(())
    }
}

/// Counts the distinct words of a request, and waits in the gate with one of them. Says in which process it was.
#[derive(Clone, Serialize, Deserialize)]
struct Distinct {
    gate: Option<String>,
    words: BTreeSet<String>,
    instances: usize,
}

impl Distinct {
    fn new(gate: Option<&Gate>) -> Self {
        let gate = gate.map(Gate::name);
        Distinct { gate, words: BTreeSet::new(), instances: 0 }
    }
}

impl BatchBolt for Distinct {
    type In = Word;
    type Out = Word;

    fn prepare(&mut self, context: &Context, _: RequestId) {
        self.instances = context.instances();
    }

    fn execute(&mut self, (_, word): Word, _: &mut Collector<Word>) -> Result<(), BoltError> {
        if let Some(gate) = self.gate.as_ref().filter(|_| word == "BATCH") {
            pass(gate);
        }
        self.words.insert(word);
        Ok(())
    }

    fn finish_batch(
        &mut self,
        request: RequestId,
        out: &mut Collector<Word>,
    ) -> Result<(), BoltError> {
        let (words, instances) = (self.words.len(), self.instances);
        out.emit((request, format!("{words} {instances} {}", std::process::id())));
        Ok(())
    }
}

/// How many words the answer says that there are, from another process.
fn words_of(answer: &str) -> usize {
    let mut parts = answer.split(' ').map(|part| part.parse::<usize>().unwrap());
    let words = parts.next().unwrap();
    assert_eq!(parts.next(), Some(2), "the clone was prepared");
    assert!(parts.next().is_some_and(|process| process as u32 != std::process::id()));
    words
}

fn linear(gate: Option<&Gate>) -> LinearDrpcTopologyBuilder {
    let mut builder = LinearDrpcTopologyBuilder::new("distinct");
    builder.add_bolt(Split, 1).in_processes(2);
    let upper = Upper(gate.map(Gate::name));
    builder.add_async_bolt(upper, 2).shuffle_grouping().in_processes(2);
    builder.add_batch_bolt(Distinct::new(gate), 2).fields_grouping(["0"]).in_processes(2);
    builder
}

fn any_shape() -> DrpcTopologyBuilder {
    let mut builder = DrpcTopologyBuilder::new("distinct");
    let requests = DrpcTopologyBuilder::REQUESTS;
    builder.set_bolt("split", Split, 1).shuffle_grouping(requests).in_processes(2);
    builder.set_async_bolt("upper", Upper(None), 2).shuffle_grouping("split").in_processes(2);
    let distinct = PerRequest::new(Distinct::new(None));
    builder.set_bolt("distinct", distinct, 2).fields_grouping("upper", ["0"]).in_processes(2);
    builder.returns("distinct");
    builder
}

fn batch_and_async_bolts_of_both_builders_answer_from_processes() {
    for is_linear in [true, false] {
        let (drpc, cluster) = (LocalDrpc::new(), LocalCluster::with_threads(2));
        let topology = match is_linear {
            true => linear(None).create_local_topology(&drpc),
            false => any_shape().create_local_topology(&drpc),
        };
        let topology = cluster.submit("distinct", Config::default(), topology.unwrap()).unwrap();
        assert_eq!(words_of(&drpc.execute("distinct", "to be or not To Be").unwrap()), 4);
        assert_eq!(words_of(&drpc.execute("distinct", "").unwrap()), 0, "of nothing, too");
        let text = |words: usize| (0..2 * words).map(move |it| format!("w{} ", it % words.max(1)));
        let pending: Vec<_> = (0..200)
            .map(|words| drpc.submit("distinct", &text(words).collect::<String>()))
            .collect();
        for (words, pending) in pending.into_iter().enumerate() {
            assert_eq!(words_of(&pending.wait().unwrap()), words);
        }
        topology.kill(LONG);
    }
}

/// A process dies while a bolt works on `word` of a request: that fails, and later ones are answered.
fn dies_with(word: &str) {
    let (drpc, cluster) = (LocalDrpc::new(), LocalCluster::with_threads(2));
    let gate = Gate::new(word);
    let topology = linear(Some(&gate)).create_local_topology(&drpc).unwrap();
    // What is lost is told at once: a timeout would come too late.
    let message_timeout = Duration::from_secs(3_600);
    let config = Config { message_timeout, ..Config::default() };
    let topology = cluster.submit("dies", config, topology).unwrap();
    assert_eq!(words_of(&drpc.execute("distinct", "a b").unwrap()), 2);
    let pending = drpc.submit("distinct", &format!("a {word} b"));
    let (victim, _inside) = gate.entered();
    gate.open();
    kill(victim);
    let error = pending.wait().unwrap_err().to_string();
    assert!(error.contains("died") || error.contains("worker"), "{error}");
    let begun = Instant::now();
    // Until all instances that lived there have begun anew, others may be lost as well.
    let answer = loop {
        match drpc.execute("distinct", &format!("{word} a b c")) {
            Ok(answer) => break answer,
            Err(error) => assert!(begun.elapsed() < LONG, "{error}"),
        }
    };
    assert_eq!(words_of(&answer), 4);
    topology.kill(LONG);
}

fn a_request_fails_when_the_process_dies_that_has_its_batch() {
    dies_with("batch");
}

fn a_request_fails_when_the_process_dies_that_has_its_future() {
    dies_with("async");
}

/// Numbers; waits in the gate in the middle.
#[derive(Clone, Serialize, Deserialize)]
struct Numbers(Range<u64>, Option<String>);

impl Iterator for Numbers {
    type Item = (u64,);

    fn next(&mut self) -> Option<(u64,)> {
        let number = self.0.next()?;
        if let Some(gate) = self.1.as_ref().filter(|_| number == 5_000) {
            pass(gate);
        }
        Some((number,))
    }
}

/// Fails each thousandth number once.
#[derive(Clone, Default)]
struct Fickle(BTreeSet<u64>);

impl Bolt for Fickle {
    type In = (u64,);
    type Out = (u64,);

    fn execute(&mut self, it: (u64,), out: &mut Collector<(u64,)>) -> Result<(), BoltError> {
        if it.0.is_multiple_of(1_000) && self.0.insert(it.0) {
            return Err(BoltError::new("not the first time"));
        }
        out.emit(it);
        Ok(())
    }
}

/// A topology of a spout that replays in processes; when it is done, and what came.
fn replaying(
    numbers: Numbers,
    instances: usize,
) -> (TopologyBuilder, Receiver<()>, Receiver<(u64,)>) {
    let (done, all_done) = channel();
    let (keep, kept) = keep::<(u64,)>();
    let mut builder = TopologyBuilder::new();
    let spout = ReplaySpout::new(numbers).on_done(move || done.send(()).unwrap());
    builder.set_spout("numbers", spout, instances).in_processes(2);
    builder.set_bolt("fickle", Fickle::default(), 1).shuffle_grouping("numbers");
    builder.set_bolt("keep", keep, 1).shuffle_grouping("fickle");
    (builder, all_done, kept)
}

fn a_replaying_spout_in_processes_says_when_all_of_it_is_done() {
    let (builder, all_done, kept) = replaying(Numbers(0..10_000, None), 2);
    let cluster = LocalCluster::with_threads(2);
    let config = Config { max_spout_pending: Some(1_000), ..Config::default() };
    let topology = cluster.submit("replaying", config, builder).unwrap();
    for _ in 0..2 {
        all_done.recv_timeout(LONG).unwrap();
    }
    // All of it was done by then.
    let mut numbers: Vec<u64> = kept.try_iter().map(|it| it.0).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..10_000), "each number once");
    assert!(topology.kill(LONG));
    let stats = topology.stats();
    assert_eq!((stats.pending_trees, stats.components[0].sum(|it| it.failed)), (0, 10));
    assert!(all_done.try_recv().is_err(), "once for each instance");
}

fn a_replaying_spout_begins_anew_when_its_process_dies() {
    let gate = Gate::new("replays");
    let (builder, all_done, kept) = replaying(Numbers(0..10_000, Some(gate.name())), 1);
    let cluster = LocalCluster::with_threads(2);
    let message_timeout = Duration::from_secs(3_600);
    let config = Config { message_timeout, ..Config::default() };
    let topology = cluster.submit("anew", config, builder).unwrap();
    let (victim, _inside) = gate.entered();
    assert!(all_done.try_recv().is_err());
    gate.open();
    kill(victim);
    all_done.recv_timeout(LONG).unwrap();
    let kept: Vec<u64> = kept.try_iter().map(|it| it.0).collect();
    assert_eq!(kept.iter().collect::<BTreeSet<_>>().len(), 10_000, "each at least once");
    assert!(kept.len() > 10_000, "it had begun");
    assert!(topology.kill(LONG));
    let stats = topology.stats();
    assert_eq!(stats.pending_trees, 0);
    assert!(all_done.try_recv().is_err(), "once");
}
