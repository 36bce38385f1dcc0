//! [`Past`]: what happened to tasks that did not simply wait, be claimed and be completed.
//!
//! A task's submission is told by its id and the lease that it is under by its entry, so an ordinary task costs nothing
//! here, neither while it waits nor while it runs. What is kept is in memory only. After a restart it is what the journal
//! since the last checkpoint tells, which knows the order of things and when leases began, and not when the rest was.
//!
//! It may not know: what any of it means for the task. Nothing is ever decided by it.

use std::collections::{BTreeMap, VecDeque};

use super::{Engine, by_id::ById};
use crate::{
    queue::Entry,
    task::{EventKind, Happening, Now, Record, TaskHistory, TaskId, Then},
};

/// The most that is kept of one task: the last, a little more than three attempts at each of the default number.
const MOST_EACH: usize = 32;
/// The most bytes that are kept of all. What is forgotten first is all of the task to which nothing happened for longest.
const MOST_BYTES: usize = 8 << 20;
/// About what a task's place in the tables takes, beside what happened to it.
const PLACE_BYTES: usize = 160;

/// What happened to one task, oldest first.
#[derive(Debug, Default)]
struct Kept {
    happenings: VecDeque<Happening>,
    left_out: u64,
    bytes: usize,
    /// Its place in the order of forgetting.
    turn: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Past {
    kept: ById<Kept>,
    /// By when something last happened to them.
    turns: BTreeMap<u64, TaskId>,
    next_turn: u64,
    bytes: usize,
}

impl Past {
    /// Adds what happened to a task.
    pub(super) fn note(&mut self, id: TaskId, happenings: impl IntoIterator<Item = Happening>) {
        self.note_within(MOST_BYTES, id, happenings);
    }

    fn note_within(
        &mut self,
        most_bytes: usize,
        id: TaskId,
        happenings: impl IntoIterator<Item = Happening>,
    ) {
        let turn = self.next_turn;
        self.next_turn += 1;
        let kept = self.kept.get_or_insert_with(id, Kept::default);
        if kept.bytes == 0 {
            kept.bytes = PLACE_BYTES;
            self.bytes += PLACE_BYTES;
        } else {
            self.turns.remove(&kept.turn);
        }
        kept.turn = turn;
        self.turns.insert(turn, id);
        for happening in happenings {
            kept.bytes += happening.size();
            self.bytes += happening.size();
            kept.happenings.push_back(happening);
            if kept.happenings.len() > MOST_EACH
                && let Some(oldest) = kept.happenings.pop_front()
            {
                kept.bytes -= oldest.size();
                self.bytes -= oldest.size();
                kept.left_out += 1;
            }
        }
        while self.bytes > most_bytes
            && self.turns.len() > 1
            && let Some((_, oldest)) = self.turns.pop_first()
        {
            self.forget(oldest);
        }
    }

    /// Forgets a task.
    pub(super) fn forget(&mut self, id: TaskId) {
        if self.kept.len() > 0
            && let Some(kept) = self.kept.remove(&id)
        {
            self.turns.remove(&kept.turn);
            self.bytes -= kept.bytes;
        }
    }

    /// What a start has read happened before it, and only of leases is it written when.
    pub(super) fn forget_times(&mut self) {
        for id in self.turns.values() {
            let Some(kept) = self.kept.get_mut(id) else {
                continue;
            };
            for happening in &mut kept.happenings {
                if happening.kind != EventKind::Claimed {
                    happening.at = None;
                }
            }
        }
    }

    /// What is kept of a task, between what is known of its beginning and its present.
    pub(super) fn of(
        &self,
        id: TaskId,
        first: Happening,
        present: Option<Happening>,
    ) -> TaskHistory {
        let kept = self.kept.get(&id);
        let between = kept.into_iter().flat_map(|kept| &kept.happenings).cloned();
        TaskHistory {
            left_out: kept.map_or(0, |kept| kept.left_out),
            happenings: [first].into_iter().chain(between).chain(present).collect(),
        }
    }

    /// The tasks of which something is kept.
    #[cfg(test)]
    pub(super) fn ids(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.turns.values().copied()
    }
}

impl Engine {
    /// Keeps of a record that is about to be made true what the task itself will not tell any more.
    pub(super) fn remember(&mut self, now: Now, record: &Record) {
        match record {
            Record::Completed { id, .. } | Record::Cancelled { id, .. } => self.past.forget(*id),
            // One that a caller named may have been there before.
            Record::Submitted(task) if !task.made_here => self.past.forget(task.id),
            Record::Failed { .. }
            | Record::Expired { .. }
            | Record::Released { .. }
            | Record::Rescheduled { .. }
            | Record::Moved { .. }
            | Record::Retried { .. } => self.remember_change(now, record),
            Record::Submitted(_)
            | Record::Claimed(_)
            | Record::Extended { .. }
            | Record::Paused { .. }
            | Record::Draining { .. }
            | Record::Opened { .. }
            | Record::Rebooted { .. }
            | Record::Restored(_)
            | Record::Housed { .. }
            | Record::LeftBehind { .. }
            | Record::DropBehind { .. } => {}
        }
    }

    fn remember_change(&mut self, now: Now, record: &Record) {
        let Some((id, entry)) = record.id().and_then(|id| Some((id, self.queue.get(id)?))) else {
            return;
        };
        let new = |kind| Happening::new(kind, Some(now.wall));
        let ended = |kind| Happening {
            worker: entry.lease().and_then(|lease| lease.worker.clone()),
            attempt: Some(entry.attempts),
            ..new(kind)
        };
        let failed = |kind, then: &Then| match then {
            Then::Dead => ended(EventKind::Dead),
            Then::Retry(exectime) => Happening {
                exectime: (*exectime != entry.exectime).then_some(*exectime),
                ..ended(kind)
            },
        };
        let happening = match record {
            Record::Failed { error, then, .. } => Happening {
                error: Some(error.clone()),
                ..failed(EventKind::Failed, then)
            },
            Record::Expired { then, .. } => Happening {
                error: Some("the lease expired".into()),
                ..failed(EventKind::Expired, then)
            },
            Record::Released { .. } => ended(EventKind::Released),
            Record::Rescheduled {
                priority, exectime, ..
            } => Happening {
                priority: (*priority != entry.priority).then_some(*priority),
                exectime: (*exectime != entry.exectime).then_some(*exectime),
                ..new(EventKind::Rescheduled)
            },
            Record::Moved {
                queue,
                priority,
                exectime,
                ..
            } => Happening {
                queue: Some(queue.clone()),
                priority: (*priority != entry.priority).then_some(*priority),
                exectime: (*exectime != entry.exectime).then_some(*exectime),
                ..new(EventKind::Moved)
            },
            Record::Retried { .. } => new(EventKind::Retried),
            _ => return,
        };
        let claimed = claimed(entry);
        self.past.note(id, claimed.into_iter().chain([happening]));
    }

    /// What happened to a task, as far as it is known.
    pub(super) fn history_of(&self, id: TaskId) -> Option<TaskHistory> {
        let entry = self.queue.get(id)?;
        let submitted = Happening::new(EventKind::Submitted, id.made_at());
        Some(self.past.of(id, submitted, claimed(entry)))
    }
}

/// The lease that a task is under.
fn claimed(entry: &Entry) -> Option<Happening> {
    let lease = entry.lease()?;
    Some(Happening {
        worker: lease.worker.clone(),
        attempt: Some(entry.attempts),
        ..Happening::new(EventKind::Claimed, Some(lease.at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::WallMillis;

    fn id(number: u32) -> TaskId {
        TaskId::from_bytes(u128::from(number).to_be_bytes())
    }

    fn failed(at: i64, error: &str) -> Happening {
        Happening {
            error: Some(error.into()),
            ..Happening::new(EventKind::Failed, Some(WallMillis(at)))
        }
    }

    fn times(past: &Past, number: u32) -> (u64, Vec<i64>) {
        let first = Happening::new(EventKind::Submitted, Some(WallMillis(-1)));
        let history = past.of(id(number), first, None);
        let at = |happening: &Happening| happening.at.map_or(-2, |at| at.0);
        (
            history.left_out,
            history.happenings.iter().map(at).collect(),
        )
    }

    #[test]
    fn of_one_task_the_last_is_kept_and_the_rest_counted() {
        let mut past = Past::default();
        for at in 0..40 {
            past.note(id(1), [failed(at, "e")]);
        }
        let expected: Vec<i64> = [-1].into_iter().chain(8..40).collect();
        assert_eq!(times(&past, 1), (8, expected));
    }

    #[test]
    fn of_all_tasks_those_to_which_something_happened_last_are_kept() {
        let mut past = Past::default();
        let each = PLACE_BYTES + failed(0, "error").size();
        for number in 0..10 {
            past.note_within(each * 4, id(number), [failed(i64::from(number), "error")]);
            // To the first something happens again and again: it stays.
            if number > 0 {
                past.forget(id(0));
                past.note_within(each * 4, id(0), [failed(100, "error")]);
            }
        }
        let kept: Vec<u32> = (0..10).filter(|n| times(&past, *n).1.len() > 1).collect();
        assert_eq!(kept, [0, 7, 8, 9]);
        assert_eq!(past.bytes, each * 4);
        assert_eq!(past.ids().count(), past.kept.len());
    }

    #[test]
    fn one_that_is_larger_than_all_may_be_is_kept_alone() {
        let mut past = Past::default();
        past.note_within(10, id(1), [failed(1, "error")]);
        past.note_within(10, id(2), [failed(2, "error")]);
        assert_eq!(times(&past, 1).1, [-1]);
        assert_eq!(times(&past, 2).1, [-1, 2]);
    }

    #[test]
    fn what_is_forgotten_leaves_nothing() {
        let mut past = Past::default();
        for number in 0..100 {
            past.note(id(number), [failed(0, "a"), failed(1, "b")]);
        }
        for number in 0..100 {
            past.forget(id(number));
            past.forget(id(number));
        }
        assert_eq!((past.bytes, past.kept.len(), past.turns.len()), (0, 0, 0));
    }

    #[test]
    fn a_start_knows_of_leases_alone_when_they_began() {
        let mut past = Past::default();
        let claimed = Happening::new(EventKind::Claimed, Some(WallMillis(5)));
        past.note(id(1), [claimed, failed(6, "error")]);
        past.forget_times();
        assert_eq!(times(&past, 1).1, [-1, 5, -2]);
    }
}
