//! A call of an actor's method, as its runner gets it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use raybolt_core::calls::queue::Mode;
use raybolt_wire::work::{MethodCode, Offset};
use tokio::sync::RwLock;

use crate::args::Arguments;
use crate::context::{self, Context, Within};
use crate::error::{Error, Kind, TaskError};
use crate::job::{Began, Ended, Failure, deliver, fail, refuse_late, returned, settle};
use crate::options::TaskOptions;
use crate::output::{Cells, Output};
use crate::panics;
use crate::processes::code::{self, Foreign};
use crate::timeline::{self, Sort, Span};

/// What an async method returns.
pub type MethodFuture<'a, O> = Pin<Box<dyn Future<Output = Result<O, Failure>> + Send + 'a>>;

/// A method, as its macro declares it once.
pub struct Method<A, H, O: Output> {
    /// `Type::method`.
    pub name: &'static str,
    /// Its concurrency group: an index into the class's, 0 for the default one.
    pub group: usize,
    /// What it runs.
    pub body: Body<A, H, O>,
}

/// What a method runs, and whether others may run beside it.
pub enum Body<A, H, O: Output> {
    /// `fn(&mut self, ..)`
    Exclusive(fn(&mut A, H) -> Result<O, Failure>),
    /// `fn(&self, ..)`
    Shared(fn(&A, H) -> Result<O, Failure>),
    /// `async fn(&mut self, ..)`
    AsyncExclusive(for<'a> fn(&'a mut A, H) -> MethodFuture<'a, O>),
    /// `async fn(&self, ..)`
    AsyncShared(for<'a> fn(&'a A, H) -> MethodFuture<'a, O>),
    /// `fn(&mut self, ..) -> impl Iterator`
    ExclusiveInto(fn(&mut A, H, &str, &O::Cells) -> Result<O, Failure>),
    /// `fn(&self, ..) -> impl Iterator`
    SharedInto(fn(&A, H, &str, &O::Cells) -> Result<O, Failure>),
}

impl<A, H, O: Output> Body<A, H, O> {
    pub(crate) fn mode(&self) -> Mode {
        match self {
            Body::Exclusive(_) | Body::AsyncExclusive(_) | Body::ExclusiveInto(_) => {
                Mode::Exclusive
            }
            Body::Shared(_) | Body::AsyncShared(_) | Body::SharedInto(_) => Mode::Shared,
        }
    }
}

impl<A, H, O: Output> Body<A, H, O> {
    /// How another process names it: its kind, and where its function stands.
    pub(crate) fn named(&self) -> Result<(u8, Offset), Foreign> {
        let (kind, address) = match *self {
            Body::Exclusive(run) => (0, run as *const () as usize),
            Body::Shared(run) => (1, run as *const () as usize),
            Body::AsyncExclusive(run) => (2, run as *const () as usize),
            Body::AsyncShared(run) => (3, run as *const () as usize),
            Body::ExclusiveInto(run) => (4, run as *const () as usize),
            Body::SharedInto(run) => (5, run as *const () as usize),
        };
        Ok((kind, code::offset_of(address)?))
    }

    /// The method that another process named.
    ///
    /// # Safety
    /// The other process named a `Body<A, H, O>`.
    pub(crate) unsafe fn found(method: MethodCode) -> Result<Self, Foreign> {
        let place = method.body;
        // SAFETY: by the caller's promise a method of this kind and these types stands there.
        unsafe {
            Ok(match method.kind {
                0 => Body::Exclusive(code::function(place)?),
                1 => Body::Shared(code::function(place)?),
                2 => Body::AsyncExclusive(code::function(place)?),
                3 => Body::AsyncShared(code::function(place)?),
                4 => Body::ExclusiveInto(code::function(place)?),
                5 => Body::SharedInto(code::function(place)?),
                _ => return Err(Foreign),
            })
        }
    }
}

impl<A, H, O: Output> Clone for Body<A, H, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, H, O: Output> Copy for Body<A, H, O> {}

/// A call of an actor of type `A`.
pub(crate) trait MethodJob<A>: Send {
    fn run(self: Box<Self>, state: Arc<RwLock<Option<A>>>, context: Context) -> Began;
    fn fail(self: Box<Self>, error: Option<Error>);
    /// The method's name.
    fn name(&self) -> &'static str;
    fn deadline(&self) -> Option<Instant>;
}

pub(crate) struct TypedCall<A, X: Arguments, O: Output> {
    pub(crate) name: &'static str,
    pub(crate) body: Body<A, X::Held, O>,
    pub(crate) args: X,
    pub(crate) cells: O::Cells,
    pub(crate) options: TaskOptions,
}

/// The queue (QUEUE-3) lets no call start that the state is not free for.
const FREE: &str = "the queue starts only calls that the state is free for";
const CREATED: &str = "calls start after the constructor and before the end";

impl<A, X, O> MethodJob<A> for TypedCall<A, X, O>
where
    A: Send + Sync + 'static,
    X: Arguments,
    X::Held: Send,
    O: Output,
{
    fn run(self: Box<Self>, state: Arc<RwLock<Option<A>>>, context: Context) -> Began {
        let TypedCall { name, body, args, cells, options } = *self;
        let held = args.hold();
        let called = call_name(name, &options);
        let span = timeline::span(Sort::Call, called, Some(&context));
        let returned = |failure| returned(called, 0, &failure);
        let result = match body {
            Body::Exclusive(run) => {
                let mut state = state.try_write().expect(FREE);
                let state = state.as_mut().expect(CREATED);
                panics::catch(called, 0, || {
                    context::enter(context, || run(state, held).map_err(returned))
                })
            }
            Body::Shared(run) => {
                let state = state.try_read().expect(FREE);
                let state = state.as_ref().expect(CREATED);
                panics::catch(called, 0, || {
                    context::enter(context, || run(state, held).map_err(returned))
                })
            }
            Body::ExclusiveInto(run) => {
                let mut state = state.try_write().expect(FREE);
                let state = state.as_mut().expect(CREATED);
                let run = || run(state, held, called, &cells).map_err(returned);
                panics::catch(called, 0, || context::enter(context, run))
            }
            Body::SharedInto(run) => {
                let state = state.try_read().expect(FREE);
                let state = state.as_ref().expect(CREATED);
                let run = || run(state, held, called, &cells).map_err(returned);
                panics::catch(called, 0, || context::enter(context, run))
            }
            Body::AsyncExclusive(run) => {
                return later(name, options.clone(), cells, (context, span), async move {
                    let mut state = state.try_write().expect(FREE);
                    let future = run(state.as_mut().expect(CREATED), held);
                    CatchPanic { name, options, future }.await
                });
            }
            Body::AsyncShared(run) => {
                return later(name, options.clone(), cells, (context, span), async move {
                    let state = state.try_read().expect(FREE);
                    let future = run(state.as_ref().expect(CREATED), held);
                    CatchPanic { name, options, future }.await
                });
            }
        };
        drop(span); // Before anyone is told: who has the result finds the call on the timeline.
        let result = result.and_then(std::convert::identity);
        refuse_late(called, &options, &cells);
        Began::Ended(settle(called, 0, cells, |cells| conclude::<O>(called, result, cells)))
    }

    fn fail(self: Box<Self>, error: Option<Error>) {
        let error = error.or_else(|| self.args.error()).unwrap_or_else(|| {
            let name = call_name(self.name, &self.options);
            Error::new(Kind::Invalid(format!("an argument of `{name}` failed")))
        });
        self.cells.fail(&error);
        let TypedCall { name, args, options, .. } = *self;
        panics::drop_here(call_name(name, &options), args);
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn deadline(&self) -> Option<Instant> {
        self.options.until().map(|(until, _)| until)
    }
}

/// The call's own name, if its options give it one.
pub(crate) fn call_name<'a>(method: &'a str, options: &'a TaskOptions) -> &'a str {
    options.settings().and_then(|set| set.name.as_deref()).unwrap_or(method)
}

fn later<O: Output>(
    name: &'static str,
    options: TaskOptions,
    cells: O::Cells,
    (context, span): (Context, Span),
    future: impl Future<Output = Result<O, Box<TaskError>>> + Send + 'static,
) -> Began {
    let span = span.into_async();
    let future = Within::new(context, future);
    Began::Later(Box::pin(async move {
        let result = future.await;
        drop(span);
        let name = call_name(name, &options);
        refuse_late(name, &options, &cells);
        settle(name, 0, cells, |cells| conclude::<O>(name, result, cells))
    }))
}

fn conclude<O: Output>(name: &str, result: Result<O, Box<TaskError>>, cells: &O::Cells) -> Ended {
    match result {
        Ok(output) => deliver(name, output, cells),
        Err(error) => fail(error, cells),
    }
}

/// A method's future; a panic while it is polled becomes an error.
struct CatchPanic<'a, O> {
    name: &'static str,
    options: TaskOptions,
    future: MethodFuture<'a, O>,
}

impl<O> Future for CatchPanic<'_, O> {
    type Output = Result<O, Box<TaskError>>;

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let CatchPanic { name, options, future } = &mut *self;
        let name = call_name(name, options);
        let polled = panics::catch(name, 0, || {
            let returned = |failure| returned(name, 0, &failure);
            future.as_mut().poll(cx).map(|result| result.map_err(returned))
        });
        polled.unwrap_or_else(|error| std::task::Poll::Ready(Err(error)))
    }
}
