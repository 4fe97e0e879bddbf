//! [`LinearDrpcTopologyBuilder`]: a chain of bolts that answers the requests of a function.

use raybolt_topology::{
    Async, AsyncBolt, Bolt, BoltDeclarer, CustomGrouping, Grouping, Portable, StreamView, Topology,
    Tuple,
};

use crate::builder::{DrpcBuildError, DrpcTopologyBuilder, quoted};
use crate::local::LocalDrpc;
use crate::per_request::{BatchBolt, PerRequest};

/// Describes a topology that serves a function by a chain of bolts, as Storm's builder of that name.
///
/// The first bolt takes [`DrpcRequest`](crate::DrpcRequest)s, each other one what the bolt before it
/// emits; the last one emits pairs of a request and its result. Bolts are called `bolt0`, `bolt1`, ….
///
/// ```
/// use raybolt_drpc::{DrpcRequest, LinearDrpcTopologyBuilder, LocalDrpc};
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
/// let mut builder = LinearDrpcTopologyBuilder::new("exclamation");
/// builder.add_bolt(Exclaim, 3);
///
/// let cluster = LocalCluster::new();
/// cluster.submit("demo", Config::default(), builder.create_local_topology(&drpc)?)?;
/// assert_eq!(drpc.execute("exclamation", "hello")?, "hello!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LinearDrpcTopologyBuilder {
    inner: DrpcTopologyBuilder,
    function: String,
    bolts: usize,
}

impl LinearDrpcTopologyBuilder {
    /// A topology that will serve `function`.
    pub fn new(function: &str) -> Self {
        let inner = DrpcTopologyBuilder::new(function);
        LinearDrpcTopologyBuilder { inner, function: function.to_owned(), bolts: 0 }
    }

    /// Adds a bolt with so many instances to the chain's end. How the tuples of the bolt before are
    /// shared out among them is said to the declarer; the first bolt may leave it open.
    pub fn add_bolt<B: Bolt>(
        &mut self,
        bolt: B,
        parallelism: usize,
    ) -> LinearBoltDeclarer<'_, B::In, B> {
        let (id, previous) = self.next();
        let declarer = self.inner.set_bolt(&id, bolt, parallelism);
        LinearBoltDeclarer { declarer, previous }
    }

    /// Adds a bolt of which each request gets a fresh clone.
    pub fn add_batch_bolt<B: BatchBolt>(
        &mut self,
        bolt: B,
        parallelism: usize,
    ) -> LinearBoltDeclarer<'_, B::In, PerRequest<B>> {
        self.add_bolt(PerRequest::new(bolt), parallelism)
    }

    /// Adds a bolt whose `execute` is a future.
    pub fn add_async_bolt<B: AsyncBolt>(
        &mut self,
        bolt: B,
        parallelism: usize,
    ) -> LinearBoltDeclarer<'_, B::In, Async<B>> {
        let (id, previous) = self.next();
        let declarer = self.inner.set_async_bolt(&id, bolt, parallelism);
        LinearBoltDeclarer { declarer, previous }
    }

    /// How many requests may be in the topology at once; others wait at the server.
    pub fn in_flight_max(&mut self, max: usize) -> &mut Self {
        self.inner.in_flight_max(max);
        self
    }

    /// Forbids that a request is handed to another topology when this one goes away with it.
    pub fn at_most_once(&mut self) -> &mut Self {
        self.inner.at_most_once();
        self
    }

    /// No bolt gets more instances than this.
    pub fn max_task_parallelism(&mut self, max: usize) -> &mut Self {
        self.inner.max_task_parallelism(max);
        self
    }

    /// Checks the description, and makes a topology that serves `drpc` while it runs. It can be
    /// submitted once.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn create_local_topology(mut self, drpc: &LocalDrpc) -> Result<Topology, DrpcBuildError> {
        let Some(last) = self.bolts.checked_sub(1) else {
            return Err(DrpcBuildError::NoBolts { function: self.function, lever: "add_bolt" });
        };
        self.group_first();
        self.check()?;
        self.inner.returns(&bolt_id(last));
        self.inner.create_local_topology(drpc)
    }

    fn next(&mut self) -> (String, String) {
        let number = self.bolts;
        self.bolts += 1;
        (bolt_id(number), previous_id(number))
    }

    /// Any instance of the first bolt will do, if nothing else was said.
    fn group_first(&mut self) {
        let topology = self.inner.topology();
        let first = topology.components().next();
        if first.is_some_and(|bolt| bolt.inputs() == 0) {
            let source = DrpcTopologyBuilder::REQUESTS;
            topology.add_input(&bolt_id(0), source, "default", Grouping::None);
        }
    }

    fn check(&mut self) -> Result<(), DrpcBuildError> {
        let topology = self.inner.topology();
        for (number, bolt) in topology.components().enumerate() {
            if bolt.inputs() == 0 {
                let (component, previous) = (bolt_id(number), previous_id(number));
                return Err(DrpcBuildError::NoGrouping { component, previous });
            }
        }
        let last = topology.components().last().expect("there is a bolt");
        match last.streams().count() {
            1 => Ok(()),
            count => Err(DrpcBuildError::SeveralStreams {
                component: last.id().to_owned(),
                count,
                streams: quoted(last.streams().map(StreamView::id)),
            }),
        }
    }
}

fn bolt_id(number: usize) -> String {
    format!("bolt{number}")
}

fn previous_id(number: usize) -> String {
    match number.checked_sub(1) {
        None => DrpcTopologyBuilder::REQUESTS.to_owned(),
        Some(previous) => bolt_id(previous),
    }
}

/// Says how a bolt of a chain reads the one before it, and more about it.
pub struct LinearBoltDeclarer<'b, In, B = ()> {
    declarer: BoltDeclarer<'b, In, B>,
    previous: String,
}

/// Methods that differ in their grouping only: on the default stream, and on another one.
macro_rules! groupings {
    ($($(#[$doc:meta])* $name:ident $name_on:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(self) -> Self {
            self.map(|declarer, previous| declarer.$name(previous))
        }

        #[doc = concat!("As `", stringify!($name), "`, of another stream of the bolt before.")]
        pub fn $name_on(self, stream: &str) -> Self {
            self.map(|declarer, previous| declarer.$name_on(previous, stream))
        }
    )*};
}

impl<'b, In: Tuple, B: Portable> LinearBoltDeclarer<'b, In, B> {
    /// Runs the bolt's instances in worker processes, of which the session must have at least `processes`; see
    /// [`BoltDeclarer::in_processes`]. What a [`BatchBolt`] keeps for a request is lost with its process: the request
    /// fails then, and whoever asked is told why.
    pub fn in_processes(self, processes: usize) -> Self {
        self.map(|declarer, _| declarer.in_processes(processes))
    }
}

impl<'b, In: Tuple, B> LinearBoltDeclarer<'b, In, B> {
    groupings! {
        /// All instances get tuples in turn.
        shuffle_grouping shuffle_grouping_on;
        /// Every instance gets every tuple.
        all_grouping all_grouping_on;
        /// The first instance gets every tuple.
        global_grouping global_grouping_on;
        /// Instances of the producer's process get tuples in turn, if there are any.
        local_or_shuffle_grouping local_or_shuffle_grouping_on;
        /// Tuples go wherever it is cheapest.
        none_grouping none_grouping_on;
    }

    /// Equal values of `fields` go to the same instance.
    pub fn fields_grouping<'f>(self, fields: impl IntoIterator<Item = &'f str>) -> Self {
        self.map(|declarer, previous| declarer.fields_grouping(previous, fields))
    }

    /// As `fields_grouping`, of another stream of the bolt before.
    pub fn fields_grouping_on<'f>(
        self,
        stream: &str,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> Self {
        self.map(|declarer, previous| declarer.fields_grouping_on(previous, stream, fields))
    }

    /// Equal values of `fields` go to one of the same two instances.
    pub fn partial_key_grouping<'f>(self, fields: impl IntoIterator<Item = &'f str>) -> Self {
        self.map(|declarer, previous| declarer.partial_key_grouping(previous, fields))
    }

    /// As `partial_key_grouping`, of another stream of the bolt before.
    pub fn partial_key_grouping_on<'f>(
        self,
        stream: &str,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> Self {
        self.map(|declarer, previous| declarer.partial_key_grouping_on(previous, stream, fields))
    }

    /// The bolt before names the instance that a tuple of this direct stream goes to.
    pub fn direct_grouping_on(self, stream: &str) -> Self {
        self.map(|declarer, previous| declarer.direct_grouping_on(previous, stream))
    }

    /// `grouping` says which instances get a tuple.
    pub fn custom_grouping<T: Tuple>(
        self,
        grouping: impl CustomGrouping<T> + Clone + Sync,
    ) -> Self {
        self.map(|declarer, previous| declarer.custom_grouping(previous, grouping))
    }

    /// Gives each instance a thread of its own, on which the bolt may block.
    pub fn blocking(self) -> Self {
        self.map(|declarer, _| declarer.blocking())
    }

    /// Calls the bolt's `tick` so often on each instance.
    pub fn tick_every(self, period: std::time::Duration) -> Self {
        self.map(|declarer, _| declarer.tick_every(period))
    }

    /// How many tuples may wait in front of an instance before its producers have to.
    pub fn queue_tuples_max(self, max: usize) -> Self {
        self.map(|declarer, _| declarer.queue_tuples_max(max))
    }

    fn map(
        self,
        say: impl FnOnce(BoltDeclarer<'b, In, B>, &str) -> BoltDeclarer<'b, In, B>,
    ) -> Self {
        let LinearBoltDeclarer { declarer, previous } = self;
        let declarer = say(declarer, &previous);
        LinearBoltDeclarer { declarer, previous }
    }
}
