//! Tasks and actors: what one call costs, how many go through, how deep they queue.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use raybolt::{ObjectRef, remote};

use super::THREADS;
use crate::baselines::condvar::Pair;
use crate::baselines::kameo_actor::Kameo;
use crate::baselines::tokio_tasks::Tokio;
use crate::harness::Aim::{AtLeast, AtMost};
use crate::harness::{Bench, Contest, Effort, Outcome, Row, Sample, Standings, latency_us};
use crate::probe;

const RAYBOLT: &str = "raybolt";
const RAYBOLT_INSIDE: &str = "raybolt, from a task";
const PAIR: &str = "condvar pair";
const TOKIO: &str = "tokio";
const TOKIO_INSIDE: &str = "tokio, from a task";
const KAMEO: &str = "kameo";
const KAMEO_INSIDE: &str = "kameo, from a task";
const PEERS: [&str; 4] = [TOKIO, TOKIO_INSIDE, KAMEO, KAMEO_INSIDE];

/// The benches of this group.
pub fn benches() -> Vec<Bench> {
    vec![
        Bench {
            name: "sync task",
            group: "calls",
            about: "One task, its result awaited before the next: `get(&next::remote(x))` from a plain thread. A \
                    condvar pair is two thread wake-ups; tokio spawns a task that answers by a oneshot; kameo asks.",
            run: sync_task,
        },
        Bench {
            name: "sync actor call",
            group: "calls",
            about: "One method call of an actor, its result awaited before the next.",
            run: sync_actor,
        },
        Bench {
            name: "async tasks",
            group: "calls",
            about: "Tasks submitted without waiting, then all results awaited; one driver thread, and eight.",
            run: async_tasks,
        },
        Bench {
            name: "async actor calls",
            group: "calls",
            about: "Calls of one actor without waiting, then all results awaited; one driver thread, and eight.",
            run: async_actor,
        },
        Bench {
            name: "queued tasks",
            group: "calls",
            about: "Tasks submitted while none can run, then all run and awaited, in a process of their own.",
            run: queued,
        },
    ]
}

/// What every task here does.
#[remote]
fn next(x: u64) -> u64 {
    x + 1
}

/// Calls of `next` from within a task.
#[remote]
fn nested_us(time: Duration) -> Sample {
    task_us(time)
}

struct Counter(u64);

#[remote]
impl Counter {
    pub fn new(start: u64) -> Self {
        Counter(start)
    }

    pub fn add(&mut self, x: u64) -> u64 {
        self.0 += x;
        self.0
    }
}

/// A runtime with our number of threads.
pub fn session() -> Result<raybolt::Session> {
    Ok(raybolt::Builder::new().num_cpus(THREADS as f64).worker_threads(THREADS).start()?)
}

fn task_us(time: Duration) -> Sample {
    let mut x = 0;
    latency_us(time, || x = raybolt::get(&next::remote(x)).expect("the task does not fail"))
}

fn sync_task(effort: Effort) -> Result<Outcome> {
    let _session = session()?;
    let (pair, tokio, kameo) = (Pair::new(), Tokio::new(THREADS), Kameo::new(THREADS));
    let time = effort.sample();
    let standings = Contest::new("us")
        .add_many(RAYBOLT, || Ok(task_us(time)))
        .add_many(RAYBOLT_INSIDE, || Ok(raybolt::get(&nested_us::remote(time))?))
        .add_many(PAIR, || Ok(pair.latency_us(time)))
        .add_many(TOKIO, || Ok(tokio.outside_us(time)))
        .add_many(TOKIO_INSIDE, || Ok(tokio.inside_us(time)))
        .add_many(KAMEO, || Ok(kameo.outside_us(time)))
        .add_many(KAMEO_INSIDE, || Ok(kameo.inside_us(time)))
        .run(effort.rounds())?;
    let mut outcome = sync_rows("sync task", &standings);
    let inside = standings.row("sync task, from a task", RAYBOLT_INSIDE, TOKIO_INSIDE, AtMost(1.0));
    outcome.rows.push(inside.without_aim());
    Ok(outcome)
}

fn sync_actor(effort: Effort) -> Result<Outcome> {
    let _session = session()?;
    let counter = Counter::remote(0);
    let (pair, tokio, kameo) = (Pair::new(), Tokio::new(THREADS), Kameo::new(THREADS));
    let time = effort.sample();
    let call = || {
        raybolt::get(&counter.add(1)).expect("the call does not fail");
    };
    let standings = Contest::new("us")
        .add_many(RAYBOLT, || Ok(latency_us(time, call)))
        .add_many(PAIR, || Ok(pair.latency_us(time)))
        .add_many(TOKIO, || Ok(tokio.outside_us(time)))
        .add_many(TOKIO_INSIDE, || Ok(tokio.inside_us(time)))
        .add_many(KAMEO, || Ok(kameo.outside_us(time)))
        .add_many(KAMEO_INSIDE, || Ok(kameo.inside_us(time)))
        .run(effort.rounds())?;
    Ok(sync_rows("sync actor call", &standings))
}

fn sync_rows(title: &str, standings: &Standings) -> Outcome {
    let better = standings.best(&PEERS, AtMost(0.0));
    let rows = vec![
        standings.row(title, RAYBOLT, PAIR, AtMost(1.5)),
        standings.row(format!("{title}, beside the best peer"), RAYBOLT, better, AtMost(1.0)),
        Row::figure(format!("{title}, p99"), standings.nth(RAYBOLT, 1), "us"),
    ];
    let aim = 1.5 * standings.figure(PAIR);
    Outcome { rows, chart: Some(standings.chart(format!("{title}, p50")).with_aim(aim)) }
}

fn async_tasks(effort: Effort) -> Result<Outcome> {
    let _session = session()?;
    let tokio = Tokio::new(THREADS);
    let count = effort.pick(80_000, 400_000);
    let standings = Contest::new("tasks/s")
        .add("raybolt, 1 thread", || Ok(tasks_per_second(count, 1)))
        .add("raybolt, 8 threads", || Ok(tasks_per_second(count, 8)))
        .add("tokio, 1 thread", || Ok(tokio.outside_per_second(count, 1)))
        .add("tokio, 8 threads", || Ok(tokio.outside_per_second(count, 8)))
        .add("tokio, 1 task", || Ok(tokio.inside_per_second(count, 1)))
        .add("tokio, 8 tasks", || Ok(tokio.inside_per_second(count, 8)))
        .run(effort.rounds())?;
    let row = |drivers: &str| {
        let (ours, theirs) = (format!("raybolt, {drivers}"), format!("tokio, {drivers}"));
        let row = standings.row(format!("async tasks, {drivers}"), &ours, &theirs, AtLeast(0.0));
        row.aim_figure(AtLeast(1e6))
    };
    let rows = vec![row("1 thread"), row("8 threads")];
    Ok(Outcome { rows, chart: Some(standings.chart("async tasks").with_aim(1e6)) })
}

fn async_actor(effort: Effort) -> Result<Outcome> {
    let _session = session()?;
    let counter = Counter::remote(0);
    let kameo = Kameo::new(THREADS);
    let count = effort.pick(80_000, 400_000);
    let standings = Contest::new("calls/s")
        .add("raybolt, 1 thread", || Ok(calls_per_second(&counter, count, 1)))
        .add("raybolt, 8 threads", || Ok(calls_per_second(&counter, count, 8)))
        .add("kameo, 1 task", || Ok(kameo.inside_per_second(count, 1)))
        .add("kameo, 8 tasks", || Ok(kameo.inside_per_second(count, 8)))
        .run(effort.rounds())?;
    let row = |ours: &str, theirs: &str| {
        let title = ours.replace("raybolt", "async actor calls");
        standings.row(title, ours, theirs, AtLeast(0.0)).aim_figure(AtLeast(1e6))
    };
    let rows = vec![
        row("raybolt, 1 thread", "kameo, 1 task"),
        row("raybolt, 8 threads", "kameo, 8 tasks"),
    ];
    Ok(Outcome { rows, chart: Some(standings.chart("async actor calls").with_aim(1e6)) })
}

/// `drivers` threads submit `count` tasks in all, then get their results.
fn tasks_per_second(count: usize, drivers: usize) -> f64 {
    driven(count, drivers, || next::remote(1))
}

fn calls_per_second(counter: &CounterHandle, count: usize, drivers: usize) -> f64 {
    driven(count, drivers, || counter.add(1))
}

fn driven(count: usize, drivers: usize, call: impl Fn() -> ObjectRef<u64> + Sync) -> f64 {
    crate::harness::per_second(count, || {
        std::thread::scope(|scope| {
            for _ in 0..drivers {
                scope.spawn(|| {
                    let refs: Vec<_> = (0..count / drivers).map(|_| call()).collect();
                    raybolt::get(&refs).expect("no call fails");
                });
            }
        });
    })
}

fn queued(effort: Effort) -> Result<Outcome> {
    let sizes = effort.pick(["1000", "30000", "1000000"], ["1000", "100000", "10000000"]);
    let [few, some, many] = sizes;
    let run = |size: &'static str| move || probe::ask(&["queued", size]);
    let standings = Contest::new("ns/task")
        .add_many(few, run(few))
        .add_many(some, run(some))
        .add_many(many, run(many))
        .run(effort.pick(1, 3))?;
    let title = format!("queued tasks, {many}");
    let rows = vec![
        Row::figure(format!("queued tasks, {few}"), standings.figure(few), "ns/task"),
        standings.row(format!("queued tasks, {some}"), some, few, AtMost(1.3)),
        standings.row(title.clone(), many, few, AtMost(1.3)),
        Row::figure(format!("{title}, memory"), standings.nth(many, 1), "bytes/task")
            .aim(AtMost(300.0)),
    ];
    Ok(Outcome { rows, chart: Some(standings.chart("cost of a task by the length of the queue")) })
}

/// The probe: nanoseconds and resident bytes a task, with `count` of them queued at once.
pub fn queued_probe(count: usize) -> Result<Sample> {
    let _session = session()?;
    let mut nanos = Vec::new();
    let mut bytes = 0.0;
    let start = Instant::now();
    while nanos.is_empty() || start.elapsed() < Duration::from_millis(200) {
        let before = probe::resident_bytes()?;
        let gate = Gate::close();
        let begin = Instant::now();
        let refs: Vec<_> = (0..count as u64).map(next::remote).collect();
        let submitted = begin.elapsed();
        bytes = (probe::resident_bytes()? - before) / count as f64;
        let begin = Instant::now();
        gate.open();
        raybolt::get(&refs)?;
        nanos.push((submitted + begin.elapsed()).as_nanos() as f64 / count as f64);
    }
    Ok(vec![crate::harness::median(nanos.into_iter()), bytes])
}

/// Holds all CPUs, so that tasks queue.
struct Gate {
    holders: Vec<ObjectRef<()>>,
}

static GATE: Mutex<GateState> = Mutex::new(GateState { opened: 0, holding: 0 });
static GATE_CHANGED: Condvar = Condvar::new();

struct GateState {
    /// How often it was opened.
    opened: u64,
    /// How many tasks hold a CPU, since it was closed last.
    holding: usize,
}

impl Gate {
    fn close() -> Gate {
        let holders = (0..THREADS).map(|_| hold::remote()).collect();
        let all_hold = |state: &mut GateState| state.holding < THREADS;
        drop(GATE_CHANGED.wait_while(GATE.lock().unwrap(), all_hold).unwrap());
        Gate { holders }
    }

    fn open(self) {
        let mut state = GATE.lock().unwrap();
        *state = GateState { opened: state.opened + 1, holding: 0 };
        drop(state);
        GATE_CHANGED.notify_all();
        drop(self.holders);
    }
}

/// Keeps its CPU until the gate opens.
#[remote]
fn hold() {
    let mut state = GATE.lock().unwrap();
    let opened = state.opened;
    state.holding += 1;
    GATE_CHANGED.notify_all();
    drop(GATE_CHANGED.wait_while(state, |state| state.opened == opened).unwrap());
}

/// What the budget counts.
#[cfg(feature = "budget")]
pub fn paths() -> Vec<super::Path> {
    let session = std::rc::Rc::new(session().expect("no other session is open"));
    let counter = Counter::remote(0);
    let (kept, calls) = (session.clone(), counter.clone());
    vec![
        (
            "sync task",
            Box::new(move |count| {
                let _session = &session;
                (0..count as u64).try_for_each(|x| raybolt::get(&next::remote(x)).map(drop))?;
                Ok(count)
            }),
        ),
        (
            "sync actor call",
            Box::new(move |count| {
                (0..count).try_for_each(|_| raybolt::get(&counter.add(1)).map(drop))?;
                Ok(count)
            }),
        ),
        (
            "async task",
            Box::new(move |count| {
                tasks_per_second(count, 1);
                Ok(count)
            }),
        ),
        (
            "async actor call",
            Box::new(move |count| {
                let _session = &kept;
                calls_per_second(&calls, count, 1);
                Ok(count)
            }),
        ),
    ]
}
