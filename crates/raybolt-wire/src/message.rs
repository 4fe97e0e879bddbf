//! The messages that drivers, nodes and workers exchange about calls.
//!
//! # Words
//! An *owner* is a process that created references, a *node* grants leases, a *worker* runs user
//! code; a driver is an owner, and so is a worker whose tasks call others. See DESIGN for the rest.
//!
//! # Protocol
//! ```text
//! owner                     node                      worker
//!   | Hello <-------------> Hello (every link begins so)  |
//!   | RequestLease -------->  |                           |
//!   | <-- LeaseGranted(process)                            |
//!   | Hello <------------------------------------> Hello  |
//!   | PushTasks(lease, tasks) --------------------------> |
//!   | <------------------------------------- RefBorrowed  |   it keeps a reference it was lent
//!   | <------------------------------------ TaskFinished  |
//!   | <------------------------------------- RefReleased  |   when it drops that reference
//!   | LeaseReturned ------->  |                           |
//!   | <-- WorkerLost(process, cause)                |
//! ```
//! Values travel raw behind the message, in one body; the message says where each lies ([`Span`]).
//! How message and body become bytes is the business of [`envelope`](crate::envelope).
//!
//! # Invariants
//! - **MSG-1 (fenced).** A process is named by an id that is never used again; what dies and comes back
//!   under its name (an actor, a node) carries an epoch. A receiver ignores what the dead say, and what
//!   is meant for an earlier life.
//! - **MSG-2 (numbered attempts).** A task's answer carries the attempt it belongs to, so that an
//!   answer of an attempt that was given up is not taken for that of a later one.
//! - **MSG-3 (borrow before release).** `RefBorrowed` travels the same link as the `TaskFinished` of
//!   the task that borrowed, and before it: the owner never lets go in between.
//! - **MSG-4 (time that is left).** A deadline travels as milliseconds left, for two machines have no
//!   clock in common.
//! - **MSG-5 (append only).** Variants and fields are added at the end and guarded by a bit of
//!   [`Hello::features`]; the bytes of those that exist are kept by `tests/golden.rs`.

use raybolt_core::ids::{
    ActorId, Epoch, JobId, LeaseId, NodeId, ObjectId, ProcessId, RequestId, TaskId,
};
use serde::{Deserialize, Serialize};

/// Where a value lies in the body that follows a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The offset of its first byte.
    pub start: u32,
    /// How many bytes it has.
    pub bytes: u32,
}

/// One message; what each is for is drawn at the head of this module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first message of either side of a link.
    Hello(Hello),
    /// An owner wants to push tasks of one kind.
    RequestLease(RequestLease),
    /// A node lends a worker to an owner.
    LeaseGranted(LeaseGranted),
    /// A node has no worker for such tasks, and will not have one by waiting.
    LeaseRefused {
        /// The request that is answered.
        lease: LeaseId,
        /// Why, and what the node would have.
        cause: String,
        /// A node that may do better.
        try_node: Option<NodeId>,
    },
    /// The owner does not need the worker any more, or never got to use it.
    LeaseReturned {
        /// Which lease.
        lease: LeaseId,
    },
    /// An owner hands tasks to the worker it holds the lease of.
    PushTasks {
        /// The right to do so.
        lease: LeaseId,
        /// In the order in which they are to start.
        tasks: Vec<Task>,
    },
    /// A caller hands calls to an actor.
    PushCalls {
        /// Whose methods.
        actor: ActorId,
        /// The incarnation that the caller believes in.
        epoch: Epoch,
        /// In the caller's order.
        calls: Vec<ActorCall>,
    },
    /// A worker answers a task or a call.
    TaskFinished(TaskFinished),
    /// A generator made its next value.
    Yielded {
        /// Which generator.
        task: TaskId,
        /// Of which attempt.
        attempt: u32,
        /// The value's place in the stream, from 0.
        index: u64,
        /// The value.
        value: Payload,
    },
    /// A task waits in `get`: its CPU is free until it goes on.
    Blocked {
        /// Under which lease it runs.
        lease: LeaseId,
    },
    /// A task that was blocked goes on.
    Unblocked {
        /// Under which lease it runs.
        lease: LeaseId,
    },
    /// The owner has lost interest in a task.
    Cancel {
        /// Which task.
        task: TaskId,
        /// Whether the worker is to be stopped if the task does not heed it.
        force: bool,
    },
    /// A process keeps a reference that it was lent.
    RefBorrowed {
        /// To which object.
        object: ObjectId,
        /// Who keeps it.
        borrower: ProcessId,
    },
    /// A borrower dropped its last copy of a reference.
    RefReleased {
        /// To which object.
        object: ObjectId,
        /// Who kept it.
        borrower: ProcessId,
    },
    /// A reference changes its owner: it was made by a task and returned from it.
    Moved(Moved),
    /// A process asks the owner for an object that it was lent.
    Fetch {
        /// Which object.
        object: ObjectId,
    },
    /// The owner's answer to `Fetch`.
    Fetched {
        /// Which object.
        object: ObjectId,
        /// Its value, or why it has none.
        value: Result<Payload, Failure>,
    },
    /// A node declares one of its workers dead.
    WorkerLost {
        /// Who died.
        process: ProcessId,
        /// How: an exit code, a signal, silence.
        cause: String,
    },
}

/// Who speaks, and what it understands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`]; sides that differ part with an error that names both.
    pub protocol: u32,
    /// A bit per optional part of the protocol; both sides use those that both have.
    pub features: u64,
    /// The session (cluster or process tree) that the speaker belongs to.
    pub session: u64,
    /// The machine it is on.
    pub node: NodeId,
    /// Which life of that machine's daemon it belongs to.
    pub epoch: Epoch,
    /// The speaker.
    pub process: ProcessId,
}

/// The right to push tasks of one kind to one worker is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLease {
    /// Chosen by the owner, so that the answer, or its repetition, finds the request.
    pub lease: LeaseId,
    /// The job it is for, since nodes take turns between jobs.
    pub job: JobId,
    /// The function's stable name.
    pub function: String,
    /// What a running task holds, in ten-thousandths of the unit, ascending by name.
    pub resources: Vec<(String, u64)>,
    /// Where to run.
    pub strategy: Strategy,
    /// How many tasks of the kind wait at the owner.
    pub queued: u32,
}

/// Where tasks are to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// Fill up to half, then spread.
    Hybrid,
    /// On as many nodes as possible.
    Spread,
    /// On one node; `soft`: elsewhere if it is gone.
    Node {
        /// Which.
        node: NodeId,
        /// Whether another one will do.
        soft: bool,
    },
}

/// A worker is lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGranted {
    /// The request that is answered.
    pub lease: LeaseId,
    /// The worker.
    pub process: ProcessId,
    /// Where its socket listens.
    pub address: String,
    /// How many tasks it runs at once; more may be pushed and wait there.
    pub slots: u32,
}

/// One invocation of a remote function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which.
    pub task: TaskId,
    /// From 0; the answer repeats it (MSG-2).
    pub attempt: u32,
    /// The function's stable name.
    pub function: String,
    /// In the order of the signature.
    pub args: Vec<Arg>,
    /// How many references it returns.
    pub returns: u32,
    /// Milliseconds left when this was sent (MSG-4).
    pub deadline_ms: Option<u64>,
    /// The Distributed RPC request on whose behalf it runs.
    pub request: Option<RequestId>,
}

/// One invocation of an actor's method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorCall {
    /// The caller's count of its calls to this incarnation, from 0, without gaps.
    pub sequence: u64,
    /// What to run; `function` names the method.
    pub task: Task,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arg {
    /// A value that travels with the message, and the references inside it, which are lent.
    Inline {
        /// The value's bytes.
        span: Span,
        /// References that the value contains.
        lent: Vec<Lent>,
    },
    /// An object whose value the worker puts in the argument's place.
    Object(Lent),
}

/// A reference that another process may use while the call lasts, and borrow for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// To which object.
    pub object: ObjectId,
    /// Whom to ask for it, and to tell about borrows.
    pub owner: ProcessId,
}

/// A worker's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFinished {
    /// Which task.
    pub task: TaskId,
    /// Which attempt is answered (MSG-2).
    pub attempt: u32,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It returned; one payload per reference.
    Returned(Vec<Payload>),
    /// It failed.
    Failed(Failure),
    /// It heeded a `Cancel`, or was cancelled before it started.
    Cancelled,
    /// Its deadline passed before it started.
    Expired,
}

/// A value on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// It travels with the message.
    Inline {
        /// The value's bytes.
        span: Span,
        /// References that it contains; their owners are told by `Moved`, or they are lent.
        lent: Vec<Lent>,
    },
    /// It lies in the store of a node.
    Stored {
        /// Which node.
        node: NodeId,
        /// How large it is there.
        bytes: u64,
    },
}

/// Why a task has no value: the user's failure as data, not an error of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The function that failed, which may be one that this task depended on.
    pub function: String,
    /// The error's text and those of its sources, outermost first.
    pub chain: Vec<String>,
    /// Where a panic happened, as `file:line:column`.
    pub location: Option<String>,
    /// The backtrace, if one was taken.
    pub backtrace: Option<String>,
    /// A returned error as a value, if it can travel.
    pub value: Option<Span>,
}

/// Kinds of failure, since retries are decided by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The function returned an error.
    Returned,
    /// The function panicked.
    Panicked,
    /// An argument could not be had.
    Dependency,
    /// The worker did not understand the call.
    Refused,
}

/// A reference that goes over to a new owner, with what made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Which object.
    pub object: ObjectId,
    /// Who answers for it now.
    pub owner: ProcessId,
    /// Who borrows it at this moment.
    pub borrowers: Vec<ProcessId>,
    /// The task that can make it again.
    pub lineage: Option<Task>,
    /// Its value, if it is there already.
    pub value: Option<Payload>,
}

impl Message {
    /// The spans of the body that the message names, in the order in which they lie there.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        match self {
            Message::PushTasks { tasks, .. } => {
                for task in tasks {
                    task.spans(&mut spans);
                }
            }
            Message::PushCalls { calls, .. } => {
                for call in calls {
                    call.task.spans(&mut spans);
                }
            }
            Message::TaskFinished(TaskFinished { outcome, .. }) => match outcome {
                Outcome::Returned(payloads) => {
                    spans.extend(payloads.iter().filter_map(Payload::span));
                }
                Outcome::Failed(failure) => spans.extend(failure.value),
                Outcome::Cancelled | Outcome::Expired => {}
            },
            Message::Yielded { value, .. } => spans.extend(value.span()),
            Message::Fetched { value: Ok(value), .. } => spans.extend(value.span()),
            Message::Fetched { value: Err(failure), .. } => spans.extend(failure.value),
            Message::Moved(moved) => {
                if let Some(lineage) = &moved.lineage {
                    lineage.spans(&mut spans);
                }
                spans.extend(moved.value.as_ref().and_then(Payload::span));
            }
            Message::Hello(_)
            | Message::RequestLease(_)
            | Message::LeaseGranted(_)
            | Message::LeaseRefused { .. }
            | Message::LeaseReturned { .. }
            | Message::Blocked { .. }
            | Message::Unblocked { .. }
            | Message::Cancel { .. }
            | Message::RefBorrowed { .. }
            | Message::RefReleased { .. }
            | Message::Fetch { .. }
            | Message::WorkerLost { .. } => {}
        }
        spans
    }
}

impl Task {
    fn spans(&self, spans: &mut Vec<Span>) {
        for arg in &self.args {
            if let Arg::Inline { span, .. } = arg {
                spans.push(*span);
            }
        }
    }
}

impl Payload {
    fn span(&self) -> Option<Span> {
        match self {
            Payload::Inline { span, .. } => Some(*span),
            Payload::Stored { .. } => None,
        }
    }
}
