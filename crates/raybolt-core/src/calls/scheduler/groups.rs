//! Placement groups of one node: asking for them, setting their bundles aside, ending them.

use slotmap::new_key_type;
use thiserror::Error;

use super::demand::{Among, Demand, Infeasible};
use super::stock::{GPU_INDEX, Needs, Stock};
use super::{ClassId, Effect, Scarce, Scheduler, Served, Source, Waiter, note_scarce};
use crate::calls::placement::{self, PlacementStrategy, Unplaceable};
use crate::ids::JobId;
use crate::plant::Plant;

new_key_type! {
    /// Names a placement group; never reused.
    pub struct GroupKey;
}

/// How many bundles a group may have.
pub const BUNDLES_MAX: usize = 10_000;

/// A placement group as it is asked for.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    /// For messages.
    pub name: String,
    /// Whose group it is.
    pub job: JobId,
    /// What each bundle sets aside.
    pub bundles: Vec<Demand>,
    /// How they are to lie.
    pub strategy: PlacementStrategy,
}

/// Why a group makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupError {
    /// It would set nothing aside.
    #[error("a placement group needs at least one bundle")]
    NoBundles,
    /// One of its bundles would set nothing aside.
    #[error("bundle {0} of the placement group is empty; give it some of a resource")]
    EmptyBundle(usize),
    /// More than a group may have.
    #[error("a placement group has at most {BUNDLES_MAX} bundles, not {0}")]
    TooManyBundles(usize),
}

/// A placement group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) job: JobId,
    pub(super) strategy: PlacementStrategy,
    pub(super) demands: Vec<Demand>,
    pub(super) needs: Vec<Needs>,
    /// All bundles together.
    pub(super) sum: Needs,
    /// What the bundles have; none while the group waits.
    pub(super) stocks: Vec<Stock>,
    /// Why it will never be ready.
    pub(super) never: Option<Unplaceable>,
    /// The classes whose tasks run in it.
    pub(super) classes: Vec<ClassId>,
}

impl Group {
    pub(super) fn is_ready(&self) -> bool {
        !self.stocks.is_empty()
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.is_ready() && self.never.is_none()
    }
}

impl Scheduler {
    /// Asks for a group. [`Effect::Ready`] says when it has its bundles; one that can never have them stays
    /// and says why.
    ///
    /// # Errors
    /// When there is nothing to set aside.
    pub fn group(&mut self, spec: GroupSpec) -> Result<GroupKey, GroupError> {
        let GroupSpec { name, job, bundles: demands, strategy } = spec;
        if demands.is_empty() {
            return Err(GroupError::NoBundles);
        }
        if demands.len() > BUNDLES_MAX {
            return Err(GroupError::TooManyBundles(demands.len()));
        }
        if let Some(empty) = demands.iter().position(Demand::is_empty) {
            return Err(GroupError::EmptyBundle(empty));
        }
        let (needs, never) = match self.numbered(&demands) {
            Err(unknown) => (Vec::new(), Some(unknown)),
            Ok(needs) => {
                let idle = std::slice::from_ref(&self.idle);
                let never = match placement::assign(idle, &needs, strategy) {
                    Some(_) => None,
                    None => Some(placement::explain(&self.names, idle, &needs, strategy)),
                };
                (needs, never)
            }
        };
        let (sum, is_pending) = (Needs::sum(&needs), never.is_none());
        let (stocks, classes) = (Vec::new(), Vec::new());
        let group = Group { name, job, strategy, demands, needs, sum, stocks, never, classes };
        let key = self.groups.insert(group);
        if is_pending {
            self.waiting.push(job, Waiter::Group(key));
            self.grant_waiting();
        }
        Ok(key)
    }

    /// Ends a group, and gives back what it has set aside; what its leases hold comes back with them. Says
    /// which classes of tasks ran in it, which get no more leases; `None` if there is no such group any more.
    pub fn remove_group(&mut self, key: GroupKey) -> Option<Vec<ClassId>> {
        let group = self.groups.remove(key)?;
        if !self.plants.has(Plant::KeepRemoved) {
            for stock in &group.stocks {
                self.node.absorb(stock);
            }
        }
        for id in &group.classes {
            let class = &mut self.classes[id.0 as usize];
            class.is_over = true;
            class.wanted = 0;
            self.by_demand.remove(&(class.job, class.within));
        }
        self.grant_waiting(); // Also takes it, and its classes, out of the line.
        Some(group.classes)
    }

    fn numbered(&self, demands: &[Demand]) -> Result<Vec<Needs>, Unplaceable> {
        let numbered = |(index, demand)| {
            self.names.needs(demand).map_err(|(resource, needed)| {
                let (resource, among) = (resource.to_owned(), Among::Nodes);
                let infeasible = Infeasible { resource, needed, total: 0, among };
                Unplaceable::Bundle { index, infeasible }
            })
        };
        demands.iter().enumerate().map(numbered).collect()
    }

    /// SCHED-4: all bundles, or a place in the line.
    pub(super) fn serve_group(&mut self, key: GroupKey, scarce: &mut Scarce) -> Served {
        let Some(group) = self.groups.get(key).filter(|group| group.is_pending()) else {
            return Served::Gone;
        };
        let overtakes = group.sum.iter().any(|(index, _)| scarce.contains(&(Source::Node, index)));
        let node = std::slice::from_ref(&self.node);
        if !overtakes && placement::assign(node, &group.needs, group.strategy).is_some() {
            self.set_aside(key);
            self.effects.push_back(Effect::Ready(key));
            return Served::Yes { waits_on: false };
        }
        let before = scarce.len();
        let lacks = self.node.lacks(&group.sum).map(|(index, _)| index);
        note_scarce(scarce, Source::Node, lacks);
        if !overtakes && scarce.len() == before && group.sum.amount(GPU_INDEX) > 0 {
            // There are enough GPUs, but not as they are wanted: in parts, or whole.
            note_scarce(scarce, Source::Node, std::iter::once(GPU_INDEX));
        }
        Served::NotYet
    }

    fn set_aside(&mut self, key: GroupKey) {
        let group = &mut self.groups[key];
        let mut stocks: Vec<_> = group.needs.iter().map(|_| None).collect();
        for bundle in placement::order(&group.needs) {
            let needs = &group.needs[bundle];
            let gpus = self.node.take(needs);
            stocks[bundle] = Some(Stock::of_bundle(&self.names, needs, &gpus));
            if bundle > 0 && self.plants.has(Plant::SetAsideTwice) {
                self.node.give(needs, &gpus);
            }
        }
        group.stocks = stocks.into_iter().flatten().collect();
    }
}
