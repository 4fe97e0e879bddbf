//! Measurements that need a fresh process: memory and processor time of one thing alone.
//!
//! A bench starts its own executable again with `--probe WHAT ARGS`; the answer is one number on
//! stdout.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Starts a process that measures `what`.
pub fn ask(what: &[&str]) -> Result<f64> {
    let program = std::env::current_exe().context("this program has a path")?;
    let output = Command::new(program)
        .arg("--probe")
        .args(what)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "probe `{}` ended with {}", what.join(" "), output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("probe `{}` said {text:?}", what.join(" ")))
}

/// Measures `what` and prints the answer.
pub fn answer(what: &[String]) -> Result<()> {
    let words: Vec<&str> = what.iter().map(String::as_str).collect();
    let figure: f64 = match words.as_slice() {
        ["resident"] => resident_bytes()?,
        _ => bail!("unknown probe `{}`", what.join(" ")),
    };
    println!("{figure}");
    Ok(())
}

/// How much of this process lies in memory.
pub fn resident_bytes() -> Result<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("needs Linux")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    Ok(pages.context("statm has a second number")? * 4_096.0)
}

/// Processor time of this process so far, all threads, in seconds.
pub fn cpu_seconds() -> Result<f64> {
    // The first number is nanoseconds on a processor; stat's own ticks of 10 ms are too coarse.
    let mut nanos = 0.0;
    for task in std::fs::read_dir("/proc/self/task").context("needs Linux")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(nanos / 1e9)
}
