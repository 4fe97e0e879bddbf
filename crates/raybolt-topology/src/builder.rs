//! Describing a topology: spouts, bolts, and who reads what from whom.

use std::any::{Any, TypeId, type_name};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use raybolt_core::flow::graph::{
    self, Component, ComponentKind, DEFAULT_STREAM, Graph, GraphError, TupleType,
};
use raybolt_core::flow::grouping::Grouping;

use crate::async_bolt::{AsyncBolt, AsyncOperator};
use crate::bolt::Bolt;
use crate::factory::{BoltFactory, Factory, SpoutFactory};
use crate::instance::Plain;
use crate::processes::{Elsewhere, Portable, SpoutProxy};
use crate::routing::{CustomGrouping, MakeCustom};
use crate::shared::RequestObserver;
use crate::spout::Spout;
use crate::tuple::Tuple;
use crate::wiring::{StreamSpec, default_stream, stream_spec};

/// Describes a topology.
///
/// ```
/// # use raybolt_topology::*;
/// # #[derive(Clone)] struct Sentences;
/// # impl Spout for Sentences {
/// #     type Out = (String,);
/// #     fn next_tuple(&mut self, _: &mut SpoutCollector<(String,)>) -> Next { Next::Done }
/// # }
/// # #[derive(Clone)] struct Split;
/// # impl Bolt for Split {
/// #     type In = (String,);
/// #     type Out = (String,);
/// #     fn execute(&mut self, t: (String,), out: &mut Collector<(String,)>) -> Result<(), BoltError> { Ok(()) }
/// # }
/// # type Count = Split; #[allow(non_upper_case_globals)] const Count: Split = Split;
/// let mut builder = TopologyBuilder::new();
/// builder.set_spout("sentences", Sentences, 1);
/// builder.set_bolt("split", Split, 2).shuffle_grouping("sentences");
/// builder.set_bolt("count", Count, 2).fields_grouping("split", ["0"]);
/// let topology = builder.build()?;
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Default)]
pub struct TopologyBuilder {
    pub(crate) components: Vec<ComponentSpec>,
    options: graph::Options,
    observer: Option<Arc<dyn RequestObserver>>,
}

/// A component as the builder knows it.
#[derive(Clone)]
pub(crate) struct ComponentSpec {
    pub(crate) node: Component,
    pub(crate) streams: Vec<StreamSpec>,
    pub(crate) factory: Arc<dyn Factory>,
    pub(crate) customs: Vec<CustomSpec>,
    pub(crate) tick: Option<Duration>,
    pub(crate) blocking: bool,
    pub(crate) queue_tuples_max: Option<usize>,
    /// How many worker processes the session must have for it, if it is to run there.
    pub(crate) processes: Option<usize>,
}

/// A custom grouping of one input.
#[derive(Clone)]
pub(crate) struct CustomSpec {
    pub(crate) input: usize,
    /// A `MakeCustom<T>`.
    pub(crate) make: Arc<dyn Any + Send + Sync>,
    tuple: TypeId,
    type_name: &'static str,
}

/// A topology that was checked and can be submitted.
#[derive(Clone)]
pub struct Topology {
    pub(crate) graph: Graph,
    pub(crate) components: Vec<ComponentSpec>,
    pub(crate) observer: Option<Arc<dyn RequestObserver>>,
}

/// Why a description is no topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Names, streams, fields or groupings do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A bolt is to be ticked all the time.
    #[error("bolt `{bolt}` has a tick period of 0; give it at least a millisecond")]
    ZeroTick {
        /// The bolt.
        bolt: String,
    },
    /// A custom grouping chooses for tuples of another type than the stream's.
    #[error(
        "bolt `{bolt}` groups stream `{stream}` of component `{component}` by a function of `{given}`, but the stream carries `{carried}`"
    )]
    CustomGrouping {
        /// The bolt.
        bolt: String,
        /// The component.
        component: String,
        /// The stream.
        stream: String,
        /// What the grouping takes.
        given: &'static str,
        /// What the stream carries.
        carried: &'static str,
    },
    /// A custom grouping was named, but not given.
    #[error(
        "bolt `{bolt}` reads stream `{stream}` of component `{component}` by a custom grouping without its function; use `custom_grouping_on`"
    )]
    NoCustomGrouping {
        /// The bolt.
        bolt: String,
        /// The component.
        component: String,
        /// The stream.
        stream: String,
    },
    /// A component is to run in worker processes, of which the session has too few.
    #[error(
        "{kind} `{component}` is declared to run in {wanted} worker processes, but the session has {there}; begin it with `Builder::processes({wanted})` or `RAYBOLT_WORKERS=processes:{wanted}`"
    )]
    Processes {
        /// Whether it is a `spout` or a `bolt`.
        kind: &'static str,
        /// The component.
        component: String,
        /// How many it asks for.
        wanted: usize,
        /// How many there are.
        there: usize,
    },
    /// A component is to run in worker processes, and emits on a direct stream, which needs to know its readers.
    #[error(
        "{kind} `{component}` is declared to run in worker processes and emits on the direct stream `{stream}`, which cannot be done from there; leave `in_processes` out, or use a fields grouping"
    )]
    DirectInProcesses {
        /// Whether it is a `spout` or a `bolt`.
        kind: &'static str,
        /// The component.
        component: String,
        /// The stream.
        stream: String,
    },
    /// A spout is to run in worker processes, in a topology whose requests are followed.
    #[error(
        "spout `{spout}` is declared to run in worker processes, but the topology follows requests, which spouts bring in from this process alone; leave `in_processes` out"
    )]
    RequestsInProcesses {
        /// The spout.
        spout: String,
    },
    /// User code panicked while an instance was made.
    #[error("an instance of component `{component}` cannot be made: user code {message}")]
    Panicked {
        /// The component.
        component: String,
        /// The panic.
        message: String,
    },
}

impl TopologyBuilder {
    /// A topology without components.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a spout with so many instances.
    pub fn set_spout<S: Spout>(
        &mut self,
        id: &str,
        spout: S,
        parallelism: usize,
    ) -> SpoutDeclarer<'_, S> {
        let streams = spout_streams(&spout);
        let node = Component::spout(id);
        let spec = self.add(node, parallelism, streams, SpoutFactory::new(Plain(spout)));
        SpoutDeclarer { spec, spout: PhantomData }
    }

    /// Adds a bolt with so many instances. What it reads is said to the declarer.
    pub fn set_bolt<B: Bolt>(
        &mut self,
        id: &str,
        bolt: B,
        parallelism: usize,
    ) -> BoltDeclarer<'_, B::In, B> {
        let streams = declared(&bolt);
        let mut node = Component::bolt(id);
        node.takes = Some(tuple_type::<B::In>());
        node.wants_finished = B::WANTS_FINISHED;
        let factory = BoltFactory::new(Plain(bolt));
        BoltDeclarer { spec: self.add(node, parallelism, streams, factory), takes: PhantomData }
    }

    /// Adds a bolt whose `execute` is a future, with so many instances.
    pub fn set_async_bolt<B: AsyncBolt>(
        &mut self,
        id: &str,
        bolt: B,
        parallelism: usize,
    ) -> BoltDeclarer<'_, B::In, Async<B>> {
        let streams = async_streams(&bolt);
        let mut node = Component::bolt(id);
        node.takes = Some(tuple_type::<B::In>());
        let factory = BoltFactory::new(AsyncOperator::new(bolt));
        BoltDeclarer { spec: self.add(node, parallelism, streams, factory), takes: PhantomData }
    }

    /// No component gets more instances than this.
    pub fn max_task_parallelism(&mut self, max: usize) -> &mut Self {
        self.options.max_task_parallelism = Some(saturate(max));
        self
    }

    /// Follows requests: tuples whose first field is a [`RequestId`](crate::RequestId). Bolts are told when they
    /// have seen all of one, and `observer` when it is done or has failed.
    pub fn coordinate(&mut self, observer: Arc<dyn RequestObserver>) -> &mut Self {
        self.observer = Some(observer);
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// Names the first thing that is wrong, and what may have been meant.
    pub fn build(self) -> Result<Topology, BuildError> {
        let nodes = self.components.iter().map(ComponentSpec::node).collect();
        let graph = Graph { components: nodes, options: self.options };
        graph.plan()?;
        let topology = Topology { graph, components: self.components, observer: self.observer };
        topology.check_ticks()?;
        topology.check_customs()?;
        topology.check_streams_of_processes()?;
        Ok(topology)
    }

    fn add(
        &mut self,
        mut node: Component,
        parallelism: usize,
        streams: Vec<StreamSpec>,
        factory: Arc<dyn Factory>,
    ) -> &mut ComponentSpec {
        node.parallelism = saturate(parallelism);
        self.components.push(ComponentSpec {
            node,
            streams,
            factory,
            customs: Vec::new(),
            tick: None,
            blocking: false,
            queue_tuples_max: None,
            processes: None,
        });
        self.components.last_mut().expect("one was pushed")
    }
}

impl Topology {
    fn check_ticks(&self) -> Result<(), BuildError> {
        match self.components.iter().find(|spec| spec.tick == Some(Duration::ZERO)) {
            Some(spec) => Err(BuildError::ZeroTick { bolt: spec.node.id.clone() }),
            None => Ok(()),
        }
    }

    fn check_streams_of_processes(&self) -> Result<(), BuildError> {
        for spec in self.components.iter().filter(|spec| spec.processes.is_some()) {
            if let Some(stream) = spec.streams.iter().find(|stream| stream.direct) {
                let (component, stream) = (spec.node.id.clone(), stream.id.clone());
                return Err(BuildError::DirectInProcesses { kind: spec.kind(), component, stream });
            }
            if self.observer.is_some() && spec.node.kind == ComponentKind::Spout {
                return Err(BuildError::RequestsInProcesses { spout: spec.node.id.clone() });
            }
        }
        Ok(())
    }

    /// Whether there are as many worker processes as its components ask for.
    pub(crate) fn check_processes(&self, there: usize) -> Result<(), BuildError> {
        for spec in &self.components {
            if let Some(wanted) = spec.processes.filter(|wanted| *wanted > there) {
                let (kind, component) = (spec.kind(), spec.node.id.clone());
                return Err(BuildError::Processes { kind, component, wanted, there });
            }
        }
        Ok(())
    }

    fn check_customs(&self) -> Result<(), BuildError> {
        for spec in &self.components {
            spec.check_custom_functions()?;
            for custom in &spec.customs {
                let input = &spec.node.inputs[custom.input];
                let from = self.components.iter().find(|c| c.node.id == input.component);
                let stream = from.and_then(|c| c.streams.iter().find(|s| s.id == input.stream));
                let Some(stream) = stream else { continue }; // The plan has refused that.
                if stream.tuple != custom.tuple {
                    return Err(BuildError::CustomGrouping {
                        bolt: spec.node.id.clone(),
                        component: input.component.clone(),
                        stream: input.stream.clone(),
                        given: custom.type_name,
                        carried: stream.type_name,
                    });
                }
            }
        }
        Ok(())
    }
}

impl ComponentSpec {
    fn kind(&self) -> &'static str {
        match self.node.kind {
            ComponentKind::Spout => "spout",
            ComponentKind::Bolt => "bolt",
        }
    }

    fn check_custom_functions(&self) -> Result<(), BuildError> {
        for (at, input) in self.node.inputs.iter().enumerate() {
            let given = self.customs.iter().any(|custom| custom.input == at);
            if matches!(input.grouping, Grouping::Custom(_)) && !given {
                return Err(BuildError::NoCustomGrouping {
                    bolt: self.node.id.clone(),
                    component: input.component.clone(),
                    stream: input.stream.clone(),
                });
            }
        }
        Ok(())
    }

    /// The component for the graph, with its streams as they were declared in the end.
    fn node(&self) -> Component {
        let outputs = self.streams.iter().map(|stream| graph::OutputStream {
            id: stream.id.clone(),
            fields: stream.fields.clone(),
            carries: TupleType { name: stream.type_name.to_owned(), dynamic: stream.dynamic },
            direct: stream.direct,
        });
        Component { outputs: outputs.collect(), ..self.node.clone() }
    }
}

/// What a component emits, beside tuples of type `Out` on its default stream.
pub struct Outputs<Out> {
    streams: Vec<StreamSpec>,
    out: PhantomData<Out>,
}

impl<Out: Tuple> Outputs<Out> {
    fn new() -> Self {
        Outputs { streams: vec![default_stream::<Out>()], out: PhantomData }
    }

    /// Names the fields of the default stream, if its tuples are dynamic.
    pub fn fields<'f>(&mut self, fields: impl IntoIterator<Item = &'f str>) -> &mut Self {
        self.streams[0].fields = fields.into_iter().map(str::to_owned).collect();
        self
    }

    /// Declares a further stream of tuples of type `T`.
    pub fn stream<T: Tuple>(&mut self, id: &str) -> &mut Self {
        self.stream_with_fields::<T>(id, T::FIELDS.iter().copied())
    }

    /// Declares a further stream of dynamic tuples with these fields.
    pub fn stream_with_fields<'f, T: Tuple>(
        &mut self,
        id: &str,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> &mut Self {
        let fields = fields.into_iter().map(str::to_owned).collect();
        self.streams.push(stream_spec::<T>(id, fields, false));
        self
    }

    /// Declares a further stream on which the component names the instance that a tuple goes to.
    pub fn direct_stream<T: Tuple>(&mut self, id: &str) -> &mut Self {
        let fields = T::FIELDS.iter().map(ToString::to_string).collect();
        self.streams.push(stream_spec::<T>(id, fields, true));
        self
    }
}

/// Says more about a spout that was added, an `S`.
pub struct SpoutDeclarer<'b, S = ()> {
    spec: &'b mut ComponentSpec,
    spout: PhantomData<fn(S)>,
}

impl<S: Spout + raybolt_wire::Value> SpoutDeclarer<'_, S> {
    /// Runs the spout's instances in worker processes, of which the session must have at least `processes`.
    ///
    /// The spout travels by `serde`, and what it emits comes in batches, as many tuples at a time as the topology has
    /// room for; while it has none, and while the spout has nothing, nothing is asked. Its waker, acks and failures,
    /// counters and errors are the same as here. It must not bring in requests.
    ///
    /// When a process dies, its instances are opened anew elsewhere, from clones of the spout that was given to the builder.
    /// Nobody is told what becomes of tuples that the dead ones emitted. So a spout that wants each of its messages
    /// delivered at least once keeps outside of itself how far it is, on `ack`, and reads again from there when it is
    /// opened; messages may come twice then. One that keeps that only in its fields begins at the beginning. An
    /// instance that has said [`Next::Done`](crate::Next::Done), and has been told of all that it wants followed,
    /// is over, and does not begin anew.
    ///
    /// ```no_run
    /// # use raybolt_topology::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Numbers(std::ops::Range<u64>);
    /// # impl Spout for Numbers {
    /// #     type Out = (u64,);
    /// #     fn next_tuple(&mut self, _: &mut SpoutCollector<(u64,)>) -> Next { Next::Done }
    /// # }
    ///
    /// let mut builder = TopologyBuilder::new();
    /// builder.set_spout("numbers", Numbers(0..1_000), 2).in_processes(2);
    /// ```
    pub fn in_processes(self, processes: usize) -> Self {
        let factory: &dyn Any = &*self.spec.factory;
        // Once is enough: the second time it is a proxy already.
        if let Some(plain) = factory.downcast_ref::<SpoutFactory<Plain<S>>>() {
            self.spec.factory = SpoutFactory::new(SpoutProxy::new(plain.prototype().0));
        }
        self.spec.processes = Some(processes.max(1));
        self
    }
}

impl<S> SpoutDeclarer<'_, S> {
    /// Gives each instance a thread of its own, on which `next_tuple` may block.
    pub fn blocking(self) -> Self {
        self.spec.blocking = true;
        self
    }
}

/// Marks the declarer of an async bolt, a `B`.
pub struct Async<B>(PhantomData<fn(B)>);

/// Says what a bolt that was added reads, and more about it. `In` is what it takes, `B` the bolt.
pub struct BoltDeclarer<'b, In, B = ()> {
    spec: &'b mut ComponentSpec,
    takes: PhantomData<fn(In, B)>,
}

impl<In: Tuple, B: Portable> BoltDeclarer<'_, In, B> {
    /// Runs the bolt's instances in worker processes, of which the session must have at least `processes`.
    /// (Spouts too, see [`SpoutDeclarer::in_processes`].)
    ///
    /// The bolt travels by `serde`, and so do the tuples: in batches, a few at a time, so that a slow process
    /// slows the producers down. Groupings, acks, requests and counters are the same as here. When a
    /// process dies, so does the state of its instances; what was on the way there fails (spouts replay what
    /// they follow), and the instances begin anew elsewhere, with a clone that is prepared again. Requests of which
    /// the process had seen something fail.
    ///
    /// The futures of an async bolt run in the worker. Beyond [`AsyncBolt::IN_FLIGHT_MAX`] of them, a few batches wait
    /// there.
    ///
    /// ```no_run
    /// # use raybolt_topology::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// # #[derive(Clone)] struct Words;
    /// # impl Spout for Words {
    /// #     type Out = (String,);
    /// #     fn next_tuple(&mut self, _: &mut SpoutCollector<(String,)>) -> Next { Next::Done }
    /// # }
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Exclaim;
    /// # impl Bolt for Exclaim {
    /// #     type In = (String,);
    /// #     type Out = (String,);
    /// #     fn execute(&mut self, t: (String,), out: &mut Collector<(String,)>) -> Result<(), BoltError> { Ok(()) }
    /// # }
    ///
    /// let mut builder = TopologyBuilder::new();
    /// builder.set_spout("words", Words, 1);
    /// builder.set_bolt("exclaim", Exclaim, 4).shuffle_grouping("words").in_processes(2);
    /// // In a session over processes: `Builder::processes(2)` or `RAYBOLT_WORKERS=processes:2`.
    /// let topology = LocalCluster::new().submit("exclaim", Config::default(), builder)?;
    /// # Ok::<(), SubmitError>(())
    /// ```
    pub fn in_processes(self, processes: usize) -> Self {
        // Once is enough: the second time there is nothing to be replaced.
        if let Some(Elsewhere(factory)) = B::elsewhere(&*self.spec.factory) {
            self.spec.factory = factory;
        }
        self.spec.processes = Some(processes.max(1));
        self
    }
}

impl<In: Tuple, B> BoltDeclarer<'_, In, B> {
    /// Reads `component`'s default stream; all instances in turn.
    pub fn shuffle_grouping(self, component: &str) -> Self {
        self.shuffle_grouping_on(component, DEFAULT_STREAM)
    }

    /// Reads a stream of `component`; all instances in turn.
    pub fn shuffle_grouping_on(self, component: &str, stream: &str) -> Self {
        self.reads(component, stream, Grouping::Shuffle)
    }

    /// Reads `component`'s default stream; equal values of `fields` go to the same instance.
    pub fn fields_grouping<'f>(
        self,
        component: &str,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> Self {
        self.fields_grouping_on(component, DEFAULT_STREAM, fields)
    }

    /// Reads a stream of `component`; equal values of `fields` go to the same instance.
    pub fn fields_grouping_on<'f>(
        self,
        component: &str,
        stream: &str,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> Self {
        self.reads(component, stream, Grouping::Fields(names(fields)))
    }

    /// Reads `component`'s default stream; equal values of `fields` go to one of the same two instances.
    pub fn partial_key_grouping<'f>(
        self,
        component: &str,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> Self {
        self.partial_key_grouping_on(component, DEFAULT_STREAM, fields)
    }

    /// Reads a stream of `component`; equal values of `fields` go to one of the same two instances.
    pub fn partial_key_grouping_on<'f>(
        self,
        component: &str,
        stream: &str,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> Self {
        self.reads(component, stream, Grouping::PartialKey(names(fields)))
    }

    /// Reads `component`'s default stream; every instance gets every tuple.
    pub fn all_grouping(self, component: &str) -> Self {
        self.all_grouping_on(component, DEFAULT_STREAM)
    }

    /// Reads a stream of `component`; every instance gets every tuple.
    pub fn all_grouping_on(self, component: &str, stream: &str) -> Self {
        self.reads(component, stream, Grouping::All)
    }

    /// Reads `component`'s default stream; the first instance gets every tuple.
    pub fn global_grouping(self, component: &str) -> Self {
        self.global_grouping_on(component, DEFAULT_STREAM)
    }

    /// Reads a stream of `component`; the first instance gets every tuple.
    pub fn global_grouping_on(self, component: &str, stream: &str) -> Self {
        self.reads(component, stream, Grouping::Global)
    }

    /// Reads `component`'s default stream; instances of the producer's process in turn, if there are any.
    pub fn local_or_shuffle_grouping(self, component: &str) -> Self {
        self.local_or_shuffle_grouping_on(component, DEFAULT_STREAM)
    }

    /// Reads a stream of `component`; instances of the producer's process in turn, if there are any.
    pub fn local_or_shuffle_grouping_on(self, component: &str, stream: &str) -> Self {
        self.reads(component, stream, Grouping::LocalOrShuffle)
    }

    /// Reads `component`'s default stream, however is cheapest.
    pub fn none_grouping(self, component: &str) -> Self {
        self.none_grouping_on(component, DEFAULT_STREAM)
    }

    /// Reads a stream of `component`, however is cheapest.
    pub fn none_grouping_on(self, component: &str, stream: &str) -> Self {
        self.reads(component, stream, Grouping::None)
    }

    /// Reads a direct stream of `component`, which names the instance that a tuple goes to.
    pub fn direct_grouping_on(self, component: &str, stream: &str) -> Self {
        self.reads(component, stream, Grouping::Direct)
    }

    /// Reads `component`'s default stream; `grouping` says which instances get a tuple. Each instance of
    /// the producer works with its own clone.
    pub fn custom_grouping<T: Tuple>(
        self,
        component: &str,
        grouping: impl CustomGrouping<T> + Clone + Sync,
    ) -> Self {
        self.custom_grouping_on(component, DEFAULT_STREAM, grouping)
    }

    /// Reads a stream of `component`; `grouping` says which instances get a tuple.
    pub fn custom_grouping_on<T: Tuple, G: CustomGrouping<T> + Clone + Sync>(
        self,
        component: &str,
        stream: &str,
        grouping: G,
    ) -> Self {
        let make: MakeCustom<T> = Arc::new(move || Box::new(grouping.clone()));
        self.spec.customs.push(CustomSpec {
            input: self.spec.node.inputs.len(),
            make: Arc::new(make),
            tuple: TypeId::of::<T>(),
            type_name: type_name::<T>(),
        });
        self.reads(component, stream, Grouping::Custom(type_name::<G>().to_owned()))
    }

    /// Reads a stream by a grouping that was made elsewhere. (Custom ones: by `custom_grouping`.)
    pub fn grouping_on(self, component: &str, stream: &str, grouping: Grouping) -> Self {
        self.reads(component, stream, grouping)
    }

    /// Calls the bolt's `tick` so often on each instance.
    pub fn tick_every(self, period: Duration) -> Self {
        self.spec.tick = Some(period);
        self
    }

    /// How many tuples may wait in front of an instance before its producers have to.
    pub fn queue_tuples_max(self, max: usize) -> Self {
        self.spec.queue_tuples_max = Some(max.max(1));
        self
    }

    /// Gives each instance a thread of its own, on which the bolt may block.
    pub fn blocking(self) -> Self {
        self.spec.blocking = true;
        self
    }

    fn reads(self, component: &str, stream: &str, grouping: Grouping) -> Self {
        self.spec.node.inputs.push(graph::Subscription {
            component: component.to_owned(),
            stream: stream.to_owned(),
            grouping,
        });
        self
    }
}

/// The streams that a bolt declares.
pub(crate) fn declared<B: Bolt>(bolt: &B) -> Vec<StreamSpec> {
    let mut outputs = Outputs::<B::Out>::new();
    bolt.declare_outputs(&mut outputs);
    outputs.streams
}

/// The streams that an async bolt declares.
pub(crate) fn async_streams<B: AsyncBolt>(bolt: &B) -> Vec<StreamSpec> {
    let mut outputs = Outputs::<B::Out>::new();
    bolt.declare_outputs(&mut outputs);
    outputs.streams
}

/// The streams that a spout declares.
pub(crate) fn spout_streams<S: Spout>(spout: &S) -> Vec<StreamSpec> {
    let mut outputs = Outputs::<S::Out>::new();
    spout.declare_outputs(&mut outputs);
    outputs.streams
}

fn names<'f>(fields: impl IntoIterator<Item = &'f str>) -> Vec<String> {
    fields.into_iter().map(str::to_owned).collect()
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn tuple_type<T: Tuple>() -> TupleType {
    TupleType { name: type_name::<T>().to_owned(), dynamic: T::DYNAMIC }
}
