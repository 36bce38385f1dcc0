//! Who holds a data directory, as the kernel tells it in `proc_locks(5)`: whoever looks this way takes no lock that a daemon which
//! starts at that moment would miss.
//!
//! This module may not know: what the lock protects.

use std::{
    fs::read_to_string,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::disk::{DiskError, DiskResult};

/// Who holds a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What is locked: the file, or the directory.
    pub path: PathBuf,
    /// The process; `None` where it can't be seen from here, as from inside of a container.
    pub pid: Option<u32>,
}

/// Who holds the data directory `root`, if anybody does: the file `lock` in it, or, where somebody has removed or replaced that,
/// the directory.
pub fn holder(root: &Path) -> DiskResult<Option<Holder>> {
    let read = |path: &str| {
        read_to_string(path).map_err(|cause| DiskError::new("read", path.to_owned(), cause))
    };
    let locks = read("/proc/locks")?;
    let mounts = read("/proc/self/mountinfo")?;
    let places = [
        (root.join("lock"), OFlags::NOFOLLOW),
        (root.into(), OFlags::empty()),
    ];
    for (path, flags) in places {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let opened = match fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(|errno| DiskError::new("look at", &path, errno))?,
        };
        let inode = fs::fstat(&opened)
            .map_err(|errno| DiskError::new("look at", &path, errno))?
            .st_ino;
        if let Some(pid) = held(&locks, device(&mounts, &opened), inode) {
            let pid = Some(pid).filter(|pid| *pid > 0);
            return Ok(Some(Holder { path, pid }));
        }
    }
    Ok(None)
}

/// The process that holds a flock on a file; 0 where it lives outside of this container. Inodes are a file system's own numbers:
/// only where the device is not known does one do alone.
fn held(locks: &str, device: Option<(u32, u32)>, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = fields.as_slice() else {
            return None;
        };
        let mut parts = place.split(':');
        let mut hex = || u32::from_str_radix(parts.next()?, 16).ok();
        let of = (hex()?, hex()?);
        let found: u64 = parts.next()?.parse().ok()?;
        (found == inode && device.is_none_or(|device| device == of))
            .then(|| pid.parse().unwrap_or(0))
    })
}

/// The numbers that the kernel's list of locks has for the file system of an open file: those of its mount. What `stat(2)` says is
/// another number on btrfs and overlayfs.
fn device(mounts: &str, file: &OwnedFd) -> Option<(u32, u32)> {
    let told = read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = told.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    device_of(mounts, mount.trim())
}

/// The third field in the line of a mount in `proc_pid_mountinfo(5)`.
fn device_of(mounts: &str, mount: &str) -> Option<(u32, u32)> {
    let mut lines = mounts.lines().map(str::split_whitespace);
    let mut fields =
        lines.find_map(|mut fields| (fields.next() == Some(mount)).then_some(fields))?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use rustix::fs::FlockOperation;

    use super::*;

    #[test]
    fn a_lock_of_another_file_system_with_the_same_inode_is_another_one() {
        let locks = "1: FLOCK  ADVISORY  WRITE 77 07:00:17 0 EOF\n\
            2: POSIX  ADVISORY  WRITE 78 07:1f:17 0 EOF\n\
            3: FLOCK  ADVISORY  READ 79 07:1f:17 0 EOF\n\
            3: -> FLOCK  ADVISORY  WRITE 80 07:1f:17 0 EOF\n\
            short line\n\
            4: FLOCK  ADVISORY  WRITE 0 fe:10:18 0 EOF\n";
        assert_eq!(held(locks, Some((7, 0)), 17), Some(77));
        assert_eq!(held(locks, Some((7, 31)), 17), None);
        assert_eq!(held(locks, None, 17), Some(77));
        assert_eq!(held(locks, Some((254, 16)), 18), Some(0));
        assert_eq!(held("", None, 17), None);
    }

    #[test]
    fn a_mount_tells_its_device() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            122 22 0:25 / /var/lib/queue rw - btrfs none rw\n";
        assert_eq!(device_of(mounts, "22"), Some((254, 0)));
        assert_eq!(device_of(mounts, "122"), Some((0, 25)));
        assert_eq!(device_of(mounts, "2"), None);
    }

    #[test]
    fn who_holds_the_file_or_the_directory_is_found_without_taking_either() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        assert_eq!(holder(root).unwrap(), None);
        let file = std::fs::File::create(root.join("lock")).unwrap();
        assert_eq!(holder(root).unwrap(), None);
        let directory = std::fs::File::open(root).unwrap();
        for (open, path) in [(&directory, root.to_owned()), (&file, root.join("lock"))] {
            fs::flock(open, FlockOperation::LockExclusive).unwrap();
            let pid = Some(std::process::id());
            assert_eq!(holder(root).unwrap(), Some(Holder { path, pid }));
        }
    }
}
