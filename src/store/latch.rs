//! [`Latched`]: a disk that has failed once stays failed.
//!
//! After a failed sync the kernel has dropped what it could not write and says yes to the next sync: nobody can tell any
//! more what is on the disk. So nothing is written after that, and every attempt is answered with the first failure.
//!
//! This module may not know what the files are for.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    dir_id::DirId,
    disk::{Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read},
};
use crate::{
    defect::{Defect, planted},
    task::DiskSpace,
};

/// Wraps a [`Disk`]: after its first failed sync (of a file, a directory or everything) each operation that would change
/// something says that failure again. Reading goes on. A full disk does not latch, unless it shows in a sync: then it is
/// no longer a matter of room, and the error does not say so.
#[derive(Debug)]
pub struct Latched<D> {
    inner: D,
    latch: Latch,
}

impl<D: Disk> Latched<D> {
    /// Nothing has failed yet.
    pub fn new(inner: D) -> Self {
        Self {
            inner,
            latch: Latch::default(),
        }
    }

    /// The first failure, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<DiskError> {
        self.latch.check().err()
    }

    fn change<T>(&self, change: impl FnOnce(&D) -> DiskResult<T>) -> DiskResult<T> {
        self.latch.check()?;
        change(&self.inner)
    }
}

/// The first failure, shared by a disk and its open files.
#[derive(Debug, Clone, Default)]
struct Latch(Arc<Mutex<Option<Failure>>>);

/// What a [`DiskError`] said, kept so that it can be said again.
#[derive(Debug)]
struct Failure {
    operation: &'static str,
    path: PathBuf,
    text: String,
}

impl Failure {
    fn again(&self) -> DiskError {
        // `Other`, also for what came as "no space": nobody may take it for a matter of room and go on.
        let cause = io::Error::other(self.text.clone());
        DiskError::new(self.operation, &self.path, cause)
    }
}

impl Latch {
    fn check(&self) -> DiskResult<()> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first
            .as_ref()
            .map_or(Ok(()), |failure| Err(failure.again()))
    }

    fn sync(&self, result: DiskResult<()>) -> DiskResult<()> {
        result.map_err(|error| {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first
                .get_or_insert_with(|| Failure {
                    operation: error.operation,
                    text: error.cause.to_string(),
                    path: error.path,
                })
                .again()
        })
    }
}

/// An open file of a [`Latched`] disk.
#[derive(Debug)]
pub struct LatchedFile<F> {
    inner: F,
    latch: Latch,
}

impl<F: DiskFile> DiskFile for LatchedFile<F> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> DiskResult<()> {
        self.latch.check()?;
        self.inner.write_at(bytes, offset)
    }

    fn sync(&mut self) -> DiskResult<()> {
        self.latch.check()?;
        let mut done = self.inner.sync();
        if done.is_err() && planted(Defect::RetryFailedSync) {
            done = self.inner.sync();
        }
        self.latch.sync(done)
    }

    fn read_at(&self, offset: u64, limit: usize) -> DiskResult<Vec<u8>> {
        self.inner.read_at(offset, limit)
    }

    fn size(&self) -> DiskResult<u64> {
        self.inner.size()
    }

    fn read_written(&self) -> DiskResult<Vec<u8>> {
        self.inner.read_written()
    }
}

impl<D: Disk> Disk for Latched<D> {
    type File = LatchedFile<D::File>;

    fn create(&self, path: &Path, size: u64) -> DiskResult<Self::File> {
        let inner = self.change(|disk| disk.create(path, size))?;
        Ok(LatchedFile {
            inner,
            latch: self.latch.clone(),
        })
    }

    fn open(&self, path: &Path) -> DiskResult<Self::File> {
        Ok(LatchedFile {
            inner: self.inner.open(path)?,
            latch: self.latch.clone(),
        })
    }

    fn open_to_write(&self, path: &Path) -> DiskResult<Self::File> {
        let inner = self.change(|disk| disk.open_to_write(path))?;
        Ok(LatchedFile {
            inner,
            latch: self.latch.clone(),
        })
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        self.change(|disk| disk.write_new(path, bytes))
    }

    fn write_whole(&self, aside: &Path, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        self.change(|disk| disk.write_whole(aside, path, bytes))
    }

    fn read(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        self.inner.read(path, limit)
    }

    fn read_own(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        self.inner.read_own(path, limit)
    }

    fn holds(&self, path: &Path, bytes: &[u8]) -> bool {
        self.inner.holds(path, bytes)
    }

    fn look(&self, path: &Path) -> DiskResult<Meta> {
        self.inner.look(path)
    }

    fn directory(&self, path: &Path) -> DiskResult<DirId> {
        self.inner.directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        self.change(|disk| disk.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> DiskResult<()> {
        self.change(|disk| disk.rename_new(from, to))
    }

    fn unlink(&self, path: &Path) -> DiskResult<()> {
        self.change(|disk| disk.unlink(path))
    }

    fn truncate(&self, path: &Path, size: u64) -> DiskResult<()> {
        self.change(|disk| disk.truncate(path, size))
    }

    fn make_dir(&self, path: &Path) -> DiskResult<()> {
        self.change(|disk| disk.make_dir(path))
    }

    fn list(&self, path: &Path, entry: &mut dyn FnMut(&OsStr, Kind)) -> DiskResult<()> {
        self.inner.list(path, entry)
    }

    fn sync_dir(&self, path: &Path) -> DiskResult<()> {
        self.latch.sync(self.change(|disk| disk.sync_dir(path)))
    }

    fn sync_everything(&self) -> DiskResult<()> {
        self.latch.sync(self.change(Disk::sync_everything))
    }

    fn space(&self) -> DiskResult<DiskSpace> {
        self.inner.space()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::memory_disk::MemoryDisk, *};

    #[test]
    fn after_a_failed_sync_every_change_says_the_first_failure() {
        let memory = MemoryDisk::new();
        let disk = Latched::new(memory.clone());
        let path = Path::new("a");
        let mut file = disk.create(path, 10).unwrap();
        file.write_at(b"x", 0).unwrap();
        memory.fail_next("sync", io::ErrorKind::StorageFull);
        let first = file.sync().unwrap_err();
        assert!(!first.is_full());
        let first = first.to_string();

        let later: Vec<DiskResult<()>> = vec![
            file.sync(),
            file.write_at(b"y", 0),
            disk.create(Path::new("b"), 1).map(drop),
            disk.write_new(Path::new("b"), b""),
            disk.write_whole(Path::new("d"), Path::new("b"), b""),
            disk.rename(path, Path::new("b")),
            disk.rename_new(path, Path::new("b")),
            disk.unlink(path),
            disk.truncate(path, 0),
            disk.make_dir(Path::new("d")),
            disk.sync_dir(Path::new("")),
            disk.sync_everything(),
        ];
        for result in later {
            assert_eq!(result.unwrap_err().to_string(), first);
        }
        assert_eq!(disk.failure().unwrap().to_string(), first);
        assert_eq!(disk.open(path).unwrap().read_at(0, 1).unwrap(), b"x");
        assert_eq!(memory.bytes(path), b"x\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn syncs_of_directories_and_of_everything_latch_too() {
        for everything in [false, true] {
            let memory = MemoryDisk::new();
            let disk = Latched::new(memory.clone());
            memory.fail_next("sync", io::ErrorKind::Other);
            let first = if everything {
                disk.sync_everything()
            } else {
                disk.sync_dir(Path::new(""))
            };
            let again = disk.write_new(Path::new("a"), b"").unwrap_err();
            assert_eq!(again.to_string(), first.unwrap_err().to_string());
        }
    }

    #[test]
    fn a_full_disk_does_not_latch() {
        let memory = MemoryDisk::new();
        memory.set_capacity(100);
        let disk = Latched::new(memory.clone());
        assert!(disk.create(Path::new("a"), 1000).err().unwrap().is_full());
        assert!(
            disk.write_new(Path::new("a"), &[1; 200])
                .unwrap_err()
                .is_full()
        );
        disk.write_new(Path::new("a"), &[1; 20]).unwrap();
        assert!(disk.failure().is_none());
    }
}
