//! An object, read where it lies.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::sync::{Arc, Weak};

use bytemuck::{AnyBitPattern, PodCastError};
use raybolt_core::calls::objects::Region;

use crate::map::Map;

/// Bytes of an object, or of a part of one, that lie in the arena. Clones share them; the object stays
/// where it is until the last is dropped.
#[derive(Clone)]
pub struct Mapped {
    pin: Arc<Pin>,
    region: Region,
}

/// The same as long as somebody else keeps the object where it is.
#[derive(Clone)]
pub struct WeakMapped {
    pin: Weak<Pin>,
    region: Region,
}

struct Pin {
    map: Arc<Map>,
    unpin: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Mapped {
    /// `region` has to lie inside the map.
    pub(crate) fn new(
        map: Arc<Map>,
        region: Region,
        unpin: Box<dyn FnOnce() + Send + Sync>,
    ) -> Self {
        Mapped { pin: Arc::new(Pin { map, unpin: Some(unpin) }), region }
    }

    /// The bytes as numbers, or as anything made of them.
    ///
    /// # Errors
    /// When the bytes do not begin where a `T` may begin, or are no whole number of them. An object's
    /// first byte lies at a multiple of [`ALIGN`](crate::ALIGN).
    pub fn as_slice_of<T: AnyBitPattern>(&self) -> Result<&[T], PodCastError> {
        bytemuck::try_cast_slice(self)
    }

    /// A part of the bytes, which keeps the object where it is by itself; `None` if it is not inside.
    pub fn slice(&self, part: impl RangeBounds<u64>) -> Option<Mapped> {
        let start = match part.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.checked_add(1)?,
            Bound::Unbounded => 0,
        };
        let end = match part.end_bound() {
            Bound::Included(last) => last.checked_add(1)?,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.region.bytes,
        };
        let bytes = end.checked_sub(start).filter(|_| end <= self.region.bytes)?;
        let region = Region { offset: self.region.offset + start, bytes };
        Some(Mapped { pin: self.pin.clone(), region })
    }

    /// The same bytes, without keeping them.
    pub fn downgrade(&self) -> WeakMapped {
        WeakMapped { pin: Arc::downgrade(&self.pin), region: self.region }
    }

    /// Where in the arena the bytes lie.
    pub fn region(&self) -> Region {
        self.region
    }
}

impl WeakMapped {
    /// The bytes, if somebody has kept the object where it is.
    pub fn upgrade(&self) -> Option<Mapped> {
        let pin = self.pin.upgrade()?;
        Some(Mapped { pin, region: self.region })
    }
}

impl fmt::Debug for WeakMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakMapped").field(&self.region).finish()
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.pin.map.read(self.region).expect("it was inside when it was made")
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mapped").field(&self.region).finish()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(unpin) = self.unpin.take() {
            unpin();
        }
    }
}
