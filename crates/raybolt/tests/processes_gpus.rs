//! GPUs and worker processes: who sees which, by id and by the variable that CUDA's libraries read.
//!
//! A program of its own, since its workers are this very file started again. Four GPUs are declared; none
//! is needed.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use raybolt::{
    Builder, Bundle, LogLevel, PlacementStrategy, ResourceReport, Result, get, get_timeout,
    gpu_ids, placement_group, remote, resources,
};

use cases::{Case, Harness};

const SOON: Duration = Duration::from_secs(60);
const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

const CASES: &[Case<Result<()>>] = &[
    ("a task without gpus sees none", sees_none),
    ("a task sees the gpus that it holds", sees_its_own),
    ("whole gpus are held alone, by processes that see nothing else", exclusive),
    ("parts of a gpu share it", parts),
    ("a process whose gpus another kind needs makes room", makes_room),
    ("a bundle's gpus are seen by what runs in it", in_a_bundle),
    ("a worker that dies with gpus is replaced by another for the same", replaced),
];

fn main() -> ExitCode {
    if let Some(code) = elsewhere() {
        return code;
    }
    let builder = Builder::new().processes(1).num_cpus(4.0).num_gpus(4);
    let session = builder.log_level(LogLevel::Off).start().expect("the session starts");
    let mut harness = Harness::new();
    harness.all(CASES);
    drop(session);
    harness.end()
}

/// Runs this program again, without the machine's own setting of the variable; workers inherit the mark.
fn elsewhere() -> Option<ExitCode> {
    const AGAIN: &str = "RAYBOLT_TEST_AGAIN";
    if std::env::var_os(AGAIN).is_some() {
        return None;
    }
    let program = std::env::current_exe().expect("this program has a name");
    let again = Command::new(program).env_remove(VARIABLE).env(AGAIN, "1").status();
    let is_well = again.is_ok_and(|status| status.success());
    Some(ExitCode::from(u8::from(!is_well)))
}

/// Ids, what the variable says, and the process.
type Seen = (Vec<u32>, Option<String>, u32);

fn seen() -> Seen {
    (gpu_ids(), std::env::var(VARIABLE).ok(), std::process::id())
}

#[remote]
fn look() -> Seen {
    seen()
}

struct Painter;

#[remote]
impl Painter {
    pub fn new() -> Self {
        Painter
    }

    pub fn look(&self) -> Seen {
        seen()
    }
}

fn visible(ids: &[u32]) -> Option<String> {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    Some(ids.join(","))
}

fn sees_none() -> Result<()> {
    let (ids, variable, process) = get(look::remote())?;
    assert_eq!((ids, variable), (vec![], Some(String::new())));
    assert_ne!(process, std::process::id());
    Ok(())
}

fn sees_its_own() -> Result<()> {
    let (ids, variable, process) = get_timeout(look::options().num_gpus(1.0).remote(), SOON)?;
    assert_eq!((ids.len(), variable), (1, visible(&ids)));
    assert_ne!(process, get(look::remote())?.2, "not where others run");
    all_are_free()?; // A value is there a moment before its task's GPUs are.
    let again = get_timeout(look::options().num_gpus(1.0).remote(), SOON)?;
    assert_eq!(again, (ids, visible(&again.0), process), "the same process serves the same gpu");
    Ok(())
}

fn all_are_free() -> Result<()> {
    let late = Instant::now() + SOON;
    let are_free = |known: ResourceReport| known.name == "GPU" && known.available == 4.0;
    while !resources()?.into_iter().any(are_free) {
        assert!(Instant::now() < late, "GPUs are held");
        std::thread::yield_now();
    }
    Ok(())
}

fn exclusive() -> Result<()> {
    let painters = [2.0, 1.0, 1.0].map(|gpus| Painter::options().num_gpus(gpus).remote());
    let mut all = Vec::new();
    for painter in &painters {
        let (ids, variable, _) = get_timeout(painter.look(), SOON)?;
        assert_eq!(variable, visible(&ids));
        all.extend(ids);
    }
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    Ok(())
}

fn parts() -> Result<()> {
    all_are_free()?;
    let painters = [0.5, 0.5, 0.5].map(|gpus| Painter::options().num_gpus(gpus).remote());
    let mut found = Vec::new();
    for painter in &painters {
        let seen = get_timeout(painter.look(), SOON)?;
        assert_eq!(seen.1, visible(&seen.0));
        found.push(seen);
    }
    assert_eq!(found[0], found[1], "two halves of one, in one process");
    assert_ne!(found[0].0, found[2].0);
    Ok(())
}

fn makes_room() -> Result<()> {
    let all = get_timeout(look::options().num_gpus(4.0).remote(), SOON)?;
    assert_eq!((all.0, all.1), (vec![0, 1, 2, 3], visible(&[0, 1, 2, 3])));
    let one = get_timeout(look::options().num_gpus(1.0).remote(), SOON)?;
    assert_eq!((one.0.len(), one.1), (1, visible(&one.0)));
    assert_ne!(one.2, all.2);
    Ok(())
}

fn in_a_bundle() -> Result<()> {
    let bundles = [Bundle::new().num_gpus(1.0), Bundle::new().num_gpus(2.0)];
    let group = placement_group(bundles, PlacementStrategy::Pack).create()?;
    let task = look::options().num_cpus(0.0).num_gpus(2.0).placement_group(&group, Some(1));
    let (ids, variable, _) = get_timeout(task.remote(), SOON)?;
    assert_eq!((ids.len(), variable), (2, visible(&ids)));
    group.remove()
}

#[remote]
fn dies_at_first(mark: String) -> Seen {
    if std::fs::File::create_new(mark).is_ok() {
        std::process::abort();
    }
    seen()
}

fn replaced() -> Result<()> {
    let mark = std::env::temp_dir().join(format!("raybolt-gpus-{}", std::process::id()));
    let name = mark.to_string_lossy().into_owned();
    let (ids, variable, _) =
        get_timeout(dies_at_first::options().num_gpus(2.0).remote(name), SOON)?;
    assert_eq!((ids.len(), variable), (2, visible(&ids)));
    let _ = std::fs::remove_file(mark);
    Ok(())
}
