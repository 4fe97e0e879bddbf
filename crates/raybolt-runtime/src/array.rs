//! Large arrays that many hold and nobody copies.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::processes::layout::{self, Numbers, View};

/// An immutable array that is shared, not copied: `get` of an object that is one takes no time,
/// however long it is.
///
/// It is made from a `Vec`, whose memory it takes over, and reads like a slice.
///
/// ```
/// # use raybolt_runtime::{array::Array, call, session};
/// # fn main() -> raybolt_runtime::error::Result<()> {
/// # let _session = session::Builder::new().start()?;
/// let array: Array<f64> = vec![0.5; 1_000_000].into();
/// let object = call::put(array.clone())?;
/// let again = call::get(&object)?;
/// assert_eq!(again.as_ptr(), array.as_ptr()); // The same memory.
/// assert_eq!(again.iter().sum::<f64>(), 500_000.0);
/// # Ok(())
/// # }
/// ```
///
/// Numbers that travel to another process lie in the store of the node, where every process reads them in
/// place.
pub struct Array<T>(Elements<T>);

enum Elements<T> {
    Own(Arc<Vec<T>>),
    View(View<T>),
}

impl<T> Array<T> {
    /// The elements; copied if others hold the array too.
    pub fn into_vec(self) -> Vec<T>
    where
        T: Clone,
    {
        match self.0 {
            Elements::Own(elements) => Arc::unwrap_or_clone(elements),
            Elements::View(view) => view.numbers().to_vec(),
        }
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Array(match &self.0 {
            Elements::Own(elements) => Elements::Own(elements.clone()),
            Elements::View(view) => Elements::View(view.clone()),
        })
    }
}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Elements::Own(elements) => elements,
            Elements::View(view) => view.numbers(),
        }
    }
}

impl<T> AsRef<[T]> for Array<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> From<Vec<T>> for Array<T> {
    fn from(elements: Vec<T>) -> Self {
        Array(Elements::Own(Arc::new(elements)))
    }
}

impl<T> FromIterator<T> for Array<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Vec::from_iter(elements).into()
    }
}

impl<'a, T> IntoIterator for &'a Array<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: PartialEq> PartialEq for Array<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Array<T> {}

impl<T: fmt::Debug> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Long runs of numbers are set aside while a value travels within a session; else an array is written like
/// a `Vec`.
impl<T: Serialize + Send + Sync + 'static> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let segment = match &self.0 {
            Elements::Own(elements) => layout::set_aside(elements),
            Elements::View(view) => layout::set_view_aside(view),
        };
        match segment {
            Some(index) => Form::<&[T]>::Segment(index).serialize(serializer),
            None => Form::Elements(&**self).serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de> + Send + Sync + 'static> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::<Vec<T>>::deserialize(deserializer)? {
            Form::Elements(elements) => Ok(Self::from(elements)),
            Form::Segment(index) => match layout::found(index) {
                Some(Numbers::Own(elements)) => Ok(Self::from(elements)),
                Some(Numbers::Shared(elements)) => Ok(Array(Elements::Own(elements))),
                Some(Numbers::View(view)) => Ok(Array(Elements::View(view))),
                None => Err(de::Error::custom(format_args!("there is no segment {index}"))),
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Form<E> {
    Elements(E),
    Segment(u32),
}
