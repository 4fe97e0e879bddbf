//! The values that typed tuples are made of, and how each looks in a dynamic tuple.

use std::hash::Hasher;
use std::sync::Arc;

use raybolt_core::ids::RequestId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::values::Value;

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
