//! The records of requests in flight, side by side: heads, stages and bits in three flat arrays.
//!
//! A request takes a slot of each and gives it back, so it costs no allocation once the arrays have grown
//! to the most requests that were ever in flight at once (they do not shrink).

use std::ops::Range;

use crate::hash::IdMap;
use crate::ids::{ComponentIndex, RequestId};

/// What is known of one component for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    /// Deliveries counted as sent, less those counted as processed; negative while a report of
    /// the sender is late.
    pub(super) outstanding: i64,
    /// Instances that were told to finish and have not said that they did.
    pub(super) finishing: u32,
    /// Upstream components that are not closed; the spouts together count as one.
    pub(super) upstream_open: u16,
    pub(super) phase: Phase,
}

/// Where a component is in its work on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Deliveries may come.
    Open,
    /// None will come; some instances have not said that they finished.
    Finishing,
    /// Nothing will come out of it any more.
    Closed,
}

/// What is known of one request, beside its stages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) request: RequestId,
    /// Components that are not closed.
    pub(super) open: u16,
    pub(super) opened: bool,
    pub(super) failed: bool,
}

/// A place in the arrays; valid until its record is dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(u32);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Records {
    /// The stages of a request that has just begun, copied into each new record.
    fresh: Box<[Stage]>,
    /// How many components of a new request are open.
    open: u16,
    /// How many words of bits a record has.
    words: usize,
    slots: IdMap<RequestId, Slot>,
    heads: Vec<Head>,
    stages: Vec<Stage>,
    /// Which instances saw some of a request and have not finished it, one bit each; all zero in a
    /// free slot.
    touched: Vec<u64>,
    free: Vec<Slot>,
}

impl Records {
    /// No records yet; each will begin with these stages and so many words of bits.
    pub(super) fn new(fresh: Vec<Stage>, words: usize) -> Self {
        let open = fresh.iter().filter(|stage| stage.phase == Phase::Open).count() as u16;
        Self {
            fresh: fresh.into_boxed_slice(),
            open,
            words,
            slots: IdMap::default(),
            heads: Vec::new(),
            stages: Vec::new(),
            touched: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(super) fn find(&self, request: RequestId) -> Option<Slot> {
        self.slots.get(&request).copied()
    }

    /// The slot of the request's record, begun now if there is none.
    #[inline]
    pub(super) fn find_or_begin(&mut self, request: RequestId) -> Slot {
        self.find(request).unwrap_or_else(|| self.begin(request))
    }

    fn begin(&mut self, request: RequestId) -> Slot {
        let head = Head { request, open: self.open, opened: false, failed: false };
        let slot = match self.free.pop() {
            Some(slot) => {
                let first = slot.0 as usize * self.fresh.len();
                self.stages[first..first + self.fresh.len()].copy_from_slice(&self.fresh);
                self.heads[slot.0 as usize] = head;
                slot
            }
            None => {
                self.stages.extend_from_slice(&self.fresh);
                self.touched.resize(self.touched.len() + self.words, 0);
                self.heads.push(head);
                Slot(u32::try_from(self.heads.len() - 1).expect("fewer requests than 2^32"))
            }
        };
        self.slots.insert(request, slot);
        slot
    }

    /// Drops the record; its slot will be another's.
    pub(super) fn drop(&mut self, slot: Slot) {
        let words = self.words;
        self.touched_mut(slot, 0..words).fill(0);
        self.slots.remove(&self.heads[slot.0 as usize].request);
        self.free.push(slot);
    }

    #[inline]
    pub(super) fn head(&mut self, slot: Slot) -> &mut Head {
        &mut self.heads[slot.0 as usize]
    }

    #[inline]
    pub(super) fn stage(&mut self, slot: Slot, component: ComponentIndex) -> &mut Stage {
        &mut self.stages[slot.0 as usize * self.fresh.len() + component.index()]
    }

    /// Some words of the record's bits.
    #[inline]
    pub(super) fn touched(&self, slot: Slot, words: Range<usize>) -> &[u64] {
        let first = slot.0 as usize * self.words;
        &self.touched[first + words.start..first + words.end]
    }

    /// The records whose word number `word` has this bit, in the order of their requests.
    pub(super) fn with_bit(&self, word: usize, bit: u64) -> Vec<Slot> {
        let has_bit = |slot: Slot| self.touched(slot, word..word + 1)[0] & bit != 0;
        let mut found: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| has_bit(**slot))
            .map(|(id, slot)| (*id, *slot))
            .collect();
        found.sort_unstable_by_key(|(request, _)| *request);
        found.into_iter().map(|(_, slot)| slot).collect()
    }

    #[inline]
    pub(super) fn touched_mut(&mut self, slot: Slot, words: Range<usize>) -> &mut [u64] {
        let first = slot.0 as usize * self.words;
        &mut self.touched[first + words.start..first + words.end]
    }

    /// How many slots there are, used or free.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.heads.len()
    }

    /// Whether no bit is set in any slot.
    #[cfg(test)]
    pub(super) fn is_untouched(&self) -> bool {
        self.touched.iter().all(|&word| word == 0)
    }
}
