//! What a scheduler tells those who watch it. Nothing here changes anything.

use super::demand::Demand;
use super::stock::{CPU_INDEX, GPU_INDEX, Stock};
use super::{CPU, ClassId, GroupKey, Lease, LeaseKey, Scheduler, Source, Waiter, Within};
use crate::calls::placement::{PlacementStrategy, Unplaceable};
use crate::ids::JobId;

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
    /// The bundle it is cut from, if that has not been removed.
    pub bundle: Option<(GroupKey, u32)>,
}

/// How a placement group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState<'a> {
    /// It waits for resources.
    Pending,
    /// It has its bundles.
    Ready,
    /// It can never have them.
    Never(&'a Unplaceable),
}

/// A placement group.
#[derive(Debug, Clone, Copy)]
pub struct GroupView<'a> {
    /// Which one.
    pub key: GroupKey,
    /// Its name, for messages.
    pub name: &'a str,
    /// Whose it is.
    pub job: JobId,
    /// How its bundles are to lie.
    pub strategy: PlacementStrategy,
    /// How it is.
    pub state: GroupState<'a>,
    /// What each bundle sets aside.
    pub bundles: &'a [Demand],
}

/// A resource of a bundle: its name, how much the bundle has, and how much of it is free.
pub type BundleView<'a> = (&'a str, i64, i64);

impl Scheduler {
    /// Names, totals and what is available of each resource, in 1/[`UNIT`](super::UNIT). What a group has
    /// set aside is not available.
    pub fn resources(&self) -> impl Iterator<Item = (&str, i64, i64)> {
        let amounts =
            self.node.iter().map(|(index, total, free)| (self.names.name(index), total, free));
        amounts.filter(|(_, total, _)| *total > 0)
    }

    /// How many leases are out.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// The lease of this key, if it has not been returned.
    pub fn lease(&self, key: LeaseKey) -> Option<LeaseView> {
        self.leases.get(key).map(|lease| self.view(key, lease))
    }

    /// The ids of the GPUs that a lease holds.
    pub fn gpu_ids(&self, key: LeaseKey) -> Vec<u32> {
        let ids = self.leases.get(key).map(|lease| lease.gpus.iter().map(|(id, _)| *id).collect());
        ids.unwrap_or_default()
    }

    /// The leases that hold some of this resource now, and how much.
    pub fn holders<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = (LeaseView, i64)> + 'a {
        self.leases.iter().filter_map(move |(key, lease)| {
            let given_back = lease.blocked && resource == CPU;
            let mut demand = self.demand(lease.class).filter(|(name, _)| *name == resource);
            let units = demand.next().map(|(_, units)| units).filter(|_| !given_back)?;
            Some((self.view(key, lease), units))
        })
    }

    /// The groups that have set some of this resource aside, and how much.
    pub fn group_holders<'a>(
        &'a self,
        resource: &'a str,
    ) -> impl Iterator<Item = (GroupKey, i64)> + 'a {
        let ready = self.groups.iter().filter(|(_, group)| group.is_ready());
        ready.filter_map(move |(key, group)| {
            let units = group.demands.iter().map(|bundle| bundle.amount(resource)).sum();
            (units > 0).then_some((key, units))
        })
    }

    /// Names and amounts of what a class demands.
    pub fn demand(&self, id: ClassId) -> impl Iterator<Item = (&str, i64)> {
        let needs = &self.classes[id.0 as usize].needs;
        needs.iter().map(|(index, units)| (self.names.name(index), units))
    }

    /// Whether tasks of a class hold nothing but CPUs.
    pub fn is_only_cpu(&self, id: ClassId) -> bool {
        self.classes[id.0 as usize].needs.only_cpu()
    }

    /// The name of a class.
    pub fn class_name(&self, id: ClassId) -> &str {
        &self.classes[id.0 as usize].name
    }

    /// Where tasks of a class may run.
    pub fn within(&self, id: ClassId) -> Within {
        self.classes[id.0 as usize].within
    }

    /// Whether the group of a class was removed: its tasks never run.
    pub fn is_over(&self, id: ClassId) -> bool {
        self.classes[id.0 as usize].is_over
    }

    /// How many leases of a class have been granted that have not taken a task yet.
    pub fn starting(&self, id: ClassId) -> usize {
        self.classes[id.0 as usize].starting
    }

    /// The classes that want a lease and cannot have one yet, in the order of their turns.
    pub fn waiting(&self) -> impl Iterator<Item = ClassId> {
        self.waiting.iter().filter_map(|waiter| match waiter {
            Waiter::Class(class) => Some(class),
            Waiter::Group(_) => None,
        })
    }

    /// What a class waits for: the resource it lacks most plainly, how much of it, and how much is
    /// available. `None` if it waits for nothing, only for its turn, or for its group.
    pub fn lacking(&self, id: ClassId) -> Option<(&str, i64, i64)> {
        let needs = &self.classes[id.0 as usize].needs;
        let mut could = self.sources(id).filter(|(_, stock)| stock.could_fit(needs));
        let (_, first) = could.next()?;
        let (index, needed) = first.lacks(needs).next()?;
        if could.any(|(_, stock)| stock.fits(needs)) {
            return None; // It need not wait for that bundle.
        }
        Some((self.names.name(index), needed, first.free_for(index, needed)))
    }

    /// All placement groups that have not been removed.
    pub fn groups(&self) -> impl Iterator<Item = GroupView<'_>> {
        self.groups.keys().filter_map(|key| self.group_view(key))
    }

    /// The placement group of this key, if it has not been removed.
    pub fn group_view(&self, key: GroupKey) -> Option<GroupView<'_>> {
        let group = self.groups.get(key)?;
        let state = match &group.never {
            Some(never) => GroupState::Never(never),
            None if group.is_ready() => GroupState::Ready,
            None => GroupState::Pending,
        };
        let (name, job, strategy) = (&*group.name, group.job, group.strategy);
        Some(GroupView { key, name, job, strategy, state, bundles: &group.demands })
    }

    /// What a bundle of a group that is ready has, and what of it is free.
    pub fn bundle(&self, key: GroupKey, index: usize) -> impl Iterator<Item = BundleView<'_>> {
        let stock = self.groups.get(key).and_then(|group| group.stocks.get(index));
        let amounts = stock.into_iter().flat_map(Stock::iter);
        amounts
            .filter(|(_, total, _)| *total > 0)
            .map(|(index, total, free)| (self.names.name(index), total, free))
    }

    /// What a group waits for: the resource it lacks most plainly, how much of it, and how much is
    /// available. `None` if it waits only for its turn, or not at all.
    pub fn group_lacking(&self, key: GroupKey) -> Option<(&str, i64, i64)> {
        let group = self.groups.get(key).filter(|group| group.is_pending())?;
        let (index, needed) = self.node.lacks(&group.sum).next()?;
        Some((self.names.name(index), needed, self.node.free_for(index, needed)))
    }

    /// The leases that were cut from bundles of a group.
    pub fn leases_in(&self, key: GroupKey) -> impl Iterator<Item = LeaseView> {
        let of_group =
            move |lease: &Lease| matches!(lease.source, Source::Bundle(own, _) if own == key);
        let leases = self.leases.iter().filter(move |(_, lease)| of_group(lease));
        leases.map(|(key, lease)| self.view(key, lease))
    }

    /// Whether tasks of this class hold GPUs.
    pub fn has_gpus(&self, id: ClassId) -> bool {
        self.classes[id.0 as usize].needs.amount(GPU_INDEX) > 0
    }

    /// How many CPUs a class demands, in 1/[`UNIT`](super::UNIT).
    pub fn cpus(&self, id: ClassId) -> i64 {
        self.classes[id.0 as usize].needs.amount(CPU_INDEX)
    }

    fn view(&self, key: LeaseKey, lease: &Lease) -> LeaseView {
        let Lease { class, started, blocked, source, .. } = *lease;
        let bundle = match source {
            Source::Bundle(group, index) if self.groups.contains_key(group) => Some((group, index)),
            _ => None,
        };
        LeaseView { key, class, started, blocked, bundle }
    }
}
