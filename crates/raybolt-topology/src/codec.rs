//! Tuples as bytes, field by field, for links between processes.
//!
//! What is decoded may come from anyone: TUPLE-2 of [`tuple`](crate::tuple) holds.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::tuple::{Tuple, TupleError};

/// Writes fields to bytes.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Appends one field.
    ///
    /// # Errors
    /// When the field refuses to be serialized.
    pub fn field<F: Serialize>(&mut self, field: &F) -> Result<(), TupleError> {
        match postcard::to_extend(field, std::mem::take(&mut self.bytes)) {
            Ok(bytes) => {
                self.bytes = bytes;
                Ok(())
            }
            Err(error) => Err(TupleError::Encode {
                type_name: std::any::type_name::<F>(),
                reason: error.to_string(),
            }),
        }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads fields from bytes.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder { rest: bytes }
    }

    /// The next field.
    ///
    /// # Errors
    /// When the bytes are not such a field.
    pub fn field<F: DeserializeOwned>(&mut self) -> Result<F, TupleError> {
        let (field, rest) = postcard::take_from_bytes(self.rest).map_err(|error| {
            TupleError::Decode { type_name: std::any::type_name::<F>(), reason: error.to_string() }
        })?;
        self.rest = rest;
        Ok(field)
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

/// A batch as bytes: the number of tuples, then each one's fields.
///
/// # Errors
/// When a field refuses to be serialized, or the batch exceeds [`BATCH_TUPLES_MAX`].
pub fn encode_batch<T: Tuple>(batch: &[T]) -> Result<Vec<u8>, TupleError> {
    if batch.len() > BATCH_TUPLES_MAX {
        return Err(TupleError::Batch("more tuples than a batch may hold"));
    }
    let mut encoder = Encoder::default();
    encoder.field(&(batch.len() as u32))?;
    for tuple in batch {
        tuple.encode(&mut encoder)?;
    }
    Ok(encoder.into_bytes())
}

/// The batch that [`encode_batch`] wrote.
///
/// # Errors
/// When the bytes are not such a batch.
pub fn decode_batch<T: Tuple>(bytes: &[u8]) -> Result<Vec<T>, TupleError> {
    let mut decoder = Decoder::new(bytes);
    let count = decoder.field::<u32>()? as usize;
    if count > BATCH_TUPLES_MAX {
        return Err(TupleError::Batch("more tuples than a batch may hold"));
    }
    // TUPLE-2: what is reserved ahead is bounded by the bytes that are there.
    let mut batch = Vec::with_capacity(count.min(decoder.remaining()));
    for _ in 0..count {
        batch.push(T::decode(&mut decoder)?);
    }
    match decoder.remaining() {
        0 => Ok(batch),
        _ => Err(TupleError::Batch("bytes are left over")),
    }
}

/// How many tuples an encoded batch may hold: far more than the executor ever sends at once.
pub const BATCH_TUPLES_MAX: usize = 1 << 20;
