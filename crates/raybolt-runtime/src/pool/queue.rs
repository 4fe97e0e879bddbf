//! The order in which the threads of a pool take what is queued.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Runnable;

/// Where a runnable belongs in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Which thread it should rather run on, modulo the width: always on the same one, so that its
    /// data stays in that processor's caches.
    pub home: usize,
    /// How near it is to the end of its pipeline, below [`LEVELS`]: a thread takes the highest level
    /// first, so that what is on the way stays little.
    pub level: usize,
}

/// How many levels of runnables a pool tells apart.
pub const LEVELS: usize = 8;

/// Runnables of one home and one level, in the order in which they came.
type Line = VecDeque<Arc<dyn Runnable>>;

/// The shared queue: a part for each thread of the width, and in it a line per level.
pub(super) struct Queue {
    homes: Box<[[Line; LEVELS]]>,
    len: usize,
}

impl Queue {
    pub(super) fn new(width: usize) -> Self {
        Queue { homes: (0..width).map(|_| Default::default()).collect(), len: 0 }
    }

    pub(super) fn push(&mut self, runnable: Arc<dyn Runnable>) {
        let Place { home, level } = runnable.place();
        let home = home % self.homes.len();
        self.homes[home][level.min(LEVELS - 1)].push_back(runnable);
        self.len += 1;
    }

    /// What the thread of this home should run: its own, or else what is the least work to move.
    pub(super) fn pop(&mut self, home: usize) -> Option<Arc<dyn Runnable>> {
        if self.len == 0 {
            return None;
        }
        let width = self.homes.len();
        let own = self.homes[home % width].iter_mut().rev().find_map(VecDeque::pop_front);
        let runnable = own.or_else(|| {
            let mut others = (1..width).map(|other| (home + other) % width);
            // What is near the beginning of a pipeline holds the least.
            others.find_map(|other| self.homes[other].iter_mut().find_map(VecDeque::pop_front))
        })?;
        self.len -= 1;
        Some(runnable)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}
