//! A social network out of a seed.
//!
//! Real networks have a few users with thousands of followers and many with a handful. Here user
//! `i` is followed with a weight of `(i + 1)^-2/3`, which makes the number of followers a power law
//! with exponent 2.5; tweeters are drawn from a milder law, and the number of tweeters of a key is a
//! power law with exponent 2. Only the four basic operations are used, so that a seed makes the same
//! network on every machine.

use super::{Data, DataBuilder};

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generate {
    /// Decides everything else: the same seed gives the same network.
    pub seed: u64,
    /// How many users there are.
    pub users: u64,
    /// How often one follows another.
    pub edges: usize,
    /// How many keys are tweeted.
    pub keys: usize,
    /// How many users tweet one key at most.
    pub tweeters_max: u64,
}

impl Default for Generate {
    fn default() -> Generate {
        Generate { seed: 7, users: 100_000, edges: 1_000_000, keys: 10_000, tweeters_max: 2_000 }
    }
}

/// Makes the network that `options` describe.
pub fn generate(options: Generate) -> Data {
    let mut chance = Chance(options.seed);
    let mut builder = DataBuilder::new();
    for _ in 0..options.edges {
        let followed = options.user(chance.unit().powi(3));
        let follower = options.user(chance.unit());
        builder.follow(follower, followed);
    }
    for key in 0..options.keys {
        let key = builder.key(&format!("key{key}"));
        for _ in 0..options.tweeters(chance.unit()) {
            builder.tweet_key(key, options.user(chance.unit().powi(2)));
        }
    }
    builder.build()
}

impl Generate {
    /// The user at this place (from 0 up to 1) of the list.
    fn user(&self, place: f64) -> u64 {
        (place * self.users as f64) as u64
    }

    /// How many tweet a key that stands at this place among all keys, most popular first.
    fn tweeters(&self, place: f64) -> u64 {
        ((1.0 / (place + f64::EPSILON)) as u64).min(self.tweeters_max)
    }
}

/// SplitMix64: small, fast, and good enough to draw a network.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not including, 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Generate =
        Generate { seed: 1, users: 1_000, edges: 10_000, keys: 200, tweeters_max: 50 };

    #[test]
    fn the_same_seed_makes_the_same_network() {
        let (one, two) = (generate(SMALL), generate(SMALL));
        assert_eq!(one.followers(), two.followers());
        assert_eq!(one.tweeters(), two.tweeters());
        let other = generate(Generate { seed: 2, ..SMALL });
        assert_ne!(one.followers(), other.followers());
    }

    #[test]
    fn the_network_has_the_asked_for_size() {
        let data = generate(SMALL);
        assert_eq!(data.followers().values(), SMALL.edges);
        assert_eq!(data.keys().len(), SMALL.keys);
        assert!(data.users() as u64 <= SMALL.users);
        for key in 0..SMALL.keys as u32 {
            assert!((1..=50).contains(&data.tweeters().row(key).len()), "key {key}");
        }
    }

    #[test]
    fn a_few_users_have_many_followers() {
        let data = generate(SMALL);
        let mut counts: Vec<usize> =
            (0..data.users() as u32).map(|user| data.followers().row(user).len()).collect();
        counts.sort_unstable();
        let half = counts[counts.len() / 2];
        let top = counts[counts.len() - 1];
        assert!(top > 50 * half, "the most followed has {top}, the one in the middle {half}");
    }
}
