//! [`Ledger`]: which unit goes into which frame, which frame goes where, and what is durable.

use std::{cell::Cell, collections::VecDeque};

use super::{
    FRAME_HEADER, NewSegment, OldSegment, Room, SEGMENT_HEADER, Seq,
    format::dress_frame,
    room::{
        Current, END_BYTES, LEAST_USUAL, SLACK_BYTES, START_BYTES, Spare, TASK_BYTES, Wish,
        counted, counted_after, segment_size,
    },
};
use crate::{
    defect::{Defect, planted},
    store::recover::JournalStart,
    task::{Record, encode_record},
};

/// No frame grows beyond it, unless a single unit is larger: a sync should not take long because many wait.
const LARGEST_FRAME: u64 = 4 << 20;

/// What can be chosen about the journal.
#[derive(Debug, Clone, Copy)]
pub struct LedgerSettings {
    /// The usual size of a segment in bytes, 64 KiB or more. Default 4 MiB: small enough that old ones go soon, large
    /// enough that making one is rare.
    pub segment_bytes: u64,
    /// Whether each group is synced. Without it, groups are written only, and [`Ledger::durable`] says what a sync covered.
    pub sync: bool,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 4 << 20,
            sync: true,
        }
    }
}

/// A frame to write, and all that its writer needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The frame's number.
    pub seq: Seq,
    /// The segment it goes to.
    pub segment: u64,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The frame, header and all.
    pub bytes: Vec<u8>,
    /// Whether it is to be synced.
    pub sync: bool,
}

/// Where a checkpoint divides the journal: see [`Ledger::cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The last frame that the checkpoint stands for.
    pub seq: Seq,
    /// Bytes of the frames up to it, since the checkpoint before.
    pub bytes: u64,
}

/// A frame that is not written yet. The last of them is open: units are still added to it.
#[derive(Debug)]
struct Frame {
    seq: Seq,
    /// Segment and offset; `None` while no segment holds it.
    place: Option<(u64, u64)>,
    bytes: Vec<u8>,
    units: u32,
}

/// The journal's accounts. No I/O: the caller carries its wishes ([`seal`](Self::seal),
/// [`wants_segment`](Self::wants_segment)) to a [`Journal`](super::Journal) and brings back what became of them.
#[derive(Debug)]
pub struct Ledger {
    settings: LedgerSettings,
    /// The next frame's number.
    next: Seq,
    synced: Seq,
    durable: Seq,
    frames: VecDeque<Frame>,
    outstanding: Option<Seq>,
    current: Option<Current>,
    /// What was the current segment before the checkpoint that is being made.
    given_up: Option<Current>,
    spares: VecDeque<Spare>,
    old: Vec<OldSegment>,
    /// What the last checkpoint lets go.
    leaving: Vec<OldSegment>,
    next_segment: u64,
    /// The size of the segment that is being made.
    making: Option<u64>,
    refused: bool,
    /// Whether the last segment that was wanted was so in the last resort.
    resorted: bool,
    wish: Cell<Option<Wish>>,
    unfinished: u64,
    since_checkpoint: u64,
    /// Bytes of frames that the last checkpoint stands for.
    covered: u64,
    unit: Vec<u8>,
}

impl Ledger {
    /// Goes on after what a start found. There is no room until the first segment is made.
    #[must_use]
    pub fn new(start: &JournalStart, settings: LedgerSettings) -> Self {
        let segment_bytes = settings.segment_bytes.max(LEAST_USUAL);
        Self {
            settings: LedgerSettings {
                segment_bytes,
                ..settings
            },
            next: start.next,
            synced: start.next.before(),
            durable: start.next.before(),
            frames: VecDeque::new(),
            outstanding: None,
            current: None,
            given_up: None,
            spares: VecDeque::new(),
            old: start.segments.clone(),
            leaving: Vec::new(),
            next_segment: start.next_segment,
            making: None,
            refused: false,
            resorted: false,
            wish: Cell::new(None),
            unfinished: 0,
            since_checkpoint: start.tail_bytes,
            covered: 0,
            unit: Vec::new(),
        }
    }

    /// Bytes that this atomic unit takes when it is written alone: its records and a frame's header.
    #[must_use]
    pub fn size_of(records: &[Record]) -> u64 {
        let mut bytes = Vec::new();
        for record in records {
            encode_record(record, &mut bytes);
        }
        (bytes.len() + FRAME_HEADER) as u64
    }

    /// Whether a unit of `bytes` (as [`size_of`](Self::size_of) counts) that submits `tasks` tasks may be appended now: it
    /// leaves room for the claim and the end of every unfinished task, the new ones included.
    #[must_use]
    pub fn room_for_new(&self, bytes: u64, tasks: u64) -> Room {
        let kept = self
            .unfinished
            .saturating_add(tasks)
            .saturating_mul(TASK_BYTES);
        self.room(bytes, kept.saturating_add(SLACK_BYTES + START_BYTES))
    }

    /// Whether a unit of `bytes` that neither submits nor ends a task may be appended now: it leaves room for the end of
    /// every unfinished task. For claims, extensions and switches; also for an end that is longer than most.
    #[must_use]
    pub fn room_for_claim(&self, bytes: u64) -> Room {
        let kept = self.unfinished.saturating_mul(END_BYTES);
        self.room(bytes, kept.saturating_add(START_BYTES))
    }

    /// Whether a unit of `bytes` that ends tasks may be appended now: it only has to fit. It always does, on the
    /// conditions told in `room.rs`.
    #[must_use]
    pub fn room_for_end(&self, bytes: u64) -> Room {
        self.room(bytes, 0)
    }

    /// What room is kept for: the tasks whose end is still to come (dead ones included, if each is to be purged with a
    /// record of its own). `leased` of them are leased; their ends are kept room for like the others'.
    pub fn set_counts(&mut self, unfinished: u64, leased: u64) {
        debug_assert!(leased <= unfinished, "a leased task is unfinished");
        self.unfinished = unfinished;
    }

    /// Appends one atomic unit, which a crash keeps whole or not at all, and returns the seq of the frame it will be in.
    ///
    /// Ask for room first. A unit that has none is kept in memory, and all after it, until a segment is made that holds
    /// it: nothing is lost, but [`seal`](Self::seal) gives nothing and replies wait.
    pub fn append(&mut self, unit: &[Record]) -> Seq {
        let mut bytes = std::mem::take(&mut self.unit);
        bytes.clear();
        for record in unit {
            encode_record(record, &mut bytes);
        }
        debug_assert!(!bytes.is_empty(), "a unit has a record");
        if !self.extend_open(&bytes) {
            self.open_frame(&bytes);
        }
        self.unit = bytes;
        self.next.before()
    }

    /// The frame that a unit appended now would go to, if it fits: the open one, or the next.
    #[must_use]
    pub fn open_seq(&self) -> Seq {
        self.frames.back().map_or(self.next, |frame| frame.seq)
    }

    /// The highest seq appended and not yet synced, the one being synced included; `None` if all is synced.
    #[must_use]
    pub fn pending_seq(&self) -> Option<Seq> {
        let last = self.next.before();
        (last > self.synced).then_some(last)
    }

    /// All up to this one is on disk, as far as the settings ask for.
    #[must_use]
    pub const fn synced_seq(&self) -> Seq {
        self.synced
    }

    /// Whether a frame was given out to be written and is not written yet.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        self.outstanding.is_some()
    }

    /// The next frame to write; `None` while one is outstanding, and when there is none.
    pub fn seal(&mut self) -> Option<Group> {
        if self.outstanding.is_some() {
            return None;
        }
        let (segment, offset) = self.frames.front()?.place?;
        let mut frame = self.frames.pop_front()?;
        dress_frame(
            &mut frame.bytes,
            segment,
            frame.seq,
            self.durable,
            frame.units,
        );
        self.outstanding = Some(frame.seq);
        Some(Group {
            seq: frame.seq,
            segment,
            offset,
            bytes: frame.bytes,
            sync: self.settings.sync,
        })
    }

    /// The group of `seq` is written, and synced if it asked for that.
    pub fn synced(&mut self, seq: Seq) {
        debug_assert_eq!(
            self.outstanding,
            Some(seq),
            "only what was sealed is synced"
        );
        self.outstanding = None;
        self.synced = self.synced.max(seq);
        if self.settings.sync {
            self.durable = self.synced;
        }
    }

    /// Without a sync for each group: [`Journal::sync`](super::Journal::sync) has covered all up to `seq`. From then on
    /// the loss of one of these frames is told from a torn tail.
    pub fn durable(&mut self, seq: Seq) {
        debug_assert!(seq <= self.synced, "only what was written can be durable");
        self.durable = self.durable.max(seq);
    }

    /// A segment to make ahead of need; at most one is outstanding. After it, call [`segment_made`](Self::segment_made) or
    /// [`segment_refused`](Self::segment_refused).
    pub fn wants_segment(&mut self) -> Option<NewSegment> {
        if self.making.is_some() || self.refused {
            return None;
        }
        let last_resort = self.is_last_resort();
        let waiting = self.frames.iter().find(|frame| frame.place.is_none());
        let first = waiting.map_or(self.next, |frame| frame.seq);
        let waiting = waiting.map(|frame| Wish::of(frame.bytes.len() as u64));
        let wish = waiting.map_or(self.wish.get(), |wish| {
            Some(self.wish.get().unwrap_or_default().and(wish))
        });
        let aim = self
            .unfinished
            .saturating_mul(TASK_BYTES)
            .saturating_add(SLACK_BYTES + START_BYTES);
        let asked = wish.map_or(0, |wish| wish.unit.saturating_add(wish.kept));
        let short = aim.max(asked).saturating_sub(self.counted());
        if wish.is_none() && short == 0 && !self.spares.is_empty() {
            return None;
        }
        let homeless = wish
            .filter(|wish| wish.unit > self.largest_room())
            .unwrap_or_default();
        let (bytes, least) = segment_size(self.settings.segment_bytes, short, homeless);
        self.making = Some(bytes);
        self.resorted = last_resort;
        Some(NewSegment {
            number: self.next_segment,
            bytes,
            least,
            first,
            last_resort,
        })
    }

    /// Segment `number` is there, with `bytes` of room, its header included. Where those are fewer than were wanted, and too few
    /// for what is to be kept, another one is wanted.
    pub fn segment_made(&mut self, number: u64, bytes: u64) {
        self.making = None;
        self.wish.set(None);
        self.next_segment = self.next_segment.max(number) + 1;
        self.spares.push_back(Spare { number, bytes });
        self.place_waiting();
    }

    /// The disk is full. Nothing is wanted until [`retry_segment`](Self::retry_segment).
    pub fn segment_refused(&mut self) {
        self.making = None;
        self.refused = true;
        self.wish.set(None);
    }

    /// Whether the first segment is still to be made, and was not refused.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.current.is_none() && self.spares.is_empty() && !self.refused
    }

    /// Whether a frame waits for a segment that holds it: then all behind it do.
    fn has_waiting(&self) -> bool {
        let last = self.frames.back();
        last.is_some_and(|frame| frame.place.is_none())
    }

    /// Whether there is no room for anything, or something waits for some.
    fn is_last_resort(&self) -> bool {
        self.has_waiting() || self.largest_room() < END_BYTES
    }

    /// Whether the disk had no room for a segment, and what is set aside for a checkpoint was not asked for then, and would be now.
    #[must_use]
    pub fn may_resort(&self) -> bool {
        self.refused && !self.resorted && self.is_last_resort()
    }

    /// Whether no segment is being made and none was refused: so it is after [`wants_segment`](Self::wants_segment) wanted none.
    #[must_use]
    pub const fn has_all_it_wants(&self) -> bool {
        self.making.is_none() && !self.refused
    }

    /// Whether a checkpoint may let a segment go: an old one, or the current one if that is given up for it.
    #[must_use]
    pub fn has_to_let_go(&self) -> bool {
        !self.old.is_empty() || self.may_give_up_current()
    }

    fn may_give_up_current(&self) -> bool {
        let half = |current: Current| current.used >= current.bytes / 2;
        self.current.is_some_and(half) && !self.spares.is_empty()
    }

    /// Before a checkpoint of all that was appended so far, on a full disk: where it could let nothing else go, frames go to the next
    /// segment from now on. Until the checkpoint is made, or refused, ends have the room of that one.
    pub fn give_up_current(&mut self) {
        if !self.old.is_empty() || !self.may_give_up_current() {
            return;
        }
        if let Some(current) = self.current.take() {
            self.given_up = Some(current);
            self.old.push(current.into());
        }
    }

    /// The checkpoint for which the current segment was given up was not made: what is left of it is needed, if no frame went to the
    /// next one meanwhile.
    fn take_current_back(&mut self) {
        if let Some(current) = self.given_up.take()
            && self.current.is_none()
        {
            self.old.retain(|old| old.number != current.number);
            self.current = Some(current);
        }
    }

    /// Whether a unit that was appended waits for a segment and none is being made, since the disk had no room. Ends alone
    /// come to that, and only where somebody else took the room that a start gave back.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let homeless = self
            .frames
            .front()
            .is_some_and(|frame| frame.place.is_none());
        self.refused && self.making.is_none() && homeless
    }

    /// There may be room again: files were removed, or some time has gone by.
    pub fn retry_segment(&mut self) {
        self.refused = false;
    }

    /// Bytes of frames since the last checkpoint: what a start would have to read.
    #[must_use]
    pub const fn bytes_since_checkpoint(&self) -> u64 {
        self.since_checkpoint
    }

    /// After all that was appended so far: for a checkpoint of the state as it is now.
    #[must_use]
    pub fn cut(&self) -> Cut {
        Cut {
            seq: self.next.before(),
            bytes: self.since_checkpoint,
        }
    }

    /// A checkpoint of all up to `cut` is about to be written: the segments that can go once it is durable. Frames that came
    /// after the cut stay counted, written or not. If it fails, call [`checkpoint_refused`](Self::checkpoint_refused).
    pub fn checkpointed(&mut self, cut: Cut) -> Vec<u64> {
        debug_assert!(cut.bytes <= self.since_checkpoint, "one cut is used once");
        self.since_checkpoint = self.since_checkpoint.saturating_sub(cut.bytes);
        self.covered = cut.bytes;
        let early = planted(Defect::DeleteSegmentEarly);
        let leaving = self.old.extract_if(.., |old| old.last <= cut.seq || early);
        self.leaving = leaving.collect();
        self.leaving.iter().map(|old| old.number).collect()
    }

    /// The last checkpoint was written.
    pub fn checkpoint_made(&mut self) {
        self.given_up = None;
    }

    /// The last checkpoint was not written: what it would have let go stays, for the next one.
    pub fn checkpoint_refused(&mut self) {
        self.since_checkpoint += std::mem::take(&mut self.covered);
        let later = std::mem::take(&mut self.old);
        self.old = std::mem::take(&mut self.leaving);
        self.old.extend(later);
        self.take_current_back();
    }

    fn room(&self, bytes: u64, kept: u64) -> Room {
        let rest = self
            .current
            .map_or(0, |current| current.bytes - current.used);
        let after = if self.has_waiting() {
            None
        } else {
            counted_after(bytes, rest, &self.spares)
        };
        if after.is_some_and(|after| after >= kept) {
            return Room::Yes;
        }
        if self.refused {
            return Room::Full;
        }
        let wish = Wish { unit: bytes, kept };
        self.wish
            .set(Some(self.wish.get().unwrap_or_default().and(wish)));
        Room::Wait
    }

    /// The room that counts, now.
    fn counted(&self) -> u64 {
        let rest = self
            .current
            .map_or(0, |current| current.bytes - current.used);
        counted(rest)
            + self
                .spares
                .iter()
                .map(|spare| counted(spare.room()))
                .sum::<u64>()
    }

    /// The largest frame that fits somewhere, in bytes.
    fn largest_room(&self) -> u64 {
        let rest = self
            .current
            .map_or(0, |current| current.bytes - current.used);
        self.spares
            .iter()
            .map(|spare| spare.room())
            .fold(rest, u64::max)
    }

    /// Adds a unit to the open frame, if there is one that it fits in.
    fn extend_open(&mut self, unit: &[u8]) -> bool {
        let Some(open) = self.frames.back_mut() else {
            return false;
        };
        let more = unit.len() as u64;
        if open.bytes.len() as u64 + more > LARGEST_FRAME {
            return false;
        }
        if open.place.is_some() {
            // A placed frame that is open is the last one of the current segment.
            let Some(current) = self
                .current
                .as_mut()
                .filter(|current| current.used + more <= current.bytes)
            else {
                return false;
            };
            current.used += more;
        }
        open.bytes.extend_from_slice(unit);
        open.units += 1;
        self.since_checkpoint += more;
        true
    }

    fn open_frame(&mut self, unit: &[u8]) {
        let mut bytes = Vec::with_capacity(FRAME_HEADER + unit.len());
        bytes.resize(FRAME_HEADER, 0);
        bytes.extend_from_slice(unit);
        let seq = self.next;
        self.next = seq.next();
        self.since_checkpoint += bytes.len() as u64;
        let place = if self.has_waiting() {
            None
        } else {
            self.place(seq, bytes.len() as u64)
        };
        self.frames.push_back(Frame {
            seq,
            place,
            bytes,
            units: 1,
        });
    }

    /// Finds a place for a frame of `bytes`: in the current segment, or in the first spare that holds it.
    fn place(&mut self, seq: Seq, bytes: u64) -> Option<(u64, u64)> {
        if self.largest_room() < bytes {
            return None;
        }
        loop {
            if let Some(current) = &mut self.current
                && current.bytes - current.used >= bytes
            {
                let offset = current.used;
                current.used += bytes;
                current.last = seq;
                return Some((current.number, offset));
            }
            let spare = self.spares.pop_front()?;
            let next = Current {
                number: spare.number,
                bytes: spare.bytes,
                used: spare.bytes.min(SEGMENT_HEADER as u64),
                last: Seq::default(),
            };
            if let Some(before) = self.current.replace(next) {
                self.old.push(before.into());
            }
        }
    }

    /// Places the frames that found no room, in order, as far as there is room now.
    fn place_waiting(&mut self) {
        let mut frames = std::mem::take(&mut self.frames);
        for frame in frames.iter_mut().filter(|frame| frame.place.is_none()) {
            frame.place = self.place(frame.seq, frame.bytes.len() as u64);
            if frame.place.is_none() {
                break;
            }
        }
        self.frames = frames;
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
