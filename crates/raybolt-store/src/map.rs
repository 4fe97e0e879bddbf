//! The only module that touches memory by address.
//!
//! Everything here is checked against the map's length; that nobody writes what another reads is the
//! promise of the crate's documentation (STORE-1, STORE-2), which this module relies on.
//!
//! # Fresh pages
//! The first touch of a page costs several times the copy into it, most of it for entering the kernel. A
//! map therefore asks for pages in steps of [`STEP_BYTES`] before they are written, once; see
//! `docs/design/0010-the-store.md` for figures.

#![expect(unsafe_code, reason = "memory that other processes map too has no owner in Rust's sense")]

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use raybolt_core::calls::objects::Region;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// Pages are asked for in steps of so many bytes: one table of pages on most machines.
const STEP_BYTES: usize = 2 << 20;
/// What is shorter than this is read without asking for its pages first.
const READ_AHEAD_BYTES_MIN: u64 = 256 << 10;

/// What a map is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The arena as one process sees it.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    bytes: usize,
    access: Access,
    /// For each step, whether its pages were asked for through this map.
    present: Box<[AtomicBool]>,
}

// SAFETY: the map is valid in all threads until it is dropped, and gives out writable memory only in
// claims, which by STORE-1 are disjoint from each other and from what is read.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    pub(crate) fn new(file: BorrowedFd<'_>, bytes: usize, access: Access) -> io::Result<Self> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::Write => ProtFlags::READ | ProtFlags::WRITE,
        };
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: the address is chosen by the system, so nothing that exists is mapped over.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let present = (0..bytes.div_ceil(STEP_BYTES)).map(|_| AtomicBool::new(false)).collect();
        let map = Map { start, bytes, access, present };
        // Helps where the system allows large pages for shared memory; elsewhere it is refused.
        let _ = map.advise(0..bytes, Advice::LinuxHugepage);
        Ok(map)
    }

    /// What lies at `region`, if it lies inside.
    pub(crate) fn read(&self, region: Region) -> Option<&[u8]> {
        let range = self.range(region)?;
        // SAFETY: the range is inside the map, which outlives the slice; the file cannot shrink (STORE-4),
        // so its pages are there; nobody writes it while it is read (STORE-1, STORE-2).
        Some(unsafe {
            std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len())
        })
    }

    /// `region` to write, if it lies inside a map for writing. By STORE-1 it must have been admitted or lent
    /// to the caller, and is claimed once at a time.
    pub(crate) fn claim(self: &Arc<Self>, region: Region) -> Option<Claim> {
        let range = self.range(region)?;
        (self.access == Access::Write).then(|| Claim { map: self.clone(), range })
    }

    /// Makes sure that the pages of `region` are there.
    ///
    /// # Errors
    /// When the system has no memory for them; that is better heard now than as a signal.
    pub(crate) fn populate(&self, region: Region) -> io::Result<()> {
        let Some(range) = self.range(region).filter(|range| !range.is_empty()) else {
            return Ok(());
        };
        if self.access == Access::Read && region.bytes < READ_AHEAD_BYTES_MIN {
            return Ok(());
        }
        let mut steps = range.start / STEP_BYTES..range.end.div_ceil(STEP_BYTES);
        while let Some(first) = steps.find(|step| !self.is_present(*step)) {
            let end = steps.find(|step| self.is_present(*step)).unwrap_or(steps.end);
            self.populate_steps(first..end, &range)?;
        }
        Ok(())
    }

    /// Gives the whole pages of `region`, in which there is nothing, back to the system. By STORE-1 it must
    /// have been admitted to the caller.
    pub(crate) fn discard(&self, region: Region) -> io::Result<()> {
        let Some(range) = self.range(region) else { return Ok(()) };
        let page = rustix::param::page_size();
        let pages = range.start.next_multiple_of(page)..range.end / page * page;
        if pages.is_empty() {
            return Ok(());
        }
        for step in pages.start / STEP_BYTES..pages.end.div_ceil(STEP_BYTES) {
            self.present[step].store(false, Ordering::Relaxed);
        }
        // SAFETY: the range is inside the map, and only the caller has it: its bytes mean nothing.
        Ok(unsafe {
            madvise(self.start.as_ptr().add(pages.start).cast(), pages.len(), Advice::LinuxRemove)
        }?)
    }

    fn is_present(&self, step: usize) -> bool {
        self.present[step].load(Ordering::Relaxed)
    }

    fn populate_steps(&self, steps: Range<usize>, range: &Range<usize>) -> io::Result<()> {
        let whole = steps.start * STEP_BYTES..(steps.end * STEP_BYTES).min(self.bytes);
        let outcome = match self.access {
            Access::Write => self.advise(whole, Advice::LinuxPopulateWrite),
            // Reading a page that was never written would make one: only what is read is asked for.
            Access::Read => {
                let part = whole.start.max(range.start)..whole.end.min(range.end);
                self.advise(part, Advice::LinuxPopulateRead)
            }
        };
        match outcome {
            Ok(()) => {}
            // A system that does not know this advice: pages come one by one.
            Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        for step in steps {
            let bytes = step * STEP_BYTES..((step + 1) * STEP_BYTES).min(self.bytes);
            let is_whole = range.start <= bytes.start && bytes.end <= range.end;
            if self.access == Access::Write || is_whole {
                self.present[step].store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Advises about the pages that `range`, which lies inside, touches.
    fn advise(&self, range: Range<usize>, advice: Advice) -> rustix::io::Result<()> {
        let page = rustix::param::page_size();
        let start = range.start / page * page;
        // SAFETY: the range is inside the map; the advice given here changes no byte of it.
        unsafe { madvise(self.start.as_ptr().add(start).cast(), range.end - start, advice) }
    }

    fn range(&self, region: Region) -> Option<Range<usize>> {
        let (start, end) = (usize::try_from(region.offset).ok()?, region.end()?);
        let end = usize::try_from(end).ok().filter(|end| *end <= self.bytes)?;
        Some(start..end)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the map was made by `new`; whatever borrows from it holds it.
        let outcome = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(outcome.is_ok(), "a map that was made can be unmade");
    }
}

/// A region to write, and nobody else's meanwhile.
#[derive(Debug)]
pub(crate) struct Claim {
    map: Arc<Map>,
    range: Range<usize>,
}

impl Deref for Claim {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `deref_mut`.
        unsafe {
            std::slice::from_raw_parts(
                self.map.start.as_ptr().add(self.range.start),
                self.range.len(),
            )
        }
    }
}

impl DerefMut for Claim {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range is inside a map for writing that the claim keeps; by STORE-1 it is this claim's
        // alone until it is sealed, when the claim is gone.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.map.start.as_ptr().add(self.range.start),
                self.range.len(),
            )
        }
    }
}
