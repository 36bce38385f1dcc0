//! The spool: tasks as files that people can see, written and removed behind the journal, never synced one by one.
//!
//! Every operation may be done again after a crash: a file is written under a temporary name and renamed over, a file that
//! is gone already is fine to remove. This module may not know: when an operation is due, what state a task is in, or
//! threads.

use std::{
    ffi::{OsStr, OsString},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    defect::{Defect, planted},
    task::{
        Area, FileName, Location, NewTask, PayloadLimits, Refusal, Source, TaskFile, TaskId,
        WallMillis, read_dropped,
    },
};

use super::{
    Disk, DiskError, DiskFile as _, DiskResult, Kind, Read,
    own::{OwnSteps, Step},
    rejected::reject,
    shown::shown,
};

/// How large a file that is read as a task may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropLimits {
    /// Those of its payload.
    pub payloads: PayloadLimits,
    /// The largest file, in bytes; one that is larger is not read at all.
    pub max_file: u64,
}

/// The largest file of a task, in bytes: of the largest payload that may ever be accepted (`max_payload` ends at 64 MiB).
const MOST_OWN: u64 = (64 << 20) + (64 << 10);

/// [`DropLimits`] that can change while files are read.
#[derive(Debug, Clone)]
pub struct LiveDropLimits(Arc<Mutex<DropLimits>>);

impl LiveDropLimits {
    /// Those for the next file.
    #[must_use]
    pub fn get(&self) -> DropLimits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds every holder to others from the next file on.
    pub fn set(&self, limits: DropLimits) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }
}

impl From<DropLimits> for LiveDropLimits {
    fn from(limits: DropLimits) -> Self {
        Self(Arc::new(Mutex::new(limits)))
    }
}

/// One change of the spool.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all of them are `Put`; a box would be one more allocation for each"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum FileOp {
    /// Write `file` at `at`, whatever is there; then remove `old` where that is another path.
    Put {
        /// Where the task's file was before.
        old: Option<Location>,
        /// Where it is to be.
        at: Location,
        /// What is to stand in it.
        file: TaskFile,
    },
    /// Remove a task's file; one that is gone already is fine.
    Remove {
        /// Where it is.
        at: Location,
        /// Another may have come to its place: one that was written within this time is, and stays.
        strange: Option<Range<WallMillis>>,
    },
    /// Remove a dropped file whose task has been taken, if it is still the same file: another one that has come to its
    /// path since stays.
    RemoveSource(Source),
}

/// How a change of the spool was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ran {
    /// As it was wanted.
    Whole,
    /// A file that was to be removed, or to be made whole, was not there: somebody has removed or moved it.
    Astray,
    /// Another file is where the one was that was to be removed.
    Strange,
}

/// Why a task's file could not be read as a task.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not there.
    #[error("the file is gone")]
    Missing,
    /// It is no regular file of its own, and was not read.
    #[error("not a regular file of its own ({0:?})")]
    Irregular(Kind),
    /// What stands in it is no task.
    #[error(transparent)]
    Invalid(Refusal),
    /// It could not be read.
    #[error(transparent)]
    Disk(DiskError),
}

/// The name of the daemon's own temporary file for a task.
fn temporary_name(id: TaskId) -> String {
    format!(".wq-{id}.tmp")
}

/// Whether a name is one that [`Spool`] gives to what it has not written whole yet.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".wq-") && name.ends_with(b".tmp")
}

/// The files of tasks, over the seam to the disk.
#[derive(Debug)]
pub struct Spool<D: Disk> {
    disk: Arc<D>,
    limits: LiveDropLimits,
    own: Arc<OwnSteps>,
}

/// Where a file is while it has no name: a directory of every data directory that the watcher does not watch, so that the
/// kernel tells of the name alone, and not of each step before.
const ASIDE: &str = Area::Dead.dir();

impl<D: Disk> Spool<D> {
    /// The spool of the data directory that `disk` is.
    pub fn new(disk: Arc<D>, limits: impl Into<LiveDropLimits>) -> Self {
        let limits = limits.into();
        let own = Arc::default();
        Self { disk, limits, own }
    }

    /// What this spool does under the watcher's eyes.
    #[must_use]
    pub fn own_steps(&self) -> Arc<OwnSteps> {
        Arc::clone(&self.own)
    }

    /// Makes one change. Nothing of it is synced, but a file that is moved, and its name, before the old one goes.
    pub fn run(&self, op: &FileOp) -> DiskResult<Ran> {
        match op {
            FileOp::Put { old, at, file } => {
                // The old file may be all that is left of the payload: it goes only when the new one is whole on the disk.
                let Some(old) = old else {
                    return self.put_new(at, file).map(|()| Ran::Whole);
                };
                let path = at.path();
                let bytes = encoded(&path, file)?;
                if old == at {
                    // After a crash nobody knew whether it is whole. On a full disk it could not be written once more, or would take
                    // room meanwhile that the journal needs.
                    if self.disk.holds(&path, &bytes) {
                        return Ok(Ran::Whole);
                    }
                    // It was seen there. If somebody has moved it since, the task has two files from here on.
                    let looked = self.disk.look(&path);
                    let moved = looked.is_err_and(|error| is_absent(&error));
                    self.put(at, &path, &bytes, false)?;
                    return Ok(if moved { Ran::Astray } else { Ran::Whole });
                }
                self.put(at, &path, &bytes, true)?;
                self.sync_name(at)?;
                self.remove_own(old)
            }
            FileOp::Remove { at, strange } => match strange {
                Some(strange) if self.is_strange(at, strange)? => Ok(Ran::Strange),
                _ => self.remove_own(at),
            },
            FileOp::RemoveSource(source) => self.remove_source(source),
        }
    }

    /// Makes changes in their order, up to one that fails.
    pub fn run_all(&self, ops: &[FileOp]) -> DiskResult<Ran> {
        ops.iter()
            .try_fold(Ran::Whole, |ran, op| Ok(ran.max(self.run(op)?)))
    }

    /// The quick way, which most files go. Where it can't be gone, the other one says why, or succeeds.
    fn put_new(&self, at: &Location, file: &TaskFile) -> DiskResult<()> {
        let path = at.path();
        let bytes = encoded(&path, file)?;
        self.own.begin(Step::Made, at);
        let made = self.disk.write_whole(ASIDE.as_ref(), &path, &bytes);
        let Err(error) = made else { return Ok(()) };
        self.own.end(Step::Made, at.clone());
        if error.is_taken() && at.area == Area::Tasks && !self.disk.holds(&path, &bytes) {
            self.turn_away(&path)?;
        }
        self.put(at, &path, &bytes, false)
    }

    /// Makes room for a task's first file: somebody has put another one under the name that only the daemon gives.
    fn turn_away(&self, path: &Path) -> DiskResult<()> {
        let kind = match self.disk.look(path) {
            Err(error) if is_absent(&error) => return Ok(()),
            looked => looked?.kind,
        };
        if !matches!(kind, Kind::File | Kind::HardLink) {
            return Ok(());
        }
        let reason = "it has the name of a task's file, and came before that was written";
        match reject(&*self.disk, path, None, reason) {
            Err(error) if is_absent(&error) => return Ok(()),
            rejected => rejected?,
        };
        tracing::warn!(file = %shown(path), reason, "a dropped file is rejected");
        Ok(())
    }

    fn put(&self, at: &Location, path: &Path, bytes: &[u8], durably: bool) -> DiskResult<()> {
        let temporary = at.folder().join(temporary_name(at.name.id));
        match self.disk.write_new(&temporary, bytes) {
            Err(error) if error.is_missing() => {
                self.disk.make_dir(Path::new(at.area.dir()))?;
                self.disk.make_dir(&at.folder())?;
                self.disk.write_new(&temporary, bytes)?;
            }
            // Left behind by a write that failed halfway: its content is nobody's.
            Err(error) if error.is_taken() => {
                self.disk.unlink(&temporary)?;
                self.disk.write_new(&temporary, bytes)?;
            }
            other => other?,
        }
        let synced = if durably {
            self.disk.open(&temporary).and_then(|mut file| file.sync())
        } else {
            Ok(())
        };
        let renamed = synced.and_then(|()| self.disk.rename(&temporary, path));
        if renamed.is_err() {
            self.remove(&temporary)?;
        }
        renamed
    }

    fn remove_own(&self, at: &Location) -> DiskResult<Ran> {
        self.own.begin(Step::Removed, at);
        let removed = self.disk.unlink(&at.path());
        if removed.is_err() {
            self.own.end(Step::Removed, at.clone());
        }
        self.was_there(at.area, removed)
    }

    /// Whether the file in a place was written within that time.
    fn is_strange(&self, at: &Location, strange: &Range<WallMillis>) -> DiskResult<bool> {
        match self.disk.look(&at.path()) {
            Ok(meta) => Ok(meta.is_written_within(strange)),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a removal came to. Where there is no task directory, the file is with that, which may come back.
    fn was_there(&self, area: Area, removed: DiskResult<()>) -> DiskResult<Ran> {
        match removed {
            Ok(()) => Ok(Ran::Whole),
            Err(error) if is_absent(&error) => {
                if area == Area::Tasks {
                    self.disk.look(Path::new(area.dir()))?;
                }
                Ok(Ran::Astray)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the name of a task's file durable, and its folder's. No task hangs on a file in `done/`.
    fn sync_name(&self, at: &Location) -> DiskResult<()> {
        if at.area == Area::Done || planted(Defect::MoveBeforeSync) {
            return Ok(());
        }
        let (folder, top) = (at.folder(), Path::new(at.area.dir()));
        self.disk.sync_dir(&folder)?;
        if folder == top {
            Ok(())
        } else {
            self.disk.sync_dir(top)
        }
    }

    fn remove(&self, path: &Path) -> DiskResult<()> {
        match self.disk.unlink(path) {
            Err(error) if is_absent(&error) => Ok(()),
            other => other,
        }
    }

    /// Linux has no way to remove a name only while it names a certain file, so a file that replaces the source between
    /// the look and the removal is lost. That is some microseconds, and its own event comes too late to help.
    fn remove_source(&self, source: &Source) -> DiskResult<Ran> {
        let found = match self.disk.look(&source.path) {
            Err(error) if is_absent(&error) => return self.was_there(Area::Tasks, Err(error)),
            other => other?,
        };
        if found.is(source) {
            self.was_there(Area::Tasks, self.disk.unlink(&source.path))
        } else {
            Ok(Ran::Astray)
        }
    }

    /// Reads a task's file. What the file is silent about, its name says. It was accepted: the limits of the moment are for others.
    pub fn load(&self, at: &Location, wall: WallMillis) -> Result<NewTask, LoadError> {
        let limits = self.limits.get();
        let limit = limits.max_file.max(MOST_OWN);
        let bytes = match self.disk.read_own(&at.path(), limit) {
            Ok(Read::Whole(_, bytes)) => bytes,
            Ok(Read::Irregular(kind)) => return Err(LoadError::Irregular(kind)),
            Ok(Read::Changed) => {
                let why = io::Error::other("another file took its place");
                return Err(LoadError::Disk(DiskError::new("read", at.path(), why)));
            }
            Ok(Read::TooLarge(meta)) => {
                let (field, size) = ("file".to_owned(), meta.size);
                return Err(LoadError::Invalid(Refusal::TooLarge { field, size, limit }));
            }
            Err(error) if is_absent(&error) => return Err(LoadError::Missing),
            Err(error) => return Err(LoadError::Disk(error)),
        };
        let limits = PayloadLimits::own(usize::try_from(limit).unwrap_or(usize::MAX));
        read_dropped(&bytes, &at.queue, Some(at.name), wall, limits).map_err(LoadError::Invalid)
    }

    /// Removes the files of completed tasks that were last written before `before`; gives how many. Files in `done/` that
    /// have no canonical name are not ours to remove. One that can't be removed keeps no other; the first such error is told.
    pub fn purge_done(&self, before: WallMillis) -> DiskResult<u64> {
        let before = i128::from(before.0) * 1_000_000;
        let canonical = |name: &OsStr| name.to_str().and_then(FileName::parse).is_some();
        let (mut count, mut failed) = (0, None);
        for path in self.files(Area::Done, canonical)? {
            let removed = match self.disk.look(&path) {
                Ok(meta) if meta.modified < before => self.remove(&path).map(|()| 1),
                Ok(_) => Ok(0),
                Err(error) if is_absent(&error) => Ok(0),
                Err(error) => Err(error),
            };
            match removed {
                Ok(one) => count += one,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(count), Err)
    }

    /// Removes the temporary files that a former life of the daemon left behind: those that
    /// [`recover`](super::recover()) has `found`, and those where it does not look. Gives how many. For a start, before anything is
    /// written.
    pub fn sweep(&self, found: Vec<PathBuf>) -> DiskResult<u64> {
        let mut count = 0;
        for path in found
            .into_iter()
            .chain(self.files(Area::Done, is_temporary)?)
        {
            self.remove(&path)?;
            count += 1;
        }
        Ok(count)
    }

    /// The files of an area and its folders whose name is `wanted`.
    fn files(&self, area: Area, wanted: impl Fn(&OsStr) -> bool) -> DiskResult<Vec<PathBuf>> {
        let top = Path::new(area.dir());
        let mut files = Vec::new();
        let mut folders: Vec<OsString> = Vec::new();
        let listed = self.disk.list(top, &mut |name, kind| match kind {
            Kind::Directory => folders.push(name.to_owned()),
            Kind::File if wanted(name) => files.push(top.join(name)),
            _ => {}
        });
        match listed {
            Err(error) if is_absent(&error) => return Ok(files),
            other => other?,
        }
        for folder in folders {
            let folder = top.join(folder);
            let listed = self.disk.list(&folder, &mut |name, kind| {
                if kind == Kind::File && wanted(name) {
                    files.push(folder.join(name));
                }
            });
            match listed {
                // A folder that somebody else made for himself holds nothing of ours; the watcher reports it.
                Err(error) if is_absent(&error) || is_forbidden(&error) => {}
                other => other?,
            }
        }
        Ok(files)
    }
}

fn encoded(path: &Path, file: &TaskFile) -> DiskResult<Vec<u8>> {
    file.to_json()
        .map_err(|cause| DiskError::new("write", path, io::Error::other(cause)))
}

/// There is nothing at the path, or something else is where a folder of it was.
pub(super) fn is_absent(error: &DiskError) -> bool {
    error.is_missing() || error.cause.kind() == io::ErrorKind::NotADirectory
}

/// The daemon's user may not.
pub(super) fn is_forbidden(error: &DiskError) -> bool {
    error.cause.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
