//! What workers ask of their driver about actors: to make, find, call and kill them.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raybolt_core::calls::owner::{Submit, Target};
use raybolt_core::calls::queue::CallerId;
use raybolt_core::calls::scheduler::Demand;
use raybolt_wire::work::{CallActor, Code, CreateActor, MethodCode, Offset};

use crate::actor::AnyActor;
use crate::error::{Error, Kind, Result};
use crate::group::Membership;
use crate::handle::written;
use crate::job::{Ended, Job};
use crate::object::{AnyObject, Object};
use crate::processes::code;
use crate::processes::downstream::{pending, stored_args};
use crate::processes::inlet::Inlet;
use crate::processes::made::Making;
use crate::processes::node::Workers;
use crate::processes::parcel::{self, Piece};
use crate::processes::raw::{Encoded, Raw, RawJob};
use crate::processes::relay::Relay;
use crate::processes::remote_actor::{Construct, Life, Settings};
use crate::processes::remote_call::{Packed, RemoteCall};
use crate::processes::worker::Worker;
use crate::session::Session;

impl Workers {
    /// A worker makes an actor.
    pub(crate) fn actor_wanted(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        create: CreateActor,
        body: &[u8],
    ) {
        let answer = create.answer;
        let made = making(session, create, body).and_then(|(making, name)| match name {
            None => making.make(session),
            Some(Name { exists, detached }) => {
                let (name, class) = (making.name.clone(), making.settings.class.clone());
                let kind = making.settings.kind;
                let make = || making.make(session);
                session.names.claim_life(&name, &class, kind, exists, detached, make)
            }
        });
        self.answer(session, worker, answer, made);
    }

    /// A worker looks for an actor.
    pub(crate) fn actor_sought(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        (name, class, kind): (&str, &str, u64),
        answer: u64,
    ) {
        let found = session.names.find_life(name, class, kind);
        self.answer(session, worker, answer, found);
    }

    /// A worker calls an actor.
    pub(crate) fn actor_called(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        call: CallActor,
        body: &[u8],
    ) {
        let returns: Vec<_> = call.returns.iter().map(|_| pending(session)).collect();
        let ids = call.returns.clone();
        let objects = || returns.iter().map(|object| object.clone() as Arc<dyn AnyObject>);
        let relay = call.stream.zip(ids.first().zip(returns.first()));
        let relay = relay.map(|(until, (id, stream))| Relay::new(self, worker, *id, stream, until));
        let called = raw_call(session, call, body, &returns, relay);
        let needs = called.as_ref().map_or(Vec::new(), |(_, raw, _)| raw.needs());
        let (started, replaced) = session.act(|hub| {
            let keys: Vec<_> = returns
                .iter()
                .map(|object| {
                    let key = hub.owner.expect();
                    object.hold.set_key(key);
                    key
                })
                .collect();
            for (object, id) in objects().zip(&ids) {
                hub.lent.name(*id, &object);
            }
            let replaced = hub.lend_objects(objects().collect(), worker.process);
            let target = match &called {
                Ok((life, ..)) => Target::Actor(life.remote.key),
                Err(_) => Target::Actor(Default::default()),
            };
            let returns = raybolt_core::calls::owner::Returns::Many(keys.into());
            let needs = needs.into_boxed_slice();
            let submit = Submit { target, job: None, needs, returns, retries: 0 };
            let (task, waits) = hub.owner.submit(submit);
            let queued = match &called {
                Ok((life, raw, caller)) if waits => {
                    Some(life.remote.submitted(*caller, task, raw.clone(), false))
                }
                _ => None,
            };
            ((task, queued), replaced)
        });
        drop(replaced);
        let (task, queued) = started;
        let queued = match (&called, queued) {
            (Err(error), _) => Err(error.clone()),
            (Ok(_), Some(queued)) => queued,
            (Ok((life, raw, caller)), None) => {
                life.remote.submitted_unpacked(*caller, task, raw.clone())
            }
        };
        if let Err(error) = queued {
            for object in objects() {
                object.fail(error.clone());
            }
            session.conclude(task, 0, Ended::Failed);
        } else if let (Ok((_, raw, _)), Some(first)) = (&called, returns.first()) {
            raw.watch_deadline(session, Arc::downgrade(first));
        }
        for (object, id) in returns.into_iter().zip(ids) {
            self.send_when_there(session, worker, object, id);
        }
    }

    /// A worker kills an actor.
    pub(crate) fn actor_killed(&self, session: &Arc<Session>, actor: u64) {
        if let Ok(life) = life(session, actor) {
            life.remote.clone().kill("it was killed");
            session.names.forget_dead();
        }
    }

    /// Gives a worker the handle that it waits for.
    fn answer(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        id: u64,
        life: Result<Arc<Life>>,
    ) {
        let value = life.map(|life| {
            let bytes = raybolt_wire::value::encode(&written(&life)).expect("a handle is data");
            let keeps = vec![life as Arc<dyn AnyObject>];
            Encoded::of(Piece::Inline(&bytes), keeps).expect("its own bytes are a value")
        });
        let object = pending(session);
        object.arrived(value);
        let any: Arc<dyn AnyObject> = object.clone();
        let replaced = session.act(|hub| {
            object.hold.set_key(hub.owner.put());
            hub.lent.name(id, &any);
            hub.lend_objects(vec![any], worker.process)
        });
        drop(replaced);
        self.send_when_there(session, worker, object, id);
    }
}

/// What the name of a new actor means.
struct Name {
    /// The one that has it already will do.
    exists: bool,
    detached: bool,
}

fn making(session: &Session, create: CreateActor, body: &[u8]) -> Result<(Making, Option<Name>)> {
    let CreateActor { code, class, kind, name, exists, detached, demand, limits, group, .. } =
        create;
    let construct = raw_job(session, (&class, None), code, body, &create.refs, None, &[])?;
    let needs: Vec<_> = construct.needs.iter().map(|(_, need)| need.key()).collect();
    let copies = parcel::pieces(body).map_or(0, |pieces| pieces.len() - needs.len()) as u64;
    let making = Making {
        name: name.as_deref().unwrap_or(&class).into(),
        settings: Settings {
            kind,
            class,
            limits: limits.iter().map(|limit| (*limit as usize).max(1)).collect(),
            pending_max: create.pending_max as usize,
            restarts: create.restarts,
            call_retries: create.call_retries,
        },
        demand: Demand::from_units(demand),
        group: group.map(Membership::of_wire),
        construct: Box::new(RawConstruct(construct)),
        needs,
        copies,
    };
    Ok((making, name.map(|_| Name { exists, detached })))
}

type Called = (Arc<Life>, Arc<RawCall>, CallerId);

fn raw_call(
    session: &Session,
    call: CallActor,
    body: &[u8],
    returns: &[Arc<Object<Raw>>],
    relay: Option<Arc<Relay>>,
) -> Result<Called> {
    let life = life(session, call.actor)?;
    let method = call.method;
    // SAFETY: a worker of this session, which runs this very file, named a text.
    let name = unsafe { code::text(method.name, method.name_bytes) }.map_err(|foreign| {
        Error::new(Kind::Decode { task: "call".into(), because: foreign.to_string() })
    })?;
    let until = call.deadline_us.and_then(|(left_us, after_us)| {
        let until = Instant::now().checked_add(Duration::from_micros(left_us))?;
        Some((until, Duration::from_micros(after_us)))
    });
    let none = Code { shell: Offset(0), body: Offset(0), declared: Offset(0) };
    let job = raw_job(session, (name, call.name), none, body, &call.refs, until, returns)?;
    let job = RawJob { relay, ..job };
    let call_of = Arc::new(RawCall { method, name, job, packed: OnceLock::new() });
    Ok((life, call_of, CallerId(call.caller)))
}

fn raw_job(
    session: &Session,
    (name, own_name): (&str, Option<String>),
    code: Code,
    body: &[u8],
    refs: &[u64],
    until: Option<(Instant, Duration)>,
    returns: &[Arc<Object<Raw>>],
) -> Result<RawJob> {
    let pieces = parcel::pieces(body).map_err(|error| {
        Error::new(Kind::Decode { task: name.into(), because: error.to_string() })
    })?;
    let needs = pieces.iter().filter_map(|piece| match piece {
        Piece::Reference(id) => Some(session.lent(*id).map(|object| (*id, object))),
        Piece::Inline(_) | Piece::LaidOut(_) | Piece::Stored(_) => None,
    });
    let stored = stored_args(&pieces, name)?;
    Ok(RawJob {
        needs: needs.collect::<Result<_>>()?,
        keeps: session.keep(refs)?,
        args: Bytes::copy_from_slice(body),
        returns: returns.to_vec(),
        name: own_name.clone().unwrap_or_else(|| name.to_owned()),
        own_name,
        code,
        until,
        stored,
        relay: None,
        judge: None,
        again: None,
    })
}

/// The actor that another process names.
fn life(session: &Session, id: u64) -> Result<Arc<Life>> {
    let object = session.lent(id)?;
    object
        .into_any()
        .downcast::<Life>()
        .map_err(|_| Error::new(Kind::Invalid("a worker calls something that is no actor".into())))
}

/// A constructor whose types this process does not know.
struct RawConstruct(RawJob);

impl Construct for RawConstruct {
    fn code(&self) -> Result<Code> {
        Ok(self.0.code)
    }

    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        self.0.pack(out)
    }

    fn argument_error(&self) -> Option<Error> {
        self.0.needs.iter().find_map(|(_, need)| need.error())
    }
}

/// A call whose types this process does not know.
struct RawCall {
    method: MethodCode,
    name: &'static str,
    job: RawJob,
    packed: OnceLock<Packed>,
}

impl RawCall {
    fn needs(&self) -> Vec<raybolt_core::calls::owner::ObjectKey> {
        self.job.needs.iter().map(|(_, need)| need.key()).collect()
    }

    fn watch_deadline(&self, session: &Arc<Session>, first: Weak<Object<Raw>>) {
        let Some((until, after)) = self.job.until else { return };
        let (late, name) = (session.downgrade(), self.job.name.clone());
        session.timer.at(until, move || {
            let (Some(session), Some(first)) = (late.upgrade(), first.upgrade()) else { return };
            let error = Error::new(Kind::Deadline { task: name.clone(), after });
            session.cancel(first.hold.key(), &error, false, || {
                first.fail(error.clone());
            });
        });
    }
}

impl RemoteCall for RawCall {
    fn inlet(&self) -> Option<Arc<dyn Inlet>> {
        self.job.inlet()
    }

    fn method(&self) -> MethodCode {
        self.method
    }

    fn method_name(&self) -> &'static str {
        self.name
    }

    fn name(&self) -> &str {
        &self.job.name
    }

    fn own_name(&self) -> Option<&str> {
        self.job.own_name.as_deref()
    }

    fn deadline(&self) -> Option<Instant> {
        self.job.until.map(|(until, _)| until)
    }

    fn pack(&self) -> Result<()> {
        let mut bytes = Vec::new();
        let (packed, needs) = parcel::packing(|| self.job.pack(&mut bytes));
        packed?;
        self.packed.get_or_init(|| Packed { bytes, needs });
        Ok(())
    }

    fn packed(&self) -> &Packed {
        self.packed.get().expect("a call is packed before it may be sent")
    }

    fn fail(&self, error: Option<Error>) {
        self.job.fail_with(error);
    }

    fn answered(&self, answer: Result<&[u8]>, keeps: Vec<Arc<dyn AnyObject>>) -> Ended {
        self.job.taken(answer, keeps)
    }
}
