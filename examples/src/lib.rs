//! What the examples share: the data and the topology of `reach`, so that tests and benchmarks run
//! the very program that the example shows.

pub mod reach;
