//! Spouts, bolts and typed tuples, and the executors that run a topology on the runtime.

mod async_bolt;
mod batch;
mod bolt;
mod builder;
mod catch;
mod cluster;
mod codec;
mod collector;
mod config;
mod context;
mod drain;
mod factory;
mod field;
mod inbox;
mod instance;
mod ledger;
mod processes;
mod replay;
mod routing;
mod shared;
mod spout;
mod spout_instance;
mod stats;
mod task;
pub mod tuple;
pub mod values;
mod view;
mod wiring;
mod worker;

/// Makes a struct a tuple: names, hashes and converts its fields.
///
/// ```
/// use raybolt_topology::{RequestId, Tuple};
///
/// #[derive(Clone, Tuple)]
/// #[tuple(crate = "raybolt_topology")] // Not needed in a crate that uses `raybolt`.
/// struct Follower {
///     request: RequestId, // First, and of this type: ties the tuple to its request.
///     follower: u32,
/// }
///
/// assert_eq!(Follower::FIELDS, ["request", "follower"]);
/// let tuple = Follower { request: RequestId(7), follower: 42 };
/// assert_eq!(tuple.request_id(), Some(RequestId(7)));
/// ```
pub use raybolt_macros::Tuple;

pub use async_bolt::{AsyncBolt, Emits};
pub use batch::{Batch, Run};
pub use bolt::{Bolt, BoltError};
pub use builder::{
    Async, BoltDeclarer, BuildError, Outputs, SpoutDeclarer, Topology, TopologyBuilder,
};
#[doc(hidden)]
pub use catch::caught;
pub use cluster::{ChangeError, IntoTopology, LocalCluster, SubmitError, TopologyHandle};
pub use collector::{Collector, Held, Source, SpoutCollector};
pub use config::Config;
pub use context::{Context, Waker};
#[doc(hidden)]
pub use processes::Elsewhere;
pub use processes::Portable;
pub use raybolt_core::flow::grouping::Grouping;
pub use raybolt_core::ids::RequestId;
pub use replay::ReplaySpout;
pub use routing::CustomGrouping;
pub use shared::RequestObserver;
pub use spout::{MessageId, Next, Spout};
pub use stats::{ComponentStats, ErrorRecord, InstanceStats, Status, TopologyStats};
pub use tuple::{Decoder, Encoder, Field, Tuple, TupleError, decode_batch, encode_batch};
pub use values::{Fields, Value, Values};
pub use view::{ComponentView, StreamView};
