//! Files of tasks that somebody moves or renames: they say which task they are, wherever they lie, and that task may be done by
//! the time they are found there.
//!
//! A file with the id of a task that has ended is that task's own, under whatever name, if the task's file was not there to be
//! removed and this one is older; or if it was left behind in a directory that comes back. It makes no task. And a file with the id of a task that is there
//! is not the file of another one before the watcher has looked whether the task's own is still in its place.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::{
    Engine,
    behind::{Behind, is_older},
    drops::{Dropped, reject},
    io::Output,
    lately::{KNOWN, Lately},
    unseen::Unseen,
};
use crate::{
    store::{location, shown},
    task::{
        DirMark, FileName, Left, Location, Millis, Now, Record, Source, TaskId, Tick, WallMillis,
    },
};

/// How many files may wait for a change of their task's file. More stay in the directory, and are found by a look through it when
/// these have been looked at.
const MOST_WAITING: usize = 1000;

/// How long it is known that a file was not where it was: longer than the usual time between two looks through the directory
/// (`rescan_every`), which may be the first to find it.
const MISSED: Millis = Millis::from_secs(900);

/// Of a task whose file was not where it was.
#[derive(Debug, Clone, Copy)]
struct Missed {
    /// When that was found: what was written since is another file.
    at: WallMillis,
    /// The task ended in a former life, at that time: whenever its file is missed again, none was written since.
    before: bool,
}

/// Of how many files a checkpoint tells that may have been missed before the last start: few enough for the room that is set aside for it.
const MOST_TOLD: usize = 1 << 11;

/// Whether that is not so long ago that it matters no longer. A clock that was set back makes it matter longer.
fn is_lately(at: WallMillis, now: Now) -> bool {
    let ago = u64::try_from(now.wall.0.saturating_sub(at.0));
    ago.unwrap_or(0) < MISSED.0
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Astray {
    /// Tasks whose files were not where they were: to be removed when they had ended, to be moved, or while a worker held them;
    /// and when that was found.
    missed: Lately<TaskId, Missed>,
    /// Tasks that the journal's tail tells to have ended, and when: most of their files were removed, and some may have been missed by the
    /// former life.
    perhaps: Lately<TaskId, WallMillis>,
    /// Tasks whose files somebody moves while workers hold them: each may have more than one.
    restless: Lately<TaskId, ()>,
    /// Tasks of which it was asked whether their own files are gone, for the sake of others with their ids.
    doubted: Lately<TaskId, ()>,
    /// Tasks whose files went with their directory.
    pub(super) behind: Behind,
    /// When it was last found that another directory is where files were.
    moved_at: Option<Tick>,
    /// Which task directory that is, of those queues that have been seen in it; until all tasks have been compared with it.
    pub(super) arriving: Option<DirMark>,
    /// What the journal told of tasks whose files were not seen at a start, as they are with their directory.
    pub(super) unseen: Unseen,
    /// Files that have the id of a task whose own file is just being changed: looked at again after that, as they may be
    /// elsewhere by then.
    waiting: Vec<(TaskId, PathBuf)>,
    /// More came than may wait.
    passed_over: bool,
}

impl Default for Astray {
    fn default() -> Self {
        Self {
            missed: Lately::of(MISSED),
            perhaps: Lately::of(MISSED),
            restless: Lately::of(MISSED),
            doubted: Lately::default(),
            behind: Behind::default(),
            moved_at: None,
            arriving: None,
            unseen: Unseen::default(),
            waiting: Vec::new(),
            passed_over: false,
        }
    }
}

impl Astray {
    /// The file of a task that was done, or is being done, was not in its place.
    pub(super) fn missed(&mut self, id: TaskId, now: Now) {
        let before = self.perhaps.take(&id, now.tick);
        let known = self.missed.get(&id, now.tick);
        let known = known.filter(|missed| missed.before);
        let before = before.map(|at| Missed { at, before: true });
        let missed = known.or(before).unwrap_or(Missed {
            at: now.wall,
            before: false,
        });
        self.missed.note(id, missed, now.tick);
    }

    /// What is in the place of its file now may be that or another: nobody can say, so it makes no task.
    pub(super) fn doubtful(&mut self, id: TaskId, now: Now) {
        self.perhaps.take(&id, now.tick);
        let at = now.wall;
        self.missed.note(id, Missed { at, before: true }, now.tick);
    }

    /// A task ended in a former life, at `at` or later.
    pub(super) fn perhaps_missed(&mut self, id: TaskId, at: WallMillis, now: Now) {
        if is_lately(at, now) {
            self.perhaps.note(id, at, now.tick);
        }
    }

    /// A task was submitted, perhaps one with the id of one that had ended.
    pub(super) fn submitted(&mut self, id: TaskId, now: Tick) {
        self.behind.submitted(id);
        self.perhaps.take(&id, now);
        if let Some(missed) = self.missed.get(&id, now) {
            let before = false;
            self.missed.note(id, Missed { before, ..missed }, now);
        }
    }

    /// When the file of a task that has ended was missed, if it was or may have been.
    fn missed_at(&mut self, id: TaskId, now: Tick) -> Option<WallMillis> {
        let missed = self.missed.get(&id, now).map(|missed| missed.at);
        missed.or_else(|| self.perhaps.get(&id, now))
    }

    /// The task may have another file than its own.
    pub(super) fn note_restless(&mut self, id: TaskId, now: Tick) {
        self.restless.note(id, (), now);
    }

    /// Whether it was not asked within the last minute if the task's own file is gone: each answer would bring the other file again.
    pub(super) fn is_new_doubt(&mut self, id: TaskId, now: Tick) -> bool {
        let is_new = self.doubted.get(&id, now).is_none();
        if is_new {
            self.doubted.note(id, (), now);
        }
        is_new
    }

    /// The task was cancelled by the removal of its file: if that comes back, it is meant.
    pub(super) fn removed(&mut self, id: TaskId, now: Tick) {
        self.behind.removed(id);
        self.missed.take(&id, now);
        self.perhaps.take(&id, now);
    }

    /// The task has ended. Of one whose file was moved while the daemon wrote another, there may be a second one, under any name
    /// that it had.
    pub(super) fn ended(&mut self, id: TaskId, now: Now) {
        self.behind.ended(id);
        if self.restless.take(&id, now.tick).is_some() {
            self.missed(id, now);
        }
    }

    /// A file of a task that has ended was changed, perhaps written, after its end: what comes back may be that one, moved at once.
    pub(super) fn changed(&mut self, id: TaskId, now: Now) {
        if self.missed.get(&id, now.tick).is_some() {
            self.missed(id, now);
        }
    }

    /// A checkpoint tells of it.
    pub(super) fn recall(&mut self, record: &Record, now: Now) {
        match record {
            Record::LeftBehind {
                id,
                at,
                left: Left::Missed,
            } => {
                let (at, before) = (*at, true);
                if is_lately(at, now) {
                    self.missed.note(*id, Missed { at, before }, now.tick);
                }
            }
            _ => self.behind.recall(record),
        }
    }

    /// Whether the file of a task that has ended may come back: then it is looked at before it is believed.
    pub(super) fn may_come_back(&mut self, id: TaskId, now: Tick) -> bool {
        self.behind.has_ended(id) || self.missed_at(id, now).is_some()
    }

    /// For a checkpoint: that another directory is there may be found only after a crash, so those that were missed lately are
    /// among them.
    pub(super) fn records(
        &self,
        now: Tick,
        has_ended: impl Fn(TaskId) -> bool,
    ) -> impl Iterator<Item = Record> {
        let missed = self.missed.iter(now).map(|(id, missed)| (id, missed.at));
        let perhaps = self.perhaps.iter(now).take(MOST_TOLD);
        let missed = missed.chain(perhaps);
        let missed = missed.filter(move |(id, _)| has_ended(*id));
        let missed = missed.map(|(id, at)| Record::LeftBehind {
            id,
            at,
            left: Left::Missed,
        });
        let unseen = self.unseen.records().cloned();
        missed.chain(self.behind.records()).chain(unseen)
    }

    /// Whether it was found within the last minute that another directory is where files were.
    pub(super) fn has_just_moved(&self, now: Tick) -> bool {
        self.moved_at.is_some_and(|at| now < at.plus(KNOWN))
    }

    /// Has a file looked at again when its task's file has been changed. `false`: too many wait, and a look through the directory
    /// comes after them.
    pub(super) fn wait(&mut self, id: TaskId, path: PathBuf) -> bool {
        let waits = |(one, its): &(TaskId, PathBuf)| *one == id && *its == path;
        let has_room = self.waiting.len() < MOST_WAITING;
        if has_room && !self.waiting.iter().any(waits) {
            self.waiting.push((id, path));
        }
        self.passed_over |= !has_room;
        has_room
    }

    /// Whether this is the file of a task that has ended, under whatever name.
    fn is_missed(&mut self, id: TaskId, source: &Source, now: Tick) -> bool {
        let missed = self.missed_at(id, now);
        missed.is_some_and(|at| is_older(source, at))
    }
}

impl Engine {
    /// A dropped file that has the id of a task may be that task's own, moved. Gives it back if it is not, or nobody can say
    /// yet.
    pub(super) fn take_astray(
        &mut self,
        now: Now,
        dropped: Dropped,
        out: &mut Vec<Output>,
    ) -> Option<Dropped> {
        let Dropped { source, task, .. } = &dropped;
        let Some(id) = task.id else {
            return Some(dropped);
        };
        let is_there = self.queue.get(id).is_some();
        if !is_there {
            if has_own_name(&source.path) && self.astray.behind.is_back(id, source) {
                tracing::info!(task_id = %id, file = %shown(&source.path), "the file of a task that has ended came back: it is removed");
                self.remove_too(now, id, dropped.source);
                return None;
            }
            if self.astray.is_missed(id, source, now.tick) {
                let reason = "the task of its id has just ended, and its own file was gone or had been moved";
                reject(dropped.source, reason.to_owned(), out);
                return None;
            }
        }
        let waits = if is_there {
            !self.files.is_settled(id)
        } else {
            self.files.removes(id)
        };
        if !waits {
            return Some(dropped);
        }
        if !self.astray.wait(id, dropped.source.path.clone()) {
            out.push(Output::Forget(dropped.source));
        }
        None
    }

    /// A file under the name of a task that waits for its directory is the task's own, as it was called once: the directory came
    /// back after the task had got another name. Gives whether it is that.
    pub(super) fn take_own(&mut self, now: Now, dropped: &Dropped, out: &mut Vec<Output>) -> bool {
        let waits = |id: &TaskId| self.lacks_payload(*id) && self.astray.behind.is_lost(*id);
        let Some(id) = dropped.task.id.filter(waits) else {
            return false;
        };
        let Some(place) = own_place(id, &dropped.source.path) else {
            return false;
        };
        self.adopt(now, id, place, out);
        true
    }

    /// The task's own file is at `place`, as it was called once, and not where it should be.
    pub(super) fn adopt(&mut self, now: Now, id: TaskId, place: Location, out: &mut Vec<Output>) {
        tracing::info!(task_id = %id, file = %place, "the file of a task came back under a former name");
        let seq = self.ledger.synced_seq();
        self.files.found(id, place, seq, now.tick);
        self.here_again(id);
        // What it was called until now may be in the directory that went.
        self.astray.behind.note(id, Left::Copy, now.wall);
        self.load(now, [id], out);
    }

    /// A file of the task is here: if it was waited for, a claim may have the task now.
    pub(super) fn here_again(&mut self, id: TaskId) {
        if self.astray.behind.seen(id)
            && let Some(entry) = self.queue.get(id)
        {
            self.stirred.insert(self.queue.queue_of(entry).clone());
        }
    }

    /// A dropped file has the id of a task that is there. Gives it back when the watcher has looked whether the task's own
    /// file is in its place: that may have been moved, and this be it.
    pub(super) fn doubt(
        &mut self,
        source: Source,
        id: TaskId,
        own_there: Option<bool>,
        out: &mut Vec<Output>,
    ) -> Option<Source> {
        // Of one that is just being written, the journal has all.
        let own = self.queue.location(id);
        let Some(own) = own.filter(|_| self.files.is_settled(id)) else {
            return Some(source);
        };
        if let Some(there) = own_there {
            if there {
                self.missed.remove(&id);
            }
            return Some(source);
        }
        // Should its own be gone, that is settled by the time this one comes again.
        let number = self.question();
        self.missed.insert(id, number);
        out.push(Output::TellApart(number, own, source));
        None
    }

    /// Another directory is where files were. By all signs, those that were missed lately were in the former one.
    pub(super) fn moved(&mut self, now: Now) {
        self.astray.moved_at = Some(now.tick);
        self.taken.moved(now.tick);
        self.astray.arriving = None;
        for (id, _) in self.astray.missed.within(KNOWN, now.tick) {
            let ended = self.queue.get(id).is_none();
            let left = if ended { Left::Ended } else { Left::Copy };
            self.astray.behind.note(id, left, now.wall);
        }
    }

    /// A file of the task was not there to be removed.
    pub(super) fn went_astray(&mut self, now: Now, id: TaskId, out: &mut Vec<Output>) {
        // What a former life wanted removed, it may have removed itself; and yet its file may be elsewhere.
        let has_ended = self.queue.get(id).is_none();
        if self.files.had_own(id, self.queue.location(id).as_ref()) {
            self.astray.missed(id, now);
        }
        // The change was begun before anybody knew of another directory.
        let moved = self.astray.has_just_moved(now.tick);
        if moved {
            let left = if has_ended { Left::Ended } else { Left::Copy };
            self.astray.behind.note(id, left, now.wall);
        }
        // One that was away for a moment would not be told of again.
        let sources = self.files.sources_in_flight(id);
        if sources.is_empty() {
            return;
        }
        for source in sources {
            self.taken.went_astray(source, id, moved, now);
        }
        let paths = sources.iter().map(|source| source.path.clone());
        out.push(Output::Again(paths.collect()));
    }

    /// Another file is where that of a task was that has ended.
    pub(super) fn gave_way(&mut self, now: Now, id: TaskId, out: &mut Vec<Output>) {
        self.astray.doubtful(id, now);
        let place = self.files.place_of(id).map(Location::path);
        out.push(Output::Again(place.into_iter().collect()));
    }

    /// Has files looked at again that waited for a change of their task's file.
    pub(super) fn ask_for_waiting(&mut self, out: &mut Vec<Output>) {
        let files = &self.files;
        let settled = |(id, _): &mut (TaskId, PathBuf)| files.is_settled(*id);
        let settled = self.astray.waiting.extract_if(.., settled);
        let paths: Vec<PathBuf> = settled.map(|(_, path)| path).collect();
        if !paths.is_empty() {
            out.push(Output::Again(paths));
        }
        if self.astray.waiting.is_empty() && std::mem::take(&mut self.astray.passed_over) {
            out.push(Output::Rescan);
        }
    }
}

/// Whether a file has the canonical name of some task.
fn has_own_name(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    name.and_then(FileName::parse).is_some()
}

/// Where a file is, if it has a canonical name of this task.
pub(super) fn own_place(id: TaskId, path: &Path) -> Option<Location> {
    location(path).filter(|place| place.name.id == id)
}

#[cfg(test)]
#[path = "astray_tests.rs"]
mod tests;
