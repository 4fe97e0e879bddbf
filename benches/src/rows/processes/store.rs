//! Objects in a session over processes: long ones in the store, short and many ones.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};
use raybolt::{Array, ObjectRef, remote};

use super::{HERE, Place, WORKER, after, rate, rate_for, rounds};
use crate::harness::Aim::{AtLeast, AtMost};
use crate::harness::{Bench, Contest, Effort, Outcome, Row, latency_us};

const WRITERS: usize = 4;
const REFS: usize = 1_000;
const HELD: usize = 10_000;

/// The benches of this file.
pub fn benches() -> Vec<Bench> {
    let bench = |name, about, run| Bench { name, group: "processes", about, run };
    vec![
        bench(
            "put of 1 GiB",
            "`put` of an `Array<u64>` of 1 GiB into the store whose pages are warm, by one thread, and of four quarters of \
             it by four threads at once; beside memcpy into warm pages by as many threads.",
            long_puts,
        ),
        bench(
            "small puts and gets",
            "`put` of a number, and `get` of each of many, one by one, by the driver; and by a task in a \
             worker, whose gets are of objects that the driver has put.",
            small,
        ),
        bench(
            "wait on 1,000 refs",
            "`wait` for all of 1,000 references whose tasks have run in a worker; and Ray's loop over processes, which makes the \
             tasks and takes one reference at a time.",
            waits,
        ),
        bench(
            "object of 10,000 refs",
            "`get` of one object that holds 10,000 references, which a task in a worker has made.",
            held,
        ),
    ]
}

fn long_puts(effort: Effort) -> Result<Outcome> {
    const PUT: &str = "put, 1 thread";
    const PUTS: &str = "put, 4 threads";
    const COPY: &str = "memcpy, 1 thread";
    const COPY_TWO: &str = "memcpy, 2 threads";
    const COPIES: &str = "memcpy, 4 threads";
    let bytes: usize = effort.pick(256 << 20, 1 << 30);
    let numbers = bytes / size_of::<u64>();
    let whole: Array<u64> = (0..numbers as u64).collect();
    let quarters: Vec<Array<u64>> =
        whole.chunks(numbers / WRITERS).map(|part| part.to_vec().into()).collect();
    let mut target = vec![1_u64; numbers];
    let target = std::cell::RefCell::new(&mut target);
    let gigabytes = |start: Instant| bytes as f64 / 1e9 / start.elapsed().as_secs_f64();
    let copy = |threads: usize| {
        let mut target = target.borrow_mut();
        let part = numbers / threads;
        let start = Instant::now();
        thread::scope(|scope| {
            for (to, from) in target.chunks_mut(part).zip(whole.chunks(part)) {
                scope.spawn(move || to.copy_from_slice(from));
            }
        });
        let figure = gigabytes(start);
        std::hint::black_box(&**target);
        Ok(figure)
    };
    let settings = |builder: raybolt::Builder| builder.object_store_memory(3 * bytes);
    let standings = Place::Workers(1).within_with(settings, || {
        Contest::new("GB/s")
            .add(PUT, || {
                let start = Instant::now();
                let object = raybolt::put(whole.clone())?;
                let figure = gigabytes(start);
                is_copy_of(&object, &whole)?;
                Ok(figure)
            })
            .add(PUTS, || {
                let start = Instant::now();
                let objects = thread::scope(|scope| {
                    let put = |part: &Array<u64>| raybolt::put(part.clone());
                    let puts: Vec<_> =
                        quarters.iter().map(|part| scope.spawn(move || put(part))).collect();
                    puts.into_iter().map(|put| put.join().expect("no panic")).collect::<Vec<_>>()
                });
                let figure = gigabytes(start);
                for (object, part) in objects.into_iter().zip(&quarters) {
                    is_copy_of(&object?, part)?;
                }
                Ok(figure)
            })
            .add(COPY, || copy(1))
            .add(COPY_TWO, || copy(2))
            .add(COPIES, || copy(WRITERS))
            .run(rounds(effort))
    })?;
    let title = format!("put of {} MiB", bytes >> 20);
    let two = standings.row(format!("{title}, beside two threads"), PUT, COPY_TWO, AtLeast(0.9));
    let mut rows = vec![
        standings.row(title.clone(), PUT, COPY, AtLeast(0.9)),
        two.without_aim(),
        standings.row(format!("{title} in all, 4 threads"), PUTS, COPIES, AtLeast(0.9)),
    ];
    let here = Place::Here.within(|| {
        Ok(latency_us(effort.sample(), || {
            drop(raybolt::put(whole.clone()).expect("there is room"));
        }))
    })?;
    rows.push(Row {
        note: Some("nothing is copied".to_owned()),
        ..Row::figure(format!("{title}, in one process"), here[0], "us")
    });
    Ok(Outcome { rows, chart: Some(standings.chart(title)) })
}

/// Whether a worker reads the array's elements in the store.
fn is_copy_of(object: &ObjectRef<Array<u64>>, array: &Array<u64>) -> Result<()> {
    let read = raybolt::get(sampled::remote(object))?;
    ensure!(read == sample_of(array), "the copy is right");
    Ok(())
}

#[remote]
fn sampled(array: Array<u64>) -> (usize, u64) {
    sample_of(&array)
}

/// The length, and the sum of a thousand elements and the last one.
fn sample_of(numbers: &[u64]) -> (usize, u64) {
    let places = (0..numbers.len()).step_by(numbers.len() / 1_000).chain([numbers.len() - 1]);
    (numbers.len(), places.map(|at| numbers[at]).sum())
}

/// Puts a second, within a task.
#[remote]
fn puts_inside(count: usize) -> Result<f64, String> {
    puts_and_gets(count).map(|(puts, _)| puts).map_err(|error| error.to_string())
}

/// Gets a second, within a task, of objects that another process has.
#[remote]
fn gets_inside(refs: Vec<ObjectRef<u64>>) -> Result<f64, String> {
    gets(&refs).map_err(|error| error.to_string())
}

fn puts_and_gets(count: usize) -> Result<(f64, f64)> {
    let mut refs = Vec::with_capacity(count);
    let puts = rate(count, || {
        for x in 0..count as u64 {
            refs.push(raybolt::put(x)?);
        }
        Ok(())
    })?;
    Ok((puts, gets(&refs)?))
}

/// Gets a second of objects that were put from 0 up.
fn gets(refs: &[ObjectRef<u64>]) -> Result<f64> {
    rate(refs.len(), || {
        for (x, object) in refs.iter().enumerate() {
            ensure!(raybolt::get(object)? == x as u64, "what was put is there");
        }
        Ok(())
    })
}

fn small(effort: Effort) -> Result<Outcome> {
    const TASK: &str = "a task in a worker";
    let count = effort.pick(20_000, 100_000);
    let pair = |(puts, gets)| vec![puts, gets];
    let inside = || -> Result<_> {
        let puts = raybolt::get(puts_inside::remote(count / 10))?;
        let refs: Vec<_> = (0..count as u64 / 10).map(raybolt::put).collect::<Result<_, _>>()?;
        Ok((puts, raybolt::get(gets_inside::remote(refs))?))
    };
    let standings = Contest::new("1/s")
        .add_many(WORKER, || Place::Workers(1).within(|| Ok(pair(puts_and_gets(count)?))))
        .add_many(HERE, || Place::Here.within(|| Ok(pair(puts_and_gets(count)?))))
        .add_many(TASK, || Place::Workers(1).within(|| Ok(pair(inside()?))))
        .run(rounds(effort))?;
    let row = |index, what: &str| {
        let [ours, here] = [WORKER, HERE].map(|name| standings.nth(name, index));
        Row::figure(format!("small {what}, the driver of a worker"), ours, "1/s")
            .against(format!("{HERE} {}", crate::harness::amount(here)), ours / here)
            .aim_figure(AtLeast(5e5))
    };
    let by_task = |index, what: &str| {
        Row::figure(format!("small {what}, {TASK}"), standings.nth(TASK, index), "1/s")
    };
    let rows = vec![row(0, "puts"), row(1, "gets"), by_task(0, "puts"), by_task(1, "gets")];
    Ok(Outcome { rows, chart: Some(standings.chart("small puts").with_aim(5e5)) })
}

fn waits(effort: Effort) -> Result<Outcome> {
    const LOOP: &str = "one by one, a worker";
    const LOOP_HERE: &str = "one by one, one process";
    let all = || {
        let refs: Vec<_> = (0..REFS as u64).map(after::remote).collect();
        raybolt::get(&refs)?;
        rate_for(effort, || {
            let (ready, remaining) = raybolt::wait(&refs, REFS, None)?;
            ensure!(ready.len() == REFS && remaining.is_empty(), "all are ready");
            Ok(())
        })
    };
    let one_by_one = || {
        rate_for(effort, || {
            let mut left: Vec<_> = (0..REFS as u64).map(after::remote).collect();
            while !left.is_empty() {
                let before = left.len();
                (_, left) = raybolt::wait(left, 1, None)?;
                ensure!(left.len() < before, "one is ready");
            }
            Ok(())
        })
    };
    let standings = Contest::new("waits/s")
        .add(WORKER, || Place::Workers(1).within(all))
        .add(HERE, || Place::Here.within(all))
        .add(LOOP, || Place::Workers(1).within(one_by_one))
        .add(LOOP_HERE, || Place::Here.within(one_by_one))
        .run(rounds(effort))?;
    let rows = vec![
        standings.row("wait on 1,000 refs", WORKER, HERE, AtMost(0.0)).aim_figure(AtLeast(1e4)),
        standings.row("wait on 1,000 refs, one by one", LOOP, LOOP_HERE, AtMost(0.0)).without_aim(),
    ];
    Ok(Outcome { rows, chart: Some(standings.chart("wait on 1,000 refs").with_aim(1e4)) })
}

/// References to many new objects.
#[remote]
fn many(count: usize) -> Result<Vec<ObjectRef<u64>>, String> {
    let refs: Result<_, _> = (0..count as u64).map(raybolt::put).collect();
    refs.map_err(|error: raybolt::Error| error.to_string())
}

fn held(effort: Effort) -> Result<Outcome> {
    const CLONES: &str = "clones of an Arc";
    let gets = || {
        let object = many::remote(HELD);
        let refs = raybolt::get(&object)?;
        ensure!(raybolt::get(&refs[HELD - 1])? == HELD as u64 - 1, "the last one is there");
        rate_for(effort, || {
            ensure!(raybolt::get(&object)?.len() == HELD, "all references are there");
            Ok(())
        })
    };
    let arcs: Vec<Arc<u64>> = (0..HELD as u64).map(Arc::new).collect();
    let standings = Contest::new("gets/s")
        .add(WORKER, || Place::Workers(1).within(gets))
        .add(HERE, || Place::Here.within(gets))
        .add(CLONES, || {
            rate_for(effort, || {
                let clones = std::hint::black_box(arcs.clone());
                ensure!(clones.len() == HELD, "all are there");
                Ok(())
            })
        })
        .run(rounds(effort))?;
    let title = "object of 10,000 refs";
    let rows = vec![
        standings.row(title, WORKER, HERE, AtLeast(0.0)).aim_figure(AtLeast(1_600.0)),
        standings
            .row(format!("{title}, beside {CLONES}"), WORKER, CLONES, AtLeast(0.0))
            .without_aim(),
    ];
    Ok(Outcome { rows, chart: Some(standings.chart(title).with_aim(1_600.0)) })
}
