//! The driver's side: workers, what lies at each of them, and their answers.
//!
//! # Invariants
//! - **NODE-1 (one holder).** A task that is lent lies in the hands of one worker record, from before its
//!   frame is sent until its answer is taken or the worker is lost.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, Weak};
use std::time::{Duration, Instant};

use raybolt_core::calls::fleet::Assigned;
use raybolt_core::calls::kinds::{self, WorkerKind};
use raybolt_core::calls::owner::{ActorKey, Attempt, ClassId, Retry, TaskKey};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;
use raybolt_store::{Store, Ticket};
use raybolt_wire::link::Broken;
use raybolt_wire::work::{self, NotAppended, Outcome, Run, ToDriver, ToWorker};
use slotmap::{Key, KeyData, SecondaryMap};

use crate::awaited::on_behalf_of;
use crate::error::{Error, Kind};
use crate::hub::Work;
use crate::job::{Ended, Job};
use crate::panics;
use crate::pool::Runnable;
use crate::processes::inlet::{Inlet, Maker};
use crate::processes::judges::Judges;
use crate::processes::keeper::{Keeper, Order};
use crate::processes::leader::{self, Leader, Source};
use crate::processes::link::{FRAME_MAX, Link};
use crate::processes::parcel::{self, Packed};
use crate::processes::poll::{Poll, Ready};
use crate::processes::relay::Relays;
use crate::processes::remote_actor::Remote;
use crate::processes::shelf::{self, NodeShelf};
use crate::session::{Place, Session};

/// The node of a session over processes.
pub(crate) struct Node {
    pub(crate) leader: Arc<Leader<Arc<Workers>>>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) shelf: NodeShelf,
}

/// The worker processes.
pub(crate) struct Workers {
    pub(crate) poll: Arc<Poll>,
    session: RwLock<Weak<Session>>,
    all: Mutex<BTreeMap<ProcessId, Arc<Worker>>>,
    keeper: OnceLock<Keeper>,
    /// How many there are to be.
    kept: AtomicUsize,
    /// Why no worker is to be had, while none is.
    gave_up: Mutex<Option<String>>,
    is_watched: AtomicBool,
    /// Streams that workers read.
    pub(crate) relays: Relays,
    /// Failures that workers judge.
    pub(crate) judges: Judges,
    /// What the node's clock counts from.
    start: Instant,
}

/// One of them.
pub(crate) struct Worker {
    pub(crate) process: ProcessId,
    pub(crate) link: Link,
    hands: Mutex<Hands>,
    /// Actors that live there.
    actors: Mutex<HashMap<ActorKey, Arc<Remote>>>,
}

/// What lies at a worker.
#[derive(Default)]
pub(crate) struct Hands {
    pub(crate) tasks: SecondaryMap<TaskKey, Lent>,
    /// How many it was ever given.
    given: u64,
    is_dead: bool,
}

/// A task in the hands of a worker.
pub(crate) struct Lent {
    pub(crate) attempt: Attempt,
    pub(crate) lease: LeaseKey,
    class: ClassId,
    /// How many the worker was given before it.
    pub(crate) order: u64,
    /// When it was sent there.
    pub(crate) since: Instant,
    pub(crate) job: Box<dyn Job>,
}

/// What a read of the links brought.
#[derive(Default)]
struct Batch {
    ended: Vec<(TaskKey, Attempt, Ended)>,
    /// How many tasks of each lease were answered.
    leases: Vec<(LeaseKey, ClassId, u32)>,
    /// Actors whose calls were answered.
    actors: Vec<Arc<Remote>>,
    over: Vec<Over>,
    /// What is wrong with a frame that is no message.
    garbled: Option<String>,
}

/// An actor has ended.
struct Over {
    actor: Arc<Remote>,
    incarnation: u32,
    because: String,
    error: Option<Error>,
}

/// A task to be pushed.
pub(crate) struct Push {
    pub(crate) lease: LeaseKey,
    pub(crate) class: ClassId,
    pub(crate) process: ProcessId,
    pub(crate) work: Work,
}

impl Node {
    pub(crate) fn start(store: Store, patience: Duration) -> std::io::Result<Self> {
        let workers = Arc::new(Workers {
            poll: Arc::new(Poll::new()?),
            session: RwLock::default(),
            all: Mutex::default(),
            keeper: OnceLock::new(),
            kept: AtomicUsize::new(0),
            gave_up: Mutex::default(),
            is_watched: AtomicBool::new(false),
            relays: Relays::default(),
            judges: Judges::default(),
            start: Instant::now(),
        });
        let (leader, _standby) = Leader::start(workers.clone(), "raybolt-links")?;
        Ok(Node { leader, workers, shelf: NodeShelf::new(store, patience) })
    }

    /// The scheduler granted a lease.
    pub(crate) fn serve(&self, session: &Arc<Session>, lease: LeaseKey, class: ClassId) {
        let now_us = self.workers.now_us();
        let (pushes, wanted) = session.act(|hub| {
            let mut pushes = Vec::new();
            let kind = kinds::of_lease(&hub.scheduler, lease);
            let is_exclusive = !hub.scheduler.is_only_cpu(class);
            match hub.fleet.granted_to(kind.clone(), lease, class, is_exclusive) {
                Some(assigned) => hub.refill(assigned, now_us, &mut pushes),
                None => return (pushes, hub.want(kind)),
            }
            (pushes, None)
        });
        self.workers.push(session, pushes);
        self.workers.start(wanted);
        self.workers.fail_waiting(session);
    }

    /// The session ends: so do its workers.
    pub(crate) fn end(&self) {
        if let Some(keeper) = self.workers.keeper.get() {
            keeper.end();
        }
        self.leader.stop();
        self.shelf.store().close();
    }
}

impl Workers {
    pub(crate) fn keep(&self, keeper: Keeper) {
        self.keeper.get_or_init(|| keeper);
    }

    /// The session's directory.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        self.keeper.get().map(|keeper| keeper.directory.clone())
    }

    /// In whose hands a task is that was lent.
    pub(crate) fn lies_at(&self, task: TaskKey) -> Option<(ProcessId, LeaseKey)> {
        let workers: Vec<_> = self.all().values().cloned().collect();
        workers.iter().find_map(|worker| {
            let lease = worker.hands().tasks.get(task)?.lease;
            Some((worker.process, lease))
        })
    }

    /// Starts a worker of a kind that has none, and ends those in whose place it comes.
    pub(crate) fn start(&self, wanted: Option<(WorkerKind, Vec<ProcessId>)>) {
        let Some((kind, superseded)) = wanted else { return };
        for process in superseded {
            self.keeper_order(Order::Retire(process));
        }
        self.keeper_order(Order::Start(kind));
    }

    /// How many workers there are to be, those of tasks with devices of their own aside.
    pub(crate) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    pub(crate) fn keeps(&self, workers: usize) {
        self.kept.store(workers, Ordering::Relaxed);
    }

    pub(crate) fn keeper_order(&self, order: Order) {
        if let Some(keeper) = self.keeper.get() {
            keeper.order(order);
        }
    }

    /// How many there are to be.
    pub(crate) fn wanted_processes(&self) -> usize {
        self.keeper.get().map_or(0, |keeper| keeper.workers)
    }

    /// How long a task may run on after its deadline.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.keeper.get().map(|keeper| keeper.grace)
    }

    /// Why no worker is to be had, while none is.
    pub(crate) fn gave_up(&self) -> MutexGuard<'_, Option<String>> {
        self.gave_up.lock().expect("no thread panics with this lock")
    }

    /// Takes a dead worker off the list, after its last words.
    pub(crate) fn take(
        self: &Arc<Self>,
        session: &Arc<Session>,
        process: ProcessId,
    ) -> Option<Arc<Worker>> {
        let worker = self.all().remove(&process)?;
        let mut batch = Batch::default();
        // Most often it was read to its end before.
        let mut each = |frame: &[u8]| self.arrived(session, &worker, frame, &mut batch);
        let _ = worker.link.read(&mut each); // Its end is why we are here.
        worker.link.end();
        self.conclude(session, batch);
        Some(worker)
    }

    /// A worker that is there.
    pub(crate) fn worker(&self, process: ProcessId) -> Option<Arc<Worker>> {
        self.all().get(&process).cloned()
    }

    /// Which worker has a task, and which attempt of it.
    pub(crate) fn holder(&self, task: TaskKey) -> Option<(ProcessId, Attempt)> {
        let workers: Vec<_> = self.all().values().cloned().collect();
        workers.into_iter().find_map(|worker| {
            let attempt = worker.hands().tasks.get(task)?.attempt;
            Some((worker.process, attempt))
        })
    }

    /// Whether anything lies at any worker.
    pub(crate) fn is_busy(&self) -> bool {
        let workers: Vec<_> = self.all().values().cloned().collect();
        workers.iter().any(|worker| !worker.hands().tasks.is_empty())
    }

    /// Whether a lookout is kept while tasks lie at workers; true if this call begins it.
    fn watch(&self) -> bool {
        !self.is_watched.load(Ordering::Relaxed) && !self.is_watched.swap(true, Ordering::SeqCst)
    }

    /// The lookout is over, until the next task is pushed.
    pub(crate) fn unwatch(&self) {
        self.is_watched.store(false, Ordering::SeqCst);
    }

    pub(crate) fn belong_to(&self, session: &Arc<Session>) {
        *self.session.write().expect("no thread panics with this lock") = Arc::downgrade(session);
    }

    /// A worker has proved itself.
    pub(crate) fn joined(
        self: &Arc<Self>,
        session: &Arc<Session>,
        process: ProcessId,
        kind: &WorkerKind,
        link: Link,
    ) -> std::io::Result<()> {
        let (hands, actors) = (Mutex::default(), Mutex::default());
        let worker = Arc::new(Worker { process, link, hands, actors });
        if let Place::Workers(node) = &session.place {
            let store = node.shelf.store();
            let (path, bytes) = (store.arena_path().display().to_string(), store.capacity_bytes());
            worker.say(&ToWorker::Arena { path, bytes });
        }
        worker.link.start()?;
        self.all().insert(process, worker);
        *self.gave_up() = None;
        let now_us = self.now_us();
        let (pushes, actors) = session.act(|hub| {
            let mut pushes = Vec::new();
            for assigned in hub.fleet.ready_as(kind.clone(), process) {
                hub.refill(assigned, now_us, &mut pushes);
            }
            let actors = hub.fleet.waiting_actors().into_iter();
            let actors: Vec<_> = actors.filter_map(|actor| hub.actor(actor)).collect();
            (pushes, actors)
        });
        self.push(session, pushes);
        for actor in actors {
            actor.begin();
        }
        Ok(())
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// Sends tasks to their workers, all that go to one with one system call.
    pub(crate) fn push(self: &Arc<Self>, session: &Arc<Session>, pushes: Vec<Push>) {
        self.push_all(session, pushes, false);
    }

    fn push_all(self: &Arc<Self>, session: &Arc<Session>, pushes: Vec<Push>, may_wait: bool) {
        let mut touched: Vec<(Arc<Worker>, Frames)> = Vec::new();
        for push in pushes {
            let place = match touched.iter().position(|(w, _)| w.process == push.process) {
                Some(place) => place,
                None => {
                    let Some(worker) = self.all().get(&push.process).cloned() else {
                        Self::give_back(session, push.work);
                        continue;
                    };
                    touched.push((worker, Frames::new()));
                    touched.len() - 1
                }
            };
            match touched[place].1.append(push, may_wait) {
                Ok(()) => {}
                Err((push, error)) if matches!(error.kind(), Kind::WouldWait) => {
                    let push = Mutex::new(Some(push));
                    let (workers, session) = (self.clone(), session.clone());
                    session.clone().pool.schedule(Arc::new(LatePush { workers, session, push }));
                }
                Err((push, error)) => self.refuse(session, push, error),
            }
        }
        for (worker, frames) in touched {
            let Frames { bytes, lent, needs, .. } = frames;
            if let Err(lent) = worker.hold(lent) {
                for (task, Lent { attempt, job, .. }) in lent {
                    Self::give_back(session, Work { task, attempt, job });
                }
                continue;
            }
            self.send_parcel(session, &worker, &bytes, needs);
            if self.watch() {
                self.keeper_order(Order::Watch);
            }
        }
    }

    /// Sends frames, and sees to it that what they name lives on.
    pub(crate) fn send_parcel(
        &self,
        session: &Arc<Session>,
        worker: &Worker,
        frames: &[u8],
        needs: Packed,
    ) {
        self.lend(session, worker, needs);
        worker.link.append(|out| out.extend_from_slice(frames));
        worker.link.flush();
    }

    /// What frames need that are about to be appended goes to a worker.
    pub(crate) fn lend(&self, session: &Arc<Session>, worker: &Worker, needs: Packed) {
        let Packed { refs, guards } = needs;
        session.lend_objects(refs, worker.process);
        if let Place::Workers(node) = &session.place {
            node.shelf.pin_for(worker.process, &guards);
        }
        if worker.is_lost() {
            // Its death may have been settled before it was lent these.
            self.forget_loans(session, worker.process);
        }
    }

    /// A worker is dead: what it was lent is nobody's.
    pub(crate) fn forget_loans(&self, session: &Arc<Session>, process: ProcessId) {
        session.act(|hub| drop(hub.owner.process_lost(process)));
        if let Place::Workers(node) = &session.place {
            node.shelf.process_lost(process);
        }
    }

    /// The worker died before it was given this task; its leases are settled with its death.
    fn give_back(session: &Arc<Session>, work: Work) {
        let Work { task, attempt, job } = work;
        match session.act(|hub| hub.owner.queue_again(task, attempt, job)) {
            Retry::Again | Retry::Stale(_) => {}
            Retry::Exhausted(job) => {
                let what = format!("the result of task `{}`", job.name());
                job.fail(Some(Error::new(Kind::SessionEnded { what })));
                session.act(|hub| hub.owner.finished(task, attempt, false));
            }
        }
    }

    /// A task cannot be sent.
    fn refuse(self: &Arc<Self>, session: &Arc<Session>, push: Push, error: Error) {
        let Push { lease, class, work, .. } = push;
        let Work { task, attempt, job } = work;
        job.fail(Some(error));
        let mut batch = Batch::default();
        batch.ended.push((task, attempt, Ended::Failed));
        batch.leases.push((lease, class, 1));
        self.conclude(session, batch);
    }

    /// The actors of a lost worker begin anew elsewhere, or fail.
    pub(crate) fn actors_lost(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        because: impl Fn(&[String]) -> String,
    ) {
        let actors = std::mem::take(&mut *worker.actors());
        for actor in actors.into_values() {
            actor.lost(worker, &because);
        }
    }

    fn arrived(
        self: &Arc<Self>,
        session: &Arc<Session>,
        worker: &Arc<Worker>,
        frame: &[u8],
        batch: &mut Batch,
    ) {
        let (message, body) = match work::read::<ToDriver>(frame) {
            Ok(read) => read,
            Err(error) => {
                batch.garbled = Some(error.to_string());
                return;
            }
        };
        match message {
            ToDriver::Finished { task, attempt, outcome, refs } => {
                let task = TaskKey::from(KeyData::from_ffi(task));
                let Some(lent) = worker.take(task, attempt) else { return };
                let (answer, keeps) = match outcome {
                    Outcome::Returned => match session.keep(&refs) {
                        Ok(keeps) => (Ok(body), keeps),
                        Err(error) => (Err(error), Vec::new()),
                    },
                    Outcome::Failed => (Err(error_in(body, lent.job.name())), Vec::new()),
                };
                batch.ended.push((task, attempt, lent.job.answered(attempt, answer, keeps)));
                match batch.leases.iter_mut().find(|(lease, ..)| *lease == lent.lease) {
                    Some((_, _, count)) => *count += 1,
                    None => batch.leases.push((lent.lease, lent.class, 1)),
                }
            }
            ToDriver::Blocked { lease } => {
                session.act(|hub| hub.blocked(KeyData::from_ffi(lease).into()));
            }
            ToDriver::Unblocked { lease } => {
                session.act(|hub| hub.unblocked(KeyData::from_ffi(lease).into()));
            }
            ToDriver::Submit(submit) => self.submitted(session, worker, submit, body),
            ToDriver::Put { object, refs } => self.stored(session, worker, object, &refs, body),
            ToDriver::Fetch { object } => self.wanted(session, worker, object),
            ToDriver::Expect { objects } => self.expected(session, worker, &objects),
            ToDriver::Released { object } => {
                session.act(|hub| {
                    if let Some(key) = hub.lent.key(object) {
                        hub.owner.returned(key, worker.process);
                    }
                });
            }
            ToDriver::CancelObject { object } => session.cancel_lent(object, false),
            ToDriver::KillTask { object } => session.cancel_lent(object, true),
            ToDriver::Yielded { task, actor, attempt, index, refs } => {
                self.yielded(session, worker, Maker { task, attempt, actor }, index, &refs, body);
            }
            ToDriver::Stalled { task, actor, attempt, index } => {
                self.stalled(worker, Maker { task, attempt, actor }, index);
            }
            ToDriver::Taken { stream, until } => self.relays.room(stream, until),
            ToDriver::Called { actor, incarnation, number, outcome, refs } => {
                let Some(actor) = worker.actor(actor) else { return };
                let Some((task, made)) = actor.answered(incarnation, number) else { return };
                let (answer, keeps) = match outcome {
                    Outcome::Returned => match session.keep(&refs) {
                        Ok(keeps) => (Ok(body), keeps),
                        Err(error) => (Err(error), Vec::new()),
                    },
                    Outcome::Failed => (Err(error_in(body, made.call.name())), Vec::new()),
                };
                // One that was stopped says so; why, is said by who stopped it.
                let stopped = matches!(&answer, Err(error) if error.is_cancelled());
                let ended = match stopped && session.is_stopped(task) {
                    true => Ended::Failed,
                    false => made.call.answered(answer, keeps),
                };
                batch.ended.push((task, 0, ended));
                panics::drop_here(&actor.name, made);
                if !batch.actors.iter().any(|other| Arc::ptr_eq(other, &actor)) {
                    batch.actors.push(actor);
                }
            }
            ToDriver::CreateActor(create) => self.actor_wanted(session, worker, create, body),
            ToDriver::FindActor { name, class, kind, answer } => {
                self.actor_sought(session, worker, (&name, &class, kind), answer);
            }
            ToDriver::CallActor(call) => self.actor_called(session, worker, call, body),
            ToDriver::KillActor { actor } => self.actor_killed(session, actor),
            ToDriver::Judged { object, attempt, again } => {
                self.judges.judged(session, object, attempt, again);
            }
            ToDriver::ActorEnded { actor, incarnation, because } => {
                let Some(actor) = worker.actor(actor) else { return };
                let error = (!body.is_empty()).then(|| error_in(body, &actor.name));
                batch.over.push(Over { actor, incarnation, because, error });
            }
            ToDriver::Ask { object, code } => self.asked(session, worker, object, code, body),
            ToDriver::SlabWanted { request, bytes } => {
                self.slab_wanted(session, worker, request, bytes);
            }
            ToDriver::SlabReturned { slab } => {
                if let Place::Workers(node) = &session.place {
                    node.shelf.store().slab_returned(worker.process, Ticket(slab));
                }
            }
            ToDriver::Unpinned { key } => {
                if let Place::Workers(node) = &session.place {
                    node.shelf.unpinned(worker.process, key);
                }
            }
        }
    }

    /// Tells the machines what has ended, and sends what there is room for now.
    fn conclude(self: &Arc<Self>, session: &Arc<Session>, batch: Batch) {
        let now_us = self.now_us();
        let Batch { ended, leases, actors, over, garbled: _ } = batch;
        if ended.is_empty() && over.is_empty() {
            return;
        }
        let mut again = Vec::new();
        let pushes = session.act(|hub| {
            for (task, attempt, ended) in ended {
                match ended {
                    Ended::Retry { .. } | Ended::Unsure { .. } => {
                        again.push((task, attempt, ended));
                    }
                    Ended::Success(_) | Ended::Failed => {
                        Session::report(hub, task, attempt, &ended);
                        session.stop_is_over(task);
                    }
                }
            }
            let mut pushes = Vec::new();
            for (lease, class, count) in leases {
                let Some(process) = hub.fleet.process(lease) else { continue };
                if hub.fleet.answered(lease, count, now_us) {
                    hub.scheduler.blocked(lease);
                }
                hub.refill(Assigned { lease, class, process }, now_us, &mut pushes);
            }
            pushes
        });
        for (task, attempt, ended) in again {
            session.conclude(task, attempt, ended);
        }
        self.push(session, pushes);
        for actor in actors {
            actor.resume();
        }
        for Over { actor, incarnation, because, error } in over {
            if let Some(error) = error.as_ref().and_then(Error::task_error) {
                crate::failures::record(error, true);
            }
            actor.ended(incarnation, &because);
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Arc<Worker>>> {
        self.all.lock().expect("no thread panics while it holds the workers")
    }
}

impl Source for Arc<Workers> {
    fn read(&self, timeout: Option<Duration>) {
        let mut batch = Batch::default();
        let session = self.session.read().expect("no thread panics with this lock").upgrade();
        let ready = |ready: Ready| {
            let Some(session) = &session else { return };
            let process = ProcessId(ready.token);
            let Some(worker) = self.all().get(&process).cloned() else { return };
            let mut each = |frame: &[u8]| self.arrived(session, &worker, frame, &mut batch);
            let read = worker.link.ready(ready, &mut each);
            let garbled = batch.garbled.take();
            if read.is_err() || garbled.is_some() {
                let too_long = read.err().filter(|broken| matches!(broken, Broken::TooLong(_)));
                worker.link.end();
                let garbled = garbled.or(too_long.map(|broken| broken.to_string()));
                self.keeper_order(Order::LinkEnded(process, garbled));
            }
        };
        leader::gathering(|| self.poll.look_and_wait(timeout, ready));
        if let Some(session) = session {
            self.conclude(&session, batch);
        }
    }

    fn interrupt(&self) {
        self.poll.interrupt();
    }
}

/// Tasks on their way to one worker.
struct Frames {
    since: Instant,
    bytes: Vec<u8>,
    lent: Vec<(TaskKey, Lent)>,
    needs: Packed,
}

/// A task that has to wait for the store before it can be sent.
struct LatePush {
    workers: Arc<Workers>,
    session: Arc<Session>,
    push: Mutex<Option<Push>>,
}

impl Runnable for LatePush {
    fn run(self: Arc<Self>) {
        let push = self.push.lock().expect("no thread panics with this lock").take();
        self.workers.push_all(&self.session, push.into_iter().collect(), true);
    }
}

impl Frames {
    fn new() -> Self {
        Frames {
            since: Instant::now(),
            bytes: Vec::new(),
            lent: Vec::new(),
            needs: Packed::default(),
        }
    }

    fn append(&mut self, push: Push, may_wait: bool) -> Result<(), (Push, Error)> {
        let job = &push.work.job;
        let code = match job.code() {
            Ok(code) => code,
            Err(error) => return Err((push, error)),
        };
        let (task, attempt, lease) = (push.work.task, push.work.attempt, push.lease);
        let deadline_us = job
            .deadline()
            .map(|until| until.saturating_duration_since(Instant::now()).as_micros() as u64);
        let message = ToWorker::Run(Run {
            task: task.data().as_ffi(),
            attempt,
            lease: lease.data().as_ffi(),
            code,
            deadline_us,
            name: job.own_name().map(str::to_owned),
        });
        let bytes = &mut self.bytes;
        let pack = |out: &mut Vec<u8>| match may_wait {
            true => on_behalf_of(task, || job.pack(out)),
            false => shelf::without_waiting(|| job.pack(out)),
        };
        let start = bytes.len();
        let (appended, needs) = parcel::packing(|| work::append(bytes, &message, FRAME_MAX, pack));
        match appended {
            Ok(()) => {}
            Err(NotAppended::Body(error)) => return Err((push, error)),
            Err(NotAppended::TooLong(too_long)) => {
                let task = push.work.job.name().into();
                let because = too_long.to_string();
                let error = Error::new(Kind::Encode { task, because });
                return Err((push, error));
            }
        }
        needs.announce(start, bytes);
        self.needs.add(needs);
        let (order, since) = (0, self.since); // The order is known when the worker holds it.
        let (class, job) = (push.class, push.work.job);
        self.lent.push((task, Lent { attempt, lease, class, order, since, job }));
        Ok(())
    }
}

impl Worker {
    /// An actor comes to live there; says false if the worker is lost.
    pub(crate) fn take_actor(&self, actor: &Arc<Remote>) -> bool {
        let mut actors = self.actors();
        if self.is_lost() {
            return false;
        }
        actors.insert(actor.key, actor.clone());
        true
    }

    pub(crate) fn forget_actor(&self, actor: ActorKey) {
        let gone = self.actors().remove(&actor);
        drop(gone); // Outside the lock.
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.hands().is_dead
    }

    fn actor(&self, id: u64) -> Option<Arc<Remote>> {
        self.actors().get(&ActorKey::from(KeyData::from_ffi(id))).cloned()
    }

    /// Whether any actor lives there.
    pub(crate) fn has_actors(&self) -> bool {
        !self.actors().is_empty()
    }

    fn actors(&self) -> MutexGuard<'_, HashMap<ActorKey, Arc<Remote>>> {
        self.actors.lock().expect("no thread panics with this lock")
    }

    /// Says something that has no body.
    pub(crate) fn say(&self, message: &ToWorker) {
        let nothing = |_: &mut Vec<u8>| Ok::<_, Error>(());
        // Without a body such a message is short.
        let _ = self.link.append(|out| work::append(out, message, FRAME_MAX, nothing));
        self.link.flush();
    }

    fn take(&self, task: TaskKey, attempt: Attempt) -> Option<Lent> {
        let tasks = &mut self.hands().tasks;
        match tasks.get(task) {
            Some(found) if found.attempt == attempt => tasks.remove(task),
            _ => None,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.hands().is_dead
    }

    /// Where the items of a generator that runs here go.
    pub(crate) fn inlet(&self, maker: Maker) -> Option<Arc<dyn Inlet>> {
        let task = TaskKey::from(KeyData::from_ffi(maker.task));
        if let Some(actor) = maker.actor {
            return self.actor(actor)?.inlet(task, maker.attempt);
        }
        let hands = self.hands();
        let lent = hands.tasks.get(task)?;
        if lent.attempt == maker.attempt { lent.job.inlet() } else { None }
    }

    /// Tasks are about to be sent (NODE-1); hands them back if the worker is dead.
    fn hold(&self, lent: Vec<(TaskKey, Lent)>) -> Result<(), Vec<(TaskKey, Lent)>> {
        let mut hands = self.hands();
        if hands.is_dead {
            return Err(lent);
        }
        for (task, mut lent) in lent {
            lent.order = hands.given;
            hands.given += 1;
            hands.tasks.insert(task, lent);
        }
        Ok(())
    }

    /// It is dead: takes what lies there; says too whether it was ever given anything.
    pub(crate) fn bury(&self) -> (SecondaryMap<TaskKey, Lent>, bool) {
        let mut hands = self.hands();
        hands.is_dead = true;
        (std::mem::take(&mut hands.tasks), hands.given > 0)
    }

    pub(crate) fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().expect("no thread panics while it holds what is lent")
    }
}

/// The error in a message.
pub(crate) fn error_in(body: &[u8], task: &str) -> Error {
    raybolt_wire::value::decode(body).unwrap_or_else(|error| {
        let (task, because) = (task.into(), error.to_string());
        Error::new(Kind::Decode { task, because })
    })
}
