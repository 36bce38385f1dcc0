//! What the watcher does about one path: looks what is there now, and reports it unless it was reported.
//!
//! This module may not know: why its attention was drawn to the path, beyond [`Origin`].

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Digest, Sighting,
    memory::{Identity, Report},
    place::{Form, Place, form, is_hidden, is_unfinished, location, place, queue_of},
    watching::{Heard, Watching, instant},
};
use crate::{
    store::{
        Disk, DiskError, Kind, Meta, Read,
        spool::{is_absent, is_forbidden},
    },
    task::{
        FileName, Location, NewTask, QueueName, Source, read_dropped, read_dropped_text, shown_text,
    },
};

/// How long a file that no event told whole must have been left alone before it is read.
const SETTLE: Duration = Duration::from_secs(2);
/// How many canonical files that an event told whole are remembered until the engine asks for them.
const MAX_WHOLE: usize = 1 << 16;

/// What drew attention to a file: it decides whether the file may still be being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// An event that says it is whole.
    Event,
    /// The scan at the start: nothing tells, and what is there is taken.
    FirstScan,
    /// A later scan.
    Scan,
    /// The engine, about a canonical name that is not its own.
    Inspection,
    /// It was too young before, and has not changed since.
    Settled,
}

/// What a look at a path found.
#[derive(Debug)]
pub(super) enum Found {
    /// This.
    There(Meta),
    /// Nothing.
    Absent,
    /// The disk did not say; that was told.
    Unknown,
}

/// What came of reading a file.
enum Judgement {
    Task(NewTask, Meta, Digest),
    Malformed(String),
    Irregular(String),
    /// It was written or replaced between the look and the reading.
    Changed,
    Failed(DiskError),
}

impl<D: Disk> Watching<D> {
    /// Something is whole at this path.
    pub(super) fn arrived(&mut self, path: &Path) -> Heard {
        let (queue, name) = match place(path) {
            Place::Root => return self.root_arrived(),
            Place::Entry(name) => (QueueName::default(), name),
            Place::Inside { folder, name } => match queue_of(folder) {
                Some(queue) => (queue, name),
                None => return Ok(()),
            },
            Place::Elsewhere => return Ok(()),
        };
        if is_hidden(name) {
            return Ok(());
        }
        let Found::There(meta) = self.look(path)? else {
            return Ok(());
        };
        if meta.kind == Kind::Directory && matches!(place(path), Place::Entry(_)) {
            // Moved in, with all that is in it: that is as whole as a file that is moved in.
            return self.folder_arrived(name, Origin::Event).map(|_| ());
        }
        if is_unfinished(name) {
            return Ok(());
        }
        self.settling.cancel(path);
        match location(path) {
            Some(at) if matches!(meta.kind, Kind::File | Kind::HardLink) => {
                if self.whole.len() >= MAX_WHOLE {
                    self.whole.clear();
                }
                self.whole.insert(path.to_owned());
                self.saw(at)
            }
            _ => self.consider(path, &queue, Origin::Event),
        }
    }

    /// A folder was made at this path: what its files are worth is told by their own events, from now on.
    pub(super) fn folder_made(&mut self, path: &Path) -> Heard {
        match place(path) {
            Place::Root => self.root_arrived(),
            Place::Entry(name) if !is_hidden(name) => match self.look(path)? {
                Found::There(meta) if meta.kind == Kind::Directory => {
                    self.folder_arrived(name, Origin::Scan).map(|_| ())
                }
                _ => Ok(()),
            },
            _ => self.arrived(path),
        }
    }

    /// Something was made at this path. A file that is made is not whole yet; other things are what they will be.
    pub(super) fn created(&mut self, path: &Path) -> Heard {
        let name = path.file_name().unwrap_or_default();
        let file_place = matches!(place(path), Place::Entry(_) | Place::Inside { .. });
        if !file_place || is_unfinished(name) {
            return Ok(());
        }
        match self.look(path)? {
            Found::There(meta) if !matches!(meta.kind, Kind::File | Kind::Directory) => {
                self.irregular(path, meta.inode, meta.kind.what())
            }
            _ => Ok(()),
        }
    }

    /// Owner or mode changed: something that was left alone may be fine now.
    pub(super) fn touched(&mut self, path: &Path) -> Heard {
        if !self.memory.is_irregular(path) {
            return Ok(());
        }
        self.memory.forget(path);
        self.arrived(path)
    }

    /// Something left this path, perhaps a while ago.
    pub(super) fn left(&mut self, path: &Path) -> Heard {
        let found = self.look(path)?;
        match place(path) {
            Place::Root => return self.root_left(&found),
            Place::Elsewhere => return Ok(()),
            Place::Entry(name) => {
                let queue = queue_of(name).filter(|queue| self.folders.contains_key(queue));
                if let Some(queue) = queue {
                    // The kernel may have dropped our watch with the folder that was there.
                    return match found {
                        Found::There(meta) if meta.kind == Kind::Directory => {
                            self.folder_arrived(name, Origin::Scan).map(|_| ())
                        }
                        Found::Unknown => Ok(()),
                        Found::There(_) | Found::Absent => self.folder_left(&queue),
                    };
                }
            }
            Place::Inside { .. } => {}
        }
        match location(path) {
            Some(at) if matches!(found, Found::Absent) => self.absent(at),
            _ => Ok(()),
        }
    }

    /// A canonical file is not in its place.
    fn absent(&mut self, at: Location) -> Heard {
        if self.is_elsewhere(&at.queue)? {
            // Because the directory is another one, or none: a scan tells so.
            self.ask_for_scan();
            return Ok(());
        }
        self.missed(at)
    }

    /// The engine was told of a file with the id of a task that is there: is it another one than the task's own?
    pub(super) fn tell_apart(&mut self, own: Location, source: &Source) -> Heard {
        let there = match self.look(&own.path())? {
            Found::There(meta) if meta.is(source) => {
                // It was elsewhere for a moment.
                self.memory.forget(&source.path);
                return Ok(());
            }
            // A scan looks at both, when looks succeed again.
            Found::Unknown => {
                self.memory.forget(&source.path);
                return Ok(());
            }
            Found::There(_) => true,
            Found::Absent => {
                self.absent(own)?;
                false
            }
        };
        self.own = Some(there);
        let told = self.look_again(&source.path);
        self.own = None;
        told
    }

    /// The engine can make use of these files now, which it could not when they were reported.
    pub(super) fn again(&mut self, paths: &[PathBuf]) -> Heard {
        for path in paths {
            self.look_again(path)?;
        }
        self.tell(Sighting::LookedAgain)
    }

    /// Looks at a file anew, whatever was reported about it.
    fn look_again(&mut self, path: &Path) -> Heard {
        let origin = match self.look(path)? {
            Found::There(meta) => {
                let same = Report::Judged(Identity::of(&meta));
                if self.memory.knows(path, same) {
                    Origin::Settled
                } else {
                    Origin::Scan
                }
            }
            Found::Absent => {
                // Should it come back, it is news, whatever was told of it.
                self.memory.forget(path);
                return Ok(());
            }
            Found::Unknown => return Ok(()),
        };
        self.memory.forget(path);
        self.consider(path, &queue_at(path), origin)
    }

    /// The engine says that this canonical file is not its own.
    pub(super) fn inspect(&mut self, at: &Location) -> Heard {
        let path = at.path();
        let origin = if self.whole.remove(&path) {
            Origin::Event
        } else {
            Origin::Inspection
        };
        self.consider(&path, &at.queue, origin)
    }

    /// A file that was too young has had its time.
    pub(super) fn settled(&mut self, path: &Path, before: Identity) -> Heard {
        let queue = queue_at(path);
        let Found::There(meta) = self.look(path)? else {
            return Ok(());
        };
        let now = Identity::of(&meta);
        if now == before {
            self.consider(path, &queue, Origin::Settled)
        } else {
            self.settling.wait(path, now, instant() + SETTLE);
            Ok(())
        }
    }

    /// Reports the file at a path as a drop, or why it is none, unless that was reported already.
    pub(super) fn consider(&mut self, path: &Path, queue: &QueueName, origin: Origin) -> Heard {
        let Found::There(meta) = self.look(path)? else {
            return Ok(());
        };
        if meta.kind != Kind::File {
            return self.irregular(path, meta.inode, meta.kind.what());
        }
        let identity = Identity::of(&meta);
        if self.memory.knows(path, Report::Judged(identity)) {
            return Ok(());
        }
        if self.is_too_young(&meta, origin) {
            self.settling.wait(path, identity, instant() + SETTLE);
            return Ok(());
        }
        match self.judge(path, queue, identity) {
            Judgement::Task(task, meta, content) => {
                let identity = Identity::of(&meta);
                self.memory.note(path, Report::Judged(identity));
                let (source, born) = (identity.source(path), meta.born);
                let own = self.own;
                self.tell(Sighting::Drop {
                    source,
                    born,
                    content,
                    task,
                    own,
                })
            }
            Judgement::Malformed(reason) => {
                self.memory.note(path, Report::Judged(identity));
                let (source, reason) = (identity.source(path), shown_text(&reason));
                self.tell(Sighting::Malformed { source, reason })
            }
            Judgement::Irregular(reason) => self.irregular(path, meta.inode, &reason),
            Judgement::Changed => {
                self.settling.wait(path, identity, instant() + SETTLE);
                Ok(())
            }
            Judgement::Failed(error) if is_absent(&error) => {
                self.memory.forget(path);
                Ok(())
            }
            Judgement::Failed(error) => self.failed(&error),
        }
    }

    fn is_too_young(&self, meta: &Meta, origin: Origin) -> bool {
        let before_start = meta.modified <= i128::from(self.started.0) * 1_000_000;
        match origin {
            Origin::Event | Origin::FirstScan | Origin::Settled => return false,
            Origin::Inspection if before_start => return false,
            Origin::Inspection | Origin::Scan => {}
        }
        // A time well in the future is some other clock's, and does not say that it is being written.
        let now = i128::from((self.setup.now_wall)().0) * 1_000_000;
        (now - meta.modified).unsigned_abs() < SETTLE.as_nanos()
    }

    fn judge(&self, path: &Path, queue: &QueueName, looked: Identity) -> Judgement {
        let name = path.file_name().unwrap_or_default();
        let form = form(name);
        if form == Form::Unknown {
            return Judgement::Malformed("its name ends in neither .json nor .txt".to_owned());
        }
        let limits = self.setup.settings.limits.get();
        let (meta, bytes) = match self.setup.disk.read(path, limits.max_file) {
            Ok(Read::Whole(meta, bytes)) => (meta, bytes),
            Ok(Read::Irregular(kind)) => return Judgement::Irregular(kind.what().to_owned()),
            Ok(Read::Changed) => return Judgement::Changed,
            Ok(Read::TooLarge(meta)) => {
                let (size, limit) = (meta.size, limits.max_file);
                return Judgement::Malformed(format!("{size} bytes, the limit is {limit}"));
            }
            Err(error) if is_forbidden(&error) => {
                return Judgement::Irregular("no permission to read it".to_owned());
            }
            Err(error) => return Judgement::Failed(error),
        };
        if Identity::of(&meta) != looked {
            return Judgement::Changed;
        }
        let read = if form == Form::Text {
            read_dropped_text(&bytes, queue, limits.payloads)
        } else {
            let name = name.to_str().and_then(FileName::parse);
            read_dropped(
                &bytes,
                queue,
                name,
                (self.setup.now_wall)(),
                limits.payloads,
            )
        };
        match read {
            Ok(task) => Judgement::Task(task, meta, Digest::of(&bytes)),
            Err(refusal) => Judgement::Malformed(refusal.to_string()),
        }
    }

    /// Reports something that is left alone, once.
    pub(super) fn irregular(&mut self, path: &Path, inode: u64, reason: &str) -> Heard {
        let report = Report::Irregular(inode);
        if self.memory.knows(path, report) {
            return Ok(());
        }
        self.memory.note(path, report);
        let (path, reason) = (path.to_owned(), reason.to_owned());
        self.tell(Sighting::Irregular { path, reason })
    }

    /// Nothing is at the path any more: what was known about it is of no use.
    pub(super) fn forget(&mut self, path: &Path) {
        self.memory.forget(path);
        self.settling.cancel(path);
        self.whole.remove(path);
    }

    /// What is at the path now. Where nothing is, what was known about it is forgotten.
    pub(super) fn look(&mut self, path: &Path) -> Heard<Found> {
        match self.setup.disk.look(path) {
            Ok(meta) => Ok(Found::There(meta)),
            Err(error) if is_absent(&error) => {
                self.forget(path);
                Ok(Found::Absent)
            }
            Err(error) => {
                self.failed(&error)?;
                Ok(Found::Unknown)
            }
        }
    }
}

/// The queue that a file at a path belongs to.
fn queue_at(path: &Path) -> QueueName {
    match place(path) {
        Place::Inside { folder, .. } => queue_of(folder).unwrap_or_default(),
        _ => QueueName::default(),
    }
}

/// Whether a name in a folder is to be passed over.
pub(super) fn is_left_alone(name: &OsStr) -> bool {
    is_hidden(name) || is_unfinished(name)
}
