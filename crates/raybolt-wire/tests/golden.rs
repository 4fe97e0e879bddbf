//! The bytes of every message, kept (WORK-5).
//!
//! A test that fails here means that this build does not understand its predecessors. Either undo the
//! change, or raise `raybolt_wire::PROTOCOL` and say in the changelog what users have to do. After
//! that, and after a message was added, `GOLDEN=print cargo test -p raybolt-wire --test golden -- --nocapture`
//! prints the new table.

mod samples;

use raybolt_wire::work::{self, ToDriver, ToWorker};
use samples::{Message, Sample};
use serde::de::DeserializeOwned;

/// The samples' names and frames, in hexadecimal: the message, a dot, the body.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn every_message_keeps_its_bytes() {
    let actual: String = samples::all().iter().map(line).collect();
    if std::env::var_os("GOLDEN").is_some() {
        eprint!("{actual}");
    }
    for (actual, golden) in actual.lines().zip(GOLDEN.lines()) {
        assert_eq!(actual, golden);
    }
    assert_eq!(actual.lines().count(), GOLDEN.lines().count());
}

#[test]
fn every_message_has_a_sample() {
    let all = samples::all();
    let sampled = |to_worker: bool| {
        let of_way =
            all.iter().filter(move |sample| to_worker == matches!(sample.1, Message::ToWorker(_)));
        of_way.map(|(_, message, body)| message.content(body)[0]).collect::<Vec<_>>()
    };
    let hint = "add a sample of it to tests/samples/mod.rs, and its bytes to tests/golden.txt";
    assert_eq!(sampled(true), variants::<ToWorker>(), "{hint}");
    assert_eq!(sampled(false), variants::<ToDriver>(), "{hint}");
}

#[test]
fn every_message_is_read_back_with_its_body() {
    for (name, message, body) in samples::all() {
        let content = message.content(body);
        assert_eq!(message.read_back(&content), Some((message.clone(), body)), "{name}");
    }
}

#[test]
fn a_message_that_was_cut_is_an_error() {
    for (name, message, _) in samples::all() {
        let content = message.content(b"");
        for end in 0..content.len() {
            assert_eq!(message.read_back(&content[..end]), None, "{name} cut at {end}");
        }
    }
}

/// The numbers of the variants that there are.
fn variants<M: DeserializeOwned>() -> Vec<u8> {
    let is_known = |number: &u8| match work::read::<M>(&[*number]) {
        Ok(_) | Err(postcard::Error::DeserializeUnexpectedEnd) => true,
        Err(_) => false,
    };
    (0..128).filter(is_known).collect()
}

fn line((name, message, body): &Sample) -> String {
    let content = message.content(body);
    let (head, body) = content.split_at(content.len() - body.len());
    format!("{name} {}.{}\n", hex(head), hex(body))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
