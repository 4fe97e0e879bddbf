//! The door's thread: whom it lets in, and whom it sends away.

use std::cmp::Reverse;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::{Guest, Limits, PAUSE, Shared};
use crate::frame::LENGTH_BYTES;
use crate::handshake::{Handshake, Identity, LETTER_BYTES_MAX, Nonce, Refusal};

/// How many connections are accepted before callers are heard again.
const ACCEPTS_PER_TURN: usize = 64;

/// The door's thread.
pub(super) struct Porter {
    listener: OwnedFd,
    /// Rung once, to end the thread.
    bell: Arc<OwnedFd>,
    identity: Identity,
    limits: Limits,
    shared: Arc<Shared>,
    on_guest: Box<dyn Fn(Guest) + Send + Sync>,
    /// In the order in which they came.
    callers: Vec<Caller>,
    /// Until when nobody is accepted (DOOR-4).
    paused_until: Option<Instant>,
}

struct Caller {
    stream: UnixStream,
    pid: u32,
    deadline: Instant,
    handshake: Handshake,
}

/// What became of a caller that was heard.
enum Heard {
    Goes,
    Waits,
    Proved,
}

/// Why there is no further caller.
enum NotAccepted {
    Foreign,
    Nobody,
    NoDescriptor,
}

impl Porter {
    pub(super) fn new(
        listener: OwnedFd,
        bell: Arc<OwnedFd>,
        identity: Identity,
        limits: Limits,
        shared: Arc<Shared>,
        on_guest: Box<dyn Fn(Guest) + Send + Sync>,
    ) -> Self {
        let callers = Vec::new();
        Porter { listener, bell, identity, limits, shared, on_guest, callers, paused_until: None }
    }

    pub(super) fn run(mut self) {
        while let Some(ready) = self.wait() {
            // Callers first: who is about to prove itself shall not be crowded out by who comes now.
            self.hear(&ready);
            self.send_away_the_late(Instant::now());
            if ready.connections {
                self.accept();
            }
            self.shared.callers.store(self.callers.len(), Ordering::Relaxed);
        }
    }

    /// Sleeps until something is to be done; `None` when the bell rang.
    fn wait(&mut self) -> Option<Ready> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let accepts = if self.paused_until.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = Vec::with_capacity(2 + self.callers.len());
        fds.push(PollFd::new(&*self.bell, PollFlags::IN));
        fds.push(PollFd::new(&self.listener, accepts));
        for caller in &self.callers {
            let says_more = !caller.handshake.letters().is_empty();
            let wants = if says_more { PollFlags::OUT } else { PollFlags::IN };
            fds.push(PollFd::new(&caller.stream, wants));
        }
        let timeout = self.next_deadline().map(|at| timespec(at.saturating_duration_since(now)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
            // Only a broken promise of ours (a bad descriptor) gets here; trying again would spin.
            Err(errno) => panic!("the door cannot wait: {errno}"),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let rung = ready.next().expect("the bell is the first");
        let connections = ready.next().expect("the listener is the second");
        if rung { None } else { Some(Ready { connections, callers: ready.collect() }) }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.callers.iter().map(|caller| caller.deadline).chain(self.paused_until).min()
    }

    /// Hears the callers that have something to say.
    fn hear(&mut self, ready: &Ready) {
        let mut ready = ready.callers.iter();
        let callers = std::mem::take(&mut self.callers);
        for mut caller in callers {
            let heard = match ready.next() {
                Some(true) => caller.hear(),
                _ => Heard::Waits,
            };
            match heard {
                Heard::Waits => self.callers.push(caller),
                Heard::Goes => count(&self.shared.failed),
                Heard::Proved => self.let_in(caller),
            }
        }
    }

    fn let_in(&mut self, caller: Caller) {
        let Caller { stream, pid, handshake, .. } = caller;
        let hello = handshake.met().expect("it was asked before");
        self.shared.expected().remove(&pid);
        count(&self.shared.admitted);
        (self.on_guest)(Guest { stream, hello, pid });
    }

    /// DOOR-5.
    fn send_away_the_late(&mut self, now: Instant) {
        for late in self.callers.extract_if(.., |caller| caller.deadline <= now) {
            count(&self.shared.late);
            late.refuse(Refusal::Late);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.accept_one() {
                Ok(caller) => self.callers.push(caller),
                Err(NotAccepted::Foreign) => count(&self.shared.foreign),
                Err(NotAccepted::Nobody) => return,
                Err(NotAccepted::NoDescriptor) => {
                    count(&self.shared.paused);
                    self.paused_until = Some(Instant::now() + PAUSE);
                    return;
                }
            }
            if self.callers.len() > self.limits.callers_max {
                self.make_room();
            }
        }
    }

    fn accept_one(&self) -> Result<Caller, NotAccepted> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = match rustix::net::accept_with(&self.listener, flags) {
            Ok(fd) => UnixStream::from(fd),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                return Err(NotAccepted::NoDescriptor);
            }
            // Nobody there, or gone before it was its turn: the next wait tells.
            Err(_) => return Err(NotAccepted::Nobody),
        };
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else {
            return Err(NotAccepted::Foreign);
        };
        if peer.uid != rustix::process::geteuid() {
            return Err(NotAccepted::Foreign);
        }
        // Without random numbers there is no handshake; a system that has none is out of memory.
        let Ok(nonce) = Nonce::random() else { return Err(NotAccepted::NoDescriptor) };
        Ok(Caller {
            stream,
            pid: peer.pid.as_raw_pid().cast_unsigned(),
            deadline: Instant::now() + self.limits.deadline,
            handshake: Handshake::answer(&self.identity, nonce),
        })
    }

    /// DOOR-3. Seldom, and a matter of `callers_max` squared comparisons of numbers.
    fn make_room(&mut self) {
        let expected = self.shared.expected();
        let of_process = |pid| self.callers.iter().filter(|caller| caller.pid == pid).count();
        let victim = self.callers.iter().enumerate().max_by_key(|(age, caller)| {
            (!expected.contains(&caller.pid), of_process(caller.pid), Reverse(*age))
        });
        let victim = victim.map(|(index, _)| index);
        drop(expected);
        if let Some(index) = victim {
            count(&self.shared.crowded_out);
            self.callers.remove(index).refuse(Refusal::Busy);
        }
    }
}

/// What a wait found.
struct Ready {
    connections: bool,
    /// One for each caller.
    callers: Vec<bool>,
}

impl Caller {
    /// Reads and writes as much as there is, but not beyond the handshake (HAND-4).
    fn hear(&mut self) -> Heard {
        let mut buffer = [0; LENGTH_BYTES + LETTER_BYTES_MAX];
        loop {
            match self.write() {
                Heard::Waits if !self.handshake.letters().is_empty() => return Heard::Waits,
                Heard::Goes => return Heard::Goes,
                _ => {}
            }
            if self.handshake.met().is_some() {
                return Heard::Proved;
            }
            let wants = self.handshake.wants();
            match rustix::net::recv(&self.stream, &mut buffer[..wants], RecvFlags::empty()) {
                Ok((0, _)) => return Heard::Goes,
                Ok((bytes, _)) => {
                    if self.handshake.push(&buffer[..bytes]).is_err() {
                        // Why, if the socket takes it at once.
                        let _ = self.write();
                        return Heard::Goes;
                    }
                }
                Err(Errno::AGAIN) => return Heard::Waits,
                Err(Errno::INTR) => {}
                Err(_) => return Heard::Goes,
            }
        }
    }

    /// Writes what the handshake has to say; `Waits` when that is done or the socket is full.
    fn write(&mut self) -> Heard {
        while !self.handshake.letters().is_empty() {
            match rustix::net::send(&self.stream, self.handshake.letters(), SendFlags::NOSIGNAL) {
                Ok(bytes) => self.handshake.sent(bytes),
                Err(Errno::AGAIN) => return Heard::Waits,
                Err(Errno::INTR) => {}
                Err(_) => return Heard::Goes,
            }
        }
        Heard::Waits
    }

    /// Tells why, if the socket takes it at once, and hangs up.
    fn refuse(self, refusal: Refusal) {
        let _ = rustix::net::send(&self.stream, &refusal.letter(), SendFlags::NOSIGNAL);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Rounded up, so that what is waited for is due at the end.
fn timespec(duration: Duration) -> Timespec {
    let duration = duration + Duration::from_micros(1);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
