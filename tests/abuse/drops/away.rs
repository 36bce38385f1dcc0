//! Task directories that go and come back, several of them, in whatever order: what was done meanwhile stays done, and what was
//! not is there as it was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    complete, files_in,
    gone::{settings, under},
    looked_through, move_files, serves_on, work_off,
};
use crate::{
    common::{
        Daemon,
        account::all,
        mount::{Mount, may_mount, skip},
        until,
    },
    soak::exchange,
};

fn start(text: &str) -> Daemon {
    under(&[], text)
}

/// Another, empty directory, where a directory that goes away is put.
fn another(daemon: &Daemon, name: &str) -> PathBuf {
    let path = daemon.scratch.path().join(name);
    fs::create_dir(&path).expect("another directory");
    path
}

/// How many tasks have files in a folder.
fn tasks_in(folder: &Path) -> usize {
    let files = files_in(folder);
    let whole = files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"));
    whole.count()
}

/// The task directory and another one change places, and the daemon has found that.
fn swap(daemon: &Daemon, other: &Path) {
    exchange(&daemon.tasks(), other);
    looked_through(daemon);
    daemon.until_files_are_written();
}

/// All files of a directory are moved into the task directory.
fn merge(daemon: &Daemon, from: &Path) {
    move_files(from, &daemon.tasks());
    looked_through(daemon);
    daemon.until_files_are_written();
    looked_through(daemon);
}

fn claim(daemon: &Daemon, lease: u64) -> Value {
    let body = json!({"queues": ["default"], "wait": 30, "lease": lease}).to_string();
    let (_, mut answer) = daemon.post("/api/v1/claim", &body);
    answer["tasks"][0].take()
}

fn fail(daemon: &Daemon, task: &Value) {
    let id = task["id"].as_str().expect("a task");
    let body = json!({"token": task["token"], "error": "not yet", "retry_in": 3600}).to_string();
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/fail"), &body);
    assert!(status < 300, "{answer}");
}

/// State and attempts of a task; `None`: there is none.
fn seen(daemon: &Daemon, id: &str) -> Option<(String, u64)> {
    let (status, task) = daemon.get(&format!("/api/v1/tasks/{id}"));
    let state = task["state"].as_str().unwrap_or_default().to_owned();
    (status != 404).then(|| (state, task["attempts"].as_u64().unwrap_or_default()))
}

fn is(daemon: &Daemon, id: &str, state: &str, attempts: u64) {
    until("a task is as it was", || {
        (seen(daemon, id)? == (state.to_owned(), attempts)).then_some(())
    });
}

fn left_behind(daemon: &Daemon) -> u64 {
    let (_, view) = daemon.admin("GET", "/status", "");
    view["left_behind"].as_u64().expect("a number")
}

#[test]
fn of_a_task_that_was_done_no_file_in_any_directory_makes_one() {
    let daemon = start("spool_delay = \"0s\"\n");
    let id = daemon.submit(r#"{"payload": "first"}"#);
    daemon.until_files_are_written();
    let (a, b) = (another(&daemon, "a"), another(&daemon, "b"));
    swap(&daemon, &a);
    swap(&daemon, &b);
    complete(&daemon, &claim(&daemon, 60));
    for away in [&a, &b] {
        merge(&daemon, away);
        assert_eq!(seen(&daemon, &id), None, "{}", away.display());
    }
    assert!(files_in(&daemon.tasks()).is_empty());
    serves_on(&daemon);
}

#[test]
fn a_directory_that_comes_back_before_the_other_is_merged_undoes_nothing() {
    // With its payload in memory, and without.
    for text in [
        "spool_delay = \"0s\"\n",
        "spool_delay = \"0s\"\npayload_cache = \"0B\"\n",
    ] {
        let daemon = start(text);
        let id = daemon.submit(r#"{"payload": "first"}"#);
        daemon.until_files_are_written();
        let held = claim(&daemon, 60);
        let other = another(&daemon, "other");
        swap(&daemon, &other);
        fail(&daemon, &held);
        daemon.until_files_are_written();
        // The file that is here now has the former name.
        swap(&daemon, &other);
        is(&daemon, &id, "scheduled", 1);
        let path = format!("/api/v1/tasks/{id}");
        assert_eq!(daemon.send("PATCH", &path, r#"{"delay": 0}"#).0, 200);
        complete(&daemon, &claim(&daemon, 60));
        merge(&daemon, &other);
        assert_eq!(seen(&daemon, &id), None);
        serves_on(&daemon);
    }
}

#[test]
fn what_was_done_to_a_task_whose_directory_is_away_at_a_start_is_true_when_it_comes_back() {
    let mut daemon = start("spool_delay = \"0s\"\n");
    let id = daemon.submit(r#"{"payload": "first"}"#);
    daemon.until_files_are_written();
    looked_through(&daemon);
    daemon.checkpoint();
    fail(&daemon, &claim(&daemon, 60));
    daemon.until_files_are_written();
    daemon.kill();
    let away = another(&daemon, "away");
    exchange(&daemon.tasks(), &away);
    daemon.restart();
    assert_eq!(seen(&daemon, &id), None, "only its file tells of it");
    // The journal does no longer tell of it, and neither does that life remember.
    daemon.checkpoint();
    daemon.crash_and_restart();
    merge(&daemon, &away);
    is(&daemon, &id, "scheduled", 1);
    daemon.crash_and_restart();
    is(&daemon, &id, "scheduled", 1);
    serves_on(&daemon);
}

/// It is killed with the other directory in place, or with the former one again; before a checkpoint tells of the other one.
#[test]
fn a_crash_right_after_another_directory_came_brings_no_completed_task_back() {
    const TASKS: usize = 200;
    for is_back in [false, true] {
        let mut daemon = start("spool_delay = \"0s\"\n");
        for number in 0..TASKS {
            daemon.submit(&format!(r#"{{"payload": {number}}}"#));
        }
        daemon.until_files_are_written();
        looked_through(&daemon);
        daemon.checkpoint();
        let other = another(&daemon, "other");
        exchange(&daemon.tasks(), &other);
        until("some are written again", || {
            (tasks_in(&daemon.tasks()) > TASKS / 3).then_some(())
        });
        daemon.kill();
        if is_back {
            exchange(&daemon.tasks(), &other);
        }
        // What was just being written is no file yet.
        let (here, away) = (tasks_in(&daemon.tasks()), tasks_in(&other));
        daemon.restart();
        let done = work_off(&daemon, "default", here);
        assert!(done.len() >= here, "{}", done.len());
        assert_eq!(tasks_in(&other), away);
        merge(&daemon, &other);
        assert_eq!(all(&daemon).len(), TASKS - done.len(), "is back: {is_back}");
        let rest = work_off(&daemon, "default", TASKS - done.len());
        assert!(rest.keys().all(|payload| !done.contains_key(payload)));
        serves_on(&daemon);
    }
}

#[test]
fn a_task_that_died_before_its_directory_went_is_dead_when_it_comes_back() {
    let text = |delay: &str| format!("spool_delay = \"{delay}\"\npayload_cache = \"0B\"\n");
    let mut daemon = start(&text("0s"));
    let id = daemon.submit(r#"{"payload": "first", "max_attempts": 1}"#);
    daemon.until_files_are_written();
    claim(&daemon, 5);
    looked_through(&daemon);
    daemon.checkpoint();
    // It dies while its file waits to be moved to dead/, and nobody has its payload in memory.
    settings(&daemon.scratch, &text("60s"));
    daemon.crash_and_restart();
    until("it is dead", || {
        let (_, view) = daemon.admin("GET", "/status", "");
        (view["dead"] == 1).then_some(())
    });
    let away = another(&daemon, "away");
    exchange(&daemon.tasks(), &away);
    until("it is missed", || (left_behind(&daemon) == 1).then_some(()));
    daemon.checkpoint();
    daemon.crash_and_restart();
    assert!(seen(&daemon, &id).is_some(), "it waits");
    exchange(&daemon.tasks(), &away);
    looked_through(&daemon);
    is(&daemon, &id, "dead", 1);
    assert_eq!(left_behind(&daemon), 0);
    serves_on(&daemon);
}

/// A task may be in another queue by the time its former folder's mount goes.
#[test]
fn a_task_that_was_moved_out_of_a_mount_is_in_its_new_queue_when_that_comes_back() {
    if !may_mount() {
        return skip("mounting needs root").unwrap_or_default();
    }
    let text = "spool_delay = \"60s\"\npayload_cache = \"0B\"\n";
    let mut daemon = start(text);
    let (folder, kept) = (daemon.tasks().join("q"), another(&daemon, "kept"));
    fs::create_dir_all(&folder).expect("a folder");
    let Some(mount) = Mount::bind(&folder, &kept) else {
        return;
    };
    looked_through(&daemon);
    let id = daemon.submit(r#"{"payload": "first", "queue": "q", "delay": 3600}"#);
    daemon.checkpoint();
    looked_through(&daemon);
    daemon.checkpoint();
    let path = format!("/api/v1/tasks/{id}");
    assert_eq!(daemon.send("PATCH", &path, r#"{"queue": "p"}"#).0, 200);
    daemon.crash_and_restart();
    drop(mount);
    until("it is missed", || (left_behind(&daemon) == 1).then_some(()));
    daemon.checkpoint();
    daemon.crash_and_restart();
    let Some(_mount) = Mount::bind(&folder, &kept) else {
        return;
    };
    looked_through(&daemon);
    is(&daemon, &id, "scheduled", 0);
    assert_eq!(daemon.get(&path).1["queue"], "p");
    serves_on(&daemon);
}

#[test]
fn a_task_that_waits_for_its_directory_keeps_no_other_waiting() {
    let mut daemon = start("spool_delay = \"0s\"\npayload_cache = \"0B\"\n");
    let id = daemon.submit(r#"{"payload": "first", "priority": 0}"#);
    let held = claim(&daemon, 60);
    daemon.until_files_are_written();
    looked_through(&daemon);
    daemon.checkpoint();
    let away = another(&daemon, "away");
    daemon.kill();
    exchange(&daemon.tasks(), &away);
    daemon.restart();
    let body = json!({"token": held["token"]}).to_string();
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/release"), &body);
    assert!(status < 300, "{answer}");
    let second = daemon.submit(r#"{"payload": "second"}"#);
    assert_eq!(claim(&daemon, 60)["id"], *second);
    let (_, answer) = daemon.post("/api/v1/claim", r#"{"queues": ["default"], "wait": 0}"#);
    assert_eq!(answer["tasks"], json!([]), "nothing else can be had");
    exchange(&daemon.tasks(), &away);
    assert_eq!(claim(&daemon, 60)["id"], *id);
    serves_on(&daemon);
}
