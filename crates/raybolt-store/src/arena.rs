//! The arena: made by one process, opened by the others of its session.

use std::fs::OpenOptions;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use raybolt_core::calls::objects::{ALIGN, CAPACITY_BYTES_MAX, Region};
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};

use crate::copy::copy;
use crate::map::{Access, Claim, Map};
use crate::mapped::Mapped;

/// Shared memory, as the process that made it has it. It takes no memory before it is written.
#[derive(Debug)]
pub struct Arena {
    file: OwnedFd,
    map: Arc<Map>,
    capacity_bytes: u64,
}

impl Arena {
    /// Makes an arena. It goes when the last process that has it open ends, however it ends.
    ///
    /// # Errors
    /// When the system refuses, or when `capacity_bytes` is zero or above [`CAPACITY_BYTES_MAX`].
    pub fn create(capacity_bytes: u64) -> io::Result<Self> {
        let bytes = map_bytes(capacity_bytes)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("raybolt-store", flags)?;
        ftruncate(&file, capacity_bytes)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = Arc::new(Map::new(file.as_fd(), bytes, Access::Write)?);
        Ok(Arena { file, map, capacity_bytes })
    }

    /// Where other processes of this user open it while this process lives; see [`ArenaView::open`].
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// How large it is.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// How much of it takes memory: pages that were written once, whether or not something lies there now.
    pub fn resident_bytes(&self) -> u64 {
        fstat(&self.file).map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }

    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.map
    }
}

/// The arena as another process has it: all of it to read, parts of it to write.
#[derive(Debug)]
pub struct ArenaView {
    path: PathBuf,
    capacity_bytes: u64,
    map: Arc<Map>,
    /// Made for the first slab: a process that only reads cannot write.
    writable: OnceLock<Arc<Map>>,
}

impl ArenaView {
    /// Opens the arena that lies at [`Arena::path`] of the process that made it, for reading.
    ///
    /// # Errors
    /// When it cannot be opened (its maker has ended, or is another user's), or is no arena of that size.
    pub fn open(path: &Path, capacity_bytes: u64) -> io::Result<Self> {
        let map = open_map(path, capacity_bytes, Access::Read)?;
        Ok(ArenaView {
            path: path.into(),
            capacity_bytes,
            map: Arc::new(map),
            writable: OnceLock::new(),
        })
    }

    /// How many bytes the arena has.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// What lies at `region`, which has to be pinned for this process (STORE-2); `None` if there is no such
    /// region. `unpin` is called when nobody reads it any more.
    pub fn mapped(
        &self,
        region: Region,
        unpin: impl FnOnce() + Send + Sync + 'static,
    ) -> Option<Mapped> {
        self.map.read(region)?;
        Some(Mapped::new(self.map.clone(), region, Box::new(unpin)))
    }

    /// Has the pages of a region at hand: it is about to be read.
    pub fn populate(&self, region: Region) {
        // What fails here fails again, and is told, when the memory is touched.
        drop(self.map.populate(region));
    }

    /// A slab that was lent to this process (STORE-1), to write objects in.
    ///
    /// # Errors
    /// When the arena cannot be opened for writing, or when there is no such region.
    pub fn slab(&self, region: Region) -> io::Result<Slab> {
        let map = self.writable()?;
        if map.read(region).is_none() {
            let text = format!("no slab of {region} in an arena of {}", self.capacity_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Slab { map: map.clone(), region, taken: AtomicU64::new(0) })
    }

    fn writable(&self) -> io::Result<&Arc<Map>> {
        if let Some(map) = self.writable.get() {
            return Ok(map);
        }
        let map = Arc::new(open_map(&self.path, self.capacity_bytes, Access::Write)?);
        Ok(self.writable.get_or_init(|| map))
    }
}

/// Room in which this process writes objects one after the other, from any of its threads.
#[derive(Debug)]
pub struct Slab {
    map: Arc<Map>,
    region: Region,
    taken: AtomicU64,
}

impl Slab {
    /// The next part of the slab; `None` if what is left is too short.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn take(&self, bytes: u64) -> io::Result<Option<Part>> {
        let Some(room) = bytes.max(1).checked_next_multiple_of(ALIGN) else { return Ok(None) };
        let fits = |taken: u64| taken.checked_add(room).filter(|end| *end <= self.region.bytes);
        let (set, got) = (Ordering::Relaxed, Ordering::Relaxed);
        let Ok(taken) = self.taken.fetch_update(set, got, fits) else { return Ok(None) };
        let region = Region { offset: self.region.offset + taken, bytes };
        self.map.populate(region)?;
        Ok(self.map.claim(region).map(|claim| Part { claim, region }))
    }

    /// How much of it is left.
    pub fn left_bytes(&self) -> u64 {
        self.region.bytes - self.taken.load(Ordering::Relaxed)
    }

    /// Where it lies.
    pub fn region(&self) -> Region {
        self.region
    }
}

/// A part of a slab that is being written. If it is dropped its room comes back with the slab.
#[derive(Debug)]
pub struct Part {
    claim: Claim,
    region: Region,
}

impl Part {
    /// Fills it with a copy of `bytes`, which must be as long; faster than one thread can copy, if they
    /// are many.
    pub fn fill_from(&mut self, bytes: &[u8]) {
        copy(&mut self.claim, bytes);
    }

    /// It is written: whoever lent the slab has to hear of the region.
    #[must_use = "the store has to be told what was written where"]
    pub fn seal(self) -> Region {
        self.region
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.claim
    }
}

impl DerefMut for Part {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.claim
    }
}

fn open_map(path: &Path, capacity_bytes: u64, access: Access) -> io::Result<Map> {
    let bytes = map_bytes(capacity_bytes)?;
    let file = OpenOptions::new().read(true).write(access == Access::Write).open(path)?;
    let is_sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    // STORE-4: else a map of it could lose its pages.
    if !is_sealed || file.metadata()?.len() < capacity_bytes {
        let text = format!("{} is no arena of {capacity_bytes} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Map::new(file.as_fd(), bytes, access)
}

fn map_bytes(capacity_bytes: u64) -> io::Result<usize> {
    let allowed = ALIGN..=CAPACITY_BYTES_MAX;
    let bytes = usize::try_from(capacity_bytes).ok().filter(|_| allowed.contains(&capacity_bytes));
    bytes.ok_or_else(|| {
        let text =
            format!(
                "a store has {ALIGN} to {CAPACITY_BYTES_MAX} bytes, not {capacity_bytes} (`object_store_memory`)"
            );
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}
