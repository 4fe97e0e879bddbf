//! A driver with its owner and its node, worker processes, and actors.
//!
//! # What runs
//! The production owner, scheduler and actor queues, all in the driver's process as in the product, and
//! shells around them that mirror those of the runtime. Workers are simple, and talk to the driver by the
//! messages of `raybolt-wire`, encoded and decoded at every step. The program submits tasks over earlier
//! results, passes references inside values, clones, drops, cancels and waits, makes actors and calls
//! them from several callers.
//!
//! # Faults
//! Workers die, and are declared dead while they live and go on talking; answers are repeated; tasks
//! fail, block in `get`, and keep references that they were lent; actors are killed.
//!
//! # Demanded
//! What the four checkers of calls check, all the time; and after healing: every task ended, every waiting
//! `get` told, and when the user has let go of everything: no object, no lease, no value left.

use std::collections::BTreeMap;

use bytes::Bytes;
use raybolt_core::calls::owner::{ActorKey, Attempt, ClassId, ObjectKey, Owner, TaskKey};
use raybolt_core::calls::scheduler::{CPU, Demand, GPU, LeaseKey, Scheduler};
use raybolt_core::ids::{LeaseId, ObjectId, ProcessId, TaskId};
use raybolt_core::plant::Plants;
use raybolt_wire::{Envelope, Message};
use slotmap::{Key, KeyData, SlotMap};

use crate::checkers::objects::Objects;
use crate::checkers::resources::Resources;
use crate::checkers::tasks::Tasks;
use crate::clock::{Clock, Micros};
use crate::network::{Network, Profile};
use crate::rng::Rng;
use crate::trace::{Trace, Verdict, Violation, require};

mod actors;
mod driver;
mod program;
mod worker;

use actors::Actor;
use driver::Leased;
use program::Program;
use worker::Worker;

/// The driver's own name.
const DRIVER: ProcessId = ProcessId(0);

/// The resource that actors take, of which there is enough.
const SEAT: &str = "seat";

/// What the seed decided.
#[derive(Debug)]
pub struct Options {
    steps: u64,
    step_every_us: Micros,
    workers: u32,
    cpus: u32,
    gpus: u32,
    gpu_classes: u32,
    classes: usize,
    needs_max: u64,
    lent_max: u64,
    returns_max: u64,
    retries_max: u32,
    retry_failures: bool,
    pipeline: usize,
    slice_tasks: u32,
    inline_values: u32,
    link_us: Micros,
    task_us: Micros,
    keep_us: Micros,
    actors_max: usize,
    restarts_max: u32,
    shared_calls: u32,
    fail: u32,
    block: u32,
    borrow: u32,
    cancel: u32,
    claim: u32,
    repeat: u32,
    crash_every_us: Option<Micros>,
    false_deaths: u32,
    hear_the_dead: bool,
    detect_us: Micros,
    end_session: bool,
}

impl Options {
    fn random(rng: &mut Rng) -> Self {
        Options {
            steps: rng.within(&(10..=1_200)),
            step_every_us: rng.within(&(1..=400)),
            workers: rng.count(1..=5),
            cpus: rng.count(1..=8),
            gpus: rng.count(0..=2),
            gpu_classes: rng.count(0..=1000),
            classes: rng.count(1..=4) as usize,
            needs_max: rng.within(&(0..=3)),
            lent_max: rng.within(&(0..=2)),
            returns_max: rng.within(&(1..=3)),
            retries_max: rng.count(0..=3),
            retry_failures: rng.chance(500),
            pipeline: rng.count(1..=4) as usize,
            slice_tasks: rng.count(1..=10),
            inline_values: rng.count(0..=1000),
            link_us: rng.within(&(1..=400)),
            task_us: rng.within(&(1..=1_500)),
            keep_us: rng.within(&(1..=5_000)),
            actors_max: rng.count(0..=4) as usize,
            restarts_max: rng.count(0..=2),
            shared_calls: rng.fault(800),
            fail: rng.fault(200),
            block: rng.fault(500),
            borrow: rng.fault(700),
            cancel: rng.fault(100),
            claim: rng.fault(500),
            repeat: rng.fault(300),
            crash_every_us: rng.chance(600).then(|| rng.within(&(300..=20_000))),
            false_deaths: rng.fault(800),
            hear_the_dead: rng.chance(500),
            detect_us: rng.within(&(1..=3_000)),
            end_session: rng.chance(100),
        }
    }
}

/// What is to happen.
#[derive(Debug)]
pub enum Event {
    /// The user's program takes its next step.
    Program,
    /// Bytes of a worker arrive at the driver.
    ToDriver(ProcessId, Vec<u8>),
    /// Bytes of the driver arrive at a worker.
    ToWorker(ProcessId, Vec<u8>),
    /// A task comes to its next step.
    Step(ProcessId, TaskId, u32),
    /// A worker uses a reference that it kept; the last time if so marked.
    UsesKept(ProcessId, ObjectId, bool),
    /// A thread that waits has run the task that it waited for.
    RanHere(TaskKey, Attempt, u64, Option<LeaseKey>),
    /// A worker crashes, or seems to.
    Crash,
    /// The node declares a worker dead.
    Lost(ProcessId),
    /// A new worker is there.
    Join,
}

/// What the world shares with its workers.
pub struct Shared<'a> {
    options: Options,
    clock: Clock<Event>,
    rng: Rng,
    network: Network<ProcessId>,
    trace: &'a mut Trace,
    objects: Objects,
}

impl Shared<'_> {
    /// A worker says something to the driver.
    fn tell_driver(&mut self, from: ProcessId, envelope: &Envelope) {
        let arrivals = self.network.send(&mut self.rng, self.clock.now(), from, DRIVER);
        // Of all messages only answers may be repeated: they carry their attempt (MSG-2).
        let repeatable = matches!(envelope.message, Message::TaskFinished(_));
        let count = if repeatable { 2 } else { 1 };
        for at in arrivals.into_iter().take(count).flatten() {
            self.clock.at(at, Event::ToDriver(from, envelope.encode()));
        }
    }

    /// The driver says something to a worker.
    fn tell_worker(&mut self, to: ProcessId, envelope: &Envelope) {
        let arrivals = self.network.send(&mut self.rng, self.clock.now(), DRIVER, to);
        if let Some(at) = arrivals[0] {
            self.clock.at(at, Event::ToWorker(to, envelope.encode()));
        }
    }
}

/// One task, as the user's program made it.
#[derive(Debug)]
pub struct Job {
    key: TaskKey,
    needs: Vec<ObjectKey>,
    /// References inside its arguments: handles that live as long as the job.
    lent: Vec<ObjectKey>,
    returns: u32,
    may_block: bool,
}

struct World<'a> {
    shared: Shared<'a>,
    owner: Owner<u64>,
    scheduler: Scheduler,
    classes: Vec<(ClassId, Demand)>,
    demands: BTreeMap<ClassId, Demand>,
    workers: BTreeMap<ProcessId, Worker>,
    next_process: u64,
    leases: BTreeMap<LeaseKey, Leased>,
    jobs: BTreeMap<u64, Job>,
    serials: BTreeMap<TaskKey, u64>,
    /// Objects that processes asked for before they were there.
    asked: BTreeMap<ObjectKey, Vec<ProcessId>>,
    actors: SlotMap<ActorKey, Actor>,
    program: Program,
    tasks: Tasks,
    resources: Resources,
    healed: bool,
    plants: Plants,
}

/// Runs one seed's calls world to its end.
pub fn run(mut rng: Rng, plants: Plants, trace: &mut Trace) -> Verdict {
    let options = Options::random(&mut rng);
    trace.options = format!("calls: {options:?}");
    let total = demand(&[(CPU, options.cpus), (GPU, options.gpus), (SEAT, 1_000_000)]);
    let profile =
        Profile { delay_us: 1..=options.link_us, ordered: true, loss: 0, repeat: options.repeat };
    let mut world = World {
        owner: Owner::with_plants(plants),
        scheduler: Scheduler::with_plants(&total, plants),
        classes: Vec::new(),
        demands: BTreeMap::new(),
        workers: BTreeMap::new(),
        next_process: 1,
        leases: BTreeMap::new(),
        jobs: BTreeMap::new(),
        serials: BTreeMap::new(),
        asked: BTreeMap::new(),
        actors: SlotMap::with_key(),
        program: Program::default(),
        tasks: Tasks::default(),
        resources: Resources::new(total),
        healed: false,
        plants,
        shared: Shared {
            clock: Clock::new(),
            network: Network::new(profile),
            objects: Objects::default(),
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
            self.join()?;
        }
        self.shared.clock.at(0, Event::Program);
        if let Some(every) = self.shared.options.crash_every_us {
            self.shared.clock.at(every, Event::Crash);
        }
        while let Some(event) = self.shared.clock.next_event() {
            self.happened(event)?;
            if self.shared.trace.is_endless() {
                self.demand_liveness()?; // Says what still waits, and for what.
                return self.shared.trace.endless();
            }
            self.settle()?;
            self.shared.objects.settled_all()?;
        }
        self.demand_liveness()
    }

    fn happened(&mut self, event: Event) -> Verdict {
        match event {
            Event::Program => self.program_step(),
            Event::ToDriver(from, bytes) => {
                let envelope = decode(bytes)?;
                self.note(&[1, from.0], || format!("{from} -> driver: {:?}", envelope.message));
                self.heard(from, envelope.message)
            }
            Event::ToWorker(to, bytes) => {
                let envelope = decode(bytes)?;
                self.note(&[2, to.0], || format!("driver -> {to}: {:?}", envelope.message));
                match self.workers.get_mut(&to) {
                    Some(worker) => worker.heard(&mut self.shared, envelope),
                    None => Ok(()),
                }
            }
            Event::Step(process, task, attempt) => match self.workers.get_mut(&process) {
                Some(worker) => worker.stepped(&mut self.shared, task, attempt),
                None => Ok(()),
            },
            Event::UsesKept(process, object, last) => {
                if let Some(worker) = self.workers.get_mut(&process) {
                    worker.uses_kept(&mut self.shared, object, last);
                }
                Ok(())
            }
            Event::RanHere(key, attempt, serial, lease) => {
                self.ran_here(key, attempt, serial, lease)
            }
            Event::Crash => self.crash(),
            Event::Lost(process) => self.lost(process),
            Event::Join => self.join(),
        }
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
            let class = self.scheduler.class(&format!("task{index}"), &demand);
            let class = class.expect("the node has what was drawn");
            self.demands.insert(class, demand.clone());
            self.classes.push((class, demand));
        }
    }

    /// A worker crashes; or it lives on and is only believed dead.
    fn crash(&mut self) -> Verdict {
        let Some(every) = self.shared.options.crash_every_us.filter(|_| !self.healed) else {
            return Ok(());
        };
        self.shared.clock.after(every, Event::Crash);
        let trusted: Vec<_> =
            self.workers.values().filter(|worker| worker.trusted).map(|w| w.process).collect();
        if trusted.is_empty() {
            return Ok(());
        }
        let process = *self.shared.rng.pick(&trusted);
        let seeming = self.shared.rng.chance(self.shared.options.false_deaths);
        self.note(&[3, process.0], || format!("{process} crashes, only seemingly: {seeming}"));
        if !seeming {
            self.workers.remove(&process);
        } else if self.shared.rng.chance(500) {
            // It cannot be heard, or does not hear.
            let (from, to) = *self.shared.rng.pick(&[(process, DRIVER), (DRIVER, process)]);
            self.shared.network.cut(from, to);
        }
        let detect = self.shared.rng.within(&(1..=self.shared.options.detect_us));
        self.shared.clock.after(detect, Event::Lost(process));
        Ok(())
    }

    fn join(&mut self) -> Verdict {
        let process = ProcessId(self.next_process);
        self.next_process += 1;
        self.note(&[4, process.0], || format!("{process} joins"));
        self.workers.insert(process, Worker::new(process));
        self.house_the_homeless()
    }

    fn demand_liveness(&self) -> Verdict {
        let waiting = self.tasks.waiting();
        require(waiting.is_empty(), "liveness", || {
            format!("still waiting: {}", waiting.join("; "))
        })?;
        let gets = self.program.waiting();
        require(gets.is_empty(), "liveness", || format!("`get` still waits for {gets:?}"))?;
        let left = self.shared.objects.left();
        let counts = self.owner.counts();
        require(left.is_empty() && counts.objects == 0 && counts.tasks == 0, "leaks", || {
            format!("OWN-4: {counts:?} at the end: {}", left.join("; "))
        })?;
        self.resources.all_returned(&self.scheduler)
    }
}

fn decode(bytes: Vec<u8>) -> Verdict<Envelope> {
    Envelope::decode(Bytes::from(bytes))
        .map_err(|error| Violation { checker: "wire", message: error.to_string() })
}

fn demand(amounts: &[(&str, u32)]) -> Demand {
    let mut demand = Demand::default();
    for (name, amount) in amounts {
        demand.set(name, f64::from(*amount)).expect("small whole numbers can be had");
    }
    demand
}

fn object_id(key: ObjectKey) -> ObjectId {
    ObjectId(key.data().as_ffi())
}

fn object_key(id: ObjectId) -> ObjectKey {
    KeyData::from_ffi(id.0).into()
}

fn task_id(key: TaskKey) -> TaskId {
    TaskId(key.data().as_ffi())
}

fn task_key(id: TaskId) -> TaskKey {
    KeyData::from_ffi(id.0).into()
}

fn lease_id(key: LeaseKey) -> LeaseId {
    LeaseId(key.data().as_ffi())
}

fn lease_key(id: LeaseId) -> LeaseKey {
    KeyData::from_ffi(id.0).into()
}
