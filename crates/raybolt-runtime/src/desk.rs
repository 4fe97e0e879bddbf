//! What each thread of this process works on, for those who watch.
//!
//! # Words
//! A thread has a *desk* with a *sheet* for each task on its stack: a task that waits may have another
//! one run on top of it.
//!
//! # Protocol
//! The thread writes its own sheets, two dozen bytes per task and no lock; watchers read them while
//! they are written. Since a task's key is never used again, a reader that finds the same key before
//! and after it has read a sheet has read that of one task.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::Thread;

use raybolt_core::calls::owner::TaskKey;
use raybolt_core::calls::queue::CallerId;
use raybolt_core::calls::scheduler::LeaseKey;
use slotmap::{Key, KeyData};

use crate::clock::coarse_ms;
use crate::context::Context;

/// As deep as tasks may lie on each other, and one for a constructor that is deeper still.
const SHEETS: usize = 34;

static DESKS: Mutex<Vec<Weak<Desk>>> = Mutex::new(Vec::new());

/// What one thread works on.
pub(crate) struct Desk {
    thread: Thread,
    depth: AtomicUsize,
    sheets: [Sheet; SHEETS],
}

#[derive(Default)]
struct Sheet {
    task: AtomicU64,
    caller: AtomicU64,
    lease: AtomicU64,
    since_ms: AtomicU64,
}

/// A task on a thread.
#[derive(Debug, Clone)]
pub(crate) struct AtWork {
    /// The thread's name.
    pub(crate) thread: Arc<str>,
    /// Null for a constructor.
    pub(crate) task: TaskKey,
    /// Who it is to those it calls.
    pub(crate) caller: CallerId,
    pub(crate) lease: Option<LeaseKey>,
    pub(crate) since_ms: u64,
    /// What runs on top of it, while it waits.
    pub(crate) above: Option<TaskKey>,
}

impl Desk {
    /// The desk of this thread, which keeps it as long as it lives.
    pub(crate) fn of_this_thread() -> Arc<Desk> {
        let desk = Arc::new(Desk {
            thread: std::thread::current(),
            depth: AtomicUsize::new(0),
            sheets: std::array::from_fn(|_| Sheet::default()),
        });
        let mut desks = desks();
        desks.retain(|desk| desk.strong_count() > 0);
        desks.push(Arc::downgrade(&desk));
        desk
    }

    /// The thread begins a task; `depth` others wait under it.
    pub(crate) fn begin(&self, depth: usize, context: &Context) {
        if let Some(sheet) = self.sheets.get(depth) {
            let lease = context.lease.filter(|_| !context.is_lease_lent).unwrap_or_default();
            sheet.since_ms.store(coarse_ms(), Ordering::Relaxed);
            sheet.caller.store(context.caller.0, Ordering::Relaxed);
            sheet.lease.store(lease.data().as_ffi(), Ordering::Relaxed);
            sheet.task.store(context.task.data().as_ffi(), Ordering::Release);
            self.depth.store(depth + 1, Ordering::Release);
        }
    }

    /// The task has returned.
    pub(crate) fn end(&self, depth: usize) {
        self.depth.store(depth, Ordering::Release);
    }

    /// What this thread, whose desk it must be, has on its stack: what runs first.
    pub(crate) fn own_tasks(&self) -> Vec<TaskKey> {
        let depth = self.depth.load(Ordering::Relaxed).min(SHEETS);
        let sheets = self.sheets[..depth].iter().rev();
        sheets.map(|sheet| KeyData::from_ffi(sheet.task.load(Ordering::Relaxed)).into()).collect()
    }

    fn read(&self, into: &mut Vec<AtWork>) {
        let depth = self.depth.load(Ordering::Acquire).min(SHEETS);
        if depth == 0 {
            return;
        }
        let thread: Arc<str> = self.thread.name().unwrap_or("without a name").into();
        let mut above = None;
        for sheet in self.sheets[..depth].iter().rev() {
            let before = sheet.task.load(Ordering::Acquire);
            let (caller, lease) = (&sheet.caller, &sheet.lease);
            let (caller, lease) = (caller.load(Ordering::Relaxed), lease.load(Ordering::Relaxed));
            let since_ms = sheet.since_ms.load(Ordering::Acquire);
            if sheet.task.load(Ordering::Relaxed) != before {
                continue; // It has ended, and another one begun: the next look shows that.
            }
            let task: TaskKey = KeyData::from_ffi(before).into();
            let lease: LeaseKey = KeyData::from_ffi(lease).into();
            into.push(AtWork {
                thread: thread.clone(),
                task,
                caller: CallerId(caller),
                lease: Some(lease).filter(|lease| !lease.is_null()),
                since_ms,
                above,
            });
            above = Some(task);
        }
    }
}

/// What the threads of this process work on now.
pub(crate) fn all() -> Vec<AtWork> {
    let desks: Vec<_> = desks().iter().filter_map(Weak::upgrade).collect();
    let mut works = Vec::new();
    for desk in desks {
        desk.read(&mut works);
    }
    works
}

fn desks() -> MutexGuard<'static, Vec<Weak<Desk>>> {
    DESKS.lock().expect("no thread panics while it holds the desks")
}
