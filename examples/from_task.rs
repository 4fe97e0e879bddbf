//! From a task to a topology and back: both ways of computing, in one call.
//!
//! ```text
//! main --> task `ask` --> DRPC function `shout` --> bolt `Shout` --> task `upper` --> back all the way
//! ```
//!
//! A task may call a DRPC function as anybody may: here it blocks its thread until the answer comes,
//! and another thread works meanwhile. A bolt may call tasks; since it waits for them, it is an *async*
//! bolt, which holds no thread while it waits and has many tuples under way.
//!
//! ```text
//! $ cargo run --release --example from_task
//! hello -> HELLO!
//! good morning -> GOOD MORNING!
//! task `ask` failed: function `shout` failed on request 3: no words to shout
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::LazyLock;

use raybolt::drpc::{DrpcError, DrpcRequest, LinearDrpcTopologyBuilder, LocalDrpc, RequestId};
use raybolt::remote;
use raybolt::topology::{AsyncBolt, BoltError, Config, Emits, LocalCluster};

/// The DRPC server of this process, where tasks find it.
static DRPC: LazyLock<LocalDrpc> = LazyLock::new(LocalDrpc::new);

/// A task that calls a DRPC function. What goes wrong there reaches whoever asked for the task.
#[remote]
fn ask(text: String) -> Result<String, DrpcError> {
    DRPC.execute("shout", &text)
}

/// A task that a bolt calls.
#[remote]
fn upper(text: String) -> String {
    text.to_uppercase()
}

#[derive(Clone)]
struct Shout;

impl AsyncBolt for Shout {
    type In = DrpcRequest;
    type Out = (RequestId, String);

    async fn execute(&self, it: DrpcRequest, out: &mut Emits<Self::Out>) -> Result<(), BoltError> {
        let text = it.text()?;
        if text.is_empty() {
            return Err(BoltError::new("no words to shout"));
        }
        let loud = upper::remote(text.to_owned()).await?;
        out.emit((it.request, format!("{loud}!")));
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let _session = raybolt::init()?;
    let mut builder = LinearDrpcTopologyBuilder::new("shout");
    builder.add_async_bolt(Shout, 2);
    let cluster = LocalCluster::new();
    cluster.submit("shout", Config::default(), builder.create_local_topology(&DRPC)?)?;

    let texts = ["hello", "good morning"];
    let answers = texts.map(|text| ask::remote(text.to_owned())); // Both are under way now.
    for (text, answer) in texts.iter().zip(answers) {
        println!("{text} -> {}", raybolt::get(answer)?);
    }
    if let Err(error) = raybolt::get(ask::remote(String::new())) {
        println!("{error}");
    }
    Ok(())
}
