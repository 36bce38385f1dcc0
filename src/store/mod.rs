//! What is on the disk: journal, checkpoint, spool, rejected files, watcher.
//!
//! This floor may not know: the queue's rules (when a task is due, who may end a lease), HTTP, or who calls it. It knows
//! tasks by [`crate::task`] only.

mod checkpoint;
mod disk;
mod journal;
mod latch;
#[cfg(test)]
mod memory_disk;
mod recover;
mod replay;

pub use checkpoint::Checkpoint;
pub use disk::{Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read, RealDisk, RealFile, names};
pub use journal::{
    Boot, Group, Journal, Ledger, LedgerSettings, NewSegment, OldSegment, Room, Seq,
};
pub use latch::{Latched, LatchedFile};
pub use recover::{Found, JournalStart, RecoverError, TornTail, recover};
