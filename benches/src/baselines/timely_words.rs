//! The word count in timely dataflow, two workers: sentences, split, exchanged by word, counted.
//!
//! Written to suit timely: operators that give words one by one instead of collecting them, one epoch
//! (so that hardly any progress has to be told), and the hash functions that ours uses. Words are
//! owned strings on both sides.

use hashbrown::HashMap;
use rapidhash::fast::RandomState;
use timely::Config;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::generic::operator::source;

use crate::harness::per_second;
use crate::words::{SENTENCE_WORDS, Text};

/// How many sentences an activation of the source sends: the best of 16, 64, 256, 512, 2,048, 16,384 and
/// 87,000 (timely's own `to_stream`).
const BURST: usize = 256;

type Builder<T> = CapacityContainerBuilder<Vec<T>>;

/// Words per second over `sentences` sentences with `workers` workers.
pub fn words_per_second(text: &Text, sentences: usize, workers: usize) -> f64 {
    per_second(sentences * SENTENCE_WORDS, || {
        let counted = count(text, sentences, workers);
        let words: u64 = counted.iter().map(|counts| counts.values().sum::<u64>()).sum();
        assert_eq!(words, (sentences * SENTENCE_WORDS) as u64, "every word is counted once");
    })
}

type Counts = HashMap<String, u64, RandomState>;

/// What each worker counted.
fn count(text: &Text, sentences: usize, workers: usize) -> Vec<Counts> {
    let text = text.clone();
    let (done, counted) = std::sync::mpsc::channel();
    let guards = timely::execute(Config::process(workers), move |worker| {
        let (text, done) = (text.clone(), done.clone());
        let share = (worker.index()..sentences).step_by(workers);
        worker.dataflow::<u64, _, _>(|scope| {
            let lines =
                source::<_, Builder<String>, _, _>(scope, "sentences", |capability, info| {
                    let activator = scope.activator_for(info.address);
                    let mut share = share.map(move |index| text.sentence(index).to_owned()).fuse();
                    let mut capability = Some(capability);
                    move |output| {
                        let Some(open) = &capability else { return };
                        let mut sent = 0;
                        let burst = share.by_ref().take(BURST).inspect(|_| sent += 1);
                        output.session_with_builder(open).give_iterator(burst);
                        if sent < BURST {
                            capability = None;
                        } else {
                            activator.activate();
                        }
                    }
                });
            let words = lines.unary::<Builder<String>, _, _, _>(Pipeline, "split", |_, _| {
                |input, output| {
                    input.for_each(|time, lines| {
                        let mut session = output.session(&time);
                        for line in lines.drain(..) {
                            session.give_iterator(line.split(' ').map(str::to_owned));
                        }
                    });
                }
            });
            let by_word =
                Exchange::new(|word: &String| rapidhash::v3::rapidhash_v3(word.as_bytes()));
            words.unary_frontier::<Builder<()>, _, _, _>(by_word, "count", |_, _| {
                let mut counts = Some(Counts::default());
                move |(input, frontier), _| {
                    input.for_each(|_, words| {
                        let counts = counts.as_mut().expect("nothing comes after the end");
                        for word in words.drain(..) {
                            *counts.entry(word).or_insert(0) += 1;
                        }
                    });
                    if frontier.is_empty()
                        && let Some(counts) = counts.take()
                    {
                        done.send(counts).expect("somebody waits for the counts");
                    }
                }
            });
        });
    });
    drop(guards.expect("the workers start"));
    counted.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_count_what_one_counts() {
        let text = Text::new();
        let merged = |workers| {
            let mut all = std::collections::BTreeMap::new();
            for (word, n) in count(&text, 3_000, workers).into_iter().flatten() {
                assert!(all.insert(word, n).is_none(), "a word is counted by one worker");
            }
            all
        };
        assert_eq!(merged(1), merged(2));
        assert_eq!(merged(2).values().sum::<u64>(), 30_000);
    }
}
