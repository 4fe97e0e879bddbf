//! The simulator on itself: it finds what is planted, finds nothing else, and does the same twice.

use raybolt_core::plant::Plant;
use raybolt_sim::run_seed;
use raybolt_sim::sweep::sweep;

/// Within so many seeds each planted bug is found; most within ten.
const SEEDS: u64 = 300;
/// How many are run where none is expected to fail.
const CLEAN_SEEDS: u64 = 200;

#[test]
fn every_planted_bug_is_found_and_its_seed_finds_it_again() {
    for &plant in Plant::ALL {
        let found = sweep(0..SEEDS, Some(plant), |_| {}).finding;
        let found = found.unwrap_or_else(|| panic!("{plant} is not found within {SEEDS} seeds"));
        assert_eq!(run_seed(found.seed, Some(plant)), found, "{plant}");
        assert!(!found.lines.is_empty(), "{plant}: a finding shows what led to it");
    }
}

#[test]
fn without_a_plant_nothing_is_found() {
    let summary = sweep(0..CLEAN_SEEDS, None, |_| {});
    assert_eq!(summary.finding, None);
    assert_eq!(summary.seeds, CLEAN_SEEDS);
}

#[test]
fn a_seed_does_the_same_twice_and_another_one_something_else() {
    for seed in 0..20 {
        let (first, second) = (run_seed(seed, None), run_seed(seed, None));
        assert_eq!(first, second);
        assert_ne!(first.hash, run_seed(seed + 1, None).hash);
    }
}

#[test]
fn a_sweep_gives_the_lowest_failing_seed_however_many_threads_run() {
    let plant = Some(Plant::LoseRedelivery);
    let found = sweep(0..SEEDS, plant, |_| {}).finding.expect("it is found within that many");
    let alone = (0..SEEDS).find(|seed| run_seed(*seed, plant).violation.is_some());
    assert_eq!(Some(found.seed), alone);
}
