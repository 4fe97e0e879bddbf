//! Properties of messages: any travels through a stream, any bytes are a message or an error.

mod samples;

use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use raybolt_wire::frame::{self, Decoder};
use raybolt_wire::work::{Code, Offset, Outcome, Run, Submit, ToDriver, ToWorker};
use samples::Message;

fn code() -> impl Strategy<Value = Code> {
    any::<(u32, u32, u32)>().prop_map(|(shell, body, declared)| Code {
        shell: Offset(shell),
        body: Offset(body),
        declared: Offset(declared),
    })
}

fn message() -> impl Strategy<Value = Message> {
    let ids = proptest::collection::vec(any::<u64>(), 0..4);
    let parts = (any::<(u64, u32, u64)>(), code(), any::<Option<u64>>(), any::<Option<String>>());
    let demand = proptest::collection::vec(any::<(String, i64)>(), 0..3);
    (0..5_u8, parts, ids, demand).prop_map(|(kind, parts, refs, demand)| {
        let ((task, attempt, lease), code, deadline_us, name) = parts;
        let outcome = if attempt % 2 == 0 { Outcome::Returned } else { Outcome::Failed };
        match kind {
            0 => {
                let run = Run { task, attempt, lease, code, deadline_us, name };
                Message::ToWorker(ToWorker::Run(run))
            }
            1 => Message::ToDriver(ToDriver::Finished { task, attempt, outcome, refs }),
            2 => Message::ToWorker(ToWorker::Value { object: task, outcome }),
            3 => Message::ToDriver(ToDriver::Put { object: task, refs }),
            _ => Message::ToDriver(ToDriver::Submit(Submit {
                code,
                function: name.clone().unwrap_or_default(),
                name,
                demand,
                max_retries: attempt,
                deadline_us: deadline_us.map(|left| (left, task)),
                returns: vec![task, lease],
                refs,
                group: None,
                stream: None,
                judged: attempt % 3 == 0,
            })),
        }
    })
}

proptest! {
    #[test]
    fn any_message_travels_through_a_stream(
        messages in proptest::collection::vec((message(), proptest::collection::vec(any::<u8>(), 0..20)), 1..4),
        chunk_bytes in 1..100_usize,
    ) {
        let mut stream = Vec::new();
        for (message, body) in &messages {
            frame::append(&mut stream, &[&message.content(body)], frame::DEFAULT_MAX_BYTES).unwrap();
        }
        let mut decoder = Decoder::new(frame::DEFAULT_MAX_BYTES);
        let mut expected = messages.iter();
        for chunk in stream.chunks(chunk_bytes) {
            decoder.push(chunk);
            while let Some(content) = decoder.next_frame().unwrap() {
                let (message, body) = expected.next().unwrap();
                prop_assert_eq!(message.read_back(&content), Some((message.clone(), &body[..])));
            }
        }
        prop_assert_eq!(expected.next(), None);
    }

    #[test]
    fn a_damaged_message_is_another_or_an_error(
        sample in any::<usize>(),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let samples = samples::all();
        let (_, message, body) = &samples[sample % samples.len()];
        let mut content = message.content(body);
        for (place, byte) in damage {
            let place = place % content.len();
            content[place] = byte;
        }
        if let Some((other, rest)) = message.read_back(&content) {
            // What was understood can be said again.
            let again = other.content(rest);
            prop_assert_eq!(message.read_back(&again), Some((other, rest)));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for (_, message, _) in samples::all() {
            let _ = message.read_back(&bytes);
        }
    }
}
