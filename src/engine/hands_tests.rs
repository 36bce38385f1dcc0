//! Tests of durability `interval`: the rule of when to sync, over a disk in memory that loses what was not synced.

use super::*;
use crate::{
    store::{Boot, Found, Kept, Ledger, LedgerSettings, MemoryDisk, recover},
    task::{Millis, Record},
};

const EVERY: Millis = Millis(100);

fn record(number: u64) -> Record {
    Record::Released {
        id: TaskId::from_bytes(u128::from(number).to_be_bytes()),
    }
}

/// The records that a start finds.
fn found(disk: &MemoryDisk) -> usize {
    let mut count = 0;
    recover(disk, &Boot::default(), &mut |found| {
        count += usize::from(matches!(found, Found::Tail(..)));
    })
    .unwrap();
    count
}

/// Writes a frame every `gap` milliseconds for `length`, syncs when that is due, and cuts the power. Gives the moments at
/// which frames were answered, how many of them are found, and how many syncs there were.
fn power_cut(gap: u64, length: u64) -> (Vec<u64>, usize, u32) {
    let disk = Arc::new(MemoryDisk::new());
    let start = recover(&*disk, &Boot::default(), &mut |_| {}).unwrap();
    let settings = LedgerSettings {
        sync: false,
        ..LedgerSettings::default()
    };
    let mut ledger = Ledger::new(&start, settings);
    let mut journal = Journal::new(Arc::clone(&disk), start.boot);
    let new = ledger.wants_segment().unwrap();
    let bytes = journal.make_segment(&new).unwrap();
    ledger.segment_made(new.number, bytes);

    let (mut behind, mut answered, mut syncs) = (Behind::default(), Vec::new(), 0);
    for millis in 0..length {
        let now = Tick(millis * 1_000_000);
        if behind
            .due(Durability::Interval(EVERY))
            .is_some_and(|due| due <= now)
        {
            journal.sync().unwrap();
            ledger.durable(behind.take().unwrap());
            syncs += 1;
        }
        if millis % gap == 0 {
            ledger.append(&[record(millis)]);
            let group = ledger.seal().unwrap();
            journal.write(&group).unwrap();
            ledger.synced(group.seq);
            behind.written(group.seq, now);
            answered.push(millis);
        }
    }
    drop(journal);
    disk.crash(Kept::Nothing);
    (answered, found(&disk), syncs)
}

#[test]
fn interval_loses_at_most_its_length_also_when_writes_never_pause() {
    for gap in [1, 3, 40, 99, 100, 101, 250] {
        for length in [1, 99, 101, 500, 1003, 1450] {
            let (answered, found, syncs) = power_cut(gap, length);
            let old = |at: &&u64| **at + EVERY.0 < length;
            let safe = answered.iter().filter(old).count();
            assert!(found >= safe, "gap {gap}, {length} ms: {found} of {safe}");
            assert!(
                u64::from(syncs) <= length / EVERY.0,
                "gap {gap}: {syncs} syncs in {length} ms"
            );
        }
    }
}

#[test]
fn after_the_last_write_one_sync_follows_and_no_more() {
    let mut behind = Behind::default();
    assert_eq!(behind.due(Durability::Interval(EVERY)), None);
    behind.written(Seq(1), Tick(5));
    behind.written(Seq(2), Tick(90_000_000));
    assert_eq!(
        behind.due(Durability::Interval(EVERY)),
        Some(Tick(100_000_005)),
        "counted from the first"
    );
    assert_eq!(behind.due(Durability::None), None);
    assert_eq!(behind.take(), Some(Seq(2)));
    assert_eq!(behind.due(Durability::Interval(EVERY)), None);
}
