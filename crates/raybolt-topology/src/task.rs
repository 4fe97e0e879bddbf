//! An instance as the pool sees it: something that runs a slice when there is a reason to.
//!
//! Whoever gives an instance something to do (a batch, a command, room downstream) *notifies* its
//! task; the task's [`Turn`] makes sure that one thread at a time runs it and that no notification is
//! lost. What a slice does is the [`Body`]'s affair: a bolt or a spout.

use std::any::Any;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};

use raybolt_core::flow::acks::FailReason;
use raybolt_core::ids::{RequestId, RootId};
use raybolt_runtime::pool::{self, Pool, Runnable};
use raybolt_runtime::turn::{Next, Turn};

use crate::ledger::Kept;
use crate::shared::Shared;

/// What an instance does in its slices.
pub(crate) trait Body: Send + Any {
    /// Works for about a millisecond at most, as far as user code allows.
    fn slice(&mut self, task: &Arc<Task>) -> Slice;

    /// Builds the output ports anew from what the topology's wiring says now.
    fn connect(&mut self, wiring: &crate::wiring::Wiring);

    /// Whether it holds nothing: no input, no output that waits for room, nothing in user hands.
    fn is_quiet(&self) -> bool;

    /// Whether it has been told of everything that it waits to be told of.
    fn is_done(&self) -> bool {
        true
    }

    /// The end: user code may clean up.
    fn stop(&mut self);
}

/// How a slice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Slice {
    /// There is more to do at once.
    More,
    /// There is nothing to do until someone notifies.
    Wait,
}

/// What is told to an instance, beside its tuples.
#[derive(Debug)]
pub(crate) enum Command {
    /// A tick is due.
    Tick,
    /// It has seen all of a request.
    Finish(RequestId),
    /// A request failed; what is held for it may go.
    Abandon(RequestId),
    /// The tree of a root is done.
    Acked(RootId),
    /// The tree of a root has failed.
    Failed(RootId, FailReason),
    /// A tuple that was held has been processed, or has failed for this reason.
    Settle(Kept, Option<String>),
    /// Spouts emit from now on.
    Activate,
    /// Spouts do not emit from now on.
    Deactivate,
}

/// One instance of a running topology.
pub(crate) struct Task {
    turn: Turn,
    pool: Pool,
    shared: Arc<Shared>,
    place: pool::Place,
    /// How many tuples it works off in about [`TURN`](crate::instance::TURN); only its slices set it.
    per_turn: AtomicU32,
    mail: Mutex<Vec<Command>>,
    /// Whether there is mail, for slices that need not lock then.
    has_mail: AtomicBool,
    /// Only the thread that runs the slice locks it, and whoever rewires a quiet topology.
    body: Mutex<Option<Box<dyn Body>>>,
    /// Whether user code asked for a slice since the last look.
    woken: AtomicBool,
    /// Whether the body has to stop.
    ended: AtomicBool,
    /// Who is told that a slice is wanted, if slices are not run by the pool.
    bell: OnceLock<Bell>,
}

type Bell = Box<dyn Fn() + Send + Sync>;

impl Task {
    /// A task without a body, which waits for [`Task::seat`].
    pub(crate) fn new(pool: Pool, shared: Arc<Shared>, place: pool::Place) -> Arc<Self> {
        Arc::new(Task {
            turn: Turn::new(),
            pool,
            shared,
            place,
            per_turn: AtomicU32::new(1),
            mail: Mutex::new(Vec::new()),
            has_mail: AtomicBool::new(false),
            body: Mutex::new(None),
            woken: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            bell: OnceLock::new(),
        })
    }

    /// Gives the task what it runs, and its first slice.
    pub(crate) fn seat(self: &Arc<Self>, body: Box<dyn Body>) {
        *self.body() = Some(body);
        self.notify();
    }

    /// Stops the body: at once, or when the slice that runs is over. User code may take its time in a
    /// slice, so nobody waits for it here.
    pub(crate) fn end(self: &Arc<Self>) {
        self.ended.store(true, Ordering::SeqCst);
        let idle = self.body.try_lock().ok().map(|mut body| body.take());
        match idle {
            Some(Some(mut body)) => body.stop(),
            Some(None) => {}
            // A slice runs, or someone looks: the next slice, if there is no end of one, sees to it.
            None => self.notify(),
        }
    }

    /// Whether the body has been stopped.
    pub(crate) fn is_gone(&self) -> bool {
        self.body.try_lock().is_ok_and(|body| body.is_none())
    }

    /// Looks at the body between two slices.
    pub(crate) fn with_body<R>(&self, look: impl FnOnce(&mut dyn Body) -> R) -> Option<R> {
        self.body().as_mut().map(|body| look(body.as_mut()))
    }

    /// Whether the body holds nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.try_body(Body::is_quiet)
    }

    /// Whether the body has been told of everything that it waits for.
    pub(crate) fn is_done(&self) -> bool {
        self.try_body(Body::is_done)
    }

    /// Never true while a slice runs: user code may take its time, and who asks has a deadline.
    fn try_body(&self, is: impl FnOnce(&dyn Body) -> bool) -> bool {
        match self.body.try_lock() {
            Ok(body) => body.as_deref().is_none_or(is),
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Poisoned(_)) => panic!("panics of user code are caught in a slice"),
        }
    }

    /// How many tuples are worth sending to it in a row, rather than to others: none that is slow.
    pub(crate) fn per_turn(&self) -> u32 {
        self.per_turn.load(Ordering::Relaxed)
    }

    pub(crate) fn set_per_turn(&self, tuples: u32) {
        self.per_turn.store(tuples, Ordering::Relaxed);
    }

    /// Asks for a slice; any thread of the pool may take it at once.
    pub(crate) fn notify(self: &Arc<Self>) {
        if self.turn.notify() == Next::Schedule {
            self.see_to_slice();
        }
    }

    fn see_to_slice(self: &Arc<Self>) {
        match self.bell.get() {
            Some(bell) => bell(),
            None => self.pool.schedule(self.clone()),
        }
    }

    /// Has `bell` called when a slice is wanted, instead of having the pool run one: who hears it calls
    /// [`Task::slice_here`].
    pub(crate) fn hang(&self, bell: impl Fn() + Send + Sync + 'static) {
        let _ = self.bell.set(Box::new(bell));
    }

    /// Runs a slice on this thread; one thread at a time, and not in the pool (see [`Task::hang`]).
    pub(crate) fn slice_here<R>(self: &Arc<Self>, slice: impl FnOnce() -> R) -> R {
        let _ = self.claim();
        self.turn.start();
        let result = slice();
        if self.turn.finish(false) == Next::Schedule {
            self.see_to_slice();
        }
        result
    }

    /// Asks for a slice on behalf of user code, which may have wanted to wait longer.
    pub(crate) fn wake(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.notify();
    }

    /// Whether user code asked for a slice since the last look.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::Acquire)
    }

    /// Asks for a slice without scheduling it: says whether the caller now has to, by
    /// [`Task::schedule_next`] or [`Task::schedule`].
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        self.turn.notify() == Next::Schedule
    }

    /// Runs a claimed task on this thread, when its present slice is over.
    pub(crate) fn schedule_next(self: Arc<Self>) {
        let pool = self.pool.clone();
        pool.schedule_next(self);
    }

    /// Runs a claimed task on whichever thread is free.
    pub(crate) fn schedule(self: Arc<Self>) {
        let pool = self.pool.clone();
        pool.schedule(self);
    }

    /// Tells the instance something.
    pub(crate) fn send(self: &Arc<Self>, command: Command) {
        let mut mail = self.mail.lock().expect("no thread panics while it holds mail");
        mail.push(command);
        self.has_mail.store(true, Ordering::Release);
        drop(mail);
        self.notify();
    }

    /// Leaves commands for the next slice, which is under way.
    pub(crate) fn leave(&self, commands: impl IntoIterator<Item = Command>) {
        let mut mail = self.mail.lock().expect("no thread panics while it holds mail");
        mail.extend(commands);
        self.has_mail.store(!mail.is_empty(), Ordering::Release);
    }

    /// Tells the instance that a tick is due, unless it has not obeyed the last one yet.
    pub(crate) fn tick(self: &Arc<Self>) {
        let mail = self.mail.lock().expect("no thread panics while it holds mail");
        let late = mail.iter().any(|command| matches!(command, Command::Tick));
        drop(mail);
        if !late {
            self.send(Command::Tick);
        }
    }

    /// Tells the instance what became of a tuple that it held, so that it reports that after all it did
    /// before (BATCH-1). Gives the tuple back if the instance is over: then all of that was reported.
    pub(crate) fn settle(self: &Arc<Self>, kept: Kept, failure: Option<String>) -> Option<Kept> {
        if self.ended.load(Ordering::SeqCst) {
            return Some(kept);
        }
        self.send(Command::Settle(kept, failure));
        None
    }

    /// The topology that it belongs to.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether commands wait.
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// The commands that wait, in exchange for an empty list.
    pub(crate) fn take_mail(&self, empty: Vec<Command>) -> Vec<Command> {
        let mut mail = self.mail.lock().expect("no thread panics while it holds mail");
        self.has_mail.store(false, Ordering::Release);
        std::mem::replace(&mut *mail, empty)
    }

    fn body(&self) -> MutexGuard<'_, Option<Box<dyn Body>>> {
        self.body.lock().expect("panics of user code are caught inside a slice")
    }
}

thread_local! {
    /// The topology whose slice this thread runs; null outside of slices. Compared, never followed.
    static RUNNING: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
}

/// Whether this thread runs a slice of that topology: then it must not wait for its slices.
pub(crate) fn is_in_slice_of(shared: &Arc<Shared>) -> bool {
    RUNNING.get() == Arc::as_ptr(shared)
}

impl Runnable for Task {
    fn run(self: Arc<Self>) {
        self.turn.start();
        let slice = if self.ended.load(Ordering::SeqCst) {
            Slice::Wait
        } else {
            let outer = RUNNING.replace(Arc::as_ptr(&self.shared));
            let slice = self.body().as_mut().map_or(Slice::Wait, |body| body.slice(&self));
            RUNNING.set(outer);
            slice
        };
        if self.ended.load(Ordering::SeqCst) {
            let body = self.body().take();
            if let Some(mut body) = body {
                body.stop();
            }
        }
        if self.turn.finish(slice == Slice::More) == Next::Schedule {
            self.clone().schedule();
        }
        self.shared.drain.moved();
    }

    fn place(&self) -> pool::Place {
        self.place
    }
}
