//! Making actors, wherever they are to live: in this process, in a worker of it, or where its driver puts them.
//!
//! What is wrong with an actor is found by its first call: a handle that stands for nothing but an error is
//! made like any other. Names are kept by the driver; in a worker an actor with a name is made or found there.

use std::sync::Arc;

use raybolt_core::calls::owner::{ActorKey, ClassId};
use raybolt_core::calls::scheduler::{Demand, Within};
use raybolt_wire::work::{Code, CreateActor};

use crate::actor::{Actor, AnyActor, Create};
use crate::args::{Arguments, Form};
use crate::error::{Error, Kind, Result, TaskError};
use crate::failures;
use crate::group::Membership;
use crate::handle::{ActorHandle, Home};
use crate::hub::Hub;
use crate::job::{Failure, returned};
use crate::options::ActorOptions;
use crate::panics;
use crate::processes::code;
use crate::processes::hosted::{ActorShell, actor_shell};
use crate::processes::made::Making;
use crate::processes::parcel;
use crate::processes::remote_actor::{Construct, Settings, kind_of};
use crate::processes::upstream::Upstream;
use crate::session::{self, Place, Session};

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
    let (_, copies) = args.check().map_err(|error| {
        Error::new(Kind::Encode { task: class.name.into(), because: error.to_string() })
    })?;
    let copies = copies as u64;
    let name: Arc<str> = options.name.clone().unwrap_or_else(|| class.name.into());
    let construct = Constructor { class, args, new };
    match &session.place {
        Place::Here => make_here(session, options, name, construct, copies),
        Place::Workers(_) => {
            let making = Making {
                name,
                settings: settings::<A>(class, options),
                demand: options.demand.clone(),
                group: options.group.clone(),
                needs: construct.args.needs(session.epoch)?,
                construct: Box::new(construct),
                copies,
            };
            Ok(ActorHandle::of(Home::Worker(making.make(session)?)))
        }
        Place::Driver(upstream) => {
            ask(upstream, session, options, settings::<A>(class, options), &construct)
        }
    }
}

/// Makes an actor that lives in this process.
fn make_here<A: Send + Sync + 'static, X: Arguments>(
    session: &Arc<Session>,
    options: &ActorOptions,
    name: Arc<str>,
    construct: Constructor<A, X>,
    copies: u64,
) -> Result<ActorHandle<A>>
where
    X::Held: Send,
{
    let Constructor { class, args, new } = construct;
    let (limits, pending_max) = (limits(class, options), pending_max(options));
    let create: Create<A> = Box::new(move || {
        // An object among the arguments is waited for here, on the actor's own time.
        args.wait().map_err(|error| argument_failed(class.name, &error))?;
        let held = args.hold();
        let made = panics::catch(class.name, 0, || new(held))?;
        made.map_err(|failure| returned(class.name, 0, &failure))
    });
    let mut create = Some(create);
    let mut actor = None;
    let made = session
        .act(|hub| {
            if hub.ended {
                let what = format!("actor `{name}`");
                return Err(Error::new(Kind::SessionEnded { what }));
            }
            let (demand, member) = (&options.demand, options.group.as_ref());
            let lease_class = lease_class(session, hub, class.name, &name, demand, member)?;
            hub.copies += copies;
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
            ActorHandle::of(Home::Here(actor))
        });
    if let Err(error) = &made {
        failures::record_error(error);
    }
    drop(create); // SESS-1: one that was refused holds arguments, which go without the hub's lock.
    made
}

/// The class of the lease that an actor needs, if it needs one.
pub(crate) fn lease_class(
    session: &Session,
    hub: &mut Hub,
    class: &str,
    name: &str,
    demand: &Demand,
    member: Option<&Membership>,
) -> Result<Option<ClassId>> {
    let within = member.map_or(Ok(Within::Node), |member| member.within(session.epoch))?;
    if demand.is_empty() && member.is_none() {
        return Ok(None);
    }
    let lease_class = hub.class(&format!("actor {class}"), demand, within);
    lease_class.map(Some).map_err(|refused| Error::refused(name, &refused, member))
}

/// How many calls may run at once: shared ones, then those of each group.
fn limits(class: &ActorClass, options: &ActorOptions) -> Vec<usize> {
    let default = if class.is_async { ASYNC_CONCURRENCY } else { 1 };
    let first = options.max_concurrency.unwrap_or(default);
    std::iter::once(first).chain(class.groups.iter().map(|(_, limit)| *limit)).collect()
}

fn pending_max(options: &ActorOptions) -> usize {
    options.max_pending_calls.unwrap_or(usize::MAX)
}

fn settings<A>(class: &ActorClass, options: &ActorOptions) -> Settings {
    Settings {
        kind: kind_of::<A>(),
        class: class.name.to_owned(),
        limits: limits(class, options),
        pending_max: pending_max(options),
        restarts: options.max_restarts,
        call_retries: options.max_task_retries,
    }
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
    let (packed, parcel::Packed { refs, guards, .. }) =
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
