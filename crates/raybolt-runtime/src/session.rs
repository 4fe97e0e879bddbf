//! One process as a whole: the machines, the threads that drive them, and the way in.
//!
//! # Protocol
//! Whatever happens, happens on the thread where it happens: it takes the hub's lock, tells the
//! machines, takes what they want done, releases the lock and does it (`Session::act`). No thread
//! stands between a call and its worker.
//!
//! # Invariants
//! - **SESS-1 (short lock).** Under the hub's lock nothing waits, no user code runs and nothing of
//!   the user's is dropped.
//! - **SESS-2 (one at a time).** A process has at most one session; handles of an earlier one are
//!   told so, and free nothing.

mod builder;
mod reports;
mod stopped;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use raybolt_core::calls::owner::{Attempt, Cancel, ObjectKey, Retry, Target, TaskKey};
use raybolt_core::calls::queue::CallerId;
use raybolt_core::calls::scheduler::{Demand, LeaseKey};
use raybolt_wire::Value;
use serde::{Deserialize, Serialize};
use slotmap::KeyData;

use crate::awaited::Awaited;
use crate::clock::coarse_ms;
use crate::context::{self, Context};
use crate::error::{Error, Kind, Result};
use crate::failures::Failures;
use crate::hub::{Claimed, Hub, Todo};
use crate::inspect::serve::Post;
use crate::job::{Began, Ended};
use crate::lease::Server;
use crate::names::Names;
use crate::object::{AnyObject, ObjectRef};
use crate::pool::{self, Pool};
use crate::processes::errand::{self, Errand};
use crate::processes::keeper::{Keeper, Settings};
use crate::processes::node::Node;
use crate::processes::start::{self, Invitation};
use crate::processes::upstream::Upstream;
use crate::slot::Slot;
use crate::stream::Stalled;
use crate::timer::Timer;

pub use builder::Builder;
pub use reports::{MemoryReport, ResourceReport, StoreReport, memory, resources};
use stopped::{Stop, Stopped};

/// How many threads a session may have, blocked ones included.
const THREADS_MAX: usize = 32_768;
/// How often a driver's thread asks for the hub's lock before it sleeps.
const LOCK_TRIES: usize = 5;
/// How long a session that ends waits for user code to return.
const SHUTDOWN_TIME: Duration = Duration::from_secs(5);

static CURRENT: ArcSwapOption<Session> = ArcSwapOption::const_empty();
static EPOCH: AtomicU32 = AtomicU32::new(0);
/// Held while a session begins or ends.
static CHANGE: Mutex<()> = Mutex::new(());

/// Where the tasks of a session run.
pub(crate) enum Place {
    /// On this process's own pool.
    Here,
    /// In worker processes: this is their driver.
    Workers(Node),
    /// Wherever the driver sees fit: this is one of its workers.
    Driver(Box<Upstream>),
}

/// The session of this process, as the machinery sees it.
pub(crate) struct Session {
    pub(crate) epoch: u32,
    hub: Mutex<Hub>,
    pub(crate) pool: Pool,
    pub(crate) timer: Timer,
    pub(crate) names: Names,
    pub(crate) failures: Failures,
    tokio: OnceLock<tokio::runtime::Runtime>,
    stopped: Stopped,
    pub(crate) stalled: Stalled,
    pub(crate) awaited: Awaited,
    pub(crate) place: Place,
    /// When it began, by the coarse clock.
    pub(crate) started_ms: u64,
    /// Where watchers knock, if they may and there are no workers.
    post: Mutex<Option<Post>>,
}

/// Keeps a session alive; it ends when this is dropped.
///
/// Then tasks that have not started fail, actors end, and user code that runs is waited for, at most
/// five seconds.
#[must_use = "the session ends when this is dropped"]
pub struct SessionGuard(Arc<Session>);

impl SessionGuard {
    /// Runs a future on this thread, with the session's async runtime at hand.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.runtime().block_on(future)
    }

    /// How many worker processes it is to have; 0 in one process.
    pub fn worker_processes(&self) -> usize {
        match &self.0.place {
            Place::Workers(node) => node.workers.wanted_processes(),
            Place::Here | Place::Driver(_) => 0,
        }
    }

    /// How many bytes the store has that it shares with its workers; none in one process.
    pub fn store_bytes(&self) -> Option<u64> {
        self.0.store_report().map(|store| store.capacity)
    }

    /// The session's directory, if it can be watched.
    pub fn directory(&self) -> Option<PathBuf> {
        let watched = self.0.post().as_ref().map(|post| post.directory().to_owned());
        watched.or_else(|| self.0.workers_directory())
    }
}

impl fmt::Debug for SessionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionGuard({})", self.0.epoch)
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let _change = CHANGE.lock().expect("no thread panics with this lock");
        self.0.end();
        CURRENT.store(None);
        // Until now one could see what the end waits for.
        drop(self.0.post().take());
    }
}

/// Runs `with` with the session of this process.
pub(crate) fn with<R>(with: impl FnOnce(&Arc<Session>) -> R) -> Result<R> {
    // A guard, not a clone: a call must not touch a count that all threads share.
    let current = CURRENT.load();
    current.as_ref().map(with).ok_or_else(|| Error::new(Kind::NotInitialized))
}

/// This process's last handle to an object is gone.
pub(crate) fn release(epoch: u32, id: u64, bytes: usize) {
    let released = with(|session| {
        if session.epoch != epoch {
            return;
        }
        if let Place::Driver(upstream) = &session.place {
            return upstream.released(id);
        }
        session.act(|hub| {
            hub.bytes -= bytes as i64;
            hub.owner.released(KeyData::from_ffi(id).into());
        });
    });
    // Without a session there is nothing to free.
    drop(released);
}

/// Somebody waits for an object: it shall come here, if it is elsewhere.
pub(crate) fn want(object: &dyn AnyObject) {
    // Without a session it never comes.
    let _ = with(|session| session.want(object));
}

/// A reference that came from another process of the session, by its id.
pub(crate) fn reference<T: Value>(id: u64) -> Result<ObjectRef<T>> {
    with(|session| match &session.place {
        Place::Driver(upstream) => Ok(upstream.borrow(session.epoch, id)),
        Place::Workers(_) => session.lent(id).and_then(|object| session.typed(object)),
        Place::Here => {
            Err(Error::new(Kind::Invalid("a session in one process lends nothing".into())))
        }
    })?
}

/// Whether a session is running in this process.
pub fn is_initialized() -> bool {
    CURRENT.load().is_some()
}

/// Whether this process was started as a worker, and serves as soon as it comes to begin a session: for
/// programs that do something before that which only the driver is to do.
pub fn is_worker() -> bool {
    Invitation::of_this_process().is_some()
}

/// How many worker processes the session keeps for tasks and actors; none without a session.
pub fn worker_processes() -> usize {
    errand::run(HowManyProcesses).unwrap_or(0)
}

#[derive(Serialize, Deserialize)]
struct HowManyProcesses;

impl Errand for HowManyProcesses {
    type Answer = usize;

    fn run(self) -> Result<usize> {
        with(|session| session.node().map_or(0, |node| node.workers.kept()))
    }
}

/// Runs `wait`, which may block, while others use the CPU and the thread of the task that runs here.
/// On a thread of no pool it just runs it.
pub fn blocking<R>(wait: impl FnOnce() -> R) -> R {
    let current = CURRENT.load();
    match current.as_ref() {
        Some(session) => session.blocking(wait),
        None => pool::blocking(wait),
    }
}

/// Whether the task that runs here was asked to stop: cancelled, or past its deadline. Long tasks
/// look now and then and return early; what they return is no longer wanted.
pub fn is_cancelled() -> bool {
    let Some(context) = context::current() else { return false };
    let late = context.deadline.is_some_and(|deadline| Instant::now() >= deadline);
    let stops = [Stop::Task(context.task), Stop::CallsOf(context.caller)];
    let stopped = |session: &Arc<Session>| stops.iter().any(|stop| session.stopped.contains(*stop));
    late || with(stopped).unwrap_or(false)
}

/// The ids of the GPUs that the task which runs here may use; empty outside a task.
pub fn gpu_ids() -> Vec<u32> {
    let current = context::current().filter(|context| !context.is_lease_lent);
    let lease = current.and_then(|context| context.lease);
    let ids_of = |session: &Arc<Session>, lease| match &session.place {
        // Whatever runs in a worker holds the GPUs that the worker is for.
        Place::Driver(_) => start::gpu_ids_of_environment(),
        Place::Here | Place::Workers(_) => session.lock().scheduler.gpu_ids(lease),
    };
    let ids = lease.map(|lease| with(|session| ids_of(session, lease)));
    ids.and_then(Result::ok).unwrap_or_default()
}

impl Session {
    /// The session of a worker process.
    pub(crate) fn of_worker(upstream: Upstream, width: usize) -> Arc<Self> {
        let session =
            Session::new(&Demand::default(), None, width, Place::Driver(Box::new(upstream)));
        CURRENT.store(Some(session.clone()));
        session
    }

    fn new(
        total: &Demand,
        object_store_memory: Option<usize>,
        width: usize,
        place: Place,
    ) -> Arc<Self> {
        Arc::new(Session {
            epoch: EPOCH.fetch_add(1, Ordering::Relaxed) + 1,
            hub: Mutex::new(Hub::new(total, object_store_memory)),
            pool: Pool::new(pool::Options {
                name: "raybolt",
                width,
                threads_max: THREADS_MAX,
                overseer: true,
            }),
            timer: Timer::new(),
            names: Names::default(),
            failures: Failures::default(),
            tokio: OnceLock::new(),
            stopped: Stopped::default(),
            stalled: Stalled::default(),
            awaited: Awaited::default(),
            started_ms: coarse_ms(),
            post: Mutex::default(),
            place,
        })
    }

    fn keep_workers(self: &Arc<Self>, settings: Settings) -> Result<()> {
        let Place::Workers(node) = &self.place else { return Ok(()) };
        start::enough_descriptors(settings.workers)?;
        start::enough_memory(settings.memory_limit)?;
        node.workers.belong_to(self);
        node.workers.keeps(settings.workers);
        node.workers.keep(Keeper::start(self, &node.workers, settings)?);
        Ok(())
    }

    /// Tells the machines something and does what they want done.
    pub(crate) fn act<R>(self: &Arc<Self>, tell: impl FnOnce(&mut Hub) -> R) -> R {
        let (result, todo) = {
            let mut hub = self.lock();
            let result = tell(&mut hub);
            (result, hub.settle())
        };
        if !todo.is_empty() {
            self.perform(todo);
        }
        result
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Hub> {
        // Over processes whoever holds it may have lost its processor to us, and a worker wants one as well: a third
        // more tasks a second from four threads. In one process the same takes a third away.
        let tries = if matches!(self.place, Place::Workers(_)) { LOCK_TRIES } else { 0 };
        for _ in 0..tries {
            match self.hub.try_lock() {
                Ok(hub) => return hub,
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                Err(TryLockError::Poisoned(_)) => break,
            }
        }
        self.hub.lock().expect("SESS-1: nothing that may panic runs under the hub's lock")
    }

    /// The directory of a session over processes, in which its workers have their doors.
    pub(crate) fn workers_directory(&self) -> Option<PathBuf> {
        self.node().and_then(|node| node.workers.directory())
    }

    /// The node, if this is the driver of a session over processes.
    pub(crate) fn node(&self) -> Option<&Node> {
        match &self.place {
            Place::Workers(node) => Some(node),
            Place::Here | Place::Driver(_) => None,
        }
    }

    /// What this process is in the session.
    pub(crate) fn process_name(&self) -> String {
        match &self.place {
            Place::Driver(upstream) => format!("worker-{}", upstream.process),
            Place::Here | Place::Workers(_) => "driver".into(),
        }
    }

    fn post(&self) -> MutexGuard<'_, Option<Post>> {
        self.post.lock().expect("no thread panics with this lock")
    }

    /// Does what the machines want done. One failure may lead to many: a list, not a recursion.
    fn perform(self: &Arc<Self>, todo: Vec<Todo>) {
        let mut left = std::collections::VecDeque::from(todo);
        while let Some(todo) = left.pop_front() {
            match todo {
                Todo::Serve(lease, class) => match &self.place {
                    Place::Workers(node) => node.serve(self, lease, class),
                    Place::Here | Place::Driver(_) => {
                        let session = self.clone();
                        self.pool.schedule(Arc::new(Server { session, lease, class }));
                    }
                },
                Todo::LetGo(object) => drop(object), // SESS-1: its value is the user's.
                Todo::Place(actor, lease) => actor.place(lease),
                Todo::CallReady(actor, task) => actor.argument_ready(task),
                Todo::CallFailed(actor, task) => actor.cancel(task, None),
                Todo::Refuse(task, attempt, job, error) => {
                    job.fail(Some(error));
                    left.extend(self.end_failed(task, attempt));
                }
                Todo::Fail(task, job) => {
                    job.fail(None);
                    left.extend(self.end_failed(task, 0));
                }
            }
        }
    }

    /// Reports a task whose objects have their errors; says what is to be done now.
    fn end_failed(&self, task: TaskKey, attempt: Attempt) -> Vec<Todo> {
        let mut hub = self.lock();
        hub.owner.finished(task, attempt, false);
        hub.settle()
    }

    /// Tells the owner how an attempt ended, within a visit to the hub.
    pub(crate) fn report(hub: &mut Hub, task: TaskKey, attempt: Attempt, ended: &Ended) {
        let success = matches!(ended, Ended::Success(_));
        if let Ended::Success(bytes) = ended {
            hub.bytes += *bytes as i64;
        }
        hub.owner.finished(task, attempt, success);
    }

    /// An attempt ended.
    pub(crate) fn conclude(self: &Arc<Self>, task: TaskKey, attempt: Attempt, ended: Ended) {
        match ended {
            Ended::Retry { .. } | Ended::Unsure { .. }
                if self.stopped.contains(Stop::Task(task)) =>
            {
                self.act(|hub| hub.owner.finished(task, attempt, false));
            }
            Ended::Success(_) | Ended::Failed => {
                self.act(|hub| Self::report(hub, task, attempt, &ended));
            }
            Ended::Unsure { job, error } => {
                let node = self.node().expect("only drivers have tasks of workers");
                return node.workers.judges.ask(self, task, attempt, job, error);
            }
            Ended::Retry { job, error } => {
                let retry = self.act(|hub| match hub.ended {
                    true => Retry::Exhausted(job), // Nobody serves the queue any more.
                    false => hub.owner.retry(task, attempt, job),
                });
                match retry {
                    Retry::Again | Retry::Stale(_) => return,
                    Retry::Exhausted(job) => {
                        if let Some(failure) = error.task_error() {
                            crate::failures::record(failure, !job.is_watched());
                        }
                        job.fail(Some(error));
                        self.act(|hub| hub.owner.finished(task, attempt, false));
                    }
                }
            }
        }
        self.stop_is_over(task);
    }

    /// Lets an async task go on without a thread; `lease` is what it holds meanwhile.
    pub(crate) fn continue_later(
        self: &Arc<Self>,
        task: TaskKey,
        attempt: Attempt,
        future: Pin<Box<dyn Future<Output = Ended> + Send>>,
        lease: Option<LeaseKey>,
    ) {
        let session = self.clone();
        self.spawn(async move {
            let ended = future.await;
            session.conclude(task, attempt, ended);
            if let Some(lease) = lease {
                session.act(|hub| hub.scheduler.returned(lease));
            }
        });
    }

    /// Runs a future on the async runtime, which starts with the first one.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime().spawn(future);
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.tokio.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .thread_name("raybolt-async")
                .enable_all()
                .build()
                .expect("the async runtime starts")
        })
    }

    /// Runs the task that makes `object` on this thread, if nobody has begun it and it may run now.
    pub(crate) fn run_here(self: &Arc<Self>, object: ObjectKey) -> bool {
        let current = context::current();
        let may_run = matches!(self.place, Place::Here) && context::may_nest();
        if !may_run || current.is_some_and(|context| context.is_async) {
            return false;
        }
        let held = current.and_then(|context| context.lease);
        let Some(Claimed { work, lease, own_lease }) = self.act(|hub| hub.claim(object, held))
        else {
            return false;
        };
        let mut context = Context::of_task(work.task, work.attempt, lease, work.job.deadline());
        context.is_lease_lent = !own_lease;
        match work.job.run(context) {
            Began::Ended(ended) => self.conclude(work.task, work.attempt, ended),
            Began::Later(future) => self.continue_later(work.task, work.attempt, future, None),
        }
        if let (Some(lease), true) = (lease, own_lease) {
            self.act(|hub| hub.scheduler.returned(lease));
        }
        true
    }

    /// Runs calls of the actor that makes `object` on this thread, until `done` or until there is
    /// none that may start.
    pub(crate) fn run_call_here(self: &Arc<Self>, object: ObjectKey, done: impl Fn() -> bool) {
        if !context::may_nest() || context::current().is_some_and(|context| context.is_async) {
            return;
        }
        let actor = {
            let hub = self.lock();
            match hub.owner.progress(object) {
                Some((_, Target::Actor(key))) => hub.actor(key),
                _ => None,
            }
        };
        if let Some(actor) = actor {
            actor.run_until(&done);
        }
    }

    /// The name of the actor whose call runs here, if what makes `object` is another call of it that
    /// cannot start before this one has ended. Of a call in a worker its driver knows.
    pub(crate) fn waits_for_itself(&self, object: ObjectKey) -> Option<String> {
        let current = context::current_actor()?;
        let (actor, task) = {
            let hub = self.lock();
            match hub.owner.progress(object)? {
                (_, Target::Actor(key)) if context::caller_of_actor(key) == current => {
                    (hub.actor(key)?, hub.owner.producer(object)?)
                }
                _ => return None,
            }
        };
        actor.waits_for_running(task).then(|| actor.name().to_owned())
    }

    /// Runs `wait`, which may block, while others use this thread's CPU and place.
    pub(crate) fn blocking<R>(self: &Arc<Self>, wait: impl FnOnce() -> R) -> R {
        let current = context::current();
        if current.is_some_and(|context| context.is_async) {
            return tokio::task::block_in_place(wait);
        }
        let Some(lease) = current.and_then(|context| context.lease) else {
            return pool::blocking(wait); // Perhaps that of a topology.
        };
        if let Place::Driver(upstream) = &self.place {
            return upstream.blocking(lease, || pool::blocking(wait));
        }
        self.act(|hub| hub.scheduler.blocked(lease));
        let result = pool::blocking(wait);
        self.act(|hub| hub.scheduler.unblocked(lease));
        result
    }

    /// Waits until a value is there; over processes this thread reads the links meanwhile.
    pub(crate) fn wait_for_slot<'a, T>(
        &self,
        slot: &'a Slot<T>,
        until: Option<Instant>,
    ) -> Option<&'a T> {
        match &self.place {
            Place::Here => slot.wait(until),
            Place::Workers(node) => node.leader.wait_for(slot, until),
            Place::Driver(upstream) => upstream.leader.wait_for(slot, until),
        }
    }

    /// The same for the value of an object.
    ///
    /// # Errors
    /// When it would wait for ever, in a circle over processes.
    pub(crate) fn wait_for_value<'a, T>(
        &self,
        object: u64,
        slot: &'a Slot<T>,
        until: Option<Instant>,
    ) -> Result<Option<&'a T>> {
        match &self.place {
            Place::Driver(upstream) if until.is_none() => upstream.wait_for_value(object, slot),
            _ => Ok(self.wait_for_slot(slot, until)),
        }
    }

    /// Somebody waits for an object: it shall come here, if it is elsewhere.
    pub(crate) fn want(&self, object: &dyn AnyObject) {
        if let Place::Driver(upstream) = &self.place
            && !object.is_ready()
        {
            upstream.want(object.id());
        }
    }

    /// Somebody waits for these objects, one after the other.
    pub(crate) fn will_want<T>(&self, objects: &[ObjectRef<T>]) {
        if let Place::Driver(upstream) = &self.place {
            let is_elsewhere =
                |object: &&ObjectRef<T>| !object.is_ready() && object.key_in(self.epoch).is_ok();
            upstream.will_want(objects.iter().filter(is_elsewhere).map(ObjectRef::id));
        }
    }

    /// Stops the task that makes `object`: one that has not started never will; one that runs is
    /// asked to. Either way whoever waits for the object gets `error`, by way of `fail`.
    ///
    /// One that runs in a worker process costs it its life if it does not heed that: at once `by_force`,
    /// or some time after its deadline.
    pub(crate) fn cancel(
        self: &Arc<Self>,
        object: ObjectKey,
        error: &Error,
        by_force: bool,
        fail: impl FnOnce(),
    ) {
        let cancel = self.act(|hub| {
            let cancel = hub.owner.cancel(object);
            if let Cancel::Call(_, task) | Cancel::Lent(task) = &cancel {
                self.stopped.add(Stop::Task(*task)); // Before its end is reported, or nobody would forget it.
            }
            cancel
        });
        match cancel {
            Cancel::Taken(task, job) => {
                job.fail(Some(error.clone()));
                self.act(|hub| hub.owner.finished(task, 0, false));
            }
            Cancel::Call(actor, task) => {
                let actor = self.lock().actor(actor); // The lock ends here: SESS-1.
                if let Some(actor) = actor {
                    actor.cancel(task, Some(error.clone()));
                }
                fail(); // Whoever waits goes on only when its worker knows.
                self.act(|hub| hub.owner.given_up(object));
            }
            Cancel::Lent(task) => {
                fail();
                self.act(|hub| hub.owner.given_up(object));
                self.stop_lent(task, error, by_force);
            }
            Cancel::Ended => {}
        }
    }

    /// A task that may have been asked to stop has ended, and the owner knows.
    pub(crate) fn stop_is_over(&self, task: TaskKey) {
        self.stopped.forget(Stop::Task(task));
    }

    /// The calls that an actor, which is named as it calls others, runs now shall stop.
    pub(crate) fn stop_calls_of(&self, actor: CallerId) {
        self.stopped.add(Stop::CallsOf(actor));
    }

    /// An actor runs no calls and never will.
    pub(crate) fn calls_are_over(&self, actor: CallerId) {
        self.stopped.forget(Stop::CallsOf(actor));
    }

    /// A task that a worker process has is to stop.
    fn stop_lent(self: &Arc<Self>, task: TaskKey, error: &Error, by_force: bool) {
        let Place::Workers(node) = &self.place else { return };
        let grace = match error.kind() {
            _ if by_force => Some((Duration::ZERO, format!("it was killed, for {error} by force"))),
            Kind::Deadline { .. } => node.workers.grace().map(|grace| {
                (grace, format!("it was killed, for {error}, and ran on for {grace:?}"))
            }),
            _ => None,
        };
        node.workers.stop(self, task, grace);
    }

    /// The task that runs here is to stop.
    pub(crate) fn stop_task(&self, task: TaskKey) {
        self.stopped.add(Stop::Task(task));
    }

    /// Whether a task was asked to stop.
    pub(crate) fn is_stopped(&self, task: TaskKey) -> bool {
        self.stopped.contains(Stop::Task(task))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    pub(crate) fn downgrade(self: &Arc<Self>) -> Weak<Self> {
        Arc::downgrade(self)
    }

    fn end(self: &Arc<Self>) {
        let (jobs, actors, placing) = {
            let mut hub = self.lock();
            hub.ended = true;
            let actors: Vec<_> = hub.actors.values().filter_map(Weak::upgrade).collect();
            (hub.owner.drain(), actors, hub.stop_placing())
        };
        for (task, job) in jobs {
            let what = format!("the result of task `{}`", job.name());
            job.fail(Some(Error::new(Kind::SessionEnded { what })));
            self.act(|hub| hub.owner.finished(task, 0, false));
        }
        for actor in actors {
            actor.kill("its session ended");
        }
        drop(placing); // They hold the session, which holds them.
        self.names.clear();
        self.stalled.end();
        if let Place::Workers(node) = &self.place {
            node.end();
        }
        let left = self.pool.shutdown(Instant::now() + SHUTDOWN_TIME);
        if left > 0 {
            tracing::warn!(
                target: "raybolt",
                "{left} tasks were still running {SHUTDOWN_TIME:?} after their session ended"
            );
            self.awaited.fail();
        }
    }
}

/// Waits for a slot; this thread reads the links meanwhile, if nobody else does.
impl Drop for Session {
    fn drop(&mut self) {
        // The last holder may be a thread of the runtime itself, where a plain drop would block.
        if let Some(runtime) = self.tokio.take() {
            runtime.shutdown_background();
        }
    }
}
