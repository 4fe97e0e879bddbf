//! What each process of a session knows of itself alone: its threads, who waits in it, and its timeline.
//!
//! Worker processes have a door of their own in the session's directory, `worker-<n>.sock`, through which the
//! driver asks them whenever it is asked about them. Their tasks and leases have the driver's numbers; the
//! numbers of their waits are made distinct by the process's.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raybolt_core::calls::queue::CallerId;
use serde::{Deserialize, Serialize};
use slotmap::{Key, KeyData};

use super::ask::Ask;
use super::lists::process_bytes;
use super::watcher::Watcher;
use crate::awaited::{Wait, What};
use crate::desk::{self, AtWork};
use crate::session::{Place, Session};
use crate::timeline::{self, Track};

/// How long a worker may take to answer; one that is stopped answers never.
const PATIENCE: Duration = Duration::from_secs(3);
/// The bits of a wait's number below those of its process.
const NUMBER_BITS: u32 = 40;

/// One process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Local {
    /// `driver`, or `worker-3`.
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) threads: usize,
    pub(crate) blocked: usize,
    pub(crate) memory_bytes: Option<u64>,
    works: Vec<Work>,
    waits: Vec<Waits>,
    pub(crate) track: Track,
}

/// A task on a thread; keys as numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work {
    thread: Arc<str>,
    task: u64,
    caller: u64,
    lease: u64,
    since_ms: u64,
    above: Option<u64>,
}

/// Someone who waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Waits {
    number: u64,
    thread: Option<Arc<str>>,
    is_future: bool,
    what: What,
    task: Option<u64>,
    actor: Option<u64>,
    is_timed: bool,
    since_ms: u64,
}

/// What all processes of the session have on their threads, and who waits in them.
#[derive(Default)]
pub(super) struct Everywhere {
    pub(super) works: Vec<AtWork>,
    pub(super) waits: Vec<Wait>,
}

/// This process.
pub(super) fn here(session: &Session, with_track: bool) -> Local {
    let (works, waits) = (desk::all(), session.awaited.list());
    let (threads, blocked) = threads(session, &works, &waits);
    let name = session.process_name();
    let work = |work: AtWork| Work {
        thread: work.thread,
        task: work.task.data().as_ffi(),
        caller: work.caller.0,
        lease: work.lease.unwrap_or_default().data().as_ffi(),
        since_ms: work.since_ms,
        above: work.above.map(|above| above.data().as_ffi()),
    };
    let wait = |wait: Wait| Waits {
        number: wait.number,
        thread: wait.thread,
        is_future: wait.is_future,
        what: wait.what,
        task: wait.task.map(|task| task.data().as_ffi()),
        actor: wait.actor.map(|actor| actor.data().as_ffi()),
        is_timed: wait.is_timed,
        since_ms: wait.since_ms,
    };
    Local {
        pid: std::process::id(),
        threads,
        blocked,
        memory_bytes: process_bytes(),
        works: works.into_iter().map(work).collect(),
        waits: waits.into_iter().map(wait).collect(),
        track: if with_track { timeline::track(&name) } else { Track::default() },
        name,
    }
}

/// How many threads run user code, and how many of them wait. In a worker those that read the link run tasks
/// too, which are none of the pool's.
fn threads(session: &Session, works: &[AtWork], waits: &[Wait]) -> (usize, usize) {
    let (threads, blocked) = session.pool.threads();
    if !matches!(session.place, Place::Driver(_)) {
        return (threads, blocked);
    }
    let of_pool = |name: &str| {
        name.strip_prefix("raybolt-").is_some_and(|number| number.parse::<usize>().is_ok())
    };
    let at_work: BTreeSet<&str> = works.iter().map(|work| &*work.thread).collect();
    let at_work: BTreeSet<_> = at_work.into_iter().filter(|name| !of_pool(name)).collect();
    let waiting: BTreeSet<_> = waits.iter().filter_map(|wait| wait.thread.as_deref()).collect();
    (threads + at_work.len(), blocked + waiting.intersection(&at_work).count())
}

/// The worker processes that answer.
pub(super) fn workers(session: &Session, with_track: bool) -> Vec<Local> {
    let Some(directory) = session.workers_directory() else { return Vec::new() };
    let mut doors = doors(&directory);
    doors.sort();
    let asked = doors.into_iter().map(|(number, socket)| {
        let directory = directory.clone();
        let ask = move || -> Option<Local> {
            let mut watcher = Watcher::knock(&directory, &socket, PATIENCE).ok()?;
            let mut local: Local = watcher.ask(&Ask::Local { with_track }).ok()?;
            for wait in &mut local.waits {
                wait.number |= number << NUMBER_BITS;
            }
            Some(local)
        };
        // All at once: whoever does not answer costs no more than it would alone.
        std::thread::spawn(ask)
    });
    let asked: Vec<_> = asked.collect();
    asked.into_iter().filter_map(|asked| asked.join().ok().flatten()).collect()
}

/// The doors of workers, and their numbers.
fn doors(directory: &Path) -> Vec<(u64, std::path::PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let door = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix("worker-")?.strip_suffix(".sock")?;
        Some((number.parse().ok()?, entry.path()))
    };
    entries.filter_map(door).collect()
}

/// What all processes have on their threads, and who waits in them. The hub's lock must not be held.
pub(super) fn everywhere(session: &Session) -> Everywhere {
    let mut everywhere = Everywhere { works: desk::all(), waits: session.awaited.list() };
    for local in workers(session, false) {
        let thread = |name: &str| -> Arc<str> { format!("{name} of {}", local.name).into() };
        everywhere.works.extend(local.works.iter().map(|work| {
            AtWork {
                thread: thread(&work.thread),
                task: KeyData::from_ffi(work.task).into(),
                caller: CallerId(work.caller),
                lease: Some(KeyData::from_ffi(work.lease).into())
                    .filter(|lease: &raybolt_core::calls::scheduler::LeaseKey| !lease.is_null()),
                since_ms: work.since_ms,
                above: work.above.map(|above| KeyData::from_ffi(above).into()),
            }
        }));
        everywhere.waits.extend(local.waits.iter().map(|wait| Wait {
            number: wait.number,
            thread: wait.thread.as_deref().map(thread),
            is_future: wait.is_future,
            what: wait.what.clone(),
            task: wait.task.map(|task| KeyData::from_ffi(task).into()),
            actor: wait.actor.map(|actor| KeyData::from_ffi(actor).into()),
            is_timed: wait.is_timed,
            since_ms: wait.since_ms,
        }));
    }
    everywhere
}

impl Local {
    /// What its threads work on: their names, and the tasks with how long the last has been running.
    pub(super) fn at_work(&self) -> Vec<(Arc<str>, u64, u64)> {
        self.works.iter().map(|work| (work.thread.clone(), work.task, work.since_ms)).collect()
    }
}
