//! Topologies and servers that code in workers makes.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use raybolt::drpc::{DrpcRequest, LinearDrpcTopologyBuilder, LocalDrpc};
use raybolt::topology::{
    Bolt, BoltError, Collector, Config, LocalCluster, ReplaySpout, RequestId, TopologyBuilder,
};
use raybolt::{Result, is_worker};
use serde::{Deserialize, Serialize};

use super::{Place, SOON};

/// Doubles numbers, and says where.
#[derive(Clone, Serialize, Deserialize)]
struct Double;

impl Bolt for Double {
    type In = (u64,);
    type Out = (u64, u32);

    fn execute(
        &mut self,
        (x,): (u64,),
        out: &mut Collector<Self::Out>,
    ) -> std::result::Result<(), BoltError> {
        out.emit((2 * x, std::process::id()));
        Ok(())
    }
}

/// Adds up what it gets, where the case can see it, and which processes it came from.
#[derive(Clone, Default)]
struct Sum(Arc<Mutex<(u64, BTreeSet<u32>)>>);

impl Bolt for Sum {
    type In = (u64, u32);
    type Out = ();

    fn execute(
        &mut self,
        (x, process): (u64, u32),
        _: &mut Collector<()>,
    ) -> std::result::Result<(), BoltError> {
        let mut sum = self.0.lock().unwrap();
        sum.0 += x;
        sum.1.insert(process);
        Ok(())
    }
}

pub fn topologies(_: &Place) -> Result<()> {
    let (done, all_done) = channel();
    let done = Mutex::new(done);
    let sum = Sum::default();
    let mut builder = TopologyBuilder::new();
    let numbers: Vec<_> = (0..1_000_u64).map(|x| (x,)).collect();
    let spout = ReplaySpout::new(numbers).on_done(move || done.lock().unwrap().send(()).unwrap());
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("double", Double, 3).shuffle_grouping("numbers").in_processes(3);
    builder.set_bolt("sum", sum.clone(), 1).global_grouping("double");
    let cluster = LocalCluster::with_threads(2);
    let topology = cluster.submit("numbers", Config::default(), builder).expect("it is sound");
    all_done.recv_timeout(SOON).expect("all are done");
    assert_eq!(sum.0.lock().unwrap().0, 999_000);
    // Submitted in a worker, some of its bolts may live in that one.
    let doubled_here = sum.0.lock().unwrap().1.contains(&std::process::id());
    assert!(!doubled_here || is_worker());
    assert!(topology.kill(SOON));
    Ok(())
}

#[derive(Clone)]
struct Shout;

impl Bolt for Shout {
    type In = DrpcRequest;
    type Out = (RequestId, String);

    fn execute(
        &mut self,
        it: DrpcRequest,
        out: &mut Collector<Self::Out>,
    ) -> std::result::Result<(), BoltError> {
        let text = it.text()?;
        out.emit((it.request, format!("{text}!")));
        Ok(())
    }
}

pub fn servers(_: &Place) -> Result<()> {
    let (drpc, cluster) = (LocalDrpc::new(), LocalCluster::with_threads(1));
    let name = format!("shout {}", std::process::id());
    let mut builder = LinearDrpcTopologyBuilder::new(&name);
    builder.add_bolt(Shout, 1);
    let topology = builder.create_local_topology(&drpc).expect("it is sound");
    let topology = cluster.submit("shout", Config::default(), topology).expect("it is sound");
    let answer = drpc.execute(&name, "hello").expect("it answers");
    assert_eq!(answer, "hello!");
    assert!(topology.kill(SOON));
    Ok(())
}
