//! Handles to actors: what can be done with one, and how it travels.
//!
//! A call goes one of three ways, depending on where the actor lives. All of them begin alike (`prepare`),
//! and in the process that owns the call it comes into the actor's queue alike (`submit`).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use raybolt_core::calls::owner::{ActorKey, ObjectKey, Submit, Target, TaskKey};
use raybolt_core::calls::queue::Call;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use slotmap::Key;

use crate::actor::{Actor, AnyActor, Refused};
use crate::args::Arguments;
use crate::call::watch_deadline;
use crate::context;
pub use crate::creation::{ASYNC_CONCURRENCY, ActorClass, create, find};
use crate::error::{Error, Kind, Result};
use crate::job::Ended;
use crate::method::{Method, MethodJob, TypedCall, call_name};
use crate::object::AnyObject;
pub use crate::options::ActorOptions;
use crate::options::{CallOptions, TaskOptions};
use crate::output::{Cells, Output};
use crate::processes::borrowed::Borrowed;
use crate::processes::parcel;
use crate::processes::remote_actor::{Life, Remote, kind_of};
use crate::processes::remote_call::{RemoteCall, SentCall};
use crate::session::{self, Place, Session};
pub use raybolt_core::calls::incarnations::FOREVER;

/// A handle to an actor; clones name the same one. When the last one goes, the actor ends after the
/// calls it has.
pub struct ActorHandle<A: Send + Sync + 'static>(Arc<Inner<A>>);

/// What all clones of a handle share.
#[doc(hidden)]
pub struct Inner<A: Send + Sync + 'static>(Result<Home<A>>);

/// Where the actor lives.
pub(crate) enum Home<A> {
    /// In this process.
    Here(Arc<Actor<A>>),
    /// In a worker of this process.
    Worker(Arc<Life>),
    /// Where the driver of this process put it.
    Driver(Arc<Borrowed>),
}

impl<A: Send + Sync + 'static> ActorHandle<A> {
    /// Calls a method; what it returns will be in the references. What is wrong with the call is
    /// found there too.
    pub fn call<X, O>(
        &self,
        method: Method<A, X::Held, O>,
        options: CallOptions,
        args: X,
    ) -> O::Refs
    where
        X: Arguments,
        X::Held: Send,
        O: Output,
    {
        match &self.0.0 {
            Ok(Home::Here(actor)) => {
                try_call(actor, method, options.into_inner(), args).unwrap_or_else(O::failed)
            }
            Ok(Home::Worker(life)) => {
                try_call_remote(&life.remote, &method, options.into_inner(), args)
                    .unwrap_or_else(O::failed)
            }
            Ok(Home::Driver(borrowed)) => {
                try_call_borrowed(borrowed, &method, options.into_inner(), args)
                    .unwrap_or_else(O::failed)
            }
            Err(error) => O::failed(error.clone()),
        }
    }

    /// Ends the actor now: the call that runs is asked to stop, those that wait fail.
    pub fn kill(&self) {
        let session = match &self.0.0 {
            Ok(Home::Here(actor)) => {
                actor.clone().kill("it was killed");
                &actor.session
            }
            Ok(Home::Worker(life)) => {
                life.remote.clone().kill("it was killed");
                &life.remote.session
            }
            Ok(Home::Driver(borrowed)) => {
                if let Place::Driver(upstream) = &borrowed.session.place {
                    upstream.kill_actor(borrowed);
                }
                return;
            }
            Err(_) => return,
        };
        session.names.forget_dead();
    }

    /// The actor's name, or its class's if it has none.
    pub fn name(&self) -> &str {
        match &self.0.0 {
            Ok(Home::Here(actor)) => &actor.name,
            Ok(Home::Worker(life)) => &life.remote.name,
            Ok(Home::Driver(borrowed)) => &borrowed.name,
            Err(_) => "",
        }
    }

    pub(crate) fn failed(error: Error) -> Self {
        ActorHandle(Arc::new(Inner(Err(error))))
    }

    pub(crate) fn of(home: Home<A>) -> Self {
        ActorHandle(Arc::new(Inner(Ok(home))))
    }

    /// A handle to an actor in a worker, if it is an `A`.
    pub(crate) fn of_life(life: Arc<Life>) -> Option<Self> {
        (life.remote.settings().kind == kind_of::<A>()).then(|| Self::of(Home::Worker(life)))
    }

    /// What holds it, if it lives in a worker of this process.
    pub(crate) fn life(&self) -> Option<&Arc<Life>> {
        match &self.0.0 {
            Ok(Home::Worker(life)) => Some(life),
            _ => None,
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<A>> {
        &self.0
    }

    pub(crate) fn from_inner(inner: Arc<Inner<A>>) -> Self {
        ActorHandle(inner)
    }
}

/// A call that was checked, and nobody knows of yet: what is the same wherever the actor lives.
struct Prepared<O: Output> {
    /// How many values are copied.
    copies: u64,
    /// Objects among the arguments.
    needs: Box<[ObjectKey]>,
    cells: O::Cells,
    refs: O::Refs,
}

#[inline]
fn prepare<X: Arguments, O: Output>(
    session: &Session,
    name: &str,
    options: &mut TaskOptions,
    args: &X,
) -> Result<Prepared<O>> {
    if let Some(error) = options.settings().and_then(|set| set.error.clone()) {
        return Err(error);
    }
    let (_, copies) = args.check().map_err(|error| {
        let task = call_name(name, options).to_owned();
        Error::new(Kind::Encode { task, because: error.to_string() })
    })?;
    let inherited = context::current().and_then(|context| context.deadline);
    if inherited.is_some() || options.settings().is_some() {
        options.fix_deadline(Instant::now(), inherited);
    }
    let needs = args.needs(session.epoch)?.into_boxed_slice();
    let (cells, refs) = O::pending(session.epoch);
    cells.configure(options);
    Ok(Prepared { copies: copies as u64, needs, cells, refs })
}

/// Has the owner take a call, and its actor's queue: `enqueue` is told whether the arguments are there.
#[inline]
fn submit<R>(
    session: &Arc<Session>,
    actor: ActorKey,
    cells: &impl Cells,
    needs: Box<[ObjectKey]>,
    copies: u64,
    mut enqueue: impl FnMut(TaskKey, bool) -> R,
) -> (TaskKey, R) {
    let (task, queued) = session.act(|hub| {
        hub.copies += copies;
        let (target, returns) = (Target::Actor(actor), cells.expect(&mut hub.owner));
        let (task, waits) =
            hub.owner.submit(Submit { target, job: None, needs, returns, retries: 0 });
        // A call that waits must be in its actor's queue before anyone can say that it is ready.
        (task, waits.then(|| enqueue(task, false)))
    });
    (task, queued.unwrap_or_else(|| enqueue(task, true)))
}

fn try_call<A, X, O>(
    actor: &Arc<Actor<A>>,
    method: Method<A, X::Held, O>,
    mut options: TaskOptions,
    args: X,
) -> Result<O::Refs>
where
    A: Send + Sync + 'static,
    X: Arguments,
    X::Held: Send,
    O: Output,
{
    let Method { name, group, body } = method;
    let session = &actor.session;
    let Prepared { copies, needs, cells, refs } =
        prepare::<X, O>(session, name, &mut options, &args)?;
    let place = cells.clone();
    let call = Box::new(TypedCall { name, body, args, cells, options: options.clone() });
    let mut job: Option<Box<dyn MethodJob<A>>> = Some(call);
    let caller = context::caller();
    let (task, queued) = submit(session, actor.key, &place, needs, copies, |task, ready| {
        let job = job.take().expect("a call is queued once");
        actor.submitted(caller, Call { task, group, mode: body.mode(), job }, ready)
    });
    if let Err(Refused { call, error }) = queued {
        call.job.fail(Some(error));
        session.conclude(task, 0, Ended::Failed);
    }
    if options.until().is_some() {
        watch_deadline(session, call_name(name, &options).to_owned(), &options, &place);
    }
    Ok(refs)
}

fn try_call_remote<A, X, O>(
    actor: &Arc<Remote>,
    method: &Method<A, X::Held, O>,
    mut options: TaskOptions,
    args: X,
) -> Result<O::Refs>
where
    A: Send + Sync + 'static,
    X: Arguments,
    X::Held: Send,
    O: Output,
{
    let (session, name) = (&actor.session, method.name);
    let Prepared { copies, needs, cells, refs } =
        prepare::<X, O>(session, name, &mut options, &args)?;
    let place = cells.clone();
    let call = Arc::new(SentCall::new(method, args, cells, options.clone())?);
    let is_packed = needs.is_empty();
    if is_packed {
        call.pack()?;
    }
    let caller = context::caller();
    let (task, queued) = submit(session, actor.key, &place, needs, copies, |task, ready| {
        if ready && !is_packed {
            call.pack()?;
        }
        actor.submitted(caller, task, call.clone(), ready)
    });
    if let Err(error) = queued {
        call.fail(Some(error));
        session.conclude(task, 0, Ended::Failed);
    }
    if options.until().is_some() {
        watch_deadline(session, call_name(name, &options).to_owned(), &options, &place);
    }
    Ok(refs)
}

fn try_call_borrowed<A, X, O>(
    actor: &Arc<Borrowed>,
    method: &Method<A, X::Held, O>,
    mut options: TaskOptions,
    args: X,
) -> Result<O::Refs>
where
    A: Send + Sync + 'static,
    X: Arguments,
    X::Held: Send,
    O: Output,
{
    let Place::Driver(upstream) = &actor.session.place else {
        unreachable!("only workers borrow actors")
    };
    // The driver counts what is copied, and knows what is needed.
    let Prepared { cells, refs, .. } =
        prepare::<X, O>(&actor.session, method.name, &mut options, &args)?;
    upstream.call_actor(actor, method, &options, &args, &cells)?;
    Ok(refs)
}

impl<A: Send + Sync + 'static> Inner<A> {
    pub(crate) fn is_alive(&self) -> bool {
        match &self.0 {
            Ok(Home::Here(actor)) => actor.is_alive(),
            Ok(Home::Worker(life)) => life.remote.is_alive(),
            Ok(Home::Driver(_)) | Err(_) => false,
        }
    }
}

impl<A: Send + Sync + 'static> Drop for Inner<A> {
    fn drop(&mut self) {
        if let Ok(Home::Here(actor)) = &self.0 {
            actor.end_after_calls();
        }
    }
}

impl<A: Send + Sync + 'static> Clone for ActorHandle<A> {
    fn clone(&self) -> Self {
        ActorHandle(self.0.clone())
    }
}

impl<A: Send + Sync + 'static> fmt::Debug for ActorHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorHandle({})", self.name())
    }
}

/// A handle as it travels: the object that stands for its life, the actor, the number of its type, and its
/// name.
pub(crate) type Written = (u64, u64, u64, String);

/// How a handle to an actor in a worker is written.
pub(crate) fn written(life: &Life) -> Written {
    let actor = &life.remote;
    (life.id(), actor.key.data().as_ffi(), actor.settings().kind, actor.name.to_string())
}

/// A handle inside a value is a reference to the object that stands for the actor's life.
impl<A: Send + Sync + 'static> Serialize for ActorHandle<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let kind = kind_of::<A>();
        let written = match &self.0.0 {
            Ok(Home::Here(actor)) => (0, actor.key.data().as_ffi(), kind, actor.name.to_string()),
            Ok(Home::Worker(life)) => {
                parcel::note(|| life.clone());
                written(life)
            }
            Ok(Home::Driver(borrowed)) => {
                parcel::note(|| borrowed.clone());
                (borrowed.id(), borrowed.actor, kind, borrowed.name.to_string())
            }
            Err(error) => (0, 0, kind, error.to_string()),
        };
        written.serialize(serializer)
    }
}

impl<'de, A: Send + Sync + 'static> Deserialize<'de> for ActorHandle<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (id, actor, kind, name) = Written::deserialize(deserializer)?;
        if !parcel::is_open() {
            let message = "an actor's handle is read back only by the processes of its session";
            return Err(de::Error::custom(format_args!("{message} (actor {actor:x})")));
        }
        if id == 0 {
            // It never was one: its maker was told why, and so is whoever gets it.
            return Ok(ActorHandle::failed(Error::new(Kind::Invalid(name))));
        }
        if kind != kind_of::<A>() {
            let class = std::any::type_name::<A>();
            return Err(de::Error::custom(format_args!("actor `{name}` is no `{class}`")));
        }
        received(id, actor, &name).map_err(de::Error::custom)
    }
}

/// A handle that came from another process.
fn received<A: Send + Sync + 'static>(id: u64, actor: u64, name: &str) -> Result<ActorHandle<A>> {
    session::with(|session| match &session.place {
        Place::Driver(upstream) => {
            upstream.holds(id);
            let borrowed = Borrowed::new(session, id, actor, name);
            Ok(ActorHandle::of(Home::Driver(borrowed)))
        }
        Place::Workers(_) => {
            let life = session.lent(id)?.into_any().downcast::<Life>().ok();
            life.and_then(ActorHandle::of_life).ok_or_else(|| {
                let class = std::any::type_name::<A>();
                Error::new(Kind::Invalid(format!("actor `{name}` is no `{class}`")))
            })
        }
        Place::Here => {
            Err(Error::new(Kind::Invalid("a session in one process lends no actors".into())))
        }
    })?
}
