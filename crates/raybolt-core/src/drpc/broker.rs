//! Matches DRPC requests with the topologies that serve them, and answers with their callers.
//!
//! # Words
//! A *function* is a name that callers call. A *subscriber* is one spout that serves one function; its
//! *credit* is how many more requests it takes. A request *waits* until a subscriber with credit
//! is there, then it is *delivered*; it is *open* from the call to its answer. A function is *served*
//! while it has a subscriber, and for [`Options::grace`] after the last one went.
//!
//! # Protocol
//! ```text
//!  caller                      broker                     subscriber
//!    | requested                  |        subscribed(credit) |
//!    |--------------------------->|<--------------------------|
//!    |                            | Deliver (credit - 1)      |
//!    |                            |-------------------------->|
//!    |              Answer, Part  |   answered, failed        |
//!    |<---------------------------|<--------------------------|
//!    |                            |   completed               |  all of the request's tuples are done
//!    |                            |<--------------------------|
//!    | cancelled                  | Cancel                    |
//!    |--------------------------->|-------------------------->|  also after a deadline
//!    |                            |   credit_returned         |
//!    |                            |<--------------------------|
//! ```
//! 1. A request is delivered at once if a subscriber has credit; subscribers take turns. Otherwise it
//!    joins its function's queue, or is refused as *busy* at [`Options::waiting_max`].
//! 2. What ends a request: its first result, `failed`, `completed` without a result, its deadline,
//!    `cancelled`, the loss of its subscriber (if it may not be delivered again), `shut_down`.
//!    A *streamed* request takes any number of results as parts and ends well with `completed`.
//! 3. When a subscriber is lost, its requests return to the head of the queue in their order, unless
//!    its terms forbid it. [`Options::deliveries_max`] stops a request that kills its servers.
//! 4. Credit is the subscriber's own: only it knows when a request has left it for good.
//!
//! # Invariants
//! - **BROKER-1 (answered once).** Each accepted request yields exactly one `Answer`, and no `Part`
//!   after it. What comes later is counted as surplus and goes nowhere.
//! - **BROKER-2 (at one place).** A request is at one subscriber at most; what another one says about
//!   it, since it had it earlier, is not heard.
//! - **BROKER-3 (in order).** The queue of a function is served first come, first served.
//! - **BROKER-4 (bounded).** At most `waiting_max` plus the credit of lost subscribers wait per function;
//!   at a subscriber there are never more than the credit it gave.
//! - **BROKER-5 (in time).** No request is open after `deadlines_passed(now)` with `now` at or after
//!   its deadline, and [`Broker::next_deadline`] is exact.
//! - **BROKER-6 (nobody waits for nobody).** A request waits only for a function that is served.
//!
//! # Not promised
//! Exactly-once execution: a lost subscriber may have done all the work, and a cancelled one may be
//! at it still.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hashbrown::hash_map::Entry;

use super::deadlines::Deadlines;
use super::error::DrpcError;
use super::latency::Latency;
use crate::hash::IdMap;
use crate::ids::RequestId;
use crate::plant::{Plant, Plants};

mod function;
mod subscribers;
#[cfg(test)]
mod tests;

pub use function::FunctionStats;
pub use subscribers::SubscriberId;

use function::Function;
use subscribers::Subscriber;

/// The limits of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many requests of one function may wait for a subscriber with credit.
    pub waiting_max: usize,
    /// How often a request is handed to a subscriber before it fails.
    pub deliveries_max: u32,
    /// How long a function stays served after its last subscriber went.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { waiting_max: 65_536, deliveries_max: 3, grace: Duration::ZERO }
    }
}

/// What a subscriber agrees to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How many requests it takes before it returns credit.
    pub credit: usize,
    /// Whether its requests must not be delivered again when it is lost.
    pub at_most_once: bool,
}

/// How a caller takes what its request yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// The first result.
    One,
    /// All results, as they come.
    Stream,
}

/// A request as its caller makes it. `C` names the caller for whoever performs the effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask<C, A> {
    /// Comes back with every effect for the caller.
    pub client: C,
    /// The arguments.
    pub args: A,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// How it takes the result.
    pub wants: Wants,
}

/// What is to be done. `C` is a caller, `A` the arguments, `R` a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<C, A, R> {
    /// Hand a request to a subscriber.
    Deliver {
        /// Who takes it.
        subscriber: SubscriberId,
        /// The request.
        request: RequestId,
        /// Its arguments.
        args: A,
        /// When nobody waits for its result any more.
        deadline: Instant,
    },
    /// Tell a subscriber that nobody waits for a request any more.
    Cancel {
        /// Who has it.
        subscriber: SubscriberId,
        /// The request.
        request: RequestId,
    },
    /// Hand a part of a streamed result to its caller.
    Part {
        /// The caller.
        client: C,
        /// The request.
        request: RequestId,
        /// The part.
        part: R,
    },
    /// Tell a caller how its request ended.
    Answer {
        /// The caller.
        client: C,
        /// The request.
        request: RequestId,
        /// How it ended.
        outcome: Outcome<R>,
    },
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// With this result.
    Result(R),
    /// All parts of a streamed result have been handed over.
    Completed,
    /// Without a result, or before the last part of it.
    Failed(DrpcError),
}

/// The machine; see the [module](self).
pub struct Broker<C, A, R> {
    options: Options,
    requests: IdMap<RequestId, Request<C, A>>,
    next_request: u64,
    deadlines: Deadlines,
    functions: Vec<Function>,
    names: BTreeMap<Box<str>, usize>,
    subscribers: BTreeMap<SubscriberId, Subscriber>,
    next_subscriber: u64,
    effects: VecDeque<Effect<C, A, R>>,
    surplus: u64,
    latency: Latency,
    shutting_down: bool,
    plants: Plants,
}

struct Request<C, A> {
    client: C,
    /// Taken by an at-most-once delivery, else kept for the next one.
    args: Option<A>,
    function: usize,
    wants: Wants,
    asked_at: Instant,
    deadline: Instant,
    /// Who has it; nobody while it waits.
    at: Option<SubscriberId>,
    deliveries: u32,
}

impl<C: Clone, A: Clone, R> Broker<C, A, R> {
    /// A broker without functions.
    pub fn new(options: Options) -> Self {
        Broker {
            options,
            requests: IdMap::default(),
            next_request: 1,
            deadlines: Deadlines::default(),
            functions: Vec::new(),
            names: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            next_subscriber: 1,
            effects: VecDeque::new(),
            surplus: 0,
            latency: Latency::default(),
            shutting_down: false,
            plants: Plants::NONE,
        }
    }

    /// A broker with a bug planted in it.
    #[cfg(feature = "plant")]
    pub fn with_plants(options: Options, plants: Plants) -> Self {
        Broker { plants, ..Self::new(options) }
    }

    /// A caller made a request.
    ///
    /// # Errors
    /// When the function is not served or busy, or the broker is shutting down. The request does not
    /// exist then.
    pub fn requested(
        &mut self,
        now: Instant,
        function: &str,
        ask: Ask<C, A>,
    ) -> Result<RequestId, DrpcError> {
        if self.shutting_down {
            return Err(DrpcError::ShuttingDown { function: function.into() });
        }
        let index = self.served(function)?;
        self.functions[index].admit(&self.options)?;
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let Ask { client, args, deadline, wants } = ask;
        let request = Request {
            client,
            args: Some(args),
            function: index,
            wants,
            asked_at: now,
            deadline,
            at: None,
            deliveries: 0,
        };
        self.requests.insert(id, request);
        let alive = self.requests.len();
        self.deadlines.add(deadline, id, alive, |id| self.requests.contains_key(&id));
        self.functions[index].queue.push_back(id);
        self.functions[index].waiting += 1;
        self.deliver(index);
        Ok(id)
    }

    /// A subscriber emitted a result.
    pub fn answered(
        &mut self,
        now: Instant,
        subscriber: SubscriberId,
        request: RequestId,
        result: R,
    ) {
        let Entry::Occupied(entry) = self.requests.entry(request) else {
            self.surplus += 1;
            return;
        };
        if entry.get().at != Some(subscriber) {
            self.surplus += 1;
            return;
        }
        match entry.get().wants {
            Wants::Stream => {
                let client = entry.get().client.clone();
                self.effects.push_back(Effect::Part { client, request, part: result });
            }
            Wants::One if self.plants.has(Plant::AnswerTwice) && request.0.is_multiple_of(4) => {
                let client = entry.get().client.clone();
                let outcome = Outcome::Result(result);
                self.effects.push_back(Effect::Answer { client, request, outcome });
            }
            Wants::One => {
                let over = entry.remove();
                let stats = &mut self.functions[over.function].stats;
                stats.in_flight -= 1;
                stats.answered += 1;
                self.latency.add(now.saturating_duration_since(over.asked_at));
                let outcome = Outcome::Result(result);
                self.effects.push_back(Effect::Answer { client: over.client, request, outcome });
            }
        }
    }

    /// A component failed on a request.
    pub fn failed(&mut self, subscriber: SubscriberId, request: RequestId, message: String) {
        if !self.is_at(subscriber, request) {
            self.surplus += 1;
            return;
        }
        self.end(request, |function, _| DrpcError::Failed { function, request, message });
    }

    /// A subscriber is done with a request: no result will follow. `component` should have emitted
    /// the result.
    pub fn completed(
        &mut self,
        now: Instant,
        subscriber: SubscriberId,
        request: RequestId,
        component: Option<&str>,
    ) {
        let Some(open) = self.requests.get(&request).filter(|open| open.at == Some(subscriber))
        else {
            return; // The usual case: it was answered before.
        };
        if open.wants == Wants::One {
            let component = component.map(String::from);
            self.end(request, |function, _| DrpcError::NoResult { function, request, component });
            return;
        }
        let over = self.requests.remove(&request).expect("it was open a moment ago");
        let stats = &mut self.functions[over.function].stats;
        stats.in_flight -= 1;
        stats.answered += 1;
        self.latency.add(now.saturating_duration_since(over.asked_at));
        let outcome = Outcome::Completed;
        self.effects.push_back(Effect::Answer { client: over.client, request, outcome });
    }

    /// A caller left, or wants no result any more.
    pub fn cancelled(&mut self, request: RequestId) {
        self.withdraw(request, |function, _| DrpcError::Cancelled { function, request });
    }

    /// A caller does not keep up with its streamed result.
    pub fn overflowed(&mut self, request: RequestId, parts_max: usize) {
        self.withdraw(request, |function, _| DrpcError::ReaderTooSlow {
            function,
            request,
            parts_max,
        });
    }

    /// Time went on: ends the requests whose deadline is not after `now`, and forgets functions that
    /// nobody has served for too long.
    pub fn deadlines_passed(&mut self, now: Instant) {
        while let Some((deadline, request)) =
            self.deadlines.next(|id| self.requests.contains_key(&id))
        {
            if deadline > now {
                break;
            }
            self.withdraw(request, |function, over| DrpcError::TimedOut {
                function,
                request,
                allowed: over.deadline.saturating_duration_since(over.asked_at),
                delivered: over.at.is_some(),
            });
        }
        for index in 0..self.functions.len() {
            if self.functions[index].orphaned_until.is_some_and(|until| until <= now) {
                self.forget(index);
            }
        }
    }

    /// When to call [`deadlines_passed`](Self::deadlines_passed) at the latest.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let request = self.deadlines.next(|id| self.requests.contains_key(&id)).map(|(at, _)| at);
        let orphans = self.functions.iter().filter_map(|function| function.orphaned_until);
        request.into_iter().chain(orphans).min()
    }

    /// The server ends: every open request fails, and none is accepted any more.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        for request in self.open_where(|_| true) {
            self.withdraw(request, |function, _| DrpcError::ShuttingDown { function });
        }
    }

    /// What has to be done next. Call until `None`.
    pub fn poll_effect(&mut self) -> Option<Effect<C, A, R>> {
        self.effects.pop_front()
    }

    /// Hands queued requests of a function to subscribers with credit, see point 1 of the protocol.
    fn deliver(&mut self, index: usize) {
        let function = &mut self.functions[index];
        while function.waiting > 0 {
            let Some(&subscriber) = function.ready.front() else { return };
            let id = function.queue.pop_front().expect("those that wait are in the queue");
            let Some(request) = self.requests.get_mut(&id) else { continue };
            let server = self.subscribers.get_mut(&subscriber).expect("ready ones are there");
            server.credit -= 1;
            if server.credit == 0 {
                function.ready.pop_front();
            } else {
                function.ready.rotate_left(1);
            }
            function.waiting -= 1;
            function.stats.in_flight += 1;
            function.stats.redelivered += u64::from(request.deliveries > 0);
            request.at = Some(subscriber);
            request.deliveries += 1;
            let args = if server.at_most_once { request.args.take() } else { request.args.clone() };
            let args = args.expect("what may be delivered again kept its arguments");
            let deadline = request.deadline;
            self.effects.push_back(Effect::Deliver { subscriber, request: id, args, deadline });
        }
    }

    /// Ends a request whose subscriber does not know it yet.
    fn withdraw(
        &mut self,
        request: RequestId,
        error: impl FnOnce(String, &Request<C, A>) -> DrpcError,
    ) {
        let at = self.requests.get(&request).and_then(|open| open.at);
        if let Some(subscriber) = at {
            self.effects.push_back(Effect::Cancel { subscriber, request });
        }
        self.end(request, error);
    }

    /// Ends a request without a result, if it is open.
    fn end(&mut self, request: RequestId, error: impl FnOnce(String, &Request<C, A>) -> DrpcError) {
        let Some(over) = self.requests.remove(&request) else { return };
        let function = &mut self.functions[over.function];
        if over.at.is_some() {
            function.stats.in_flight -= 1;
        } else {
            function.waiting -= 1;
            function.sweep(|id| self.requests.contains_key(&id));
        }
        let error = error(function.name.to_string(), &over);
        function.stats.count(&error);
        let outcome = Outcome::Failed(error);
        self.effects.push_back(Effect::Answer { client: over.client, request, outcome });
    }

    fn is_at(&self, subscriber: SubscriberId, request: RequestId) -> bool {
        self.requests.get(&request).is_some_and(|open| open.at == Some(subscriber))
    }

    /// Open requests by id, so that what follows has an order.
    fn open_where(&self, is_wanted: impl Fn(&Request<C, A>) -> bool) -> Vec<RequestId> {
        let wanted = self.requests.iter().filter(|(_, request)| is_wanted(request));
        let mut requests: Vec<_> = wanted.map(|(id, _)| *id).collect();
        requests.sort_unstable();
        requests
    }
}
