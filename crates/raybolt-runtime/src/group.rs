//! Placement groups: resources set aside together, for tasks and actors that need each other.
//!
//! # Protocol
//! 1. A group is *made*: it waits until all its bundles can be had at once, then it is *ready*. One that can
//!    never be placed says why to everyone who asks.
//! 2. Tasks and actors that were given to the group run on what its bundles have, and on nothing else. Before
//!    the group is ready they wait with it.
//! 3. A group is *removed*, or goes with its session: what is queued in it fails at once, what runs is asked
//!    to stop and whoever waits for it is told, actors end.
//!
//! The machine is the node's scheduler; a group has no thread, and no memory beyond its bundles and members.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use raybolt_core::calls::placement::PlacementStrategy;
use raybolt_core::calls::scheduler::{
    CPU, Demand, GPU, GroupKey, GroupSpec, GroupState, MEMORY, Scheduler, UNIT, Within,
};
use raybolt_core::ids::JobId;
use raybolt_wire::work::InGroup;
use serde::{Deserialize, Serialize};
use slotmap::{Key, KeyData};

use crate::call;
use crate::error::{Error, Kind, Result};
use crate::ids::Id;
use crate::job::{Function, Step};
use crate::object::ObjectRef;
use crate::options::TaskOptions;
use crate::output::One;
use crate::processes::errand::{self, Errand};
use crate::session::{self, Session};

/// What one bundle of a placement group sets aside, on one node.
#[derive(Clone, Default)]
pub struct Bundle {
    demand: Demand,
    error: Option<Error>,
}

/// A placement group before it is made.
#[derive(Clone, Debug)]
#[must_use = "nothing is set aside before `create`"]
pub struct GroupBuilder {
    name: Option<String>,
    bundles: Vec<Bundle>,
    strategy: PlacementStrategy,
}

/// Resources set aside together. Clones name the same group; it lasts until it is removed, or its session
/// ends.
#[derive(Clone, Serialize, Deserialize)]
pub struct PlacementGroup(Arc<Inner>);

#[derive(Serialize, Deserialize)]
struct Inner {
    epoch: u32,
    /// A [`GroupKey`].
    key: u64,
    name: Arc<str>,
    /// Amounts by name, of each bundle.
    bundles: Vec<Vec<(String, f64)>>,
}

/// A task or actor is to run in a group, perhaps in one bundle.
#[derive(Clone)]
pub(crate) struct Membership {
    group: PlacementGroup,
    bundle: Option<usize>,
}

/// Makes a placement group of these bundles; `create` on what is returned asks for it.
pub fn placement_group(
    bundles: impl IntoIterator<Item = Bundle>,
    strategy: PlacementStrategy,
) -> GroupBuilder {
    GroupBuilder { name: None, bundles: bundles.into_iter().collect(), strategy }
}

impl Bundle {
    /// A bundle of nothing; give it some of a resource.
    pub fn new() -> Self {
        Self::default()
    }

    /// CPUs, parts allowed.
    pub fn num_cpus(self, count: f64) -> Self {
        self.resource(CPU, count)
    }

    /// GPUs; a part of one, or whole ones.
    pub fn num_gpus(self, count: f64) -> Self {
        self.resource(GPU, count)
    }

    /// Bytes of memory.
    pub fn memory(self, bytes: usize) -> Self {
        self.resource(MEMORY, bytes as f64)
    }

    /// Any other resource that the node was given by name.
    pub fn resource(mut self, name: &str, amount: f64) -> Self {
        if let Err(error) = self.demand.set(name, amount) {
            self.error = Some(Error::new(Kind::Invalid(error.to_string())));
        }
        self
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle({})", self.demand)
    }
}

impl GroupBuilder {
    /// A name for messages, instead of its id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Asks for the group. It is there at once, and ready when its bundles are set aside.
    ///
    /// # Errors
    /// Without a session, and when there is nothing to set aside. What can never be placed is found by [`PlacementGroup::ready`] and [`PlacementGroup::wait`].
    pub fn create(self) -> Result<PlacementGroup> {
        if let Some(error) = self.bundles.iter().find_map(|bundle| bundle.error.clone()) {
            return Err(error);
        }
        let units = |bundle: Bundle| {
            let units = bundle.demand.iter().map(|(name, units)| (name.to_owned(), units));
            units.collect()
        };
        let strategy = match self.strategy {
            PlacementStrategy::Spread => 1,
            PlacementStrategy::StrictPack => 2,
            PlacementStrategy::StrictSpread => 3,
            _ => 0, // `Pack`
        };
        let (name, bundles) = (self.name, self.bundles.into_iter().map(units).collect());
        errand::run(Creation { name, bundles, strategy })
    }
}

/// A group to be made, by the driver: it has the node.
#[derive(Serialize, Deserialize)]
struct Creation {
    name: Option<String>,
    /// Units by name, of each bundle.
    bundles: Vec<Vec<(String, i64)>>,
    /// As [`GroupBuilder::create`] numbers them.
    strategy: u8,
}

impl Errand for Creation {
    type Answer = PlacementGroup;

    fn run(self) -> Result<PlacementGroup> {
        let strategy = match self.strategy {
            1 => PlacementStrategy::Spread,
            2 => PlacementStrategy::StrictPack,
            3 => PlacementStrategy::StrictSpread,
            _ => PlacementStrategy::Pack,
        };
        let demands: Vec<_> = self.bundles.into_iter().map(Demand::from_units).collect();
        let bundles = demands.iter().map(amounts).collect();
        session::with(|session| {
            let (key, name) = session.act(|hub| {
                if hub.ended {
                    let what = "the placement group".into();
                    return Err(Error::new(Kind::SessionEnded { what }));
                }
                let (job, name) = (JobId(0), self.name.unwrap_or_default());
                let key = hub.scheduler.group(GroupSpec { name, job, bundles: demands, strategy });
                let key = key.map_err(|error| Error::new(Kind::Invalid(error.to_string())))?;
                Ok((key, name_of(&hub.scheduler, key)))
            })?;
            let (epoch, key, name) = (session.epoch, key.data().as_ffi(), name.into());
            Ok(PlacementGroup(Arc::new(Inner { epoch, key, name, bundles })))
        })?
    }
}

/// Whether a group is ready, as the driver knows.
#[derive(Serialize, Deserialize)]
struct Readiness(PlacementGroup);

impl Errand for Readiness {
    type Answer = bool;

    fn run(self) -> Result<bool> {
        session::with(|session| self.0.is_ready(session))?
    }
}

/// A group to be removed, by the driver.
#[derive(Serialize, Deserialize)]
struct Removal(PlacementGroup);

impl Errand for Removal {
    type Answer = ();

    fn run(self) -> Result<()> {
        session::with(|session| {
            let Removal(group) = self;
            if session.epoch == group.0.epoch {
                session.remove_group(group.key(), &group.0.name);
            }
        })
    }
}

/// The task behind [`PlacementGroup::ready`]: it needs nothing but the group.
static READY: Function = Function::new("ready", true);

fn is_ready(_nothing: ()) -> Step<One<()>> {
    Step::done(Ok(One(())))
}

impl PlacementGroup {
    /// An object that is there when the group is ready. Its error says why a group can never be placed, or
    /// that it was removed.
    pub fn ready(&self) -> ObjectRef<()> {
        match errand::run(Readiness(self.clone())) {
            Ok(true) => ObjectRef::settled(Ok(())),
            Ok(false) => {
                let options = TaskOptions::default().placement_group(self, None);
                call::submit(&READY, options, (), is_ready)
            }
            Err(error) => ObjectRef::settled(Err(error)),
        }
    }

    /// Waits until the group is ready, at most for `timeout`.
    ///
    /// # Errors
    /// When it is not ready in time: what it waits for. When it never will be: why.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        if errand::run(Readiness(self.clone()))? {
            return Ok(());
        }
        let ready = self.ready();
        call::get_timeout(&ready, timeout).map_err(|error| match error.kind() {
            Kind::Timeout { after, because, .. } => {
                let _ = call::cancel(&ready); // Nobody else waits for this one.
                let (after, because) = (*after, because.clone());
                let what = format!("placement group `{}`", self.name());
                Error::new(Kind::Timeout { what, after, because })
            }
            _ => error,
        })
    }

    /// Ends the group and gives its resources back. Whoever waits for a task in it gets an error at once;
    /// one that runs is asked to stop, and holds its part until it has. Actors in it end. Removing a group
    /// twice is no error.
    ///
    /// # Errors
    /// Without a session.
    pub fn remove(&self) -> Result<()> {
        errand::run(Removal(self.clone()))
    }

    /// Its name, or its id if it has none.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its id, as reports have it: unique within the session.
    pub fn id(&self) -> String {
        Id::Group(self.key()).to_string()
    }

    /// What each bundle sets aside, as names and amounts.
    pub fn bundle_specs(&self) -> &[Vec<(String, f64)>] {
        &self.0.bundles
    }

    fn key(&self) -> GroupKey {
        KeyData::from_ffi(self.0.key).into()
    }

    fn is_ready(&self, session: &Session) -> Result<bool> {
        self.check(session.epoch)?;
        let hub = session.lock();
        match hub.scheduler.group_view(self.key()).map(|group| group.state) {
            None => Err(Error::group_removed("ready", self.name())),
            Some(GroupState::Ready) => Ok(true),
            Some(GroupState::Pending) => Ok(false),
            Some(GroupState::Never(why)) => {
                let (group, because) = (self.name().to_owned(), why.to_string());
                Err(Error::new(Kind::Unplaceable { group, because }))
            }
        }
    }

    fn check(&self, epoch: u32) -> Result<()> {
        if self.0.epoch == epoch {
            return Ok(());
        }
        let what = format!("placement group `{}`", self.name());
        Err(Error::new(Kind::SessionEnded { what }))
    }
}

impl PartialEq for PlacementGroup {
    fn eq(&self, other: &Self) -> bool {
        (self.0.epoch, self.0.key) == (other.0.epoch, other.0.key)
    }
}

impl Eq for PlacementGroup {}

impl fmt::Debug for PlacementGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlacementGroup({})", self.name())
    }
}

impl Membership {
    pub(crate) fn new(group: &PlacementGroup, bundle: Option<usize>) -> Self {
        Membership { group: group.clone(), bundle }
    }

    /// Where a task of session `epoch` may run.
    ///
    /// # Errors
    /// When the group belongs to another session.
    pub(crate) fn within(&self, epoch: u32) -> Result<Within> {
        self.group.check(epoch)?;
        Ok(match self.bundle {
            None => Within::AnyBundle(self.group.key()),
            Some(bundle) => {
                Within::Bundle(self.group.key(), u32::try_from(bundle).unwrap_or(u32::MAX))
            }
        })
    }

    pub(crate) fn to_wire(&self) -> InGroup {
        let Inner { epoch, key, name, .. } = &*self.group.0;
        let bundle = self.bundle.map(|bundle| u32::try_from(bundle).unwrap_or(u32::MAX));
        InGroup { epoch: *epoch, group: *key, name: name.to_string(), bundle }
    }

    pub(crate) fn of_wire(wire: InGroup) -> Self {
        let InGroup { epoch, group: key, name, bundle } = wire;
        let inner = Inner { epoch, key, name: name.into(), bundles: Vec::new() };
        let bundle = bundle.map(|bundle| bundle as usize);
        Membership { group: PlacementGroup(Arc::new(inner)), bundle }
    }

    pub(crate) fn key(&self) -> GroupKey {
        self.group.key()
    }

    pub(crate) fn group_name(&self) -> &str {
        self.group.name()
    }
}

/// The name of a group, or its id if it has none.
pub(crate) fn name_of(scheduler: &Scheduler, key: GroupKey) -> String {
    let group = scheduler.group_view(key);
    let named = group.filter(|group| !group.name.is_empty());
    named.map_or_else(|| Id::Group(key).to_string(), |group| group.name.to_owned())
}

pub(crate) fn amounts(demand: &Demand) -> Vec<(String, f64)> {
    demand.iter().map(|(name, units)| (name.to_owned(), units as f64 / UNIT as f64)).collect()
}
