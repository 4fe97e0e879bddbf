//! Actors: values that live on, each in its place.
//!
//! `#[remote]` on an `impl` makes its type an actor. Calls of one actor run one after the other, in the
//! order of their caller; two actors run beside each other. A handle can be passed to a task.
//!
//! ```text
//! $ cargo run --release --example actors
//! each counts for itself: 1 1
//! in the order of the calls: [2, 3, 4, 5, 6]
//! after four tasks with ten each: 46
//! found by its name: 46
//! actor `Counter` is gone: it was killed
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use raybolt::{get, remote};

struct Counter {
    value: u32,
}

#[remote]
impl Counter {
    pub fn new() -> Self {
        Counter { value: 0 }
    }

    pub fn increment(&mut self) -> u32 {
        self.value += 1;
        self.value
    }

    pub fn value(&self) -> u32 {
        self.value
    }
}

/// Counts on an actor that others use too.
#[remote]
fn count_to(counter: CounterHandle, n: u32) -> raybolt::Result<()> {
    for _ in 0..n {
        get(counter.increment())?;
    }
    Ok(())
}

#[raybolt::main]
fn main() -> raybolt::Result<()> {
    let first = Counter::options().name("first").remote();
    let second = Counter::remote();
    let (one, other) = get((first.increment(), second.increment()))?;
    println!("each counts for itself: {one} {other}");

    let values: Vec<_> = (0..5).map(|_| first.increment()).collect();
    println!("in the order of the calls: {:?}", get(&values)?);

    let tasks: Vec<_> = (0..4).map(|_| count_to::remote(first.clone(), 10)).collect();
    get(&tasks)?;
    println!("after four tasks with ten each: {}", get(first.value())?);
    println!("found by its name: {}", get(Counter::find("first")?.value())?);

    second.kill();
    println!("{}", get(second.value()).expect_err("it is gone"));
    Ok(())
}
