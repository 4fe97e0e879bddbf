//! How a value with long runs of numbers lies in memory: its own bytes first, then each run, aligned, so
//! that it is read where it lies.
//!
//! # Format
//! All numbers are little endian, all offsets count from the beginning of the layout.
//!
//! ```text
//! | u32 own bytes | u32 n | n x (u64 offset, u64 bytes) | own bytes .. | pad | segment | pad | segment ..
//! ```
//! A segment begins at a multiple of [`ALIGN`]. In the value's own bytes stands its index.
//!
//! # Invariants
//! - **LAY-1 (inside).** A layout whose parts do not lie inside of it is not read.

use std::any::Any;
use std::cell::RefCell;
use std::iter;
use std::sync::{Arc, Weak};

use bytemuck::{AnyBitPattern, NoUninit};
use raybolt_store::{ALIGN, Mapped};

/// Shorter runs are written among the value's own bytes.
pub(crate) const SEGMENT_MIN: usize = 4 << 10;
const NUMBER: usize = 4;
const ENTRY: usize = 16;

/// A run of numbers, as bytes, kept by whoever has them.
pub(crate) struct Segment {
    bytes: Kept,
    /// What follows on them.
    more: Vec<Kept>,
    /// The `Vec` that they are in, if they are.
    original: Option<Arc<dyn Any + Send + Sync>>,
}

type Kept = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// What the segments of a value were copied from: whoever reads the value in the process that wrote it gets
/// that, as long as it is there, and two copies need not be.
pub(crate) type Originals = Arc<[Weak<dyn Any + Send + Sync>]>;

/// Where the segments of a value are read.
#[derive(Clone)]
pub(crate) enum Source {
    /// There are none.
    None,
    /// In this process's memory.
    Copied(Arc<[u8]>),
    /// In the store.
    Mapped(Mapped),
    /// In the store, whose process wrote them.
    Written(Mapped, Originals),
}

/// Numbers that lie in the store.
pub(crate) struct View<T>(Mapped, fn(&Mapped) -> &[T]);

/// Where the numbers of an array are.
pub(crate) enum Numbers<T> {
    Own(Vec<T>),
    Shared(Arc<Vec<T>>),
    View(View<T>),
}

thread_local! {
    static WRITTEN: RefCell<Option<Vec<Segment>>> = const { RefCell::new(None) };
    static READ: RefCell<Source> = const { RefCell::new(Source::None) };
}

impl Segment {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        iter::once(&self.bytes).chain(&self.more).map(|piece| (**piece).as_ref())
    }
}

/// What is to be known of segments when they are read where they were written.
pub(crate) fn originals(segments: &[Segment]) -> Originals {
    let none = || Weak::<()>::new() as Weak<dyn Any + Send + Sync>;
    let weak = |segment: &Segment| segment.original.as_ref().map_or_else(none, Arc::downgrade);
    segments.iter().map(weak).collect()
}

impl Source {
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        Source::Copied(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Source::None => &[],
            Source::Copied(bytes) => bytes,
            Source::Mapped(mapped) | Source::Written(mapped, _) => mapped,
        }
    }
}

impl<T> View<T> {
    pub(crate) fn numbers(&self) -> &[T] {
        (self.1)(&self.0)
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        View(self.0.clone(), self.1)
    }
}

impl<T> AsRef<[u8]> for View<T> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Runs `write`; says which segments were set aside meanwhile.
pub(crate) fn segmenting<R>(write: impl FnOnce() -> R) -> (R, Vec<Segment>) {
    struct Restore(Option<Option<Vec<Segment>>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(outer) = self.0.take() {
                WRITTEN.set(outer);
            }
        }
    }
    let restore = Restore(Some(WRITTEN.replace(Some(Vec::new()))));
    let result = write();
    let segments = WRITTEN.take().unwrap_or_default();
    drop(restore);
    (result, segments)
}

/// Runs `read`, during which segments are found in `source`.
pub(crate) fn reading<R>(source: &Source, read: impl FnOnce() -> R) -> R {
    struct Restore(Option<Source>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(outer) = self.0.take() {
                READ.set(outer);
            }
        }
    }
    let _restore = Restore(Some(READ.replace(source.clone())));
    read()
}

/// Calls a function for the type of numbers that `T` is, if it is one.
macro_rules! numbers {
    ($with:ident) => {
        $with!(u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize f32 f64)
    };
}
pub(crate) use numbers;

/// Sets a run of numbers aside; its index, if numbers are set aside here and now and this is one worth it.
pub(crate) fn set_aside<T: 'static>(numbers: &Arc<Vec<T>>) -> Option<u32> {
    struct Cast<N>(Arc<Vec<N>>);
    impl<N: NoUninit> AsRef<[u8]> for Cast<N> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    let any: &dyn Any = numbers;
    macro_rules! cast {
        ($($number:ty)*) => {
            None$(.or_else(|| any.downcast_ref::<Arc<Vec<$number>>>().map(|numbers| {
                Segment {
                    bytes: Arc::new(Cast(numbers.clone())),
                    more: Vec::new(),
                    original: Some(numbers.clone()),
                }
            })))*
        };
    }
    if size_of_val(&numbers[..]) < SEGMENT_MIN {
        return None;
    }
    let segment: Option<Segment> = numbers!(cast);
    push(segment?)
}

/// The same for numbers that lie in the store already.
pub(crate) fn set_view_aside<T: 'static + Send + Sync>(view: &View<T>) -> Option<u32> {
    push(Segment { bytes: Arc::new(view.clone()), more: Vec::new(), original: None })
}

/// The same for bytes that lie in several places, and will lie in one.
#[cfg(feature = "arrow")]
pub(crate) fn set_pieces_aside<B: AsRef<[u8]> + Clone + Send + Sync + 'static>(
    pieces: &[B],
) -> Option<u32> {
    if pieces.iter().map(|piece| piece.as_ref().len()).sum::<usize>() < SEGMENT_MIN {
        return None;
    }
    let mut kept = pieces.iter().map(|piece| Arc::new(piece.clone()) as Kept);
    push(Segment { bytes: kept.next()?, more: kept.collect(), original: None })
}

fn push(segment: Segment) -> Option<u32> {
    WRITTEN.with_borrow_mut(|written| {
        let written = written.as_mut()?;
        written.push(segment);
        u32::try_from(written.len() - 1).ok()
    })
}

/// The numbers of a segment of the value that is being read.
pub(crate) fn found<T: Send + Sync + 'static>(index: u32) -> Option<Numbers<T>> {
    let source = READ.with_borrow(Clone::clone);
    let range = segment(source.bytes(), index)?;
    match source {
        Source::None => None,
        Source::Copied(bytes) => copied(&bytes[range]).map(Numbers::Own),
        Source::Written(_, originals)
            if let Some(original) = originals.get(index as usize).and_then(Weak::upgrade) =>
        {
            original.downcast().ok().map(Numbers::Shared)
        }
        Source::Mapped(mapped) | Source::Written(mapped, _) => {
            let part = mapped.slice(range.start as u64..range.end as u64)?;
            view(part).map(Numbers::View)
        }
    }
}

fn copied<T: 'static>(bytes: &[u8]) -> Option<Vec<T>> {
    macro_rules! find {
        ($($number:ty)*) => {
            $(if std::any::TypeId::of::<T>() == std::any::TypeId::of::<$number>() {
                let numbers: Box<dyn Any> = Box::new(numbers_of::<$number>(bytes)?);
                return numbers.downcast::<Vec<T>>().ok().map(|numbers| *numbers);
            })*
        };
    }
    numbers!(find);
    None
}

/// The numbers whose bytes these are, wherever they begin.
pub(crate) fn numbers_of<N: AnyBitPattern>(bytes: &[u8]) -> Option<Vec<N>> {
    if let Ok(numbers) = bytemuck::try_cast_slice::<u8, N>(bytes) {
        return Some(numbers.to_vec());
    }
    let numbers = bytes.chunks_exact(size_of::<N>());
    numbers.remainder().is_empty().then(|| numbers.map(bytemuck::pod_read_unaligned::<N>).collect())
}

fn view<T: 'static>(mapped: Mapped) -> Option<View<T>> {
    type Look<T> = fn(&Mapped) -> &[T];
    fn look<N: AnyBitPattern>(mapped: &Mapped) -> &[N] {
        mapped.as_slice_of().unwrap_or_default() // Not reached: tried when the view was made.
    }
    macro_rules! find {
        ($($number:ty)*) => {
            $(
                let typed: Look<$number> = look::<$number>;
                if let Some(look) = (&typed as &dyn Any).downcast_ref::<Look<T>>() {
                    return mapped.as_slice_of::<$number>().is_ok().then(|| View(mapped, *look));
                }
            )*
        };
    }
    numbers!(find);
    None
}

/// The parts of a layout.
pub(crate) struct Parts<'a> {
    head: Vec<u8>,
    own: &'a [u8],
    /// Offsets and bytes, of each piece.
    segments: Vec<(usize, &'a [u8])>,
}

/// Lays a value out.
pub(crate) fn parts<'a>(own: &'a [u8], segments: &'a [Segment]) -> Parts<'a> {
    parts_of(own, segments.iter().map(Segment::pieces))
}

/// The same, of segments that are at hand, each in pieces.
pub(crate) fn parts_of<'a, S>(own: &'a [u8], segments: S) -> Parts<'a>
where
    S: ExactSizeIterator<Item: Iterator<Item = &'a [u8]>>,
{
    let align = ALIGN as usize;
    let mut end = 2 * NUMBER + segments.len() * ENTRY + own.len();
    let mut head = Vec::with_capacity(end - own.len());
    head.extend_from_slice(&(own.len() as u32).to_le_bytes());
    head.extend_from_slice(&(segments.len() as u32).to_le_bytes());
    let mut placed = Vec::with_capacity(segments.len());
    for pieces in segments {
        let offset = end.next_multiple_of(align);
        end = offset;
        for piece in pieces {
            placed.push((end, piece));
            end += piece.len();
        }
        head.extend_from_slice(&(offset as u64).to_le_bytes());
        head.extend_from_slice(&((end - offset) as u64).to_le_bytes());
    }
    Parts { head, own, segments: placed }
}

impl Parts<'_> {
    pub(crate) fn bytes(&self) -> usize {
        match self.segments.last() {
            Some((offset, bytes)) => offset + bytes.len(),
            None => self.head.len() + self.own.len(),
        }
    }

    pub(crate) fn append(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.bytes(), 0);
        self.write(&mut out[start..]);
    }

    /// Fills `into`, which has the layout's length.
    pub(crate) fn write(&self, into: &mut [u8]) {
        let mut end = 0;
        let begin = [(0, &self.head[..]), (self.head.len(), self.own)];
        for (offset, bytes) in begin.into_iter().chain(self.segments.iter().copied()) {
            into[end..offset].fill(0); // What lay there before is nobody's business.
            end = offset + bytes.len();
            raybolt_store::copy(&mut into[offset..end], bytes);
        }
    }
}

/// The value's own bytes in a layout.
pub(crate) fn own(layout: &[u8]) -> Option<&[u8]> {
    let (bytes, count) = (number(layout, 0)?, number(layout, NUMBER)?);
    let start = count.checked_mul(ENTRY)?.checked_add(2 * NUMBER)?;
    layout.get(start..start.checked_add(bytes)?)
}

/// Where the segment of a layout lies that is nothing else (LAY-1).
pub(crate) fn only_segment(layout: &[u8]) -> Option<std::ops::Range<usize>> {
    let is_alone = number(layout, NUMBER)? == 1 && own(layout)?.is_empty();
    if is_alone { segment(layout, 0) } else { None }
}

/// Where a segment lies in a layout (LAY-1).
fn segment(layout: &[u8], index: u32) -> Option<std::ops::Range<usize>> {
    let index = index as usize;
    if index >= number(layout, NUMBER)? {
        return None;
    }
    let entry = layout.get(2 * NUMBER + index * ENTRY..)?.first_chunk::<ENTRY>()?;
    let word = |at: usize| {
        let bytes = entry[at..].first_chunk::<8>()?;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    };
    let (offset, bytes) = (word(0)?, word(8)?);
    let end = offset.checked_add(bytes)?;
    (end <= layout.len()).then_some(offset..end)
}

fn number(layout: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*layout.get(at..)?.first_chunk()?) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_of_numbers_are_found_again() {
        let numbers = Arc::new((0..2_000).map(f64::from).collect::<Vec<_>>());
        let ((index, short), segments) =
            segmenting(|| (set_aside(&numbers), set_aside(&Arc::new(vec![1_u8; 10]))));
        assert_eq!((index, short), (Some(0), None));
        let mut layout = Vec::new();
        parts(b"own", &segments).append(&mut layout);
        assert_eq!(own(&layout), Some(&b"own"[..]));
        let source = Source::copied(&layout);
        let Some(Numbers::Own(found)) = reading(&source, || found::<f64>(0)) else { panic!() };
        assert_eq!(found, *numbers);
        assert!(reading(&source, || super::found::<f64>(1)).is_none());
        assert!(reading(&source, || super::found::<String>(0)).is_none());
    }

    #[test]
    fn outside_of_a_value_nothing_is_set_aside() {
        assert_eq!(set_aside(&Arc::new(vec![0_u64; 10_000])), None);
        assert!(found::<u64>(0).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_layout_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..80), index in 0..5_u32) {
            prop_assert!(own(&bytes).is_none_or(|own| own.len() <= bytes.len()));
            prop_assert!(segment(&bytes, index).is_none_or(|range| range.end <= bytes.len()));
        }
    }
}
