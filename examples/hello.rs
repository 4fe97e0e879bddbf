//! Hello: remote functions, and a graph of them.
//!
//! `hello::remote()` calls the function as a task and returns a reference at once. References passed
//! as arguments make a graph: `a` and `b` run in parallel, `c` after both. What `init` started goes to
//! stderr: the number of CPUs differs from machine to machine.
//!
//! ```text
//! $ cargo run --release --example hello
//! Hello world !
//! C(A, B)
//! 1 and 2
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use raybolt::{get, remote};

#[remote]
fn hello() -> String {
    "Hello world !".into()
}

#[remote]
fn a() -> String {
    "A".into()
}

#[remote]
fn b() -> String {
    "B".into()
}

/// Looks at its arguments without copying them.
#[remote]
fn c(a: &str, b: &str) -> String {
    format!("C({a}, {b})")
}

/// Each part of what it returns is an object of its own.
#[remote(num_returns = 2)]
fn one_and_two() -> (u32, u32) {
    (1, 2)
}

fn main() -> raybolt::Result<()> {
    let session = raybolt::init()?;
    eprintln!("{session}");

    println!("{}", get(hello::remote())?);

    let (a, b) = (a::remote(), b::remote());
    let c = c::remote(&a, &b);
    println!("{}", get(&c)?);

    let (one, two) = one_and_two::remote();
    println!("{} and {}", get(&one)?, get(&two)?);
    Ok(())
}
