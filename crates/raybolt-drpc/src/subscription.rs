//! The topology's end: take requests of one function, and report results and completions.
//!
//! The builders of this crate make the spouts and bolts that do so; this is what they are made of,
//! for topologies of another kind and for tests.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use raybolt_core::drpc::{SubscriberId, Terms};
use raybolt_core::ids::RequestId;

use crate::server::Server;

/// A request as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The request, unique at its server.
    pub request: RequestId,
    /// The arguments.
    pub args: Bytes,
    /// When nobody waits for its result any more.
    pub deadline: Instant,
}

/// The right to serve one function at one server. Dropping it hands the requests that are open here
/// to other subscribers, or fails them.
pub struct Subscription {
    server: Arc<Server>,
    id: SubscriberId,
}

/// What a subscriber has to say about its requests, many at once.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Results, in the order in which they were emitted.
    pub answered: Vec<(RequestId, Bytes)>,
    /// Failures, with their messages.
    pub failed: Vec<(RequestId, String)>,
    /// Requests that the topology is done with. Each gives one request's worth of credit back.
    pub completed: Vec<RequestId>,
}

impl Report {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.answered.is_empty() && self.failed.is_empty() && self.completed.is_empty()
    }
}

/// How many results are reported under one lock: so many that it costs little each, so few that
/// callers who need the lock meanwhile wait for microseconds.
const LOCKED_MAX: usize = 64;

impl Subscription {
    pub(crate) fn new(
        server: Arc<Server>,
        function: &str,
        terms: Terms,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let id = server.subscribe(function, terms, Arc::new(wake));
        Subscription { server, id }
    }

    /// Moves everything that came since the last call to the ends of `delivered` and `cancelled`.
    /// The waker is called when there is something again.
    pub fn take(&self, delivered: &mut Vec<Delivered>, cancelled: &mut Vec<RequestId>) {
        self.server.inbox(self.id, |inbox| {
            delivered.append(&mut inbox.delivered);
            cancelled.append(&mut inbox.cancelled);
        });
    }

    /// Reports what happened to requests, and empties the report. `component` is the one that
    /// should have emitted the results.
    pub fn report(&self, report: &mut Report, component: Option<&str>) {
        let now = Instant::now();
        let mut answered = report.answered.drain(..);
        while answered.len() > 0 {
            self.server.event(|broker| {
                for (request, result) in answered.by_ref().take(LOCKED_MAX) {
                    broker.answered(now, self.id, request, result);
                }
            });
        }
        for (request, message) in report.failed.drain(..) {
            self.server.event(|broker| broker.failed(self.id, request, message));
        }
        for completed in report.completed.chunks(LOCKED_MAX) {
            self.server.event(|broker| {
                for request in completed {
                    broker.completed(now, self.id, *request, component);
                }
                broker.credit_returned(self.id, completed.len());
            });
        }
        drop(answered);
        report.completed.clear();
    }

    /// Takes no more requests; those that are here can still be answered.
    pub fn unsubscribe(&self) {
        self.server.event(|broker| broker.unsubscribed(Instant::now(), self.id));
    }

    /// Takes no requests until [`Subscription::resume`], and hands back those that are `not_begun`
    /// or have not even been taken. The function stays served.
    pub fn pause(&self, not_begun: Vec<Delivered>) {
        self.server.pause(self.id, not_begun);
    }

    /// Takes requests again.
    pub fn resume(&self) {
        self.server.event(|broker| broker.resumed(self.id));
    }

    /// Ends the subscription, as dropping it does.
    pub fn close(&self) {
        self.server.lose(self.id);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.close();
    }
}
