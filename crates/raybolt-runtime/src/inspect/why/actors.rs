//! What actors wait for, and calls in their queues.

use raybolt_core::calls::owner::{ActorKey, TaskKey};
use raybolt_core::calls::queue::Place;

use super::process::worker_of;
use super::{Cause, Walk};
use crate::actor::{ActorState, CallView, RunningCall};
use crate::awaited::Wait;
use crate::context::caller_of_actor;
use crate::ids::Id;
use crate::inspect::text::plural;

impl Walk<'_> {
    /// A call that has not ended.
    pub(super) fn call(&mut self, key: TaskKey, actor: ActorKey, depth: usize) {
        let (who, id) = (self.named(key), Some(Id::Task(key)));
        let Some(handle) = self.hub.actor(actor) else {
            let text = format!("{who}: its actor is gone");
            return self.step(depth, Cause::Ended, id, text);
        };
        let name = format!("{} `{}`", Id::Actor(actor), handle.name());
        let running = self.running_calls(actor, handle.view().running);
        if self.node.is_some()
            && let Some(call) = running.iter().find(|call| call.task == key)
        {
            return self.running(key, Some(*call), depth);
        }
        let (place, needs_all) = match handle.call(key) {
            Some(CallView::Running(call)) => return self.running(key, Some(call), depth),
            Some(CallView::Waiting { place, needs_all, .. }) => (place, needs_all),
            None => {
                let text = format!("{who} of {name} is starting or ending");
                return self.step(depth, Cause::Running, id, text);
            }
        };
        let view = handle.view();
        match place {
            Place::Held { by } if by != key => {
                let text = format!(
                    "{who} of {name} waits behind {} of the same caller: calls keep their order",
                    self.named(by)
                );
                self.step(depth, Cause::CallerOrder, id, text);
                self.sure(true);
                self.task(by, depth + 1);
            }
            Place::InLine { .. } | Place::Held { .. } if view.state != ActorState::Alive => {
                let text = format!("{who} waits for {name}, which takes no calls yet");
                self.step(depth, Cause::ActorQueue, id, text);
                self.sure(true);
                self.actor(actor, depth + 1);
            }
            Place::InLine { ahead } => {
                // A driver does not know which of those that it has sent have begun.
                let ahead = match self.node {
                    Some(_) => ahead.saturating_sub(running.len()),
                    None => ahead,
                };
                let text = format!(
                    "{who} waits in the queue of {name}: {} before it, {} running",
                    plural(ahead, "is", "are", "call", "calls"),
                    running.len(),
                );
                self.step(depth, Cause::ActorQueue, id, text);
                self.sure(needs_all);
                if let Some(first) = self.most_telling(&running) {
                    self.task(first, depth + 1);
                }
            }
            Place::Held { .. } => {
                self.step(
                    depth,
                    Cause::ActorQueue,
                    id,
                    format!("{who} of {name} is about to start"),
                );
            }
        }
    }

    /// Of the calls that run: one that closes a circle, else one that waits, else the oldest.
    fn most_telling(&self, running: &[RunningCall]) -> Option<TaskKey> {
        let rank = |call: &&RunningCall| {
            let closes = self.path.iter().any(|(task, _)| *task == call.task);
            let waits = self.waits.iter().any(|wait| wait.task == Some(call.task));
            (!closes, !waits, call.since_ms)
        };
        running.iter().min_by_key(rank).map(|call| call.task)
    }

    pub(super) fn actor(&mut self, key: ActorKey, depth: usize) {
        let Some(actor) = self.hub.actor(key) else { return };
        let (view, id) = (actor.view(), Some(Id::Actor(key)));
        let name = format!("{} `{}`", Id::Actor(key), actor.name());
        match view.state {
            ActorState::Placing => {
                let class = self.hub.placing_class(key);
                if !class.is_some_and(|class| self.lacks(&name, id, class, depth)) {
                    let text = format!("{name} waits for its turn to get its resources");
                    self.step(depth, Cause::Turn, id, text);
                }
            }
            ActorState::Placed => {
                let home = match self.hub.fleet.home_to_come(key) {
                    Some(kind) => format!("{} to start", worker_of(kind)),
                    None => "a thread to run its constructor".to_owned(),
                };
                self.step(depth, Cause::Worker, id, format!("{name} waits for {home}"));
            }
            ActorState::Creating => self.creating(key, &name, depth),
            ActorState::Alive => match self.most_telling(&view.running) {
                Some(call) => {
                    let text = format!(
                        "{name} is alive: {} running, {} waiting",
                        view.running.len(),
                        view.waiting
                    );
                    self.step(depth, Cause::ActorQueue, id, text);
                    self.task(call, depth + 1);
                }
                None => {
                    let text = format!(
                        "{name} is alive and has no call to run; {} wait for arguments",
                        view.waiting
                    );
                    self.step(depth, Cause::Idle, id, text);
                }
            },
            ActorState::Dead(because) => {
                self.step(depth, Cause::Ended, id, format!("{name} is gone: {because}"));
            }
        }
    }

    /// Its constructor has not ended.
    pub(super) fn creating(&mut self, key: ActorKey, name: &str, depth: usize) {
        let id = Some(Id::Actor(key));
        let constructs = |wait: &&Wait| wait.actor == Some(key) && wait.task.is_none();
        if let Some(wait) = self.waits.iter().find(constructs).cloned() {
            let since = self.since(wait.since_ms);
            self.step(
                depth,
                Cause::Creating,
                id,
                format!("the constructor of {name} has not ended"),
            );
            return self.wait(&wait, "it", &since, depth + 1);
        }
        let caller = caller_of_actor(key);
        let work = self.works.iter().find(|work| work.caller == caller).cloned();
        let on = work.map_or_else(String::new, |work| {
            format!(", on thread {}{}", work.thread, self.since(work.since_ms))
        });
        let text = format!("the constructor of {name} is running{on}");
        self.step(depth, Cause::Creating, id, text);
    }
}
