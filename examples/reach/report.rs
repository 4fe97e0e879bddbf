//! What is printed: for people, or with `--json` for programs.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use raybolt_examples::reach::Data;
use serde::Serialize;

/// The outcome of a run.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    Introduction(Tables),
    One(Answer),
    All(Summary),
}

#[derive(Debug, Serialize)]
pub struct Tables {
    pub tables: Vec<Answer>,
    pub generated: Generated,
}

#[derive(Debug, Serialize)]
pub struct Generated {
    pub seed: u64,
    pub users: usize,
    pub edges: usize,
    #[serde(flatten)]
    pub summary: Summary,
}

#[derive(Debug, Serialize)]
pub struct Answer {
    pub key: String,
    pub reach: u64,
}

/// The answers to all keys.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub keys: usize,
    pub records: u64,
    pub sum: u64,
    pub seconds: f64,
    pub records_per_second: u64,
    pub top: Vec<Answer>,
}

impl Summary {
    /// Of `answers[key]`, which took `elapsed` to compute; lists the `top` largest.
    pub fn new(data: &Data, answers: &[u64], elapsed: Duration, top: usize) -> Summary {
        let keys = data.keys();
        let records = (0..keys.len() as u32).map(|key| data.records(key)).sum();
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by_key(|&key| Reverse(answers[key as usize]));
        let answer =
            |&key: &u32| Answer { key: keys.name(key).to_owned(), reach: answers[key as usize] };
        Summary {
            keys: keys.len(),
            records,
            sum: answers.iter().sum(),
            seconds: elapsed.as_secs_f64(),
            records_per_second: (records as f64 / elapsed.as_secs_f64()) as u64,
            top: order.iter().take(top).map(answer).collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Introduction(Tables { tables, generated }) => {
                for answer in tables {
                    writeln!(f, "{answer}")?;
                }
                let Generated { seed, users, edges, summary } = generated;
                writeln!(f, "\ngenerated from seed {seed}: {users} users, {edges} edges")?;
                write!(f, "{summary}")
            }
            Report::One(answer) => write!(f, "{}", answer.reach),
            Report::All(summary) => {
                for answer in &summary.top {
                    writeln!(f, "{answer}")?;
                }
                write!(f, "{summary}")
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reach)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { keys, records, sum, seconds, records_per_second, .. } = self;
        writeln!(f, "{keys} keys, {records} follower records, sum of reach {sum}")?;
        write!(f, "{seconds:.3} s, {records_per_second} records/s")
    }
}
