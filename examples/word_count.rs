//! Word count: every word is counted exactly once, though sentences fail and come again.
//!
//! ```text
//! Sentences x1 --shuffle--> Split x3 --fields(word)--> Count x2
//! ```
//!
//! The spout emits each sentence with a message id and is told when all of its words have been
//! counted (`ack`), or that something went wrong on the way (`fail`); then it emits the sentence again.
//! That is delivery *at least once*: `Split` here fails one sentence in ten after it has emitted the
//! words, so these words arrive twice. `Count` makes it *exactly once* by remembering, for every
//! word, which sentence and place it had.
//!
//! ```text
//! $ cargo run --release --example word_count
//! 1000 sentences acked, 100 of them after a failure
//! 7000 words arrived, 6400 of them for the first time
//! the 800
//! and 400
//! seven 400
//! a 200
//! ago 200
//! am 200
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use raybolt::topology::{
    Bolt, BoltError, Collector, Config, LocalCluster, MessageId, Next, Spout, SpoutCollector,
    TopologyBuilder, Tuple,
};

const SENTENCES: u64 = 1_000;
const TEXTS: [&str; 5] = [
    "the cow jumped over the moon",
    "an apple a day keeps the doctor away",
    "four score and seven years ago",
    "snow white and the seven dwarfs",
    "i am at two with nature",
];

/// A sentence on its way; `attempt` is 0 the first time.
#[derive(Debug, Clone, Tuple)]
struct Sentence {
    id: u64,
    attempt: u64,
    text: String,
}

/// A word, and where it stands: the place of a word in all sentences never changes.
#[derive(Debug, Clone, Tuple)]
struct Word {
    word: String,
    sentence: u64,
    place: u64,
}

/// Emits the sentences, and again those that failed.
#[derive(Debug, Clone)]
struct Sentences {
    next: u64,
    failed: VecDeque<u64>,
    replayed: u64,
    acked: u64,
    /// Told when all sentences are acked: how many came more than once.
    done: Sender<u64>,
}

impl Spout for Sentences {
    type Out = Sentence;

    fn next_tuple(&mut self, out: &mut SpoutCollector<Sentence>) -> Next {
        let (id, attempt) = if let Some(id) = self.failed.pop_front() {
            self.replayed += 1;
            (id, 1)
        } else if self.next < SENTENCES {
            self.next += 1;
            (self.next - 1, 0)
        } else {
            return Next::Done;
        };
        let text = TEXTS[id as usize % TEXTS.len()].to_owned();
        out.emit_with_id(Sentence { id, attempt, text }, MessageId(id));
        Next::Emitted
    }

    fn ack(&mut self, _: MessageId) {
        self.acked += 1;
        if self.acked == SENTENCES {
            // Nobody may listen any more; then nobody wants to know.
            let _ = self.done.send(self.replayed);
        }
    }

    fn fail(&mut self, id: MessageId, _reason: &str) {
        self.failed.push_back(id.0);
    }
}

/// Splits sentences, and fails some.
#[derive(Debug, Clone)]
struct Split;

impl Bolt for Split {
    type In = Sentence;
    type Out = Word;

    fn execute(&mut self, it: Sentence, out: &mut Collector<Word>) -> Result<(), BoltError> {
        for (place, word) in it.text.split(' ').enumerate() {
            out.emit(Word { word: word.to_owned(), sentence: it.id, place: place as u64 });
        }
        if it.attempt == 0 && it.id.is_multiple_of(10) {
            return Err(BoltError::new("the tenth of ten goes wrong"));
        }
        Ok(())
    }
}

/// Counts words, each (sentence, place) once.
#[derive(Debug, Clone)]
struct Count {
    table: Table,
    seen: HashSet<(u64, u64)>,
    done: Sender<Table>,
}

/// What one instance of `Count` counted.
#[derive(Debug, Clone, Default)]
struct Table {
    counts: BTreeMap<String, u64>,
    arrived: u64,
}

impl Bolt for Count {
    type In = Word;
    type Out = ();

    fn execute(&mut self, it: Word, _: &mut Collector<()>) -> Result<(), BoltError> {
        self.table.arrived += 1;
        if self.seen.insert((it.sentence, it.place)) {
            *self.table.counts.entry(it.word).or_default() += 1;
        }
        Ok(())
    }

    /// The topology was killed, and everything in flight has been processed.
    fn cleanup(&mut self) {
        let _ = self.done.send(std::mem::take(&mut self.table));
    }
}

fn main() -> anyhow::Result<()> {
    let (spout_done, all_acked) = channel();
    let (count_done, tables) = channel();
    let sentences =
        Sentences { next: 0, failed: VecDeque::new(), replayed: 0, acked: 0, done: spout_done };
    let count = Count { table: Table::default(), seen: HashSet::new(), done: count_done };

    let mut builder = TopologyBuilder::new();
    builder.set_spout("sentences", sentences, 1);
    builder.set_bolt("split", Split, 3).shuffle_grouping("sentences");
    builder.set_bolt("count", count, 2).fields_grouping("split", ["word"]);

    let cluster = LocalCluster::new();
    let config = Config { max_spout_pending: Some(100), ..Config::default() };
    let topology = cluster.submit("word-count", config, builder)?;
    let replayed = all_acked.recv()?;
    println!("{SENTENCES} sentences acked, {replayed} of them after a failure");

    // What is left in flight, words of failed sentences, is worked off first.
    topology.kill(Duration::from_secs(30));

    let mut arrived = 0;
    let mut counts = BTreeMap::new();
    for table in tables.try_iter() {
        arrived += table.arrived;
        counts.extend(table.counts); // A word is in one table only: that is what fields grouping does.
    }
    let unique: u64 = counts.values().sum();
    println!("{arrived} words arrived, {unique} of them for the first time");
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    for (word, count) in &counts[..6] {
        println!("{word} {count}");
    }
    Ok(())
}
