//! Knows who really holds each object, in whichever process, and compares what the owner frees.
//!
//! An object is named by the id under which it was made: by its owner, or by a worker that made it and
//! whose message is still under way.
//!
//! # Checked
//! - An object is freed only when no handle of the driver, no unfinished task, no living worker and no
//!   message under way holds it (OWN-1).
//! - It is freed once, and as soon as the owner knows that nobody holds it (OWN-4).
//! - Nobody speaks of an object that he holds and finds it gone.
//! - A worker gives back what it was lent, once (UP-3).

use std::collections::{BTreeMap, BTreeSet};

use raybolt_core::calls::owner::ObjectKey;
use raybolt_core::ids::ProcessId;
use slotmap::{Key, KeyData};

use crate::trace::{Verdict, require};

const NAME: &str = "objects";

/// Ids from here up were chosen by workers.
pub const CHOSEN_THERE: u64 = 1 << 63;

/// The truth about all objects of one owner.
#[derive(Debug, Default)]
pub struct Holds {
    objects: BTreeMap<u64, Object>,
    /// Under which ids the objects were made that workers made.
    chosen: BTreeMap<ObjectKey, u64>,
    /// Objects that nobody holds as far as the owner can know, to be freed within the step.
    unheld: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Object {
    /// Nothing as long as the owner has not heard of it.
    key: Option<ObjectKey>,
    /// The worker that made it.
    maker: Option<ProcessId>,
    /// Handles of the driver: the user's, in arguments of unfinished tasks, in values.
    handles: u32,
    /// Unfinished tasks that take it as an argument.
    uses: u32,
    /// Whether its own task has not ended.
    pending: bool,
    /// Handles in workers, and in messages from and to them.
    copies: BTreeMap<ProcessId, u32>,
    /// Handles of workers as far as the owner was told.
    known: BTreeMap<ProcessId, u32>,
}

impl Holds {
    /// The driver made an object, with one handle; `pending`: a task is to make its value.
    pub fn made_here(&mut self, key: ObjectKey, pending: bool) {
        let record = Object { key: Some(key), handles: 1, pending, ..Object::default() };
        self.objects.insert(key.data().as_ffi(), record);
    }

    /// A worker made an object; its message is under way.
    pub fn made_there(&mut self, id: u64, by: ProcessId) {
        let copies = BTreeMap::from([(by, 1)]);
        let record = Object { maker: Some(by), copies, ..Object::default() };
        self.objects.insert(id, record);
    }

    /// The owner heard of an object that a worker made.
    pub fn adopted(&mut self, id: u64, key: ObjectKey, by: ProcessId, pending: bool) {
        self.chosen.insert(key, id);
        let record = self.objects.get_mut(&id).expect("who lives is heard in order");
        record.key = Some(key);
        record.pending = pending;
        record.known.insert(by, 1);
    }

    /// There is one more handle of the driver. Says whether it is the only one.
    pub fn cloned(&mut self, key: ObjectKey) -> bool {
        let record = self.of(key);
        record.handles += 1;
        record.handles == 1
    }

    /// There is one handle of the driver less. Says whether it was the last.
    pub fn dropped(&mut self, key: ObjectKey) -> bool {
        let record = self.of(key);
        record.handles -= 1;
        let last = record.handles == 0;
        self.look_at(key);
        last
    }

    /// A task takes it as an argument.
    pub fn used(&mut self, key: ObjectKey) {
        self.of(key).uses += 1;
    }

    /// That task has ended.
    pub fn unused(&mut self, key: ObjectKey) {
        self.of(key).uses -= 1;
        self.look_at(key);
    }

    /// The task that makes it has ended, or its value is there from the start.
    pub fn settled(&mut self, key: ObjectKey) {
        self.of(key).pending = false;
        self.look_at(key);
    }

    /// The driver sends a reference to a worker.
    pub fn sent(&mut self, key: ObjectKey, to: ProcessId) {
        let record = self.of(key);
        *record.copies.entry(to).or_default() += 1;
        *record.known.entry(to).or_default() += 1;
    }

    /// A worker puts one more handle somewhere: into a message.
    pub fn taken(&mut self, id: u64, by: ProcessId) -> Verdict {
        let name = self.name(id);
        let record = self.objects.get_mut(&name);
        let held = record.as_ref().is_some_and(|record| record.copies.contains_key(&by));
        require(held, NAME, || format!("OWN-1: {by} sends {id:x}, which was freed: {record:?}"))?;
        let record = self.objects.get_mut(&name).expect("it was there a line ago");
        *record.copies.entry(by).or_default() += 1;
        Ok(())
    }

    /// A worker lets one handle go, or a message that held one has arrived.
    pub fn let_go(&mut self, id: u64, by: ProcessId) {
        let name = self.name(id);
        if let Some(record) = self.objects.get_mut(&name) {
            take_one(&mut record.copies, by);
        }
    }

    /// The owner hears that a handle is gone.
    pub fn release_heard(&mut self, key: ObjectKey, by: ProcessId) -> Verdict {
        let record = self.of(key);
        require(record.known.contains_key(&by), NAME, || {
            format!("UP-3: {by} gives {key:?} back more often than it was lent")
        })?;
        take_one(&mut record.known, by);
        self.look_at(key);
        Ok(())
    }

    /// A process is declared dead: what it holds does not count any more.
    pub fn process_lost(&mut self, process: ProcessId) {
        let mut touched = Vec::new();
        self.objects.retain(|_, record| {
            record.copies.remove(&process);
            if record.known.remove(&process).is_some() {
                touched.extend(record.key);
            }
            record.key.is_some() || record.maker != Some(process)
        });
        for key in touched {
            self.look_at(key);
        }
    }

    /// Somebody who holds an object speaks of it to its owner.
    pub fn spoken_of(&self, key: ObjectKey, by: ProcessId) -> Verdict {
        require(self.objects.contains_key(&self.name_of(key)), NAME, || {
            format!("OWN-1: process {by} holds {key:?} and speaks of it, but it was freed")
        })
    }

    /// The owner freed an object.
    pub fn freed(&mut self, key: ObjectKey) -> Verdict {
        let name = self.name_of(key);
        let record = self.objects.remove(&name);
        require(record.is_some(), NAME, || format!("OWN-1: {key:?} is freed a second time"))?;
        let record = record.expect("it was there a line ago");
        self.chosen.remove(&key);
        self.unheld.remove(&name);
        let held = record.is_held() || !record.copies.is_empty();
        require(!held, NAME, || format!("OWN-1: {key:?} is freed while held: {record:?}"))
    }

    /// The owner has performed all its effects.
    pub fn settled_all(&mut self) -> Verdict {
        for name in std::mem::take(&mut self.unheld) {
            let record = self.objects.get(&name).filter(|record| !record.is_held());
            require(record.is_none(), NAME, || {
                format!("OWN-4: nobody holds {name:x}, but it is not freed: {record:?}")
            })?;
        }
        Ok(())
    }

    /// Objects that are there, for the final report.
    pub fn left(&self) -> Vec<String> {
        self.objects.iter().map(|(name, record)| format!("{name:x}: {record:?}")).collect()
    }

    fn look_at(&mut self, key: ObjectKey) {
        let name = self.name_of(key);
        if self.objects.get(&name).is_some_and(|record| !record.is_held()) {
            self.unheld.insert(name);
        }
    }

    fn name(&self, id: u64) -> u64 {
        if id >= CHOSEN_THERE { id } else { self.name_of(KeyData::from_ffi(id).into()) }
    }

    fn name_of(&self, key: ObjectKey) -> u64 {
        self.chosen.get(&key).copied().unwrap_or_else(|| key.data().as_ffi())
    }

    fn of(&mut self, key: ObjectKey) -> &mut Object {
        let name = self.name_of(key);
        self.objects.get_mut(&name).expect("the world speaks of objects that are held")
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
