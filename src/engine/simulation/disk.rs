//! [`SimDisk`]: a disk in memory that does what a real one may do at the worst moment.
//!
//! What is modelled, and where it is from:
//!
//! * A write goes to the page cache. A sync of the file makes all writes before it durable (`fdatasync(2)`); until then a
//!   power cut keeps any of them, in part: a prefix to any byte, or any set of 512-byte sectors. A file may have its new
//!   length and zeros for content.
//! * Directory entries are no part of the file. Making, renaming and removing a name is kept or lost by a power cut, each
//!   independently of the others and of every file's content, until the directory is synced (POSIX promises no more; ext4,
//!   xfs and btrfs mostly keep them in order, which is one of the outcomes drawn here). One rename within one directory is
//!   atomic: the old name or the new one, never both or none. So is one between two directories, as all three do it.
//! * A failed sync leaves the page cache as it is and marks it clean: what could not be written is never written again, and
//!   the next sync says yes (`fsync(2)` on ext4 and xfs since Linux 4.13).
//! * `syncfs` makes everything durable, names included.
//! * When the program is killed the page cache stays.
//! * Any operation may fail with EIO, each that changes something also with ENOSPC; a capacity makes ENOSPC by itself.
//! * It lies about nothing that was synced.
//!
//! Not modelled: a whole operation is one step (a real `syncfs` runs beside others), and links, modes and owners.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    chance::Chance,
    nodes::{Change, Dir, File, Node, ROOT},
};
use crate::{
    store::{DirId, Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read},
    task::DiskSpace,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What the kernel would tell a watcher of the task directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// A whole file, or a folder, is at this path.
    Arrived(PathBuf),
    /// Something left this path.
    Left(PathBuf),
    /// Notices were lost.
    Overflow,
}

/// What an operation is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Reads,
    Changes,
}

/// An operation that is to fail.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// Operations before it.
    left: u64,
    errno: i32,
    /// The first sync then, and no other operation.
    in_a_sync: bool,
}

pub(super) struct State {
    pub(super) nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Numbers changes of directories, so that a rename across two is one.
    moment: u64,
    pub(super) wall_ms: i64,
    /// Operations that change something, so far.
    changes: u64,
    stop_at: Option<u64>,
    stopped: bool,
    trouble: Option<Trouble>,
    troubles: u64,
    capacity: Option<u64>,
    pub(super) chance: Chance,
    notices: Vec<Notice>,
}

/// See the [module](self). A clone is the same disk.
#[derive(Clone)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        let root = Node::Dir(Dir::default());
        Self(Arc::new(Mutex::new(State {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            moment: 0,
            wall_ms: 0,
            changes: 0,
            stop_at: None,
            stopped: false,
            trouble: None,
            troubles: 0,
            capacity: None,
            chance: Chance::new(seed, 1),
            notices: Vec::new(),
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_wall(&self, wall_ms: i64) {
        self.state().wall_ms = wall_ms;
    }

    /// Bytes that all files together may have; `None`: any.
    pub(super) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes that all files together have.
    pub(super) fn used(&self) -> u64 {
        self.state().used()
    }

    /// The machine, or the program, stops at the change after `more` further ones.
    pub(super) fn stop_after(&self, more: Option<u64>) {
        let mut state = self.state();
        state.stop_at = more.map(|more| state.changes + more);
    }

    /// Whether it has stopped: nothing more can be done to it.
    pub(super) fn stopped(&self) -> bool {
        self.state().stopped
    }

    /// How many changes were asked for.
    pub(super) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// The operation after `more` further ones fails, once, or the first sync then: with "no space" if `full` and it is one
    /// that changes something.
    pub(super) fn trouble_after(&self, more: u64, full: bool, in_a_sync: bool) {
        self.state().trouble = Some(Trouble {
            left: more,
            errno: if full { ENOSPC } else { EIO },
            in_a_sync,
        });
    }

    /// How many operations failed because they were told to; and none will any more.
    pub(super) fn end_trouble(&self) -> u64 {
        let mut state = self.state();
        state.trouble = None;
        std::mem::take(&mut state.troubles)
    }

    /// The program was killed: what it did stays in the page cache.
    pub(super) fn kill(&self) {
        self.state().begin_again();
    }

    /// The power was cut: what was not synced is kept or lost as chance has it.
    pub(super) fn cut_power(&self) {
        let mut state = self.state();
        state.lose_what_is_not_synced();
        state.begin_again();
    }

    /// Takes what the kernel would have told since this was last asked.
    pub(super) fn take_notice(&self) -> Option<Notice> {
        let notices = &mut self.state().notices;
        (!notices.is_empty()).then(|| notices.remove(0))
    }

    pub(super) fn has_notice(&self) -> bool {
        !self.state().notices.is_empty()
    }

    pub(super) fn lose_notices(&self) {
        let notices = &mut self.state().notices;
        if !notices.is_empty() {
            notices.clear();
            notices.push(Notice::Overflow);
        }
    }

    /// Another program puts a whole file here, by a rename.
    pub(super) fn put_by_hand(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let Some(dir) = state.dir_of(path) else {
            return;
        };
        let name = path.file_name().unwrap_or_default().to_owned();
        let mut file = File::new(state.wall_ms);
        file.write(bytes, 0);
        // Who drops a file with care syncs it before the rename; its name is as durable as any.
        file.sync();
        let number = state.add(Node::File(file));
        state.change(dir, Change::Add(name, number));
        state.tell(Notice::Arrived(path.to_owned()));
    }

    /// Another program removes a file. Gives whether it was there.
    pub(super) fn remove_by_hand(&self, path: &Path) -> bool {
        self.state().remove(path).is_ok()
    }

    /// A byte of a file changes where it lies, as no disk should let it; a second time, it is right again.
    pub(super) fn rot(&self, path: &Path, at: usize) -> bool {
        let mut state = self.state();
        let Ok(number) = state.number("rot", path) else {
            return false;
        };
        state.file(number).is_some_and(|file| file.rot(at))
    }

    /// All files below `top`, with their bytes.
    pub(super) fn files(&self, top: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let state = self.state();
        if let Ok(number) = state.number("look at", Path::new(top)) {
            state.walk(number, Path::new(top), &mut found);
        }
        found
    }
}

impl State {
    fn begin_again(&mut self) {
        self.stopped = false;
        self.stop_at = None;
        self.trouble = None;
        self.notices.clear();
    }

    fn tell(&mut self, notice: Notice) {
        let (Notice::Arrived(path) | Notice::Left(path)) = &notice else {
            return;
        };
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.starts_with("tasks") && !hidden {
            self.notices.push(notice);
        }
    }

    /// Counts an operation, and fails it if it is to fail.
    fn operation(&mut self, operation: &'static str, path: &Path, sort: Sort) -> DiskResult<()> {
        let stopped = || {
            let cause = io::Error::other("the machine has stopped");
            Err(DiskError::new(operation, path, cause))
        };
        if self.stopped {
            return stopped();
        }
        if sort == Sort::Changes {
            if self.stop_at == Some(self.changes) {
                self.stopped = true;
                return stopped();
            }
            self.changes += 1;
        }
        let Some(trouble) = &mut self.trouble else {
            return Ok(());
        };
        if trouble.left > 0 {
            trouble.left -= 1;
            return Ok(());
        }
        if trouble.in_a_sync && operation != "sync" {
            return Ok(());
        }
        let errno = if sort == Sort::Reads {
            EIO
        } else {
            trouble.errno
        };
        self.trouble = None;
        self.troubles += 1;
        Err(Self::error(operation, path, errno))
    }

    fn error(operation: &'static str, path: &Path, errno: i32) -> DiskError {
        DiskError::new(operation, path, io::Error::from_raw_os_error(errno))
    }

    fn kind(operation: &'static str, path: &Path, kind: io::ErrorKind) -> DiskError {
        DiskError::new(operation, path, io::Error::from(kind))
    }

    fn number(&self, operation: &'static str, path: &Path) -> DiskResult<u64> {
        let mut number = ROOT;
        for part in path.components() {
            let std::path::Component::Normal(name) = part else {
                continue;
            };
            let found = match self.nodes.get(&number) {
                Some(Node::Dir(dir)) => dir.now.get(name).copied(),
                _ => None,
            };
            number = found.ok_or_else(|| Self::kind(operation, path, io::ErrorKind::NotFound))?;
        }
        Ok(number)
    }

    fn dir_of(&self, path: &Path) -> Option<u64> {
        let parent = path.parent()?;
        let number = self.number("look at", parent).ok()?;
        matches!(self.nodes.get(&number), Some(Node::Dir(_))).then_some(number)
    }

    fn parent(&self, operation: &'static str, path: &Path) -> DiskResult<u64> {
        self.dir_of(path)
            .ok_or_else(|| Self::kind(operation, path, io::ErrorKind::NotFound))
    }

    pub(super) fn file(&mut self, number: u64) -> Option<&mut File> {
        match self.nodes.get_mut(&number) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn add(&mut self, node: Node) -> u64 {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        number
    }

    fn change(&mut self, dir: u64, change: Change) {
        self.moment += 1;
        self.change_also(dir, change);
    }

    fn change_also(&mut self, dir: u64, change: Change) {
        let moment = self.moment;
        if let Some(Node::Dir(dir)) = self.nodes.get_mut(&dir) {
            dir.change(moment, change);
        }
    }

    fn used(&self) -> u64 {
        let mut sum = 0;
        let mut dirs = vec![ROOT];
        while let Some(Node::Dir(dir)) = dirs.pop().and_then(|number| self.nodes.get(&number)) {
            for number in dir.now.values() {
                match self.nodes.get(number) {
                    Some(Node::File(file)) => sum += file.now.len() as u64,
                    Some(Node::Dir(_)) => dirs.push(*number),
                    None => {}
                }
            }
        }
        sum
    }

    fn has_room(&self, operation: &'static str, path: &Path, bytes: u64) -> DiskResult<()> {
        let full = self
            .capacity
            .is_some_and(|capacity| self.used() + bytes > capacity);
        if full {
            Err(Self::error(operation, path, ENOSPC))
        } else {
            Ok(())
        }
    }

    fn make(&mut self, path: &Path, bytes: usize) -> DiskResult<u64> {
        let dir = self.parent("create", path)?;
        if self.number("create", path).is_ok() {
            return Err(Self::kind("create", path, io::ErrorKind::AlreadyExists));
        }
        self.operation("create", path, Sort::Changes)?;
        self.has_room("create", path, bytes as u64)?;
        let number = self.add(Node::File(File::new(self.wall_ms)));
        let name = path.file_name().unwrap_or_default().to_owned();
        self.change(dir, Change::Add(name, number));
        Ok(number)
    }

    fn remove(&mut self, path: &Path) -> DiskResult<()> {
        let dir = self.parent("remove", path)?;
        self.number("remove", path)?;
        let name = path.file_name().unwrap_or_default().to_owned();
        self.change(dir, Change::Remove(name));
        self.tell(Notice::Left(path.to_owned()));
        Ok(())
    }

    fn walk(&self, number: u64, path: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        match self.nodes.get(&number) {
            Some(Node::File(file)) => {
                found.insert(path.to_owned(), file.now.clone());
            }
            Some(Node::Dir(dir)) => {
                for (name, number) in &dir.now {
                    self.walk(*number, &path.join(name), found);
                }
            }
            None => {}
        }
    }
}

/// An open file of a [`SimDisk`].
pub(super) struct SimFile {
    disk: SimDisk,
    number: u64,
    path: PathBuf,
}

impl SimFile {
    fn gone(&self) -> DiskError {
        State::kind("use", &self.path, io::ErrorKind::NotFound)
    }
}

impl DiskFile for SimFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> DiskResult<()> {
        let mut state = self.disk.state();
        let done = state.operation("write", &self.path, Sort::Changes);
        if done.is_err() {
            // Stopped, or failed, in the middle of it.
            let part = state.chance.index(bytes.len() + 1);
            if let Some(file) = state.file(self.number) {
                file.write(&bytes[..part], offset as usize);
            }
            return done;
        }
        let wall = state.wall_ms;
        let file = state.file(self.number).ok_or_else(|| self.gone())?;
        file.write(bytes, offset as usize);
        file.modified_ms = wall;
        Ok(())
    }

    fn sync(&mut self) -> DiskResult<()> {
        let mut state = self.disk.state();
        let done = state.operation("sync", &self.path, Sort::Changes);
        if state.stopped {
            return done;
        }
        let mut chance = state.chance.clone();
        let file = state.file(self.number).ok_or_else(|| self.gone())?;
        if done.is_ok() {
            file.sync();
        } else {
            file.fail_sync(&mut chance);
            state.chance = chance;
        }
        done
    }

    fn read_at(&self, offset: u64, limit: usize) -> DiskResult<Vec<u8>> {
        let mut state = self.disk.state();
        state.operation("read", &self.path, Sort::Reads)?;
        let file = state.file(self.number).ok_or_else(|| self.gone())?;
        let from = file.now.len().min(offset as usize);
        let to = file.now.len().min(from.saturating_add(limit));
        Ok(file.now[from..to].to_vec())
    }

    fn size(&self) -> DiskResult<u64> {
        let mut state = self.disk.state();
        state.operation("look at", &self.path, Sort::Reads)?;
        let file = state.file(self.number).ok_or_else(|| self.gone())?;
        Ok(file.now.len() as u64)
    }

    fn read_written(&self) -> DiskResult<Vec<u8>> {
        self.read_at(0, self.size()? as usize)
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&self, path: &Path, size: u64) -> DiskResult<SimFile> {
        let mut state = self.state();
        let number = state.make(path, size as usize)?;
        if let Some(file) = state.file(number) {
            file.resize(size as usize);
        }
        Ok(SimFile {
            disk: self.clone(),
            number,
            path: path.to_owned(),
        })
    }

    fn open(&self, path: &Path) -> DiskResult<SimFile> {
        let mut state = self.state();
        state.operation("open", path, Sort::Reads)?;
        let number = state.number("open", path)?;
        Ok(SimFile {
            disk: self.clone(),
            number,
            path: path.to_owned(),
        })
    }

    fn open_to_write(&self, path: &Path) -> DiskResult<SimFile> {
        self.open(path)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        let mut state = self.state();
        let number = state.make(path, bytes.len())?;
        // A stop between the making and the writing is a file in part: what `make` has counted was the first of two.
        let written = state.operation("write", path, Sort::Changes);
        let part = if written.is_ok() {
            bytes.len()
        } else {
            state.chance.index(bytes.len() + 1)
        };
        if let Some(file) = state.file(number) {
            file.write(&bytes[..part], 0);
        }
        if let Err(error) = written {
            if !state.stopped {
                state.remove(path)?;
            }
            return Err(error);
        }
        state.tell(Notice::Arrived(path.to_owned()));
        Ok(())
    }

    fn write_whole(&self, _aside: &Path, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        let mut state = self.state();
        // Before it has its name nobody sees it: it is there whole, in memory, or not at all.
        let number = state.make(path, bytes.len())?;
        if let Some(file) = state.file(number) {
            file.write(bytes, 0);
        }
        Ok(())
    }

    fn read(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        let meta = self.look(path)?;
        if meta.kind != Kind::File {
            return Ok(Read::Irregular(meta.kind));
        }
        if meta.size > limit {
            return Ok(Read::TooLarge(meta));
        }
        let file = self.open(path)?;
        Ok(Read::Whole(meta, file.read_at(0, meta.size as usize)?))
    }

    fn read_own(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        self.read(path, limit)
    }

    fn holds(&self, path: &Path, bytes: &[u8]) -> bool {
        let mut state = self.state();
        let opened = state.operation("open", path, Sort::Reads);
        let number = opened.and_then(|()| state.number("open", path));
        let file = number.ok().and_then(|number| state.file(number));
        file.is_some_and(|file| file.now == bytes && file.on_disk() == bytes)
    }

    fn look(&self, path: &Path) -> DiskResult<Meta> {
        let mut state = self.state();
        state.operation("look at", path, Sort::Reads)?;
        let inode = state.number("look at", path)?;
        let (kind, size, modified_ms) = match state.nodes.get(&inode) {
            Some(Node::File(file)) => (Kind::File, file.now.len() as u64, file.modified_ms),
            _ => (Kind::Directory, 0, 0),
        };
        Ok(Meta {
            kind,
            inode,
            modified: i128::from(modified_ms) * 1_000_000,
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
        let (source, target) = (state.parent("rename", from)?, state.parent("rename", to)?);
        state.operation("rename", from, Sort::Changes)?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        if source == target {
            let change = Change::Move(name(from), name(to), number);
            state.change(source, change);
        } else {
            state.change(source, Change::Remove(name(from)));
            state.change_also(target, Change::Add(name(to), number));
        }
        state.tell(Notice::Left(from.to_owned()));
        state.tell(Notice::Arrived(to.to_owned()));
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> DiskResult<()> {
        if self.state().number("rename", to).is_ok() {
            return Err(State::kind("rename", from, io::ErrorKind::AlreadyExists));
        }
        self.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> DiskResult<()> {
        let mut state = self.state();
        state.number("remove", path)?;
        state.operation("remove", path, Sort::Changes)?;
        state.remove(path)
    }

    fn truncate(&self, path: &Path, size: u64) -> DiskResult<()> {
        let mut state = self.state();
        let number = state.number("cut", path)?;
        state.operation("cut", path, Sort::Changes)?;
        if let Some(file) = state.file(number) {
            file.resize(size as usize);
        }
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> DiskResult<()> {
        let mut state = self.state();
        if state.number("make directory", path).is_ok() {
            return Ok(());
        }
        let dir = state.parent("make directory", path)?;
        state.operation("make directory", path, Sort::Changes)?;
        state.has_room("make directory", path, 1)?;
        let number = state.add(Node::Dir(Dir::default()));
        let name = path.file_name().unwrap_or_default().to_owned();
        state.change(dir, Change::Add(name, number));
        state.tell(Notice::Arrived(path.to_owned()));
        Ok(())
    }

    fn list(&self, path: &Path, entry: &mut dyn FnMut(&OsStr, Kind)) -> DiskResult<()> {
        let mut found: Vec<(OsString, Kind)> = Vec::new();
        {
            let mut state = self.state();
            state.operation("list", path, Sort::Reads)?;
            let number = state.number("list", path)?;
            let Some(Node::Dir(dir)) = state.nodes.get(&number) else {
                return Err(State::kind("list", path, io::ErrorKind::NotADirectory));
            };
            for (name, number) in &dir.now {
                let kind = match state.nodes.get(number) {
                    Some(Node::Dir(_)) => Kind::Directory,
                    _ => Kind::File,
                };
                found.push((name.clone(), kind));
            }
            // In no order, as the trait says.
            let turn = state.chance.index(found.len().max(1));
            found.rotate_left(turn);
        }
        for (name, kind) in &found {
            entry(name, *kind);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> DiskResult<()> {
        let mut state = self.state();
        let number = state.number("sync", path)?;
        state.operation("sync", path, Sort::Changes)?;
        state.sync_names(number);
        Ok(())
    }

    fn sync_everything(&self) -> DiskResult<()> {
        let mut state = self.state();
        state.operation("sync", Path::new("."), Sort::Changes)?;
        state.sync_all();
        Ok(())
    }

    fn space(&self) -> DiskResult<DiskSpace> {
        let state = self.state();
        let capacity = state.capacity.unwrap_or(1 << 40);
        Ok(DiskSpace {
            free: capacity.saturating_sub(state.used()),
            size: capacity,
        })
    }
}
