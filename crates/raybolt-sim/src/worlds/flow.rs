//! Spouts, bolts and the ack tracker, with lost deliveries and reports, failing and dying bolts.
//!
//! # What runs
//! A random graph whose tuples are routed by the production routers, and one or two production
//! trackers ([`Acks`]), each for its share of the roots. Instances take what lies in their inbox, send
//! on what a tuple derives, and report once per batch. Spouts replay what failed.
//!
//! # Faults
//! Deliveries and reports are lost; reports overtake each other, and the spout's; bolts fail tuples and
//! die with all that lies in their inbox; slow tuples ask for more time. A report is never repeated, for
//! ACK-1 demands that of links.
//!
//! # Demanded
//! What [`Roots`] checks, all the time; and after healing: every message acked, nothing untold, the
//! trackers empty.

use std::collections::BTreeMap;
use std::time::Duration;

use raybolt_core::flow::acks::{AckEffect, Acks, FailReason};
use raybolt_core::ids::{InstanceId, RootId};
use raybolt_core::plant::Plants;

use super::dag::{Dag, Place, Routes};
use crate::checkers::roots::Roots;
use crate::clock::{Clock, Micros};
use crate::network::{Network, Profile};
use crate::rng::Rng;
use crate::trace::{Trace, Verdict, require};

/// Faults end after so many events, if not before.
const FAULTY_EVENTS_MAX: u64 = 200_000;

/// What the seed decided.
#[derive(Debug)]
struct Options {
    messages: u64,
    max_pending: usize,
    tree_tuples_max: u64,
    trackers: u64,
    timeout_us: Micros,
    link_us: Micros,
    work_us: Micros,
    batch_tuples: usize,
    loss: u32,
    fail: u32,
    extend: u32,
    die_every_us: Option<Micros>,
    heal_at_us: Micros,
}

impl Options {
    fn random(rng: &mut Rng, dag: &Dag) -> Self {
        // A few worlds are large in roots, so that what is swept now and then is swept; not those where
        // each root goes to dozens of instances.
        let is_large = rng.chance(30) && dag.bolt_places().len() <= 20;
        let max_pending = rng.count(1..=if is_large { 3_000 } else { 20 });
        let tree_tuples_max = if is_large { 2 } else { 1 << rng.below(6) };
        let work_us = rng.within(&(1..=20));
        // Longer than all that is pending takes at one instance: else a healthy world would replay what
        // is merely late, and never come to rest.
        let busy_us = 8 * u64::from(max_pending) * tree_tuples_max * work_us;
        Options {
            messages: if is_large { 5_000 } else { rng.within(&(1..=200)) },
            max_pending: max_pending as usize,
            tree_tuples_max,
            trackers: rng.within(&(1..=2)),
            timeout_us: busy_us + rng.within(&(20_000..=200_000)),
            link_us: rng.within(&(2..=800)),
            work_us,
            batch_tuples: rng.count(1..=16) as usize,
            loss: rng.fault(60),
            fail: rng.fault(60),
            extend: rng.fault(50),
            die_every_us: rng.chance(400).then(|| rng.within(&(500..=50_000))),
            heal_at_us: rng.within(&(1_000..=800_000)),
        }
    }
}

#[derive(Debug)]
enum Event {
    /// The spout instance may emit.
    SpoutTurn(u32),
    /// A tuple arrives at an instance.
    Arrive(Place, Tuple),
    /// An instance takes the next batch from its inbox.
    Work(Place),
    /// A report arrives at its tracker.
    Report(u64, Report),
    /// A spout hears what became of a message.
    Told {
        spout: u32,
        message: u64,
        acked: bool,
    },
    /// A tracker's deadline may have come.
    Tick(u64),
    Die,
    Heal,
}

/// One delivery of one tuple.
#[derive(Clone, Debug)]
struct Tuple {
    root: RootId,
    edge: u64,
    /// How many tuples may be derived from it, itself included: bounds the tree.
    budget: u64,
}

/// What travels to a tracker.
#[derive(Debug)]
enum Report {
    Emitted(InstanceId, RootId, u64),
    Folded(Vec<(RootId, u64)>),
    Failed(RootId, u64),
    Extended(RootId),
}

/// One instance of a bolt.
#[derive(Debug, Default)]
struct Instance {
    inbox: Vec<Tuple>,
    busy: bool,
}

/// One instance of the spout.
#[derive(Debug)]
struct Spout {
    /// Messages to be emitted, again or for the first time.
    messages: Vec<u64>,
    pending: usize,
}

struct World<'a> {
    options: Options,
    dag: Dag,
    routes: Routes,
    clock: Clock<Event>,
    rng: Rng,
    network: Network<Place>,
    trackers: Vec<Acks>,
    /// When each tracker's next tick is planned.
    ticks: Vec<Option<Micros>>,
    instances: BTreeMap<Place, Instance>,
    spouts: Vec<Spout>,
    acked: u64,
    healed: bool,
    roots: Roots,
    trace: &'a mut Trace,
}

/// Runs one seed's flow world to its end.
pub fn run(mut rng: Rng, plants: Plants, trace: &mut Trace) -> Verdict {
    let dag = Dag::random(&mut rng, 5);
    let options = Options::random(&mut rng, &dag);
    trace.options = format!("flow: {options:?}, graph: {dag}");
    World::new(options, dag, rng, plants, trace).run()
}

impl<'a> World<'a> {
    fn new(options: Options, dag: Dag, mut rng: Rng, plants: Plants, trace: &'a mut Trace) -> Self {
        let clock = Clock::new();
        let timeout = Duration::from_micros(options.timeout_us);
        let tracker = |_| Acks::with_plants(clock.instant(), timeout, plants);
        let trackers = (0..options.trackers).map(tracker).collect();
        let delay_us = 1..=options.link_us;
        let profile = Profile { delay_us, ordered: false, loss: options.loss, repeat: 0 };
        let spouts = u64::from(dag.components[0].instances);
        let spout = |index| Spout {
            messages: (0..options.messages).filter(|message| message % spouts == index).collect(),
            pending: 0,
        };
        World {
            routes: Routes::new(&mut rng, &dag),
            network: Network::new(profile),
            instances: dag.bolt_places().into_iter().map(|at| (at, Instance::default())).collect(),
            spouts: (0..spouts).map(spout).collect(),
            ticks: vec![None; options.trackers as usize],
            acked: 0,
            healed: false,
            roots: Roots::default(),
            options,
            dag,
            clock,
            rng,
            trackers,
            trace,
        }
    }

    fn run(mut self) -> Verdict {
        for spout in 0..self.spouts.len() {
            self.clock.at(0, Event::SpoutTurn(spout as u32));
        }
        if let Some(every) = self.options.die_every_us {
            self.clock.at(every, Event::Die);
        }
        self.clock.at(self.options.heal_at_us, Event::Heal);
        while let Some(event) = self.clock.next_event() {
            self.happened(event)?;
            // Where one root goes to dozens of instances that fail it, nearly all are replayed.
            if self.trace.events() > FAULTY_EVENTS_MAX {
                self.heal();
            }
            if self.trace.is_endless() {
                self.demand_liveness()?; // Says what still waits, and for what.
                return self.trace.endless();
            }
        }
        self.demand_liveness()
    }

    fn happened(&mut self, event: Event) -> Verdict {
        let now = self.clock.now();
        match event {
            Event::SpoutTurn(spout) => self.spout_turn(spout),
            Event::Arrive(place, tuple) => {
                self.trace.event(now, &[1, place.0 as u64, tuple.edge], || {
                    format!("{place:?} gets edge {:x} of root {}", tuple.edge, tuple.root)
                });
                self.instance(place).inbox.push(tuple);
                self.wake(place);
                Ok(())
            }
            Event::Work(place) => self.work(place),
            Event::Report(tracker, report) => self.report_arrived(tracker, report),
            Event::Told { spout, message, acked } => self.told(spout, message, acked),
            Event::Tick(tracker) => {
                self.ticks[tracker as usize] = None;
                self.trackers[tracker as usize].ticked(self.clock.instant());
                self.perform(tracker)
            }
            Event::Die => {
                self.die();
                Ok(())
            }
            Event::Heal => {
                self.trace.event(now, &[3], || "healed".into());
                self.heal();
                Ok(())
            }
        }
    }

    fn heal(&mut self) {
        self.healed = true;
        self.network.heal();
        self.trace.healed();
    }

    fn told(&mut self, spout: u32, message: u64, acked: bool) -> Verdict {
        self.trace.event(self.clock.now(), &[2, message, u64::from(acked)], || {
            format!("spout {spout} hears that message {message} is acked: {acked}")
        });
        let record = &mut self.spouts[spout as usize];
        record.pending -= 1;
        if acked {
            self.acked += 1;
        } else {
            record.messages.push(message);
        }
        self.spout_turn(spout)
    }

    fn spout_turn(&mut self, spout: u32) -> Verdict {
        while self.spouts[spout as usize].pending < self.options.max_pending {
            let Some(message) = self.spouts[spout as usize].messages.pop() else { break };
            self.spouts[spout as usize].pending += 1;
            self.emit(spout, message)?;
        }
        Ok(())
    }

    fn emit(&mut self, spout: u32, message: u64) -> Verdict {
        let root = RootId(self.rng.bits());
        let budget = self.rng.within(&(1..=self.options.tree_tuples_max));
        let (edges, sent) = self.derive((0, spout), &Tuple { root, edge: 0, budget })?;
        let id = InstanceId(spout);
        self.roots.emitted(root, message, id, sent.len() as u32);
        self.trace.event(self.clock.now(), &[4, message, root.0], || {
            format!("spout {spout} emits message {message} as root {root}: {} edges", sent.len())
        });
        self.deliver((0, spout), sent);
        // A spout's own report is not lost: it and the tracker share a fate, or the spout would have to
        // keep time itself.
        let delay = self.rng.within(&(1..=self.options.link_us));
        let report = Report::Emitted(id, root, edges);
        self.clock.after(delay, Event::Report(self.tracker(root), report));
        Ok(())
    }

    /// What `tuple` derives at `place`: the XOR of the new edges, and the deliveries.
    fn derive(&mut self, place: Place, tuple: &Tuple) -> Verdict<(u64, Vec<(Place, Tuple)>)> {
        let is_root = tuple.edge == 0;
        let mut targets = Vec::new();
        for _ in 0..if is_root { 1 } else { self.rng.below(3) } {
            let key = self.rng.below(16);
            for edge in &self.dag.components[place.0].edges {
                targets.extend(self.routes.targets(place, edge, key)?);
            }
        }
        let budget = tuple.budget.saturating_sub(1) / (targets.len() as u64).max(1);
        if budget == 0 && !is_root {
            return Ok((0, Vec::new()));
        }
        let mut edges = 0;
        let mut sent = Vec::with_capacity(targets.len());
        for target in targets {
            let edge = self.rng.bits() | 1;
            edges ^= edge;
            sent.push((target, Tuple { root: tuple.root, edge, budget }));
        }
        Ok((edges, sent))
    }

    fn deliver(&mut self, from: Place, sent: Vec<(Place, Tuple)>) {
        for (to, tuple) in sent {
            match self.network.send(&mut self.rng, self.clock.now(), from, to)[0] {
                Some(at) => self.clock.at(at, Event::Arrive(to, tuple)),
                None => self.roots.lost(tuple.root),
            }
        }
    }

    fn wake(&mut self, place: Place) {
        let (work_us, batch_tuples) = (self.options.work_us, self.options.batch_tuples);
        let instance = self.instance(place);
        if !instance.busy && !instance.inbox.is_empty() {
            instance.busy = true;
            let batch = instance.inbox.len().min(batch_tuples) as u64;
            self.clock.after(work_us * batch, Event::Work(place));
        }
    }

    /// Processes a batch, and reports on it once: one word per root, as the executor does.
    fn work(&mut self, place: Place) -> Verdict {
        let batch_tuples = self.options.batch_tuples;
        let instance = self.instance(place);
        instance.busy = false;
        let taken = instance.inbox.len().min(batch_tuples);
        let batch: Vec<_> = instance.inbox.drain(..taken).collect();
        self.trace.event(self.clock.now(), &[5, place.0 as u64, u64::from(place.1)], || {
            format!("{place:?} processes {taken} tuples")
        });
        let mut words: BTreeMap<RootId, u64> = BTreeMap::new();
        for tuple in batch {
            self.process(place, tuple, &mut words)?;
        }
        let mut shares: BTreeMap<u64, Vec<(RootId, u64)>> = BTreeMap::new();
        for (root, word) in words {
            shares.entry(self.tracker(root)).or_default().push((root, word));
        }
        for (tracker, share) in shares {
            self.send_report(place, tracker, Report::Folded(share));
        }
        self.wake(place);
        Ok(())
    }

    fn process(
        &mut self,
        place: Place,
        tuple: Tuple,
        words: &mut BTreeMap<RootId, u64>,
    ) -> Verdict {
        let Tuple { root, edge, .. } = tuple;
        if !self.healed && self.rng.chance(self.options.extend) {
            self.send_report(place, self.tracker(root), Report::Extended(root));
        }
        let (edges, sent) = self.derive(place, &tuple)?;
        let failed = !self.healed && self.rng.chance(self.options.fail);
        self.roots.processed(root, sent.len() as u32, failed);
        if failed {
            self.send_report(place, self.tracker(root), Report::Failed(root, edge ^ edges));
        } else {
            *words.entry(root).or_default() ^= edge ^ edges;
        }
        self.deliver(place, sent);
        Ok(())
    }

    fn send_report(&mut self, from: Place, tracker: u64, report: Report) {
        let to = (usize::MAX, tracker as u32);
        let arrival = self.network.send(&mut self.rng, self.clock.now(), from, to)[0];
        let mut sent = |root| match arrival {
            Some(_) => self.roots.report_sent(root),
            None => self.roots.lost(root),
        };
        match &report {
            Report::Folded(words) => words.iter().for_each(|(root, _)| sent(*root)),
            Report::Failed(root, _) => sent(*root),
            Report::Emitted(..) | Report::Extended(_) => {}
        }
        if let Some(at) = arrival {
            self.clock.at(at, Event::Report(tracker, report));
        }
    }

    fn report_arrived(&mut self, tracker: u64, report: Report) -> Verdict {
        let now = self.clock.instant();
        let deadline = self.clock.now() + self.options.timeout_us;
        self.trace.event(self.clock.now(), &[6, tracker], || format!("tracker gets {report:x?}"));
        let acks = &mut self.trackers[tracker as usize];
        match report {
            Report::Emitted(spout, root, edges) => {
                self.roots.emit_arrived(root, deadline);
                acks.emitted(now, spout, &[(root, edges)]);
            }
            Report::Folded(words) => {
                for (root, _) in &words {
                    self.roots.report_arrived(*root);
                }
                acks.folded(now, &words);
            }
            Report::Failed(root, edges) => {
                self.roots.report_arrived(root);
                acks.failed(now, root, edges, "planned failure");
            }
            Report::Extended(root) => {
                self.roots.extended(root, deadline);
                acks.extended(now, root);
            }
        }
        self.perform(tracker)
    }

    /// Performs a tracker's effects, and plans its next tick.
    fn perform(&mut self, tracker: u64) -> Verdict {
        while let Some(effect) = self.trackers[tracker as usize].poll_effect() {
            let (spout, message, acked) = match effect {
                AckEffect::Acked { root, spout } => (spout, self.roots.acked(root, spout)?, true),
                AckEffect::Failed { root, spout, reason } => {
                    let at = (reason == FailReason::Timeout).then(|| self.clock.now());
                    (spout, self.roots.failed(root, spout, at)?, false)
                }
            };
            let delay = self.rng.within(&(1..=self.options.link_us));
            self.clock.after(delay, Event::Told { spout: spout.0, message, acked });
        }
        let planned = &mut self.ticks[tracker as usize];
        if let Some(deadline) = self.trackers[tracker as usize].next_deadline() {
            let at = self.clock.to_micros(deadline);
            if planned.is_none_or(|planned| planned > at) {
                *planned = Some(at);
                self.clock.at(at, Event::Tick(tracker));
            }
        }
        Ok(())
    }

    /// An instance dies with all that lies in its inbox, and is there again at once.
    fn die(&mut self) {
        let Some(every) = self.options.die_every_us.filter(|_| !self.healed) else { return };
        let places: Vec<_> = self.instances.keys().copied().collect();
        let place = *self.rng.pick(&places);
        let inbox = std::mem::take(&mut self.instance(place).inbox);
        self.trace.event(self.clock.now(), &[7, place.0 as u64, inbox.len() as u64], || {
            format!("{place:?} dies with {} tuples", inbox.len())
        });
        for tuple in inbox {
            self.roots.lost(tuple.root);
        }
        self.clock.after(every, Event::Die);
    }

    fn demand_liveness(&self) -> Verdict {
        let untold = self.roots.untold();
        require(untold.is_empty(), "liveness", || format!("still waiting: {}", untold.join("; ")))?;
        require(self.acked == self.options.messages, "liveness", || {
            format!("{} of {} messages are acked", self.acked, self.options.messages)
        })?;
        let left: usize = self.trackers.iter().map(Acks::len).sum();
        require(left == 0, "leaks", || format!("trackers keep {left} roots, nothing is in flight"))
    }

    fn instance(&mut self, place: Place) -> &mut Instance {
        self.instances.get_mut(&place).expect("tuples are routed to instances that exist")
    }

    fn tracker(&self, root: RootId) -> u64 {
        root.0 % self.options.trackers
    }
}
