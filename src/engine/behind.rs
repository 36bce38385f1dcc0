//! [`Behind`]: tasks whose files are in a directory that is not there any more (moved away, or its mount is gone), and may come
//! back with it, also after a restart.
//!
//! Only checkpoints keep it, no record of the journal does. Where a restart finds another directory than the checkpoint tells
//! of, all that ended since that checkpoint may have left a file behind; and the tasks that have no file here have.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::task::{DirMark, Left, QueueName, Record, Source, TaskId, WallMillis};

/// How many tasks are remembered: some 30 MiB.
const MOST: usize = 1 << 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Behind {
    tasks: HashMap<TaskId, Left, FixedState>,
    /// How many of them have their payload there alone.
    lost: usize,
    /// When the last of them was noted.
    at: WallMillis,
    /// More were only in a former directory than are remembered: then no task is taken for cancelled because its file is missing.
    too_many: bool,
    /// Where the files of queues are, as of the last whole comparison of tasks and files.
    homes: BTreeMap<QueueName, DirMark>,
}

impl Behind {
    /// A checkpoint tells of it.
    pub(super) fn recall(&mut self, record: &Record) {
        match record {
            Record::Housed { queue, mark } => drop(self.homes.insert(queue.clone(), *mark)),
            Record::LeftBehind { id, at, left } => self.note(*id, *left, *at),
            _ => {}
        }
    }

    /// For a checkpoint.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let homes = self.homes.iter().map(|(queue, mark)| Record::Housed {
            queue: queue.clone(),
            mark: *mark,
        });
        let tasks = self.tasks.iter().map(|(id, left)| Record::LeftBehind {
            id: *id,
            at: self.at,
            left: *left,
        });
        homes.chain(tasks)
    }

    /// A file of the task was left behind.
    pub(super) fn note(&mut self, id: TaskId, left: Left, at: WallMillis) {
        if self.tasks.len() < MOST || self.tasks.contains_key(&id) {
            self.set(id, Some(left));
            // A clock may have been set back.
            self.at = self.at.max(at);
        } else if left == Left::Only {
            self.too_many = true;
        }
    }

    /// A task was submitted, perhaps one with the id of one that had ended, or by the file that was left behind.
    pub(super) fn submitted(&mut self, id: TaskId) {
        match self.tasks.get(&id) {
            Some(Left::Only) => self.set(id, None),
            Some(_) => self.set(id, Some(Left::Copy)),
            None => {}
        }
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, id: TaskId) {
        if self.tasks.contains_key(&id) {
            self.set(id, Some(Left::Ended));
        }
    }

    /// The task's file is in its place.
    pub(super) fn seen(&mut self, id: TaskId) {
        // It came back: there is no other.
        if self.tasks.get(&id) == Some(&Left::Only) {
            self.set(id, None);
        }
    }

    /// Somebody has removed the task's file: if it comes back, that is meant.
    pub(super) fn removed(&mut self, id: TaskId) {
        self.set(id, None);
    }

    fn set(&mut self, id: TaskId, left: Option<Left>) {
        let before = match left {
            Some(left) => self.tasks.insert(id, left),
            None => self.tasks.remove(&id),
        };
        self.lost -= usize::from(before == Some(Left::Only));
        self.lost += usize::from(left == Some(Left::Only));
    }

    /// How many tasks wait for the directory that their payloads are in.
    pub(super) const fn lost(&self) -> usize {
        self.lost
    }

    /// Whether the task's file is not gone, but in a directory that is not there.
    pub(super) fn is_lost(&self, id: TaskId) -> bool {
        self.too_many || self.tasks.get(&id) == Some(&Left::Only)
    }

    /// Whether a file of a task that has ended was left behind.
    pub(super) fn has_ended(&self, id: TaskId) -> bool {
        self.tasks.get(&id) == Some(&Left::Ended)
    }

    /// Whether this is the file of a task that has ended, come back with its directory: then it is known no longer.
    pub(super) fn came_back(&mut self, id: TaskId, source: &Source) -> bool {
        let is_it = self.has_ended(id) && is_older(source, self.at);
        if is_it {
            self.set(id, None);
        }
        is_it
    }

    /// Where a queue's files are, after all its tasks were compared with them; `None`: where the default queue's are, and of
    /// that one, nobody can say. Gives whether that is news.
    pub(super) fn housed(&mut self, queue: QueueName, mark: Option<DirMark>) -> bool {
        let before = match mark {
            Some(mark) => self.homes.insert(queue, mark),
            None if queue.is_default() => None,
            None => self.homes.remove(&queue),
        };
        before != mark
    }

    /// Where files were.
    pub(super) const fn homes(&self) -> &BTreeMap<QueueName, DirMark> {
        &self.homes
    }
}

/// Whether a file was written before that; within the millisecond, as more is not known of it.
pub(super) fn is_older(source: &Source, at: WallMillis) -> bool {
    source.modified < i128::from(at.0.saturating_add(1)) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> TaskId {
        TaskId::from_bytes(number.to_be_bytes())
    }

    fn file(modified: i64) -> Source {
        Source {
            path: "tasks/a.json".into(),
            inode: 1,
            modified: i128::from(modified) * 1_000_000,
            size: 1,
        }
    }

    #[test]
    fn the_file_of_a_task_that_ended_is_known_once_when_it_comes_back() {
        let mut behind = Behind::default();
        behind.note(id(1), Left::Copy, WallMillis(10));
        assert!(!behind.came_back(id(1), &file(5)), "it is not done");
        behind.ended(id(1));
        behind.ended(id(2));
        assert!(!behind.came_back(id(1), &file(11)), "written since");
        assert!(behind.came_back(id(1), &file(10)));
        assert!(!behind.came_back(id(1), &file(10)));
        assert!(!behind.came_back(id(2), &file(5)), "never left behind");
    }

    #[test]
    fn a_task_whose_only_file_was_left_behind_is_lost_until_that_comes_back() {
        let mut behind = Behind::default();
        behind.note(id(1), Left::Only, WallMillis(10));
        behind.note(id(2), Left::Copy, WallMillis(10));
        assert!(behind.is_lost(id(1)) && !behind.is_lost(id(2)));
        assert_eq!(behind.lost(), 1);
        behind.seen(id(1));
        assert_eq!(behind.lost(), 0);
        behind.seen(id(2));
        for number in [1, 2] {
            behind.ended(id(number));
        }
        assert!(!behind.came_back(id(1), &file(5)));
        assert!(behind.came_back(id(2), &file(5)));
    }

    #[test]
    fn a_task_submitted_with_the_id_of_one_that_ended_is_its_own() {
        let mut behind = Behind::default();
        behind.note(id(1), Left::Ended, WallMillis(10));
        behind.submitted(id(1));
        assert!(!behind.came_back(id(1), &file(5)));
        behind.ended(id(1));
        assert!(behind.came_back(id(1), &file(5)));
    }

    #[test]
    fn all_comes_back_from_a_checkpoint() {
        let mut behind = Behind::default();
        behind.note(id(1), Left::Ended, WallMillis(10));
        behind.note(id(2), Left::Only, WallMillis(20));
        behind.note(id(2), Left::Only, WallMillis(15));
        let home = Some(DirMark([1; 16]));
        assert!(behind.housed(QueueName::default(), home));
        assert!(!behind.housed(QueueName::default(), home));
        let mut again = Behind::default();
        for record in behind.records() {
            again.recall(&record);
        }
        assert_eq!(again.homes(), behind.homes());
        assert!(again.is_lost(id(2)));
        assert_eq!(again.lost(), 1);
        assert!(again.came_back(id(1), &file(20)));
        assert!(!again.housed(QueueName::default(), None), "it is somewhere");
        let mounted = QueueName::parse("mounted").unwrap();
        assert!(again.housed(mounted.clone(), home));
        assert!(again.housed(mounted, None));
        assert_eq!(again.homes(), behind.homes());
    }

    #[test]
    fn of_very_many_some_are_not_remembered() {
        let mut behind = Behind::default();
        for number in 0..MOST as u128 + 10 {
            behind.note(id(number), Left::Copy, WallMillis(10));
        }
        assert_eq!(behind.records().count(), MOST);
        let last = id(MOST as u128 + 20);
        assert!(!behind.is_lost(last));
        behind.note(last, Left::Only, WallMillis(10));
        assert!(behind.is_lost(last), "none is taken for cancelled");
    }
}
