//! Waiting for several links at once.
//!
//! To put a thread to sleep and to wake it costs more than the whole of a short call: about 4 µs here, twice a call.
//! Who waits for an answer to something short therefore [*looks*](Poll::look_and_wait) for a while first, and lets others
//! have the processor between two looks. The latter is what makes it safe: the kernel likes to put two
//! processes that talk on one processor, and there a look that only spins keeps the other side from answering
//! (measured: 24 µs a round trip instead of 3.9 asleep and 3.3 with `sched_yield`; on two processors 3.1, 8.6 and
//! 3.3). Where looks were in vain they cease, until something comes quickly again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// The token of the interrupt.
const INTERRUPT: u64 = u64::MAX;
/// How many links one wait reports.
const EVENTS_MAX: usize = 64;
/// How long a wait looks before it sleeps: some times what is saved if something comes.
const LOOK: Duration = Duration::from_micros(20);
/// After how many waits in a row that took longer than a look they sleep at once.
const IN_VAIN_MAX: u32 = 8;

const NONE: [Event; EVENTS_MAX] =
    [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];

/// A set of links, each with a token.
pub(crate) struct Poll {
    epoll: OwnedFd,
    interrupt: OwnedFd,
    /// How many waits in a row took longer than a [`LOOK`].
    in_vain: AtomicU32,
}

/// What there is to do at a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let interrupt = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &interrupt, EventData::new_u64(INTERRUPT), EventFlags::IN)?;
        Ok(Poll { epoll, interrupt, in_vain: AtomicU32::new(0) })
    }

    pub(crate) fn add(&self, link: &impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, link, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Whether to report room for writing too.
    pub(crate) fn watch_room(&self, link: &impl AsFd, token: u64, also: bool) -> io::Result<()> {
        let room = if also { EventFlags::OUT } else { EventFlags::empty() };
        Ok(epoll::modify(&self.epoll, link, EventData::new_u64(token), EventFlags::IN | room)?)
    }

    pub(crate) fn remove(&self, link: &impl AsFd) {
        // One that was closed is gone from the set already.
        let _ = epoll::delete(&self.epoll, link);
    }

    /// Waits at most for `timeout`; calls `each` for every link with something to do.
    pub(crate) fn wait(&self, timeout: Option<Duration>, each: impl FnMut(Ready)) {
        let mut events = NONE;
        let count = self.sleep(&mut events, timeout);
        self.report(&events[..count], each);
    }

    /// As [`wait`](Poll::wait), for who expects something soon. One thread at a time.
    pub(crate) fn look_and_wait(&self, timeout: Option<Duration>, each: impl FnMut(Ready)) {
        let mut events = NONE;
        let begun = Instant::now();
        let look = LOOK.min(timeout.unwrap_or(LOOK));
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        let mut count = 0;
        if in_vain < IN_VAIN_MAX {
            while count == 0 && begun.elapsed() < look {
                count = self.sleep(&mut events, Some(Duration::ZERO));
                if count == 0 {
                    std::thread::yield_now();
                }
            }
        }
        if count == 0 {
            count = self.sleep(&mut events, timeout.map(|timeout| timeout.saturating_sub(look)));
        }
        // Who slept was woken late: what takes two looks then would have come within one.
        let was_quick = begun.elapsed() < LOOK * 2;
        self.in_vain
            .store(if was_quick { 0 } else { in_vain.saturating_add(1) }, Ordering::Relaxed);
        self.report(&events[..count], each);
    }

    /// Sleeps until there is something to do. Returns the number of events.
    fn sleep(&self, events: &mut [Event; EVENTS_MAX], timeout: Option<Duration>) -> usize {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // Interrupted by a signal: the caller looks again.
        epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()).unwrap_or(0)
    }

    fn report(&self, events: &[Event], mut each: impl FnMut(Ready)) {
        for event in events {
            let (token, flags) = (event.data.u64(), event.flags); // Copied: the event is packed.
            if token == INTERRUPT {
                let mut count = [0; 8];
                // Somebody else may have read it.
                let _ = rustix::io::read(&self.interrupt, &mut count);
                continue;
            }
            let over = EventFlags::HUP | EventFlags::ERR;
            each(Ready {
                token,
                is_readable: flags.intersects(EventFlags::IN | over),
                is_writable: flags.contains(EventFlags::OUT),
            });
        }
    }

    /// Makes a wait return.
    pub(crate) fn interrupt(&self) {
        // Full only if it is set already.
        let _ = rustix::io::write(&self.interrupt, &1_u64.to_ne_bytes());
    }
}
