//! Events in, effects out; then random graphs whose instances report as late as they like.

use proptest::prelude::*;

use super::*;
use crate::hash::SplitMix;

const REQUEST: RequestId = RequestId(10);

fn component(instances: u32, wants_finished: bool, downstream: &[u16]) -> BatchComponent {
    let downstream = downstream.iter().copied().map(ComponentIndex).collect();
    BatchComponent { instances, spout: false, wants_finished, downstream }
}

fn spout(downstream: &[u16]) -> BatchComponent {
    BatchComponent { spout: true, ..component(1, false, downstream) }
}

/// spout (0) -> split (1) -> count (2, four instances, wants to finish) -> sink (3).
fn linear() -> Batches {
    Batches::new(&[
        spout(&[1]),
        component(2, false, &[2]),
        component(4, true, &[3]),
        component(1, false, &[]),
    ])
}

fn sent(to: u16, count: u32) -> Sent {
    Sent { to: ComponentIndex(to), count }
}

impl Batches {
    fn report(&mut self, component: u16, instance: u32, processed: u32, sent: &[Sent]) {
        self.reported(Report {
            request: REQUEST,
            component: ComponentIndex(component),
            instance: InstanceIndex(instance),
            processed,
            sent,
        });
    }

    fn finish_done(&mut self, component: u16, instance: u32, sent: &[Sent]) {
        self.finished(FinishDone {
            request: REQUEST,
            component: ComponentIndex(component),
            instance: InstanceIndex(instance),
            sent,
        });
    }

    fn effects(&mut self) -> Vec<BatchEffect> {
        std::iter::from_fn(|| self.poll_effect()).collect()
    }
}

fn finish(component: u16, instance: u32) -> BatchEffect {
    let (component, instance) = (ComponentIndex(component), InstanceIndex(instance));
    BatchEffect::Finish { request: REQUEST, component, instance }
}

fn abandon(component: u16, instance: u32) -> BatchEffect {
    let (component, instance) = (ComponentIndex(component), InstanceIndex(instance));
    BatchEffect::Abandon { request: REQUEST, component, instance }
}

fn completed() -> BatchEffect {
    BatchEffect::Completed { request: REQUEST }
}

fn failed(message: &str) -> BatchEffect {
    BatchEffect::Failed { request: REQUEST, message: message.into() }
}

#[test]
fn a_request_fails_whose_instance_lost_its_state_before_it_finished() {
    let mut batches = linear();
    batches.opened(REQUEST, &[sent(1, 1)]);
    batches.report(1, 0, 1, &[sent(2, 2)]);
    batches.report(2, 3, 1, &[]);
    let lose = |batches: &mut Batches, instance| {
        batches.state_lost(ComponentIndex(2), InstanceIndex(instance), "lost");
        batches.effects()
    };
    assert_eq!(lose(&mut batches, 1), [], "it has seen none of it");
    let failed = BatchEffect::Failed { request: REQUEST, message: "lost".into() };
    assert_eq!(lose(&mut batches, 3), [failed]);
    assert_eq!(lose(&mut batches, 3), []);
}

#[test]
fn the_instances_that_saw_a_request_finish_it_after_everything_upstream() {
    let mut batches = linear();
    batches.opened(REQUEST, &[sent(1, 2)]);
    batches.report(1, 0, 1, &[sent(2, 3)]);
    batches.report(2, 3, 2, &[]);
    batches.report(2, 1, 1, &[]);
    assert_eq!(batches.effects(), []); // One delivery to split is outstanding.
    batches.report(1, 1, 1, &[]);
    assert_eq!(batches.effects(), [finish(2, 1), finish(2, 3)]);
    batches.finish_done(2, 3, &[sent(3, 1)]);
    batches.report(3, 0, 1, &[]);
    assert_eq!(batches.effects(), []);
    batches.finish_done(2, 1, &[sent(3, 1)]);
    assert_eq!(batches.effects(), []);
    batches.report(3, 0, 1, &[]);
    assert_eq!(batches.effects(), [completed()]);
    assert!(batches.is_empty());
}

#[test]
fn the_home_instance_finishes_what_no_instance_saw() {
    let mut batches = linear();
    batches.opened(REQUEST, &[sent(1, 1)]);
    batches.report(1, 0, 1, &[]);
    assert_eq!(batches.effects(), [finish(2, 10 % 4)]);
    batches.finish_done(2, 2, &[]);
    assert_eq!(batches.effects(), [completed()]);
    assert!(batches.is_empty());
}

#[test]
fn a_request_that_nothing_was_sent_for_still_finishes() {
    let mut batches = linear();
    batches.opened(REQUEST, &[]);
    assert_eq!(batches.effects(), [finish(2, 2)]);
    batches.finish_done(2, 2, &[]);
    assert_eq!(batches.effects(), [completed()]);
}

#[test]
fn a_consumer_may_report_before_its_producer_and_before_the_request_is_opened() {
    let mut batches = linear();
    batches.report(2, 0, 1, &[sent(3, 1)]);
    batches.report(3, 0, 1, &[]);
    batches.report(1, 0, 1, &[sent(2, 1)]);
    assert_eq!(batches.effects(), []);
    batches.opened(REQUEST, &[sent(1, 1)]);
    assert_eq!(batches.effects(), [finish(2, 0)]);
}

#[test]
fn branches_that_merge_are_both_waited_for() {
    // spout (0) -> left (1), right (2) -> join (3, wants to finish); left -> right as well.
    let mut batches = Batches::new(&[
        spout(&[1, 2]),
        component(1, false, &[2, 3]),
        component(1, false, &[3]),
        component(2, true, &[]),
    ]);
    batches.opened(REQUEST, &[sent(1, 1), sent(2, 1)]);
    batches.report(2, 0, 1, &[sent(3, 1)]);
    batches.report(3, 0, 1, &[]);
    assert_eq!(batches.effects(), []);
    batches.report(1, 0, 1, &[sent(2, 1), sent(3, 1)]);
    batches.report(3, 1, 1, &[]);
    assert_eq!(batches.effects(), []);
    batches.report(2, 0, 1, &[]);
    assert_eq!(batches.effects(), [finish(3, 0), finish(3, 1)]);
}

#[test]
fn two_spouts_are_closed_together() {
    let mut batches = Batches::new(&[spout(&[2]), spout(&[2]), component(1, true, &[])]);
    batches.opened(REQUEST, &[sent(2, 1)]);
    batches.report(2, 0, 1, &[]);
    assert_eq!(batches.effects(), [finish(2, 0)]);
}

#[test]
fn a_failure_is_told_at_once_and_what_drains_is_abandoned() {
    let mut batches = linear();
    batches.opened(REQUEST, &[sent(1, 2)]);
    batches.report(1, 0, 1, &[sent(2, 2)]);
    batches.report(2, 1, 1, &[]);
    batches.failed(REQUEST, "no such word");
    assert_eq!(batches.effects(), [failed("no such word")]);
    batches.failed(REQUEST, "another");
    batches.report(2, 3, 1, &[]);
    assert_eq!(batches.effects(), []); // The second delivery to split is still on its way.
    batches.report(1, 1, 1, &[]);
    assert_eq!(batches.effects(), [abandon(2, 1), abandon(2, 3)]);
    assert!(batches.is_empty());
}

#[test]
fn an_instance_that_has_finished_is_not_told_to_abandon() {
    let mut batches = linear();
    batches.opened(REQUEST, &[sent(1, 1)]);
    batches.report(1, 0, 1, &[sent(2, 2)]);
    batches.report(2, 0, 1, &[]);
    batches.report(2, 1, 1, &[]);
    assert_eq!(batches.effects(), [finish(2, 0), finish(2, 1)]);
    batches.finish_done(2, 0, &[sent(3, 1)]);
    batches.failed(REQUEST, "broken in finished");
    batches.finish_done(2, 1, &[]);
    assert_eq!(batches.effects(), [failed("broken in finished")]);
    batches.report(3, 0, 1, &[]);
    assert_eq!(batches.effects(), []); // Both were told to finish, and did.
    assert!(batches.is_empty());
}

#[test]
fn a_failure_may_precede_the_opening() {
    let mut batches = linear();
    batches.failed(REQUEST, "early");
    batches.report(1, 0, 1, &[]);
    assert_eq!(batches.effects(), [failed("early")]);
    batches.opened(REQUEST, &[sent(1, 1)]);
    assert_eq!(batches.effects(), []);
    assert!(batches.is_empty());
}

#[test]
fn a_cancel_fails_what_is_open_and_ignores_what_is_not() {
    let mut batches = linear();
    assert!(!batches.cancelled(REQUEST, "client left"));
    assert!(batches.is_empty());
    batches.opened(REQUEST, &[sent(1, 1)]);
    assert!(batches.cancelled(REQUEST, "client left"));
    assert_eq!(batches.effects(), [failed("client left")]);
    batches.report(1, 0, 1, &[]);
    assert!(batches.is_empty());
    assert!(!batches.cancelled(REQUEST, "client left"));
    assert_eq!(batches.effects(), []);
}

#[test]
fn a_finish_that_was_not_asked_for_or_comes_twice_is_not_heard() {
    let mut batches = linear();
    batches.finish_done(2, 0, &[]); // No such request.
    batches.opened(REQUEST, &[sent(1, 1)]);
    batches.finish_done(2, 0, &[sent(3, 5)]); // Not asked yet.
    batches.finish_done(1, 0, &[]); // Does not want to finish.
    batches.report(1, 0, 1, &[sent(2, 2)]);
    batches.report(2, 0, 1, &[]);
    batches.report(2, 1, 1, &[]);
    batches.finish_done(2, 0, &[]);
    batches.finish_done(2, 0, &[]);
    assert_eq!(batches.effects(), [finish(2, 0), finish(2, 1)]);
    batches.finish_done(2, 1, &[]);
    assert_eq!(batches.effects(), [completed()]);
}

#[test]
fn instances_beyond_one_word_of_bits_are_told_too() {
    let mut batches = Batches::new(&[spout(&[1]), component(200, true, &[])]);
    batches.opened(REQUEST, &[sent(1, 3)]);
    for instance in [199, 0, 64] {
        batches.report(1, instance, 1, &[]);
    }
    assert_eq!(batches.effects(), [finish(1, 0), finish(1, 64), finish(1, 199)]);
}

#[test]
fn a_slot_is_used_again_without_traces_of_its_last_request() {
    let mut batches = linear();
    for number in 0..100 {
        let request = RequestId(number);
        batches.opened(request, &[sent(1, 1)]);
        batches.failed(request, "no");
        let (component, instance) = (ComponentIndex(1), InstanceIndex(0));
        let report = Report { request, component, instance, processed: 1, sent: &[sent(2, 1)] };
        batches.reported(report);
        let (component, instance) = (ComponentIndex(2), InstanceIndex(number as u32 % 4));
        batches.reported(Report { request, component, instance, processed: 1, sent: &[] });
        let message = "no".into();
        let expected = [
            BatchEffect::Failed { request, message },
            BatchEffect::Abandon { request, component, instance },
        ];
        assert_eq!(batches.effects(), expected);
    }
    assert_eq!((batches.len(), batches.records.slots()), (0, 1));
}

/// A topology that is run by hand: deliveries wait at instances, reports wait to be folded.
struct World {
    graph: Vec<BatchComponent>,
    batches: Batches,
    chance: SplitMix,
    /// Deliveries not yet processed, per (request, component, instance).
    inboxes: Vec<(RequestId, ComponentIndex, InstanceIndex)>,
    /// Reports on their way to the machine; any may arrive next.
    on_the_way: Vec<Event>,
    /// What each instance was told to do and has not done.
    finishing: Vec<(RequestId, ComponentIndex, InstanceIndex)>,
    /// Deliveries made and not processed per request and component: the truth that is not to be
    /// contradicted.
    outstanding: Vec<Vec<u32>>,
    outcomes: Vec<Vec<&'static str>>,
    finished: Vec<(RequestId, ComponentIndex, InstanceIndex)>,
    failures: Vec<bool>,
}

enum Event {
    Opened(RequestId, Vec<Sent>),
    Reported(RequestId, ComponentIndex, InstanceIndex, u32, Vec<Sent>),
    Finished(RequestId, ComponentIndex, InstanceIndex, Vec<Sent>),
}

impl World {
    fn new(seed: u64, requests: usize) -> Self {
        let mut chance = SplitMix::new(seed);
        let graph = random_graph(&mut chance);
        Self {
            batches: Batches::new(&graph),
            inboxes: Vec::new(),
            on_the_way: Vec::new(),
            finishing: Vec::new(),
            outstanding: vec![vec![0; graph.len()]; requests],
            outcomes: vec![Vec::new(); requests],
            finished: Vec::new(),
            failures: vec![false; requests],
            graph,
            chance,
        }
    }

    /// Sends random numbers of deliveries downstream of `from`, and says how many.
    fn send(&mut self, request: RequestId, from: usize) -> Vec<Sent> {
        let mut sent = Vec::new();
        for &to in &self.graph[from].downstream.clone() {
            let count = self.chance.below(3);
            for _ in 0..count {
                let instance = self.chance.below(self.graph[to.index()].instances);
                self.inboxes.push((request, to, InstanceIndex(instance)));
                self.outstanding[request.0 as usize][to.index()] += 1;
            }
            sent.push(Sent { to, count });
        }
        sent
    }

    fn open(&mut self, request: RequestId) {
        let from = (0..self.graph.len()).rfind(|&at| self.graph[at].spout).expect("has a spout");
        let sent = self.send(request, from);
        self.on_the_way.push(Event::Opened(request, sent));
    }

    /// Lets one thing happen; false when nothing is left to happen.
    fn step(&mut self) -> bool {
        let (inboxes, finishing) = (self.inboxes.len(), self.finishing.len());
        let choices = inboxes + finishing + self.on_the_way.len();
        if choices == 0 {
            return false;
        }
        let choice = self.chance.below(choices as u32) as usize;
        if choice < inboxes {
            self.process(choice);
        } else if choice < inboxes + finishing {
            self.finish(choice - inboxes);
        } else {
            let event = self.on_the_way.swap_remove(choice - inboxes - finishing);
            self.arrive(event);
        }
        true
    }

    /// An instance takes a delivery, and all others of the request that wait for it.
    fn process(&mut self, choice: usize) {
        let (request, component, instance) = self.inboxes[choice];
        let before = self.inboxes.len();
        self.inboxes.retain(|&waiting| waiting != (request, component, instance));
        let processed = (before - self.inboxes.len()) as u32;
        self.outstanding[request.0 as usize][component.index()] -= processed;
        let told = self.finished.iter().any(|&(r, c, _)| (r, c) == (request, component));
        assert!(!told, "a delivery came after the component was told to finish");
        if self.chance.below(40) == 0 {
            self.failures[request.0 as usize] = true;
            self.batches.failed(request, "unlucky");
        }
        let sent = self.send(request, component.index());
        self.on_the_way.push(Event::Reported(request, component, instance, processed, sent));
    }

    fn finish(&mut self, choice: usize) {
        let (request, component, instance) = self.finishing.swap_remove(choice);
        let sent = self.send(request, component.index());
        self.on_the_way.push(Event::Finished(request, component, instance, sent));
    }

    fn arrive(&mut self, event: Event) {
        match event {
            Event::Opened(request, sent) => self.batches.opened(request, &sent),
            Event::Reported(request, component, instance, processed, sent) => {
                let sent = &sent;
                self.batches.reported(Report { request, component, instance, processed, sent });
            }
            Event::Finished(request, component, instance, sent) => {
                let sent = &sent;
                self.batches.finished(FinishDone { request, component, instance, sent });
            }
        }
    }

    /// Obeys the effects, and checks each against the truth.
    fn obey(&mut self) {
        while let Some(effect) = self.batches.poll_effect() {
            match effect {
                BatchEffect::Finish { request, component, instance } => {
                    let told = (request, component, instance);
                    assert_eq!(self.outstanding[request.0 as usize][component.index()], 0);
                    assert!(!self.finished.contains(&told), "told to finish twice");
                    self.finished.push(told);
                    self.finishing.push(told);
                }
                BatchEffect::Abandon { request, .. } => {
                    self.check_drained(request);
                    assert_eq!(self.outcomes[request.0 as usize], ["failed"]);
                }
                BatchEffect::Completed { request } => {
                    self.check_drained(request);
                    self.outcomes[request.0 as usize].push("completed");
                }
                BatchEffect::Failed { request, .. } => {
                    self.outcomes[request.0 as usize].push("failed");
                }
            }
        }
    }

    fn check_drained(&self, request: RequestId) {
        assert!(self.outstanding[request.0 as usize].iter().all(|&count| count == 0));
        assert!(self.finishing.iter().all(|&(other, ..)| other != request));
    }

    /// Each component that wants it was told, at all its instances that saw something or at one.
    fn check_finished(&self, request: RequestId) {
        for (position, component) in self.graph.iter().enumerate() {
            let told = self.finished.iter().filter(|t| (t.0, t.1.index()) == (request, position));
            assert_eq!(told.count() > 0, component.wants_finished && !component.spout);
        }
    }
}

/// One or two spouts, then bolts that each read one to three components before them.
fn random_graph(chance: &mut SplitMix) -> Vec<BatchComponent> {
    let spouts = 1 + chance.below(2);
    let mut graph: Vec<_> = (0..spouts).map(|_| spout(&[])).collect();
    for position in spouts..spouts + 1 + chance.below(6) {
        for _ in 0..1 + chance.below(3) {
            let upstream = &mut graph[chance.below(position) as usize].downstream;
            let this = ComponentIndex(position as u16);
            if !upstream.contains(&this) {
                upstream.push(this);
            }
        }
        let instances = [1, 2, 5, 70][chance.below(4) as usize];
        graph.push(component(instances, chance.below(2) == 0, &[]));
    }
    graph
}

/// Runs the world to its end, and checks how each request ended.
fn run(mut world: World, requests: usize) {
    for number in 0..requests {
        world.open(RequestId(number as u64));
    }
    while world.step() {
        world.obey();
    }
    for number in 0..requests {
        let expected = if world.failures[number] { "failed" } else { "completed" };
        assert_eq!(world.outcomes[number], [expected]);
        if !world.failures[number] {
            world.check_finished(RequestId(number as u64));
        }
    }
    assert!(world.batches.is_empty());
    assert!(world.batches.records.is_untouched());
}

proptest! {
    #[test]
    fn any_graph_with_late_reports_ends_each_request_once_and_never_early(
        seed: u64,
        requests in 1..6_usize,
    ) {
        run(World::new(seed, requests), requests);
    }
}

#[cfg(feature = "plant")]
mod plants {
    use super::*;

    fn planted(plant: Plant) -> Batches {
        let graph = [spout(&[1]), component(1, true, &[])];
        Batches::with_plants(&graph, Plants::only(plant))
    }

    #[test]
    fn finish_early_tells_before_the_last_delivery() {
        let mut batches = planted(Plant::FinishEarly);
        batches.opened(REQUEST, &[sent(1, 2)]);
        batches.report(1, 0, 1, &[]);
        assert_eq!(batches.effects(), [finish(1, 0)]);
    }

    #[test]
    fn leak_batch_keeps_a_failed_request() {
        let mut batches = planted(Plant::LeakBatch);
        batches.opened(REQUEST, &[sent(1, 1)]);
        batches.failed(REQUEST, "no");
        batches.report(1, 0, 1, &[]);
        assert_eq!(batches.len(), 1);
    }

    /// The canary: what the world checks would be found.
    #[test]
    fn the_random_world_finds_both() {
        for plant in [Plant::FinishEarly, Plant::LeakBatch] {
            let ends_well = |seed| {
                let mut world = World::new(seed, 3);
                world.batches = Batches::with_plants(&world.graph, Plants::only(plant));
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(world, 3))).is_ok()
            };
            let well = (0..100).filter(|&seed| ends_well(seed)).count();
            assert!(well < 100, "{plant} was not found");
        }
    }
}
