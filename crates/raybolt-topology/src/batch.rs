//! A batch: the tuples that travel together from one instance to another.
//!
//! Batches are moved between instances, never copied. A batch of an acknowledged stream carries, beside
//! its tuples, the *anchor* of each: which root it belongs to and which edge of that root's tree its
//! delivery is (see `raybolt_core::flow::acks`). Tuples of several roots at once (joins) are rare, so their
//! further anchors lie in a side list.

use std::vec::Drain;

use raybolt_core::ids::RequestId;

use crate::collector::Collector;
use crate::tuple::Tuple;

/// One delivery of a tuple within the tree of one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// The root; zero for a tuple that nobody follows.
    pub(crate) root: u64,
    /// The name of this delivery.
    pub(crate) edge: u64,
}

impl Anchor {
    /// Of a tuple that nobody follows, among others that are followed.
    pub(crate) const NONE: Anchor = Anchor { root: 0, edge: 0 };
}

/// Where a batch comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The number of the edge in the plan.
    pub(crate) edge: u32,
    /// Which instance of the edge's producer sent it.
    pub(crate) instance: u32,
}

/// Tuples on their way to a bolt, which takes them one by one by [`Batch::next`].
#[derive(Debug)]
pub struct Batch<T> {
    /// The next one last: taking it is then the cheapest there is, and the memory can be used again.
    tuples: Vec<T>,
    /// As many as tuples, in the same order, or none.
    anchors: Vec<Anchor>,
    /// Further anchors: (position of the tuple, anchor), ascending.
    more: Vec<(u32, Anchor)>,
    /// How many tuples have been taken.
    taken: u32,
    origin: Origin,
}

/// Empty memory for the next batch.
#[derive(Debug)]
pub(crate) struct Spare<T> {
    pub(crate) tuples: Vec<T>,
    pub(crate) anchors: Vec<Anchor>,
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Spare { tuples: Vec::new(), anchors: Vec::new() }
    }
}

impl<T> Batch<T> {
    pub(crate) fn new(
        mut tuples: Vec<T>,
        mut anchors: Vec<Anchor>,
        more: Vec<(u32, Anchor)>,
        origin: Origin,
    ) -> Self {
        debug_assert!(anchors.is_empty() || anchors.len() == tuples.len());
        tuples.reverse();
        anchors.reverse();
        Batch { tuples, anchors, more, taken: 0, origin }
    }

    /// How many tuples are left in it.
    pub fn len(&self) -> usize {
        self.tuples.len()
    }

    /// Whether all tuples have been taken.
    pub fn is_empty(&self) -> bool {
        self.tuples.is_empty()
    }

    /// The tuples that are left, for a look ahead.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.tuples.iter().rev()
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn is_tracked(&self) -> bool {
        !self.anchors.is_empty()
    }

    /// The memory of a batch that has been worked off.
    pub(crate) fn into_spare(self) -> Spare<T> {
        let mut spare = Spare { tuples: self.tuples, anchors: self.anchors };
        spare.tuples.clear();
        spare.anchors.clear();
        spare
    }

    /// The tuples, their anchors (as many, or none), and further anchors by position; in order.
    pub(crate) fn into_parts(mut self) -> (Vec<T>, Vec<Anchor>, Vec<(u32, Anchor)>) {
        self.tuples.reverse();
        self.anchors.reverse();
        (self.tuples, self.anchors, self.more)
    }

    /// The same batch with each tuple converted; of what cannot be, `refused` gets the error and the
    /// tuple's anchors.
    pub(crate) fn convert<U, E>(
        self,
        mut convert: impl FnMut(T) -> Result<U, E>,
        mut refused: impl FnMut(E, &[Anchor]),
    ) -> Batch<U> {
        let mut tuples = Vec::with_capacity(self.tuples.len());
        let mut anchors = Vec::with_capacity(self.anchors.len());
        let mut more = Vec::new();
        let mut old_anchors = self.anchors.into_iter().rev();
        for (position, tuple) in self.tuples.into_iter().rev().enumerate() {
            let anchor = old_anchors.next();
            let further = self.more.iter().filter(|(at, _)| *at as usize == position);
            let further = further.map(|(_, anchor)| *anchor);
            match convert(tuple) {
                Ok(tuple) => {
                    more.extend(further.map(|anchor| (tuples.len() as u32, anchor)));
                    tuples.push(tuple);
                    anchors.extend(anchor);
                }
                Err(error) => {
                    let all: Vec<Anchor> = anchor.into_iter().chain(further).collect();
                    refused(error, &all);
                }
            }
        }
        Batch::new(tuples, anchors, more, self.origin)
    }
}

impl<T: Tuple> Batch<T> {
    /// Takes the next tuple. What is emitted from now on is anchored to it; the one taken before has
    /// been processed (unless it is [held](Collector::hold)).
    ///
    /// `None` ends the call of [`Bolt::execute_batch`](crate::Bolt::execute_batch), though tuples may be left:
    /// they are offered again when there is room downstream, or it is this instance's turn.
    #[inline]
    pub fn next<O: Tuple>(&mut self, collector: &mut Collector<O>) -> Option<T> {
        let ledger = &mut collector.ledger;
        if ledger.follows() {
            ledger.settle();
        }
        if ledger.fuel == 0 {
            return None;
        }
        let tuple = self.tuples.pop()?;
        ledger.fuel -= 1;
        if ledger.follows() {
            let anchor = self.anchors.pop().unwrap_or(Anchor::NONE);
            ledger.begin(anchor, tuple.request_id(), 1);
            if !self.more.is_empty() {
                let at = self.taken;
                let further = self.more.iter().filter(|(position, _)| *position == at);
                ledger.begin_more(further.map(|(_, anchor)| *anchor));
            }
        }
        self.taken += 1;
        Some(tuple)
    }

    /// Takes the next tuples of one request at once, at most as many as may be taken now; where no
    /// requests are followed, as many as that. They have been processed when the next ones are
    /// taken. (Tuples with anchors come one by one.)
    ///
    /// `None` means the same as for [`next`](Batch::next), and both can be used in turn.
    pub fn next_run<O: Tuple>(&mut self, collector: &mut Collector<O>) -> Option<Run<'_, T>> {
        if self.is_tracked() {
            let before = self.tuples.len();
            let tuple = self.next(collector)?;
            debug_assert_eq!(self.tuples.len(), before - 1);
            self.tuples.push(tuple);
            return Some(Run { tuples: self.tuples.drain(before - 1..) });
        }
        let ledger = &mut collector.ledger;
        if ledger.follows() {
            ledger.settle();
        }
        let limit = self.tuples.len().min(ledger.fuel as usize);
        if limit == 0 {
            return None;
        }
        let row = if ledger.is_coordinated() { self.row(limit) } else { limit };
        if ledger.follows() {
            ledger.begin(Anchor::NONE, self.tuples.last()?.request_id(), row as u32);
        }
        ledger.fuel -= row as u32;
        self.taken += row as u32;
        let rest = self.tuples.len() - row;
        Some(Run { tuples: self.tuples.drain(rest..) })
    }

    /// How many of the next `limit` tuples belong to the first one's request.
    #[inline]
    fn row(&self, limit: usize) -> usize {
        let mut next = self.tuples.iter().rev().take(limit).map(Tuple::request_id);
        let Some(first) = next.next() else { return 0 };
        1 + next.take_while(|request| *request == first).count()
    }
}

/// Tuples that were taken together by [`Batch::next_run`]; at least one.
#[derive(Debug)]
pub struct Run<'b, T> {
    /// The next one last.
    tuples: Drain<'b, T>,
}

impl<T> Run<'_, T> {
    /// The tuples that have not been looked at, the next one last.
    pub fn as_rev_slice(&self) -> &[T] {
        self.tuples.as_slice()
    }
}

impl<T: Tuple> Run<'_, T> {
    /// The request that they belong to, if requests are followed.
    #[inline]
    pub fn request_id(&self) -> Option<RequestId> {
        self.tuples.as_slice().last().and_then(Tuple::request_id)
    }
}

impl<T> Iterator for Run<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.tuples.next_back()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.tuples.size_hint()
    }
}

impl<T> ExactSizeIterator for Run<'_, T> {}
