//! `docs/benchmarks.md` and the charts beside it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::machine::Machine;
use crate::harness::{Bench, Outcome, Row, amount};

/// Writes the page and its charts below `docs`.
pub fn write(docs: &Path, machine: &Machine, results: &[(Bench, Outcome)]) -> Result<()> {
    let charts = docs.join("benchmarks");
    std::fs::create_dir_all(&charts).with_context(|| charts.display().to_string())?;
    for (bench, outcome) in results {
        if let Some(chart) = &outcome.chart {
            let file = charts.join(format!("{}.svg", slug(bench.name)));
            std::fs::write(&file, chart.svg()).with_context(|| file.display().to_string())?;
        }
    }
    let file = docs.join("benchmarks.md");
    std::fs::write(&file, page(machine, results)).with_context(|| file.display().to_string())
}

fn page(machine: &Machine, results: &[(Bench, Outcome)]) -> String {
    let mut text = String::from(
        "# Benchmarks\n\nThis page is written by `cargo xtask bench`; run it to have your own. What each hot path \
         should cost,\nand why, stands in [benches/README.md](../benches/README.md).\n\n",
    );
    let _ = writeln!(
        text,
        "Measured on {date}: {cpu}, {cores} cores, {memory} GiB, {kernel}, {rustc};\nload before the run {load}.\n",
        date = machine.date,
        cpu = machine.cpu,
        cores = machine.cores,
        memory = machine.memory_gib,
        kernel = machine.kernel,
        rustc = machine.rustc,
        load = machine.load,
    );
    text.push_str(
        "How to read it: contenders of one bench take turns (A B C, A B C, ..) within one process, after a round \
         that\ndoes not count. A figure is the median of a contender's rounds; a ratio is the median of the ratios \
         *within*\nthe rounds, so it need not equal the quotient of two medians. Thin lines in the charts go from \
         the least to the\ngreatest round. Absolute figures are those of a shared virtual machine: compare ratios, \
         and runs of your own.\nAll contenders share one process, its allocator and its compiler flags.\n",
    );
    let mut group = "";
    for (bench, outcome) in results {
        if bench.group != group {
            group = bench.group;
            let _ = writeln!(text, "\n## {}", title(group));
        }
        let _ = writeln!(text, "\n### {}\n\n{}\n", title(bench.name), bench.about);
        text.push_str("| name | figure | unit | against | ratio | aim | met |\n");
        text.push_str("|---|---:|---|---|---:|---:|---|\n");
        outcome.rows.iter().for_each(|row| line(&mut text, row));
        if outcome.chart.is_some() {
            let _ = writeln!(text, "\n![{}](benchmarks/{}.svg)", bench.name, slug(bench.name));
        }
    }
    text
}

fn line(text: &mut String, row: &Row) {
    let met = match row.met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    let note = row.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {met}{note} |",
        row.name,
        row.figure.map(amount).unwrap_or_default(),
        row.unit,
        row.against.as_deref().unwrap_or(""),
        row.ratio.map(amount).unwrap_or_default(),
        row.aim.map(|aim| aim.to_string()).unwrap_or_default(),
    );
}

/// A name as part of a file name.
fn slug(name: &str) -> String {
    name.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect()
}

fn title(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Aim, Effort};

    #[test]
    fn the_page_names_machine_rows_and_charts() {
        fn nothing(_: Effort) -> Result<Outcome> {
            Ok(Outcome::default())
        }
        let bench = Bench { name: "sync task", group: "calls", about: "A call.", run: nothing };
        let row = Row::figure("task", 2.0, "us").against("pair 4", 0.5).aim(Aim::AtMost(0.4));
        let text = page(&Machine::here(), &[(bench, row.into())]);
        assert!(text.contains("## Calls\n\n### Sync task\n\nA call.\n"));
        assert!(text.contains("| task | 2 | us | pair 4 | 0.5 | ≤ 0.4 | **no** |"));
        assert!(text.contains(&Machine::here().kernel));
    }
}
