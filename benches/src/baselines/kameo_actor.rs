//! An `ask` of the kameo actor library: a counter that adds.
//!
//! Driven from *outside*, a plain thread that waits, and from *inside*, a task of its runtime.

use std::convert::Infallible;
use std::time::Duration;

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};

use super::tokio_tasks::{Meter, Tokio};
use crate::harness::{Sample, latency_us, per_second};

/// An actor on a runtime.
pub struct Kameo {
    tokio: Tokio,
    counter: ActorRef<Counter>,
}

struct Counter(u64);

impl Actor for Counter {
    type Args = u64;
    type Error = Infallible;

    async fn on_start(start: u64, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Counter(start))
    }
}

struct Add(u64);

impl Message<Add> for Counter {
    type Reply = u64;

    async fn handle(&mut self, add: Add, _: &mut Context<Self, u64>) -> u64 {
        self.0 += add.0;
        self.0
    }
}

impl Kameo {
    /// Starts the actor, with an unbounded mailbox, on a runtime with `threads` threads.
    pub fn new(threads: usize) -> Kameo {
        let tokio = Tokio::new(threads);
        let _entered = tokio.runtime().enter();
        let counter = Counter::spawn_with_mailbox(0, mailbox::unbounded());
        drop(_entered);
        Kameo { tokio, counter }
    }

    /// p50 and p99 of an ask, from a plain thread.
    pub fn outside_us(&self, time: Duration) -> Sample {
        let runtime = self.tokio.runtime();
        latency_us(time, || {
            runtime.block_on(async { self.counter.ask(Add(1)).await.expect("it answers") });
        })
    }

    /// p50 and p99 of an ask, from a task.
    pub fn inside_us(&self, time: Duration) -> Sample {
        let counter = self.counter.clone();
        let driver = self.tokio.runtime().spawn(async move {
            let mut meter = Meter::new(time);
            while meter.goes_on() {
                counter.ask(Add(1)).await.expect("it answers");
            }
            meter.sample()
        });
        self.tokio.runtime().block_on(driver).expect("the driver does not panic")
    }

    /// Asks per second: `drivers` tasks send `count` in all, then await the answers.
    pub fn inside_per_second(&self, count: usize, drivers: usize) -> f64 {
        let runtime = self.tokio.runtime();
        per_second(count, || {
            let spawn = |_| runtime.spawn(many(self.counter.clone(), count / drivers));
            let drivers: Vec<_> = (0..drivers).map(spawn).collect();
            for driver in drivers {
                runtime.block_on(driver).expect("the driver does not panic");
            }
        })
    }
}

async fn many(counter: ActorRef<Counter>, count: usize) {
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        answers.push(counter.ask(Add(1)).enqueue().await.expect("it takes the message"));
    }
    for answer in answers {
        answer.await.expect("it answers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_counts_every_ask() {
        let kameo = Kameo::new(2);
        kameo.inside_per_second(1_000, 2);
        let ask = async { kameo.counter.ask(Add(1)).await.unwrap() };
        assert_eq!(kameo.tokio.runtime().block_on(ask), 1_001);
    }
}
