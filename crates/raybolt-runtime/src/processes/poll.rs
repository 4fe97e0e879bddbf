//! Waiting for several links at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// The token of the interrupt.
const INTERRUPT: u64 = u64::MAX;
/// How many links one wait reports.
const EVENTS_MAX: usize = 64;

/// A set of links, each with a token.
pub(crate) struct Poll {
    epoll: OwnedFd,
    interrupt: OwnedFd,
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
        Ok(Poll { epoll, interrupt })
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
    pub(crate) fn wait(&self, timeout: Option<Duration>, mut each: impl FnMut(Ready)) {
        let empty = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [empty; EVENTS_MAX];
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let Ok(count) = epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) else {
            return; // Interrupted by a signal: the caller looks again.
        };
        for event in &events[..count] {
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
