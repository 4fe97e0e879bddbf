//! Messages of raybolt and their bytes.
//!
//! - [`value`]: what user values have to be in order to travel, and their bytes.
//! - [`message`]: what drivers, nodes and workers say to each other.
//! - [`envelope`]: a message with the values it carries, and the bytes of both.
//! - [`frame`]: how messages are told apart in a stream.
//!
//! This crate knows how things look as bytes. It does not know what a message means: that is the
//! business of `raybolt-core`. Links (sockets, handshake) will stand here too.

#![warn(missing_docs)]

pub mod envelope;
pub mod frame;
pub mod message;
mod size;
pub mod value;

pub use envelope::Envelope;
pub use message::Message;
pub use value::Value;

/// The version of the protocol that this build speaks.
pub const PROTOCOL: u32 = 1;
