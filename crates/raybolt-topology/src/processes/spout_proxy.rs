//! The topology's side of a spout: what stands in its place, and asks for what it emits.

use std::task::Waker;
use std::time::Duration;

use raybolt_runtime::args::Arg;
use raybolt_runtime::call;
use raybolt_runtime::error::Error;
use raybolt_runtime::handle::{self, ActorClass, ActorHandle, ActorOptions, FOREVER};
use raybolt_runtime::method::{Body, Method};
use raybolt_runtime::object::ObjectRef;
use raybolt_runtime::options::CallOptions;
use raybolt_runtime::output::One;
use raybolt_wire::Value;

use crate::catch::caught;
use crate::collector::SpoutCollector;
use crate::context::Context;
use crate::factory::Seat;
use crate::processes::CLEANUP_MAX;
use crate::processes::away::{Away, rouse_if_ready, rousing, taken};
use crate::processes::bell::Ear;
use crate::processes::spout_host::{self, SpoutHost};
use crate::processes::wire::{Place, Rest, SpoutAnswer, SpoutAsk, Wanted};
use crate::spout::{MessageId, Next, OnDone, Spout};
use crate::spout_instance::{PANIC_PAUSE, Source};

/// How many tuples are asked for at once.
const TUPLES_MAX: usize = 512;
/// How long is waited at most before a host that cannot be reached is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The name of tuples whose spout has died: nobody is told what became of them. Others are not zero.
const NOBODY: MessageId = MessageId(0);

/// One call at a time, and beside it the one that waits for the bell.
static CLASS: ActorClass = ActorClass { name: "Spout", is_async: false, groups: &[("bell", 1)] };

/// Stands in place of a spout that runs in a worker process.
pub(crate) struct SpoutProxy<S: Spout> {
    spout: S,
    /// To be called when it is over.
    on_done: Option<OnDone>,
    place: Place,
    pending_max: usize,
    host: Option<ActorHandle<SpoutHost<S>>>,
    waker: Option<Waker>,
    /// The question that is under way.
    ask: Option<Away<SpoutAnswer>>,
    /// Hears when the host wants to be asked, or has died.
    ear: Ear,
    /// What became of tuples, to be told with the next question.
    acked: Vec<u64>,
    failed: Vec<(u64, String)>,
    active: bool,
    /// What the host knows of that.
    told_active: bool,
    rest: Rest,
    /// There is nothing more, all that was followed is done, and the host has been told so.
    is_over: bool,
    /// Of the host that gave the last answer, unless it is known to be dead.
    incarnation: Option<u64>,
    /// How long to wait before the next question, since the last one failed.
    pause: Option<Duration>,
    failures: u32,
}

impl<S: Spout + Value> SpoutProxy<S> {
    pub(crate) fn new(mut spout: S) -> Self {
        SpoutProxy {
            on_done: spout.take_on_done(),
            spout,
            place: Place::default(),
            pending_max: usize::MAX,
            host: None,
            waker: None,
            ask: None,
            ear: Ear::default(),
            acked: Vec::new(),
            failed: Vec::new(),
            active: false,
            told_active: false,
            rest: Rest::More,
            is_over: false,
            incarnation: None,
            pause: None,
            failures: 0,
        }
    }

    fn call(&self, ask: SpoutAsk) -> Option<ObjectRef<SpoutAnswer>> {
        let method = Method { name: "Spout", group: 0, body: Body::Shared(spout_host::ask::<S>) };
        let options = CallOptions::new();
        Some(self.host.as_ref()?.call::<_, One<SpoutAnswer>>(method, options, (Arg::Value(ask),)))
    }

    /// Asks for so many tuples, and tells what there is to tell.
    fn ask(&mut self, credit: usize) {
        let (acked, failed) = (std::mem::take(&mut self.acked), std::mem::take(&mut self.failed));
        let credit = u32::try_from(credit.min(TUPLES_MAX)).unwrap_or(0);
        let wanted = Wanted { credit, active: self.active, acked, failed };
        self.told_active = self.active;
        self.ask = self.call(SpoutAsk::Next(wanted)).map(Away::new);
        rouse_if_ready(&mut self.ask, self.waker.as_ref());
    }

    fn has_to_tell(&self) -> bool {
        !self.acked.is_empty() || !self.failed.is_empty()
    }

    /// The host wants to be asked, or has died while it was not asked.
    fn rung(&mut self, rung: Result<(), Error>, of: u64, collector: &mut SpoutCollector<S::Out>) {
        match rung {
            Ok(()) => {
                if self.rest == Rest::Nothing {
                    self.rest = Rest::More;
                }
            }
            Err(_) if self.incarnation != Some(of) => {} // That is known.
            Err(_) if self.is_over => self.incarnation = None,
            Err(error) => self.lost(&error.to_string(), collector),
        }
    }

    /// Notices when nobody will want anything of the spout any more. That is for good: nothing is under way that
    /// could fail.
    fn look_whether_over(&mut self, collector: &mut SpoutCollector<S::Out>) {
        let is_told = self.ask.is_none() && !self.has_to_tell();
        if self.is_over || self.rest != Rest::Exhausted || !is_told || collector.pending() > 0 {
            return;
        }
        self.is_over = true;
        if let Some(on_done) = self.on_done.take()
            && let Err(panic) = caught(|| on_done())
        {
            collector.report_error(panic);
        }
    }

    /// What the host emitted becomes what the instance emitted.
    fn answered(&mut self, answer: SpoutAnswer, collector: &mut SpoutCollector<S::Out>) {
        let SpoutAnswer { incarnation, emitted, executed, panics, errors, rest } = answer;
        if self.incarnation.is_some_and(|before| before != incarnation) {
            self.lost("its worker process died, and it began anew", collector);
        }
        self.incarnation = Some(incarnation);
        self.rest = rest;
        self.failures = 0;
        collector.inner.ledger.counters.executed += executed;
        collector.inner.ledger.counters.panics += panics;
        for emitted in &emitted {
            if let Err(message) = collector.replay(emitted) {
                let names = emitted.anchors.iter().filter(|name| **name != 0);
                self.failed.extend(names.map(|name| (*name, message.clone())));
                collector.report_error(message);
            }
        }
        for error in errors {
            collector.report_error(error);
        }
    }

    /// The host is gone, and with it whoever wanted to know what becomes of its tuples (SPOUT-2).
    fn lost(&mut self, message: &str, collector: &mut SpoutCollector<S::Out>) {
        collector.pending.values_mut().for_each(|id| *id = NOBODY);
        self.acked.clear();
        self.failed.clear();
        self.incarnation = None;
        self.rest = Rest::More;
        collector.report_error(message);
    }

    /// The question was lost, or could not be asked.
    fn failed(&mut self, error: &Error, collector: &mut SpoutCollector<S::Out>) {
        if self.is_over {
            self.incarnation = None; // It would only have been told whether the topology is active.
            return;
        }
        self.lost(&error.to_string(), collector);
        // A spout that ends its process each time must not take the machine to say so.
        let pause = PANIC_PAUSE.saturating_mul(1 << self.failures.min(7));
        self.pause = Some(pause.min(PAUSE_MAX));
        self.failures += 1;
    }
}

impl<S: Spout + Value> Source for SpoutProxy<S> {
    type Out = S::Out;

    const ELSEWHERE: bool = true;

    fn seated(&mut self, seat: &Seat) {
        self.place.sources = seat.streams.sources().to_vec();
        self.pending_max = seat.pending_max.unwrap_or(usize::MAX);
    }

    fn fresh(&self) -> Self {
        SpoutProxy {
            place: self.place.clone(),
            pending_max: self.pending_max,
            on_done: self.on_done.clone(),
            ..Self::new(self.spout.clone())
        }
    }

    fn open(&mut self, context: &Context) {
        self.waker = Some(rousing(context.waker().0));
        self.active = true;
        self.place.topology = context.topology().to_owned();
        self.place.component = context.component().to_owned();
        self.place.instance = context.instance();
        self.place.instances = context.instances();
        let options = ActorOptions::default().max_restarts(FOREVER);
        let args = (Arg::Value(self.spout.clone()), Arg::Value(self.place.clone()));
        self.host = Some(handle::create(&CLASS, options, args, spout_host::new::<S>));
    }

    /// Asks for tuples, unless it has; they come by [`Source::poll`].
    fn next_tuple(&mut self, collector: &mut SpoutCollector<S::Out>) -> Next {
        if self.ask.is_some() || self.rest != Rest::More && !self.has_to_tell() {
            return Next::Idle;
        }
        if let Some(pause) = self.pause.take() {
            return Next::After(pause);
        }
        self.ask(self.pending_max.saturating_sub(collector.pending()));
        Next::Idle
    }

    fn ack(&mut self, id: MessageId) {
        if id != NOBODY {
            self.acked.push(id.0);
        }
    }

    fn fail(&mut self, id: MessageId, reason: &str) {
        if id != NOBODY {
            self.failed.push((id.0, reason.to_owned()));
        }
    }

    fn activate(&mut self) {
        self.active = true;
    }

    fn deactivate(&mut self) {
        self.active = false;
    }

    fn poll(&mut self, collector: &mut SpoutCollector<S::Out>) {
        match taken(&mut self.ask, self.waker.as_ref()) {
            Some(Ok(answer)) => self.answered(answer, collector),
            Some(Err(error)) => self.failed(&error, collector),
            None => {}
        }
        self.look_whether_over(collector);
        // Before an answer of the dead one is there, nothing follows from its death.
        if self.ask.is_none()
            && let Some((rung, of)) = self.ear.heard(self.waker.as_ref())
        {
            self.rung(rung, of, collector);
        }
    }

    fn tell(&mut self) {
        let lives = self.incarnation.is_some();
        if self.ask.is_none() && (self.has_to_tell() || lives && self.active != self.told_active) {
            self.ask(0);
        }
        if let (Some(host), Some(incarnation)) = (&self.host, self.incarnation)
            && self.rest != Rest::More
        {
            self.ear.listen(host, "Spout", incarnation, self.waker.as_ref());
        }
    }

    fn is_busy(&self) -> bool {
        self.ask.is_some() || self.has_to_tell()
    }

    fn close(&mut self) {
        let Some(answer) = self.call(SpoutAsk::Close) else { return };
        // Of an instance that ends nobody hears any more.
        if call::get_timeout(answer, CLEANUP_MAX).is_err()
            && let Some(host) = &self.host
        {
            host.kill();
        }
    }
}
