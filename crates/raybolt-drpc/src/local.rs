//! [`LocalDrpc`]: a DRPC server without ports, and the caller's side of it.

use std::fmt;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raybolt_core::drpc::{self, Ask, DrpcError, FunctionStats, Terms, Wants};
use raybolt_core::ids::RequestId;
use raybolt_runtime::session::is_worker;

use crate::elsewhere;
use crate::pending::{Call, Pending, Reply};
use crate::server::{Client, Machine, Server};
use crate::stream::{Parts, Queue};
use crate::subscription::Subscription;

/// The limits of a [`LocalDrpc`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long a request may take if its call says nothing else.
    pub deadline: Duration,
    /// How many requests of one function may wait for a topology with room; more are refused as
    /// busy.
    pub waiting_max: usize,
    /// How often a request is handed to a topology, if one after the other goes away with it.
    pub deliveries_max: u32,
    /// How many parts of a streamed result may wait to be read.
    pub parts_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        let drpc::Options { waiting_max, deliveries_max, .. } = drpc::Options::default();
        Options {
            deadline: Duration::from_secs(600), // As `drpc.request.timeout.secs` of Storm.
            waiting_max,
            deliveries_max,
            parts_max: 65_536,
        }
    }
}

/// Looked up once: calls are frequent.
static IS_WORKER: LazyLock<bool> = LazyLock::new(is_worker);

/// A longer limit is as good as none; clocks overflow with the longest ones.
const LIMIT_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What one call wants otherwise than the server's [`Options`] say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// How long the request may take.
    pub deadline: Option<Duration>,
}

impl CallOptions {
    /// With a limit to the time that the request may take.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }
}

/// What a server counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Each function that is served, in alphabetical order.
    pub functions: Vec<(String, FunctionStats)>,
    /// Requests that have no answer yet.
    pub open: usize,
    /// Results that came too late or beside another one, and were dropped.
    pub surplus: u64,
    /// The time within which half of all results came; an eighth exact.
    pub p50: Duration,
    /// The time within which 99 of 100 results came; an eighth exact.
    pub p99: Duration,
    /// The longest time that a result took.
    pub longest: Duration,
}

/// A DRPC server in this process. Clones are handles to the same one.
///
/// In a worker process it stands for the servers of the driver's process: a task may call what a topology
/// there serves. Streamed results stay in the driver.
///
/// ```
/// use raybolt_drpc::{DrpcError, LocalDrpc};
///
/// let drpc = LocalDrpc::new();
/// let error = drpc.execute("reach", "foo.com/blog/1").unwrap_err();
/// assert!(matches!(error, DrpcError::UnknownFunction { .. }));
/// ```
#[derive(Clone)]
pub struct LocalDrpc {
    server: Arc<Server>,
    options: Options,
}

impl Default for LocalDrpc {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalDrpc {
    /// A server with default limits.
    pub fn new() -> Self {
        Self::with_options(Options::default())
    }

    /// A server with these limits.
    pub fn with_options(options: Options) -> Self {
        let Options { waiting_max, deliveries_max, .. } = options;
        let grace = Duration::ZERO; // A topology in this process does not come back by itself.
        let server = Server::new(drpc::Options { waiting_max, deliveries_max, grace });
        let drpc = LocalDrpc { server, options };
        elsewhere::offer(&drpc);
        drpc
    }

    /// Calls `function` and waits for its result.
    ///
    /// # Errors
    /// Says why there is no result, or that it is no text.
    pub fn execute(&self, function: &str, args: &str) -> Result<String, DrpcError> {
        self.submit(function, args).wait()
    }

    /// Calls `function` with binary arguments and waits for its binary result.
    ///
    /// # Errors
    /// Says why there is no result.
    pub fn execute_bytes(
        &self,
        function: &str,
        args: impl Into<Bytes>,
    ) -> Result<Bytes, DrpcError> {
        self.submit_bytes(function, args).wait()
    }

    /// Calls `function` with options of this call, and waits for its result.
    ///
    /// # Errors
    /// Says why there is no result, or that it is no text.
    pub fn execute_with(
        &self,
        function: &str,
        args: &str,
        options: CallOptions,
    ) -> Result<String, DrpcError> {
        self.submit_with(function, args.to_owned(), options).wait()
    }

    /// Calls `function` without blocking a thread.
    ///
    /// # Errors
    /// Says why there is no result, or that it is no text.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request.
    pub async fn execute_async(&self, function: &str, args: &str) -> Result<String, DrpcError> {
        self.submit(function, args).await
    }

    /// Begins a call; the result is waited for, or awaited, later. Refusals show up there, too.
    pub fn submit(&self, function: &str, args: &str) -> Pending<String> {
        self.submit_with(function, args.to_owned(), CallOptions::default())
    }

    /// Begins a call with binary arguments and a binary result.
    pub fn submit_bytes(&self, function: &str, args: impl Into<Bytes>) -> Pending<Bytes> {
        self.submit_with(function, args, CallOptions::default())
    }

    /// Begins a call with options of this call; the result is text or bytes.
    pub fn submit_with<T: Reply>(
        &self,
        function: &str,
        args: impl Into<Bytes>,
        options: CallOptions,
    ) -> Pending<T> {
        let args = args.into();
        if *IS_WORKER && !self.serves(function) {
            return elsewhere::submit(function, args, options.deadline);
        }
        let call = Arc::new(Call::new());
        match self.ask(function, Client::One(call.clone()), args, &options) {
            Ok(request) => Pending::accepted(call, self.server.clone(), request, function),
            Err(error) => Pending::refused(error),
        }
    }

    /// Calls `function` and gives its results one by one, as they are emitted.
    ///
    /// # Errors
    /// When the call is refused. What goes wrong later is the last item of the parts.
    pub fn execute_stream(&self, function: &str, args: &str) -> Result<Parts<String>, DrpcError> {
        self.stream_with(function, args.to_owned(), CallOptions::default())
    }

    /// The same with options of this call; the parts are text or bytes.
    ///
    /// # Errors
    /// When the call is refused. What goes wrong later is the last item of the parts.
    pub fn stream_with<T: Reply>(
        &self,
        function: &str,
        args: impl Into<Bytes>,
        options: CallOptions,
    ) -> Result<Parts<T>, DrpcError> {
        let queue = Arc::new(Queue::new(self.options.parts_max));
        let request = self.ask(function, Client::Stream(queue.clone()), args.into(), &options)?;
        Ok(Parts::new(queue, self.server.clone(), request, function))
    }

    /// The functions that topologies serve here now, in alphabetical order.
    pub fn functions(&self) -> Vec<String> {
        self.server.look(|broker| broker.functions().map(String::from).collect())
    }

    /// Whether topologies of this process serve a function.
    fn serves(&self, function: &str) -> bool {
        self.server.look(|broker| broker.functions().any(|served| served == function))
    }

    /// What the server counted since it began.
    pub fn stats(&self) -> Stats {
        self.server.look(|broker| {
            let stats = |name: &str| broker.stats(name).expect("a function that is served");
            let latency = broker.latency();
            Stats {
                functions: broker.functions().map(|name| (name.into(), stats(name))).collect(),
                open: broker.open(),
                surplus: broker.surplus(),
                p50: latency.percentile(0.5),
                p99: latency.percentile(0.99),
                longest: latency.longest(),
            }
        })
    }

    /// Fails every request that has no answer yet, and refuses new ones.
    pub fn shutdown(&self) {
        self.server.event(Machine::shut_down);
    }

    /// Serves `function` from here on; `wake` is called when [`Subscription::take`] has something.
    pub fn subscribe(
        &self,
        function: &str,
        terms: Terms,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Subscription {
        Subscription::new(self.server.clone(), function, terms, wake)
    }

    fn ask(
        &self,
        function: &str,
        client: Client,
        args: Bytes,
        options: &CallOptions,
    ) -> Result<RequestId, DrpcError> {
        let wants = match client {
            Client::One(_) => Wants::One,
            Client::Stream(_) => Wants::Stream,
        };
        let now = Instant::now();
        let limit = options.deadline.unwrap_or(self.options.deadline).min(LIMIT_MAX);
        let deadline = now + limit;
        let ask = Ask { client, args, deadline, wants };
        self.server.request(deadline, |broker| broker.requested(now, function, ask))
    }
}

/// What keeps no server alive.
#[derive(Clone)]
pub(crate) struct WeakDrpc {
    server: Weak<Server>,
    options: Options,
}

impl LocalDrpc {
    pub(crate) fn downgrade(&self) -> WeakDrpc {
        WeakDrpc { server: Arc::downgrade(&self.server), options: self.options.clone() }
    }
}

impl WeakDrpc {
    pub(crate) fn upgrade(&self) -> Option<LocalDrpc> {
        Some(LocalDrpc { server: self.server.upgrade()?, options: self.options.clone() })
    }
}

impl fmt::Debug for LocalDrpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDrpc").field("functions", &self.functions()).finish_non_exhaustive()
    }
}
