//! What a session tells about itself.

use std::fmt;

use raybolt_core::calls::scheduler::{UNIT, display_amount};
use serde::{Deserialize, Serialize};

use super::{Place, Session, with};
use crate::error::Result;
use crate::processes::errand::{self, Errand};

/// What a session holds at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Tasks and actor calls that have not ended.
    pub tasks: usize,
    /// Objects that somebody can still reach, or that are still to be made.
    pub objects: usize,
    /// Bytes of the objects that are there, as serialized, about.
    pub bytes: usize,
    /// How many values were copied into the store since the session began: each `put`, and each
    /// argument passed by value.
    pub copies: u64,
    /// Tasks that have ended, and are kept to make their values again if those are lost.
    pub kept_tasks: usize,
    /// Bytes that they take, about.
    pub kept_bytes: usize,
    /// Actors alive.
    pub actors: usize,
    /// Threads of the pool, and how many of them wait in user code.
    pub threads: (usize, usize),
    /// The store that this process shares with its workers; none in one process.
    pub store: Option<StoreReport>,
}

/// What the store of a session over processes holds at a moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// How large it is.
    pub capacity: u64,
    /// Taken: by objects, by what is being written, and by room lent to workers.
    pub used: u64,
    /// Of these, objects that somebody reads.
    pub pinned: u64,
    /// Objects, wherever they lie.
    pub objects: u64,
    /// Bytes of objects that lie on disk only.
    pub spilled: u64,
}

/// One resource of the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// `CPU`, `GPU`, `memory` in bytes, or a name given to [`Builder::resource`](super::Builder::resource).
    pub name: String,
    /// How much there is.
    pub total: f64,
    /// How much is free now; below zero while tasks that were blocked go on.
    pub available: f64,
}

/// A question to the session, which its driver answers.
#[derive(Serialize, Deserialize)]
struct HowMuchMemory;

#[derive(Serialize, Deserialize)]
struct WhichResources;

/// What the session holds now. Code in a worker process asks its driver.
///
/// # Errors
/// Without a session.
pub fn memory() -> Result<MemoryReport> {
    errand::run(HowMuchMemory)
}

impl Errand for HowMuchMemory {
    type Answer = MemoryReport;

    fn run(self) -> Result<MemoryReport> {
        with(|session| {
            let threads = session.pool.threads();
            let hub = session.lock();
            let counts = hub.owner.counts();
            let kept = hub.lineage.counts();
            MemoryReport {
                tasks: counts.tasks,
                objects: counts.objects,
                bytes: hub.bytes.max(0) as usize,
                copies: hub.copies,
                kept_tasks: kept.records,
                kept_bytes: kept.bytes as usize,
                actors: hub.actors.len(),
                threads,
                store: session.store_report(),
            }
        })
    }
}

/// `CPU: 4`, `memory: 8192 MiB`
impl fmt::Display for ResourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = (self.total * UNIT as f64) as i64;
        write!(f, "{}: {}", self.name, display_amount(&self.name, units))
    }
}

/// The node's resources.
///
/// # Errors
/// Without a session.
pub fn resources() -> Result<Vec<ResourceReport>> {
    errand::run(WhichResources)
}

impl Errand for WhichResources {
    type Answer = Vec<ResourceReport>;

    fn run(self) -> Result<Vec<ResourceReport>> {
        let amount = |units: i64| units as f64 / UNIT as f64;
        with(|session| {
            let hub = session.lock();
            let report = |(name, total, available): (&str, i64, i64)| ResourceReport {
                name: name.into(),
                total: amount(total),
                available: amount(available),
            };
            hub.scheduler.resources().map(report).collect()
        })
    }
}

impl Session {
    pub(crate) fn store_report(&self) -> Option<StoreReport> {
        let Place::Workers(node) = &self.place else { return None };
        let usage = node.shelf.store().usage();
        Some(StoreReport {
            capacity: usage.capacity_bytes,
            used: usage.used_bytes,
            pinned: usage.pinned_bytes,
            objects: usage.objects,
            spilled: usage.spilled_bytes,
        })
    }
}
