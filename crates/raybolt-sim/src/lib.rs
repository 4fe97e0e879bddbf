//! A whole cluster on one thread, from one seed.
//!
//! # Words
//! A *world* is a set of parties (drivers, workers, spouts, clients), links between them, and a program
//! that they run; it drives the production machines of `raybolt-core` and performs their effects. A
//! *checker* stands outside and keeps a model of its own. A *plant* is a bug put into a machine on
//! purpose, so that the simulator can prove that it would find it.
//!
//! # What a seed is
//! One seed decides everything: which world, how many parties, which faults may happen at all (swarm
//! testing: each fault is off in half of the runs), every delay and every choice of the program. There
//! is one thread per seed, one queue of events, and virtual time; so a seed that failed fails again.
//!
//! # What is demanded
//! First *safety*: while faults happen, no checker may object. Then the world is healed, and *liveness*:
//! within a bound of virtual time everything that was asked for has its answer, and nothing is left
//! behind. If not, the report names what still waits, and for what.
//!
//! ```
//! let run = raybolt_sim::run_seed(7, None);
//! assert_eq!(run.violation, None);
//! ```

#![warn(missing_docs)]

mod checkers;
pub mod clock;
pub mod network;
pub mod rng;
mod run;
pub mod sweep;
pub mod trace;
mod worlds;

pub use run::{Run, run_seed, run_with_lines};
