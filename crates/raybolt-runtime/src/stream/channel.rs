//! What lies between a generator and its stream.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::task::Waker;
use std::time::Instant;

use raybolt_core::calls::owner::ObjectKey;
use raybolt_core::calls::streams::{Inflow, Stalled, Yielded};
use raybolt_wire::Value;

use crate::error::{Error, Kind, Result};
use crate::object::{AnyObject, Hold, ObjectRef};
use crate::processes::inlet::{Inlet, Item, Supplier};
use crate::processes::leader::{Leader, Party, Source};
use crate::processes::outlet::Outlet;
use crate::processes::parcel;
use crate::processes::raw::Encoded;
use crate::session::{Place, Session};
use crate::slot::Waiter;

use super::STREAM_BUFFER;

/// An item, or why there are no more; nothing at the end.
type Taken<T> = Option<Result<ObjectRef<T>>>;

/// A generator that has room for more items, and until which.
type Grant = (Arc<dyn Supplier>, u64);

/// What lies between a generator and its stream.
#[doc(hidden)]
pub struct Channel<T> {
    /// Stands for the generator's task: it can be cancelled by this key.
    pub(super) hold: Hold,
    state: Mutex<State<T>>,
    /// Something that a thread may wait for has happened.
    changed: Condvar,
    /// Where the generator runs in a worker, its items go there instead.
    pub(super) outlet: OnceLock<Arc<Outlet>>,
}

pub(super) struct State<T> {
    /// As many as the machine believes.
    items: VecDeque<ObjectRef<T>>,
    /// What is made, taken and granted.
    flow: Inflow<Arc<dyn Supplier>>,
    /// How the generator ended.
    end: Option<Result<()>>,
    /// How many threads wait.
    waiting: usize,
    reader: Option<Waker>,
    /// Tells a thread that waits as it reads the links: over processes only the reader waits here.
    nudge: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl<T> Channel<T> {
    pub(super) fn new(epoch: u32, end: Option<Result<()>>) -> Self {
        let mut flow = Inflow::new(STREAM_BUFFER as u64);
        if end.is_some() {
            flow.ended();
        }
        Channel {
            hold: Hold::new(epoch),
            state: Mutex::new(State {
                items: VecDeque::new(),
                flow,
                end,
                waiting: 0,
                reader: None,
                nudge: None,
            }),
            changed: Condvar::new(),
            outlet: OnceLock::new(),
        }
    }

    /// Takes the next item, or that there is none any more; else leaves `reader` to be woken.
    pub(super) fn take(&self, reader: Option<&Waker>) -> Option<Taken<T>> {
        let mut state = self.lock();
        let Some((taken, grant)) = state.take() else {
            if let Some(reader) = reader {
                state.reader = Some(reader.clone());
            }
            return None;
        };
        if state.waiting > 0 {
            self.changed.notify_all(); // There is room now.
        }
        drop(state);
        if let Some((supplier, until)) = grant {
            supplier.room(until);
        }
        Some(taken)
    }

    /// Waits until there is something to take.
    pub(super) fn wait_for_item(&self, session: &Session, until: Option<Instant>) {
        let is_over = || self.lock().is_takeable();
        match &session.place {
            Place::Here => {}
            Place::Workers(node) => self.wait_leading(&node.leader, until, is_over),
            Place::Driver(upstream) => self.wait_leading(&upstream.leader, until, is_over),
        }
        self.wait(until, |state| !state.is_takeable());
    }

    /// Waits until there is room for one more item, or nobody wants it.
    pub(super) fn wait_for_room(&self) {
        self.wait(None, |state| state.flow.is_full());
    }

    /// Waits while `what` holds.
    fn wait(&self, until: Option<Instant>, what: impl Fn(&State<T>) -> bool) {
        let mut state = self.lock();
        state.waiting += 1;
        while what(&state) {
            state = match until.map(|until| until.checked_duration_since(Instant::now())) {
                None => self.changed.wait(state).expect("no thread panics with this lock"),
                Some(Some(left)) if !left.is_zero() => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.expect("no thread panics with this lock").0
                }
                Some(_) => break,
            };
        }
        state.waiting -= 1;
    }

    /// Waits until `done`, reading the links meanwhile if nobody else does.
    fn wait_leading<S: Source>(
        &self,
        leader: &Arc<Leader<S>>,
        until: Option<Instant>,
        done: impl Fn() -> bool,
    ) {
        let (nudged, party) = (leader.clone(), Party::me());
        self.lock().nudge = Some(Arc::new(move || nudged.nudge(&party)));
        leader.wait(until, done);
        self.lock().nudge = None;
    }

    /// The generator or its task has ended; false if it had before.
    pub(super) fn end(&self, result: Result<()>) -> bool {
        let mut state = self.lock();
        let first = state.end.is_none();
        let supplier = state.flow.supplier().filter(|_| first && result.is_err()).cloned();
        if first {
            state.end = Some(result);
            state.flow.ended();
        }
        self.wake(state);
        if let Some(supplier) = supplier {
            supplier.stop(); // It may wait for room.
        }
        first
    }

    /// The stream is gone: drops what lies here; says whether the generator had ended.
    pub(super) fn abandon(&self) -> bool {
        let (items, was_over) = {
            let mut state = self.lock();
            state.flow.abandoned();
            (std::mem::take(&mut state.items), state.end.is_some())
        };
        drop(items); // Outside the lock: values are user data.
        self.changed.notify_all();
        was_over
    }

    pub(super) fn push(&self, item: ObjectRef<T>) {
        let mut state = self.lock();
        if !state.flow.pushed() {
            drop(state);
            drop(item); // Outside the lock: its value is user data.
            return;
        }
        state.items.push_back(item);
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State<T>>) {
        let reader = state.reader.take();
        let nudge = state.nudge.clone();
        let waiting = state.waiting > 0;
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        if let Some(nudge) = nudge {
            nudge();
        }
        if waiting {
            self.changed.notify_all();
        }
    }

    /// Another process is about to run the generator: what is made already, and until which item it
    /// may send more.
    pub(super) fn announced(&self) -> (u64, u64) {
        self.lock().flow.announced()
    }

    /// So many items were made by earlier attempts.
    pub(super) fn begin_at(&self, made: u64) {
        self.lock().flow.begin_at(made);
    }

    pub(super) fn made(&self) -> u64 {
        self.lock().flow.made()
    }

    pub(super) fn set_bound(&self, bound: usize) {
        self.lock().flow.set_bound(bound as u64);
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().flow.is_full()
    }

    /// Whether nobody wants more items.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().flow.is_stopped()
    }

    pub(super) fn is_watched(&self) -> bool {
        let state = self.lock();
        state.waiting > 0 || state.reader.is_some() || state.nudge.is_some()
    }

    /// How many items lie here, and whether the generator has ended.
    pub(super) fn progress(&self) -> (usize, bool) {
        let state = self.lock();
        (state.items.len(), state.end.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no thread panics while it holds a channel")
    }
}

impl<T> State<T> {
    fn is_takeable(&self) -> bool {
        !self.items.is_empty() || self.end.is_some()
    }

    /// The next item, or that there is none any more; nothing if one may come.
    /// Says too who is to be told of room for more.
    fn take(&mut self) -> Option<(Taken<T>, Option<Grant>)> {
        if let Some(item) = self.items.pop_front() {
            return Some((Some(Ok(item)), self.flow.taken()));
        }
        self.end.as_ref().map(|end| (end.as_ref().err().cloned().map(Err), None))
    }
}

impl<T> Channel<T> {
    /// An item that came from another process, unless it is known.
    fn take_in(&self, index: u64, item: ObjectRef<T>, from: &dyn Fn() -> Arc<dyn Supplier>) {
        let mut state = self.lock();
        match state.flow.yielded(index, from) {
            Yielded::Next(grant) => {
                state.items.push_back(item);
                self.wake(state);
                if let Some((supplier, until)) = grant {
                    supplier.room(until);
                }
            }
            Yielded::Known => drop(state), // And the item outside the lock: its value is user data.
            Yielded::Unwanted => {
                drop(state);
                drop(item);
                from().stop();
            }
        }
    }
}

#[allow(private_interfaces, reason = "part of no API")]
impl<T: Value> Inlet for Channel<T> {
    fn yielded(
        &self,
        session: &Arc<Session>,
        item: Item<'_>,
        from: &dyn Fn() -> Arc<dyn Supplier>,
    ) {
        let (is_stopped, made) = {
            let state = self.lock();
            (state.flow.is_stopped(), state.flow.made())
        };
        if is_stopped {
            if item.named.is_some() {
                drop(read::<T>(session, item)); // What was lent to this worker is given back.
            }
            return from().stop();
        }
        let index = item.index;
        if index != made {
            return; // STREAM-2: an earlier attempt has made it.
        }
        match read(session, item) {
            Ok(item) => self.take_in(index, item, from),
            Err(error) => {
                self.end(Err(error));
            }
        }
    }

    fn stalled(&self, index: u64, from: &dyn Fn() -> Arc<dyn Supplier>) {
        let supplier = from();
        let said = self.lock().flow.stalled(index, supplier.clone()); // The lock ends here.
        match said {
            Stalled::Unwanted => supplier.stop(),
            Stalled::Room(until) => supplier.room(until),
            Stalled::Later => {}
        }
    }
}

/// An item that came from another process, as an object of this one.
fn read<T: Value>(session: &Arc<Session>, item: Item<'_>) -> Result<ObjectRef<T>> {
    const ITEM: &str = "an item of a stream";
    let Item { body, keeps, named, .. } = item;
    let mut bytes = body;
    let value = parcel::take(&mut bytes).map_err(|error| {
        Error::new(Kind::Decode { task: ITEM.into(), because: error.to_string() })
    })?;
    drop(keeps); // The value holds what it refers to itself now.
    match (named, &session.place) {
        (Some(id), Place::Driver(upstream)) => Ok(upstream.have(session.epoch, id, value)),
        _ => ObjectRef::stored(session, value, body.len(), |_| Ok(())),
    }
}

impl<T: Value> AnyObject for Channel<T> {
    fn key(&self) -> ObjectKey {
        self.hold.key()
    }

    fn id(&self) -> u64 {
        self.hold.id()
    }

    fn fail(&self, error: Error) -> bool {
        self.end(Err(error))
    }

    fn error(&self) -> Option<Error> {
        self.lock().end.as_ref().and_then(|end| end.as_ref().err()).cloned()
    }

    fn is_ready(&self) -> bool {
        self.lock().end.is_some()
    }

    fn watch(&self, waiter: Waiter) -> std::result::Result<(), Waiter> {
        Err(waiter) // Nobody waits for a stream as a whole.
    }

    fn pack(&self, _out: &mut Vec<u8>) -> Result<()> {
        Err(Error::new(Kind::Invalid("a stream stays where it is".into())))
    }

    fn arrived(&self, value: Result<Arc<Encoded>>) -> bool {
        self.end(value.map(drop))
    }

    fn inlet(self: Arc<Self>) -> Option<Arc<dyn Inlet>> {
        Some(self)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
