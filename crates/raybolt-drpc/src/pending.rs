//! The caller's end of a request: wait for it, await it, or drop it to cancel.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raybolt_core::drpc::{DrpcError, Outcome};
use raybolt_core::ids::RequestId;
use raybolt_runtime::session::blocking;
use raybolt_runtime::slot::{Slot, Waiter};

use crate::server::Server;

/// What a caller reads a result as: text or bytes.
pub trait Reply: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn from_bytes(bytes: Bytes, function: &str, request: RequestId) -> Result<Self, DrpcError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for String {}
    impl Sealed for super::Bytes {}
}

impl Reply for Bytes {
    fn from_bytes(bytes: Bytes, _: &str, _: RequestId) -> Result<Self, DrpcError> {
        Ok(bytes)
    }
}

impl Reply for String {
    fn from_bytes(bytes: Bytes, function: &str, request: RequestId) -> Result<Self, DrpcError> {
        String::from_utf8(bytes.into()).map_err(|error| DrpcError::NotText {
            function: function.into(),
            request,
            valid_up_to: error.utf8_error().valid_up_to(),
        })
    }
}

/// Where the answer of one request arrives.
pub(crate) struct Call {
    answer: Slot<Result<Bytes, DrpcError>>,
}

impl Call {
    pub fn new() -> Self {
        Call { answer: Slot::new() }
    }

    /// BROKER-1 makes this the only answer.
    pub fn answer(&self, outcome: Outcome<Bytes>) {
        let answer = match outcome {
            Outcome::Result(bytes) => Ok(bytes),
            Outcome::Failed(error) => Err(error),
            Outcome::Completed => unreachable!("only streamed requests end without a result"),
        };
        let first = self.answer.set(answer).is_ok();
        debug_assert!(first, "BROKER-1");
    }
}

/// A request that is under way. Dropping it cancels the request.
///
/// It is a future, too: `drpc.submit("reach", url).await`.
#[must_use = "a dropped request is cancelled"]
pub struct Pending<T> {
    /// None once the answer was taken.
    call: Option<Arc<Call>>,
    /// None if the request was refused: there is nothing to cancel then.
    origin: Option<Origin>,
    watched: Option<Waker>,
    reply: PhantomData<fn() -> T>,
}

struct Origin {
    /// None if it is in another process.
    server: Option<Arc<Server>>,
    request: RequestId,
    function: Box<str>,
}

impl<T> Pending<T> {
    pub(crate) fn accepted(
        call: Arc<Call>,
        server: Arc<Server>,
        request: RequestId,
        function: &str,
    ) -> Self {
        let origin = Origin { server: Some(server), request, function: function.into() };
        Pending { call: Some(call), origin: Some(origin), watched: None, reply: PhantomData }
    }

    /// A request at a server of another process.
    pub(crate) fn elsewhere(call: Arc<Call>, function: &str) -> Self {
        let origin = Origin { server: None, request: RequestId(0), function: function.into() };
        Pending { call: Some(call), origin: Some(origin), watched: None, reply: PhantomData }
    }

    pub(crate) fn refused(error: DrpcError) -> Self {
        let call = Arc::new(Call { answer: Slot::ready(Err(error)) });
        Pending { call: Some(call), origin: None, watched: None, reply: PhantomData }
    }

    /// The request's number at its server; none if it was refused.
    pub fn request(&self) -> Option<RequestId> {
        self.origin.as_ref().map(|origin| origin.request)
    }

    /// Whether the answer is there.
    pub fn is_done(&self) -> bool {
        self.call.as_ref().is_none_or(|call| call.answer.is_set())
    }

    fn call(&self) -> &Call {
        self.call.as_ref().expect("a request is not used after its answer was taken")
    }
}

impl<T: Reply> Pending<T> {
    /// Waits for the answer; the request's deadline bounds the wait.
    ///
    /// # Errors
    /// Says why there is no result.
    pub fn wait(mut self) -> Result<T, DrpcError> {
        if !self.is_done() {
            blocking(|| self.call().answer.wait(None).is_some());
        }
        self.take()
    }

    /// Waits for at most `limit`; zero just looks.
    ///
    /// # Errors
    /// Gives the request back, still under way, when there is no answer by then.
    pub fn wait_for(mut self, limit: Duration) -> Result<Result<T, DrpcError>, Self> {
        if !self.is_done() && !limit.is_zero() {
            let until = Instant::now().checked_add(limit);
            blocking(|| self.call().answer.wait(until).is_some());
        }
        if self.is_done() { Ok(self.take()) } else { Err(self) }
    }

    /// Takes the answer, which must be there.
    fn take(&mut self) -> Result<T, DrpcError> {
        let call = self.call.take().expect("an answer is taken once");
        let answer = match Arc::try_unwrap(call) {
            Ok(call) => call.answer.into_inner(),
            // The thread that answered has not let go of it yet.
            Err(shared) => shared.answer.get().cloned(),
        };
        let bytes = answer.expect("the answer is there")?;
        let origin = self.origin.as_ref().expect("a refused request has no result");
        T::from_bytes(bytes, &origin.function, origin.request)
    }
}

impl<T: Reply> Future for Pending<T> {
    type Output = Result<T, DrpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.is_done() {
            return Poll::Ready(self.take());
        }
        if !self.watched.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.watched = Some(cx.waker().clone());
            let waiter = Waiter::Future(cx.waker().clone());
            if self.call().answer.watch(waiter).is_err() {
                return Poll::Ready(self.take());
            }
        }
        Poll::Pending
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        if self.is_done() {
            return;
        }
        if let Some(Origin { server: Some(server), request, .. }) = &self.origin {
            server.event(|broker| broker.cancelled(*request));
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("request", &self.request())
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}
