//! [`Taken`]: what dropped files were taken a moment ago, or have been taken and not removed yet: by what they are, and not by
//! their names or times.
//!
//! A dropped file without an id is known again by its path until it has been removed. Its owner may give it another name before
//! that, or set its times, as whoever copies or unpacks a file does when he has written it: then what comes is no second task,
//! but the same file, to be removed as it is now.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{drops::Dropped, lately::Lately, latest::Latest};
use crate::{
    store::Digest,
    task::{Now, Record, Source, TaskId, Tick, WallMillis},
};

/// How many are pending before those whose files have been removed are looked for.
const LEAST_PENDING: usize = 1024;
/// How many files in directories that are not there any more are remembered at least: twice as many take some 5 MiB.
const BEHIND: usize = 1 << 14;

/// A file that was dropped, whatever its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct DropFile {
    inode: u64,
    size: u64,
    modified: i128,
    born: Option<i128>,
    content: Digest,
    /// The id in it.
    id: Option<TaskId>,
}

impl DropFile {
    pub(super) const fn of(dropped: &Dropped) -> Self {
        let Source {
            inode,
            size,
            modified,
            ..
        } = dropped.source;
        Self {
            inode,
            size,
            modified,
            born: dropped.born,
            content: dropped.content,
            id: dropped.task.id,
        }
    }

    /// As what it may be known, the best first.
    fn bodies(self) -> impl Iterator<Item = Body> {
        let moments = [
            self.born.map(Moment::Born),
            Some(Moment::Written(self.modified)),
        ];
        moments.into_iter().flatten().map(move |moment| Body {
            inode: self.inode,
            size: self.size,
            moment,
        })
    }

    /// Whether it can be the file that this task was made from, of which the journal does not know when it was born: one that was
    /// made after the task, or since that file was `there`, is another one, with the same inode and the times of what it is a
    /// copy of. So is one with another id in it.
    fn is_older_than(self, id: TaskId, there: WallMillis) -> bool {
        if let Some(own) = self.id {
            return own == id;
        }
        // An id that somebody gave says nothing of when, or something untrue.
        let there = id.made_at().map_or(there, |made| made.min(there));
        let born = self.born.map(|born| born.div_euclid(1_000_000));
        born.is_none_or(|born| born <= i128::from(there.0))
    }
}

/// By what a file is known again: inode numbers are given anew, but not together with the moment of their giving; where
/// nobody knows that one, with that of the last writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Body {
    inode: u64,
    size: u64,
    moment: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Moment {
    Born(i128),
    Written(i128),
}

impl Body {
    /// What the journal knows of a file.
    const fn of(source: &Source) -> Self {
        Self {
            inode: source.inode,
            size: source.size,
            moment: Moment::Written(source.modified),
        }
    }
}

/// What is known of a file that was taken.
#[derive(Debug, Clone, Copy)]
struct Mark {
    id: TaskId,
    read: Reading,
}

/// What is known of a file beside its [`Body`].
#[derive(Debug, Clone, Copy)]
enum Reading {
    /// It was read in this life.
    Now(Digest),
    /// A former life read it; it was there before this moment.
    Before(WallMillis),
}

impl Mark {
    /// Of a file that a former life read, or of which no more is kept, and that was there before `now`.
    const fn before(id: TaskId, now: Now) -> Self {
        let read = Reading::Before(now.wall);
        Self { id, read }
    }

    fn is_of(self, file: DropFile) -> bool {
        match self.read {
            Reading::Now(content) => content == file.content,
            Reading::Before(there) => file.is_older_than(self.id, there),
        }
    }
}

/// See the [module](self). A file is removed within `spool_delay`, or a few seconds where much is to be written; whoever takes
/// it out of the directory meanwhile, and puts it back a minute after, means it as a new one. One that can't be removed stays
/// what it is.
#[derive(Debug)]
pub(super) struct Taken {
    tasks: Lately<Body, Mark>,
    /// Those that were to be removed when they were taken. Some have been since: whoever asks says whether that is so.
    pending: HashMap<Body, Mark, FixedState>,
    /// How many may be pending before those that are not are let go.
    most_pending: usize,
    /// Tasks that were cancelled by the removal of their files: if one of those comes back, that is meant.
    cancelled: Lately<TaskId, ()>,
    /// Those that were not there to be removed.
    missed: Lately<Body, Mark>,
    /// Those that are in a directory that is not there any more.
    behind: Latest<Body, Mark>,
}

impl Default for Taken {
    fn default() -> Self {
        Self {
            tasks: Lately::default(),
            pending: HashMap::default(),
            most_pending: 0,
            cancelled: Lately::default(),
            missed: Lately::default(),
            behind: Latest::of(BEHIND),
        }
    }
}

impl Taken {
    /// The file was taken as this task. `is_there` tells whether a dropped file of a task is still to be removed.
    pub(super) fn note(
        &mut self,
        file: DropFile,
        id: TaskId,
        now: Tick,
        is_there: impl Fn(TaskId) -> bool,
    ) {
        self.cancelled.take(&id, now);
        let read = Reading::Now(file.content);
        let Some(body) = file.bodies().next() else {
            return;
        };
        let mark = Mark { id, read };
        // Once it has been removed, one that has the same inode and times, and even content, may well be another one.
        if matches!(body.moment, Moment::Born(_)) {
            self.tasks.note(body, mark, now);
        }
        self.wait_for(body, mark, is_there);
    }

    /// A former life took the file as this task, and has not removed it.
    pub(super) fn recall(
        &mut self,
        source: &Source,
        id: TaskId,
        now: Now,
        is_there: impl Fn(TaskId) -> bool,
    ) {
        let body = Body::of(source);
        let mark = Mark::before(id, now);
        // The removal may come before the look through the directory that finds it by another name.
        self.tasks.note(body, mark, now.tick);
        self.wait_for(body, mark, is_there);
    }

    fn wait_for(&mut self, body: Body, mark: Mark, is_there: impl Fn(TaskId) -> bool) {
        if self.pending.len() >= self.most_pending.max(LEAST_PENDING) {
            self.pending.retain(|_, mark| is_there(mark.id));
            self.most_pending = self.pending.len() * 2;
            self.pending.shrink_to(self.most_pending);
        }
        if is_there(mark.id) {
            self.pending.insert(body, mark);
        }
    }

    /// The file was not there to be removed. `moved`: by all signs, because another directory is.
    pub(super) fn went_astray(&mut self, source: &Source, id: TaskId, moved: bool, now: Now) {
        self.missed_file(Body::of(source), id, moved, now);
    }

    fn missed_file(&mut self, body: Body, id: TaskId, moved: bool, now: Now) {
        let mark = Mark::before(id, now);
        if moved {
            self.behind.note(body, mark);
        } else {
            self.missed.note(body, mark, now.tick);
        }
    }

    /// Another directory is where files were: those that were missed lately were in the former one.
    pub(super) fn moved(&mut self, now: Tick) {
        for (body, id) in self.missed.iter(now) {
            self.behind.note(body, id);
        }
    }

    /// For a checkpoint.
    pub(super) fn records(&self, now: Tick) -> impl Iterator<Item = Record> {
        let missed = self
            .missed
            .iter(now)
            .map(|(body, mark)| (body, mark, false));
        let behind = self.behind.iter().map(|(body, mark)| (body, mark, true));
        behind.chain(missed).filter_map(|(body, mark, moved)| {
            let Moment::Written(modified) = body.moment else {
                return None;
            };
            Some(Record::DropBehind {
                id: mark.id,
                inode: body.inode,
                modified,
                size: body.size,
                moved,
            })
        })
    }

    /// A checkpoint tells of it.
    pub(super) fn recall_missed(&mut self, record: &Record, now: Now) {
        if let Record::DropBehind {
            id,
            inode,
            modified,
            size,
            moved,
        } = *record
        {
            let moment = Moment::Written(modified);
            let body = Body {
                inode,
                size,
                moment,
            };
            self.missed_file(body, id, moved, now);
        }
    }

    /// The task's file was removed, which cancelled it.
    pub(super) fn forget(&mut self, id: TaskId, now: Tick) {
        self.cancelled.note(id, (), now);
    }

    /// As which task the file was taken, if it was.
    pub(super) fn task_of(
        &mut self,
        file: DropFile,
        now: Tick,
        is_there: impl Fn(TaskId) -> bool,
    ) -> Option<TaskId> {
        let known = file.bodies().find_map(|body| {
            let pending = self.pending.get(&body).copied();
            let pending = pending.filter(|mark| is_there(mark.id));
            let mark = pending.or_else(|| self.tasks.get(&body, now));
            let mark = mark.or_else(|| self.missed.get(&body, now));
            let mark = mark.or_else(|| self.behind.get(&body));
            mark.filter(|mark| mark.is_of(file))
        });
        let id = known?.id;
        self.cancelled.get(&id, now).is_none().then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::IdSource;

    fn file(inode: u64, born: Option<i128>) -> DropFile {
        DropFile {
            inode,
            size: 3,
            modified: 7,
            born,
            content: Digest::of(b"one"),
            id: None,
        }
    }

    fn source(inode: u64) -> Source {
        Source {
            path: "tasks/a.json".into(),
            inode,
            modified: 7,
            size: 3,
        }
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000_000)
    }

    /// By both clocks.
    fn now(seconds: u64) -> Now {
        Now {
            wall: WallMillis(seconds as i64 * 1000),
            tick: at(seconds),
        }
    }

    const ID: TaskId = TaskId::from_bytes([1; 16]);

    #[test]
    fn a_file_is_known_again_for_a_minute_and_by_more_than_its_inode() {
        let mut taken = Taken::default();
        let gone = |_| false;
        taken.note(file(1, Some(5)), ID, at(10), gone);
        taken.note(file(2, None), ID, at(10), gone);
        assert_eq!(taken.task_of(file(1, Some(5)), at(69), gone), Some(ID));
        assert_eq!(taken.task_of(file(1, Some(6)), at(69), gone), None);
        assert_eq!(taken.task_of(file(1, None), at(69), gone), None);
        assert_eq!(taken.task_of(file(2, None), at(69), gone), None);
        assert_eq!(taken.task_of(file(1, Some(5)), at(70), gone), None);
    }

    #[test]
    fn a_file_is_the_same_with_another_time_and_not_with_another_content() {
        let mut taken = Taken::default();
        taken.note(file(1, Some(5)), ID, at(10), |_| true);
        let mut later = file(1, Some(5));
        later.modified = 8;
        assert_eq!(taken.task_of(later, at(11), |_| true), Some(ID));
        later.content = Digest::of(b"two");
        assert_eq!(taken.task_of(later, at(11), |_| true), None);
    }

    #[test]
    fn a_file_that_can_not_be_removed_is_known_for_as_long_as_that_lasts() {
        let mut taken = Taken::default();
        for (inode, born) in [(1, Some(5)), (2, None)] {
            taken.note(file(inode, born), ID, at(10), |_| true);
            let found = taken.task_of(file(inode, born), at(10_000), |_| true);
            assert_eq!(found, Some(ID), "{inode}");
            assert_eq!(
                taken.task_of(file(inode, born), at(10_000), |_| false),
                None
            );
        }
    }

    #[test]
    fn of_those_that_wait_to_be_removed_no_more_are_kept_than_there_are() {
        let mut taken = Taken::default();
        for inode in 0..100_000_u64 {
            let id = TaskId::from_bytes(u128::from(inode).to_be_bytes());
            let last = TaskId::from_bytes(u128::from(inode.saturating_sub(9)).to_be_bytes());
            taken.note(file(inode, Some(5)), id, at(10), |id| id >= last);
        }
        assert!(taken.pending.len() <= LEAST_PENDING);
        assert!(taken.pending.capacity() < 4 * LEAST_PENDING);
    }

    #[test]
    fn what_a_former_life_took_is_known_by_its_time_unless_it_was_made_after_its_task() {
        let mut taken = Taken::default();
        let id = IdSource::default().make(WallMillis(1000), 1);
        taken.recall(&source(1), id, now(10), |_| true);
        let found = |taken: &mut Taken, file| taken.task_of(file, at(10_000), |_| true);
        for born in [None, Some(1_000_999_999), Some(5)] {
            assert_eq!(found(&mut taken, file(1, born)), Some(id), "{born:?}");
        }
        assert_eq!(found(&mut taken, file(1, Some(1_001_000_000))), None);
        assert_eq!(found(&mut taken, file(2, None)), None);
        let mut later = file(1, None);
        later.modified = 8;
        assert_eq!(found(&mut taken, later), None);
    }

    #[test]
    fn a_file_that_went_with_its_directory_is_known_when_that_comes_back_also_after_a_restart() {
        let id = IdSource::default().make(WallMillis(1000), 1);
        let mut taken = Taken::default();
        for (inode, moved) in [(1, true), (2, false)] {
            taken.went_astray(&source(inode), id, moved, now(10));
        }
        let mut again = Taken::default();
        for record in taken.records(at(10)) {
            again.recall_missed(&record, now(20));
        }
        let found =
            |taken: &mut Taken, inode, at| taken.task_of(file(inode, Some(5)), at, |_| false);
        for taken in [&mut taken, &mut again] {
            assert_eq!(found(taken, 2, at(69)), Some(id));
            assert_eq!(found(taken, 1, at(10_000)), Some(id));
            assert_eq!(found(taken, 2, at(10_000)), None);
            assert_eq!(found(taken, 3, at(10_000)), None);
            let copy = file(1, Some(1_001_000_000));
            assert_eq!(
                taken.task_of(copy, at(10_000), |_| false),
                None,
                "made since"
            );
        }
    }

    #[test]
    fn what_was_missed_before_another_directory_was_found_is_in_the_former_one() {
        let mut taken = Taken::default();
        taken.went_astray(&source(1), ID, false, now(10));
        taken.moved(at(20));
        let found = taken.task_of(file(1, None), at(10_000), |_| false);
        assert_eq!(found, Some(ID));
    }

    #[test]
    fn a_file_made_since_or_with_another_id_is_not_the_one_of_a_task_whose_id_says_nothing_of_when()
    {
        let (id, far) = (
            ID,
            IdSource::default().make(WallMillis(i64::from(u32::MAX)), 1),
        );
        for id in [id, far] {
            let mut taken = Taken::default();
            taken.recall(&source(1), id, now(10), |_| true);
            taken.went_astray(&source(2), id, false, now(10));
            taken.went_astray(&source(3), id, true, now(10));
            for inode in 1..=3 {
                let mut found = |file| taken.task_of(file, at(11), |_| true);
                let before = file(inode, Some(9_999_999_999));
                assert_eq!(found(before), Some(id), "{inode}");
                assert_eq!(found(file(inode, Some(10_001_000_000))), None, "{inode}");
                let other = TaskId::from_bytes([2; 16]);
                for (own, expected) in [(id, Some(id)), (other, None)] {
                    let own = Some(own);
                    assert_eq!(found(DropFile { id: own, ..before }), expected, "{inode}");
                }
            }
        }
    }
}
