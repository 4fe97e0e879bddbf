//! Tasks and actors.

use anyhow::Result;

use crate::baselines::condvar::Pair;
use crate::baselines::kameo_actor::Kameo;
use crate::baselines::tokio_tasks::Tokio;
use crate::harness::{Bench, Contest, Effort, Outcome, Row};

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    vec![
        Bench { name: "sync task", group: "calls", about: "x", run: sync },
        Bench { name: "tasks", group: "calls", about: "x", run: many },
    ]
}

fn sync(effort: Effort) -> Result<Outcome> {
    let pair = Pair::new();
    let tokio = Tokio::new(2);
    let kameo = Kameo::new(2);
    let time = effort.sample();
    let s = Contest::new("us")
        .add_many("pair", || Ok(pair.latency_us(time)))
        .add_many("tokio out", || Ok(tokio.outside_us(time)))
        .add_many("tokio in", || Ok(tokio.inside_us(time)))
        .add_many("kameo out", || Ok(kameo.outside_us(time)))
        .add_many("kameo in", || Ok(kameo.inside_us(time)))
        .run(effort.rounds())?;
    let rows = ["pair", "tokio out", "tokio in", "kameo out", "kameo in"]
        .map(|name| Row::figure(name, s.figure(name), "us").against("pair", s.ratio(name, "pair")));
    Ok(Outcome { rows: rows.into(), chart: Some(s.chart("sync")) })
}

fn many(effort: Effort) -> Result<Outcome> {
    let tokio = Tokio::new(2);
    let kameo = Kameo::new(2);
    let n = effort.pick(100_000, 400_000);
    let s = Contest::new("1/s")
        .add("t1 out", || Ok(tokio.outside_per_second(n, 1)))
        .add("t1 in", || Ok(tokio.inside_per_second(n, 1)))
        .add("t8 out", || Ok(tokio.outside_per_second(n, 8)))
        .add("t8 in", || Ok(tokio.inside_per_second(n, 8)))
        .add("k1 in", || Ok(kameo.inside_per_second(n, 1)))
        .add("k8 in", || Ok(kameo.inside_per_second(n, 8)))
        .run(effort.rounds())?;
    let rows = ["t1 out", "t1 in", "t8 out", "t8 in", "k1 in", "k8 in"].map(|name| {
        Row::figure(name, s.figure(name), "1/s").against("t1 out", s.ratio(name, "t1 out"))
    });
    Ok(Outcome { rows: rows.into(), chart: Some(s.chart("many")) })
}
