//! Flow.
use anyhow::Result;

use crate::baselines::timely_words::words_per_second;
use crate::harness::{Bench, Contest, Effort, Outcome, Row};
use crate::words::Text;

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    vec![Bench { name: "word count", group: "flow", about: "x", run: words }]
}

fn words(effort: Effort) -> Result<Outcome> {
    let text = Text::new();
    let n = effort.pick(100_000, 400_000);
    let s = Contest::new("words/s")
        .add("timely 2", || Ok(words_per_second(&text, n, 2)))
        .add("timely 1", || Ok(words_per_second(&text, n, 1)))
        .run(effort.rounds())?;
    let rows = ["timely 2", "timely 1"].map(|name| Row::figure(name, s.figure(name), "words/s"));
    Ok(Outcome { rows: rows.into(), chart: Some(s.chart("words")) })
}
