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
//! - `topology`: the computation as Distributed RPC, with `distinct` for the sets; `ask` starts it and
//!   keeps many requests in flight.
//! - `reference`: the same in a few plain lines, for tests to compare with.

mod ask;
mod csr;
mod data;
mod distinct;
mod generate;
mod load;
mod names;
mod reference;
mod tables;
mod topology;

pub use ask::{AskError, Options, Reach, StartError};
pub use csr::Csr;
pub use data::{Data, DataBuilder};
pub use generate::{Generate, generate};
pub use load::{LoadError, STDIN, load};
pub use names::Names;
pub use reference::reach_of;
pub use tables::{TABLE_ANSWERS, tables};
pub use topology::{FUNCTION, topology};
