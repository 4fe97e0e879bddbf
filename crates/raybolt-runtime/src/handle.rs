//! Handles to actors: making one, calling it, ending it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use raybolt_core::calls::owner::{ActorKey, ClassId, Submit, Target};
use raybolt_core::calls::queue::Call;
use raybolt_core::calls::scheduler::{Demand, MEMORY, Within};
use raybolt_wire::work::{Code, CreateActor};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use slotmap::Key;

use crate::actor::{Actor, AnyActor, Create, Refused};
use crate::args::{Arguments, Form};
use crate::call::watch_deadline;
use crate::context;
use crate::error::{Error, Kind, Result, TaskError};
use crate::failures;
use crate::group::{Membership, PlacementGroup};
use crate::hub::Hub;
use crate::job::{Ended, Failure, returned};
use crate::method::{Method, MethodJob, TypedCall, call_name};
use crate::object::AnyObject;
use crate::options::{CallOptions, TaskOptions};
use crate::output::{Cells, Output};
use crate::panics;
use crate::processes::borrowed::Borrowed;
use crate::processes::code;
use crate::processes::hosted::{ActorShell, actor_shell};
use crate::processes::made::Making;
use crate::processes::parcel;
use crate::processes::remote_actor::{Construct, Life, Remote, Settings, kind_of};
use crate::processes::remote_call::{RemoteCall, SentCall};
use crate::processes::upstream::Upstream;
use crate::session::{self, Place, Session};

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

/// An actor's class, as its macro declares it once.
pub struct ActorClass {
    /// The type's name.
    pub name: &'static str,
    /// Whether it has async methods: then many calls may run at once by default.
    pub is_async: bool,
    /// Its concurrency groups beside the default one: names and limits.
    pub groups: &'static [(&'static str, usize)],
}

pub use raybolt_core::calls::incarnations::FOREVER;

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
    max_restarts: u32,
    max_task_retries: u32,
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

    /// How often the actor begins anew when its worker process dies: with a new state, from its
    /// constructor. Never by default; [`FOREVER`] for as often as it takes.
    pub fn max_restarts(mut self, restarts: u32) -> Self {
        self.max_restarts = restarts;
        self
    }

    /// How often a call that was lost with the actor's worker process is made again, once the actor has
    /// begun anew. Never by default: it may have run, in part or whole. [`FOREVER`] for as often as it
    /// takes.
    pub fn max_task_retries(mut self, retries: u32) -> Self {
        self.max_task_retries = retries;
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
            // The driver keeps the names.
            Some(_) if matches!(session.place, Place::Driver(_)) => {
                make(session, class, &options, args, new)
            }
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
    session::with(|session| match &session.place {
        Place::Driver(upstream) => upstream.find_actor(session, name, class.name, kind_of::<A>()),
        Place::Here | Place::Workers(_) => session.names.find(name, class.name),
    })?
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
    let construct = Constructor { class, args, new };
    let settings = || Settings {
        kind: kind_of::<A>(),
        class: class.name.to_owned(),
        limits: limits.clone(),
        pending_max: options.max_pending_calls.unwrap_or(usize::MAX),
        restarts: options.max_restarts,
        call_retries: options.max_task_retries,
    };
    match &session.place {
        Place::Workers(_) => {
            let making = Making {
                name: name.clone(),
                settings: settings(),
                demand: options.demand.clone(),
                group: options.group.clone(),
                needs: construct.args.needs(session.epoch)?,
                construct: Box::new(construct),
                copies: copies as u64,
            };
            return Ok(ActorHandle::of(Home::Worker(making.make(session)?)));
        }
        Place::Driver(upstream) => {
            return ask(upstream, session, options, settings(), &construct);
        }
        Place::Here => {}
    }
    let Constructor { args, .. } = construct;
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
            let lease_class = lease_class(session, hub, class_name, &name, options)?;
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
            if let Some(member) = &options.group {
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
            ActorHandle::of(Home::Here(actor))
        });
    if let Err(error) = &made {
        failures::record_error(error);
    }
    drop(create); // SESS-1: one that was refused holds arguments, which go without the hub's lock.
    made
}

/// The class of the lease that an actor needs, if it needs one.
fn lease_class(
    session: &Session,
    hub: &mut Hub,
    class: &str,
    name: &str,
    options: &ActorOptions,
) -> Result<Option<ClassId>> {
    let member = options.group.as_ref();
    let within = member.map_or(Ok(Within::Node), |member| member.within(session.epoch))?;
    if options.demand.is_empty() && member.is_none() {
        return Ok(None);
    }
    let lease_class = hub.class(&format!("actor {class}"), &options.demand, within);
    lease_class.map(Some).map_err(|refused| Error::refused(name, &refused, member))
}

/// Asks the driver to make an actor.
fn ask<A: Send + Sync + 'static, X: Arguments>(
    upstream: &Upstream,
    session: &Arc<Session>,
    options: &ActorOptions,
    settings: Settings,
    construct: &Constructor<A, X>,
) -> Result<ActorHandle<A>>
where
    X::Held: Send,
{
    let class = construct.class.name;
    let mut body = Vec::new();
    let (packed, parcel::Packed { refs, guards }) =
        parcel::packing(|| construct.args.pack(class, Form::References, &mut body));
    packed?;
    let demand = options.demand.iter();
    let create = CreateActor {
        code: construct.code()?,
        class: settings.class,
        kind: settings.kind,
        name: options.name.as_deref().map(str::to_owned),
        exists: options.get_if_exists,
        detached: options.detached,
        demand: demand.map(|(name, units)| (name.to_owned(), units)).collect(),
        limits: settings.limits.iter().map(|limit| *limit as u64).collect(),
        pending_max: settings.pending_max as u64,
        restarts: settings.restarts,
        call_retries: settings.call_retries,
        refs: refs.iter().map(|object| object.id()).collect(),
        answer: 0,
        group: options.group.as_ref().map(Membership::to_wire),
    };
    let made = upstream.create_actor(session, create, &body);
    drop(guards);
    made
}

/// A class's constructor, and what it is called with.
struct Constructor<A, X: Arguments> {
    class: &'static ActorClass,
    args: X,
    new: fn(X::Held) -> std::result::Result<A, Failure>,
}

impl<A: Send + Sync + 'static, X: Arguments> Construct for Constructor<A, X>
where
    X::Held: Send,
{
    fn code(&self) -> Result<Code> {
        let name = self.class.name;
        let foreign = |foreign: code::Foreign| {
            Error::new(Kind::Invalid(format!("actor `{name}` cannot live in a worker: {foreign}")))
        };
        let shell: ActorShell = actor_shell::<A, X>;
        Ok(Code {
            shell: code::offset_of(shell as *const () as usize).map_err(foreign)?,
            body: code::offset_of(self.new as *const () as usize).map_err(foreign)?,
            declared: code::offset_of_static(self.class).map_err(foreign)?,
        })
    }

    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        self.args.pack(self.class.name, Form::Values, out)
    }

    fn argument_error(&self) -> Option<Error> {
        let error = self.args.error()?;
        Some(Error::new(Kind::Task(*argument_failed(self.class.name, &error))))
    }
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

    fn of(home: Home<A>) -> Self {
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

/// What is the same for all calls, wherever the actor lives: how many values are copied.
fn prepare<X: Arguments>(name: &str, options: &mut TaskOptions, args: &X) -> Result<usize> {
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
    Ok(copies)
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
    let copies = prepare(method.name, &mut options, &args)?;
    let (cells, refs) = O::pending(session.epoch);
    cells.configure(&options);
    let needs = args.needs(session.epoch)?.into_boxed_slice();
    let place = cells.clone();
    let call = Arc::new(SentCall::new(method, args, cells, options.clone())?);
    let mut is_packed = false;
    if needs.is_empty() {
        call.pack()?;
        is_packed = true;
    }
    let caller = context::caller();
    let (task, queued) = session.act(|hub| {
        hub.copies += copies as u64;
        let returns = place.expect(&mut hub.owner);
        let target = Target::Actor(actor.key);
        let (task, waits) =
            hub.owner.submit(Submit { target, job: None, needs, returns, retries: 0 });
        // A call that waits must be in its actor's queue before anyone can say that it is ready.
        (task, waits.then(|| actor.submitted(caller, task, call.clone(), false)))
    });
    let queued = queued.unwrap_or_else(|| {
        if !is_packed {
            call.pack()?;
        }
        actor.submitted(caller, task, call.clone(), true)
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
    prepare(method.name, &mut options, &args)?;
    args.needs(actor.session.epoch)?;
    let (cells, refs) = O::pending(actor.session.epoch);
    cells.configure(&options);
    upstream.call_actor(actor, method, &options, &args, &cells)?;
    Ok(refs)
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
    let copies = prepare(name, &mut options, &args)?;
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
