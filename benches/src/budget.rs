//! Counts what hot paths do: allocations, bytes, and how often a thread slept.
//!
//! Only with the feature `budget`, whose allocator counts and so would be measured itself. The table
//! goes into `README.md`, beside what each path was meant to cost.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use crate::rows;

/// The system's allocator, counted.
pub struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System`, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size.saturating_sub(layout.size()) as u64, Ordering::Relaxed);
        // SAFETY: the block came from `System`, with this layout.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// What was counted so far.
struct Counts {
    allocations: u64,
    bytes: u64,
    sleeps: u64,
}

/// Prints the table.
pub fn print() -> Result<()> {
    println!("| path | allocations | bytes | sleeps |\n|---|---:|---:|---:|");
    for (path, run) in rows::paths() {
        run(1_000)?; // Threads start, tables grow.
        let count = 100_000;
        let before = Counts::now()?;
        let done = run(count)?;
        let after = Counts::now()?;
        let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / done as f64;
        println!(
            "| {path} | {:.2} | {:.0} | {:.4} |",
            each(after.allocations, before.allocations),
            each(after.bytes, before.bytes),
            each(after.sleeps, before.sleeps),
        );
    }
    Ok(())
}

impl Counts {
    fn now() -> Result<Counts> {
        let sleeps = sleeps()?;
        Ok(Counts {
            allocations: ALLOCATIONS.load(Ordering::Relaxed),
            bytes: BYTES.load(Ordering::Relaxed),
            sleeps,
        })
    }
}

/// How often the threads of this process went to sleep by themselves.
fn sleeps() -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").context("needs Linux")? {
        let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
