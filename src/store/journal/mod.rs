//! The journal: every change, appended to segment files, made durable in groups.
//!
//! In two halves. [`Ledger`] is pure accounting: which record goes into which frame, which frame goes where, and how much
//! room is left; it lives with the engine and never waits. [`Journal`] does what the ledger says to the disk; it lives on
//! a thread that may wait. Reading back is [`recover`](super::recover())'s matter.
//!
//! This module may not know: what records mean, what time it is, or who calls it.
//!
//! # Files
//!
//! Beside the segments there are checkpoints, whose bytes are told where they are written; the file `reserve`, room set aside for
//! the next checkpoint, whose bytes mean nothing; and the empty file `reserve-of-room-for-names-in-this-directory`, which is
//! that. `checkpoint.tmp` and `reserve.tmp` are the next ones while they are made: as any file whose name ends so, a start
//! removes them. What ends in `.damaged` a repair set aside.
//!
//! `journal/<number, 20 digits>.wal` is a segment. Numbers rise and are never used twice for frames. A segment is made
//! whole, with its room set aside and reading as zeros, on btrfs without copies on write; each start makes a new one, and adds
//! nothing to an old one. It does cut an old one behind its last frame, or remove it if it has none, and writes frames of which
//! nothing shows that they were durable once more, the same bytes in the same place. All integers are little-endian.
//!
//! A segment begins with 64 bytes:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `wqjournl` |
//! | 8 | 4 | version of the format: 1. Any other but 0 is refused, never guessed at; 0 is a header that was cut off |
//! | 12 | 4 | CRC32C of bytes 16 to 63 |
//! | 16 | 8 | the segment's number, as in its name |
//! | 24 | 16 | the machine's boot id when it was made |
//! | 40 | 8 | the boot clock at the first start after that boot, in nanoseconds |
//! | 48 | 8 | no frame in it has a lower seq |
//! | 56 | 8 | zeros |
//!
//! Frames follow, one after the other without a gap. One frame is what one sync made durable: the records of all atomic
//! units that waited. It is there whole or not at all:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `len`: bytes of the records; never 0 |
//! | 4 | 4 | CRC32C of the segment's number (8 bytes), `len` (4 bytes), and bytes 8 to the end of the frame |
//! | 8 | 8 | `seq`: 1 for the first frame of all, then rising by 1 |
//! | 16 | 8 | the highest seq that was known to be durable when this frame was written; lower than `seq` |
//! | 24 | 4 | how many units it holds |
//! | 28 | 4 | zeros |
//! | 32 | `len` | records, as [`encode_record`](crate::task::encode_record) writes them |
//!
//! Zeros after the last frame mean the end. The segment's number is in each checksum so that a frame is valid only in the
//! file that it was written to.
//!
//! # Torn or damaged
//!
//! A crash may leave the last frame in part, or in holes. Such a torn frame was never synced, so nobody was answered, and
//! it is cut off. A bad frame is *not* torn if a later one says that it was durable: then the disk has lost what it had
//! promised to keep, and a start stops and says where. A torn frame's seq is used again by the next start, in a new
//! segment.
//!
//! What the checkpoint holds is not missed. Behind damage among such frames a start looks for the next whole one that lies not
//! behind the first after the cut, and goes on there; it passes over a segment that can't be read at all, if the next one with frames
//! goes on from what came before, or begins right behind the cut or before it. Both are told and left as they are, until a checkpoint
//! lets them go. A segment is read as far as something was written in it, however long it says it is.

mod format;
mod ledger;
mod room;
mod segment;
mod writer;

pub use format::{Boot, Seq};
pub use ledger::{Cut, Group, Ledger, LedgerSettings};
pub(super) use room::LARGEST_SEGMENT;
pub use room::{NewSegment, OldSegment, Room};
pub use writer::{Journal, MadeSegment};

#[cfg(test)]
pub(super) use format::dress_frame;
pub(super) use format::{
    FRAME_HEADER, Header, HeaderError, LAST_NUMBER, SEGMENT_HEADER, VERSION, array_at, u32_at,
    u64_at,
};
pub(super) use segment::{Frame, Next, frames_after, next_frame, segment_number, segment_path};

/// The journal's directory, relative to the data directory.
pub(super) const DIR: &str = "journal";
