//! Bolts whose instances run in worker processes.
//!
//! # Words
//! In the topology's process a [`Proxy`] stands in place of the bolt, as the operator of an ordinary instance:
//! with its inbox, ports and ledger. The bolt itself is operated by a *host* in a worker process: an actor of
//! the call runtime that drives an ordinary instance too, whose output is *captured* instead of routed, and whose
//! ledger reports to a *relay* instead of to the machines. What a worker is and how it starts is not known
//! here; that handles reach actors wherever they are is all that is needed.
//!
//! # Protocol
//! 1. The proxy takes tuples as [held](crate::Collector::hold) ones, names them by numbers, and sends each batch as
//!    one call, [`proxy::CALLS_MAX`] of them ahead. Beyond that it takes no tuples, and its inbox fills up.
//! 2. The host's instance works on them with their names for roots. So the captured output says by itself
//!    what it is anchored to, and the relay what was acked and what failed.
//! 3. The answer is *replayed*: the output is emitted through the proxy's ports, anchored to the held tuples,
//!    and then these are settled. Ticks, requests that are to be finished, and cleanup go the same way.
//!
//! # Invariants
//! - **PROXY-1 (settled once).** A tuple that was sent is settled by an answer that names it, or fails when
//!   the call that carried it fails; also when the host had kept it, and begins anew.
//! - **PROXY-2 (in order).** Answers are replayed in the order of the calls.
//! - **PROXY-3 (bounded).** At most `CALLS_MAX` batches are away from an instance, and none is replayed while
//!   its ports wait for room.

mod host;
mod proxy;
pub(crate) mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::batch::Batch;
use crate::catch::caught;
use crate::collector::Held;
use crate::inbox::Sink;
use crate::ledger::Ledger;
use crate::task::Task;
use crate::tuple::{Tuple, decode_batch, encode_batch};
use wire::{Emitted, Packed};

pub(crate) use proxy::Proxy;

/// Tuples that are with a host, by their names.
pub(crate) type Open = HashMap<u64, Held>;

/// What a host's instance has emitted.
#[derive(Default)]
pub(crate) struct Captured(Mutex<Vec<Result<Emitted, Uncaptured>>>);

/// Tuples that would not become bytes: why, and what they were anchored to.
pub(crate) struct Uncaptured {
    pub(crate) message: String,
    pub(crate) anchors: Vec<u64>,
}

impl Captured {
    pub(crate) fn take(&self) -> Vec<Result<Emitted, Uncaptured>> {
        std::mem::take(&mut *self.0.lock().expect("no thread panics while it holds the output"))
    }
}

/// The end of a stream in a host.
struct Capture {
    stream: u32,
    into: Arc<Captured>,
    task: Arc<Task>,
}

/// A place for the tuples of a stream.
pub(crate) fn capture<T: Tuple>(
    stream: usize,
    into: &Arc<Captured>,
    task: &Arc<Task>,
) -> Arc<dyn Sink<T>> {
    Arc::new(Capture { stream: stream as u32, into: into.clone(), task: task.clone() })
}

impl<T: Tuple> Sink<T> for Capture {
    fn admits(&self, _: &Arc<Task>) -> bool {
        true
    }

    fn put(&self, batch: Batch<T>) {
        let (tuples, anchors, more) = batch.into_parts();
        let anchors = anchors.iter().map(|anchor| anchor.root).collect::<Vec<_>>();
        let more = more.iter().map(|(at, anchor)| (*at, anchor.root)).collect::<Vec<_>>();
        let emitted = match encode_batch(&tuples) {
            Ok(bytes) => Ok(Emitted { stream: self.stream, tuples: Packed(bytes), anchors, more }),
            Err(error) => {
                let more = more.into_iter().map(|(_, root)| root);
                let anchors = anchors.into_iter().chain(more).filter(|root| *root != 0);
                Err(Uncaptured { message: error.to_string(), anchors: anchors.collect() })
            }
        };
        self.into.0.lock().expect("no thread panics while it holds the output").push(emitted);
    }

    fn consumer(&self) -> &Arc<Task> {
        &self.task
    }
}

/// Sends tuples that were captured, each anchored to those of the open ones that it names.
pub(crate) fn replay<T: Tuple>(
    emitted: &Emitted,
    open: &mut Open,
    ledger: &mut Ledger,
    mut send: impl FnMut(T, &mut Ledger),
) -> Result<(), String> {
    let tuples = decode_batch::<T>(&emitted.tuples.0).map_err(|error| error.to_string())?;
    let mut more = emitted.more.iter().peekable();
    let (mut names, mut words) = (Vec::new(), Vec::new());
    for (position, tuple) in tuples.into_iter().enumerate() {
        names.clear();
        names.extend(emitted.anchors.get(position).copied().filter(|name| *name != 0));
        while let Some((_, name)) = more.next_if(|(at, _)| *at as usize == position) {
            names.push(*name);
        }
        words.clear();
        for name in &names {
            let held = open.get_mut(name);
            words.extend(held.iter().flat_map(|held| held.roots()).copied());
        }
        ledger.counters.emitted += 1;
        let adopting = ledger.adopt(words.iter().copied());
        // A grouping is the user's.
        let sent = caught(|| send(tuple, ledger));
        let mut after = ledger.release(adopting);
        for name in &names {
            for word in open.get_mut(name).into_iter().flat_map(Held::roots_mut) {
                *word = after.next().unwrap_or(*word);
            }
        }
        drop(after);
        sent?;
    }
    Ok(())
}
