//! What is told of what, and what is not.

use super::*;
use crate::task::{Counters, DiskSpace, Distribution, QueueName, WallMillis, WorkerName};

const GIB: u64 = 1 << 30;

fn status() -> StatusView {
    StatusView {
        counts: [0; 4],
        queues: 1,
        paused: false,
        draining: false,
        waiting_claims: 0,
        counters: Counters::default(),
        spool_lag: Millis(0),
        spool_pending: 0,
        spool_failing: 0,
        drops_waiting: 0,
        workers_forgotten: 0,
        left_behind: 0,
        journal_bytes: 0,
        checkpoint_age: None,
        journal_syncs: 0,
        journal_records: 0,
        rejected: 0,
        disk_full: false,
        no_memory: None,
        disk: Some(DiskSpace {
            free: 50 * GIB,
            size: 100 * GIB,
        }),
        durability: "sync",
        wait: Distribution::new(Distribution::LONG),
        run: Distribution::new(Distribution::LONG),
        writes: Distribution::new(Distribution::SHORT),
        died_lately: 0,
        deaf: None,
        fault: None,
    }
}

fn queue(name: &str, leased: u64, ready: u64) -> QueueView {
    QueueView {
        name: QueueName::parse(name).unwrap(),
        counts: [leased, ready, 0, 0],
        paused: false,
        draining: false,
        oldest_due: (ready > 0).then_some(Millis::from_secs(600)),
        unasked: Millis(0),
        died_lately: 0,
        counters: Counters::default(),
        submitted_rate: 0.0,
        completed_rate: 0.0,
    }
}

fn worker() -> WorkerView {
    WorkerView {
        name: WorkerName::parse("host:1").unwrap(),
        holds: Vec::new(),
        waiting: true,
        last_seen: WallMillis(0),
        claimed: 0,
        completed: 0,
        failed: 0,
    }
}

fn kinds(found: &[Trouble]) -> Vec<(&str, Severity)> {
    found
        .iter()
        .map(|one| (one.kind.as_str(), one.severity))
        .collect()
}

#[test]
fn when_all_is_well_there_is_nothing_to_tell() {
    let queues = [queue("default", 1, 5), queue("emails", 0, 0)];
    assert_eq!(troubles(&status(), &queues, &[worker()], None), []);
}

#[test]
fn writes_that_have_stopped_come_first_and_say_what_to_do() {
    let status = StatusView {
        fault: Some("fdatasync failed".into()),
        rejected: 1,
        ..status()
    };
    let found = troubles(&status, &[], &[], None);
    assert_eq!(
        kinds(&found),
        [
            ("writes-stopped", Severity::Critical),
            ("rejected-files", Severity::Warning)
        ]
    );
    assert_eq!(found[0].what, "writes have stopped: fdatasync failed");
    assert!(found[0].next.contains("systemctl restart workqueued"));
}

#[test]
fn memory_that_is_full_is_told_with_its_limit() {
    let status = StatusView {
        no_memory: Some((300 << 20, 256 << 20)),
        ..status()
    };
    let found = troubles(&status, &[], &[], None);
    assert_eq!(kinds(&found), [("memory-full", Severity::Critical)]);
    assert!(
        found[0]
            .what
            .starts_with("300 MiB of memory are in use, and the limit is 256")
    );
}

#[test]
fn a_small_disk_of_which_most_is_free_is_not_called_nearly_full() {
    let of = |free, size| {
        let status = StatusView {
            disk: Some(DiskSpace { free, size }),
            ..status()
        };
        troubles(&status, &[], &[], None)[0].what.clone()
    };
    assert_eq!(
        of(55 << 20, 58 << 20),
        "the disk has little room: 55 MiB are free"
    );
    assert_eq!(
        of(2 * GIB, 100 * GIB),
        "the disk is nearly full: 2048 MiB (2 %) are free"
    );
}

#[test]
fn a_disk_is_nearly_full_by_bytes_or_by_its_share_but_not_where_there_is_plenty() {
    let of = |free, size| {
        let status = StatusView {
            disk: Some(DiskSpace { free, size }),
            ..status()
        };
        kinds(&troubles(&status, &[], &[], None)).contains(&("disk-low", Severity::Warning))
    };
    assert!(of(200 << 20, GIB));
    assert!(!of(300 << 20, GIB));
    assert!(of(4 * GIB, 100 * GIB));
    assert!(!of(6 * GIB, 100 * GIB));
    assert!(!of(20 * GIB, 10_000 * GIB));
    let full = StatusView {
        disk_full: true,
        disk: Some(DiskSpace { free: 0, size: GIB }),
        ..status()
    };
    assert_eq!(
        kinds(&troubles(&full, &[], &[], None)),
        [("disk-full", Severity::Critical)]
    );
    let unknown = StatusView {
        disk: None,
        ..status()
    };
    assert_eq!(troubles(&unknown, &[], &[], None), []);
}

#[test]
fn due_tasks_that_nobody_asks_for_have_no_worker() {
    let lonely = QueueView {
        unasked: Millis::from_secs(420),
        ..queue("emails", 0, 3)
    };
    let found = troubles(&status(), std::slice::from_ref(&lonely), &[worker()], None);
    assert_eq!(kinds(&found), [("no-worker", Severity::Critical)]);
    assert_eq!(found[0].queue.as_deref(), Some("emails"));
    assert_eq!(
        found[0].what,
        "no worker for 7 minutes on queue emails, which has due tasks: 3"
    );
    // Somebody works on one of its tasks, it is paused, or its tasks have only just become due: nothing is wrong.
    for fine in [
        QueueView {
            counts: [1, 3, 0, 0],
            ..lonely.clone()
        },
        QueueView {
            oldest_due: Some(Millis(5000)),
            ..lonely.clone()
        },
        QueueView {
            unasked: Millis(5000),
            ..lonely.clone()
        },
    ] {
        assert_eq!(troubles(&status(), &[fine], &[worker()], None), []);
    }
    let paused = QueueView {
        paused: true,
        ..lonely
    };
    assert_eq!(
        kinds(&troubles(&status(), &[paused], &[worker()], None)),
        [("paused", Severity::Notice)]
    );
}

#[test]
fn ready_tasks_before_any_worker_has_come_are_a_warning() {
    let found = troubles(&status(), &[queue("default", 0, 2)], &[], None);
    assert_eq!(kinds(&found), [("no-worker", Severity::Warning)]);
    assert!(found[0].next.ends_with("or: workqueue-worker"));
    let url = Some("http://127.0.0.1:8000");
    let found = troubles(&status(), &[queue("default", 0, 2)], &[], url);
    assert!(
        found[0]
            .next
            .ends_with("workqueue-worker --url http://127.0.0.1:8000")
    );
}

#[test]
fn tasks_that_die_now_are_worse_than_those_that_lie_there() {
    let status = StatusView {
        counts: [0, 0, 0, 9],
        ..status()
    };
    let dying = QueueView {
        died_lately: 2,
        ..queue("emails", 0, 0)
    };
    let found = troubles(&status, &[dying], &[worker()], None);
    assert_eq!(
        kinds(&found),
        [
            ("tasks-dying", Severity::Critical),
            ("dead-tasks", Severity::Warning)
        ]
    );
    assert_eq!(found[1].what, "dead tasks, out of attempts: 9");
}

#[test]
fn many_queues_make_a_short_list() {
    let queues: Vec<QueueView> = (0..10_000)
        .map(|number| QueueView {
            unasked: Millis::from_secs(900),
            died_lately: 1,
            draining: true,
            ..queue(&format!("q{number}"), 0, 1)
        })
        .collect();
    let found = troubles(&status(), &queues, &[worker()], None);
    assert_eq!(found.len(), 13);
    assert!(
        found
            .iter()
            .any(|one| one.what == "further queues with due tasks and without a worker: 9995")
    );
    assert!(
        found
            .iter()
            .any(|one| one.what == "draining: q0, q1, q2, q3, q4 and 9995 more")
    );
}

#[test]
fn files_and_switches_are_told_of() {
    let status = StatusView {
        paused: true,
        draining: true,
        spool_lag: Millis::from_secs(61),
        spool_failing: 2,
        drops_waiting: 3,
        left_behind: 4,
        ..status()
    };
    assert_eq!(
        kinds(&troubles(&status, &[], &[], None)),
        [
            ("left-behind", Severity::Critical),
            ("files-failing", Severity::Warning),
            ("files-lag", Severity::Warning),
            ("drops-waiting", Severity::Warning),
            ("paused", Severity::Notice),
            ("draining", Severity::Notice)
        ]
    );
    let one = QueueView {
        paused: true,
        ..queue("emails", 0, 0)
    };
    let found = troubles(&self::status(), &[one], &[], None);
    assert_eq!(found[0].next, "workqueuectl resume emails");
}

#[test]
fn what_helps_where_no_events_come_is_said_by_the_reason() {
    let next = |why: &str| {
        let status = StatusView {
            deaf: Some(why.into()),
            ..status()
        };
        let found = troubles(&status, &[], &[], None);
        assert_eq!(kinds(&found), [("watch-deaf", Severity::Warning)]);
        found[0].next.clone()
    };
    let limits = [
        "no events come from 3 directories: the limit of inotify watches is reached (sysctl fs.inotify.max_user_watches): /d/tasks/a",
        "no events come from 1 directories: Too many open files (os error 24) (ulimit -n, or sysctl fs.inotify.max_user_instances)",
    ];
    for why in limits {
        assert!(next(why).starts_with("raise the limit"), "{why}");
    }
    let why = "no events come from 1 directories: Permission denied (os error 13): /d/tasks/a";
    assert!(next(why).starts_with("let the daemon's user read"));
    for why in [
        "the thread that reads the kernel's events has ended",
        "no events come from 1 directories: Input/output error (os error 5): /d/tasks/a",
    ] {
        assert!(next(why).starts_with("see to what is named"), "{why}");
    }
}
