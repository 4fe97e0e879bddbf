//! What callers and bolts see when a request goes wrong.

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Count, Fixture, LONG, Split, With};
use raybolt_drpc::{
    BatchBolt, CallOptions, DrpcRequest, DrpcTopologyBuilder, LinearDrpcTopologyBuilder, LocalDrpc,
    RequestId,
};
use raybolt_topology::{Bolt, BoltError, Collector, Config, Topology};

#[test]
fn the_message_of_a_failing_or_panicking_bolt_reaches_the_caller() {
    let it = Fixture::new();
    it.serve(
        "strict",
        With(|it: DrpcRequest, out: &mut Collector<(RequestId, Bytes)>| match it.text()? {
            "fail" => Err(BoltError::new("no such table")),
            "panic" => panic!("this bolt is broken"),
            _ => {
                out.emit((it.request, it.args));
                Ok(())
            }
        }),
    );
    assert_eq!(
        it.drpc.execute("strict", "fail").unwrap_err().to_string(),
        "function `strict` failed on request 1: no such table"
    );
    let error = it.drpc.execute("strict", "panic").unwrap_err().to_string();
    assert!(error.starts_with("function `strict` failed on request 2: panicked at "), "{error}");
    assert!(error.contains("tests/failures.rs:") && error.ends_with(": this bolt is broken"));
    assert_eq!(
        it.drpc.submit_bytes("strict", vec![0xff]).wait().unwrap_err().to_string(),
        "function `strict` failed on request 3: the arguments of request 3 are not text: invalid \
         utf-8 sequence of 1 bytes from index 0; read `args`"
    );
    assert_eq!(it.drpc.execute("strict", "fine").unwrap(), "fine");
}

/// Fails, panics or counts, as the words of a request say.
#[derive(Clone, Default)]
struct Moody(u64);

impl BatchBolt for Moody {
    type In = (RequestId, String);
    type Out = Count;

    fn execute(&mut self, (_, word): Self::In, _: &mut Collector<Count>) -> Result<(), BoltError> {
        match word.as_str() {
            "fail" => return Err(BoltError::new("a word that fails")),
            "panic" => panic!("a word that panics"),
            _ => self.0 += 1,
        }
        Ok(())
    }

    fn finish_batch(&mut self, id: RequestId, out: &mut Collector<Count>) -> Result<(), BoltError> {
        assert!(self.0 != 13, "thirteen");
        out.emit(Count { id, count: self.0 });
        Ok(())
    }
}

#[test]
fn a_panic_for_one_request_costs_no_other_its_state() {
    let it = Fixture::new();
    let mut builder = LinearDrpcTopologyBuilder::new("moody");
    builder.add_bolt(Split, 1);
    builder.add_batch_bolt(Moody::default(), 1).fields_grouping(["0"]);
    it.submit("moody", builder.create_local_topology(&it.drpc).unwrap());
    let words = |n: usize| match n % 4 {
        0 => "a ".repeat(n / 4 % 12 + 1),
        1 => "a fail b".into(),
        2 => "a panic b".into(),
        _ => "a ".repeat(13),
    };
    let calls: Vec<_> = (0..400).map(|n| it.drpc.submit("moody", &words(n))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        let answer = call.wait().map_err(|error| error.to_string());
        match (n % 4, answer) {
            (0, answer) => assert_eq!(answer.unwrap(), (n / 4 % 12 + 1).to_string()),
            (1, answer) => assert!(answer.unwrap_err().ends_with(": a word that fails")),
            (2, answer) => assert!(answer.unwrap_err().ends_with(": a word that panics")),
            (_, answer) => assert!(answer.unwrap_err().ends_with(": thirteen")),
        }
    }
}

/// Counts words per request without help, and panics at one of them.
#[derive(Clone, Default)]
struct Careless(BTreeMap<RequestId, u64>);

impl Bolt for Careless {
    type In = (RequestId, String);
    type Out = Count;
    const WANTS_FINISHED: bool = true;

    fn execute(&mut self, (id, word): Self::In, _: &mut Collector<Count>) -> Result<(), BoltError> {
        assert!(word != "panic", "a word that panics");
        *self.0.entry(id).or_default() += 1;
        Ok(())
    }

    fn finished(&mut self, id: RequestId, out: &mut Collector<Count>) -> Result<(), BoltError> {
        out.emit(Count { id, count: self.0.remove(&id).unwrap_or_default() });
        Ok(())
    }

    fn abandoned(&mut self, id: RequestId) {
        self.0.remove(&id);
    }
}

#[test]
fn what_a_panic_took_with_it_is_an_error_and_no_smaller_answer() {
    let it = Fixture::new();
    let mut builder = LinearDrpcTopologyBuilder::new("careless");
    builder.add_bolt(Split, 1);
    builder.add_bolt(Careless::default(), 1).fields_grouping(["0"]);
    it.submit("careless", builder.create_local_topology(&it.drpc).unwrap());
    let words = |n: usize| if n % 50 == 49 { "a panic".into() } else { "a ".repeat(1 + n % 7) };
    let calls: Vec<_> = (0..5_000).map(|n| it.drpc.submit("careless", &words(n))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        match call.wait() {
            Ok(count) => assert_eq!(count, (1 + n % 7).to_string()),
            Err(error) => assert!(error.to_string().ends_with(": a word that panics"), "{error}"),
        }
    }
}

/// Tells the test of requests, and waits for its word before it answers.
#[derive(Clone)]
struct Gate {
    arrived: Sender<(String, RequestId)>,
    may_go: Arc<Mutex<Receiver<()>>>,
}

/// The test's end of a [`Gate`].
struct Keeper {
    arrived: Receiver<(String, RequestId)>,
    go: Sender<()>,
}

impl Keeper {
    fn arrived(&self) -> String {
        self.arrived.recv_timeout(LONG).unwrap().0
    }
}

fn gate() -> (Gate, Keeper) {
    let (arrived_to, arrived) = channel();
    let (go, may_go) = channel();
    let gate = Gate { arrived: arrived_to, may_go: Arc::new(Mutex::new(may_go)) };
    (gate, Keeper { arrived, go })
}

impl Bolt for Gate {
    type In = DrpcRequest;
    type Out = (RequestId, Bytes);

    fn execute(
        &mut self,
        it: DrpcRequest,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        self.arrived.send((it.text()?.to_owned(), it.request))?;
        self.may_go.lock().unwrap().recv_timeout(LONG)?;
        out.emit((it.request, it.args));
        Ok(())
    }
}

fn gated(
    drpc: &LocalDrpc,
    gate: Gate,
    say: impl FnOnce(&mut LinearDrpcTopologyBuilder),
) -> Topology {
    let mut builder = LinearDrpcTopologyBuilder::new("gated");
    builder.add_bolt(gate, 1).blocking();
    say(&mut builder);
    builder.create_local_topology(drpc).unwrap()
}

#[test]
fn a_request_of_a_killed_topology_is_answered_by_another() {
    let it = Fixture::new();
    let (first_gate, first) = gate();
    let (second_gate, second) = gate();
    let doomed = it.submit("first", gated(&it.drpc, first_gate, |_| {}));
    let call = it.drpc.submit("gated", "x");
    assert_eq!(first.arrived(), "x");
    it.submit("second", gated(&it.drpc, second_gate, |_| {}));
    let killer = std::thread::spawn(move || doomed.kill(Duration::ZERO));
    assert_eq!(second.arrived(), "x"); // Though the first one still stands at its gate.
    second.go.send(()).unwrap();
    assert_eq!(call.wait().unwrap(), "x");
    first.go.send(()).unwrap();
    killer.join().unwrap();
    assert_eq!(it.drpc.functions(), ["gated"]);
}

#[test]
fn without_another_topology_open_requests_fail_with_the_killed_one() {
    let it = Fixture::new();
    let (one_gate, keeper) = gate();
    let doomed = it.submit(
        "gated",
        gated(&it.drpc, one_gate, |builder| {
            builder.in_flight_max(1);
        }),
    );
    let calls = [it.drpc.submit("gated", "x"), it.drpc.submit("gated", "y")];
    assert_eq!(keeper.arrived(), "x");
    let killer = std::thread::spawn(move || doomed.kill(Duration::ZERO));
    let errors = calls.map(|call| call.wait().unwrap_err().to_string());
    assert_eq!(
        errors,
        [
            "server lost: the topology that had request 1 went away, and no other serves function \
             `gated`",
            "server lost: no topology serves function `gated` any more; request 2 had not been \
             delivered"
        ]
    );
    keeper.go.send(()).unwrap();
    killer.join().unwrap();
    let error = it.drpc.execute("gated", "z").unwrap_err().to_string();
    assert_eq!(error, "unknown function `gated`; no topology serves any: submit one first");
}

/// Keeps what it saw until a request is finished or abandoned, and tells the test of both.
#[derive(Clone)]
struct Told {
    gate: Gate,
    told: Sender<&'static str>,
}

impl Bolt for Told {
    type In = DrpcRequest;
    type Out = (RequestId, Bytes);
    const WANTS_FINISHED: bool = true;

    fn execute(
        &mut self,
        it: DrpcRequest,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        self.gate.execute(it, out)
    }

    fn finished(&mut self, _: RequestId, _: &mut Collector<Self::Out>) -> Result<(), BoltError> {
        self.told.send("finished")?;
        Ok(())
    }

    fn abandoned(&mut self, _: RequestId) {
        self.told.send("abandoned").unwrap();
    }
}

fn told(it: &Fixture) -> (Keeper, Receiver<&'static str>) {
    let (gate, keeper) = gate();
    let (told, hear) = channel();
    let mut builder = LinearDrpcTopologyBuilder::new("told");
    builder.add_bolt(Told { gate, told }, 1).blocking();
    it.submit("told", builder.create_local_topology(&it.drpc).unwrap());
    (keeper, hear)
}

/// Waits until the spout of topology `told` has brought in so many requests, and with them all
/// cancellations that came before.
fn until_taken(it: &Fixture, requests: u64) {
    let handle = it.cluster.topology("told").unwrap();
    let emitted = || {
        let stats = handle.stats();
        let spout =
            stats.components.iter().find(|it| it.component == DrpcTopologyBuilder::REQUESTS);
        spout.unwrap().instances[0].emitted
    };
    let deadline = Instant::now() + LONG;
    while emitted() < requests {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn a_cancelled_request_is_abandoned_by_the_bolts_that_saw_it() {
    let it = Fixture::new();
    let (keeper, hear) = told(&it);
    let call = it.drpc.submit("told", "x");
    keeper.arrived();
    drop(call);
    let second = it.drpc.submit("told", "y");
    until_taken(&it, 2); // The spout hears of the cancellation while the bolt stands at the gate.
    keeper.go.send(()).unwrap();
    keeper.arrived();
    keeper.go.send(()).unwrap();
    assert_eq!(second.wait().unwrap(), "y");
    let heard = [hear.recv_timeout(LONG).unwrap(), hear.recv_timeout(LONG).unwrap()];
    assert!(heard.contains(&"abandoned") && heard.contains(&"finished"), "{heard:?}");
    assert_eq!(it.drpc.stats().functions[0].1.cancelled, 1);
}

#[test]
fn a_request_past_its_deadline_is_abandoned_and_its_late_result_dropped() {
    let it = Fixture::new();
    let (keeper, hear) = told(&it);
    // It has to come to its bolt before that.
    let options = CallOptions::default().deadline(Duration::from_secs(2));
    let call = it.drpc.submit_with::<String>("told", "x", options);
    keeper.arrived();
    let error = call.wait().unwrap_err().to_string();
    assert_eq!(
        error,
        "request 1 to function `told` not answered within 2s; it was in a topology (`deadline`)"
    );
    let second = it.drpc.submit("told", "y");
    until_taken(&it, 2);
    keeper.go.send(()).unwrap();
    keeper.arrived();
    keeper.go.send(()).unwrap();
    assert_eq!(second.wait().unwrap(), "y");
    let heard = [hear.recv_timeout(LONG).unwrap(), hear.recv_timeout(LONG).unwrap()];
    assert!(heard.contains(&"abandoned") && heard.contains(&"finished"), "{heard:?}");
    assert_eq!(it.drpc.stats().functions[0].1.timed_out, 1);
}

#[test]
fn a_shutdown_answers_open_requests() {
    let it = Fixture::new();
    let (one_gate, keeper) = gate();
    it.submit("gated", gated(&it.drpc, one_gate, |_| {}));
    let call = it.drpc.submit("gated", "x");
    keeper.arrived();
    it.drpc.shutdown();
    assert_eq!(
        call.wait().unwrap_err().to_string(),
        "function `gated` gave no result: the DRPC server is shutting down"
    );
    keeper.go.send(()).unwrap();
}

#[test]
fn a_topology_that_is_not_active_takes_no_requests_from_one_that_is() {
    let it = Fixture::new();
    let answer = |name: &'static str| {
        With(move |it: DrpcRequest, out: &mut Collector<(RequestId, Bytes)>| {
            out.emit((it.request, Bytes::from_static(name.as_bytes())));
            Ok(())
        })
    };
    let mut idle = LinearDrpcTopologyBuilder::new("who");
    idle.add_bolt(answer("idle"), 1);
    let idle = idle.create_local_topology(&it.drpc).unwrap();
    let config = Config { active: false, ..Config::default() };
    let idle = it.cluster.submit("idle", config, idle).unwrap();
    let mut busy = LinearDrpcTopologyBuilder::new("who");
    busy.add_bolt(answer("busy"), 1);
    let busy = it.submit("busy", busy.create_local_topology(&it.drpc).unwrap());
    for _ in 0..20 {
        let options = CallOptions::default().deadline(LONG);
        let result: String = it.drpc.execute_with("who", "", options).unwrap();
        assert_eq!(result, "busy");
    }
    busy.kill(LONG);
    let pending = it.drpc.submit("who", "");
    idle.activate();
    assert_eq!(pending.wait().unwrap(), "idle");
}
