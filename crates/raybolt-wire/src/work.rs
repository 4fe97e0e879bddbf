//! What a driver and its workers say to each other.
//!
//! # Protocol
//! A link begins with its handshake; then each side sends frames whose content is a message in
//! postcard's format, followed by its body: raw bytes whose meaning the message tells (encoded
//! arguments, a value, an error).
//!
//! ```text
//! driver                                    worker
//!   | Run(task, lease, code) [arguments] --->  |
//!   | <--- Finished(task, outcome) [value]      |
//!   | <--- Blocked(lease), Unblocked(lease)     |  a task waits: its CPU is free meanwhile
//!   | <--- Submit(ids), Put(id), Fetch(id)       |  a task calls others
//!   | Value(id) [value] -------------------->  |
//!   | <--- Released(id)                         |
//!   | Host(actor, incarnation) [arguments] -->  |
//!   | Call(actor, number) [arguments] ------->  |
//!   | <--- Called(number, outcome) [value]      |
//!   | EndActor(actor) ----------------------->  |
//!   | <--- ActorEnded(actor) [error]            |
//! ```
//!
//! # Invariants
//! - **WORK-1 (numbered attempts).** An answer carries the attempt it belongs to, so that one of an
//!   attempt that was given up is not taken for that of a later one.
//! - **WORK-2 (same file).** Code is named by its offset in the executable that both sides run.
//! - **WORK-3 (time that is left).** A deadline travels as the time left.
//! - **WORK-4 (fenced).** Whatever is said of an actor names its incarnation, so that one that was given
//!   up is not taken for its successor.
//! - **WORK-5 (append only).** Variants are added at the end; the bytes of those that exist are kept by
//!   `tests/golden.rs`.

use serde::{Deserialize, Serialize};

use crate::frame::{self, TooLong};

/// A place in the executable, as an offset from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u32);

/// What a worker is to run: code that decodes, calls and answers, and what it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// The typed shell: decodes the arguments, calls, encodes the result.
    pub shell: Offset,
    /// The user's function, as the shell wants it.
    pub body: Offset,
    /// How the function is declared: its name and kind.
    pub declared: Offset,
}

/// What a driver says to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Run a task; its arguments are the body.
    Run(Run),
    /// An object that the worker asked for; its value or its error is the body.
    Value {
        /// Which, by the id that the worker used.
        object: u64,
        /// What the body holds.
        outcome: Outcome,
    },
    /// The session ends: end too, when what has begun has ended.
    End,
    /// Nobody wants this task any more: it need not begin, and may stop if it has.
    Cancel {
        /// Which task.
        task: u64,
    },
    /// How many items a generator may send.
    Room {
        /// Whose.
        task: u64,
        /// Which attempt (WORK-1).
        attempt: u32,
        /// The number of the first item that there is no room for; without it nobody wants any.
        until: Option<u64>,
    },
    /// An item of a stream that the worker reads; its value is the body. The end comes as `Value`.
    Item {
        /// The stream, by the id that the worker chose.
        stream: u64,
        /// Its number, from 0.
        index: u64,
        /// The item's own id.
        object: u64,
    },
    /// Begin an actor; the arguments of its constructor are the body.
    Host(Host),
    /// Call an actor that lives there; the arguments are the body.
    Call(Call),
    /// A call that has not begun never shall; one that runs is asked to stop.
    StopCall {
        /// Which actor.
        actor: u64,
        /// Which incarnation of it (WORK-4).
        incarnation: u32,
        /// The call's task.
        task: u64,
    },
    /// An actor shall end.
    EndActor {
        /// Which actor.
        actor: u64,
        /// Which incarnation of it (WORK-4).
        incarnation: u32,
        /// Why it is killed; without a reason it ends after the calls it has.
        because: Option<String>,
    },
    /// Where the store lies; said before anything else.
    Arena {
        /// What to open.
        path: String,
        /// How large it is.
        bytes: u64,
    },
    /// The answer to `SlabWanted`.
    Slab {
        /// Which request.
        request: u64,
        /// The slab, or why there is none.
        granted: Result<SlabGranted, String>,
    },
    /// What the body of the next message refers to. The worker has borrowed it as often as it stands here,
    /// whether it looks at the body or not, and says `Released` and `Unpinned` as often.
    Lend {
        /// Which objects.
        refs: Vec<u64>,
        /// Which values in the store, each as often as it is pinned for the worker.
        pins: Vec<Pinned>,
    },
    /// A task that the worker has submitted failed with the error in the body: is that worth another attempt?
    /// The answer is `Judged`.
    Judge {
        /// The task, by the first object that it returns.
        object: u64,
        /// Which attempt failed (WORK-1).
        attempt: u32,
    },
    /// The failures of a task need not be judged any more.
    JudgeNoMore {
        /// The task, by the first object that it returns.
        object: u64,
    },
    /// A wait of which the worker told is one in a circle: none of those who wait there could go on.
    Circle {
        /// Which wait.
        wait: u64,
        /// Who waits for whom, in words; the last one waits for the first.
        members: Vec<String>,
    },
}

/// A value in the store that is pinned for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// Which.
    pub key: u64,
    /// Where in the arena it lies.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// An actor as its worker gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Which actor, as its owner numbers it.
    pub actor: u64,
    /// Which of its lives (WORK-4).
    pub incarnation: u32,
    /// What makes it.
    pub code: Code,
    /// Its name for messages.
    pub name: String,
    /// How many calls of each concurrency group may run at once.
    pub limits: Vec<u64>,
    /// How many calls may wait.
    pub pending_max: u64,
    /// The lease that it holds as long as it lives.
    pub lease: Option<u64>,
}

/// A call of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which actor.
    pub actor: u64,
    /// Which incarnation of it (WORK-4).
    pub incarnation: u32,
    /// The answer repeats it.
    pub number: u64,
    /// Its task, as its owner numbers it.
    pub task: u64,
    /// Who calls, as far as order goes.
    pub caller: u64,
    /// What to run.
    pub method: MethodCode,
    /// Microseconds left when this was sent (WORK-3).
    pub deadline_us: Option<u64>,
    /// The call's own name, if it has one.
    pub name: Option<String>,
}

/// A method of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodCode {
    /// The typed shell: decodes the arguments, calls, encodes the result.
    pub shell: Offset,
    /// The user's method, as the shell wants it.
    pub body: Offset,
    /// Which kind of method that is.
    pub kind: u8,
    /// Its concurrency group.
    pub group: u16,
    /// Where its name stands.
    pub name: Offset,
    /// How long its name is.
    pub name_bytes: u16,
}

/// Room in the store that a worker may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabGranted {
    /// Its name.
    pub slab: u64,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// One attempt of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which task, as its owner numbers it.
    pub task: u64,
    /// From 0; the answer repeats it (WORK-1).
    pub attempt: u32,
    /// Tasks under one lease run one after the other.
    pub lease: u64,
    /// What to run.
    pub code: Code,
    /// Microseconds left when this was sent (WORK-3).
    pub deadline_us: Option<u64>,
    /// The task's own name, if it has one.
    pub name: Option<String>,
}

/// An actor that a worker makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateActor {
    /// What makes it.
    pub code: Code,
    /// The name of its class.
    pub class: String,
    /// The number of its type.
    pub kind: u64,
    /// Its own name.
    pub name: Option<String>,
    /// The actor that has that name already will do.
    pub exists: bool,
    /// Whether it lives on without handles.
    pub detached: bool,
    /// What it needs, by name, in ten-thousandths.
    pub demand: Vec<(String, i64)>,
    /// How many calls of each concurrency group may run at once.
    pub limits: Vec<u64>,
    /// How many calls may wait.
    pub pending_max: u64,
    /// How often it begins anew.
    pub restarts: u32,
    /// How often a lost call is sent again.
    pub call_retries: u32,
    /// The objects that its arguments refer to.
    pub refs: Vec<u64>,
    /// The id that the worker chose for the object in which it expects the handle.
    pub answer: u64,
    /// The placement group that it lives in.
    pub group: Option<InGroup>,
}

/// A call that a worker makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallActor {
    /// Which actor, by the object that stands for its life.
    pub actor: u64,
    /// Who calls, as far as order goes.
    pub caller: u64,
    /// What to run.
    pub method: MethodCode,
    /// The call's own name, if it has one.
    pub name: Option<String>,
    /// Microseconds left (WORK-3), and how many there were.
    pub deadline_us: Option<(u64, u64)>,
    /// The ids that the worker chose for what it returns.
    pub returns: Vec<u64>,
    /// The objects that its arguments refer to.
    pub refs: Vec<u64>,
    /// If it is a generator: the number of the first item that there is no room for at first.
    pub stream: Option<u64>,
}

/// What a worker says to its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDriver {
    /// A task has ended; its values, or its error, are the body.
    Finished {
        /// Which task.
        task: u64,
        /// Which attempt (WORK-1).
        attempt: u32,
        /// How.
        outcome: Outcome,
        /// The objects that its values refer to.
        refs: Vec<u64>,
    },
    /// The task that runs under a lease waits; its CPU is free until it goes on.
    Blocked {
        /// Which lease.
        lease: u64,
    },
    /// It goes on.
    Unblocked {
        /// Which lease.
        lease: u64,
    },
    /// A task calls another one; its arguments are the body. What it returns is sent as `Value`.
    Submit(Submit),
    /// A value is stored; it is the body.
    Put {
        /// The id that the worker chose for it.
        object: u64,
        /// The objects that it refers to.
        refs: Vec<u64>,
    },
    /// The worker waits for an object.
    Fetch {
        /// Which.
        object: u64,
    },
    /// The worker has let go of a reference.
    Released {
        /// To which object.
        object: u64,
    },
    /// The worker has lost interest in the task that makes an object.
    CancelObject {
        /// Which.
        object: u64,
    },
    /// A generator has made an item; its value is the body.
    Yielded {
        /// Whose.
        task: u64,
        /// If it is a call: of which actor.
        actor: Option<u64>,
        /// Which attempt (WORK-1); of a call, which incarnation of the actor (WORK-4).
        attempt: u32,
        /// Its number, from 0.
        index: u64,
        /// The objects that it refers to.
        refs: Vec<u64>,
    },
    /// The worker has room for more items of a stream that it reads.
    Taken {
        /// Which, by the id that the worker chose.
        stream: u64,
        /// The number of the first item that there is no room for.
        until: u64,
    },
    /// A generator waits until there is room for its next item.
    Stalled {
        /// Whose.
        task: u64,
        /// If it is a call: of which actor.
        actor: Option<u64>,
        /// Which attempt (WORK-1); of a call, which incarnation of the actor (WORK-4).
        attempt: u32,
        /// The item's number.
        index: u64,
    },
    /// A call of an actor has ended; its values, or its error, are the body.
    Called {
        /// Which actor.
        actor: u64,
        /// Which incarnation of it (WORK-4).
        incarnation: u32,
        /// Which call.
        number: u64,
        /// How.
        outcome: Outcome,
        /// The objects that its values refer to.
        refs: Vec<u64>,
    },
    /// An actor has ended. The error that it ended with, if there is one, is the body.
    ActorEnded {
        /// Which actor.
        actor: u64,
        /// Which incarnation of it (WORK-4).
        incarnation: u32,
        /// Why.
        because: String,
    },
    /// The worker has something to write.
    SlabWanted {
        /// Names the request.
        request: u64,
        /// How long.
        bytes: u64,
    },
    /// The worker writes no more there, and what it wrote is on its way.
    SlabReturned {
        /// Which slab.
        slab: u64,
    },
    /// Nobody in the worker reads a stored value any more.
    Unpinned {
        /// Which.
        key: u64,
    },
    /// Something has to be done where the driver is; what it works on is the body. The answer is a `Value`.
    Ask {
        /// The id that the worker chose for the answer.
        object: u64,
        /// What is to be done.
        code: Offset,
    },
    /// A task makes an actor; the arguments of its constructor are the body.
    CreateActor(CreateActor),
    /// A task looks for an actor by its name.
    FindActor {
        /// Its name.
        name: String,
        /// The class that it should be of.
        class: String,
        /// The number of that type.
        kind: u64,
        /// The id that the worker chose for the object in which it expects the handle.
        answer: u64,
    },
    /// A task calls an actor; the arguments are the body. What it returns is sent as `Value`.
    CallActor(CallActor),
    /// A task ends an actor.
    KillActor {
        /// Which, by the object that stands for its life.
        actor: u64,
    },
    /// Whether a failure is worth another attempt.
    Judged {
        /// Of which task, by the first object that it returns.
        object: u64,
        /// Which attempt failed (WORK-1).
        attempt: u32,
        /// Whether it is.
        again: bool,
    },
    /// As `CancelObject`, but what makes the object is stopped whatever it does.
    KillTask {
        /// Which object.
        object: u64,
    },
    /// The worker will wait for these objects soon: those that are there and small are sent.
    Expect {
        /// Which.
        objects: Vec<u64>,
    },
    /// A task waits for an object, for as long as it takes.
    Waits {
        /// Which task or call.
        task: u64,
        /// A number for this wait, which the worker chose.
        wait: u64,
        /// What it waits for.
        object: u64,
        /// The actor that begins no other call meanwhile.
        actor: Option<u64>,
    },
    /// That is over.
    WaitsNoMore {
        /// Which task or call.
        task: u64,
        /// Which wait of it.
        wait: u64,
    },
}

/// A placement group of the driver's, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InGroup {
    /// Which session of the driver it belongs to.
    pub epoch: u32,
    /// Which group, as the driver numbers them.
    pub group: u64,
    /// Its name, for messages.
    pub name: String,
    /// Which bundle, or any.
    pub bundle: Option<u32>,
}

/// A task that a worker submits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// What to run.
    pub code: Code,
    /// The function's name.
    pub function: String,
    /// The task's own name, if it has one.
    pub name: Option<String>,
    /// What it needs, by name, in ten-thousandths.
    pub demand: Vec<(String, i64)>,
    /// The placement group that it runs in.
    pub group: Option<InGroup>,
    /// How often it may be run again if its worker dies.
    pub max_retries: u32,
    /// Microseconds left (WORK-3), and how many there were.
    pub deadline_us: Option<(u64, u64)>,
    /// The ids that the worker chose for what it returns.
    pub returns: Vec<u64>,
    /// The objects that its arguments refer to.
    pub refs: Vec<u64>,
    /// If it is a generator: the number of the first item that there is no room for at first.
    pub stream: Option<u64>,
    /// Whether the worker is asked (`Judge`) what its failures are worth.
    pub judged: bool,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The body holds what it returned.
    Returned,
    /// The body holds the error.
    Failed,
}

/// Why a frame was not appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAppended<E> {
    /// The body could not be made.
    Body(E),
    /// The frame would be too long.
    TooLong(TooLong),
}

/// Appends one frame to `stream`: `message`, then the body that `body` appends. If `body` fails, or
/// the frame is longer than `max_bytes`, the stream is as it was.
///
/// # Errors
/// Says which of the two it was.
pub fn append<E>(
    stream: &mut Vec<u8>,
    message: &impl Serialize,
    max_bytes: usize,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), NotAppended<E>> {
    let start = stream.len();
    stream.extend_from_slice(&[0; frame::LENGTH_BYTES]);
    crate::value::append(message, stream)
        .expect("messages have no parts that refuse to be written");
    if let Err(error) = body(stream) {
        stream.truncate(start);
        return Err(NotAppended::Body(error));
    }
    let bytes = stream.len() - start - frame::LENGTH_BYTES;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= max_bytes => {
            stream[start..start + frame::LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        _ => {
            stream.truncate(start);
            Err(NotAppended::TooLong(TooLong { bytes, max_bytes }))
        }
    }
}

/// Reads the content of a frame: the message, and its body.
///
/// # Errors
/// When the bytes do not begin with such a message.
pub fn read<'a, M: Deserialize<'a>>(content: &'a [u8]) -> Result<(M, &'a [u8]), postcard::Error> {
    postcard::take_from_bytes(content)
}
