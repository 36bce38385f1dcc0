//! [`recover`]: what a start finds on the disk, told in the order in which it is to be believed.
//!
//! First the newest checkpoint, then the names of the task files, then the journal's frames behind the checkpoint's cut.
//! Nothing is changed until all of it has been read and found whole; then the torn tail is cut off, room that was set
//! aside and not used is given back, and what was read is made durable, since the frames to come will say so.
//!
//! This module may not know what records mean, except that a reboot is one.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    thread,
};

use crossbeam_channel::{Sender, bounded};

use super::{
    checkpoint::{self, Unread},
    disk::{Disk, DiskError, DiskFile as _, DiskResult, Kind},
    journal::{Boot, DIR, LAST_NUMBER, OldSegment, Seq, VERSION, segment_number, segment_path},
    replay::Replay,
    reserve,
    spool::{is_forbidden, is_temporary},
};
use crate::{
    defect::{Defect, planted},
    task::{Area, FileName, Location, QueueName, Record, TaskId},
};

/// One thing that a start found. They come in the order of the variants.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The last id made here, by the checkpoint.
    LastId(TaskId),
    /// A record of the checkpoint.
    Checkpoint(Record),
    /// A task's file, by its canonical name in its canonical place.
    File(Location),
    /// A record of the journal behind the checkpoint, and the frame it is in; or a reboot that lies before it.
    Tail(Seq, Record),
    /// A file that a former life of the daemon has not written whole, relative to the data directory: to be removed.
    Temporary(PathBuf),
    /// How far reading has come. Between the others.
    Progress {
        /// Bytes of the journal read.
        done: u64,
        /// Bytes of the journal in all.
        of: u64,
    },
}

/// Where the journal goes on after a start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JournalStart {
    /// The next frame.
    pub next: Seq,
    /// The next segment.
    pub next_segment: u64,
    /// The segments that are there, in order.
    pub segments: Vec<OldSegment>,
    /// The torn tail that was cut off.
    pub torn: Option<TornTail>,
    /// This boot, and the boot clock at its first start: for [`Journal::new`](super::Journal::new).
    pub boot: Boot,
    /// The cut of the checkpoint that was read; 0 if there was none.
    pub cut: Seq,
    /// Bytes of the frames behind the checkpoint.
    pub tail_bytes: u64,
    /// A newer checkpoint that is damaged and was not needed: the journal before it is still whole.
    pub passed_over: Option<PathBuf>,
    /// Damage in segments that was not needed.
    pub spoilt: Vec<Spoilt>,
}

/// A damaged piece of a segment that nothing needs: the checkpoint holds what its frames changed, or it has none. It stays until the
/// next checkpoint lets it go with the segments around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoilt {
    /// The segment, relative to the data directory.
    pub file: PathBuf,
    /// Where the damage begins, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

/// What a crash left of the last frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment, relative to the data directory.
    pub file: PathBuf,
    /// Where the torn frame begins, in bytes.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a start can't go on. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The system gives no thread.
    #[error("can't start a thread: {0}")]
    Thread(io::Error),
    /// What had been durable is not whole.
    #[error(
        "{} is damaged at byte {offset}: {reason}; `workqueuectl check DATA --repair` sets it aside",
        file.display()
    )]
    Damaged {
        /// The file, relative to the data directory.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// There is something that is no file.
    #[error("{} is {what}, and has to be a file: put that in its place", file.display())]
    NoFile {
        /// What has a file's name, relative to the data directory.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A segment has another one's name, or a whole checkpoint has. A segment's frames are those of its own number, and what a
    /// checkpoint stands for is in its cut: under this name they would be taken for something else.
    #[error(
        "{} is {what} under another name: call it {} again, or take it away if that one is there",
        file.display(),
        own.display()
    )]
    Misnamed {
        /// The file, relative to the data directory.
        file: PathBuf,
        /// Which one it is, in words.
        what: String,
        /// What it is called by what is in it, relative to the data directory.
        own: PathBuf,
    },
    /// A file is of another version of the format.
    #[error(
        "{} is of format version {found}, this program knows {VERSION}: was it written by a newer one?",
        file.display()
    )]
    Version {
        /// The file, relative to the data directory.
        file: PathBuf,
        /// The version that it says it has.
        found: u32,
    },
}

/// The journal's directory, by what its names say.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Segments, rising.
    pub segments: Vec<u64>,
    /// Checkpoints, the newest first.
    pub checkpoints: Vec<Seq>,
    temporary: Vec<PathBuf>,
}

impl Names {
    pub(super) fn list(disk: &impl Disk) -> Result<Self, RecoverError> {
        let mut names = Self::default();
        let mut other = None;
        let listed = disk.list(Path::new(DIR), &mut |name, kind| {
            let Some(text) = name.to_str() else { return };
            let (number, cut) = (segment_number(text), checkpoint::checkpoint_cut(text));
            match (kind, number, cut) {
                (Kind::File | Kind::HardLink, Some(number), _) => names.segments.push(number),
                (Kind::File | Kind::HardLink, _, Some(cut)) => names.checkpoints.push(cut),
                (Kind::File | Kind::HardLink, ..) => {
                    if Path::new(text).extension().is_some_and(|end| end == "tmp") {
                        names.temporary.push(Path::new(DIR).join(text));
                    }
                }
                // Each checkpoint removes what stood in its place, and a folder is not removed so.
                (Kind::Directory, ..) if text == checkpoint::TEMPORARY => {
                    other = Some((Path::new(DIR).join(text), Kind::Directory.what()));
                }
                (_, None, None) if text != reserve::NAME => {}
                // Passed over, it would be as if its frames had never been.
                (kind, ..) => other = Some((Path::new(DIR).join(text), kind.what())),
            }
        });
        match listed {
            Err(error) if !error.is_missing() => return Err(error.into()),
            _ => {}
        }
        if let Some((file, what)) = other {
            return Err(RecoverError::NoFile { file, what });
        }
        names.segments.sort_unstable();
        names.checkpoints.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    /// The number of the next segment, if there can be one.
    fn next_segment(&self) -> Result<u64, RecoverError> {
        match self.segments.last() {
            None => Ok(1),
            Some(last) if *last < LAST_NUMBER => Ok(last + 1),
            Some(last) => Err(RecoverError::Damaged {
                file: segment_path(*last),
                offset: 0,
                reason: "its number is above any that is reached".to_owned(),
            }),
        }
    }
}

/// The checkpoint to start from, and the newest one, if that is damaged.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub found: Option<checkpoint::Found>,
    damaged: Option<(Seq, RecoverError)>,
}

pub(super) fn choose(disk: &impl Disk, cuts: &[Seq]) -> Result<Chosen, RecoverError> {
    let mut chosen = Chosen::default();
    for &cut in cuts {
        let file = checkpoint::checkpoint_path(cut);
        match checkpoint::read(disk, cut)? {
            Ok(found) => {
                chosen.found = Some(found);
                break;
            }
            Err(Unread::Version(found)) => return Err(RecoverError::Version { file, found }),
            Err(Unread::Damaged(offset, reason)) => {
                let damage = match checkpoint::misnamed(disk, cut)? {
                    Some(own) if !cuts.contains(&own) => RecoverError::Misnamed {
                        file,
                        what: format!("the checkpoint of frame {own}"),
                        own: checkpoint::checkpoint_path(own),
                    },
                    _ => RecoverError::Damaged {
                        file,
                        offset,
                        reason,
                    },
                };
                chosen.damaged.get_or_insert((cut, damage));
            }
        }
    }
    Ok(chosen)
}

/// What is to be done to a segment once everything was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settle {
    /// Cut it to so many bytes and make them durable.
    Keep(u64),
    /// Remove it: it holds nothing.
    Remove,
}

/// Reads all that there is, tells it to `sink`, and settles the journal, so that a [`Ledger`](super::Ledger) and a
/// [`Journal`](super::Journal) can go on with it.
///
/// `boot` is the boot that the machine runs in, with the boot clock now. A directory that is not there is empty. After an
/// error, what was told to `sink` means nothing, and nothing has changed on the disk unless the disk itself failed.
pub fn recover<D: Disk>(
    disk: &D,
    boot: &Boot,
    sink: &mut dyn FnMut(Found),
) -> Result<JournalStart, RecoverError> {
    disk.make_dir(Path::new(DIR))?;
    let names = Names::list(disk)?;
    let chosen = choose(disk, &names.checkpoints)?;
    let mut start = JournalStart {
        next_segment: names.next_segment()?,
        ..JournalStart::default()
    };
    let mut last_boot = None;
    if let Some(found) = chosen.found {
        start.cut = found.cut;
        last_boot = Some(found.boot);
        found
            .last_id
            .into_iter()
            .map(Found::LastId)
            .for_each(&mut *sink);
        found.records().map(Found::Checkpoint).for_each(&mut *sink);
    }
    find_files(disk, sink)?;

    let mut replay = Replay::new(start.cut, last_boot);
    let read = read_segments(disk, &names.segments, &mut replay, sink);
    if let Some((newest, damage)) = chosen.damaged {
        match read {
            Ok(()) if replay.last() >= newest => {
                start.passed_over = Some(checkpoint::checkpoint_path(newest));
            }
            Ok(()) | Err(RecoverError::Damaged { .. }) => return Err(damage),
            Err(other) => return Err(other),
        }
    } else {
        read?;
    }
    start.boot = replay.close(boot, sink);
    start.spoilt = replay.take_spoilt();
    for Spoilt {
        file,
        offset,
        reason,
    } in &start.spoilt
    {
        tracing::warn!(file = %file.display(), offset, reason, "a damaged piece of the journal was passed over: nothing needs it");
    }
    start.next = replay.last().next();
    start.tail_bytes = replay.tail_bytes();
    settle(disk, &names.temporary, &replay)?;
    (start.segments, start.torn) = replay.into_parts();
    Ok(start)
}

pub(super) fn read_segments(
    disk: &impl Disk,
    numbers: &[u64],
    replay: &mut Replay,
    sink: &mut dyn FnMut(Found),
) -> Result<(), RecoverError> {
    let mut of = 0_u64;
    for number in numbers {
        of = of.saturating_add(disk.look(&segment_path(*number))?.size);
    }
    let mut done = 0;
    for number in numbers {
        let file = disk.open(&segment_path(*number))?;
        let last = Some(number) == numbers.last();
        match file.read_written() {
            Err(error) if error.is_too_large() => {
                let reason = "it is larger than any segment";
                replay.unreadable(*number, file.size()?, reason, last)?;
            }
            read => {
                let bytes = read?;
                replay.segment(*number, &bytes, last, sink)?;
                done += bytes.len() as u64;
            }
        }
        sink(Found::Progress { done, of });
    }
    Ok(())
}

/// Names of files in one folder, some of them at a time: telling each to another thread by itself would cost more than the
/// name.
struct Listed {
    area: Area,
    queue: QueueName,
    /// One behind the other, as they are in the folder.
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

/// How many names go to the other thread at once, and how often so many may wait there.
const NAMES: usize = 4096;
const NAMES_WAIT: usize = 64;
/// How long the names are for which room is made, in bytes: a canonical one has some 70.
const NAME: usize = 80;

impl Listed {
    fn new(area: Area, queue: &QueueName) -> Self {
        Self {
            area,
            queue: queue.clone(),
            text: String::with_capacity(NAMES * NAME),
            ends: Vec::with_capacity(NAMES),
        }
    }

    /// Tells the canonical names, and those of files that were not written whole.
    fn tell(self, sink: &mut dyn FnMut(Found)) {
        let mut start = 0;
        for end in self.ends {
            let name = &self.text[start..end];
            start = end;
            if let Some(name) = FileName::parse(name) {
                sink(Found::File(Location {
                    area: self.area,
                    queue: self.queue.clone(),
                    name,
                }));
            } else if is_temporary(OsStr::new(name)) {
                let dir = self.area.folder(&self.queue);
                sink(Found::Temporary(dir.join(name)));
            }
        }
    }
}

/// Tells the canonical names in the task directory, in `dead/`, and in their queues' folders.
///
/// One thread lists while the other understands the names and takes what they tell: that is about half and half of a start with
/// many tasks.
fn find_files<D: Disk>(disk: &D, sink: &mut dyn FnMut(Found)) -> Result<(), RecoverError> {
    let (tell, listed) = bounded(NAMES_WAIT);
    thread::scope(|scope| {
        let lister = thread::Builder::new()
            .spawn_scoped(scope, move || {
                [Area::Tasks, Area::Dead]
                    .into_iter()
                    .try_for_each(|area| list_area(disk, area, &tell))
            })
            .map_err(RecoverError::Thread)?;
        for names in listed {
            names.tell(sink);
        }
        let listed = lister
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        listed.map_err(RecoverError::Disk)
    })
}

fn list_area(disk: &impl Disk, area: Area, tell: &Sender<Listed>) -> DiskResult<()> {
    let folders = list_folder(disk, area, &QueueName::default(), tell)?;
    for queue in folders.iter().filter(|queue| !queue.is_default()) {
        list_folder(disk, area, queue, tell)?;
    }
    Ok(())
}

/// Lists one folder, and gives the folders in it that can be queues'.
fn list_folder(
    disk: &impl Disk,
    area: Area,
    queue: &QueueName,
    tell: &Sender<Listed>,
) -> DiskResult<Vec<QueueName>> {
    let mut folders = Vec::new();
    let mut names = Listed::new(area, queue);
    // The other end goes only when its thread panics, and that is told by the panic.
    let say = |listed| drop(tell.send(listed));
    let listed = disk.list(&area.folder(queue), &mut |name, kind| {
        let Some(name) = name.to_str() else { return };
        match kind {
            Kind::File => {
                names.text.push_str(name);
                names.ends.push(names.text.len());
                if names.ends.len() == NAMES {
                    say(std::mem::replace(&mut names, Listed::new(area, queue)));
                }
            }
            Kind::Directory => folders.extend(QueueName::parse(name)),
            Kind::HardLink | Kind::Symlink | Kind::Special => {}
        }
    });
    say(names);
    match listed {
        Err(error) if error.is_missing() => Ok(folders),
        // One that somebody made for himself holds nothing of ours: it is left alone, and reported.
        Err(error) if !queue.is_default() && is_forbidden(&error) => Ok(folders),
        other => other.map(|()| folders),
    }
}

/// Cuts, removes and syncs. A crash in the middle leaves what the next start reads the same.
///
/// What may not be on the disk is written once more, the same bytes in the same place: where a sync failed before the daemon
/// was restarted, the kernel still shows what it could not write, takes it for written, and would say yes to a sync
/// (`fsync(2)`, and PostgreSQL's wiki page "Fsync Errors").
fn settle(disk: &impl Disk, temporary: &[PathBuf], replay: &Replay) -> DiskResult<()> {
    for (number, what) in replay.settled() {
        let path = segment_path(*number);
        match *what {
            Settle::Remove => disk.unlink(&path)?,
            Settle::Keep(bytes) => {
                if disk.look(&path)?.size > bytes {
                    disk.truncate(&path, bytes)?;
                }
                let mut file = disk.open_to_write(&path)?;
                if replay.is_in_doubt(*number) && !planted(Defect::TrustPageCache) {
                    let frames = file.read_at(0, bytes as usize)?;
                    file.write_at(&frames, 0)?;
                }
                file.sync()?;
            }
        }
    }
    for path in temporary {
        disk.unlink(path)?;
    }
    // Task files too: one that was moved in while no daemon ran is a task from now on, and its name may not be durable.
    disk.sync_everything()
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
