//! How soon a session over processes answers, and what it costs when it has nothing to do. Both need
//! processes of their own.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use raybolt::Builder;

use super::{HERE, Place, after, process, rounds};
use crate::baselines::socket::{CALL_BYTES, Echo};
use crate::harness::Aim::AtMost;
use crate::harness::{Bench, Contest, Effort, Outcome, Row, Sample, median};
use crate::probe;

const MIB: f64 = (1 << 20) as f64;

/// The benches of this file.
pub fn benches() -> Vec<Bench> {
    let bench = |name, about, run| Bench { name, group: "processes", about, run };
    vec![
        bench(
            "first result",
            "From the beginning of a session over processes to the result of its first task; and from the call of a task \
             that needs a worker of its own, in a session that runs, to its result. The limit is a process that is \
             started, with nothing to do but send back one message.",
            first,
        ),
        bench(
            "idle workers",
            "What a driver and two workers that have run tasks hold in memory together, and which share of a \
             processor they take while there is nothing to do.",
            idle,
        ),
    ]
}

fn first(effort: Effort) -> Result<Outcome> {
    const INIT: &str = "raybolt, session";
    const COLD: &str = "raybolt, cold worker";
    const PLAIN: &str = "a process and an echo";
    let standings = Contest::new("ms")
        .add(INIT, || Ok(probe::ask(&["first-result"])?[0]))
        .add(COLD, || Ok(probe::ask(&["first-result"])?[1]))
        .add(HERE, || Ok(probe::ask(&["first-result-here"])?[0]))
        .add(PLAIN, || {
            let start = Instant::now();
            let mut echo = Echo::start()?;
            echo.round_trip(&mut [1; CALL_BYTES]);
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
        .run(rounds(effort))?;
    let row = |title, name, bound| {
        standings.row(title, name, PLAIN, AtMost(0.0)).aim_figure(AtMost(bound))
    };
    let rows = vec![
        row("session over processes to first result", INIT, 50.0),
        row("cold worker to first result", COLD, 30.0),
        Row::figure("session in one process to first result", standings.figure(HERE), "ms"),
    ];
    Ok(Outcome { rows, chart: Some(standings.chart("first result")) })
}

/// The probe: milliseconds to the first result of a session, and to that of a worker started later.
pub fn first_result_probe() -> Result<Sample> {
    let start = Instant::now();
    let _session = Place::Workers(1).builder().num_gpus(1).start()?;
    ensure!(raybolt::get(after::remote(1))? == 2, "the task answers");
    let init = start.elapsed();
    let warm = raybolt::get(process::remote())?;
    // A task with a GPU runs in a process that sees this one and no other: there is none yet.
    let start = Instant::now();
    let cold = raybolt::get(process::options().num_gpus(1.0).remote())?;
    let took = start.elapsed();
    ensure!(cold != warm, "another process has run the task");
    Ok([init, took].map(|time| time.as_secs_f64() * 1e3).to_vec())
}

/// The probe: milliseconds to the first result of a session in one process.
pub fn first_result_here_probe() -> Result<Sample> {
    let start = Instant::now();
    let _session = Place::Here.builder().start()?;
    ensure!(raybolt::get(after::remote(1))? == 2, "the task answers");
    Ok(vec![start.elapsed().as_secs_f64() * 1e3])
}

fn idle(effort: Effort) -> Result<Outcome> {
    let seconds = effort.pick("2", "10");
    let runs: Result<Vec<Sample>> =
        (0..effort.pick(1, 2)).map(|_| probe::ask(&["idle-workers", seconds])).collect();
    let runs = runs?;
    let figure = |index: usize| median(runs.iter().map(|run| run[index]));
    let title = "driver and two idle workers";
    let here = probe::ask(&["idle-here"])?[0] / MIB;
    let rows = vec![
        Row::figure(format!("{title}, resident"), figure(0) / MIB, "MiB").aim(AtMost(30.0)),
        Row {
            note: Some("pages that several share counted once".to_owned()),
            ..Row::figure(format!("{title}, in proportion"), figure(1) / MIB, "MiB")
        },
        Row::figure(format!("{title}, processor"), figure(2), "%").aim(AtMost(0.1)),
        Row::figure("idle session in one process, resident", here, "MiB"),
    ];
    Ok(Outcome { rows, chart: None })
}

/// The probe: bytes that driver and workers have resident, and in proportion; percent of a processor.
pub fn idle_probe(seconds: u64) -> Result<Sample> {
    let _session = Builder::new().num_cpus(2.0).worker_threads(2).processes(2).start()?;
    let refs: Vec<_> = (0..1_000).map(after::remote).collect();
    ensure!(raybolt::get(&refs)?.into_iter().eq(1..=1_000), "every task answers");
    // Longer than threads beyond need stay.
    sleep(Duration::from_secs(2));
    let mut processes = children()?;
    ensure!(processes.len() == 2, "there are two workers, not {}", processes.len());
    processes.push("self".to_owned());
    let sum = |of: fn(&str) -> Result<f64>| -> Result<f64> {
        processes.iter().map(|process| of(process)).sum()
    };
    let before = sum(processor_seconds)?;
    sleep(Duration::from_secs(seconds));
    let used = sum(processor_seconds)? - before;
    Ok(vec![sum(resident)?, sum(proportional)?, 100.0 * used / seconds as f64])
}

/// The probe: bytes that an idle session in one process has resident.
pub fn idle_here_probe() -> Result<Sample> {
    Place::Here.within(|| {
        sleep(Duration::from_secs(2));
        Ok(vec![resident("self")?])
    })
}

/// The processes that this one has started.
fn children() -> Result<Vec<String>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task").context("needs Linux")? {
        let text = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().map(str::to_owned));
    }
    Ok(children)
}

fn resident(process: &str) -> Result<f64> {
    kibibytes(&format!("/proc/{process}/status"), "VmRSS:")
}

fn proportional(process: &str) -> Result<f64> {
    kibibytes(&format!("/proc/{process}/smaps_rollup"), "Pss:")
}

/// The bytes that a file of the kernel's names in KiB.
fn kibibytes(file: &str, field: &str) -> Result<f64> {
    let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(number.with_context(|| format!("{file} has a line `{field}`"))? * 1_024.0)
}

/// Processor time of all threads that a process has.
fn processor_seconds(process: &str) -> Result<f64> {
    let mut nanos = 0.0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let file = thread?.path().join("schedstat");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let first = text.split(' ').next().and_then(|number| number.parse::<f64>().ok());
        nanos += first.with_context(|| format!("{} has a number", file.display()))?;
    }
    Ok(nanos / 1e9)
}
