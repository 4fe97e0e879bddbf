//! What the machine, and the control groups that we run in, let this process use.
//!
//! # Words
//! A *bound* is the machine itself, or a control group with a limit of memory. Groups lie in each other,
//! and each may have one: whichever has the least left is the one at which the kernel begins to stop
//! processes. Pages of files can be taken back at any time and do not count as used; shared memory can
//! not, and does.
//!
//! Both kinds of groups are read: the unified hierarchy (v2) and that of the controller `memory` (v1).
//! What is not there, or not as expected, bounds nothing: this module has no errors.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Memory at the tightest bound, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReport {
    /// How much may be used. The largest number if nothing is known.
    pub limit: u64,
    /// How much is used, by all processes under this bound.
    pub used: u64,
    /// How much is left: the kernel stops a process soon after this comes to zero.
    pub available: u64,
}

/// How many threads of ours can run at once: the CPUs that affinity allows, or fewer if a control group
/// has a smaller quota.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The memory that is left now, at the bound where the least is left. Reads a few small files.
pub fn memory() -> MemoryReport {
    bounds().into_iter().min_by_key(|bound| bound.available).unwrap_or(UNBOUNDED)
}

/// The smallest limit of memory over all bounds, in bytes.
pub fn memory_limit() -> u64 {
    bounds().into_iter().map(|bound| bound.limit).min().unwrap_or(u64::MAX)
}

const UNBOUNDED: MemoryReport = MemoryReport { limit: u64::MAX, used: 0, available: u64::MAX };

/// Which files of a group tell what.
struct Layout {
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` about pages of files, of the group and those in it.
    file_pages: [&'static str; 2],
}

const UNIFIED: Layout = Layout {
    limit: "memory.max",
    used: "memory.current",
    file_pages: ["inactive_file", "active_file"],
};

const CONTROLLER: Layout = Layout {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    file_pages: ["total_inactive_file", "total_active_file"],
};

/// A group's directory.
struct Group {
    layout: &'static Layout,
    directory: PathBuf,
}

fn bounds() -> Vec<MemoryReport> {
    // A process hardly ever moves to another group; its limits change, and are read each time.
    static GROUPS: OnceLock<Vec<Group>> = OnceLock::new();
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let groups = GROUPS.get_or_init(|| groups(&read).unwrap_or_default());
    bounds_of(groups, &read)
}

fn bounds_of(groups: &[Group], read: &dyn Fn(&Path) -> Option<String>) -> Vec<MemoryReport> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine_memory(&text));
    let limit_of_machine = machine.map_or(u64::MAX, |report| report.limit);
    let groups = groups.iter().filter_map(|group| group_memory(group, limit_of_machine, read));
    machine.into_iter().chain(groups).collect()
}

/// What `/proc/meminfo` says.
fn machine_memory(meminfo: &str) -> Option<MemoryReport> {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let (limit, available) = (kib("MemTotal")? << 10, kib("MemAvailable")? << 10);
    Some(MemoryReport { limit, used: limit.saturating_sub(available), available })
}

/// What a group's files say; `None` without a limit below the machine's own, which is how v1 says so.
fn group_memory(
    group: &Group,
    limit_of_machine: u64,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Option<MemoryReport> {
    let Group { layout, directory } = group;
    let number = |file: &str| read(&directory.join(file))?.trim().parse::<u64>().ok();
    let limit = number(layout.limit).filter(|limit| *limit < limit_of_machine)?; // Not `max`.
    let stat = read(&directory.join("memory.stat")).unwrap_or_default();
    let file_pages: u64 = layout.file_pages.iter().filter_map(|name| stat_line(&stat, name)).sum();
    let used = number(layout.used)?.saturating_sub(file_pages);
    Some(MemoryReport { limit, used, available: limit.saturating_sub(used) })
}

fn stat_line(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The groups that this process is in, innermost first, up to where they are mounted.
fn groups(read: &dyn Fn(&Path) -> Option<String>) -> Option<Vec<Group>> {
    let memberships = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let of = |layout, path: &str, mount: Mount| -> Vec<Group> {
        // Inside a container the mount may begin below the root that the path counts from.
        let below = Path::new(path).strip_prefix(mount.root).unwrap_or(Path::new(""));
        let innermost = Path::new(mount.point).join(below);
        let ancestors = innermost.ancestors().take_while(|dir| dir.starts_with(mount.point));
        ancestors.map(|dir| Group { layout, directory: dir.to_owned() }).collect()
    };
    let found = memberships.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or("?"), fields.next().unwrap_or("/"));
        if controllers.is_empty() {
            let mount =
                mounts.lines().filter_map(Mount::parse).find(|mount| mount.kind == "cgroup2");
            mount.map(|mount| of(&UNIFIED, path, mount)).unwrap_or_default()
        } else if controllers.split(',').any(|name| name == "memory") {
            let mount = mounts.lines().filter_map(Mount::parse).find(Mount::has_memory);
            mount.map(|mount| of(&CONTROLLER, path, mount)).unwrap_or_default()
        } else {
            Vec::new()
        }
    });
    Some(found.collect())
}

/// A line of `/proc/self/mountinfo`, as far as we need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mount<'a> {
    /// Which directory of the file system is mounted.
    root: &'a str,
    /// Where.
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut system = system.split(' ');
        Some(Mount {
            root: place.next()?,
            point: place.next()?,
            kind: system.next()?,
            options: system.nth(1)?,
        })
    }

    fn has_memory(&self) -> bool {
        self.kind == "cgroup" && self.options.split(',').any(|option| option == "memory")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine with 16,000 MiB, of which 9,000 can be had.
    const MEMINFO: &str = "MemTotal:       16384000 kB\nMemFree:         1024000 kB\n\
                           MemAvailable:    9216000 kB\nBuffers:          333872 kB\n";

    const UNIFIED_MOUNT: &str =
        "24 18 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    struct Files(BTreeMap<&'static str, String>);

    impl Files {
        fn new(files: &[(&'static str, &str)]) -> Self {
            Files(files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect())
        }

        fn bounds(&self) -> Vec<MemoryReport> {
            let read = |path: &Path| self.0.get(path.to_str()?).cloned();
            bounds_of(&groups(&read).unwrap_or_default(), &read)
        }
    }

    fn report(limit: u64, used: u64) -> MemoryReport {
        MemoryReport { limit: limit * MIB, used: used * MIB, available: (limit - used) * MIB }
    }

    #[test]
    fn without_groups_the_machine_is_the_bound() {
        assert_eq!(Files::new(&[("/proc/meminfo", MEMINFO)]).bounds(), [report(16_000, 7_000)]);
        assert_eq!(Files::new(&[]).bounds(), []);
    }

    #[test]
    fn every_unified_group_with_a_limit_bounds_and_pages_of_files_are_not_used() {
        let files = Files::new(&[
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/user.slice/job.scope\n"),
            ("/proc/self/mountinfo", UNIFIED_MOUNT),
            ("/sys/fs/cgroup/user.slice/job.scope/memory.max", "max\n"),
            ("/sys/fs/cgroup/user.slice/job.scope/memory.current", "1048576\n"),
            ("/sys/fs/cgroup/user.slice/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/user.slice/memory.current", "734003200\n"),
            (
                "/sys/fs/cgroup/user.slice/memory.stat",
                "anon 5\nfile 314572800\nshmem 104857600\ninactive_file 104857600\nactive_file 104857600\n",
            ),
        ]);
        assert_eq!(files.bounds(), [report(16_000, 7_000), report(1_024, 500)]);
    }

    #[test]
    fn the_memory_controller_of_the_first_kind_of_groups_bounds() {
        let files = Files::new(&[
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/job\n0::/\n"),
            (
                "/proc/self/mountinfo",
                "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                 35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n",
            ),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "18595840\n"),
            ("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "536870912\n"),
            ("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "209715200\n"),
            (
                "/sys/fs/cgroup/memory/job/memory.stat",
                "cache 1\ninactive_file 7\ntotal_inactive_file 52428800\ntotal_active_file 52428800\n",
            ),
        ]);
        assert_eq!(files.bounds(), [report(16_000, 7_000), report(512, 100)]);
    }

    #[test]
    fn in_a_container_the_path_counts_from_the_root_of_the_mount() {
        let files = Files::new(&[
            ("/proc/self/cgroup", "4:memory:/docker/4837/inner\n"),
            (
                "/proc/self/mountinfo",
                "35 31 0:32 /docker/4837 /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n",
            ),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "10485760"),
            ("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "52428800"),
            ("/sys/fs/cgroup/memory/inner/memory.usage_in_bytes", "1048576"),
        ]);
        assert_eq!(files.bounds(), [report(50, 1), report(100, 10)]);
    }

    #[test]
    fn what_is_not_as_expected_bounds_nothing() {
        let files = Files::new(&[
            ("/proc/meminfo", "MemTotal: lots\n"),
            ("/proc/self/cgroup", "nonsense\n0:\n::\n4:memory\n0::../..\n"),
            ("/proc/self/mountinfo", "short - line\n\n24 18 0:22 / /sys/fs/cgroup - cgroup2\n"),
            ("/sys/fs/cgroup/memory.max", "-3"),
        ]);
        assert_eq!(files.bounds(), []);
    }

    #[test]
    fn a_group_that_uses_more_than_its_limit_has_nothing_left() {
        let files = Files::new(&[
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", UNIFIED_MOUNT),
            ("/sys/fs/cgroup/memory.max", "1048576"),
            ("/sys/fs/cgroup/memory.current", "2097152"),
        ]);
        assert_eq!(files.bounds(), [MemoryReport { limit: MIB, used: 2 * MIB, available: 0 }]);
    }

    #[test]
    fn this_machine_has_some_memory_and_cpus() {
        let report = memory();
        assert!(report.available <= report.limit && memory_limit() > MIB, "{report:?}");
        assert!(cpus() >= 1);
    }
}
