//! Orders the calls of one actor.
//!
//! # Words
//! A *caller* is a thread of the driver, a task or another actor. A call is *exclusive* (it may
//! change the actor's state) or *shared*. A *group* is a named share of the actor's concurrency; each
//! call belongs to one.
//!
//! # Protocol
//! 1. [`Queue::submitted`] takes a call. If its arguments are ready and no earlier call of its caller
//!    is held back, it joins its group's line; otherwise it is held back with its caller's others.
//! 2. [`Queue::argument_ready`] releases a held call, and those of the same caller behind it.
//! 3. [`Queue::start_next`] starts the first call of a group that may run; [`Queue::finished`] ends it.
//! 4. [`Queue::cancelled`] takes a call out that has not started; [`Queue::closed`] all of them.
//!
//! # Invariants
//! - **QUEUE-1 (caller order).** Calls of one caller in one group start in the order they were made.
//! - **QUEUE-2 (others pass).** A call that waits for an argument holds back only its own caller.
//! - **QUEUE-3 (alone).** While an exclusive call runs, no other call of the actor does.
//! - **QUEUE-4 (limits).** No group runs more calls at once than its limit.

use std::collections::{BTreeMap, VecDeque};

use super::owner::TaskKey;
use crate::plant::{Plant, Plants};

/// Who made a call, as far as order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(pub u64);

/// Whether a call may run beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It may change the state: alone.
    Exclusive,
    /// It only reads the state: beside other shared calls.
    Shared,
}

/// A call in the queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Call<J> {
    /// Its task at the owner.
    pub task: TaskKey,
    /// Its concurrency group: an index into the limits given to [`Queue::new`].
    pub group: usize,
    /// Whether it may run beside others.
    pub mode: Mode,
    /// What the shell needs to run it.
    pub job: J,
}

/// Where a call is that has not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind the first call of its caller that waits for arguments, or that call itself.
    Held {
        /// The call that waits for arguments.
        by: TaskKey,
    },
    /// In its group's line.
    InLine {
        /// How many calls are before it.
        ahead: usize,
    },
}

/// The machine; see the module's documentation.
#[derive(Debug)]
pub struct Queue<J> {
    groups: Vec<Group<J>>,
    exclusive_runs: bool,
    running: usize,
    held: BTreeMap<CallerId, VecDeque<Held<J>>>,
    held_caller: BTreeMap<TaskKey, CallerId>,
    /// Where the search for the next call starts, so that no group starves.
    turn: usize,
    len: usize,
    plants: Plants,
}

#[derive(Debug)]
struct Group<J> {
    limit: usize,
    running: usize,
    line: VecDeque<Call<J>>,
}

#[derive(Debug)]
struct Held<J> {
    ready: bool,
    call: Call<J>,
}

impl<J> Queue<J> {
    /// A queue whose groups run at most so many calls at once; group 0 is the default one.
    pub fn new(limits: &[usize]) -> Self {
        assert!(limits.iter().all(|limit| *limit > 0), "a group runs at least one call");
        let group = |limit: &usize| Group { limit: *limit, running: 0, line: VecDeque::new() };
        Queue {
            groups: limits.iter().map(group).collect(),
            exclusive_runs: false,
            running: 0,
            held: BTreeMap::new(),
            held_caller: BTreeMap::new(),
            turn: 0,
            len: 0,
            plants: Plants::NONE,
        }
    }

    /// A queue with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(limits: &[usize], plants: Plants) -> Self {
        Queue { plants, ..Self::new(limits) }
    }

    /// A call was made; `ready` says whether its arguments are there.
    pub fn submitted(&mut self, caller: CallerId, call: Call<J>, ready: bool) {
        self.len += 1;
        let passes = !self.held.contains_key(&caller) || self.plants.has(Plant::Overtake);
        if ready && passes {
            self.groups[call.group].line.push_back(call);
            return;
        }
        self.held_caller.insert(call.task, caller);
        self.held.entry(caller).or_default().push_back(Held { ready, call });
    }

    /// The arguments of a call are there.
    pub fn argument_ready(&mut self, task: TaskKey) {
        let Some(caller) = self.held_caller.get(&task).copied() else { return };
        let held = self.held.get_mut(&caller).expect("a held call's caller has a line");
        if let Some(entry) = held.iter_mut().find(|entry| entry.call.task == task) {
            entry.ready = true;
        }
        self.release(caller);
    }

    /// Starts the next call that may run now.
    pub fn start_next(&mut self) -> Option<Call<J>> {
        if self.exclusive_runs {
            return None;
        }
        let count = self.groups.len();
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let group = &mut self.groups[index];
            let Some(first) = group.line.front() else { continue };
            let alone = first.mode == Mode::Exclusive;
            if group.running >= group.limit || (alone && self.running > 0) {
                continue;
            }
            let call = group.line.pop_front().expect("it was there a line ago");
            group.running += 1;
            self.running += 1;
            self.exclusive_runs = alone;
            self.turn = (index + 1) % count;
            self.len -= 1;
            return Some(call);
        }
        None
    }

    /// Whether `task` cannot start before a call that runs has ended, whichever that is: if one of
    /// them waits for it, neither ever will.
    pub fn waits_for_running(&self, task: TaskKey) -> bool {
        let Some(call) = self.calls().find(|call| call.task == task) else { return false };
        let is_full = self.groups[call.group].running >= self.groups[call.group].limit;
        let needs_all = call.mode == Mode::Exclusive || is_full && self.running == 1;
        self.exclusive_runs || self.running > 0 && needs_all
    }

    /// A call that [`Queue::start_next`] started has ended.
    pub fn finished(&mut self, group: usize, mode: Mode) {
        self.groups[group].running -= 1;
        self.running -= 1;
        if mode == Mode::Exclusive {
            self.exclusive_runs = false;
        }
    }

    /// A call that [`Queue::start_next`] started shall start again, before all others of its group. It
    /// counts as finished already.
    pub fn put_back(&mut self, call: Call<J>) {
        self.len += 1;
        self.groups[call.group].line.push_front(call);
    }

    /// Takes out a call that has not started.
    pub fn cancelled(&mut self, task: TaskKey) -> Option<Call<J>> {
        let taken = if let Some(caller) = self.held_caller.remove(&task) {
            let held = self.held.get_mut(&caller).expect("a held call's caller has a line");
            let position = held.iter().position(|entry| entry.call.task == task)?;
            let taken = held.remove(position).map(|entry| entry.call);
            self.release(caller);
            taken
        } else {
            self.groups.iter_mut().find_map(|group| {
                let position = group.line.iter().position(|call| call.task == task)?;
                group.line.remove(position)
            })
        };
        self.len -= usize::from(taken.is_some());
        taken
    }

    /// The actor is gone: takes out all calls that have not started, in no particular order between
    /// callers.
    pub fn closed(&mut self) -> Vec<Call<J>> {
        let lines = self.groups.iter_mut().flat_map(|group| std::mem::take(&mut group.line));
        let mut calls: Vec<_> = lines.collect();
        let held = std::mem::take(&mut self.held).into_values().flatten();
        calls.extend(held.map(|entry| entry.call));
        self.held_caller.clear();
        self.len = 0;
        calls
    }

    /// Where a call is that has not started, and its job.
    pub fn place(&self, task: TaskKey) -> Option<(Place, &J)> {
        if let Some(caller) = self.held_caller.get(&task) {
            let held = self.held.get(caller)?;
            let call = &held.iter().find(|entry| entry.call.task == task)?.call;
            // The first of a line is always one that waits, or the line would have been released.
            return Some((Place::Held { by: held.front()?.call.task }, &call.job));
        }
        self.groups.iter().find_map(|group| {
            let ahead = group.line.iter().position(|call| call.task == task)?;
            Some((Place::InLine { ahead }, &group.line[ahead].job))
        })
    }

    /// The calls that have not started, in no order between callers and groups.
    pub fn calls(&self) -> impl Iterator<Item = &Call<J>> {
        let held = self.held.values().flatten().map(|entry| &entry.call);
        self.groups.iter().flat_map(|group| &group.line).chain(held)
    }

    /// How many calls have not started.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no call waits to be started.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a call runs that lets no other run beside it, of whatever group that is.
    pub fn runs_alone(&self) -> bool {
        let is_one_by_one = matches!(&self.groups[..], [group] if group.limit == 1);
        self.exclusive_runs || is_one_by_one && self.running > 0
    }

    /// How many calls run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Lets the calls of `caller` go that nothing holds back any more.
    fn release(&mut self, caller: CallerId) {
        let Some(held) = self.held.get_mut(&caller) else { return };
        while held.front().is_some_and(|first| first.ready) {
            let call = held.pop_front().expect("it was there a line ago").call;
            self.held_caller.remove(&call.task);
            self.groups[call.group].line.push_back(call);
        }
        if held.is_empty() {
            self.held.remove(&caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    struct Fixture {
        keys: SlotMap<TaskKey, ()>,
        queue: Queue<u32>,
    }

    impl Fixture {
        fn new(limits: &[usize]) -> Self {
            Fixture { keys: SlotMap::with_key(), queue: Queue::new(limits) }
        }

        fn submit(&mut self, caller: u64, job: u32, mode: Mode, ready: bool) -> TaskKey {
            self.submit_to(0, caller, job, mode, ready)
        }

        fn submit_to(
            &mut self,
            group: usize,
            caller: u64,
            job: u32,
            mode: Mode,
            ready: bool,
        ) -> TaskKey {
            let task = self.keys.insert(());
            self.queue.submitted(CallerId(caller), Call { task, group, mode, job }, ready);
            task
        }

        fn start_all(&mut self) -> Vec<u32> {
            std::iter::from_fn(|| self.queue.start_next()).map(|call| call.job).collect()
        }

        fn run_all(&mut self) -> Vec<u32> {
            let mut jobs = Vec::new();
            while let Some(call) = self.queue.start_next() {
                jobs.push(call.job);
                self.queue.finished(call.group, call.mode);
            }
            jobs
        }
    }

    #[test]
    fn a_call_that_waits_holds_back_its_own_caller_only() {
        let mut actor = Fixture::new(&[1]);
        let waits = actor.submit(1, 10, Mode::Exclusive, false);
        actor.submit(1, 11, Mode::Exclusive, true);
        actor.submit(2, 20, Mode::Exclusive, true);
        assert_eq!(actor.run_all(), [20]);
        actor.queue.argument_ready(waits);
        assert_eq!(actor.run_all(), [10, 11]);
        assert!(actor.queue.is_empty());
    }

    #[test]
    fn an_exclusive_call_runs_alone_and_is_not_overtaken() {
        let mut actor = Fixture::new(&[8]);
        actor.submit(1, 1, Mode::Shared, true);
        actor.submit(1, 2, Mode::Shared, true);
        actor.submit(1, 3, Mode::Exclusive, true);
        actor.submit(1, 4, Mode::Shared, true);
        assert_eq!(actor.start_all(), [1, 2]);
        actor.queue.finished(0, Mode::Shared);
        assert_eq!(actor.start_all(), []);
        actor.queue.finished(0, Mode::Shared);
        assert_eq!(actor.start_all(), [3]);
        actor.queue.finished(0, Mode::Exclusive);
        assert_eq!(actor.start_all(), [4]);
    }

    #[test]
    fn groups_have_limits_of_their_own() {
        let mut actor = Fixture::new(&[1, 2]);
        for job in 0..4 {
            actor.submit_to((job % 2) as usize, 1, job, Mode::Shared, true);
        }
        actor.submit_to(1, 1, 4, Mode::Shared, true);
        actor.submit_to(1, 1, 5, Mode::Shared, true);
        assert_eq!(actor.start_all(), [0, 1, 3]);
        actor.queue.finished(1, Mode::Shared);
        assert_eq!(actor.start_all(), [4]);
    }

    /// QUEUE-3, QUEUE-4: what a running call must not wait for.
    #[test]
    fn a_call_that_a_running_one_must_not_wait_for_is_known() {
        let mut actor = Fixture::new(&[2, 1]);
        actor.submit(1, 1, Mode::Shared, true);
        let shared = actor.submit(1, 2, Mode::Shared, true);
        let exclusive = actor.submit(2, 3, Mode::Exclusive, false);
        assert!(!actor.queue.waits_for_running(exclusive), "nothing runs");
        assert_eq!(actor.queue.place(shared), Some((Place::InLine { ahead: 1 }, &2)));
        assert_eq!(actor.queue.place(exclusive), Some((Place::Held { by: exclusive }, &3)));
        assert_eq!(actor.queue.start_next().map(|call| call.job), Some(1));
        assert!(!actor.queue.waits_for_running(shared));
        assert!(actor.queue.waits_for_running(exclusive));
        assert_eq!(actor.queue.start_next().map(|call| call.job), Some(2));
        assert!(!actor.queue.waits_for_running(shared), "it runs");
        actor.queue.finished(0, Mode::Shared);
        actor.queue.finished(0, Mode::Shared);
        actor.queue.argument_ready(exclusive);
        assert_eq!(actor.start_all(), [3]);
        let next = actor.submit_to(1, 1, 4, Mode::Shared, true);
        assert!(actor.queue.waits_for_running(next));
    }

    #[test]
    fn a_cancelled_call_lets_those_behind_it_go() {
        let mut actor = Fixture::new(&[1]);
        let waits = actor.submit(1, 10, Mode::Exclusive, false);
        let behind = actor.submit(1, 11, Mode::Exclusive, true);
        assert_eq!(actor.queue.cancelled(waits).map(|call| call.job), Some(10));
        assert_eq!(actor.queue.len(), 1);
        assert_eq!(actor.queue.cancelled(behind).map(|call| call.job), Some(11));
        assert_eq!(actor.queue.cancelled(behind), None);
        assert!(actor.queue.is_empty());
    }

    #[test]
    fn a_closed_queue_gives_every_call_back() {
        let mut actor = Fixture::new(&[1]);
        actor.submit(1, 1, Mode::Exclusive, true);
        actor.submit(1, 2, Mode::Exclusive, false);
        actor.submit(1, 3, Mode::Exclusive, true);
        let mut jobs: Vec<_> = actor.queue.closed().into_iter().map(|call| call.job).collect();
        jobs.sort_unstable();
        assert_eq!(jobs, [1, 2, 3]);
        assert!(actor.queue.is_empty());
    }
}
