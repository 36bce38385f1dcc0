//! Tests of recovery that have a checkpoint in them, and the one that stops at every change.

use super::*;
use crate::store::memory_disk::Kept;

#[test]
fn a_reboot_before_a_checkpoint_is_not_told_again() {
    let disk = memory();
    Running::start(&disk, boot(1, 10))
        .unwrap()
        .write(&[&[record(1)]])
        .unwrap();
    let mut second = Running::start(&disk, boot(2, 50)).unwrap();
    second.checkpoint(&[]).unwrap();
    let third = Running::start(&disk, boot(2, 60)).unwrap();
    assert_eq!((tail(&third.told), third.start.boot), (vec![], boot(2, 50)));
    let fourth = Running::start(&disk, boot(3, 7)).unwrap();
    assert_eq!(tail(&fourth.told), [Record::Rebooted { tick: Tick(7) }]);
}

#[test]
fn a_checkpoint_stands_for_the_segments_before_it() {
    let disk = memory();
    let mut running = Running::start(&disk, boot(1, 10)).unwrap();
    for number in 0..50 {
        running.write(&[&[long(number, 3000)]]).unwrap();
    }
    running.checkpoint(&[record(1000)]).unwrap();
    let files = disk.files();
    assert!(
        !files.contains(&segment_path(1)) && !files.contains(&segment_path(2)),
        "{files:?}"
    );
    for number in 50..60 {
        running.write(&[&[long(number, 3000)]]).unwrap();
    }
    running.checkpoint(&[record(2000), record(2001)]).unwrap();
    running.write(&[&[record(60)]]).unwrap();
    assert!(
        !disk.files().contains(&checkpoint_path(Seq(50))),
        "only the newest stays"
    );

    let (start, told) = read(&*disk, boot(1, 20)).unwrap();
    let expected = [
        Found::LastId(TaskId::from_bytes([9; 16])),
        Found::Checkpoint(record(2000)),
        Found::Checkpoint(record(2001)),
        Found::Tail(Seq(61), record(60)),
    ];
    assert_eq!(told, expected);
    assert_eq!((start.next, start.cut), (Seq(62), Seq(60)));
}

#[test]
fn the_journal_goes_on_after_a_checkpoint_that_left_no_frames() {
    let disk = memory();
    for round in 1..4 {
        let mut running = Running::start(&disk, boot(1, 10)).unwrap();
        assert_eq!(
            (running.start.next, tail(&running.told)),
            (Seq(round), vec![])
        );
        running.write(&[&[record(round)]]).unwrap();
        drop(running);
        let mut running = Running::start(&disk, boot(1, 10)).unwrap();
        running.checkpoint(&[]).unwrap();
    }
    assert_eq!(
        disk.files().len(),
        4,
        "a checkpoint, room for the next one and for its name, and the segment made last: {:?}",
        disk.files()
    );
}

#[test]
fn some_of_the_segments_to_go_may_be_gone() {
    for gone in 0..8_u64 {
        let disk = memory();
        let mut running = Running::start(&disk, boot(1, 10)).unwrap();
        for number in 0..70 {
            running.write(&[&[long(number, 3000)]]).unwrap();
        }
        let kept: Vec<_> = (1..=3)
            .map(|number| (number, disk.bytes(&segment_path(number))))
            .collect();
        running.checkpoint(&[record(1000)]).unwrap();
        running.write(&[&[record(70)]]).unwrap();
        for (number, bytes) in kept {
            if gone >> (number - 1) & 1 == 0 {
                disk.set_bytes(&segment_path(number), bytes);
            }
        }
        let (start, told) = read(&*disk, boot(1, 20)).unwrap();
        assert_eq!(
            (start.next, tail(&told)),
            (Seq(72), vec![record(70)]),
            "{gone:b}"
        );
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_only_if_the_journal_is_whole_without_it() {
    let disk = memory();
    let mut running = Running::start(&disk, boot(1, 10)).unwrap();
    for number in 0..50 {
        running.write(&[&[long(number, 3000)]]).unwrap();
    }
    let kept: Vec<_> = (1..=2)
        .map(|number| (number, disk.bytes(&segment_path(number))))
        .collect();
    running.checkpoint(&[record(1000)]).unwrap();
    running.write(&[&[record(50)]]).unwrap();
    let path = checkpoint_path(Seq(50));
    let mut bytes = disk.bytes(&path);
    bytes[85] ^= 1;
    disk.set_bytes(&path, bytes);
    assert_eq!(damage(read(&*disk, boot(1, 20))).0, path);
    for (number, bytes) in kept {
        disk.set_bytes(&segment_path(number), bytes);
    }
    let (start, told) = read(&*disk, boot(1, 20)).unwrap();
    assert_eq!(
        (told.len(), start.next, start.passed_over),
        (51, Seq(52), Some(path.clone()))
    );
    // A checkpoint behind the journal's end: what it held is lost with it.
    disk.rename(&path, &checkpoint_path(Seq(52))).unwrap();
    assert_eq!(
        damage(read(&*disk, boot(1, 20))).0,
        checkpoint_path(Seq(52))
    );
}

#[test]
fn a_checkpoint_for_which_there_is_no_room_changes_nothing() {
    let disk = memory();
    let mut running = Running::start(&disk, boot(1, 10)).unwrap();
    running.write(&[&[record(1)]]).unwrap();
    let before = disk.files();
    disk.set_capacity(100);
    assert!(running.checkpoint(&[record(5)]).unwrap_err().is_full());
    disk.set_capacity(1 << 30);
    disk.fail_next("write", io::ErrorKind::StorageFull);
    assert!(running.checkpoint(&[record(5)]).unwrap_err().is_full());
    assert_eq!(disk.files(), before);
    running.ledger.checkpoint_refused();
    running.checkpoint(&[record(5)]).unwrap();
    // From now on there is room set aside.
    running.write(&[&[record(2)]]).unwrap();
    disk.set_capacity(100);
    running.checkpoint(&[record(6)]).unwrap();
    assert_eq!(read(&*disk, boot(1, 10)).unwrap().0.cut, Seq(2));
}

/// Frames 1 to 70 of 3 KB in four segments, of which a checkpoint behind the 50th has let none go.
fn covered() -> (Arc<MemoryDisk>, Vec<Group>) {
    let (disk, groups) = several_segments();
    let cp = Checkpoint {
        cut: Seq(50),
        ..Checkpoint::default()
    };
    checkpoint::write(&*disk, &boot(1, 10), &cp).unwrap();
    (disk, groups)
}

fn spoil(disk: &MemoryDisk, group: &Group, how: &dyn Fn(&mut [u8])) {
    let path = segment_path(group.segment);
    let mut bytes = disk.bytes(&path);
    let at = group.offset as usize;
    how(&mut bytes[at..at + group.bytes.len()]);
    disk.set_bytes(&path, bytes);
}

fn behind_the_cut(told: &[Found]) -> bool {
    let expected: Vec<Record> = (50..70).map(|number| long(number, 3000)).collect();
    tail(told) == expected
}

#[test]
fn damage_among_frames_that_the_checkpoint_holds_is_passed_over_and_told() {
    let wipe = |frame: &mut [u8]| frame.fill(0);
    let flip = |frame: &mut [u8]| frame[45] ^= 0xff;
    let length = |frame: &mut [u8]| frame[1] ^= 0xff;
    let ways: [fn(&mut [u8]); 3] = [wipe, flip, length];
    for (seq, how) in (1..=50).flat_map(|seq| ways.map(|how| (seq, how))) {
        let (disk, groups) = covered();
        let group = &groups[seq - 1];
        spoil(&disk, group, &how);
        let before = disk.bytes(&segment_path(group.segment));
        let (start, told) = read(&*disk, boot(1, 20)).unwrap_or_else(|e| panic!("{seq}: {e}"));
        assert!(behind_the_cut(&told), "{seq}");
        assert_eq!((start.next, start.torn), (Seq(71), None), "{seq}");
        let last = groups
            .get(seq)
            .is_none_or(|next| next.segment > group.segment);
        // Of the last frame of a segment, what is wiped is not seen, and not missed.
        let told = start
            .spoilt
            .first()
            .map(|spoilt| (&spoilt.file, spoilt.offset));
        let expected = segment_path(group.segment);
        if !last || told.is_some() {
            assert_eq!(told, Some((&expected, group.offset)), "{seq}");
        }
        let after = disk.bytes(&expected);
        assert!(before.starts_with(&after), "what is there stays");
        let mut running = Running::start(&disk, boot(1, 30)).unwrap();
        running.write(&[&[record(71)]]).unwrap();
        running.checkpoint(&[]).unwrap();
        assert!(!disk.files().contains(&expected), "{seq}: it has gone");
        assert!(tail(&read(&*disk, boot(1, 40)).unwrap().1).is_empty());
    }
}

/// The one right behind the cut is not in the checkpoint.
#[test]
fn damage_behind_the_cut_stops_a_start_whatever_is_damaged_before_it() {
    let (disk, groups) = covered();
    let flip = |frame: &mut [u8]| frame[45] ^= 0xff;
    spoil(&disk, &groups[50], &flip);
    let (file, offset, text) = damage(read(&*disk, boot(1, 20)));
    assert_eq!(
        (file, offset),
        (segment_path(groups[50].segment), groups[50].offset)
    );
    assert!(text.contains("frame 51 was there"), "{text}");
    for group in &groups[45..50] {
        spoil(&disk, group, &flip);
    }
    let (_, offset, text) = damage(read(&*disk, boot(1, 20)));
    assert_eq!(offset, groups[45].offset);
    assert!(text.contains("frame 51 was there"), "{text}");
}

#[test]
fn a_segment_that_can_not_be_read_is_passed_over_where_the_next_one_goes_on_without_it() {
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 4] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(30),
        |bytes| bytes[20] ^= 1,
        |bytes| bytes.fill(0),
    ];
    for change in changes {
        for spoilt in [&[1][..], &[2], &[1, 2]] {
            let (disk, _) = covered();
            for number in spoilt {
                let mut bytes = disk.bytes(&segment_path(*number));
                change(&mut bytes);
                disk.set_bytes(&segment_path(*number), bytes);
            }
            let (start, told) = read(&*disk, boot(1, 20)).unwrap();
            assert!(behind_the_cut(&told));
            let files: Vec<PathBuf> = start.spoilt.into_iter().map(|one| one.file).collect();
            let expected: Vec<PathBuf> = spoilt.iter().copied().map(segment_path).collect();
            assert_eq!(files, expected);
            assert!(expected.iter().all(|file| disk.files().contains(file)));
            let numbers = start.segments.iter().map(|old| old.number);
            assert!(numbers.eq(1..=4), "each goes with the next checkpoint");
        }
        // The third has frames behind the cut.
        let (disk, _) = covered();
        let mut bytes = disk.bytes(&segment_path(3));
        change(&mut bytes);
        disk.set_bytes(&segment_path(3), bytes);
        let (file, offset, _) = damage(read(&*disk, boot(1, 20)));
        assert_eq!((file, offset), (segment_path(3), 0));
        // Before the first frame of all there was nothing.
        let (disk, _) = several_segments();
        disk.set_bytes(&segment_path(0), Vec::new());
        assert_eq!(tail(&read(&*disk, boot(1, 20)).unwrap().1).len(), 70);
    }
}

#[test]
fn a_folder_in_the_place_of_the_next_checkpoint_is_refused() {
    let disk = memory();
    Running::start(&disk, boot(1, 10)).unwrap();
    let path = Path::new(DIR).join(checkpoint::TEMPORARY);
    disk.make_dir(&path).unwrap();
    let error = read(&*disk, boot(1, 30)).unwrap_err();
    assert!(matches!(&error, RecoverError::NoFile { file, .. } if *file == path));
}

/// A file says any length, and has nothing on the disk: as `truncate -s 10T` makes it.
#[test]
fn a_file_of_an_absurd_length_is_read_as_far_as_it_was_written() {
    const LENGTH: u64 = 10 << 40;
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
    let lengthen = |path: &Path| {
        let mut options = std::fs::File::options();
        let file = options.write(true).open(dir.path().join(path)).unwrap();
        if let Err(error) = file.set_len(LENGTH) {
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            return None;
        }
        Some(file)
    };
    let mut running = Running::start(&disk, boot(1, 10)).unwrap();
    running.checkpoint(&[record(9)]).unwrap();
    for number in 1..=30 {
        running.write(&[&[long(number, 3000)]]).unwrap();
    }
    drop(running);
    for number in 1..=3 {
        if lengthen(&segment_path(number)).is_none() {
            return;
        }
    }
    let (start, told) = read(&*disk, boot(1, 20)).unwrap();
    assert_eq!((tail(&told).len(), start.next), (30, Seq(31)));
    assert!(
        disk.look(&segment_path(1)).unwrap().size < 1 << 20,
        "it is cut"
    );

    let size = disk.look(&segment_path(1)).unwrap().size;
    let written = lengthen(&segment_path(1)).unwrap();
    std::os::unix::fs::FileExt::write_at(&written, b"x", LENGTH - 9).unwrap();
    let (file, offset, text) = damage(read(&*disk, boot(1, 20)));
    assert_eq!((file, offset), (segment_path(1), 0), "{text}");
    assert!(text.contains("larger than any segment"), "{text}");
    written.set_len(size).unwrap();
    read(&*disk, boot(1, 20)).unwrap();

    let path = checkpoint_path(Seq(0));
    let written = lengthen(&path).unwrap();
    assert!(read(&*disk, boot(1, 20)).unwrap().0.passed_over.is_some());
    std::os::unix::fs::FileExt::write_at(&written, b"x", LENGTH - 9).unwrap();
    let start = read(&*disk, boot(1, 20)).unwrap().0;
    assert_eq!(start.passed_over, Some(path));
}

#[test]
fn what_is_set_aside_stays_over_a_start_and_has_to_be_a_file() {
    let disk = memory();
    Running::start(&disk, boot(1, 10))
        .unwrap()
        .journal
        .set_aside(0);
    Running::start(&disk, boot(1, 20)).unwrap();
    assert!(disk.files().contains(&reserve::path()));
    disk.unlink(&reserve::path()).unwrap();
    disk.make_dir(&reserve::path()).unwrap();
    let error = read(&*disk, boot(1, 30)).unwrap_err();
    assert!(matches!(&error, RecoverError::NoFile { file, .. } if *file == reserve::path()));
}

/// Runs until the disk stops; says how many frames were synced, and how many written at most.
fn scenario(disk: &Arc<MemoryDisk>, synced: &mut u64) -> Result<(), RecoverError> {
    for _ in 0..3 {
        let mut running = Running::start(disk, boot(1, 10))?;
        for round in 0..30_u64 {
            let number = running.start.next.0 + round;
            let group = running.write(&[&[long(number, 3000)]])?;
            assert_eq!(group.seq, Seq(number));
            *synced = number;
            if round == 25 {
                let cut = running.ledger.synced_seq().0;
                if running.start.cut > Seq(0) {
                    // From the second on the disk is full: they are made of what the one before set aside.
                    disk.fail_next("create", io::ErrorKind::StorageFull);
                }
                running.checkpoint(&[long(cut, 1)])?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_change_loses_nothing_that_was_synced() {
    let disk = memory();
    scenario(&disk, &mut 0).unwrap();
    let changes = disk.changes();
    assert!(changes > 200);
    for stop in 0..changes {
        for kept in Kept::ALL {
            let disk = memory();
            disk.stop_after(stop);
            let mut synced = 0;
            scenario(&disk, &mut synced).unwrap_err();
            disk.crash(kept);
            let (start, told) = read(&*disk, boot(1, 10))
                .unwrap_or_else(|error| panic!("stop {stop} {kept:?}: {error}"));
            let last = start.next.0 - 1;
            assert!(
                last == synced || last == synced + 1,
                "stop {stop} {kept:?}: {last} of {synced}"
            );
            let expected: Vec<Record> = (start.cut.0 + 1..=last)
                .map(|number| long(number, 3000))
                .collect();
            assert_eq!(tail(&told), expected, "stop {stop} {kept:?}");
            let cut = told.iter().find_map(|found| match found {
                Found::Checkpoint(Record::Failed { id, .. }) => Some(*id),
                _ => None,
            });
            let expected = TaskId::from_bytes(u128::from(start.cut.0).to_be_bytes());
            assert_eq!(cut, (start.cut > Seq(0)).then_some(expected));
            assert!(
                !disk
                    .files()
                    .iter()
                    .any(|file| file.extension().is_some_and(|end| end == "tmp"))
            );
        }
    }
}

#[test]
fn what_a_start_has_told_is_not_lost_by_a_power_cut_after_it() {
    let disk = memory();
    scenario(&disk, &mut 0).unwrap();
    for stop in 0..disk.changes() {
        let disk = memory();
        disk.stop_after(stop);
        scenario(&disk, &mut 0).unwrap_err();
        disk.go_on();
        // This start reads what was written and never synced.
        let mut running = Running::start(&disk, boot(1, 10)).unwrap();
        let mut told = running.told.clone();
        let group = running.write(&[&[record(1)]]).unwrap();
        told.push(Found::Tail(group.seq, record(1)));
        disk.crash(Kept::Nothing);
        let (_, again) =
            read(&*disk, boot(1, 10)).unwrap_or_else(|error| panic!("{stop}: {error}"));
        assert_eq!(again, told, "stop {stop}");
    }
}

#[test]
fn a_start_may_be_cut_short_anywhere_and_the_next_one_goes_on() {
    for kept in Kept::ALL {
        for stop in 0..30 {
            // A torn frame, a segment that was being made, and a file that was being written.
            let (disk, groups) = three_frames();
            let mut bytes = disk.bytes(&segment_path(1));
            bytes[groups[2].offset as usize + 40] ^= 1;
            disk.set_bytes(&segment_path(1), bytes);
            disk.set_bytes(&segment_path(5), vec![0; 4096]);
            disk.set_bytes(&Path::new(DIR).join("x.tmp"), vec![0; 10]);
            disk.stop_after(stop);
            let stopped = Running::start(&disk, boot(1, 20)).and_then(|mut running| {
                running.write(&[&[record(4)], &[long(4, 20)]])?;
                Ok(())
            });
            disk.crash(kept);
            let (_, told) = read(&*disk, boot(1, 30))
                .unwrap_or_else(|error| panic!("stop {stop} {kept:?}: {error}"));
            let told = tail(&told);
            assert_eq!(told[..4], expect_records(1..=2));
            assert!(
                stopped.is_err() || told[4..] == expect_records([4]),
                "stop {stop} {kept:?}"
            );
        }
    }
}
