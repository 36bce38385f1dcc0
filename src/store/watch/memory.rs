//! What the watcher remembers: which files it has reported, and which are too young to be read.
//!
//! Both hold at most one entry for each file that is there. This module may not know: the disk, or what time it is.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{store::Meta, task::Source};

/// By what a file is known again: another file, or the same one written again, differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    inode: u64,
    modified: i128,
    size: u64,
}

impl Identity {
    pub(super) const fn of(meta: &Meta) -> Self {
        Self {
            inode: meta.inode,
            modified: meta.modified,
            size: meta.size,
        }
    }

    pub(super) fn source(self, path: &Path) -> Source {
        Source {
            path: path.to_owned(),
            inode: self.inode,
            modified: self.modified,
            size: self.size,
        }
    }
}

/// What was reported about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// A file that was read, or need not be read to be wrong.
    Judged(Identity),
    /// Something with this inode that is left alone.
    Irregular(u64),
}

#[derive(Debug)]
struct Entry {
    report: Report,
    /// The last scan that saw the path.
    scan: u64,
}

impl Entry {
    const fn is_irregular(&self) -> bool {
        matches!(self.report, Report::Irregular(_))
    }
}

/// What was reported, by path, until it is gone: nothing is reported twice.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: HashMap<PathBuf, Entry>,
    scan: u64,
    /// Paths that were left alone and are not any more.
    freed: Vec<PathBuf>,
}

impl Memory {
    /// Whether this was reported about the path. That the path is there is noted for the scan that runs.
    pub(super) fn knows(&mut self, path: &Path, report: Report) -> bool {
        self.touch(path);
        self.entries
            .get(path)
            .is_some_and(|entry| entry.report == report)
    }

    /// Whether the path was reported as something that is left alone.
    pub(super) fn is_irregular(&self, path: &Path) -> bool {
        let report = self.entries.get(path).map(|entry| entry.report);
        matches!(report, Some(Report::Irregular(_)))
    }

    /// Notes what is reported about the path.
    pub(super) fn note(&mut self, path: &Path, report: Report) {
        let scan = self.scan;
        let before = self.entries.insert(path.to_owned(), Entry { report, scan });
        if matches!(report, Report::Judged(_)) {
            self.free(path, before);
        } else {
            self.freed.retain(|freed| freed != path);
        }
    }

    /// What was left alone and is gone since this was asked last, or has become a file to be judged.
    pub(super) fn take_freed(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.freed)
    }

    fn free(&mut self, path: &Path, entry: Option<Entry>) {
        if entry.is_some_and(|entry| entry.is_irregular()) {
            self.freed.push(path.to_owned());
        }
    }

    /// Lets go of the entries that are not wanted.
    fn keep(&mut self, is_wanted: impl Fn(&Path, &Entry) -> bool) {
        let freed = &mut self.freed;
        self.entries.retain(|path, entry| {
            let wanted = is_wanted(path, entry);
            if !wanted && entry.is_irregular() {
                freed.push(path.clone());
            }
            wanted
        });
    }

    /// The path is there: the scan that runs has seen it.
    pub(super) fn touch(&mut self, path: &Path) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.scan = self.scan;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The path is gone: what comes there next is new.
    pub(super) fn forget(&mut self, path: &Path) {
        let before = self.entries.remove(path);
        self.free(path, before);
    }

    /// What was reported about this file is forgotten, should it still be the same.
    pub(super) fn forget_file(&mut self, source: &Source) {
        let of = Identity {
            inode: source.inode,
            modified: source.modified,
            size: source.size,
        };
        let report = self.entries.get(&source.path).map(|entry| entry.report);
        if report == Some(Report::Judged(of)) {
            self.entries.remove(&source.path);
        }
    }

    /// A folder is gone, with all that was in it.
    pub(super) fn forget_below(&mut self, folder: &Path) {
        self.keep(|path, _| !path.starts_with(folder));
    }

    /// A scan of everything begins.
    pub(super) fn begin_scan(&mut self) {
        self.scan += 1;
    }

    /// The scan of everything has ended: what it has not seen is gone.
    pub(super) fn end_scan(&mut self) {
        let scan = self.scan;
        self.keep(|_, entry| entry.scan == scan);
    }
}

/// Files that a scan found so young that they may still be written: each is looked at again, once, when it has settled.
///
/// All wait equally long, so they come due in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Settling {
    waiting: HashSet<PathBuf>,
    order: VecDeque<(Instant, PathBuf, Identity)>,
}

impl Settling {
    /// Looks at the path again at `due`; a path that waits already keeps its place.
    pub(super) fn wait(&mut self, path: &Path, identity: Identity, due: Instant) {
        if self.waiting.insert(path.to_owned()) {
            self.order.push_back((due, path.to_owned(), identity));
        }
    }

    /// An event has settled the matter.
    pub(super) fn cancel(&mut self, path: &Path) {
        self.waiting.remove(path);
        if self.waiting.is_empty() {
            self.order.clear();
        }
    }

    /// When the next path comes due; `None`: nothing waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.order.front().map(|(due, ..)| *due)
    }

    /// A path that is due, with what it was when it began to wait.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(PathBuf, Identity)> {
        while self.next_due().is_some_and(|due| due <= now) {
            let (_, path, identity) = self.order.pop_front()?;
            if self.waiting.remove(&path) {
                return Some((path, identity));
            }
        }
        None
    }
}
