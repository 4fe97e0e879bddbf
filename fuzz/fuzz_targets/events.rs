//! The machines that hear strangers: broker and ack tracker, by any events in any order.
//!
//! Besides not to panic, it is asked that every accepted request is answered once and that nothing follows
//! (BROKER-1), that a root is told once (ACK-4), and that nothing is left at the end (ACK-3).

#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use raybolt_core::drpc::broker::Options;
use raybolt_core::drpc::{Ask, Broker, Effect, SubscriberId, Terms, Wants};
use raybolt_core::flow::acks::{AckEffect, Acks};
use raybolt_core::ids::{InstanceId, RequestId, RootId};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, events)) = bytes.split_first() else { return };
    if first % 2 == 0 { broker(events) } else { acks(events) }
});

/// Each event is three bytes: what, whom, and how much time passed before.
fn events(bytes: &[u8]) -> impl Iterator<Item = (u8, u64, Duration)> {
    let events = bytes.chunks_exact(3);
    events.map(|event| (event[0], event[1].into(), Duration::from_millis(event[2].into())))
}

fn broker(bytes: &[u8]) {
    let mut now = Instant::now();
    let options = Options { waiting_max: 4, deliveries_max: 2, grace: Duration::from_millis(100) };
    let mut broker: Broker<u64, u64, u64> = Broker::new(options);
    let mut open: BTreeMap<RequestId, u64> = BTreeMap::new();
    for (number, (what, whom, passed)) in (0_u64..).zip(events(bytes)) {
        now += passed;
        let (request, subscriber) = (RequestId(whom / 4), SubscriberId(whom % 4));
        let function = if whom % 2 == 0 { "even" } else { "odd" };
        match what % 12 {
            0..=2 => {
                let wants = if what > 127 { Wants::Stream } else { Wants::One };
                let deadline = now + Duration::from_millis(whom);
                let ask = Ask { client: number, args: number, deadline, wants };
                if let Ok(request) = broker.requested(now, function, ask) {
                    assert_eq!(open.insert(request, number), None);
                }
            }
            3 => {
                let terms = Terms { credit: whom as usize % 5, at_most_once: what > 127 };
                broker.subscribed(function, terms);
            }
            4 | 5 => broker.answered(now, subscriber, request, number),
            6 => broker.failed(subscriber, request, "failed".into()),
            7 => broker.completed(now, subscriber, request, None),
            8 => broker.cancelled(request),
            9 => broker.credit_returned(subscriber, whom as usize % 3),
            10 if what > 127 => broker.unsubscribed(now, subscriber),
            10 => broker.subscriber_lost(now, subscriber),
            _ => broker.deadlines_passed(now),
        }
        answers(&mut broker, &mut open);
        assert_eq!(broker.open(), open.len());
    }
    broker.shut_down();
    answers(&mut broker, &mut open);
    assert!(open.is_empty(), "BROKER-1: {open:?} are never answered");
    assert_eq!(broker.next_deadline().filter(|_| broker.open() > 0), None);
}

fn answers(broker: &mut Broker<u64, u64, u64>, open: &mut BTreeMap<RequestId, u64>) {
    while let Some(effect) = broker.poll_effect() {
        match effect {
            Effect::Answer { client, request, .. } => {
                assert_eq!(open.remove(&request), Some(client), "BROKER-1");
            }
            Effect::Part { client, request, .. } => {
                assert_eq!(open.get(&request), Some(&client), "BROKER-1");
            }
            // An effect is performed after the event as a whole, so its request may have ended.
            Effect::Deliver { .. } | Effect::Cancel { .. } => {}
        }
    }
}

fn acks(bytes: &[u8]) {
    let mut now = Instant::now();
    let timeout = Duration::from_millis(200);
    let mut acks = Acks::new(now, timeout);
    let mut next_root = 0;
    // Roots that were emitted and not told.
    let mut untold: BTreeMap<RootId, InstanceId> = BTreeMap::new();
    for (what, whom, passed) in events(bytes) {
        now += passed;
        let root = RootId(whom % 16);
        let edges = u64::from(what >> 4);
        match what % 8 {
            0 | 1 => {
                // A spout names a root once.
                let (root, spout) = (RootId(next_root), InstanceId(whom as u32));
                next_root += 1;
                untold.insert(root, spout);
                acks.emitted(now, spout, &[(root, edges)]);
            }
            2..=4 => acks.folded(now, &[(root, edges), (RootId(root.0 + 1), edges)]),
            5 => acks.failed(now, root, edges, "failed"),
            6 => acks.extended(now, root),
            _ => acks.ticked(now),
        }
        told(&mut acks, &mut untold);
    }
    while let Some(deadline) = acks.next_deadline() {
        now = now.max(deadline);
        acks.ticked(now);
        told(&mut acks, &mut untold);
    }
    assert!(untold.is_empty(), "ACK-4: {untold:?} are never told of");
    assert!(acks.is_empty(), "ACK-3: {} records are left", acks.len());
}

fn told(acks: &mut Acks, untold: &mut BTreeMap<RootId, InstanceId>) {
    while let Some(effect) = acks.poll_effect() {
        let (AckEffect::Acked { root, spout } | AckEffect::Failed { root, spout, .. }) = effect;
        assert_eq!(untold.remove(&root), Some(spout), "ACK-4");
    }
}
