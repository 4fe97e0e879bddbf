//! What a thread knows of the task it runs.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use raybolt_core::calls::owner::{ActorKey, TaskKey};
use raybolt_core::calls::queue::CallerId;
use raybolt_core::calls::scheduler::LeaseKey;
use slotmap::{Key, KeyData};

use crate::desk::Desk;

/// The task that runs on this thread.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Context {
    pub(crate) task: TaskKey,
    pub(crate) attempt: u32,
    pub(crate) caller: CallerId,
    /// The lease it runs under; calls of actors and async tasks have none.
    pub(crate) lease: Option<LeaseKey>,
    /// Whether the lease is that of the task below on this stack, whose GPUs are not this one's.
    pub(crate) is_lease_lent: bool,
    pub(crate) deadline: Option<Instant>,
    /// Whether it is polled on a thread of the async runtime.
    pub(crate) is_async: bool,
}

impl Context {
    /// The context of a task of no actor.
    pub(crate) fn of_task(
        task: TaskKey,
        attempt: u32,
        lease: Option<LeaseKey>,
        deadline: Option<Instant>,
    ) -> Self {
        let caller = CallerId(TASK | task.data().as_ffi());
        Context { task, attempt, caller, lease, is_lease_lent: false, deadline, is_async: false }
    }
}

/// Set in the caller ids of tasks; those of threads are small, those of actors have the next bit.
const TASK: u64 = 1 << 63;
/// Set in the caller ids of actors.
const ACTOR: u64 = 1 << 62;

/// How many tasks may run on top of each other on one stack, each in a `get` of the one below.
const DEPTH_MAX: u32 = 32;

#[derive(Default)]
struct Stack {
    current: Option<Context>,
    depth: u32,
    /// Where others see what this thread works on; there from its first task.
    desk: Option<Arc<Desk>>,
}

thread_local! {
    static STACK: RefCell<Stack> = RefCell::default();
    static THREAD: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// Who calls, as far as order goes: ids of threads, tasks and actors do not meet.
pub(crate) fn caller() -> CallerId {
    current().map_or_else(|| CallerId(THREAD.with(|id| *id)), |context| context.caller)
}

/// Whether this is a thread of its own, outside any task.
pub(crate) fn is_thread(caller: CallerId) -> bool {
    caller.0 & (TASK | ACTOR) == 0
}

/// An actor as a caller.
pub(crate) fn caller_of_actor(actor: ActorKey) -> CallerId {
    CallerId(ACTOR | actor.data().as_ffi())
}

/// The actor that a caller is.
pub(crate) fn actor_of_caller(caller: CallerId) -> Option<ActorKey> {
    (caller.0 & (TASK | ACTOR) == ACTOR).then(|| KeyData::from_ffi(caller.0 & !ACTOR).into())
}

/// The actor, as a caller, whose call runs on this thread.
pub(crate) fn current_actor() -> Option<CallerId> {
    current().map(|context| context.caller).filter(|caller| caller.0 & (TASK | ACTOR) == ACTOR)
}

/// The task that runs on this thread.
pub(crate) fn current() -> Option<Context> {
    STACK.with_borrow(|stack| stack.current)
}

/// The task that runs on this thread, and those below it on its stack.
pub(crate) fn stack() -> Vec<TaskKey> {
    STACK.with_borrow(|stack| {
        let desk = stack.desk.as_ref().filter(|_| stack.depth > 0);
        desk.map(|desk| desk.own_tasks()).unwrap_or_default()
    })
}

/// Whether tasks wait on this stack for the one that runs.
pub(crate) fn is_nested() -> bool {
    STACK.with_borrow(|stack| stack.depth > 1)
}

/// Whether one more task may run on this stack.
pub(crate) fn may_nest() -> bool {
    STACK.with_borrow(|stack| stack.depth < DEPTH_MAX)
}

/// Runs `run` as the given task.
pub(crate) fn enter<R>(context: Context, run: impl FnOnce() -> R) -> R {
    struct Leave(Option<Context>);
    impl Drop for Leave {
        fn drop(&mut self) {
            STACK.with_borrow_mut(|stack| {
                stack.current = self.0;
                stack.depth -= 1;
                if let Some(desk) = &stack.desk {
                    desk.end(stack.depth as usize);
                }
            });
        }
    }
    let _leave = STACK.with_borrow_mut(|stack| {
        let desk = stack.desk.get_or_insert_with(Desk::of_this_thread);
        desk.begin(stack.depth as usize, &context);
        stack.depth += 1;
        Leave(stack.current.replace(context))
    });
    run()
}

/// A future that is polled as the given task.
pub(crate) struct Within<F> {
    context: Context,
    future: Pin<Box<F>>,
}

impl<F: Future> Within<F> {
    pub(crate) fn new(context: Context, future: F) -> Self {
        Within { context: Context { is_async: true, ..context }, future: Box::pin(future) }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let context = self.context;
        enter(context, || self.future.as_mut().poll(cx))
    }
}
