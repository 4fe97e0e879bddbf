//! Handles to objects, and the places where their values arrive.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use raybolt_core::calls::owner::ObjectKey;
use raybolt_wire::Value;
use serde::de::{self, Deserializer};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};
use slotmap::{Key, KeyData};

use crate::error::{Error, Kind, Result};
use crate::hub::Hub;
use crate::session::{self, Session};
use crate::slot::Slot;

/// A reference to an immutable value that is there, or will be: what a task returns at once.
///
/// Clones name the same object. When the last one goes, so does the value. A reference can be passed
/// to a task in place of the value (the task then waits for it), stored, or awaited.
pub struct ObjectRef<T>(pub(crate) Arc<Object<T>>);

/// The place where a value arrives, and this process's hold on it.
#[doc(hidden)]
pub struct Object<T> {
    pub(crate) hold: Hold,
    pub(crate) slot: Slot<Result<T>>,
}

/// This process's hold on an object of its owner; lets go when dropped.
pub(crate) struct Hold {
    /// Which session the object belongs to; 0 for none.
    epoch: u32,
    key: AtomicU64,
    /// Bytes of the value, about.
    size: AtomicUsize,
}

impl<T> ObjectRef<T> {
    /// A reference whose value will be set by a task of session `epoch`.
    pub(crate) fn pending(epoch: u32) -> Self {
        ObjectRef(Arc::new(Object { hold: Hold::new(epoch), slot: Slot::new() }))
    }

    /// A reference to a value that is there, about `bytes` long, if the hub admits it.
    pub(crate) fn stored(
        session: &Arc<Session>,
        value: T,
        bytes: usize,
        admit: impl FnOnce(&mut Hub) -> Result<()>,
    ) -> Result<Self> {
        let object = Self::pending(session.epoch);
        let first = object.0.slot.set(Ok(value)).is_ok();
        debug_assert!(first, "nobody else has the object yet");
        let key = session.act(|hub| {
            admit(hub)?;
            hub.bytes += bytes as i64;
            Ok(hub.owner.put())
        })?;
        object.0.hold.set_size(bytes);
        object.0.hold.set_key(key);
        Ok(object)
    }

    /// A reference to a value, or an error, that belongs to no session.
    pub(crate) fn settled(result: Result<T>) -> Self {
        ObjectRef(Arc::new(Object { hold: Hold::new(0), slot: Slot::ready(result) }))
    }

    /// Whether the value, or an error in its place, is there.
    pub fn is_ready(&self) -> bool {
        self.0.slot.is_set()
    }

    /// The object's id, for messages: unique within the session.
    pub fn id(&self) -> u64 {
        self.0.hold.key().data().as_ffi()
    }

    /// Its key at the owner of session `epoch`.
    ///
    /// # Errors
    /// When it belongs to another one: keys of two sessions may be equal.
    pub(crate) fn key_in(&self, epoch: u32) -> Result<ObjectKey> {
        self.0.hold.key_in(epoch).ok_or_else(|| {
            let what = format!("object {:x}", self.id());
            Error::new(Kind::SessionEnded { what })
        })
    }

    /// The error that is there in place of the value.
    pub(crate) fn error(&self) -> Option<Error> {
        self.0.slot.get().and_then(|result| result.as_ref().err()).cloned()
    }
}

impl<T> Clone for ObjectRef<T> {
    fn clone(&self) -> Self {
        ObjectRef(self.0.clone())
    }
}

impl<T> PartialEq for ObjectRef<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for ObjectRef<T> {}

impl<T> fmt::Debug for ObjectRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0.slot.get() {
            None => "pending",
            Some(Ok(_)) => "ready",
            Some(Err(_)) => "failed",
        };
        write!(f, "ObjectRef({:x}, {state})", self.id())
    }
}

/// Waits for the value without blocking a thread.
impl<T: Value> IntoFuture for ObjectRef<T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.0.slot.changed().await.clone() })
    }
}

/// Waits for the value without blocking a thread, and keeps the reference.
impl<T: Value> IntoFuture for &ObjectRef<T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        self.clone().into_future()
    }
}

/// A reference inside a value travels as its id: it is borrowed, not resolved.
impl<T> Serialize for ObjectRef<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.0.hold.epoch)?;
        tuple.serialize_element(&self.id())?;
        tuple.end()
    }
}

impl<'de, T> Deserialize<'de> for ObjectRef<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (_epoch, id) = <(u32, u64)>::deserialize(deserializer)?;
        let message = "an object reference is read back only by the workers of its session";
        Err(de::Error::custom(format_args!("{message} (object {id:x})")))
    }
}

impl Hold {
    pub(crate) fn new(epoch: u32) -> Self {
        let null = ObjectKey::null().data().as_ffi();
        Hold { epoch, key: AtomicU64::new(null), size: AtomicUsize::new(0) }
    }

    pub(crate) fn key(&self) -> ObjectKey {
        // Written once, before anyone but the submitting thread sees the object.
        KeyData::from_ffi(self.key.load(Ordering::Relaxed)).into()
    }

    /// The key, if the object belongs to session `epoch`.
    pub(crate) fn key_in(&self, epoch: u32) -> Option<ObjectKey> {
        (self.epoch == epoch).then(|| self.key())
    }

    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    pub(crate) fn set_size(&self, bytes: usize) {
        self.size.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_key(&self, key: ObjectKey) {
        self.key.store(key.data().as_ffi(), Ordering::Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.epoch != 0 && !self.key().is_null() {
            session::release(self.epoch, self.key(), *self.size.get_mut());
        }
    }
}

/// An object whose type is not known here: for cancelling and failing.
#[doc(hidden)]
pub trait AnyObject: Send + Sync {
    fn key(&self) -> ObjectKey;
    fn id(&self) -> u64 {
        self.key().data().as_ffi()
    }
    fn fail(&self, error: Error) -> bool;
}

impl<T: Send + Sync> AnyObject for Object<T> {
    fn key(&self) -> ObjectKey {
        self.hold.key()
    }

    fn fail(&self, error: Error) -> bool {
        self.slot.set(Err(error)).is_ok()
    }
}
