//! Who reads the links: leader and followers.
//!
//! # Words
//! The *leader* is the one thread that waits for the links of this process and reads them. *Followers*
//! are threads that would take its place. The *standby* is a thread of our own that leads when nobody
//! else does for a while.
//!
//! # Protocol
//! 1. A thread that would sleep until something arrives takes the lead, if it is free, and reads until
//!    its own matter is done. Otherwise it follows: it sleeps until its matter is done or the lead is free.
//! 2. Who leaves the lead wakes one follower, which takes it. A follower whose own matter was done meanwhile needs it no
//!    more: then it is as if it had led, and left.
//! 3. If there is none, the lead is *vacant*. That costs nothing: most often the thread is back soon. The
//!    standby looks each [`PERIOD`] while there is life; it takes a lead that was vacant for a whole
//!    period, and gives it up as soon as somebody follows.
//! 4. While somebody else leads and nothing happens, the standby sleeps; who leaves the lead vacant
//!    wakes it.
//!
//! So a synchronous call costs two wake-ups: the thread that reads the call runs it, and the thread
//! that waits for the answer reads it.
//!
//! 5. Who reads a burst of answers wakes each follower once, [after it](gathering): woken for the first of its answers,
//!    it would sleep again before the second is read.
//!
//! # Invariants
//! - **LEAD-1 (one reader).** At most one thread leads.
//! - **LEAD-2 (never vacant for long).** A vacant lead is taken within two periods.
//! - **LEAD-3 (idle is free).** If nothing arrives and nobody calls, no thread wakes up.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::slot::{Slot, Waiter};

/// How long the lead may be vacant before the standby looks.
const PERIOD: Duration = Duration::from_millis(1);

/// What a leader reads.
pub(crate) trait Source: Send + Sync + 'static {
    /// Waits for something to arrive, at most for `timeout`, reads it and acts on it.
    fn read(&self, timeout: Option<Duration>);
    /// Makes a `read` that waits return.
    fn interrupt(&self);
}

/// The lead of a process.
pub(crate) struct Leader<S> {
    pub(crate) source: S,
    taken: AtomicBool,
    /// How often the lead was taken: signs of life for the standby.
    turns: AtomicU64,
    /// Whether the standby sleeps until somebody wakes it.
    is_asleep: AtomicBool,
    standby: OnceLock<Thread>,
    /// Who leads, by [`Party`]; 0 for nobody.
    led_by: AtomicU64,
    waiting: AtomicUsize,
    followers: Mutex<Vec<Thread>>,
    stopping: AtomicBool,
}

/// A thread that takes part, for whoever has news for it.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    thread: Thread,
    id: u64,
}

/// The lead, while held.
pub(crate) struct Lead<'a, S: Source>(&'a Leader<S>);

impl<S: Source> Leader<S> {
    /// A lead that is vacant, and its standby.
    pub(crate) fn start(source: S, name: &str) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let leader = Arc::new(Self::vacant(source));
        let standing = leader.clone();
        let thread =
            std::thread::Builder::new().name(name.into()).spawn(move || standing.stand_by())?;
        Ok((leader, thread))
    }

    fn vacant(source: S) -> Self {
        Leader {
            source,
            taken: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            is_asleep: AtomicBool::new(false),
            standby: OnceLock::new(),
            led_by: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            followers: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Takes part until `done`, or until `deadline`: leads, or follows. Whoever makes it done calls
    /// [`Leader::nudge`] with this thread's [`Party`].
    pub(crate) fn wait(&self, deadline: Option<Instant>, done: impl Fn() -> bool) {
        let mut enlisted = false;
        while !done() && !self.stopping.load(Ordering::Relaxed) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            if let Some(lead) = self.try_lead() {
                if enlisted {
                    self.leave_the_list();
                    enlisted = false;
                }
                self.lead(&lead, deadline, &done);
            } else if !enlisted {
                self.enlist();
                enlisted = true; // Look once more: the leader may have left before it saw us.
            } else {
                match left {
                    None => std::thread::park(),
                    Some(left) => std::thread::park_timeout(left),
                }
                enlisted = self.is_enlisted();
            }
        }
        if enlisted {
            self.leave_the_list();
        }
        self.pass_on(); // We may have been woken in order to lead, and nobody else was.
    }

    /// Takes part until a value is there.
    pub(crate) fn wait_for<'a, T>(
        self: &Arc<Self>,
        slot: &'a Slot<T>,
        until: Option<Instant>,
    ) -> Option<&'a T> {
        let (key, call) = self.nudging();
        if slot.watch(Waiter::Callback { key, call }).is_ok() {
            self.wait(until, || slot.is_set());
            slot.unwatch(key);
        }
        slot.get()
    }

    /// Takes part until one of two values is there.
    pub(crate) fn wait_for_either<T, U>(self: &Arc<Self>, one: &Slot<T>, other: &Slot<U>) {
        let (key, call) = self.nudging();
        if one.watch(Waiter::Callback { key, call: call.clone() }).is_ok() {
            if other.watch(Waiter::Callback { key, call }).is_ok() {
                self.wait(None, || one.is_set() || other.is_set());
                other.unwatch(key);
            }
            one.unwatch(key);
        }
    }

    /// What nudges this thread, and a name for it.
    fn nudging(self: &Arc<Self>) -> (usize, Arc<dyn Fn() + Send + Sync>) {
        let (nudged, party) = (self.clone(), Party::me());
        let call: Arc<dyn Fn() + Send + Sync> = Arc::new(move || nudged.nudge(&party));
        (Arc::as_ptr(&call).cast::<()>() as usize, call)
    }

    fn lead(&self, lead: &Lead<'_, S>, deadline: Option<Instant>, done: &impl Fn() -> bool) {
        while !done() && !self.is_stopping() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            lead.read(left);
        }
    }

    /// The lead, if it is free.
    pub(crate) fn try_lead(&self) -> Option<Lead<'_, S>> {
        if self.taken.swap(true, Ordering::SeqCst) {
            return None;
        }
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.led_by.store(Party::my_id(), Ordering::SeqCst);
        Some(Lead(self))
    }

    /// What `party` waits for has happened.
    pub(crate) fn nudge(&self, party: &Party) {
        if party.id == Party::my_id() {
            return; // It reads this very event.
        }
        if gathered(party) {
            return; // We read, so it does not.
        }
        party.thread.unpark();
        if self.led_by.load(Ordering::SeqCst) == party.id {
            self.source.interrupt();
        }
    }

    /// Nobody reads any more; the standby ends, and whoever waits goes away without.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.source.interrupt();
        if let Some(standby) = self.standby.get() {
            standby.unpark();
        }
        for follower in self.lock().iter() {
            follower.unpark();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The life of the standby.
    fn stand_by(&self) {
        self.standby.get_or_init(std::thread::current);
        let mut seen = u64::MAX;
        while !self.stopping.load(Ordering::SeqCst) {
            let turns = self.turns.load(Ordering::SeqCst);
            let quiet = turns == seen;
            seen = turns;
            if quiet && self.taken.load(Ordering::SeqCst) {
                self.sleep(turns);
            } else if quiet && let Some(lead) = self.try_lead() {
                while self.waiting.load(Ordering::SeqCst) == 0
                    && !self.stopping.load(Ordering::SeqCst)
                {
                    self.source.read(None);
                }
                drop(lead);
            } else {
                std::thread::park_timeout(PERIOD);
            }
        }
    }

    /// Somebody leads, and nothing happens: sleeps until the lead is left vacant.
    fn sleep(&self, turns: u64) {
        self.is_asleep.store(true, Ordering::SeqCst);
        // The leader may have left, and others come and gone, before it could see that we sleep.
        let moved = || self.turns.load(Ordering::SeqCst) != turns;
        while self.is_asleep.load(Ordering::SeqCst)
            && self.taken.load(Ordering::SeqCst)
            && !moved()
            && !self.stopping.load(Ordering::SeqCst)
        {
            std::thread::park();
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    fn enlist(&self) {
        self.lock().push(std::thread::current());
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    fn leave_the_list(&self) {
        let me = std::thread::current().id();
        let mut followers = self.lock();
        if let Some(place) = followers.iter().position(|thread| thread.id() == me) {
            followers.swap_remove(place);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn is_enlisted(&self) -> bool {
        let me = std::thread::current().id();
        self.lock().iter().any(|thread| thread.id() == me)
    }

    /// Wakes a follower if the lead is free, or else the standby (LEAD-2).
    fn pass_on(&self) {
        if self.taken.load(Ordering::SeqCst) {
            return; // Who has it passes it on.
        }
        if self.waiting.load(Ordering::SeqCst) > 0
            && let Some(next) = self.next_follower()
        {
            next.unpark();
        } else if self.is_asleep.load(Ordering::SeqCst)
            && self.is_asleep.swap(false, Ordering::SeqCst)
            && let Some(standby) = self.standby.get()
        {
            standby.unpark();
        }
    }

    fn next_follower(&self) -> Option<Thread> {
        let mut followers = self.lock();
        let next = followers.pop();
        self.waiting.fetch_sub(usize::from(next.is_some()), Ordering::SeqCst);
        next
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.followers.lock().expect("no thread panics with this lock")
    }
}

thread_local! {
    /// Whom the burst that is read here has news for, while one is.
    static GATHERED: RefCell<Option<Vec<Party>>> = const { RefCell::new(None) };
}

/// Runs `read`, which reads as the leader, and then wakes those that it has [nudged](Leader::nudge).
pub(crate) fn gathering<R>(read: impl FnOnce() -> R) -> R {
    /// Wakes them even if `read` panics.
    struct Wakes;
    impl Drop for Wakes {
        fn drop(&mut self) {
            for party in GATHERED.take().into_iter().flatten() {
                party.thread.unpark();
            }
        }
    }
    GATHERED.set(Some(Vec::new()));
    let _wakes = Wakes;
    read()
}

/// Whether `party` is woken after the burst that is read here.
fn gathered(party: &Party) -> bool {
    GATHERED.with_borrow_mut(|gathered| {
        let Some(parties) = gathered else { return false };
        if parties.iter().all(|other| other.id != party.id) {
            parties.push(party.clone());
        }
        true
    })
}

impl Party {
    /// The current thread.
    pub(crate) fn me() -> Self {
        Party { thread: std::thread::current(), id: Self::my_id() }
    }

    fn my_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local!(static ID: u64 = NEXT.fetch_add(1, Ordering::Relaxed));
        ID.with(|id| *id)
    }
}

impl<S: Source> Lead<'_, S> {
    /// Waits for something to arrive, at most for `timeout`, reads it and acts on it.
    pub(crate) fn read(&self, timeout: Option<Duration>) {
        self.0.source.read(timeout);
    }
}

impl<S: Source> Drop for Lead<'_, S> {
    fn drop(&mut self) {
        let leader = self.0;
        leader.led_by.store(0, Ordering::SeqCst);
        leader.taken.store(false, Ordering::SeqCst);
        leader.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// What is read here are turns of the test: each is told, and all but the last are waited for.
    struct Turns {
        next: Mutex<Receiver<()>>,
        read: Mutex<Sender<()>>,
    }

    impl Source for Turns {
        fn read(&self, _: Option<Duration>) {
            let next = self.next.lock().expect("no thread panics with this lock");
            if next.recv().is_ok() {
                let read = self.read.lock().expect("no thread panics with this lock");
                read.send(()).expect("the test listens");
            }
        }

        fn interrupt(&self) {}
    }

    #[test]
    fn the_lead_is_not_left_vacant_by_a_follower_who_was_woken_for_it_and_needs_it_no_more() {
        let ((turn, next), (read, reads)) = (channel(), channel());
        let turns = Turns { next: Mutex::new(next), read: Mutex::new(read) };
        let leader = Arc::new(Leader::vacant(turns));
        let is_done = Arc::new(AtomicBool::new(false));
        let wait = || {
            let (leader, is_done) = (leader.clone(), is_done.clone());
            std::thread::spawn(move || leader.wait(None, || is_done.load(Ordering::SeqCst)))
        };
        let until = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                std::thread::yield_now();
            }
        };
        let leads = wait();
        until(&|| leader.taken.load(Ordering::SeqCst));
        let follows = wait();
        until(&|| leader.waiting.load(Ordering::SeqCst) == 1);
        let standing = leader.clone();
        let standby = std::thread::spawn(move || standing.stand_by());
        until(&|| leader.is_asleep.load(Ordering::SeqCst)); // Since nothing happens.
        // One and the same turn is what both have waited for.
        is_done.store(true, Ordering::SeqCst);
        turn.send(()).expect("somebody leads");
        [leads, follows].into_iter().for_each(|thread| thread.join().expect("it ends"));
        reads.recv_timeout(LONG).expect("the leader has read");
        turn.send(()).expect("the source is there");
        reads.recv_timeout(LONG).expect("somebody reads, though nobody waits");
        leader.stop();
        drop(turn);
        standby.join().expect("it ends");
    }

    #[test]
    fn who_is_nudged_often_in_one_burst_is_woken_once_and_after_it() {
        let (told, hears) = channel();
        let (turn, turns) = channel();
        let sleeper = std::thread::spawn(move || {
            told.send(Party::me()).expect("the test listens");
            std::thread::park();
            turn.send(()).expect("the test listens");
        });
        let party = hears.recv().expect("the sleeper says who it is");
        assert!(!gathered(&party), "nobody reads here: it is to be woken at once");
        gathering(|| {
            for _ in 0..3 {
                assert!(gathered(&party));
            }
            assert_eq!(GATHERED.with_borrow(|parties| parties.as_ref().map(Vec::len)), Some(1));
            assert!(turns.try_recv().is_err(), "it sleeps until the burst is over");
        });
        turns.recv().expect("it is woken after the burst");
        sleeper.join().expect("it ends");
    }
}
