//! Answers as text.

use std::path::Path;

use raybolt::inspect::{
    ActorReport, ErrorReport, Memory, ObjectReport, PlacementGroupReport, Resource, Status,
    TaskReport, WorkerReport,
};

use crate::text::{bytes, duration, table};

pub(crate) fn status(session: &Path, status: &Status) -> String {
    let tasks = &status.tasks;
    let place = match status.worker_processes {
        0 => "in one process".to_owned(),
        1 => "over 1 worker process".to_owned(),
        count => format!("over {count} worker processes"),
    };
    let resources: Vec<String> = status.resources.iter().map(resource).collect();
    facts(vec![
        ("session", session.display().to_string()),
        ("program", format!("{}, process {}, {place}", status.program, status.pid)),
        ("running for", duration(status.uptime_ms)),
        (
            "tasks",
            format!(
                "{} running, {} queued, {} waiting for arguments",
                tasks.running, tasks.queued, tasks.waiting
            ),
        ),
        (
            "actors",
            match status.calls {
                1 => format!("{}, with 1 call", status.actors),
                calls => format!("{}, with {calls} calls", status.actors),
            },
        ),
        (
            "objects",
            format!("{}, {}", status.objects, room(status.object_bytes, status.object_bytes_max)),
        ),
        ("waiting", format!("{} in `get`, `wait` or `.await`", status.waiting)),
        ("errors", status.errors.to_string()),
        ("free", resources.join(", ")),
        ("raybolt", status.version.clone()),
    ])
}

pub(crate) fn memory(memory: &Memory) -> String {
    let mut lines = vec![
        (
            "objects",
            format!("{}, {}", memory.objects, room(memory.object_bytes, memory.object_bytes_max)),
        ),
        ("copies", memory.copies.to_string()),
        ("tasks", memory.tasks.to_string()),
        ("actors", memory.actors.to_string()),
        ("threads", format!("{}, {} of them waiting", memory.threads, memory.blocked)),
        ("process", memory.process_bytes.map_or_else(|| "unknown".into(), bytes)),
    ];
    if let Some(own) = memory.worker_bytes {
        lines.push(("workers", bytes(own)));
    }
    if let Some(store) = &memory.store {
        let read = format!("{} of them being read", bytes(store.pinned));
        lines
            .push(("store", format!("{} of {}, {read}", bytes(store.used), bytes(store.capacity))));
        lines.push(("on disk", bytes(store.spilled)));
        let kept = format!("{} kept to run again, {}", memory.kept_tasks, bytes(memory.kept_bytes));
        lines.push(("lineage", kept));
    }
    facts(lines)
}

pub(crate) fn tasks(tasks: &[TaskReport]) -> String {
    let row = |task: &TaskReport| {
        let place = match (&task.actor, &task.thread) {
            (Some(actor), Some(thread)) => format!("{actor}, {thread}"),
            (Some(place), None) | (None, Some(place)) => place.clone(),
            (None, None) => String::new(),
        };
        let missing = match task.missing_arguments {
            0 => String::new(),
            count => count.to_string(),
        };
        let running = task.running_ms.map(duration).unwrap_or_default();
        [task.id.clone(), task.name.clone(), task.state.as_str().into(), running, missing, place]
    };
    table(["ID", "NAME", "STATE", "FOR", "MISSING", "WHERE"], tasks.iter().map(row).collect())
}

pub(crate) fn actors(actors: &[ActorReport]) -> String {
    let row = |actor: &ActorReport| {
        let doing = match (&actor.method, actor.running_ms, &actor.because) {
            (Some(method), Some(ms), _) => format!("{method} for {}", duration(ms)),
            (_, _, Some(because)) => because.clone(),
            _ => String::new(),
        };
        let (running, waiting) = (actor.running.to_string(), actor.waiting.to_string());
        [actor.id.clone(), actor.name.clone(), actor.state.clone(), running, waiting, doing]
    };
    let headers = ["ID", "NAME", "STATE", "RUNNING", "WAITING", "DOING"];
    table(headers, actors.iter().map(row).collect())
}

pub(crate) fn objects(objects: &[ObjectReport]) -> String {
    let row = |object: &ObjectReport| {
        let mut holders = Vec::new();
        if object.driver_holds {
            holders.push("driver".to_owned());
        }
        if object.uses > 0 {
            let tasks = if object.uses == 1 { "task" } else { "tasks" };
            holders.push(format!("{} {tasks}", object.uses));
        }
        if object.borrows > 0 {
            holders.push(format!("{} in workers", object.borrows));
        }
        let task = object.task.clone().unwrap_or_default();
        let size = object.bytes.map(bytes).unwrap_or_default();
        let place = object.place.clone().unwrap_or_default();
        [object.id.clone(), object.state.clone(), size, place, holders.join(", "), task]
    };
    let headers = ["ID", "STATE", "IN STORE", "WHERE", "HELD BY", "MADE BY"];
    table(headers, objects.iter().map(row).collect())
}

pub(crate) fn workers(workers: &[WorkerReport]) -> String {
    let row = |worker: &WorkerReport| {
        let threads = format!("{} ({} waiting)", worker.threads, worker.blocked);
        let doing: Vec<String> = worker
            .at_work
            .iter()
            .map(|thread| {
                let last = thread.tasks.last().map_or("", String::as_str);
                format!("{last} for {}", duration(thread.running_ms))
            })
            .collect();
        let memory = worker.memory_bytes.map(bytes).unwrap_or_default();
        let pid = worker.pid.to_string();
        [worker.id.clone(), pid, worker.state.clone(), threads, memory, doing.join(", ")]
    };
    let headers = ["ID", "PROCESS", "STATE", "THREADS", "MEMORY", "DOING"];
    table(headers, workers.iter().map(row).collect())
}

pub(crate) fn placement_groups(groups: &[PlacementGroupReport]) -> String {
    let row = |group: &PlacementGroupReport| {
        let bundle = |bundle: &Vec<(String, f64)>| {
            let parts: Vec<_> =
                bundle.iter().map(|(name, amount)| format!("{name}: {amount}")).collect();
            format!("{{{}}}", parts.join(", "))
        };
        let bundles: Vec<_> = group.bundles.iter().map(bundle).collect();
        let name = group.name.clone().unwrap_or_default();
        [group.id.clone(), name, group.state.clone(), group.strategy.clone(), bundles.join(" ")]
    };
    let headers = ["ID", "NAME", "STATE", "STRATEGY", "BUNDLES"];
    table(headers, groups.iter().map(row).collect())
}

pub(crate) fn errors(errors: &[ErrorReport]) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.unwrap_or_default().as_millis() as u64;
    let row = |error: &ErrorReport| {
        let ago = format!("{} ago", duration(now_ms.saturating_sub(error.unix_ms)));
        let place = error.location.clone().unwrap_or_default();
        let message = error.message.lines().next().unwrap_or_default().to_owned();
        [ago, error.kind.clone(), error.task.clone(), place, message]
    };
    table(["WHEN", "KIND", "TASK", "PLACE", "MESSAGE"], errors.iter().map(row).collect())
}

fn resource(resource: &Resource) -> String {
    let Resource { name, available, total, .. } = resource;
    match name.as_str() {
        "memory" => format!("{name}: {} of {}", bytes(*available as u64), bytes(*total as u64)),
        _ => format!("{name}: {available} of {total}"),
    }
}

fn room(used: usize, max: Option<usize>) -> String {
    match max {
        Some(max) => format!("{} of {}", bytes(used as u64), bytes(max as u64)),
        None => bytes(used as u64),
    }
}

fn facts(facts: Vec<(&str, String)>) -> String {
    table(["", ""], facts.into_iter().map(|(name, value)| [name.to_owned(), value]).collect())
}
