//! The broker behind a lock, and whoever performs its effects: the thread that caused them.
//!
//! # Protocol
//! A thread with an event locks the server, lets the machine decide, and moves what is delivered
//! into the inboxes of subscribers, which lie under the same lock. Everything that runs foreign
//! code, waking a spout or a caller, happens after the lock is released, by the same thread. There
//! is no thread in between, so a call costs the wake-ups of its two ends and no other.
//!
//! # Invariants
//! - **SERVER-1 (parts before the end).** A topology reports a part before it reports the request
//!   completed, and each report hands its effects over before it returns: so parts overtake nothing.
//! - **SERVER-2 (woken once).** A subscriber is woken when its inbox stops being empty, and takes
//!   all of it when it comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use bytes::Bytes;
use raybolt_core::drpc::{Broker, Effect, Outcome, SubscriberId, Terms};
use raybolt_core::ids::RequestId;
use raybolt_runtime::timer::{Timer, TimerKey};

use crate::pending::Call;
use crate::stream::Queue;
use crate::subscription::Delivered;

pub(crate) type Machine = Broker<Client, Bytes, Bytes>;
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// Who waits for what a request yields.
#[derive(Clone)]
pub(crate) enum Client {
    One(Arc<Call>),
    Stream(Arc<Queue>),
}

/// A broker with its callers and subscribers.
pub(crate) struct Server {
    state: Mutex<State>,
    timer: Timer,
    this: Weak<Server>,
}

struct State {
    broker: Machine,
    inboxes: BTreeMap<SubscriberId, Inbox>,
    /// When the timer calls; never later than the broker's next deadline.
    armed: Option<(Instant, TimerKey)>,
}

/// What a subscriber has not taken yet.
pub(crate) struct Inbox {
    pub delivered: Vec<Delivered>,
    pub cancelled: Vec<RequestId>,
    wake: Wake,
}

/// What a thread does after it released the lock.
#[derive(Default)]
struct Todo {
    wakes: Vec<Wake>,
    parts: Vec<(Client, RequestId, Bytes)>,
    answers: Vec<(Client, Outcome<Bytes>)>,
}

impl Server {
    pub fn new(options: raybolt_core::drpc::Options) -> Arc<Self> {
        Arc::new_cyclic(|this| Server {
            state: Mutex::new(State {
                broker: Broker::new(options),
                inboxes: BTreeMap::new(),
                armed: None,
            }),
            timer: Timer::new(),
            this: this.clone(),
        })
    }

    /// Lets the machine take an event, and performs what follows from it.
    pub fn event<T>(&self, event: impl FnOnce(&mut Machine) -> T) -> T {
        let mut state = self.lock();
        let value = event(&mut state.broker);
        let todo = state.collect();
        drop(state);
        self.perform(todo);
        value
    }

    /// Lets the machine take a request that ends at `deadline`.
    pub fn request<T>(&self, deadline: Instant, event: impl FnOnce(&mut Machine) -> T) -> T {
        let mut state = self.lock();
        let value = event(&mut state.broker);
        let todo = state.collect();
        if state.armed.is_none_or(|(armed, _)| deadline < armed) {
            self.arm(&mut state);
        }
        drop(state);
        self.perform(todo);
        value
    }

    /// Looks at the machine.
    pub fn look<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.lock().broker)
    }

    pub fn subscribe(&self, function: &str, terms: Terms, wake: Wake) -> SubscriberId {
        let mut state = self.lock();
        let id = state.broker.subscribed(function, terms);
        state.inboxes.insert(id, Inbox { delivered: Vec::new(), cancelled: Vec::new(), wake });
        let todo = state.collect();
        drop(state);
        self.perform(todo);
        id
    }

    /// Hands over the inbox of a subscriber; one that was lost has none.
    pub fn inbox(&self, subscriber: SubscriberId, take: impl FnOnce(&mut Inbox)) {
        if let Some(inbox) = self.lock().inboxes.get_mut(&subscriber) {
            take(inbox);
        }
    }

    /// A subscriber hands back what it has not begun, and what it has not even taken.
    pub fn pause(&self, subscriber: SubscriberId, mut not_begun: Vec<Delivered>) {
        let mut state = self.lock();
        if let Some(inbox) = state.inboxes.get_mut(&subscriber) {
            not_begun.append(&mut inbox.delivered);
        }
        let not_begun = not_begun.into_iter().map(|it| (it.request, it.args)).collect();
        state.broker.paused(subscriber, not_begun);
        let todo = state.collect();
        drop(state);
        self.perform(todo);
    }

    /// A subscription ends; its requests go elsewhere or fail.
    pub fn lose(&self, subscriber: SubscriberId) {
        let mut state = self.lock();
        let Some(inbox) = state.inboxes.remove(&subscriber) else { return };
        state.broker.subscriber_lost(Instant::now(), subscriber);
        let todo = state.collect();
        drop(state);
        drop(inbox); // Its waker may hold a topology: not under the lock.
        self.perform(todo);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the server's lock")
    }

    fn perform(&self, todo: Todo) {
        for (client, request, part) in todo.parts {
            if let Client::Stream(queue) = client
                && let Err(full) = queue.push(part)
            {
                self.event(|broker| broker.overflowed(request, full.parts_max));
            }
        }
        for (client, outcome) in todo.answers {
            match client {
                Client::One(call) => call.answer(outcome),
                Client::Stream(queue) => queue.end(outcome),
            }
        }
        todo.wakes.iter().for_each(|wake| wake());
    }

    fn arm(&self, state: &mut State) {
        if let Some((_, key)) = state.armed.take() {
            self.timer.cancel(key);
        }
        let Some(deadline) = state.broker.next_deadline() else { return };
        let this = self.this.clone();
        let key = self.timer.at(deadline, move || {
            if let Some(server) = this.upgrade() {
                server.time_passed();
            }
        });
        state.armed = Some((deadline, key));
    }

    fn time_passed(&self) {
        let mut state = self.lock();
        state.armed = None;
        state.broker.deadlines_passed(Instant::now());
        let todo = state.collect();
        self.arm(&mut state);
        drop(state);
        self.perform(todo);
    }
}

impl State {
    /// Performs the effects that lie under this lock, and gives back the others.
    fn collect(&mut self) -> Todo {
        let mut todo = Todo::default();
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Deliver { subscriber, request, args, deadline } => {
                    let inbox = self.inboxes.get_mut(&subscriber);
                    let inbox = inbox.expect("only a subscriber with an inbox has credit");
                    inbox.note(&mut todo.wakes);
                    inbox.delivered.push(Delivered { request, args, deadline });
                }
                Effect::Cancel { subscriber, request } => {
                    if let Some(inbox) = self.inboxes.get_mut(&subscriber) {
                        inbox.note(&mut todo.wakes);
                        inbox.cancelled.push(request);
                    }
                }
                Effect::Part { client, request, part } => todo.parts.push((client, request, part)),
                Effect::Answer { client, outcome, .. } => todo.answers.push((client, outcome)),
            }
        }
        todo
    }
}

impl Inbox {
    /// SERVER-2: remembers to wake the subscriber if nothing was in its inbox.
    fn note(&self, wakes: &mut Vec<Wake>) {
        if self.delivered.is_empty() && self.cancelled.is_empty() {
            wakes.push(self.wake.clone());
        }
    }
}
