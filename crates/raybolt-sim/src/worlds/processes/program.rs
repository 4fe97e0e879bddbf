//! The driver's program: random calls over what it holds.

use std::collections::BTreeMap;

use raybolt_core::calls::kinds::WorkerKind;
use raybolt_core::calls::owner::{ActorKey, ObjectKey, Target, TaskKey};
use raybolt_core::calls::queue::{CallerId, Mode};

use super::actors::NewCall;
use super::tasks::NewTask;
use super::{Event, World};
use crate::trace::Verdict;

/// What the user holds and waits for.
#[derive(Debug, Default)]
pub struct Program {
    steps: u64,
    pub next_serial: u64,
    /// Handles, one entry per clone.
    handles: Vec<ObjectKey>,
    actors: Vec<(ActorKey, usize)>,
    /// Waiting `get`s; each holds a handle.
    gets: BTreeMap<ObjectKey, u32>,
}

impl Program {
    /// What `get` waits for.
    pub fn waiting(&self) -> Vec<ObjectKey> {
        self.gets.keys().copied().collect()
    }
}

impl World<'_> {
    /// The next step; after the last one faults end, and the user lets go of everything.
    pub fn program_step(&mut self) -> Verdict {
        self.program.steps += 1;
        let step = self.program.steps;
        self.note(&[9, step], || format!("program: step {step}"));
        if step > self.shared.options.steps {
            return self.end_program();
        }
        let delay = self.shared.rng.within(&(0..=2 * self.shared.options.step_every_us));
        self.shared.clock.after(delay, Event::Program);
        if self.shared.rng.chance(self.shared.options.cancel) {
            return self.with_handle(|world, object| {
                let force = world.shared.rng.chance(world.shared.options.force);
                world.cancel(object, force)
            });
        }
        match self.shared.rng.below(100) {
            0..=7 => self.put(),
            8..=9 => self.submit_a_crowd(),
            10..=39 if self.shared.rng.chance(self.shared.options.streams) => {
                self.submit_a_stream()
            }
            10..=39 => self.submit_one(),
            40..=48 => self.with_handle(|world, object| {
                world.clone_handle(object);
                Ok(())
            }),
            49..=67 => self.drop_one(),
            68..=75 => self.with_handle(Self::get),
            76..=79 => self.make_one_actor(),
            80..=96 => self.make_calls(),
            _ => self.lose_an_actor(),
        }
    }

    /// An object is there: the threads that wait for it go on.
    pub fn got(&mut self, object: ObjectKey) {
        for _ in 0..self.program.gets.remove(&object).unwrap_or(0) {
            self.drop_handle(object);
        }
    }

    /// The user has one more handle, and no use for it if the program is over.
    pub fn user_has(&mut self, object: ObjectKey) {
        if self.shared.healed {
            self.drop_handle(object);
        } else {
            self.program.handles.push(object);
        }
    }

    fn end_program(&mut self) -> Verdict {
        self.shared.trace.line(|| "healed; the user lets go of everything".into());
        self.shared.healed = true;
        self.shared.trace.healed();
        // Somebody has to do the work.
        self.join(WorkerKind::Shared)?;
        if self.shared.options.end_session {
            self.end_session()?;
        }
        for object in std::mem::take(&mut self.program.handles) {
            self.drop_handle(object);
        }
        for (actor, _) in std::mem::take(&mut self.program.actors) {
            self.last_handle_dropped(actor)?;
        }
        Ok(())
    }

    /// The session ends: what has not started never will, and its objects fail.
    fn end_session(&mut self) -> Verdict {
        self.shared.trace.line(|| "the session ends".into());
        let drained = self.owner.drain();
        self.tasks.session_ended();
        for (task, _) in &drained {
            self.tasks.taken_back(*task)?;
        }
        for (task, _) in drained {
            self.fail(task, 0)?;
        }
        let actors: Vec<_> = self.actors.keys().collect();
        actors.into_iter().try_for_each(|actor| self.kill_actor(actor))
    }

    fn with_handle(&mut self, act: impl FnOnce(&mut Self, ObjectKey) -> Verdict) -> Verdict {
        if self.program.handles.is_empty() {
            return Ok(());
        }
        let object = *self.shared.rng.pick(&self.program.handles);
        act(self, object)
    }

    fn clone_handle(&mut self, object: ObjectKey) {
        self.hold(object);
        self.program.handles.push(object);
    }

    fn drop_one(&mut self) -> Verdict {
        if !self.program.handles.is_empty() {
            let index = self.shared.rng.index(self.program.handles.len());
            let object = self.program.handles.swap_remove(index);
            self.drop_handle(object);
        }
        Ok(())
    }

    /// A value is stored, often with references in it; a large one has to wait for room.
    fn put(&mut self) -> Verdict {
        let inside = self.some_objects(self.shared.options.lent_max);
        for object in &inside {
            self.hold(*object);
        }
        if self.shared.rng.chance(self.shared.options.large) {
            self.put_large(inside);
        } else {
            let object = self.new_object(inside);
            self.user_has(object);
        }
        Ok(())
    }

    /// An object of the driver with these references in it, whose handles it takes over.
    pub fn new_object(&mut self, inside: Vec<ObjectKey>) -> ObjectKey {
        let object = self.owner.put();
        self.shared.holds.made_here(object, false);
        self.tasks.put(object);
        if !inside.is_empty() {
            self.contents.insert(object, inside);
        }
        object
    }

    fn get(&mut self, object: ObjectKey) -> Verdict {
        if let Some(is_there) = self.tasks.result(object) {
            if is_there {
                self.read_here(object);
                self.take_out(object);
            }
            return Ok(());
        }
        self.hold(object);
        *self.program.gets.entry(object).or_default() += 1;
        if self.shared.rng.chance(self.shared.options.claim) {
            self.run_here(object)
        } else {
            Ok(())
        }
    }

    /// The user takes the references out of a value.
    fn take_out(&mut self, object: ObjectKey) {
        for inside in self.contents.get(&object).cloned().unwrap_or_default() {
            self.clone_handle(inside);
        }
    }

    /// Some of the objects that the user holds, now and then one of them twice.
    pub fn some_objects(&mut self, most: u64) -> Vec<ObjectKey> {
        let count = self.shared.rng.within(&(0..=most));
        let mut objects = Vec::new();
        for _ in 0..if self.program.handles.is_empty() { 0 } else { count } {
            let object = *self.shared.rng.pick(&self.program.handles);
            if !objects.contains(&object) || self.shared.rng.chance(300) {
                objects.push(object);
            }
        }
        objects
    }

    fn submit_one(&mut self) -> Verdict {
        let (class, _) = self.shared.rng.pick(&self.classes).clone();
        let retries = self.shared.rng.count(0..=self.shared.options.retries_max);
        let (task, _, _, returns) = self.submit_to(Target::Class(class), retries);
        if let Some(object) = returns.first()
            && self.shared.rng.chance(self.shared.options.deadline)
        {
            let after = self.shared.rng.within(&(1..=20 * self.shared.options.task_us));
            self.shared.clock.after(after, Event::Deadline(task, *object));
        }
        Ok(())
    }

    /// As many tasks as there are CPUs, at once: each has a CPU to itself, if nobody else is there.
    fn submit_a_crowd(&mut self) -> Verdict {
        let (class, _) = self.shared.rng.pick(&self.classes).clone();
        for _ in 0..self.shared.options.cpus {
            self.submit_to(Target::Class(class), 0);
        }
        Ok(())
    }

    /// Submits a task or a call over what the user holds.
    fn submit_to(&mut self, target: Target, retries: u32) -> (TaskKey, u64, bool, Vec<ObjectKey>) {
        let needs = self.some_objects(self.shared.options.needs_max);
        let lent = self.some_objects(self.shared.options.lent_max);
        let count = self.shared.rng.within(&(0..=self.shared.options.returns_max));
        let returns: Vec<_> = (0..count).map(|_| self.owner.expect()).collect();
        for object in &returns {
            self.shared.holds.made_here(*object, true);
            self.program.handles.push(*object);
        }
        let task = NewTask { target, retries, needs, lent, returns: returns.clone(), stream: None };
        let (key, serial, waits) = self.submit(task);
        (key, serial, waits, returns)
    }

    fn make_one_actor(&mut self) -> Verdict {
        if self.program.actors.len() < self.shared.options.actors_max {
            let groups = self.shared.rng.count(1..=3);
            let limits: Vec<_> =
                (0..groups).map(|_| self.shared.rng.count(1..=3) as usize).collect();
            let actor = self.make_actor(&limits);
            self.program.actors.push((actor, limits.len()));
        }
        Ok(())
    }

    /// A few calls of an actor, for those that are in flight together are lost together.
    fn make_calls(&mut self) -> Verdict {
        if self.program.actors.is_empty() {
            return Ok(());
        }
        let (actor, groups) = *self.shared.rng.pick(&self.program.actors);
        let count = self.shared.rng.count(1..=8);
        (0..count).try_for_each(|_| self.make_call(actor, groups))
    }

    fn make_call(&mut self, actor: ActorKey, groups: usize) -> Verdict {
        let caller = CallerId(self.shared.rng.below(3));
        let group = self.shared.rng.index(groups);
        let shared_call = self.shared.rng.chance(self.shared.options.shared_calls);
        let mode = if shared_call { Mode::Shared } else { Mode::Exclusive };
        let retries = self.shared.rng.count(0..=self.shared.options.retries_max);
        let (task, serial, waits, _) = self.submit_to(Target::Actor(actor), 0);
        self.call(NewCall { actor, caller, task, serial, group, mode, retries, ready: !waits })
    }

    /// An actor is killed, or loses its last handle.
    fn lose_an_actor(&mut self) -> Verdict {
        if self.program.actors.is_empty() {
            return Ok(());
        }
        let index = self.shared.rng.index(self.program.actors.len());
        let (actor, _) = self.program.actors.swap_remove(index);
        if self.shared.rng.chance(500) {
            self.kill_actor(actor)
        } else {
            self.last_handle_dropped(actor)
        }
    }
}
