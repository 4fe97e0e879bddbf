//! Objects: many at once. What is asked is that the cost of one does not grow with their number.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use raybolt::{ObjectRef, remote};

use super::calls;
use crate::harness::Aim::{AtLeast, AtMost};
use crate::harness::{Bench, Contest, Effort, Outcome, Row, median};

const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// How much more one of many may cost than one of few: a square would show as 10.
const FLAT: f64 = 1.3;
/// Waits for 1,000 references one by one, a second, in Ray 2.60 on this kind of machine.
const RAY_WAITS_PER_SECOND: f64 = 2.2;

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    vec![
        Bench {
            name: "wait",
            group: "objects",
            about: "`wait` for all of 1,000, and of 10,000, references whose tasks run meanwhile; and Ray's own loop, which \
                    takes 1,000 references one by one with `wait` until none is left.",
            run: waits,
        },
        Bench {
            name: "get of refs in a value",
            group: "objects",
            about: "`get` of one object that holds 1,000, and 10,000, references.",
            run: inside,
        },
        Bench {
            name: "get of many",
            group: "objects",
            about: "`get` of 1,000, and of 10,000, objects at once.",
            run: many,
        },
    ]
}

#[remote]
fn same(x: u64) -> u64 {
    x
}

fn waits(effort: Effort) -> Result<Outcome> {
    let _session = calls::session()?;
    let time = effort.sample();
    let one_by_one = "one by one, 1,000 refs";
    let flat = flatness("wait", effort, |count| {
        let refs: Vec<_> = (0..count as u64).map(same::remote).collect();
        nanos_per(count, || {
            let (ready, remaining) = raybolt::wait(&refs, count, None)?;
            ensure!(ready.len() == count && remaining.is_empty(), "all are ready");
            Ok(())
        })
    })?;
    let loops = Contest::new("loops/s")
        .add(one_by_one, || {
            per_second_for(time, || {
                let mut left: Vec<_> = (0..FEW as u64).map(same::remote).collect();
                while !left.is_empty() {
                    (_, left) = raybolt::wait(left, 1, None)?;
                }
                Ok(())
            })
        })
        .run(effort.rounds())?;
    let figure = loops.figure(one_by_one);
    let mut outcome = flat;
    outcome.rows.push(
        Row::figure("wait, one by one, 1,000 refs", figure, "loops/s")
            .against("Ray 2.60 2.2", figure / RAY_WAITS_PER_SECOND)
            .aim(AtLeast(500.0)),
    );
    Ok(outcome)
}

fn inside(effort: Effort) -> Result<Outcome> {
    let _session = calls::session()?;
    let holder = |count| -> Result<ObjectRef<Vec<ObjectRef<u64>>>> {
        let refs: Result<Vec<_>, _> = (0..count as u64).map(raybolt::put).collect();
        Ok(raybolt::put(refs?)?)
    };
    let (few, many) = (holder(FEW)?, holder(MANY)?);
    flatness("get of refs in a value", effort, |count| {
        let object = if count == FEW { &few } else { &many };
        nanos_per(count, || {
            let refs = raybolt::get(object)?;
            ensure!(refs.len() == count, "all references are there");
            Ok(())
        })
    })
}

fn many(effort: Effort) -> Result<Outcome> {
    let _session = calls::session()?;
    let refs: Vec<_> = (0..MANY as u64).map(raybolt::put).collect::<Result<_, _>>()?;
    flatness("get of many", effort, |count| {
        nanos_per(count, || {
            let values = raybolt::get(&refs[..count])?;
            ensure!(values.len() == count, "all values are there");
            Ok(())
        })
    })
}

/// A row for few and one for many; `nanos(count)` does it once and returns the cost of one.
fn flatness(
    title: &'static str,
    effort: Effort,
    nanos: impl Fn(usize) -> Result<f64>,
) -> Result<Outcome> {
    let time = effort.sample();
    let medium = |count| {
        let start = Instant::now();
        let mut runs = Vec::new();
        while runs.is_empty() || start.elapsed() < time {
            runs.push(nanos(count)?);
        }
        Ok(median(runs.into_iter()))
    };
    let (few, many) = ("1,000 refs", "10,000 refs");
    let standings = Contest::new("ns/ref")
        .add(few, || medium(FEW))
        .add(many, || medium(MANY))
        .run(effort.rounds())?;
    let rows = vec![
        Row::figure(format!("{title}, {few}"), standings.figure(few), "ns/ref"),
        standings.row(format!("{title}, {many}"), many, few, AtMost(FLAT)),
    ];
    Ok(Outcome { rows, chart: Some(standings.chart(title)) })
}

fn nanos_per(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_nanos() as f64 / count as f64)
}

/// How often `work` is done in a second, doing it for `time`.
fn per_second_for(time: Duration, work: impl Fn() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    let mut times = 0.0;
    while times == 0.0 || start.elapsed() < time {
        work()?;
        times += 1.0;
    }
    Ok(times / start.elapsed().as_secs_f64())
}
