//! Runs one seed, and turns a panic of a machine into a finding.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use raybolt_core::plant::{Plant, Plants};

use crate::clock::Micros;
use crate::trace::{LINES, Trace, Violation};
use crate::worlds;

/// What came of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// The world, and all that the seed decided about it.
    pub options: String,
    /// How many events happened.
    pub events: u64,
    /// How much virtual time passed.
    pub virtual_us: Micros,
    /// Equal for runs that did the same.
    pub hash: u64,
    /// The rule that was broken, if any.
    pub violation: Option<Violation>,
    /// The last lines of what happened, if they were kept.
    pub lines: Vec<String>,
}

/// Runs one seed, with a bug planted or none.
pub fn run_seed(seed: u64, plant: Option<Plant>) -> Run {
    let run = run_with_lines(seed, plant, 0);
    // A failing seed is run again, this time with its lines kept: making them is most of the cost.
    if run.violation.is_some() { run_with_lines(seed, plant, LINES) } else { run }
}

/// Runs one seed, and keeps the last lines of what happened in any case.
pub fn run_with_lines(seed: u64, plant: Option<Plant>, lines: usize) -> Run {
    let plants = plant.map_or(Plants::NONE, Plants::only);
    let mut trace = Trace::new(lines);
    let verdict = catch(|| worlds::run(seed, plants, &mut trace));
    Run {
        seed,
        options: std::mem::take(&mut trace.options),
        events: trace.events(),
        virtual_us: trace.now(),
        hash: trace.hash(),
        violation: verdict.err(),
        lines: trace.into_lines(),
    }
}

thread_local! {
    /// Set while a seed runs: panics are findings then, and say what they have to say here.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn catch(run: impl FnOnce() -> Result<(), Violation>) -> Result<(), Violation> {
    install_hook();
    PANIC.set(Some(String::new()));
    // What the panic leaves half done is dropped with its world.
    let verdict = catch_unwind(AssertUnwindSafe(run));
    let message = PANIC.take().unwrap_or_default();
    verdict.unwrap_or(Err(Violation { checker: "panic", message }))
}

/// Panics of threads that run a seed go into the report instead of to stderr.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = PANIC.with_borrow_mut(|slot| match slot {
                Some(text) => {
                    *text = info.to_string();
                    true
                }
                None => false,
            });
            if !ours {
                others(info);
            }
        }));
    });
}
