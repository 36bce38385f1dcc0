//! [`Watch`]: the watcher's part, as far as the engine can tell: it looks when it is told where to, and says what it sees.
//!
//! The real one lives on a thread and on the kernel's events; its own tests hold it to what is told here. Files of the
//! simulation come by rename, so none is too young to be read.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    path::{Path, PathBuf},
};

use super::disk::{Notice, SimDisk};
use crate::{
    store::{Digest, Disk as _, DropLimits, Kind, Meta, Read, Sighting},
    task::{
        Area, FileName, Location, QueueName, Source, WallMillis, read_dropped, read_dropped_text,
    },
};

/// What the engine asks of it.
#[derive(Debug)]
pub(super) enum WatchOrder {
    Inspect(Vec<Location>),
    Confirm(u64, Vec<Location>),
    Rescan,
    Again(Vec<PathBuf>),
    TellApart(u64, Location, Source),
    Forget(Source),
}

type Identity = (u64, i128, u64);

pub(super) struct Watch {
    disk: SimDisk,
    limits: DropLimits,
    pub(super) orders: VecDeque<WatchOrder>,
    judged: HashMap<PathBuf, Identity>,
    folders: BTreeSet<QueueName>,
    said: Vec<Sighting>,
    own: Option<bool>,
}

/// The location, if `path` is a canonical name in its folder.
fn location(path: &Path) -> Option<Location> {
    let (queue, name) = split(path)?;
    let name = FileName::parse(name.to_str()?)?;
    let at = Location {
        area: Area::Tasks,
        queue,
        name,
    };
    (at.path() == path).then_some(at)
}

fn split(path: &Path) -> Option<(QueueName, &std::ffi::OsStr)> {
    let inside = path.strip_prefix("tasks").ok()?;
    let name = inside.file_name()?;
    let queue = match inside.parent().and_then(Path::to_str) {
        None | Some("") => QueueName::default(),
        Some(folder) => QueueName::parse(folder).ok()?,
    };
    Some((queue, name))
}

impl Watch {
    pub(super) fn new(disk: SimDisk, limits: DropLimits) -> Self {
        Self {
            disk,
            limits,
            orders: VecDeque::from([WatchOrder::Rescan]),
            judged: HashMap::new(),
            folders: BTreeSet::new(),
            said: Vec::new(),
            own: None,
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.orders.is_empty() || self.disk.has_notice()
    }

    /// Does one thing: a notice if there is one and `notice_first`, else an order.
    pub(super) fn one(&mut self, notice_first: bool, wall: WallMillis) -> Vec<Sighting> {
        let notice = (notice_first || self.orders.is_empty())
            .then(|| self.disk.take_notice())
            .flatten();
        match notice {
            Some(Notice::Arrived(path)) => self.arrived(&path, wall),
            Some(Notice::Left(path)) => self.left(&path, None),
            Some(Notice::Overflow) => self.scan(wall),
            None => match self.orders.pop_front() {
                Some(WatchOrder::Inspect(places)) => {
                    for at in places {
                        self.consider(&at.path(), &at.queue, wall);
                    }
                }
                Some(WatchOrder::Confirm(number, places)) => {
                    for at in places {
                        self.left(&at.path(), Some(number));
                    }
                }
                Some(WatchOrder::Rescan) => self.scan(wall),
                Some(WatchOrder::Again(paths)) => self.again(&paths, wall),
                Some(WatchOrder::TellApart(number, own, source)) => {
                    let there = self.look(&own.path());
                    if there.is_some_and(|meta| meta.inode == source.inode) {
                        self.judged.remove(&source.path);
                    } else {
                        if there.is_none() {
                            self.said.push(Sighting::Gone {
                                places: vec![own],
                                asked: Some(number),
                            });
                        }
                        self.own = Some(there.is_some());
                        self.again(&[source.path], wall);
                        self.own = None;
                    }
                }
                Some(WatchOrder::Forget(source)) => {
                    let identity = (source.inode, source.modified, source.size);
                    if self.judged.get(&source.path) == Some(&identity) {
                        self.judged.remove(&source.path);
                    }
                }
                None => {}
            },
        }
        std::mem::take(&mut self.said)
    }

    fn again(&mut self, paths: &[PathBuf], wall: WallMillis) {
        for path in paths {
            self.judged.remove(path);
            if let Some((queue, _)) = split(path) {
                self.consider(path, &queue, wall);
            }
        }
        self.said.push(Sighting::LookedAgain);
    }

    fn look(&mut self, path: &Path) -> Option<Meta> {
        match self.disk.look(path) {
            Ok(meta) => Some(meta),
            Err(error) if error.is_missing() => {
                self.judged.remove(path);
                None
            }
            Err(error) => {
                self.said.push(Sighting::Trouble(error.to_string()));
                None
            }
        }
    }

    fn arrived(&mut self, path: &Path, wall: WallMillis) {
        let Some(meta) = self.look(path) else { return };
        if meta.kind == Kind::Directory {
            return self.folder(path, wall);
        }
        match (location(path), split(path)) {
            (Some(at), _) => self.said.push(Sighting::Seen(vec![at])),
            (None, Some((queue, _))) => self.consider(path, &queue, wall),
            (None, None) => {}
        }
    }

    fn left(&mut self, path: &Path, asked: Option<u64>) {
        let before = self.said.len();
        let gone = self.look(path).is_none() && self.said.len() == before;
        if let Some(at) = location(path).filter(|_| gone) {
            self.said.push(Sighting::Gone {
                places: vec![at],
                asked,
            });
        }
    }

    fn consider(&mut self, path: &Path, queue: &QueueName, wall: WallMillis) {
        let Some(meta) = self.look(path) else { return };
        if meta.kind != Kind::File {
            return;
        }
        let identity = (meta.inode, meta.modified, meta.size);
        if self.judged.get(path) == Some(&identity) {
            return;
        }
        let name = path
            .file_name()
            .and_then(std::ffi::OsStr::to_str)
            .unwrap_or_default();
        let bytes = match self.disk.read(path, self.limits.max_file) {
            Ok(Read::Whole(_, bytes)) => bytes,
            Ok(_) => return,
            Err(error) => return self.said.push(Sighting::Trouble(error.to_string())),
        };
        let most = self.limits.payloads;
        let read = if path.extension().is_some_and(|end| end == "txt") {
            read_dropped_text(&bytes, queue, most)
        } else {
            read_dropped(&bytes, queue, FileName::parse(name), wall, most)
        };
        self.judged.insert(path.to_owned(), identity);
        let (inode, modified, size) = identity;
        let source = Source {
            path: path.to_owned(),
            inode,
            modified,
            size,
        };
        self.said.push(match read {
            Ok(task) => Sighting::Drop {
                source,
                own: self.own,
                born: None,
                content: Digest::of(&bytes),
                task,
            },
            Err(refusal) => Sighting::Malformed {
                source,
                reason: refusal.to_string(),
            },
        });
    }

    fn folder(&mut self, path: &Path, wall: WallMillis) {
        let Some((_, name)) = split(path) else { return };
        let queue = name.to_str().and_then(|name| QueueName::parse(name).ok());
        let Some(queue) = queue.filter(|queue| !queue.is_default()) else {
            return;
        };
        if self.folders.insert(queue.clone()) {
            self.said.push(Sighting::Folder(queue.clone()));
        }
        self.list(path, queue, wall);
    }

    fn scan(&mut self, wall: WallMillis) {
        let folders = self.list(Path::new("tasks"), QueueName::default(), wall);
        for folder in folders {
            self.folder(&folder, wall);
        }
    }

    fn list(&mut self, path: &Path, queue: QueueName, wall: WallMillis) -> Vec<PathBuf> {
        let mut names = Vec::new();
        let listed = self.disk.list(path, &mut |name, kind| {
            if !name.as_encoded_bytes().starts_with(b".") {
                names.push((path.join(name), kind));
            }
        });
        if let Err(error) = listed {
            self.said.push(Sighting::Trouble(error.to_string()));
            return Vec::new();
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut folders, mut seen, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for (path, kind) in names {
            match (kind, location(&path)) {
                (Kind::Directory, _) => folders.push(path),
                (_, Some(at)) => {
                    ids.push(at.name.id);
                    seen.push(at);
                }
                (_, None) => self.consider(&path, &queue, wall),
            }
        }
        if !seen.is_empty() {
            self.said.push(Sighting::Seen(seen));
        }
        let ids = ids.into_iter().collect();
        let home = queue.is_default().then(|| self.disk.directory(path));
        let mark = home.and_then(Result::ok).map(|home| home.mark());
        self.said.push(Sighting::Scanned {
            queue,
            ids,
            anew: false,
            mark,
        });
        folders
    }
}
