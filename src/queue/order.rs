//! [`Key`]: a task's place among those of its queue and state.

use crate::task::{ExecTime, Priority, State, TaskId};

/// A place in an ordered set of tasks. For ready, leased and dead tasks: higher priority first, then earlier exectime,
/// then id, which is submission order. For scheduled tasks the exectime comes first: they become due in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    major: i64,
    minor: i64,
    pub(super) id: TaskId,
}

impl Key {
    pub(super) fn new(state: State, priority: Priority, exectime: ExecTime, id: TaskId) -> Self {
        let urgency = -i64::from(priority.get());
        match state {
            State::Scheduled => Self {
                major: exectime.get(),
                minor: urgency,
                id,
            },
            State::Ready | State::Leased | State::Dead => Self {
                major: urgency,
                minor: exectime.get(),
                id,
            },
        }
    }

    /// Before every key of this priority whose exectime is `exectime` or later; for sets whose major part is the priority.
    pub(super) const fn floor(urgency: i64, exectime: i64) -> Self {
        Self {
            major: urgency,
            minor: exectime,
            id: TaskId::from_bytes([0; 16]),
        }
    }

    pub(super) const fn urgency(self) -> i64 {
        self.major
    }

    pub(super) const fn exectime(self) -> i64 {
        self.minor
    }

    /// The exectime, of a key in the set of scheduled tasks.
    pub(super) fn scheduled_for(self) -> ExecTime {
        // It was made from an `ExecTime`, so it is in range.
        ExecTime::new(self.major).unwrap_or(ExecTime::MAX)
    }
}
