//! Amounts of resources by name, and how people read them.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

/// Fractions of a resource are multiples of this: 0.0001.
pub const UNIT: i64 = 10_000;
/// The name of the resource that blocked tasks give back.
pub const CPU: &str = "CPU";
/// The name of the resource whose units have ids.
pub const GPU: &str = "GPU";
/// The name of the resource that is counted in bytes.
pub const MEMORY: &str = "memory";

/// Of most resources nobody has more.
const AMOUNT_MAX: f64 = 1e9;
/// Of memory, in bytes: in 1/[`UNIT`] a node's sum still fits its integer.
const MEMORY_MAX: f64 = 1e14;

/// What a class of tasks needs, by resource name, in 1/[`UNIT`].
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Demand(BTreeMap<String, i64>);

/// Why a demand was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DemandError {
    /// Not a finite number from 0 up.
    #[error("the amount of `{0}` must be a number from 0 to {most}", most = most_of(.0))]
    NotAQuantity(String),
    /// GPUs above one are taken whole.
    #[error("more than one `GPU` must be a whole number of them")]
    PartOfSeveralGpus,
}

impl Demand {
    /// Sets the amount of one resource; zero removes it.
    ///
    /// # Errors
    /// When the amount is not one that can be had.
    pub fn set(&mut self, name: &str, amount: f64) -> Result<(), DemandError> {
        let most = if name == MEMORY { MEMORY_MAX } else { AMOUNT_MAX };
        if !(0.0..=most).contains(&amount) {
            return Err(DemandError::NotAQuantity(name.into()));
        }
        if name == GPU && amount > 1.0 && amount.fract() != 0.0 {
            return Err(DemandError::PartOfSeveralGpus);
        }
        let units = (amount * UNIT as f64).round() as i64;
        if units == 0 {
            self.0.remove(name);
        } else {
            self.0.insert(name.into(), units);
        }
        Ok(())
    }

    /// A demand from names and amounts in 1/[`UNIT`]; what is no amount is left out.
    pub fn from_units(amounts: impl IntoIterator<Item = (String, i64)>) -> Self {
        Demand(amounts.into_iter().filter(|(_, units)| *units > 0).collect())
    }

    /// The amount of one resource, in 1/[`UNIT`].
    pub fn amount(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and amounts, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, units)| (name.as_str(), *units))
    }
}

/// `CPU: 1, GPU: 0.5`
impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, units)) in self.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{name}: {}", display_amount(name, units))?;
        }
        Ok(())
    }
}

/// An amount as people write it.
pub fn display_units(units: i64) -> String {
    format!("{}", units as f64 / UNIT as f64)
}

/// An amount of this resource as people write it: memory in MiB where it is a whole number of them.
pub fn display_amount(name: &str, units: i64) -> String {
    const MIB: i64 = UNIT << 20;
    match name {
        MEMORY if units % MIB == 0 => format!("{} MiB", units / MIB),
        MEMORY => format!("{} bytes", units / UNIT),
        _ => display_units(units),
    }
}

fn most_of(name: &str) -> &'static str {
    if name == MEMORY { "100,000,000,000,000 (bytes)" } else { "1,000,000,000" }
}

/// A class that no lease can ever serve.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "needs {resource}: {}, {among} has {}",
    display_amount(resource, *.needed),
    display_amount(resource, *.total)
)]
pub struct Infeasible {
    /// The resource that is missing.
    pub resource: String,
    /// How much of it the class needs, in 1/[`UNIT`].
    pub needed: i64,
    /// How much of it there is, in 1/[`UNIT`].
    pub total: i64,
    /// Where there is not more of it.
    pub among: Among,
}

/// Where a class could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// On any node.
    Nodes,
    /// In any bundle of its placement group.
    Bundles,
    /// In this bundle of its placement group.
    Bundle(usize),
}

impl fmt::Display for Among {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Among::Nodes => write!(f, "the largest node"),
            Among::Bundles => write!(f, "the largest bundle of its placement group"),
            Among::Bundle(index) => write!(f, "bundle {index} of its placement group"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_checked() {
        let mut demand = Demand::default();
        let text = "the amount of `CPU` must be a number from 0 to 1,000,000,000";
        assert_eq!(demand.set(CPU, -1.0).unwrap_err().to_string(), text);
        assert_eq!(demand.set(CPU, f64::NAN).unwrap_err().to_string(), text);
        assert_eq!(demand.set(CPU, 2e9).unwrap_err().to_string(), text);
        let text = "more than one `GPU` must be a whole number of them";
        assert_eq!(demand.set(GPU, 1.5).unwrap_err().to_string(), text);
        let text = "the amount of `memory` must be a number from 0 to 100,000,000,000,000 (bytes)";
        assert_eq!(demand.set(MEMORY, 1e15).unwrap_err().to_string(), text);
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        let mut demand = Demand::default();
        for (name, amount) in [("disk", 0.25), (CPU, 2.0), (MEMORY, f64::from(3 << 20))] {
            demand.set(name, amount).unwrap();
        }
        assert_eq!(demand.to_string(), "CPU: 2, disk: 0.25, memory: 3 MiB");
        demand.set(MEMORY, 1e14).unwrap();
        assert_eq!(display_amount(MEMORY, demand.amount(MEMORY)), "100000000000000 bytes");
    }
}
