//! Stops a task before memory runs out, rather than have the kernel stop something at random.
//!
//! # Words
//! There are two bounds: that of the machine, or of a control group in it
//! ([`machine::memory`](crate::machine::memory)), and the session's own limit, if it has one. Pages that
//! processes share count for the first only.
//!
//! # Protocol
//! While tasks lie at workers the keeper looks each [`PERIOD`]. Beyond a bound it kills one worker: among
//! those that use much ([`LARGE`]) the one whose task can best be repeated, that is, with the most retries
//! left and, of those, the one that began last. It then waits for that death.
//!
//! # Not promised
//! A task that fills what is left within a period is stopped by the kernel.

use std::fmt;
use std::time::{Duration, Instant};

use raybolt_core::calls::owner::TaskKey;
use raybolt_core::ids::ProcessId;

use crate::machine::MemoryReport;

/// How often the keeper looks while something runs.
pub(crate) const PERIOD: Duration = Duration::from_millis(100);
/// A bound is reached when so much of it, in percent, is used.
const FULL_PERCENT: u64 = 95;
/// A worker uses much if it uses this part of what the largest one does.
const LARGE: u64 = 2;
/// Below this a worker's end would change nothing.
const WORTH_BYTES: u64 = 64 << 20;

/// A worker, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) process: ProcessId,
    /// What it does not share.
    pub(crate) bytes: u64,
    pub(crate) tasks: Vec<Running>,
}

/// A task that runs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) task: TaskKey,
    pub(crate) name: String,
    pub(crate) retries_left: u32,
    pub(crate) since: Instant,
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Machine(MemoryReport),
    Session { used: u64, limit: u64 },
}

/// The bound that is reached, if one is. `used` is what this session's processes use together.
pub(crate) fn reached(machine: MemoryReport, used: u64, limit: Option<u64>) -> Option<Bound> {
    let full = |limit: u64| limit / 100 * FULL_PERCENT;
    match limit {
        Some(limit) if used >= full(limit) => Some(Bound::Session { used, limit }),
        _ if machine.limit < u64::MAX && machine.used >= full(machine.limit) => {
            Some(Bound::Machine(machine))
        }
        _ => None,
    }
}

/// The worker to be killed and the task because of which; none if that would not help.
pub(crate) fn victim(candidates: Vec<Candidate>) -> Option<(ProcessId, u64, Running)> {
    let largest = candidates.iter().map(|candidate| candidate.bytes).max()?;
    let large = candidates
        .into_iter()
        .filter(|candidate| candidate.bytes >= WORTH_BYTES && candidate.bytes >= largest / LARGE);
    let tasks = large.flat_map(|candidate| {
        let Candidate { process, bytes, tasks } = candidate;
        tasks.into_iter().map(move |task| (process, bytes, task))
    });
    tasks.max_by_key(|(.., task)| (task.retries_left, task.since))
}

/// What a process uses and does not share, in bytes.
pub(crate) fn own_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).map(|field| field.parse().unwrap_or(0_u64));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}

/// Why a worker is killed for memory, and, behind what it ran, what helps.
pub(crate) fn because(bound: Bound, bytes: u64, task: &Running) -> (String, String) {
    let mib = |bytes: u64| Mib(bytes);
    let (used, limit, whose, lever) = match bound {
        Bound::Machine(report) => (report.used, report.limit, "the machine's", ""),
        Bound::Session { used, limit } => {
            (used, limit, "the session's", ", or raise `memory_limit` (`RAYBOLT_MEMORY_LIMIT`)")
        }
    };
    let because = format!(
        "it was stopped before memory ran out: {} of {whose} {} were used, {} of them by this worker",
        mib(used),
        mib(limit),
        mib(bytes),
    );
    let Running { name, retries_left, .. } = task;
    let chosen = match retries_left {
        0 => "no task that uses as much has retries left".to_owned(),
        count => format!("of what uses so much `{name}` could best be repeated ({count} left)"),
    };
    let lever = format!("; {chosen}; let fewer tasks run at once (`num_cpus` of the task){lever}");
    (because, lever)
}

struct Mib(u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 >> 20)
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn report(used: u64, limit: u64) -> MemoryReport {
        MemoryReport { limit, used, available: limit - used }
    }

    #[test]
    fn a_bound_is_reached_a_little_before_its_end() {
        let machine = report(500 * MIB, 1_000 * MIB);
        assert_eq!(reached(machine, 94 * MIB, Some(100 * MIB)), None);
        let session = Bound::Session { used: 95 * MIB, limit: 100 * MIB };
        assert_eq!(reached(machine, 95 * MIB, Some(100 * MIB)), Some(session));
        let full = report(950 * MIB, 1_000 * MIB);
        assert_eq!(reached(full, 0, None), Some(Bound::Machine(full)));
        let unknown = MemoryReport { limit: u64::MAX, used: 0, available: u64::MAX };
        assert_eq!(reached(unknown, u64::MAX, None), None);
    }

    #[test]
    fn of_the_workers_that_use_much_the_one_is_killed_whose_task_can_best_be_repeated() {
        let mut keys = SlotMap::<TaskKey, ()>::with_key();
        let start = Instant::now();
        let mut running = |retries_left, seconds| Running {
            task: keys.insert(()),
            name: "f".into(),
            retries_left,
            since: start + Duration::from_secs(seconds),
        };
        let candidate = |process, mib: u64, tasks| Candidate {
            process: ProcessId(process),
            bytes: mib * MIB,
            tasks,
        };
        let young = running(3, 9);
        let candidates = vec![
            candidate(1, 900, vec![running(0, 99)]),
            candidate(2, 800, vec![running(1, 50), running(3, 5)]),
            candidate(3, 500, vec![young.clone()]),
            candidate(4, 100, vec![running(9, 9)]),
            candidate(5, 1_000, vec![]),
        ];
        assert_eq!(victim(candidates), Some((ProcessId(3), 500 * MIB, young)));
        assert_eq!(victim(vec![candidate(1, 20, vec![running(3, 0)])]), None);
        assert_eq!(victim(Vec::new()), None);
    }

    #[test]
    fn a_task_without_retries_is_not_said_to_be_repeated() {
        let mut task = Running {
            task: TaskKey::default(),
            name: "fill".into(),
            retries_left: 2,
            since: Instant::now(),
        };
        let bound = Bound::Session { used: 290 * MIB, limit: 300 * MIB };
        let (text, lever) = because(bound, 200 * MIB, &task);
        assert!(text.ends_with(
            "290 MiB of the session's 300 MiB were used, 200 MiB of them by this worker"
        ));
        assert!(lever.starts_with(
            "; of what uses so much `fill` could best be repeated (2 left); let fewer"
        ));
        task.retries_left = 0;
        let (_, lever) = because(bound, 200 * MIB, &task);
        assert!(lever.starts_with("; no task that uses as much has retries left; let fewer"));
        assert!(lever.ends_with("or raise `memory_limit` (`RAYBOLT_MEMORY_LIMIT`)"), "{lever}");
    }

    #[test]
    fn this_process_uses_something() {
        assert!(own_bytes(std::process::id()) > 100 << 10);
        assert_eq!(own_bytes(0), 0);
    }
}
