//! What workers ask of their driver, which owns whatever they make.

use raybolt_core::calls::owner::{ObjectKey, Target};
use raybolt_core::calls::scheduler::Demand;
use raybolt_core::ids::ProcessId;
use raybolt_wire::work::{Submit, ToDriver};
use slotmap::KeyData;

use super::World;
use super::messages::{Content, Parcel};
use super::tasks::NewTask;
use crate::checkers::holds::CHOSEN_THERE;
use crate::trace::{Verdict, Violation};

impl World<'_> {
    /// A worker asks for something.
    pub fn asked(&mut self, from: ProcessId, message: ToDriver, parcel: &Parcel) -> Verdict {
        match message {
            ToDriver::Submit(submit) => self.submitted_there(from, &submit, parcel),
            ToDriver::Put { object, .. } => self.put_there(from, object, &parcel.values[0]),
            ToDriver::Fetch { object } => self.fetched(from, object),
            ToDriver::Expect { objects } => self.expected(from, &objects),
            ToDriver::CancelObject { object } => {
                let chosen = self.records.get(&from).map(|record| &record.chosen);
                if object >= CHOSEN_THERE && chosen.is_some_and(|ids| !ids.contains_key(&object)) {
                    return Ok(()); // An item came for a stream that the worker had let go of.
                }
                let key = self.key_of(object, from)?;
                self.cancel(key, false)
            }
            ToDriver::Released { object } => {
                let key = self.key_of(object, from)?;
                if object >= CHOSEN_THERE {
                    let record = self.records.get_mut(&from).expect("the dead are not heard");
                    record.chosen.remove(&object);
                }
                self.shared.holds.release_heard(key, from)?;
                self.owner.returned(key, from);
                Ok(())
            }
            other => unreachable!("no worker says {other:?}"),
        }
    }

    /// The object that a worker names.
    pub fn key_of(&self, id: u64, from: ProcessId) -> Verdict<ObjectKey> {
        let key = if id < CHOSEN_THERE {
            KeyData::from_ffi(id).into()
        } else {
            let known = self.records.get(&from).and_then(|record| record.chosen.get(&id));
            *known.ok_or_else(|| Violation {
                checker: "objects",
                message: format!("LENT-2: {from} names {id:x}, which the driver does not know"),
            })?
        };
        self.shared.holds.spoken_of(key, from)?;
        Ok(key)
    }

    /// A task in a worker submits another one.
    fn submitted_there(&mut self, from: ProcessId, submit: &Submit, parcel: &Parcel) -> Verdict {
        let Submit { function, demand, returns, refs, max_retries: retries, .. } = submit;
        let needs = self.keys_of(&parcel.needs, from)?;
        let lent = self.keys_of(refs, from)?;
        let returned: Vec<_> = returns.iter().map(|id| self.adopt(*id, from, true)).collect();
        let demand = Demand::from_units(demand.clone());
        let class = self.scheduler.class(function, &demand).expect("the node has what was drawn");
        let (target, retries) = (Target::Class(class), *retries);
        // What it returns goes there unasked.
        for (object, id) in returned.iter().zip(returns) {
            self.asked.entry(*object).or_default().push((from, *id));
        }
        let stream = parcel.stream.map(|of| of.truth);
        if let (Some(of), Some(until)) = (parcel.stream, submit.stream) {
            self.stream_wanted(of, until, returned[0], (from, returns[0]));
        }
        self.submit(NewTask { target, retries, needs, lent, returns: returned.clone(), stream });
        for object in returned {
            self.owner.released(object); // It has no handle here.
        }
        Ok(())
    }

    fn put_there(&mut self, from: ProcessId, id: u64, value: &Content) -> Verdict {
        let object = self.adopt(id, from, false);
        self.tasks.put(object);
        self.keep_value(object, value, from)?;
        self.owner.released(object);
        Ok(())
    }

    /// An object that a worker made becomes the driver's; the worker borrows it.
    fn adopt(&mut self, id: u64, from: ProcessId, pending: bool) -> ObjectKey {
        let key = if pending { self.owner.expect() } else { self.owner.put() };
        self.owner.borrowed(key, from);
        self.shared.holds.adopted(id, key, from, pending);
        let record = self.records.get_mut(&from).expect("the dead are not heard");
        record.chosen.insert(id, key);
        key
    }

    fn fetched(&mut self, from: ProcessId, id: u64) -> Verdict {
        let object = self.key_of(id, from)?;
        match self.tasks.result(object) {
            Some(is_there) => self.send_value(object, from, id, is_there),
            None => self.asked.entry(object).or_default().push((from, id)),
        }
        Ok(())
    }

    /// Sends what is there of these and small, up to some of it.
    fn expected(&mut self, from: ProcessId, ids: &[u64]) -> Verdict {
        let mut room = self.shared.rng.below(6);
        for id in ids {
            let object = self.key_of(*id, from)?;
            let is_small = self.tasks.result(object) == Some(true) && !self.is_stored(object);
            if is_small && room > 0 {
                room -= 1;
                self.send_value(object, from, *id, true);
            }
        }
        Ok(())
    }

    fn keys_of(&self, ids: &[u64], from: ProcessId) -> Verdict<Vec<ObjectKey>> {
        ids.iter().map(|id| self.key_of(*id, from)).collect()
    }
}
