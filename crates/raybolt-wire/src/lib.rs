//! Messages of raybolt and their bytes.
//!
//! - [`value`]: what user values have to be in order to travel, and their bytes.
//! - [`work`]: what a driver and its workers say to each other.
//! - [`frame`]: how messages are told apart in a stream.
//! - [`secret`], [`handshake`]: how two processes find out that they belong to one session.
//! - [`door`], [`knock`]: where a session lets its own in, and how they get there.
//! - [`link`](mod@link): frames between two sides that never make each other wait.
//! - [`credit`]: how a receiver keeps a sender from running ahead.
//!
//! This crate knows how things look as bytes. It does not know what a message means: that is the
//! business of `raybolt-core`.

#![warn(missing_docs)]

pub mod credit;
pub mod door;
pub mod frame;
pub mod handshake;
pub mod knock;
pub mod link;
pub mod secret;
mod size;
pub mod value;
pub mod work;

pub use value::Value;

/// The version of the protocol that this build speaks.
pub const PROTOCOL: u32 = 1;
