//! Chaos: a tree of tasks, and workers that are killed all the while.
//!
//! ```sh
//! cargo test --release -p raybolt --test chaos                      # the tree has 200,000 tasks
//! cargo test --release -p raybolt --test chaos -- --leaves 1000000  # 2,000,000 tasks
//! ```
//!
//! Each task adds up what its two children return. At the end the sum is exact, nothing is left, and it
//! is said how many workers died for it.

#![allow(clippy::print_stdout, reason = "this is a program")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raybolt::{Builder, LogLevel, ObjectRef, Result, remote};

const LEAVES: u64 = 100_000;
const BETWEEN_DEATHS: Duration = Duration::from_millis(200);
/// A tree that takes longer hangs.
const LONG: Duration = Duration::from_secs(300);

#[remote]
fn leaf(x: u64) -> u64 {
    x * x
}

#[remote]
fn sum(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

fn main() -> ExitCode {
    let leaves = argument("--leaves").unwrap_or(LEAVES);
    let builder = Builder::new().processes(2).num_cpus(4.0).log_to_driver(false);
    let session = builder.log_level(LogLevel::Error).start().unwrap();
    let is_over = AtomicBool::new(false);
    let deaths = AtomicU64::new(0);
    let began = Instant::now();
    let total = std::thread::scope(|scope| {
        scope.spawn(|| reap(&is_over, &deaths));
        let total = tree(leaves);
        is_over.store(true, Ordering::SeqCst);
        total
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
    drop(session);
    match total {
        Ok(total) if total == expected && left == (0, 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map(|value| value.parse().unwrap())
}

/// The sum of the squares of the first `leaves` numbers, added up in pairs.
fn tree(leaves: u64) -> Result<u64> {
    let leaf = |x| leaf::options().max_retries(50).remote(x);
    let mut level: Vec<ObjectRef<u64>> = (0..leaves).map(leaf).collect();
    while level.len() > 1 {
        let pair = |pair: &[ObjectRef<u64>]| match pair {
            // With retries to spare: this is about chaos, not about who dies how often.
            [a, b] => sum::options().max_retries(50).remote(a, b),
            [a] => a.clone(),
            _ => unreachable!("chunks of two"),
        };
        level = level.chunks(2).map(pair).collect();
    }
    raybolt::get_timeout(level.remove(0), LONG)
}

/// Kills a worker now and then.
fn reap(is_over: &AtomicBool, deaths: &AtomicU64) {
    let mut turn = 0;
    while !is_over.load(Ordering::SeqCst) {
        std::thread::sleep(BETWEEN_DEATHS);
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
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let memory = raybolt::memory().unwrap();
        let left = (memory.tasks, memory.objects);
        if left == (0, 0) || Instant::now() > until {
            return left;
        }
        std::thread::yield_now();
    }
}
