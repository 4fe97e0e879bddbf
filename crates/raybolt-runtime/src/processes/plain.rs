//! Values that are one run of numbers or bytes, and nothing else: `Vec`s of numbers, `String`, `Bytes`.
//!
//! serde goes through a `Vec<u8>` byte by byte. Such a value is therefore known by its type, and its bytes
//! become the only segment of a layout with no bytes of its own ([`layout`]); what serde writes has at least
//! a length. A value that merely contains such a run is serde's.

use std::any::Any;
use std::iter;

use bytes::Bytes;

use crate::processes::layout::{self, Parts, Source, numbers};

/// The bytes of a value that is one long run.
pub(crate) fn run<T: 'static>(value: &T) -> Option<&[u8]> {
    let bytes = bytes(value)?;
    (bytes.len() >= layout::SEGMENT_MIN).then_some(bytes)
}

/// Lays such a run out.
pub(crate) fn parts(run: &[u8]) -> Parts<'_> {
    layout::parts_of(&[], iter::once(iter::once(run)))
}

/// Types are compared as such, not through `Any`: the compiler drops what does not apply.
fn bytes<T: 'static>(value: &T) -> Option<&[u8]> {
    macro_rules! find {
        ($($number:ty)*) => {
            $(if is::<T, Vec<$number>>() {
                let numbers = (value as &dyn Any).downcast_ref::<Vec<$number>>()?;
                return Some(bytemuck::cast_slice(numbers));
            })*
        };
    }
    numbers!(find);
    if is::<T, Bytes>() {
        return (value as &dyn Any).downcast_ref::<Bytes>().map(|bytes| &bytes[..]);
    }
    if is::<T, String>() {
        return (value as &dyn Any).downcast_ref::<String>().map(String::as_bytes);
    }
    None
}

/// The value that is laid out in `source`, if it is one run. `Bytes` in the store are not copied.
pub(crate) fn open<T: 'static>(source: &Source) -> Option<T> {
    let mapped = match source {
        Source::Mapped(mapped) | Source::Written(mapped, _) if is::<T, Bytes>() => mapped,
        _ => return copy(source.bytes()),
    };
    let range = layout::only_segment(mapped)?;
    let part = mapped.slice(range.start as u64..range.end as u64)?;
    typed(Bytes::from_owner(part))
}

/// The value that is laid out like this, if it is one run.
pub(crate) fn copy<T: 'static>(layout: &[u8]) -> Option<T> {
    macro_rules! find {
        ($($number:ty)*) => {
            $(if is::<T, Vec<$number>>() {
                let range = layout::only_segment(layout)?;
                return typed(layout::numbers_of::<$number>(&layout[range])?);
            })*
        };
    }
    numbers!(find);
    if is::<T, Bytes>() {
        let range = layout::only_segment(layout)?;
        return typed(Bytes::copy_from_slice(&layout[range]));
    }
    if is::<T, String>() {
        let range = layout::only_segment(layout)?;
        return typed(str::from_utf8(&layout[range]).ok()?.to_owned());
    }
    None
}

fn is<T: 'static, U: 'static>() -> bool {
    std::any::TypeId::of::<T>() == std::any::TypeId::of::<U>()
}

fn typed<T: 'static, U: 'static>(value: U) -> Option<T> {
    let mut value = Some(value);
    (&mut value as &mut dyn Any).downcast_mut::<Option<T>>()?.take()
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;
    use raybolt_wire::Value;

    use super::*;
    use crate::processes::parcel;

    fn laid_out(bytes: &[u8]) -> Vec<u8> {
        let mut layout = Vec::new();
        parts(bytes).append(&mut layout);
        layout
    }

    /// How many bytes travel for one.
    fn passes<T: Value + PartialEq + Debug>(value: T) -> usize {
        let mut out = vec![7; 3]; // Nothing is aligned.
        parcel::put(&value, &mut out).unwrap();
        let mut rest = &out[3..];
        assert_eq!(parcel::take::<T>(&mut rest).unwrap(), value);
        assert!(rest.is_empty());
        out.len() - 3
    }

    #[test]
    fn long_runs_travel_as_they_lie_and_short_ones_as_serde_writes_them() {
        // A head and what aligns them around the run, whatever the numbers are.
        assert!((40_000..40_080).contains(&passes(vec![255_u8; 40_000])));
        assert!((40_000..40_080).contains(&passes(vec![u32::MAX; 10_000])));
        assert!((80_000..80_080).contains(&passes(vec![-1.5_f64; 10_000])));
        assert!((32_000..32_080).contains(&passes(vec![i128::MIN; 2_000])));
        assert!((30_000..30_080).contains(&passes("drei".repeat(7_500))));
        assert!((40_000..40_080).contains(&passes(Bytes::from(vec![1; 40_000]))));
        assert_eq!(passes(vec![1_u64; 100]), 5 + 1 + 100);
        assert_eq!(passes("short".to_owned()), 5 + 1 + 5);
        passes(Vec::<u8>::new());
        passes((vec![1_u8; 40_000], vec![2_u32; 10_000]));
        passes(vec![vec![1_u8; 5_000]; 3]);
    }

    #[test]
    fn bytes_that_are_no_such_value_are_an_error() {
        let take = |layout: &[u8]| -> [bool; 3] {
            let mut piece = vec![2]; // Laid out.
            piece.extend_from_slice(&(layout.len() as u32).to_le_bytes());
            piece.extend_from_slice(layout);
            [
                parcel::take::<Vec<u32>>(&mut &piece[..]).is_ok(),
                parcel::take::<Vec<u8>>(&mut &piece[..]).is_ok(),
                parcel::take::<String>(&mut &piece[..]).is_ok(),
            ]
        };
        let whole = laid_out(&[0xff; 8]);
        assert_eq!(take(&whole), [true, true, false], "no UTF-8");
        assert_eq!(take(&laid_out(b"seven b")), [false, true, true], "no whole number of numbers");
        for length in 0..whole.len() {
            assert_eq!(take(&whole[..length]), [false; 3], "{length} of the bytes");
        }
        let mut claims_more = whole;
        claims_more[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(take(&claims_more), [false; 3]);
    }

    proptest! {
        #[test]
        fn any_layout_is_a_run_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            copy::<Vec<u8>>(&bytes);
            copy::<Vec<f64>>(&bytes);
            copy::<String>(&bytes);
            copy::<Bytes>(&bytes);
        }
    }
}
