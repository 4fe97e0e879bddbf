//! Wait: take results as they come.
//!
//! `wait` returns when enough of the references are ready, or at its timeout, and says which are. The
//! slow one is cancelled then: it looks now and then whether it is still wanted.
//!
//! ```text
//! $ cargo run --release --example wait
//! of five calls 4 are ready and 1 is not
//! the slow one: task `work` was cancelled
//! eight tasks that sleep a second, on eight CPUs, took less than eight: true
//! taken as they finished: 8
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use raybolt::{cancel, get, get_timeout, is_cancelled, remote, wait};

/// How long a task works between two looks at whether it is wanted.
const STEP: Duration = Duration::from_millis(10);

#[remote]
fn work(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time && !is_cancelled() {
        sleep(STEP);
    }
}

#[remote]
fn nap() {
    sleep(Duration::from_secs(1));
}

#[raybolt::main(num_cpus = 8)]
fn main() -> raybolt::Result<()> {
    let times = [1, 1, 3_600, 1, 1].map(|seconds| Duration::from_millis(seconds * 10));
    let results = times.map(|time| work::remote(time * 10));
    let (ready, remaining) = wait(&results, 4, Some(Duration::from_secs(60)))?;
    println!("of five calls {} are ready and {} is not", ready.len(), remaining.len());
    let slow = &remaining[0];
    cancel(slow)?;
    let error = get_timeout(slow, Duration::from_secs(60)).expect_err("it was cancelled");
    println!("the slow one: {error}");

    let start = Instant::now();
    let mut left: Vec<_> = (0..8).map(|_| nap::remote()).collect();
    let mut taken = 0;
    while !left.is_empty() {
        let (ready, remaining) = wait(left, 1, None)?;
        for nap in ready {
            get(nap)?;
            taken += 1;
        }
        left = remaining;
    }
    let is_less = start.elapsed() < Duration::from_secs(8);
    println!("eight tasks that sleep a second, on eight CPUs, took less than eight: {is_less}");
    println!("taken as they finished: {taken}");
    Ok(())
}
