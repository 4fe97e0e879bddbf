//! A distributed execution engine: calls, flow and Distributed RPC.
//!
//! # Calls
//! A function with [`#[remote]`](macro@remote) can still be called; beside that, `f::remote(..)` calls it as a *task*,
//! which runs elsewhere, and returns an [`ObjectRef`] at once: a reference to the result, which [`get`]
//! waits for. A reference can be passed where a value is expected; so tasks make a graph.
//!
//! ```
//! use raybolt::remote;
//!
//! #[remote]
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! #[remote]
//! fn sum(a: u64, b: u64) -> u64 {
//!     a + b
//! }
//!
//! # fn main() -> raybolt::Result<()> {
//! let _session = raybolt::init()?; // It ends when this is dropped.
//!
//! let a = square::remote(3);
//! let b = square::remote(4); // Runs beside the first.
//! let c = sum::remote(&a, &b); // Waits for both; their values do not pass through here.
//! assert_eq!(raybolt::get(&c)?, 25);
//! assert_eq!(sum(1, 2), 3); // Still a function.
//! # Ok(())
//! # }
//! ```
//!
//! A type whose `impl` has `#[remote]` can live as an *actor*: its state stays in one place, and its
//! calls run one after the other.
//!
//! ```
//! use raybolt::remote;
//!
//! struct Counter {
//!     value: u64,
//! }
//!
//! #[remote]
//! impl Counter {
//!     pub fn new(start: u64) -> Self {
//!         Counter { value: start }
//!     }
//!
//!     pub fn add(&mut self, x: u64) -> u64 {
//!         self.value += x;
//!         self.value
//!     }
//! }
//!
//! # fn main() -> raybolt::Result<()> {
//! let _session = raybolt::init()?;
//! let counter = Counter::remote(10); // A `CounterHandle`: clone it, store it, pass it to tasks.
//! let first = counter.add(1);
//! let second = counter.add(1);
//! assert_eq!(raybolt::get((&first, &second))?, (11, 12)); // In the order of the calls.
//! # Ok(())
//! # }
//! ```
//!
//! Values are shared with [`put`], several references awaited with [`wait`] or `.await`, tasks stopped
//! with [`cancel`], actors with [`kill`]. What goes wrong arrives where the value would have, as an
//! [`Error`] that names the cause and the lever; [`errors`] lists what failed lately.
//!
//! # Flow and Distributed RPC
//! [`topology`] computes over streams of tuples, [`drpc`] asks such a computation a question and waits
//! for the answer.

extern crate self as raybolt; // The macros' expansions say `::raybolt`, here too.

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
mod array;
mod session;

/// Distributed RPC: one call goes in, fans out over a topology, one answer comes out.
pub use raybolt_drpc as drpc;
/// Flow: spouts, bolts and streams of typed tuples.
pub use raybolt_topology as topology;

pub use array::Array;
pub use raybolt_macros::{main, remote};
pub use raybolt_runtime::args::{Arg, IntoArg};
pub use raybolt_runtime::call::{Get, Split, cancel, get, get_timeout, put, wait};
pub use raybolt_runtime::error::{Error, Kind, Result, TaskError};
pub use raybolt_runtime::failures::{FAILURES_MAX, FailureReport};
pub use raybolt_runtime::handle::ActorHandle;
pub use raybolt_runtime::object::ObjectRef;
pub use raybolt_runtime::options::{CallOptions, Strategy};
pub use raybolt_runtime::session::{
    MemoryReport, ResourceReport, blocking, errors, gpu_ids, is_cancelled, is_initialized, memory,
    resources,
};
pub use raybolt_runtime::stream::RefStream;
pub use raybolt_wire::Value;
pub use session::{Builder, LogLevel, Session, init};

/// Ends an actor now: the call that runs is asked to stop, those that wait fail.
///
/// ```
/// # use raybolt::remote;
/// # struct Greeter;
/// #[remote]
/// impl Greeter {
///     pub fn new() -> Self {
///         Greeter
///     }
///
///     pub fn greet(&self, name: &str) -> String {
///         format!("hello {name}")
///     }
/// }
///
/// # fn main() -> raybolt::Result<()> {
/// # let _session = raybolt::init()?;
/// let greeter = Greeter::remote();
/// assert_eq!(raybolt::get(greeter.greet("you"))?, "hello you");
/// raybolt::kill(&greeter);
/// let error = raybolt::get(greeter.greet("me")).unwrap_err();
/// assert_eq!(error.to_string(), "actor `Greeter` is gone: it was killed");
/// # Ok(())
/// # }
/// ```
pub fn kill<A: Send + Sync + 'static>(actor: &impl AsRef<ActorHandle<A>>) {
    actor.as_ref().kill();
}

/// What most programs with calls use.
pub mod prelude {
    pub use crate::{Array, ObjectRef, RefStream, Value, remote};
}
