//! A serde format that writes nothing and counts.
//!
//! Used at each call to learn how large an argument is and whether it can be serialized at all. It
//! has to cost next to nothing: every method is inlined and adds a constant, errors are a boxed text
//! made on the cold path only, so a `Vec<f64>` becomes `len * 8` and a struct of numbers a constant.

use std::fmt::Display;

use serde::ser::{self, Serialize};

/// About how many bytes `value` takes, or why it cannot be written.
#[inline]
pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> Result<usize, Refused> {
    let mut size = Size(0);
    value.serialize(&mut size)?;
    Ok(size.0)
}

/// Why a value cannot be written.
#[derive(Debug)]
pub(crate) struct Refused(Box<str>);

impl Refused {
    pub(crate) fn into_cause(self) -> String {
        self.0.into()
    }

    #[cold]
    fn left_out(field: &str) -> Self {
        let cause = format!(
            "its field `{field}` is left out, as `#[serde(skip_serializing_if)]` does: values travel without \
             the names of their fields, so that the next field would be read in its place; take the attribute off"
        );
        Refused(cause.into())
    }

    #[cold]
    fn unknown_length(of: &str) -> Self {
        let cause = format!(
            "it contains a {of} of unknown length, as `#[serde(flatten)]` makes one; \
             collect it into a `Vec` or a map field"
        );
        Refused(cause.into())
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        Refused(message.to_string().into())
    }
}

/// The bytes counted so far. Lengths and variants count as 8 and 4 bytes.
pub(crate) struct Size(usize);

const LENGTH_BYTES: usize = 8;
const VARIANT_BYTES: usize = 4;

impl Size {
    #[inline]
    fn add(&mut self, bytes: usize) -> Result<(), Refused> {
        // Wrapping, since an overflow check per element would keep the loop from being folded; a
        // value that is in memory has less than `usize::MAX` bytes.
        self.0 = self.0.wrapping_add(bytes);
        Ok(())
    }
}

macro_rules! fixed {
    ($($method:ident: $type:ty),*) => {$(
        #[inline]
        fn $method(self, _: $type) -> Result<(), Refused> {
            self.add(size_of::<$type>())
        }
    )*};
}

impl ser::Serializer for &mut Size {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fixed!(
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_i128: i128, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64, serialize_char: char
    );

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Refused> {
        self.add(LENGTH_BYTES + text.len())
    }

    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Refused> {
        self.add(LENGTH_BYTES + bytes.len())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Refused> {
        self.add(1)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.add(1)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), Refused> {
        self.add(VARIANT_BYTES)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.add(VARIANT_BYTES)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Refused> {
        if len.is_none() {
            return Err(Refused::unknown_length("sequence"));
        }
        self.add(LENGTH_BYTES)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.add(VARIANT_BYTES)?;
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self, Refused> {
        if len.is_none() {
            return Err(Refused::unknown_length("map"));
        }
        self.add(LENGTH_BYTES)?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.add(VARIANT_BYTES)?;
        Ok(self)
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Refused> {
        use std::fmt::Write;
        let mut letters = Letters(0);
        write!(letters, "{value}").map_err(|_| ser::Error::custom("its `Display` failed"))?;
        self.add(LENGTH_BYTES + letters.0)
    }

    // As the real format answers, so that types which look at this write the same in both.
    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Counts text that is formatted rather than lent.
struct Letters(usize);

impl std::fmt::Write for Letters {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

macro_rules! compound {
    ($($trait:ident: $method:ident),*) => {$(
        impl ser::$trait for &mut Size {
            type Ok = ();
            type Error = Refused;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                value.serialize(&mut **self)
            }

            #[inline]
            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        }
    )*};
}

compound!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

macro_rules! named_fields {
    ($($trait:ident),*) => {$(
        impl ser::$trait for &mut Size {
            type Ok = ();
            type Error = Refused;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _: &'static str,
                value: &T,
            ) -> Result<(), Refused> {
                value.serialize(&mut **self)
            }

            #[inline]
            fn skip_field(&mut self, field: &'static str) -> Result<(), Refused> {
                Err(Refused::left_out(field))
            }

            #[inline]
            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        }
    )*};
}

named_fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for &mut Size {
    type Ok = ();
    type Error = Refused;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        key.serialize(&mut **self)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        value.serialize(&mut **self)
    }

    #[inline]
    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}
