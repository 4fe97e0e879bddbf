//! Tasks and actor calls over a worker process.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use raybolt::{Array, ObjectRef, remote};

use super::{HERE, Place, Tally, TallyHandle, WORKER, after, rounds};
use crate::baselines::condvar::Pair;
use crate::baselines::socket::{CALL_BYTES, Echo};
use crate::harness::Aim::{AtLeast, AtMost};
use crate::harness::{
    Bench, Contest, Effort, Outcome, Row, Sample, Standings, latency_us, median, per_second,
};
use crate::probe;
use crate::rows::THREADS;

const SOCKET: &str = "socket round trip";
const PAIR: &str = "condvar pair";
const LONG_BYTES: usize = 100 << 10;

/// The benches of this file.
pub fn benches() -> Vec<Bench> {
    let bench = |name, about, run| Bench { name, group: "processes", about, run };
    vec![
        bench(
            "sync task over a worker",
            "One task in a worker process, its result awaited before the next. The socket round trip is a message of 48 \
             bytes to another process that blocks in `read`, and back; the condvar pair two wake-ups of threads of one \
             process.",
            sync_task,
        ),
        bench(
            "sync actor call over a worker",
            "One method call of an actor in a worker process, its result awaited before the next.",
            sync_actor,
        ),
        bench(
            "async tasks over a worker",
            "Tasks submitted without waiting, then all results awaited; one driver thread, and four. The socket sends \
             messages of 48 bytes there and back, 64 KiB in one system call.",
            async_tasks,
        ),
        bench(
            "async actor calls over a worker",
            "Calls of an actor in a worker without waiting, then all results awaited; one driver thread, and four, \
             each with an actor of its own.",
            async_actor,
        ),
        bench(
            "100 KiB task over a worker",
            "A task with an argument of 100 KiB and a result of as much, awaited before the next: an `Array<u8>`, and a \
             `Vec<u8>`.",
            long_task,
        ),
        bench(
            "queued tasks over a worker",
            "Tasks submitted while none can run, then all run in a worker and awaited, in processes of their own.",
            queued,
        ),
    ]
}

fn task_us(time: Duration) -> Sample {
    let mut x = 0;
    latency_us(time, || {
        let y = raybolt::get(after::remote(x)).expect("the task does not fail");
        assert_eq!(y, x + 1);
        x = y;
    })
}

fn actor_us(time: Duration) -> Sample {
    let tally = Tally::remote(0);
    let mut count = 0;
    latency_us(time, || {
        count += 1;
        assert_eq!(raybolt::get(tally.add(1)).expect("the call does not fail"), count);
    })
}

fn sync_task(effort: Effort) -> Result<Outcome> {
    sync("sync task over a worker", effort, task_us)
}

fn sync_actor(effort: Effort) -> Result<Outcome> {
    sync("sync actor call over a worker", effort, actor_us)
}

fn sync(title: &str, effort: Effort, call_us: fn(Duration) -> Sample) -> Result<Outcome> {
    let (pair, mut echo) = (Pair::new(), Echo::start()?);
    let time = effort.sample();
    let standings = Contest::new("us")
        .add_many(WORKER, || Place::Workers(1).within(|| Ok(call_us(time))))
        .add_many(HERE, || Place::Here.within(|| Ok(call_us(time))))
        .add_many(SOCKET, || Ok(echo.latency_us(time, CALL_BYTES)))
        .add_many(PAIR, || Ok(pair.latency_us(time)))
        .run(rounds(effort))?;
    let beside = |against| {
        standings.row(format!("{title}, beside a {against}"), WORKER, against, AtMost(0.0))
    };
    let rows = vec![
        standings.row(title, WORKER, SOCKET, AtMost(1.5)),
        beside(PAIR).without_aim(),
        Row::figure(format!("{title}, p99"), standings.nth(WORKER, 1), "us"),
        Row::figure(format!("{title}, in one process"), standings.figure(HERE), "us"),
    ];
    let aim = 1.5 * standings.figure(SOCKET);
    Ok(Outcome { rows, chart: Some(standings.chart(format!("{title}, p50")).with_aim(aim)) })
}

fn async_tasks(effort: Effort) -> Result<Outcome> {
    let count = effort.pick(40_000, 200_000);
    let run = |place: Place, threads| {
        place.within(|| {
            Ok(driven(
                count,
                threads,
                |_| after::remote(1),
                |answers| answers.iter().all(|x| *x == 2),
            ))
        })
    };
    throughput("async tasks", "tasks/s", count, effort, run)
}

fn async_actor(effort: Effort) -> Result<Outcome> {
    let count = effort.pick(40_000, 200_000);
    let run = |place: Place, threads| {
        place.within(|| {
            let tallies: Vec<TallyHandle> = (0..threads).map(|_| Tally::remote(0)).collect();
            for tally in &tallies {
                ensure!(raybolt::get(tally.add(0))? == 0, "the actor is there");
            }
            let in_order = |answers: &[u64]| answers.iter().copied().eq(1..=answers.len() as u64);
            Ok(driven(count, threads, |thread| tallies[thread].add(1), in_order))
        })
    };
    throughput("async actor calls", "calls/s", count, effort, run)
}

fn throughput(
    what: &str,
    unit: &'static str,
    count: usize,
    effort: Effort,
    run: impl Fn(Place, usize) -> Result<f64>,
) -> Result<Outcome> {
    const ONE: &str = "raybolt, a worker, 1 thread";
    const FOUR: &str = "raybolt, a worker, 4 threads";
    const ONE_HERE: &str = "raybolt, one process, 1 thread";
    const FOUR_HERE: &str = "raybolt, one process, 4 threads";
    const MESSAGES: &str = "socket, many messages";
    let echo = Echo::start()?;
    let standings = Contest::new(unit)
        .add(ONE, || run(Place::Workers(1), 1))
        .add(FOUR, || run(Place::Workers(1), 4))
        .add(ONE_HERE, || run(Place::Here, 1))
        .add(FOUR_HERE, || run(Place::Here, 4))
        .add(MESSAGES, || Ok(echo.per_second(10 * count)))
        .run(rounds(effort))?;
    let one = |against: &str| {
        let title = format!("{what} over a worker, 1 thread");
        standings.row(title, ONE, against, AtLeast(0.0)).aim_figure(AtLeast(5e5))
    };
    let title = format!("{what} over a worker, 4 threads");
    let rows = vec![
        one(ONE_HERE),
        standings.row(title.clone(), FOUR, ONE, AtLeast(1.0)),
        standings.row(title, FOUR, FOUR_HERE, AtLeast(0.0)).without_aim(),
        standings.row(format!("{what}, the link"), ONE, MESSAGES, AtLeast(0.0)).without_aim(),
    ];
    Ok(Outcome {
        rows,
        chart: Some(standings.chart(format!("{what} over a worker")).with_aim(5e5)),
    })
}

/// `threads` threads call `count` times in all, then get their results.
fn driven(
    count: usize,
    threads: usize,
    call: impl Fn(usize) -> ObjectRef<u64> + Sync,
    is_right: impl Fn(&[u64]) -> bool + Sync,
) -> f64 {
    per_second(count, || {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (call, is_right) = (&call, &is_right);
                scope.spawn(move || {
                    let refs: Vec<_> = (0..count / threads).map(|_| call(thread)).collect();
                    let answers = raybolt::get(&refs).expect("no call fails");
                    assert!(is_right(&answers), "every call answers what it should");
                });
            }
        });
    })
}

#[remote]
fn turned(mut bytes: Array<u8>) -> Array<u8> {
    bytes = with_first(&bytes).into();
    bytes
}

#[remote]
fn turned_vec(bytes: Vec<u8>) -> Vec<u8> {
    with_first(&bytes)
}

/// The same bytes, the first one counted up.
fn with_first(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[0] = bytes[0].wrapping_add(1);
    bytes
}

fn long_task(effort: Effort) -> Result<Outcome> {
    const VEC: &str = "raybolt, a worker, Vec";
    const COPY: &str = "two memcpy";
    let mut echo = Echo::start()?;
    let time = effort.sample();
    let bytes: Array<u8> = vec![7; LONG_BYTES].into();
    let arrays = || {
        latency_us(time, || {
            let answer = raybolt::get(turned::remote(bytes.clone())).expect("no task fails");
            assert!(answer.len() == LONG_BYTES && answer[0] == 8 && answer[LONG_BYTES - 1] == 7);
        })
    };
    let vecs = || {
        latency_us(time, || {
            let answer = raybolt::get(turned_vec::remote(bytes.to_vec())).expect("no task fails");
            assert!(answer.len() == LONG_BYTES && answer[0] == 8 && answer[LONG_BYTES - 1] == 7);
        })
    };
    let (mut there, mut back) = (vec![0; LONG_BYTES], vec![0; LONG_BYTES]);
    let standings = Contest::new("us")
        .add_many(WORKER, || Place::Workers(1).within(|| Ok(arrays())))
        .add_many(VEC, || Place::Workers(1).within(|| Ok(vecs())))
        .add_many(HERE, || Place::Here.within(|| Ok(arrays())))
        .add_many(SOCKET, || Ok(echo.latency_us(time, LONG_BYTES)))
        .add_many(COPY, || {
            Ok(latency_us(time, || {
                there.copy_from_slice(&bytes);
                back.copy_from_slice(std::hint::black_box(&there));
                std::hint::black_box(&back);
            }))
        })
        .run(rounds(effort))?;
    let title = "100 KiB task over a worker";
    let row = |title: String, name, against| {
        standings.row(title, name, against, AtMost(0.0)).without_aim()
    };
    let rows = vec![
        row(title.to_owned(), WORKER, SOCKET),
        row(format!("{title}, beside two memcpy"), WORKER, COPY),
        row(format!("{title}, beside one process"), WORKER, HERE),
        row(format!("{title}, Vec"), VEC, SOCKET),
    ];
    Ok(Outcome { rows, chart: Some(chart(&standings, title)) })
}

fn chart(standings: &Standings, title: &str) -> crate::report::chart::Chart {
    standings.chart(format!("{title}, p50"))
}

fn queued(effort: Effort) -> Result<Outcome> {
    let [few, some, many] =
        effort.pick(["1000", "10000", "100000"], ["1000", "100000", "10000000"]);
    // Each runs in a process of its own, so none needs a round that does not count; the longest runs once.
    let ask = |size: &str, times: usize| -> Result<Sample> {
        let runs: Result<Vec<_>> =
            (0..times).map(|_| probe::ask(&["queued-over-a-worker", size])).collect();
        let runs = runs?;
        Ok((0..2).map(|index| median(runs.iter().map(|run| run[index]))).collect())
    };
    let short = effort.pick(1, 3);
    let (first, middle, last) = (ask(few, short)?, ask(some, short)?, ask(many, 1)?);
    let row = |size: &str, nanos: f64| {
        Row::figure(format!("queued tasks over a worker, {size}"), nanos, "ns/task")
    };
    let beside = |size: &str, nanos: f64| {
        let against = format!("{few} {}", crate::harness::amount(first[0]));
        row(size, nanos).against(against, nanos / first[0]).aim(AtMost(1.3))
    };
    let memory = format!("queued tasks over a worker, {many}, driver's memory");
    let rows = vec![
        row(few, first[0]),
        beside(some, middle[0]),
        beside(many, last[0]),
        Row::figure(memory, last[1], "bytes/task"),
    ];
    Ok(Outcome { rows, chart: None })
}

/// Keeps all CPUs until the driver closes the gate's other end.
#[remote]
fn held(gate: String) {
    let mut stream = UnixStream::connect(gate).expect("the gate is there");
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The probe: nanoseconds and resident bytes a task, with `count` of them queued at once.
pub fn queued_probe(count: usize) -> Result<Sample> {
    let path = std::env::temp_dir().join(format!("raybolt-bench-{}", std::process::id()));
    let listener = UnixListener::bind(&path)?;
    let gate = path.to_string_lossy().into_owned();
    let sample = Place::Workers(1).within(|| {
        let (mut nanos, mut bytes) = (Vec::new(), 0.0);
        let start = Instant::now();
        while nanos.is_empty() || start.elapsed() < Duration::from_millis(300) {
            let holder = held::options().num_cpus(THREADS as f64).remote(gate.clone());
            let held = listener.accept()?;
            let before = probe::resident_bytes()?;
            let begin = Instant::now();
            let refs: Vec<_> = (0..count as u64).map(after::remote).collect();
            let submitted = begin.elapsed();
            bytes = (probe::resident_bytes()? - before) / count as f64;
            let begin = Instant::now();
            drop(held);
            let answers = raybolt::get(&refs)?;
            nanos.push((submitted + begin.elapsed()).as_nanos() as f64 / count as f64);
            ensure!(answers.iter().copied().eq(1..=count as u64), "every task answers");
            raybolt::get(&holder)?;
        }
        Ok(vec![median(nanos.into_iter()), bytes])
    });
    std::fs::remove_file(&path)?;
    sample
}

/// What the budget counts. The session begins with the first path that needs it: those before have theirs.
#[cfg(feature = "budget")]
pub fn paths() -> Vec<crate::rows::Path> {
    use std::cell::OnceCell;
    use std::rc::Rc;

    let session = Rc::new(OnceCell::new());
    let begin = |session: &OnceCell<raybolt::Session>| {
        let start = || Place::Workers(1).builder().start().expect("no other session is open");
        session.get_or_init(start);
    };
    let kept = session.clone();
    vec![
        (
            "sync task over a worker, the driver",
            Box::new(move |count| {
                begin(&session);
                (0..count as u64).try_for_each(|x| raybolt::get(after::remote(x)).map(drop))?;
                Ok(count)
            }),
        ),
        (
            "async task over a worker, the driver",
            Box::new(move |count| {
                begin(&kept);
                driven(count, 1, |_| after::remote(1), |answers| answers.iter().all(|x| *x == 2));
                Ok(count)
            }),
        ),
    ]
}
