//! What a directory or a file is known again by: [`DirId`], and when it was made.
//!
//! This module may not know: what is in it.

use std::{fs::File, os::fd::BorrowedFd, path::Path};

use rustix::{
    fs::{self, AtFlags, Statx, StatxFlags, StatxTimestamp},
    io::Errno,
};

use super::Meta;
use crate::task::{DirMark, Source};

/// `STATX_MNT_ID_UNIQUE` of Linux 6.8 (statx(2)): numbers of mounts that are never given again. An older kernel passes over
/// it, and gives the number that may come back once its mount is gone.
const MOUNT_FOR_EVER: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// A directory, known again as long as it stays where it is mounted.
///
/// Its inode alone does not do: the root directories of two file systems have the same number as a rule, and a device's
/// number is given to the next one mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirId {
    mount: u64,
    device: (u32, u32),
    inode: u64,
    /// When it was made, in nanoseconds since 1970, where the file system knows that.
    born: Option<i128>,
}

impl DirId {
    /// A directory of a disk that has one file system, and gives no inode twice.
    #[must_use]
    pub const fn plain(inode: u64) -> Self {
        Self {
            mount: 0,
            device: (0, 0),
            inode,
            born: None,
        }
    }

    /// By what it is known again over a restart, when mounts have other numbers, and devices may have.
    #[must_use]
    pub fn mark(&self) -> DirMark {
        let (major, minor) = self.device;
        let device = u64::from(major) << 32 | u64::from(minor);
        // Some file systems have no time for their root directories.
        let born = self.born.filter(|born| *born != 0);
        let born = born.and_then(|born| i64::try_from(born).ok());
        let mut mark = [0; 16];
        mark[..8].copy_from_slice(&self.inode.to_le_bytes());
        mark[8..].copy_from_slice(&born.map_or(device.to_le_bytes(), i64::to_le_bytes));
        DirMark(mark)
    }

    /// Whether both lie on the same mount of the same file system.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        (self.mount, self.device) == (other.mount, other.device)
    }

    /// Of what is called `name` in `folder`; a link is not followed, a mount is.
    pub(super) fn at(folder: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<Self> {
        let wanted =
            StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID | MOUNT_FOR_EVER;
        match fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
            Ok(stat) => Ok(Self {
                // Zero from a kernel before 5.8.
                mount: stat.stx_mnt_id,
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                born: born(&stat),
            }),
            // A sandbox may not have it.
            Err(Errno::NOSYS) => {
                let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(Self {
                    mount: 0,
                    device: (fs::major(stat.st_dev), fs::minor(stat.st_dev)),
                    inode: stat.st_ino,
                    born: None,
                })
            }
            Err(errno) => Err(errno),
        }
    }
}

impl Meta {
    /// The file, as it is known again at `path`: another one, or the same one written again, differs.
    pub(super) fn source(&self, path: &Path) -> Source {
        Source {
            path: path.to_owned(),
            inode: self.inode,
            modified: self.modified,
            size: self.size,
        }
    }

    /// Whether it is that file, wherever it is.
    pub(super) fn is(&self, source: &Source) -> bool {
        (self.inode, self.modified, self.size) == (source.inode, source.modified, source.size)
    }
}

/// When an open file was made, in nanoseconds since 1970, where the kernel and the file system tell.
pub(super) fn birth(file: &File) -> Option<i128> {
    let stat = fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME);
    stat.ok().as_ref().and_then(born)
}

fn born(stat: &Statx) -> Option<i128> {
    let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let StatxTimestamp {
        tv_sec, tv_nsec, ..
    } = stat.stx_btime;
    told.then(|| i128::from(tv_sec) * 1_000_000_000 + i128::from(tv_nsec))
}
