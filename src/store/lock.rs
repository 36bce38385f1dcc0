//! One daemon per data directory: an advisory lock (`flock`) on the file `lock` in it.
//!
//! The file is never removed: whoever removed it could lock out nobody (the next one would lock another file of the same
//! name). The kernel gives the lock back when its holder ends, however it ends. This module may not know: what the lock
//! protects.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, Gid, Mode, OFlags, Uid};

use super::{DiskError, shown};

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon works on this data directory.
    #[error("another daemon{} holds {}", pid_text(*pid), shown(path))]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// The other one's process id, where the file tells it.
        pid: Option<u32>,
    },
    /// The lock's file can't be opened, locked or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// The lock on a data directory, held until this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the data directory `root`, without waiting, and writes our process id into its file.
    pub fn take(root: &Path) -> Result<Self, LockError> {
        let path = root.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // Anybody who may look into the directory may read who holds it; the umask narrows that.
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file: File = rustix::fs::open(&path, flags, mode)
            .map_err(|errno| DiskError::new("open", &path, errno))?
            .into();
        give_away(root, &file).map_err(|errno| DiskError::new("give away", &path, errno))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = pid_in(&file).map_err(|cause| DiskError::new("read", &path, cause))?;
                return Err(LockError::Held { path, pid });
            }
            Err(errno) => return Err(DiskError::new("lock", path, errno).into()),
        }
        match write_pid(&file).map_err(|cause| DiskError::new("write", path, cause)) {
            // It is held all the same. Who is kept out is not told by whom.
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "no room to say who holds the data directory");
                let path = root.join("lock");
                file.set_len(0)
                    .map_err(|cause| DiskError::new("cut", path, cause))?;
            }
            other => other?,
        }
        Ok(Self { _file: file })
    }
}

/// Cuts the file only when the new text is in it: on a full disk what is given away may be gone.
fn write_pid(file: &File) -> io::Result<()> {
    let pid = format!("{}\n", std::process::id());
    file.write_all_at(pid.as_bytes(), 0)?;
    file.set_len(pid.len() as u64)
}

/// Of root, who checks another user's directory, the file must not stay: that one's daemon could not open it any more.
fn give_away(root: &Path, file: &File) -> rustix::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (owner, now) = (rustix::fs::stat(root)?, rustix::fs::fstat(file)?);
    if owner.st_uid == now.st_uid {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    rustix::fs::fchown(file, Some(user), Some(group))
}

/// The process id in a lock's file; `None` while its holder has not written it yet.
fn pid_in(file: &File) -> io::Result<Option<u32>> {
    let mut bytes = [0; 16];
    let count = file.read_at(&mut bytes, 0)?;
    let text = str::from_utf8(&bytes[..count]).unwrap_or_default();
    Ok(text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_the_first_ones_pid() {
        let scratch = tempfile::tempdir().unwrap();
        let held = Lock::take(scratch.path()).unwrap();
        match Lock::take(scratch.path()) {
            Err(LockError::Held { pid, path }) => {
                assert_eq!(pid, Some(std::process::id()));
                assert_eq!(path, scratch.path().join("lock"));
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        Lock::take(scratch.path()).unwrap();
    }

    #[test]
    fn a_longer_pid_of_before_leaves_no_digits_behind() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("lock"), "99999999999\n").unwrap();
        let _held = Lock::take(scratch.path()).unwrap();
        let text = std::fs::read_to_string(scratch.path().join("lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_lock_for_whose_text_there_is_no_room_is_held_all_the_same() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = DiskError::new("write", "lock", write_pid(&full).unwrap_err());
        assert!(error.is_full(), "{error}");
    }

    #[test]
    fn without_its_directory_the_lock_is_a_disk_error() {
        let error = Lock::take(Path::new("/nonexistent/data"));
        assert!(matches!(error, Err(LockError::Disk(cause)) if cause.is_missing()));
    }
}
