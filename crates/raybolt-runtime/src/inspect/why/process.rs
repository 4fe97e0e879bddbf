//! What waits for a worker process, or lies at one.

use raybolt_core::calls::kinds::WorkerKind;
use raybolt_core::calls::owner::{ActorKey, ClassId, Target, TaskKey};
use slotmap::Key;

use super::{Cause, Walk};
use crate::actor::RunningCall;
use crate::awaited::Wait;
use crate::context::caller_of_actor;
use crate::desk::AtWork;
use crate::ids::Id;

/// A worker process of this kind, in words.
pub(super) fn worker_of(kind: &WorkerKind) -> String {
    match kind.gpu_ids() {
        [] => "a worker process".into(),
        [_] => format!("a worker process of GPU {kind}"),
        _ => format!("a worker process of GPUs {kind}"),
    }
}

impl Walk<'_> {
    /// The worker process that a class has its resources for, and that is not there yet.
    pub(super) fn kind_to_come(&self, class: ClassId) -> Option<String> {
        self.node?;
        let fleet = &self.hub.fleet;
        let none_at_all = || fleet.workers().next().is_none().then_some(&WorkerKind::Shared);
        fleet.kind_to_come(class).or_else(none_at_all).map(worker_of)
    }

    /// A call that was sent to the worker process of its actor, and that no thread runs: its actor may be
    /// in its constructor.
    pub(super) fn sent(&mut self, key: TaskKey, who: &str, since: &str, depth: usize) {
        let target = self.hub.owner.task(key).map(|task| task.target);
        let actor = target.and_then(|target| match target {
            Target::Actor(actor) => Some(actor),
            Target::Class(_) => None,
        });
        let caller = actor.map(caller_of_actor);
        let creates = |work: &AtWork| Some(work.caller) == caller && work.task.is_null();
        let waits = |wait: &Wait| wait.actor == actor && wait.task.is_none();
        let id = Some(Id::Task(key));
        match actor.filter(|_| self.works.iter().any(creates) || self.waits.iter().any(waits)) {
            Some(actor) => {
                let name = self.hub.actor(actor).map(|actor| actor.name().to_owned());
                let name = format!("{} `{}`", Id::Actor(actor), name.unwrap_or_default());
                let text = format!("{who} waits for {name}, which takes no calls yet");
                self.step(depth, Cause::ActorQueue, id, text);
                self.creating(actor, &name, depth + 1);
            }
            None => {
                let text = format!(
                    "{who} lies at its actor's worker{since}: it begins, ends or awaits something"
                );
                self.step(depth, Cause::Running, id, text);
            }
        }
    }

    /// A task that was sent to a worker process and has not begun; false if it was not.
    pub(super) fn at_worker(&mut self, key: TaskKey, who: &str, depth: usize) -> bool {
        let Some((process, lease)) = self.node.and_then(|node| node.workers.lies_at(key)) else {
            return false;
        };
        let before = self.works.iter().find(|work| work.lease == Some(lease)).map(|work| work.task);
        let behind = before.map_or_else(
            || "where it begins or ends now".to_owned(),
            |before| format!("behind {}", self.named(before)),
        );
        let text = format!("{who} lies at worker-{process}, {behind}");
        self.step(depth, Cause::Worker, Some(Id::Task(key)), text);
        if let Some(before) = before {
            self.task(before, depth + 1);
        }
        true
    }

    /// The calls of an actor that run: over processes those that a thread there works on, or that wait for
    /// something there; `sent` is what its driver knows of them.
    pub(super) fn running_calls(
        &self,
        actor: ActorKey,
        sent: Vec<RunningCall>,
    ) -> Vec<RunningCall> {
        if self.node.is_none() {
            return sent;
        }
        let waiting = self.waits.iter().filter_map(|wait| Some((wait.task?, wait.since_ms)));
        let working = self.works.iter().map(|work| (work.task, work.since_ms));
        let mut running: Vec<RunningCall> = Vec::new();
        for (task, since_ms) in working.chain(waiting) {
            let target = self.hub.owner.task(task).map(|task| task.target);
            let is_known = running.iter().any(|call| call.task == task);
            if target == Some(Target::Actor(actor)) && !is_known {
                running.push(RunningCall { task, method: "", since_ms });
            }
        }
        if running.is_empty() { sent } else { running }
    }
}
