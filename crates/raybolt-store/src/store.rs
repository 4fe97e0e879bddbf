//! The store, as the process has it that hosts the node.

use std::io;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raybolt_core::calls::objects::{
    self, Holders, Key, LendNow, ObjectReport, Objects, PinNow, Purpose, Region, SealError,
    Standing, Ticket, Usage, WaitReport,
};
use raybolt_core::ids::ProcessId;

use crate::arena::Arena;
use crate::copy::copy;
use crate::disk::{Disk, SpillDir};
use crate::error::{PinError, PutError};
use crate::map::Claim;
use crate::mapped::Mapped;
use crate::wait::{Asked, Shared};

/// Shorter runs of free room keep their pages.
const TRIM_BYTES_MIN: u64 = 1 << 20;
/// So much at a time is not to be had for others while its pages are given back.
const TRIM_BYTES_MAX: u64 = 64 << 20;

/// A clock can add so much.
const PATIENCE_MAX: Duration = Duration::from_secs(1 << 32);

/// What a store may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much memory.
    pub capacity_bytes: u64,
    /// Where objects go that do not fit; `None`: nowhere, so that a put waits until others are released.
    /// It should lie on a disk, which `/run` and often `/tmp` do not.
    pub spill_dir: Option<PathBuf>,
    /// Under which name this process reads.
    pub process: ProcessId,
    /// How long a put or a read waits for room by default.
    pub patience: Duration,
}

impl Options {
    /// A store without a disk.
    pub fn new(capacity_bytes: u64) -> Self {
        let patience = Duration::from_secs(60);
        Options { capacity_bytes, spill_dir: None, process: ProcessId(0), patience }
    }
}

/// A node's objects; see the crate's documentation. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    arena: Arc<Arena>,
    process: ProcessId,
    patience: Duration,
}

/// A slab that was lent: what the process that asked for it has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    /// Its name, for what is sealed in it and for its return.
    pub slab: Ticket,
    /// Where it lies.
    pub region: Region,
}

/// What a pin without waiting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PinFor {
    /// It is pinned, and lies there until it is unpinned.
    Pinned(Region),
    /// It lies on disk; a thread that may wait has to ask.
    OnDisk,
    /// There is no such object, or the process is lost.
    Unknown,
}

/// What [`Store::try_lend`] came to.
#[derive(Debug)]
#[must_use]
pub enum TryLend {
    /// It lies there, and stays as long as this is kept or it is pinned for another process.
    Lent(Mapped),
    /// So much is read already that something has to be unpinned before.
    TooMuch,
    /// It may be lent, but lies on disk.
    OnDisk,
    /// There is no such object.
    Unknown,
}

impl Store {
    /// Makes a store.
    ///
    /// # Errors
    /// When the arena or the directory for spilled objects cannot be made.
    pub fn open(options: Options) -> io::Result<Self> {
        let disk = match &options.spill_dir {
            Some(path) => Some(Box::new(SpillDir::new(path)?) as Box<dyn Disk>),
            None => None,
        };
        Store::with_disk(options, disk)
    }

    /// Makes a store that spills to `disk`, whatever `options` say.
    ///
    /// # Errors
    /// When the arena cannot be made.
    pub fn with_disk(options: Options, disk: Option<Box<dyn Disk>>) -> io::Result<Self> {
        let arena = Arena::create(options.capacity_bytes)?;
        let mut bounds = objects::Options::new(options.capacity_bytes);
        bounds.spill_file_bytes = bounds.spill_file_bytes.filter(|_| disk.is_some());
        let shared = Shared::new(Objects::new(bounds), arena.map().clone(), disk);
        let Options { process, patience, .. } = options;
        Ok(Store { shared: Arc::new(shared), arena: Arc::new(arena), process, patience })
    }

    /// Where other processes open the arena, with [`ArenaView::open`](crate::ArenaView::open).
    pub fn arena_path(&self) -> PathBuf {
        self.arena.path()
    }

    /// How large the arena is.
    pub fn capacity_bytes(&self) -> u64 {
        self.arena.capacity_bytes()
    }

    /// Room for an object of so many bytes, to be filled and sealed. Waits for it: first for the disk, to
    /// which others go, then for others to be released, for as long as the store's patience lasts.
    ///
    /// # Errors
    /// When no room was to be had, with who has it.
    pub fn create(&self, key: Key, bytes: u64) -> Result<Writer, PutError> {
        self.create_by(key, bytes, self.deadline(), || ())
    }

    /// As [`Store::create`], but waits until `deadline`. If it waits it calls `waits` before, and keeps what
    /// that returns until the wait is over.
    ///
    /// # Errors
    /// When no room was to be had, with who has it.
    pub fn create_by<G>(
        &self,
        key: Key,
        bytes: u64,
        deadline: Instant,
        waits: impl FnOnce() -> G,
    ) -> Result<Writer, PutError> {
        let (ticket, region) = self.room(Purpose::Object, bytes, deadline, waits)?;
        let claim = self.shared.map().populate(region).map(|()| self.shared.map().claim(region));
        match claim {
            Ok(Some(claim)) => {
                Ok(Writer { store: self.clone(), key, ticket, claim, is_sealed: false })
            }
            Ok(None) => unreachable!("admitted room lies inside the arena"),
            Err(error) => {
                self.shared.tell(|machine| machine.given_up(ticket));
                Err(PutError::NoMemory { bytes, reason: error.to_string() })
            }
        }
    }

    /// Stores a copy of `bytes`.
    ///
    /// # Errors
    /// As [`Store::create`], or when the key is taken.
    pub fn put(&self, key: Key, bytes: &[u8]) -> Result<(), PutError> {
        let mut writer = self.create(key, bytes.len() as u64)?;
        writer.fill_from(bytes);
        Ok(writer.seal()?)
    }

    /// Reads an object where it lies; waits for it to come back if it lies on disk.
    ///
    /// # Errors
    /// When there is no such object, or it cannot come back.
    pub fn pin(&self, key: Key) -> Result<Mapped, PinError> {
        self.pin_noting(key, || ())
    }

    /// The same; if it waits it calls `waits` before, and keeps what that returns until the wait is over.
    ///
    /// # Errors
    /// When there is no such object, or it cannot come back.
    pub fn pin_noting<G>(&self, key: Key, waits: impl FnOnce() -> G) -> Result<Mapped, PinError> {
        let region = self.pinned(self.process, key, self.deadline(), waits)?;
        Ok(self.mapped(key, region))
    }

    /// What this process has pinned.
    fn mapped(&self, key: Key, region: Region) -> Mapped {
        let (shared, process) = (self.shared.clone(), self.process);
        let unpin = move || {
            shared.tell(|machine| machine.unpinned(process, key));
        };
        Mapped::new(self.shared.map().clone(), region, Box::new(unpin))
    }

    /// Pins an object for another process, if that takes no wait.
    pub fn try_pin_for(&self, process: ProcessId, key: Key) -> PinFor {
        match self.shared.tell(|machine| machine.pinned_now(process, key)) {
            PinNow::Pinned(region) => PinFor::Pinned(region),
            PinNow::OnDisk => PinFor::OnDisk,
            PinNow::Unknown => PinFor::Unknown,
        }
    }

    /// Reads an object that is about to be sent to another process, if that takes no wait and is not too much
    /// (OBJ-7).
    pub fn try_lend(&self, key: Key) -> TryLend {
        match self.shared.tell(|machine| machine.lent_now(self.process, key)) {
            LendNow::Pinned(region) => TryLend::Lent(self.mapped(key, region)),
            LendNow::TooMuch => TryLend::TooMuch,
            LendNow::OnDisk => TryLend::OnDisk,
            LendNow::Unknown => TryLend::Unknown,
        }
    }

    /// Pins an object for another process; waits until `deadline` for it to come back if it lies on disk.
    ///
    /// # Errors
    /// When there is no such object, or it cannot come back.
    pub fn pin_for(
        &self,
        process: ProcessId,
        key: Key,
        deadline: Instant,
    ) -> Result<Region, PinError> {
        self.pinned(process, key, deadline, || ())
    }

    fn pinned<G>(
        &self,
        process: ProcessId,
        key: Key,
        deadline: Instant,
        waits: impl FnOnce() -> G,
    ) -> Result<Region, PinError> {
        if let PinFor::Pinned(region) = self.try_pin_for(process, key) {
            return Ok(region);
        }
        let _waits = waits();
        let Asked { outcome, .. } =
            self.shared.ask(|machine| machine.pin_wanted(process, key, deadline));
        let bytes = || self.object_bytes(key).unwrap_or(0);
        outcome.map_err(|refused| refused.pin_error(key, bytes()))
    }

    /// Another process has read what it wanted. Says whether it had a pin.
    pub fn unpin_for(&self, process: ProcessId, key: Key) -> bool {
        self.shared.tell(|machine| machine.unpinned(process, key))
    }

    /// The object's owner wants it no more: it goes as soon as nobody reads it.
    pub fn release(&self, key: Key) {
        self.shared.tell(|machine| machine.released(key));
    }

    /// Lends room to another process, in which it may write objects; waits for it until `deadline`.
    ///
    /// # Errors
    /// When no room was to be had, with who has it; or when the process is lost.
    pub fn lend_slab(
        &self,
        process: ProcessId,
        bytes: u64,
        deadline: Instant,
    ) -> Result<Lent, PutError> {
        let (slab, region) = self.room(Purpose::Slab(process), bytes, deadline, || ())?;
        Ok(Lent { slab, region })
    }

    /// Lends room to another process if that takes no wait.
    pub fn try_lend_slab(&self, process: ProcessId, bytes: u64) -> Option<Lent> {
        let taken = self.shared.tell(|machine| machine.taken_now(Purpose::Slab(process), bytes));
        taken.map(|(slab, region)| Lent { slab, region })
    }

    /// `process` has written an object in a part of its slab.
    ///
    /// # Errors
    /// When the key is taken, or when the process may not write there; nothing changes.
    pub fn sealed_in_slab(
        &self,
        process: ProcessId,
        slab: Ticket,
        key: Key,
        region: Region,
    ) -> Result<(), SealError> {
        let standing = Standing::Primary;
        self.shared.tell(|machine| machine.sealed_in_slab(process, slab, key, region, standing))
    }

    /// `process` needs its slab no more; what it sealed there stays.
    pub fn slab_returned(&self, process: ProcessId, slab: Ticket) {
        self.shared.tell(|machine| machine.slab_returned(process, slab));
    }

    /// `process` is gone: its pins and what is left of its slabs are free. It must not come back.
    pub fn process_lost(&self, process: ProcessId) {
        self.shared.tell(|machine| machine.process_lost(process));
    }

    /// Ends all waits, and lets nobody wait any more: for a session's end.
    pub fn close(&self) {
        self.shared.tell(Objects::closed);
    }

    /// Whether there is an object that is wanted.
    pub fn contains(&self, key: Key) -> bool {
        self.shared.tell(|machine| machine.contains(key))
    }

    /// How long an object is.
    pub fn object_bytes(&self, key: Key) -> Option<u64> {
        self.shared.tell(|machine| machine.object_bytes(key))
    }

    /// Who has the room, and what lies on disk: exact.
    pub fn usage(&self) -> Usage {
        self.shared.tell(|machine| machine.usage())
    }

    /// How much memory the arena takes: pages that were written once are kept, since new ones cost several
    /// times a copy; see [`Store::trim`].
    pub fn resident_bytes(&self) -> u64 {
        self.arena.resident_bytes()
    }

    /// Gives pages in which nothing lies back to the system; for a store that has had little to do for long.
    /// Puts go on meanwhile.
    ///
    /// # Errors
    /// When the system does not take them.
    pub fn trim(&self) -> io::Result<()> {
        let mut from = 0;
        let take = |from| {
            self.shared.tell(|machine| machine.idle_taken(from, TRIM_BYTES_MIN, TRIM_BYTES_MAX))
        };
        while let Some((ticket, region)) = take(from) {
            let outcome = self.shared.map().discard(region);
            self.shared.tell(|machine| machine.given_up(ticket));
            outcome?;
            from = region.offset + region.bytes;
        }
        Ok(())
    }

    /// Up to `count` objects, for whoever watches.
    pub fn reports(&self, count: usize) -> Vec<ObjectReport> {
        self.shared.tell(|machine| machine.reports().take(count).collect())
    }

    /// One object, for whoever watches.
    pub fn report(&self, key: Key) -> Option<ObjectReport> {
        self.shared.tell(|machine| machine.report(key))
    }

    /// Who has the room, with at most `count` objects, for whoever asks why.
    pub fn room_holders(&self, count: usize) -> Holders {
        self.shared.tell(|machine| machine.room_holders(count))
    }

    /// All who wait for room or for an object, for whoever asks why.
    pub fn wait_reports(&self) -> Vec<WaitReport> {
        self.shared.tell(|machine| machine.wait_reports().collect())
    }

    /// The copies that were dropped to make room since this was asked last.
    pub fn take_evicted(&self) -> Vec<Key> {
        self.shared.take_evicted()
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let patience = self.patience.min(PATIENCE_MAX);
        now.checked_add(patience).unwrap_or(now)
    }

    fn room<G>(
        &self,
        purpose: Purpose,
        bytes: u64,
        deadline: Instant,
        waits: impl FnOnce() -> G,
    ) -> Result<(Ticket, Region), PutError> {
        if let Some(taken) = self.shared.tell(|machine| machine.taken_now(purpose, bytes)) {
            return Ok(taken);
        }
        let _waits = waits();
        let Asked { ticket, outcome } =
            self.shared.ask(|machine| machine.wanted(purpose, bytes, deadline));
        outcome.map(|region| (ticket, region)).map_err(|refused| refused.put_error(bytes))
    }
}

/// An object that is being written. If it is dropped before it is sealed, its room is free again.
#[must_use = "an object exists once it is sealed"]
pub struct Writer {
    store: Store,
    key: Key,
    ticket: Ticket,
    claim: Claim,
    is_sealed: bool,
}

impl Writer {
    /// Fills it with a copy of `bytes`, which must be as long; faster than one thread can copy, if they
    /// are many.
    pub fn fill_from(&mut self, bytes: &[u8]) {
        copy(&mut self.claim, bytes);
    }

    /// Makes an object of what was written: from now on it never changes.
    ///
    /// # Errors
    /// When there is an object of that name; the room is free again.
    pub fn seal(self) -> Result<(), SealError> {
        self.seal_as(Standing::Primary)
    }

    /// As [`Writer::seal`], for what may be a copy of another node's object.
    ///
    /// # Errors
    /// When there is an object of that name; the room is free again.
    pub fn seal_as(mut self, standing: Standing) -> Result<(), SealError> {
        self.is_sealed = true;
        let (ticket, key) = (self.ticket, self.key);
        self.store.shared.tell(|machine| machine.sealed(ticket, key, standing))
    }
}

impl Deref for Writer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.claim
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.claim
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_sealed {
            let ticket = self.ticket;
            self.store.shared.tell(|machine| machine.given_up(ticket));
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("usage", &self.usage()).finish_non_exhaustive()
    }
}
