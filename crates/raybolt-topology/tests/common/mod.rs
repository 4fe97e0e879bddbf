//! Components that tests are made of. All of them tell the test what happens through channels, and a
//! test waits for that with a generous deadline, so nothing here sleeps.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use raybolt_topology::*;

/// How long a test waits for what should come at once.
pub const LONG: Duration = Duration::from_secs(60);

/// Emits the given tuples, once, from its first instance.
#[derive(Clone)]
pub struct Given<T> {
    tuples: std::vec::IntoIter<T>,
}

pub fn given<T: Tuple>(tuples: impl IntoIterator<Item = T>) -> Given<T> {
    Given { tuples: tuples.into_iter().collect::<Vec<_>>().into_iter() }
}

impl<T: Tuple> Spout for Given<T> {
    type Out = T;

    fn open(&mut self, context: &Context) {
        if context.instance() > 0 {
            self.tuples = Vec::new().into_iter();
        }
    }

    fn next_tuple(&mut self, out: &mut SpoutCollector<T>) -> Next {
        match self.tuples.next() {
            Some(tuple) => {
                out.emit(tuple);
                Next::Emitted
            }
            None => Next::Done,
        }
    }
}

/// What a test hears of.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen<T> {
    pub instance: usize,
    pub tuple: T,
}

/// Tells the test of each tuple.
#[derive(Clone)]
pub struct Tell<T> {
    instance: usize,
    to: Sender<Seen<T>>,
}

pub fn tell<T: Tuple>() -> (Tell<T>, Receiver<Seen<T>>) {
    let (to, seen) = channel();
    (Tell { instance: 0, to }, seen)
}

impl<T: Tuple> Bolt for Tell<T> {
    type In = T;
    type Out = ();

    fn prepare(&mut self, context: &Context) {
        self.instance = context.instance();
    }

    fn execute(&mut self, tuple: T, _: &mut Collector<()>) -> Result<(), BoltError> {
        let _ = self.to.send(Seen { instance: self.instance, tuple });
        Ok(())
    }
}

/// A bolt that is a function.
#[derive(Clone)]
pub struct Apply<I, O, F>(pub F, pub std::marker::PhantomData<fn(I) -> O>);

pub fn apply<I, O, F>(function: F) -> Apply<I, O, F>
where
    I: Tuple,
    O: Tuple,
    F: FnMut(I, &mut Collector<O>) -> Result<(), BoltError> + Clone + Send + 'static,
{
    Apply(function, std::marker::PhantomData)
}

impl<I, O, F> Bolt for Apply<I, O, F>
where
    I: Tuple,
    O: Tuple,
    F: FnMut(I, &mut Collector<O>) -> Result<(), BoltError> + Clone + Send + 'static,
{
    type In = I;
    type Out = O;

    fn execute(&mut self, tuple: I, out: &mut Collector<O>) -> Result<(), BoltError> {
        (self.0)(tuple, out)
    }
}

/// What became of a spout's tuples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Acked(u64),
    Failed(u64, String),
}

/// Emits the given tuples with their positions as ids, and tells the test what became of them.
#[derive(Clone)]
pub struct Followed<T> {
    tuples: Vec<T>,
    next: usize,
    fates: Sender<Fate>,
}

pub fn followed<T: Tuple>(tuples: impl IntoIterator<Item = T>) -> (Followed<T>, Receiver<Fate>) {
    let (fates, heard) = channel();
    (Followed { tuples: tuples.into_iter().collect(), next: 0, fates }, heard)
}

impl<T: Tuple> Spout for Followed<T> {
    type Out = T;

    fn next_tuple(&mut self, out: &mut SpoutCollector<T>) -> Next {
        let Some(tuple) = self.tuples.get(self.next) else { return Next::Done };
        out.emit_with_id(tuple.clone(), MessageId(self.next as u64));
        self.next += 1;
        Next::Emitted
    }

    fn ack(&mut self, id: MessageId) {
        let _ = self.fates.send(Fate::Acked(id.0));
    }

    fn fail(&mut self, id: MessageId, reason: &str) {
        let _ = self.fates.send(Fate::Failed(id.0, reason.to_owned()));
    }
}

/// The next so many messages.
pub fn take<T>(from: &Receiver<T>, count: usize) -> Vec<T> {
    (0..count)
        .map(|at| {
            from.recv_timeout(LONG)
                .unwrap_or_else(|error| panic!("message {at} of {count} did not come: {error}"))
        })
        .collect()
}

/// Asserts that no message comes any more once all senders are gone.
pub fn assert_over<T: std::fmt::Debug>(from: &Receiver<T>) {
    match from.recv_timeout(LONG) {
        Err(RecvTimeoutError::Disconnected) => {}
        other => panic!("expected the end, got {other:?}"),
    }
}

/// Looks again and again, without sleeping long, until `is` holds.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::yield_now();
    }
}

/// Counts by key, for all instances together.
pub type Counts = Arc<Mutex<BTreeMap<String, u64>>>;
