//! Reads the sources as a reviewer would who never tires.
//!
//! # What it finds
//! - files beyond [`LINES_MAX`] lines, and lines that end in a space;
//! - stray notes to oneself, and paths of somebody's machine;
//! - printing in a library;
//! - source files that no `mod` names;
//! - packages without the shared lints;
//! - relative links in Markdown whose file or heading is not there;
//! - invariants cited but defined nowhere, or defined twice.
//!
//! It is an ordinary test (`the_sources_are_tidy`) and a habit (`cargo xtask tidy`).

mod invariants;
mod links;
mod modules;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A file longer than this holds two subjects.
const LINES_MAX: usize = 800;

/// Folders with nothing of ours in them.
const LEFT_OUT: [&str; 5] = ["target", ".git", "corpus", "artifacts", "node_modules"];

/// A text file of the repository.
struct Source {
    /// Relative to the root, with forward slashes.
    path: String,
    text: String,
}

/// Something to mend, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Reads everything; an error that lists what was found.
pub fn tidy(root: &Path) -> Result<()> {
    let sources = read(root)?;
    let findings = findings(&sources);
    if !findings.is_empty() {
        let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
        bail!("{} untidy places\n{}", findings.len(), list.join("\n"));
    }
    println!("tidy: {} files", sources.len());
    Ok(())
}

fn findings(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        length(source, &mut findings);
        notes(source, &mut findings);
        printing(source, &mut findings);
        shared_lints(source, &mut findings);
    }
    links::check(sources, &mut findings);
    invariants::check(sources, &mut findings);
    modules::check(sources, &mut findings);
    findings.sort();
    findings
}

impl Source {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|have| have == extension)
    }

    /// Its lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

fn length(source: &Source, findings: &mut Vec<Finding>) {
    let count = source.text.lines().count();
    if source.has_extension("rs") && count > LINES_MAX {
        findings.push(source.finding(count, format!("longer than {LINES_MAX} lines; split it")));
    }
}

fn notes(source: &Source, findings: &mut Vec<Finding>) {
    // Put together here, since this file is read too.
    let strays = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X:")];
    let machines = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    for (number, line) in source.lines() {
        if let Some(stray) = strays.iter().find(|stray| line.contains(**stray)) {
            findings.push(source.finding(number, format!("stray {stray}; do it or file it")));
        }
        if let Some(machine) = machines.iter().find(|machine| line.contains(**machine)) {
            findings.push(source.finding(number, format!("a path of one machine: {machine}")));
        }
        if line.ends_with([' ', '\t']) {
            findings.push(source.finding(number, "a space at the end of the line"));
        }
    }
}

/// Libraries do not print: their users own the terminal. What ends the program may say why.
fn printing(source: &Source, findings: &mut Vec<Finding>) {
    let library = source.path.starts_with("crates/")
        && source.path.contains("/src/")
        && !source.path.ends_with("/main.rs")
        && !source.path.contains("/src/bin/")
        && !source.path.starts_with("crates/raybolt-sim/")
        && !source.path.starts_with("crates/raybolt-cli/");
    if !library || !source.has_extension("rs") {
        return;
    }
    let mut lines = source.lines().peekable();
    while let Some((number, line)) = lines.next() {
        let code = line.split("//").next().unwrap_or("");
        if code.trim() == "mod tests {" {
            return;
        }
        let last_words = lines.peek().is_some_and(|(_, next)| next.contains("process::exit("));
        let prints = ["eprintln!(", "println!(", "eprint!(", "print!(", "dbg!("];
        if let Some(print) = prints.iter().find(|print| code.contains(**print) && !last_words) {
            findings.push(source.finding(number, format!("{print}..) in a library; use tracing")));
        }
    }
}

/// Every package takes the workspace's lints.
fn shared_lints(source: &Source, findings: &mut Vec<Finding>) {
    let package = source.path.ends_with("Cargo.toml") && source.text.contains("[package]");
    // The fuzz package is a workspace of its own, as cargo-fuzz wants it.
    if package
        && source.path != "fuzz/Cargo.toml"
        && !source.text.contains("[lints]\nworkspace = true")
    {
        findings.push(source.finding(1, "no `[lints] workspace = true`"));
    }
}

/// All text files of ours.
fn read(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !LEFT_OUT.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if is_text(&path) {
                sources.push(open(root, &path)?);
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "md" | "toml" | "stderr" | "sh"))
}

fn open(root: &Path, path: &PathBuf) -> Result<Source> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let relative = path.strip_prefix(root).expect("found below the root");
    Ok(Source { path: relative.to_string_lossy().replace('\\', "/"), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `findings` says of a few files, without their paths.
    pub fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        findings(&sources).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn the_sources_are_tidy() {
        tidy(&crate::root()).unwrap();
    }

    #[test]
    fn a_long_file_is_found() {
        let long = "//\n".repeat(LINES_MAX + 1);
        assert_eq!(found(&[("xtask/src/main.rs", &long)]), ["longer than 800 lines; split it"]);
    }

    #[test]
    fn strays_are_found_and_their_kind_named() {
        let text = concat!("// TO", "DO: later\n// see /wo", "rk/notes\nlet x = 1; \n");
        let expected = [
            concat!("stray TO", "DO; do it or file it"),
            concat!("a path of one machine: /wo", "rk/"),
            "a space at the end of the line",
        ];
        assert_eq!(found(&[("xtask/src/main.rs", text)]), expected);
    }

    #[test]
    fn a_library_does_not_print_but_its_tests_may() {
        let text =
            "fn f() {\n    println!(\"\");\n}\nmod tests {\n    fn g() { println!(\"\"); }\n}\n";
        let expected = ["println!(..) in a library; use tracing"];
        assert_eq!(found(&[("crates/raybolt-core/src/lib.rs", text)]), expected);
        assert_eq!(found(&[("xtask/src/main.rs", text)]), [""; 0]);
        let text = "fn f() {\n    eprintln!(\"\");\n    std::process::exit(1);\n}\n";
        assert_eq!(found(&[("crates/raybolt-core/src/lib.rs", text)]), [""; 0]);
    }

    #[test]
    fn a_package_without_the_shared_lints_is_found() {
        let expected = ["no `[lints] workspace = true`"];
        assert_eq!(found(&[("crates/x/Cargo.toml", "[package]\nname = \"x\"\n")]), expected);
    }
}
