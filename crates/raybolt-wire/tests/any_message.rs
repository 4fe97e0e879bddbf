//! Properties of messages: any round-trips, any bytes are an envelope or an error.

mod samples;

use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use raybolt_core::ids::{ActorId, Epoch, LeaseId, NodeId, ObjectId, ProcessId, RequestId, TaskId};
use raybolt_wire::Envelope;
use raybolt_wire::envelope::BodyBuilder;
use raybolt_wire::frame::{self, Decoder};
use raybolt_wire::message::{
    ActorCall, Arg, Hello, Lent, Message, Outcome, Payload, Task, TaskFinished,
};

fn process() -> impl Strategy<Value = ProcessId> {
    any::<u64>().prop_map(ProcessId)
}

fn lent() -> impl Strategy<Value = Vec<Lent>> {
    let one = (any::<u64>(), process())
        .prop_map(|(object, owner)| Lent { object: ObjectId(object), owner });
    proptest::collection::vec(one, 0..3)
}

/// An argument or result before its bytes have found their place in a body.
type Loose = (Option<Vec<u8>>, Vec<Lent>, u64);

fn loose() -> impl Strategy<Value = Loose> {
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
    (value, lent(), any::<u64>())
}

fn arg(body: &mut BodyBuilder, (value, lent, object): Loose) -> Arg {
    match value {
        Some(value) => Arg::Inline { span: body.push(&value).unwrap(), lent },
        None => Arg::Object(Lent { object: ObjectId(object), owner: ProcessId(1) }),
    }
}

fn payload(body: &mut BodyBuilder, (value, lent, bytes): Loose) -> Payload {
    match value {
        Some(value) => Payload::Inline { span: body.push(&value).unwrap(), lent },
        None => Payload::Stored { node: NodeId(1), bytes },
    }
}

type LooseTask = (u64, u32, String, Vec<Loose>, Option<u64>);

fn loose_task() -> impl Strategy<Value = LooseTask> {
    let args = proptest::collection::vec(loose(), 0..4);
    (any::<u64>(), any::<u32>(), any::<String>(), args, any::<Option<u64>>())
}

fn task(body: &mut BodyBuilder, (task, attempt, function, args, number): LooseTask) -> Task {
    Task {
        task: TaskId(task),
        attempt,
        function,
        args: args.into_iter().map(|loose| arg(body, loose)).collect(),
        returns: attempt % 5,
        deadline_ms: number,
        request: number.map(RequestId),
    }
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let tasks = proptest::collection::vec(loose_task(), 0..4);
    let payloads = proptest::collection::vec(loose(), 0..4);
    (0..6_u8, tasks, payloads, any::<(u64, u32, bool)>(), process(), any::<String>()).prop_map(
        |(kind, tasks, payloads, (id, number, flag), process, text)| {
            let mut body = BodyBuilder::default();
            let message = match kind {
                0 => Message::PushTasks {
                    lease: LeaseId(id),
                    tasks: tasks.into_iter().map(|loose| task(&mut body, loose)).collect(),
                },
                1 => Message::PushCalls {
                    actor: ActorId(id),
                    epoch: Epoch(number),
                    calls: tasks
                        .into_iter()
                        .map(|loose| ActorCall { sequence: id, task: task(&mut body, loose) })
                        .collect(),
                },
                2 => Message::TaskFinished(TaskFinished {
                    task: TaskId(id),
                    attempt: number,
                    outcome: Outcome::Returned(
                        payloads.into_iter().map(|loose| payload(&mut body, loose)).collect(),
                    ),
                }),
                3 => Message::Hello(Hello {
                    protocol: number,
                    features: id,
                    session: id,
                    node: NodeId(number),
                    epoch: Epoch(number),
                    process,
                }),
                4 => Message::Cancel { task: TaskId(id), force: flag },
                _ => Message::WorkerLost { process, cause: text },
            };
            Envelope { message, body: body.finish() }
        },
    )
}

proptest! {
    #[test]
    fn any_message_round_trips_through_a_stream(
        envelopes in proptest::collection::vec(envelope(), 1..4),
        chunk_bytes in 1..100_usize,
    ) {
        let mut stream = Vec::new();
        for envelope in &envelopes {
            envelope.append(&mut stream, frame::DEFAULT_MAX_BYTES).unwrap();
        }
        let mut decoder = Decoder::new(frame::DEFAULT_MAX_BYTES);
        let mut back = Vec::new();
        for chunk in stream.chunks(chunk_bytes) {
            decoder.push(chunk);
            while let Some(content) = decoder.next_frame().unwrap() {
                back.push(Envelope::decode(content).unwrap());
            }
        }
        prop_assert_eq!(back, envelopes);
    }

    #[test]
    fn any_bytes_are_an_envelope_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = Envelope::decode(Bytes::from(bytes));
    }

    #[test]
    fn a_damaged_message_is_another_or_an_error(
        sample in 0..22_usize,
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let samples = samples::all();
        let mut bytes = samples[sample % samples.len()].1.encode();
        for (place, byte) in damage {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        if let Ok(envelope) = Envelope::decode(Bytes::from(bytes)) {
            // What was understood can be said again, and every value it names is there (ENV-1).
            for span in envelope.message.spans() {
                prop_assert_eq!(envelope.value(span).len(), span.bytes as usize);
            }
            prop_assert_eq!(&Envelope::decode(envelope.encode().into()), &Ok(envelope));
        }
    }
}
