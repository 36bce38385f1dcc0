//! How much memory the daemon may take: what is configured, or what its control group leaves it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the unified hierarchy is mounted (`cgroups(7)`).
const ROOT: &str = "/sys/fs/cgroup";

/// The bytes above which no new task is taken; `None`: nothing limits them. A tenth of the group's limit stays free for
/// requests that are no submits, and for pages of files that the kernel would have to give up.
pub(super) fn limit(configured: u64) -> Option<u64> {
    if configured > 0 {
        return Some(configured);
    }
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    least(Path::new(ROOT), group).map(|bytes| bytes / 10 * 9)
}

/// The least of the limits of a group and of those that it is in. What has no limit has no such file, or says `max`.
fn least(root: &Path, group: &str) -> Option<u64> {
    let mut at: PathBuf = root.join(group);
    let mut found = None;
    loop {
        for file in ["memory.max", "memory.high"] {
            let bytes = fs::read_to_string(at.join(file))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok());
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
        assert_eq!(least(root.path(), "system.slice/workqueued.service"), None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("system.slice/memory.max"), "4000\n").unwrap();
        fs::write(inner.join("memory.high"), "5000\n").unwrap();
        assert_eq!(
            least(root.path(), "system.slice/workqueued.service"),
            Some(4000)
        );
        assert_eq!(least(root.path(), ""), None);
        assert_eq!(limit(7), Some(7));
    }
}
