//! Where user code puts what it emits.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use raybolt_core::flow::batches::Report;
use raybolt_core::ids::{RequestId, RootId};

use crate::batch::Origin;
use crate::ledger::{Kept, Ledger};
use crate::processes::wire::Emitted;
use crate::processes::{Captured, Open};
use crate::routing::{AnyOutlet, Outlet};
use crate::shared::Place;
use crate::spout::MessageId;
use crate::task::Task;
use crate::tuple::Tuple;
use crate::wiring::{Streams, Wiring};

/// Where a bolt emits. What is emitted on a stream that nobody reads goes nowhere.
pub struct Collector<Out> {
    main: Outlet<Out>,
    /// The further streams, in the order of declaration.
    others: Vec<Box<dyn AnyOutlet>>,
    streams: Arc<Streams>,
    pub(crate) origin: Option<Origin>,
    pub(crate) ledger: Ledger,
}

impl<Out: Tuple> Collector<Out> {
    pub(crate) fn new(streams: Arc<Streams>, ledger: Ledger) -> Self {
        let others = streams.others().map(|stream| (stream.outlet)()).collect();
        Collector { main: Outlet::new(), others, streams, origin: None, ledger }
    }

    /// Emits on the default stream, anchored to the tuple taken last.
    #[inline]
    pub fn emit(&mut self, tuple: Out) {
        self.ledger.counters.emitted += 1;
        self.main.send(tuple, &mut self.ledger);
    }

    /// Emits all of these on the default stream, anchored to the tuple taken last: as
    /// [`emit`](Collector::emit) for each, but cheaper.
    ///
    /// Where instances read the stream in turn (shuffle), an instance may get several tuples in a
    /// row: as many as it works off in about the time that waking another one costs. So what is
    /// slow is still shared out one by one.
    #[inline]
    pub fn emit_all(&mut self, tuples: impl IntoIterator<Item = Out>) {
        self.main.send_all(tuples.into_iter(), &mut self.ledger);
    }

    /// Emits on another stream, anchored to the tuple taken last.
    ///
    /// # Panics
    /// When the component has not declared such a stream of this type.
    pub fn emit_on<T: Tuple>(&mut self, stream: &str, tuple: T) {
        self.ledger.counters.emitted += 1;
        let (outlet, ledger) = self.outlet::<T>(stream);
        outlet.send(tuple, ledger);
    }

    /// Emits on a direct stream to one instance of each component that reads it by direct grouping.
    ///
    /// # Panics
    /// When the component has not declared such a stream of this type, the stream is not direct,
    /// or there is no such instance.
    pub fn emit_direct<T: Tuple>(&mut self, stream: &str, instance: usize, tuple: T) {
        self.ledger.counters.emitted += 1;
        let (outlet, ledger) = self.outlet::<T>(stream);
        if let Err(error) = outlet.send_direct(instance, &tuple, ledger) {
            panic!("direct emit on stream `{stream}`: {error}");
        }
    }

    /// Emits on the default stream, anchored to these tuples alone: for joins and aggregations.
    pub fn emit_anchored<'h>(
        &mut self,
        anchors: impl IntoIterator<Item = &'h mut Held>,
        tuple: Out,
    ) {
        let mut words: Vec<&mut (u64, u64)> = anchors
            .into_iter()
            .flat_map(|held| held.kept.iter_mut().flat_map(|k| &mut k.roots))
            .collect();
        let adopting = self.ledger.adopt(words.iter().map(|word| **word));
        // A grouping of a user may panic: the tuple at hand has to be given back all the same.
        let emitted = catch_unwind(AssertUnwindSafe(|| self.emit(tuple)));
        for (word, after) in words.iter_mut().zip(self.ledger.release(adopting)) {
            **word = after;
        }
        if let Err(panic) = emitted {
            resume_unwind(panic);
        }
    }

    /// Sets the tuple taken last aside: it is processed when the token says so. What was emitted
    /// until now is anchored to it; what follows only by [`Collector::emit_anchored`].
    pub fn hold(&mut self) -> Held {
        let kept = self.ledger.hold();
        Held { kept: Some(kept), place: self.ledger.place, task: self.ledger.task.clone() }
    }

    /// A tuple that was set aside has been processed. Cheaper than [`Held::ack`].
    pub fn ack(&mut self, mut held: Held) {
        if let Some(kept) = held.kept.take() {
            self.ledger.ack(kept);
        }
    }

    /// A tuple that was set aside has failed. Cheaper than [`Held::fail`].
    pub fn fail(&mut self, mut held: Held, message: &str) {
        if let Some(kept) = held.kept.take() {
            self.ledger.fail(kept, message);
        }
    }

    /// Records an error without failing anything.
    pub fn report_error(&mut self, error: impl std::fmt::Display) {
        self.ledger.shared.record_error(self.ledger.place, error.to_string());
    }

    /// Where the tuple taken last comes from.
    pub fn source(&self) -> Option<Source<'_>> {
        let origin = self.origin?;
        let (component, stream) = self.streams.source(origin.edge)?;
        Some(Source { component, stream, instance: origin.instance as usize })
    }

    /// Ships what was emitted.
    pub(crate) fn ship(&mut self) {
        self.main.flush(&mut self.ledger);
        for outlet in &mut self.others {
            outlet.flush(&mut self.ledger);
        }
    }

    /// Reports what was done.
    pub(crate) fn report(&mut self) {
        self.ledger.report();
        if let Some(task) = self.ledger.roused.take() {
            task.schedule_next();
        }
    }

    /// Tries to ship what found no room; says whether the instance may go on.
    pub(crate) fn unblock(&mut self) -> bool {
        if !self.ledger.blocked {
            return true;
        }
        let mut clear = self.main.retry(&mut self.ledger);
        for outlet in &mut self.others {
            clear &= outlet.retry(&mut self.ledger);
        }
        self.ledger.blocked = !clear;
        clear
    }

    pub(crate) fn connect(&mut self, wiring: &Wiring) {
        self.main.connect(wiring, &self.ledger, 0);
        for (index, outlet) in self.others.iter_mut().enumerate() {
            outlet.connect(wiring, &self.ledger, index + 1);
        }
    }

    /// Keeps what is emitted from now on, instead of sending it to instances.
    pub(crate) fn capture(&mut self, into: &Arc<Captured>, task: &Arc<Task>) {
        self.main.capture(0, into, task);
        for (index, outlet) in self.others.iter_mut().enumerate() {
            outlet.capture(index + 1, into, task);
        }
    }

    /// Emits what was [captured](Collector::capture) in another process, anchored to what is open here.
    pub(crate) fn replay(&mut self, emitted: &Emitted, open: &mut Open) -> Result<(), String> {
        match self.outlet_at(emitted.stream) {
            Some((outlet, ledger)) => outlet.replay(emitted, open, ledger),
            None => Err(no_stream(emitted.stream)),
        }
    }

    /// Emits what a spout emitted in another process. A tuple that it wants followed gets the root that `begin`
    /// gives for the name it has there.
    fn replay_roots(
        &mut self,
        emitted: &Emitted,
        begin: &mut dyn FnMut(u64) -> u64,
    ) -> Result<(), String> {
        match self.outlet_at(emitted.stream) {
            Some((outlet, ledger)) => outlet.replay_roots(emitted, begin, ledger),
            None => Err(no_stream(emitted.stream)),
        }
    }

    /// A stream by its number.
    fn outlet_at(&mut self, stream: u32) -> Option<(&mut dyn AnyOutlet, &mut Ledger)> {
        let outlet: &mut dyn AnyOutlet = match stream as usize {
            0 => &mut self.main,
            index => self.others.get_mut(index - 1)?.as_mut(),
        };
        Some((outlet, &mut self.ledger))
    }

    fn outlet<T: Tuple>(&mut self, stream: &str) -> (&mut Outlet<T>, &mut Ledger) {
        let outlet: &mut dyn AnyOutlet = match self.streams.find(stream) {
            Some(0) => &mut self.main,
            Some(index) => self.others[index - 1].as_mut(),
            None => panic!("{}", self.streams.unknown(stream)),
        };
        match outlet.as_any().downcast_mut() {
            Some(outlet) => (outlet, &mut self.ledger),
            None => panic!("{}", self.streams.mismatch::<T>(stream)),
        }
    }
}

fn no_stream(stream: u32) -> String {
    format!("an answer for stream {stream}, which is not there")
}

/// Where a tuple comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// The component that emitted it.
    pub component: &'a str,
    /// The stream it was emitted on.
    pub stream: &'a str,
    /// The instance that emitted it.
    pub instance: usize,
}

/// A tuple that a bolt has set aside. Dropping it fails the tuple.
#[must_use = "dropping it fails the tuple"]
pub struct Held {
    kept: Option<Kept>,
    place: Place,
    task: Arc<Task>,
}

impl Held {
    /// What follows the tuple.
    pub(crate) fn roots(&self) -> &[(u64, u64)] {
        self.kept.as_ref().map_or(&[], |kept| &kept.roots)
    }

    /// What follows the tuple, to anchor what was emitted because of it elsewhere.
    pub(crate) fn roots_mut(&mut self) -> &mut [(u64, u64)] {
        self.kept.as_mut().map_or(&mut [], |kept| &mut kept.roots)
    }

    /// The tuple has been processed. Works on any thread.
    pub fn ack(mut self) {
        if let Some(kept) = self.kept.take() {
            self.settle(kept, None);
        }
    }

    /// The tuple has failed. Works on any thread.
    pub fn fail(mut self, message: &str) {
        if let Some(kept) = self.kept.take() {
            self.settle(kept, Some(message));
        }
    }

    fn settle(&self, kept: Kept, failure: Option<&str>) {
        if kept.roots.is_empty() && kept.request.is_none() {
            return; // Nobody follows it.
        }
        if let Some(kept) = self.task.settle(kept, failure.map(str::to_owned)) {
            self.settle_here(kept, failure);
        }
    }

    /// Without the instance, which is over.
    fn settle_here(&self, kept: Kept, failure: Option<&str>) {
        let shared = self.task.shared();
        if !kept.roots.is_empty() {
            shared.track(|acks, now| {
                for &(root, word) in &kept.roots {
                    match failure {
                        Some(message) => acks.failed(now, RootId(root), word, message),
                        None => acks.folded(now, &[(RootId(root), word)]),
                    }
                }
            });
        }
        if let Some(request) = kept.request {
            let Place { component, instance } = self.place;
            shared.coordinate(|batches| {
                if let Some(message) = failure {
                    batches.failed(request, message);
                }
                let processed = kept.count;
                batches.reported(Report { request, component, instance, processed, sent: &[] });
            });
        }
        if let Some(message) = failure {
            shared.record_error(self.place, message.to_owned());
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.settle(kept, Some("a held tuple was dropped without ack or fail"));
        }
    }
}

/// Where a spout emits.
pub struct SpoutCollector<Out> {
    pub(crate) inner: Collector<Out>,
    /// The message ids of roots that are pending.
    pub(crate) pending: raybolt_core::hash::IdMap<RootId, MessageId>,
    /// The number of the last root; numbers of different spouts differ in their high bits.
    last_root: u64,
}

impl<Out: Tuple> SpoutCollector<Out> {
    pub(crate) fn new(inner: Collector<Out>) -> Self {
        let last_root = u64::from(inner.ledger.spout.0 + 1) << 40;
        SpoutCollector { inner, pending: Default::default(), last_root }
    }

    /// Emits on the default stream; nobody follows what comes of it. In a coordinated topology, a
    /// tuple with a request id brings that request in: all its tuples have to be emitted in one
    /// call of `next_tuple`, in a row.
    #[inline]
    pub fn emit(&mut self, tuple: Out) {
        self.enter(tuple.request_id());
        self.inner.emit(tuple);
    }

    /// Emits on the default stream, and lets the spout know by this id what became of it.
    #[inline]
    pub fn emit_with_id(&mut self, tuple: Out, id: MessageId) {
        self.enter(tuple.request_id());
        self.followed(id, |inner| inner.emit(tuple));
    }

    /// Emits on another stream; nobody follows what comes of it.
    ///
    /// # Panics
    /// When the component has not declared such a stream of this type.
    pub fn emit_on<T: Tuple>(&mut self, stream: &str, tuple: T) {
        self.enter(tuple.request_id());
        self.inner.emit_on(stream, tuple);
    }

    /// Emits on another stream, and lets the spout know by this id what became of it.
    ///
    /// # Panics
    /// When the component has not declared such a stream of this type.
    pub fn emit_on_with_id<T: Tuple>(&mut self, stream: &str, tuple: T, id: MessageId) {
        self.enter(tuple.request_id());
        self.followed(id, |inner| inner.emit_on(stream, tuple));
    }

    /// Emits on a direct stream to one instance; nobody follows what comes of it.
    ///
    /// # Panics
    /// As [`Collector::emit_direct`].
    pub fn emit_direct<T: Tuple>(&mut self, stream: &str, instance: usize, tuple: T) {
        self.enter(tuple.request_id());
        self.inner.emit_direct(stream, instance, tuple);
    }

    /// Fails a request that this spout has brought in, if it is open still.
    pub fn cancel_request(&mut self, request: RequestId, reason: &str) {
        self.inner.ledger.cancelled.push((request, reason.into()));
    }

    /// Records an error.
    pub fn report_error(&mut self, error: impl std::fmt::Display) {
        self.inner.report_error(error);
    }

    /// How many tuples emitted with an id are neither acked nor failed.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Emits what the spout emitted in another process, where tuples that it wants followed have names: these
    /// are told what became of them by `MessageId(name)`.
    pub(crate) fn replay(&mut self, emitted: &Emitted) -> Result<(), String> {
        let Self { inner, pending, last_root } = self;
        inner.replay_roots(emitted, &mut |name| {
            *last_root += 1;
            pending.insert(RootId(*last_root), MessageId(name));
            *last_root
        })
    }

    #[inline]
    fn followed(&mut self, id: MessageId, emit: impl FnOnce(&mut Collector<Out>)) {
        self.last_root += 1;
        self.pending.insert(RootId(self.last_root), id);
        self.inner.ledger.begin_root(self.last_root);
        emit(&mut self.inner);
        self.inner.ledger.end_root();
    }

    #[inline]
    fn enter(&mut self, request: Option<RequestId>) {
        if let Some(request) = request
            && self.inner.ledger.is_coordinated()
        {
            self.inner.ledger.begin_request(request);
        }
    }
}
