//! [`ReadOnly`]: a disk that is only looked at.

use std::{ffi::OsStr, path::Path, sync::Arc};

use super::{
    dir_id::DirId,
    disk::{Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read},
};
use crate::task::DiskSpace;

/// Wraps a [`Disk`]: what would tidy up (cut a torn tail, remove what is not needed, sync) is passed over, and what would
/// make something is refused. So a look through a data directory is the same code as a start, and changes nothing.
#[derive(Debug)]
pub(super) struct ReadOnly<D>(pub(super) Arc<D>);

fn refused<T>(path: &Path) -> DiskResult<T> {
    Err(DiskError::new(
        "write",
        path,
        std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem),
    ))
}

/// A file of a disk that is only looked at: what would be written over what is there, to be sure of it, is passed over.
#[derive(Debug)]
pub(super) struct LookedAt<F>(F);

impl<F: DiskFile> DiskFile for LookedAt<F> {
    fn write_at(&mut self, _: &[u8], _: u64) -> DiskResult<()> {
        Ok(())
    }

    fn sync(&mut self) -> DiskResult<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, limit: usize) -> DiskResult<Vec<u8>> {
        self.0.read_at(offset, limit)
    }

    fn size(&self) -> DiskResult<u64> {
        self.0.size()
    }

    fn read_written(&self) -> DiskResult<Vec<u8>> {
        self.0.read_written()
    }
}

impl<D: Disk> Disk for ReadOnly<D> {
    type File = LookedAt<D::File>;

    fn create(&self, path: &Path, _: u64) -> DiskResult<Self::File> {
        refused(path)
    }

    fn open(&self, path: &Path) -> DiskResult<Self::File> {
        self.0.open(path).map(LookedAt)
    }

    fn open_to_write(&self, path: &Path) -> DiskResult<Self::File> {
        self.0.open(path).map(LookedAt)
    }

    fn write_new(&self, path: &Path, _: &[u8]) -> DiskResult<()> {
        refused(path)
    }

    fn write_whole(&self, _aside: &Path, path: &Path, _bytes: &[u8]) -> DiskResult<()> {
        refused(path)
    }

    fn read(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        self.0.read(path, limit)
    }

    fn read_own(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        self.0.read_own(path, limit)
    }

    fn holds(&self, path: &Path, bytes: &[u8]) -> bool {
        self.0.holds(path, bytes)
    }

    fn look(&self, path: &Path) -> DiskResult<Meta> {
        self.0.look(path)
    }

    fn directory(&self, path: &Path) -> DiskResult<DirId> {
        self.0.directory(path)
    }

    fn rename(&self, from: &Path, _: &Path) -> DiskResult<()> {
        refused(from)
    }

    fn rename_new(&self, from: &Path, _: &Path) -> DiskResult<()> {
        refused(from)
    }

    fn unlink(&self, _: &Path) -> DiskResult<()> {
        Ok(())
    }

    fn truncate(&self, _: &Path, _: u64) -> DiskResult<()> {
        Ok(())
    }

    fn make_dir(&self, _: &Path) -> DiskResult<()> {
        Ok(())
    }

    fn list(&self, path: &Path, entry: &mut dyn FnMut(&OsStr, Kind)) -> DiskResult<()> {
        self.0.list(path, entry)
    }

    fn sync_dir(&self, _: &Path) -> DiskResult<()> {
        Ok(())
    }

    fn sync_everything(&self) -> DiskResult<()> {
        Ok(())
    }

    fn space(&self) -> DiskResult<DiskSpace> {
        self.0.space()
    }
}
