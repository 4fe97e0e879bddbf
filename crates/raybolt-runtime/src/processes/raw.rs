//! What this process passes on without knowing its type: values as bytes, and the tasks of workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raybolt_core::calls::lineage::RecordKey;
use raybolt_core::calls::owner::{Owner, Returns};
use raybolt_wire::Value;
use raybolt_wire::work::Code;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::job::{Began, Ended, Job};
use crate::object::{AnyObject, Lazy, Object, Stored};
use crate::processes::inlet::Inlet;
use crate::processes::judges::Judge;
use crate::processes::layout::Source;
use crate::processes::lineage::{self, Draft, Read, Run, Unkept};
use crate::processes::mapping::Mapping;
use crate::processes::parcel::{self, Piece, Unpackable, Unreadable};
use crate::processes::relay::Relay;
use crate::processes::shelf::{Parked, Pins, Shelf, Spot};
use crate::processes::upstream::Loan;

/// A value as bytes. The objects that it refers to live as long as it does.
#[doc(hidden)]
pub struct Encoded {
    payload: Payload,
    keeps: Vec<Arc<dyn AnyObject>>,
    /// In a worker: what the driver lent with it. Held, never read.
    _loan: Option<Loan>,
}

enum Payload {
    /// Its own bytes.
    Inline(Bytes),
    /// Its own bytes and segments.
    LaidOut(Arc<[u8]>),
    /// The same in the store that this process has.
    Parked(Arc<Parked>),
    /// The same in the driver's store, in a worker.
    Mapped(Mapping),
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
    /// The arguments that lie in the store.
    pub(crate) stored: Vec<(Spot, Arc<Encoded>)>,
    /// Objects that are referred to inside the arguments.
    pub(crate) keeps: Vec<Arc<dyn AnyObject>>,
    pub(crate) returns: Vec<Arc<Object<Raw>>>,
    pub(crate) until: Option<(Instant, Duration)>,
    /// If it is a generator: where its items go.
    pub(crate) relay: Option<Arc<Relay>>,
    /// Who says which failures are worth another attempt.
    pub(crate) judge: Option<Judge>,
    /// If it makes lost values again: to be dropped with it.
    pub(crate) again: Option<Run>,
}

impl Payload {
    /// `pins` keep it where it is; whether somebody waits for it.
    fn of(piece: Piece<'_>, pins: Pins, is_awaited: bool) -> std::result::Result<Self, String> {
        Ok(match piece {
            Piece::Inline(own) => Payload::Inline(Bytes::copy_from_slice(own)),
            Piece::LaidOut(all) => Payload::LaidOut(all.into()),
            Piece::Stored(spot) => Shelf::of_session(|shelf| match shelf {
                Shelf::Node(shelf) => shelf.adopt(spot).map(Payload::Parked),
                Shelf::Worker(upstream) => {
                    let mapped = upstream.found(spot)?;
                    Ok(Payload::Mapped(Mapping::new(mapped, pins, is_awaited)))
                }
            })?,
            Piece::Reference(id) => return Err(format!("object {id:x} stands for a value")),
        })
    }
}

impl Encoded {
    /// What a message holds, and the objects that it refers to.
    pub(crate) fn of(
        piece: Piece<'_>,
        keeps: Vec<Arc<dyn AnyObject>>,
    ) -> std::result::Result<Arc<Self>, String> {
        let payload = Payload::of(piece, Pins::default(), true)?;
        Ok(Arc::new(Encoded { payload, keeps, _loan: None }))
    }

    /// The same in a worker, with what the driver lent for it; whether somebody waits for it.
    pub(crate) fn lent(
        piece: Piece<'_>,
        mut loan: Option<Loan>,
        is_awaited: bool,
    ) -> std::result::Result<Arc<Self>, String> {
        let pins = loan.as_mut().map(Loan::take_pins).unwrap_or_default();
        let payload = Payload::of(piece, pins, is_awaited)?;
        Ok(Arc::new(Encoded { payload, keeps: Vec::new(), _loan: loan }))
    }

    /// The value of what has none.
    pub(crate) fn nothing() -> Arc<Self> {
        let payload = Payload::Inline(Bytes::new());
        Arc::new(Encoded { payload, keeps: Vec::new(), _loan: None })
    }

    /// A value that was stored here.
    pub(crate) fn parked(parked: Arc<Parked>, keeps: Vec<Arc<dyn AnyObject>>) -> Arc<Self> {
        Arc::new(Encoded { payload: Payload::Parked(parked), keeps, _loan: None })
    }

    /// The value; nothing if it has to be asked for again.
    pub(crate) fn decode<T: Value>(&self) -> Option<Result<T>> {
        self.decode_until(None)
    }

    /// The same; what was lost and is made again has to be there before a deadline, so long after the call.
    pub(crate) fn decode_until<T: Value>(
        &self,
        deadline: Option<(Instant, Duration)>,
    ) -> Option<Result<T>> {
        let decoded = match &self.payload {
            Payload::Inline(own) => parcel::open_value(own, &Source::None),
            Payload::LaidOut(all) => parcel::open_layout(&Source::Copied(all.clone())),
            Payload::Mapped(mapping) => {
                mapping.read(|mapped| parcel::open_layout(&Source::Mapped(mapped.clone())))?
            }
            Payload::Parked(parked) => match lineage::read(parked, deadline) {
                Ok(Ok(Read::Source(source))) => parcel::open_layout(&source),
                Ok(Ok(Read::Instead(value))) => return value.decode_until(deadline),
                Err(error) => return Some(Err(error)),
                Ok(Err(error)) => Err(Unreadable::Store(error.to_string())),
            },
        };
        Some(decoded.map_err(|error| {
            Error::new(Kind::Decode { task: "an object".into(), because: error.to_string() })
        }))
    }

    /// Appends it for another process.
    pub(crate) fn put(&self, out: &mut Vec<u8>) -> std::result::Result<(), Unpackable> {
        if let Payload::Parked(parked) = &self.payload {
            return lineage::put(parked, &self.keeps, out);
        }
        for keep in &self.keeps {
            parcel::note_any(keep.clone());
        }
        match &self.payload {
            Payload::Inline(own) => parcel::put_piece(Piece::Inline(own), out),
            Payload::LaidOut(all) => parcel::put_piece(Piece::LaidOut(all), out),
            Payload::Parked(_) => unreachable!("seen to before"),
            Payload::Mapped(mapping) => {
                let written = mapping.read(|mapped| {
                    let fill = &mut |into: &mut [u8]| raybolt_store::copy(into, mapped);
                    Shelf::of_session(|shelf| shelf.write(mapped.len(), fill))
                });
                // Not reached: a worker passes references on, not the values of others.
                let let_go = || Unpackable::Store("the value was let go of".into());
                let (spot, guard) = written.ok_or_else(let_go)??;
                parcel::put_stored(spot, guard, out);
            }
        }
        Ok(())
    }

    /// Where it lies in the store that this process has.
    pub(crate) fn place(&self) -> Option<&Arc<Parked>> {
        match &self.payload {
            Payload::Parked(parked) => Some(parked),
            Payload::Inline(_) | Payload::LaidOut(_) | Payload::Mapped(_) => None,
        }
    }

    /// The error that is there in place of it, if it is lost for good.
    pub(crate) fn lost(&self) -> Option<Error> {
        self.place().and_then(|parked| parked.whereabouts().err())
    }

    /// It is the value of this object: whoever watches is told where that lies.
    pub(crate) fn named(&self, object: u64) {
        if let Payload::Parked(parked) = &self.payload {
            parked.named(object);
        }
    }

    /// Whether it is better left as bytes until somebody wants it.
    pub(crate) fn is_large(&self) -> bool {
        matches!(self.payload, Payload::Parked(_) | Payload::Mapped(_))
    }

    /// Whether it is here to be read; else it is asked for again.
    pub(crate) fn is_here(&self) -> bool {
        match &self.payload {
            Payload::Mapped(mapping) => mapping.is_here(),
            Payload::Inline(_) | Payload::LaidOut(_) | Payload::Parked(_) => true,
        }
    }

    /// Whether it refers to objects of this process.
    pub(crate) fn has_refs(&self) -> bool {
        !self.keeps.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.payload {
            Payload::Inline(own) => own.len(),
            Payload::LaidOut(all) => all.len(),
            Payload::Parked(parked) => parked.bytes(),
            Payload::Mapped(mapping) => mapping.bytes() as usize,
        }
    }
}

impl Stored for Raw {
    fn pack(&self, _out: &mut Vec<u8>) -> Result<()> {
        match *self {}
    }

    fn decode(encoded: &Arc<Encoded>) -> Result<Lazy<Raw>> {
        Ok(Lazy::Encoded(encoded.clone()))
    }

    fn again(value: &Lazy<Raw>) -> Lazy<Raw> {
        match value {
            Lazy::Encoded(encoded) => Lazy::Encoded(encoded.clone()),
            Lazy::Here(never) => match *never {},
        }
    }
}

/// Why a value does not travel.
pub(crate) fn unpackable(task: &str, error: &Unpackable) -> Error {
    match error {
        Unpackable::WouldWait => Error::new(Kind::WouldWait),
        Unpackable::Lost(error) => error.clone(),
        other => Error::new(Kind::Encode { task: task.into(), because: other.to_string() }),
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
        if let Some(relay) = &self.relay {
            return relay.over(Err(error.clone()));
        }
        for object in &self.returns {
            object.fail(error.clone());
        }
    }

    /// It will not run: delivers `error`, or else that of the argument that failed.
    pub(crate) fn fail_with(&self, error: Option<Error>) {
        let of_argument = || self.needs.iter().find_map(|(_, need)| need.error());
        let error = error.or_else(of_argument).unwrap_or_else(|| {
            Error::new(Kind::Invalid(format!("an argument of task `{}` failed", self.name)))
        });
        self.fail_all(&error);
    }

    /// A process has answered.
    pub(crate) fn taken(&self, answer: Result<&[u8]>, keeps: Vec<Arc<dyn AnyObject>>) -> Ended {
        // What comes too late is not wanted, also if the timer has not said so yet.
        let late = self.until.filter(|(until, _)| Instant::now() >= *until);
        let answer = match late {
            Some((_, after)) => Err(Error::new(Kind::Deadline { task: self.name.clone(), after })),
            None => answer,
        };
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

    /// Cuts the values out of an answer; they share what it refers to.
    fn deliver(&self, mut bytes: &[u8], keeps: Vec<Arc<dyn AnyObject>>) -> Result<usize> {
        let unreadable =
            |because: String| Error::new(Kind::Decode { task: self.name.clone(), because });
        if let Some(relay) = &self.relay {
            relay.over(Ok(()));
            return Ok(0);
        }
        let mut total = 0;
        for object in &self.returns {
            let piece = parcel::take_piece(&mut bytes);
            let piece = piece.map_err(|error| unreadable(error.to_string()))?;
            let encoded = Encoded::of(piece, keeps.clone()).map_err(unreadable)?;
            object.hold.set_size(encoded.bytes());
            encoded.named(object.hold.id());
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
        self.fail_with(error);
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
                Piece::Inline(_) | Piece::LaidOut(_) => parcel::put_piece(piece, out),
                Piece::Stored(spot) => match self.stored.iter().find(|(at, _)| *at == spot) {
                    Some((_, encoded)) => {
                        encoded.put(out).map_err(|error| unpackable(&self.name, &error))?;
                    }
                    None => return Err(unreadable("an argument is not in the store".into())),
                },
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

    fn again(&self) -> Option<RecordKey> {
        self.again.as_ref().map(|run| run.record)
    }

    fn draft(&self) -> std::result::Result<Draft, Unkept> {
        if !self.stored.is_empty() || self.args.len() > lineage::ARGS_BYTES_MAX {
            return Err(Unkept::LongArguments);
        }
        if !self.keeps.is_empty() {
            return Err(Unkept::References);
        }
        let unreadable =
            |because: String| Error::new(Kind::Decode { task: self.name.clone(), because });
        let pack = |out: &mut Vec<u8>| {
            let pieces = parcel::pieces(&self.args);
            for piece in pieces.map_err(|error| unreadable(error.to_string()))? {
                match piece {
                    Piece::Reference(id) => {
                        let need = self.needs.iter().find(|(need, _)| *need == id);
                        let need = need.ok_or_else(|| unreadable(format!("no object {id:x}")))?;
                        lineage::keep_arg(id, &*need.1, out)?;
                    }
                    own => parcel::put_piece(own, out),
                }
            }
            Ok(())
        };
        lineage::draft((&self.name, self.own_name()), self.code, pack)
    }

    fn answered(
        self: Box<Self>,
        _attempt: u32,
        answer: Result<&[u8]>,
        keeps: Vec<Arc<dyn AnyObject>>,
    ) -> Ended {
        match answer {
            Err(error) if self.judge.is_some() && error.task_error().is_some() => {
                Ended::Unsure { job: self, error }
            }
            answer => self.taken(answer, keeps),
        }
    }
}
