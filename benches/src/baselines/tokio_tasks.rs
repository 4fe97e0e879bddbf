//! `tokio::spawn` with a oneshot for the answer, on a runtime with a thread per core.
//!
//! Driven in two ways, since they differ by an order of magnitude: from *outside*, a plain thread that
//! waits with `block_on`, and from *inside*, a task of the runtime, whose child stays on its thread.

use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::harness::{Sample, latency_us, per_second};

/// A runtime.
pub struct Tokio(Runtime);

impl Tokio {
    /// A runtime with `threads` threads.
    pub fn new(threads: usize) -> Tokio {
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_time().build();
        Tokio(runtime.expect("the runtime starts"))
    }

    /// The runtime itself.
    pub fn runtime(&self) -> &Runtime {
        &self.0
    }

    /// p50 and p99 of a task, from a plain thread.
    pub fn outside_us(&self, time: Duration) -> Sample {
        let mut x = 0;
        latency_us(time, || x = self.0.block_on(call(x)))
    }

    /// p50 and p99 of a task, from a task.
    pub fn inside_us(&self, time: Duration) -> Sample {
        let driver = self.0.spawn(async move {
            let mut meter = Meter::new(time);
            let mut x = 0;
            while meter.goes_on() {
                x = call(x).await;
            }
            meter.sample()
        });
        self.0.block_on(driver).expect("the driver does not panic")
    }

    /// Tasks per second: `drivers` plain threads spawn `count` in all, then await them.
    pub fn outside_per_second(&self, count: usize, drivers: usize) -> f64 {
        let handle = self.0.handle();
        per_second(count, || {
            std::thread::scope(|scope| {
                for _ in 0..drivers {
                    scope.spawn(move || handle.block_on(many(handle.clone(), count / drivers)));
                }
            });
        })
    }

    /// Tasks per second: `drivers` tasks spawn `count` in all, then await them.
    pub fn inside_per_second(&self, count: usize, drivers: usize) -> f64 {
        let handle = self.0.handle();
        per_second(count, || {
            let spawn = |_| handle.spawn(many(handle.clone(), count / drivers));
            let drivers: Vec<_> = (0..drivers).map(spawn).collect();
            for driver in drivers {
                self.0.block_on(driver).expect("the driver does not panic");
            }
        })
    }
}

async fn call(x: u64) -> u64 {
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move { answer.send(x + 1) });
    answered.await.expect("the task answers")
}

async fn many(handle: Handle, count: usize) {
    let spawn = |x| {
        let (answer, answered) = oneshot::channel();
        handle.spawn(async move { answer.send(x + 1) });
        answered
    };
    let answers: Vec<_> = (0..count).map(spawn).collect();
    for answer in answers {
        answer.await.expect("the task answers");
    }
}

/// [`latency_us`] for loops that await.
pub struct Meter {
    end: std::time::Instant,
    before: std::time::Instant,
    nanos: Vec<u32>,
    started: bool,
}

impl Meter {
    /// A meter for `time`.
    pub fn new(time: Duration) -> Meter {
        let now = std::time::Instant::now();
        Meter { end: now + time, before: now, nanos: Vec::with_capacity(1 << 20), started: false }
    }

    /// Ends one call and starts the next, if there is time.
    pub fn goes_on(&mut self) -> bool {
        let now = std::time::Instant::now();
        if std::mem::replace(&mut self.started, true) {
            let took = now.duration_since(self.before).as_nanos();
            self.nanos.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
        self.before = now;
        now < self.end && self.nanos.len() < self.nanos.capacity()
    }

    /// p50 and p99 in microseconds.
    pub fn sample(self) -> Sample {
        crate::harness::percentiles_us(self.nanos)
    }
}
