//! Divides the bundles of a placement group over nodes, all or none.
//!
//! # Words
//! A *placement group* reserves several *bundles* of resources together, for tasks and actors that need each
//! other. A bundle lies on one node. The [`PlacementStrategy`] says which bundles may, should or must share a node.
//!
//! # Protocol
//! `assign` is a pure function from what is free on the nodes to a node per bundle. Largest bundles are
//! placed first, each on the node that the strategy likes best; where that leads nowhere the next best is
//! tried, up to [`STEPS_MAX`] steps in all. Whoever asks for what all nodes together could not give even
//! when they are idle is told why: [`Unplaceable`].
//!
//! # Invariants
//! - **PLACE-1 (all or none).** An assignment names a node for every bundle, and the nodes have room for all
//!   of them together.
//! - **PLACE-2 (strict).** Under a strict strategy no other assignment is given.
//!
//! # Not promised
//! The best assignment: pack uses few nodes and spread many, as found by trying the most promising first.
//! Parts of GPUs are cut from the fullest GPU that has room; what would fit only by another cut waits.

use std::cmp::Reverse;
use std::fmt;

use thiserror::Error;

use super::scheduler::stock::{GPU_INDEX, Names, Needs, Stock, millionths};
use super::scheduler::{Among, Infeasible, display_amount};

/// How many places are tried for bundles before an assignment is given up.
pub const STEPS_MAX: u32 = 10_000;

/// How the bundles of a group are to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PlacementStrategy {
    /// On few nodes, as far as there is room.
    #[default]
    Pack,
    /// On many nodes, as far as there are.
    Spread,
    /// All on one node.
    StrictPack,
    /// Each on a node of its own.
    StrictSpread,
}

impl fmt::Display for PlacementStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PlacementStrategy::Pack => "pack",
            PlacementStrategy::Spread => "spread",
            PlacementStrategy::StrictPack => "strict pack",
            PlacementStrategy::StrictSpread => "strict spread",
        })
    }
}

/// Why a group can never be placed on these nodes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unplaceable {
    /// Every bundle wants a node of its own.
    #[error("needs {needed} nodes, there {}", there_are(*.nodes))]
    Nodes {
        /// One for each bundle.
        needed: usize,
        /// How many there are.
        nodes: usize,
    },
    /// No node is large enough for one of its bundles.
    #[error("{infeasible}, for its bundle {index}")]
    Bundle {
        /// Which one.
        index: usize,
        /// What is missing.
        infeasible: Infeasible,
    },
    /// All bundles together are too much.
    #[error(
        "needs {resource}: {} together, {} {}",
        display_amount(resource, *.needed),
        if *.one_node { "the largest node has" } else { "all nodes have" },
        display_amount(resource, *.total)
    )]
    Together {
        /// The resource that is missing.
        resource: String,
        /// How much of it all bundles need, in 1/[`UNIT`](super::scheduler::UNIT).
        needed: i64,
        /// How much of it there is.
        total: i64,
        /// Whether they must lie on one node.
        one_node: bool,
    },
    /// Each bundle fits a node, but not all of them beside each other.
    #[error(
        "needs room for {bundles} bundles, which cannot be divided over the nodes ({strategy})"
    )]
    Division {
        /// How many there are.
        bundles: usize,
        /// How they are to lie.
        strategy: PlacementStrategy,
    },
}

fn there_are(nodes: usize) -> String {
    if nodes == 1 { "is 1".into() } else { format!("are {nodes}") }
}

/// A node for each bundle; `None` if there is no room for all of them.
pub(super) fn assign(
    nodes: &[Stock],
    bundles: &[Needs],
    strategy: PlacementStrategy,
) -> Option<Vec<usize>> {
    if strategy == PlacementStrategy::StrictSpread && bundles.len() > nodes.len() {
        return None;
    }
    let mut search = Search::new(nodes, bundles, strategy);
    // What fits one node needs no search for few.
    let packed = matches!(strategy, PlacementStrategy::Pack | PlacementStrategy::StrictPack)
        && (0..nodes.len()).any(|node| search.all_on(node));
    let found = packed || strategy != PlacementStrategy::StrictPack && search.place(0);
    found.then_some(search.chosen)
}

/// The order in which bundles take their resources, largest first: parts of GPUs are cut from what whole
/// ones leave.
pub(super) fn order(bundles: &[Needs]) -> Vec<usize> {
    let whole = Needs::sum(bundles);
    let size = |index: &usize| {
        let needs = &bundles[*index];
        let largest =
            needs.iter().map(|(index, units)| millionths(units, whole.amount(index))).max();
        (Reverse((needs.amount(GPU_INDEX), largest)), *index)
    };
    let mut order: Vec<_> = (0..bundles.len()).collect();
    order.sort_by_key(size);
    order
}

/// Why these nodes can never hold the bundles, even when all is free.
pub(super) fn explain(
    names: &Names,
    nodes: &[Stock],
    bundles: &[Needs],
    strategy: PlacementStrategy,
) -> Unplaceable {
    if strategy == PlacementStrategy::StrictSpread && bundles.len() > nodes.len() {
        return Unplaceable::Nodes { needed: bundles.len(), nodes: nodes.len() };
    }
    let largest = |index| nodes.iter().map(|node| node.total(index)).max().unwrap_or(0);
    for (bundle, needs) in bundles.iter().enumerate() {
        if let Some((index, needed)) = needs.iter().find(|(index, units)| *units > largest(*index))
        {
            let resource = names.name(index).to_owned();
            let infeasible =
                Infeasible { resource, needed, total: largest(index), among: Among::Nodes };
            return Unplaceable::Bundle { index: bundle, infeasible };
        }
    }
    let one_node = strategy == PlacementStrategy::StrictPack || nodes.len() == 1;
    let sum = |index| nodes.iter().fold(0i64, |sum, node| sum.saturating_add(node.total(index)));
    let have = |index| if one_node { largest(index) } else { sum(index) };
    match Needs::sum(bundles).iter().find(|(index, units)| *units > have(*index)) {
        Some((index, needed)) => {
            let (resource, total) = (names.name(index).to_owned(), have(index));
            Unplaceable::Together { resource, needed, total, one_node }
        }
        None => Unplaceable::Division { bundles: bundles.len(), strategy },
    }
}

/// Nodes as they would be, and what has been decided so far.
struct Search<'a> {
    bundles: &'a [Needs],
    strategy: PlacementStrategy,
    order: Vec<usize>,
    nodes: Vec<Trial>,
    /// By bundle.
    chosen: Vec<usize>,
    steps_left: u32,
}

struct Trial {
    stock: Stock,
    /// How many bundles are placed here.
    bundles: usize,
}

impl<'a> Search<'a> {
    fn new(nodes: &[Stock], bundles: &'a [Needs], strategy: PlacementStrategy) -> Self {
        let trial = |stock: &Stock| Trial { stock: stock.clone(), bundles: 0 };
        Search {
            bundles,
            strategy,
            order: order(bundles),
            nodes: nodes.iter().map(trial).collect(),
            chosen: vec![0; bundles.len()],
            steps_left: STEPS_MAX,
        }
    }

    fn all_on(&mut self, node: usize) -> bool {
        let mut stock = self.nodes[node].stock.clone();
        let fits = self.order.iter().all(|bundle| {
            let needs = &self.bundles[*bundle];
            let fits = stock.fits(needs);
            if fits {
                stock.take(needs);
            }
            fits
        });
        if fits {
            self.chosen.fill(node);
        }
        fits
    }

    /// Places the bundles from `position` in the order on.
    fn place(&mut self, position: usize) -> bool {
        let Some(&bundle) = self.order.get(position) else { return true };
        let needs = &self.bundles[bundle];
        for node in self.candidates(needs) {
            if self.steps_left == 0 {
                return false;
            }
            self.steps_left -= 1;
            let trial = &mut self.nodes[node];
            let gpus = trial.stock.take(needs);
            trial.bundles += 1;
            if self.place(position + 1) {
                self.chosen[bundle] = node;
                return true;
            }
            let trial = &mut self.nodes[node];
            trial.stock.give(needs, &gpus);
            trial.bundles -= 1;
        }
        false
    }

    /// The nodes with room for a bundle, best first.
    fn candidates(&self, needs: &Needs) -> Vec<usize> {
        let alone = self.strategy == PlacementStrategy::StrictSpread;
        let fit = |node: &usize| {
            let trial = &self.nodes[*node];
            !(alone && trial.bundles > 0) && trial.stock.fits(needs)
        };
        let mut nodes: Vec<_> = (0..self.nodes.len()).filter(fit).collect();
        if nodes.len() > 1 {
            nodes.sort_by_cached_key(|node| self.rank(&self.nodes[*node], needs));
        }
        nodes
    }

    /// Least is best: how crowded or empty it is, then how much would be left.
    fn rank(&self, trial: &Trial, needs: &Needs) -> (usize, i64) {
        let left: i64 = needs
            .iter()
            .map(|(index, units)| {
                let free = trial.stock.free_for(index, units);
                millionths(free - units, trial.stock.total(index))
            })
            .sum();
        match self.strategy {
            PlacementStrategy::Pack | PlacementStrategy::StrictPack if trial.bundles == 0 => {
                (1, -left)
            }
            PlacementStrategy::Pack | PlacementStrategy::StrictPack => (0, left),
            PlacementStrategy::Spread => (trial.bundles, -left),
            PlacementStrategy::StrictSpread => (0, left),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scheduler::{CPU, Demand, GPU};
    use super::*;

    fn demand(of: &[(&str, f64)]) -> Demand {
        let mut demand = Demand::default();
        for (name, amount) in of {
            demand.set(name, *amount).unwrap();
        }
        demand
    }

    struct Nodes {
        names: Names,
        stocks: Vec<Stock>,
    }

    impl Nodes {
        fn new(nodes: &[&[(&str, f64)]]) -> Self {
            let totals: Vec<_> = nodes.iter().map(|of| demand(of)).collect();
            let names = Names::of(&totals);
            let stocks = totals.iter().map(|total| Stock::of_node(&names, total)).collect();
            Nodes { names, stocks }
        }

        fn bundles(&self, bundles: &[&[(&str, f64)]]) -> Vec<Needs> {
            bundles.iter().map(|of| self.names.needs(&demand(of)).unwrap()).collect()
        }

        fn assign(
            &self,
            bundles: &[&[(&str, f64)]],
            strategy: PlacementStrategy,
        ) -> Option<Vec<usize>> {
            assign(&self.stocks, &self.bundles(bundles), strategy)
        }

        fn why(&self, bundles: &[&[(&str, f64)]], strategy: PlacementStrategy) -> String {
            assert_eq!(self.assign(bundles, strategy), None);
            explain(&self.names, &self.stocks, &self.bundles(bundles), strategy).to_string()
        }
    }

    const ONE: &[(&str, f64)] = &[(CPU, 1.0)];
    const TWO: &[(&str, f64)] = &[(CPU, 2.0)];
    const THREE: &[(&str, f64)] = &[(CPU, 3.0)];
    const FOUR: &[(&str, f64)] = &[(CPU, 4.0)];

    #[test]
    fn pack_takes_one_node_if_it_can_and_few_if_not() {
        let nodes = Nodes::new(&[TWO, FOUR, THREE]);
        assert_eq!(nodes.assign(&[ONE, ONE], PlacementStrategy::Pack), Some(vec![0, 0]));
        assert_eq!(nodes.assign(&[TWO, TWO], PlacementStrategy::Pack), Some(vec![1, 1]));
        assert_eq!(nodes.assign(&[ONE, FOUR, TWO], PlacementStrategy::Pack), Some(vec![2, 1, 2]));
        assert_eq!(nodes.assign(&[FOUR, FOUR], PlacementStrategy::Pack), None);
    }

    #[test]
    fn spread_takes_many_nodes_and_shares_them_when_it_must() {
        let nodes = Nodes::new(&[TWO, TWO]);
        assert_eq!(nodes.assign(&[ONE, ONE], PlacementStrategy::Spread), Some(vec![0, 1]));
        assert_eq!(nodes.assign(&[ONE, ONE, TWO], PlacementStrategy::Spread), Some(vec![1, 1, 0]));
    }

    #[test]
    fn strict_pack_is_one_node_or_nothing() {
        let nodes = Nodes::new(&[TWO, FOUR]);
        assert_eq!(nodes.assign(&[ONE, THREE], PlacementStrategy::StrictPack), Some(vec![1, 1]));
        assert_eq!(
            nodes.why(&[TWO, THREE], PlacementStrategy::StrictPack),
            "needs CPU: 5 together, the largest node has 4"
        );
    }

    #[test]
    fn strict_spread_is_a_node_for_each_or_nothing() {
        let nodes = Nodes::new(&[FOUR, TWO]);
        assert_eq!(nodes.assign(&[ONE, THREE], PlacementStrategy::StrictSpread), Some(vec![1, 0]));
        assert_eq!(
            nodes.why(&[THREE, THREE], PlacementStrategy::StrictSpread),
            "needs room for 2 bundles, which cannot be divided over the nodes (strict spread)"
        );
        let one = Nodes::new(&[FOUR]);
        let why = one.why(&[ONE, ONE], PlacementStrategy::StrictSpread);
        assert_eq!(why, "needs 2 nodes, there is 1");
        let why = nodes.why(&[ONE, ONE, ONE], PlacementStrategy::StrictSpread);
        assert_eq!(why, "needs 3 nodes, there are 2");
    }

    #[test]
    fn what_no_node_has_is_said_with_figures() {
        let nodes = Nodes::new(&[&[(CPU, 4.0), (GPU, 1.0)], TWO]);
        assert_eq!(
            nodes.why(&[ONE, &[(GPU, 2.0)]], PlacementStrategy::Pack),
            "needs GPU: 2, the largest node has 1, for its bundle 1"
        );
        assert_eq!(
            nodes.why(&[TWO, TWO, THREE], PlacementStrategy::Spread),
            "needs CPU: 7 together, all nodes have 6"
        );
    }

    #[test]
    fn whole_gpus_come_before_parts_and_a_part_lies_on_one_gpu() {
        let nodes = Nodes::new(&[&[(GPU, 2.0)]]);
        let half: &[_] = &[(GPU, 0.5)];
        let most: &[_] = &[(GPU, 0.75)];
        let whole: &[_] = &[(GPU, 1.0)];
        assert!(nodes.assign(&[half, half, whole], PlacementStrategy::Pack).is_some());
        assert!(nodes.assign(&[most, most], PlacementStrategy::Pack).is_some());
        assert_eq!(nodes.assign(&[most, most, half], PlacementStrategy::Pack), None);
    }

    /// Whether `bundles` can lie on nodes of these CPUs at all, by trying everything.
    fn can_lie(
        free: &mut [u8],
        used: &mut [bool],
        bundles: &[u8],
        strategy: PlacementStrategy,
    ) -> bool {
        let Some((bundle, rest)) = bundles.split_first() else { return true };
        (0..free.len()).any(|node| {
            let others_used = used.iter().enumerate().any(|(other, used)| other != node && *used);
            let refused = match strategy {
                PlacementStrategy::StrictSpread => used[node],
                PlacementStrategy::StrictPack => others_used,
                _ => false,
            };
            if refused || free[node] < *bundle {
                return false;
            }
            let was = std::mem::replace(&mut used[node], true);
            free[node] -= bundle;
            let can = can_lie(free, used, rest, strategy);
            free[node] += bundle;
            used[node] = was;
            can
        })
    }

    proptest! {
        /// PLACE-1, PLACE-2.
        #[test]
        fn an_assignment_is_found_whenever_there_is_one_and_fits(
            cpus in prop::collection::vec(1u8..6, 1..5),
            bundles in prop::collection::vec(1u8..6, 1..5),
            strategy in prop::sample::select(vec![
                PlacementStrategy::Pack, PlacementStrategy::Spread, PlacementStrategy::StrictPack, PlacementStrategy::StrictSpread,
            ]),
        ) {
            let amount = |units: &u8| demand(&[(CPU, f64::from(*units))]);
            let totals: Vec<_> = cpus.iter().map(amount).collect();
            let names = Names::of(&totals);
            let stocks: Vec<_> = totals.iter().map(|total| Stock::of_node(&names, total)).collect();
            let needs: Vec<_> =
                bundles.iter().map(|units| names.needs(&amount(units)).unwrap()).collect();
            let found = assign(&stocks, &needs, strategy);
            let mut free = cpus.clone();
            let possible = can_lie(&mut free, &mut vec![false; cpus.len()], &bundles, strategy);
            prop_assert_eq!(found.is_some(), possible);
            if let Some(chosen) = found {
                for (bundle, node) in chosen.iter().enumerate() {
                    prop_assert!(free[*node] >= bundles[bundle]);
                    free[*node] -= bundles[bundle];
                }
                let mut distinct = chosen.clone();
                distinct.sort_unstable();
                distinct.dedup();
                match strategy {
                    PlacementStrategy::StrictPack => prop_assert_eq!(distinct.len(), 1),
                    PlacementStrategy::StrictSpread => prop_assert_eq!(distinct.len(), chosen.len()),
                    _ => {}
                }
            }
        }
    }
}
