//! Where a running topology and its DRPC server meet: one subscription, shared by the spout that
//! takes requests, the bolt that returns results, and the observer that hears how requests end.
//!
//! # Life
//! `created` with the topology's description; `started` when it is submitted, before `submit` returns, so that a call
//! right after it finds the function; `ended` when it is killed: then open requests go to other
//! topologies that serve the function, or fail.
//!
//! Request ids are the server's own, so they are unique within the topology as long as it has one server. With
//! several, each would get a prefix of its own here, in the one place where ids pass.

use std::sync::{Arc, Mutex, OnceLock};

use raybolt_core::drpc::Terms;
use raybolt_core::ids::RequestId;
use raybolt_topology::{RequestObserver, Waker};

use crate::local::LocalDrpc;
use crate::subscription::{Report, Subscription};

/// See the [module](self).
pub(crate) struct Endpoint {
    drpc: LocalDrpc,
    function: Box<str>,
    terms: Terms,
    /// The components that return results, for errors.
    returning: Box<str>,
    subscription: OnceLock<Subscription>,
    /// Wakes the spout's instance, once there is one.
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Endpoint {
    pub fn new(drpc: LocalDrpc, function: &str, terms: Terms, returning: &str) -> Self {
        Endpoint {
            drpc,
            function: function.into(),
            terms,
            returning: returning.into(),
            subscription: OnceLock::new(),
            waker: Arc::default(),
        }
    }

    /// The subscription; begun by the first who asks.
    pub fn subscription(&self) -> &Subscription {
        self.subscription.get_or_init(|| {
            let waker = self.waker.clone();
            self.drpc.subscribe(&self.function, self.terms, move || {
                let waker = waker.lock().expect("no thread panics while it holds a waker").clone();
                if let Some(waker) = waker {
                    waker.wake();
                }
            })
        })
    }

    /// Requests that come from now on wake this one.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock().expect("no thread panics while it holds a waker") = Some(waker);
    }

    pub fn report(&self, report: &mut Report) {
        self.subscription().report(report, Some(&self.returning));
    }
}

impl RequestObserver for Endpoint {
    /// Known from here on; but it takes requests only when the spout is there, which resumes. One whose topology
    /// is not active would keep them from others, until their deadlines.
    fn started(&self) {
        self.subscription().pause(Vec::new());
    }

    fn completed(&self, requests: &[RequestId]) {
        let completed = requests.to_vec();
        self.report(&mut Report { completed, ..Report::default() });
    }

    fn failed(&self, request: RequestId, message: &str) {
        let failed = vec![(request, message.to_owned())];
        self.report(&mut Report { failed, completed: vec![request], ..Report::default() });
    }

    fn ended(&self) {
        self.subscription().close();
    }
}
