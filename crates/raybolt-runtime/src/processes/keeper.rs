//! Keeps the worker processes: starts them, hears of their deaths, starts others, and ends them.
//!
//! # Words
//! A *member* is a process that was started and has not been seen to end. It *starts* until it has come
//! through the door, and *serves* from then on. One that ends before that, or that ends at once without
//! having been given anything, has *failed to start*.
//!
//! # Protocol
//! 1. One thread, the keeper, owns the members. Others leave it orders ([`Keeper::order`]); the system
//!    tells it of ends (each member's pidfd is in its poll).
//! 2. It starts as many workers as the session is to have, and does not wait for them. A member that
//!    comes through the door joins the [`Workers`], which give it what waits.
//! 3. When a member has ended the keeper reads what is left of its link and its pipes, and tells the
//!    workers, once, what became of it ([`Death`]). Another is started in its place.
//! 4. After a failed start the next one waits, longer each time. When [`FAILURES_MAX`] failed in a row,
//!    or one took longer than it may, and nobody serves, then whatever waits for a worker fails with the
//!    reason; starts go on, at the slowest pace, and only as long as somebody asks for a worker. While others
//!    serve they go on in any case: a worker may have been late for lack of a processor.
//! 5. Workers for tasks with GPUs are started when they are asked for ([`Order::Start`]), with an environment of
//!    their own, and ended when their GPUs are to be another's ([`Order::Retire`]).
//! 6. At the end of the session members are asked to end, and killed if they do not.
//!
//! # Invariants
//! - **KEEP-1 (one death).** For each process that has joined the workers are told of its death once, and
//!   of no other.
//! - **KEEP-2 (no one else's).** Who comes through the door as a worker is a member that starts, by
//!   number and by process id; anyone else is sent away.
//! - **KEEP-3 (all are reaped).** The keeper ends after its last member has.
//! - **KEEP-4 (idle is free).** If nobody lives or dies, and nothing runs, the keeper sleeps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raybolt_core::calls::kinds::{Devices, VISIBLE_DEVICES, WorkerKind};
use raybolt_core::calls::owner::TaskKey;
use raybolt_core::ids::ProcessId;
use raybolt_wire::door::{Door, Guest, Limits};
use raybolt_wire::handshake::Role;
use raybolt_wire::work::ToWorker;
use slotmap::Key;

use crate::error::Error;
use crate::machine;
use crate::processes::blackbox::BlackBox;
use crate::processes::deaths::{Death, Doom};
use crate::processes::link::Link;
use crate::processes::logs::{self, Logs};
use crate::processes::monitor::{self, Candidate, Chosen, PERIOD};
use crate::processes::node::Workers;
use crate::processes::poll::Poll;
use crate::processes::spawn::{Spawned, Start, words};
use crate::processes::start::{GPU_IDS, failed, identity, lever};
use crate::session::Session;
use crate::session_dir::SessionDir;

/// How many starts in a row may fail before that is an error of the tasks that wait.
const FAILURES_MAX: u32 = 3;
/// The first pause after a failed start; twice as long each time.
const BACK_OFF: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A worker that ends sooner than this, and was given nothing, has failed to start.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a member whose link has ended may take to end.
const AFTER_LINK: Duration = Duration::from_secs(1);

/// How workers are kept.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How many there are.
    pub(crate) workers: usize,
    /// How many threads of each run tasks.
    pub(crate) threads: usize,
    /// How long one may take from its start to the door.
    pub(crate) start_time: Duration,
    /// How long one may take to end when it is asked to.
    pub(crate) end_time: Duration,
    /// How long a task may run on after its deadline.
    pub(crate) grace: Duration,
    /// How many bytes this process and its workers may use together.
    pub(crate) memory_limit: Option<u64>,
    /// Whether the driver shows what they write.
    pub(crate) shows_logs: bool,
    /// What the node's GPUs are called.
    pub(crate) devices: Devices,
}

/// What the keeper is asked to do.
pub(crate) enum Order {
    /// A process came through the door as this worker.
    Welcome(ProcessId, u32, UnixStream),
    /// A worker's link has ended: so will it. If it brought bytes that are no messages, what is wrong with them.
    LinkEnded(ProcessId, Option<String>),
    /// A worker is to be killed if it runs the culprit.
    KillIfRunning(ProcessId, Doom),
    /// Tasks lie at workers: keep an eye on memory until none does.
    Watch,
    /// Somebody waits for a worker, and there is none.
    Wanted,
    /// Somebody waits for a worker of this kind, and there is none.
    Start(WorkerKind),
    /// A worker is to end: it has nothing to do, and its GPUs are another's.
    Retire(ProcessId),
    /// The session ends.
    End,
}

/// The way to the keeper's thread.
pub(crate) struct Keeper {
    /// How many workers there are to be.
    pub(crate) workers: usize,
    /// How long a task may run on after its deadline.
    pub(crate) grace: Duration,
    /// The session's directory.
    pub(crate) directory: PathBuf,
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where orders lie.
struct Desk {
    poll: Poll,
    orders: Mutex<VecDeque<Order>>,
}

/// What the keeper's thread has.
struct Keeping {
    settings: Settings,
    desk: Arc<Desk>,
    session: Weak<Session>,
    workers: Arc<Workers>,
    logs: Logs,
    members: BTreeMap<ProcessId, Member>,
    last: ProcessId,
    /// Kinds of which one is to be started.
    wanted: BTreeSet<WorkerKind>,
    /// Starts that failed in a row.
    failures: u32,
    /// When the next start may be.
    start_at: Instant,
    /// Whether somebody waits for a worker although starts fail.
    is_wanted: bool,
    ends_at: Option<Instant>,
    /// When memory is looked at next.
    look_at: Option<Instant>,
    door: Door,
    /// Removed last.
    dir: SessionDir,
}

struct Member {
    kind: WorkerKind,
    spawned: Spawned,
    /// It was asked to end.
    is_retired: bool,
    since: Instant,
    is_serving: bool,
    /// When it is killed if it has not ended.
    kill_at: Option<Instant>,
    was_late: bool,
    /// Why we killed it.
    doom: Option<Doom>,
    /// Its link is of no more use.
    unlinked: Option<Unlinked>,
}

/// How a link ended before its worker did.
enum Unlinked {
    /// It closed: most often since the worker dies.
    Closed,
    /// It closed, and the worker ran on until we killed it.
    Alive,
    /// It brought bytes that are no messages, for this reason.
    Garbled(String),
}

impl Unlinked {
    /// How the worker ended, if this is why.
    fn words(&self) -> Option<String> {
        match self {
            Unlinked::Closed => None,
            Unlinked::Alive => {
                let text = "its link closed, and it was killed since it ran on (does code in it close file descriptors \
                     that are not its own?)";
                Some(text.into())
            }
            Unlinked::Garbled(because) => Some(format!(
                "it was killed, since its link brought bytes that are no messages ({because}; does code in it write \
                 to file descriptors that are not its own?)"
            )),
        }
    }
}

impl Keeper {
    /// Opens the session's door and starts its workers, without waiting for them.
    pub(crate) fn start(
        session: &Arc<Session>,
        workers: &Arc<Workers>,
        settings: Settings,
    ) -> Result<Self, Error> {
        let dir = SessionDir::create().map_err(|error| failed(&error))?;
        let io_failed = |error: io::Error| failed(&error);
        let desk =
            Arc::new(Desk { poll: Poll::new().map_err(io_failed)?, orders: Mutex::default() });
        let reception = desk.clone();
        let on_guest = move |guest| reception.receive(guest);
        let identity = identity(dir.secret());
        let door = Door::open(&dir.socket(), identity, Limits::default(), on_guest)
            .map_err(|error| failed(&error))?;
        let logs = Logs::start(&dir.logs(), settings.shows_logs).map_err(io_failed)?;
        let (grace, count) = (settings.grace, settings.workers);
        let mut keeping = Keeping {
            settings,
            desk: desk.clone(),
            session: Arc::downgrade(session),
            workers: workers.clone(),
            logs,
            members: BTreeMap::new(),
            last: ProcessId(0),
            wanted: BTreeSet::new(),
            failures: 0,
            start_at: Instant::now(),
            is_wanted: true,
            ends_at: None,
            look_at: None,
            door,
            dir,
        };
        let directory = keeping.dir.path().to_owned();
        let thread = std::thread::Builder::new().name("raybolt-keeper".into());
        let thread = thread.spawn(move || keeping.run()).map_err(io_failed)?;
        Ok(Keeper { workers: count, grace, directory, desk, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn order(&self, order: Order) {
        self.desk.leave(order);
    }

    /// Ends all workers, and waits until they are gone.
    pub(crate) fn end(&self) {
        self.desk.leave(Order::End);
        let thread = self.thread.lock().expect("no thread panics with this lock").take();
        if let Some(thread) = thread {
            // It reports a panic of its own.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn leave(&self, order: Order) {
        self.orders.lock().expect("no thread panics with this lock").push_back(order);
        self.poll.interrupt();
    }

    /// Somebody proved to know the session's secret.
    fn receive(&self, guest: Guest) {
        let Guest { stream, hello, pid } = guest;
        match hello.role {
            Role::Worker { process } => self.leave(Order::Welcome(process, pid, stream)),
            Role::Watcher => crate::inspect::serve::admit(stream),
            Role::Host => {} // Hosts do not knock.
        }
    }
}

impl Keeping {
    fn run(&mut self) {
        loop {
            self.start_missing();
            if self.ends_at.is_some() && self.members.is_empty() {
                return; // KEEP-3.
            }
            let now = Instant::now();
            let timeout = self.next_deadline().map(|at| at.saturating_duration_since(now));
            let mut ended = Vec::new();
            self.desk.poll.wait(timeout, |ready| ended.push(ProcessId(ready.token)));
            let orders = std::mem::take(
                &mut *self.desk.orders.lock().expect("no thread panics with this lock"),
            );
            for order in orders {
                self.obey(order);
            }
            for process in ended {
                self.look_after(process);
            }
            let now = Instant::now();
            self.kill_late(now);
            if self.look_at.is_some_and(|at| at <= now) {
                self.look_at_memory(now);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let kills = self.members.values().filter_map(|member| member.kill_at);
        let missing = self.may_start() && self.missing().is_some();
        kills.chain(missing.then_some(self.start_at)).chain(self.look_at).min()
    }

    fn may_start(&self) -> bool {
        let goes_on = self.is_wanted || self.failures < FAILURES_MAX || self.somebody_serves();
        self.ends_at.is_none() && goes_on
    }

    fn somebody_serves(&self) -> bool {
        self.members.values().any(|member| member.is_serving)
    }

    fn start_missing(&mut self) {
        while self.may_start()
            && Instant::now() >= self.start_at
            && let Some(kind) = self.missing()
        {
            self.last.0 += 1;
            let process = self.last;
            match self.start_one(process, kind) {
                Ok(member) => {
                    self.members.insert(process, member);
                }
                Err(error) => {
                    let program = std::env::current_exe().unwrap_or_default();
                    let lever = lever(&error).unwrap_or_default();
                    let because = format!("`{}` does not start: {error}{lever}", program.display());
                    self.start_failed(process, &because, false);
                }
            }
        }
    }

    /// The kind of which a worker is missing.
    fn missing(&self) -> Option<WorkerKind> {
        let count = |kind: &WorkerKind| {
            let members = self.members.values();
            members.filter(|member| member.kind == *kind && !member.is_retired).count()
        };
        if count(&WorkerKind::Shared) < self.settings.workers {
            return Some(WorkerKind::Shared);
        }
        self.wanted.iter().find(|kind| count(kind) == 0).cloned()
    }

    fn start_one(&mut self, process: ProcessId, kind: WorkerKind) -> io::Result<Member> {
        let visible = self.settings.devices.visible_to(&kind);
        let visible = visible.map(|devices| (VISIBLE_DEVICES.to_owned(), devices));
        let variables = [(GPU_IDS.to_owned(), kind.to_string())].into_iter().chain(visible);
        let variables: Vec<_> = variables.collect();
        let start = Start {
            process,
            session: self.dir.path(),
            threads: self.settings.threads,
            variables: &variables,
        };
        let (spawned, out, err) = Spawned::start(&start)?;
        self.door.expect(spawned.pid());
        self.logs.follow(process, out, err);
        self.desk.poll.add(&spawned, process.0)?;
        let since = Instant::now();
        let kill_at = Some(since + self.settings.start_time);
        Ok(Member {
            kind,
            spawned,
            is_retired: false,
            since,
            is_serving: false,
            kill_at,
            was_late: false,
            doom: None,
            unlinked: None,
        })
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Welcome(process, pid, stream) => self.welcome(process, pid, stream),
            Order::LinkEnded(process, garbled) => {
                if let Some(member) = self.members.get_mut(&process) {
                    member.unlinked = Some(garbled.map_or(Unlinked::Closed, Unlinked::Garbled));
                    let latest = Instant::now() + AFTER_LINK;
                    member.kill_at = Some(member.kill_at.map_or(latest, |at| at.min(latest)));
                }
            }
            Order::KillIfRunning(process, doom) => self.kill_if_running(process, doom),
            Order::Watch => self.look_at = Some(Instant::now() + PERIOD),
            Order::Wanted => self.is_wanted = true,
            Order::Start(kind) => drop(self.wanted.insert(kind)),
            Order::Retire(process) => self.retire(process),
            Order::End => self.end_all(),
        }
    }

    fn retire(&mut self, process: ProcessId) {
        let Some(member) = self.members.get_mut(&process) else { return };
        member.is_retired = true;
        if self.workers.tell(process, &ToWorker::End) {
            member.kill_at = Some(Instant::now() + self.settings.end_time);
        } else {
            member.spawned.kill();
        }
    }

    fn kill_if_running(&mut self, process: ProcessId, doom: Doom) {
        let Some(member) = self.members.get_mut(&process) else { return };
        let blackbox = member.spawned.blackbox.as_ref();
        let culprit = doom.culprit.data().as_ffi();
        if blackbox.is_some_and(|own| !own.running().contains(&culprit)) {
            if let Some(session) = self.session.upgrade() {
                self.workers.look_again(&session, process, doom);
            }
        } else if member.doom.is_none() {
            member.doom = Some(doom);
            member.spawned.kill();
        }
    }

    fn look_at_memory(&mut self, now: Instant) {
        self.look_at = None;
        self.workers.unwatch(); // First: what is pushed from now on asks for another look.
        let Some(session) = self.session.upgrade() else { return };
        if !self.workers.is_busy() || self.ends_at.is_some() {
            return;
        }
        self.look_at = Some(now + PERIOD);
        if self.members.values().any(|member| member.doom.is_some()) {
            return; // What it used is free in a moment.
        }
        let own_bytes = |member: &Member| monitor::own_bytes(member.spawned.pid());
        let used = match self.settings.memory_limit {
            None => 0,
            Some(_) => {
                let of_workers: u64 = self.members.values().map(own_bytes).sum();
                of_workers + monitor::own_bytes(std::process::id())
            }
        };
        let limit = self.settings.memory_limit;
        let Some(bound) = monitor::reached(machine::memory(), used, limit) else { return };
        let candidates = self.members.iter().map(|(process, member)| Candidate {
            process: *process,
            bytes: own_bytes(member),
            tasks: self.workers.running(&session, *process, member.spawned.blackbox.as_ref()),
            actors: self.workers.living(*process),
        });
        let candidates: Vec<_> = candidates.collect();
        let Some(victim) = monitor::victim(&candidates) else { return };
        let (because, lever) = monitor::because(bound, &victim);
        let culprit = match &victim.chosen {
            Chosen::Task(task) => task.task,
            Chosen::Actor(_) => TaskKey::null(),
        };
        if let Some(member) = self.members.get_mut(&victim.process) {
            member.doom = Some(Doom { culprit, because, lever, may_repeat: true });
            member.spawned.kill();
        }
    }

    fn welcome(&mut self, process: ProcessId, pid: u32, stream: UnixStream) {
        let Some(session) = self.session.upgrade() else { return };
        let ends = self.ends_at.is_some();
        let member = self.members.get_mut(&process);
        let member = member.filter(|member| !member.is_serving && member.spawned.pid() == pid);
        let Some(member) = member.filter(|_| !ends) else { return }; // KEEP-2: hangs up.
        // Whoever reads it finds out that it is closed.
        let joined = Link::new(stream, self.workers.poll.clone(), process.0, || {})
            .and_then(|link| self.workers.joined(&session, process, &member.kind, link));
        match joined {
            Ok(()) => {
                member.is_serving = true;
                member.kill_at = None;
                self.wanted.remove(&member.kind);
                self.failures = 0;
                self.is_wanted = false;
            }
            Err(error) => {
                tracing::warn!(target: "raybolt", "worker {process} cannot be heard: {error}");
                member.spawned.kill();
            }
        }
    }

    /// A member has ended, or so it seems.
    fn look_after(&mut self, process: ProcessId) {
        let Some(member) = self.members.get_mut(&process) else { return };
        let Ok(Some(status)) = member.spawned.ended() else { return };
        let member = self.members.remove(&process).expect("it was there a line ago");
        self.desk.poll.remove(&member.spawned);
        self.door.forget(member.spawned.pid());
        let last_lines = self.logs.last_lines(process);
        let how = member.unlinked.as_ref().and_then(Unlinked::words);
        let how = how.unwrap_or_else(|| words(status));
        let lived = member.since.elapsed();
        // Also after starts that failed beside it: the next one decides what becomes of whatever waits.
        self.is_wanted |= member.is_serving;
        let was_given = match self.session.upgrade() {
            Some(session) if member.is_serving => {
                // What it takes for answered was not, if nobody can read its answers.
                let blackbox = member.spawned.blackbox.as_ref();
                let blackbox =
                    blackbox.filter(|_| !matches!(member.unlinked, Some(Unlinked::Garbled(_))));
                let running = blackbox.map(BlackBox::running);
                let death = Death {
                    process,
                    how: how.clone(),
                    running,
                    doom: member.doom,
                    last_lines: last_lines.clone(),
                    is_expected: member.is_retired,
                };
                self.workers.lost(&session, death)
            }
            _ => false,
        };
        if self.ends_at.is_some()
            || was_given
            || member.is_retired
            || (member.is_serving && lived > AT_ONCE)
        {
            return;
        }
        let mut because = match member.was_late {
            true => format!("worker {process} did not come within {:?}", self.settings.start_time),
            false => format!("worker {process} ended before it served: {how}"),
        };
        because.push_str(&quoted(&last_lines));
        self.start_failed(process, &because, member.was_late);
    }

    fn start_failed(&mut self, process: ProcessId, because: &str, is_final: bool) {
        self.failures = if is_final { FAILURES_MAX } else { self.failures + 1 };
        let pause = BACK_OFF.saturating_mul(1 << self.failures.min(10));
        self.start_at = Instant::now() + pause.min(BACK_OFF_MAX);
        tracing::warn!(target: "raybolt", "{because}");
        if self.failures < FAILURES_MAX || self.somebody_serves() {
            return;
        }
        self.is_wanted = false;
        if let Some(session) = self.session.upgrade() {
            let log = logs::more_of(&self.dir.logs(), process);
            let more = log.map(|log| {
                format!("\n  (all of it, as long as the session lasts: {})", log.display())
            });
            self.workers.give_up(&session, &format!("{because}{}", more.unwrap_or_default()));
        }
    }

    fn kill_late(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            if member.kill_at.is_some_and(|at| at <= now) {
                member.spawned.kill();
                // Its end is told by its pidfd: there is nothing more to wake up for.
                member.kill_at = None;
                member.was_late = true;
                if matches!(member.unlinked, Some(Unlinked::Closed)) {
                    member.unlinked = Some(Unlinked::Alive);
                }
            }
        }
    }

    fn end_all(&mut self) {
        let at = Instant::now() + self.settings.end_time;
        self.ends_at = Some(at);
        for (process, member) in &mut self.members {
            if member.is_serving && self.workers.tell(*process, &ToWorker::End) {
                member.kill_at = Some(at);
            } else {
                member.spawned.kill();
            }
        }
    }
}

/// Lines as a part of an error.
pub(crate) fn quoted(lines: &[String]) -> String {
    if lines.is_empty() {
        return "; it wrote nothing".into();
    }
    let mut text = String::from("; the last lines that it wrote:");
    for line in lines {
        text.push_str("\n  | ");
        text.push_str(line);
    }
    text
}
