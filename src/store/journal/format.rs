//! The bytes of headers. The tables are in the [module above](super).

use std::fmt;

use crate::task::Tick;

/// Bytes before a segment's first frame.
pub(in crate::store) const SEGMENT_HEADER: usize = 64;
/// Bytes before a frame's records.
pub(in crate::store) const FRAME_HEADER: usize = 32;
/// The only format that this program reads and writes.
pub(in crate::store) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"wqjournl";

/// The number of a frame: 1 for the first of all, then rising by 1; 0 stands for "none yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// The highest number that a frame or a segment may have: half of all there are. At a million frames a second it is reached
/// after some 290 000 years, so one above it is damage, and counting on from one below it never ends.
pub(in crate::store) const LAST_NUMBER: u64 = u64::MAX >> 1;

impl Seq {
    /// The next frame's number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number before; 0 stays 0.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One boot of the machine, as far as leases need to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boot {
    /// The kernel's boot id.
    pub id: [u8; 16],
    /// The boot clock. Given to [`recover`](crate::store::recover()), it is what the clock shows now; in what comes back
    /// and on the disk, it is what the clock showed at the first start after the boot.
    pub tick: Tick,
}

/// What stands at the beginning of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Header {
    /// The segment's number.
    pub number: u64,
    /// When it was made.
    pub boot: Boot,
    /// No frame in it has a lower seq.
    pub first: Seq,
}

/// Why bytes are not a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum HeaderError {
    /// It is one, of a format that this program does not know.
    Version(u32),
    /// It is one, of the segment of this number: the file was renamed.
    Number(u64),
    /// It is none, and why.
    Unreadable(&'static str),
}

impl Header {
    /// The bytes.
    pub(in crate::store) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.boot.id);
        bytes[40..48].copy_from_slice(&self.boot.tick.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first.0.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the beginning of `bytes`, of the segment whose name says `number`.
    pub(in crate::store) fn decode(bytes: &[u8], number: u64) -> Result<Self, HeaderError> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER>() else {
            return Err(HeaderError::Unreadable("its header is cut off"));
        };
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Unreadable("it has no header of a segment"));
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            0 => return Err(HeaderError::Unreadable("its header is cut off")),
            other => return Err(HeaderError::Version(other)),
        }
        if u32_at(bytes, 12) != crc32c::crc32c(&bytes[16..]) {
            return Err(HeaderError::Unreadable("its header's checksum is wrong"));
        }
        let header = Self {
            number: u64_at(bytes, 16),
            boot: Boot {
                id: array_at(bytes, 24),
                tick: Tick(u64_at(bytes, 40)),
            },
            first: Seq(u64_at(bytes, 48)),
        };
        if header.number == number {
            Ok(header)
        } else {
            Err(HeaderError::Number(header.number))
        }
    }
}

/// The checksum of a frame in segment `number`: `frame` is the frame whole, with any four bytes where its checksum goes.
pub(super) fn frame_crc(number: u64, frame: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&number.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &frame[..4]);
    crc32c::crc32c_append(crc, &frame[8..])
}

/// Fills in the header of `frame`, whose first 32 bytes are set aside for it.
pub(in crate::store) fn dress_frame(
    frame: &mut [u8],
    number: u64,
    seq: Seq,
    synced: Seq,
    units: u32,
) {
    let len = (frame.len() - FRAME_HEADER) as u32;
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[8..16].copy_from_slice(&seq.0.to_le_bytes());
    frame[16..24].copy_from_slice(&synced.0.to_le_bytes());
    frame[24..28].copy_from_slice(&units.to_le_bytes());
    frame[28..32].fill(0);
    let crc = frame_crc(number, frame);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// `N` bytes from `at`; zeros where `bytes` is shorter, which no caller's is.
pub(in crate::store) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk::<N>);
    debug_assert!(found.is_some(), "a header is read whole");
    found.copied().unwrap_or([0; N])
}

/// Four bytes from `at`.
pub(in crate::store) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// Eight bytes from `at`.
pub(in crate::store) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let boot = Boot {
            id: [7; 16],
            tick: Tick(99),
        };
        Header {
            number: 3,
            boot,
            first: Seq(12),
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was() {
        assert_eq!(Header::decode(&header().encode(), 3), Ok(header()));
    }

    #[test]
    fn a_header_with_any_byte_changed_is_not_read() {
        for at in 0..SEGMENT_HEADER {
            let mut bytes = header().encode();
            bytes[at] ^= 0x10;
            assert!(Header::decode(&bytes, 3).is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_unknown_version_is_told_from_a_torn_header() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        assert_eq!(Header::decode(&bytes, 3), Err(HeaderError::Version(2)));
        bytes[8..].fill(0);
        assert!(matches!(
            Header::decode(&bytes, 3),
            Err(HeaderError::Unreadable(_))
        ));
    }

    #[test]
    fn a_header_under_another_name_is_not_read() {
        assert!(Header::decode(&header().encode(), 4).is_err());
    }
}
