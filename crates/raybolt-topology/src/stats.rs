//! Counters of instances, and what a topology says about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Counted by an instance in plain integers, published once per slice.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) emitted: u64,
    pub(crate) transferred: u64,
    pub(crate) executed: u64,
    pub(crate) acked: u64,
    pub(crate) failed: u64,
    pub(crate) panics: u64,
    pub(crate) ticks: u64,
    pub(crate) finished: u64,
    /// The sum of sampled execute times, and the number of tuples that they belong to.
    pub(crate) sampled_nanos: u64,
    pub(crate) sampled_tuples: u64,
}

/// The counters as others see them; only the instance writes.
#[derive(Debug, Default)]
pub(crate) struct Published {
    emitted: AtomicU64,
    transferred: AtomicU64,
    executed: AtomicU64,
    acked: AtomicU64,
    failed: AtomicU64,
    panics: AtomicU64,
    ticks: AtomicU64,
    finished: AtomicU64,
    sampled_nanos: AtomicU64,
    sampled_tuples: AtomicU64,
}

impl Counters {
    /// How many calls of user code there were.
    pub(crate) fn calls(&self) -> u64 {
        self.executed + self.finished + self.ticks
    }
}

impl Published {
    pub(crate) fn publish(&self, counters: &Counters) {
        let store = |to: &AtomicU64, value| to.store(value, Ordering::Relaxed);
        store(&self.emitted, counters.emitted);
        store(&self.transferred, counters.transferred);
        store(&self.executed, counters.executed);
        store(&self.acked, counters.acked);
        store(&self.failed, counters.failed);
        store(&self.panics, counters.panics);
        store(&self.ticks, counters.ticks);
        store(&self.finished, counters.finished);
        store(&self.sampled_nanos, counters.sampled_nanos);
        store(&self.sampled_tuples, counters.sampled_tuples);
    }

    pub(crate) fn stats(&self, instance: usize, queued: usize) -> InstanceStats {
        let load = |from: &AtomicU64| from.load(Ordering::Relaxed);
        let average = load(&self.sampled_nanos).checked_div(load(&self.sampled_tuples));
        InstanceStats {
            instance,
            emitted: load(&self.emitted),
            transferred: load(&self.transferred),
            executed: load(&self.executed),
            acked: load(&self.acked),
            failed: load(&self.failed),
            panics: load(&self.panics),
            ticks: load(&self.ticks),
            finished: load(&self.finished),
            queued,
            execute_nanos: average.unwrap_or(0),
        }
    }
}

/// What an instance has done since its topology was submitted, or rebalanced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStats {
    /// Its number within the component.
    pub instance: usize,
    /// Tuples emitted, each counted once.
    pub emitted: u64,
    /// Deliveries to instances: a tuple that goes to three counts three times.
    pub transferred: u64,
    /// Tuples taken from the inbox; for spouts calls of `next_tuple`.
    pub executed: u64,
    /// Followed tuples that were acknowledged; for spouts trees that were done.
    pub acked: u64,
    /// Tuples that failed; for spouts trees that failed or timed out.
    pub failed: u64,
    /// Panics of user code.
    pub panics: u64,
    /// Ticks.
    pub ticks: u64,
    /// Requests that it was told to finish.
    pub finished: u64,
    /// Tuples that wait in its inbox.
    pub queued: usize,
    /// How long a tuple takes on average, from samples.
    pub execute_nanos: u64,
}

/// What a component has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStats {
    /// Its name.
    pub component: String,
    /// Its instances.
    pub instances: Vec<InstanceStats>,
}

impl ComponentStats {
    /// The sum of something over all instances.
    pub fn sum(&self, of: impl Fn(&InstanceStats) -> u64) -> u64 {
        self.instances.iter().map(of).sum()
    }
}

/// What a topology says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopologyStats {
    /// Its name.
    pub name: String,
    /// Whether its spouts emit.
    pub status: Status,
    /// Its components, in the order of declaration.
    pub components: Vec<ComponentStats>,
    /// Tuple trees that are not done.
    pub pending_trees: usize,
    /// Requests that are not done.
    pub pending_requests: usize,
    /// Recent errors, oldest first.
    pub errors: Vec<ErrorRecord>,
    /// How many errors there were in all.
    pub errors_total: u64,
}

impl TopologyStats {
    /// The component of that name.
    pub fn component(&self, id: &str) -> Option<&ComponentStats> {
        self.components.iter().find(|component| component.component == id)
    }
}

/// Where a topology is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Its spouts emit.
    Active,
    /// Its spouts do not emit; what is in flight goes on.
    Inactive,
    /// A component is getting another number of instances.
    Rebalancing,
    /// It is draining, and will be gone.
    Killed,
}

/// A failure of user code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The component it happened in.
    pub component: String,
    /// The instance of the component.
    pub instance: u32,
    /// What happened.
    pub message: String,
    /// When.
    pub at: SystemTime,
}
