//! How an actor's calls go to its worker: in the order of its machine, one thread at a time.
//!
//! Whoever changes what may be sent calls [`Remote::go_on`]. References in arguments are counted under the hub's
//! lock, which is not to be had while the actor's is held (REMOTE-2), and before their calls are on the link. So
//! the sender lets go of the actor between taking calls and sending them; a mark says that it sends, and who
//! finds the mark leaves the rest to it (REMOTE-1).

use std::sync::MutexGuard;
use std::time::Instant;

use raybolt_core::calls::incarnations::Outgoing;
use raybolt_wire::work::{self, Call, NotAppended, ToWorker};
use slotmap::Key;

use crate::error::{Error, Kind};
use crate::job::Ended;
use crate::processes::link::FRAME_MAX;
use crate::processes::parcel;
use crate::processes::remote_actor::{Core, Made, Remote};
use crate::processes::worker::Worker;

impl Remote {
    /// Sends what may be sent, and ends the actor if it is over.
    pub(super) fn go_on<'a>(&'a self, mut core: MutexGuard<'a, Core>) {
        if core.is_sending {
            return; // Whoever sends looks once more.
        }
        let mut frames = std::mem::take(&mut core.frames);
        loop {
            let Some(worker) = core.worker.clone() else { break };
            let mut needs = parcel::Packed::default();
            let mut unsent = Vec::new();
            while let Some(outgoing) = core.calls.send_next() {
                match self.append_call(&mut frames, &outgoing) {
                    Ok(()) => needs.add(outgoing.job.call.packed().needs.clone()),
                    Err(because) => unsent.push((outgoing.incarnation, outgoing.number, because)),
                }
            }
            let failed: Vec<_> = unsent
                .into_iter()
                .filter_map(|(incarnation, number, because)| {
                    Some((core.calls.answered(incarnation, number)?, because))
                })
                .collect();
            if core.calls.is_over() && !core.is_told {
                drop(core.calls.killed()); // It has no calls, takes none, and does not begin anew.
                core.because.get_or_insert_with(|| "its last handle was dropped".into());
                self.tell_end(&mut core, &mut frames, None);
            }
            if frames.is_empty() && failed.is_empty() {
                break;
            }
            core.is_sending = true;
            drop(core);
            self.lend(needs, &worker);
            worker.link.append(|out| out.extend_from_slice(&frames));
            worker.link.flush();
            frames.clear();
            self.workers().watch_over();
            for ((task, made), because) in failed {
                let name = made.call.name().to_owned();
                made.call.fail(Some(Error::new(Kind::Encode { task: name, because })));
                self.session.conclude(task, 0, Ended::Failed);
            }
            core = self.lock();
            core.is_sending = false;
        }
        core.frames = frames; // Its memory serves again.
    }

    /// References go to a worker, with what is about to be sent.
    pub(super) fn lend(&self, needs: parcel::Packed, worker: &Worker) {
        if !needs.is_empty() {
            self.workers().lend(&self.session, worker, needs);
        }
    }

    fn append_call(
        &self,
        frames: &mut Vec<u8>,
        outgoing: &Outgoing<'_, Made>,
    ) -> Result<(), String> {
        let Made { caller, call, .. } = outgoing.job;
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let message = ToWorker::Call(Call {
            actor: self.id(),
            incarnation: outgoing.incarnation.0,
            number: outgoing.number,
            task: outgoing.task.data().as_ffi(),
            caller: caller.0,
            method: call.method(),
            deadline_us: call.deadline().map(|until| left(until).as_micros() as u64),
            name: call.own_name().map(str::to_owned),
        });
        let start = frames.len();
        append(frames, &message, &call.packed().bytes)?;
        call.packed().needs.announce(start, frames);
        Ok(())
    }

    /// Tells the worker to end the actor.
    pub(super) fn tell_end(&self, core: &mut Core, frames: &mut Vec<u8>, because: Option<&str>) {
        core.is_told = true;
        let (actor, incarnation) = (self.id(), core.calls.incarnation().0);
        let message =
            ToWorker::EndActor { actor, incarnation, because: because.map(str::to_owned) };
        append(frames, &message, &[]).expect("a reason is shorter than a frame");
    }
}

/// Appends a message with a body.
pub(super) fn append(frames: &mut Vec<u8>, message: &ToWorker, body: &[u8]) -> Result<(), String> {
    let appended = work::append(frames, message, FRAME_MAX, |out| {
        out.extend_from_slice(body);
        Ok::<(), std::convert::Infallible>(())
    });
    appended.map_err(|not_appended| match not_appended {
        NotAppended::Body(never) => match never {},
        NotAppended::TooLong(too_long) => too_long.to_string(),
    })
}
