//! A node's scheduler with tasks of several jobs and placement groups that come and go.
//!
//! # What runs
//! The production scheduler, and a shell as simple as can be: a lease runs queued tasks of its class, one
//! after the other, each for a random time, until there are none or others wait. Programs make classes
//! inside and outside of groups, queue tasks, ask for groups and remove them, with tasks running or not.
//!
//! # Faults
//! There is nothing to lose between a node and itself. Tasks block and go on, groups are removed before they
//! are ready, and what was asked for may be more than the node has.
//!
//! # Demanded
//! What [`Bundles`] checks, all the time; and when programs ask for nothing more: every group that can be
//! placed is, every task has run or went with its group, and everything has come back.

use std::collections::BTreeMap;

use raybolt_core::calls::placement::PlacementStrategy;
use raybolt_core::calls::scheduler::{
    CPU, ClassId, ClassSpec, Demand, Effect, GPU, GroupKey, GroupSpec, GroupState, LeaseKey,
    Scheduler, Within,
};
use raybolt_core::ids::JobId;
use raybolt_core::plant::Plants;

use crate::checkers::bundles::Bundles;
use crate::clock::{Clock, Micros};
use crate::rng::Rng;
use crate::trace::{Trace, Verdict, require};

/// What the seed decided.
#[derive(Debug)]
struct Options {
    steps: u64,
    step_every_us: Micros,
    cpus: u32,
    gpus: u32,
    jobs: u32,
    bundles_max: u32,
    tasks_max: u64,
    task_us: Micros,
    group_us: Micros,
    grouped: u32,
    block: u32,
    impatient: u32,
}

impl Options {
    fn random(rng: &mut Rng) -> Self {
        Options {
            steps: rng.within(&(5..=300)),
            step_every_us: rng.within(&(1..=400)),
            cpus: rng.count(1..=8),
            gpus: rng.count(0..=3),
            jobs: rng.count(1..=3),
            bundles_max: rng.count(1..=4),
            tasks_max: rng.within(&(1..=10)),
            task_us: rng.within(&(1..=1_000)),
            group_us: rng.within(&(1..=5_000)),
            grouped: rng.count(100..=900),
            block: rng.fault(500),
            impatient: rng.fault(300),
        }
    }
}

#[derive(Debug)]
enum Event {
    /// A program takes its next step.
    Step,
    /// The task under a lease waits.
    Blocks(LeaseKey),
    /// The task under a lease goes on.
    GoesOn(LeaseKey),
    /// The task under a lease ends.
    Ends(LeaseKey),
    /// A program has no more use for a group.
    Remove(GroupKey),
}

struct Class {
    demand: Demand,
    within: Within,
    queued: usize,
}

struct World<'a> {
    options: Options,
    clock: Clock<Event>,
    rng: Rng,
    trace: &'a mut Trace,
    scheduler: Scheduler,
    classes: BTreeMap<ClassId, Class>,
    leases: BTreeMap<LeaseKey, ClassId>,
    groups: BTreeMap<GroupKey, Vec<Demand>>,
    bundles: Bundles,
    steps_left: u64,
}

/// Runs one seed's groups world to its end.
pub fn run(mut rng: Rng, plants: Plants, trace: &mut Trace) -> Verdict {
    let options = Options::random(&mut rng);
    trace.options = format!("groups: {options:?}");
    let mut total = Demand::default();
    for (name, amount) in [(CPU, options.cpus), (GPU, options.gpus)] {
        total.set(name, f64::from(amount)).expect("small whole numbers can be had");
    }
    let mut world = World {
        clock: Clock::new(),
        scheduler: Scheduler::with_plants(&total, plants),
        classes: BTreeMap::new(),
        leases: BTreeMap::new(),
        groups: BTreeMap::new(),
        bundles: Bundles::new(total),
        steps_left: options.steps,
        options,
        rng,
        trace,
    };
    world.run()
}

impl World<'_> {
    fn run(&mut self) -> Verdict {
        self.clock.at(0, Event::Step);
        while let Some(event) = self.clock.next_event() {
            self.happened(event)?;
            if self.trace.is_endless() {
                return self.trace.endless();
            }
            self.settle()?;
        }
        self.demand_liveness()
    }

    fn happened(&mut self, event: Event) -> Verdict {
        let number = match &event {
            Event::Step => 0,
            Event::Blocks(_) => 1,
            Event::GoesOn(_) => 2,
            Event::Ends(_) => 3,
            Event::Remove(_) => 4,
        };
        self.trace.event(self.clock.now(), &[number], || format!("{event:?}"));
        match event {
            Event::Step => self.step(),
            Event::Blocks(lease) => {
                self.bundles.blocked(lease, true);
                self.scheduler.blocked(lease);
                let delay = self.delay(self.options.task_us);
                self.clock.after(delay, Event::GoesOn(lease));
                Ok(())
            }
            Event::GoesOn(lease) => {
                // A task may also end as it is: its worker died.
                if self.rng.chance(900) {
                    self.bundles.blocked(lease, false);
                    self.scheduler.unblocked(lease);
                }
                let delay = self.delay(self.options.task_us);
                self.clock.after(delay, Event::Ends(lease));
                Ok(())
            }
            Event::Ends(lease) => self.ended(lease),
            Event::Remove(group) => {
                self.remove(group);
                Ok(())
            }
        }
    }

    fn step(&mut self) -> Verdict {
        if self.steps_left == 0 {
            self.trace.healed();
            return Ok(());
        }
        self.steps_left -= 1;
        self.clock.after(self.options.step_every_us, Event::Step);
        match self.rng.below(10) {
            0..=2 => self.ask_for_group(),
            3..=5 => self.make_class(),
            _ => {
                let lives = |class: &Class| {
                    class.within.group().is_none_or(|group| self.groups.contains_key(&group))
                };
                let classes = self.classes.iter().filter(|(_, class)| lives(class));
                let classes: Vec<_> = classes.map(|(id, _)| *id).collect();
                if classes.is_empty() {
                    return Ok(());
                }
                let class = *self.rng.pick(&classes);
                if self.rng.chance(100) { self.run_here(class) } else { self.submit(class) }
            }
        }
    }

    fn ask_for_group(&mut self) -> Verdict {
        let count = self.rng.count(1..=self.options.bundles_max);
        let bundles: Vec<_> = (0..count).map(|_| self.demand()).collect();
        let strategies = [
            PlacementStrategy::Pack,
            PlacementStrategy::Spread,
            PlacementStrategy::StrictPack,
            PlacementStrategy::StrictSpread,
        ];
        let strategy = *self.rng.pick(&strategies);
        let job = JobId(self.rng.count(1..=self.options.jobs));
        let spec = GroupSpec { name: String::new(), job, bundles: bundles.clone(), strategy };
        let key = self.scheduler.group(spec).expect("its bundles are not empty");
        self.groups.insert(key, bundles);
        let state = self.scheduler.group_view(key).map(|group| group.state);
        let is_never = matches!(state, Some(GroupState::Never(_)));
        if is_never || self.rng.chance(self.options.impatient) {
            let delay = self.delay(self.options.group_us);
            self.clock.after(delay, Event::Remove(key));
        }
        Ok(())
    }

    fn make_class(&mut self) -> Verdict {
        let groups: Vec<_> = self.groups.keys().copied().collect();
        let within = match groups.is_empty() || !self.rng.chance(self.options.grouped) {
            true => Within::Node,
            false => {
                let group = *self.rng.pick(&groups);
                if self.rng.chance(500) {
                    Within::AnyBundle(group)
                } else {
                    Within::Bundle(group, self.rng.count(0..=self.options.bundles_max - 1))
                }
            }
        };
        let (demand, job) = (self.demand(), JobId(self.rng.count(1..=self.options.jobs)));
        let spec = ClassSpec { name: "f", demand: &demand, job, within };
        // A demand that can never be met makes no class.
        if let Ok(class) = self.scheduler.class_of(spec) {
            self.classes.entry(class).or_insert(Class { demand, within, queued: 0 });
            self.submit(class)?;
        }
        Ok(())
    }

    fn submit(&mut self, class: ClassId) -> Verdict {
        let tasks = self.rng.within(&(1..=self.options.tasks_max)) as usize;
        let record = self.classes.get_mut(&class).expect("it was made");
        record.queued += tasks;
        self.scheduler.wanted(class, record.queued);
        Ok(())
    }

    /// Somebody waits for a task that is queued, and runs it itself.
    fn run_here(&mut self, class: ClassId) -> Verdict {
        if self.classes[&class].queued == 0 {
            return Ok(());
        }
        if let Some(lease) = self.scheduler.lease_now(class) {
            self.leased(lease, class)?;
            self.run_task(lease, class);
        }
        Ok(())
    }

    /// Some CPUs, some GPUs or both; perhaps more than the node has.
    fn demand(&mut self) -> Demand {
        let mut demand = Demand::default();
        let cpus = self.rng.count(0..=self.options.cpus.min(3));
        let gpus = *self.rng.pick(&[0.0, 0.0, 0.25, 0.5, 1.0, 2.0]);
        let cpus = if cpus == 0 && gpus == 0.0 { 1 } else { cpus };
        demand.set(CPU, f64::from(cpus)).expect("small whole numbers can be had");
        demand.set(GPU, gpus).expect("and such parts");
        demand
    }

    fn settle(&mut self) -> Verdict {
        while let Some(effect) = self.scheduler.poll_effect() {
            self.trace.line(|| format!("scheduler: {effect:?}"));
            match effect {
                Effect::Grant(lease, class) => {
                    self.leased(lease, class)?;
                    self.next_task(lease, class);
                }
                Effect::Ready(group) => {
                    self.bundles.ready(group, &self.groups[&group])?;
                    let delay = self.delay(self.options.group_us);
                    self.clock.after(delay, Event::Remove(group));
                }
            }
        }
        Ok(())
    }

    fn leased(&mut self, lease: LeaseKey, class: ClassId) -> Verdict {
        let Class { demand, within, .. } = &self.classes[&class];
        self.leases.insert(lease, class);
        self.bundles.leased(lease, demand, *within, &self.scheduler)
    }

    fn ended(&mut self, lease: LeaseKey) -> Verdict {
        let class = self.leases[&lease];
        let is_blocked = self.scheduler.lease(lease).is_some_and(|lease| lease.blocked);
        if is_blocked || self.scheduler.must_yield(lease) {
            self.give_back(lease, class);
        } else {
            self.next_task(lease, class);
        }
        Ok(())
    }

    fn next_task(&mut self, lease: LeaseKey, class: ClassId) {
        if self.classes[&class].queued > 0 {
            self.scheduler.started(lease);
            self.run_task(lease, class);
        } else {
            self.give_back(lease, class);
        }
    }

    fn run_task(&mut self, lease: LeaseKey, class: ClassId) {
        self.classes.get_mut(&class).expect("it was made").queued -= 1;
        let delay = self.delay(self.options.task_us);
        let blocks = self.rng.chance(self.options.block);
        let next = if blocks { Event::Blocks(lease) } else { Event::Ends(lease) };
        self.clock.after(delay, next);
    }

    fn give_back(&mut self, lease: LeaseKey, class: ClassId) {
        self.leases.remove(&lease);
        self.bundles.returned(lease);
        self.scheduler.wanted(class, 0);
        self.scheduler.returned(lease);
        let queued = self.classes[&class].queued;
        if queued > 0 {
            self.scheduler.wanted(class, queued);
        }
    }

    /// What is queued in a group goes with it; what runs there goes on to its end.
    fn remove(&mut self, group: GroupKey) {
        if self.groups.remove(&group).is_none() {
            return;
        }
        self.bundles.removed(group);
        for class in self.scheduler.remove_group(group).expect("it is there") {
            self.classes.get_mut(&class).expect("it was made").queued = 0;
        }
    }

    fn delay(&mut self, most: Micros) -> Micros {
        self.rng.within(&(1..=most))
    }

    fn demand_liveness(&self) -> Verdict {
        let waiting: Vec<_> =
            self.classes.iter().filter(|(_, class)| class.queued > 0).map(|(id, _)| id).collect();
        require(waiting.is_empty(), "liveness", || format!("tasks of {waiting:?} never ran"))?;
        require(self.groups.is_empty(), "liveness", || {
            format!("{:?} were never ready", self.groups.keys())
        })?;
        self.bundles.all_returned(&self.scheduler)
    }
}
