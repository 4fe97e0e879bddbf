//! Streams in a worker: the generators that run there, and what its code reads of others.

use std::collections::VecDeque;

use raybolt_core::calls::streams::{Inflow, Outflow, Yielded};
use raybolt_wire::work::{ToDriver, ToWorker};

use super::Shared;
use super::messages::{self, OfStream, Parcel};
use super::worker::{Kind, Phase, Running, Worker};
use crate::trace::Verdict;

/// A generator that runs, and where its items go.
#[derive(Debug)]
pub struct Generator {
    flow: Outflow,
    truth: u64,
    next: u64,
    total: u64,
    is_stalled: bool,
}

/// A stream that code here reads.
#[derive(Debug)]
pub struct Reading {
    pub truth: u64,
    flow: Inflow<()>,
    /// The number of each item, and the references that came with it.
    items: VecDeque<(u64, Vec<u64>)>,
    end: Option<bool>,
    is_gone: bool,
    /// The task that waits for the next item.
    waiter: Option<u64>,
}

impl Generator {
    /// The generator of a task that begins, as the driver announced it.
    pub fn new(shared: &Shared, of: &OfStream) -> Verdict<Self> {
        shared.streams.begins(of.truth, of.made)?;
        let flow = Outflow::with_plants(of.until, shared.plants);
        let OfStream { truth, total, made: next, .. } = *of;
        Ok(Generator { flow, truth, next, total, is_stalled: false })
    }

    /// Whether there are items left.
    pub fn goes_on(&self) -> bool {
        self.next < self.total
    }
}

impl Reading {
    /// A stream that is about to be asked for, and until which item it has room.
    pub fn new(shared: &mut Shared) -> (Self, OfStream, u64) {
        let bound = shared.rng.within(&(1..=9));
        let total = shared.rng.below(20);
        let truth = shared.streams.made(total, bound);
        let mut flow = Inflow::with_plants(bound, shared.plants);
        let (_, until) = flow.announced();
        let items = VecDeque::new();
        let reading = Reading { truth, flow, items, end: None, is_gone: false, waiter: None };
        (reading, OfStream { truth, total, ..OfStream::default() }, until)
    }
}

impl Worker {
    /// A generator comes to its next item.
    pub fn yields(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let run = self.runs.get_mut(&task).expect("it runs");
        let generator = run.stream.as_mut().expect("it is a generator");
        let index = generator.next;
        match generator.flow.says(index) {
            Some(true) => {
                let truth = generator.truth;
                generator.next += 1;
                let attempt = run.attempt;
                shared.streams.yields(truth, index)?;
                let value = self.value(shared, task);
                let refs = value.refs.clone();
                let stream = Some(OfStream { truth, index, ..OfStream::default() });
                let parcel = Parcel { values: vec![value], stream, ..Parcel::default() };
                let message = ToDriver::Yielded { task, actor: None, attempt, index, refs };
                self.send(shared, &messages::ToDriver::Work(message), &parcel)?;
                self.go_on(shared, task);
                Ok(())
            }
            Some(false) => {
                generator.total = index; // Nobody wants more.
                self.go_on(shared, task);
                Ok(())
            }
            None => {
                generator.is_stalled = true;
                let attempt = run.attempt;
                self.say(shared, ToDriver::Stalled { task, actor: None, attempt, index });
                self.waits(shared, task)
            }
        }
    }

    /// There is room for more items of a generator, or nobody wants them.
    pub fn room(
        &mut self,
        shared: &mut Shared,
        task: u64,
        attempt: u32,
        until: Option<u64>,
    ) -> Verdict {
        let run = self.runs.get_mut(&task).filter(|run| run.attempt == attempt);
        if let Some(generator) = run.and_then(|run| run.stream.as_mut()) {
            generator.flow.room(until);
        }
        self.look_at_generator(shared, task)
    }

    /// A task is cancelled: nobody wants its items.
    pub fn stop_generator(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        if let Some(generator) = self.runs.get_mut(&task).and_then(|run| run.stream.as_mut()) {
            generator.flow.stopped();
        }
        self.look_at_generator(shared, task)
    }

    fn look_at_generator(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let run = self.runs.get_mut(&task);
        let Some(generator) = run.and_then(|run| run.stream.as_mut()) else { return Ok(()) };
        if generator.is_stalled && generator.flow.says(generator.next).is_some() {
            generator.is_stalled = false;
            return self.unblock(shared, task);
        }
        Ok(())
    }

    /// An item of a stream has come.
    pub fn item(&mut self, shared: &mut Shared, message: ToWorker, parcel: &Parcel) -> Verdict {
        let ToWorker::Item { stream, index, .. } = message else {
            unreachable!("it is an item");
        };
        let Some(reading) = self.streams.get_mut(&stream) else {
            self.loan_over(shared, parcel);
            return Ok(());
        };
        let waiter = reading.waiter;
        match reading.flow.yielded(index, || ()) {
            Yielded::Unwanted => {
                self.loan_over(shared, parcel);
                self.say(shared, ToDriver::CancelObject { object: stream });
            }
            Yielded::Known => self.loan_over(shared, parcel),
            Yielded::Next(grant) => {
                let refs = self.read(shared, parcel)?;
                self.loan_over(shared, parcel);
                let reading = self.streams.get_mut(&stream).expect("it was there a line ago");
                reading.items.push_back((index, refs));
                reading.waiter = None;
                if let Some(((), until)) = grant {
                    self.say(shared, ToDriver::Taken { stream, until });
                }
                return waiter.map_or(Ok(()), |task| self.unblock(shared, task));
            }
        }
        Ok(())
    }

    /// The end of a stream has come; says whether it is one.
    pub fn stream_ended(&mut self, shared: &mut Shared, id: u64, success: bool) -> Verdict<bool> {
        let Some(reading) = self.streams.get_mut(&id) else { return Ok(false) };
        reading.end = Some(success);
        reading.flow.ended();
        if reading.is_gone {
            self.streams.remove(&id);
        } else if let Some(task) = reading.waiter.take() {
            self.unblock(shared, task)?;
        }
        Ok(true)
    }

    /// User code takes the next item of the stream that it began to read first, or drops that.
    pub fn read_on(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let run = self.runs.get_mut(&task).expect("it runs");
        let id = *run.reads.front().expect("it reads");
        if shared.rng.chance(shared.options.abandon) {
            run.reads.pop_front();
            self.drop_stream(shared, id);
            self.go_on(shared, task);
            return Ok(());
        }
        let reading = self.streams.get_mut(&id).expect("what is read is there");
        if let Some((index, refs)) = reading.items.pop_front() {
            shared.streams.takes(reading.truth, index)?;
            let grant = reading.flow.taken();
            run.refs.extend(refs);
            if let Some(((), until)) = grant {
                self.say(shared, ToDriver::Taken { stream: id, until });
            }
        } else if let Some(success) = reading.end {
            shared.streams.ends(reading.truth, success)?;
            run.reads.pop_front();
            self.drop_stream(shared, id);
        } else {
            reading.waiter = Some(task);
            return self.waits(shared, task);
        }
        self.go_on(shared, task);
        Ok(())
    }

    /// Code here reads a stream no more.
    pub fn drop_stream(&mut self, shared: &mut Shared, id: u64) {
        let reading = self.streams.get_mut(&id).expect("a stream is dropped once");
        reading.flow.abandoned();
        reading.is_gone = true;
        shared.streams.abandoned(reading.truth);
        let items = std::mem::take(&mut reading.items);
        if reading.end.is_some() {
            self.streams.remove(&id);
        } else {
            self.say(shared, ToDriver::CancelObject { object: id });
        }
        for (_, refs) in items {
            self.release(shared, refs.into_iter());
        }
        self.release(shared, [id].into_iter());
    }

    /// User code waits for something that is no object.
    fn waits(&mut self, shared: &mut Shared, task: u64) -> Verdict {
        let run: &mut Running = self.runs.get_mut(&task).expect("it runs");
        run.phase = Phase::Blocked;
        let Kind::Task(lease) = run.kind else { unreachable!("calls do not wait") };
        self.say(shared, ToDriver::Blocked { lease });
        self.start_next(shared, lease)
    }
}
