//! The shells of raybolt: threads, timers and values that drive the machines of the core.
//!
//! [`pool`], [`turn`], [`slot`] and [`timer`] are what every shell stands on, also those of topologies
//! and Distributed RPC. The rest is the shell of calls: a [`session`] holds the machines, [`call`] is
//! the way in, and an actor's calls go by way of its [`handle`].

mod actor;
pub mod args;
pub mod array;
#[cfg(feature = "arrow")]
pub mod arrow;
mod awaited;
pub mod call;
mod clock;
mod context;
mod creation;
mod desk;
pub mod error;
pub mod failures;
pub mod group;
pub mod handle;
mod hub;
mod ids;
pub mod inspect;
pub mod job;
mod lease;
pub mod machine;
mod members;
pub mod method;
mod names;
pub mod object;
pub mod options;
pub mod output;
mod panics;
pub mod pool;
pub mod processes;
pub mod session;
pub mod session_dir;
pub mod slot;
pub mod stream;
mod sync;
mod timeline;
pub mod timer;
pub mod turn;
