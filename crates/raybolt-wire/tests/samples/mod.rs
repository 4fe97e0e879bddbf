//! One message of each kind, with its body, and with every optional part present somewhere.

use raybolt_wire::work::*;

/// A message as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    ToWorker(ToWorker),
    ToDriver(ToDriver),
}

/// A message with a name for it, and its body.
pub type Sample = (&'static str, Message, &'static [u8]);

const CODE: Code = Code { shell: Offset(0x1234), body: Offset(7), declared: Offset(0x9_8765) };

/// All samples, in the order of the variants: first those to a worker.
pub fn all() -> Vec<Sample> {
    let to_worker = to_worker().into_iter();
    let to_driver = to_driver().into_iter();
    to_worker
        .map(|(name, message, body)| (name, Message::ToWorker(message), body))
        .chain(to_driver.map(|(name, message, body)| (name, Message::ToDriver(message), body)))
        .collect()
}

const METHOD: MethodCode = MethodCode {
    shell: Offset(0x1234),
    body: Offset(7),
    kind: 1,
    group: 2,
    name: Offset(0x9_8765),
    name_bytes: 4,
};

fn to_worker() -> Vec<(&'static str, ToWorker, &'static [u8])> {
    let run = Run {
        task: 1 << 32 | 5,
        attempt: 2,
        lease: 9,
        code: CODE,
        deadline_us: Some(2_000_000),
        name: Some("sum".into()),
    };
    let host = Host {
        actor: 3,
        incarnation: 1,
        code: CODE,
        name: "Counter".into(),
        limits: vec![1, 4],
        pending_max: 1000,
        lease: Some(9),
    };
    let call = Call {
        actor: 3,
        incarnation: 1,
        number: 70,
        task: 6,
        caller: 4,
        method: METHOD,
        deadline_us: None,
        name: None,
    };
    vec![
        ("run", ToWorker::Run(run), b"arguments"),
        ("value", ToWorker::Value { object: 300, outcome: Outcome::Failed }, b"error"),
        ("end", ToWorker::End, b""),
        ("cancel", ToWorker::Cancel { task: 5 }, b""),
        ("room", ToWorker::Room { task: 5, attempt: 0, until: Some(16) }, b""),
        ("item", ToWorker::Item { stream: 1 << 63 | 2 << 40 | 3, index: 4, object: 301 }, b"value"),
        ("host", ToWorker::Host(host), b"arguments"),
        ("call", ToWorker::Call(call), b"arguments"),
        ("stop_call", ToWorker::StopCall { actor: 3, incarnation: 1, task: 6 }, b""),
        (
            "end_actor",
            ToWorker::EndActor { actor: 3, incarnation: 1, because: Some("killed".into()) },
            b"",
        ),
        ("arena", ToWorker::Arena { path: "/proc/7/fd/9".into(), bytes: 1 << 30 }, b""),
        (
            "slab",
            ToWorker::Slab {
                request: 1 << 63 | 2 << 40 | 4,
                granted: Ok(SlabGranted { slab: 6, offset: 4_096, bytes: 8 << 20 }),
            },
            b"",
        ),
        (
            "lend",
            ToWorker::Lend {
                refs: vec![300, 300],
                pins: vec![Pinned { key: 300, offset: 64, bytes: 5 }],
            },
            b"",
        ),
        ("judge", ToWorker::Judge { object: 1 << 63 | 2 << 40 | 1, attempt: 1 }, b"error"),
        ("judge_no_more", ToWorker::JudgeNoMore { object: 1 << 63 | 2 << 40 | 1 }, b""),
        (
            "circle",
            ToWorker::Circle { wait: 1 << 63 | 2 << 40 | 9, members: vec!["task-5 `f`".into()] },
            b"",
        ),
    ]
}

fn to_driver() -> Vec<(&'static str, ToDriver, &'static [u8])> {
    let submit = Submit {
        code: CODE,
        function: "square".into(),
        name: None,
        demand: vec![("CPU".into(), 10_000), ("GPU".into(), 2_500)],
        max_retries: 3,
        deadline_us: Some((1_500, 2_000)),
        returns: vec![1 << 63 | 2 << 40 | 1],
        refs: vec![300, 301],
        group: Some(InGroup { epoch: 1, group: 8, name: "pair".into(), bundle: Some(1) }),
        stream: Some(16),
        judged: true,
    };
    let refs = vec![300];
    vec![
        (
            "finished",
            ToDriver::Finished {
                task: 5,
                attempt: 2,
                outcome: Outcome::Returned,
                refs: refs.clone(),
            },
            b"value",
        ),
        ("blocked", ToDriver::Blocked { lease: 9 }, b""),
        ("unblocked", ToDriver::Unblocked { lease: 9 }, b""),
        ("submit", ToDriver::Submit(submit), b"arguments"),
        ("put", ToDriver::Put { object: 1 << 63 | 2 << 40 | 2, refs: refs.clone() }, b"value"),
        ("fetch", ToDriver::Fetch { object: 300 }, b""),
        ("released", ToDriver::Released { object: 300 }, b""),
        ("cancel_object", ToDriver::CancelObject { object: 300 }, b""),
        (
            "yielded",
            ToDriver::Yielded {
                task: 5,
                attempt: 0,
                index: 128,
                refs: refs.clone(),
                actor: Some(3),
            },
            b"value",
        ),
        ("taken", ToDriver::Taken { stream: 1 << 63 | 2 << 40 | 3, until: 20 }, b""),
        ("stalled", ToDriver::Stalled { task: 5, attempt: 0, index: 129, actor: None }, b""),
        (
            "called",
            ToDriver::Called {
                actor: 3,
                incarnation: 1,
                number: 70,
                outcome: Outcome::Returned,
                refs,
            },
            b"value",
        ),
        (
            "actor_ended",
            ToDriver::ActorEnded { actor: 3, incarnation: 1, because: "killed".into() },
            b"error",
        ),
        (
            "slab_wanted",
            ToDriver::SlabWanted { request: 1 << 63 | 2 << 40 | 4, bytes: 8 << 20 },
            b"",
        ),
        ("slab_returned", ToDriver::SlabReturned { slab: 6 }, b""),
        ("unpinned", ToDriver::Unpinned { key: 12 }, b""),
        ("ask", ToDriver::Ask { object: 1 << 63 | 2 << 40 | 5, code: Offset(77) }, b"work"),
        (
            "create_actor",
            ToDriver::CreateActor(CreateActor {
                code: CODE,
                class: "Counter".into(),
                kind: 5,
                name: Some("main".into()),
                exists: true,
                detached: false,
                demand: vec![("CPU".into(), 10_000)],
                limits: vec![1],
                pending_max: 1000,
                restarts: 2,
                call_retries: 1,
                refs: vec![300],
                answer: 1 << 63 | 2 << 40 | 6,
                group: Some(InGroup { epoch: 1, group: 8, name: "pair".into(), bundle: None }),
            }),
            b"arguments",
        ),
        (
            "find_actor",
            ToDriver::FindActor {
                name: "main".into(),
                class: "Counter".into(),
                kind: 5,
                answer: 1 << 63 | 2 << 40 | 7,
            },
            b"",
        ),
        (
            "call_actor",
            ToDriver::CallActor(CallActor {
                actor: 303,
                caller: 1 << 40 | 4,
                method: METHOD,
                name: None,
                deadline_us: Some((1_500, 2_000)),
                returns: vec![1 << 63 | 2 << 40 | 8],
                refs: vec![300],
                stream: Some(16),
            }),
            b"arguments",
        ),
        ("kill_actor", ToDriver::KillActor { actor: 303 }, b""),
        (
            "judged",
            ToDriver::Judged { object: 1 << 63 | 2 << 40 | 1, attempt: 1, again: true },
            b"",
        ),
        ("kill_task", ToDriver::KillTask { object: 300 }, b""),
        ("expect", ToDriver::Expect { objects: vec![300, 301] }, b""),
        (
            "waits",
            ToDriver::Waits { task: 5, wait: 1 << 63 | 2 << 40 | 9, object: 300, actor: Some(3) },
            b"",
        ),
        ("waits_no_more", ToDriver::WaitsNoMore { task: 5, wait: 1 << 63 | 2 << 40 | 9 }, b""),
    ]
}

impl Message {
    /// The content of its frame.
    pub fn content(&self, body: &[u8]) -> Vec<u8> {
        let mut stream = Vec::new();
        let body = |out: &mut Vec<u8>| {
            out.extend_from_slice(body);
            Ok::<(), std::convert::Infallible>(())
        };
        let written = match self {
            Message::ToWorker(message) => append(&mut stream, message, usize::MAX, body),
            Message::ToDriver(message) => append(&mut stream, message, usize::MAX, body),
        };
        written.unwrap();
        stream.split_off(raybolt_wire::frame::LENGTH_BYTES)
    }

    /// The message of the same direction in this content, and its body.
    pub fn read_back<'a>(&self, content: &'a [u8]) -> Option<(Message, &'a [u8])> {
        match self {
            Message::ToWorker(_) => {
                read(content).ok().map(|(message, body)| (Message::ToWorker(message), body))
            }
            Message::ToDriver(_) => {
                read(content).ok().map(|(message, body)| (Message::ToDriver(message), body))
            }
        }
    }
}
