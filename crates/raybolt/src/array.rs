//! Large arrays that many hold and nobody copies.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An immutable array that is shared, not copied: `get` of an object that is one takes no time,
/// however long it is.
///
/// It is made from a `Vec`, whose memory it takes over, and reads like a slice.
///
/// ```
/// use raybolt::Array;
///
/// # fn main() -> raybolt::Result<()> {
/// let _session = raybolt::init()?;
/// let array: Array<f64> = vec![0.5; 1_000_000].into();
/// let object = raybolt::put(array.clone())?;
/// let again = raybolt::get(&object)?;
/// assert_eq!(again.as_ptr(), array.as_ptr()); // The same memory.
/// assert_eq!(again.iter().sum::<f64>(), 500_000.0);
/// # Ok(())
/// # }
/// ```
pub struct Array<T>(Arc<Vec<T>>);

impl<T> Array<T> {
    /// The elements; copied if others hold the array too.
    pub fn into_vec(self) -> Vec<T>
    where
        T: Clone,
    {
        Arc::unwrap_or_clone(self.0)
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Array(self.0.clone())
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
        &self.0
    }
}

impl<T> AsRef<[T]> for Array<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> From<Vec<T>> for Array<T> {
    fn from(elements: Vec<T>) -> Self {
        Array(Arc::new(elements))
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

impl<T: Serialize> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}
