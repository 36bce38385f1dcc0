//! What is on the disk: journal, checkpoint, spool, rejected files, watcher.
//!
//! This floor may not know: the queue's rules (when a task is due, who may end a lease), HTTP, or who calls it. It knows
//! tasks by [`crate::task`] only.

mod checkpoint;
mod data_dir;
mod disk;
mod journal;
mod latch;
mod lock;
#[cfg(test)]
mod memory_disk;
mod read_only;
mod recover;
mod rejected;
mod repair;
mod replay;
mod shown;
mod spool;
mod watch;

pub use checkpoint::Checkpoint;
pub use data_dir::{DataDirError, prepare};
pub use disk::{
    Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read, RealDisk, RealFile, names,
};
pub use journal::{
    Boot, Group, Journal, Ledger, LedgerSettings, NewSegment, OldSegment, Room, Seq,
};
pub use latch::{Latched, LatchedFile};
pub use lock::{Lock, LockError};
pub use recover::{Found, JournalStart, RecoverError, TornTail, recover};
pub use rejected::{RejectedFile, reject, rejected};
pub use repair::{SetAside, inspect, set_aside};
pub use shown::{shown, shown_text};
pub use spool::{DropLimits, FileOp, LoadError, Spool};
pub use watch::{Sighting, WatchError, Watcher};
