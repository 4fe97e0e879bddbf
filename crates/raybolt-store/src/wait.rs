//! The machine under its lock, and those who wait for it.
//!
//! Whoever waits performs the work on files that the machine wants, whoever it is for; see STORE-5.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use raybolt_core::calls::objects::{Effect, FileId, Key, Objects, Refusal, Region, Ticket};

use crate::disk::Disk;
use crate::error::Refused;
use crate::map::Map;

/// The store's state, and where its work is done.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// An answer or work for those who wait.
    changed: Condvar,
    map: Arc<Map>,
    disk: Option<Box<dyn Disk>>,
}

struct State {
    machine: Objects,
    /// How waits ended whose threads have not seen it yet.
    answers: BTreeMap<Ticket, Result<Region, Refused>>,
    /// Work on files; there is some only while somebody waits.
    work: VecDeque<Work>,
    removals: Vec<FileId>,
    evicted: Vec<Key>,
    /// What the disk said last.
    reason: String,
}

enum Work {
    Spill(FileId, Vec<Region>),
    Restore { key: Key, file: FileId, offset: u64, region: Region },
}

enum Done {
    Spill(FileId, io::Result<()>),
    Restore(Key, io::Result<()>),
}

impl Shared {
    pub(crate) fn new(machine: Objects, map: Arc<Map>, disk: Option<Box<dyn Disk>>) -> Self {
        let state = State {
            machine,
            answers: BTreeMap::new(),
            work: VecDeque::new(),
            removals: Vec::new(),
            evicted: Vec::new(),
            reason: String::new(),
        };
        Shared { state: Mutex::new(state), changed: Condvar::new(), map, disk }
    }

    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Tells the machine something for which nobody has to wait.
    pub(crate) fn tell<R>(&self, tell: impl FnOnce(&mut Objects) -> R) -> R {
        let mut state = self.lock();
        let outcome = tell(&mut state.machine);
        self.hear(&mut state);
        let removals = std::mem::take(&mut state.removals);
        drop(state);
        self.remove(removals);
        outcome
    }

    /// Asks the machine for something, and waits until it answers or nothing more can be done.
    pub(crate) fn ask(&self, ask: impl FnOnce(&mut Objects) -> Ticket) -> Asked {
        let mut state = self.lock();
        let ticket = ask(&mut state.machine);
        loop {
            self.hear(&mut state);
            if !state.removals.is_empty() {
                let removals = std::mem::take(&mut state.removals);
                drop(state);
                self.remove(removals);
                state = self.lock();
            } else if let Some(work) = state.work.pop_front() {
                drop(state);
                let done = self.perform(work);
                state = self.lock();
                state.finish(done);
            } else if let Some(outcome) = state.answers.remove(&ticket) {
                return Asked { ticket, outcome };
            } else {
                state = self.sleep(state);
            }
        }
    }

    /// Takes the names of copies that were dropped.
    pub(crate) fn take_evicted(&self) -> Vec<Key> {
        std::mem::take(&mut self.lock().evicted)
    }

    /// Sleeps until something has changed, at most until the next deadline, which is then told.
    fn sleep<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let now = Instant::now();
        let Some(deadline) = state.machine.next_deadline() else {
            return self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        if deadline <= now {
            state.machine.deadlines_passed(now);
            return state;
        }
        let outcome = self.changed.wait_timeout(state, deadline - now);
        outcome.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Takes the machine's effects, and wakes whoever they are for.
    fn hear(&self, state: &mut State) {
        let mut is_news = false;
        while let Some(effect) = state.machine.poll_effect() {
            is_news = true;
            match effect {
                Effect::Admit(ticket, region) | Effect::Pinned(ticket, region) => {
                    state.answers.insert(ticket, Ok(region));
                }
                Effect::Refuse(ticket, refusal) => {
                    let refused = self.refused(state, refusal);
                    state.answers.insert(ticket, Err(refused));
                }
                Effect::Spill(file, regions) => state.work.push_back(Work::Spill(file, regions)),
                Effect::Restore { key, file, offset, region } => {
                    state.work.push_back(Work::Restore { key, file, offset, region });
                }
                Effect::RemoveFile(file) => state.removals.push(file),
                Effect::Evict(key) => state.evicted.push(key),
            }
        }
        if is_news {
            self.changed.notify_all();
        }
    }

    fn refused(&self, state: &State, refusal: Refusal) -> Refused {
        let place = self.disk.as_ref().map(|disk| disk.place()).unwrap_or_default();
        Refused { refusal, place, reason: state.reason.clone() }
    }

    fn perform(&self, work: Work) -> Done {
        match work {
            Work::Spill(file, regions) => Done::Spill(file, self.spill(file, &regions)),
            Work::Restore { key, file, offset, region } => {
                Done::Restore(key, self.restore(file, offset, region))
            }
        }
    }

    fn spill(&self, file: FileId, regions: &[Region]) -> io::Result<()> {
        let parts: Option<Vec<_>> = regions.iter().map(|region| self.map.read(*region)).collect();
        self.disk()?.write(file, &parts.ok_or(io::ErrorKind::InvalidInput)?)
    }

    fn restore(&self, file: FileId, offset: u64, region: Region) -> io::Result<()> {
        self.map.populate(region)?;
        let mut to = self.map.claim(region).ok_or(io::ErrorKind::InvalidInput)?;
        self.disk()?.read(file, offset, &mut to)
    }

    fn remove(&self, files: Vec<FileId>) {
        if let Some(disk) = &self.disk {
            files.into_iter().for_each(|file| disk.remove(file));
        }
    }

    fn disk(&self) -> io::Result<&dyn Disk> {
        self.disk.as_deref().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn finish(&mut self, done: Done) {
        match done {
            Done::Spill(file, Ok(())) => self.machine.spilled(file),
            Done::Spill(file, Err(error)) => {
                self.reason = error.to_string();
                self.machine.spill_failed(file);
            }
            Done::Restore(key, Ok(())) => self.machine.restored(key),
            Done::Restore(key, Err(error)) => {
                self.reason = error.to_string();
                self.machine.restore_failed(key);
            }
        }
    }
}

/// How a wait ended.
pub(crate) struct Asked {
    pub(crate) ticket: Ticket,
    pub(crate) outcome: Result<Region, Refused>,
}
