//! Licences, sources and advisories of all dependencies, by cargo-deny.
//!
//! Licences, bans and sources need nothing but the lock file and always count. Advisories need the
//! RustSec database, a git repository that a closed network does not reach: an older copy is used
//! then, and without any the check says in a line of its own that it did not happen. `--strict`
//! makes that an error, for machines that do reach it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{self, cargo, run};

/// What became of the advisory check.
#[derive(Debug)]
pub enum Advisories {
    /// Nothing found.
    Clean,
    /// Nothing found by an older copy of the database.
    CleanByOldCopy,
    /// There is no database here, and why.
    NotChecked(String),
}

/// Checks everything; an error if anything is found.
pub fn deny(root: &Path, strict: bool) -> Result<Advisories> {
    process::need(root, "cargo-deny")?;
    run(&mut cargo_deny(root, &["check", "licenses", "bans", "sources"]))?;
    let advisories = advisories(root)?;
    match &advisories {
        Advisories::Clean => println!("advisories: none"),
        Advisories::CleanByOldCopy => {
            println!("advisories: none by a copy of the database that could not be renewed");
        }
        Advisories::NotChecked(why) if strict => {
            bail!("advisories: not checked, database unreachable: {why}");
        }
        Advisories::NotChecked(why) => {
            println!("advisories: NOT CHECKED, database unreachable: {why}");
        }
    }
    Ok(advisories)
}

fn advisories(root: &Path) -> Result<Advisories> {
    let fetched = cargo_deny(root, &["fetch", "db"]).output()?;
    if fetched.status.success() {
        run(&mut cargo_deny(root, &["check", "advisories"]))?;
        return Ok(Advisories::Clean);
    }
    // Tells an old copy from none: without one cargo-deny ends before it looks at any crate.
    let offline = cargo_deny(root, &["--offline", "check", "advisories"]).output()?;
    let said = String::from_utf8_lossy(&offline.stderr).into_owned();
    if offline.status.success() {
        return Ok(Advisories::CleanByOldCopy);
    }
    if said.contains("failed to load advisory database") || said.contains("failed to open") {
        return Ok(Advisories::NotChecked(reason(&String::from_utf8_lossy(&fetched.stderr))));
    }
    bail!("advisories:\n{said}");
}

fn cargo_deny(root: &Path, args: &[&str]) -> Command {
    let mut command = cargo(root, ["deny", "--workspace", "--all-features"]);
    command.args(args);
    command
}

/// The innermost cause of an error as cargo-deny prints it, in one line.
fn reason(said: &str) -> String {
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("no reason given").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line_said() {
        assert_eq!(
            reason("error: failed\n\nCaused by:\n    no route to host\n\n"),
            "no route to host"
        );
        assert_eq!(reason(""), "no reason given");
    }
}
