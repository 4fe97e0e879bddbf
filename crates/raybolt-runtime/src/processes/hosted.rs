//! The worker's side of actors: they live here, the driver keeps their calls in order.
//!
//! # Words
//! An actor is *hosted* by this process for its driver: an ordinary [`Actor`] whose calls come over the
//! link, and whose results go back there.
//!
//! # Protocol
//! 1. [`Hosts::begin`] makes the actor; its constructor runs like that of any other.
//! 2. Calls join its queue. If the server thread read them, it runs them too: that saves two wake-ups.
//! 3. When the actor has ended, for whatever reason, the driver is told once, after all answers.
//!
//! # Invariants
//! - **HOST-1 (answered).** Every call that arrives for an actor that lives here is answered, before the
//!   actor's end is told. Calls for an actor that does not live here any more need no answer: the driver
//!   hears of the end.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::{ActorKey, TaskKey};
use raybolt_core::calls::queue::{Call, CallerId};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_wire::work::{self, Host, ToDriver};
use slotmap::KeyData;
use tokio::sync::RwLock;

use crate::actor::{Actor, AnyActor, Create};
use crate::args::Arguments;
use crate::context::Context;
use crate::error::{Error, Kind, TaskError};
use crate::handle::ActorClass;
use crate::job::{Began, Ended, Failure, returned};
use crate::method::{Body, MethodJob, TypedCall};
use crate::options::TaskOptions;
use crate::output::{Cells, Output};
use crate::panics;
use crate::pool::Runnable;
use crate::processes::code::{self, Foreign};
use crate::processes::link::FRAME_MAX;
use crate::processes::outlet::Outlets;
use crate::processes::serve::{Reply, Serving};
use crate::processes::upstream::Loan;
use crate::session::Session;

/// The actors that live in this process.
#[derive(Default)]
pub(crate) struct Hosts(Mutex<HashMap<u64, Arc<Hosted>>>);

/// One of them.
pub(crate) struct Hosted {
    incarnation: u32,
    actor: Arc<dyn AnyActor>,
    /// The same, as `Actor<A>`.
    typed: Arc<dyn Any + Send + Sync>,
    calls: Arc<Unfinished>,
}

/// Calls that have not been answered: only they can be asked to stop.
#[derive(Default)]
struct Unfinished(Mutex<Vec<TaskKey>>);

/// What a hosted actor needs of its process.
pub(crate) struct Home {
    serving: Arc<Serving>,
    actor: u64,
    incarnation: u32,
    /// What its constructor failed with.
    failed: OnceLock<Error>,
    /// Whether the driver was told of its end.
    is_told: AtomicBool,
}

/// An actor as its shell gets it.
pub(crate) struct IncomingActor<'a> {
    serving: &'a Arc<Serving>,
    session: &'a Arc<Session>,
    host: Host,
    body: &'a [u8],
    loan: Option<Loan>,
}

/// A call as its shell gets it.
pub(crate) struct IncomingCall<'a> {
    hosted: &'a Hosted,
    serving: &'a Arc<Serving>,
    reply: Reply,
    call: work::Call,
    body: &'a [u8],
    loan: Option<Loan>,
}

/// What the shell of an actor's class is.
pub(crate) type ActorShell = fn(IncomingActor<'_>) -> Result<Hosted, Error>;
/// What the shell of a method is.
pub(crate) type CallShell = fn(IncomingCall<'_>);

thread_local! {
    /// What this thread, which reads the link, finds to be run.
    static FOUND: RefCell<Option<Vec<Arc<dyn Runnable>>>> = const { RefCell::new(None) };
}

/// Runs `read` on the thread that reads the link; says which runners it asked for.
pub(crate) fn collecting<R>(read: impl FnOnce() -> R) -> (R, Vec<Arc<dyn Runnable>>) {
    FOUND.set(Some(Vec::new()));
    let result = read();
    (result, FOUND.take().unwrap_or_default())
}

impl Hosts {
    /// An actor begins here.
    pub(crate) fn begin(
        &self,
        serving: &Arc<Serving>,
        session: &Arc<Session>,
        host: Host,
        body: &[u8],
        loan: Option<Loan>,
    ) {
        let home = Home::new(serving, &host);
        // SAFETY: a driver of this session, which runs this very file, named an actor's shell.
        let shell = unsafe { code::function::<ActorShell>(host.code.shell) };
        let actor = host.actor;
        let made = shell
            .map_err(|foreign| unknown(&host.name, &foreign))
            .and_then(|shell| shell(IncomingActor { serving, session, host, body, loan }));
        match made {
            Ok(hosted) => {
                let hosted = Arc::new(hosted);
                self.lock().insert(actor, hosted.clone());
                hosted.actor.clone().begin();
            }
            Err(error) => {
                let because = format!("its constructor failed: {error}");
                home.ended(because);
            }
        }
    }

    /// A call has arrived.
    pub(crate) fn call(
        &self,
        serving: &Arc<Serving>,
        call: work::Call,
        body: &[u8],
        loan: Option<Loan>,
    ) {
        let Some(hosted) = self.find(call.actor, call.incarnation) else { return };
        let reply = Reply::to_call(serving, &call);
        // SAFETY: a driver of this session, which runs this very file, named a method's shell.
        match unsafe { code::function::<CallShell>(call.method.shell) } {
            Ok(shell) => shell(IncomingCall { hosted: &hosted, serving, reply, call, body, loan }),
            Err(foreign) => {
                reply.refuse(unknown("call", &foreign));
                serving.link.flush();
            }
        }
    }

    /// A call shall not run, or stop.
    pub(crate) fn stop(&self, session: &Session, actor: u64, incarnation: u32, task: u64) {
        let Some(hosted) = self.find(actor, incarnation) else { return };
        let task = TaskKey::from(KeyData::from_ffi(task));
        if hosted.calls.stop(session, task) {
            let name = hosted.actor.name().to_owned();
            hosted.actor.clone().cancel(task, Some(Error::new(Kind::Cancelled { task: name })));
        }
    }

    /// An actor shall end.
    pub(crate) fn end(
        &self,
        outlets: &Outlets,
        actor: u64,
        incarnation: u32,
        because: Option<&str>,
    ) {
        let Some(hosted) = self.find(actor, incarnation) else { return };
        match because {
            Some(because) => {
                let (name, why) = (hosted.actor.name().to_owned(), because.to_owned());
                outlets
                    .end_actor(actor, &Error::new(Kind::ActorDied { actor: name, because: why }));
                hosted.actor.clone().kill(because);
            }
            None => hosted.actor.clone().let_end(),
        }
    }

    /// The actor's name, if a call of it runs that lets no other run beside it.
    pub(crate) fn runs_alone(&self, actor: u64) -> Option<String> {
        let hosted = self.lock().get(&actor).cloned()?;
        hosted.actor.runs_alone().then(|| hosted.actor.name().to_owned())
    }

    fn find(&self, actor: u64, incarnation: u32) -> Option<Arc<Hosted>> {
        self.lock().get(&actor).filter(|hosted| hosted.incarnation == incarnation).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Hosted>>> {
        self.0.lock().expect("no thread panics while it holds the hosted actors")
    }
}

impl Home {
    fn new(serving: &Arc<Serving>, host: &Host) -> Self {
        Home {
            serving: serving.clone(),
            actor: host.actor,
            incarnation: host.incarnation,
            failed: OnceLock::new(),
            is_told: AtomicBool::new(false),
        }
    }

    /// The actor's constructor failed; its end follows.
    pub(crate) fn failed(&self, error: &TaskError) {
        self.failed.get_or_init(|| Error::new(Kind::Task(error.clone())));
    }

    /// Sees that `runner` runs: here and now, if this is the thread that serves; else on the pool.
    pub(crate) fn run_soon(&self, session: &Session, runner: Arc<dyn Runnable>) {
        let left = FOUND.with_borrow_mut(|found| match found {
            Some(found) => {
                found.push(runner);
                None
            }
            None => Some(runner),
        });
        if let Some(runner) = left {
            session.pool.schedule(runner);
        }
    }

    /// Runs a slice of the actor's calls, and sends their answers.
    pub(crate) fn run<R>(&self, slice: impl FnOnce() -> R) -> R {
        self.serving.busy(slice)
    }

    /// The actor has ended, and all its calls are answered (HOST-1).
    pub(crate) fn ended(&self, because: String) {
        let Home { serving, actor, incarnation, failed, is_told } = self;
        // One that dies with calls still on their way may be settled again by the last of them.
        if is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        {
            let mut hosts = serving.hosts.lock();
            if hosts.get(actor).is_some_and(|hosted| hosted.incarnation == *incarnation) {
                hosts.remove(actor);
            }
        }
        let (actor, incarnation) = (*actor, *incarnation);
        let message = ToDriver::ActorEnded { actor, incarnation, because };
        serving.link.append(|out| {
            work::append(out, &message, FRAME_MAX, |out| {
                if let Some(error) = failed.get() {
                    out.extend(raybolt_wire::value::encode(error).expect("errors are data"));
                }
                Ok::<(), Error>(())
            })
            .expect("an error is shorter than a frame");
        });
        serving.link.flush();
    }
}

impl Unfinished {
    fn add(&self, task: TaskKey) {
        self.lock().push(task);
    }

    /// Asks a call to stop; says whether it is still there.
    fn stop(&self, session: &Session, task: TaskKey) -> bool {
        let calls = self.lock();
        let is_there = calls.contains(&task);
        if is_there {
            session.stop_task(task); // Under the lock: its end forgets it afterwards.
        }
        is_there
    }

    fn remove(&self, session: &Session, task: TaskKey) {
        let mut calls = self.lock();
        if let Some(index) = calls.iter().position(|call| *call == task) {
            calls.remove(index);
        }
        drop(calls);
        session.stop_is_over(task);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<TaskKey>> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

/// Makes an actor of class `A` for the driver.
pub(crate) fn actor_shell<A: Send + Sync + 'static, X: Arguments>(
    incoming: IncomingActor<'_>,
) -> Result<Hosted, Error> {
    let IncomingActor { serving, session, host, body, loan } = incoming;
    // SAFETY: the driver named these together with this instance of the shell.
    let found =
        unsafe { (code::place::<ActorClass>(host.code.declared), code::function(host.code.body)) };
    let (Ok(class), Ok(new)) = found else { return Err(unknown(&host.name, &Foreign)) };
    let new: fn(X::Held) -> Result<A, Failure> = new;
    let class = class.name;
    let body = body.to_vec();
    let create: Create<A> = Box::new(move || {
        let made = panics::catch(class, 0, || {
            let args = X::unpack(&mut &body[..]).map_err(|error| {
                let (task, because) = (class.into(), error.to_string());
                Failure::new(Error::new(Kind::Decode { task, because }))
            })?;
            drop(loan); // The arguments were read.
            new(args.hold())
        })?;
        made.map_err(|failure| returned(class, 0, &failure))
    });
    let actor = Arc::new(Actor::hosted(
        session.clone(),
        ActorKey::from(KeyData::from_ffi(host.actor)),
        host.name.as_str().into(),
        &host.limits.iter().map(|limit| *limit as usize).collect::<Vec<_>>(),
        host.pending_max as usize,
        create,
        Home::new(serving, &host),
        host.lease.map(|lease| LeaseKey::from(KeyData::from_ffi(lease))),
    ));
    Ok(Hosted {
        incarnation: host.incarnation,
        actor: actor.clone(),
        typed: actor,
        calls: Arc::default(),
    })
}

/// Takes a call of an actor of class `A` for the driver.
pub(crate) fn call_shell<A, X, O>(incoming: IncomingCall<'_>)
where
    A: Send + Sync + 'static,
    X: Arguments,
    X::Held: Send,
    O: Output,
{
    let IncomingCall { hosted, serving, reply, call, body, loan } = incoming;
    let method = call.method;
    // SAFETY: the driver named all three together with this instance of the shell.
    let found = unsafe {
        (code::text(method.name, method.name_bytes), Body::<A, X::Held, O>::found(method))
    };
    let (Ok(name), Ok(body_of)) = found else {
        reply.refuse(unknown("call", &Foreign));
        serving.link.flush();
        return;
    };
    let Ok(actor) = hosted.typed.clone().downcast::<Actor<A>>() else {
        let because = "it calls an actor of another class".to_owned();
        reply.refuse(Error::new(Kind::Decode { task: name.into(), because }));
        serving.link.flush();
        return;
    };
    let mut options = TaskOptions::default();
    if let Some(name) = &call.name {
        options = options.name(name.as_str());
    }
    let until = call.deadline_us.map(|left| Instant::now() + Duration::from_micros(left));
    let task = TaskKey::from(KeyData::from_ffi(call.task));
    hosted.calls.add(task);
    let back = Back { reply, task, calls: hosted.calls.clone(), serving: serving.clone() };
    let job = Box::new(HostedCall::<A, X, O> {
        name,
        body: body_of,
        bytes: body.to_vec(),
        loan,
        options,
        until,
        back,
    });
    let mode = body_of.mode();
    let queued = Call { task, group: usize::from(method.group), mode, job: job as Box<_> };
    if let Err(refused) = actor.submitted(CallerId(call.caller), queued, true) {
        refused.call.job.fail(Some(refused.error));
        serving.link.flush();
    }
}

fn unknown(task: &str, foreign: &Foreign) -> Error {
    Error::new(Kind::Decode { task: task.into(), because: foreign.to_string() })
}

/// A call that came over the link.
struct HostedCall<A, X: Arguments, O: Output> {
    name: &'static str,
    body: Body<A, X::Held, O>,
    bytes: Vec<u8>,
    /// What they refer to, until they are read.
    loan: Option<Loan>,
    options: TaskOptions,
    until: Option<Instant>,
    back: Back,
}

/// The way back of an answer.
struct Back {
    reply: Reply,
    task: TaskKey,
    calls: Arc<Unfinished>,
    serving: Arc<Serving>,
}

impl Back {
    fn finish(self, pack: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>) {
        let Back { reply, task, calls, serving } = self;
        reply.finish(pack);
        calls.remove(serving.session(), task);
        serving.flush_if_late();
    }
}

impl<A, X, O> MethodJob<A> for HostedCall<A, X, O>
where
    A: Send + Sync + 'static,
    X: Arguments,
    X::Held: Send,
    O: Output,
{
    fn run(self: Box<Self>, state: Arc<RwLock<Option<A>>>, context: Context) -> Began {
        let HostedCall { name, body, bytes, loan, options, back, until } = *self;
        if until.is_some_and(|until| Instant::now() >= until) {
            // Whoever made it has been told already, and how long it was given.
            let (task, after) = (name.into(), Duration::ZERO);
            back.finish(|_| Err(Error::new(Kind::Deadline { task, after })));
            return Began::Ended(Ended::Failed);
        }
        let (cells, refs) = O::pending(0);
        let mut rest = &bytes[..];
        let args = panics::catch(name, 0, || X::unpack(&mut rest)).map(|unpacked| {
            let outlet = |until| back.reply.outlet(until);
            unpacked.and_then(|args| cells.connect(&mut rest, &outlet).map(|()| args))
        });
        drop((bytes, loan));
        let args = match args {
            Ok(Ok(args)) => args,
            Ok(Err(error)) => {
                let (task, because) = (name.into(), error.to_string());
                back.finish(|_| Err(Error::new(Kind::Decode { task, because })));
                return Began::Ended(Ended::Failed);
            }
            Err(panicked) => {
                back.finish(|_| Err(Error::new(Kind::Task(*panicked))));
                return Began::Ended(Ended::Failed);
            }
        };
        let place = cells.clone();
        let call = Box::new(TypedCall { name, body, args, cells, options });
        match call.run(state, context) {
            Began::Ended(ended) => {
                back.finish(|out| place.pack(name, out));
                drop(refs);
                Began::Ended(ended)
            }
            Began::Later(future) => Began::Later(Box::pin(async move {
                let ended = future.await;
                let serving = back.serving.clone();
                back.finish(|out| place.pack(name, out));
                serving.link.flush();
                drop(refs);
                ended
            })),
        }
    }

    fn fail(self: Box<Self>, error: Option<Error>) {
        let HostedCall { name, back, .. } = *self;
        let error = error.unwrap_or_else(|| {
            Error::new(Kind::Invalid(format!("an argument of `{name}` failed")))
        });
        let serving = back.serving.clone();
        back.finish(|_| Err(error));
        serving.link.flush();
    }

    fn deadline(&self) -> Option<Instant> {
        self.until
    }

    fn name(&self) -> &'static str {
        self.name
    }
}
