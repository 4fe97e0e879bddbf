//! Which resource is missing, and who holds it.

use raybolt_core::calls::owner::{ActorKey, ClassId};
use raybolt_core::calls::scheduler::{GroupKey, GroupState, GroupView, LeaseView, display_amount};
use slotmap::Key;

use super::{Cause, HOLDERS_MAX, Walk};
use crate::awaited::Wait;
use crate::hub::Hub;
use crate::ids::Id;

/// What a placement group that waits lacks, in words.
pub(in crate::inspect) fn group_lacks(hub: &Hub, key: GroupKey) -> String {
    let lack = hub.scheduler.group_lacking(key);
    lack.map_or_else(|| "waits for its turn".into(), |lack| needs(hub, lack))
}

/// `needs CPU: 2 (1 of 4 free)`
fn needs(hub: &Hub, (resource, needed, available): (&str, i64, i64)) -> String {
    let total = hub.scheduler.resources().find(|known| known.0 == resource);
    format!(
        "needs {resource}: {} ({} of {} free)",
        display_amount(resource, needed),
        display_amount(resource, available.max(0)),
        display_amount(resource, total.map_or(0, |known| known.1)),
    )
}

fn group_name(view: &GroupView<'_>) -> String {
    let id = Id::Group(view.key);
    if view.name.is_empty() { id.to_string() } else { format!("{id} `{}`", view.name) }
}

impl Walk<'_> {
    /// Says which resource is missing for a class, and who holds it; false if none is.
    pub(super) fn lacks(
        &mut self,
        who: &str,
        id: Option<Id>,
        class: ClassId,
        depth: usize,
    ) -> bool {
        let scheduler = &self.hub.scheduler;
        let group = scheduler.within(class).group();
        let view = group.and_then(|key| scheduler.group_view(key));
        if let Some(view) = view.filter(|view| view.state == GroupState::Pending) {
            let text = format!("{who} waits for its placement group {}", group_name(&view));
            self.step(depth, Cause::Resource, id, text);
            self.group(view.key, depth + 1);
            return true;
        }
        let Some((resource, needed, available)) = scheduler.lacking(class) else { return false };
        let text = match group {
            None => needs(self.hub, (resource, needed, available)),
            Some(_) => format!(
                "needs {resource}: {} (its bundle has {} free)",
                display_amount(resource, needed),
                display_amount(resource, available.max(0)),
            ),
        };
        self.step(depth, Cause::Resource, id, format!("{who} {text}"));
        self.holders(resource, group, depth + 1);
        true
    }

    /// Who holds a resource, in a placement group or outside of all.
    fn holders(&mut self, resource: &str, within: Option<GroupKey>, depth: usize) {
        let scheduler = &self.hub.scheduler;
        let is_there = |lease: &LeaseView| lease.bundle.map(|(group, _)| group) == within;
        let leases: Vec<_> =
            scheduler.holders(resource).filter(|(lease, _)| is_there(lease)).collect();
        let groups = scheduler.group_holders(resource).filter(|_| within.is_none());
        let groups: Vec<_> = groups.collect();
        for (lease, units) in leases.iter().take(HOLDERS_MAX) {
            let what = format!("{resource}: {}", display_amount(resource, *units));
            self.holder(*lease, &what, depth);
        }
        for (key, units) in groups.iter().take(HOLDERS_MAX.saturating_sub(leases.len())) {
            let Some(view) = scheduler.group_view(*key) else { continue };
            let units = display_amount(resource, *units);
            let text = format!("placement group {} holds {resource}: {units}", group_name(&view));
            self.step(depth, Cause::Holder, Some(Id::Group(*key)), text);
        }
        let more = (leases.len() + groups.len()).saturating_sub(HOLDERS_MAX);
        if more > 0 {
            let text = format!("and {more} more hold {resource}");
            self.step(depth, Cause::Holder, None, text);
        }
    }

    /// What a placement group waits for.
    pub(super) fn group(&mut self, key: GroupKey, depth: usize) {
        let scheduler = &self.hub.scheduler;
        let Some(view) = scheduler.group_view(key) else { return };
        let (name, id) = (format!("placement group {}", group_name(&view)), Some(Id::Group(key)));
        match (view.state, scheduler.group_lacking(key)) {
            (GroupState::Ready, _) => {
                self.step(depth, Cause::Ended, id, format!("{name} is ready"));
            }
            (GroupState::Never(why), _) => {
                let text = format!("{name} can never be placed: it {why}");
                self.step(depth, Cause::Resource, id, text);
            }
            (GroupState::Pending, Some(lack)) => {
                self.step(depth, Cause::Resource, id, format!("{name} {}", needs(self.hub, lack)));
                self.holders(lack.0, None, depth + 1);
            }
            (GroupState::Pending, None) => {
                self.step(depth, Cause::Turn, id, format!("{name} waits for its turn"));
            }
        }
    }

    /// Who holds a lease, and what it does meanwhile.
    fn holder(&mut self, lease: LeaseView, what: &str, depth: usize) {
        let work = self.works.iter().find(|work| work.lease == Some(lease.key)).cloned();
        if let Some(work) = work.filter(|work| !work.task.is_null()) {
            let (who, since) = (self.named(work.task), self.since(work.since_ms));
            let sleeps = |wait: &Wait| wait.task == Some(work.task) && !wait.is_future;
            let waits = self.waits.iter().any(sleeps);
            let runs = if waits || work.above.is_some() { "waits" } else { "runs" };
            let text = format!("{who} holds {what}, and {runs} on thread {}{since}", work.thread);
            self.step(depth, Cause::Holder, Some(Id::Task(work.task)), text);
            if (waits || work.above.is_some())
                && !self.path.iter().any(|(task, _)| *task == work.task)
            {
                self.task(work.task, depth + 1);
            }
            return;
        }
        let name = self.hub.scheduler.class_name(lease.class);
        let of_actor = |actor: &ActorKey| {
            let actor = self.hub.actor(*actor);
            actor.is_some_and(|actor| actor.view().lease == Some(lease.key))
        };
        let actor = name.starts_with("actor ").then(|| self.hub.actors.keys().find(of_actor));
        if let Some(Some(key)) = actor {
            let name = self.hub.actor(key).map(|actor| actor.name().to_owned()).unwrap_or_default();
            let text = format!("{} `{name}` holds {what} as long as it lives", Id::Actor(key));
            return self.step(depth, Cause::Holder, Some(Id::Actor(key)), text);
        }
        let state = match (lease.started, self.kind_to_come(lease.class)) {
            (true, _) => "between two tasks, or async".to_owned(),
            (false, Some(kind)) => format!("waiting for {kind} to start"),
            (false, None) => "about to start".to_owned(),
        };
        self.step(depth, Cause::Holder, None, format!("`{name}` holds {what}, {state}"));
    }
}
