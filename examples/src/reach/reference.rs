//! Reach in a few plain lines, on one thread.

use std::collections::HashSet;

use super::Data;

/// The reach of `key`, computed the obvious way; 0 if nobody tweeted it.
pub fn reach_of(data: &Data, key: &str) -> u64 {
    let Some(key) = data.key(key) else { return 0 };
    let mut distinct: HashSet<u32> = HashSet::new();
    for &tweeter in data.tweeters().row(key) {
        distinct.extend(data.followers().row(tweeter));
    }
    distinct.len() as u64
}
