//! What the instances of one running topology share: the machines that follow trees and requests, and
//! the way back from them to the instances.
//!
//! An instance reports once per slice (see [`Ledger`](crate::ledger::Ledger)). Whoever reports lets the
//! machine decide under its lock, takes the effects out, and performs them outside of it: an effect
//! is a [`Command`] to an instance, or a call of the observer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use raybolt_core::flow::acks::{AckEffect, Acks};
use raybolt_core::flow::batches::{BatchComponent, BatchEffect, Batches, Report};
use raybolt_core::hash::IdMap;
use raybolt_core::ids::{ComponentIndex, InstanceId, InstanceIndex, RequestId, RootId};
use raybolt_runtime::timer::Timer;

use crate::batch::Anchor;
use crate::catch::caught;
use crate::stats::ErrorRecord;
use crate::task::{Command, Task};

/// How many recent errors a topology remembers.
pub const ERRORS_MAX: usize = 100;

/// Told how requests of a coordinated topology end. Called on threads of the pool: must be short. A panic is
/// logged, and nothing else.
pub trait RequestObserver: Send + Sync + 'static {
    /// The topology was submitted; its spouts will be opened soon.
    fn started(&self) {}

    /// Everything of these requests has been processed.
    fn completed(&self, requests: &[RequestId]);

    /// The request failed, or was cancelled; its tuples still drain.
    fn failed(&self, request: RequestId, message: &str);

    /// The topology was killed: of the requests that are open now nothing will be heard.
    fn ended(&self) {}
}

/// Which instance of which component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) component: ComponentIndex,
    pub(crate) instance: InstanceIndex,
}

/// One per running topology.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) component_names: Box<[Arc<str>]>,
    pub(crate) timer: Timer,
    acks: Mutex<Tracker>,
    /// Only in coordinated topologies.
    requests: Option<Requests>,
    directory: RwLock<Directory>,
    errors: Mutex<Errors>,
    /// Told after each slice while someone waits for the topology to drain.
    pub(crate) drain: crate::drain::Drain,
}

struct Tracker {
    acks: Acks,
    /// Whether a timer will call `ticked`. It may come too early, never too late.
    armed: bool,
}

struct Requests {
    batches: Mutex<Batches>,
    observer: Arc<dyn RequestObserver>,
}

/// Where the instances are now.
#[derive(Default)]
struct Directory {
    components: Vec<Vec<Arc<Task>>>,
    spouts: IdMap<InstanceId, Arc<Task>>,
}

#[derive(Default)]
struct Errors {
    recent: VecDeque<ErrorRecord>,
    total: u64,
}

impl Shared {
    pub(crate) fn new(
        name: &str,
        component_names: Box<[Arc<str>]>,
        timer: Timer,
        message_timeout: Duration,
        coordination: Option<(&[BatchComponent], Arc<dyn RequestObserver>)>,
    ) -> Arc<Self> {
        let acks = Acks::new(Instant::now(), message_timeout);
        Arc::new(Shared {
            name: name.into(),
            component_names,
            timer,
            acks: Mutex::new(Tracker { acks, armed: false }),
            requests: coordination.map(|(components, observer)| Requests {
                batches: Mutex::new(Batches::new(components)),
                observer,
            }),
            directory: RwLock::default(),
            errors: Mutex::default(),
            drain: crate::drain::Drain::default(),
        })
    }

    pub(crate) fn is_coordinated(&self) -> bool {
        self.requests.is_some()
    }

    /// The instances of each component, for commands.
    pub(crate) fn place_instances(&self, components: Vec<Vec<Arc<Task>>>) {
        self.directory.write().expect("the directory's lock is sound").components = components;
    }

    /// A spout instance that is to hear about its roots.
    pub(crate) fn place_spout(&self, id: InstanceId, task: Arc<Task>) {
        self.directory.write().expect("the directory's lock is sound").spouts.insert(id, task);
    }

    /// Forgets a spout instance, which is over.
    pub(crate) fn forget_spout(&self, task: &Arc<Task>) {
        let mut directory = self.directory.write().expect("the directory's lock is sound");
        directory.spouts.retain(|_, other| !Arc::ptr_eq(other, task));
    }

    /// Forgets all instances: the topology is over.
    pub(crate) fn forget_instances(&self) {
        *self.directory.write().expect("the directory's lock is sound") = Directory::default();
    }

    /// Lets the acknowledgement machine decide about `report`, and tells the spouts.
    pub(crate) fn track(self: &Arc<Self>, report: impl FnOnce(&mut Acks, Instant)) {
        let now = Instant::now();
        let mut tracker = self.acks.lock().expect("no thread panics while it holds the tracker");
        report(&mut tracker.acks, now);
        let effects = std::iter::from_fn(|| tracker.acks.poll_effect()).collect::<Vec<_>>();
        self.arm(&mut tracker);
        drop(tracker);
        if !effects.is_empty() {
            self.tell_spouts(effects);
        }
    }

    /// How many roots are followed.
    pub(crate) fn roots(&self) -> usize {
        self.acks.lock().expect("no thread panics while it holds the tracker").acks.len()
    }

    /// Makes sure that a timer runs while a root may time out. Deadlines come in order of emission, so
    /// one timer for the first is enough, and later ones need none of their own.
    fn arm(self: &Arc<Self>, tracker: &mut Tracker) {
        if tracker.armed {
            return;
        }
        let Some(deadline) = tracker.acks.next_deadline() else { return };
        tracker.armed = true;
        let shared = Arc::downgrade(self);
        self.timer.at(deadline, move || {
            let Some(shared) = Weak::upgrade(&shared) else { return };
            shared.acks.lock().expect("no thread panics while it holds the tracker").armed = false;
            shared.track(Acks::ticked);
        });
    }

    fn tell_spouts(&self, effects: Vec<AckEffect>) {
        let directory = self.directory.read().expect("the directory's lock is sound");
        for effect in effects {
            let (spout, command) = match effect {
                AckEffect::Acked { root, spout } => (spout, Command::Acked(root)),
                AckEffect::Failed { root, spout, reason } => (spout, Command::Failed(root, reason)),
            };
            if let Some(task) = directory.spouts.get(&spout) {
                task.send(command);
            }
        }
    }

    /// Lets the coordination machine decide about `report`, and tells instances and observer. Does
    /// nothing in a topology without coordination.
    pub(crate) fn coordinate<R>(&self, report: impl FnOnce(&mut Batches) -> R) -> Option<R> {
        let requests = self.requests.as_ref()?;
        let mut batches = requests.batches.lock().expect("no thread panics while it holds batches");
        let result = report(&mut batches);
        let effects = std::iter::from_fn(|| batches.poll_effect()).collect::<Vec<_>>();
        drop(batches);
        if !effects.is_empty() {
            self.tell_instances(effects);
            self.drain.moved(); // Not always at the end of a slice: held tuples end anywhere.
        }
        Some(result)
    }

    /// The components have other numbers of instances now. No request may be open.
    pub(crate) fn rebalanced(&self, components: &[BatchComponent]) {
        if let Some(requests) = &self.requests {
            let mut batches =
                requests.batches.lock().expect("no thread panics while it holds batches");
            *batches = Batches::new(components);
        }
    }

    /// How many requests are open.
    pub(crate) fn requests(&self) -> usize {
        self.requests.as_ref().map_or(0, |requests| {
            requests.batches.lock().expect("no thread panics while it holds batches").len()
        })
    }

    fn tell_instances(&self, effects: Vec<BatchEffect>) {
        let directory = self.directory.read().expect("the directory's lock is sound");
        let send = |component: ComponentIndex, instance: InstanceIndex, command| {
            let tasks = directory.components.get(component.index());
            if let Some(task) = tasks.and_then(|tasks| tasks.get(instance.index())) {
                task.send(command);
            }
        };
        let (mut completed, mut failed) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                BatchEffect::Finish { request, component, instance } => {
                    send(component, instance, Command::Finish(request));
                }
                BatchEffect::Abandon { request, component, instance } => {
                    send(component, instance, Command::Abandon(request));
                }
                BatchEffect::Completed { request } => completed.push(request),
                BatchEffect::Failed { request, message } => failed.push((request, message)),
            }
        }
        drop(directory); // The observer may end the topology.
        for (request, message) in failed {
            self.tell_observer(|observer| observer.failed(request, &message));
        }
        if !completed.is_empty() {
            self.tell_observer(|observer| observer.completed(&completed));
        }
    }

    /// Tells the observer of requests that the topology begins or ends, or what became of requests. It is user
    /// code, and this may be any thread: a panic is logged, and goes no further.
    pub(crate) fn tell_observer(&self, tell: impl FnOnce(&dyn RequestObserver)) {
        if let Some(requests) = &self.requests
            && let Err(panic) = caught(|| tell(&*requests.observer))
        {
            tracing::error!(topology = &*self.name, "the observer of requests {panic}");
        }
    }

    /// A tuple could not be made the kind that `place` takes: there, it has failed.
    pub(crate) fn refused(
        self: &Arc<Self>,
        place: Place,
        request: Option<RequestId>,
        anchors: &[Anchor],
        message: String,
    ) {
        // Before anyone is told: who knows that it has failed finds why.
        self.record_error(place, message.clone());
        if anchors.iter().any(|anchor| anchor.root != 0) {
            self.track(|acks, now| {
                for anchor in anchors.iter().filter(|anchor| anchor.root != 0) {
                    acks.failed(now, RootId(anchor.root), anchor.edge, &message);
                }
            });
        }
        if let Some(request) = request {
            self.coordinate(|batches| {
                let Place { component, instance } = place;
                batches.failed(request, &message);
                batches.reported(Report { request, component, instance, processed: 1, sent: &[] });
            });
        }
    }

    /// Remembers an error for whoever asks.
    pub(crate) fn record_error(&self, place: Place, message: String) {
        let component = &self.component_names[place.component.index()];
        tracing::warn!(topology = &*self.name, component = &**component, "{message}");
        let record = ErrorRecord {
            component: component.to_string(),
            instance: place.instance.0,
            message,
            at: SystemTime::now(),
        };
        let mut errors = self.errors.lock().expect("no thread panics while it holds errors");
        errors.total += 1;
        if errors.recent.len() == ERRORS_MAX {
            errors.recent.pop_front();
        }
        errors.recent.push_back(record);
    }

    /// The recent errors, oldest first, and how many there were in all.
    pub(crate) fn errors(&self) -> (Vec<ErrorRecord>, u64) {
        let errors: MutexGuard<'_, Errors> =
            self.errors.lock().expect("no thread panics while it holds errors");
        (errors.recent.iter().cloned().collect(), errors.total)
    }
}
