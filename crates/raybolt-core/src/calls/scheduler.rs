//! Says which tasks may run on this node now, so that no resource is promised twice.
//!
//! # Words
//! A *class* is a kind of task: its name, what it *demands*, and where it may run. A *lease* is the right to
//! run tasks of one class, one after the other; it holds the class's demand until it is returned. A
//! *placement group* sets resources aside in *bundles*; leases of a class that belongs to a group are cut from
//! its bundles, all others from what is left of the node. Quantities are whole multiples of 1/[`UNIT`].
//!
//! # Protocol
//! 1. [`Scheduler::class`] interns a class, or says why it can never run here.
//! 2. [`Scheduler::wanted`] reports how many tasks of a class are queued; leases are granted while
//!    there are more of them than leases that have not started, and the demand is available.
//!    Otherwise the class joins the waiting line.
//! 3. A lease whose class has no task left is [`Scheduler::returned`]. One whose slice is over is
//!    returned too if [`Scheduler::must_yield`]: classes that wait take turns, and so do jobs.
//! 4. A task that blocks gives its CPU back ([`Scheduler::blocked`]) and takes it again afterwards
//!    even if that oversubscribes the node for a while: its work is half done.
//! 5. [`Scheduler::group`] asks for a placement group, which waits in the same line as classes do, until all
//!    its bundles can be set aside at once. [`Scheduler::remove_group`] ends it: its classes get no more
//!    leases. What its leases hold comes back to the node as they are returned, the rest at once.
//!
//! # Invariants
//! - **SCHED-1 (not promised twice).** Granted demand never exceeds the node's resources, but for
//!   the CPU of tasks that were blocked and go on. What is set aside for a group is granted to it alone.
//! - **SCHED-2 (fair).** Jobs that wait are served in turn, and the classes and groups of a job; none is
//!   overtaken for ever.
//! - **SCHED-3 (whole).** When all leases are returned and all groups removed, all resources are available.
//! - **SCHED-4 (all or nothing).** A group has all its bundles or none.

use std::collections::{BTreeMap, VecDeque};

use slotmap::{SlotMap, new_key_type};

pub use self::classes::{ClassSpec, Refused, Within};
pub use self::demand::{
    Among, CPU, Demand, DemandError, GPU, Infeasible, MEMORY, UNIT, display_amount, display_units,
};
pub use self::groups::{GroupError, GroupKey, GroupSpec};
pub use self::views::{BundleView, GroupState, GroupView, LeaseView};
pub use super::owner::ClassId;
use crate::ids::JobId;
use crate::plant::{Plant, Plants};

mod classes;
mod demand;
mod gpus;
mod groups;
pub(super) mod stock;
#[cfg(test)]
mod tests;
mod turns;
mod views;

use classes::Class;
use gpus::Picks;
use groups::Group;
use stock::{CPU_INDEX, Names, Needs, Stock};
use turns::{Place, Turns};

new_key_type! {
    /// Names a lease; never reused.
    pub struct LeaseKey;
}

/// What the shell has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Run tasks of this class under this lease until it is returned.
    Grant(LeaseKey, ClassId),
    /// The group has its bundles: tell who waits for it.
    Ready(GroupKey),
}

/// The machine; see the module's documentation.
#[derive(Debug)]
pub struct Scheduler {
    names: Names,
    /// What no group has set aside.
    node: Stock,
    /// The node with nothing taken, to tell what can never be from what has to wait.
    idle: Stock,
    groups: SlotMap<GroupKey, Group>,
    classes: Vec<Class>,
    /// Ids of classes that are no more, to be given to others.
    released: Vec<ClassId>,
    by_demand: BTreeMap<(JobId, Within), BTreeMap<String, BTreeMap<Demand, ClassId>>>,
    leases: SlotMap<LeaseKey, Lease>,
    /// Classes that want a lease and groups that want their bundles, each at most once.
    waiting: Turns<Waiter>,
    /// Empty between two events; kept for its memory.
    scarce: Scarce,
    effects: VecDeque<Effect>,
    plants: Plants,
}

#[derive(Debug)]
struct Lease {
    class: ClassId,
    source: Source,
    gpus: Picks,
    started: bool,
    blocked: bool,
}

/// What a lease is cut from. The bundles of a removed group have gone back to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Node,
    Bundle(GroupKey, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    Class(ClassId),
    Group(GroupKey),
}

/// What came of looking at one who waits.
enum Served {
    /// It has something; whether it waits for more.
    Yes { waits_on: bool },
    /// Not yet.
    NotYet,
    /// It does not wait any more.
    Gone,
}

/// Resources of which those who wait have not enough: whoever is behind them takes nothing of these.
type Scarce = Vec<(Source, usize)>;

impl Scheduler {
    /// A scheduler for a node with these resources.
    pub fn new(total: &Demand) -> Self {
        let names = Names::of([total]);
        let node = Stock::of_node(&names, total);
        Scheduler {
            names,
            idle: node.clone(),
            node,
            groups: SlotMap::with_key(),
            classes: Vec::new(),
            released: Vec::new(),
            by_demand: BTreeMap::new(),
            leases: SlotMap::with_key(),
            waiting: Turns::default(),
            scarce: Scarce::new(),
            effects: VecDeque::new(),
            plants: Plants::NONE,
        }
    }

    /// A scheduler with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(total: &Demand, plants: Plants) -> Self {
        Scheduler { plants, ..Self::new(total) }
    }

    /// This many tasks of the class are queued now.
    pub fn wanted(&mut self, id: ClassId, queued: usize) {
        let class = &mut self.classes[id.0 as usize];
        class.wanted = if class.is_over { 0 } else { queued };
        if !class.is_waiting && class.starting < class.wanted {
            class.is_waiting = true;
            self.waiting.push(class.job, Waiter::Class(id));
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

    /// Whether a lease whose slice is over must make room for others that wait for what it holds.
    pub fn must_yield(&self, key: LeaseKey) -> bool {
        let lease = &self.leases[key];
        self.others_want(lease.source, lease.class)
    }

    /// The lease is over.
    pub fn returned(&mut self, key: LeaseKey) {
        self.started(key);
        let lease = self.leases.remove(key).expect("a lease is returned once");
        let class = &mut self.classes[lease.class.0 as usize];
        class.out -= 1;
        let cpus = class.needs.amount(CPU_INDEX);
        let stock = stock_of(&mut self.groups, &mut self.node, lease.source);
        stock.give(&class.needs, &lease.gpus);
        if lease.blocked && !self.plants.has(Plant::PromiseTwice) {
            stock.add_cpus(-cpus); // It had given them back already.
        }
        self.grant_waiting();
    }

    /// A lease for whoever runs a queued task of this class itself, if one can be had at once
    /// without overtaking anyone. Where more than CPUs is set aside for a worker that is on its way,
    /// that worker comes first: two would hold what one needs.
    pub fn lease_now(&mut self, id: ClassId) -> Option<LeaseKey> {
        let class = &self.classes[id.0 as usize];
        let is_expected = class.starting > 0 && !class.needs.only_cpu();
        if class.is_over || is_expected {
            return None;
        }
        let source = self.source_for(id, &Scarce::new())?;
        if self.others_want(source, id) {
            return None;
        }
        let key = self.take(id, source);
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
        let more = !self.classes[self.leases[key].class.0 as usize].needs.only_cpu();
        if more {
            self.blocked(key);
        }
        more
    }

    /// Whether a task of `class` may run in place of the work under `key`: it needs no more than the
    /// CPU which that work holds, and waits for no bundle.
    pub fn covers(&self, key: LeaseKey, class: ClassId) -> bool {
        let Some(lease) = self.leases.get(key) else { return false };
        let (held, needed) =
            (&self.classes[lease.class.0 as usize], &self.classes[class.0 as usize]);
        let may_run = needed.within == Within::Node || needed.within == held.within;
        let cpus = |class: &Class| class.needs.amount(CPU_INDEX);
        !lease.blocked
            && may_run
            && !needed.is_over
            && needed.needs.only_cpu()
            && cpus(needed) <= cpus(held)
    }

    /// Whether leases are out that will each find one of the `queued` tasks and no more: whoever
    /// runs such a task itself then uses the CPU that is set aside for it.
    pub fn is_awaited(&self, id: ClassId, queued: usize) -> bool {
        let class = &self.classes[id.0 as usize];
        class.needs.only_cpu() && class.starting > 0 && queued <= class.starting
    }

    /// The task under this lease goes on.
    pub fn unblocked(&mut self, key: LeaseKey) {
        self.set_blocked(key, false);
    }

    /// A job has ended: nothing of it waits any more.
    pub fn job_ended(&mut self, job: JobId) {
        self.waiting.forget(job);
    }

    /// SCHED-2: serves those who wait, from the first in turn. Who cannot be served yet keeps its
    /// place, and those behind it may pass, but only with resources it could not use itself.
    fn grant_waiting(&mut self) {
        let mut scarce = std::mem::take(&mut self.scarce);
        while self.grant_next(&mut scarce) {
            scarce.clear();
        }
        scarce.clear();
        self.scarce = scarce;
    }

    fn grant_next(&mut self, scarce: &mut Scarce) -> bool {
        let mut place = Place::default();
        while let Some(waiter) = self.waiting.at(&mut place) {
            let served = match waiter {
                Waiter::Class(class) => self.serve_class(class, scarce),
                Waiter::Group(group) => self.serve_group(group, scarce),
            };
            match served {
                Served::Yes { waits_on } => {
                    self.waiting.served(place, waits_on);
                    return true;
                }
                Served::NotYet => place = place.next(),
                Served::Gone => self.waiting.remove(place),
            }
        }
        false
    }

    /// One lease a turn.
    fn serve_class(&mut self, id: ClassId, scarce: &mut Scarce) -> Served {
        let class = &mut self.classes[id.0 as usize];
        if class.wanted <= class.starting {
            class.is_waiting = false;
            return Served::Gone;
        }
        match self.source_for(id, scarce) {
            Some(source) => {
                let key = self.take(id, source);
                let class = &mut self.classes[id.0 as usize];
                class.starting += 1;
                class.is_waiting = class.wanted > class.starting;
                self.effects.push_back(Effect::Grant(key, id));
                Served::Yes { waits_on: class.is_waiting }
            }
            None => {
                let class = &self.classes[id.0 as usize];
                let needs = &class.needs;
                if class.within == Within::Node {
                    let lacks = self.node.lacks(needs).map(|(index, _)| index);
                    note_scarce(scarce, Source::Node, lacks);
                    return Served::NotYet;
                }
                for (source, stock) in self.sources(id).filter(|(_, stock)| stock.could_fit(needs))
                {
                    note_scarce(scarce, source, stock.lacks(needs).map(|(index, _)| index));
                }
                Served::NotYet
            }
        }
    }

    /// What a class may be cut from, as far as it is there.
    fn sources(&self, id: ClassId) -> impl Iterator<Item = (Source, &Stock)> {
        let within = self.classes[id.0 as usize].within;
        let node = (within == Within::Node).then_some((Source::Node, &self.node));
        let bundles = within.group().and_then(|key| Some((key, self.groups.get(key)?)));
        let bundles = bundles.into_iter().flat_map(move |(key, group)| {
            let stocks = (0u32..).zip(&group.stocks);
            let own = move |index| {
                within == Within::AnyBundle(key) || within == Within::Bundle(key, index)
            };
            stocks
                .filter(move |(index, _)| own(*index))
                .map(move |(index, stock)| (Source::Bundle(key, index), stock))
        });
        node.into_iter().chain(bundles)
    }

    /// What a lease of this class can be cut from now without taking what is `scarce`.
    fn source_for(&self, id: ClassId, scarce: &Scarce) -> Option<Source> {
        let class = &self.classes[id.0 as usize];
        let needs = &class.needs;
        let is_free = |source| {
            scarce.is_empty() || needs.iter().all(|(index, _)| !scarce.contains(&(source, index)))
        };
        if class.within == Within::Node {
            return (is_free(Source::Node) && self.node.fits(needs)).then_some(Source::Node);
        }
        let mut sources = self.sources(id);
        sources.find(|(source, stock)| stock.fits(needs) && is_free(*source)).map(|found| found.0)
    }

    /// Whether anyone but `own` waits for resources at `source` that `own` uses.
    fn others_want(&self, source: Source, own: ClassId) -> bool {
        let mine = &self.classes[own.0 as usize].needs;
        let meets = |needs: &Needs| needs.iter().any(|(index, _)| mine.amount(index) > 0);
        self.waiting.iter().any(|waiter| match waiter {
            Waiter::Class(id) => {
                let class = &self.classes[id.0 as usize];
                let is_there = || match class.within {
                    Within::Node => source == Source::Node,
                    _ => self.sources(id).any(|(other, _)| other == source),
                };
                id != own && meets(&class.needs) && is_there()
            }
            Waiter::Group(group) => {
                source == Source::Node
                    && self.groups.get(group).is_some_and(|group| meets(&group.sum))
            }
        })
    }

    fn take(&mut self, id: ClassId, source: Source) -> LeaseKey {
        let class = &mut self.classes[id.0 as usize];
        class.out += 1;
        let gpus = stock_of(&mut self.groups, &mut self.node, source).take(&class.needs);
        self.leases.insert(Lease { class: id, source, gpus, started: false, blocked: false })
    }

    fn set_blocked(&mut self, key: LeaseKey, blocked: bool) -> bool {
        let Some(lease) = self.leases.get_mut(key) else { return false };
        if lease.blocked == blocked {
            return false;
        }
        lease.blocked = blocked;
        let units = self.classes[lease.class.0 as usize].needs.amount(CPU_INDEX);
        let stock = stock_of(&mut self.groups, &mut self.node, lease.source);
        stock.add_cpus(if blocked { units } else { -units });
        units > 0
    }
}

fn stock_of<'a>(
    groups: &'a mut SlotMap<GroupKey, Group>,
    node: &'a mut Stock,
    source: Source,
) -> &'a mut Stock {
    match source {
        Source::Node => node,
        Source::Bundle(group, index) => match groups.get_mut(group) {
            Some(group) => &mut group.stocks[index as usize],
            None => node,
        },
    }
}

fn note_scarce(scarce: &mut Scarce, source: Source, indices: impl Iterator<Item = usize>) {
    for index in indices {
        if !scarce.contains(&(source, index)) {
            scarce.push((source, index));
        }
    }
}
