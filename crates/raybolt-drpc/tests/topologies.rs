//! Topologies that answer requests: linear ones and branching ones.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use common::{Count, Exclaim, Fixture, LONG, Split, With};
use raybolt_drpc::{
    BatchBolt, DrpcRequest, DrpcTopologyBuilder, LinearDrpcTopologyBuilder, LocalDrpc, PerRequest,
    RequestId,
};
use raybolt_topology::{Bolt, BoltError, Collector, Topology, Tuple, Value, Values};

/// Program 15, as Storm's book writes it: dynamic tuples.
#[derive(Clone)]
struct ExclaimValues;

impl Bolt for ExclaimValues {
    type In = Values;
    type Out = Values;

    fn declare_outputs(&self, outputs: &mut raybolt_topology::Outputs<Values>) {
        outputs.fields(["id", "result"]);
    }

    fn execute(&mut self, it: Values, out: &mut Collector<Values>) -> Result<(), BoltError> {
        let text = it.str(1).ok_or_else(|| BoltError::new("no text"))?;
        out.emit(Values(vec![it[0].clone(), Value::from(format!("{text}!"))]));
        Ok(())
    }
}

#[test]
fn hello_becomes_hello_with_an_exclamation_mark() {
    let it = Fixture::new();
    it.serve("exclamation", Exclaim);
    it.serve("exclamation-values", ExclaimValues);
    assert_eq!(it.drpc.execute("exclamation", "hello").unwrap(), "hello!");
    assert_eq!(it.drpc.execute("exclamation-values", "hello").unwrap(), "hello!");
    assert_eq!(it.drpc.functions(), ["exclamation", "exclamation-values"]);
}

const TWEETERS: [(&str, &str); 3] = [
    ("foo.com/blog/1", "sally bob tim george nathan"),
    ("engineering.twitter.com/blog/5", "adam david sally nathan"),
    ("tech.backtype.com/blog/123", "tim mike john"),
];

const FOLLOWERS: [(&str, &str); 7] = [
    ("sally", "bob tim alice adam jim chris jai"),
    ("bob", "sally nathan jim mary david vivian"),
    ("tim", "alex"),
    ("nathan", "sally bob adam harry chris vivian emily jordan"),
    ("adam", "david carissa"),
    ("mike", "john bob"),
    ("john", "alice nathan jim mike bob"),
];

fn look_up(table: &[(&str, &'static str)], key: &str) -> impl Iterator<Item = String> {
    let row = table.iter().find(|(name, _)| *name == key).map_or("", |(_, row)| row);
    row.split_whitespace().map(String::from)
}

#[derive(Clone, Tuple)]
#[tuple(crate = "raybolt_topology")]
struct Person {
    id: RequestId,
    name: String,
}

#[derive(Clone)]
struct GetTweeters;

impl Bolt for GetTweeters {
    type In = DrpcRequest;
    type Out = Person;

    fn execute(&mut self, it: DrpcRequest, out: &mut Collector<Person>) -> Result<(), BoltError> {
        for name in look_up(&TWEETERS, it.text()?) {
            out.emit(Person { id: it.request, name });
        }
        Ok(())
    }
}

#[derive(Clone)]
struct GetFollowers;

impl Bolt for GetFollowers {
    type In = Person;
    type Out = Person;

    fn execute(&mut self, it: Person, out: &mut Collector<Person>) -> Result<(), BoltError> {
        for name in look_up(&FOLLOWERS, &it.name) {
            out.emit(Person { id: it.id, name });
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
struct PartialUniquer(BTreeSet<String>);

impl BatchBolt for PartialUniquer {
    type In = Person;
    type Out = Count;

    fn execute(&mut self, it: Person, _: &mut Collector<Count>) -> Result<(), BoltError> {
        self.0.insert(it.name);
        Ok(())
    }

    fn finish_batch(&mut self, id: RequestId, out: &mut Collector<Count>) -> Result<(), BoltError> {
        out.emit(Count { id, count: self.0.len() as u64 });
        Ok(())
    }
}

#[derive(Clone, Default)]
struct CountAggregator(u64);

impl BatchBolt for CountAggregator {
    type In = Count;
    type Out = Count;

    fn execute(&mut self, it: Count, _: &mut Collector<Count>) -> Result<(), BoltError> {
        self.0 += it.count;
        Ok(())
    }

    fn finish_batch(&mut self, id: RequestId, out: &mut Collector<Count>) -> Result<(), BoltError> {
        out.emit(Count { id, count: self.0 });
        Ok(())
    }
}

fn reach(drpc: &LocalDrpc, max_task_parallelism: Option<usize>) -> Topology {
    let mut builder = LinearDrpcTopologyBuilder::new("reach");
    builder.add_bolt(GetTweeters, 4);
    builder.add_bolt(GetFollowers, 12).shuffle_grouping();
    builder.add_batch_bolt(PartialUniquer::default(), 6).fields_grouping(["id", "name"]);
    builder.add_batch_bolt(CountAggregator::default(), 3).fields_grouping(["id"]);
    if let Some(max) = max_task_parallelism {
        builder.max_task_parallelism(max);
    }
    builder.create_local_topology(drpc).unwrap()
}

const REACH: [(&str, &str); 4] = [
    ("foo.com/blog/1", "16"),
    ("engineering.twitter.com/blog/5", "14"),
    ("tech.backtype.com/blog/123", "7"),
    ("notaurl.com", "0"),
];

#[test]
fn reach_counts_distinct_followers_also_of_nobody() {
    for max in [None, Some(3), Some(1)] {
        let it = Fixture::new();
        let handle = it.submit("reach", reach(&it.drpc, max));
        for (url, expected) in REACH {
            assert_eq!(it.drpc.execute("reach", url).unwrap(), expected, "{url}, {max:?}");
        }
        if let Some(max) = max {
            let stats = handle.stats();
            assert!(stats.components.iter().all(|component| component.instances.len() <= max));
        }
    }
}

#[test]
fn ten_thousand_requests_at_once_each_get_their_own_answer() {
    let it = Fixture::new();
    let handle = it.submit("reach", reach(&it.drpc, None));
    let calls: Vec<_> = (0..10_000).map(|n| it.drpc.submit("reach", REACH[n % 4].0)).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap(), REACH[n % 4].1);
    }
    let stats = it.drpc.stats();
    assert_eq!((stats.open, stats.surplus), (0, 0));
    assert_eq!(stats.functions[0].1.answered, 10_000);
    assert!(handle.kill(LONG), "everything is done");
    assert_eq!(handle.stats().pending_requests, 0);
}

/// Program `branching`: words are counted and letters are counted, side by side; both meet again.
#[derive(Clone)]
struct Letters;

impl Bolt for Letters {
    type In = (RequestId, String);
    type Out = Count;

    fn execute(
        &mut self,
        (id, word): Self::In,
        out: &mut Collector<Count>,
    ) -> Result<(), BoltError> {
        out.emit(Count { id, count: word.len() as u64 });
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Distinct(BTreeSet<String>);

impl BatchBolt for Distinct {
    type In = (RequestId, String);
    type Out = Count;

    fn execute(&mut self, (_, word): Self::In, _: &mut Collector<Count>) -> Result<(), BoltError> {
        self.0.insert(word);
        Ok(())
    }

    fn finish_batch(&mut self, id: RequestId, out: &mut Collector<Count>) -> Result<(), BoltError> {
        out.emit(Count { id, count: 1_000 * self.0.len() as u64 });
        Ok(())
    }
}

fn branching(drpc: &LocalDrpc) -> Topology {
    let mut builder = DrpcTopologyBuilder::new("measure");
    builder.set_bolt("split", Split, 2).shuffle_grouping(DrpcTopologyBuilder::REQUESTS);
    builder.set_bolt("letters", Letters, 3).shuffle_grouping("split");
    let distinct = PerRequest::new(Distinct::default());
    builder.set_bolt("distinct", distinct, 4).fields_grouping("split", ["0", "1"]);
    builder
        .set_bolt("sum", PerRequest::new(CountAggregator::default()), 2)
        .fields_grouping("letters", ["id"])
        .fields_grouping("distinct", ["id"]);
    builder.returns("sum");
    builder.create_local_topology(drpc).unwrap()
}

#[test]
fn a_graph_that_branches_and_merges_gives_one_answer() {
    let it = Fixture::new();
    it.submit("measure", branching(&it.drpc));
    let cases = [("to be or not to be", "4013"), ("a", "1001"), ("", "0")];
    let calls: Vec<_> =
        (0..300).map(|n| (n % 3, it.drpc.submit("measure", cases[n % 3].0))).collect();
    for (case, call) in calls {
        assert_eq!(call.wait().unwrap(), cases[case].1);
    }
}

#[test]
fn binary_arguments_and_results_pass_unchanged() {
    let it = Fixture::new();
    it.serve(
        "reverse",
        With(|it: DrpcRequest, out: &mut Collector<(RequestId, Bytes)>| {
            out.emit((it.request, it.args.iter().rev().copied().collect()));
            Ok(())
        }),
    );
    let args: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let result = it.drpc.execute_bytes("reverse", args.clone()).unwrap();
    assert!(result.iter().rev().eq(args.iter()));
}

#[test]
fn a_stream_gives_all_results_and_ends_with_the_request() {
    let it = Fixture::new();
    it.serve("words", Split);
    let parts = it.drpc.execute_stream("words", "to be or not").unwrap();
    assert_eq!(parts.collect::<Result<Vec<_>, _>>().unwrap(), ["to", "be", "or", "not"]);
    let parts = it.drpc.execute_stream("words", "").unwrap();
    assert_eq!(parts.count(), 0);
}

#[test]
fn the_first_of_several_results_wins_and_none_is_an_error() {
    let it = Fixture::new();
    let handle = it.serve("words", Split);
    assert_eq!(it.drpc.execute("words", "to be").unwrap(), "to");
    assert_eq!(
        it.drpc.execute("words", "").unwrap_err().to_string(),
        "function `words` finished request 2 without a result; component `bolt0` emitted none"
    );
    assert!(handle.kill(LONG));
    assert_eq!(it.drpc.stats().surplus, 1);
}

#[test]
fn a_deactivated_topology_leaves_requests_to_others_and_takes_them_again_later() {
    let it = Fixture::new();
    let handle = it.serve("exclamation", Exclaim);
    handle.deactivate();
    let call = it.drpc.submit("exclamation", "hello");
    let call = call.wait_for(Duration::from_millis(20)).unwrap_err();
    handle.activate();
    assert_eq!(call.wait().unwrap(), "hello!");
}

#[test]
fn a_rebalance_under_load_loses_no_request() {
    let it = Fixture::new();
    let handle = it.submit("reach", reach(&it.drpc, None));
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            for n in 0..3_000 {
                let (url, expected) = REACH[n % 4];
                assert_eq!(it.drpc.execute("reach", url).unwrap(), expected);
            }
        });
        for instances in [2, 7, 1, 5] {
            handle.rebalance("bolt2", instances).unwrap();
        }
        caller.join().unwrap();
    });
}

#[test]
fn bolts_may_call_functions_that_the_same_thread_has_to_serve() {
    let it = Fixture::with_threads(1);
    it.serve("exclamation", Exclaim);
    let drpc = it.drpc.clone();
    it.serve(
        "twice",
        With(move |it: DrpcRequest, out: &mut Collector<(RequestId, Bytes)>| {
            let once = drpc.execute("exclamation", it.text()?)?;
            out.emit((it.request, drpc.execute("exclamation", &once)?.into()));
            Ok(())
        }),
    );
    let calls: Vec<_> = (0..20).map(|_| it.drpc.submit("twice", "hello")).collect();
    for call in calls {
        assert_eq!(call.wait().unwrap(), "hello!!");
    }
}
