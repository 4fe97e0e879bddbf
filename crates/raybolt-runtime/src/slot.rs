//! A value that is set once and awaited by any number of threads, futures and callbacks.
//!
//! # Protocol
//! 1. A waiter locks the list, adds itself, then moves the state from `Empty` to `Watched`. If it
//!    finds `Set` instead, it takes itself back: the value is there.
//! 2. The setter writes the value, then swaps the state to `Set`. If it was `Watched`, it takes the
//!    list and wakes everyone on it, outside the lock.
//!
//! A slot that nobody waits for costs its setter one swap and no lock.
//!
//! # Invariants
//! - **SLOT-1 (no lost wake-up).** Whoever is on the list when the value is set is woken.
//! - **SLOT-2 (written once).** The value never changes after `Set` was seen.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU8, Mutex, Ordering};

const EMPTY: u8 = 0;
const WATCHED: u8 = 1;
const SET: u8 = 2;

/// How long a thread looks at a slot before it sleeps. A sleep and a wake-up cost more than this
/// together, so a value that arrives within it is had for less.
pub const SPIN: Duration = Duration::from_micros(5);

/// A value that is set once.
pub struct Slot<T> {
    state: AtomicU8,
    value: OnceLock<T>,
    waiters: Mutex<Waiters>,
}

/// Behind a pointer, since most values find nobody waiting: a slot is a large part of a small object.
#[derive(Default)]
struct Waiters(Option<Box<List>>);

#[derive(Default)]
struct List(Vec<Waiter>);

impl Waiters {
    fn push(&mut self, waiter: Waiter) {
        self.0.get_or_insert_default().0.push(waiter);
    }

    fn retain(&mut self, keep: impl FnMut(&Waiter) -> bool) {
        if let Some(list) = &mut self.0 {
            list.0.retain(keep);
        }
    }

    fn take(&mut self) -> Vec<Waiter> {
        self.0.take().map(|list| list.0).unwrap_or_default()
    }
}

/// Someone to tell when the value is there.
pub enum Waiter {
    /// A thread that sleeps in [`std::thread::park`] and looks again when woken.
    Thread(Thread),
    /// A future.
    Future(Waker),
    /// Anything else; runs on the thread that sets the value, so it must be short. Waiters with the
    /// same `key` can be removed together.
    Callback {
        /// Names the waiter for [`Slot::unwatch`].
        key: usize,
        /// What to do.
        call: Arc<dyn Fn() + Send + Sync>,
    },
}

impl Waiter {
    fn wake(self) {
        match self {
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Future(waker) => waker.wake(),
            Waiter::Callback { call, .. } => call(),
        }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slot<T> {
    /// A slot without a value.
    pub fn new() -> Self {
        Slot {
            state: AtomicU8::new(EMPTY),
            value: OnceLock::new(),
            waiters: Mutex::new(Waiters::default()),
        }
    }

    /// A slot that has its value already.
    pub fn ready(value: T) -> Self {
        let slot = Slot::new();
        let first = slot.set(value).is_ok();
        debug_assert!(first);
        slot
    }

    /// Sets the value and wakes everyone who waits for it.
    ///
    /// # Errors
    /// Gives the value back if there is one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        if self.state.swap(SET, Ordering::AcqRel) == WATCHED {
            let waiters = self.waiters.lock().unwrap().take();
            waiters.into_iter().for_each(Waiter::wake);
        }
        Ok(())
    }

    /// The value, if it is there.
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) == SET { self.value.get() } else { None }
    }

    /// Whether the value is there.
    pub fn is_set(&self) -> bool {
        self.state.load(Ordering::Acquire) == SET
    }

    /// Whether somebody waits for the value.
    pub fn is_watched(&self) -> bool {
        self.state.load(Ordering::Acquire) == WATCHED
    }

    /// The value, out of a slot that nobody shares.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Tells `waiter` when the value is set; gives it back if that has happened already.
    ///
    /// # Errors
    /// Gives the waiter back: the value is there.
    pub fn watch(&self, waiter: Waiter) -> Result<(), Waiter> {
        let mut waiters = self.waiters.lock().unwrap();
        match self.state.compare_exchange(EMPTY, WATCHED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(WATCHED) => {
                waiters.push(waiter);
                Ok(())
            }
            Err(_) => Err(waiter),
        }
    }

    /// Forgets the callbacks with this key.
    pub fn unwatch(&self, key: usize) {
        if !self.is_set() {
            let mut waiters = self.waiters.lock().unwrap();
            waiters
                .retain(|waiter| !matches!(waiter, Waiter::Callback { key: k, .. } if *k == key));
        }
    }

    /// Waits for the value, at most until `deadline`.
    pub fn wait(&self, deadline: Option<Instant>) -> Option<&T> {
        if let Some(value) = self.get().or_else(|| self.spin()) {
            return Some(value);
        }
        if self.watch(Waiter::Thread(std::thread::current())).is_ok() {
            while !self.is_set() {
                match deadline {
                    None => std::thread::park(),
                    Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                        Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                        _ => {
                            self.forget_thread();
                            return self.get();
                        }
                    },
                }
            }
        }
        self.get()
    }

    /// Waits until the value is set, as a future.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    pub fn changed(&self) -> Changed<'_, T> {
        Changed { slot: self, watched: None }
    }

    fn spin(&self) -> Option<&T> {
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..16 {
                if let Some(value) = self.get() {
                    return Some(value);
                }
                std::hint::spin_loop();
            }
        }
        None
    }

    fn forget_thread(&self) {
        let me = std::thread::current().id();
        let mut waiters = self.waiters.lock().unwrap();
        waiters.retain(|waiter| !matches!(waiter, Waiter::Thread(thread) if thread.id() == me));
    }
}

/// The future of [`Slot::changed`].
pub struct Changed<'a, T> {
    slot: &'a Slot<T>,
    watched: Option<Waker>,
}

impl<T> Changed<'_, T> {
    /// Takes its waker back: one of those that are equal, for each has its own future.
    fn forget(&mut self) {
        let Some(mine) = self.watched.take() else { return };
        if !self.slot.is_set() {
            let mut found = false;
            self.slot.waiters.lock().unwrap().retain(|waiter| {
                let is_mine = matches!(waiter, Waiter::Future(waker) if waker.will_wake(&mine));
                !is_mine || std::mem::replace(&mut found, true)
            });
        }
    }
}

impl<T> Drop for Changed<'_, T> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl<'a, T> Future for Changed<'a, T> {
    type Output = &'a T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.slot.get() {
            return Poll::Ready(value);
        }
        let watched = self.watched.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !watched {
            self.forget();
            self.watched = Some(cx.waker().clone());
            if self.slot.watch(Waiter::Future(cx.waker().clone())).is_err() {
                return Poll::Ready(
                    self.slot.get().expect("a slot refuses waiters once it is set"),
                );
            }
        }
        Poll::Pending
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn the_first_value_stays() {
        let slot = Slot::new();
        assert_eq!(slot.set(1), Ok(()));
        assert_eq!(slot.set(2), Err(2));
        assert_eq!(slot.get(), Some(&1));
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_leaves_no_waiter() {
        let slot = Slot::<u8>::new();
        assert_eq!(slot.wait(Some(Instant::now() + Duration::from_millis(1))), None);
        assert!(slot.waiters.lock().unwrap().take().is_empty());
    }

    #[test]
    fn a_dropped_future_takes_its_waker_along_and_no_other() {
        let slot = Slot::<u8>::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut stays = slot.changed();
        assert!(Pin::new(&mut stays).poll(&mut context).is_pending());
        for _ in 0..3 {
            let mut goes = slot.changed();
            assert!(Pin::new(&mut goes).poll(&mut context).is_pending());
        }
        assert_eq!(slot.waiters.lock().unwrap().take().len(), 1);
    }

    #[test]
    fn every_waiter_is_woken() {
        let slot = Arc::new(Slot::new());
        let calls = Arc::new(AtomicUsize::new(0));
        for key in 0..3 {
            let calls = calls.clone();
            let call = Arc::new(move || {
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert!(slot.watch(Waiter::Callback { key, call }).is_ok());
        }
        slot.unwatch(1);
        let waiting = slot.clone();
        let thread = std::thread::spawn(move || *waiting.wait(None).unwrap());
        slot.set(7).unwrap();
        assert_eq!(thread.join().unwrap(), 7);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc as LoomArc;
    use loom::sync::atomic::AtomicUsize;

    /// SLOT-1: the waiter is told, or is given back because the value is there.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let slot = LoomArc::new(Slot::new());
            let told = LoomArc::new(AtomicUsize::new(0));
            let setter = slot.clone();
            let thread = loom::thread::spawn(move || setter.set(1u8).unwrap());
            let called = told.clone();
            let call = Arc::new(move || {
                called.fetch_add(1, Ordering::Relaxed);
            });
            let refused = slot.watch(Waiter::Callback { key: 0, call }).is_err();
            thread.join().unwrap();
            assert_eq!(slot.get(), Some(&1));
            assert_eq!(told.load(Ordering::Relaxed), usize::from(!refused));
        });
    }
}
