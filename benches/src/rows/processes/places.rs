//! Placement groups and actors that are made over and over.

use std::time::Duration;

use anyhow::{Result, ensure};
use raybolt::{Bundle, PlacementStrategy, placement_group};

use super::{HERE, Place, Tally, TallyHandle, WORKER, rate, rounds};
use crate::baselines::socket::{CALL_BYTES, Echo};
use crate::harness::Aim::AtLeast;
use crate::harness::{Bench, Contest, Effort, Outcome};

const SOCKET: &str = "socket round trips";

/// The benches of this file.
pub fn benches() -> Vec<Bench> {
    let bench = |name, about, run| Bench { name, group: "processes", about, run };
    vec![
        bench(
            "placement groups",
            "A placement group of one bundle is made, awaited and removed, one after the other.",
            groups,
        ),
        bench(
            "actor creation",
            "Actors that are made in a warm worker, all at once, and have answered a call each. The socket makes a \
             round trip for each, one after the other.",
            actors,
        ),
    ]
}

fn groups(effort: Effort) -> Result<Outcome> {
    let count = effort.pick(2_000, 10_000);
    let made = || {
        rate(count, || {
            for _ in 0..count {
                let bundles = [Bundle::new().num_cpus(1.0)];
                let group = placement_group(bundles, PlacementStrategy::Pack).create()?;
                group.wait(Duration::from_secs(10))?;
                group.remove()?;
            }
            Ok(())
        })
    };
    let standings = Contest::new("groups/s")
        .add(WORKER, || Place::Workers(1).within(made))
        .add(HERE, || Place::Here.within(made))
        .run(rounds(effort))?;
    let title = "placement groups made and removed";
    let row = standings.row(title, WORKER, HERE, AtLeast(0.0)).aim_figure(AtLeast(1e4));
    Ok(Outcome { rows: vec![row], chart: Some(standings.chart(title).with_aim(1e4)) })
}

fn actors(effort: Effort) -> Result<Outcome> {
    let count = effort.pick(500, 2_000);
    let made = || {
        let mut kept: Vec<TallyHandle> = Vec::new();
        rate(count, || {
            kept.extend((0..count as u64).map(Tally::remote));
            let answers: Vec<_> = kept.iter().map(|tally| tally.add(1)).collect();
            let answers = raybolt::get(&answers)?;
            ensure!(answers.into_iter().eq(1..=count as u64), "every actor answers");
            Ok(())
        })
    };
    let mut echo = Echo::start()?;
    let mut message = [1; CALL_BYTES];
    let standings = Contest::new("actors/s")
        .add(WORKER, || Place::Workers(1).within(made))
        .add(HERE, || Place::Here.within(made))
        .add(SOCKET, || {
            rate(count, || {
                (0..count).for_each(|_| echo.round_trip(&mut message));
                Ok(())
            })
        })
        .run(rounds(effort))?;
    let title = "actors made in a warm worker";
    let row = |against| standings.row(title, WORKER, against, AtLeast(0.0));
    let rows = vec![row(HERE).aim_figure(AtLeast(5_000.0)), row(SOCKET).without_aim()];
    Ok(Outcome { rows, chart: Some(standings.chart(title).with_aim(5_000.0)) })
}
