//! Events in, effects out; then any tree in any order.

#![allow(clippy::disallowed_methods, reason = "a test stands where a driver would")]

use proptest::prelude::*;

use super::*;
use crate::hash::SplitMix;

const SPOUT: InstanceId = InstanceId(7);
const ROOT: RootId = RootId(1);
const TIMEOUT: Duration = Duration::from_secs(30);

/// A tracker with a clock that tests set.
struct Bench {
    start: Instant,
    acks: Acks,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self { start, acks: Acks::new(start, TIMEOUT) }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn emitted(&mut self, millis: u64, root: RootId, edges: u64) {
        self.acks.emitted(self.at(millis), SPOUT, &[(root, edges)]);
    }

    fn folded(&mut self, millis: u64, root: RootId, edges: u64) {
        self.acks.folded(self.at(millis), &[(root, edges)]);
    }

    fn failed(&mut self, millis: u64, root: RootId, edges: u64, message: &str) {
        self.acks.failed(self.at(millis), root, edges, message);
    }

    fn effects_at(&mut self, millis: u64) -> Vec<AckEffect> {
        self.acks.ticked(self.at(millis));
        self.effects()
    }

    fn effects(&mut self) -> Vec<AckEffect> {
        std::iter::from_fn(|| self.acks.poll_effect()).collect()
    }
}

fn acked(root: RootId) -> AckEffect {
    AckEffect::Acked { root, spout: SPOUT }
}

fn failed(root: RootId, message: &str) -> AckEffect {
    AckEffect::Failed { root, spout: SPOUT, reason: FailReason::Failed(message.into()) }
}

fn timed_out(root: RootId) -> AckEffect {
    AckEffect::Failed { root, spout: SPOUT, reason: FailReason::Timeout }
}

#[test]
fn a_chain_is_acked_after_its_last_report() {
    let mut bench = Bench::new();
    bench.emitted(0, ROOT, 0xa);
    bench.folded(1, ROOT, 0xa ^ 0xb);
    assert_eq!(bench.effects(), []);
    bench.folded(2, ROOT, 0xb);
    assert_eq!(bench.effects(), [acked(ROOT)]);
    assert!(bench.acks.is_empty());
    assert_eq!(bench.effects_at(60_000), []);
}

#[test]
fn a_root_that_nobody_receives_is_acked_at_once() {
    let mut bench = Bench::new();
    bench.emitted(0, ROOT, 0);
    assert_eq!(bench.effects(), [acked(ROOT)]);
}

#[test]
fn reports_that_precede_the_spouts_are_kept_and_claim_nothing() {
    let mut bench = Bench::new();
    bench.folded(0, ROOT, 0xa ^ 0xb);
    bench.folded(0, ROOT, 0xb ^ 0xa); // Zero, but the spout has not spoken.
    assert_eq!(bench.effects(), []);
    bench.folded(0, ROOT, 0xa);
    bench.emitted(1, ROOT, 0xa);
    assert_eq!(bench.effects(), [acked(ROOT)]);
}

#[test]
fn a_timeout_is_exact() {
    let mut bench = Bench::new();
    bench.emitted(5, ROOT, 0xa);
    bench.emitted(6, RootId(2), 0xa);
    assert_eq!(bench.acks.next_deadline(), Some(bench.at(30_005)));
    assert_eq!(bench.effects_at(30_004), []);
    assert_eq!(bench.effects_at(30_005), [timed_out(ROOT)]);
    assert_eq!(bench.acks.next_deadline(), Some(bench.at(30_006)));
    assert_eq!(bench.effects_at(90_000), [timed_out(RootId(2))]);
    assert_eq!(bench.acks.next_deadline(), None);
}

#[test]
fn the_timeout_counts_from_the_spouts_report_not_from_earlier_ones() {
    let mut bench = Bench::new();
    bench.folded(0, ROOT, 0xa ^ 0xb);
    bench.emitted(500, ROOT, 0xa);
    assert_eq!(bench.effects_at(30_499), []);
    assert_eq!(bench.effects_at(30_500), [timed_out(ROOT)]);
}

#[test]
fn an_earlier_now_does_not_turn_time_back() {
    let mut bench = Bench::new();
    bench.emitted(1_000, ROOT, 0xa);
    bench.emitted(0, RootId(2), 0xa); // Took the lock second, looked at the clock first.
    assert_eq!(bench.effects_at(30_999), []);
    assert_eq!(bench.effects_at(31_000), [timed_out(ROOT), timed_out(RootId(2))]);
}

#[test]
fn an_extended_root_gets_its_whole_timeout_again() {
    let mut bench = Bench::new();
    bench.emitted(0, ROOT, 0xa);
    bench.emitted(1, RootId(2), 0xa);
    bench.acks.extended(bench.at(20_000), ROOT);
    bench.acks.extended(bench.at(20_000), RootId(99)); // Unknown: nothing to extend.
    assert_eq!(bench.effects_at(49_999), [timed_out(RootId(2))]);
    assert_eq!(bench.effects_at(50_000), [timed_out(ROOT)]);
}

#[test]
fn a_failure_is_told_at_once_and_the_rest_is_folded_away() {
    let mut bench = Bench::new();
    bench.emitted(0, ROOT, 0xa ^ 0xb);
    bench.failed(1, ROOT, 0xa, "no such word");
    assert_eq!(bench.effects(), [failed(ROOT, "no such word")]);
    bench.failed(1, ROOT, 0xc, "another"); // Told once (ACK-4).
    bench.folded(2, ROOT, 0xb ^ 0xc);
    assert_eq!(bench.effects(), []);
    assert!(bench.acks.is_empty());
}

#[test]
fn a_failed_root_that_never_drains_is_dropped_at_its_deadline() {
    let mut bench = Bench::new();
    bench.emitted(0, ROOT, 0xa ^ 0xb);
    bench.failed(1, ROOT, 0xa, "broken");
    assert_eq!(bench.effects(), [failed(ROOT, "broken")]);
    assert_eq!(bench.effects_at(30_000), []);
    assert!(bench.acks.is_empty());
}

#[test]
fn a_failure_that_precedes_its_root_is_told_with_the_root() {
    let mut bench = Bench::new();
    bench.failed(0, ROOT, 0xa, "first");
    bench.failed(0, ROOT, 0xb, "second");
    assert_eq!(bench.effects(), []);
    bench.emitted(1, ROOT, 0xa ^ 0xb ^ 0xc);
    assert_eq!(bench.effects(), [failed(ROOT, "first")]);
    bench.folded(2, ROOT, 0xc);
    assert!(bench.acks.is_empty());
}

#[test]
fn reports_without_a_root_are_dropped_after_a_timeout_of_their_own() {
    let mut bench = Bench::new();
    bench.folded(0, ROOT, 0xa);
    bench.failed(0, RootId(2), 0xa, "late");
    assert_eq!(bench.acks.len(), 2);
    assert_eq!(bench.effects_at(30_000), []);
    assert!(bench.acks.is_empty());
    bench.emitted(30_001, RootId(2), 0xa); // The old message is gone as well.
    assert_eq!(bench.effects(), []);
}

#[test]
fn deadlines_do_not_pile_up_behind_a_slow_root() {
    let mut bench = Bench::new();
    bench.emitted(0, RootId(0), 1);
    for number in 1..20_000 {
        bench.emitted(number, RootId(number), 1);
        bench.folded(number, RootId(number), 1);
        bench.acks.extended(bench.at(number), RootId(0));
        bench.acks.extended(bench.at(number), RootId(0));
        assert_eq!(bench.effects(), [acked(RootId(number))]);
        assert!(bench.acks.deadlines.len() <= 2 + STALE_MAX);
    }
    assert_eq!(bench.effects_at(19_999 + 30_000), [timed_out(RootId(0))]);
    assert_eq!(bench.acks.deadlines.len(), 0);
}

#[test]
fn roots_that_are_done_in_their_order_leave_no_deadlines() {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.emitted(number, RootId(number), 1);
    }
    for number in 0..100 {
        bench.folded(number, RootId(number), 1);
    }
    assert_eq!(bench.acks.deadlines.len(), 0);
}

#[test]
fn sequential_structured_and_random_roots_are_kept_apart() {
    let mut chance = SplitMix::new(3);
    let roots: Vec<RootId> = (0..1_000_u64)
        .flat_map(|number| [number, number << 40, chance.next_u64()])
        .map(RootId)
        .collect();
    let mut bench = Bench::new();
    let emitted: Vec<_> = roots[3..].iter().map(|&root| (root, root.0)).collect();
    bench.acks.emitted(bench.start, SPOUT, &emitted);
    bench.effects();
    bench.acks.folded(bench.start, &emitted);
    assert_eq!(bench.effects().len(), emitted.len());
}

/// The reports of a tree in which tuple `n + 1` is derived from tuple `parents[n] % (n + 1)`, or, for every
/// fourth, emitted by the spout as one more delivery of the root.
fn reports_of(parents: &[usize], chance: &mut SplitMix) -> Vec<u64> {
    let edges: Vec<u64> = (0..=parents.len()).map(|_| chance.next_nonzero()).collect();
    let mut reports = edges.clone();
    reports.push(edges[0]);
    let spout = reports.len() - 1;
    for (position, &parent) in parents.iter().enumerate() {
        let (child, from) = (position + 1, parent % (position + 1));
        reports[if parent % 4 == 0 { spout } else { from }] ^= edges[child];
    }
    reports
}

fn shuffle<T>(items: &mut [T], chance: &mut SplitMix) {
    for position in (1..items.len()).rev() {
        items.swap(position, chance.below(position as u32 + 1) as usize);
    }
}

proptest! {
    #[test]
    fn any_tree_in_any_order_is_acked_once_after_its_last_report(
        trees in prop::collection::vec(prop::collection::vec(any::<usize>(), 0..40), 1..8),
        seed: u64,
    ) {
        let mut chance = SplitMix::new(seed);
        let mut events = Vec::new();
        let mut left = Vec::new();
        for (number, parents) in trees.iter().enumerate() {
            let reports = reports_of(parents, &mut chance);
            left.push(reports.len());
            let spout = reports.len() - 1;
            events.extend(reports.into_iter().enumerate().map(|(at, x)| (number, at == spout, x)));
        }
        shuffle(&mut events, &mut chance);
        let mut bench = Bench::new();
        for (number, from_spout, edges) in events {
            let root = RootId(number as u64);
            if from_spout {
                bench.emitted(0, root, edges);
            } else {
                bench.folded(0, root, edges);
            }
            left[number] -= 1;
            let expected = if left[number] == 0 { vec![acked(root)] } else { vec![] };
            prop_assert_eq!(bench.effects(), expected);
        }
        prop_assert!(bench.acks.is_empty());
    }

    #[test]
    fn every_emitted_root_ends_in_one_effect_whatever_happens(
        events in prop::collection::vec((0..4_u8, 0..6_u64, 0..4_u64, 0..20_000_u64), 0..200),
    ) {
        let mut bench = Bench::new();
        let mut emitted = [0_u32; 64];
        let mut ended = [0_u32; 64];
        let (mut now, mut next) = (0, 0);
        for (kind, back, edges, later) in events {
            now += later;
            let root = RootId(next.max(back) - back);
            match kind {
                0 if next < 64 => {
                    emitted[next as usize] = 1;
                    bench.emitted(now, RootId(next), edges);
                    next += 1;
                }
                1 => bench.folded(now, root, edges),
                2 => bench.failed(now, root, edges, "no"),
                _ => bench.acks.ticked(bench.at(now)),
            }
            count_ends(bench.effects(), &mut ended);
        }
        count_ends(bench.effects_at(now + 30_000), &mut ended);
        prop_assert_eq!(emitted, ended);
        prop_assert!(bench.acks.is_empty());
        prop_assert!(bench.acks.early_failures.is_empty());
    }
}

fn count_ends(effects: Vec<AckEffect>, ended: &mut [u32; 64]) {
    for effect in effects {
        let (AckEffect::Acked { root, .. } | AckEffect::Failed { root, .. }) = effect;
        ended[root.0 as usize] += 1;
    }
}

#[cfg(feature = "plant")]
mod plants {
    use super::*;

    fn planted(plant: Plant) -> Bench {
        let start = Instant::now();
        Bench { start, acks: Acks::with_plants(start, TIMEOUT, Plants::only(plant)) }
    }

    #[test]
    fn ack_twice_tells_twice() {
        let mut bench = planted(Plant::AckTwice);
        bench.emitted(0, ROOT, 0xa);
        bench.folded(0, ROOT, 0xa);
        assert_eq!(bench.effects(), [acked(ROOT), acked(ROOT)]);
    }

    #[test]
    fn ack_early_tells_before_the_tree_is_done() {
        let mut bench = planted(Plant::AckEarly);
        bench.emitted(0, ROOT, 0xa);
        assert_eq!(bench.effects(), [acked(ROOT)]);
    }

    #[test]
    fn lose_replay_says_nothing_of_a_timeout() {
        let mut bench = planted(Plant::LoseReplay);
        bench.emitted(0, ROOT, 0xa);
        assert_eq!(bench.effects_at(30_000), []);
        assert!(bench.acks.is_empty());
    }
}
