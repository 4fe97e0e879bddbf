//! The shells of raybolt: threads, timers and values that drive the machines of the core.

pub mod pool;
pub mod slot;
mod sync;
pub mod timer;
pub mod turn;
