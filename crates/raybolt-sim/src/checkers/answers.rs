//! Follows every DRPC request from its call to its answer.
//!
//! # Checked
//! - An accepted request is answered exactly once, to its caller, with its own result or with a reason that
//!   is true; nothing follows the answer (BROKER-1).
//! - A request is at one subscriber at most, with its arguments, no more often than allowed (BROKER-2).
//! - First come, first served; those that come back go first (BROKER-3).
//! - No subscriber has more than the credit it gave, and no request waits beside credit (BROKER-4).
//! - A deadline is kept to the microsecond (BROKER-5); where all are late, none is needed. Nobody waits for an unserved function (BROKER-6).

use std::collections::{BTreeMap, BTreeSet};

use raybolt_core::drpc::{DrpcError, SubscriberId};
use raybolt_core::ids::RequestId;

use crate::clock::Micros;
use crate::trace::{Verdict, Violation, require};

const NAME: &str = "answers";

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Names the client and its arguments.
    pub client: u64,
    /// Which function, by number.
    pub function: usize,
    /// When it gives up.
    pub deadline: Micros,
    /// Whether it takes parts.
    pub stream: bool,
}

#[derive(Debug)]
struct Request {
    asked: Asked,
    at: Option<SubscriberId>,
    deliveries: u32,
    /// What may be said as a reason from now on.
    client_left: bool,
    too_slow: bool,
    failed: bool,
    completed: bool,
    lost: bool,
    answer: Option<String>,
}

#[derive(Debug)]
struct Server {
    function: usize,
    credit: usize,
    takes: bool,
    at_most_once: bool,
}

/// The truth about all requests and subscribers of a broker.
#[derive(Debug)]
pub struct Answers {
    /// Whether deadlines are so late that only a request that is stuck meets its own.
    patient: bool,
    deliveries_max: u32,
    requests: BTreeMap<RequestId, Request>,
    /// Open requests that are at no subscriber, by function: those that came back, and new ones.
    back: Vec<BTreeSet<RequestId>>,
    new: Vec<BTreeSet<RequestId>>,
    servers: BTreeMap<SubscriberId, Server>,
    unserved_since: Vec<Option<Micros>>,
}

impl Answers {
    /// A broker with so many functions, none of which is served yet.
    pub fn new(functions: usize, deliveries_max: u32, patient: bool) -> Self {
        Answers {
            patient,
            deliveries_max,
            requests: BTreeMap::new(),
            back: vec![BTreeSet::new(); functions],
            new: vec![BTreeSet::new(); functions],
            servers: BTreeMap::new(),
            unserved_since: vec![Some(0); functions],
        }
    }

    /// How many requests of a function wait.
    pub fn waiting_for(&self, function: usize) -> usize {
        self.back[function].len() + self.new[function].len()
    }

    /// The broker accepted a request.
    pub fn accepted(&mut self, request: RequestId, asked: Asked) -> Verdict {
        self.new[asked.function].insert(request);
        let record = Request {
            asked,
            at: None,
            deliveries: 0,
            client_left: false,
            too_slow: false,
            failed: false,
            completed: false,
            lost: false,
            answer: None,
        };
        let before = self.requests.insert(request, record);
        require(before.is_none(), NAME, || format!("request {request} is accepted twice"))
    }

    /// A subscriber came.
    pub fn subscribed(
        &mut self,
        id: SubscriberId,
        function: usize,
        credit: usize,
        at_most_once: bool,
    ) {
        self.servers.insert(id, Server { function, credit, takes: true, at_most_once });
        self.unserved_since[function] = None;
    }

    /// A subscriber takes no more requests.
    pub fn unsubscribed(&mut self, now: Micros, id: SubscriberId) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if !std::mem::replace(&mut server.takes, false) {
            return;
        }
        let function = server.function;
        let served = self.servers.values().any(|other| other.takes && other.function == function);
        if !served {
            self.unserved_since[function] = Some(now);
        }
    }

    /// A subscriber is gone; what it had goes to another, or ends.
    pub fn lost(&mut self, now: Micros, id: SubscriberId) {
        self.unsubscribed(now, id);
        let Some(server) = self.servers.remove(&id) else { return };
        for (request, record) in &mut self.requests {
            if record.at == Some(id) && record.answer.is_none() {
                record.at = None;
                record.lost = server.at_most_once || record.deliveries >= self.deliveries_max;
                self.back[server.function].insert(*request);
            }
        }
    }

    /// A subscriber gave credit.
    pub fn credit_returned(&mut self, id: SubscriberId, credit: usize) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.credit += credit;
        }
    }

    /// The client of a request leaves, or does not read what it gets.
    pub fn withdrawn(&mut self, request: RequestId, too_slow: bool) {
        let record = self.of(request);
        record.client_left |= !too_slow;
        record.too_slow |= too_slow;
    }

    /// What a subscriber said about a request reached the broker: that it failed, or that it is done.
    pub fn said(&mut self, id: SubscriberId, request: RequestId, failed: bool) {
        let record = self.of(request);
        if record.at == Some(id) {
            record.failed |= failed;
            record.completed |= !failed;
        }
    }

    /// The broker hands a request to a subscriber.
    pub fn delivered(
        &mut self,
        id: SubscriberId,
        request: RequestId,
        args: u64,
        deadline: Micros,
    ) -> Verdict {
        let deliveries_max = self.deliveries_max;
        let server = self.servers.get_mut(&id);
        let ready = server.as_ref().is_some_and(|server| server.takes && server.credit > 0);
        require(ready, NAME, || {
            format!(
                "BROKER-4: request {request} is delivered to {id}, which has no credit: {server:?}"
            )
        })?;
        let server = self.servers.get_mut(&id).expect("it is ready");
        server.credit -= 1;
        let record = self.requests.get_mut(&request).expect("the broker delivers what it accepted");
        record.deliveries += 1;
        let Asked { client, function, deadline: due, .. } = record.asked;
        let fits = record.answer.is_none()
            && record.at.is_none()
            && !record.lost
            && (args, deadline, server.function) == (client, due, function)
            && record.deliveries <= deliveries_max;
        require(fits, NAME, || {
            format!("BROKER-2: request {request} is delivered to {id} with {args}, but: {record:?}")
        })?;
        record.at = Some(id);
        if self.back[function].remove(&request) {
            return Ok(());
        }
        let first = self.new[function].first() == Some(&request) && self.back[function].is_empty();
        require(first, NAME, || {
            let (back, new) = (&self.back[function], &self.new[function]);
            format!("BROKER-3: request {request} is delivered before {back:?}, {new:?}")
        })?;
        self.new[function].remove(&request);
        Ok(())
    }

    /// A part reached its client.
    pub fn part(&mut self, client: u64, request: RequestId, of: u64) -> Verdict {
        let record = self.of(request);
        let fits = record.answer.is_none() && record.asked.stream && record.at.is_some();
        require(fits && record.asked.client == client && of == client, NAME, || {
            format!(
                "BROKER-1: client {client} gets a part of {of} for request {request}: {record:?}"
            )
        })
    }

    /// The broker answered; `outcome` is `Ok` with whose result it is, `None` after the last part.
    pub fn answered(
        &mut self,
        now: Micros,
        client: u64,
        request: RequestId,
        outcome: Result<Option<u64>, &DrpcError>,
    ) -> Verdict {
        let patient = self.patient;
        let unserved = self.unserved_since.clone();
        let record = self.of(request);
        let unserved = unserved[record.asked.function].is_some();
        require(record.answer.is_none() && record.asked.client == client, NAME, || {
            format!(
                "BROKER-1: client {client} is answered {outcome:?} for request {request}: {record:?}"
            )
        })?;
        let is_true = match outcome {
            Ok(Some(of)) => of == client && !record.asked.stream && record.at.is_some(),
            Ok(None) => record.asked.stream && record.completed,
            Err(DrpcError::TimedOut { .. }) => !patient && now == record.asked.deadline,
            Err(DrpcError::Cancelled { .. }) => record.client_left,
            Err(DrpcError::ReaderTooSlow { .. }) => record.too_slow,
            Err(DrpcError::Failed { .. }) => record.failed,
            Err(DrpcError::NoResult { .. }) => record.completed && !record.asked.stream,
            Err(DrpcError::ServerLost { .. }) => record.lost || (record.at.is_none() && unserved),
            Err(DrpcError::ShuttingDown { .. }) => true,
            Err(_) => false,
        };
        require(is_true, NAME, || {
            format!(
                "request {request} is answered {outcome:?} at {now}, which is not true: {record:?}"
            )
        })?;
        record.answer = Some(format!("{outcome:?}"));
        let function = record.asked.function;
        self.back[function].remove(&request);
        self.new[function].remove(&request);
        Ok(())
    }

    /// The broker has performed all its effects: nothing may be left that it should have done.
    pub fn settled(&self, now: Micros, grace: Micros) -> Verdict {
        for (function, unserved_since) in self.unserved_since.iter().enumerate() {
            let waiting = self.waiting_for(function);
            let credit = self.servers.iter().find(|(_, server)| {
                server.function == function && server.takes && server.credit > 0
            });
            require(waiting == 0 || credit.is_none(), NAME, || {
                let id = credit.map(|(id, _)| *id).unwrap_or(SubscriberId(0));
                format!(
                    "BROKER-4: {waiting} requests of function {function} wait beside credit of {id}"
                )
            })?;
            let orphaned = unserved_since.is_some_and(|since| now > since + grace);
            require(waiting == 0 || !orphaned, NAME, || {
                format!(
                    "BROKER-6: {waiting} requests wait for function {function}, nobody serves it"
                )
            })?;
        }
        Ok(())
    }

    /// Nothing that is due may be open (BROKER-5).
    pub fn deadlines_passed(&self, now: Micros) -> Verdict {
        let late = self.open().find(|(_, record)| record.asked.deadline <= now);
        match late {
            None => Ok(()),
            Some((request, record)) => Err(Violation {
                checker: NAME,
                message: format!("BROKER-5: request {request} is open at {now}: {record:?}"),
            }),
        }
    }

    /// Requests that were never answered.
    pub fn unanswered(&self) -> Vec<String> {
        self.open().map(|(request, record)| format!("request {request}: {record:?}")).collect()
    }

    fn open(&self) -> impl Iterator<Item = (&RequestId, &Request)> {
        self.requests.iter().filter(|(_, record)| record.answer.is_none())
    }

    fn of(&mut self, request: RequestId) -> &mut Request {
        self.requests.get_mut(&request).expect("the broker speaks of requests that it accepted")
    }
}
