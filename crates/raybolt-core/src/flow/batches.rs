//! Tells when a component has seen everything of one request, by counting, over any acyclic graph.
//!
//! # Words
//! A *request* is a group of tuples that belong together, as those of one DRPC call. A *delivery* is one
//! tuple to one instance. An instance *reports*, after a batch of work, how many deliveries of
//! a request it processed and how many it sent to each component. A component is *closed* for a request
//! when nothing of it will ever come out of it again; *drained* when nothing is on the way to it.
//! A component that wants it is told to *finish* a request: each instance that saw some of it, or, if
//! none did, its *home* instance (`request % instances`), calls the bolt's `finished`.
//!
//! # Protocol
//! 1. Who brings a request in says what it sent ([`Batches::opened`]). For this request all spouts are
//!    closed from then on.
//! 2. An instance reports what it processed and what it sent meanwhile, *in one report*
//!    ([`Batches::reported`]).
//! 3. A component whose upstream components are all closed, and to which as many deliveries were sent
//!    as it processed, is told to finish ([`BatchEffect::Finish`]) if it wants it; else it is closed.
//! 4. An instance that has finished says so, with what it sent ([`Batches::finished`]). After the
//!    last one the component is closed, and the next ones are looked at.
//! 5. When all are closed the request is complete ([`BatchEffect::Completed`]), its record dropped.
//! 6. A failure ([`Batches::failed`]) is told at once ([`BatchEffect::Failed`]). Counting goes on, but nobody
//!    is told to finish any more. When all is drained, the instances that saw some of the request
//!    and did not finish it are told to give up what they hold ([`BatchEffect::Abandon`]), and the record
//!    is dropped.
//!
//! ```text
//! opened       sent 1 to split
//! split        processed 1, sent 2 to count      split: 1 - 1 = 0, upstream closed: closed
//! count.0      processed 1                       count: 2 - 1 = 1
//! count.1      processed 1                       count: 0, upstream closed: finish count.0, count.1
//! count.0, .1  finished, sent 1 each             count: closed, the next is looked at
//! ```
//!
//! # Why it is never early
//! Reports of different instances arrive in any order: `processed` may be counted before the `sent` that
//! caused it, so the balance of a component (sent − processed) may be negative for a while. Yet a component is
//! not called drained early. Take components in topological order, and assume it for all upstream of
//! one. They are closed, so they had no delivery left, and all that they processed or finished had been
//! reported; each such report carried what was sent for it. So all deliveries to this component have been
//! counted as sent, the balance is exactly the deliveries not yet reported as processed, and it is
//! zero only when there are none.
//!
//! # Invariants
//! - **BATCH-1 (reported together).** A delivery is counted as processed in the same report as all that
//!   was sent because of it. The proof above rests on it.
//! - **BATCH-2 (counted once).** A report is folded once; links neither lose nor repeat one. (The loss of a worker
//!   fails its requests; the drivers then use a new machine.)
//! - **BATCH-3 (finish after all).** `Finish` for a component comes after all of its deliveries were processed,
//!   and once per instance.
//! - **BATCH-4 (one end).** A request that was opened ends in exactly one of `Completed` and `Failed`.
//! - **BATCH-5 (nothing stays).** A record is dropped when its last delivery and its last finish have been
//!   reported, also after a failure. With nothing in flight the machine is empty.
//! - **BATCH-6 (cost).** A report costs its own length; a request its components, plus the instances that saw some
//!   of it (and one bit per instance of components that want to finish). Never instances × instances.
//!
//! # Not promised
//! That a failed request stops its tuples: they drain. Order of effects between requests. A cancel
//! that comes before `opened` or after the end finds nothing and says so.

use std::collections::VecDeque;

use crate::hash::IdMap;
use crate::ids::{ComponentIndex, InstanceIndex, RequestId};
use crate::plant::{Plant, Plants};

/// A component, as this machine needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchComponent {
    /// How many instances it has; not zero.
    pub instances: u32,
    /// Whether it is a spout: requests enter here, and it processes no deliveries.
    pub spout: bool,
    /// Whether its instances are told to finish and to abandon requests.
    pub wants_finished: bool,
    /// The components that subscribe to it, each once.
    pub downstream: Vec<ComponentIndex>,
}

/// A number of deliveries to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The component that they go to; a subscriber of the sender.
    pub to: ComponentIndex,
    /// How many: a tuple that goes to three instances counts three times.
    pub count: u32,
}

/// What one instance did for one request since its last report on it.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The request.
    pub request: RequestId,
    /// The component whose instance reports.
    pub component: ComponentIndex,
    /// The instance that reports.
    pub instance: InstanceIndex,
    /// How many deliveries it processed; failed ones count as well.
    pub processed: u32,
    /// What it sent because of them; a component may occur more than once.
    pub sent: &'a [Sent],
}

/// An instance's call of `finished` has returned.
#[derive(Clone, Copy, Debug)]
pub struct FinishDone<'a> {
    /// The request that was finished.
    pub request: RequestId,
    /// The component whose instance finished it.
    pub component: ComponentIndex,
    /// The instance that finished it.
    pub instance: InstanceIndex,
    /// What it sent while finishing.
    pub sent: &'a [Sent],
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchEffect {
    /// Let the instance finish the request, then say so by [`Batches::finished`].
    Finish {
        /// The request that the instance has seen all of.
        request: RequestId,
        /// The component of the instance.
        component: ComponentIndex,
        /// The instance to tell.
        instance: InstanceIndex,
    },
    /// Let the instance drop what it holds of the request; nothing more of it will come.
    Abandon {
        /// The request that failed.
        request: RequestId,
        /// The component of the instance.
        component: ComponentIndex,
        /// The instance to tell.
        instance: InstanceIndex,
    },
    /// Everything of the request has been processed.
    Completed {
        /// The request that is complete.
        request: RequestId,
    },
    /// The request failed; told at once, while its tuples still drain.
    Failed {
        /// The request that failed.
        request: RequestId,
        /// The first reason that was given.
        message: Box<str>,
    },
}

/// What is known of one component for one request.
#[derive(Clone, Copy, Debug)]
struct Stage {
    /// Deliveries counted as sent, less those counted as processed; negative while a report of
    /// the sender is late.
    outstanding: i64,
    /// Upstream components that are not closed; the spouts together count as one.
    upstream_open: u16,
    phase: Phase,
    /// Instances that were told to finish and have not said that they did.
    finishing: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Finishing,
    Closed,
}

/// What is known of one request, beside its stages.
#[derive(Clone, Copy, Debug)]
struct Record {
    request: RequestId,
    /// Components that are not closed.
    open: u16,
    opened: bool,
    failed: bool,
}

/// The parts of a component that are the same for all requests.
#[derive(Debug)]
struct Fixed {
    instances: u32,
    /// Where its bits begin among a record's words, if it wants to finish.
    bits: Option<usize>,
    downstream: Box<[ComponentIndex]>,
}

/// Counts the deliveries of requests; see the [module](self).
///
/// Records live in a slab, side by side with their stages and bits in two flat arrays, so a request costs no
/// allocation once the arrays have grown to the number of requests in flight.
#[derive(Debug)]
pub struct Batches {
    components: Box<[Fixed]>,
    /// The stages of a request that has just begun, copied into each new record.
    fresh: Box<[Stage]>,
    /// Components that subscribe to a spout: they wait for `opened`.
    entered: Box<[ComponentIndex]>,
    /// How many words of bits a record has.
    words: usize,
    slots: IdMap<RequestId, u32>,
    records: Vec<Record>,
    stages: Vec<Stage>,
    /// Which instances saw some of a request and have not finished it, one bit each.
    touched: Vec<u64>,
    free: Vec<u32>,
    /// Components to look at, while closing goes down the graph; empty between events.
    closing: Vec<ComponentIndex>,
    effects: VecDeque<BatchEffect>,
    plants: Plants,
}

impl Batches {
    /// A machine for this graph, which must be acyclic (see [`crate::flow::graph::Plan::batches`]).
    ///
    /// # Panics
    /// If a component has no instances, or `downstream` names one that does not exist.
    pub fn new(components: &[BatchComponent]) -> Self {
        let mut fresh: Vec<Stage> = components.iter().map(fresh_stage).collect();
        let mut entered = Vec::new();
        for component in components {
            for &to in &component.downstream {
                if !component.spout {
                    fresh[to.index()].upstream_open += 1;
                } else if !entered.contains(&to) {
                    fresh[to.index()].upstream_open += 1;
                    entered.push(to);
                }
            }
        }
        let mut words = 0;
        let fixed = components.iter().map(|component| fixed(component, &mut words)).collect();
        Self {
            components: fixed,
            fresh: fresh.into_boxed_slice(),
            entered: entered.into_boxed_slice(),
            words,
            slots: IdMap::default(),
            records: Vec::new(),
            stages: Vec::new(),
            touched: Vec::new(),
            free: Vec::new(),
            closing: Vec::new(),
            effects: VecDeque::new(),
            plants: Plants::NONE,
        }
    }

    /// A machine as [`Batches::new`] gives, with bugs.
    #[cfg(feature = "plant")]
    pub fn with_plants(components: &[BatchComponent], plants: Plants) -> Self {
        Self { plants, ..Self::new(components) }
    }

    /// A request came in, and this was sent for it; nothing more will be from outside the graph.
    ///
    /// Reports on it may have come before. A request that is open must not be opened again.
    pub fn opened(&mut self, request: RequestId, sent: &[Sent]) {
        let slot = self.slot(request);
        let record = &mut self.records[slot];
        assert!(!record.opened, "request {request} is opened once");
        record.opened = true;
        self.count_sent(slot, sent);
        for position in 0..self.entered.len() {
            self.upstream_closed(slot, self.entered[position]);
        }
        self.close_all(slot);
    }

    /// An instance processed deliveries of a request, and sent some because of them.
    pub fn reported(&mut self, report: Report<'_>) {
        let Report { request, component, instance, processed, sent } = report;
        let slot = self.slot(request);
        self.count_sent(slot, sent);
        let stage = self.stage(slot, component);
        stage.outstanding -= i64::from(processed);
        let drained = stage.outstanding == 0 && stage.upstream_open == 0;
        if let Some((word, bit)) = self.bit(slot, component, instance) {
            self.touched[word] |= bit;
        }
        if drained || self.plants.has(Plant::FinishEarly) {
            self.closing.push(component);
            self.close_all(slot);
        }
    }

    /// An instance that was told to finish a request has done so.
    ///
    /// An instance that was not told, or has said so before, is not heard.
    pub fn finished(&mut self, done: FinishDone<'_>) {
        let FinishDone { request, component, instance, sent } = done;
        let Some(&slot) = self.slots.get(&request) else { return };
        let slot = slot as usize;
        let Some((word, bit)) = self.bit(slot, component, instance) else { return };
        if self.stage(slot, component).phase != Phase::Finishing || self.touched[word] & bit == 0 {
            return;
        }
        // The bit goes, so that a later failure does not abandon what is finished.
        self.touched[word] &= !bit;
        self.count_sent(slot, sent);
        let stage = self.stage(slot, component);
        stage.finishing -= 1;
        if stage.finishing == 0 {
            self.closed(slot, component);
            self.close_all(slot);
        }
    }

    /// An instance failed a delivery of this request, or its call of `finished`.
    ///
    /// To be told before the report (or finish) of what failed, which is due all the same: so the
    /// record is still there, or will be opened. Reasons after the first are not told.
    pub fn failed(&mut self, request: RequestId, message: &str) {
        let slot = self.slot(request);
        self.fail(slot, message);
    }

    /// A request is not wanted any more: its client left, or its deadline came.
    ///
    /// As [`Batches::failed`], but for a request that is not (or no more) open nothing happens, and `false` is
    /// returned.
    pub fn cancelled(&mut self, request: RequestId, reason: &str) -> bool {
        let Some(&slot) = self.slots.get(&request) else { return false };
        self.fail(slot as usize, reason);
        true
    }

    /// What the driver has to do next; call until `None`.
    pub fn poll_effect(&mut self) -> Option<BatchEffect> {
        self.effects.pop_front()
    }

    /// How many requests have a record: open ones, failed ones that drain, ones not yet opened.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The slot of the request's record, begun now if there is none.
    #[inline]
    fn slot(&mut self, request: RequestId) -> usize {
        match self.slots.get(&request) {
            Some(&slot) => slot as usize,
            None => self.begin(request),
        }
    }

    fn begin(&mut self, request: RequestId) -> usize {
        let open = self.fresh.iter().filter(|stage| stage.phase == Phase::Open).count() as u16;
        let record = Record { request, open, opened: false, failed: false };
        let slot = match self.free.pop() {
            Some(slot) => {
                let slot = slot as usize;
                let first = slot * self.fresh.len();
                self.stages[first..first + self.fresh.len()].copy_from_slice(&self.fresh);
                self.records[slot] = record;
                slot
            }
            None => {
                self.stages.extend_from_slice(&self.fresh);
                self.touched.resize(self.touched.len() + self.words, 0);
                self.records.push(record);
                self.records.len() - 1
            }
        };
        self.slots.insert(request, slot as u32);
        slot
    }

    #[inline]
    fn stage(&mut self, slot: usize, component: ComponentIndex) -> &mut Stage {
        &mut self.stages[slot * self.fresh.len() + component.index()]
    }

    /// The word and mask of an instance's bit, if its component wants to finish.
    #[inline]
    fn bit(
        &self,
        slot: usize,
        at: ComponentIndex,
        instance: InstanceIndex,
    ) -> Option<(usize, u64)> {
        let fixed = &self.components[at.index()];
        debug_assert!(instance.0 < fixed.instances, "instances are numbered from 0");
        let first = slot * self.words + fixed.bits?;
        Some((first + instance.index() / 64, 1 << (instance.0 % 64)))
    }

    #[inline]
    fn count_sent(&mut self, slot: usize, sent: &[Sent]) {
        for &Sent { to, count } in sent {
            self.stage(slot, to).outstanding += i64::from(count);
        }
    }

    fn fail(&mut self, slot: usize, message: &str) {
        let record = &mut self.records[slot];
        if record.failed {
            return;
        }
        record.failed = true;
        let (request, message) = (record.request, message.into());
        self.effects.push_back(BatchEffect::Failed { request, message });
    }

    /// One more upstream component of `component` is closed.
    fn upstream_closed(&mut self, slot: usize, component: ComponentIndex) {
        let stage = self.stage(slot, component);
        stage.upstream_open -= 1;
        if stage.upstream_open == 0 {
            self.closing.push(component);
        }
    }

    /// Looks at the components in `closing` until none is left, then at the request as a whole.
    fn close_all(&mut self, slot: usize) {
        while let Some(component) = self.closing.pop() {
            self.look_at(slot, component);
        }
        let record = self.records[slot];
        if record.open == 0 && record.opened {
            self.end(slot, record);
        }
    }

    /// Finishes or closes `component`, if it is drained.
    fn look_at(&mut self, slot: usize, component: ComponentIndex) {
        let early = self.plants.has(Plant::FinishEarly);
        let failed = self.records[slot].failed;
        let stage = self.stage(slot, component);
        let drained = stage.outstanding == 0 || (early && stage.outstanding == 1);
        if stage.phase != Phase::Open || stage.upstream_open != 0 || !drained {
            return;
        }
        if failed || self.components[component.index()].bits.is_none() {
            self.closed(slot, component);
        } else {
            self.finish(slot, component);
        }
    }

    fn closed(&mut self, slot: usize, component: ComponentIndex) {
        self.stage(slot, component).phase = Phase::Closed;
        self.records[slot].open -= 1;
        for position in 0..self.components[component.index()].downstream.len() {
            let to = self.components[component.index()].downstream[position];
            self.upstream_closed(slot, to);
        }
    }

    /// Tells the instances that saw some of the request, or the home instance, to finish it.
    fn finish(&mut self, slot: usize, component: ComponentIndex) {
        let request = self.records[slot].request;
        let mut told = 0;
        self.each_touched(slot, component, |effects, instance| {
            told += 1;
            effects.push_back(BatchEffect::Finish { request, component, instance });
        });
        if told == 0 {
            told = 1;
            let instances = u64::from(self.components[component.index()].instances);
            let instance = InstanceIndex((request.0 % instances) as u32);
            if let Some((word, bit)) = self.bit(slot, component, instance) {
                self.touched[word] |= bit;
            }
            self.effects.push_back(BatchEffect::Finish { request, component, instance });
        }
        let stage = self.stage(slot, component);
        stage.phase = Phase::Finishing;
        stage.finishing = told;
    }

    /// Everything is drained: tells the outcome, and drops the record.
    fn end(&mut self, slot: usize, record: Record) {
        let request = record.request;
        if !record.failed {
            self.effects.push_back(BatchEffect::Completed { request });
        } else if self.plants.has(Plant::LeakBatch) {
            return;
        } else {
            self.abandon(slot, request);
        }
        self.touched[slot * self.words..(slot + 1) * self.words].fill(0);
        self.slots.remove(&request);
        self.free.push(slot as u32);
    }

    fn abandon(&mut self, slot: usize, request: RequestId) {
        for position in 0..self.components.len() {
            let component = ComponentIndex(position as u16);
            self.each_touched(slot, component, |effects, instance| {
                effects.push_back(BatchEffect::Abandon { request, component, instance });
            });
        }
    }

    /// Calls `tell` for each instance whose bit is set, ascending.
    fn each_touched(
        &mut self,
        slot: usize,
        component: ComponentIndex,
        mut tell: impl FnMut(&mut VecDeque<BatchEffect>, InstanceIndex),
    ) {
        let fixed = &self.components[component.index()];
        let Some(bits) = fixed.bits else { return };
        let first = slot * self.words + bits;
        for (position, &word) in
            self.touched[first..first + words_of(fixed.instances)].iter().enumerate()
        {
            let mut rest = word;
            while rest != 0 {
                let instance = position as u32 * 64 + rest.trailing_zeros();
                tell(&mut self.effects, InstanceIndex(instance));
                rest &= rest - 1;
            }
        }
    }
}

fn fresh_stage(component: &BatchComponent) -> Stage {
    let phase = if component.spout { Phase::Closed } else { Phase::Open };
    Stage { outstanding: 0, upstream_open: 0, phase, finishing: 0 }
}

fn fixed(component: &BatchComponent, words: &mut usize) -> Fixed {
    assert!(component.instances > 0, "a validated component has instances");
    let bits = component.wants_finished.then_some(*words);
    if component.wants_finished {
        *words += words_of(component.instances);
    }
    let downstream = component.downstream.as_slice().into();
    Fixed { instances: component.instances, bits, downstream }
}

const fn words_of(instances: u32) -> usize {
    instances.div_ceil(64) as usize
}

#[cfg(test)]
mod tests;
