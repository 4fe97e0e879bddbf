//! What workers ask of their driver: tasks, objects and values, in the name of the code that runs there.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raybolt_core::calls::owner::{Submit as Owned, Target};
use raybolt_core::calls::scheduler::{Demand, Within};
use raybolt_wire::work::{self, NotAppended, Offset, Outcome, SlabGranted, Submit, ToWorker};

use crate::error::{Error, Kind, Result};
use crate::group::Membership;
use crate::job::Job;
use crate::object::{AnyObject, Hold, Lazy, Object};
use crate::panics;
use crate::pool::Runnable;
use crate::processes::code;
use crate::processes::judges::Judge;
use crate::processes::lent::alias;
use crate::processes::link::FRAME_MAX;
use crate::processes::node::Workers;
use crate::processes::parcel::{self, INLINE_MAX, Packed, Piece};
use crate::processes::raw::{Encoded, Raw, RawJob};
use crate::processes::relay::Relay;
use crate::processes::shelf::{self, Spot};
use crate::processes::worker::Worker;
use crate::session::{Place, Session};
use crate::slot::{Slot, Waiter};

/// How much is sent of what a worker expects, before it asks again.
const EXPECTED_BYTES_MAX: usize = 1 << 20;

impl Session {
    /// The objects with these ids, which now live at least as long as what is returned.
    pub(crate) fn keep(&self, ids: &[u64]) -> Result<Vec<Arc<dyn AnyObject>>> {
        ids.iter().map(|id| self.lent(*id).map(|object| alias(*id, object))).collect()
    }

    /// A value that came from a worker, as an object.
    pub(crate) fn store_raw(
        self: &Arc<Self>,
        mut body: &[u8],
        keeps: Vec<Arc<dyn AnyObject>>,
    ) -> Result<Arc<dyn AnyObject>> {
        let unreadable = |because| Error::new(Kind::Decode { task: "a value".into(), because });
        let piece = parcel::take_piece(&mut body).map_err(|error| error.to_string());
        let value = piece.and_then(|piece| Encoded::of(piece, keeps)).map_err(unreadable)?;
        let (object, bytes) = (pending(self), value.bytes());
        object.arrived(Ok(value.clone()));
        self.act(|hub| {
            object.hold.set_key(hub.owner.put());
            object.hold.set_size(bytes);
            hub.bytes += bytes as i64;
        });
        value.named(object.hold.id());
        Ok(object)
    }

    /// A worker has lost interest in the task that makes an object.
    pub(crate) fn cancel_lent(self: &Arc<Self>, id: u64, by_force: bool) {
        let Ok(object) = self.lent(id) else { return };
        let task = self.lock().task_name(object.key());
        let error = Error::new(Kind::Cancelled { task });
        self.cancel(object.key(), &error, by_force, || {
            object.fail(error.clone());
        });
    }
}

impl Workers {
    /// A worker submits a task.
    pub(crate) fn submitted(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        submit: Submit,
        body: &[u8],
    ) {
        let returns: Vec<_> = submit.returns.iter().map(|_| pending(session)).collect();
        let ids = submit.returns.clone();
        let relay = submit.stream.zip(ids.first().zip(returns.first()));
        let relay = relay.map(|(until, (id, stream))| Relay::new(self, worker, *id, stream, until));
        let judge = ids.first().filter(|_| submit.judged).map(|id| Judge::new(worker, *id));
        let error = match job(session, submit, body, &returns, (relay, judge)) {
            Ok((job, terms)) => start(session, worker, job, &ids, &terms).err(),
            Err(error) => {
                session.act(|hub| {
                    for (object, id) in returns.iter().zip(&ids) {
                        object.hold.set_key(hub.owner.put());
                        let object: Arc<dyn AnyObject> = object.clone();
                        hub.lent.name(*id, &object);
                        drop(hub.lend_objects(vec![object], worker.process));
                    }
                });
                Some(error)
            }
        };
        if let Some(error) = error {
            for object in &returns {
                object.fail(error.clone());
            }
        }
        for (object, id) in returns.into_iter().zip(ids) {
            self.send_when_there(session, worker, object, id);
        }
    }

    /// A worker stores a value.
    pub(crate) fn stored(
        &self,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        id: u64,
        refs: &[u64],
        mut body: &[u8],
    ) {
        let object = pending(session);
        let unreadable = |because| Error::new(Kind::Decode { task: "put".into(), because });
        let value = session.keep(refs).and_then(|keeps| {
            let piece = parcel::take_piece(&mut body).map_err(|error| error.to_string());
            piece.and_then(|piece| Encoded::of(piece, keeps)).map_err(unreadable)
        });
        let bytes = value.as_ref().map_or(0, |value| value.bytes());
        let stored = value.clone().ok();
        object.arrived(value);
        let any: Arc<dyn AnyObject> = object.clone();
        let replaced = session.act(|hub| {
            object.hold.set_key(hub.owner.put());
            object.hold.set_size(bytes);
            hub.bytes += bytes as i64;
            hub.copies += 1;
            hub.lent.name(id, &any);
            hub.lend_objects(vec![any], worker.process)
        });
        drop(replaced);
        if let Some(stored) = stored {
            stored.named(object.hold.id());
        }
    }

    /// A worker has something to be done here.
    pub(crate) fn asked(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        object: u64,
        code: Offset,
        body: &[u8],
    ) {
        let (workers, session, worker) = (self.clone(), session.clone(), worker.clone());
        let input = body.to_vec();
        let pool = session.pool.clone();
        pool.schedule(Arc::new(Asked { workers, session, worker, object, code, input }));
    }

    /// A worker asks for room in the store.
    pub(crate) fn slab_wanted(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        request: u64,
        bytes: u64,
    ) {
        let Place::Workers(node) = &session.place else { return };
        match node.shelf.store().try_lend_slab(worker.process, bytes) {
            Some(lent) => worker.say(&slab(request, Ok(lent))),
            None => {
                let (session, worker) = (session.clone(), worker.clone());
                let pool = session.pool.clone();
                pool.schedule(Arc::new(LateSlab { session, worker, request, bytes }));
            }
        }
    }

    /// A worker waits for an object.
    pub(crate) fn wanted(self: &Arc<Self>, session: &Arc<Session>, worker: &Arc<Worker>, id: u64) {
        match session.lent(id) {
            Ok(object) => self.send_when_there(session, worker, object, id),
            Err(error) => self.send_value(session, worker, id, Err(error), false),
        }
    }

    /// Sends an object's value to a worker, as soon as it is there.
    pub(crate) fn send_when_there(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        object: Arc<dyn AnyObject>,
        id: u64,
    ) {
        let late: (Weak<Session>, Weak<Worker>, Weak<dyn AnyObject>) =
            (session.downgrade(), Arc::downgrade(worker), Arc::downgrade(&object));
        let workers = Arc::downgrade(self);
        let call: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            let (session, worker, object) = &late;
            let found = (session.upgrade(), worker.upgrade(), object.upgrade(), workers.upgrade());
            if let (Some(session), Some(worker), Some(object), Some(workers)) = found {
                workers.send_value(&session, &worker, id, Ok(object), false);
            }
        });
        if let Err(Waiter::Callback { call, .. }) = object.watch(Waiter::Callback { key: 0, call })
        {
            call();
        }
    }

    fn send_value(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        id: u64,
        object: Result<Arc<dyn AnyObject>>,
        may_wait: bool,
    ) {
        let mut frames = Vec::new();
        match append_value(id, &object, may_wait, &mut frames) {
            Some(needs) => self.send_parcel(session, worker, &frames, needs),
            None => session.pool.schedule(Arc::new(LateValue {
                workers: self.clone(),
                session: session.clone(),
                worker: worker.clone(),
                id,
                object,
            })),
        }
    }

    /// Sends those of these objects that are there and small.
    pub(crate) fn expected(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        ids: &[u64],
    ) {
        let found: Vec<_> = {
            let hub = session.lock();
            ids.iter().filter_map(|id| Some((*id, hub.lent.find(*id)?))).collect()
        };
        let (mut frames, mut needs) = (Vec::new(), Packed::default());
        for (id, object) in found {
            let is_small = object.bytes().is_some_and(|bytes| bytes <= INLINE_MAX);
            if is_small && frames.len() <= EXPECTED_BYTES_MAX {
                // What would have to wait for the store will be asked for by itself.
                needs.add(append_value(id, &Ok(object), false, &mut frames).unwrap_or_default());
            }
        }
        self.send_parcel(session, worker, &frames, needs);
    }
}

/// Appends an object's value, or its error; says what it needs, or nothing if it would have to wait.
fn append_value(
    id: u64,
    object: &Result<Arc<dyn AnyObject>>,
    may_wait: bool,
    frames: &mut Vec<u8>,
) -> Option<Packed> {
    let start = frames.len();
    let message = |outcome| ToWorker::Value { object: id, outcome };
    let (packed, needs) = parcel::packing(|| match object {
        Ok(object) => {
            let pack = |out: &mut Vec<u8>| match may_wait {
                true => object.pack(out),
                false => shelf::without_waiting(|| object.pack(out)),
            };
            work::append(frames, &message(Outcome::Returned), FRAME_MAX, pack)
        }
        Err(error) => Err(NotAppended::Body(error.clone())),
    });
    let error = match packed {
        Ok(()) => None,
        Err(NotAppended::Body(error)) if matches!(error.kind(), Kind::WouldWait) => return None,
        Err(NotAppended::Body(error)) => Some(error),
        Err(NotAppended::TooLong(too_long)) => {
            let (task, because) = (format!("object {id:x}"), too_long.to_string());
            Some(Error::new(Kind::Encode { task, because }))
        }
    };
    if let Some(error) = error {
        let bytes = raybolt_wire::value::encode(&error).expect("errors are data");
        let body = |out: &mut Vec<u8>| {
            out.extend_from_slice(&bytes);
            Ok::<(), std::convert::Infallible>(())
        };
        work::append(frames, &message(Outcome::Failed), FRAME_MAX, body)
            .expect("an error is shorter than a frame");
    }
    needs.announce(start, frames);
    Some(needs)
}

/// Something that a worker wants to be done here; it may wait, so it has a thread of the pool.
struct Asked {
    workers: Arc<Workers>,
    session: Arc<Session>,
    worker: Arc<Worker>,
    object: u64,
    code: Offset,
    input: Vec<u8>,
}

impl Runnable for Asked {
    fn run(self: Arc<Self>) {
        let Asked { workers, session, worker, object, code, input } = &*self;
        // SAFETY: `Upstream::ask` in a worker, which runs this very file, named a function of this type.
        let work = unsafe { code::function::<fn(&[u8]) -> Vec<u8>>(*code) };
        let done = work.map_err(|foreign| Error::new(Kind::Invalid(foreign.to_string()))).and_then(
            |work| {
                panics::catch("work for a worker", 0, || work(input))
                    .map_err(|panicked| Error::new(Kind::Task(*panicked)))
            },
        );
        let answer = done.map(|output| {
            let slot = Slot::ready(Ok(Lazy::Here(output)));
            Arc::new(Object { hold: Hold::new(0), slot }) as Arc<dyn AnyObject>
        });
        workers.send_value(session, worker, *object, answer, true);
    }
}

/// A slab that has to wait for room.
struct LateSlab {
    session: Arc<Session>,
    worker: Arc<Worker>,
    request: u64,
    bytes: u64,
}

impl Runnable for LateSlab {
    fn run(self: Arc<Self>) {
        let LateSlab { session, worker, request, bytes } = &*self;
        let Place::Workers(node) = &session.place else { return };
        let until = Instant::now() + node.shelf.patience();
        let lent = node.shelf.store().lend_slab(worker.process, *bytes, until);
        worker.say(&slab(*request, lent.map_err(|error| error.to_string())));
    }
}

fn slab(request: u64, lent: std::result::Result<raybolt_store::Lent, String>) -> ToWorker {
    let granted = lent.map(|lent| SlabGranted {
        slab: lent.slab.0,
        offset: lent.region.offset,
        bytes: lent.region.bytes,
    });
    ToWorker::Slab { request, granted }
}

/// A value that has to wait for the store before it can be sent.
struct LateValue {
    workers: Arc<Workers>,
    session: Arc<Session>,
    worker: Arc<Worker>,
    id: u64,
    object: Result<Arc<dyn AnyObject>>,
}

impl Runnable for LateValue {
    fn run(self: Arc<Self>) {
        let LateValue { workers, session, worker, id, object } = &*self;
        workers.send_value(session, worker, *id, object.clone(), true);
    }
}

/// The arguments that a worker has written to the store, taken over.
pub(crate) fn stored_args(pieces: &[Piece<'_>], task: &str) -> Result<Vec<(Spot, Arc<Encoded>)>> {
    let unreadable = |because: String| Error::new(Kind::Decode { task: task.into(), because });
    let stored = pieces.iter().filter_map(|piece| match piece {
        Piece::Stored(spot) => {
            let encoded = Encoded::of(*piece, Vec::new()).map_err(unreadable);
            Some(encoded.map(|encoded| (*spot, encoded)))
        }
        Piece::Inline(_) | Piece::LaidOut(_) | Piece::Reference(_) => None,
    });
    stored.collect()
}

pub(crate) fn pending(session: &Session) -> Arc<Object<Raw>> {
    Arc::new(Object { hold: Hold::new(session.epoch), slot: Slot::new() })
}

/// On which terms a task runs.
struct Terms {
    /// The function's name.
    function: String,
    demand: Demand,
    member: Option<Membership>,
    retries: u32,
}

/// The task as the owner keeps it, and its terms.
fn job(
    session: &Session,
    submit: Submit,
    body: &[u8],
    returns: &[Arc<Object<Raw>>],
    (relay, judge): (Option<Arc<Relay>>, Option<Judge>),
) -> Result<(RawJob, Terms)> {
    let Submit { code, function, name, demand, group, max_retries, deadline_us, refs, .. } = submit;
    let unreadable = |because: String| Error::new(Kind::Decode { task: function.clone(), because });
    let pieces = parcel::pieces(body).map_err(|error| unreadable(error.to_string()))?;
    let needs = pieces.iter().filter_map(|piece| match piece {
        Piece::Reference(id) => Some(session.lent(*id).map(|object| (*id, object))),
        Piece::Inline(_) | Piece::LaidOut(_) | Piece::Stored(_) => None,
    });
    let stored = stored_args(&pieces, &function)?;
    let until = deadline_us.and_then(|(left_us, after_us)| {
        let until = Instant::now().checked_add(Duration::from_micros(left_us))?;
        Some((until, Duration::from_micros(after_us)))
    });
    let job = RawJob {
        needs: needs.collect::<Result<_>>()?,
        stored,
        keeps: session.keep(&refs)?,
        args: Bytes::copy_from_slice(body),
        returns: returns.to_vec(),
        name: name.clone().unwrap_or_else(|| function.clone()),
        own_name: name,
        code,
        until,
        relay,
        judge,
        again: None,
    };
    let (demand, member) = (Demand::from_units(demand), group.map(Membership::of_wire));
    Ok((job, Terms { function, demand, member, retries: max_retries }))
}

fn start(
    session: &Arc<Session>,
    worker: &Worker,
    job: RawJob,
    ids: &[u64],
    terms: &Terms,
) -> Result<()> {
    let Terms { function, demand, member, retries } = terms;
    let member = member.as_ref();
    let within = member.map_or(Ok(Within::Node), |member| member.within(session.epoch));
    let name = job.name.clone();
    let until = job.until;
    let returned = job.returns.clone();
    let mut refused = None;
    let replaced = session.act(|hub| {
        let returns = job.expect(&mut hub.owner);
        for (object, id) in returned.iter().zip(ids) {
            let object: Arc<dyn AnyObject> = object.clone();
            hub.lent.name(*id, &object);
        }
        let objects = returned.iter().map(|object| object.clone() as Arc<dyn AnyObject>).collect();
        let replaced = hub.lend_objects(objects, worker.process);
        let class = within.and_then(|within| {
            let refused = |why| Error::refused(function, &why, member);
            hub.class(function, demand, within).map_err(refused)
        });
        let needs: Vec<_> = job.needs.iter().map(|(_, need)| need.key()).collect();
        match class {
            Ok(class) => {
                if let Some(member) = member {
                    let places = returned.iter().map(|object| {
                        let object: Arc<dyn AnyObject> = object.clone();
                        Arc::downgrade(&object)
                    });
                    hub.groups.enlist(member.key(), places.collect());
                }
                let job: Option<Box<dyn Job>> = Some(Box::new(job));
                let (target, needs) = (Target::Class(class), needs.into_boxed_slice());
                hub.owner.submit(Owned { target, job, needs, returns, retries: *retries });
            }
            Err(error) => refused = Some((job, error)),
        }
        replaced
    });
    drop(replaced);
    if let Some((job, error)) = refused {
        drop(job); // SESS-1
        return Err(error);
    }
    if let (Some((until, after)), Some(first)) = (until, returned.first()) {
        let (late, first) = (session.downgrade(), Arc::downgrade(first));
        session.timer.at(until, move || {
            let (Some(session), Some(first)) = (late.upgrade(), first.upgrade()) else { return };
            let error = Error::new(Kind::Deadline { task: name.clone(), after });
            session.cancel(first.key(), &error, false, || {
                first.fail(error.clone());
            });
        });
    }
    Ok(())
}
