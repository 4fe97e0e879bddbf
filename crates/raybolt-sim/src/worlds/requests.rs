//! Clients, the DRPC broker, and topologies that serve its functions.
//!
//! # What runs
//! One production [`Broker`]; topologies of random graphs that subscribe with credit, each with its own
//! production batch machine and routers; clients that call, take parts, wait and leave.
//!
//! # Faults
//! Topologies are lost with all that is in them, or stop taking requests; bolts fail, also while they
//! finish; clients leave or read too slowly; deadlines are short; functions are called that nobody
//! serves; the broker is shut down. Reports inside a topology overtake each other.
//!
//! # Demanded
//! What [`Answers`] and [`Completion`](crate::checkers::completion) check, all the time; and after
//! healing: every request answered, every topology and the broker empty.

use std::collections::BTreeMap;
use std::time::Duration;

use raybolt_core::drpc::broker::Options as Limits;
use raybolt_core::drpc::{Ask, Broker, DrpcError, Effect, Outcome, SubscriberId, Terms, Wants};
use raybolt_core::ids::RequestId;
use raybolt_core::plant::Plants;

use crate::checkers::answers::{Answers, Asked};
use crate::clock::{Clock, Micros};
use crate::rng::Rng;
use crate::trace::{Trace, Verdict, require};

mod topology;

use topology::{Inside, Topology};

/// A deadline that is never met, unless something is stuck.
const PATIENCE_US: Micros = 1_000_000_000;

/// What the seed decided.
#[derive(Debug)]
pub struct Options {
    calls: u64,
    call_every_us: Micros,
    functions: usize,
    topologies: u32,
    credit_max: u32,
    at_most_once: u32,
    waiting_max: usize,
    deliveries_max: u32,
    grace_us: Micros,
    deadline_us: Micros,
    link_us: Micros,
    work_us: Micros,
    batch_tuples: usize,
    tree_tuples_max: u64,
    results_max: u64,
    stream: u32,
    fail: u32,
    leave: u32,
    too_slow: u32,
    lose_every_us: Option<Micros>,
    shut_down: bool,
}

impl Options {
    fn random(rng: &mut Rng) -> Self {
        Options {
            calls: rng.within(&(1..=400)),
            call_every_us: rng.within(&(1..=2_000)),
            functions: rng.count(1..=3) as usize,
            topologies: rng.count(1..=4),
            credit_max: rng.count(1..=16),
            at_most_once: rng.fault(500),
            waiting_max: rng.count(1..=40) as usize,
            deliveries_max: rng.count(1..=4),
            grace_us: if rng.chance(500) { 0 } else { rng.within(&(1..=20_000)) },
            // Half of the worlds do not lean on deadlines to get their answers.
            deadline_us: if rng.chance(500) { PATIENCE_US } else { rng.within(&(1_000..=50_000)) },
            link_us: rng.within(&(1..=500)),
            work_us: rng.within(&(1..=20)),
            batch_tuples: rng.count(1..=16) as usize,
            tree_tuples_max: 1 << rng.below(7),
            results_max: rng.within(&(1..=3)),
            stream: rng.fault(600),
            fail: rng.fault(40),
            leave: rng.fault(150),
            too_slow: rng.fault(80),
            lose_every_us: rng.chance(500).then(|| rng.within(&(500..=50_000))),
            shut_down: rng.chance(100),
        }
    }
}

/// What is to happen.
#[derive(Debug)]
pub enum Event {
    /// The next client calls.
    Call,
    /// The client of a request leaves.
    Leave(RequestId),
    /// A word of a topology reaches the broker.
    FromTopology(SubscriberId, Says),
    /// Something happens inside a topology.
    Inside(SubscriberId, Inside),
    /// A topology is lost, or stops taking requests, and another one comes.
    Lose,
    /// The broker's deadline may have come.
    Tick,
}

/// What a topology says to the broker.
#[derive(Debug)]
pub enum Says {
    /// A result, made for this client.
    Answered(RequestId, u64),
    /// A bolt failed.
    Failed(RequestId, String),
    /// All tuples of the request are done.
    Completed(RequestId),
    /// It takes so many requests more.
    Credit(usize),
}

/// What the world shares with its topologies.
pub struct Shared<'a> {
    /// What the seed decided.
    pub options: Options,
    /// Time, and what is planned.
    pub clock: Clock<Event>,
    /// Chance.
    pub rng: Rng,
    /// The record.
    pub trace: &'a mut Trace,
    /// Whether faults are over.
    pub healed: bool,
}

impl Shared<'_> {
    /// How long a message takes.
    pub fn delay(&mut self) -> Micros {
        self.rng.within(&(1..=self.options.link_us))
    }

    /// Plans something inside a topology.
    pub fn inside(&mut self, id: SubscriberId, delay: Micros, event: Inside) {
        self.clock.after(delay, Event::Inside(id, event));
    }
}

struct World<'a> {
    shared: Shared<'a>,
    plants: Plants,
    broker: Broker<u64, u64, u64>,
    topologies: BTreeMap<SubscriberId, Topology>,
    /// When the last word for a topology arrives there: links keep their order.
    links: BTreeMap<SubscriberId, Micros>,
    called: u64,
    tick_at: Option<Micros>,
    answers: Answers,
}

/// Runs one seed's requests world to its end.
pub fn run(mut rng: Rng, plants: Plants, trace: &mut Trace) -> Verdict {
    let options = Options::random(&mut rng);
    trace.options = format!("requests: {options:?}");
    let limits = Limits {
        waiting_max: options.waiting_max,
        deliveries_max: options.deliveries_max,
        grace: Duration::from_micros(options.grace_us),
    };
    let world = World {
        answers: Answers::new(
            options.functions,
            options.deliveries_max,
            options.deadline_us == PATIENCE_US,
        ),
        shared: Shared { options, clock: Clock::new(), rng, trace, healed: false },
        plants,
        broker: Broker::with_plants(limits, plants),
        topologies: BTreeMap::new(),
        links: BTreeMap::new(),
        called: 0,
        tick_at: None,
    };
    world.run()
}

impl World<'_> {
    fn run(mut self) -> Verdict {
        for _ in 0..self.shared.options.topologies {
            let function = self.shared.rng.index(self.shared.options.functions);
            self.join(function)?;
        }
        self.shared.clock.at(0, Event::Call);
        if let Some(every) = self.shared.options.lose_every_us {
            self.shared.clock.at(every, Event::Lose);
        }
        while let Some(event) = self.shared.clock.next_event() {
            self.happened(event)?;
            if self.shared.trace.is_endless() {
                self.demand_liveness()?; // Says what still waits, and for what.
                return self.shared.trace.endless();
            }
        }
        self.demand_liveness()
    }

    fn happened(&mut self, event: Event) -> Verdict {
        let now = self.shared.clock.now();
        match event {
            Event::Call => self.call()?,
            Event::Leave(request) => {
                self.note(1, request.0, || format!("the client of request {request} leaves"));
                self.answers.withdrawn(request, false);
                self.broker.cancelled(request);
            }
            Event::FromTopology(id, says) => self.heard(id, says),
            Event::Inside(id, event) => {
                // What is planned inside a topology that is gone does not happen.
                return match self.topologies.get_mut(&id) {
                    Some(topology) => topology.happened(&mut self.shared, event),
                    None => Ok(()),
                };
            }
            Event::Lose => self.lose()?,
            Event::Tick => {
                self.tick_at = None;
                self.broker.deadlines_passed(self.shared.clock.instant());
                self.perform()?;
                self.answers.deadlines_passed(now)?;
            }
        }
        self.perform()
    }

    fn note(&mut self, kind: u64, what: u64, line: impl FnOnce() -> String) {
        self.shared.trace.event(self.shared.clock.now(), &[kind, what], line);
    }

    /// The next client calls a function, perhaps one that nobody serves.
    fn call(&mut self) -> Verdict {
        let now = self.shared.clock.now();
        let Shared { options, rng, .. } = &mut self.shared;
        let client = self.called;
        let function = rng.index(options.functions);
        let patient = options.deadline_us == PATIENCE_US;
        let earliest = if patient { PATIENCE_US / 2 } else { 1 };
        let deadline = now + rng.within(&(earliest..=options.deadline_us));
        let stream = rng.chance(options.stream);
        let leaves =
            rng.chance(options.leave).then(|| rng.within(&(0..=options.deadline_us.min(5_000))));
        let next = rng.within(&(0..=2 * options.call_every_us));
        self.called += 1;
        if self.called < options.calls {
            self.shared.clock.after(next, Event::Call);
        } else {
            self.heal()?;
        }
        let ask = Ask {
            client,
            args: client,
            deadline: self.shared.clock.to_instant(deadline),
            wants: if stream { Wants::Stream } else { Wants::One },
        };
        let instant = self.shared.clock.instant();
        let accepted = self.broker.requested(instant, &name(function), ask);
        self.note(2, client, || format!("client {client} calls function {function}: {accepted:?}"));
        match accepted {
            Ok(request) => {
                self.answers.accepted(request, Asked { client, function, deadline, stream })?;
                if let Some(delay) = leaves {
                    self.shared.clock.after(delay, Event::Leave(request));
                }
                Ok(())
            }
            Err(error) => self.refused(function, &error),
        }
    }

    fn refused(&self, function: usize, error: &DrpcError) -> Verdict {
        let is_true = match error {
            DrpcError::Busy { .. } => {
                self.answers.waiting_for(function) >= self.shared.options.waiting_max
            }
            DrpcError::UnknownFunction { .. } => {
                !self.topologies.values().any(|topology| topology.function == function)
                    || self.shared.options.lose_every_us.is_some()
            }
            DrpcError::ShuttingDown { .. } => self.shared.options.shut_down,
            _ => false,
        };
        require(is_true, "answers", || format!("a call is refused without reason: {error}"))
    }

    fn heard(&mut self, id: SubscriberId, says: Says) {
        self.note(3, id.0, || format!("topology {id} says {says:?}"));
        let now = self.shared.clock.instant();
        match says {
            Says::Answered(request, client) => self.broker.answered(now, id, request, client),
            Says::Failed(request, message) => {
                self.answers.said(id, request, true);
                self.broker.failed(id, request, message);
            }
            Says::Completed(request) => {
                self.answers.said(id, request, false);
                self.broker.completed(now, id, request, None);
            }
            Says::Credit(credit) => {
                self.answers.credit_returned(id, credit);
                self.broker.credit_returned(id, credit);
            }
        }
    }

    /// A new topology subscribes.
    fn join(&mut self, function: usize) -> Verdict {
        let Shared { options, rng, .. } = &mut self.shared;
        let credit = rng.count(1..=options.credit_max) as usize;
        let at_most_once = rng.chance(options.at_most_once);
        let id = self.broker.subscribed(&name(function), Terms { credit, at_most_once });
        self.answers.subscribed(id, function, credit, at_most_once);
        let topology = Topology::new(&mut self.shared, id, function, self.plants);
        self.topologies.insert(id, topology);
        self.perform()
    }

    /// A topology is lost with all that is in it, or goes in peace; another one comes, perhaps at once.
    fn lose(&mut self) -> Verdict {
        let Some(every) = self.shared.options.lose_every_us.filter(|_| !self.shared.healed) else {
            return Ok(());
        };
        self.shared.clock.after(every, Event::Lose);
        let now = self.shared.clock.now();
        let ids: Vec<_> = self.topologies.keys().copied().collect();
        let lost = ids.get(self.shared.rng.index(ids.len() + 1)).copied();
        if let Some(id) = lost {
            if self.shared.rng.chance(300) {
                self.note(4, id.0, || format!("topology {id} takes no more requests"));
                self.answers.unsubscribed(now, id);
                self.broker.unsubscribed(self.shared.clock.instant(), id);
            } else {
                self.note(5, id.0, || format!("topology {id} is lost"));
                self.topologies.remove(&id);
                self.answers.lost(now, id);
                self.broker.subscriber_lost(self.shared.clock.instant(), id);
            }
            self.perform()?;
        }
        if self.shared.rng.chance(600) {
            let function = self.shared.rng.index(self.shared.options.functions);
            self.join(function)?;
        }
        Ok(())
    }

    /// Faults end; every function is served by somebody who takes requests, or all is shut down.
    fn heal(&mut self) -> Verdict {
        self.note(6, 0, || "healed".into());
        self.shared.healed = true;
        self.shared.trace.healed();
        for function in 0..self.shared.options.functions {
            self.join(function)?;
        }
        if self.shared.options.shut_down {
            self.note(7, 0, || "the broker shuts down".into());
            self.broker.shut_down();
        }
        Ok(())
    }

    /// Performs the broker's effects, and plans its next tick.
    fn perform(&mut self) -> Verdict {
        while let Some(effect) = self.broker.poll_effect() {
            self.shared.trace.line(|| line(&effect));
            match effect {
                Effect::Deliver { subscriber, request, args, deadline } => {
                    let deadline = self.shared.clock.to_micros(deadline);
                    self.answers.delivered(subscriber, request, args, deadline)?;
                    self.tell(subscriber, Inside::Deliver(request, args));
                }
                Effect::Cancel { subscriber, request } => {
                    self.tell(subscriber, Inside::Cancel(request));
                }
                Effect::Part { client, request, part } => {
                    self.answers.part(client, request, part)?;
                    if self.shared.rng.chance(self.shared.options.too_slow) {
                        self.answers.withdrawn(request, true);
                        self.broker.overflowed(request, 1);
                    }
                }
                Effect::Answer { client, request, outcome } => {
                    let outcome = match &outcome {
                        Outcome::Result(of) => Ok(Some(*of)),
                        Outcome::Completed => Ok(None),
                        Outcome::Failed(error) => Err(error),
                    };
                    self.answers.answered(self.shared.clock.now(), client, request, outcome)?;
                }
            }
        }
        self.plan_tick();
        self.answers.settled(self.shared.clock.now(), self.shared.options.grace_us)
    }

    fn plan_tick(&mut self) {
        let Some(deadline) = self.broker.next_deadline() else { return };
        let at = self.shared.clock.to_micros(deadline);
        if self.tick_at.is_none_or(|planned| planned > at) {
            self.tick_at = Some(at);
            self.shared.clock.at(at, Event::Tick);
        }
    }

    fn tell(&mut self, id: SubscriberId, event: Inside) {
        let at = self.shared.clock.now() + self.shared.delay();
        let link = self.links.entry(id).or_default();
        *link = at.max(*link);
        self.shared.clock.at(*link, Event::Inside(id, event));
    }

    fn demand_liveness(&self) -> Verdict {
        let unanswered = self.answers.unanswered();
        require(unanswered.is_empty(), "liveness", || {
            format!("still waiting: {}", unanswered.join("; "))
        })?;
        let open = self.broker.open();
        require(open == 0, "leaks", || format!("the broker keeps {open} requests"))?;
        self.topologies.values().try_for_each(Topology::demand_empty)
    }
}

fn name(function: usize) -> String {
    format!("f{function}")
}

/// An effect without its deadline, which as the machines take it is another one in each run.
fn line(effect: &Effect<u64, u64, u64>) -> String {
    match effect {
        Effect::Deliver { subscriber, request, .. } => {
            format!("broker: deliver request {request} to topology {subscriber}")
        }
        other => format!("broker: {other:?}"),
    }
}
