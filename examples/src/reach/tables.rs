//! The three URLs and nineteen people that every introduction to Distributed RPC starts with.

use super::{Data, DataBuilder, Names};

const TWEETERS: [(&str, &str); 3] = [
    ("foo.com/blog/1", "sally bob tim george nathan"),
    ("engineering.twitter.com/blog/5", "adam david sally nathan"),
    ("tech.backtype.com/blog/123", "tim mike john"),
];

const FOLLOWERS: [(&str, &str); 7] = [
    ("sally", "bob tim alice adam jim chris jai"),
    ("bob", "sally nathan jim mary david vivian"),
    ("tim", "alex"),
    ("nathan", "sally bob adam harry chris vivian emily jordan"),
    ("adam", "david carissa"),
    ("mike", "john bob"),
    ("john", "alice nathan jim mike bob"),
];

/// The reach of each URL, and of one that nobody tweeted.
pub const TABLE_ANSWERS: [(&str, u64); 4] = [
    ("foo.com/blog/1", 16),
    ("engineering.twitter.com/blog/5", 14),
    ("tech.backtype.com/blog/123", 7),
    ("notaurl.com", 0),
];

/// The tables as data.
pub fn tables() -> Data {
    let mut people = Names::default();
    let mut id = |name: &str| u64::from(people.intern(name));
    let mut builder = DataBuilder::new();
    for (user, followers) in FOLLOWERS {
        for follower in followers.split(' ') {
            builder.follow(id(follower), id(user));
        }
    }
    for (url, tweeters) in TWEETERS {
        for tweeter in tweeters.split(' ') {
            builder.tweet(url, id(tweeter));
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::super::reach_of;
    use super::*;

    #[test]
    fn the_tables_have_the_known_answers() {
        let data = tables();
        for (url, reach) in TABLE_ANSWERS {
            assert_eq!(reach_of(&data, url), reach, "{url}");
        }
    }
}
