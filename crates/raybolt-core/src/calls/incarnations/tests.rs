use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use slotmap::SlotMap;

use super::*;

const FIRST: Incarnation = Incarnation(0);
const SECOND: Incarnation = Incarnation(1);
const CALLER: CallerId = CallerId(1);
const OTHER: CallerId = CallerId(2);

fn tasks(count: usize) -> Vec<TaskKey> {
    let mut keys = SlotMap::<TaskKey, ()>::with_key();
    (0..count).map(|_| keys.insert(())).collect()
}

fn send_all(actor: &mut Incarnations<u32>) -> Vec<(u64, u32)> {
    std::iter::from_fn(|| actor.send_next().map(|call| (call.number, *call.job))).collect()
}

#[test]
fn calls_wait_for_a_place_and_then_go_in_order() {
    let tasks = tasks(3);
    let mut actor = Incarnations::new(&[1], usize::MAX, 0);
    for (job, task) in (0..).zip(&tasks) {
        actor.submitted(CALLER, *task, 0, (job, 0), true).unwrap();
    }
    assert_eq!(actor.send_next(), None);
    assert_eq!(actor.placed(), Some(FIRST));
    assert_eq!(send_all(&mut actor), [(0, 0), (1, 1), (2, 2)]);
    assert_eq!(actor.answered(FIRST, 1), Some((tasks[1], 1)));
    assert_eq!(actor.answered(FIRST, 1), None, "an answer counts once");
    assert_eq!(actor.in_flight(), 2);
}

#[test]
fn a_call_that_waits_for_arguments_holds_back_its_caller_only() {
    let tasks = tasks(3);
    let mut actor = Incarnations::new(&[1], usize::MAX, 0);
    actor.placed();
    actor.submitted(CALLER, tasks[0], 0, (0, 0), false).unwrap();
    actor.submitted(CALLER, tasks[1], 0, (1, 0), true).unwrap();
    actor.submitted(OTHER, tasks[2], 0, (2, 0), true).unwrap();
    assert_eq!(send_all(&mut actor), [(0, 2)]);
    actor.argument_ready(tasks[0]);
    assert_eq!(send_all(&mut actor), [(1, 0), (2, 1)]);
}

#[test]
fn a_restart_sends_again_what_may_be_tried_again_and_fails_the_rest() {
    let tasks = tasks(4);
    let mut actor = Incarnations::new(&[1], usize::MAX, 1);
    actor.placed();
    for (job, retries) in [(0, 1), (1, 0), (2, 1)] {
        let task = tasks[job as usize];
        actor.submitted(CALLER, task, 0, (job, retries), true).unwrap();
    }
    assert_eq!(send_all(&mut actor).len(), 3);
    let lost = actor.lost(FIRST).unwrap();
    assert_eq!(lost, Lost { restarts: true, failed: vec![(tasks[1], 1)] });
    actor.submitted(CALLER, tasks[3], 0, (3, 0), true).unwrap();
    assert_eq!(actor.placed(), Some(SECOND));
    let sent: Vec<u32> = send_all(&mut actor).into_iter().map(|(_, job)| job).collect();
    assert_eq!(sent, [0, 2, 3]);
    assert_eq!(actor.answered(FIRST, 0), None, "INC-1: the first incarnation is not heard");
    assert_eq!(actor.answered(SECOND, 0), Some((tasks[0], 0)));
    let lost = actor.lost(SECOND).unwrap();
    assert!(!lost.restarts, "INC-3: one restart was all there was");
    assert_eq!(lost.failed, [(tasks[2], 2), (tasks[3], 3)]);
    assert!(actor.submitted(CALLER, tasks[0], 0, (9, 0), true).is_err());
}

#[test]
fn a_loss_of_an_earlier_incarnation_is_not_heard() {
    let mut actor = Incarnations::<u32>::new(&[1], usize::MAX, FOREVER);
    actor.placed();
    assert!(actor.lost(FIRST).is_some());
    assert!(actor.lost(FIRST).is_none());
    actor.placed();
    assert!(actor.lost(FIRST).is_none());
    assert!(actor.ended(FIRST).is_none());
    assert!(actor.is_alive());
}

#[test]
fn a_killed_actor_hands_back_what_waits_and_awaits_what_is_in_flight() {
    let tasks = tasks(AHEAD + 2);
    let mut actor = Incarnations::new(&[1], usize::MAX, FOREVER);
    actor.placed();
    for (job, task) in (0..).zip(&tasks) {
        actor.submitted(CALLER, *task, 0, (job, 0), true).unwrap();
    }
    assert_eq!(send_all(&mut actor).len(), AHEAD + 1, "a window is one that runs and those ahead");
    assert_eq!(actor.killed().len(), 1);
    assert_eq!(actor.answered(FIRST, 0), Some((tasks[0], 0)));
    assert_eq!(actor.ended(FIRST).map(|calls| calls.len()), Some(AHEAD));
    assert_eq!(actor.in_flight(), 0);
}

#[test]
fn an_actor_without_handles_is_over_when_its_last_call_is_answered() {
    let task = tasks(1)[0];
    let mut actor = Incarnations::new(&[1], usize::MAX, 0);
    actor.submitted(CALLER, task, 0, (0, 0), true).unwrap();
    actor.last_handle_gone();
    assert!(!actor.is_over());
    actor.placed();
    assert_eq!(send_all(&mut actor).len(), 1);
    assert!(!actor.is_over());
    actor.answered(FIRST, 0);
    assert!(actor.is_over());
}

#[test]
fn a_call_beyond_the_bound_is_refused() {
    let tasks = tasks(2);
    let mut actor = Incarnations::new(&[1], 1, 0);
    actor.submitted(CALLER, tasks[0], 0, (0, 0), true).unwrap();
    let refused = actor.submitted(CALLER, tasks[1], 0, (1, 0), true);
    assert_eq!(refused, Err((Refusal::Busy, 1)));
}

#[test]
fn a_cancelled_call_is_found_where_it_is() {
    let tasks = tasks(2);
    let mut actor = Incarnations::new(&[1], usize::MAX, 0);
    actor.submitted(CALLER, tasks[0], 0, (0, 0), false).unwrap();
    actor.submitted(CALLER, tasks[1], 0, (1, 0), true).unwrap();
    actor.placed();
    assert_eq!(send_all(&mut actor), []);
    assert_eq!(actor.cancelled(tasks[0]), Cancelled::Waiting(0));
    assert_eq!(send_all(&mut actor), [(0, 1)], "it held the other back");
    assert_eq!(actor.cancelled(tasks[1]), Cancelled::Sent(FIRST, 0));
    actor.answered(FIRST, 0);
    assert_eq!(actor.cancelled(tasks[1]), Cancelled::Unknown);
}

/// What happens to an actor.
#[derive(Debug, Clone)]
enum Event {
    Submit {
        caller: u64,
        group: usize,
        retries: u32,
        ready: bool,
    },
    Ready(usize),
    Place,
    Send,
    /// The n-th of the calls in flight; `stale` with the number of an earlier incarnation.
    Answer(usize, bool),
    Cancel(usize),
    Lose(bool),
    Kill,
    End,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..3_u64, 0..2_usize, 0..3_u32, any::<bool>())
            .prop_map(|(caller, group, retries, ready)| Event::Submit { caller, group, retries, ready }),
        6 => any::<usize>().prop_map(Event::Ready),
        4 => Just(Event::Place),
        8 => Just(Event::Send),
        8 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(n, stale)| Event::Answer(n, stale)),
        2 => any::<usize>().prop_map(Event::Cancel),
        2 => any::<bool>().prop_map(Event::Lose),
        1 => Just(Event::Kill),
        1 => Just(Event::End),
    ]
}

/// A call, as the test knows it.
#[derive(Debug, Clone)]
struct Known {
    caller: u64,
    group: usize,
    retries: u32,
    sent: u32,
    is_back: bool,
}

/// The machine, and what the test knows of it.
struct World {
    actor: Incarnations<usize>,
    tasks: Vec<TaskKey>,
    calls: Vec<Known>,
    unready: BTreeSet<usize>,
    /// Number and call, of the present incarnation.
    in_flight: Vec<(u64, usize)>,
    /// The last call that was sent to the present incarnation, by caller and group.
    last: BTreeMap<(u64, usize), usize>,
    begins: u32,
}

const RESTARTS: u32 = 2;

impl World {
    fn new(count: usize) -> Self {
        World {
            actor: Incarnations::new(&[1, 2], 20, RESTARTS),
            tasks: tasks(count),
            calls: Vec::new(),
            unready: BTreeSet::new(),
            in_flight: Vec::new(),
            last: BTreeMap::new(),
            begins: 0,
        }
    }

    fn back(&mut self, calls: impl IntoIterator<Item = (TaskKey, usize)>) {
        for (task, call) in calls {
            assert_eq!(self.tasks[call], task);
            assert!(!std::mem::replace(&mut self.calls[call].is_back, true), "INC-4: once");
            self.in_flight.retain(|(_, other)| *other != call);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Submit { caller, group, retries, ready } => {
                let call = self.calls.len();
                let task = self.tasks[call];
                let id = CallerId(caller);
                let taken = self.actor.submitted(id, task, group, (call, retries), ready);
                let is_back = taken.is_err();
                self.calls.push(Known { caller, group, retries, sent: 0, is_back });
                if !ready && !is_back {
                    self.unready.insert(call);
                }
            }
            Event::Ready(n) => {
                if let Some(call) = nth(self.unready.iter(), n).copied() {
                    self.unready.remove(&call);
                    self.actor.argument_ready(self.tasks[call]);
                }
            }
            Event::Place => {
                if self.actor.placed().is_some() {
                    self.begins += 1;
                    self.last.clear();
                    assert!(self.begins <= 1 + RESTARTS, "INC-3");
                }
            }
            Event::Send => self.send(),
            Event::Answer(n, stale) => {
                let Some((number, call)) = nth(self.in_flight.iter(), n).copied() else { return };
                let mut incarnation = self.actor.incarnation();
                if stale {
                    incarnation.0 = incarnation.0.wrapping_sub(1);
                    assert_eq!(self.actor.answered(incarnation, number), None, "INC-1");
                    return;
                }
                let answered = self.actor.answered(incarnation, number);
                assert_eq!(answered, Some((self.tasks[call], call)));
                self.back(answered);
            }
            Event::Cancel(n) => {
                let Some(call) = nth(0..self.calls.len(), n) else { return };
                if let Cancelled::Waiting(found) = self.actor.cancelled(self.tasks[call]) {
                    self.back([(self.tasks[found], found)]);
                    self.unready.remove(&found);
                }
            }
            Event::Lose(stale) => {
                let mut incarnation = self.actor.incarnation();
                if stale {
                    incarnation.0 = incarnation.0.wrapping_sub(1);
                    assert_eq!(self.actor.lost(incarnation), None, "INC-1");
                    return;
                }
                let Some(lost) = self.actor.lost(incarnation) else { return };
                self.back(lost.failed);
                self.in_flight.clear();
            }
            Event::Kill => {
                let calls = self.actor.killed();
                self.back(calls);
            }
            Event::End => {
                let calls = self.actor.ended(self.actor.incarnation());
                self.back(calls.into_iter().flatten());
            }
        }
    }

    fn send(&mut self) {
        let Some(outgoing) = self.actor.send_next() else { return };
        let (number, call) = (outgoing.number, *outgoing.job);
        let known = &mut self.calls[call];
        assert!(!known.is_back && !self.unready.contains(&call));
        known.sent += 1;
        assert!(known.sent <= 1 + known.retries, "INC-3");
        let last = self.last.insert((known.caller, known.group), call);
        assert!(last.is_none_or(|last| last < call), "INC-2");
        self.in_flight.push((number, call));
    }
}

fn nth<T>(all: impl ExactSizeIterator<Item = T>, n: usize) -> Option<T> {
    let count = all.len();
    let mut all = all;
    (count > 0).then(|| all.nth(n % count)).flatten()
}

proptest! {
    #[test]
    fn whatever_happens_each_call_comes_back_once_and_in_order(
        events in prop::collection::vec(event(), 1..200),
    ) {
        let mut world = World::new(events.len());
        for event in events {
            world.happens(event);
            prop_assert_eq!(world.actor.in_flight(), world.in_flight.len());
        }
        world.happens(Event::Kill);
        world.happens(Event::End);
        prop_assert!(world.calls.iter().all(|call| call.is_back), "INC-4: all of them");
        prop_assert_eq!(world.actor.waiting() + world.actor.in_flight(), 0);
    }
}
