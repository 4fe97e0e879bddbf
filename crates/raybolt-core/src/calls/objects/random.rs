//! The machine against a model that cannot be wrong: a map from keys to bytes.
//!
//! The shell below performs effects on a real arena of bytes, late and in any order. Each object is filled
//! with its key, so that a region used twice, moved while it is read, or lost on its way to disk shows in
//! what a reader sees.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::tests::start;
use super::*;

const CAPACITY_BYTES: u64 = 64 * ALIGN;

#[derive(Debug, Clone)]
enum Step {
    Put {
        bytes: u64,
        is_copy: bool,
    },
    LendSlab {
        process: u64,
        bytes: u64,
    },
    SealInSlab {
        slab: usize,
        offset: u64,
        bytes: u64,
    },
    ReturnSlab {
        slab: usize,
    },
    Pin {
        process: u64,
        object: usize,
    },
    Unpin {
        pin: usize,
    },
    Release {
        object: usize,
    },
    Lose {
        process: u64,
    },
    /// Performs one of the effects on disk that are due.
    Perform {
        which: usize,
        is_good: bool,
    },
    GiveUp {
        wait: usize,
    },
    Later {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = 0..CAPACITY_BYTES / 3;
    let step = prop_oneof![
        8 => (bytes.clone(), prop::bool::weighted(0.2))
            .prop_map(|(bytes, is_copy)| Step::Put { bytes, is_copy }),
        2 => (1u64..4, bytes.clone()).prop_map(|(process, bytes)| Step::LendSlab { process, bytes }),
        4 => (any::<usize>(), 0..16u64, 0..8 * ALIGN).prop_map(|(slab, unit, bytes)| {
            Step::SealInSlab { slab, offset: unit * ALIGN, bytes }
        }),
        1 => any::<usize>().prop_map(|slab| Step::ReturnSlab { slab }),
        6 => (0u64..4, any::<usize>()).prop_map(|(process, object)| Step::Pin { process, object }),
        5 => any::<usize>().prop_map(|pin| Step::Unpin { pin }),
        4 => any::<usize>().prop_map(|object| Step::Release { object }),
        1 => (1u64..4).prop_map(|process| Step::Lose { process }),
        6 => (any::<usize>(), prop::bool::weighted(0.85))
            .prop_map(|(which, is_good)| Step::Perform { which, is_good }),
        1 => any::<usize>().prop_map(|wait| Step::GiveUp { wait }),
        1 => (0u64..8).prop_map(|seconds| Step::Later { seconds }),
    ];
    prop::collection::vec(step, 1..250)
}

#[derive(Debug)]
struct World {
    machine: Objects,
    now: Instant,
    arena: Vec<u8>,
    files: BTreeMap<FileId, Vec<u8>>,
    /// Keys that are wanted, with how long they are and whether they may go.
    wanted: BTreeMap<Key, (u64, bool)>,
    pins: Vec<(ProcessId, Key, Region)>,
    slabs: Vec<(ProcessId, Ticket, Region)>,
    lost: Vec<ProcessId>,
    due: Vec<Effect>,
    room_waits: BTreeMap<Ticket, (Purpose, u64)>,
    pin_waits: BTreeMap<Ticket, (ProcessId, Key)>,
    is_copy: BTreeMap<Ticket, bool>,
    next_key: u64,
}

impl World {
    fn new() -> Self {
        let options = Options { capacity_bytes: CAPACITY_BYTES, spill_file_bytes: Some(8 * ALIGN) };
        World {
            machine: Objects::new(options),
            now: start(),
            arena: vec![0; CAPACITY_BYTES as usize],
            files: BTreeMap::new(),
            wanted: BTreeMap::new(),
            pins: Vec::new(),
            slabs: Vec::new(),
            lost: Vec::new(),
            due: Vec::new(),
            room_waits: BTreeMap::new(),
            pin_waits: BTreeMap::new(),
            is_copy: BTreeMap::new(),
            next_key: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put { bytes, is_copy } => {
                let ticket = self.want(Purpose::Object, bytes);
                self.is_copy.insert(ticket, is_copy);
            }
            Step::LendSlab { process, bytes } => {
                self.want(Purpose::Slab(ProcessId(process)), bytes);
            }
            Step::SealInSlab { slab, offset, bytes } => self.seal_in_slab(slab, offset, bytes),
            Step::ReturnSlab { slab } if !self.slabs.is_empty() => {
                let (process, ticket, _) = self.slabs.swap_remove(slab % self.slabs.len());
                self.machine.slab_returned(process, ticket);
            }
            Step::Pin { process, object } => self.pin(ProcessId(process), object),
            Step::Unpin { pin } if !self.pins.is_empty() => {
                let (process, key, region) = self.pins.swap_remove(pin % self.pins.len());
                self.assert_bytes(key, region);
                assert!(self.machine.unpinned(process, key));
            }
            Step::Release { object } => {
                if let Some(key) = self.some_key(object) {
                    self.wanted.remove(&key);
                    self.machine.released(key);
                }
            }
            Step::Lose { process } => {
                let process = ProcessId(process);
                self.lost.push(process);
                self.pins.retain(|(holder, ..)| *holder != process);
                self.slabs.retain(|(holder, ..)| *holder != process);
                self.machine.process_lost(process);
            }
            Step::Perform { which, is_good } if !self.due.is_empty() => {
                let effect = self.due.swap_remove(which % self.due.len());
                self.perform(effect, is_good);
            }
            Step::GiveUp { wait } => self.give_up(wait),
            Step::Later { seconds } => {
                self.now += Duration::from_secs(seconds);
                self.machine.deadlines_passed(self.now);
                assert!(self.machine.next_deadline().is_none_or(|deadline| deadline > self.now));
            }
            Step::ReturnSlab { .. } | Step::Unpin { .. } | Step::Perform { .. } => {}
        }
        self.hear();
        self.check();
        // Nothing has changed since: whoever can be served has been.
        self.machine.deadlines_passed(self.now);
        assert_eq!(self.machine.poll_effect(), None, "OBJ-5");
    }

    fn want(&mut self, purpose: Purpose, bytes: u64) -> Ticket {
        let deadline = self.now + Duration::from_secs(10);
        let ticket = self.machine.wanted(purpose, bytes, deadline);
        self.room_waits.insert(ticket, (purpose, bytes));
        ticket
    }

    fn seal_in_slab(&mut self, slab: usize, offset: u64, bytes: u64) {
        if self.slabs.is_empty() {
            return;
        }
        let (process, ticket, room) = self.slabs[slab % self.slabs.len()];
        let region = Region { offset: room.offset + offset, bytes };
        let key = self.key();
        let standing = Standing::Primary;
        let before = self.fill(key, region);
        match self.machine.sealed_in_slab(process, ticket, key, region, standing) {
            Ok(()) => {
                self.wanted.insert(key, (bytes, false));
            }
            Err(error) => {
                assert_eq!(error, SealError::NotInSlab(region));
                self.unfill(region, before);
            }
        }
    }

    fn pin(&mut self, process: ProcessId, object: usize) {
        let Some(key) = self.some_key(object) else { return };
        let deadline = self.now + Duration::from_secs(3);
        let ticket = self.machine.pin_wanted(process, key, deadline);
        self.pin_waits.insert(ticket, (process, key));
    }

    fn give_up(&mut self, wait: usize) {
        let tickets: Vec<_> = self.room_waits.keys().chain(self.pin_waits.keys()).collect();
        if tickets.is_empty() {
            return;
        }
        let ticket = *tickets[wait % tickets.len()];
        self.room_waits.remove(&ticket);
        self.pin_waits.remove(&ticket);
        self.machine.given_up(ticket);
    }

    fn hear(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Admit(ticket, region) => self.admitted(ticket, region),
                Effect::Pinned(ticket, region) => {
                    let (process, key) = self.pin_waits.remove(&ticket).expect("OBJ-4: one answer");
                    self.assert_bytes(key, region);
                    self.pins.push((process, key, region));
                }
                Effect::Refuse(ticket, _) => {
                    let room = self.room_waits.remove(&ticket).is_some();
                    assert!(room | self.pin_waits.remove(&ticket).is_some(), "OBJ-4: one answer");
                }
                Effect::RemoveFile(file) => {
                    self.files.remove(&file);
                }
                Effect::Evict(key) => {
                    let (_, is_copy) = self.wanted.remove(&key).expect("it was wanted");
                    assert!(is_copy, "OBJ-3: a primary is not dropped");
                }
                effect @ (Effect::Spill(..) | Effect::Restore { .. }) => self.due.push(effect),
            }
        }
    }

    fn admitted(&mut self, ticket: Ticket, region: Region) {
        let (purpose, bytes) = self.room_waits.remove(&ticket).expect("OBJ-4: one answer");
        if let Purpose::Slab(process) = purpose {
            assert!(!self.lost.contains(&process), "OBJ-6");
            self.slabs.push((process, ticket, region));
            return;
        }
        let key = self.key();
        assert_eq!(region.bytes, bytes);
        self.fill(key, region);
        let is_copy = self.is_copy.remove(&ticket).unwrap_or(false);
        let standing = if is_copy { Standing::Copy } else { Standing::Primary };
        self.wanted.insert(key, (bytes, is_copy));
        self.machine.sealed(ticket, key, standing).unwrap();
    }

    fn perform(&mut self, effect: Effect, is_good: bool) {
        match effect {
            Effect::Spill(file, _) if !is_good => self.machine.spill_failed(file),
            Effect::Spill(file, regions) => {
                let bytes = regions.iter().flat_map(|region| self.bytes(*region).to_vec());
                let bytes = bytes.collect();
                self.files.insert(file, bytes);
                self.machine.spilled(file);
            }
            Effect::Restore { key, .. } if !is_good => self.machine.restore_failed(key),
            Effect::Restore { key, file, offset, region } => {
                let from = offset as usize..(offset + region.bytes) as usize;
                let to = region.offset as usize..(region.offset + region.bytes) as usize;
                let file = self.files.get(&file).expect("OBJ-3: a file stays while it is read");
                self.arena[to].copy_from_slice(&file[from]);
                self.machine.restored(key);
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// OBJ-1 and OBJ-2, whatever happened.
    fn check(&self) {
        for (_, key, region) in &self.pins {
            self.assert_bytes(*key, *region);
        }
        for wait in self.machine.waiting.values() {
            if let Want::Restore(key) = wait.want {
                assert!(self.machine.pin_waits.contains_key(&key), "nobody wants {key:?} back");
            }
        }
        let usage = self.machine.usage();
        let pinned: BTreeMap<_, _> = self.pins.iter().map(|(_, key, to)| (*key, *to)).collect();
        let pinned_bytes = pinned.values().map(|to| to.bytes.max(1).next_multiple_of(ALIGN)).sum();
        assert_eq!(usage.pinned_bytes, pinned_bytes);
        assert!(usage.used_bytes <= CAPACITY_BYTES);
        assert_eq!(usage.slabs, self.slabs.len() as u64);
        for (key, (bytes, _)) in &self.wanted {
            assert!(self.machine.contains(*key), "OBJ-3: {key:?} is lost");
            assert_eq!(self.machine.object_bytes(*key), Some(*bytes));
        }
    }

    /// Everything ends: OBJ-1.
    fn end(mut self) {
        while let Some(effect) = self.due.pop() {
            self.perform(effect, true);
            self.hear();
            self.check();
        }
        // What still waits is released by a deadline, and what that frees is wanted by nobody.
        for (key, _) in std::mem::take(&mut self.wanted) {
            self.machine.released(key);
            self.hear();
        }
        self.now += Duration::from_secs(60);
        self.machine.deadlines_passed(self.now);
        self.hear();
        while let Some(effect) = self.due.pop() {
            self.perform(effect, true);
            self.hear();
        }
        assert!(self.room_waits.is_empty() && self.pin_waits.is_empty(), "OBJ-4: {self:?}");
        for (key, _) in std::mem::take(&mut self.wanted) {
            self.machine.released(key);
        }
        for (process, key, _) in std::mem::take(&mut self.pins) {
            self.machine.unpinned(process, key);
        }
        for process in 0..4 {
            self.machine.process_lost(ProcessId(process));
        }
        self.hear();
        assert!(self.machine.usage().is_zero(), "OBJ-1: {:?}", self.machine.usage());
        assert_eq!(self.machine.free_regions().count(), 1);
        assert!(self.files.is_empty(), "files without a use are removed");
    }

    fn some_key(&self, which: usize) -> Option<Key> {
        let count = self.wanted.len().max(1);
        self.wanted.keys().nth(which % count).copied()
    }

    fn key(&mut self) -> Key {
        self.next_key += 1;
        Key(self.next_key)
    }

    fn bytes(&self, region: Region) -> &[u8] {
        &self.arena[region.offset as usize..(region.offset + region.bytes) as usize]
    }

    fn fill(&mut self, key: Key, region: Region) -> Vec<u8> {
        let end = (region.end().unwrap() as usize).min(self.arena.len());
        let part = &mut self.arena[(region.offset as usize).min(end)..end];
        let before = part.to_vec();
        part.fill(key.0 as u8);
        before
    }

    fn unfill(&mut self, region: Region, before: Vec<u8>) {
        let offset = (region.offset as usize).min(self.arena.len());
        self.arena[offset..offset + before.len()].copy_from_slice(&before);
    }

    fn assert_bytes(&self, key: Key, region: Region) {
        let is_intact = self.bytes(region).iter().all(|byte| *byte == key.0 as u8);
        assert!(is_intact, "OBJ-2, OBJ-3: {key:?} is not what was written");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_store_does_what_a_map_does(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.end();
    }
}
