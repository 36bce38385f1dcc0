//! Which other file systems are mounted below the data directory: what is written there is made durable there.
//!
//! This module may not know: what lies on them.

use std::{
    ffi::OsString,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::{
    disk::{DiskError, DiskResult},
    real_disk::retry,
};

/// What is mounted below one data directory, when that was last known: without descriptors it can't be asked for.
#[derive(Debug, Default)]
pub(super) struct Mounts(Mutex<Vec<PathBuf>>);

impl Mounts {
    /// Makes everything durable on other file systems below `root` (`syncfs`).
    pub(super) fn sync(&self, root: BorrowedFd<'_>) -> DiskResult<()> {
        let stat = fs::fstat(root).map_err(|errno| DiskError::new("sync", ".", errno))?;
        self.now(root)
            .iter()
            .try_for_each(|mount| sync_one(root, mount, stat.st_dev))
    }

    fn now(&self, root: BorrowedFd<'_>) -> Vec<PathBuf> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let root = place_of(root);
        let text = std::fs::read("/proc/self/mountinfo");
        if let (Some(root), Ok(text)) = (root, text) {
            *known = below(&text, &root);
        }
        known.clone()
    }
}

/// Makes durable what is mounted at a path, if it is on another file system than `own`.
fn sync_one(root: BorrowedFd<'_>, path: &Path, own: u64) -> DiskResult<()> {
    let failed = |errno| DiskError::new("sync", path, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match retry(|| fs::openat(root, path, flags, Mode::empty())) {
        Ok(mounted) if fs::fstat(&mounted).map_err(failed)?.st_dev == own => Ok(()),
        Ok(mounted) => fs::syncfs(&mounted).map_err(failed),
        Err(Errno::MFILE | Errno::NFILE) => {
            // Everything of the machine, which needs no descriptor.
            fs::sync();
            Ok(())
        }
        // Gone by now, a file, or nothing that we could have written to.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// The mount points below `root` (an absolute path without links) in the text of `/proc/self/mountinfo`
/// (`proc_pid_mountinfo(5)`), relative to it.
fn below(mountinfo: &[u8], root: &Path) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    // The fifth field: the mount point, seen from the process's root.
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let paths = points.map(|point| PathBuf::from(unescaped(point)));
    let mut below: Vec<PathBuf> = paths
        .filter_map(|path| Some(path.strip_prefix(root).ok()?.to_owned()))
        .filter(|path| *path != Path::new(""))
        .collect();
    // One is over another where something is mounted twice: the path leads to the last.
    below.sort_unstable();
    below.dedup();
    below
}

/// A field in which blanks, line ends and backslashes are written as three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte {
            Some(byte) if *first == b'\\' => {
                text.push(byte);
                rest = &behind[3..];
            }
            _ => {
                text.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(text)
}

/// Where an open directory is, as the kernel has it: nothing where that is not known, as of one that was removed.
fn place_of(directory: BorrowedFd<'_>) -> Option<PathBuf> {
    let link = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    let place = std::fs::read_link(link).ok()?;
    let is_gone = place.as_os_str().as_bytes().ends_with(b" (deleted)");
    (place.is_absolute() && !is_gone).then_some(place)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn mounts_below_the_directory_are_found_by_their_paths() {
        let text = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            30 22 0:25 / /var/lib/queue rw - tmpfs none rw\n\
            31 30 0:26 / /var/lib/queue/tasks rw shared:7 - tmpfs none rw\n\
            32 31 0:27 / /var/lib/queue/tasks rw - tmpfs none rw\n\
            33 31 0:28 /x /var/lib/queue/tasks/a\\040b\\134\\011c rw - tmpfs none rw\n\
            34 22 0:29 / /var/lib/queue2/tasks rw - tmpfs none rw\n\
            35 22 0:30 / /var/lib rw\nshort line\n\n";
        let found = below(text, Path::new("/var/lib/queue"));
        assert_eq!(found, [Path::new("tasks"), Path::new("tasks/a b\\\tc")]);
        assert_eq!(below(b"", Path::new("/")), Vec::<PathBuf>::new());
        assert_eq!(unescaped(b"\\04"), OsStr::new("\\04"));
        assert_eq!(unescaped(b"a\\999\\"), OsStr::new("a\\999\\"));
    }
}
