//! Who waits for what: when a session ends and user code does not return, whoever waits for its result
//! is told, instead of sleeping on; and whoever asks why nothing moves is told who waits.
//!
//! Threads are listed before they sleep, futures when they were polled in vain.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context as TaskContext, Poll};
use std::thread::Thread;

use raybolt_core::calls::owner::{ActorKey, TaskKey};
use serde::{Deserialize, Serialize};
use slotmap::Key;

use crate::clock::coarse_ms;
use crate::context;
use crate::error::{Error, Kind};
use crate::ids::Id;
use crate::object::AnyObject;
use crate::session::{self, Session};

/// Who waits in a session.
#[derive(Default)]
pub(crate) struct Awaited(Mutex<List>);

#[derive(Default)]
struct List {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    /// The entries of tasks that wait, or lie on the stack of one that does.
    tasks: BTreeMap<TaskKey, u64>,
}

struct Entry {
    /// What has to be failed when the session ends.
    object: Option<Arc<dyn AnyObject>>,
    /// None if it is a future.
    thread: Option<Thread>,
    what: What,
    /// The task that waits.
    task: Option<TaskKey>,
    /// It and those that lie under it on its thread's stack; a future may wait for several things at once, or
    /// be given up, so that none is said of it.
    tasks: Vec<TaskKey>,
    actor: Option<ActorKey>,
    is_timed: bool,
    since_ms: u64,
}

/// What is waited for; objects by the numbers that all processes know them by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// A `get` of this object.
    Object(u64),
    /// A `wait` for so many of several objects: of those that are not there, the first ones.
    Some { wanted: usize, of: usize, first: Vec<u64> },
    /// The next item of the stream that the task of this object makes.
    Item(u64),
    /// The task of this object waits until its stream is read.
    Reader(u64),
    /// Room of so many bytes in the store.
    Room { needed: u64 },
    /// An object of so many bytes that lies on disk.
    Disk { bytes: u64 },
    /// That workers have read enough of what is lent to them, to be lent so much more.
    Lending { bytes: u64 },
}

impl What {
    /// Whether it is the store that is waited for.
    pub(crate) fn is_store(&self) -> bool {
        match self {
            What::Room { .. } | What::Disk { .. } | What::Lending { .. } => true,
            What::Object(_) | What::Some { .. } | What::Item(_) | What::Reader(_) => false,
        }
    }
}

/// Someone who waits.
#[derive(Debug, Clone)]
pub(crate) struct Wait {
    pub(crate) number: u64,
    /// The name of the thread that sleeps, if it has one.
    pub(crate) thread: Option<Arc<str>>,
    /// Whether no thread sleeps: it is an `.await`.
    pub(crate) is_future: bool,
    pub(crate) what: What,
    /// The task that waits; neither it nor an actor is there for a thread of the user's.
    pub(crate) task: Option<TaskKey>,
    /// The actor whose call or constructor it is.
    pub(crate) actor: Option<ActorKey>,
    /// Whether it waits only for some time.
    pub(crate) is_timed: bool,
    pub(crate) since_ms: u64,
}

thread_local! {
    /// The task whose arguments or results this thread packs.
    static PACKED: Cell<Option<TaskKey>> = const { Cell::new(None) };
}

/// Runs `run`; if it waits, the list says that `task` does.
pub(crate) fn on_behalf_of<R>(task: TaskKey, run: impl FnOnce() -> R) -> R {
    struct Before(Option<TaskKey>);
    impl Drop for Before {
        fn drop(&mut self) {
            PACKED.set(self.0);
        }
    }
    let _before = Before(PACKED.replace(Some(task)));
    run()
}

/// Someone who waits; on the list until dropped. Not bound to the session's life, for a future may outlive it.
pub(crate) struct Listed {
    epoch: u32,
    number: u64,
}

impl Listed {
    /// This thread is about to wait for the store of its session; nothing without one.
    pub(crate) fn store(what: What) -> Option<Self> {
        let listed = |session: &Arc<Session>| Listed {
            epoch: session.epoch,
            number: session.awaited.add(what, true, None),
        };
        session::with(listed).ok()
    }

    /// A future that is polled on this thread waits.
    pub(crate) fn future(what: What) -> Option<Self> {
        let listed = |session: &Arc<Session>| Listed {
            epoch: session.epoch,
            number: session.awaited.add_future(what),
        };
        session::with(listed).ok()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let leave = |session: &Arc<Session>| {
            if session.epoch == self.epoch {
                session.awaited.leave(self.number);
            }
        };
        // Without its session there is no list.
        let _ = session::with(leave);
    }
}

/// A future that is on the list from when it was first polled in vain.
pub(crate) struct Awaiting<F> {
    future: F,
    what: Option<What>,
    listed: Option<Listed>,
}

impl<F> Awaiting<F> {
    pub(crate) fn new(what: What, future: F) -> Self {
        Awaiting { future, what: Some(what), listed: None }
    }
}

impl<F: Future + Unpin> Future for Awaiting<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<F::Output> {
        let polled = Pin::new(&mut self.future).poll(context);
        match polled {
            Poll::Ready(_) => self.listed = None,
            Poll::Pending => {
                if let Some(what) = self.what.take() {
                    self.listed = Listed::future(what);
                }
            }
        }
        polled
    }
}

/// Someone who waits; on the list until dropped.
pub(crate) struct Sleeper<'a>(&'a Awaited, u64);

impl Sleeper<'_> {
    /// Its number on the list.
    pub(crate) fn number(&self) -> u64 {
        self.1
    }

    /// Whether nobody else waits.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.lock().entries.len() == 1
    }

    /// The number under which a task is on the list, because it waits or lies under one that does.
    pub(crate) fn entry_of(&self, task: TaskKey) -> Option<u64> {
        self.0.lock().tasks.get(&task).copied()
    }

    /// The one object that the entry of this number waits for without a time limit.
    pub(crate) fn waits_for_ever(&self, number: u64) -> Option<u64> {
        let list = self.0.lock();
        let entry = list.entries.get(&number).filter(|entry| !entry.is_timed)?;
        match entry.what {
            What::Object(object) | What::Item(object) => Some(object),
            What::Some { .. } | What::Reader(_) => None,
            What::Room { .. } | What::Disk { .. } | What::Lending { .. } => None,
        }
    }
}

impl Awaited {
    /// A thread is about to sleep for `object`, for ever or only for a time.
    pub(crate) fn enter(&self, object: Arc<dyn AnyObject>, is_timed: bool) -> Sleeper<'_> {
        Sleeper(self, self.add(What::Object(object.id()), is_timed, Some(object)))
    }

    /// The same for anything else, whose end is somebody else's care.
    pub(crate) fn enter_for(&self, what: What, is_timed: bool) -> Sleeper<'_> {
        Sleeper(self, self.add(what, is_timed, None))
    }

    fn add(&self, what: What, is_timed: bool, object: Option<Arc<dyn AnyObject>>) -> u64 {
        let context = context::current();
        let tasks: Vec<_> = PACKED.get().into_iter().chain(context::stack()).collect();
        let entry = Entry {
            object,
            thread: Some(std::thread::current()),
            what,
            task: tasks.first().copied(),
            tasks,
            actor: context.and_then(|context| context::actor_of_caller(context.caller)),
            is_timed,
            since_ms: coarse_ms(),
        };
        self.insert(entry)
    }

    fn add_future(&self, what: What) -> u64 {
        let context = context::current();
        self.insert(Entry {
            object: None,
            thread: None,
            what,
            task: context.map(|context| context.task),
            tasks: Vec::new(),
            actor: context.and_then(|context| context::actor_of_caller(context.caller)),
            is_timed: true,
            since_ms: coarse_ms(),
        })
    }

    fn insert(&self, entry: Entry) -> u64 {
        let mut list = self.lock();
        let key = list.next;
        list.next += 1;
        for task in &entry.tasks {
            list.tasks.insert(*task, key);
        }
        list.entries.insert(key, entry);
        key
    }

    fn leave(&self, number: u64) {
        let entry = {
            let mut list = self.lock();
            let entry = list.entries.remove(&number);
            for task in entry.iter().flat_map(|entry| &entry.tasks) {
                list.tasks.remove(task);
            }
            entry
        };
        drop(entry); // Outside the lock: its value is the user's.
    }

    /// Whether somebody waits for this very object, to read it.
    pub(crate) fn awaits(&self, object: u64) -> bool {
        self.lock().entries.values().any(|entry| entry.what == What::Object(object))
    }

    /// Who waits now, in the order in which they began.
    pub(crate) fn list(&self) -> Vec<Wait> {
        let wait = |(number, entry): (&u64, &Entry)| Wait {
            number: *number,
            thread: entry.thread.as_ref().and_then(|thread| thread.name()).map(Into::into),
            is_future: entry.thread.is_none(),
            what: entry.what.clone(),
            task: entry.task.filter(|task| !task.is_null()),
            actor: entry.actor,
            is_timed: entry.is_timed,
            since_ms: entry.since_ms,
        };
        self.lock().entries.iter().map(wait).collect()
    }

    /// The session has ended, and who still runs will not be heard.
    pub(crate) fn fail(&self) {
        let objects: Vec<_> =
            self.lock().entries.values().filter_map(|entry| entry.object.clone()).collect();
        for object in objects {
            let what = Id::object(object.id()).to_string();
            object.fail(Error::new(Kind::SessionEnded { what }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().expect("no thread panics while it holds the list")
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}
