//! Says which items of a stream may travel between processes, and which of those that came are taken.
//!
//! # Words
//! A *generator* makes *items*, numbered from 0; a *reader*, mostly in another process, takes them in that order.
//! *Room* is counted from the beginning too: there is room until a number. So what is granted only grows, and to
//! say it twice does no harm. The *supplier* is the way back to the generator, as far as somebody has heard of it.
//! ```text
//! generator                       (driver)                         reader
//!  Outflow  --- Yielded(index) --> Passage --- Item(index) ------> Inflow
//!           --- Stalled(index) -->         <-- Taken(until) ------
//!           <-- Room(until) ------
//! ```
//! Where the driver reads itself there is no [`Passage`], and its [`Inflow`] hears of the generator directly.
//!
//! # Protocol
//! 1. An attempt is told how many items earlier ones have made, and until which there is room
//!    ([`Inflow::announced`], [`Passage::announced`]); it begins behind those.
//! 2. Items go as far as there is room ([`Outflow::says`]); then the generator says that it is stalled, once, and
//!    waits. That tells the other end whom to tell, whatever it had heard before.
//! 3. As items are taken, more room is granted, many at a time ([`Inflow::taken`]).
//! 4. An item that has to wait for the store at the driver holds up those behind it and the end
//!    ([`Passage::waits`]), but not whoever reads the links.
//!
//! # Invariants
//! - **FLOW-1 (bounded).** At most `bound` items that nobody has taken are on their way or lie at the reader.
//! - **FLOW-2 (once, in order).** The reader has each number once, in order: what is known, since an earlier
//!   attempt has made it, is passed over.
//! - **FLOW-3 (nobody stands still).** Who is stalled is told as soon as there is room, or that nobody wants more.
//! - **FLOW-4 (the end comes last).** The end passes no item.

use std::collections::VecDeque;

use crate::plant::{Plant, Plants};

/// The reader's end; `S` is the way back to a generator.
#[derive(Debug)]
pub struct Inflow<S> {
    /// Items ever made, for attempts after the first.
    made: u64,
    /// How many of them nobody has taken.
    lying: u64,
    bound: u64,
    /// How many items in all the supplier may send, as far as it was told.
    granted: u64,
    supplier: Option<S>,
    has_ended: bool,
    is_abandoned: bool,
    plants: Plants,
}

/// What becomes of an item that has come.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Yielded<S> {
    /// Nobody wants it, nor any other: its supplier is to be told.
    Unwanted,
    /// It is known already.
    Known,
    /// It is the next one. If something is named, that supplier has room for more.
    Next(Option<(S, u64)>),
}

/// What a generator is told that waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Stalled {
    /// Nobody wants more items.
    Unwanted,
    /// There is room until this number.
    Room(u64),
    /// Nothing now: it hears when there is room.
    Later,
}

impl<S: Clone> Inflow<S> {
    /// The end of a stream that holds so many items.
    pub const fn new(bound: u64) -> Self {
        Inflow {
            made: 0,
            lying: 0,
            bound,
            granted: 0,
            supplier: None,
            has_ended: false,
            is_abandoned: false,
            plants: Plants::NONE,
        }
    }

    /// The same with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(bound: u64, plants: Plants) -> Self {
        Inflow { plants, ..Self::new(bound) }
    }

    /// It holds so many items from now on.
    pub fn set_bound(&mut self, bound: u64) {
        self.bound = bound;
    }

    /// How many items were made.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// This is the end at the generator: earlier attempts have made so many.
    pub fn begin_at(&mut self, made: u64) {
        self.made = made;
    }

    /// Whether a generator in the same process has to wait.
    pub fn is_full(&self) -> bool {
        self.lying >= self.bound && !self.is_stopped()
    }

    /// Whether nobody wants more items.
    pub fn is_stopped(&self) -> bool {
        self.is_abandoned || self.has_ended
    }

    /// There are no more items.
    pub fn ended(&mut self) {
        self.has_ended = true;
    }

    /// The reader is gone, and what lay here with it.
    pub fn abandoned(&mut self) {
        self.is_abandoned = true;
        self.lying = 0;
    }

    /// Another process is about to run the generator: what is made already, and until which item there is room.
    pub fn announced(&mut self) -> (u64, u64) {
        self.supplier = None; // That of an earlier attempt.
        self.granted = self.room_until();
        let skipped = u64::from(self.plants.has(Plant::SkipItem) && self.made > 0);
        (self.made + skipped, self.granted)
    }

    /// There is one item more. Says whether it lies here: not if the reader is gone.
    pub fn pushed(&mut self) -> bool {
        self.made += 1;
        self.lying += u64::from(!self.is_abandoned);
        !self.is_abandoned
    }

    /// An item has come from another process; `from` is the way back.
    pub fn yielded(&mut self, index: u64, from: impl FnOnce() -> S) -> Yielded<S> {
        if self.is_stopped() {
            return Yielded::Unwanted;
        }
        if index != self.made && !(index < self.made && self.plants.has(Plant::TakeTwice)) {
            return Yielded::Known;
        }
        self.supplier.get_or_insert_with(from);
        self.pushed();
        Yielded::Next(self.grant())
    }

    /// An item was taken. If something is named, that supplier has room for more.
    pub fn taken(&mut self) -> Option<(S, u64)> {
        self.lying -= 1;
        self.grant()
    }

    /// The generator behind `from` waits for room for the item of this number.
    pub fn stalled(&mut self, index: u64, from: S) -> Stalled {
        if self.is_stopped() {
            return Stalled::Unwanted;
        }
        if self.plants.has(Plant::LoseStall) {
            return Stalled::Later;
        }
        self.supplier = Some(from);
        let until = self.room_until();
        self.granted = until.max(index); // What it has is used up; the next room is worth a message.
        if until > index { Stalled::Room(until) } else { Stalled::Later }
    }

    /// The way back to the generator, if it was heard of.
    pub fn supplier(&self) -> Option<&S> {
        self.supplier.as_ref()
    }

    /// FLOW-1.
    fn room_until(&self) -> u64 {
        let lying = if self.plants.has(Plant::ForgetLying) { 0 } else { self.lying };
        self.made + self.bound.saturating_sub(lying)
    }

    /// What the supplier is to be told, if there is enough room to be worth a message. As soon as all
    /// that it was granted was taken, there is.
    fn grant(&mut self) -> Option<(S, u64)> {
        let until = self.room_until();
        let worth = (self.bound / 4).max(1);
        if self.has_ended || until < self.granted.saturating_add(worth) {
            return None;
        }
        let supplier = self.supplier.clone()?;
        self.granted = until;
        Some((supplier, until))
    }
}

/// The driver between a generator and a reader that are both elsewhere. It keeps no item but those that have to
/// wait for the store; `I` is such an item.
#[derive(Debug)]
pub struct Passage<S, I> {
    made: u64,
    /// How many items in all the reader has room for.
    until: u64,
    supplier: Option<S>,
    late: VecDeque<I>,
    /// Somebody sees to what is late.
    is_attended: bool,
    has_ended: bool,
    plants: Plants,
}

/// What is next for whoever sees to late items.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Late<I> {
    /// This item goes to the reader, when it may.
    Item(I),
    /// The reader is to be told of the end.
    End,
    /// Nothing, and nobody is awaited any more.
    Nothing,
}

impl<S: Clone, I> Passage<S, I> {
    /// A passage to a reader that has room until this item.
    pub fn new(until: u64) -> Self {
        Passage {
            made: 0,
            until,
            supplier: None,
            late: VecDeque::new(),
            is_attended: false,
            has_ended: false,
            plants: Plants::NONE,
        }
    }

    /// The same with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(until: u64, plants: Plants) -> Self {
        Passage { plants, ..Self::new(until) }
    }

    /// A worker is about to run the generator: what is made already, and until which item there is room.
    pub fn announced(&mut self) -> (u64, u64) {
        self.supplier = None; // That of an earlier attempt.
        (self.made, self.until)
    }

    /// The reader has room until this item: who is to be told, and what.
    pub fn room(&mut self, until: u64) -> Option<(S, u64)> {
        self.until = self.until.max(until);
        let supplier = self.supplier.clone()?;
        (!self.plants.has(Plant::KeepRoom)).then_some((supplier, self.until))
    }

    /// An item has come, which is [to be passed on](Passage::passes) if it is the next one; `from` is the way back.
    pub fn yielded(&mut self, index: u64, from: impl FnOnce() -> S) -> Yielded<S> {
        if index != self.made {
            return Yielded::Known;
        }
        self.made += 1;
        if self.supplier.is_some() {
            return Yielded::Next(None);
        }
        // The reader may have taken some meanwhile.
        let supplier = self.supplier.insert(from()).clone();
        Yielded::Next(Some((supplier, self.until)))
    }

    /// The generator behind `from` waits for room for the item of this number.
    pub fn stalled(&mut self, index: u64, from: S) -> Stalled {
        self.supplier = Some(from);
        if self.until > index { Stalled::Room(self.until) } else { Stalled::Later }
    }

    /// The way back to the generator, if it was heard of.
    pub fn supplier(&self) -> Option<&S> {
        self.supplier.as_ref()
    }

    /// The next item: it is given back if it may go now, and kept if it has to wait for others.
    pub fn passes(&mut self, item: I) -> Option<I> {
        if !self.is_attended || self.plants.has(Plant::PassTheLate) {
            return Some(item);
        }
        self.late.push_back(item);
        None
    }

    /// The item that may go has to wait for the store. Says whether somebody is needed who sees to that.
    #[must_use]
    pub fn waits(&mut self, item: I) -> bool {
        self.late.push_front(item);
        !std::mem::replace(&mut self.is_attended, true)
    }

    /// For whoever sees to late items: what is next, after the last one was sent.
    pub fn next_late(&mut self) -> Late<I> {
        if let Some(item) = self.late.pop_front() {
            return Late::Item(item);
        }
        self.is_attended = false;
        if self.has_ended { Late::End } else { Late::Nothing }
    }

    /// There are no more items. Says whether the reader may be told now; else whoever sees to late items will.
    #[must_use]
    pub fn ended(&mut self) -> bool {
        self.has_ended = true;
        !self.is_attended || self.plants.has(Plant::EndEarly)
    }
}

/// The generator's end, in a worker.
#[derive(Debug, Default)]
pub struct Outflow {
    /// The number of the first item that there is no room for.
    until: u64,
    is_stopped: bool,
    plants: Plants,
}

impl Outflow {
    /// Items with numbers below `until` may be sent.
    pub fn new(until: u64) -> Self {
        Outflow { until, ..Self::default() }
    }

    /// The same with planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(until: u64, plants: Plants) -> Self {
        Outflow { plants, ..Self::new(until) }
    }

    /// There is room until this item; without it nobody wants more.
    pub fn room(&mut self, until: Option<u64>) {
        match until {
            Some(until) => self.until = self.until.max(until),
            None => self.stopped(),
        }
    }

    /// Nobody wants more items.
    pub fn stopped(&mut self) {
        self.is_stopped = true;
    }

    /// Whether the item of this number is wanted; nothing if it has to wait.
    pub fn says(&self, index: u64) -> Option<bool> {
        let ahead = u64::from(self.plants.has(Plant::SendAhead));
        match self.is_stopped && !self.plants.has(Plant::DeafToStop) {
            true => Some(false),
            false => (index < self.until + ahead).then_some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(inflow: &mut Inflow<char>, index: u64, from: char) -> Option<(char, u64)> {
        match inflow.yielded(index, || from) {
            Yielded::Next(grant) => grant,
            other => panic!("item {index} is {other:?}"),
        }
    }

    /// FLOW-1.
    #[test]
    fn room_grows_as_items_are_taken_and_is_granted_many_at_a_time() {
        let mut inflow = Inflow::new(8);
        assert_eq!(inflow.announced(), (0, 8));
        for index in 0..8 {
            assert_eq!(next(&mut inflow, index, 'a'), None);
        }
        assert_eq!(inflow.taken(), None);
        assert_eq!(inflow.taken(), Some(('a', 10)));
        assert_eq!(inflow.stalled(10, 'a'), Stalled::Later, "8 lie here or are on their way");
        assert_eq!(inflow.taken(), None);
        assert_eq!(inflow.taken(), Some(('a', 12)));
    }

    /// FLOW-2.
    #[test]
    fn what_an_earlier_attempt_has_made_is_known() {
        let mut inflow = Inflow::new(4);
        inflow.announced();
        assert_eq!(next(&mut inflow, 0, 'a'), None);
        assert_eq!(next(&mut inflow, 1, 'a'), None);
        assert_eq!(inflow.announced(), (2, 4));
        assert_eq!(inflow.yielded(1, || 'b'), Yielded::Known);
        assert_eq!(inflow.supplier(), None);
        assert_eq!(next(&mut inflow, 2, 'b'), None);
        assert_eq!(inflow.supplier(), Some(&'b'));
    }

    /// FLOW-3.
    #[test]
    fn who_is_stalled_is_told_at_once_or_when_an_item_was_taken() {
        let mut inflow = Inflow::new(1);
        inflow.announced();
        assert_eq!(next(&mut inflow, 0, 'a'), None);
        assert_eq!(inflow.stalled(1, 'b'), Stalled::Later);
        assert_eq!(inflow.taken(), Some(('b', 2)));
        assert_eq!(inflow.stalled(1, 'b'), Stalled::Room(2));
        inflow.abandoned();
        assert_eq!(inflow.stalled(2, 'b'), Stalled::Unwanted);
        assert_eq!(inflow.yielded(1, || 'b'), Yielded::Unwanted);
    }

    #[test]
    fn a_passage_grants_what_the_reader_has_room_for() {
        let mut passage = Passage::<char, ()>::new(2);
        assert_eq!(passage.announced(), (0, 2));
        assert_eq!(passage.room(3), None, "nobody was heard of");
        assert_eq!(passage.yielded(0, || 'a'), Yielded::Next(Some(('a', 3))));
        assert_eq!(passage.yielded(1, || 'a'), Yielded::Next(None));
        assert_eq!(passage.room(4), Some(('a', 4)));
        assert_eq!(passage.announced(), (2, 4));
        assert_eq!(passage.yielded(1, || 'b'), Yielded::Known);
        assert_eq!(passage.stalled(4, 'b'), Stalled::Later);
        assert_eq!(passage.room(5), Some(('b', 5)));
        assert_eq!(passage.stalled(4, 'b'), Stalled::Room(5));
    }

    /// FLOW-4.
    #[test]
    fn what_is_late_holds_up_what_is_behind_it() {
        let mut passage = Passage::<char, u64>::new(9);
        assert_eq!(passage.passes(0), Some(0));
        assert!(passage.waits(0), "somebody is needed");
        assert_eq!(passage.passes(1), None);
        assert!(!passage.ended());
        assert_eq!(passage.next_late(), Late::Item(0));
        assert_eq!(passage.passes(2), None, "the first may not have gone yet");
        assert_eq!(passage.next_late(), Late::Item(1));
        assert_eq!(passage.next_late(), Late::Item(2));
        assert_eq!(passage.next_late(), Late::End);
        assert!(passage.ended(), "nobody sees to anything any more");
    }

    #[test]
    fn a_generator_sends_within_its_room_until_nobody_wants_more() {
        let mut outflow = Outflow::new(1);
        assert_eq!((outflow.says(0), outflow.says(1)), (Some(true), None));
        outflow.room(Some(3));
        outflow.room(Some(2));
        assert_eq!((outflow.says(2), outflow.says(3)), (Some(true), None));
        outflow.room(None);
        assert_eq!(outflow.says(2), Some(false));
    }
}
