//! The worker's side: runs what the driver pushes.
//!
//! # Words
//! A *slot* holds the tasks of one lease, which run one after the other.
//!
//! # Protocol
//! 1. The thread that reads the link puts tasks into their slots. The *server*, which is the main
//!    thread, runs the first slot itself; other slots go to the pool.
//! 2. Answers are appended to the outbox, and sent when the slot is empty or some time has passed.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::TaskKey;
use raybolt_core::calls::scheduler::LeaseKey;
use raybolt_store::ArenaView;
use raybolt_wire::work::{self, NotAppended, Outcome, Run, ToDriver, ToWorker};
use rustix::process::Signal;
use slotmap::KeyData;

use crate::awaited::on_behalf_of;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::job::{Began, Ended};
use crate::pool::Runnable;
use crate::processes::blackbox::BlackBox;
use crate::processes::code;
use crate::processes::hosted::{self, Hosts};
use crate::processes::inlet::Maker;
use crate::processes::leader::{self, Leader, Source};
use crate::processes::link::{FRAME_MAX, Link};
use crate::processes::outlet::{Outlet, Outlets};
use crate::processes::parcel::{self, Packed};
use crate::processes::poll::Poll;
use crate::processes::start::Invitation;
use crate::processes::upstream::{Loan, Upstream};
use crate::session::{Place, Session};

/// How long an answer may wait for others to travel with.
pub(crate) const LINGER: Duration = Duration::from_micros(100);
/// How long a worker waits for its driver to kill it, or to be dead.
const KILL_TIME: Duration = Duration::from_secs(30);

/// A task as its shell gets it.
pub(crate) struct Incoming<'a> {
    pub(crate) reply: Reply,
    pub(crate) run: Run,
    pub(crate) body: &'a [u8],
    /// Kept until the body is read.
    pub(crate) loan: Option<Loan>,
}

/// The way back to whoever submitted a task.
pub(crate) struct Reply {
    serving: Arc<Serving>,
    to: Back,
}

/// Whose answer it is.
enum Back {
    Task { task: u64, attempt: u32 },
    Call { task: u64, actor: u64, incarnation: u32, number: u64 },
}

/// What this worker serves.
pub(crate) struct Serving {
    poll: Arc<Poll>,
    pub(crate) link: Link,
    slots: Mutex<HashMap<u64, Arc<Slot>>>,
    pub(crate) outlets: Outlets,
    pub(crate) hosts: Hosts,
    /// What the server is to run: a slot or an actor.
    mine: Mutex<Option<Arc<dyn Runnable>>>,
    /// When answers were sent last, in microseconds since `start`.
    sent_us: AtomicU64,
    start: Instant,
    session: OnceLock<Arc<Session>>,
    /// Of the next message.
    loan: Mutex<Option<Loan>>,
    /// Where it is written down what runs.
    blackbox: Option<Arc<BlackBox>>,
    /// How many threads run tasks, or wait in one.
    running: AtomicUsize,
    /// Whether the driver has asked us to end.
    is_ending: AtomicBool,
}

pub(crate) struct Slot {
    serving: Arc<Serving>,
    lease: u64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Run, Vec<u8>, Option<Loan>)>,
    runners: usize,
}

thread_local! {
    static IS_SERVER: Cell<bool> = const { Cell::new(false) };
}

impl Reply {
    /// The way back for an actor's call.
    pub(crate) fn to_call(serving: &Arc<Serving>, call: &work::Call) -> Self {
        let work::Call { task, actor, incarnation, number, .. } = *call;
        Reply { serving: serving.clone(), to: Back::Call { task, actor, incarnation, number } }
    }

    /// The task has ended: `pack` appends its values, or says which error it has.
    pub(crate) fn finish(self, pack: impl FnOnce(&mut Vec<u8>) -> Result<()>) {
        let Reply { serving, to } = self;
        let message = |outcome, refs| match to {
            Back::Task { task, attempt } => ToDriver::Finished { task, attempt, outcome, refs },
            Back::Call { actor, incarnation, number, .. } => {
                ToDriver::Called { actor, incarnation, number, outcome, refs }
            }
        };
        // LINK-1: the user's code runs here, before the outbox is locked.
        let mut body = Vec::new();
        let (Back::Task { task, .. } | Back::Call { task, .. }) = to;
        let pack = || on_behalf_of(KeyData::from_ffi(task).into(), || pack(&mut body));
        let (packed, Packed { refs, guards, .. }) = parcel::packing(pack);
        serving.link.append(|out| {
            let error = match packed {
                Err(error) => error,
                Ok(()) => {
                    let refs = refs.iter().map(|object| object.id()).collect();
                    let message = message(Outcome::Returned, refs);
                    let returned = work::append::<Error>(out, &message, FRAME_MAX, |out| {
                        out.extend_from_slice(&body);
                        Ok(())
                    });
                    match returned {
                        Ok(()) => return,
                        Err(NotAppended::Body(error)) => error,
                        Err(NotAppended::TooLong(too_long)) => {
                            let because = too_long.to_string();
                            Error::new(Kind::Encode { task: "task".into(), because })
                        }
                    }
                }
            };
            let body = |out: &mut Vec<u8>| {
                let bytes = raybolt_wire::value::encode(&error);
                out.extend_from_slice(&bytes.expect("errors are data"));
                Ok::<(), Error>(())
            };
            work::append(out, &message(Outcome::Failed, Vec::new()), FRAME_MAX, body)
                .expect("an error is shorter than a frame");
        });
        drop(guards); // The message is on its way: a slab may go back after it.
    }

    /// The task never ran.
    pub(crate) fn refuse(self, error: Error) -> Began {
        self.finish(|_| Err(error));
        Began::Ended(Ended::Failed)
    }

    /// Where the items of the task go, of which there is room for those below `until`.
    pub(crate) fn outlet(&self, until: u64) -> Arc<Outlet> {
        let maker = match self.to {
            Back::Task { task, attempt } => Maker { task, attempt, actor: None },
            Back::Call { task, actor, incarnation, .. } => {
                Maker { task, attempt: incarnation, actor: Some(actor) }
            }
        };
        Outlet::open(&self.serving, maker, until)
    }

    /// What the thread that runs the task knows of it.
    pub(crate) fn context(&self, run: &Run) -> Context {
        let deadline = run.deadline_us.map(|left| Instant::now() + Duration::from_micros(left));
        let task = TaskKey::from(KeyData::from_ffi(run.task));
        let lease = LeaseKey::from(KeyData::from_ffi(run.lease));
        Context::of_task(task, run.attempt, Some(lease), deadline)
    }
}

/// What a worker is.
pub(crate) struct Serve {
    /// Its number.
    pub(crate) process: u64,
    /// How many threads run tasks.
    pub(crate) threads: usize,
    /// Where it is written down what runs.
    pub(crate) blackbox: Option<Arc<BlackBox>>,
}

/// Serves the driver behind `stream`; the process ends when the driver says so or goes away.
pub(crate) fn serve(stream: UnixStream, what: &Serve) -> std::io::Result<Infallible> {
    let poll = Arc::new(Poll::new()?);
    let serving = Arc::new(Serving {
        link: Link::new(stream, poll.clone(), 0, orphaned)?,
        poll,
        slots: Mutex::default(),
        outlets: Outlets::default(),
        hosts: Hosts::default(),
        mine: Mutex::default(),
        sent_us: AtomicU64::new(0),
        start: Instant::now(),
        session: OnceLock::new(),
        loan: Mutex::default(),
        blackbox: what.blackbox.clone(),
        running: AtomicUsize::new(0),
        is_ending: AtomicBool::new(false),
    });
    let (leader, _standby) = Leader::start(serving.clone(), "raybolt-links")?;
    let upstream = Upstream::new(what.process, serving.clone(), leader.clone());
    serving.session.get_or_init(|| Session::of_worker(upstream, what.threads.max(1)));
    serving.link.start()?; // From now on there is something to read.
    loop {
        IS_SERVER.set(true);
        leader.wait(None, || serving.mine().is_some());
        IS_SERVER.set(false);
        let mine = serving.mine().take();
        if let Some(mine) = mine {
            mine.run();
        }
    }
}

impl Source for Arc<Serving> {
    fn read(&self, timeout: Option<Duration>) {
        let mut idle: Vec<Arc<dyn Runnable>> = Vec::new();
        let ((), actors) = hosted::collecting(|| {
            let ready = |ready| {
                if self.link.ready(ready, &mut |frame| self.arrived(frame, &mut idle)).is_err() {
                    orphaned();
                }
            };
            leader::gathering(|| self.poll.look_and_wait(timeout, ready));
        });
        idle.extend(actors);
        let mut idle = idle.into_iter();
        if IS_SERVER.get() {
            *self.mine() = idle.next();
        }
        for slot in idle {
            self.session().pool.schedule(slot);
        }
    }

    fn interrupt(&self) {
        self.poll.interrupt();
    }
}

impl Serving {
    /// Acts on a frame; slots that need a runner join `idle`.
    fn arrived(self: &Arc<Self>, frame: &[u8], idle: &mut Vec<Arc<dyn Runnable>>) {
        let Ok((message, body)) = work::read::<ToWorker>(frame) else { return };
        // What the message before has lent for this one; bodies that are read here need it no longer.
        let loan = self.loan().take();
        match message {
            ToWorker::Lend { refs, pins } => *self.loan() = Some(self.upstream().loan(refs, &pins)),
            ToWorker::Run(run) => {
                let lease = run.lease;
                let mut slots = self.slots();
                let new =
                    || Arc::new(Slot { serving: self.clone(), lease, queue: Mutex::default() });
                let slot = slots.entry(lease).or_insert_with(new);
                let mut queue = slot.queue();
                queue.waiting.push_back((run, body.to_vec(), loan));
                if queue.runners == 0 {
                    queue.runners = 1;
                    drop(queue);
                    idle.push(slot.clone());
                }
            }
            ToWorker::Value { object, outcome, .. } => {
                self.upstream().arrived(object, outcome, body, loan);
            }
            ToWorker::End => self.end(),
            ToWorker::Cancel { task } => self.cancel(task),
            ToWorker::Item { stream, index, object } => {
                self.upstream().item(self.session(), stream, index, object, body);
            }
            ToWorker::Room { task, attempt, until } => self.outlets.room(task, attempt, until),
            ToWorker::Host(host) => self.hosts.begin(self, self.session(), host, body, loan),
            ToWorker::Call(call) => self.hosts.call(self, call, body, loan),
            ToWorker::StopCall { actor, incarnation, task } => {
                self.hosts.stop(self.session(), actor, incarnation, task);
                self.outlets.stop(task);
            }
            ToWorker::EndActor { actor, incarnation, because } => {
                self.hosts.end(&self.outlets, actor, incarnation, because.as_deref());
            }
            ToWorker::Arena { path, bytes } => match ArenaView::open(Path::new(&path), bytes) {
                Ok(view) => {
                    let _ = self.upstream().shelf.view.set(view); // Said once.
                }
                // Whoever needs it is told then.
                Err(error) => {
                    tracing::error!(target: "raybolt", "no store in this worker: {error}");
                }
            },
            ToWorker::Slab { request, granted } => self.upstream().slab_came(request, granted),
            ToWorker::Judge { object, attempt } => {
                self.upstream().predicates.judge(self.session(), object, attempt, body);
            }
            ToWorker::JudgeNoMore { object } => self.upstream().predicates.forget(object),
            ToWorker::Circle { wait, members } => self.upstream().circle_found(wait, members),
        }
    }

    fn loan(&self) -> MutexGuard<'_, Option<Loan>> {
        self.loan.lock().expect("no thread panics with this lock")
    }

    fn upstream(&self) -> &Upstream {
        match &self.session().place {
            Place::Driver(upstream) => upstream,
            Place::Here | Place::Workers(_) => unreachable!("a worker has a driver"),
        }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        self.session.get().expect("set before anything is read")
    }

    /// The task that runs under a lease waits: the next one may start.
    pub(crate) fn blocked(&self, lease: u64) -> Option<Arc<Slot>> {
        let slot = self.slots().get(&lease).cloned()?;
        let mut queue = slot.queue();
        queue.runners -= 1;
        if queue.runners == 0 && !queue.waiting.is_empty() {
            queue.runners = 1;
            drop(queue);
            self.session().pool.schedule(slot.clone());
        } else {
            drop(queue);
        }
        Some(slot)
    }

    /// Nobody wants a task any more.
    fn cancel(self: &Arc<Self>, task: u64) {
        let slots: Vec<_> = self.slots().values().cloned().collect();
        let waiting = slots.iter().find_map(|slot| {
            let waiting = &mut slot.queue().waiting;
            let place = waiting.iter().position(|(run, ..)| run.task == task)?;
            waiting.remove(place)
        });
        if let Some((run, ..)) = waiting {
            let to = Back::Task { task, attempt: run.attempt };
            let reply = Reply { serving: self.clone(), to };
            let task = run.name.unwrap_or_else(|| "task".into());
            drop(reply.refuse(Error::new(Kind::Cancelled { task })));
            self.link.flush();
        } else if self.blackbox.as_ref().is_none_or(|own| own.running().contains(&task)) {
            self.session().stop_task(KeyData::from_ffi(task).into());
            self.outlets.stop(task);
        }
    }

    /// The driver asks us to end: what has not begun never will.
    fn end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        self.slots().values().for_each(|slot| slot.queue().waiting.clear());
        self.outlets.end();
        self.end_if_idle();
    }

    fn end_if_idle(&self) {
        if self.is_ending.load(Ordering::SeqCst) && self.running.load(Ordering::SeqCst) == 0 {
            self.link.flush();
            std::process::exit(0);
        }
    }

    /// The lock order is slots, then a slot's queue.
    fn slots(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.slots.lock().expect("no thread panics with this lock")
    }

    fn mine(&self) -> MutexGuard<'_, Option<Arc<dyn Runnable>>> {
        self.mine.lock().expect("no thread panics with this lock")
    }

    /// Sends the answers that lie there, if others have had the time to join them.
    pub(crate) fn flush_if_late(&self) {
        let now_us = self.start.elapsed().as_micros() as u64;
        if self.sent_us.load(Ordering::Relaxed) + (LINGER.as_micros() as u64) < now_us {
            self.sent_us.store(now_us, Ordering::Relaxed);
            self.link.flush();
        }
    }

    /// Runs user code, and sends its answers: the process does not end meanwhile if it is asked to.
    pub(crate) fn busy<R>(&self, run: impl FnOnce() -> R) -> R {
        self.running.fetch_add(1, Ordering::SeqCst);
        let result = run();
        self.link.flush();
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.end_if_idle();
        result
    }
}

/// The link to the driver has ended without a word. Nobody wants what runs here, and it may never end: we do,
/// at once, so that what was not answered stays in the black box.
fn orphaned() {
    if let Some(Invitation { session, .. }) = Invitation::at_hand() {
        // A driver that lives sees that the link has ended, kills us meanwhile, and says why.
        crate::session_dir::remove_stale(&session, KILL_TIME);
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
}

impl Slot {
    fn run_tasks(&self) {
        let serving = &self.serving;
        serving.running.fetch_add(1, Ordering::SeqCst);
        let entry = serving.blackbox.as_ref().and_then(BlackBox::entry);
        let mut since = None;
        loop {
            let next = {
                let mut queue = self.queue();
                // Beside another runner, which took over while a task waited here, this one ends.
                if queue.runners > 1 {
                    queue.runners -= 1;
                    break;
                }
                let next = queue.waiting.pop_front();
                // Before the lock goes: whoever looks for a task finds it in the queue, or running.
                if let (Some(entry), Some((run, ..))) = (&entry, &next) {
                    entry.begin(run.task);
                }
                next
            };
            let Some((run, body, loan)) = next else {
                if self.end() {
                    break;
                }
                continue;
            };
            let now = Instant::now();
            if *since.get_or_insert(now) + LINGER < now {
                serving.link.flush();
                since = Some(now);
            }
            self.run_task(run, &body, loan);
        }
        serving.link.flush();
        drop(entry); // Not sooner: until they are sent, answers can be lost.
        serving.running.fetch_sub(1, Ordering::SeqCst);
        serving.end_if_idle();
    }

    /// The task that waited goes on.
    pub(crate) fn unblocked(&self) {
        self.queue().runners += 1;
    }

    /// Ends a runner that has found no task, unless one has come meanwhile; a slot without either is
    /// forgotten, for leases come and go.
    fn end(&self) -> bool {
        let mut slots = self.serving.slots();
        let mut queue = self.queue();
        if !queue.waiting.is_empty() {
            return false;
        }
        queue.runners -= 1;
        if queue.runners == 0 {
            slots.remove(&self.lease);
        }
        true
    }

    fn run_task(&self, run: Run, body: &[u8], loan: Option<Loan>) {
        let (task, attempt) = (run.task, run.attempt);
        let reply = Reply { serving: self.serving.clone(), to: Back::Task { task, attempt } };
        // SAFETY: a driver of this session, which runs this very file, named a task's shell.
        let shell = unsafe { code::function::<fn(Incoming<'_>) -> Began>(run.code.shell) };
        let began = match shell {
            Ok(shell) => shell(Incoming { reply, run, body, loan }),
            Err(foreign) => reply.refuse(Error::new(Kind::Decode {
                task: "task".into(),
                because: foreign.to_string(),
            })),
        };
        let over = move |serving: &Serving| {
            serving.session().stop_is_over(KeyData::from_ffi(task).into());
        };
        let Began::Later(future) = began else { return over(&self.serving) };
        let serving = self.serving.clone();
        let entry = serving.blackbox.as_ref().and_then(BlackBox::entry);
        if let Some(entry) = &entry {
            entry.begin(task);
        }
        self.serving.session().spawn(async move {
            future.await;
            over(&serving);
            serving.link.flush();
            drop(entry);
        });
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no thread panics while it holds a queue")
    }
}

impl Runnable for Slot {
    fn run(self: Arc<Self>) {
        self.run_tasks();
    }
}
