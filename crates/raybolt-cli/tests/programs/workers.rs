//! A program over processes to be watched. Says `ready` when everything is in its place, and ends when its stdin
//! does.
//!
//! In one worker a task runs; in another, a task waits in `get` for one that holds the only seat; a third waits
//! for that seat. An actor's call runs with another behind it, and another actor is long in the making.

#![expect(clippy::print_stdout, reason = "whoever started it waits for its word")]

use std::io::Read;
use std::time::Duration;

use raybolt::inspect::{Status, WorkerReport};
use raybolt::{Builder, Result, get, inspect, put, remote};

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

struct Clerk;

#[remote]
impl Clerk {
    pub fn new() -> Self {
        Clerk
    }

    pub fn serve(&mut self) -> u64 {
        while !raybolt::is_cancelled() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        1
    }

    pub fn count(&mut self, x: u64) -> u64 {
        x
    }
}

/// An actor that is long in the making.
struct Apprentice;

#[remote]
impl Apprentice {
    pub fn new() -> Self {
        while !raybolt::is_cancelled() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Apprentice
    }

    pub fn learn(&mut self, x: u64) -> u64 {
        x
    }
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
    let _large = put(raybolt::Array::from(vec![0_u8; 1 << 20]))?;
    let waiting = waits::remote();
    let clerk = Clerk::remote();
    let _serving = clerk.serve();
    let counted = clerk.count(2);
    let apprentice = Apprentice::remote();
    let learned = apprentice.learn(3);
    let all_there = |workers: &[WorkerReport]| {
        let threads = workers.iter().flat_map(|worker| &worker.at_work);
        let tasks = threads.flat_map(|thread| thread.tasks.clone()).collect::<Vec<_>>().join(" ");
        let names = ["sit", "Clerk::serve", "constructor"];
        workers.len() == 3
            && names.iter().all(|name| tasks.contains(name))
            && workers.iter().any(|worker| worker.blocked > 0)
    };
    let is_seen = |status: Status| status.worker_processes == 2 && status.waiting > 0;
    while !(all_there(&inspect::workers()?) && is_seen(inspect::status()?)) {
        std::thread::yield_now();
    }
    let queued = queue::remote(1);
    println!("ready {waiting} {queued} {counted} {learned}");
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    drop(session);
    Ok(())
}
