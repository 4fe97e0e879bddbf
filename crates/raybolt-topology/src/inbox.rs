//! The bounded queue of batches in front of an instance, and the ways into it.
//!
//! # Protocol
//! 1. A producer gives a batch to the consumer's [`Sink`]. If the queue holds its maximum already, it gets
//!    the batch back and is remembered as *waiting*; its instance stops working until it is woken.
//! 2. The consumer takes batches; when the queue has fallen to half its maximum, it wakes everyone who waits.
//!
//! # Invariants
//! - **INBOX-1 (bounded).** A queue holds less than its maximum plus one batch per producer.
//! - **INBOX-2 (in order).** Batches of one producer arrive in the order in which it shipped them.
//! - **INBOX-3 (no lost room).** Who got a batch back is woken after room was made.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::batch::{Anchor, Batch, Spare};
use crate::catch::caught;
use crate::shared::{Place, Shared};
use crate::task::Task;
use crate::tuple::{Tuple, TupleError};
use crate::values::Values;

/// Where a producer puts batches of one type.
pub(crate) trait Sink<T>: Send + Sync {
    /// Whether there is room for a batch; if not, remembers whom to wake when there is.
    fn admits(&self, producer: &Arc<Task>) -> bool;

    /// Queues a batch that was admitted.
    fn put(&self, batch: Batch<T>);

    /// Queues a batch, or gives it back and remembers whom to wake when there is room. The producer
    /// gets memory for its next batch in return.
    fn push(&self, batch: Batch<T>, producer: &Arc<Task>) -> Result<Spare<T>, Batch<T>> {
        if self.admits(producer) {
            self.put(batch);
            Ok(Spare::default())
        } else {
            Err(batch)
        }
    }

    /// Who has to be notified after a push.
    fn consumer(&self) -> &Arc<Task>;
}

/// The queue of one instance.
pub(crate) struct Inbox<T> {
    consumer: Arc<Task>,
    tuples_max: usize,
    queue: Mutex<Queue<T>>,
}

struct Queue<T> {
    batches: VecDeque<Batch<T>>,
    /// The sum of the batches' lengths.
    tuples: usize,
    waiting: Vec<Arc<Task>>,
    /// Memory of batches that were worked off; at most [`SPARE_MAX`].
    spare: Vec<Spare<T>>,
}

/// How much memory of old batches is kept for new ones. Allocating large blocks for each batch, on
/// one thread, and freeing them on another, cost a quarter of the time of word count.
const SPARE_MAX: usize = 4;

/// What [`Inbox::take`] left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// At least one batch.
    Some,
    /// Nothing: the next push notifies.
    Nothing,
}

impl<T> Inbox<T> {
    pub(crate) fn new(consumer: Arc<Task>, tuples_max: usize) -> Arc<Self> {
        let queue =
            Queue { batches: VecDeque::new(), tuples: 0, waiting: Vec::new(), spare: Vec::new() };
        Arc::new(Inbox { consumer, tuples_max, queue: Mutex::new(queue) })
    }

    /// Moves batches to `taken` until they hold `tuples` tuples or none is left; takes the memory of old
    /// ones back.
    pub(crate) fn take(
        &self,
        tuples: usize,
        taken: &mut VecDeque<Batch<T>>,
        spare: &mut Vec<Spare<T>>,
    ) -> Left {
        let mut queue = self.lock();
        while queue.spare.len() < SPARE_MAX
            && let Some(old) = spare.pop()
        {
            queue.spare.push(old);
        }
        let mut count = 0;
        while count < tuples {
            let Some(batch) = queue.batches.pop_front() else { break };
            count += batch.len();
            taken.push_back(batch);
        }
        queue.tuples -= count;
        let left = if queue.batches.is_empty() { Left::Nothing } else { Left::Some };
        if queue.waiting.is_empty() || queue.tuples > self.tuples_max / 2 {
            return left;
        }
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        waiting.iter().for_each(Task::notify);
        left
    }

    /// How many tuples wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().tuples
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue<T>> {
        self.queue.lock().expect("no thread panics while it holds an inbox")
    }
}

impl<T> Queue<T> {
    fn admits(&mut self, tuples_max: usize, producer: &Arc<Task>) -> bool {
        if self.tuples < tuples_max {
            return true;
        }
        if !self.waiting.iter().any(|task| Arc::ptr_eq(task, producer)) {
            self.waiting.push(producer.clone());
        }
        false
    }

    fn put(&mut self, batch: Batch<T>) {
        self.tuples += batch.len();
        self.batches.push_back(batch);
    }
}

impl<T: Send + Sync> Sink<T> for Inbox<T> {
    fn admits(&self, producer: &Arc<Task>) -> bool {
        self.lock().admits(self.tuples_max, producer)
    }

    fn put(&self, batch: Batch<T>) {
        self.lock().put(batch);
    }

    /// The two above under one lock.
    fn push(&self, batch: Batch<T>, producer: &Arc<Task>) -> Result<Spare<T>, Batch<T>> {
        let mut queue = self.lock();
        if queue.admits(self.tuples_max, producer) {
            queue.put(batch);
            Ok(queue.spare.pop().unwrap_or_default())
        } else {
            Err(batch)
        }
    }

    fn consumer(&self) -> &Arc<Task> {
        &self.consumer
    }
}

/// A way from a stream of typed tuples into an inbox that takes dynamic ones.
pub(crate) struct ToValues {
    pub(crate) inbox: Arc<dyn Sink<Values>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
}

impl<T: Tuple> Sink<T> for ToValues {
    fn admits(&self, producer: &Arc<Task>) -> bool {
        self.inbox.admits(producer)
    }

    fn put(&self, batch: Batch<T>) {
        let convert = |tuple: T| Ok(tuple.into_values());
        if let Some(converted) = converted(batch, convert, &self.shared, self.place) {
            self.inbox.put(converted);
        }
    }

    fn consumer(&self) -> &Arc<Task> {
        self.inbox.consumer()
    }
}

/// A way from a stream of dynamic tuples into an inbox of typed ones. What does not convert has
/// failed, as if the bolt had failed it.
pub(crate) struct FromValues<T> {
    pub(crate) inbox: Arc<Inbox<T>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
}

impl<T: Tuple> Sink<Values> for FromValues<T> {
    fn admits(&self, producer: &Arc<Task>) -> bool {
        self.inbox.admits(producer)
    }

    fn put(&self, batch: Batch<Values>) {
        if let Some(converted) = converted(batch, T::from_values, &self.shared, self.place) {
            self.inbox.put(converted);
        }
    }

    fn consumer(&self) -> &Arc<Task> {
        &self.inbox.consumer
    }
}

/// What of the batch could be converted, if anything. Fields of the user's own types convert
/// themselves, so this is user code, and it runs outside of any bolt.
fn converted<T: Tuple, U>(
    batch: Batch<T>,
    convert: impl Fn(T) -> Result<U, TupleError>,
    shared: &Arc<Shared>,
    place: Place,
) -> Option<Batch<U>> {
    let convert = |tuple: T| {
        let request = tuple.request_id();
        match caught(|| convert(tuple)) {
            Ok(result) => result.map_err(|error| (request, error.to_string())),
            Err(panic) => Err((request, panic)),
        }
    };
    let refused = |(request, message): (_, String), anchors: &[Anchor]| {
        shared.refused(place, request, anchors, message);
    };
    Some(batch.convert(convert, refused)).filter(|batch| !batch.is_empty())
}
