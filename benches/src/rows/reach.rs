//! Reach on real data, beside two single-threaded programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use raybolt_examples::reach::{Data, Options, Reach, load};

use super::THREADS;
use crate::baselines::reach::{Dense, Obvious};
use crate::harness::Aim::AtLeast;
use crate::harness::{Bench, Contest, Effort, Outcome, Row, Standings};

const RAYBOLT: &str = "raybolt, by DRPC, 2 threads";
const OBVIOUS: &str = "hash set per key, 1 thread";
const BEST: &str = "dense ids and stamps, 1 thread";

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    vec![
        Bench {
            name: "reach mentions",
            group: "reach",
            about: "The reach of each of 182,254 mentions of the SNAP data, asked one by one through DRPC with many \
                    requests in flight: 43.7 million follower records. Beside two programs without any engine.",
            run: mentions,
        },
        Bench {
            name: "reach #FF",
            group: "reach",
            about: "One request whose answer needs 197,879 follower records; nothing else in flight.",
            run: one_key,
        },
    ]
}

/// What the baselines work on, out of what ours works on.
struct Tables {
    data: Arc<Data>,
    /// A follower and whom it follows.
    edges: Vec<(u32, u32)>,
    keys: Vec<(String, Vec<u32>)>,
}

impl Tables {
    /// The real data, if it lies beside the repository.
    fn load(tweets: &str) -> Result<Option<Tables>> {
        let folder = folder();
        let follows = folder.join("snap-ego-twitter-follows.txt.gz");
        let tweets = folder.join(tweets);
        if !follows.exists() || !tweets.exists() {
            return Ok(None);
        }
        let data = load(&follows, &tweets)?;
        let mut edges = Vec::with_capacity(data.followers().values());
        for user in 0..data.followers().rows() as u32 {
            edges.extend(data.followers().row(user).iter().map(|follower| (*follower, user)));
        }
        let keys = (0..data.keys().len() as u32)
            .map(|key| (data.keys().name(key).to_owned(), data.tweeters().row(key).to_vec()))
            .collect();
        Ok(Some(Tables { data: Arc::new(data), edges, keys }))
    }

    fn start(&self) -> Result<Reach> {
        let options = Options { threads: Some(THREADS), ..Options::default() };
        Ok(Reach::start(self.data.clone(), options)?)
    }
}

/// Where the real data lies: in `shared/data` beside the repository.
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("shared/data")
}

fn mentions(effort: Effort) -> Result<Outcome> {
    let Some(tables) = Tables::load("snap-ego-twitter-mention-users.tsv.gz")? else {
        return Ok(no_data("reach mentions"));
    };
    let records: u64 =
        (0..tables.data.keys().len() as u32).map(|key| tables.data.records(key)).sum();
    let reach = tables.start()?;
    let obvious = Obvious::new(&tables.edges, &tables.keys);
    let mut dense = Dense::new(&tables.edges, &tables.keys);
    let expected = dense.sum();
    let standings = Contest::new("records/s")
        .add(RAYBOLT, || {
            rate(records, expected, || {
                let mut sum = 0;
                reach.ask_all(|_, answer| sum += answer)?;
                Ok(sum)
            })
        })
        .add(OBVIOUS, || rate(records, expected, || Ok(obvious.sum())))
        .add(BEST, || rate(records, expected, || Ok(dense.sum())))
        .run(effort.pick(1, 7))?;
    Ok(outcome("reach mentions", &standings))
}

fn one_key(effort: Effort) -> Result<Outcome> {
    const KEY: &str = "#FF";
    let Some(tables) = Tables::load("snap-ego-twitter-hashtag-users.tsv.gz")? else {
        return Ok(no_data("reach #FF"));
    };
    let Some(key) = tables.data.key(KEY) else { return Ok(no_data("reach #FF")) };
    let times = effort.pick(5, 25);
    let records = tables.data.records(key) * times;
    let reach = tables.start()?;
    let obvious = Obvious::new(&tables.edges, &tables.keys);
    let mut dense = Dense::new(&tables.edges, &tables.keys);
    let expected = dense.reach(key as usize) * times;
    let users = &tables.keys[key as usize].1;
    let standings = Contest::new("records/s")
        .add(RAYBOLT, || {
            rate(records, expected, || (0..times).try_fold(0, |sum, _| Ok(sum + reach.ask(KEY)?)))
        })
        .add(OBVIOUS, || {
            rate(records, expected, || Ok((0..times).map(|_| obvious.reach(users)).sum()))
        })
        .add(BEST, || {
            rate(records, expected, || Ok((0..times).map(|_| dense.reach(key as usize)).sum()))
        })
        .run(effort.rounds())?;
    Ok(outcome("reach #FF", &standings))
}

fn outcome(title: &str, standings: &Standings) -> Outcome {
    let rows = vec![
        standings.row(title, RAYBOLT, OBVIOUS, AtLeast(1.0)),
        standings.row(format!("{title}, beside the best"), RAYBOLT, BEST, AtLeast(0.33)),
    ];
    Outcome { rows, chart: Some(standings.chart(title).with_aim(standings.figure(OBVIOUS))) }
}

fn no_data(title: &str) -> Outcome {
    Row::missing(title, "records/s", "no data").into()
}

/// Records per second, if the sum of all answers is right.
fn rate(records: u64, expected: u64, work: impl FnOnce() -> Result<u64>) -> Result<f64> {
    let start = Instant::now();
    let sum = work()?;
    let took = start.elapsed().as_secs_f64();
    ensure!(sum == expected, "the reaches add up to {sum} instead of {expected}");
    Ok(records as f64 / took)
}

/// What the budget counts: records of a generated network.
#[cfg(feature = "budget")]
pub fn paths() -> Vec<super::Path> {
    use raybolt_examples::reach::{Generate, generate};
    let data = Arc::new(generate(Generate::default()));
    let records = (0..data.keys().len() as u32).map(|key| data.records(key)).sum::<u64>() as usize;
    let options = Options { threads: Some(THREADS), ..Options::default() };
    let reach = Reach::start(data, options).expect("the topology starts");
    let all = move |_| {
        reach.ask_all(|_, _| {})?;
        Ok(records)
    };
    vec![("reach, a record", Box::new(all))]
}
