//! The machines of flow: what a topology is, where its tuples go, and when they are done.
//!
//! - [`graph`]: the description of a topology, its validation, and the plan that follows from it.
//! - [`grouping`]: which instances a tuple goes to.
//! - [`acks`]: when a tuple and all that was derived from it have been processed.
//! - [`batches`]: when a component has seen everything of one request.

pub mod acks;
pub mod batches;
pub mod graph;
pub mod grouping;
