//! The topology's side: an operator that has the work done elsewhere.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::Waker;

use raybolt_core::ids::RequestId;
use raybolt_runtime::args::Arg;
use raybolt_runtime::call;
use raybolt_runtime::error::Error;
use raybolt_runtime::handle::{self, ActorClass, ActorHandle, ActorOptions, FOREVER};
use raybolt_runtime::method::{Body, Method};
use raybolt_runtime::object::ObjectRef;
use raybolt_runtime::options::CallOptions;
use raybolt_runtime::output::One;

use crate::batch::Batch;
use crate::bolt::BoltError;
use crate::collector::Collector;
use crate::context::Context;
use crate::factory::Seat;
use crate::instance::Operator;
use crate::processes::away::{Away, rousing};
use crate::processes::bell::Ear;
use crate::processes::host::{self, Host};
use crate::processes::kind::Kind;
use crate::processes::wire::{Answer, Ask, Packed, Place, Tuples};
use crate::processes::{CLEANUP_MAX, Open};
use crate::tuple::encode_batch;

/// How many calls an instance has under way at most, before it takes no more tuples.
pub(super) const CALLS_MAX: usize = 4;
/// How many tuples travel in one call at most.
const TUPLES_MAX: usize = 512;

/// One call at a time, and beside it the one that waits for the bell.
static CLASS: ActorClass = ActorClass { name: "Bolt", is_async: false, groups: &[("bell", 1)] };

/// Stands in place of a bolt that runs in a worker process.
pub(crate) struct Proxy<K: Kind> {
    bolt: K::Bolt,
    place: Place,
    host: Option<ActorHandle<Host<K>>>,
    waker: Option<Waker>,
    /// In the order in which they were made.
    calls: VecDeque<Call>,
    open: Open,
    /// The next tuple's name; names begin with 1.
    next: u64,
    incarnation: Option<u64>,
    /// How many tuples wait in the host, and whether it does more by itself.
    waiting: u64,
    busy: bool,
    /// Hears when the host wants a slice, or has died.
    ear: Ear,
    /// Whether a tick is under way.
    ticking: bool,
}

/// A call that is under way.
struct Call {
    answer: Away<Answer>,
    what: What,
    /// The tuples that it carries, if they are followed.
    names: Range<u64>,
    /// How many there are of those that nobody follows.
    unfollowed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Work,
    Look,
    Tick,
    Finish(RequestId),
    Abandon,
}

impl<K: Kind> Proxy<K> {
    pub(crate) fn new(bolt: K::Bolt) -> Self {
        Proxy {
            bolt,
            place: Place::default(),
            host: None,
            waker: None,
            calls: VecDeque::new(),
            open: Open::new(),
            next: 1,
            incarnation: None,
            waiting: 0,
            busy: false,
            ear: Ear::default(),
            ticking: false,
        }
    }

    fn call(&self, ask: Ask) -> Option<ObjectRef<Answer>> {
        let host = self.host.as_ref()?;
        let method = Method { name: "Bolt", group: 0, body: Body::Shared(host::ask::<K>) };
        Some(host.call::<_, One<Answer>>(method, CallOptions::new(), (Arg::Value(ask),)))
    }

    fn send(&mut self, ask: Ask, what: What, names: Range<u64>, unfollowed: u64) {
        let Some(answer) = self.call(ask) else { return };
        let answer = Away::new(answer);
        self.calls.push_back(Call { answer, what, names, unfollowed });
        if self.calls.len() == 1 && self.look() {
            // It has failed at once; whoever made it goes on first.
            self.waker.iter().for_each(Waker::wake_by_ref);
        }
    }

    /// Whether the oldest call has its answer; if not, the instance will be notified when it has.
    fn look(&mut self) -> bool {
        match (self.calls.front_mut(), &self.waker) {
            (Some(call), Some(waker)) => call.answer.look(waker),
            _ => false,
        }
    }

    /// Hears of what the host does by itself, when no call is under way that would say so.
    fn see_to_bell(&mut self, collector: &mut Collector<K::Out>) {
        if !self.calls.is_empty() {
            return;
        }
        match self.ear.heard(self.waker.as_ref()) {
            Some((Ok(()), _)) => {
                return self.send(Ask::Look, What::Look, self.next..self.next, 0);
            }
            Some((Err(error), dead)) if self.incarnation == Some(dead) => {
                let message = error.to_string();
                self.lost(0..self.next, &message, collector);
                collector.report_error(message);
            }
            Some((Err(_), _)) | None => {}
        }
        if let (Some(host), Some(incarnation)) = (&self.host, self.incarnation)
            && (self.busy || !self.open.is_empty())
        {
            self.ear.listen(host, "Bolt", incarnation, self.waker.as_ref());
        }
    }

    /// What the host did becomes what the instance did.
    fn answered(&mut self, call: &Call, answer: Answer, collector: &mut Collector<K::Out>) {
        if self.incarnation.is_some_and(|before| before != answer.incarnation) {
            // It had nothing to do when it died.
            let message = "its worker process died, and it began anew";
            self.lost(0..call.names.start, message, collector);
            collector.report_error(message);
        }
        self.incarnation = Some(answer.incarnation);
        (self.waiting, self.busy) = (answer.waiting, answer.busy);
        collector.ledger.turn_to(false);
        if let What::Finish(_) = call.what {
            collector.ledger.begin_finish();
        }
        let mut failure = answer.request_failure;
        for emitted in &answer.emitted {
            if let Err(message) = collector.replay(emitted, &mut self.open) {
                let more = emitted.more.iter().map(|(_, name)| name);
                for name in emitted.anchors.iter().chain(more) {
                    self.fail(*name, &message, collector);
                }
                collector.report_error(&message);
                failure = Some(message);
            }
        }
        collector.ledger.counters.panics += answer.panics;
        collector.ledger.counters.failed +=
            answer.failures.saturating_sub(answer.failed.len() as u64);
        for (name, message) in &answer.failed {
            self.fail(*name, message, collector);
        }
        for name in &answer.acked {
            if let Some(held) = self.open.remove(name) {
                collector.ack(held);
            }
        }
        for error in answer.errors {
            collector.report_error(error);
        }
        if let What::Finish(request) = call.what {
            collector.ledger.settle_finish(request, failure.as_deref());
        }
        if let Some(message) = &answer.state_lost {
            collector.ledger.lose_state(message);
        }
    }

    /// The call was lost, or could not be made.
    fn failed(&mut self, call: &Call, error: &Error, collector: &mut Collector<K::Out>) {
        let message = error.to_string();
        collector.ledger.turn_to(false);
        if error.is_worker_died() || error.is_actor_died() {
            self.lost(0..call.names.end, &message, collector);
        } else {
            self.fail_all(call.names.clone(), &message, collector);
        }
        collector.ledger.counters.failed += call.unfollowed;
        if let What::Finish(request) = call.what {
            collector.ledger.begin_finish();
            collector.ledger.settle_finish(request, Some(&message));
        }
        collector.report_error(message);
    }

    /// The host is gone, and with it its state and these of its tuples.
    fn lost(&mut self, names: Range<u64>, message: &str, collector: &mut Collector<K::Out>) {
        self.fail_all(names, message, collector);
        self.incarnation = None;
        (self.waiting, self.busy) = (0, false);
        collector.ledger.lose_state(&format!("lost with its instance: {message}"));
    }

    fn fail_all(&mut self, names: Range<u64>, message: &str, collector: &mut Collector<K::Out>) {
        for (_, held) in self.open.extract_if(|name, _| names.contains(name)) {
            collector.fail(held, message);
        }
    }

    fn fail(&mut self, name: u64, message: &str, collector: &mut Collector<K::Out>) {
        if let Some(held) = self.open.remove(&name) {
            collector.fail(held, message);
        }
    }

    /// Sends tuples, of these names if they are followed. One that will not become bytes has failed.
    fn send_all(
        &mut self,
        origin: (u32, u32),
        tuples: &[K::In],
        names: Range<u64>,
        collector: &mut Collector<K::Out>,
    ) {
        let is_followed = !names.is_empty();
        match encode_batch(tuples) {
            Ok(bytes) => {
                let first = is_followed.then_some(names.start);
                let unfollowed = if is_followed { 0 } else { tuples.len() as u64 };
                let tuples = Tuples { origin, first, tuples: Packed(bytes) };
                self.send(Ask::Work(tuples), What::Work, names, unfollowed);
            }
            Err(error) if tuples.len() <= 1 => {
                let message = error.to_string();
                self.fail_all(names, &message, collector);
                collector.ledger.counters.failed += u64::from(!is_followed);
                collector.report_error(message);
            }
            Err(_) => {
                let (left, right) = tuples.split_at(tuples.len() / 2);
                let middle = names.end.min(names.start + left.len() as u64);
                self.send_all(origin, left, names.start..middle, collector);
                self.send_all(origin, right, middle..names.end, collector);
            }
        }
    }
}

impl<K: Kind> Operator for Proxy<K> {
    type In = K::In;
    type Out = K::Out;

    const FINISHES_LATER: bool = true;

    fn seated(&mut self, seat: &Seat) {
        self.place.sources = seat.streams.sources().to_vec();
    }

    fn fresh(&self) -> Self {
        Proxy { place: self.place.clone(), ..Proxy::new(self.bolt.clone()) }
    }

    fn prepare(&mut self, context: &Context) {
        self.waker = Some(rousing(context.waker().0));
        self.place.topology = context.topology().to_owned();
        self.place.component = context.component().to_owned();
        self.place.instance = context.instance();
        self.place.instances = context.instances();
        let options = ActorOptions::default().max_restarts(FOREVER);
        let args = (Arg::Value(self.bolt.clone()), Arg::Value(self.place.clone()));
        self.host = Some(handle::create(&CLASS, options, args, host::new::<K>));
    }

    fn execute_batch(
        &mut self,
        batch: &mut Batch<K::In>,
        collector: &mut Collector<K::Out>,
    ) -> Result<(), BoltError> {
        let origin = (batch.origin().edge, batch.origin().instance);
        while self.calls.len() < CALLS_MAX {
            let first = self.next;
            let mut tuples = Vec::with_capacity(batch.len().min(TUPLES_MAX));
            while tuples.len() < TUPLES_MAX
                && let Some(tuple) = batch.next(collector)
            {
                if collector.ledger.follows() {
                    self.open.insert(self.next, collector.hold());
                    self.next += 1;
                }
                tuples.push(tuple);
            }
            if tuples.is_empty() {
                return Ok(());
            }
            let names = first..self.next;
            self.send_all(origin, &tuples, names, collector);
        }
        collector.ledger.fuel = 0; // Until an answer is there.
        Ok(())
    }

    fn poll(&mut self, collector: &mut Collector<K::Out>) -> bool {
        while !collector.ledger.blocked && self.look() {
            let Some(mut call) = self.calls.pop_front() else { break };
            self.ticking &= call.what != What::Tick;
            match call.answer.take() {
                Some(Ok(answer)) => self.answered(&call, answer, collector),
                Some(Err(error)) => self.failed(&call, &error, collector),
                None => {}
            }
        }
        if !collector.ledger.blocked {
            self.see_to_bell(collector);
        }
        !collector.ledger.blocked
            && self.calls.len() < CALLS_MAX
            && self.waiting < TUPLES_MAX as u64
    }

    fn is_busy(&self) -> bool {
        self.busy || !self.calls.is_empty()
    }

    /// One that comes before the last one is over is left out.
    fn tick(&mut self, _: &mut Collector<K::Out>) -> Result<(), BoltError> {
        if !std::mem::replace(&mut self.ticking, true) {
            self.send(Ask::Tick, What::Tick, self.next..self.next, 0);
        }
        Ok(())
    }

    fn finished(&mut self, request: RequestId, _: &mut Collector<K::Out>) -> Result<(), BoltError> {
        self.send(Ask::Finish(request), What::Finish(request), self.next..self.next, 0);
        Ok(())
    }

    fn abandoned(&mut self, request: RequestId) {
        self.send(Ask::Abandon(request), What::Abandon, self.next..self.next, 0);
    }

    fn cleanup(&mut self) {
        let Some(answer) = self.call(Ask::Cleanup) else { return };
        // Of an instance that ends nobody hears any more.
        if call::get_timeout(answer, CLEANUP_MAX).is_err()
            && let Some(host) = &self.host
        {
            host.kill();
        }
    }
}
