//! Says which tasks may run on this node now, so that no resource is promised twice.
//!
//! # Words
//! A *class* is a kind of task: its name and what it *demands*. A *lease* is the right to run tasks
//! of one class, one after the other; it holds the class's demand until it is returned.
//! Quantities are whole multiples of 1/[`UNIT`].
//!
//! # Protocol
//! 1. [`Scheduler::class`] interns a class, or says why it can never run here.
//! 2. [`Scheduler::wanted`] reports how many tasks of a class are queued; leases are granted while
//!    there are more of them than leases that have not started, and the demand is available.
//!    Otherwise the class joins the waiting line.
//! 3. A lease whose class has no task left is [`Scheduler::returned`]. One whose slice is over is
//!    returned too if [`Scheduler::must_yield`]: classes that wait take turns.
//! 4. A task that blocks gives its CPU back ([`Scheduler::blocked`]) and takes it again afterwards
//!    even if that oversubscribes the node for a while: its work is half done.
//!
//! # Invariants
//! - **SCHED-1 (not promised twice).** Granted demand never exceeds the node's resources, but for
//!   the CPU of tasks that were blocked and go on.
//! - **SCHED-2 (fair).** Classes that wait are served in turn; none is overtaken for ever.
//! - **SCHED-3 (whole).** When all leases are returned, all resources are available.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use slotmap::{SlotMap, new_key_type};

pub use super::owner::ClassId;
use crate::plant::{Plant, Plants};

mod views;

pub use views::LeaseView;

/// Fractions of a resource are multiples of this: 0.0001.
pub const UNIT: i64 = 10_000;
/// The name of the resource that blocked tasks give back.
pub const CPU: &str = "CPU";
/// The name of the resource whose units have ids.
pub const GPU: &str = "GPU";

new_key_type! {
    /// Names a lease; never reused.
    pub struct LeaseKey;
}

/// What a class of tasks needs, by resource name, in 1/[`UNIT`].
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Demand(BTreeMap<String, i64>);

/// Why a demand was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DemandError {
    /// Not a finite number from 0 up.
    NotAQuantity(String),
    /// GPUs above one are taken whole.
    PartOfSeveralGpus,
}

impl fmt::Display for DemandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemandError::NotAQuantity(name) => {
                write!(f, "the amount of `{name}` must be a number from 0 to 1,000,000,000")
            }
            DemandError::PartOfSeveralGpus => {
                write!(f, "more than one `GPU` must be a whole number of them")
            }
        }
    }
}

impl std::error::Error for DemandError {}

impl Demand {
    /// Sets the amount of one resource; zero removes it.
    ///
    /// # Errors
    /// When the amount is not one that can be had.
    pub fn set(&mut self, name: &str, amount: f64) -> Result<(), DemandError> {
        if !(0.0..=1e9).contains(&amount) {
            return Err(DemandError::NotAQuantity(name.into()));
        }
        if name == GPU && amount > 1.0 && amount.fract() != 0.0 {
            return Err(DemandError::PartOfSeveralGpus);
        }
        let units = (amount * UNIT as f64).round() as i64;
        if units == 0 {
            self.0.remove(name);
        } else {
            self.0.insert(name.into(), units);
        }
        Ok(())
    }

    /// The amount of one resource, in 1/[`UNIT`].
    pub fn amount(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Names and amounts, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, units)| (name.as_str(), *units))
    }
}

/// An amount as people write it.
pub fn display_units(units: i64) -> String {
    format!("{}", units as f64 / UNIT as f64)
}

/// A class that no lease can ever serve on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infeasible {
    /// The resource that is missing.
    pub resource: String,
    /// How much of it the class needs, in 1/[`UNIT`].
    pub needed: i64,
    /// How much of it there is, in 1/[`UNIT`].
    pub total: i64,
}

impl fmt::Display for Infeasible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (needed, total) = (display_units(self.needed), display_units(self.total));
        write!(f, "needs {}: {needed}, this node has {total}", self.resource)
    }
}

impl std::error::Error for Infeasible {}

/// What the shell has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Run tasks of this class under this lease until it is returned.
    Grant(LeaseKey, ClassId),
}

/// The machine; see the module's documentation.
#[derive(Debug)]
pub struct Scheduler {
    resources: Vec<Resource>,
    gpus: Vec<i64>,
    classes: Vec<Class>,
    by_demand: BTreeMap<(String, Demand), ClassId>,
    leases: SlotMap<LeaseKey, Lease>,
    /// Classes that want a lease and cannot have one yet, each at most once.
    waiting: VecDeque<ClassId>,
    effects: VecDeque<Effect>,
    plants: Plants,
}

#[derive(Debug)]
struct Resource {
    name: String,
    total: i64,
    available: i64,
}

#[derive(Debug)]
struct Class {
    name: String,
    /// Indices into `resources`, and amounts.
    demand: Vec<(usize, i64)>,
    cpu: i64,
    gpu: i64,
    wanted: usize,
    /// Leases granted that have not taken a task yet.
    starting: usize,
    is_waiting: bool,
}

#[derive(Debug)]
struct Lease {
    class: ClassId,
    gpus: Vec<(u32, i64)>,
    started: bool,
    blocked: bool,
}

impl Class {
    fn only_cpu(&self, resources: &[Resource]) -> bool {
        self.demand.iter().all(|(index, _)| resources[*index].name == CPU)
    }
}

impl Scheduler {
    /// A scheduler for a node with these resources.
    pub fn new(total: &Demand) -> Self {
        let resource = |(name, units): (&str, i64)| Resource {
            name: name.into(),
            total: units,
            available: units,
        };
        let gpus = total.amount(GPU).div_euclid(UNIT);
        Scheduler {
            resources: total.iter().map(resource).collect(),
            gpus: vec![UNIT; gpus as usize],
            classes: Vec::new(),
            by_demand: BTreeMap::new(),
            leases: SlotMap::with_key(),
            waiting: VecDeque::new(),
            effects: VecDeque::new(),
            plants: Plants::NONE,
        }
    }

    /// A scheduler with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(total: &Demand, plants: Plants) -> Self {
        Scheduler { plants, ..Self::new(total) }
    }

    /// The class of this name and demand.
    ///
    /// # Errors
    /// When this node can never meet the demand.
    pub fn class(&mut self, name: &str, demand: &Demand) -> Result<ClassId, Infeasible> {
        if let Some(class) = self.by_demand.get(&(name.to_owned(), demand.clone())) {
            return Ok(*class);
        }
        let mut indexed = Vec::new();
        for (resource, needed) in demand.iter() {
            let found = self.resources.iter().position(|known| known.name == resource);
            let total = found.map_or(0, |index| self.resources[index].total);
            match found {
                Some(index) if needed <= total => indexed.push((index, needed)),
                _ => return Err(Infeasible { resource: resource.into(), needed, total }),
            }
        }
        let class = ClassId(self.classes.len() as u32);
        self.classes.push(Class {
            name: name.into(),
            demand: indexed,
            cpu: demand.amount(CPU),
            gpu: demand.amount(GPU),
            wanted: 0,
            starting: 0,
            is_waiting: false,
        });
        self.by_demand.insert((name.to_owned(), demand.clone()), class);
        Ok(class)
    }

    /// This many tasks of the class are queued now.
    pub fn wanted(&mut self, id: ClassId, queued: usize) {
        let class = &mut self.classes[id.0 as usize];
        class.wanted = queued;
        if !class.is_waiting && class.starting < queued {
            class.is_waiting = true;
            self.waiting.push_back(id);
            self.grant_waiting();
        }
    }

    /// What the shell has to do next. Call until `None`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The lease has taken its first task.
    pub fn started(&mut self, key: LeaseKey) {
        let lease = &mut self.leases[key];
        if !std::mem::replace(&mut lease.started, true) {
            self.classes[lease.class.0 as usize].starting -= 1;
        }
    }

    /// Whether a lease whose slice is over must make room for another class that waits.
    pub fn must_yield(&self, key: LeaseKey) -> bool {
        let own = self.leases[key].class;
        self.waiting.iter().any(|class| *class != own)
    }

    /// The lease is over.
    pub fn returned(&mut self, key: LeaseKey) {
        self.started(key);
        let lease = self.leases.remove(key).expect("a lease is returned once");
        let class = &self.classes[lease.class.0 as usize];
        for (index, units) in &class.demand {
            let given_back = lease.blocked && self.resources[*index].name == CPU;
            if !given_back || self.plants.has(Plant::PromiseTwice) {
                self.resources[*index].available += units;
            }
        }
        for (gpu, units) in &lease.gpus {
            self.gpus[*gpu as usize] += units;
        }
        self.grant_waiting();
    }

    /// A lease for whoever runs a queued task of this class itself, if one can be had at once
    /// without overtaking anyone. Where more than CPUs is set aside for a worker that is on its way,
    /// that worker comes first: two would hold what one needs.
    pub fn lease_now(&mut self, id: ClassId) -> Option<LeaseKey> {
        let overtakes = self.waiting.iter().any(|waiting| *waiting != id);
        let class = &self.classes[id.0 as usize];
        let is_expected = class.starting > 0 && !class.only_cpu(&self.resources);
        if overtakes || is_expected || !self.fits(id) {
            return None;
        }
        let key = self.take(id);
        self.leases[key].started = true;
        Some(key)
    }

    /// The task under this lease waits; its CPU is free meanwhile.
    pub fn blocked(&mut self, key: LeaseKey) {
        if self.set_blocked(key, true) {
            self.grant_waiting();
        }
    }

    /// The task under this lease waits, but not for itself: gives its CPU back for good and says
    /// whether the lease holds anything else.
    pub fn blocked_has_more(&mut self, key: LeaseKey) -> bool {
        let class = &self.classes[self.leases[key].class.0 as usize];
        let more = class.demand.iter().any(|(index, _)| self.resources[*index].name != CPU);
        if more {
            self.blocked(key);
        }
        more
    }

    /// Whether a task of `class` may run in place of the work under `key`: it needs no more than the
    /// CPU which that work holds.
    pub fn covers(&self, key: LeaseKey, class: ClassId) -> bool {
        let Some(lease) = self.leases.get(key) else { return false };
        let (held, needed) =
            (&self.classes[lease.class.0 as usize], &self.classes[class.0 as usize]);
        !lease.blocked && needed.only_cpu(&self.resources) && needed.cpu <= held.cpu
    }

    /// Whether leases are out that will each find one of the `queued` tasks and no more: whoever
    /// runs such a task itself then uses the CPU that is set aside for it.
    pub fn is_awaited(&self, id: ClassId, queued: usize) -> bool {
        let class = &self.classes[id.0 as usize];
        class.only_cpu(&self.resources) && class.starting > 0 && queued <= class.starting
    }

    /// The task under this lease goes on.
    pub fn unblocked(&mut self, key: LeaseKey) {
        self.set_blocked(key, false);
    }

    /// The ids of the GPUs that a lease holds.
    pub fn gpu_ids(&self, key: LeaseKey) -> Vec<u32> {
        self.leases
            .get(key)
            .map(|lease| lease.gpus.iter().map(|(id, _)| *id).collect())
            .unwrap_or_default()
    }

    /// Names, totals and what is available of each resource, in 1/[`UNIT`].
    pub fn resources(&self) -> impl Iterator<Item = (&str, i64, i64)> {
        self.resources.iter().map(|r| (r.name.as_str(), r.total, r.available))
    }

    /// What a class waits for: the resource it lacks most plainly, how much of it, and how much is
    /// available. `None` if it waits for nothing, or only for its turn.
    pub fn lacking(&self, id: ClassId) -> Option<(&str, i64, i64)> {
        let class = &self.classes[id.0 as usize];
        class.demand.iter().find_map(|(index, units)| {
            let resource = &self.resources[*index];
            (resource.available < *units).then_some((&*resource.name, *units, resource.available))
        })
    }

    /// The name of a class.
    pub fn class_name(&self, id: ClassId) -> &str {
        &self.classes[id.0 as usize].name
    }

    /// How many leases are out.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// SCHED-2: serves the waiting line from its head. A class that cannot be served yet keeps its
    /// place, and those behind it may pass, but only with resources it could not use itself.
    fn grant_waiting(&mut self) {
        let mut position = 0;
        while position < self.waiting.len() {
            let id = self.waiting[position];
            let class = &self.classes[id.0 as usize];
            if class.wanted <= class.starting {
                self.classes[id.0 as usize].is_waiting = false;
                self.waiting.remove(position);
            } else if self.fits(id) && !self.starves_earlier(id, position) {
                let key = self.take(id);
                self.classes[id.0 as usize].starting += 1;
                self.effects.push_back(Effect::Grant(key, id));
                // One lease a turn.
                self.waiting.remove(position);
                let class = &mut self.classes[id.0 as usize];
                class.is_waiting = class.wanted > class.starting;
                if class.is_waiting {
                    self.waiting.push_back(id);
                }
                position = 0;
            } else {
                position += 1;
            }
        }
    }

    fn starves_earlier(&self, id: ClassId, position: usize) -> bool {
        let mine = &self.classes[id.0 as usize].demand;
        self.waiting.iter().take(position).any(|earlier| {
            let earlier = &self.classes[earlier.0 as usize];
            // Free parts of several GPUs do not make a whole one.
            let no_gpu_fits = self.gpus_for(earlier.gpu).is_none();
            earlier.demand.iter().any(|(index, units)| {
                let resource = &self.resources[*index];
                let scarce = resource.available < *units || (no_gpu_fits && resource.name == GPU);
                scarce && mine.iter().any(|(own, _)| own == index)
            })
        })
    }

    fn fits(&self, id: ClassId) -> bool {
        let class = &self.classes[id.0 as usize];
        let available =
            class.demand.iter().all(|(index, units)| self.resources[*index].available >= *units);
        available && self.gpus_for(class.gpu).is_some()
    }

    fn take(&mut self, id: ClassId) -> LeaseKey {
        let class = &self.classes[id.0 as usize];
        let gpus = self.gpus_for(class.gpu).expect("it was checked that the class fits");
        for (index, units) in &class.demand {
            self.resources[*index].available -= units;
        }
        for (gpu, units) in &gpus {
            self.gpus[*gpu as usize] -= units;
        }
        self.leases.insert(Lease { class: id, gpus, started: false, blocked: false })
    }

    /// Whole GPUs that nobody uses, or a part of the fullest one that has room: parts of different
    /// tasks share a GPU, so that others stay whole.
    fn gpus_for(&self, units: i64) -> Option<Vec<(u32, i64)>> {
        let ids = (0u32..).zip(&self.gpus);
        if units == 0 {
            return Some(Vec::new());
        }
        if units < UNIT {
            let room = ids.filter(|(_, free)| **free >= units).min_by_key(|(_, free)| **free)?;
            return Some(vec![(room.0, units)]);
        }
        let count = (units / UNIT) as usize;
        let whole: Vec<_> =
            ids.filter(|(_, free)| **free == UNIT).map(|(id, _)| (id, UNIT)).take(count).collect();
        (whole.len() == count).then_some(whole)
    }

    fn set_blocked(&mut self, key: LeaseKey, blocked: bool) -> bool {
        let Some(lease) = self.leases.get_mut(key) else { return false };
        if lease.blocked == blocked {
            return false;
        }
        lease.blocked = blocked;
        let units = self.classes[lease.class.0 as usize].cpu;
        if let Some(cpu) = self.resources.iter_mut().find(|resource| resource.name == CPU) {
            cpu.available += if blocked { units } else { -units };
        }
        units > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(of: &[(&str, f64)]) -> Demand {
        let mut demand = Demand::default();
        for (name, amount) in of {
            demand.set(name, *amount).unwrap();
        }
        demand
    }

    fn grants(scheduler: &mut Scheduler) -> Vec<(LeaseKey, ClassId)> {
        std::iter::from_fn(|| scheduler.poll_effect())
            .map(|Effect::Grant(lease, class)| (lease, class))
            .collect()
    }

    #[test]
    fn leases_are_granted_up_to_the_resources_and_as_many_as_there_are_tasks() {
        let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0)]));
        let class = scheduler.class("f", &demand(&[(CPU, 1.0)])).unwrap();
        scheduler.wanted(class, 1);
        assert_eq!(grants(&mut scheduler).len(), 1);
        scheduler.wanted(class, 5);
        let second = grants(&mut scheduler);
        assert_eq!(second.len(), 1);
        assert_eq!(scheduler.lacking(class), Some((CPU, UNIT, 0)));
        scheduler.returned(second[0].0);
        assert_eq!(grants(&mut scheduler).len(), 1);
    }

    #[test]
    fn classes_that_wait_take_turns() {
        let mut scheduler = Scheduler::new(&demand(&[(CPU, 1.0)]));
        let [a, b, c] = ["a", "b", "c"].map(|name| {
            let class = scheduler.class(name, &demand(&[(CPU, 1.0)])).unwrap();
            scheduler.wanted(class, 100);
            class
        });
        let mut order = Vec::new();
        for _ in 0..6 {
            let [(lease, class)] = grants(&mut scheduler)[..] else { panic!("one at a time") };
            scheduler.started(lease);
            assert!(scheduler.must_yield(lease));
            order.push(class);
            scheduler.wanted(class, 100); // More of the same came meanwhile.
            scheduler.returned(lease);
        }
        // The first wanted more before the others came.
        assert_eq!(order, [a, a, b, c, a, b]);
    }

    #[test]
    fn a_large_demand_is_not_starved_by_small_ones() {
        let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0)]));
        let small = scheduler.class("small", &demand(&[(CPU, 1.0)])).unwrap();
        let large = scheduler.class("large", &demand(&[(CPU, 2.0)])).unwrap();
        scheduler.wanted(small, 2);
        let first = grants(&mut scheduler);
        assert_eq!(first.len(), 2);
        scheduler.wanted(large, 1);
        scheduler.started(first[0].0);
        scheduler.wanted(small, 9);
        scheduler.returned(first[0].0);
        assert!(grants(&mut scheduler).is_empty());
        scheduler.returned(first[1].0);
        assert_eq!(grants(&mut scheduler)[0].1, large);
    }

    /// Found by the simulator: what is free in parts was not seen to be too little.
    #[test]
    fn a_whole_gpu_is_not_starved_by_parts_of_gpus() {
        let mut scheduler = Scheduler::new(&demand(&[(GPU, 2.0)]));
        let half = scheduler.class("half", &demand(&[(GPU, 0.5)])).unwrap();
        let whole = scheduler.class("whole", &demand(&[(GPU, 1.0)])).unwrap();
        scheduler.wanted(half, 3);
        let halves = grants(&mut scheduler);
        for (lease, _) in &halves {
            scheduler.started(*lease);
        }
        scheduler.wanted(whole, 1);
        scheduler.wanted(half, 9);
        scheduler.returned(halves[0].0);
        assert_eq!(
            grants(&mut scheduler),
            [],
            "a half is free of either GPU: a whole, but of none"
        );
        scheduler.returned(halves[1].0);
        assert_eq!(grants(&mut scheduler)[0].1, whole);
    }

    #[test]
    fn what_can_never_run_is_refused_with_figures() {
        let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0)]));
        let error = scheduler.class("f", &demand(&[(GPU, 2.0)])).unwrap_err();
        assert_eq!(error.to_string(), "needs GPU: 2, this node has 0");
        let error = scheduler.class("f", &demand(&[(CPU, 2.5)])).unwrap_err();
        assert_eq!(error.to_string(), "needs CPU: 2.5, this node has 2");
    }

    #[test]
    fn gpus_are_exclusive_and_parts_share_one() {
        let mut scheduler = Scheduler::new(&demand(&[(GPU, 3.0)]));
        let half = scheduler.class("half", &demand(&[(GPU, 0.5)])).unwrap();
        let two = scheduler.class("two", &demand(&[(GPU, 2.0)])).unwrap();
        scheduler.wanted(half, 1);
        scheduler.wanted(two, 1);
        scheduler.wanted(half, 2);
        let ids: Vec<_> =
            grants(&mut scheduler).iter().map(|(lease, _)| scheduler.gpu_ids(*lease)).collect();
        assert_eq!(ids, [vec![0], vec![1, 2], vec![0]]);
        scheduler.wanted(half, 3);
        assert!(grants(&mut scheduler).is_empty());
    }

    #[test]
    fn who_waits_does_not_take_a_gpu_beside_the_one_that_is_set_aside() {
        let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0), (GPU, 2.0)]));
        let class = scheduler.class("f", &demand(&[(CPU, 1.0), (GPU, 1.0)])).unwrap();
        assert!(scheduler.lease_now(class).is_some());
        scheduler.wanted(class, 1);
        let lease = grants(&mut scheduler)[0].0;
        assert_eq!(scheduler.lease_now(class), None);
        scheduler.started(lease);
    }

    #[test]
    fn a_blocked_task_lends_its_cpu_and_takes_it_back() {
        let mut scheduler = Scheduler::new(&demand(&[(CPU, 1.0), ("disk", 1.0)]));
        let parent = scheduler.class("parent", &demand(&[(CPU, 1.0), ("disk", 1.0)])).unwrap();
        let child = scheduler.class("child", &demand(&[(CPU, 1.0)])).unwrap();
        scheduler.wanted(parent, 1);
        let parent_lease = grants(&mut scheduler)[0].0;
        scheduler.wanted(child, 1);
        assert!(grants(&mut scheduler).is_empty());
        scheduler.blocked(parent_lease);
        let child_lease = grants(&mut scheduler)[0].0;
        scheduler.unblocked(parent_lease);
        scheduler.wanted(child, 0);
        scheduler.returned(child_lease);
        scheduler.wanted(parent, 0);
        scheduler.returned(parent_lease);
        assert!(scheduler.resources().all(|(_, total, available)| total == available));
    }

    #[test]
    fn amounts_are_checked() {
        let mut demand = Demand::default();
        let text = "the amount of `CPU` must be a number from 0 to 1,000,000,000";
        assert_eq!(demand.set(CPU, -1.0).unwrap_err().to_string(), text);
        assert_eq!(demand.set(CPU, f64::NAN).unwrap_err().to_string(), text);
        let text = "more than one `GPU` must be a whole number of them";
        assert_eq!(demand.set(GPU, 1.5).unwrap_err().to_string(), text);
    }
}
