//! Decides which worker process runs what, and how much of it lies there at once.
//!
//! # Words
//! The *fleet* is the worker processes of a node. A lease, once granted by the
//! [scheduler](super::scheduler), is *given* to one of them. Tasks are *pushed* under a lease and
//! *answered*; what is pushed and not answered is *in flight*. The *depth* is how many tasks of a lease
//! may be in flight: enough that the worker never waits for the next, and few enough that a slow one does
//! not hold many others up.
//!
//! # Protocol
//! 1. [`Fleet::granted`] gives a lease to the worker with the fewest; while none is ready it waits, and
//!    [`Fleet::ready`] gives it away.
//! 2. While [`Fleet::takes_one`] the shell pushes tasks of the lease's class ([`Fleet::pushed`]).
//! 3. [`Fleet::answered`] makes room, and learns how long tasks of the class take: the depth follows.
//! 4. A lease without tasks is [`Fleet::returned`]; those that wait for a worker are named by [`Fleet::in_vain`] when the
//!    tasks that they were granted for were cancelled or run elsewhere. When a worker dies, [`Fleet::lost`] names its
//!    leases; who sees it coming says so before ([`Fleet::dying`]), for whatever goes there would come back at once, and
//!    go there again.
//! 5. A worker is of a [kind](super::kinds), and leases go to workers of their own kind alone. When one waits
//!    for a kind that nobody is of, the shell starts a worker of that kind; those with whom it would
//!    share GPUs have nothing to do then, and [are over](Fleet::superseded).
//! 6. An actor [is placed](Fleet::place_actor) where the fewest leases and actors are, and stays there until
//!    it [has ended](Fleet::actor_ended) or its worker dies.
//!
//! # Invariants
//! - **FLEET-1 (bounded).** At most [`DEPTH_MAX`] tasks are in flight under a lease, and together they
//!   take about [`AHEAD_US`] if the past is a guide.
//! - **FLEET-3 (shared out).** What is queued for leases that are on their way is left to them: a task is
//!   pushed behind another only if there are more.
//! - **FLEET-4 (none in vain).** A lease does not wait for a worker when no task is left for it: what it holds is
//!   given to others at once, and not when that worker has come and finds nothing.
//! - **FLEET-2 (whole).** A lease is given to one worker or waits; when it was returned or its worker is
//!   lost, nothing of it is left.

use std::collections::{BTreeMap, VecDeque};

use slotmap::SecondaryMap;

use super::kinds::WorkerKind;
use super::owner::{ActorKey, ClassId};
use super::scheduler::LeaseKey;
use crate::ids::ProcessId;
use crate::plant::{Plant, Plants};

/// How many tasks of a lease may be in flight.
pub const DEPTH_MAX: u32 = 512;
/// How much work may lie at a worker ahead of time, in microseconds: many round trips, and little to wait
/// for if it is slower than thought.
pub const AHEAD_US: u64 = 2_000;

/// How many tasks a lease serves before others have their turn.
pub const SLICE_TASKS: u32 = 64;
/// How long a lease serves before others have their turn, in microseconds; looked at between tasks.
pub const SLICE_US: u64 = 10_000;

/// The machine; see the module's documentation.
#[derive(Debug, Default)]
pub struct Fleet {
    workers: BTreeMap<ProcessId, Worker>,
    given: SecondaryMap<LeaseKey, Given>,
    waiting: VecDeque<Waiting>,
    actors: SecondaryMap<ActorKey, ProcessId>,
    waiting_actors: VecDeque<(ActorKey, WorkerKind)>,
    /// How long a task of each class takes, in nanoseconds, about; 0 if none has ended.
    pace_ns: Vec<u64>,
    plants: Plants,
}

/// A lease that waits for a worker of its kind.
#[derive(Debug)]
struct Waiting {
    lease: LeaseKey,
    class: ClassId,
    is_exclusive: bool,
    kind: WorkerKind,
}

#[derive(Debug, Default)]
struct Worker {
    kind: WorkerKind,
    leases: usize,
    actors: usize,
    is_dying: bool,
}

#[derive(Debug)]
struct Given {
    class: ClassId,
    process: ProcessId,
    in_flight: u32,
    /// How many of them wait for something.
    blocked: u32,
    /// All of them wait: the scheduler was told that the CPU is free.
    is_free: bool,
    /// Whether it holds more than CPUs, which tasks that wait do not give back: one at a time.
    is_exclusive: bool,
    /// How many of its tasks were answered.
    served: u32,
    /// When its first task was pushed.
    first_us: Option<u64>,
    /// When the worker began with what it answers next, as far as we know.
    since_us: u64,
}

/// A lease in the hands of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// Which lease.
    pub lease: LeaseKey,
    /// What runs under it.
    pub class: ClassId,
    /// Where.
    pub process: ProcessId,
}

impl Fleet {
    /// No workers.
    pub fn new() -> Self {
        Self::default()
    }

    /// No workers, but planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(plants: Plants) -> Self {
        Fleet { plants, ..Self::default() }
    }

    /// A lease of a shared kind was granted; see [`Fleet::granted_to`].
    pub fn granted(
        &mut self,
        lease: LeaseKey,
        class: ClassId,
        is_exclusive: bool,
    ) -> Option<Assigned> {
        self.granted_to(WorkerKind::Shared, lease, class, is_exclusive)
    }

    /// A lease was granted: where its tasks go, or nothing as long as no worker of its kind is ready.
    /// `is_exclusive` if it holds more than CPUs.
    pub fn granted_to(
        &mut self,
        kind: WorkerKind,
        lease: LeaseKey,
        class: ClassId,
        is_exclusive: bool,
    ) -> Option<Assigned> {
        let Some((process, worker)) = self.least_loaded(&kind) else {
            self.waiting.push_back(Waiting { lease, class, is_exclusive, kind });
            return None;
        };
        worker.leases += 1;
        self.given.insert(lease, Given::new(class, process, is_exclusive));
        Some(Assigned { lease, class, process })
    }

    /// A shared worker is ready: the leases that it gets.
    pub fn ready(&mut self, process: ProcessId) -> Vec<Assigned> {
        self.ready_as(WorkerKind::Shared, process)
    }

    /// A worker of this kind is ready: the leases that it gets.
    pub fn ready_as(&mut self, kind: WorkerKind, process: ProcessId) -> Vec<Assigned> {
        self.workers.insert(process, Worker { kind, ..Worker::default() });
        let waiting = std::mem::take(&mut self.waiting);
        let give = |waiting: Waiting| {
            let Waiting { lease, class, is_exclusive, kind } = waiting;
            self.granted_to(kind, lease, class, is_exclusive)
        };
        waiting.into_iter().filter_map(give).collect()
    }

    /// A worker of this kind is to be started: those that would share GPUs with it. They have no leases, or
    /// their GPUs would not be free; they get none from now on, and are to be ended.
    pub fn superseded(&mut self, kind: &WorkerKind) -> Vec<ProcessId> {
        let WorkerKind::Gpus(wanted) = kind else { return Vec::new() };
        let shares = |worker: &Worker| match &worker.kind {
            WorkerKind::Shared => false,
            WorkerKind::Gpus(own) => {
                worker.kind != *kind && own.iter().any(|id| wanted.contains(id))
            }
        };
        let idle = self.workers.iter().filter(|(_, worker)| worker.load() == 0 && shares(worker));
        let idle: Vec<_> = idle.map(|(process, _)| *process).collect();
        for process in &idle {
            self.workers.remove(process);
        }
        idle
    }

    /// A shared actor wants a place; see [`Fleet::place_actor_in`].
    pub fn place_actor(&mut self, actor: ActorKey) -> Option<ProcessId> {
        self.place_actor_in(WorkerKind::Shared, actor)
    }

    /// An actor wants a place: where it goes, or nothing as long as no worker of its kind is ready.
    pub fn place_actor_in(&mut self, kind: WorkerKind, actor: ActorKey) -> Option<ProcessId> {
        let Some((process, worker)) = self.least_loaded(&kind) else {
            self.waiting_actors.push_back((actor, kind));
            return None;
        };
        worker.actors += 1;
        self.actors.insert(actor, process);
        Some(process)
    }

    /// The actors that wait for a worker, once there is one of their kind: they are to be placed anew.
    pub fn waiting_actors(&mut self) -> VecDeque<ActorKey> {
        let workers = &self.workers;
        let has_worker = |kind: &WorkerKind| {
            workers.values().any(|worker| worker.kind == *kind && !worker.is_dying)
        };
        let (found, wait) = std::mem::take(&mut self.waiting_actors)
            .into_iter()
            .partition(|(_, kind)| has_worker(kind));
        self.waiting_actors = wait;
        let found: VecDeque<(ActorKey, WorkerKind)> = found;
        found.into_iter().map(|(actor, _)| actor).collect()
    }

    /// No worker is to be had: the actors that wait for one.
    pub fn give_up_actors(&mut self) -> VecDeque<ActorKey> {
        std::mem::take(&mut self.waiting_actors).into_iter().map(|(actor, _)| actor).collect()
    }

    /// An actor needs no place any more.
    pub fn actor_ended(&mut self, actor: ActorKey) {
        self.waiting_actors.retain(|(waiting, _)| *waiting != actor);
        let process = self.actors.remove(actor);
        if let Some(worker) = process.and_then(|process| self.workers.get_mut(&process)) {
            worker.actors -= 1;
        }
    }

    /// Where an actor lives.
    pub fn home(&self, actor: ActorKey) -> Option<ProcessId> {
        self.actors.get(actor).copied()
    }

    /// A worker is about to be [lost](Fleet::lost): it gets no more leases and no more actors.
    pub fn dying(&mut self, process: ProcessId) {
        if let Some(worker) = self.workers.get_mut(&process) {
            worker.is_dying = true;
        }
    }

    /// A worker is gone: the leases that were its own. Its actors have no home any more.
    pub fn lost(&mut self, process: ProcessId) -> Vec<(LeaseKey, ClassId)> {
        if !self.plants.has(Plant::ServeTheDead) {
            self.workers.remove(&process);
        }
        self.actors.retain(|_, home| *home != process);
        let lost = self.given.iter().filter(|(_, given)| given.process == process);
        let lost: Vec<_> = lost.map(|(lease, given)| (lease, given.class)).collect();
        for (lease, _) in &lost {
            self.given.remove(*lease);
        }
        if self.plants.has(Plant::KeepDeadLease) {
            return lost.into_iter().skip(1).collect();
        }
        lost
    }

    /// No worker is to be had: the leases that wait for one.
    pub fn give_up(&mut self) -> Vec<(LeaseKey, ClassId)> {
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|waiting| (waiting.lease, waiting.class))
            .collect()
    }

    /// A lease that waits for a worker though more leases of its class are on their way than it has tasks
    /// left, as `surplus` says of a class: it waits no more, and is to be given back.
    pub fn in_vain(&mut self, surplus: impl Fn(ClassId) -> usize) -> Option<(LeaseKey, ClassId)> {
        if self.plants.has(Plant::WaitInVain) {
            return None;
        }
        // The last to come goes first: it would wait longest.
        let place = self.waiting.iter().rposition(|waiting| surplus(waiting.class) > 0)?;
        self.waiting.remove(place).map(|waiting| (waiting.lease, waiting.class))
    }

    /// Whether one more task may be pushed under a lease.
    pub fn has_room(&self, lease: LeaseKey) -> bool {
        self.given.get(lease).is_some_and(|given| {
            let depth = if given.is_exclusive { 1 } else { self.depth(given.class) };
            given.in_flight < depth && given.blocked == 0
        })
    }

    /// Whether one of so many `queued` tasks of its class is to be pushed under a lease, while `starting`
    /// leases of the class have none yet.
    pub fn takes_one(&self, lease: LeaseKey, queued: usize, starting: usize) -> bool {
        let is_left = queued > starting || self.plants.has(Plant::HoardTasks);
        self.has_room(lease) && (is_left || self.is_idle(lease))
    }

    /// A task was pushed.
    pub fn pushed(&mut self, lease: LeaseKey, now_us: u64) {
        if let Some(given) = self.given.get_mut(lease) {
            if given.in_flight == 0 {
                given.since_us = now_us;
            }
            given.first_us.get_or_insert(now_us);
            given.in_flight += if self.plants.has(Plant::CountTwice) { 2 } else { 1 };
        }
    }

    /// A task that runs under a lease waits for something. No more tasks are pushed behind it, for they
    /// would wait too; says whether its CPU is free from now on.
    #[must_use]
    pub fn blocked(&mut self, lease: LeaseKey) -> bool {
        let Some(given) = self.given.get_mut(lease) else { return false };
        given.blocked += 1;
        given.becomes_free()
    }

    /// It goes on; says whether its CPU was free.
    #[must_use]
    pub fn unblocked(&mut self, lease: LeaseKey) -> bool {
        let Some(given) = self.given.get_mut(lease) else { return false };
        if !self.plants.has(Plant::NeverUnblock) {
            given.blocked = given.blocked.saturating_sub(1);
        }
        std::mem::replace(&mut given.is_free, false)
    }

    /// So many tasks of a lease were answered; says whether all that are left wait, so that its CPU is
    /// free from now on.
    #[must_use]
    pub fn answered(&mut self, lease: LeaseKey, count: u32, now_us: u64) -> bool {
        let Some(given) = self.given.get_mut(lease) else { return false };
        given.in_flight -= count.min(given.in_flight);
        given.served = given.served.saturating_add(count);
        let free = given.becomes_free();
        let took_ns = now_us.saturating_sub(given.since_us) * 1_000 / u64::from(count.max(1));
        given.since_us = now_us;
        let class = given.class.0 as usize;
        if self.pace_ns.len() <= class {
            self.pace_ns.resize(class + 1, 0);
        }
        let pace = &mut self.pace_ns[class];
        // Slower counts at once, faster by and by: a long queue behind a slow task costs more.
        *pace =
            if *pace == 0 || took_ns > *pace { took_ns.max(1) } else { (*pace * 3 + took_ns) / 4 };
        free
    }

    /// Whether a lease has had its turn, if others wait for theirs.
    pub fn slice_is_over(&self, lease: LeaseKey, now_us: u64) -> bool {
        self.given.get(lease).is_some_and(|given| {
            let lasted = given.first_us.map_or(0, |first| now_us.saturating_sub(first));
            given.served >= SLICE_TASKS || lasted >= SLICE_US
        })
    }

    /// Whether nothing of a lease is in flight.
    pub fn is_idle(&self, lease: LeaseKey) -> bool {
        self.given.get(lease).is_none_or(|given| given.in_flight == 0)
    }

    /// Where a lease was given to.
    pub fn process(&self, lease: LeaseKey) -> Option<ProcessId> {
        self.given.get(lease).map(|given| given.process)
    }

    /// A lease is over.
    pub fn returned(&mut self, lease: LeaseKey) {
        self.waiting.retain(|waiting| waiting.lease != lease);
        if let Some(given) = self.given.remove(lease)
            && let Some(worker) = self.workers.get_mut(&given.process)
        {
            worker.leases -= 1;
        }
    }

    /// Workers that are ready, and how many leases each has.
    pub fn workers(&self) -> impl Iterator<Item = (ProcessId, usize)> {
        self.workers.iter().map(|(process, worker)| (*process, worker.leases))
    }

    /// The kind of worker that a lease of this class waits for.
    pub fn kind_to_come(&self, class: ClassId) -> Option<&WorkerKind> {
        let waiting = self.waiting.iter().find(|waiting| waiting.class == class);
        waiting.map(|waiting| &waiting.kind)
    }

    /// The kind of worker that an actor waits for.
    pub fn home_to_come(&self, actor: ActorKey) -> Option<&WorkerKind> {
        let waiting = self.waiting_actors.iter().find(|(waiting, _)| *waiting == actor);
        waiting.map(|(_, kind)| kind)
    }

    fn least_loaded(&mut self, kind: &WorkerKind) -> Option<(ProcessId, &mut Worker)> {
        let any = self.plants.has(Plant::AnyKind);
        let fits = |worker: &Worker| !worker.is_dying && (any || worker.kind == *kind);
        let fitting = self.workers.iter_mut().filter(|(_, worker)| fits(worker));
        let least = fitting.min_by_key(|(_, worker)| worker.load());
        least.map(|(process, worker)| (*process, worker))
    }

    fn depth(&self, class: ClassId) -> u32 {
        match self.pace_ns.get(class.0 as usize) {
            None | Some(0) => 1, // Nobody knows yet: the first answer tells.
            Some(pace) => (AHEAD_US * 1_000 / pace).clamp(1, u64::from(DEPTH_MAX)) as u32,
        }
    }
}

impl Given {
    fn new(class: ClassId, process: ProcessId, is_exclusive: bool) -> Self {
        Given {
            class,
            process,
            in_flight: 0,
            blocked: 0,
            is_free: false,
            is_exclusive,
            served: 0,
            first_us: None,
            since_us: 0,
        }
    }

    /// Whether nothing runs on its CPU any more.
    fn becomes_free(&mut self) -> bool {
        let free = self.blocked > 0 && self.blocked >= self.in_flight;
        free && !std::mem::replace(&mut self.is_free, free)
    }
}

impl Worker {
    fn load(&self) -> usize {
        self.leases + self.actors
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    const CLASS: ClassId = ClassId(0);
    const FIRST: ProcessId = ProcessId(1);
    const SECOND: ProcessId = ProcessId(2);

    fn leases(count: usize) -> Vec<LeaseKey> {
        let mut keys = SlotMap::<LeaseKey, ()>::with_key();
        (0..count).map(|_| keys.insert(())).collect()
    }

    #[test]
    fn leases_wait_for_a_worker_and_then_go_to_the_one_with_the_fewest() {
        let mut fleet = Fleet::new();
        let leases = leases(3);
        assert_eq!(fleet.granted(leases[0], CLASS, false), None);
        let given = fleet.ready(FIRST);
        assert_eq!(given, [Assigned { lease: leases[0], class: CLASS, process: FIRST }]);
        assert_eq!(fleet.ready(SECOND), []);
        assert_eq!(fleet.granted(leases[1], CLASS, false).unwrap().process, SECOND);
        fleet.returned(leases[0]);
        assert_eq!(fleet.granted(leases[2], CLASS, false).unwrap().process, FIRST);
    }

    /// KIND-2.
    #[test]
    fn a_lease_with_gpus_waits_for_a_worker_of_its_own_kind() {
        let mut fleet = Fleet::new();
        let leases = leases(4);
        let kind = |ids: &[u32]| WorkerKind::Gpus(ids.to_vec());
        fleet.ready(FIRST);
        assert_eq!(fleet.granted_to(kind(&[0]), leases[0], CLASS, true), None);
        assert_eq!(fleet.granted(leases[1], CLASS, false).unwrap().process, FIRST);
        let given = fleet.ready_as(kind(&[0]), SECOND);
        assert_eq!(given, [Assigned { lease: leases[0], class: CLASS, process: SECOND }]);
        assert_eq!(fleet.superseded(&kind(&[0, 1])), [], "it is at work");
        fleet.returned(leases[0]);
        assert_eq!(fleet.superseded(&kind(&[1])), []);
        assert_eq!(fleet.superseded(&kind(&[0])), []);
        assert_eq!(fleet.superseded(&kind(&[0, 1])), [SECOND]);
        assert_eq!(fleet.granted_to(kind(&[0]), leases[2], CLASS, true), None, "it ends");
        assert_eq!(fleet.give_up(), [(leases[2], CLASS)]);
    }

    #[test]
    fn actors_go_where_the_fewest_are_and_have_no_home_when_it_is_lost() {
        let mut keys = SlotMap::<ActorKey, ()>::with_key();
        let actors: Vec<_> = (0..3).map(|_| keys.insert(())).collect();
        let mut fleet = Fleet::new();
        assert_eq!(fleet.place_actor(actors[0]), None);
        assert_eq!(fleet.waiting_actors(), []);
        fleet.ready(FIRST);
        assert_eq!(fleet.waiting_actors(), [actors[0]]);
        assert_eq!(fleet.place_actor(actors[0]), Some(FIRST));
        fleet.ready(SECOND);
        assert_eq!(fleet.place_actor(actors[1]), Some(SECOND));
        fleet.actor_ended(actors[1]);
        assert_eq!(fleet.place_actor(actors[2]), Some(SECOND));
        fleet.lost(SECOND);
        assert_eq!((fleet.home(actors[0]), fleet.home(actors[2])), (Some(FIRST), None));
        fleet.actor_ended(actors[2]); // Too late: nobody counts it any more.
        assert_eq!(fleet.place_actor(actors[2]), Some(FIRST));
    }

    #[test]
    fn the_depth_follows_the_pace() {
        let mut fleet = Fleet::new();
        let lease = leases(1)[0];
        fleet.ready(FIRST);
        fleet.granted(lease, CLASS, false);
        fleet.pushed(lease, 0);
        assert!(!fleet.has_room(lease), "nobody knows how long one takes");
        let _ = fleet.answered(lease, 1, 100); // 100 us
        for _ in 0..20 {
            assert!(fleet.has_room(lease));
            fleet.pushed(lease, 100);
        }
        assert!(!fleet.has_room(lease), "20 tasks of 100 us are enough ahead");
        let _ = fleet.answered(lease, 1, 5_100); // 5 ms
        assert!(!fleet.has_room(lease));
        let _ = fleet.answered(lease, 19, 5_100);
        assert!(fleet.is_idle(lease));
    }

    /// FLEET-3.
    #[test]
    fn a_task_is_left_to_a_lease_on_its_way() {
        let mut fleet = Fleet::new();
        let lease = leases(1)[0];
        fleet.ready(FIRST);
        fleet.granted(lease, CLASS, false);
        assert!(fleet.takes_one(lease, 1, 1), "the one on its way is this");
        fleet.pushed(lease, 0);
        let _ = fleet.answered(lease, 1, 10);
        fleet.pushed(lease, 10);
        assert!(!fleet.takes_one(lease, 2, 2));
        assert!(fleet.takes_one(lease, 3, 2));
    }

    #[test]
    fn a_slice_is_over_after_some_tasks_or_some_time() {
        let mut fleet = Fleet::new();
        let leases = leases(2);
        fleet.ready(FIRST);
        for lease in &leases {
            fleet.granted(*lease, CLASS, false);
            fleet.pushed(*lease, 100);
        }
        assert!(!fleet.slice_is_over(leases[0], 100 + SLICE_US - 1));
        assert!(fleet.slice_is_over(leases[0], 100 + SLICE_US));
        let _ = fleet.answered(leases[1], SLICE_TASKS, 200);
        assert!(fleet.slice_is_over(leases[1], 200));
    }

    #[test]
    fn a_dying_worker_gets_nothing_more_though_it_has_the_least() {
        let (mut fleet, leases) = (Fleet::new(), leases(1));
        let actor = SlotMap::<ActorKey, ()>::with_key().insert(());
        fleet.ready(FIRST);
        fleet.dying(FIRST);
        assert_eq!(fleet.granted(leases[0], CLASS, false), None);
        assert_eq!(fleet.place_actor(actor), None);
        assert!(fleet.waiting_actors().is_empty());
        assert_eq!(fleet.lost(FIRST), []);
        let given = fleet.ready(SECOND);
        assert_eq!(given, [Assigned { lease: leases[0], class: CLASS, process: SECOND }]);
        assert_eq!(fleet.waiting_actors(), [actor]);
    }

    #[test]
    fn a_lost_worker_leaves_nothing_behind() {
        let mut fleet = Fleet::new();
        let leases = leases(2);
        fleet.ready(FIRST);
        fleet.granted(leases[0], CLASS, false);
        fleet.pushed(leases[0], 0);
        assert_eq!(fleet.lost(FIRST), [(leases[0], CLASS)]);
        assert_eq!(fleet.process(leases[0]), None);
        let _ = fleet.answered(leases[0], 1, 10); // Too late: nobody listens.
        assert_eq!(fleet.granted(leases[1], CLASS, false), None);
        fleet.returned(leases[1]);
        assert_eq!(fleet.ready(SECOND), []);
    }

    /// FLEET-4.
    #[test]
    fn a_lease_whose_task_is_gone_does_not_wait_for_a_worker() {
        let mut fleet = Fleet::new();
        let leases = leases(2);
        fleet.granted(leases[0], CLASS, false);
        fleet.granted(leases[1], CLASS, false);
        assert_eq!(fleet.in_vain(|_| 0), None);
        assert_eq!(fleet.in_vain(|_| 1), Some((leases[1], CLASS)));
        assert_eq!(fleet.in_vain(|_| 1), Some((leases[0], CLASS)));
        assert_eq!(fleet.in_vain(|_| 1), None);
        assert_eq!(fleet.ready(FIRST), []);
    }

    #[test]
    fn leases_that_wait_in_vain_are_given_up() {
        let mut fleet = Fleet::new();
        let leases = leases(2);
        fleet.granted(leases[0], CLASS, false);
        fleet.granted(leases[1], CLASS, false);
        assert_eq!(fleet.give_up(), [(leases[0], CLASS), (leases[1], CLASS)]);
        assert_eq!(fleet.ready(FIRST), []);
    }
}
