//! Resources: who holds them, who waits for them, and who never gets them.

mod common;

use std::time::Duration;

use common::{SOON, await_count, await_in, count, let_out, pass, reach, session_with};
use raybolt::{
    Builder, ObjectRef, ResourceReport, Result, get, get_timeout, gpu_ids, remote, resources,
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

fn node() -> Builder {
    Builder::new().num_cpus(4.0).num_gpus(2).memory(1 << 30).resource("disk", 1.0)
}

#[test]
fn a_custom_resource_is_held_alone() -> Result<()> {
    let _session = session_with(node());
    let first = held::options().resource("disk", 1.0).remote("disk");
    await_in("disk", 1);
    let second = counted::options().resource("disk", 1.0).remote("disk second");
    get(&counted::remote("disk third"))?;
    assert_eq!((count("disk second"), count("disk third")), (0, 1));
    let text = get_timeout(&second, NOT_LONG).unwrap_err().to_string();
    assert!(text.contains(" `counted` needs disk: 1 (0 of 1 free); task-"), "{text}");
    assert!(text.contains(" `held` holds disk: 1, and runs on thread raybolt-"), "{text}");
    let_out("disk");
    get((first, second))?;
    Ok(())
}

#[test]
fn half_a_resource_leaves_the_other_half() -> Result<()> {
    let _session = session_with(node());
    let halves = [(); 2].map(|()| held::options().resource("disk", 0.5).remote("halves"));
    await_in("halves", 2);
    let_out("halves");
    get(&halves)?;
    Ok(())
}

#[remote]
fn ids(place: &str) -> Vec<u32> {
    pass(place);
    gpu_ids()
}

#[test]
fn whole_gpus_are_held_alone() -> Result<()> {
    let _session = session_with(node());
    let tasks = [(); 2].map(|()| ids::options().num_gpus(1.0).remote("whole"));
    await_in("whole", 2);
    let third = ids::options().num_gpus(2.0).remote("whole third");
    let_out("whole third");
    assert!(get_timeout(&third, NOT_LONG).unwrap_err().is_timeout());
    let_out("whole");
    let mut all = get(&tasks)?.concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1]);
    assert_eq!(get(&third)?, [0, 1]);
    Ok(())
}

#[test]
fn parts_share_a_gpu() -> Result<()> {
    let _session = session_with(node());
    let halves = [(); 2].map(|()| ids::options().num_gpus(0.5).remote("parts"));
    let whole = ids::options().num_gpus(1.0).remote("parts");
    await_in("parts", 3);
    let_out("parts");
    assert_eq!(get(&halves)?, [[0], [0]]);
    assert_eq!(get(&whole)?, [1]);
    Ok(())
}

#[remote(num_gpus = 1)]
fn asks_a_child() -> Result<(Vec<u32>, Vec<u32>)> {
    let_out("child");
    Ok((gpu_ids(), get(ids::remote("child"))?))
}

#[test]
fn gpus_belong_to_the_task_that_asked_for_them() -> Result<()> {
    let _session = session_with(node());
    assert_eq!(gpu_ids(), [0; 0]);
    for _ in 0..20 {
        let (own, of_child) = get(asks_a_child::remote())?;
        assert_eq!((own.len(), of_child.len()), (1, 0));
    }
    Ok(())
}

struct Painter;

#[remote(num_gpus = 1, resources(disk = 0.5))]
impl Painter {
    pub fn new() -> Self {
        Painter
    }

    pub fn gpus(&self) -> Vec<u32> {
        gpu_ids()
    }
}

#[test]
fn actors_hold_resources_as_long_as_they_live() -> Result<()> {
    let _session = session_with(node());
    let painter = Painter::remote();
    assert_eq!(get(painter.gpus())?, [0]);
    let disk =
        |reports: Vec<ResourceReport>| reports.iter().find(|r| r.name == "disk").unwrap().available;
    assert_eq!(disk(resources()?), 0.5);
    drop(painter);
    // A task that needs what the actor held can run when it has ended.
    get_timeout(&counted::options().resource("disk", 1.0).remote("painter"), SOON)?;
    Ok(())
}

#[test]
fn what_no_node_has_is_an_error_at_once() {
    let _session = session_with(node());
    let error = |call| get::<ObjectRef<()>>(call).unwrap_err().to_string();
    let text =
        "`counted` can never run: it needs CPU: 5, the largest node has 4 (`Builder::num_cpus`)";
    assert_eq!(error(counted::options().num_cpus(5.0).remote("never")), text);
    let text =
        "`counted` can never run: it needs GPU: 3, the largest node has 2 (`Builder::num_gpus`)";
    assert_eq!(error(counted::options().num_gpus(3.0).remote("never")), text);
    let text =
        "`counted` can never run: it needs tape: 0.5, the largest node has 0 (`Builder::resource`)";
    assert_eq!(error(counted::options().resource("tape", 0.5).remote("never")), text);
    let text = "`counted` can never run: it needs memory: 2048 MiB, the largest node has 1024 MiB \
                (`Builder::memory`)";
    assert_eq!(error(counted::options().memory(2 << 30).remote("never")), text);
    assert_eq!(count("never"), 0);
}

#[test]
fn a_task_that_can_never_run_stays_visible() -> Result<()> {
    let _session = session_with(node());
    drop(counted::options().num_gpus(3.0).remote("never"));
    let last =
        raybolt::errors()?.pop().expect("it is remembered, though nobody looked at its result");
    assert_eq!((last.kind, &*last.error.task), ("unschedulable", "counted"));
    let text =
        "`counted` can never run: it needs GPU: 3, the largest node has 2 (`Builder::num_gpus`)";
    assert_eq!(last.error.message, text);
    Ok(())
}

#[remote(memory = 512 << 20)]
fn large() {}

#[test]
fn memory_is_counted_as_other_resources_are() -> Result<()> {
    let _session = session_with(node());
    let first = held::options().memory(768 << 20).remote("memory");
    await_in("memory", 1);
    let second = large::remote();
    let text = get_timeout(&second, NOT_LONG).unwrap_err().to_string();
    let because = "`large` needs memory: 512 MiB (256 MiB of 1024 MiB free); ";
    assert!(text.contains(because), "{text}");
    let_out("memory");
    get((first, second))?;
    Ok(())
}

#[test]
fn amounts_must_make_sense() {
    let _session = session_with(node());
    let error = |call| get::<ObjectRef<()>>(call).unwrap_err().to_string();
    let text = "the amount of `CPU` must be a number from 0 to 1,000,000,000";
    assert_eq!(error(counted::options().num_cpus(-1.0).remote("never")), text);
    let text = "the amount of `disk` must be a number from 0 to 1,000,000,000";
    assert_eq!(error(counted::options().resource("disk", f64::NAN).remote("never")), text);
    let text = "more than one `GPU` must be a whole number of them";
    assert_eq!(error(counted::options().num_gpus(1.5).remote("never")), text);
}

#[test]
fn the_report_tells_what_is_free() -> Result<()> {
    let _session = session_with(node());
    let task =
        held::options().num_cpus(1.5).memory(256 << 20).resource("disk", 0.25).remote("report");
    await_in("report", 1);
    let report =
        |name: &str, total, available| ResourceReport { name: name.into(), total, available };
    let mut reports = resources()?;
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    let expected = [
        report("CPU", 4.0, 2.5),
        report("GPU", 2.0, 2.0),
        report("disk", 1.0, 0.75),
        report("memory", f64::from(1 << 30), f64::from(768 << 20)),
    ];
    assert_eq!(reports, expected);
    let_out("report");
    get(&task)
}

#[test]
fn a_task_without_cpus_runs_beside_a_full_node() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(1.0).worker_threads(4));
    let first = held::remote("full");
    await_in("full", 1);
    get_timeout(&counted::options().num_cpus(0.0).remote("full beside"), SOON)?;
    await_count("full beside", 1);
    let_out("full");
    get(&first)
}
