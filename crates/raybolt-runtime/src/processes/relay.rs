//! Streams that code in a worker reads: the driver passes the items on.
//!
//! # Words
//! The generator runs in one worker, and another (or the same) *reads*: it has submitted the task. A
//! *relay* stands between them. What the reader has room for, the generator is granted; an item is kept only if it
//! has to wait for the store, on a thread of the pool and not on the one that reads the links, and then all that
//! come after it are kept too.
//!
//! # Invariants
//! - **RELAY-1 (owned).** Each item is an object of the driver, lent to the reader, before it is sent
//!   there.
//! - **RELAY-2 (the end comes last).** The reader hears of the end as of the value of the object that
//!   stands for the stream: after all items, also those that wait for the store. A cancellation or a deadline
//!   does not wait for them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use raybolt_core::calls::streams::{Late, Passage, Stalled, Yielded};
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{self, NotAppended, ToDriver, ToWorker};

use crate::error::{Error, Kind, Result};
use crate::object::{AnyObject, Object};
use crate::pool::Runnable;
use crate::processes::inlet::{Inlet, Item, Supplier};
use crate::processes::link::FRAME_MAX;
use crate::processes::node::Workers;
use crate::processes::parcel;
use crate::processes::raw::{Encoded, Raw};
use crate::processes::serve::Serving;
use crate::processes::shelf;
use crate::processes::worker::Worker;
use crate::session::{Place, Session};

/// The relays of a driver, by the id that the reader gave the stream.
#[derive(Default)]
pub(crate) struct Relays(Mutex<HashMap<u64, Weak<Relay>>>);

pub(crate) struct Relay {
    me: Weak<Relay>,
    id: u64,
    /// Stands for the stream: it is set when nobody wants more, or there is no more.
    stream: Weak<Object<Raw>>,
    workers: Weak<Workers>,
    reader: Weak<Worker>,
    state: Mutex<State>,
}

struct State {
    flow: Passage<Arc<dyn Supplier>, Passed>,
    /// How the generator ended, as long as the reader is not told.
    end: Option<Result<()>>,
}

/// An item on its way through, and its number.
type Passed = (u64, Arc<dyn AnyObject>);

/// Items that have to wait for the store.
struct LateItems {
    session: Arc<Session>,
    relay: Arc<Relay>,
}

/// The way back to the driver, for a stream that is read in this worker.
pub(crate) struct AtDriver {
    pub(crate) serving: Arc<Serving>,
    pub(crate) stream: u64,
}

impl Relays {
    /// A reader has room for more.
    pub(crate) fn room(&self, stream: u64, until: u64) {
        let found = self.lock().get(&stream).and_then(Weak::upgrade); // The lock ends here.
        if let Some(relay) = found {
            relay.room(until);
        }
    }

    /// A worker is dead: it reads no more.
    pub(crate) fn lost(&self, process: ProcessId) {
        let all: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        for relay in all {
            if relay.reader.upgrade().is_none_or(|reader| reader.process == process) {
                relay.stop();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<Relay>>> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

impl Relay {
    /// A relay for a stream that `reader` calls `id`, and of which `stream` stands for the end.
    pub(crate) fn new(
        workers: &Arc<Workers>,
        reader: &Arc<Worker>,
        id: u64,
        stream: &Arc<Object<Raw>>,
        until: u64,
    ) -> Arc<Self> {
        let relay = Arc::new_cyclic(|me| Relay {
            me: me.clone(),
            id,
            stream: Arc::downgrade(stream),
            workers: Arc::downgrade(workers),
            reader: Arc::downgrade(reader),
            state: Mutex::new(State { flow: Passage::new(until), end: None }),
        });
        workers.relays.lock().insert(id, Arc::downgrade(&relay));
        relay
    }

    /// What is made already, and until which item there is room, for a worker that is about to run the
    /// generator.
    pub(crate) fn announced(&self) -> (u64, u64) {
        self.state().flow.announced()
    }

    /// The generator has ended: the reader hears of that after all items.
    pub(crate) fn over(&self, result: Result<()>) {
        let is_told_now = {
            let mut state = self.state();
            let is_told_now = state.flow.ended();
            if !is_told_now {
                state.end = Some(result.clone());
            }
            is_told_now
        };
        if is_told_now {
            self.tell_end(result);
        }
    }

    fn tell_end(&self, result: Result<()>) {
        if let Some(stream) = self.stream.upgrade() {
            match result {
                Ok(()) => stream.arrived(Ok(Encoded::nothing())),
                Err(error) => stream.fail(error),
            };
        }
    }

    fn room(&self, until: u64) {
        let told = self.state().flow.room(until); // The lock ends here.
        if let Some((supplier, until)) = told {
            supplier.room(until);
        }
    }

    fn stop(&self) {
        let supplier = self.state().flow.supplier().cloned(); // The lock ends here.
        if let Some(supplier) = supplier {
            supplier.stop();
        }
    }

    /// Whoever reads, as long as the stream is wanted.
    fn reader(&self) -> Option<Arc<Worker>> {
        let is_wanted = self.stream.upgrade().is_some_and(|stream| !stream.is_ready());
        self.reader.upgrade().filter(|reader| is_wanted && !reader.is_lost())
    }

    /// Sends an item that is at the head of the line; it waits elsewhere if it has to.
    fn send(&self, session: &Arc<Session>, reader: &Worker, item: Passed) {
        let Err(error) = self.pass_on(session, reader, &item, false) else { return };
        if !matches!(error.kind(), Kind::WouldWait) {
            return self.tell_end(Err(error));
        }
        let is_needed = self.state().flow.waits(item); // The lock ends here.
        if let (true, Some(relay)) = (is_needed, self.me.upgrade()) {
            session.pool.schedule(Arc::new(LateItems { session: session.clone(), relay }));
        }
    }

    fn pass_on(
        &self,
        session: &Arc<Session>,
        reader: &Worker,
        (index, object): &Passed,
        may_wait: bool,
    ) -> Result<()> {
        let refused = |because: String| {
            Error::new(Kind::Encode { task: "an item of a stream".into(), because })
        };
        let message = ToWorker::Item { stream: self.id, index: *index, object: object.id() };
        let mut frame = Vec::new();
        let (appended, mut needs) = parcel::packing(|| {
            let pack = |out: &mut Vec<u8>| match may_wait {
                true => object.pack(out),
                false => shelf::without_waiting(|| object.pack(out)), // SHELF-2
            };
            work::append(&mut frame, &message, FRAME_MAX, pack)
        });
        appended.map_err(|error| match error {
            NotAppended::Body(error) => error,
            NotAppended::TooLong(too_long) => refused(too_long.to_string()),
        })?;
        needs.refs.push(object.clone()); // RELAY-1
        needs.announce(0, &mut frame);
        if let Place::Workers(node) = &session.place {
            node.workers.send_parcel(session, reader, &frame, needs);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds a relay")
    }
}

#[allow(private_interfaces, reason = "part of no API")]
impl Inlet for Relay {
    fn yielded(
        &self,
        session: &Arc<Session>,
        item: Item<'_>,
        from: &dyn Fn() -> Arc<dyn Supplier>,
    ) {
        let Some(reader) = self.reader() else { return from().stop() };
        let index = item.index;
        let heard = self.state().flow.yielded(index, from); // The lock ends here.
        let Yielded::Next(news) = heard else {
            return; // STREAM-2: an earlier attempt has made it.
        };
        if let Some((supplier, until)) = news {
            supplier.room(until);
        }
        let object = match session.store_raw(item.body, item.keeps) {
            Ok(object) => object,
            Err(error) => return self.tell_end(Err(error)),
        };
        let passed = self.state().flow.passes((index, object)); // The lock ends here.
        if let Some(item) = passed {
            self.send(session, &reader, item);
        }
    }

    fn stalled(&self, index: u64, from: &dyn Fn() -> Arc<dyn Supplier>) {
        let supplier = from();
        let said = self.state().flow.stalled(index, supplier.clone()); // The lock ends here.
        match said {
            _ if self.reader().is_none() => supplier.stop(),
            Stalled::Unwanted => supplier.stop(),
            Stalled::Room(until) => supplier.room(until),
            Stalled::Later => {}
        }
    }
}

impl Runnable for LateItems {
    fn run(self: Arc<Self>) {
        let LateItems { session, relay } = &*self;
        loop {
            let next = relay.state().flow.next_late(); // The lock ends here.
            match next {
                Late::Item(item) => {
                    // Without a reader it is dropped.
                    let sent = relay.reader().map(|it| relay.pass_on(session, &it, &item, true));
                    if let Some(Err(error)) = sent {
                        relay.tell_end(Err(error));
                    }
                }
                Late::End => {
                    let end = relay.state().end.take(); // The lock ends here.
                    return end.into_iter().for_each(|end| relay.tell_end(end));
                }
                Late::Nothing => return,
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.upgrade() {
            workers.relays.lock().remove(&self.id);
        }
    }
}

impl AtDriver {
    fn say(&self, message: &ToDriver) {
        let nothing = |_: &mut Vec<u8>| Ok::<_, Infallible>(());
        let said = self.serving.link.append(|out| work::append(out, message, FRAME_MAX, nothing));
        debug_assert!(said.is_none_or(|said| said.is_ok()), "a few numbers fit into a frame");
        self.serving.link.flush();
    }
}

impl Supplier for AtDriver {
    fn room(&self, until: u64) {
        self.say(&ToDriver::Taken { stream: self.stream, until });
    }

    fn stop(&self) {
        self.say(&ToDriver::CancelObject { object: self.stream });
    }
}
