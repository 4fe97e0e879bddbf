//! Streams at the driver: those that its own program reads, and those that pass through to workers.

use std::collections::VecDeque;

use raybolt_core::calls::owner::{Attempt, ObjectKey, Target, TaskKey};
use raybolt_core::calls::scheduler::GPU;
use raybolt_core::calls::streams::{Inflow, Late, Passage, Stalled, Yielded};
use raybolt_core::ids::ProcessId;
use raybolt_wire::work;

use super::messages::{Content, OfStream, Parcel, Place};
use super::tasks::NewTask;
use super::{Event, World, object_id, task_id};
use crate::trace::Verdict;

/// Which attempt of which generator: what a way back consists of.
type Maker = (ProcessId, TaskKey, Attempt);

/// A stream whose generator runs in a worker.
#[derive(Debug)]
pub struct Stream {
    /// Its name for the checker.
    truth: u64,
    total: u64,
    /// Stands for it.
    object: ObjectKey,
    end: End,
    /// What a call was packed with, if that is sent again with each attempt; a task is packed anew.
    packed_once: Option<Option<(u64, u64)>>,
    /// The generator's task has ended.
    has_ended: bool,
    /// Nobody reads it any more, or whoever did has heard of its end.
    is_gone: bool,
}

/// Where it is read.
#[derive(Debug)]
enum End {
    Here {
        flow: Inflow<Maker>,
        items: VecDeque<(u64, ObjectKey)>,
        end: Option<bool>,
        is_waiting: bool,
    },
    There {
        flow: Passage<Maker, (u64, ObjectKey)>,
        process: ProcessId,
        id: u64,
        /// The end, as long as it has to wait for items.
        end: Option<bool>,
    },
}

impl World<'_> {
    /// The program submits a generator, and reads what it makes from now on.
    pub fn submit_a_stream(&mut self) -> Verdict {
        let (class, demand) = self.shared.rng.pick(&self.classes).clone();
        if demand.amount(GPU) > 0 {
            return Ok(());
        }
        let total = self.shared.rng.below(20);
        let bound = self.shared.rng.within(&(1..=9));
        let object = self.owner.expect();
        self.shared.holds.made_here(object, true);
        let flow = Inflow::with_plants(bound, self.plants);
        let end = End::Here { flow, items: VecDeque::new(), end: None, is_waiting: true };
        let truth = self.shared.streams.made(total, bound);
        self.add_stream(truth, total, object, end);
        let retries = self.shared.rng.count(0..=self.shared.options.retries_max);
        let needs = self.some_objects(self.shared.options.needs_max);
        let lent = self.some_objects(self.shared.options.lent_max);
        let (target, returns) = (Target::Class(class), vec![object]);
        let task = NewTask { target, retries, needs, lent, returns, stream: Some(truth) };
        let (key, ..) = self.submit(task);
        if self.shared.rng.chance(self.shared.options.deadline) {
            let after = self.shared.rng.within(&(1..=20 * self.shared.options.task_us));
            self.shared.clock.after(after, Event::Deadline(key, object));
        }
        self.read_soon(truth);
        Ok(())
    }

    /// A worker has submitted a generator whose items it reads.
    pub fn stream_wanted(
        &mut self,
        of: OfStream,
        until: u64,
        object: ObjectKey,
        by: (ProcessId, u64),
    ) {
        let flow = Passage::with_plants(until, self.plants);
        let (process, id) = by;
        self.add_stream(of.truth, of.total, object, End::There { flow, process, id, end: None });
    }

    fn add_stream(&mut self, truth: u64, total: u64, object: ObjectKey, end: End) {
        let packed_once = self.shared.rng.chance(200).then_some(None);
        let (has_ended, is_gone) = (false, false);
        let stream = Stream { truth, total, object, end, packed_once, has_ended, is_gone };
        self.streams.insert(truth, stream);
    }

    /// What a generator is told that is about to be run.
    pub fn announced(&mut self, truth: u64) -> OfStream {
        let stream = self.streams.get_mut(&truth).expect("a generator's stream is there");
        let mut announced = || match &mut stream.end {
            End::Here { flow, .. } => flow.announced(),
            End::There { flow, .. } => flow.announced(),
        };
        let (made, until) = match &mut stream.packed_once {
            Some(packed) => *packed.get_or_insert_with(announced),
            None => announced(),
        };
        OfStream { truth, total: stream.total, made, until, ..OfStream::default() }
    }

    /// An item has come.
    pub fn yielded(&mut self, maker: Maker, index: u64, parcel: &Parcel) -> Verdict {
        let is_plain = |value: &Content| value.refs.is_empty() && value.place == Place::Inline;
        let is_heard_late = parcel.values.iter().all(is_plain);
        let Some(truth) = self.stream_of(maker, is_heard_late) else {
            self.tell_maker(maker, None);
            return Ok(());
        };
        let stream = self.streams.get_mut(&truth).expect("it was found a line ago");
        let heard = match &mut stream.end {
            End::Here { flow, .. } => flow.yielded(index, || maker),
            End::There { .. } if stream.is_gone => Yielded::Unwanted,
            End::There { flow, .. } => flow.yielded(index, || maker),
        };
        let grant = match heard {
            Yielded::Unwanted => {
                self.tell_maker(maker, None);
                return Ok(());
            }
            Yielded::Known => return Ok(()),
            Yielded::Next(grant) => grant,
        };
        if let Some((maker, until)) = grant {
            self.tell_maker(maker, Some(until));
        }
        let object = self.owner.put();
        self.shared.holds.made_here(object, false);
        self.tasks.put(object);
        self.keep_value(object, &parcel.values[0], maker.0)?;
        let stream = self.streams.get_mut(&truth).expect("nobody took it meanwhile");
        let passed = match &mut stream.end {
            End::Here { items, .. } => {
                items.push_back((index, object));
                self.wake_reader(truth);
                return Ok(());
            }
            End::There { flow, .. } => flow.passes((index, object)),
        };
        let Some(item) = passed else { return Ok(()) };
        if !self.shared.rng.chance(self.shared.options.late_items) {
            self.pass_on(truth, item);
            return Ok(());
        }
        if let Some(End::There { flow, .. }) = self.end_of(truth)
            && flow.waits(item)
        {
            self.come_late(truth);
        }
        Ok(())
    }

    /// A generator waits for room.
    pub fn stalled(&mut self, maker: Maker, index: u64) {
        let Some(truth) = self.stream_of(maker, false) else {
            return self.tell_maker(maker, None);
        };
        let stream = self.streams.get_mut(&truth).expect("it was found a line ago");
        let said = match &mut stream.end {
            End::Here { flow, .. } => flow.stalled(index, maker),
            End::There { flow, .. } => match (flow.stalled(index, maker), stream.is_gone) {
                (_, true) => Stalled::Unwanted,
                (said, false) => said,
            },
        };
        match said {
            Stalled::Unwanted => self.tell_maker(maker, None),
            Stalled::Room(until) => self.tell_maker(maker, Some(until)),
            Stalled::Later => {}
        }
    }

    /// A worker has room for more of what it reads.
    pub fn room_there(&mut self, id: u64, by: ProcessId, until: u64) {
        let told = self.streams.values_mut().find_map(|stream| match &mut stream.end {
            End::There { flow, process, id: own, .. } if (*process, *own) == (by, id) => {
                flow.room(until)
            }
            _ => None,
        });
        if let Some((maker, until)) = told {
            self.tell_maker(maker, Some(until));
        }
    }

    /// The program takes the next item of a stream, or drops it.
    pub fn reads(&mut self, truth: u64) -> Verdict {
        self.note(&[11, truth], || format!("program: reads stream {truth}"));
        let (abandon, cancel) = (self.shared.options.abandon, self.shared.options.cancel);
        let is_fickle = !self.shared.healed;
        if is_fickle && self.shared.rng.chance(abandon) {
            return self.abandon(truth);
        }
        if is_fickle && self.shared.rng.chance(cancel) {
            let object = self.streams[&truth].object;
            self.cancel(object, false)?;
        }
        let Some(End::Here { flow, items, end, is_waiting }) = self.end_of(truth) else {
            return Ok(());
        };
        if let Some((index, object)) = items.pop_front() {
            let grant = flow.taken();
            self.shared.streams.takes(truth, index)?;
            if let Some((maker, until)) = grant {
                self.tell_maker(maker, Some(until));
            }
            self.user_has(object);
            self.read_soon(truth);
            return Ok(());
        }
        match *end {
            Some(success) => {
                self.shared.streams.ends(truth, success)?;
                self.reader_is_gone(truth);
            }
            None => *is_waiting = true,
        }
        Ok(())
    }

    /// Items that had to wait for the store go, one after the other.
    pub fn late_item(&mut self, truth: u64) -> Verdict {
        self.note(&[12, truth], || format!("stream {truth}: a late item may go"));
        let Some(stream) = self.streams.get_mut(&truth) else { return Ok(()) };
        let is_gone = stream.is_gone;
        let End::There { flow, end, .. } = &mut stream.end else { return Ok(()) };
        match flow.next_late() {
            Late::Item((_, object)) if is_gone => {
                self.drop_handle(object);
                self.come_late(truth);
            }
            Late::Item(item) => {
                self.pass_on(truth, item);
                self.come_late(truth);
            }
            Late::End => {
                let end = end.take().expect("it ended before somebody was told of that");
                self.tell_end(truth, end);
            }
            Late::Nothing => {}
        }
        Ok(())
    }

    /// The generator's task has ended. `is_told`: whoever reads was told before, since it was cancelled.
    pub fn stream_over(&mut self, truth: u64, success: bool, is_told: bool) {
        let stream = self.streams.get_mut(&truth).expect("a generator's stream is there");
        stream.has_ended = true;
        let object = stream.object;
        if let End::There { flow, end, .. } = &mut stream.end {
            if flow.ended() {
                self.tell_end(truth, success);
            } else {
                *end = Some(success);
            }
        } else if is_told {
            self.forget_if_over(truth);
        } else {
            self.stream_ends(object, success);
        }
        if !is_told {
            self.shared.holds.settled(object);
        }
    }

    /// An object has its value or its error: if it stands for a stream that is read here, that ends.
    pub fn stream_ends(&mut self, object: ObjectKey, success: bool) {
        let found = self.streams.values_mut().find(|stream| stream.object == object);
        let Some(stream) = found else { return };
        let truth = stream.truth;
        match &mut stream.end {
            End::Here { flow, end, .. } => {
                flow.ended();
                end.get_or_insert(success);
                let stopped = flow.supplier().filter(|_| !success).copied();
                if let Some(maker) = stopped {
                    self.tell_maker(maker, None);
                }
                self.wake_reader(truth);
            }
            End::There { .. } => stream.is_gone = true,
        }
        self.forget_if_over(truth);
    }

    /// A worker is dead: it reads nothing any more.
    pub fn reader_lost(&mut self, lost: ProcessId) {
        let mut told = Vec::new();
        for stream in self.streams.values_mut() {
            if let End::There { process, flow, .. } = &stream.end
                && *process == lost
            {
                stream.is_gone = true;
                told.extend(flow.supplier().copied());
            }
        }
        told.into_iter().for_each(|maker| self.tell_maker(maker, None));
    }

    /// Nobody knows of the object any more.
    pub fn stream_freed(&mut self, object: ObjectKey) {
        let mut all = self.streams.values_mut();
        if let Some(stream) = all.find(|stream| stream.object == object) {
            stream.is_gone = true;
        }
    }

    /// What the program has not read to its end is read on.
    pub fn no_stream_is_left(&self) -> Verdict {
        let left: Vec<_> = self.streams.values().collect();
        crate::trace::require(left.is_empty(), "leaks", || format!("streams are left: {left:?}"))
    }

    fn abandon(&mut self, truth: u64) -> Verdict {
        let Some(stream) = self.streams.get_mut(&truth) else { return Ok(()) };
        let object = stream.object;
        let End::Here { flow, items, end, .. } = &mut stream.end else { return Ok(()) };
        flow.abandoned();
        let (items, had_ended) = (std::mem::take(items), end.is_some());
        self.shared.streams.abandoned(truth);
        items.into_iter().for_each(|(_, item)| self.drop_handle(item));
        if !had_ended {
            self.cancel(object, false)?;
        }
        self.reader_is_gone(truth);
        Ok(())
    }

    fn reader_is_gone(&mut self, truth: u64) {
        let stream = self.streams.get_mut(&truth).expect("a stream is there while it is read");
        stream.is_gone = true;
        let object = stream.object;
        self.forget_if_over(truth);
        self.drop_handle(object);
    }

    fn forget_if_over(&mut self, truth: u64) {
        let stream = &self.streams[&truth];
        if stream.has_ended && stream.is_gone && matches!(stream.end, End::Here { .. }) {
            self.streams.remove(&truth);
        }
    }

    /// RELAY-2: the object that stands for the stream has its value.
    fn tell_end(&mut self, truth: u64, success: bool) {
        let stream = self.streams.remove(&truth).expect("the end is told once");
        self.tell_of(stream.object, success);
    }

    fn pass_on(&mut self, truth: u64, (index, object): (u64, ObjectKey)) {
        let Some(End::There { process: to, id: stream, .. }) = self.end_of(truth) else { return };
        let (to, stream) = (*to, *stream);
        if self.streams[&truth].is_gone || !self.records.contains_key(&to) {
            return self.drop_handle(object);
        }
        let content = self.content(object, to);
        let refs = vec![self.lend(object, to)];
        let of = OfStream { truth, index, ..OfStream::default() };
        let parcel = Parcel { values: vec![content], refs, stream: Some(of), ..Parcel::default() };
        let message = work::ToWorker::Item { stream, index, object: object_id(object) };
        self.shared.tell(to, message, &parcel);
        self.drop_handle(object);
    }

    /// The stream of a generator in a worker's hands. Of one whose worker is dead items are heard, if the seed
    /// has it so: a thread may have looked the stream up just before.
    fn stream_of(&self, (process, task, attempt): Maker, is_item: bool) -> Option<u64> {
        let serial = match self.records.get(&process) {
            Some(record) => record
                .lent
                .get(&task)
                .filter(|lent| lent.attempt == attempt)
                .map(|lent| lent.serial),
            None if is_item => self.serials.get(&task).copied(),
            None => None,
        };
        self.stream_of_job(serial?)
    }

    fn tell_maker(&mut self, (process, task, attempt): Maker, until: Option<u64>) {
        let message = work::ToWorker::Room { task: task_id(task), attempt, until };
        self.shared.tell(process, message, &Parcel::default());
    }

    fn wake_reader(&mut self, truth: u64) {
        if let Some(End::Here { is_waiting, .. }) = self.end_of(truth)
            && std::mem::take(is_waiting)
        {
            self.read_soon(truth);
        }
    }

    fn read_soon(&mut self, truth: u64) {
        if let Some(End::Here { is_waiting, .. }) = self.end_of(truth) {
            *is_waiting = false;
        }
        let after = self.shared.rng.within(&(1..=2 * self.shared.options.task_us));
        self.shared.clock.after(after, Event::Reads(truth));
    }

    fn come_late(&mut self, truth: u64) {
        let after = self.shared.rng.within(&(1..=2 * self.shared.options.task_us));
        self.shared.clock.after(after, Event::LateItem(truth));
    }

    fn end_of(&mut self, truth: u64) -> Option<&mut End> {
        self.streams.get_mut(&truth).map(|stream| &mut stream.end)
    }
}
