//! [`DrpcTopologyBuilder`]: topologies of any acyclic shape that answer the requests of a function.
//!
//! ```text
//!                   +--> bolt --+
//!  requests (spout) |           +--> bolt --> returning component --> return-results (bolt)
//!                   +--> bolt --+
//! ```
//! The builder adds the two ends. Everything between is the user's: bolts whose tuples all begin with
//! the request's id, by which they are counted; so a bolt can be told when it has seen all of a request
//! ([`raybolt_topology::Bolt::finished`], [`BatchBolt`](crate::BatchBolt)).

use std::sync::Arc;

use raybolt_core::drpc::Terms;
use raybolt_core::suggest::Hint;
use raybolt_topology::{
    Async, AsyncBolt, Bolt, BoltDeclarer, BuildError, ComponentView, StreamView, Topology,
    TopologyBuilder,
};

use crate::endpoint::Endpoint;
use crate::local::LocalDrpc;
use crate::spout::{DrpcSpout, ReturnResults};

/// How many requests a topology takes in at once, unless it says otherwise.
pub const IN_FLIGHT_MAX: usize = 8_192;

const DEFAULT_STREAM: &str = "default";

/// Describes a topology that serves a function, of any acyclic shape.
///
/// ```
/// use raybolt_drpc::{DrpcRequest, DrpcTopologyBuilder, LocalDrpc};
/// use raybolt_topology::{Bolt, BoltError, Collector, Config, LocalCluster, RequestId};
///
/// #[derive(Clone)]
/// struct Exclaim;
///
/// impl Bolt for Exclaim {
///     type In = DrpcRequest;
///     type Out = (RequestId, String);
///
///     fn execute(&mut self, it: DrpcRequest, out: &mut Collector<Self::Out>) -> Result<(), BoltError> {
///         out.emit((it.request, format!("{}!", it.text()?)));
///         Ok(())
///     }
/// }
///
/// let drpc = LocalDrpc::new();
/// let mut builder = DrpcTopologyBuilder::new("exclamation");
/// builder.set_bolt("exclaim", Exclaim, 3).shuffle_grouping(DrpcTopologyBuilder::REQUESTS);
/// builder.returns("exclaim");
///
/// let cluster = LocalCluster::new();
/// cluster.submit("demo", Config::default(), builder.create_local_topology(&drpc)?)?;
/// assert_eq!(drpc.execute("exclamation", "hello")?, "hello!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DrpcTopologyBuilder {
    function: String,
    topology: TopologyBuilder,
    returning: Vec<Returning>,
    terms: Terms,
}

/// A stream whose tuples are results.
struct Returning {
    component: String,
    stream: String,
}

/// Why a description is no DRPC topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrpcBuildError {
    /// The topology itself is wrong.
    #[error(transparent)]
    Topology(#[from] BuildError),
    /// There is no bolt.
    #[error("function `{function}` has no bolts; add the first one by `{lever}`")]
    NoBolts {
        /// The function.
        function: String,
        /// The builder's method that adds one.
        lever: &'static str,
    },
    /// No component returns results.
    #[error(
        "function `{function}` returns nothing; name the component that emits its results by \
         `returns`"
    )]
    NothingReturned {
        /// The function.
        function: String,
    },
    /// The component that should return results does not exist.
    #[error(
        "function `{function}` returns the results of an unknown component `{component}`{hint}"
    )]
    UnknownComponent {
        /// The function.
        function: String,
        /// The name that was given.
        component: String,
        /// The nearest and the known ones.
        hint: Hint,
    },
    /// The stream that should carry results does not exist.
    #[error("component `{component}` has no stream `{stream}` to return{hint}")]
    UnknownStream {
        /// The component.
        component: String,
        /// The name that was given.
        stream: String,
        /// The nearest and the known ones.
        hint: Hint,
    },
    /// Tuples that cannot be counted, since they do not say which request they belong to.
    #[error(
        "the tuples of stream `{stream}` of component `{component}` begin with {first}; their first \
         field has to be the request, of type `RequestId`"
    )]
    NoRequest {
        /// The component.
        component: String,
        /// Its stream.
        stream: String,
        /// What they begin with.
        first: String,
    },
    /// Results that are no pairs.
    #[error(
        "stream `{stream}` of component `{component}` is returned, so it has to have two fields, the \
         request and its result, not {count} ({fields})"
    )]
    NotAResult {
        /// The component.
        component: String,
        /// Its stream.
        stream: String,
        /// How many fields there are.
        count: usize,
        /// Their names.
        fields: String,
    },
    /// The last bolt of a linear topology emits on several streams.
    #[error(
        "the last bolt, `{component}`, has to declare exactly one stream, not {count} ({streams})"
    )]
    SeveralStreams {
        /// The bolt.
        component: String,
        /// How many streams there are.
        count: usize,
        /// Their names.
        streams: String,
    },
    /// A bolt of a linear topology does not say how it reads the one before it.
    #[error(
        "bolt `{component}` gets nothing: say how it shares out the tuples of `{previous}`, for \
         example by `.shuffle_grouping()`"
    )]
    NoGrouping {
        /// The bolt.
        component: String,
        /// The bolt before it.
        previous: String,
    },
}

impl DrpcTopologyBuilder {
    /// The component that requests come from: its tuples are [`DrpcRequest`](crate::DrpcRequest)s.
    pub const REQUESTS: &'static str = "requests";
    /// The component that returns results to their callers.
    pub const RETURN_RESULTS: &'static str = "return-results";

    /// A topology that will serve `function`.
    pub fn new(function: &str) -> Self {
        DrpcTopologyBuilder {
            function: function.to_owned(),
            topology: TopologyBuilder::new(),
            returning: Vec::new(),
            terms: Terms { credit: IN_FLIGHT_MAX, at_most_once: false },
        }
    }

    /// Adds a bolt with so many instances. What it reads is said to the declarer:
    /// [`REQUESTS`](Self::REQUESTS), or other bolts.
    pub fn set_bolt<B: Bolt>(
        &mut self,
        id: &str,
        bolt: B,
        parallelism: usize,
    ) -> BoltDeclarer<'_, B::In, B> {
        self.topology.set_bolt(id, bolt, parallelism)
    }

    /// Adds a bolt whose `execute` is a future.
    pub fn set_async_bolt<B: AsyncBolt>(
        &mut self,
        id: &str,
        bolt: B,
        parallelism: usize,
    ) -> BoltDeclarer<'_, B::In, Async<B>> {
        self.topology.set_async_bolt(id, bolt, parallelism)
    }

    /// The tuples of `component`'s default stream, each a request and a result, go to their callers.
    /// Several components may return results: the first one of a request wins, or, if the caller
    /// asked for a stream, it gets them all.
    pub fn returns(&mut self, component: &str) -> &mut Self {
        self.returns_on(component, DEFAULT_STREAM)
    }

    /// As [`returns`](Self::returns), with another stream.
    pub fn returns_on(&mut self, component: &str, stream: &str) -> &mut Self {
        let (component, stream) = (component.to_owned(), stream.to_owned());
        self.returning.push(Returning { component, stream });
        self
    }

    /// How many requests may be in the topology at once; others wait at the server.
    pub fn in_flight_max(&mut self, max: usize) -> &mut Self {
        self.terms.credit = max.max(1);
        self
    }

    /// Forbids that a request is handed to another topology when this one goes away with it.
    pub fn at_most_once(&mut self) -> &mut Self {
        self.terms.at_most_once = true;
        self
    }

    /// No component gets more instances than this.
    pub fn max_task_parallelism(&mut self, max: usize) -> &mut Self {
        self.topology.max_task_parallelism(max);
        self
    }

    /// Checks the description, and makes a topology that serves `drpc` while it runs. It can be
    /// submitted once.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn create_local_topology(mut self, drpc: &LocalDrpc) -> Result<Topology, DrpcBuildError> {
        self.check()?;
        let names: Vec<&str> = self.returning.iter().map(|it| it.component.as_str()).collect();
        let endpoint =
            Arc::new(Endpoint::new(drpc.clone(), &self.function, self.terms, &names.join("`, `")));
        self.topology.set_spout(Self::REQUESTS, DrpcSpout::new(endpoint.clone()), 1);
        let results = ReturnResults::new(endpoint.clone());
        let mut declarer = self.topology.set_bolt(Self::RETURN_RESULTS, results, 1);
        for Returning { component, stream } in &self.returning {
            declarer = declarer.global_grouping_on(component, stream);
        }
        self.topology.coordinate(endpoint);
        Ok(self.topology.build()?)
    }

    pub(crate) fn topology(&mut self) -> &mut TopologyBuilder {
        &mut self.topology
    }

    fn check(&self) -> Result<(), DrpcBuildError> {
        let function = || self.function.clone();
        if self.topology.components().next().is_none() {
            return Err(DrpcBuildError::NoBolts { function: function(), lever: "set_bolt" });
        }
        if self.returning.is_empty() {
            return Err(DrpcBuildError::NothingReturned { function: function() });
        }
        for returning in &self.returning {
            self.check_returning(returning)?;
        }
        for component in self.topology.components() {
            component.streams().try_for_each(|stream| check_request(&component, &stream))?;
        }
        Ok(())
    }

    fn check_returning(&self, returning: &Returning) -> Result<(), DrpcBuildError> {
        let mut components = self.topology.components();
        let Some(component) = components.find(|it| it.id() == returning.component) else {
            let known: Vec<_> = self.topology.components().map(ComponentView::id).collect();
            return Err(DrpcBuildError::UnknownComponent {
                function: self.function.clone(),
                component: returning.component.clone(),
                hint: Hint::new(&returning.component, known),
            });
        };
        let Some(stream) = component.streams().find(|it| it.id() == returning.stream) else {
            let known: Vec<_> = component.streams().map(StreamView::id).collect();
            return Err(DrpcBuildError::UnknownStream {
                component: returning.component.clone(),
                stream: returning.stream.clone(),
                hint: Hint::new(&returning.stream, known),
            });
        };
        match stream.fields().len() {
            2 => Ok(()),
            count => Err(DrpcBuildError::NotAResult {
                component: returning.component.clone(),
                stream: returning.stream.clone(),
                count,
                fields: quoted(stream.fields().iter().map(String::as_str)),
            }),
        }
    }
}

/// Dynamic tuples tell their request when they come; typed ones must by their type. A stream without
/// fields is one that nothing is emitted on.
fn check_request(
    component: &ComponentView<'_>,
    stream: &StreamView<'_>,
) -> Result<(), DrpcBuildError> {
    if stream.is_dynamic() || stream.carries_request() {
        return Ok(());
    }
    let Some(first) = stream.fields().first() else { return Ok(()) };
    Err(DrpcBuildError::NoRequest {
        component: component.id().to_owned(),
        stream: stream.id().to_owned(),
        first: format!("`{first}`"),
    })
}

pub(crate) fn quoted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
