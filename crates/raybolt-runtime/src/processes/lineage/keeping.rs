//! Keeping the tasks whose values may be lost: while their answers are taken, and until the values are gone.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use raybolt_core::calls::lineage::{Keep, RecordKey};
use raybolt_core::calls::owner::{Attempt, ClassId, TaskKey};
use raybolt_store::Key;
use raybolt_wire::work::Code;

use super::{Draft, Kept, Making, Need, Origin, RECORD_BYTES, Recipe, Results, Unkept, of_epoch};
use crate::error::Result;
use crate::job::Job;
use crate::object::AnyObject;
use crate::processes::parcel::{self, Piece};
use crate::processes::raw::Encoded;
use crate::processes::shelf::{self, Parked};
use crate::session::Session;

thread_local! {
    static MAKING: RefCell<Option<Making>> = const { RefCell::new(None) };
}

/// Packs the arguments of a task that is to be kept, with `pack`.
pub(crate) fn draft(
    (name, own_name): (&str, Option<&str>),
    code: Code,
    pack: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<Draft, Unkept> {
    let mut args = Vec::new();
    let (packed, needs) = parcel::packing(|| shelf::without_waiting(|| pack(&mut args)));
    packed.map_err(|error| Unkept::Unpackable(error.to_string()))?;
    if !needs.refs.is_empty() {
        return Err(Unkept::References);
    }
    if !needs.guards.is_empty() {
        return Err(Unkept::LongArguments);
    }
    let (name, own_name) = (name.to_owned(), own_name.map(str::to_owned));
    Ok(Draft { name, own_name, code, args, stored: needs.stored })
}

/// Appends an argument that is an object: its value, or only its name if that lies in the store.
pub(crate) fn keep_arg(id: u64, object: &dyn AnyObject, out: &mut Vec<u8>) -> Result<()> {
    match object.stored() {
        Some(stored) => {
            parcel::put_piece(Piece::Reference(id), out);
            parcel::note_stored(id, stored);
            Ok(())
        }
        None => object.pack(out),
    }
}

/// Runs `take`, which takes a worker's answer to a task; what lies in the store of it has that task as origin.
pub(crate) fn making<R>(making: Making, take: impl FnOnce() -> R) -> R {
    let outer = MAKING.replace(Some(making));
    let result = take();
    let making = MAKING.replace(outer);
    if let Some(Making { epoch, record: Ok(Kept { record, .. }), .. }) = making {
        let_go(epoch, record);
    }
    result
}

/// The origin of a value that an answer brings, if it is a task's.
pub(crate) fn origin_of(key: Key) -> Option<Origin> {
    MAKING.with_borrow(|making| {
        let Making { epoch, task, record, stored } = making.as_ref()?;
        let index = stored.iter().find(|(other, _)| *other == key)?.1;
        let (epoch, task, record) = (*epoch, task.clone(), record.clone());
        Some(Origin { epoch, task, index, record })
    })
}

/// A value of a kept task is there.
pub(crate) fn arrived(parked: &Arc<Parked>) {
    let Some(Origin { epoch, index, record: Ok(kept), .. }) = &parked.origin else { return };
    let _ = of_epoch(*epoch, |session| {
        let before = session.act(|hub| {
            hub.lineage.held(kept.record);
            let recipe = kept.recipe.upgrade()?;
            let mut results = recipe.results();
            let latest = results.latest.get_mut(*index)?;
            let before = latest.upgrade();
            if before.as_ref().is_none_or(|before| before.instead().is_some()) {
                *latest = Arc::downgrade(parked);
            }
            before
        });
        drop(before); // It may be the last: not under the lock.
    });
}

/// A value of a kept task is gone.
pub(crate) fn gone(origin: &Origin) {
    if let Ok(kept) = &origin.record {
        let_go(origin.epoch, kept.record);
    }
}

fn let_go(epoch: u32, record: RecordKey) {
    let _ = of_epoch(epoch, |session| {
        let dropped = session.act(|hub| {
            hub.lineage.let_go(record);
            hub.lineage.take_dropped()
        });
        drop(dropped);
    });
}

impl Session {
    /// A worker has answered a task with values of which some lie in the store: keeps the task.
    pub(crate) fn keep_task(
        self: &Arc<Self>,
        (task, attempt, class): (TaskKey, Attempt, ClassId),
        job: &dyn Job,
        body: &[u8],
    ) -> Making {
        let pieces = parcel::pieces(body).unwrap_or_default();
        let spots = pieces.iter().enumerate().filter_map(|(index, piece)| match piece {
            Piece::Stored(spot) => Some((spot.key(), index)),
            Piece::Inline(_) | Piece::LaidOut(_) | Piece::Reference(_) => None,
        });
        let (stored, runs) = (spots.collect(), attempt + 1);
        let retries = self.lock().owner.retries_left(task).unwrap_or(0);
        let (epoch, name) = (self.epoch, Arc::from(job.name()));
        let record = match job.again() {
            Some(record) => Ok(self.act(|hub| {
                hub.lineage.has_run(record, runs, retries);
                hub.lineage.held(record);
                let recipe = hub.lineage.recipe(record).map(Arc::downgrade).unwrap_or_default();
                Kept { record, recipe }
            })),
            None if retries == 0 => Err(Unkept::Exhausted(runs)),
            None => {
                job.draft().map(|draft| self.keep_draft(draft, class, pieces.len(), runs, retries))
            }
        };
        Making { epoch, task: name, record, stored }
    }

    fn keep_draft(
        self: &Arc<Self>,
        draft: Draft,
        class: ClassId,
        results: usize,
        runs: u32,
        retries: u32,
    ) -> Kept {
        let Draft { name, own_name, code, args, stored } = draft;
        let needs: Vec<_> = stored.iter().filter_map(|(id, value)| self.need(*id, value)).collect();
        let records = needs.iter().filter_map(|need| Some(need.origin.as_ref()?.0.record));
        let (records, task) = (records.collect(), Arc::from(&*name));
        let bytes = (RECORD_BYTES + args.len()) as u64;
        let latest = std::iter::repeat_with(Weak::new).take(results).collect();
        let results = Mutex::new(Results { latest, coming: Vec::new() });
        let args = Bytes::from(args);
        let recipe = Arc::new(Recipe { name, own_name, code, class, args, needs, results });
        let weak = Arc::downgrade(&recipe);
        let (record, dropped) = self.act(|hub| {
            let record =
                hub.lineage.keep(Keep { task, recipe, bytes, needs: records, runs, retries });
            (record, hub.lineage.take_dropped())
        });
        drop((dropped, stored));
        Kept { record, recipe: weak }
    }

    fn need(&self, id: u64, value: &Encoded) -> Option<Need> {
        let place = value.place()?;
        let origin = place.origin.as_ref().filter(|origin| origin.epoch == self.epoch);
        let origin = origin.and_then(|origin| Some((origin.record.clone().ok()?, origin.index)));
        Some(Need { id, place: Arc::downgrade(place), origin })
    }
}
