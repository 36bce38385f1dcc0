//! Checkpoints: the state that file names cannot hold, as of one seq, so that the journal before it can go.
//!
//! `journal/<cut, 20 digits>.checkpoint`, written as `journal/checkpoint.tmp`, synced, and renamed. The newest counts;
//! older ones are removed. This module may not know what the records mean: those that names cannot hold; and, as if they
//! were submitted again, the tasks whose files could not be written, and, as if they were submitted and cancelled, those that
//! had ended and whose files could not be removed.
//!
//! All integers are little-endian:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `wqchckpt` |
//! | 8 | 4 | version of the format: 1. Any other is refused, never guessed at |
//! | 12 | 4 | CRC32C of bytes 16 to the end |
//! | 16 | 8 | cut: what frames up to this seq changed is in the checkpoint and in the task files |
//! | 24 | 16 | the machine's boot id when it was written |
//! | 40 | 8 | the boot clock at the first start after that boot, in nanoseconds |
//! | 48 | 1 | 1 if there is a last id, else 0 |
//! | 49 | 7 | zeros |
//! | 56 | 16 | the last id made here, most significant byte first |
//! | 72 | 8 | bytes of the records, to the end of the file |
//! | 80 | | records, as [`encode_record`](crate::task::encode_record) writes them |

use std::path::{Path, PathBuf};

use super::{
    disk::{Disk, DiskFile as _, DiskResult, Read, names},
    journal::{Boot, DIR, LAST_NUMBER, Seq, VERSION, array_at, u32_at, u64_at},
    reserve,
};
use crate::task::{Record, TaskId, Tick, encode_record, read_records};

const MAGIC: [u8; 8] = *b"wqchckpt";
const HEADER: usize = 80;
const SUFFIX: &str = ".checkpoint";
/// What a checkpoint is called while it is written: short, as the [reserve] keeps room for this name too.
pub(super) const TEMPORARY: &str = "checkpoint.tmp";

/// The state as of one seq, to be written down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The last frame whose changes are in it.
    pub cut: Seq,
    /// The last id made here: the source goes on from it.
    pub last_id: Option<TaskId>,
    /// The records that make the state.
    pub records: Pieces,
    /// Segments to remove once the checkpoint is durable.
    pub delete: Vec<u64>,
}

/// Records one after the other as [`encode_record`] writes them, in pieces: one buffer that grows is there twice each time, and
/// there may be very many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pieces(Vec<Vec<u8>>);

/// The length of a piece in bytes, unless a record is longer.
const PIECE: usize = 256 << 10;
/// No more than so many bytes of a piece stay free: nearly all records are shorter.
const SPARE: usize = 4 << 10;

impl Pieces {
    /// Adds a record.
    pub fn push(&mut self, record: &Record) {
        match self.0.last_mut() {
            Some(last) if last.len() + SPARE <= PIECE => encode_record(record, last),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                encode_record(record, &mut piece);
                self.0.push(piece);
            }
        }
    }

    /// Adds all of `others`, which is empty then.
    pub fn append(&mut self, others: &mut Self) {
        self.0.append(&mut others.0);
    }

    /// How many bytes they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, a piece at a time.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// All bytes in one.
    #[cfg(test)]
    #[must_use]
    pub fn concat(&self) -> Vec<u8> {
        self.0.concat()
    }
}

impl<'a> FromIterator<&'a Record> for Pieces {
    fn from_iter<I: IntoIterator<Item = &'a Record>>(records: I) -> Self {
        let mut pieces = Self::default();
        for record in records {
            pieces.push(record);
        }
        pieces
    }
}

/// A checkpoint read back.
#[derive(Debug)]
pub(super) struct Found {
    pub cut: Seq,
    pub boot: Boot,
    pub last_id: Option<TaskId>,
    /// All of it: a record takes several times the memory that its bytes do.
    bytes: Vec<u8>,
}

impl Found {
    /// Its records, each of which was read once to see that it is one.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        read_records(&self.bytes[HEADER..]).map_while(Result::ok)
    }
}

/// Why a checkpoint could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is of a format that this program does not know.
    Version(u32),
    /// It is not whole: what is wrong, and at which byte.
    Damaged(u64, String),
}

/// A checkpoint's file, relative to the data directory.
pub(super) fn checkpoint_path(cut: Seq) -> PathBuf {
    PathBuf::from(DIR).join(format!("{:020}{SUFFIX}", cut.0))
}

/// The cut in a checkpoint's file name; `None` for any other name.
pub(super) fn checkpoint_cut(name: &str) -> Option<Seq> {
    let digits = name.strip_suffix(SUFFIX)?;
    let canonical = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| canonical).map(Seq)
}

/// What stands before the records of a checkpoint.
fn header(boot: &Boot, cp: &Checkpoint) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&cp.cut.0.to_le_bytes());
    bytes[24..40].copy_from_slice(&boot.id);
    bytes[40..48].copy_from_slice(&boot.tick.0.to_le_bytes());
    if let Some(id) = &cp.last_id {
        bytes[48] = 1;
        bytes[56..72].copy_from_slice(id.as_bytes());
    }
    bytes[72..80].copy_from_slice(&(cp.records.len() as u64).to_le_bytes());
    let crc = cp
        .records
        .iter()
        .fold(crc32c::crc32c(&bytes[16..]), crc32c::crc32c_append);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The bytes of a checkpoint that tells nothing but its cut.
pub(super) fn empty(boot: &Boot, cut: Seq) -> [u8; HEADER] {
    header(
        boot,
        &Checkpoint {
            cut,
            ..Checkpoint::default()
        },
    )
}

/// The cut of the checkpoint under the name of `cut`, if that is whole, and another one.
pub(super) fn misnamed(disk: &impl Disk, cut: Seq) -> DiskResult<Option<Seq>> {
    let Ok(bytes) = whole(disk, cut)? else {
        return Ok(None);
    };
    let own = Seq(u64_at(&bytes, 16));
    Ok((own != cut && decode(bytes, own).is_ok()).then_some(own))
}

/// What is wrong with a header that does not fit a file of `size` bytes.
fn misfit(header: &[u8], size: u64) -> Result<(), Unread> {
    let damaged = |at: usize, reason: &str| Err(Unread::Damaged(at as u64, reason.to_owned()));
    if header.len() < HEADER {
        return damaged(header.len(), "its header is cut off");
    }
    if header[..8] != MAGIC {
        return damaged(0, "it has no header of a checkpoint");
    }
    match u32_at(header, 8) {
        VERSION => {}
        other => return Err(Unread::Version(other)),
    }
    if u64_at(header, 72).checked_add(HEADER as u64) != Some(size) {
        return damaged(72, "it has another length than it says");
    }
    Ok(())
}

/// All bytes of the checkpoint of `cut`, if its header fits its size: a file may say any size and have nothing on the disk.
fn whole(disk: &impl Disk, cut: Seq) -> DiskResult<Result<Vec<u8>, Unread>> {
    let path = checkpoint_path(cut);
    let size = match disk.read_own(&path, HEADER as u64)? {
        Read::TooLarge(meta) => {
            let header = disk.open(&path)?.read_at(0, HEADER)?;
            if let Err(unread) = misfit(&header, meta.size) {
                return Ok(Err(unread));
            }
            meta.size
        }
        _ => HEADER as u64,
    };
    let unread = match disk.read_own(&path, size)? {
        Read::Whole(_, bytes) => return Ok(misfit(&bytes, bytes.len() as u64).map(|()| bytes)),
        Read::Irregular(kind) => format!("it is no file of its own ({kind:?})"),
        Read::TooLarge(_) => "it is too large".to_owned(),
        Read::Changed => "another took its place".to_owned(),
    };
    Ok(Err(Unread::Damaged(0, unread)))
}

fn decode(bytes: Vec<u8>, cut: Seq) -> Result<Found, Unread> {
    let damaged = |at: usize, reason: &str| Err(Unread::Damaged(at as u64, reason.to_owned()));
    misfit(&bytes, bytes.len() as u64)?;
    if u32_at(&bytes, 12) != crc32c::crc32c(&bytes[16..]) {
        return damaged(12, "its checksum is wrong");
    }
    if u64_at(&bytes, 16) != cut.0 {
        return damaged(16, "its cut is not that of its name");
    }
    if cut.0 > LAST_NUMBER {
        return damaged(16, "its cut is above any that is reached");
    }
    read_records(&bytes[HEADER..])
        .try_for_each(|record| record.map(drop))
        .map_err(|error| Unread::Damaged(HEADER as u64, error.to_string()))?;
    Ok(Found {
        cut,
        boot: Boot {
            id: array_at(&bytes, 24),
            tick: Tick(u64_at(&bytes, 40)),
        },
        last_id: (bytes[48] != 0).then(|| TaskId::from_bytes(array_at(&bytes, 56))),
        bytes,
    })
}

/// Reads the checkpoint of `cut`.
pub(super) fn read(disk: &impl Disk, cut: Seq) -> DiskResult<Result<Found, Unread>> {
    Ok(whole(disk, cut)?.and_then(|bytes| decode(bytes, cut)))
}

/// Makes everything durable that was done before, then the checkpoint: where the disk is full, of the [reserve].
pub(super) fn write(disk: &impl Disk, boot: &Boot, cp: &Checkpoint) -> DiskResult<()> {
    disk.sync_everything()?;
    let path = checkpoint_path(cp.cut);
    let temporary = Path::new(DIR).join(TEMPORARY);
    // One that a full disk, or a crash, left behind.
    remove(disk, &temporary)?;
    let header = header(boot, cp);
    let bytes = (HEADER + cp.records.len()) as u64;
    let (mut file, reserved) = match disk.create(&temporary, bytes) {
        Ok(file) => (file, None),
        Err(full) if full.is_full() => {
            let taken = reserve::take(disk, &temporary)?.ok_or(full)?;
            (taken.file, Some(taken.size))
        }
        Err(error) => return Err(error),
    };
    let mut at = 0;
    let mut parts = std::iter::once(&header[..]).chain(cp.records.iter());
    let written = parts.try_for_each(|part| {
        let here = at;
        at += part.len() as u64;
        file.write_at(part, here)
    });
    if let Err(error) = written {
        match reserved {
            Some(size) => reserve::give_back(disk, &temporary, size)?,
            None => remove(disk, &temporary)?,
        }
        return Err(error);
    }
    if reserved.is_some() {
        // What lies behind it is not its own.
        disk.truncate(&temporary, bytes)?;
    }
    file.sync()?;
    reserve::rename(disk, &temporary, &path)?;
    disk.sync_dir(Path::new(DIR))
}

/// Removes the checkpoints before that of `cut`.
pub(super) fn remove_older(disk: &impl Disk, cut: Seq) -> DiskResult<()> {
    for name in names(disk, Path::new(DIR))? {
        if name
            .to_str()
            .and_then(checkpoint_cut)
            .is_some_and(|older| older < cut)
        {
            remove(disk, &Path::new(DIR).join(name))?;
        }
    }
    Ok(())
}

/// Removes a file that may be gone already.
pub(super) fn remove(disk: &impl Disk, path: &Path) -> DiskResult<()> {
    match disk.unlink(path) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::memory_disk::MemoryDisk, task::QueueName};

    fn checkpoint() -> (Boot, Checkpoint) {
        let boot = Boot {
            id: [3; 16],
            tick: Tick(77),
        };
        let records = Pieces::from_iter([&Record::Rebooted { tick: Tick(5) }]);
        let cp = Checkpoint {
            cut: Seq(9),
            last_id: Some(TaskId::from_bytes([8; 16])),
            records,
            delete: Vec::new(),
        };
        (boot, cp)
    }

    fn encode(boot: &Boot, cp: &Checkpoint) -> Vec<u8> {
        [&header(boot, cp)[..], &cp.records.concat()].concat()
    }

    #[test]
    fn many_records_are_written_a_piece_at_a_time_and_read_in_their_order() {
        let (boot, mut cp) = checkpoint();
        let paused = |number: u32| Record::Paused {
            queue: Some(QueueName::parse(&format!("queue-{number}")).unwrap()),
            on: true,
        };
        let all: Vec<Record> = (0..40_000).map(paused).collect();
        cp.records = all.iter().collect();
        assert!(cp.records.len() > 2 * PIECE);
        assert!(cp.records.iter().all(|piece| piece.len() <= PIECE));
        let disk = MemoryDisk::new();
        disk.make_dir(Path::new(DIR)).unwrap();
        write(&disk, &boot, &cp).unwrap();
        let found = read(&disk, cp.cut).unwrap().unwrap();
        assert!(found.records().eq(all));
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let (boot, cp) = checkpoint();
        let found = decode(encode(&boot, &cp), Seq(9)).unwrap();
        assert_eq!(
            (found.cut, found.boot, found.last_id),
            (cp.cut, boot, cp.last_id)
        );
        let records: Vec<Record> = found.records().collect();
        assert_eq!(records, [Record::Rebooted { tick: Tick(5) }]);
    }

    #[test]
    fn a_checkpoint_changed_or_cut_anywhere_is_not_read() {
        let (boot, cp) = checkpoint();
        let bytes = encode(&boot, &cp);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            let read = decode(changed, Seq(9));
            assert!(read.is_err(), "byte {at}");
            assert_eq!(
                (8..12).contains(&at),
                matches!(read, Err(Unread::Version(_))),
                "byte {at}"
            );
            assert!(decode(bytes[..at].to_vec(), Seq(9)).is_err(), "cut at {at}");
        }
        assert!(decode(bytes, Seq(10)).is_err(), "under another name");
    }

    #[test]
    fn only_names_of_twenty_digits_are_checkpoints() {
        assert_eq!(
            checkpoint_cut("00000000000000000009.checkpoint"),
            Some(Seq(9))
        );
        assert_eq!(
            checkpoint_path(Seq(9)).to_str(),
            Some("journal/00000000000000000009.checkpoint")
        );
        assert_eq!(checkpoint_cut("9.checkpoint"), None);
        assert_eq!(checkpoint_cut("00000000000000000009.checkpoint.tmp"), None);
    }
}
