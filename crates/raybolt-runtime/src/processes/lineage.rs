//! Values that are lost, and the tasks that make them again: the shell of [`raybolt_core::calls::lineage`].
//!
//! # Words
//! Only what lies in the store can be lost: when its spill file cannot be read. The *origin* of such a value is the
//! task that returned it. A *draft* is what it takes to run a task again, as the task itself says it; a *recipe*
//! is the same with the origins of its arguments. The second run's result is an object of its own, and the lost
//! value has it *instead*: whoever has the first one reads the other.
//!
//! # Protocol
//! 1. A worker answers with a value that lies in the store: [`making`] keeps the task before anyone can see it.
//! 2. Who reads and cannot: `Session::make_again` submits what has to run, and all who come find the same run.
//! 3. A thread that may wait waits for the new object. A task that was to be pushed goes back to its owner, which
//!    waits for it: a lease must not wait for a task that may need its CPU.
//! 4. A run is over when its job is dropped, whatever became of it.
//!
//! # Invariants
//! - **AGAIN-1 (no value is kept).** A recipe keeps small arguments as bytes, and of those that lie in the store
//!   only how to find them or make them: no value lives longer because of it.
//! - **AGAIN-2 (one way).** What a value has instead is set once, under the hub's lock, and never leads back to it.

mod keeping;
mod reading;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;
use raybolt_core::calls::lineage::{Never, RecordKey};
use raybolt_core::calls::owner::{ClassId, ObjectKey, Submit, Target};
use raybolt_store::Key;
use raybolt_wire::work::Code;

use crate::error::{Error, Kind, Result};
use crate::hub::Hub;
use crate::ids::Id;
use crate::job::Job;
use crate::object::{AnyObject, Hold, Lazy, Object};
use crate::processes::downstream::pending;
use crate::processes::raw::{Encoded, Raw, RawJob};
use crate::processes::shelf::Parked;
use crate::session::{self, Session};
use crate::slot::Slot;

pub(crate) use keeping::{arrived, draft, gone, keep_arg, making, origin_of};
pub(crate) use reading::{Read, put, read};

/// How much is kept of all tasks together, if nobody says otherwise.
pub(crate) const BYTES_MAX: usize = 64 << 20;
/// How long arguments by value may be of a task that is kept: to copy longer ones would cost its answer time.
pub(crate) const ARGS_BYTES_MAX: usize = 16 << 10;
/// About what a kept task takes besides its arguments.
const RECORD_BYTES: usize = 512;

/// What it takes to run a task again, as the task says it.
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) own_name: Option<String>,
    pub(crate) code: Code,
    /// Values, and the ids of those that lie in the store.
    args: Vec<u8>,
    /// What these ids stand for.
    stored: Vec<(u64, Arc<Encoded>)>,
}

/// Why a task is not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unkept {
    #[error("has run {}, as often as it may (`max_retries`)", times(*.0))]
    Exhausted(u32),
    #[error(
        "takes references inside of its arguments, so that it is not kept to run again; pass them as arguments of their own"
    )]
    References,
    #[error(
        "takes more than {ARGS_BYTES_MAX} bytes of arguments by value, so that it is not kept to run again; pass them by reference"
    )]
    LongArguments,
    #[error("cannot be kept to run again: {0}")]
    Unpackable(String),
}

/// Which task returned a value.
pub(crate) struct Origin {
    epoch: u32,
    task: Arc<str>,
    /// Which of its results it is.
    index: usize,
    record: std::result::Result<Kept, Unkept>,
}

/// A task that is kept.
#[derive(Clone)]
struct Kept {
    record: RecordKey,
    recipe: Weak<Recipe>,
}

/// What it takes to run a task again.
pub(crate) struct Recipe {
    name: String,
    own_name: Option<String>,
    code: Code,
    class: ClassId,
    args: Bytes,
    needs: Vec<Need>,
    /// Used under the hub's lock only.
    results: Mutex<Results>,
}

/// What is known of a task's results.
struct Results {
    /// Where they lie, the latest of each.
    latest: Vec<Weak<Parked>>,
    /// While the task is on its way once more: the objects that it makes.
    coming: Vec<Arc<Object<Raw>>>,
}

/// An argument that lies in the store, or did (AGAIN-1).
struct Need {
    id: u64,
    place: Weak<Parked>,
    origin: Option<(Kept, usize)>,
}

/// What a value has instead that is lost.
#[derive(Clone)]
pub(crate) enum Instead {
    /// What another run of its task makes; and how it was lost.
    Made(Arc<Object<Raw>>, Arc<str>),
    /// What another run has made meanwhile.
    There(Arc<Parked>),
}

/// A run of a kept task, over when this is dropped.
pub(crate) struct Run {
    epoch: u32,
    pub(crate) record: RecordKey,
}

/// A task whose answer is being taken.
pub(crate) struct Making {
    epoch: u32,
    task: Arc<str>,
    record: std::result::Result<Kept, Unkept>,
    /// The results that lie in the store.
    stored: Vec<(Key, usize)>,
}

/// Does something with the session of this epoch, if it is there.
fn of_epoch<R>(epoch: u32, with: impl FnOnce(&Arc<Session>) -> R) -> Option<R> {
    let with = |session: &Arc<Session>| (session.epoch == epoch).then(|| with(session));
    session::with(with).ok().flatten()
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = of_epoch(self.epoch, |session| {
            let over = session.act(|hub| {
                let recipe = hub.lineage.recipe(self.record).cloned();
                let coming = recipe.map(|recipe| std::mem::take(&mut recipe.results().coming));
                hub.lineage.ended(self.record);
                (coming, hub.lineage.take_dropped())
            });
            drop(over);
        });
    }
}

impl Recipe {
    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().expect("no thread panics with this lock")
    }
}

impl Session {
    /// Has a lost value made again; says what it has instead.
    fn make_again(self: &Arc<Self>, lost: &Arc<Parked>, because: &str) -> Result<Instead> {
        let never = |why: String| {
            let (object, because) = (lost.object_name(), format!("{because}; {why}"));
            Error::new(Kind::ObjectLost { object, because })
        };
        let Some(origin) = &lost.origin else {
            let why = "it was put, or came from an actor or a stream: no task can make it again";
            return Err(never(why.into()));
        };
        let kept = origin.record.as_ref();
        let kept =
            kept.map_err(|why| never(format!("task `{}`, which made it, {why}", origin.task)))?;
        let mut aside = Aside::default();
        let (instead, runs) = self.act(|hub| {
            if let Some(instead) = lost.instead() {
                return (Ok(instead), 0);
            }
            let (instead, runs) = match hub.made_meanwhile(lost, kept, origin.index, &mut aside) {
                Some(there) => (Instead::There(there), 0),
                None => match hub.run_again(self, kept.record, &mut aside) {
                    Ok(runs) => {
                        let recipe = kept.recipe.upgrade();
                        let made = recipe
                            .and_then(|recipe| recipe.results().coming.get(origin.index).cloned());
                        match made {
                            Some(made) => (Instead::Made(made, because.into()), runs),
                            None => return (Err("it is gone".to_owned()), 0),
                        }
                    }
                    Err(why) => return (Err(say_never(&why, &origin.task)), 0),
                },
            };
            lost.set_instead(instead.clone());
            (Ok(instead), runs)
        });
        drop(aside);
        let instead = instead.map_err(never)?;
        if runs > 0 {
            let (object, task) = (lost.object_name(), &origin.task);
            tracing::warn!(
                target: "raybolt",
                "{object} is lost: {because}; task `{task}` makes it again{}",
                match runs { 1 => String::new(), runs => format!(", after {} others", runs - 1) }
            );
        }
        Ok(instead)
    }
}

/// What must not be dropped under the hub's lock.
#[derive(Default)]
struct Aside {
    /// Arguments that are there, by the ids that recipes have for them.
    there: HashMap<u64, Arc<Parked>>,
    others: Vec<Arc<Parked>>,
}

impl Hub {
    /// What another run of its task has made already.
    fn made_meanwhile(
        &mut self,
        lost: &Arc<Parked>,
        kept: &Kept,
        index: usize,
        aside: &mut Aside,
    ) -> Option<Arc<Parked>> {
        let recipe = kept.recipe.upgrade()?;
        let latest = recipe.results().latest.get(index).and_then(Weak::upgrade)?;
        aside.others.push(latest.clone());
        // AGAIN-2: it leads nowhere else itself.
        (!Arc::ptr_eq(&latest, lost) && latest.instead().is_none()).then_some(latest)
    }

    /// Submits the task of a record, and whatever has to run before; says how many are to run.
    fn run_again(
        &mut self,
        session: &Arc<Session>,
        record: RecordKey,
        aside: &mut Aside,
    ) -> Result<usize, Never<String>> {
        if self.ended {
            return Err(Never::Cannot("the session ends".into()));
        }
        let order = self.lineage.plan(record, |recipe| recipe.missing(aside))?;
        for record in &order {
            let recipe = self.lineage.recipe(*record).expect("it is planned").clone();
            let (needs, keys): (Vec<_>, Vec<_>) =
                recipe.needs.iter().map(|need| need.find(session, aside)).unzip();
            let mut results = recipe.results();
            let returns: Vec<_> = results.latest.iter().map(|_| pending(session)).collect();
            results.coming = returns.clone();
            let job = RawJob {
                name: recipe.name.clone(),
                own_name: recipe.own_name.clone(),
                code: recipe.code,
                args: recipe.args.clone(),
                needs,
                stored: Vec::new(),
                keeps: Vec::new(),
                returns,
                until: None,
                relay: None,
                judge: None,
                again: Some(Run { epoch: session.epoch, record: *record }),
            };
            let (target, returns) = (Target::Class(recipe.class), job.expect(&mut self.owner));
            let (job, retries): (Box<dyn Job>, _) =
                (Box::new(job), self.lineage.retries_left(*record));
            let needs = keys.into_iter().flatten().collect();
            self.owner.submit(Submit { target, job: Some(job), needs, returns, retries });
        }
        Ok(order.len())
    }
}

type Found = ((u64, Arc<dyn AnyObject>), Option<ObjectKey>);

impl Recipe {
    /// The records that have to run before this one can, those included that run already.
    fn missing(&self, aside: &mut Aside) -> Result<Vec<RecordKey>, String> {
        let mut missing = Vec::new();
        for Need { id, place, origin } in &self.needs {
            let latest = origin.as_ref().and_then(|(kept, index)| {
                let recipe = kept.recipe.upgrade()?;
                recipe.results().latest.get(*index).and_then(Weak::upgrade)
            });
            let first = place.upgrade();
            aside.others.extend([&first, &latest].into_iter().flatten().cloned());
            if let Some(there) = first.or(latest) {
                aside.others.extend(aside.there.insert(*id, there));
            } else if let Some((kept, _)) = origin {
                missing.push(kept.record);
            } else {
                let object = Id::object(*id);
                return Err(format!(
                    "its argument {object} is gone, for nobody held it any more, and no task can make it again"
                ));
            }
        }
        Ok(missing)
    }
}

impl Need {
    /// The object that stands for it, and its key if it is still to be made.
    fn find(&self, session: &Session, aside: &Aside) -> Found {
        if let Some(there) = aside.there.get(&self.id) {
            let value = Lazy::<Raw>::Encoded(Encoded::parked(there.clone(), Vec::new()));
            let object = Object { hold: Hold::new(0), slot: Slot::ready(Ok(value)) };
            return ((self.id, Arc::new(object)), None);
        }
        let coming = self.origin.as_ref().and_then(|(kept, index)| {
            let recipe = kept.recipe.upgrade()?;
            let results = recipe.results();
            results.coming.get(*index).cloned()
        });
        match coming {
            Some(object) => {
                let key = object.hold.key();
                ((self.id, object), Some(key))
            }
            None => {
                let gone = format!("its argument {} is gone", Id::object(self.id));
                let object = pending(session);
                object.fail(Error::new(Kind::Invalid(gone)));
                ((self.id, object), None)
            }
        }
    }
}

fn say_never(never: &Never<String>, origin: &str) -> String {
    let said = |task: &str, why: String| match task == origin {
        true => format!("task `{task}`, which made it, {why}"),
        false => format!(
            "task `{origin}`, which made it, needs again what task `{task}` made, which {why}"
        ),
    };
    match never {
        Never::Exhausted { task, runs } => said(task, Unkept::Exhausted(*runs).to_string()),
        Never::Forgotten { task, bytes_max } => said(
            task,
            format!(
                "was forgotten: no more than {bytes_max} bytes are kept of tasks that could run again (`lineage_memory`)"
            ),
        ),
        Never::Cannot(why) => format!("task `{origin}`, which made it, cannot run again: {why}"),
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        count => format!("{count} times"),
    }
}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipe({})", self.name)
    }
}
