//! The bytes of every message, kept (MSG-5).
//!
//! A test that fails here means that this build does not understand its predecessors. Either undo the
//! change, or raise `raybolt_wire::PROTOCOL` and say in the changelog what users have to do. After
//! that `GOLDEN=print cargo test -p raybolt-wire --test golden -- --nocapture` prints the new table.

mod samples;

use bytes::Bytes;
use raybolt_wire::Envelope;

/// The samples' names and frames, in hexadecimal: the message, a dot, the body.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn every_message_keeps_its_bytes() {
    let actual: String = samples::all().iter().map(|(name, sample)| line(name, sample)).collect();
    if std::env::var_os("GOLDEN").is_some() {
        eprint!("{actual}");
    }
    for (actual, golden) in actual.lines().zip(GOLDEN.lines()) {
        assert_eq!(actual, golden);
    }
    assert_eq!(actual.lines().count(), GOLDEN.lines().count());
}

#[test]
fn every_message_is_read_back() {
    for (name, sample) in samples::all() {
        let bytes = Bytes::from(sample.encode());
        assert_eq!(Envelope::decode(bytes).as_ref(), Ok(&sample), "{name}");
    }
}

#[test]
fn a_message_that_was_cut_is_an_error() {
    for (name, sample) in samples::all() {
        let bytes = Bytes::from(sample.encode());
        for end in 0..bytes.len() {
            assert!(Envelope::decode(bytes.slice(..end)).is_err(), "{name} cut at {end}");
        }
    }
}

#[test]
fn bytes_behind_a_message_are_an_error() {
    for (name, sample) in samples::all() {
        let mut bytes = sample.encode();
        bytes.push(0);
        let text = Envelope::decode(bytes.into()).unwrap_err().to_string();
        let body = sample.body.len();
        assert_eq!(
            text,
            format!("the message names {body} bytes of values, the body has {}", body + 1),
            "{name}"
        );
    }
}

fn line(name: &str, sample: &Envelope) -> String {
    let bytes = sample.encode();
    let (message, body) = bytes.split_at(bytes.len() - sample.body.len());
    format!("{name} {}.{}\n", hex(message), hex(body))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
