//! A worker process, as simple as one can be: it does what messages say, and its user code what chance says.
//!
//! Tasks of one lease lie in a slot and run in order; but one that is blocked lets the next one start, for
//! the object that it waits for may be made by a task behind it. An actor's calls are ordered by the
//! production queue, as in the product.

use std::collections::{BTreeMap, VecDeque};

use raybolt_core::calls::borrows::Borrows;
use raybolt_core::calls::objects::Region;
use raybolt_core::calls::queue::{Call, CallerId, Mode, Queue};
use raybolt_core::ids::ProcessId;
use raybolt_core::plant::Plants;
use raybolt_wire::work::{self, Outcome, Run};

use super::generators::{Generator, Reading};
use super::links::Way;
use super::messages::{Content, Parcel, Place, ToDriver, ToWorker};
use super::{Event, Shared, task_key};
use crate::trace::{Verdict, require};

/// The kind of methods that may run beside others.
pub const SHARED: u8 = 1;

/// A process that runs user code.
#[derive(Debug)]
pub struct Worker {
    /// Its name, never used again.
    pub process: ProcessId,
    /// Tasks that were pushed and have not started, by lease.
    slots: BTreeMap<u64, VecDeque<(Run, Parcel)>>,
    /// What runs, by task.
    pub runs: BTreeMap<u64, Running>,
    actors: BTreeMap<u64, Hosted>,
    /// Who waits for an object: first asked, first answered.
    pub fetches: BTreeMap<u64, VecDeque<Waiter>>,
    pub pins: BTreeMap<u64, VecDeque<Waiter>>,
    pub slab: Option<Slab>,
    pub slab_is_wanted: bool,
    /// To be returned once it was told what lies in them.
    pub full_slabs: Vec<u64>,
    pub named: u64,
    /// What it holds of the driver's objects, as in the product.
    pub borrows: Borrows<()>,
    /// What the message before has lent for the next one.
    pub loan: Vec<u64>,
    /// Bodies that came and are kept, with what was lent for each.
    pub bodies: BTreeMap<u64, Parcel>,
    pub next_body: u64,
    /// Objects that are held, and whose value has come with a message: whether there is one.
    pub here: BTreeMap<u64, bool>,
    /// Streams that are read here, until their end has come.
    pub streams: BTreeMap<u64, Reading>,
}

/// A slab, and how much of it is written.
#[derive(Clone, Copy, Debug)]
pub struct Slab {
    pub slab: u64,
    pub region: Region,
    pub used_bytes: u64,
}

/// A task or a call that has begun.
#[derive(Debug)]
pub struct Running {
    pub task: u64,
    pub attempt: u32,
    pub returns: u32,
    pub may_block: bool,
    pub kind: Kind,
    /// References that the code has.
    pub refs: Vec<u64>,
    /// Values in the store that it reads: which object's, where, and its tag.
    pub read: Vec<(u64, Region, u64)>,
    pub phase: Phase,
    pub is_cancelled: bool,
    pub steps_left: u64,
    /// An argument could not be had.
    pub is_refused: bool,
    /// What it waits for next, one after the other.
    pub to_get: VecDeque<u64>,
    /// Whether it is several, and what has come need not be asked for.
    pub is_gathering: bool,
    /// If it is a generator.
    pub stream: Option<Generator>,
    /// Streams that its code reads.
    pub reads: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Under this lease.
    Task(u64),
    /// Of this actor: its incarnation, the call's number, its group and mode.
    Call { actor: u64, incarnation: u32, number: u64, group: usize, mode: Mode },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for so many arguments that lie in the store.
    Resolving(usize),
    Running,
    Blocked,
}

/// Who waits for an answer of the driver.
#[derive(Clone, Copy, Debug)]
pub enum Waiter {
    Run(u64, u32),
}

#[derive(Debug)]
struct Hosted {
    incarnation: u32,
    queue: Queue<(work::Call, Parcel)>,
    is_ending: bool,
}

impl Worker {
    /// A worker that was just started.
    pub fn new(process: ProcessId, plants: Plants) -> Self {
        Worker {
            process,
            slots: BTreeMap::new(),
            runs: BTreeMap::new(),
            actors: BTreeMap::new(),
            fetches: BTreeMap::new(),
            pins: BTreeMap::new(),
            slab: None,
            slab_is_wanted: false,
            full_slabs: Vec::new(),
            named: 0,
            borrows: Borrows::with_plants(plants),
            loan: Vec::new(),
            bodies: BTreeMap::new(),
            next_body: 0,
            here: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    /// A message arrives.
    pub fn heard(&mut self, shared: &mut Shared, message: ToWorker, parcel: Parcel) -> Verdict {
        let loan = std::mem::take(&mut self.loan);
        require(loan.iter().copied().eq(parcel.occurrences()), "loans", || {
            format!("{message:?} holds {parcel:?}, and {loan:?} was lent for it")
        })?;
        match message {
            ToWorker::Work(work::ToWorker::Lend { refs, .. }) => {
                refs.iter().for_each(|object| self.borrows.lent(*object));
                self.loan = refs;
                Ok(())
            }
            ToWorker::Work(message) => self.heard_of_work(shared, message, parcel),
            ToWorker::Pinned { object, key, region, tag } => {
                self.pinned(shared, object, (key, region, tag))
            }
            ToWorker::PinRefused { object } => self.pin_refused(shared, object),
            ToWorker::SlabLent { slab, region } => {
                self.slab = Some(Slab { slab, region, used_bytes: 0 });
                self.slab_is_wanted = false;
                Ok(())
            }
            ToWorker::SlabRefused => {
                self.slab_is_wanted = false;
                Ok(())
            }
        }
    }

    fn heard_of_work(
        &mut self,
        shared: &mut Shared,
        message: work::ToWorker,
        parcel: Parcel,
    ) -> Verdict {
        match message {
            work::ToWorker::Run(run) => {
                let lease = run.lease;
                self.slots.entry(lease).or_default().push_back((run, parcel));
                self.start_next(shared, lease)
            }
            work::ToWorker::Cancel { task } => self.cancel(shared, task),
            work::ToWorker::Value { object, outcome } => {
                self.fetched(shared, object, outcome == Outcome::Returned, parcel)
            }
            work::ToWorker::Room { task, attempt, until } => {
                self.room(shared, task, attempt, until)
            }
            work::ToWorker::Item { .. } => self.item(shared, message, &parcel),
            work::ToWorker::Host(work::Host { actor, incarnation, limits, .. }) => {
                let limits: Vec<_> = limits.iter().map(|limit| *limit as usize).collect();
                let queue = Queue::with_plants(&limits, shared.plants);
                self.actors.insert(actor, Hosted { incarnation, queue, is_ending: false });
                shared.life(actor).begins(self.process, incarnation)
            }
            work::ToWorker::Call(call) => self.called(shared, call, parcel),
            work::ToWorker::StopCall { actor, task, .. } => self.stop_call(shared, actor, task),
            work::ToWorker::EndActor { actor, incarnation, .. } => {
                self.end_actor(shared, actor, incarnation);
                Ok(())
            }
            other => unreachable!("the driver does not say {other:?}"),
        }
    }

    /// Starts the next task under a lease, unless one runs.
    pub fn start_next(&mut self, shared: &mut Shared, lease: u64) -> Verdict {
        let works = |run: &Running| run.kind == Kind::Task(lease) && run.phase != Phase::Blocked;
        if self.runs.values().any(works) {
            return Ok(());
        }
        let Some((run, parcel)) = self.slots.get_mut(&lease).and_then(VecDeque::pop_front) else {
            return Ok(());
        };
        let Run { task, attempt, code, .. } = run;
        let refs = self.read(shared, &parcel)?;
        let stream = parcel.stream.as_ref().map(|of| Generator::new(shared, of)).transpose()?;
        let running = Running {
            task,
            attempt,
            stream,
            returns: code.declared.0,
            may_block: code.body.0 == 1,
            kind: Kind::Task(lease),
            ..Running::of(shared, refs)
        };
        self.loan_over(shared, &parcel); // Its arguments were read.
        self.start(shared, running, &parcel)
    }

    fn start(&mut self, shared: &mut Shared, mut running: Running, parcel: &Parcel) -> Verdict {
        let stored = parcel.values.iter().filter(|value| value.place == Place::Stored);
        let stored: Vec<_> = stored.map(|value| value.object).collect();
        let task = running.task;
        running.phase = Phase::Resolving(stored.len());
        let waiter = Waiter::Run(task, running.attempt);
        self.runs.insert(task, running);
        for object in &stored {
            self.pins.entry(*object).or_default().push_back(waiter);
            self.say_more(shared, &ToDriver::Pin { object: *object });
        }
        if stored.is_empty() {
            self.go_on(shared, task);
        }
        Ok(())
    }

    /// User code runs until its next step.
    pub fn go_on(&mut self, shared: &mut Shared, task: u64) {
        let run = self.runs.get_mut(&task).expect("it was started");
        run.phase = Phase::Running;
        let duration = shared.rng.within(&(1..=shared.options.task_us));
        shared.clock.after(duration, Event::Step(self.process, task, run.attempt));
    }

    /// User code waits for an object.
    pub fn block(&mut self, shared: &mut Shared, task: u64, object: u64) -> Verdict {
        let run = self.runs.get_mut(&task).expect("what waits has started");
        run.phase = Phase::Blocked;
        let (kind, attempt) = (run.kind, run.attempt);
        self.fetches.entry(object).or_default().push_back(Waiter::Run(task, attempt));
        let Kind::Task(lease) = kind else { unreachable!("calls do not wait") };
        self.say(shared, work::ToDriver::Blocked { lease });
        self.want(shared, object);
        self.start_next(shared, lease)
    }

    /// User code waits for the next of the objects that it gets, or goes on.
    pub fn get_next(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let run = self.runs.get_mut(&task).expect("what waits does not end");
        while let Some(object) = run.to_get.pop_front() {
            match self.here.get(&object).filter(|_| run.is_gathering) {
                Some(is_there) => run.is_refused |= !is_there,
                None => return self.block(shared, task, object),
            }
        }
        self.go_on(shared, task);
        Ok(())
    }

    pub fn unblock(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        if let Kind::Task(lease) = self.runs[&task].kind {
            self.say(shared, work::ToDriver::Unblocked { lease });
        }
        self.get_next(shared, task)
    }

    fn pinned(&mut self, shared: &mut Shared, object: u64, read: (u64, Region, u64)) -> Verdict {
        shared.arena.holds(read.1, read.2)?;
        let Some(Waiter::Run(task, _)) = self.pins.get_mut(&object).and_then(VecDeque::pop_front)
        else {
            unreachable!("what is pinned was asked for");
        };
        let run = self.runs.get_mut(&task).expect("what waits does not end");
        run.read.push(read);
        self.resolved(shared, task)
    }

    fn pin_refused(&mut self, shared: &mut Shared, object: u64) -> Verdict {
        let waiter = self.pins.get_mut(&object).and_then(VecDeque::pop_front);
        if let Some(Waiter::Run(task, _)) = waiter {
            self.runs.get_mut(&task).expect("what waits does not end").is_refused = true;
            return self.resolved(shared, task);
        }
        Ok(())
    }

    fn resolved(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let run = self.runs.get_mut(&task).expect("what waits does not end");
        match &mut run.phase {
            Phase::Resolving(missing) => {
                *missing -= 1;
                if *missing == 0 {
                    self.go_on(shared, task);
                }
                Ok(())
            }
            Phase::Blocked => self.unblock(shared, task),
            Phase::Running => unreachable!("who runs waits for nothing"),
        }
    }

    fn called(&mut self, shared: &mut Shared, call: work::Call, parcel: Parcel) -> Verdict {
        let actor = call.actor;
        let hosted = self.actors.get_mut(&actor);
        let Some(hosted) = hosted.filter(|hosted| hosted.incarnation == call.incarnation) else {
            self.loan_over(shared, &parcel);
            return Ok(());
        };
        let mode = if call.method.kind == SHARED { Mode::Shared } else { Mode::Exclusive };
        let queued = Call {
            task: task_key(call.task),
            group: usize::from(call.method.group),
            mode,
            job: (call.clone(), parcel),
        };
        hosted.queue.submitted(CallerId(call.caller), queued, true);
        self.pump(shared, actor)
    }

    /// Starts the calls of an actor that may start.
    fn pump(&mut self, shared: &mut Shared, actor: u64) -> Verdict {
        loop {
            let Some(hosted) = self.actors.get_mut(&actor) else { return Ok(()) };
            let Some(call) = hosted.queue.start_next() else { break };
            let Call { task, group, mode, job: (call, parcel) } = call;
            let incarnation = hosted.incarnation;
            let refs = self.read(shared, &parcel)?;
            shared.life(actor).starts(task, mode, self.process, incarnation)?;
            let kind = Kind::Call { actor, incarnation, number: call.number, group, mode };
            let running = Running {
                task: call.task,
                returns: call.method.body.0,
                kind,
                ..Running::of(shared, refs)
            };
            self.loan_over(shared, &parcel); // Its arguments were read.
            self.start(shared, running, &parcel)?;
        }
        let hosted = &self.actors[&actor];
        if hosted.is_ending && hosted.queue.running() == 0 {
            let incarnation = hosted.incarnation;
            self.actors.remove(&actor);
            shared.life(actor).ends(self.process);
            let because = String::new();
            self.say(shared, work::ToDriver::ActorEnded { actor, incarnation, because });
        }
        Ok(())
    }

    /// A call shall not run; one that runs may heed that.
    fn stop_call(&mut self, shared: &mut Shared, actor: u64, task: u64) -> Verdict {
        if let Some(run) = self.runs.get_mut(&task) {
            run.is_cancelled = true;
        }
        let Some(hosted) = self.actors.get_mut(&actor) else { return Ok(()) };
        let incarnation = hosted.incarnation;
        let Some(Call { job: (call, parcel), .. }) = hosted.queue.cancelled(task_key(task)) else {
            return Ok(());
        };
        let (number, outcome, refs) = (call.number, Outcome::Failed, Vec::new());
        let message = work::ToDriver::Called { actor, incarnation, number, outcome, refs };
        let answer = Parcel { truth: task, ..Parcel::default() };
        self.send(shared, &ToDriver::Work(message), &answer)?;
        self.loan_over(shared, &parcel);
        self.pump(shared, actor)
    }

    /// An actor shall end: what runs is answered, the rest is not run.
    fn end_actor(&mut self, shared: &mut Shared, actor: u64, incarnation: u32) {
        let Some(hosted) = self.actors.get_mut(&actor) else { return };
        if hosted.incarnation != incarnation {
            return;
        }
        hosted.is_ending = true;
        for call in hosted.queue.closed() {
            self.loan_over(shared, &call.job.1);
        }
        self.pump(shared, actor).expect("nothing is left to start");
    }

    fn cancel(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        for line in self.slots.values_mut() {
            if let Some(position) = line.iter().position(|(run, _)| run.task == task) {
                let (run, parcel) = line.remove(position).expect("it was found there");
                let (attempt, outcome, refs) = (run.attempt, Outcome::Failed, Vec::new());
                self.say(shared, work::ToDriver::Finished { task, attempt, outcome, refs });
                self.loan_over(shared, &parcel);
                return Ok(());
            }
        }
        if let Some(run) = self.runs.get_mut(&task) {
            run.is_cancelled = true;
        }
        self.stop_generator(shared, task)
    }

    /// Answers a task or a call, and lets go of what its code had: in this order.
    pub fn answer(
        &mut self,
        shared: &mut Shared,
        task: u64,
        values: Option<Vec<Content>>,
    ) -> Verdict {
        let run = self.runs.remove(&task).expect("what answers was started");
        run.reads.iter().for_each(|id| self.drop_stream(shared, *id));
        let outcome = if values.is_some() { Outcome::Returned } else { Outcome::Failed };
        let values = values.unwrap_or_default();
        let parcel = Parcel { values, truth: task, ..Parcel::default() };
        let refs = parcel.occurrences().collect();
        let attempt = run.attempt;
        let message = match run.kind {
            Kind::Task(_) => work::ToDriver::Finished { task, attempt, outcome, refs },
            Kind::Call { actor, incarnation, number, .. } => {
                work::ToDriver::Called { actor, incarnation, number, outcome, refs }
            }
        };
        self.send(shared, &ToDriver::Work(message), &parcel)?;
        for (object, region, tag) in run.read {
            shared.arena.holds(region, tag)?;
            self.say_more(shared, &ToDriver::Unpin { object });
        }
        self.release(shared, run.refs.into_iter());
        match run.kind {
            Kind::Task(lease) => self.start_next(shared, lease),
            Kind::Call { actor, group, mode, .. } => {
                shared.life(actor).ended(task_key(task));
                if let Some(hosted) = self.actors.get_mut(&actor) {
                    hosted.queue.finished(group, mode);
                }
                self.pump(shared, actor)
            }
        }
    }

    /// User code uses a reference that it kept, once more or for the last time.
    pub fn uses_kept(&mut self, shared: &mut Shared, object: u64, last: bool) {
        if last {
            self.release(shared, [object].into_iter());
        } else {
            self.want(shared, object);
        }
    }

    /// Says something without references in it.
    pub fn say(&self, shared: &mut Shared, message: work::ToDriver) {
        self.say_more(shared, &ToDriver::Work(message));
    }

    /// The same, where `raybolt-wire` has no message for it.
    pub fn say_more(&self, shared: &mut Shared, message: &ToDriver) {
        shared.write(self.process, Way::ToDriver, message, &Parcel::default());
    }

    /// Says something whose references are held until it has arrived.
    pub fn send(&mut self, shared: &mut Shared, message: &ToDriver, parcel: &Parcel) -> Verdict {
        for id in parcel.occurrences() {
            shared.holds.taken(id, self.process)?;
        }
        shared.write(self.process, Way::ToDriver, message, parcel);
        for slab in std::mem::take(&mut self.full_slabs) {
            self.say_more(shared, &ToDriver::ReturnSlab { slab });
        }
        Ok(())
    }
}

impl Running {
    fn of(shared: &mut Shared, refs: Vec<u64>) -> Self {
        Running {
            task: 0,
            attempt: 0,
            returns: 0,
            may_block: false,
            kind: Kind::Task(0),
            refs,
            read: Vec::new(),
            phase: Phase::Running,
            is_cancelled: false,
            steps_left: shared.rng.within(&(0..=shared.options.steps_max)),
            is_refused: false,
            to_get: VecDeque::new(),
            is_gathering: false,
            stream: None,
            reads: VecDeque::new(),
        }
    }
}
