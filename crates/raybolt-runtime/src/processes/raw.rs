//! What this process passes on without knowing its type: values as bytes, and the tasks of workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raybolt_core::calls::owner::{Owner, Returns};
use raybolt_wire::Value;
use raybolt_wire::work::Code;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::job::{Began, Ended, Job};
use crate::object::{AnyObject, Lazy, Object, Stored};
use crate::processes::inlet::Inlet;
use crate::processes::parcel::{self, Piece};
use crate::processes::relay::Relay;

/// A value as bytes. The objects that it refers to live as long as it does.
#[doc(hidden)]
pub struct Encoded {
    payload: Bytes,
    keeps: Vec<Arc<dyn AnyObject>>,
}

/// The type of values that this process does not know.
pub(crate) enum Raw {}

/// A task that a worker submitted.
pub(crate) struct RawJob {
    pub(crate) name: String,
    pub(crate) own_name: Option<String>,
    pub(crate) code: Code,
    /// Values and references, one after the other.
    pub(crate) args: Bytes,
    /// The objects that stand for arguments, by the ids that the arguments name.
    pub(crate) needs: Vec<(u64, Arc<dyn AnyObject>)>,
    /// Objects that are referred to inside the arguments.
    pub(crate) keeps: Vec<Arc<dyn AnyObject>>,
    pub(crate) returns: Vec<Arc<Object<Raw>>>,
    pub(crate) until: Option<(Instant, Duration)>,
    /// If it is a generator: where its items go.
    pub(crate) relay: Option<Arc<Relay>>,
}

impl Encoded {
    /// A value's own bytes, and the objects that it refers to.
    pub(crate) fn new(payload: Bytes, keeps: Vec<Arc<dyn AnyObject>>) -> Arc<Self> {
        Arc::new(Encoded { payload, keeps })
    }

    /// The value.
    pub(crate) fn decode<T: Value>(&self) -> Result<T> {
        parcel::open_value(&self.payload).map_err(|error| {
            Error::new(Kind::Decode { task: "an object".into(), because: error.to_string() })
        })
    }

    /// Appends it for another process.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for keep in &self.keeps {
            parcel::note_any(keep.clone());
        }
        parcel::put_piece(Piece::Inline(&self.payload), out);
    }

    /// Whether it is better left as bytes until somebody wants it.
    pub(crate) fn is_large(&self) -> bool {
        false
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload.len()
    }
}

impl Stored for Raw {
    fn pack(&self, _out: &mut Vec<u8>) -> Result<()> {
        match *self {}
    }

    fn decode(encoded: &Arc<Encoded>) -> Result<Lazy<Raw>> {
        Ok(Lazy::Encoded(encoded.clone()))
    }
}

impl RawJob {
    /// Registers what it returns with the owner.
    pub(crate) fn expect(&self, owner: &mut Owner<Box<dyn Job>>) -> Returns {
        let keys: Vec<_> = self
            .returns
            .iter()
            .map(|object| {
                let key = owner.expect();
                object.hold.set_key(key);
                key
            })
            .collect();
        match keys[..] {
            [key] => Returns::One(key),
            _ => Returns::Many(keys.into()),
        }
    }

    fn fail_all(&self, error: &Error) {
        for object in &self.returns {
            object.fail(error.clone());
        }
    }

    /// Cuts the values out of an answer; they share what it refers to.
    fn deliver(&self, mut bytes: &[u8], keeps: Vec<Arc<dyn AnyObject>>) -> Result<usize> {
        let unreadable =
            |because: String| Error::new(Kind::Decode { task: self.name.clone(), because });
        if self.relay.is_some() {
            for end in &self.returns {
                end.arrived(Ok(Encoded::new(Bytes::new(), Vec::new())));
            }
            return Ok(0);
        }
        let mut total = 0;
        for object in &self.returns {
            let piece = parcel::take_piece(&mut bytes);
            let Piece::Inline(payload) = piece.map_err(|error| unreadable(error.to_string()))?
            else {
                return Err(unreadable("a reference stands for a value".into()));
            };
            let encoded = Encoded::new(Bytes::copy_from_slice(payload), keeps.clone());
            object.hold.set_size(encoded.bytes());
            total += encoded.bytes();
            object.arrived(Ok(encoded));
        }
        Ok(total)
    }
}

impl Job for RawJob {
    fn run(self: Box<Self>, _context: Context) -> Began {
        unreachable!("tasks of workers run in workers")
    }

    fn fail(self: Box<Self>, error: Option<Error>) {
        let of_argument = || self.needs.iter().find_map(|(_, need)| need.error());
        let error = error.or_else(of_argument).unwrap_or_else(|| {
            Error::new(Kind::Invalid(format!("an argument of task `{}` failed", self.name)))
        });
        self.fail_all(&error);
    }

    fn is_watched(&self) -> bool {
        true // The worker that submitted it is told.
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn deadline(&self) -> Option<Instant> {
        self.until.map(|(until, _)| until)
    }

    fn code(&self) -> Result<Code> {
        Ok(self.code)
    }

    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        for keep in &self.keeps {
            parcel::note_any(keep.clone());
        }
        let unreadable =
            |because: String| Error::new(Kind::Decode { task: self.name.clone(), because });
        for piece in parcel::pieces(&self.args).map_err(|error| unreadable(error.to_string()))? {
            match piece {
                Piece::Inline(_) => parcel::put_piece(piece, out),
                Piece::Reference(id) => match self.needs.iter().find(|(need, _)| *need == id) {
                    Some((_, need)) => need.pack(out)?,
                    None => return Err(unreadable(format!("no argument is object {id:x}"))),
                },
            }
        }
        if let Some(relay) = &self.relay {
            parcel::put(&relay.announced(), out).expect("numbers can be written");
        }
        Ok(())
    }

    fn inlet(&self) -> Option<Arc<dyn Inlet>> {
        self.relay.clone().map(|relay| relay as Arc<dyn Inlet>)
    }

    fn own_name(&self) -> Option<&str> {
        self.own_name.as_deref()
    }

    fn answered(
        self: Box<Self>,
        _attempt: u32,
        answer: Result<&[u8]>,
        keeps: Vec<Arc<dyn AnyObject>>,
    ) -> Ended {
        match answer.and_then(|bytes| self.deliver(bytes, keeps)) {
            Ok(bytes) => Ended::Success(bytes),
            Err(error) => {
                if let Some(failure) = error.task_error() {
                    crate::failures::record(failure, false);
                }
                self.fail_all(&error);
                Ended::Failed
            }
        }
    }
}
