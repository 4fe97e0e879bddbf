//! Messages of raybolt and their bytes.
//!
//! - [`value`]: what user values have to be in order to travel, and their bytes.
//!
//! This crate knows how things look as bytes. It does not know what a message means; that is the
//! business of `raybolt-core`.

#![warn(missing_docs)]

mod size;
pub mod value;

pub use value::Value;
