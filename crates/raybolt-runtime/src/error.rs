//! What a caller is told when there is no result: the cause, the place and the lever.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use raybolt_core::calls::scheduler::{Among, CPU, GPU, Infeasible, MEMORY, Refused};
use serde::{Deserialize, Serialize};

use crate::group::Membership;

/// The outcome of most operations; with `E` named, that of any.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no result. Cheap to clone: the same error reaches everyone who depends on it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Arc<Kind>);

/// The kinds of [`Error`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// The API was used outside a session.
    NotInitialized,
    /// A session exists already.
    AlreadyInitialized,
    /// The session ended before the result was there.
    SessionEnded {
        /// What was waited for.
        what: String,
    },
    /// A setting of the session, or an option of a task, makes no sense.
    Invalid(String),
    /// User code failed.
    Task(TaskError),
    /// The task was cancelled.
    Cancelled {
        /// The task's name.
        task: String,
    },
    /// The task did not end before its deadline.
    Deadline {
        /// The task's name.
        task: String,
        /// How long it was given.
        after: Duration,
    },
    /// A `get` or `wait` ended before the result was there; the task goes on.
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What it waits for itself.
        because: String,
    },
    /// No node can ever run this.
    Unschedulable {
        /// The task's or actor's name.
        task: String,
        /// Which resource is missing.
        because: String,
        /// What gives the node more of it.
        lever: Cow<'static, str>,
    },
    /// A placement group can never have its bundles.
    Unplaceable {
        /// The group's name.
        group: String,
        /// Why.
        because: String,
    },
    /// The placement group in which it was to run was removed.
    GroupRemoved {
        /// The task's or actor's name.
        task: String,
        /// The group's name.
        group: String,
    },
    /// A value would not become bytes.
    Encode {
        /// The task's name, or `put`.
        task: String,
        /// What the value's type said.
        because: String,
    },
    /// Bytes from another process are no value of the expected type.
    Decode {
        /// The task's name.
        task: String,
        /// What is wrong with them.
        because: String,
    },
    /// Something has to wait that may not wait here; never seen by users.
    #[doc(hidden)]
    WouldWait,
    /// The worker process that ran it is gone.
    WorkerDied {
        /// What ran there.
        task: String,
        /// How the worker ended, and the last lines that it wrote.
        because: String,
    },
    /// No worker process starts that could run it.
    NoWorker {
        /// The task's name.
        task: String,
        /// How it was tried, and what went wrong.
        because: String,
    },
    /// The store has no room for a value.
    StoreFull {
        /// Bytes of the value.
        needed: usize,
        /// Bytes of the objects that are there.
        used: usize,
        /// The store's size in bytes.
        limit: usize,
    },
    /// The value of an object was lost, and cannot be made again.
    ObjectLost {
        /// Which object.
        object: String,
        /// How it was lost, and why its task does not make it again.
        because: String,
    },
    /// The actor is gone.
    ActorDied {
        /// The actor's name.
        actor: String,
        /// Why it is gone.
        because: String,
    },
    /// A call of an actor waits for another one that cannot start before it has ended.
    WaitsForItself {
        /// The actor's name.
        actor: String,
    },
    /// Tasks and calls wait for each other in a circle, and none of them can go on.
    Circle {
        /// Who waits, each for the next and the last for the first.
        members: Vec<String>,
    },
    /// The actor has as many calls waiting as it allows.
    ActorBusy {
        /// The actor's name.
        actor: String,
        /// Its bound.
        pending_max: usize,
    },
    /// No actor of this name, or another one has it.
    ActorName(String),
}

/// A failure of user code, as data: it crosses processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskError {
    /// The function's or method's name.
    pub task: String,
    /// Which attempt failed, from 0.
    pub attempt: u32,
    /// What the error or panic said.
    pub message: String,
    /// What caused the error, outermost first.
    pub causes: Vec<String>,
    /// For a panic: the source line, as `file:line:column`.
    pub location: Option<String>,
    /// For a panic: the stack at that line.
    pub backtrace: Option<String>,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: Kind) -> Self {
        Error(Arc::new(kind))
    }

    /// Why a task or an actor, perhaps of a placement group, can never run.
    pub(crate) fn refused(task: &str, refused: &Refused, member: Option<&Membership>) -> Self {
        let lever = match refused {
            Refused::Infeasible(infeasible) => lever(infeasible),
            Refused::NoBundle { .. } | Refused::Never(_) => "placement_group",
            Refused::Removed => {
                return Self::group_removed(task, member.map_or("", Membership::group_name));
            }
        };
        let (task, because) = (task.to_owned(), refused.to_string());
        Error::new(Kind::Unschedulable { task, because, lever: lever.into() })
    }

    pub(crate) fn group_removed(task: &str, group: &str) -> Self {
        let (task, group) = (task.to_owned(), group.to_owned());
        Error::new(Kind::GroupRemoved { task, group })
    }

    /// What went wrong, to match on.
    pub fn kind(&self) -> &Kind {
        &self.0
    }

    /// The failure of user code, if it was one.
    pub fn task_error(&self) -> Option<&TaskError> {
        match &*self.0 {
            Kind::Task(error) => Some(error),
            _ => None,
        }
    }

    /// Whether user code failed or panicked.
    pub fn is_task_failed(&self) -> bool {
        self.task_error().is_some()
    }

    /// Whether a `get` or `wait` gave up; the result may still come.
    pub fn is_timeout(&self) -> bool {
        matches!(*self.0, Kind::Timeout { .. })
    }

    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.0, Kind::Cancelled { .. })
    }

    /// Whether the task missed its deadline.
    pub fn is_deadline(&self) -> bool {
        matches!(*self.0, Kind::Deadline { .. })
    }

    /// Whether the placement group in which the task was to run was removed.
    pub fn is_placement_group_removed(&self) -> bool {
        matches!(*self.0, Kind::GroupRemoved { .. })
    }

    /// Whether the worker process that ran the task is gone.
    pub fn is_worker_died(&self) -> bool {
        matches!(*self.0, Kind::WorkerDied { .. })
    }

    /// Whether the actor is gone.
    pub fn is_actor_died(&self) -> bool {
        matches!(*self.0, Kind::ActorDied { .. })
    }

    /// Whether the value was there, but was lost, and cannot be made again.
    pub fn is_object_lost(&self) -> bool {
        matches!(*self.0, Kind::ObjectLost { .. })
    }

    /// One word for the kind, for reports.
    pub fn kind_name(&self) -> &'static str {
        match &*self.0 {
            Kind::NotInitialized => "not-initialized",
            Kind::AlreadyInitialized => "already-initialized",
            Kind::SessionEnded { .. } => "session-ended",
            Kind::Invalid(_) => "invalid",
            Kind::Task(error) if error.location.is_some() => "panic",
            Kind::Task(_) => "task",
            Kind::Cancelled { .. } => "cancelled",
            Kind::Deadline { .. } => "deadline",
            Kind::Timeout { .. } => "timeout",
            Kind::Unschedulable { .. } => "unschedulable",
            Kind::Unplaceable { .. } => "unplaceable",
            Kind::GroupRemoved { .. } => "placement-group-removed",
            Kind::Encode { .. } => "encode",
            Kind::Decode { .. } => "decode",
            Kind::WouldWait => "would-wait",
            Kind::WorkerDied { .. } => "worker-died",
            Kind::NoWorker { .. } => "no-worker",
            Kind::StoreFull { .. } => "store-full",
            Kind::ObjectLost { .. } => "object-lost",
            Kind::ActorDied { .. } => "actor-died",
            Kind::WaitsForItself { .. } => "waits-for-itself",
            Kind::Circle { .. } => "circle",
            Kind::ActorBusy { .. } => "actor-busy",
            Kind::ActorName(_) => "actor-name",
        }
    }
}

/// What gives a node, or a bundle, more of the resource.
fn lever(infeasible: &Infeasible) -> &'static str {
    match (infeasible.resource.as_str(), infeasible.among) {
        (CPU, Among::Nodes) => "Builder::num_cpus",
        (GPU, Among::Nodes) => "Builder::num_gpus",
        (MEMORY, Among::Nodes) => "Builder::memory",
        (_, Among::Nodes) => "Builder::resource",
        (CPU, _) => "Bundle::num_cpus",
        (GPU, _) => "Bundle::num_gpus",
        (MEMORY, _) => "Bundle::memory",
        (_, _) => "Bundle::resource",
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `main() -> Result<..>` and `unwrap` show; the sentence says more than the fields.
        write!(f, "{self}")?;
        if let Some(backtrace) = self.task_error().and_then(|error| error.backtrace.as_ref()) {
            write!(f, "\n{backtrace}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::NotInitialized => {
                write!(
                    f,
                    "raybolt is not running here; call `raybolt::init()` first and keep what it returns"
                )
            }
            Kind::AlreadyInitialized => {
                write!(
                    f,
                    "raybolt runs here already; use the session there is, or drop it before another `init`"
                )
            }
            Kind::SessionEnded { what } => write!(f, "the session ended before {what} was there"),
            Kind::Invalid(message) => write!(f, "{message}"),
            Kind::Task(error) => write!(f, "{error}"),
            Kind::Cancelled { task } => write!(f, "task `{task}` was cancelled"),
            Kind::Deadline { task, after } => {
                write!(f, "task `{task}` did not end within {after:?} (`deadline`)")
            }
            Kind::Timeout { what, after, because } => {
                write!(f, "{what} was not there within {after:?} (`timeout`): {because}")
            }
            Kind::Unschedulable { task, because, lever } => {
                write!(f, "`{task}` can never run: it {because} (`{lever}`)")
            }
            Kind::Unplaceable { group, because } => {
                write!(f, "placement group `{group}` can never be placed: it {because}")
            }
            Kind::GroupRemoved { task, group } => {
                write!(f, "`{task}` was in placement group `{group}`, which was removed")
            }
            Kind::Encode { task, because } => write!(f, "`{task}`: {because}"),
            Kind::Decode { task, because } => {
                write!(f, "`{task}` got bytes that it cannot read: {because}")
            }
            Kind::WouldWait => write!(f, "it would have to wait for the store"),
            Kind::WorkerDied { task, because } => {
                write!(f, "the worker that ran `{task}` is gone: {because}")
            }
            Kind::NoWorker { task, because } => write!(
                f,
                "`{task}` cannot run, for no worker starts: a worker is this program started again; it must reach `raybolt::init`, `Builder::start` or `#[raybolt::main]`, and nothing before that may block, fail or end it: {because}"
            ),
            Kind::StoreFull { needed, used, limit } => write!(
                f,
                "no room for {needed} bytes: objects fill {used} of {limit} bytes; drop references or raise `object_store_memory`"
            ),
            Kind::ObjectLost { object, because } => write!(f, "{object} is lost: {because}"),
            Kind::ActorDied { actor, because } => write!(f, "actor `{actor}` is gone: {because}"),
            Kind::WaitsForItself { actor } => write!(
                f,
                "actor `{actor}` waits for a call of its own, which cannot start before the one that waits has ended; call the method on `self`, or let both run at once (`&self`, `max_concurrency`)"
            ),
            Kind::Circle { members } => write!(
                f,
                "{}, which waits for the first again: none of them could go on; let calls of an actor run at once (`&self`, `max_concurrency`), or do not wait inside of them",
                members.join(", which waits for ")
            ),
            Kind::ActorBusy { actor, pending_max } => write!(
                f,
                "actor `{actor}` has {pending_max} calls waiting, as many as it allows (`max_pending_calls`)"
            ),
            Kind::ActorName(message) => write!(f, "{message}"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskError { task, message, .. } = self;
        match &self.location {
            Some(location) => write!(f, "task `{task}` panicked at {location}: {message}")?,
            None => write!(f, "task `{task}` failed: {message}")?,
        }
        if self.attempt > 0 {
            write!(f, " (attempt {})", self.attempt + 1)?;
        }
        for cause in &self.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        Ok(())
    }
}

impl TaskError {
    /// A failure that user code returned, with its chain of causes.
    pub(crate) fn returned(
        task: &str,
        attempt: u32,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        TaskError {
            task: task.into(),
            attempt,
            message: error.to_string(),
            causes: causes.map(ToString::to_string).collect(),
            location: None,
            backtrace: None,
        }
    }
}
