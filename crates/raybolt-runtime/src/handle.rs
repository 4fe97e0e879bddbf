//! Handles to actors: making one, calling it, ending it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use raybolt_core::calls::owner::{ActorKey, Submit, Target};
use raybolt_core::calls::queue::Call;
use raybolt_core::calls::scheduler::{Demand, MEMORY, Within};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use slotmap::Key;

use crate::actor::{Actor, AnyActor, Create, Refused};
use crate::args::Arguments;
use crate::call::watch_deadline;
use crate::context;
use crate::error::{Error, Kind, Result, TaskError};
use crate::failures;
use crate::group::{Membership, PlacementGroup};
use crate::job::{Ended, Failure, returned};
use crate::method::{Method, MethodJob, TypedCall, call_name};
use crate::options::{CallOptions, TaskOptions};
use crate::output::{Cells, Output};
use crate::panics;
use crate::session::{self, Session};

/// A handle to an actor; clones name the same one. When the last one goes, the actor ends after the
/// calls it has.
pub struct ActorHandle<A: Send + Sync + 'static>(Arc<Inner<A>>);

/// What all clones of a handle share.
#[doc(hidden)]
pub struct Inner<A: Send + Sync + 'static>(Result<Arc<Actor<A>>>);

/// An actor's class, as its macro declares it once.
pub struct ActorClass {
    /// The type's name.
    pub name: &'static str,
    /// Whether it has async methods: then many calls may run at once by default.
    pub is_async: bool,
    /// Its concurrency groups beside the default one: names and limits.
    pub groups: &'static [(&'static str, usize)],
}

/// How many shared calls of an actor with async methods run at once by default.
pub const ASYNC_CONCURRENCY: usize = 1_000;

/// How an actor is to be made.
#[derive(Clone, Default)]
pub struct ActorOptions {
    name: Option<Arc<str>>,
    get_if_exists: bool,
    detached: bool,
    demand: Demand,
    group: Option<Membership>,
    max_concurrency: Option<usize>,
    max_pending_calls: Option<usize>,
    error: Option<Error>,
}

impl ActorOptions {
    /// CPUs that the actor holds as long as it lives; none by default.
    pub fn num_cpus(self, count: f64) -> Self {
        self.resource(raybolt_core::calls::scheduler::CPU, count)
    }

    /// GPUs that the actor holds as long as it lives; none by default.
    pub fn num_gpus(self, count: f64) -> Self {
        self.resource(raybolt_core::calls::scheduler::GPU, count)
    }

    /// Any other resource that the actor holds as long as it lives.
    pub fn resource(mut self, name: &str, amount: f64) -> Self {
        if let Err(error) = self.demand.set(name, amount) {
            self.error = Some(Error::new(Kind::Invalid(error.to_string())));
        }
        self
    }

    /// Bytes of memory that the actor holds as long as it lives; none by default. They are counted, not
    /// enforced.
    pub fn memory(self, bytes: usize) -> Self {
        self.resource(MEMORY, bytes as f64)
    }

    /// Lives on what a placement group has set aside: in one bundle, which count from 0, or in any.
    pub fn placement_group(mut self, group: &PlacementGroup, bundle: Option<usize>) -> Self {
        self.group = Some(Membership::new(group, bundle));
        self
    }

    /// A name under which others find the actor.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Takes the actor of this name, if there is one, instead of making it.
    pub fn get_if_exists(mut self) -> Self {
        self.get_if_exists = true;
        self
    }

    /// The actor lives on without handles, until it is killed or the session ends. It needs a name.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// How many `&self` calls may run at once: by default 1, or 1,000 with async methods.
    pub fn max_concurrency(mut self, calls: usize) -> Self {
        self.max_concurrency = Some(calls);
        self
    }

    /// How many calls may wait; a call beyond that fails at once. No bound by default.
    pub fn max_pending_calls(mut self, calls: usize) -> Self {
        self.max_pending_calls = Some(calls);
        self
    }

    fn check(&self) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(Kind::Invalid(message.into())));
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        match self {
            Self { name: None, get_if_exists: true, .. } => {
                invalid("`get_if_exists` needs the `name` of the actor")
            }
            Self { name: None, detached: true, .. } => {
                invalid("a `detached` actor needs a `name`, or nobody could find it")
            }
            Self { max_concurrency: Some(0), .. } => {
                invalid("`max_concurrency` must be at least 1")
            }
            _ => Ok(()),
        }
    }
}

/// Makes an actor. What is wrong with it is found by its first call.
pub fn create<A: Send + Sync + 'static, X: Arguments>(
    class: &'static ActorClass,
    options: ActorOptions,
    args: X,
    new: fn(X::Held) -> std::result::Result<A, Failure>,
) -> ActorHandle<A>
where
    X::Held: Send,
{
    let made = options.check().and_then(|()| {
        session::with(|session| match options.name.clone() {
            None => make(session, class, &options, args, new),
            Some(name) => {
                let (exists, detached) = (options.get_if_exists, options.detached);
                session.names.claim(&name, class.name, exists, detached, || {
                    make(session, class, &options, args, new).unwrap_or_else(ActorHandle::failed)
                })
            }
        })?
    });
    made.unwrap_or_else(ActorHandle::failed)
}

/// Finds an actor by its name.
///
/// # Errors
/// When no actor has it, or one of another class.
pub fn find<A: Send + Sync + 'static>(
    class: &'static ActorClass,
    name: &str,
) -> Result<ActorHandle<A>> {
    session::with(|session| session.names.find(name, class.name))?
}

fn make<A: Send + Sync + 'static, X: Arguments>(
    session: &Arc<Session>,
    class: &'static ActorClass,
    options: &ActorOptions,
    args: X,
    new: fn(X::Held) -> std::result::Result<A, Failure>,
) -> Result<ActorHandle<A>>
where
    X::Held: Send,
{
    let default = if class.is_async { ASYNC_CONCURRENCY } else { 1 };
    let first = options.max_concurrency.unwrap_or(default);
    let limits: Vec<usize> =
        std::iter::once(first).chain(class.groups.iter().map(|(_, limit)| *limit)).collect();
    let (_, copies) = args.check().map_err(|error| {
        Error::new(Kind::Encode { task: class.name.into(), because: error.to_string() })
    })?;
    let name: Arc<str> = options.name.clone().unwrap_or_else(|| class.name.into());
    let class_name = class.name;
    let create: Create<A> = Box::new(move || {
        // An object among the arguments is waited for here, on the actor's own time.
        args.wait().map_err(|error| argument_failed(class_name, &error))?;
        let held = args.hold();
        let made = panics::catch(class_name, 0, || new(held))?;
        made.map_err(|failure| returned(class_name, 0, &failure))
    });
    let mut create = Some(create);
    let pending_max = options.max_pending_calls.unwrap_or(usize::MAX);
    let mut actor = None;
    let made = session
        .act(|hub| {
            if hub.ended {
                let what = format!("actor `{name}`");
                return Err(Error::new(Kind::SessionEnded { what }));
            }
            let member = options.group.as_ref();
            let within = member.map_or(Ok(Within::Node), |member| member.within(session.epoch))?;
            let lease_class = if options.demand.is_empty() && member.is_none() {
                None
            } else {
                let lease_name = format!("actor {class_name}");
                let class = hub.class(&lease_name, &options.demand, within);
                Some(class.map_err(|refused| Error::refused(&name, &refused, member))?)
            };
            hub.copies += copies as u64;
            let key: ActorKey = hub.actors.insert_with_key(|key| {
                let made = Arc::new(Actor::new(
                    session.clone(),
                    key,
                    name.clone(),
                    &limits,
                    pending_max,
                    create.take().expect("an actor is made once"),
                ));
                let erased: Arc<dyn AnyActor> = made.clone();
                actor = Some(made);
                Arc::downgrade(&erased)
            });
            if let Some(member) = member {
                hub.groups.enlist_actor(member.key(), hub.actors[key].clone());
            }
            if let Some(lease_class) = lease_class {
                let made = hub.actor(key).expect("it was made a line ago");
                hub.place(lease_class, made);
            }
            Ok(lease_class.is_some())
        })
        .map(|placed_later| {
            let actor = actor.expect("it was made in the hub");
            if !placed_later {
                actor.start();
            }
            ActorHandle(Arc::new(Inner(Ok(actor))))
        });
    if let Err(error) = &made {
        failures::record_unschedulable(error);
    }
    drop(create); // SESS-1: one that was refused holds arguments, which go without the hub's lock.
    made
}

fn argument_failed(class: &str, error: &Error) -> Box<TaskError> {
    let error = error.task_error().cloned().unwrap_or_else(|| TaskError {
        task: class.into(),
        attempt: 0,
        message: format!("an argument of the constructor failed: {error}"),
        causes: Vec::new(),
        location: None,
        backtrace: None,
    });
    Box::new(error)
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
            Ok(actor) => {
                try_call(actor, method, options.into_inner(), args).unwrap_or_else(O::failed)
            }
            Err(error) => O::failed(error.clone()),
        }
    }

    /// Ends the actor now: the call that runs is asked to stop, those that wait fail.
    pub fn kill(&self) {
        if let Ok(actor) = &self.0.0 {
            actor.clone().kill("it was killed");
            actor.session.names.forget_dead();
        }
    }

    /// The actor's name, or its class's if it has none.
    pub fn name(&self) -> &str {
        self.0.0.as_ref().map_or("", |actor| &actor.name)
    }

    pub(crate) fn failed(error: Error) -> Self {
        ActorHandle(Arc::new(Inner(Err(error))))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<A>> {
        &self.0
    }

    pub(crate) fn from_inner(inner: Arc<Inner<A>>) -> Self {
        ActorHandle(inner)
    }
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
    if let Some(error) = options.settings().and_then(|set| set.error.clone()) {
        return Err(error);
    }
    let (_, copies) = args.check().map_err(|error| {
        let task = call_name(name, &options).to_owned();
        Error::new(Kind::Encode { task, because: error.to_string() })
    })?;
    let inherited = context::current().and_then(|context| context.deadline);
    if inherited.is_some() || options.settings().is_some() {
        options.fix_deadline(Instant::now(), inherited);
    }
    let (cells, refs) = O::pending(session.epoch);
    cells.configure(&options);
    let needs = args.needs(session.epoch)?.into_boxed_slice();
    let place = cells.clone();
    let call = Box::new(TypedCall { name, body, args, cells, options: options.clone() });
    let mut job: Option<Box<dyn MethodJob<A>>> = Some(call);
    let caller = context::caller();
    let mut enqueue = |task, ready| {
        let job = job.take().expect("a call is queued once");
        actor.submitted(caller, Call { task, group, mode: body.mode(), job }, ready)
    };
    let (task, queued) = session.act(|hub| {
        hub.copies += copies as u64;
        let returns = place.expect(&mut hub.owner);
        let target = Target::Actor(actor.key);
        let (task, waits) =
            hub.owner.submit(Submit { target, job: None, needs, returns, retries: 0 });
        // A call that waits must be in its actor's queue before anyone can say that it is ready.
        (task, waits.then(|| enqueue(task, false)))
    });
    if let Err(Refused { call, error }) = queued.unwrap_or_else(|| enqueue(task, true)) {
        call.job.fail(Some(error));
        session.conclude(task, 0, Ended::Failed);
    }
    if options.until().is_some() {
        watch_deadline(session, call_name(name, &options).to_owned(), &options, &place);
    }
    Ok(refs)
}

impl<A: Send + Sync + 'static> Inner<A> {
    pub(crate) fn is_alive(&self) -> bool {
        self.0.as_ref().is_ok_and(|actor| actor.is_alive())
    }
}

impl<A: Send + Sync + 'static> Drop for Inner<A> {
    fn drop(&mut self) {
        if let Ok(actor) = &self.0 {
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

/// A handle inside a value travels as its actor's id.
impl<A: Send + Sync + 'static> Serialize for ActorHandle<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let id = self.0.0.as_ref().map_or(0, |actor| actor.key.data().as_ffi());
        serializer.serialize_u64(id)
    }
}

impl<'de, A: Send + Sync + 'static> Deserialize<'de> for ActorHandle<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let id = u64::deserialize(deserializer)?;
        let message = "an actor's handle is read back only by the workers of its session";
        Err(de::Error::custom(format_args!("{message} (actor {id:x})")))
    }
}
