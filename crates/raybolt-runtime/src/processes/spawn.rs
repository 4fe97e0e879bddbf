//! One worker process, from its start to its end, as the system shows it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use raybolt_core::ids::ProcessId;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::processes::blackbox::BlackBox;
use crate::processes::start::{Invitation, WORKER};

/// A child of ours that is, or becomes, a worker.
pub(crate) struct Spawned {
    child: Child,
    /// Readable when the process has ended.
    pidfd: OwnedFd,
    /// Absent if the system has none to give: then it is guessed what a dead worker ran.
    pub(crate) blackbox: Option<BlackBox>,
}

/// What a worker is started with.
pub(crate) struct Start<'a> {
    pub(crate) process: ProcessId,
    pub(crate) session: &'a Path,
    /// How many threads run its tasks.
    pub(crate) threads: usize,
    /// Variables beside those of the driver.
    pub(crate) variables: &'a [(String, String)],
}

impl Spawned {
    /// Starts this program again, with the same arguments.
    pub(crate) fn start(start: &Start<'_>) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        let blackbox = BlackBox::create().ok();
        let invitation = Invitation {
            process: start.process,
            threads: start.threads,
            driver: std::process::id(),
            blackbox: blackbox.as_ref().and_then(BlackBox::descriptor),
            session: start.session.to_owned(),
        };
        let mut command = Command::new(program()?);
        let mut arguments = std::env::args_os();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments);
        command.envs(start.variables.iter().map(|(name, value)| (name, value)));
        command.env(WORKER, invitation.to_string());
        // What a terminal says to its foreground (Ctrl-C) is the driver's to heed; workers end with it, and
        // tidy up.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pidfd = Pid::from_raw(child.id().cast_signed())
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
        let pidfd = pidfd.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = out.zip(err).ok_or_else(|| io::Error::other("it has no pipes"))?;
        Ok((Spawned { child, pidfd, blackbox }, out, err))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has; then it is gone from the system too.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    pub(crate) fn kill(&self) {
        // It may have ended; by this handle no other process is met.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl AsFd for Spawned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// This program's file. By its name if that still leads to it, for lists of processes show the name.
fn program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    let id = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let named = std::env::current_exe()?;
    let is_same = id(&named).is_ok_and(|found| id(&running).is_ok_and(|own| own == found));
    Ok(if is_same { named } else { running })
}

/// How a process ended, in words.
pub(crate) fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(number)) => match signal_name(number) {
            Some(name) => format!("it was killed by signal {number} ({name})"),
            None => format!("it was killed by signal {number}"),
        },
        (None, None) => format!("it ended: {status}"),
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_has_words() {
        let words = |raw| words(ExitStatus::from_raw(raw));
        assert_eq!(words(3 << 8), "it exited with code 3");
        assert_eq!(words(11), "it was killed by signal 11 (SIGSEGV)");
        assert_eq!(words(6 | 0x80), "it was killed by signal 6 (SIGABRT)");
        assert_eq!(words(40), "it was killed by signal 40");
    }
}
