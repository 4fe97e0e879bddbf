//! How a program finds out that it is a worker, and what it does then.
//!
//! # Protocol
//! 1. The driver starts its own executable with an [`Invitation`] in the variable [`WORKER`].
//! 2. Whatever begins a session looks for one first ([`Invitation::of_this_process`]), and serves the
//!    driver in place of what it was called for ([`serve`]).
//! 3. The invitation holds for a child of the driver alone, which takes it out of its environment
//!    ([`birth`]): what a worker starts is none.

use std::fmt;
use std::io::Write;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use raybolt_core::ids::{Epoch, NodeId, ProcessId, SessionId};
use raybolt_store::{Options, Store};
use raybolt_wire::handshake::{Identity, Role};
use raybolt_wire::knock::knock;
use raybolt_wire::secret::Secret;
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};
use crate::inspect::serve as post;
use crate::processes::birth;
use crate::processes::blackbox::BlackBox;
use crate::processes::monitor::own_bytes;
use crate::processes::serve::{self, Serve};
use crate::session_dir::{self, DEATH_TIME, secret_of, socket_of};

/// Says how many processes run tasks: `processes` or `processes:4`.
const WORKERS: &str = "RAYBOLT_WORKERS";
/// Whether the driver shows what workers print.
const LOG_TO_DRIVER: &str = "RAYBOLT_LOG_TO_DRIVER";
/// Tells a worker which GPUs it is for.
pub(crate) const GPU_IDS: &str = "RAYBOLT_GPU_IDS";
/// How much memory a session may use.
const MEMORY_LIMIT: &str = "RAYBOLT_MEMORY_LIMIT";
/// Tells a worker who it is.
pub(crate) const WORKER: &str = "RAYBOLT_WORKER";
/// What the driver has open for each worker: its link, its end, its black box, what it prints.
const FILES_PER_WORKER: u64 = 5;
/// What it has open beside, about.
const FILES_OF_NODE: u64 = 16;
/// Workers have at least so much memory of their own, all together.
const MEMORY_OF_WORKERS: u64 = 16 << 20;
/// How long a worker knocks at its driver's door.
const KNOCK_TIME: Duration = Duration::from_secs(10);

/// What makes a process a worker: numbers and a path, with colons between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub(crate) process: ProcessId,
    pub(crate) threads: usize,
    /// The driver's process id.
    pub(crate) driver: u32,
    /// Under which number the driver has the worker's [black box](BlackBox) open.
    pub(crate) blackbox: Option<RawFd>,
    /// The session's directory.
    pub(crate) session: PathBuf,
}

pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> Error {
    let lever = lever(error).unwrap_or_default();
    Error::new(Kind::Invalid(format!("the session's node does not start: {error}{lever}")))
}

/// What helps against an error of the system, if we know.
pub(crate) fn lever(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let mut codes =
        causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    let too_many = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    codes
        .any(|code| too_many.contains(&code))
        .then_some(": raise the number of files that a process may open (`ulimit -n`)")
}

/// So many workers need descriptors in this process, which it shall have before the first is started.
pub(crate) fn enough_descriptors(workers: usize) -> Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let needed = (workers as u64).saturating_mul(FILES_PER_WORKER).saturating_add(FILES_OF_NODE);
    match limit {
        Some(limit) if needed > limit => Err(Error::new(Kind::Invalid(format!(
            "worker processes ({workers}) and their driver need about {needed} open files, and this process may have {limit} (`ulimit -n`): ask for fewer workers (`processes`), or raise that limit"
        )))),
        _ => Ok(()),
    }
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

/// With a limit that leaves nothing for workers each task would be stopped.
pub(crate) fn enough_memory(limit: Option<u64>) -> Result<()> {
    let used = own_bytes(std::process::id());
    match limit {
        Some(limit) if limit < used + MEMORY_OF_WORKERS => Err(Error::new(Kind::Invalid(format!(
            "`memory_limit` (`{MEMORY_LIMIT}`) is {limit} bytes, of which this process alone uses {used}: that leaves nothing for workers; raise it"
        )))),
        _ => Ok(()),
    }
}

/// What the environment says about memory: bytes, or `512MiB`, or `4GiB`.
pub(crate) fn memory_limit_of_environment() -> Result<Option<u64>> {
    let Ok(text) = std::env::var(MEMORY_LIMIT) else { return Ok(None) };
    let invalid = || {
        Error::new(Kind::Invalid(format!(
            "`{MEMORY_LIMIT}` must be a number of bytes, or one with `MiB` or `GiB` behind it, not `{text}`"
        )))
    };
    bytes_in(&text).map(Some).ok_or_else(invalid)
}

/// Which GPUs this worker is for, by ids of the node.
pub(crate) fn gpu_ids_of_environment() -> Vec<u32> {
    let ids = std::env::var(GPU_IDS).unwrap_or_default();
    ids.split(',').filter_map(|id| id.parse().ok()).collect()
}

fn bytes_in(text: &str) -> Option<u64> {
    let (number, unit) = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
        (Some(number), _) => (number, 1 << 20),
        (_, Some(number)) => (number, 1 << 30),
        (None, None) => (text, 1),
    };
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

pub(crate) fn logs_to_driver() -> bool {
    std::env::var_os(LOG_TO_DRIVER).is_none_or(|text| text != "0")
}

impl Invitation {
    /// What the environment says; after [`birth`] it says nothing any more.
    pub(crate) fn in_environment() -> Option<Self> {
        std::env::var(WORKER).ok()?.parse().ok()
    }

    /// The one with which this process was started, whoever it is for.
    pub(crate) fn at_hand() -> Option<Self> {
        birth::invitation().or_else(Self::in_environment)
    }

    /// The invitation that this process has, if it has one.
    pub(crate) fn of_this_process() -> Option<Self> {
        let invitation = Self::at_hand()?;
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_pid().cast_unsigned());
        if parent == Some(invitation.driver) {
            return Some(invitation);
        }
        if is_alive(invitation.driver) {
            return None; // Another child of the driver was invited; this process only inherited it.
        }
        session_dir::remove_stale(&invitation.session, DEATH_TIME);
        farewell(&format!("its driver, process {}, has ended", invitation.driver))
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Invitation { process, threads, driver, blackbox, session } = self;
        let blackbox = blackbox.unwrap_or(-1);
        write!(f, "{process}:{threads}:{driver}:{blackbox}:{}", session.display())
    }
}

impl FromStr for Invitation {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        fn number<'a, T: FromStr>(parts: &mut impl Iterator<Item = &'a str>) -> Result<T, ()> {
            parts.next().and_then(|text| text.parse().ok()).ok_or(())
        }
        let mut parts = text.splitn(5, ':');
        let process = ProcessId(number(&mut parts)?);
        let (threads, driver) = (number(&mut parts)?, number(&mut parts)?);
        let blackbox = Some(number(&mut parts)?).filter(|descriptor| *descriptor >= 0);
        let session = parts.next().ok_or(())?.into();
        Ok(Invitation { process, threads, driver, blackbox, session })
    }
}

/// Whether there is such a process that has not ended: one for which its parent has not asked yet is
/// still listed.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind its name, which may have anything in it, stands its state.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Serves the driver; never returns.
pub(crate) fn serve(invitation: &Invitation) -> ! {
    let Invitation { process, threads, driver, blackbox, session: dir } = invitation;
    let reached = secret_of(dir).map_err(|error| error.to_string()).and_then(|secret| {
        let role = Role::Worker { process: *process };
        let deadline = Instant::now() + KNOCK_TIME;
        knock(&socket_of(dir), &identity(&secret), role, deadline)
            .map_err(|error| error.to_string())
    });
    let stream = match reached {
        Ok((stream, _)) => stream,
        Err(error) => {
            session_dir::remove_stale(dir, DEATH_TIME);
            farewell(&error)
        }
    };
    birth::grown_up();
    // Without it the driver knows less of what we do, and that is all.
    let _door = post::open_in_worker(dir, *process)
        .inspect_err(|error| tracing::warn!(target: "raybolt", "{error}"));
    let blackbox = blackbox.and_then(|descriptor| {
        BlackBox::open(Path::new(&format!("/proc/{driver}/fd/{descriptor}"))).ok()
    });
    let served = serve::serve(stream, &Serve { process: process.0, threads: *threads, blackbox });
    let Err(error) = served;
    farewell(&error.to_string())
}

/// The share of the machine's memory that the store may take if nobody says otherwise.
const STORE_SHARE: u64 = 3;

/// And no more than this, however much the machine has.
const STORE_MAX: u64 = 128 << 30;

/// The store of a session over processes: of so many bytes, or else a third of what there is.
pub(crate) fn store(
    bytes: Option<usize>,
    spill_dir: Option<PathBuf>,
    patience: Duration,
) -> std::io::Result<Store> {
    let share = || (crate::machine::memory_limit() / STORE_SHARE).min(STORE_MAX);
    let capacity = bytes.map_or_else(share, |bytes| bytes as u64);
    let of_environment = || std::env::var_os("RAYBOLT_SPILL_DIR").map(PathBuf::from);
    let root = spill_dir.or_else(of_environment).unwrap_or_else(std::env::temp_dir);
    let mut options = Options::new(capacity);
    options.spill_dir = Some(root.clone());
    options.patience = patience;
    Store::open(options).map_err(|error| {
        let because = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOMEM) => format!(
                "this process may not map {} MiB of shared memory for the store: ask for less (`object_store_memory`), or raise its limit (`ulimit -v`)",
                capacity >> 20
            ),
            Some(Errno::MFILE | Errno::NFILE | Errno::INVAL) | None => return error,
            Some(_) => format!(
                "a store of {} MiB that spills to {} (`spill_dir`, `RAYBOLT_SPILL_DIR`) cannot be made",
                capacity >> 20,
                root.display()
            ),
        };
        std::io::Error::new(error.kind(), format!("{because}: {error}"))
    })
}

/// Who takes part in a session on one machine.
pub(crate) fn identity(secret: &Secret) -> Identity {
    Identity {
        secret: secret.clone(),
        session: SessionId(0),
        node: NodeId(0),
        epoch: Epoch(0),
        features: 0,
    }
}

fn farewell(because: &str) -> ! {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "a worker of raybolt does not reach its driver: {because}");
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read() {
        assert_eq!(bytes_in("123"), Some(123));
        assert_eq!(bytes_in("512MiB"), Some(512 << 20));
        assert_eq!(bytes_in("4 GiB"), Some(4 << 30));
        assert_eq!(["", "GiB", "4GB", "-1", "99999999999GiB"].map(bytes_in), [None; 5]);
    }

    #[test]
    fn an_invitation_is_read_as_it_was_written() {
        let invitation = Invitation {
            process: ProcessId(3),
            threads: 2,
            driver: 4711,
            blackbox: Some(9),
            session: "/run/a:b/session-1-1".into(),
        };
        assert_eq!(invitation.to_string().parse(), Ok(invitation.clone()));
        let without = Invitation { blackbox: None, ..invitation };
        assert_eq!(without.to_string().parse(), Ok(without));
        for text in ["", "1", "1:2:3:4", "a:2:3:4:/x", "1:2:-3:4:/x"] {
            assert_eq!(text.parse::<Invitation>(), Err(()), "{text}");
        }
    }
}
