//! Streams across processes: the side of the generator, which runs in this worker.
//!
//! # Words
//! The *outlet* of a generator sends its items to the driver, as far as there is *room* at the other
//! end.
//!
//! # Invariants
//! - **OUTLET-1 (within its room).** Only items that the driver granted room for are sent; the
//!   generator waits with the first that is not, and its CPU is free meanwhile.
//! - **OUTLET-2 (soon).** An item lies here unsent for at most [`LINGER`], whatever the generator does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use raybolt_core::calls::streams::Outflow;
use raybolt_wire::Value;
use raybolt_wire::work::{self, NotAppended, ToDriver};

use crate::error::{Error, Kind, Result};
use crate::processes::inlet::Maker;
use crate::processes::leader::Party;
use crate::processes::link::FRAME_MAX;
use crate::processes::parcel::{self, Packed};
use crate::processes::serve::{LINGER, Serving};
use crate::session::{self, Place, Session};

/// The outlets of this process, by task and attempt.
#[derive(Default)]
pub(crate) struct Outlets(Mutex<HashMap<(u64, u32), Weak<Outlet>>>);

/// Where the items of a generator go.
pub(crate) struct Outlet {
    serving: Arc<Serving>,
    maker: Maker,
    gate: Mutex<Gate>,
    /// A timer will send what lies here.
    is_timed: Arc<AtomicBool>,
}

struct Gate {
    /// What there is room for.
    flow: Outflow,
    /// Why no more items can be made: the session is over, or the actor that makes them.
    over: Option<Error>,
    /// Tells the generator, which waits.
    nudge: Option<Arc<dyn Fn() + Send + Sync>>,
    /// When items were sent last.
    sent: Option<Instant>,
}

impl Outlets {
    /// There is room for items below `until`; without it nobody wants more.
    pub(crate) fn room(&self, task: u64, attempt: u32, until: Option<u64>) {
        let found = self.lock().get(&(task, attempt)).and_then(Weak::upgrade); // The lock ends here.
        if let Some(outlet) = found {
            outlet.tell(|gate| gate.flow.room(until));
        }
    }

    /// Nobody wants more items of a task.
    pub(crate) fn stop(&self, task: u64) {
        let found = {
            let outlets = self.lock();
            let of_task = outlets.iter().find(|((of, _), _)| *of == task);
            of_task.and_then(|(_, outlet)| outlet.upgrade())
        };
        if let Some(outlet) = found {
            outlet.tell(|gate| gate.flow.stopped());
        }
    }

    /// The session is over.
    pub(crate) fn end(&self) {
        let all: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|outlet| outlet.tell(|gate| gate.over = Some(over())));
    }

    /// An actor is killed.
    pub(crate) fn end_actor(&self, actor: u64, error: &Error) {
        let all: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        for outlet in all.iter().filter(|outlet| outlet.maker.actor == Some(actor)) {
            outlet.tell(|gate| gate.over = Some(error.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, u32), Weak<Outlet>>> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

impl Outlet {
    /// An outlet for one attempt of a task, which may send items with numbers below `until`.
    pub(crate) fn open(serving: &Arc<Serving>, maker: Maker, until: u64) -> Arc<Self> {
        let gate = Gate { flow: Outflow::new(until), over: None, nudge: None, sent: None };
        let outlet = Arc::new(Outlet {
            serving: serving.clone(),
            maker,
            gate: Mutex::new(gate),
            is_timed: Arc::default(),
        });
        serving.outlets.lock().insert((maker.task, maker.attempt), Arc::downgrade(&outlet));
        outlet
    }

    /// Sends an item, as soon as there is room; false if nobody wants it. `buffer` is scratch.
    pub(crate) fn send<T: Value>(
        &self,
        name: &str,
        index: u64,
        item: &T,
        buffer: &mut Vec<u8>,
    ) -> Result<bool> {
        buffer.clear();
        let refused = |because: String| Error::new(Kind::Encode { task: name.into(), because });
        let (packed, needs) = parcel::packing(|| parcel::put(item, buffer));
        let Packed { refs, guards, .. } = needs;
        packed.map_err(|error| refused(error.to_string()))?;
        session::with(|session| {
            if !self.has_room(session, index)? {
                return Ok(false);
            }
            let Maker { task, attempt, actor } = self.maker;
            let ids = refs.iter().map(|object| object.id()).collect();
            let message = ToDriver::Yielded { task, actor, attempt, index, refs: ids };
            match self.append(&message, buffer) {
                Some(Ok(())) => {}
                Some(Err(NotAppended::TooLong(too_long))) => {
                    return Err(refused(too_long.to_string()));
                }
                Some(Err(NotAppended::Body(never))) => match never {},
                None => return Err(over()),
            }
            drop(guards); // The item is on its way: a slab may go back after it.
            self.flush_soon(session);
            Ok(true)
        })?
    }

    /// Waits until there is room for an item (OUTLET-1); false if nobody wants it.
    fn has_room(&self, session: &Arc<Session>, index: u64) -> Result<bool> {
        if let Some(said) = self.gate().says(index) {
            return said;
        }
        let Maker { task, attempt, actor } = self.maker;
        let said = self.append(&ToDriver::Stalled { task, actor, attempt, index }, &[]);
        debug_assert!(said.is_none_or(|said| said.is_ok()), "a few numbers fit into a frame");
        session.blocking(|| {
            self.serving.link.flush();
            let Place::Driver(upstream) = &session.place else { return };
            let (nudged, party) = (upstream.leader.clone(), Party::me());
            self.gate().nudge = Some(Arc::new(move || nudged.nudge(&party)));
            upstream.leader.wait(None, || self.gate().says(index).is_some());
            self.gate().nudge = None;
        });
        self.gate().says(index).unwrap_or_else(|| Err(over()))
    }

    fn tell(&self, tell: impl FnOnce(&mut Gate)) {
        let nudge = {
            let mut gate = self.gate();
            tell(&mut gate);
            gate.nudge.clone()
        };
        if let Some(nudge) = nudge {
            nudge();
        }
    }

    /// Nothing if the driver is gone.
    fn append(
        &self,
        message: &ToDriver,
        body: &[u8],
    ) -> Option<Result<(), NotAppended<Infallible>>> {
        self.serving.link.append(|out| {
            work::append(out, message, FRAME_MAX, |out| {
                out.extend_from_slice(body);
                Ok(())
            })
        })
    }

    /// Sends what lies here, at once if nothing was sent lately; else a timer sees to it, or the next
    /// item.
    fn flush_soon(&self, session: &Session) {
        let now = Instant::now();
        let later = {
            let mut gate = self.gate();
            match gate.sent.map(|sent| sent + LINGER) {
                Some(later) if later > now => Some(later),
                _ => {
                    gate.sent = Some(now);
                    None
                }
            }
        };
        let Some(later) = later else { return self.serving.link.flush() };
        if self.is_timed.swap(true, Ordering::SeqCst) {
            return; // It flushes after this item was appended.
        }
        let (serving, is_timed) = (Arc::downgrade(&self.serving), self.is_timed.clone());
        session.timer.at(later, move || {
            is_timed.store(false, Ordering::SeqCst); // First: who comes now sets a timer of its own.
            if let Some(serving) = serving.upgrade() {
                serving.link.flush();
            }
        });
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().expect("no thread panics with this lock")
    }
}

impl Gate {
    /// Whether an item is wanted; nothing if it has to wait.
    fn says(&self, index: u64) -> Option<Result<bool>> {
        match (self.flow.says(index), &self.over) {
            (Some(false), _) => Some(Ok(false)),
            (_, Some(error)) => Some(Err(error.clone())),
            (said, None) => said.map(Ok),
        }
    }
}

/// Without it the stream would look as if there were no more items.
fn over() -> Error {
    Error::new(Kind::SessionEnded { what: "the rest of a stream".into() })
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.serving.outlets.lock().remove(&(self.maker.task, self.maker.attempt));
    }
}
