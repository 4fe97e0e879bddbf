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

use raybolt_core::ids::RequestId;

pub use crate::codec::{BATCH_TUPLES_MAX, Decoder, Encoder, decode_batch, encode_batch};
pub use crate::field::Field;
#[cfg(doc)]
use crate::values::Value;
use crate::values::Values;

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
