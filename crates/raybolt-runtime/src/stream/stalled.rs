//! Generators that wait for room in their stream, for a session that ends.

use std::sync::{Arc, Mutex, MutexGuard};

use raybolt_core::calls::owner::ObjectKey;

use crate::error::{Error, Kind};
use crate::object::AnyObject;

/// Generators that wait for room in their stream, for a session that ends.
#[derive(Default)]
pub(crate) struct Stalled(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    channels: Vec<Arc<dyn AnyObject>>,
    ended: bool,
}

/// One of them, until it goes on.
pub(super) struct Entered<'a> {
    stalled: &'a Stalled,
    key: ObjectKey,
}

impl Stalled {
    pub(super) fn enter(&self, channel: Arc<dyn AnyObject>) -> Entered<'_> {
        let key = channel.key();
        let mut waiting = self.lock();
        if waiting.ended {
            drop(waiting);
            ended(&*channel);
        } else {
            waiting.channels.push(channel);
        }
        Entered { stalled: self, key }
    }

    /// Nobody waits from now on.
    pub(crate) fn end(&self) {
        let channels = {
            let mut waiting = self.lock();
            waiting.ended = true;
            std::mem::take(&mut waiting.channels)
        };
        for channel in channels {
            ended(&*channel);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

/// The session of a stream is over.
pub(super) fn ended(channel: &dyn AnyObject) {
    let what = "the rest of a stream".to_owned();
    channel.fail(Error::new(Kind::SessionEnded { what }));
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.stalled.lock().channels.retain(|channel| channel.key() != self.key);
    }
}
