//! [`Journal`]: does to the disk what the ledger says.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{Boot, DIR, Group, Header, NewSegment, room::LEAST_SEGMENT, segment::segment_path};
use crate::{
    defect::{Defect, planted},
    store::{
        checkpoint::{self, Checkpoint},
        disk::{Disk, DiskError, DiskFile as _, DiskResult},
    },
};

/// The journal's files, open for writing. Every call waits for the disk; after one that failed for another reason than
/// a full disk, nothing more may be written (see [`Latched`](crate::store::Latched)).
#[derive(Debug)]
pub struct Journal<D: Disk> {
    disk: Arc<D>,
    boot: Boot,
    segments: BTreeMap<u64, Segment<D::File>>,
}

#[derive(Debug)]
struct Segment<F> {
    file: F,
    /// Written to since it was last synced.
    dirty: bool,
}

impl<D: Disk> Journal<D> {
    /// `boot` is what [`recover`](crate::store::recover()) gave back: segments and checkpoints say it of themselves.
    pub fn new(disk: Arc<D>, boot: Boot) -> Self {
        Self {
            disk,
            boot,
            segments: BTreeMap::new(),
        }
    }

    /// Makes a segment, durable with its name, and gives its size in bytes. When the disk has no room for it, tries halves
    /// down to the least that is of use; an error that [is about room](DiskError::is_full) leaves nothing behind.
    pub fn make_segment(&mut self, new: &NewSegment) -> DiskResult<u64> {
        let least = new.least.max(LEAST_SEGMENT);
        let mut bytes = new.bytes.max(least);
        loop {
            match self.try_segment(new, bytes) {
                Err(error) if error.is_full() && bytes > least => bytes = (bytes / 2).max(least),
                other => return other.map(|()| bytes),
            }
        }
    }

    fn try_segment(&mut self, new: &NewSegment, bytes: u64) -> DiskResult<()> {
        let path = segment_path(new.number);
        let mut file = self.disk.create(&path, bytes)?;
        let header = Header {
            number: new.number,
            boot: self.boot,
            first: new.first,
        };
        if let Err(error) = file.write_at(&header.encode(), 0) {
            self.disk.unlink(&path)?;
            return Err(error);
        }
        file.sync()?;
        if !planted(Defect::SkipDirectorySync) {
            self.disk.sync_dir(Path::new(DIR))?;
        }
        self.segments
            .insert(new.number, Segment { file, dirty: false });
        Ok(())
    }

    /// Writes a group, and syncs it, and all before it, if it asks for that.
    pub fn write(&mut self, group: &Group) -> DiskResult<()> {
        let Some(segment) = self.segments.get_mut(&group.segment) else {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(DiskError::new(
                "write",
                segment_path(group.segment),
                missing,
            ));
        };
        segment.dirty = true;
        segment.file.write_at(&group.bytes, group.offset)?;
        if group.sync {
            self.sync()?;
        }
        // Segments are written in order: those before are closed, once nothing in them is left to sync.
        self.segments
            .retain(|number, segment| *number >= group.segment || segment.dirty);
        Ok(())
    }

    /// Makes all groups durable that were written before.
    pub fn sync(&mut self) -> DiskResult<()> {
        for segment in self.segments.values_mut().filter(|segment| segment.dirty) {
            segment.file.sync()?;
            segment.dirty = false;
        }
        Ok(())
    }

    /// Closes segments that another hand has deleted with a checkpoint, so that the disk gets their room back.
    pub fn forget(&mut self, numbers: &[u64]) {
        self.segments.retain(|number, _| !numbers.contains(number));
    }

    /// Writes a checkpoint, and makes everything durable that was done to files before this call. Afterwards removes what
    /// it stands for: the segments of `cp.delete` and older checkpoints. An error that
    /// [is about room](DiskError::is_full) leaves everything as it was.
    pub fn checkpoint(&mut self, cp: &Checkpoint) -> DiskResult<()> {
        checkpoint::write(&*self.disk, &self.boot, cp)?;
        for number in &cp.delete {
            self.segments.remove(number);
            checkpoint::remove(&*self.disk, &segment_path(*number))?;
        }
        checkpoint::remove_older(&*self.disk, cp.cut)
    }
}
