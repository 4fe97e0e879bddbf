//! Developer habits.
fn main() {}
