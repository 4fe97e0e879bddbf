//! Runs the tests, counts them, and shows once more at the end what was said about those that failed.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::process::{self, FEATURES, cargo};

/// How many seeds the simulator runs as part of the tests.
const SEEDS: &str = "200";

/// How many of the last lines of a test program that failed are shown once more.
const LINES_SHOWN: usize = 60;

/// How many tests ran, and how they ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    /// The end of what each test program said that failed.
    failures: Vec<String>,
}

impl Totals {
    /// Prints what failed and the closing line, and turns the counts into an exit code.
    pub fn code(self) -> ExitCode {
        for failure in &self.failures {
            println!("\n=== what failed\n{failure}");
        }
        println!("\n{} passed, {} failed, {} skipped", self.passed, self.failed, self.ignored);
        ExitCode::from(u8::from(self.failed > 0))
    }

    fn add(&mut self, other: Totals) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures);
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
            failures: Vec::new(),
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
    let mut totals = counted(&mut command)?;
    totals.passed = u64::from(totals.failed == 0);
    Ok(totals)
}

/// Runs a test command and counts. One that ends badly without a failed test (it did not compile, a
/// test aborted) counts as one failure.
fn counted(command: &mut Command) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut tail = Tail::default();
    let status = process::lines(command, |line| {
        totals.see(line);
        totals.failures.extend(tail.see(line));
    })
    .context("could not run the tests")?;
    if !status.success() && totals.failed == 0 {
        totals.failed = 1;
    }
    if !status.success() && totals.failures.is_empty() {
        totals.failures.push(tail.text());
    }
    Ok(totals)
}

/// The last lines of the test program that runs.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    /// Those lines, if this one says that the program failed. Cargo says so after each that did, also
    /// after one that died without a word of its own.
    fn see(&mut self, line: &str) -> Option<String> {
        let is_new =
            ["Running ", "Doc-tests "].iter().any(|word| line.trim_start().starts_with(word));
        if is_new {
            self.0.clear();
        }
        if self.0.len() == LINES_SHOWN {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
        let is_over =
            line.starts_with("error: test failed") || line.starts_with("error: doctest failed");
        is_over.then(|| self.text())
    }

    fn text(&mut self) -> String {
        self.0.drain(..).collect::<Vec<_>>().join("\n")
    }
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
        let failures = Vec::new();
        assert_eq!(totals, Totals { passed: 15, failed: 2, ignored: 1, failures });
    }

    #[test]
    fn what_a_failed_program_said_is_kept_and_what_others_said_is_not() {
        let mut tail = Tail::default();
        let mut said = |line| tail.see(line);
        assert_eq!(said("     Running unittests src/lib.rs"), None);
        assert_eq!(said("test fine ... ok"), None);
        assert_eq!(said("     Running tests/other.rs"), None);
        assert_eq!(said("test other ... FAILED"), None);
        let kept = said("error: test failed, to rerun pass `--test other`").unwrap();
        assert!(kept.starts_with("     Running tests/other.rs\ntest other"), "{kept}");
        assert_eq!(said("test next ... ok"), None);
    }
}
