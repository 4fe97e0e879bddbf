//! Knows who really holds each object, and compares what the owner frees.
//!
//! # Checked
//! - An object is freed only when no handle, no unfinished task and no living process holds it (OWN-1).
//! - It is freed once, and as soon as the owner knows that nobody holds it (OWN-4).
//! - Nobody asks for an object that he holds and finds it gone.

use std::collections::{BTreeMap, BTreeSet};

use raybolt_core::calls::owner::ObjectKey;
use raybolt_core::ids::ProcessId;

use crate::trace::{Verdict, require};

const NAME: &str = "objects";

/// The truth about all objects of one owner.
#[derive(Debug, Default)]
pub struct Objects {
    objects: BTreeMap<ObjectKey, Object>,
    /// Objects that nobody holds as far as the owner can know, to be freed within the step.
    unheld: BTreeSet<ObjectKey>,
}

#[derive(Debug, Default)]
struct Object {
    /// Handles of this process, in the user's hands and in the arguments of unfinished tasks.
    handles: u32,
    /// Unfinished tasks that take it as an argument.
    uses: u32,
    /// Whether its own task has not ended.
    pending: bool,
    /// Copies that processes keep.
    kept: BTreeMap<ProcessId, u32>,
    /// Copies that the owner was told of, and of which it was not told that they are gone.
    known: BTreeMap<ProcessId, u32>,
}

impl Objects {
    /// An object with one handle; `pending`: a task is to make it.
    pub fn created(&mut self, object: ObjectKey, pending: bool) {
        let record = Object { handles: 1, pending, ..Object::default() };
        self.objects.insert(object, record);
    }

    /// There is one more handle.
    pub fn cloned(&mut self, object: ObjectKey) {
        self.of(object).handles += 1;
    }

    /// There is one handle less. Says whether it was the last.
    pub fn dropped(&mut self, object: ObjectKey) -> bool {
        let record = self.of(object);
        record.handles -= 1;
        let last = record.handles == 0;
        self.look_at(object);
        last
    }

    /// A task takes it as an argument.
    pub fn used(&mut self, object: ObjectKey) {
        self.of(object).uses += 1;
    }

    /// That task has ended.
    pub fn unused(&mut self, object: ObjectKey) {
        self.of(object).uses -= 1;
        self.look_at(object);
    }

    /// The task that makes it has ended.
    pub fn settled(&mut self, object: ObjectKey) {
        self.of(object).pending = false;
        self.look_at(object);
    }

    /// A process keeps a copy that it was lent.
    pub fn kept(&mut self, object: ObjectKey, by: ProcessId) -> Verdict {
        let exists = self.objects.contains_key(&object);
        require(exists, NAME, || format!("{object:?} was lent to {by}, and freed meanwhile"))?;
        *self.of(object).kept.entry(by).or_default() += 1;
        Ok(())
    }

    /// A process dropped a copy that it kept.
    pub fn let_go(&mut self, object: ObjectKey, by: ProcessId) {
        take_one(&mut self.of(object).kept, by);
    }

    /// The owner hears of a copy.
    pub fn borrow_heard(&mut self, object: ObjectKey, by: ProcessId) {
        *self.of(object).known.entry(by).or_default() += 1;
    }

    /// The owner hears that a copy is gone.
    pub fn release_heard(&mut self, object: ObjectKey, by: ProcessId) {
        take_one(&mut self.of(object).known, by);
        self.look_at(object);
    }

    /// A process is declared dead: what it holds does not count any more.
    pub fn process_lost(&mut self, process: ProcessId) {
        let mut touched = Vec::new();
        for (object, record) in &mut self.objects {
            record.kept.remove(&process);
            if record.known.remove(&process).is_some() {
                touched.push(*object);
            }
        }
        for object in touched {
            self.look_at(object);
        }
    }

    /// Somebody who holds an object asks for it.
    pub fn fetched(&self, object: ObjectKey, by: ProcessId) -> Verdict {
        require(self.objects.contains_key(&object), NAME, || {
            format!("OWN-1: process {by} holds {object:?} and asks for it, but it was freed")
        })
    }

    /// The owner freed an object.
    pub fn freed(&mut self, object: ObjectKey) -> Verdict {
        let record = self.objects.get(&object);
        require(record.is_some(), NAME, || format!("OWN-1: {object:?} is freed a second time"))?;
        let record = self.objects.remove(&object).expect("it was there a line ago");
        self.unheld.remove(&object);
        let held = record.is_held() || !record.kept.is_empty();
        require(!held, NAME, || format!("OWN-1: {object:?} is freed while held: {record:?}"))
    }

    /// The owner has performed all its effects.
    pub fn settled_all(&self) -> Verdict {
        let left = self
            .unheld
            .iter()
            .find(|object| self.objects.get(*object).is_some_and(|record| !record.is_held()));
        require(left.is_none(), NAME, || {
            let object = left.copied().unwrap_or_default();
            format!(
                "OWN-4: nobody holds {object:?}, but it is not freed: {:?}",
                self.objects[&object]
            )
        })
    }

    /// Objects that are there, for the final report.
    pub fn left(&self) -> Vec<String> {
        self.objects.iter().map(|(object, record)| format!("{object:?}: {record:?}")).collect()
    }

    fn look_at(&mut self, object: ObjectKey) {
        if !self.of(object).is_held() {
            self.unheld.insert(object);
        }
    }

    fn of(&mut self, object: ObjectKey) -> &mut Object {
        self.objects.get_mut(&object).expect("the world speaks of objects that are held")
    }
}

impl Object {
    /// As far as the owner can know.
    fn is_held(&self) -> bool {
        self.handles > 0 || self.uses > 0 || self.pending || !self.known.is_empty()
    }
}

fn take_one(counts: &mut BTreeMap<ProcessId, u32>, by: ProcessId) {
    if let Some(count) = counts.get_mut(&by) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&by);
        }
    }
}
