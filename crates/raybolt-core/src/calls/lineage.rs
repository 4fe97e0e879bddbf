//! What can make a lost value again: the task that made it.
//!
//! # Words
//! A *record* keeps what it takes to run a task once more that has succeeded: its *recipe* `R`, which the shell
//! can read. A record is *held* by every value of its task that is there, and by every record whose recipe takes
//! one of those values as an argument: it *needs* that record. A recipe never keeps a value of the store alive,
//! only the way to make it again. A record *runs* while its task is on its way once more.
//!
//! # Protocol
//! 1. A task has succeeded, and what it returns may be lost some day: [`Lineage::keep`]. Whoever keeps it holds it.
//! 2. [`Lineage::held`] for each value that is there, [`Lineage::let_go`] when it goes.
//! 3. A value is lost: [`Lineage::plan`] says which tasks have to run again, those first whose results others
//!    need, or why that cannot be. The shell submits them, and says [`Lineage::ended`] when such a run is over.
//! 4. What nobody needs any more is handed back by [`Lineage::take_dropped`], for the shell to drop it.
//!
//! # Invariants
//! - **LIN-1 (bounded tries).** A record runs again at most as often as it had retries left. Those that its runs
//!   spend themselves count.
//! - **LIN-2 (bounded bytes).** Recipes are never more than so many bytes together: beyond that the oldest go, and
//!   their records say so. One that runs stays.
//! - **LIN-3 (no leak).** A record goes when nobody holds it, and with it what it holds itself; a chain of any
//!   length without recursion.
//! - **LIN-4 (one run).** A record that runs is not started again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use slotmap::{SlotMap, new_key_type};

use crate::plant::{Plant, Plants};

new_key_type! {
    /// Names a record; never used again.
    pub struct RecordKey;
}

/// A task that is to be kept.
#[derive(Debug)]
pub struct Keep<R> {
    /// The task's name, for messages.
    pub task: Arc<str>,
    /// What it takes to run it again.
    pub recipe: R,
    /// How long that is.
    pub bytes: u64,
    /// The records of its arguments, each as often as it is one.
    pub needs: Box<[RecordKey]>,
    /// How often it has run.
    pub runs: u32,
    /// How often it may run again.
    pub retries: u32,
}

/// Why a value cannot be made again. `N` is what the shell has found itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Never<N> {
    /// This task has no retries left.
    Exhausted {
        /// Its name.
        task: Arc<str>,
        /// How often it has run.
        runs: u32,
    },
    /// The recipe of this task was dropped by the bound of all recipes.
    Forgotten {
        /// Its name.
        task: Arc<str>,
        /// The bound.
        bytes_max: u64,
    },
    /// A recipe cannot run.
    Cannot(N),
}

/// Counts for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that are kept, or were until the bound came.
    pub records: usize,
    /// Bytes of their recipes.
    pub bytes: u64,
}

/// The machine; see the module's documentation.
#[derive(Debug)]
pub struct Lineage<R> {
    records: SlotMap<RecordKey, Record<R>>,
    /// Those that have their recipes, the oldest first.
    ages: BTreeMap<u64, RecordKey>,
    next_age: u64,
    bytes: u64,
    bytes_max: u64,
    dropped: Vec<R>,
    plants: Plants,
}

#[derive(Debug)]
struct Record<R> {
    task: Arc<str>,
    /// None if the bound took it.
    recipe: Option<R>,
    bytes: u64,
    needs: Box<[RecordKey]>,
    age: u64,
    holds: u32,
    runs: u32,
    retries_left: u32,
    is_running: bool,
}

impl<R> Lineage<R> {
    /// Nothing is kept yet, and never more than `bytes_max`.
    pub fn new(bytes_max: u64) -> Self {
        Lineage {
            records: SlotMap::with_key(),
            ages: BTreeMap::new(),
            next_age: 0,
            bytes: 0,
            bytes_max,
            dropped: Vec::new(),
            plants: Plants::NONE,
        }
    }

    /// The same with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(bytes_max: u64, plants: Plants) -> Self {
        Lineage { plants, ..Self::new(bytes_max) }
    }

    /// Keeps a task, which the caller holds from now on.
    pub fn keep(&mut self, keep: Keep<R>) -> RecordKey {
        let Keep { task, recipe, bytes, needs, runs, retries } = keep;
        for need in &needs {
            self.held(*need);
        }
        let age = self.next_age;
        self.next_age += 1;
        self.bytes += bytes;
        let recipe = Some(recipe);
        let (holds, retries_left, is_running) = (1, retries, false);
        let record =
            Record { task, recipe, bytes, needs, age, holds, runs, retries_left, is_running };
        let key = self.records.insert(record);
        self.ages.insert(age, key);
        self.keep_bound();
        key
    }

    /// Somebody more holds a record.
    pub fn held(&mut self, record: RecordKey) {
        if let Some(record) = self.records.get_mut(record) {
            record.holds += 1;
        }
    }

    /// Somebody holds a record no more (LIN-3).
    pub fn let_go(&mut self, record: RecordKey) {
        self.let_all_go(vec![record]);
    }

    /// What it takes to run a record again, if that is known.
    pub fn recipe(&self, record: RecordKey) -> Option<&R> {
        self.records.get(record).and_then(|record| record.recipe.as_ref())
    }

    /// Whether a record's task is on its way once more.
    pub fn is_running(&self, record: RecordKey) -> bool {
        self.records.get(record).is_some_and(|record| record.is_running)
    }

    /// How often a record may run again.
    pub fn retries_left(&self, record: RecordKey) -> u32 {
        self.records.get(record).map_or(0, |record| record.retries_left)
    }

    /// A value of this record is lost: says which records have to run now, each after those it needs. All of them
    /// run from now on, until they have [`ended`](Lineage::ended). None if this one runs already.
    ///
    /// `look` says which records have to run before the recipe that it is shown can, be it that they run already.
    ///
    /// # Errors
    /// Why nothing can make it again, and then nothing runs.
    pub fn plan<N>(
        &mut self,
        record: RecordKey,
        mut look: impl FnMut(&R) -> Result<Vec<RecordKey>, N>,
    ) -> Result<Vec<RecordKey>, Never<N>> {
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        let mut path = vec![(None, vec![record])];
        while let Some((record, left)) = path.last_mut() {
            let Some(need) = left.pop() else {
                order.extend(*record);
                path.pop();
                continue;
            };
            let runs = self.is_running(need) && !self.plants.has(Plant::MakeTwice);
            if !runs && seen.insert(need) {
                let missing = self.visit(need, &mut look)?;
                path.push((Some(need), missing));
            }
        }
        for record in &order {
            let record = self.records.get_mut(*record).expect("it was visited");
            if !self.plants.has(Plant::MakeForEver) {
                record.retries_left -= 1;
            }
            record.is_running = true;
            record.holds += 1;
        }
        Ok(order)
    }

    /// A record has run so often once more, and has so many retries left.
    pub fn has_run(&mut self, record: RecordKey, runs: u32, retries_left: u32) {
        if let Some(record) = self.records.get_mut(record) {
            record.runs += runs;
            record.retries_left = record.retries_left.min(retries_left);
        }
    }

    /// A run is over, however it ended.
    pub fn ended(&mut self, record: RecordKey) {
        let Some(found) = self.records.get_mut(record) else { return };
        if std::mem::take(&mut found.is_running) {
            self.let_go(record);
            self.keep_bound();
        }
    }

    /// Recipes that nobody needs any more.
    pub fn take_dropped(&mut self) -> Vec<R> {
        std::mem::take(&mut self.dropped)
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts { records: self.records.len(), bytes: self.bytes }
    }

    fn visit<N>(
        &self,
        record: RecordKey,
        look: &mut impl FnMut(&R) -> Result<Vec<RecordKey>, N>,
    ) -> Result<Vec<RecordKey>, Never<N>> {
        let record = self.records.get(record).expect("who asks holds it");
        let Record { task, recipe, runs, retries_left, .. } = record;
        let (task, bytes_max) = (task.clone(), self.bytes_max);
        let recipe = recipe.as_ref().ok_or(Never::Forgotten { task: task.clone(), bytes_max })?;
        if *retries_left == 0 {
            return Err(Never::Exhausted { task, runs: *runs });
        }
        look(recipe).map_err(Never::Cannot)
    }

    /// LIN-2.
    fn keep_bound(&mut self) {
        while self.bytes > self.bytes_max {
            let is_idle = |key: &RecordKey| !self.records[*key].is_running;
            let Some(oldest) = self.ages.values().copied().find(is_idle) else { return };
            let needs = self.forget(oldest);
            self.let_all_go(needs);
        }
    }

    /// Takes a record's recipe; says what it needed.
    fn forget(&mut self, record: RecordKey) -> Vec<RecordKey> {
        let record = self.records.get_mut(record).expect("only what is there is forgotten");
        let Some(recipe) = record.recipe.take() else { return Vec::new() };
        self.ages.remove(&record.age);
        self.bytes -= record.bytes;
        self.dropped.push(recipe);
        std::mem::take(&mut record.needs).into_vec()
    }

    fn let_all_go(&mut self, mut left: Vec<RecordKey>) {
        while let Some(key) = left.pop() {
            let Some(record) = self.records.get_mut(key) else { continue };
            record.holds -= 1;
            if record.holds == 0 {
                let needs = self.forget(key);
                self.records.remove(key);
                if !self.plants.has(Plant::KeepLineage) {
                    left.extend(needs);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(lineage: &mut Lineage<u32>, needs: &[RecordKey], retries: u32) -> RecordKey {
        let (task, needs) = ("f".into(), needs.into());
        lineage.keep(Keep { task, recipe: 0, bytes: 10, needs, runs: 1, retries })
    }

    fn nothing(_: &u32) -> Result<Vec<RecordKey>, ()> {
        Ok(Vec::new())
    }

    #[test]
    fn what_others_need_runs_first() {
        let mut lineage = Lineage::new(1_000);
        let one = keep(&mut lineage, &[], 3);
        let two = keep(&mut lineage, &[one], 3);
        let three = keep(&mut lineage, &[two, one], 3);
        let mut needs = vec![vec![two, one], vec![one], vec![]].into_iter();
        // The last need is looked at first: the order is a sound one, whichever comes first.
        let order = lineage.plan(three, |_| Ok::<_, ()>(needs.next().unwrap_or_default()));
        let order = order.unwrap();
        let place = |key| order.iter().position(|other| *other == key).unwrap();
        assert_eq!(order.len(), 3);
        assert!(place(one) < place(two) && place(two) < place(three));
        assert_eq!(lineage.plan(three, nothing), Ok(vec![]), "LIN-4");
    }

    #[test]
    fn a_task_runs_as_often_as_it_may_and_then_says_so() {
        let mut lineage = Lineage::new(1_000);
        let one = keep(&mut lineage, &[], 2);
        for _ in 0..2 {
            assert_eq!(lineage.plan(one, nothing), Ok(vec![one]));
            lineage.has_run(one, 1, 2);
            lineage.ended(one);
        }
        let never = Never::Exhausted { task: "f".into(), runs: 3 };
        assert_eq!(lineage.plan(one, nothing), Err(never));
    }

    #[test]
    fn a_plan_that_cannot_be_runs_nothing() {
        let mut lineage = Lineage::new(1_000);
        let one = keep(&mut lineage, &[], 0);
        let two = keep(&mut lineage, &[one], 3);
        let plan = lineage.plan(two, |_| Ok::<_, ()>(vec![one]));
        assert_eq!(plan, Err(Never::Exhausted { task: "f".into(), runs: 1 }));
        assert!(!lineage.is_running(one) && !lineage.is_running(two));
        assert_eq!(lineage.retries_left(two), 3);
    }

    #[test]
    fn a_long_chain_goes_with_its_last_value() {
        let mut lineage = Lineage::new(u64::MAX);
        let mut last = keep(&mut lineage, &[], 3);
        for _ in 0..100_000 {
            let next = keep(&mut lineage, &[last], 3);
            lineage.let_go(last);
            last = next;
        }
        let mut needs: Vec<_> = lineage.records.keys().filter(|key| *key != last).collect();
        let plan = lineage.plan(last, |_| Ok::<_, ()>(needs.pop().into_iter().collect()));
        assert_eq!(plan.map(|plan| plan.len()), Ok(100_001));
        for record in lineage.records.keys().collect::<Vec<_>>() {
            lineage.ended(record);
        }
        lineage.let_go(last);
        assert_eq!(lineage.counts(), Counts::default());
        assert_eq!(lineage.take_dropped().len(), 100_001);
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_forgotten_and_say_so() {
        let mut lineage = Lineage::new(25);
        let one = keep(&mut lineage, &[], 3);
        let two = keep(&mut lineage, &[one], 3);
        let three = keep(&mut lineage, &[two], 3);
        assert_eq!(lineage.counts(), Counts { records: 3, bytes: 20 });
        let never = Never::Forgotten { task: "f".into(), bytes_max: 25 };
        assert_eq!(lineage.plan(one, nothing), Err(never));
        assert_eq!(lineage.plan(three, nothing), Ok(vec![three]));
        lineage.ended(three);
        for record in [one, two, three] {
            lineage.let_go(record);
        }
        assert_eq!(lineage.counts(), Counts::default());
    }

    #[test]
    fn what_runs_is_not_forgotten() {
        let mut lineage = Lineage::new(15);
        let one = keep(&mut lineage, &[], 3);
        assert_eq!(lineage.plan(one, nothing), Ok(vec![one]));
        let two = keep(&mut lineage, &[], 3);
        assert!(lineage.recipe(one).is_some() && lineage.recipe(two).is_none());
        lineage.let_go(one);
        assert!(lineage.recipe(one).is_some());
        lineage.ended(one);
        lineage.let_go(two);
        assert_eq!(lineage.counts(), Counts::default());
    }
}
