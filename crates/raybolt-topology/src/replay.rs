//! A source whose tuples are emitted again until they have been processed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::collector::SpoutCollector;
use crate::context::Context;
use crate::spout::{MessageId, Next, OnDone, Spout};
use crate::tuple::Tuple;

/// Emits the tuples of a source, each again until all that came of it has been processed: at least
/// once, the easy way. Tuples in flight are kept, so bound them by
/// [`Config::max_spout_pending`](crate::Config). Of several instances, each takes its share.
///
/// It may run in worker processes ([`in_processes`](crate::SpoutDeclarer::in_processes)) if its source, an iterator, travels by
/// `serde`; `on_done` is called in this process all the same. If such a process dies its instances begin with their
/// share from the start: all of it is processed at least once, and what had been, twice.
///
/// ```
/// use raybolt_topology::ReplaySpout;
///
/// let words = ["a", "b"].map(|word| (word.to_owned(),));
/// let spout = ReplaySpout::new(words).on_done(|| println!("all words have been processed"));
/// # let _ = spout;
/// ```
#[derive(Clone)]
pub struct ReplaySpout<T, I> {
    source: I,
    /// Which share of the source this instance takes: (first, step).
    share: (usize, usize),
    begun: bool,
    pending: HashMap<u64, T>,
    /// What failed, oldest first.
    again: VecDeque<u64>,
    next_id: u64,
    exhausted: bool,
    on_done: Option<OnDone>,
}

impl<T: Tuple, I: Iterator<Item = T> + Clone + Send + 'static> ReplaySpout<T, I> {
    /// A spout of these tuples.
    pub fn new(source: impl IntoIterator<IntoIter = I>) -> Self {
        Self::of(source.into_iter())
    }

    /// Calls `done` on each instance when all tuples of its share have been processed.
    #[must_use]
    pub fn on_done(mut self, done: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_done = Some(Arc::new(done));
        self
    }

    fn next_of_source(&mut self) -> Option<T> {
        let (first, step) = self.share;
        let skip = if std::mem::replace(&mut self.begun, true) { step - 1 } else { first };
        self.source.nth(skip)
    }

    fn look_whether_done(&mut self) {
        if self.exhausted
            && self.pending.is_empty()
            && let Some(done) = self.on_done.take()
        {
            done();
        }
    }
}

impl<T, I> ReplaySpout<T, I> {
    fn of(source: I) -> Self {
        ReplaySpout {
            source,
            share: (0, 1),
            begun: false,
            pending: HashMap::new(),
            again: VecDeque::new(),
            next_id: 0,
            exhausted: false,
            on_done: None,
        }
    }
}

/// As one that has not begun.
impl<T, I: Serialize> Serialize for ReplaySpout<T, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.on_done {
            None => self.source.serialize(serializer),
            Some(_) => Err(S::Error::custom("what is to be called `on_done` cannot travel")),
        }
    }
}

impl<'de, T, I: Deserialize<'de>> Deserialize<'de> for ReplaySpout<T, I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        I::deserialize(deserializer).map(Self::of)
    }
}

impl<T: Tuple, I: Iterator<Item = T> + Clone + Send + 'static> Spout for ReplaySpout<T, I> {
    type Out = T;

    fn take_on_done(&mut self) -> Option<OnDone> {
        self.on_done.take()
    }

    fn open(&mut self, context: &Context) {
        self.share = (context.instance(), context.instances());
    }

    fn next_tuple(&mut self, out: &mut SpoutCollector<T>) -> Next {
        if let Some(id) = self.again.pop_front()
            && let Some(tuple) = self.pending.get(&id)
        {
            out.emit_with_id(tuple.clone(), MessageId(id));
            return Next::Emitted;
        }
        if self.exhausted {
            return Next::Done;
        }
        let Some(tuple) = self.next_of_source() else {
            self.exhausted = true;
            self.look_whether_done();
            return Next::Done;
        };
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, tuple.clone());
        out.emit_with_id(tuple, MessageId(id));
        Next::Emitted
    }

    fn ack(&mut self, id: MessageId) {
        self.pending.remove(&id.0);
        self.look_whether_done();
    }

    fn fail(&mut self, id: MessageId, _: &str) {
        self.again.push_back(id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Serialize, Deserialize)]
    struct Numbers(u64);

    impl Iterator for Numbers {
        type Item = (u64,);

        fn next(&mut self) -> Option<(u64,)> {
            self.0 += 1;
            Some((self.0,))
        }
    }

    #[test]
    fn what_travels_has_not_begun_and_a_call_cannot_travel() {
        let mut spout = ReplaySpout::new(Numbers(0)).on_done(|| {});
        let error = raybolt_wire::value::encode(&spout).unwrap_err().to_string();
        assert!(error.contains("`on_done` cannot travel"), "{error}");
        assert!(spout.take_on_done().is_some());
        let bytes = raybolt_wire::value::encode(&spout).expect("nothing else stays here");
        let mut spout: ReplaySpout<(u64,), Numbers> =
            raybolt_wire::value::decode(&bytes).expect("it is what was written");
        assert_eq!(spout.next_of_source(), Some((1,)));
    }
}
