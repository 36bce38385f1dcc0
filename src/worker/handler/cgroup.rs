//! A control group for each run of a program, where the service manager has delegated the worker's own (`Delegate=`).
//!
//! What a program starts stays in its group, whatever it does to its environment, its session or its parents, so one word to
//! the kernel ends all of it. Only what has the worker's user and moves itself out on purpose gets away; those are looked
//! for by their mark (see [`strays`](super::strays)).
//!
//! A process enters a group by itself, before it becomes the program (see [`entrance`](super::entrance)): if the worker moved it
//! after it has begun, what it started before would stay outside.

use std::{
    fs,
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    event::PollFlags,
    fs::{Access, access, getxattr},
};
use tokio::time::Instant;

use super::strays;

/// How groups of runs are named.
const PREFIX: &str = "attempt-";
/// How many levels of groups that a program has made are removed.
const DEPTH: usize = 32;
/// The manager's sign that a group is its service's own, from systemd 251 on.
const DELEGATED: &str = "user.delegate";

/// The worker's own control group, delegated to it.
#[derive(Debug)]
pub(super) struct Delegated {
    directory: PathBuf,
    /// Groups whose program has ended and left processes behind, which are let live.
    left: Arc<Mutex<Vec<PathBuf>>>,
}

impl Delegated {
    /// The group of this process, if it is delegated to it. No version of the file system but the second has such.
    pub(super) fn find() -> Option<Self> {
        let directory = own_directory()?;
        let mut sign = [0; 1];
        let is_delegated = getxattr(&directory, DELEGATED, &mut sign) == Ok(1) && sign == *b"1";
        let may_move = access(directory.join("cgroup.procs"), Access::WRITE_OK).is_ok();
        (is_delegated && may_move).then(|| Self {
            directory,
            left: Arc::default(),
        })
    }

    /// A new group, empty.
    pub(super) fn group(&self, mark: &str) -> io::Result<Group> {
        self.remove_left();
        let directory = self.directory.join(format!("{PREFIX}{mark}"));
        fs::create_dir(&directory)?;
        Ok(Group {
            directory,
            left: Arc::clone(&self.left),
        })
    }

    /// Removes the groups whose last process has ended meanwhile.
    fn remove_left(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|directory| !removed(directory));
    }
}

/// The group of one run. Dropped, it is removed, or later if a process still lives in it.
#[derive(Debug)]
pub(super) struct Group {
    directory: PathBuf,
    left: Arc<Mutex<Vec<PathBuf>>>,
}

impl Group {
    /// The file to which a process writes that enters it.
    pub(super) fn procs(&self) -> PathBuf {
        self.file("procs")
    }

    /// Kills all processes in it. Blocks until they have ended.
    pub(super) fn kill(&self) {
        if let Err(error) = self.try_kill() {
            tracing::error!(%error, group = %self.directory.display(), "what a program left behind can't be killed");
        }
    }

    fn try_kill(&self) -> io::Result<()> {
        let mut events = fs::File::open(self.file("events"))?;
        fs::write(self.file("kill"), "1")?;
        let end = Instant::now() + strays::PATIENCE;
        loop {
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            if text.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "they have not ended: they wait for a device",
                ));
            }
            strays::wait(&events, PollFlags::PRI, end);
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("cgroup.{name}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !removed(&self.directory) {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.push(std::mem::take(&mut self.directory));
        }
    }
}

/// Removes an empty group, and the groups that the program has made in it. One in which processes live stays as it is.
fn removed(directory: &Path) -> bool {
    match remove(directory) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) if is_in_use(&error) => false,
        Err(error) => {
            tracing::warn!(%error, group = %directory.display(), "a control group can't be removed");
            true
        }
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        // Whoever lives may have made the empty ones for later.
        Err(error) if is_in_use(&error) && !is_populated(directory) => {
            remove_below(directory, DEPTH)
        }
        other => other,
    }
}

/// The deepest first, and `directory` last.
fn remove_below(directory: &Path, levels: usize) -> io::Result<()> {
    if levels > 0 {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // Of the entry itself: what a link leads to is none of ours.
            if entry.file_type()?.is_dir() {
                remove_below(&entry.path(), levels - 1)?;
            }
        }
    }
    fs::remove_dir(directory)
}

/// Whether there are processes or further groups in it.
fn is_in_use(error: &io::Error) -> bool {
    use io::ErrorKind::{DirectoryNotEmpty, ResourceBusy};
    matches!(error.kind(), ResourceBusy | DirectoryNotEmpty)
}

/// Whether processes live in a group or in one below it.
fn is_populated(directory: &Path) -> bool {
    fs::read_to_string(directory.join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// Where this process's group of the second version is in the file system.
fn own_directory() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    directory_of(&groups, &mounts)
}

/// From the texts of `/proc/PID/cgroup` and `/proc/PID/mountinfo` (proc(5), cgroups(7)).
fn directory_of(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 30 0:22 / /proc rw - proc proc rw
31 30 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn groups_that_a_program_made_in_its_own_are_removed_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let group = scratch.path().join("attempt-a");
        fs::create_dir_all(group.join("b/c/d")).unwrap();
        fs::create_dir_all(group.join("b/e")).unwrap();
        assert!(removed(&group));
        assert!(!group.exists());
        assert!(removed(&group), "gone is removed");
    }

    #[test]
    fn what_a_link_in_a_group_leads_to_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let group = scratch.path().join("attempt-a");
        let other = scratch.path().join("other");
        fs::create_dir_all(other.join("below")).unwrap();
        fs::create_dir(&group).unwrap();
        std::os::unix::fs::symlink(&other, group.join("link")).unwrap();
        assert!(!removed(&group));
        assert!(other.join("below").exists());
    }

    #[test]
    fn groups_in_one_where_a_process_lives_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let group = scratch.path().join("attempt-a");
        fs::create_dir_all(group.join("b")).unwrap();
        fs::write(group.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(!removed(&group));
        assert!(group.join("b").exists());
    }

    #[test]
    fn groups_deeper_than_is_looked_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let group = scratch.path().join("attempt-a");
        let deep = (0..=DEPTH).fold(group.clone(), |path, _| path.join("b"));
        fs::create_dir_all(&deep).unwrap();
        assert!(!removed(&group));
        assert!(deep.exists());
    }

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let groups = "1:name=systemd:/x\n0::/system.slice/workqueue-worker.service\n";
        let found = directory_of(groups, MOUNTS);
        let expected = "/sys/fs/cgroup/system.slice/workqueue-worker.service";
        assert_eq!(found.as_deref(), Some(Path::new(expected)));
    }

    #[test]
    fn a_mount_of_a_part_counts_from_its_root() {
        let mounts = "31 30 0:27 /user.slice /groups rw - cgroup2 none rw\n";
        let found = directory_of("0::/user.slice/a.service\n", mounts);
        assert_eq!(found.as_deref(), Some(Path::new("/groups/a.service")));
        assert_eq!(directory_of("0::/system.slice\n", mounts), None);
    }

    #[test]
    fn without_the_second_version_there_is_none() {
        assert_eq!(directory_of("4:memory:/x\n", MOUNTS), None);
        assert_eq!(
            directory_of("0::/x\n", "25 30 0:22 / /proc rw - proc proc rw\n"),
            None
        );
    }
}
