//! Clocks that jump and machines that stand still: leases count on the boot clock, whatever the wall clock says; a scheduled
//! task is due by the wall clock, whatever it said before.
//!
//! No test may set the machine's clock: libfaketime gives the daemon one of its own, and leaves the boot clock alone. What it
//! can't do is to tell the kernel's timers; so the daemon learns of the jump here by its next request.

use std::{fs, path::PathBuf, thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    common::{Daemon, Way, account::all, mount::skip, until},
    handlers::{Worker, lines},
    soak::signal,
};

const YEAR: i64 = 365 * 24 * 3600;
/// A lease, in seconds, that has long ended when somebody stood still for [`STOOD`].
const SHORT: u64 = 5;
/// How long somebody stands still. Nothing is waited for in that time: it is to be longer than a lease.
const STOOD: Duration = Duration::from_secs(8);

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut paths = folders.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    paths.find(|path| path.exists())
}

/// A daemon whose wall clock is what [`set_clock`] says.
fn with_clock() -> Option<Daemon> {
    let Some(library) = library() else {
        return skip("libfaketime is not installed");
    };
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let clock = scratch.path().join("clock");
    fs::write(&clock, "+0\n").expect("a clock");
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let way = Way {
        environment: environment
            .map(|(name, text)| (name.to_owned(), text))
            .into(),
        ..Way::with(&["--log-level", "warn"])
    };
    Some(Daemon::start_so(scratch, way))
}

/// Sets the daemon's wall clock to so many seconds from now.
fn set_clock(daemon: &Daemon, seconds: i64) {
    let clock = daemon.scratch.path().join("clock");
    let aside = clock.with_extension("new");
    fs::write(&aside, format!("{seconds:+}\n")).expect("a clock");
    fs::rename(aside, clock).expect("set it");
}

/// Claims the one task that is to be had under a lease of so many seconds.
fn claim_one(daemon: &Daemon, lease: f64) -> (String, Value) {
    let tasks = claim(daemon, lease);
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    let id = tasks[0]["id"].as_str().expect("an id").to_owned();
    (id, tasks[0]["token"].clone())
}

fn claim(daemon: &Daemon, lease: f64) -> Vec<Value> {
    let body = json!({"queues": ["default"], "max": 10, "lease": lease}).to_string();
    let (status, answer) = daemon.post("/api/v1/claim", &body);
    assert_eq!(status, 200, "{answer}");
    answer["tasks"].as_array().expect("tasks").clone()
}

/// The status of a completion.
fn complete(daemon: &Daemon, (id, token): &(String, Value)) -> u16 {
    let body = json!({"token": token}).to_string();
    daemon
        .post(&format!("/api/v1/tasks/{id}/complete"), &body)
        .0
}

fn state(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/api/v1/tasks/{id}")).1["state"].clone()
}

#[test]
fn a_clock_that_is_set_by_a_year_moves_due_times_and_no_lease() {
    let Some(mut daemon) = with_clock() else {
        return;
    };
    daemon.submit(r#"{"payload": "held"}"#);
    let held = claim_one(&daemon, 600.0);
    let scheduled = daemon.submit(r#"{"payload": "in an hour", "delay": 3600}"#);
    assert!(claim(&daemon, 600.0).is_empty());

    set_clock(&daemon, YEAR);
    let due = claim_one(&daemon, 600.0);
    assert_eq!(due.0, scheduled, "a year on, it is due");
    assert_eq!(state(&daemon, &held.0), "leased", "by the boot clock");
    assert_eq!(complete(&daemon, &held), 200);

    let late = daemon.submit(r#"{"payload": "an hour after that", "delay": 3600}"#);
    set_clock(&daemon, -YEAR);
    assert!(claim(&daemon, 600.0).is_empty(), "it is due in two years");
    assert_eq!(state(&daemon, &due.0), "leased");
    let now = daemon.submit(r#"{"payload": "at once"}"#);
    let at_once = claim_one(&daemon, 600.0);
    assert_eq!(at_once.0, now, "what has no time is due at any time");

    // A start on a clock that is behind all that was written.
    daemon.crash_and_restart();
    assert!(claim(&daemon, 600.0).is_empty());
    assert_eq!(state(&daemon, &late), "scheduled");
    for one in [&due, &at_once] {
        assert_eq!(state(&daemon, &one.0), "leased");
        assert_eq!(complete(&daemon, one), 200);
        assert_eq!(complete(&daemon, one), 404, "completed once");
    }
    set_clock(&daemon, YEAR + 3700);
    let last = claim_one(&daemon, 600.0);
    assert_eq!((&last.0, complete(&daemon, &last)), (&late, 200));
    assert!(all(&daemon).is_empty(), "all five are accounted for");
}

#[test]
fn a_daemon_that_stood_still_ends_the_leases_that_ended_meanwhile_and_no_other() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    daemon.submit(r#"{"payload": 1}"#);
    let long = claim_one(&daemon, 600.0);
    let second = daemon.submit(r#"{"payload": 2}"#);
    let short = claim_one(&daemon, SHORT as f64);
    daemon.signal("-STOP");
    thread::sleep(STOOD);
    daemon.signal("-CONT");
    let again = until("the short lease has ended", || {
        let tasks = claim(&daemon, 600.0);
        let task = tasks.first()?;
        assert_eq!((tasks.len(), &task["attempt"]), (1, &json!(2)), "{tasks:?}");
        Some((
            task["id"].as_str().expect("an id").to_owned(),
            task["token"].clone(),
        ))
    });
    assert_eq!(again.0, second);
    assert_eq!(complete(&daemon, &short), 409, "it is another's");
    assert_eq!(complete(&daemon, &long), 200);
    assert_eq!(complete(&daemon, &again), 200);
    assert!(all(&daemon).is_empty());
}

#[test]
fn a_worker_that_stood_still_finds_its_task_anothers_and_completes_the_next() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let script = "echo \"$WORKQUEUE_TASK_ID\" >>\"$OUT/book\"\nread -r how\n[ \"$how\" = quick ] || exec sleep 1000\n";
    let slow = daemon.submit(r#"{"payload": "slow"}"#);
    let book = daemon.scratch.path().join("book");
    let lease = format!("lease = \"{SHORT}s\"\n");
    let worker = Worker::start_with(&daemon, script, "", &lease);
    until("the handler runs", || {
        (lines(&book) == [slow.as_str()]).then_some(())
    });
    signal(worker.pid(), "-STOP");
    thread::sleep(STOOD);
    let taken = until("its lease has ended", || {
        let tasks = claim(&daemon, 600.0);
        let task = tasks.first()?;
        Some((
            task["id"].as_str().expect("an id").to_owned(),
            task["token"].clone(),
        ))
    });
    assert_eq!(taken.0, slow);
    assert_eq!(lines(&book), [slow.as_str()]);
    let quick = daemon.submit(r#"{"payload": "quick"}"#);
    signal(worker.pid(), "-CONT");
    // It learns that the lease is lost, ends the handler, and goes on with the next.
    until("the next one has ended", || {
        (!all(&daemon).contains_key(&quick)).then_some(())
    });
    assert_eq!(state(&daemon, &slow), "leased", "the other still holds it");
    assert_eq!(complete(&daemon, &taken), 200);
    assert_eq!(lines(&book), [slow, quick]);
    assert!(all(&daemon).is_empty());
    worker.stop();
}
