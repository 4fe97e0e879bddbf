//! Every decision of raybolt as pure state machines.
//!
//! A machine takes events (methods named after what happened, with `now` where time matters), and
//! gives effects as data (`poll_effect`) and the time at which it wants to be driven again
//! (`next_deadline`). It reads no clock, draws no chance, starts no thread and does no I/O, so the
//! runtime and the simulator drive the same code, and a run can be repeated from its seed.
//! `clippy.toml` beside this crate's manifest forbids what would break that.

pub mod calls;
pub mod drpc;
pub mod flow;
pub mod hash;
pub mod ids;
pub mod plant;
pub mod suggest;
