//! Answers those who watch the session from other processes.
//!
//! # Invariants
//! - **SERVE-1 (bounded).** At most [`WATCHERS_MAX`] watchers are served at a time, each by a thread of its
//!   own, with one question of at most [`ASK_BYTES_MAX`] at a time; whoever neither asks nor reads is left
//!   after [`PATIENCE`].
//! - **SERVE-2 (changes nothing).** A watcher has no question that changes anything.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raybolt_core::ids::ProcessId;
use raybolt_wire::door::{Door, Guest, Limits};
use raybolt_wire::handshake::Role;

use super::ask::{ASK_BYTES_MAX, Answer, Ask, PIECE_BYTES, read_frame, write_frame};
use crate::error::{Error, Kind};
use crate::processes::start::identity;
use crate::session_dir::{SessionDir, secret_of};

/// How many watchers are served at a time.
const WATCHERS_MAX: usize = 16;
/// How long a watcher may take to ask, and to read a piece of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many are served now.
static SERVED: AtomicUsize = AtomicUsize::new(0);

/// Where a session can be watched that has no worker processes; closed when dropped.
pub(crate) struct Post {
    _door: Door,
    /// Removed after the door.
    dir: SessionDir,
}

impl Post {
    /// Makes the session's directory and opens a door in it for watchers.
    pub(crate) fn open() -> Result<Self, Error> {
        let failed = |error: &dyn std::error::Error| {
            Error::new(Kind::Invalid(format!("the session cannot be watched: {error}")))
        };
        let dir = SessionDir::create().map_err(|error| failed(&error))?;
        let identity = identity(dir.secret());
        let door = Door::open(&dir.socket(), identity, Limits::default(), watch);
        Ok(Post { _door: door.map_err(|error| failed(&error))?, dir })
    }

    /// The session's directory.
    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }
}

/// Opens the door of a worker process, at which its driver asks what it does.
pub(crate) fn open_in_worker(directory: &Path, process: ProcessId) -> Result<Door, Error> {
    let failed = |error: &dyn std::error::Error| {
        Error::new(Kind::Invalid(format!("worker {process} cannot be watched: {error}")))
    };
    let socket = directory.join(format!("worker-{process}.sock"));
    let identity = identity(&secret_of(directory).map_err(|error| failed(&error))?);
    Door::open(&socket, identity, Limits::default(), watch).map_err(|error| failed(&error))
}

/// Who came through a door at which only watchers are served.
fn watch(guest: Guest) {
    if guest.hello.role == Role::Watcher {
        admit(guest.stream);
    }
}

/// One more watched session in the count of those served.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let one_more = |served| (served < WATCHERS_MAX).then_some(served + 1);
        SERVED.try_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        SERVED.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves a watcher that has proved to belong to the session; does not wait for it.
pub(crate) fn admit(stream: UnixStream) {
    let Some(place) = Place::take() else {
        let text = format!("{WATCHERS_MAX} others watch this session now, as many as it serves");
        // Into the empty buffer of a new socket: this does not block, and if it fails nobody listens.
        let _ = answer(&stream, &Answer::Error(text));
        return;
    };
    let thread = std::thread::Builder::new().name("raybolt-watch".into());
    let spawned = thread.spawn(move || {
        let _place = place;
        // A watcher that leaves in the middle is no concern of ours.
        let _ = serve(&stream);
    });
    if let Err(error) = spawned {
        tracing::warn!(target: "raybolt", "a watcher is not served: {error}");
    }
}

fn serve(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    while let Some(question) = read_frame(&mut &*stream, ASK_BYTES_MAX)? {
        let told = match serde_json::from_slice::<Ask>(&question) {
            Ok(ask) => ask.answer(),
            Err(error) => {
                Answer::Error(format!("this session does not know the question: {error}"))
            }
        };
        answer(stream, &told)?;
    }
    Ok(())
}

fn answer(mut stream: &UnixStream, told: &Answer) -> io::Result<()> {
    let text = serde_json::to_vec(told)?;
    for piece in text.chunks(PIECE_BYTES) {
        write_frame(&mut stream, piece)?;
    }
    write_frame(&mut stream, &[])
}
