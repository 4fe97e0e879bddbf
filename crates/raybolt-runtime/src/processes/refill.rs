//! What leases have at their workers: taken from the hub, one visit for many tasks.

use raybolt_core::calls::fleet::Assigned;
use raybolt_core::calls::kinds::WorkerKind;
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_core::ids::ProcessId;

use crate::hub::Hub;
use crate::processes::push::Push;

impl Hub {
    /// Something waits for a worker of this kind: says so if somebody has to start one, and who is to end
    /// for it. Shared ones are always kept.
    pub(crate) fn want(&mut self, kind: WorkerKind) -> Option<(WorkerKind, Vec<ProcessId>)> {
        let superseded = self.fleet.superseded(&kind);
        (kind != WorkerKind::Shared).then_some((kind, superseded))
    }

    /// The task that runs under a lease waits. Its CPU is free as soon as nothing else runs on it.
    pub(super) fn blocked(&mut self, lease: LeaseKey) {
        if self.fleet.blocked(lease) {
            self.scheduler.blocked(lease);
        }
    }

    pub(super) fn unblocked(&mut self, lease: LeaseKey) {
        if self.fleet.unblocked(lease) {
            self.scheduler.unblocked(lease);
        }
    }

    /// Takes as many tasks for a lease as there is room for; gives the lease back if nothing is left.
    pub(super) fn refill(&mut self, assigned: Assigned, now_us: u64, pushes: &mut Vec<Push>) {
        let Assigned { lease, class, process } = assigned;
        // One that has to make room for others drains, and is given back.
        let yields = self.fleet.slice_is_over(lease, now_us) && self.scheduler.must_yield(lease);
        while !yields && {
            let (queued, starting) = (self.owner.queued(class), self.scheduler.starting(class));
            self.fleet.takes_one(lease, queued, starting)
        } {
            let Some(work) = self.lend(lease, class) else { break };
            self.fleet.pushed(lease, now_us);
            pushes.push(Push { lease, class, process, work });
        }
        if self.fleet.is_idle(lease) {
            self.fleet.returned(lease);
            self.give_back(lease, class);
        }
    }
}
