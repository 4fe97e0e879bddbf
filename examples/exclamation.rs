//! Exclamation: the smallest Distributed RPC.
//!
//! A topology of one bolt serves the function `exclamation`; a call of the function is answered by
//! one of the bolt's three instances. Nothing listens on a port: [`LocalDrpc`] is the whole server,
//! within this process.
//!
//! ```text
//! $ cargo run --release --example exclamation
//! hello -> hello!
//! goodbye -> goodbye!
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use raybolt::drpc::{DrpcRequest, LinearDrpcTopologyBuilder, LocalDrpc, RequestId};
use raybolt::topology::{Bolt, BoltError, Collector, Config, LocalCluster};

#[derive(Clone)]
struct Exclaim;

impl Bolt for Exclaim {
    type In = DrpcRequest;
    /// A result belongs to a request, so it travels with the request's id.
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

fn main() -> anyhow::Result<()> {
    let drpc = LocalDrpc::new();
    let mut builder = LinearDrpcTopologyBuilder::new("exclamation");
    builder.add_bolt(Exclaim, 3);

    let cluster = LocalCluster::new();
    cluster.submit("exclamation", Config::default(), builder.create_local_topology(&drpc)?)?;

    for word in ["hello", "goodbye"] {
        println!("{word} -> {}", drpc.execute("exclamation", word)?);
    }
    Ok(())
}
