//! What a topology costs that has nothing to do: processor time and memory, in processes of their own.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use raybolt::topology::{
    Bolt, BoltError, Collector, Config, LocalCluster, Next, Spout, SpoutCollector, TopologyBuilder,
};
use raybolt_examples::reach::{Options, Reach, TABLE_ANSWERS, tables};

use super::{THREADS, calls};
use crate::harness::Aim::AtMost;
use crate::harness::{Bench, Effort, Outcome, Row, Sample, median};
use crate::probe;
use crate::report::chart::{Bar, Chart};

/// What Storm 2.8.2 took for 30 idle instances on this kind of machine, in processor seconds in 10 s.
const STORM_CPU_SECONDS: f64 = 3.5;
/// What Storm 2.8.2 had resident with such a topology, in MiB.
const STORM_RESIDENT_MIB: f64 = 1_024.0;

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    vec![
        Bench {
            name: "idle processor time",
            group: "idle",
            about: "Processor seconds that a process takes in 10 s with a session, and a topology of 100 instances that \
                    has counted a few tuples and waits for more.",
            run: processor_time,
        },
        Bench {
            name: "reach memory",
            group: "idle",
            about: "Resident memory of a process with the reach topology of 25 instances, over four small tables, after a \
                    thousand requests.",
            run: memory,
        },
    ]
}

fn processor_time(effort: Effort) -> Result<Outcome> {
    let seconds = effort.pick(2, 10);
    let mut runs = Vec::new();
    for _ in 0..effort.pick(1, 3) {
        runs.push(probe::ask(&["idle", &seconds.to_string()])?[0] * 10.0 / f64::from(seconds));
    }
    let title = "processor seconds in 10 idle seconds, 100 instances";
    let row = Row::figure(title, median(runs.into_iter()), "s").aim(AtMost(0.01));
    Ok(outcome(row, "Storm 2.8.2, 30 instances", STORM_CPU_SECONDS))
}

fn memory(effort: Effort) -> Result<Outcome> {
    let mut runs = Vec::new();
    for _ in 0..effort.pick(1, 3) {
        runs.push(probe::ask(&["reach-memory"])?[0] / f64::from(1 << 20));
    }
    let title = "resident memory of reach, 25 instances";
    let row = Row::figure(title, median(runs.into_iter()), "MiB").aim(AtMost(30.0));
    Ok(outcome(row, "Storm 2.8.2", STORM_RESIDENT_MIB))
}

fn outcome(row: Row, peer: &str, peers: f64) -> Outcome {
    let figure = row.figure.unwrap_or(0.0);
    let bars = vec![Bar::plain("raybolt", figure, true), Bar::plain(peer, peers, false)];
    let chart = Chart { title: row.name.clone(), unit: row.unit, bars, aim: None };
    Outcome { rows: vec![row], chart: Some(chart) }
}

/// The probe: processor seconds used in so many seconds.
pub fn idle_probe(seconds: u64) -> Result<Sample> {
    let _session = calls::session()?;
    let mut builder = TopologyBuilder::new();
    builder.set_spout("few", Few(100), 10);
    builder.set_bolt("pass", Pass, 45).shuffle_grouping("few");
    builder.set_bolt("count", Pass, 45).fields_grouping("pass", ["0"]);
    let cluster = LocalCluster::with_threads(THREADS);
    let _topology = cluster.submit("idle", Config::default(), builder.build()?)?;
    // Longer than threads beyond need stay.
    sleep(Duration::from_secs(2));
    let before = probe::cpu_seconds();
    sleep(Duration::from_secs(seconds));
    Ok(vec![probe::cpu_seconds() - before])
}

/// The probe: bytes of this process in memory.
pub fn reach_memory_probe() -> Result<Sample> {
    let options = Options { threads: Some(THREADS), ..Options::default() };
    let reach = Reach::start(Arc::new(tables()), options)?;
    for round in 0..1_000 {
        let (key, expected) = TABLE_ANSWERS[round % TABLE_ANSWERS.len()];
        let answer = reach.ask(key)?;
        ensure!(answer == expected, "reach of {key} is {answer} instead of {expected}");
    }
    Ok(vec![probe::resident_bytes()?])
}

/// Emits a few numbers, then nothing for ever.
#[derive(Clone)]
struct Few(u64);

impl Spout for Few {
    type Out = (u64,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        if self.0 == 0 {
            return Next::Idle;
        }
        self.0 -= 1;
        out.emit((self.0,));
        Next::Emitted
    }
}

/// Hands on what it gets.
#[derive(Clone)]
struct Pass;

impl Bolt for Pass {
    type In = (u64,);
    type Out = (u64,);

    fn execute(&mut self, tuple: (u64,), out: &mut Collector<(u64,)>) -> Result<(), BoltError> {
        out.emit(tuple);
        Ok(())
    }
}
