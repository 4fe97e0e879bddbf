//! Remote functions, actors and objects: who owns what, what may run where, and in which order.
//!
//! ```text
//!   submit        needs ready        resources        lent            finished
//!  -------> owner -----------> owner ----------> scheduler --> worker ---------> owner
//!           ids, counts        class queue       lease                           results, freeing
//!
//!  an actor's call skips the scheduler: owner --> queue (of that actor) --> owner
//! ```
//!
//! - [`owner`]: one per process; ids, reference counts, borrows, dependencies, retries.
//! - [`scheduler`]: one per node; resources, leases, fair turns between classes of tasks.
//! - [`fleet`]: one per node; which worker process runs what, and how much lies there at once.
//! - [`kinds`]: which kind of worker process a lease needs, and which GPUs it sees.
//! - [`lineage`]: one per session; which tasks can make lost values again, and how often.
//! - [`placement`]: which bundle of a placement group goes to which node.
//! - [`queue`]: one per actor; order of calls per caller, concurrency groups, cancellation.
//! - [`objects`]: one per node; what lies where in its store, who reads it, what goes to disk.
//! - [`incarnations`]: one per actor that lives in another process; what was sent there, and its deaths.
//! - [`borrows`]: one per worker process; what it holds of its driver's objects, and when it gives that back.
//! - [`streams`]: three per stream between processes; which items may travel, and which of those that came are taken.

pub mod borrows;
pub mod fleet;
pub mod incarnations;
pub mod kinds;
pub mod lineage;
pub mod objects;
pub mod owner;
pub mod placement;
pub mod queue;
pub mod scheduler;
pub mod streams;
