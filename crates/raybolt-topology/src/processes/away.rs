//! Calls of hosts that are under way.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use raybolt_runtime::error::Error;
use raybolt_runtime::object::ObjectRef;
use raybolt_wire::Value;

use crate::task::Task;

/// The answer of a call that was made.
pub(super) struct Away<T> {
    answer: Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>,
    ready: Option<Result<T, Error>>,
}

impl<T: Value> Away<T> {
    pub(super) fn new(answer: ObjectRef<T>) -> Self {
        Away { answer: answer.into_future(), ready: None }
    }

    /// Whether the answer is there; if not, `waker` is woken when it is.
    pub(super) fn look(&mut self, waker: &Waker) -> bool {
        if self.ready.is_none()
            && let Poll::Ready(answer) = self.answer.as_mut().poll(&mut Context::from_waker(waker))
        {
            self.ready = Some(answer);
        }
        self.ready.is_some()
    }

    /// The answer, if [`Away::look`] has seen it.
    pub(super) fn take(&mut self) -> Option<Result<T, Error>> {
        self.ready.take()
    }
}

/// The answer, if it is there.
pub(super) fn taken<T: Value>(
    away: &mut Option<Away<T>>,
    waker: Option<&Waker>,
) -> Option<Result<T, Error>> {
    let call = away.as_mut()?;
    if !call.look(waker?) {
        return None;
    }
    let answer = call.take();
    *away = None;
    answer
}

/// Registers for the answer; whoever asked goes on first, also if it is there at once.
pub(super) fn rouse_if_ready<T: Value>(away: &mut Option<Away<T>>, waker: Option<&Waker>) {
    if let (Some(call), Some(waker)) = (away, waker)
        && call.look(waker)
    {
        waker.wake_by_ref();
    }
}

/// What notifies an instance.
pub(super) fn rousing(task: Weak<Task>) -> Waker {
    Waker::from(Arc::new(Rouse(task)))
}

struct Rouse(Weak<Task>);

impl Wake for Rouse {
    fn wake(self: Arc<Self>) {
        if let Some(task) = self.0.upgrade() {
            task.notify();
        }
    }
}
