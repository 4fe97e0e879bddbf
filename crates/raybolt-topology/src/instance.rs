//! An instance of a bolt: what it does in a slice.
//!
//! 1. If output still waits for room downstream, try again; if in vain, wait to be woken.
//! 2. Obey commands: ticks, requests to finish or to abandon.
//! 3. Take batches from the inbox, and let the bolt work until the slice's *fuel* (a number of tuples) is used up,
//!    output finds no room, or nothing is left.
//! 4. Ship what was emitted, report what was done, publish the counters: once, whatever was done.
//!
//! A panic of user code fails the tuple at hand; the instance goes on with a fresh clone of the prototype.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raybolt_core::ids::RequestId;

use crate::batch::{Batch, Spare};
use crate::bolt::{Bolt, BoltError};
use crate::catch::caught;
use crate::collector::Collector;
use crate::context::Context;
use crate::factory::Seat;
use crate::inbox::{Inbox, Left};
use crate::ledger::Kept;
use crate::stats::{Counters, Published};
use crate::task::{Body, Command, Slice, Task};
use crate::tuple::Tuple;
use crate::wiring::Wiring;

/// How long a slice should take at most: others wait for its thread meanwhile.
pub(crate) const SLICE: Duration = Duration::from_millis(1);
/// How many tuples a slice takes at most, of a bolt that is fast.
pub(crate) const FUEL_MAX: u32 = 1_024;
/// How long an instance should be busy with the tuples that it gets in a row: about what it costs to
/// wake another one.
pub(crate) const TURN: Duration = Duration::from_micros(10);
/// How many tuples an instance gets in a row at most.
const TURN_TUPLES_MAX: u32 = 64;
/// How many tuples the first slice takes, before anything is known about the bolt.
const FUEL_FIRST: u32 = 64;

/// What the instance drives: a plain bolt, or an adapter around another kind.
pub(crate) trait Operator: Send + Sized + 'static {
    type In: Tuple;
    type Out: Tuple;

    /// Whether requests are finished elsewhere: then [`Operator::finished`] only begins it, and who tells the
    /// ledger is [`Operator::poll`].
    const FINISHES_LATER: bool = false;

    /// Where its instance stands in the topology, before anything else.
    fn seated(&mut self, seat: &Seat) {
        let _ = seat;
    }
    /// A copy of the prototype.
    fn fresh(&self) -> Self;
    fn prepare(&mut self, context: &Context);
    fn execute_batch(
        &mut self,
        batch: &mut Batch<Self::In>,
        collector: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError>;
    fn tick(&mut self, collector: &mut Collector<Self::Out>) -> Result<(), BoltError>;
    fn finished(
        &mut self,
        request: RequestId,
        collector: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError>;
    fn abandoned(&mut self, request: RequestId);
    fn cleanup(&mut self);

    /// Collects what was done elsewhere; says whether more tuples may come.
    fn poll(&mut self, collector: &mut Collector<Self::Out>) -> bool {
        let _ = collector;
        true
    }
    /// Whether tuples are being worked on elsewhere.
    fn is_busy(&self) -> bool {
        false
    }
}

/// A plain bolt.
pub(crate) struct Plain<B>(pub(crate) B);

impl<B: Bolt> Operator for Plain<B> {
    type In = B::In;
    type Out = B::Out;

    fn fresh(&self) -> Self {
        Plain(self.0.clone())
    }
    fn prepare(&mut self, context: &Context) {
        self.0.prepare(context);
    }
    #[inline]
    fn execute_batch(
        &mut self,
        batch: &mut Batch<B::In>,
        collector: &mut Collector<B::Out>,
    ) -> Result<(), BoltError> {
        self.0.execute_batch(batch, collector)
    }
    fn tick(&mut self, collector: &mut Collector<B::Out>) -> Result<(), BoltError> {
        self.0.tick(collector)
    }
    fn finished(
        &mut self,
        request: RequestId,
        collector: &mut Collector<B::Out>,
    ) -> Result<(), BoltError> {
        self.0.finished(request, collector)
    }
    fn abandoned(&mut self, request: RequestId) {
        self.0.abandoned(request);
    }
    fn cleanup(&mut self) {
        self.0.cleanup();
    }
}

pub(crate) struct BoltInstance<O: Operator> {
    prototype: O,
    /// None before the first slice, and when `prepare` panicked.
    operator: Option<O>,
    context: Context,
    inbox: Arc<Inbox<O::In>>,
    /// Batches taken from the inbox.
    taken: VecDeque<Batch<O::In>>,
    /// Memory of batches that were worked off.
    spare: Vec<Spare<O::In>>,
    left: Left,
    collector: Collector<O::Out>,
    pace: Pace,
    published: Arc<Published>,
    /// Commands that are not obeyed yet, and memory for the next.
    commands: VecDeque<Command>,
    spare_mail: Vec<Command>,
}

impl<O: Operator> BoltInstance<O> {
    pub(crate) fn new(
        prototype: O,
        context: Context,
        inbox: Arc<Inbox<O::In>>,
        collector: Collector<O::Out>,
        published: Arc<Published>,
    ) -> Self {
        BoltInstance {
            prototype,
            operator: None,
            context,
            inbox,
            taken: VecDeque::new(),
            spare: Vec::new(),
            left: Left::Nothing,
            collector,
            pace: Pace::new(),
            published,
            commands: VecDeque::new(),
            spare_mail: Vec::new(),
        }
    }

    /// What it emits, and what it writes down.
    pub(crate) fn collector(&mut self) -> &mut Collector<O::Out> {
        &mut self.collector
    }

    /// How many tuples have come and were not taken by the bolt.
    pub(crate) fn waiting(&self) -> usize {
        self.inbox.len() + self.taken.iter().map(Batch::len).sum::<usize>()
    }

    /// Step 2. What a command emits may find no room either, so the rest waits then.
    fn obey(&mut self, task: &Task) {
        if task.has_mail() {
            let mut mail = task.take_mail(std::mem::take(&mut self.spare_mail));
            self.commands.extend(mail.drain(..));
            self.spare_mail = mail;
        }
        while self.collector.ledger.fuel > 0
            && let Some(command) = self.commands.pop_front()
        {
            self.collector.ledger.fuel -= 1;
            match command {
                Command::Tick => self.tick(),
                Command::Finish(request) => self.finish(request),
                Command::Abandon(request) => self.user(|bolt, _| {
                    bolt.abandoned(request);
                    Ok(())
                }),
                Command::Settle(kept, failure) => self.settle(kept, failure),
                Command::Acked(_)
                | Command::Failed(..)
                | Command::Activate
                | Command::Deactivate => {} // For spouts.
            }
        }
    }

    /// A tuple that was held has been settled elsewhere.
    fn settle(&mut self, kept: Kept, failure: Option<String>) {
        match failure {
            None => self.collector.ledger.ack(kept),
            Some(message) => {
                self.collector.ledger.fail(kept, &message);
                self.record(message);
            }
        }
    }

    fn tick(&mut self) {
        self.collector.ledger.counters.ticks += 1;
        self.user(Operator::tick);
    }

    fn finish(&mut self, request: RequestId) {
        self.collector.ledger.counters.finished += 1;
        let mut failure = None;
        if O::FINISHES_LATER {
            self.user_or(
                |bolt, out| bolt.finished(request, out),
                |message| failure = Some(message),
            );
            if failure.is_none() {
                return;
            }
            self.collector.ledger.begin_finish();
            return self.collector.ledger.settle_finish(request, failure.as_deref());
        }
        self.collector.ledger.begin_finish();
        self.user_or(|bolt, out| bolt.finished(request, out), |message| failure = Some(message));
        self.collector.ledger.settle_finish(request, failure.as_deref());
    }

    /// Calls user code that has no tuple at hand; its failure is recorded.
    fn user(&mut self, call: impl FnOnce(&mut O, &mut Collector<O::Out>) -> Result<(), BoltError>) {
        self.user_or(call, |_| {});
    }

    fn user_or(
        &mut self,
        call: impl FnOnce(&mut O, &mut Collector<O::Out>) -> Result<(), BoltError>,
        failed: impl FnOnce(String),
    ) {
        let Some(operator) = &mut self.operator else {
            return failed("the instance could not be prepared".into());
        };
        let collector = &mut self.collector;
        let message = match caught(|| call(operator, collector)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => {
                self.reborn(&panic);
                panic
            }
        };
        self.record(message.clone());
        failed(message);
    }

    /// Step 3.
    fn work(&mut self) {
        while self.collector.ledger.fuel > 0 {
            let Some(operator) = &mut self.operator else { return self.refuse() };
            if !operator.poll(&mut self.collector) {
                return;
            }
            let Some(batch) = self.taken.front_mut() else {
                let fuel = self.collector.ledger.fuel as usize;
                self.left = self.inbox.take(fuel, &mut self.taken, &mut self.spare);
                if self.taken.is_empty() {
                    return;
                }
                continue;
            };
            let collector = &mut self.collector;
            collector.origin = Some(batch.origin());
            collector.ledger.turn_to(batch.is_tracked());
            let before = batch.len();
            let result = caught(|| operator.execute_batch(batch, collector));
            let taken = before - batch.len();
            collector.ledger.counters.executed += taken as u64;
            if batch.is_empty()
                && let Some(batch) = self.taken.pop_front()
            {
                self.spare.push(batch.into_spare());
            }
            match result {
                Ok(Ok(())) => {
                    self.collector.ledger.settle();
                    if taken == 0 && self.collector.ledger.fuel > 0 {
                        self.skip();
                    }
                }
                Ok(Err(error)) => self.failed(error.to_string(), taken),
                Err(panic) => {
                    self.reborn(&panic);
                    self.failed(panic, taken);
                }
            }
        }
    }

    /// The bolt does not take the tuples of a batch, though it could: it wants none of them.
    fn skip(&mut self) {
        if let Some(mut batch) = self.taken.pop_front() {
            self.collector.ledger.fuel += batch.len() as u32;
            while batch.next(&mut self.collector).is_some() {}
            self.collector.ledger.settle();
        }
    }

    /// Without a bolt that could work on them, tuples fail.
    fn refuse(&mut self) {
        self.left = self.inbox.take(FUEL_MAX as usize, &mut self.taken, &mut self.spare);
        while let Some(mut batch) = self.taken.pop_front() {
            self.collector.ledger.turn_to(batch.is_tracked());
            self.collector.ledger.fuel = u32::MAX;
            while batch.next(&mut self.collector).is_some() {
                self.collector.ledger.settle_failed("the instance could not be prepared");
            }
        }
    }

    /// The tuple at hand has failed, of so many that were taken. If there is none, it is the next one:
    /// a bolt that fails before it takes any must not be asked for ever.
    fn failed(&mut self, message: String, taken: usize) {
        if taken == 0
            && let Some(batch) = self.taken.front_mut()
        {
            self.collector.ledger.fuel = self.collector.ledger.fuel.max(1);
            let _ = batch.next(&mut self.collector);
            self.collector.ledger.counters.executed += 1;
            if batch.is_empty() {
                self.taken.pop_front();
            }
        }
        if !self.collector.ledger.settle_failed(&message) {
            self.collector.ledger.counters.failed += 1; // Nobody follows it, but it has failed.
        }
        self.record(message);
    }

    fn record(&self, message: String) {
        self.collector.ledger.shared.record_error(self.collector.ledger.place, message);
    }

    /// The bolt has panicked: its state is not to be trusted any more.
    fn reborn(&mut self, panic: &str) {
        let ledger = &mut self.collector.ledger;
        ledger.counters.panics += 1;
        ledger.state_lost = Some(format!("lost with its instance, which {panic}"));
        self.operator = None;
        self.birth();
    }

    fn birth(&mut self) {
        let born = caught(|| {
            let mut operator = self.prototype.fresh();
            operator.prepare(&self.context);
            operator
        });
        match born {
            Ok(operator) => self.operator = Some(operator),
            Err(panic) => self.record(format!("prepare {panic}")),
        }
    }
}

impl<O: Operator> Body for BoltInstance<O> {
    fn slice(&mut self, task: &Arc<Task>) -> Slice {
        // The notification that led to this slice may have been for a new batch. If the slice ends
        // before it has looked, it must not be forgotten.
        self.left = Left::Some;
        if !self.collector.unblock() {
            return Slice::Wait;
        }
        let sample = self.pace.begin(&self.collector.ledger.counters);
        self.collector.ledger.fuel = self.pace.fuel;
        if self.operator.is_none() {
            self.birth();
        }
        self.obey(task);
        self.work();
        if let Some(per_turn) = self.pace.end(sample, &mut self.collector.ledger.counters) {
            task.set_per_turn(per_turn);
        }
        self.collector.ship();
        // Before anyone is told: who knows what became of a tuple finds it counted.
        self.published.publish(&self.collector.ledger.counters);
        self.collector.report();
        self.spare.clear(); // What the inbox did not take back.
        let input = !self.taken.is_empty() || self.left == Left::Some;
        let more = input || !self.commands.is_empty();
        // Who is blocked, or works elsewhere at its limit, is woken when that ends.
        let can_go_on = !self.collector.ledger.blocked && self.collector.ledger.fuel == 0;
        if more && (can_go_on || self.operator.is_none()) { Slice::More } else { Slice::Wait }
    }

    fn connect(&mut self, wiring: &Wiring) {
        self.collector.connect(wiring);
    }

    fn is_quiet(&self) -> bool {
        let busy = self.operator.as_ref().is_some_and(Operator::is_busy);
        let in_hand = busy || self.collector.ledger.blocked || !self.commands.is_empty();
        !in_hand && self.taken.is_empty() && self.inbox.len() == 0
    }

    fn stop(&mut self) {
        if let Some(mut operator) = self.operator.take()
            && let Err(panic) = caught(|| operator.cleanup())
        {
            self.record(format!("cleanup {panic}"));
        }
    }
}

/// How many tuples a slice may take, so that it lasts about [`SLICE`] at most.
pub(crate) struct Pace {
    pub(crate) fuel: u32,
    slices: u32,
    /// How many tuples the last slice took.
    last: u64,
}

/// The begin of a slice: how many calls of user code there had been, and when, if it is timed.
pub(crate) struct Sample {
    calls: u64,
    start: Option<Instant>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Pace { fuel: FUEL_FIRST, slices: 0, last: 0 }
    }

    /// Reading the clock is not worth it in each slice of a few tuples.
    pub(crate) fn begin(&mut self, counters: &Counters) -> Sample {
        self.slices = self.slices.wrapping_add(1);
        let timed = self.fuel < FUEL_MAX || self.last >= 32 || self.slices.is_multiple_of(16);
        Sample { calls: counters.calls(), start: timed.then(Instant::now) }
    }

    /// Ends a slice; if it was timed, says how many tuples fill a [`TURN`].
    pub(crate) fn end(&mut self, sample: Sample, counters: &mut Counters) -> Option<u32> {
        self.last = counters.calls() - sample.calls;
        let start = sample.start?;
        if self.last == 0 {
            return None;
        }
        let elapsed = start.elapsed();
        counters.sampled_nanos += elapsed.as_nanos() as u64;
        counters.sampled_tuples += self.last;
        if elapsed > SLICE {
            let share = SLICE.as_nanos() as u64 * self.last / elapsed.as_nanos() as u64;
            self.fuel = (share as u32).clamp(1, FUEL_MAX);
        } else if elapsed < SLICE / 2 {
            self.fuel = (self.fuel * 2).min(FUEL_MAX);
        }
        let per_turn = TURN.as_nanos() * u128::from(self.last) / elapsed.as_nanos().max(1);
        Some(per_turn.clamp(1, u128::from(TURN_TUPLES_MAX)) as u32)
    }
}
