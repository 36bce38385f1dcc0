//! [`Failing`]: changes of task files that fail, for whatever reason but room: each is told once, not at each try, and is
//! tried again less and less often. Pure bookkeeping.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::task::{Millis, TaskId};

/// How long a change that failed rests at first, and at most: each time twice as long. Whoever mends what is wrong waits no
/// longer than that for the file.
pub(super) const FIRST: Millis = Millis(1000);
const LONGEST: Millis = Millis(30_000);

/// Changes that failed and are not made yet, by task.
#[derive(Debug, Default)]
pub(super) struct Failing {
    files: HashMap<TaskId, Failure, FixedState>,
}

#[derive(Debug)]
struct Failure {
    pause: Millis,
    /// Why, as it was told; `None`: for want of room, which is told of the queue.
    reason: Option<Arc<str>>,
}

impl Failing {
    /// The change of a task's file failed. Gives how long it rests, and whether the reason is news.
    pub(super) fn failed(&mut self, id: TaskId, reason: &Arc<str>) -> (Millis, bool) {
        let failure = self.files.entry(id).or_insert(Failure {
            pause: FIRST,
            reason: None,
        });
        let pause = failure.pause;
        failure.pause = Millis((pause.0 * 2).min(LONGEST.0));
        let is_new = failure.reason.as_ref() != Some(reason);
        failure.reason = Some(Arc::clone(reason));
        (pause, is_new)
    }

    /// The change of a task's file found no room: should it fail for another reason next, that one begins anew.
    pub(super) fn roomless(&mut self, id: TaskId) {
        let failure = Failure {
            pause: FIRST,
            reason: None,
        };
        self.files.insert(id, failure);
    }

    /// The change is made, or is not needed any more. Gives whether its failure was told.
    pub(super) fn made(&mut self, id: TaskId) -> bool {
        let failure = self.files.remove(&id);
        if self.files.is_empty() {
            // After a folder with many files was out of reach.
            self.files.shrink_to(0);
        }
        failure.is_some_and(|failure| failure.reason.is_some())
    }

    /// Which tasks' changes failed and are not made yet.
    pub(super) fn ids(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.files.keys().copied()
    }

    /// How many changes failed and are not made yet.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_fails_again_and_again_is_news_once_and_rests_longer_each_time() {
        let (a, b) = (TaskId::from_bytes([1; 16]), TaskId::from_bytes([2; 16]));
        let (denied, broken) = (Arc::from("permission denied"), Arc::from("I/O error"));
        let mut failing = Failing::default();
        let told: Vec<(u64, bool)> = (0..7)
            .map(|_| failing.failed(a, &denied))
            .map(|(pause, is_new)| (pause.0, is_new))
            .collect();
        let pauses = [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        let news = [true, false, false, false, false, false, false];
        assert_eq!(told, pauses.into_iter().zip(news).collect::<Vec<_>>());
        assert_eq!(
            failing.failed(a, &broken),
            (LONGEST, true),
            "another reason"
        );
        assert_eq!(failing.failed(b, &denied), (FIRST, true), "another file");
        assert_eq!(failing.len(), 2);
    }

    #[test]
    fn only_what_fails_now_is_counted() {
        let (a, b) = (TaskId::from_bytes([1; 16]), TaskId::from_bytes([2; 16]));
        let denied = Arc::from("permission denied");
        let mut failing = Failing::default();
        failing.failed(a, &denied);
        failing.roomless(b);
        assert_eq!(failing.len(), 2);
        assert!(failing.made(a));
        assert!(!failing.made(b), "its queue is told of");
        assert!(!failing.made(a));
        assert_eq!(failing.len(), 0);
        assert_eq!(failing.failed(a, &denied), (FIRST, true), "anew");
    }
}
