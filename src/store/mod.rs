//! What is on the disk: journal, checkpoint, spool, rejected files, watcher.
//!
//! This floor may not know: the queue's rules (when a task is due, who may end a lease), HTTP, or who calls it. It knows
//! tasks by [`crate::task`] only.

mod carry;
mod checkpoint;
mod data_dir;
mod dir_id;
mod disk;
#[cfg(test)]
mod golden_tests;
mod held;
mod holder;
mod journal;
mod latch;
mod lock;
#[cfg(test)]
mod memory_disk;
mod mounts;
mod own;
mod read_only;
mod real_disk;
mod recover;
mod rejected;
mod repair;
mod replay;
mod reserve;
mod shown;
mod spool;
mod watch;

pub use checkpoint::{Checkpoint, Pieces};
pub use data_dir::{DataDirError, prepare};
pub use dir_id::DirId;
pub use disk::{Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read, free, names};
pub use holder::{Holder, holder};
pub use journal::{
    Boot, Cut, Group, Journal, Ledger, LedgerSettings, MadeSegment, NewSegment, OldSegment, Room,
    Seq,
};
pub use latch::{Latched, LatchedFile};
pub use lock::{Lock, LockError, Moved, give_journal_away, moved_journal, no_file};
#[cfg(test)]
pub(crate) use memory_disk::{Kept, MemoryDisk};
pub use own::OwnSteps;
pub use real_disk::{RealDisk, RealFile};
pub use recover::{Found, JournalStart, RecoverError, Spoilt, TornTail, recover};
pub use rejected::{RejectedFile, discard, reject, rejected, take_back};
pub use repair::{SetAside, inspect, kept_behind, set_aside};
pub use shown::shown;
pub use spool::{DropLimits, FileOp, LiveDropLimits, LoadError, Ran, Spool};
pub use watch::{Digest, Sighting, WatchError, WatchSettings, Watcher, location, queue_at};
