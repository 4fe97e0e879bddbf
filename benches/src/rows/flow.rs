//! The word count: typed and dynamic tuples, acked and not, beside timely dataflow.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;

use anyhow::Result;
use hashbrown::HashMap;
use rapidhash::fast::RandomState;
use raybolt::topology::{
    Batch, Bolt, BoltError, Collector, Config, Context, LocalCluster, MessageId, Next, Outputs,
    Spout, SpoutCollector, TopologyBuilder, Tuple, Values, values,
};

use super::THREADS;
use crate::baselines::timely_words;
use crate::harness::Aim::AtLeast;
use crate::harness::{Bench, Contest, Effort, Outcome, per_second};
use crate::words::{SENTENCE_WORDS, Text};

const TYPED: &str = "raybolt, typed";
const TYPED_ACKED: &str = "raybolt, typed, acked";
const VALUES: &str = "raybolt, Values";
const VALUES_ACKED: &str = "raybolt, Values, acked";
const TIMELY: &str = "timely, 2 workers";
const TIMELY_ONE: &str = "timely, 1 worker";

/// How many instances each component has; timely's workers have one of each, too.
const INSTANCES: usize = 2;
/// How many sentences a spout emits at a time.
const BURST: usize = 64;
/// How many sentences of a spout may be in flight, if acked.
const PENDING_MAX: usize = 4_096;

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    vec![Bench {
        name: "word count",
        group: "flow",
        about: "Sentences of ten words out of 10,000, some far more frequent than others, are split, sent to a \
                counter by the word's hash, and counted: two instances of each component on two threads. Words are \
                owned strings on both sides. Acked: every sentence is followed until its last word is counted.",
        run: word_count,
    }]
}

fn word_count(effort: Effort) -> Result<Outcome> {
    let text = Text::new();
    let sentences = effort.pick(40_000, 400_000);
    let standings = Contest::new("words/s")
        .add(TYPED, || words_per_second::<Word>(&text, sentences, false))
        .add(TYPED_ACKED, || words_per_second::<Word>(&text, sentences, true))
        .add(VALUES, || words_per_second::<Values>(&text, sentences, false))
        .add(VALUES_ACKED, || words_per_second::<Values>(&text, sentences, true))
        .add(TIMELY, || Ok(timely_words::words_per_second(&text, sentences, 2)))
        .add(TIMELY_ONE, || Ok(timely_words::words_per_second(&text, sentences, 1)))
        .run(effort.rounds())?;
    let row = |name: &str, aim| {
        standings.row(name.replace("raybolt", "word count"), name, TIMELY, AtLeast(aim))
    };
    let rows = vec![
        row(TYPED, 1.5),
        row(TYPED_ACKED, 0.5),
        row(VALUES, 0.0).without_aim(),
        row(VALUES_ACKED, 0.0).without_aim(),
    ];
    let aim = 1.5 * standings.figure(TIMELY);
    Ok(Outcome { rows, chart: Some(standings.chart("word count").with_aim(aim)) })
}

/// Counts all words of so many sentences once; words per second, start and end of the topology
/// included.
fn words_per_second<T: Line>(text: &Text, sentences: usize, acked: bool) -> Result<f64> {
    let words = sentences * SENTENCE_WORDS;
    let followed = if acked { sentences } else { 0 };
    let left = Left::new(words + followed);
    let spout = Sentences::<T>::new(text, sentences, acked, left.clone());
    let mut builder = TopologyBuilder::new();
    builder.set_spout("sentences", spout, INSTANCES);
    builder
        .set_bolt("split", Split::<T>(PhantomData), INSTANCES)
        .local_or_shuffle_grouping("sentences");
    builder
        .set_bolt("count", Count::<T>::new(left.clone()), INSTANCES)
        .fields_grouping("split", ["text"]);
    let topology = builder.build()?;
    let cluster = LocalCluster::with_threads(THREADS);
    let mut result = Ok(());
    let rate = per_second(words, || {
        let config = Config { max_spout_pending: Some(PENDING_MAX), ..Default::default() };
        result = cluster.submit("words", config, topology).map(|handle| {
            left.wait();
            drop(handle);
        });
    });
    result?;
    Ok(rate)
}

/// A tuple of one text: a sentence or a word.
trait Line: Tuple {
    fn new(text: String) -> Self;
    fn into_text(self) -> String;
}

/// The typed one.
#[derive(Clone, Tuple)]
struct Word {
    text: String,
}

impl Line for Word {
    fn new(text: String) -> Self {
        Word { text }
    }

    fn into_text(self) -> String {
        self.text
    }
}

impl Line for Values {
    fn new(text: String) -> Self {
        values![text]
    }

    fn into_text(mut self) -> String {
        match self.0.pop() {
            Some(raybolt::topology::Value::Str(text)) => text,
            other => panic!("a text was sent, {other:?} came"),
        }
    }
}

fn declare<T: Line>(outputs: &mut Outputs<T>) {
    if T::DYNAMIC {
        outputs.fields(["text"]);
    }
}

/// What is still to be done, and who waits for it.
#[derive(Clone)]
struct Left {
    count: Arc<AtomicUsize>,
    waiter: Thread,
}

impl Left {
    fn new(count: usize) -> Left {
        Left { count: Arc::new(AtomicUsize::new(count)), waiter: std::thread::current() }
    }

    fn done(&self, count: usize) {
        if self.count.fetch_sub(count, Ordering::AcqRel) == count {
            self.waiter.unpark();
        }
    }

    fn wait(&self) {
        while self.count.load(Ordering::Acquire) > 0 {
            std::thread::park();
        }
    }
}

/// Emits its share of the sentences.
#[derive(Clone)]
struct Sentences<T> {
    text: Text,
    /// Numbers of the sentences to emit.
    share: std::ops::Range<usize>,
    acked: bool,
    left: Left,
    emits: PhantomData<fn() -> T>,
}

impl<T: Line> Sentences<T> {
    fn new(text: &Text, sentences: usize, acked: bool, left: Left) -> Self {
        Sentences { text: text.clone(), share: 0..sentences, acked, left, emits: PhantomData }
    }
}

impl<T: Line> Spout for Sentences<T> {
    type Out = T;

    fn declare_outputs(&self, outputs: &mut Outputs<T>) {
        declare(outputs);
    }

    fn open(&mut self, context: &Context) {
        let all = self.share.end;
        let share = |instance| all * instance / context.instances();
        self.share = share(context.instance())..share(context.instance() + 1);
    }

    fn next_tuple(&mut self, out: &mut SpoutCollector<T>) -> Next {
        for index in self.share.by_ref().take(BURST) {
            let tuple = T::new(self.text.sentence(index).to_owned());
            if self.acked {
                out.emit_with_id(tuple, MessageId(index as u64));
            } else {
                out.emit(tuple);
            }
        }
        if self.share.is_empty() { Next::Done } else { Next::Emitted }
    }

    fn ack(&mut self, _: MessageId) {
        self.left.done(1);
    }
}

/// Splits sentences.
#[derive(Clone)]
struct Split<T>(PhantomData<fn() -> T>);

impl<T: Line> Bolt for Split<T> {
    type In = T;
    type Out = T;

    fn declare_outputs(&self, outputs: &mut Outputs<T>) {
        declare(outputs);
    }

    fn execute(&mut self, sentence: T, out: &mut Collector<T>) -> Result<(), BoltError> {
        for word in sentence.into_text().split(' ') {
            out.emit(T::new(word.to_owned()));
        }
        Ok(())
    }
}

/// Counts words.
#[derive(Clone)]
struct Count<T> {
    counts: HashMap<String, u64, RandomState>,
    left: Left,
    takes: PhantomData<fn() -> T>,
}

impl<T: Line> Count<T> {
    fn new(left: Left) -> Self {
        Count { counts: HashMap::default(), left, takes: PhantomData }
    }
}

impl<T: Line> Bolt for Count<T> {
    type In = T;
    type Out = ();

    fn execute(&mut self, word: T, _: &mut Collector<()>) -> Result<(), BoltError> {
        *self.counts.entry(word.into_text()).or_insert(0) += 1;
        Ok(())
    }

    fn execute_batch(
        &mut self,
        batch: &mut Batch<T>,
        out: &mut Collector<()>,
    ) -> Result<(), BoltError> {
        let mut count = 0;
        while let Some(word) = batch.next(out) {
            self.execute(word, out)?;
            count += 1;
        }
        self.left.done(count);
        Ok(())
    }
}

/// What the budget counts.
#[cfg(feature = "budget")]
pub fn paths() -> Vec<super::Path> {
    let text = Text::new();
    let path = |run: fn(&Text, usize, bool) -> Result<f64>, acked: bool| {
        let text = text.clone();
        let words = move |count: usize| {
            run(&text, count / SENTENCE_WORDS, acked)?;
            Ok(count / SENTENCE_WORDS * SENTENCE_WORDS)
        };
        Box::new(words) as Box<dyn Fn(usize) -> Result<usize>>
    };
    vec![
        ("word, typed", path(words_per_second::<Word>, false)),
        ("word, typed, acked", path(words_per_second::<Word>, true)),
        ("word, `Values`", path(words_per_second::<Values>, false)),
        ("word, `Values`, acked", path(words_per_second::<Values>, true)),
    ]
}
