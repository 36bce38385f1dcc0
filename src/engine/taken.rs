//! [`Taken`]: what dropped files were taken a moment ago, by what they are and not by their names.
//!
//! A dropped file without an id is known again by its path until it has been removed. Its owner may give it another name before
//! that: then what comes under the new name is no second task, but the same file, to be removed there.

use super::lately::Lately;
use crate::task::{Source, TaskId, Tick};

/// A file, whatever its name: inode numbers are given anew, but not together with the moment of their giving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Body {
    inode: u64,
    born: i128,
    modified: i128,
    size: u64,
}

impl Body {
    fn of(source: &Source, born: Option<i128>) -> Option<Self> {
        Some(Self {
            inode: source.inode,
            born: born?,
            modified: source.modified,
            size: source.size,
        })
    }
}

/// See the [module](self). A file is removed within `spool_delay`, or a few seconds where much is to be written; whoever takes
/// it out of the directory meanwhile, and puts it back a minute after, means it as a new one.
#[derive(Debug, Default)]
pub(super) struct Taken {
    tasks: Lately<Body, TaskId>,
    /// Tasks that were cancelled by the removal of their files: if one of those comes back, that is meant.
    cancelled: Lately<TaskId, ()>,
}

impl Taken {
    /// The file was taken as this task. `born` is when it was made; a file of which that is not known is not known again.
    pub(super) fn note(&mut self, source: &Source, born: Option<i128>, id: TaskId, now: Tick) {
        self.cancelled.take(&id, now);
        if let Some(body) = Body::of(source, born) {
            self.tasks.note(body, id, now);
        }
    }

    /// The task's file was removed, which cancelled it.
    pub(super) fn forget(&mut self, id: TaskId, now: Tick) {
        self.cancelled.note(id, (), now);
    }

    /// As which task the file was taken, if it was.
    pub(super) fn task_of(
        &mut self,
        source: &Source,
        born: Option<i128>,
        now: Tick,
    ) -> Option<TaskId> {
        let id = self.tasks.get(&Body::of(source, born)?, now)?;
        self.cancelled.get(&id, now).is_none().then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(inode: u64) -> Source {
        Source {
            path: "tasks/a.json".into(),
            inode,
            modified: 7,
            size: 3,
        }
    }

    #[test]
    fn a_file_is_known_again_for_a_minute_and_by_more_than_its_inode() {
        let mut taken = Taken::default();
        let id = TaskId::from_bytes([1; 16]);
        let at = |seconds: u64| Tick(seconds * 1_000_000_000);
        taken.note(&source(1), Some(5), id, at(10));
        taken.note(&source(2), None, id, at(10));
        assert_eq!(taken.task_of(&source(1), Some(5), at(69)), Some(id));
        assert_eq!(taken.task_of(&source(1), Some(6), at(69)), None);
        assert_eq!(taken.task_of(&source(1), None, at(69)), None);
        assert_eq!(taken.task_of(&source(2), None, at(69)), None);
        assert_eq!(taken.task_of(&source(1), Some(5), at(70)), None);
    }
}
