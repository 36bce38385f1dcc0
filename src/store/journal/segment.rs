//! Reading the bytes of one segment: its name, its frames in order, and frames that lie behind a bad one.

use std::path::PathBuf;

use super::{
    DIR, FRAME_HEADER, LAST_NUMBER, SEGMENT_HEADER, Seq,
    format::{frame_crc, u32_at, u64_at},
};
use crate::defect::{Defect, planted};

/// A segment's file, relative to the data directory.
pub(in crate::store) fn segment_path(number: u64) -> PathBuf {
    PathBuf::from(DIR).join(format!("{number:020}.wal"))
}

/// The number in a segment's file name; `None` for any other name.
pub(in crate::store) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let canonical = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| canonical)
}

/// A frame whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Frame<'a> {
    /// Its number.
    pub seq: Seq,
    /// The highest seq that was known to be durable when it was written.
    pub synced: Seq,
    /// The records.
    pub records: &'a [u8],
    /// Where the next one begins, in bytes from the segment's beginning.
    pub end: usize,
}

/// What stands at a place where a frame could begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Next<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Nothing: zeros, or the end of the file.
    End,
    /// Something else, and why it is no frame.
    Bad(&'static str),
}

/// Reads what begins at `at` in the segment `number`, whose bytes are `segment`.
pub(in crate::store) fn next_frame(number: u64, segment: &[u8], at: usize) -> Next<'_> {
    let rest = segment.get(at..).unwrap_or_default();
    let head = &rest[..rest.len().min(FRAME_HEADER)];
    if head.iter().all(|byte| *byte == 0) {
        return Next::End;
    }
    if head.len() < FRAME_HEADER {
        return Next::Bad("the header of a frame is cut off");
    }
    let len = u32_at(head, 0) as usize;
    if len == 0 {
        return Next::Bad("a frame has no length");
    }
    let Some(frame) = rest.get(..FRAME_HEADER + len) else {
        return Next::Bad("a frame is longer than its file");
    };
    let (seq, synced) = (Seq(u64_at(head, 8)), Seq(u64_at(head, 16)));
    // Before the checksum: a search tries this at every byte, and most end here.
    if seq <= synced || seq.0 > LAST_NUMBER || head[28..] != [0; 4] {
        return Next::Bad("a frame's header is not valid");
    }
    if u32_at(head, 4) != frame_crc(number, frame) && !planted(Defect::IgnoreChecksum) {
        return Next::Bad("a frame's checksum is wrong");
    }
    Next::Frame(Frame {
        seq,
        synced,
        records: &frame[FRAME_HEADER..],
        end: at + frame.len(),
    })
}

/// All frames that begin at `from` or anywhere behind it, found byte by byte: what lies behind a bad frame, whose length
/// can't be trusted.
pub(in crate::store) fn frames_after(
    number: u64,
    segment: &[u8],
    from: usize,
) -> impl Iterator<Item = Frame<'_>> {
    let mut at = from.max(SEGMENT_HEADER);
    std::iter::from_fn(move || {
        loop {
            let zeros = zeros_before_another(segment.get(at..)?)?;
            // The first bytes of a frame's length may be zeros themselves.
            at += zeros.saturating_sub(3);
            match next_frame(number, segment, at) {
                Next::Frame(frame) => {
                    at = frame.end;
                    return Some(frame);
                }
                Next::End | Next::Bad(_) => at += 1,
            }
        }
    })
}

/// How many zeros come before the first other byte; `None`: there is none. By strides that are looked at as a whole: what was
/// set aside and not written is megabytes of zeros.
fn zeros_before_another(bytes: &[u8]) -> Option<usize> {
    const STRIDE: usize = 256;
    let is_blank = |stride: &&[u8]| stride.iter().fold(0, |all, byte| all | byte) == 0;
    let blank = bytes.chunks_exact(STRIDE).take_while(is_blank).count() * STRIDE;
    let behind = bytes[blank..].iter().position(|byte| *byte != 0)?;
    Some(blank + behind)
}

#[cfg(test)]
mod tests {
    use super::{super::format::dress_frame, *};

    fn frame(number: u64, seq: u64, synced: u64, records: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_HEADER];
        bytes.extend_from_slice(records);
        dress_frame(&mut bytes, number, Seq(seq), Seq(synced), 1);
        bytes
    }

    #[test]
    fn only_names_of_twenty_digits_are_segments() {
        assert_eq!(segment_number("00000000000000000012.wal"), Some(12));
        assert_eq!(
            segment_path(12).to_str(),
            Some("journal/00000000000000000012.wal")
        );
        for other in [
            "12.wal",
            "+0000000000000000012.wal",
            "00000000000000000012",
            "99999999999999999999.wal",
        ] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }

    #[test]
    fn a_frame_is_read_whole_or_not_at_all() {
        let whole = frame(1, 5, 4, b"records");
        let Next::Frame(read) = next_frame(1, &whole, 0) else {
            panic!("a frame");
        };
        assert_eq!(
            (read.seq, read.synced, read.records),
            (Seq(5), Seq(4), &b"records"[..])
        );
        assert!(
            matches!(next_frame(2, &whole, 0), Next::Bad(_)),
            "in another segment"
        );
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(
                matches!(next_frame(1, &changed, 0), Next::Bad(_)),
                "byte {at}"
            );
        }
        assert_eq!(next_frame(1, &[0; 40], 3), Next::End);
        assert_eq!(next_frame(1, &[0; 40], 50), Next::End);
    }

    #[test]
    fn frames_behind_rubbish_are_found_at_any_alignment() {
        // 256 and 65 536 bytes: lengths whose lowest bytes are zeros.
        for (len, gap) in [(7, 0), (256, 1), (65_536, 2), (256, 5), (256, 4096)] {
            let mut segment = vec![0; SEGMENT_HEADER];
            segment.extend_from_slice(b"rubbish");
            segment.resize(segment.len() + gap, 0);
            segment.extend(frame(1, 8, 6, &vec![b'x'; len]));
            segment.resize(segment.len() + 100, 0);
            segment.extend(frame(1, 9, 6, b"y"));
            let found: Vec<Seq> = frames_after(1, &segment, SEGMENT_HEADER)
                .map(|frame| frame.seq)
                .collect();
            assert_eq!(found, [Seq(8), Seq(9)], "{len} {gap}");
        }
    }

    #[test]
    fn zeros_are_counted_up_to_the_first_other_byte() {
        for length in [0, 1, 255, 256, 257, 1000] {
            let mut bytes = vec![0; length];
            assert_eq!(zeros_before_another(&bytes), None);
            for at in 0..length {
                bytes[at] = 7;
                assert_eq!(zeros_before_another(&bytes), Some(at));
                bytes[at] = 0;
            }
        }
    }
}
