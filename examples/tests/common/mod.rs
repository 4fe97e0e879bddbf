//! Runs examples as a user does, from a shell.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A command that runs this example.
///
/// # Panics
/// If the example was not built: `cargo test -p raybolt-examples` builds all of them first, which
/// `cargo test --test NAME` does not.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(Path::parent).expect("it is target/PROFILE/deps/TEST");
    let path = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is not built; run `cargo test -p raybolt-examples`", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

/// What the command wrote to stdout, if it succeeded.
///
/// # Panics
/// If it did not.
pub fn stdout(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the example can be run");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}\n{stderr}");
    String::from_utf8(stdout).expect("examples print text")
}

/// The real data, if it lies beside the repository; else tells on stderr that something is not
/// checked, past the capture of the test harness.
#[allow(dead_code, reason = "each program of tests uses a part of this file")]
pub fn real_data() -> Option<PathBuf> {
    use std::io::Write;

    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if shared.is_dir() {
        return Some(shared);
    }
    let _ = writeln!(std::io::stderr(), "not checked: no real data at {}", shared.display());
    None
}
