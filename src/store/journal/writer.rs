//! [`Journal`]: does to the disk what the ledger says.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    Boot, DIR, Group, Header, NewSegment,
    room::{BLOCK, LEAST_SEGMENT},
    segment::segment_path,
};
use crate::{
    defect::{Defect, planted},
    store::{
        checkpoint::{self, Checkpoint},
        disk::{Disk, DiskError, DiskFile, DiskResult},
        reserve,
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

/// A segment that is there, and not yet written to.
#[derive(Debug)]
pub struct MadeSegment<F> {
    /// Its number.
    pub number: u64,
    /// Its size in bytes.
    pub bytes: u64,
    file: F,
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

    /// Which boot of the machine is written into what this makes.
    #[must_use]
    pub const fn boot(&self) -> Boot {
        self.boot
    }

    /// Makes a segment and takes it, and gives its size in bytes. See [`prepare`](Self::prepare).
    pub fn make_segment(&mut self, new: &NewSegment) -> DiskResult<u64> {
        let made = self.prepare(new, &mut || ())?;
        let bytes = made.bytes;
        self.adopt(made);
        Ok(bytes)
    }

    /// Makes a segment, durable with its name. When the disk has no room for it, tries halves down to the least that is
    /// of use; an error that [is about room](DiskError::is_full) leaves nothing behind.
    ///
    /// This takes its time, as all of the segment is written once: another hand than the one that writes groups may do it.
    pub fn prepare(
        &self,
        new: &NewSegment,
        between: &mut dyn FnMut(),
    ) -> DiskResult<MadeSegment<D::File>> {
        let least = new.least.max(LEAST_SEGMENT);
        let mut bytes = new.bytes.max(least);
        loop {
            match self.try_segment(new, bytes, between) {
                Err(error) if error.is_full() && bytes > least => bytes = (bytes / 2).max(least),
                Err(error) if error.is_full() && new.last_resort => {
                    return self.segment_of_reserve(new)?.ok_or(error);
                }
                other => {
                    return other.map(|file| MadeSegment {
                        number: new.number,
                        bytes,
                        file,
                    });
                }
            }
        }
    }

    /// Takes a segment that was made, to write to it.
    pub fn adopt(&mut self, made: MadeSegment<D::File>) {
        let (file, dirty) = (made.file, false);
        self.segments.insert(made.number, Segment { file, dirty });
    }

    fn try_segment(
        &self,
        new: &NewSegment,
        bytes: u64,
        between: &mut dyn FnMut(),
    ) -> DiskResult<D::File> {
        let path = segment_path(new.number);
        let file = self.disk.create(&path, bytes)?;
        self.finish_segment(new, file, bytes, between)
    }

    /// Makes a segment of what is set aside for a checkpoint, if that is long enough.
    fn segment_of_reserve(&self, new: &NewSegment) -> DiskResult<Option<MadeSegment<D::File>>> {
        let path = segment_path(new.number);
        let Some(taken) = reserve::take(&*self.disk, &path)? else {
            return Ok(None);
        };
        let bytes = taken.size - taken.size % BLOCK;
        if bytes < new.least {
            reserve::give_back(&*self.disk, &path, taken.size)?;
            return Ok(None);
        }
        self.disk.truncate(&path, bytes)?;
        let file = self.finish_segment(new, taken.file, bytes, &mut || ())?;
        tracing::warn!(
            bytes,
            "the disk is full: the journal goes on in what was set aside for a checkpoint"
        );
        Ok(Some(MadeSegment {
            number: new.number,
            bytes,
            file,
        }))
    }

    /// Writes zeros and the header into a segment's file, and makes it durable with its name.
    fn finish_segment(
        &self,
        new: &NewSegment,
        mut file: D::File,
        bytes: u64,
        between: &mut dyn FnMut(),
    ) -> DiskResult<D::File> {
        let header = Header {
            number: new.number,
            boot: self.boot,
            first: new.first,
        };
        let filled = fill(&mut file, bytes, between);
        if let Err(error) = filled.and_then(|()| file.write_at(&header.encode(), 0)) {
            self.disk.unlink(&segment_path(new.number))?;
            return Err(error);
        }
        file.sync()?;
        if !planted(Defect::SkipDirectorySync) {
            self.disk.sync_dir(Path::new(DIR))?;
        }
        Ok(file)
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
        checkpoint::remove_older(&*self.disk, cp.cut)?;
        self.set_aside(cp.records.len() as u64);
        Ok(())
    }

    /// Sets room aside for the next checkpoint, which is expected to have so many bytes, as far as the disk has it: for whoever writes
    /// checkpoints, when all that the ledger wants is there. Not before: a start on a full disk needs for the ends of tasks what the
    /// one before gave back. What comes of it is told to nobody: nothing depends on it before the disk is full.
    pub fn set_aside(&self, bytes: u64) {
        if let Err(error) = reserve::set_aside(&*self.disk, reserve::wanted(bytes)) {
            tracing::warn!(%error, "no room is set aside for the next checkpoint");
        }
    }
}

/// How many zeros are written and synced at once, in bytes: so long a sync of the segment in use may stand behind them.
const PIECE: u64 = 1 << 20;

/// Writes zeros over `bytes` of a new file: where a file has no blocks that were never written, a later sync of it has data to
/// write and nothing else. On ext4 it would otherwise commit the file system's own journal, and with it every task file that
/// was made since the last commit.
fn fill(file: &mut impl DiskFile, bytes: u64, between: &mut dyn FnMut()) -> DiskResult<()> {
    let zeros = vec![0; bytes.min(PIECE) as usize];
    let mut at = 0;
    while at < bytes {
        let count = (bytes - at).min(PIECE);
        file.write_at(&zeros[..count as usize], at)?;
        at += count;
        if at < bytes {
            file.sync()?;
            between();
        }
    }
    Ok(())
}
