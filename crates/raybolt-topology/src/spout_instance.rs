//! An instance of a spout: what it does in a slice.
//!
//! As an instance of a bolt, but for its source: it obeys commands (trees that are done or failed,
//! activate, deactivate), then asks the spout for tuples, until the fuel is used up, output finds no
//! room, too many trees are pending, or the spout has nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raybolt_core::flow::acks::FailReason;
use raybolt_core::ids::RootId;
use raybolt_runtime::timer::TimerKey;

use crate::catch::caught;
use crate::collector::SpoutCollector;
use crate::context::Context;
use crate::factory::Seat;
use crate::instance::{Pace, Plain, SLICE};
use crate::spout::{MessageId, Next, Spout};
use crate::stats::Published;
use crate::task::{Body, Command, Slice, Task};
use crate::tuple::Tuple;
use crate::wiring::Wiring;

/// How long a spout that panicked waits before it is asked again.
pub(crate) const PANIC_PAUSE: Duration = Duration::from_millis(100);

/// What the instance drives: a plain spout, or what stands in place of one that runs elsewhere.
pub(crate) trait Source: Send + Sized + 'static {
    type Out: Tuple;

    /// Whether the spout is elsewhere, and with it the count of its calls.
    const ELSEWHERE: bool = false;

    /// Where its instance stands in the topology, before anything else.
    fn seated(&mut self, seat: &Seat) {
        let _ = seat;
    }
    /// A copy of the prototype.
    fn fresh(&self) -> Self;
    fn open(&mut self, context: &Context);
    fn next_tuple(&mut self, collector: &mut SpoutCollector<Self::Out>) -> Next;
    fn ack(&mut self, id: MessageId);
    fn fail(&mut self, id: MessageId, reason: &str);
    fn activate(&mut self);
    fn deactivate(&mut self);
    fn close(&mut self);

    /// Emits what was made elsewhere: asked for while the topology was active, it may come later.
    fn poll(&mut self, collector: &mut SpoutCollector<Self::Out>) {
        let _ = collector;
    }
    /// Passes on what it was told in a slice.
    fn tell(&mut self) {}
    /// Whether something is to come from elsewhere, or to be told there.
    fn is_busy(&self) -> bool {
        false
    }
}

impl<S: Spout> Source for Plain<S> {
    type Out = S::Out;

    fn fresh(&self) -> Self {
        Plain(self.0.clone())
    }
    fn open(&mut self, context: &Context) {
        self.0.open(context);
    }
    #[inline]
    fn next_tuple(&mut self, collector: &mut SpoutCollector<S::Out>) -> Next {
        self.0.next_tuple(collector)
    }
    fn ack(&mut self, id: MessageId) {
        self.0.ack(id);
    }
    fn fail(&mut self, id: MessageId, reason: &str) {
        self.0.fail(id, reason);
    }
    fn activate(&mut self) {
        self.0.activate();
    }
    fn deactivate(&mut self) {
        self.0.deactivate();
    }
    fn close(&mut self) {
        self.0.close();
    }
}

pub(crate) struct SpoutInstance<S: Source> {
    prototype: S,
    /// None before the first active slice.
    spout: Option<S>,
    context: Context,
    collector: SpoutCollector<S::Out>,
    pending_max: usize,
    active: bool,
    /// Whether the spout said that there will be nothing but replays.
    done: bool,
    /// When the spout wants to be asked again, and the timer that will wake it.
    not_before: Option<(Instant, TimerKey)>,
    /// Whether it waits because it panicked: then no waker ends that early.
    recovering: bool,
    /// How many tuples a slice may ask for, whatever its pace, and until when.
    credit: u32,
    until: Option<Instant>,
    pace: Pace,
    published: Arc<Published>,
    spare_mail: Vec<Command>,
}

impl<S: Source> SpoutInstance<S> {
    pub(crate) fn new(
        prototype: S,
        context: Context,
        collector: SpoutCollector<S::Out>,
        pending_max: Option<usize>,
        active: bool,
        published: Arc<Published>,
    ) -> Self {
        SpoutInstance {
            prototype,
            spout: None,
            context,
            collector,
            pending_max: pending_max.unwrap_or(usize::MAX),
            active,
            done: false,
            not_before: None,
            recovering: false,
            credit: u32::MAX,
            until: None,
            pace: Pace::new(),
            published,
            spare_mail: Vec::new(),
        }
    }

    /// The next slice, which begins now, may ask for so many tuples; what it has does not wait for what takes long.
    pub(crate) fn allow(&mut self, credit: u32) {
        self.credit = credit;
        self.until = Instant::now().checked_add(SLICE);
    }

    /// Whether the spout said that there will be nothing but replays.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.done
    }

    /// What it emits, and what it writes down.
    pub(crate) fn collector(&mut self) -> &mut SpoutCollector<S::Out> {
        &mut self.collector
    }

    fn obey(&mut self, task: &Task) {
        let mut mail = task.take_mail(std::mem::take(&mut self.spare_mail));
        for command in mail.drain(..) {
            match command {
                Command::Acked(root) => self.acked(root),
                Command::Failed(root, reason) => self.failed(root, &reason),
                Command::Activate => self.activate(true),
                Command::Deactivate => self.activate(false),
                Command::Tick | Command::Finish(_) | Command::Abandon(_) | Command::Settle(..) => {} // For bolts.
            }
        }
        self.spare_mail = mail;
    }

    fn acked(&mut self, root: RootId) {
        if let Some(id) = self.collector.pending.remove(&root) {
            self.collector.inner.ledger.counters.acked += 1;
            self.user(|spout| spout.ack(id));
        }
    }

    fn failed(&mut self, root: RootId, reason: &FailReason) {
        let Some(id) = self.collector.pending.remove(&root) else { return };
        self.collector.inner.ledger.counters.failed += 1;
        self.done = false; // It may want to replay.
        if !self.recovering {
            self.not_before = None;
        }
        match reason {
            FailReason::Timeout => self.user(|spout| spout.fail(id, "message timeout")),
            FailReason::Failed(message) => self.user(|spout| spout.fail(id, message)),
        }
    }

    fn activate(&mut self, active: bool) {
        if std::mem::replace(&mut self.active, active) != active {
            self.user(|spout| if active { spout.activate() } else { spout.deactivate() });
        }
    }

    fn user(&mut self, call: impl FnOnce(&mut S)) {
        if let Some(spout) = &mut self.spout
            && let Err(panic) = caught(|| call(spout))
        {
            self.panicked(panic);
        }
    }

    fn panicked(&mut self, panic: String) {
        let ledger = &mut self.collector.inner.ledger;
        ledger.counters.panics += 1;
        ledger.fail_root(&panic);
        ledger.shared.record_error(ledger.place, panic);
        self.spout = None;
    }

    /// Asks for tuples; says how the slice ended.
    fn work(&mut self, task: &Arc<Task>) -> Slice {
        while self.collector.inner.ledger.fuel > 0 {
            if self.collector.pending.len() >= self.pending_max {
                return Slice::Wait; // Until a tree is done.
            }
            let Some(spout) = &mut self.spout else { return Slice::Wait };
            let collector = &mut self.collector;
            let emitted = collector.inner.ledger.counters.emitted;
            let next = caught(|| spout.next_tuple(collector));
            let ledger = &mut collector.inner.ledger;
            ledger.counters.executed += u64::from(!S::ELSEWHERE);
            let used = (ledger.counters.emitted - emitted).clamp(1, u64::from(u32::MAX)) as u32;
            ledger.fuel = ledger.fuel.saturating_sub(used);
            match next {
                Ok(Next::Emitted) if self.until.is_some_and(|until| Instant::now() >= until) => {
                    return Slice::More;
                }
                Ok(Next::Emitted) => {}
                Ok(Next::Idle) => return Slice::Wait,
                Ok(Next::After(delay)) => {
                    self.sleep(task, delay);
                    return Slice::Wait;
                }
                Ok(Next::Done) => {
                    self.done = true;
                    return Slice::Wait;
                }
                Err(panic) => {
                    self.panicked(panic);
                    // A source that is broken must not take a whole core to say so.
                    self.recovering = true;
                    self.sleep(task, PANIC_PAUSE);
                    return Slice::Wait;
                }
            }
        }
        if self.collector.inner.ledger.blocked { Slice::Wait } else { Slice::More }
    }

    fn is_busy(&self) -> bool {
        self.spout.as_ref().is_some_and(Source::is_busy)
    }

    fn sleep(&mut self, task: &Arc<Task>, delay: Duration) {
        // What the clock cannot express never comes: then only a waker, an ack or a failure wakes it.
        let Some(until) = Instant::now().checked_add(delay) else { return };
        let weak = Arc::downgrade(task);
        let key = self.collector.inner.ledger.shared.timer.at(until, move || {
            if let Some(task) = weak.upgrade() {
                task.notify();
            }
        });
        self.not_before = Some((until, key));
    }

    /// Whether the spout asked not to be called yet.
    fn is_asleep(&mut self, task: &Task) -> bool {
        let woken = task.take_woken();
        let Some((until, key)) = self.not_before else { return false };
        if (!woken || self.recovering) && Instant::now() < until {
            return true;
        }
        self.recovering = false;
        self.collector.inner.ledger.shared.timer.cancel(key);
        self.not_before = None;
        false
    }

    fn birth(&mut self) {
        let born = caught(|| {
            let mut spout = self.prototype.fresh();
            spout.open(&self.context);
            spout
        });
        match born {
            Ok(spout) => self.spout = Some(spout),
            Err(panic) => {
                let ledger = &self.collector.inner.ledger;
                ledger.shared.record_error(ledger.place, format!("open {panic}"));
                self.active = false; // Asking again would panic again.
            }
        }
    }
}

impl<S: Source> Body for SpoutInstance<S> {
    fn slice(&mut self, task: &Arc<Task>) -> Slice {
        if !self.collector.inner.unblock() {
            return Slice::Wait;
        }
        let sample = self.pace.begin(&self.collector.inner.ledger.counters);
        self.collector.inner.ledger.fuel = self.pace.fuel.min(self.credit);
        let lost = self.spout.is_none() && !self.collector.pending.is_empty();
        if lost && self.active {
            self.birth(); // After a panic: someone has to hear what becomes of what was emitted.
        }
        if task.has_mail() {
            self.obey(task);
        }
        if self.spout.is_none() && self.active {
            self.birth();
        }
        if let Some(spout) = &mut self.spout {
            spout.poll(&mut self.collector);
        }
        let slice = if self.active && !self.done && !self.is_asleep(task) {
            self.work(task)
        } else {
            Slice::Wait
        };
        if let Some(spout) = &mut self.spout {
            spout.tell();
        }
        self.pace.end(sample, &mut self.collector.inner.ledger.counters);
        self.collector.inner.ship();
        self.collector.inner.report();
        self.published.publish(&self.collector.inner.ledger.counters);
        // The last flush may have found no room.
        if self.collector.inner.ledger.blocked { Slice::Wait } else { slice }
    }

    fn connect(&mut self, wiring: &Wiring) {
        self.collector.inner.connect(wiring);
    }

    fn is_quiet(&self) -> bool {
        !self.active && !self.collector.inner.ledger.blocked && !self.is_busy()
    }

    fn is_done(&self) -> bool {
        self.collector.pending.is_empty() && !self.is_busy()
    }

    fn stop(&mut self) {
        self.user(Source::close);
        self.spout = None;
    }
}
