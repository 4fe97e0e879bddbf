//! Tree-reduce: adds numbers pairwise by passing references.
//!
//! The whole tree is made at once; each sum waits for its two parts, and no value passes through
//! `main` but the last.
//!
//! ```text
//! $ cargo run --release --example tree_reduce
//! 8 numbers: 36
//! 16 numbers: 136
//! 1024 numbers: 524800
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use raybolt::{ObjectRef, get, put, remote};

#[remote]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// The sum of the objects; with none of them, zero.
fn tree_reduce(objects: &[ObjectRef<u64>]) -> raybolt::Result<ObjectRef<u64>> {
    match objects {
        [] => put(0),
        [one] => Ok(one.clone()),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            Ok(add::remote(tree_reduce(left)?, tree_reduce(right)?))
        }
    }
}

#[raybolt::main]
fn main() -> raybolt::Result<()> {
    for n in [8, 16, 1024] {
        let numbers = (1..=n).map(put).collect::<raybolt::Result<Vec<_>>>()?;
        println!("{n} numbers: {}", get(tree_reduce(&numbers)?)?);
    }
    Ok(())
}
