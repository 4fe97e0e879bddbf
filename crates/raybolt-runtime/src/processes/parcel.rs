//! Values on their way between processes.
//!
//! # Format
//! A value is a tag, a length (`u32`, little endian) and as many bytes: its own, or those that name an
//! object in its place. Whoever does not know its type can pass it on.
//!
//! # References inside values
//! An [`ObjectRef`](crate::object::ObjectRef) within a value is written as its id. While a value is
//! *packed* ([`packing`]) the references in it are collected, for the sender has to see to it that their
//! objects live on; while it is *opened* ([`opening`]) references may be read back.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use raybolt_wire::Value;
use raybolt_wire::value::{self, DecodeError, EncodeError};

use crate::error::TaskError;
use crate::object::AnyObject;
use crate::panics;

/// The value's bytes follow.
const INLINE: u8 = 0;
/// The id of an object follows, whose value belongs here.
const REFERENCE: u8 = 1;
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
    /// The type's own code panicked.
    #[error("{0}")]
    Panicked(Box<TaskError>),
}

/// A value that was cut out of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Its bytes.
    Inline(&'a [u8]),
    /// The object whose value it is.
    Reference(u64),
}

thread_local! {
    /// The references of the value that this thread packs.
    static PACKED: RefCell<Option<Vec<Arc<dyn AnyObject>>>> = const { RefCell::new(None) };
    static IS_OPEN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `pack`; says which references were written meanwhile, each as often as it was.
pub(crate) fn packing<R>(pack: impl FnOnce() -> R) -> (R, Vec<Arc<dyn AnyObject>>) {
    let outer = PACKED.replace(Some(Vec::new()));
    let result = pack();
    let packed = PACKED.replace(outer);
    (result, packed.unwrap_or_default())
}

/// A reference is written.
pub(crate) fn note<T: AnyObject + 'static>(object: impl FnOnce() -> Arc<T>) {
    PACKED.with_borrow_mut(|packed| {
        if let Some(packed) = packed {
            packed.push(object());
        }
    });
}

/// A reference is passed on, within a value that nobody looks into.
pub(crate) fn note_any(object: Arc<dyn AnyObject>) {
    PACKED.with_borrow_mut(|packed| {
        if let Some(packed) = packed {
            packed.push(object);
        }
    });
}

/// Runs `open`, during which references may be read back.
pub(crate) fn opening<R>(open: impl FnOnce() -> R) -> R {
    struct Close(bool);
    impl Drop for Close {
        fn drop(&mut self) {
            IS_OPEN.set(self.0);
        }
    }
    let _close = Close(IS_OPEN.replace(true));
    open()
}

pub(crate) fn is_open() -> bool {
    IS_OPEN.get()
}

/// Appends a value.
pub(crate) fn put<T: Value>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[INLINE, 0, 0, 0, 0]);
    let name = std::any::type_name::<T>();
    let appended = panics::catch(name, 0, || value::append(value, out))
        .unwrap_or_else(|panic| Err(EncodeError { type_name: name, cause: panic.to_string() }));
    if appended.is_err() {
        out.truncate(start);
        return appended;
    }
    let bytes = (out.len() - start - HEAD) as u32;
    out[start + 1..start + HEAD].copy_from_slice(&bytes.to_le_bytes());
    Ok(())
}

/// Appends what was cut out of another message.
pub(crate) fn put_piece(piece: Piece<'_>, out: &mut Vec<u8>) {
    let mut put = |tag, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match piece {
        Piece::Inline(bytes) => put(INLINE, bytes),
        Piece::Reference(id) => put(REFERENCE, &id.to_le_bytes()),
    }
}

/// Takes the next value off the front of `bytes`.
pub(crate) fn take<T: Value>(bytes: &mut &[u8]) -> Result<T, Unreadable> {
    match take_piece(bytes)? {
        Piece::Inline(bytes) => open_value(bytes),
        Piece::Reference(_) => Err(Unreadable::Tag(REFERENCE)),
    }
}

/// The value whose own bytes these are.
pub(crate) fn open_value<T: Value>(bytes: &[u8]) -> Result<T, Unreadable> {
    let decode = || opening(|| value::decode(bytes));
    let decoded = panics::catch(std::any::type_name::<T>(), 0, decode);
    Ok(decoded.map_err(Unreadable::Panicked)??)
}

/// The same as [`take`], without looking into it.
pub(crate) fn take_piece<'a>(bytes: &mut &'a [u8]) -> Result<Piece<'a>, Unreadable> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(Unreadable::Short)?;
    let [tag, length @ ..] = *head;
    let length = u32::from_le_bytes(length) as usize;
    let (value, rest) = rest.split_at_checked(length).ok_or(Unreadable::Short)?;
    *bytes = rest;
    match tag {
        INLINE => Ok(Piece::Inline(value)),
        REFERENCE => match value.try_into() {
            Ok(id) => Ok(Piece::Reference(u64::from_le_bytes(id))),
            Err(_) => Err(Unreadable::Short),
        },
        other => Err(Unreadable::Tag(other)),
    }
}

/// Reads on, piece by piece, to the end of `bytes`.
pub(crate) fn pieces(mut bytes: &[u8]) -> Result<Vec<Piece<'_>>, Unreadable> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        pieces.push(take_piece(&mut bytes)?);
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_and_references_are_cut_apart_again() {
        let mut bytes = Vec::new();
        put(&7_u64, &mut bytes).unwrap();
        put_piece(Piece::Reference(1 << 63), &mut bytes);
        put(&"text".to_owned(), &mut bytes).unwrap();
        let pieces = pieces(&bytes).unwrap();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1], Piece::Reference(1 << 63));
        let mut again = Vec::new();
        pieces.iter().for_each(|piece| put_piece(*piece, &mut again));
        assert_eq!(again, bytes);
        assert_eq!(take::<u64>(&mut &bytes[..]).unwrap(), 7);
    }

    proptest! {
        #[test]
        fn any_bytes_are_pieces_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(pieces(&bytes));
            drop(take::<Vec<String>>(&mut &bytes[..]));
        }
    }
}
