//! What a worker process holds of its driver's objects, and when it says that it holds them no more.
//!
//! # Words
//! The driver *lends* a reference with each one that it writes into a message, and counts it as a borrow. Here
//! such a message becomes a *loan*, which is over when its body was dropped: read into handles once, many times,
//! or never. Handles and loans are the *holders* of an object. A process *names* what it makes; the driver
//! counts one borrow for the name.
//!
//! # Protocol
//! 1. [`Borrows::lent`] for each reference of a message; [`Borrows::named`] for what is made here.
//! 2. [`Borrows::holds`] whenever a body is read: one handle more. The driver does not hear of that.
//! 3. [`Borrows::let_go`] and [`Borrows::loan_over`] say how many borrows are to be given back now: none while
//!    there is another holder, all with the last one.
//! 4. [`Borrows::wanted`] says whether the object's value is to be asked for; [`Borrows::arrived`] when it came.
//!
//! ```text
//! driver   lends x (1)    lends x (2)                                 hears 2 releases: 0
//! worker   loan           loan, handle   loans over: nothing to say   last handle gone
//! ```
//!
//! # Invariants
//! - **UP-3 (given back once).** What the driver lent is given back as often, when the last holder of an object
//!   goes; how often bodies are read does not matter.
//! - **UP-4 (named ahead).** What is [named ahead](Borrows::named_ahead) comes if the driver has it at hand, and need not
//!   come: it is asked for all the same when somebody waits for it.
//! - **UP-2 (asked once).** A value is asked for once for all that want it until it comes, and anew by who wants
//!   it later, when nobody here has it any more.

use crate::hash::IdMap;
use crate::plant::{Plant, Plants};

/// The machine; see the module's documentation. `D` is what its driver wants to know of each object.
#[derive(Debug)]
pub struct Borrows<D> {
    known: IdMap<u64, Known<D>>,
    plants: Plants,
}

#[derive(Debug, Default)]
struct Known<D> {
    /// Handles, and loans that are not over.
    holders: u32,
    /// How often the driver counts this process.
    borrows: u32,
    /// Its value is on its way here.
    is_wanted: bool,
    about: D,
}

/// What a holder leaves behind.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum LetGo<'a, D> {
    /// There are others.
    Held(&'a mut D),
    /// It was the last: so many borrows are to be given back, and nobody asks for this any more.
    Last(u32, D),
}

impl<D> Default for Borrows<D> {
    fn default() -> Self {
        Borrows { known: IdMap::default(), plants: Plants::NONE }
    }
}

impl<D: Default> Borrows<D> {
    /// Nothing held, but planted bugs, for the simulator.
    #[cfg(feature = "plant")]
    pub fn with_plants(plants: Plants) -> Self {
        Borrows { plants, ..Self::default() }
    }

    /// The driver lends an object with a message, whose loan is a holder from now on.
    pub fn lent(&mut self, object: u64) {
        let once = self.plants.has(Plant::CountFirstLoan);
        let known = self.known.entry(object).or_default();
        known.borrows += u32::from(!(once && known.borrows > 0));
        known.holders += 1;
    }

    /// A loan is over.
    pub fn loan_over(&mut self, object: u64) -> LetGo<'_, D> {
        match (self.plants.has(Plant::LeakLoan), self.let_go(object)) {
            (true, LetGo::Last(_, about)) => LetGo::Last(0, about),
            (_, left) => left,
        }
    }

    /// This process makes an object, of which the driver will know by this name, and has the first handle.
    pub fn named(&mut self, object: u64) -> &mut D {
        let known = self.known.entry(object).or_default();
        known.borrows += 1;
        known.holders += 1;
        &mut known.about
    }

    /// There is one more handle: a body was read, or a handle cloned that stands for itself.
    pub fn holds(&mut self, object: u64) -> &mut D {
        let known = self.known.entry(object).or_default();
        known.holders += 1;
        if self.plants.has(Plant::CountReads) {
            known.borrows += 1;
        }
        &mut known.about
    }

    /// A handle is gone.
    pub fn let_go(&mut self, object: u64) -> LetGo<'_, D> {
        let hashbrown::hash_map::Entry::Occupied(mut entry) = self.known.entry(object) else {
            return LetGo::Last(0, D::default());
        };
        entry.get_mut().holders -= 1;
        match entry.get().holders {
            0 => {
                let Known { borrows, about, .. } = entry.remove();
                LetGo::Last(borrows, about)
            }
            _ => LetGo::Held(&mut entry.into_mut().about),
        }
    }

    /// Somebody here waits for the value: whether it is to be asked for now. Of what nobody holds it is not.
    #[must_use]
    pub fn wanted(&mut self, object: u64) -> bool {
        let known = self.known.get_mut(&object);
        known.is_some_and(|known| !std::mem::replace(&mut known.is_wanted, true))
    }

    /// Somebody here will wait for these objects one after the other, and now for the first: the others, as far as
    /// they would be asked for, to be named to the driver. It sends what it has; the rest is asked for in turn.
    pub fn named_ahead(&mut self, objects: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut named: Vec<u64> = Vec::new();
        for object in objects.skip(1) {
            let known = self.known.get_mut(&object).filter(|known| !known.is_wanted);
            let Some(known) = known else { continue };
            known.is_wanted = self.plants.has(Plant::TrustAhead);
            named.push(object);
        }
        named
    }

    /// The value has come, or that there is none; nothing if nobody holds the object any more.
    pub fn arrived(&mut self, object: u64) -> Option<&mut D> {
        let known = self.known.get_mut(&object)?;
        known.is_wanted = self.plants.has(Plant::WantOnce);
        Some(&mut known.about)
    }

    /// What the driver of this machine knows of an object that is held.
    pub fn about(&mut self, object: u64) -> Option<&mut D> {
        self.known.get_mut(&object).map(|known| &mut known.about)
    }

    /// How many objects are held.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: u64 = 7;

    fn released(left: LetGo<'_, ()>) -> u32 {
        match left {
            LetGo::Held(()) => 0,
            LetGo::Last(borrows, ()) => borrows,
        }
    }

    #[test]
    fn a_body_that_is_never_read_gives_back_what_was_lent() {
        let mut borrows = Borrows::<()>::default();
        borrows.lent(X);
        borrows.lent(X);
        assert_eq!(released(borrows.loan_over(X)), 0);
        assert_eq!(released(borrows.loan_over(X)), 2);
        assert!(borrows.is_empty());
    }

    #[test]
    fn a_body_that_is_read_twice_gives_back_what_was_lent_once() {
        let mut borrows = Borrows::<()>::default();
        borrows.lent(X);
        borrows.holds(X);
        borrows.holds(X);
        assert_eq!(released(borrows.loan_over(X)), 0);
        assert_eq!(released(borrows.let_go(X)), 0);
        assert_eq!(released(borrows.let_go(X)), 1);
        assert_eq!(released(borrows.let_go(X)), 0, "nobody holds it");
    }

    #[test]
    fn the_handle_may_go_before_the_loan() {
        let mut borrows = Borrows::<()>::default();
        borrows.lent(X);
        borrows.holds(X);
        assert_eq!(released(borrows.let_go(X)), 0);
        assert_eq!(borrows.len(), 1);
        assert_eq!(released(borrows.loan_over(X)), 1);
    }

    #[test]
    fn a_name_counts_once_and_what_is_lent_under_it_as_well() {
        let mut borrows = Borrows::<()>::default();
        borrows.named(X);
        borrows.lent(X);
        assert_eq!(released(borrows.let_go(X)), 0);
        assert_eq!(released(borrows.loan_over(X)), 2);
    }

    #[test]
    fn a_value_is_asked_for_once_until_it_comes() {
        let mut borrows = Borrows::<()>::default();
        assert!(!borrows.wanted(X), "nobody holds it");
        borrows.named(X);
        assert!(borrows.wanted(X));
        assert!(!borrows.wanted(X));
        assert_eq!(borrows.arrived(X), Some(&mut ()));
        assert!(borrows.wanted(X));
        assert_eq!(released(borrows.let_go(X)), 1);
        assert_eq!(borrows.arrived(X), None);
    }

    /// UP-4.
    #[test]
    fn what_is_named_ahead_is_asked_for_if_it_has_not_come() {
        let mut borrows = Borrows::<()>::default();
        let objects = [X, X + 1, X + 2, X + 3];
        for object in &objects[..3] {
            borrows.named(*object);
        }
        assert!(borrows.wanted(X + 1));
        let named = borrows.named_ahead(objects.into_iter());
        assert_eq!(named, [X + 2], "the first is asked for, one was, and one is not held");
        assert!(borrows.wanted(X + 2));
    }
}
