//! Watches the order in which an actor's calls start.
//!
//! # Checked
//! - Calls of one caller in one group start in the order they were made (QUEUE-1).
//! - An exclusive call runs alone (QUEUE-3); no group runs more calls than its limit (QUEUE-4).

use std::collections::{BTreeMap, VecDeque};

use raybolt_core::calls::owner::TaskKey;
use raybolt_core::calls::queue::{CallerId, Mode};

use crate::trace::{Verdict, require};

const NAME: &str = "order";

/// The truth about one actor's calls.
#[derive(Debug)]
pub struct Order {
    limits: Vec<usize>,
    /// Calls that have not started, by caller and group, in the order they were made.
    made: BTreeMap<(CallerId, usize), VecDeque<TaskKey>>,
    running: BTreeMap<TaskKey, (usize, Mode)>,
}

impl Order {
    /// An actor whose groups run at most so many calls at once.
    pub fn new(limits: &[usize]) -> Self {
        Order { limits: limits.to_vec(), made: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// A call was made.
    pub fn made(&mut self, caller: CallerId, group: usize, task: TaskKey) {
        self.made.entry((caller, group)).or_default().push_back(task);
    }

    /// A call starts.
    pub fn started(&mut self, task: TaskKey, group: usize, mode: Mode) -> Verdict {
        let line = self.made.iter().find(|(_, line)| line.contains(&task));
        let first = line.is_some_and(|(_, line)| line.front() == Some(&task));
        require(first, NAME, || format!("QUEUE-1: {task:?} starts before its turn in {line:?}"))?;
        let alone = mode == Mode::Exclusive && !self.running.is_empty();
        let disturbs = self.running.values().any(|(_, mode)| *mode == Mode::Exclusive);
        require(!alone && !disturbs, NAME, || {
            format!("QUEUE-3: {task:?} ({mode:?}) starts beside {:?}", self.running)
        })?;
        let beside = self.running.values().filter(|(other, _)| *other == group).count();
        let limit = self.limits[group];
        require(beside < limit, NAME, || {
            format!(
                "QUEUE-4: {task:?} starts beside {beside} of group {group}, whose limit is {limit}"
            )
        })?;
        self.running.insert(task, (group, mode));
        self.forget(task);
        Ok(())
    }

    /// A call ended, or will never start.
    pub fn ended(&mut self, task: TaskKey) {
        self.running.remove(&task);
        self.forget(task);
    }

    fn forget(&mut self, task: TaskKey) {
        for line in self.made.values_mut() {
            line.retain(|other| *other != task);
        }
    }
}
