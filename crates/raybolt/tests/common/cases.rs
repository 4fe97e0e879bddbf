//! The harness of tests over processes. Such a test is a program of its own: its workers are this very file started
//! again, and have to come to the session's start, not to a list of tests.
#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "each test binary uses a part, and is a program"
)]

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use raybolt::Builder;

/// A test, and its name.
pub type Case<S = ()> = (&'static str, fn() -> S);

/// What a case says at its end.
pub trait Said {
    /// What is wrong.
    fn error(self) -> Option<String>;
}

impl Said for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl Said for bool {
    fn error(self) -> Option<String> {
        (!self).then(String::new)
    }
}

impl<E: Display> Said for Result<(), E> {
    fn error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// Runs cases, one after the other: those in whose names a word of the command line is, or all.
pub struct Harness {
    wanted: Vec<String>,
    passed: usize,
    failed: usize,
}

impl Harness {
    pub fn new() -> Self {
        let wanted = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
        Harness { wanted, passed: 0, failed: 0 }
    }

    pub fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part))
    }

    /// Runs these.
    pub fn all<S: Said>(&mut self, cases: &[Case<S>]) {
        for (name, case) in cases {
            self.case(name, case);
        }
    }

    /// Runs these, each in a session of its own. In a worker this serves, and never returns.
    pub fn in_sessions<S: Said>(&mut self, builder: &Builder, cases: &[Case<S>]) {
        // Workers come to the first start, whichever case they were started for.
        drop(builder.clone().start().expect("the first session starts"));
        for (name, case) in cases {
            self.case(name, || {
                let session = builder.clone().start().expect("no other session is there");
                let said = case();
                drop(session);
                said
            });
        }
    }

    pub fn case<S: Said>(&mut self, name: &str, case: impl FnOnce() -> S) {
        if !self.wants(name) {
            return;
        }
        let word = match catch_unwind(AssertUnwindSafe(case)).map(Said::error) {
            Ok(None) => "ok".to_owned(),
            Ok(Some(error)) => format!("FAILED: {error}"),
            Err(_) => "FAILED".to_owned(), // The panic has told why.
        };
        tidy();
        println!("test {name} ... {word}");
        *if word == "ok" { &mut self.passed } else { &mut self.failed } += 1;
    }

    /// Says how it went as the harness of other tests says it, so that they are counted alike.
    pub fn end(self) -> ExitCode {
        let Harness { passed, failed, .. } = self;
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
        ExitCode::from(u8::from(failed > 0))
    }
}

/// Where a case may have a file of this name; it is removed after the case.
pub fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{}{name}", prefix()))
}

fn prefix() -> String {
    format!("rb-{}-", std::process::id())
}

fn tidy() {
    for file in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with(&prefix()) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

/// Functions, each with its name.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn() -> _)),*] };
}
