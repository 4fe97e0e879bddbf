//! What may go when room is needed, coldest first.

use std::collections::BTreeMap;

use super::Key;

/// Whether a part of memory can be had again without writing it somewhere first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It lies elsewhere too: on disk or on another node.
    Copy,
    /// It lies here only.
    Only,
}

/// Objects in memory that nobody reads, in the order in which they were last read or written.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    copies: BTreeMap<u64, Key>,
    only: BTreeMap<u64, Key>,
    copy_bytes: u64,
    next_stamp: u64,
}

impl Shelf {
    /// Puts an object at the warm end; the stamp takes it out again.
    pub(super) fn put(&mut self, key: Key, worth: Worth, room_bytes: u64) -> u64 {
        self.next_stamp += 1;
        let stamp = self.next_stamp;
        self.line(worth).insert(stamp, key);
        if worth == Worth::Copy {
            self.copy_bytes += room_bytes;
        }
        stamp
    }

    /// Takes an object off, which was put with the same arguments.
    pub(super) fn take(&mut self, stamp: u64, worth: Worth, room_bytes: u64) {
        let was_there = self.line(worth).remove(&stamp).is_some();
        debug_assert!(was_there, "a stamp is good once");
        if worth == Worth::Copy {
            self.copy_bytes -= room_bytes;
        }
    }

    pub(super) fn coldest(&self, worth: Worth) -> Option<Key> {
        let line = if worth == Worth::Copy { &self.copies } else { &self.only };
        line.first_key_value().map(|(_, key)| *key)
    }

    /// The room that dropping all copies would give.
    pub(super) fn copy_bytes(&self) -> u64 {
        self.copy_bytes
    }

    fn line(&mut self, worth: Worth) -> &mut BTreeMap<u64, Key> {
        match worth {
            Worth::Copy => &mut self.copies,
            Worth::Only => &mut self.only,
        }
    }
}
