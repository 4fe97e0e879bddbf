//! The span of a macro's own message, and that nothing else is said.

struct Library;

#[raybolt::remote(concurrency_groups(io = 2))]
impl Library {
    pub fn new() -> Self {
        Library
    }

    #[method(concurrency_group = "oi")]
    pub fn read(&self) {}
}

fn main() {
    Library::new().read();
}
