//! Arguments as they are passed, and as the function receives them.

use std::ops::Deref;

use raybolt_core::calls::owner::ObjectKey;
use raybolt_wire::Value;
use raybolt_wire::value::EncodeError;

use crate::error::Error;
use crate::object::{AnyObject, Lazy, ObjectRef};
use crate::processes::lineage;
use crate::processes::parcel::{self, Piece, Unreadable};
use crate::processes::raw::unpackable;

/// One argument of a call: a value, or a reference to an object that has it, or will have it.
#[derive(Clone)]
pub enum Arg<T> {
    /// The value itself.
    Value(T),
    /// The task waits for this object and receives its value.
    Object(ObjectRef<T>),
}

/// What may be passed where a remote function takes a `T`: a `T`, or an [`ObjectRef`] of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed where a remote function takes `{T}`",
    note = "pass a `{T}`, an `ObjectRef<{T}>` or a `&ObjectRef<{T}>`"
)]
pub trait IntoArg<T> {
    /// The argument.
    fn into_arg(self) -> Arg<T>;
}

impl<T> IntoArg<T> for T {
    fn into_arg(self) -> Arg<T> {
        Arg::Value(self)
    }
}

impl<T> IntoArg<T> for ObjectRef<T> {
    fn into_arg(self) -> Arg<T> {
        Arg::Object(self)
    }
}

impl<T> IntoArg<T> for &ObjectRef<T> {
    fn into_arg(self) -> Arg<T> {
        Arg::Object(self.clone())
    }
}

impl IntoArg<String> for &str {
    fn into_arg(self) -> Arg<String> {
        Arg::Value(self.into())
    }
}

/// An argument as the function receives it: its own value, or a view of a shared one.
pub enum Held<T> {
    /// A value that was passed.
    Own(T),
    /// An object's value, which others may read too.
    Shared(ObjectRef<T>),
}

/// Why no argument is missing.
const THERE: &str = "a task starts only when its arguments are there";

impl<T: Value> Held<T> {
    /// The value; copied if others may read it too.
    pub fn into_owned(self) -> T {
        match self {
            Held::Own(value) => value,
            Held::Shared(object) => {
                let value = object.take().unwrap_or_else(|_| unreachable!("{THERE}"));
                value.unwrap_or_else(|_| unreachable!("{THERE}"))
            }
        }
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Held::Own(value) => value,
            Held::Shared(object) => match object.0.slot.get() {
                Some(Ok(Lazy::Here(value))) => value,
                Some(Ok(Lazy::Encoded(_))) => {
                    unreachable!("what comes from another process is a value of its own")
                }
                _ => unreachable!("{THERE}"),
            },
        }
    }
}

impl<T: Value> Arg<T> {
    fn need(&self, epoch: u32, needs: &mut Vec<ObjectKey>) -> Result<(), Error> {
        let Arg::Object(object) = self else { return Ok(()) };
        match object.key_in(epoch) {
            Ok(key) => needs.push(key),
            // Of no session, or an earlier one: it is there, or will never be.
            Err(never) => object
                .0
                .slot
                .get()
                .map_or(Err(never), |result| result.as_ref().map(drop).map_err(Clone::clone))?,
        }
        Ok(())
    }

    fn error(&self) -> Option<Error> {
        match self {
            Arg::Value(_) => None,
            Arg::Object(object) => object.error(),
        }
    }

    fn wait(&self) -> Result<(), Error> {
        match self {
            Arg::Value(_) => Ok(()),
            Arg::Object(object) => crate::call::settle(object),
        }
    }

    fn check(&self) -> Result<usize, EncodeError> {
        match self {
            Arg::Value(value) => raybolt_wire::value::check(value),
            Arg::Object(_) => Ok(0),
        }
    }

    fn pack(&self, task: &str, form: Form, out: &mut Vec<u8>) -> Result<(), Error> {
        match (self, form) {
            (Arg::Value(value), _) => {
                parcel::put(value, out).map_err(|error| unpackable(task, &error))
            }
            (Arg::Object(object), Form::References) if object.0.hold.is_of_session() => {
                parcel::put_piece(Piece::Reference(object.id()), out);
                Ok(())
            }
            (Arg::Object(object), Form::Kept) => lineage::keep_arg(object.id(), &*object.0, out),
            (Arg::Object(object), _) => object.0.pack(out),
        }
    }

    fn unpack(bytes: &mut &[u8]) -> Result<Self, Unreadable> {
        parcel::take(bytes).map(Arg::Value)
    }

    fn is_value(&self) -> bool {
        matches!(self, Arg::Value(_))
    }

    fn hold(self) -> Held<T> {
        match self {
            Arg::Value(value) => Held::Own(value),
            Arg::Object(object) => Held::Shared(object),
        }
    }
}

/// How objects among the arguments travel.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As their values, which are there.
    Values,
    /// As their ids: the driver puts the values in their place.
    References,
    /// For a task that is kept to run again: small ones as their values, others as their ids.
    Kept,
}

/// The arguments of one call: a tuple of [`Arg`]s.
pub trait Arguments: Clone + Send + Sync + 'static {
    /// The same as the function receives them.
    type Held;
    /// The objects among them that belong to session `epoch`.
    ///
    /// # Errors
    /// When another one has failed, or will never be there.
    fn needs(&self, epoch: u32) -> Result<Vec<ObjectKey>, Error>;
    /// The error of the first object that failed.
    fn error(&self) -> Option<Error>;
    /// Waits until all of them are there.
    fn wait(&self) -> Result<(), Error>;
    /// Whether all values would become bytes: how many bytes, and how many values.
    fn check(&self) -> Result<(usize, usize), EncodeError>;
    /// The arguments, once all of them are there.
    fn hold(self) -> Self::Held;
    /// Appends their bytes.
    #[doc(hidden)]
    fn pack(&self, task: &str, form: Form, out: &mut Vec<u8>) -> Result<(), Error>;
    /// Reads them back.
    #[doc(hidden)]
    fn unpack(bytes: &mut &[u8]) -> Result<Self, Unreadable>;
}

macro_rules! arguments {
    ($($name:ident)*) => {
        #[allow(non_snake_case, clippy::unused_unit, reason = "one body for every length of tuple")]
        impl<$($name: Value),*> Arguments for ($(Arg<$name>,)*) {
            type Held = ($(Held<$name>,)*);

            #[allow(unused_variables, reason = "no arguments, no needs")]
            fn needs(&self, epoch: u32) -> Result<Vec<ObjectKey>, Error> {
                let ($($name,)*) = self;
                #[allow(unused_mut, reason = "no arguments, no needs")]
                let mut needs = Vec::new();
                $($name.need(epoch, &mut needs)?;)*
                Ok(needs)
            }

            fn error(&self) -> Option<Error> {
                let ($($name,)*) = self;
                None$(.or_else(|| $name.error()))*
            }

            fn wait(&self) -> Result<(), Error> {
                let ($($name,)*) = self;
                $($name.wait()?;)*
                Ok(())
            }

            fn check(&self) -> Result<(usize, usize), EncodeError> {
                let ($($name,)*) = self;
                Ok((0 $(+ $name.check()?)*, 0 $(+ usize::from($name.is_value()))*))
            }

            fn hold(self) -> Self::Held {
                let ($($name,)*) = self;
                ($($name.hold(),)*)
            }

            #[allow(unused_variables, reason = "no arguments, no bytes")]
            fn pack(&self, task: &str, form: Form, out: &mut Vec<u8>) -> Result<(), Error> {
                let ($($name,)*) = self;
                $($name.pack(task, form, out)?;)*
                Ok(())
            }

            #[allow(unused_variables, reason = "no arguments, no bytes")]
            fn unpack(bytes: &mut &[u8]) -> Result<Self, Unreadable> {
                Ok(($(Arg::<$name>::unpack(bytes)?,)*))
            }
        }
    };
}

arguments!();
arguments!(A);
arguments!(A B);
arguments!(A B C);
arguments!(A B C D);
arguments!(A B C D E);
arguments!(A B C D E F);
arguments!(A B C D E F G);
arguments!(A B C D E F G H);
arguments!(A B C D E F G H I);
arguments!(A B C D E F G H I J);
arguments!(A B C D E F G H I J K);
arguments!(A B C D E F G H I J K L);
