//! [`Behind`]: tasks whose files are in a directory that is not there any more (moved away, or its mount is gone), and may come
//! back with it, also after a restart.
//!
//! Only checkpoints keep it; of the journal's records, one tells that files are in another directory from then on. Where a restart finds another directory than the checkpoint tells
//! of, all that ended since that checkpoint may have left a file behind; and the tasks that have no file here have.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::latest::Latest;
use crate::task::{DirMark, Left, QueueName, Record, Source, TaskId, WallMillis};

/// How many tasks are remembered that wait for the directory that their payloads are in: some 30 MiB.
const MOST_LOST: usize = 1 << 20;
/// How many others are remembered at least: twice as many take some 5 MiB.
const COPIES: usize = 1 << 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Behind {
    /// Tasks whose payloads are there alone.
    lost: HashSet<TaskId, FixedState>,
    /// Those of which only a file is there.
    copies: Latest<TaskId, Left>,
    /// When the last of all was noted.
    at: WallMillis,
    /// More were only in a former directory than are remembered: then no task is taken for cancelled because its file is missing.
    too_many: bool,
    /// Where the files of queues are, as of the last whole comparison of tasks and files.
    homes: BTreeMap<QueueName, DirMark>,
}

impl Default for Behind {
    fn default() -> Self {
        Self {
            lost: HashSet::default(),
            copies: Latest::of(COPIES),
            at: WallMillis::default(),
            too_many: false,
            homes: BTreeMap::new(),
        }
    }
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
        let lost = self.lost.iter().map(|id| (*id, Left::Only));
        let tasks = self
            .copies
            .iter()
            .chain(lost)
            .map(|(id, left)| Record::LeftBehind {
                id,
                at: self.at,
                left,
            });
        homes.chain(tasks)
    }

    fn get(&self, id: TaskId) -> Option<Left> {
        if self.lost.contains(&id) {
            return Some(Left::Only);
        }
        self.copies.get(&id)
    }

    /// A file of the task was left behind.
    pub(super) fn note(&mut self, id: TaskId, left: Left, at: WallMillis) {
        self.set(id, Some(left));
        // A clock may have been set back.
        self.at = self.at.max(at);
    }

    /// A task was submitted, perhaps one with the id of one that had ended, or by the file that was left behind.
    pub(super) fn submitted(&mut self, id: TaskId) {
        if self.get(id).is_some() {
            self.set(id, Some(Left::Copy));
        }
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, id: TaskId) {
        if self.get(id).is_some() {
            self.set(id, Some(Left::Ended));
        }
    }

    /// A file of the task is here. Gives whether it was waited for.
    pub(super) fn seen(&mut self, id: TaskId) -> bool {
        // There may be others in other directories, of other times.
        let was_lost = self.lost.contains(&id);
        if was_lost {
            self.set(id, Some(Left::Copy));
        }
        was_lost
    }

    /// Somebody has removed the task's file: if it comes back, that is meant.
    pub(super) fn removed(&mut self, id: TaskId) {
        self.set(id, None);
    }

    fn set(&mut self, id: TaskId, left: Option<Left>) {
        self.lost.remove(&id);
        self.copies.forget(&id);
        match left {
            Some(Left::Only) if self.lost.len() < MOST_LOST => drop(self.lost.insert(id)),
            Some(Left::Only) => self.too_many = true,
            Some(left) => self.copies.note(id, left),
            None => {}
        }
    }

    /// How many tasks wait for the directory that their payloads are in.
    pub(super) fn lost(&self) -> usize {
        self.lost.len()
    }

    /// Whether the task's file is not gone, but in a directory that is not there.
    pub(super) fn is_lost(&self, id: TaskId) -> bool {
        self.too_many || self.waits(id)
    }

    /// Whether it is known of this task that its payload comes back with a directory.
    pub(super) fn waits(&self, id: TaskId) -> bool {
        self.lost.contains(&id)
    }

    /// Whether a file of a task that has ended was left behind.
    pub(super) fn has_ended(&self, id: TaskId) -> bool {
        self.get(id) == Some(Left::Ended)
    }

    /// Whether this is the file of a task that has ended, come back with its directory. It stays known: there may be others.
    pub(super) fn is_back(&self, id: TaskId, source: &Source) -> bool {
        self.has_ended(id) && is_older(source, self.at)
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
    fn the_files_of_a_task_that_ended_are_known_whenever_they_come_back() {
        let mut behind = Behind::default();
        behind.note(id(1), Left::Copy, WallMillis(10));
        assert!(!behind.is_back(id(1), &file(5)), "it is not done");
        behind.ended(id(1));
        behind.ended(id(2));
        assert!(!behind.is_back(id(1), &file(11)), "written since");
        assert!(behind.is_back(id(1), &file(10)));
        assert!(behind.is_back(id(1), &file(9)));
        behind.removed(id(1));
        assert!(!behind.is_back(id(1), &file(10)));
        assert!(!behind.is_back(id(2), &file(5)), "never left behind");
    }

    #[test]
    fn a_task_whose_only_file_was_left_behind_is_lost_until_that_comes_back() {
        let mut behind = Behind::default();
        behind.note(id(1), Left::Only, WallMillis(10));
        behind.note(id(2), Left::Copy, WallMillis(10));
        assert!(behind.is_lost(id(1)) && !behind.is_lost(id(2)));
        assert_eq!(behind.lost(), 1);
        assert!(behind.seen(id(1)) && !behind.seen(id(1)) && !behind.seen(id(2)));
        assert_eq!(behind.lost(), 0);
        for number in [1, 2] {
            behind.ended(id(number));
            assert!(behind.is_back(id(number), &file(5)), "one of several");
        }
    }

    #[test]
    fn a_task_submitted_with_the_id_of_one_that_ended_is_its_own() {
        let mut behind = Behind::default();
        behind.note(id(1), Left::Ended, WallMillis(10));
        behind.submitted(id(1));
        assert!(!behind.is_back(id(1), &file(5)));
        behind.ended(id(1));
        assert!(behind.is_back(id(1), &file(5)));
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
        assert!(again.is_back(id(1), &file(20)));
        assert!(!again.housed(QueueName::default(), None), "it is somewhere");
        let mounted = QueueName::parse("mounted").unwrap();
        assert!(again.housed(mounted.clone(), home));
        assert!(again.housed(mounted, None));
        assert_eq!(again.homes(), behind.homes());
    }

    #[test]
    fn of_very_many_the_first_are_forgotten_and_no_task_is_taken_for_cancelled() {
        let mut behind = Behind::default();
        let most = 2 * COPIES as u128;
        behind.note(id(most + 20), Left::Only, WallMillis(10));
        for number in 0..most + 10 {
            behind.note(id(number), Left::Ended, WallMillis(10));
        }
        let known = behind.records().count();
        assert!(known > COPIES && known <= 2 * COPIES + 1, "{known}");
        let mut again = Behind::default();
        for record in behind.records() {
            again.recall(&record);
        }
        for behind in [&behind, &again] {
            assert!(behind.is_lost(id(most + 20)));
            assert!(behind.has_ended(id(most + 9)) && !behind.has_ended(id(0)));
        }
        for number in 0..MOST_LOST as u128 {
            behind.note(id(number), Left::Only, WallMillis(10));
        }
        assert!(behind.is_lost(id(most + 21)));
    }
}
