//! Bolts that wait: for a database, a service, a DRPC call.
//!
//! Each tuple becomes a future on a runtime that starts with the first one. An instance has at most
//! [`AsyncBolt::IN_FLIGHT_MAX`] of them, and takes no more tuples meanwhile, so a slow service slows the
//! producers down. Tuples are done in the order in which their futures are, and what they emit is
//! shipped then, anchored to them. When the instance ends, so do its futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context as TaskContext, Poll};

use raybolt_core::ids::RequestId;
use tokio::task::JoinSet;

use crate::batch::Batch;
use crate::bolt::BoltError;
use crate::builder::Outputs;
use crate::catch::caught;
use crate::collector::{Collector, Held};
use crate::context::{Context, Waker};
use crate::instance::Operator;
use crate::tuple::Tuple;

/// Works on tuples by futures. Write `async fn execute` in the implementation.
///
/// ```
/// use raybolt_topology::{AsyncBolt, BoltError, Emits};
///
/// #[derive(Clone)]
/// struct Ask;
///
/// impl AsyncBolt for Ask {
///     type In = (String,);
///     type Out = (String,);
///
///     async fn execute(&self, (name,): Self::In, out: &mut Emits<Self::Out>) -> Result<(), BoltError> {
///         tokio::task::yield_now().await; // Where a real one would wait for a service.
///         out.emit((name + "?",));
///         Ok(())
///     }
/// }
/// ```
pub trait AsyncBolt: Clone + Send + Sync + 'static {
    /// What it takes.
    type In: Tuple;
    /// What it emits.
    type Out: Tuple;

    /// How many futures an instance has at most.
    const IN_FLIGHT_MAX: usize = 64;

    /// Names the fields of dynamic tuples.
    fn declare_outputs(&self, outputs: &mut Outputs<Self::Out>) {
        let _ = outputs;
    }

    /// Called once on each instance, before its first tuple.
    fn prepare(&mut self, context: &Context) {
        let _ = context;
    }

    /// Works on one tuple.
    ///
    /// # Cancel safety
    /// The future is dropped at any `await` when the topology ends.
    ///
    /// # Errors
    /// An error fails the tuple's tree, and its request.
    fn execute(
        &self,
        tuple: Self::In,
        out: &mut Emits<Self::Out>,
    ) -> impl Future<Output = Result<(), BoltError>> + Send;

    /// Called once on each instance when its topology ends or is rebalanced.
    fn cleanup(&mut self) {}
}

/// What a future emits; shipped when it is done.
#[derive(Debug)]
pub struct Emits<Out>(Vec<Out>);

impl<Out> Emits<Out> {
    /// Emits on the default stream, anchored to the future's tuple.
    pub fn emit(&mut self, tuple: Out) {
        self.0.push(tuple);
    }
}

/// Drives an [`AsyncBolt`] as an instance's operator.
pub(crate) struct AsyncOperator<B: AsyncBolt> {
    bolt: Arc<B>,
    waker: Option<Waker>,
    in_flight: usize,
    /// Aborts what it holds when it is dropped.
    futures: JoinSet<()>,
    done: Arc<Mutex<Vec<Done<B::Out>>>>,
}

struct Done<Out> {
    held: Held,
    emitted: Vec<Out>,
    result: Result<(), String>,
}

impl<B: AsyncBolt> AsyncOperator<B> {
    pub(crate) fn new(bolt: B) -> Self {
        AsyncOperator {
            bolt: Arc::new(bolt),
            waker: None,
            in_flight: 0,
            futures: JoinSet::new(),
            done: Arc::default(),
        }
    }

    /// A copy of the bolt.
    pub(crate) fn bolt(&self) -> B {
        (*self.bolt).clone()
    }

    fn spawn(&mut self, tuple: B::In, held: Held) {
        self.in_flight += 1;
        let (bolt, done, waker) = (self.bolt.clone(), self.done.clone(), self.waker.clone());
        let work = async move {
            let mut emits = Emits(Vec::new());
            // Inside, since `execute` may panic before there is a future.
            let execute = async { bolt.execute(tuple, &mut emits).await };
            let result = match CaughtFuture(Box::pin(execute)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(panic) => Err(panic),
            };
            let mut done = done.lock().expect("no thread panics while it holds what is done");
            done.push(Done { held, emitted: emits.0, result });
            drop(done);
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        self.futures.spawn_on(work, runtime().handle());
    }
}

impl<B: AsyncBolt> Operator for AsyncOperator<B> {
    type In = B::In;
    type Out = B::Out;

    fn fresh(&self) -> Self {
        Self::new((*self.bolt).clone())
    }

    fn prepare(&mut self, context: &Context) {
        self.waker = Some(context.waker());
        Arc::make_mut(&mut self.bolt).prepare(context);
    }

    fn execute_batch(
        &mut self,
        batch: &mut Batch<B::In>,
        collector: &mut Collector<B::Out>,
    ) -> Result<(), BoltError> {
        while self.in_flight < B::IN_FLIGHT_MAX {
            let Some(tuple) = batch.next(collector) else { return Ok(()) };
            let held = collector.hold();
            self.spawn(tuple, held);
        }
        collector.ledger.fuel = 0; // Until one is done.
        Ok(())
    }

    fn poll(&mut self, collector: &mut Collector<B::Out>) -> bool {
        let done = std::mem::take(
            &mut *self.done.lock().expect("no thread panics while it holds what is done"),
        );
        self.in_flight -= done.len();
        while self.futures.try_join_next().is_some() {} // Frees what is kept of those that ended.
        for Done { mut held, emitted, result } in done {
            for tuple in emitted {
                collector.emit_anchored([&mut held], tuple);
            }
            match result {
                Ok(()) => collector.ack(held),
                Err(message) => {
                    collector.report_error(&message);
                    collector.fail(held, &message);
                }
            }
        }
        self.in_flight < B::IN_FLIGHT_MAX
    }

    fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    fn tick(&mut self, _: &mut Collector<B::Out>) -> Result<(), BoltError> {
        Ok(())
    }

    fn finished(&mut self, _: RequestId, _: &mut Collector<B::Out>) -> Result<(), BoltError> {
        Ok(())
    }

    fn abandoned(&mut self, _: RequestId) {}

    fn cleanup(&mut self) {
        self.futures.abort_all();
        // Futures that are being dropped may hold the bolt still: then a clone says good-bye for it.
        Arc::make_mut(&mut self.bolt).cleanup();
    }
}

/// A future whose panic is an error.
struct CaughtFuture<F>(Pin<Box<F>>);

impl<F: Future> Future for CaughtFuture<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match caught(|| self.0.as_mut().poll(cx)) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// The runtime of all async bolts of this process; starts with the first tuple of one.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .thread_name("raybolt-async")
            .enable_all()
            .build()
            .expect("the runtime of async bolts starts")
    })
}
