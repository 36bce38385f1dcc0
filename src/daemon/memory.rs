//! How much memory the daemon may take: what is configured, or what its control group leaves it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A hierarchy of control groups that limits memory (`cgroups(7)`): where it is mounted, and the files with its limits.
struct Hierarchy {
    root: &'static str,
    limits: &'static [&'static str],
}

/// Version 2: of current systems.
const UNIFIED: Hierarchy = Hierarchy {
    root: "/sys/fs/cgroup",
    limits: &["memory.max", "memory.high"],
};
/// Version 1: of containers on older ones.
const OF_MEMORY: Hierarchy = Hierarchy {
    root: "/sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
};
/// Version 1 writes no limit as the largest number of pages.
const NO_LIMIT: u64 = 1 << 62;

/// The bytes above which no new task is taken; `None`: nothing limits them. A tenth of the group's limit stays free for
/// requests that are no submits, and for pages of files that the kernel would have to give up.
pub(super) fn limit(configured: u64) -> Option<u64> {
    if configured > 0 {
        return Some(configured);
    }
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let (hierarchy, group) = of_memory(&groups)?;
    least(Path::new(hierarchy.root), group, hierarchy.limits).map(|bytes| bytes / 10 * 9)
}

/// What each of those who hold memory may take of what there is, so that all together stay below it, whatever the settings were
/// made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares(u64);

/// What a connection takes besides the head of a request, in bytes: measured, and some more (`benches/RESULTS.md`).
const CONNECTION_BYTES: u64 = 40 << 10;

/// What the daemon takes with nothing to do, in bytes, and some tasks.
const BASE: u64 = 48 << 20;

impl Shares {
    /// Of a [`limit`].
    pub(super) fn of(limit: Option<u64>) -> Self {
        Self(limit.map_or(u64::MAX, |limit| limit.saturating_sub(BASE).max(limit / 4)))
    }

    /// Payloads that are kept for the next to be claimed, where nothing else is set.
    pub(super) fn payload_cache(self, default: u64) -> u64 {
        default.min(self.0 / 8)
    }

    /// Submits that wait for a slow disk.
    pub(super) fn submitting(self, configured: u64) -> u64 {
        configured.min(self.0 / 16)
    }

    /// Claims that wait, whose number alone does not say what they take.
    pub(super) const fn waiting(self) -> u64 {
        self.0 / 16
    }

    /// Requests that come slowly and answers that are read slowly; while an answer is made, it is there twice.
    pub(super) fn in_flight(self, configured: u64) -> u64 {
        configured.min(self.0 / 8)
    }

    /// Connections, each of which may hold a head before anybody knows what it asks for.
    pub(super) fn connections(self, configured: u64, max_head: u64) -> u64 {
        configured.min(self.0 / 2 / (max_head + CONNECTION_BYTES))
    }
}

/// The group that limits this process's memory, from its list of groups. Where both versions are there, memory is in the
/// hierarchy of version 1 that names it.
fn of_memory(groups: &str) -> Option<(Hierarchy, &str)> {
    let mut unified = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        if controllers.split(',').any(|one| one == "memory") {
            return Some((OF_MEMORY, group));
        }
        if controllers.is_empty() {
            unified = Some((UNIFIED, group));
        }
    }
    unified
}

/// The least of the limits of a group and of those that it is in. What has no limit has no such file, or says `max`.
fn least(root: &Path, group: &str, limits: &[&str]) -> Option<u64> {
    let mut at: PathBuf = root.join(group);
    let mut found = None;
    loop {
        for file in limits {
            let bytes = fs::read_to_string(at.join(file))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .filter(|bytes| *bytes < NO_LIMIT);
            found = [found, bytes].into_iter().flatten().min();
        }
        if at == root || !at.pop() || !at.starts_with(root) {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_up_counts_and_a_configured_one_goes_before_it() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("system.slice/workqueued.service");
        fs::create_dir_all(&inner).unwrap();
        let least = |group: &str| least(root.path(), group, UNIFIED.limits);
        assert_eq!(least("system.slice/workqueued.service"), None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("system.slice/memory.max"), "4000\n").unwrap();
        fs::write(inner.join("memory.high"), "5000\n").unwrap();
        assert_eq!(least("system.slice/workqueued.service"), Some(4000));
        assert_eq!(least(""), None);
        assert_eq!(limit(7), Some(7));
    }

    #[test]
    fn all_shares_together_leave_room_for_the_daemon_itself() {
        for limit in [96_u64 << 20, 256 << 20, 4 << 30] {
            let shares = Shares::of(Some(limit));
            let connections =
                shares.connections(u64::MAX, 64 << 10) * ((64 << 10) + CONNECTION_BYTES);
            let in_flight = shares.in_flight(u64::MAX);
            // On TCP and on the admin socket.
            let held = shares.payload_cache(u64::MAX)
                + shares.submitting(u64::MAX)
                + shares.waiting()
                + 2 * in_flight;
            assert!(held + connections + BASE <= limit, "{limit}");
            assert!(connections > 15 << 20 && in_flight >= 6 << 20, "{limit}");
        }
        // What is asked for is given where there is room.
        let shares = Shares::of(Some(1 << 40));
        assert_eq!(shares.connections(100, 64 << 10), 100);
        assert_eq!(
            (
                shares.in_flight(5),
                shares.submitting(6),
                shares.payload_cache(7)
            ),
            (5, 6, 7)
        );
    }

    #[test]
    fn the_hierarchy_that_names_memory_is_asked_and_else_the_unified_one() {
        let (hierarchy, group) = of_memory("0::/system.slice/a.service\n").unwrap();
        assert_eq!(
            (hierarchy.root, group),
            (UNIFIED.root, "system.slice/a.service")
        );
        let (hierarchy, group) = of_memory("4:cpu,memory:/docker/a:b\n0::/\n").unwrap();
        assert_eq!((hierarchy.root, group), (OF_MEMORY.root, "docker/a:b"));
        assert!(of_memory("1:cpu:/a\n").is_none());
        let root = tempfile::tempdir().unwrap();
        // As a container sees it: its group is named from outside, and mounted as the root.
        let limit = root.path().join("memory.limit_in_bytes");
        let least = || least(root.path(), "docker/a", OF_MEMORY.limits);
        fs::write(&limit, "9223372036854771712\n").unwrap();
        assert_eq!(least(), None);
        fs::write(&limit, "134217728\n").unwrap();
        assert_eq!(least(), Some(134_217_728));
    }
}
