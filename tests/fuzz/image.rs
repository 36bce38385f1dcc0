//! [`Image`]: the files of a data directory in one text, which people can read and `diff` can compare.
//!
//! `== PATH` begins a file; its bytes follow in hexadecimal, in lines of any length. A line that begins with `#` is a
//! comment. A segment's zeros at its end are left out.
//!
//! Knows where checksums stand (the tables in `src/store/journal/mod.rs` and `src/store/checkpoint.rs`), so that a change of
//! something else can be given a right one and gets behind it.

use std::fmt::Write as _;

/// Files by their paths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// Reads an image. What is no hexadecimal digit is passed over.
pub(crate) fn read(text: &[u8]) -> Image {
    let mut image = Image::default();
    for line in String::from_utf8_lossy(text).lines() {
        if let Some(path) = line.strip_prefix("== ") {
            image.files.push((path.to_owned(), Vec::new()));
        } else if !line.starts_with('#')
            && let Some((_, bytes)) = image.files.last_mut()
        {
            let digits: Vec<u8> = line
                .chars()
                .filter_map(|letter| letter.to_digit(16))
                .map(|digit| digit as u8)
                .collect();
            let (pairs, _) = digits.as_chunks::<2>();
            bytes.extend(pairs.iter().map(|[high, low]| high << 4 | low));
        }
    }
    image
}

impl Image {
    /// The text of the image.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut text = String::new();
        for (path, bytes) in &self.files {
            let path: String = path.chars().filter(|letter| *letter != '\n').collect();
            writeln!(text, "== {path}").expect("text");
            for line in bytes.chunks(32) {
                for byte in line {
                    write!(text, "{byte:02x}").expect("text");
                }
                text.push('\n');
            }
        }
        text.into_bytes()
    }
}

const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 32;
const CHECKPOINT_HEADER: usize = 80;

fn is_segment(path: &str) -> bool {
    path.rsplit('.').next() == Some("wal")
}

/// The number in a file's name.
fn number(path: &str) -> u64 {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split('.')
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let found = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*found)).ok()
}

/// Where the frames of a segment are, as far as their lengths can be followed.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut found) = (SEGMENT_HEADER, Vec::new());
    while let Some(len) = u32_at(bytes, at).filter(|len| *len > 0) {
        let end = at.saturating_add(FRAME_HEADER).saturating_add(len);
        if end > bytes.len() {
            break;
        }
        found.push(at..end);
        at = end;
    }
    found
}

/// The records in a segment or a checkpoint, each frame by itself.
pub(crate) fn records(path: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    if path.ends_with(".checkpoint") {
        let records = bytes.get(CHECKPOINT_HEADER..).unwrap_or_default();
        return vec![records.to_vec()];
    }
    if !is_segment(path) {
        return Vec::new();
    }
    let frames = frames(bytes).into_iter();
    frames
        .map(|frame| bytes[frame][FRAME_HEADER..].to_vec())
        .collect()
}

/// Makes the checksums of a segment or a checkpoint right, and what else follows from the rest.
pub(crate) fn repair(path: &str, bytes: &mut [u8]) {
    if is_segment(path) && bytes.len() >= SEGMENT_HEADER {
        bytes[16..24].copy_from_slice(&number(path).to_le_bytes());
        let crc = crc32c::crc32c(&bytes[16..SEGMENT_HEADER]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        for frame in frames(bytes) {
            let frame = &mut bytes[frame];
            let crc = crc32c::crc32c(&number(path).to_le_bytes());
            let crc = crc32c::crc32c_append(crc, &frame[..4]);
            let crc = crc32c::crc32c_append(crc, &frame[8..]);
            frame[4..8].copy_from_slice(&crc.to_le_bytes());
        }
    } else if path.ends_with(".checkpoint") && bytes.len() >= CHECKPOINT_HEADER {
        bytes[16..24].copy_from_slice(&number(path).to_le_bytes());
        let len = (bytes.len() - CHECKPOINT_HEADER) as u64;
        bytes[72..80].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Puts the length of a frame's records right, after they have been changed: from `at`, to the end of the file.
pub(crate) fn replace_records(bytes: &mut Vec<u8>, frame: usize, records: &[u8]) {
    let Some(place) = frames(bytes).into_iter().nth(frame) else {
        return;
    };
    let len = (records.len() as u32).to_le_bytes();
    bytes[place.start..place.start + 4].copy_from_slice(&len);
    bytes.splice(
        place.start + FRAME_HEADER..place.end,
        records.iter().copied(),
    );
}
