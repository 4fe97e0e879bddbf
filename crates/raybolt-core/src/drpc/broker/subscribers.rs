//! Who serves a function: how subscribers come, give credit and go.

use std::fmt;
use std::time::Instant;

use super::function::Function;
use super::{Broker, DrpcError, FunctionStats, Latency, Plant, RequestId, Terms};

/// Names a subscription; never used twice by a broker, so what a lost one says can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u64);

impl fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(super) struct Subscriber {
    pub function: usize,
    pub credit: usize,
    pub at_most_once: bool,
    /// Whether it counts as one who serves its function.
    pub takes: bool,
    /// Whether it wants no requests for now.
    pub paused: bool,
}

impl Subscriber {
    fn is_ready(&self) -> bool {
        self.takes && !self.paused && self.credit > 0
    }
}

impl<C: Clone, A: Clone, R> Broker<C, A, R> {
    /// A subscriber offers to serve a function.
    pub fn subscribed(&mut self, function: &str, terms: Terms) -> SubscriberId {
        let id = SubscriberId(self.next_subscriber);
        self.next_subscriber += 1;
        let index = self.index_of(function);
        let Terms { credit, at_most_once } = terms;
        let subscriber =
            Subscriber { function: index, credit, at_most_once, takes: true, paused: false };
        self.subscribers.insert(id, subscriber);
        let function = &mut self.functions[index];
        function.subscribers += 1;
        function.orphaned_until = None;
        if credit > 0 {
            function.ready.push_back(id);
        }
        self.deliver(index);
        id
    }

    /// A subscriber takes no more requests; it goes on answering those that it has, until it is
    /// [lost](Self::subscriber_lost), as all are in the end.
    pub fn unsubscribed(&mut self, now: Instant, subscriber: SubscriberId) {
        let Some(left) = self.subscribers.get_mut(&subscriber) else { return };
        if !std::mem::replace(&mut left.takes, false) {
            return;
        }
        let index = left.function;
        let function = &mut self.functions[index];
        function.ready.retain(|other| *other != subscriber);
        function.subscribers -= 1;
        self.orphan(now, index);
    }

    /// A subscriber is gone: its requests go to others, or fail.
    pub fn subscriber_lost(&mut self, now: Instant, subscriber: SubscriberId) {
        let Some(gone) = self.subscribers.get(&subscriber) else { return };
        let (index, at_most_once) = (gone.function, gone.at_most_once);
        let again_max = if at_most_once { 0 } else { self.options.deliveries_max };
        for id in self.open_where(|request| request.at == Some(subscriber)).into_iter().rev() {
            if self.plants.has(Plant::LoseRedelivery) {
                self.requests.remove(&id);
                continue;
            }
            let request = self.requests.get_mut(&id).expect("it is open");
            if request.deliveries >= again_max {
                self.end(id, |function, over| DrpcError::ServerLost {
                    function,
                    request: id,
                    deliveries: over.deliveries,
                    at_most_once,
                });
                continue;
            }
            request.at = None;
            let function = &mut self.functions[index];
            function.stats.in_flight -= 1;
            function.waiting += 1;
            function.queue.push_front(id);
        }
        self.unsubscribed(now, subscriber);
        self.subscribers.remove(&subscriber);
        self.hand_on(index);
    }

    /// A subscriber has room for `credit` more requests.
    pub fn credit_returned(&mut self, subscriber: SubscriberId, credit: usize) {
        self.change(subscriber, |server| server.credit += credit);
    }

    /// A subscriber wants no requests for now, and hands back those that it has not begun, with
    /// their arguments; others may take them. Its function stays served.
    pub fn paused(&mut self, subscriber: SubscriberId, not_begun: Vec<(RequestId, A)>) {
        let credit = not_begun.len();
        for (id, args) in not_begun.into_iter().rev() {
            let request = self.requests.get_mut(&id);
            let Some(request) = request.filter(|request| request.at == Some(subscriber)) else {
                continue; // It is over.
            };
            request.at = None;
            request.args = Some(args);
            request.deliveries -= 1;
            let function = &mut self.functions[request.function];
            function.stats.in_flight -= 1;
            function.waiting += 1;
            function.queue.push_front(id);
        }
        self.change(subscriber, |server| {
            server.credit += credit;
            server.paused = true;
        });
    }

    /// A subscriber that had paused takes requests again.
    pub fn resumed(&mut self, subscriber: SubscriberId) {
        self.change(subscriber, |server| server.paused = false);
    }

    /// Changes a subscriber, and whether it is among those that are ready.
    fn change(&mut self, subscriber: SubscriberId, change: impl FnOnce(&mut Subscriber)) {
        let Some(server) = self.subscribers.get_mut(&subscriber) else { return };
        let was_ready = server.is_ready();
        change(server);
        let (is_ready, index) = (server.is_ready(), server.function);
        match (was_ready, is_ready) {
            (false, true) => self.functions[index].ready.push_back(subscriber),
            (true, false) => self.functions[index].ready.retain(|other| *other != subscriber),
            _ => {}
        }
        self.hand_on(index);
    }

    /// Lets others take what came back from a subscriber; if there are none left, since the last one
    /// had unsubscribed before, it fails (BROKER-6).
    fn hand_on(&mut self, index: usize) {
        if self.functions[index].is_served() {
            self.deliver(index);
        } else {
            self.forget(index);
        }
    }

    /// The functions that are served, in alphabetical order.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        let served = self.names.iter().filter(|(_, index)| self.functions[**index].is_served());
        served.map(|(name, _)| &**name)
    }

    /// What a function counted, if it was ever served.
    pub fn stats(&self, function: &str) -> Option<FunctionStats> {
        self.names.get(function).map(|index| self.functions[*index].stats())
    }

    /// How many requests are open.
    pub fn open(&self) -> usize {
        self.requests.len()
    }

    /// Results and failures that came for requests that were over, or from a subscriber that had
    /// lost them.
    pub fn surplus(&self) -> u64 {
        self.surplus
    }

    /// How long the requests took that ended well.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// The place of a function that callers may call.
    pub(super) fn served(&self, function: &str) -> Result<usize, DrpcError> {
        match self.names.get(function) {
            Some(index) if self.functions[*index].is_served() => Ok(*index),
            _ => Err(DrpcError::UnknownFunction {
                function: function.into(),
                known: self.functions().map(String::from).collect(),
            }),
        }
    }

    /// BROKER-6: nobody may serve a function any more.
    fn orphan(&mut self, now: Instant, index: usize) {
        if self.functions[index].subscribers > 0 {
            return;
        }
        if self.options.grace.is_zero() {
            self.forget(index);
        } else {
            self.functions[index].orphaned_until = Some(now + self.options.grace);
        }
    }

    /// Fails what waits for a function that nobody serves.
    pub(super) fn forget(&mut self, index: usize) {
        self.functions[index].orphaned_until = None;
        let waiting = std::mem::take(&mut self.functions[index].queue);
        for request in waiting {
            self.end(request, |function, over| DrpcError::ServerLost {
                function,
                request,
                deliveries: over.deliveries.min(1),
                at_most_once: false,
            });
        }
    }

    /// Functions keep their place, and so their counts, when nobody serves them for a while.
    fn index_of(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        self.names.insert(name.into(), self.functions.len());
        self.functions.push(Function::new(name));
        self.functions.len() - 1
    }
}
