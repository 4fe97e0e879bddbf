//! Bolts: what users write to work on tuples.

use std::fmt;

use raybolt_core::ids::RequestId;

use crate::batch::Batch;
use crate::builder::Outputs;
use crate::collector::Collector;
use crate::context::Context;
use crate::tuple::Tuple;

/// Works on tuples of one type and emits tuples of another.
///
/// The value given to the builder is a *prototype*: each instance works on a clone of it. A tuple that
/// was taken is acknowledged when `execute` returns `Ok`, and what was emitted meanwhile is anchored to
/// it; `Err` fails it. A panic fails it too; the instance then goes on with a fresh clone.
///
/// ```
/// use raybolt_topology::{Bolt, BoltError, Collector};
///
/// #[derive(Clone)]
/// struct Exclaim;
///
/// impl Bolt for Exclaim {
///     type In = (String,);
///     type Out = (String,);
///
///     fn execute(&mut self, (word,): Self::In, out: &mut Collector<Self::Out>) -> Result<(), BoltError> {
///         out.emit((word + "!",));
///         Ok(())
///     }
/// }
/// ```
pub trait Bolt: Clone + Send + 'static {
    /// What it takes.
    type In: Tuple;
    /// What it emits on its default stream; `()` for a bolt that emits nothing there.
    type Out: Tuple;

    /// Whether it wants to be told when it has seen all of a request, by [`Bolt::finished`].
    const WANTS_FINISHED: bool = false;

    /// Declares further streams, or the fields of dynamic tuples.
    fn declare_outputs(&self, outputs: &mut Outputs<Self::Out>) {
        let _ = outputs;
    }

    /// Called once on each instance, before its first tuple.
    fn prepare(&mut self, context: &Context) {
        let _ = context;
    }

    /// Works on one tuple.
    ///
    /// Room downstream is looked at between tuples, not within one: all that a single call emits is kept in
    /// memory until readers have taken it. A call that would emit millions of tuples should be split, for
    /// example by a spout that emits ranges.
    ///
    /// # Errors
    /// An error fails the tuple's tree, and its request.
    fn execute(
        &mut self,
        tuple: Self::In,
        collector: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError>;

    /// Works on the tuples of a batch, until [`Batch::next`] gives none. Override it for work that
    /// is cheaper in bulk.
    ///
    /// # Errors
    /// An error fails the tuple that was taken last; the rest of the batch is offered again.
    #[inline]
    fn execute_batch(
        &mut self,
        batch: &mut Batch<Self::In>,
        collector: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        while let Some(tuple) = batch.next(collector) {
            self.execute(tuple, collector)?;
        }
        Ok(())
    }

    /// Called in the rhythm of the declarer's `tick_every`.
    ///
    /// # Errors
    /// An error is recorded.
    fn tick(&mut self, collector: &mut Collector<Self::Out>) -> Result<(), BoltError> {
        let _ = collector;
        Ok(())
    }

    /// All tuples of the request have been processed here and upstream. Only if
    /// [`Bolt::WANTS_FINISHED`], in a coordinated topology.
    ///
    /// # Errors
    /// An error fails the request.
    fn finished(
        &mut self,
        request: RequestId,
        collector: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        let _ = (request, collector);
        Ok(())
    }

    /// The request failed: what is kept for it may be dropped. Comes instead of
    /// [`Bolt::finished`].
    fn abandoned(&mut self, request: RequestId) {
        let _ = request;
    }

    /// Called once on each instance when its topology ends or is rebalanced.
    fn cleanup(&mut self) {}
}

/// Why a bolt failed a tuple. Anything that displays can be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoltError(String);

impl BoltError {
    /// An error with this message.
    pub fn new(message: impl fmt::Display) -> Self {
        BoltError(message.to_string())
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BoltError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// With all causes: `a: b: c`. (`BoltError` is itself no `Error`, or this could not be.)
impl<E: std::error::Error> From<E> for BoltError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message += &format!(": {error}");
            cause = error.source();
        }
        BoltError(message)
    }
}
