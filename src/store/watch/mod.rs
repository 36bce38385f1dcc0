//! Watches the task directory, and tells what it sees: files dropped, files gone, folders, and what is no task.
//!
//! The kernel's events say where to look; a look at the disk says what is so. An event that is lost, late or of another's
//! making does no harm, and a scan of the whole directory finds what events did not tell. Nothing is moved, removed or
//! decided here.
//!
//! This module may not know: which tasks there are, what becomes of a file that it reports, or HTTP.
//!
//! | file | its subject |
//! |---|---|
//! | `events` | from the kernel's events to notices, on `notify`'s thread |
//! | `place` | what a path in the task directory stands for |
//! | `memory` | what was reported already, and what is too young to be read |
//! | `watching` | the thread: waits, looks, reports |
//! | `mounts` | when what is mounted changes |
//! | `arrival`, `scan` | what the thread does about one path, and about a whole folder |

mod arrival;
mod events;
mod memory;
mod mounts;
mod place;
mod scan;
#[cfg(test)]
mod tests;
mod watching;

use std::{
    collections::BTreeSet,
    hash::BuildHasher as _,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::Sender;
use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::task::{DirMark, Location, NewTask, QueueName, Source, TaskId, WallMillis};

use super::{DirId, Disk, LiveDropLimits, OwnSteps, shown};
pub use place::{location, queue_at};
use watching::{Command, Setup};

/// What the watcher saw. Paths are relative to the data directory.
#[derive(Debug)]
pub enum Sighting {
    /// A dropped file, read and understood.
    Drop {
        /// Which file.
        source: Source,
        /// When it was made, in nanoseconds since 1970, where the file system knows that.
        born: Option<i128>,
        /// Of all that stands in it.
        content: Digest,
        /// The task in it.
        task: NewTask,
        /// Whether the own file of the task with this id is in its place, where [`Watcher::tell_apart`] asked.
        own: Option<bool>,
    },
    /// A regular file that is no valid task. It is where it was.
    Malformed {
        /// Which file.
        source: Source,
        /// What is wrong with it, in one line.
        reason: String,
    },
    /// Something that is left alone: no regular file of its own, a folder that can't be a queue, a file that may not be
    /// read. Told once for each path and inode.
    Irregular {
        /// Where it is.
        path: PathBuf,
        /// Why it is left alone, in one line.
        reason: String,
    },
    /// Paths at which what was left alone is not any more.
    Freed(Vec<PathBuf>),
    /// Files with canonical names in their folders, perhaps the daemon's own. At most 1024 at a time.
    Seen(Vec<Location>),
    /// Files with canonical names that were there and are not any more.
    Gone {
        /// Where they were. At most 1024 at a time.
        places: Vec<Location>,
        /// The number of the question that it answers ([`Watcher::confirm`], [`Watcher::tell_apart`]): they were looked for after
        /// that was asked. `None`: nobody asked.
        asked: Option<u64>,
    },
    /// A queue's folder appeared.
    Folder(QueueName),
    /// A scan of a queue's folder has ended, or the folder is gone.
    Scanned {
        /// Whose folder.
        queue: QueueName,
        /// The ids in the canonical names that were there all the while. A file that was written or renamed during the
        /// scan may be missing here: [`Watcher::confirm`] tells what is really gone.
        ids: HashSet<TaskId, FixedState>,
        /// Whether it is another folder than at the scan before: in another task directory, or on another mount. Files that
        /// are not in it may be whole in the former one, moved away or no more mounted: nobody has removed them.
        anew: bool,
        /// Which directory that is, if a directory of its own mount is the queue's, or the queue is the default one.
        mark: Option<DirMark>,
    },
    /// The task directory is another one than at the scan before.
    Replaced {
        /// It has folders of these queues, of each of which a scan has told. Other queues have no files in it.
        folders: BTreeSet<QueueName>,
        /// Which directory it is.
        mark: Option<DirMark>,
    },
    /// What [`Watcher::again`] asked for was looked at.
    LookedAgain,
    /// From now on, the kernel does not tell of all changes, for this reason: only scans see what it hides. `None`: it tells
    /// of all again.
    Deaf(Option<String>),
    /// Events were lost or can't be had, for this reason. What can be done about it by looking is done.
    Trouble(String),
}

/// By what the content of a file is known again. It is never written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Of these bytes. Whoever makes two contents alike has one file taken once; he could as well have written it once.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(FixedState::default().hash_one(bytes))
    }
}

/// The most locations in one sighting.
const BATCH: usize = 1024;

/// Why the task directory can't be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no events for it.
    #[error("can't watch {}: {cause}", shown(path))]
    Events {
        /// The directory.
        path: PathBuf,
        /// Why, and which limit to raise if it is one.
        cause: String,
    },
    /// No thread could be started.
    #[error("can't start the watcher's thread: {0}")]
    Thread(#[source] io::Error),
}

/// What a watcher looks for, and how often.
#[derive(Debug, Clone)]
pub struct WatchSettings {
    /// What a dropped file may be.
    pub limits: LiveDropLimits,
    /// For file systems that hide events. Without it the thread sleeps until something happens, as long as the kernel tells.
    pub rescan_every: Option<Duration>,
    /// Of which task directory a start has read the names: should another one be there by the first scan, that is told.
    pub read: Option<DirId>,
}

/// The handle of the watcher's thread. Dropping it ends the thread and waits for that.
///
/// While the thread waits for its sink, it can't end: a sink that blocks must be unblocked (its receiver dropped, or
/// emptied by another thread) before the handle is dropped.
#[derive(Debug)]
pub struct Watcher {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches the task directory of the data directory `root`, which `disk` is open on, and scans it: what was there
    /// before is reported like what comes later.
    ///
    /// Where the kernel gives no events, scans do without; that is told. Everything is told through `sink`, on the watcher's
    /// thread; when it gives `false`, nobody listens any more and the thread ends. `own` is what the spool does.
    pub fn start<D: Disk>(
        disk: Arc<D>,
        root: &Path,
        watching: WatchSettings,
        own: Arc<OwnSteps>,
        now_wall: impl Fn() -> WallMillis + Send + 'static,
        sink: impl Fn(Sighting) -> bool + Send + 'static,
    ) -> Result<Self, WatchError> {
        let setup = Setup {
            disk,
            settings: watching,
            own,
            now_wall: Box::new(now_wall),
            sink: Box::new(sink),
        };
        let (commands, thread) = watching::start(setup, root)?;
        Ok(Self {
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    /// Scans the whole task directory, now.
    pub fn rescan(&self) {
        self.command(Command::Rescan);
    }

    /// Reads files with canonical names as drops, because they are not the daemon's own: each comes back as
    /// [`Sighting::Drop`], [`Sighting::Malformed`] or [`Sighting::Irregular`], or not at all if it is gone or was reported
    /// before.
    pub fn inspect(&self, places: Vec<Location>) {
        self.command(Command::Inspect(places));
    }

    /// Looks whether these files are there: those that are not come back in [`Sighting::Gone`] with this number.
    pub fn confirm(&self, number: u64, places: Vec<Location>) {
        self.command(Command::Confirm(number, places));
    }

    /// Looks at these files anew, whatever was reported about them: each comes back like one that is inspected, and after the
    /// last of them [`Sighting::LookedAgain`].
    pub fn again(&self, paths: Vec<PathBuf>) {
        self.command(Command::Again(paths));
    }

    /// Looks whether the own file of a task is at `own`, like [`Watcher::confirm`], and then, like [`Watcher::again`], at a file
    /// that has that task's id: unless it is the very one that is at `own`. Which of the two it was comes with the drop.
    pub fn tell_apart(&self, number: u64, own: Location, source: Source) {
        self.command(Command::TellApart(number, Box::new(own), source));
    }

    /// Reports this file again at the next scan, if it is still the same.
    pub fn forget(&self, source: Source) {
        self.command(Command::Forget(source));
    }

    fn command(&self, command: Command) {
        // The thread has ended only if nobody listens to it any more: then nobody waits for an answer either.
        let told = self
            .commands
            .as_ref()
            .map(|commands| commands.send(command));
        debug_assert!(told.is_some(), "only a drop takes the sender");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.commands = None;
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
