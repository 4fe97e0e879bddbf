//! What keeps an actor alive that lives in a worker: all handles to it are references to one object.
//!
//! Other processes borrow that object like any other, inside values too; when its last reference goes, wherever
//! that was, the actor ends after the calls it has.

use std::any::Any;
use std::sync::Arc;

use raybolt_core::calls::owner::ObjectKey;

use crate::object::{AnyObject, Hold};
use crate::processes::remote_actor::Remote;

/// All handles of this process, and what holds the actor for others.
pub(crate) struct Life {
    pub(crate) remote: Arc<Remote>,
    hold: Hold,
}

impl Life {
    pub(crate) fn new(remote: Arc<Remote>, epoch: u32, key: ObjectKey) -> Self {
        let hold = Hold::new(epoch);
        hold.set_key(key);
        Life { remote, hold }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.remote.last_handle_gone();
    }
}

impl AnyObject for Life {
    fn key(&self) -> ObjectKey {
        self.hold.key()
    }

    fn id(&self) -> u64 {
        self.hold.id()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
