//! Finding out, before a thread goes to sleep, that nobody could ever wake it.
//!
//! Tasks and calls that wait for each other in a circle never go on. Whoever is the last to join such a
//! circle is told instead of sleeping: it has entered itself on the list of those who wait before it
//! looks, so of several that join at the same moment one sees the others.
//! Over processes the driver looks ([`circles`](crate::processes::circles)).
//!
//! # Invariants
//! - **CIRCLE-1 (sure).** Only waits without a time limit count, and only calls that cannot start before the
//!   one that waits has ended.
//! - **CIRCLE-2 (cheap).** A look costs a few searches, however many wait: thousands of tasks may each wait
//!   for a child.

use raybolt_core::calls::owner::{ObjectKey, Target, TaskKey};

use crate::actor::CallView;
use crate::awaited::Sleeper;
use crate::context;
use crate::hub::Hub;
use crate::ids::Id;
use crate::session::Session;

/// A circle of more members than this is not found before it is slept in; `why` shows it.
pub(crate) const MEMBERS_MAX: usize = 32;

/// The members of the circle that this sleeper closes by waiting for `object`, if it does.
pub(crate) fn closed_by(
    session: &Session,
    sleeper: &Sleeper<'_>,
    object: ObjectKey,
) -> Option<Vec<String>> {
    let own = context::current()?.task;
    if sleeper.is_alone() && !context::is_nested() {
        return None; // To wait in a circle takes two.
    }
    let hub = session.lock();
    let (mut way, mut next) = (vec![own], object);
    while way.len() < MEMBERS_MAX {
        let task = hub.owner.producer(next)?;
        way.push(task);
        let mut number = sleeper.entry_of(task);
        if number.is_none() {
            let (running, entry) = waits_for(&hub, sleeper, task)?;
            way.push(running);
            number = Some(entry);
        }
        if number == Some(sleeper.number()) {
            way.truncate(way.len() - usize::from(way.last() == Some(&own)));
            return Some(way.iter().map(|task| named(&hub, *task)).collect());
        }
        next = hub.lent.key(sleeper.waits_for_ever(number?)?)?;
    }
    None
}

/// A running call that `task`, which has not started, waits for, and that waits itself.
fn waits_for(hub: &Hub, sleeper: &Sleeper<'_>, task: TaskKey) -> Option<(TaskKey, u64)> {
    let Target::Actor(actor) = hub.owner.task(task)?.target else { return None };
    let actor = hub.actor(actor)?;
    let CallView::Waiting { needs_all: true, .. } = actor.call(task)? else { return None };
    let running = actor.view().running;
    let own = sleeper.number();
    let waiting = running.iter().filter_map(|call| Some((call.task, sleeper.entry_of(call.task)?)));
    waiting.min_by_key(|(_, number)| *number != own)
}

pub(crate) fn named(hub: &Hub, task: TaskKey) -> String {
    format!("{} `{}`", Id::Task(task), hub.name_of(task))
}
