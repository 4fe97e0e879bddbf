//! How arguments of calls become bytes: where they become ready, unless they have to wait for room in the store.
//!
//! That may be on the thread that reads the links, which must not wait for what only the links can bring
//! (REMOTE-3). What would wait is *late*: a thread of the pool packs it, while the call keeps its place in the
//! actor's queue as one whose arguments are not there.

use std::sync::Arc;

use raybolt_core::calls::owner::TaskKey;
use raybolt_core::calls::queue::CallerId;

use crate::actor::AnyActor;
use crate::awaited::on_behalf_of;
use crate::error::{Kind, Result};
use crate::pool::Runnable;
use crate::processes::remote_actor::Remote;
use crate::processes::remote_call::RemoteCall;
use crate::processes::shelf;

impl Remote {
    /// A call was made whose arguments are there. They are packed without keeping this thread.
    pub(crate) fn submitted_unpacked(
        self: &Arc<Self>,
        caller: CallerId,
        task: TaskKey,
        call: Arc<dyn RemoteCall>,
    ) -> Result<()> {
        match patiently(false, || call.pack()) {
            Ok(()) => self.submitted(caller, task, call, true),
            Err(error) if matches!(error.kind(), Kind::WouldWait) => {
                self.submitted(caller, task, call.clone(), false)?;
                self.lock().unready.remove(&task); // Nobody else makes it ready.
                let late = Late { actor: self.clone(), call: Some((task, call)) };
                self.session.pool.schedule(Arc::new(late));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The arguments of a call are there.
    pub(super) fn call_ready(self: &Arc<Self>, task: TaskKey) {
        let call = self.lock().unready.remove(&task);
        if let Some(call) = call {
            self.pack_call(task, call, false);
        }
    }

    /// Packs a call, which goes on then.
    fn pack_call(self: &Arc<Self>, task: TaskKey, call: Arc<dyn RemoteCall>, may_wait: bool) {
        let pack = || on_behalf_of(task, || call.pack());
        match patiently(may_wait, pack) {
            Ok(()) => {
                let mut core = self.lock();
                core.calls.argument_ready(task);
                self.go_on(core);
            }
            Err(error) if matches!(error.kind(), Kind::WouldWait) => {
                let late = Late { actor: self.clone(), call: Some((task, call)) };
                self.session.pool.schedule(Arc::new(late));
            }
            Err(error) => self.clone().cancel(task, Some(error)),
        }
    }
}

/// What is packed by a thread of the pool.
pub(super) struct Late {
    pub(super) actor: Arc<Remote>,
    /// A call, or else the constructor.
    pub(super) call: Option<(TaskKey, Arc<dyn RemoteCall>)>,
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
pub(super) fn patiently<R>(may_wait: bool, pack: impl FnOnce() -> R) -> R {
    if may_wait { pack() } else { shelf::without_waiting(pack) }
}
