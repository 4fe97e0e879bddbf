//! The network: when, how often, and whether at all a message arrives.
//!
//! # Words
//! A *link* leads from one party to another. Its *profile* says what it may do to messages; each
//! protocol allows less than the worst (a stream keeps its order, an ack report is not repeated), so the
//! world that sets up a link says what is allowed on it, and the seed how much of that happens.
//!
//! # Invariants
//! - **NET-1 (order).** On an ordered link a message arrives after all that were sent before it.
//! - **NET-2 (healed).** After [`Network::heal`] every message arrives once.
//! - **NET-3 (cut).** On a cut link nothing arrives that is sent, until it is healed or mended.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::clock::Micros;
use crate::rng::Rng;

/// What a link does to messages; chances in permille.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How long a message takes.
    pub delay_us: RangeInclusive<Micros>,
    /// Whether messages keep their order.
    pub ordered: bool,
    /// How many are lost.
    pub loss: u32,
    /// How many arrive twice.
    pub repeat: u32,
}

/// When a message arrives: never, once or twice.
pub type Arrivals = [Option<Micros>; 2];

/// All links of a world.
#[derive(Debug)]
pub struct Network<P> {
    profile: Profile,
    links: BTreeMap<(P, P), Link>,
    healed: bool,
}

#[derive(Debug, Default)]
struct Link {
    /// When the last message that was sent arrives (NET-1).
    last: Micros,
    cut: bool,
}

impl<P: Ord + Copy> Network<P> {
    /// A network whose links have this profile.
    pub fn new(profile: Profile) -> Self {
        Network { profile, links: BTreeMap::new(), healed: false }
    }

    /// A message is sent now. Says when it arrives.
    pub fn send(&mut self, rng: &mut Rng, now: Micros, from: P, to: P) -> Arrivals {
        let profile = &self.profile;
        let link = self.links.entry((from, to)).or_default();
        if !self.healed && (link.cut || rng.chance(profile.loss)) {
            return [None, None];
        }
        let mut arrive = || {
            let at = now + rng.within(&profile.delay_us);
            if !profile.ordered {
                return at;
            }
            link.last = link.last.max(at);
            link.last
        };
        let first = arrive();
        let second = (!self.healed && rng.chance(profile.repeat)).then(|| {
            let profile = &self.profile;
            first + rng.within(&profile.delay_us)
        });
        [Some(first), second]
    }

    /// Cuts a link in one direction.
    pub fn cut(&mut self, from: P, to: P) {
        self.links.entry((from, to)).or_default().cut = true;
    }

    /// Ends all faults for good (NET-2); delays remain.
    pub fn heal(&mut self) {
        self.healed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile { delay_us: 1..=100, ordered: true, loss: 0, repeat: 0 }
    }

    fn arrivals(network: &mut Network<u8>, count: u64) -> Vec<Arrivals> {
        let mut rng = Rng::new(3);
        (0..count).map(|now| network.send(&mut rng, now, 0, 1)).collect()
    }

    #[test]
    fn an_ordered_link_keeps_the_order_and_another_one_does_not() {
        let ordered = arrivals(&mut Network::new(profile()), 100);
        assert!(ordered.is_sorted());
        let loose = arrivals(&mut Network::new(Profile { ordered: false, ..profile() }), 100);
        assert!(!loose.is_sorted());
    }

    #[test]
    fn a_faulty_link_loses_and_repeats_until_it_is_healed() {
        let faulty = Profile { loss: 300, repeat: 300, ..profile() };
        let mut network = Network::new(faulty);
        let seen = arrivals(&mut network, 200);
        assert!(seen.contains(&[None, None]));
        assert!(seen.iter().any(|arrivals| arrivals[1].is_some()));
        network.heal();
        let healed = arrivals(&mut network, 200);
        assert!(healed.iter().all(|arrivals| arrivals[0].is_some() && arrivals[1].is_none()));
    }

    #[test]
    fn a_cut_is_one_way() {
        let mut network = Network::new(profile());
        network.cut(0, 1);
        let mut rng = Rng::new(0);
        assert_eq!(network.send(&mut rng, 0, 0, 1), [None, None]);
        assert!(network.send(&mut rng, 0, 1, 0)[0].is_some());
    }
}
