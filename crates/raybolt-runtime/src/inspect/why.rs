//! Why something does not go on: what it waits for, what that waits for, and so on to the root.
//!
//! # Words
//! A *step* says of one task, object, actor or `get` what it waits for; the next step says the same of
//! that. The *root* is what waits for nothing: code that runs, or something that is missing.
//!
//! # Protocol
//! Who works and who waits is copied first, then the machines are walked under the hub's lock, at most
//! [`STEPS_MAX`] steps. What is told is true of some moment, but not of the same one for all of it.
//!
//! # Invariants
//! - **WHY-1 (ends).** A task is followed once on one way: the second time is a circle, and named so.
//! - **WHY-2 (sure).** A circle is said to be one that never ends only if each of its members waits without a
//!   time limit, and for one other alone.

mod process;
mod store;

use std::fmt;

use raybolt_core::calls::objects::Holders;
use raybolt_core::calls::owner::{ActorKey, ClassId, ObjectKey, Progress, Target, TaskKey};
use raybolt_core::calls::queue::Place;
use raybolt_core::calls::scheduler::{GroupKey, GroupState, GroupView, LeaseView, display_amount};
use serde::{Deserialize, Serialize};
use slotmap::Key;

use self::process::worker_of;
use super::ask::{Ask, of_driver};
use super::local::{self, Everywhere};
use super::text::{Duration, plural};
use crate::actor::{ActorState, CallView, RunningCall};
use crate::awaited::{Wait, What};
use crate::clock::coarse_ms;
use crate::context::caller_of_actor;
use crate::desk::AtWork;
use crate::error::{Error, Kind, Result};
use crate::hub::Hub;
use crate::ids::Id;
use crate::processes::node::Node;
use crate::session::{self, Session};

/// How many steps an answer has at most.
pub const STEPS_MAX: usize = 64;
/// How many steps an error message has room for.
const STEPS_IN_ERRORS: usize = 6;
/// How many holders of a resource are named.
const HOLDERS_MAX: usize = 4;
/// How many of those who wait are explained when nobody in particular is asked for.
const WAITS_MAX: usize = 20;

/// What something waits for, followed to the root.
///
/// Displays as a chain, each step below what waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// What was asked about; nothing in particular if it is missing.
    pub id: Option<String>,
    /// The chain, in order.
    pub steps: Vec<Step>,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// How far it is from what was asked about.
    pub depth: usize,
    /// What kind of wait it is.
    pub cause: Cause,
    /// The task, object, actor or `get` that the step is about, if it has an id.
    pub id: Option<String>,
    /// The step in words.
    pub text: String,
}

/// Why something does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cause {
    /// A thread or a task waits in a `get` or `wait`, or awaits an object.
    Get,
    /// A task waits for arguments.
    Arguments,
    /// A task or an actor waits for a resource that others hold.
    Resource,
    /// Who holds that resource.
    Holder,
    /// A task waits until others have had their turn.
    Turn,
    /// A task waits for a thread or a process that would run it.
    Worker,
    /// A call stands in its actor's queue.
    ActorQueue,
    /// A call waits until an earlier call of its caller has its arguments.
    CallerOrder,
    /// An actor is being made.
    Creating,
    /// A generator waits until its stream is read.
    Stream,
    /// A value waits for room in the store.
    Store,
    /// User code runs.
    Running,
    /// It waits for itself, by way of others.
    Circle,
    /// An actor has nothing to do.
    Idle,
    /// It is there, or has ended: nothing is waited for.
    Ended,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{:indent$}{}", "", step.text, indent = 2 * step.depth)?;
        }
        Ok(())
    }
}

/// What a task (`task-1f`), object, actor or `get` of this process's session waits for; without an id,
/// what all those wait for that wait in a `get`.
///
/// # Errors
/// Without a session, and when nothing has this id, or had it.
pub fn why(id: Option<&str>) -> Result<Why> {
    if let Some(told) = of_driver(|| Ask::Why { id: id.map(str::to_owned) }) {
        return told;
    }
    let Some(text) = id else { return session::with(|session| all(session)) };
    let parsed = text.parse().map_err(|_| {
        Error::new(Kind::Invalid(format!(
            "`{text}` is no id: they look like task-1f, object-2a, actor-5, group-1 or get-7"
        )))
    })?;
    session::with(|session| one(session, parsed))?
}

/// The same of an object, short enough for an error message.
pub(crate) fn because(session: &Session, object: ObjectKey) -> String {
    let steps = walk(session, STEPS_IN_ERRORS, |walk| walk.object(object, 0));
    if steps.is_empty() {
        return "its driver knows what it waits for (`raybolt why`)".into();
    }
    let texts: Vec<_> = steps.iter().map(|step| step.text.as_str()).collect();
    texts.join("; ")
}

/// What a placement group that waits lacks, in words.
pub(super) fn group_lacks(hub: &Hub, key: GroupKey) -> String {
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

fn one(session: &Session, id: Id) -> Result<Why> {
    let steps = walk(session, STEPS_MAX, |walk| match id {
        Id::Task(task) => walk.task(task, 0),
        Id::Object(object) => walk.object(object, 0),
        Id::Named(number) => walk.known(number, 0),
        Id::Actor(actor) => walk.actor(actor, 0),
        Id::Group(group) => walk.group(group, 0),
        Id::Get(number) => walk.get(number, 0),
    });
    match steps.first() {
        None => Err(Error::new(Kind::Invalid(super::unknown(session, id)))),
        Some(_) => Ok(Why { id: Some(id.to_string()), steps }),
    }
}

fn all(session: &Session) -> Why {
    let steps = walk(session, STEPS_MAX, |walk| {
        let numbers: Vec<_> = walk.waits.iter().map(|wait| wait.number).take(WAITS_MAX).collect();
        for number in numbers {
            walk.get(number, 0);
            walk.path.clear();
        }
    });
    Why { id: None, steps }
}

fn walk(session: &Session, steps_max: usize, go: impl FnOnce(&mut Walk<'_>)) -> Vec<Step> {
    let Everywhere { works, waits } = local::everywhere(session);
    let threads = session.pool.threads();
    let now_ms = coarse_ms();
    let node = session.node();
    // Before the hub's lock: the store has one of its own.
    let store = node.filter(|_| waits.iter().any(|wait| wait.what.is_store()));
    let store = store.map(|node| node.shelf.store().room_holders(HOLDERS_MAX));
    let hub = session.lock();
    let (steps, path) = (Vec::new(), Vec::new());
    let mut walk =
        Walk { hub: &hub, node, store, works, waits, threads, now_ms, steps_max, steps, path };
    go(&mut walk);
    walk.steps
}

/// A walk along who waits for whom.
struct Walk<'a> {
    hub: &'a Hub,
    /// Where the tasks are that were lent to other processes.
    node: Option<&'a Node>,
    /// Who has the room of the store, if somebody waits for it.
    store: Option<Holders>,
    works: Vec<AtWork>,
    waits: Vec<Wait>,
    threads: (usize, usize),
    now_ms: u64,
    steps_max: usize,
    steps: Vec<Step>,
    /// The tasks on the way to here, and whether each waits for the next for ever, and for it alone.
    path: Vec<(TaskKey, bool)>,
}

impl Walk<'_> {
    fn get(&mut self, number: u64, depth: usize) {
        let Some(wait) = self.waits.iter().find(|wait| wait.number == number).cloned() else {
            return;
        };
        let since = self.since(wait.since_ms);
        let thread = wait.thread.as_deref().unwrap_or("without a name");
        let who = match wait.task {
            Some(task) if wait.is_future => self.named(task),
            Some(task) => format!("{} on thread {thread}", self.named(task)),
            None if wait.is_future => "a future".into(),
            None => format!("thread {thread}"),
        };
        if let Some(task) = wait.task {
            self.path.push((task, false));
        }
        self.wait(&wait, &format!("{}: {who}", Id::Get(number)), &since, depth);
    }

    /// Says what `who` waits for, and follows it.
    fn wait(&mut self, wait: &Wait, who: &str, since: &str, depth: usize) {
        let id = Some(Id::Get(wait.number));
        match &wait.what {
            What::Object(object) => {
                let waits = if wait.is_future { "awaits" } else { "waits in `get` for" };
                let others = self.others_awaited(wait);
                let text = format!("{who} {waits} {}{others}{since}", Id::object(*object));
                self.step(depth, Cause::Get, id, text);
                self.sure(!wait.is_timed);
                self.known(*object, depth + 1);
            }
            What::Some { wanted, of, first } => {
                let text = format!("{who} waits in `wait` for {wanted} of {of} objects{since}");
                self.step(depth, Cause::Get, id, text);
                self.sure(false);
                let keys = first.iter().filter_map(|object| self.hub.lent.key(*object));
                if let Some(first) = keys.into_iter().find(|object| self.is_pending(*object)) {
                    self.object(first, depth + 1);
                }
            }
            What::Item(object) => {
                let text = format!("{who} waits for the next item of a stream{since}");
                self.step(depth, Cause::Get, id, text);
                self.sure(!wait.is_timed);
                self.known(*object, depth + 1);
            }
            What::Reader(_) => {
                let text = format!(
                    "{who} waits until its stream is read: as many items lie there as `stream_buffer` allows{since}"
                );
                self.step(depth, Cause::Stream, id, text);
            }
            What::Room { .. } | What::Disk { .. } | What::Lending { .. } => {
                self.full_store(&wait.what, who, since, id, depth);
            }
        }
    }

    /// What else the task of a future awaits.
    fn others_awaited(&self, wait: &Wait) -> String {
        let is_its = |other: &&Wait| other.is_future && other.task == wait.task;
        let all = self.waits.iter().filter(is_its).count();
        match wait.task {
            Some(_) if wait.is_future && all > 1 => format!(" and {} more", all - 1),
            _ => String::new(),
        }
    }

    /// An object by the number that all processes know it by.
    fn known(&mut self, number: u64, depth: usize) {
        if let Some(key) = self.hub.lent.key(number) {
            self.object(key, depth);
        }
    }

    fn object(&mut self, key: ObjectKey, depth: usize) {
        let Some(object) = self.hub.owner.object(key) else { return };
        let id = Id::Object(key);
        match (object.is_ready, object.producer) {
            (Some(true), _) => self.step(depth, Cause::Ended, Some(id), format!("{id} is there")),
            (Some(false), _) => {
                let text = format!("{id} is an error: `get` it to see which");
                self.step(depth, Cause::Ended, Some(id), text);
            }
            (None, Some(task)) => self.task(task, depth),
            (None, None) => {
                let text = format!("{id}: its task has ended");
                self.step(depth, Cause::Ended, Some(id), text);
            }
        }
    }

    fn task(&mut self, key: TaskKey, depth: usize) {
        let Some(task) = self.hub.owner.task(key) else { return };
        if self.closes_circle(key, depth) || self.steps.len() >= self.steps_max {
            return;
        }
        let (progress, target) = (task.progress, task.target);
        self.path.push((key, false));
        match (progress, target) {
            (Progress::Waiting(_), _) => self.arguments(key, depth),
            (Progress::Queued, Target::Class(class)) => self.queued(key, class, depth),
            (Progress::Running, Target::Class(_)) => self.running(key, None, depth),
            (_, Target::Actor(actor)) => self.call(key, actor, depth),
        }
        self.path.pop();
    }

    fn arguments(&mut self, key: TaskKey, depth: usize) {
        let Some(task) = self.hub.owner.task(key) else { return };
        let mut pending: Vec<_> =
            task.needs.iter().copied().filter(|need| self.is_pending(*need)).collect();
        pending.dedup();
        let who = self.named(key);
        let Some(first) = pending.first().copied() else {
            let text = format!("{who} has its arguments, and is about to start");
            return self.step(depth, Cause::Ended, Some(Id::Task(key)), text);
        };
        let others = match pending.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let text = format!("{who} waits for its argument {}{others}", Id::Object(first));
        self.step(depth, Cause::Arguments, Some(Id::Task(key)), text);
        self.sure(true);
        self.object(first, depth + 1);
    }

    fn queued(&mut self, key: TaskKey, class: ClassId, depth: usize) {
        let who = self.named(key);
        let id = Some(Id::Task(key));
        let queued = self.hub.owner.queued(class);
        // What leases on their way have is not missing for those that they are for.
        let has_lease = queued <= self.hub.scheduler.starting(class);
        if !has_lease && self.lacks(&who, id, class, depth) {
            return;
        }
        if let Some(kind) = self.kind_to_come(class) {
            let text = format!("{who} may run, and waits for {kind} to start");
            return self.step(depth, Cause::Worker, id, text);
        }
        if self.hub.scheduler.starting(class) > 0 {
            let (all, blocked) = self.threads;
            let text = format!(
                "{who} may run, and waits for a thread: {} at work, {blocked} of them waiting themselves",
                plural(all, "is", "are", "thread", "threads"),
            );
            self.step(depth, Cause::Worker, id, text);
            return self.someone_at_work(|_| true, depth + 1);
        }
        let before = self.hub.scheduler.waiting().take_while(|waiting| *waiting != class).next();
        if let Some(other) = before {
            let other = self.hub.scheduler.class_name(other);
            let text = format!("{who} waits for its turn: `{other}` has waited longer");
            return self.step(depth, Cause::Turn, id, text);
        }
        let others = queued.saturating_sub(1);
        let others = plural(others, "is", "are", "other of its kind", "others of its kind");
        self.step(depth, Cause::Turn, id, format!("{who} is queued: {others} queued too"));
        let hub = self.hub;
        self.someone_at_work(
            |work| {
                work.lease
                    .and_then(|key| hub.scheduler.lease(key))
                    .is_some_and(|l| l.class == class)
            },
            depth + 1,
        );
    }

    /// Says which resource is missing for a class, and who holds it; false if none is.
    fn lacks(&mut self, who: &str, id: Option<Id>, class: ClassId, depth: usize) -> bool {
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

    fn group(&mut self, key: GroupKey, depth: usize) {
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

    /// Follows one task that a thread works on and that `is_meant`: one that waits, if there is one.
    fn someone_at_work(&mut self, is_meant: impl Fn(&AtWork) -> bool, depth: usize) {
        let meant = self.works.iter().filter(|work| is_meant(work));
        let on_the_way = |work: &&AtWork| self.path.iter().any(|(task, _)| *task == work.task);
        let mut meant = meant.filter(|work| !on_the_way(work));
        if let Some(work) = meant.next().map(|work| work.task) {
            self.task(work, depth);
        }
    }

    /// A task or call that has started.
    fn running(&mut self, key: TaskKey, call: Option<RunningCall>, depth: usize) {
        let who = self.named(key);
        let id = Some(Id::Task(key));
        // A task with futures that wait may be on a thread with another one of its own.
        let is_polled = self.works.iter().any(|work| work.task == key);
        let is_its = |wait: &&Wait| wait.task == Some(key) && !(wait.is_future && is_polled);
        if let Some(wait) = self.waits.iter().find(is_its).cloned() {
            let on = wait
                .thread
                .as_deref()
                .map_or_else(String::new, |name| format!(" on thread {name}"));
            let since = self.since(wait.since_ms);
            return self.wait(&wait, &format!("{who}{on}"), &since, depth);
        }
        let Some(work) = self.works.iter().find(|work| work.task == key).cloned() else {
            if call.is_none() && self.at_worker(key, &who, depth) {
                return;
            }
            let since = call.map_or_else(String::new, |call| self.since(call.since_ms));
            if self.node.is_some() && call.is_some() {
                return self.sent(key, &who, &since, depth);
            }
            let text = format!("{who} is running without a thread{since}: it awaits something");
            return self.step(depth, Cause::Running, id, text);
        };
        let since = self.since(work.since_ms);
        match work.above.filter(|above| !above.is_null()) {
            Some(above) => {
                let text = format!(
                    "{who} waits on thread {}, which runs {} meanwhile{since}",
                    work.thread,
                    self.named(above)
                );
                self.step(depth, Cause::Get, id, text);
                self.sure(true);
                self.task(above, depth + 1);
            }
            None => {
                let text = format!("{who} is running on thread {}{since}", work.thread);
                self.step(depth, Cause::Running, id, text);
            }
        }
    }

    fn call(&mut self, key: TaskKey, actor: ActorKey, depth: usize) {
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

    fn actor(&mut self, key: ActorKey, depth: usize) {
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

    fn creating(&mut self, key: ActorKey, name: &str, depth: usize) {
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

    /// WHY-1: a task that is on the way already is not followed again.
    fn closes_circle(&mut self, key: TaskKey, depth: usize) -> bool {
        let Some(start) = self.path.iter().position(|(task, _)| *task == key) else { return false };
        let members: Vec<_> =
            self.path[start..].iter().map(|(task, _)| self.named(*task)).collect();
        let is_sure = self.path[start..].iter().all(|(_, sure)| *sure);
        let way = members.join(", ");
        let end = if is_sure {
            ": none of them can ever go on; cancel one, or let calls of an actor run at once (`&self`, `max_concurrency`)"
        } else {
            ""
        };
        let text = format!("{} again: a circle of {way}{end}", self.named(key));
        self.step(depth, Cause::Circle, Some(Id::Task(key)), text);
        true
    }

    /// Whether the last task on the way waits for the next for ever, and for it alone.
    fn sure(&mut self, is_sure: bool) {
        if let Some(last) = self.path.last_mut() {
            last.1 = is_sure;
        }
    }

    fn step(&mut self, depth: usize, cause: Cause, id: Option<Id>, text: String) {
        if self.steps.len() < self.steps_max {
            let id = id.map(|id| id.to_string());
            self.steps.push(Step { depth, cause, id, text });
        }
    }

    fn is_pending(&self, object: ObjectKey) -> bool {
        self.hub.owner.object(object).is_some_and(|object| object.is_ready.is_none())
    }

    fn named(&self, task: TaskKey) -> String {
        format!("{} `{}`", Id::Task(task), self.hub.name_of(task))
    }

    fn since(&self, since_ms: u64) -> String {
        format!(" for {}", Duration(self.now_ms.saturating_sub(since_ms)))
    }
}
