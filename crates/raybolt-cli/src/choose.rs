//! Which session is meant.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use raybolt::inspect::{Found, logs_of, root, sessions};

use crate::text::duration;

/// How many sessions are named when there are several.
const NAMED_MAX: usize = 10;

/// The session's directory: the one that was named, by itself or by its driver, or that of the newest session.
pub(crate) fn session(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(named) = named {
        if let Some(pid) = named.to_str().and_then(|text| text.parse::<u32>().ok()) {
            let found = sessions()?.into_iter().find(|found| found.pid == pid);
            return match found {
                Some(found) => Ok(found.path),
                None => bail!("process {pid} is no driver of a session{}", known()),
            };
        }
        if !logs_of(&named).is_dir() {
            bail!("{} is no directory of a session{}", named.display(), known());
        }
        return Ok(named);
    }
    let found = sessions()?;
    let Some(newest) = found.first() else {
        bail!(
            "no session is running here (looked in {}); start a program with RAYBOLT_WORKERS=processes or \
             RAYBOLT_WATCH=1",
            root().display()
        );
    };
    if found.len() > 1 {
        eprintln!(
            "{} sessions are running; this is the newest one (`--session`, with a directory or a process, chooses):",
            found.len()
        );
        list(&found);
    }
    Ok(newest.path.clone())
}

fn list(found: &[Found]) {
    for session in found.iter().take(NAMED_MAX) {
        eprintln!("  {}", line(session));
    }
    if found.len() > NAMED_MAX {
        eprintln!("  and {} more", found.len() - NAMED_MAX);
    }
}

fn line(session: &Found) -> String {
    let age = session.started.elapsed().unwrap_or_default().as_millis() as u64;
    let Found { path, pid, program, .. } = session;
    format!("{}  {program}, process {pid}, for {}", shown(path), duration(age))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The sessions that could have been meant.
fn known() -> String {
    let found = sessions().unwrap_or_default();
    let lines = found.iter().take(NAMED_MAX).map(|session| format!("\n  {}", line(session)));
    let lines: String = lines.collect();
    if lines.is_empty() { String::new() } else { format!("; these are running:{lines}") }
}
