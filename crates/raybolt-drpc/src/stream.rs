//! A result that comes in parts: read them as they come, or drop the rest to cancel the request.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use raybolt_core::drpc::{DrpcError, Outcome};
use raybolt_core::ids::RequestId;
use raybolt_runtime::session::blocking;

use crate::pending::Reply;
use crate::server::Server;

/// Where the parts of one request arrive. Bounded: a reader that is too slow ends its request, since
/// making the topology wait for it would make all other callers wait as well.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    parts_max: usize,
}

#[derive(Default)]
struct State {
    parts: VecDeque<Bytes>,
    end: Option<Result<(), DrpcError>>,
    waker: Option<Waker>,
}

/// The queue takes no more parts.
pub(crate) struct Full {
    pub parts_max: usize,
}

impl Queue {
    pub fn new(parts_max: usize) -> Self {
        Queue { state: Mutex::default(), changed: Condvar::new(), parts_max }
    }

    pub fn push(&self, part: Bytes) -> Result<(), Full> {
        let mut state = self.lock();
        if state.parts.len() >= self.parts_max {
            return Err(Full { parts_max: self.parts_max });
        }
        state.parts.push_back(part);
        self.tell(state);
        Ok(())
    }

    pub fn end(&self, outcome: Outcome<Bytes>) {
        let end = match outcome {
            Outcome::Completed => Ok(()),
            Outcome::Failed(error) => Err(error),
            Outcome::Result(_) => unreachable!("a streamed request gets its results as parts"),
        };
        let mut state = self.lock();
        state.end = Some(end);
        self.tell(state);
    }

    fn wait(&self) -> Item {
        let mut state = self.lock();
        loop {
            match state.next() {
                Some(item) => return item,
                None => state = self.changed.wait(state).expect("the stream's lock is sound"),
            }
        }
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds a stream's lock")
    }
}

impl State {
    /// The next item of the stream; `None` while there is none yet.
    fn next(&mut self) -> Option<Item> {
        if let Some(part) = self.parts.pop_front() {
            return Some(Item::Part(part));
        }
        match self.end.as_mut()? {
            Ok(()) => Some(Item::End),
            // The error is told once; then the stream has ended.
            error => {
                Some(Item::Error(std::mem::replace(error, Ok(())).expect_err("matched above")))
            }
        }
    }
}

enum Item {
    Part(Bytes),
    Error(DrpcError),
    End,
}

/// The parts of a streamed result, as an iterator that waits for each; it ends when the topology is
/// done with the request. Dropping it cancels the request.
///
/// When the request fails, its error is the last item: the parts before it were emitted, others may be missing.
/// A part that is no `T` is an error in its place, and the next parts follow.
#[must_use = "a dropped request is cancelled"]
pub struct Parts<T> {
    queue: Arc<Queue>,
    server: Arc<Server>,
    request: RequestId,
    function: Box<str>,
    reply: PhantomData<fn() -> T>,
}

impl<T: Reply> Parts<T> {
    pub(crate) fn new(
        queue: Arc<Queue>,
        server: Arc<Server>,
        request: RequestId,
        function: &str,
    ) -> Self {
        Parts { queue, server, request, function: function.into(), reply: PhantomData }
    }

    /// The request's number at its server.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The next part, without blocking a thread.
    ///
    /// # Cancel safety
    /// A dropped future takes no part.
    pub async fn next_part(&mut self) -> Option<Result<T, DrpcError>> {
        poll_fn(|cx| self.poll_part(cx)).await
    }

    /// The next part, or `Pending` until the context's waker is called.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, DrpcError>>> {
        let mut state = self.queue.lock();
        match state.next() {
            Some(item) => {
                drop(state);
                Poll::Ready(self.read(item))
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn read(&self, item: Item) -> Option<Result<T, DrpcError>> {
        match item {
            Item::Part(part) => Some(T::from_bytes(part, &self.function, self.request)),
            Item::Error(error) => Some(Err(error)),
            Item::End => None,
        }
    }
}

impl<T: Reply> Iterator for Parts<T> {
    type Item = Result<T, DrpcError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.queue.lock().next();
        let item = item.unwrap_or_else(|| blocking(|| self.queue.wait()));
        self.read(item)
    }
}

impl<T> Drop for Parts<T> {
    fn drop(&mut self) {
        let open = self.queue.lock().end.is_none();
        if open {
            self.server.event(|broker| broker.cancelled(self.request));
        }
    }
}

impl<T> fmt::Debug for Parts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("request", &self.request).finish_non_exhaustive()
    }
}
