//! The reports: plain data that crosses sockets as JSON.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::session::StoreReport;

/// The session as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of raybolt.
    pub version: String,
    /// The driver's process id.
    pub pid: u32,
    /// The driver's executable, by name.
    pub program: String,
    /// How long the session has been running.
    pub uptime_ms: u64,
    /// How many processes run tasks; 0 where the driver runs them itself.
    pub worker_processes: usize,
    /// Tasks by state.
    pub tasks: TaskCounts,
    /// Calls of actors that have not ended.
    pub calls: usize,
    /// Actors alive.
    pub actors: usize,
    /// Objects that somebody can reach, or that are still to be made.
    pub objects: usize,
    /// Bytes of the objects that are there, about.
    pub object_bytes: usize,
    /// How many bytes they may fill, if that is bounded.
    pub object_bytes_max: Option<usize>,
    /// Threads and tasks that wait: in a `get` or `wait`, for an object that they await, or for the store.
    pub waiting: usize,
    /// Failures that are remembered.
    pub errors: usize,
    /// What the node has.
    pub resources: Vec<Resource>,
}

/// Tasks by state, those of actors aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// They wait for arguments.
    pub waiting: usize,
    /// They could run.
    pub queued: usize,
    /// They run.
    pub running: usize,
}

/// One resource of the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// `CPU`, `GPU` or a name of the user's.
    pub name: String,
    /// How much there is.
    pub total: f64,
    /// How much is free; below zero while tasks that were blocked go on.
    pub available: f64,
}

/// A part of what there is, and how much there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<T> {
    /// The first of them.
    pub items: Vec<T>,
    /// How many there are that were asked for; a lower bound if `is_cut`.
    pub total: usize,
    /// Whether there are so many that not all were looked at.
    pub is_cut: bool,
}

/// Which tasks are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFilter {
    /// Only those in this state.
    pub state: Option<TaskState>,
    /// Only those of this name.
    pub name: Option<String>,
}

/// What a task or call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It waits for arguments.
    Waiting,
    /// It could run.
    Queued,
    /// It runs.
    Running,
}

impl TaskState {
    /// The state's name, as it is written and read.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Waiting => "waiting",
            TaskState::Queued => "queued",
            TaskState::Running => "running",
        }
    }
}

impl FromStr for TaskState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let states = [TaskState::Waiting, TaskState::Queued, TaskState::Running];
        let found = states.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("a task is waiting, queued or running, not `{text}`"))
    }
}

/// A task, or a call of an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// `task-1f`
    pub id: String,
    /// Its function, its method, or the name that its options give it.
    pub name: String,
    /// What it does.
    pub state: TaskState,
    /// The actor that it is a call of.
    pub actor: Option<String>,
    /// How many of its arguments are not there.
    pub missing_arguments: usize,
    /// How often it was begun.
    pub attempts: u32,
    /// The thread that runs it, if one does.
    pub thread: Option<String>,
    /// For how long it has been running.
    pub running_ms: Option<u64>,
    /// The objects that it makes.
    pub returns: Vec<String>,
}

/// An actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorReport {
    /// `actor-5`
    pub id: String,
    /// Its name, or that of its type.
    pub name: String,
    /// `placing`, `creating`, `alive` or `dead`.
    pub state: String,
    /// Calls that have not started.
    pub waiting: usize,
    /// Calls that run.
    pub running: usize,
    /// The method that has been running longest, if one is.
    pub method: Option<String>,
    /// For how long.
    pub running_ms: Option<u64>,
    /// Why it is gone.
    pub because: Option<String>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectReport {
    /// `object-2a`
    pub id: String,
    /// `pending`, `ready` or `failed`.
    pub state: String,
    /// Whether the driver has references to it.
    pub driver_holds: bool,
    /// How many unfinished tasks take it.
    pub uses: u32,
    /// How many references other processes have.
    pub borrows: u32,
    /// The task that makes it, while that has not ended.
    pub task: Option<String>,
    /// How many bytes its value has, if that lies in the store of worker processes.
    pub bytes: Option<u64>,
    /// Where it lies then: in `memory`, on `disk`, or on its way to either (`spilling`, `restoring`).
    pub place: Option<String>,
}

/// A process that runs tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// `driver`, or `worker-3`.
    pub id: String,
    /// Its process id.
    pub pid: u32,
    /// What it does: `starting`, `idle`, `busy` or `gone`.
    pub state: String,
    /// Its threads, and how many of them wait.
    pub threads: usize,
    /// How many of the threads wait in user code.
    pub blocked: usize,
    /// What its threads work on.
    pub at_work: Vec<ThreadReport>,
    /// The memory it has to itself, if the system tells.
    pub memory_bytes: Option<u64>,
}

/// A thread at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadReport {
    /// Its name.
    pub name: String,
    /// What it runs; several if some wait for those after them.
    pub tasks: Vec<String>,
    /// For how long the last of them.
    pub running_ms: u64,
}

/// A placement group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacementGroupReport {
    /// `group-1`
    pub id: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// `waiting`, `ready`, or `never` if it can never be placed.
    pub state: String,
    /// What it waits for, or why it can never be placed.
    pub because: Option<String>,
    /// How many leases of tasks and actors are cut from it.
    pub leases: usize,
    /// How its bundles are to be placed: `pack`, `spread`, `strict pack` or `strict spread`.
    pub strategy: String,
    /// What each bundle holds.
    pub bundles: Vec<Vec<(String, f64)>>,
}

/// A failure of user code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// When it was noticed, in milliseconds since 1970.
    pub unix_ms: u64,
    /// `panic`, `task`, or `unschedulable` for one that can never run.
    pub kind: String,
    /// The function's or method's name.
    pub task: String,
    /// Which attempt failed, from 0.
    pub attempt: u32,
    /// What the error or panic said.
    pub message: String,
    /// What caused the error, outermost first.
    pub causes: Vec<String>,
    /// For a panic: the source line.
    pub location: Option<String>,
}

/// What fills memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Objects that somebody can reach, or that are still to be made.
    pub objects: usize,
    /// Bytes of the objects that are there, about.
    pub object_bytes: usize,
    /// How many bytes they may fill, if that is bounded.
    pub object_bytes_max: Option<usize>,
    /// How many values were copied into the store since the session began.
    pub copies: u64,
    /// Tasks and calls that have not ended.
    pub tasks: usize,
    /// Actors alive.
    pub actors: usize,
    /// Threads that run tasks, in this process.
    pub threads: usize,
    /// How many of them wait in user code.
    pub blocked: usize,
    /// The memory of the driver's process, if the system tells.
    pub process_bytes: Option<u64>,
    /// The memory of its worker processes together, if the system tells; what processes share counts for each.
    pub worker_bytes: Option<u64>,
    /// The store of worker processes, if there are any.
    pub store: Option<StoreReport>,
    /// Tasks that have ended, and are kept to make values in the store again should they be lost.
    pub kept_tasks: usize,
    /// What it takes to keep them.
    pub kept_bytes: u64,
}
