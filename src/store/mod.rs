//! What is on the disk: journal, checkpoint, spool, rejected files, watcher.
//!
//! This floor may not know: the queue's rules (when a task is due, who may end a lease), HTTP, or who calls it. It knows
//! tasks by [`crate::task`] only.

mod disk;

pub use disk::{
    Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read, RealDisk, RealFile, names,
};
