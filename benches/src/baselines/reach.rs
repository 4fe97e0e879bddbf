//! Reach by two single-threaded programs: the one that everybody writes, and the best we know.
//!
//! Both compute, for each key, how many distinct users follow at least one of the key's users.

use std::collections::{HashMap, HashSet};

/// The obvious program: standard maps, and a fresh set for each key.
pub struct Obvious<'a> {
    /// Who follows a user.
    pub followers: HashMap<u32, Vec<u32>>,
    /// A key and its users.
    pub keys: &'a [(String, Vec<u32>)],
}

impl<'a> Obvious<'a> {
    /// From pairs of a follower and whom it follows.
    pub fn new(edges: &[(u32, u32)], keys: &'a [(String, Vec<u32>)]) -> Self {
        let mut followers: HashMap<u32, Vec<u32>> = HashMap::new();
        for (follower, followed) in edges {
            followers.entry(*followed).or_default().push(*follower);
        }
        Obvious { followers, keys }
    }

    /// The sum of all reaches.
    pub fn sum(&self) -> u64 {
        self.keys.iter().map(|(_, users)| self.reach(users)).sum()
    }

    /// The reach of one key.
    pub fn reach(&self, users: &[u32]) -> u64 {
        let mut seen: HashSet<u32> = HashSet::new();
        for user in users {
            if let Some(followers) = self.followers.get(user) {
                seen.extend(followers);
            }
        }
        seen.len() as u64
    }
}

/// The best known: users renamed to small numbers, followers of all users in one array, and an array
/// that remembers for each user by which key it was counted last.
pub struct Dense {
    /// Where the followers of a user start; one more than there are users.
    starts: Vec<u32>,
    followers: Vec<u32>,
    keys: Vec<Vec<u32>>,
    stamps: Vec<u32>,
    stamp: u32,
}

impl Dense {
    /// From pairs of a follower and whom it follows.
    pub fn new(edges: &[(u32, u32)], keys: &[(String, Vec<u32>)]) -> Dense {
        let mut names: Vec<u32> = edges.iter().flat_map(|(a, b)| [*a, *b]).collect();
        names.sort_unstable();
        names.dedup();
        let id = |name: &u32| names.binary_search(name).ok().map(|id| id as u32);
        let mut pairs: Vec<(u32, u32)> =
            edges.iter().filter_map(|(a, b)| Some((id(b)?, id(a)?))).collect();
        pairs.sort_unstable();
        let mut starts = vec![0; names.len() + 1];
        for (followed, _) in &pairs {
            starts[*followed as usize + 1] += 1;
        }
        for user in 1..starts.len() {
            starts[user] += starts[user - 1];
        }
        Dense {
            starts,
            followers: pairs.into_iter().map(|(_, follower)| follower).collect(),
            keys: keys.iter().map(|(_, users)| users.iter().filter_map(id).collect()).collect(),
            stamps: vec![0; names.len()],
            stamp: 0,
        }
    }

    /// The sum of all reaches.
    pub fn sum(&mut self) -> u64 {
        (0..self.keys.len()).map(|key| self.reach(key)).sum()
    }

    /// The reach of key number `key`.
    pub fn reach(&mut self, key: usize) -> u64 {
        self.stamp += 1;
        let mut reach = 0;
        for user in &self.keys[key] {
            let range =
                self.starts[*user as usize] as usize..self.starts[*user as usize + 1] as usize;
            for follower in &self.followers[range] {
                let stamp = &mut self.stamps[*follower as usize];
                reach += u64::from(*stamp != self.stamp);
                *stamp = self.stamp;
            }
        }
        reach
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_agree() {
        // 10, 11 and 12 follow 1; 11 and 13 follow 2; nobody is known to follow 99.
        let edges = [(10, 1), (11, 1), (12, 1), (11, 2), (13, 2)];
        let keys = [
            ("both".to_owned(), vec![1, 2]),
            ("second".to_owned(), vec![2]),
            ("nobody".to_owned(), vec![99]),
        ];
        let obvious = Obvious::new(&edges, &keys);
        let mut dense = Dense::new(&edges, &keys);
        let expected = [4, 2, 0];
        for (key, (_, users)) in keys.iter().enumerate() {
            assert_eq!(obvious.reach(users), expected[key]);
            assert_eq!(dense.reach(key), expected[key]);
        }
        assert_eq!((obvious.sum(), dense.sum()), (6, 6));
    }
}
