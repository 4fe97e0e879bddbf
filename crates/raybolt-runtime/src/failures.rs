//! What failed lately, for whoever asks, and a line on the log for what nobody waits for.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result, TaskError};
use crate::processes::errand::{self, Errand};
use crate::session;

/// How many failures are remembered; older ones are forgotten first.
pub const FAILURES_MAX: usize = 1_000;

/// How much of a text is remembered and logged; whoever takes the error has all of it.
const TEXT_MAX: usize = 16 << 10;

/// How many causes of a failure.
const CAUSES_MAX: usize = 32;

/// A failure of user code. Long texts are cut.
#[derive(Debug, Clone, Serialize)]
pub struct FailureReport {
    /// When it was noticed.
    pub time: SystemTime,
    /// `panic`, `task`, `unschedulable` for one that can never run, `worker-died` for one that was lost with
    /// its worker process, or `no-worker` if none starts.
    pub kind: &'static str,
    /// What failed, how and why.
    pub error: TaskError,
}

/// The kinds of [`FailureReport`].
const KINDS: [&str; 5] = [PANIC, TASK, "unschedulable", "worker-died", "no-worker"];
const PANIC: &str = "panic";
const TASK: &str = "task";

/// What failed lately in the session, oldest first; at most [`FAILURES_MAX`] are remembered. Code in a
/// worker process asks its driver.
///
/// # Errors
/// Without a session.
pub fn errors() -> Result<Vec<FailureReport>> {
    let told = errand::run(WhatFailed)?.into_iter().map(|(time, kind, error)| {
        let kind = KINDS.into_iter().find(|known| *known == kind).unwrap_or(TASK);
        FailureReport { time, kind, error }
    });
    Ok(told.collect())
}

#[derive(Serialize, Deserialize)]
struct WhatFailed;

impl Errand for WhatFailed {
    type Answer = Vec<(SystemTime, String, TaskError)>;

    fn run(self) -> Result<Self::Answer> {
        let told = |report: FailureReport| (report.time, report.kind.to_owned(), report.error);
        session::with(|session| session.failures.list().into_iter().map(told).collect())
    }
}

#[derive(Default)]
pub(crate) struct Failures(Mutex<VecDeque<FailureReport>>);

impl Failures {
    pub(crate) fn list(&self) -> Vec<FailureReport> {
        self.0.lock().expect("no thread panics with this lock").iter().cloned().collect()
    }

    fn push(&self, report: FailureReport) {
        let mut reports = self.0.lock().expect("no thread panics with this lock");
        if reports.len() == FAILURES_MAX {
            reports.pop_front();
        }
        reports.push_back(report);
    }
}

/// Remembers a failure; one that nobody waits for is logged, or it would pass unseen.
pub(crate) fn record(error: &TaskError, unseen: bool) {
    let error = shortened(error);
    if unseen {
        match &error.backtrace {
            Some(backtrace) => tracing::error!(target: "raybolt", "{error}\n{backtrace}"),
            None => tracing::error!(target: "raybolt", "{error}"),
        }
    }
    let kind = if error.location.is_some() { PANIC } else { TASK };
    let report = FailureReport { time: SystemTime::now(), kind, error };
    // A task that outlives its session has nobody to report to.
    let _ = session::with(|session| session.failures.push(report));
}

/// Remembers a task or actor that can never run, or that was lost with its worker, so that it can be seen by
/// who does not look at its result.
pub(crate) fn record_error(error: &Error) {
    let (Kind::Unschedulable { task, .. }
    | Kind::WorkerDied { task, .. }
    | Kind::NoWorker { task, .. }) = error.kind()
    else {
        return;
    };
    let kind = error.kind_name();
    let error = TaskError {
        task: task.clone(),
        attempt: 0,
        message: cut(&error.to_string()),
        causes: Vec::new(),
        location: None,
        backtrace: None,
    };
    let report = FailureReport { time: SystemTime::now(), kind, error };
    let _ = session::with(|session| session.failures.push(report));
}

fn shortened(error: &TaskError) -> TaskError {
    TaskError {
        task: error.task.clone(),
        attempt: error.attempt,
        message: cut(&error.message),
        causes: error.causes.iter().take(CAUSES_MAX).map(|cause| cut(cause)).collect(),
        location: error.location.clone(),
        backtrace: error.backtrace.as_deref().map(cut),
    }
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(TEXT_MAX);
    format!("{} ... ({} more bytes)", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_letters_and_short_ones_stay() {
        let long = TaskError {
            task: "f".into(),
            attempt: 0,
            message: "ä".repeat(5 << 20),
            causes: vec!["x".repeat(TEXT_MAX + 1), "short".into()],
            location: None,
            backtrace: None,
        };
        let short = shortened(&long);
        assert!(short.message.ends_with(&format!("ä ... ({} more bytes)", (10 << 20) - TEXT_MAX)));
        assert!(short.message.len() < TEXT_MAX + 40);
        assert_eq!(
            short.causes,
            [format!("{} ... (1 more bytes)", "x".repeat(TEXT_MAX)), "short".into()]
        );
    }
}
