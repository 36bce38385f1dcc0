//! Tests of repairs of damaged checkpoints: what takes their place, and what a start then tells.

use super::*;
use crate::store::{
    SetAside,
    journal::SEGMENT_HEADER,
    memory_disk::Kept,
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

/// What the frames that are left changed may have been changed back by others that are gone.
#[test]
fn a_damaged_checkpoint_behind_all_frames_takes_them_with_it() {
    let disk = with_checkpoint();
    let path = checkpoint_path(Seq(50));
    change(&disk, &path, 85);
    disk.rename(&path, &checkpoint_path(Seq(500))).unwrap();
    assert_eq!(foreseen(&disk), None);
    let moved = repaired(&disk);
    assert!(moved.len() > 1, "{moved:?}");
    assert!(moved.iter().all(|one| one.replayed_after.is_none()));
    assert_eq!(told_by(&disk), frames(1, 0));
}

/// So with a name that lies before all frames, or is nobody's.
#[test]
fn without_its_checkpoint_the_journal_begins_with_the_first_frame_that_is_left() {
    type Change = fn(&MemoryDisk, &Path);
    let changes: [(&str, Change); 4] = [
        ("removed", |disk, path| disk.unlink(path).unwrap()),
        ("damaged, and called 1", |disk, path| {
            change(disk, path, 85);
            disk.rename(path, &checkpoint_path(Seq(1))).unwrap();
        }),
        ("damaged, and called by nobody's number", |disk, path| {
            change(disk, path, 85);
            disk.rename(path, &checkpoint_path(Seq(u64::MAX))).unwrap();
        }),
        ("removed, and room set aside", |disk, path| {
            disk.create(&reserve::path(), 300 << 10).unwrap();
            disk.unlink(path).unwrap();
        }),
    ];
    for (what, change) in changes {
        let disk = with_checkpoint();
        if disk.look(&reserve::path()).is_ok() {
            disk.unlink(&reserve::path()).unwrap();
        }
        change(&disk, &checkpoint_path(Seq(50)));
        let first = first_frame(&disk);
        let before = Some(Seq(first - 1));
        if what.starts_with("removed") {
            assert_eq!(foreseen(&disk), before, "{what}");
        }
        let segments = Names::list(&*disk).unwrap().segments;
        let moved = repaired(&disk);
        assert_eq!(moved.last().unwrap().replayed_after, before, "{what}");
        assert_eq!(Names::list(&*disk).unwrap().segments, segments, "{what}");
        assert_eq!(told_by(&disk), frames(first, 60), "{what}");
        assert_eq!(repaired(&disk), [], "{what}");
        let mut running = Running::start(&disk, boot(1, 30)).unwrap();
        running.checkpoint(&[]).unwrap();
        assert_eq!(told_by(&disk), frames(1, 0), "{what}");
    }
}

#[test]
fn an_older_checkpoint_in_the_place_of_the_newest_is_set_aside_alone() {
    for stop in 0..60 {
        let disk = memory();
        let mut running = Running::start(&disk, boot(1, 10)).unwrap();
        let mut older = Vec::new();
        for number in 1..=90 {
            running.write(&[&[long(number, 3000)]]).unwrap();
            if number == 20 || number == 70 {
                running.checkpoint(&[record(number)]).unwrap();
            }
            if number == 20 {
                older = disk.bytes(&checkpoint_path(Seq(20)));
            }
        }
        disk.unlink(&checkpoint_path(Seq(70))).unwrap();
        let path = checkpoint_path(Seq(20));
        disk.set_bytes(&path, older.clone());
        disk.sync_everything().unwrap();
        let first = first_frame(&disk);
        assert!(first > 22);
        assert_eq!(foreseen(&disk), Some(Seq(first - 1)));
        disk.stop_after(stop);
        let mut moved = Vec::new();
        let done = set_aside(&disk, &mut moved).is_ok();
        disk.crash(Kept::Everything);
        if done {
            assert_eq!((moved.len(), &moved[0].file), (1, &path));
            assert_eq!(moved[0].replayed_after, Some(Seq(first - 1)));
            assert!(moved[0].reason.contains("ends with frame 20"), "{moved:?}");
        }
        repaired(&disk);
        assert_eq!(told_by(&disk), frames(first, 90), "{stop}");
        let is_kept = disk.files().iter().any(|file| disk.bytes(file) == older);
        assert!(is_kept, "{stop}");
        if done {
            return;
        }
    }
    panic!("it does not end");
}

#[test]
fn a_missing_first_segment_leaves_those_behind_it() {
    let disk = with_checkpoint();
    let mut running = Running::start(&disk, boot(1, 20)).unwrap();
    for number in 61..=90 {
        running.write(&[&[long(number, 3000)]]).unwrap();
    }
    let names = Names::list(&*disk).unwrap();
    disk.unlink(&segment_path(names.segments[0])).unwrap();
    let first = first_frame(&disk);
    assert!(first > 51);
    let moved = repaired(&disk);
    assert_eq!(
        (moved.len(), &moved[0].file),
        (1, &checkpoint_path(Seq(50)))
    );
    assert_eq!(told_by(&disk), frames(first, 90));
}

/// Frames whose segment's beginning is damaged are there, and not missing: they go aside with it, and the checkpoint stays.
#[test]
fn a_damaged_beginning_of_the_first_segment_takes_no_whole_checkpoint_with_it() {
    for at in [3, SEGMENT_HEADER + 20] {
        let disk = with_checkpoint();
        let mut running = Running::start(&disk, boot(1, 20)).unwrap();
        for number in 61..=90 {
            running.write(&[&[long(number, 3000)]]).unwrap();
        }
        drop(running);
        // The first segment goes, and the checkpoint of what was before the second is there.
        let names = Names::list(&*disk).unwrap();
        disk.unlink(&segment_path(names.segments[0])).unwrap();
        disk.unlink(&checkpoint_path(Seq(50))).unwrap();
        let (cut, segment) = (Seq(first_frame(&disk) - 1), segment_path(names.segments[1]));
        let checkpoint = checkpoint_path(cut);
        disk.set_bytes(&checkpoint, checkpoint::empty(&boot(1, 20), cut).to_vec());
        change(&disk, &segment, at);
        let bytes = disk.bytes(&segment);
        let moved = repaired(&disk);
        assert_eq!(moved[0].file, segment, "{at}: {moved:?}");
        assert!(disk.look(&checkpoint).is_ok(), "{at}");
        assert_eq!(disk.bytes(&moved[0].now), bytes, "{at}");
        assert!(
            moved.iter().all(|one| one.replayed_after.is_none()),
            "{moved:?}"
        );
    }
}

#[test]
fn a_whole_checkpoint_under_another_name_is_to_be_called_by_its_own_again() {
    let disk = with_checkpoint();
    let (path, other) = (checkpoint_path(Seq(50)), checkpoint_path(Seq(55)));
    disk.rename(&path, &other).unwrap();
    for repair in [false, true] {
        let error = if repair {
            set_aside(&disk, &mut Vec::new()).unwrap_err()
        } else {
            read(&*disk, boot(1, 20)).unwrap_err()
        };
        let text = error.to_string();
        assert!(text.contains("the checkpoint of frame 50"), "{text}");
        assert!(text.contains(&path.display().to_string()), "{text}");
    }
    // Beside itself it is a copy that nothing needs.
    disk.set_bytes(&path, disk.bytes(&other));
    let (start, told) = read(&*disk, boot(1, 20)).unwrap();
    assert_eq!(start.passed_over, Some(other));
    assert_eq!(numbers(&told), frames(51, 60));
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
