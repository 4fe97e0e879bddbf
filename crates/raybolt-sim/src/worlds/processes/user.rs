//! User code in a worker: it does what chance says with the references that it has.

use raybolt_core::calls::objects::{ALIGN, Region};

use raybolt_core::calls::scheduler::GPU;
use raybolt_wire::work::{Code, Offset, Submit, ToDriver};

use super::Shared;
use super::generators::{Generator, Reading};
use super::messages::{self, Content, Parcel, Place};
use super::worker::{Phase, Worker};
use crate::checkers::holds::CHOSEN_THERE;
use crate::trace::Verdict;

impl Worker {
    /// User code has come to its next step.
    pub fn stepped(&mut self, shared: &mut Shared, task: u64, attempt: u32) -> Verdict {
        let Some(run) = self.runs.get_mut(&task) else { return Ok(()) };
        if run.attempt != attempt || run.phase != Phase::Running {
            return Ok(());
        }
        let generates = run.stream.as_ref().is_some_and(Generator::goes_on) && !run.is_refused;
        if generates && (run.steps_left == 0 || shared.rng.chance(600)) {
            return match shared.rng.chance(shared.options.fail / 8) {
                true => self.answer(shared, task, None),
                false => self.yields(shared, task),
            };
        }
        let reads_on = !run.reads.is_empty() && !run.is_refused && shared.rng.chance(800);
        if reads_on {
            return self.read_on(shared, task);
        }
        if run.steps_left == 0 || run.is_refused {
            return self.end(shared, task);
        }
        run.steps_left -= 1;
        if shared.rng.chance(shared.options.nest) && shared.nested_left > 0 {
            let may_read = self.runs[&task].may_block;
            if may_read && shared.rng.chance(shared.options.streams) {
                self.call_a_generator(shared, task)?;
            } else {
                self.call_another(shared, task)?;
            }
        } else if shared.rng.chance(shared.options.cancel) {
            if let Some(object) = self.some_ref(shared, task) {
                self.say(shared, ToDriver::CancelObject { object });
            }
        } else if shared.rng.chance(shared.options.keep) {
            self.keep_one(shared, task);
        } else if shared.rng.chance(shared.options.block) && self.runs[&task].may_block {
            return self.get_some(shared, task);
        } else if shared.rng.chance(300) {
            self.put(shared, task)?;
        } else if shared.rng.chance(300) {
            self.drop_one(shared, task);
        }
        self.go_on(shared, task);
        Ok(())
    }

    fn end(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let run = &self.runs[&task];
        let heeds = run.is_cancelled && shared.rng.chance(500);
        if run.is_refused || heeds || shared.rng.chance(shared.options.fail) {
            return self.answer(shared, task, None);
        }
        let returns = run.returns;
        let values = (0..returns).map(|_| self.value(shared, task)).collect();
        self.answer(shared, task, Some(values))
    }

    /// User code gets one object, or several, which are named ahead.
    fn get_some(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let most = if shared.rng.chance(300) { 5 } else { 1 };
        let objects = self.some_refs(shared, task, most);
        let missing = objects.iter().copied().filter(|object| !self.here.contains_key(object));
        let objects_ahead = self.borrows.named_ahead(missing.collect::<Vec<_>>().into_iter());
        if !objects_ahead.is_empty() {
            self.say(shared, ToDriver::Expect { objects: objects_ahead });
        }
        let run = self.runs.get_mut(&task).expect("it runs");
        run.is_gathering = objects.len() > 1;
        run.to_get = objects.into();
        self.get_next(shared, task)
    }

    fn some_ref(&self, shared: &mut Shared, task: u64) -> Option<u64> {
        let refs = &self.runs[&task].refs;
        (!refs.is_empty()).then(|| *shared.rng.pick(refs))
    }

    /// Some of the references that the code has.
    fn some_refs(&self, shared: &mut Shared, task: u64, most: u64) -> Vec<u64> {
        let count = shared.rng.within(&(0..=most));
        (0..count).filter_map(|_| self.some_ref(shared, task)).collect()
    }

    fn name(&mut self) -> u64 {
        self.named += 1;
        CHOSEN_THERE | self.process.0 << 40 | self.named
    }

    /// Submits a task.
    fn call_another(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        shared.nested_left -= 1;
        let needs = self.some_refs(shared, task, shared.options.needs_max);
        let refs = self.some_refs(shared, task, shared.options.lent_max);
        let count = shared.rng.within(&(0..=shared.options.returns_max));
        let returns: Vec<_> = (0..count).map(|_| self.name()).collect();
        let (function, demand) = shared.rng.pick(&shared.functions).clone();
        let demand = demand.iter().map(|(name, units)| (name.to_owned(), units)).collect();
        let max_retries = shared.rng.count(0..=shared.options.retries_max);
        for id in &returns {
            shared.holds.made_there(*id, self.process);
            self.borrows.named(*id);
            let _ = self.borrows.wanted(*id); // It comes unasked.
        }
        self.runs.get_mut(&task).expect("it runs").refs.extend(&returns);
        let message = ToDriver::Submit(Submit {
            code: Code { shell: Offset(0), body: Offset(0), declared: Offset(0) },
            function,
            name: None,
            demand,
            max_retries,
            deadline_us: None,
            returns,
            refs: refs.clone(),
            group: None,
            stream: None,
            judged: false,
        });
        let parcel = Parcel { needs, refs, ..Parcel::default() };
        self.send(shared, &messages::ToDriver::Work(message), &parcel)
    }

    /// Submits a generator, whose items it reads.
    fn call_a_generator(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let (function, demand) = shared.rng.pick(&shared.functions).clone();
        if demand.amount(GPU) > 0 {
            return Ok(());
        }
        shared.nested_left -= 1;
        let needs = self.some_refs(shared, task, shared.options.needs_max);
        let refs = self.some_refs(shared, task, shared.options.lent_max);
        let demand = demand.iter().map(|(name, units)| (name.to_owned(), units)).collect();
        let max_retries = shared.rng.count(0..=shared.options.retries_max);
        let id = self.name();
        shared.holds.made_there(id, self.process);
        self.borrows.named(id);
        let _ = self.borrows.wanted(id); // Its end comes unasked.
        let (reading, of, until) = Reading::new(shared);
        self.streams.insert(id, reading);
        self.runs.get_mut(&task).expect("it runs").reads.push_back(id);
        let message = ToDriver::Submit(Submit {
            code: Code { shell: Offset(0), body: Offset(0), declared: Offset(0) },
            function,
            name: None,
            demand,
            max_retries,
            deadline_us: None,
            returns: vec![id],
            refs: refs.clone(),
            group: None,
            stream: Some(until),
            judged: false,
        });
        let parcel = Parcel { needs, refs, stream: Some(of), ..Parcel::default() };
        self.send(shared, &messages::ToDriver::Work(message), &parcel)
    }

    fn put(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let value = self.value(shared, task);
        let object = self.name();
        shared.holds.made_there(object, self.process);
        self.borrows.named(object);
        self.runs.get_mut(&task).expect("it runs").refs.push(object);
        let refs = value.refs.clone();
        let parcel = Parcel { values: vec![value], ..Parcel::default() };
        let message = messages::ToDriver::Work(ToDriver::Put { object, refs });
        self.send(shared, &message, &parcel)
    }

    fn drop_one(&mut self, shared: &mut Shared, task: u64) {
        let run = self.runs.get_mut(&task).expect("it runs");
        if !run.refs.is_empty() {
            let index = shared.rng.index(run.refs.len());
            let object = run.refs.swap_remove(index);
            self.release(shared, [object].into_iter());
        }
    }

    /// Puts a reference somewhere where it outlives the task.
    fn keep_one(&mut self, shared: &mut Shared, task: u64) {
        let run = self.runs.get_mut(&task).expect("it runs");
        if run.refs.is_empty() {
            return;
        }
        let index = shared.rng.index(run.refs.len());
        let object = run.refs.swap_remove(index);
        self.keep(shared, object);
    }

    /// A value, often with references in it; a large one is written into the worker's slab.
    pub fn value(&mut self, shared: &mut Shared, task: u64) -> Content {
        let refs = if shared.rng.chance(shared.options.pass_on) {
            self.some_refs(shared, task, 2)
        } else {
            Vec::new()
        };
        let is_large = shared.rng.chance(shared.options.large);
        let place = if is_large { self.write(shared) } else { Place::Inline };
        Content { object: 0, refs, place }
    }

    /// Writes a value into the slab; without room there it travels inline, and another slab is asked for.
    fn write(&mut self, shared: &mut Shared) -> Place {
        let bytes = shared.rng.within(&(0..=3 * ALIGN));
        let room_bytes = bytes.div_ceil(ALIGN).max(1) * ALIGN;
        if let Some(slab) = &mut self.slab {
            if slab.used_bytes + room_bytes <= slab.region.bytes {
                let region = Region { offset: slab.region.offset + slab.used_bytes, bytes };
                slab.used_bytes += room_bytes;
                let (slab, tag) = (slab.slab, shared.arena.tag());
                shared.arena.write(region, tag);
                return Place::InSlab { slab, region, tag };
            }
            // What was written there is not told of yet: it is returned behind the message.
            self.full_slabs.push(slab.slab);
            self.slab = None;
        }
        if !std::mem::replace(&mut self.slab_is_wanted, true) {
            self.say_more(shared, &messages::ToDriver::WantSlab);
        }
        Place::Inline
    }
}
