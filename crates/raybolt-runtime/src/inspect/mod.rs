//! What a session does, for those who watch it: reports that can be printed, sent and read back.
//!
//! Nothing here changes anything. Code in a worker process is told what its driver knows. Lists have a limit
//! and say how many there are beyond it; no report holds the hub's lock for longer than it takes to look at
//! `CHUNK` records (SESS-1).

mod ask;
pub(crate) mod circle;
mod lists;
mod local;
mod reports;
pub(crate) mod serve;
mod text;
mod watcher;
pub mod why;

pub use ask::Ask;
pub use lists::{
    actors, errors, memory, objects, placement_groups, status, tasks, timeline, workers,
};
pub use reports::{
    ActorReport, ErrorReport, List, Memory, ObjectReport, PlacementGroupReport, Resource, Status,
    TaskCounts, TaskFilter, TaskReport, TaskState, ThreadReport, WorkerReport,
};
pub use watcher::{WatchError, Watcher};
pub use why::{Cause, Step, Why, why};

use crate::ids::Id;
use crate::session::Session;
pub use crate::session_dir::{Found, logs_of, root, sessions};

/// How many entries a list has if nothing is said.
pub const LIMIT: usize = 100;
/// How many records are looked at before the hub's lock is let go for others.
const CHUNK: usize = 10_000;
/// How many records a list looks at, at most, to find those that are asked for.
const LOOKED_AT_MAX: usize = 1_000_000;

/// What to say of an id that names nothing.
fn unknown(session: &Session, id: Id) -> String {
    let (text, list) = match id {
        Id::Task(_) => ("has ended, or never was", "tasks"),
        Id::Object(_) | Id::Named(_) => ("was freed, or never was", "objects"),
        Id::Actor(_) => ("is gone, or never was", "actors"),
        Id::Group(_) => ("was removed, or never was", "placement-groups"),
        Id::Get(_) => ("waits no longer, or never did", "tasks"),
    };
    let known = lists::known(session, id);
    let name = id.to_string();
    let nearest = raybolt_core::suggest::nearest(&name, known.iter().map(String::as_str));
    let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
    format!("{name} {text}{hint} (`raybolt list {list}` shows those there are)")
}
