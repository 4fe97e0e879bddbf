//! How who stands in the topology hears that an instance in a worker wants a slice: by a call that ends then.
//!
//! The host's end is a [`Bell`], the other one an [`Ear`]. The call is one of the host, so it fails when that dies.

use std::sync::Arc;
use std::task::Waker;

use raybolt_runtime::args::{Arg, Held};
use raybolt_runtime::error::Error;
use raybolt_runtime::handle::ActorHandle;
use raybolt_runtime::method::{Body, Method, MethodFuture};
use raybolt_runtime::options::CallOptions;
use raybolt_runtime::output::One;
use tokio::sync::Notify;

use crate::processes::away::{Away, rouse_if_ready, taken};

/// Of an instance in a worker.
#[derive(Clone)]
pub(super) struct Bell {
    notify: Arc<Notify>,
    incarnation: u64,
}

impl Bell {
    pub(super) fn new(incarnation: u64) -> Self {
        Bell { notify: Arc::default(), incarnation }
    }

    /// Who waits hears of it, or else who waits next.
    pub(super) fn ring(&self) {
        self.notify.notify_one();
    }
}

/// A host, for those who wait for its bell.
pub(super) trait Rings: Send + Sync + 'static {
    fn bell(&self) -> &Bell;
}

/// The host's method: waits until the instance wants a slice. One that was asked for by whoever knew another one is
/// wanted now.
fn rung<H: Rings>(host: &H, (incarnation,): (Held<u64>,)) -> MethodFuture<'_, One<()>> {
    Box::pin(async move {
        let Bell { notify, incarnation: own } = host.bell();
        if *incarnation == *own {
            notify.notified().await;
        }
        Ok(One(()))
    })
}

/// Waits for the bell of one incarnation of a host at a time.
#[derive(Default)]
pub(super) struct Ear {
    call: Option<Away<()>>,
    /// Whose bell it is.
    of: u64,
}

impl Ear {
    /// Listens from now on, if it does not.
    pub(super) fn listen<H: Rings>(
        &mut self,
        host: &ActorHandle<H>,
        name: &'static str,
        incarnation: u64,
        waker: Option<&Waker>,
    ) {
        if self.call.is_some() {
            return;
        }
        let method = Method { name, group: 1, body: Body::AsyncShared(rung::<H>) };
        let rung = host.call::<_, One<()>>(method, CallOptions::new(), (Arg::Value(incarnation),));
        self.call = Some(Away::new(rung));
        self.of = incarnation;
        rouse_if_ready(&mut self.call, waker);
    }

    /// Whether the bell was rung, or with what the host has died, and of which incarnation it was.
    pub(super) fn heard(&mut self, waker: Option<&Waker>) -> Option<(Result<(), Error>, u64)> {
        let rung = taken(&mut self.call, waker)?;
        Some((rung, self.of))
    }
}
