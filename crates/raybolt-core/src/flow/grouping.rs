//! Decides to which instances of a consumer a tuple goes.
//!
//! # Words
//! A *grouping* is the rule of one subscription. A *router* applies it for one producer instance and
//! one edge of the graph; it has no shared state, so routing costs no synchronisation. A *key* is a
//! `u64` hash of the fields that a keyed grouping names; the caller computes it.
//!
//! # Placement of keys
//! A key goes to instance `scale(mix(key), n)` of `n` (see [`crate::hash`]): it follows from the key and
//! the number of instances alone, so every producer, in every process and in every run, sends
//! equal keys to the same instance. Callers hash fields with a fixed seed for the same reason. The
//! key is mixed once more so that a weak hash does no harm, and so that what an instance keeps in
//! tables by the same hash is not crowded into one corner of them.
//!
//! # Invariants
//! - **GROUP-1 (in range).** Every target is below the number of instances of the consumer.
//! - **GROUP-2 (even).** After any `k` tuples of one producer, the counts of a shuffle differ by at most
//!   one between instances.
//! - **GROUP-3 (sticky).** A key of a fields grouping always goes to the same instance; a key of
//!   a partial-key grouping to one of the same two.
//!
//! # Not promised
//! Evenness over producers (each starts at its own place, chosen by its seed), and placement across
//! a change of the number of instances.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::{SplitMix, mix, scale};
use crate::ids::InstanceIndex;

/// The rule by which a subscription's tuples are shared out among the consumer's instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grouping {
    /// One instance, all in turn.
    Shuffle,
    /// One instance, the same for equal values of these fields.
    Fields(Vec<String>),
    /// One of two instances that follow from these fields, whichever this producer used less.
    PartialKey(Vec<String>),
    /// Every instance.
    All,
    /// The lowest instance.
    Global,
    /// One of the instances in this process, in turn; of all where none is here.
    LocalOrShuffle,
    /// The instance that the producer names.
    Direct,
    /// Whatever is cheapest; today as `Shuffle`.
    None,
    /// What a function of the user says; the name is for messages.
    Custom(String),
}

impl Grouping {
    /// The fields whose hash [`Router::route`] needs; empty for groupings without a key.
    pub fn key_fields(&self) -> &[String] {
        match self {
            Grouping::Fields(fields) | Grouping::PartialKey(fields) => fields,
            _ => &[],
        }
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grouping::Shuffle => f.write_str("shuffle"),
            Grouping::Fields(fields) => write!(f, "fields({})", fields.join(", ")),
            Grouping::PartialKey(fields) => write!(f, "partial key({})", fields.join(", ")),
            Grouping::All => f.write_str("all"),
            Grouping::Global => f.write_str("global"),
            Grouping::LocalOrShuffle => f.write_str("local or shuffle"),
            Grouping::Direct => f.write_str("direct"),
            Grouping::None => f.write_str("none"),
            Grouping::Custom(name) => write!(f, "custom({name})"),
        }
    }
}

/// A grouping written by the user.
pub trait Choose: Send {
    /// Appends to `chosen` the instances, each below `instances`, that a tuple with this key goes to.
    ///
    /// What the key is, is between the caller of [`Router::route`] and this function.
    fn choose(&mut self, key: u64, instances: u32, chosen: &mut Vec<InstanceIndex>);
}

/// Where one tuple goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Targets {
    /// To this instance.
    One(InstanceIndex),
    /// To every instance of the consumer.
    All,
    /// To the instances in [`Router::chosen`], perhaps none.
    Chosen,
}

/// What a router needs to know about its edge.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// How many instances the consumer has; not zero.
    pub instances: u32,
    /// The consumer's instances in the producer's process, ascending; for `LocalOrShuffle`.
    pub local: Vec<InstanceIndex>,
    /// Where this producer's turns begin; give each producer instance its own.
    pub seed: u64,
}

/// Why a direct emit or a custom grouping was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The named instance does not exist.
    #[error("instance {instance} does not exist; the consumer has {instances} (numbered from 0)")]
    NoSuchInstance {
        /// The instance that was named.
        instance: InstanceIndex,
        /// How many there are.
        instances: u32,
    },
    /// A tuple was sent to a named instance, but the edge is not grouped directly.
    #[error("the consumer does not use direct grouping; emit without naming an instance")]
    NotDirect,
}

/// Applies a grouping, for one producer instance and one edge.
pub struct Router {
    instances: u32,
    rule: Rule,
}

/// The state of each grouping; one small variant each, so that a router stays within a cache line.
enum Rule {
    Turns { next: u32 },
    LocalTurns { local: Box<[InstanceIndex]>, next: u32 },
    Key,
    TwoKeys { used: Box<[u64]> },
    All,
    Lowest,
    Direct,
    Custom { choose: Box<dyn Choose>, chosen: Vec<InstanceIndex> },
}

impl Router {
    /// A router for any grouping but `Custom`, for which use [`Router::custom`].
    ///
    /// # Panics
    /// If the consumer has no instances, or the grouping is custom: validation excludes the first,
    /// the caller the second.
    pub fn new(grouping: &Grouping, options: &RouterOptions) -> Self {
        let instances = options.instances;
        assert!(instances > 0, "a validated component has instances");
        let turn = |count: usize| SplitMix::new(options.seed).below(count as u32);
        let rule = match grouping {
            Grouping::LocalOrShuffle if !options.local.is_empty() => {
                let local: Box<[_]> = options.local.as_slice().into();
                assert!(local.iter().all(|at| at.0 < instances), "local instances are instances");
                Rule::LocalTurns { next: turn(local.len()), local }
            }
            Grouping::Shuffle | Grouping::None | Grouping::LocalOrShuffle => {
                Rule::Turns { next: turn(instances as usize) }
            }
            Grouping::Fields(_) => Rule::Key,
            Grouping::PartialKey(_) => {
                Rule::TwoKeys { used: vec![0; instances as usize].into_boxed_slice() }
            }
            Grouping::All => Rule::All,
            Grouping::Global => Rule::Lowest,
            Grouping::Direct => Rule::Direct,
            Grouping::Custom(name) => panic!("custom grouping `{name}` needs `Router::custom`"),
        };
        Self { instances, rule }
    }

    /// A router for a grouping written by the user.
    pub fn custom(choose: Box<dyn Choose>, instances: u32) -> Self {
        assert!(instances > 0, "a validated component has instances");
        Self { instances, rule: Rule::Custom { choose, chosen: Vec::new() } }
    }

    /// How many instances the consumer has.
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// Whether [`Router::route`] reads the key, so that the caller has to hash fields.
    pub fn is_keyed(&self) -> bool {
        matches!(self.rule, Rule::Key | Rule::TwoKeys { .. } | Rule::Custom { .. })
    }

    /// Whether the producer names the instance, by [`Router::direct`].
    pub fn is_direct(&self) -> bool {
        matches!(self.rule, Rule::Direct)
    }

    /// Where the next tuple goes; `key` is ignored unless [`Router::is_keyed`].
    ///
    /// An edge with direct grouping gets nothing from an ordinary emit (`Chosen` with none chosen).
    #[inline]
    pub fn route(&mut self, key: u64) -> Targets {
        let instances = self.instances;
        match &mut self.rule {
            Rule::Turns { next } => Targets::One(take_turn(next, instances)),
            Rule::LocalTurns { local, next } => {
                let turn = take_turn(next, local.len() as u32);
                Targets::One(local[turn.index()])
            }
            Rule::Key => Targets::One(place(key, instances)),
            Rule::TwoKeys { used } => Targets::One(less_used(used, key)),
            Rule::All => Targets::All,
            Rule::Lowest => Targets::One(InstanceIndex(0)),
            Rule::Direct => Targets::Chosen,
            Rule::Custom { choose, chosen } => {
                chosen.clear();
                choose.choose(key, instances, chosen);
                // What a user's function says beyond the consumer is dropped here rather than
                // trusted (GROUP-1).
                chosen.retain(|instance| instance.0 < instances);
                Targets::Chosen
            }
        }
    }

    /// The instances of the last [`Targets::Chosen`].
    pub fn chosen(&self) -> &[InstanceIndex] {
        match &self.rule {
            Rule::Custom { chosen, .. } => chosen,
            _ => &[],
        }
    }

    /// Checks an emit to a named instance.
    pub fn direct(&self, instance: InstanceIndex) -> Result<InstanceIndex, RouteError> {
        if !self.is_direct() {
            return Err(RouteError::NotDirect);
        }
        if instance.0 >= self.instances {
            return Err(RouteError::NoSuchInstance { instance, instances: self.instances });
        }
        Ok(instance)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match &self.rule {
            Rule::Turns { .. } => "turns",
            Rule::LocalTurns { .. } => "local turns",
            Rule::Key => "key",
            Rule::TwoKeys { .. } => "two keys",
            Rule::All => "all",
            Rule::Lowest => "lowest",
            Rule::Direct => "direct",
            Rule::Custom { .. } => "custom",
        };
        f.debug_struct("Router").field("rule", &rule).field("instances", &self.instances).finish()
    }
}

/// The instance that a key belongs to, of `instances`.
#[inline]
pub const fn place(key: u64, instances: u32) -> InstanceIndex {
    InstanceIndex(scale(mix(key), instances))
}

/// A comparison costs less than a division would.
#[inline]
fn take_turn(next: &mut u32, instances: u32) -> InstanceIndex {
    let turn = *next;
    *next = if turn + 1 == instances { 0 } else { turn + 1 };
    InstanceIndex(turn)
}

/// Of the key's two candidates (different ones, where there are two instances), the one that this
/// producer used less; the first if equal.
#[inline]
fn less_used(used: &mut [u64], key: u64) -> InstanceIndex {
    let instances = used.len() as u32;
    let first = place(key, instances).0;
    let chosen = if instances == 1 {
        first
    } else {
        // The second is drawn from the others by an independent hash.
        let other = scale(mix(!key), instances - 1);
        let second = if other >= first { other + 1 } else { other };
        if used[second as usize] < used[first as usize] { second } else { first }
    };
    used[chosen as usize] += 1;
    InstanceIndex(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(instances: u32, seed: u64) -> RouterOptions {
        RouterOptions { instances, local: Vec::new(), seed }
    }

    fn one(router: &mut Router, key: u64) -> u32 {
        match router.route(key) {
            Targets::One(instance) => instance.0,
            other => panic!("one instance expected, not {other:?}"),
        }
    }

    fn keyed(grouping: fn(Vec<String>) -> Grouping) -> Grouping {
        grouping(vec!["word".to_owned()])
    }

    fn counts(router: &mut Router, keys: impl Iterator<Item = u64>) -> Vec<u32> {
        let mut counts = vec![0; router.instances() as usize];
        for key in keys {
            counts[one(router, key) as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_shuffle_is_even_from_any_start() {
        for seed in 0..20 {
            for grouping in [Grouping::Shuffle, Grouping::None, Grouping::LocalOrShuffle] {
                let mut router = Router::new(&grouping, &options(3, seed));
                assert_eq!(counts(&mut router, 0..9), [3, 3, 3]);
                let mut rest = counts(&mut router, 0..4);
                rest.sort_unstable();
                assert_eq!(rest, [1, 1, 2]);
            }
        }
    }

    #[test]
    fn producers_begin_their_turns_at_different_places() {
        let mut seen = [false; 4];
        for seed in 0..32 {
            seen[one(&mut Router::new(&Grouping::Shuffle, &options(4, seed)), 0) as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn equal_keys_go_to_the_same_instance_whoever_sends_them() {
        let mut first = Router::new(&keyed(Grouping::Fields), &options(7, 1));
        let mut second = Router::new(&keyed(Grouping::Fields), &options(7, 2));
        for key in 0..1_000 {
            assert_eq!(one(&mut first, key), one(&mut second, key));
        }
    }

    #[test]
    fn weak_keys_spread_over_all_instances() {
        for spread in [1, 1 << 20, 1 << 50] {
            let mut router = Router::new(&keyed(Grouping::Fields), &options(5, 0));
            for count in counts(&mut router, (0..5_000).map(|key| key * spread)) {
                assert!((800..1_200).contains(&count), "{count}");
            }
        }
    }

    #[test]
    fn the_placement_of_keys_is_fixed() {
        // Moving a key between versions would split its count while both run: change on purpose only.
        let places: Vec<u32> = (0..8).map(|key| place(key, 10).0).collect();
        assert_eq!(places, [4, 0, 1, 7, 8, 5, 6, 2]);
    }

    #[test]
    fn a_hot_key_of_partial_key_grouping_is_shared_by_two_instances() {
        let mut router = Router::new(&keyed(Grouping::PartialKey), &options(6, 0));
        let mut counts = counts(&mut router, std::iter::repeat_n(42, 100));
        counts.sort_unstable();
        assert_eq!(counts, [0, 0, 0, 0, 50, 50]);
    }

    #[test]
    fn partial_key_grouping_prefers_the_less_used_candidate() {
        let mut router = Router::new(&keyed(Grouping::PartialKey), &options(4, 0));
        for count in counts(&mut router, 0..4_000) {
            assert!((990..1_010).contains(&count), "{count}");
        }
    }

    #[test]
    fn partial_key_grouping_needs_no_second_instance() {
        let mut router = Router::new(&keyed(Grouping::PartialKey), &options(1, 0));
        assert_eq!(counts(&mut router, 0..10), [10]);
    }

    #[test]
    fn local_instances_are_preferred_and_take_turns() {
        let local = vec![InstanceIndex(1), InstanceIndex(3)];
        let options = RouterOptions { instances: 5, local, seed: 3 };
        let mut router = Router::new(&Grouping::LocalOrShuffle, &options);
        assert_eq!(counts(&mut router, 0..10), [0, 5, 0, 5, 0]);
    }

    #[test]
    fn all_goes_to_all_and_global_to_the_lowest() {
        let mut all = Router::new(&Grouping::All, &options(3, 0));
        assert_eq!(all.route(1), Targets::All);
        let mut global = Router::new(&Grouping::Global, &options(3, 0));
        assert_eq!(counts(&mut global, 0..5), [5, 0, 0]);
    }

    #[test]
    fn a_direct_edge_takes_named_instances_only() {
        let mut direct = Router::new(&Grouping::Direct, &options(3, 0));
        assert_eq!(direct.direct(InstanceIndex(2)), Ok(InstanceIndex(2)));
        let error = direct.direct(InstanceIndex(3)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "instance 3 does not exist; the consumer has 3 (numbered from 0)"
        );
        assert_eq!((direct.route(0), direct.chosen()), (Targets::Chosen, &[][..]));
        let other = Router::new(&Grouping::Shuffle, &options(3, 0));
        assert_eq!(
            other.direct(InstanceIndex(0)).unwrap_err().to_string(),
            "the consumer does not use direct grouping; emit without naming an instance"
        );
    }

    #[test]
    fn a_custom_grouping_is_not_trusted_beyond_the_consumer() {
        struct Odd;
        impl Choose for Odd {
            fn choose(&mut self, key: u64, _: u32, chosen: &mut Vec<InstanceIndex>) {
                chosen.extend([InstanceIndex(key as u32), InstanceIndex(1), InstanceIndex(9)]);
            }
        }
        let mut router = Router::custom(Box::new(Odd), 3);
        assert!(router.is_keyed());
        for key in [2, 0] {
            assert_eq!(router.route(key), Targets::Chosen);
            assert_eq!(router.chosen(), [InstanceIndex(key as u32), InstanceIndex(1)]);
        }
    }

    #[test]
    fn only_keyed_groupings_ask_for_a_key() {
        let is_keyed = |grouping: &Grouping| Router::new(grouping, &options(2, 0)).is_keyed();
        assert!(is_keyed(&keyed(Grouping::Fields)) && is_keyed(&keyed(Grouping::PartialKey)));
        assert!(!is_keyed(&Grouping::Shuffle) && !is_keyed(&Grouping::All));
    }
}
