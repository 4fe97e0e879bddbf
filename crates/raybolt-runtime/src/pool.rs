//! A few threads that run many runnables, a slice at a time.
//!
//! # Words
//! A *runnable* is anything with work to do now: a lease with queued tasks, an actor with calls, an
//! instance of a bolt with a batch. It runs a slice and gives its thread back; whether it runs again
//! is its own [`Turn`](crate::turn::Turn)'s affair. The pool's *width* is how many threads may run
//! at once; a thread that waits inside a runnable is *blocked* and does not count.
//!
//! # Protocol
//! 1. A runnable joins the shared queue at its [`Place`]: behind those of the same *home* and level. A
//!    thread takes the highest level of its own home first, then from others. One with short slices
//!    may take the *next* place of the thread that schedules it instead, since its data is warm there
//!    (and nobody else waits, or it is at home there); whatever stood there moves to the queue.
//! 2. Work that joins the queue wakes a sleeping thread, unless one is *searching* already.
//! 3. A thread without work searches for [`SPIN`], then sleeps. Idle threads use no CPU; those
//!    beyond the width end after [`IDLE_MAX`].
//! 4. A thread about to wait says so ([`blocking`]); another takes its place at once. One that
//!    waits without saying so is noticed: while work is queued and none was taken for
//!    [`STALL`], the *overseer* lends the pool more threads, until the queue is empty.
//!
//! # Invariants
//! - **POOL-1 (nothing waits beside an idle thread).** While the queue holds work and fewer than
//!   `width` threads are active, a thread is searching or on its way.
//! - **POOL-2 (idle is free).** Without work no thread of the pool wakes up.

mod queue;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::Thread;
use std::time::{Duration, Instant};

pub use queue::{LEVELS, Place};

use queue::Queue;

/// How long a thread looks for work before it sleeps: about what a sleep and a wake-up cost.
pub const SPIN: Duration = Duration::from_micros(10);
/// How long a thread beyond the width sleeps before it ends.
pub const IDLE_MAX: Duration = Duration::from_secs(1);
/// How long queued work may see no thread take any before the pool grows.
pub const STALL: Duration = Duration::from_millis(2);
/// How often in a row a thread prefers its own next runnable over the shared queue.
const NEXT_MAX: u32 = 32;

/// Work that runs in slices.
pub trait Runnable: Send + Sync + 'static {
    /// Runs one slice. Must catch the panics of user code.
    fn run(self: Arc<Self>);

    /// Where it belongs in the queue. Must not change.
    fn place(&self) -> Place {
        Place::default()
    }
}

/// How a pool is built.
#[derive(Debug, Clone)]
pub struct Options {
    /// What its threads are called.
    pub name: &'static str,
    /// How many threads run at once.
    pub width: usize,
    /// How many threads there may be, blocked ones included.
    pub threads_max: usize,
    /// Whether runnables may wait without saying so, see point 4 of the protocol.
    pub overseer: bool,
}

/// A handle to a pool; clones name the same one. [`Pool::shutdown`] ends it.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    options: Options,
    state: Mutex<State>,
    /// The queue's length, for threads that search without the lock.
    queued: AtomicUsize,
    /// How often work was taken; the overseer compares.
    taken: AtomicUsize,
    ended: Condvar,
    overseer: Condvar,
}

struct State {
    queue: Queue,
    idle: Vec<Arc<Sleeper>>,
    /// All threads alive: active, searching, blocked and idle ones.
    threads: usize,
    /// How many threads were ever started; gives each its home.
    started: usize,
    blocked: usize,
    searching: usize,
    /// Threads lent by the overseer beyond the width.
    lent: usize,
    overseeing: bool,
    stopping: bool,
}

struct Sleeper {
    thread: Thread,
    woken: AtomicBool,
}

/// What a pool thread knows of itself.
struct Worker {
    shared: Arc<Shared>,
    home: usize,
    next: Option<Arc<dyn Runnable>>,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

impl Pool {
    /// A pool without threads; they start when there is work.
    pub fn new(options: Options) -> Self {
        assert!(options.width > 0 && options.threads_max >= options.width);
        let width = options.width;
        let pool = Pool(Arc::new(Shared {
            options,
            state: Mutex::new(State {
                queue: Queue::new(width),
                idle: Vec::new(),
                threads: 0,
                started: 0,
                blocked: 0,
                searching: 0,
                lent: 0,
                overseeing: false,
                stopping: false,
            }),
            queued: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            ended: Condvar::new(),
            overseer: Condvar::new(),
        }));
        if pool.0.options.overseer {
            let shared = pool.0.clone();
            spawn(format!("{}-overseer", shared.options.name), move || oversee(&shared))
                .expect("the overseer of a pool starts");
        }
        pool
    }

    /// Runs `runnable` after what is queued already. Its [`Turn`](crate::turn::Turn) must have asked
    /// for it.
    pub fn schedule(&self, runnable: Arc<dyn Runnable>) {
        let mut state = self.0.lock();
        if state.stopping {
            return;
        }
        state.queue.push(runnable);
        self.0.queued.store(state.queue.len(), Ordering::Release);
        self.0.rouse(state);
    }

    /// Runs `runnable` on this thread as soon as the present slice is over, if this is a thread of
    /// the pool: for slices that are short and never block, since nobody else can take it meanwhile.
    pub fn schedule_next(&self, runnable: Arc<dyn Runnable>) {
        match self.place_next(runnable) {
            Ok(None) => {}
            Ok(Some(displaced)) => self.schedule(displaced),
            Err(runnable) => self.schedule(runnable),
        }
    }

    /// Whether the current thread is one of this pool's.
    pub fn owns_this_thread(&self) -> bool {
        WORKER.with_borrow(|worker| {
            worker.as_ref().is_some_and(|worker| Arc::ptr_eq(&worker.shared, &self.0))
        })
    }

    /// How many threads there are now: (all, blocked).
    pub fn threads(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.threads, state.blocked)
    }

    /// Drops what is queued, ends the threads when their slices are over, and waits for that at most
    /// until `deadline`. Says how many are still in user code then.
    pub fn shutdown(&self, deadline: Instant) -> usize {
        let mut state = self.0.lock();
        state.stopping = true;
        let dropped = std::mem::replace(&mut state.queue, Queue::new(1));
        self.0.queued.store(0, Ordering::Release);
        self.0.overseer.notify_all();
        for sleeper in state.idle.drain(..) {
            sleeper.wake();
        }
        let own = usize::from(self.owns_this_thread());
        while state.threads > own {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            state = self.0.ended.wait_timeout(state, left).expect("the pool's lock is sound").0;
        }
        let left = state.threads - own;
        drop(state);
        drop(dropped); // Runnables may hold the pool: never drop them under its lock.
        left
    }

    fn place_next(
        &self,
        runnable: Arc<dyn Runnable>,
    ) -> Result<Option<Arc<dyn Runnable>>, Arc<dyn Runnable>> {
        let home = runnable.place().home % self.0.options.width;
        // While there is other work, it can as well wait for its own thread.
        let busy = self.0.queued.load(Ordering::Relaxed) > 0;
        WORKER.with_borrow_mut(|worker| match worker {
            Some(worker) if Arc::ptr_eq(&worker.shared, &self.0) => {
                if busy && worker.home != home {
                    Err(runnable)
                } else {
                    Ok(worker.next.replace(runnable))
                }
            }
            _ => Err(runnable),
        })
    }
}

/// Runs `wait`, which may block; if this is a thread of a pool, another one of that pool works
/// meanwhile.
pub fn blocking<R>(wait: impl FnOnce() -> R) -> R {
    let own = |worker: &Option<Worker>| worker.as_ref().map(|worker| worker.shared.clone());
    let shared = WORKER.with_borrow(own);
    let _blocked = shared.as_ref().map(Blocked::enter);
    wait()
}

/// A stay in user code that waits; ends when dropped.
struct Blocked<'a>(&'a Shared);

impl<'a> Blocked<'a> {
    fn enter(shared: &'a Arc<Shared>) -> Self {
        // The thread's next runnable must not wait with it.
        let next = WORKER.with_borrow_mut(|worker| worker.as_mut().and_then(|w| w.next.take()));
        let mut state = shared.lock();
        state.blocked += 1;
        if let Some(next) = next {
            state.queue.push(next);
            shared.queued.store(state.queue.len(), Ordering::Release);
        }
        shared.rouse(state);
        Blocked(shared)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.lock().blocked -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the pool's lock")
    }

    /// POOL-1: gets a thread on its way if there is work and room for one.
    fn rouse(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.queue.is_empty() || state.searching > 0 || state.stopping {
            return;
        }
        let active = state.threads - state.blocked - state.idle.len();
        if active >= self.options.width + state.lent {
            self.call_overseer(&mut state);
            return;
        }
        if let Some(sleeper) = state.idle.pop() {
            state.searching += 1;
            drop(state);
            sleeper.wake();
        } else if state.threads < self.options.threads_max {
            let home = state.started % self.options.width;
            state.started += 1;
            state.threads += 1;
            state.searching += 1;
            let name = format!("{}-{}", self.options.name, state.threads);
            drop(state);
            let shared = self.clone();
            if let Err(error) = spawn(name, move || work(shared, home)) {
                let mut state = self.lock();
                state.threads -= 1;
                state.searching -= 1;
                tracing::error!("no thread for pool `{}`: {error}", self.options.name);
            }
        }
    }

    /// Work is queued, and as many threads are active as may be: they may be stuck in user code.
    fn call_overseer(&self, state: &mut State) {
        if self.options.overseer && !state.overseeing {
            state.overseeing = true;
            self.overseer.notify_one();
        }
    }
}

impl Sleeper {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name).spawn(run).map(drop)
}

/// The life of a pool thread. It begins as a searcher, counted by whoever started it.
fn work(shared: Arc<Shared>, home: usize) {
    let _ended = Ended(shared.clone());
    WORKER.set(Some(Worker { shared: shared.clone(), home, next: None }));
    let mut in_a_row = 0;
    let mut searching = true;
    loop {
        if !searching && let Some(next) = take_next(&mut in_a_row, &shared) {
            next.run();
            continue;
        }
        match find(&shared, home, searching) {
            Found::Work(runnable) => {
                searching = false;
                in_a_row = 0;
                runnable.run();
            }
            Found::Nothing => searching = true,
            Found::End => break,
        }
    }
    WORKER.set(None);
}

/// Ends the process if a runnable panics: its work would be lost, and someone would wait for ever.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a runnable of pool `{}` panicked", self.0.options.name);
            std::process::abort();
        }
        let mut state = self.0.lock();
        state.threads -= 1;
        drop(state);
        self.0.ended.notify_all();
    }
}

fn take_next(in_a_row: &mut u32, shared: &Arc<Shared>) -> Option<Arc<dyn Runnable>> {
    let next = WORKER.with_borrow_mut(|worker| worker.as_mut().and_then(|w| w.next.take()))?;
    *in_a_row += 1;
    if *in_a_row < NEXT_MAX || shared.queued.load(Ordering::Acquire) == 0 {
        return Some(next);
    }
    // Others have waited long enough: queue behind them.
    let mut state = shared.lock();
    state.queue.push(next);
    shared.queued.store(state.queue.len(), Ordering::Release);
    None
}

enum Found {
    Work(Arc<dyn Runnable>),
    /// Slept, and was woken as a searcher.
    Nothing,
    End,
}

fn find(shared: &Arc<Shared>, home: usize, mut searching: bool) -> Found {
    loop {
        let mut state = shared.lock();
        if std::mem::take(&mut searching) {
            state.searching -= 1;
        }
        if state.stopping {
            return Found::End;
        }
        let active = state.threads - state.blocked - state.idle.len();
        if active <= shared.options.width + state.lent {
            if let Some(runnable) = state.queue.pop(home) {
                shared.queued.store(state.queue.len(), Ordering::Release);
                shared.taken.fetch_add(1, Ordering::Relaxed);
                shared.rouse(state); // More work, and nobody searching: pass the wake-up on.
                return Found::Work(runnable);
            }
            state.lent = state.lent.saturating_sub(1);
            if state.searching == 0 {
                state.searching += 1;
                drop(state);
                searching = true;
                if search(shared) {
                    continue;
                }
                state = shared.lock();
                state.searching -= 1;
                searching = false;
                if !state.queue.is_empty() || state.stopping {
                    continue;
                }
            }
        } else if !state.queue.is_empty() {
            shared.call_overseer(&mut state);
        }
        return sleep(shared, state);
    }
}

/// Looks at the queue's length for a while; one thread at a time does.
fn search(shared: &Shared) -> bool {
    let start = Instant::now();
    while start.elapsed() < SPIN {
        for _ in 0..16 {
            if shared.queued.load(Ordering::Acquire) > 0 {
                return true;
            }
            std::hint::spin_loop();
        }
    }
    false
}

fn sleep(shared: &Shared, mut state: MutexGuard<'_, State>) -> Found {
    let sleeper =
        Arc::new(Sleeper { thread: std::thread::current(), woken: AtomicBool::new(false) });
    state.idle.push(sleeper.clone());
    let extra = state.threads > shared.options.width;
    drop(state);
    let slept = Instant::now();
    while !sleeper.woken.load(Ordering::Acquire) {
        if !extra {
            std::thread::park();
            continue;
        }
        std::thread::park_timeout(IDLE_MAX);
        if slept.elapsed() >= IDLE_MAX {
            let mut state = shared.lock();
            let position = state.idle.iter().position(|idle| Arc::ptr_eq(idle, &sleeper));
            if let Some(position) = position {
                state.idle.swap_remove(position);
                return Found::End;
            }
        }
    }
    if shared.lock().stopping { Found::End } else { Found::Nothing }
}

/// Lends threads to a pool whose own are stuck in user code, see point 4 of the protocol.
fn oversee(shared: &Arc<Shared>) {
    let mut state = shared.lock();
    let mut step = 1;
    while !state.stopping {
        if !state.overseeing {
            step = 1;
            state = shared.overseer.wait(state).expect("the pool's lock is sound");
            continue;
        }
        let taken = shared.taken.load(Ordering::Relaxed);
        state = shared.overseer.wait_timeout(state, STALL).expect("the pool's lock is sound").0;
        if state.queue.is_empty() {
            state.overseeing = false;
        } else if shared.taken.load(Ordering::Relaxed) == taken {
            let lent = step.min(state.queue.len());
            step *= 2;
            for _ in 0..lent {
                state.lent += 1;
                shared.rouse(state);
                state = shared.lock();
            }
        } else {
            step = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    struct Once<F>(Mutex<Option<F>>);

    impl<F: FnOnce() + Send + 'static> Runnable for Once<F> {
        fn run(self: Arc<Self>) {
            let run = self.0.lock().unwrap().take().expect("scheduled once");
            run();
        }
    }

    fn once(run: impl FnOnce() + Send + 'static) -> Arc<dyn Runnable> {
        Arc::new(Once(Mutex::new(Some(run))))
    }

    fn pool(width: usize, overseer: bool) -> Pool {
        Pool::new(Options { name: "test", width, threads_max: 64, overseer })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    struct At(Place);

    impl Runnable for At {
        fn run(self: Arc<Self>) {}
        fn place(&self) -> Place {
            self.0
        }
    }

    #[test]
    fn a_thread_takes_the_highest_level_of_its_home_then_the_lowest_of_others() {
        let mut queue = Queue::new(2);
        for (home, level) in [(0, 1), (1, 2), (2, 9), (1, 0), (0, 1), (3, 2)] {
            queue.push(Arc::new(At(Place { home, level })));
        }
        assert_eq!(queue.len(), 6);
        let mut order = Vec::new();
        while let Some(runnable) = queue.pop(2) {
            let Place { home, level } = runnable.place();
            order.push((home, level));
        }
        assert_eq!(order, [(2, 9), (0, 1), (0, 1), (1, 0), (1, 2), (3, 2)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn everything_scheduled_runs() {
        let pool = pool(2, false);
        let count = Arc::new(AtomicUsize::new(0));
        let (sender, done) = std::sync::mpsc::channel();
        for _ in 0..1000 {
            let (count, sender, inner) = (count.clone(), sender.clone(), pool.clone());
            pool.schedule(once(move || {
                inner.schedule_next(once(move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    sender.send(()).unwrap();
                }));
            }));
        }
        for _ in 0..1000 {
            done.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 1000);
        assert_eq!(pool.shutdown(soon()), 0);
    }

    #[test]
    fn a_blocked_thread_is_replaced() {
        let pool = pool(1, false);
        let met = Arc::new(Barrier::new(11));
        for _ in 0..10 {
            let met = met.clone();
            pool.schedule(once(move || {
                blocking(|| met.wait());
            }));
        }
        met.wait();
        assert_eq!(pool.shutdown(soon()), 0);
    }

    #[test]
    fn the_overseer_replaces_threads_that_wait_without_a_word() {
        let pool = pool(1, true);
        let met = Arc::new(Barrier::new(11));
        for _ in 0..10 {
            let met = met.clone();
            pool.schedule(once(move || {
                met.wait();
            }));
        }
        met.wait();
        assert_eq!(pool.shutdown(soon()), 0);
    }

    #[test]
    fn a_shutdown_reports_who_does_not_end() {
        let pool = pool(1, false);
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let (started, start) = std::sync::mpsc::channel();
        pool.schedule(once(move || {
            started.send(()).unwrap();
            let _ = gate.recv();
        }));
        start.recv().unwrap();
        assert_eq!(pool.shutdown(Instant::now()), 1);
        drop(release);
    }
}
