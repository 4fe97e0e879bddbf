//! Many tuples at once: emitted by `emit_all`, taken by `next_run`.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use common::*;
use raybolt_topology::*;

type Numbered = (RequestId, u64);

/// `(request, width)`: emits `width` tuples for the request, all at once.
#[derive(Clone)]
struct Spread;

impl Bolt for Spread {
    type In = Numbered;
    type Out = Numbered;

    fn execute(
        &mut self,
        (request, width): Numbered,
        out: &mut Collector<Numbered>,
    ) -> Result<(), BoltError> {
        out.emit_all((0..width).map(|n| {
            assert_ne!(n, 5_000, "the iterator panics on the way");
            (request, n)
        }));
        Ok(())
    }
}

/// Counts rows of tuples; a row with the number 4,000 fails after it was taken.
#[derive(Clone, Default)]
struct CountRows(BTreeMap<RequestId, u64>);

impl Bolt for CountRows {
    type In = Numbered;
    type Out = Numbered;
    const WANTS_FINISHED: bool = true;

    fn execute(&mut self, _: Numbered, _: &mut Collector<Numbered>) -> Result<(), BoltError> {
        unreachable!("tuples are taken in rows")
    }
    fn execute_batch(
        &mut self,
        batch: &mut Batch<Numbered>,
        out: &mut Collector<Numbered>,
    ) -> Result<(), BoltError> {
        while let Some(row) = batch.next_run(out) {
            let request = row.request_id().ok_or(BoltError::new("a row without request"))?;
            let len = row.len() as u64;
            for (tuple_request, n) in row {
                if tuple_request != request {
                    return Err(BoltError::new("a row of two requests"));
                }
                if n == 4_000 {
                    return Err(BoltError::new("unlucky"));
                }
            }
            *self.0.entry(request).or_default() += len;
        }
        Ok(())
    }
    fn finished(
        &mut self,
        request: RequestId,
        out: &mut Collector<Numbered>,
    ) -> Result<(), BoltError> {
        out.emit_all(self.0.remove(&request).map(|count| (request, count)));
        Ok(())
    }
    fn abandoned(&mut self, request: RequestId) {
        self.0.remove(&request);
    }
}

/// Adds up, and is the end of each request.
#[derive(Clone)]
struct Total(BTreeMap<RequestId, u64>, Sender<(u64, Result<u64, String>)>);

impl Bolt for Total {
    type In = Numbered;
    type Out = ();
    const WANTS_FINISHED: bool = true;

    fn execute(
        &mut self,
        (request, count): Numbered,
        _: &mut Collector<()>,
    ) -> Result<(), BoltError> {
        *self.0.entry(request).or_default() += count;
        Ok(())
    }
    fn finished(&mut self, request: RequestId, _: &mut Collector<()>) -> Result<(), BoltError> {
        let _ = self.1.send((request.0, Ok(self.0.remove(&request).unwrap_or(0))));
        Ok(())
    }
}

struct Failures(Sender<(u64, Result<u64, String>)>);

impl RequestObserver for Failures {
    fn completed(&self, _: &[RequestId]) {}
    fn failed(&self, request: RequestId, message: &str) {
        let _ = self.0.send((request.0, Err(message.to_owned())));
    }
}

/// What becomes of requests with these widths.
fn totals(widths: &[u64]) -> BTreeMap<u64, Result<u64, String>> {
    let (to, ends) = channel();
    let mut builder = TopologyBuilder::new();
    let requests = widths.iter().zip(0..).map(|(&width, id)| (RequestId(id), width));
    builder.set_spout("requests", given(requests), 1);
    builder.set_bolt("spread", Spread, 3).shuffle_grouping("requests");
    builder.set_bolt("count", CountRows::default(), 4).fields_grouping("spread", ["0", "1"]);
    builder
        .set_bolt("total", Total(BTreeMap::new(), to.clone()), 2)
        .fields_grouping("count", ["0"]);
    builder.coordinate(Arc::new(Failures(to)));
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("rows", Config::default(), builder).unwrap();
    let totals = take(&ends, widths.len()).into_iter().collect();
    until("no record is left", || handle.stats().pending_requests == 0);
    totals
}

#[test]
fn every_tuple_of_a_row_counts_for_its_request() {
    let widths: Vec<u64> = (0..500).map(|n| [0, 1, 3, 40, 3_000][n % 5]).collect();
    let expected = widths.iter().zip(0..).map(|(&width, id)| (id, Ok(width))).collect();
    assert_eq!(totals(&widths), expected);
}

#[test]
fn a_row_that_fails_fails_its_request_and_no_other() {
    let totals = totals(&[100, 4_500, 3_999, 2]);
    assert_eq!(totals[&1], Err("unlucky".to_owned()));
    assert_eq!((&totals[&0], &totals[&2], &totals[&3]), (&Ok(100), &Ok(3_999), &Ok(2)));
}

#[test]
fn what_was_emitted_before_a_panic_is_counted() {
    let totals = totals(&[7, 6_000, 8]);
    let message = totals[&1].as_ref().unwrap_err();
    // Whichever comes first: number 4,000 has been emitted, too.
    assert!(message.contains("panics on the way") || message == "unlucky", "{message}");
    assert_eq!((&totals[&0], &totals[&2]), (&Ok(7), &Ok(8)));
}

/// Takes rows, and tells the test their lengths and numbers.
#[derive(Clone)]
struct TellRows(Sender<Vec<u64>>);

impl Bolt for TellRows {
    type In = (u64,);
    type Out = ();

    fn execute(&mut self, _: (u64,), _: &mut Collector<()>) -> Result<(), BoltError> {
        unreachable!("tuples are taken in rows")
    }
    fn execute_batch(
        &mut self,
        batch: &mut Batch<(u64,)>,
        out: &mut Collector<()>,
    ) -> Result<(), BoltError> {
        while let Some(row) = batch.next_run(out) {
            let _ = self.0.send(row.map(|(number,)| number).collect());
        }
        Ok(())
    }
}

#[test]
fn tuples_that_are_followed_come_one_by_one() {
    let (to, rows) = channel();
    let (spout, fates) = followed((0..200u64).map(|n| (n,)));
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_bolt("rows", TellRows(to), 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("followed", Config::default(), builder).unwrap();
    let rows = take(&rows, 200);
    assert_eq!(rows, (0..200).map(|n| vec![n]).collect::<Vec<_>>());
    let acked = take(&fates, 200).into_iter().map(|fate| match fate {
        Fate::Acked(id) => id,
        Fate::Failed(id, reason) => panic!("{id} failed: {reason}"),
    });
    assert_eq!(acked.collect::<BTreeSet<_>>(), (0..200).collect());
}

/// Emits the numbers below the one that it takes, all at once.
#[derive(Clone)]
struct Below;

impl Bolt for Below {
    type In = (u64,);
    type Out = (u64,);

    fn execute(&mut self, (number,): (u64,), out: &mut Collector<(u64,)>) -> Result<(), BoltError> {
        out.emit_all((0..number).map(|n| (n,)));
        Ok(())
    }
}

#[test]
fn rows_keep_the_order_and_lose_nothing() {
    let (to, rows) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("number", given([(20_000u64,)]), 1);
    builder.set_bolt("below", Below, 1).shuffle_grouping("number");
    builder.set_bolt("rows", TellRows(to), 1).shuffle_grouping("below");
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("order", Config::default(), builder).unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 20_000 {
        numbers.extend(take(&rows, 1).remove(0));
    }
    assert!(numbers.into_iter().eq(0..20_000));
}

#[test]
fn what_is_emitted_at_once_goes_where_single_tuples_go() {
    let homes = |at_once: bool| {
        let (tell, seen) = tell::<(u64,)>();
        let mut builder = TopologyBuilder::new();
        builder.set_spout("number", given([(1_000u64,)]), 1);
        let singly = apply(|(number,): (u64,), out: &mut Collector<(u64,)>| {
            (0..number).for_each(|n| out.emit((n,)));
            Ok(())
        });
        if at_once {
            builder.set_bolt("below", Below, 1).shuffle_grouping("number");
        } else {
            builder.set_bolt("below", singly, 1).shuffle_grouping("number");
        }
        builder.set_bolt("tell", tell, 4).fields_grouping("below", ["0"]);
        let cluster = LocalCluster::with_threads(2);
        cluster.submit("homes", Config::default(), builder).unwrap();
        let seen = take(&seen, 1_000);
        seen.into_iter().map(|it| (it.tuple.0, it.instance)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(homes(true), homes(false));
}

#[test]
fn a_shuffle_of_many_at_once_reaches_every_instance() {
    let (tell, seen) = tell::<(u64,)>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("number", given([(10_000u64,)]), 1);
    builder.set_bolt("below", Below, 1).shuffle_grouping("number");
    builder.set_bolt("tell", tell, 4).shuffle_grouping("below");
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("turns", Config::default(), builder).unwrap();
    let mut counts = BTreeMap::<usize, usize>::new();
    for it in take(&seen, 10_000) {
        *counts.entry(it.instance).or_default() += 1;
    }
    // Turns are not longer than 64 tuples; they may be of different length, as instances differ.
    assert_eq!(counts.len(), 4);
    assert_eq!(counts.values().sum::<usize>(), 10_000);
}
