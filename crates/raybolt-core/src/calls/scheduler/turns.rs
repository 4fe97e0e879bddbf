//! The waiting line: jobs take turns, and within a job those who wait do.
//!
//! ```text
//!   turn:  job 2        job 1         job 7
//!          f  g  h      f  f'         group
//!          ^ looked at first          ^ looked at last
//! ```
//!
//! Who is served goes to the end of its job's line, and its job to the end of the jobs, however many wait
//! in it: a job with a thousand kinds of tasks gets no more turns than one with a single kind.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::JobId;

/// Who waits for resources.
#[derive(Debug)]
pub(super) struct Turns<W> {
    /// A job's line stays when it is empty: most are soon filled again.
    lines: Vec<VecDeque<W>>,
    /// Which line is whose.
    of_job: BTreeMap<JobId, usize>,
    /// The lines that are not empty.
    order: VecDeque<usize>,
    /// Lines of jobs that have ended.
    unused: Vec<usize>,
}

/// A place in the line: which job in turn, and which of its line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    turn: usize,
    position: usize,
}

impl<W> Default for Turns<W> {
    fn default() -> Self {
        let (lines, of_job, order, unused) =
            (Vec::new(), BTreeMap::new(), VecDeque::new(), Vec::new());
        Turns { lines, of_job, order, unused }
    }
}

impl<W: Copy> Turns<W> {
    /// Waits from now on.
    pub(super) fn push(&mut self, job: JobId, waiter: W) {
        let line = *self.of_job.entry(job).or_insert_with(|| {
            self.unused.pop().unwrap_or_else(|| {
                self.lines.push(VecDeque::new());
                self.lines.len() - 1
            })
        });
        if self.lines[line].is_empty() {
            self.order.push_back(line);
        }
        self.lines[line].push_back(waiter);
    }

    /// Who is at this place, or at the beginning of the next job's line if that is where it ends; moves
    /// the place there.
    pub(super) fn at(&self, place: &mut Place) -> Option<W> {
        loop {
            let line = &self.lines[*self.order.get(place.turn)?];
            if let Some(waiter) = line.get(place.position) {
                return Some(*waiter);
            }
            *place = Place { turn: place.turn + 1, position: 0 };
        }
    }

    /// Takes out who is at this place; whoever came after is there now.
    pub(super) fn remove(&mut self, place: Place) {
        let line = &mut self.lines[self.order[place.turn]];
        line.remove(place.position);
        if line.is_empty() {
            self.order.remove(place.turn);
        }
    }

    /// Who is at this place has been served: it is the turn of the others, and its own again if it waits
    /// on.
    pub(super) fn served(&mut self, place: Place, waits_on: bool) {
        let job = self.order.remove(place.turn).expect("a place is that of somebody");
        let line = &mut self.lines[job];
        let waiter = line.remove(place.position).expect("a place is that of somebody");
        if waits_on {
            line.push_back(waiter);
        }
        if !line.is_empty() {
            self.order.push_back(job);
        }
    }

    /// All who wait, in the order in which they are looked at.
    pub(super) fn iter(&self) -> impl Iterator<Item = W> + '_ {
        self.order.iter().flat_map(|line| self.lines[*line].iter().copied())
    }

    /// A job has ended, and nobody waits in it.
    pub(super) fn forget(&mut self, job: JobId) {
        let line = self.of_job.get(&job).copied();
        if let Some(line) = line.filter(|line| self.lines[*line].is_empty()) {
            self.of_job.remove(&job);
            self.unused.push(line);
        }
    }
}

impl Place {
    pub(super) fn next(self) -> Place {
        Place { position: self.position + 1, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(turns: &Turns<u32>) -> Vec<u32> {
        let mut place = Place::default();
        let mut found = Vec::new();
        while let Some(waiter) = turns.at(&mut place) {
            found.push(waiter);
            place = place.next();
        }
        assert_eq!(found, turns.iter().collect::<Vec<_>>());
        found
    }

    #[test]
    fn jobs_are_served_in_turn_and_those_who_wait_in_them_too() {
        let mut turns = Turns::default();
        for (job, waiter) in [(1, 10), (1, 11), (1, 12), (2, 20)] {
            turns.push(JobId(job), waiter);
        }
        let served: Vec<_> = (0..6)
            .map(|_| {
                let mut first = Place::default();
                let waiter = turns.at(&mut first).unwrap();
                turns.served(first, true);
                waiter
            })
            .collect();
        assert_eq!(served, [10, 20, 11, 20, 12, 20]);
    }

    #[test]
    fn who_leaves_makes_room_and_an_empty_job_has_no_turn() {
        let mut turns = Turns::default();
        for (job, waiter) in [(1, 10), (1, 11), (2, 20)] {
            turns.push(JobId(job), waiter);
        }
        turns.remove(Place { turn: 0, position: 1 });
        assert_eq!(all(&turns), [10, 20]);
        turns.served(Place::default(), false);
        assert_eq!(all(&turns), [20]);
        turns.forget(JobId(1));
        turns.forget(JobId(2));
        turns.push(JobId(1), 13);
        assert_eq!(all(&turns), [20, 13]);
    }
}
