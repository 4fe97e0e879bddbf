//! How code in a worker calls tasks and uses objects: all of them are the driver's.
//!
//! # Words
//! A worker *names* what it creates: an id with the highest bit set, the number of the process and a
//! count, so that no two processes choose the same. It *wants* an object when somebody waits for it.
//!
//! # Invariants
//! - **UP-1 (in order).** What names an object goes before what uses the name, and the release of a
//!   reference after all uses: they travel the same link in the order in which they happened.
//!
//! UP-2 and UP-3 are kept by [`Borrows`], which counts what is held and lent here. An object is not asked for at
//! all if one of its handles has it: values never change. What a submitted task returns comes unasked.
//! What was pinned in the store with a loan is unpinned as often, when it and whatever reads it are gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use raybolt_core::calls::borrows::{Borrows, LetGo};
use raybolt_core::calls::scheduler::{Demand, LeaseKey};
use raybolt_wire::Value;
use raybolt_wire::work::{self, Outcome, Pinned, SlabGranted, Submit, ToDriver};
use slotmap::{Key, KeyData};

use crate::args::{Arguments, Form};
use crate::awaited::{Listed, What};
use crate::context;
use crate::error::{Error, Kind, Result};
use crate::group::Membership;
use crate::job::{Function, Step, code_of};
use crate::object::{AnyObject, Lazy, Object, ObjectRef};
use crate::options::{MAX_RETRIES, TaskOptions, one_cpu};
use crate::output::{Cells, Output};
use crate::processes::circles::Told;
use crate::processes::code;
use crate::processes::inlet::{Inlet, Item, Supplier};
use crate::processes::judges::Predicates;
use crate::processes::leader::Leader;
use crate::processes::link::FRAME_MAX;
use crate::processes::parcel::{self, Packed, Piece};
use crate::processes::raw::Encoded;
use crate::processes::relay::AtDriver;
use crate::processes::serve::Serving;
use crate::processes::shelf::{Pins, WorkerShelf};
use crate::session::{self, Place, Session};
use crate::slot::{Slot, Waiter};

/// A worker's way to its driver.
pub(crate) struct Upstream {
    pub(crate) serving: Arc<Serving>,
    pub(crate) leader: Arc<Leader<Arc<Serving>>>,
    pub(crate) process: u64,
    named: AtomicU64,
    known: Mutex<Borrows<Known>>,
    /// Streams that are read here, until their end has come.
    streams: Mutex<HashMap<u64, Arc<dyn Inlet>>>,
    /// What the failures are worth of tasks that were submitted here.
    pub(crate) predicates: Predicates,
    /// Long waits that the driver knows of.
    pub(crate) told: Told,
    pub(crate) shelf: WorkerShelf,
    /// Slabs that were asked for.
    slabs: Mutex<HashMap<u64, Arc<Slot<Granted>>>>,
    /// Bytes of all values that were put here and are kept here too.
    kept_bytes: AtomicUsize,
}

/// More than this is not kept where it was put; the driver has it anyway.
const KEPT_BYTES_MAX: usize = 64 << 20;

type Granted = std::result::Result<SlabGranted, String>;

/// An object of the driver that this process has handles to.
#[derive(Default)]
struct Known {
    handles: Vec<Weak<dyn AnyObject>>,
    /// The actor that called itself to have it.
    of_itself: Option<u64>,
    /// How much of [`Upstream::kept_bytes`] it is.
    kept_bytes: usize,
    /// Whether it answers an errand: that comes once, and nobody can ask for it again.
    is_answer: bool,
}

/// References that came with a message, until its body was read into handles, or dropped (UP-3).
pub(crate) struct Loan {
    refs: Vec<u64>,
    /// Values in the store that came with it too.
    pins: Pins,
}

impl Loan {
    /// What is to be unpinned before the rest is given back.
    pub(crate) fn take_pins(&mut self) -> Pins {
        std::mem::take(&mut self.pins)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Without a session the driver is gone.
        let _ = session::with(|session| {
            if let Place::Driver(upstream) = &session.place {
                self.refs.iter().for_each(|id| upstream.loan_over(*id));
            }
        });
    }
}

impl Upstream {
    /// The driver lends these objects with its next message.
    pub(crate) fn loan(&self, refs: Vec<u64>, pins: &[Pinned]) -> Loan {
        let mut known = self.known();
        refs.iter().for_each(|id| known.lent(*id));
        drop(known);
        Loan { refs, pins: self.pins(pins) }
    }

    pub(crate) fn new(
        process: u64,
        serving: Arc<Serving>,
        leader: Arc<Leader<Arc<Serving>>>,
    ) -> Self {
        Upstream {
            serving,
            leader,
            process,
            named: AtomicU64::new(0),
            known: Mutex::default(),
            streams: Mutex::default(),
            predicates: Predicates::default(),
            told: Told::default(),
            shelf: WorkerShelf::default(),
            slabs: Mutex::default(),
            kept_bytes: AtomicUsize::new(0),
        }
    }

    /// Submits a task whose values will come into `cells`.
    pub(crate) fn submit<A: Arguments, O: Output>(
        &self,
        function: &'static Function,
        options: &TaskOptions,
        args: &A,
        cells: &O::Cells,
        run: fn(A::Held) -> Step<O>,
    ) -> Result<()> {
        let set = options.settings();
        if let Some(error) = set.and_then(|set| set.error.clone()) {
            return Err(error);
        }
        let code = code_of::<A, O>(function, run)?;
        let name = set.and_then(|set| set.name.as_deref());
        let mut body = Vec::new();
        let (packed, Packed { refs, guards, .. }) = parcel::packing(|| {
            args.pack(name.unwrap_or(function.name()), Form::References, &mut body)
        });
        packed?;
        let default = if function.is_async() { Demand::default() } else { one_cpu() };
        let demand = set.and_then(|set| set.demand.clone()).unwrap_or(default);
        let returns = self.expect(cells);
        self.reads(cells, &returns);
        let when = set.and_then(|set| set.retry_on.clone());
        let judged = when.is_some();
        if let (Some(when), Some(id)) = (when, returns.first()) {
            self.predicates.add(*id, when);
        }
        self.send(
            &ToDriver::Submit(Submit {
                code,
                function: function.name().to_owned(),
                name: name.map(str::to_owned),
                demand: demand.iter().map(|(name, units)| (name.to_owned(), units)).collect(),
                group: options.group().map(Membership::to_wire),
                max_retries: set.and_then(|set| set.max_retries).unwrap_or(MAX_RETRIES),
                deadline_us: options.until().map(|(until, after)| {
                    let left = until.saturating_duration_since(Instant::now());
                    (left.as_micros() as u64, after.as_micros() as u64)
                }),
                returns,
                refs: refs.iter().map(|object| object.id()).collect(),
                stream: cells.room(),
                judged,
            }),
            &body,
        );
        drop(guards);
        Ok(())
    }

    /// Has the driver's process run `work` on `input`; calls `then` with what it returns.
    pub(crate) fn ask(
        &self,
        epoch: u32,
        work: fn(&[u8]) -> Vec<u8>,
        input: &[u8],
        then: impl FnOnce(Result<Vec<u8>>) + Send + 'static,
    ) {
        let code = match code::offset_of(work as *const () as usize) {
            Ok(code) => code,
            Err(foreign) => return then(Err(Error::new(Kind::Invalid(foreign.to_string())))),
        };
        let (id, object) = (self.name(), ObjectRef::<Vec<u8>>::pending(epoch));
        object.0.hold.set_id(id);
        self.know_answer(id, &object.0);
        let (answer, then) = (object.clone(), Mutex::new(Some(then)));
        let call: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            let then = then.lock().expect("no thread panics with this lock").take();
            if let (Some(then), Some(result)) = (then, answer.0.slot.get()) {
                then(Lazy::read_first(result));
            }
        });
        if let Err(Waiter::Callback { call, .. }) =
            object.0.slot.watch(Waiter::Callback { key: 0, call })
        {
            call();
        }
        self.send(&ToDriver::Ask { object: id, code }, input);
    }

    /// The same, for those who wait for it.
    pub(crate) fn ask_and_wait(
        &self,
        epoch: u32,
        work: fn(&[u8]) -> Vec<u8>,
        input: &[u8],
    ) -> Result<ObjectRef<Vec<u8>>> {
        let code = code::offset_of(work as *const () as usize)
            .map_err(|foreign| Error::new(Kind::Invalid(foreign.to_string())))?;
        let (id, object) = (self.name(), ObjectRef::pending(epoch));
        object.0.hold.set_id(id);
        self.know_answer(id, &object.0);
        let _ = self.known().wanted(id); // The answer comes unasked.
        self.send(&ToDriver::Ask { object: id, code }, input);
        Ok(object)
    }

    /// Names the places of what is to be returned.
    pub(crate) fn expect(&self, cells: &impl Cells) -> Vec<u64> {
        let mut returns = Vec::new();
        cells.each(&mut |hold, object| {
            let id = self.name();
            hold.set_id(id);
            let mut known = self.known();
            known.named(id).handles.push(object);
            let _ = known.wanted(id); // It comes unasked.
            drop(known);
            returns.push(id);
        });
        returns
    }

    /// An object that the driver is about to be asked for.
    pub(crate) fn expected<T: Value>(&self, epoch: u32) -> ObjectRef<T> {
        let object = ObjectRef::pending(epoch);
        let id = self.name();
        object.0.hold.set_id(id);
        self.know_own(id, &object.0);
        let _ = self.known().wanted(id); // It comes unasked.
        object
    }

    /// If these are the places of a stream: its items will come here.
    pub(crate) fn reads(&self, cells: &impl Cells, returns: &[u64]) {
        if let (Some(inlet), Some(id)) = (cells.inlet(), returns.first()) {
            self.streams().insert(*id, inlet);
        }
    }

    /// These objects come from a call that an actor made of itself.
    pub(crate) fn come_from_itself(&self, objects: &[u64], actor: u64) {
        let mut known = self.known();
        for object in objects {
            if let Some(known) = known.about(*object) {
                known.of_itself = Some(actor);
            }
        }
    }

    /// The name of the actor whose call runs here, if what makes `object` is another call of it that
    /// cannot start before this one has ended.
    pub(crate) fn waits_for_itself(&self, object: u64) -> Option<String> {
        let current = context::current_actor()?;
        let actor = self.known().about(object)?.of_itself?;
        let key = KeyData::from_ffi(actor).into();
        let is_own = context::caller_of_actor(key) == current;
        is_own.then(|| self.serving.hosts.runs_alone(actor)).flatten()
    }

    /// Stores a value with the driver; this process keeps its own, if that is not too much.
    pub(crate) fn put<T: Value>(&self, session: &Session, value: T) -> Result<ObjectRef<T>> {
        let mut body = Vec::new();
        let (packed, needs) = parcel::packing(|| parcel::put(&value, &mut body));
        let Packed { refs, guards, .. } = needs;
        packed.map_err(|error| {
            Error::new(Kind::Encode { task: "put".into(), because: error.to_string() })
        })?;
        let id = self.name();
        // What lies in the store need not lie here too.
        let kept_bytes = if guards.is_empty() { self.keep(body.len()) } else { None };
        let object = match kept_bytes {
            None => ObjectRef::pending(session.epoch),
            Some(_) => ObjectRef::here(session.epoch, id, value),
        };
        object.0.hold.set_id(id);
        self.know_own(id, &object.0);
        if let Some(bytes) = kept_bytes {
            self.known().about(id).expect("it was named a line ago").kept_bytes = bytes;
        }
        let refs = refs.iter().map(|object| object.id()).collect();
        self.send(&ToDriver::Put { object: id, refs }, &body);
        drop(guards);
        Ok(object)
    }

    /// Whether so many bytes more may be kept here.
    fn keep(&self, bytes: usize) -> Option<usize> {
        let before = self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= KEPT_BYTES_MAX {
            return Some(bytes);
        }
        self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        None
    }

    /// A reference that came in a value.
    pub(crate) fn borrow<T: Value>(&self, epoch: u32, id: u64) -> ObjectRef<T> {
        let object = ObjectRef::pending(epoch);
        object.0.hold.set_id(id);
        self.know(id, &object.0);
        object
    }

    /// A reference to a value that has come, which the driver knows by this id.
    pub(crate) fn have<T: Value>(&self, epoch: u32, id: u64, value: T) -> ObjectRef<T> {
        let object = ObjectRef::here(epoch, id, value);
        self.know(id, &object.0);
        object
    }

    /// Somebody waits for an object.
    pub(crate) fn want(&self, id: u64) {
        if self.is_here(id) {
            return;
        }
        let is_first = self.known().wanted(id); // The lock ends here.
        if is_first {
            self.send(&ToDriver::Fetch { object: id }, &[]);
        }
    }

    /// Somebody will wait for these objects, one after the other. The first is asked for last: what is
    /// sent of the others comes before it.
    pub(crate) fn will_want(&self, ids: impl Iterator<Item = u64>) {
        let objects = self.known().named_ahead(ids);
        if !objects.is_empty() {
            self.send(&ToDriver::Expect { objects }, &[]);
        }
    }

    /// Whether another handle has it; then all have it.
    fn is_here(&self, id: u64) -> bool {
        let handles = match self.known().about(id) {
            Some(known) if known.handles.len() > 1 => known.handles.clone(),
            _ => return false,
        };
        // The last of a handle must not go with the lock held.
        let handles: Vec<_> = handles.iter().filter_map(Weak::upgrade).collect();
        let Some(one) = handles.iter().find(|handle| handle.has_value()) else { return false };
        let mut others = handles.iter().filter(|handle| !handle.is_ready());
        others.all(|other| one.share(other.clone()))
    }

    /// A handle is gone.
    pub(crate) fn released(&self, id: u64) {
        let borrows = self.left(self.known().let_go(id)); // The lock ends here.
        self.give_back(id, borrows);
    }

    /// A body is gone that came with this reference.
    fn loan_over(&self, id: u64) {
        let borrows = self.left(self.known().loan_over(id)); // The lock ends here.
        self.give_back(id, borrows);
    }

    /// How many borrows are to be given back.
    fn left(&self, left: LetGo<'_, Known>) -> u32 {
        match left {
            LetGo::Held(known) => {
                known.handles.retain(|handle| handle.strong_count() > 0);
                0
            }
            LetGo::Last(borrows, known) => {
                self.kept_bytes.fetch_sub(known.kept_bytes, Ordering::Relaxed);
                borrows
            }
        }
    }

    fn give_back(&self, id: u64, borrows: u32) {
        for _ in 0..borrows {
            self.say(&ToDriver::Released { object: id });
        }
    }

    /// Nobody wants what the task that makes this object would return.
    pub(crate) fn cancel(&self, id: u64, by_force: bool) {
        let message = match by_force {
            false => ToDriver::CancelObject { object: id },
            true => ToDriver::KillTask { object: id },
        };
        self.send(&message, &[]);
    }

    /// An object has come.
    pub(crate) fn arrived(&self, id: u64, outcome: Outcome, body: &[u8], loan: Option<Loan>) {
        let stream = self.streams().remove(&id);
        let (handles, is_answer) = {
            let mut known = self.known();
            let Some(known) = known.arrived(id) else { return };
            (known.handles.clone(), known.is_answer)
        };
        let is_awaited = || is_answer || self.serving.session().awaited.awaits(id);
        let value = value(id, outcome, body, loan, is_awaited);
        for handle in handles.iter().filter_map(Weak::upgrade) {
            handle.arrived(value.clone());
        }
        drop(stream); // If it was read no more, this is its last handle.
    }

    /// An item of a stream has come.
    pub(crate) fn item(
        &self,
        session: &Arc<Session>,
        stream: u64,
        index: u64,
        object: u64,
        body: &[u8],
    ) {
        let inlet = self.streams().get(&stream).cloned();
        let Some(inlet) = inlet else { return };
        let way_back = || -> Arc<dyn Supplier> {
            Arc::new(AtDriver { serving: self.serving.clone(), stream })
        };
        let item = Item { index, body, keeps: Vec::new(), named: Some(object) };
        inlet.yielded(session, item, &way_back);
    }

    /// Asks for room in the store.
    pub(crate) fn want_slab(&self, bytes: u64) -> Granted {
        let (request, slot) = (self.name(), Arc::new(Slot::new()));
        self.slabs().insert(request, slot.clone());
        self.send(&ToDriver::SlabWanted { request, bytes }, &[]);
        let _waits = Listed::store(What::Room { needed: bytes });
        let granted = session::with(|session| {
            session.blocking(|| session.wait_for_slot(&slot, None).cloned())
        });
        granted.ok().flatten().unwrap_or_else(|| Err("the session ended".into()))
    }

    pub(crate) fn slab_came(&self, request: u64, granted: Granted) {
        if let Some(slot) = self.slabs().remove(&request) {
            let first = slot.set(granted).is_ok();
            debug_assert!(first, "a request is answered once");
        }
    }

    fn slabs(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot<Granted>>>> {
        self.slabs.lock().expect("no thread panics with this lock")
    }

    /// Says something that nobody waits for.
    pub(crate) fn say(&self, message: &ToDriver) {
        self.append(message, &[]);
        if context::current().is_none() {
            self.serving.link.flush(); // Within a task it goes with the task's answer.
        }
    }

    /// Runs `wait`, during which the CPU of a lease is free.
    pub(crate) fn blocking<R>(&self, lease: LeaseKey, wait: impl FnOnce() -> R) -> R {
        let lease = lease.data().as_ffi();
        let slot = self.serving.blocked(lease);
        self.send(&ToDriver::Blocked { lease }, &[]);
        let result = wait();
        if let Some(slot) = slot {
            slot.unblocked();
        }
        self.send(&ToDriver::Unblocked { lease }, &[]);
        result
    }

    /// A handle to an object that the driver has lent.
    fn know<T: Value>(&self, id: u64, object: &Arc<Object<T>>) {
        let handle: Arc<dyn AnyObject> = object.clone();
        self.known().holds(id).handles.push(Arc::downgrade(&handle));
    }

    /// A handle to the answer of an errand, whose only reader it is.
    fn know_answer<T: Value>(&self, id: u64, object: &Arc<Object<T>>) {
        let handle: Arc<dyn AnyObject> = object.clone();
        let mut known = self.known();
        let known = known.holds(id);
        known.handles.push(Arc::downgrade(&handle));
        known.is_answer = true;
    }

    /// A handle to something that the driver has lent and that never comes here: an actor.
    pub(crate) fn holds(&self, id: u64) {
        self.known().holds(id);
    }

    /// A handle to an object that this process has named, for which the driver counts one borrow.
    fn know_own<T: Value>(&self, id: u64, object: &Arc<Object<T>>) {
        let handle: Arc<dyn AnyObject> = object.clone();
        self.known().named(id).handles.push(Arc::downgrade(&handle));
    }

    pub(crate) fn name(&self) -> u64 {
        1 << 63 | self.process << 40 | self.named.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn send(&self, message: &ToDriver, body: &[u8]) {
        self.append(message, body);
        self.serving.link.flush();
    }

    fn append(&self, message: &ToDriver, body: &[u8]) {
        self.serving.link.append(|out| {
            let body = |out: &mut Vec<u8>| {
                out.extend_from_slice(body);
                Ok::<(), std::convert::Infallible>(())
            };
            if let Err(error) = work::append(out, message, FRAME_MAX, body) {
                tracing::error!(target: "raybolt", "a message to the driver is lost: {error:?}");
            }
        });
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u64, Arc<dyn Inlet>>> {
        self.streams.lock().expect("no thread panics with this lock")
    }

    fn known(&self) -> MutexGuard<'_, Borrows<Known>> {
        self.known.lock().expect("no thread panics while it holds what is known")
    }
}

/// What a message says that an object is.
fn value(
    id: u64,
    outcome: Outcome,
    mut body: &[u8],
    loan: Option<Loan>,
    is_awaited: impl FnOnce() -> bool,
) -> Result<Arc<Encoded>> {
    let unreadable =
        |because: String| Error::new(Kind::Decode { task: format!("object {id:x}"), because });
    match outcome {
        Outcome::Returned => match parcel::take_piece(&mut body) {
            Ok(piece) => {
                let is_awaited = matches!(piece, Piece::Stored(_)) && is_awaited();
                Encoded::lent(piece, loan, is_awaited).map_err(unreadable)
            }
            Err(error) => Err(unreadable(error.to_string())),
        },
        Outcome::Failed => {
            Err(raybolt_wire::value::decode(body)
                .unwrap_or_else(|error| unreadable(error.to_string())))
        }
    }
}
