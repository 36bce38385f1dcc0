//! [`Taken`]: what dropped files were taken a moment ago, by what they are and not by their names.
//!
//! A dropped file without an id is known again by its path until it has been removed. Its owner may give it another name before
//! that: then what comes under the new name is no second task, but the same file, to be removed there.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::task::{Millis, Source, TaskId, Tick};

/// How long a file is known again. It is removed within `spool_delay`, or a few seconds where much is to be written; whoever
/// takes it out of the directory meanwhile, and puts it back after this, means it as a new one.
const KNOWN: Millis = Millis::from_secs(60);
/// How many are known again: some megabytes.
const MOST: usize = 1 << 16;

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

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Taken {
    tasks: HashMap<Body, (TaskId, Tick), FixedState>,
    order: VecDeque<(Tick, Body)>,
}

impl Taken {
    /// The file was taken as this task. `born` is when it was made; a file of which that is not known is not known again.
    pub(super) fn note(&mut self, source: &Source, born: Option<i128>, id: TaskId, now: Tick) {
        let Some(body) = Body::of(source, born) else {
            return;
        };
        self.forget_old(now);
        self.tasks.insert(body, (id, now));
        self.order.push_back((now, body));
    }

    /// As which task the file was taken, if it was.
    pub(super) fn task_of(
        &mut self,
        source: &Source,
        born: Option<i128>,
        now: Tick,
    ) -> Option<TaskId> {
        self.forget_old(now);
        let body = Body::of(source, born)?;
        self.tasks.get(&body).map(|(id, _)| *id)
    }

    fn forget_old(&mut self, now: Tick) {
        while let Some((at, body)) = self
            .order
            .pop_front_if(|(at, _)| at.plus(KNOWN) <= now || self.tasks.len() > MOST)
        {
            // Noted again since: then a later place in the order is its.
            if self.tasks.get(&body).is_some_and(|(_, last)| *last == at) {
                self.tasks.remove(&body);
            }
        }
        if self.order.is_empty() && self.tasks.capacity() > 1024 {
            (self.tasks, self.order) = <_>::default();
        }
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
        taken.note(&source(1), Some(5), id, at(69));
        assert_eq!(taken.task_of(&source(1), Some(5), at(128)), Some(id));
        assert_eq!(taken.task_of(&source(1), Some(5), at(129)), None);
        assert!(taken.tasks.is_empty() && taken.order.is_empty());
    }

    #[test]
    fn of_very_many_files_the_oldest_are_forgotten() {
        let mut taken = Taken::default();
        for inode in 0..MOST as u64 + 100 {
            taken.note(
                &source(inode),
                Some(5),
                TaskId::from_bytes([1; 16]),
                Tick(0),
            );
        }
        assert!(taken.tasks.len() <= MOST + 1);
        assert_eq!(taken.task_of(&source(0), Some(5), Tick(0)), None);
        assert!(
            taken
                .task_of(&source(MOST as u64), Some(5), Tick(0))
                .is_some()
        );
    }
}
