//! The door of a session: a Unix socket behind which strangers learn nothing and cost little.
//!
//! # Words
//! A *caller* is a connection that has not proved itself yet, a *guest* one that has.
//!
//! # Protocol
//! One thread of ours waits for callers and for what they say, blocking on none. Each caller goes through
//! the [handshake](crate::handshake); who comes through is handed to `on_guest`, which takes the socket
//! from there.
//!
//! ```text
//! connect --> same user? --no--> closed
//!                | yes
//!                v
//!             caller --proof--> guest: on_guest(stream, hello, pid)
//!                |
//!                +--> refused: wrong, late, or one too many of its process
//! ```
//!
//! # Invariants
//! - **DOOR-1 (ours alone).** The socket has mode 0600 from its first moment and lies in a directory of
//!   this user with mode 0700; the kernel is asked who connects all the same.
//! - **DOOR-2 (bounded).** There are at most `callers_max` callers (and one more for a moment), each with
//!   the memory of a handshake (HAND-3) and a deadline. What strangers send beyond is never read.
//! - **DOOR-3 (room for the rightful).** A caller that is one too many costs the process with the most
//!   callers its oldest one; processes that were announced with [`Door::expect`] come last. So whoever
//!   fills the door competes with itself, and one worker that knocks once is served whatever ten
//!   thousand connections of another process do.
//! - **DOOR-4 (never spins).** Without callers the thread sleeps without a timeout. When the process has
//!   no file descriptor left, callers wait in the kernel's queue and the door looks again after
//!   [`PAUSE`].
//! - **DOOR-5 (in time).** A caller is gone `deadline` after it came, however slowly it talks.
//!
//! # Not promised
//! Protection from other processes of the same user that have the secret, or that stop this process.

mod porter;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::handshake::{Hello, Identity};

/// How long the door looks away when the process has no file descriptor left.
pub const PAUSE: Duration = Duration::from_millis(50);

/// The longest path of a socket that the system takes, with its end.
pub(crate) const PATH_BYTES_MAX: usize = 108;

/// How many callers wait in the kernel's queue; the system's own limit is usually lower.
const BACKLOG: i32 = 1 << 12;

/// How much strangers may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Callers at a time.
    pub callers_max: usize,
    /// From connecting to the end of the handshake.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { callers_max: 64, deadline: Duration::from_secs(2) }
    }
}

/// A connection that has proved that it belongs to the session.
#[derive(Debug)]
pub struct Guest {
    /// The connection, non-blocking, right behind the handshake.
    pub stream: UnixStream,
    /// Who it is, and in which role.
    pub hello: Hello,
    /// The process that connected, as the kernel knows it.
    pub pid: u32,
}

/// What a door has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorStats {
    /// Callers now.
    pub callers: usize,
    /// Guests so far.
    pub admitted: u64,
    /// Callers so far whose handshake failed or that hung up.
    pub failed: u64,
    /// Callers so far that were too slow.
    pub late: u64,
    /// Callers so far that were sent away because there were too many.
    pub crowded_out: u64,
    /// Connections so far of other users.
    pub foreign: u64,
    /// How often so far the process had no file descriptor left for a caller.
    pub paused: u64,
}

/// Why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The system refused.
    #[error("the session's socket `{}` cannot be opened: {what}: {cause}", path.display())]
    System {
        /// Where the socket was to be.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// The system takes no socket with so long a path.
    #[error(
        "the session's socket `{}` has a path of {} bytes, the system takes {}; set XDG_RUNTIME_DIR or TMPDIR \
         to a shorter directory",
        path.display(), path.as_os_str().len(), PATH_BYTES_MAX - 1
    )]
    PathTooLong {
        /// Where the socket was to be.
        path: PathBuf,
    },
    /// Others may enter the directory.
    #[error(
        "the session's directory `{}` is open to others (mode {mode:04o}, user {owner}); it has to be yours \
         alone: `chmod 700 {}`",
        directory.display(), directory.display()
    )]
    Exposed {
        /// Which directory.
        directory: PathBuf,
        /// Its mode bits.
        mode: u32,
        /// Whose it is.
        owner: u32,
    },
}

/// An open door; dropping it closes it.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    shared: Arc<Shared>,
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// What the door's thread shows to others.
#[derive(Debug, Default)]
struct Shared {
    callers: AtomicUsize,
    admitted: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
    crowded_out: AtomicU64,
    foreign: AtomicU64,
    paused: AtomicU64,
    expected: Mutex<BTreeSet<u32>>,
}

impl Door {
    /// Listens at `path`, in a directory that is this user's alone, and hands guests to `on_guest`.
    ///
    /// `on_guest` runs on the door's thread: while it runs nobody else is let in. It may be called until
    /// [`Door::close`] returns.
    pub fn open(
        path: &Path,
        identity: Identity,
        limits: Limits,
        on_guest: impl Fn(Guest) + Send + Sync + 'static,
    ) -> Result<Self, DoorError> {
        check_directory(path)?;
        let listener = listen(path)?;
        let error = |what| move |cause| DoorError::System { path: path.into(), what, cause };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = eventfd(0, flags).map_err(|errno| error("eventfd")(errno.into()))?;
        let bell = Arc::new(bell);
        let shared = Arc::new(Shared::default());
        let porter = porter::Porter::new(
            listener,
            Arc::clone(&bell),
            identity,
            limits,
            Arc::clone(&shared),
            Box::new(on_guest),
        );
        // From here on the file is removed with the door.
        let mut door = Door { path: path.into(), shared, bell, thread: None };
        let thread = std::thread::Builder::new().name("raybolt-door".into());
        door.thread = Some(thread.spawn(move || porter.run()).map_err(error("its thread"))?);
        Ok(door)
    }

    /// Announces that process `pid`, a child of ours, is going to knock: it is not sent away for lack of
    /// room while others can be (DOOR-3). Ends with its first handshake that succeeds.
    pub fn expect(&self, pid: u32) {
        self.shared.expected().insert(pid);
    }

    /// Takes [`Door::expect`] back: the process is gone.
    pub fn forget(&self, pid: u32) {
        self.shared.expected().remove(&pid);
    }

    /// What the door has seen so far.
    pub fn stats(&self) -> DoorStats {
        let Shared { callers, admitted, failed, late, crowded_out, foreign, paused, .. } =
            &*self.shared;
        DoorStats {
            callers: callers.load(Ordering::Relaxed),
            admitted: admitted.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            late: late.load(Ordering::Relaxed),
            crowded_out: crowded_out.load(Ordering::Relaxed),
            foreign: foreign.load(Ordering::Relaxed),
            paused: paused.load(Ordering::Relaxed),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends callers away, ends the thread and removes the socket's file. Guests stay.
    pub fn close(self) {
        // By `Drop`.
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let Some(thread) = self.thread.take() else { return };
        // An eventfd refuses only when it overflows, after 2^64 rings.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        // Whoever closes the door from within `on_guest` is that thread.
        if thread.thread().id() != std::thread::current().id()
            && let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Shared {
    fn expected(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// DOOR-1: nobody else gets as far as the socket.
fn check_directory(path: &Path) -> Result<(), DoorError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let metadata = fs::metadata(directory).map_err(|cause| DoorError::System {
        path: path.into(),
        what: "its directory",
        cause,
    })?;
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
        return Err(DoorError::Exposed { directory: directory.into(), mode, owner });
    }
    Ok(())
}

/// A listening socket with mode 0600.
fn listen(path: &Path) -> Result<OwnedFd, DoorError> {
    if path.as_os_str().len() >= PATH_BYTES_MAX {
        return Err(DoorError::PathTooLong { path: path.into() });
    }
    let error = |what| {
        move |errno: rustix::io::Errno| DoorError::System {
            path: path.into(),
            what,
            cause: errno.into(),
        }
    };
    let address = SocketAddrUnix::new(path).map_err(error("its path"))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(error("socket"))?;
    // The file gets the mode of the socket it is made from: there is no moment at which it is wider.
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(error("fchmod"))?;
    rustix::net::bind(&socket, &address).map_err(error("bind"))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|errno| {
        let _ = fs::remove_file(path);
        error("listen")(errno)
    })?;
    Ok(socket)
}
