//! Streams that code in a worker reads: the driver passes the items on.
//!
//! # Words
//! The generator runs in one worker, and another (or the same) *reads*: it has submitted the task. A
//! *relay* stands between them. It keeps no item: what the reader has room for, the generator is granted.
//!
//! # Invariants
//! - **RELAY-1 (owned).** Each item is an object of the driver, lent to the reader, before it is sent
//!   there.
//! - **RELAY-2 (the end comes last).** The reader hears of the end as of the value of the object that
//!   stands for the stream: after all items.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{self, NotAppended, ToDriver, ToWorker};

use crate::error::{Error, Kind, Result};
use crate::object::{AnyObject, Object};
use crate::processes::inlet::{Inlet, Item, Supplier};
use crate::processes::link::FRAME_MAX;
use crate::processes::node::Workers;
use crate::processes::parcel;
use crate::processes::raw::Raw;
use crate::processes::serve::Serving;
use crate::processes::worker::Worker;
use crate::session::{Place, Session};

/// The relays of a driver, by the id that the reader gave the stream.
#[derive(Default)]
pub(crate) struct Relays(Mutex<HashMap<u64, Weak<Relay>>>);

pub(crate) struct Relay {
    id: u64,
    /// Stands for the stream: it is set when nobody wants more, or there is no more.
    stream: Weak<Object<Raw>>,
    workers: Weak<Workers>,
    reader: Weak<Worker>,
    state: Mutex<State>,
}

struct State {
    made: u64,
    /// How many items in all the reader has room for.
    until: u64,
    supplier: Option<Arc<dyn Supplier>>,
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
        let relay = Arc::new(Relay {
            id,
            stream: Arc::downgrade(stream),
            workers: Arc::downgrade(workers),
            reader: Arc::downgrade(reader),
            state: Mutex::new(State { made: 0, until, supplier: None }),
        });
        workers.relays.lock().insert(id, Arc::downgrade(&relay));
        relay
    }

    /// What is made already, and until which item there is room, for a worker that is about to run the
    /// generator.
    pub(crate) fn announced(&self) -> (u64, u64) {
        let mut state = self.state();
        state.supplier = None; // That of an earlier attempt.
        (state.made, state.until)
    }

    fn room(&self, until: u64) {
        let supplier = {
            let mut state = self.state();
            state.until = state.until.max(until);
            state.supplier.clone()
        };
        if let Some(supplier) = supplier {
            supplier.room(until);
        }
    }

    fn stop(&self) {
        let supplier = self.state().supplier.clone();
        if let Some(supplier) = supplier {
            supplier.stop();
        }
    }

    /// Whoever reads, as long as the stream is wanted.
    fn reader(&self) -> Option<Arc<Worker>> {
        let is_wanted = self.stream.upgrade().is_some_and(|stream| !stream.is_ready());
        self.reader.upgrade().filter(|reader| is_wanted && !reader.is_lost())
    }

    fn pass_on(&self, session: &Arc<Session>, reader: &Worker, item: Item<'_>) -> Result<()> {
        let refused = |because: String| {
            Error::new(Kind::Encode { task: "an item of a stream".into(), because })
        };
        let object = session.store_raw(item.body, item.keeps)?;
        let message = ToWorker::Item { stream: self.id, index: item.index, object: object.id() };
        let mut frame = Vec::new();
        let (appended, mut needs) = parcel::packing(|| {
            work::append(&mut frame, &message, FRAME_MAX, |out| object.pack(out))
        });
        appended.map_err(|error| match error {
            NotAppended::Body(error) => error,
            NotAppended::TooLong(too_long) => refused(too_long.to_string()),
        })?;
        needs.refs.push(object); // RELAY-1
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
        let news = {
            let mut state = self.state();
            if item.index != state.made {
                return; // STREAM-2: an earlier attempt has made it.
            }
            state.made += 1;
            let is_new = state.supplier.is_none();
            let supplier = state.supplier.get_or_insert_with(from).clone();
            is_new.then_some((supplier, state.until))
        };
        if let Some((supplier, until)) = news {
            supplier.room(until); // The reader may have taken some meanwhile.
        }
        if let (Err(error), Some(stream)) =
            (self.pass_on(session, &reader, item), self.stream.upgrade())
        {
            stream.fail(error);
        }
    }

    fn stalled(&self, index: u64, from: &dyn Fn() -> Arc<dyn Supplier>) {
        let supplier = from();
        let until = {
            let mut state = self.state();
            state.supplier = Some(supplier.clone());
            state.until
        };
        if self.reader().is_none() {
            supplier.stop();
        } else if until > index {
            supplier.room(until);
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
