//! `raybolt`: watches sessions of this user from another terminal.
//!
//! What is asked for goes to stdout and nothing else does; `--json` wherever there is a table. Exits with 0, or
//! with 1 and a cause and a lever on stderr, or with 2 if the command makes no sense.

mod ask;
mod choose;
mod logs;
mod show;
mod text;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use raybolt::inspect::{LIMIT, TaskState};

/// Watches raybolt's sessions on this machine.
#[derive(Debug, Parser)]
#[command(name = "raybolt", version, propagate_version = true)]
struct Arguments {
    /// The session's directory, or the number of its driver's process; the newest session by default.
    #[arg(long, global = true, value_name = "DIRECTORY|PROCESS")]
    session: Option<PathBuf>,
    /// Prints JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What runs and what waits, in short.
    Status,
    /// Lists tasks, actors, objects, processes, placement groups or failures.
    List(List),
    /// What fills memory.
    Memory,
    /// What worker processes have written to stdout and stderr.
    Logs(Logs),
    /// What ran when, on which thread: a trace that ui.perfetto.dev opens. The session has to keep it
    /// (`RAYBOLT_TIMELINE=1`).
    Timeline {
        /// Where to write it; stdout by default.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// What a waiting task, call, object, actor or `get` waits for, followed to the root; all that wait if no
    /// id is given.
    Why {
        /// For example task-1f, object-2a, actor-5 or get-7.
        id: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// What to list.
    what: What,
    /// How many at most.
    #[arg(long, default_value_t = LIMIT)]
    limit: usize,
    /// Only tasks in this state: waiting, queued or running.
    #[arg(long)]
    state: Option<TaskState>,
    /// Only tasks of this function or method.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Tasks and calls that have not ended.
    Tasks,
    /// Actors.
    Actors,
    /// Objects that somebody can reach.
    Objects,
    /// Processes that run tasks.
    Workers,
    /// Placement groups.
    PlacementGroups,
    /// What failed lately.
    Errors,
}

#[derive(Debug, clap::Args)]
struct Logs {
    /// Only this worker: 3, or worker-3.
    worker: Option<String>,
    /// Goes on as more is written, until the session ends.
    #[arg(long, short)]
    follow: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let done = run(arguments, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments, out: &mut impl Write) -> Result<()> {
    let Arguments { session, json, command } = arguments;
    let session = choose::session(session)?;
    match command {
        Command::Status => ask::status(&session, json, out),
        Command::List(list) => ask::list(&session, list, json, out),
        Command::Memory => ask::memory(&session, json, out),
        Command::Timeline { output } => ask::timeline(&session, output.as_deref(), out),
        Command::Why { id } => ask::why(&session, id, json, out),
        Command::Logs(Logs { worker, follow }) => {
            logs::show(&session, worker.as_deref(), follow, json, out)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn json_and_session_may_stand_anywhere() {
        let line = ["raybolt", "list", "placement-groups", "--json", "--session", "/x"];
        let arguments = Arguments::parse_from(line);
        assert!(arguments.json && arguments.session == Some("/x".into()));
        let Command::List(list) = arguments.command else { panic!("it is a list") };
        assert_eq!((list.what, list.limit), (What::PlacementGroups, LIMIT));
    }
}
