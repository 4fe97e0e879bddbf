//! Actors: values with a life of their own, whose calls run one after the other.
//!
//! # Protocol
//! 1. A handle is there at once. The actor is *placed* when it has its lease (at once if it asks for
//!    no resources), then its constructor runs, then its calls.
//! 2. A call joins the actor's queue. While calls may start, *runners* are in the pool: at most as
//!    many as calls may run at once. A thread that waits for a call's result takes part.
//! 3. When the last handle is gone the actor ends after the calls it has. A kill ends it at once: its
//!    waiting calls fail, and the one that runs is asked to stop.
//!
//! # Invariants
//! - **ACTOR-1 (someone comes).** While a call may start, a runner is scheduled or running. Both who
//!   adds a call and who finds none decide under the actor's lock.
//! - **ACTOR-2 (lock order).** The hub's lock may be held when an actor's is taken, never the other
//!   way round.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use raybolt_core::calls::owner::{ActorKey, TaskKey};
use raybolt_core::calls::queue::{Call, CallerId, Mode, Place, Queue};
use raybolt_core::calls::scheduler::LeaseKey;
use slotmap::{DefaultKey, Key, SlotMap};
use tokio::sync::RwLock;

use crate::clock::coarse_ms;
use crate::context::{self, Context};
use crate::error::{Error, Kind, TaskError};
use crate::job::{Began, Ended};
use crate::method::MethodJob;
use crate::pool::Runnable;
use crate::processes::hosted::Home;
use crate::session::Session;
use crate::timeline::{self, Sort};

/// How many calls a runner takes before others have their turn.
const SLICE_CALLS: u32 = 64;

/// Makes the actor's state.
pub(crate) type Create<A> = Box<dyn FnOnce() -> Result<A, Box<TaskError>> + Send>;

/// An actor whose type is not known here.
pub(crate) trait AnyActor: Send + Sync {
    /// Its name for messages.
    fn name(&self) -> &str;
    fn key(&self) -> ActorKey;
    /// It has the lease it waited for.
    fn place(self: Arc<Self>, lease: LeaseKey);
    /// The arguments of a call are ready.
    fn argument_ready(self: Arc<Self>, task: TaskKey);
    /// A call shall not start; it fails with `error`, or else with that of its failed argument.
    fn cancel(self: Arc<Self>, task: TaskKey, error: Option<Error>);
    /// Ends the actor now.
    fn kill(self: Arc<Self>, because: &str);
    /// Runs calls on this thread, until `done` or until none may start.
    fn run_until(self: Arc<Self>, done: &dyn Fn() -> bool);
    /// Whether a call can start only when one that runs has ended.
    fn waits_for_running(&self, task: TaskKey) -> bool;
    /// Whether a call runs here that lets no other run beside it.
    fn runs_alone(&self) -> bool;
    /// What it does, for those who watch.
    fn view(&self) -> ActorView;
    /// The methods of all calls that have not ended.
    fn methods(&self) -> Vec<(TaskKey, &'static str)>;
    /// A call that runs.
    fn running(&self, task: TaskKey) -> Option<RunningCall>;
    /// Where a call is, if it has not ended.
    fn call(&self, task: TaskKey) -> Option<CallView>;
    /// It may start, or look for a place again.
    fn begin(self: Arc<Self>);
    /// Nobody has a handle any more: it ends after the calls it has.
    fn let_end(self: Arc<Self>);
}

/// What an actor does, for those who watch.
#[derive(Debug, Clone)]
pub(crate) struct ActorView {
    pub(crate) state: ActorState,
    /// Calls that have not started.
    pub(crate) waiting: usize,
    /// Calls that run, in no order.
    pub(crate) running: Vec<RunningCall>,
    pub(crate) lease: Option<LeaseKey>,
}

/// How far an actor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ActorState {
    /// It waits for its lease.
    Placing,
    /// It has not begun its constructor.
    Placed,
    /// Its constructor runs.
    Creating,
    Alive,
    Dead(String),
}

/// A call that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunningCall {
    pub(crate) task: TaskKey,
    pub(crate) method: &'static str,
    pub(crate) since_ms: u64,
}

/// Where a call is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CallView {
    Running(RunningCall),
    Waiting {
        method: &'static str,
        place: Place,
        /// It cannot start before all calls that run have ended.
        needs_all: bool,
    },
}

impl CallView {
    /// The method's name.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            CallView::Running(call) => call.method,
            CallView::Waiting { method, .. } => method,
        }
    }
}

/// An actor of type `A`.
pub(crate) struct Actor<A> {
    pub(crate) session: Arc<Session>,
    pub(crate) key: ActorKey,
    pub(crate) name: Arc<str>,
    /// The queue lets no two calls in that do not go together: nobody waits for this lock.
    pub(crate) state: Arc<RwLock<Option<A>>>,
    core: Mutex<Core<A>>,
    /// The process it lives in, if it lives there for another one.
    home: Option<Home>,
}

struct Core<A> {
    phase: Phase<A>,
    queue: Queue<Box<dyn MethodJob<A>>>,
    /// The calls that run, for those who watch.
    running: SlotMap<DefaultKey, RunningCall>,
    runners: usize,
    runners_max: usize,
    pending_max: usize,
    lease: Option<LeaseKey>,
    /// The last handle is gone: it ends when it has no calls.
    ending: bool,
    /// While it ends: its calls may wait for arguments, and nobody else holds it.
    itself: Option<Arc<Actor<A>>>,
    /// Its constructor runs, whatever the phase says.
    is_creating: bool,
}

enum Phase<A> {
    /// Waits for its lease.
    Placing(Create<A>),
    /// Its constructor is the next thing to run.
    Placed(Create<A>),
    /// Its constructor runs.
    Creating,
    Alive,
    Dead(String),
}

/// What a runner is to do next.
enum Next<A> {
    Create(Create<A>),
    /// A call, what is to be told when it has ended, and the lease that the actor holds.
    Call(Call<Box<dyn MethodJob<A>>>, Over, Option<LeaseKey>),
    Nothing,
}

/// What the actor is told about a call that has ended.
#[derive(Clone, Copy)]
struct Over {
    group: usize,
    mode: Mode,
    running: DefaultKey,
}

/// A call that the actor did not take.
pub(crate) struct Refused<A> {
    pub(crate) call: Call<Box<dyn MethodJob<A>>>,
    pub(crate) error: Error,
}

impl<A: Send + Sync + 'static> Actor<A> {
    pub(crate) fn new(
        session: Arc<Session>,
        key: ActorKey,
        name: Arc<str>,
        limits: &[usize],
        pending_max: usize,
        create: Create<A>,
    ) -> Self {
        Self::made(session, key, name, limits, pending_max, create, None, None)
    }

    /// One that lives here for another process.
    #[allow(clippy::too_many_arguments, reason = "what an actor is made of")]
    pub(crate) fn hosted(
        session: Arc<Session>,
        key: ActorKey,
        name: Arc<str>,
        limits: &[usize],
        pending_max: usize,
        create: Create<A>,
        home: Home,
        lease: Option<LeaseKey>,
    ) -> Self {
        Self::made(session, key, name, limits, pending_max, create, Some(home), lease)
    }

    #[allow(clippy::too_many_arguments, reason = "what an actor is made of")]
    fn made(
        session: Arc<Session>,
        key: ActorKey,
        name: Arc<str>,
        limits: &[usize],
        pending_max: usize,
        create: Create<A>,
        home: Option<Home>,
        lease: Option<LeaseKey>,
    ) -> Self {
        Actor {
            session,
            key,
            name,
            home,
            state: Arc::new(RwLock::new(None)),
            core: Mutex::new(Core {
                phase: Phase::Placing(create),
                queue: Queue::new(limits),
                running: SlotMap::new(),
                runners: 0,
                runners_max: limits.iter().fold(0, |sum, limit| sum.saturating_add(*limit)),
                pending_max,
                lease,
                ending: false,
                itself: None,
                is_creating: false,
            }),
        }
    }

    /// It needs no lease: it may start.
    pub(crate) fn start(self: &Arc<Self>) {
        self.placed(None);
    }

    /// A call was made; `ready` says whether its arguments are there.
    pub(crate) fn submitted(
        self: &Arc<Self>,
        caller: CallerId,
        call: Call<Box<dyn MethodJob<A>>>,
        ready: bool,
    ) -> Result<(), Refused<A>> {
        let mut core = self.lock();
        if let Phase::Dead(because) = &core.phase {
            let error = self.died(because);
            return Err(Refused { call, error });
        }
        if core.queue.len() >= core.pending_max {
            let (actor, pending_max) = (self.name.to_string(), core.pending_max);
            return Err(Refused {
                call,
                error: Error::new(Kind::ActorBusy { actor, pending_max }),
            });
        }
        core.queue.submitted(caller, call, ready);
        self.see_to_runners(core);
        Ok(())
    }

    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.lock().phase, Phase::Dead(_))
    }

    /// The last handle is gone.
    pub(crate) fn end_after_calls(self: &Arc<Self>) {
        let mut core = self.lock();
        core.ending = true;
        if !matches!(core.phase, Phase::Dead(_)) {
            core.itself = Some(self.clone());
        }
        self.see_to_runners(core);
    }

    fn placed(self: &Arc<Self>, lease: Option<LeaseKey>) {
        let mut core = self.lock();
        core.lease = lease;
        match std::mem::replace(&mut core.phase, Phase::Creating) {
            Phase::Placing(create) => {
                core.phase = Phase::Placed(create);
                self.see_to_runners(core);
            }
            other => {
                // Killed while it waited.
                core.phase = other;
                let lease = core.lease.take();
                drop(core);
                self.give_back(lease);
            }
        }
    }

    /// ACTOR-1: schedules a runner if there may be something to do and room for one more.
    fn see_to_runners(self: &Arc<Self>, mut core: MutexGuard<'_, Core<A>>) {
        let some = match &core.phase {
            Phase::Placed(_) => true,
            Phase::Alive => !core.queue.is_empty() || core.is_over(),
            Phase::Placing(_) | Phase::Creating | Phase::Dead(_) => false,
        };
        if some && core.runners < core.runners_max {
            core.runners += 1;
            drop(core);
            match &self.home {
                None => self.session.pool.schedule(self.clone()),
                Some(home) => home.run_soon(&self.session, self.clone()),
            }
        }
    }

    /// A call has ended. That of a hosted actor has told its driver itself.
    fn conclude(&self, task: TaskKey, ended: Ended) {
        if self.home.is_none() {
            self.session.conclude(task, 0, ended);
        }
    }

    /// One visit to the queue ends the last call and fetches the next.
    fn next(self: &Arc<Self>, counted: bool, ended: Option<Over>) -> Next<A> {
        let mut core = self.lock();
        if let Some(over) = ended {
            core.finished(over);
        }
        let next = core.next();
        let nothing = matches!(next, Next::Nothing);
        core.runners -= usize::from(counted && nothing);
        // Whoever takes a call beside which others may run sees to the next runner, as long as there
        // are calls: one event may have let several of them start.
        let others_may_run = matches!(&next, Next::Call(_, over, _) if over.mode == Mode::Shared)
            && !core.queue.is_empty();
        if nothing && core.is_idle() {
            self.settle_end(core);
        } else if others_may_run {
            self.see_to_runners(core);
        }
        next
    }

    /// When it is idle: an actor that is over ends, and one that has ended is buried.
    fn settle_end(&self, mut core: MutexGuard<'_, Core<A>>) {
        if core.is_over() && matches!(core.phase, Phase::Alive) {
            core.phase = Phase::Dead("its last handle was dropped".into());
        }
        if matches!(core.phase, Phase::Dead(_)) {
            let (lease, itself) = (core.lease.take(), core.itself.take());
            drop(core);
            self.bury(lease);
            drop(itself);
        }
    }

    /// Runs up to `max` steps; says whether there may be more.
    fn run_slice(self: &Arc<Self>, max: u32, counted: bool, done: &dyn Fn() -> bool) -> bool {
        let mut ended = None;
        for _ in 0..max {
            match self.next(counted, ended.take()) {
                Next::Nothing => return false,
                Next::Create(create) => self.create(create),
                Next::Call(call, over, lease) => ended = self.run_call(call, over, lease),
            }
            if done() {
                break;
            }
        }
        if let Some(over) = ended {
            self.finished(over);
        }
        true
    }

    fn create(self: &Arc<Self>, create: Create<A>) {
        let lease = self.lock().lease;
        let context = self.context(TaskKey::null(), lease, None);
        let span = timeline::span(Sort::Constructor, &self.name, None);
        let created = context::enter(context, create);
        drop(span);
        match created {
            Ok(state) => {
                *self.state.try_write().expect("no call runs before the constructor has") =
                    Some(state);
                let mut core = self.lock();
                core.is_creating = false;
                if matches!(core.phase, Phase::Creating) {
                    core.phase = Phase::Alive;
                    self.see_to_runners(core);
                } else {
                    self.settle_end(core); // Killed meanwhile.
                }
            }
            Err(error) => {
                match &self.home {
                    None => crate::failures::record(&error, true),
                    Some(home) => home.failed(&error),
                }
                let mut core = self.lock();
                core.is_creating = false;
                if matches!(core.phase, Phase::Dead(_)) {
                    return self.settle_end(core); // Killed meanwhile.
                }
                drop(core);
                self.end(&format!("its constructor failed: {error}"));
            }
        }
    }

    /// Runs a call; says what the queue has to be told now, if the call has ended.
    fn run_call(
        self: &Arc<Self>,
        call: Call<Box<dyn MethodJob<A>>>,
        over: Over,
        lease: Option<LeaseKey>,
    ) -> Option<Over> {
        let Call { task, job, .. } = call;
        let context = self.context(task, lease, job.deadline());
        match job.run(self.state.clone(), context) {
            Began::Ended(ended) => {
                self.conclude(task, ended);
                Some(over)
            }
            Began::Later(future) => {
                let actor = self.clone();
                self.session.spawn(async move {
                    let ended = future.await;
                    actor.conclude(task, ended);
                    actor.finished(over);
                });
                None
            }
        }
    }

    /// A call has ended, and whoever ran it does not fetch the next.
    fn finished(self: &Arc<Self>, over: Over) {
        let mut core = self.lock();
        core.finished(over);
        if matches!(core.phase, Phase::Dead(_)) && core.is_idle() {
            self.settle_end(core);
        } else {
            self.see_to_runners(core);
        }
    }

    /// Ends the actor: its waiting calls fail.
    fn end(self: &Arc<Self>, because: &str) {
        let (calls, phase) = {
            let mut core = self.lock();
            if matches!(core.phase, Phase::Dead(_)) {
                return;
            }
            let phase = std::mem::replace(&mut core.phase, Phase::Dead(because.to_owned()));
            if !core.is_idle() {
                self.session.stop_calls_of(self.caller());
            }
            (core.queue.closed(), phase)
        };
        // A constructor that will not run holds arguments: user data, outside the lock.
        crate::panics::drop_here(&self.name, phase);
        for call in calls {
            call.job.fail(Some(self.died(because)));
            self.conclude(call.task, Ended::Failed);
        }
        let core = self.lock();
        if core.is_idle() {
            self.settle_end(core);
        }
    }

    /// Drops the state, when no call can reach it any more.
    fn bury(&self, lease: Option<LeaseKey>) {
        self.session.calls_are_over(self.caller());
        if let Ok(mut state) = self.state.try_write() {
            crate::panics::drop_here(&self.name, state.take());
        }
        if let Some(home) = &self.home {
            let because = match &self.lock().phase {
                Phase::Dead(because) => because.clone(),
                _ => unreachable!("only the dead are buried"),
            };
            return home.ended(because);
        }
        // Whoever looked it up to bring a call finds it dead, or not at all.
        self.session.act(|hub| {
            hub.actors.remove(self.key);
            if let Some(lease) = lease {
                hub.scheduler.returned(lease);
            }
        });
    }

    fn give_back(&self, lease: Option<LeaseKey>) {
        if let Some(lease) = lease {
            self.session.act(|hub| hub.scheduler.returned(lease));
        }
    }

    fn died(&self, because: &str) -> Error {
        let (actor, because) = (self.name.to_string(), because.to_owned());
        Error::new(Kind::ActorDied { actor, because })
    }

    /// Who it is to those it calls.
    fn caller(&self) -> CallerId {
        context::caller_of_actor(self.key)
    }

    fn context(
        &self,
        task: TaskKey,
        lease: Option<LeaseKey>,
        deadline: Option<Instant>,
    ) -> Context {
        let caller = self.caller();
        Context { task, attempt: 0, caller, lease, is_lease_lent: false, deadline, is_async: false }
    }

    fn lock(&self) -> MutexGuard<'_, Core<A>> {
        self.core.lock().expect("no thread panics while it holds an actor's lock")
    }
}

impl<A> Core<A> {
    fn next(&mut self) -> Next<A> {
        match std::mem::replace(&mut self.phase, Phase::Creating) {
            Phase::Placed(create) => {
                self.is_creating = true;
                Next::Create(create)
            }
            Phase::Alive => {
                self.phase = Phase::Alive;
                let lease = self.lease;
                let Some(call) = self.queue.start_next() else { return Next::Nothing };
                let (task, method) = (call.task, call.job.name());
                let running = RunningCall { task, method, since_ms: coarse_ms() };
                let running = self.running.insert(running);
                let over = Over { group: call.group, mode: call.mode, running };
                Next::Call(call, over, lease)
            }
            other => {
                self.phase = other;
                Next::Nothing
            }
        }
    }

    /// A call has ended.
    fn finished(&mut self, over: Over) {
        self.queue.finished(over.group, over.mode);
        self.running.remove(over.running);
    }

    /// No user code of it runs.
    fn is_idle(&self) -> bool {
        !self.is_creating && self.queue.running() == 0
    }

    fn is_over(&self) -> bool {
        self.ending && self.queue.is_empty() && self.queue.running() == 0
    }
}

impl<A: Send + Sync + 'static> Runnable for Actor<A> {
    fn run(self: Arc<Self>) {
        let slice = || self.run_slice(SLICE_CALLS, true, &|| false);
        let more = match &self.home {
            None => slice(),
            Some(home) => home.run(slice),
        };
        if more {
            let pool = self.session.pool.clone();
            pool.schedule(self);
        }
    }
}

impl<A: Send + Sync + 'static> AnyActor for Actor<A> {
    fn name(&self) -> &str {
        &self.name
    }

    fn key(&self) -> ActorKey {
        self.key
    }

    fn place(self: Arc<Self>, lease: LeaseKey) {
        self.placed(Some(lease));
    }

    fn argument_ready(self: Arc<Self>, task: TaskKey) {
        let mut core = self.lock();
        core.queue.argument_ready(task);
        self.see_to_runners(core);
    }

    fn cancel(self: Arc<Self>, task: TaskKey, error: Option<Error>) {
        let mut core = self.lock();
        let call = core.queue.cancelled(task);
        self.see_to_runners(core); // It may have held others back.
        if let Some(call) = call {
            call.job.fail(error);
            self.conclude(task, Ended::Failed);
        }
    }

    fn kill(self: Arc<Self>, because: &str) {
        self.end(because);
    }

    fn run_until(self: Arc<Self>, done: &dyn Fn() -> bool) {
        while !done() && self.run_slice(SLICE_CALLS, false, done) {}
    }

    fn waits_for_running(&self, task: TaskKey) -> bool {
        self.lock().queue.waits_for_running(task)
    }

    fn runs_alone(&self) -> bool {
        self.lock().queue.runs_alone()
    }

    fn view(&self) -> ActorView {
        let core = self.lock();
        let state = match &core.phase {
            Phase::Placing(_) => ActorState::Placing,
            Phase::Placed(_) => ActorState::Placed,
            Phase::Creating => ActorState::Creating,
            Phase::Alive => ActorState::Alive,
            Phase::Dead(because) => ActorState::Dead(because.clone()),
        };
        let running = core.running.values().copied().collect();
        ActorView { state, waiting: core.queue.len(), running, lease: core.lease }
    }

    fn methods(&self) -> Vec<(TaskKey, &'static str)> {
        let core = self.lock();
        let running = core.running.values().map(|call| (call.task, call.method));
        running.chain(core.queue.calls().map(|call| (call.task, call.job.name()))).collect()
    }

    fn running(&self, task: TaskKey) -> Option<RunningCall> {
        self.lock().running.values().find(|running| running.task == task).copied()
    }

    fn call(&self, task: TaskKey) -> Option<CallView> {
        if let Some(running) = self.running(task) {
            return Some(CallView::Running(running));
        }
        let core = self.lock();
        let (place, job) = core.queue.place(task)?;
        let needs_all = core.queue.waits_for_running(task);
        Some(CallView::Waiting { method: job.name(), place, needs_all })
    }

    fn begin(self: Arc<Self>) {
        let lease = self.lock().lease;
        self.placed(lease);
    }

    fn let_end(self: Arc<Self>) {
        self.end_after_calls();
    }
}
