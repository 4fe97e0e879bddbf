//! Streams across processes: the reader's side.
//!
//! # Words
//! The *supplier* is the generator in another process, which sends items; it may send as many as it
//! was granted. The *inlet* is the stream that they come to.
//!
//! # Protocol
//! 1. The task's arguments are followed by how many items are made already, and until which one there
//!    is room.
//! 2. Items carry their number, from 0. As they are taken, the supplier is granted more: always a
//!    number of items in all, so that it does no harm to say it twice.
//! 3. A supplier that has used up its room says so, and waits. That tells the inlet whom to tell.
//! 4. Nobody wants more: the task is cancelled, and who sends an item or waits for room is told so.

use std::convert::Infallible;
use std::sync::{Arc, Weak};

use raybolt_wire::work::{self, ToWorker};

use crate::object::AnyObject;
use crate::processes::link::FRAME_MAX;
use crate::processes::node::Workers;
use crate::processes::worker::Worker;
use crate::session::Session;

/// A stream whose items come from another process.
#[doc(hidden)]
#[allow(private_interfaces, reason = "part of no API")]
pub trait Inlet: Send + Sync {
    /// An item has come; `from` makes the way back.
    fn yielded(&self, session: &Arc<Session>, item: Item<'_>, from: &dyn Fn() -> Arc<dyn Supplier>);
    /// The generator waits for room for the item of this number.
    fn stalled(&self, index: u64, from: &dyn Fn() -> Arc<dyn Supplier>);
}

/// An item on its way.
pub(crate) struct Item<'a> {
    /// From 0.
    pub(crate) index: u64,
    /// Its value.
    pub(crate) body: &'a [u8],
    /// What it refers to.
    pub(crate) keeps: Vec<Arc<dyn AnyObject>>,
    /// In a worker, the id that the driver knows it by.
    pub(crate) named: Option<u64>,
}

/// The way back to a generator.
pub(crate) trait Supplier: Send + Sync {
    /// It may send items with numbers below `until`.
    fn room(&self, until: u64);
    /// Nobody wants more items.
    fn stop(&self);
}

/// Which generator it is.
#[derive(Clone, Copy)]
pub(crate) struct Maker {
    pub(crate) task: u64,
    /// Of a call, the incarnation of the actor.
    pub(crate) attempt: u32,
    /// If it is a call.
    pub(crate) actor: Option<u64>,
}

/// A generator in a worker, for its driver.
struct AtWorker {
    worker: Weak<Worker>,
    task: u64,
    attempt: u32,
}

impl Workers {
    /// A generator in a worker has made an item.
    pub(crate) fn yielded(
        &self,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        from: Maker,
        index: u64,
        refs: &[u64],
        body: &[u8],
    ) {
        let way_back = way_back(worker, from);
        let (inlet, keeps) = match (worker.inlet(from), session.keep(refs)) {
            (Some(inlet), Ok(keeps)) => (inlet, keeps),
            _ => return way_back().stop(),
        };
        inlet.yielded(session, Item { index, body, keeps, named: None }, &way_back);
    }

    /// A generator in a worker waits for room.
    pub(crate) fn stalled(&self, worker: &Arc<Worker>, from: Maker, index: u64) {
        let way_back = way_back(worker, from);
        match worker.inlet(from) {
            Some(inlet) => inlet.stalled(index, &way_back),
            None => way_back().stop(),
        }
    }
}

fn way_back(worker: &Arc<Worker>, from: Maker) -> impl Fn() -> Arc<dyn Supplier> {
    let Maker { task, attempt, .. } = from;
    let worker = Arc::downgrade(worker);
    move || Arc::new(AtWorker { worker: worker.clone(), task, attempt })
}

impl AtWorker {
    fn say(&self, until: Option<u64>) {
        let Some(worker) = self.worker.upgrade() else { return }; // It is dead.
        let (task, attempt) = (self.task, self.attempt);
        let message = ToWorker::Room { task, attempt, until };
        let nothing = |_: &mut Vec<u8>| Ok::<_, Infallible>(());
        let said = worker.link.append(|out| work::append(out, &message, FRAME_MAX, nothing));
        debug_assert!(said.is_none_or(|said| said.is_ok()), "a few numbers fit into a frame");
        worker.link.flush();
    }
}

impl Supplier for AtWorker {
    fn room(&self, until: u64) {
        self.say(Some(until));
    }

    fn stop(&self) {
        self.say(None);
    }
}
