//! Values that are lost, and tasks that make them again.
//!
//! # What runs
//! The production owner and lineage, and a shell as simple as can be: so many tasks run at once, each for a random
//! time. A program submits tasks that take what others return, reads values, and lets go of them. A value is a
//! number that follows from its task and the values of its arguments.
//!
//! # Faults
//! Values are lost, one by one or all at once, also those that were made again. Runs die. The bound of what is kept
//! may be small, and values that were put have nothing that makes them again.
//!
//! # Demanded
//! Every read ends with the right value or an error that has a cause. No task runs more often than its retries
//! allow, however its runs came about, and none is started again while it is on its way. In the end nothing is
//! kept and nobody waits.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use raybolt_core::calls::lineage::{Counts, Keep, Lineage, Never, RecordKey};
use raybolt_core::calls::owner::{
    self, Attempt, ClassId, Effect, ObjectKey, Owner, Retry, Returns, Submit, Target, TaskKey,
};
use raybolt_core::plant::Plants;

use crate::clock::{Clock, Micros};
use crate::rng::Rng;
use crate::trace::{Trace, Verdict, require};

const CLASS: ClassId = ClassId(0);
const CHECKER: &str = "lineage";

/// What the seed decided.
#[derive(Debug)]
struct Options {
    steps: u64,
    step_every_us: Micros,
    task_us: Micros,
    slots: usize,
    retries_max: u32,
    bytes_max: u64,
    /// Arguments are among so many that were made last.
    near: usize,
    put: u32,
    lose: u32,
    die: u32,
}

impl Options {
    fn random(rng: &mut Rng) -> Self {
        Options {
            steps: rng.within(&(5..=300)),
            step_every_us: rng.within(&(1..=300)),
            task_us: rng.within(&(1..=600)),
            slots: rng.count(1..=4) as usize,
            retries_max: rng.count(0..=4),
            bytes_max: if rng.chance(700) { u64::MAX } else { rng.within(&(0..=200)) },
            near: rng.count(1..=12) as usize,
            put: rng.count(0..=300),
            lose: rng.fault(700),
            die: rng.fault(200),
        }
    }
}

#[derive(Debug)]
enum Event {
    Step,
    /// A run is over.
    Over(TaskKey, Attempt),
}

/// An object: of the program, or one that is made again.
struct Object {
    key: ObjectKey,
    model: usize,
    place: RefCell<Option<Rc<Place>>>,
    failed: Cell<bool>,
}

/// A value, wherever it lies.
struct Place {
    value: u64,
    /// The record of its task, and that one's recipe.
    record: Option<(RecordKey, usize)>,
    is_lost: Cell<bool>,
    instead: RefCell<Option<Instead>>,
}

#[derive(Clone)]
enum Instead {
    Made(Rc<Object>),
    There(Rc<Place>),
}

enum Whereabouts {
    Here(Rc<Place>),
    Coming(Rc<Object>),
    Never,
}

/// A task as its model knows it.
struct Model {
    /// Known when it has run.
    value: Option<u64>,
    retries: u32,
    runs: u32,
}

/// What it takes to run a task again.
struct Recipe {
    model: usize,
    needs: Vec<Need>,
    latest: Weak<Place>,
    coming: Option<Rc<Object>>,
}

/// An argument.
struct Need {
    place: Weak<Place>,
    record: Option<(RecordKey, usize)>,
}

struct Job {
    model: usize,
    args: Vec<Rc<Object>>,
    made: Rc<Object>,
    again: Option<(RecordKey, usize)>,
}

struct World<'a> {
    options: Options,
    clock: Clock<Event>,
    rng: Rng,
    trace: &'a mut Trace,
    owner: Owner<Job>,
    lineage: Lineage<usize>,
    models: Vec<Model>,
    recipes: Vec<Recipe>,
    running: Vec<(TaskKey, Job)>,
    held: Vec<Rc<Object>>,
    reads: Vec<Rc<Object>>,
    places: Vec<Weak<Place>>,
    /// What is let go of, and not settled yet.
    gone: Vec<Instead>,
    steps_left: u64,
}

/// Runs one seed's lineage world to its end.
pub fn run(mut rng: Rng, plants: Plants, trace: &mut Trace) -> Verdict {
    let options = Options::random(&mut rng);
    trace.options = format!("lineage: {options:?}");
    let mut world = World {
        clock: Clock::new(),
        owner: Owner::with_plants(plants),
        lineage: Lineage::with_plants(options.bytes_max, plants),
        models: Vec::new(),
        recipes: Vec::new(),
        running: Vec::new(),
        held: Vec::new(),
        reads: Vec::new(),
        places: Vec::new(),
        gone: Vec::new(),
        steps_left: options.steps,
        options,
        rng,
        trace,
    };
    world.run()
}

impl Object {
    fn of(key: ObjectKey, model: usize, place: Option<Rc<Place>>) -> Rc<Self> {
        Rc::new(Object { key, model, place: RefCell::new(place), failed: Cell::new(false) })
    }
}

impl World<'_> {
    fn run(&mut self) -> Verdict {
        self.clock.at(0, Event::Step);
        while let Some(event) = self.clock.next_event() {
            let words = match &event {
                Event::Step => [0, 0],
                Event::Over(_, attempt) => [1, u64::from(*attempt)],
            };
            self.trace.event(self.clock.now(), &words, || format!("{event:?}"));
            match event {
                Event::Step => self.step()?,
                Event::Over(task, attempt) => self.over(task, attempt)?,
            }
            if self.trace.is_endless() {
                return self.trace.endless();
            }
            self.settle()?;
        }
        self.demand_nothing_left()
    }

    fn step(&mut self) -> Verdict {
        if self.steps_left == 0 {
            self.trace.healed();
            self.gone.extend(self.held.drain(..).map(Instead::Made));
            return Ok(());
        }
        self.steps_left -= 1;
        self.clock.after(self.options.step_every_us, Event::Step);
        if self.rng.chance(self.options.lose) {
            self.lose();
        }
        match self.rng.below(10) {
            0..=2 => self.submit(),
            3 => self.submit_family(),
            4..=6 if !self.held.is_empty() => {
                let object = self.rng.pick(&self.held).clone();
                self.reads.push(object);
            }
            7..=8 if !self.held.is_empty() => {
                let index = self.rng.index(self.held.len());
                self.gone.push(Instead::Made(self.held.swap_remove(index)));
            }
            9 if self.rng.chance(self.options.lose) => {
                self.places
                    .iter()
                    .filter_map(Weak::upgrade)
                    .for_each(|place| place.is_lost.set(true));
                self.reads.extend(self.held.iter().cloned());
            }
            _ => {}
        }
        Ok(())
    }

    fn submit(&mut self) {
        if self.rng.chance(self.options.put) {
            let (model, value) = (self.models.len(), self.rng.bits());
            self.models.push(Model { value: Some(value), retries: 0, runs: 0 });
            let place = self.place(value, None);
            let key = self.owner.put();
            self.held.push(Object::of(key, model, Some(place)));
            return;
        }
        let count = if self.held.is_empty() { 0 } else { self.rng.below(3) };
        let last = self.held.len().saturating_sub(self.options.near);
        let args = (0..count).map(|_| self.rng.pick(&self.held[last..]).clone());
        let args = args.collect();
        let made = self.submit_task(args);
        self.held.push(made);
    }

    /// Several tasks take what one returns, and nobody else holds that.
    fn submit_family(&mut self) {
        let count = if self.held.is_empty() { 0 } else { 1 };
        let args = (0..count).map(|_| self.rng.pick(&self.held).clone()).collect();
        let parent = self.submit_task(args);
        for _ in 0..self.rng.count(1..=3) {
            let child = self.submit_task(vec![parent.clone()]);
            self.held.push(child);
        }
        self.gone.push(Instead::Made(parent));
    }

    fn submit_task(&mut self, args: Vec<Rc<Object>>) -> Rc<Object> {
        let model = self.models.len();
        let retries = self.rng.count(0..=self.options.retries_max);
        self.models.push(Model { value: None, retries, runs: 0 });
        let made = self.pending(model);
        let needs = args.iter().map(|arg| arg.key).collect();
        let returns = Returns::One(made.key);
        let job = Some(Job { model, args, made: made.clone(), again: None });
        let target = Target::Class(CLASS);
        self.owner.submit(Submit { target, job, needs, returns, retries });
        made
    }

    fn lose(&mut self) {
        self.places.retain(|place| place.strong_count() > 0);
        if !self.places.is_empty() {
            let place = self.rng.pick(&self.places).upgrade().expect("the others are gone");
            place.is_lost.set(true);
        }
    }

    fn pending(&mut self, model: usize) -> Rc<Object> {
        let key = self.owner.expect();
        Object::of(key, model, None)
    }

    fn place(&mut self, value: u64, record: Option<(RecordKey, usize)>) -> Rc<Place> {
        let (is_lost, instead) = (Cell::new(false), RefCell::new(None));
        let place = Rc::new(Place { value, record, is_lost, instead });
        self.places.push(Rc::downgrade(&place));
        place
    }

    /// A task has got its slot.
    fn begin(&mut self, task: TaskKey, attempt: Attempt, job: Job) -> Verdict {
        let mut awaited = Vec::new();
        let (mut value, mut is_lost) = (job.model as u64, false);
        for arg in &job.args {
            match self.find(arg)? {
                Whereabouts::Here(place) => value = mix(value, place.value),
                Whereabouts::Coming(object) => awaited.push(object),
                Whereabouts::Never => is_lost = true,
            }
        }
        if is_lost {
            self.fail(task, attempt, job);
        } else if !awaited.is_empty() {
            let keys: Vec<_> = awaited.iter().map(|object| object.key).collect();
            let retry = self.owner.wait_again(task, attempt, job, &keys);
            require(matches!(retry, Retry::Again), CHECKER, || "a task cannot wait".into())?;
        } else {
            let model = &mut self.models[job.model];
            model.runs += 1;
            let Model { runs, retries, .. } = *model;
            require(runs <= 1 + retries, CHECKER, || {
                format!("task {} runs {runs} times, with {retries} retries", job.model)
            })?;
            let is_same = model.value.is_none_or(|before| before == value);
            require(is_same, CHECKER, || format!("task {} gets other arguments", job.model))?;
            model.value = Some(value);
            self.running.push((task, job));
            let delay = self.rng.within(&(1..=self.options.task_us));
            self.clock.after(delay, Event::Over(task, attempt));
        }
        self.gone.extend(awaited.into_iter().map(Instead::Made));
        Ok(())
    }

    fn over(&mut self, task: TaskKey, attempt: Attempt) -> Verdict {
        let index = self.running.iter().position(|(key, _)| *key == task).expect("it runs");
        let (_, job) = self.running.swap_remove(index);
        if self.rng.chance(self.options.die) {
            match self.owner.retry(task, attempt, job) {
                Retry::Again => {}
                Retry::Stale(_) => return require(false, CHECKER, || "a run is unknown".into()),
                Retry::Exhausted(job) => self.fail(task, attempt, job),
            }
            return Ok(());
        }
        let retries = self.owner.retries_left(task).expect("it has not ended");
        let record = match job.again {
            Some((record, recipe)) => {
                self.lineage.has_run(record, attempt + 1, retries);
                self.lineage.held(record);
                Some((record, recipe))
            }
            None if retries == 0 => None,
            None => Some(self.keep(&job, attempt + 1, retries)),
        };
        let value = self.models[job.model].value.expect("it has run");
        let place = self.place(value, record);
        if let Some((_, recipe)) = record {
            let latest = &mut self.recipes[recipe].latest;
            if latest.upgrade().is_none_or(|latest| latest.instead.borrow().is_some()) {
                *latest = Rc::downgrade(&place);
            }
        }
        *job.made.place.borrow_mut() = Some(place);
        self.let_go(job);
        self.owner.finished(task, attempt, true);
        Ok(())
    }

    fn keep(&mut self, job: &Job, runs: u32, retries: u32) -> (RecordKey, usize) {
        let need = |arg: &Rc<Object>| {
            let place = arg.place.borrow();
            let place = place.as_ref().expect("it was read");
            Need { place: Rc::downgrade(place), record: place.record }
        };
        let needs: Vec<_> = job.args.iter().map(need).collect();
        let records: Box<[_]> = needs.iter().filter_map(|need| Some(need.record?.0)).collect();
        let (model, latest) = (job.model, Weak::new());
        self.recipes.push(Recipe { model, needs, latest, coming: None });
        let recipe = self.recipes.len() - 1;
        let task = format!("{model}").into();
        let keep = Keep { task, recipe, bytes: 10, needs: records, runs, retries };
        (self.lineage.keep(keep), recipe)
    }

    fn fail(&mut self, task: TaskKey, attempt: Attempt, job: Job) {
        job.made.failed.set(true);
        self.let_go(job);
        self.owner.finished(task, attempt, false);
    }

    /// A job is dropped, and with it the run that it may be.
    fn let_go(&mut self, job: Job) {
        if let Some((record, recipe)) = job.again {
            self.gone.extend(self.recipes[recipe].coming.take().map(Instead::Made));
            self.lineage.ended(record);
        }
        self.gone.extend(job.args.into_iter().chain([job.made]).map(Instead::Made));
    }

    /// Where the value of an object is that is there.
    fn find(&mut self, object: &Rc<Object>) -> Verdict<Whereabouts> {
        if object.failed.get() {
            return Ok(Whereabouts::Never);
        }
        let place = object.place.borrow().clone();
        let Some(mut place) = place else { return Ok(Whereabouts::Coming(object.clone())) };
        loop {
            let instead = place.instead.borrow().clone();
            match instead {
                None if !place.is_lost.get() => return Ok(Whereabouts::Here(place)),
                None => {
                    if !self.make_again(&place)? {
                        return Ok(Whereabouts::Never);
                    }
                }
                Some(Instead::There(there)) => place = there,
                Some(Instead::Made(object)) if object.failed.get() => {
                    return Ok(Whereabouts::Never);
                }
                Some(Instead::Made(object)) => {
                    let next = object.place.borrow().clone();
                    match next {
                        Some(next) => place = next,
                        None => return Ok(Whereabouts::Coming(object)),
                    }
                }
            }
        }
    }

    /// A value is lost; says whether it is made again.
    fn make_again(&mut self, lost: &Rc<Place>) -> Verdict<bool> {
        let Some((record, recipe)) = lost.record else { return Ok(false) };
        let latest = self.recipes[recipe].latest.upgrade();
        let is_other =
            |latest: &Rc<Place>| !Rc::ptr_eq(latest, lost) && latest.instead.borrow().is_none();
        if let Some(latest) = latest.filter(is_other) {
            *lost.instead.borrow_mut() = Some(Instead::There(latest));
            return Ok(true);
        }
        let recipes = &self.recipes;
        let missing = |need: &Need| match (need.find(recipes), need.record) {
            (Some(_), _) => None,
            (None, Some((record, _))) => Some(Ok(record)),
            (None, None) => Some(Err(())),
        };
        let look = |recipe: &usize| recipes[*recipe].needs.iter().filter_map(missing).collect();
        let order: Result<Vec<_>, Never<()>> = self.lineage.plan(record, look);
        self.trace.line(|| format!("lineage: {record:?} makes again {order:?}"));
        let Ok(order) = order else { return Ok(false) };
        for record in order {
            self.run_again(record)?;
        }
        let Some(made) = self.recipes[recipe].coming.clone() else {
            return require(false, CHECKER, || "nothing is on its way".into()).map(|()| false);
        };
        *lost.instead.borrow_mut() = Some(Instead::Made(made));
        Ok(true)
    }

    fn run_again(&mut self, record: RecordKey) -> Verdict {
        let recipe = *self.lineage.recipe(record).expect("it is planned");
        require(self.recipes[recipe].coming.is_none(), CHECKER, || {
            format!("task {} is started again while it runs", self.recipes[recipe].model)
        })?;
        let model = self.recipes[recipe].model;
        let (made, mut args, mut needs) = (self.pending(model), Vec::new(), Vec::new());
        for need in &self.recipes[recipe].needs {
            if let Some(place) = need.find(&self.recipes) {
                args.push(Object::of(ObjectKey::default(), model, Some(place)));
                continue;
            }
            let (_, other) = need.record.expect("the plan has seen to it");
            let coming = self.recipes[other].coming.clone().expect("it runs before");
            needs.push(coming.key);
            args.push(coming);
        }
        self.recipes[recipe].coming = Some(made.clone());
        let (target, returns) = (Target::Class(CLASS), Returns::One(made.key));
        let job = Job { model, args, made, again: Some((record, recipe)) };
        let retries = self.lineage.retries_left(record);
        let (job, needs) = (Some(job), needs.into());
        self.owner.submit(Submit { target, job, needs, returns, retries });
        Ok(())
    }

    /// Does what the machines want, reads what can be read, and drops what nobody has any more, until nothing
    /// changes.
    fn settle(&mut self) -> Verdict {
        loop {
            let mut is_still = true;
            while let Some(effect) = self.owner.poll_effect() {
                is_still = false;
                if let Effect::Fail(task, job) = effect {
                    self.fail(task, 0, job);
                }
            }
            while self.running.len() < self.options.slots
                && let Some((task, attempt, job)) = self.owner.lend(CLASS)
            {
                is_still = false;
                self.begin(task, attempt, job)?;
            }
            for object in std::mem::take(&mut self.reads) {
                is_still &= self.read(object)?;
            }
            is_still &= self.gone.is_empty();
            while let Some(gone) = self.gone.pop() {
                self.drop_one(gone);
            }
            drop(self.lineage.take_dropped());
            self.demand_bound()?;
            if is_still {
                return Ok(());
            }
        }
    }

    /// Somebody waits for an object; says whether he still does.
    fn read(&mut self, object: Rc<Object>) -> Verdict<bool> {
        let model = object.model;
        match self.find(&object)? {
            Whereabouts::Coming(_) => {
                self.reads.push(object); // What is coming is held by who makes it.
                return Ok(true);
            }
            Whereabouts::Here(place) => {
                let expected = self.models[model].value;
                require(Some(place.value) == expected, CHECKER, || {
                    format!("{} is read of task {model}, not {expected:?}", place.value)
                })?;
                self.gone.push(Instead::There(place));
            }
            // That a cause may be is all that can be said: nothing is lost, dies or was put without one.
            Whereabouts::Never => {
                let Options { lose, die, .. } = self.options;
                require(lose + die > 0, CHECKER, || {
                    format!("task {model} failed without a cause")
                })?;
            }
        }
        self.gone.push(Instead::Made(object));
        Ok(false)
    }

    /// Somebody lets go of something: if it was the last, so does that.
    fn drop_one(&mut self, gone: Instead) {
        match gone {
            Instead::Made(object) => {
                if let Some(object) = Rc::into_inner(object) {
                    self.owner.released(object.key);
                    self.gone.extend(object.place.into_inner().map(Instead::There));
                }
            }
            Instead::There(place) => {
                if let Some(place) = Rc::into_inner(place) {
                    if let Some((record, _)) = place.record {
                        self.lineage.let_go(record);
                    }
                    self.gone.extend(place.instead.into_inner());
                }
            }
        }
    }

    fn demand_bound(&self) -> Verdict {
        let Counts { bytes, .. } = self.lineage.counts();
        let runs = self.running.iter().any(|(_, job)| job.again.is_some());
        let waits = self.recipes.iter().any(|recipe| recipe.coming.is_some());
        require(bytes <= self.options.bytes_max || runs || waits, CHECKER, || {
            format!("{bytes} bytes are kept")
        })
    }

    fn demand_nothing_left(&self) -> Verdict {
        require(self.reads.is_empty(), "liveness", || {
            format!("{} reads never ended", self.reads.len())
        })?;
        let counts = self.owner.counts();
        require(counts == owner::Counts::default(), CHECKER, || format!("{counts:?} are left"))?;
        let counts = self.lineage.counts();
        require(counts == Counts::default(), CHECKER, || format!("{counts:?} are kept for nobody"))
    }
}

impl Need {
    /// The value, if it is there.
    fn find(&self, recipes: &[Recipe]) -> Option<Rc<Place>> {
        let latest = || self.record.and_then(|(_, recipe)| recipes[recipe].latest.upgrade());
        self.place.upgrade().or_else(latest)
    }
}

fn mix(value: u64, other: u64) -> u64 {
    (value ^ other).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}
