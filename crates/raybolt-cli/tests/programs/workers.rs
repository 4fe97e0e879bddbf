//! A program over processes to be watched. Says `ready` when everything is in its place, and ends when its stdin
//! does.
//!
//! In one worker a task runs; in another, a task waits in `get` for one that holds the only seat; a third waits
//! for that seat.

#![expect(clippy::print_stdout, reason = "whoever started it waits for its word")]

use std::io::Read;
use std::time::Duration;

use raybolt::{Builder, Result, get, inspect, remote};

#[remote(resources(seat = 1.0))]
fn sit(word: &str) -> u64 {
    println!("{word} from a worker");
    while !raybolt::is_cancelled() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    1
}

#[remote]
fn waits() -> Result<u64> {
    get(sit::remote("a word"))
}

#[remote(resources(seat = 1.0))]
fn queue(x: u64) -> u64 {
    x
}

#[remote]
fn quick(x: u64) -> u64 {
    x
}

fn main() -> Result<()> {
    let session = Builder::new()
        .num_cpus(4.0)
        .resource("seat", 1.0)
        .processes(2)
        .timeline(true)
        .log_to_driver(false)
        .start()?;
    get((0..20).map(quick::remote).collect::<Vec<_>>())?;
    let waiting = waits::remote();
    let at_work = || -> Result<String> {
        let workers = inspect::workers()?;
        let threads = workers.iter().flat_map(|worker| &worker.at_work);
        Ok(threads.flat_map(|thread| thread.tasks.clone()).collect::<Vec<_>>().join(" "))
    };
    while !(at_work()?.contains("sit") && inspect::status()?.waiting > 0) {
        std::thread::yield_now();
    }
    let queued = queue::remote(1);
    println!("ready {waiting} {queued}");
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    drop(session);
    Ok(())
}
