//! Errors: what fails is heard of, also when nobody asks.
//!
//! A panic or an `Err` of a task takes the place of its value, there and in every task that was to
//! take it. If nobody waits, it goes to the log on stderr, for a panic with the stack; `errors()` lists
//! what failed lately.
//!
//! ```text
//! $ cargo run --release --example errors
//! nobody asked: panic in `fails`: This task failed!!
//! task `parse` failed: not a number: `many`
//!   caused by: invalid digit found in string
//! the task that was to take it says the same: true
//! succeeded at the third attempt: 3
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::num::ParseIntError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use raybolt::{errors, get, remote};

#[remote]
fn fails() {
    sleep(Duration::from_millis(100));
    panic!("This task failed!!");
}

#[derive(Debug, thiserror::Error)]
#[error("not a number: `{text}`")]
struct NotANumber {
    text: String,
    source: ParseIntError,
}

#[remote]
fn parse(text: &str) -> Result<u64, NotANumber> {
    text.parse().map_err(|source| NotANumber { text: text.into(), source })
}

#[remote]
fn double(x: u64) -> u64 {
    2 * x
}

/// Busy twice, then not any more.
#[remote]
fn third_time() -> Result<u32, String> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    match CALLS.fetch_add(1, Ordering::Relaxed) + 1 {
        call @ 1..3 => Err(format!("busy at call {call}")),
        call => Ok(call),
    }
}

#[raybolt::main]
fn main() -> raybolt::Result<()> {
    fails::remote();
    while errors()?.is_empty() {
        sleep(Duration::from_millis(10)); // Nobody waits for the task itself.
    }
    let report = &errors()?[0];
    let (kind, failed) = (report.kind, &report.error);
    println!("nobody asked: {kind} in `{}`: {}", failed.task, failed.message);

    let number = parse::remote("many");
    let doubled = double::remote(&number);
    let error = get(&number).expect_err("it is no number");
    println!("{error}");
    let dependent = get(&doubled).expect_err("its argument failed");
    let same = dependent.to_string() == error.to_string();
    println!("the task that was to take it says the same: {same}");

    let patient = third_time::options().retry_on(|error| error.message.starts_with("busy"));
    println!("succeeded at the third attempt: {}", get(patient.remote())?);
    Ok(())
}
