//! Format, clippy, rustdoc: warnings denied.

use std::path::Path;

use anyhow::Result;

use crate::process::{FEATURES, cargo, run};
use crate::tidy;

/// Everything that can be said of the sources without running them.
pub fn lint(root: &Path) -> Result<()> {
    format(root)?;
    clippy(root)?;
    doc(root, false)?;
    tidy::tidy(root)
}

/// The sources are formatted.
pub fn format(root: &Path) -> Result<()> {
    run(&mut cargo(root, ["fmt", "--all", "--check"]))
}

/// Clippy has nothing to say.
pub fn clippy(root: &Path) -> Result<()> {
    run(&mut cargo(
        root,
        [
            "clippy",
            "--workspace",
            "--features",
            FEATURES,
            "--all-targets",
            "--keep-going",
            "--",
            "-D",
            "warnings",
        ],
    ))
}

/// The documentation builds; no link in it is dead.
pub fn doc(root: &Path, open: bool) -> Result<()> {
    let mut command =
        cargo(root, ["doc", "--workspace", "--features", FEATURES, "--no-deps", "--keep-going"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    if open {
        command.arg("--open");
    }
    run(&mut command)
}
