//! Records come back as they were, and bytes that are none are refused.

use proptest::prelude::*;

use super::*;

fn options() -> impl Strategy<Value = Options> {
    let backoff = (0..1000_u64, 1000..9000_u64).prop_map(|(base, max)| Backoff {
        base: Millis(base),
        max: Millis(max),
    });
    (
        proptest::option::of("[a-z]{1,9}".prop_map(|key| key.as_str().into())),
        proptest::option::of(1..=Options::MAX_ATTEMPTS),
        proptest::option::of((100..604_800_000_u64).prop_map(Millis)),
        proptest::option::of(backoff),
        proptest::option::of(trace().prop_map(Box::new)),
    )
        .prop_map(
            |(unique_key, max_attempts, lease, backoff, trace)| Options {
                unique_key,
                max_attempts,
                lease,
                backoff,
                trace,
            },
        )
}

fn left() -> impl Strategy<Value = Left> {
    prop_oneof![
        Just(Left::Only),
        Just(Left::Copy),
        Just(Left::Ended),
        Just(Left::Missed)
    ]
}

fn trace() -> impl Strategy<Value = Trace> {
    let ids = (1..u128::MAX, 1..u64::MAX, any::<u8>());
    let state = proptest::option::of("[a-z]{1,9}=[!-+]{1,9}");
    (ids, state).prop_map(|((id, parent, flags), state)| {
        let parent = format!("00-{id:032x}-{parent:016x}-{flags:02x}");
        Trace::of_fields(Some(&parent), state.as_deref())
            .unwrap()
            .unwrap()
    })
}

fn id() -> impl Strategy<Value = TaskId> {
    any::<[u8; 16]>().prop_map(TaskId::from_bytes)
}

fn exectime() -> impl Strategy<Value = ExecTime> {
    (ExecTime::MIN.get()..=ExecTime::MAX.get()).prop_map(|secs| ExecTime::new(secs).unwrap())
}

fn queue() -> impl Strategy<Value = QueueName> {
    "[a-z0-9][a-z0-9._-]{0,63}".prop_map(|name| QueueName::parse(&name).unwrap())
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![exectime().prop_map(Then::Retry), Just(Then::Dead)]
}

fn worker() -> impl Strategy<Value = Option<WorkerName>> {
    proptest::option::of("[a-z:0-9]{1,20}".prop_map(|name| WorkerName::parse(&name).unwrap()))
}

fn kind() -> impl Strategy<Value = LeaseKind> {
    prop_oneof![Just(LeaseKind::Legacy), Just(LeaseKind::V1)]
}

fn source() -> impl Strategy<Value = Source> {
    (any::<Vec<u8>>(), any::<u64>(), any::<i128>(), any::<u64>()).prop_map(
        |(path, inode, modified, size)| Source {
            path: PathBuf::from(OsStr::from_bytes(&path)),
            inode,
            modified,
            size,
        },
    )
}

fn submitted() -> impl Strategy<Value = Record> {
    let place = (any::<i32>().prop_map(Priority::new), exectime());
    (
        id(),
        any::<bool>(),
        queue(),
        place,
        options(),
        any::<String>(),
        proptest::option::of(source()),
        proptest::option::of((0..9_u32, any::<bool>(), proptest::option::of("[a-z]{1,9}"))),
    )
        .prop_map(
            |(id, made_here, queue, (priority, exectime), options, text, source, past)| {
                let past = past.map(|(attempts, dead, error)| {
                    Box::new(Past {
                        attempts,
                        dead,
                        last_error: error.as_deref().map(Into::into),
                    })
                });
                let payload = Payload::from_text(&text);
                Record::Submitted(Arc::new(Submitted {
                    id,
                    made_here: made_here && past.is_none(),
                    queue,
                    priority,
                    exectime,
                    options,
                    payload,
                    source,
                    past,
                }))
            },
        )
}

fn restored() -> impl Strategy<Value = Record> {
    let lease = (
        any::<u128>(),
        kind(),
        worker(),
        any::<i64>(),
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(token, kind, worker, at, length, expires)| RestoredLease {
            token: Token(token),
            kind,
            worker,
            at: WallMillis(at),
            length: Millis(length),
            expires: Tick(expires),
        });
    let place = (any::<i32>().prop_map(Priority::new), exectime());
    let error = proptest::option::of(any::<String>());
    (
        id(),
        queue(),
        place,
        options(),
        any::<u32>(),
        proptest::option::of(lease),
        error,
        any::<bool>(),
    )
        .prop_map(
            |(id, queue, (priority, exectime), options, attempts, lease, error, dead)| {
                let state = match (&lease, dead) {
                    (Some(_), _) => State::Leased,
                    (None, true) => State::Dead,
                    (None, false) => State::Ready,
                };
                let last_error = error.map(Arc::from);
                Record::Restored(Box::new(Restored {
                    id,
                    queue,
                    priority,
                    exectime,
                    options,
                    attempts,
                    state,
                    lease,
                    last_error,
                }))
            },
        )
}

fn record() -> impl Strategy<Value = Record> {
    let claimed = (
        id(),
        any::<u128>(),
        kind(),
        worker(),
        any::<i64>(),
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(id, token, kind, worker, at, length, expires)| {
            Record::Claimed(Claimed {
                id,
                token: Token(token),
                kind,
                worker,
                at: WallMillis(at),
                length: Millis(length),
                expires: Tick(expires),
            })
        });
    let result = proptest::option::of(any::<String>().prop_map(|text| Payload::from_text(&text)));
    prop_oneof![
        submitted(),
        restored(),
        claimed,
        (id(), result, any::<i64>()).prop_map(|(id, result, at)| Record::Completed {
            id,
            result,
            at: WallMillis(at)
        }),
        (id(), any::<String>(), then()).prop_map(|(id, error, then)| Record::Failed {
            id,
            error: error.into(),
            then
        }),
        id().prop_map(|id| Record::Released { id }),
        (id(), any::<u64>(), any::<u64>()).prop_map(|(id, length, tick)| Record::Extended {
            id,
            length: Millis(length),
            expires: Tick(tick)
        }),
        (id(), then()).prop_map(|(id, then)| Record::Expired { id, then }),
        (id(), any::<bool>()).prop_map(|(id, gone)| Record::Cancelled { id, gone }),
        (id(), any::<i32>(), exectime()).prop_map(|(id, priority, exectime)| {
            Record::Rescheduled {
                id,
                priority: Priority::new(priority),
                exectime,
            }
        }),
        (id(), queue(), any::<i32>(), exectime()).prop_map(|(id, queue, priority, exectime)| {
            Record::Moved {
                id,
                queue,
                priority: Priority::new(priority),
                exectime,
            }
        }),
        id().prop_map(|id| Record::Retried { id }),
        (proptest::option::of(queue()), any::<bool>())
            .prop_map(|(queue, on)| Record::Paused { queue, on }),
        (proptest::option::of(queue()), any::<bool>())
            .prop_map(|(queue, on)| Record::Draining { queue, on }),
        any::<u64>().prop_map(|tick| Record::Rebooted { tick: Tick(tick) }),
        queue().prop_map(|queue| Record::Opened { queue }),
        (queue(), any::<[u8; 16]>()).prop_map(|(queue, mark)| Record::Housed {
            queue,
            mark: DirMark(mark)
        }),
        (id(), any::<i64>(), left()).prop_map(|(id, at, left)| Record::LeftBehind {
            id,
            at: WallMillis(at),
            left
        }),
        (id(), any::<(u64, i128, u64, bool)>()).prop_map(|(id, (inode, modified, size, moved))| {
            Record::DropBehind {
                id,
                inode,
                modified,
                size,
                moved,
            }
        }),
    ]
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(records in proptest::collection::vec(record(), 0..5)) {
        let mut bytes = Vec::new();
        for record in &records {
            encode_record(record, &mut bytes);
        }
        prop_assert_eq!(decode_records(&bytes).unwrap(), records);
    }

    #[test]
    fn a_record_cut_anywhere_is_an_error(record in record(), at: prop::sample::Index) {
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        let cut = at.index(bytes.len());
        if cut > 0 {
            prop_assert!(decode_records(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        drop(decode_records(&bytes));
    }
}
