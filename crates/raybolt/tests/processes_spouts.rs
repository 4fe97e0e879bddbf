//! Topologies with spouts in worker processes: what they emit, what holds them back, and what they are told. What
//! becomes of their messages when a process dies is in `processes_spout_deaths.rs`.
//!
//! A worker is this executable started again, so `main` begins with a session; the cases run one after
//! the other in sessions of their own. What a spout does in its worker it writes into a [`Diary`].

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

#[path = "common/elsewhere.rs"]
mod elsewhere;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raybolt::topology::{
    Bolt, BoltError, Collector, Config, Context, LocalCluster, MessageId, Next, Outputs, Spout,
    SpoutCollector, TopologyBuilder, TopologyHandle, Waker,
};
use raybolt::{Builder, LogLevel, Value};
use serde::{Deserialize, Serialize};

use cases::{Case, Harness};
use elsewhere::{Diary, Gate, LONG, keep, kill, knock, meanwhile, pass, settled};

const CASES: &[Case] = &cases![
    words_of_spouts_in_processes_are_counted_exactly,
    a_full_inbox_stops_the_spout,
    as_many_tuples_are_pending_as_may_be,
    an_idle_spout_is_left_alone_until_its_waker_is_woken,
    a_spout_that_dies_while_it_has_nothing_to_do_begins_anew,
    acks_and_failures_reach_the_instance_that_emitted,
    panics_and_tuples_that_cannot_travel_are_told,
    spouts_that_block_hold_nobody_else_up,
    spouts_in_processes_are_rebalanced,
    what_cannot_be_is_refused_with_the_lever,
];

fn main() -> ExitCode {
    let mut harness = Harness::new();
    let builder = Builder::new().processes(2).log_level(LogLevel::Off);
    harness.in_sessions(&builder, CASES);
    harness.end()
}

/// Its share of 20,000 words, on one stream, and how many they were on another.
#[derive(Clone, Serialize, Deserialize, Default)]
struct Words {
    next: u64,
    step: u64,
    emitted: u64,
}

const WORDS: u64 = 20_000;

impl Spout for Words {
    type Out = (String, u32);

    fn declare_outputs(&self, outputs: &mut Outputs<Self::Out>) {
        outputs.stream::<(u64,)>("totals");
    }

    fn open(&mut self, context: &Context) {
        assert_eq!((context.topology(), context.component()), ("words", "words"));
        self.next = context.instance() as u64;
        self.step = context.instances() as u64;
    }

    fn next_tuple(&mut self, out: &mut SpoutCollector<Self::Out>) -> Next {
        if self.next >= WORDS {
            out.emit_on("totals", (self.emitted,));
            return Next::Done;
        }
        // Some followed, some not.
        let tuple = (format!("word {}", self.next % 97), std::process::id());
        match self.next % 3 {
            0 => out.emit(tuple),
            _ => out.emit_with_id(tuple, MessageId(self.next)),
        }
        self.next += self.step;
        self.emitted += 1;
        Next::Emitted
    }
}

/// Counts words; here or elsewhere.
#[derive(Clone, Serialize, Deserialize, Default)]
struct Count(BTreeMap<String, u64>);

impl Bolt for Count {
    type In = (String, u32);
    type Out = (String, u64, u32);

    fn execute(
        &mut self,
        it: (String, u32),
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        let count = self.0.entry(it.0.clone()).or_default();
        *count += 1;
        out.emit((it.0, *count, it.1));
        Ok(())
    }
}

fn words_of_spouts_in_processes_are_counted_exactly() {
    let (keep_words, words) = keep::<(String, u64, u32)>();
    let (keep_totals, totals) = keep::<(u64,)>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("words", Words::default(), 3).in_processes(2);
    builder.set_bolt("count", Count::default(), 2).fields_grouping("words", ["0"]).in_processes(2);
    builder.set_bolt("keep", keep_words, 1).global_grouping("count");
    builder.set_bolt("totals", keep_totals, 1).shuffle_grouping_on("words", "totals");
    let cluster = LocalCluster::with_threads(2);
    let config = Config { max_spout_pending: Some(700), ..Config::default() };
    let topology = cluster.submit("words", config, builder).unwrap();
    let (mut counts, mut processes) = (BTreeMap::new(), BTreeSet::new());
    for _ in 0..WORDS {
        let (word, count, process) = words.recv_timeout(LONG).unwrap();
        let most = counts.entry(word).or_insert(0);
        *most = count.max(*most);
        processes.insert(process);
    }
    assert_eq!(counts.len(), 97);
    assert_eq!(counts.values().sum::<u64>(), WORDS);
    assert_eq!(counts["word 0"], 207);
    assert!(!processes.contains(&std::process::id()), "all were made elsewhere");
    let sum: u64 = (0..3).map(|_| totals.recv_timeout(LONG).unwrap().0).sum();
    assert_eq!(sum, WORDS, "each share came to its end");
    assert!(topology.kill(LONG));
    let stats = topology.stats();
    assert_eq!((stats.pending_trees, stats.errors_total), (0, 0), "{:?}", stats.errors);
    let spout = &stats.components[0];
    assert_eq!(spout.sum(|it| it.emitted), WORDS + 3);
    assert_eq!(spout.sum(|it| it.executed), WORDS + 3, "calls are counted where they are made");
    assert_eq!(spout.sum(|it| it.acked), WORDS - WORDS.div_ceil(3));
}

/// One spout in a worker, whose tuples come to the test.
fn alone<S: Spout + Value>(
    name: &str,
    spout: S,
    config: Config,
) -> (TopologyHandle, LocalCluster, Receiver<S::Out>) {
    let (keep, kept) = keep();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("spout", spout, 1).in_processes(1);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("spout");
    let cluster = LocalCluster::with_threads(2);
    let topology = cluster.submit(name, config, builder).unwrap();
    (topology, cluster, kept)
}

/// Numbers without end, each written down when it is made.
#[derive(Clone, Serialize, Deserialize)]
struct Endless {
    diary: Diary,
    next: u64,
    followed: bool,
}

impl Spout for Endless {
    type Out = (u64,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        self.diary.note("made");
        match self.followed {
            true => out.emit_with_id((self.next,), MessageId(self.next)),
            false => out.emit((self.next,)),
        }
        self.next += 1;
        Next::Emitted
    }
}

/// Waits for leave with its first tuple.
#[derive(Clone)]
struct Stopped(Arc<Mutex<Receiver<()>>>, u64);

impl Bolt for Stopped {
    type In = (u64,);
    type Out = (u64,);

    fn execute(&mut self, it: (u64,), out: &mut Collector<(u64,)>) -> Result<(), BoltError> {
        if self.1 == 0 {
            let _ = self.0.lock().unwrap().recv();
        }
        self.1 += 1;
        out.emit(it);
        Ok(())
    }
}

/// The numbers of a spout behind a bolt that is stopped until what is returned first is dropped.
fn stopped(
    name: &str,
    followed: bool,
    config: Config,
) -> (Sender<()>, Diary, TopologyHandle, LocalCluster, Receiver<(u64,)>) {
    let diary = Diary::new(name);
    let (go_on, leave) = channel();
    let (keep, kept) = keep::<(u64,)>();
    let mut builder = TopologyBuilder::new();
    let endless = Endless { diary: diary.clone(), next: 0, followed };
    builder.set_spout("endless", endless, 1).in_processes(1);
    let stopped = Stopped(Arc::new(Mutex::new(leave)), 0);
    builder.set_bolt("stopped", stopped, 1).shuffle_grouping("endless").blocking();
    builder.set_bolt("keep", keep, 1).shuffle_grouping("stopped");
    let cluster = LocalCluster::with_threads(2);
    let topology = cluster.submit(name, config, builder).unwrap();
    (go_on, diary, topology, cluster, kept)
}

fn a_full_inbox_stops_the_spout() {
    let config = Config { queue_tuples_max: 256, ..Config::default() };
    let (go_on, diary, topology, _cluster, kept) = stopped("inbox", false, config);
    // One batch is in the bolt's hands; the inbox takes the one that makes it full, and one waits for room. One that
    // was full is filled again when no more than half of it is left.
    while topology.stats().components[1].instances[0].queued <= 128 {
        std::thread::yield_now();
    }
    let sent = || topology.stats().components[0].instances[0].emitted;
    let (made, _) = settled(|| (diary.count("made"), sent()));
    assert!((128..=4 * 512).contains(&made), "{made} were made");
    drop(go_on);
    for number in 0..10_000 {
        assert_eq!(kept.recv_timeout(LONG).unwrap().0, number, "it goes on where it was");
    }
    assert!(topology.kill(LONG));
}

fn as_many_tuples_are_pending_as_may_be() {
    let config = Config { max_spout_pending: Some(100), ..Config::default() };
    let (go_on, diary, topology, _cluster, kept) = stopped("pending", true, config);
    while topology.stats().pending_trees < 100 {
        std::thread::yield_now();
    }
    meanwhile();
    assert_eq!(diary.count("made"), 100, "the spout is not even asked");
    assert_eq!(topology.stats().pending_trees, 100);
    drop(go_on);
    for number in 0..3_000 {
        assert_eq!(kept.recv_timeout(LONG).unwrap().0, number);
        assert!(topology.stats().pending_trees <= 100);
    }
    topology.deactivate();
    assert!(topology.kill(LONG));
    let spout = topology.stats().components[0].instances[0].clone();
    assert_eq!(
        spout.emitted,
        diary.count("made") as u64,
        "nothing that was made is lost by an end in order"
    );
    assert_eq!(spout.acked, spout.emitted);
}

/// Emits what comes over a socket, and counts how often it is asked.
#[derive(Clone, Serialize, Deserialize)]
struct Mail {
    diary: Diary,
    gate: String,
    #[serde(skip)]
    arrived: Arc<Mutex<VecDeque<u8>>>,
}

impl Spout for Mail {
    type Out = (u64,);

    fn open(&mut self, context: &Context) {
        let (gate, waker, arrived) = (self.gate.clone(), context.waker(), self.arrived.clone());
        std::thread::spawn(move || deliver(&gate, &waker, &arrived));
    }

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        self.diary.note("asked");
        let Some(letter) = self.arrived.lock().unwrap().pop_front() else { return Next::Idle };
        out.emit((u64::from(letter),));
        Next::Emitted
    }

    fn activate(&mut self) {
        self.diary.note("activate");
    }

    fn deactivate(&mut self) {
        self.diary.note("deactivate");
    }

    fn close(&mut self) {
        self.diary.note("close");
    }
}

fn deliver(gate: &str, waker: &Waker, arrived: &Mutex<VecDeque<u8>>) {
    let mut stream = knock(gate).unwrap();
    let mut letter = [0];
    while stream.read_exact(&mut letter).is_ok() {
        arrived.lock().unwrap().push_back(letter[0]);
        waker.wake();
    }
}

fn an_idle_spout_is_left_alone_until_its_waker_is_woken() {
    let (diary, gate) = (Diary::new("mail"), Gate::new("mailbox"));
    let mail = Mail { diary: diary.clone(), gate: gate.name(), arrived: Arc::default() };
    let (topology, _cluster, kept) = alone("mail", mail, Config::default());
    let (_, mut stream) = gate.entered();
    diary.wait_for("asked", 1);
    let asked = settled(|| diary.count("asked")); // Nobody polls.
    for letter in 0..100 {
        stream.write_all(&[letter]).unwrap();
        assert_eq!(kept.recv_timeout(LONG).unwrap().0, u64::from(letter));
    }
    let asked = diary.count("asked") - asked;
    assert!((100..=400).contains(&asked), "asked {asked} times for 100 letters");
    topology.deactivate();
    diary.wait_for("deactivate", 1);
    stream.write_all(&[200]).unwrap();
    meanwhile();
    assert!(kept.try_recv().is_err(), "it is not asked while it is not active");
    topology.activate();
    assert_eq!(kept.recv_timeout(LONG).unwrap().0, 200);
    assert_eq!((diary.count("activate"), diary.count("deactivate")), (1, 1));
    assert!(topology.kill(LONG));
    assert_eq!(diary.count("close"), 1);
    assert_eq!(topology.stats().errors_total, 0);
}

fn a_spout_that_dies_while_it_has_nothing_to_do_begins_anew() {
    let (diary, gate) = (Diary::new("restless"), Gate::new("restless-box"));
    let mail = Mail { diary: diary.clone(), gate: gate.name(), arrived: Arc::default() };
    let (topology, _cluster, kept) = alone("restless", mail, Config::default());
    let mut before = BTreeSet::new();
    for round in 0..3 {
        let (process, mut stream) = gate.entered();
        assert!(before.insert(process), "another process");
        stream.write_all(&[round]).unwrap();
        assert_eq!(kept.recv_timeout(LONG).unwrap().0, u64::from(round));
        meanwhile(); // Now it has nothing to do.
        if round < 2 {
            kill(process);
        }
    }
    assert!(topology.kill(LONG));
    assert!(topology.stats().errors_total >= 2, "the losses are recorded");
}

/// Emits 300 messages, with rests, and writes down what becomes of them.
#[derive(Clone, Serialize, Deserialize)]
struct Told {
    diary: Diary,
    instance: u64,
    next: u64,
    rested: bool,
}

impl Spout for Told {
    type Out = (u64,);

    fn open(&mut self, context: &Context) {
        self.instance = context.instance() as u64;
    }

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        if self.next == 300 {
            return Next::Done;
        }
        self.rested = !self.rested;
        if self.rested && self.next.is_multiple_of(7) {
            return Next::After(Duration::from_millis(2));
        }
        let id = self.instance * 1_000 + self.next;
        out.emit_with_id((id,), MessageId(id));
        self.next += 1;
        Next::Emitted
    }

    fn ack(&mut self, id: MessageId) {
        self.diary.note(&format!("{} hears that {} is done", self.instance, id.0));
    }

    fn fail(&mut self, id: MessageId, reason: &str) {
        self.diary.note(&format!("{} hears that {} failed: {reason}", self.instance, id.0));
    }
}

/// Fails every tenth.
#[derive(Clone)]
struct Picky;

impl Bolt for Picky {
    type In = (u64,);
    type Out = ();

    fn execute(&mut self, (number,): (u64,), _: &mut Collector<()>) -> Result<(), BoltError> {
        match number % 10 {
            0 => Err(BoltError::new(format!("not {number}"))),
            _ => Ok(()),
        }
    }
}

fn acks_and_failures_reach_the_instance_that_emitted() {
    let diary = Diary::new("told");
    let mut builder = TopologyBuilder::new();
    let told = Told { diary: diary.clone(), instance: 0, next: 0, rested: false };
    builder.set_spout("told", told, 4).in_processes(2);
    builder.set_bolt("picky", Picky, 2).shuffle_grouping("told");
    let cluster = LocalCluster::with_threads(2);
    let config = Config { max_spout_pending: Some(20), ..Config::default() };
    let topology = cluster.submit("told", config, builder).unwrap();
    diary.wait_for("", 4 * 300);
    assert!(topology.kill(LONG));
    let mut expected = BTreeSet::new();
    for (instance, number) in (0..4).flat_map(|instance| (0..300).map(move |n| (instance, n))) {
        let id = instance * 1_000 + number;
        expected.insert(match id % 10 {
            0 => format!("{instance} hears that {id} failed: not {id}"),
            _ => format!("{instance} hears that {id} is done"),
        });
    }
    let lines = diary.lines();
    assert_eq!(lines.len(), expected.len(), "each is told once");
    assert_eq!(lines.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// Panics in the midst of its numbers, once for each that divides by 100; one of its tuples is none.
#[derive(Clone, Serialize, Deserialize)]
struct Clumsy {
    diary: Diary,
    next: u64,
}

/// Cannot be serialized when it is 13.
#[derive(Clone, Debug, Hash, PartialEq, Deserialize)]
struct Shy(u64);

impl Serialize for Shy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(serde::ser::Error::custom("it is shy")),
            number => serializer.serialize_newtype_struct("Shy", &number),
        }
    }
}

impl raybolt::topology::Field for Shy {}

impl Spout for Clumsy {
    type Out = (Shy,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(Shy,)>) -> Next {
        if self.next == 0 {
            self.next = self.diary.count("panic") as u64 * 100;
        }
        if self.next == 300 {
            return Next::Done;
        }
        self.next += 1;
        out.emit_with_id((Shy(self.next),), MessageId(self.next));
        if self.next.is_multiple_of(100) && self.next < 300 {
            self.diary.note("panic");
            panic!("clumsy at {}", self.next);
        }
        Next::Emitted
    }

    fn fail(&mut self, id: MessageId, reason: &str) {
        self.diary.note(&format!("failed {}: {reason}", id.0));
    }
}

fn panics_and_tuples_that_cannot_travel_are_told() {
    let diary = Diary::new("clumsy");
    let clumsy = Clumsy { diary: diary.clone(), next: 0 };
    let (topology, _cluster, kept) = alone("clumsy", clumsy, Config::default());
    let numbers: BTreeSet<u64> = (0..299).map(|_| kept.recv_timeout(LONG).unwrap().0.0).collect();
    assert_eq!(numbers, (1..=300).filter(|number| *number != 13).collect());
    diary.wait_for("failed 13", 1);
    assert!(topology.kill(LONG));
    let failures: Vec<_> =
        diary.lines().into_iter().filter(|it| it.starts_with("failed")).collect();
    assert_eq!(failures.len(), 1, "only the one that is shy: {failures:?}");
    assert!(failures[0].contains("Shy cannot be encoded"), "{failures:?}");
    let stats = topology.stats();
    assert_eq!(stats.components[0].instances[0].panics, 2);
    for wanted in ["clumsy at 100", "clumsy at 200", "Shy cannot be encoded"] {
        let told = stats.errors.iter().filter(|it| it.message.contains(wanted)).count();
        assert_eq!(told, 1, "{wanted}: {:?}", stats.errors);
    }
}

/// Blocks in `next_tuple` until it may pass.
#[derive(Clone, Serialize, Deserialize)]
struct Blocking(String, u64);

impl Spout for Blocking {
    type Out = (u64,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        pass(&self.0);
        self.1 += 1;
        out.emit((self.1,));
        Next::Emitted
    }
}

fn spouts_that_block_hold_nobody_else_up() {
    let gate = Gate::new("blocking");
    let (keep, kept) = keep::<(u64,)>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("blocking", Blocking(gate.name(), 0), 4).blocking().in_processes(2);
    builder.set_bolt("keep", keep, 1).shuffle_grouping("blocking");
    let cluster = LocalCluster::with_threads(1);
    let topology = cluster.submit("blocking", Config::default(), builder).unwrap();
    let blocked: Vec<_> = (0..4).map(|_| gate.entered()).collect();
    meanwhile(); // Their workers do other work.
    assert!(kept.try_recv().is_err());
    drop(blocked);
    let again: Vec<_> = (0..4).map(|_| gate.entered()).collect();
    for _ in 0..4 {
        assert_eq!(
            kept.recv_timeout(LONG).unwrap().0,
            1,
            "what one call emitted does not wait for the next"
        );
    }
    topology.deactivate();
    gate.open();
    drop(again);
    assert!(topology.kill(LONG));
}

fn spouts_in_processes_are_rebalanced() {
    let diary = Diary::new("rebalanced");
    let endless = Endless { diary: diary.clone(), next: 0, followed: true };
    let config = Config { max_spout_pending: Some(50), ..Config::default() };
    let (topology, _cluster, kept) = alone("rebalanced", endless, config);
    kept.recv_timeout(LONG).unwrap();
    topology.rebalance("spout", 3).unwrap();
    // All of them begin from 0 again.
    let mut begun = 0;
    while begun < 3 {
        begun += usize::from(kept.recv_timeout(LONG).unwrap().0 == 0);
    }
    topology.deactivate();
    assert!(topology.kill(LONG));
    assert_eq!(topology.stats().errors_total, 0);
}

#[derive(Clone, Serialize, Deserialize)]
struct Directing;

impl Spout for Directing {
    type Out = ();

    fn declare_outputs(&self, outputs: &mut Outputs<()>) {
        outputs.direct_stream::<(u64,)>("direct");
    }

    fn next_tuple(&mut self, _: &mut SpoutCollector<()>) -> Next {
        Next::Done
    }
}

fn what_cannot_be_is_refused_with_the_lever() {
    let mut builder = TopologyBuilder::new();
    builder.set_spout("words", Words::default(), 1).in_processes(3);
    let cluster = LocalCluster::with_threads(1);
    assert_eq!(
        cluster.submit("refused", Config::default(), builder).map(drop).unwrap_err().to_string(),
        "spout `words` is declared to run in 3 worker processes, but the session has 2; begin it \
         with `Builder::processes(3)` or `RAYBOLT_WORKERS=processes:3`"
    );
    let mut builder = TopologyBuilder::new();
    builder.set_spout("directing", Directing, 1).in_processes(1);
    let error = builder.build().map(drop).unwrap_err().to_string();
    assert!(error.starts_with("spout `directing` is declared to run in worker processes and emits on the direct stream `direct`"), "{error}");
}
