//! Making the reports.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::UNIX_EPOCH;

use raybolt_core::calls::owner::{ObjectView, Progress, Target, TaskKey, TaskView};
use raybolt_core::calls::scheduler::{GroupState, GroupView, UNIT};
use raybolt_store::{ObjectReport as Stored, Whereabouts};
use slotmap::{Key, KeyData};

use super::ask::{Ask, of_driver};
use super::local::{self, Everywhere, Local};
use super::reports::{
    ActorReport, ErrorReport, List, Memory, ObjectReport, PlacementGroupReport, Resource, Status,
    TaskCounts, TaskFilter, TaskReport, TaskState, ThreadReport, WorkerReport,
};
use super::{CHUNK, LOOKED_AT_MAX, why};
use crate::actor::{ActorState, AnyActor, CallView, RunningCall};
use crate::clock::coarse_ms;
use crate::desk::AtWork;
use crate::error::Result;
use crate::group;
use crate::hub::Hub;
use crate::ids::Id;
use crate::job::Job;
use crate::session::{self, Session};
use crate::timeline;

/// How many ids are searched for one that resembles an unknown one.
const KNOWN_MAX: usize = 1_000;

/// The session as a whole.
///
/// # Errors
/// Without a session.
pub fn status() -> Result<Status> {
    if let Some(told) = of_driver(|| Ask::Status) {
        return told;
    }
    session::with(|session| {
        let waiting = local::everywhere(session).waits.len();
        let errors = session.failures.list().len();
        let program = std::env::current_exe().ok();
        let program = program.as_ref().and_then(|path| path.file_name()).unwrap_or_default();
        let hub = session.lock();
        let (counts, tally) = (hub.owner.counts(), hub.owner.tally());
        let resource = |(name, total, available): (&str, i64, i64)| Resource {
            name: name.into(),
            total: total as f64 / UNIT as f64,
            available: available as f64 / UNIT as f64,
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            program: program.to_string_lossy().into_owned(),
            uptime_ms: coarse_ms().saturating_sub(session.started_ms),
            worker_processes: hub.fleet.workers().count(),
            tasks: TaskCounts {
                waiting: tally.waiting,
                queued: tally.queued,
                running: tally.running,
            },
            calls: tally.calls,
            actors: hub.actors.len(),
            objects: counts.objects,
            object_bytes: hub.bytes.max(0) as usize,
            object_bytes_max: hub.bytes_max,
            waiting,
            errors,
            resources: hub.scheduler.resources().map(resource).collect(),
        }
    })
}

/// Tasks and calls that have not ended: those that run, then those that could, then those that wait.
///
/// # Errors
/// Without a session.
pub fn tasks(filter: &TaskFilter, limit: usize) -> Result<List<TaskReport>> {
    if let Some(told) = of_driver(|| Ask::Tasks { filter: filter.clone(), limit }) {
        return told;
    }
    session::with(|session| {
        let Everywhere { works, .. } = local::everywhere(session);
        let at_work = works.into_iter().map(|work| (work.task, work)).collect();
        let methods = filter.name.as_ref().map(|_| methods(session)).unwrap_or_default();
        let mut found = Best { limit, filter, methods, total: 0, by_state: BTreeMap::new() };
        let is_cut = chunks(session, |hub, skip| {
            let looked_at = hub.owner.tasks().skip(skip).take(CHUNK);
            looked_at.map(|task| found.offer(hub, &task)).count()
        });
        // Those that were chosen are looked at again: what has ended meanwhile is left out.
        let hub = session.lock();
        let keys = found.keys();
        let report = |key: &TaskKey| Some(task_report(&hub, &hub.owner.task(*key)?, &at_work));
        List { items: keys.iter().filter_map(report).collect(), total: found.total, is_cut }
    })
}

/// The actors of the session.
///
/// # Errors
/// Without a session.
pub fn actors(limit: usize) -> Result<List<ActorReport>> {
    if let Some(told) = of_driver(|| Ask::Actors { limit }) {
        return told;
    }
    session::with(|session| {
        let handles: Vec<(_, Option<Arc<dyn AnyActor>>)> = {
            let hub = session.lock();
            let first = hub.actors.iter().take(limit);
            first.map(|(key, actor)| (key, actor.upgrade())).collect()
        };
        let total = session.lock().actors.len();
        let now_ms = coarse_ms();
        let report = |(key, actor): &(_, Option<Arc<dyn AnyActor>>)| {
            actor.as_ref().map(|actor| actor_report(Id::Actor(*key), &**actor, now_ms))
        };
        List { items: handles.iter().filter_map(report).collect(), total, is_cut: false }
    })
}

/// The objects of the session, those that are not there yet first.
///
/// # Errors
/// Without a session.
pub fn objects(limit: usize) -> Result<List<ObjectReport>> {
    if let Some(told) = of_driver(|| Ask::Objects { limit }) {
        return told;
    }
    session::with(|session| {
        let (mut pending, mut others, mut total) = (Vec::new(), Vec::new(), 0);
        let is_cut = chunks(session, |hub, skip| {
            let looked_at = hub.owner.objects().skip(skip).take(CHUNK);
            let seen = looked_at.map(|object| {
                let list = if object.is_ready.is_none() { &mut pending } else { &mut others };
                if list.len() < limit {
                    list.push(object);
                }
            });
            let seen = seen.count();
            total += seen;
            seen
        });
        pending.append(&mut others);
        pending.truncate(limit);
        let ids = pending.iter().map(|object| object.key.data().as_ffi()).collect();
        let stored = session.node().map(|node| node.shelf.stored(&ids)).unwrap_or_default();
        let report =
            |object: &ObjectView| object_report(object, stored.get(&object.key.data().as_ffi()));
        let items = pending.iter().map(report).collect();
        List { items, total, is_cut }
    })
}

/// The processes that run tasks.
///
/// # Errors
/// Without a session.
pub fn workers() -> Result<Vec<WorkerReport>> {
    if let Some(told) = of_driver(|| Ask::Workers) {
        return told;
    }
    session::with(|session| {
        let mut locals = vec![local::here(session, false)];
        locals.extend(local::workers(session, false));
        let now_ms = coarse_ms();
        let hub = session.lock();
        locals.iter().map(|local| worker_report(&hub, local, now_ms)).collect()
    })
}

/// The placement groups of the session.
///
/// # Errors
/// Without a session.
pub fn placement_groups(limit: usize) -> Result<List<PlacementGroupReport>> {
    if let Some(told) = of_driver(|| Ask::PlacementGroups { limit }) {
        return told;
    }
    session::with(|session| {
        let hub = session.lock();
        let groups = hub.scheduler.groups();
        let total = groups.count();
        let items = hub.scheduler.groups().take(limit).map(|group| group_report(&hub, &group));
        List { items: items.collect(), total, is_cut: false }
    })
}

fn group_report(hub: &Hub, group: &GroupView<'_>) -> PlacementGroupReport {
    let (state, because) = match group.state {
        GroupState::Ready => ("ready", None),
        GroupState::Pending => ("waiting", Some(why::group_lacks(hub, group.key))),
        GroupState::Never(why) => ("never", Some(why.to_string())),
    };
    PlacementGroupReport {
        id: Id::Group(group.key).to_string(),
        name: (!group.name.is_empty()).then(|| group.name.to_owned()),
        state: state.to_owned(),
        because,
        leases: hub.scheduler.leases_in(group.key).count(),
        strategy: group.strategy.to_string(),
        bundles: group.bundles.iter().map(group::amounts).collect(),
    }
}

/// What failed lately, newest first.
///
/// # Errors
/// Without a session.
pub fn errors(limit: usize) -> Result<List<ErrorReport>> {
    if let Some(told) = of_driver(|| Ask::Errors { limit }) {
        return told;
    }
    session::with(|session| {
        let failures = session.failures.list();
        let total = failures.len();
        let items = failures.into_iter().rev().take(limit).map(|failure| {
            let since = failure.time.duration_since(UNIX_EPOCH).unwrap_or_default();
            ErrorReport {
                unix_ms: since.as_millis() as u64,
                kind: failure.kind.to_owned(),
                task: failure.error.task,
                attempt: failure.error.attempt,
                message: failure.error.message,
                causes: failure.error.causes,
                location: failure.error.location,
            }
        });
        List { items: items.collect(), total, is_cut: false }
    })
}

/// What ran when, on which thread: a trace in Chrome's format, which Perfetto opens. Empty unless the session
/// keeps a timeline.
///
/// # Errors
/// Without a session.
pub fn timeline() -> Result<serde_json::Value> {
    if let Some(told) = of_driver(|| Ask::Timeline) {
        return told;
    }
    session::with(|session| {
        let mut tracks = vec![timeline::track(&session.process_name())];
        tracks.extend(local::workers(session, true).into_iter().map(|local| local.track));
        timeline::trace(&tracks)
    })
}

/// What fills memory.
///
/// # Errors
/// Without a session.
pub fn memory() -> Result<Memory> {
    if let Some(told) = of_driver(|| Ask::Memory) {
        return told;
    }
    let process_bytes = process_bytes();
    session::with(|session| {
        let (mut threads, mut blocked) = session.pool.threads();
        // Asked before the hub is locked, for they may have to ask it.
        let mut worker_bytes = None;
        for worker in local::workers(session, false) {
            threads += worker.threads;
            blocked += worker.blocked;
            worker_bytes = worker.memory_bytes.map(|own| own + worker_bytes.unwrap_or(0));
        }
        let store = session.store_report();
        let hub = session.lock();
        let counts = hub.owner.counts();
        let kept = hub.lineage.counts();
        Memory {
            objects: counts.objects,
            object_bytes: hub.bytes.max(0) as usize,
            object_bytes_max: hub.bytes_max,
            copies: hub.copies,
            tasks: counts.tasks,
            actors: hub.actors.len(),
            threads,
            blocked,
            process_bytes,
            worker_bytes,
            store,
            kept_tasks: kept.records,
            kept_bytes: kept.bytes,
        }
    })
}

/// Ids of the same kind that are known, but not more than can be searched in no time.
pub(super) fn known(session: &Session, id: Id) -> Vec<String> {
    let waits = session.awaited.list();
    let hub = session.lock();
    match id {
        Id::Task(_) => {
            let tasks = hub.owner.tasks().take(KNOWN_MAX);
            tasks.map(|task| Id::Task(task.key).to_string()).collect()
        }
        Id::Object(_) | Id::Named(_) => {
            let objects = hub.owner.objects().take(KNOWN_MAX);
            objects.map(|object| Id::Object(object.key).to_string()).collect()
        }
        Id::Actor(_) => {
            let actors = hub.actors.keys().take(KNOWN_MAX);
            actors.map(|actor| Id::Actor(actor).to_string()).collect()
        }
        Id::Group(_) => {
            let groups = hub.scheduler.groups().take(KNOWN_MAX);
            groups.map(|group| Id::Group(group.key).to_string()).collect()
        }
        Id::Get(_) => waits.iter().map(|wait| Id::Get(wait.number).to_string()).collect(),
    }
}

/// Looks at records a chunk at a time, with the hub's lock let go in between; `look` skips so many and
/// says how many it has looked at. Says whether there were too many to look at all.
fn chunks(session: &Session, mut look: impl FnMut(&Hub, usize) -> usize) -> bool {
    let mut skip = 0;
    while skip < LOOKED_AT_MAX {
        let looked_at = look(&session.lock(), skip);
        skip += looked_at;
        if looked_at < CHUNK {
            return false;
        }
    }
    true
}

/// The methods of all calls. To find them one by one would take a search in a queue for each.
fn methods(session: &Session) -> BTreeMap<TaskKey, &'static str> {
    let actors: Vec<_> = session.lock().actors.values().filter_map(Weak::upgrade).collect();
    actors.iter().flat_map(|actor| actor.methods()).collect()
}

/// The first tasks of each state, up to a limit.
struct Best<'a> {
    limit: usize,
    filter: &'a TaskFilter,
    methods: BTreeMap<TaskKey, &'static str>,
    total: usize,
    by_state: BTreeMap<Reverse<TaskState>, Vec<TaskKey>>,
}

impl Best<'_> {
    fn offer(&mut self, hub: &Hub, task: &TaskView<'_, Box<dyn Job>>) {
        let state = state(hub, task);
        if self.filter.state.is_some_and(|wanted| wanted != state) {
            return;
        }
        if let Some(wanted) = &self.filter.name {
            let is_wanted = match task.target {
                Target::Class(_) => *wanted == hub.name_of(task.key),
                Target::Actor(_) => self.methods.get(&task.key) == Some(&wanted.as_str()),
            };
            if !is_wanted {
                return;
            }
        }
        self.total += 1;
        let list = self.by_state.entry(Reverse(state)).or_default();
        if list.len() < self.limit {
            list.push(task.key);
        }
    }

    fn keys(&self) -> Vec<TaskKey> {
        self.by_state.values().flatten().copied().take(self.limit).collect()
    }
}

fn state(hub: &Hub, task: &TaskView<'_, Box<dyn Job>>) -> TaskState {
    match (task.progress, task.target) {
        (Progress::Waiting(_), _) => TaskState::Waiting,
        (Progress::Running, _) => TaskState::Running,
        (Progress::Queued, Target::Class(_)) => TaskState::Queued,
        (Progress::Queued, Target::Actor(actor)) => {
            let actor = hub.actor(actor);
            match actor.and_then(|actor| actor.running(task.key)) {
                Some(_) => TaskState::Running,
                None => TaskState::Queued,
            }
        }
    }
}

fn task_report(
    hub: &Hub,
    task: &TaskView<'_, Box<dyn Job>>,
    at_work: &BTreeMap<TaskKey, AtWork>,
) -> TaskReport {
    let now_ms = coarse_ms();
    let actor = match task.target {
        Target::Class(_) => None,
        Target::Actor(actor) => Some(actor),
    };
    let call = actor.and_then(|actor| hub.actor(actor)).and_then(|actor| actor.call(task.key));
    let work = at_work.get(&task.key);
    let since_ms = match call {
        Some(CallView::Running(RunningCall { since_ms, .. })) => Some(since_ms),
        _ => work.map(|work| work.since_ms),
    };
    TaskReport {
        id: Id::Task(task.key).to_string(),
        name: hub.name_of(task.key),
        state: state(hub, task),
        actor: actor.map(|actor| Id::Actor(actor).to_string()),
        missing_arguments: match task.progress {
            Progress::Waiting(missing) => missing as usize,
            Progress::Queued | Progress::Running => 0,
        },
        attempts: task.attempts,
        thread: work.map(|work| work.thread.to_string()),
        running_ms: since_ms.map(|since_ms| now_ms.saturating_sub(since_ms)),
        returns: task.returns.iter().map(|object| Id::Object(*object).to_string()).collect(),
    }
}

fn actor_report(id: Id, actor: &dyn AnyActor, now_ms: u64) -> ActorReport {
    let view = actor.view();
    let oldest = view.running.iter().min_by_key(|call| call.since_ms);
    let (state, because) = match view.state {
        ActorState::Placing => ("placing", None),
        ActorState::Placed | ActorState::Creating => ("creating", None),
        ActorState::Alive => ("alive", None),
        ActorState::Dead(because) => ("dead", Some(because)),
    };
    ActorReport {
        id: id.to_string(),
        name: actor.name().to_owned(),
        state: state.to_owned(),
        waiting: view.waiting,
        running: view.running.len(),
        method: oldest.map(|call| call.method.to_owned()),
        running_ms: oldest.map(|call| now_ms.saturating_sub(call.since_ms)),
        because,
    }
}

fn object_report(object: &ObjectView, stored: Option<&Stored>) -> ObjectReport {
    let state = match object.is_ready {
        None => "pending",
        Some(true) => "ready",
        Some(false) => "failed",
    };
    ObjectReport {
        id: Id::Object(object.key).to_string(),
        state: state.to_owned(),
        driver_holds: object.has_handle,
        uses: object.uses,
        borrows: object.borrows,
        task: object.producer.map(|task| Id::Task(task).to_string()),
        bytes: stored.map(|stored| stored.bytes),
        place: stored.map(|stored| {
            let place = match stored.whereabouts {
                Whereabouts::Memory => "memory",
                Whereabouts::Disk => "disk",
                Whereabouts::Spilling => "spilling",
                Whereabouts::Restoring => "restoring",
            };
            place.to_owned()
        }),
    }
}

fn worker_report(hub: &Hub, local: &Local, now_ms: u64) -> WorkerReport {
    let mut by_thread: BTreeMap<Arc<str>, ThreadReport> = BTreeMap::new();
    // What lies on top comes first, and is told last.
    for (thread, task, since_ms) in local.at_work() {
        let key: TaskKey = KeyData::from_ffi(task).into();
        let told = match Id::task(task) {
            Some(id) => format!("{id} {}", hub.name_of(key)),
            None => "a constructor".to_owned(),
        };
        let running_ms = now_ms.saturating_sub(since_ms);
        let new = || ThreadReport { name: thread.to_string(), tasks: Vec::new(), running_ms };
        by_thread.entry(thread.clone()).or_insert_with(new).tasks.insert(0, told);
    }
    let at_work: Vec<_> = by_thread.into_values().collect();
    WorkerReport {
        id: local.name.clone(),
        pid: local.pid,
        state: if at_work.is_empty() { "idle" } else { "busy" }.into(),
        threads: local.threads,
        blocked: local.blocked,
        at_work,
        memory_bytes: local.memory_bytes,
    }
}

/// The memory of this process, as the kernel counts it: what is resident and its own.
pub(super) fn process_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}
