//! Watches the lives of one actor: where it is, and in which order its calls start there.
//!
//! # Checked
//! - Its calls run in one incarnation, which is the latest (INC-1).
//! - Calls of one caller in one group start in the order they were made, in each incarnation (QUEUE-1,
//!   INC-2); one starts at most `1 + retries` times (INC-3).
//! - An exclusive call runs alone (QUEUE-3); no group runs more calls than its limit (QUEUE-4).

use std::collections::BTreeMap;

use raybolt_core::calls::owner::TaskKey;
use raybolt_core::calls::queue::{CallerId, Mode};
use raybolt_core::ids::ProcessId;

use crate::trace::{Verdict, require};

const NAME: &str = "lives";

/// The truth about one actor.
#[derive(Debug, Default)]
pub struct Lives {
    limits: Vec<usize>,
    made: BTreeMap<TaskKey, Made>,
    /// Where it lives, and which of its lives that is.
    life: Option<(ProcessId, u32)>,
    next: u32,
    /// The last call that started in this life, by caller and group.
    started: BTreeMap<(CallerId, usize), usize>,
    running: BTreeMap<TaskKey, Mode>,
}

#[derive(Debug)]
struct Made {
    caller: CallerId,
    group: usize,
    order: usize,
    starts_left: u32,
}

impl Lives {
    /// An actor whose groups run at most so many calls at once.
    pub fn new(limits: &[usize]) -> Self {
        Lives { limits: limits.to_vec(), ..Lives::default() }
    }

    /// A call was made.
    pub fn made(&mut self, task: TaskKey, caller: CallerId, group: usize, retries: u32) {
        let order = self.made.len();
        self.made.insert(task, Made { caller, group, order, starts_left: retries + 1 });
    }

    /// A worker begins a life of it.
    pub fn begins(&mut self, at: ProcessId, incarnation: u32) -> Verdict {
        require(self.life.is_none() && incarnation >= self.next, NAME, || {
            format!("INC-1: incarnation {incarnation} begins in {at}, beside {:?}", self.life)
        })?;
        self.next = incarnation + 1;
        self.life = Some((at, incarnation));
        self.started.clear();
        Ok(())
    }

    /// A life is over.
    pub fn ends(&mut self, at: ProcessId) {
        if self.life.is_some_and(|life| life.0 == at) {
            self.life = None;
            self.running.clear();
        }
    }

    /// A call starts.
    pub fn starts(
        &mut self,
        task: TaskKey,
        mode: Mode,
        at: ProcessId,
        incarnation: u32,
    ) -> Verdict {
        require(self.life == Some((at, incarnation)), NAME, || {
            format!(
                "INC-1: {task:?} runs in incarnation {incarnation}, the life is {:?}",
                self.life
            )
        })?;
        let alone = mode == Mode::Exclusive && !self.running.is_empty();
        let disturbs = self.running.values().any(|mode| *mode == Mode::Exclusive);
        require(!alone && !disturbs, NAME, || {
            format!("QUEUE-3: {task:?} ({mode:?}) starts beside {:?}", self.running)
        })?;
        let call = self.made.get_mut(&task).expect("what starts was made");
        let (group, order) = (call.group, call.order);
        require(call.starts_left > 0, NAME, || format!("INC-3: {task:?} starts once too often"))?;
        call.starts_left -= 1;
        let before = self.started.insert((call.caller, group), order);
        require(before.is_none_or(|before| before < order), NAME, || {
            format!("QUEUE-1: {task:?} starts behind one that its caller made later")
        })?;
        let beside = self.running.keys().filter(|other| self.made[*other].group == group).count();
        let limit = self.limits[group];
        require(beside < limit, NAME, || {
            format!("QUEUE-4: {task:?} starts beside {beside} of its group, the limit is {limit}")
        })?;
        self.running.insert(task, mode);
        Ok(())
    }

    /// A call has ended there.
    pub fn ended(&mut self, task: TaskKey) {
        self.running.remove(&task);
    }
}
