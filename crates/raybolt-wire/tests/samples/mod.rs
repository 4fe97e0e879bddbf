//! One envelope of each kind, with every optional part present somewhere.

use raybolt_core::ids::{
    ActorId, Epoch, JobId, LeaseId, NodeId, ObjectId, ProcessId, RequestId, TaskId,
};
use raybolt_wire::Envelope;
use raybolt_wire::envelope::BodyBuilder;
use raybolt_wire::message::*;

const WORKER: ProcessId = ProcessId(3);
const OWNER: ProcessId = ProcessId(1);
const LENT: Lent = Lent { object: ObjectId(300), owner: OWNER };

/// All samples with their names.
pub fn all() -> Vec<(&'static str, Envelope)> {
    let mut samples = control();
    samples.extend(with_values());
    samples
}

fn control() -> Vec<(&'static str, Envelope)> {
    let hello = Hello {
        protocol: 1,
        features: 5,
        session: 0x0123_4567_89ab_cdef,
        node: NodeId(7),
        epoch: Epoch(2),
        process: WORKER,
    };
    let request = RequestLease {
        lease: LeaseId(9),
        job: JobId(4),
        function: "square".into(),
        resources: vec![("cpu".into(), 10_000), ("gpu".into(), 2_500)],
        strategy: Strategy::Node { node: NodeId(7), soft: true },
        queued: 1000,
    };
    let granted =
        LeaseGranted { lease: LeaseId(9), process: WORKER, address: "/run/w3".into(), slots: 2 };
    let refused = Message::LeaseRefused {
        lease: LeaseId(9),
        cause: "no gpu".into(),
        try_node: Some(NodeId(8)),
    };
    let object = ObjectId(300);
    vec![
        ("hello", Envelope::new(Message::Hello(hello))),
        ("request_lease", Envelope::new(Message::RequestLease(request))),
        ("lease_granted", Envelope::new(Message::LeaseGranted(granted))),
        ("lease_refused", Envelope::new(refused)),
        ("lease_returned", Envelope::new(Message::LeaseReturned { lease: LeaseId(9) })),
        ("blocked", Envelope::new(Message::Blocked { lease: LeaseId(9) })),
        ("unblocked", Envelope::new(Message::Unblocked { lease: LeaseId(9) })),
        ("cancel", Envelope::new(Message::Cancel { task: TaskId(17), force: true })),
        ("ref_borrowed", Envelope::new(Message::RefBorrowed { object, borrower: WORKER })),
        ("ref_released", Envelope::new(Message::RefReleased { object, borrower: WORKER })),
        ("fetch", Envelope::new(Message::Fetch { object })),
        (
            "worker_lost",
            Envelope::new(Message::WorkerLost { process: WORKER, cause: "signal 9".into() }),
        ),
    ]
}

fn with_values() -> Vec<(&'static str, Envelope)> {
    let lease = LeaseId(9);
    let object = ObjectId(300);
    vec![
        (
            "push_tasks",
            envelope(|body| Message::PushTasks {
                lease,
                tasks: vec![task(body), Task { deadline_ms: None, request: None, ..task(body) }],
            }),
        ),
        (
            "push_calls",
            envelope(|body| Message::PushCalls {
                actor: ActorId(6),
                epoch: Epoch(1),
                calls: vec![ActorCall { sequence: 12, task: task(body) }],
            }),
        ),
        ("task_returned", finished(|body| Outcome::Returned(vec![inline(body), stored()]))),
        ("task_failed", finished(|body| Outcome::Failed(failure(body)))),
        ("task_cancelled", finished(|_| Outcome::Cancelled)),
        ("task_expired", finished(|_| Outcome::Expired)),
        (
            "yielded",
            envelope(|body| Message::Yielded {
                task: TaskId(17),
                attempt: 1,
                index: 5,
                value: inline(body),
            }),
        ),
        ("fetched", envelope(|body| Message::Fetched { object, value: Ok(inline(body)) })),
        ("fetch_failed", envelope(|body| Message::Fetched { object, value: Err(failure(body)) })),
        (
            "moved",
            envelope(|body| {
                Message::Moved(Moved {
                    object,
                    owner: OWNER,
                    borrowers: vec![WORKER],
                    lineage: Some(task(body)),
                    value: Some(inline(body)),
                })
            }),
        ),
    ]
}

fn envelope(message: impl FnOnce(&mut BodyBuilder) -> Message) -> Envelope {
    let mut body = BodyBuilder::default();
    let message = message(&mut body);
    Envelope { message, body: body.finish() }
}

fn finished(outcome: impl FnOnce(&mut BodyBuilder) -> Outcome) -> Envelope {
    envelope(|body| {
        Message::TaskFinished(TaskFinished { task: TaskId(17), attempt: 1, outcome: outcome(body) })
    })
}

fn task(body: &mut BodyBuilder) -> Task {
    let span = body.push(b"arg").unwrap();
    Task {
        task: TaskId(17),
        attempt: 1,
        function: "square".into(),
        args: vec![Arg::Inline { span, lent: vec![LENT] }, Arg::Object(LENT)],
        returns: 1,
        deadline_ms: Some(5000),
        request: Some(RequestId(77)),
    }
}

fn inline(body: &mut BodyBuilder) -> Payload {
    Payload::Inline { span: body.push(b"value").unwrap(), lent: vec![LENT] }
}

fn stored() -> Payload {
    Payload::Stored { node: NodeId(7), bytes: 1 << 20 }
}

fn failure(body: &mut BodyBuilder) -> Failure {
    Failure {
        kind: FailureKind::Panicked,
        function: "square".into(),
        chain: vec!["too large".into(), "limit is 9".into()],
        location: Some("a.rs:1:2".into()),
        backtrace: Some("0: square".into()),
        value: Some(body.push(b"error").unwrap()),
    }
}
