//! Knows of one topology how far each request really is, and compares what the batch machine decides.
//!
//! # Checked
//! - An instance is told to finish a request after everything upstream is over and all deliveries to its
//!   component were processed; once; and it is one that saw some of it, or the home instance (BATCH-3).
//! - A request ends in exactly one of completed and failed, the first only when all is over (BATCH-4).
//! - What an instance holds of a request it is told to finish or to abandon (BATCH-5).

use std::collections::{BTreeMap, BTreeSet};

use raybolt_core::ids::RequestId;

use crate::trace::{Verdict, require};
use crate::worlds::dag::{Dag, Place};

const NAME: &str = "completion";

/// The truth about the requests of one topology.
#[derive(Debug)]
pub struct Completion {
    dag: Dag,
    requests: BTreeMap<RequestId, Request>,
}

#[derive(Debug)]
struct Request {
    /// Deliveries sent and not processed, by component.
    outstanding: Vec<u32>,
    /// Instances that processed some of it.
    saw: BTreeSet<Place>,
    /// Instances that were told to finish it.
    told: BTreeSet<Place>,
    /// Those of them that have done so.
    finished: BTreeSet<Place>,
    abandoned: BTreeSet<Place>,
    /// Whether the machine heard of a failure, or of a cancel.
    failed: bool,
    end: Option<&'static str>,
}

impl Completion {
    /// A topology without requests.
    pub fn new(dag: &Dag) -> Self {
        Completion { dag: dag.clone(), requests: BTreeMap::new() }
    }

    /// A request came in.
    pub fn opened(&mut self, request: RequestId) {
        let record = Request {
            outstanding: vec![0; self.dag.components.len()],
            saw: BTreeSet::new(),
            told: BTreeSet::new(),
            finished: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            failed: false,
            end: None,
        };
        self.requests.insert(request, record);
    }

    /// A tuple was sent to a component.
    pub fn sent(&mut self, request: RequestId, to: usize) {
        self.of(request).outstanding[to] += 1;
    }

    /// An instance processed one.
    pub fn processed(&mut self, request: RequestId, at: Place) {
        let record = self.of(request);
        record.outstanding[at.0] -= 1;
        record.saw.insert(at);
    }

    /// An instance did what it does to finish a request.
    pub fn finished(&mut self, request: RequestId, at: Place) {
        self.of(request).finished.insert(at);
    }

    /// The machine heard that the request failed or is not wanted any more.
    pub fn failure_arrived(&mut self, request: RequestId) {
        self.of(request).failed = true;
    }

    /// The machine tells an instance to finish a request.
    pub fn told_to_finish(&mut self, request: RequestId, at: Place) -> Verdict {
        let home = (request.0 % u64::from(self.dag.components[at.0].instances)) as u32;
        let upstream_open = self.upstream_open(request, at.0);
        let record = self.of(request);
        require(upstream_open.is_none(), NAME, || {
            let open = upstream_open.unwrap_or_default();
            format!(
                "BATCH-3: {at:?} is to finish request {request}, but component {open} is not over"
            )
        })?;
        let left = record.outstanding[at.0];
        require(left == 0, NAME, || {
            format!(
                "BATCH-3: {at:?} is to finish request {request}, {left} deliveries are outstanding"
            )
        })?;
        let mut seers = record.saw.iter().filter(|place| place.0 == at.0);
        let fits = record.saw.contains(&at) || (seers.next().is_none() && at.1 == home);
        require(fits, NAME, || {
            format!("{at:?} is to finish request {request}, but saw none of it")
        })?;
        require(record.told.insert(at), NAME, || {
            format!("BATCH-3: {at:?} is to finish request {request} twice")
        })?;
        require(record.end.is_none() && !record.failed, NAME, || {
            format!("BATCH-6: {at:?} is to finish request {request}, which has ended or failed")
        })
    }

    /// The machine tells an instance to abandon a request.
    pub fn told_to_abandon(&mut self, request: RequestId, at: Place) -> Verdict {
        let record = self.of(request);
        let left: u32 = record.outstanding.iter().sum();
        require(record.failed && left == 0, NAME, || {
            format!(
                "{at:?} is to abandon request {request}, failed: {}, left: {left}",
                record.failed
            )
        })?;
        let holds = record.saw.contains(&at) && !record.finished.contains(&at);
        require(holds && record.abandoned.insert(at), NAME, || {
            format!("{at:?} is to abandon request {request}, of which it holds nothing")
        })
    }

    /// The machine says that a request is complete.
    pub fn completed(&mut self, request: RequestId) -> Verdict {
        let open = self.upstream_open(request, self.dag.components.len());
        require(open.is_none(), NAME, || {
            let open = open.unwrap_or_default();
            format!("BATCH-4: request {request} is complete, but component {open} is not over")
        })?;
        self.end(request, "completed")
    }

    /// The machine says that a request failed.
    pub fn failed(&mut self, request: RequestId) -> Verdict {
        let failed = self.of(request).failed;
        require(failed, NAME, || format!("request {request} is failed, nothing of it did"))?;
        self.end(request, "failed")
    }

    /// What the requests that were opened still wait for.
    pub fn waiting(&self) -> Vec<String> {
        let open = self.requests.iter().filter(|(_, record)| record.end.is_none());
        open.map(|(request, record)| {
            let (left, told) = (&record.outstanding, record.told.difference(&record.finished));
            format!("request {request} for deliveries {left:?} and for {told:?} to finish")
        })
        .collect()
    }

    /// Instances that were never told what to do with what they hold.
    pub fn held(&self) -> Vec<String> {
        let mut held = Vec::new();
        for (request, record) in &self.requests {
            let wanting = record.saw.iter().filter(|at| self.dag.components[at.0].wants_finished);
            for at in wanting {
                if !record.finished.contains(at) && !record.abandoned.contains(at) {
                    held.push(format!("{at:?} holds some of request {request}"));
                }
            }
        }
        held
    }

    /// The first component before `end` that may still send something for a request.
    fn upstream_open(&self, request: RequestId, end: usize) -> Option<usize> {
        let record = self.requests.get(&request).expect("the machine speaks of opened requests");
        let upstream = self.ancestors(end);
        upstream.into_iter().find(|&component| {
            let told = record.told.iter().filter(|at| at.0 == component);
            let finishing = told.clone().any(|at| !record.finished.contains(at));
            let untold = self.dag.components[component].wants_finished && told.count() == 0;
            component > 0 && (record.outstanding[component] > 0 || finishing || untold)
        })
    }

    /// The components from which something may come to `component`; all, if it lies behind the last.
    fn ancestors(&self, component: usize) -> BTreeSet<usize> {
        if component == self.dag.components.len() {
            return (0..component).collect();
        }
        let mut ancestors = BTreeSet::new();
        let mut next = vec![component];
        while let Some(component) = next.pop() {
            next.extend(self.dag.upstream(component).filter(|from| ancestors.insert(*from)));
        }
        ancestors
    }

    fn end(&mut self, request: RequestId, end: &'static str) -> Verdict {
        let before = self.of(request).end.replace(end);
        require(before.is_none(), NAME, || {
            let before = before.unwrap_or_default();
            format!("BATCH-4: request {request} is {end}, but was {before} before")
        })
    }

    fn of(&mut self, request: RequestId) -> &mut Request {
        self.requests.get_mut(&request).expect("the world speaks of requests that were opened")
    }
}
