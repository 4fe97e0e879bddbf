//! Bolts and spouts whose instances run in worker processes.
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
//! 4. An answer says what was done until then. While more is to come (futures of an async bolt, tuples that are held), and
//!    no call is under way, a call of its own waits for the *bell*: that the host's instance wants a slice, or is dead.
//!
//! # Protocol of spouts
//! 1. In place of the spout stands a [`SpoutProxy`]. It asks its host for so many tuples as may be pending, in one call at a
//!    time; that call says also what became of tuples that were emitted before.
//! 2. The host's instance runs one slice with that credit, and answers at once. Its roots are the names of its tuples,
//!    which the proxy gives to those that it emits in their place.
//! 3. If there is nothing, the proxy asks no more, but has a second call wait for the *bell*: that the instance's waker or
//!    timer asks for a slice. The bell's call fails when the worker dies.
//! 4. When a host has died, the next question begins another one. Who would be told of the tuples of the dead one is
//!    gone: they become nobody's, but stay pending until they are done.
//!
//! # Invariants
//! - **SPOUT-1 (credit).** A host emits only what it was asked for, but for what one call of `next_tuple` emits beyond
//!   that; it is asked only when its instance's ports have room.
//! - **SPOUT-2 (told once, or nobody).** What became of a tuple is told to the incarnation that emitted it, or to nobody.
//! - **PROXY-1 (settled once).** A tuple that was sent is settled by an answer that names it, or fails when
//!   the call that carried it fails; also when the host had kept it, and begins anew.
//! - **PROXY-2 (in order).** Answers are replayed in the order of the calls.
//! - **PROXY-3 (bounded).** At most `CALLS_MAX` batches are away from an instance, and none is sent while as much as one
//!   waits in the host; none is replayed while its ports wait for room.

mod away;
mod bell;
mod bench;
mod host;
mod kind;
mod proxy;
mod spout_host;
mod spout_proxy;
pub(crate) mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::batch::Batch;
use crate::catch::caught;
use crate::collector::Held;
use crate::inbox::Sink;
use crate::ledger::Ledger;
use crate::task::Task;
use crate::tuple::{Tuple, decode_batch, encode_batch};
use wire::{Emitted, Packed};

pub use kind::{Elsewhere, Portable};
use proxy::Proxy;
pub(crate) use spout_proxy::SpoutProxy;

/// How long the end of an instance waits for user code in its worker.
const CLEANUP_MAX: Duration = Duration::from_secs(5);

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
        let anchors = anchors.iter().map(|anchor| anchor.root).collect();
        let more = more.iter().map(|(at, anchor)| (*at, anchor.root)).collect();
        let mut packed = Vec::new();
        self.pack(&tuples, anchors, more, &mut packed);
        self.into.0.lock().expect("no thread panics while it holds the output").append(&mut packed);
    }

    fn consumer(&self) -> &Arc<Task> {
        &self.task
    }
}

impl Capture {
    /// Makes tuples bytes. One that does not become such has no part in what becomes of the others.
    fn pack<T: Tuple>(
        &self,
        tuples: &[T],
        mut anchors: Vec<u64>,
        mut more: Vec<(u32, u64)>,
        into: &mut Vec<Result<Emitted, Uncaptured>>,
    ) {
        // Fields are the user's.
        let encoded = caught(|| encode_batch(tuples));
        let message = match encoded {
            Ok(Ok(bytes)) => {
                let (stream, tuples) = (self.stream, Packed(bytes));
                return into.push(Ok(Emitted { stream, tuples, anchors, more }));
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        if tuples.len() <= 1 {
            anchors.extend(more.into_iter().map(|(_, root)| root));
            anchors.retain(|root| *root != 0);
            return into.push(Err(Uncaptured { message, anchors }));
        }
        let (left, right) = tuples.split_at(tuples.len() / 2);
        let right_anchors = anchors.split_off(left.len().min(anchors.len()));
        let middle = more.partition_point(|(at, _)| (*at as usize) < left.len());
        let mut right_more = more.split_off(middle);
        right_more.iter_mut().for_each(|(at, _)| *at -= left.len() as u32);
        self.pack(left, anchors, more, into);
        self.pack(right, right_anchors, right_more, into);
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

/// Sends what a spout emitted elsewhere: what it wants followed as the root that `begin` gives for its name there.
pub(crate) fn replay_roots<T: Tuple>(
    emitted: &Emitted,
    begin: &mut dyn FnMut(u64) -> u64,
    ledger: &mut Ledger,
    mut send: impl FnMut(T, &mut Ledger),
) -> Result<(), String> {
    let decoded = caught(|| decode_batch::<T>(&emitted.tuples.0))?;
    let tuples = decoded.map_err(|error| error.to_string())?;
    for (position, tuple) in tuples.into_iter().enumerate() {
        let name = emitted.anchors.get(position).copied().filter(|name| *name != 0);
        ledger.counters.emitted += 1;
        if let Some(name) = name {
            ledger.begin_root(begin(name));
        }
        // A grouping is the user's.
        match caught(|| send(tuple, ledger)) {
            Ok(()) => ledger.end_root(),
            Err(panic) => {
                ledger.fail_root(&panic);
                ledger.shared.record_error(ledger.place, panic);
            }
        }
    }
    Ok(())
}
