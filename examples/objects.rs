//! Objects: a value is stored once and passed to many.
//!
//! An argument that is passed by value is copied into the store for each call. `put` stores it once;
//! its reference can be passed any number of times. An `Array` is shared by whoever gets it.
//!
//! ```text
//! $ cargo run --release --example objects
//! ten calls with the value: 10 copies
//! ten calls with a reference to it: 1 copy
//! [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
//! 50 million doubles: `get` copied none of them
//! objects left: 0
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::time::{Duration, Instant};

use raybolt::{Array, get, memory, put, remote};

#[remote]
fn length(text: &str) -> usize {
    text.len()
}

#[raybolt::main]
fn main() -> raybolt::Result<()> {
    let x = "hello".to_owned();
    let before = memory()?.copies;
    get((0..10).map(|_| length::remote(x.clone())).collect::<Vec<_>>())?;
    println!("ten calls with the value: {} copies", memory()?.copies - before);

    let before = memory()?.copies;
    let object = put(x)?;
    get((0..10).map(|_| length::remote(&object)).collect::<Vec<_>>())?;
    println!("ten calls with a reference to it: {} copy", memory()?.copies - before);

    let numbers = (0..10).map(put).collect::<raybolt::Result<Vec<_>>>()?;
    println!("{:?}", get(&numbers)?);

    let arrays: Vec<Array<f64>> = (0..10).map(|_| vec![0.0; 5_000_000].into()).collect();
    let stored: Vec<_> = arrays.iter().cloned().map(put).collect::<raybolt::Result<_>>()?;
    let same = get(&stored)?.iter().zip(&arrays).all(|(got, put)| got.as_ptr() == put.as_ptr());
    assert!(same, "what `get` returns lies where it was put");
    println!("50 million doubles: `get` copied none of them");

    drop((object, numbers, stored));
    // A value is there a moment before its worker has put the task away.
    let late = Instant::now() + Duration::from_secs(60);
    while memory()?.objects > 0 && Instant::now() < late {
        std::thread::yield_now();
    }
    println!("objects left: {}", memory()?.objects);
    Ok(())
}
