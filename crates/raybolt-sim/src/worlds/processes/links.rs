//! The sockets between the driver and its workers: streams of bytes that are flushed late, cut anywhere,
//! and end with the worker.
//!
//! # Invariants
//! - **CUT-1 (order).** Bytes arrive in the order in which they were written, or not at all.
//! - **CUT-2 (a prefix).** Of what a process wrote before it died a prefix arrives, which may end in the
//!   middle of a frame; then the end of the stream.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use raybolt_core::ids::ProcessId;
use raybolt_wire::frame::{DEFAULT_MAX_BYTES, Decoder};
use raybolt_wire::{value, work};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{Parcel, ToWorker};
use super::{Event, Shared};
use crate::clock::Micros;
use crate::trace::{Verdict, Violation};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    ToDriver,
    ToWorker,
}

/// All links.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<(ProcessId, Way), Stream>);

#[derive(Debug)]
struct Stream {
    /// Written and not flushed.
    outbox: Vec<u8>,
    is_flushing: bool,
    /// When the last bytes that were flushed arrive (CUT-1).
    last: Micros,
    decoder: Decoder,
}

impl Shared<'_> {
    /// A worker has come.
    pub fn connect(&mut self, process: ProcessId) {
        for way in [Way::ToDriver, Way::ToWorker] {
            let decoder = Decoder::new(DEFAULT_MAX_BYTES);
            let stream = Stream { outbox: Vec::new(), is_flushing: false, last: 0, decoder };
            self.links.0.insert((process, way), stream);
        }
    }

    /// Writes a message; it is flushed with others a little later.
    pub fn write(&mut self, process: ProcessId, way: Way, message: &impl Serialize, body: &Parcel) {
        let Some(stream) = self.links.0.get_mut(&(process, way)) else { return };
        let append = |out: &mut Vec<u8>| {
            value::append(body, out).expect("parcels are plain data");
            Ok::<(), Infallible>(())
        };
        let written = work::append(&mut stream.outbox, message, DEFAULT_MAX_BYTES, append);
        written.expect("messages of the simulator are short");
        if !std::mem::replace(&mut stream.is_flushing, true) {
            let linger = self.rng.within(&(0..=self.options.linger_us));
            self.clock.after(linger, Event::Flush(process, way));
        }
    }

    /// Tells a worker something. What is lent with it is announced in front of it, as in the product.
    pub fn tell(&mut self, process: ProcessId, message: work::ToWorker, body: &Parcel) {
        let refs: Vec<_> = body.occurrences().collect();
        if !refs.is_empty() {
            let lend = ToWorker::Work(work::ToWorker::Lend { refs, pins: Vec::new() });
            self.write(process, Way::ToWorker, &lend, &Parcel::default());
        }
        self.write(process, Way::ToWorker, &ToWorker::Work(message), body);
    }

    /// What was written goes out.
    pub fn flush(&mut self, process: ProcessId, way: Way) {
        let Some(stream) = self.links.0.get_mut(&(process, way)) else { return };
        stream.is_flushing = false;
        let bytes = std::mem::take(&mut stream.outbox);
        self.send(process, way, bytes);
    }

    /// Whether a worker has written what has not gone out.
    pub fn has_unsent(&self, process: ProcessId) -> bool {
        let stream = self.links.0.get(&(process, Way::ToDriver));
        stream.is_some_and(|stream| !stream.outbox.is_empty())
    }

    /// A process dies. Says when the driver sees the end of its stream.
    /// `late`: what is still to be read is read late.
    pub fn disconnect(&mut self, process: ProcessId, late: bool) -> Micros {
        self.links.0.remove(&(process, Way::ToWorker));
        let now = self.clock.now();
        let Some(stream) = self.links.0.get_mut(&(process, Way::ToDriver)) else { return now };
        // CUT-2: the kernel has taken some of it.
        let mut bytes = std::mem::take(&mut stream.outbox);
        if self.rng.chance(500) {
            bytes.truncate(self.rng.within(&(0..=bytes.len() as u64)) as usize);
        }
        if late {
            let read_at = now + self.rng.within(&(0..=self.options.late_us));
            stream.last = stream.last.max(read_at);
        }
        self.send(process, Way::ToDriver, bytes);
        self.links.0.get(&(process, Way::ToDriver)).map_or(now, |stream| stream.last).max(now)
    }

    /// Nobody reads the stream of this process any more.
    pub fn forget(&mut self, process: ProcessId) {
        self.links.0.remove(&(process, Way::ToDriver));
    }

    /// Bytes arrive: the messages that are whole now.
    pub fn read<M: DeserializeOwned>(
        &mut self,
        process: ProcessId,
        way: Way,
        chunk: &[u8],
    ) -> Verdict<Vec<(M, Parcel)>> {
        let Some(stream) = self.links.0.get_mut(&(process, way)) else { return Ok(Vec::new()) };
        stream.decoder.push(chunk);
        let mut messages = Vec::new();
        while let Some(frame) = stream.decoder.next_frame().map_err(broken)? {
            messages.push(decode(&frame)?);
        }
        Ok(messages)
    }

    fn send(&mut self, process: ProcessId, way: Way, mut bytes: Vec<u8>) {
        let Some(stream) = self.links.0.get_mut(&(process, way)) else { return };
        while !bytes.is_empty() {
            let length = if self.rng.chance(self.options.cut) {
                1 + self.rng.index(bytes.len())
            } else {
                bytes.len()
            };
            let rest = bytes.split_off(length);
            let chunk = std::mem::replace(&mut bytes, rest);
            let stalls = if self.rng.chance(self.options.stall) { 50 } else { 1 };
            let delay = self.rng.within(&(1..=self.options.link_us)) * stalls;
            stream.last = stream.last.max(self.clock.now() + delay);
            self.clock.at(stream.last, Event::Arrives(process, way, chunk));
        }
    }
}

fn decode<M: DeserializeOwned>(frame: &Bytes) -> Verdict<(M, Parcel)> {
    let (message, body) = postcard_take(frame)?;
    let parcel = value::decode(body).map_err(broken)?;
    Ok((message, parcel))
}

/// As [`work::read`], for messages that borrow nothing.
fn postcard_take<M: DeserializeOwned>(frame: &[u8]) -> Verdict<(M, &[u8])> {
    work::read(frame).map_err(broken)
}

fn broken(error: impl ToString) -> Violation {
    Violation { checker: "wire", message: error.to_string() }
}
