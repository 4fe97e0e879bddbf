//! Each example prints what its header shows.

use std::fs;
use std::path::Path;

mod common;

/// Where the source of each example lies; `NAME.rs` or `NAME/main.rs`.
const EXAMPLES: [&str; 13] = [
    "actors",
    "branching",
    "errors",
    "exclamation",
    "from_task",
    "generator",
    "hello",
    "objects",
    "reach",
    "resources",
    "tree_reduce",
    "wait",
    "word_count",
];

#[test]
fn every_example_is_listed_here() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("it is there");
    let mut listed: Vec<&str> = manifest
        .split("[[example]]")
        .skip(1)
        .filter_map(|section| section.split('"').nth(1))
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, EXAMPLES);
}

#[test]
fn every_example_prints_what_its_header_shows() {
    every_example_prints_it_in("threads");
}

#[test]
fn over_a_worker_process_every_example_prints_the_same() {
    every_example_prints_it_in("processes");
}

#[test]
fn over_four_worker_processes_every_example_prints_the_same() {
    every_example_prints_it_in("processes:4");
}

fn every_example_prints_it_in(workers: &str) {
    for name in EXAMPLES {
        let shown = shown_output(name);
        let printed = common::stdout(common::example(name).env("RAYBOLT_WORKERS", workers));
        let (shown, printed) = (without_times(&shown), without_times(&printed));
        assert_eq!(
            printed, shown,
            "the output of `{name}` in {workers} is not the one in its header"
        );
    }
}

/// The lines after the command in the header's `text` block that begins with one.
fn shown_output(name: &str) -> String {
    let files = [root().join(name).join("main.rs"), root().join(name).with_extension("rs")];
    let source = files.iter().find_map(|file| fs::read_to_string(file).ok());
    let source = source.unwrap_or_else(|| panic!("`{name}` has no source"));
    let command = format!("//! $ cargo run --release --example {name}\n");
    let (_, after) = source
        .split_once(&command)
        .unwrap_or_else(|| panic!("the header of `{name}` shows no run"));
    let lines = after.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect()
}

/// Lines that tell how long something took differ from run to run; they must be there, though.
fn without_times(text: &str) -> String {
    let line = |line: &str| {
        let (_, rest) = line.split_once(" s, ")?;
        rest.ends_with("/s").then(|| "(time)".to_owned())
    };
    text.lines().map(|text| line(text).unwrap_or(text.to_owned()) + "\n").collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
