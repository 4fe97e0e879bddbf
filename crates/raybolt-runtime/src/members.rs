//! Who is in which placement group, so that its removal reaches them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use raybolt_core::calls::owner::{Attempt, ClassId, Owner, Target, TaskKey};
use raybolt_core::calls::scheduler::{GroupKey, Scheduler};

use crate::actor::AnyActor;
use crate::error::Error;
use crate::hub::Hub;
use crate::job::Job;
use crate::object::AnyObject;
use crate::session::Session;

/// The objects that one task makes.
type Places = Vec<Weak<dyn AnyObject>>;

/// How many members a group's list has before those that have gone are looked for.
const PRUNE_MIN: usize = 64;
/// How many classes of removed groups are kept before it is looked which of them are free again.
const OVER_MIN: usize = 256;

/// The members of all groups.
#[derive(Default)]
pub(crate) struct Groups {
    members: BTreeMap<GroupKey, Members>,
    /// Classes of removed groups whose ids may still be in use, and the names of these groups.
    over: Vec<(ClassId, Arc<str>)>,
}

/// The tasks and actors of one group.
#[derive(Default)]
pub(crate) struct Members {
    tasks: Vec<Places>,
    actors: Vec<Weak<dyn AnyActor>>,
    /// At so many tasks, those that have gone are forgotten.
    prune_at: usize,
}

/// Who is to be told that a group was removed.
pub(crate) struct Removed {
    members: Members,
    /// Tasks that were queued: taken out at once, or a lease that is still out would find them.
    queued: Vec<(TaskKey, Attempt, Box<dyn Job>)>,
    /// Actors that waited for their resources.
    placing: Vec<Arc<dyn AnyActor>>,
}

impl Groups {
    /// A task was submitted to a group.
    pub(crate) fn enlist(&mut self, group: GroupKey, places: Places) {
        let members = self.members.entry(group).or_default();
        if members.tasks.len() >= members.prune_at.max(PRUNE_MIN) {
            let lives = |places: &Places| places.iter().any(|place| place.strong_count() > 0);
            members.tasks.retain(lives);
            members.prune_at = 2 * members.tasks.len();
        }
        members.tasks.push(places);
    }

    /// An actor was made in a group.
    pub(crate) fn enlist_actor(&mut self, group: GroupKey, actor: Weak<dyn AnyActor>) {
        let members = self.members.entry(group).or_default();
        members.actors.retain(|actor| actor.strong_count() > 0);
        members.actors.push(actor);
    }

    /// The name of the removed group that a class belonged to.
    pub(crate) fn name_of_removed(&self, class: ClassId) -> &str {
        self.over.iter().find(|(over, _)| *over == class).map_or("", |(_, name)| name)
    }

    /// Lets go of the ids of classes whose group was removed, now and then: so that a program may make and
    /// remove groups for ever.
    fn release_classes(&mut self, scheduler: &mut Scheduler, owner: &Owner<Box<dyn Job>>) {
        let many = OVER_MIN.max(owner.counts().tasks / 16);
        if self.over.len() < many {
            return;
        }
        let used: BTreeSet<ClassId> = owner
            .tasks()
            .filter_map(|task| match task.target {
                Target::Class(class) => Some(class),
                Target::Actor(_) => None,
            })
            .collect();
        self.over.retain(|(class, _)| used.contains(class) || !scheduler.release(*class));
    }
}

impl Hub {
    fn remove_group(&mut self, key: GroupKey, name: &Arc<str>) -> Option<Removed> {
        let classes = self.scheduler.remove_group(key)?;
        let members = self.groups.members.remove(&key).unwrap_or_default();
        let mut queued = Vec::new();
        for class in &classes {
            queued.extend(std::iter::from_fn(|| self.owner.lend(*class)));
        }
        let placing = classes.iter().flat_map(|class| self.stop_placing_of(*class)).collect();
        self.groups.over.extend(classes.into_iter().map(|class| (class, name.clone())));
        self.groups.release_classes(&mut self.scheduler, &self.owner);
        Some(Removed { members, queued, placing })
    }
}

impl Session {
    /// Removes a group and tells its members.
    pub(crate) fn remove_group(self: &Arc<Self>, key: GroupKey, name: &Arc<str>) {
        let Some(removed) = self.act(|hub| hub.remove_group(key, name)) else { return };
        for (task, attempt, job) in removed.queued {
            let error = Error::group_removed(job.name(), name);
            job.fail(Some(error));
            self.act(|hub| hub.owner.finished(task, attempt, false));
        }
        for places in removed.members.tasks {
            let places: Vec<_> = places.iter().filter_map(Weak::upgrade).collect();
            let Some(first) = places.first() else { continue };
            let task = self.lock().task_name(first.key());
            let error = Error::group_removed(&task, name);
            self.cancel(first.key(), &error, false, || {
                for place in &places {
                    place.fail(error.clone());
                }
            });
        }
        let because = format!("its placement group `{name}` was removed");
        for actor in removed.members.actors.iter().filter_map(Weak::upgrade) {
            actor.kill(&because);
        }
        drop(removed.placing);
        self.names.forget_dead();
    }
}
