//! Every developer habit of this repository, one sub-command each.
//!
//! `cargo xtask` builds nothing but itself; what a habit needs beyond cargo is installed by the habit
//! that needs it, from the registry that cargo is set up with. Results go to stdout, what is being
//! done to stderr; a habit that finds something exits 1.

#![expect(clippy::print_stdout, reason = "a command line tool prints its results")]

mod ci;
mod deny;
mod flame;
mod fuzz;
mod lint;
mod process;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Every developer habit, one sub-command each.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    habit: Habit,
}

#[derive(Subcommand)]
enum Habit {
    /// Runs every test: unit, integration, doc and loom tests, the examples, a few simulated seeds.
    Test {
        /// Passed to `cargo test --workspace`, e.g. `-p raybolt-core batches`; the loom tests and the
        /// seeds are left out then.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Checks format, clippy and rustdoc with warnings denied, then `tidy`.
    Lint,
    /// Reads the sources: long and dead files, stray notes, dead links, invariants without definition.
    Tidy,
    /// Checks licences, sources and advisories of all dependencies; installs cargo-deny if absent.
    Deny {
        /// Fails when the advisory database can be neither fetched nor found.
        #[arg(long)]
        strict: bool,
    },
    /// Runs the loom models of lock-free code: every interleaving of a few threads.
    Loom,
    /// Simulates clusters from seeds; see `cargo xtask sim --help`.
    #[command(disable_help_flag = true)]
    Sim {
        /// Passed to the simulator.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measures raybolt beside the machine and its peers; see `cargo xtask bench --help`.
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Draws a flame graph of a bench into `docs/benchmarks`; needs `perf`.
    Flame {
        /// A word of the bench's name, as for `bench`.
        word: String,
    },
    /// Builds the documentation of the workspace, warnings denied.
    Doc {
        /// Opens it in a browser.
        #[arg(long)]
        open: bool,
    },
    /// Fuzzes each target of `fuzz/` on the nightly toolchain; installs cargo-fuzz if absent.
    Fuzz {
        /// How long each target runs.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Only these targets.
        targets: Vec<String>,
    },
    /// Does what `.ci/run` does, step by step, with the time each took.
    Ci,
}

fn main() -> ExitCode {
    let root = root();
    match Cli::parse().habit.run(&root) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Habit {
    fn run(self, root: &Path) -> Result<ExitCode> {
        match self {
            Habit::Test { args } if args.is_empty() => test::all(root).map(test::Totals::code),
            Habit::Test { args } => test::some(root, &args).map(test::Totals::code),
            Habit::Lint => done(lint::lint(root)),
            Habit::Tidy => done(tidy::tidy(root)),
            Habit::Deny { strict } => done(deny::deny(root, strict).map(drop)),
            Habit::Loom => test::loom(root).map(test::Totals::code),
            Habit::Sim { args } => process::release(root, "raybolt-sim", &args),
            Habit::Bench { args } => process::release(root, "raybolt-bench", &args),
            Habit::Flame { word } => done(flame::flame(root, &word)),
            Habit::Doc { open } => done(lint::doc(root, open)),
            Habit::Fuzz { seconds, targets } => done(fuzz::fuzz(root, seconds, &targets)),
            Habit::Ci => ci::ci(root),
        }
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the root").to_path_buf()
}
