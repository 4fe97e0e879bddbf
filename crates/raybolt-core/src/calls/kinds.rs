//! Which kind of worker process a lease needs, and which GPUs a process of that kind sees.
//!
//! A worker runs many tasks at once as threads, and an environment variable belongs to the whole process;
//! libraries read `CUDA_VISIBLE_DEVICES` once, when they are first used. So what holds GPUs runs in a process
//! that was started for exactly these, and never elsewhere. Everything else shares processes that see none, as
//! soon as the node has GPUs to lend: who did not ask for a GPU must not find one that others hold.
//!
//! A process of GPUs that has nothing to do ends when another kind needs one of them: what it has left on the
//! devices goes with it.
//!
//! # Invariants
//! - **KIND-1 (own devices).** A process of a kind sees the devices of that kind, from its start to its end.
//! - **KIND-2 (fitting).** A lease runs in a process whose kind is the lease's own: a process may serve one
//!   lease after the other, or several parts of one GPU at once, as long as their GPUs are the same.

use std::fmt;

use thiserror::Error;

use super::owner::ClassId;
use super::scheduler::{LeaseKey, Scheduler};

/// The variable that CUDA's libraries read.
pub const VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";

/// What a worker process is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkerKind {
    /// Tasks without GPUs.
    #[default]
    Shared,
    /// Tasks that hold these GPUs, by ids of the node in ascending order.
    Gpus(Vec<u32>),
}

/// What the node's GPUs are called: ids count from 0, names are what the libraries are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices(Vec<String>);

/// More GPUs are declared than the driver itself may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "`num_gpus` is {declared}, but the variable `{VISIBLE_DEVICES}` names {visible}; declare fewer, or name more"
)]
pub struct TooManyGpus {
    /// How many are declared.
    pub declared: usize,
    /// How many the variable names.
    pub visible: usize,
}

/// Whether tasks of a class need a process of their own kind; which one, their lease says.
pub fn has_own_kind(scheduler: &Scheduler, class: ClassId) -> bool {
    scheduler.has_gpus(class)
}

/// The kind of process that a lease needs.
pub fn of_lease(scheduler: &Scheduler, lease: LeaseKey) -> WorkerKind {
    let mut ids = scheduler.gpu_ids(lease);
    if ids.is_empty() {
        return WorkerKind::Shared;
    }
    ids.sort_unstable();
    WorkerKind::Gpus(ids)
}

impl WorkerKind {
    /// The ids of its GPUs.
    pub fn gpu_ids(&self) -> &[u32] {
        match self {
            WorkerKind::Shared => &[],
            WorkerKind::Gpus(ids) => ids,
        }
    }
}

/// `0,1`, or nothing.
impl fmt::Display for WorkerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.gpu_ids().iter().map(ToString::to_string).collect();
        f.write_str(&ids.join(","))
    }
}

impl Devices {
    /// The GPUs of a node that declares so many; `of_driver` is what the variable says to the driver itself,
    /// which may use only some of the machine's.
    ///
    /// # Errors
    /// When it may use fewer than it declares.
    pub fn new(declared: usize, of_driver: Option<&str>) -> Result<Self, TooManyGpus> {
        let Some(list) = of_driver else {
            return Ok(Devices((0..declared).map(|id| id.to_string()).collect()));
        };
        // As the libraries read it: a device that is none ends the list.
        let is_device = |name: &&str| !name.is_empty() && !name.starts_with('-');
        let names: Vec<_> = list.split(',').map(str::trim).take_while(is_device).collect();
        if names.len() < declared {
            return Err(TooManyGpus { declared, visible: names.len() });
        }
        Ok(Devices(names.into_iter().take(declared).map(str::to_owned).collect()))
    }

    /// What [`VISIBLE_DEVICES`] is to say to a process of this kind; `None` if it is to be left alone.
    pub fn visible_to(&self, kind: &WorkerKind) -> Option<String> {
        match kind {
            WorkerKind::Shared if self.0.is_empty() => None,
            WorkerKind::Shared => Some(String::new()),
            WorkerKind::Gpus(ids) => {
                let names = ids.iter().filter_map(|id| self.0.get(*id as usize));
                Some(names.map(String::as_str).collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scheduler::{CPU, Demand, Effect, GPU};
    use super::*;

    fn demand(of: &[(&str, f64)]) -> Demand {
        let mut demand = Demand::default();
        for (name, amount) in of {
            demand.set(name, *amount).unwrap();
        }
        demand
    }

    fn lease(scheduler: &mut Scheduler, of: &[(&str, f64)]) -> (ClassId, LeaseKey) {
        let class = scheduler.class("f", &demand(of)).unwrap();
        scheduler.wanted(class, 1);
        let Some(Effect::Grant(lease, _)) = scheduler.poll_effect() else {
            panic!("there is room")
        };
        scheduler.started(lease);
        (class, lease)
    }

    /// KIND-2.
    #[test]
    fn a_lease_with_gpus_needs_a_process_for_these_and_all_others_share() {
        let mut scheduler = Scheduler::new(&demand(&[(CPU, 8.0), (GPU, 4.0)]));
        let mut kind = |of: &[(&str, f64)]| {
            let (class, lease) = lease(&mut scheduler, of);
            let kind = of_lease(&scheduler, lease);
            assert_eq!(has_own_kind(&scheduler, class), kind != WorkerKind::Shared);
            kind
        };
        assert_eq!(kind(&[(CPU, 1.0)]), WorkerKind::Shared);
        assert_eq!(kind(&[(GPU, 0.5)]), WorkerKind::Gpus(vec![0]));
        assert_eq!(
            kind(&[(CPU, 1.0), (GPU, 0.25)]),
            WorkerKind::Gpus(vec![0]),
            "one process for both"
        );
        assert_eq!(kind(&[(GPU, 2.0)]), WorkerKind::Gpus(vec![1, 2]));
        assert_eq!(kind(&[(GPU, 1.0)]), WorkerKind::Gpus(vec![3]));
    }

    /// KIND-1.
    #[test]
    fn a_process_sees_its_own_gpus_and_a_shared_one_none() {
        let devices = Devices::new(4, None).unwrap();
        assert_eq!(devices.visible_to(&WorkerKind::Gpus(vec![1, 3])), Some("1,3".into()));
        assert_eq!(devices.visible_to(&WorkerKind::Shared), Some(String::new()));
        let none = Devices::new(0, Some("0,1")).unwrap();
        assert_eq!(
            none.visible_to(&WorkerKind::Shared),
            None,
            "who declares none decides for himself"
        );
    }

    #[test]
    fn the_driver_lends_only_what_it_may_use_itself() {
        let devices = Devices::new(2, Some("3, GPU-8f2c,0")).unwrap();
        assert_eq!(devices.visible_to(&WorkerKind::Gpus(vec![0, 1])), Some("3,GPU-8f2c".into()));
        let error = Devices::new(2, Some("5,-1,4")).unwrap_err();
        assert_eq!(error, TooManyGpus { declared: 2, visible: 1 });
        let text = "`num_gpus` is 1, but the variable `CUDA_VISIBLE_DEVICES` names 0; declare fewer, or name more";
        assert_eq!(Devices::new(1, Some("")).unwrap_err().to_string(), text);
    }
}
