//! What workers have written, out of the session's directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use raybolt::inspect::{logs_of, sessions};
use serde::Serialize;

/// How often files are looked at that are followed.
const PAUSE: Duration = Duration::from_millis(200);

/// A line, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    worker: &'a str,
    stream: &'a str,
    line: &'a str,
}

/// A log file, and how far it has been shown.
struct Log {
    worker: String,
    stream: String,
    path: PathBuf,
    shown: u64,
}

/// Shows the lines of all workers, or of one.
pub(crate) fn show(
    session: &Path,
    worker: Option<&str>,
    follow: bool,
    json: bool,
    out: &mut impl Write,
) -> Result<()> {
    let directory = logs_of(session);
    let mut logs = BTreeMap::new();
    find(&directory, worker, &mut logs)?;
    if logs.is_empty() && !follow {
        match worker {
            Some(worker) => {
                bail!("no log of `{worker}` in {}{}", directory.display(), known(&directory))
            }
            None => {
                eprintln!("there are no logs: a session in one process writes to its own terminal");
            }
        }
    }
    loop {
        for log in logs.values_mut() {
            log.show(json, out)?;
        }
        out.flush()?;
        if !follow || !is_running(session) {
            if !logs.is_empty() && logs.values().all(|log| log.shown == 0) {
                let who = worker.map_or_else(|| "no worker".to_owned(), |it| format!("`{it}`"));
                let word = if worker.is_some() { "nothing" } else { "anything" };
                eprintln!("{who} has written {word} yet");
            }
            return Ok(());
        }
        std::thread::sleep(PAUSE);
        if directory.exists() {
            find(&directory, worker, &mut logs)?;
        }
    }
}

/// Adds log files that are not known yet.
fn find(directory: &Path, worker: Option<&str>, logs: &mut BTreeMap<PathBuf, Log>) -> Result<()> {
    let wanted = worker.map(|worker| worker.trim_start_matches("worker-"));
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("the logs in {} cannot be read", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some((worker, stream)) = name_of(&path) else { continue };
        let is_wanted = wanted.is_none_or(|wanted| worker == format!("worker-{wanted}"));
        if is_wanted {
            let log = || Log { worker, stream, path: path.clone(), shown: 0 };
            logs.entry(path.clone()).or_insert_with(log);
        }
    }
    Ok(())
}

/// Whose log a file is, and which stream.
fn name_of(path: &Path) -> Option<(String, String)> {
    let (worker, stream) = path.file_name()?.to_str()?.split_once('.')?;
    let is_log = worker.starts_with("worker-") && matches!(stream, "out" | "err");
    is_log.then(|| (worker.to_owned(), stream.to_owned()))
}

fn known(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| Some(name_of(&entry.path())?.0)).collect();
    names.sort();
    names.dedup();
    if names.is_empty() { String::new() } else { format!(" (known: {})", names.join(", ")) }
}

fn is_running(session: &Path) -> bool {
    let found = sessions().unwrap_or_default();
    found.iter().any(|found| found.path == session)
        || !session.starts_with(raybolt::inspect::root()) && session.exists()
}

impl Log {
    /// Shows the whole lines that have been added.
    fn show(&mut self, json: bool, out: &mut impl Write) -> Result<()> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(()) };
        if file.metadata()?.len() < self.shown {
            self.shown = 0; // It was put aside, and begun anew.
        }
        file.seek(SeekFrom::Start(self.shown))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                return Ok(());
            }
            self.shown += read as u64;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if json {
                let line = Line { worker: &self.worker, stream: &self.stream, line: text };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            } else {
                writeln!(out, "{} {}: {text}", self.worker, self.stream)?;
            }
        }
    }
}
