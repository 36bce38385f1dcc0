//! [`Record`]: one change of the queue's state, as the journal keeps it and as `apply` takes it.

use std::{path::PathBuf, sync::Arc};

use super::{
    ExecTime, Millis, Options, Payload, Priority, QueueName, State, TaskId, Tick, Token,
    WallMillis, WorkerName,
};

/// One change of the queue's state.
///
/// Made by `decide`, made true by `apply`, kept by the journal, read by a restart: the only words in which floors above
/// speak of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A task was taken.
    Submitted(Arc<Submitted>),
    /// A task was handed out under a lease.
    Claimed(Claimed),
    /// A leased task was done, or a task was ended by the original's API; it is gone.
    Completed {
        /// The task.
        id: TaskId,
        /// What its worker had to say, where it is kept (retention of completed tasks).
        result: Option<Payload>,
        /// When.
        at: WallMillis,
    },
    /// An attempt failed.
    Failed {
        /// The task.
        id: TaskId,
        /// Why, in the worker's words; at most 4 KiB.
        error: Arc<str>,
        /// What becomes of the task.
        then: Then,
    },
    /// A worker gave a task back; the attempt does not count.
    Released {
        /// The task.
        id: TaskId,
    },
    /// A lease was made longer.
    Extended {
        /// The task.
        id: TaskId,
        /// Its new length from the moment of extension, which is also its full length after a reboot.
        length: Millis,
        /// Its new end.
        expires: Tick,
    },
    /// A lease came to its end without a word from its worker: a failed attempt.
    Expired {
        /// The task.
        id: TaskId,
        /// What becomes of the task.
        then: Then,
    },
    /// A task was cancelled: by a request, by the removal of its file, or by a purge. It is gone.
    Cancelled {
        /// The task.
        id: TaskId,
        /// Whether its file is no longer its own: removed by somebody, or no task by now. What lies under its name later is looked
        /// at like any file.
        gone: bool,
    },
    /// A task has a new place in the order.
    Rescheduled {
        /// The task.
        id: TaskId,
        /// Its priority from now on.
        priority: Priority,
        /// Its exectime from now on.
        exectime: ExecTime,
    },
    /// A task is in another queue, and may have a new place in the order. The queue is made where it is new.
    Moved {
        /// The task.
        id: TaskId,
        /// Its queue from now on.
        queue: QueueName,
        /// Its priority from now on.
        priority: Priority,
        /// Its exectime from now on.
        exectime: ExecTime,
    },
    /// A dead task lives again, with all its attempts before it.
    Retried {
        /// The task.
        id: TaskId,
    },
    /// A queue, or all, hands out nothing (or does so again).
    Paused {
        /// `None`: the switch for all queues.
        queue: Option<QueueName>,
        /// On or off.
        on: bool,
    },
    /// A queue, or all, takes no new tasks (or does so again).
    Draining {
        /// `None`: the switch for all queues.
        queue: Option<QueueName>,
        /// On or off.
        on: bool,
    },
    /// A queue exists, even while it is empty: it has a folder.
    Opened {
        /// The queue.
        queue: QueueName,
    },
    /// The machine was booted since the journal was last written: the boot clock starts again, and each lease gets its
    /// full length from here.
    Rebooted {
        /// The boot clock at the first start after the boot.
        tick: Tick,
    },
    /// A task known from the checkpoint or from a file's name at start.
    Restored(Box<Restored>),
    /// Where a queue's files are: those of the default queue, whose directory is that of the others too, and of those on a mount
    /// of their own. Checkpoints tell of it, and the journal where it is another directory from then on.
    Housed {
        /// The queue.
        queue: QueueName,
        /// Its directory.
        mark: DirMark,
    },
    /// A file of a task is in a directory that is not there any more, and may come back with it. Only checkpoints tell of it.
    LeftBehind {
        /// The task.
        id: TaskId,
        /// When the directory was last there at the latest.
        at: WallMillis,
        /// What is known of the task.
        left: Left,
    },
    /// A dropped file that was taken was not there to be removed, and may come back. Only checkpoints tell of it.
    DropBehind {
        /// The task that it was taken as.
        id: TaskId,
        /// Its inode.
        inode: u64,
        /// When it was last written, in nanoseconds since 1970.
        modified: i128,
        /// Its length in bytes.
        size: u64,
        /// Whether it is known where: in a directory that is not there any more.
        moved: bool,
    },
}

/// By what a directory is known again over a restart: 8 bytes of its inode, then 8 of the time when it was made, in
/// nanoseconds since 1970, or of its device's two numbers where the file system does not know that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirMark(pub [u8; 16]);

/// What is known of a task whose file was left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It has no other file: its payload comes back with that one.
    Only,
    /// It has another file, or will have one.
    Copy,
    /// It has ended: the file makes no task when it comes back.
    Ended,
    /// It has ended, and its file was not there to be removed; where that is, nobody knows yet.
    Missed,
}

/// A new task, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// Which task.
    pub id: TaskId,
    /// Whether the id was made here, not by the caller: the id source goes on from it after a restart.
    pub made_here: bool,
    /// In which queue.
    pub queue: QueueName,
    /// How urgent.
    pub priority: Priority,
    /// Not before.
    pub exectime: ExecTime,
    /// What else was asked for.
    pub options: Options,
    /// What is to be done.
    pub payload: Payload,
    /// The file it came in, where it was dropped into the task directory.
    pub source: Option<Source>,
    /// What it went through elsewhere, where it was imported.
    pub past: Option<Box<Past>>,
}

/// What an imported task went through where it was exported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// Attempts that counted.
    pub attempts: u32,
    /// Whether it was out of attempts.
    pub dead: bool,
    /// Why the last attempt failed.
    pub last_error: Option<Arc<str>>,
}

/// The identity of a dropped file, by which a restart knows that it was taken already.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its path relative to the data directory.
    pub path: PathBuf,
    /// Its inode.
    pub inode: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: i128,
    /// Its length in bytes.
    pub size: u64,
}

/// A lease given.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The task.
    pub id: TaskId,
    /// What its worker shows to end it.
    pub token: Token,
    /// By which API.
    pub kind: LeaseKind,
    /// To whom.
    pub worker: Option<WorkerName>,
    /// When, on the wall clock.
    pub at: WallMillis,
    /// How long: from the claim, and again in full after a reboot.
    pub length: Millis,
    /// Until when.
    pub expires: Tick,
}

/// By which API a lease was given: it decides who may end it without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseKind {
    /// `GET /api/next`: implicit, ended without a token.
    Legacy,
    /// `POST /api/v1/claim`.
    V1,
}

/// What becomes of a task after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another attempt, not before this time.
    Retry(ExecTime),
    /// No more attempts.
    Dead,
}

/// A task as a restart finds it: from the checkpoint with all that was known, from a file's name with what names hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// Which task.
    pub id: TaskId,
    /// In which queue.
    pub queue: QueueName,
    /// How urgent.
    pub priority: Priority,
    /// Not before.
    pub exectime: ExecTime,
    /// What else was asked for.
    pub options: Options,
    /// Attempts that counted so far, the running one included.
    pub attempts: u32,
    /// `Leased`, `Dead`, or `Ready`, which stands for ready and scheduled: the clock tells which.
    pub state: State,
    /// The lease, for a leased task.
    pub lease: Option<RestoredLease>,
    /// Why the last attempt failed.
    pub last_error: Option<Arc<str>>,
}

/// A lease as the checkpoint keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredLease {
    /// What its worker shows to end it.
    pub token: Token,
    /// By which API it was given.
    pub kind: LeaseKind,
    /// To whom.
    pub worker: Option<WorkerName>,
    /// When it was given, on the wall clock.
    pub at: WallMillis,
    /// Its full length.
    pub length: Millis,
    /// Its end on the boot clock.
    pub expires: Tick,
}

impl Record {
    /// The task that the record is about, if it is about one, and not about a file of it.
    #[must_use]
    pub fn id(&self) -> Option<TaskId> {
        match self {
            Self::Submitted(task) => Some(task.id),
            Self::Claimed(claimed) => Some(claimed.id),
            Self::Restored(task) => Some(task.id),
            Self::Completed { id, .. }
            | Self::Failed { id, .. }
            | Self::Released { id }
            | Self::Extended { id, .. }
            | Self::Expired { id, .. }
            | Self::Cancelled { id, .. }
            | Self::Rescheduled { id, .. }
            | Self::Moved { id, .. }
            | Self::Retried { id } => Some(*id),
            Self::Paused { .. }
            | Self::Draining { .. }
            | Self::Opened { .. }
            | Self::Rebooted { .. }
            | Self::Housed { .. }
            | Self::LeftBehind { .. }
            | Self::DropBehind { .. } => None,
        }
    }
}
