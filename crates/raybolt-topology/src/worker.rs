//! The instances of one topology in one process.
//!
//! A worker makes instances from the topology's factories, connects them, and stops them. It is a plain
//! value that could be an actor's state; what it knows about the outside are a pool and a timer.
//!
//! # Life
//! `start` makes all instances, then connects them, then lets them run: an instance can be given tuples before
//! it has run. `drain` waits until nothing is on the way: with the spouts quiet, it looks at the components
//! in the order of the graph; one that is quiet while all before it are stays quiet, so one pass is enough.
//! `rebalance` drains, replaces one component's instances, and reconnects who writes to them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use raybolt_core::flow::graph::{ComponentKind, Edge, Graph, Plan};
use raybolt_core::ids::{ComponentIndex, InstanceId, InstanceIndex};
use raybolt_runtime::pool::{self, LEVELS, Options, Pool};
use raybolt_runtime::timer::Timer;

use crate::builder::{BuildError, ComponentSpec, Topology};
use crate::catch::caught;
use crate::config::Config;
use crate::context::{Context, Waker};
use crate::factory::{Made, Seat};
use crate::shared::{Place, RequestObserver, Shared};
use crate::stats::{ComponentStats, Published, Status, TopologyStats};
use crate::task::{Body, Command, Task};
use crate::wiring::{Streams, Wiring};

/// Runs the instances of one topology.
pub(crate) struct TopologyWorker {
    topology: Topology,
    config: Config,
    graph: Graph,
    pool: Pool,
    shared: Arc<Shared>,
    sources: Arc<[(String, String)]>,
    wiring: Wiring,
    instances: Vec<Vec<Instance>>,
    status: Status,
    /// Whether the spouts are to emit when a rebalance is over.
    wanted: Status,
    stopped: bool,
    next_spout: AtomicU32,
    /// Shared with the timers of all ticks, which look here before they send one.
    ticks: Arc<Mutex<Ticks>>,
}

/// One instance, from the outside.
struct Instance {
    task: Arc<Task>,
    published: Arc<Published>,
    queued: Box<dyn Fn() -> usize + Send + Sync>,
    /// A pool of its own, if it may block.
    own_pool: Option<Pool>,
}

/// Whether ticks are sent: not while the topology drains, nor after its end. Ticks of an instance that was
/// replaced end because its task is gone.
#[derive(Default)]
struct Ticks {
    paused: bool,
}

impl TopologyWorker {
    /// Makes, connects and starts all instances.
    pub(crate) fn start(
        name: &str,
        topology: Topology,
        config: Config,
        pool: Pool,
        timer: Timer,
    ) -> Result<Self, BuildError> {
        let mut graph = topology.graph.clone();
        if let Some(max) = config.max_task_parallelism {
            let max = u32::try_from(max).unwrap_or(u32::MAX);
            let earlier = graph.options.max_task_parallelism;
            graph.options.max_task_parallelism = Some(earlier.map_or(max, |it| it.min(max)));
        }
        let plan = graph.plan()?;
        let shared = shared(name, &topology, &config, &plan, timer);
        let sources = sources(&plan);
        let customs = customs(&topology);
        let wiring = Wiring { plan, sinks: Vec::new(), customs };
        let status = if config.active { Status::Active } else { Status::Inactive };
        let mut worker = TopologyWorker {
            topology,
            config,
            graph,
            pool,
            shared,
            sources,
            wiring,
            instances: Vec::new(),
            status,
            wanted: status,
            stopped: false,
            next_spout: AtomicU32::new(0),
            ticks: Arc::default(),
        };
        worker.shared.tell_observer(RequestObserver::started);
        if let Err(error) = worker.start_all() {
            worker.shared.tell_observer(RequestObserver::ended);
            worker.shared.forget_instances();
            return Err(error);
        }
        Ok(worker)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Lets the spouts emit; in a rebalance, when that is over.
    pub(crate) fn activate(&mut self) {
        self.wanted = Status::Active;
        if self.status == Status::Inactive {
            self.status = Status::Active;
            self.tell_spouts(|| Command::Activate);
        }
    }

    /// Stops the spouts; what is in flight goes on.
    pub(crate) fn deactivate(&mut self) {
        self.wanted = Status::Inactive;
        if self.status == Status::Active {
            self.status = Status::Inactive;
            self.tell_spouts(|| Command::Deactivate);
        }
    }

    /// Stops spouts and ticks, for a rebalance, until [`TopologyWorker::resume`].
    pub(crate) fn pause(&mut self) {
        self.status = Status::Rebalancing;
        self.tell_spouts(|| Command::Deactivate);
        self.pause_ticks(true);
    }

    /// Goes on as was wanted before the pause, or since.
    pub(crate) fn resume(&mut self) {
        self.pause_ticks(false);
        self.status = Status::Inactive;
        if self.wanted == Status::Active {
            self.activate();
        }
    }

    /// Stops the spouts for good.
    pub(crate) fn kill(&mut self) {
        self.status = Status::Killed;
        self.tell_spouts(|| Command::Deactivate);
    }

    /// The counters of all instances, and what is pending.
    pub(crate) fn stats(&self) -> TopologyStats {
        let (errors, errors_total) = self.shared.errors();
        let components = self.wiring.plan.components().iter().zip(&self.instances);
        TopologyStats {
            name: self.shared.name.to_string(),
            status: self.status,
            components: components
                .map(|(component, instances)| ComponentStats {
                    component: component.id.clone(),
                    instances: instances
                        .iter()
                        .enumerate()
                        .map(|(number, it)| it.published.stats(number, (it.queued)()))
                        .collect(),
                })
                .collect(),
            pending_trees: self.shared.roots(),
            pending_requests: self.shared.requests(),
            errors,
            errors_total,
        }
    }

    /// What [`drain`] needs, apart from the worker, so that nobody is locked out meanwhile.
    pub(crate) fn draining(&self) -> Draining {
        let in_order = self.wiring.plan.order().iter();
        let tasks = in_order.flat_map(|at| &self.instances[at.index()]).map(|it| it.task.clone());
        Draining { shared: self.shared.clone(), tasks: tasks.collect() }
    }

    /// Gives a component another number of instances. The topology must be drained.
    pub(crate) fn rebalance(&mut self, component: &str, instances: u32) -> Result<(), BuildError> {
        let mut graph = self.graph.clone();
        for node in &mut graph.components {
            if node.id == component {
                node.parallelism = instances;
            }
        }
        let plan = graph.plan()?;
        let at = plan.find(component).expect("whoever calls has found it");
        let plan_before = std::mem::replace(&mut self.wiring.plan, plan);
        // Before anything is stopped: user code may panic.
        let (made, mut bodies) = match self.make(at) {
            Ok(made) => made,
            Err(error) => {
                self.wiring.plan = plan_before;
                return Err(error);
            }
        };
        self.graph = graph;
        self.shared.rebalanced(&self.wiring.plan.batches());
        self.stop_instances(at.index());
        self.wiring.sinks[at.index()] = made.sinks;
        self.instances[at.index()] = made.instances;
        self.place_instances();
        for producer in self.wiring.plan.edges_into(at).map(|edge| edge.from) {
            for instance in &self.instances[producer.index()] {
                instance.task.with_body(|body| body.connect(&self.wiring));
            }
        }
        bodies.iter_mut().for_each(|body| body.connect(&self.wiring));
        self.seat(at, bodies);
        Ok(())
    }

    /// Ends all instances, spouts first; those whose slice runs when it is over. Once.
    pub(crate) fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        // First, since user code may take its time: others can take over what is open here.
        self.shared.tell_observer(RequestObserver::ended);
        self.ticks.lock().expect("ticks are never held across a panic").paused = true;
        for at in self.wiring.plan.order().to_vec() {
            self.stop_instances(at.index());
        }
        self.shared.forget_instances();
    }

    /// Whether ticks are withheld, while the topology drains.
    fn pause_ticks(&self, paused: bool) {
        self.ticks.lock().expect("ticks are never held across a panic").paused = paused;
    }

    /// Whether that component is a spout.
    pub(crate) fn is_spout(&self, component: &str) -> bool {
        let at = self.wiring.plan.find(component);
        at.is_some_and(|at| self.wiring.plan.component(at).kind == ComponentKind::Spout)
    }

    fn start_all(&mut self) -> Result<(), BuildError> {
        let places: Vec<_> = (0..self.topology.components.len()).map(component_index).collect();
        let mut all_bodies = Vec::new();
        for &at in &places {
            let (made, bodies) = self.make(at)?;
            self.wiring.sinks.push(made.sinks);
            self.instances.push(made.instances);
            all_bodies.push(bodies);
        }
        self.place_instances();
        // Before any runs: what groups is cloned here, and may panic.
        for (&at, bodies) in places.iter().zip(&mut all_bodies) {
            self.connect(at, bodies)?;
        }
        // Bolts first: when a spout emits, its readers are there.
        for (&at, bodies) in places.iter().zip(all_bodies).rev() {
            self.seat(at, bodies);
        }
        Ok(())
    }

    /// Makes the instances of a component; they are not connected and do not run.
    fn make(&self, at: ComponentIndex) -> Result<(MadeInstances, Vec<Box<dyn Body>>), BuildError> {
        let mut made = MadeInstances { sinks: Vec::new(), instances: Vec::new() };
        let mut bodies = Vec::new();
        for instance in 0..self.wiring.plan.component(at).instances {
            let spec = self.spec(at);
            // What runs in a worker process blocks there.
            let own_pool = (spec.blocking && spec.processes.is_none()).then(blocking_pool);
            let pool = own_pool.clone().unwrap_or(self.pool.clone());
            let place = self.place_in_pool(at, instance);
            let task = Task::new(pool, self.shared.clone(), place);
            let seat = self.place(at, instance, task.clone());
            let Made { body, sinks, published, queued } =
                caught(|| self.spec(at).factory.make(seat)).map_err(|message| {
                    self.forget(&made, &task);
                    let component = self.wiring.plan.component(at).id.clone();
                    BuildError::Panicked { component, message }
                })?;
            made.sinks.extend(sinks);
            made.instances.push(Instance { task, published, queued, own_pool });
            bodies.push(body);
        }
        Ok((made, bodies))
    }

    /// Forgets instances that were made in vain.
    fn forget(&self, made: &MadeInstances, last: &Arc<Task>) {
        made.instances.iter().for_each(|instance| self.shared.forget_spout(&instance.task));
        self.shared.forget_spout(last);
    }

    /// Instances of a component are spread over the threads, and stay there. What is last in the
    /// graph's order goes first, so that what is on the way stays little, and warm in the caches.
    fn place_in_pool(&self, at: ComponentIndex, instance: u32) -> pool::Place {
        let order = self.wiring.plan.order();
        let position = order.iter().position(|&component| component == at).unwrap_or(0);
        pool::Place { home: instance as usize, level: position * LEVELS / order.len() }
    }

    fn place(&self, at: ComponentIndex, instance: u32, task: Arc<Task>) -> Seat {
        let component = self.wiring.plan.component(at);
        let spec = self.spec(at);
        let spout = InstanceId(self.next_spout.fetch_add(1, Ordering::Relaxed));
        if component.kind == ComponentKind::Spout {
            self.shared.place_spout(spout, task.clone());
        }
        Seat {
            shared: self.shared.clone(),
            place: Place { component: at, instance: InstanceIndex(instance) },
            spout,
            context: Context {
                topology: self.shared.name.clone(),
                component: self.shared.component_names[at.index()].clone(),
                instance: instance as usize,
                instances: component.instances as usize,
                waker: Waker(Arc::downgrade(&task)),
            },
            streams: Arc::new(Streams::new(
                &component.id,
                spec.streams.clone(),
                self.sources.clone(),
            )),
            downstream: self.wiring.plan.downstream(at),
            queue_tuples_max: spec.queue_tuples_max.unwrap_or(self.config.queue_tuples_max),
            pending_max: self.config.max_spout_pending.map(|max| max.max(1)),
            active: self.status == Status::Active,
            seed: edge_seed(&self.shared.name, spout),
            task,
        }
    }

    fn connect(&self, at: ComponentIndex, bodies: &mut [Box<dyn Body>]) -> Result<(), BuildError> {
        let connected = caught(|| bodies.iter_mut().for_each(|body| body.connect(&self.wiring)));
        connected.map_err(|message| {
            let component = self.wiring.plan.component(at).id.clone();
            BuildError::Panicked { component, message }
        })
    }

    fn seat(&self, at: ComponentIndex, bodies: Vec<Box<dyn Body>>) {
        for (instance, body) in self.instances[at.index()].iter().zip(bodies) {
            instance.task.seat(body);
            if let Some(period) = self.spec(at).tick {
                let task = Arc::downgrade(&instance.task);
                if let Some(first) = Instant::now().checked_add(period) {
                    tick_at(&self.shared.timer, first, period, task, &self.ticks);
                }
            }
        }
    }

    fn stop_instances(&self, component: usize) {
        for instance in &self.instances[component] {
            instance.task.end();
            self.shared.forget_spout(&instance.task);
            if let Some(pool) = &instance.own_pool {
                pool.shutdown(Instant::now());
            }
        }
    }

    fn place_instances(&self) {
        let tasks =
            |instances: &Vec<Instance>| instances.iter().map(|it| it.task.clone()).collect();
        self.shared.place_instances(self.instances.iter().map(tasks).collect());
    }

    fn tell_spouts(&self, command: impl Fn() -> Command) {
        for (component, instances) in self.wiring.plan.components().iter().zip(&self.instances) {
            if component.kind == ComponentKind::Spout {
                instances.iter().for_each(|instance| instance.task.send(command()));
            }
        }
    }

    fn spec(&self, at: ComponentIndex) -> &ComponentSpec {
        &self.topology.components[at.index()]
    }

    /// The components, and who reads what from whom, as they run now.
    pub(crate) fn plan(&self) -> &Plan {
        &self.wiring.plan
    }
}

struct MadeInstances {
    sinks: Vec<crate::wiring::Sinks>,
    instances: Vec<Instance>,
}

/// All instances, in the order of the graph.
pub(crate) struct Draining {
    shared: Arc<Shared>,
    tasks: Vec<Arc<Task>>,
}

impl Draining {
    /// Waits until nothing is on the way, and no request is open: the spouts must have been told to be
    /// quiet. With `trees_too`, also until they have been told of all their trees. Says whether
    /// that came before `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>, trees_too: bool) -> bool {
        let mut quiet = 0; // So many instances, from the first, hold nothing and get nothing.
        self.shared.drain.wait(deadline, || {
            while let Some(task) = self.tasks.get(quiet) {
                if task.has_mail() || !task.is_quiet() {
                    return false;
                }
                quiet += 1;
            }
            let told = || self.tasks.iter().all(|task| task.is_done());
            self.shared.requests() == 0 && (!trees_too || told())
        })
    }

    /// Waits until all instances have stopped; says whether that came before `deadline`.
    pub(crate) fn wait_for_end(&self, deadline: Instant) -> bool {
        self.shared.drain.wait(Some(deadline), || self.tasks.iter().all(|task| task.is_gone()))
    }
}

fn shared(
    name: &str,
    topology: &Topology,
    config: &Config,
    plan: &Plan,
    timer: Timer,
) -> Arc<Shared> {
    let names = plan.components().iter().map(|component| component.id.as_str().into()).collect();
    let batches = plan.batches();
    let coordination = topology.observer.clone().map(|observer| (&*batches, observer));
    Shared::new(name, names, timer, config.message_timeout, coordination)
}

fn sources(plan: &Plan) -> Arc<[(String, String)]> {
    let source = |edge: &Edge| {
        let from = plan.component(edge.from);
        (from.id.clone(), from.outputs[edge.stream].id.clone())
    };
    plan.edges().iter().map(source).collect()
}

fn customs(
    topology: &Topology,
) -> std::collections::HashMap<(ComponentIndex, usize), Arc<dyn std::any::Any + Send + Sync>> {
    let components = topology.components.iter().enumerate();
    components
        .flat_map(|(at, spec)| {
            spec.customs.iter().map(move |c| ((component_index(at), c.input), c.make.clone()))
        })
        .collect()
}

/// One thread, which may block.
fn blocking_pool() -> Pool {
    Pool::new(Options { name: "raybolt-blocking", width: 1, threads_max: 1, overseer: false })
}

/// Names of edges must differ between instances, and from run to run.
fn edge_seed(topology: &str, instance: InstanceId) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((topology, instance))
}

/// Ticks the task at `when`, and then in the rhythm of that.
fn tick_at(
    timer: &Timer,
    when: Instant,
    period: Duration,
    task: Weak<Task>,
    ticks: &Arc<Mutex<Ticks>>,
) {
    let (again, ticks) = (timer.clone(), ticks.clone());
    timer.at(when, move || {
        let Some(alive) = task.upgrade() else { return };
        if !ticks.lock().expect("ticks are never held across a panic").paused {
            alive.tick();
        }
        drop(alive);
        // What was missed is not made up for.
        if let Some(next) = when.checked_add(period) {
            tick_at(&again, next.max(Instant::now()), period, task, &ticks);
        }
    });
}

fn component_index(position: usize) -> ComponentIndex {
    ComponentIndex(u16::try_from(position).expect("a plan has at most 65,535 components"))
}
