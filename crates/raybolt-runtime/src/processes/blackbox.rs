//! What a worker runs, written where its driver reads it when the worker is dead.
//!
//! # Words
//! A *box* is a page that driver and worker share: a list of *entries*, one per thread or future that
//! runs tasks. An entry holds the task that has begun and whose answer is not on its way yet.
//!
//! # Protocol
//! 1. The driver makes a box for each worker and keeps its file open; the worker maps it by way of the
//!    driver's open files.
//! 2. Who runs tasks claims an entry ([`BlackBox::entry`]), writes each task before it begins
//!    ([`Entry::begin`]), and gives the entry back when the answers were sent.
//! 3. When the worker is dead the driver reads the box ([`BlackBox::running`]): the processor keeps no
//!    store of a process back, whatever that process died of.
//!
//! # Invariants
//! - **BOX-1 (cheap).** A task costs one store to memory.
//! - **BOX-2 (no trust).** Whatever a worker writes, the driver reads numbers; the file can neither
//!   shrink nor grow.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// How large a box is: a page.
const BYTES: usize = 4096;
const ENTRIES: usize = BYTES / size_of::<AtomicU64>();
/// Nobody has the entry. No task is named so.
const FREE: u64 = 0;
/// Somebody has it, and runs nothing. No task is named so either.
const IDLE: u64 = u64::MAX;

/// A mapped box.
pub(crate) struct BlackBox {
    entries: NonNull<[AtomicU64; ENTRIES]>,
    /// Only the driver's.
    file: Option<OwnedFd>,
}

/// A place in a box; given back when dropped.
pub(crate) struct Entry {
    its: Arc<BlackBox>,
    index: usize,
}

// SAFETY: the page lives as long as the box, and is used by way of atomics alone.
unsafe impl Send for BlackBox {}
// SAFETY: as above.
unsafe impl Sync for BlackBox {}

impl BlackBox {
    /// A new box.
    pub(crate) fn create() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("raybolt-blackbox", flags)?;
        rustix::fs::ftruncate(&file, BYTES as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mut own = Self::map(&file)?;
        own.file = Some(file);
        Ok(own)
    }

    /// By what number the driver has it open.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.file.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The box that another process has open under a path in `/proc`.
    pub(crate) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() < BYTES as u64 {
            return Err(io::Error::other("it is smaller than a page"));
        }
        Self::map(&file.into()).map(Arc::new)
    }

    fn map(file: &OwnedFd) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses the address, so that nothing else is mapped over.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), BYTES, protection, MapFlags::SHARED, file, 0)
        }?;
        let entries =
            NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(BlackBox { entries, file: None })
    }

    /// A free entry. With more than there are, some tasks are not written down.
    pub(crate) fn entry(self: &Arc<Self>) -> Option<Entry> {
        let claim = |entry: &AtomicU64| {
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            entry.compare_exchange(FREE, IDLE, success, failure).is_ok()
        };
        let index = self.entries().iter().position(claim)?;
        Some(Entry { its: self.clone(), index })
    }

    /// What has begun and was not answered.
    pub(crate) fn running(&self) -> Vec<u64> {
        let running = self.entries().iter().map(|entry| entry.load(Ordering::Relaxed));
        running.filter(|task| ![FREE, IDLE].contains(task)).collect()
    }

    fn entries(&self) -> &[AtomicU64; ENTRIES] {
        // SAFETY: the page is mapped as long as `self` lives, aligned to its own size, and every bit
        // pattern is a number. The file cannot shrink (BOX-2).
        unsafe { self.entries.as_ref() }
    }
}

impl Drop for BlackBox {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this size, and nobody has a reference any more.
        let _ = unsafe { rustix::mm::munmap(self.entries.as_ptr().cast(), BYTES) };
    }
}

impl Entry {
    /// A task begins; what was here before has ended.
    pub(crate) fn begin(&self, task: u64) {
        self.its.entries()[self.index].store(task, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.its.entries()[self.index].store(FREE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let driver = BlackBox::create().unwrap();
        let descriptor = driver.descriptor().unwrap();
        let path = format!("/proc/{}/fd/{descriptor}", std::process::id());
        let worker = BlackBox::open(Path::new(&path)).unwrap();
        let (first, second) = (worker.entry().unwrap(), worker.entry().unwrap());
        assert!(driver.running().is_empty());
        first.begin(7);
        second.begin(8);
        first.begin(9);
        assert_eq!(driver.running(), [9, 8]);
        drop(first);
        assert_eq!(driver.running(), [8]);
        let third = worker.entry().unwrap();
        assert_eq!(third.index, 0, "what was given back serves again");
    }

    #[test]
    fn a_full_box_gives_no_entry() {
        let own = Arc::new(BlackBox::create().unwrap());
        let entries: Vec<_> = std::iter::from_fn(|| own.entry()).collect();
        assert_eq!(entries.len(), ENTRIES);
        drop(entries);
        assert!(own.entry().is_some());
    }
}
