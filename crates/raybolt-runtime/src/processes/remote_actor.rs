//! The driver's side of an actor that lives in a worker process.
//!
//! # Protocol
//! 1. An actor is *placed* when its constructor's arguments are there and it has its lease, if it needs
//!    one: the [fleet](raybolt_core::calls::fleet) chooses the worker.
//! 2. Its calls are packed by who makes them, and sent in the order that its
//!    [machine](raybolt_core::calls::incarnations) says, right behind its constructor.
//! 3. When its worker is lost the machine says whether it begins anew elsewhere, and which calls fail.
//! 4. When its last handle is gone and it has no calls, or when it is killed, its worker is told to end it,
//!    and says when it has.
//!
//! # Invariants
//! - **REMOTE-1 (sent in order).** One thread at a time sends an actor's calls, which is what keeps INC-2
//!   over the link. Nothing of the user's runs under the actor's lock.
//! - **REMOTE-2 (lock order).** Hub, then an actor, then a link. Nothing else is locked meanwhile.
//! - **REMOTE-3 (no reader waits).** Arguments are packed where they become ready, often on the thread that
//!   reads the links; those that have to wait for the store are packed by a thread of the pool.
//!
//! `placing` is step 1, `packing` and `sending` are step 2, `life` is what tells of the last handle. The rest is
//! here: how an actor's state changes, and what others ask of it.

mod life;
mod packing;
mod placing;
mod sending;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use raybolt_core::calls::incarnations::{Cancelled, Incarnation, Incarnations, Refusal};
use raybolt_core::calls::owner::{ActorKey, TaskKey};
use raybolt_core::calls::queue::{CallerId, Place as QueuePlace};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_wire::work::{Code, ToWorker};
use slotmap::Key;

use crate::actor::{ActorState, ActorView, AnyActor, CallView, RunningCall};
use crate::clock::coarse_ms;
use crate::error::{Error, Kind, Result};
use crate::job::Ended;
use crate::panics;
use crate::processes::inlet::Inlet;
use crate::processes::monitor::Living;
use crate::processes::node::Workers;
pub(crate) use crate::processes::remote_actor::life::Life;
use crate::processes::remote_actor::sending::append;
use crate::processes::remote_call::RemoteCall;
use crate::processes::worker::Worker;
use crate::session::{Place, Session};

/// What makes the actor, again and again if need be.
pub(crate) trait Construct: Send + Sync {
    /// What it runs.
    fn code(&self) -> Result<Code>;
    /// Appends the arguments, once they are there.
    fn pack(&self, out: &mut Vec<u8>) -> Result<()>;
    /// The error of the argument that failed.
    fn argument_error(&self) -> Option<Error>;
}

/// An actor in a worker process.
pub(crate) struct Remote {
    pub(crate) session: Arc<Session>,
    pub(crate) key: ActorKey,
    pub(crate) name: Arc<str>,
    settings: Settings,
    construct: Box<dyn Construct>,
    core: Mutex<Core>,
}

/// How it was made.
pub(crate) struct Settings {
    /// Its type, as [`kind_of`] numbers it.
    pub(crate) kind: u64,
    /// The name of its class.
    pub(crate) class: String,
    pub(crate) limits: Vec<usize>,
    pub(crate) pending_max: usize,
    pub(crate) restarts: u32,
    /// How often a call is sent again that was lost with a worker.
    pub(crate) call_retries: u32,
}

struct Core {
    calls: Incarnations<Made>,
    /// Calls whose arguments are not there.
    unready: BTreeMap<TaskKey, Arc<dyn RemoteCall>>,
    /// Stands for the constructor, as long as its arguments are not there.
    constructor: Option<TaskKey>,
    /// Whether it waits for its lease.
    awaits_lease: bool,
    lease: Option<LeaseKey>,
    /// Somebody looks for a worker.
    is_moving: bool,
    worker: Option<Arc<Worker>>,
    /// Why it is gone, or about to.
    because: Option<String>,
    /// The worker knows that it is to end.
    is_told: bool,
    /// Somebody sends, and will see what joins the calls meanwhile.
    is_sending: bool,
    /// Memory for those who send.
    frames: Vec<u8>,
    /// While nobody else holds it.
    itself: Option<Arc<Remote>>,
}

/// A call, and who made it.
pub(crate) struct Made {
    pub(crate) caller: CallerId,
    pub(crate) call: Arc<dyn RemoteCall>,
    since_ms: u64,
}

/// The number of a type, the same in all processes of a program.
pub(crate) fn kind_of<A>() -> u64 {
    let name = std::any::type_name::<A>().as_bytes();
    name.iter().fold(0, |hash, byte| raybolt_core::hash::mix(hash ^ u64::from(*byte)))
}

impl Remote {
    pub(crate) fn new(
        session: Arc<Session>,
        key: ActorKey,
        name: Arc<str>,
        settings: Settings,
        awaits_lease: bool,
        construct: Box<dyn Construct>,
    ) -> Self {
        let Settings { limits, pending_max, restarts, .. } = &settings;
        let core = Mutex::new(Core {
            calls: Incarnations::new(limits, *pending_max, *restarts),
            unready: BTreeMap::new(),
            constructor: None,
            awaits_lease,
            lease: None,
            is_moving: false,
            worker: None,
            because: None,
            is_told: false,
            is_sending: false,
            frames: Vec::new(),
            itself: None,
        });
        Remote { session, key, name, settings, construct, core }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The constructor waits for arguments; `task` stands for it.
    pub(crate) fn waits_for_arguments(&self, task: TaskKey) {
        self.lock().constructor = Some(task);
    }

    /// A call was made. If `ready`, it is packed.
    pub(crate) fn submitted(
        self: &Arc<Self>,
        caller: CallerId,
        task: TaskKey,
        call: Arc<dyn RemoteCall>,
        ready: bool,
    ) -> Result<()> {
        let mut core = self.lock();
        let group = usize::from(call.method().group);
        let retries = self.settings.call_retries;
        let unready = (!ready).then(|| call.clone());
        let taken = core.calls.submitted(
            caller,
            task,
            group,
            (Made { caller, call, since_ms: coarse_ms() }, retries),
            ready,
        );
        if let Err((refusal, made)) = taken {
            let error = self.refusal(&core, refusal);
            drop(core);
            drop(made);
            return Err(error);
        }
        match unready {
            None => self.go_on(core),
            // Nothing may be sent because of it, and the caller may hold the hub's lock.
            Some(call) => drop(core.unready.insert(task, call)),
        }
        Ok(())
    }

    /// Whether its worker has calls of it.
    pub(crate) fn has_calls(&self) -> bool {
        self.lock().calls.in_flight() > 0
    }

    /// What the memory monitor has to know of it.
    pub(crate) fn living(&self) -> Living {
        let core = self.lock();
        Living {
            name: self.name.to_string(),
            restarts_left: core.calls.restarts_left(),
            since_ms: core.first_sent().map(|call| call.since_ms),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.lock().calls.is_alive()
    }

    /// Where the items of a call that runs go.
    pub(crate) fn inlet(&self, task: TaskKey, incarnation: u32) -> Option<Arc<dyn Inlet>> {
        let core = self.lock();
        if core.calls.incarnation() != Incarnation(incarnation) {
            return None;
        }
        let (_, made) = core.calls.sent().find(|(sent, _)| *sent == task)?;
        made.call.inlet()
    }

    /// An answer has arrived: whose it is.
    pub(crate) fn answered(&self, incarnation: u32, number: u64) -> Option<(TaskKey, Made)> {
        self.lock().calls.answered(Incarnation(incarnation), number)
    }

    /// Answers were taken: there may be room for more calls.
    pub(crate) fn resume(self: &Arc<Self>) {
        self.go_on(self.lock());
    }

    /// Its worker says that it has ended.
    pub(crate) fn ended(self: &Arc<Self>, incarnation: u32, because: &str) {
        let mut core = self.lock();
        let Some(left) = core.calls.ended(Incarnation(incarnation)) else { return };
        self.over(core, left, because);
    }

    /// Its worker is lost.
    pub(crate) fn lost(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        because: impl Fn(&[String]) -> String,
    ) {
        let mut core = self.lock();
        if !core.worker.as_ref().is_some_and(|home| Arc::ptr_eq(home, worker)) {
            return;
        }
        let incarnation = core.calls.incarnation();
        let ran: Vec<_> =
            core.calls.sent().take(1).map(|(_, made)| made.call.name().to_owned()).collect();
        let because = &because(&ran);
        let Some(lost) = core.calls.lost(incarnation) else { return };
        if !lost.restarts {
            return self.over(core, lost.failed, because);
        }
        core.worker = None;
        drop(core);
        tracing::info!(target: "raybolt", "actor `{}` begins anew: {because}", self.name);
        self.fail_all(lost.failed, because);
        self.settle_down();
    }

    /// It is dead: `left` are the calls that nobody will answer.
    fn over(&self, mut core: MutexGuard<'_, Core>, left: Vec<(TaskKey, Made)>, because: &str) {
        let because = core.because.get_or_insert_with(|| because.to_owned()).clone();
        let (worker, lease) = (core.worker.take(), core.lease.take());
        let (constructor, itself) = (core.constructor.take(), core.itself.take());
        core.unready.clear();
        drop(core);
        self.fail_all(left, &because);
        if let Some(worker) = worker {
            worker.forget_actor(self.key);
        }
        // Whoever looked it up to bring a call finds it dead, or not at all.
        self.session.act(|hub| {
            hub.actors.remove(self.key);
            hub.fleet.actor_ended(self.key);
            if let Some(lease) = lease {
                hub.scheduler.returned(lease);
            }
            if let Some(task) = constructor {
                hub.owner.finished(task, 0, false);
            }
        });
        drop(itself);
    }

    /// It ends without its worker having a say.
    fn die(&self, because: &str) {
        let mut core = self.lock();
        let mut left = core.calls.killed();
        let incarnation = core.calls.incarnation();
        left.extend(core.calls.ended(incarnation).into_iter().flatten());
        self.over(core, left, because);
    }

    /// Nobody has a handle any more.
    fn last_handle_gone(self: &Arc<Self>) {
        let mut core = self.lock();
        core.calls.last_handle_gone();
        if core.calls.is_alive() {
            core.itself = Some(self.clone());
        }
        self.go_on(core);
    }

    fn fail_all(&self, calls: Vec<(TaskKey, Made)>, because: &str) {
        for (task, made) in calls {
            made.call.fail(Some(self.died(because)));
            panics::drop_here(&self.name, made);
            self.session.conclude(task, 0, Ended::Failed);
        }
    }

    fn refusal(&self, core: &Core, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Dead => self.died(core.because.as_deref().unwrap_or("it has ended")),
            Refusal::Busy => {
                let (actor, pending_max) = (self.name.to_string(), self.settings.pending_max);
                Error::new(Kind::ActorBusy { actor, pending_max })
            }
        }
    }

    fn died(&self, because: &str) -> Error {
        let (actor, because) = (self.name.to_string(), because.to_owned());
        Error::new(Kind::ActorDied { actor, because })
    }

    fn id(&self) -> u64 {
        self.key.data().as_ffi()
    }

    fn workers(&self) -> &Workers {
        match &self.session.place {
            Place::Workers(node) => &node.workers,
            Place::Here | Place::Driver(_) => unreachable!("only drivers have actors in workers"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().expect("no thread panics while it holds an actor's lock")
    }
}

impl Core {
    /// The oldest call that its worker has: most likely it runs.
    fn first_sent(&self) -> Option<RunningCall> {
        let (task, made) = self.calls.sent().next()?;
        Some(RunningCall { task, method: made.call.method_name(), since_ms: made.since_ms })
    }
}

impl AnyActor for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn key(&self) -> ActorKey {
        self.key
    }

    fn place(self: Arc<Self>, lease: LeaseKey) {
        let mut core = self.lock();
        if !core.calls.is_placing() {
            drop(core); // Killed while it waited.
            self.session.act(|hub| hub.scheduler.returned(lease));
            return;
        }
        core.lease = Some(lease);
        core.awaits_lease = false;
        drop(core);
        self.settle_down();
    }

    fn argument_ready(self: Arc<Self>, task: TaskKey) {
        let is_constructor = {
            let mut core = self.lock();
            let is_constructor = core.constructor == Some(task);
            core.constructor.take_if(|_| is_constructor);
            is_constructor
        };
        if is_constructor {
            self.session.conclude(task, 0, Ended::Success(0));
            self.settle_down();
        } else {
            self.call_ready(task);
        }
    }

    fn cancel(self: Arc<Self>, task: TaskKey, error: Option<Error>) {
        let mut core = self.lock();
        if core.constructor == Some(task) {
            drop(core);
            let error = self.construct.argument_error();
            let text = error.map_or_else(|| "an argument failed".into(), |error| error.to_string());
            return self.die(&format!("its constructor failed: {text}"));
        }
        core.unready.remove(&task);
        let cancelled = core.calls.cancelled(task);
        if let (Cancelled::Sent(incarnation, _), Some(worker)) = (&cancelled, core.worker.clone()) {
            let (actor, incarnation, task) = (self.id(), incarnation.0, task.data().as_ffi());
            drop(core);
            let mut frame = Vec::new();
            append(&mut frame, &ToWorker::StopCall { actor, incarnation, task }, &[])
                .expect("it is short");
            worker.link.append(|out| out.extend_from_slice(&frame));
            return worker.link.flush();
        }
        self.go_on(core); // It may have held others back.
        if let Cancelled::Waiting(made) = cancelled {
            made.call.fail(error);
            panics::drop_here(&self.name, made);
            self.session.conclude(task, 0, Ended::Failed);
        }
    }

    fn kill(self: Arc<Self>, because: &str) {
        let mut core = self.lock();
        if !core.calls.is_alive() && core.because.is_some() && !core.is_told {
            return;
        }
        let waiting = core.calls.killed();
        core.unready.clear();
        let Some(worker) = core.worker.clone() else { return self.over(core, waiting, because) };
        core.because.get_or_insert_with(|| because.to_owned());
        let mut frame = Vec::new();
        self.tell_end(&mut core, &mut frame, Some(because));
        drop(core);
        worker.link.append(|out| out.extend_from_slice(&frame));
        worker.link.flush();
        self.fail_all(waiting, because);
    }

    fn run_until(self: Arc<Self>, _done: &dyn Fn() -> bool) {}

    fn waits_for_running(&self, _task: TaskKey) -> bool {
        false
    }

    fn runs_alone(&self) -> bool {
        false // Its worker knows.
    }

    fn view(&self) -> ActorView {
        let core = self.lock();
        let state = match (&core.because, &core.worker) {
            (Some(because), _) => ActorState::Dead(because.clone()),
            (None, _) if core.awaits_lease => ActorState::Placing,
            (None, None) => ActorState::Placed,
            (None, Some(_)) => ActorState::Alive,
        };
        let running: Vec<_> = core.first_sent().into_iter().collect();
        let waiting = core.calls.waiting() + core.calls.in_flight() - running.len();
        ActorView { state, waiting, running, lease: core.lease }
    }

    fn methods(&self) -> Vec<(TaskKey, &'static str)> {
        let core = self.lock();
        let calls = core.calls.sent().chain(core.calls.calls());
        calls.map(|(task, made)| (task, made.call.method_name())).collect()
    }

    fn running(&self, task: TaskKey) -> Option<RunningCall> {
        self.lock().first_sent().filter(|running| running.task == task)
    }

    fn call(&self, task: TaskKey) -> Option<CallView> {
        if let Some(running) = self.running(task) {
            return Some(CallView::Running(running));
        }
        let core = self.lock();
        let (place, made) = match core.calls.place(task) {
            Some(waiting) => waiting,
            None => {
                let (ahead, (_, made)) =
                    core.calls.sent().enumerate().find(|(_, (sent, _))| *sent == task)?;
                (QueuePlace::InLine { ahead }, made)
            }
        };
        // Which methods run alone the worker knows; but here nothing runs beside another call.
        let needs_all = self.settings.limits == [1];
        Some(CallView::Waiting { method: made.call.method_name(), place, needs_all })
    }

    fn begin(self: Arc<Self>) {
        self.settle_down();
    }

    fn let_end(self: Arc<Self>) {
        self.last_handle_gone();
    }
}
