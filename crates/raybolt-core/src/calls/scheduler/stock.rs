//! A stock of resources: what a node has, or what a bundle has set aside.
//!
//! Resources are numbered once, by [`Names`], so that whoever takes and gives back thousands of times a
//! second compares no texts.

use super::demand::{CPU, Demand, GPU, UNIT};
use super::gpus::{Gpus, Picks};

/// The number of the resource that blocked tasks give back.
pub(in crate::calls) const CPU_INDEX: usize = 0;
/// The number of the resource whose units have ids.
pub(in crate::calls) const GPU_INDEX: usize = 1;

/// The names of all resources, by number.
#[derive(Debug, Clone)]
pub(in crate::calls) struct Names(Vec<String>);

/// A demand by numbers: each resource at most once, none with zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::calls) struct Needs(Vec<(usize, i64)>);

/// What there is, and what is free.
#[derive(Debug, Clone)]
pub(in crate::calls) struct Stock {
    total: Vec<i64>,
    /// Below zero while tasks that were blocked go on.
    free: Vec<i64>,
    gpus: Gpus,
}

impl Names {
    /// The resources of these nodes.
    pub(in crate::calls) fn of<'a>(nodes: impl IntoIterator<Item = &'a Demand>) -> Self {
        let mut names = vec![CPU.to_owned(), GPU.to_owned()];
        for (name, _) in nodes.into_iter().flat_map(Demand::iter) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Names(names)
    }

    pub(in crate::calls) fn name(&self, index: usize) -> &str {
        &self.0[index]
    }

    pub(in crate::calls) fn len(&self) -> usize {
        self.0.len()
    }

    /// The demand by numbers.
    ///
    /// # Errors
    /// At a resource that no node has.
    pub(in crate::calls) fn needs<'a>(&self, demand: &'a Demand) -> Result<Needs, (&'a str, i64)> {
        let numbered = |(name, units): (&'a str, i64)| {
            let index = self.0.iter().position(|known| known == name);
            index.map(|index| (index, units)).ok_or((name, units))
        };
        demand.iter().map(numbered).collect::<Result<_, _>>().map(Needs)
    }
}

impl Needs {
    /// Numbers and amounts.
    pub(in crate::calls) fn iter(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.0.iter().copied()
    }

    pub(in crate::calls) fn amount(&self, index: usize) -> i64 {
        self.iter().find(|(own, _)| *own == index).map_or(0, |(_, units)| units)
    }

    /// Whether it is empty, but for CPUs.
    pub(in crate::calls) fn only_cpu(&self) -> bool {
        self.iter().all(|(index, _)| index == CPU_INDEX)
    }

    /// All of these together.
    pub(in crate::calls) fn sum<'a>(of: impl IntoIterator<Item = &'a Needs>) -> Needs {
        let mut sum: Vec<(usize, i64)> = Vec::new();
        for (index, units) in of.into_iter().flat_map(Needs::iter) {
            match sum.iter_mut().find(|(own, _)| *own == index) {
                Some((_, total)) => *total = total.saturating_add(units),
                None => sum.push((index, units)),
            }
        }
        Needs(sum)
    }
}

impl Stock {
    /// A node with all of this, free.
    pub(in crate::calls) fn of_node(names: &Names, total: &Demand) -> Self {
        let total: Vec<i64> = names.0.iter().map(|name| total.amount(name)).collect();
        Stock { free: total.clone(), gpus: Gpus::new(total[GPU_INDEX]), total }
    }

    /// A bundle that has set this aside, with these GPUs.
    pub(in crate::calls) fn of_bundle(names: &Names, needs: &Needs, gpus: &[(u32, i64)]) -> Self {
        let mut total = vec![0; names.len()];
        for (index, units) in needs.iter() {
            total[index] = units;
        }
        Stock { free: total.clone(), total, gpus: Gpus::of(gpus) }
    }

    /// Number, total and what is free of each resource.
    pub(in crate::calls) fn iter(&self) -> impl Iterator<Item = (usize, i64, i64)> + '_ {
        let amounts = self.total.iter().zip(&self.free).enumerate();
        amounts.map(|(index, (total, free))| (index, *total, *free))
    }

    pub(in crate::calls) fn total(&self, index: usize) -> i64 {
        self.total[index]
    }

    /// How much of what is free of a resource is of use to who needs so many units of it.
    pub(in crate::calls) fn free_for(&self, index: usize, units: i64) -> i64 {
        match index {
            GPU_INDEX => self.gpus.free_for(units),
            _ => self.free[index],
        }
    }

    /// Whether there is enough of everything, were all of it free.
    pub(in crate::calls) fn could_fit(&self, needs: &Needs) -> bool {
        needs.iter().all(|(index, units)| units <= self.total[index])
    }

    /// Whether there is enough of everything now.
    pub(in crate::calls) fn fits(&self, needs: &Needs) -> bool {
        self.lacks(needs).next().is_none()
    }

    /// The resources of which there is not enough now.
    pub(in crate::calls) fn lacks<'a>(
        &'a self,
        needs: &'a Needs,
    ) -> impl Iterator<Item = (usize, i64)> + 'a {
        needs.iter().filter(|(index, units)| self.free_for(*index, *units) < *units)
    }

    /// Takes what fits, and says which GPUs.
    pub(in crate::calls) fn take(&mut self, needs: &Needs) -> Picks {
        let gpus = self.gpus.pick(needs.amount(GPU_INDEX)).expect("it was checked that it fits");
        for (index, units) in needs.iter() {
            self.free[index] -= units;
        }
        self.gpus.take(&gpus);
        gpus
    }

    /// Takes back what [`Stock::take`] gave.
    pub(in crate::calls) fn give(&mut self, needs: &Needs, gpus: &[(u32, i64)]) {
        for (index, units) in needs.iter() {
            self.free[index] += units;
        }
        self.gpus.give(gpus);
    }

    /// Lends or takes CPUs alone.
    pub(in crate::calls) fn add_cpus(&mut self, units: i64) {
        self.free[CPU_INDEX] += units;
    }

    /// Takes back what is left of a part that was set aside; the rest comes with its leases.
    pub(in crate::calls) fn absorb(&mut self, part: &Stock) {
        for (free, left) in self.free.iter_mut().zip(&part.free) {
            *free += left;
        }
        self.gpus.give(part.gpus.free());
    }
}

/// An amount in millionths of a whole, for comparing what cannot be added.
pub(in crate::calls) fn millionths(units: i64, of: i64) -> i64 {
    if of == 0 { 0 } else { (i128::from(units) * i128::from(100 * UNIT) / i128::from(of)) as i64 }
}
