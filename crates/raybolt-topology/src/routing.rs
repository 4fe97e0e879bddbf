//! The way of a tuple from a collector to the inboxes of its consumers.
//!
//! ```text
//! emit -> Outlet (one per stream) -> Way (one per subscription) -> Port (one per target instance)
//!                                    router, key                   a growing batch
//! ```
//! A port collects tuples of its own type in a plain `Vec`, and ships them as one batch when it holds
//! [`BATCH_TUPLES`], or when the instance's slice ends. A batch that finds its consumer's inbox full
//! stays in the port, and the instance is *blocked*: it takes no tuple before all ports are clear again.
//!
//! Many tuples at once ([`Collector::emit_all`](crate::Collector::emit_all)) are routed in one loop, which counts them
//! in a register, and deals them out in *turns* where instances take turns.
//!
//! # Invariants
//! - **ROUTE-1 (nothing lies).** At the end of a slice every tuple that was emitted is in an inbox, or in
//!   a port whose instance will be woken by the consumer.
//! - **ROUTE-2 (in order).** A port ships its batches in order: a later one never overtakes one that waits.

use std::any::Any;
use std::collections::VecDeque;
use std::hash::Hasher;
use std::sync::Arc;

use rapidhash::fast::RapidHasher;
use raybolt_core::flow::grouping::{Grouping, RouteError, Router, RouterOptions, Targets, place};
use raybolt_core::hash::mix;
use raybolt_core::ids::InstanceIndex;

use crate::batch::{Anchor, Batch, Origin};
use crate::inbox::Sink;
use crate::ledger::{Ledger, Row};
use crate::processes::wire::Emitted;
use crate::processes::{self, Captured, Open};
use crate::task::Task;
use crate::tuple::Tuple;
use crate::wiring::Wiring;

/// How many tuples a port collects before it ships them: enough to make the cost of a lock and a
/// wake-up vanish, few enough to stay in the cache until the consumer reads them.
pub const BATCH_TUPLES: usize = 512;

/// A grouping written by the user, for tuples of one type.
pub trait CustomGrouping<T>: Send + 'static {
    /// Appends to `chosen` the instances (numbered from 0, below `instances`) that get the tuple;
    /// numbers beyond are ignored.
    fn choose(&mut self, tuple: &T, instances: usize, chosen: &mut Vec<usize>);
}

impl<T, F: FnMut(&T, usize, &mut Vec<usize>) + Send + 'static> CustomGrouping<T> for F {
    fn choose(&mut self, tuple: &T, instances: usize, chosen: &mut Vec<usize>) {
        self(tuple, instances, chosen);
    }
}

/// Makes the grouping of one producer instance.
pub(crate) type MakeCustom<T> = Arc<dyn Fn() -> Box<dyn CustomGrouping<T>> + Send + Sync>;

/// One output stream of one instance, whatever its type.
pub(crate) trait AnyOutlet: Send {
    /// Ships what the ports hold.
    fn flush(&mut self, ledger: &mut Ledger);

    /// Tries again to ship what found no room; says whether all ports are clear.
    fn retry(&mut self, ledger: &mut Ledger) -> bool;

    /// Builds the ports anew; all must be empty.
    fn connect(&mut self, wiring: &Wiring, ledger: &Ledger, stream: usize);

    /// Sends everything to one place that keeps it for another process.
    fn capture(&mut self, stream: usize, into: &Arc<Captured>, task: &Arc<Task>);

    /// Sends what was captured in another process.
    fn replay(
        &mut self,
        emitted: &Emitted,
        open: &mut Open,
        ledger: &mut Ledger,
    ) -> Result<(), String>;

    /// Sends what a spout emitted in another process, each tuple as the root that `begin` gives for its name.
    fn replay_roots(
        &mut self,
        emitted: &Emitted,
        begin: &mut dyn FnMut(u64) -> u64,
        ledger: &mut Ledger,
    ) -> Result<(), String>;

    fn as_any(&mut self) -> &mut dyn Any;
}

/// One output stream of one instance.
pub(crate) struct Outlet<T> {
    ways: Vec<Way<T>>,
}

impl<T: Tuple> Outlet<T> {
    pub(crate) fn new() -> Self {
        Outlet { ways: Vec::new() }
    }

    /// Sends the tuple along every subscription.
    #[inline]
    pub(crate) fn send(&mut self, tuple: T, ledger: &mut Ledger) {
        let Some((last, others)) = self.ways.split_last_mut() else { return };
        for way in others {
            way.send(tuple.clone(), ledger);
        }
        last.send(tuple, ledger);
    }

    /// Sends the tuples along every subscription.
    #[inline]
    pub(crate) fn send_all(&mut self, tuples: impl Iterator<Item = T>, ledger: &mut Ledger) {
        if let [way] = self.ways.as_mut_slice()
            && way.single
            && ledger.is_unanchored()
        {
            return way.send_all(tuples, ledger);
        }
        for tuple in tuples {
            ledger.counters.emitted += 1;
            self.send(tuple, ledger);
        }
    }

    /// Sends the tuple to this instance of every subscriber with direct grouping.
    pub(crate) fn send_direct(
        &mut self,
        instance: usize,
        tuple: &T,
        ledger: &mut Ledger,
    ) -> Result<(), RouteError> {
        let instance = InstanceIndex(u32::try_from(instance).unwrap_or(u32::MAX));
        for way in &mut self.ways {
            let target = way.router.direct(instance)?;
            way.deliver(target.index(), tuple.clone(), ledger);
        }
        Ok(())
    }
}

impl<T: Tuple> AnyOutlet for Outlet<T> {
    fn flush(&mut self, ledger: &mut Ledger) {
        for port in self.ways.iter_mut().flat_map(|way| &mut way.ports) {
            if !port.tuples.is_empty() {
                port.ship(ledger, Urgency::SliceEnds);
            }
        }
    }

    fn retry(&mut self, ledger: &mut Ledger) -> bool {
        let mut clear = true;
        for port in self.ways.iter_mut().flat_map(|way| &mut way.ports) {
            clear &= port.retry(ledger);
        }
        clear
    }

    fn connect(&mut self, wiring: &Wiring, ledger: &Ledger, stream: usize) {
        self.ways = wiring.ways(ledger, stream);
    }

    fn capture(&mut self, stream: usize, into: &Arc<Captured>, task: &Arc<Task>) {
        self.ways = vec![Way::new(WayOptions {
            grouping: &Grouping::Global,
            custom: None,
            key_fields: &[],
            sinks: vec![processes::capture::<T>(stream, into, task)],
            slot: 0,
            origin: Origin { edge: 0, instance: 0 },
            seed: 0,
        })];
    }

    fn replay(
        &mut self,
        emitted: &Emitted,
        open: &mut Open,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        processes::replay(emitted, open, ledger, |tuple: T, ledger| self.send(tuple, ledger))
    }

    fn replay_roots(
        &mut self,
        emitted: &Emitted,
        begin: &mut dyn FnMut(u64) -> u64,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        processes::replay_roots(emitted, begin, ledger, |tuple: T, ledger| self.send(tuple, ledger))
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// One subscription to a stream, seen from one producer instance.
pub(crate) struct Way<T> {
    router: Router,
    custom: Option<Custom<T>>,
    key_fields: Box<[usize]>,
    /// Whether each tuple goes to exactly one instance, which the router chooses.
    single: bool,
    /// Whether it is chosen by all fields of the tuple, in order.
    whole_key: bool,
    /// Whether instances get tuples in turn: several at once, if they come together.
    in_turns: bool,
    turn_of: InstanceIndex,
    turn_left: u32,
    ports: Box<[Port<T>]>,
    /// The consumer's place among the components downstream.
    slot: usize,
}

struct Custom<T> {
    grouping: Box<dyn CustomGrouping<T>>,
    chosen: Vec<usize>,
}

/// What a way is made from.
pub(crate) struct WayOptions<'a, T> {
    pub(crate) grouping: &'a Grouping,
    pub(crate) custom: Option<Box<dyn CustomGrouping<T>>>,
    pub(crate) key_fields: &'a [usize],
    pub(crate) sinks: Vec<Arc<dyn Sink<T>>>,
    pub(crate) slot: usize,
    pub(crate) origin: Origin,
    pub(crate) seed: u64,
}

impl<T: Tuple> Way<T> {
    pub(crate) fn new(options: WayOptions<'_, T>) -> Self {
        let WayOptions { grouping, custom, key_fields, sinks, slot, origin, seed } = options;
        let instances = sinks.len() as u32;
        let local = (0..instances).map(InstanceIndex).collect();
        // A custom grouping decides by itself below; the router only checks direct emits then.
        let rule = if custom.is_some() { &Grouping::Shuffle } else { grouping };
        let single = custom.is_none() && !matches!(grouping, Grouping::All | Grouping::Direct);
        let whole_key = matches!(grouping, Grouping::Fields(_))
            && !T::DYNAMIC
            && key_fields.iter().copied().eq(0..T::FIELDS.len());
        Way {
            single,
            whole_key,
            in_turns: matches!(rule, Grouping::Shuffle | Grouping::None | Grouping::LocalOrShuffle),
            turn_of: InstanceIndex(0),
            turn_left: 0,
            router: Router::new(rule, &RouterOptions { instances, local, seed }),
            custom: custom.map(|grouping| Custom { grouping, chosen: Vec::new() }),
            key_fields: key_fields.into(),
            ports: sinks.into_iter().map(|sink| Port::new(sink, origin)).collect(),
            slot,
        }
    }

    #[inline]
    fn send(&mut self, tuple: T, ledger: &mut Ledger) {
        if self.custom.is_some() {
            return self.send_custom(tuple, ledger);
        }
        // With one instance every rule but `Direct` has the same answer.
        if self.ports.len() == 1 && !self.router.is_direct() {
            return self.deliver(0, tuple, ledger);
        }
        match self.router.route(self.key(&tuple)) {
            Targets::One(instance) => self.deliver(instance.index(), tuple, ledger),
            Targets::All => self.deliver_to_all(tuple, ledger),
            Targets::Chosen => {}
        }
    }

    /// As [`Way::send`] for each, when each goes to one instance and none needs an anchor.
    #[inline]
    fn send_all(&mut self, tuples: impl Iterator<Item = T>, ledger: &mut Ledger) {
        let instances = self.ports.len() as u32;
        if self.whole_key {
            return self.send_each(tuples, ledger, |_, tuple| place(whole_key(tuple), instances));
        }
        if self.in_turns {
            return self.send_each(tuples, ledger, |way, _| way.turn());
        }
        self.send_each(tuples, ledger, |way, tuple| way.route_one(way.key(tuple)));
    }

    /// Whose turn it is. A turn has as many tuples as keep the consumer busy for a while: sharing
    /// out so little work costs more than it gains, and what belongs together stays together.
    #[inline]
    fn turn(&mut self) -> InstanceIndex {
        if self.turn_left == 0 {
            self.turn_of = self.route_one(0);
            self.turn_left = self.ports[self.turn_of.index()].sink.consumer().per_turn();
        }
        self.turn_left -= 1;
        self.turn_of
    }

    #[inline]
    fn route_one(&mut self, key: u64) -> InstanceIndex {
        match self.router.route(key) {
            Targets::One(instance) => instance,
            Targets::All | Targets::Chosen => unreachable!("each goes to one instance"),
        }
    }

    #[inline]
    fn send_each(
        &mut self,
        tuples: impl Iterator<Item = T>,
        ledger: &mut Ledger,
        choose: impl Fn(&mut Self, &T) -> InstanceIndex,
    ) {
        let coordinated = ledger.is_coordinated();
        let mut row = Row::new(ledger, self.slot);
        for tuple in tuples {
            row.add(if coordinated { tuple.request_id() } else { None });
            let instance = choose(self, &tuple);
            let port = &mut self.ports[instance.index()];
            if !port.anchors.is_empty() {
                port.anchors.push(Anchor::NONE);
            }
            port.push(tuple, row.ledger);
        }
    }

    #[inline]
    fn key(&self, tuple: &T) -> u64 {
        key(&self.key_fields, tuple)
    }

    #[inline]
    fn deliver(&mut self, instance: usize, tuple: T, ledger: &mut Ledger) {
        let port = &mut self.ports[instance];
        if ledger.follows() {
            let (anchor, more) = ledger.sends(self.slot, tuple.request_id());
            port.anchor(anchor);
            if more {
                let at = port.tuples.len() as u32;
                port.more.extend(ledger.more_edges().map(|anchor| (at, anchor)));
            }
        } else if !port.anchors.is_empty() {
            port.anchors.push(Anchor::NONE);
        }
        port.push(tuple, ledger);
    }

    fn deliver_to_all(&mut self, tuple: T, ledger: &mut Ledger) {
        let last = self.ports.len() - 1;
        for instance in 0..last {
            self.deliver(instance, tuple.clone(), ledger);
        }
        self.deliver(last, tuple, ledger);
    }

    fn send_custom(&mut self, tuple: T, ledger: &mut Ledger) {
        let Some(custom) = &mut self.custom else { return };
        custom.chosen.clear();
        custom.grouping.choose(&tuple, self.ports.len(), &mut custom.chosen);
        let mut chosen = std::mem::take(&mut custom.chosen);
        chosen.retain(|instance| *instance < self.ports.len());
        for &instance in &chosen {
            self.deliver(instance, tuple.clone(), ledger);
        }
        if let Some(custom) = &mut self.custom {
            custom.chosen = chosen; // Its memory is used again.
        }
    }
}

/// The key of the tuple; constant for groupings without key fields.
#[inline]
fn key<T: Tuple>(fields: &[usize], tuple: &T) -> u64 {
    let mut hasher = KeyHasher::default();
    for &field in fields {
        tuple.hash_field(field, &mut hasher);
    }
    hasher.finish()
}

/// The key of the tuple, if it consists of all fields: the loop is known when this is compiled.
#[inline]
fn whole_key<T: Tuple>(tuple: &T) -> u64 {
    let mut hasher = KeyHasher::default();
    for field in 0..T::FIELDS.len() {
        tuple.hash_field(field, &mut hasher);
    }
    hasher.finish()
}

/// Hashes the fields of keys, with a fixed seed. Most keys are one or two integers, and each of them
/// costs one multiplication.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut hasher = RapidHasher::default_const();
        hasher.write(bytes);
        self.write_u64(hasher.finish());
    }

    #[inline]
    fn write_u64(&mut self, integer: u64) {
        self.0 = mix(self.0 ^ integer);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// What was emitted for one target instance and has not been shipped.
struct Port<T> {
    sink: Arc<dyn Sink<T>>,
    tuples: Vec<T>,
    /// As many as tuples, or none.
    anchors: Vec<Anchor>,
    more: Vec<(u32, Anchor)>,
    /// Batches that found no room, oldest first.
    waiting: VecDeque<Batch<T>>,
    /// How many tuples the last batch had: as many are made room for at once.
    expected: usize,
    origin: Origin,
}

/// Why a port ships.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// It is full, and the slice goes on: another thread should take the consumer.
    Full,
    /// The slice ends: this thread may take the consumer, the batch is in its cache.
    SliceEnds,
}

impl<T> Port<T> {
    fn new(sink: Arc<dyn Sink<T>>, origin: Origin) -> Self {
        Port {
            sink,
            tuples: Vec::new(),
            anchors: Vec::new(),
            more: Vec::new(),
            waiting: VecDeque::new(),
            expected: 0,
            origin,
        }
    }

    #[inline]
    fn anchor(&mut self, anchor: Anchor) {
        if anchor == Anchor::NONE && self.anchors.is_empty() {
            return;
        }
        // Tuples before it were not followed.
        self.anchors.resize(self.tuples.len(), Anchor::NONE);
        self.anchors.push(anchor);
    }

    /// Adds a tuple whose anchor, if the port has any, was added before.
    #[inline]
    fn push(&mut self, tuple: T, ledger: &mut Ledger) {
        if self.tuples.len() == self.tuples.capacity() {
            self.grow();
        }
        self.tuples.push(tuple);
        if self.tuples.len() >= BATCH_TUPLES {
            self.ship(ledger, Urgency::Full);
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.tuples.reserve(self.expected.max(4));
    }

    #[inline(never)]
    fn ship(&mut self, ledger: &mut Ledger, urgency: Urgency) {
        let tuples = std::mem::take(&mut self.tuples);
        ledger.counters.transferred += tuples.len() as u64;
        if tuples.len() > self.expected {
            self.expected = tuples.len();
        } else {
            self.expected = (self.expected + tuples.len()) / 2;
        }
        let anchors = std::mem::take(&mut self.anchors);
        let batch = Batch::new(tuples, anchors, std::mem::take(&mut self.more), self.origin);
        if !self.waiting.is_empty() {
            self.waiting.push_back(batch);
            return ledger.block();
        }
        match self.sink.push(batch, &ledger.task) {
            Ok(spare) => {
                (self.tuples, self.anchors) = (spare.tuples, spare.anchors);
                self.rouse(ledger, urgency);
            }
            Err(batch) => {
                self.waiting.push_back(batch);
                ledger.block();
            }
        }
    }

    fn retry(&mut self, ledger: &mut Ledger) -> bool {
        while let Some(batch) = self.waiting.pop_front() {
            match self.sink.push(batch, &ledger.task) {
                Ok(_) => self.rouse(ledger, Urgency::Full),
                Err(batch) => {
                    self.waiting.push_front(batch);
                    return false;
                }
            }
        }
        true
    }

    fn rouse(&self, ledger: &mut Ledger, urgency: Urgency) {
        let consumer = self.sink.consumer();
        if !consumer.claim() {
            return;
        }
        match urgency {
            Urgency::Full => consumer.clone().schedule(),
            Urgency::SliceEnds => {
                if let Some(before) = ledger.roused.replace(consumer.clone()) {
                    before.schedule();
                }
            }
        }
    }
}
