//! Generator: a task that returns many values, one after the other.
//!
//! A remote function that returns an iterator runs as a task whose items become objects as it makes
//! them. The caller takes references to them from a stream; a buffer with a bound lies between.
//!
//! ```text
//! $ cargo run --release --example generator
//! 3 -> 10 -> 5 -> 16 -> 8 -> 4 -> 2 -> 1
//! the first square above a million: 1002001
//! item 0, item 1, task `some` failed: no third item
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use raybolt::{ObjectRef, get, remote};

/// The way of a number down to one.
#[remote]
fn collatz(start: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(start), |n| match n {
        1 => None,
        n if n.is_multiple_of(2) => Some(n / 2),
        n => Some(3 * n + 1),
    })
}

/// Endless; dropping the stream stops it.
#[remote]
fn squares() -> impl Iterator<Item = u64> {
    (0..).map(|n| n * n)
}

#[remote]
fn some() -> impl Iterator<Item = Result<String, String>> {
    (0..).map(|n| if n < 2 { Ok(format!("item {n}")) } else { Err("no third item".into()) })
}

fn value<T: raybolt::Value>(item: raybolt::Result<ObjectRef<T>>) -> raybolt::Result<T> {
    get(item?)
}

#[raybolt::main]
fn main() -> raybolt::Result<()> {
    let way = collatz::remote(3).map(value).collect::<raybolt::Result<Vec<_>>>()?;
    let way: Vec<String> = way.iter().map(ToString::to_string).collect();
    println!("{}", way.join(" -> "));

    let mut squares = squares::options().stream_buffer(10).remote().map(value);
    let large = squares.find(|square| !matches!(square, Ok(n) if *n <= 1_000_000));
    println!("the first square above a million: {}", large.expect("it is endless")?);

    let items = some::remote().map(value);
    let texts: Vec<String> = items.map(|item| item.unwrap_or_else(|e| e.to_string())).collect();
    println!("{}", texts.join(", "));
    Ok(())
}
