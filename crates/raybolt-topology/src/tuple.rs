//! What travels on streams: typed tuples, their fields, and how both meet the dynamic kind.
//!
//! # Words
//! A *tuple* is one record on a stream, a *field* one named part of it. A tuple is *typed* (a struct
//! with `#[derive(Tuple)]`) or *dynamic* ([`Values`]: a list of [`Value`]s). Streams are typed at
//! submit: a bolt that takes `Values` may read any stream, and a typed bolt may read a stream of
//! `Values`; the executor converts. Everything else must match exactly.
//!
//! # Invariants
//! - **TUPLE-1 (one hash).** A field hashes alike in both kinds, whatever its integer width, so that
//!   a fields grouping sends equal keys of a typed and a dynamic stream to the same instance.
//! - **TUPLE-2 (bytes do not panic).** Decoding takes any bytes, needs memory in proportion to their
//!   number, and ends in a tuple or a [`TupleError`].

use std::hash::Hasher;
use std::sync::Arc;

use raybolt_core::ids::RequestId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::values::{Value, Values};

/// One record on a stream. Use `#[derive(Tuple)]` on a struct whose fields are [`Field`]s.
///
/// ```
/// use raybolt_topology::{Field, Tuple, TupleError, Value, Values};
///
/// // What `#[derive(Tuple)] struct Word { word: String }` expands to.
/// #[derive(Clone)]
/// struct Word {
///     word: String,
/// }
///
/// impl Tuple for Word {
///     const FIELDS: &'static [&'static str] = &["word"];
///
///     fn hash_field<H: std::hash::Hasher>(&self, index: usize, hasher: &mut H) {
///         match index {
///             0 => Field::hash_into(&self.word, hasher),
///             _ => {}
///         }
///     }
///     fn request_id(&self) -> Option<raybolt_topology::RequestId> {
///         Field::request_id(&self.word) // Of the first field.
///     }
///     fn into_values(self) -> Values {
///         Values::from_iter([Field::into_value(self.word)])
///     }
///     fn from_values(values: Values) -> Result<Self, TupleError> {
///         let mut fields = values.into_fields(Self::FIELDS)?;
///         Ok(Word { word: fields.next()? })
///     }
///     fn encode(&self, encoder: &mut raybolt_topology::Encoder) -> Result<(), TupleError> {
///         encoder.field(&self.word)
///     }
///     fn decode(decoder: &mut raybolt_topology::Decoder<'_>) -> Result<Self, TupleError> {
///         Ok(Word { word: decoder.field()? })
///     }
/// }
///
/// let values = Word { word: "bolt".into() }.into_values();
/// assert_eq!(values, Values::from_iter([Value::from("bolt")]));
/// assert_eq!(Word::from_values(values).unwrap().word, "bolt");
/// ```
pub trait Tuple: Clone + Send + Sync + 'static {
    /// The names of the fields, in order. Empty for [`Values`], whose names the component declares.
    const FIELDS: &'static [&'static str];

    /// Whether the fields are known at run time only.
    const DYNAMIC: bool = false;

    /// Whether the type says that the first field is a [`RequestId`].
    const CARRIES_REQUEST: bool = false;

    /// Feeds field number `index` to `hasher`; nothing if there is none.
    fn hash_field<H: Hasher>(&self, index: usize, hasher: &mut H);

    /// The request that the tuple belongs to, if its first field is a [`RequestId`].
    fn request_id(&self) -> Option<RequestId> {
        None
    }

    /// The same tuple as a dynamic one.
    fn into_values(self) -> Values;

    /// The tuple that a dynamic one stands for.
    ///
    /// # Errors
    /// When number or kinds of the values do not fit the fields.
    fn from_values(values: Values) -> Result<Self, TupleError>;

    /// Writes the fields in order.
    ///
    /// # Errors
    /// When a field refuses to be serialized.
    fn encode(&self, encoder: &mut Encoder) -> Result<(), TupleError>;

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When the bytes are not such a tuple.
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, TupleError>;
}

/// A value that can be a field of a typed tuple.
///
/// The common types are; for one of your own that serializes, `impl Field for Mine {}` is enough: it
/// then is [`Value::Bytes`] in a dynamic tuple.
pub trait Field: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Whether this is [`RequestId`].
    #[doc(hidden)]
    const IS_REQUEST: bool = false;

    /// Feeds the value to `hasher`, see TUPLE-1.
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(&postcard::to_allocvec(self).unwrap_or_default());
    }

    /// The value in a dynamic tuple.
    fn into_value(self) -> Value {
        Value::Bytes(postcard::to_allocvec(&self).unwrap_or_default())
    }

    /// The value out of a dynamic tuple.
    ///
    /// # Errors
    /// Gives the value back when it is of another kind.
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Bytes(bytes) => postcard::from_bytes(&bytes).map_err(|_| Value::Bytes(bytes)),
            other => Err(other),
        }
    }

    /// The request that the value names, if it is a [`RequestId`].
    fn request_id(&self) -> Option<RequestId> {
        None
    }

    /// A list of such values in a dynamic tuple.
    #[doc(hidden)]
    fn list_into_value(list: Vec<Self>) -> Value {
        Value::List(list.into_iter().map(Field::into_value).collect())
    }

    /// The inverse of [`list_into_value`](Self::list_into_value).
    #[doc(hidden)]
    fn list_from_value(value: Value) -> Result<Vec<Self>, Value> {
        match value {
            Value::List(list) => list.into_iter().map(Field::from_value).collect(),
            other => Err(other),
        }
    }
}

/// Why a tuple could not be converted, encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TupleError {
    /// A dynamic tuple has too few or too many values.
    #[error("a tuple of {expected} fields ({fields}) cannot be made of {actual} values")]
    Arity {
        /// How many fields the typed tuple has.
        expected: usize,
        /// Their names.
        fields: String,
        /// How many values there were.
        actual: usize,
    },
    /// A value is of a kind that its field does not take.
    #[error("field `{field}` expects {expected}, not the value {actual}")]
    Kind {
        /// The field's name.
        field: String,
        /// The Rust type of the field.
        expected: &'static str,
        /// The value.
        actual: String,
    },
    /// A field refused to be serialized.
    #[error("a field of type {type_name} cannot be encoded: {reason}")]
    Encode {
        /// The Rust type of the field.
        type_name: &'static str,
        /// What its serializer said.
        reason: String,
    },
    /// The bytes are not such a tuple.
    #[error("bytes are not a field of type {type_name}: {reason}")]
    Decode {
        /// The Rust type that was expected.
        type_name: &'static str,
        /// What was found.
        reason: String,
    },
    /// A batch claims an impossible number of tuples, or has bytes left over.
    #[error("bytes are not a batch of tuples: {0}")]
    Batch(&'static str),
}

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

macro_rules! integer_fields {
    ($($integer:ty),*) => {$(
        impl Field for $integer {
            fn hash_into<H: Hasher>(&self, hasher: &mut H) {
                hasher.write_u64(*self as u64);
            }
            fn into_value(self) -> Value {
                Value::from(self)
            }
            fn from_value(value: Value) -> Result<Self, Value> {
                match value {
                    Value::I64(integer) => Self::try_from(integer).map_err(|_| value),
                    Value::U64(integer) => Self::try_from(integer).map_err(|_| value),
                    other => Err(other),
                }
            }
        }
    )*};
}
integer_fields!(u16, u32, u64, usize, i8, i16, i32, i64, isize);

impl Field for u8 {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(u64::from(*self));
    }
    fn into_value(self) -> Value {
        Value::from(self)
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        u64::from_value(value).and_then(|n| Self::try_from(n).map_err(|_| Value::from(n)))
    }
    fn list_into_value(list: Vec<Self>) -> Value {
        Value::Bytes(list)
    }
    fn list_from_value(value: Value) -> Result<Vec<Self>, Value> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(other),
        }
    }
}

impl Field for bool {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(u64::from(*self));
    }
    fn into_value(self) -> Value {
        Value::Bool(self)
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Bool(it) => Ok(it),
            other => Err(other),
        }
    }
}

impl Field for f64 {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        // Minus zero equals zero, so it must go where zero goes.
        hasher.write_u64(if *self == 0.0 { 0 } else { self.to_bits() });
    }
    fn into_value(self) -> Value {
        Value::F64(self)
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::F64(it) => Ok(it),
            other => Err(other),
        }
    }
}

impl Field for f32 {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        f64::from(*self).hash_into(hasher);
    }
    fn into_value(self) -> Value {
        Value::F64(f64::from(self))
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        f64::from_value(value).map(|it| it as f32)
    }
}

macro_rules! string_fields {
    ($($string:ty),*) => {$(
        impl Field for $string {
            fn hash_into<H: Hasher>(&self, hasher: &mut H) {
                hasher.write(self.as_bytes());
            }
            fn into_value(self) -> Value {
                Value::Str(self.into())
            }
            fn from_value(value: Value) -> Result<Self, Value> {
                match value {
                    Value::Str(it) => Ok(it.into()),
                    other => Err(other),
                }
            }
        }
    )*};
}
string_fields!(String, Box<str>);

impl Field for Arc<str> {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(self.as_bytes());
    }
    fn into_value(self) -> Value {
        Value::Str(self.as_ref().into())
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        String::from_value(value).map(Into::into)
    }
}

impl Field for bytes::Bytes {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.len() as u64);
        self.iter().for_each(|it| it.hash_into(hasher)); // As `Vec<u8>`: TUPLE-1.
    }
    fn into_value(self) -> Value {
        Value::Bytes(self.into())
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Bytes(it) => Ok(it.into()),
            other => Err(other),
        }
    }
}

impl<F: Field> Field for Option<F> {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        match self {
            None => hasher.write_u8(0),
            Some(it) => it.hash_into(hasher),
        }
    }
    fn into_value(self) -> Value {
        self.map_or(Value::Null, Field::into_value)
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Null => Ok(None),
            other => F::from_value(other).map(Some),
        }
    }
}

impl<F: Field> Field for Vec<F> {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.len() as u64);
        self.iter().for_each(|it| it.hash_into(hasher));
    }
    fn into_value(self) -> Value {
        F::list_into_value(self)
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        F::list_from_value(value)
    }
}

impl Field for RequestId {
    const IS_REQUEST: bool = true;

    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0);
    }
    fn into_value(self) -> Value {
        Value::Request(self)
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Request(it) => Ok(it),
            other => Err(other),
        }
    }
    fn request_id(&self) -> Option<RequestId> {
        Some(*self)
    }
}

impl Field for Value {
    fn hash_into<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Value::Null => hasher.write_u8(0),
            Value::Bool(it) => it.hash_into(hasher),
            Value::I64(it) => it.hash_into(hasher),
            Value::U64(it) => it.hash_into(hasher),
            Value::F64(it) => it.hash_into(hasher),
            Value::Str(it) => it.hash_into(hasher),
            Value::Bytes(it) => it.hash_into(hasher),
            Value::List(it) => it.hash_into(hasher),
            Value::Request(it) => it.hash_into(hasher),
        }
    }
    fn into_value(self) -> Value {
        self
    }
    fn from_value(value: Value) -> Result<Self, Value> {
        Ok(value)
    }
    fn request_id(&self) -> Option<RequestId> {
        match self {
            Value::Request(it) => Some(*it),
            _ => None,
        }
    }
}

/// The tuple without fields: for components that emit nothing on their default stream.
impl Tuple for () {
    const FIELDS: &'static [&'static str] = &[];

    fn hash_field<H: Hasher>(&self, _: usize, _: &mut H) {}
    fn into_values(self) -> Values {
        Values::default()
    }
    fn from_values(values: Values) -> Result<Self, TupleError> {
        values.into_fields(Self::FIELDS).map(drop)
    }
    fn encode(&self, _: &mut Encoder) -> Result<(), TupleError> {
        Ok(())
    }
    fn decode(_: &mut Decoder<'_>) -> Result<Self, TupleError> {
        Ok(())
    }
}

/// Plain Rust tuples are tuples whose fields are called `0`, `1`, ….
macro_rules! plain_tuples {
    ($($count:literal [$($index:tt $name:literal $type:ident),*])*) => {$(
        impl<$($type: Field),*> Tuple for ($($type,)*) {
            const FIELDS: &'static [&'static str] = &[$($name),*];
            const CARRIES_REQUEST: bool = [$($type::IS_REQUEST),*][0];

            fn hash_field<H: Hasher>(&self, index: usize, hasher: &mut H) {
                match index {
                    $($index => self.$index.hash_into(hasher),)*
                    _ => {}
                }
            }
            fn request_id(&self) -> Option<RequestId> {
                self.0.request_id()
            }
            fn into_values(self) -> Values {
                Values(vec![$(self.$index.into_value()),*])
            }
            fn from_values(values: Values) -> Result<Self, TupleError> {
                let mut fields = values.into_fields(Self::FIELDS)?;
                Ok(($(fields.next::<$type>()?,)*))
            }
            fn encode(&self, encoder: &mut Encoder) -> Result<(), TupleError> {
                $(encoder.field(&self.$index)?;)*
                Ok(())
            }
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self, TupleError> {
                Ok(($(decoder.field::<$type>()?,)*))
            }
        }
    )*};
}
plain_tuples! {
    1 [0 "0" A]
    2 [0 "0" A, 1 "1" B]
    3 [0 "0" A, 1 "1" B, 2 "2" C]
    4 [0 "0" A, 1 "1" B, 2 "2" C, 3 "3" D]
}
