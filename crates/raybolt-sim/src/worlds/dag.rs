//! Random acyclic graphs of components, and the routing of tuples in them by the production routers.

use std::collections::BTreeMap;
use std::fmt;

use raybolt_core::flow::batches::BatchComponent;
use raybolt_core::flow::grouping::{Grouping, Router, RouterOptions, Targets};
use raybolt_core::ids::{ComponentIndex, InstanceIndex};

use crate::rng::Rng;
use crate::trace::{Verdict, require};

/// A topology's graph. Component 0 is the spout; the others are in topological order.
#[derive(Clone, Debug)]
pub struct Dag {
    /// The components by index.
    pub components: Vec<Component>,
}

/// A spout or a bolt.
#[derive(Clone, Debug)]
pub struct Component {
    /// How many instances it has.
    pub instances: u32,
    /// Whether it is told when a request is finished.
    pub wants_finished: bool,
    /// Who subscribes to it, and how; a component subscribes once at most.
    pub edges: Vec<(usize, Grouping)>,
}

/// One instance of a component.
pub type Place = (usize, u32);

impl Dag {
    /// A random graph of a spout and 1 to `bolts_max` bolts.
    pub fn random(rng: &mut Rng, bolts_max: u32) -> Self {
        let bolts = rng.count(1..=bolts_max) as usize;
        let mut components: Vec<_> = (0..=bolts).map(|_| Component::random(rng)).collect();
        for bolt in 1..=bolts {
            let mut subscribed = false;
            for upstream in &mut components[..bolt] {
                if rng.chance(350) {
                    upstream.edges.push((bolt, any_grouping(rng)));
                    subscribed = true;
                }
            }
            if !subscribed {
                let upstream = rng.index(bolt);
                components[upstream].edges.push((bolt, any_grouping(rng)));
            }
        }
        Dag { components }
    }

    /// The graph as the batch machine takes it.
    pub fn batch_components(&self) -> Vec<BatchComponent> {
        let downstream = |component: &Component| {
            component.edges.iter().map(|(to, _)| ComponentIndex(*to as u16)).collect()
        };
        let components = self.components.iter().enumerate();
        components
            .map(|(index, component)| BatchComponent {
                instances: component.instances,
                spout: index == 0,
                wants_finished: component.wants_finished && index > 0,
                downstream: downstream(component),
            })
            .collect()
    }

    /// The instances of all bolts.
    pub fn bolt_places(&self) -> Vec<Place> {
        let bolts = self.components.iter().enumerate().skip(1);
        bolts
            .flat_map(|(bolt, component)| (0..component.instances).map(move |i| (bolt, i)))
            .collect()
    }

    /// The components from which tuples come to `component`, spout included.
    pub fn upstream(&self, component: usize) -> impl Iterator<Item = usize> {
        let earlier = self.components[..component].iter().enumerate();
        earlier
            .filter(move |(_, from)| from.edges.iter().any(|(to, _)| *to == component))
            .map(|(index, _)| index)
    }
}

impl fmt::Display for Dag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, component) in self.components.iter().enumerate() {
            let finishes = if component.wants_finished { "f" } else { "" };
            write!(f, "{index}x{}{finishes}", component.instances)?;
            for (to, grouping) in &component.edges {
                write!(f, " -{grouping}-> {to}")?;
            }
            f.write_str("; ")?;
        }
        Ok(())
    }
}

impl Component {
    fn random(rng: &mut Rng) -> Self {
        // Now and then more instances than a word has bits.
        let instances = if rng.chance(30) { rng.count(60..=70) } else { rng.count(1..=4) };
        Component { instances, wants_finished: rng.chance(600), edges: Vec::new() }
    }
}

fn any_grouping(rng: &mut Rng) -> Grouping {
    let fields = || vec!["key".to_owned()];
    match rng.below(7) {
        0 => Grouping::Fields(fields()),
        1 => Grouping::PartialKey(fields()),
        2 => Grouping::All,
        3 => Grouping::Global,
        4 => Grouping::LocalOrShuffle,
        _ => Grouping::Shuffle,
    }
}

/// The routers of all instances, with what is checked of them.
///
/// GROUP-1 and GROUP-3 are asked of every tuple.
#[derive(Debug)]
pub struct Routes {
    routers: BTreeMap<(Place, usize), Router>,
    placed: BTreeMap<(usize, usize, u64), InstanceIndex>,
}

impl Routes {
    /// Routers for every instance and edge.
    pub fn new(rng: &mut Rng, dag: &Dag) -> Self {
        let mut routers = BTreeMap::new();
        for (from, component) in dag.components.iter().enumerate() {
            for instance in 0..component.instances {
                for (to, grouping) in &component.edges {
                    let instances = dag.components[*to].instances;
                    let local = (0..instances).filter(|_| rng.chance(500)).map(InstanceIndex);
                    let local = local.collect();
                    let options = RouterOptions { instances, local, seed: rng.bits() };
                    routers.insert(((from, instance), *to), Router::new(grouping, &options));
                }
            }
        }
        Routes { routers, placed: BTreeMap::new() }
    }

    /// Where a tuple with this key goes that `from` sends along its edge to component `to`.
    pub fn targets(
        &mut self,
        from: Place,
        (to, grouping): &(usize, Grouping),
        key: u64,
    ) -> Verdict<Vec<Place>> {
        let router = self.routers.get_mut(&(from, *to)).expect("every edge has a router");
        let instances = router.instances();
        let chosen: Vec<InstanceIndex> = match router.route(key) {
            Targets::One(instance) => vec![instance],
            Targets::All => (0..instances).map(InstanceIndex).collect(),
            Targets::Chosen => router.chosen().to_vec(),
        };
        for instance in &chosen {
            require(instance.0 < instances, "routes", || {
                format!("GROUP-1: {grouping} chose instance {instance} of {instances}")
            })?;
        }
        if let (Grouping::Fields(_), [instance]) = (grouping, &chosen[..]) {
            let placed = *self.placed.entry((from.0, *to, key)).or_insert(*instance);
            require(placed == *instance, "routes", || {
                format!("GROUP-3: key {key} went to instance {placed}, then to {instance}")
            })?;
        }
        Ok(chosen.into_iter().map(|instance| (*to, instance.0)).collect())
    }
}
