//! The ledger's tests: no disk, only accounts.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    store::journal::{Next, next_frame},
    task::{
        Claimed, ExecTime, LeaseKind, Millis, Options, Payload, Priority, QueueName, Submitted,
        TaskId, Then, Tick, Token, WallMillis, WorkerName,
    },
};

const SMALL: u64 = 64 << 10;

fn id(number: u64) -> TaskId {
    TaskId::from_bytes(u128::from(number).to_be_bytes())
}

fn submitted(number: u64, payload: usize) -> Record {
    Record::Submitted(Arc::new(Submitted {
        id: id(number),
        made_here: true,
        queue: QueueName::default(),
        priority: Priority::DEFAULT,
        exectime: ExecTime::ASAP,
        options: Options::default(),
        payload: Payload::from_json(&format!("\"{}\"", "x".repeat(payload))).unwrap(),
        source: None,
        past: None,
    }))
}

fn claimed(number: u64) -> Record {
    Record::Claimed(Claimed {
        id: id(number),
        token: Token(7),
        kind: LeaseKind::V1,
        worker: Some(WorkerName::parse("a-host-with-a-name.example:12345678").unwrap()),
        at: WallMillis(1),
        length: Millis(60_000),
        expires: Tick(9),
    })
}

fn completed(number: u64) -> Record {
    Record::Completed {
        id: id(number),
        result: None,
        at: WallMillis(1),
    }
}

fn expired(number: u64) -> Record {
    Record::Expired {
        id: id(number),
        then: Then::Retry(ExecTime::ASAP),
    }
}

/// A fresh journal whose segments are as small as can be.
fn ledger(sync: bool) -> Ledger {
    let start = JournalStart {
        next: Seq(1),
        next_segment: 1,
        ..JournalStart::default()
    };
    Ledger::new(
        &start,
        LedgerSettings {
            segment_bytes: SMALL,
            sync,
        },
    )
}

/// Makes all that is wanted, in the sizes that are wanted.
fn make_all(ledger: &mut Ledger) -> Vec<NewSegment> {
    let mut made = Vec::new();
    while let Some(new) = ledger.wants_segment() {
        ledger.segment_made(new.number, new.bytes);
        made.push(new);
    }
    made
}

fn ready(sync: bool) -> Ledger {
    let mut ledger = ledger(sync);
    make_all(&mut ledger);
    ledger
}

/// Writes all there is.
fn write_all(ledger: &mut Ledger) -> Vec<Group> {
    let mut groups = Vec::new();
    while let Some(group) = ledger.seal() {
        ledger.synced(group.seq);
        groups.push(group);
    }
    groups
}

#[test]
fn units_that_wait_share_a_frame_and_one_sync_covers_them() {
    let mut ledger = ready(true);
    assert_eq!(
        (ledger.open_seq(), ledger.pending_seq(), ledger.synced_seq()),
        (Seq(1), None, Seq(0))
    );
    assert_eq!(ledger.append(&[completed(1)]), Seq(1));
    assert_eq!(ledger.append(&[completed(2), completed(3)]), Seq(1));
    let first = ledger.seal().unwrap();
    assert_eq!(
        (first.seq, first.segment, first.offset, first.sync),
        (Seq(1), 1, 64, true)
    );
    assert_eq!(first.bytes.len(), 32 + 3 * 26);

    assert_eq!(
        ledger.append(&[completed(4)]),
        Seq(2),
        "a sealed frame takes no more"
    );
    assert_eq!(ledger.seal(), None, "one is outstanding");
    assert_eq!(ledger.pending_seq(), Some(Seq(2)));
    ledger.synced(Seq(1));
    assert_eq!(
        (ledger.synced_seq(), ledger.pending_seq()),
        (Seq(1), Some(Seq(2)))
    );
    let second = ledger.seal().unwrap();
    assert_eq!(second.offset, 64 + first.bytes.len() as u64);
    assert_eq!(
        ledger.pending_seq(),
        Some(Seq(2)),
        "while it is being synced"
    );
    ledger.synced(Seq(2));
    assert_eq!((ledger.pending_seq(), ledger.seal()), (None, None));
}

#[test]
fn a_frame_says_what_was_durable_when_it_was_written() {
    let said = |group: &Group| match next_frame(group.segment, &group.bytes, 0) {
        Next::Frame(frame) => (frame.seq, frame.synced),
        other => panic!("{other:?}"),
    };
    for sync in [true, false] {
        let mut ledger = ready(sync);
        for number in 1..=3 {
            ledger.append(&[completed(number)]);
            let group = ledger.seal().unwrap();
            assert_eq!(group.sync, sync);
            assert_eq!(
                said(&group),
                (Seq(number), Seq(if sync { number - 1 } else { 0 }))
            );
            ledger.synced(group.seq);
        }
        if !sync {
            ledger.durable(Seq(2));
            ledger.append(&[completed(4)]);
            assert_eq!(said(&ledger.seal().unwrap()), (Seq(4), Seq(2)));
        }
    }
}

#[test]
fn a_unit_that_does_not_fit_begins_the_next_segment() {
    let mut ledger = ready(true);
    let unit = [submitted(1, 40_000)];
    assert_eq!(ledger.append(&unit), Seq(1));
    make_all(&mut ledger);
    assert_eq!(ledger.append(&unit), Seq(2));
    assert_eq!(ledger.append(&[completed(1)]), Seq(2));
    let places: Vec<_> = write_all(&mut ledger)
        .iter()
        .map(|group| (group.segment, group.offset))
        .collect();
    assert_eq!(places, [(1, 64), (2, 64)]);
}

#[test]
fn no_frame_grows_beyond_four_mebibytes_unless_one_unit_is_larger() {
    let start = JournalStart {
        next: Seq(1),
        next_segment: 1,
        ..JournalStart::default()
    };
    let mut ledger = Ledger::new(
        &start,
        LedgerSettings {
            segment_bytes: 64 << 20,
            sync: true,
        },
    );
    make_all(&mut ledger);
    let unit = [submitted(1, 1 << 20)];
    for _ in 0..8 {
        ledger.append(&unit);
    }
    ledger.append(&[submitted(1, 5 << 20)]);
    let sizes: Vec<usize> = write_all(&mut ledger)
        .iter()
        .map(|group| group.bytes.len() >> 20)
        .collect();
    assert_eq!(sizes, [3, 3, 2, 5]);
}

#[test]
fn a_unit_larger_than_a_segment_gets_a_segment_of_its_size() {
    let mut ledger = ready(true);
    let unit = [submitted(1, 20 << 20)];
    let size = Ledger::size_of(&unit);
    assert_eq!(ledger.room_for_new(size, 1), Room::Wait);
    let made = make_all(&mut ledger);
    assert!(
        made.iter()
            .any(|new| new.bytes >= size + 64 && new.least >= size + 64),
        "{made:?}"
    );
    assert_eq!(ledger.room_for_new(size, 1), Room::Yes);
    ledger.append(&unit);
    let group = ledger.seal().unwrap();
    assert_eq!(group.bytes.len() as u64, size);
    assert!(group.segment > 1);
}

#[test]
fn room_waits_for_a_segment_and_is_full_when_none_can_be_made() {
    let mut ledger = ledger(true);
    assert_eq!(ledger.room_for_end(100), Room::Wait, "none is made yet");
    let new = ledger.wants_segment().unwrap();
    assert_eq!(
        (new.number, new.bytes, new.least, new.first),
        (1, SMALL, 8 << 10, Seq(1))
    );
    assert_eq!(ledger.wants_segment(), None, "one is outstanding");
    ledger.segment_refused();
    assert_eq!(
        (ledger.room_for_end(100), ledger.wants_segment()),
        (Room::Full, None)
    );
    ledger.retry_segment();
    assert_eq!(ledger.room_for_end(100), Room::Wait);
    assert_eq!(
        ledger.wants_segment().unwrap().number,
        1,
        "nothing is left of the one refused"
    );
    ledger.segment_made(1, SMALL);
    assert_eq!(
        (ledger.room_for_end(100), ledger.room_for_new(100, 1)),
        (Room::Yes, Room::Yes)
    );
}

#[test]
fn after_a_segment_that_is_smaller_than_wanted_the_rest_of_the_disk_is_wanted() {
    let mut ledger = ready(true);
    ledger.set_counts(10_000, 0);
    let new = ledger.wants_segment().unwrap();
    assert!(
        new.bytes > 10 * SMALL,
        "one for the whole shortfall: {new:?}"
    );
    ledger.segment_made(new.number, SMALL);
    assert_eq!(ledger.room_for_new(100, 1), Room::Wait);
    let rest = ledger.wants_segment().unwrap();
    assert!(rest.number > new.number && rest.least < SMALL, "{rest:?}");
    ledger.segment_refused();
    assert_eq!(
        (ledger.room_for_new(100, 1), ledger.wants_segment()),
        (Room::Full, None)
    );
    assert_eq!(ledger.room_for_end(100), Room::Yes);
    assert!(!ledger.is_stuck());
}

#[test]
fn an_end_without_a_segment_on_a_full_disk_is_stuck_until_one_is_made() {
    let mut ledger = ledger(true);
    ledger.append(&[completed(1)]);
    assert!(!ledger.is_stuck(), "a segment is wanted");
    assert!(ledger.wants_segment().is_some());
    assert!(!ledger.is_stuck(), "and on its way");
    ledger.segment_refused();
    assert!(ledger.is_stuck());
    ledger.retry_segment();
    assert!(!ledger.is_stuck());
    let new = ledger.wants_segment().unwrap();
    ledger.segment_made(new.number, new.least);
    assert!(ledger.seal().is_some());
}

#[test]
fn new_tasks_leave_more_room_than_claims_and_claims_more_than_ends() {
    let mut ledger = ready(true);
    ledger.segment_refused();
    // Of 65 472 bytes 256 are not counted on, 16 384 are kept beside, and 16 384 for the next start.
    assert_eq!(ledger.room_for_new(100, 125), Room::Yes);
    assert_eq!(ledger.room_for_new(100, 127), Room::Full);
    ledger.set_counts(126, 0);
    assert_eq!(ledger.room_for_new(1000, 1), Room::Full);
    let most = 65_472 - 256 - 16_384 - 126 * 128;
    assert_eq!(ledger.room_for_claim(most), Room::Yes);
    assert_eq!(ledger.room_for_claim(most + 1), Room::Full);
    assert_eq!(ledger.room_for_end(most + 1), Room::Yes);
    assert_eq!(ledger.room_for_end(65_472), Room::Yes);
    assert_eq!(ledger.room_for_end(65_473), Room::Full);
}

#[test]
fn what_found_no_room_waits_and_goes_in_order_once_there_is_a_segment() {
    let mut ledger = ledger(true);
    assert_eq!(ledger.append(&[submitted(1, 100_000)]), Seq(1));
    assert_eq!(ledger.append(&[completed(1)]), Seq(1));
    assert_eq!((ledger.seal(), ledger.pending_seq()), (None, Some(Seq(1))));
    let first = ledger.wants_segment().unwrap();
    assert!(first.bytes > 100_000);
    ledger.segment_refused();
    ledger.retry_segment();
    assert_eq!(ledger.wants_segment(), Some(first), "still wanted");
    ledger.segment_made(first.number, first.bytes);
    let group = ledger.seal().unwrap();
    assert_eq!((group.seq, group.offset), (Seq(1), 64));
}

#[test]
fn a_checkpoint_lets_go_what_lies_before_its_cut_but_never_the_current_segment() {
    let start = JournalStart {
        next: Seq(5),
        next_segment: 8,
        segments: vec![
            OldSegment {
                number: 6,
                last: Seq(3),
                bytes: 9,
            },
            OldSegment {
                number: 7,
                last: Seq(4),
                bytes: 9,
            },
        ],
        tail_bytes: 500,
        ..JournalStart::default()
    };
    let mut ledger = Ledger::new(
        &start,
        LedgerSettings {
            segment_bytes: SMALL,
            sync: true,
        },
    );
    make_all(&mut ledger);
    let unit = [submitted(1, 40_000)];
    for _ in 0..2 {
        ledger.append(&unit);
        make_all(&mut ledger);
        write_all(&mut ledger);
    }
    assert_eq!(
        ledger.bytes_since_checkpoint(),
        500 + 2 * Ledger::size_of(&unit)
    );
    let early = Cut {
        seq: Seq(3),
        bytes: 200,
    };
    assert_eq!(ledger.checkpointed(early), [6]);
    let all = ledger.cut();
    assert_eq!(all.seq, Seq(6));
    assert_eq!(ledger.checkpointed(all), [7, 8], "9 is current");
    assert_eq!(ledger.bytes_since_checkpoint(), 0);
    ledger.checkpoint_refused();
    assert_eq!(ledger.cut(), all);
    assert_eq!(ledger.checkpointed(all), [7, 8]);
    assert_eq!(ledger.checkpointed(ledger.cut()), Vec::<u64>::new());
}

#[test]
fn what_is_written_while_a_checkpoint_waits_for_files_is_counted_for_the_next() {
    let mut ledger = ledger(true);
    let unit = [submitted(1, 1000)];
    ledger.append(&unit);
    make_all(&mut ledger);
    write_all(&mut ledger);
    let cut = ledger.cut();
    for _ in 0..3 {
        ledger.append(&unit);
        make_all(&mut ledger);
        write_all(&mut ledger);
    }
    ledger.append(&unit);
    ledger.checkpointed(cut);
    let since = 4 * Ledger::size_of(&unit);
    assert_eq!(ledger.bytes_since_checkpoint(), since);
    ledger.checkpoint_refused();
    assert_eq!(
        ledger.bytes_since_checkpoint(),
        since + Ledger::size_of(&unit)
    );
}

#[test]
fn the_segment_in_use_is_given_up_for_a_checkpoint_and_taken_back_if_that_is_refused() {
    for is_made in [true, false] {
        let mut ledger = ledger(true);
        make_all(&mut ledger);
        assert!(!ledger.has_to_let_go(), "nothing is in it");
        ledger.append(&[submitted(1, 40_000)]);
        write_all(&mut ledger);
        make_all(&mut ledger);
        assert!(ledger.has_to_let_go());
        let cut = ledger.cut();
        ledger.give_up_current();
        assert_eq!(ledger.checkpointed(cut), [1]);
        if is_made {
            ledger.checkpoint_made();
        } else {
            ledger.checkpoint_refused();
        }
        ledger.append(&[completed(1)]);
        let groups = write_all(&mut ledger);
        assert_eq!(groups[0].segment, if is_made { 2 } else { 1 });
        // What was given up once is not taken back later.
        let cut = ledger.cut();
        assert_eq!(ledger.checkpointed(cut), Vec::<u64>::new());
        ledger.checkpoint_refused();
        ledger.append(&[completed(2)]);
        assert_eq!(write_all(&mut ledger)[0].segment, groups[0].segment);
    }
}

/// A model of those who ask the ledger: what they took, what they claimed.
#[derive(Debug)]
struct Model {
    ledger: Ledger,
    /// Segments that the disk still has room for.
    segments: u32,
    fresh: Vec<u64>,
    leased: Vec<u64>,
    /// Had an attempt that ended.
    again: Vec<u64>,
    submitted: u64,
}

impl Model {
    fn new(segments: u32) -> Self {
        Self {
            ledger: ledger(true),
            segments,
            fresh: Vec::new(),
            leased: Vec::new(),
            again: Vec::new(),
            submitted: 0,
        }
    }

    fn segments(&mut self) {
        self.ledger.retry_segment();
        while let Some(new) = self.ledger.wants_segment() {
            if self.segments == 0 {
                self.ledger.segment_refused();
            } else {
                self.segments -= 1;
                // Whatever is wanted, the disk is slow to give.
                self.ledger.segment_made(new.number, SMALL);
                self.ledger.retry_segment();
            }
        }
    }

    fn count(&mut self) {
        let leased = self.leased.len() as u64;
        let unfinished = leased + (self.fresh.len() + self.again.len()) as u64;
        self.ledger.set_counts(unfinished, leased);
    }

    fn append(&mut self, unit: &[Record]) {
        self.ledger.append(unit);
        self.count();
        assert!(
            self.ledger.frames.iter().all(|frame| frame.place.is_some()),
            "what had room has a place"
        );
    }

    /// Appends an end of an attempt or a task: there must be room.
    fn append_end(&mut self, unit: &[Record]) {
        assert_eq!(
            self.ledger.room_for_end(Ledger::size_of(unit)),
            Room::Yes,
            "an end fits"
        );
        self.append(unit);
    }

    fn submit(&mut self, payload: usize, count: u64) {
        let unit: Vec<Record> = (1..=count)
            .map(|more| submitted(self.submitted + more, payload))
            .collect();
        if self.ledger.room_for_new(Ledger::size_of(&unit), count) == Room::Yes {
            self.fresh
                .extend(self.submitted + 1..=self.submitted + count);
            self.submitted += count;
            self.append(&unit);
        }
    }

    fn claim(&mut self) -> bool {
        let Some(number) = self.fresh.pop().or_else(|| self.again.pop()) else {
            return true;
        };
        let unit = [claimed(number)];
        if self.ledger.room_for_claim(Ledger::size_of(&unit)) != Room::Yes {
            self.again.push(number);
            return false;
        }
        self.leased.push(number);
        self.append(&unit);
        true
    }

    fn expire(&mut self, most: usize) {
        let ends: Vec<u64> = self.leased.drain(..most.min(self.leased.len())).collect();
        if !ends.is_empty() {
            self.again.extend(&ends);
            self.append_end(&ends.into_iter().map(expired).collect::<Vec<_>>());
        }
    }

    fn complete(&mut self, most: usize) -> bool {
        // Any unfinished task may end, leased or not (the original's API, a cancellation).
        let all = [&mut self.leased, &mut self.again, &mut self.fresh];
        let ends: Vec<u64> = all
            .into_iter()
            .flat_map(|from| from.drain(..most.min(from.len())).collect::<Vec<_>>())
            .collect();
        if ends.is_empty() {
            return false;
        }
        self.append_end(&ends.into_iter().map(completed).collect::<Vec<_>>());
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn ends_fit_on_a_full_disk(
        segments in 1_u32..4,
        steps in prop::collection::vec((0_u8..10, 0_usize..3000, 1_usize..60), 0..300),
        batch in 1_usize..400,
    ) {
        let mut model = Model::new(segments);
        for (step, payload, count) in steps {
            model.segments();
            match step {
                0 | 1 => model.submit(payload, count as u64),
                2..5 => {
                    for _ in 0..count {
                        model.claim();
                    }
                }
                5..8 => model.expire(count),
                8 => drop(model.complete(count / 20)),
                _ => drop(write_all(&mut model.ledger)),
            }
        }
        // The attempts that run end, and then all tasks.
        model.segments = 0;
        model.segments();
        model.expire(batch);
        while model.complete(batch) {}
    }

    #[test]
    fn each_task_that_was_taken_can_be_claimed_once_and_ended_on_a_full_disk(
        segments in 1_u32..8,
        submits in prop::collection::vec((0_usize..3000, 1_u64..20), 0..200),
    ) {
        let mut model = Model::new(segments);
        for (payload, count) in submits {
            model.segments();
            model.submit(payload, count);
        }
        while !model.fresh.is_empty() {
            prop_assert!(model.claim());
        }
        while model.complete(1) {}
    }
}
