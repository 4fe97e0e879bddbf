//! The objects that threads sleep for: when a session ends and user code does not return, whoever
//! waits for its result is told, instead of sleeping on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Kind};
use crate::object::AnyObject;

/// The sleepers of a session.
#[derive(Default)]
pub(crate) struct Awaited(Mutex<List>);

#[derive(Default)]
struct List {
    next: u64,
    objects: BTreeMap<u64, Arc<dyn AnyObject>>,
}

/// A thread that sleeps for an object; on the list until dropped.
pub(crate) struct Sleeper<'a>(&'a Awaited, u64);

impl Awaited {
    /// A thread is about to sleep for `object`.
    pub(crate) fn enter(&self, object: Arc<dyn AnyObject>) -> Sleeper<'_> {
        let mut list = self.lock();
        let key = list.next;
        list.next += 1;
        list.objects.insert(key, object);
        Sleeper(self, key)
    }

    /// The session has ended, and who still runs will not be heard.
    pub(crate) fn fail(&self) {
        let objects: Vec<_> = self.lock().objects.values().cloned().collect();
        for object in objects {
            let what = format!("object {:x}", object.id());
            object.fail(Error::new(Kind::SessionEnded { what }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().expect("no thread panics while it holds the list")
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let object = self.0.lock().objects.remove(&self.1);
        drop(object); // Outside the lock: its value is the user's.
    }
}
