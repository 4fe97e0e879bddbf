//! One thread that calls back at given times. Without timers it sleeps; nothing ticks.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// A handle to the timer thread; clones name the same one. It ends when the last one goes.
#[derive(Clone)]
pub struct Timer(Arc<Owner>);

/// Names a timer for [`Timer::cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerKey(Instant, u64);

type Call = Box<dyn FnOnce() + Send>;

struct Owner(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    calls: BTreeMap<TimerKey, Call>,
    next_key: u64,
    stopping: bool,
    started: bool,
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer {
    /// A timer whose thread starts with its first call.
    pub fn new() -> Self {
        Timer(Arc::new(Owner(Arc::new(Shared {
            state: Mutex::new(State {
                calls: BTreeMap::new(),
                next_key: 0,
                stopping: false,
                started: false,
            }),
            changed: Condvar::new(),
        }))))
    }

    /// Runs `call` at `when` or soon after, on the timer's thread: it must be short.
    pub fn at(&self, when: Instant, call: impl FnOnce() + Send + 'static) -> TimerKey {
        let shared = &self.0.0;
        let mut state = shared.lock();
        let key = TimerKey(when, state.next_key);
        state.next_key += 1;
        let earliest = state.calls.first_key_value().is_none_or(|(first, _)| key < *first);
        state.calls.insert(key, Box::new(call));
        if !std::mem::replace(&mut state.started, true) {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("raybolt-timer".into())
                .spawn(move || run(&shared))
                .expect("the timer's thread starts");
        }
        drop(state);
        if earliest {
            shared.changed.notify_one();
        }
        key
    }

    /// Forgets a timer; says whether it had not been called yet.
    pub fn cancel(&self, key: TimerKey) -> bool {
        let removed = self.0.0.lock().calls.remove(&key);
        removed.is_some() // Dropped here, outside the lock.
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().stopping = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the timer's lock")
    }
}

fn run(shared: &Shared) {
    let mut state = shared.lock();
    while !state.stopping {
        let now = Instant::now();
        let sound = "the timer's lock is sound";
        match state.calls.first_key_value().map(|(key, _)| *key) {
            None => state = shared.changed.wait(state).expect(sound),
            Some(key) if key.0 > now => {
                state = shared.changed.wait_timeout(state, key.0 - now).expect(sound).0;
            }
            Some(key) => {
                let call = state.calls.remove(&key).expect("it was there a moment ago");
                drop(state);
                call();
                state = shared.lock();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn calls_come_in_the_order_of_their_times_and_cancelled_ones_not_at_all() {
        let timer = Timer::new();
        let (sender, called) = channel();
        let now = Instant::now();
        // However long the test takes to say what it wants, the timer's thread hears all of it first.
        let (go_on, gate) = channel::<()>();
        timer.at(now, move || {
            let _ = gate.recv();
        });
        let mut keys = Vec::new();
        for delay in [30, 10, 20] {
            let sender = sender.clone();
            let when = now + Duration::from_millis(delay);
            keys.push(timer.at(when, move || sender.send(delay).unwrap()));
        }
        assert!(timer.cancel(keys[2]));
        assert!(!timer.cancel(keys[2]));
        drop((sender, go_on));
        assert_eq!(called.iter().collect::<Vec<_>>(), [10, 30]);
    }
}
