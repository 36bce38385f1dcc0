//! Tests of journal, checkpoint and recovery together, on a disk in memory and on a real one.

use std::{io, sync::Arc};

use super::*;
use crate::{
    store::{
        Checkpoint, Group, Journal, Ledger, LedgerSettings, NewSegment, RealDisk,
        checkpoint::checkpoint_path, memory_disk::MemoryDisk,
    },
    task::{Then, Tick},
};

#[path = "recover_checkpoint_tests.rs"]
mod checkpoints;
#[path = "repair_tests.rs"]
mod repairs;

const SMALL: u64 = 64 << 10;

fn boot(id: u8, tick: u64) -> Boot {
    Boot {
        id: [id; 16],
        tick: Tick(tick),
    }
}

fn record(number: u64) -> Record {
    Record::Released {
        id: TaskId::from_bytes(u128::from(number).to_be_bytes()),
    }
}

fn long(number: u64, len: usize) -> Record {
    let id = TaskId::from_bytes(u128::from(number).to_be_bytes());
    Record::Failed {
        id,
        error: "x".repeat(len).into(),
        then: Then::Dead,
    }
}

/// What a start tells, without the progress.
fn read<D: Disk>(disk: &D, boot: Boot) -> Result<(JournalStart, Vec<Found>), RecoverError> {
    let mut told = Vec::new();
    let start = recover(disk, &boot, &mut |found| told.push(found))?;
    told.retain(|found| !matches!(found, Found::Progress { .. }));
    Ok((start, told))
}

/// The tail's records.
fn tail(told: &[Found]) -> Vec<Record> {
    let record = |found: &Found| match found {
        Found::Tail(_, record) => Some(record.clone()),
        _ => None,
    };
    told.iter().filter_map(record).collect()
}

fn damage<T: std::fmt::Debug>(result: Result<T, RecoverError>) -> (PathBuf, u64, String) {
    let error = result.unwrap_err();
    let text = error.to_string();
    match error {
        RecoverError::Damaged { file, offset, .. } => {
            assert!(
                text.contains(&file.display().to_string())
                    && text.contains(&format!("byte {offset}")),
                "{text}"
            );
            assert!(text.contains("workqueuectl check DATA --repair"), "{text}");
            (file, offset, text)
        }
        other => panic!("{other}"),
    }
}

/// A journal in use.
struct Running<D: Disk> {
    ledger: Ledger,
    journal: Journal<D>,
    start: JournalStart,
    told: Vec<Found>,
}

impl<D: Disk> Running<D> {
    fn start(disk: &Arc<D>, boot: Boot) -> Result<Self, RecoverError> {
        Self::start_with(disk, boot, true)
    }

    fn start_with(disk: &Arc<D>, boot: Boot, sync: bool) -> Result<Self, RecoverError> {
        let (start, told) = read(&**disk, boot)?;
        let settings = LedgerSettings {
            segment_bytes: SMALL,
            sync,
        };
        let mut running = Self {
            ledger: Ledger::new(&start, settings),
            journal: Journal::new(Arc::clone(disk), start.boot),
            start,
            told,
        };
        running.segments()?;
        Ok(running)
    }

    fn segments(&mut self) -> DiskResult<()> {
        while let Some(new) = self.ledger.wants_segment() {
            let bytes = self.journal.make_segment(&new)?;
            self.ledger.segment_made(new.number, bytes);
        }
        Ok(())
    }

    /// Writes one frame of the units; gives where it lies.
    fn write(&mut self, units: &[&[Record]]) -> DiskResult<Group> {
        for unit in units {
            self.ledger.append(unit);
        }
        self.segments()?;
        let group = self.ledger.seal().expect("a frame");
        self.journal.write(&group)?;
        self.ledger.synced(group.seq);
        Ok(group)
    }

    fn checkpoint(&mut self, records: &[Record]) -> DiskResult<()> {
        let cut = self.ledger.cut();
        assert_eq!(cut.seq, self.ledger.synced_seq());
        let last_id = Some(TaskId::from_bytes([9; 16]));
        let delete = self.ledger.checkpointed(cut);
        self.journal.checkpoint(&Checkpoint {
            cut: cut.seq,
            last_id,
            records: records.iter().collect(),
            delete,
        })
    }
}

fn memory() -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new())
}

/// Three frames in one segment; where each begins.
fn three_frames() -> (Arc<MemoryDisk>, Vec<Group>) {
    let disk = memory();
    let mut running = Running::start(&disk, boot(1, 10)).unwrap();
    let groups = (1..=3)
        .map(|number| {
            running
                .write(&[&[record(number)], &[long(number, 20)]])
                .unwrap()
        })
        .collect();
    (disk, groups)
}

fn expect_records(numbers: impl IntoIterator<Item = u64>) -> Vec<Record> {
    numbers
        .into_iter()
        .flat_map(|number| [record(number), long(number, 20)])
        .collect()
}

#[test]
fn an_empty_disk_starts_at_the_beginning() {
    let (start, told) = read(&MemoryDisk::new(), boot(1, 10)).unwrap();
    assert_eq!(
        (start.next, start.next_segment, start.boot),
        (Seq(1), 1, boot(1, 10))
    );
    assert_eq!((told, start.segments, start.torn), (vec![], vec![], None));
}

fn many_segments_come_back<D: Disk>(disk: &Arc<D>) {
    let mut running = Running::start(disk, boot(1, 10)).unwrap();
    let frames = 60;
    for number in 0..frames {
        running
            .write(&[&[record(number)], &[long(number, 3000)]])
            .unwrap();
    }
    let huge = long(99, 300_000);
    running.write(&[std::slice::from_ref(&huge)]).unwrap();
    drop(running);
    for tick in [20, 30] {
        let (start, told) = read(&**disk, boot(1, tick)).unwrap();
        let mut expected: Vec<Record> = (0..frames)
            .flat_map(|number| [record(number), long(number, 3000)])
            .collect();
        expected.push(huge.clone());
        assert_eq!(tail(&told), expected);
        assert_eq!(
            (start.next, start.boot, start.torn),
            (Seq(frames + 2), boot(1, 10), None)
        );
        assert!(start.segments.len() > 3);
        let all: u64 = start.segments.iter().map(|old| old.bytes).sum();
        assert_eq!(start.tail_bytes, all - 64 * start.segments.len() as u64);
    }
}

#[test]
fn what_was_written_comes_back_in_order() {
    many_segments_come_back(&memory());
}

#[test]
fn what_was_written_to_a_real_disk_comes_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
    many_segments_come_back(&disk);
    let mut running = Running::start(&disk, boot(1, 40)).unwrap();
    running.write(&[&[record(5)]]).unwrap();
    running.checkpoint(&[record(7)]).unwrap();
    running.write(&[&[record(6)]]).unwrap();
    let (_, told) = read(&*disk, boot(1, 50)).unwrap();
    let last_id = TaskId::from_bytes([9; 16]);
    assert_eq!(
        told,
        [
            Found::LastId(last_id),
            Found::Checkpoint(record(7)),
            Found::Tail(Seq(63), record(6))
        ]
    );
    // The room that was set aside for frames is given back, that for the next checkpoint is not.
    for entry in std::fs::read_dir(dir.path().join(DIR)).unwrap() {
        let entry = entry.unwrap();
        let is_reserve = entry.file_name() == reserve::NAME;
        assert_eq!(entry.metadata().unwrap().len() < 200, !is_reserve);
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_its_seq_used_again() {
    let (disk, groups) = three_frames();
    let path = segment_path(1);
    let whole = disk.bytes(&path);
    let last = &groups[2];
    let (from, to) = (
        last.offset as usize,
        last.offset as usize + last.bytes.len(),
    );
    let mut torn = Vec::new();
    for at in from..to {
        let mut zeros = whole.clone();
        zeros[at..].fill(0);
        let mut changed = whole.clone();
        changed[at] ^= 0x20;
        let mut hole = whole.clone();
        hole[from..=at].fill(0);
        torn.extend([zeros.clone(), zeros[..at].to_vec(), changed, hole]);
    }
    for bytes in torn {
        // The last byte of a record may have been a zero.
        if bytes.get(from..to) == Some(&whole[from..to]) {
            continue;
        }
        let something = bytes
            .get(from..)
            .is_some_and(|rest| rest.iter().take(32).any(|byte| *byte != 0));
        let disk = memory();
        disk.set_bytes(&path, bytes);
        let mut running = Running::start(&disk, boot(1, 20)).unwrap();
        assert_eq!(tail(&running.told), expect_records(1..=2));
        assert_eq!(running.start.next, Seq(3));
        let torn = running
            .start
            .torn
            .as_ref()
            .map(|torn| (torn.file.clone(), torn.offset));
        assert_eq!(torn, something.then(|| (path.clone(), last.offset)));
        assert_eq!(
            disk.bytes(&path),
            whole[..from],
            "cut to the last good frame"
        );

        assert_eq!(
            running.write(&[&[record(4)], &[long(4, 20)]]).unwrap().seq,
            Seq(3)
        );
        let (start, told) = read(&*disk, boot(1, 30)).unwrap();
        assert_eq!((tail(&told), start.torn), (expect_records([1, 2, 4]), None));
    }
}

#[test]
fn a_torn_tail_that_was_not_cut_yet_does_not_stop_a_later_start() {
    let (disk, groups) = three_frames();
    let mut torn = disk.bytes(&segment_path(1));
    torn[groups[2].offset as usize + 40] ^= 1;
    disk.set_bytes(&segment_path(1), torn.clone());
    let mut running = Running::start(&disk, boot(1, 20)).unwrap();
    running.write(&[&[record(4)], &[long(4, 20)]]).unwrap();
    running.write(&[&[record(5)], &[long(5, 20)]]).unwrap();
    disk.set_bytes(&segment_path(1), torn);
    let (_, told) = read(&*disk, boot(1, 30)).unwrap();
    assert_eq!(tail(&told), expect_records([1, 2, 4, 5]));
}

#[test]
fn damage_before_the_tail_is_told_with_its_place_and_nothing_is_changed() {
    let (disk, groups) = three_frames();
    let path = segment_path(1);
    let whole = disk.bytes(&path);
    for group in &groups[..2] {
        for at in 0..group.bytes.len() {
            let mut bytes = whole.clone();
            bytes[group.offset as usize + at] ^= 0x11;
            disk.set_bytes(&path, bytes.clone());
            let (file, offset, _) = damage(read(&*disk, boot(1, 20)));
            assert_eq!((file, offset), (path.clone(), group.offset), "byte {at}");
            assert_eq!(disk.bytes(&path), bytes);
        }
        let mut bytes = whole.clone();
        bytes[group.offset as usize..][..group.bytes.len()].fill(0);
        disk.set_bytes(&path, bytes);
        assert_eq!(damage(read(&*disk, boot(1, 20))).1, group.offset, "wiped");
    }
}

/// Frames over several segments, each with 20 frames of 3 KB.
fn several_segments() -> (Arc<MemoryDisk>, Vec<Group>) {
    let disk = memory();
    let mut running = Running::start(&disk, boot(1, 10)).unwrap();
    let groups: Vec<Group> = (0..70)
        .map(|number| running.write(&[&[long(number, 3000)]]).unwrap())
        .collect();
    assert_eq!(groups[69].segment, 4);
    (disk, groups)
}

#[test]
fn damage_at_the_end_of_an_old_segment_is_no_torn_tail() {
    let (disk, groups) = several_segments();
    let last = groups.iter().rfind(|group| group.segment == 2).unwrap();
    let mut bytes = disk.bytes(&segment_path(2));
    bytes[last.offset as usize..].fill(0);
    disk.set_bytes(&segment_path(2), bytes);
    let (file, offset, text) = damage(read(&*disk, boot(1, 20)));
    assert_eq!((file, offset), (segment_path(2), last.offset), "{text}");
}

#[test]
fn a_missing_segment_is_damage() {
    for missing in [1, 2, 3] {
        let (disk, _) = several_segments();
        disk.unlink(&segment_path(missing)).unwrap();
        let (file, offset, text) = damage(read(&*disk, boot(1, 20)));
        let expected = if missing == 1 {
            segment_path(2)
        } else {
            segment_path(missing - 1)
        };
        assert_eq!(file, expected, "{text}");
        assert_eq!(offset == 64, missing == 1, "{text}");
    }
}

#[test]
fn an_unreadable_header_is_damage_except_in_a_last_segment_without_frames() {
    for number in [1, 3, 4, 5] {
        let (disk, _) = several_segments();
        let mut bytes = disk.bytes(&segment_path(number));
        bytes[20] ^= 1;
        disk.set_bytes(&segment_path(number), bytes);
        let result = read(&*disk, boot(1, 20));
        if number == 5 {
            let (start, told) = result.unwrap();
            assert_eq!((tail(&told).len(), start.next_segment), (70, 6));
            assert!(!disk.files().contains(&segment_path(5)));
        } else {
            let (file, offset, _) = damage(result);
            assert_eq!((file, offset), (segment_path(number), 0));
        }
    }
}

#[test]
fn a_segment_torn_while_it_was_made_is_removed() {
    for len in [0, 10, 4096] {
        let (disk, _) = three_frames();
        disk.set_bytes(&segment_path(9), vec![0; len]);
        let (start, told) = read(&*disk, boot(1, 20)).unwrap();
        assert_eq!(
            (tail(&told), start.next_segment),
            (expect_records(1..=3), 10)
        );
        assert_eq!(disk.files(), [segment_path(1)]);
    }
}

#[test]
fn an_unknown_version_is_refused_and_left_alone() {
    let (disk, _) = three_frames();
    for (path, at) in [(segment_path(2), 8), (checkpoint_path(Seq(2)), 8)] {
        let mut bytes = if at == 8 && path == segment_path(2) {
            disk.bytes(&path)
        } else {
            b"wqchckpt".to_vec()
        };
        bytes.resize(4096, 0);
        bytes[at] = 2;
        disk.set_bytes(&path, bytes);
        match read(&*disk, boot(1, 20)).unwrap_err() {
            RecoverError::Version { file, found: 2 } => assert_eq!(file, path),
            other => panic!("{other}"),
        }
        assert!(disk.files().contains(&path));
    }
}

#[test]
fn a_record_that_no_version_knows_is_damage() {
    let disk = memory();
    Running::start(&disk, boot(1, 10)).unwrap();
    let mut bytes = disk.bytes(&segment_path(1));
    let mut frame = vec![0; 33];
    frame[32] = 200;
    crate::store::journal::dress_frame(&mut frame, 1, Seq(1), Seq(0), 1);
    bytes[64..97].copy_from_slice(&frame);
    disk.set_bytes(&segment_path(1), bytes);
    let (_, offset, text) = damage(read(&*disk, boot(1, 20)));
    assert!(offset == 64 && text.contains("newer version"), "{text}");
}

#[test]
fn each_reboot_is_told_once_and_always_with_the_tick_of_its_first_start() {
    let rebooted = |tick| Record::Rebooted { tick: Tick(tick) };
    let disk = memory();
    let mut first = Running::start(&disk, boot(1, 10)).unwrap();
    first.write(&[&[record(1)]]).unwrap();

    let mut second = Running::start(&disk, boot(2, 50)).unwrap();
    assert_eq!(tail(&second.told), [record(1), rebooted(50)]);
    second.write(&[&[record(2)]]).unwrap();

    let third = Running::start(&disk, boot(2, 70)).unwrap();
    assert_eq!(tail(&third.told), [record(1), rebooted(50), record(2)]);
    assert_eq!(third.start.boot, boot(2, 50));

    // Two starts after one more reboot, and nothing written in the first.
    Running::start(&disk, boot(3, 5)).unwrap();
    let mut fourth = Running::start(&disk, boot(3, 90)).unwrap();
    let all = [record(1), rebooted(50), record(2), rebooted(5)];
    assert_eq!(tail(&fourth.told), all);
    fourth.write(&[&[record(3)]]).unwrap();
    let fifth = Running::start(&disk, boot(3, 100)).unwrap();
    assert_eq!(tail(&fifth.told), [&all[..], &[record(3)]].concat());
}

#[test]
fn files_count_only_under_canonical_names_in_canonical_places() {
    let disk = MemoryDisk::new();
    let name = |number| {
        format!("1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-00000000000{number}.json")
    };
    for path in [
        "tasks",
        "tasks/emails",
        "tasks/default",
        "tasks/Not-A-Queue",
        "tasks/emails/deep",
        "dead",
        "dead/emails",
        "done",
    ] {
        disk.write_new(&Path::new(path).join(name(1)), b"{}")
            .unwrap();
        disk.write_new(&Path::new(path).join("other.json"), b"{}")
            .unwrap();
    }
    let (_, told) = read(&disk, boot(1, 10)).unwrap();
    let place = |found: &Found| match found {
        Found::File(location) => location.path().display().to_string(),
        other => panic!("{other:?}"),
    };
    let told: Vec<String> = told.iter().map(place).collect();
    let expected =
        ["tasks", "tasks/emails", "dead", "dead/emails"].map(|dir| format!("{dir}/{}", name(1)));
    assert_eq!(told, expected);
}

#[test]
fn without_syncs_a_hole_before_unsynced_frames_is_a_torn_tail_and_before_synced_ones_damage() {
    for durable in [1, 2] {
        let disk = memory();
        let mut running = Running::start_with(&disk, boot(1, 10), false).unwrap();
        let groups: Vec<Group> = (1..=2)
            .map(|number| running.write(&[&[record(number)]]).unwrap())
            .collect();
        running.journal.sync().unwrap();
        running.ledger.durable(Seq(durable));
        for number in 3..40 {
            running.write(&[&[long(number, 3000)]]).unwrap();
        }
        let mut bytes = disk.bytes(&segment_path(1));
        bytes[groups[1].offset as usize + 33] ^= 1;
        disk.set_bytes(&segment_path(1), bytes);
        let result = read(&*disk, boot(1, 20));
        if durable == 2 {
            assert_eq!(damage(result).1, groups[1].offset);
        } else {
            let (start, told) = result.unwrap();
            assert_eq!((start.next, tail(&told)), (Seq(2), vec![record(1)]));
            assert_eq!(start.torn.unwrap().offset, groups[1].offset);
            assert_eq!(
                disk.files(),
                [segment_path(1)],
                "what lay behind the hole is gone"
            );
        }
    }
}

#[test]
fn on_a_full_disk_a_segment_is_halved_down_to_what_is_of_use() {
    let disk = memory();
    disk.set_capacity(700 << 10);
    let mut journal = Journal::new(Arc::clone(&disk), boot(1, 10));
    let new = NewSegment {
        number: 1,
        bytes: 4 << 20,
        least: SMALL,
        first: Seq(1),
        last_resort: false,
    };
    assert_eq!(journal.make_segment(&new).unwrap(), 512 << 10);
    assert_eq!(disk.bytes(&segment_path(1)).len(), 512 << 10);
    let large = NewSegment {
        number: 2,
        least: 200 << 10,
        ..new
    };
    assert!(journal.make_segment(&large).unwrap_err().is_full());
    assert_eq!(
        journal
            .make_segment(&NewSegment { number: 2, ..new })
            .unwrap(),
        128 << 10
    );
    let more = NewSegment { number: 3, ..new };
    assert!(journal.make_segment(&more).unwrap_err().is_full());
    assert_eq!(disk.files(), [segment_path(1), segment_path(2)]);
    // A file system may find out only when it writes.
    disk.set_capacity(1 << 30);
    disk.fail_next("write", io::ErrorKind::StorageFull);
    assert_eq!(journal.make_segment(&more).unwrap(), 2 << 20);
}
