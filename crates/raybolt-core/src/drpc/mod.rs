//! Distributed RPC: who answers which request, and by when.
//!
//! - [`broker`] matches requests with the topologies that serve them; one per DRPC server.
//! - [`error`] says why a request got no result.
//! - [`deadlines`] finds the request that is due next; [`latency`] counts how long answers took.

pub mod broker;
pub mod deadlines;
pub mod error;
pub mod latency;

pub use broker::{
    Ask, Broker, Effect, FunctionStats, Options, Outcome, SubscriberId, Terms, Wants,
};
pub use error::DrpcError;
