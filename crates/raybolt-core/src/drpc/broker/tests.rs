use super::*;

mod random;

type TestBroker = Broker<u32, &'static str, &'static str>;
type TestEffect = Effect<u32, &'static str, &'static str>;

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
fn start() -> Instant {
    Instant::now()
}

const LIMIT: Duration = Duration::from_secs(10);

/// A broker at a time, driven by one call per event.
struct Fixture {
    broker: TestBroker,
    now: Instant,
}

impl Fixture {
    fn new(options: Options) -> Self {
        Fixture { broker: Broker::new(options), now: start() }
    }

    fn serve(&mut self, credit: usize) -> SubscriberId {
        self.broker.subscribed("reach", Terms { credit, at_most_once: false })
    }

    fn ask(&mut self, client: u32, wants: Wants) -> Result<RequestId, DrpcError> {
        let ask = Ask { client, args: "url", deadline: self.now + LIMIT, wants };
        self.broker.requested(self.now, "reach", ask)
    }

    fn one(&mut self, client: u32) -> RequestId {
        self.ask(client, Wants::One).unwrap()
    }

    fn effects(&mut self) -> Vec<TestEffect> {
        std::iter::from_fn(|| self.broker.poll_effect()).collect()
    }

    fn deliver(&self, subscriber: SubscriberId, request: RequestId) -> TestEffect {
        Effect::Deliver { subscriber, request, args: "url", deadline: self.now + LIMIT }
    }

    fn stats(&self) -> FunctionStats {
        self.broker.stats("reach").unwrap()
    }
}

fn answer(client: u32, request: RequestId, outcome: Outcome<&'static str>) -> TestEffect {
    Effect::Answer { client, request, outcome }
}

/// The texts of all errors that callers got.
fn errors(effects: Vec<TestEffect>) -> Vec<String> {
    let error = |effect| match effect {
        Effect::Answer { outcome: Outcome::Failed(error), .. } => Some(error.to_string()),
        _ => None,
    };
    effects.into_iter().filter_map(error).collect()
}

#[test]
fn a_request_goes_to_a_subscriber_and_its_first_result_to_the_caller() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(8);
    let request = it.one(1);
    assert_eq!(it.effects(), [it.deliver(server, request)]);
    it.broker.answered(it.now + LIMIT / 10, server, request, "16");
    it.broker.answered(it.now, server, request, "17");
    it.broker.completed(it.now, server, request, None);
    assert_eq!(it.effects(), [answer(1, request, Outcome::Result("16"))]);
    assert_eq!((it.broker.surplus(), it.broker.open()), (1, 0));
    assert_eq!((it.stats().answered, it.stats().in_flight), (1, 0));
    assert_eq!(it.broker.latency().longest(), LIMIT / 10);
}

#[test]
fn an_unknown_function_is_an_error_at_once_that_lists_the_known_ones() {
    let mut it = Fixture::new(Options::default());
    it.serve(1);
    let ask = Ask { client: 1, args: "", deadline: it.now + LIMIT, wants: Wants::One };
    let error = it.broker.requested(it.now, "raech", ask).unwrap_err();
    let text = "unknown function `raech`; did you mean `reach`? (known: `reach`)";
    assert_eq!(error.to_string(), text);
    assert_eq!(it.broker.open(), 0);
}

#[test]
fn requests_wait_for_credit_in_their_order_and_the_queue_is_bounded() {
    let mut it = Fixture::new(Options { waiting_max: 2, ..Options::default() });
    let server = it.serve(1);
    let first = it.one(1);
    let (second, third) = (it.one(2), it.one(3));
    let error = it.ask(4, Wants::One).unwrap_err();
    assert_eq!(
        error.to_string(),
        "function `reach` is busy: 2 requests wait and 1 are in its topologies; call again later, \
         or raise `waiting_max`"
    );
    assert!(error.is_retryable());
    assert_eq!(it.effects(), [it.deliver(server, first)]);
    it.broker.answered(it.now, server, first, "16");
    it.effects();
    assert_eq!((it.stats().waiting, it.stats().refused), (2, 1));
    it.broker.credit_returned(server, 5);
    assert_eq!(it.effects(), [it.deliver(server, second), it.deliver(server, third)]);
}

#[test]
fn subscribers_take_turns() {
    let mut it = Fixture::new(Options::default());
    let (a, b) = (it.serve(2), it.serve(8));
    let requests: Vec<_> = (0..5).map(|client| it.one(client)).collect();
    let servers = [a, b, a, b, b];
    let expected: Vec<_> = servers
        .iter()
        .zip(requests)
        .map(|(server, request)| it.deliver(*server, request))
        .collect();
    assert_eq!(it.effects(), expected);
}

#[test]
fn a_failed_request_hands_the_message_to_its_caller() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    let request = it.one(1);
    it.broker.failed(server, request, "no such table".into());
    it.broker.failed(server, request, "again".into());
    it.broker.answered(it.now, server, request, "16");
    let texts = errors(it.effects());
    assert_eq!(texts, ["function `reach` failed on request 1: no such table"]);
    assert_eq!((it.broker.surplus(), it.stats().failed), (2, 1));
}

#[test]
fn a_request_that_completes_without_a_result_is_an_error_naming_the_component() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    let request = it.one(1);
    it.broker.completed(it.now, server, request, Some("sum"));
    let texts = errors(it.effects());
    assert_eq!(
        texts,
        ["function `reach` finished request 1 without a result; component `sum` emitted none"]
    );
}

#[test]
fn a_deadline_ends_waiting_and_delivered_requests_exactly() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    let start = it.now;
    let first = it.one(1);
    it.now += Duration::from_secs(1);
    let second = it.one(2);
    it.effects();
    assert_eq!(it.broker.next_deadline(), Some(start + LIMIT));
    it.broker.deadlines_passed(start + LIMIT - Duration::from_nanos(1));
    assert_eq!(it.effects(), []);
    it.broker.deadlines_passed(start + LIMIT);
    let effects = it.effects();
    assert_eq!(effects[0], Effect::Cancel { subscriber: server, request: first });
    assert_eq!(
        errors(effects),
        [
            "request 1 to function `reach` not answered within 10s; it was in a topology (`deadline`)"
        ]
    );
    assert_eq!(it.broker.next_deadline(), Some(it.now + LIMIT));
    it.broker.deadlines_passed(it.now + LIMIT);
    assert_eq!(
        errors(it.effects()),
        ["request 2 to function `reach` not answered within 10s; it still waited for a topology \
          with room (`deadline`)"]
    );
    assert_eq!(it.broker.next_deadline(), None);
    it.broker.credit_returned(server, 1);
    assert_eq!(it.effects(), [], "{second} is gone from the queue");
    assert_eq!(it.stats().timed_out, 2);
}

#[test]
fn a_caller_that_leaves_cancels_its_request_where_it_is() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    let (first, second) = (it.one(1), it.one(2));
    it.effects();
    it.broker.cancelled(second);
    assert_eq!(errors(it.effects()), ["request 2 to function `reach` was cancelled by its caller"]);
    it.broker.cancelled(first);
    it.broker.cancelled(first);
    let effects = it.effects();
    assert_eq!(effects.len(), 2);
    assert_eq!(effects[0], Effect::Cancel { subscriber: server, request: first });
    assert_eq!(it.stats().cancelled, 2);
}

#[test]
fn cancelled_requests_do_not_pile_up_in_the_queue() {
    let mut it = Fixture::new(Options::default());
    it.serve(0);
    for client in 0..10_000 {
        let request = it.one(client);
        it.broker.cancelled(request);
    }
    assert!(it.broker.functions[0].queue.len() < 100);
    assert_eq!(it.stats().waiting, 0);
}

#[test]
fn the_requests_of_a_lost_subscriber_go_to_another_before_those_that_wait() {
    let mut it = Fixture::new(Options::default());
    let a = it.serve(2);
    let (first, second, third) = (it.one(1), it.one(2), it.one(3));
    it.effects();
    it.broker.subscribed("reach", Terms { credit: 0, at_most_once: false });
    it.broker.subscriber_lost(it.now, a);
    assert_eq!(it.effects(), []);
    let b = it.serve(8);
    let again = [it.deliver(b, first), it.deliver(b, second), it.deliver(b, third)];
    assert_eq!(it.effects(), again);
    // BROKER-2: what the lost one still says is not heard.
    it.broker.answered(it.now, a, first, "old");
    it.broker.completed(it.now, a, second, None);
    it.broker.failed(a, second, "old".into());
    assert_eq!(it.effects(), []);
    it.broker.answered(it.now, b, first, "new");
    assert_eq!(it.effects(), [answer(1, first, Outcome::Result("new"))]);
    assert_eq!(it.stats().redelivered, 2);
}

#[test]
fn an_at_most_once_request_fails_with_its_subscriber() {
    let mut it = Fixture::new(Options::default());
    let a = it.broker.subscribed("reach", Terms { credit: 1, at_most_once: true });
    it.one(1);
    let waiting = it.one(2);
    let b = it.serve(1);
    it.effects();
    it.broker.subscriber_lost(it.now, a);
    assert_eq!(
        errors(it.effects()),
        ["server lost: the topology that had request 1 went away, and function `reach` forbids a \
          second delivery (`at_most_once`)"]
    );
    it.broker.answered(it.now, b, waiting, "16");
    assert_eq!(it.effects(), [answer(2, waiting, Outcome::Result("16"))]);
}

#[test]
fn a_request_that_kills_its_servers_fails_at_last() {
    let mut it = Fixture::new(Options { deliveries_max: 2, ..Options::default() });
    let (a, b, _) = (it.serve(1), it.serve(1), it.serve(1));
    it.one(1);
    it.broker.subscriber_lost(it.now, a);
    it.broker.subscriber_lost(it.now, b);
    assert_eq!(
        errors(it.effects()),
        [
            "server lost: 2 topologies that had request 1 to function `reach` went away one after the \
          other (`deliveries_max`)"
        ]
    );
}

#[test]
fn without_a_server_left_requests_fail_and_the_function_is_unknown() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    let first = it.one(1);
    it.one(2);
    it.broker.unsubscribed(it.now, server);
    it.broker.answered(it.now, server, first, "16");
    it.broker.subscriber_lost(it.now, server);
    let effects = it.effects();
    assert!(effects.contains(&answer(1, first, Outcome::Result("16"))));
    assert_eq!(
        errors(effects),
        ["server lost: no topology serves function `reach` any more; request 2 had not been \
          delivered"]
    );
    assert_eq!(it.broker.functions().count(), 0);
    assert!(matches!(it.ask(3, Wants::One), Err(DrpcError::UnknownFunction { .. })));
}

#[test]
fn requests_of_the_last_unsubscribed_server_fail_when_it_goes() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    it.one(1);
    it.broker.unsubscribed(it.now, server);
    it.effects();
    it.broker.subscriber_lost(it.now, server);
    assert_eq!(
        errors(it.effects()),
        ["server lost: the topology that had request 1 went away, and no other serves function \
          `reach`"]
    );
}

#[test]
fn a_paused_subscriber_hands_back_what_it_has_not_begun() {
    let mut it = Fixture::new(Options::default());
    let a = it.broker.subscribed("reach", Terms { credit: 2, at_most_once: true });
    let (first, second) = (it.one(1), it.one(2));
    it.effects();
    it.broker.answered(it.now, a, first, "16");
    it.broker.paused(a, vec![(first, "url"), (second, "url")]);
    assert_eq!(it.effects(), [answer(1, first, Outcome::Result("16"))]);
    assert_eq!((it.stats().waiting, it.stats().in_flight), (1, 0));
    it.broker.resumed(a);
    assert_eq!(it.effects(), [it.deliver(a, second)]);
    assert_eq!(it.stats().redelivered, 0);
    let b = it.serve(1);
    it.broker.paused(a, vec![(second, "url")]);
    assert_eq!(it.effects(), [it.deliver(b, second)]);
}

#[test]
fn within_the_grace_a_function_waits_for_a_new_server() {
    let grace = Duration::from_secs(1);
    let mut it = Fixture::new(Options { grace, ..Options::default() });
    let a = it.serve(1);
    let request = it.one(1);
    it.effects();
    it.broker.subscriber_lost(it.now, a);
    assert_eq!(it.broker.next_deadline(), Some(it.now + grace));
    let b = it.serve(1);
    assert_eq!(it.effects(), [it.deliver(b, request)]);
    it.broker.subscriber_lost(it.now, b);
    it.broker.deadlines_passed(it.now + grace);
    let texts = errors(it.effects());
    let text = "server lost: the topology that had request 1 went away, and no other serves \
                function `reach`";
    assert_eq!(texts, [text]);
}

#[test]
fn a_streamed_request_takes_parts_until_it_is_completed() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    let request = it.ask(1, Wants::Stream).unwrap();
    it.effects();
    it.broker.answered(it.now, server, request, "a");
    it.broker.answered(it.now, server, request, "b");
    it.broker.completed(it.now, server, request, None);
    it.broker.answered(it.now, server, request, "c");
    assert_eq!(
        it.effects(),
        [
            Effect::Part { client: 1, request, part: "a" },
            Effect::Part { client: 1, request, part: "b" },
            answer(1, request, Outcome::Completed),
        ]
    );
    assert_eq!(it.broker.surplus(), 1);
}

#[test]
fn a_reader_that_does_not_keep_up_ends_its_request() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    let request = it.ask(1, Wants::Stream).unwrap();
    it.broker.overflowed(request, 10);
    let effects = it.effects();
    assert!(effects.contains(&Effect::Cancel { subscriber: server, request }));
    assert!(errors(effects)[0].contains("10 parts of its result wait to be read"));
}

#[test]
fn a_shutdown_fails_all_requests_and_accepts_none() {
    let mut it = Fixture::new(Options::default());
    let server = it.serve(1);
    let (first, _) = (it.one(1), it.one(2));
    it.effects();
    it.broker.shut_down();
    let effects = it.effects();
    assert_eq!(effects[0], Effect::Cancel { subscriber: server, request: first });
    let text = "function `reach` gave no result: the DRPC server is shutting down";
    assert_eq!(errors(effects), [text, text]);
    assert_eq!(it.ask(3, Wants::One).unwrap_err().to_string(), text);
}
