//! How much room the journal has, and how much of it is kept for the ends of tasks: pure arithmetic.
//!
//! "The journal keeps room for the end of every task that it has taken; a full disk refuses new tasks, never a completion."
//! Three sorts of units ask for room, each for more than its own bytes: a new task leaves room for the claim and the end of
//! every unfinished task, a claim leaves room for every end, an end takes what is there.
//!
//! Why ends always fit. An attempt's end and a task's end are records of 26 bytes (completed without a result, expired,
//! cancelled) or 17 (released). A unit of `k` of them takes `32 + 26 * k` bytes. Where it does not fit into the current
//! segment, it wastes less than its own size there; up to 256 bytes of each segment are not counted on for that. So an
//! attempt's end and then the task's end, for `k` tasks, never cost more than the [`END_BYTES`]` * k` kept for them, as
//! long as a unit has at most 4 KiB, which every segment holds. Ends that are longer (a result, an error's text) ask like
//! a claim first, and are cut short if there is no room. `ends_fit_on_a_full_disk` tries it.

use super::{FRAME_HEADER, SEGMENT_HEADER, Seq};

/// Kept for each unfinished task: the end of an attempt and the end of the task, each a frame's header and 26 bytes.
pub(super) const END_BYTES: u64 = 128;
/// Kept for each unfinished task when a new one is taken: the same, and as much again for a claim by a worker whose name
/// has up to 35 bytes. The claim of a worker with a longer name may have to wait for room on a full disk; its end never.
pub(super) const TASK_BYTES: u64 = 256;
/// Kept beside, for what is neither task nor end: pauses, extensions, errors that are longer than most.
pub(super) const SLACK_BYTES: u64 = 16 << 10;
/// Kept beside the others by all but ends: the next start makes a new segment of what is not used in the last one, and on a
/// full disk has nothing else to make it of. Two blocks go lost, where the last segment is cut and where the new one begins.
pub(super) const START_BYTES: u64 = LEAST_SEGMENT + 2 * BLOCK;
/// The room at the end of each segment that is not counted on: what a claim may leave over there.
const WASTE_BYTES: u64 = 256;
/// No segment is usually smaller: below, its file costs more than it holds.
pub(super) const LEAST_USUAL: u64 = 64 << 10;
/// No segment is smaller, also where the disk is full: ends fit in, and a start needs little to go on.
pub(super) const LEAST_SEGMENT: u64 = 2 * BLOCK;
/// Segments are whole blocks.
pub(super) const BLOCK: u64 = 4096;
/// A segment made for a large shortfall has at most so many times the usual size, so that each can go soon.
const LARGEST_FACTOR: u64 = 16;

/// A file with more bytes than this is no segment: the largest that can be configured (1 GiB), [`LARGEST_FACTOR`] times, and as much
/// again as two of the largest bodies, which may be one unit.
pub(in crate::store) const LARGEST_SEGMENT: u64 = (LARGEST_FACTOR + 2) << 30;

/// Whether there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is: append now.
    Yes,
    /// A segment is being made, or will be by the next [`wants_segment`](super::Ledger::wants_segment); ask again when it
    /// is there.
    Wait,
    /// The last attempt to make one was refused: the disk is full.
    Full,
}

/// A segment to make ahead of need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSegment {
    /// Its number.
    pub number: u64,
    /// Its size in bytes, header included.
    pub bytes: u64,
    /// The smallest size in bytes that is of any use, where the disk has no room for `bytes`.
    pub least: u64,
    /// No frame in it will have a lower seq.
    pub first: Seq,
    /// Without it the journal has no room for anything: where the disk has none, that is taken which is set aside for a checkpoint.
    pub last_resort: bool,
}

/// A segment that is not written to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldSegment {
    /// Its number.
    pub number: u64,
    /// Its last frame; 0 if it holds none.
    pub last: Seq,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The segment that frames go to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    pub number: u64,
    pub bytes: u64,
    /// Where the next frame begins.
    pub used: u64,
    /// Its last frame; 0 while it holds none.
    pub last: Seq,
}

impl From<Current> for OldSegment {
    fn from(current: Current) -> Self {
        Self {
            number: current.number,
            last: current.last,
            bytes: current.bytes,
        }
    }
}

/// A segment made and not yet begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spare {
    pub number: u64,
    pub bytes: u64,
}

impl Spare {
    pub(super) const fn room(self) -> u64 {
        self.bytes.saturating_sub(SEGMENT_HEADER as u64)
    }
}

/// What somebody waits for who was told [`Room::Wait`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    /// The largest unit, in bytes with its frame's header.
    pub unit: u64,
    /// The most that is to be left after it, in bytes.
    pub kept: u64,
}

impl Wish {
    /// Room for one frame.
    pub(super) const fn of(frame: u64) -> Self {
        Self {
            unit: frame,
            kept: 0,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            unit: self.unit.max(other.unit),
            kept: self.kept.max(other.kept),
        }
    }
}

/// What counts of `rest` bytes at a segment's end.
pub(super) const fn counted(rest: u64) -> u64 {
    rest.saturating_sub(WASTE_BYTES)
}

/// What would count after a frame of `bytes` was placed, first into `rest` bytes of the current segment, else into the
/// first spare that holds it (which wastes all before it). `None` if it fits nowhere.
pub(super) fn counted_after<'a>(
    bytes: u64,
    rest: u64,
    spares: impl IntoIterator<Item = &'a Spare>,
) -> Option<u64> {
    let mut spares = spares.into_iter();
    let mut rest = rest;
    while rest < bytes {
        rest = spares.next()?.room();
    }
    Some(counted(rest - bytes) + spares.map(|spare| counted(spare.room())).sum::<u64>())
}

/// The size of a segment for a shortfall of `short` bytes and a unit that no segment holds (of size 0 if there is none),
/// and the least that is of use.
pub(super) fn segment_size(usual: u64, short: u64, homeless: Wish) -> (u64, u64) {
    let most = usual.saturating_mul(LARGEST_FACTOR);
    let least = (homeless.unit + SEGMENT_HEADER as u64)
        .max(LEAST_SEGMENT)
        .next_multiple_of(BLOCK);
    let bytes = if least > usual {
        least + WASTE_BYTES + homeless.kept.min(most)
    } else {
        short.clamp(usual, most)
    };
    (bytes.next_multiple_of(BLOCK), least)
}

const _: () =
    assert!(2 * (FRAME_HEADER as u64 + 26) <= END_BYTES && LEAST_SEGMENT.is_multiple_of(BLOCK));
