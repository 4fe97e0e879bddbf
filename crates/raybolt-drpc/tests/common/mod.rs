//! A server with a cluster, and bolts that several tests use.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::time::Duration;

use bytes::Bytes;
use raybolt_drpc::{DrpcRequest, LinearDrpcTopologyBuilder, LocalDrpc, RequestId};
use raybolt_topology::{
    Bolt, BoltError, Collector, Config, LocalCluster, Topology, TopologyHandle, Tuple,
};

pub const LONG: Duration = Duration::from_secs(60);

/// A DRPC server and a cluster.
pub struct Fixture {
    pub drpc: LocalDrpc,
    pub cluster: LocalCluster,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with_threads(2)
    }

    pub fn with_threads(threads: usize) -> Self {
        Fixture { drpc: LocalDrpc::new(), cluster: LocalCluster::with_threads(threads) }
    }

    pub fn submit(&self, name: &str, topology: Topology) -> TopologyHandle {
        self.cluster.submit(name, Config::default(), topology).unwrap()
    }

    /// Serves `function` by one bolt.
    pub fn serve<B: Bolt>(&self, function: &str, bolt: B) -> TopologyHandle {
        let mut builder = LinearDrpcTopologyBuilder::new(function);
        builder.add_bolt(bolt, 2);
        self.submit(function, builder.create_local_topology(&self.drpc).unwrap())
    }
}

/// A bolt that is a function.
#[derive(Clone)]
pub struct With<F>(pub F);

impl<F> Bolt for With<F>
where
    F: FnMut(DrpcRequest, &mut Collector<(RequestId, Bytes)>) -> Result<(), BoltError>
        + Clone
        + Send
        + 'static,
{
    type In = DrpcRequest;
    type Out = (RequestId, Bytes);

    fn execute(
        &mut self,
        tuple: DrpcRequest,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        (self.0)(tuple, out)
    }
}

#[derive(Clone)]
pub struct Exclaim;

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

/// Emits the words of its text.
#[derive(Clone)]
pub struct Split;

impl Bolt for Split {
    type In = DrpcRequest;
    type Out = (RequestId, String);

    fn execute(
        &mut self,
        it: DrpcRequest,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        for word in it.text()?.split_whitespace() {
            out.emit((it.request, word.to_owned()));
        }
        Ok(())
    }
}

#[derive(Clone, Tuple)]
#[tuple(crate = "raybolt_topology")]
pub struct Count {
    pub id: RequestId,
    pub count: u64,
}
