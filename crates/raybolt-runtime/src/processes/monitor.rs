//! Stops a task, or an actor, before memory runs out, rather than have the kernel stop something at random.
//!
//! # Words
//! There are two bounds: that of the machine, or of a control group in it
//! ([`machine::memory`](crate::machine::memory)), and the session's own limit, if it has one. Pages that
//! processes share count for the first only.
//!
//! # Protocol
//! While tasks lie at workers, or calls of actors, the keeper looks each [`PERIOD`]. Beyond a bound it kills one
//! worker, of those that use much ([`LARGE`]):
//! 1. If tasks run there, the one whose task can best be repeated, that is, with the most retries left and, of
//!    those, the one that began last; but rather one with which no actor is lost for good.
//! 2. If none does, one whose actors can begin anew; only then one whose actors cannot. Of each sort the one in
//!    which the youngest call runs.
//!
//! It then waits for that death.
//!
//! # Not promised
//! What fills the rest within a period is stopped by the kernel, and so is what grows without a task or call.

use std::fmt;
use std::time::{Duration, Instant};

use raybolt_core::calls::incarnations::FOREVER;
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
    pub(crate) actors: Vec<Living>,
}

/// An actor that lives there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Living {
    pub(crate) name: String,
    /// How often it may begin anew.
    pub(crate) restarts_left: u32,
    /// When the oldest call began that it has; none if it has none.
    pub(crate) since_ms: Option<u64>,
}

/// A worker that is to be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) process: ProcessId,
    pub(crate) bytes: u64,
    pub(crate) chosen: Chosen,
}

/// Because of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chosen {
    Task(Running),
    /// The one of its actors that is named.
    Actor(Living),
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

/// The worker to be killed and why that one; none if that would not help.
pub(crate) fn victim(candidates: &[Candidate]) -> Option<Victim> {
    let largest = candidates.iter().map(|candidate| candidate.bytes).max()?;
    let is_large = |candidate: &&Candidate| {
        candidate.bytes >= WORTH_BYTES && candidate.bytes >= largest / LARGE
    };
    let large: Vec<_> = candidates.iter().filter(is_large).collect();
    let chosen = best_task(&large).or_else(|| best_actor(&large));
    chosen.map(|(Candidate { process, bytes, .. }, chosen)| Victim {
        process: *process,
        bytes: *bytes,
        chosen,
    })
}

fn best_task<'a>(large: &[&'a Candidate]) -> Option<(&'a Candidate, Chosen)> {
    let tasks = large.iter().flat_map(|candidate| {
        let spares = candidate.actors.iter().all(Living::can_begin_anew);
        candidate.tasks.iter().map(move |task| (*candidate, spares, task))
    });
    let best = tasks.max_by_key(|(_, spares, task)| (*spares, task.retries_left, task.since));
    best.map(|(candidate, _, task)| (candidate, Chosen::Task(task.clone())))
}

fn best_actor<'a>(large: &[&'a Candidate]) -> Option<(&'a Candidate, Chosen)> {
    let actors = large.iter().filter_map(|candidate| {
        let spares = candidate.actors.iter().all(Living::can_begin_anew);
        let busiest = candidate.actors.iter().max_by_key(|actor| actor.since_ms)?;
        Some((*candidate, spares, busiest))
    });
    let best = actors.max_by_key(|(_, spares, actor)| (*spares, actor.since_ms));
    best.map(|(candidate, _, actor)| (candidate, Chosen::Actor(actor.clone())))
}

impl Living {
    fn can_begin_anew(&self) -> bool {
        self.restarts_left > 0
    }
}

/// What a process uses and does not share, in bytes.
pub(crate) fn own_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).map(|field| field.parse().unwrap_or(0_u64));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}

/// Why a worker is killed for memory, and, behind what it ran, what helps.
pub(crate) fn because(bound: Bound, victim: &Victim) -> (String, String) {
    let Victim { bytes, chosen, .. } = victim;
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
        mib(*bytes),
    );
    let (chosen, helps) = match chosen {
        Chosen::Task(Running { name, retries_left, .. }) => {
            let chosen = match retries_left {
                0 => "no task that uses as much has retries left".to_owned(),
                left => {
                    format!("of what uses so much `{name}` could best be repeated ({left} left)")
                }
            };
            (chosen, "let fewer tasks run at once (`num_cpus` of the task)")
        }
        Chosen::Actor(Living { name, restarts_left, .. }) => {
            let chosen = match *restarts_left {
                0 => format!(
                    "no task uses as much, and none of the actors that do can begin anew (`max_restarts` of `{name}`)"
                ),
                FOREVER => format!("no task uses as much, and `{name}` can begin anew"),
                left => format!("no task uses as much, and `{name}` can begin anew ({left} left)"),
            };
            (chosen, "let its actors hold less")
        }
    };
    (because, format!("; {chosen}; {helps}{lever}"))
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
            actors: Vec::new(),
        };
        let young = running(3, 9);
        let candidates = vec![
            candidate(1, 900, vec![running(0, 99)]),
            candidate(2, 800, vec![running(1, 50), running(3, 5)]),
            candidate(3, 500, vec![young.clone()]),
            candidate(4, 100, vec![running(9, 9)]),
            candidate(5, 1_000, vec![]),
        ];
        let chosen = Chosen::Task(young);
        let third = Victim { process: ProcessId(3), bytes: 500 * MIB, chosen };
        assert_eq!(victim(&candidates), Some(third));
        assert_eq!(victim(&[candidate(1, 20, vec![running(3, 0)])]), None);
        assert_eq!(victim(&[]), None);
    }

    #[test]
    fn actors_are_stopped_last_and_those_first_that_can_begin_anew() {
        let living = |restarts_left, since_ms| Living { name: "a".into(), restarts_left, since_ms };
        let candidate = |process, mib: u64, actors| Candidate {
            process: ProcessId(process),
            bytes: mib * MIB,
            tasks: Vec::new(),
            actors,
        };
        let process = |candidates: &[Candidate]| victim(candidates).map(|victim| victim.process.0);
        let (lost, idle, young) = (living(0, Some(9)), living(1, None), living(1, Some(5)));
        let mut candidates = vec![
            candidate(1, 900, vec![lost.clone()]),
            candidate(2, 500, vec![idle]),
            candidate(3, 100, vec![living(9, Some(99))]),
        ];
        assert_eq!(process(&candidates), Some(2), "what is lost comes back, if it was anything");
        candidates.push(candidate(4, 800, vec![young.clone(), lost.clone()]));
        assert_eq!(process(&candidates), Some(2), "one of those in it would not come back");
        candidates.push(candidate(5, 800, vec![young.clone()]));
        assert_eq!(process(&candidates), Some(5), "its call is the youngest");
        assert_eq!(process(&candidates[..1]), Some(1), "rather than leave it to the kernel");

        let task = Running {
            task: TaskKey::default(),
            name: "f".into(),
            retries_left: 3,
            since: Instant::now(),
        };
        let with_task = |process, actors| {
            let tasks = vec![task.clone()];
            Candidate { tasks, ..candidate(process, 500, actors) }
        };
        candidates.push(with_task(6, vec![lost]));
        assert_eq!(process(&candidates), Some(6), "tasks come first");
        candidates.push(with_task(7, vec![young]));
        assert_eq!(process(&candidates), Some(7), "no actor is lost for good");
    }

    #[test]
    fn an_actor_is_said_to_come_back_if_it_does() {
        let said = |restarts_left| {
            let chosen =
                Chosen::Actor(Living { name: "Hog".into(), restarts_left, since_ms: None });
            let bound = Bound::Session { used: 290 * MIB, limit: 300 * MIB };
            because(bound, &Victim { process: ProcessId(1), bytes: 200 * MIB, chosen }).1
        };
        assert!(said(0).contains("none of the actors that do can begin anew (`max_restarts` of"));
        assert!(said(2).contains("; no task uses as much, and `Hog` can begin anew (2 left); let"));
        assert!(said(FOREVER).contains("`Hog` can begin anew; let its actors hold less, or raise"));
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
        let because = |task: &Running| {
            let chosen = Chosen::Task(task.clone());
            because(bound, &Victim { process: ProcessId(1), bytes: 200 * MIB, chosen })
        };
        let (text, lever) = because(&task);
        assert!(text.ends_with(
            "290 MiB of the session's 300 MiB were used, 200 MiB of them by this worker"
        ));
        assert!(lever.starts_with(
            "; of what uses so much `fill` could best be repeated (2 left); let fewer"
        ));
        task.retries_left = 0;
        let (_, lever) = because(&task);
        assert!(lever.starts_with("; no task that uses as much has retries left; let fewer"));
        assert!(lever.ends_with("or raise `memory_limit` (`RAYBOLT_MEMORY_LIMIT`)"), "{lever}");
    }

    #[test]
    fn this_process_uses_something() {
        assert!(own_bytes(std::process::id()) > 100 << 10);
        assert_eq!(own_bytes(0), 0);
    }
}
