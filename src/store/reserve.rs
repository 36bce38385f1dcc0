//! The reserve: room that is set aside for the next checkpoint, so that a full disk has it too.
//!
//! A checkpoint is what lets old segments go. On a full disk it would free far more room than it needs, and could not be made for
//! want of that little: then the journal would keep all it has for good. So a file, `journal/reserve`, holds that room. Where a
//! checkpoint's file finds none, the reserve becomes that file; once the old segments are gone, a new one is set aside. In the same
//! way it becomes a segment of the journal where that has no room for anything: when somebody took, during a start, what the life
//! before had left for the ends of tasks.
//!
//! Its new name needs room, too, in the directory. XFS keeps the names of a small directory in its inode; one more than fits takes a
//! block, and more than fifty have to be free for that: cutting so much off the reserve would leave nothing of it, and whoever
//! fills the disk would have it first. So there is an empty file beside it, `journal/`[`NAMES`], whose long name is room for names:
//! where a rename finds none, that file goes first, which needs no room at all. Where the directory has a block of its own already, a
//! rename finds room in that, and the file stays: without it the directory might shrink into its inode again.
//!
//! What is in both means nothing: a start passes over them, and a program that does not know them does so too. This module may not
//! know what a checkpoint holds.

use std::path::{Path, PathBuf};

use super::{
    checkpoint::remove,
    disk::{Disk, DiskResult},
    journal::DIR,
};

/// The least that is set aside in bytes, where the disk has it: the state of some thousand leases and switches.
const LEAST: u64 = 256 << 10;
/// The most: larger checkpoints come of payloads that found no room for their files, and get smaller as those tasks end.
const MOST: u64 = 16 << 20;
/// On a disk that has no room for [`LEAST`], halves are tried down to this.
const OF_USE: u64 = 16 << 10;

/// The reserve's file, relative to the data directory.
pub(super) fn path() -> PathBuf {
    Path::new(DIR).join(NAME)
}

/// Its name in the journal's directory.
pub(super) const NAME: &str = "reserve";

/// The name that keeps room for others: as long as those of a checkpoint and of its temporary file together are longer than
/// [`NAME`], and longer than a segment's, with what stands beside each of them in a directory of XFS (8 or 12 bytes).
pub(super) const NAMES: &str = "reserve-of-room-for-names-in-this-directory";

/// How much is to be set aside where a checkpoint has `bytes`: a quarter more, since the next one may be longer.
pub(super) fn wanted(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4).clamp(LEAST, MOST)
}

/// Sets `bytes` aside, or what the disk has for it, unless as much is there already. Not synced: what a power cut takes is set
/// aside anew.
pub(super) fn set_aside(disk: &impl Disk, bytes: u64) -> DiskResult<()> {
    keep_names(disk)?;
    let there = match disk.look(&path()) {
        Ok(meta) => meta.size,
        Err(error) if error.is_missing() => 0,
        Err(error) => return Err(error),
    };
    let new = path().with_extension("tmp");
    let mut bytes = bytes;
    while bytes > there && bytes >= OF_USE {
        remove(disk, &new)?;
        let made = disk.create(&new, bytes);
        match made.and_then(|_| disk.rename(&new, &path())) {
            Ok(()) => break,
            Err(error) if error.is_full() => bytes /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Keeps room for names, unless it is kept already, or there is none.
fn keep_names(disk: &impl Disk) -> DiskResult<()> {
    match disk.create(&Path::new(DIR).join(NAMES), 0) {
        Err(error) if !error.is_taken() && !error.is_full() => Err(error),
        _ => Ok(()),
    }
}

/// Renames in the journal's directory: where the disk has no room for the new name, into that which is kept for it.
pub(super) fn rename(disk: &impl Disk, from: &Path, to: &Path) -> DiskResult<()> {
    match disk.rename(from, to) {
        Err(error) if error.is_full() => {
            remove(disk, &Path::new(DIR).join(NAMES))?;
            disk.rename(from, to)
        }
        other => other,
    }
}

/// A file made of the reserve.
pub(super) struct Taken<F> {
    /// It, open for writing. What is in it means nothing.
    pub file: F,
    /// How many bytes were set aside.
    pub size: u64,
}

/// Makes the reserve the file `to`; `None`: there is none.
pub(super) fn take<D: Disk>(disk: &D, to: &Path) -> DiskResult<Option<Taken<D::File>>> {
    // Only under its new name is it nobody else's: two may want it.
    match rename(disk, &path(), to) {
        Ok(()) => {}
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    }
    let taken = disk.look(to).and_then(|meta| {
        let file = disk.open_to_write(to)?;
        let size = meta.size;
        Ok(Taken { file, size })
    });
    match taken {
        Ok(taken) => Ok(Some(taken)),
        Err(error) => {
            rename(disk, to, &path())?;
            Err(error)
        }
    }
}

/// Makes the file at `from` the reserve again.
pub(super) fn give_back(disk: &impl Disk, from: &Path, size: u64) -> DiskResult<()> {
    disk.truncate(from, size)?;
    rename(disk, from, &path())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::{
        super::{
            checkpoint::{Checkpoint, Pieces, read, write},
            journal::{Boot, Seq},
            memory_disk::MemoryDisk,
        },
        *,
    };
    use crate::task::{QueueName, Record};

    fn disk() -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.make_dir(Path::new(DIR)).unwrap();
        disk
    }

    fn size(disk: &MemoryDisk) -> Option<u64> {
        disk.look(&path()).ok().map(|meta| meta.size)
    }

    fn fill(disk: &MemoryDisk) {
        disk.set_capacity(disk.used());
    }

    fn checkpoint(cut: u64, records: u32) -> Checkpoint {
        let paused = |number: u32| Record::Paused {
            queue: Some(QueueName::parse(&format!("queue-{number}")).unwrap()),
            on: true,
        };
        Checkpoint {
            cut: Seq(cut),
            records: Pieces::from_iter(&(0..records).map(paused).collect::<Vec<_>>()),
            ..Checkpoint::default()
        }
    }

    #[test]
    fn as_much_is_set_aside_as_is_wanted_or_as_there_is() {
        let disk = disk();
        set_aside(&disk, LEAST).unwrap();
        assert_eq!(size(&disk), Some(LEAST));
        set_aside(&disk, 2 * LEAST).unwrap();
        assert_eq!(size(&disk), Some(2 * LEAST));
        set_aside(&disk, LEAST).unwrap();
        assert_eq!(size(&disk), Some(2 * LEAST), "what is there is enough");

        disk.unlink(&path()).unwrap();
        disk.set_capacity(LEAST / 3);
        set_aside(&disk, LEAST).unwrap();
        assert_eq!(size(&disk), Some(LEAST / 4));
        disk.unlink(&path()).unwrap();
        disk.set_capacity(OF_USE - 1);
        set_aside(&disk, LEAST).unwrap();
        assert_eq!(size(&disk), None);
    }

    #[test]
    fn a_checkpoint_on_a_full_disk_is_made_of_the_reserve_and_has_its_own_length() {
        let disk = disk();
        set_aside(&disk, LEAST).unwrap();
        fill(&disk);
        let cp = checkpoint(9, 100);
        write(&disk, &Boot::default(), &cp).unwrap();
        assert_eq!(size(&disk), None, "it is used");
        let found = read(&disk, cp.cut).unwrap().unwrap();
        assert_eq!(found.records().count(), 100);
        // What was left of it is free again.
        set_aside(&disk, LEAST).unwrap();
        assert_eq!(size(&disk), Some(LEAST / 2));
    }

    #[test]
    fn a_checkpoint_that_the_reserve_does_not_hold_leaves_it_as_it_was() {
        let disk = disk();
        set_aside(&disk, OF_USE).unwrap();
        fill(&disk);
        let before = disk.used();
        let error = write(&disk, &Boot::default(), &checkpoint(9, 10_000)).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!((size(&disk), disk.used()), (Some(OF_USE), before));
        write(&disk, &Boot::default(), &checkpoint(10, 10)).unwrap();
        assert!(read(&disk, Seq(10)).unwrap().is_ok());
    }

    /// As XFS does it where a directory's inode is full.
    #[test]
    fn a_rename_that_finds_no_room_for_the_name_takes_that_which_is_kept() {
        let kept = Path::new(DIR).join(NAMES);
        // The reserve's new name, the checkpoint's own, and one that is no matter of the reserve's.
        for renames in 0..2 {
            let disk = disk();
            set_aside(&disk, LEAST).unwrap();
            assert!(disk.files().contains(&kept));
            fill(&disk);
            disk.fail_nth("rename", renames, ErrorKind::StorageFull);
            write(&disk, &Boot::default(), &checkpoint(9, 100)).unwrap();
            assert!(read(&disk, Seq(9)).unwrap().is_ok());
            assert!(!disk.files().contains(&kept));
            set_aside(&disk, LEAST).unwrap();
            assert!(disk.files().contains(&kept));
        }
        let disk = disk();
        disk.fail_nth("rename", 0, ErrorKind::StorageFull);
        write(&disk, &Boot::default(), &checkpoint(9, 100)).unwrap();
        assert!(read(&disk, Seq(9)).unwrap().is_ok());
    }

    #[test]
    fn the_name_that_is_kept_is_long_enough_for_those_that_take_its_place() {
        use crate::store::{
            checkpoint::{TEMPORARY, checkpoint_path},
            journal::segment_path,
        };
        let length = |path: PathBuf| path.file_name().unwrap().len();
        for beside in [8, 12] {
            let kept = NAMES.len() + beside;
            let (checkpoint, segment) = (checkpoint_path(Seq(1)), segment_path(1));
            assert!(kept >= TEMPORARY.len() + length(checkpoint) - NAME.len() + beside);
            assert!(kept >= length(segment) + beside);
        }
    }

    #[test]
    fn without_a_reserve_a_full_disk_says_so() {
        let disk = disk();
        disk.set_capacity(10);
        let error = write(&disk, &Boot::default(), &checkpoint(9, 10)).unwrap_err();
        assert!(error.is_full(), "{error}");
    }

    #[test]
    fn the_reserve_grows_with_the_checkpoints_within_bounds() {
        assert_eq!(wanted(0), LEAST);
        assert_eq!(wanted(1 << 20), (1 << 20) + (1 << 18));
        assert_eq!(wanted(u64::MAX), MOST);
    }
}
