//! The driver's side: the node, which has the workers and the store.
//!
//! # Protocol
//! 1. A worker that has proved itself [joins](Workers::joined), and is given what waits for one of its kind.
//! 2. When the scheduler grants a lease the fleet chooses a worker for it, and the hub [fills](super::refill)
//!    it with tasks ([`Node::serve`]).
//! 3. Tasks are [pushed](super::push) into the [hands](super::worker) of their workers.
//! 4. What workers say is [read](super::answers); what has ended makes room for more tasks (3).
//! 5. A worker that is lost is taken from the list, after its last words; what lay in its hands is
//!    [settled](super::deaths).
//!
//! # Invariants
//! - **NODE-1 (one holder).** A task that is lent lies in the hands of one worker record, from before its
//!   frame is sent until its answer is taken or the worker is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, Weak};
use std::time::{Duration, Instant};

use raybolt_core::calls::kinds::{self, WorkerKind};
use raybolt_core::calls::owner::{Attempt, ClassId, TaskKey};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;
use raybolt_store::Store;
use raybolt_wire::work::ToWorker;

use crate::processes::circles::LongWaits;
use crate::processes::judges::Judges;
use crate::processes::keeper::{Keeper, Order};
use crate::processes::leader::Leader;
use crate::processes::link::Link;
use crate::processes::poll::Poll;
use crate::processes::relay::Relays;
use crate::processes::shelf::NodeShelf;
use crate::processes::worker::Worker;
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
    /// Who waits for long in workers.
    pub(crate) waits: LongWaits,
    /// What the node's clock counts from.
    start: Instant,
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
            waits: LongWaits::default(),
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
        workers.iter().any(|worker| !worker.hands().tasks.is_empty() || worker.has_calls())
    }

    /// A lookout is kept while tasks or calls lie at workers; this begins it, if it is not.
    #[inline]
    pub(super) fn watch_over(&self) {
        if !self.is_watched.load(Ordering::Relaxed) && !self.is_watched.swap(true, Ordering::SeqCst)
        {
            self.keeper_order(Order::Watch);
        }
    }

    /// The lookout is over, until the next task is pushed.
    pub(crate) fn unwatch(&self) {
        self.is_watched.store(false, Ordering::SeqCst);
    }

    pub(crate) fn belong_to(&self, session: &Arc<Session>) {
        *self.session.write().expect("no thread panics with this lock") = Arc::downgrade(session);
    }

    /// The session, as long as it lives.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.read().expect("no thread panics with this lock").upgrade()
    }

    /// A worker has proved itself.
    pub(crate) fn joined(
        self: &Arc<Self>,
        session: &Arc<Session>,
        process: ProcessId,
        kind: &WorkerKind,
        link: Link,
    ) -> std::io::Result<()> {
        let worker = Arc::new(Worker::new(process, link));
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

    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Arc<Worker>>> {
        self.all.lock().expect("no thread panics while it holds the workers")
    }
}
