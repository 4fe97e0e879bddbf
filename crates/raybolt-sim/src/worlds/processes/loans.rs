//! What a worker is lent and asks for: the product's counting, and bodies that are read once, more often, or
//! never.

use raybolt_core::calls::borrows::LetGo;
use raybolt_wire::work;

use super::messages::{Parcel, Place, ToDriver};
use super::worker::{Waiter, Worker};
use super::{Event, Shared};
use crate::trace::Verdict;

impl Worker {
    /// Asks for a value, unless it is on its way.
    pub fn want(&mut self, shared: &mut Shared, object: u64) {
        if self.borrows.wanted(object) {
            self.say(shared, work::ToDriver::Fetch { object });
        }
    }

    /// A value came: everybody who waits for it has it. Some read it again later.
    pub fn fetched(
        &mut self,
        shared: &mut Shared,
        object: u64,
        is_there: bool,
        parcel: Parcel,
    ) -> Verdict {
        if self.stream_ended(shared, object, is_there)? {
            let _ = self.borrows.arrived(object);
            return Ok(());
        }
        if self.borrows.arrived(object).is_none() {
            self.loan_over(shared, &parcel);
            return Ok(());
        }
        let stored = parcel.values.iter().any(|value| value.place == Place::Stored);
        if !stored {
            self.here.insert(object, is_there);
        }
        for waiter in self.fetches.remove(&object).unwrap_or_default() {
            let Waiter::Run(task, attempt) = waiter;
            let refs = self.read(shared, &parcel)?;
            let run = self.runs.get_mut(&task).expect("what waits does not end");
            run.refs.extend(refs);
            run.is_refused |= !is_there;
            if stored {
                self.pins.entry(object).or_default().push_back(Waiter::Run(task, attempt));
                self.say_more(shared, &ToDriver::Pin { object });
            } else {
                self.unblock(shared, task)?;
            }
        }
        self.keep_body(shared, parcel);
        Ok(())
    }

    /// A body is kept for a while, and read some times more, or never.
    fn keep_body(&mut self, shared: &mut Shared, parcel: Parcel) {
        if parcel.occurrences().next().is_none() {
            return;
        }
        self.next_body += 1;
        let (process, body) = (self.process, self.next_body);
        self.bodies.insert(body, parcel);
        let mut after = 0;
        for left in (0..=shared.rng.below(3)).rev() {
            after += shared.rng.within(&(0..=shared.options.keep_us));
            shared.clock.after(after, Event::Body(process, body, left == 0));
        }
    }

    /// Somebody reads a body that was kept, or it is dropped: `last`.
    pub fn has_body(&mut self, shared: &mut Shared, body: u64, last: bool) -> Verdict {
        if last {
            let parcel = self.bodies.remove(&body).expect("a body is dropped once");
            self.loan_over(shared, &parcel);
            return Ok(());
        }
        let parcel = self.bodies[&body].clone();
        for object in self.read(shared, &parcel)? {
            self.keep(shared, object);
        }
        Ok(())
    }

    /// A reference goes where it outlives what runs.
    pub fn keep(&mut self, shared: &mut Shared, object: u64) {
        let first = shared.rng.within(&(1..=shared.options.keep_us));
        let second = first + shared.rng.within(&(1..=shared.options.keep_us));
        shared.clock.after(first, Event::UsesKept(self.process, object, false));
        shared.clock.after(second, Event::UsesKept(self.process, object, true));
    }

    /// Reads a body: handles to all that is in it.
    pub fn read(&mut self, shared: &mut Shared, parcel: &Parcel) -> Verdict<Vec<u64>> {
        let refs: Vec<_> = parcel.occurrences().collect();
        for object in &refs {
            shared.holds.taken(*object, self.process)?;
            self.borrows.holds(*object);
        }
        Ok(refs)
    }

    /// A body is gone, read or not.
    pub fn loan_over(&mut self, shared: &mut Shared, parcel: &Parcel) {
        for object in parcel.occurrences() {
            shared.holds.let_go(object, self.process);
            let left = given_back(self.borrows.loan_over(object));
            let borrows = self.left(object, left);
            self.give_back(shared, object, borrows);
        }
    }

    fn left(&mut self, object: u64, borrows: Option<u32>) -> u32 {
        if borrows.is_some() {
            self.here.remove(&object);
        }
        borrows.unwrap_or(0)
    }

    fn give_back(&self, shared: &mut Shared, object: u64, borrows: u32) {
        for _ in 0..borrows {
            self.say(shared, work::ToDriver::Released { object });
        }
    }

    /// Lets references go.
    pub fn release(&mut self, shared: &mut Shared, ids: impl Iterator<Item = u64>) {
        for object in ids {
            shared.holds.let_go(object, self.process);
            let left = given_back(self.borrows.let_go(object));
            let borrows = self.left(object, left);
            self.give_back(shared, object, borrows);
        }
    }
}

/// How many borrows are to be given back, once nobody holds the object any more.
fn given_back(left: LetGo<'_, ()>) -> Option<u32> {
    match left {
        LetGo::Held(()) => None,
        LetGo::Last(borrows, ()) => Some(borrows),
    }
}
