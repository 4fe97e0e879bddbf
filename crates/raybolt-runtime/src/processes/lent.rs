//! The driver's objects that workers know of.
//!
//! # Words
//! An object is *known* once its id has left this process, or came from a worker. It is *lent* while
//! workers hold references to it; the owner counts them.
//!
//! # Invariants
//! - **LENT-1 (kept).** What is lent is kept here, whatever becomes of this process's own handles.
//! - **LENT-2 (found).** A known object is found by its id until it is freed.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use raybolt_core::calls::owner::ObjectKey;
use raybolt_core::ids::ProcessId;
use slotmap::KeyData;

use crate::error::{Error, Kind, Result};
use crate::hub::Hub;
use crate::object::{AnyObject, Lazy, Object, ObjectRef};
use crate::processes::inlet::Inlet;
use crate::processes::raw::{Encoded, Raw};
use crate::session::Session;
use crate::slot::Waiter;
use raybolt_wire::Value;

/// Set in ids that workers choose; see [`upstream`](super::upstream).
const CHOSEN: u64 = 1 << 63;

/// What other processes know of.
#[derive(Default)]
pub(crate) struct Lent {
    known: HashMap<ObjectKey, Known>,
    /// The ids that workers chose.
    chosen: HashMap<u64, ObjectKey>,
}

struct Known {
    object: Weak<dyn AnyObject>,
    kept: Option<Arc<dyn AnyObject>>,
    chosen: Option<u64>,
}

impl Lent {
    /// The key of an object that another process names.
    pub(crate) fn key(&self, id: u64) -> Option<ObjectKey> {
        match id & CHOSEN {
            0 => Some(KeyData::from_ffi(id).into()),
            _ => self.chosen.get(&id).copied(),
        }
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<dyn AnyObject>> {
        let known = self.known.get(&self.key(id)?)?;
        known.kept.clone().or_else(|| known.object.upgrade())
    }

    /// The object is lent; gives back what was kept for it before.
    #[must_use = "to be dropped without the hub's lock"]
    fn keep(&mut self, object: Arc<dyn AnyObject>) -> Option<Arc<dyn AnyObject>> {
        let known = self.known(&object);
        known.kept.replace(object)
    }

    /// A worker chose this id for an object.
    pub(crate) fn name(&mut self, id: u64, object: &Arc<dyn AnyObject>) {
        self.known(object).chosen = Some(id);
        self.chosen.insert(id, object.key());
    }

    fn known(&mut self, object: &Arc<dyn AnyObject>) -> &mut Known {
        let new = || Known { object: Arc::downgrade(object), kept: None, chosen: None };
        self.known.entry(object.key()).or_insert_with(new)
    }

    /// No worker holds it any more.
    pub(crate) fn let_go(&mut self, object: ObjectKey) -> Option<Arc<dyn AnyObject>> {
        self.known.get_mut(&object)?.kept.take()
    }

    /// Whether a worker named the object, and nobody but the task that makes it knows of it any more.
    fn is_orphan(&self, object: ObjectKey) -> bool {
        self.known.get(&object).is_some_and(|known| {
            // The task keeps a place for it.
            known.chosen.is_some() && known.kept.is_none() && known.object.strong_count() <= 1
        })
    }

    /// It is freed.
    pub(crate) fn forget(&mut self, object: ObjectKey) {
        if self.known.is_empty() {
            return; // In one process.
        }
        if let Some(known) = self.known.remove(&object) {
            debug_assert!(known.kept.is_none(), "LENT-1");
            if let Some(id) = known.chosen {
                self.chosen.remove(&id);
            }
        }
    }
}

/// An object under the id that stands in bytes which nobody here reads: who gets them knows it by that.
struct Alias {
    id: u64,
    object: Arc<dyn AnyObject>,
}

/// The object, under this id.
pub(crate) fn alias(id: u64, object: Arc<dyn AnyObject>) -> Arc<dyn AnyObject> {
    if object.id() == id { object } else { Arc::new(Alias { id, object }) }
}

impl AnyObject for Alias {
    fn key(&self) -> ObjectKey {
        self.object.key()
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn fail(&self, error: Error) -> bool {
        self.object.fail(error)
    }

    fn error(&self) -> Option<Error> {
        self.object.error()
    }

    fn is_ready(&self) -> bool {
        self.object.is_ready()
    }

    fn watch(&self, waiter: Waiter) -> std::result::Result<(), Waiter> {
        self.object.watch(waiter)
    }

    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        self.object.pack(out)
    }

    fn arrived(&self, value: Result<Arc<Encoded>>) -> bool {
        self.object.arrived(value)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self.object.clone().into_any()
    }

    fn stored(&self) -> Option<Arc<Encoded>> {
        self.object.stored()
    }

    fn inlet(self: Arc<Self>) -> Option<Arc<dyn Inlet>> {
        self.object.clone().inlet()
    }
}

impl Hub {
    /// Whether the object is still to be made, and nobody will ever ask for it.
    pub(crate) fn is_orphan(&self, object: ObjectKey) -> bool {
        let unused =
            self.owner.holders(object).is_some_and(|(_, uses, borrows)| uses + borrows == 0);
        unused && self.owner.progress(object).is_some() && self.lent.is_orphan(object)
    }

    /// References to these objects go to a worker; gives back what has to be dropped.
    pub(crate) fn lend_objects(
        &mut self,
        objects: Vec<Arc<dyn AnyObject>>,
        to: ProcessId,
    ) -> Vec<Arc<dyn AnyObject>> {
        let lend = |object: Arc<dyn AnyObject>| {
            self.owner.borrowed(object.key(), to);
            self.lent.keep(object)
        };
        objects.into_iter().filter_map(lend).collect()
    }
}

impl Session {
    /// The object that another process names.
    pub(crate) fn lent(&self, id: u64) -> Result<Arc<dyn AnyObject>> {
        let found = self.lock().lent.find(id);
        found.ok_or_else(|| {
            Error::new(Kind::Invalid(format!("object {id:x} is gone: nobody held it any more")))
        })
    }

    /// References to these objects go to a worker.
    pub(crate) fn lend_objects(self: &Arc<Self>, objects: Vec<Arc<dyn AnyObject>>, to: ProcessId) {
        if !objects.is_empty() {
            let replaced = self.act(|hub| hub.lend_objects(objects, to));
            drop(replaced);
        }
    }

    /// A typed reference to an object.
    pub(crate) fn typed<T: Value>(
        self: &Arc<Self>,
        object: Arc<dyn AnyObject>,
    ) -> Result<ObjectRef<T>> {
        let other = |id: u64| {
            let name = std::any::type_name::<T>();
            Error::new(Kind::Invalid(format!("object {id:x} is no `{name}`")))
        };
        let id = object.id();
        let raw = match object.into_any().downcast::<Object<T>>() {
            Ok(typed) => return Ok(ObjectRef(typed)),
            Err(any) => any.downcast::<Object<Raw>>().map_err(|_| other(id))?,
        };
        // One more handle to the same object, which takes the value over when it is there.
        let key = raw.hold.key();
        let view = ObjectRef::<T>::pending(self.epoch);
        if !self.act(|hub| hub.owner.held_again(key)) {
            return Err(other(id));
        }
        view.0.hold.set_key(key);
        let (source, target) = (raw.clone(), Arc::downgrade(&view.0));
        let take_over = move || {
            if let (Some(target), Some(result)) = (target.upgrade(), source.slot.get()) {
                let encoded = result.as_ref().map_err(Clone::clone).map(|value| match value {
                    Lazy::Encoded(encoded) => encoded.clone(),
                    Lazy::Here(never) => match *never {},
                });
                target.arrived(encoded);
            }
        };
        let call: Arc<dyn Fn() + Send + Sync> = Arc::new(take_over);
        if let Err(Waiter::Callback { call, .. }) =
            raw.slot.watch(Waiter::Callback { key: 0, call })
        {
            call();
        }
        Ok(view)
    }
}
