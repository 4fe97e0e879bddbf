//! Values on their way between processes.
//!
//! # Format
//! A value is a tag, a length (`u32`, little endian) and as many bytes. Whoever does not know its type
//! can pass it on.

use raybolt_wire::Value;
use raybolt_wire::value::{self, DecodeError, EncodeError};

/// The value's bytes follow.
const INLINE: u8 = 0;
/// Tag and length.
const HEAD: usize = 5;

/// Why a value could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They end early.
    #[error("the bytes end within a value")]
    Short,
    /// A kind of value that nobody sends.
    #[error("a value begins with the unknown tag {0}")]
    Tag(u8),
    /// They are no value of the expected type.
    #[error(transparent)]
    Value(#[from] DecodeError),
}

/// Appends a value.
pub(crate) fn put<T: Value>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[INLINE, 0, 0, 0, 0]);
    let encoded = value::encode_into(value, std::mem::take(out));
    *out = encoded?;
    let bytes = (out.len() - start - HEAD) as u32;
    out[start + 1..start + HEAD].copy_from_slice(&bytes.to_le_bytes());
    Ok(())
}

/// Takes the next value off the front of `bytes`.
pub(crate) fn take<T: Value>(bytes: &mut &[u8]) -> Result<T, Unreadable> {
    let raw = take_raw(bytes)?;
    Ok(value::decode(raw)?)
}

/// The same, without looking into it.
fn take_raw<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Unreadable> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(Unreadable::Short)?;
    let [tag, length @ ..] = *head;
    if tag != INLINE {
        return Err(Unreadable::Tag(tag));
    }
    let length = u32::from_le_bytes(length) as usize;
    let (value, rest) = rest.split_at_checked(length).ok_or(Unreadable::Short)?;
    *bytes = rest;
    Ok(value)
}
