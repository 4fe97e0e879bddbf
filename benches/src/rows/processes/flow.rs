//! Topologies whose spouts or bolts run in a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use anyhow::Result;
use raybolt::topology::{
    Batch, Bolt, BoltError, Collector, Config, LocalCluster, MessageId, Next, Spout,
    SpoutCollector, TopologyBuilder,
};
use serde::{Deserialize, Serialize};

use super::{HERE, Place, rate, rounds};
use crate::harness::Aim::AtLeast;
use crate::harness::{Bench, Contest, Effort, Outcome};
use crate::rows::THREADS;

const SPOUT: &str = "spout in a worker";
const SPOUT_ACKED: &str = "spout in a worker, acked";
const BOLT: &str = "bolt in a worker";
const BOLT_ACKED: &str = "bolt in a worker, acked";
const HERE_ACKED: &str = "one process, acked";

/// How many tuples may be in flight, if acked.
const PENDING_MAX: usize = 16_384;

/// The benches of this file.
pub fn benches() -> Vec<Bench> {
    vec![Bench {
        name: "topologies over a worker",
        group: "processes",
        about: "Numbers from a spout through a bolt that adds one to a bolt that counts, one instance each: all in one process, the \
                spout in a worker, or the first bolt. Acked: every number is followed until it is counted.",
        run: numbers,
    }]
}

fn numbers(effort: Effort) -> Result<Outcome> {
    let count = effort.pick(200_000, 2_000_000);
    let run = |place: Place, at: At, acked| place.within(|| numbers_per_second(count, at, acked));
    let standings = Contest::new("tuples/s")
        .add(SPOUT, || run(Place::Workers(1), At::Spout, false))
        .add(SPOUT_ACKED, || run(Place::Workers(1), At::Spout, true))
        .add(BOLT, || run(Place::Workers(1), At::Bolt, false))
        .add(BOLT_ACKED, || run(Place::Workers(1), At::Bolt, true))
        .add(HERE, || run(Place::Here, At::Here, false))
        .add(HERE_ACKED, || run(Place::Here, At::Here, true))
        .run(rounds(effort))?;
    let row = |name, against| standings.row(name, name, against, AtLeast(0.0));
    let rows = vec![
        row(SPOUT, HERE).aim_figure(AtLeast(3e5)),
        row(SPOUT_ACKED, HERE_ACKED).without_aim(),
        row(BOLT, HERE).without_aim(),
        row(BOLT_ACKED, HERE_ACKED).without_aim(),
    ];
    Ok(Outcome { rows, chart: Some(standings.chart("topologies over a worker").with_aim(3e5)) })
}

/// What runs in a worker.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Here,
    Spout,
    Bolt,
}

/// Tuples per second from when the topology has begun to count.
fn numbers_per_second(count: u64, at: At, acked: bool) -> Result<f64> {
    let counted = Counted { left: Arc::new(AtomicU64::new(count)), waiter: std::thread::current() };
    let mut builder = TopologyBuilder::new();
    let spout = builder.set_spout("numbers", Numbers { next: 0, end: count, acked }, 1);
    if at == At::Spout {
        spout.in_processes(1);
    }
    let bolt = builder.set_bolt("after", After, 1).shuffle_grouping("numbers");
    if at == At::Bolt {
        bolt.in_processes(1);
    }
    builder.set_bolt("count", counted.clone(), 1).shuffle_grouping("after");
    let cluster = LocalCluster::with_threads(THREADS);
    let config = Config { max_spout_pending: Some(PENDING_MAX), ..Config::default() };
    rate(count as usize, || {
        let topology = cluster.submit("numbers", config, builder)?;
        while counted.left.load(Ordering::Acquire) > 0 {
            std::thread::park();
        }
        drop(topology);
        Ok(())
    })
}

#[derive(Clone, Serialize, Deserialize)]
struct Numbers {
    next: u64,
    end: u64,
    acked: bool,
}

impl Spout for Numbers {
    type Out = (u64,);

    fn next_tuple(&mut self, out: &mut SpoutCollector<(u64,)>) -> Next {
        if self.next == self.end {
            return Next::Done;
        }
        match self.acked {
            true => out.emit_with_id((self.next,), MessageId(self.next)),
            false => out.emit((self.next,)),
        }
        self.next += 1;
        Next::Emitted
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct After;

impl Bolt for After {
    type In = (u64,);
    type Out = (u64,);

    fn execute(&mut self, it: (u64,), out: &mut Collector<(u64,)>) -> Result<(), BoltError> {
        out.emit((it.0 + 1,));
        Ok(())
    }
}

/// Wakes who waits for the last one.
#[derive(Clone)]
struct Counted {
    left: Arc<AtomicU64>,
    waiter: Thread,
}

impl Bolt for Counted {
    type In = (u64,);
    type Out = ();

    fn execute(&mut self, _: (u64,), _: &mut Collector<()>) -> Result<(), BoltError> {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiter.unpark();
        }
        Ok(())
    }

    fn execute_batch(
        &mut self,
        batch: &mut Batch<(u64,)>,
        out: &mut Collector<()>,
    ) -> Result<(), BoltError> {
        let mut count = 0;
        while batch.next(out).is_some() {
            count += 1;
        }
        if count > 0 && self.left.fetch_sub(count, Ordering::AcqRel) == count {
            self.waiter.unpark();
        }
        Ok(())
    }
}
