//! The user's program: random calls over what it holds.

use std::collections::BTreeMap;

use raybolt_core::calls::owner::{ActorKey, ObjectKey, Returns, Submit, Target, TaskKey};
use raybolt_core::calls::queue::{CallerId, Mode};
use raybolt_core::calls::scheduler::GPU;

use super::actors::NewCall;
use super::{Event, Job, World};
use crate::trace::Verdict;

/// What the user holds and waits for.
#[derive(Debug, Default)]
pub struct Program {
    steps: u64,
    next_serial: u64,
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
        self.note(&[7, step], || format!("program: step {step}"));
        if step > self.shared.options.steps {
            return self.end_program();
        }
        let delay = self.shared.rng.within(&(0..=2 * self.shared.options.step_every_us));
        self.shared.clock.after(delay, Event::Program);
        if self.shared.rng.chance(self.shared.options.cancel) {
            return self.with_handle(Self::cancel);
        }
        match self.shared.rng.below(100) {
            0..=9 => self.put(),
            10..=44 => self.submit(),
            45..=54 => self.with_handle(|world, object| {
                world.clone_handle(object);
                Ok(())
            }),
            55..=74 => self.drop_one(),
            75..=82 => self.with_handle(Self::get),
            83..=85 => self.make_one_actor(),
            86..=97 => self.make_call(),
            _ => self.lose_an_actor(),
        }
    }

    /// An object is there: the threads that wait for it go on.
    pub fn got(&mut self, object: ObjectKey) {
        for _ in 0..self.program.gets.remove(&object).unwrap_or(0) {
            self.drop_handle(object);
        }
    }

    fn end_program(&mut self) -> Verdict {
        self.shared.trace.line(|| "healed; the user lets go of everything".into());
        self.healed = true;
        self.shared.trace.healed();
        self.shared.network.heal();
        // Somebody has to do the work.
        self.join()?;
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
            self.finish(task, 0, false)?;
        }
        let actors: Vec<_> = self.actors.keys().collect();
        actors.into_iter().try_for_each(|actor| self.end_actor(actor))
    }

    fn with_handle(&mut self, act: impl FnOnce(&mut Self, ObjectKey) -> Verdict) -> Verdict {
        if self.program.handles.is_empty() {
            return Ok(());
        }
        let object = *self.shared.rng.pick(&self.program.handles);
        act(self, object)
    }

    fn clone_handle(&mut self, object: ObjectKey) {
        self.shared.objects.cloned(object);
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

    fn put(&mut self) -> Verdict {
        let object = self.owner.put();
        self.shared.objects.created(object, false);
        self.tasks.put(object);
        self.program.handles.push(object);
        Ok(())
    }

    fn get(&mut self, object: ObjectKey) -> Verdict {
        if self.tasks.result(object).is_some() {
            return Ok(());
        }
        self.shared.objects.cloned(object);
        *self.program.gets.entry(object).or_default() += 1;
        if self.shared.rng.chance(self.shared.options.claim) {
            self.run_here(object)
        } else {
            Ok(())
        }
    }

    /// Some of the objects that the user holds, now and then one of them twice.
    fn some_objects(&mut self, most: u64) -> Vec<ObjectKey> {
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

    fn submit(&mut self) -> Verdict {
        let (class, _) = self.shared.rng.pick(&self.classes).clone();
        let retries = self.shared.rng.count(0..=self.shared.options.retries_max);
        self.submit_to(Target::Class(class), retries).map(drop)
    }

    /// Submits a task or a call over what the user holds. Returns what a call needs more.
    fn submit_to(&mut self, target: Target, retries: u32) -> Verdict<(TaskKey, u64, bool)> {
        let needs = self.some_objects(self.shared.options.needs_max);
        let lent = self.some_objects(self.shared.options.lent_max);
        let count = self.shared.rng.within(&(0..=self.shared.options.returns_max));
        let returns: Vec<_> = (0..count).map(|_| self.owner.expect()).collect();
        for object in &returns {
            self.shared.objects.created(*object, true);
            self.program.handles.push(*object);
        }
        for object in &needs {
            self.shared.objects.used(*object);
        }
        for object in &lent {
            self.shared.objects.cloned(*object);
        }
        let serial = self.program.next_serial;
        self.program.next_serial += 1;
        let is_call = matches!(target, Target::Actor(_));
        let (key, waits) = self.owner.submit(Submit {
            target,
            job: (!is_call).then_some(serial),
            needs: needs.clone().into(),
            returns: match returns[..] {
                [object] => Returns::One(object),
                _ => Returns::Many(returns.clone().into()),
            },
            retries,
        });
        self.shared.trace.line(|| {
            format!("program: submits {key:?} to {target:?} over {needs:?} and {lent:?}, for {returns:?}")
        });
        self.tasks.submitted(key, is_call, retries, needs.clone(), returns);
        let may_block = match target {
            Target::Class(class) => self.demands[&class].amount(GPU) == 0,
            Target::Actor(_) => false,
        };
        self.serials.insert(key, serial);
        self.jobs.insert(serial, Job { key, needs, lent, returns: count as u32, may_block });
        Ok((key, serial, waits))
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

    fn make_call(&mut self) -> Verdict {
        if self.program.actors.is_empty() {
            return Ok(());
        }
        let (actor, groups) = *self.shared.rng.pick(&self.program.actors);
        let caller = CallerId(self.shared.rng.below(3));
        let group = self.shared.rng.index(groups);
        let shared_call = self.shared.rng.chance(self.shared.options.shared_calls);
        let mode = if shared_call { Mode::Shared } else { Mode::Exclusive };
        let (task, serial, waits) = self.submit_to(Target::Actor(actor), 0)?;
        self.call(NewCall { actor, caller, task, serial, group, mode, ready: !waits })
    }

    /// An actor is killed, or loses its last handle.
    fn lose_an_actor(&mut self) -> Verdict {
        if self.program.actors.is_empty() {
            return Ok(());
        }
        let index = self.shared.rng.index(self.program.actors.len());
        let (actor, _) = self.program.actors.swap_remove(index);
        if self.shared.rng.chance(500) {
            self.end_actor(actor)
        } else {
            self.last_handle_dropped(actor)
        }
    }
}
