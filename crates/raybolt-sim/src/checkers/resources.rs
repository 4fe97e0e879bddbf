//! Adds up what the scheduler has promised.
//!
//! # Checked
//! - What is granted never exceeds the node, but for CPUs of tasks that were blocked and go on
//!   (SCHED-1). GPUs are shared only by fractions.
//! - When all leases are returned, all is available (SCHED-3).

use std::collections::BTreeMap;

use raybolt_core::calls::scheduler::{CPU, Demand, GPU, LeaseKey, Scheduler, UNIT};

use crate::trace::{Verdict, require};

const NAME: &str = "resources";

/// The truth about one node's resources.
#[derive(Debug)]
pub struct Resources {
    total: Demand,
    used: BTreeMap<String, i64>,
    leases: BTreeMap<LeaseKey, Lease>,
}

#[derive(Debug)]
struct Lease {
    demand: Demand,
    blocked: bool,
}

impl Resources {
    /// A node that has this.
    pub fn new(total: Demand) -> Self {
        Resources { total, used: BTreeMap::new(), leases: BTreeMap::new() }
    }

    /// A lease was granted.
    pub fn granted(&mut self, key: LeaseKey, demand: &Demand, scheduler: &Scheduler) -> Verdict {
        for (name, units) in demand.iter() {
            let used = self.used.entry(name.to_owned()).or_default();
            *used += units;
            let (used, total) = (*used, self.total.amount(name));
            require(used <= total, NAME, || {
                format!("SCHED-1: {used} of {total} of `{name}` are promised with {key:?}")
            })?;
        }
        let lease = Lease { demand: demand.clone(), blocked: false };
        let before = self.leases.insert(key, lease);
        require(before.is_none(), NAME, || format!("{key:?} is granted twice"))?;
        self.gpus_are_shared_only_by_fractions(key, demand, scheduler)
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
        let lease = self.leases.remove(&key).expect("the world returns leases that were granted");
        for (name, units) in lease.demand.iter() {
            if !(lease.blocked && name == CPU) {
                *self.used.entry(name.to_owned()).or_default() -= units;
            }
        }
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

    fn gpus_are_shared_only_by_fractions(
        &self,
        key: LeaseKey,
        demand: &Demand,
        scheduler: &Scheduler,
    ) -> Verdict {
        let units = demand.amount(GPU);
        let ids = scheduler.gpu_ids(key);
        let count = (units as u64).div_ceil(UNIT as u64) as usize;
        require(ids.len() == count, NAME, || {
            format!("{key:?} has GPUs {ids:?} for {units} units")
        })?;
        for id in ids {
            let sharing =
                self.leases.iter().filter(|(other, _)| scheduler.gpu_ids(**other).contains(&id));
            let used: i64 = sharing.map(|(_, lease)| lease.demand.amount(GPU).min(UNIT)).sum();
            require(used <= UNIT, NAME, || {
                format!("SCHED-1: GPU {id} is promised {used} times 1/{UNIT}")
            })?;
        }
        Ok(())
    }
}
