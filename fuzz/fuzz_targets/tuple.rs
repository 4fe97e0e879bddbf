//! Batches of tuples as they come over a link, typed and dynamic.
//!
//! Besides not to panic, it is asked that what was read is written alike again and again, and that a typed
//! tuple survives being a dynamic one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raybolt_core::ids::RequestId;
use raybolt_topology::Values;
use raybolt_topology::tuple::{Tuple, decode_batch, encode_batch};

type Typed = (RequestId, String, Option<u32>, Vec<u8>);

fuzz_target!(|bytes: &[u8]| {
    if let Some(batch) = read::<Typed>(bytes) {
        for tuple in batch {
            assert_eq!(Typed::from_values(tuple.clone().into_values()), Ok(tuple));
        }
    }
    for tuple in read::<Values>(bytes).unwrap_or_default() {
        // Most dynamic tuples do not fit; that must be an error.
        let _ = Typed::from_values(tuple);
    }
});

fn read<T: Tuple>(bytes: &[u8]) -> Option<Vec<T>> {
    let batch: Vec<T> = decode_batch(bytes).ok()?;
    let first = encode_batch(&batch).expect("what was read can be written");
    let again: Vec<T> = decode_batch(&first).expect("what was written can be read");
    // Compared as bytes, since a number may be none and then differs from itself.
    assert_eq!(encode_batch(&again).expect("it was written before"), first);
    Some(batch)
}
