//! One function: its queue, who serves it, and what it counted.

use std::collections::VecDeque;
use std::time::Instant;

use super::{DrpcError, Options, SubscriberId};
use crate::ids::RequestId;

pub(super) struct Function {
    pub name: Box<str>,
    /// Those that wait, in order, among ids of requests that are over.
    pub queue: VecDeque<RequestId>,
    /// How many ids of the queue belong to requests that wait.
    pub waiting: usize,
    /// Subscribers with credit, the next one in front.
    pub ready: VecDeque<SubscriberId>,
    /// How many subscribers take requests, with credit or without.
    pub subscribers: usize,
    /// Until when the function counts as served without any.
    pub orphaned_until: Option<Instant>,
    pub stats: FunctionStats,
}

/// What became of the requests of one function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionStats {
    /// Requests that wait for a topology with room.
    pub waiting: usize,
    /// Requests that are in a topology.
    pub in_flight: usize,
    /// How many subscribers serve it.
    pub subscribers: usize,
    /// Requests that ended with their result.
    pub answered: u64,
    /// Requests that ended without one, but for those in the counts below.
    pub failed: u64,
    /// Requests whose deadline passed.
    pub timed_out: u64,
    /// Requests that their caller cancelled.
    pub cancelled: u64,
    /// Requests refused since too many were waiting.
    pub refused: u64,
    /// Deliveries beyond the first of a request.
    pub redelivered: u64,
}

impl FunctionStats {
    pub(super) fn count(&mut self, error: &DrpcError) {
        match error {
            DrpcError::TimedOut { .. } => self.timed_out += 1,
            DrpcError::Cancelled { .. } => self.cancelled += 1,
            _ => self.failed += 1,
        }
    }
}

impl Function {
    pub fn new(name: &str) -> Self {
        Function {
            name: name.into(),
            queue: VecDeque::new(),
            waiting: 0,
            ready: VecDeque::new(),
            subscribers: 0,
            orphaned_until: None,
            stats: FunctionStats::default(),
        }
    }

    pub fn is_served(&self) -> bool {
        self.subscribers > 0 || self.orphaned_until.is_some()
    }

    /// BROKER-4: refuses a request that would have to wait beside too many.
    pub fn admit(&mut self, options: &Options) -> Result<(), DrpcError> {
        if self.waiting < options.waiting_max || !self.ready.is_empty() {
            return Ok(());
        }
        self.stats.refused += 1;
        Err(DrpcError::Busy {
            function: self.name.to_string(),
            waiting: self.waiting,
            in_flight: self.stats.in_flight,
        })
    }

    /// Keeps the queue in proportion to those that wait, though others leave it unseen.
    pub fn sweep(&mut self, is_open: impl Fn(RequestId) -> bool) {
        const SLACK: usize = 64;
        if self.queue.len() > 2 * self.waiting + SLACK {
            self.queue.retain(|id| is_open(*id));
        }
    }

    pub fn stats(&self) -> FunctionStats {
        FunctionStats { waiting: self.waiting, subscribers: self.subscribers, ..self.stats.clone() }
    }
}
