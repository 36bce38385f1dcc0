//! [`Replay`]: reads the journal's segments one after the other, and tells a torn tail from damage.
//!
//! The rule: after the last good frame, a bad or missing one is torn unless something later proves that it was durable.
//! The proof is a later frame that was written when the missing one was known to be synced. What the checkpoint holds is not
//! missed: damage among its frames is passed over where the frames go on right behind the cut or before it, and so is a segment
//! that can't be read where the next one goes on without it. This module may not know files; it sees bytes.

use super::{
    journal::{
        Boot, FRAME_HEADER, Frame, Header, HeaderError, Next, OldSegment, SEGMENT_HEADER, Seq,
        frames_after, next_frame, segment_path,
    },
    recover::{Found, RecoverError, Settle, Spoilt, TornTail},
};
use crate::{
    defect::{Defect, planted},
    task::{Record, decode_records},
};

/// Where the frames of a segment ended.
#[derive(Debug, Clone)]
struct End {
    segment: u64,
    offset: usize,
    /// What is wrong there; `None` if nothing is there.
    bad: Option<&'static str>,
}

/// What can't be read from some byte on, while it is not known yet whether anything needs it.
#[derive(Debug)]
struct Unread {
    segment: u64,
    /// 0: all of it, whatever frames it had.
    offset: usize,
    reason: &'static str,
    /// The segment's size.
    bytes: u64,
}

/// The journal as read so far.
#[derive(Debug)]
pub(super) struct Replay {
    /// Frames up to here are in the checkpoint: holes among them are no loss.
    cut: Seq,
    /// The frame that comes next.
    expected: Seq,
    /// The boot that the state is of.
    boot: Option<Boot>,
    /// Where the last segment's frames ended.
    end: Option<End>,
    /// The expected frame is missing, and others come after: all that follows is torn, or else proof of damage.
    stopped: bool,
    tail_bytes: u64,
    /// The last frame that another one shows to be durable.
    proven: Seq,
    old: Vec<OldSegment>,
    settled: Vec<(u64, Settle)>,
    unread: Vec<Unread>,
    spoilt: Vec<Spoilt>,
}

impl Replay {
    /// Begins after a checkpoint, or with nothing: cut 0 and no boot.
    pub(super) fn new(cut: Seq, boot: Option<Boot>) -> Self {
        Self {
            cut,
            expected: Seq(1),
            boot,
            end: None,
            stopped: false,
            tail_bytes: 0,
            proven: Seq(0),
            old: Vec::new(),
            settled: Vec::new(),
            unread: Vec::new(),
            spoilt: Vec::new(),
        }
    }

    /// The last frame there is, or was by the checkpoint.
    pub(super) fn last(&self) -> Seq {
        self.expected.before().max(self.cut)
    }

    /// The last frame that was read; 0 if none was.
    pub(super) fn last_read(&self) -> Seq {
        self.expected.before()
    }

    /// Bytes of the frames behind the cut.
    pub(super) const fn tail_bytes(&self) -> u64 {
        self.tail_bytes
    }

    /// What is to be done to each segment.
    pub(super) fn settled(&self) -> &[(u64, Settle)] {
        &self.settled
    }

    /// Whether nothing shows that the last frames of a segment were ever durable.
    pub(super) fn is_in_doubt(&self, number: u64) -> bool {
        let mut old = self.old.iter();
        old.any(|old| old.number == number && old.last > self.proven)
    }

    /// Damage that nothing needs.
    pub(super) fn take_spoilt(&mut self) -> Vec<Spoilt> {
        std::mem::take(&mut self.spoilt)
    }

    /// The segments that stay, and the torn tail.
    pub(super) fn into_parts(self) -> (Vec<OldSegment>, Option<TornTail>) {
        let behind = self
            .stopped
            .then_some("a frame is missing, and none behind it was durable");
        let torn = self.end.and_then(|end| {
            end.bad.or(behind).map(|reason| TornTail {
                file: segment_path(end.segment),
                offset: end.offset as u64,
                reason: reason.to_owned(),
            })
        });
        (self.old, torn)
    }

    /// Tells the reboot since the last frame, if there was one, and gives the present boot with its first start's tick.
    pub(super) fn close(&mut self, now: &Boot, sink: &mut dyn FnMut(Found)) -> Boot {
        let boot = self.boot.filter(|last| last.id == now.id).unwrap_or(*now);
        let seq = self.last();
        self.enter(boot, seq, sink);
        boot
    }

    /// Reads the next segment. `last` is whether none follows.
    pub(super) fn segment(
        &mut self,
        number: u64,
        bytes: &[u8],
        last: bool,
        sink: &mut dyn FnMut(Found),
    ) -> Result<(), RecoverError> {
        self.read(number, bytes, last, sink)?;
        self.close_unread(last)
    }

    /// The next segment can't be read at all.
    pub(super) fn unreadable(
        &mut self,
        number: u64,
        bytes: u64,
        reason: &'static str,
        last: bool,
    ) -> Result<(), RecoverError> {
        self.unread.push(Unread {
            segment: number,
            offset: 0,
            reason,
            bytes,
        });
        self.close_unread(last)
    }

    /// Where none follows, nothing shows that a segment which can't be read is not needed.
    fn close_unread(&self, last: bool) -> Result<(), RecoverError> {
        self.unread_segment().filter(|_| last).map_or(Ok(()), Err)
    }

    /// The first segment that can't be read and may be needed.
    fn unread_segment(&self) -> Option<RecoverError> {
        let mut unread = self.unread.iter();
        let whole = unread.find(|unread| unread.offset == 0)?;
        Some(damaged(whole.segment, 0, whole.reason))
    }

    fn read(
        &mut self,
        number: u64,
        bytes: &[u8],
        last: bool,
        sink: &mut dyn FnMut(Found),
    ) -> Result<(), RecoverError> {
        let header = match Header::decode(bytes, number) {
            Ok(header) => header,
            Err(HeaderError::Version(found)) => {
                let file = segment_path(number);
                return Err(RecoverError::Version { file, found });
            }
            Err(HeaderError::Number(found)) => {
                let file = segment_path(number);
                return Err(RecoverError::Misnamed {
                    file,
                    what: format!("segment {found}"),
                    own: segment_path(found),
                });
            }
            // Made at the moment of a crash: nothing was written to it yet.
            Err(HeaderError::Unreadable(_))
                if last && frames_after(number, bytes, SEGMENT_HEADER).next().is_none() =>
            {
                self.settled.push((number, Settle::Remove));
                return Ok(());
            }
            Err(HeaderError::Unreadable(reason)) => {
                self.unread.push(Unread {
                    segment: number,
                    offset: 0,
                    reason,
                    bytes: bytes.len() as u64,
                });
                return Ok(());
            }
        };
        if !self.stopped {
            // What the checkpoint holds may have gone with its segments.
            if let Next::Frame(first) = next_frame(number, bytes, SEGMENT_HEADER) {
                self.join(number, &first)?;
            }
        }
        if self.stopped {
            self.settled.push((number, Settle::Remove));
            return self.look_for_proof(number, bytes, SEGMENT_HEADER);
        }
        self.frames(&header, bytes, sink)
    }

    /// The first frame of a segment: does it follow on what came before?
    fn join(&mut self, number: u64, first: &Frame<'_>) -> Result<(), RecoverError> {
        if first.seq < self.expected {
            let reason = format!("frame {} begins it, and was there before", first.seq);
            return Err(damaged(number, SEGMENT_HEADER, reason));
        }
        let before = self.expected;
        self.expected = before.max(self.cut.next().min(first.seq));
        self.stopped = first.seq > self.expected;
        if !self.stopped {
            self.pass_over(before, first.seq);
        } else if self.end.is_none() || self.unread_segment().is_some() {
            // Not torn: what is missing was in a segment that is gone, or can't be read.
            return Err(self.missing(number, first.seq));
        }
        Ok(())
    }

    /// Frame `first` goes on from what is known, so nothing needs what could not be read before it. `expected` came next by then.
    fn pass_over(&mut self, expected: Seq, first: Seq) {
        for unread in std::mem::take(&mut self.unread) {
            // What ends without a hole behind it is a torn tail like any other.
            if unread.offset > 0 && first == expected {
                continue;
            }
            if unread.offset <= SEGMENT_HEADER {
                // It stays as it is until a checkpoint lets it go with its neighbours.
                self.settled.retain(|(number, _)| *number != unread.segment);
                self.old.push(OldSegment {
                    number: unread.segment,
                    last: first.before(),
                    bytes: unread.bytes,
                });
            }
            self.tell_spoilt(unread.segment, unread.offset, unread.reason);
        }
    }

    fn tell_spoilt(&mut self, segment: u64, offset: usize, reason: &str) {
        self.spoilt.push(Spoilt {
            file: segment_path(segment),
            offset: offset as u64,
            reason: reason.to_owned(),
        });
    }

    /// Behind bad bytes at `at`, and while only frames that the checkpoint holds are passed over, the frame to go on with.
    fn goes_on<'a>(&self, number: u64, bytes: &'a [u8], at: usize) -> Option<Frame<'a>> {
        if self.expected > self.cut {
            return None;
        }
        let seqs = self.expected..=self.cut.next();
        frames_after(number, bytes, at).find(|frame| seqs.contains(&frame.seq))
    }

    /// Reads the frames of a segment that follows on what came before.
    fn frames(
        &mut self,
        header: &Header,
        bytes: &[u8],
        sink: &mut dyn FnMut(Found),
    ) -> Result<(), RecoverError> {
        let number = header.number;
        let mut at = SEGMENT_HEADER;
        let bad = loop {
            let bad = match next_frame(number, bytes, at) {
                Next::Frame(frame) if frame.seq == self.expected => {
                    self.frame(header, &frame, at, sink)?;
                    at = frame.end;
                    continue;
                }
                Next::Frame(_) => Some("a frame is out of order"),
                Next::Bad(reason) => Some(reason),
                Next::End => None,
            };
            let Some(next) = self.goes_on(number, bytes, at) else {
                break bad;
            };
            self.pass_over(self.expected, next.seq);
            self.tell_spoilt(number, at, bad.unwrap_or("frames are missing"));
            self.expected = next.seq;
            at = next.end - next.records.len() - FRAME_HEADER;
        };
        if at > SEGMENT_HEADER {
            self.settled.push((number, Settle::Keep(at as u64)));
            self.old.push(OldSegment {
                number,
                last: self.expected.before(),
                bytes: at as u64,
            });
        } else {
            self.settled.push((number, Settle::Remove));
            // Nothing was written after that start; still its boot is one that happened.
            if header.first > self.cut {
                self.enter(header.boot, self.last(), sink);
            }
        }
        // An empty segment says nothing about where a missing frame was.
        if at > SEGMENT_HEADER || bad.is_some() || self.end.is_none() {
            self.end = Some(End {
                segment: number,
                offset: at,
                bad,
            });
        }
        if let Some(reason) = bad.filter(|_| self.expected <= self.cut) {
            self.unread.push(Unread {
                segment: number,
                offset: at,
                reason,
                bytes: bytes.len() as u64,
            });
        }
        self.look_for_proof(number, bytes, at)
    }

    fn frame(
        &mut self,
        header: &Header,
        frame: &Frame<'_>,
        at: usize,
        sink: &mut dyn FnMut(Found),
    ) -> Result<(), RecoverError> {
        self.expected = frame.seq.next();
        self.proven = self.proven.max(frame.synced);
        if frame.seq <= self.cut {
            return Ok(());
        }
        let mut records = decode_records(frame.records)
            .map_err(|error| damaged(header.number, at, error.to_string()))?;
        if planted(Defect::ReplayHalf) {
            records.truncate(records.len().div_ceil(2));
        }
        self.enter(header.boot, frame.seq, sink);
        self.tail_bytes += (frame.end - at) as u64;
        for record in records {
            sink(Found::Tail(frame.seq, record));
        }
        Ok(())
    }

    /// What follows is of `boot`.
    fn enter(&mut self, boot: Boot, seq: Seq, sink: &mut dyn FnMut(Found)) {
        if self.boot.is_some_and(|last| last.id != boot.id) {
            sink(Found::Tail(seq, Record::Rebooted { tick: boot.tick }));
        }
        if self.boot.is_none_or(|last| last.id != boot.id) {
            self.boot = Some(boot);
        }
    }

    /// The frame that is missed where nothing more can be read: what the checkpoint holds is not.
    fn missed(&self) -> Seq {
        self.expected.max(self.cut.next())
    }

    /// Looks behind the last good frame, from `at`, for one that says that the missed one was durable.
    fn look_for_proof(&self, number: u64, bytes: &[u8], at: usize) -> Result<(), RecoverError> {
        let missed = self.missed();
        let proves = |frame: &Frame<'_>| frame.seq > missed && frame.synced >= missed;
        let proof = frames_after(number, bytes, at).find(proves);
        match proof.filter(|_| !planted(Defect::CutBeforeTail)) {
            Some(frame) => Err(self.missing(number, frame.seq)),
            None => Ok(()),
        }
    }

    /// A frame is missing though it was durable, as `later`, found in segment `number`, shows.
    fn missing(&self, number: u64, later: Seq) -> RecoverError {
        if let Some(unread) = self.unread_segment() {
            return unread;
        }
        let expected = self.missed();
        match &self.end {
            Some(End {
                segment,
                offset,
                bad: Some(reason),
            }) => damaged(
                *segment,
                *offset,
                format!("{reason}; frame {expected} was there when frame {later} was written"),
            ),
            Some(End {
                segment,
                offset,
                bad: None,
            }) => damaged(
                *segment,
                *offset,
                format!(
                    "it ends before frame {expected}, which was there when frame {later} was written"
                ),
            ),
            None => damaged(
                number,
                SEGMENT_HEADER,
                format!(
                    "it begins with frame {later}, and neither a segment nor a checkpoint tells of frame {expected}: if one was taken away, put it back"
                ),
            ),
        }
    }
}

fn damaged(number: u64, offset: usize, reason: impl Into<String>) -> RecoverError {
    RecoverError::Damaged {
        file: segment_path(number),
        offset: offset as u64,
        reason: reason.into(),
    }
}
