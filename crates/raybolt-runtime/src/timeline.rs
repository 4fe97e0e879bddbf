//! What ran when, on which thread: kept while a session is asked to, and told as a trace that Perfetto and
//! `chrome://tracing` open.
//!
//! # Protocol
//! A [`Span`] is begun before user code runs and noted when it is dropped, in the buffer of its thread. Threads
//! share nothing but a count: who finds that the session has noted [`EVENTS_MAX`] spans forgets its own oldest
//! for each new one.
//!
//! # Invariants
//! - **TIME-1 (bounded).** At most [`EVENTS_MAX`] spans are kept, however many threads there are.
//! - **TIME-2 (nested).** Spans of one thread lie inside each other or beside each other; those of async tasks,
//!   which have no thread, are told apart by their id.
//! - **TIME-3 (free when off).** Without a session that keeps a timeline a span costs one relaxed load.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use slotmap::Key;

use crate::context::Context;
use crate::ids::Id;

/// How many spans a process keeps.
pub const EVENTS_MAX: usize = 100_000;

static IS_ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static BUFFERS: Mutex<Vec<Arc<Buffer>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: RefCell<Option<Arc<Buffer>>> = const { RefCell::new(None) };
}

/// The spans of one thread.
struct Buffer {
    thread: String,
    number: u64,
    events: Mutex<VecDeque<Event>>,
}

struct Event {
    name: Arc<str>,
    sort: Sort,
    /// Of the task, or 0.
    task: u64,
    start_ns: u64,
    end_ns: u64,
}

/// What a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sort {
    Task,
    Call,
    Constructor,
    /// A `get` or `wait` that has to wait.
    Get,
    /// A task or call without a thread.
    Async,
}

/// User code that runs, until dropped.
pub(crate) struct Span(Option<Event>);

/// A span as it crosses processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    thread: u64,
    name: Arc<str>,
    sort: Sort,
    id: Option<String>,
    start_ns: u64,
    end_ns: u64,
}

/// The spans of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Track {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// Numbers and names.
    threads: Vec<(u64, String)>,
    events: Vec<Told>,
}

/// A session that keeps a timeline begins; what an earlier one has kept is forgotten.
pub(crate) fn start(keeps: bool) {
    for buffer in buffers().iter() {
        let forgotten = std::mem::take(&mut *buffer.events());
        COUNT.fetch_sub(forgotten.len(), Ordering::Relaxed);
    }
    IS_ON.store(keeps, Ordering::Relaxed);
}

/// Whether this process keeps a timeline.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// User code begins, or a wait.
pub(crate) fn span(sort: Sort, name: &str, context: Option<&Context>) -> Span {
    if !is_on() {
        return Span(None); // TIME-3.
    }
    let task = context.map_or(0, |context| context.task.data().as_ffi());
    let name = name_of(name);
    Span(Some(Event { name, sort, task, start_ns: now_ns(), end_ns: 0 }))
}

impl Span {
    /// It goes on without a thread.
    pub(crate) fn into_async(mut self) -> Self {
        if let Some(event) = &mut self.0 {
            event.sort = Sort::Async;
        }
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut event) = self.0.take() {
            event.end_ns = now_ns();
            // A thread that ends has no buffer any more.
            let _ = OWN.try_with(|own| {
                own.borrow_mut().get_or_insert_with(Buffer::of_this_thread).note(event);
            });
        }
    }
}

impl Buffer {
    fn of_this_thread() -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let buffer = Arc::new(Buffer { thread, number, events: Mutex::default() });
        let mut buffers = buffers();
        // Those of threads that have ended stay as long as they hold anything.
        buffers.retain(|buffer| Arc::strong_count(buffer) > 1 || !buffer.events().is_empty());
        buffers.push(buffer.clone());
        buffer
    }

    /// TIME-1.
    fn note(&self, event: Event) {
        let mut events = self.events();
        if COUNT.fetch_add(1, Ordering::Relaxed) >= EVENTS_MAX {
            COUNT.fetch_sub(1, Ordering::Relaxed);
            if events.pop_front().is_none() {
                return;
            }
        }
        events.push_back(event);
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().expect("no thread panics while it holds its events")
    }
}

/// What this process has kept.
pub(crate) fn track(name: &str) -> Track {
    let buffers: Vec<_> = buffers().iter().cloned().collect();
    let mut track = Track { pid: std::process::id(), name: name.to_owned(), ..Track::default() };
    for buffer in buffers {
        let events = buffer.events();
        if events.is_empty() {
            continue;
        }
        track.threads.push((buffer.number, buffer.thread.clone()));
        track.events.extend(events.iter().map(|event| Told {
            thread: buffer.number,
            name: event.name.clone(),
            sort: event.sort,
            id: (event.task != 0).then(|| Id::task(event.task)).flatten(),
            start_ns: event.start_ns,
            end_ns: event.end_ns,
        }));
    }
    track
}

/// The tracks as a trace in Chrome's format.
pub(crate) fn trace(tracks: &[Track]) -> serde_json::Value {
    let start_ns = tracks.iter().flat_map(|track| &track.events).map(|event| event.start_ns).min();
    let start_ns = start_ns.unwrap_or_default();
    let events: Vec<_> = tracks.iter().flat_map(|track| trace_of(track, start_ns)).collect();
    serde_json::json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}

fn trace_of(track: &Track, start_ns: u64) -> Vec<serde_json::Value> {
    let pid = track.pid;
    let meta = |what: &str, tid: u64, name: &str| serde_json::json!({ "name": what, "ph": "M", "pid": pid, "tid": tid, "args": { "name": name } });
    let us = |ns: u64| ns as f64 / 1_000.0;
    let mut events = vec![meta("process_name", 0, &format!("{} ({pid})", track.name))];
    events.extend(track.threads.iter().map(|(tid, name)| meta("thread_name", *tid, name)));
    for (number, event) in track.events.iter().enumerate() {
        let ts = us(event.start_ns - start_ns);
        let dur = us(event.end_ns.saturating_sub(event.start_ns));
        let (name, cat, tid) = (&event.name, event.sort, event.thread);
        let args = serde_json::json!({ "id": event.id });
        if event.sort == Sort::Async {
            let id = format!("{pid}.{number}");
            events.push(serde_json::json!({ "name": name, "cat": cat, "ph": "b", "id": id, "ts": ts, "pid": pid, "tid": tid, "args": args }));
            events.push(serde_json::json!({ "name": name, "cat": cat, "ph": "e", "id": id, "ts": ts + dur, "pid": pid, "tid": tid }));
        } else {
            events.push(serde_json::json!({ "name": name, "cat": cat, "ph": "X", "ts": ts, "dur": dur, "pid": pid, "tid": tid, "args": args }));
        }
    }
    events
}

/// The name, shared with the last span of this thread if that has the same.
fn name_of(name: &str) -> Arc<str> {
    thread_local! {
        static LAST: RefCell<Arc<str>> = RefCell::new("".into());
    }
    LAST.with_borrow_mut(|last| {
        if **last != *name {
            *last = name.into();
        }
        last.clone()
    })
}

/// One clock for all processes of the machine.
fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn buffers() -> MutexGuard<'static, Vec<Arc<Buffer>>> {
    BUFFERS.lock().expect("no thread panics while it holds the buffers")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TIME-1: what does not fit displaces what is older.
    #[test]
    fn a_full_timeline_forgets_the_oldest() {
        let buffer = Buffer { thread: "t".into(), number: 1, events: Mutex::default() };
        let event = |start_ns| {
            let name: Arc<str> = "f".into();
            Event { name, sort: Sort::Task, task: 0, start_ns, end_ns: start_ns + 1 }
        };
        for start_ns in 0..EVENTS_MAX as u64 + 10 {
            buffer.note(event(start_ns));
        }
        let events = buffer.events();
        let last = events.back().unwrap().start_ns;
        assert!(events.len() <= EVENTS_MAX && last == EVENTS_MAX as u64 + 9, "{last}");
        assert_eq!(events.front().unwrap().start_ns, EVENTS_MAX as u64 + 10 - events.len() as u64);
        COUNT.fetch_sub(events.len(), Ordering::Relaxed);
    }
}
