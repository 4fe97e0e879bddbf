//! A program to be watched. Says `ready` when everything is in its place, and ends when its stdin does.
//!
//! One task holds the only seat; another waits for it; a sum waits for that; an actor's call runs with another
//! behind it; `QUEUED` tasks are queued for the seat too; one task has failed.

#![expect(clippy::print_stdout, reason = "whoever started it waits for its word")]

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock};

use raybolt::{Builder, ObjectRef, get, remote};

/// Each that stands here says so, and then stands until the end.
struct Stand(Sender<()>, Mutex<Receiver<()>>);

static STAND: OnceLock<Stand> = OnceLock::new();

fn stand() -> u64 {
    let Stand(arrived, end) = STAND.get().expect("main has made it");
    arrived.send(()).expect("main listens");
    let end = end.lock().expect("nobody panics here").recv();
    u64::from(end.is_ok())
}

#[remote(resources(seat = 1.0))]
fn sit() -> u64 {
    let Stand(arrived, _) = STAND.get().expect("main has made it");
    arrived.send(()).expect("main listens");
    while !raybolt::is_cancelled() {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    1
}

#[remote(resources(seat = 1.0))]
fn queue(x: u64) -> u64 {
    x
}

#[remote]
fn sum(a: u64, b: u64) -> u64 {
    a + b
}

#[remote]
fn fails() -> Result<u64, String> {
    Err("no luck".into())
}

struct Clerk;

#[remote]
impl Clerk {
    pub fn new() -> Self {
        Clerk
    }

    pub fn serve(&mut self) -> u64 {
        stand()
    }

    pub fn count(&mut self, x: u64) -> u64 {
        x
    }
}

fn main() -> raybolt::Result<()> {
    let (arrived, arrivals) = channel();
    let (leave, end) = channel();
    assert!(STAND.set(Stand(arrived, Mutex::new(end))).is_ok());
    let queued = std::env::var("QUEUED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let _session = Builder::new().num_cpus(4.0).resource("seat", 1.0).start()?;

    assert!(get(fails::remote()).is_err());
    let sitting = sit::remote();
    arrivals.recv().expect("it sits");
    let waiting: Vec<ObjectRef<u64>> = (0..queued).map(queue::remote).collect();
    let last = sum::remote(&waiting[0], 1);
    let clerk = Clerk::options().name("clerk").remote();
    let served = clerk.serve();
    arrivals.recv().expect("it is served");
    let counted = clerk.count(2);
    println!("ready {waiting} {last} {counted}", waiting = waiting[0]);

    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    drop(leave);
    raybolt::cancel(&sitting)?;
    get(served)?;
    Ok(())
}
