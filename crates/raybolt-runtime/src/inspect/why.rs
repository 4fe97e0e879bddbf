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
//! The walk is here; its ways along `resources`, `actors`, what lies at worker processes (`process`) and the `store`
//! have files of their own.
//!
//! # Invariants
//! - **WHY-1 (ends).** A task is followed once on one way: the second time is a circle, and named so.
//! - **WHY-2 (sure).** A circle is said to be one that never ends only if each of its members waits without a
//!   time limit, and for one other alone.

mod actors;
mod process;
mod resources;
mod store;

use std::fmt;

use raybolt_core::calls::objects::Holders;
use raybolt_core::calls::owner::{ClassId, ObjectKey, Progress, Target, TaskKey};
use serde::{Deserialize, Serialize};
use slotmap::Key;

pub(super) use self::resources::group_lacks;
use super::ask::{Ask, of_driver};
use super::local::{self, Everywhere};
use super::text::{Duration, plural};
use crate::actor::RunningCall;
use crate::awaited::{Wait, What};
use crate::clock::coarse_ms;
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
