//! A type that no one can write or read.

struct Handle;

#[raybolt::remote]
fn open() -> Handle {
    Handle
}

fn main() {}
