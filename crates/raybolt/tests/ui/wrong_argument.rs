//! A text where a number is expected; a reference to a text.

#[raybolt::remote]
fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    square::remote("three");
    square::remote(raybolt::put(String::new()).unwrap());
}
