//! Placement groups: what is set aside for whom, who waits for it, and what goes with it.

mod common;

use common::{Running, SOON, await_count, await_in, count, let_out, pass, reach, session_with};
use std::time::{Duration, Instant};

use raybolt::inspect::{placement_groups, why};
use raybolt::{
    Builder, Bundle, ObjectRef, PlacementGroup, PlacementStrategy, Result, get, get_timeout,
    gpu_ids, is_cancelled, placement_group, remote, resources,
};

const NOT_LONG: Duration = Duration::from_millis(1);

#[remote]
fn held(place: &str) {
    pass(place);
}

#[remote]
fn counted(place: &str) {
    reach(place);
}

#[remote]
fn ids(place: &str) -> Vec<u32> {
    pass(place);
    gpu_ids()
}

/// Runs until it is told to stop.
#[remote]
fn patient(place: &str) {
    reach(place);
    while !is_cancelled() {
        std::thread::yield_now();
    }
    reach(&format!("{place} stopped"));
}

fn node() -> Running {
    session_with(Builder::new().num_cpus(4.0).num_gpus(4).resource("disk", 1.0))
}

fn cpus(count: f64) -> Bundle {
    Bundle::new().num_cpus(count)
}

fn pack(name: &str, bundles: impl IntoIterator<Item = Bundle>) -> Result<PlacementGroup> {
    placement_group(bundles, PlacementStrategy::Pack).name(name).create()
}

fn free(name: &str) -> f64 {
    let resources = resources().unwrap();
    resources.iter().find(|resource| resource.name == name).map_or(0.0, |found| found.available)
}

#[test]
fn a_group_holds_its_bundles_until_it_is_removed() -> Result<()> {
    let _session = node();
    let group = pack("two", [cpus(1.0), cpus(1.5).resource("disk", 0.5)])?;
    group.wait(SOON)?;
    assert!(group.ready().is_ready());
    get(group.ready())?;
    assert_eq!((free("CPU"), free("disk")), (1.5, 0.5));
    assert_eq!(group.bundle_specs()[0], [("CPU".to_owned(), 1.0)]);
    let [report] = &placement_groups(9)?.items[..] else { panic!("there is one") };
    assert_eq!((report.name.as_deref(), &*report.strategy), (Some("two"), "pack"));
    assert_eq!(report.state, "ready");
    group.remove()?;
    group.remove()?;
    assert_eq!((free("CPU"), free("disk")), (4.0, 1.0));
    assert_eq!(placement_groups(9)?.total, 0);
    let text = "`ready` was in placement group `two`, which was removed";
    assert_eq!(group.wait(SOON).unwrap_err().to_string(), text);
    assert_eq!(get(group.ready()).unwrap_err().to_string(), text);
    Ok(())
}

#[test]
fn tasks_run_in_their_bundle_and_nowhere_else() -> Result<()> {
    let _session = node();
    let group = pack("own", [cpus(1.0), cpus(2.0)])?;
    let in_first = || held::options().placement_group(&group, Some(0));
    let first = in_first().remote("own first");
    await_in("own first", 1);
    let second = counted::options().placement_group(&group, Some(0)).remote("own second");
    let text = get_timeout(&second, NOT_LONG).unwrap_err().to_string();
    assert!(text.contains("`counted` needs CPU: 1 (its bundle has 0 free); "), "{text}");
    assert!(text.contains("`held` holds CPU: 1, and runs on thread "), "{text}");
    assert_eq!(count("own second"), 0, "one CPU is free outside, and two in the other bundle");
    get(counted::options().placement_group(&group, Some(1)).remote("own other"))?;
    get(counted::options().placement_group(&group, None).remote("own other"))?;
    let_out("own first");
    get((first, second))?;
    Ok(())
}

#[test]
fn a_group_waits_for_what_others_hold_and_its_tasks_with_it() -> Result<()> {
    let _session = node();
    let outside = held::options().num_cpus(3.0).remote("waits");
    await_in("waits", 1);
    let group = pack("late", [cpus(1.0), cpus(1.0)])?;
    let inside = counted::options().placement_group(&group, Some(1)).remote("waits inside");
    let text = group.wait(NOT_LONG).unwrap_err().to_string();
    let begin = "placement group `late` was not there within 1ms (`timeout`): ";
    assert!(text.starts_with(begin), "{text}");
    let id = group.id();
    let waits = format!(
        "`counted` waits for its placement group {id} `late`; placement group {id} `late` needs CPU: 2 (1 of 4 free); "
    );
    let text = get_timeout(&inside, NOT_LONG).unwrap_err().to_string();
    assert!(text.contains(&waits), "{text}");
    assert!(text.contains("`held` holds CPU: 3, and runs on thread "), "{text}");
    let why = why(Some(&id))?.to_string();
    let begin = format!("placement group {id} `late` needs CPU: 2 (1 of 4 free)\n  task-");
    assert!(why.starts_with(&begin), "{why}");
    let [report] = &placement_groups(9)?.items[..] else { panic!("there is one") };
    assert_eq!((&*report.id, &*report.state), (&*id, "waiting"));
    assert_eq!(report.because.as_deref(), Some("needs CPU: 2 (1 of 4 free)"));
    let ready = group.ready();
    assert!(!ready.is_ready());
    let_out("waits");
    get((outside, ready, inside))?;
    Ok(())
}

#[test]
fn what_can_never_be_placed_says_why_and_stays_visible() -> Result<()> {
    let _session = node();
    let bundles = [cpus(1.0), cpus(1.0)];
    let group = placement_group(bundles, PlacementStrategy::StrictSpread).name("apart").create()?;
    let text = "placement group `apart` can never be placed: it needs 2 nodes, there is 1";
    assert_eq!(get(group.ready()).unwrap_err().to_string(), text);
    assert_eq!(group.wait(SOON).unwrap_err().to_string(), text);
    let error = get(counted::options().placement_group(&group, None).remote("never")).unwrap_err();
    let text = "`counted` can never run: it belongs to a placement group that can never be placed: the \
                group needs 2 nodes, there is 1 (`placement_group`)";
    assert_eq!(error.to_string(), text);
    let [report] = &placement_groups(9)?.items[..] else { panic!("it stays") };
    let because = report.because.as_deref();
    assert_eq!((&*report.state, because), ("never", Some("needs 2 nodes, there is 1")));
    let large = pack("large", [cpus(3.0), cpus(3.0)])?;
    let text = "placement group `large` can never be placed: it needs CPU: 6 together, the largest node \
                has 4";
    assert_eq!(get(large.ready()).unwrap_err().to_string(), text);
    assert_eq!(free("CPU"), 4.0);
    Ok(())
}

#[test]
fn spread_and_strict_pack_are_met_by_one_node() -> Result<()> {
    let _session = node();
    for strategy in [PlacementStrategy::Spread, PlacementStrategy::StrictPack] {
        let group = placement_group([cpus(2.0), cpus(2.0)], strategy).create()?;
        group.wait(SOON)?;
        assert_eq!(group.name(), group.id(), "it has a name for messages");
        group.remove()?;
    }
    Ok(())
}

#[test]
fn a_task_that_fits_no_bundle_is_an_error_at_once() -> Result<()> {
    let _session = node();
    let group = pack("small", [cpus(1.0), Bundle::new().num_gpus(1.0)])?;
    let error = |task: ObjectRef<()>| get(task).unwrap_err().to_string();
    let inside = || counted::options().placement_group(&group, None);
    let text = "`counted` can never run: it needs CPU: 2, the largest bundle of its placement group has \
                1 (`Bundle::num_cpus`)";
    assert_eq!(error(inside().num_cpus(2.0).remote("never")), text);
    let text = "`counted` can never run: it needs GPU: 1, bundle 0 of its placement group has 0 \
                (`Bundle::num_gpus`)";
    assert_eq!(error(inside().num_gpus(1.0).remote("never")), text);
    let text = "`counted` can never run: it asks for bundle 2 of its placement group, which has 2 (they \
                count from 0) (`placement_group`)";
    assert_eq!(error(counted::options().placement_group(&group, Some(2)).remote("never")), text);
    Ok(())
}

#[test]
fn what_sets_nothing_aside_makes_no_sense() {
    let _session = node();
    let error = |bundles: Vec<Bundle>| pack("none", bundles).unwrap_err().to_string();
    assert_eq!(error(vec![]), "a placement group needs at least one bundle");
    let text = "bundle 1 of the placement group is empty; give it some of a resource";
    assert_eq!(error(vec![cpus(1.0), Bundle::new()]), text);
    let text = "the amount of `CPU` must be a number from 0 to 1,000,000,000";
    assert_eq!(error(vec![cpus(-1.0)]), text);
}

#[test]
fn gpus_are_set_aside_by_id() -> Result<()> {
    let _session = node();
    let half = Bundle::new().num_gpus(0.5);
    let group = pack("gpus", [half.clone(), Bundle::new().num_gpus(2.0), half])?;
    let task = |gpus, bundle| {
        let options = ids::options().num_cpus(0.0).num_gpus(gpus);
        options.placement_group(&group, Some(bundle)).remote("gpus")
    };
    let tasks = [task(0.5, 0), task(1.0, 1), task(1.0, 1), task(0.25, 2), task(0.25, 2)];
    let outside = ids::options().num_cpus(0.0).num_gpus(1.0).remote("gpus");
    await_in("gpus", 6);
    let_out("gpus");
    let mut found = get(&tasks)?;
    found[1..3].sort();
    assert_eq!(
        found,
        [[2], [0], [1], [2], [2]],
        "halves share one, and the two whole ones are apart"
    );
    assert_eq!(get(&outside)?, [3]);
    Ok(())
}

#[test]
fn removal_ends_what_waits_and_what_runs() -> Result<()> {
    let _session = node();
    let group = pack("gone", [cpus(1.0)])?;
    let inside = || patient::options().placement_group(&group, Some(0));
    let running = inside().remote("gone");
    await_count("gone", 1);
    let queued = inside().remote("gone queued");
    let after = inside().remote("gone queued"); // A clone of options is a task of its own.
    group.remove()?;
    let text = "`patient` was in placement group `gone`, which was removed";
    for task in [&running, &queued, &after] {
        let error = get_timeout(task, SOON).unwrap_err();
        assert!(error.is_placement_group_removed());
        assert_eq!(error.to_string(), text);
    }
    await_count("gone stopped", 1);
    let late = inside().remote("gone queued");
    assert_eq!(get(late).unwrap_err().to_string(), text);
    assert_eq!(count("gone queued"), 0);
    // What it held comes back when it has stopped.
    get_timeout(&counted::options().num_cpus(4.0).remote("gone all"), SOON)?;
    Ok(())
}

#[test]
fn a_group_that_waits_can_be_removed() -> Result<()> {
    let _session = node();
    let outside = held::options().num_cpus(1.0).remote("early");
    await_in("early", 1);
    let group = pack("early", [cpus(4.0)])?;
    let (ready, inside) =
        (group.ready(), counted::options().placement_group(&group, None).remote("early inside"));
    group.remove()?;
    assert!(get(ready).unwrap_err().is_placement_group_removed());
    assert!(get(inside).unwrap_err().is_placement_group_removed());
    let_out("early");
    get(outside)?;
    assert_eq!(count("early inside"), 0);
    Ok(())
}

struct Painter;

#[remote(num_cpus = 1)]
impl Painter {
    pub fn new() -> Self {
        Painter
    }

    pub fn paint(&self) -> u32 {
        7
    }
}

#[test]
fn actors_live_in_a_bundle_and_end_with_their_group() -> Result<()> {
    let _session = node();
    let group = pack("studio", [cpus(1.0)])?;
    let make = || Painter::options().placement_group(&group, Some(0)).remote();
    let painter = make();
    assert_eq!(get(painter.paint())?, 7);
    assert_eq!(free("CPU"), 3.0, "the group's, once");
    let second = make();
    let call = second.paint();
    let text = get_timeout(&call, NOT_LONG).unwrap_err().to_string();
    assert!(text.contains("`Painter` needs CPU: 1 (its bundle has 0 free); "), "{text}");
    group.remove()?;
    let text = "actor `Painter` is gone: its placement group `studio` was removed";
    assert_eq!(get(painter.paint()).unwrap_err().to_string(), text);
    assert_eq!(get(call).unwrap_err().to_string(), text);
    let text = "`Painter` was in placement group `studio`, which was removed";
    assert_eq!(get(make().paint()).unwrap_err().to_string(), text);
    get_timeout(&counted::options().num_cpus(4.0).remote("studio all"), SOON)?;
    Ok(())
}

#[test]
fn an_actor_of_no_resources_waits_for_its_group_too() -> Result<()> {
    let _session = node();
    let outside = held::options().num_cpus(4.0).remote("idle");
    await_in("idle", 1);
    let group = pack("idle", [cpus(1.0)])?;
    let painter = Painter::options().num_cpus(0.0).placement_group(&group, None).remote();
    let call = painter.paint();
    assert!(get_timeout(&call, NOT_LONG).unwrap_err().is_timeout());
    let_out("idle");
    assert_eq!(get(&call)?, 7);
    get(outside)
}

#[remote]
fn parent(group: PlacementGroup) -> Result<u32> {
    // The parent holds the only CPU of the bundle, and lends it while it waits.
    let child = counted::options().placement_group(&group, Some(0)).remote("nested");
    get(child)?;
    Ok(1)
}

#[test]
fn a_group_is_passed_to_tasks_and_they_run_theirs_in_it() -> Result<()> {
    let _session = node();
    let group = pack("nested", [cpus(1.0)])?;
    let task = parent::options().placement_group(&group, Some(0)).remote(group.clone());
    assert_eq!(get(task)?, 1);
    assert_eq!(count("nested"), 1);
    Ok(())
}

#[test]
fn groups_and_classes_come_and_go_for_ever() -> Result<()> {
    let _session = node();
    for _ in 0..1_000 {
        let group = pack("again", [cpus(1.0)])?;
        get(counted::options().placement_group(&group, None).remote("again"))?;
        group.remove()?;
    }
    assert_eq!(count("again"), 1_000);
    get_timeout(&counted::options().num_cpus(4.0).remote("again all"), SOON)?;
    // A value is there a moment before its task's CPUs are.
    let late = Instant::now() + SOON;
    while free("CPU") != 4.0 {
        assert!(Instant::now() < late, "{} CPUs are free", free("CPU"));
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_group_of_an_earlier_session_is_told_so() -> Result<()> {
    let group = {
        let _session = node();
        pack("old", [cpus(1.0)])?
    };
    let _session = node();
    let text = "the session ended before placement group `old` was there";
    assert_eq!(get(group.ready()).unwrap_err().to_string(), text);
    let error = get(counted::options().placement_group(&group, None).remote("old")).unwrap_err();
    assert_eq!(error.to_string(), text);
    group.remove()
}
