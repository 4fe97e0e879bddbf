//! Tells when a tuple and all that was derived from it have been processed.
//!
//! # Words
//! A *root* is a tuple emitted by a spout, its *tree* all tuples derived from it. An *edge* is one
//! delivery of one tuple to one instance, named by a random non-zero `u64`. A *report* says which edges
//! appeared or ended: the XOR of their names.
//!
//! # Protocol
//! 1. A spout that emits a root reports the XOR of the edges it sent ([`Acks::emitted`]).
//! 2. An instance that finishes a tuple reports its incoming edge XOR the edges it sent meanwhile
//!    ([`Acks::folded`], many at once).
//! 3. The tracker folds all reports into one word per root. Zero after a fold, with the spout's report
//!    among them: the tree is done ([`AckEffect::Acked`]).
//! 4. An instance that fails a tuple says so in its report ([`Acks::failed`]); the spout is told at once
//!    ([`AckEffect::Failed`]), and the rest of the tree is folded away in silence.
//! 5. A root that is not done at its deadline has failed too ([`Acks::ticked`]).
//!
//! ```text
//! spout --a--> split --b--> count       reports  a, a^b, b       fold  0
//!                    --c--> count       reports  a, a^b^c, c, b  fold  0
//! ```
//!
//! Reports of different instances may arrive in any order, also before the spout's: XOR commutes,
//! and nothing is claimed before the spout has spoken.
//!
//! # Invariants
//! - **ACK-1 (folded once).** A report is folded once for each time it is given; links must not repeat
//!   one. A lost one ends in a timeout.
//! - **ACK-2 (no early zero).** While a delivery is outstanding its edge is in the word once: put there
//!   by who sent it, in the same report that ended what it was derived from, and not yet taken out
//!   by who processes it. So the word is non-zero, but for an accident of chance 2^-64 per fold.
//! - **ACK-3 (bounded).** One word, one deadline and one spout per root, whatever the tree's size; the
//!   queue of deadlines is at most twice as long as there are roots, plus a constant.
//! - **ACK-4 (told once).** A root whose spout reported it ends in exactly one effect: acked, or failed
//!   with the first reason.
//! - **ACK-5 (exact).** A root fails by timeout at the first `ticked` at or after its deadline, never
//!   before. Time does not go back: an earlier `now` counts as the latest seen, so deadlines, which are
//!   `now` plus a constant, are in the order of arrival, and a queue serves where a heap would sort.
//!
//! # Not promised
//! Memory across restarts of the tracker: roots are replayed, so delivery is at least once. Reports
//! of a tree that was already told failed by timeout are kept until a timeout of their own, since
//! they cannot be told from reports that precede their root.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::hash_map::Entry;

use crate::hash::IdMap;
use crate::ids::{InstanceId, RootId};
use crate::plant::{Plant, Plants};

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckEffect {
    /// Tell the spout that the root's tree has been processed.
    Acked {
        /// The root that is done.
        root: RootId,
        /// Who emitted it.
        spout: InstanceId,
    },
    /// Tell the spout that the root's tree has not been processed, so that it may replay it.
    Failed {
        /// The root that failed.
        root: RootId,
        /// Who emitted it.
        spout: InstanceId,
        /// Why it failed.
        reason: FailReason,
    },
}

/// Why a root failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// Its tree was not done within the message timeout.
    Timeout,
    /// An instance failed a tuple of its tree, with this message.
    Failed(Box<str>),
}

/// What is known of one root.
#[derive(Debug)]
struct Record {
    /// The XOR of all reports so far.
    word: u64,
    /// When it times out, in nanoseconds since the tracker's origin. An entry of the queue with
    /// another deadline is stale.
    deadline: u64,
    /// Who emitted it; meaningless while `stage` is `Early`.
    spout: InstanceId,
    stage: Stage,
}

impl Record {
    /// A record that a report began, before the spout's.
    fn early(word: u64, deadline: u64) -> Self {
        Self { word, deadline, spout: InstanceId::default(), stage: Stage::Early }
    }
}

/// Where a root is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Reports came before the spout's; the reason of an early failure waits in `early_failures`.
    Early,
    /// The spout has reported it, and has been told nothing.
    Pending,
    /// The spout has been told that it failed; the record drains or times out.
    Told,
}

/// Follows the trees of acknowledged tuples of one topology; see the [module](self).
///
/// ```
/// use std::time::{Duration, Instant};
/// use raybolt_core::flow::acks::{AckEffect, Acks};
/// use raybolt_core::ids::{InstanceId, RootId};
///
/// # #[allow(clippy::disallowed_methods, reason = "an example stands where a driver would")]
/// let now = Instant::now();
/// let (root, spout) = (RootId(1), InstanceId(0));
/// let mut acks = Acks::new(now, Duration::from_secs(30));
/// acks.emitted(now, spout, &[(root, 0xa)]); // One edge, to a bolt.
/// acks.folded(now, &[(root, 0xa ^ 0xb)]); // That bolt sent one on.
/// assert_eq!(acks.poll_effect(), None);
/// acks.folded(now, &[(root, 0xb)]);
/// assert_eq!(acks.poll_effect(), Some(AckEffect::Acked { root, spout }));
/// ```
#[derive(Debug)]
pub struct Acks {
    /// Deadlines are counted from here, to fit one word.
    origin: Instant,
    /// The latest `now` seen, since `origin`.
    now: u64,
    timeout: u64,
    /// Ids are mixed by their hasher, so sequential and structured roots are as good as random ones.
    records: IdMap<RootId, Record>,
    /// Deadlines in ascending order; some belong to roots that are gone or have got a later one.
    deadlines: VecDeque<(u64, RootId)>,
    /// Messages of failures that arrived before the spout's report: rare, so not in every record.
    early_failures: IdMap<RootId, Box<str>>,
    effects: VecDeque<AckEffect>,
    plants: Plants,
}

/// How many stale deadlines are tolerated before the queue is swept, beside one per root.
const STALE_MAX: usize = 1_024;

impl Acks {
    /// A tracker whose roots fail when they are not done within `message_timeout`.
    ///
    /// `now` is any time not after the first event.
    pub fn new(now: Instant, message_timeout: Duration) -> Self {
        Self {
            origin: now,
            now: 0,
            timeout: nanos(message_timeout),
            records: IdMap::default(),
            deadlines: VecDeque::new(),
            early_failures: IdMap::default(),
            effects: VecDeque::new(),
            plants: Plants::NONE,
        }
    }

    /// A tracker as [`Acks::new`] gives, with bugs.
    #[cfg(feature = "plant")]
    pub fn with_plants(now: Instant, message_timeout: Duration, plants: Plants) -> Self {
        Self { plants, ..Self::new(now, message_timeout) }
    }

    /// `spout` emitted these roots, each with the XOR of the edges it was sent along (zero if nobody
    /// subscribes: such a root is acked at once).
    pub fn emitted(&mut self, now: Instant, spout: InstanceId, roots: &[(RootId, u64)]) {
        self.advance(now);
        for &(root, edges) in roots {
            self.emitted_one(spout, root, edges);
        }
        self.sweep();
    }

    /// Instances finished tuples of these roots; each report is the incoming edge XOR those sent.
    ///
    /// Reports on one root may come already folded into one.
    pub fn folded(&mut self, now: Instant, reports: &[(RootId, u64)]) {
        self.advance(now);
        for &(root, edges) in reports {
            self.fold(root, edges);
        }
        self.sweep();
    }

    /// An instance failed a tuple of this root; `edges` is its report as it would be for a success.
    pub fn failed(&mut self, now: Instant, root: RootId, edges: u64, message: &str) {
        self.advance(now);
        let told = match self.records.get_mut(&root) {
            Some(record) if record.stage == Stage::Pending => {
                record.stage = Stage::Told;
                Some(record.spout)
            }
            Some(record) if record.stage == Stage::Told => None,
            _ => {
                self.early_failures.entry(root).or_insert_with(|| message.into());
                None
            }
        };
        if let Some(spout) = told {
            self.told_failed(root, spout, FailReason::Failed(message.into()));
        }
        self.fold(root, edges);
        self.sweep();
    }

    /// A tuple of this root takes long, but is being worked on: its timeout starts again.
    pub fn extended(&mut self, now: Instant, root: RootId) {
        self.advance(now);
        let deadline = self.deadline();
        match self.records.get_mut(&root) {
            Some(record) if record.deadline != deadline => record.deadline = deadline,
            _ => return,
        }
        self.deadlines.push_back((deadline, root));
        self.sweep();
    }

    /// It is `now`: roots whose deadline has come fail.
    pub fn ticked(&mut self, now: Instant) {
        self.advance(now);
        while let Some(&(deadline, root)) = self.deadlines.front() {
            let stale = self.is_stale(deadline, root);
            if deadline > self.now && !stale {
                break;
            }
            self.deadlines.pop_front();
            if !stale {
                self.timed_out(root);
            }
        }
    }

    /// What the driver has to do next; call until `None`.
    pub fn poll_effect(&mut self) -> Option<AckEffect> {
        self.effects.pop_front()
    }

    /// When to call [`Acks::ticked`] at the latest.
    ///
    /// May name a time at which nothing is left to do, since roots that are done leave the queue of
    /// deadlines lazily; it never names one too late.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.records.is_empty() {
            return None;
        }
        let &(deadline, _) = self.deadlines.front()?;
        // A deadline that the clock cannot express never comes.
        self.origin.checked_add(Duration::from_nanos(deadline))
    }

    /// How many roots have a record: pending ones, ones that fail, and reports without a root.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(nanos(now.saturating_duration_since(self.origin)));
    }

    /// The hot path of spouts: one look-up, which is the insertion.
    fn emitted_one(&mut self, spout: InstanceId, root: RootId, edges: u64) {
        let deadline = self.deadline();
        match self.records.entry(root) {
            Entry::Vacant(_) if edges == 0 || self.plants.has(Plant::AckEarly) => {
                self.acked(root, spout);
            }
            Entry::Vacant(entry) => {
                entry.insert(Record { word: edges, deadline, spout, stage: Stage::Pending });
                self.deadlines.push_back((deadline, root));
            }
            Entry::Occupied(mut entry) => {
                let record = entry.get_mut();
                let word = record.word ^ edges;
                // What counts is when the spout emitted, not when the first report came.
                let is_later = record.deadline != deadline;
                *record = Record { word, deadline, spout, stage: Stage::Pending };
                if is_later {
                    self.deadlines.push_back((deadline, root));
                }
                self.emitted_late(root, spout, word == 0);
            }
        }
    }

    /// The spout's report came after others.
    fn emitted_late(&mut self, root: RootId, spout: InstanceId, drained: bool) {
        let failure = self.early_failures.remove(&root);
        if drained {
            self.records.remove(&root);
        } else if let (Some(_), Some(record)) = (&failure, self.records.get_mut(&root)) {
            record.stage = Stage::Told;
        }
        match failure {
            Some(message) => self.told_failed(root, spout, FailReason::Failed(message)),
            None if drained => self.acked(root, spout),
            None => {}
        }
    }

    /// The hot path of bolts: one look-up and one XOR, for the last report of a tree also a removal.
    #[inline]
    fn fold(&mut self, root: RootId, edges: u64) {
        let deadline = self.deadline();
        match self.records.entry(root) {
            Entry::Vacant(entry) => {
                entry.insert(Record::early(edges, deadline));
                self.deadlines.push_back((deadline, root));
            }
            Entry::Occupied(mut entry) => {
                let record = entry.get_mut();
                record.word ^= edges;
                // Zero without the spout's report says nothing: it is still to be folded.
                if record.word != 0 || record.stage == Stage::Early {
                    return;
                }
                let record = entry.remove();
                // Roots are mostly done in their order: then no sweep is needed.
                if self.deadlines.front().is_some_and(|&(_, first)| first == root) {
                    self.deadlines.pop_front();
                }
                if record.stage == Stage::Pending {
                    self.acked(root, record.spout);
                }
            }
        }
    }

    fn acked(&mut self, root: RootId, spout: InstanceId) {
        self.effects.push_back(AckEffect::Acked { root, spout });
        if self.plants.has(Plant::AckTwice) {
            self.effects.push_back(AckEffect::Acked { root, spout });
        }
    }

    fn timed_out(&mut self, root: RootId) {
        let Some(record) = self.records.remove(&root) else { return };
        match record.stage {
            Stage::Pending if self.plants.has(Plant::LoseReplay) => {}
            Stage::Pending => self.told_failed(root, record.spout, FailReason::Timeout),
            Stage::Early => {
                self.early_failures.remove(&root);
            }
            Stage::Told => {}
        }
    }

    fn told_failed(&mut self, root: RootId, spout: InstanceId, reason: FailReason) {
        self.effects.push_back(AckEffect::Failed { root, spout, reason });
    }

    /// When a root that is emitted now times out.
    fn deadline(&self) -> u64 {
        self.now.saturating_add(self.timeout)
    }

    fn is_stale(&self, deadline: u64, root: RootId) -> bool {
        self.records.get(&root).is_none_or(|record| record.deadline != deadline)
    }

    /// Keeps ACK-3: a sweep drops at least half of the queue, so each deadline is swept about once.
    fn sweep(&mut self) {
        if self.deadlines.len() > 2 * self.records.len() + STALE_MAX {
            let records = &self.records;
            self.deadlines.retain(|&(deadline, root)| {
                records.get(&root).is_some_and(|record| record.deadline == deadline)
            });
        }
    }
}

/// In nanoseconds; what exceeds 584 years is never.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
