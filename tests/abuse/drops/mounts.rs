//! What is mounted where the tasks' files are comes and goes. Nobody has removed a file by that.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{aside, files_in, gone::settings, looked_through, rejected, serves_on, task, work_off};
use crate::common::{
    Daemon, Way,
    account::all,
    mount::{Mount, may_mount, skip},
    until,
};

fn start(scratch: tempfile::TempDir) -> Daemon {
    // Nothing is looked through but for a reason.
    let extra = settings(&scratch, "spool_delay = \"0s\"\nrescan_every = \"0s\"\n");
    let way = Way {
        extra,
        ..Way::default()
    };
    Daemon::start_so(scratch, way)
}

/// The files of tasks in a folder. One that was just being written when its mount came or went stays there under its temporary name,
/// until a start sweeps it.
fn tasks_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = files_in(folder);
    found.retain(|path| {
        !path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b".wq-"))
    });
    found
}

/// A scratch directory for a daemon with a folder of its data directory mounted from another one, which comes with it.
fn bound(folder: &str) -> Option<(tempfile::TempDir, PathBuf, Mount)> {
    if !may_mount() {
        return skip("mounting needs root");
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let store = scratch.path().join("store");
    fs::create_dir(&store).expect("what is mounted");
    let mounted = Mount::bind(&scratch.path().join("data").join(folder), &store)?;
    Some((scratch, store, mounted))
}

/// Twenty tasks of a queue, whose files are in `folder`.
fn submit(daemon: &Daemon, queue: &str, folder: &Path) -> BTreeSet<String> {
    let body = |number| format!(r#"{{"payload": "{queue} {number}", "queue": "{queue}"}}"#);
    let ids = (0..20).map(|number| daemon.submit(&body(number))).collect();
    until("their files are there", || {
        (files_in(folder).len() == 20).then_some(())
    });
    ids
}

fn ids_of(daemon: &Daemon) -> BTreeSet<String> {
    all(daemon).into_keys().collect()
}

fn put(daemon: &Daemon, name: &str, payload: &str) {
    let path = aside(daemon, "aside", task(payload));
    fs::rename(path, daemon.tasks().join(name)).expect("dropped");
}

fn work_all_off_once(daemon: &Daemon, queue: &str, count: usize) {
    let payloads = work_off(daemon, queue, count);
    assert_eq!(payloads.len(), count, "{payloads:?}");
    assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
}

#[test]
fn tasks_outlive_a_mount_that_vanishes_and_comes_back() {
    let Some((scratch, store, mounted)) = bound("tasks") else {
        return;
    };
    let daemon = start(scratch);
    let mut expected = submit(&daemon, "default", &store);
    mounted.unmount();
    until("their files are there again, where the mount was", || {
        (files_in(&daemon.tasks()).len() == 20).then_some(())
    });
    looked_through(&daemon);
    serves_on(&daemon);
    assert_eq!(ids_of(&daemon), expected);
    put(&daemon, "under-it.json", "under it");
    until("a drop is taken where the mount was", || {
        (ids_of(&daemon).len() == 21).then_some(())
    });
    expected = ids_of(&daemon);
    let again = Mount::bind(&daemon.tasks(), &store).expect("mounted again");
    looked_through(&daemon);
    assert_eq!(ids_of(&daemon), expected);
    fs::write(daemon.tasks().join("upon-it.json"), task("upon it")).expect("dropped");
    work_all_off_once(&daemon, "default", 22);
    serves_on(&daemon);
    drop(daemon);
    again.unmount();
}

/// The root directories of two file systems have the same inode, as a rule.
#[test]
fn tasks_outlive_another_file_system_that_covers_theirs() {
    if !may_mount() {
        return skip("mounting needs root").unwrap_or_default();
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let tasks = scratch.path().join("data/tasks");
    let Some(below) = Mount::tmpfs(&tasks, "16m") else {
        return;
    };
    let daemon = start(scratch);
    let mut expected = submit(&daemon, "default", &tasks);
    expected.extend(submit(&daemon, "emails", &tasks.join("emails")));
    let over = Mount::tmpfs(&tasks, "16m").expect("another one");
    // That is seen without being told.
    until("their files are there again", || {
        let count = files_in(&tasks).len() + files_in(&tasks.join("emails")).len();
        (count == 40).then_some(())
    });
    assert_eq!(ids_of(&daemon), expected);
    fs::write(tasks.join("upon-it.json"), task("upon it")).expect("dropped");
    until("a drop is taken", || {
        (ids_of(&daemon).len() == 41).then_some(())
    });
    over.unmount();
    looked_through(&daemon);
    assert_eq!(ids_of(&daemon).len(), 41);
    work_all_off_once(&daemon, "default", 21);
    work_all_off_once(&daemon, "emails", 20);
    serves_on(&daemon);
    drop(daemon);
    below.unmount();
}

#[test]
fn tasks_outlive_a_mount_on_their_queues_folder_that_vanishes_and_comes_back() {
    let Some((scratch, store, mounted)) = bound("tasks/emails") else {
        return;
    };
    let daemon = start(scratch);
    let emails = daemon.tasks().join("emails");
    let mut expected = submit(&daemon, "emails", &store);
    expected.extend(submit(&daemon, "default", &daemon.tasks()));
    mounted.unmount();
    until("their files are there again", || {
        (files_in(&emails).len() == 20).then_some(())
    });
    assert_eq!(ids_of(&daemon), expected);
    let again = Mount::bind(&emails, &store).expect("mounted again");
    put(&daemon, "new.json", "new");
    until("a drop is taken", || {
        (ids_of(&daemon).len() == 41).then_some(())
    });
    looked_through(&daemon);
    assert_eq!(ids_of(&daemon).len(), 41);
    again.unmount();
    looked_through(&daemon);
    work_all_off_once(&daemon, "emails", 20);
    work_all_off_once(&daemon, "default", 21);
    serves_on(&daemon);
}

/// No rename leads from one file system to another, nor from one mount to another.
#[test]
fn bad_files_on_another_file_system_are_rejected_and_can_be_taken_back() {
    if !may_mount() {
        return skip("mounting needs root").unwrap_or_default();
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let tasks = scratch.path().join("data/tasks");
    let Some(mount) = Mount::tmpfs(&tasks, "64m") else {
        return;
    };
    let daemon = start(scratch);
    fs::create_dir(tasks.join("emails")).expect("a queue");
    fs::write(tasks.join("emails/bad.json"), "bad").expect("dropped");
    // More than is copied.
    fs::write(tasks.join("large.json"), vec![b'x'; 17 << 20]).expect("dropped");
    let list = until("they are listed", || {
        let list = rejected(&daemon);
        (list.len() == 2).then_some(list)
    });
    assert!(list["bad.json"].0, "{list:?}");
    assert!(!list["tasks/large.json"].0, "{list:?}");
    let kept = daemon.data().join("rejected/bad.json");
    assert_eq!(fs::read_to_string(&kept).expect("the copy"), "bad");
    until("it has gone", || {
        files_in(&tasks.join("emails")).is_empty().then_some(())
    });
    fs::write(&kept, task("good by now")).expect("mended");
    let body = r#"{"name": "bad.json"}"#;
    let (status, answer) = daemon.admin("POST", "/rejected/retry", body);
    assert!(status < 300, "{answer}");
    work_all_off_once(&daemon, "emails", 1);
    assert!(files_in(&daemon.data().join("rejected")).is_empty());
    serves_on(&daemon);
    drop(daemon);
    mount.unmount();
}

/// What was done while its file was out of sight is not done again when that comes back.
#[test]
fn tasks_that_were_completed_do_not_come_back_with_their_mount() {
    let Some((scratch, store, mounted)) = bound("tasks") else {
        return;
    };
    let daemon = start(scratch);
    submit(&daemon, "default", &store);
    mounted.unmount();
    until("their files are there again", || {
        (files_in(&daemon.tasks()).len() == 20).then_some(())
    });
    work_all_off_once(&daemon, "default", 20);
    assert_eq!(tasks_in(&store).len(), 20);
    let again = Mount::bind(&daemon.tasks(), &store).expect("mounted again");
    looked_through(&daemon);
    until("what is left of them to be removed", || {
        tasks_in(&store).is_empty().then_some(())
    });
    assert!(ids_of(&daemon).is_empty());
    serves_on(&daemon);
    drop(daemon);
    again.unmount();
}

#[test]
fn tasks_whose_payloads_went_with_a_mount_wait_for_it() {
    let Some((scratch, store, mounted)) = bound("tasks") else {
        return;
    };
    let text = "spool_delay = \"0s\"\npayload_cache = \"0B\"\nrescan_every = \"0s\"\n";
    let way = Way {
        extra: settings(&scratch, text),
        ..Way::default()
    };
    let daemon = Daemon::start_so(scratch, way);
    let count = || daemon.get("/api/v1/queues/default").1["ready"].as_u64();
    submit(&daemon, "default", &store);
    daemon.checkpoint();
    mounted.unmount();
    let (status, list) = daemon.get("/api/v1/tasks?limit=100");
    assert_eq!(status, 200, "{list}");
    assert_eq!(count(), Some(20));
    let told = |count: u64| {
        let (_, view) = daemon.admin("GET", "/status", "");
        let said = view["troubles"].to_string().contains("left-behind");
        (view["left_behind"] == count && said == (count > 0)).then_some(())
    };
    until("it is told that they wait", || told(20));
    let again = Mount::bind(&daemon.tasks(), &store).expect("mounted again");
    work_all_off_once(&daemon, "default", 20);
    until("none waits any more", || told(0));
    serves_on(&daemon);
    drop(daemon);
    again.unmount();
}

/// How a daemon's life ends, and the next one begins.
#[derive(Debug, Clone, Copy)]
enum Between {
    /// It is stopped, and the mount comes back after the start.
    StoppedThenBack,
    /// It is stopped, and the mount comes back before the start.
    BackBeforeStart,
    /// It is killed right after the last completion, and the mount comes back after the start.
    KilledThenBack,
    /// It is killed, and the mount comes back before the start.
    KilledBackBeforeStart,
    /// All that it knows is in a checkpoint, once of the life in which the mount went, once of the next one.
    Checkpoints,
}

/// A restart must not forget what was done while the files were out of sight.
#[test]
fn tasks_that_were_completed_do_not_come_back_with_their_mount_after_a_restart() {
    for between in [
        Between::StoppedThenBack,
        Between::BackBeforeStart,
        Between::KilledThenBack,
        Between::KilledBackBeforeStart,
        Between::Checkpoints,
    ] {
        let Some((scratch, store, mounted)) = bound("tasks") else {
            return;
        };
        let mut daemon = start(scratch);
        submit(&daemon, "default", &store);
        mounted.unmount();
        until("their files are there again", || {
            (files_in(&daemon.tasks()).len() == 20).then_some(())
        });
        // Some before, and some after all that is to be known of it may be in a checkpoint.
        complete(&daemon, 10);
        if matches!(between, Between::Checkpoints) {
            daemon.checkpoint();
        }
        complete(&daemon, 10);
        let back = |daemon: &Daemon| Mount::bind(&daemon.tasks(), &store).expect("mounted again");
        let again = match between {
            Between::StoppedThenBack => {
                daemon.stop();
                daemon.restart();
                back(&daemon)
            }
            Between::BackBeforeStart => {
                daemon.stop();
                let again = back(&daemon);
                daemon.restart();
                again
            }
            Between::KilledThenBack => {
                daemon.kill();
                daemon.restart();
                back(&daemon)
            }
            Between::KilledBackBeforeStart => {
                daemon.kill();
                let again = back(&daemon);
                daemon.restart();
                again
            }
            Between::Checkpoints => {
                daemon.checkpoint();
                daemon.crash_and_restart();
                daemon.checkpoint();
                daemon.crash_and_restart();
                back(&daemon)
            }
        };
        looked_through(&daemon);
        until("what is left of them to be removed", || {
            tasks_in(&store).is_empty().then_some(())
        });
        assert!(ids_of(&daemon).is_empty(), "{between:?}");
        serves_on(&daemon);
        drop(daemon);
        again.unmount();
    }
}

/// A power cut, and a start without what is mounted after it: the tasks of the journal's tail may have left their files.
#[test]
fn a_start_without_its_mount_does_not_forget_what_ended_before() {
    let Some((scratch, store, mounted)) = bound("tasks") else {
        return;
    };
    let text = "spool_delay = \"0s\"\nrescan_every = \"0s\"\npayload_cache = \"0B\"\n";
    let way = Way {
        extra: settings(&scratch, text),
        ..Way::default()
    };
    let mut daemon = Daemon::start_so(scratch, way);
    submit(&daemon, "default", &store);
    // That one has failed is in no name.
    let claimed = claim(&daemon, 1);
    let failed = end(
        &daemon,
        &claimed[0],
        "fail",
        r#", "error": "no luck", "retry_in": 3600"#,
    );
    daemon.checkpoint();
    // A power cut brings back what was removed and not synced.
    let cut = daemon.scratch.path().join("as the power cut leaves it");
    let copied = Command::new("cp").arg("-a").args([&store, &cut]).status();
    assert!(copied.expect("cp").success());
    complete(&daemon, 9);
    daemon.kill();
    mounted.unmount();
    daemon.restart();
    looked_through(&daemon);
    let log = daemon.logged();
    assert!(log.contains("another directory"), "{log}");
    let (_, counts) = daemon.get("/api/v1/queues/default");
    assert_eq!(counts["scheduled"], 1, "nobody has removed it: {counts}");
    let again = Mount::bind(&daemon.tasks(), &cut).expect("mounted again");
    looked_through(&daemon);
    let payloads = work_off(&daemon, "default", 10);
    assert_eq!(payloads.len(), 10, "{payloads:?}");
    until("all files but one to be removed", || {
        (files_in(&cut).len() == 1).then_some(())
    });
    let (status, task) = daemon.get(&format!("/api/v1/tasks/{failed}"));
    assert_eq!((status, &task["attempts"]), (200, &1.into()), "{task}");
    assert_eq!(ids_of(&daemon), BTreeSet::from([failed.clone()]));
    serves_on(&daemon);
    drop(daemon);
    again.unmount();
}

/// So many claimed tasks.
fn claim(daemon: &Daemon, max: usize) -> Vec<Value> {
    let body = format!(r#"{{"max": {max}, "wait": 30}}"#);
    let (status, answer) = daemon.post("/api/v1/claim", &body);
    assert_eq!(status, 200, "{answer}");
    let tasks = answer["tasks"].as_array().expect("tasks").clone();
    assert_eq!(tasks.len(), max);
    tasks
}

/// Ends an attempt, and gives the task's id.
fn end(daemon: &Daemon, task: &Value, how: &str, more: &str) -> String {
    let [id, token] = ["id", "token"].map(|key| task[key].as_str().expect("a text"));
    let path = format!("/api/v1/tasks/{id}/{how}");
    let (status, answer) = daemon.post(&path, &format!(r#"{{"token": "{token}"{more}}}"#));
    assert!(status < 300, "{answer}");
    id.to_owned()
}

fn complete(daemon: &Daemon, count: usize) {
    for task in claim(daemon, count) {
        end(daemon, &task, "complete", "");
    }
}

#[test]
fn what_is_mounted_over_a_queues_folder_while_no_daemon_runs_cancels_none_of_its_tasks() {
    if !may_mount() {
        return skip("mounting needs root").unwrap_or_default();
    }
    let mut daemon = start(tempfile::tempdir().expect("a scratch directory"));
    let emails = daemon.tasks().join("emails");
    submit(&daemon, "emails", &emails);
    let body = r#"{"queues": ["emails"], "wait": 30}"#;
    let (_, claimed) = daemon.post("/api/v1/claim", body);
    let more = r#", "error": "no luck", "retry_in": 0"#;
    let failed = end(&daemon, &claimed["tasks"][0], "fail", more);
    daemon.until_files_are_written();
    daemon.checkpoint();
    daemon.stop();
    let over = Mount::tmpfs(&emails, "16m").expect("a mount");
    daemon.restart();
    looked_through(&daemon);
    daemon.checkpoint();
    daemon.crash_and_restart();
    daemon.checkpoint();
    daemon.stop();
    over.unmount();
    assert_eq!(files_in(&emails).len(), 20);
    daemon.restart();
    looked_through(&daemon);
    let (status, task) = daemon.get(&format!("/api/v1/tasks/{failed}"));
    assert_eq!((status, &task["attempts"]), (200, &1.into()), "{task}");
    work_all_off_once(&daemon, "emails", 20);
    assert!(ids_of(&daemon).is_empty());
    serves_on(&daemon);
}
