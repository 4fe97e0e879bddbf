use rapidhash::fast::RandomState;
use raybolt_topology::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[derive(Clone, raybolt_macros::Tuple)]
#[tuple(crate = "raybolt_topology")]
struct Sentence {
    sentence: String,
}
#[derive(Clone, raybolt_macros::Tuple)]
#[tuple(crate = "raybolt_topology")]
struct Word {
    word: String,
}

const SENTENCES: &[&str] = &[
    "the cow jumped over the moon on a starry night",
    "an apple a day keeps the doctor away from home",
    "four score and seven years ago our fathers came here",
    "snow white and the seven dwarfs went to the mine",
    "i am at two with nature and the great outdoors",
];

#[derive(Clone)]
struct Src {
    acked: bool,
    n: u64,
}
impl Spout for Src {
    type Out = Sentence;
    fn next_tuple(&mut self, out: &mut SpoutCollector<Sentence>) -> Next {
        self.n += 1;
        let s = Sentence { sentence: SENTENCES[(self.n % 5) as usize].to_owned() };
        if self.acked {
            out.emit_with_id(s, MessageId(self.n))
        } else {
            out.emit(s)
        }
        Next::Emitted
    }
}
#[derive(Clone)]
struct Split;
impl Bolt for Split {
    type In = Sentence;
    type Out = Word;
    fn execute(&mut self, t: Sentence, out: &mut Collector<Word>) -> Result<(), BoltError> {
        for w in t.sentence.split(' ') {
            out.emit(Word { word: w.to_owned() });
        }
        Ok(())
    }
}
#[derive(Clone, Default)]
struct Count {
    m: HashMap<String, u64, RandomState>,
}
impl Bolt for Count {
    type In = Word;
    type Out = ();
    fn execute(&mut self, t: Word, _: &mut Collector<()>) -> Result<(), BoltError> {
        match self.m.get_mut(&t.word) {
            Some(n) => *n += 1,
            None => {
                self.m.insert(t.word, 1);
            }
        }
        Ok(())
    }
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s[s.rfind(')').unwrap() + 2..].split(' ').collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let acked = a.get(1).is_some_and(|s| s == "acked");
    let splits: usize = a.get(2).and_then(|s| s.parse().ok()).unwrap_or(2);
    let secs: f64 = a.get(3).and_then(|s| s.parse().ok()).unwrap_or(3.0);
    let pending: Option<usize> = a.get(4).and_then(|s| s.parse().ok());
    let mut b = TopologyBuilder::new();
    b.set_spout("s", Src { acked, n: 0 }, 1);
    b.set_bolt("split", Split, splits).shuffle_grouping("s");
    b.set_bolt("count", Count::default(), 2).fields_grouping("split", ["word"]);
    let c = LocalCluster::with_threads(2);
    let h = c.submit("wc", Config { max_spout_pending: pending, ..Config::default() }, b).unwrap();
    let count = || h.stats().component("count").unwrap().sum(|i| i.executed);
    std::thread::sleep(Duration::from_millis(300));
    let (t, n, c0) = (Instant::now(), count(), cpu());
    std::thread::sleep(Duration::from_secs_f64(secs));
    let (n2, e) = (count(), t.elapsed());
    println!(
        "{} words/s {:.2} M  at 2 cpus {:.2} M {:?}",
        if acked { "acked" } else { "plain" },
        (n2 - n) as f64 / e.as_secs_f64() / 1e6,
        (n2 - n) as f64 / (cpu() - c0) * 2.0 / 1e6,
        h.stats()
            .components
            .iter()
            .map(|c| c
                .instances
                .iter()
                .map(|i| (i.executed, i.queued, i.execute_nanos, i.acked))
                .collect::<Vec<_>>())
            .collect::<Vec<_>>()
    );
}
