//! Adds up what a scheduler has promised to leases and set aside for placement groups.
//!
//! # Checked
//! - Leases outside of groups and bundles set aside never exceed the node together, and leases in a bundle
//!   never exceed the bundle, but for CPUs of tasks that were blocked and go on (SCHED-1).
//! - A lease of a class that belongs to a group is cut from a bundle of that group, and no other one.
//! - No GPU is promised more than once in whole, by parts or otherwise.
//! - A group that is ready has what it asked for, and a removed one nothing (SCHED-3, SCHED-4).

use std::collections::BTreeMap;

use raybolt_core::calls::scheduler::{
    CPU, Demand, GPU, GroupKey, LeaseKey, Scheduler, UNIT, Within,
};

use crate::trace::{Verdict, require};

const NAME: &str = "bundles";

/// What a lease is cut from.
type Source = Option<(GroupKey, u32)>;

/// The truth about one node's resources and groups.
#[derive(Debug)]
pub struct Bundles {
    total: Demand,
    used: BTreeMap<Source, BTreeMap<String, i64>>,
    leases: BTreeMap<LeaseKey, Lease>,
    /// Groups that have their bundles.
    ready: BTreeMap<GroupKey, Vec<Demand>>,
}

#[derive(Debug)]
struct Lease {
    demand: Demand,
    source: Source,
    blocked: bool,
    gpus: Vec<u32>,
}

impl Bundles {
    /// A node that has this.
    pub fn new(total: Demand) -> Self {
        let (used, leases, ready) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Bundles { total, used, leases, ready }
    }

    /// A lease was granted or taken.
    pub fn leased(
        &mut self,
        key: LeaseKey,
        demand: &Demand,
        within: Within,
        scheduler: &Scheduler,
    ) -> Verdict {
        let source = scheduler.lease(key).and_then(|lease| lease.bundle);
        let is_right = match (within, source) {
            (Within::Node, source) => source.is_none(),
            (Within::Bundle(group, index), source) => source == Some((group, index)),
            (Within::AnyBundle(group), source) => source.is_some_and(|source| source.0 == group),
        };
        require(is_right, NAME, || format!("{key:?} within {within:?} is cut from {source:?}"))?;
        let gpus = scheduler.gpu_ids(key);
        let lease = Lease { demand: demand.clone(), source, blocked: false, gpus };
        let before = self.leases.insert(key, lease);
        require(before.is_none(), NAME, || format!("{key:?} is granted twice"))?;
        self.take(source, demand)?;
        self.gpus_are_shared_only_by_fractions(key)
    }

    /// A group has its bundles.
    pub fn ready(&mut self, key: GroupKey, bundles: &[Demand]) -> Verdict {
        let before = self.ready.insert(key, bundles.to_vec());
        require(before.is_none(), NAME, || format!("{key:?} is ready twice"))?;
        bundles.iter().try_for_each(|bundle| self.take(None, bundle))
    }

    /// A group was removed: its bundles are free but for what leases hold of them.
    pub fn removed(&mut self, key: GroupKey) {
        for bundle in self.ready.remove(&key).unwrap_or_default() {
            self.add(None, &bundle, -1);
        }
        let of_group = |lease: &&mut Lease| lease.source.is_some_and(|source| source.0 == key);
        let mut moved = Vec::new();
        for lease in self.leases.values_mut().filter(of_group) {
            lease.source = None;
            moved.push((lease.demand.clone(), lease.blocked));
        }
        for (demand, blocked) in moved {
            self.add(None, &demand, 1);
            self.add_cpus(None, &demand, if blocked { -1 } else { 0 });
        }
        self.used.retain(|source, _| source.is_none_or(|source| source.0 != key));
    }

    /// The task under a lease waits, or goes on.
    pub fn blocked(&mut self, key: LeaseKey, blocked: bool) {
        let lease = self.leases.get_mut(&key).expect("it is out");
        if std::mem::replace(&mut lease.blocked, blocked) != blocked {
            let (source, demand) = (lease.source, lease.demand.clone());
            self.add_cpus(source, &demand, if blocked { -1 } else { 1 });
        }
    }

    /// A lease was returned.
    pub fn returned(&mut self, key: LeaseKey) {
        let lease = self.leases.remove(&key).expect("the world returns leases that were granted");
        self.add(lease.source, &lease.demand, -1);
        self.add_cpus(lease.source, &lease.demand, i64::from(lease.blocked));
    }

    /// With nothing to run and no groups, everything is available.
    pub fn all_returned(&self, scheduler: &Scheduler) -> Verdict {
        let (leases, groups) = (scheduler.leases(), scheduler.groups().count());
        require(leases == 0 && groups == 0, "leaks", || {
            format!("the scheduler keeps {leases} leases and {groups} groups")
        })?;
        for (name, total, available) in scheduler.resources() {
            require(total == available, "leaks", || {
                format!("SCHED-3: {available} of {total} of `{name}` are available at the end")
            })?;
        }
        Ok(())
    }

    fn take(&mut self, source: Source, demand: &Demand) -> Verdict {
        self.add(source, demand, 1);
        let used = &self.used[&source];
        let total = match source {
            None => &self.total,
            Some((group, index)) => match self.ready.get(&group) {
                Some(bundles) => &bundles[index as usize],
                None => return require(false, NAME, || format!("{group:?} has no bundles")),
            },
        };
        for (name, _) in demand.iter() {
            let (used, total) = (used[name], total.amount(name));
            require(used <= total, NAME, || {
                format!("SCHED-1: {used} of {total} of `{name}` are promised at {source:?}")
            })?;
        }
        Ok(())
    }

    fn add(&mut self, source: Source, demand: &Demand, sign: i64) {
        let used = self.used.entry(source).or_default();
        for (name, units) in demand.iter() {
            *used.entry(name.to_owned()).or_default() += sign * units;
        }
    }

    fn add_cpus(&mut self, source: Source, demand: &Demand, sign: i64) {
        let used = self.used.entry(source).or_default();
        *used.entry(CPU.to_owned()).or_default() += sign * demand.amount(CPU);
    }

    fn gpus_are_shared_only_by_fractions(&self, key: LeaseKey) -> Verdict {
        for id in &self.leases[&key].gpus {
            let sharing = self.leases.values().filter(|lease| lease.gpus.contains(id));
            let used: i64 = sharing.map(|lease| lease.demand.amount(GPU).min(UNIT)).sum();
            require(used <= UNIT, NAME, || {
                format!("SCHED-1: GPU {id} is promised {used} times 1/{UNIT}")
            })?;
        }
        Ok(())
    }
}
