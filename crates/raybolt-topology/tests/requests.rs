//! Coordination: bolts are told when they have seen all of a request, and the observer how it ended.

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use common::*;
use raybolt_topology::*;

/// Tells the test how requests end.
struct Ends(Sender<(u64, Result<(), String>)>);

impl RequestObserver for Ends {
    fn completed(&self, requests: &[RequestId]) {
        for request in requests {
            let _ = self.0.send((request.0, Ok(())));
        }
    }
    fn failed(&self, request: RequestId, message: &str) {
        let _ = self.0.send((request.0, Err(message.to_owned())));
    }
}

type Ended = Receiver<(u64, Result<(), String>)>;

fn coordinated() -> (TopologyBuilder, Ended) {
    let (ends, ended) = channel();
    let mut builder = TopologyBuilder::new();
    builder.coordinate(Arc::new(Ends(ends)));
    (builder, ended)
}

/// One request is `(request, width)`: `Spread` emits `width` tuples for it.
#[derive(Clone)]
struct Spread;

impl Bolt for Spread {
    type In = (RequestId, u64);
    type Out = (RequestId, u64);

    fn execute(
        &mut self,
        (request, width): Self::In,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        if width == 666 {
            return Err(BoltError::new("no such number"));
        }
        (0..width).for_each(|n| out.emit((request, n)));
        Ok(())
    }
}

/// Counts the tuples of each request; emits the count when all have been seen.
#[derive(Clone, Default)]
struct Partial {
    counts: BTreeMap<RequestId, u64>,
    abandoned: Option<Sender<u64>>,
}

impl Bolt for Partial {
    type In = (RequestId, u64);
    type Out = (RequestId, u64);
    const WANTS_FINISHED: bool = true;

    fn execute(
        &mut self,
        (request, n): Self::In,
        _: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        if n == 13_000 {
            return Err(BoltError::new("unlucky"));
        }
        *self.counts.entry(request).or_default() += 1;
        Ok(())
    }
    fn finished(
        &mut self,
        request: RequestId,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        let count = self.counts.remove(&request).unwrap_or(0);
        if count == 77 {
            return Err(BoltError::new("77 is not a count"));
        }
        out.emit((request, count));
        Ok(())
    }
    fn abandoned(&mut self, request: RequestId) {
        if self.counts.remove(&request).is_some()
            && let Some(abandoned) = &self.abandoned
        {
            let _ = abandoned.send(request.0);
        }
    }
}

/// Adds up counts, and tells the test when all have been seen.
#[derive(Clone)]
struct Total {
    sums: BTreeMap<RequestId, u64>,
    to: Sender<(u64, u64)>,
}

impl Bolt for Total {
    type In = (RequestId, u64);
    type Out = ();
    const WANTS_FINISHED: bool = true;

    fn execute(
        &mut self,
        (request, count): Self::In,
        _: &mut Collector<()>,
    ) -> Result<(), BoltError> {
        *self.sums.entry(request).or_default() += count;
        Ok(())
    }
    fn finished(&mut self, request: RequestId, _: &mut Collector<()>) -> Result<(), BoltError> {
        let _ = self.to.send((request.0, self.sums.remove(&request).unwrap_or(0)));
        Ok(())
    }
}

type Totals = Receiver<(u64, u64)>;

fn total() -> (Total, Totals) {
    let (to, totals) = channel();
    (Total { sums: BTreeMap::new(), to }, totals)
}

/// Hands its tuples to the test, unsettled.
fn hold() -> (impl Bolt<In = (RequestId, u64), Out = ()>, Receiver<Held>) {
    let (to, held) = channel();
    let hold = apply(move |_: (RequestId, u64), out: &mut Collector<()>| {
        let _ = to.send(out.hold());
        Ok(())
    });
    (hold, held)
}

/// `widths[i]` is request `i`. Gives the totals and the ends as they come.
fn count(widths: Vec<u64>, partial: Partial) -> (LocalCluster, Totals, Ended) {
    let (total, totals) = total();
    let (mut builder, ended) = coordinated();
    let requests = widths.into_iter().enumerate().map(|(id, width)| (RequestId(id as u64), width));
    builder.set_spout("requests", given(requests), 1);
    builder.set_bolt("spread", Spread, 2).shuffle_grouping("requests");
    builder.set_bolt("partial", partial, 4).fields_grouping("spread", ["0", "1"]);
    builder.set_bolt("total", total, 3).fields_grouping("partial", ["0"]);
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("count", Config::default(), builder).unwrap();
    (cluster, totals, ended)
}

#[test]
fn each_request_is_finished_once_after_all_of_its_tuples() {
    let widths: Vec<u64> = (0..600).map(|n| [0, 1, 2, 5, 2_500][n % 5]).collect();
    let (cluster, total, ended) = count(widths.clone(), Partial::default());
    let totals: BTreeMap<u64, u64> = take(&total, 600).into_iter().collect();
    let expected: BTreeMap<u64, u64> =
        widths.into_iter().enumerate().map(|(id, width)| (id as u64, width)).collect();
    assert_eq!(totals, expected);
    let ends: BTreeMap<_, _> = take(&ended, 600).into_iter().collect();
    assert!(ends.len() == 600 && ends.values().all(Result::is_ok));
    let handle = cluster.topology("count").unwrap();
    until("no record is left", || handle.stats().pending_requests == 0);
    drop((cluster, handle));
    assert_over(&total);
    assert_over(&ended);
}

#[test]
fn a_bolt_that_fails_a_tuple_fails_the_request_with_its_message_at_once() {
    let (cluster, total, ended) = count(vec![3, 666, 4], Partial::default());
    let ends: BTreeMap<_, _> = take(&ended, 3).into_iter().collect();
    assert_eq!(ends[&1], Err("no such number".to_owned()));
    assert!(ends[&0].is_ok() && ends[&2].is_ok());
    assert_eq!(take(&total, 2).into_iter().collect::<BTreeMap<_, _>>(), [(0, 3), (2, 4)].into());
    drop(cluster);
    assert_over(&total);
}

#[test]
fn what_is_kept_for_a_failed_request_is_abandoned() {
    let (abandoned, dropped) = channel();
    let partial = Partial { abandoned: Some(abandoned), ..Partial::default() };
    let (_cluster, _total, ended) = count(vec![20_000], partial);
    assert_eq!(take(&ended, 1), [(0, Err("unlucky".to_owned()))]);
    // Each of the four instances saw some of it.
    assert_eq!(take(&dropped, 4), [0; 4]);
}

#[test]
fn an_error_while_finishing_fails_the_request() {
    let (total, totals) = total();
    let (mut builder, ended) = coordinated();
    builder.set_spout("requests", given([(RequestId(0), 77u64), (RequestId(1), 78)]), 1);
    builder.set_bolt("spread", Spread, 1).shuffle_grouping("requests");
    builder.set_bolt("partial", Partial::default(), 2).fields_grouping("spread", ["0"]);
    builder.set_bolt("total", total, 1).global_grouping("partial");
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("finish", Config::default(), builder).unwrap();
    let ends: BTreeMap<_, _> = take(&ended, 2).into_iter().collect();
    assert_eq!(ends[&0], Err("77 is not a count".to_owned()));
    assert_eq!((ends[&1].clone(), take(&totals, 1)), (Ok(()), vec![(1, 78)]));
}

#[test]
fn branches_merge_when_both_are_done() {
    let (total, totals) = total();
    let (mut builder, ended) = coordinated();
    let requests = (0..100).map(|id| (RequestId(id), id % 7));
    builder.set_spout("requests", given(requests), 1);
    builder.set_bolt("left", Spread, 3).shuffle_grouping("requests");
    let twice = apply(|(request, n): (RequestId, u64), out: &mut Collector<(RequestId, u64)>| {
        out.emit((request, 10 * n));
        Ok(())
    });
    builder.set_bolt("right", twice, 2).shuffle_grouping("requests");
    builder.set_bolt("count", Partial::default(), 2).fields_grouping("left", ["0"]);
    builder
        .set_bolt("merge", total, 3)
        .fields_grouping("count", ["0"])
        .fields_grouping("right", ["0"]);
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("branches", Config::default(), builder).unwrap();
    let totals: BTreeMap<_, _> = take(&totals, 100).into_iter().collect();
    assert_eq!(totals, (0..100).map(|id| (id, 11 * (id % 7))).collect());
    assert!(take(&ended, 100).iter().all(|(_, end)| end.is_ok()));
}

#[test]
fn a_held_tuple_keeps_its_request_open() {
    let (hold, held) = hold();
    let (mut builder, ended) = coordinated();
    builder.set_spout("requests", given((0..3).map(|id| (RequestId(id), 0u64))), 1);
    builder.set_bolt("hold", hold, 1).shuffle_grouping("requests");
    let cluster = LocalCluster::with_threads(2);
    let handle = cluster.submit("hold", Config::default(), builder).unwrap();
    let mut held = take(&held, 3).into_iter();
    until("all are open", || handle.stats().pending_requests == 3);
    held.next().unwrap().ack();
    assert_eq!(take(&ended, 1), [(0, Ok(()))]);
    held.next().unwrap().fail("not today");
    assert_eq!(take(&ended, 1), [(1, Err("not today".to_owned()))]);
    drop(held);
    let dropped = "a held tuple was dropped without ack or fail".to_owned();
    assert_eq!(take(&ended, 1), [(2, Err(dropped))]);
}

#[test]
fn a_request_can_be_cancelled_from_outside() {
    let (hold, held) = hold();
    let (mut builder, ended) = coordinated();
    builder.set_spout("requests", given([(RequestId(5), 0u64)]), 1);
    builder.set_bolt("hold", hold, 1).shuffle_grouping("requests");
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("cancel", Config::default(), builder).unwrap();
    let held = take(&held, 1);
    until("it is open", || handle.stats().pending_requests == 1);
    assert!(!handle.cancel_request(RequestId(4), "nobody asked"));
    assert!(handle.cancel_request(RequestId(5), "the client left"));
    assert_eq!(take(&ended, 1), [(5, Err("the client left".to_owned()))]);
    held.into_iter().for_each(Held::ack);
    until("its record is gone", || handle.stats().pending_requests == 0);
}

#[test]
fn a_dynamic_tuple_that_does_not_fit_fails_its_request() {
    let values = [values![RequestId(0), "text"], values![RequestId(1), 3]];
    let (mut builder, ended) = coordinated();
    builder.set_spout("requests", given(values), 1);
    builder.set_bolt("spread", Spread, 1).shuffle_grouping("requests");
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("dynamic", Config::default(), builder).unwrap();
    let ends: BTreeMap<_, _> = take(&ended, 2).into_iter().collect();
    assert_eq!(ends[&0], Err("field `1` expects u64, not the value \"text\"".to_owned()));
    assert_eq!(ends[&1], Ok(()));
}

#[test]
fn a_request_that_nobody_reads_is_complete() {
    let (mut builder, ended) = coordinated();
    builder.set_spout("requests", given([(RequestId(9), 1u64)]), 1);
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("nobody", Config::default(), builder).unwrap();
    assert_eq!(take(&ended, 1), [(9, Ok(()))]);
}

#[test]
fn a_request_that_is_brought_in_twice_fails_with_advice() {
    let (hold, held) = hold();
    let (mut builder, ended) = coordinated();
    let requests = [(RequestId(1), 0u64), (RequestId(2), 0), (RequestId(1), 1)];
    builder.set_spout("requests", given(requests), 1);
    builder.set_bolt("hold", hold, 1).shuffle_grouping("requests");
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("twice", Config::default(), builder).unwrap();
    let advice = "the request was brought in twice; emit all of its tuples in one call of \
                  `next_tuple`, in a row";
    assert_eq!(take(&ended, 1), [(1, Err(advice.to_owned()))]);
    take(&held, 3).into_iter().for_each(Held::ack);
    assert_eq!(take(&ended, 1), [(2, Ok(()))]);
}

/// Keeps request 2 until request 1 is finished, and emits for both then.
#[derive(Clone, Default)]
struct Mix(Arc<Mutex<Option<Held>>>);

impl Bolt for Mix {
    type In = (RequestId, u64);
    type Out = (RequestId, u64);
    const WANTS_FINISHED: bool = true;

    fn execute(
        &mut self,
        (request, _): Self::In,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        if request == RequestId(2) {
            *self.0.lock().unwrap() = Some(out.hold());
        }
        Ok(())
    }
    fn finished(
        &mut self,
        request: RequestId,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        if request == RequestId(1) {
            out.emit((RequestId(2), 0));
            out.ack(self.0.lock().unwrap().take().expect("request 2 came first"));
            out.emit((RequestId(1), 0));
            out.emit((RequestId(1), 0));
        }
        Ok(())
    }
}

/// Counts what a bolt emits for requests. Gives the totals, in order, and how many records are left at the end.
fn counted_behind<B>(requests: &[(RequestId, u64)], bolt: B) -> (Vec<(u64, u64)>, usize)
where
    B: Bolt<In = (RequestId, u64), Out = (RequestId, u64)>,
{
    let (total, totals) = total();
    let (mut builder, ended) = coordinated();
    builder.set_spout("requests", given(requests.to_vec()), 1);
    builder.set_bolt("bolt", bolt, 1).shuffle_grouping("requests");
    builder.set_bolt("partial", Partial::default(), 1).shuffle_grouping("bolt");
    builder.set_bolt("total", total, 1).shuffle_grouping("partial");
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("counted", Config::default(), builder).unwrap();
    let mut totals = take(&totals, requests.len());
    totals.sort_unstable();
    take(&ended, requests.len());
    (totals, handle.stats().pending_requests)
}

#[test]
fn what_a_bolt_emits_for_several_requests_while_it_finishes_one_is_counted_for_each() {
    let (totals, left) = counted_behind(&[(RequestId(2), 0), (RequestId(1), 0)], Mix::default());
    assert_eq!(totals, [(1, 2), (2, 1)]);
    assert_eq!(left, 0, "nothing stays");
}

#[test]
fn a_held_tuple_is_not_done_before_what_was_emitted_for_it_is_counted() {
    let hand_over = apply(|tuple: (RequestId, u64), out: &mut Collector<(RequestId, u64)>| {
        out.emit(tuple);
        let held = out.hold();
        let _ = std::thread::spawn(move || held.ack()).join();
        Ok(())
    });
    let (totals, left) = counted_behind(&[(RequestId(1), 0)], hand_over);
    assert_eq!(totals, [(1, 1)]);
    assert_eq!(left, 0, "nothing stays");
}
