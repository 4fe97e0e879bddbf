//! Watching a session from another process.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use raybolt_wire::handshake::Role;
use raybolt_wire::knock::{KnockError, knock};
use serde::de::DeserializeOwned;

use super::ask::{ANSWER_BYTES_MAX, Answer, Ask, PIECE_BYTES, read_frame, write_frame};
use crate::processes::start::identity;
use crate::session_dir::{self, secret_of, socket_of};

/// How long the session may take to let a watcher in.
const KNOCK_TIME: Duration = Duration::from_secs(5);
/// How long it may take for a piece of an answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A link to a session of this user and machine, which answers questions about itself.
///
/// ```no_run
/// use raybolt_runtime::inspect::{Ask, Status, Watcher, sessions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let found = sessions()?;
/// let mut watcher = Watcher::connect(&found.first().ok_or("nothing runs")?.path)?;
/// let status: Status = watcher.ask(&Ask::Status)?;
/// println!("{} tasks are queued", status.tasks.queued);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watcher(UnixStream);

/// Why a session gives no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// Its directory cannot be read.
    #[error(transparent)]
    Directory(#[from] session_dir::Error),
    /// Its door stayed closed.
    #[error(transparent)]
    Knock(#[from] KnockError),
    /// The link broke.
    #[error("the session does not answer: {0}")]
    Io(#[from] io::Error),
    /// It hung up.
    #[error("the session hung up before it answered; has its driver ended?")]
    HungUp,
    /// It answered that it cannot say.
    #[error("{0}")]
    Refused(String),
    /// It answered something else.
    #[error("the session's answer is not understood; is it of another version of raybolt? {0}")]
    Garbled(#[from] serde_json::Error),
}

impl Watcher {
    /// Connects to the session with this directory.
    ///
    /// # Errors
    /// When no session answers there, or it lets nobody in.
    pub fn connect(directory: &Path) -> Result<Self, WatchError> {
        let watcher = Self::knock(directory, &socket_of(directory), KNOCK_TIME)?;
        watcher.be_patient(ANSWER_TIME)?;
        Ok(watcher)
    }

    /// Connects to one of the sockets in a session's directory.
    pub(super) fn knock(
        directory: &Path,
        socket: &Path,
        time: Duration,
    ) -> Result<Self, WatchError> {
        let identity = identity(&secret_of(directory)?);
        let (stream, _) = knock(socket, &identity, Role::Watcher, Instant::now() + time)?;
        let watcher = Watcher(stream);
        watcher.be_patient(time)?;
        Ok(watcher)
    }

    fn be_patient(&self, time: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(time))?;
        self.0.set_write_timeout(Some(time))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the session does not answer, or says that it cannot.
    pub fn ask<T: DeserializeOwned>(&mut self, ask: &Ask) -> Result<T, WatchError> {
        write_frame(&mut self.0, &serde_json::to_vec(ask)?)?;
        match serde_json::from_slice(&self.answer()?)? {
            Answer::Ok(value) => Ok(serde_json::from_value(value)?),
            Answer::Error(message) => Err(WatchError::Refused(message)),
        }
    }

    fn answer(&mut self) -> Result<Vec<u8>, WatchError> {
        let mut answer = Vec::new();
        loop {
            let piece = read_frame(&mut self.0, PIECE_BYTES)?.ok_or(WatchError::HungUp)?;
            if piece.is_empty() {
                return Ok(answer);
            }
            if answer.len() + piece.len() > ANSWER_BYTES_MAX {
                let message = format!("its answer is longer than {ANSWER_BYTES_MAX} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
            }
            answer.extend_from_slice(&piece);
        }
    }
}
