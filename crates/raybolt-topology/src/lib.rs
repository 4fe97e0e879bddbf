//! Spouts, bolts and typed tuples, and the executors that run a topology on the runtime.

mod request;
pub mod tuple;
pub mod values;

/// Makes a struct a tuple: names, hashes and converts its fields.
///
/// ```
/// use raybolt_topology::{RequestId, Tuple};
///
/// #[derive(Clone, Tuple)]
/// #[tuple(crate = "raybolt_topology")] // Not needed in a crate that uses `raybolt`.
/// struct Follower {
///     request: RequestId, // First, and of this type: ties the tuple to its request.
///     follower: u32,
/// }
///
/// assert_eq!(Follower::FIELDS, ["request", "follower"]);
/// let tuple = Follower { request: RequestId(7), follower: 42 };
/// assert_eq!(tuple.request_id(), Some(RequestId(7)));
/// ```
pub use raybolt_macros::Tuple;

pub use request::RequestId;
pub use tuple::{Decoder, Encoder, Field, Tuple, TupleError, decode_batch, encode_batch};
pub use values::{Fields, Value, Values};
