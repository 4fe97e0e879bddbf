//! Two wake-ups: a thread asks another through a mutex and a condition variable, and sleeps until the
//! answer is there. What a call between two threads cannot go below, unless somebody spins or the
//! caller does the work itself.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Sample, latency_us};

/// A thread that answers.
pub struct Pair {
    shared: Arc<Shared>,
    answerer: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Nothing,
    Asked(u64),
    Answered(u64),
    Ended,
}

impl Pair {
    /// Starts the thread.
    pub fn new() -> Pair {
        let shared =
            Arc::new(Shared { state: Mutex::new(State::Nothing), changed: Condvar::new() });
        let theirs = shared.clone();
        Pair { shared, answerer: Some(std::thread::spawn(move || theirs.answer())) }
    }

    /// Asks for the number after `x`.
    pub fn ask(&self, x: u64) -> u64 {
        let mut state = self.shared.state.lock().unwrap();
        *state = State::Asked(x);
        self.shared.changed.notify_one();
        loop {
            state = self.shared.changed.wait(state).unwrap();
            if let State::Answered(y) = *state {
                return y;
            }
        }
    }

    /// p50 and p99 of [`ask`](Self::ask).
    pub fn latency_us(&self, time: Duration) -> Sample {
        let mut x = 0;
        latency_us(time, || x = self.ask(x))
    }
}

impl Shared {
    fn answer(&self) {
        let mut state = self.state.lock().unwrap();
        loop {
            match *state {
                State::Asked(x) => {
                    *state = State::Answered(x + 1);
                    self.changed.notify_one();
                }
                State::Ended => return,
                State::Nothing | State::Answered(_) => state = self.changed.wait(state).unwrap(),
            }
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        *self.shared.state.lock().unwrap() = State::Ended;
        self.shared.changed.notify_one();
        if let Some(answerer) = self.answerer.take() {
            answerer.join().expect("the answerer does not panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_answered_and_the_thread_ends() {
        let pair = Pair::new();
        for x in 0..1_000 {
            assert_eq!(pair.ask(x), x + 1);
        }
    }
}
