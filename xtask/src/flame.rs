//! Flame graphs of benches: where the time goes.
//!
//! Needs `perf`. The benches are built once more with frame pointers, in a target folder of their
//! own: without them a stack is not walked past the first inlined call.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::{self, cargo, run};

/// Samples per second and thread; not a round number, so as not to beat with timers.
const FREQUENCY: &str = "1997";

/// Records the benches with `word` in their name and draws `docs/benchmarks/flame-WORD.svg`.
pub fn flame(root: &Path, word: &str) -> Result<()> {
    ensure!(
        process::answers(Command::new("perf").arg("--version")),
        "flame graphs need `perf`, in Debian's package linux-perf"
    );
    if !process::answers(Command::new("inferno-flamegraph").arg("--version")) {
        run(&mut cargo(root, ["install", "--locked", "inferno"]))?;
    }
    let target = root.join("target/flame");
    let mut build = cargo(root, ["build", "--release", "--package", "raybolt-bench"]);
    build.arg("--target-dir").arg(&target).env("RUSTFLAGS", "-Cforce-frame-pointers=yes");
    run(&mut build)?;
    let data = target.join("perf.data");
    let mut record = Command::new("perf");
    record.current_dir(root).args([
        "record",
        "--quiet",
        "-F",
        FREQUENCY,
        "--call-graph",
        "fp",
        "-o",
    ]);
    run(record.arg(&data).arg(target.join("release/raybolt-bench")).args(["--quick", word]))?;
    let slug: String = word.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let picture = root.join(format!("docs/benchmarks/flame-{slug}.svg"));
    draw(&data, word, &picture)?;
    println!("{}", picture.display());
    Ok(())
}

/// `perf script | inferno-collapse-perf | inferno-flamegraph > picture`
fn draw(data: &Path, title: &str, picture: &Path) -> Result<()> {
    let stacks = data.with_extension("stacks");
    let folded = data.with_extension("folded");
    write(Command::new("perf").args(["script", "-i"]).arg(data), &stacks)?;
    write(Command::new("inferno-collapse-perf").arg(&stacks), &folded)?;
    if let Some(folder) = picture.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut graph = Command::new("inferno-flamegraph");
    // Narrower frames are left out: the picture lies in the repository.
    graph.args(["--title", title, "--minwidth", "0.4"]).arg(&folded);
    write(&mut graph, picture)
}

/// Runs a command with its stdout in a file.
fn write(command: &mut Command, file: &Path) -> Result<()> {
    let out = File::create(file).with_context(|| file.display().to_string())?;
    run(command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(out))
}
