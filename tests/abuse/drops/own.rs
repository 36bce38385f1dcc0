//! A task's own file: linked by a backup, spoilt, larger than a limit that was lowered, moved with its folder right before a
//! restart. The task stays, or its file does.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::{files_in, gone::settings, looked_through, rejected, serves_on, work_off};
use crate::common::{Daemon, Way, account::all, until};

const TEXT: &str = "spool_delay = \"0s\"\npayload_cache = \"0B\"\nrescan_every = \"0s\"\n";

fn start(scratch: tempfile::TempDir) -> Daemon {
    let extra = settings(&scratch, TEXT);
    let way = Way {
        extra,
        ..Way::default()
    };
    Daemon::start_so(scratch, way)
}

fn start_fresh() -> Daemon {
    start(tempfile::tempdir().expect("a scratch directory"))
}

fn submit(daemon: &Daemon, queue: &str, count: usize) -> Vec<String> {
    let body = |number| format!(r#"{{"payload": "{queue} {number}", "queue": "{queue}"}}"#);
    (0..count)
        .map(|number| daemon.submit(&body(number)))
        .collect()
}

/// A copy as backups make it, of links to the same files.
fn link_all(from: &Path, to: &Path) {
    let linked = Command::new("cp").arg("-al").args([from, to]).status();
    assert!(linked.expect("cp").success());
}

fn kill_one(daemon: &Daemon) -> String {
    let id = daemon.submit(r#"{"payload": "in vain", "queue": "hard"}"#);
    let (_, claimed) = daemon.post("/api/v1/claim", r#"{"queues": ["hard"], "wait": 30}"#);
    let token = claimed["tasks"][0]["token"].as_str().expect("a token");
    let body = format!(r#"{{"token": "{token}", "error": "no", "dead": true}}"#);
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/fail"), &body);
    assert_eq!(status, 200, "{answer}");
    id
}

#[test]
fn a_backup_by_links_takes_no_task() {
    let mut daemon = start_fresh();
    submit(&daemon, "default", 5);
    let dead = kill_one(&daemon);
    daemon.until_files_are_written();
    daemon.checkpoint();
    // With its checkpoint, which the next start reads.
    link_all(&daemon.data(), &daemon.scratch.path().join("backup"));
    daemon.crash_and_restart();
    assert_eq!(work_off(&daemon, "default", 5).len(), 5);
    let (status, task) = daemon.get(&format!("/api/v1/tasks/{dead}"));
    assert_eq!(
        (status, &task["payload"]),
        (200, &"in vain".into()),
        "{task}"
    );
    daemon.until_files_are_written();
    assert!(files_in(&daemon.tasks()).is_empty());
    serves_on(&daemon);
}

#[test]
fn a_limit_that_is_lowered_takes_no_task_that_was_accepted() {
    let mut daemon = start_fresh();
    let payload = "x".repeat(100_000);
    let id = daemon.submit(&format!(r#"{{"payload": "{payload}"}}"#));
    daemon.until_files_are_written();
    daemon.checkpoint();
    daemon.stop();
    let file = daemon.scratch.path().join("settings.toml");
    fs::write(&file, format!("{TEXT}max_payload = \"1KiB\"\n")).expect("settings");
    daemon.restart();
    let (status, list) = daemon.get("/api/v1/tasks");
    assert_eq!(
        (status, &list["tasks"][0]["id"]),
        (200, &id.into()),
        "{list}"
    );
    let payloads = work_off(&daemon, "default", 1);
    assert_eq!(payloads.get(&payload), Some(&1));
    serves_on(&daemon);
}

/// Moving it to `rejected/` may have to wait: until then it is where it was.
#[test]
fn a_spoilt_file_that_can_not_be_rejected_stays_until_it_can_and_a_claim_waits_no_longer_for_it() {
    let mut daemon = start_fresh();
    submit(&daemon, "default", 1);
    daemon.until_files_are_written();
    daemon.checkpoint();
    daemon.stop();
    let file = files_in(&daemon.tasks()).pop().expect("its file");
    fs::write(&file, "spoilt").expect("spoilt");
    daemon.restart();
    let folder = daemon.data().join("rejected");
    fs::remove_dir_all(&folder).expect("removed");
    fs::write(&folder, "in the way").expect("a file");
    let begun = Instant::now();
    let (status, claimed) = daemon.post("/api/v1/claim", r#"{"wait": 1}"#);
    assert_eq!(status, 200, "{claimed}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    until("it is told", || {
        daemon
            .logged()
            .contains("can't move a file to rejected/")
            .then_some(())
    });
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "spoilt");
    // Also over a crash.
    fs::remove_file(&folder).expect("out of the way");
    daemon.crash_and_restart();
    until("it is rejected", || {
        (rejected(&daemon).len() == 1).then_some(())
    });
    let kept = files_in(&folder);
    assert!(
        kept.iter()
            .any(|path| fs::read_to_string(path).is_ok_and(|text| text == "spoilt"))
    );
    assert!(files_in(&daemon.tasks()).is_empty());
    serves_on(&daemon);
}

#[test]
fn a_folder_that_is_renamed_right_before_a_restart_keeps_its_tasks() {
    for crash in [false, true] {
        let mut daemon = start_fresh();
        submit(&daemon, "before", 6);
        daemon.until_files_are_written();
        let [from, to] = ["before", "after"].map(|queue| daemon.tasks().join(queue));
        fs::rename(&from, &to).expect("renamed");
        until("its tasks are cancelled", || {
            let (_, counts) = daemon.get("/api/v1/queues/before");
            (counts["ready"] == 0).then_some(())
        });
        if crash {
            daemon.crash_and_restart();
        } else {
            daemon.stop();
            daemon.restart();
        }
        looked_through(&daemon);
        let payloads = work_off(&daemon, "after", 6);
        assert_eq!(payloads.len(), 6, "{payloads:?}");
        assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
        assert!(all(&daemon).is_empty());
        serves_on(&daemon);
    }
}

#[test]
fn a_file_that_is_taken_away_and_put_back_while_no_daemon_runs_is_a_task_again() {
    let mut daemon = start_fresh();
    let id = submit(&daemon, "default", 1).remove(0);
    daemon.until_files_are_written();
    let file = files_in(&daemon.tasks()).pop().expect("its file");
    let aside = daemon.scratch.path().join("aside");
    fs::rename(&file, &aside).expect("taken away");
    until("it is cancelled", || {
        (daemon.get(&format!("/api/v1/tasks/{id}")).0 == 404).then_some(())
    });
    daemon.kill();
    fs::rename(&aside, &file).expect("put back");
    daemon.restart();
    let payloads = work_off(&daemon, "default", 1);
    assert_eq!(payloads.get("default 0"), Some(&1));
    daemon.until_files_are_written();
    daemon.crash_and_restart();
    assert!(all(&daemon).is_empty());
}
