//! What an instance writes down while it works, and reports once per slice.
//!
//! The ledger stands between user code and the machines that follow trees and requests. Per tuple it
//! only changes a few words of its own memory; the machines' locks are taken once per slice
//! ([`Ledger::report`]). In a topology that is neither acknowledged nor coordinated, nothing is written
//! at all: [`Ledger::follows`] is false, and that is the only cost.
//!
//! # Words
//! The *current* tuple is the one that the bolt took last; what it emits is derived from it. A tuple is
//! *settled* when it has been processed, failed, or [held](crate::Collector::hold).
//! A *run* is what was done for one request, as long as the instance stays with it.
//!
//! # Invariants
//! - **LEDGER-1 (sent before processed).** What was sent for a request because of a tuple is written in
//!   the run that counts the tuple as processed, or in an earlier one (BATCH-1).
//! - **LEDGER-2 (one report per root in a row).** Folds of the same root in a row are one.

mod row;

use std::sync::Arc;

use raybolt_core::flow::acks::Acks;
use raybolt_core::flow::batches::{Batches, FinishDone, Report, Sent};
use raybolt_core::hash::SplitMix;
use raybolt_core::ids::{ComponentIndex, InstanceId, RequestId, RootId};

use crate::batch::Anchor;
use crate::shared::{Place, Shared};
use crate::stats::Counters;
use crate::task::Task;

pub(crate) use row::Row;

pub(crate) struct Ledger {
    /// How many tuples may still be taken in this slice; zero stops the bolt.
    pub(crate) fuel: u32,
    /// Whether anything follows the current tuple or batch.
    follows: bool,
    /// Whether the topology is coordinated: then every tuple's request is looked at.
    coordinated: bool,
    /// Whether output waits for room downstream: then nothing more is taken.
    pub(crate) blocked: bool,
    pub(crate) counters: Counters,
    pub(crate) place: Place,
    pub(crate) task: Arc<Task>,
    pub(crate) shared: Arc<Shared>,
    current: Current,
    chance: SplitMix,
    folds: Vec<(RootId, u64)>,
    failures: Vec<(RootId, u64, Arc<str>)>,
    /// For spouts: who they are, and the roots they emitted.
    pub(crate) spout: InstanceId,
    pub(crate) roots: Vec<(RootId, u64)>,
    run: Run,
    entries: Vec<Entry>,
    sent: Vec<Sent>,
    request_failures: Vec<(RequestId, Arc<str>)>,
    /// Why the bolt's state is lost, if it panicked in this slice: with it, that of all requests.
    pub(crate) state_lost: Option<String>,
    /// Requests that a spout has brought in and does not want any more.
    pub(crate) cancelled: Vec<(RequestId, Arc<str>)>,
    /// Instances that got a batch at the end of this slice.
    pub(crate) roused: Option<Arc<Task>>,
    /// Where reports go, if the machines that follow trees and requests are in another process.
    pub(crate) relay: Option<Relay>,
}

/// What an instance has done whose machines are in another process. Roots are what the tuples are
/// called there.
#[derive(Default)]
pub(crate) struct Relay {
    pub(crate) acked: Vec<u64>,
    pub(crate) failed: Vec<(u64, String)>,
    pub(crate) state_lost: Option<String>,
    /// Why a request failed, if only one was worked on.
    pub(crate) request_failure: Option<String>,
}

/// The tuple that was taken last.
#[derive(Default)]
struct Current {
    /// Whether there is one that is not settled.
    open: bool,
    held: bool,
    /// Its root; zero if nobody follows it.
    root: u64,
    /// Its edge, XOR the edges of what was emitted because of it.
    word: u64,
    /// The same for its further roots.
    more: Vec<(u64, u64)>,
    request: Option<RequestId>,
    /// How many tuples were taken with it, itself included: of one request, and without roots.
    count: u32,
}

/// What was done for one request lately.
struct Run {
    request: RequestId,
    kind: Kind,
    processed: u32,
    dirty: bool,
    /// One entry per downstream component.
    sent: Box<[Sent]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Tuples were processed.
    Work,
    /// A spout brought the request in.
    Open,
    /// The bolt's `finished` was called.
    Finish,
}

/// A run that is over.
struct Entry {
    request: RequestId,
    kind: Kind,
    processed: u32,
    /// Where its part of [`Ledger::sent`] ends.
    sent_end: u32,
}

/// A tuple that was set aside: what follows it.
#[derive(Debug)]
pub(crate) struct Kept {
    /// (root, edge XOR edges emitted so far).
    pub(crate) roots: Vec<(u64, u64)>,
    pub(crate) request: Option<RequestId>,
    /// How many tuples of the request.
    pub(crate) count: u32,
}

/// What [`Ledger::adopt`] set aside.
pub(crate) struct Adopting {
    saved: Current,
    followed: bool,
}

impl Ledger {
    pub(crate) fn new(
        place: Place,
        task: Arc<Task>,
        shared: Arc<Shared>,
        spout: InstanceId,
        downstream: &[ComponentIndex],
        seed: u64,
    ) -> Self {
        let sent = downstream.iter().map(|&to| Sent { to, count: 0 }).collect();
        let coordinated = shared.is_coordinated();
        Ledger {
            fuel: 0,
            follows: coordinated,
            coordinated,
            blocked: false,
            counters: Counters::default(),
            place,
            task,
            shared,
            current: Current::default(),
            chance: SplitMix::new(seed),
            folds: Vec::new(),
            failures: Vec::new(),
            spout,
            roots: Vec::new(),
            run: Run { request: RequestId(0), kind: Kind::Work, processed: 0, dirty: false, sent },
            entries: Vec::new(),
            sent: Vec::new(),
            request_failures: Vec::new(),
            state_lost: None,
            cancelled: Vec::new(),
            roused: None,
            relay: None,
        }
    }

    /// Whether what the instance does with tuples has to be written down.
    #[inline]
    pub(crate) fn follows(&self) -> bool {
        self.follows
    }

    /// Whether the topology is coordinated.
    pub(crate) fn is_coordinated(&self) -> bool {
        self.coordinated
    }

    /// The next tuples come from a batch that is followed, or is not.
    pub(crate) fn turn_to(&mut self, tracked: bool) {
        self.follows = tracked || self.coordinated;
    }

    /// Output has to wait: nothing more is taken until there is room.
    pub(crate) fn block(&mut self) {
        self.blocked = true;
        self.fuel = 0;
    }

    /// Whether what is emitted now needs no anchors.
    #[inline]
    pub(crate) fn is_unanchored(&self) -> bool {
        self.current.root == 0 || !self.current.open
    }

    /// A tuple was taken; or, if it has no root, several of its request at once.
    #[inline]
    pub(crate) fn begin(&mut self, anchor: Anchor, request: Option<RequestId>, count: u32) {
        let current = &mut self.current;
        current.open = true;
        current.count = count;
        current.root = anchor.root;
        current.word = anchor.edge;
        current.request = request;
    }

    /// The tuple that was taken has further roots.
    pub(crate) fn begin_more(&mut self, anchors: impl Iterator<Item = Anchor>) {
        self.current.more.extend(anchors.map(|anchor| (anchor.root, anchor.edge)));
    }

    /// The current tuple, if there is one, has been processed.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if !self.current.open {
            return;
        }
        self.current.open = false;
        if self.current.held {
            self.current.held = false;
            return;
        }
        if self.current.root != 0 {
            self.counters.acked += 1;
            self.fold(self.current.root, self.current.word);
            while let Some((root, word)) = self.current.more.pop() {
                self.fold(root, word);
            }
        }
        if let Some(request) = self.current.request {
            self.processed(request, self.current.count);
        }
    }

    /// The current tuple has failed; says whether there was one.
    pub(crate) fn settle_failed(&mut self, message: &str) -> bool {
        if !std::mem::take(&mut self.current.open) || std::mem::take(&mut self.current.held) {
            return false;
        }
        let kept = self.keep();
        self.current.more.clear();
        self.fail(kept, message);
        true
    }

    /// Sets the current tuple aside: it is settled when the keeper says so.
    pub(crate) fn hold(&mut self) -> Kept {
        if !self.current.open || std::mem::replace(&mut self.current.held, true) {
            return Kept { roots: Vec::new(), request: None, count: 0 };
        }
        let kept = self.keep();
        self.current.more.clear();
        self.current.root = 0; // What is emitted from now on is anchored by the keeper.
        kept
    }

    fn keep(&self) -> Kept {
        let Current { request, count, .. } = self.current;
        Kept { roots: self.current_roots(), request, count }
    }

    fn current_roots(&self) -> Vec<(u64, u64)> {
        let first = (self.current.root != 0).then_some((self.current.root, self.current.word));
        first.into_iter().chain(self.current.more.iter().copied()).collect()
    }

    /// A tuple that was set aside has been processed.
    pub(crate) fn ack(&mut self, kept: Kept) {
        if !kept.roots.is_empty() {
            self.counters.acked += 1;
        }
        for (root, word) in kept.roots {
            self.fold(root, word);
        }
        if let Some(request) = kept.request {
            self.processed(request, kept.count);
        }
    }

    /// A tuple that was set aside has failed.
    pub(crate) fn fail(&mut self, kept: Kept, message: &str) {
        let message: Arc<str> = message.into();
        self.counters.failed += 1;
        for (root, word) in kept.roots {
            self.failures.push((RootId(root), word, message.clone()));
        }
        if let Some(request) = kept.request {
            self.request_failures.push((request, message));
            self.processed(request, kept.count);
        }
    }

    /// Anchors what is emitted until [`Ledger::release`] to these (root, word)s alone.
    pub(crate) fn adopt(&mut self, mut roots: impl Iterator<Item = (u64, u64)>) -> Adopting {
        let (root, word) = roots.next().unwrap_or_default();
        let current =
            Current { open: true, root, word, more: roots.collect(), ..Current::default() };
        let saved = std::mem::replace(&mut self.current, current);
        Adopting { saved, followed: std::mem::replace(&mut self.follows, true) }
    }

    /// Gives back what [`Ledger::adopt`] took, in the same order, with the words of what was emitted.
    pub(crate) fn release(&mut self, adopting: Adopting) -> impl Iterator<Item = (u64, u64)> {
        self.follows = adopting.followed;
        let adopted = std::mem::replace(&mut self.current, adopting.saved);
        std::iter::once((adopted.root, adopted.word)).chain(adopted.more)
    }

    /// A tuple is on its way to one instance. The anchors that it carries: the first, and whether
    /// there are more (for [`Ledger::more_edges`]).
    #[inline]
    pub(crate) fn sends(&mut self, slot: usize, request: Option<RequestId>) -> (Anchor, bool) {
        if self.coordinated
            && let Some(request) = request
        {
            self.turn_run(request, Kind::Work);
            self.run.sent[slot].count += 1;
        }
        if self.is_unanchored() {
            return (Anchor::NONE, false);
        }
        let current = &mut self.current;
        let edge = self.chance.next_nonzero();
        current.word ^= edge;
        (Anchor { root: current.root, edge }, !current.more.is_empty())
    }

    /// One more edge for each further root of the current tuple.
    pub(crate) fn more_edges(&mut self) -> impl Iterator<Item = Anchor> {
        let chance = &mut self.chance;
        self.current.more.iter_mut().map(|(root, word)| {
            let edge = chance.next_nonzero();
            *word ^= edge;
            Anchor { root: *root, edge }
        })
    }

    /// A spout is about to emit a tuple that it wants followed, or not.
    #[inline]
    pub(crate) fn begin_root(&mut self, root: u64) {
        self.follows = true;
        self.current.open = true;
        self.current.root = root;
        self.current.word = 0;
    }

    /// The spout has emitted it.
    #[inline]
    pub(crate) fn end_root(&mut self) {
        if !self.current.open {
            return;
        }
        self.current.open = false;
        self.follows = self.coordinated;
        self.roots.push((RootId(self.current.root), self.current.word));
    }

    /// The spout panicked; if it was about to emit a tuple that it wants followed, that one has failed: an edge that
    /// nobody gets keeps its tree from being done.
    pub(crate) fn fail_root(&mut self, message: &str) {
        if self.current.open {
            let edge = self.chance.next_nonzero();
            self.current.word ^= edge;
            self.failures.push((RootId(self.current.root), edge, message.into()));
            self.end_root();
        }
    }

    /// The spout is about to emit tuples of a request that it brings in.
    #[inline]
    pub(crate) fn begin_request(&mut self, request: RequestId) {
        self.turn_run(request, Kind::Open);
    }

    /// What is emitted until [`Ledger::settle_finish`] belongs to runs of its own.
    pub(crate) fn begin_finish(&mut self) {
        self.close_run();
    }

    /// The bolt has finished the request, or failed to: written down after all that it sent meanwhile, in
    /// whatever order it emitted for this and other requests (BATCH-1).
    pub(crate) fn settle_finish(&mut self, request: RequestId, failure: Option<&str>) {
        if let Some(message) = failure {
            self.request_failures.push((request, message.into()));
        }
        let run = &self.run;
        if !(run.dirty && run.request == request && run.processed == 0) {
            self.close_run();
            self.run.request = request;
            self.run.dirty = true;
        }
        self.run.kind = Kind::Finish;
        self.close_run();
    }

    #[inline]
    fn processed(&mut self, request: RequestId, count: u32) {
        if self.coordinated {
            self.turn_run(request, Kind::Work);
            self.run.processed += count;
        }
    }

    #[inline]
    fn turn_run(&mut self, request: RequestId, kind: Kind) {
        if self.run.request != request || !self.run.dirty {
            self.close_run();
            self.run.request = request;
            self.run.kind = kind;
            self.run.dirty = true;
        }
    }

    fn close_run(&mut self) {
        let run = &mut self.run;
        if !std::mem::take(&mut run.dirty) {
            return;
        }
        for sent in &mut run.sent {
            if sent.count > 0 {
                self.sent.push(*sent);
                sent.count = 0;
            }
        }
        self.entries.push(Entry {
            request: run.request,
            kind: run.kind,
            processed: std::mem::take(&mut run.processed),
            sent_end: self.sent.len() as u32,
        });
    }

    #[inline]
    fn fold(&mut self, root: u64, word: u64) {
        match self.folds.last_mut() {
            Some((last, folded)) if last.0 == root => *folded ^= word,
            _ => self.folds.push((RootId(root), word)),
        }
    }

    /// The slice is over: tells the machines what was written down.
    pub(crate) fn report(&mut self) {
        self.close_run();
        if self.relay.is_some() {
            return self.report_to_relay();
        }
        if !(self.folds.is_empty() && self.failures.is_empty() && self.roots.is_empty()) {
            let (spout, folds, roots) = (self.spout, &self.folds, &self.roots);
            let failures = &self.failures;
            self.shared.track(|acks: &mut Acks, now| {
                if !roots.is_empty() {
                    acks.emitted(now, spout, roots);
                }
                acks.folded(now, folds);
                for (root, word, message) in failures {
                    acks.failed(now, *root, *word, message);
                }
            });
            self.folds.clear();
            self.roots.clear();
            self.failures.clear();
        }
        let lost = self.state_lost.take();
        if !(self.entries.is_empty() && self.cancelled.is_empty() && lost.is_none()) {
            let Self { place, entries, sent, request_failures, cancelled, .. } = self;
            self.shared.coordinate(|batches| {
                tell(batches, *place, entries, sent, request_failures);
                if let Some(message) = lost {
                    batches.state_lost(place.component, place.instance, &message);
                }
                // Last: what was brought in a moment ago can be cancelled, too.
                for (request, reason) in cancelled.drain(..) {
                    batches.cancelled(request, &reason);
                }
            });
            self.entries.clear();
            self.sent.clear();
            self.request_failures.clear();
        }
    }

    /// The bolt's state is gone, and with it that of the requests it has seen until now: not of those whose
    /// tuples were worked on since, as when a process took over from one that died.
    pub(crate) fn lose_state(&mut self, message: &str) {
        self.report();
        let Place { component, instance } = self.place;
        self.shared.coordinate(|batches| batches.state_lost(component, instance, message));
    }

    fn report_to_relay(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        relay.acked.extend(self.folds.drain(..).map(|(root, _)| root.0));
        let failures = self.failures.drain(..);
        relay.failed.extend(failures.map(|(root, _, message)| (root.0, message.to_string())));
        relay.state_lost = self.state_lost.take().or(relay.state_lost.take());
        if let Some((_, message)) = self.request_failures.drain(..).next_back() {
            relay.request_failure = Some(message.to_string());
        }
        // Its tuples carry them.
        self.roots.clear();
        self.entries.clear();
        self.sent.clear();
    }
}

/// Failures first: what failed is still due, so the record is there.
fn tell(
    batches: &mut Batches,
    place: Place,
    entries: &[Entry],
    all_sent: &[Sent],
    failures: &[(RequestId, Arc<str>)],
) {
    for (request, message) in failures {
        batches.failed(*request, message);
    }
    let Place { component, instance } = place;
    let mut sent_start = 0;
    for entry in entries {
        let Entry { request, kind, processed, sent_end } = *entry;
        let sent = &all_sent[sent_start..sent_end as usize];
        sent_start = sent_end as usize;
        match kind {
            Kind::Work => {
                batches.reported(Report { request, component, instance, processed, sent });
            }
            Kind::Open => batches.opened(request, sent),
            Kind::Finish => batches.finished(FinishDone { request, component, instance, sent }),
        }
    }
}
