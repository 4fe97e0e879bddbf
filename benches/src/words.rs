//! The text of the word count: seeded sentences of ten words, some words far more frequent than
//! others, as in language.

use std::sync::Arc;

/// How many words a sentence has.
pub const SENTENCE_WORDS: usize = 10;
/// How many different words there are.
const VOCABULARY: usize = 10_000;
/// How many different sentences there are.
const SENTENCES: usize = 5_000;

/// Sentences to be sent over and over.
#[derive(Clone)]
pub struct Text(pub Arc<Vec<String>>);

impl Text {
    /// The same text each time.
    pub fn new() -> Text {
        let mut chance = Chance(2_026);
        let words: Vec<String> = (0..VOCABULARY).map(|_| chance.word()).collect();
        let sentence = |_| {
            let words: Vec<&str> =
                (0..SENTENCE_WORDS).map(|_| words[chance.rank()].as_str()).collect();
            words.join(" ")
        };
        Text(Arc::new((0..SENTENCES).map(sentence).collect()))
    }

    /// The sentence number `index`, of endlessly many.
    pub fn sentence(&self, index: usize) -> &str {
        &self.0[index % self.0.len()]
    }
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Three to ten letters.
    fn word(&mut self) -> String {
        let length = 3 + self.next() % 8;
        let letter = |_| char::from(b'a' + u8::try_from(self.next() % 26).expect("a letter"));
        (0..length).map(letter).collect()
    }

    /// The rank of a word: rank r about in proportion to 1 / (r + 1).
    fn rank(&mut self) -> usize {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let rank = (VOCABULARY as f64).powf(uniform) - 1.0;
        (rank as usize).min(VOCABULARY - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_same_each_time_and_skewed() {
        let (a, b) = (Text::new(), Text::new());
        assert_eq!(a.0, b.0);
        assert!(a.0.iter().all(|sentence| sentence.split(' ').count() == SENTENCE_WORDS));
        let mut counts = std::collections::HashMap::new();
        for word in a.0.iter().flat_map(|sentence| sentence.split(' ')) {
            *counts.entry(word).or_insert(0) += 1;
        }
        let most = counts.values().max().unwrap();
        let all = SENTENCES * SENTENCE_WORDS;
        assert!(*most > all / 50 && *most < all / 5, "{most} of {all}");
        assert!(counts.len() > 5_000);
    }
}
