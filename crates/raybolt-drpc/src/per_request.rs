//! Bolts that keep something per request, without having to keep house: [`BatchBolt`].

use raybolt_core::hash::IdMap;
use raybolt_core::ids::RequestId;
use raybolt_topology::{Batch, Bolt, BoltError, Collector, Context, Tuple, caught};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A bolt of which each request gets its own fresh clone, as Storm's `IBatchBolt`.
///
/// A clone is made for the first tuple of a request on an instance, and dropped when the request is
/// finished or given up. An instance that saw none of a request gets a clone to finish nonetheless, if no other
/// instance saw any: so a count of nothing is still a result.
///
/// Wrap it by [`PerRequest`] to add it to a topology. If it travels by `serde`, so does that, and may run in worker
/// processes.
pub trait BatchBolt: Clone + Send + 'static {
    /// What it takes.
    type In: Tuple;
    /// What it emits.
    type Out: Tuple;

    /// Called on each clone, before its first tuple.
    fn prepare(&mut self, context: &Context, request: RequestId) {
        let _ = (context, request);
    }

    /// Works on one tuple of the request.
    ///
    /// # Errors
    /// An error fails the request.
    fn execute(
        &mut self,
        tuple: Self::In,
        collector: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError>;

    /// All tuples of the request that come to this instance have been processed.
    ///
    /// # Errors
    /// An error fails the request.
    fn finish_batch(
        &mut self,
        request: RequestId,
        collector: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError>;
}

/// The [`Bolt`] that a [`BatchBolt`] is.
///
/// A panic costs the request at hand its state, and no other.
pub struct PerRequest<B> {
    prototype: B,
    context: Option<Context>,
    /// The request whose tuples come now; they come in runs, so most tuples need no look-up.
    current: Option<(RequestId, B)>,
    others: IdMap<RequestId, B>,
}

impl<B: BatchBolt> PerRequest<B> {
    /// Gives each request a clone of `prototype`.
    pub fn new(prototype: B) -> Self {
        PerRequest { prototype, context: None, current: None, others: IdMap::default() }
    }

    /// Makes the state of `request` the current one.
    #[inline]
    fn turn_to(&mut self, request: RequestId) -> &mut B {
        if self.current.as_ref().is_none_or(|(current, _)| *current != request) {
            let state = self.take(request);
            if let Some((before, state)) = self.current.replace((request, state)) {
                self.others.insert(before, state);
            }
        }
        let (_, state) = self.current.as_mut().expect("it was set above");
        state
    }

    /// Takes the state of `request` out, or a fresh one.
    fn take(&mut self, request: RequestId) -> B {
        self.forget(request).unwrap_or_else(|| {
            let mut state = self.prototype.clone();
            if let Some(context) = &self.context {
                state.prepare(context, request);
            }
            state
        })
    }

    fn forget(&mut self, request: RequestId) -> Option<B> {
        match self.current.take_if(|(current, _)| *current == request) {
            Some((_, state)) => Some(state),
            None => self.others.remove(&request),
        }
    }
}

impl<B: BatchBolt> Clone for PerRequest<B> {
    /// A copy without the states of requests.
    fn clone(&self) -> Self {
        PerRequest::new(self.prototype.clone())
    }
}

/// As a copy: without the states of requests.
impl<B: Serialize> Serialize for PerRequest<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.prototype.serialize(serializer)
    }
}

impl<'de, B: BatchBolt + Deserialize<'de>> Deserialize<'de> for PerRequest<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        B::deserialize(deserializer).map(PerRequest::new)
    }
}

impl<B: BatchBolt> Bolt for PerRequest<B> {
    type In = B::In;
    type Out = B::Out;
    const WANTS_FINISHED: bool = true;

    fn prepare(&mut self, context: &Context) {
        self.context = Some(context.clone());
    }

    #[inline]
    fn execute(
        &mut self,
        tuple: B::In,
        collector: &mut Collector<B::Out>,
    ) -> Result<(), BoltError> {
        let Some(request) = tuple.request_id() else {
            return Err(BoltError::new("a tuple without a request id reached a batch bolt"));
        };
        self.turn_to(request).execute(tuple, collector)
    }

    fn execute_batch(
        &mut self,
        batch: &mut Batch<B::In>,
        collector: &mut Collector<B::Out>,
    ) -> Result<(), BoltError> {
        let mut at = None;
        let result = caught(|| {
            while let Some(tuple) = batch.next(collector) {
                at = tuple.request_id();
                self.execute(tuple, collector)?;
            }
            Ok(())
        });
        result.unwrap_or_else(|panic| {
            at.and_then(|request| self.forget(request));
            Err(BoltError::new(panic))
        })
    }

    fn finished(
        &mut self,
        request: RequestId,
        collector: &mut Collector<B::Out>,
    ) -> Result<(), BoltError> {
        let finish = || self.take(request).finish_batch(request, collector);
        caught(finish).unwrap_or_else(|panic| Err(BoltError::new(panic)))
    }

    fn abandoned(&mut self, request: RequestId) {
        self.forget(request);
    }
}
