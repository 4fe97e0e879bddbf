use super::*;
use crate::calls::placement::PlacementStrategy;

mod groups;
mod random;

fn demand(of: &[(&str, f64)]) -> Demand {
    let mut demand = Demand::default();
    for (name, amount) in of {
        demand.set(name, *amount).unwrap();
    }
    demand
}

fn grants(scheduler: &mut Scheduler) -> Vec<(LeaseKey, ClassId)> {
    std::iter::from_fn(|| scheduler.poll_effect())
        .filter_map(|effect| match effect {
            Effect::Grant(lease, class) => Some((lease, class)),
            Effect::Ready(_) => None,
        })
        .collect()
}

#[test]
fn leases_are_granted_up_to_the_resources_and_as_many_as_there_are_tasks() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0)]));
    let class = scheduler.class("f", &demand(&[(CPU, 1.0)])).unwrap();
    scheduler.wanted(class, 1);
    assert_eq!(grants(&mut scheduler).len(), 1);
    scheduler.wanted(class, 5);
    let second = grants(&mut scheduler);
    assert_eq!(second.len(), 1);
    assert_eq!(scheduler.lacking(class), Some((CPU, UNIT, 0)));
    scheduler.returned(second[0].0);
    assert_eq!(grants(&mut scheduler).len(), 1);
}

#[test]
fn classes_that_wait_take_turns() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 1.0)]));
    let [a, b, c] = ["a", "b", "c"].map(|name| {
        let class = scheduler.class(name, &demand(&[(CPU, 1.0)])).unwrap();
        scheduler.wanted(class, 100);
        class
    });
    let mut order = Vec::new();
    for _ in 0..6 {
        let [(lease, class)] = grants(&mut scheduler)[..] else { panic!("one at a time") };
        scheduler.started(lease);
        assert!(scheduler.must_yield(lease));
        order.push(class);
        scheduler.wanted(class, 100); // More of the same came meanwhile.
        scheduler.returned(lease);
    }
    // The first wanted more before the others came.
    assert_eq!(order, [a, a, b, c, a, b]);
}

#[test]
fn a_large_demand_is_not_starved_by_small_ones() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0)]));
    let small = scheduler.class("small", &demand(&[(CPU, 1.0)])).unwrap();
    let large = scheduler.class("large", &demand(&[(CPU, 2.0)])).unwrap();
    scheduler.wanted(small, 2);
    let first = grants(&mut scheduler);
    assert_eq!(first.len(), 2);
    scheduler.wanted(large, 1);
    scheduler.started(first[0].0);
    scheduler.wanted(small, 9);
    scheduler.returned(first[0].0);
    assert!(grants(&mut scheduler).is_empty());
    scheduler.returned(first[1].0);
    assert_eq!(grants(&mut scheduler)[0].1, large);
}

/// Found by the simulator: what is free in parts was not seen to be too little.
#[test]
fn a_whole_gpu_is_not_starved_by_parts_of_gpus() {
    let mut scheduler = Scheduler::new(&demand(&[(GPU, 2.0)]));
    let half = scheduler.class("half", &demand(&[(GPU, 0.5)])).unwrap();
    let whole = scheduler.class("whole", &demand(&[(GPU, 1.0)])).unwrap();
    scheduler.wanted(half, 3);
    let halves = grants(&mut scheduler);
    for (lease, _) in &halves {
        scheduler.started(*lease);
    }
    scheduler.wanted(whole, 1);
    scheduler.wanted(half, 9);
    scheduler.returned(halves[0].0);
    assert_eq!(grants(&mut scheduler), [], "a half is free of either GPU: a whole, but of none");
    scheduler.returned(halves[1].0);
    assert_eq!(grants(&mut scheduler)[0].1, whole);
}

#[test]
fn what_can_never_run_is_refused_with_figures() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0)]));
    let error = scheduler.class("f", &demand(&[(GPU, 2.0)])).unwrap_err();
    assert_eq!(error.to_string(), "needs GPU: 2, the largest node has 0");
    let error = scheduler.class("f", &demand(&[(CPU, 2.5)])).unwrap_err();
    assert_eq!(error.to_string(), "needs CPU: 2.5, the largest node has 2");
}

#[test]
fn gpus_are_exclusive_and_parts_share_one() {
    let mut scheduler = Scheduler::new(&demand(&[(GPU, 3.0)]));
    let half = scheduler.class("half", &demand(&[(GPU, 0.5)])).unwrap();
    let two = scheduler.class("two", &demand(&[(GPU, 2.0)])).unwrap();
    scheduler.wanted(half, 1);
    scheduler.wanted(two, 1);
    scheduler.wanted(half, 2);
    let ids: Vec<_> =
        grants(&mut scheduler).iter().map(|(lease, _)| scheduler.gpu_ids(*lease)).collect();
    assert_eq!(ids, [vec![0], vec![1, 2], vec![0]]);
    scheduler.wanted(half, 3);
    assert!(grants(&mut scheduler).is_empty());
}

#[test]
fn who_waits_does_not_take_a_gpu_beside_the_one_that_is_set_aside() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 2.0), (GPU, 2.0)]));
    let class = scheduler.class("f", &demand(&[(CPU, 1.0), (GPU, 1.0)])).unwrap();
    assert!(scheduler.lease_now(class).is_some());
    scheduler.wanted(class, 1);
    let lease = grants(&mut scheduler)[0].0;
    assert_eq!(scheduler.lease_now(class), None);
    scheduler.started(lease);
}

#[test]
fn a_blocked_task_lends_its_cpu_and_takes_it_back() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 1.0), ("disk", 1.0)]));
    let parent = scheduler.class("parent", &demand(&[(CPU, 1.0), ("disk", 1.0)])).unwrap();
    let child = scheduler.class("child", &demand(&[(CPU, 1.0)])).unwrap();
    scheduler.wanted(parent, 1);
    let parent_lease = grants(&mut scheduler)[0].0;
    scheduler.wanted(child, 1);
    assert!(grants(&mut scheduler).is_empty());
    scheduler.blocked(parent_lease);
    let child_lease = grants(&mut scheduler)[0].0;
    scheduler.unblocked(parent_lease);
    scheduler.wanted(child, 0);
    scheduler.returned(child_lease);
    scheduler.wanted(parent, 0);
    scheduler.returned(parent_lease);
    assert!(scheduler.resources().all(|(_, total, available)| total == available));
}

#[test]
fn jobs_take_turns_however_many_classes_they_have() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 1.0)]));
    let one_cpu = demand(&[(CPU, 1.0)]);
    let mut class = |name, job| {
        let spec = ClassSpec { name, demand: &one_cpu, job: JobId(job), within: Within::Node };
        let class = scheduler.class_of(spec).unwrap();
        scheduler.wanted(class, 100);
        class
    };
    let (a, b, c, other) = (class("a", 1), class("b", 1), class("c", 1), class("d", 2));
    let mut order = Vec::new();
    for _ in 0..7 {
        let [(lease, class)] = grants(&mut scheduler)[..] else { panic!("one at a time") };
        scheduler.started(lease);
        order.push(class);
        scheduler.returned(lease);
    }
    assert_eq!(order, [a, a, other, b, other, c, other], "nobody else waited when the first came");
}

#[test]
fn who_holds_nothing_that_others_wait_for_need_not_yield() {
    let mut scheduler = Scheduler::new(&demand(&[(CPU, 1.0), ("disk", 1.0)]));
    let disk = scheduler.class("disk", &demand(&[("disk", 1.0)])).unwrap();
    let cpu = scheduler.class("cpu", &demand(&[(CPU, 1.0)])).unwrap();
    scheduler.wanted(disk, 1);
    scheduler.wanted(cpu, 1);
    let leases = grants(&mut scheduler);
    for (lease, _) in &leases {
        scheduler.started(*lease);
    }
    scheduler.wanted(disk, 5);
    scheduler.wanted(cpu, 0);
    assert!(!scheduler.must_yield(leases[0].0), "it is its own class that waits");
    assert!(!scheduler.must_yield(leases[1].0));
    let both = scheduler.class("both", &demand(&[(CPU, 1.0), ("disk", 1.0)])).unwrap();
    scheduler.wanted(both, 1);
    assert!(scheduler.must_yield(leases[0].0) && scheduler.must_yield(leases[1].0));
}

/// GPU-1, GPU-2.
#[test]
fn parts_fill_a_gpu_before_they_begin_another() {
    let mut scheduler = Scheduler::new(&demand(&[(GPU, 2.0)]));
    let part = scheduler.class("part", &demand(&[(GPU, 0.3)])).unwrap();
    scheduler.wanted(part, 4);
    let leases = grants(&mut scheduler);
    let ids: Vec<_> = leases.iter().map(|(lease, _)| scheduler.gpu_ids(*lease)).collect();
    assert_eq!(ids, [[0], [0], [0], [1]]);
    let whole = scheduler.class("whole", &demand(&[(GPU, 1.0)])).unwrap();
    scheduler.wanted(whole, 1);
    assert_eq!(grants(&mut scheduler), []);
    assert_eq!(scheduler.lacking(whole), Some((GPU, UNIT, 0)), "1.1 are free, but no whole one");
}
