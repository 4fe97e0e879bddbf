//! What a topology is: components, their streams and subscriptions, as plain data.
//!
//! # Words
//! A *component* is a spout or a bolt, an *instance* one of its parallel copies. A component declares
//! *output streams*, each with named fields; a bolt *subscribes* to streams of other components, each
//! time with a [`Grouping`]. An *edge* is one subscription, resolved.
//!
//! # Steps
//! 1. A builder fills a [`Graph`] with whatever the user said.
//! 2. [`Graph::plan`] checks it ([`GraphError`] names what is wrong, where, and the nearest name) and
//!    resolves names to numbers: a [`Plan`].
//! 3. Executors, routers and the machines beside this one are made from the plan.
//!
//! # Invariants
//! - **GRAPH-1 (acyclic).** A plan has no cycle; every component comes after its upstream ones in
//!   [`Plan::order`].
//! - **GRAPH-2 (numbered).** Components keep the order of declaration. Instances are numbered from 0,
//!   ascending over components, then over the instances of each.
//! - **GRAPH-3 (resolved).** In a plan every name has been found, and every stream's tuples are of
//!   a type that its subscribers take.

mod error;
mod validate;

use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::flow::batches::BatchComponent;
use crate::flow::grouping::Grouping;
use crate::ids::{ComponentIndex, InstanceId, InstanceIndex};

pub use error::{GraphError, check_name};

/// The stream that is meant where none is named.
pub const DEFAULT_STREAM: &str = "default";

/// A topology as its builder describes it; not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// Spouts and bolts, in the order of declaration.
    pub components: Vec<Component>,
    /// What holds for the topology as a whole.
    pub options: Options,
}

/// A spout or a bolt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name, unique within the topology.
    pub id: String,
    /// Whether it is a spout or a bolt.
    pub kind: ComponentKind,
    /// How many instances are asked for; [`Options::max_task_parallelism`] may lower it.
    pub parallelism: u32,
    /// The streams that it emits on.
    pub outputs: Vec<OutputStream>,
    /// The streams that it reads; none for a spout.
    pub inputs: Vec<Subscription>,
    /// The tuples that it takes; `None` if any.
    pub takes: Option<TupleType>,
    /// Whether its instances are told when they have seen all of a request.
    pub wants_finished: bool,
}

/// Whether a component brings tuples in, or works on those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ComponentKind {
    /// Brings tuples in.
    Spout,
    /// Works on tuples.
    Bolt,
}

/// A stream that a component emits on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputStream {
    /// Its name, unique within the component.
    pub id: String,
    /// The names of its tuples' fields, in order.
    pub fields: Vec<String>,
    /// The type of its tuples.
    pub carries: TupleType,
    /// Whether the producer names the instance that a tuple goes to.
    pub direct: bool,
}

/// The type of a stream's tuples; its name is compared, and shown in errors, but not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TupleType {
    /// What the type is called.
    pub name: String,
    /// Whether it is the dynamic tuple, which is converted from and to any other.
    pub dynamic: bool,
}

impl TupleType {
    /// Whether tuples of this type can be given to who takes `other`.
    pub fn fits(&self, other: &TupleType) -> bool {
        self.dynamic || other.dynamic || self.name == other.name
    }
}

/// A bolt's wish for the tuples of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The component that emits them.
    pub component: String,
    /// The stream of that component.
    pub stream: String,
    /// How they are shared out among the bolt's instances.
    pub grouping: Grouping,
}

/// What holds for a topology as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// No component gets more instances than this.
    pub max_task_parallelism: Option<u32>,
    /// After this time a tuple whose tree is not done has failed; `None` for the default.
    pub message_timeout: Option<Duration>,
    /// A spout instance is not asked for more while this many of its tuples are pending.
    pub max_spout_pending: Option<u32>,
}

impl Component {
    /// A spout with one instance and no streams yet.
    pub fn spout(id: impl Into<String>) -> Self {
        Self::new(id.into(), ComponentKind::Spout)
    }

    /// A bolt with one instance and no streams yet.
    pub fn bolt(id: impl Into<String>) -> Self {
        Self::new(id.into(), ComponentKind::Bolt)
    }

    fn new(id: String, kind: ComponentKind) -> Self {
        Self {
            id,
            kind,
            parallelism: 1,
            outputs: Vec::new(),
            inputs: Vec::new(),
            takes: None,
            wants_finished: false,
        }
    }
}

impl Graph {
    /// Checks the description, and resolves its names.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of declaration; cycles come last.
    pub fn plan(&self) -> Result<Plan, GraphError> {
        validate::plan(self)
    }
}

/// A checked topology, with numbers for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    components: Vec<PlanComponent>,
    edges: Vec<Edge>,
    order: Vec<ComponentIndex>,
    options: Options,
}

/// A component of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanComponent {
    /// Its name.
    pub id: String,
    /// Whether it is a spout or a bolt.
    pub kind: ComponentKind,
    /// How many instances it has.
    pub instances: u32,
    /// The number of its first instance; the others follow.
    pub first_instance: InstanceId,
    /// The streams that it emits on.
    pub outputs: Vec<OutputStream>,
    /// Whether its instances are told when they have seen all of a request.
    pub wants_finished: bool,
}

/// A subscription, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who emits.
    pub from: ComponentIndex,
    /// On which of its output streams.
    pub stream: usize,
    /// Who subscribes.
    pub to: ComponentIndex,
    /// Which of its inputs this is.
    pub input: usize,
    /// How tuples are shared out.
    pub grouping: Grouping,
    /// The positions, within the stream's fields, of those that make the key.
    pub key_fields: Vec<usize>,
}

impl Plan {
    /// The components, in the order of declaration.
    pub fn components(&self) -> &[PlanComponent] {
        &self.components
    }

    /// The component at that place.
    pub fn component(&self, at: ComponentIndex) -> &PlanComponent {
        &self.components[at.index()]
    }

    /// The component of that name.
    pub fn find(&self, id: &str) -> Option<ComponentIndex> {
        let position = self.components.iter().position(|component| component.id == id)?;
        Some(component_index(position))
    }

    /// The edges, ordered by their subscribers, then by the subscriber's inputs.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The edges that leave `component`, in the order of [`Plan::edges`].
    pub fn edges_from(&self, component: ComponentIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == component)
    }

    /// The edges that enter `component`, in the order of its inputs.
    pub fn edges_into(&self, component: ComponentIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == component)
    }

    /// The components that subscribe to `component`, each once, ascending.
    pub fn downstream(&self, component: ComponentIndex) -> Vec<ComponentIndex> {
        let mut downstream: Vec<_> = self.edges_from(component).map(|edge| edge.to).collect();
        downstream.sort_unstable();
        downstream.dedup();
        downstream
    }

    /// The components, each after those that it subscribes to; otherwise as declared.
    pub fn order(&self) -> &[ComponentIndex] {
        &self.order
    }

    /// What holds for the topology as a whole.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How many instances there are in all.
    pub fn instances(&self) -> u32 {
        self.components.last().map_or(0, |last| last.first_instance.0 + last.instances)
    }

    /// The number of an instance.
    pub fn instance(&self, component: ComponentIndex, instance: InstanceIndex) -> InstanceId {
        InstanceId(self.component(component).first_instance.0 + instance.0)
    }

    /// Which component an instance belongs to, and its place among that component's instances.
    pub fn locate(&self, instance: InstanceId) -> Option<(ComponentIndex, InstanceIndex)> {
        if instance.0 >= self.instances() {
            return None;
        }
        let position = self.components.partition_point(|c| c.first_instance <= instance) - 1;
        let first = self.components[position].first_instance;
        Some((component_index(position), InstanceIndex(instance.0 - first.0)))
    }

    /// The graph as [`Batches`](crate::flow::batches::Batches) needs to know it.
    pub fn batches(&self) -> Vec<BatchComponent> {
        self.components
            .iter()
            .enumerate()
            .map(|(position, component)| BatchComponent {
                instances: component.instances,
                spout: component.kind == ComponentKind::Spout,
                wants_finished: component.wants_finished,
                downstream: self.downstream(component_index(position)),
            })
            .collect()
    }
}

/// Validation bounds the number of components, so that a position fits.
fn component_index(position: usize) -> ComponentIndex {
    ComponentIndex(u16::try_from(position).expect("a plan has at most 65,535 components"))
}

#[cfg(test)]
mod tests;
