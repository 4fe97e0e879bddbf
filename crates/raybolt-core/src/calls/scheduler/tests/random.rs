//! The scheduler against a model that adds up anew, after each of many random events.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a test does next. Numbers choose among what is there, modulo how much there is.
#[derive(Debug, Clone)]
enum Event {
    Class { cpu: u8, gpu: u8, job: u8, group: Option<(u8, Option<u8>)> },
    Wanted { class: u8, queued: u8 },
    Now(u8),
    Started(u8),
    Blocked(u8, bool),
    Returned(u8),
    Group { bundles: Vec<(u8, u8)>, strategy: PlacementStrategy },
    Removed(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let strategy = prop::sample::select(vec![
        PlacementStrategy::Pack,
        PlacementStrategy::Spread,
        PlacementStrategy::StrictPack,
        PlacementStrategy::StrictSpread,
    ]);
    let bundles = prop::collection::vec((0u8..3, 0u8..5), 1..4);
    prop_oneof![
        3 => (0u8..3, 0u8..5, 0u8..3, prop::option::of((any::<u8>(), prop::option::of(0u8..3))))
            .prop_map(|(cpu, gpu, job, group)| Event::Class { cpu, gpu, job, group }),
        4 => (any::<u8>(), 0u8..4).prop_map(|(class, queued)| Event::Wanted { class, queued }),
        2 => any::<u8>().prop_map(Event::Now),
        3 => any::<u8>().prop_map(Event::Started),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(lease, on)| Event::Blocked(lease, on)),
        4 => any::<u8>().prop_map(Event::Returned),
        3 => (bundles, strategy).prop_map(|(bundles, strategy)| Event::Group { bundles, strategy }),
        2 => any::<u8>().prop_map(Event::Removed),
    ]
}

/// 0, and 1/4, 1/2, 1, 2 GPUs.
const GPUS: [f64; 5] = [0.0, 0.25, 0.5, 1.0, 2.0];

fn amounts(cpu: u8, gpu: u8) -> Demand {
    demand(&[(CPU, f64::from(cpu)), (GPU, GPUS[gpu as usize])])
}

struct World {
    total: Demand,
    scheduler: Scheduler,
    classes: BTreeMap<ClassId, (Demand, Within)>,
    leases: BTreeMap<LeaseKey, Held>,
    groups: Vec<GroupKey>,
    bundles: BTreeMap<GroupKey, Vec<Demand>>,
}

struct Held {
    class: ClassId,
    demand: Demand,
    blocked: bool,
    gpus: Vec<u32>,
}

fn pick<T: Copy>(of: &[T], number: u8) -> Option<T> {
    (!of.is_empty()).then(|| of[number as usize % of.len()])
}

impl World {
    fn new(cpus: u8, gpus: u8, plants: Plants) -> Self {
        let total = demand(&[(CPU, f64::from(cpus)), (GPU, f64::from(gpus))]);
        let scheduler = Scheduler { plants, ..Scheduler::new(&total) };
        let (classes, leases, bundles) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        World { total, scheduler, classes, leases, groups: Vec::new(), bundles }
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        let classes: Vec<_> = self.classes.keys().copied().collect();
        let leases: Vec<_> = self.leases.keys().copied().collect();
        match event {
            Event::Class { cpu, gpu, job, group } => {
                let group =
                    group.and_then(|(key, bundle)| Some((pick(&self.groups, key)?, bundle)));
                let within = match group {
                    None => Within::Node,
                    Some((key, None)) => Within::AnyBundle(key),
                    Some((key, Some(bundle))) => Within::Bundle(key, u32::from(bundle)),
                };
                let (demand, job) = (amounts(cpu, gpu), JobId(job.into()));
                let spec = ClassSpec { name: "f", demand: &demand, job, within };
                if let Ok(class) = self.scheduler.class_of(spec) {
                    self.classes.insert(class, (demand, within));
                }
            }
            Event::Wanted { class, queued } => {
                if let Some(class) = pick(&classes, class) {
                    self.scheduler.wanted(class, queued.into());
                }
            }
            Event::Now(class) => {
                let class = pick(&classes, class);
                let lease = class.and_then(|class| Some((class, self.scheduler.lease_now(class)?)));
                if let Some((class, lease)) = lease {
                    self.granted(lease, class)?;
                }
            }
            Event::Started(lease) => {
                if let Some(lease) = pick(&leases, lease) {
                    self.scheduler.started(lease);
                }
            }
            Event::Blocked(lease, blocked) => {
                if let Some(lease) = pick(&leases, lease) {
                    self.leases.get_mut(&lease).unwrap().blocked = blocked;
                    if blocked {
                        self.scheduler.blocked(lease);
                    } else {
                        self.scheduler.unblocked(lease);
                    }
                }
            }
            Event::Returned(lease) => {
                if let Some(lease) = pick(&leases, lease) {
                    self.returned(lease);
                }
            }
            Event::Group { bundles, strategy } => {
                let bundles: Vec<_> =
                    bundles.iter().map(|(cpu, gpu)| amounts(*cpu, *gpu)).collect();
                let name = String::new();
                let spec = GroupSpec { name, job: JobId(0), bundles: bundles.clone(), strategy };
                if let Ok(key) = self.scheduler.group(spec) {
                    self.groups.push(key);
                    self.bundles.insert(key, bundles);
                }
            }
            Event::Removed(group) => {
                if let Some(key) = pick(&self.groups, group) {
                    self.removed(key);
                }
            }
        }
        self.settle()
    }

    fn settle(&mut self) -> Result<(), String> {
        while let Some(effect) = self.scheduler.poll_effect() {
            if let Effect::Grant(lease, class) = effect {
                self.granted(lease, class)?;
            }
        }
        self.check()
    }

    fn granted(&mut self, lease: LeaseKey, class: ClassId) -> Result<(), String> {
        let (demand, within) = self.classes[&class].clone();
        let (gpus, units) = (self.scheduler.gpu_ids(lease), demand.amount(GPU));
        if gpus.len() as i64 != (units + UNIT - 1) / UNIT {
            return Err(format!("GPU-2: {units} units are cut from GPUs {gpus:?}"));
        }
        let bundle = self.scheduler.lease(lease).and_then(|lease| lease.bundle);
        let is_right = match within {
            Within::Node => bundle.is_none(),
            Within::Bundle(key, index) => bundle.is_none_or(|bundle| bundle == (key, index)),
            Within::AnyBundle(key) => bundle.is_none_or(|(group, _)| group == key),
        };
        if !is_right {
            return Err(format!("SCHED-1: a lease within {within:?} is cut from {bundle:?}"));
        }
        self.leases.insert(lease, Held { class, demand, blocked: false, gpus });
        Ok(())
    }

    fn returned(&mut self, lease: LeaseKey) {
        let held = self.leases.remove(&lease).unwrap();
        self.scheduler.wanted(held.class, 0);
        self.scheduler.returned(lease);
    }

    fn removed(&mut self, key: GroupKey) {
        self.groups.retain(|group| *group != key);
        self.bundles.remove(&key);
        self.scheduler.remove_group(key);
        self.classes.retain(|_, (_, within)| within.group() != Some(key));
        // A grant that was not heard of yet may be of such a class; it is returned all the same.
        let grants: Vec<_> = std::iter::from_fn(|| self.scheduler.poll_effect()).collect();
        for effect in grants {
            if let Effect::Grant(lease, class) = effect {
                if self.classes.contains_key(&class) {
                    self.granted(lease, class).expect("it is checked as others are");
                } else {
                    self.scheduler.returned(lease);
                }
            }
        }
    }

    fn is_ready(&self, key: GroupKey) -> bool {
        self.scheduler.group_view(key).is_some_and(|group| group.state == GroupState::Ready)
    }

    /// SCHED-1, SCHED-3, SCHED-4: what is free is what there is less what is held, everywhere.
    fn check(&self) -> Result<(), String> {
        for name in [CPU, GPU] {
            let mut free = self.total.amount(name);
            for (lease, held) in &self.leases {
                let is_in_group = self.scheduler.lease(*lease).unwrap().bundle.is_some();
                let lends = held.blocked && name == CPU;
                if !is_in_group && !lends {
                    free -= held.demand.amount(name);
                }
            }
            for (_, bundles) in self.bundles.iter().filter(|(key, _)| self.is_ready(**key)) {
                free -= bundles.iter().map(|bundle| bundle.amount(name)).sum::<i64>();
            }
            let told = self.scheduler.resources().find(|resource| resource.0 == name);
            let told = told.map_or(0, |resource| resource.2);
            if told != free {
                return Err(format!("SCHED-1: {told} of {name} are free, by the model {free}"));
            }
            // Only CPUs are oversubscribed, by tasks that were blocked and go on.
            if free < 0 && name == GPU {
                return Err(format!("SCHED-1: {free} of {name} are left"));
            }
        }
        self.check_bundles()?;
        self.check_gpus()
    }

    fn check_bundles(&self) -> Result<(), String> {
        for (key, bundles) in self.bundles.iter().filter(|(key, _)| self.is_ready(**key)) {
            for (index, bundle) in bundles.iter().enumerate() {
                for (name, total, free) in self.scheduler.bundle(*key, index) {
                    let of_bundle = |lease: &&LeaseView| lease.bundle == Some((*key, index as u32));
                    let leases: Vec<_> = self.scheduler.leases_in(*key).collect();
                    let held: i64 = leases
                        .iter()
                        .filter(of_bundle)
                        .filter(|lease| !(lease.blocked && name == CPU))
                        .map(|lease| self.leases[&lease.key].demand.amount(name))
                        .sum();
                    if total != bundle.amount(name) || free != total - held {
                        return Err(format!(
                            "bundle {index}: {free} of {total} {name}, held {held}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// GPU-1.
    fn check_gpus(&self) -> Result<(), String> {
        for id in 0..self.total.amount(GPU) / UNIT {
            let sharing = self.leases.values().filter(|held| held.gpus.contains(&(id as u32)));
            let used: i64 = sharing.map(|held| held.demand.amount(GPU).min(UNIT)).sum();
            if used > UNIT {
                return Err(format!("GPU-1: GPU {id} is promised {used} times 1/{UNIT}"));
            }
        }
        Ok(())
    }

    /// All leases end; then every class that can be served is, every group that can be placed is, one
    /// after the other, and at the end everything is there.
    fn end(&mut self) -> Result<(), String> {
        loop {
            while let Some(lease) = self.leases.keys().next().copied() {
                self.returned(lease);
                self.settle()?;
            }
            let ready: Vec<_> =
                self.groups.iter().copied().filter(|key| self.is_ready(*key)).collect();
            if ready.is_empty() {
                break;
            }
            self.removed(ready[0]);
            self.settle()?;
        }
        for group in self.scheduler.groups() {
            if group.state == GroupState::Pending {
                return Err(format!("SCHED-2: {:?} waits on an idle node", group.key));
            }
        }
        for class in self.scheduler.waiting() {
            if self.classes.get(&class).is_some_and(|(_, within)| *within == Within::Node) {
                return Err(format!("SCHED-2: {class:?} waits on an idle node"));
            }
        }
        match self.scheduler.resources().find(|(_, total, free)| total != free) {
            Some((name, total, free)) => {
                Err(format!("SCHED-3: {free} of {total} {name} at the end"))
            }
            None => Ok(()),
        }
    }
}

fn run(cpus: u8, gpus: u8, events: Vec<Event>, plants: Plants) -> Result<(), String> {
    let mut world = World::new(cpus, gpus, plants);
    events.into_iter().try_for_each(|event| world.happens(event))?;
    world.end()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1_000 }))]

    #[test]
    fn nothing_is_promised_twice_and_all_comes_back(
        cpus in 1u8..5,
        gpus in 0u8..4,
        events in prop::collection::vec(event(), 0..60),
    ) {
        prop_assert_eq!(run(cpus, gpus, events, Plants::NONE), Ok(()));
    }
}

#[cfg(feature = "plant")]
#[test]
fn the_model_finds_what_is_planted() {
    use proptest::test_runner::{TestError, TestRunner};

    for plant in [Plant::SetAsideTwice, Plant::KeepRemoved, Plant::PromiseTwice] {
        let mut runner = TestRunner::deterministic();
        let events = prop::collection::vec(event(), 0..60);
        let found = runner.run(&(1u8..5, 0u8..4, events), |(cpus, gpus, events)| {
            // The machine may notice it first, by an assertion.
            let ran = std::panic::catch_unwind(|| run(cpus, gpus, events, Plants::only(plant)));
            prop_assert_eq!(ran.ok(), Some(Ok(())));
            Ok(())
        });
        assert!(matches!(found, Err(TestError::Fail(..))), "{plant} is not found: {found:?}");
    }
}
