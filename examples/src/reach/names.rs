//! Strings with dense numbers, kept in one buffer.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rapidhash::fast::RandomState;

/// Gives each distinct string a number, in order of first appearance.
#[derive(Debug, Clone, Default)]
pub struct Names {
    text: String,
    /// Where each name ends in `text`; it begins where the one before ends.
    ends: Vec<usize>,
    /// The number of each name, by the hash of the name.
    index: HashTable<u32>,
    hasher: RandomState,
}

impl Names {
    /// The number of `name`; a new one if it has none yet.
    ///
    /// # Panics
    /// If there are 2^32 names already.
    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(number) = self.find(name) {
            return number;
        }
        let number = u32::try_from(self.ends.len()).expect("fewer than 2^32 names");
        self.text.push_str(name);
        self.ends.push(self.text.len());
        let Names { text, ends, index, hasher } = self;
        index.insert_unique(hasher.hash_one(name), number, |&number| {
            hasher.hash_one(name_at(text, ends, number))
        });
        number
    }

    /// The number of `name`, if it has one.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.index.find(self.hasher.hash_one(name), |&number| self.name(number) == name).copied()
    }

    /// The name that has this number.
    ///
    /// # Panics
    /// If none has.
    pub fn name(&self, number: u32) -> &str {
        name_at(&self.text, &self.ends, number)
    }

    /// How many names there are; they have the numbers below.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

fn name_at<'a>(text: &'a str, ends: &[usize], number: u32) -> &'a str {
    let number = number as usize;
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    &text[start..ends[number]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_a_number_one_name() {
        let mut names = Names::default();
        assert_eq!(names.find("tim"), None);
        let numbers: Vec<u32> =
            ["tim", "", "mike", "tim", "", "émile"].iter().map(|name| names.intern(name)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 1, 3]);
        assert_eq!((names.name(1), names.name(2), names.name(3)), ("", "mike", "émile"));
        assert_eq!((names.find("mike"), names.find("mik")), (Some(2), None));
        assert_eq!(names.len(), 4);
    }

    #[test]
    fn thousands_of_names_are_found_again() {
        let mut names = Names::default();
        for number in 0..10_000_u32 {
            assert_eq!(names.intern(&format!("key {number}")), number);
        }
        for number in 0..10_000_u32 {
            assert_eq!(names.find(&format!("key {number}")), Some(number));
        }
    }
}
