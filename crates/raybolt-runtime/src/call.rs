//! The way in: calling remote functions, storing values, waiting for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::{ClassId, Submit, Target};
use raybolt_core::calls::scheduler::{Demand, Within};
use raybolt_wire::Value;

use crate::args::Arguments;
use crate::awaited::What;
use crate::context;
use crate::error::{Error, Kind, Result};
use crate::failures;
use crate::hub::Hub;
use crate::inspect::{circle, why};
use crate::job::{Function, Job, Step, TaskJob, task_name};
use crate::object::{AnyObject, Lazy, ObjectRef};
use crate::options::{MAX_RETRIES, TaskOptions, one_cpu};
use crate::output::{Cells, Output};
use crate::processes::parcel::INLINE_MAX;
use crate::session::{self, Place, Session};
use crate::slot::{Slot, Waiter};
use crate::timeline::{self, Sort};

/// How many of the objects that a `wait` waits for are noted.
const AWAITED_MAX: usize = 16;

/// Submits a task; what it returns will be in the references. What is wrong with the call itself is
/// found there too.
pub fn submit<A: Arguments, O: Output>(
    function: &'static Function,
    options: TaskOptions,
    args: A,
    run: fn(A::Held) -> Step<O>,
) -> O::Refs {
    session::with(|session| try_submit(session, function, options, args, run))
        .and_then(|refs| refs)
        .unwrap_or_else(O::failed)
}

fn try_submit<A: Arguments, O: Output>(
    session: &Arc<Session>,
    function: &'static Function,
    mut options: TaskOptions,
    args: A,
    run: fn(A::Held) -> Step<O>,
) -> Result<O::Refs> {
    let (_, copies) = args.check().map_err(|error| {
        let task = task_name(function, &options).to_owned();
        Error::new(Kind::Encode { task, because: error.to_string() })
    })?;
    let inherited = context::current().and_then(|context| context.deadline);
    if inherited.is_some() || options.settings().is_some() {
        options.fix_deadline(Instant::now(), inherited);
    }
    let retries = options.settings().and_then(|set| set.max_retries).unwrap_or(MAX_RETRIES);
    let (cells, refs) = O::pending(session.epoch);
    cells.configure(&options);
    let needs = args.needs(session.epoch)?.into_boxed_slice();
    let place = cells.clone();
    if let Place::Driver(upstream) = &session.place {
        upstream.submit(function, &options, &args, &cells, run)?;
        return Ok(refs);
    }
    let job = TaskJob { function, args, cells, run, options: options.clone() };
    let mut job: Option<Box<dyn Job>> = Some(Box::new(job));
    let submitted = session.act(|hub| {
        let class = class(hub, session.epoch, function, &options)?;
        if let Some(member) = options.group() {
            hub.groups.enlist(member.key(), place.weak());
        }
        hub.copies += copies as u64;
        let returns = place.expect(&mut hub.owner);
        let job = job.take();
        hub.owner.submit(Submit { target: Target::Class(class), job, needs, returns, retries });
        Ok(())
    });
    drop(job); // SESS-1: one that was refused holds arguments, which go without the hub's lock.
    submitted.inspect_err(failures::record_error)?;
    if options.until().is_some() {
        watch_deadline(session, task_name(function, &options).to_owned(), &options, &place);
    }
    Ok(refs)
}

fn class(hub: &mut Hub, epoch: u32, function: &Function, options: &TaskOptions) -> Result<ClassId> {
    let name = function.name();
    if hub.ended {
        let what = format!("the result of task `{name}`");
        return Err(Error::new(Kind::SessionEnded { what }));
    }
    let settings = options.settings();
    if let Some(error) = settings.and_then(|set| set.error.clone()) {
        return Err(error);
    }
    let refused = |refused| Error::refused(name, &refused, options.group());
    let default = || if function.is_async() { Demand::default() } else { one_cpu() };
    if let Some(member) = options.group() {
        let demand = settings.and_then(|set| set.demand.clone()).unwrap_or_else(default);
        return hub.class(name, &demand, member.within(epoch)?).map_err(refused);
    }
    if let Some(demand) = settings.and_then(|set| set.demand.as_ref()) {
        return hub.class(name, demand, Within::Node).map_err(refused);
    }
    if let Some(class) = function.cached_class(epoch) {
        return Ok(class);
    }
    let class = hub.class(name, &default(), Within::Node).map_err(refused)?;
    function.cache_class(epoch, class);
    Ok(class)
}

/// Fails what is not there at the deadline, and stops the task.
pub(crate) fn watch_deadline(
    session: &Arc<Session>,
    task: String,
    options: &TaskOptions,
    cells: &impl Cells,
) {
    let Some((until, after)) = options.until() else { return };
    let late = cells.weak();
    let session_weak = session.downgrade();
    session.timer.at(until, move || {
        let late: Vec<_> = late.iter().filter_map(Weak::upgrade).collect();
        let (Some(session), Some(first)) = (session_weak.upgrade(), late.first()) else { return };
        let error = Error::new(Kind::Deadline { task, after });
        session.cancel(first.key(), &error, false, || {
            for object in &late {
                object.fail(error.clone());
            }
        });
    });
}

/// Stores a value, which any number of tasks may then take by reference.
///
/// # Errors
/// Without a session, when the value cannot be serialized, or when the session's store is full.
pub fn put<T: Value>(value: T) -> Result<ObjectRef<T>> {
    let bytes = raybolt_wire::value::check(&value).map_err(|error| {
        Error::new(Kind::Encode { task: "put".into(), because: error.to_string() })
    })?;
    session::with(|session| {
        if let Place::Driver(upstream) = &session.place {
            return upstream.put(session, value);
        }
        if let Place::Workers(node) = &session.place
            && bytes > INLINE_MAX
        {
            return node.shelf.put(session, &value);
        }
        ObjectRef::stored(session, value, bytes, |hub| {
            hub.check_room(bytes)?;
            hub.copies += 1;
            Ok(())
        })
    })?
}

/// The time after `timeout`; none when that is beyond all times, and so never comes.
pub(crate) fn later(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// What [`get`] takes: a reference, several in a slice or vector, or a tuple of them.
pub trait Get {
    /// What comes back.
    type Value;
    /// Waits for it, at most until `deadline`, which is `timeout` after the call.
    #[doc(hidden)]
    fn get_until(self, deadline: Option<(Instant, Duration)>) -> Result<Self::Value>;
}

/// Waits for the value of an object, or of each of several, and returns it.
///
/// A task that nobody has begun may run on the calling thread. While a task waits here, others use
/// its CPU.
///
/// # Errors
/// The error that stands in the value's place; of several, the first in order.
pub fn get<G: Get>(objects: G) -> Result<G::Value> {
    objects.get_until(None)
}

/// The same, at most for `timeout`.
///
/// # Errors
/// Also when the value is not there in time; the error says what it waits for.
pub fn get_timeout<G: Get>(objects: G, timeout: Duration) -> Result<G::Value> {
    objects.get_until(later(timeout).map(|until| (until, timeout)))
}

impl<T: Value> Get for &ObjectRef<T> {
    type Value = T;

    fn get_until(self, deadline: Option<(Instant, Duration)>) -> Result<T> {
        let result = match self.0.slot.get() {
            Some(result) => result,
            None => wait_for(self, deadline)?,
        };
        Lazy::read_until(result, deadline).unwrap_or_else(|| read_again(self, deadline))
    }
}

impl<T: Value> Get for &[ObjectRef<T>] {
    type Value = Vec<T>;

    fn get_until(self, deadline: Option<(Instant, Duration)>) -> Result<Vec<T>> {
        let mut values = Vec::with_capacity(self.len());
        for (index, object) in self.iter().enumerate() {
            ask_ahead(index, &self[index..]);
            values.push(object.get_until(deadline)?);
        }
        Ok(values)
    }
}

impl<T: Value> Get for &Vec<ObjectRef<T>> {
    type Value = Vec<T>;

    fn get_until(self, deadline: Option<(Instant, Duration)>) -> Result<Vec<T>> {
        self.as_slice().get_until(deadline)
    }
}

impl<T: Value, const N: usize> Get for &[ObjectRef<T>; N] {
    type Value = Vec<T>;

    fn get_until(self, deadline: Option<(Instant, Duration)>) -> Result<Vec<T>> {
        self.as_slice().get_until(deadline)
    }
}

/// Taken by value, what nobody else can reach is not copied.
impl<T: Value> Get for ObjectRef<T> {
    type Value = T;

    fn get_until(self, deadline: Option<(Instant, Duration)>) -> Result<T> {
        if !self.0.slot.is_set() {
            wait_for(&self, deadline)?.as_ref().map(drop).map_err(Clone::clone)?;
        }
        self.take_until(deadline).unwrap_or_else(|object| read_again(&object, deadline))
    }
}

impl<T: Value> Get for Vec<ObjectRef<T>> {
    type Value = Vec<T>;

    fn get_until(self, deadline: Option<(Instant, Duration)>) -> Result<Vec<T>> {
        let (mut values, mut objects) = (Vec::with_capacity(self.len()), self.into_iter());
        for index in 0..objects.len() {
            ask_ahead(index, objects.as_slice());
            values.extend(objects.next().map(|object| object.get_until(deadline)).transpose()?);
        }
        Ok(values)
    }
}

/// Each time so many of several objects were there, the next ones are asked for together.
const AHEAD: usize = 256;

/// The first of these, number `index` of all, is about to be waited for.
fn ask_ahead<T>(index: usize, objects: &[ObjectRef<T>]) {
    if index.is_multiple_of(AHEAD) && objects.len() > 1 {
        // Without a session there is nobody to ask.
        let _ = session::with(|session| session.will_want(&objects[..objects.len().min(AHEAD)]));
    }
}

macro_rules! get_tuple {
    ($($name:ident)+) => {
        impl<$($name: Get),+> Get for ($($name,)+) {
            type Value = ($($name::Value,)+);

            #[allow(non_snake_case, reason = "one body for every length of tuple")]
            fn get_until(self, deadline: Option<(Instant, Duration)>) -> Result<Self::Value> {
                let ($($name,)+) = self;
                Ok(($($name.get_until(deadline)?,)+))
            }
        }
    };
}

get_tuple!(A B);
get_tuple!(A B C);
get_tuple!(A B C D);
get_tuple!(A B C D E);
get_tuple!(A B C D E F);

/// The value of an object that was here, but is not kept here: it is asked for until it is read.
fn read_again<T: Value>(object: &ObjectRef<T>, deadline: Option<(Instant, Duration)>) -> Result<T> {
    session::with(|session| {
        loop {
            let again = object.afresh()?;
            let until = deadline.map(|(until, _)| until);
            // On the list before it can come: what nobody waits for is let go of.
            let _sleeper = session.awaited.enter(again.0.clone(), until.is_some());
            session.want(&*again.0);
            let result = session.blocking(|| session.wait_for_slot(&again.0.slot, until));
            let result = result.ok_or_else(|| late(session, object, deadline))?;
            if let Some(value) = Lazy::read_until(result, deadline) {
                return value;
            }
        }
    })?
}

/// An object was not there in time.
fn late<T>(
    session: &Session,
    object: &ObjectRef<T>,
    deadline: Option<(Instant, Duration)>,
) -> Error {
    let because = why::because(session, object.0.hold.key());
    let after = deadline.map(|(_, after)| after).unwrap_or_default();
    Error::new(Kind::Timeout { what: object.to_string(), after, because })
}

/// Waits until an object's value is there.
pub(crate) fn settle<T: Value>(object: &ObjectRef<T>) -> Result<()> {
    match object.0.slot.get() {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(error.clone()),
        None => wait_for(object, None)?.as_ref().map(drop).map_err(Clone::clone),
    }
}

fn wait_for<T: Value>(
    object: &ObjectRef<T>,
    deadline: Option<(Instant, Duration)>,
) -> Result<&Result<Lazy<T>>> {
    let slot = &object.0.slot;
    session::with(|session| {
        let key = match object.key_in(session.epoch) {
            Ok(key) => key,
            Err(never) => return slot.get().ok_or(never),
        };
        session.want(&*object.0);
        let may_run = deadline.is_none(); // What runs here cannot be left when the time is over.
        if may_run && !session.run_here(key) {
            session.run_call_here(key, || slot.is_set());
        }
        if let Some(result) = slot.get() {
            return Ok(result);
        }
        if let Some(actor) = session.waits_for_itself(key) {
            return slot.get().ok_or_else(|| Error::new(Kind::WaitsForItself { actor }));
        }
        let until = deadline.map(|(until, _)| until);
        let sleeper = session.awaited.enter(object.0.clone(), until.is_some());
        let _span = timeline::span(Sort::Get, "get", context::current().as_ref());
        if let Some(members) = circle::closed_by(session, &sleeper, key) {
            return slot.get().ok_or_else(|| Error::new(Kind::Circle { members }));
        }
        let id = object.0.hold.id();
        let there = session.blocking(|| session.wait_for_value(id, slot, until))?;
        there.ok_or_else(|| late(session, object, deadline))
    })?
}

/// What [`wait`] returns: the objects that are ready, and the remaining ones.
pub type Split<T> = (Vec<ObjectRef<T>>, Vec<ObjectRef<T>>);

/// What [`wait`] takes: references by value, which are handed on, or borrowed, which are cloned.
pub trait Refs<T> {
    /// The references.
    #[doc(hidden)]
    fn into_refs(self) -> Vec<ObjectRef<T>>;
}

impl<T> Refs<T> for Vec<ObjectRef<T>> {
    fn into_refs(self) -> Vec<ObjectRef<T>> {
        self
    }
}

impl<T> Refs<T> for &Vec<ObjectRef<T>> {
    fn into_refs(self) -> Vec<ObjectRef<T>> {
        self.clone()
    }
}

impl<T> Refs<T> for &[ObjectRef<T>] {
    fn into_refs(self) -> Vec<ObjectRef<T>> {
        self.to_vec()
    }
}

impl<T, const N: usize> Refs<T> for &[ObjectRef<T>; N] {
    fn into_refs(self) -> Vec<ObjectRef<T>> {
        self.to_vec()
    }
}

/// Waits until `num_returns` of the objects are there, or for `timeout`, and says which are.
///
/// Returns (ready, remaining), both in the order of `objects`; at most `num_returns` are ready. An
/// object with an error counts as ready.
///
/// # Errors
/// Without a session, when `num_returns` is not from 1 to the number of objects, and when it would
/// wait for an object of an earlier session.
pub fn wait<T: Value>(
    objects: impl Refs<T>,
    num_returns: usize,
    timeout: Option<Duration>,
) -> Result<Split<T>> {
    let objects = objects.into_refs();
    if num_returns == 0 || num_returns > objects.len() {
        let message = format!(
            "`num_returns` must be from 1 to the number of objects, {}, not {num_returns}",
            objects.len()
        );
        return Err(Error::new(Kind::Invalid(message)));
    }
    session::with(|session| {
        let ready = objects.iter().filter(|object| object.is_ready()).take(num_returns).count();
        if ready < num_returns {
            for object in objects.iter().filter(|object| !object.is_ready()) {
                object.key_in(session.epoch)?;
                session.want(&*object.0);
            }
            wait_for_some(session, &objects, num_returns, timeout.and_then(later));
        }
        Ok(split(objects, num_returns))
    })?
}

/// One count for all objects: the work is linear in their number, whatever order they come in.
fn wait_for_some<T: Value>(
    session: &Arc<Session>,
    objects: &[ObjectRef<T>],
    num_returns: usize,
    until: Option<Instant>,
) {
    let enough = Arc::new(Slot::new());
    let left = AtomicUsize::new(num_returns);
    let told = enough.clone();
    let call: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        // Wraps below zero when more arrive than were asked for; only the crossing counts.
        if left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let first = told.set(()).is_ok();
            debug_assert!(first);
        }
    });
    let key = Arc::as_ptr(&enough) as usize;
    for (index, object) in objects.iter().enumerate() {
        let waiter = Waiter::Callback { key, call: call.clone() };
        if object.0.slot.watch(waiter).is_err() {
            call();
        }
        if enough.is_set() {
            forget(&objects[..=index], key);
            return;
        }
    }
    let sleeper = session.awaited.enter_for(some(objects, num_returns), until.is_some());
    let _span = timeline::span(Sort::Get, "wait", context::current().as_ref());
    session.blocking(|| enough.wait(until));
    drop(sleeper);
    forget(objects, key);
}

/// What a `wait` waits for, for reports: those that are missing, but not a long list of them.
fn some<T>(objects: &[ObjectRef<T>], wanted: usize) -> What {
    let missing = objects.iter().filter(|object| !object.is_ready());
    let first = missing.take(AWAITED_MAX).map(ObjectRef::id).collect();
    What::Some { wanted, of: objects.len(), first }
}

fn forget<T>(objects: &[ObjectRef<T>], key: usize) {
    for object in objects {
        object.0.slot.unwatch(key);
    }
}

fn split<T>(mut objects: Vec<ObjectRef<T>>, num_returns: usize) -> Split<T> {
    // Stops at the last one that is wanted: the rest moves as a whole, whatever its length.
    let ready = objects.extract_if(.., |object| object.is_ready()).take(num_returns).collect();
    (ready, objects)
}

/// Stops the task that makes `object`. A task that has not started never will; one that runs is
/// asked to ([`is_cancelled`](crate::session::is_cancelled)). Whoever waits for the object gets an
/// error at once; an object that is there stays.
///
/// # Errors
/// Without a session.
pub fn cancel<T: Value>(object: &ObjectRef<T>) -> Result<()> {
    stop(object, false)
}

/// The same, but a task that runs in a worker process is stopped whatever it does: the process is
/// killed. Whatever else runs there runs again, without losing a retry. In one process, and for calls of
/// actors, it is as [`cancel`].
///
/// # Errors
/// Without a session.
pub fn cancel_force<T: Value>(object: &ObjectRef<T>) -> Result<()> {
    stop(object, true)
}

fn stop<T: Value>(object: &ObjectRef<T>, by_force: bool) -> Result<()> {
    session::with(|session| {
        let Ok(key) = object.key_in(session.epoch) else { return };
        if let Place::Driver(upstream) = &session.place {
            return upstream.cancel(object.id(), by_force);
        }
        let task = session.lock().task_name(key);
        let error = Error::new(Kind::Cancelled { task });
        session.cancel(key, &error, by_force, || {
            object.0.fail(error.clone());
        });
    })
}

/// In a worker process: has its driver's process run `work` on `input`, and calls `then` with what it
/// returns, on whatever thread it arrives; says false, and does nothing, anywhere else.
///
/// This is how what lives in the driver's process (a server, a cluster) is reached from tasks.
#[doc(hidden)]
pub fn in_driver(
    work: fn(&[u8]) -> Vec<u8>,
    input: impl FnOnce() -> Vec<u8>,
    then: impl FnOnce(Result<Vec<u8>>) + Send + 'static,
) -> bool {
    session::with(|session| match &session.place {
        Place::Driver(upstream) => {
            upstream.ask(session.epoch, work, &input(), then);
            true
        }
        Place::Here | Place::Workers(_) => false,
    })
    .unwrap_or(false)
}
