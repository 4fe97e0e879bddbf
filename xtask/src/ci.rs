//! What `.ci/run` does: every habit that can find something, the quick ones first.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::deny::Advisories;
use crate::test::Totals;
use crate::{deny, fuzz, lint, process, test, tidy};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 20;

/// Runs all steps, also after one that failed; exits 1 if any did.
pub fn ci(root: &Path) -> Result<ExitCode> {
    let mut steps = Steps::default();
    let mut totals = Totals::default();
    let mut unchecked = None;
    steps.step("format", || lint::format(root));
    steps.step("tidy", || tidy::tidy(root));
    steps.step("clippy", || lint::clippy(root));
    steps.step("rustdoc", || lint::doc(root, false));
    steps.step("test", || {
        totals = test::all(root)?;
        anyhow::ensure!(totals.failed == 0, "{} tests failed", totals.failed);
        Ok(())
    });
    steps.step("deny", || {
        if let Advisories::NotChecked(why) = deny::deny(root, false)? {
            unchecked = Some(why);
        }
        Ok(())
    });
    steps.step("fuzz", || fuzz::fuzz(root, FUZZ_SECONDS, &[]));
    steps.step("bench", || {
        let mut bench = process::cargo(root, ["run", "--quiet", "--release"]);
        process::run(bench.args(["--package", "raybolt-bench", "--", "--quick"]))
    });
    steps.print();
    if let Some(why) = unchecked {
        println!("advisories: NOT CHECKED, database unreachable: {why}");
    }
    let tests = totals.code();
    Ok(if steps.failed() { ExitCode::FAILURE } else { tests })
}

/// The steps done so far.
#[derive(Default)]
struct Steps(Vec<Step>);

struct Step {
    name: &'static str,
    took: Duration,
    result: Result<()>,
}

impl Steps {
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        println!("\n=== {name}");
        let start = Instant::now();
        let result = work();
        if let Err(error) = &result {
            println!("{name} failed: {error:#}");
        }
        self.0.push(Step { name, took: start.elapsed(), result });
    }

    fn failed(&self) -> bool {
        self.0.iter().any(|step| step.result.is_err())
    }

    fn print(&self) {
        println!("\n{:<10} {:>8}  result", "step", "seconds");
        for Step { name, took, result } in &self.0 {
            let result = if result.is_ok() { "ok" } else { "FAILED" };
            println!("{name:<10} {:>8.1}  {result}", took.as_secs_f64());
        }
        let all: Duration = self.0.iter().map(|step| step.took).sum();
        println!("{:<10} {:>8.1}", "all", all.as_secs_f64());
    }
}
