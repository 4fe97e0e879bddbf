//! Values on their way between processes.
//!
//! # Format
//! A value is a *piece*: a tag, a length (`u32`, little endian) and as many bytes. Whoever does not know its
//! type can pass it on. There are
//! - *inline* pieces: the value's own bytes;
//! - *laid out* pieces: the value's own bytes and its *segments*, long runs of numbers that are mapped
//!   rather than read (`layout`); a value that is such a run has nothing else (`plain`);
//! - *stored* pieces: where in the store such a layout lies. What is longer than `INLINE_MAX` goes there;
//! - *references*: the object whose value belongs here.
//!
//! # References inside values
//! An [`ObjectRef`](crate::object::ObjectRef) within a value is written as its id. While a value is
//! *packed* (`packing`) the references in it are collected, for the sender has to see to it that their
//! objects live on; while it is *opened* references may be read back.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use raybolt_wire::Value;
use raybolt_wire::value::{self, DecodeError, EncodeError};
use raybolt_wire::work::{self, ToWorker};

use crate::error::{Error, TaskError};
use crate::object::{AnyObject, Object};
use crate::panics;
use crate::processes::layout::{self, Parts, Segment, Source};
use crate::processes::link::FRAME_MAX;
use crate::processes::plain;
use crate::processes::raw::{Encoded, Raw};
use crate::processes::shelf::{Guard, Shelf, ShelfError, Spot};

/// What is longer than this goes by way of the store.
pub(crate) const INLINE_MAX: usize = 100 << 10;

const INLINE: u8 = 0;
const REFERENCE: u8 = 1;
const LAID_OUT: u8 = 2;
const STORED: u8 = 3;
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
    /// The store does not have it, or has no room to bring it back.
    #[error("{0}")]
    Store(String),
}

/// Why a value could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum Unpackable {
    /// Its type refuses to be written.
    #[error(transparent)]
    Value(#[from] EncodeError),
    /// The store does not take it.
    #[error("{0}")]
    Store(String),
    /// It would have to wait for the store, on a thread that may not.
    #[error("it would have to wait for the store")]
    WouldWait,
    /// It lies nowhere any more.
    #[error("{0}")]
    Lost(Error),
}

impl From<ShelfError> for Unpackable {
    fn from(error: ShelfError) -> Self {
        match error {
            ShelfError::WouldWait => Unpackable::WouldWait,
            ShelfError::Failed(because) | ShelfError::Lost(because) => Unpackable::Store(because),
        }
    }
}

impl From<Error> for Unpackable {
    fn from(error: Error) -> Self {
        Unpackable::Lost(error)
    }
}

/// A value that was cut out of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Its bytes.
    Inline(&'a [u8]),
    /// Its bytes and segments.
    LaidOut(&'a [u8]),
    /// Where they lie.
    Stored(Spot),
    /// The object whose value it is.
    Reference(u64),
}

/// What a packed value needs until it has arrived.
#[derive(Default, Clone)]
pub(crate) struct Packed {
    /// The references in it, each as often as it was written.
    pub(crate) refs: Vec<Arc<dyn AnyObject>>,
    /// What keeps stored pieces where they are; to be dropped when the message was appended.
    pub(crate) guards: Vec<Guard>,
    /// What is made again of it: it cannot be packed before that is there.
    pub(crate) awaited: Vec<Arc<Object<Raw>>>,
    /// For a task that is kept: the arguments that lie in the store, by the ids in their place.
    pub(crate) stored: Vec<(u64, Arc<Encoded>)>,
}

impl Packed {
    /// Puts in front of the frame that begins at `start` what it lends.
    pub(crate) fn announce(&self, start: usize, frames: &mut Vec<u8>) {
        let pins: Vec<_> = self.guards.iter().filter_map(Guard::pinned).collect();
        if self.refs.is_empty() && pins.is_empty() {
            return;
        }
        let frame = frames.split_off(start);
        let refs = self.refs.iter().map(|object| object.id()).collect();
        let nothing = |_: &mut Vec<u8>| Ok::<_, std::convert::Infallible>(());
        work::append(frames, &ToWorker::Lend { refs, pins }, FRAME_MAX, nothing)
            .expect("as many references as fit into a frame, which holds them too");
        frames.extend_from_slice(&frame);
    }

    pub(crate) fn add(&mut self, other: Packed) {
        self.refs.extend(other.refs);
        self.guards.extend(other.guards);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.refs.is_empty() && self.guards.is_empty()
    }
}

thread_local! {
    /// What the value needs that this thread packs.
    static PACKED: RefCell<Option<Packed>> = const { RefCell::new(None) };
    static IS_OPEN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `pack`; says what the values need that were packed meanwhile.
pub(crate) fn packing<R>(pack: impl FnOnce() -> R) -> (R, Packed) {
    let outer = PACKED.replace(Some(Packed::default()));
    let result = pack();
    let packed = PACKED.replace(outer);
    (result, packed.unwrap_or_default())
}

/// A reference is written.
pub(crate) fn note<T: AnyObject + 'static>(object: impl FnOnce() -> Arc<T>) {
    with_packed(|packed| packed.refs.push(object()));
}

/// A reference is passed on, within a value that nobody looks into.
pub(crate) fn note_any(object: Arc<dyn AnyObject>) {
    with_packed(|packed| packed.refs.push(object));
}

/// A value has to be made again before it can be packed.
pub(crate) fn note_awaited(object: Arc<Object<Raw>>) {
    with_packed(|packed| packed.awaited.push(object));
}

/// The argument of this id lies in the store.
pub(crate) fn note_stored(id: u64, value: Arc<Encoded>) {
    with_packed(|packed| packed.stored.push((id, value)));
}

fn guard(guard: Guard) {
    with_packed(|packed| packed.guards.push(guard));
}

fn with_packed(note: impl FnOnce(&mut Packed)) {
    PACKED.with_borrow_mut(|packed| packed.as_mut().map(note));
}

pub(crate) fn is_open() -> bool {
    IS_OPEN.get()
}

/// Appends a value; if that fails, `out` is as it was.
pub(crate) fn put<T: Value>(value: &T, out: &mut Vec<u8>) -> Result<(), Unpackable> {
    if let Some(run) = plain::run(value) {
        return put_layout(&plain::parts(run), &[], out);
    }
    let start = out.len();
    out.extend_from_slice(&[INLINE, 0, 0, 0, 0]);
    let name = std::any::type_name::<T>();
    let append = || layout::segmenting(|| value::append(value, out));
    let (appended, segments) = panics::catch(name, 0, append).unwrap_or_else(|panic| {
        (Err(EncodeError { type_name: name, cause: panic.to_string() }), Vec::new())
    });
    let finished = appended.map_err(Unpackable::from).and_then(|()| finish(start, segments, out));
    if finished.is_err() {
        out.truncate(start);
    }
    finished
}

/// Gives the piece that begins at `start` the form that it travels in.
fn finish(start: usize, segments: Vec<Segment>, out: &mut Vec<u8>) -> Result<(), Unpackable> {
    let own = out.len() - start - HEAD;
    if segments.is_empty() && own <= INLINE_MAX {
        out[start + 1..start + HEAD].copy_from_slice(&(own as u32).to_le_bytes());
        return Ok(());
    }
    let own = out.split_off(start + HEAD);
    out.truncate(start);
    put_layout(&layout::parts(&own, &segments), &segments, out)
}

/// Appends a value that is laid out.
fn put_layout(
    parts: &Parts<'_>,
    segments: &[Segment],
    out: &mut Vec<u8>,
) -> Result<(), Unpackable> {
    if parts.bytes() <= INLINE_MAX {
        let at = begin(LAID_OUT, out);
        parts.append(out);
        end(at, out);
        return Ok(());
    }
    let stored =
        Shelf::of_session(|shelf| shelf.write(parts.bytes(), &mut |into| parts.write(into)));
    let (spot, kept) = stored?;
    if let Guard::Pin { parked, .. } = &kept {
        parked.remember(layout::originals(segments));
    }
    put_piece(Piece::Stored(spot), out);
    guard(kept);
    Ok(())
}

fn begin(tag: u8, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    out.len()
}

fn end(at: usize, out: &mut [u8]) {
    let bytes = (out.len() - at) as u32;
    out[at - 4..at].copy_from_slice(&bytes.to_le_bytes());
}

/// Appends what was cut out of another message.
pub(crate) fn put_piece(piece: Piece<'_>, out: &mut Vec<u8>) {
    let tag = match piece {
        Piece::Inline(_) => INLINE,
        Piece::LaidOut(_) => LAID_OUT,
        Piece::Stored(_) => STORED,
        Piece::Reference(_) => REFERENCE,
    };
    let at = begin(tag, out);
    match piece {
        Piece::Inline(bytes) | Piece::LaidOut(bytes) => out.extend_from_slice(bytes),
        Piece::Stored(spot) => out.extend_from_slice(&spot.to_bytes()),
        Piece::Reference(id) => out.extend_from_slice(&id.to_le_bytes()),
    }
    end(at, out);
}

/// Appends a value that lies in the store, and keeps it there until the message is appended.
pub(crate) fn put_stored(spot: Spot, kept: Guard, out: &mut Vec<u8>) {
    put_piece(Piece::Stored(spot), out);
    guard(kept);
}

/// Takes the next value off the front of `bytes`.
pub(crate) fn take<T: Value>(bytes: &mut &[u8]) -> Result<T, Unreadable> {
    match take_piece(bytes)? {
        Piece::Inline(own) => open_value(own, &Source::None),
        Piece::LaidOut(all) => match plain::copy(all) {
            Some(run) => Ok(run),
            None => open_layout(&Source::copied(all)),
        },
        Piece::Stored(spot) => {
            let mapped = Shelf::of_session(|shelf| shelf.read(spot)).map_err(Unreadable::Store)?;
            open_layout(&Source::Mapped(mapped))
        }
        Piece::Reference(_) => Err(Unreadable::Tag(REFERENCE)),
    }
}

/// The value that is laid out in `source`.
pub(crate) fn open_layout<T: Value>(source: &Source) -> Result<T, Unreadable> {
    if let Some(run) = plain::open(source) {
        return Ok(run);
    }
    let own = layout::own(source.bytes()).ok_or(Unreadable::Short)?;
    open_value(own, source)
}

/// The value whose own bytes these are, with its segments in `source`.
pub(crate) fn open_value<T: Value>(own: &[u8], source: &Source) -> Result<T, Unreadable> {
    struct Close(bool);
    impl Drop for Close {
        fn drop(&mut self) {
            IS_OPEN.set(self.0);
        }
    }
    let decode = || {
        let _close = Close(IS_OPEN.replace(true));
        layout::reading(source, || value::decode(own))
    };
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
        LAID_OUT => Ok(Piece::LaidOut(value)),
        STORED => Spot::of_bytes(value).map(Piece::Stored).ok_or(Unreadable::Short),
        REFERENCE => match value.try_into() {
            Ok(id) => Ok(Piece::Reference(u64::from_le_bytes(id))),
            Err(_) => Err(Unreadable::Short),
        },
        other => Err(Unreadable::Tag(other)),
    }
}

/// Whether any of the values in an answer lies in the store.
pub(crate) fn has_stored(mut bytes: &[u8]) -> bool {
    while let Ok(piece) = take_piece(&mut bytes) {
        if matches!(piece, Piece::Stored(_)) {
            return true;
        }
    }
    false
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

    #[test]
    fn an_answer_says_whether_something_of_it_lies_in_the_store() {
        let spot = Spot::of_bytes(&[7; 32]).unwrap();
        let mut bytes = Vec::new();
        put(&7_u64, &mut bytes).unwrap();
        assert!(!has_stored(&bytes) && !has_stored(&[]));
        put_piece(Piece::Stored(spot), &mut bytes);
        assert!(has_stored(&bytes));
        assert!(!has_stored(&bytes[..bytes.len() - 1]), "it ends early");
    }

    #[test]
    fn a_value_that_cannot_be_packed_leaves_no_trace() {
        #[derive(Clone, serde::Deserialize)]
        struct Stays;
        impl serde::Serialize for Stays {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("stays where it is")
            }
        }
        let mut bytes = vec![1, 2, 3];
        let error = put(&(7, Stays), &mut bytes).unwrap_err().to_string();
        assert!(error.contains("stays where it is"), "{error}");
        assert_eq!(bytes, [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_pieces_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(pieces(&bytes));
            drop(take::<Vec<String>>(&mut &bytes[..]));
        }
    }
}
