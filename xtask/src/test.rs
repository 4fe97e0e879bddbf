//! Runs the tests and counts them.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::process::{self, FEATURES, cargo};

/// How many seeds the simulator runs as part of the tests.
const SEEDS: &str = "200";

/// How many tests ran, and how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Totals {
    /// Prints the closing line and turns the counts into an exit code.
    pub fn code(self) -> ExitCode {
        println!("\n{} passed, {} failed, {} skipped", self.passed, self.failed, self.ignored);
        ExitCode::from(u8::from(self.failed > 0))
    }

    fn add(&mut self, other: Totals) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Adds what a closing line of the test harness says, if it is one.
    fn see(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let count = |word: &str| {
            let before = counts.split(word).next().filter(|before| before.len() < counts.len());
            before.and_then(|before| before.split(' ').next_back()?.parse().ok()).unwrap_or(0)
        };
        self.add(Totals {
            passed: count(" passed"),
            failed: count(" failed"),
            ignored: count(" ignored"),
        });
    }
}

/// Every test there is.
pub fn all(root: &Path) -> Result<Totals> {
    let mut totals = some(root, &[])?;
    totals.add(loom(root)?);
    totals.add(seeds(root)?);
    Ok(totals)
}

/// `cargo test --workspace ARGS`. The examples are tests too: each is run and its output compared.
pub fn some(root: &Path, args: &[String]) -> Result<Totals> {
    let scope: &[&str] = if args.iter().any(|arg| arg == "-p" || arg.starts_with("--package")) {
        &[]
    } else {
        &["--workspace", "--features", FEATURES]
    };
    let mut command = cargo(root, ["test", "--no-fail-fast"]);
    counted(command.args(scope).args(args))
}

/// The loom models, in a target folder of their own since the flag rebuilds everything.
pub fn loom(root: &Path) -> Result<Totals> {
    let mut command = cargo(
        root,
        [
            "test",
            "--package",
            "raybolt-runtime",
            "--release",
            "--lib",
            "--target-dir",
            "target/loom",
            "loom",
        ],
    );
    // Models are small: building them dominates.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    counted(command.env("RUSTFLAGS", "--cfg loom"))
}

/// A few seeds of the simulator, counted as one test.
fn seeds(root: &Path) -> Result<Totals> {
    let mut command = cargo(
        root,
        ["run", "--quiet", "--release", "--package", "raybolt-sim", "--", "--seeds", SEEDS],
    );
    let passed = process::status(&mut command)?.success();
    Ok(Totals { passed: passed.into(), failed: (!passed).into(), ignored: 0 })
}

/// Runs a test command and counts. One that ends badly without a failed test (it did not compile, a
/// test aborted) counts as one failure.
fn counted(command: &mut Command) -> Result<Totals> {
    let mut totals = Totals::default();
    let status =
        process::lines(command, |line| totals.see(line)).context("could not run the tests")?;
    if !status.success() && totals.failed == 0 {
        totals.failed = 1;
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up_and_others_ignored() {
        let mut totals = Totals::default();
        totals.see("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s");
        totals
            .see("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        totals.see("test a_test_with_100 passed ... ok");
        assert_eq!(totals, Totals { passed: 15, failed: 2, ignored: 1 });
    }
}
