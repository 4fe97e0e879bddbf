//! How much of each spill file is still wanted.

use std::collections::BTreeMap;

use super::FileId;

/// Where an object lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OnDisk {
    pub(super) file: FileId,
    pub(super) offset: u64,
}

/// Spill files by what of them is wanted.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<FileId, File>,
    next: u64,
    bytes: u64,
}

#[derive(Debug)]
struct File {
    wanted: usize,
    bytes: u64,
}

impl Files {
    /// The name of a new file; never used again.
    pub(super) fn name(&mut self) -> FileId {
        self.next += 1;
        FileId(self.next)
    }

    /// A file was written, and so many of the objects in it are wanted: at least one.
    pub(super) fn written(&mut self, file: FileId, wanted: usize, bytes: u64) {
        debug_assert!(wanted > 0, "a file that nobody wants is not kept");
        self.bytes += bytes;
        self.files.insert(file, File { wanted, bytes });
    }

    /// One object in `file` is wanted no more; whether it was the last.
    #[must_use]
    pub(super) fn dropped(&mut self, file: FileId) -> bool {
        let entry = self.files.get_mut(&file).expect("a file is kept while an object is in it");
        entry.wanted -= 1;
        if entry.wanted > 0 {
            return false;
        }
        self.bytes -= entry.bytes;
        self.files.remove(&file);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// What the files take on disk, parts that nobody wants included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
