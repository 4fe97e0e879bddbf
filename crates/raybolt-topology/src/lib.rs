//! Spouts, bolts and typed tuples, and the executors that run a topology on the runtime.

mod request;
pub mod tuple;
pub mod values;

pub use request::RequestId;
pub use tuple::{Decoder, Encoder, Field, Tuple, TupleError, decode_batch, encode_batch};
pub use values::{Fields, Value, Values};
