//! Measures raybolt beside the limits of the machine and its peers.
//!
//! ```text
//! main --> rows (what is measured) --> harness (turns, medians) --> report (table, JSON, page)
//!            |
//!            +--> baselines (what we compare with; knows nothing of raybolt)
//! ```

#![expect(clippy::print_stdout, reason = "the table goes to stdout")]

mod baselines;
#[cfg(feature = "budget")]
mod budget;
mod harness;
mod probe;
mod report;
mod rows;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use harness::{Bench, Effort, Outcome, Row};
use report::machine::Machine;
use report::{page, table};

/// All contenders allocate alike: with the system's allocator, as a program does that chooses none, or
/// with this one.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "budget")]
#[global_allocator]
static COUNTING: budget::Counting = budget::Counting;

/// Measures raybolt beside the machine and its peers. Without words and `--quick` it writes
/// `docs/benchmarks.md` anew.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Cli {
    /// Only benches with one of these words in their name or group.
    words: Vec<String>,
    /// Takes less than a minute for all: fewer rounds, smaller sizes.
    #[arg(long)]
    quick: bool,
    /// Writes the rows to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Lists the benches instead.
    #[arg(long)]
    list: bool,
    /// Counts what hot paths do instead.
    #[cfg(feature = "budget")]
    #[arg(long)]
    budget: bool,
    /// Measures one thing that needs a fresh process, for the process that started this one.
    #[arg(long, hide = true, num_args = 1.., value_name = "WHAT")]
    probe: Option<Vec<String>>,
}

fn main() -> ExitCode {
    if raybolt::is_worker() {
        // Of a session of this program; serves, and never returns.
        drop(raybolt::init());
    }
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if let Some(what) = &cli.probe {
        return probe::answer(what);
    }
    #[cfg(feature = "budget")]
    if cli.budget {
        return budget::print();
    }
    let benches = chosen(&cli.words)?;
    if cli.list {
        benches.iter().for_each(|b| println!("{:<9} {:<32} {}", b.group, b.name, b.about));
        return Ok(());
    }
    let machine = Machine::here();
    let results = measure(benches, Effort { quick: cli.quick })?;
    if let Some(file) = &cli.json {
        write_json(file, &results)?;
    }
    if cli.words.is_empty() && !cli.quick {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs");
        page::write(&docs, &machine, &results)?;
    }
    Ok(())
}

fn chosen(words: &[String]) -> Result<Vec<Bench>> {
    let mut benches = rows::all();
    let fits = |bench: &Bench, word: &String| bench.name.contains(word) || bench.group == word;
    if let Some(word) = words.iter().find(|word| !benches.iter().any(|bench| fits(bench, word))) {
        bail!("no bench has `{word}` in its name or group; `--list` shows all");
    }
    benches.retain(|bench| words.is_empty() || words.iter().any(|word| fits(bench, word)));
    Ok(benches)
}

/// Runs the benches, prints each row as soon as it is there.
fn measure(benches: Vec<Bench>, effort: Effort) -> Result<Vec<(Bench, Outcome)>> {
    table::heading();
    let mut results = Vec::new();
    for bench in benches {
        table::progress(&format!("{} ..", bench.name));
        let outcome = (bench.run)(effort).with_context(|| format!("bench `{}`", bench.name))?;
        outcome.rows.iter().for_each(table::row);
        results.push((bench, outcome));
    }
    Ok(results)
}

fn write_json(file: &Path, results: &[(Bench, Outcome)]) -> Result<()> {
    let rows: Vec<&Row> = results.iter().flat_map(|(_, outcome)| &outcome.rows).collect();
    let text = serde_json::to_string_pretty(&rows)?;
    std::fs::write(file, text + "\n").with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_a_word_filters() {
        let mut names: Vec<&str> = rows::all().iter().map(|bench| bench.name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        let chosen = chosen(&["task".to_owned()]).unwrap();
        assert!(!chosen.is_empty() && chosen.len() < names.len());
    }

    #[test]
    fn an_unknown_word_is_an_error_that_names_the_lever() {
        let error = chosen(&["tsak".to_owned()]).err().unwrap().to_string();
        assert_eq!(error, "no bench has `tsak` in its name or group; `--list` shows all");
    }
}
