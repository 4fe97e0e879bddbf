//! How the instances of a topology are connected: the plan, with inboxes for numbers.

use std::any::{Any, type_name};
use std::collections::HashMap;
use std::sync::Arc;

use raybolt_core::flow::graph::{DEFAULT_STREAM, Plan};
use raybolt_core::flow::grouping::Grouping;
use raybolt_core::ids::ComponentIndex;

use crate::batch::Origin;
use crate::inbox::{Sink, ToValues};
use crate::ledger::Ledger;
use crate::routing::{AnyOutlet, MakeCustom, Way, WayOptions};
use crate::shared::{Place, Shared};
use crate::tuple::Tuple;
use crate::values::Values;

/// An output stream as its component declares it.
#[derive(Clone)]
pub(crate) struct StreamSpec {
    pub(crate) id: String,
    pub(crate) fields: Vec<String>,
    pub(crate) tuple: std::any::TypeId,
    pub(crate) type_name: &'static str,
    pub(crate) dynamic: bool,
    /// Whether the type says that tuples begin with their request.
    pub(crate) carries_request: bool,
    pub(crate) direct: bool,
    pub(crate) outlet: fn() -> Box<dyn AnyOutlet>,
}

/// The streams of a component, by name; and where what it reads comes from.
pub(crate) struct Streams {
    component: String,
    list: Vec<StreamSpec>,
    /// Component and stream of each edge of the plan.
    sources: Arc<[(String, String)]>,
}

impl Streams {
    pub(crate) fn new(
        component: &str,
        list: Vec<StreamSpec>,
        sources: Arc<[(String, String)]>,
    ) -> Self {
        Streams { component: component.to_owned(), list, sources }
    }

    /// All but the default stream, which is always the first.
    pub(crate) fn others(&self) -> impl Iterator<Item = &StreamSpec> {
        self.list.iter().skip(1)
    }

    pub(crate) fn find(&self, stream: &str) -> Option<usize> {
        self.list.iter().position(|spec| spec.id == stream)
    }

    /// Component and stream of each edge of the plan.
    pub(crate) fn sources(&self) -> &Arc<[(String, String)]> {
        &self.sources
    }

    pub(crate) fn source(&self, edge: u32) -> Option<(&str, &str)> {
        self.sources.get(edge as usize).map(|(component, stream)| (&**component, &**stream))
    }

    pub(crate) fn unknown(&self, stream: &str) -> String {
        let known: Vec<&str> = self.list.iter().map(|spec| spec.id.as_str()).collect();
        let known = known.join("`, `");
        let component = &self.component;
        format!("`{component}` has not declared a stream `{stream}`, only `{known}`")
    }

    pub(crate) fn mismatch<T>(&self, stream: &str) -> String {
        let declared = self.find(stream).map_or("", |at| self.list[at].type_name);
        let (component, given) = (&self.component, type_name::<T>());
        format!("stream `{stream}` of `{component}` carries `{declared}`, not `{given}`")
    }
}

/// The ways into the inbox of one instance.
pub(crate) struct Sinks {
    /// An `Arc<dyn Sink<T>>` of the type that the bolt takes.
    pub(crate) typed: Box<dyn Any + Send + Sync>,
    pub(crate) values: Arc<dyn Sink<Values>>,
    /// Where failures to convert are told, and whose they are.
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
}

impl Sinks {
    /// The way in for tuples of type `T`.
    fn of<T: Tuple>(&self) -> Arc<dyn Sink<T>> {
        let values: &dyn Any = &self.values;
        if let Some(sink) = self.typed.downcast_ref::<Arc<dyn Sink<T>>>() {
            sink.clone()
        } else if let Some(sink) = values.downcast_ref::<Arc<dyn Sink<T>>>() {
            sink.clone()
        } else {
            let (shared, place) = (self.shared.clone(), self.place);
            Arc::new(ToValues { inbox: self.values.clone(), shared, place })
        }
    }
}

/// How the instances of a topology are connected now.
pub(crate) struct Wiring {
    pub(crate) plan: Plan,
    /// By component, then by instance; none for spouts.
    pub(crate) sinks: Vec<Vec<Sinks>>,
    /// Custom groupings: a `MakeCustom<T>` by (subscriber, input).
    pub(crate) customs: HashMap<(ComponentIndex, usize), Arc<dyn Any + Send + Sync>>,
}

impl Wiring {
    /// The subscriptions of a stream, for the producer instance that has this ledger.
    pub(crate) fn ways<T: Tuple>(&self, ledger: &Ledger, stream: usize) -> Vec<Way<T>> {
        let place = ledger.place;
        let downstream = self.plan.downstream(place.component);
        let edges = self.plan.edges().iter().enumerate();
        let own = edges.filter(|(_, edge)| edge.from == place.component && edge.stream == stream);
        own.map(|(number, edge)| {
            Way::new(WayOptions {
                grouping: &edge.grouping,
                custom: self.custom::<T>(&edge.grouping, edge.to, edge.input),
                key_fields: &edge.key_fields,
                sinks: self.sinks[edge.to.index()].iter().map(Sinks::of).collect(),
                slot: downstream.iter().position(|&to| to == edge.to).unwrap_or(0),
                origin: Origin { edge: number as u32, instance: place.instance.0 },
                seed: u64::from(place.instance.0) << 16 | number as u64,
            })
        })
        .collect()
    }

    fn custom<T: Tuple>(
        &self,
        grouping: &Grouping,
        to: ComponentIndex,
        input: usize,
    ) -> Option<Box<dyn crate::routing::CustomGrouping<T>>> {
        if !matches!(grouping, Grouping::Custom(_)) {
            return None;
        }
        let make = self.customs.get(&(to, input))?.downcast_ref::<MakeCustom<T>>();
        Some(make.expect("the builder compares the types")())
    }
}

/// The default stream of a component that emits `T`.
pub(crate) fn default_stream<T: Tuple>() -> StreamSpec {
    stream_spec::<T>(DEFAULT_STREAM, T::FIELDS.iter().map(ToString::to_string).collect(), false)
}

/// A stream of `T`s.
pub(crate) fn stream_spec<T: Tuple>(id: &str, fields: Vec<String>, direct: bool) -> StreamSpec {
    StreamSpec {
        id: id.to_owned(),
        fields,
        tuple: std::any::TypeId::of::<T>(),
        type_name: type_name::<T>(),
        dynamic: T::DYNAMIC,
        carries_request: T::CARRIES_REQUEST,
        direct,
        outlet: || Box::new(crate::routing::Outlet::<T>::new()),
    }
}
