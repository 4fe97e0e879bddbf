//! One session at a time, and places where tasks meet: no test sleeps.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raybolt::{Builder, LogLevel, Session};

/// How long a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(60);

/// A session, and the turn of the test that has it.
pub struct Running {
    pub session: Session, // Ends before the next test has its turn.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

/// The turn without a session.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session with two CPUs.
pub fn session() -> Running {
    session_with(Builder::new().num_cpus(2.0))
}

pub fn session_with(builder: Builder) -> Running {
    let turn = turn();
    let session = builder.log_level(LogLevel::Off).start().expect("no other session is there");
    Running { session, _turn: turn }
}

static PLACES: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
static REACHED: Condvar = Condvar::new();

/// One more has come to this place. Tests choose names of their own.
pub fn reach(place: &str) {
    *PLACES.lock().unwrap().entry(place.to_owned()).or_default() += 1;
    REACHED.notify_all();
}

/// How many have come to this place.
pub fn count(place: &str) -> usize {
    PLACES.lock().unwrap().get(place).copied().unwrap_or(0)
}

/// Waits until so many have come to this place. A task keeps its CPU meanwhile.
pub fn await_count(place: &str, n: usize) {
    let late = Instant::now() + SOON;
    let mut places = PLACES.lock().unwrap();
    while places.get(place).copied().unwrap_or(0) < n {
        let left = late.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nobody came to `{place}`");
        places = REACHED.wait_timeout(places, left).unwrap().0;
    }
}

/// Comes to `PLACE in`, and goes on when someone has come to `PLACE out`.
pub fn pass(place: &str) {
    reach(&format!("{place} in"));
    await_count(&format!("{place} out"), 1);
}

/// Waits until `n` are in `pass(place)`.
pub fn await_in(place: &str, n: usize) {
    await_count(&format!("{place} in"), n);
}

/// Lets all in `pass(place)` go on.
pub fn let_out(place: &str) {
    reach(&format!("{place} out"));
}
