//! Knows of each stream how many items its generator makes, and which of them its reader has taken.
//!
//! # Checked
//! - A generator sends only what its reader has room for (FLOW-1).
//! - The reader takes each item once, in order, and all of them before an end that went well (FLOW-2, FLOW-4).
//! - The reader hears of the end (FLOW-3).

use std::collections::BTreeMap;

use crate::trace::{Verdict, require};

const NAME: &str = "streams";

/// The truth about all streams.
#[derive(Debug, Default)]
pub struct Streams {
    all: BTreeMap<u64, Stream>,
    next: u64,
}

#[derive(Debug)]
struct Stream {
    total: u64,
    bound: u64,
    taken: u64,
    /// The reader has heard of the end, or wants nothing more.
    is_over: bool,
}

impl Streams {
    /// A stream of so many items, of which its reader has room for some. Returns its name.
    pub fn made(&mut self, total: u64, bound: u64) -> u64 {
        self.next += 1;
        self.all.insert(self.next, Stream { total, bound, taken: 0, is_over: false });
        self.next
    }

    /// An attempt of the generator begins behind what others have made.
    pub fn begins(&self, name: u64, made: u64) -> Verdict {
        let stream = &self.all[&name];
        require(made <= stream.taken + stream.bound, NAME, || {
            format!("FLOW-2: {made} items of stream {name} were made: {stream:?}")
        })
    }

    /// An attempt of the generator sends an item.
    pub fn yields(&self, name: u64, index: u64) -> Verdict {
        let stream = &self.all[&name];
        require(index < stream.taken + stream.bound, NAME, || {
            format!("FLOW-1: item {index} of stream {name} is sent without room: {stream:?}")
        })
    }

    /// The reader takes an item.
    pub fn takes(&mut self, name: u64, index: u64) -> Verdict {
        let stream = self.of(name);
        require(index == stream.taken && index < stream.total, NAME, || {
            format!("FLOW-2: item {index} of stream {name} is taken: {stream:?}")
        })?;
        stream.taken += 1;
        Ok(())
    }

    /// The reader hears of the end.
    pub fn ends(&mut self, name: u64, success: bool) -> Verdict {
        let stream = self.of(name);
        stream.is_over = true;
        require(!success || stream.taken == stream.total, NAME, || {
            format!("FLOW-4: the end of stream {name} is told: {stream:?}")
        })
    }

    /// The reader wants nothing more, or is dead.
    pub fn abandoned(&mut self, name: u64) {
        self.of(name).is_over = true;
    }

    /// Streams whose readers still wait.
    pub fn waiting(&self) -> Vec<String> {
        let waiting = self.all.iter().filter(|(_, stream)| !stream.is_over);
        waiting.map(|(name, stream)| format!("stream {name}: {stream:?}")).collect()
    }

    fn of(&mut self, name: u64) -> &mut Stream {
        self.all.get_mut(&name).expect("the world speaks of streams that were made")
    }
}
