//! Dynamic tuples: a list of self-describing values, as multilang components and Storm's books use.

use std::fmt;
use std::hash::Hasher;

use raybolt_core::ids::RequestId;
use serde::de::{DeserializeSeed, EnumAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::tuple::{Decoder, Encoder, Field, Tuple, TupleError};

/// How deep lists may be nested in bytes that are decoded: deeper ones would cost stack.
pub const DEPTH_MAX: usize = 64;

/// One value of a dynamic tuple.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    I64(i64),
    /// An integer beyond the range of `I64`.
    U64(u64),
    /// A number.
    F64(f64),
    /// A text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several values.
    List(Vec<Value>),
    /// The request that a tuple belongs to.
    Request(RequestId),
}

/// A dynamic tuple. Make one with [`values!`](crate::values!).
///
/// ```
/// use raybolt_topology::{Value, values};
///
/// let tuple = values!["bolt", 7, 2.5, true];
/// assert_eq!(tuple.str(0), Some("bolt"));
/// assert_eq!(tuple.i64(1), Some(7));
/// assert_eq!(tuple[2], Value::F64(2.5));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Values(pub Vec<Value>);

/// A dynamic tuple of these values; each must be [`Into<Value>`](Value).
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        $crate::Values(vec![$($crate::Value::from($value)),*])
    };
}

impl Values {
    /// The text at `index`, if there is one.
    pub fn str(&self, index: usize) -> Option<&str> {
        match self.0.get(index) {
            Some(Value::Str(it)) => Some(it),
            _ => None,
        }
    }

    /// The integer at `index`, if there is one.
    pub fn i64(&self, index: usize) -> Option<i64> {
        match self.0.get(index) {
            Some(Value::I64(it)) => Some(*it),
            _ => None,
        }
    }

    /// The number at `index`, if there is one; integers count.
    pub fn f64(&self, index: usize) -> Option<f64> {
        match self.0.get(index) {
            Some(Value::F64(it)) => Some(*it),
            Some(Value::I64(it)) => Some(*it as f64),
            Some(Value::U64(it)) => Some(*it as f64),
            _ => None,
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, one by one, as the named fields of a typed tuple.
    ///
    /// # Errors
    /// When there are not as many values as names.
    pub fn into_fields(self, names: &'static [&'static str]) -> Result<Fields, TupleError> {
        if self.0.len() != names.len() {
            return Err(TupleError::Arity {
                expected: names.len(),
                fields: names.join(", "),
                actual: self.0.len(),
            });
        }
        Ok(Fields { names: names.iter(), values: self.0.into_iter() })
    }
}

/// Takes the values of a dynamic tuple one by one; from [`Values::into_fields`].
#[derive(Debug)]
pub struct Fields {
    names: std::slice::Iter<'static, &'static str>,
    values: std::vec::IntoIter<Value>,
}

impl Fields {
    /// The next field.
    ///
    /// # Errors
    /// When the value is of another kind, or none is left.
    #[expect(clippy::should_implement_trait, reason = "the type differs from field to field")]
    pub fn next<F: Field>(&mut self) -> Result<F, TupleError> {
        let name = self.names.next().copied().unwrap_or("beyond the last");
        F::from_value(self.values.next().unwrap_or(Value::Null)).map_err(|value| TupleError::Kind {
            field: name.to_owned(),
            expected: std::any::type_name::<F>(),
            actual: value.to_string(),
        })
    }
}

impl std::ops::Index<usize> for Values {
    type Output = Value;

    fn index(&self, index: usize) -> &Value {
        &self.0[index]
    }
}

impl FromIterator<Value> for Values {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        Values(values.into_iter().collect())
    }
}

impl Tuple for Values {
    const FIELDS: &'static [&'static str] = &[];
    const DYNAMIC: bool = true;

    fn hash_field<H: Hasher>(&self, index: usize, hasher: &mut H) {
        if let Some(value) = self.0.get(index) {
            value.hash_into(hasher);
        }
    }
    fn request_id(&self) -> Option<RequestId> {
        self.0.first().and_then(Field::request_id)
    }
    fn into_values(self) -> Values {
        self
    }
    fn from_values(values: Values) -> Result<Self, TupleError> {
        Ok(values)
    }
    fn encode(&self, encoder: &mut Encoder) -> Result<(), TupleError> {
        encoder.field(&self.0)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, TupleError> {
        decoder.field().map(Values)
    }
}

/// For messages: as one would write the value in `values!`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(it) => write!(f, "{it}"),
            Value::I64(it) => write!(f, "{it}"),
            Value::U64(it) => write!(f, "{it}"),
            Value::F64(it) => write!(f, "{it:?}"),
            Value::Str(it) => write!(f, "{it:?}"),
            Value::Bytes(it) => write!(f, "{} bytes", it.len()),
            Value::List(it) => {
                f.write_str("[")?;
                for (index, value) in it.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Value::Request(it) => write!(f, "request {}", it.0),
        }
    }
}

macro_rules! from_small_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Value {
            fn from(integer: $integer) -> Self {
                Value::I64(i64::from(integer))
            }
        }
    )*};
}
from_small_integers!(u8, u16, u32, i8, i16, i32, i64);

impl From<u64> for Value {
    fn from(integer: u64) -> Self {
        i64::try_from(integer).map_or(Value::U64(integer), Value::I64)
    }
}

impl From<usize> for Value {
    fn from(integer: usize) -> Self {
        Value::from(integer as u64)
    }
}

impl From<isize> for Value {
    fn from(integer: isize) -> Self {
        Value::I64(integer as i64)
    }
}

impl From<bool> for Value {
    fn from(it: bool) -> Self {
        Value::Bool(it)
    }
}

impl From<f64> for Value {
    fn from(it: f64) -> Self {
        Value::F64(it)
    }
}

impl From<&str> for Value {
    fn from(it: &str) -> Self {
        Value::Str(it.to_owned())
    }
}

impl From<String> for Value {
    fn from(it: String) -> Self {
        Value::Str(it)
    }
}

impl From<RequestId> for Value {
    fn from(it: RequestId) -> Self {
        Value::Request(it)
    }
}

impl From<Vec<Value>> for Value {
    fn from(it: Vec<Value>) -> Self {
        Value::List(it)
    }
}

impl From<Vec<u8>> for Value {
    fn from(it: Vec<u8>) -> Self {
        Value::Bytes(it)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested(DEPTH_MAX).deserialize(deserializer)
    }
}

/// A value with so many levels below it at most (TUPLE-2): each level is a recursion here.
#[derive(Clone, Copy)]
struct Nested(usize);

/// The names of the variants, and their numbers by position; the derived `Serialize` uses the same.
const VARIANTS: &[&str] = &["Null", "Bool", "I64", "U64", "F64", "Str", "Bytes", "List", "Request"];

#[derive(Deserialize)]
enum Variant {
    Null,
    Bool,
    I64,
    U64,
    F64,
    Str,
    Bytes,
    List,
    Request,
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_enum("Value", VARIANTS, self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a dynamic tuple")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let (variant, content) = access.variant()?;
        Ok(match variant {
            Variant::Null => {
                content.unit_variant()?;
                Value::Null
            }
            Variant::Bool => Value::Bool(content.newtype_variant()?),
            Variant::I64 => Value::I64(content.newtype_variant()?),
            Variant::U64 => Value::U64(content.newtype_variant()?),
            Variant::F64 => Value::F64(content.newtype_variant()?),
            Variant::Str => Value::Str(content.newtype_variant()?),
            Variant::Bytes => Value::Bytes(content.newtype_variant()?),
            Variant::List => Value::List(content.newtype_variant_seed(NestedList(self.0))?),
            Variant::Request => Value::Request(content.newtype_variant()?),
        })
    }
}

struct NestedList(usize);

impl<'de> DeserializeSeed<'de> for NestedList {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for NestedList {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of values, nested at most {DEPTH_MAX} deep")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vec<Value>, A::Error> {
        let Some(depth) = self.0.checked_sub(1) else {
            return Err(serde::de::Error::custom("lists are nested too deep"));
        };
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(Nested(depth))? {
            list.push(value);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::{decode_batch, encode_batch};

    #[test]
    fn dynamic_tuples_survive_their_bytes() {
        let batch = vec![
            values!["a", 1, -2.5, true, u64::MAX],
            values![vec![Value::Null, Value::from(vec![1u8, 2])], RequestId(7)],
            values![],
        ];
        let bytes = encode_batch(&batch).unwrap();
        assert_eq!(decode_batch::<Values>(&bytes).unwrap(), batch);
    }

    #[test]
    fn typed_tuples_become_dynamic_and_return() {
        let typed = (RequestId(3), "word".to_owned(), Some(7u32), vec![1u8, 2]);
        let values = typed.clone().into_values();
        assert_eq!(values, values![RequestId(3), "word", 7, vec![1u8, 2]]);
        assert_eq!(Tuple::from_values(values), Ok(typed));
    }

    #[test]
    fn a_value_that_does_not_fit_is_named() {
        let error = <(String, u8)>::from_values(values!["a", 300]).unwrap_err();
        assert_eq!(error.to_string(), "field `1` expects u8, not the value 300");
        let error = <(String, u8)>::from_values(values!["a"]).unwrap_err();
        assert_eq!(error.to_string(), "a tuple of 2 fields (0, 1) cannot be made of 1 values");
    }

    #[test]
    fn a_field_hashes_alike_in_both_kinds() {
        fn hash<T: Tuple>(tuple: &T, index: usize) -> u64 {
            let mut hasher = rapidhash::quality::RapidHasher::default();
            tuple.hash_field(index, &mut hasher);
            hasher.finish()
        }
        let typed = ("word".to_owned(), 7u16, -1i8, 2.0f32);
        let values = typed.clone().into_values();
        for index in 0..4 {
            assert_eq!(hash(&typed, index), hash(&values, index), "field {index}");
        }
    }

    #[test]
    fn lists_nested_too_deep_are_refused() {
        let deep = |levels| (0..levels).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        let bytes = encode_batch(&[values![deep(DEPTH_MAX)]]).unwrap();
        assert!(decode_batch::<Values>(&bytes).is_ok());
        let bytes = encode_batch(&[values![deep(DEPTH_MAX + 1)]]).unwrap();
        assert!(decode_batch::<Values>(&bytes).is_err());
    }

    #[test]
    fn a_batch_that_claims_more_than_it_has_is_refused() {
        assert!(decode_batch::<Values>(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert!(decode_batch::<(u64,)>(&[0xff, 0xff, 0x03]).is_err());
        let bytes = [encode_batch(&[(1u64,)]).unwrap(), vec![0]].concat();
        assert_eq!(
            decode_batch::<(u64,)>(&bytes).unwrap_err().to_string(),
            "bytes are not a batch of tuples: bytes are left over"
        );
    }
}
