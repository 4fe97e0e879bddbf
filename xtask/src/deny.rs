//! Licences, sources and advisories of all dependencies, by cargo-deny.
//!
//! Licences, bans and sources need nothing but the lock file and always count. Advisories need the
//! RustSec database, a git repository that a closed network does not reach: an older copy is used
//! then, and without any the check says in a line of its own that it did not happen. `--strict`
//! makes that an error, for machines that do reach it.

use std::path::{Path, PathBuf};
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
    if !has_copy() {
        return Ok(Advisories::NotChecked(reason(&String::from_utf8_lossy(&fetched.stderr))));
    }
    run(
        cargo_deny(root, &["check", "--disable-fetch", "advisories"]).env("CARGO_NET_OFFLINE", "1")
    )?;
    Ok(Advisories::CleanByOldCopy)
}

/// Whether an earlier fetch left a database where cargo-deny keeps it.
fn has_copy() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let copies = home.and_then(|home| std::fs::read_dir(home.join("advisory-dbs")).ok());
    copies.is_some_and(|copies| copies.flatten().any(|copy| copy.path().join("crates").is_dir()))
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
