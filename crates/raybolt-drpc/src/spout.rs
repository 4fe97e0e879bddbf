//! The two ends of a topology that serves a function: the spout that brings requests in, and the
//! bolt that returns results.

use std::collections::VecDeque;
use std::sync::Arc;

use raybolt_topology::{
    Batch, Bolt, BoltError, Collector, Context, Next, Spout, SpoutCollector, Values,
};

use crate::endpoint::Endpoint;
use crate::request::{DrpcRequest, result_bytes};
use crate::subscription::{Delivered, Report};

/// How many requests are brought in per call: few enough that the topology can say stop in between.
const EMITTED_MAX: usize = 64;

/// Brings requests in, when the server has some.
pub(crate) struct DrpcSpout {
    endpoint: Arc<Endpoint>,
    taken: Vec<Delivered>,
    queue: VecDeque<Delivered>,
    cancelled: Vec<raybolt_core::ids::RequestId>,
}

impl DrpcSpout {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        DrpcSpout { endpoint, taken: Vec::new(), queue: VecDeque::new(), cancelled: Vec::new() }
    }

    /// Takes what the server has; a request that was cancelled meanwhile is not begun, or given up.
    fn take(&mut self, collector: &mut SpoutCollector<DrpcRequest>) {
        self.endpoint.subscription().take(&mut self.taken, &mut self.cancelled);
        self.queue.extend(self.taken.drain(..));
        for request in self.cancelled.drain(..) {
            match self.queue.iter().position(|waiting| waiting.request == request) {
                Some(position) => {
                    self.queue.remove(position);
                    let completed = vec![request];
                    self.endpoint.report(&mut Report { completed, ..Report::default() });
                }
                None => collector.cancel_request(request, "nobody waits for the result any more"),
            }
        }
    }
}

impl Clone for DrpcSpout {
    fn clone(&self) -> Self {
        DrpcSpout::new(self.endpoint.clone())
    }
}

impl Spout for DrpcSpout {
    type Out = DrpcRequest;

    fn open(&mut self, context: &Context) {
        self.endpoint.set_waker(context.waker());
        self.endpoint.subscription().resume();
    }

    fn next_tuple(&mut self, collector: &mut SpoutCollector<DrpcRequest>) -> Next {
        self.take(collector);
        let count = self.queue.len().min(EMITTED_MAX);
        for Delivered { request, args, .. } in self.queue.drain(..count) {
            collector.emit(DrpcRequest { request, args });
        }
        // SERVER-2: nobody wakes us for what we have taken already.
        if self.queue.is_empty() { Next::Idle } else { Next::Emitted }
    }

    fn activate(&mut self) {
        self.endpoint.subscription().resume();
    }

    fn deactivate(&mut self) {
        self.endpoint.subscription().pause(self.queue.drain(..).collect());
    }
}

/// Returns the results that come to it: tuples of a request and its result.
#[derive(Clone)]
pub(crate) struct ReturnResults {
    endpoint: Arc<Endpoint>,
    report: Report,
}

impl ReturnResults {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        ReturnResults { endpoint, report: Report::default() }
    }
}

impl Bolt for ReturnResults {
    type In = Values;
    type Out = ();

    fn execute(&mut self, tuple: Values, collector: &mut Collector<()>) -> Result<(), BoltError> {
        let request = raybolt_topology::Tuple::request_id(&tuple);
        let count = tuple.len();
        match (request, tuple.0.into_iter().nth(1)) {
            (Some(request), Some(result)) if count == 2 => {
                self.report.answered.push((request, result_bytes(result)));
                Ok(())
            }
            _ => {
                let source = collector.source().map_or("a bolt", |source| source.component);
                Err(BoltError::new(format_args!(
                    "`{source}` returned {count} values instead of two, a request and its result"
                )))
            }
        }
    }

    /// One lock for the results of a batch.
    fn execute_batch(
        &mut self,
        batch: &mut Batch<Values>,
        collector: &mut Collector<()>,
    ) -> Result<(), BoltError> {
        let mut result = Ok(());
        while let Some(tuple) = batch.next(collector) {
            result = self.execute(tuple, collector);
            if result.is_err() {
                break;
            }
        }
        self.endpoint.report(&mut self.report);
        result
    }
}
