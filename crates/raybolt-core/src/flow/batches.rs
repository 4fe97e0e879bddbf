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

mod records;

use std::collections::VecDeque;
use std::ops::Range;

use self::records::{Head, Phase, Records, Slot, Stage};
use crate::ids::{ComponentIndex, InstanceIndex, RequestId};
use crate::plant::{Plant, Plants};

/// Why a request fails that is brought in twice.
const OPENED_AGAIN: &str = "the request was brought in twice; emit all of its tuples in one call of `next_tuple`, in a row";

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

/// The parts of a component that are the same for all requests.
#[derive(Debug)]
struct Fixed {
    instances: u32,
    /// Its words among a record's bits, if it wants to finish.
    bits: Option<Range<usize>>,
    downstream: Box<[ComponentIndex]>,
}

/// Counts the deliveries of requests; see the [module](self).
///
/// ```
/// use raybolt_core::flow::batches::{BatchComponent, BatchEffect, Batches, Report, Sent};
/// use raybolt_core::ids::{ComponentIndex, InstanceIndex, RequestId};
///
/// let bolt = ComponentIndex(1);
/// let mut batches = Batches::new(&[
///     BatchComponent { instances: 1, spout: true, wants_finished: false, downstream: vec![bolt] },
///     BatchComponent { instances: 1, spout: false, wants_finished: false, downstream: vec![] },
/// ]);
/// let request = RequestId(7);
/// batches.opened(request, &[Sent { to: bolt, count: 2 }]);
/// let report =
///     Report { request, component: bolt, instance: InstanceIndex(0), processed: 1, sent: &[] };
/// batches.reported(report);
/// assert_eq!(batches.poll_effect(), None);
/// batches.reported(report);
/// assert_eq!(batches.poll_effect(), Some(BatchEffect::Completed { request }));
/// assert!(batches.is_empty());
/// ```
#[derive(Debug)]
pub struct Batches {
    components: Box<[Fixed]>,
    /// Components that subscribe to a spout: they wait for `opened`.
    entered: Box<[ComponentIndex]>,
    records: Records,
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
            entered: entered.into_boxed_slice(),
            records: Records::new(fresh, words),
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
    /// Reports on it may have come before. Opening one that is open is a mistake of who does so: what
    /// was closed already may get more of it, so the request fails.
    pub fn opened(&mut self, request: RequestId, sent: &[Sent]) {
        let slot = self.records.find_or_begin(request);
        let head = self.records.head(slot);
        let again = std::mem::replace(&mut head.opened, true);
        self.count_sent(slot, sent);
        if again {
            return self.fail(slot, OPENED_AGAIN);
        }
        for position in 0..self.entered.len() {
            self.upstream_closed(slot, self.entered[position]);
        }
        self.close_all(slot);
    }

    /// An instance processed deliveries of a request, and sent some because of them.
    pub fn reported(&mut self, report: Report<'_>) {
        let Report { request, component, instance, processed, sent } = report;
        let slot = self.records.find_or_begin(request);
        self.count_sent(slot, sent);
        self.touch(slot, component, instance);
        let stage = self.records.stage(slot, component);
        stage.outstanding -= i64::from(processed);
        let drained = stage.outstanding == 0 && stage.upstream_open == 0;
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
        let Some(slot) = self.records.find(request) else { return };
        let is_finishing = self.records.stage(slot, component).phase == Phase::Finishing;
        if !is_finishing || !self.untouch(slot, component, instance) {
            return;
        }
        self.count_sent(slot, sent);
        let stage = self.records.stage(slot, component);
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
        let slot = self.records.find_or_begin(request);
        self.fail(slot, message);
    }

    /// A request is not wanted any more: its client left, or its deadline came.
    ///
    /// As [`Batches::failed`]; but without a record of the request, since it is complete or nothing of it
    /// has come yet, nothing happens, and `false` is returned.
    pub fn cancelled(&mut self, request: RequestId, reason: &str) -> bool {
        let Some(slot) = self.records.find(request) else { return false };
        self.fail(slot, reason);
        true
    }

    /// An instance lost what it held, as a panic does: requests that it saw some of, and has not
    /// finished, have failed. To be told after all its reports until then.
    pub fn state_lost(&mut self, at: ComponentIndex, instance: InstanceIndex, message: &str) {
        let Some(bits) = self.components[at.index()].bits.clone() else { return };
        let word = bits.start + instance.index() / 64;
        for slot in self.records.with_bit(word, bit(instance)) {
            self.fail(slot, message);
        }
    }

    /// What the driver has to do next; call until `None`.
    pub fn poll_effect(&mut self) -> Option<BatchEffect> {
        self.effects.pop_front()
    }

    /// How many requests have a record: open ones, failed ones that drain, ones not yet opened.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    #[inline]
    fn count_sent(&mut self, slot: Slot, sent: &[Sent]) {
        for &Sent { to, count } in sent {
            self.records.stage(slot, to).outstanding += i64::from(count);
        }
    }

    /// Remembers that the instance saw some of the request, if its component wants to finish.
    #[inline]
    fn touch(&mut self, slot: Slot, component: ComponentIndex, instance: InstanceIndex) {
        let fixed = &self.components[component.index()];
        debug_assert!(instance.0 < fixed.instances, "instances are numbered from 0");
        if let Some(bits) = &fixed.bits {
            let words = self.records.touched_mut(slot, bits.clone());
            words[instance.index() / 64] |= bit(instance);
        }
    }

    /// Forgets it, so that a later failure does not abandon what is finished; false if it was not so.
    fn untouch(&mut self, slot: Slot, at: ComponentIndex, instance: InstanceIndex) -> bool {
        let Some(bits) = self.components[at.index()].bits.clone() else { return false };
        let word = &mut self.records.touched_mut(slot, bits)[instance.index() / 64];
        let was_touched = *word & bit(instance) != 0;
        *word &= !bit(instance);
        was_touched
    }

    fn fail(&mut self, slot: Slot, message: &str) {
        let head = self.records.head(slot);
        if !head.failed {
            head.failed = true;
            let (request, message) = (head.request, message.into());
            self.effects.push_back(BatchEffect::Failed { request, message });
        }
    }

    /// One more upstream component of `component` is closed.
    fn upstream_closed(&mut self, slot: Slot, component: ComponentIndex) {
        let stage = self.records.stage(slot, component);
        stage.upstream_open -= 1;
        if stage.upstream_open == 0 {
            self.closing.push(component);
        }
    }

    /// Looks at the components in `closing` until none is left, then at the request as a whole.
    fn close_all(&mut self, slot: Slot) {
        while let Some(component) = self.closing.pop() {
            self.look_at(slot, component);
        }
        let head = *self.records.head(slot);
        if head.open == 0 && head.opened {
            self.end(slot, head);
        }
    }

    /// Finishes or closes `component`, if it is drained.
    fn look_at(&mut self, slot: Slot, component: ComponentIndex) {
        let early = self.plants.has(Plant::FinishEarly);
        let failed = self.records.head(slot).failed;
        let stage = self.records.stage(slot, component);
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

    fn closed(&mut self, slot: Slot, component: ComponentIndex) {
        self.records.stage(slot, component).phase = Phase::Closed;
        self.records.head(slot).open -= 1;
        for position in 0..self.components[component.index()].downstream.len() {
            let to = self.components[component.index()].downstream[position];
            self.upstream_closed(slot, to);
        }
    }

    /// Tells the instances that saw some of the request, or the home instance, to finish it.
    fn finish(&mut self, slot: Slot, component: ComponentIndex) {
        let request = self.records.head(slot).request;
        let finish = |instance| BatchEffect::Finish { request, component, instance };
        let mut told = self.tell_touched(slot, component, finish);
        if told == 0 {
            let instances = u64::from(self.components[component.index()].instances);
            let home = InstanceIndex((request.0 % instances) as u32);
            self.touch(slot, component, home);
            self.effects.push_back(finish(home));
            told = 1;
        }
        let stage = self.records.stage(slot, component);
        stage.phase = Phase::Finishing;
        stage.finishing = told;
    }

    /// Everything is drained: tells the outcome, and drops the record.
    fn end(&mut self, slot: Slot, head: Head) {
        let request = head.request;
        if !head.failed {
            self.effects.push_back(BatchEffect::Completed { request });
        } else if self.plants.has(Plant::LeakBatch) {
            return;
        } else {
            self.abandon(slot, request);
        }
        self.records.drop(slot);
    }

    fn abandon(&mut self, slot: Slot, request: RequestId) {
        for position in 0..self.components.len() {
            let component = ComponentIndex(position as u16);
            self.tell_touched(slot, component, |instance| BatchEffect::Abandon {
                request,
                component,
                instance,
            });
        }
    }

    /// Tells each instance that saw some of the request, ascending; says how many there were.
    fn tell_touched(
        &mut self,
        slot: Slot,
        component: ComponentIndex,
        effect: impl Fn(InstanceIndex) -> BatchEffect,
    ) -> u32 {
        let Some(bits) = self.components[component.index()].bits.clone() else { return 0 };
        let mut told = 0;
        for (position, &word) in self.records.touched(slot, bits).iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                let instance = InstanceIndex(position as u32 * 64 + rest.trailing_zeros());
                self.effects.push_back(effect(instance));
                rest &= rest - 1;
                told += 1;
            }
        }
        told
    }
}

fn fresh_stage(component: &BatchComponent) -> Stage {
    let phase = if component.spout { Phase::Closed } else { Phase::Open };
    Stage { outstanding: 0, finishing: 0, upstream_open: 0, phase }
}

/// `words` counts the words of bits given out so far.
fn fixed(component: &BatchComponent, words: &mut usize) -> Fixed {
    assert!(component.instances > 0, "a validated component has instances");
    let first = *words;
    let bits = component.wants_finished.then(|| {
        *words += component.instances.div_ceil(64) as usize;
        first..*words
    });
    let downstream = component.downstream.as_slice().into();
    Fixed { instances: component.instances, bits, downstream }
}

/// The instance's bit in its word.
const fn bit(instance: InstanceIndex) -> u64 {
    1 << (instance.0 % 64)
}

#[cfg(test)]
mod tests;
