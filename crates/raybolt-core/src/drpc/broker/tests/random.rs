//! Random events against the invariants, told by a checker that sees effects only.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One random thing that happens to a broker with two functions; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Ask { function: bool, limit_ms: u16, stream: bool },
    Answer { subscriber: usize, request: u64 },
    Fail { subscriber: usize, request: u64 },
    Complete { subscriber: usize, request: u64 },
    Cancel { request: u64 },
    Subscribe { function: bool, credit: usize, at_most_once: bool },
    Unsubscribe { subscriber: usize },
    Lose { subscriber: usize },
    Credit { subscriber: usize, credit: usize },
    Pause { subscriber: usize, request: u64 },
    Resume { subscriber: usize },
    Later { ms: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..12usize;
    let which = 0..60u64;
    let flag = any::<bool>;
    let step = prop_oneof![
        6 => (flag(), 1..500u16, flag())
            .prop_map(|(function, limit_ms, stream)| Step::Ask { function, limit_ms, stream }),
        4 => (who.clone(), which.clone())
            .prop_map(|(subscriber, request)| Step::Answer { subscriber, request }),
        1 => (who.clone(), which.clone())
            .prop_map(|(subscriber, request)| Step::Fail { subscriber, request }),
        3 => (who.clone(), which.clone())
            .prop_map(|(subscriber, request)| Step::Complete { subscriber, request }),
        1 => which.prop_map(|request| Step::Cancel { request }),
        2 => (flag(), 0..4usize, flag()).prop_map(|(function, credit, at_most_once)| {
            Step::Subscribe { function, credit, at_most_once }
        }),
        1 => who.clone().prop_map(|subscriber| Step::Unsubscribe { subscriber }),
        1 => who.clone().prop_map(|subscriber| Step::Lose { subscriber }),
        1 => (who.clone(), 0..60u64)
            .prop_map(|(subscriber, request)| Step::Pause { subscriber, request }),
        1 => who.clone().prop_map(|subscriber| Step::Resume { subscriber }),
        3 => (who, 1..4usize)
            .prop_map(|(subscriber, credit)| Step::Credit { subscriber, credit }),
        1 => (0..200u16).prop_map(|ms| Step::Later { ms }),
    ];
    proptest::collection::vec(step, 0..300)
}

/// The checker outside: what callers and subscribers saw.
#[derive(Default)]
struct Seen {
    accepted: BTreeSet<RequestId>,
    over: BTreeSet<RequestId>,
    at: BTreeMap<RequestId, SubscriberId>,
    credit: BTreeMap<SubscriberId, usize>,
    lost: BTreeSet<SubscriberId>,
}

impl Seen {
    fn see(&mut self, effect: TestEffect) {
        match effect {
            Effect::Deliver { subscriber, request, .. } => {
                assert!(!self.lost.contains(&subscriber), "BROKER-2: {subscriber} is lost");
                assert!(!self.over.contains(&request), "BROKER-1: {request} is over");
                let credit = self.credit.get_mut(&subscriber).unwrap();
                *credit = credit.checked_sub(1).expect("BROKER-4: within the credit");
                let before = self.at.insert(request, subscriber);
                assert!(before.is_none_or(|before| self.lost.contains(&before)), "BROKER-2");
            }
            Effect::Cancel { subscriber, request } => {
                assert_eq!(self.at.get(&request), Some(&subscriber));
            }
            Effect::Part { request, .. } => {
                assert!(!self.over.contains(&request), "BROKER-1: no part after the answer");
            }
            Effect::Answer { request, .. } => {
                assert!(self.over.insert(request), "BROKER-1: {request} answered twice");
            }
        }
    }
}

proptest! {
    #[test]
    fn each_request_is_answered_exactly_once_and_nothing_is_left(steps in steps()) {
        let mut it = Fixture::new(Options { waiting_max: 5, ..Options::default() });
        let mut seen = Seen::default();
        let mut subscribers = Vec::new();
        let name = |function| if function { "reach" } else { "count" };
        let mut credit_given = 0;
        for step in steps {
            let at = |index: usize| subscribers.get(index).copied().unwrap_or(SubscriberId(0));
            match step {
                Step::Ask { function, limit_ms, stream } => {
                    let deadline = it.now + Duration::from_millis(limit_ms.into());
                    let wants = if stream { Wants::Stream } else { Wants::One };
                    let ask = Ask { client: 0, args: "", deadline, wants };
                    seen.accepted.extend(it.broker.requested(it.now, name(function), ask));
                }
                Step::Answer { subscriber, request } => {
                    it.broker.answered(it.now, at(subscriber), RequestId(request), "");
                }
                Step::Fail { subscriber, request } => {
                    it.broker.failed(at(subscriber), RequestId(request), String::new());
                }
                Step::Complete { subscriber, request } => {
                    it.broker.completed(it.now, at(subscriber), RequestId(request), None);
                }
                Step::Cancel { request } => it.broker.cancelled(RequestId(request)),
                Step::Subscribe { function, credit, at_most_once } => {
                    let terms = Terms { credit, at_most_once };
                    let subscriber = it.broker.subscribed(name(function), terms);
                    seen.credit.insert(subscriber, credit);
                    credit_given += credit;
                    subscribers.push(subscriber);
                }
                Step::Unsubscribe { subscriber } => it.broker.unsubscribed(it.now, at(subscriber)),
                Step::Lose { subscriber } => {
                    it.broker.subscriber_lost(it.now, at(subscriber));
                    seen.lost.insert(at(subscriber));
                }
                Step::Credit { subscriber, credit } => {
                    *seen.credit.entry(at(subscriber)).or_default() += credit;
                    credit_given += credit;
                    it.broker.credit_returned(at(subscriber), credit);
                }
                Step::Pause { subscriber, request } => {
                    let request = RequestId(request);
                    let not_begun = seen.at.get(&request) == Some(&at(subscriber));
                    let not_begun = not_begun && seen.at.remove(&request).is_some();
                    if not_begun {
                        *seen.credit.entry(at(subscriber)).or_default() += 1;
                        credit_given += 1;
                    }
                    let not_begun = not_begun.then_some((request, "")).into_iter().collect();
                    it.broker.paused(at(subscriber), not_begun);
                }
                Step::Resume { subscriber } => it.broker.resumed(at(subscriber)),
                Step::Later { ms } => {
                    it.now += Duration::from_millis(ms.into());
                    it.broker.deadlines_passed(it.now);
                    prop_assert!(it.broker.next_deadline().is_none_or(|next| next > it.now));
                }
            }
            it.effects().into_iter().for_each(|effect| seen.see(effect));
            prop_assert_eq!(it.broker.open(), seen.accepted.len() - seen.over.len());
            for function in ["reach", "count"] {
                let stats = it.broker.stats(function).unwrap_or_default();
                prop_assert!(stats.waiting <= 5 + credit_given, "BROKER-4");
                prop_assert!(stats.waiting == 0 || it.broker.functions().any(|f| f == function));
            }
        }
        it.broker.deadlines_passed(it.now + LIMIT);
        it.effects().into_iter().for_each(|effect| seen.see(effect));
        prop_assert_eq!(&seen.over, &seen.accepted);
        prop_assert_eq!(it.broker.open(), 0);
        prop_assert_eq!(it.broker.next_deadline(), None);
        for function in ["reach", "count"] {
            let stats = it.broker.stats(function).unwrap_or_default();
            prop_assert_eq!((stats.waiting, stats.in_flight), (0, 0));
        }
    }
}
