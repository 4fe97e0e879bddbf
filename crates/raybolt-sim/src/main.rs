//! The command: `raybolt-sim --seeds 2000`, `--seed 7`, `--plant list`.
//!
//! Results go to stdout (as JSON with `--json`), progress to stderr when that is a terminal. Exits with
//! 0 if nothing was found, with 1 if something was, with 2 if it was called wrongly.

#![expect(clippy::print_stdout, reason = "stdout is this command's result")]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use raybolt_core::plant::Plant;
use raybolt_core::suggest::Hint;
use raybolt_sim::sweep::{Summary, sweep};
use raybolt_sim::trace::LINES;
use raybolt_sim::{Run, run_with_lines};
use serde_json::json;

/// Runs simulated clusters, each from one seed, and reports the first rule that is broken.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    start: u64,
    /// Run this seed only, and show how it went.
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: how many of the last lines to show, whether a rule was broken or not.
    #[arg(long, value_name = "COUNT", requires = "seed", default_value_t = LINES)]
    lines: usize,
    /// Plant a bug, to see that it is found; `list` names them.
    #[arg(long, value_name = "NAME|list")]
    plant: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let plant = match args.plant.as_deref() {
        Some("list") => {
            list_plants(args.json);
            return ExitCode::SUCCESS;
        }
        Some(name) => match Plant::named(name) {
            Some(plant) => Some(plant),
            None => {
                let known = Plant::ALL.iter().map(|plant| plant.name());
                let hint = Hint::new(name, known);
                eprintln!("error: unknown plant `{name}`{hint}");
                eprintln!("hint: `--plant list` names them all");
                return ExitCode::from(2);
            }
        },
        None => None,
    };
    let began = Instant::now();
    let summary = match args.seed {
        Some(seed) => one(seed, plant, args.lines),
        None => many(&args, plant, began),
    };
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        println!("{:#}", as_json(&summary, plant, seconds));
    } else {
        report(&summary, plant, seconds);
    }
    if summary.finding.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn list_plants(as_json: bool) {
    if as_json {
        let plants: Vec<_> = Plant::ALL
            .iter()
            .map(|plant| json!({"name": plant.name(), "description": plant.description()}))
            .collect();
        println!("{:#}", json!(plants));
        return;
    }
    for plant in Plant::ALL {
        println!("{:<24} {}", plant.name(), plant.description());
    }
}

fn one(seed: u64, plant: Option<Plant>, lines: usize) -> Summary {
    let run = run_with_lines(seed, plant, lines);
    if run.violation.is_none() {
        eprintln!("seed {seed}: {}", run.options);
        for line in &run.lines {
            eprintln!("  {line}");
        }
    }
    let (events, virtual_us) = (run.events, run.virtual_us);
    let finding = run.violation.is_some().then_some(run);
    Summary { seeds: 1, events, virtual_us, finding }
}

fn many(args: &Args, plant: Option<Plant>, began: Instant) -> Summary {
    let seeds = args.start..args.start.saturating_add(args.seeds);
    let shown = std::io::stderr().is_terminal();
    let summary = sweep(seeds, plant, |sums| {
        if shown && (sums.seeds % 16 == 0 || sums.seeds == args.seeds) {
            let rate = sums.events as f64 / began.elapsed().as_secs_f64() / 1e6;
            let (seeds, all, events) = (sums.seeds, args.seeds, sums.events);
            eprint!("\r{seeds} of {all} seeds, {events} events, {rate:.2} M/s ");
            // A line that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    });
    if shown {
        eprintln!();
    }
    summary
}

fn report(summary: &Summary, plant: Option<Plant>, seconds: f64) {
    let Summary { seeds, events, virtual_us, finding } = summary;
    if let Some(run) = finding {
        show(run, plant);
    }
    let found = if finding.is_some() { "a broken rule" } else { "nothing" };
    println!(
        "{seeds} seeds, {events} events in {seconds:.2} s ({:.2} M events/s), {:.0} s of virtual time: \
         found {found}",
        *events as f64 / seconds / 1e6,
        *virtual_us as f64 / 1e6
    );
}

/// The options first, then what led there, the rule, and how to see it again.
fn show(run: &Run, plant: Option<Plant>) {
    println!("seed {}: {}", run.seed, run.options);
    for line in &run.lines {
        println!("  {line}");
    }
    if let Some(violation) = &run.violation {
        println!("seed {} broke a rule: {violation}", run.seed);
    }
    println!("replay: cargo xtask sim --seed {}{}", run.seed, plant_flag(plant));
}

fn plant_flag(plant: Option<Plant>) -> String {
    plant.map(|plant| format!(" --plant {plant}")).unwrap_or_default()
}

fn as_json(summary: &Summary, plant: Option<Plant>, seconds: f64) -> serde_json::Value {
    let finding = summary.finding.as_ref().map(|run| {
        let violation = run.violation.as_ref();
        json!({
            "seed": run.seed,
            "options": run.options,
            "checker": violation.map(|violation| violation.checker),
            "message": violation.map(|violation| &violation.message),
            "hash": format!("{:016x}", run.hash),
            "lines": run.lines,
            "replay": format!("cargo xtask sim --seed {}{}", run.seed, plant_flag(plant)),
        })
    });
    json!({
        "seeds": summary.seeds,
        "events": summary.events,
        "events_per_second": summary.events as f64 / seconds,
        "virtual_seconds": summary.virtual_us as f64 / 1e6,
        "seconds": seconds,
        "plant": plant.map(Plant::name),
        "finding": finding,
    })
}
