//! Reading values that may be lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Instead;
use crate::error::{Error, Kind, Result};
use crate::ids::Id;
use crate::inspect::why;
use crate::object::{AnyObject, Lazy, Object};
use crate::processes::layout::Source;
use crate::processes::parcel::{self, Unpackable};
use crate::processes::raw::{Encoded, Raw};
use crate::processes::shelf::{self, Parked, ShelfError};
use crate::session;

/// Where a value that lies in the store can be read.
pub(crate) enum Whereabouts {
    /// There.
    Here(Arc<Parked>),
    /// It was lost, and this was made instead.
    Instead(Arc<Encoded>),
    /// It was lost, and this is on its way.
    Coming(Arc<Object<Raw>>),
}
impl Instead {
    /// The same, if it is there by now, or its error.
    fn look(&self, lost: &Parked) -> Result<Whereabouts> {
        match self {
            Instead::There(parked) => parked.whereabouts(),
            Instead::Made(object, because) => match object.slot.get() {
                None => Ok(Whereabouts::Coming(object.clone())),
                Some(Ok(Lazy::Encoded(value))) => Ok(Whereabouts::Instead(value.clone())),
                Some(Ok(Lazy::Here(never))) => match *never {},
                Some(Err(error)) => {
                    let task = lost.origin.as_ref().map_or("a task", |origin| &origin.task);
                    let because = format!(
                        "{because}; task `{task}` ran again to make it, and failed: {error}"
                    );
                    Err(Error::new(Kind::ObjectLost { object: lost.object_name(), because }))
                }
            },
        }
    }
}

impl Parked {
    /// Where the value is to be read.
    ///
    /// # Errors
    /// When it is lost for good.
    pub(crate) fn whereabouts(self: &Arc<Self>) -> Result<Whereabouts> {
        let mut parked = self.clone();
        loop {
            match parked.instead() {
                None => return Ok(Whereabouts::Here(parked)),
                Some(Instead::There(there)) => parked = there,
                Some(made @ Instead::Made(..)) => return made.look(&parked),
            }
        }
    }

    /// It cannot be read: has it made again.
    pub(crate) fn lost(self: &Arc<Self>, because: &str) -> Result<()> {
        session::with(|session| session.make_again(self, because).map(drop))?
    }
}

/// What [`read`] found.
pub(crate) enum Read {
    /// The value can be read here.
    Source(Source),
    /// It has this value instead.
    Instead(Arc<Encoded>),
}

/// Finds where a value is to be read; waits until it is there, if it has to be made again.
///
/// # Errors
/// When it is lost for good, or not there in time. The store's own errors are apart.
pub(crate) fn read(
    parked: &Arc<Parked>,
    deadline: Option<(Instant, Duration)>,
) -> Result<Result<Read, ShelfError>> {
    loop {
        match parked.whereabouts()? {
            Whereabouts::Instead(value) => return Ok(Ok(Read::Instead(value))),
            Whereabouts::Coming(object) => wait(&object, deadline)?,
            Whereabouts::Here(at) => match at.source() {
                Ok(source) => return Ok(Ok(Read::Source(source))),
                Err(ShelfError::Lost(because)) => at.lost(&because)?,
                Err(error) => return Ok(Err(error)),
            },
        }
    }
}

/// Appends where a value lies for another process. If it has to be made again, a thread that may waits for that;
/// others are told what to wait for, by what the packed values need.
pub(crate) fn put(
    parked: &Arc<Parked>,
    keeps: &[Arc<dyn AnyObject>],
    out: &mut Vec<u8>,
) -> Result<(), Unpackable> {
    loop {
        match parked.whereabouts()? {
            Whereabouts::Instead(value) => return value.put(out),
            Whereabouts::Coming(object) if shelf::may_wait_for_tasks() => wait(&object, None)?,
            Whereabouts::Coming(object) => {
                parcel::note_awaited(object);
                return Err(Unpackable::WouldWait);
            }
            Whereabouts::Here(at) => match at.spot() {
                Ok((spot, guard)) => {
                    keeps.iter().cloned().for_each(parcel::note_any);
                    parcel::put_stored(spot, guard, out);
                    return Ok(());
                }
                Err(ShelfError::Lost(because)) => at.lost(&because)?,
                Err(error) => return Err(error.into()),
            },
        }
    }
}

/// Waits for an object that is made again, at most until a deadline, which is so long after the call.
pub(crate) fn wait(object: &Arc<Object<Raw>>, deadline: Option<(Instant, Duration)>) -> Result<()> {
    session::with(|session| {
        let until = deadline.map(|(until, _)| until);
        let _sleeper = session.awaited.enter(object.clone(), until.is_some());
        let waited = session.blocking(|| session.wait_for_slot(&object.slot, until));
        waited.map(drop).ok_or_else(|| {
            let because = why::because(session, object.hold.key());
            let after = deadline.map(|(_, after)| after).unwrap_or_default();
            let what = format!("a value that is made again as {}", Id::object(object.hold.id()));
            Error::new(Kind::Timeout { what, after, because })
        })
    })?
}
