//! Files that people who wish ill, and programs that know no better, put into the task directory. Each ends as a task, in
//! `rejected/` with its reason, or is left alone and reported; the daemon serves on, and the account is held at the end: none
//! lost, none handed out twice.

mod away;
mod changing;
mod gone;
mod kinds;
mod many;
mod mounts;
mod names;
mod own;
mod renamed;

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::common::{Daemon, account::Line, until};

/// The daemon is ready, takes a task, hands it out and lets it be completed.
fn serves_on(daemon: &Daemon) {
    until("it is ready", || {
        (daemon.text("/readyz").0 == 200).then_some(())
    });
    let id = daemon.submit(r#"{"payload": "probe", "queue": "probe"}"#);
    let mut tasks = daemon.claim("probe", 10);
    let task = tasks.pop().expect("the task that was submitted");
    assert_eq!((tasks.len(), task["id"].as_str()), (0, Some(&*id)));
    complete(daemon, &task);
}

/// Completes a task that was claimed.
fn complete(daemon: &Daemon, task: &Value) {
    let id = task["id"].as_str().expect("an id");
    let body = json!({"token": task["token"]}).to_string();
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/complete"), &body);
    assert!(status < 300, "{answer}");
}

/// Takes all that is due in a queue and completes it, until `count` tasks have come: how often each payload did.
fn work_off(daemon: &Daemon, queue: &str, count: usize) -> BTreeMap<String, u32> {
    let mut line = Line::open(&daemon.address).expect("a connection");
    let mut payloads = BTreeMap::new();
    let (mut got, mut complete) = (0, Vec::new());
    until("all to be handed out", || {
        loop {
            let body = json!({"queues": [queue], "max": 500, "complete": complete}).to_string();
            let (status, answer) = line.ask("POST", "/api/v1/claim", &body).expect("an answer");
            assert_eq!(status, 200, "{answer}");
            let tasks = answer["tasks"].as_array().expect("tasks");
            complete = tasks
                .iter()
                .map(|task| json!({"id": task["id"], "token": task["token"]}))
                .collect();
            for task in tasks {
                *payloads.entry(text_of(&task["payload"])).or_default() += 1;
            }
            got += tasks.len();
            if tasks.is_empty() {
                return (got >= count).then_some(());
            }
        }
    });
    payloads
}

fn text_of(payload: &Value) -> String {
    payload
        .as_str()
        .map_or_else(|| payload.to_string(), ToOwned::to_owned)
}

/// How many tasks wait in a queue.
fn ready(daemon: &Daemon, queue: &str) -> u64 {
    let (status, view) = daemon.get(&format!("/api/v1/queues/{queue}"));
    match status {
        200 => view["ready"].as_u64().expect("how many are ready"),
        _ => 0,
    }
}

/// Waits until the watcher has looked at all that was there before this call: a scan was asked for, and files that came
/// after it have been taken.
fn looked_through(daemon: &Daemon) {
    let (status, answer) = daemon.admin("POST", "/rescan", "");
    assert!(status < 300, "{answer}");
    fs::create_dir_all(daemon.tasks().join("marker")).expect("a folder");
    for number in 0..3 {
        // Within the folder, as it may lie on another mount.
        let folder = daemon.tasks().join("marker");
        fs::write(folder.join(".aside"), "marker").expect("a file");
        fs::rename(folder.join(".aside"), folder.join(format!("{number}.txt"))).expect("dropped");
        let taken = panic::catch_unwind(AssertUnwindSafe(|| work_off(daemon, "marker", 1)));
        assert!(
            taken.is_ok(),
            "marker {number} was not handed out\n{}",
            state(daemon)
        );
    }
}

/// What a daemon shows of itself, for the message of a failure.
fn state(daemon: &Daemon) -> String {
    let mut names = Vec::new();
    for entry in fs::read_dir(daemon.tasks()).into_iter().flatten().flatten() {
        match fs::read_dir(entry.path()) {
            Ok(folder) => names.extend(folder.flatten().map(|entry| entry.path())),
            Err(_) => names.push(entry.path()),
        }
    }
    let (_, status) = daemon.admin("GET", "/status", "");
    format!(
        "in tasks/: {names:#?}\nstatus: {status:#}\nlog: {}",
        daemon.logged()
    )
}

/// Like [`looked_through`], where no file can be taken: a bad one tells.
fn looked_through_full(daemon: &Daemon) {
    let (status, answer) = daemon.admin("POST", "/rescan", "");
    assert!(status < 300, "{answer}");
    for _ in 0..3 {
        daemon.drop_file("marker.json", b"no task");
        let name = until("the marker to be rejected", || rejected(daemon).pop_first()).0;
        let (status, answer) = daemon.admin(
            "POST",
            "/rejected/discard",
            &json!({"name": name}).to_string(),
        );
        assert!(status < 300, "{answer}");
    }
}

/// What `GET /rejected` shows: names with whether they were moved, and why.
fn rejected(daemon: &Daemon) -> BTreeMap<String, (bool, String)> {
    let (status, answer) = daemon.admin("GET", "/rejected", "");
    assert_eq!(status, 200, "{answer}");
    let files = answer["rejected"].as_array().expect("a list");
    let seen = files.iter().map(|file| {
        let text = |key: &str| file[key].as_str().expect("a text").to_owned();
        let moved = file["moved"].as_bool().expect("whether it was moved");
        (text("name"), (moved, text("reason")))
    });
    let all: BTreeMap<_, _> = seen.collect();
    assert_eq!(all.len(), files.len(), "a name twice: {answer}");
    all
}

/// Writes a file beside the task directory, to be moved in.
fn aside(daemon: &Daemon, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let folder = daemon.scratch.path().join("beside");
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    fs::write(&path, content).expect("a file");
    path
}

/// A task's file with this payload.
fn task(payload: &str) -> String {
    json!({"payload": payload}).to_string()
}

/// The names in a folder that are neither hidden nor folders, as they are.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        other => other.expect("a folder"),
    };
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir()))
        .collect();
    found.sort();
    found
}

/// Moves what is right in one folder into another.
fn move_files(from: &Path, to: &Path) {
    for file in files_in(from) {
        let name = file.file_name().expect("a name");
        fs::rename(&file, to.join(name)).expect("moved");
    }
}
