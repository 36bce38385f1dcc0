//! [`Refusal`]: the caller's matter.

use super::{QueueName, State, TaskId};

/// Why a request was not done, when the reason is the caller's matter and not a defect of ours or of the disk.
///
/// Nothing has changed when a refusal is returned. The transports render each as one problem document with a stable type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field is malformed, out of range or unknown.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field as the caller wrote it, with its path where it is nested (`tasks[3].priority`).
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// What came is not JSON.
    #[error("not JSON: {reason} at line {line}, column {column}")]
    Malformed {
        /// The line of the first byte that is wrong; 1 is the first.
        line: usize,
        /// Its column in bytes; 1 is the first.
        column: usize,
        /// What was expected.
        reason: String,
    },
    /// No unfinished or dead task has this id.
    #[error("no task {0}")]
    NoSuchTask(TaskId),
    /// The task is in another queue than the one that it was said to be in.
    #[error("task {0} has just been moved to another queue")]
    Moved(TaskId),
    /// No queue has this name.
    #[error("no queue {0}")]
    NoSuchQueue(QueueName),
    /// No rejected file has this name.
    #[error("no rejected file is called {0:?}")]
    NoSuchFile(String),
    /// A rejected file can't go back: the task directory has one of its name.
    #[error("a file called {0:?} lies in the task directory; rename one of them")]
    FileInUse(String),
    /// A file is out of reach just now, and what was asked for needs it.
    #[error("{what}: {reason}")]
    OutOfReach {
        /// What was to be done.
        what: Box<str>,
        /// Why that can't be.
        reason: Box<str>,
    },
    /// The token is not that of the task's current lease: it expired, ended, or was another's.
    #[error("task {0}: the token is not that of its current lease")]
    StaleToken(TaskId),
    /// The task is leased, and what was asked for would take it from its worker.
    #[error("task {0} is leased; it can be changed when its lease has ended")]
    Leased(TaskId),
    /// The task is not in a state in which that can be done.
    #[error("task {id} is {state}; {wanted}")]
    WrongState {
        /// The task.
        id: TaskId,
        /// The state it is in.
        state: State,
        /// What the request needs, as a clause ("only a dead task can be retried").
        wanted: &'static str,
    },
    /// The id is in use by a task with other content.
    #[error("id: {0} is already the id of a task with other content")]
    IdInUse(TaskId),
    /// Another unfinished task of the queue holds the unique key.
    #[error("unique_key: task {0} holds it")]
    UniqueKeyInUse(TaskId),
    /// A payload is larger than the limit.
    #[error("{field}: {size} bytes, the limit is {limit} (max_payload)")]
    TooLarge {
        /// Which part is too large (`payload`, `result`).
        field: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A payload has arrays and objects in each other deeper than the limit.
    #[error("{field}: nested deeper than {limit} arrays and objects (max_depth)")]
    TooDeep {
        /// Which part (`payload`, `result`).
        field: String,
        /// The limit.
        limit: usize,
    },
    /// A configured limit on how many there may be is reached.
    #[error("{what}: the limit of {limit} ({setting}) is reached")]
    TooMany {
        /// What there are too many of ("queues").
        what: &'static str,
        /// The setting that says so.
        setting: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A queue has as many tasks as it may.
    #[error("queue {queue}: the limit of {limit} tasks a queue (max_queue_tasks) is reached")]
    QueueTooLong {
        /// The queue.
        queue: QueueName,
        /// The limit.
        limit: u64,
    },
    /// As many wait, or are in the making, as may: waiting a moment helps.
    #[error("{what}: the limit of {limit} ({setting}) is reached; try again soon")]
    TooManyAtOnce {
        /// What there is too much of.
        what: &'static str,
        /// The setting that says so.
        setting: &'static str,
        /// Its value.
        limit: u64,
    },
    /// The daemon takes as much memory as it may. Tasks already taken can still end.
    #[error(
        "memory: {used} bytes are in use, the limit is {limit} (max_memory); no new task is taken until there is less"
    )]
    NoMemory {
        /// Bytes in use.
        used: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The queue, or the whole daemon, is draining: it takes no new tasks.
    #[error("{}", draining_text(.0.as_ref()))]
    Draining(Option<QueueName>),
    /// The disk has no room for a new task. Tasks already taken can still end.
    #[error(
        "the disk is full, a file may not grow as large, or no more files may be opened: no new task is taken until there is room"
    )]
    NoRoom,
    /// The files of a queue find no room: the disk is full, or the queue's directory is. Its tasks can still end, and
    /// other queues go on.
    #[error(
        "queue {0}: there is no room for its files, the disk or its directory is full; no new task of it is taken until there is"
    )]
    QueueFull(QueueName),
    /// More requests wait than the daemon is willing to hold.
    #[error("too many requests wait; try again soon")]
    Busy,
    /// Too many tasks wait for their files, and these are not written, or not quickly enough.
    #[error(
        "too many tasks wait for their files to be written, which takes too long or fails: workqueuectl status says more"
    )]
    FilesLag,
    /// An export runs already: what it has still to tell is in memory.
    #[error("another export runs; try again when it has ended")]
    ExportRuns,
    /// The daemon is stopping and takes nothing new.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Refusal {
    /// A field is wrong, and why.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same refusal with `prefix` before its field, for a value nested in an array or object.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        let nest = |field: String| {
            if field.starts_with('[') || field.is_empty() {
                format!("{prefix}{field}")
            } else {
                format!("{prefix}.{field}")
            }
        };
        match self {
            Self::Invalid { field, reason } => Self::Invalid {
                field: nest(field),
                reason,
            },
            Self::TooLarge { field, size, limit } => Self::TooLarge {
                field: nest(field),
                size,
                limit,
            },
            Self::TooDeep { field, limit } => Self::TooDeep {
                field: nest(field),
                limit,
            },
            other => other,
        }
    }
}

fn draining_text(queue: Option<&QueueName>) -> String {
    match queue {
        Some(name) => format!("queue {name} is draining and takes no new tasks"),
        None => "the daemon is draining and takes no new tasks".to_owned(),
    }
}
