//! Finds the request that is due next, at a few nanoseconds per request.
//!
//! # Words
//! A *lane* is a queue whose deadlines never fall. Requests with the same time limit come in the
//! order of their deadlines, so they fit one lane; a handful of lanes take a handful of limits, and
//! what fits none goes to a sorted set.
//!
//! # Protocol
//! Nobody says when a request is over: its entry stays behind, *stale*, and is dropped when it comes
//! to a lane's front. When most entries are stale all are looked through once, so that the memory
//! held stays proportional to the requests alive.
//!
//! # Invariants
//! - **DUE-1 (exact).** [`Deadlines::next`] is the earliest deadline of all requests alive.
//! - **DUE-2 (bounded).** At most `2 × alive + SLACK` entries are held after [`Deadlines::add`].

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::ids::RequestId;

/// How many different time limits are cheap.
const LANES: usize = 4;
/// How many entries are held before anyone looks for stale ones.
const SLACK: usize = 64;

/// The deadlines of all requests alive, and some of requests that are not.
#[derive(Debug, Default)]
pub struct Deadlines {
    lanes: [VecDeque<(Instant, RequestId)>; LANES],
    rest: BTreeSet<(Instant, RequestId)>,
}

impl Deadlines {
    /// Adds a request. `alive` is how many there are now, `is_alive` tells which.
    pub fn add(
        &mut self,
        deadline: Instant,
        request: RequestId,
        alive: usize,
        is_alive: impl Fn(RequestId) -> bool,
    ) {
        match self.lane_for(deadline) {
            Some(lane) => lane.push_back((deadline, request)),
            None => {
                self.rest.insert((deadline, request));
            }
        }
        if self.len() > 2 * alive + SLACK {
            self.lanes.iter_mut().for_each(|lane| lane.retain(|(_, request)| is_alive(*request)));
            self.rest.retain(|(_, request)| is_alive(*request));
        }
    }

    /// The earliest deadline of a request that is alive.
    pub fn next(&mut self, is_alive: impl Fn(RequestId) -> bool) -> Option<(Instant, RequestId)> {
        let mut earliest = None;
        for lane in &mut self.lanes {
            while lane.front().is_some_and(|(_, request)| !is_alive(*request)) {
                lane.pop_front();
            }
            earliest = sooner(earliest, lane.front().copied());
        }
        while self.rest.first().is_some_and(|(_, request)| !is_alive(*request)) {
            self.rest.pop_first();
        }
        sooner(earliest, self.rest.first().copied())
    }

    /// The lane whose last deadline is the latest one not after `deadline`, or an empty one.
    fn lane_for(&mut self, deadline: Instant) -> Option<&mut VecDeque<(Instant, RequestId)>> {
        let last = |lane: &VecDeque<(Instant, RequestId)>| lane.back().map(|(last, _)| *last);
        self.lanes
            .iter_mut()
            .filter(|lane| last(lane).is_none_or(|last| last <= deadline))
            .max_by_key(|lane| last(lane))
    }

    fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum::<usize>() + self.rest.len()
    }
}

fn sooner(
    a: Option<(Instant, RequestId)>,
    b: Option<(Instant, RequestId)>,
) -> Option<(Instant, RequestId)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    fn start() -> Instant {
        Instant::now()
    }

    proptest! {
        /// DUE-1 and DUE-2 against the plain model.
        #[test]
        fn the_next_deadline_is_that_of_a_sorted_map(
            steps in proptest::collection::vec((any::<bool>(), 0u64..2_000, any::<prop::sample::Index>()), 0..400),
        ) {
            let start = start();
            let mut deadlines = Deadlines::default();
            let mut model = BTreeMap::new();
            for (number, (add, delay, which)) in steps.into_iter().enumerate() {
                let request = RequestId(number as u64);
                if add {
                    let deadline = start + Duration::from_millis(delay);
                    model.insert(request, deadline);
                    deadlines.add(deadline, request, model.len(), |id| model.contains_key(&id));
                    prop_assert!(deadlines.len() <= 2 * model.len() + SLACK);
                } else if !model.is_empty() {
                    let request = *model.keys().nth(which.index(model.len())).unwrap();
                    model.remove(&request);
                }
                let next = deadlines.next(|id| model.contains_key(&id));
                let expected = model.iter().map(|(id, at)| (*at, *id)).min();
                prop_assert_eq!(next, expected);
            }
        }
    }

    #[test]
    fn one_far_deadline_leaves_the_lanes_to_the_others() {
        let start = start();
        let mut deadlines = Deadlines::default();
        deadlines.add(start + Duration::from_secs(86_400), RequestId(0), 1, |_| true);
        for number in 1..1_000 {
            let deadline = start + Duration::from_millis(number);
            deadlines.add(deadline, RequestId(number), 1 + number as usize, |_| true);
        }
        assert!(deadlines.rest.is_empty());
        assert_eq!(deadlines.next(|_| true).unwrap().1, RequestId(1));
    }
}
