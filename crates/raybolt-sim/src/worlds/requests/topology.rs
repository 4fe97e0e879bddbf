//! One topology that serves a DRPC function: instances, the batch machine, and what goes wrong in them.

use std::collections::{BTreeMap, BTreeSet};

use raybolt_core::drpc::SubscriberId;
use raybolt_core::flow::batches::{BatchEffect, Batches, FinishDone, Report, Sent};
use raybolt_core::ids::{ComponentIndex, InstanceIndex, RequestId};
use raybolt_core::plant::Plants;

use super::{Event, Says, Shared};
use crate::checkers::completion::Completion;
use crate::clock::Micros;
use crate::trace::{Verdict, require};
use crate::worlds::dag::{Dag, Place, Routes};

/// What happens inside a topology.
#[derive(Debug)]
pub enum Inside {
    /// The broker hands over a request, with its client as arguments.
    Deliver(RequestId, u64),
    /// The broker says that nobody waits for a request any more.
    Cancel(RequestId),
    /// A tuple arrives at an instance.
    Arrive(Place, Tuple),
    /// An instance takes the next batch from its inbox.
    Work(Place),
    /// A report arrives at the batch machine.
    Report(Told),
    /// An instance hears that it is to finish a request.
    Finish(Place, RequestId),
    /// An instance hears that it is to give up a request.
    Abandon(Place, RequestId),
}

/// One delivery of one tuple.
#[derive(Clone, Debug)]
pub struct Tuple {
    request: RequestId,
    budget: u64,
}

/// What the batch machine is told.
#[derive(Debug)]
pub struct Told {
    request: RequestId,
    what: What,
    failed: bool,
    sent: Vec<Sent>,
}

#[derive(Debug)]
enum What {
    Opened,
    Processed(Place, u32),
    Finished(Place),
}

#[derive(Debug, Default)]
struct Instance {
    inbox: Vec<Tuple>,
    busy: bool,
    /// Requests of which the bolt keeps something.
    holds: BTreeSet<RequestId>,
}

/// A topology that is subscribed to a function.
pub struct Topology {
    /// Its subscription.
    pub id: SubscriberId,
    /// Which function it serves.
    pub function: usize,
    dag: Dag,
    routes: Routes,
    batches: Batches,
    instances: BTreeMap<Place, Instance>,
    clients: BTreeMap<RequestId, u64>,
    completion: Completion,
    /// When its last word reaches the broker: its link keeps the order.
    link_free_at: Micros,
}

impl Topology {
    /// A topology of a random graph.
    pub fn new(shared: &mut Shared, id: SubscriberId, function: usize, plants: Plants) -> Self {
        let mut dag = Dag::random(&mut shared.rng, 5);
        // Results are emitted by the last component, which wants to know when.
        let last = dag.components.last_mut().expect("a graph has a bolt");
        last.wants_finished = true;
        shared.trace.line(|| format!("topology {id} serves function {function}: {dag}"));
        Topology {
            id,
            function,
            routes: Routes::new(&mut shared.rng, &dag),
            batches: Batches::with_plants(&dag.batch_components(), plants),
            instances: dag.bolt_places().into_iter().map(|at| (at, Instance::default())).collect(),
            clients: BTreeMap::new(),
            completion: Completion::new(&dag),
            link_free_at: 0,
            dag,
        }
    }

    /// Something happens inside.
    pub fn happened(&mut self, shared: &mut Shared, event: Inside) -> Verdict {
        let words = [8, self.id.0, event.number()];
        shared
            .trace
            .event(shared.clock.now(), &words, || format!("topology {}: {event:?}", self.id));
        match event {
            Inside::Deliver(request, client) => self.open(shared, request, client),
            Inside::Cancel(request) => {
                if self.batches.cancelled(request, "nobody waits for it") {
                    self.completion.failure_arrived(request);
                }
                self.perform(shared)
            }
            Inside::Arrive(place, tuple) => {
                self.instance(place).inbox.push(tuple);
                self.wake(shared, place);
                Ok(())
            }
            Inside::Work(place) => self.work(shared, place),
            Inside::Report(told) => {
                self.report(told);
                self.perform(shared)
            }
            Inside::Finish(place, request) => self.finish(shared, place, request),
            Inside::Abandon(place, request) => {
                self.instance(place).holds.remove(&request);
                Ok(())
            }
        }
    }

    /// With nothing in flight, nothing may be left.
    pub fn demand_empty(&self) -> Verdict {
        let waiting = self.completion.waiting();
        require(waiting.is_empty(), "liveness", || format!("still open: {}", waiting.join("; ")))?;
        let held = self.completion.held();
        require(held.is_empty(), "leaks", || held.join("; "))?;
        let left = self.batches.len();
        require(left == 0, "leaks", || {
            format!("the batch machine of topology {} keeps {left} requests", self.id)
        })
    }

    fn open(&mut self, shared: &mut Shared, request: RequestId, client: u64) -> Verdict {
        self.clients.insert(request, client);
        self.completion.opened(request);
        let spout = (0, (client % u64::from(self.dag.components[0].instances)) as u32);
        let budget = shared.rng.within(&(1..=shared.options.tree_tuples_max));
        let emits = shared.rng.within(&(1..=2));
        let sent = self.emit(shared, spout, &Tuple { request, budget }, emits)?;
        let told = Told { request, what: What::Opened, failed: false, sent };
        self.tell_batches(shared, told);
        Ok(())
    }

    /// Sends what a tuple derives, and counts it.
    fn emit(
        &mut self,
        shared: &mut Shared,
        from: Place,
        tuple: &Tuple,
        emits: u64,
    ) -> Verdict<Vec<Sent>> {
        let mut targets = Vec::new();
        for _ in 0..emits {
            let key = shared.rng.below(16);
            for edge in &self.dag.components[from.0].edges {
                targets.extend(self.routes.targets(from, edge, key)?);
            }
        }
        let budget = tuple.budget.saturating_sub(1) / (targets.len() as u64).max(1);
        if budget == 0 && from.0 > 0 {
            return Ok(Vec::new());
        }
        let mut sent = Vec::new();
        for place in targets {
            self.completion.sent(tuple.request, place.0);
            count(&mut sent, place.0);
            let delay = shared.delay();
            let copy = Tuple { request: tuple.request, budget };
            shared.inside(self.id, delay, Inside::Arrive(place, copy));
        }
        Ok(sent)
    }

    fn wake(&mut self, shared: &mut Shared, place: Place) {
        let batch_tuples = shared.options.batch_tuples;
        let id = self.id;
        let instance = self.instance(place);
        if !instance.busy && !instance.inbox.is_empty() {
            instance.busy = true;
            let batch = instance.inbox.len().min(batch_tuples) as u64;
            shared.inside(id, batch * shared.options.work_us, Inside::Work(place));
        }
    }

    /// Processes a batch; one report per request in it.
    fn work(&mut self, shared: &mut Shared, place: Place) -> Verdict {
        let batch_tuples = shared.options.batch_tuples;
        let instance = self.instance(place);
        instance.busy = false;
        let taken = instance.inbox.len().min(batch_tuples);
        let batch: Vec<_> = instance.inbox.drain(..taken).collect();
        let mut reports: BTreeMap<RequestId, (u32, bool, Vec<Sent>)> = BTreeMap::new();
        for tuple in batch {
            if self.dag.components[place.0].wants_finished {
                self.instance(place).holds.insert(tuple.request);
            }
            let failed = !shared.healed && shared.rng.chance(shared.options.fail);
            let emits = if failed { 0 } else { shared.rng.below(3) };
            let sent = self.emit(shared, place, &tuple, emits)?;
            self.completion.processed(tuple.request, place);
            let report = reports.entry(tuple.request).or_default();
            report.0 += 1;
            report.1 |= failed;
            report.2.extend(sent);
        }
        for (request, (processed, failed, sent)) in reports {
            let what = What::Processed(place, processed);
            self.tell_batches(shared, Told { request, what, failed, sent });
        }
        self.wake(shared, place);
        Ok(())
    }

    fn finish(&mut self, shared: &mut Shared, place: Place, request: RequestId) -> Verdict {
        self.instance(place).holds.remove(&request);
        let failed = !shared.healed && shared.rng.chance(shared.options.fail);
        let is_last = place.0 + 1 == self.dag.components.len();
        if is_last && !failed {
            let results = shared.rng.below(shared.options.results_max + 1);
            let client = self.clients[&request];
            for _ in 0..results {
                self.tell_broker(shared, Says::Answered(request, client));
            }
        }
        let budget = shared.rng.within(&(1..=8));
        let emits = if failed { 0 } else { shared.rng.below(3) };
        let sent = self.emit(shared, place, &Tuple { request, budget }, emits)?;
        self.completion.finished(request, place);
        self.tell_batches(shared, Told { request, what: What::Finished(place), failed, sent });
        Ok(())
    }

    /// Reports may overtake each other; none is lost or repeated (BATCH-2).
    fn tell_batches(&mut self, shared: &mut Shared, told: Told) {
        let delay = shared.delay();
        shared.inside(self.id, delay, Inside::Report(told));
    }

    fn report(&mut self, told: Told) {
        let Told { request, what, failed, sent } = told;
        if failed {
            self.batches.failed(request, "planned failure");
            self.completion.failure_arrived(request);
        }
        let names = |(component, instance): Place| {
            (ComponentIndex(component as u16), InstanceIndex(instance))
        };
        match what {
            What::Opened => self.batches.opened(request, &sent),
            What::Processed(place, processed) => {
                let (component, instance) = names(place);
                let sent = &sent[..];
                self.batches.reported(Report { request, component, instance, processed, sent });
            }
            What::Finished(place) => {
                let (component, instance) = names(place);
                self.batches.finished(FinishDone { request, component, instance, sent: &sent });
            }
        }
    }

    /// Performs the batch machine's effects.
    fn perform(&mut self, shared: &mut Shared) -> Verdict {
        while let Some(effect) = self.batches.poll_effect() {
            shared.trace.line(|| format!("topology {}: {effect:?}", self.id));
            let delay = shared.delay();
            match effect {
                BatchEffect::Finish { request, component, instance } => {
                    let place = (component.index(), instance.0);
                    self.completion.told_to_finish(request, place)?;
                    shared.inside(self.id, delay, Inside::Finish(place, request));
                }
                BatchEffect::Abandon { request, component, instance } => {
                    let place = (component.index(), instance.0);
                    self.completion.told_to_abandon(request, place)?;
                    shared.inside(self.id, delay, Inside::Abandon(place, request));
                }
                BatchEffect::Completed { request } => {
                    self.completion.completed(request)?;
                    self.tell_broker(shared, Says::Completed(request));
                    self.tell_broker(shared, Says::Credit(1));
                }
                BatchEffect::Failed { request, message } => {
                    self.completion.failed(request)?;
                    self.tell_broker(shared, Says::Failed(request, message.into()));
                    self.tell_broker(shared, Says::Credit(1));
                }
            }
        }
        Ok(())
    }

    fn tell_broker(&mut self, shared: &mut Shared, says: Says) {
        let at = shared.clock.now() + shared.delay();
        self.link_free_at = self.link_free_at.max(at);
        shared.clock.at(self.link_free_at, Event::FromTopology(self.id, says));
    }

    fn instance(&mut self, place: Place) -> &mut Instance {
        self.instances.get_mut(&place).expect("tuples are routed to instances that exist")
    }
}

impl Inside {
    /// Tells kinds of events apart in the hash of the trace.
    fn number(&self) -> u64 {
        let (kind, request) = match self {
            Inside::Deliver(request, _) => (1, request.0),
            Inside::Cancel(request) => (2, request.0),
            Inside::Arrive(place, tuple) => (3 + 8 * place.0 as u64, tuple.request.0),
            Inside::Work(place) => (4 + 8 * place.0 as u64, 0),
            Inside::Report(told) => (5, told.request.0),
            Inside::Finish(place, request) => (6 + 8 * place.0 as u64, request.0),
            Inside::Abandon(place, request) => (7 + 8 * place.0 as u64, request.0),
        };
        kind + (request << 16)
    }
}

fn count(sent: &mut Vec<Sent>, to: usize) {
    let to = ComponentIndex(to as u16);
    match sent.iter_mut().find(|sent| sent.to == to) {
        Some(sent) => sent.count += 1,
        None => sent.push(Sent { to, count: 1 }),
    }
}
