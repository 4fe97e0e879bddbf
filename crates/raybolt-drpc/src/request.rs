//! What a topology that serves a function takes: the request's number and its arguments.

use std::hash::Hasher;
use std::str::Utf8Error;

use bytes::Bytes;
use raybolt_core::ids::RequestId;
use raybolt_topology::{Decoder, Encoder, Field, Tuple, TupleError, Value, Values};

/// One request, as the first bolts of a DRPC topology take it. A bolt that takes [`Values`] gets the
/// same two fields: `request`, and `args` as text if they are text, else as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrpcRequest {
    /// The request; it has to be the first field of every tuple that comes of it.
    pub request: RequestId,
    /// The arguments of the call.
    pub args: Bytes,
}

/// The arguments of a call are no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the arguments of request {request} are not text: {error}; read `args`")]
pub struct ArgsNotText {
    request: RequestId,
    error: Utf8Error,
}

impl DrpcRequest {
    /// The arguments as text.
    ///
    /// # Errors
    /// When they are not UTF-8.
    pub fn text(&self) -> Result<&str, ArgsNotText> {
        std::str::from_utf8(&self.args)
            .map_err(|error| ArgsNotText { request: self.request, error })
    }
}

impl Tuple for DrpcRequest {
    const FIELDS: &'static [&'static str] = &["request", "args"];
    const CARRIES_REQUEST: bool = true;

    fn hash_field<H: Hasher>(&self, index: usize, hasher: &mut H) {
        match (index, self.text()) {
            (0, _) => self.request.hash_into(hasher),
            // As the value that it becomes in a dynamic tuple (TUPLE-1).
            (1, Ok(text)) => hasher.write(text.as_bytes()),
            (1, Err(_)) => self.args.hash_into(hasher),
            _ => {}
        }
    }

    fn request_id(&self) -> Option<RequestId> {
        Some(self.request)
    }

    fn into_values(self) -> Values {
        let args = match String::from_utf8(self.args.into()) {
            Ok(text) => Value::Str(text),
            Err(error) => Value::Bytes(error.into_bytes()),
        };
        Values(vec![Value::Request(self.request), args])
    }

    fn from_values(values: Values) -> Result<Self, TupleError> {
        let mut fields = values.into_fields(Self::FIELDS)?;
        let request = fields.next()?;
        let args = match fields.next::<Value>()? {
            Value::Str(text) => text.into(),
            Value::Bytes(bytes) => bytes.into(),
            other => {
                return Err(TupleError::Kind {
                    field: "args".into(),
                    expected: "text or bytes",
                    actual: format!("{other:?}"),
                });
            }
        };
        Ok(DrpcRequest { request, args })
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), TupleError> {
        encoder.field(&self.request)?;
        encoder.field(&self.args)
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, TupleError> {
        Ok(DrpcRequest { request: decoder.field()?, args: decoder.field()? })
    }
}

/// A result as the bytes that its caller gets: text and bytes as they are, other values as text.
pub(crate) fn result_bytes(value: Value) -> Bytes {
    match value {
        Value::Str(text) => text.into(),
        Value::Bytes(bytes) => bytes.into(),
        Value::Null => Bytes::new(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_survive_the_way_through_dynamic_tuples_and_bytes() {
        for args in [&b"foo.com/blog/1"[..], &[0xff, 0x00], b""] {
            let tuple = DrpcRequest { request: RequestId(7), args: Bytes::copy_from_slice(args) };
            assert_eq!(DrpcRequest::from_values(tuple.clone().into_values()).unwrap(), tuple);
            let mut encoder = Encoder::default();
            tuple.encode(&mut encoder).unwrap();
            let bytes = encoder.into_bytes();
            assert_eq!(DrpcRequest::decode(&mut Decoder::new(&bytes)).unwrap(), tuple);
        }
    }

    #[test]
    fn arguments_that_are_no_text_say_so() {
        let tuple = DrpcRequest { request: RequestId(7), args: Bytes::from_static(&[0xff]) };
        assert_eq!(
            tuple.text().unwrap_err().to_string(),
            "the arguments of request 7 are not text: invalid utf-8 sequence of 1 bytes from index \
             0; read `args`"
        );
    }

    #[test]
    fn results_of_any_kind_become_bytes() {
        let bytes = |value| String::from_utf8(result_bytes(value).into()).unwrap();
        assert_eq!(bytes(Value::from("a")), "a");
        assert_eq!(bytes(Value::Bytes(b"b".to_vec())), "b");
        assert_eq!(bytes(Value::from(16u64)), "16");
        assert_eq!(bytes(Value::from(true)), "true");
        assert_eq!(bytes(Value::Null), "");
    }
}
