//! Streams: tasks that return many objects, one after the other, as they make them.
//!
//! # Words
//! A *generator* is a function that returns an iterator. Its *items* become objects as they come; the
//! caller holds a [`RefStream`], from which it takes references to them. Between the two lies a
//! *channel* with a bound.
//!
//! # Protocol
//! 1. The generator's thread puts items into the channel. While it is full, the thread waits, and
//!    others use its CPU.
//! 2. The end of the generator, or what it failed with, comes after the items.
//! 3. Who drops the stream stops the generator at its next item; one that has not begun never will.
//!
//! # Invariants
//! - **STREAM-1 (bounded).** At most `stream_buffer` items lie in the channel.
//! - **STREAM-2 (once).** Each item is taken once, in the order of the generator, whose further
//!   attempts skip what an earlier one has made.
//! - **STREAM-3 (nobody is left waiting).** Whatever ends the generator or the stream wakes the other
//!   side: success, failure, cancellation, deadline, the end of the session.

mod channel;
mod sink;
mod stalled;

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::{Owner, Returns};
use raybolt_wire::Value;

use crate::awaited::{Awaiting, What};
use crate::call::later;
use crate::error::{Error, Kind, Result};
use crate::inspect::why;
use crate::job::Job;
use crate::object::{AnyObject, Hold, ObjectRef};
use crate::options::TaskOptions;
use crate::output::{Cells, Output};
use crate::processes::inlet::Inlet;
use crate::processes::outlet::Outlet;
use crate::processes::parcel;
use crate::session::{self, Place};

pub use channel::Channel;
pub use sink::Sink;
pub(crate) use stalled::Stalled;

/// How many items a stream holds if its options do not say.
pub const STREAM_BUFFER: usize = 1_000;

/// References to what a generator makes, as it makes it.
///
/// An iterator that waits for the next item; [`next_async`](Self::next_async) does so without blocking
/// a thread. What the generator fails with is the last item. Dropping the stream stops the generator.
pub struct RefStream<T: Value> {
    channel: Arc<Channel<T>>,
    /// Its last item was taken.
    is_over: bool,
}

/// The output of a generator: nothing is left to deliver when it has returned.
pub struct Items<T>(PhantomData<fn() -> T>);

/// The generator's end of a channel.
pub struct StreamCell<T>(Arc<Channel<T>>);

impl<T: Value> RefStream<T> {
    /// Waits for the next item, without blocking a thread.
    ///
    /// # Cancel safety
    /// An item is taken or not; dropping the future loses none.
    pub async fn next_async(&mut self) -> Option<Result<ObjectRef<T>>> {
        let what = What::Item(self.channel.hold.id());
        Awaiting::new(what, poll_fn(|context| self.poll_next(context))).await
    }

    /// The next item if it is there; else `context` is woken when it is, or the stream ends.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<ObjectRef<T>>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match self.channel.take(Some(context.waker())) {
            Some(taken) => Poll::Ready(self.taken(taken)),
            None => Poll::Pending,
        }
    }

    /// Waits for the next item, at most for `timeout`; if it has not come by then, the item is an error
    /// and the stream goes on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<ObjectRef<T>>> {
        self.next_until(later(timeout).map(|until| (until, timeout)))
    }

    fn next_until(
        &mut self,
        deadline: Option<(Instant, Duration)>,
    ) -> Option<Result<ObjectRef<T>>> {
        if self.is_over {
            return None;
        }
        if let Some(taken) = self.channel.take(None) {
            return self.taken(taken);
        }
        let until = deadline.map(|(until, _)| until);
        let waited = session::with(|session| {
            let what = What::Item(self.channel.hold.id());
            let sleeper = session.awaited.enter_for(what, until.is_some());
            session.blocking(|| self.channel.wait_for_item(session, until));
            drop(sleeper);
            let because = || why::because(session, self.channel.hold.key());
            self.channel.take(None).ok_or_else(|| {
                let after = deadline.map(|(_, after)| after).unwrap_or_default();
                let what = "the next item of a stream".to_owned();
                Error::new(Kind::Timeout { what, after, because: because() })
            })
        });
        match waited {
            Ok(Ok(taken)) => self.taken(taken),
            Ok(Err(late)) => Some(Err(late)),
            Err(no_session) => self.taken(Some(Err(no_session))),
        }
    }

    fn taken(&mut self, taken: Option<Result<ObjectRef<T>>>) -> Option<Result<ObjectRef<T>>> {
        self.is_over = !matches!(taken, Some(Ok(_)));
        taken
    }
}

impl<T: Value> Iterator for RefStream<T> {
    type Item = Result<ObjectRef<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None)
    }
}

impl<T: Value> fmt::Debug for RefStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (items, has_ended) = self.channel.progress();
        let word = if has_ended { "ended" } else { "running" };
        write!(f, "RefStream({items} items, {word})")
    }
}

impl<T: Value> Drop for RefStream<T> {
    fn drop(&mut self) {
        if !self.channel.abandon() {
            let stopped = session::with(|session| {
                let Some(key) = self.channel.hold.key_in(session.epoch) else { return };
                if let Place::Driver(upstream) = &session.place {
                    return upstream.cancel(self.channel.hold.id(), false);
                }
                let task = session.lock().task_name(key);
                let error = Error::new(Kind::Cancelled { task });
                session.cancel(key, &error, false, || {
                    self.channel.fail(error.clone());
                });
            });
            drop(stopped); // Without a session there is nothing to stop.
        }
    }
}

impl<T: Value> Output for Items<T> {
    type Cells = StreamCell<T>;
    type Refs = RefStream<T>;

    fn pending(epoch: u32) -> (Self::Cells, Self::Refs) {
        let channel = Arc::new(Channel::new(epoch, None));
        (StreamCell(channel.clone()), RefStream { channel, is_over: false })
    }

    fn failed(error: Error) -> Self::Refs {
        RefStream { channel: Arc::new(Channel::new(0, Some(Err(error)))), is_over: false }
    }

    fn deliver(self, _task: &str, cells: &Self::Cells) -> Result<usize> {
        cells.0.end(Ok(()));
        Ok(0)
    }
}

impl<T> Clone for StreamCell<T> {
    fn clone(&self) -> Self {
        StreamCell(self.0.clone())
    }
}

impl<T: Value> Cells for StreamCell<T> {
    fn expect(&self, owner: &mut Owner<Box<dyn Job>>) -> Returns {
        let key = owner.expect();
        self.0.hold.set_key(key);
        Returns::One(key)
    }

    fn configure(&self, options: &TaskOptions) {
        if let Some(bound) = options.settings().and_then(|set| set.stream_buffer) {
            self.0.set_bound(bound);
        }
    }

    fn fail(&self, error: &Error) {
        self.0.fail(error.clone());
    }

    fn is_watched(&self) -> bool {
        self.0.is_watched()
    }

    fn weak(&self) -> Vec<Weak<dyn AnyObject>> {
        let object: Arc<dyn AnyObject> = self.0.clone();
        vec![Arc::downgrade(&object)]
    }

    fn pack(&self, _task: &str, _out: &mut Vec<u8>) -> Result<()> {
        self.0.error().map_or(Ok(()), Err)
    }

    fn arrived(
        &self,
        _task: &str,
        _bytes: &mut &[u8],
        _keeps: &[Arc<dyn AnyObject>],
    ) -> Result<usize> {
        self.0.end(Ok(()));
        Ok(0)
    }

    #[allow(private_interfaces, reason = "part of no API")]
    fn each(&self, see: &mut dyn FnMut(&Hold, Weak<dyn AnyObject>)) {
        let object: Arc<dyn AnyObject> = self.0.clone();
        see(&self.0.hold, Arc::downgrade(&object));
    }
    fn announce(&self, out: &mut Vec<u8>) {
        parcel::put(&self.0.announced(), out).expect("numbers can be written");
    }

    #[allow(private_interfaces, reason = "part of no API")]
    fn connect(
        &self,
        bytes: &mut &[u8],
        outlet: &dyn Fn(u64) -> Arc<Outlet>,
    ) -> std::result::Result<(), parcel::Unreadable> {
        let (made, until) = parcel::take::<(u64, u64)>(bytes)?;
        self.0.begin_at(made);
        self.0.outlet.get_or_init(|| outlet(until));
        Ok(())
    }

    fn inlet(&self) -> Option<Arc<dyn Inlet>> {
        Some(self.0.clone())
    }

    fn room(&self) -> Option<u64> {
        Some(self.0.announced().1)
    }
}
