//! [`Settings`]: what the engine holds itself to, and which of that may change while it runs.

use super::Engine;
use crate::{queue::Limits, store::DropLimits, task::Millis};

/// When a change counts as made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk: nothing that was answered is lost, whatever happens.
    Sync,
    /// When the kernel has it; it is on the disk at most this much later. A crash of the machine loses at most that, a
    /// crash of the daemon nothing.
    Interval(Millis),
    /// When the kernel has it, and the disk when the kernel likes. A crash of the machine loses what it had not written.
    None,
}

impl Durability {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Interval(_) => "interval",
            Self::None => "none",
        }
    }
}

/// What the engine holds itself to; the numbers come from `config`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// When a change counts as made.
    pub durability: Durability,
    /// How long a change may stay only in the journal before its file follows.
    pub spool_delay: Millis,
    /// Bytes of payloads that are kept in memory when their files are written.
    pub payload_cache: u64,
    /// Bytes in the journal after which a checkpoint is made; a sixteenth of it where all has been quiet for five seconds.
    pub checkpoint_bytes: u64,
    /// Size of a journal segment.
    pub segment_bytes: u64,
    /// How many file changes may wait before submits do.
    pub max_pending_files: usize,
    /// How long files of completed tasks are kept; zero: not at all.
    pub retain_done: Millis,
    /// How many claims may wait.
    pub max_waiting: usize,
    /// How many bytes of memory those may take, about.
    pub max_waiting_bytes: u64,
    /// How many workers are remembered.
    pub max_workers: usize,
    /// Bytes of payloads that all tasks may have; `None`: any number.
    pub max_spool: Option<u64>,
    /// What the queue holds itself to.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            spool_delay: Millis(100),
            payload_cache: 256 << 20,
            checkpoint_bytes: 64 << 20,
            segment_bytes: 4 << 20,
            max_pending_files: 100_000,
            retain_done: Millis(0),
            max_waiting: 20_000,
            max_waiting_bytes: u64::MAX,
            max_workers: 10_000,
            max_spool: None,
            limits: Limits::default(),
        }
    }
}

/// Those of the [`Settings`] that can change while the engine runs.
#[derive(Debug, Clone)]
pub struct Live {
    /// As in [`Settings`], and so on.
    pub spool_delay: Millis,
    /// Smaller takes effect as payloads' files are written.
    pub payload_cache: u64,
    /// Looked at with the next record.
    pub checkpoint_bytes: u64,
    /// For tasks that complete from now on, and for files that are there.
    pub retain_done: Millis,
    /// For claims from now on.
    pub max_waiting: usize,
    /// See [`Settings`].
    pub max_waiting_bytes: u64,
    /// For workers that are new from now on.
    pub max_workers: usize,
    /// Bytes of memory above which no new task is taken; `None`: no limit.
    pub max_memory: Option<u64>,
    /// Bytes of submitted tasks that may wait for an answer.
    pub max_submitting: u64,
    /// For tasks and claims from now on.
    pub limits: Limits,
    /// For files that are read from now on.
    pub drops: DropLimits,
}

impl Engine {
    pub(super) fn set_live(&mut self, live: Live) {
        self.settings.spool_delay = live.spool_delay;
        self.settings.payload_cache = live.payload_cache;
        self.settings.checkpoint_bytes = live.checkpoint_bytes;
        self.settings.retain_done = live.retain_done;
        self.settings.max_waiting = live.max_waiting;
        self.settings.max_waiting_bytes = live.max_waiting_bytes;
        self.settings.max_workers = live.max_workers;
        self.workers.set_most(live.max_workers);
        self.settings.limits = live.limits.clone();
        self.kept.look_again();
        self.queue.set_limits(live.limits);
        // Looked at again at once: the old time belongs to the old length.
        self.next_purge = None;
    }
}
