//! The store, as values on their way use it: the driver has it, workers map it.
//!
//! # Words
//! A *spot* says where a layout lies. The driver's *parked* values are objects of its store, which go when
//! the last reference to them does. A worker writes into *slabs* that it was lent.
//!
//! # Protocol
//! 1. The driver pins what it sends for the worker that gets it; the worker says `Unpinned` when nobody
//!    there reads it any more.
//! 2. A worker asks for a slab (`SlabWanted`), writes several values into it, and names each in the message
//!    that carries it; the driver seals it then. When no message can follow the worker says `SlabReturned`.
//!
//! # Invariants
//! - **SHELF-1 (room for answers).** What is pinned for workers is at most half of the store, or one value:
//!   there is always room for what they return. What is lent already is lent to others at once (OBJ-7).
//! - **SHELF-2 (never on the way).** Whoever reads the links does not wait for room or for the disk.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use raybolt_core::ids::ProcessId;
use raybolt_store::{
    ArenaView, Key, Mapped, ObjectReport as Stored, PinError, Region, Slab, Store, Ticket, TryLend,
};
use raybolt_wire::Value;
use raybolt_wire::work::{self, SlabGranted, ToDriver};

use crate::awaited::{Listed, What};
use crate::error::{Error, Kind, Result};
use crate::ids::Id;
use crate::object::ObjectRef;
use crate::processes::layout::{Originals, Source};
use crate::processes::lineage::{self, Instead, Origin};
use crate::processes::mapping::Allowance;
use crate::processes::parcel::{self, Packed};
use crate::processes::raw::{Encoded, unpackable};
use crate::processes::start;
use crate::processes::upstream::Upstream;
use crate::session::{self, Place, Session};

/// How much a slab for many values has, at the most.
const SLAB_BYTES_MAX: u64 = 8 << 20;
/// And which part of the store: each worker keeps one, whether it needs it or not.
const SLAB_SHARE: u64 = 64;
/// What is longer than such a part of a slab gets one of its own.
const SHARED_SHARE: u64 = 8;
/// The driver is told at once that nobody reads values any more which are longer than this together.
const UNSAID_BYTES_MAX: u64 = 1 << 20;
/// And than such a part of the store.
const UNSAID_SHARE: u64 = 128;
/// How long room is waited for if nobody says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks whether there is room: what code in the driver has read goes without a word.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where a layout lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    key: Key,
    /// The slab in which a worker wrote it; 0 if it is the driver's.
    slab: Ticket,
    region: Region,
}

/// The store of this process's session.
#[derive(Clone, Copy)]
pub(crate) enum Shelf<'a> {
    Node(&'a NodeShelf),
    Worker(&'a Upstream),
}

/// The driver's side.
pub(crate) struct NodeShelf {
    store: Store,
    /// How long room is waited for.
    patience: Duration,
    next: AtomicU64,
    names: Arc<Names>,
    /// Something was unpinned.
    unpinned: (Mutex<()>, Condvar),
}

/// The objects whose values lie in the store, for whoever watches.
#[derive(Default)]
struct Names(Mutex<BTreeMap<Key, u64>>);

/// A value in the store, as long as somebody wants it.
pub(crate) struct Parked {
    store: Store,
    key: Key,
    bytes: u64,
    originals: OnceLock<Originals>,
    /// Where it says whose value it is, once it is an object's.
    names: Arc<Names>,
    /// The task that returned it, if one did.
    pub(crate) origin: Option<Origin>,
    /// What there is instead, once it is lost.
    instead: Mutex<Option<Instead>>,
}

/// Keeps a value where it is until the message that names it was appended.
#[derive(Clone)]
pub(crate) enum Guard {
    /// The driver reads it itself meanwhile; after that whoever it was pinned for does.
    Pin { key: Key, pin: Pin, parked: Arc<Parked> },
    /// The slab is not given back before.
    Slab { _lent: Arc<LentSlab> },
}

/// A pin of the driver's own. Whoever waits to pin more is told when it goes.
#[derive(Clone)]
pub(crate) struct Pin(Option<Mapped>);

impl Drop for Pin {
    fn drop(&mut self) {
        drop(self.0.take());
        // Without a session nobody waits.
        let _ = session::with(|session| session.node().map(|node| node.shelf.room_came()));
    }
}

/// The worker's side.
#[derive(Default)]
pub(crate) struct WorkerShelf {
    pub(crate) view: OnceLock<ArenaView>,
    current: Mutex<Option<Arc<LentSlab>>>,
    /// What the driver has pinned for us, by keys: each as often as loans have it.
    pinned: Mutex<HashMap<u64, Vec<Mapped>>>,
    /// Bytes that nobody reads any more, of which the driver has not been told.
    unsaid_bytes: AtomicU64,
    /// What handles keep of what they have.
    pub(crate) held: Allowance,
}

/// What a message had pinned in the store; unpinned when this and whatever reads it are dropped.
#[derive(Default)]
pub(crate) struct Pins(Vec<u64>);

/// A slab in a worker; returned when the last value in it is on its way.
pub(crate) struct LentSlab {
    ticket: Ticket,
    slab: Slab,
}

/// Why a value is not in the store, or does not come out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ShelfError {
    /// It would take a wait, which this thread may not do.
    #[error("it would have to wait for the store")]
    WouldWait,
    /// It cannot be read any more.
    #[error("{0}")]
    Lost(String),
    #[error("{0}")]
    Failed(String),
}

/// What a thread may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// Also for a task that makes a lost value again.
    Anything,
    /// For room, and for the disk.
    Store,
    Nothing,
}

thread_local! {
    static WAITS: Cell<Waits> = const { Cell::new(Waits::Anything) };
}

/// Whether this thread may wait for a task.
pub(crate) fn may_wait_for_tasks() -> bool {
    WAITS.get() == Waits::Anything
}

fn may_wait() -> bool {
    WAITS.get() != Waits::Nothing
}

/// Runs `run`, which does not wait for the store: what would fails (SHELF-2).
pub(crate) fn without_waiting<R>(run: impl FnOnce() -> R) -> R {
    waiting_only_for(Waits::Nothing, run)
}

/// Runs `run`, which may wait for the store but not for a task: it has a lease that the task may need.
pub(crate) fn without_waiting_for_tasks<R>(run: impl FnOnce() -> R) -> R {
    waiting_only_for(Waits::Store, run)
}

fn waiting_only_for<R>(waits: Waits, run: impl FnOnce() -> R) -> R {
    struct Restore(Waits);
    impl Drop for Restore {
        fn drop(&mut self) {
            WAITS.set(self.0); // Also when the user's code panics.
        }
    }
    let _restore = Restore(WAITS.replace(waits));
    run()
}

impl Spot {
    const BYTES: usize = 32;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.key.0, self.slab.0, self.region.offset, self.region.bytes];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| {
            let word = bytes[at..].first_chunk().expect("four words are 32 bytes");
            u64::from_le_bytes(*word)
        };
        let region = Region { offset: word(16), bytes: word(24) };
        Some(Spot { key: Key(word(0)), slab: Ticket(word(8)), region })
    }

    /// What the store knows the value by.
    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// The worker that chose the key; see [`upstream`](super::upstream).
    fn writer(&self) -> ProcessId {
        ProcessId(self.key.0 >> 40 & 0x7f_ffff)
    }
}

impl Shelf<'_> {
    /// Uses the store of the session of this process.
    pub(crate) fn of_session<R, E: From<String>>(
        with: impl FnOnce(Shelf<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let none = |because: &str| E::from(because.to_owned());
        session::with(|session| match &session.place {
            Place::Workers(node) => with(Shelf::Node(&node.shelf)),
            Place::Driver(upstream) => with(Shelf::Worker(upstream)),
            Place::Here => Err(none("a session in one process has no store")),
        })
        .unwrap_or_else(|error| Err(none(&error.to_string())))
    }

    /// Writes a layout of so many bytes, with `fill`.
    pub(crate) fn write(
        self,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(Spot, Guard), ShelfError> {
        match self {
            Shelf::Node(shelf) => {
                let parked = shelf.park(bytes, fill)?;
                parked.spot()
            }
            Shelf::Worker(upstream) => upstream.write(bytes as u64, fill),
        }
    }

    /// The layout at a spot that came in a message.
    pub(crate) fn read(self, spot: Spot) -> Result<Mapped, String> {
        match self {
            Shelf::Node(shelf) => shelf.adopt(spot)?.read().map_err(|error| error.to_string()),
            Shelf::Worker(upstream) => upstream.map(spot),
        }
    }
}

impl Guard {
    /// What the worker is told that gets it.
    pub(crate) fn pinned(&self) -> Option<work::Pinned> {
        let Guard::Pin { key, pin, .. } = self else { return None };
        let Region { offset, bytes } = pin.0.as_ref()?.region();
        Some(work::Pinned { key: key.0, offset, bytes })
    }
}

impl NodeShelf {
    pub(crate) fn new(store: Store, patience: Duration) -> Self {
        let (next, names) = (AtomicU64::new(1), Arc::default());
        NodeShelf { store, patience, next, names, unpinned: Default::default() }
    }

    /// How long room is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// The object whose value lies there.
    pub(crate) fn object_at(&self, key: Key) -> Option<u64> {
        self.names.lock().get(&key).copied()
    }

    /// What lies here of the values of these objects, for whoever watches.
    pub(crate) fn stored(&self, objects: &HashSet<u64>) -> HashMap<u64, Stored> {
        let named =
            |(key, object): (&Key, &u64)| objects.contains(object).then_some((*key, *object));
        let keys: Vec<_> = self.names.lock().iter().filter_map(named).collect();
        let report = |(key, object)| Some((object, self.store.report(key)?));
        keys.into_iter().filter_map(report).collect()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Stores a layout.
    pub(crate) fn park(
        &self,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Arc<Parked>, ShelfError> {
        let key = Key(self.next.fetch_add(1, Ordering::Relaxed));
        let patience = if may_wait() { self.patience } else { Duration::ZERO };
        let needed = bytes as u64;
        let waits = || Listed::store(What::Room { needed });
        let created = self.store.create_by(key, needed, Instant::now() + patience, waits);
        let failed = |error: String| match may_wait() {
            false if bytes as u64 <= self.store.capacity_bytes() => ShelfError::WouldWait,
            _ => ShelfError::Failed(error),
        };
        let mut writer = created.map_err(|error| failed(error.to_string()))?;
        fill(&mut writer);
        writer.seal().map_err(|error| ShelfError::Failed(error.to_string()))?;
        Ok(Arc::new(self.parked(key, needed, None)))
    }

    /// Stores a value of this process.
    pub(crate) fn put<T: Value>(&self, session: &Arc<Session>, value: &T) -> Result<ObjectRef<T>> {
        let mut piece = Vec::new();
        let (packed, Packed { refs, guards, .. }) =
            parcel::packing(|| parcel::put(value, &mut piece));
        packed.map_err(|error| unpackable("put", &error))?;
        let encoded = match guards.into_iter().next() {
            Some(Guard::Pin { parked, .. }) => Encoded::parked(parked, refs),
            _ => {
                let piece = parcel::take_piece(&mut &piece[..]);
                let piece = piece.map_err(|error| error.to_string());
                piece
                    .and_then(|piece| Encoded::of(piece, refs))
                    .map_err(|because| Error::new(Kind::Decode { task: "put".into(), because }))?
            }
        };
        Ok(ObjectRef::encoded(session, encoded))
    }

    /// Takes over what a worker wrote.
    pub(crate) fn adopt(&self, spot: Spot) -> Result<Arc<Parked>, String> {
        let Spot { key, slab, region } = spot;
        let sealed = self.store.sealed_in_slab(spot.writer(), slab, key, region);
        sealed.map_err(|error| error.to_string())?;
        let parked = Arc::new(self.parked(key, region.bytes, lineage::origin_of(key)));
        lineage::arrived(&parked);
        Ok(parked)
    }

    fn parked(&self, key: Key, bytes: u64, origin: Option<Origin>) -> Parked {
        Parked {
            store: self.store.clone(),
            key,
            bytes,
            originals: OnceLock::new(),
            names: self.names.clone(),
            origin,
            instead: Mutex::default(),
        }
    }

    /// What `guards` keep goes to a worker.
    pub(crate) fn pin_for(&self, process: ProcessId, guards: &[Guard]) {
        for guard in guards {
            if let Guard::Pin { key, .. } = guard {
                // Pinned at once, for we have a pin; a process that is lost needs none.
                let _ = self.store.try_pin_for(process, *key);
            }
        }
    }

    pub(crate) fn unpinned(&self, process: ProcessId, key: u64) {
        self.store.unpin_for(process, Key(key));
        self.room_came();
    }

    pub(crate) fn process_lost(&self, process: ProcessId) {
        self.store.process_lost(process);
        self.room_came();
    }

    fn room_came(&self) {
        drop(self.unpinned.0.lock().expect("no thread panics with this lock"));
        self.unpinned.1.notify_all();
    }

    /// SHELF-1: waits until it is known how an object may be lent, if this thread may wait.
    fn lend(&self, key: Key, bytes: u64) -> Result<TryLend, ShelfError> {
        match self.store.try_lend(key) {
            TryLend::TooMuch | TryLend::OnDisk if !may_wait() => {
                return Err(ShelfError::WouldWait);
            }
            TryLend::TooMuch => {}
            found => return Ok(found),
        }
        let _waits = Listed::store(What::Lending { bytes });
        let until = Instant::now() + self.patience;
        let mut lock = self.unpinned.0.lock().expect("no thread panics with this lock");
        loop {
            match self.store.try_lend(key) {
                TryLend::TooMuch => {}
                found => return Ok(found),
            }
            if Instant::now() >= until {
                drop(lock);
                return Err(self.too_much_is_read(bytes));
            }
            let waited = self.unpinned.1.wait_timeout(lock, LOOK_AGAIN);
            lock = waited.expect("no thread panics with this lock").0;
        }
    }

    fn too_much_is_read(&self, bytes: u64) -> ShelfError {
        let (usage, patience) = (self.store.usage(), self.patience);
        ShelfError::Failed(format!(
            "{bytes} bytes could not be lent to a worker within {patience:?}: {} bytes are being read in place, and that may be at most {}, half of the store; let tasks drop arrays and `Bytes` that they have read, raise `object_store_memory`, or wait longer (`store_timeout`)",
            usage.pinned_bytes,
            usage.capacity_bytes / 2
        ))
    }
}

impl Parked {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// It is the value of this object.
    pub(crate) fn named(&self, object: u64) {
        self.names.lock().insert(self.key, object);
    }

    /// What the value was written from in this process.
    pub(crate) fn remember(&self, originals: Originals) {
        self.originals.get_or_init(|| originals);
    }

    /// Where the value is read.
    pub(crate) fn source(&self) -> Result<Source, ShelfError> {
        let mapped = self.read()?;
        Ok(match self.originals.get() {
            Some(originals) => Source::Written(mapped, originals.clone()),
            None => Source::Mapped(mapped),
        })
    }

    /// Reads it where it lies; waits until it is back from the disk.
    pub(crate) fn read(&self) -> Result<Mapped, ShelfError> {
        let waits = || Listed::store(What::Disk { bytes: self.bytes });
        let pinned = self.store.pin_noting(self.key, waits);
        pinned.map_err(|error| match error {
            PinError::Unreadable { place, reason, .. } => {
                ShelfError::Lost(format!("it lies in {place} and cannot be read: {reason}"))
            }
            other => ShelfError::Failed(other.to_string()),
        })
    }

    /// The object whose value it is, for messages.
    pub(crate) fn object_name(&self) -> String {
        let object = self.names.lock().get(&self.key).copied();
        object.map_or_else(|| "a value".into(), |object| Id::object(object).to_string())
    }

    /// What there is instead of it, once it is lost.
    pub(crate) fn instead(&self) -> Option<Instead> {
        self.instead_place().clone()
    }

    /// It is lost, and there is this instead.
    pub(crate) fn set_instead(&self, instead: Instead) {
        self.instead_place().get_or_insert(instead);
    }

    fn instead_place(&self) -> MutexGuard<'_, Option<Instead>> {
        self.instead.lock().expect("no thread panics with this lock")
    }

    /// Where it lies, as long as the guard keeps it there.
    pub(crate) fn spot(self: &Arc<Self>) -> Result<(Spot, Guard), ShelfError> {
        let mapped = self.lend()?;
        let spot = Spot { key: self.key, slab: Ticket(0), region: mapped.region() };
        let (key, parked) = (self.key, self.clone());
        Ok((spot, Guard::Pin { key, pin: Pin(Some(mapped)), parked }))
    }

    /// Keeps it in memory for whoever it is sent to.
    fn lend(&self) -> Result<Mapped, ShelfError> {
        let found = session::with(|session| match &session.place {
            Place::Workers(node) => node.shelf.lend(self.key, self.bytes),
            Place::Here | Place::Driver(_) => Ok(TryLend::Unknown),
        });
        match found.map_err(|error| ShelfError::Failed(error.to_string()))?? {
            TryLend::Lent(mapped) => Ok(mapped),
            // It may be lent as soon as it is back, or is read to hear why it cannot be.
            TryLend::OnDisk | TryLend::TooMuch | TryLend::Unknown => self.read(),
        }
    }
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, u64>> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.names.lock().remove(&self.key);
        self.store.release(self.key);
        if let Some(origin) = &self.origin {
            lineage::gone(origin);
        }
    }
}

impl Upstream {
    fn write(
        &self,
        bytes: u64,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(Spot, Guard), ShelfError> {
        let failed = |error: std::io::Error| ShelfError::Failed(error.to_string());
        loop {
            let slab = self.slab_for(bytes)?;
            let Some(mut part) = slab.slab.take(bytes).map_err(failed)? else {
                self.retire(&slab); // Full: those who wrote in it keep it until they are done.
                continue;
            };
            fill(&mut part);
            let spot = Spot { key: Key(self.name()), slab: slab.ticket, region: part.seal() };
            return Ok((spot, Guard::Slab { _lent: slab }));
        }
    }

    fn slab_for(&self, bytes: u64) -> Result<Arc<LentSlab>, ShelfError> {
        let capacity = self.view().map_err(ShelfError::Failed)?.capacity_bytes();
        let slab_bytes = (capacity / SLAB_SHARE).min(SLAB_BYTES_MAX);
        if bytes > slab_bytes / SHARED_SHARE {
            return self.ask_for_slab(bytes);
        }
        let current = || self.shelf.current.lock().expect("no thread panics with this lock");
        if let Some(slab) = &*current() {
            return Ok(slab.clone());
        }
        let slab = self.ask_for_slab(slab_bytes)?;
        // Somebody else may have come first; then his goes back when he is done with it.
        *current() = Some(slab.clone());
        Ok(slab)
    }

    fn retire(&self, slab: &Arc<LentSlab>) {
        let mut current = self.shelf.current.lock().expect("no thread panics with this lock");
        let retired = current.take_if(|current| Arc::ptr_eq(current, slab));
        drop(current);
        drop(retired);
    }

    fn ask_for_slab(&self, bytes: u64) -> Result<Arc<LentSlab>, ShelfError> {
        if !may_wait() {
            return Err(ShelfError::WouldWait);
        }
        let SlabGranted { slab: ticket, offset, bytes } =
            self.want_slab(bytes).map_err(ShelfError::Failed)?;
        let view = self.view().map_err(ShelfError::Failed)?;
        let slab = view.slab(Region { offset, bytes });
        let slab = slab.map_err(|error| {
            let lever = start::lever(&error).unwrap_or_default();
            ShelfError::Failed(format!("this worker cannot write to the store: {error}{lever}"))
        })?;
        Ok(Arc::new(LentSlab { ticket: Ticket(ticket), slab }))
    }

    /// What lies at a spot that came in a message, and is about to be read.
    fn map(&self, spot: Spot) -> Result<Mapped, String> {
        let mapped = self.found(spot)?;
        self.view()?.populate(spot.region);
        Ok(mapped)
    }

    /// The same, if it is not read yet.
    pub(crate) fn found(&self, spot: Spot) -> Result<Mapped, String> {
        let mapped = self.pinned().get(&spot.key.0).and_then(|all| all.first().cloned());
        let mapped = mapped.filter(|mapped| mapped.region() == spot.region);
        mapped.ok_or_else(|| format!("{} is not pinned for this worker", spot.region))
    }

    /// Maps these bytes now rather than page by page.
    pub(crate) fn populate(&self, mapped: &Mapped) {
        if let Ok(view) = self.view() {
            view.populate(mapped.region());
        }
    }

    /// How large the store is; nothing if this worker has none.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.view().map_or(0, ArenaView::capacity_bytes)
    }

    /// The driver has pinned these with its next message.
    pub(crate) fn pins(&self, pins: &[work::Pinned]) -> Pins {
        if pins.is_empty() {
            return Pins(Vec::new());
        }
        let mut keys = Vec::with_capacity(pins.len());
        for work::Pinned { key, offset, bytes } in pins.iter().copied() {
            let unpin = move || {
                // Without a session the driver is gone.
                let _ = session::with(|session| {
                    if let Place::Driver(upstream) = &session.place {
                        upstream.unpin(key, bytes);
                    }
                });
            };
            let view = self.view().ok();
            let mapped = view.and_then(|view| view.mapped(Region { offset, bytes }, unpin));
            // One that is nowhere fails when it is read.
            if let Some(mapped) = mapped {
                self.pinned().entry(key).or_default().push(mapped);
                keys.push(key);
            }
        }
        Pins(keys)
    }

    fn unpin(&self, key: u64, bytes: u64) {
        self.say(&ToDriver::Unpinned { key });
        // Within a task that goes with its answer, but room in the store cannot wait for long tasks.
        let unsaid_bytes = self.shelf.unsaid_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unsaid_bytes >= UNSAID_BYTES_MAX.min(self.capacity_bytes() / UNSAID_SHARE) {
            self.shelf.unsaid_bytes.store(0, Ordering::Relaxed);
            self.serving.link.flush();
        }
    }

    fn pinned(&self) -> MutexGuard<'_, HashMap<u64, Vec<Mapped>>> {
        self.shelf.pinned.lock().expect("no thread panics with this lock")
    }

    fn view(&self) -> Result<&ArenaView, String> {
        self.shelf.view.get().ok_or_else(|| "this worker has no store".into())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Without a session the driver is gone.
        let _ = session::with(|session| {
            let Place::Driver(upstream) = &session.place else { return };
            for key in &self.0 {
                let mut pinned = upstream.pinned();
                let all = pinned.get_mut(key);
                let (one, is_last) = all.map_or((None, false), |all| (all.pop(), all.is_empty()));
                if is_last {
                    pinned.remove(key);
                }
                drop(pinned);
                drop(one); // Without the lock: it is told the driver.
            }
        });
    }
}

impl Drop for LentSlab {
    fn drop(&mut self) {
        let slab = self.ticket.0;
        // Without a session the driver is gone.
        let _ = session::with(|session| {
            if let Place::Driver(upstream) = &session.place {
                upstream.say(&ToDriver::SlabReturned { slab });
            }
        });
    }
}

impl From<String> for ShelfError {
    fn from(because: String) -> Self {
        ShelfError::Failed(because)
    }
}
