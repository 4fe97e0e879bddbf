//! Arguments of actors that have to wait for the store before they can be sent: not on the thread that found
//! them ready, which may be the one that reads the links.

use std::sync::Arc;

use raybolt_core::calls::owner::TaskKey;

use crate::pool::Runnable;
use crate::processes::remote_actor::Remote;
use crate::processes::remote_call::RemoteCall;
use crate::processes::shelf;

/// What is packed by a thread of the pool.
pub(crate) struct Late {
    pub(crate) actor: Arc<Remote>,
    /// A call, or else the constructor.
    pub(crate) call: Option<(TaskKey, Arc<dyn RemoteCall>)>,
}

impl Runnable for Late {
    fn run(self: Arc<Self>) {
        match &self.call {
            Some((task, call)) => self.actor.pack_call(*task, call.clone(), true),
            None => self.actor.pack_up(true),
        }
    }
}

/// Packs; what would wait for the store fails unless it may.
pub(crate) fn patiently<R>(may_wait: bool, pack: impl FnOnce() -> R) -> R {
    if may_wait { pack() } else { shelf::without_waiting(pack) }
}
