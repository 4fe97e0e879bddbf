//! How an actor comes to a worker, when it is made and whenever it begins anew.
//!
//! # Protocol
//! 1. It may *settle down* when its constructor's arguments are there and it has its lease; one thread sees to
//!    it, and whoever comes meanwhile leaves it to that one.
//! 2. The arguments are *packed up*. That may call the user's code, so it is done under no lock (REMOTE-1).
//! 3. The fleet names a worker. If there is none, whoever brings one begins the actor once more.
//! 4. The actor *moves in*: its constructor is on the link before any of its calls.
//!
//! Between 3 and 4 the worker may be lost, or the actor killed; both are seen there.

use std::sync::Arc;

use raybolt_core::calls::kinds::{self, WorkerKind};
use raybolt_wire::work::{Code, Host, ToWorker};
use slotmap::Key;

use crate::error::{Error, Kind};
use crate::panics;
use crate::processes::parcel;
use crate::processes::remote_actor::Remote;
use crate::processes::remote_actor::packing::{Late, patiently};
use crate::processes::remote_actor::sending::append;
use crate::processes::worker::Worker;

impl Remote {
    /// Gives the actor a place, if it may have one.
    pub(crate) fn settle_down(self: &Arc<Self>) {
        {
            let mut core = self.lock();
            let waits = core.constructor.is_some() || core.awaits_lease;
            if waits || core.is_moving || !core.calls.is_placing() {
                return;
            }
            core.is_moving = true;
        }
        self.pack_up(false);
    }

    /// Packs the constructor's arguments, and finds a place for the actor.
    pub(super) fn pack_up(self: &Arc<Self>, may_wait: bool) {
        let mut args = Vec::new();
        let (packed, needs) = parcel::packing(|| {
            let pack = || patiently(may_wait, || self.construct.pack(&mut args));
            panics::catch(&self.name, 0, pack)
                .map_err(|panicked| Error::new(Kind::Task(*panicked)))?
        });
        let code = match packed.and_then(|()| self.construct.code()) {
            Ok(code) => code,
            Err(error) if matches!(error.kind(), Kind::WouldWait) => {
                let late = Late { actor: self.clone(), call: None };
                return self.session.pool.schedule(Arc::new(late));
            }
            Err(error) => return self.die(&format!("its constructor failed: {error}")),
        };
        loop {
            let (place, wanted) = self.session.act(|hub| {
                let mut core = self.lock();
                let of_lease = |lease| kinds::of_lease(&hub.scheduler, lease);
                let kind = core.lease.map_or(WorkerKind::Shared, of_lease);
                let place = hub.fleet.place_actor_in(kind.clone(), self.key);
                if place.is_none() {
                    core.is_moving = false; // Whoever brings a worker calls again.
                    return (None, hub.want(kind));
                }
                (place, None)
            });
            self.workers().start(wanted);
            let Some(process) = place else { return self.workers().fail_waiting(&self.session) };
            let worker = self.workers().worker(process);
            if worker.is_some_and(|worker| self.move_in(&worker, code, &args, &needs)) {
                return;
            }
            std::thread::yield_now(); // Lost meanwhile: the fleet knows in a moment.
        }
    }

    /// Begins the actor at a worker; says false if that one is lost.
    fn move_in(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        code: Code,
        args: &[u8],
        needs: &parcel::Packed,
    ) -> bool {
        if !worker.take_actor(self) {
            return false;
        }
        let mut core = self.lock();
        core.is_moving = false;
        let Some(incarnation) = core.calls.placed() else {
            drop(core); // Killed meanwhile, and buried.
            worker.forget_actor(self.key);
            self.session.act(|hub| hub.fleet.actor_ended(self.key));
            return true;
        };
        let host = ToWorker::Host(Host {
            actor: self.id(),
            incarnation: incarnation.0,
            code,
            name: self.name.to_string(),
            limits: self.settings.limits.iter().map(|limit| *limit as u64).collect(),
            pending_max: self.settings.pending_max as u64,
            lease: core.lease.map(|lease| lease.data().as_ffi()),
        });
        let mut frame = Vec::new();
        match append(&mut frame, &host, args) {
            Ok(()) => {
                needs.announce(0, &mut frame);
                core.worker = Some(worker.clone());
                core.is_sending = true; // REMOTE-1: calls go behind it.
                drop(core);
                self.lend(needs.clone(), worker);
                worker.link.append(|out| out.extend_from_slice(&frame));
                let mut core = self.lock();
                if core.worker.as_ref().is_some_and(|home| Arc::ptr_eq(home, worker)) {
                    core.is_sending = false;
                    if core.is_told {
                        // It was killed before its worker knew of it.
                        frame.clear();
                        let because = core.because.clone();
                        self.tell_end(&mut core, &mut frame, because.as_deref());
                        worker.link.append(|out| out.extend_from_slice(&frame));
                    }
                    self.go_on(core);
                }
                worker.link.flush();
            }
            Err(because) => {
                drop(core);
                self.die(&format!("its constructor failed: {because}"));
            }
        }
        if worker.is_lost() {
            self.lost(worker, |_| "its worker died".into()); // It may have been too early for us to be told.
        }
        true
    }
}
