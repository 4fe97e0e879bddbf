//! Reach: how many distinct people may have seen a URL, because someone they follow tweeted it.
//!
//! # Words
//! A *key* is what was tweeted (a URL, a hashtag, a mention), its *tweeters* are the users who
//! tweeted it. The *reach* of a key is the number of distinct followers over all its tweeters. A
//! *record* is one (tweeter, follower) pair that has to be looked at to know: the amount of work.
//!
//! # Files
//! - `csr`, `names`, `data`: the follower graph and the tweets in memory, with dense user numbers.
//! - `tables`, `generate`, `load`: where data comes from: three small tables, a seed, or files.
//! - `reference`: the same in a few plain lines, for tests to compare with.

mod csr;
mod data;
mod generate;
mod load;
mod names;
mod reference;
mod tables;

pub use csr::Csr;
pub use data::{Data, DataBuilder};
pub use generate::{Generate, generate};
pub use load::{LoadError, STDIN, load};
pub use names::Names;
pub use reference::reach_of;
pub use tables::{TABLE_ANSWERS, tables};
