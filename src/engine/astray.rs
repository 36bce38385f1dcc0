//! Files of tasks that somebody moves or renames: they say which task they are, wherever they lie, and that task may be done by
//! the time they are found there.
//!
//! A file with the id of a task that has ended is that task's own, if the task's file was not there to be removed: it is removed
//! where it is. And a file with the id of a task that is there is not the file of another one before the watcher has looked
//! whether the task's own is still in its place.

use std::path::PathBuf;

use super::{Engine, drops::Dropped, io::Output, lately::Lately};
use crate::{
    store::shown,
    task::{Area, Now, Source, TaskId, Tick, WallMillis},
};

/// How many files may wait for a change of their task's file. More stay in the directory, and are found by the next look
/// through it.
const MOST_WAITING: usize = 1000;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Astray {
    /// Tasks whose files were not there to be removed when they had ended, or while a worker held them, and when that was
    /// found. What was written before is no new task.
    missed: Lately<TaskId, WallMillis>,
    /// Files that have the id of a task whose own file is just being changed: looked at again after that, as they may be
    /// elsewhere by then.
    waiting: Vec<(TaskId, PathBuf)>,
    /// Files, by inode, for whose sake the watcher was asked whether the own file of their task is in its place.
    doubted: Lately<(TaskId, u64), ()>,
}

impl Astray {
    /// The file of a task that was done, or is being done, was not in its place.
    pub(super) fn missed(&mut self, id: TaskId, now: Now) {
        self.missed.note(id, now.wall, now.tick);
    }

    /// Whether this is the file of a task that has ended.
    fn is_of_ended(&mut self, id: TaskId, source: &Source, now: Tick) -> bool {
        let missed = self.missed.get(&id, now);
        // Within the millisecond, as more is not known of `at`.
        missed.is_some_and(|at| source.modified < i128::from(at.0 + 1) * 1_000_000)
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
        if !is_there && self.astray.is_of_ended(id, source, now.tick) {
            tracing::info!(task_id = %id, file = %shown(&source.path), "the file of a task that has ended was moved: it is removed");
            self.remove_too(now, id, dropped.source);
            return None;
        }
        let waits = if is_there {
            !self.files.is_settled(id)
        } else {
            self.files.removes(id)
        };
        if !waits {
            return Some(dropped);
        }
        if self.astray.waiting.len() < MOST_WAITING {
            self.astray.waiting.push((id, dropped.source.path));
        } else {
            out.push(Output::Forget(dropped.source));
        }
        None
    }

    /// A dropped file has the id of a task that is there. Gives it back if the task's own file is in its place for certain:
    /// that may have been moved, and this be it.
    pub(super) fn doubt(
        &mut self,
        now: Now,
        source: Source,
        id: TaskId,
        out: &mut Vec<Output>,
    ) -> Option<Source> {
        let own = self.queue.location(id);
        // Of one that is just being written, the journal has all.
        let own = own.filter(|own| own.area == Area::Tasks && self.files.is_settled(id));
        let Some(own) = own else {
            return Some(source);
        };
        let file = (id, source.inode);
        if self.astray.doubted.take(&file, now.tick).is_some() {
            return Some(source);
        }
        self.astray.doubted.note(file, (), now.tick);
        self.missed.insert(id);
        // Should its own be gone, that is settled by the time this one comes again.
        out.push(Output::TellApart(own, source));
        None
    }

    /// A file of the task was not there to be removed.
    pub(super) fn went_astray(&mut self, now: Now, id: TaskId, out: &mut Vec<Output>) {
        // What a former life wanted removed, it may have removed itself.
        if self.files.is_of_former_life(id) {
            return;
        }
        if self.queue.get(id).is_none() {
            self.astray.missed(id, now);
        }
        // One that was away for a moment would not be told of again.
        let paths: Vec<PathBuf> = self.files.sources_in_flight(id).collect();
        if !paths.is_empty() {
            out.push(Output::Again(paths));
        }
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
    }
}
