//! Fuzzes what reads bytes from outside. Targets lie in `fuzz/fuzz_targets`, one file each.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::process::{self, nightly, run};

/// Runs each target for `seconds`; an error if one finds anything.
pub fn fuzz(root: &Path, seconds: u32, only: &[String]) -> Result<()> {
    let all = targets(root)?;
    for name in only {
        ensure!(all.contains(name), "unknown fuzz target `{name}`; there are {}", all.join(", "));
    }
    ensure!(
        process::answers(&mut nightly(root, ["--version"])),
        "fuzzing needs the nightly toolchain: `rustup toolchain install nightly`"
    );
    process::need(root, "cargo-fuzz")?;
    let time = format!("-max_total_time={seconds}");
    for target in all.iter().filter(|name| only.is_empty() || only.contains(name)) {
        run(&mut nightly(root, ["fuzz", "run", target, "--", &time, "-print_final_stats=1"]))?;
        println!("fuzz {target}: clean for {seconds} s");
    }
    Ok(())
}

/// The names of all targets, in order.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let files = std::fs::read_dir(&folder)
        .with_context(|| format!("no fuzz targets in {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        if let (Some("rs"), Some(stem)) = (
            path.extension().and_then(|extension| extension.to_str()),
            path.file_stem().and_then(|stem| stem.to_str()),
        ) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
