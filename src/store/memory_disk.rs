//! A disk in memory, for tests: it has a capacity, fails when told to, and forgets what was not synced when it crashes.
//!
//! Paths are kept flat; a directory is there as soon as something is in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    dir_id::DirId,
    disk::{Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read},
};
use crate::task::DiskSpace;

#[derive(Debug, Default, Clone)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
    contents: BTreeMap<u64, Content>,
    dirs: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    /// Which operation fails, after how many of its name that do not.
    fail_next: Option<(&'static str, u32, io::ErrorKind)>,
    /// Changes that may still be made before the disk stops.
    left: Option<u64>,
    changes: u64,
}

/// What of that which was not synced has reached the disk all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    Everything,
    /// Names that were removed, and nothing else.
    Removals,
    /// Names that were added, and nothing else.
    Additions,
}

impl Kept {
    pub(crate) const ALL: [Self; 4] = [
        Self::Nothing,
        Self::Everything,
        Self::Removals,
        Self::Additions,
    ];
}

/// See the [module](self). A clone is the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

impl State {
    fn error(operation: &'static str, path: &Path, kind: io::ErrorKind) -> DiskError {
        DiskError::new(operation, path, kind)
    }

    /// Counts a change, and fails it if it is the one to fail.
    fn change(&mut self, operation: &'static str, path: &Path) -> DiskResult<()> {
        let counted = |(fails, before, _): &mut (&str, u32, io::ErrorKind)| {
            *fails == operation && before.checked_sub(1).map(|left| *before = left).is_none()
        };
        if let Some((.., kind)) = self.fail_next.take_if(counted) {
            return Err(Self::error(operation, path, kind));
        }
        if self.left == Some(0) {
            return Err(Self::error(operation, path, io::ErrorKind::Other));
        }
        self.left = self.left.map(|left| left - 1);
        self.changes += 1;
        Ok(())
    }

    fn used(&self) -> usize {
        let numbers = self.names.values();
        numbers.map(|number| self.contents[number].now.len()).sum()
    }

    fn has_room(&self, operation: &'static str, path: &Path, more: usize) -> DiskResult<()> {
        let full = self
            .capacity
            .is_some_and(|capacity| (self.used() + more) as u64 > capacity);
        if full {
            return Err(Self::error(operation, path, io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn number(&self, operation: &'static str, path: &Path) -> DiskResult<u64> {
        let found = self.names.get(path).copied();
        found.ok_or_else(|| Self::error(operation, path, io::ErrorKind::NotFound))
    }

    fn make(&mut self, path: &Path, bytes: Vec<u8>) -> DiskResult<u64> {
        self.change("create", path)?;
        if self.names.contains_key(path) {
            return Err(Self::error("create", path, io::ErrorKind::AlreadyExists));
        }
        self.has_room("create", path, bytes.len())?;
        let number = self.contents.keys().next_back().map_or(1, |last| last + 1);
        self.contents.insert(
            number,
            Content {
                now: bytes,
                synced: Vec::new(),
            },
        );
        self.names.insert(path.to_owned(), number);
        Ok(number)
    }
}

impl MemoryDisk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that all files together have.
    pub(crate) fn used(&self) -> u64 {
        self.state().used() as u64
    }

    /// Bytes that all files together may have.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = Some(bytes);
    }

    /// The next operation of this name fails, once.
    pub(crate) fn fail_next(&self, operation: &'static str, kind: io::ErrorKind) {
        self.fail_nth(operation, 0, kind);
    }

    /// The operation of this name that comes after `before` others fails, once.
    pub(crate) fn fail_nth(&self, operation: &'static str, before: u32, kind: io::ErrorKind) {
        self.state().fail_next = Some((operation, before, kind));
    }

    /// After `changes` more changes, every further one fails.
    pub(crate) fn stop_after(&self, changes: u64) {
        self.state().left = Some(changes);
    }

    /// The program was killed, not the machine: what it wrote is there, synced or not, and changes can be made again.
    pub(crate) fn go_on(&self) {
        self.state().left = None;
    }

    /// How many changes were made.
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// A power cut: what was not synced is gone, except what `kept` says.
    pub(crate) fn crash(&self, kept: Kept) {
        let mut state = self.state();
        state.left = None;
        let (now, synced) = (state.names.clone(), state.synced_names.clone());
        state.names = match kept {
            Kept::Nothing => synced,
            Kept::Everything => now,
            Kept::Removals => synced
                .into_iter()
                .filter(|(name, _)| now.contains_key(name))
                .collect(),
            Kept::Additions => synced.into_iter().chain(now).collect(),
        };
        state.synced_names = state.names.clone();
        for content in state.contents.values_mut() {
            if kept == Kept::Everything {
                content.synced = content.now.clone();
            }
            content.now = content.synced.clone();
        }
    }

    /// A file's bytes.
    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.contents[&state.names[path]].now.clone()
    }

    /// Replaces a file's bytes, or makes it, past all accounting: as if it had been so on the disk.
    pub(crate) fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let number = state.names.get(path).copied();
        let number =
            number.unwrap_or_else(|| state.contents.keys().next_back().map_or(1, |last| last + 1));
        state.contents.insert(
            number,
            Content {
                synced: bytes.clone(),
                now: bytes,
            },
        );
        state.names.insert(path.to_owned(), number);
        state.synced_names.insert(path.to_owned(), number);
    }

    /// The names of all files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub(crate) struct MemoryFile {
    disk: MemoryDisk,
    number: u64,
    path: PathBuf,
}

impl DiskFile for MemoryFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> DiskResult<()> {
        let mut state = self.disk.state();
        state.change("write", &self.path)?;
        let end = offset as usize + bytes.len();
        let before = state.contents.entry(self.number).or_default().now.len();
        if end > before {
            state.has_room("write", &self.path, end - before)?;
        }
        let now = &mut state.contents.entry(self.number).or_default().now;
        now.resize(now.len().max(end), 0);
        now[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> DiskResult<()> {
        let mut state = self.disk.state();
        state.change("sync", &self.path)?;
        let content = state.contents.entry(self.number).or_default();
        content.synced = content.now.clone();
        Ok(())
    }

    fn read_at(&self, offset: u64, limit: usize) -> DiskResult<Vec<u8>> {
        let state = self.disk.state();
        let now = &state.contents[&self.number].now;
        let from = now.len().min(offset as usize);
        Ok(now[from..now.len().min(from + limit)].to_vec())
    }

    fn size(&self) -> DiskResult<u64> {
        Ok(self.disk.state().contents[&self.number].now.len() as u64)
    }

    fn read_written(&self) -> DiskResult<Vec<u8>> {
        self.read_at(0, self.size()? as usize)
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn create(&self, path: &Path, size: u64) -> DiskResult<MemoryFile> {
        let number = self.state().make(path, vec![0; size as usize])?;
        Ok(MemoryFile {
            disk: self.clone(),
            number,
            path: path.to_owned(),
        })
    }

    fn open(&self, path: &Path) -> DiskResult<MemoryFile> {
        let number = self.state().number("open", path)?;
        Ok(MemoryFile {
            disk: self.clone(),
            number,
            path: path.to_owned(),
        })
    }

    fn open_to_write(&self, path: &Path) -> DiskResult<MemoryFile> {
        self.open(path)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        self.state().make(path, bytes.to_vec()).map(drop)
    }

    fn write_whole(&self, _aside: &Path, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        self.write_new(path, bytes)
    }

    fn read(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        let meta = self.look(path)?;
        Ok(if meta.size > limit {
            Read::TooLarge(meta)
        } else {
            Read::Whole(meta, self.bytes(path))
        })
    }

    fn read_own(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        self.read(path, limit)
    }

    fn holds(&self, path: &Path, bytes: &[u8]) -> bool {
        let state = self.state();
        let number = state.names.get(path);
        number.is_some_and(|number| state.contents[number].now == bytes)
    }

    fn look(&self, path: &Path) -> DiskResult<Meta> {
        let state = self.state();
        let inode = state.number("look at", path)?;
        let size = state.contents[&inode].now.len() as u64;
        Ok(Meta {
            kind: Kind::File,
            inode,
            modified: 0,
            size,
            born: None,
        })
    }

    fn directory(&self, path: &Path) -> DiskResult<DirId> {
        self.look(path).map(|meta| DirId::plain(meta.inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        let mut state = self.state();
        let number = state.number("rename", from)?;
        state.change("rename", from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> DiskResult<()> {
        if self.state().names.contains_key(to) {
            return Err(State::error("rename", from, io::ErrorKind::AlreadyExists));
        }
        self.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> DiskResult<()> {
        let mut state = self.state();
        state.number("remove", path)?;
        state.change("remove", path)?;
        state.names.remove(path);
        Ok(())
    }

    fn truncate(&self, path: &Path, size: u64) -> DiskResult<()> {
        let mut state = self.state();
        let number = state.number("cut", path)?;
        state.change("cut", path)?;
        state
            .contents
            .entry(number)
            .or_default()
            .now
            .resize(size as usize, 0);
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> DiskResult<()> {
        let mut state = self.state();
        state.change("make directory", path)?;
        state.dirs.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, path: &Path, entry: &mut dyn FnMut(&OsStr, Kind)) -> DiskResult<()> {
        let mut found = BTreeMap::new();
        {
            let state = self.state();
            let below = |name: &PathBuf| name.strip_prefix(path).ok().map(Path::to_owned);
            for rest in state.names.keys().filter_map(below) {
                let kind = if rest.components().count() > 1 {
                    Kind::Directory
                } else {
                    Kind::File
                };
                if let Some(first) = rest.components().next() {
                    found.insert(first.as_os_str().to_owned(), kind);
                }
            }
            for rest in state.dirs.iter().filter_map(below) {
                if let Some(first) = rest.components().next() {
                    found.insert(first.as_os_str().to_owned(), Kind::Directory);
                }
            }
            if found.is_empty() && !state.dirs.contains(path) {
                return Err(State::error("list", path, io::ErrorKind::NotFound));
            }
        }
        for (name, kind) in &found {
            entry(name, *kind);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> DiskResult<()> {
        let mut state = self.state();
        state.change("sync", path)?;
        let now: Vec<(PathBuf, u64)> = state
            .names
            .iter()
            .map(|(name, number)| (name.clone(), *number))
            .collect();
        state
            .synced_names
            .retain(|name, _| name.parent() != Some(path));
        state.synced_names.extend(
            now.into_iter()
                .filter(|(name, _)| name.parent() == Some(path)),
        );
        Ok(())
    }

    fn sync_everything(&self) -> DiskResult<()> {
        let mut state = self.state();
        state.change("sync", Path::new("."))?;
        state.synced_names = state.names.clone();
        for content in state.contents.values_mut() {
            content.synced = content.now.clone();
        }
        Ok(())
    }

    fn space(&self) -> DiskResult<DiskSpace> {
        let size = self.state().capacity.unwrap_or(u64::MAX);
        Ok(DiskSpace { free: size, size })
    }
}
