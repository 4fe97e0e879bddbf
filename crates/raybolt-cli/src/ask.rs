//! Commands that ask the session one question and show the answer.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use raybolt::inspect::{
    ActorReport, Ask, ErrorReport, List as Listed, Memory, ObjectReport, PlacementGroupReport,
    Status, TaskFilter, TaskReport, Watcher, Why, WorkerReport,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{List, What, show};

pub(crate) fn status(session: &Path, json: bool, out: &mut impl Write) -> Result<()> {
    let status: Status = asked(session, &Ask::Status)?;
    print(out, json, &status, |status| show::status(session, status))
}

pub(crate) fn memory(session: &Path, json: bool, out: &mut impl Write) -> Result<()> {
    let memory: Memory = asked(session, &Ask::Memory)?;
    print(out, json, &memory, show::memory)
}

pub(crate) fn timeline(session: &Path, output: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let trace: Value = asked(session, &Ask::Timeline)?;
    let spans = trace["traceEvents"].as_array().map_or(0, |events| {
        events.iter().filter(|event| event["ph"] != "M" && event["ph"] != "e").count()
    });
    if spans == 0 {
        eprintln!(
            "nothing was kept: start the program with RAYBOLT_TIMELINE=1, or `Builder::timeline(true)`"
        );
    }
    let text = serde_json::to_string(&trace)?;
    match output {
        None => writeln!(out, "{text}")?,
        Some(path) => {
            std::fs::write(path, text)
                .with_context(|| format!("{} is not written", path.display()))?;
            eprintln!("{spans} spans in {}: open it at https://ui.perfetto.dev", path.display());
        }
    }
    Ok(())
}

pub(crate) fn why(
    session: &Path,
    id: Option<String>,
    json: bool,
    out: &mut impl Write,
) -> Result<()> {
    let why: Why = asked(session, &Ask::Why { id })?;
    if why.steps.is_empty() {
        eprintln!("nobody waits in a `get`, `wait` or `.await`");
    }
    print(out, json, &why, ToString::to_string)
}

pub(crate) fn list(session: &Path, list: List, json: bool, out: &mut impl Write) -> Result<()> {
    let List { what, limit, state, name } = list;
    if !matches!(what, What::Tasks) && (state.is_some() || name.is_some()) {
        bail!("`--state` and `--name` choose among tasks: `raybolt list tasks`");
    }
    match what {
        What::Tasks => {
            let ask = Ask::Tasks { filter: TaskFilter { state, name }, limit };
            listed::<TaskReport>(session, &ask, json, out, show::tasks)
        }
        What::Actors => {
            listed::<ActorReport>(session, &Ask::Actors { limit }, json, out, show::actors)
        }
        What::Objects => {
            listed::<ObjectReport>(session, &Ask::Objects { limit }, json, out, show::objects)
        }
        What::PlacementGroups => {
            let ask = Ask::PlacementGroups { limit };
            listed::<PlacementGroupReport>(session, &ask, json, out, show::placement_groups)
        }
        What::Errors => {
            listed::<ErrorReport>(session, &Ask::Errors { limit }, json, out, show::errors)
        }
        What::Workers => {
            let workers: Vec<WorkerReport> = asked(session, &Ask::Workers)?;
            print(out, json, &workers, |workers| show::workers(workers))
        }
    }
}

fn listed<T: Serialize + DeserializeOwned>(
    session: &Path,
    ask: &Ask,
    json: bool,
    out: &mut impl Write,
    show: fn(&[T]) -> String,
) -> Result<()> {
    let list: Listed<T> = asked(session, ask)?;
    print(out, json, &list, |list| show(&list.items))?;
    let beyond = list.total.saturating_sub(list.items.len());
    if beyond > 0 && !json {
        let at_least = if list.is_cut { "at least " } else { "" };
        eprintln!("and {at_least}{beyond} more (`--limit`)");
    }
    Ok(())
}

fn asked<T: DeserializeOwned>(session: &Path, ask: &Ask) -> Result<T> {
    Ok(Watcher::connect(session)?.ask(ask)?)
}

fn print<T: Serialize>(
    out: &mut impl Write,
    json: bool,
    told: &T,
    show: impl FnOnce(&T) -> String,
) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(told)? } else { show(told) };
    if !text.is_empty() {
        writeln!(out, "{text}")?;
    }
    Ok(())
}
