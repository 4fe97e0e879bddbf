//! Adds up what the scheduler has promised.
//!
//! # Checked
//! - What is granted never exceeds the node, but for CPUs of tasks that were blocked and go on
//!   (SCHED-1). GPUs are shared only by fractions.
//! - A class that waits for a resource is not overtaken for ever by others that take it (SCHED-2).
//! - When all leases are returned, all is available (SCHED-3).

use std::collections::{BTreeMap, BTreeSet};

use raybolt_core::calls::owner::ClassId;
use raybolt_core::calls::scheduler::{CPU, Demand, GPU, LeaseKey, Scheduler, UNIT};

use crate::trace::{Verdict, require};

const NAME: &str = "resources";

/// How often a class may see another one take what it waits for. Classes take turns, so once would do
/// if decisions and their effects were one; some slack for those that are under way.
const OVERTAKEN_MAX: u32 = 12;

/// The truth about one node's resources.
#[derive(Debug)]
pub struct Resources {
    total: Demand,
    used: BTreeMap<String, i64>,
    leases: BTreeMap<LeaseKey, Lease>,
    classes: BTreeMap<ClassId, Class>,
}

#[derive(Debug)]
struct Lease {
    class: ClassId,
    demand: Demand,
    started: bool,
    blocked: bool,
    gpus: Vec<u32>,
}

#[derive(Debug, Default)]
struct Class {
    demand: Demand,
    /// Tasks that are queued, as the scheduler was told.
    wanted: usize,
    /// Leases granted that have not taken a task.
    starting: usize,
    /// Who took what it waits for since it waits, and how often.
    overtaken: BTreeMap<ClassId, u32>,
}

impl Class {
    fn is_waiting(&self) -> bool {
        self.wanted > self.starting
    }
}

impl Resources {
    /// A node that has this.
    pub fn new(total: Demand) -> Self {
        Resources {
            total,
            used: BTreeMap::new(),
            leases: BTreeMap::new(),
            classes: BTreeMap::new(),
        }
    }

    /// The scheduler is told how many tasks of a class are queued.
    pub fn wanted(&mut self, class: ClassId, demand: &Demand, queued: usize) {
        let record = self.classes.entry(class).or_default();
        record.demand = demand.clone();
        record.wanted = queued;
        if !record.is_waiting() {
            record.overtaken.clear();
        }
    }

    /// A lease was granted, to a worker that has yet to start.
    pub fn granted(
        &mut self,
        key: LeaseKey,
        class: ClassId,
        demand: &Demand,
        scheduler: &Scheduler,
    ) -> Verdict {
        let record = self.classes.entry(class).or_default();
        record.starting += 1;
        record.overtaken.clear();
        self.nobody_starves(class, demand)?;
        self.take(key, class, demand, scheduler)
    }

    /// A lease was taken by whoever runs the task at once.
    pub fn taken(
        &mut self,
        key: LeaseKey,
        class: ClassId,
        demand: &Demand,
        scheduler: &Scheduler,
    ) -> Verdict {
        self.take(key, class, demand, scheduler)?;
        self.leases.get_mut(&key).expect("it was just taken").started = true;
        Ok(())
    }

    /// A lease has its first task.
    pub fn started(&mut self, key: LeaseKey) {
        let Some(lease) = self.leases.get_mut(&key) else { return };
        if !std::mem::replace(&mut lease.started, true) {
            self.classes.entry(lease.class).or_default().starting -= 1;
        }
    }

    /// SCHED-2.
    fn nobody_starves(&mut self, by: ClassId, takes: &Demand) -> Verdict {
        let waiting: Vec<_> = self
            .classes
            .iter()
            .filter(|(class, record)| **class != by && record.is_waiting())
            .filter(|(_, record)| self.lacks_what_is_taken(&record.demand, takes))
            .map(|(class, _)| *class)
            .collect();
        for class in waiting {
            let overtaken = &mut self.classes.get_mut(&class).expect("it was found").overtaken;
            let times = overtaken.entry(by).or_default();
            *times += 1;
            require(*times <= OVERTAKEN_MAX, NAME, || {
                format!("SCHED-2: {by:?} has {times} times taken what {class:?} waits for")
            })?;
        }
        Ok(())
    }

    fn lacks_what_is_taken(&self, demand: &Demand, takes: &Demand) -> bool {
        demand.iter().any(|(name, units)| {
            let free = self.total.amount(name) - self.used.get(name).copied().unwrap_or(0);
            // Of GPUs, those that are free in parts are no use to who needs a whole one.
            let free = if name == GPU && units >= UNIT { self.whole_gpus() } else { free };
            takes.amount(name) > 0 && free < units
        })
    }

    fn whole_gpus(&self) -> i64 {
        let taken: BTreeSet<_> = self.leases.values().flat_map(|lease| &lease.gpus).collect();
        self.total.amount(GPU) - taken.len() as i64 * UNIT
    }

    fn take(
        &mut self,
        key: LeaseKey,
        class: ClassId,
        demand: &Demand,
        scheduler: &Scheduler,
    ) -> Verdict {
        for (name, units) in demand.iter() {
            let used = self.used.entry(name.to_owned()).or_default();
            *used += units;
            let (used, total) = (*used, self.total.amount(name));
            require(used <= total, NAME, || {
                format!("SCHED-1: {used} of {total} of `{name}` are promised with {key:?}")
            })?;
        }
        let gpus = scheduler.gpu_ids(key);
        let lease = Lease { class, demand: demand.clone(), started: false, blocked: false, gpus };
        let before = self.leases.insert(key, lease);
        require(before.is_none(), NAME, || format!("{key:?} is granted twice"))?;
        self.gpus_are_shared_only_by_fractions(key, demand)
    }

    /// The task under a lease waits, or goes on.
    pub fn blocked(&mut self, key: LeaseKey, blocked: bool) {
        let Some(lease) = self.leases.get_mut(&key) else { return };
        if std::mem::replace(&mut lease.blocked, blocked) != blocked {
            let cpu = lease.demand.amount(CPU);
            *self.used.entry(CPU.to_owned()).or_default() += if blocked { -cpu } else { cpu };
        }
    }

    /// A lease was returned.
    pub fn returned(&mut self, key: LeaseKey) {
        self.started(key);
        let lease = self.leases.remove(&key).expect("the world returns leases that were granted");
        for (name, units) in lease.demand.iter() {
            if !(lease.blocked && name == CPU) {
                *self.used.entry(name.to_owned()).or_default() -= units;
            }
        }
    }

    /// The GPUs of a lease, in ascending order.
    pub fn gpus(&self, key: LeaseKey) -> Vec<u32> {
        let mut gpus = self.leases.get(&key).map(|lease| lease.gpus.clone()).unwrap_or_default();
        gpus.sort_unstable();
        gpus
    }

    /// With nothing to run, everything is available.
    pub fn all_returned(&self, scheduler: &Scheduler) -> Verdict {
        let leases = scheduler.leases();
        require(leases == 0 && self.leases.is_empty(), "leaks", || {
            format!("the scheduler keeps {leases} leases, of which {:?} are out", self.leases)
        })?;
        for (name, total, available) in scheduler.resources() {
            require(total == available, "leaks", || {
                format!("SCHED-3: {available} of {total} of `{name}` are available at the end")
            })?;
        }
        Ok(())
    }

    fn gpus_are_shared_only_by_fractions(&self, key: LeaseKey, demand: &Demand) -> Verdict {
        let units = demand.amount(GPU);
        let ids = self.leases[&key].gpus.clone();
        let count = (units as u64).div_ceil(UNIT as u64) as usize;
        require(ids.len() == count, NAME, || {
            format!("{key:?} has GPUs {ids:?} for {units} units")
        })?;
        for id in ids {
            let sharing = self.leases.values().filter(|lease| lease.gpus.contains(&id));
            let used: i64 = sharing.map(|lease| lease.demand.amount(GPU).min(UNIT)).sum();
            require(used <= UNIT, NAME, || {
                format!("SCHED-1: GPU {id} is promised {used} times 1/{UNIT}")
            })?;
        }
        Ok(())
    }
}
