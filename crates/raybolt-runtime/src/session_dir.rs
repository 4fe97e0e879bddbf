//! The directory of a session: where its socket, its secret and its logs lie, and how others find it.
//!
//! # Words
//! The *root* is `${XDG_RUNTIME_DIR or the temporary directory}/raybolt-<uid>`; each session that can be
//! reached from outside has a directory in it, `session-<pid>-<n>`. One is *live* while its driver holds
//! the lock on its file `lock`, and *stale* when nobody does: its driver was killed.
//!
//! ```text
//! raybolt-1000/                 0700
//!   lock                        held while a directory is made or removed
//!   session-4711-1/             0700
//!     lock                      held by the driver as long as it lives
//!     secret                    0600: 32 random bytes in hex
//!     program                   the driver's executable, for lists
//!     node.sock                 workers and watchers knock here
//!     logs/                     worker-<process>.{out,err}
//! ```
//!
//! # Protocol
//! 1. A driver that wants to be reached calls [`SessionDir::create`], which first removes what is stale. If
//!    `XDG_RUNTIME_DIR` is set and of no use that is [said](warn_if_elsewhere); if it is not set, the temporary
//!    directory is as good.
//! 2. Workers and watchers read the secret ([`secret_of`]) and knock. [`sessions`] lists the live ones.
//! 3. Dropping the [`SessionDir`] removes the directory. When a driver was killed its workers call
//!    [`remove_stale`]; if there are none, the next session does it.
//!
//! # Invariants
//! - **DIR-1 (private).** Root and directories belong to this user, and no other user may enter them. A
//!   root that someone else has made is refused.
//! - **DIR-2 (held).** A directory whose lock is held is never removed but by its driver. The kernel lets
//!   the lock go with the driver, whatever it dies of.
//! - **DIR-3 (not removed young).** Directories are made and swept under the root's lock, so that none
//!   is taken for stale before its own lock is held.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use raybolt_wire::secret::{Secret, SecretError};

/// How long the address of a socket may be, on the strictest system we know.
const SOCKET_PATH_MAX: usize = 100;
/// How long the root's lock is waited for; it is held for as long as it takes to remove some files.
const ROOT_LOCK_TIME: Duration = Duration::from_secs(5);
/// How long a lock outlives the links of a process that dies, most often: its files are closed one by one.
pub(crate) const DEATH_TIME: Duration = Duration::from_secs(1);
/// Between two looks at a lock that another process holds.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

const LOCK: &str = "lock";
const SECRET: &str = "secret";
const PROGRAM: &str = "program";
const SOCKET: &str = "node.sock";
const LOGS: &str = "logs";
const PREFIX: &str = "session-";

/// A session's directory, in the hands of its driver; removed when dropped.
#[derive(Debug)]
pub struct SessionDir {
    path: PathBuf,
    secret: Secret,
    /// A process that was forked off this one leaves the directory alone.
    pid: u32,
    /// Its lock goes last, with the file.
    _lock: File,
}

/// A live session, as others find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its directory.
    pub path: PathBuf,
    /// Its driver's process id.
    pub pid: u32,
    /// Its driver's executable, by name.
    pub program: String,
    /// When it began.
    pub started: SystemTime,
}

/// Why a session has no directory, or why one cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A session cannot have its directory there.
    #[error(
        "no session can have its directory in {path}: {error}: set `XDG_RUNTIME_DIR` to a directory in which you may make some"
    )]
    Unusable {
        /// Where.
        path: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Someone else could get at what lies there.
    #[error(
        "{path} {because}: remove it, or set `XDG_RUNTIME_DIR` to a directory that is yours alone"
    )]
    NotPrivate {
        /// Which directory or file.
        path: String,
        /// What is wrong with it.
        because: &'static str,
    },
    /// Sockets have short addresses.
    #[error(
        "{path} is longer than the {SOCKET_PATH_MAX} bytes that the address of a socket may have: set `XDG_RUNTIME_DIR` to a shorter path"
    )]
    TooLong {
        /// The address.
        path: String,
    },
    /// Another process holds the root's lock and does not let it go.
    #[error(
        "another process holds {path} since more than {ROOT_LOCK_TIME:?}: is one stopped in its start?"
    )]
    Busy {
        /// The lock.
        path: String,
    },
    /// The secret is not one, or not this user's alone.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

type Result<T> = std::result::Result<T, Error>;

impl SessionDir {
    /// Makes the directory of a new session, and removes those of sessions whose driver is gone.
    ///
    /// # Errors
    /// When the root is not this user's alone, or the system refuses.
    pub fn create() -> Result<Self> {
        let root = root();
        Self::create_in(&root).map_err(|error| match error {
            Error::Io { error, .. } => Error::Unusable { path: display(&root), error },
            other => other,
        })
    }

    fn create_in(root: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        make_private(root)?;
        let _held = lock_root(root)?;
        sweep(root)?;
        let pid = std::process::id();
        let path = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("{PREFIX}{pid}-{number}"));
            if socket_of(&path).as_os_str().len() > SOCKET_PATH_MAX {
                return Err(Error::TooLong { path: display(&socket_of(&path)) });
            }
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => break path,
                // In the hands of a process of another pid namespace that shares the root.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(&path)(error)),
            }
        };
        Self::fill(&path, pid).inspect_err(|_| drop(fs::remove_dir_all(&path)))
    }

    fn fill(path: &Path, pid: u32) -> Result<Self> {
        let lock = create_file(&path.join(LOCK))?;
        lock.lock().map_err(at(path))?;
        let secret = Secret::create_file(&path.join(SECRET))?;
        let program = std::env::current_exe().ok();
        let program = program.as_ref().and_then(|path| path.file_name()).unwrap_or_default();
        write(&path.join(PROGRAM), &program.to_string_lossy())?;
        let logs = path.join(LOGS);
        DirBuilder::new().mode(0o700).create(&logs).map_err(at(&logs))?;
        Ok(SessionDir { path: path.to_owned(), secret, pid, _lock: lock })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the session's socket is to be.
    pub fn socket(&self) -> PathBuf {
        socket_of(&self.path)
    }

    /// Where the logs of its workers are to be.
    pub fn logs(&self) -> PathBuf {
        logs_of(&self.path)
    }

    /// What those who knock must know.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl Drop for SessionDir {
    fn drop(&mut self) {
        if self.pid == std::process::id()
            && let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(target: "raybolt", "{} was not removed: {error}", self.path.display());
        }
    }
}

/// The socket of the session with this directory.
pub fn socket_of(path: &Path) -> PathBuf {
    path.join(SOCKET)
}

/// Where the logs of the workers of the session with this directory are.
pub fn logs_of(path: &Path) -> PathBuf {
    path.join(LOGS)
}

/// The secret of the session with this directory.
///
/// # Errors
/// When there is none, or it is not this user's alone.
pub fn secret_of(path: &Path) -> Result<Secret> {
    check_private(path)?;
    Ok(Secret::read_file(&path.join(SECRET))?)
}

/// The live sessions of this user, newest first.
///
/// # Errors
/// When the root is not this user's alone, or the system refuses.
pub fn sessions() -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for root in roots() {
        found.extend(sessions_in(&root)?);
    }
    found.sort_by(|a: &Found, b: &Found| b.started.cmp(&a.started).then(b.path.cmp(&a.path)));
    Ok(found)
}

/// Where the sessions of this user have their directories, for messages.
pub fn root() -> PathBuf {
    roots().swap_remove(0)
}

/// Removes the directory of a session whose driver is gone; says whether it is gone now. For workers
/// whose link to their driver has ended: the driver may be dying, and then is waited for so long.
pub fn remove_stale(path: &Path, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        if !path.exists() || try_remove_stale(path).unwrap_or(false) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOCK_PAUSE); // Without the root's lock: others want to begin meanwhile.
    }
}

fn try_remove_stale(path: &Path) -> Result<bool> {
    let Some(root) = path.parent() else { return Ok(false) };
    let _held = lock_root(root)?;
    let lock = File::open(path.join(LOCK)).map_err(at(path))?;
    Ok(lock.try_lock().is_ok() && fs::remove_dir_all(path).is_ok())
}

/// Where a directory is made, and where else one may lie: a program may have been started without the
/// environment of a login.
fn roots() -> Vec<PathBuf> {
    let name = format!("raybolt-{}", rustix::process::geteuid().as_raw());
    let runtime = runtime_dir().and_then(std::result::Result::ok);
    let mut roots: Vec<_> =
        runtime.into_iter().chain([std::env::temp_dir()]).map(|path| path.join(&name)).collect();
    roots.dedup();
    roots
}

/// The directory that the environment names for what a login's programs share, or why it is of no use.
fn runtime_dir() -> Option<std::result::Result<PathBuf, String>> {
    let named = std::env::var_os("XDG_RUNTIME_DIR").filter(|named| !named.is_empty())?;
    let path = PathBuf::from(named);
    let because = match fs::metadata(&path) {
        _ if !path.is_absolute() => "is no absolute path".to_owned(),
        Ok(metadata) if metadata.is_dir() => return Some(Ok(path)),
        Ok(_) => "is no directory".to_owned(),
        Err(error) => format!("cannot be used ({error})"),
    };
    Some(Err(format!("{} (`XDG_RUNTIME_DIR`) {because}", path.display())))
}

/// Says, once, that sessions have their directories elsewhere than where `XDG_RUNTIME_DIR` asks for. For whoever
/// begins one, as soon as somebody hears it.
pub fn warn_if_elsewhere() {
    static SAID: Once = Once::new();
    if let Some(Err(because)) = runtime_dir() {
        SAID.call_once(|| {
            let root = display(&root());
            tracing::warn!(
                target: "raybolt",
                "{because}: this program's sessions have their directories in {root} instead; make that directory, or unset the variable"
            );
        });
    }
}

fn sessions_in(root: &Path) -> Result<Vec<Found>> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    check_private(root)?;
    Ok(directories(root)?.into_iter().filter_map(found).collect())
}

fn found((path, pid): (PathBuf, u32)) -> Option<Found> {
    let lock = File::open(path.join(LOCK)).ok()?;
    // For a moment a reader holds it too: a sweep then takes the directory for live, and leaves it.
    if !matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let started = fs::metadata(path.join(SECRET)).and_then(|secret| secret.modified()).ok()?;
    let program = fs::read_to_string(path.join(PROGRAM)).unwrap_or_default();
    Some(Found { path, pid, program, started })
}

/// The session directories in `root`, stale or not, with the process ids in their names.
fn directories(root: &Path) -> Result<Vec<(PathBuf, u32)>> {
    let mut directories = Vec::new();
    for entry in fs::read_dir(root).map_err(at(root))? {
        let entry = entry.map_err(at(root))?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        if let Some(pid) = pid.and_then(|(pid, _)| pid.parse().ok()) {
            directories.push((entry.path(), pid));
        }
    }
    Ok(directories)
}

/// Removes what is stale; the root's lock is held.
fn sweep(root: &Path) -> Result<()> {
    for (path, _) in directories(root)? {
        let stale = match File::open(path.join(LOCK)) {
            Ok(lock) => lock.try_lock().is_ok(),
            // DIR-3: its driver died before it had a lock.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if stale && let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(target: "raybolt", "{} was not removed: {error}", path.display());
        }
    }
    Ok(())
}

fn lock_root(root: &Path) -> Result<File> {
    let path = root.join(LOCK);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(at(&path))?;
    match lock_within(&lock, ROOT_LOCK_TIME) {
        Ok(true) => Ok(lock),
        Ok(false) => Err(Error::Busy { path: display(&path) }),
        Err(error) => Err(at(&path)(error)),
    }
}

/// Takes a lock, but does not wait for ever; says whether it has it.
fn lock_within(lock: &File, time: Duration) -> io::Result<bool> {
    let until = Instant::now() + time;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
}

/// DIR-1: the directory is there, and this user's alone.
fn make_private(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(path)(error)),
        _ => check_private(path),
    }
}

fn check_private(path: &Path) -> Result<()> {
    // Not through a link: in a directory that everyone may write to it could lead anywhere.
    let metadata = fs::symlink_metadata(path).map_err(at(path))?;
    let because = if !metadata.is_dir() {
        "is no directory"
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if metadata.mode() & 0o077 != 0 {
        "is open to other users"
    } else {
        return Ok(());
    };
    Err(Error::NotPrivate { path: display(path), because })
}

fn create_file(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))
}

fn write(path: &Path, text: &str) -> Result<()> {
    create_file(path)?.write_all(text.as_bytes()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = display(path);
    move |error| Error::Io { path, error }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A root of its own for each test; removed with it.
    struct Root(PathBuf);

    impl Root {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("raybolt-test-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            Root(path)
        }

        /// What a driver leaves behind that was killed.
        fn stale(&self) -> PathBuf {
            let path = self.0.join(format!("{PREFIX}1-1"));
            fs::create_dir_all(&path).unwrap();
            drop(SessionDir::fill(&path, 0).unwrap()); // Of another process: it stays.
            path
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_session_is_found_while_its_directory_is_held() {
        let root = Root::new();
        let first = SessionDir::create_in(&root.0).unwrap();
        let second = SessionDir::create_in(&root.0).unwrap();
        let found: Vec<_> = sessions_in(&root.0).unwrap();
        let paths: Vec<_> = found.iter().map(|found| &*found.path).collect();
        assert!(paths.contains(&first.path()) && paths.contains(&second.path()), "{paths:?}");
        assert!(found.iter().all(|found| found.pid == std::process::id()));
        assert!(found.iter().all(|found| found.program.starts_with("raybolt_runtime")));
        drop((first, second));
        assert_eq!(sessions_in(&root.0).unwrap(), []);
        assert_eq!(directories(&root.0).unwrap(), []);
    }

    #[test]
    fn what_a_killed_driver_left_is_not_listed_and_goes_with_the_next_session() {
        let root = Root::new();
        let stale = root.stale();
        assert_eq!(sessions_in(&root.0).unwrap(), []);
        assert!(stale.exists());
        let next = SessionDir::create_in(&root.0).unwrap();
        assert!(!stale.exists() && next.path().exists());
    }

    #[test]
    fn a_worker_removes_what_its_driver_left_but_nothing_that_is_held() {
        let root = Root::new();
        let held = SessionDir::create_in(&root.0).unwrap();
        let stale = root.stale();
        let now = Duration::ZERO;
        assert!(remove_stale(&stale, now));
        assert!(!stale.exists());
        assert!(remove_stale(&stale, now), "another worker was faster");
        assert!(!remove_stale(held.path(), now));
        assert!(held.path().exists());
    }

    #[test]
    fn the_secret_is_read_back_by_its_user_alone() {
        let root = Root::new();
        let session = SessionDir::create_in(&root.0).unwrap();
        secret_of(session.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(session.path()), 0o700);
        assert_eq!(mode(&session.path().join(SECRET)), 0o600);
        fs::write(session.path().join(SECRET), "0").unwrap();
        assert!(secret_of(session.path()).is_err());
    }

    #[test]
    fn a_root_that_others_may_enter_is_refused() {
        let root = Root::new();
        fs::set_permissions(&root.0, fs::Permissions::from_mode(0o755)).unwrap();
        let error = SessionDir::create_in(&root.0).unwrap_err().to_string();
        assert!(error.contains("is open to other users: remove it, or set"), "{error}");
        assert!(sessions_in(&root.0).is_err());
        let link = root.0.join("link");
        std::os::unix::fs::symlink(&root.0, &link).unwrap();
        let error = SessionDir::create_in(&link).unwrap_err().to_string();
        assert!(error.contains("is no directory"), "{error}");
    }

    #[test]
    fn an_address_that_no_socket_can_have_is_refused() {
        let root = Root::new();
        let deep = root.0.join("d".repeat(90));
        let error = SessionDir::create_in(&deep).unwrap_err().to_string();
        assert!(error.contains("set `XDG_RUNTIME_DIR` to a shorter path"), "{error}");
        assert_eq!(directories(&deep).unwrap(), []);
    }
}
