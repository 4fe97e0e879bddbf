//! A session over several processes.
//!
//! # Words
//! The *driver* is the user's program; it hosts the node, and owns whatever its job creates. A *worker*
//! is the same executable started again, which runs what the driver pushes to it.
//!
//! ```text
//!  driver                                         worker
//!  submit -> owner -> scheduler -> fleet -> link ======> link -> slot of the lease -> user code
//!  get: leads, and reads the links itself  <======================  answer
//! ```
//!
//! - `node`: the driver's side. `worker`: what lies at each of them. `push`: the way there. `answers`: what
//!   they say, and what follows.
//! - `serve`: the worker's side.
//! - `remote_actor`: the driver's side of an actor. `hosted`: the worker's.
//! - `leader`: who reads the links. `link`, `poll`: sockets.
//! - `upstream`: how code in a worker calls others. `downstream`: what the driver does
//!   for it. `raw`: what it keeps without knowing its type. `lent`: objects
//!   that other processes know of.
//! - `lineage`: values that are lost, and the tasks that make them again.
//! - `start`: how a program finds out that it is a worker. `birth`: before
//!   `main`. `keeper`, `spawn`: starts and ends.
//! - `deaths`, `blackbox`: what a death means for tasks. `stops`, `monitor`: why workers are
//!   killed. `logs`: what workers print.
//! - `inlet` and `outlet`: streams whose generator is in another process.
//!   `relay`: those that are read in a worker.
//! - `judges`: what failures are worth of tasks that workers submit. `errand`: what workers have
//!   their driver do.
//! - `code`: names of code. `parcel`: values on their way. `layout`: long runs of numbers in them. `plain`: values
//!   that are nothing else. `mapping`: what handles in workers have of the store.

pub(crate) mod actor_requests;
mod answers;
pub(crate) mod birth;
pub(crate) mod blackbox;
pub(crate) mod borrowed;
pub(crate) mod circles;
pub(crate) mod code;
pub(crate) mod deaths;
pub(crate) mod downstream;
pub(crate) mod errand;
pub(crate) mod hosted;
pub mod inlet;
pub(crate) mod judges;
pub(crate) mod keeper;
pub(crate) mod layout;
pub(crate) mod leader;
pub(crate) mod lent;
pub(crate) mod lineage;
pub(crate) mod link;
pub(crate) mod logs;
pub(crate) mod made;
pub(crate) mod mapping;
pub(crate) mod monitor;
pub(crate) mod node;
pub(crate) mod outlet;
pub mod parcel;
pub(crate) mod plain;
pub(crate) mod poll;
pub(crate) mod push;
pub mod raw;
mod refill;
pub(crate) mod relay;
pub(crate) mod remote_actor;
pub(crate) mod remote_call;
pub(crate) mod serve;
pub(crate) mod shelf;
pub(crate) mod spawn;
pub(crate) mod start;
pub(crate) mod stops;
pub(crate) mod upstream;
pub(crate) mod worker;
