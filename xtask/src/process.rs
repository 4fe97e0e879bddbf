//! Runs other commands: shown before they run, without a standard input, their exit codes kept.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

/// The features that are off by default, and are linted and tested like the rest.
pub const FEATURES: &str = "raybolt/arrow";

/// `cargo ARGS` in `root`, with the cargo that runs us.
pub fn cargo<I: AsRef<OsStr>>(root: &Path, args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(args).stdin(Stdio::null());
    command
}

/// `cargo +nightly ARGS` in `root`. Goes through rustup, as the cargo that runs us is of one
/// toolchain.
pub fn nightly<I: AsRef<OsStr>>(root: &Path, args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new("cargo");
    // What rustup set for our own toolchain would override `+nightly`.
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
        command.env_remove(name);
    }
    command.current_dir(root).arg("+nightly").args(args).stdin(Stdio::null());
    command
}

/// Runs a command to its end; an error unless it exits 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    ensure!(status.success(), "`{}` ended with {status}", line(command));
    Ok(())
}

/// Runs a command to its end.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    eprintln!("+ {}", line(command));
    command.status().with_context(|| format!("could not start `{}`", line(command)))
}

/// Runs a command to its end, shows each line of its output and hands it to `see`. Both streams go
/// through one pipe, so that the lines come in the order in which they were written.
pub fn lines(command: &mut Command, mut see: impl FnMut(&str)) -> Result<ExitStatus> {
    println!("+ {}", line(command));
    let (output, input) = std::io::pipe().context("could not make a pipe")?;
    let mut child = command
        .stdout(input.try_clone()?)
        .stderr(input)
        .spawn()
        .with_context(|| format!("could not start `{}`", line(command)))?;
    // Ours would keep the pipe open for ever.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for text in BufReader::new(output).split(b'\n') {
        let text = text.context("could not read what the command prints")?;
        let text = String::from_utf8_lossy(&text);
        println!("{text}");
        see(&text);
    }
    Ok(child.wait()?)
}

/// Whether a command runs and exits 0; shows nothing.
pub fn answers(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Installs a cargo sub-command from the registry unless it is there.
pub fn need(root: &Path, tool: &str) -> Result<()> {
    let word = tool.strip_prefix("cargo-").expect("a cargo sub-command");
    if answers(&mut cargo(root, [word, "--version"])) {
        return Ok(());
    }
    eprintln!("{tool} is absent and takes a few minutes to install");
    run(&mut cargo(root, ["install", "--locked", tool]))
}

/// Runs the program of a package of ours in release mode; its exit code becomes ours.
pub fn release(root: &Path, package: &str, args: &[String]) -> Result<ExitCode> {
    let mut command = cargo(root, ["run", "--quiet", "--release", "--package", package, "--"]);
    let status = command.args(args).status().context("could not start cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let _ = write!(line, "{}={:?} ", name.display(), value.display().to_string());
        }
    }
    let program = Path::new(command.get_program());
    let _ = write!(line, "{}", program.file_name().unwrap_or_default().display());
    for arg in command.get_args() {
        let _ = write!(line, " {}", arg.display());
    }
    line
}
