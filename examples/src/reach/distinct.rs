//! Counting distinct users of many requests at once.
//!
//! A hash set per request costs a hash, a probe and now and then a rehash per record. But users are
//! dense numbers, so an array with a stamp per user can tell whether a user came twice, one request
//! at a time: each request only collects its users in a list, and the stamps find the repetitions when
//! the request ends, or when its list has doubled. A new stamp for each use spares clearing the
//! array. On the mentions of the real data this takes half the time of a set.

/// The users of one request, some of them perhaps several times.
#[derive(Debug, Clone)]
pub struct Users {
    list: Vec<u32>,
    /// At which length repetitions are removed again.
    cleaned_at: usize,
}

/// Below this length a list is not worth being cleaned before the end.
const CLEANED_LEN_MIN: usize = 4_096;

impl Default for Users {
    fn default() -> Users {
        Users { list: Vec::new(), cleaned_at: CLEANED_LEN_MIN }
    }
}

impl Users {
    /// Adds a user; now and then cleans the list, so that its length is bounded by twice the number
    /// of distinct users.
    #[inline]
    pub fn push(&mut self, user: u32, stamps: &mut Stamps) {
        if self.list.len() == self.cleaned_at {
            self.clean(stamps);
        }
        self.list.push(user);
    }

    #[cold]
    fn clean(&mut self, stamps: &mut Stamps) {
        stamps.remove_repetitions(&mut self.list);
        self.cleaned_at = CLEANED_LEN_MIN.max(2 * self.list.len());
    }

    /// How many distinct users there are.
    pub fn count(&self, stamps: &mut Stamps) -> u64 {
        stamps.count_distinct(&self.list)
    }

    /// Forgets all users and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.cleaned_at = CLEANED_LEN_MIN;
    }

    /// For how many users there is memory.
    pub fn capacity(&self) -> usize {
        self.list.capacity()
    }
}

/// The list in which each user was seen last.
///
/// A byte per user keeps the array within the processor's cache; for that it is wiped every 255 uses.
#[derive(Debug, Clone)]
pub struct Stamps {
    seen: Box<[u8]>,
    /// The stamp of the last use; above all that are in `seen`, or equal to the highest.
    last: u8,
}

impl Stamps {
    /// Stamps for users below `users`.
    pub fn new(users: usize) -> Stamps {
        Stamps { seen: vec![0; users].into(), last: 0 }
    }

    fn count_distinct(&mut self, list: &[u32]) -> u64 {
        let stamp = self.fresh();
        let mut distinct = 0;
        for &user in list {
            let seen = &mut self.seen[user as usize];
            // No branch: whether a user was seen is as good as random.
            distinct += u64::from(*seen != stamp);
            *seen = stamp;
        }
        distinct
    }

    fn remove_repetitions(&mut self, list: &mut Vec<u32>) {
        let stamp = self.fresh();
        list.retain(|&user| std::mem::replace(&mut self.seen[user as usize], stamp) != stamp);
    }

    /// A stamp that no user has.
    fn fresh(&mut self) -> u8 {
        if self.last == u8::MAX {
            self.seen.fill(0);
            self.last = 0;
        }
        self.last += 1;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn repetitions_count_once_and_requests_do_not_mix() {
        let mut stamps = Stamps::new(130);
        let (mut one, mut two) = (Users::default(), Users::default());
        for (user, of) in [(0, 1), (129, 1), (64, 2), (64, 1), (129, 1), (64, 2), (0, 1), (63, 1)] {
            let users = if of == 1 { &mut one } else { &mut two };
            users.push(user, &mut stamps);
        }
        assert_eq!((one.count(&mut stamps), two.count(&mut stamps)), (4, 1));
        assert_eq!(one.count(&mut stamps), 4);
        one.clear();
        assert_eq!(one.count(&mut stamps), 0);
    }

    #[test]
    fn a_stamp_is_not_taken_for_one_of_255_uses_ago() {
        let mut stamps = Stamps::new(2);
        let mut users = Users::default();
        for user in [0, 1, 0] {
            users.push(user, &mut stamps);
        }
        for _ in 0..1_000 {
            assert_eq!(users.count(&mut stamps), 2);
        }
    }

    #[test]
    fn memory_is_bounded_by_the_distinct_users() {
        let mut stamps = Stamps::new(10_000);
        let mut users = Users::default();
        let mut expected = HashSet::new();
        for step in 0..200_000_u32 {
            let user = step.wrapping_mul(2_654_435_761) % 10_000;
            users.push(user, &mut stamps);
            expected.insert(user);
        }
        assert!(users.capacity() <= 4 * 10_000, "{}", users.capacity());
        assert_eq!(users.count(&mut stamps), expected.len() as u64);
    }
}
