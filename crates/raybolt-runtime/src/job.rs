//! A task as a worker gets it: what to run, and where the result goes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use raybolt_core::calls::lineage::RecordKey;
use raybolt_core::calls::owner::ClassId;
use raybolt_wire::work::Code;

use crate::args::{Arguments, Form};
use crate::context::{self, Context, Within};
use crate::error::{Error, Kind, TaskError};
use crate::object::AnyObject;
use crate::options::{RetryOn, TaskOptions};
use crate::output::{Cells, Output};
use crate::panics;
use crate::processes::code;
use crate::processes::inlet::Inlet;
use crate::processes::lineage::{self, Draft, Unkept};
use crate::processes::raw::RawJob;
use crate::processes::serve::Incoming;
use crate::timeline::{self, Sort};

/// A remote function, as its macro declares it once.
pub struct Function {
    name: &'static str,
    /// Whether it is `async`, and so holds no CPU by default.
    is_async: bool,
    /// The class of its tasks with default options, and the session that interned it.
    class: AtomicU64,
}

impl Function {
    /// A function of this name.
    pub const fn new(name: &'static str, is_async: bool) -> Self {
        Function { name, is_async, class: AtomicU64::new(0) }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_async(&self) -> bool {
        self.is_async
    }

    pub(crate) fn cached_class(&self, epoch: u32) -> Option<ClassId> {
        let cached = self.class.load(Ordering::Relaxed);
        (cached >> 32 == u64::from(epoch)).then_some(ClassId(cached as u32))
    }

    pub(crate) fn cache_class(&self, epoch: u32, class: ClassId) {
        self.class.store(u64::from(epoch) << 32 | u64::from(class.0), Ordering::Relaxed);
    }
}

/// An error that user code returned.
pub struct Failure(Box<dyn std::error::Error + Send + Sync>);

impl Failure {
    /// What a function returned in its `Err`.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Failure(error.into())
    }
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What calling the function gave.
pub enum Step<O: Output> {
    /// It has run.
    Done(Result<O, Failure>),
    /// It is async.
    Later(Later<Result<O, Failure>>),
    /// It makes its values one by one, and needs to know where they go.
    Into(Maker<O>),
}

/// Makes values and puts them where they go, in the name of a task.
type Maker<O> = Box<dyn FnOnce(&str, &<O as Output>::Cells) -> Result<O, Failure> + Send>;

impl<O: Output> Step<O> {
    /// The outcome of a function that returns at once.
    pub fn done(result: Result<O, Failure>) -> Self {
        Step::Done(result)
    }

    /// The outcome of an async function.
    pub fn later(future: impl Future<Output = Result<O, Failure>> + Send + 'static) -> Self {
        Step::Later(Box::pin(future))
    }

    /// The outcome of a generator: it runs when it knows its task's name and where its items go.
    pub fn into(make: impl FnOnce(&str, &O::Cells) -> Result<O, Failure> + Send + 'static) -> Self {
        Step::Into(Box::new(make))
    }

    fn run(self, task: &str, attempt: u32, cells: &O::Cells) -> Ran<O> {
        let returned = |failure| returned(task, attempt, &failure);
        match self {
            Step::Done(result) => Ran::Done(result.map_err(returned)),
            Step::Later(future) => Ran::Later(future),
            Step::Into(make) => Ran::Done(make(task, cells).map_err(returned)),
        }
    }
}

/// A step that has been taken.
enum Ran<O> {
    Done(Result<O, Box<TaskError>>),
    Later(Later<Result<O, Failure>>),
}

/// How an attempt ended.
#[doc(hidden)]
pub enum Ended {
    /// The values are delivered; so many bytes.
    Success(usize),
    /// The error is delivered.
    Failed,
    /// Worth another attempt; `error` is delivered if there is none.
    Retry { job: Box<dyn Job>, error: Error },
    /// A task of a worker has failed, and the worker has to say whether it is worth another attempt.
    #[allow(private_interfaces, reason = "part of no API")]
    Unsure { job: Box<RawJob>, error: Error },
}

/// An attempt that has begun.
#[doc(hidden)]
pub enum Began {
    Ended(Ended),
    Later(Later<Ended>),
}

/// A task as a worker gets it.
#[doc(hidden)]
pub trait Job: Send + Sync {
    /// Runs it in the given context.
    fn run(self: Box<Self>, context: Context) -> Began;
    /// It will not run: delivers `error`, or else the error of the argument that failed.
    fn fail(self: Box<Self>, error: Option<Error>);
    /// Whether somebody waits for what it makes.
    fn is_watched(&self) -> bool;
    /// Its name for messages.
    fn name(&self) -> &str;
    /// When it must have ended.
    fn deadline(&self) -> Option<Instant>;
    /// What a worker process runs.
    fn code(&self) -> Result<Code, Error>;
    /// Appends its arguments.
    fn pack(&self, out: &mut Vec<u8>) -> Result<(), Error>;
    /// What names the task to those who read messages, if it is not its function.
    fn own_name(&self) -> Option<&str>;
    /// What it takes to run it again when its values are lost.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "part of no API")]
    fn draft(&self) -> Result<Draft, Unkept>;
    /// The record whose values it makes again, if it does.
    fn again(&self) -> Option<RecordKey> {
        None
    }
    /// Where items go that a worker sends one by one.
    fn inlet(&self) -> Option<Arc<dyn Inlet>> {
        None
    }
    /// A worker process has answered: `Ok` with the values, or else the error.
    /// `keeps` are the objects that the values refer to.
    fn answered(
        self: Box<Self>,
        attempt: u32,
        answer: Result<&[u8], Error>,
        keeps: Vec<Arc<dyn AnyObject>>,
    ) -> Ended;
}

/// The job of a typed function.
pub(crate) struct TaskJob<A: Arguments, O: Output> {
    pub(crate) function: &'static Function,
    pub(crate) args: A,
    pub(crate) cells: O::Cells,
    pub(crate) run: fn(A::Held) -> Step<O>,
    pub(crate) options: TaskOptions,
}

impl<A: Arguments, O: Output> Job for TaskJob<A, O> {
    fn run(self: Box<Self>, context: Context) -> Began {
        let attempt = context.attempt;
        let retry = match panics::catch(self.name(), attempt, || self.retry()) {
            Ok(retry) => retry,
            Err(error) => return Began::Ended(fail(error, &self.cells)),
        };
        let TaskJob { function, args, cells, run, options } = *self;
        let name = task_name(function, &options);
        let span = timeline::span(Sort::Task, name, Some(&context));
        let held = args.hold();
        let begin = || context::enter(context, || run(held).run(name, attempt, &cells));
        let result = match panics::catch(name, attempt, begin) {
            Ok(Ran::Later(future)) => {
                let future =
                    Within::new(context, CatchPanic { future, function, options, attempt });
                let span = span.into_async();
                return Began::Later(Box::pin(async move {
                    let (options, result) = future.await;
                    drop(span);
                    let name = task_name(function, &options);
                    refuse_late(name, &options, &cells);
                    settle(name, attempt, cells, |cells| conclude(name, result, cells, retry))
                }));
            }
            Ok(Ran::Done(result)) => result,
            Err(error) => Err(error),
        };
        drop(span); // Before anyone is told: who has the result finds the task on the timeline.
        refuse_late(name, &options, &cells);
        Began::Ended(settle(name, attempt, cells, |cells| conclude(name, result, cells, retry)))
    }

    fn fail(self: Box<Self>, error: Option<Error>) {
        let error = error.or_else(|| self.args.error()).unwrap_or_else(|| {
            let message = format!("an argument of task `{}` failed", self.name());
            Error::new(Kind::Invalid(message))
        });
        self.cells.fail(&error);
        let TaskJob { function, args, options, .. } = *self;
        panics::drop_here(task_name(function, &options), args);
    }

    fn is_watched(&self) -> bool {
        self.cells.is_watched()
    }

    fn name(&self) -> &str {
        task_name(self.function, &self.options)
    }

    fn deadline(&self) -> Option<Instant> {
        self.options.until().map(|(until, _)| until)
    }

    fn code(&self) -> Result<Code, Error> {
        code_of::<A, O>(self.function, self.run)
    }

    fn pack(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.args.pack(self.name(), Form::Values, out)?;
        self.cells.announce(out);
        Ok(())
    }

    fn inlet(&self) -> Option<Arc<dyn Inlet>> {
        self.cells.inlet()
    }

    fn own_name(&self) -> Option<&str> {
        self.options.settings().and_then(|set| set.name.as_deref())
    }

    #[allow(private_interfaces, reason = "part of no API")]
    fn draft(&self) -> Result<Draft, Unkept> {
        let name = self.name();
        let checked = panics::catch(name, 0, || self.args.check());
        let checked = checked.map_err(|panic| Unkept::Unpackable(panic.to_string()))?;
        let (bytes, _) = checked.map_err(|error| Unkept::Unpackable(error.to_string()))?;
        if bytes > lineage::ARGS_BYTES_MAX {
            return Err(Unkept::LongArguments);
        }
        let code = self.code().map_err(|error| Unkept::Unpackable(error.to_string()))?;
        let pack = |out: &mut Vec<u8>| self.args.pack(name, Form::Kept, out);
        lineage::draft((name, self.own_name()), code, pack)
    }

    fn answered(
        self: Box<Self>,
        attempt: u32,
        answer: Result<&[u8], Error>,
        keeps: Vec<Arc<dyn AnyObject>>,
    ) -> Ended {
        let name = self.name();
        let delivered = answer.and_then(|mut bytes| {
            refuse_late(name, &self.options, &self.cells);
            self.cells.arrived(name, &mut bytes, &keeps)
        });
        drop(keeps); // The values hold what they refer to themselves now.
        let retry = match delivered.as_ref().err().and_then(Error::task_error) {
            None => None,
            Some(_) => panics::catch(name, attempt, || self.retry()).unwrap_or_default(),
        };
        let TaskJob { function, args, cells, options, .. } = *self;
        let name = task_name(function, &options);
        panics::drop_here(name, args);
        refuse_late(name, &options, &cells);
        settle(name, attempt, cells, |cells| match delivered {
            Ok(bytes) => Ended::Success(bytes),
            Err(error) => match (error.task_error(), retry) {
                (Some(failure), Some(retry)) if (retry.when)(failure) => {
                    Ended::Retry { job: Box::new(retry.job), error }
                }
                (Some(failure), _) => fail(Box::new(failure.clone()), cells),
                (None, _) => {
                    cells.fail(&error);
                    Ended::Failed
                }
            },
        })
    }
}

/// What names a function to another process of this executable.
pub(crate) fn code_of<A: Arguments, O: Output>(
    function: &'static Function,
    run: fn(A::Held) -> Step<O>,
) -> Result<Code, Error> {
    let foreign = |foreign: code::Foreign| {
        Error::new(Kind::Invalid(format!("`{}` cannot run in a worker: {foreign}", function.name)))
    };
    let shell: fn(Incoming<'_>) -> Began = shell::<A, O>;
    Ok(Code {
        shell: code::offset_of(shell as *const () as usize).map_err(foreign)?,
        body: code::offset_of(run as *const () as usize).map_err(foreign)?,
        declared: code::offset_of_static(function).map_err(foreign)?,
    })
}

/// Runs a task that another process submitted, and answers it.
pub(crate) fn shell<A: Arguments, O: Output>(incoming: Incoming<'_>) -> Began {
    let Incoming { reply, run, body, loan } = incoming;
    // SAFETY: `TaskJob::<A, O>::pack` named these together with this instance of the shell.
    let found =
        unsafe { (code::place::<Function>(run.code.declared), code::function(run.code.body)) };
    let (Ok(function), Ok(body_of)) = found else {
        return reply.refuse(Error::new(Kind::Decode {
            task: "task".into(),
            because: "it names code that this program does not have".into(),
        }));
    };
    let body_of: fn(A::Held) -> Step<O> = body_of;
    let mut bytes = body;
    let (cells, refs) = O::pending(0);
    let outlet = |until| reply.outlet(until);
    let unpacked = A::unpack(&mut bytes);
    let connected = unpacked.and_then(|args| cells.connect(&mut bytes, &outlet).map(|()| args));
    let args = match connected {
        Ok(args) => args,
        Err(error) => {
            let (task, because) = (function.name.into(), error.to_string());
            return reply.refuse(Error::new(Kind::Decode { task, because }));
        }
    };
    drop(loan);
    let mut options = TaskOptions::default();
    if let Some(name) = &run.name {
        options = options.name(name.as_str());
    }
    let context = reply.context(&run);
    let job = TaskJob { function, args, cells: cells.clone(), run: body_of, options };
    let name = run.name.unwrap_or_else(|| function.name.to_owned());
    let finish = move |ended: &Ended| {
        reply.finish(|out| match ended {
            Ended::Success(_) | Ended::Failed => cells.pack(&name, out),
            Ended::Retry { error, .. } | Ended::Unsure { error, .. } => Err(error.clone()),
        });
        drop(refs);
    };
    match Box::new(job).run(context) {
        Began::Ended(ended) => {
            finish(&ended);
            Began::Ended(ended)
        }
        Began::Later(future) => Began::Later(Box::pin(async move {
            let ended = future.await;
            finish(&ended);
            ended
        })),
    }
}

impl<A: Arguments, O: Output> TaskJob<A, O> {
    /// What another attempt needs, if failures of user code may be worth one.
    fn retry(&self) -> Option<Retry<A, O>> {
        let when = self.options.settings().and_then(|set| set.retry_on.clone())?;
        let job = TaskJob {
            function: self.function,
            args: self.args.clone(),
            cells: self.cells.clone(),
            run: self.run,
            options: self.options.clone(),
        };
        Some(Retry { when, job })
    }
}

struct Retry<A: Arguments, O: Output> {
    when: RetryOn,
    job: TaskJob<A, O>,
}

pub(crate) fn task_name<'a>(function: &'a Function, options: &'a TaskOptions) -> &'a str {
    options.settings().and_then(|set| set.name.as_deref()).unwrap_or(function.name)
}

pub(crate) fn returned(name: &str, attempt: u32, failure: &Failure) -> Box<TaskError> {
    Box::new(TaskError::returned(name, attempt, &*failure.0))
}

fn conclude<A: Arguments, O: Output>(
    name: &str,
    result: Result<O, Box<TaskError>>,
    cells: &O::Cells,
    retry: Option<Retry<A, O>>,
) -> Ended {
    match (result, retry) {
        (Ok(output), _) => deliver(name, output, cells),
        (Err(error), Some(retry)) if (retry.when)(&error) => {
            Ended::Retry { job: Box::new(retry.job), error: Error::new(Kind::Task(*error)) }
        }
        (Err(error), _) => fail(error, cells),
    }
}

/// Puts the outcome where it goes, and lets go of the place: the value's own code runs, to be written
/// and to be dropped if nobody wants it. What that panics with is the task's error if there is no
/// other outcome yet.
pub(crate) fn settle<C: Cells>(
    name: &str,
    attempt: u32,
    cells: C,
    conclude: impl FnOnce(&C) -> Ended,
) -> Ended {
    let (mut place, mut ended) = (Some(cells), None);
    let settled = panics::catch(name, attempt, || {
        ended = place.as_ref().map(conclude);
        place = None;
    });
    match (settled, ended, place) {
        (Ok(()), Some(ended), _) => ended,
        (Err(error), Some(ended), _) => {
            crate::failures::record(&error, true);
            ended
        }
        (Err(error), None, Some(cells)) => fail(error, &cells),
        (_, None, _) => unreachable!("the place is let go after the outcome is known"),
    }
}

/// What comes too late is not wanted, also if the timer has not said so yet: its error comes first.
pub(crate) fn refuse_late(name: &str, options: &TaskOptions, cells: &impl Cells) {
    if let Some((until, after)) = options.until()
        && Instant::now() >= until
    {
        cells.fail(&Error::new(Kind::Deadline { task: name.into(), after }));
    }
}

pub(crate) fn deliver<O: Output>(name: &str, output: O, cells: &O::Cells) -> Ended {
    match output.deliver(name, cells) {
        Ok(bytes) => Ended::Success(bytes),
        Err(error) => {
            cells.fail(&error);
            Ended::Failed
        }
    }
}

pub(crate) fn fail(error: Box<TaskError>, cells: &impl Cells) -> Ended {
    let unseen = !cells.is_watched();
    crate::failures::record(&error, unseen);
    cells.fail(&Error::new(Kind::Task(*error)));
    Ended::Failed
}

/// A user's future; a panic while it is polled becomes an error.
struct CatchPanic<O> {
    future: Later<Result<O, Failure>>,
    function: &'static Function,
    options: TaskOptions,
    attempt: u32,
}

impl<O> Future for CatchPanic<O> {
    type Output = (TaskOptions, Result<O, Box<TaskError>>);

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let this = &mut *self;
        let name = task_name(this.function, &this.options);
        let polled = panics::catch(name, this.attempt, || {
            let returned = |failure| returned(name, this.attempt, &failure);
            this.future.as_mut().poll(cx).map(|result| result.map_err(returned))
        });
        let result = match polled {
            Ok(std::task::Poll::Pending) => return std::task::Poll::Pending,
            Ok(std::task::Poll::Ready(result)) => result,
            Err(error) => Err(error),
        };
        std::task::Poll::Ready((std::mem::take(&mut this.options), result))
    }
}

/// What a shared, erased job needs to be told apart in reports.
impl std::fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({})", self.name())
    }
}
