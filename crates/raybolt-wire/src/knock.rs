//! Knocking at a session's door: the side that connects, blocking until a deadline.
//!
//! A door that is crowded (or that sends us away because we took too long, which is often its own load)
//! is tried again until the deadline; any other refusal is final.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::frame::LENGTH_BYTES;
use crate::handshake::{
    Handshake, HandshakeError, Hello, Identity, LETTER_BYTES_MAX, Nonce, Refusal, Role,
};

/// How long to stay away from a door that is crowded, for a start; twice as long each time.
const BACK_OFF: Duration = Duration::from_millis(1);
const BACK_OFF_MAX: Duration = Duration::from_millis(64);

/// Why a session's door stayed closed.
#[derive(Debug, thiserror::Error)]
pub enum KnockError {
    /// Nobody listens there.
    #[error("no session answers at `{}`: {cause}; has its driver ended?", path.display())]
    Nobody {
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Another user listens there.
    #[error("`{}` is held by user {theirs}, this process belongs to user {ours}", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// Who listens.
        theirs: u32,
        /// Who knocks.
        ours: u32,
    },
    /// The two sides did not come to terms.
    #[error("the session at `{}` cannot be joined: {cause}", path.display())]
    Handshake {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: HandshakeError,
    },
    /// The other side hung up.
    #[error("the session at `{}` hung up during the handshake; has its driver ended?", path.display())]
    HungUp {
        /// Where.
        path: PathBuf,
    },
    /// No answer in time.
    #[error("the session at `{}` let nobody in within {waited:?}{}", path.display(), of_busy(*busy))]
    TimedOut {
        /// Where.
        path: PathBuf,
        /// How long.
        waited: Duration,
        /// Whether the door said that it was crowded.
        busy: bool,
    },
    /// The system refused something.
    #[error("no connection to the session at `{}`: {cause}", path.display())]
    System {
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

fn of_busy(busy: bool) -> &'static str {
    if busy { ": too many are knocking" } else { ": is its driver stopped?" }
}

/// Connects to the session at `path`, proves that we belong to it, and has it prove the same.
///
/// The stream blocks, without timeouts, and stands right behind the handshake.
pub fn knock(
    path: &Path,
    identity: &Identity,
    role: Role,
    deadline: Instant,
) -> Result<(UnixStream, Hello), KnockError> {
    let began = Instant::now();
    let mut back_off = BACK_OFF;
    let mut busy = false;
    loop {
        let outcome = match knock_once(path, identity, role, deadline) {
            Err(Failure::Again) => None,
            Err(Failure::Late) => Some(()),
            Err(Failure::Final(error)) => return Err(error),
            Ok(met) => return Ok(met),
        };
        busy |= outcome.is_none();
        let left = deadline.saturating_duration_since(Instant::now());
        if outcome.is_some() || left.is_zero() {
            let waited = began.elapsed();
            return Err(KnockError::TimedOut { path: path.into(), waited, busy });
        }
        std::thread::sleep(back_off.min(left));
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// How one attempt ends that does not succeed.
enum Failure {
    /// The door is crowded.
    Again,
    /// The deadline is over.
    Late,
    Final(KnockError),
}

fn knock_once(
    path: &Path,
    identity: &Identity,
    role: Role,
    deadline: Instant,
) -> Result<(UnixStream, Hello), Failure> {
    let system = |errno: Errno| system(path, errno);
    let nonce = Nonce::random().map_err(|error| {
        Failure::Final(KnockError::System { path: path.into(), cause: io::Error::other(error) })
    })?;
    let socket = connect(path, deadline)?;
    let mut handshake = Handshake::knock(identity, role, nonce);
    let hello = converse(&socket, &mut handshake, path, deadline)?;
    set_socket_timeout(&socket, Timeout::Send, None).map_err(system)?;
    set_socket_timeout(&socket, Timeout::Recv, None).map_err(system)?;
    Ok((UnixStream::from(socket), hello))
}

/// A connection to whoever listens at `path`, who has to be of our user.
fn connect(path: &Path, deadline: Instant) -> Result<OwnedFd, Failure> {
    let system = |errno: Errno| system(path, errno);
    let address = SocketAddrUnix::new(path).map_err(system)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(system)?;
    loop {
        // Also for how long to wait in front of a full queue.
        set_socket_timeout(&socket, Timeout::Send, Some(left(deadline)?)).map_err(system)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(Failure::Late),
            Err(errno) => {
                let cause = errno.into();
                return Err(Failure::Final(KnockError::Nobody { path: path.into(), cause }));
            }
        }
    }
    let (theirs, ours) =
        (socket_peercred(&socket).map_err(system)?.uid, rustix::process::geteuid());
    if theirs != ours {
        let (theirs, ours) = (theirs.as_raw(), ours.as_raw());
        return Err(Failure::Final(KnockError::Foreign { path: path.into(), theirs, ours }));
    }
    Ok(socket)
}

/// Goes through the handshake.
fn converse(
    socket: &OwnedFd,
    handshake: &mut Handshake,
    path: &Path,
    deadline: Instant,
) -> Result<Hello, Failure> {
    let mut buffer = [0; LENGTH_BYTES + LETTER_BYTES_MAX];
    loop {
        while !handshake.letters().is_empty() {
            set_socket_timeout(socket, Timeout::Send, Some(left(deadline)?))
                .map_err(|errno| system(path, errno))?;
            match rustix::net::send(socket, handshake.letters(), SendFlags::NOSIGNAL) {
                Ok(bytes) => handshake.sent(bytes),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // It hung up; why may be told in what is still to be read.
                Err(_) => drop(handshake.take_letters()),
            }
        }
        if let Some(hello) = handshake.met() {
            return Ok(hello);
        }
        set_socket_timeout(socket, Timeout::Recv, Some(left(deadline)?))
            .map_err(|errno| system(path, errno))?;
        // Not a byte further than the handshake (HAND-4).
        let wanted = &mut buffer[..handshake.wants()];
        match rustix::net::recv(socket, wanted, RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET | Errno::PIPE) => {
                return Err(Failure::Final(KnockError::HungUp { path: path.into() }));
            }
            Ok((bytes, _)) => {
                handshake.push(&buffer[..bytes]).map_err(|cause| failure(path, cause))?;
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(system(path, errno)),
        }
    }
}

fn failure(path: &Path, cause: HandshakeError) -> Failure {
    match cause {
        HandshakeError::Refused(Refusal::Busy | Refusal::Late) => Failure::Again,
        cause => Failure::Final(KnockError::Handshake { path: path.into(), cause }),
    }
}

fn system(path: &Path, errno: Errno) -> Failure {
    Failure::Final(KnockError::System { path: path.into(), cause: errno.into() })
}

/// The time that is left; a timeout of zero would mean for ever.
fn left(deadline: Instant) -> Result<Duration, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Failure::Late) } else { Ok(left.max(Duration::from_micros(1))) }
}
