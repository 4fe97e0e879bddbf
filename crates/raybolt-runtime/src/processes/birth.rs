//! What a worker does before `main`: it makes sure that it does not outlive its driver, and keeps its
//! invitation to itself.
//!
//! From its door on a worker sees its driver's death as the end of its link. Before, whatever the program
//! does first may block for ever, and nothing of ours runs; so the kernel is asked to end the process with
//! its driver, before any code of the user's runs. This is also the one moment at which the process has a
//! single thread, and a variable can be taken out of its environment: what the worker starts shall not
//! take itself for a worker.
//!
//! # Invariants
//! - **BIRTH-1 (little).** Nothing here allocates much, waits, prints or panics; in a process that is no
//!   worker it looks for a variable and does nothing else.

use std::sync::OnceLock;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::processes::start::{Invitation, WORKER};

static INVITATION: OnceLock<Invitation> = OnceLock::new();

/// The loader calls what is listed in this section before `main`.
// SAFETY: the section holds pointers to functions of this type; this one keeps to what is allowed there.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    let Some(invitation) = Invitation::in_environment() else { return };
    // SAFETY: before `main` there is one thread, which is here; libraries that start threads from their
    // own beginnings would read the environment at their own risk.
    unsafe { std::env::remove_var(WORKER) };
    let parent = getppid().map(|pid| pid.as_raw_pid().cast_unsigned());
    // The keeper's thread has started us, and ends after us unless its process does. If that ended a
    // moment ago it is not our parent any more, and whoever looks at the invitation will see.
    if parent == Some(invitation.driver) {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
    let _ = INVITATION.set(invitation);
}

/// The invitation with which this process was started.
pub(crate) fn invitation() -> Option<Invitation> {
    INVITATION.get().cloned()
}

/// From now on the worker itself sees to it that it ends with its driver, and tidies up. One that somebody has
/// stopped (`SIGSTOP`) could not: the kernel is asked to let it go on then. To any other that means nothing.
pub(crate) fn grown_up() {
    let _ = set_parent_process_death_signal(Some(Signal::CONT));
}
