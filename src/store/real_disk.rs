//! [`RealDisk`]: the kernel's files below one data directory.
//!
//! That is opened once: the daemon goes on with the directory it was started on, whatever is renamed above it. Who may write
//! into the task directory is not trusted with what a path means: links are not followed, and what a file is, is asked of its
//! descriptor.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        self, Advice, AtFlags, FallocateFlags, FileType, IFlags, Mode, OFlags, RenameFlags,
        SeekFrom,
    },
    io::Errno,
};

use super::{
    dir_id::{DirId, birth},
    disk::{Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read},
    held::Held,
    journal::LARGEST_SEGMENT,
    mounts::Mounts,
};
use crate::task::DiskSpace;

/// The kernel's files below one data directory.
#[derive(Debug)]
pub struct RealDisk {
    root: OwnedFd,
    journal: Held,
    mounts: Mounts,
}

impl RealDisk {
    /// Opens the data directory, which must be there.
    pub fn open(root: &Path) -> DiskResult<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = fs::open(root, flags, Mode::empty())
            .map_err(|errno| DiskError::new("open", root, errno))?;
        Ok(Self {
            root,
            journal: Held::default(),
            mounts: Mounts::default(),
        })
    }

    fn at(&self, operation: &'static str, path: &Path, flags: OFlags) -> DiskResult<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        self.beside(path, |folder, name| {
            retry(|| fs::openat(folder, name, flags, FILE_MODE))
        })
        .map_err(|errno| DiskError::new(operation, path, errno))
    }

    /// Calls `act` with the folder that `path` is in and its name there.
    ///
    /// A queue's folder is opened without following a link: whoever may write into the task directory could put one in its
    /// place, and have the daemon write and remove files elsewhere (`a_queues_folder_that_becomes_a_link_leads_nowhere`). The
    /// directories right in the data directory are the daemon's own; the journal's is the one that it was at first.
    fn beside<T>(
        &self,
        path: &Path,
        act: impl FnOnce(BorrowedFd<'_>, &Path) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        if let Some((folder, name)) = self.journal.place(self.root.as_fd(), path)? {
            return act(folder, name);
        }
        let folder = path.parent().unwrap_or(path);
        let is_deep = folder.components().nth(1).is_some();
        let Some(name) = path.file_name().filter(|_| is_deep) else {
            return act(self.root.as_fd(), path);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = retry(|| fs::openat(&self.root, folder, flags, Mode::empty()))?;
        act(folder.as_fd(), Path::new(name))
    }

    fn rename_with(&self, from: &Path, to: &Path, flags: RenameFlags) -> DiskResult<()> {
        self.beside(from, |from_folder, from| {
            self.beside(to, |to_folder, to| {
                fs::renameat_with(from_folder, from, to_folder, to, flags)
            })
        })
        .map_err(|errno| DiskError::new("rename", from, errno))
    }

    /// Whether the file that had this `stat` is at `path` after all that is being done to the directory, with no other name.
    ///
    /// While a second name is replaced by another file, the kernel counts it no more and still leads to it: for that moment
    /// somebody else's file, linked here, looks like one with this name alone. Whoever looks for a name that the directory
    /// can't have waits until that is over, and leaves no trace: names end at 255 bytes.
    fn has_one_name_still(&self, path: &Path, stat: &fs::Stat) -> DiskResult<bool> {
        const NO_NAME: &str = match str::from_utf8(&[b'-'; 256]) {
            Ok(name) => name,
            Err(_) => "",
        };
        let look = |path: &Path| {
            self.beside(path, |folder, name| {
                fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            })
        };
        let _no_such = look(&path.with_file_name(NO_NAME));
        let now = match look(path) {
            Ok(now) => now,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(errno) => return Err(DiskError::new("look at", path, errno)),
        };
        let is_changed = (now.st_ctime, now.st_ctime_nsec) != (stat.st_ctime, stat.st_ctime_nsec);
        // That changes by a new owner or mode too, which whoever only links a file can't give it.
        let is_given =
            (now.st_uid, now.st_gid, now.st_mode) != (stat.st_uid, stat.st_gid, stat.st_mode);
        let is_same = (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino);
        Ok(is_same && now.st_nlink == 1 && (!is_changed || is_given))
    }

    /// Reads a file, also one with further names if it is `ours`.
    fn read_if(
        &self,
        path: &Path,
        limit: u64,
        ours: impl Fn(&fs::Stat) -> bool,
    ) -> DiskResult<Read> {
        // Without NONBLOCK an open of a FIFO would wait for its writer; NOFOLLOW makes a link an error, told apart below.
        let fd = match self.at(
            "open",
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        ) {
            Err(error) if error.cause.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Ok(Read::Irregular(Kind::Symlink));
            }
            Err(error) if error.cause.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                return Ok(Read::Irregular(Kind::Special));
            }
            other => other?,
        };
        let stat = fs::fstat(&fd).map_err(|errno| DiskError::new("look at", path, errno))?;
        let found = meta(&stat);
        if found.kind != Kind::File && !(found.kind == Kind::HardLink && ours(&stat)) {
            return Ok(Read::Irregular(found.kind));
        }
        if found.size > limit {
            return Ok(Read::TooLarge(found));
        }
        let file = RealFile {
            file: fd.into(),
            path: path.to_owned(),
        };
        // One byte more than it had: a file that grew while it was read is seen as such.
        let bytes = file.read_at(0, found.size as usize + 1)?;
        if found.kind == Kind::File && !ours(&stat) && !self.has_one_name_still(path, &stat)? {
            return Ok(Read::Changed);
        }
        let found = Meta {
            size: bytes.len() as u64,
            born: birth(&file.file),
            ..found
        };
        Ok(if found.size > limit {
            Read::TooLarge(found)
        } else {
            Read::Whole(found, bytes)
        })
    }
}

/// Group members may read the spool's files, nobody else: the unit's `UMask` narrows it further where wanted.
const FILE_MODE: Mode = Mode::RUSR
    .union(Mode::WUSR)
    .union(Mode::RGRP)
    .union(Mode::WGRP);

/// So many zeros are read behind the last that a file system says was written, in bytes: a copy that leaves zeros out makes a hole of
/// those that end a frame. No record has nearly as many.
const LAST_ZEROS: u64 = 1 << 20;

/// Tries again what a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn meta(stat: &fs::Stat) -> Meta {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink == 1 => Kind::File,
        FileType::RegularFile => Kind::HardLink,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    };
    let modified = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Meta {
        kind,
        inode: stat.st_ino,
        modified,
        size: stat.st_size.max(0) as u64,
        born: None,
    }
}

/// How many zeros are written at once, in bytes.
const PIECE: u64 = 1 << 20;

/// A journal file opened through [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: std::fs::File,
    path: PathBuf,
}

impl RealFile {
    fn error(&self, operation: &'static str, cause: io::Error) -> DiskError {
        DiskError::new(operation, &self.path, cause)
    }

    /// Adds zeros up to `length`, unless no segment is so long: a file may say any length and have nothing on the disk.
    fn grow(&self, bytes: &mut Vec<u8>, length: u64) -> DiskResult<()> {
        if length > LARGEST_SEGMENT + LAST_ZEROS {
            return Err(self.error("read", io::ErrorKind::FileTooLarge.into()));
        }
        let length = length as usize;
        bytes
            .try_reserve_exact(length - bytes.len())
            .map_err(|_| self.error("read", io::ErrorKind::OutOfMemory.into()))?;
        bytes.resize(length, 0);
        Ok(())
    }

    /// Sets room aside for a new file, in which nothing is yet.
    fn set_aside(&self, size: u64) -> DiskResult<()> {
        if size > 0 {
            self.write_in_place()?;
            match retry(|| fs::fallocate(&self.file, FallocateFlags::empty(), 0, size)) {
                // A file system that has no call for it, as ext3 and NFS before 4.2.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(size)?,
                other => other
                    .map_err(|errno| DiskError::new("set room aside for", &self.path, errno))?,
            }
        }
        Ok(())
    }

    /// Sets room aside by taking it: zeros, on the disk, since some file systems find out only then that they have no room.
    fn write_zeros(&self, size: u64) -> DiskResult<()> {
        let zeros = vec![0; size.min(PIECE) as usize];
        for at in (0..size).step_by(PIECE as usize) {
            let count = (size - at).min(PIECE) as usize;
            let written = self.file.write_all_at(&zeros[..count], at);
            written.map_err(|cause| self.error("set room aside for", cause))?;
        }
        self.file
            .sync_data()
            .map_err(|cause| self.error("set room aside for", cause))
    }

    /// Has what is written to this file, which must be empty, written where its room is.
    ///
    /// A file system that copies on write (btrfs) would take new blocks for each frame written over what was set aside, and on
    /// a full disk have none: then room set aside is room for nothing, and the first frame ends all writes
    /// (`a_full_btrfs_refuses_submits_and_nothing_else`). It keeps no checksums of such a file, nor compresses it. That is no loss:
    /// each frame, header and checkpoint has its own checksum, and is read by it. Other file systems write in place anyway, and
    /// most don't know this flag; each has its own word for that, so none of them is an error. A disk that fails says so again at
    /// once, when room is set aside.
    fn write_in_place(&self) -> DiskResult<()> {
        let asked = fs::ioctl_getflags(&self.file).and_then(|flags| {
            // One excludes the other, and a folder may have handed it down.
            let wanted = flags.difference(IFlags::COMPRESSED) | IFlags::NOCOW;
            if flags == wanted {
                return Ok(());
            }
            fs::ioctl_setflags(&self.file, wanted)
        });
        match asked.map_err(|errno| DiskError::new("set a flag of", &self.path, errno)) {
            Err(error) if error.is_full() => Err(error),
            Err(error) => {
                tracing::trace!(%error, "it is not known whether writes to a file need new blocks");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl DiskFile for RealFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> DiskResult<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|cause| self.error("write", cause))
    }

    fn sync(&mut self) -> DiskResult<()> {
        self.file
            .sync_data()
            .map_err(|cause| self.error("sync", cause))
    }

    fn read_at(&self, offset: u64, limit: usize) -> DiskResult<Vec<u8>> {
        let mut bytes = vec![0; limit];
        let mut filled = 0;
        while filled < limit {
            match self
                .file
                .read_at(&mut bytes[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.error("read", cause)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn size(&self) -> DiskResult<u64> {
        self.file
            .metadata()
            .map(|meta| meta.len())
            .map_err(|cause| self.error("look at", cause))
    }

    fn read_written(&self) -> DiskResult<Vec<u8>> {
        let size = self.size()?;
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < size {
            let from = match fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(from) if from < size => from,
                // Nothing was written from here on.
                Ok(_) | Err(Errno::NXIO) => break,
                // A file system that does not know has all of it read.
                Err(_) => at,
            };
            let to = fs::seek(&self.file, SeekFrom::Hole(from));
            at = to.map_or(size, |to| to.clamp(from + 1, size));
            self.grow(&mut bytes, at)?;
            self.file
                .read_exact_at(&mut bytes[from as usize..], from)
                .map_err(|cause| self.error("read", cause))?;
        }
        self.grow(&mut bytes, size.min(at.saturating_add(LAST_ZEROS)))?;
        Ok(bytes)
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn create(&self, path: &Path, size: u64) -> DiskResult<RealFile> {
        self.journal.check(self.root.as_fd(), path)?;
        let fd = self.at("create", path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let file = RealFile {
            file: fd.into(),
            path: path.to_owned(),
        };
        if let Err(error) = file.set_aside(size) {
            self.unlink(path)?;
            return Err(error);
        }
        Ok(file)
    }

    fn open(&self, path: &Path) -> DiskResult<RealFile> {
        let fd = self.at("open", path, OFlags::RDONLY)?;
        // After a failed sync the kernel still shows what it could not write, as if it were on the disk. A start that built on
        // that would acknowledge what the next power cut takes: `a_device_that_fails_…` in tests/disk/failing.rs. What waits to be
        // written is kept all the same.
        retry(|| fs::fadvise(&fd, 0, None, Advice::DontNeed))
            .map_err(|errno| DiskError::new("read anew", path, errno))?;
        Ok(RealFile {
            file: fd.into(),
            path: path.to_owned(),
        })
    }

    fn open_to_write(&self, path: &Path) -> DiskResult<RealFile> {
        let fd = self.at("open", path, OFlags::RDWR)?;
        Ok(RealFile {
            file: fd.into(),
            path: path.to_owned(),
        })
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        let fd = self.at(
            "create",
            path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
        )?;
        let mut file = RealFile {
            file: fd.into(),
            path: path.to_owned(),
        };
        let written = file.write_at(bytes, 0);
        if written.is_err() {
            self.unlink(path)?;
        }
        written
    }

    fn write_whole(&self, aside: &Path, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = retry(|| fs::openat(&self.root, aside, flags, FILE_MODE))
            .map_err(|errno| DiskError::new("create a file in", aside, errno))?;
        let file = std::fs::File::from(fd);
        file.write_all_at(bytes, 0)
            .map_err(|cause| DiskError::new("write", path, cause))?;
        // The way that open(2) shows under `O_TMPFILE`: naming by the descriptor itself is for the privileged.
        let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |folder: BorrowedFd<'_>, name: &Path| {
            let flags = AtFlags::SYMLINK_FOLLOW;
            fs::linkat(fs::CWD, descriptor.as_str(), folder, name, flags)
        };
        self.beside(path, link)
            .map_err(|errno| DiskError::new("create", path, errno))
    }

    fn read(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        self.read_if(path, limit, |_| false)
    }

    fn read_own(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        // Who links another's file to where ours was gives it away by its owner.
        let own = rustix::process::geteuid().as_raw();
        // Also for root, who looks at the files of the daemon's user.
        let root = fs::fstat(&self.root).map_err(|errno| DiskError::new("look at", ".", errno))?;
        self.read_if(path, limit, |stat| {
            stat.st_uid == own || stat.st_uid == root.st_uid
        })
    }

    fn holds(&self, path: &Path, bytes: &[u8]) -> bool {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(fd) = self.at("open", path, flags) else {
            return false;
        };
        let own = rustix::process::geteuid().as_raw();
        let is_own = fs::fstat(&fd).is_ok_and(|stat| {
            let found = meta(&stat);
            found.kind == Kind::File && found.size == bytes.len() as u64 && stat.st_uid == own
        });
        // As in `open`: after a failed sync the kernel shows what is not there.
        if !is_own || retry(|| fs::fadvise(&fd, 0, None, Advice::DontNeed)).is_err() {
            return false;
        }
        let file = RealFile {
            file: fd.into(),
            path: path.to_owned(),
        };
        file.read_at(0, bytes.len() + 1)
            .is_ok_and(|found| found == bytes)
    }

    fn look(&self, path: &Path) -> DiskResult<Meta> {
        let stat = self.beside(path, |folder, name| {
            fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        });
        stat.map(|stat| meta(&stat))
            .map_err(|errno| DiskError::new("look at", path, errno))
    }

    fn directory(&self, path: &Path) -> DiskResult<DirId> {
        self.beside(path, DirId::at)
            .map_err(|errno| DiskError::new("look at", path, errno))
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        self.rename_with(from, to, RenameFlags::empty())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> DiskResult<()> {
        self.rename_with(from, to, RenameFlags::NOREPLACE)
    }

    fn unlink(&self, path: &Path) -> DiskResult<()> {
        let unlink =
            |folder: BorrowedFd<'_>, name: &Path| fs::unlinkat(folder, name, AtFlags::empty());
        self.beside(path, unlink)
            .map_err(|errno| DiskError::new("remove", path, errno))
    }

    fn truncate(&self, path: &Path, size: u64) -> DiskResult<()> {
        let fd = self.at("open", path, OFlags::WRONLY)?;
        fs::ftruncate(&fd, size).map_err(|errno| DiskError::new("cut", path, errno))
    }

    fn make_dir(&self, path: &Path) -> DiskResult<()> {
        // The umask decides about others; group members may drop files where the directory above is the group's.
        let mode = Mode::RWXU | Mode::RWXG;
        match self.beside(path, |folder, name| fs::mkdirat(folder, name, mode)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if self.look(path)?.kind == Kind::Directory => Ok(()),
            Err(errno) => Err(DiskError::new("make directory", path, errno)),
        }
    }

    fn list(&self, path: &Path, entry: &mut dyn FnMut(&OsStr, Kind)) -> DiskResult<()> {
        let error = |errno| DiskError::new("list", path, errno);
        let fd = self.at("open", path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for found in fs::Dir::new(fd).map_err(error)? {
            let found = found.map_err(error)?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match found.file_type() {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Directory,
                FileType::Symlink => Kind::Symlink,
                // Some file systems do not say in the listing.
                FileType::Unknown => match self.look(&path.join(name)) {
                    Ok(meta) => meta.kind,
                    Err(gone) if gone.is_missing() => continue,
                    Err(other) => return Err(other),
                },
                _ => Kind::Special,
            };
            entry(name, kind);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> DiskResult<()> {
        self.journal.check(self.root.as_fd(), path)?;
        let fd = match self.at("open", path, OFlags::RDONLY | OFlags::DIRECTORY) {
            // More than was asked for, and by a descriptor that is open already.
            Err(error) if error.is_for_want_of_descriptors() => return self.sync_everything(),
            other => other?,
        };
        fs::fsync(&fd).map_err(|errno| DiskError::new("sync", path, errno))
    }

    fn sync_everything(&self) -> DiskResult<()> {
        fs::syncfs(self.root.as_fd()).map_err(|errno| DiskError::new("sync", ".", errno))?;
        self.mounts.sync(self.root.as_fd())
    }

    fn space(&self) -> DiskResult<DiskSpace> {
        let stat =
            fs::fstatvfs(&self.root).map_err(|errno| DiskError::new("look at", ".", errno))?;
        Ok(DiskSpace {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, symlink},
        thread,
    };

    use super::*;

    #[test]
    fn a_file_of_somebody_elses_that_is_linked_for_a_moment_is_not_read() {
        const ROUNDS: usize = 20_000;
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("tasks")).unwrap();
        fs::write(at("secret"), "secret").unwrap();
        let disk = RealDisk::open(scratch.path()).unwrap();
        let path = Path::new("tasks/a.json");
        let (mut linked, mut whole) = (0, 0);
        thread::scope(|scope| {
            let replaced = scope.spawn(|| {
                for round in 0..ROUNDS {
                    // Empty: the file system waits for no data when it takes another's place.
                    fs::write(at("good"), "").unwrap();
                    fs::rename(at("good"), at("tasks/a.json")).unwrap();
                    if round % 8 == 0 {
                        symlink(at("secret"), at("other")).unwrap();
                    } else {
                        fs::hard_link(at("secret"), at("other")).unwrap();
                    }
                    fs::rename(at("other"), at("tasks/a.json")).unwrap();
                }
            });
            while !replaced.is_finished() {
                match disk.read(path, 100) {
                    Ok(Read::Whole(_, bytes)) => {
                        assert_eq!(String::from_utf8_lossy(&bytes), "");
                        whole += 1;
                    }
                    Ok(Read::Irregular(_)) => linked += 1,
                    Ok(Read::Changed) => {}
                    Ok(Read::TooLarge(meta)) => panic!("{meta:?}"),
                    Err(error) => assert!(error.is_missing(), "{error}"),
                }
            }
        });
        assert!(linked > 0 && whole > 0, "{linked} and {whole}");
    }

    #[test]
    fn what_was_set_aside_is_read_with_what_was_written_in_it() {
        const SIZE: usize = 1 << 20;
        let scratch = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(scratch.path()).unwrap();
        let mut file = disk.create(Path::new("segment"), SIZE as u64).unwrap();
        let mut expected = vec![0; SIZE];
        assert!(file.read_written().unwrap() == expected, "nothing written");
        for (at, text) in [(0, "first"), (70_000, "middle"), (SIZE - 4, "last")] {
            file.write_at(text.as_bytes(), at as u64).unwrap();
            expected[at..at + text.len()].copy_from_slice(text.as_bytes());
            assert!(file.read_written().unwrap() == expected, "{text}, unsynced");
        }
        file.sync().unwrap();
        assert!(file.read_written().unwrap() == expected, "synced");
        let empty = disk.create(Path::new("empty"), 0).unwrap();
        assert!(empty.read_written().unwrap().is_empty());
    }

    #[test]
    fn room_is_set_aside_by_zeros_where_there_is_no_other_way() {
        const SIZE: u64 = 2 * PIECE + 4097;
        let scratch = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(scratch.path()).unwrap();
        let file = disk.create(Path::new("segment"), 0).unwrap();
        file.write_zeros(SIZE).unwrap();
        assert_eq!(file.size().unwrap(), SIZE);
        let bytes = file.read_at(0, SIZE as usize + 1).unwrap();
        assert!(bytes == vec![0; SIZE as usize]);
        let taken = fs::metadata(scratch.path().join("segment")).unwrap();
        assert!(taken.blocks() * 512 >= SIZE, "{} blocks", taken.blocks());
    }

    #[test]
    fn what_takes_the_journals_name_gets_nothing_and_ends_the_writing() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let path = Path::new("journal/a");
        for takes_its_place in [true, false] {
            fs::create_dir(at("journal")).unwrap();
            let disk = RealDisk::open(scratch.path()).unwrap();
            disk.create(path, 10).unwrap();
            disk.sync_dir(Path::new("journal")).unwrap();
            fs::rename(at("journal"), at("away")).unwrap();
            if takes_its_place {
                fs::create_dir(at("journal")).unwrap();
            }
            let refused = [
                disk.create(Path::new("journal/b"), 10).map(drop),
                disk.sync_dir(Path::new("journal")),
            ];
            for error in refused.map(Result::unwrap_err) {
                assert!(!error.is_full(), "{error}");
                assert!(error.to_string().contains("is not the directory any more"));
            }
            // What is begun is ended where it was begun.
            disk.rename(path, Path::new("journal/c")).unwrap();
            assert!(at("away/c").exists());
            let mut names = Vec::new();
            disk.list(Path::new("journal"), &mut |name, _| {
                names.push(name.to_owned());
            })
            .unwrap();
            assert_eq!(names, ["c"]);
            if takes_its_place {
                fs::remove_dir(at("journal")).unwrap();
            }
            fs::rename(at("away"), at("journal")).unwrap();
            disk.create(Path::new("journal/b"), 10).unwrap();
            fs::remove_dir_all(at("journal")).unwrap();
        }
    }
}
