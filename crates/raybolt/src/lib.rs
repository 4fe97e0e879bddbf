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
//! # Over processes
//! The same program runs over worker processes of this machine if the variable `RAYBOLT_WORKERS` says
//! `processes` (one worker, with as many threads as CPUs) or `processes:4`, or if [`Builder::processes`] does. A
//! worker is the program started again; it comes as far as `#[raybolt::main]`, [`init`] or [`Builder::start`], and
//! serves from there on. What stands before that runs in each worker too; [`is_worker`] tells. In tests,
//! where each worker would run the other tests of its file beside, give a file that begins such a
//! session `harness = false`.
//!
//! A worker that dies takes nothing with it: its tasks run again (`max_retries`), its actors begin anew if
//! they may (`max_restarts`, `max_task_retries`; [`FOREVER`]), and [`cancel_force`] stops a task that does not heed
//! [`cancel`]. Large values lie in memory that all processes share; numbers in an [`Array`] are read where
//! they lie. The command `raybolt` shows from another terminal what such a session does.
//!
//! # Flow and Distributed RPC
//! [`topology`] computes over streams of tuples, [`drpc`] asks such a computation a question and waits
//! for the answer.

extern crate self as raybolt; // The macros' expansions say `::raybolt`, here too.

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

mod session;

/// Distributed RPC: one call goes in, fans out over a topology, one answer comes out.
pub use raybolt_drpc as drpc;
/// Flow: spouts, bolts and streams of typed tuples.
pub use raybolt_topology as topology;

/// Runs a session around the body of `main`, which may be `async`.
///
/// Takes `num_cpus`, `num_gpus`, `memory`, `worker_threads` and `resources(name = amount, ..)`, as [`Builder`]
/// has them. Without a session the program says why and ends.
///
/// ```
/// #[raybolt::main(num_cpus = 2)]
/// async fn main() -> raybolt::Result<()> {
///     let object = raybolt::put(3)?;
///     assert_eq!(object.await?, 3);
///     Ok(())
/// }
/// ```
pub use raybolt_macros::main;
/// Lets a function run as a task, or a type live as an actor.
///
/// # On a function
/// The function stays as it is. Beside it comes a struct of its name, with
/// - `f::remote(args)`, which calls it as a task and returns references to what it will return;
/// - `f::options()`, a builder for another way to run it (`num_cpus`, `num_gpus`, `memory`, `resource`,
///   `placement_group`, `max_retries`, `retry_on`, `name`, `deadline`, `strategy`, `stream_buffer`), which
///   ends in `.remote(args)`.
///
/// An argument is a value or an [`ObjectRef`] to one. A parameter `&T` lends what was passed: nothing is
/// copied. A `Result` fails the task with its error; an `async fn` waits without a thread; an `impl
/// Iterator` is a stream of objects ([`RefStream`]). A generic function is called like any other with a value;
/// with a reference its types have to be named, behind `remote`: `largest::remote::<u64>(&numbers)`.
///
/// The attribute takes the usual options: `num_cpus = 2`, `num_gpus = 1`, `memory = 1 << 30`, `resources(disk = 1.0)`,
/// `max_retries = 5`, `name = ".."`, and `num_returns = 2`, which makes an object of each part of a
/// tuple.
///
/// ```
/// use raybolt::{Value, get, remote};
///
/// #[remote(num_returns = 2)]
/// fn divide(a: u64, b: u64) -> Result<(u64, u64), String> {
///     if b == 0 { Err("nothing can be divided by 0".into()) } else { Ok((a / b, a % b)) }
/// }
///
/// #[remote]
/// fn largest<T: Ord + Value>(values: &[T]) -> Option<T> {
///     values.iter().max().cloned()
/// }
///
/// #[remote]
/// fn countdown(from: u64) -> impl Iterator<Item = u64> {
///     (0..from).rev()
/// }
///
/// # fn main() -> raybolt::Result<()> {
/// let _session = raybolt::init()?;
/// let (quotient, rest) = divide::remote(17, 5);
/// assert_eq!(get((quotient, rest))?, (3, 2));
///
/// let (quotient, _) = divide::options().name("careless").remote(17, 0);
/// let error = get(quotient).unwrap_err();
/// assert_eq!(error.to_string(), "task `careless` failed: nothing can be divided by 0");
///
/// assert_eq!(get(largest::remote(vec!["a".to_owned(), "c".to_owned()]))?, Some("c".to_owned()));
///
/// let numbers = raybolt::put(vec![3, 5, 4])?;
/// assert_eq!(get(largest::remote::<u64>(&numbers))?, Some(5)); // A reference tells no type.
///
/// for number in countdown::remote(3) {
///     assert!(get(number?)? < 3);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # On an `impl`
/// The `impl` stays as it is; its `new` is the constructor, and returns `Self` or a `Result` of it. For
/// `Counter` come
/// - `Counter::remote(args)`, which makes an actor and returns a `CounterHandle`;
/// - `Counter::options()`, a builder for another way to make it (`num_cpus`, `num_gpus`, `memory`,
///   `resource`, `placement_group`, `name`, `get_if_exists`, `detached`, `max_concurrency`,
///   `max_pending_calls`, `max_restarts`, `max_task_retries`);
/// - `Counter::find(name)`.
///
/// The handle has each method that is not private: one with `&mut self` runs alone, those with `&self`
/// beside each other if the actor allows that (`max_concurrency`; 1,000 with async methods). Calls of
/// one caller keep their order. `handle.with(CallOptions::new().deadline(..))` calls with options,
/// `handle.kill()` ends the actor.
///
/// The attribute takes `num_cpus`, `num_gpus`, `memory`, `resources(..)`, `max_concurrency`, `max_pending_calls`
/// and `concurrency_groups(io = 2, compute = 4)`; a method belongs to a group with
/// `#[method(concurrency_group = "io")]`, and returns several objects with `#[method(num_returns = 2)]`.
///
/// ```
/// use raybolt::{get, remote};
/// use std::collections::BTreeMap;
///
/// #[derive(Default)]
/// struct Store {
///     values: BTreeMap<String, u64>,
/// }
///
/// #[remote(concurrency_groups(reading = 4))]
/// impl Store {
///     pub fn new() -> Self {
///         Store::default()
///     }
///
///     pub fn insert(&mut self, key: String, value: u64) -> Option<u64> {
///         self.values.insert(key, value)
///     }
///
///     #[method(concurrency_group = "reading")]
///     pub fn value(&self, key: &str) -> Result<u64, String> {
///         self.values.get(key).copied().ok_or_else(|| format!("no `{key}` here"))
///     }
/// }
///
/// # fn main() -> raybolt::Result<()> {
/// let _session = raybolt::init()?;
/// let store = Store::options().name("store").remote();
/// store.insert("one", 1);
/// assert_eq!(get(Store::find("store")?.value("one"))?, 1);
/// let error = get(store.value("two")).unwrap_err();
/// assert_eq!(error.to_string(), "task `Store::value` failed: no `two` here");
/// # Ok(())
/// # }
/// ```
pub use raybolt_macros::remote;
pub use raybolt_runtime::args::{Arg, IntoArg};
pub use raybolt_runtime::array::Array;
/// Arrow's record batches as values; with the feature `arrow`.
#[cfg(feature = "arrow")]
pub use raybolt_runtime::arrow;
pub use raybolt_runtime::call::{
    Get, Refs, Split, cancel, cancel_force, get, get_timeout, put, wait,
};
pub use raybolt_runtime::error::{Error, Kind, Result, TaskError};
pub use raybolt_runtime::failures::{FAILURES_MAX, FailureReport, errors};
/// Asks for a placement group: bundles of resources that are set aside together, for tasks and actors that
/// need each other.
///
/// ```
/// use raybolt::{Bundle, PlacementStrategy, placement_group, remote};
/// use std::time::Duration;
///
/// #[remote]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # fn main() -> raybolt::Result<()> {
/// let _session = raybolt::Builder::new().num_cpus(2.0).start()?;
/// let bundles = [Bundle::new().num_cpus(1.0), Bundle::new().num_cpus(1.0)];
/// let group = placement_group(bundles, PlacementStrategy::Pack).name("pair").create()?;
/// group.wait(Duration::from_secs(10))?;
/// let first = square::options().placement_group(&group, Some(0)).remote(3);
/// assert_eq!(raybolt::get(first)?, 9);
/// group.remove()?;
/// let error = raybolt::get(square::options().placement_group(&group, None).remote(3)).unwrap_err();
/// assert_eq!(error.to_string(), "`square` was in placement group `pair`, which was removed");
///
/// let apart = [Bundle::new().num_cpus(1.0), Bundle::new().num_cpus(1.0)];
/// let apart = placement_group(apart, PlacementStrategy::StrictSpread).name("apart").create()?;
/// let error = raybolt::get(apart.ready()).unwrap_err();
/// let text = "placement group `apart` can never be placed: it needs 2 nodes, there is 1";
/// assert_eq!(error.to_string(), text);
/// # Ok(())
/// # }
/// ```
pub use raybolt_runtime::group::placement_group;
pub use raybolt_runtime::group::{Bundle, GroupBuilder, PlacementGroup, PlacementStrategy};
pub use raybolt_runtime::handle::{ActorHandle, FOREVER};
/// What a session does, for those who watch it; what the command `raybolt` shows.
pub use raybolt_runtime::inspect;
pub use raybolt_runtime::object::ObjectRef;
pub use raybolt_runtime::options::{CallOptions, Strategy};
pub use raybolt_runtime::session::{
    MemoryReport, ResourceReport, StoreReport, blocking, gpu_ids, is_cancelled, is_initialized,
    is_worker, memory, resources,
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

/// The examples of the README, which are tests too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
