//! Distributed RPC in one process: one request alone, and many in flight.

use std::collections::VecDeque;

use anyhow::{Result, ensure};
use raybolt::drpc::{DrpcRequest, LinearDrpcTopologyBuilder, LocalDrpc, Pending, RequestId};
use raybolt::topology::{Bolt, BoltError, Collector, Config, LocalCluster};

use super::THREADS;
use crate::baselines::condvar::Pair;
use crate::harness::Aim::{AtLeast, AtMost};
use crate::harness::{Bench, Contest, Effort, Outcome, Row, latency_us, per_second};
use crate::report::chart::Bar;

const RAYBOLT: &str = "raybolt";
const PAIR: &str = "condvar pair";
/// How many requests are in flight at once.
const IN_FLIGHT: usize = 1_000;
/// What Storm 2.8.2 did on this kind of machine, with 256 in flight.
const STORM_PER_SECOND: f64 = 43_700.0;

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    vec![
        Bench {
            name: "drpc round trip",
            group: "drpc",
            about: "`LocalDrpc::execute` of the exclamation topology, one request after the other.",
            run: round_trip,
        },
        Bench {
            name: "drpc requests",
            group: "drpc",
            about: "The same topology with 1,000 requests in flight from one thread.",
            run: requests,
        },
    ]
}

const FUNCTION: &str = "exclaim";

/// How many instances the bolt has.
const INSTANCES: usize = 3;

/// The exclamation topology, running.
struct Exclamation {
    drpc: LocalDrpc,
    _cluster: LocalCluster,
}

impl Exclamation {
    fn start() -> Result<Exclamation> {
        let drpc = LocalDrpc::new();
        let mut builder = LinearDrpcTopologyBuilder::new(FUNCTION);
        builder.in_flight_max(2 * IN_FLIGHT).add_bolt(Exclaim, INSTANCES);
        let cluster = LocalCluster::with_threads(THREADS);
        cluster.submit("exclamation", Config::default(), builder.create_local_topology(&drpc)?)?;
        ensure!(drpc.execute(FUNCTION, "hello")? == "hello!", "the topology answers wrongly");
        Ok(Exclamation { drpc, _cluster: cluster })
    }

    /// Requests per second: `count` in all, so many in flight that one that ends is followed by another.
    fn per_second(&self, count: usize) -> Result<f64> {
        let mut failed = None;
        let mut wait = |pending: Pending<String>| failed = pending.wait().err().or(failed.take());
        let rate = per_second(count, || {
            let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
            for _ in 0..count {
                if in_flight.len() == IN_FLIGHT {
                    in_flight.pop_front().into_iter().for_each(&mut wait);
                }
                in_flight.push_back(self.drpc.submit(FUNCTION, "hello"));
            }
            in_flight.into_iter().for_each(&mut wait);
        });
        failed.map_or(Ok(rate), |error| Err(error.into()))
    }
}

fn round_trip(effort: Effort) -> Result<Outcome> {
    let exclamation = Exclamation::start()?;
    let pair = Pair::new();
    let time = effort.sample();
    let call = || drop(exclamation.drpc.execute(FUNCTION, "hello").expect("it answers"));
    let standings = Contest::new("us")
        .add_many(RAYBOLT, || Ok(latency_us(time, call)))
        .add_many(PAIR, || Ok(pair.latency_us(time)))
        .run(effort.rounds())?;
    let rows = vec![
        standings.row("drpc round trip", RAYBOLT, PAIR, AtMost(3.0)),
        Row::figure("drpc round trip, p99", standings.nth(RAYBOLT, 1), "us"),
    ];
    let aim = 3.0 * standings.figure(PAIR);
    Ok(Outcome { rows, chart: Some(standings.chart("drpc round trip, p50").with_aim(aim)) })
}

fn requests(effort: Effort) -> Result<Outcome> {
    let exclamation = Exclamation::start()?;
    let count = effort.pick(50_000, 400_000);
    let standings =
        Contest::new("1/s").add(RAYBOLT, || exclamation.per_second(count)).run(effort.rounds())?;
    let figure = standings.figure(RAYBOLT);
    let row = Row::figure("drpc requests, 1,000 in flight", figure, "1/s")
        .against("Storm 2.8.2 43.7 k", figure / STORM_PER_SECOND)
        .aim_figure(AtLeast(500_000.0));
    let mut chart = standings.chart("drpc requests per second").with_aim(500_000.0);
    chart.bars.push(Bar::plain("Storm 2.8.2, 256 in flight", STORM_PER_SECOND, false));
    Ok(Outcome { rows: vec![row], chart: Some(chart) })
}

/// Appends an exclamation mark.
#[derive(Clone)]
struct Exclaim;

impl Bolt for Exclaim {
    type In = DrpcRequest;
    type Out = (RequestId, String);

    fn execute(
        &mut self,
        it: DrpcRequest,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        out.emit((it.request, format!("{}!", it.text()?)));
        Ok(())
    }
}

/// What the budget counts.
#[cfg(feature = "budget")]
pub fn paths() -> Vec<super::Path> {
    let exclamation = std::rc::Rc::new(Exclamation::start().expect("the topology starts"));
    let same = exclamation.clone();
    vec![
        (
            "drpc round trip",
            Box::new(move |count| {
                let call = |_| exclamation.drpc.execute(FUNCTION, "hello").map(drop);
                (0..count).try_for_each(call)?;
                Ok(count)
            }),
        ),
        (
            "drpc request, 1,000 in flight",
            Box::new(move |count| Ok(same.per_second(count).map(|_| count)?)),
        ),
    ]
}
