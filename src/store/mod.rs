//! What is on the disk: journal, checkpoint, spool, rejected files, watcher.
//!
//! This floor may not know: the queue's rules (when a task is due, who may end a lease), HTTP, or who calls it. It knows
//! tasks by [`crate::task`] only.

mod data_dir;
mod disk;
mod lock;
mod rejected;
mod shown;
mod spool;
mod watch;

pub use data_dir::{DataDirError, prepare};
pub use disk::{
    Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read, RealDisk, RealFile, names,
};
pub use lock::{Lock, LockError};
pub use rejected::{RejectedFile, reject, rejected};
pub use shown::{shown, shown_text};
pub use spool::{DropLimits, FileOp, LoadError, Spool};
pub use watch::{Sighting, WatchError, Watcher};
