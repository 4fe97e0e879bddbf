//! Handles to objects, and the places where their values arrive.

use std::any::Any;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::ObjectKey;
use raybolt_wire::Value;
use serde::de::{self, Deserializer};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};
use slotmap::{Key, KeyData};

use crate::awaited::{Awaiting, Listed, What};
use crate::error::{Error, Kind, Result};
use crate::hub::Hub;
use crate::ids::Id;
use crate::processes::inlet::Inlet;
use crate::processes::parcel;
use crate::processes::raw::{Encoded, unpackable};
use crate::session::{self, Session};
use crate::slot::{Slot, Waiter};

/// A reference to an immutable value that is there, or will be: what a task returns at once.
///
/// Clones name the same object. When the last one goes, so does the value. A reference can be passed
/// to a task in place of the value (the task then waits for it), stored, or awaited.
pub struct ObjectRef<T>(pub(crate) Arc<Object<T>>);

/// The place where a value arrives, and this process's hold on it.
#[doc(hidden)]
pub struct Object<T> {
    pub(crate) hold: Hold,
    pub(crate) slot: Slot<Result<Lazy<T>>>,
}

/// A value that is there.
pub(crate) enum Lazy<T> {
    /// As itself.
    Here(T),
    /// As bytes that nobody in this process has read: it came from another one, or lies in the store.
    Encoded(Arc<Encoded>),
}

impl<T: Value> Lazy<T> {
    /// The value: a copy, or what the bytes say; nothing if it has to be asked for again.
    pub(crate) fn read(result: &Result<Self>) -> Option<Result<T>> {
        Self::read_until(result, None)
    }

    /// The same; what was lost and is made again has to be there before a deadline, so long after the call.
    pub(crate) fn read_until(
        result: &Result<Self>,
        deadline: Option<(Instant, Duration)>,
    ) -> Option<Result<T>> {
        match result {
            Ok(Lazy::Here(value)) => Some(Ok(value.clone())),
            Ok(Lazy::Encoded(encoded)) => encoded.decode_until(deadline),
            Err(error) => Some(Err(error.clone())),
        }
    }

    /// The same of what has just come, or lies in this process: that is there.
    pub(crate) fn read_first(result: &Result<Self>) -> Result<T> {
        Self::read(result).unwrap_or_else(|| Err(let_go()))
    }
}

/// Of no value that can be asked for.
fn let_go() -> Error {
    Error::new(Kind::Invalid("the value is not in this process any more".into()))
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
        let first = object.0.slot.set(Ok(Lazy::Here(value))).is_ok();
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

    /// A reference to a value that is there as bytes.
    pub(crate) fn encoded(session: &Arc<Session>, encoded: Arc<Encoded>) -> Self {
        let object = Self::pending(session.epoch);
        object.0.hold.set_size(encoded.bytes());
        let bytes = encoded.bytes() as i64;
        let stored = encoded.is_large().then(|| encoded.clone());
        let first = object.0.slot.set(Ok(Lazy::Encoded(encoded))).is_ok();
        debug_assert!(first, "nobody else has the object yet");
        let key = session.act(|hub| {
            hub.bytes += bytes;
            hub.copies += 1;
            hub.owner.put()
        });
        object.0.hold.set_key(key);
        if let Some(stored) = stored {
            stored.named(object.id());
        }
        object
    }

    /// A reference to a value that this worker has, under the id by which its driver knows it.
    pub(crate) fn here(epoch: u32, id: u64, value: T) -> Self {
        let slot = Slot::ready(Ok(Lazy::Here(value)));
        let object = ObjectRef(Arc::new(Object { hold: Hold::new(epoch), slot }));
        object.0.hold.set_id(id);
        object
    }

    /// A reference to a value, or an error, that belongs to no session.
    pub(crate) fn settled(result: Result<T>) -> Self {
        let slot = Slot::ready(result.map(Lazy::Here));
        ObjectRef(Arc::new(Object { hold: Hold::new(0), slot }))
    }

    /// Whether the value, or an error in its place, is there.
    pub fn is_ready(&self) -> bool {
        self.0.slot.is_set()
    }

    /// The object's id, for messages: unique within the session.
    pub fn id(&self) -> u64 {
        self.0.hold.id()
    }

    /// Its key at the owner of session `epoch`.
    ///
    /// # Errors
    /// When it belongs to another one: keys of two sessions may be equal.
    pub(crate) fn key_in(&self, epoch: u32) -> Result<ObjectKey> {
        self.0.hold.key_in(epoch).ok_or_else(|| {
            let what = self.to_string();
            Error::new(Kind::SessionEnded { what })
        })
    }

    /// The value, or an error: without a copy if nobody else can reach it. Gives the reference back if
    /// neither is there, or it has to be asked for again.
    pub(crate) fn take(self) -> std::result::Result<Result<T>, Self>
    where
        T: Value,
    {
        self.take_until(None)
    }

    /// The same; what was lost and is made again has to be there before a deadline, so long after the call.
    pub(crate) fn take_until(
        self,
        deadline: Option<(Instant, Duration)>,
    ) -> std::result::Result<Result<T>, Self>
    where
        T: Value,
    {
        let has_value = |object: &Object<T>| matches!(object.slot.get(), Some(Ok(Lazy::Here(_))));
        match Arc::try_unwrap(self.0) {
            Ok(object) if has_value(&object) => match object.slot.into_inner() {
                Some(Ok(Lazy::Here(value))) => Ok(Ok(value)),
                _ => unreachable!("looked at a line ago"),
            },
            Ok(object) => ObjectRef(Arc::new(object)).read(deadline),
            Err(shared) => ObjectRef(shared).read(deadline),
        }
    }

    fn read(self, deadline: Option<(Instant, Duration)>) -> std::result::Result<Result<T>, Self>
    where
        T: Value,
    {
        let read = |result| Lazy::read_until(result, deadline);
        self.0.slot.get().and_then(read).ok_or(self)
    }

    /// Another handle to the same object, to which its value comes once more.
    pub(crate) fn afresh(&self) -> Result<Self>
    where
        T: Value,
    {
        session::reference(self.id())
    }

    /// The error that is there in place of the value.
    pub(crate) fn error(&self) -> Option<Error> {
        self.0.error_there()
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
        write!(f, "ObjectRef({self}, {state})")
    }
}

/// The object's id as messages and the command line have it: `object-1f`.
impl<T> fmt::Display for ObjectRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Id::object(self.id()).fmt(f)
    }
}

/// Waits for the value without blocking a thread.
impl<T: Value> IntoFuture for ObjectRef<T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            session::want(&*self.0);
            let what = What::Object(self.id());
            let result = Awaiting::new(what.clone(), self.0.slot.changed()).await;
            if let Some(value) = Lazy::read(result) {
                return value;
            }
            loop {
                let again = self.afresh()?;
                // On the list before it can come: what nobody waits for is let go of.
                let _listed = Listed::future(what.clone());
                session::want(&*again.0);
                if let Some(value) = Lazy::read(again.0.slot.changed().await) {
                    return value;
                }
            }
        })
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

/// A reference inside a value travels as its id: it is borrowed, not resolved. One that belongs to no
/// session travels with what it has.
impl<T: Value> Serialize for ObjectRef<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let own = if self.0.hold.epoch == 0 { self.0.slot.get() } else { None };
        let own = own.map(Lazy::read_first);
        if self.0.hold.epoch != 0 {
            parcel::note(|| self.0.clone());
        }
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.id())?;
        tuple.serialize_element(&own)?;
        tuple.end()
    }
}

impl<'de, T: Value> Deserialize<'de> for ObjectRef<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (id, own) = <(u64, Option<Result<T>>)>::deserialize(deserializer)?;
        if let Some(own) = own {
            return Ok(ObjectRef::settled(own));
        }
        if !parcel::is_open() {
            let message = "an object reference is read back only by the processes of its session";
            return Err(de::Error::custom(format_args!("{message} (object {id:x})")));
        }
        session::reference(id).map_err(de::Error::custom)
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

    /// The number that other processes know it by.
    pub(crate) fn id(&self) -> u64 {
        self.key.load(Ordering::Relaxed)
    }

    pub(crate) fn is_of_session(&self) -> bool {
        self.epoch != 0
    }

    /// A worker names the object; see [`upstream`](crate::processes::upstream).
    pub(crate) fn set_id(&self, id: u64) {
        self.key.store(id, Ordering::Relaxed);
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
            session::release(self.epoch, self.id(), *self.size.get_mut());
        }
    }
}

/// An object whose type is not known here. By default it has no value and is there at once: a handle to an
/// actor is lent and counted like a reference.
#[doc(hidden)]
pub trait AnyObject: Send + Sync {
    fn key(&self) -> ObjectKey;
    /// The number that other processes know it by.
    fn id(&self) -> u64;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// Puts an error in place of the value; false if either is there already.
    fn fail(&self, _error: Error) -> bool {
        false
    }
    /// The error that is there in place of the value.
    fn error(&self) -> Option<Error> {
        None
    }
    fn is_ready(&self) -> bool {
        true
    }
    /// Whether it is ready, and its value need not be asked for again.
    fn has_value(&self) -> bool {
        self.is_ready()
    }
    /// How many bytes the value has, about; none if that is not known.
    fn bytes(&self) -> Option<usize> {
        None
    }
    /// Tells `waiter` when the value or an error is there; gives it back if one is.
    fn watch(&self, waiter: Waiter) -> std::result::Result<(), Waiter> {
        Err(waiter)
    }
    /// Appends the value, which is there, for another process.
    fn pack(&self, _out: &mut Vec<u8>) -> Result<()> {
        Err(Error::new(Kind::Invalid("an actor is no value".into())))
    }
    /// The value, or its error, has come from another process; false if one is there already.
    fn arrived(&self, _value: Result<Arc<Encoded>>) -> bool {
        false
    }
    /// Gives the value, or its error, to another handle to the same object; false if none is there.
    fn share(&self, _other: Arc<dyn AnyObject>) -> bool {
        false
    }
    /// The value, if it lies in the store that this process has, and refers to nothing.
    fn stored(&self) -> Option<Arc<Encoded>> {
        None
    }
    /// Where items go, if it is a stream.
    fn inlet(self: Arc<Self>) -> Option<Arc<dyn Inlet>> {
        None
    }
}

/// What lies in an object: a value, or bytes that only others know the type of.
pub(crate) trait Stored: Send + Sync + Sized + 'static {
    fn pack(&self, out: &mut Vec<u8>) -> Result<()>;
    fn decode(encoded: &Arc<Encoded>) -> Result<Lazy<Self>>;
    /// The same once more.
    fn again(value: &Lazy<Self>) -> Lazy<Self>;
}

impl<T: Value> Stored for T {
    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        parcel::put(self, out).map_err(|error| unpackable("an object", &error))
    }

    fn decode(encoded: &Arc<Encoded>) -> Result<Lazy<T>> {
        // Read by those who want it, if they do; but references are made once, not at every `get`.
        if encoded.is_large() && !encoded.has_refs() {
            return Ok(Lazy::Encoded(encoded.clone()));
        }
        encoded.decode().unwrap_or_else(|| Err(let_go())).map(Lazy::Here)
    }

    fn again(value: &Lazy<T>) -> Lazy<T> {
        match value {
            Lazy::Here(value) => Lazy::Here(value.clone()),
            Lazy::Encoded(encoded) => Lazy::Encoded(encoded.clone()),
        }
    }
}

impl<T> Object<T> {
    fn error_there(&self) -> Option<Error> {
        match self.slot.get()? {
            Ok(Lazy::Here(_)) => None,
            Ok(Lazy::Encoded(encoded)) => encoded.lost(),
            Err(error) => Some(error.clone()),
        }
    }
}

impl<T: Stored> AnyObject for Object<T> {
    fn key(&self) -> ObjectKey {
        self.hold.key()
    }

    fn id(&self) -> u64 {
        self.hold.id()
    }

    fn fail(&self, error: Error) -> bool {
        self.slot.set(Err(error)).is_ok()
    }

    fn error(&self) -> Option<Error> {
        self.error_there()
    }

    fn stored(&self) -> Option<Arc<Encoded>> {
        match self.slot.get()? {
            Ok(Lazy::Encoded(encoded)) if encoded.place().is_some() && !encoded.has_refs() => {
                Some(encoded.clone())
            }
            _ => None,
        }
    }

    fn is_ready(&self) -> bool {
        self.slot.is_set()
    }

    fn has_value(&self) -> bool {
        match self.slot.get() {
            Some(Ok(Lazy::Encoded(encoded))) => encoded.is_here(),
            Some(_) => true,
            None => false,
        }
    }

    fn bytes(&self) -> Option<usize> {
        self.slot.is_set().then(|| self.hold.size())
    }

    fn watch(&self, waiter: Waiter) -> std::result::Result<(), Waiter> {
        self.slot.watch(waiter)
    }

    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        match self.slot.get() {
            Some(Ok(Lazy::Here(value))) => value.pack(out),
            Some(Ok(Lazy::Encoded(encoded))) => {
                encoded.put(out).map_err(|error| unpackable("an object", &error))
            }
            Some(Err(error)) => Err(error.clone()),
            None => unreachable!("only what is there is packed"),
        }
    }

    fn arrived(&self, value: Result<Arc<Encoded>>) -> bool {
        !self.slot.is_set() && self.slot.set(value.and_then(|value| T::decode(&value))).is_ok()
    }

    fn share(&self, other: Arc<dyn AnyObject>) -> bool {
        let Ok(other) = other.into_any().downcast::<Self>() else { return false };
        let Some(result) = self.slot.get() else { return false };
        // It may have come there meanwhile.
        drop(other.slot.set(result.as_ref().map(T::again).map_err(Clone::clone)));
        true
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
