//! Branching: a Distributed RPC function whose graph splits and merges.
//!
//! ```text
//!                +--> split x2 --shuffle----------------> count x2 ---+
//! requests ------|        |                                           |
//!                |        +-------fields(request, word)-> unique x3 --+--> merge x2 --> result
//!                |                                                    |
//!                +--> letters x2 -------------------------------------+
//! ```
//!
//! A text comes in; one branch counts its letters, one its words, one its distinct words. `merge` puts
//! the facts together when it is told that all of a request has arrived, by whichever way: branches
//! may be of different length, and an empty text sends nothing down some of them.
//!
//! ```text
//! $ cargo run --release --example branching
//! to be or not to be -> 13 letters, 6 words, 4 of them distinct
//! tick tock tick tock tick -> 20 letters, 5 words, 2 of them distinct
//!  -> 0 letters, 0 words, 0 of them distinct
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::collections::HashSet;

use raybolt::drpc::{
    BatchBolt, DrpcRequest, DrpcTopologyBuilder, LocalDrpc, PerRequest, RequestId,
};
use raybolt::topology::{Bolt, BoltError, Collector, Config, LocalCluster, Tuple};

/// A word of the text.
#[derive(Debug, Clone, Tuple)]
struct Word {
    request: RequestId,
    word: String,
}

/// What a branch found out, or a part of it: `merge` adds up.
#[derive(Debug, Clone, Tuple)]
struct Facts {
    request: RequestId,
    letters: u64,
    words: u64,
    distinct: u64,
}

impl Facts {
    fn none(request: RequestId) -> Facts {
        Facts { request, letters: 0, words: 0, distinct: 0 }
    }
}

/// Splits the text; works on one tuple at a time.
#[derive(Clone)]
struct Split;

impl Bolt for Split {
    type In = DrpcRequest;
    type Out = Word;

    fn execute(&mut self, it: DrpcRequest, out: &mut Collector<Word>) -> Result<(), BoltError> {
        for word in it.text()?.split_whitespace() {
            out.emit(Word { request: it.request, word: word.to_owned() });
        }
        Ok(())
    }
}

/// Counts the letters of the text.
#[derive(Clone)]
struct Letters;

impl Bolt for Letters {
    type In = DrpcRequest;
    type Out = Facts;

    fn execute(&mut self, it: DrpcRequest, out: &mut Collector<Facts>) -> Result<(), BoltError> {
        let letters = it.text()?.chars().filter(|letter| letter.is_alphabetic()).count() as u64;
        out.emit(Facts { letters, ..Facts::none(it.request) });
        Ok(())
    }
}

/// Counts words. Each request gets a fresh clone of it on every instance that sees some of its words.
#[derive(Clone)]
struct Count {
    words: u64,
}

impl BatchBolt for Count {
    type In = Word;
    type Out = Facts;

    fn execute(&mut self, _: Word, _: &mut Collector<Facts>) -> Result<(), BoltError> {
        self.words += 1;
        Ok(())
    }

    fn finish_batch(
        &mut self,
        request: RequestId,
        out: &mut Collector<Facts>,
    ) -> Result<(), BoltError> {
        out.emit(Facts { words: self.words, ..Facts::none(request) });
        Ok(())
    }
}

/// Counts distinct words: the same word of a request always comes to the same instance.
#[derive(Clone)]
struct Unique {
    words: HashSet<String>,
}

impl BatchBolt for Unique {
    type In = Word;
    type Out = Facts;

    fn execute(&mut self, it: Word, _: &mut Collector<Facts>) -> Result<(), BoltError> {
        self.words.insert(it.word);
        Ok(())
    }

    fn finish_batch(
        &mut self,
        request: RequestId,
        out: &mut Collector<Facts>,
    ) -> Result<(), BoltError> {
        out.emit(Facts { distinct: self.words.len() as u64, ..Facts::none(request) });
        Ok(())
    }
}

/// Puts the facts of all branches together.
#[derive(Clone)]
struct Merge {
    sum: Facts,
}

impl BatchBolt for Merge {
    type In = Facts;
    type Out = (RequestId, String);

    fn execute(&mut self, it: Facts, _: &mut Collector<Self::Out>) -> Result<(), BoltError> {
        self.sum.letters += it.letters;
        self.sum.words += it.words;
        self.sum.distinct += it.distinct;
        Ok(())
    }

    fn finish_batch(
        &mut self,
        request: RequestId,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), BoltError> {
        let Facts { letters, words, distinct, .. } = self.sum;
        let text = format!("{letters} letters, {words} words, {distinct} of them distinct");
        out.emit((request, text));
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let drpc = LocalDrpc::new();
    let requests = DrpcTopologyBuilder::REQUESTS;
    let mut builder = DrpcTopologyBuilder::new("describe");
    builder.set_bolt("letters", Letters, 2).shuffle_grouping(requests);
    builder.set_bolt("split", Split, 2).shuffle_grouping(requests);
    builder.set_bolt("count", PerRequest::new(Count { words: 0 }), 2).shuffle_grouping("split");
    builder
        .set_bolt("unique", PerRequest::new(Unique { words: HashSet::new() }), 3)
        .fields_grouping("split", ["request", "word"]);
    builder
        .set_bolt("merge", PerRequest::new(Merge { sum: Facts::none(RequestId(0)) }), 2)
        .fields_grouping("letters", ["request"])
        .fields_grouping("count", ["request"])
        .fields_grouping("unique", ["request"]);
    builder.returns("merge");

    let cluster = LocalCluster::new();
    cluster.submit("branching", Config::default(), builder.create_local_topology(&drpc)?)?;

    for text in ["to be or not to be", "tick tock tick tock tick", ""] {
        println!("{text} -> {}", drpc.execute("describe", text)?);
    }
    Ok(())
}
