//! Values that travel between tasks, actors and processes, and their bytes.
//!
//! # Words
//! A *value* is anything that a user passes to a task or gets back from it. Within one process a
//! value is moved; between processes it becomes bytes. The same program has to work in both places,
//! so the bound is the same in both, and [`check`] finds out at the call whether a value *would*
//! become bytes.
//!
//! # Invariants
//! - **VAL-1 (same verdict).** [`check`] accepts a value if and only if [`encode`] does. [`append`] is for values that
//!   were checked: the encoder itself does not see a field that is left out.
//! - **VAL-2 (whole or nothing).** [`decode`] consumes all bytes it is given; bytes that are left
//!   over are an error, for they mean that sender and receiver disagree about the type.
//! - **VAL-3 (no panic, no blind allocation).** Whatever the bytes are, [`decode`] answers with a
//!   value or an error, and reserves memory by what has arrived, not by what a length claims.
//!
//! # Not promised
//! The bytes do not describe themselves: both sides have to name the same type. Types that ask their
//! format what comes next (`#[serde(flatten)]`, `untagged` and internally tagged enums) are therefore
//! refused where we can see it: by [`encode`] if the length is unknown, else by [`decode`]. So are fields
//! left out by `skip_serializing_if`; one with `skip_serializing` and without `skip_deserializing` cannot be seen. A
//! recursive type is decoded recursively, and a list of values that have no bytes is as long as its
//! length claims; only peers that proved who they are get that far.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::size;

/// What can be passed to a task and returned from it: plain data that serde can write and read.
///
/// Nothing has to be implemented by hand. A type that derives `Serialize`, `Deserialize` and `Clone`,
/// and holds no references to borrowed data, is a value:
///
/// ```
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Order {
///     id: u64,
///     lines: Vec<String>,
/// }
///
/// fn takes_values(_: impl raybolt_wire::Value) {}
/// takes_values(Order { id: 1, lines: vec!["tea".into()] });
/// ```
///
/// Its bytes do not say which field is which: serde's `skip_serializing_if`, `flatten`, and enums that are `untagged` or tagged
/// within do not travel, and the error says so.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed to or returned from a task",
    label = "not a value that can travel",
    note = "add `#[derive(Clone, serde::Serialize, serde::Deserialize)]` to `{Self}`",
    note = "a value must own its data (`'static`) and be `Send + Sync`, since it may cross threads and processes"
)]
pub trait Value: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Value for T {}

/// A value that its `Serialize` implementation would not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of type `{type_name}` cannot be serialized: {cause}")]
pub struct EncodeError {
    /// The value's type, as the compiler names it.
    pub type_name: &'static str,
    /// What the implementation said.
    pub cause: String,
}

/// Bytes that are not a value of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end early, or break a rule of the type.
    #[error("{bytes} bytes are no value of type `{type_name}`: {cause}")]
    Malformed {
        /// The expected type, as the compiler names it.
        type_name: &'static str,
        /// How many bytes there were.
        bytes: usize,
        /// What the decoder said.
        cause: String,
    },
    /// A value was read, and bytes were left over.
    #[error("{left} of {bytes} bytes are left over after a value of type `{type_name}`")]
    Trailing {
        /// The expected type, as the compiler names it.
        type_name: &'static str,
        /// How many bytes there were.
        bytes: usize,
        /// How many of them do not belong to the value.
        left: usize,
    },
}

/// Finds out whether `value` can become bytes, and about how many (fixed-size numbers count with
/// their size in memory), without writing any.
///
/// This is what a call within one process pays for the promise that it works between processes too:
/// for plain numbers and slices of them the compiler folds it into a multiplication.
#[inline]
pub fn check<T: Serialize + ?Sized>(value: &T) -> Result<usize, EncodeError> {
    size::of(value).map_err(|refused| encode_error::<T>(refused.into_cause()))
}

/// The bytes of `value`.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    check(value)?;
    let mut bytes = Vec::new();
    append(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends the bytes of `value`, which [`check`] has accepted, to `buffer`, which is as it was if that fails, or panics.
pub fn append<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    /// What postcard writes to, while the buffer stays where it is.
    struct Tail<'a> {
        buffer: &'a mut Vec<u8>,
        start: usize,
        is_whole: bool,
    }
    impl Extend<u8> for Tail<'_> {
        fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
            self.buffer.extend(bytes);
        }
    }
    impl Drop for Tail<'_> {
        fn drop(&mut self) {
            if !self.is_whole {
                self.buffer.truncate(self.start);
            }
        }
    }
    let start = buffer.len();
    match postcard::to_extend(value, Tail { buffer, start, is_whole: false }) {
        Ok(mut tail) => {
            tail.is_whole = true;
            Ok(())
        }
        // The encoder drops what an implementation said; asking once more brings it back.
        Err(error) => Err(match check(value) {
            Err(refused) => refused,
            Ok(_) => encode_error::<T>(error.to_string()),
        }),
    }
}

/// Reads back a value that [`encode`] wrote; `bytes` must hold it and nothing else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let type_name = std::any::type_name::<T>();
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => {
            Err(DecodeError::Trailing { type_name, bytes: bytes.len(), left: rest.len() })
        }
        Err(error) => Err(DecodeError::Malformed {
            type_name,
            bytes: bytes.len(),
            cause: match error {
                postcard::Error::WontImplement => ASKS_THE_FORMAT.into(),
                other => lower_case(&other.to_string()),
            },
        }),
    }
}

/// What reads back only from a format that describes itself.
const ASKS_THE_FORMAT: &str = "it asks its format what comes next, as `#[serde(untagged)]`, `#[serde(tag)]` and \
                               `serde_json::Value` do, and these bytes do not tell; take the attribute off, or pass \
                               the value as JSON text";

#[cold]
fn encode_error<T: ?Sized>(cause: String) -> EncodeError {
    EncodeError { type_name: std::any::type_name::<T>(), cause: lower_case(&cause) }
}

/// Fits a foreign message into our sentence.
fn lower_case(message: &str) -> String {
    let mut letters = message.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain([second]).chain(letters).collect()
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize, Serializer};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(f64),
        Named { name: String, corners: Vec<(i32, i32)>, next: Option<Box<Shape>> },
    }

    #[derive(Clone, Deserialize)]
    struct Secret;

    impl Serialize for Secret {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("a secret stays where it is"))
        }
    }

    #[derive(Clone, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }

    #[test]
    fn a_value_survives_the_way_there_and_back() {
        let shape = Shape::Named {
            name: "zig".into(),
            corners: vec![(0, -1), (i32::MAX, 7)],
            next: Some(Box::new(Shape::Circle(0.5))),
        };
        assert_eq!(decode::<Shape>(&encode(&shape).unwrap()), Ok(shape));
        assert_eq!(decode::<Shape>(&encode(&Shape::Point).unwrap()), Ok(Shape::Point));
        let shared: Arc<str> = "shared".into();
        assert_eq!(decode::<Arc<str>>(&encode(&shared).unwrap()), Ok(shared));
    }

    #[test]
    fn a_value_that_refuses_is_named_by_check_and_by_encode_alike() {
        let refused = check(&vec![Secret]).unwrap_err();
        assert_eq!(Err(&refused), encode(&vec![Secret]).as_ref().map(drop));
        let text = refused.to_string();
        assert!(
            text.contains("Secret>` cannot be serialized: a secret stays where it is"),
            "{text}"
        );
    }

    #[test]
    fn a_value_of_unknown_length_is_refused_by_both() {
        let flat = Flat { rest: BTreeMap::from([("a".into(), 1)]) };
        let text = check(&flat).unwrap_err().to_string();
        assert!(text.contains("`#[serde(flatten)]`"), "{text}");
        assert_eq!(encode(&flat).unwrap_err().to_string(), text);
    }

    #[test]
    fn a_field_that_is_left_out_is_refused_by_both() {
        #[derive(Serialize)]
        struct Sparse {
            #[serde(skip_serializing_if = "Option::is_none")]
            first: Option<u8>,
            second: Vec<u8>,
        }
        #[derive(Serialize)]
        enum Either {
            Sparse {
                #[serde(skip_serializing_if = "Option::is_none")]
                first: Option<u8>,
            },
        }
        let sparse = Sparse { first: None, second: vec![9] };
        let text = check(&sparse).unwrap_err().to_string();
        assert!(text.contains("its field `first` is left out"), "{text}");
        assert_eq!(encode(&sparse).unwrap_err().to_string(), text);
        assert!(check(&Either::Sparse { first: None }).is_err());
        assert!(check(&Either::Sparse { first: Some(1) }).is_ok());
    }

    #[test]
    fn a_value_that_asks_its_format_is_told_what_to_do_instead() {
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Untagged {
            Number(u8),
        }
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            Number { it: u8 },
        }
        let texts = [
            decode::<Untagged>(&encode(&Untagged::Number(1)).unwrap()).unwrap_err().to_string(),
            decode::<Tagged>(&encode(&Tagged::Number { it: 1 }).unwrap()).unwrap_err().to_string(),
        ];
        for text in texts {
            assert!(text.contains("it asks its format what comes next"), "{text}");
            assert!(text.contains("pass the value as JSON text"), "{text}");
        }
    }

    #[test]
    fn the_size_of_numbers_is_that_in_memory() {
        assert_eq!(check(&vec![0.0_f64; 1000]), Ok(8008));
        assert_eq!(check(&[1_u32; 3]), Ok(12));
        assert_eq!(check("four"), Ok(12));
        assert_eq!(check(&()), Ok(0));
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let mut bytes = encode(&7_u32).unwrap();
        bytes.extend([1, 2]);
        assert_eq!(
            decode::<u32>(&bytes).unwrap_err().to_string(),
            "2 of 3 bytes are left over after a value of type `u32`"
        );
    }

    #[test]
    fn a_length_beyond_the_bytes_is_an_error_and_reserves_nothing() {
        let claims_u64_max = encode(&u64::MAX).unwrap();
        let text = decode::<Vec<u64>>(&claims_u64_max).unwrap_err().to_string();
        assert!(text.contains("no value of type `alloc::vec::Vec<u64>`"), "{text}");
        assert!(decode::<String>(&claims_u64_max).is_err());
        assert!(decode::<BTreeMap<u8, u8>>(&claims_u64_max).is_err());
    }

    proptest! {
        #[test]
        fn any_value_round_trips(
            words in proptest::collection::vec(any::<(u64, i16, String, Option<f64>)>(), 0..20)
        ) {
            let bytes = encode(&words).unwrap();
            prop_assert!(check(&words).is_ok());
            prop_assert_eq!(decode::<Vec<(u64, i16, String, Option<f64>)>>(&bytes).unwrap(), words);
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Shape>(&bytes);
            let _ = decode::<Vec<String>>(&bytes);
            let _ = decode::<BTreeMap<u16, Vec<char>>>(&bytes);
        }
    }
}
