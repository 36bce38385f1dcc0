//! Tests of repairs of damaged checkpoints: what takes their place, and what a start then tells.

use super::*;
use crate::store::{
    SetAside,
    journal::SEGMENT_HEADER,
    repair::{kept_behind, set_aside},
};

/// Frames 1 to 60, a checkpoint behind the 50th, segments of some twenty frames.
fn with_checkpoint() -> Arc<MemoryDisk> {
    let disk = memory();
    let mut running = Running::start(&disk, boot(1, 10)).unwrap();
    for number in 1..=60 {
        running.write(&[&[long(number, 3000)]]).unwrap();
        if number == 50 {
            running.checkpoint(&[record(1000)]).unwrap();
        }
    }
    disk
}

fn change(disk: &MemoryDisk, path: &Path, at: usize) {
    let mut bytes = disk.bytes(path);
    bytes[at] ^= 1;
    disk.set_bytes(path, bytes);
}

/// The first frame that is left.
fn first_frame(disk: &MemoryDisk) -> u64 {
    let names = Names::list(disk).unwrap();
    let bytes = disk.bytes(&segment_path(names.segments[0]));
    u64::from_le_bytes(bytes[SEGMENT_HEADER + 8..][..8].try_into().unwrap())
}

fn repaired(disk: &Arc<MemoryDisk>) -> Vec<SetAside> {
    let mut moved = Vec::new();
    set_aside(disk, &mut moved).unwrap();
    moved
}

fn foreseen(disk: &Arc<MemoryDisk>) -> Option<Seq> {
    let error = read(&**disk, boot(1, 20)).unwrap_err();
    kept_behind(&**disk, &error).unwrap()
}

/// The numbers of the records that the tail tells.
fn numbers(told: &[Found]) -> Vec<u64> {
    let number = |record: &Record| {
        let id = record.id().expect("each has one");
        u128::from_be_bytes(*id.as_bytes()) as u64
    };
    tail(told).iter().map(number).collect()
}

fn told_by(disk: &Arc<MemoryDisk>) -> Vec<u64> {
    numbers(&read(&**disk, boot(1, 20)).unwrap().1)
}

fn frames(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

/// The last segment that has frames.
fn last_used(disk: &MemoryDisk) -> PathBuf {
    let is_used = |path: &PathBuf| {
        let bytes = disk.bytes(path);
        bytes[SEGMENT_HEADER..].iter().any(|byte| *byte != 0)
    };
    let segments = Names::list(disk).unwrap().segments;
    let paths: Vec<PathBuf> = segments.into_iter().map(segment_path).collect();
    paths.into_iter().rfind(is_used).unwrap()
}

/// Damages the last frame but one, which the last shows to be durable.
fn damage_the_last_but_one(disk: &MemoryDisk) {
    let path = last_used(disk);
    let text = disk.bytes(&path);
    let text = text.windows(8).rposition(|bytes| bytes == b"xxxxxxxx");
    change(disk, &path, text.unwrap() - 3200);
}

#[test]
fn a_damaged_checkpoint_alone_is_lost_where_the_journal_goes_on_from_it() {
    for at in [0, 12, 16, 40, 75, 85] {
        let disk = with_checkpoint();
        let path = checkpoint_path(Seq(50));
        change(&disk, &path, at);
        let damaged = disk.bytes(&path);
        let first = first_frame(&disk);
        assert!((2..=50).contains(&first), "{first}");
        let before = Seq(first - 1);
        assert_eq!(foreseen(&disk), Some(before));

        let moved = repaired(&disk);
        assert_eq!(moved.len(), 1, "{moved:?}");
        let one = &moved[0];
        assert_eq!((&one.file, one.replayed_after), (&path, Some(before)));
        assert_eq!(disk.bytes(&one.now), damaged, "nothing is deleted");
        // Also what the checkpoint stood for, as far as its frames are left.
        assert_eq!(told_by(&disk), frames(first, 60));
        assert_eq!(repaired(&disk), [], "all is well now");

        let mut running = Running::start(&disk, boot(1, 30)).unwrap();
        assert_eq!(running.start.next, Seq(61));
        running.write(&[&[record(61)]]).unwrap();
        running.checkpoint(&[]).unwrap();
        assert_eq!(told_by(&disk), frames(1, 0));
    }
}

#[test]
fn a_checkpoint_that_was_cut_or_is_empty_is_replaced_too() {
    for length in [0, 7, 79, 80, 90] {
        let disk = with_checkpoint();
        let path = checkpoint_path(Seq(50));
        let mut bytes = disk.bytes(&path);
        bytes.truncate(length);
        disk.set_bytes(&path, bytes);
        let first = first_frame(&disk);
        assert_eq!(repaired(&disk)[0].replayed_after, Some(Seq(first - 1)));
        assert_eq!(told_by(&disk), frames(first, 60));
    }
}

#[test]
fn frames_that_a_damaged_checkpoint_stood_for_may_be_missing() {
    let disk = with_checkpoint();
    let path = checkpoint_path(Seq(50));
    let names = Names::list(&*disk).unwrap();
    let holding = names.segments[0];
    change(&disk, &path, 85);
    // As if an older segment had not been removed yet, and had a hole behind it.
    let other = memory();
    let mut old = Running::start(&other, boot(1, 10)).unwrap();
    old.write(&[&[long(1, 3000)]]).unwrap();
    disk.set_bytes(&segment_path(1), other.bytes(&segment_path(1)));
    assert!(holding > 1);
    assert_eq!(foreseen(&disk), Some(Seq(50)));
    let moved = repaired(&disk);
    assert_eq!((moved.len(), moved[0].replayed_after), (1, Some(Seq(50))));
    assert_eq!(moved[0].file, path);
    assert_eq!(told_by(&disk), frames(51, 60));
}

#[test]
fn damage_behind_a_damaged_checkpoint_is_cut_off_as_ever() {
    let disk = with_checkpoint();
    let first = first_frame(&disk);
    change(&disk, &checkpoint_path(Seq(50)), 85);
    damage_the_last_but_one(&disk);
    let moved = repaired(&disk);
    assert_eq!(moved[0].replayed_after, Some(Seq(first - 1)));
    assert!(moved.len() > 1 && moved[1].kept > 0, "{moved:?}");
    assert!(moved[1..].iter().all(|one| one.replayed_after.is_none()));
    assert_eq!(told_by(&disk), frames(first, 58));
}

/// Nothing shows then that the frames before those that are left are in the files.
#[test]
fn a_damaged_checkpoint_for_whose_cut_no_frame_vouches_is_not_replaced() {
    // The cut that the name says lies before, or behind, all that is left; or it is not the one of what is in the file.
    for name in [1, 500, u64::MAX, 55] {
        let disk = with_checkpoint();
        let path = checkpoint_path(Seq(50));
        if name != 55 {
            change(&disk, &path, 85);
        }
        disk.rename(&path, &checkpoint_path(Seq(name))).unwrap();
        assert_eq!(foreseen(&disk), None, "{name}");
        let moved = repaired(&disk);
        assert!(moved.len() > 1, "{name}: {moved:?}");
        assert!(moved.iter().all(|one| one.replayed_after.is_none()));
        assert_eq!(told_by(&disk), frames(1, 0), "{name}");
    }
}

#[test]
fn a_whole_journal_or_an_older_checkpoint_needs_no_other_in_place_of_a_damaged_one() {
    let disk = with_checkpoint();
    let first = first_frame(&disk);
    let older = disk.bytes(&checkpoint_path(Seq(50)));
    let path = checkpoint_path(Seq(55));
    disk.set_bytes(&path, older);
    change(&disk, &path, 85);
    // It starts as it is: the older one does.
    assert_eq!(told_by(&disk), frames(51, 60));
    // With damage behind it does not.
    damage_the_last_but_one(&disk);
    assert!(first < 50);
    assert_eq!(foreseen(&disk), None);
    let moved = repaired(&disk);
    assert!(moved.iter().all(|one| one.replayed_after.is_none()));
    let start = read(&*disk, boot(1, 20)).unwrap();
    assert_eq!(start.0.cut, Seq(50));
    assert!(start.1.contains(&Found::Checkpoint(record(1000))));
    assert_eq!(numbers(&start.1), frames(51, 58));
}

/// Whenever the machine stops in between, the next repair comes to the same.
#[test]
fn a_repair_that_was_stopped_goes_on() {
    use crate::store::memory_disk::Kept;
    // A file system makes a rename whole or not at all: that only the former name goes does not happen.
    for kept in [Kept::Nothing, Kept::Everything, Kept::Additions] {
        for stop in 0..40 {
            let disk = with_checkpoint();
            let path = checkpoint_path(Seq(50));
            disk.sync_everything().unwrap();
            change(&disk, &path, 85);
            disk.sync_everything().unwrap();
            let damaged = disk.bytes(&path);
            let first = first_frame(&disk);
            disk.stop_after(stop);
            let done = set_aside(&disk, &mut Vec::new()).is_ok();
            disk.crash(kept);
            repaired(&disk);
            assert_eq!(told_by(&disk), frames(first, 60), "{kept:?} {stop}");
            let is_kept = disk.files().iter().any(|file| disk.bytes(file) == damaged);
            assert!(is_kept, "{kept:?} {stop}");
            if done {
                break;
            }
            assert!(stop < 39);
        }
    }
}
