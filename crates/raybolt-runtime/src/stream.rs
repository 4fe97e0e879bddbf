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

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::{ObjectKey, Owner, Returns};
use raybolt_wire::Value;

use crate::awaited::What;
use crate::call::later;
use crate::error::{Error, Kind, Result};
use crate::inspect::why;
use crate::job::{Failure, Job};
use crate::object::{AnyObject, Hold, ObjectRef};
use crate::options::TaskOptions;
use crate::output::{Cells, Output};
use crate::processes::parcel::Unreadable;
use crate::processes::raw::Encoded;
use crate::session::{self, Session};
use crate::slot::Waiter;

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

/// What lies between a generator and its stream.
#[doc(hidden)]
pub struct Channel<T> {
    /// Stands for the generator's task: it can be cancelled by this key.
    hold: Hold,
    state: Mutex<State<T>>,
    /// Something that a thread may wait for has happened.
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<ObjectRef<T>>,
    bound: usize,
    /// Items ever made, for attempts after the first.
    made: usize,
    /// How the generator ended.
    end: Option<Result<()>>,
    is_abandoned: bool,
    /// How many threads wait.
    waiting: usize,
    reader: Option<Waker>,
}

/// The output of a generator: nothing is left to deliver when it has returned.
pub struct Items<T>(PhantomData<fn() -> T>);

/// The generator's end of a channel.
pub struct StreamCell<T>(Arc<Channel<T>>);

/// Takes a generator's items.
pub struct Sink<'a, T> {
    channel: &'a Arc<Channel<T>>,
    task: &'a str,
    /// So many items were made by earlier attempts.
    skip: usize,
}

/// Whether a generator has to go on.
enum Flow {
    Go,
    Stop,
}

impl<T: Value> RefStream<T> {
    /// Waits for the next item, without blocking a thread.
    ///
    /// # Cancel safety
    /// An item is taken or not; dropping the future loses none.
    pub async fn next_async(&mut self) -> Option<Result<ObjectRef<T>>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next item if it is there; else `context` is woken when it is, or the stream ends.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<ObjectRef<T>>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let taken = self.channel.take(|state| state.reader = Some(context.waker().clone()));
        match taken {
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
        if let Some(taken) = self.channel.take(|_| {}) {
            return self.taken(taken);
        }
        let until = deadline.map(|(until, _)| until);
        let waited = session::with(|session| {
            let what = What::Item(self.channel.hold.key());
            let sleeper = session.awaited.enter_for(what, until.is_some());
            session.blocking(|| self.channel.wait(until, |state| !state.is_takeable()));
            drop(sleeper);
            let because = || why::because(session, self.channel.hold.key());
            self.channel.take(|_| {}).ok_or_else(|| {
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
        let state = self.channel.lock();
        let word = if state.end.is_some() { "ended" } else { "running" };
        write!(f, "RefStream({} items, {word})", state.items.len())
    }
}

impl<T: Value> Drop for RefStream<T> {
    fn drop(&mut self) {
        let (items, was_over) = {
            let mut state = self.channel.lock();
            state.is_abandoned = true;
            (std::mem::take(&mut state.items), state.end.is_some())
        };
        drop(items); // Outside the lock: values are user data.
        self.channel.changed.notify_all();
        if !was_over {
            let stopped = session::with(|session| {
                let Some(key) = self.channel.hold.key_in(session.epoch) else { return };
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

impl<T> Channel<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no thread panics while it holds a channel")
    }

    /// Takes the next item, or that there is none any more; else leaves word with `or`.
    fn take(&self, or: impl FnOnce(&mut State<T>)) -> Option<Option<Result<ObjectRef<T>>>> {
        let mut state = self.lock();
        let taken = state.take();
        if taken.is_none() {
            or(&mut state);
        } else if state.waiting > 0 {
            self.changed.notify_all(); // There is room now.
        }
        taken
    }

    /// Waits while `what` holds.
    fn wait(&self, until: Option<Instant>, what: impl Fn(&State<T>) -> bool) {
        let mut state = self.lock();
        state.waiting += 1;
        while what(&state) {
            state = match until.map(|until| until.checked_duration_since(Instant::now())) {
                None => self.changed.wait(state).expect("no thread panics with this lock"),
                Some(Some(left)) if !left.is_zero() => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.expect("no thread panics with this lock").0
                }
                Some(_) => break,
            };
        }
        state.waiting -= 1;
    }

    fn end(&self, result: Result<()>) -> bool {
        let mut state = self.lock();
        let first = state.end.is_none();
        if first {
            state.end = Some(result);
        }
        self.wake(state);
        first
    }

    fn push(&self, item: ObjectRef<T>) {
        let mut state = self.lock();
        state.made += 1;
        if state.is_abandoned {
            drop(state);
            drop(item); // Outside the lock: its value is user data.
            return;
        }
        state.items.push_back(item);
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State<T>>) {
        let reader = state.reader.take();
        let waiting = state.waiting > 0;
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        if waiting {
            self.changed.notify_all();
        }
    }
}

impl<T> State<T> {
    fn is_takeable(&self) -> bool {
        !self.items.is_empty() || self.end.is_some()
    }

    fn is_full(&self) -> bool {
        self.items.len() >= self.bound && !self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        self.is_abandoned || self.end.is_some()
    }

    /// The next item, or that there is none any more; nothing if one may come.
    fn take(&mut self) -> Option<Option<Result<ObjectRef<T>>>> {
        if let Some(item) = self.items.pop_front() {
            return Some(Some(Ok(item)));
        }
        self.end.as_ref().map(|end| end.as_ref().err().cloned().map(Err))
    }
}

impl<'a, T: Value> Sink<'a, T> {
    /// A sink for the items of the given task.
    pub fn new(task: &'a str, cell: &'a StreamCell<T>) -> Self {
        let skip = cell.0.lock().made;
        Sink { channel: &cell.0, task, skip }
    }

    /// Takes all items, until nobody wants more.
    ///
    /// # Errors
    /// Never; the type is that of [`try_drain`](Self::try_drain).
    pub fn drain(
        &mut self,
        items: impl IntoIterator<Item = T>,
    ) -> std::result::Result<Items<T>, Failure> {
        for item in items {
            if let Flow::Stop = self.push(item) {
                break;
            }
        }
        Ok(Items(PhantomData))
    }

    /// Takes all items, until one is an error or nobody wants more.
    ///
    /// # Errors
    /// The first error among the items.
    pub fn try_drain<E>(
        &mut self,
        items: impl IntoIterator<Item = std::result::Result<T, E>>,
    ) -> std::result::Result<Items<T>, Failure>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        for item in items {
            if let Flow::Stop = self.push(item.map_err(Failure::new)?) {
                break;
            }
        }
        Ok(Items(PhantomData))
    }

    fn push(&mut self, item: T) -> Flow {
        if self.skip > 0 {
            self.skip -= 1;
            return Flow::Go;
        }
        let bytes = match raybolt_wire::value::check(&item) {
            Ok(bytes) => bytes,
            Err(refused) => {
                let (task, because) = (self.task.to_owned(), refused.to_string());
                self.channel.fail(Error::new(Kind::Encode { task, because }));
                return Flow::Stop;
            }
        };
        let pushed = session::with(|session| {
            self.wait_for_room(session);
            if self.channel.lock().is_stopped() {
                return Flow::Stop;
            }
            match ObjectRef::stored(session, item, bytes, |_| Ok(())) {
                Ok(item) => self.channel.push(item),
                Err(error) => {
                    self.channel.fail(error);
                    return Flow::Stop;
                }
            }
            Flow::Go
        });
        pushed.unwrap_or_else(|_| {
            ended(&**self.channel); // Or it would look as if there were no more items.
            Flow::Stop
        })
    }

    fn wait_for_room(&self, session: &Arc<Session>) {
        if self.channel.lock().is_full() {
            // STREAM-3: a session that ends looks for those who stand here.
            let stalled = session.stalled.enter(self.channel.clone());
            let sleeper = session.awaited.enter_for(What::Reader(self.channel.hold.key()), false);
            session.blocking(|| self.channel.wait(None, State::is_full));
            drop(sleeper);
            drop(stalled);
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

    fn unpack(_bytes: &mut &[u8]) -> std::result::Result<Self, Unreadable> {
        Ok(Items(PhantomData))
    }
}

impl<T> Channel<T> {
    fn new(epoch: u32, end: Option<Result<()>>) -> Self {
        Channel {
            hold: Hold::new(epoch),
            state: Mutex::new(State {
                items: VecDeque::new(),
                bound: STREAM_BUFFER,
                made: 0,
                end,
                is_abandoned: false,
                waiting: 0,
                reader: None,
            }),
            changed: Condvar::new(),
        }
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
            self.0.lock().bound = bound;
        }
    }

    fn fail(&self, error: &Error) {
        self.0.fail(error.clone());
    }

    fn is_watched(&self) -> bool {
        let state = self.0.lock();
        state.waiting > 0 || state.reader.is_some()
    }

    fn weak(&self) -> Vec<Weak<dyn AnyObject>> {
        let object: Arc<dyn AnyObject> = self.0.clone();
        vec![Arc::downgrade(&object)]
    }

    fn pack(&self, _task: &str, _out: &mut Vec<u8>) -> Result<()> {
        match &self.0.lock().end {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    #[allow(private_interfaces, reason = "part of no API")]
    fn each(&self, see: &mut dyn FnMut(&Hold, Weak<dyn AnyObject>)) {
        let object: Arc<dyn AnyObject> = self.0.clone();
        see(&self.0.hold, Arc::downgrade(&object));
    }
}

impl<T: Send + Sync + 'static> AnyObject for Channel<T> {
    fn key(&self) -> ObjectKey {
        self.hold.key()
    }

    fn id(&self) -> u64 {
        self.hold.id()
    }

    fn fail(&self, error: Error) -> bool {
        self.end(Err(error))
    }

    fn error(&self) -> Option<Error> {
        self.lock().end.as_ref().and_then(|end| end.as_ref().err()).cloned()
    }

    fn is_ready(&self) -> bool {
        self.lock().end.is_some()
    }

    fn watch(&self, waiter: Waiter) -> std::result::Result<(), Waiter> {
        Err(waiter) // Nobody waits for a stream as a whole.
    }

    fn pack(&self, _out: &mut Vec<u8>) -> Result<()> {
        Err(Error::new(Kind::Invalid("a stream stays where it is".into())))
    }

    fn arrived(&self, value: Result<Arc<Encoded>>) -> bool {
        self.end(value.map(drop))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Generators that wait for room in their stream, for a session that ends.
#[derive(Default)]
pub(crate) struct Stalled(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    channels: Vec<Arc<dyn AnyObject>>,
    ended: bool,
}

/// One of them, until it goes on.
struct Entered<'a> {
    stalled: &'a Stalled,
    key: ObjectKey,
}

impl Stalled {
    fn enter(&self, channel: Arc<dyn AnyObject>) -> Entered<'_> {
        let key = channel.key();
        let mut waiting = self.lock();
        if waiting.ended {
            drop(waiting);
            ended(&*channel);
        } else {
            waiting.channels.push(channel);
        }
        Entered { stalled: self, key }
    }

    /// Nobody waits from now on.
    pub(crate) fn end(&self) {
        let channels = {
            let mut waiting = self.lock();
            waiting.ended = true;
            std::mem::take(&mut waiting.channels)
        };
        for channel in channels {
            ended(&*channel);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

fn ended(channel: &dyn AnyObject) {
    let what = "the rest of a stream".to_owned();
    channel.fail(Error::new(Kind::SessionEnded { what }));
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.stalled.lock().channels.retain(|channel| channel.key() != self.key);
    }
}
