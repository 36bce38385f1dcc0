//! What the watcher does about a whole folder: lists it, and reports what is in it.
//!
//! Drops are reported in the order of their names, so that submission order is name order. This module may not know: how
//! one file is read or judged.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    path::Path,
};

use super::{
    Sighting,
    arrival::{Found, Origin, is_left_alone},
    place::{TASKS, is_hidden, queue_of},
    watching::{Heard, Watching},
};
use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::{
    store::{
        DirId, Disk, DiskResult, Kind,
        spool::{is_absent, is_forbidden},
    },
    task::{Area, FileName, Location, QueueName, TaskId},
};

/// What is in a folder, each part in order.
#[derive(Debug, Default)]
struct Listing {
    canonical: Vec<FileName>,
    folders: Vec<OsString>,
    others: Vec<OsString>,
}

/// What is known of the directory at a path.
enum Stands {
    Here(DirId),
    Nowhere,
    /// The look failed, which was told.
    Unknown,
}

impl<D: Disk> Watching<D> {
    /// The scan at the start.
    pub(super) fn scan_first(&mut self) -> Heard {
        self.scan_all(Origin::FirstScan)
    }

    /// A scan of everything.
    pub(super) fn scan_again(&mut self) -> Heard {
        self.scan_all(Origin::Scan)
    }

    /// The task directory is there, anew or again.
    pub(super) fn root_arrived(&mut self) -> Heard {
        self.watch(Path::new(TASKS));
        self.scan_again()
    }

    /// The task directory has left its place.
    pub(super) fn root_left(&mut self, found: &Found) -> Heard {
        if matches!(found, Found::Absent) {
            self.root_is_gone()
        } else {
            Ok(())
        }
    }

    /// Told once. Nothing is said about the files that were in it: whether a directory moved away was a mistake is not
    /// known until there is one again.
    fn root_is_gone(&mut self) -> Heard {
        if std::mem::replace(&mut self.root_gone, true) {
            return Ok(());
        }
        self.trouble("the task directory is gone; it is scanned when there is one again".to_owned())
    }

    fn scan_all(&mut self, origin: Origin) -> Heard {
        let begun = self.begin_scan();
        let top = Path::new(TASKS);
        // Asked before it is listed: should it be replaced in between, the next scan finds another one.
        let now = self.stands(top)?;
        let mut anew = false;
        let complete = match self.list(top, true) {
            Ok(listing) => {
                self.root_gone = false;
                if let Stands::Here(now) = now {
                    let before = self.scanned.replace(now);
                    self.anew = before.is_some_and(|before| before != now);
                }
                let complete = self.report_all(listing, origin)?;
                anew = std::mem::take(&mut self.anew);
                complete
            }
            Err(error) => {
                if is_absent(&error) {
                    self.root_is_gone()?;
                } else {
                    self.failed(&error)?;
                }
                false
            }
        };
        self.end_scan(begun, complete);
        if anew {
            // What was asked of the kernel by path may have gone to the former directory, or with it.
            self.ask_for_scan();
        }
        Ok(())
    }

    /// Reports what is in the task directory and its folders; gives whether all of it could be seen.
    fn report_all(&mut self, mut listing: Listing, origin: Origin) -> Heard<bool> {
        let folders = std::mem::take(&mut listing.folders);
        let top = Path::new(TASKS);
        self.report(top, &QueueName::default(), listing, origin, self.anew)?;
        let there: BTreeSet<QueueName> = folders.iter().filter_map(|name| queue_of(name)).collect();
        let known = self.folders.keys();
        let vanished: Vec<QueueName> = known
            .filter(|queue| !there.contains(queue))
            .cloned()
            .collect();
        for queue in vanished {
            self.folder_left(&queue)?;
        }
        let mut complete = true;
        for name in folders {
            complete &= self.folder_arrived(&name, origin)?;
        }
        if self.anew {
            let mark = self.scanned.map(|directory| directory.mark());
            self.tell(Sighting::Replaced {
                folders: there,
                mark,
            })?;
        }
        Ok(complete)
    }

    /// A folder is there: watches it, then scans it. Gives whether all that is in it could be seen.
    pub(super) fn folder_arrived(&mut self, name: &OsStr, origin: Origin) -> Heard<bool> {
        let path = Path::new(TASKS).join(name);
        let Some(queue) = queue_of(name) else {
            let reason = "a folder whose name can't be a queue's";
            return self.irregular_here(&path, reason).map(|()| true);
        };
        self.watch(&path);
        let now = match self.stands(&path)? {
            Stands::Here(now) => now,
            Stands::Nowhere => return self.folder_left(&queue).map(|()| true),
            Stands::Unknown => return Ok(false),
        };
        let before = self.folders.insert(queue.clone(), now);
        if before.is_none() && !queue.is_default() {
            self.tell(Sighting::Folder(queue.clone()))?;
        }
        // One that was removed, or moved away, and made again went with its files, as people see it.
        let anew = self.anew || before.is_some_and(|before| !before.is_beside(&now));
        match self.list(&path, !queue.is_default()) {
            Ok(listing) => {
                self.report(&path, &queue, listing, origin, anew)?;
                Ok(true)
            }
            Err(error) if is_absent(&error) => {
                self.folder_left(&queue)?;
                Ok(true)
            }
            Err(error) if is_forbidden(&error) => {
                self.irregular_here(&path, "no permission to list it")?;
                Ok(false)
            }
            Err(error) => {
                self.failed(&error)?;
                Ok(false)
            }
        }
    }

    /// A folder is gone, and with it all that was in it.
    pub(super) fn folder_left(&mut self, queue: &QueueName) -> Heard {
        let path = Path::new(TASKS).join(queue.as_str());
        let before = self.folders.remove(queue);
        self.unwatched.remove(&path);
        self.tell_deaf()?;
        self.memory.forget_below(&path);
        // The folder `default` is the default queue's second one: its files have no canonical names there.
        // Of a task directory that is another one, the scan tells when it has seen all.
        if queue.is_default() || self.anew {
            return Ok(());
        }
        if self.is_other_root()? {
            self.ask_for_scan();
            return Ok(());
        }
        let anew = before.is_some_and(|before| self.was_mounted(&before));
        self.report_scanned(queue.clone(), HashSet::default(), anew)
    }

    /// Whether a folder lay on another mount than the task directory.
    fn was_mounted(&self, folder: &DirId) -> bool {
        self.scanned.is_some_and(|root| !root.is_beside(folder))
    }

    fn list(&self, folder: &Path, is_canonical: bool) -> DiskResult<Listing> {
        let mut listing = Listing::default();
        let is_top = folder == Path::new(TASKS);
        self.setup.disk.list(folder, &mut |name, kind| {
            if is_hidden(name) {
                return;
            }
            let canonical = || name.to_str().and_then(FileName::parse);
            match kind {
                Kind::Directory if is_top => listing.folders.push(name.to_owned()),
                Kind::File | Kind::HardLink if is_canonical => match canonical() {
                    Some(name) => listing.canonical.push(name),
                    None => listing.others.push(name.to_owned()),
                },
                _ => listing.others.push(name.to_owned()),
            }
        })?;
        listing.canonical.sort_unstable();
        listing.folders.sort_unstable();
        listing.others.sort_unstable();
        Ok(listing)
    }

    /// Reports what is in one folder, but for the folders in it.
    fn report(
        &mut self,
        folder: &Path,
        queue: &QueueName,
        listing: Listing,
        origin: Origin,
        anew: bool,
    ) -> Heard {
        let ids = listing.canonical.iter().map(|name| name.id).collect();
        for name in listing.canonical {
            let at = Location {
                area: Area::Tasks,
                queue: queue.clone(),
                name,
            };
            // A canonical file that was inspected and reported is known until it is gone.
            if !self.memory.is_empty() {
                self.memory.touch(&at.path());
            }
            self.saw(at)?;
        }
        for name in listing.others {
            if !is_left_alone(&name) {
                self.consider(&folder.join(name), queue, origin)?;
            }
        }
        let is_second = queue.is_default() && folder != Path::new(TASKS);
        if is_second {
            return Ok(());
        }
        self.report_scanned(queue.clone(), ids, anew)
    }

    fn report_scanned(
        &mut self,
        queue: QueueName,
        ids: HashSet<TaskId, FixedState>,
        anew: bool,
    ) -> Heard {
        let mark = if queue.is_default() {
            self.scanned
        } else {
            let folder = self.folders.get(&queue).copied();
            folder.filter(|folder| self.was_mounted(folder))
        };
        self.tell(Sighting::Scanned {
            queue,
            ids,
            anew,
            mark: mark.map(|directory| directory.mark()),
        })
    }

    /// What is mounted has changed, perhaps where the tasks' files are. What the kernel tells of a directory that is covered
    /// or gone, it does not tell of the one that stands there now.
    pub(super) fn look_at_mounts(&mut self) -> Heard {
        let mut changed = self.is_other_root()?;
        let folders: Vec<QueueName> = self.folders.keys().cloned().collect();
        for queue in folders {
            changed = changed || self.is_other_mount(&queue)?;
        }
        if changed {
            self.ask_for_scan();
        }
        Ok(())
    }

    /// Whether a file of a queue may be missing because another directory stands where its directory was, or none: then
    /// nobody has removed it.
    pub(super) fn is_elsewhere(&mut self, queue: &QueueName) -> Heard<bool> {
        Ok(self.is_other_root()? || self.is_other_mount(queue)?)
    }

    /// Whether the task directory is another one than the one that was scanned, or none.
    fn is_other_root(&mut self) -> Heard<bool> {
        Ok(match self.stands(Path::new(TASKS))? {
            Stands::Here(now) => self.scanned.is_some_and(|before| before != now),
            Stands::Nowhere => true,
            Stands::Unknown => false,
        })
    }

    /// Whether a queue's folder is on another mount than the one that was scanned.
    fn is_other_mount(&mut self, queue: &QueueName) -> Heard<bool> {
        let Some(before) = self.folders.get(queue).copied() else {
            return Ok(false);
        };
        Ok(match self.stands(&Path::new(TASKS).join(queue.as_str()))? {
            Stands::Here(now) => !before.is_beside(&now),
            Stands::Nowhere => self.was_mounted(&before),
            Stands::Unknown => false,
        })
    }

    /// Which directory is at a path.
    fn stands(&mut self, path: &Path) -> Heard<Stands> {
        match self.setup.disk.directory(path) {
            Ok(id) => Ok(Stands::Here(id)),
            Err(error) if is_absent(&error) => Ok(Stands::Nowhere),
            Err(error) => self.failed(&error).map(|()| Stands::Unknown),
        }
    }

    fn irregular_here(&mut self, path: &Path, reason: &str) -> Heard {
        match self.look(path)? {
            Found::There(meta) => self.irregular(path, meta.inode, reason),
            Found::Absent | Found::Unknown => Ok(()),
        }
    }
}
