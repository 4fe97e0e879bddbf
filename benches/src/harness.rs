//! Rows, and how they come about: in turns, by medians.
//!
//! # Words
//! A *bench* is one measurement; it makes a few *rows* and at most one *chart*. A *contender* is one
//! of the programs it compares: raybolt, a peer, or a limit of the machine. A *sample* is what one
//! contender scored in one *round*.
//!
//! # Protocol
//! 1. Each contender runs once, uncounted: code is paged in, threads exist, maps have grown.
//! 2. A round lets every contender run once, in the same order: A B C, A B C, ..
//! 3. A figure is the median of a contender's samples. A ratio is the median over the rounds of *the
//!    ratio within one round*, so that a machine whose speed drifts changes both sides of it.
//!
//! # Not promised
//! That figures of two runs can be compared, or those of two benches. Ratios can.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::report::chart::{Bar, Chart};

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Whether to finish everything within a minute.
    pub quick: bool,
}

impl Effort {
    /// How many rounds count.
    pub fn rounds(self) -> usize {
        if self.quick { 3 } else { 9 }
    }

    /// How long one sample of something short takes.
    pub fn sample(self) -> Duration {
        Duration::from_millis(if self.quick { 30 } else { 250 })
    }

    /// One of two sizes.
    pub fn pick<T>(self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// A bench: what it is called, what it is about and how it runs.
pub struct Bench {
    /// Two or three words; the filter looks here and in the group.
    pub name: &'static str,
    /// The file of `rows` it comes from.
    pub group: &'static str,
    /// A sentence for `--list` and the page.
    pub about: &'static str,
    /// Measures.
    pub run: fn(Effort) -> Result<Outcome>,
}

/// What a bench found.
#[derive(Default)]
pub struct Outcome {
    /// At least one row.
    pub rows: Vec<Row>,
    /// All contenders side by side.
    pub chart: Option<Chart>,
}

impl From<Row> for Outcome {
    fn from(row: Row) -> Self {
        Outcome { rows: vec![row], chart: None }
    }
}

/// One line of the table, one object of the JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// How much it is; `null` if it could not be measured, see `note`.
    pub figure: Option<f64>,
    /// What the figure counts.
    pub unit: &'static str,
    /// What the ratio compares with.
    pub against: Option<String>,
    /// The figure over that of `against`.
    pub ratio: Option<f64>,
    /// What we want: of the ratio if there is one, of the figure otherwise.
    pub aim: Option<Aim>,
    /// Whether we have it.
    pub met: Option<bool>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A bound on a ratio or a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

impl Aim {
    /// Whether `value` keeps the bound.
    pub fn met(self, value: f64) -> bool {
        match self {
            Aim::AtMost(bound) => value <= bound,
            Aim::AtLeast(bound) => value >= bound,
        }
    }

    /// The bound alone.
    pub fn bound(self) -> f64 {
        let (Aim::AtMost(bound) | Aim::AtLeast(bound)) = self;
        bound
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if matches!(self, Aim::AtMost(_)) { "≤" } else { "≥" };
        write!(f, "{sign} {}", amount(self.bound()))
    }
}

impl Serialize for Aim {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Row {
    /// A figure that stands alone.
    pub fn figure(name: impl Into<String>, figure: f64, unit: &'static str) -> Row {
        Row {
            name: name.into(),
            figure: Some(figure),
            unit,
            against: None,
            ratio: None,
            aim: None,
            met: None,
            note: None,
        }
    }

    /// A row that could not be measured here.
    pub fn missing(name: impl Into<String>, unit: &'static str, why: impl Into<String>) -> Row {
        Row { figure: None, note: Some(why.into()), ..Row::figure(name, 0.0, unit) }
    }

    /// Sets the ratio and what it is taken to.
    pub fn against(mut self, against: impl Into<String>, ratio: f64) -> Row {
        self.against = Some(against.into());
        self.ratio = Some(ratio);
        self
    }

    /// Sets the aim and judges: the ratio if there is one, else the figure.
    pub fn aim(mut self, aim: Aim) -> Row {
        self.aim = Some(aim);
        self.met = self.ratio.or(self.figure).map(|value| aim.met(value));
        self
    }

    /// Sets the aim and judges the figure, whatever ratio stands beside it.
    pub fn aim_figure(self, aim: Aim) -> Row {
        let met = self.figure.map(|figure| aim.met(figure));
        Row { aim: Some(aim), met, ..self }
    }

    /// Takes the aim away: the ratio is there for information.
    pub fn without_aim(self) -> Row {
        Row { aim: None, met: None, ..self }
    }
}

/// What a contender scored in one round: several figures of one run, such as p50 and p99.
pub type Sample = Vec<f64>;

type Run<'a> = Box<dyn FnMut() -> Result<Sample> + 'a>;

/// Contenders that run in turns.
pub struct Contest<'a> {
    unit: &'static str,
    contenders: Vec<(&'static str, Run<'a>)>,
}

/// How the contenders did.
pub struct Standings {
    unit: &'static str,
    names: Vec<&'static str>,
    /// By contender, round and figure.
    samples: Vec<Vec<Sample>>,
}

impl<'a> Contest<'a> {
    /// A contest in `unit`. The first contender is ours.
    pub fn new(unit: &'static str) -> Self {
        Contest { unit, contenders: Vec::new() }
    }

    /// Adds a contender that scores one figure a round.
    pub fn add(mut self, name: &'static str, mut run: impl FnMut() -> Result<f64> + 'a) -> Self {
        self.contenders.push((name, Box::new(move || Ok(vec![run()?]))));
        self
    }

    /// Adds a contender that scores several figures a round.
    pub fn add_many(
        mut self,
        name: &'static str,
        run: impl FnMut() -> Result<Sample> + 'a,
    ) -> Self {
        self.contenders.push((name, Box::new(run)));
        self
    }

    /// Warms up, then runs the rounds.
    pub fn run(mut self, rounds: usize) -> Result<Standings> {
        for (_, run) in &mut self.contenders {
            run()?;
        }
        let mut samples = vec![Vec::with_capacity(rounds); self.contenders.len()];
        for _ in 0..rounds {
            for ((_, run), samples) in self.contenders.iter_mut().zip(&mut samples) {
                samples.push(run()?);
            }
        }
        let names = self.contenders.iter().map(|(name, _)| *name).collect();
        Ok(Standings { unit: self.unit, names, samples })
    }
}

impl Standings {
    /// The median of a contender's first figure.
    pub fn figure(&self, name: &str) -> f64 {
        self.nth(name, 0)
    }

    /// The median of a contender's figure number `index`.
    pub fn nth(&self, name: &str, index: usize) -> f64 {
        median(self.of(name).iter().map(|sample| sample[index]))
    }

    /// The median over the rounds of one contender's first figure over another's.
    pub fn ratio(&self, name: &str, against: &str) -> f64 {
        let pairs = self.of(name).iter().zip(self.of(against));
        median(pairs.map(|(ours, theirs)| ours[0] / theirs[0]))
    }

    /// The contender with the least (`AtMost`) or greatest (`AtLeast`) figure of those named.
    pub fn best<'n>(&self, names: &[&'n str], sense: Aim) -> &'n str {
        let score = |name: &&&str| match sense {
            Aim::AtMost(_) => -self.figure(name),
            Aim::AtLeast(_) => self.figure(name),
        };
        names.iter().max_by(|a, b| score(a).total_cmp(&score(b))).expect("someone took part")
    }

    /// A row: `name`'s figure, its ratio to that of `against`, judged by `aim`.
    pub fn row(&self, title: impl Into<String>, name: &str, against: &str, aim: Aim) -> Row {
        let theirs = format!("{against} {}", amount(self.figure(against)));
        Row::figure(title, self.figure(name), self.unit)
            .against(theirs, self.ratio(name, against))
            .aim(aim)
    }

    /// A chart of all contenders, with the least and greatest sample of each.
    pub fn chart(&self, title: impl Into<String>) -> Chart {
        let bars =
            self.names.iter().zip(&self.samples).enumerate().map(|(index, (name, samples))| {
                let figures = || samples.iter().map(|sample| sample[0]);
                Bar {
                    name: (*name).to_owned(),
                    low: figures().fold(f64::INFINITY, f64::min),
                    figure: median(figures()),
                    high: figures().fold(0.0, f64::max),
                    ours: index == 0,
                }
            });
        Chart { title: title.into(), unit: self.unit, bars: bars.collect(), aim: None }
    }

    fn of(&self, name: &str) -> &[Sample] {
        let index = self.names.iter().position(|have| *have == name);
        &self.samples[index.expect("a contender of this contest")]
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Runs `call` over and over for about `time`; p50 and p99 of one call in microseconds.
pub fn latency_us(time: Duration, mut call: impl FnMut()) -> Sample {
    let mut nanos: Vec<u32> = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    let mut before = start;
    while before.duration_since(start) < time && nanos.len() < nanos.capacity() {
        call();
        let after = Instant::now();
        let took = after.duration_since(before).as_nanos();
        nanos.push(u32::try_from(took).unwrap_or(u32::MAX));
        before = after;
    }
    percentiles_us(nanos)
}

/// p50 and p99 in microseconds.
pub fn percentiles_us(mut nanos: Vec<u32>) -> Sample {
    nanos.sort_unstable();
    let at = |share: usize| f64::from(nanos[(nanos.len() - 1) * share / 100]) / 1_000.0;
    vec![at(50), at(99)]
}

/// Runs `work` once; how many of `count` it did in a second.
pub fn per_second(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    count as f64 / start.elapsed().as_secs_f64()
}

/// A number with three digits that count.
pub fn amount(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, " G"),
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let text = match scaled.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{scaled:.0}"),
        v if v >= 10.0 => format!("{scaled:.1}"),
        v if v >= 0.1 => format!("{scaled:.2}"),
        _ => format!("{scaled:.4}"),
    };
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_within_rounds() {
        // The first samples warm up. Ratios are 1/2, 2 and 3, medians 2 and 2.
        let mut ours = [9.0, 1.0, 2.0, 30.0].into_iter();
        let mut theirs = [9.0, 2.0, 1.0, 10.0].into_iter();
        let standings = Contest::new("us")
            .add("ours", || Ok(ours.next().unwrap()))
            .add("theirs", || Ok(theirs.next().unwrap()))
            .run(3)
            .unwrap();
        assert_eq!(standings.figure("ours"), 2.0);
        assert_eq!(standings.ratio("ours", "theirs"), 2.0);
        assert_eq!(standings.figure("theirs"), 2.0);
        let row = standings.row("x", "ours", "theirs", Aim::AtMost(1.5));
        assert_eq!((row.met, row.against.as_deref()), (Some(false), Some("theirs 2")));
    }

    #[test]
    fn the_best_is_the_least_or_the_greatest_as_the_aim_has_it() {
        let contest = Contest::new("us").add("a", || Ok(1.0)).add("b", || Ok(2.0));
        let standings = contest.run(1).unwrap();
        assert_eq!(standings.best(&["a", "b"], Aim::AtMost(0.0)), "a");
        assert_eq!(standings.best(&["a", "b"], Aim::AtLeast(0.0)), "b");
    }

    #[test]
    fn an_aim_judges_the_ratio_before_the_figure() {
        assert_eq!(Row::figure("x", 5.0, "s").aim(Aim::AtMost(1.0)).met, Some(false));
        let row = Row::figure("x", 5.0, "s").against("y", 0.5).aim(Aim::AtMost(1.0));
        assert_eq!(row.met, Some(true));
        assert_eq!(Row::missing("x", "s", "no data").aim(Aim::AtMost(1.0)).met, None);
    }

    #[test]
    fn amounts_keep_three_digits() {
        let cases = [(0.00123, "0.0012"), (1.5, "1.5"), (14.96, "15"), (123.4, "123")];
        for (value, text) in cases {
            assert_eq!(amount(value), text);
        }
        assert_eq!(amount(1_234_567.0), "1.23 M");
        assert_eq!(amount(43_700.0), "43.7 k");
        assert_eq!(amount(100.0), "100");
    }

    #[test]
    fn percentiles_come_from_sorted_samples() {
        let nanos = (1..=100).rev().map(|i| i * 1_000).collect();
        assert_eq!(percentiles_us(nanos), [50.0, 99.0]);
    }
}
