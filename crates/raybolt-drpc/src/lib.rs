//! Distributed RPC: local server, clients and the topology builders that answer requests.
//!
//! A *request* calls a *function* by name; topologies that serve the function take it, fan it out over
//! their bolts, and one result comes back to the caller. See [`LocalDrpc`] for the caller's side.
//!
//! # Way of a request
//! 1. [`LocalDrpc::submit`] enters it at the server; the broker machine of the core decides who
//!    takes it, and it is put into that [`subscription`]'s inbox.
//! 2. The topology takes what is in the inbox, runs it through its bolts, and reports results and
//!    completions, many at once.
//! 3. The server hands each result to the [`Pending`] that waits for it.

mod builder;
mod elsewhere;
mod endpoint;
mod linear;
pub mod local;
pub mod pending;
mod per_request;
mod request;
mod server;
mod spout;
pub mod stream;
pub mod subscription;

pub use builder::{DrpcBuildError, DrpcTopologyBuilder, IN_FLIGHT_MAX};
pub use linear::{LinearBoltDeclarer, LinearDrpcTopologyBuilder};
pub use local::{CallOptions, LocalDrpc, Options, Stats};
pub use pending::{Pending, Reply};
pub use per_request::{BatchBolt, PerRequest};
pub use raybolt_core::drpc::{DrpcError, FunctionStats, Terms};
pub use raybolt_topology::RequestId;
pub use request::{ArgsNotText, DrpcRequest};
pub use stream::Parts;
pub use subscription::{Delivered, Report, Subscription};
