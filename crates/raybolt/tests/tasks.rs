//! Tasks: what a call returns, and how it is asked for.

use raybolt::{Value, get, remote};

#[remote]
fn square(x: u64) -> u64 {
    x * x
}

#[remote]
fn largest<T: Ord + Value>(values: Vec<T>) -> Option<T> {
    values.into_iter().max()
}

#[remote(num_returns = 2)]
fn halves(
    (a, b): (u64, u64),
    words: &[String],
    name: &str,
) -> Result<(u64, String), std::io::Error> {
    Ok((a + b, format!("{name}{}", words.len())))
}

#[remote]
async fn later(later: u64) -> Result<u64, String> {
    Ok(later)
}

#[remote]
fn count(n: u64) -> impl Iterator<Item = u64> {
    0..n
}

struct Counter(u64);

#[remote(concurrency_groups(io = 2))]
impl Counter {
    pub fn new(start: u64) -> Self {
        Counter(start)
    }

    pub fn add(&mut self, x: u64) -> u64 {
        self.0 += x;
        self.0
    }

    #[method(concurrency_group = "io", num_returns = 2)]
    pub async fn both(&self, x: &str) -> (u64, String) {
        (self.0, x.to_owned())
    }

    pub fn items(&self) -> impl Iterator<Item = Result<u64, String>> {
        (0..self.0).map(Ok)
    }
}

#[test]
fn all() -> raybolt::Result<()> {
    let _session = raybolt::init()?;
    assert_eq!(get(&square::remote(3))?, 9);
    assert_eq!(get(&largest::remote(vec![1, 2, 3u8]))?, Some(3));
    assert_eq!(get(&largest::remote::<u8>(vec![1, 2, 3]))?, Some(3));
    let (a, b) = halves::options().num_cpus(2.0).remote((1, 2), vec!["x".to_owned()], "z");
    assert_eq!(get((a, b))?, (3, "z1".to_owned()));
    assert_eq!(get(later::remote(3))?, 3);
    let n = count::remote(2000).map(|x| get(x?)).sum::<raybolt::Result<u64>>()?;
    assert_eq!(n, 1999 * 1000);
    let counter = Counter::remote(3);
    assert_eq!(get(counter.add(2))?, 5);
    let (a, b) = counter.both("x");
    assert_eq!(get((a, b))?, (5, "x".to_owned()));
    let n = counter.items().map(|x| get(x?)).collect::<raybolt::Result<Vec<u64>>>()?;
    assert_eq!(n, [0, 1, 2, 3, 4]);
    Ok(())
}
