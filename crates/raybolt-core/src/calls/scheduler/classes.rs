//! Classes: which tasks the same lease can serve, and whether they can run at all.

use thiserror::Error;

use super::demand::{Among, Demand, Infeasible};
use super::stock::{Needs, Stock};
use super::{ClassId, GroupKey, Scheduler};
use crate::calls::placement::Unplaceable;
use crate::ids::JobId;

/// Where tasks of a class may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Within {
    /// On what no group has set aside.
    #[default]
    Node,
    /// In this bundle of a group.
    Bundle(GroupKey, u32),
    /// In any bundle of a group.
    AnyBundle(GroupKey),
}

impl Within {
    /// The group, if it is one.
    pub fn group(self) -> Option<GroupKey> {
        match self {
            Within::Node => None,
            Within::Bundle(group, _) | Within::AnyBundle(group) => Some(group),
        }
    }
}

/// A class as it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct ClassSpec<'a> {
    /// Its name, for messages and to keep functions apart.
    pub name: &'a str,
    /// What one of its tasks needs.
    pub demand: &'a Demand,
    /// Whose tasks they are.
    pub job: JobId,
    /// Where they may run.
    pub within: Within,
}

/// Why tasks of a class can never run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// Nothing is large enough.
    #[error(transparent)]
    Infeasible(#[from] Infeasible),
    /// The group has no bundle of that number.
    #[error(
        "asks for bundle {bundle} of its placement group, which has {bundles} (they count from 0)"
    )]
    NoBundle {
        /// The number.
        bundle: u32,
        /// How many there are.
        bundles: usize,
    },
    /// The group is gone.
    #[error("belongs to a placement group that was removed")]
    Removed,
    /// The group will never be there.
    #[error("belongs to a placement group that can never be placed: the group {0}")]
    Never(Unplaceable),
}

#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) needs: Needs,
    pub(super) job: JobId,
    pub(super) within: Within,
    pub(super) wanted: usize,
    /// Leases granted that have not taken a task yet.
    pub(super) starting: usize,
    /// Leases that are out.
    pub(super) out: usize,
    pub(super) is_waiting: bool,
    /// Its group was removed: it gets no more leases.
    pub(super) is_over: bool,
}

impl Scheduler {
    /// The class of this name and demand, of the first job and no group.
    ///
    /// # Errors
    /// When this node can never meet the demand.
    pub fn class(&mut self, name: &str, demand: &Demand) -> Result<ClassId, Infeasible> {
        let spec = ClassSpec { name, demand, job: JobId(0), within: Within::Node };
        self.class_of(spec).map_err(|refused| match refused {
            Refused::Infeasible(infeasible) => infeasible,
            other => unreachable!("no group, and yet it {other}"),
        })
    }

    /// The class that was asked for; the same one for equal questions.
    ///
    /// # Errors
    /// When tasks of it can never run.
    pub fn class_of(&mut self, spec: ClassSpec<'_>) -> Result<ClassId, Refused> {
        let ClassSpec { name, demand, job, within } = spec;
        let known = self.by_demand.get(&(job, within)).and_then(|names| names.get(name));
        if let Some(class) = known.and_then(|demands| demands.get(demand)) {
            return Ok(*class);
        }
        let needs = self.check(demand, within)?;
        let class = Class {
            name: name.into(),
            needs,
            job,
            within,
            wanted: 0,
            starting: 0,
            out: 0,
            is_waiting: false,
            is_over: false,
        };
        let id = match self.released.pop() {
            Some(id) => {
                self.classes[id.0 as usize] = class;
                id
            }
            None => {
                self.classes.push(class);
                ClassId(self.classes.len() as u32 - 1)
            }
        };
        if let Some(group) = within.group() {
            self.groups[group].classes.push(id);
        }
        let names = self.by_demand.entry((job, within)).or_default();
        names.entry(name.to_owned()).or_default().insert(demand.clone(), id);
        Ok(id)
    }

    /// The group of a class was removed, no lease of it is out, and no task of it will be queued again: its
    /// id may name another one. Says whether that is so as far as leases go.
    pub fn release(&mut self, id: ClassId) -> bool {
        let class = &mut self.classes[id.0 as usize];
        let is_free = class.is_over && class.out == 0 && !class.is_waiting;
        if is_free {
            class.name = String::new();
            self.released.push(id);
        }
        is_free
    }

    /// The demand by numbers, if it can ever be met there.
    fn check(&self, demand: &Demand, within: Within) -> Result<Needs, Refused> {
        let group = match within.group() {
            None => None,
            Some(key) => Some(self.groups.get(key).ok_or(Refused::Removed)?),
        };
        if let Some(never) = group.and_then(|group| group.never.clone()) {
            return Err(Refused::Never(never));
        }
        let has = match (within, group) {
            (Within::Bundle(_, bundle), Some(group)) => {
                let index = bundle as usize;
                let bundles = group.demands.len();
                let has = group.demands.get(index).ok_or(Refused::NoBundle { bundle, bundles })?;
                Has::Bundle(index, has)
            }
            (_, Some(group)) => Has::any_of(&group.demands, demand),
            (_, None) => Has::Node(&self.idle),
        };
        let lacks = |(name, needed): (&str, i64)| {
            let (total, among) = match &has {
                Has::Bundle(index, has) => (has.amount(name), Among::Bundle(*index)),
                Has::Largest(bundles) => {
                    let largest = bundles.iter().map(|bundle| bundle.amount(name)).max();
                    (largest.unwrap_or(0), Among::Bundles)
                }
                Has::Node(idle) => {
                    let index = (0..self.names.len()).find(|index| self.names.name(*index) == name);
                    (index.map_or(0, |index| idle.total(index)), Among::Nodes)
                }
            };
            let resource = name.to_owned();
            (needed > total).then_some(Infeasible { resource, needed, total, among })
        };
        if let Some(infeasible) = demand.iter().find_map(lacks) {
            return Err(infeasible.into());
        }
        Ok(self.names.needs(demand).expect("the node has some of each"))
    }
}

/// What there is for a class at most.
enum Has<'a> {
    Node(&'a Stock),
    Bundle(usize, &'a Demand),
    /// Of none of these alone is there enough of some resource.
    Largest(&'a [Demand]),
}

impl<'a> Has<'a> {
    /// The bundle that lacks least of what is demanded.
    fn any_of(bundles: &'a [Demand], demand: &Demand) -> Self {
        let exceeds =
            |name: &str, needed| bundles.iter().all(|bundle| bundle.amount(name) < needed);
        if demand.iter().any(|(name, needed)| exceeds(name, needed)) {
            return Has::Largest(bundles);
        }
        let lacking = |bundle: &Demand| {
            demand.iter().filter(|(name, needed)| bundle.amount(name) < *needed).count()
        };
        let best = (0..bundles.len()).min_by_key(|index| lacking(&bundles[*index]));
        let best = best.expect("a group has bundles");
        Has::Bundle(best, &bundles[best])
    }
}
