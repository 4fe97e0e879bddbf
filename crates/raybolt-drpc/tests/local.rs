//! A `LocalDrpc` with a plain thread in the place of a topology.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use raybolt_drpc::{
    CallOptions, Delivered, DrpcError, LocalDrpc, Options, Report, Subscription, Terms,
};

const SOON: Duration = Duration::from_secs(60);

/// Serves a function by hand: a test takes requests and reports about them.
struct Hand {
    subscription: Subscription,
    woken: Receiver<()>,
}

impl Hand {
    fn new(drpc: &LocalDrpc, function: &str, terms: Terms) -> Self {
        let (wake, woken) = channel();
        Hand {
            subscription: drpc
                .subscribe(function, terms, move || wake.send(()).unwrap_or_default()),
            woken,
        }
    }

    /// Waits until there are requests or cancellations.
    fn take(&self) -> (Vec<Delivered>, Vec<raybolt_core::ids::RequestId>) {
        let (mut delivered, mut cancelled) = (Vec::new(), Vec::new());
        while delivered.is_empty() && cancelled.is_empty() {
            self.woken.recv_timeout(SOON).expect("something is delivered");
            self.subscription.take(&mut delivered, &mut cancelled);
        }
        (delivered, cancelled)
    }

    fn take_one(&self) -> Delivered {
        let (mut delivered, cancelled) = self.take();
        assert_eq!((delivered.len(), cancelled.len()), (1, 0));
        delivered.remove(0)
    }

    fn report(&self, mut report: Report) {
        self.subscription.report(&mut report, Some("hand"));
        assert!(report.is_empty());
    }

    fn answer(&self, delivered: &Delivered, result: &'static [u8]) {
        let answered = vec![(delivered.request, Bytes::from_static(result))];
        self.report(Report { answered, completed: vec![delivered.request], ..Report::default() });
    }
}

fn terms(credit: usize) -> Terms {
    Terms { credit, at_most_once: false }
}

/// Serves `exclamation` on a thread of its own until the sender goes.
fn exclaim(drpc: &LocalDrpc) -> Sender<()> {
    let (wake, woken) = channel();
    let waker = wake.clone();
    let subscription =
        drpc.subscribe("exclamation", terms(64), move || waker.send(true).unwrap_or_default());
    let (stop, stopped) = channel::<()>();
    std::thread::spawn(move || {
        let (mut delivered, mut cancelled) = (Vec::new(), Vec::new());
        while woken.recv().unwrap() {
            subscription.take(&mut delivered, &mut cancelled);
            let mut report = Report::default();
            for it in delivered.drain(..) {
                report.completed.push(it.request);
                report.answered.push((it.request, [&it.args[..], b"!"].concat().into()));
            }
            subscription.report(&mut report, None);
        }
    });
    std::thread::spawn(move || {
        let _ = stopped.recv();
        let _ = wake.send(false);
    });
    stop
}

#[test]
fn a_call_goes_in_and_one_answer_comes_out() {
    let drpc = LocalDrpc::new();
    let _server = exclaim(&drpc);
    assert_eq!(drpc.functions(), ["exclamation"]);
    assert_eq!(drpc.execute("exclamation", "hello").unwrap(), "hello!");
    assert_eq!(&drpc.execute_bytes("exclamation", vec![0xff]).unwrap()[..], b"\xff!");
    let text = drpc.submit_with::<String>("exclamation", vec![0xff], CallOptions::default()).wait();
    assert_eq!(
        text.unwrap_err().to_string(),
        "the result of function `exclamation` for request 3 is not text: byte 0 is not UTF-8; use \
         `execute_bytes`"
    );
    let stats = drpc.stats();
    assert_eq!((stats.open, stats.surplus, stats.functions[0].1.answered), (0, 0, 3));
    assert!(stats.p50 <= stats.p99 && stats.p99 <= stats.longest);
}

#[test]
fn an_unknown_function_is_refused_with_the_known_ones() {
    let drpc = LocalDrpc::new();
    let _server = exclaim(&drpc);
    let error = drpc.execute("exclamtion", "hello").unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown function `exclamtion`; did you mean `exclamation`? (known: `exclamation`)"
    );
}

#[test]
fn ten_thousand_requests_from_many_callers_each_get_their_own_answer() {
    let drpc = LocalDrpc::new();
    let _server = exclaim(&drpc);
    std::thread::scope(|scope| {
        for caller in 0..10 {
            let drpc = &drpc;
            scope.spawn(move || {
                let calls: Vec<_> = (0..1_000)
                    .map(|n| drpc.submit("exclamation", &format!("{caller} {n}")))
                    .collect();
                for (n, call) in calls.into_iter().enumerate() {
                    assert_eq!(call.wait().unwrap(), format!("{caller} {n}!"));
                }
            });
        }
    });
    assert_eq!(drpc.stats().functions[0].1.answered, 10_000);
}

#[test]
fn a_pending_call_is_looked_at_awaited_or_waited_for_a_while() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(2));
    let call = drpc.submit("f", "x");
    let request = hand.take_one();
    assert_eq!(call.request(), Some(request.request));
    assert!(!call.is_done());
    let call = call.wait_for(Duration::from_millis(1)).unwrap_err();
    let mut call = pin!(call);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    hand.answer(&request, b"y");
    assert_eq!(call.as_mut().poll(&mut cx), Poll::Ready(Ok("y".into())));
}

#[test]
fn a_runtime_awaits_many_calls_on_one_thread() {
    let drpc = LocalDrpc::new();
    let _server = exclaim(&drpc);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let drpc = drpc.clone();
                tokio::spawn(async move { drpc.execute_async("exclamation", &n.to_string()).await })
            })
            .collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap().unwrap(), format!("{n}!"));
        }
    });
}

#[test]
fn a_dropped_call_is_cancelled_at_its_subscriber() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(1));
    let call = drpc.submit("f", "x");
    let request = hand.take_one();
    drop(call);
    let (delivered, cancelled) = hand.take();
    assert_eq!((delivered, cancelled), (Vec::new(), vec![request.request]));
    hand.answer(&request, b"late");
    assert_eq!((drpc.stats().surplus, drpc.stats().open), (1, 0));
}

#[test]
fn a_deadline_ends_the_wait_and_cancels_the_request() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(1));
    let later = drpc.submit_with::<String>("f", "x", CallOptions::default());
    let limit = Duration::from_millis(20);
    let error = drpc.execute_with("f", "x", CallOptions::default().deadline(limit)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request 2 to function `f` not answered within 20ms; it still waited for a topology with \
         room (`deadline`)"
    );
    let first = hand.take_one();
    hand.answer(&first, b"y");
    assert_eq!(later.wait().unwrap(), "y");
    let error = drpc.execute_with("f", "x", CallOptions::default().deadline(limit)).unwrap_err();
    assert!(error.to_string().contains("it was in a topology"), "{error}");
    let (delivered, mut cancelled) = hand.take();
    if cancelled.is_empty() {
        cancelled = hand.take().1;
    }
    assert_eq!(cancelled, [delivered[0].request]);
}

#[test]
fn the_longest_deadline_is_none() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(1));
    let options = CallOptions::default().deadline(Duration::MAX);
    let call = drpc.submit_with::<String>("f", "x", options);
    let request = hand.take_one();
    hand.answer(&request, b"y");
    assert_eq!(call.wait().unwrap(), "y");
}

#[test]
fn a_full_queue_says_busy_with_its_figures() {
    let drpc = LocalDrpc::with_options(Options { waiting_max: 2, ..Options::default() });
    let hand = Hand::new(&drpc, "f", terms(1));
    let calls: Vec<_> = (0..3).map(|_| drpc.submit("f", "x")).collect();
    let error = drpc.submit("f", "x").wait().unwrap_err();
    assert_eq!(
        error.to_string(),
        "function `f` is busy: 2 requests wait and 1 are in its topologies; call again later, or \
         raise `waiting_max`"
    );
    for call in calls {
        hand.answer(&hand.take_one(), b"y");
        assert_eq!(call.wait().unwrap(), "y");
    }
}

#[test]
fn a_failure_and_a_missing_result_reach_the_caller() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(2));
    let (failing, silent) = (drpc.submit("f", "x"), drpc.submit("f", "y"));
    let (delivered, _) = hand.take();
    assert_eq!(delivered.len(), 2);
    hand.report(Report {
        failed: vec![(delivered[0].request, "no such table".into())],
        completed: delivered.iter().map(|it| it.request).collect(),
        ..Report::default()
    });
    let text = failing.wait().unwrap_err().to_string();
    assert_eq!(text, "function `f` failed on request 1: no such table");
    let text = silent.wait().unwrap_err().to_string();
    assert_eq!(
        text,
        "function `f` finished request 2 without a result; component `hand` emitted none"
    );
}

#[test]
fn requests_of_a_server_that_went_are_redelivered() {
    let drpc = LocalDrpc::new();
    let first = Hand::new(&drpc, "f", terms(8));
    let call = drpc.submit("f", "x");
    let before = first.take_one();
    let second = Hand::new(&drpc, "f", terms(8));
    drop(first);
    let after = second.take_one();
    assert_eq!(before, after);
    second.answer(&after, b"y");
    assert_eq!(call.wait().unwrap(), "y");
    let call = drpc.submit("f", "x");
    second.take_one();
    drop(second);
    assert_eq!(
        call.wait().unwrap_err().to_string(),
        "server lost: the topology that had request 2 went away, and no other serves function `f`"
    );
    assert!(drpc.functions().is_empty());
}

#[test]
fn an_unsubscribed_server_still_answers_what_it_has() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(8));
    let call = drpc.submit("f", "x");
    let request = hand.take_one();
    hand.subscription.unsubscribe();
    assert!(matches!(drpc.execute("f", "x"), Err(DrpcError::UnknownFunction { .. })));
    hand.answer(&request, b"y");
    assert_eq!(call.wait().unwrap(), "y");
}

#[test]
fn a_streamed_result_comes_part_by_part_and_ends() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(8));
    let mut parts = drpc.execute_stream("f", "x").unwrap();
    let request = hand.take_one().request;
    let part = |text: &'static str| Report {
        answered: vec![(request, Bytes::from_static(text.as_bytes()))],
        ..Report::default()
    };
    hand.report(part("a"));
    assert_eq!(parts.next(), Some(Ok("a".into())));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(parts.poll_part(&mut cx), Poll::Pending);
    hand.report(part("b"));
    hand.report(part("c"));
    hand.report(Report { completed: vec![request], ..Report::default() });
    assert_eq!(parts.collect::<Result<Vec<_>, _>>().unwrap(), ["b", "c"]);
    assert_eq!(drpc.stats().open, 0);
}

#[test]
fn a_stream_that_fails_says_so_last_and_once() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(8));
    let parts = drpc.execute_stream("f", "x").unwrap();
    let request = hand.take_one().request;
    let answered = vec![(request, Bytes::from_static(b"a"))];
    let failed = vec![(request, "out of disk".into())];
    hand.report(Report { answered, failed, completed: vec![request] });
    let items: Vec<_> = parts.map(|part| part.map_err(|error| error.to_string())).collect();
    let text = "function `f` failed on request 1: out of disk";
    assert_eq!(items, [Ok("a".into()), Err(text.into())]);
}

#[test]
fn a_reader_that_is_too_slow_loses_its_stream_and_no_other() {
    let drpc = LocalDrpc::with_options(Options { parts_max: 2, ..Options::default() });
    let hand = Hand::new(&drpc, "f", terms(8));
    let parts = drpc.execute_stream("f", "x").unwrap();
    let request = hand.take_one().request;
    let answered = vec![(request, Bytes::from_static(b"a")); 3];
    hand.report(Report { answered, ..Report::default() });
    let items: Vec<_> = parts.map(|part| part.map_err(|error| error.to_string())).collect();
    assert_eq!(items.len(), 3);
    assert_eq!(
        items[2].clone().unwrap_err(),
        "request 1 to function `f` stopped: 2 parts of its result wait to be read; read faster, or \
         raise `parts_max`"
    );
    assert_eq!(hand.take().1, [request]);
}

#[test]
fn dropping_the_parts_cancels_the_request() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(8));
    let parts = drpc.execute_stream("f", "x").unwrap();
    let request = hand.take_one().request;
    drop(parts);
    assert_eq!(hand.take().1, [request]);
}

#[test]
fn a_shutdown_fails_what_is_open_and_refuses_what_comes() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(1));
    let waiting = Arc::new(Barrier::new(2));
    let (calling, barrier) = (drpc.clone(), waiting.clone());
    let caller = std::thread::spawn(move || {
        let call = calling.submit("f", "x");
        barrier.wait();
        call.wait()
    });
    waiting.wait();
    let request = hand.take_one();
    let queued = drpc.submit("f", "x");
    drpc.shutdown();
    let text = "function `f` gave no result: the DRPC server is shutting down";
    assert_eq!(caller.join().unwrap().unwrap_err().to_string(), text);
    assert_eq!(queued.wait().unwrap_err().to_string(), text);
    assert_eq!(drpc.execute("f", "x").unwrap_err().to_string(), text);
    assert_eq!(hand.take().1, [request.request]);
}

#[test]
fn request_numbers_are_not_used_twice() {
    let drpc = LocalDrpc::new();
    let hand = Hand::new(&drpc, "f", terms(100));
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let call = drpc.submit("f", "x");
        assert!(seen.insert(call.request().unwrap()));
        drop(call);
    }
    drop(hand);
}
