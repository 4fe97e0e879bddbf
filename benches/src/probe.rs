//! Measurements that need a fresh process: memory and processor time of one thing alone.
//!
//! A bench starts its own executable again with `--probe WHAT ARGS`; the answer is a few numbers on
//! stdout.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::baselines::socket;
use crate::harness::Sample;
use crate::rows;

/// Starts a process that measures `what`.
pub fn ask(what: &[&str]) -> Result<Sample> {
    let output = command(what)?.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "probe `{}` ended with {}", what.join(" "), output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Result<Sample, _> = text.split_whitespace().map(str::parse).collect();
    figures.with_context(|| format!("probe `{}` said {text:?}", what.join(" ")))
}

/// This program, started again for `what`.
pub fn command(what: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program has a path")?);
    command.arg("--probe").args(what);
    Ok(command)
}

/// Measures `what` and prints the answer.
pub fn answer(what: &[String]) -> Result<()> {
    let words: Vec<&str> = what.iter().map(String::as_str).collect();
    let figures = match words.as_slice() {
        ["queued", count] => rows::calls::queued_probe(count.parse()?)?,
        ["idle", seconds] => rows::idle::idle_probe(seconds.parse()?)?,
        ["reach-memory"] => rows::idle::reach_memory_probe()?,
        ["echo"] => {
            socket::answer()?;
            Vec::new()
        }
        ["queued-over-a-worker", count] => rows::processes::calls::queued_probe(count.parse()?)?,
        ["first-result"] => rows::processes::start::first_result_probe()?,
        ["first-result-here"] => rows::processes::start::first_result_here_probe()?,
        ["idle-workers", seconds] => rows::processes::start::idle_probe(seconds.parse()?)?,
        ["idle-here"] => rows::processes::start::idle_here_probe()?,
        _ => bail!("unknown probe `{}`", what.join(" ")),
    };
    figures.iter().for_each(|figure| println!("{figure}"));
    Ok(())
}

/// How much of this process lies in memory.
pub fn resident_bytes() -> Result<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("needs Linux")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    Ok(pages.context("statm has a second number")? * rustix::param::page_size() as f64)
}

/// Processor time of this process so far, all threads that are or were.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
