//! Hashing of ids: fixed, so that runs repeat, and one multiplication cheap.
//!
//! Ids are made by us, so nobody can choose them to collide, and a keyed hash would buy nothing.
//! They are often sequential, or carry a process number in their high bits, so they must be mixed:
//! `hashbrown` takes the bucket from the low and a tag from the high bits of a hash. [`mix`] gives
//! both from one 64 x 64 -> 128 bit multiplication.

use std::hash::{BuildHasherDefault, Hasher};

/// A map from ids, with the same order in every run.
pub type IdMap<K, V> = hashbrown::HashMap<K, V, IdBuildHasher>;

/// A set of ids, with the same order in every run.
pub type IdSet<K> = hashbrown::HashSet<K, IdBuildHasher>;

/// Makes [`IdHasher`]s.
pub type IdBuildHasher = BuildHasherDefault<IdHasher>;

/// 2^64 divided by the golden ratio, made odd: the increment and multiplier of splitmix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Spreads `value` over all 64 bits: the halves of its product with a constant, XORed.
///
/// Part of the placement of keys (see [`crate::flow::grouping`]): changing it moves keys between
/// instances.
#[inline]
pub const fn mix(value: u64) -> u64 {
    let product = (value ^ GOLDEN) as u128 * 0xA076_1D64_78BD_642F_u128;
    (product >> 64) as u64 ^ product as u64
}

/// A hasher for ids: [`mix`] of the one number an id holds, folded for ids of several numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    /// For the rare id that holds bytes.
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0 ^ value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// A small generator of numbers from a seed (splitmix64): every seed, every number once in 2^64.
#[derive(Clone, Copy, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// A generator whose numbers follow from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number that is not zero, as edges of acknowledged tuples must be.
    #[inline]
    pub fn next_nonzero(&mut self) -> u64 {
        loop {
            let number = self.next_u64();
            if number != 0 {
                return number;
            }
        }
    }

    /// A number below `bound`, which must not be zero.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        scale(self.next_u64(), bound)
    }
}

/// Scales a well-mixed `hash` to `0..bound`, by a multiplication where `%` would divide.
#[inline]
pub const fn scale(hash: u64, bound: u32) -> u32 {
    ((hash as u128 * bound as u128) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_ids_spread_over_low_and_high_bits() {
        let mut low = [0_u32; 64];
        let mut high = [0_u32; 64];
        for id in 0..6_400_u64 {
            let hash = mix(id);
            low[(hash & 63) as usize] += 1;
            high[(hash >> 58) as usize] += 1;
        }
        for count in low.iter().chain(&high) {
            assert!((50..150).contains(count), "{low:?} {high:?}");
        }
    }

    #[test]
    fn a_number_below_one_is_zero_and_all_numbers_below_three_occur() {
        let mut chance = SplitMix::new(1);
        assert_eq!(chance.below(1), 0);
        let mut seen = [false; 3];
        for _ in 0..64 {
            seen[chance.below(3) as usize] = true;
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn splitmix_gives_its_published_numbers() {
        let mut chance = SplitMix::new(1_234_567);
        assert_eq!(chance.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(chance.next_u64(), 3_203_168_211_198_807_973);
    }
}
