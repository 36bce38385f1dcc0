//! [`TaskHistory`]: what happened to one task.

use std::sync::Arc;

use super::{EventKind, ExecTime, Priority, QueueName, WallMillis, WorkerName};

/// What happened to one task, oldest first, as far as it is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskHistory {
    /// How many of its happenings are not told any more: they stood between the first of these and the second.
    pub left_out: u64,
    /// The rest, its submission first.
    pub happenings: Vec<Happening>,
}

/// One thing that happened to a task. What does not belong to its kind is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// When; `None` where a restart came between and nothing tells.
    pub at: Option<WallMillis>,
    /// What. One of the kinds that are about a task that goes on.
    pub kind: EventKind,
    /// By which worker, where it said who it is.
    pub worker: Option<WorkerName>,
    /// In which attempt, counted as the task counts them: a retry of a dead one begins anew.
    pub attempt: Option<u32>,
    /// Why it failed.
    pub error: Option<Arc<str>>,
    /// The queue that it came to.
    pub queue: Option<QueueName>,
    /// The priority that it got.
    pub priority: Option<Priority>,
    /// The time that it got, before which it is not handed out again.
    pub exectime: Option<ExecTime>,
}

impl Happening {
    /// One with nothing to add.
    #[must_use]
    pub const fn new(kind: EventKind, at: Option<WallMillis>) -> Self {
        Self {
            at,
            kind,
            worker: None,
            attempt: None,
            error: None,
            queue: None,
            priority: None,
            exectime: None,
        }
    }

    /// About how many bytes it takes in memory. A worker's name and an error's text count though they may be shared.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.error.as_deref().map_or(0, str::len)
            + self.worker.as_ref().map_or(0, |name| name.as_str().len())
    }
}
