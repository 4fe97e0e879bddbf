//! A driver, which owns everything and hosts the node, and its worker processes.
//!
//! # What runs
//! The production owner, scheduler, fleet, queues and store, all in the driver as in the product, and
//! shells around them that mirror those of the runtime. Workers are simple: they follow the rules of slots
//! (tasks of one lease run in order; one that waits gives its CPU back and lets the next start), and their
//! user code does what chance says. All that is said goes through frames and streams of bytes.
//!
//! # What programs do
//! The driver's program submits tasks over earlier results, passes references inside values, puts, gets,
//! clones, drops, cancels, makes actors and calls them from several callers. A task in a worker submits
//! others, which the driver owns; it waits for them, keeps references for later, passes them on, returns
//! them inside values, puts, and reads and writes large values in the store.
//!
//! References come as loans, with bodies that are read once, more often or never. What holds GPUs runs in workers
//! of its own kind, which come when they are wanted.
//!
//! # Faults
//! Workers die at any step: before and after what is pushed to them arrives, while a task runs, with its
//! answer in the outbox or half of it on the way, holding references, with a slab half filled. Links stall.
//! Tasks fail, deadlines pass, what does not stop is killed, disks fail, actors are killed.
//!
//! # Demanded
//! What the checkers of calls check, all the time; and after healing: every task ended, every waiting
//! `get` told, and when the user has let go of everything: no object, no lease, no byte of the store left.

use std::collections::{BTreeMap, BTreeSet};

use raybolt_core::calls::fleet::Fleet;
use raybolt_core::calls::kinds::WorkerKind;
use raybolt_core::calls::owner::{ActorKey, Attempt, ClassId, ObjectKey, Owner, TaskKey};
use raybolt_core::calls::scheduler::{CPU, Demand, GPU, LeaseKey, Scheduler};
use raybolt_core::ids::ProcessId;
use raybolt_core::plant::Plants;
use slotmap::{Key, KeyData, SlotMap};

use crate::checkers::arena::Arena;
use crate::checkers::holds::Holds;
use crate::checkers::lives::Lives;
use crate::checkers::resources::Resources;
use crate::checkers::streams::Streams;
use crate::checkers::tasks::Tasks;
use crate::clock::Clock;
use crate::rng::Rng;
use crate::trace::{Trace, Verdict, require};

mod actors;
mod driver;
mod generators;
mod links;
mod loans;
mod messages;
mod options;
mod program;
mod requests;
mod store;
mod streams;
mod tasks;
mod user;
mod worker;

use actors::Actor;
use driver::Leased;
use links::{Links, Way};
use messages::{ToDriver, ToWorker};
use options::Options;
use program::Program;
use store::{Store, StoreEvent};
use streams::Stream;
use tasks::{Job, Record};
use worker::Worker;

/// The driver's own name.
const DRIVER: ProcessId = ProcessId(0);

/// The resource that actors take, of which there is enough.
const SEAT: &str = "seat";

/// What is to happen.
#[derive(Debug)]
pub enum Event {
    /// The user's program takes its next step.
    Program,
    /// What was written to a stream goes out.
    Flush(ProcessId, Way),
    /// Bytes arrive.
    Arrives(ProcessId, Way, Vec<u8>),
    /// The driver sees the end of a worker's stream, or learns of its death before that.
    Lost(ProcessId),
    /// A task in a worker comes to its next step.
    Step(ProcessId, u64, u32),
    /// A worker uses a reference that it kept; the last time if so marked.
    UsesKept(ProcessId, u64, bool),
    /// A worker reads a body that it kept, or drops it.
    Body(ProcessId, u64, bool),
    /// A thread of the driver has run the task that it waited for.
    RanHere(TaskKey, Attempt, u64, Option<LeaseKey>),
    /// A task's deadline passes.
    Deadline(TaskKey, ObjectKey),
    /// Something in the background of the store is done.
    Store(StoreEvent),
    /// The program takes the next item of a stream.
    Reads(u64),
    /// An item of a stream has waited for the store.
    LateItem(u64),
    /// A worker crashes.
    Crash,
    /// A new worker of this kind is there.
    Join(WorkerKind),
}

/// What the world shares with its workers.
pub struct Shared<'a> {
    options: Options,
    clock: Clock<Event>,
    rng: Rng,
    links: Links,
    trace: &'a mut Trace,
    holds: Holds,
    lives: BTreeMap<u64, Lives>,
    arena: Arena,
    streams: Streams,
    plants: Plants,
    /// What workers may call, and what that needs.
    functions: Vec<(String, Demand)>,
    /// How many tasks workers may still submit.
    nested_left: u64,
    healed: bool,
}

struct World<'a> {
    shared: Shared<'a>,
    owner: Owner<u64>,
    scheduler: Scheduler,
    fleet: Fleet,
    classes: Vec<(ClassId, Demand)>,
    demands: BTreeMap<ClassId, Demand>,
    workers: BTreeMap<ProcessId, Worker>,
    /// What the driver knows of each worker that it believes to live.
    records: BTreeMap<ProcessId, Record>,
    next_process: u64,
    /// Kinds of which a worker was asked for and is not there yet.
    starting: BTreeSet<WorkerKind>,
    /// Classes of which a task was just pushed behind another, with a lease on its way.
    pushed_behind: BTreeSet<ClassId>,
    leases: BTreeMap<LeaseKey, Leased>,
    jobs: BTreeMap<u64, Job>,
    serials: BTreeMap<TaskKey, u64>,
    /// References inside the values that are there: handles of the driver.
    contents: BTreeMap<ObjectKey, Vec<ObjectKey>>,
    /// Objects that workers asked for before they were there.
    asked: BTreeMap<ObjectKey, Vec<(ProcessId, u64)>>,
    /// Tasks that were cancelled while they ran: a loss ends them.
    cancelled: BTreeSet<TaskKey>,
    actors: SlotMap<ActorKey, Actor>,
    /// Streams whose generators run in workers, until both ends are gone.
    streams: BTreeMap<u64, Stream>,
    store: Store,
    /// The workers are going, and nobody takes their places.
    is_closing: bool,
    program: Program,
    tasks: Tasks,
    resources: Resources,
    plants: Plants,
}

/// Runs one seed's world of processes to its end.
pub fn run(mut rng: Rng, plants: Plants, trace: &mut Trace) -> Verdict {
    let options = Options::random(&mut rng);
    trace.options = format!("processes: {options:?}");
    let total = demand(&[(CPU, options.cpus), (GPU, options.gpus), (SEAT, 1_000_000)]);
    let mut world = World {
        owner: Owner::with_plants(plants),
        scheduler: Scheduler::with_plants(&total, plants),
        fleet: Fleet::with_plants(plants),
        classes: Vec::new(),
        demands: BTreeMap::new(),
        workers: BTreeMap::new(),
        records: BTreeMap::new(),
        next_process: 1,
        starting: BTreeSet::new(),
        pushed_behind: BTreeSet::new(),
        leases: BTreeMap::new(),
        jobs: BTreeMap::new(),
        serials: BTreeMap::new(),
        contents: BTreeMap::new(),
        asked: BTreeMap::new(),
        cancelled: BTreeSet::new(),
        actors: SlotMap::with_key(),
        streams: BTreeMap::new(),
        store: Store::new(&options, plants),
        is_closing: false,
        program: Program::default(),
        tasks: Tasks::default(),
        resources: Resources::new(total),
        plants,
        shared: Shared {
            clock: Clock::new(),
            links: Links::default(),
            holds: Holds::default(),
            lives: BTreeMap::new(),
            arena: Arena::new(options.capacity_units),
            streams: Streams::default(),
            plants,
            functions: Vec::new(),
            nested_left: options.nested_max,
            healed: false,
            options,
            rng,
            trace,
        },
    };
    world.make_classes();
    world.run()
}

impl World<'_> {
    fn run(&mut self) -> Verdict {
        for _ in 0..self.shared.options.workers {
            self.join(WorkerKind::Shared)?;
        }
        self.shared.clock.at(0, Event::Program);
        if let Some(every) = self.shared.options.crash_every_us {
            self.shared.clock.at(every, Event::Crash);
        }
        self.until_rest()?;
        self.demand_liveness()?;
        // What workers have of the store goes with them.
        self.is_closing = true;
        let living: Vec<_> = self.workers.keys().copied().collect();
        living.into_iter().for_each(|process| self.kill(process));
        self.until_rest()?;
        self.store_is_empty()
    }

    fn until_rest(&mut self) -> Verdict {
        while let Some(event) = self.shared.clock.next_event() {
            self.happened(event)?;
            if self.shared.trace.is_endless() {
                self.demand_liveness()?; // Says what still waits, and for what.
                return self.shared.trace.endless();
            }
            self.settle()?;
            self.shared.holds.settled_all()?;
            self.store_is_exact()?;
        }
        Ok(())
    }

    fn happened(&mut self, event: Event) -> Verdict {
        match event {
            Event::Program => self.program_step(),
            Event::Flush(process, way) => {
                self.shared.flush(process, way);
                self.may_die(process);
                Ok(())
            }
            Event::Arrives(process, Way::ToDriver, bytes) => self.arrived_here(process, &bytes),
            Event::Arrives(process, Way::ToWorker, bytes) => {
                self.arrived_there(process, &bytes)?;
                self.may_die(process);
                Ok(())
            }
            Event::Step(process, task, attempt) => {
                self.note(&[3, process.0, task], || format!("{process}: a step of task {task:x}"));
                if let Some(worker) = self.workers.get_mut(&process) {
                    worker.stepped(&mut self.shared, task, attempt)?;
                }
                self.may_die(process);
                Ok(())
            }
            Event::UsesKept(process, object, last) => {
                if let Some(worker) = self.workers.get_mut(&process) {
                    worker.uses_kept(&mut self.shared, object, last);
                }
                self.may_die(process);
                Ok(())
            }
            Event::Body(process, body, last) => {
                if let Some(worker) = self.workers.get_mut(&process) {
                    worker.has_body(&mut self.shared, body, last)?;
                }
                self.may_die(process);
                Ok(())
            }
            Event::RanHere(key, attempt, serial, lease) => {
                self.ran_here(key, attempt, serial, lease)
            }
            Event::Deadline(task, object) => self.deadline_passed(task, object),
            Event::Lost(process) => self.lost(process),
            Event::Store(event) => self.store_event(event),
            Event::Reads(truth) => self.reads(truth),
            Event::LateItem(truth) => self.late_item(truth),
            Event::Crash => {
                self.crash();
                Ok(())
            }
            Event::Join(kind) => self.join(kind),
        }
    }

    /// The driver reads what a worker said; of the dead only answers, if the seed has them read late.
    fn arrived_here(&mut self, from: ProcessId, bytes: &[u8]) -> Verdict {
        let messages = self.shared.read::<ToDriver>(from, Way::ToDriver, bytes)?;
        for (message, parcel) in messages {
            self.note(&[1, from.0], || format!("{from} -> driver: {message:?} {parcel:?}"));
            self.heard(from, message, &parcel)?;
            for id in parcel.occurrences() {
                self.shared.holds.let_go(id, from);
            }
            self.settle()?;
        }
        Ok(())
    }

    fn arrived_there(&mut self, to: ProcessId, bytes: &[u8]) -> Verdict {
        for (message, parcel) in self.shared.read::<ToWorker>(to, Way::ToWorker, bytes)? {
            self.note(&[2, to.0], || format!("driver -> {to}: {message:?} {parcel:?}"));
            if let Some(worker) = self.workers.get_mut(&to) {
                worker.heard(&mut self.shared, message, parcel)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, words: &[u64], line: impl FnOnce() -> String) {
        self.shared.trace.event(self.shared.clock.now(), words, line);
    }

    /// Classes of random demands, each of which the node can meet.
    fn make_classes(&mut self) {
        let Options { classes, cpus, gpus, gpu_classes, .. } = self.shared.options;
        for index in 0..classes {
            let cpu = self.shared.rng.count(0..=cpus.min(2));
            let mut demand = demand(&[(CPU, cpu)]);
            if gpus > 0 && self.shared.rng.chance(gpu_classes) {
                let gpu = *self.shared.rng.pick(&[0.25, 0.5, 1.0]);
                demand.set(GPU, gpu).expect("parts of a GPU can be had");
            }
            let function = format!("task{index}");
            let class = self.scheduler.class(&function, &demand);
            self.shared.functions.push((function, demand.clone()));
            let class = class.expect("the node has what was drawn");
            self.demands.insert(class, demand.clone());
            self.classes.push((class, demand));
        }
    }

    /// Whoever has just done something may die before the next thing.
    fn may_die(&mut self, process: ProcessId) {
        // Most interesting is a death between an answer and its way out.
        let fault = self.shared.options.die * if self.shared.has_unsent(process) { 8 } else { 1 };
        if !self.shared.healed
            && self.workers.contains_key(&process)
            && self.shared.rng.below(10_000) < u64::from(fault)
        {
            self.kill(process);
        }
    }

    fn crash(&mut self) {
        let Some(every) = self.shared.options.crash_every_us.filter(|_| !self.shared.healed) else {
            return;
        };
        self.shared.clock.after(every, Event::Crash);
        let living: Vec<_> = self.workers.keys().copied().collect();
        if !living.is_empty() {
            let process = *self.shared.rng.pick(&living);
            self.kill(process);
        }
    }

    /// A worker dies. The driver reads its stream to the end, or is told of the death before that.
    fn kill(&mut self, process: ProcessId) {
        let Some(worker) = self.workers.remove(&process) else { return };
        worker.streams.values().for_each(|read| self.shared.streams.abandoned(read.truth));
        self.note(&[4, process.0], || format!("{process} dies"));
        self.shared.lives.values_mut().for_each(|lives| lives.ends(process));
        let told_early = self.shared.rng.chance(self.shared.options.told_early);
        let end = self.shared.disconnect(process, told_early);
        let detect = self.shared.rng.within(&(1..=self.shared.options.detect_us));
        let at = if told_early { self.shared.clock.now() + detect } else { end + detect };
        self.shared.clock.at(at, Event::Lost(process));
    }

    fn join(&mut self, kind: WorkerKind) -> Verdict {
        let process = ProcessId(self.next_process);
        self.next_process += 1;
        self.note(&[5, process.0], || format!("{process} joins for {kind:?}"));
        self.starting.remove(&kind);
        self.workers.insert(process, Worker::new(process, self.plants));
        self.shared.connect(process);
        self.joined(process, kind)
    }

    fn demand_liveness(&self) -> Verdict {
        let waiting = self.tasks.waiting();
        require(waiting.is_empty(), "liveness", || {
            format!("still waiting: {}", waiting.join("; "))
        })?;
        let gets = self.program.waiting();
        require(gets.is_empty(), "liveness", || format!("`get` still waits for {gets:?}"))?;
        let streams = self.shared.streams.waiting();
        require(streams.is_empty(), "liveness", || format!("still read: {}", streams.join("; ")))?;
        let left = self.shared.holds.left();
        let counts = self.owner.counts();
        require(left.is_empty() && counts.objects == 0 && counts.tasks == 0, "leaks", || {
            format!("OWN-4: {counts:?} at the end: {}", left.join("; "))
        })?;
        self.nothing_is_left_of_shells()?;
        self.resources.all_returned(&self.scheduler)
    }

    /// The model itself is whole: else a checker would be blind to what it does not count.
    fn nothing_is_left_of_shells(&self) -> Verdict {
        let jobs = self.jobs.len() + self.contents.len() + self.asked.len() + self.cancelled.len();
        require(jobs == 0, "leaks", || {
            format!("the shells keep {:?}, {:?}, {:?}", self.jobs, self.contents, self.asked)
        })?;
        self.no_stream_is_left()?;
        let kept = self.records.iter().find(|(_, record)| !record.is_empty());
        require(kept.is_none(), "leaks", || format!("the driver keeps {kept:?}"))?;
        let busy = self.fleet.workers().find(|(_, leases)| *leases > 0);
        require(busy.is_none(), "leaks", || {
            format!("FLEET-2: the fleet believes that {busy:?} has leases")
        })
    }
}

impl Shared<'_> {
    fn life(&mut self, actor: u64) -> &mut Lives {
        self.lives.get_mut(&actor).expect("the driver speaks of actors that were made")
    }
}

fn demand(amounts: &[(&str, u32)]) -> Demand {
    let mut demand = Demand::default();
    for (name, amount) in amounts {
        demand.set(name, f64::from(*amount)).expect("small whole numbers can be had");
    }
    demand
}

fn object_id(key: ObjectKey) -> u64 {
    key.data().as_ffi()
}

fn task_id(key: TaskKey) -> u64 {
    key.data().as_ffi()
}

fn task_key(id: u64) -> TaskKey {
    KeyData::from_ffi(id).into()
}

fn lease_id(key: LeaseKey) -> u64 {
    key.data().as_ffi()
}

fn lease_key(id: u64) -> LeaseKey {
    KeyData::from_ffi(id).into()
}
