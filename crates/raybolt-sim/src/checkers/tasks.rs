//! Follows every task from its submission to its end.
//!
//! # Checked
//! - A task ends once, and its results are delivered once (OWN-2).
//! - It is lent at most `1 + retries` times, to one worker at a time, and only with all arguments there
//!   (OWN-3).
//! - It is retried while retries are left, and failed without being run only if an argument failed.
//! - None is forgotten.

use std::collections::BTreeMap;

use raybolt_core::calls::owner::{Attempt, ObjectKey, TaskKey};

use crate::trace::{Verdict, require};

const NAME: &str = "tasks";

/// The truth about all tasks of one owner.
#[derive(Debug, Default)]
pub struct Tasks {
    tasks: BTreeMap<TaskKey, Task>,
    /// Whether an object's task went well; nothing for those that are pending.
    results: BTreeMap<ObjectKey, bool>,
    /// Whether the session ended: nothing is tried again.
    ended: bool,
}

#[derive(Debug)]
struct Task {
    is_call: bool,
    retries: u32,
    lent: u32,
    /// How often it was given back without having begun.
    given_back: u32,
    state: State,
    needs: Vec<ObjectKey>,
    returns: Vec<ObjectKey>,
    /// Whether its results failed before it ended.
    given_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for arguments, for a worker, or for its turn.
    Open,
    Lent(Attempt),
    /// It is going to be failed without being run.
    Failing,
    Ended,
}

impl Tasks {
    /// An object is there from the start.
    pub fn put(&mut self, object: ObjectKey) {
        self.results.insert(object, true);
    }

    /// A task was submitted.
    pub fn submitted(
        &mut self,
        key: TaskKey,
        is_call: bool,
        retries: u32,
        needs: Vec<ObjectKey>,
        returns: Vec<ObjectKey>,
    ) {
        let (lent, given_back, given_up) = (0, 0, false);
        let task = Task {
            is_call,
            retries,
            lent,
            given_back,
            state: State::Open,
            needs,
            returns,
            given_up,
        };
        self.tasks.insert(key, task);
    }

    /// A task was handed to a worker, or a call to its actor.
    pub fn lent(&mut self, key: TaskKey, attempt: Attempt) -> Verdict {
        let task = &self.tasks[&key];
        let fits = task.state == State::Open && attempt == task.lent;
        require(fits, NAME, || format!("{key:?} is lent as attempt {attempt}: {task:?}"))?;
        require(task.may_retry(), NAME, || {
            format!("OWN-3: {key:?} is lent once too often: {task:?}")
        })?;
        let missing = task.needs.iter().find(|need| self.results.get(need) != Some(&true));
        require(missing.is_none(), NAME, || {
            format!("{key:?} is lent, but its argument {missing:?} is not there")
        })?;
        let task = self.of(key);
        task.state = State::Lent(attempt);
        task.lent += 1;
        Ok(())
    }

    /// A call was sent to its actor.
    pub fn sent(&self, key: TaskKey) -> Verdict {
        let task = &self.tasks[&key];
        let missing = task.needs.iter().find(|need| self.results.get(need) != Some(&true));
        require(task.state == State::Open && missing.is_none(), NAME, || {
            format!("{key:?} is sent, its argument {missing:?} is not there: {task:?}")
        })
    }

    /// Whether an answer for this attempt is the one awaited.
    pub fn is_current(&self, key: TaskKey, attempt: Attempt) -> bool {
        let task = &self.tasks[&key];
        match task.state {
            State::Open => task.is_call,
            State::Lent(lent) => lent == attempt,
            State::Failing => true,
            State::Ended => false,
        }
    }

    /// An attempt failed or was lost; the owner says whether it is queued again.
    pub fn retried(&mut self, key: TaskKey, attempt: Attempt, again: Option<bool>) -> Verdict {
        let (current, ended) = (self.is_current(key, attempt), self.ended);
        let task = self.of(key);
        let expected = current.then_some(!ended && !task.is_call && task.may_retry());
        require(again == expected, NAME, || {
            format!("OWN-3: a retry of {key:?} gives {again:?} instead of {expected:?}: {task:?}")
        })?;
        if again == Some(true) {
            task.state = State::Open;
        }
        Ok(())
    }

    /// An attempt was lost that had not begun; the owner says whether it is queued again.
    pub fn queued_again(&mut self, key: TaskKey, attempt: Attempt, again: Option<bool>) -> Verdict {
        let (current, ended) = (self.is_current(key, attempt), self.ended);
        let task = self.of(key);
        let expected = current.then_some(!ended);
        require(again == expected, NAME, || {
            format!("{key:?} had not begun, and comes back: {again:?}: {task:?}")
        })?;
        if again == Some(true) {
            task.state = State::Open;
            task.given_back += 1;
        }
        Ok(())
    }

    /// The owner wants a task failed, since an argument failed.
    pub fn argument_failed(&mut self, key: TaskKey) -> Verdict {
        let task = &self.tasks[&key];
        let failed = task.needs.iter().any(|need| self.results.get(need) == Some(&false));
        require(failed && task.state == State::Open, NAME, || {
            format!("{key:?} is failed for its arguments, which did not fail: {task:?}")
        })?;
        self.of(key).state = State::Failing;
        Ok(())
    }

    /// The owner gave a task back that had not started, since somebody cancelled it.
    pub fn taken_back(&mut self, key: TaskKey) -> Verdict {
        let task = self.of(key);
        require(task.state == State::Open, NAME, || format!("{key:?} is taken back: {task:?}"))?;
        task.state = State::Failing;
        Ok(())
    }

    /// The session ends.
    pub fn session_ended(&mut self) {
        self.ended = true;
    }

    /// Nobody waits for a task's results any more. Returns those that fail now.
    pub fn given_up(&mut self, key: TaskKey) -> Vec<ObjectKey> {
        let task = self.of(key);
        if task.state == State::Ended || std::mem::replace(&mut task.given_up, true) {
            return Vec::new();
        }
        let returns = task.returns.clone();
        self.results.extend(returns.iter().map(|object| (*object, false)));
        returns
    }

    /// Whether a task has ended.
    pub fn has_ended(&self, key: TaskKey) -> bool {
        self.tasks[&key].state == State::Ended
    }

    /// The owner took an answer, or refused it. Returns what a task that has ended now needed, and what it
    /// delivers.
    pub fn answered(
        &mut self,
        key: TaskKey,
        attempt: Attempt,
        success: bool,
        accepted: bool,
    ) -> Verdict<Option<(Vec<ObjectKey>, Vec<ObjectKey>)>> {
        let current = self.is_current(key, attempt);
        let task = &self.tasks[&key];
        require(accepted == current, NAME, || {
            format!(
                "OWN-2: attempt {attempt} of {key:?} is answered, accepted: {accepted}: {task:?}"
            )
        })?;
        if !accepted {
            return Ok(None);
        }
        let task = self.of(key);
        task.state = State::Ended;
        let (needs, mut returns) = (task.needs.clone(), task.returns.clone());
        if task.given_up {
            returns.clear(); // They have failed before, whatever the task says.
        }
        for object in &returns {
            let before = self.results.insert(*object, success);
            require(before.is_none(), NAME, || format!("OWN-2: {object:?} is delivered twice"))?;
        }
        Ok(Some((needs, returns)))
    }

    /// Whether an object is there: with a value, with an error, or not yet.
    pub fn result(&self, object: ObjectKey) -> Option<bool> {
        self.results.get(&object).copied()
    }

    /// What has not ended, and what it waits for.
    pub fn waiting(&self) -> Vec<String> {
        let open = self.tasks.iter().filter(|(_, task)| task.state != State::Ended);
        open.map(|(key, task)| {
            let pending: Vec<_> =
                task.needs.iter().filter(|need| !self.results.contains_key(need)).collect();
            let what = if pending.is_empty() { "a worker" } else { "its arguments" };
            format!("{key:?} for {what} {pending:?}: {task:?}")
        })
        .collect()
    }

    fn of(&mut self, key: TaskKey) -> &mut Task {
        self.tasks.get_mut(&key).expect("the world speaks of tasks that were submitted")
    }
}

impl Task {
    fn may_retry(&self) -> bool {
        self.lent <= self.retries + self.given_back
    }
}
