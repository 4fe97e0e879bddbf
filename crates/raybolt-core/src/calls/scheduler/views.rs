//! What a scheduler tells those who watch it. Nothing here changes anything.

use super::{CPU, ClassId, Lease, LeaseKey, Scheduler};

/// A lease that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// Which one.
    pub key: LeaseKey,
    /// Which tasks it serves.
    pub class: ClassId,
    /// Whether it has taken a task.
    pub started: bool,
    /// Whether its task waits, and has given its CPU back meanwhile.
    pub blocked: bool,
}

impl Scheduler {
    /// The lease of this key, if it has not been returned.
    pub fn lease(&self, key: LeaseKey) -> Option<LeaseView> {
        self.leases.get(key).map(|lease| view(key, lease))
    }

    /// The leases that hold some of this resource now, and how much.
    pub fn holders<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = (LeaseView, i64)> + 'a {
        self.leases.iter().filter_map(move |(key, lease)| {
            let given_back = lease.blocked && resource == CPU;
            let mut demand = self.demand(lease.class).filter(|(name, _)| *name == resource);
            let units = demand.next().map(|(_, units)| units).filter(|_| !given_back)?;
            Some((view(key, lease), units))
        })
    }

    /// Names and amounts of what a class demands.
    pub fn demand(&self, id: ClassId) -> impl Iterator<Item = (&str, i64)> {
        let demand = &self.classes[id.0 as usize].demand;
        demand.iter().map(|(index, units)| (&*self.resources[*index].name, *units))
    }

    /// How many leases of a class have been granted that have not taken a task yet.
    pub fn starting(&self, id: ClassId) -> usize {
        self.classes[id.0 as usize].starting
    }

    /// The classes that want a lease and cannot have one yet, in the order of their turns.
    pub fn waiting(&self) -> impl Iterator<Item = ClassId> {
        self.waiting.iter().copied()
    }
}

fn view(key: LeaseKey, lease: &Lease) -> LeaseView {
    LeaseView { key, class: lease.class, started: lease.started, blocked: lease.blocked }
}
