//! Arrow's record batches as values; with the feature `arrow`.
//!
//! # Format
//! A batch is a stream of Arrow's IPC format: its schema, its dictionaries, itself, the end. Within a session
//! the stream is a segment of the value (`layout`): the columns are copied once, straight into the
//! store, 64-byte aligned as the format has them, and read there.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamEncoder;
use bytes::Bytes;
use serde::de::{self, Deserializer};
use serde::ser::{self, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};

use crate::processes::layout::{self, Numbers};

/// The crate that has [`RecordBatch`] and the arrays, of the version that is used here.
pub use arrow_array;

/// A [`RecordBatch`] that can be passed to tasks, returned and stored. It reads like one.
///
/// Over processes a large batch lies in the store of the node: its columns are copied once, when it is written,
/// and whoever reads it reads them there. Reading checks what Arrow checks of untrusted bytes: that
/// offsets lie inside, that text is UTF-8; numbers are not looked at.
///
/// ```
/// use std::sync::Arc;
///
/// use raybolt_runtime::arrow::Batch;
/// use raybolt_runtime::arrow::arrow_array::{Float64Array, RecordBatch};
/// # use raybolt_runtime::{call, session};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let _session = session::Builder::new().start()?;
/// let heights = Float64Array::from_iter_values([1.5, 1.75]);
/// let batch = RecordBatch::try_from_iter([("height", Arc::new(heights) as _)])?;
/// let object = call::put(Batch::from(batch))?;
/// assert_eq!(call::get(&object)?.num_rows(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq)]
pub struct Batch(RecordBatch);

impl From<RecordBatch> for Batch {
    fn from(batch: RecordBatch) -> Self {
        Batch(batch)
    }
}

impl From<Batch> for RecordBatch {
    fn from(batch: Batch) -> Self {
        batch.0
    }
}

impl Deref for Batch {
    type Target = RecordBatch;

    fn deref(&self) -> &RecordBatch {
        &self.0
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Outside of a session's messages: the pieces of the stream, one after the other.
impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pieces = stream(&self.0).map_err(ser::Error::custom)?;
        match layout::set_pieces_aside(&pieces) {
            Some(index) => Form::<Pieces<'_>>::Segment(index).serialize(serializer),
            None => Form::Pieces(Pieces(&pieces)).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stream = match Form::<Vec<Bytes>>::deserialize(deserializer)? {
            Form::Pieces(pieces) => Buffer::from_vec(pieces.concat()),
            Form::Segment(index) => segment(index)
                .ok_or_else(|| de::Error::custom(format_args!("there is no segment {index}")))?,
        };
        read(stream).map(Batch).map_err(de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
enum Form<P> {
    Pieces(P),
    Segment(u32),
}

struct Pieces<'a>(&'a [Buffer]);

impl Serialize for Pieces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Piece<'a>(&'a [u8]);
        impl Serialize for Piece<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.0)
            }
        }
        let mut pieces = serializer.serialize_seq(Some(self.0.len()))?;
        for piece in self.0 {
            pieces.serialize_element(&Piece(piece))?;
        }
        pieces.end()
    }
}

/// The stream in pieces; the columns in it are those of the batch.
fn stream(batch: &RecordBatch) -> Result<Vec<Buffer>, String> {
    let mut encoder = StreamEncoder::try_new(batch.schema_ref()).map_err(text)?;
    let mut pieces = encoder.encode(batch).map_err(text)?;
    pieces.extend(encoder.finish().map_err(text)?);
    Ok(pieces)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn segment(index: u32) -> Option<Buffer> {
    struct Shared(Arc<Vec<u8>>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Some(match layout::found::<u8>(index)? {
        Numbers::Own(bytes) => Buffer::from_vec(bytes),
        Numbers::Shared(bytes) => Bytes::from_owner(Shared(bytes)).into(),
        Numbers::View(view) => Bytes::from_owner(view).into(),
    })
}

/// The first batch of a stream. Its columns lie where the stream lies, if they are aligned there.
fn read(mut stream: Buffer) -> Result<RecordBatch, String> {
    let mut decoder = StreamDecoder::new();
    while !stream.is_empty() {
        if let Some(batch) = decoder.decode(&mut stream).map_err(text)? {
            return Ok(batch);
        }
    }
    Err("the stream ends before a batch".into())
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, UInt64Type};
    use arrow_array::{ArrayRef, DictionaryArray, ListArray, StringArray, UInt64Array};
    use proptest::prelude::*;

    use super::*;
    use crate::processes::layout::Source;
    use crate::processes::parcel;

    /// Numbers with gaps, text, a dictionary, lists: of `rows` rows, the first ones cut off.
    fn batch(rows: usize) -> Batch {
        let numbers = (0..rows as u64).map(|row| (row % 3 != 0).then_some(row));
        let words = (0..rows).map(|row| ["one", "two", "drei"][row % 3]);
        let lists = (0..rows as i32).map(|row| Some(vec![Some(row), None]));
        let columns: [(&str, ArrayRef); 4] = [
            ("numbers", Arc::new(UInt64Array::from_iter(numbers))),
            ("words", Arc::new(StringArray::from_iter_values(words.clone()))),
            ("dictionary", Arc::new(words.collect::<DictionaryArray<Int32Type>>())),
            ("lists", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        batch.slice(rows / 10, rows - rows / 10).into()
    }

    #[test]
    fn batches_travel_as_bytes_of_their_own_and_as_segments() {
        for rows in [0, 1, 20, 1_500] {
            let batch = batch(rows);
            let plain = raybolt_wire::value::encode(&batch).unwrap();
            assert_eq!(raybolt_wire::value::decode::<Batch>(&plain).unwrap(), batch, "{rows}");
            let mut piece = Vec::new();
            parcel::put(&batch, &mut piece).unwrap();
            assert_eq!(parcel::take::<Batch>(&mut &piece[..]).unwrap(), batch, "{rows}");
            let checked = raybolt_wire::value::check(&batch).unwrap();
            assert!(checked.abs_diff(plain.len()) < 1_000, "{checked} for {}", plain.len());
        }
    }

    #[test]
    fn a_column_is_read_where_the_stream_lies() {
        let batch = batch(1_000);
        let stream: Vec<u8> =
            stream(&batch).unwrap().iter().flat_map(|piece| piece.to_vec()).collect();
        let stream = Buffer::from_slice_ref(&stream); // Aligned, as the store is.
        let lies = stream.as_ptr_range();
        let read = read(stream).unwrap();
        let numbers = read.column(0).as_primitive::<UInt64Type>().values();
        assert!(lies.contains(&numbers.as_ptr().cast()));
    }

    proptest! {
        #[test]
        fn a_stream_with_other_bytes_in_it_is_a_batch_or_an_error(
            bytes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
            length in any::<proptest::sample::Index>(),
        ) {
            let mut own = raybolt_wire::value::encode(&batch(20)).unwrap();
            for (at, byte) in &bytes {
                *at.get_mut(&mut own) = *byte;
            }
            let _ = parcel::open_value::<Batch>(&own, &Source::None);
            let _ = parcel::open_value::<Batch>(&own[..length.index(own.len())], &Source::None);
        }
    }
}
