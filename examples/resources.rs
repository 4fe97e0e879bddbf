//! Resources: tasks say what they need, and get it for themselves.
//!
//! GPUs are numbered; who runs with one has it alone. What cannot run yet says what it waits for, what
//! can never run says so at once.
//!
//! ```text
//! $ cargo run --release --example resources
//! This function is allowed to use GPUs [0].
//! both GPUs: [0, 1]
//! it waits: `use_gpu` needs GPU: 1 (0 of 2 free)
//! `greedy` can never run: it needs GPU: 3, the largest node has 2 (`Builder::num_gpus`)
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::thread::sleep;
use std::time::Duration;

use raybolt::{Kind, cancel, get, get_timeout, gpu_ids, is_cancelled, remote};

#[remote(num_gpus = 1)]
fn use_gpu() -> String {
    format!("This function is allowed to use GPUs {:?}.", gpu_ids())
}

/// Keeps two GPUs until it is cancelled, and tells which.
#[remote(num_gpus = 2)]
fn keep_both() -> impl Iterator<Item = Vec<u32>> {
    std::iter::once(gpu_ids()).chain(std::iter::from_fn(|| {
        while !is_cancelled() {
            sleep(Duration::from_millis(10));
        }
        None
    }))
}

#[remote(num_gpus = 3, name = "greedy")]
fn use_three() {}

#[raybolt::main(num_gpus = 2)]
fn main() -> raybolt::Result<()> {
    println!("{}", get(use_gpu::remote())?);

    let mut both = keep_both::remote();
    let ids = both.next().expect("it tells which")?;
    println!("both GPUs: {:?}", get(ids)?);
    let waiting = use_gpu::remote();
    let error = get_timeout(&waiting, Duration::from_millis(50)).expect_err("no GPU is free");
    if let Kind::Timeout { because, .. } = error.kind() {
        // What it waits for, what that waits for, and so on; each step begins with an id.
        let first = because.split("; ").next().and_then(|step| step.split_once(' '));
        println!("it waits: {}", first.map_or("", |(_id, text)| text));
    }
    cancel(&waiting)?;
    drop(both); // Who drops a stream stops the task that makes it.

    println!("{}", get(use_three::remote()).expect_err("there are only two"));
    Ok(())
}
