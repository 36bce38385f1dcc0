//! Each kind of record against literal bytes, typed from the table in the docs: what was written years ago must be read.

use super::*;

const ID: &str = "0198c0de 0000 7000 8000 000000000001";
const TOKEN: &str = "000102030405060708090a0b0c0d0e0f";

/// Bytes from hex digits; blanks and what follows a `|` up to the line's end do not count.
fn bytes(hex: &str) -> Vec<u8> {
    let lines = hex.lines().map(|line| line.split('|').next().unwrap());
    let digits: String = lines.collect::<String>().split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn is(record: &Record, hex: &str) {
    let literal = bytes(&hex.replace("ID", ID).replace("TOKEN", TOKEN));
    let mut written = Vec::new();
    encode_record(record, &mut written);
    assert_eq!(written, literal, "{record:?}");
    assert_eq!(
        decode_records(&literal).unwrap(),
        std::slice::from_ref(record)
    );
}

fn id() -> TaskId {
    TaskId::parse("0198c0de-0000-7000-8000-000000000001").unwrap()
}

fn token() -> Token {
    Token(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f)
}

fn queue() -> QueueName {
    QueueName::parse("q").unwrap()
}

fn submitted() -> Submitted {
    Submitted {
        id: id(),
        made_here: true,
        queue: queue(),
        priority: Priority::new(-2),
        exectime: ExecTime::new(0x0102).unwrap(),
        options: Options::default(),
        payload: Payload::from_text("hi"),
        source: None,
        past: None,
    }
}

#[test]
fn a_submitted_task_is_written_as_the_docs_say() {
    let mut task = submitted();
    is(
        &Record::Submitted(Arc::new(task.clone())),
        "01 ID 01        | tag, id, made here
         01 71           | queue
         feffffff        | priority
         0201000000000000| exectime
         00 00 00 00     | unique key, max attempts, lease, backoff
         04 22686922     | payload
         00              | source",
    );
    task.options = Options {
        unique_key: Some("k".into()),
        max_attempts: Some(300),
        lease: Some(Millis(500)),
        backoff: Some(Backoff {
            base: Millis(6),
            max: Millis(7),
        }),
        trace: None,
    };
    task.made_here = false;
    task.source = Some(Source {
        path: PathBuf::from("tasks/a"),
        inode: 8,
        modified: -1,
        size: 9,
    });
    is(
        &Record::Submitted(Arc::new(task)),
        "01 ID 00 01 71 feffffff 0201000000000000
         01 01 6b        | unique key
         01 ac02         | max attempts: 300 as a varint
         01 f401000000000000
         01 0600000000000000 0700000000000000
         04 22686922
         01 07 7461736b732f61 0800000000000000
         ffffffffffffffffffffffffffffffff 0900000000000000",
    );
}

#[test]
fn what_an_imported_task_went_through_stands_at_its_end() {
    let mut task = submitted();
    task.made_here = false;
    task.past = Some(Box::new(Past {
        attempts: 300,
        dead: true,
        last_error: Some("no".into()),
    }));
    is(
        &Record::Submitted(Arc::new(task)),
        "01 ID 02 01 71 feffffff 0201000000000000 00 00 00 00 04 22686922 00
         ac02 01 01 02 6e6f",
    );
}

#[test]
fn a_trace_stands_behind_the_backoff() {
    let mut task = submitted();
    let trace = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    task.options.trace = Some(Box::new(trace.clone()));
    let with = |task: &Submitted, options: &str| {
        is(
            &Record::Submitted(Arc::new(task.clone())),
            &format!("01 ID 01 01 71 feffffff 0201000000000000 00 00 00 {options} 04 22686922 00"),
        );
    };
    let ids = "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 01";
    with(&task, &format!("02 {ids} 00"));
    task.options.trace = Some(Box::new(trace.with_state("a=1").unwrap()));
    task.options.backoff = Some(Backoff {
        base: Millis(6),
        max: Millis(7),
    });
    with(
        &task,
        &format!("03 0600000000000000 0700000000000000 {ids} 01 03 613d31"),
    );
}

#[test]
fn what_happens_to_a_task_is_written_as_the_docs_say() {
    let id = id();
    let claimed = Claimed {
        id,
        token: token(),
        kind: LeaseKind::V1,
        worker: Some(WorkerName::parse("w").unwrap()),
        at: WallMillis(1),
        length: Millis(2),
        expires: Tick(3),
    };
    let times = "0100000000000000 0200000000000000 0300000000000000";
    is(
        &Record::Claimed(claimed.clone()),
        &format!("02 ID TOKEN 01 01 01 77 {times}"),
    );
    let legacy = Claimed {
        kind: LeaseKind::Legacy,
        worker: None,
        ..claimed
    };
    is(
        &Record::Claimed(legacy),
        &format!("02 ID TOKEN 00 00 {times}"),
    );
    let completed = |result| Record::Completed {
        id,
        result,
        at: WallMillis(1),
    };
    is(&completed(None), "03 ID 00 0100000000000000");
    is(
        &completed(Some(Payload::from_text("r"))),
        "03 ID 01 03 227222 0100000000000000",
    );
    let failed = |then| Record::Failed {
        id,
        error: "no".into(),
        then,
    };
    let later = Then::Retry(ExecTime::new(4).unwrap());
    is(&failed(later), "04 ID 02 6e6f 00 0400000000000000");
    is(&failed(Then::Dead), "04 ID 02 6e6f 01");
    is(&Record::Released { id }, "05 ID");
    let extended = Record::Extended {
        id,
        length: Millis(2),
        expires: Tick(3),
    };
    is(&extended, "06 ID 0200000000000000 0300000000000000");
    is(
        &Record::Expired { id, then: later },
        "07 ID 00 0400000000000000",
    );
    is(&Record::Cancelled { id, gone: false }, "08 ID");
    is(&Record::Cancelled { id, gone: true }, "13 ID");
    let moved = Record::Rescheduled {
        id,
        priority: Priority::new(7),
        exectime: ExecTime::new(4).unwrap(),
    };
    is(&moved, "09 ID 07000000 0400000000000000");
    let moved = Record::Moved {
        id,
        queue: queue(),
        priority: Priority::new(7),
        exectime: ExecTime::new(4).unwrap(),
    };
    is(&moved, "10 ID 01 71 07000000 0400000000000000");
    is(&Record::Retried { id }, "0a ID");
}

#[test]
fn switches_reboots_queues_and_restored_tasks_are_written_as_the_docs_say() {
    let (on, off) = (true, false);
    let some = Some(queue());
    is(&Record::Paused { queue: None, on }, "0b 00 01");
    is(
        &Record::Paused {
            queue: some.clone(),
            on: off,
        },
        "0b 01 01 71 00",
    );
    is(&Record::Draining { queue: some, on }, "0c 01 01 71 01");
    is(&Record::Rebooted { tick: Tick(3) }, "0d 0300000000000000");
    is(&Record::Opened { queue: queue() }, "0f 01 71");
    let mark = DirMark([7; 16]);
    is(
        &Record::Housed {
            queue: queue(),
            mark,
        },
        "11 01 71 07070707070707070707070707070707",
    );
    let all = [
        (Left::Only, 0),
        (Left::Copy, 1),
        (Left::Ended, 2),
        (Left::Missed, 3),
    ];
    for (left, byte) in all {
        let (id, at) = (id(), WallMillis(5));
        is(
            &Record::LeftBehind { id, at, left },
            &format!("12 ID 0500000000000000 0{byte}"),
        );
    }
    is(
        &Record::DropBehind {
            id: id(),
            inode: 5,
            modified: -2,
            size: 7,
            moved: true,
        },
        "14 ID 0500000000000000 feffffffffffffffffffffffffffffff 0700000000000000 01",
    );
    let mut task = Restored {
        id: id(),
        queue: queue(),
        priority: Priority::new(7),
        exectime: ExecTime::new(4).unwrap(),
        options: Options::default(),
        attempts: 2,
        state: State::Dead,
        lease: None,
        last_error: Some("no".into()),
    };
    is(
        &Record::Restored(Box::new(task.clone())),
        "0e ID 01 71 07000000 0400000000000000 00 00 00 00 02 02 00 01 02 6e6f",
    );
    task.state = State::Leased;
    task.last_error = None;
    task.lease = Some(RestoredLease {
        token: token(),
        kind: LeaseKind::V1,
        worker: None,
        at: WallMillis(1),
        length: Millis(2),
        expires: Tick(3),
    });
    is(
        &Record::Restored(Box::new(task)),
        "0e ID 01 71 07000000 0400000000000000 00 00 00 00 02 01
         01 TOKEN 01 00 0100000000000000 0200000000000000 0300000000000000 00",
    );
}

#[test]
fn a_tag_or_a_kind_of_another_version_is_refused() {
    for tag in (21..=255).chain([0]) {
        let mut record = bytes(ID);
        record.insert(0, tag);
        let error = decode_records(&record).unwrap_err();
        assert!(
            matches!(error, CodecError::Unknown { value, .. } if value == tag),
            "{tag}: {error}"
        );
    }
    for odd in [
        "07 ID 02".to_owned(),
        "0b 00 02".to_owned(),
        "0b 02".to_owned(),
        "02 ID TOKEN 02 00".to_owned(),
    ] {
        let literal = bytes(&odd.replace("ID", ID).replace("TOKEN", TOKEN));
        let error = decode_records(&literal).unwrap_err();
        assert!(
            matches!(error, CodecError::Unknown { value: 2, .. }),
            "{odd}: {error}"
        );
    }
}
