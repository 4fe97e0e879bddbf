//! Who follows whom, and who tweeted what.

use hashbrown::HashMap;
use rapidhash::fast::RandomState;

use super::{Csr, Names};

/// The follower graph and the tweets, ready to be asked; users are dense numbers.
#[derive(Debug)]
pub struct Data {
    keys: Names,
    tweeters: Csr,
    followers: Csr,
}

impl Data {
    /// The number of `key`, if anybody tweeted it.
    pub fn key(&self, key: &str) -> Option<u32> {
        self.keys.find(key)
    }

    /// All keys that somebody tweeted, in order of appearance: key `n` has the number `n`.
    pub fn keys(&self) -> &Names {
        &self.keys
    }

    /// For each key its tweeters.
    pub fn tweeters(&self) -> &Csr {
        &self.tweeters
    }

    /// For each user the followers.
    pub fn followers(&self) -> &Csr {
        &self.followers
    }

    /// How many users follow, are followed, or tweeted.
    pub fn users(&self) -> usize {
        self.followers.rows()
    }

    /// How many follower records the reach of the key with this number has to look at.
    pub fn records(&self, key: u32) -> u64 {
        let tweeters = self.tweeters.row(key).iter();
        tweeters.map(|&tweeter| self.followers.row(tweeter).len() as u64).sum()
    }
}

/// Collects edges and tweets by the users' own ids, in any order.
#[derive(Debug, Default)]
pub struct DataBuilder {
    users: HashMap<u64, u32, RandomState>,
    /// (followed, follower)
    follows: Vec<(u32, u32)>,
    keys: Names,
    /// (key, tweeter)
    tweets: Vec<(u32, u32)>,
}

impl DataBuilder {
    /// Nobody follows anybody yet.
    pub fn new() -> DataBuilder {
        DataBuilder::default()
    }

    /// Notes that `follower` follows `followed`. Who follows themselves is among their followers.
    pub fn follow(&mut self, follower: u64, followed: u64) {
        let edge = (self.user(followed), self.user(follower));
        self.follows.push(edge);
    }

    /// Notes that `tweeter` tweeted `key`.
    pub fn tweet(&mut self, key: &str, tweeter: u64) {
        let key = self.keys.intern(key);
        self.tweet_key(key, tweeter);
    }

    /// The number of `key`, for [`tweet_key`](Self::tweet_key).
    pub fn key(&mut self, key: &str) -> u32 {
        self.keys.intern(key)
    }

    /// Notes that `tweeter` tweeted the key with this number.
    pub fn tweet_key(&mut self, key: u32, tweeter: u64) {
        let tweeter = self.user(tweeter);
        self.tweets.push((key, tweeter));
    }

    /// Sorts it all.
    pub fn build(self) -> Data {
        Data {
            tweeters: Csr::from_pairs(self.keys.len(), &self.tweets),
            followers: Csr::from_pairs(self.users.len(), &self.follows),
            keys: self.keys,
        }
    }

    fn user(&mut self, id: u64) -> u32 {
        let next = self.users.len();
        *self
            .users
            .entry(id)
            .or_insert_with(|| u32::try_from(next).expect("fewer than 2^32 users fit in memory"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_each_follower_of_each_tweeter() {
        let mut builder = DataBuilder::new();
        builder.follow(1, 1);
        builder.follow(2, 1);
        builder.follow(2, 3);
        builder.tweet("#FF", 1);
        builder.tweet("#FF", 3);
        builder.tweet("#FF", 77); // follows nobody, followed by nobody
        let data = builder.build();
        assert_eq!(data.users(), 4);
        assert_eq!(data.key("#FF"), Some(0));
        assert_eq!(data.key("#ff"), None);
        assert_eq!(data.records(0), 3);
    }
}
