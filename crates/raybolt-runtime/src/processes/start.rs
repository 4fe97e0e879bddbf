//! How processes begin: the driver starts workers, and a program finds out that it is one.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use raybolt_core::ids::ProcessId;

use crate::error::{Error, Kind, Result};
use crate::processes::link::Link;
use crate::processes::serve;
use crate::session::{Place, Session};
use crate::session_dir::SessionDir;

/// Says how many processes run tasks: `processes` or `processes:4`.
const WORKERS: &str = "RAYBOLT_WORKERS";
/// Tells a worker who it is: its number and the session's directory.
const WORKER: &str = "RAYBOLT_WORKER";

/// This process, if it is a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    process: u64,
    session: std::path::PathBuf,
}

pub(crate) fn failed(error: &std::io::Error) -> Error {
    Error::new(Kind::Invalid(format!("the session's node does not start: {error}")))
}

/// What the environment says about processes.
pub(crate) fn processes_of_environment() -> Result<Option<usize>> {
    let Ok(text) = std::env::var(WORKERS) else { return Ok(None) };
    let count = match text.split_once(':') {
        None if text == "processes" => Some(1),
        None if text.is_empty() || text == "threads" => return Ok(None),
        Some(("processes", count)) => count.parse().ok().filter(|count| *count > 0),
        _ => None,
    };
    let invalid = || {
        Error::new(Kind::Invalid(format!(
            "`{WORKERS}` must be `processes` or `processes:N` with N from 1 up, not `{text}`"
        )))
    };
    count.map(Some).ok_or_else(invalid)
}

impl Worker {
    /// Whether this process was started as a worker.
    pub(crate) fn of_environment() -> Option<Self> {
        let text = std::env::var(WORKER).ok()?;
        let (process, session) = text.split_once(':')?;
        Some(Worker { process: process.parse().ok()?, session: session.into() })
    }
}

/// Serves the driver; never returns.
pub(crate) fn serve(worker: &Worker) -> ! {
    let socket = crate::session_dir::socket_of(&worker.session);
    let served = UnixStream::connect(&socket).and_then(|mut stream| {
        stream.write_all(&worker.process.to_le_bytes())?;
        serve::serve(stream, worker.process)
    });
    let code = match served {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("a worker does not reach its driver at {}: {error}", socket.display());
            1
        }
    };
    std::process::exit(code)
}

/// Starts the workers of a session.
pub(crate) fn workers(session: &Arc<Session>, count: usize) -> Result<()> {
    let Place::Workers(node) = &session.place else { return Ok(()) };
    node.workers.belong_to(session);
    let start = || -> std::io::Result<()> {
        let dir = SessionDir::create().map_err(std::io::Error::other)?;
        let listener = UnixListener::bind(dir.socket())?;
        for process in 1..=count {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(std::env::args_os().skip(1));
            command.env(WORKER, format!("{process}:{}", dir.path().display()));
            command.stdin(Stdio::null());
            command.spawn()?;
        }
        for _ in 0..count {
            let (mut stream, _) = listener.accept()?;
            let mut process = [0; 8];
            stream.read_exact(&mut process)?;
            let process = ProcessId(u64::from_le_bytes(process));
            node.workers.joined(session, process, Link::new(stream)?)?;
        }
        std::mem::forget(dir);
        Ok(())
    };
    start().map_err(|error| failed(&error))
}
