//! Knows of every root tuple what really became of its tree, and compares what the tracker claims.
//!
//! # Checked
//! - A root is acked only when every delivery of its tree was processed, every report arrived, and none
//!   failed (ACK-2).
//! - A root that its spout reported is told once, to that spout (ACK-4).
//! - A root fails by timeout at its deadline, and not before (ACK-5).
//! - A message is acked once, and failed ones are replayed until they are.

use std::collections::BTreeMap;

use raybolt_core::ids::{InstanceId, RootId};

use crate::clock::Micros;
use crate::trace::{Verdict, require};

const NAME: &str = "roots";

/// The truth about all roots of a run.
#[derive(Debug, Default)]
pub struct Roots {
    roots: BTreeMap<RootId, Root>,
    acked: BTreeMap<u64, RootId>,
}

#[derive(Debug)]
struct Root {
    message: u64,
    spout: InstanceId,
    /// Deliveries that were sent and not processed.
    outstanding: u32,
    /// Reports on the way to the tracker.
    reports: u32,
    /// Whether a delivery or a report was lost: such a tree can only time out.
    lost: bool,
    failed: bool,
    /// When the tracker is to give it up; known from the spout's report on.
    deadline: Option<Micros>,
    told: bool,
}

impl Roots {
    /// A spout emitted a message as a new root, along so many edges.
    pub fn emitted(&mut self, root: RootId, message: u64, spout: InstanceId, edges: u32) {
        let record = Root {
            message,
            spout,
            outstanding: edges,
            reports: 1,
            lost: false,
            failed: false,
            deadline: None,
            told: false,
        };
        self.roots.insert(root, record);
    }

    /// The spout's report reached the tracker.
    pub fn emit_arrived(&mut self, root: RootId, deadline: Micros) {
        let record = self.of(root);
        record.reports -= 1;
        record.deadline = Some(deadline);
    }

    /// A delivery was processed, and caused so many others; a report on it is due.
    pub fn processed(&mut self, root: RootId, sent: u32, failed: bool) {
        let record = self.of(root);
        record.outstanding = record.outstanding + sent - 1;
        record.failed |= failed;
    }

    /// A report on the root was sent.
    pub fn report_sent(&mut self, root: RootId) {
        self.of(root).reports += 1;
    }

    /// A report on the root reached the tracker.
    pub fn report_arrived(&mut self, root: RootId) {
        self.of(root).reports -= 1;
    }

    /// A delivery or a report of the root was lost.
    pub fn lost(&mut self, root: RootId) {
        self.of(root).lost = true;
    }

    /// The root's timeout was started again, as far as the tracker still knew it.
    pub fn extended(&mut self, root: RootId, deadline: Micros) {
        let record = self.of(root);
        if !record.told && record.deadline.is_some() {
            record.deadline = Some(deadline);
        }
    }

    /// The tracker said that the tree is done. Returns the message.
    pub fn acked(&mut self, root: RootId, spout: InstanceId) -> Verdict<u64> {
        let record = self.told(root, spout, "acked")?;
        let done = record.outstanding == 0 && record.reports == 0;
        require(done && !record.lost && !record.failed, NAME, || {
            format!(
                "ACK-2: root {root} is acked with {} deliveries and {} reports outstanding (lost: \
                 {}, failed: {})",
                record.outstanding, record.reports, record.lost, record.failed
            )
        })?;
        let message = record.message;
        let before = self.acked.insert(message, root);
        require(before.is_none(), NAME, || format!("message {message} is acked twice"))?;
        Ok(message)
    }

    /// The tracker said that the root failed, by timeout or since a bolt failed. Returns the message.
    pub fn failed(
        &mut self,
        root: RootId,
        spout: InstanceId,
        by_timeout_at: Option<Micros>,
    ) -> Verdict<u64> {
        let record = self.told(root, spout, "failed")?;
        match by_timeout_at {
            Some(now) => require(record.deadline == Some(now), NAME, || {
                format!("ACK-5: root {root} timed out at {now}, it is due at {:?}", record.deadline)
            })?,
            None => {
                require(record.failed, NAME, || format!("root {root} failed without a failure"))?;
            }
        }
        Ok(record.message)
    }

    /// The roots that were reported and never told of, for the final report.
    pub fn untold(&self) -> Vec<String> {
        let waiting = self.roots.iter().filter(|(_, root)| !root.told && root.deadline.is_some());
        waiting
            .map(|(id, root)| {
                format!(
                    "root {id} (message {}) for {} deliveries and {} reports, due at {:?}, lost: {}",
                    root.message, root.outstanding, root.reports, root.deadline, root.lost
                )
            })
            .collect()
    }

    fn told(&mut self, root: RootId, spout: InstanceId, what: &str) -> Verdict<&Root> {
        let known = self.roots.contains_key(&root);
        require(known, NAME, || format!("root {root} is {what}, but was never emitted"))?;
        let record = self.of(root);
        require(record.deadline.is_some(), NAME, || {
            format!("root {root} is {what} before its spout reported it")
        })?;
        require(!record.told, NAME, || format!("ACK-4: root {root} is told of twice: {what}"))?;
        require(record.spout == spout, NAME, || {
            format!("root {root} of spout {} is {what} to spout {spout}", record.spout)
        })?;
        record.told = true;
        Ok(record)
    }

    fn of(&mut self, root: RootId) -> &mut Root {
        self.roots.get_mut(&root).expect("the world speaks of roots that were emitted")
    }
}
