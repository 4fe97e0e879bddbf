//! Chaos: a tree of tasks and a hundred actors with state, and workers that are killed all the while.
//!
//! ```sh
//! cargo test --release -p raybolt --test chaos                      # the tree has 200,000 tasks
//! cargo test --release -p raybolt --test chaos -- --leaves=1000000  # 2,000,000 tasks
//! ```
//!
//! Each task adds up what its two children return. Each actor counts its calls; when it begins anew it
//! begins at nothing. At the end the sum is exact, each call was answered once or has a cause, the answers
//! of each life of an actor are in the order of its calls, and nothing is left; the counts are printed.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raybolt::{Builder, LogLevel, ObjectRef, Result, remote};

use cases::Harness;

const LEAVES: u64 = 100_000;
/// How many leaves a tree of nested calls has; a power of two.
const NESTED: u64 = 64;
const TREES: usize = 20;
const ACTORS: usize = 100;
const CALLS_PER_ROUND: usize = 20;
const ROUNDS_MAX: usize = 100;
const BETWEEN_DEATHS: Duration = Duration::from_millis(200);
/// A tree that takes longer hangs.
const LONG: Duration = Duration::from_secs(300);
/// To spare: this is about chaos, not about who dies how often.
const RETRIES: u32 = 10_000;

#[remote]
fn leaf(x: u64) -> u64 {
    x * x
}

#[remote]
fn sum(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

/// As many as there are leaves below; each inner task calls two others and waits for them.
#[remote]
fn nested(depth: u32) -> Result<u64> {
    if depth == 0 {
        return Ok(1);
    }
    let below = || nested::options().max_retries(RETRIES).remote(depth - 1);
    let (a, b) = (below(), below());
    Ok(raybolt::get(a)? + raybolt::get(b)?)
}

/// Needs no CPU, and so waits for nothing but a worker.
#[remote(num_cpus = 0)]
fn ping() -> u64 {
    1
}

/// Which life an actor lives, and how many calls it has seen in it.
type Seen = (u64, u64);

struct Counter {
    life: u64,
    calls: u64,
}

#[remote]
impl Counter {
    pub fn new() -> Self {
        static LIVES: AtomicU64 = AtomicU64::new(0);
        let number = LIVES.fetch_add(1, Ordering::Relaxed);
        Counter { life: u64::from(std::process::id()) << 32 | number, calls: 0 }
    }

    pub fn count(&mut self) -> (u64, u64) {
        self.calls += 1;
        (self.life, self.calls)
    }
}

/// What became of the calls of all actors.
#[derive(Debug, Default)]
struct Calls {
    answered: usize,
    with_a_cause: usize,
    lives: BTreeSet<u64>,
    /// What should not be.
    wrong: Vec<String>,
}

fn main() -> ExitCode {
    let builder = Builder::new().processes(2).num_cpus(4.0).log_to_driver(false);
    let session = builder.log_level(LogLevel::Error).start().unwrap();
    let mut harness = Harness::new();
    harness.case("sums are exact and calls have answers while workers are killed", chaos);
    drop(session);
    harness.end()
}

/// Says whether all is as it should be.
fn chaos() -> bool {
    let leaves = leaves();
    let is_over = AtomicBool::new(false);
    let deaths = AtomicU64::new(0);
    let trees_begun = AtomicU64::new(0);
    let began = Instant::now();
    let (total, calls, trees) = std::thread::scope(|scope| {
        scope.spawn(|| reap(&is_over, &deaths, &trees_begun));
        let counting = scope.spawn(|| count(&is_over));
        let total = tree(leaves);
        let trees = nest(&trees_begun);
        is_over.store(true, Ordering::SeqCst);
        (total, counting.join().unwrap(), trees)
    });
    let took = began.elapsed();
    let expected = (0..leaves).fold(0_u64, |sum, x| sum.wrapping_add(x * x));
    let left = left();
    println!(
        "{} tasks in {took:.1?}, {} workers killed: the sum is {total:?}, expected {expected}; \
         left: {left:?}",
        2 * leaves - 1,
        deaths.load(Ordering::SeqCst),
    );
    let Calls { answered, with_a_cause, lives, wrong } = calls;
    println!(
        "{ACTORS} actors lived {} lives: {answered} calls were answered, {with_a_cause} have a cause \
         why not; wrong: {wrong:?}",
        lives.len(),
    );
    let wrong_trees: Vec<_> = trees.iter().filter(|tree| !matches!(tree, Ok(NESTED))).collect();
    println!("{} nested trees of {NESTED} leaves; wrong: {wrong_trees:?}", trees.len());
    let is_exact = matches!(total, Ok(total) if total == expected);
    is_exact && left == (0, 0) && wrong.is_empty() && wrong_trees.is_empty()
}

fn leaves() -> u64 {
    let wanted = std::env::args().find_map(|word| word.strip_prefix("--leaves=").map(str::parse));
    wanted.map_or(LEAVES, |number| number.expect("`--leaves=` has a number"))
}

/// The sum of the squares of the first `leaves` numbers, added up in pairs.
fn tree(leaves: u64) -> Result<u64> {
    let leaf = |x| leaf::options().max_retries(RETRIES).remote(x);
    let mut level: Vec<ObjectRef<u64>> = (0..leaves).map(leaf).collect();
    while level.len() > 1 {
        let pair = |pair: &[ObjectRef<u64>]| match pair {
            [a, b] => sum::options().max_retries(RETRIES).remote(a, b),
            [a] => a.clone(),
            _ => unreachable!("chunks of two"),
        };
        level = level.chunks(2).map(pair).collect();
    }
    raybolt::get_timeout(level.remove(0), LONG)
}

/// Tasks that call tasks, one tree of them after the other.
fn nest(begun: &AtomicU64) -> Vec<Result<u64>> {
    let tree = || nested::options().max_retries(RETRIES).remote(NESTED.ilog2());
    let mut trees = Vec::new();
    while trees.len() < TREES && trees.last().is_none_or(Result::is_ok) {
        begun.fetch_add(1, Ordering::SeqCst);
        trees.push(raybolt::get_timeout(tree(), LONG));
    }
    trees
}

/// Calls the actors in rounds, until it is over or they have been called often enough.
fn count(is_over: &AtomicBool) -> Calls {
    let new = || Counter::options().max_restarts(raybolt::FOREVER).remote();
    let actors: Vec<_> = (0..ACTORS).map(|_| new()).collect();
    let mut seen: Vec<Seen> = vec![(0, 0); ACTORS];
    let mut calls = Calls::default();
    for _ in 0..ROUNDS_MAX {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let round: Vec<Vec<_>> = actors
            .iter()
            .map(|actor| (0..CALLS_PER_ROUND).map(|_| actor.count()).collect())
            .collect();
        for (seen, answers) in seen.iter_mut().zip(round) {
            for answer in answers {
                calls.note(seen, raybolt::get_timeout(answer, LONG));
            }
        }
    }
    calls
}

impl Calls {
    fn note(&mut self, last: &mut Seen, answer: Result<Seen>) {
        match answer {
            Ok(seen) => {
                self.answered += 1;
                // In the same life it is the next call, in another one any: those before may have been lost.
                let is_new = self.lives.insert(seen.0);
                if is_new == (seen.0 == last.0) || (!is_new && seen.1 <= last.1) {
                    self.wrong.push(format!("{seen:?} came after {last:?}"));
                }
                *last = seen;
            }
            Err(error) if error.is_actor_died() || error.is_worker_died() => {
                self.with_a_cause += 1;
                if !error.to_string().contains("killed by signal 9 (SIGKILL)") {
                    self.wrong.push(error.to_string());
                }
            }
            Err(error) => self.wrong.push(error.to_string()),
        }
    }
}

/// Kills a worker now and then. On a machine that is slow that is more seldom, or nothing would come to its end: some
/// worker serves between two deaths, and a tree of nested calls that has lived through some is given more time.
fn reap(is_over: &AtomicBool, deaths: &AtomicU64, trees_begun: &AtomicU64) {
    let (mut turn, mut tree, mut deaths_in_tree) = (0, 0, 0);
    while !is_over.load(Ordering::SeqCst) {
        std::thread::sleep(BETWEEN_DEATHS * (1 << (deaths_in_tree / 3_u32).min(5)));
        let _ = raybolt::get_timeout(ping::options().max_retries(RETRIES).remote(), LONG);
        let tree_now = trees_begun.load(Ordering::SeqCst);
        let is_same = tree_now > 0 && tree_now == std::mem::replace(&mut tree, tree_now);
        deaths_in_tree = if is_same { deaths_in_tree + 1 } else { 0 };
        let workers = children();
        if let Some(pid) = workers.get(turn % workers.len().max(1)) {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            if rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok() {
                deaths.fetch_add(1, Ordering::SeqCst);
            }
        }
        turn += 1;
    }
}

/// The processes that this one has started.
fn children() -> Vec<u32> {
    let own = std::process::id();
    let listed = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit(") ").next()?.split(' ');
        let (state, parent) = (fields.next()?, fields.next()?.parse::<u32>().ok()?);
        (parent == own && state != "Z").then_some(pid)
    });
    listed.collect()
}

/// Tasks and objects that are left, a moment after the last was let go.
fn left() -> (usize, usize) {
    let until = Instant::now() + LONG;
    loop {
        let memory = raybolt::memory().unwrap();
        let left = (memory.tasks, memory.objects);
        if left == (0, 0) || Instant::now() > until {
            return left;
        }
        std::thread::yield_now();
    }
}
