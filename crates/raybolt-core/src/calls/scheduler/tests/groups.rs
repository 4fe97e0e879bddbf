//! Placement groups.

use super::*;

fn group(bundles: &[&[(&str, f64)]], strategy: PlacementStrategy) -> GroupSpec {
    let bundles = bundles.iter().map(|of| demand(of)).collect();
    GroupSpec { name: "g".into(), job: JobId(0), bundles, strategy }
}

fn pack(bundles: &[&[(&str, f64)]]) -> GroupSpec {
    group(bundles, PlacementStrategy::Pack)
}

fn class(
    scheduler: &mut Scheduler,
    of: &[(&str, f64)],
    within: Within,
) -> Result<ClassId, Refused> {
    let demand = demand(of);
    scheduler.class_of(ClassSpec { name: "f", demand: &demand, job: JobId(0), within })
}

fn free(scheduler: &Scheduler, name: &str) -> i64 {
    scheduler.resources().find(|resource| resource.0 == name).map_or(0, |resource| resource.2)
}

fn is_ready(scheduler: &Scheduler, key: GroupKey) -> bool {
    scheduler.group_view(key).is_some_and(|group| group.state == GroupState::Ready)
}

const ONE: &[(&str, f64)] = &[(CPU, 1.0)];
const TWO: &[(&str, f64)] = &[(CPU, 2.0)];

#[test]
fn a_group_sets_its_bundles_aside_and_gives_them_back() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 4.0)]));
    let key = scheduler.group(pack(&[ONE, TWO])).unwrap();
    assert_eq!(scheduler.poll_effect(), Some(Effect::Ready(key)));
    assert!(is_ready(&scheduler, key));
    assert_eq!(free(&scheduler, CPU), UNIT);
    assert_eq!(scheduler.group_holders(CPU).collect::<Vec<_>>(), [(key, 3 * UNIT)]);
    assert_eq!(scheduler.remove_group(key), Some(Vec::new()));
    assert_eq!(scheduler.remove_group(key), None);
    assert_eq!(free(&scheduler, CPU), 4 * UNIT);
}

/// SCHED-4.
#[test]
fn a_group_waits_with_nothing_until_it_can_have_all() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0)]));
    let outside = scheduler.class("outside", &demand(ONE)).unwrap();
    scheduler.wanted(outside, 1);
    let lease = grants(&mut scheduler)[0].0;
    scheduler.started(lease);
    let key = scheduler.group(pack(&[ONE, ONE])).unwrap();
    assert_eq!(scheduler.poll_effect(), None);
    assert_eq!(free(&scheduler, CPU), UNIT, "half of it is no use");
    assert_eq!(scheduler.group_lacking(key), Some((CPU, 2 * UNIT, UNIT)));
    assert!(scheduler.must_yield(lease));
    scheduler.wanted(outside, 9);
    assert_eq!(scheduler.poll_effect(), None, "others behind it do not take what it waits for");
    scheduler.returned(lease);
    assert_eq!(scheduler.poll_effect(), Some(Effect::Ready(key)));
    assert_eq!(scheduler.poll_effect(), None);
    scheduler.remove_group(key);
    assert_eq!(grants(&mut scheduler).len(), 2);
}

#[test]
fn leases_of_a_group_are_cut_from_its_bundles_alone() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 4.0)]));
    let key = scheduler.group(pack(&[ONE, TWO])).unwrap();
    let any = class(&mut scheduler, ONE, Within::AnyBundle(key)).unwrap();
    let first = class(&mut scheduler, ONE, Within::Bundle(key, 0)).unwrap();
    scheduler.wanted(first, 5);
    scheduler.wanted(any, 5);
    let leases = grants(&mut scheduler);
    let bundles: Vec<_> = leases
        .iter()
        .map(|(lease, _)| scheduler.lease(*lease).unwrap().bundle.unwrap().1)
        .collect();
    assert_eq!(bundles, [0, 1, 1], "the fourth CPU is not the group's");
    assert_eq!(scheduler.lacking(first), Some((CPU, UNIT, 0)));
    assert_eq!(scheduler.leases_in(key).count(), 3);
    assert_eq!(free(&scheduler, CPU), UNIT);
    let outside = scheduler.class("outside", &demand(ONE)).unwrap();
    assert!(scheduler.lease_now(outside).is_some(), "those of a group do not wait for the node's");
    assert_eq!(scheduler.bundle(key, 1).collect::<Vec<_>>(), [(CPU, 2 * UNIT, 0)]);
}

#[test]
fn a_task_of_a_group_that_waits_waits_with_it() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0)]));
    let outside = scheduler.class("outside", &demand(ONE)).unwrap();
    let lease = scheduler.lease_now(outside).unwrap();
    let key = scheduler.group(pack(&[TWO])).unwrap();
    let inside = class(&mut scheduler, ONE, Within::AnyBundle(key)).unwrap();
    scheduler.wanted(inside, 1);
    assert!(!scheduler.covers(lease, inside), "not in place of one outside, either");
    assert_eq!(scheduler.lease_now(inside), None);
    assert_eq!(scheduler.poll_effect(), None);
    scheduler.returned(lease);
    assert_eq!(scheduler.poll_effect(), Some(Effect::Ready(key)));
    assert_eq!(grants(&mut scheduler)[0].1, inside);
}

#[test]
fn what_runs_in_a_removed_group_brings_its_part_back_when_it_ends() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0), (GPU, 1.0)]));
    let key = scheduler.group(pack(&[&[(CPU, 2.0), (GPU, 1.0)]])).unwrap();
    let inside = class(&mut scheduler, &[(CPU, 1.0), (GPU, 0.5)], Within::AnyBundle(key)).unwrap();
    scheduler.wanted(inside, 3);
    assert_eq!(scheduler.poll_effect(), Some(Effect::Ready(key)));
    let [(a, _), (b, _)] = grants(&mut scheduler)[..] else { panic!("two halves") };
    scheduler.started(a);
    scheduler.blocked(a);
    assert_eq!(scheduler.remove_group(key), Some(vec![inside]));
    assert!(scheduler.is_over(inside));
    assert_eq!((free(&scheduler, CPU), free(&scheduler, GPU)), (UNIT, 0), "one blocks, one runs");
    assert_eq!(scheduler.lease(a).unwrap().bundle, None);
    scheduler.unblocked(a);
    assert_eq!(free(&scheduler, CPU), 0);
    scheduler.returned(a);
    scheduler.wanted(inside, 7); // A task comes back that should run again: it never does.
    assert_eq!(grants(&mut scheduler), []);
    assert!(!scheduler.release(inside), "a lease is out");
    scheduler.returned(b);
    assert_eq!((free(&scheduler, CPU), free(&scheduler, GPU)), (2 * UNIT, UNIT));
    assert!(scheduler.release(inside));
    let next = scheduler.class("next", &demand(ONE)).unwrap();
    assert_eq!(next, inside, "the id is used again");
    assert!(!scheduler.is_over(next));
}

#[test]
fn what_can_never_be_says_why_and_stays() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 4.0)]));
    let key = scheduler.group(group(&[ONE, ONE], PlacementStrategy::StrictSpread)).unwrap();
    let GroupState::Never(why) = scheduler.group_view(key).unwrap().state else {
        panic!("one node")
    };
    assert_eq!(why.to_string(), "needs 2 nodes, there is 1");
    let refused = class(&mut scheduler, ONE, Within::AnyBundle(key)).unwrap_err().to_string();
    let text = "belongs to a placement group that can never be placed: the group needs 2 nodes, there is 1";
    assert_eq!(refused, text);
    let tape = scheduler.group(pack(&[ONE, &[("tape", 1.0)]])).unwrap();
    let GroupState::Never(why) = scheduler.group_view(tape).unwrap().state else {
        panic!("no tape")
    };
    assert_eq!(why.to_string(), "needs tape: 1, the largest node has 0, for its bundle 1");
    let large = scheduler.group(pack(&[TWO, TWO, ONE])).unwrap();
    let GroupState::Never(why) = scheduler.group_view(large).unwrap().state else {
        panic!("5 of 4")
    };
    assert_eq!(why.to_string(), "needs CPU: 5 together, the largest node has 4");
    assert_eq!(scheduler.groups().count(), 3);
    assert_eq!(free(&scheduler, CPU), 4 * UNIT);
    scheduler.remove_group(key);
    assert_eq!(scheduler.groups().count(), 2);
}

#[test]
fn a_class_that_no_bundle_can_hold_is_refused() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 8.0), (GPU, 1.0)]));
    let key = scheduler.group(pack(&[TWO, ONE, &[(GPU, 1.0)]])).unwrap();
    let mut refused =
        |of: &[(&str, f64)], within| class(&mut scheduler, of, within).unwrap_err().to_string();
    let any = Within::AnyBundle(key);
    let text = "needs CPU: 3, the largest bundle of its placement group has 2";
    assert_eq!(refused(&[(CPU, 3.0)], any), text);
    let text = "needs CPU: 2, bundle 1 of its placement group has 1";
    assert_eq!(refused(TWO, Within::Bundle(key, 1)), text);
    let text = "needs GPU: 1, bundle 0 of its placement group has 0";
    assert_eq!(refused(&[(CPU, 1.0), (GPU, 1.0)], any), text);
    let text = "asks for bundle 3 of its placement group, which has 3 (they count from 0)";
    assert_eq!(refused(ONE, Within::Bundle(key, 3)), text);
    scheduler.remove_group(key);
    let text = "belongs to a placement group that was removed";
    assert_eq!(class(&mut scheduler, ONE, any).unwrap_err().to_string(), text);
}

#[test]
fn what_sets_nothing_aside_makes_no_sense() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 1.0)]));
    assert_eq!(scheduler.group(pack(&[])), Err(GroupError::NoBundles));
    assert_eq!(scheduler.group(pack(&[ONE, &[]])), Err(GroupError::EmptyBundle(1)));
}

#[test]
fn the_gpus_of_a_group_are_its_own() {
    let mut scheduler = Scheduler::new(&demand(&[(GPU, 4.0)]));
    let half: &[_] = &[(GPU, 0.5)];
    let two: &[_] = &[(GPU, 2.0)];
    let key = scheduler.group(pack(&[half, two])).unwrap();
    let outside = scheduler.class("outside", &demand(&[(GPU, 1.0)])).unwrap();
    let held = scheduler.lease_now(outside).map(|lease| scheduler.gpu_ids(lease));
    assert_eq!(held, Some(vec![3]), "two are whole for a bundle, and a half is gone of a third");
    assert_eq!(scheduler.lease_now(outside), None);
    let quarter = class(&mut scheduler, &[(GPU, 0.25)], Within::Bundle(key, 0)).unwrap();
    let whole = class(&mut scheduler, &[(GPU, 1.0)], Within::AnyBundle(key)).unwrap();
    scheduler.wanted(quarter, 3);
    scheduler.wanted(whole, 3);
    let ids: Vec<_> =
        grants(&mut scheduler).iter().map(|(lease, _)| scheduler.gpu_ids(*lease)).collect();
    assert_eq!(ids, [[2], [2], [0], [1]]);
}

#[test]
fn groups_come_in_turn_with_classes() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 1.0)]));
    let outside = scheduler.class("outside", &demand(ONE)).unwrap();
    scheduler.wanted(outside, 10);
    let lease = grants(&mut scheduler)[0].0;
    scheduler.started(lease);
    let first = scheduler.group(pack(&[ONE])).unwrap();
    let second = scheduler.group(pack(&[ONE])).unwrap();
    scheduler.returned(lease);
    let lease = grants(&mut scheduler)[0].0;
    scheduler.started(lease);
    assert!(!is_ready(&scheduler, first), "the class waited before");
    scheduler.returned(lease);
    assert_eq!(scheduler.poll_effect(), Some(Effect::Ready(first)));
    scheduler.remove_group(first);
    assert!(is_ready(&scheduler, second));
}
