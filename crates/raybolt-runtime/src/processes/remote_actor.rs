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

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use raybolt_core::calls::incarnations::{Cancelled, Incarnation, Incarnations, Outgoing, Refusal};
use raybolt_core::calls::kinds::{self, WorkerKind};
use raybolt_core::calls::owner::{ActorKey, ObjectKey, TaskKey};
use raybolt_core::calls::queue::{CallerId, Place as QueuePlace};
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_wire::work::{self, Call, Code, Host, NotAppended, ToWorker};
use slotmap::Key;

use crate::actor::{ActorState, ActorView, AnyActor, CallView, RunningCall};
use crate::awaited::on_behalf_of;
use crate::clock::coarse_ms;
use crate::error::{Error, Kind, Result};
use crate::job::Ended;
use crate::object::{AnyObject, Hold};
use crate::panics;
use crate::processes::inlet::Inlet;
use crate::processes::late::{Late, patiently};
use crate::processes::link::FRAME_MAX;
use crate::processes::node::Workers;
use crate::processes::parcel;
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

/// All handles of this process, and what holds the actor for others; when it goes, so does the actor.
/// It is an object, whose references are the handles: other processes borrow it like any other.
pub(crate) struct Life {
    pub(crate) remote: Arc<Remote>,
    hold: Hold,
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

    /// A call was made whose arguments are there. They are packed without keeping this thread.
    pub(crate) fn submitted_unpacked(
        self: &Arc<Self>,
        caller: CallerId,
        task: TaskKey,
        call: Arc<dyn RemoteCall>,
    ) -> Result<()> {
        match patiently(false, || call.pack()) {
            Ok(()) => self.submitted(caller, task, call, true),
            Err(error) if matches!(error.kind(), Kind::WouldWait) => {
                self.submitted(caller, task, call.clone(), false)?;
                self.lock().unready.remove(&task); // Nobody else makes it ready.
                let late = Late { actor: self.clone(), call: Some((task, call)) };
                self.session.pool.schedule(Arc::new(late));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.lock().calls.is_alive()
    }

    /// Gives the actor a place, if it may have one.
    pub(crate) fn settle_down(self: &Arc<Self>) {
        {
            let mut core = self.lock();
            let waits = core.constructor.is_some() || core.awaits_lease;
            if waits || core.is_moving || !core.calls.is_placing() {
                return;
            }
            core.is_moving = true;
        }
        self.pack_up(false);
    }

    /// Packs the constructor's arguments, and finds a place for the actor.
    pub(super) fn pack_up(self: &Arc<Self>, may_wait: bool) {
        let mut args = Vec::new();
        let (packed, needs) = parcel::packing(|| {
            let pack = || patiently(may_wait, || self.construct.pack(&mut args));
            panics::catch(&self.name, 0, pack)
                .map_err(|panicked| Error::new(Kind::Task(*panicked)))?
        });
        let code = match packed.and_then(|()| self.construct.code()) {
            Ok(code) => code,
            Err(error) if matches!(error.kind(), Kind::WouldWait) => {
                let late = Late { actor: self.clone(), call: None };
                return self.session.pool.schedule(Arc::new(late));
            }
            Err(error) => return self.die(&format!("its constructor failed: {error}")),
        };
        loop {
            let (place, wanted) = self.session.act(|hub| {
                let mut core = self.lock();
                let of_lease = |lease| kinds::of_lease(&hub.scheduler, lease);
                let kind = core.lease.map_or(WorkerKind::Shared, of_lease);
                let place = hub.fleet.place_actor_in(kind.clone(), self.key);
                if place.is_none() {
                    core.is_moving = false; // Whoever brings a worker calls again.
                    return (None, hub.want(kind));
                }
                (place, None)
            });
            self.workers().start(wanted);
            let Some(process) = place else { return self.workers().fail_waiting(&self.session) };
            let worker = self.workers().worker(process);
            if worker.is_some_and(|worker| self.move_in(&worker, code, &args, &needs)) {
                return;
            }
            std::thread::yield_now(); // Lost meanwhile: the fleet knows in a moment.
        }
    }

    /// Begins the actor at a worker; says false if that one is lost.
    fn move_in(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        code: Code,
        args: &[u8],
        needs: &parcel::Packed,
    ) -> bool {
        if !worker.take_actor(self) {
            return false;
        }
        let mut core = self.lock();
        core.is_moving = false;
        let Some(incarnation) = core.calls.placed() else {
            drop(core); // Killed meanwhile, and buried.
            worker.forget_actor(self.key);
            self.session.act(|hub| hub.fleet.actor_ended(self.key));
            return true;
        };
        let host = ToWorker::Host(Host {
            actor: self.id(),
            incarnation: incarnation.0,
            code,
            name: self.name.to_string(),
            limits: self.settings.limits.iter().map(|limit| *limit as u64).collect(),
            pending_max: self.settings.pending_max as u64,
            lease: core.lease.map(|lease| lease.data().as_ffi()),
        });
        let mut frame = Vec::new();
        match append(&mut frame, &host, args) {
            Ok(()) => {
                needs.announce(0, &mut frame);
                core.worker = Some(worker.clone());
                core.is_sending = true; // REMOTE-1: calls go behind it.
                drop(core);
                self.lend(needs.clone(), worker);
                worker.link.append(|out| out.extend_from_slice(&frame));
                let mut core = self.lock();
                if core.worker.as_ref().is_some_and(|home| Arc::ptr_eq(home, worker)) {
                    core.is_sending = false;
                    if core.is_told {
                        // It was killed before its worker knew of it.
                        frame.clear();
                        let because = core.because.clone();
                        self.tell_end(&mut core, &mut frame, because.as_deref());
                        worker.link.append(|out| out.extend_from_slice(&frame));
                    }
                    self.go_on(core);
                }
                worker.link.flush();
            }
            Err(because) => {
                drop(core);
                self.die(&format!("its constructor failed: {because}"));
            }
        }
        if worker.is_lost() {
            self.lost(worker, |_| "its worker died".into()); // It may have been too early for us to be told.
        }
        true
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

    /// Sends what may be sent, and ends the actor if it is over.
    ///
    /// One thread at a time sends (REMOTE-1): references in arguments are counted under the hub's lock,
    /// which is not to be had while the actor's is held, and before their calls are on the link.
    fn go_on<'a>(&'a self, mut core: MutexGuard<'a, Core>) {
        if core.is_sending {
            return; // Whoever sends looks once more.
        }
        let mut frames = std::mem::take(&mut core.frames);
        loop {
            let Some(worker) = core.worker.clone() else { break };
            let mut needs = parcel::Packed::default();
            let mut unsent = Vec::new();
            while let Some(outgoing) = core.calls.send_next() {
                match self.append_call(&mut frames, &outgoing) {
                    Ok(()) => needs.add(outgoing.job.call.packed().needs.clone()),
                    Err(because) => unsent.push((outgoing.incarnation, outgoing.number, because)),
                }
            }
            let failed: Vec<_> = unsent
                .into_iter()
                .filter_map(|(incarnation, number, because)| {
                    Some((core.calls.answered(incarnation, number)?, because))
                })
                .collect();
            if core.calls.is_over() && !core.is_told {
                drop(core.calls.killed()); // It has no calls, takes none, and does not begin anew.
                core.because.get_or_insert_with(|| "its last handle was dropped".into());
                self.tell_end(&mut core, &mut frames, None);
            }
            if frames.is_empty() && failed.is_empty() {
                break;
            }
            core.is_sending = true;
            drop(core);
            self.lend(needs, &worker);
            worker.link.append(|out| out.extend_from_slice(&frames));
            worker.link.flush();
            frames.clear();
            for ((task, made), because) in failed {
                let name = made.call.name().to_owned();
                made.call.fail(Some(Error::new(Kind::Encode { task: name, because })));
                self.session.conclude(task, 0, Ended::Failed);
            }
            core = self.lock();
            core.is_sending = false;
        }
        core.frames = frames; // Its memory serves again.
    }

    /// References go to a worker, with what is about to be sent.
    fn lend(&self, needs: parcel::Packed, worker: &Worker) {
        if !needs.is_empty() {
            self.workers().lend(&self.session, worker, needs);
        }
    }

    fn append_call(
        &self,
        frames: &mut Vec<u8>,
        outgoing: &Outgoing<'_, Made>,
    ) -> Result<(), String> {
        let Made { caller, call, .. } = outgoing.job;
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let message = ToWorker::Call(Call {
            actor: self.id(),
            incarnation: outgoing.incarnation.0,
            number: outgoing.number,
            task: outgoing.task.data().as_ffi(),
            caller: caller.0,
            method: call.method(),
            deadline_us: call.deadline().map(|until| left(until).as_micros() as u64),
            name: call.own_name().map(str::to_owned),
        });
        let start = frames.len();
        append(frames, &message, &call.packed().bytes)?;
        call.packed().needs.announce(start, frames);
        Ok(())
    }

    /// Tells the worker to end the actor.
    fn tell_end(&self, core: &mut Core, frames: &mut Vec<u8>, because: Option<&str>) {
        core.is_told = true;
        let (actor, incarnation) = (self.id(), core.calls.incarnation().0);
        let message =
            ToWorker::EndActor { actor, incarnation, because: because.map(str::to_owned) };
        append(frames, &message, &[]).expect("a reason is shorter than a frame");
    }

    fn fail_all(&self, calls: Vec<(TaskKey, Made)>, because: &str) {
        for (task, made) in calls {
            made.call.fail(Some(self.died(because)));
            panics::drop_here(&self.name, made);
            self.session.conclude(task, 0, Ended::Failed);
        }
    }

    /// The arguments of a call are there.
    fn call_ready(self: &Arc<Self>, task: TaskKey) {
        let call = self.lock().unready.remove(&task);
        if let Some(call) = call {
            self.pack_call(task, call, false);
        }
    }

    /// Packs a call, which goes on then.
    pub(super) fn pack_call(
        self: &Arc<Self>,
        task: TaskKey,
        call: Arc<dyn RemoteCall>,
        may_wait: bool,
    ) {
        let pack = || on_behalf_of(task, || call.pack());
        match patiently(may_wait, pack) {
            Ok(()) => {
                let mut core = self.lock();
                core.calls.argument_ready(task);
                self.go_on(core);
            }
            Err(error) if matches!(error.kind(), Kind::WouldWait) => {
                let late = Late { actor: self.clone(), call: Some((task, call)) };
                self.session.pool.schedule(Arc::new(late));
            }
            Err(error) => self.clone().cancel(task, Some(error)),
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

/// Appends a message with a body.
fn append(frames: &mut Vec<u8>, message: &ToWorker, body: &[u8]) -> Result<(), String> {
    let appended = work::append(frames, message, FRAME_MAX, |out| {
        out.extend_from_slice(body);
        Ok::<(), std::convert::Infallible>(())
    });
    appended.map_err(|not_appended| match not_appended {
        NotAppended::Body(never) => match never {},
        NotAppended::TooLong(too_long) => too_long.to_string(),
    })
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

impl Life {
    pub(crate) fn new(remote: Arc<Remote>, epoch: u32, key: ObjectKey) -> Self {
        let hold = Hold::new(epoch);
        hold.set_key(key);
        Life { remote, hold }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.remote.last_handle_gone();
    }
}

impl AnyObject for Life {
    fn key(&self) -> ObjectKey {
        self.hold.key()
    }

    fn id(&self) -> u64 {
        self.hold.id()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
