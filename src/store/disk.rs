//! The one seam to the disk: everything that the store does to files goes through [`Disk`].
//!
//! [`RealDisk`](super::RealDisk) is the kernel's. A test puts another behind the seam, to tear, drop, reorder or refuse any
//! operation and to stop at each. Paths are relative to the data directory.

use std::{
    ffi::{OsStr, OsString},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::dir_id::DirId;
use crate::task::{DiskSpace, WallMillis};

/// An operation on the disk that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {cause}{}", path.display(), self.which_limit())]
pub struct DiskError {
    /// What was tried, as a verb ("write").
    pub operation: &'static str,
    /// On what, relative to the data directory.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub cause: io::Error,
}

impl DiskError {
    /// Wraps what the kernel said.
    pub fn new(
        operation: &'static str,
        path: impl Into<PathBuf>,
        cause: impl Into<io::Error>,
    ) -> Self {
        Self {
            operation,
            path: path.into(),
            cause: cause.into(),
        }
    }

    /// The limit behind an error whose words name none.
    fn which_limit(&self) -> &'static str {
        if self.cause.raw_os_error() == Some(Errno::FBIG.raw_os_error()) {
            ", by a limit of this process (LimitFSIZE=, ulimit -f) or of the file system"
        } else {
            ""
        }
    }

    /// No space, no inodes or no descriptors left, a quota reached, or a file as large as one may be (`LimitFSIZE=`): a matter
    /// of room, not of a broken disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let is_full = matches!(
            self.cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        is_full || self.is_for_want_of_descriptors()
    }

    /// This process, or the whole system, has as many files open as it may: nothing was done to the file.
    #[must_use]
    pub fn is_for_want_of_descriptors(&self) -> bool {
        let errno = self.cause.raw_os_error();
        [Errno::MFILE, Errno::NFILE]
            .iter()
            .any(|one| errno == Some(one.raw_os_error()))
    }

    /// A file of the journal is larger than any that is written: it is not read.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.cause.kind() == io::ErrorKind::FileTooLarge
    }

    /// There is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }

    /// There is such a file already.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.cause.kind() == io::ErrorKind::AlreadyExists
    }
}

/// The result of a disk operation.
pub type DiskResult<T> = Result<T, DiskError>;

/// What a directory entry, or an open file, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file with one name.
    File,
    /// A regular file that has other names too: it may be somebody else's.
    HardLink,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// FIFO, socket or device.
    Special,
}

impl Kind {
    /// What it is, in words, where a file is wanted.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::HardLink => "a file that has other names too (hard links)",
            Self::Directory => "a folder where none belongs",
            Self::Symlink => "a symbolic link",
            Self::Special => "a FIFO, socket or device",
        }
    }
}

/// A file's identity and size, from its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Its inode.
    pub inode: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: i128,
    /// Its length in bytes.
    pub size: u64,
    /// When it was made, in nanoseconds since 1970, where the file system knows that. Only [`Disk::read`] asks for it.
    pub born: Option<i128>,
}

impl Meta {
    /// Whether it was last written after the start of `time`, and not after its end; to the millisecond.
    #[must_use]
    pub fn is_written_within(&self, time: &Range<WallMillis>) -> bool {
        let written = self.modified.div_euclid(1_000_000);
        i128::from(time.start.0) < written && written <= i128::from(time.end.0)
    }
}

/// What reading a small file gave.
#[derive(Debug)]
pub enum Read {
    /// All of it.
    Whole(Meta, Vec<u8>),
    /// It is no regular file of its own; it was not read.
    Irregular(Kind),
    /// It is larger than the limit; it was not read.
    TooLarge(Meta),
    /// Another took its place meanwhile, or it has other names: what was read may be somebody else's, and is not given.
    Changed,
}

/// An open file of the journal.
pub trait DiskFile: Send {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> DiskResult<()>;
    /// Makes what was written durable (`fdatasync`).
    fn sync(&mut self) -> DiskResult<()>;
    /// Reads up to `limit` bytes from `offset`; fewer only at the file's end.
    fn read_at(&self, offset: u64, limit: usize) -> DiskResult<Vec<u8>>;
    /// Its length in bytes.
    fn size(&self) -> DiskResult<u64>;
    /// All of the file, up to where nothing more was written. What was set aside and never written is zeros, and need not be read
    /// to know that. An error that [says so](DiskError::is_too_large) where that is more than any segment has.
    fn read_written(&self) -> DiskResult<Vec<u8>>;
}

/// What the store does to a data directory. Every path is relative to it.
///
/// Nothing has a body here: a disk that only stands before another one would pass over what that one does better.
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes a new file with `size` bytes of room set aside on the disk, reading as zeros. Fails if the path is taken;
    /// leaves nothing behind if there is no room.
    fn create(&self, path: &Path, size: u64) -> DiskResult<Self::File>;
    /// Opens a file for reading, from the disk and not from what the kernel remembers of it.
    fn open(&self, path: &Path) -> DiskResult<Self::File>;
    /// Opens a file for reading and for writing over what is in it.
    fn open_to_write(&self, path: &Path) -> DiskResult<Self::File>;
    /// Writes a new file in one go, not synced. Fails if the path is taken; leaves nothing behind if it fails.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> DiskResult<()>;
    /// Makes a new file that is whole as soon as it has its name, not synced. Until then it has none: it is made in the
    /// directory `aside`, which should be one that nobody watches. Fails if the path is taken, if the two are not of one
    /// file system, or if that has no files without names; leaves nothing behind if it fails.
    fn write_whole(&self, aside: &Path, path: &Path, bytes: &[u8]) -> DiskResult<()>;
    /// Reads a file of at most `limit` bytes whole, if it is a regular file with one name; never follows a link, never
    /// waits for a writer, and decides by the open descriptor, not by the path.
    fn read(&self, path: &Path, limit: u64) -> DiskResult<Read>;
    /// The same of a file that is the daemon's own: also if it has further names, as a backup by links gives it.
    fn read_own(&self, path: &Path, limit: u64) -> DiskResult<Read>;
    /// Whether a file of the daemon's own, with one name, is at `path` and holds just `bytes`: on the disk, and not only in what the
    /// kernel remembers of it. `false` also where it can't be read.
    fn holds(&self, path: &Path, bytes: &[u8]) -> bool;
    /// Looks at what a path names, without following a link.
    fn look(&self, path: &Path) -> DiskResult<Meta>;
    /// Which directory is at a path.
    fn directory(&self, path: &Path) -> DiskResult<DirId>;
    /// Renames; what `to` names is replaced.
    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()>;
    /// Renames, and fails if `to` is taken.
    fn rename_new(&self, from: &Path, to: &Path) -> DiskResult<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> DiskResult<()>;
    /// Cuts a file to `size` bytes, which gives the room behind it back.
    fn truncate(&self, path: &Path, size: u64) -> DiskResult<()>;
    /// Makes a directory; one that is there already is fine.
    fn make_dir(&self, path: &Path) -> DiskResult<()>;
    /// Calls `entry` with the name and kind of each entry, in no order; `HardLink` is not told from `File` here.
    fn list(&self, path: &Path, entry: &mut dyn FnMut(&OsStr, Kind)) -> DiskResult<()>;
    /// Makes a directory's entries durable.
    fn sync_dir(&self, path: &Path) -> DiskResult<()>;
    /// Makes everything durable that was done below the data directory before the call (`syncfs`), also on file systems that
    /// are mounted there.
    fn sync_everything(&self) -> DiskResult<()>;
    /// How much could still be written, and how large the file system is.
    fn space(&self) -> DiskResult<DiskSpace>;
}

/// Bytes that can still be written, if the disk says that.
pub fn free(disk: &impl Disk) -> Option<u64> {
    match disk.space() {
        // Some file systems don't know.
        Ok(space) => Some(space.free).filter(|_| space.size > 0),
        Err(error) => {
            tracing::debug!(%error, "the disk does not say how much room it has");
            None
        }
    }
}

/// The names in a directory, for those who need them all at once.
pub fn names(disk: &impl Disk, path: &Path) -> DiskResult<Vec<OsString>> {
    let mut names = Vec::new();
    disk.list(path, &mut |name, _| names.push(name.to_owned()))?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_limit_names_it() {
        let text = |errno: Errno| DiskError::new("write", "a.wal", errno).to_string();
        assert!(text(Errno::FBIG).contains("LimitFSIZE="));
        assert!(!text(Errno::NOSPC).contains("LimitFSIZE="));
    }
}
