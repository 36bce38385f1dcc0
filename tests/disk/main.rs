//! Real disks that are full, that fail, and that have no room for one more name: what is answered meanwhile, and that
//! nothing acknowledged is lost.
//!
//! The small file systems are mounted, which needs root; where that can't be, each test says loudly that it was skipped.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

#[path = "../common/mod.rs"]
mod common;
mod elsewhere;
mod failing;
mod file_systems;
mod full;
mod no_more_names;
mod unwritable;

use std::{collections::BTreeSet, fs};

use common::{
    Daemon,
    account::{Line, all},
    mount::{Mount, may_mount},
};
use serde_json::{Value, json};

const SMALL: &str =
    "spool_delay = \"300ms\"\njournal_segment = \"64KiB\"\ncheckpoint_bytes = \"1MiB\"\n";

/// How long a segment is with those settings, in bytes.
const SMALL_SEGMENT: u64 = 64 << 10;

/// A scratch directory with settings in it, and nothing mounted yet.
fn scratch(settings: &str) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    fs::write(scratch.path().join("settings.toml"), settings).expect("settings");
    scratch
}

/// The same, with `size` of memory mounted where the data will be; `None` where that can't be.
fn scratch_in_memory(settings: &str, size: &str) -> Option<(tempfile::TempDir, Mount)> {
    let scratch = scratch(settings);
    if !may_mount() {
        return None;
    }
    let mount = Mount::tmpfs(&scratch.path().join("data"), size)?;
    Some((scratch, mount))
}

fn start(scratch: tempfile::TempDir) -> Daemon {
    let settings = scratch.path().join("settings.toml").display().to_string();
    Daemon::start_in(scratch, &["--log-level", "warn", "--config", &settings])
}

/// One submit: the status, and the answer.
fn submit(line: &mut Line, queue: &str, payload: &str) -> (u16, Value) {
    let task = json!({"payload": payload, "queue": queue});
    line.ask("POST", "/api/v1/tasks", &task.to_string())
        .expect("an answer")
}

/// Submits a task that is taken, and gives its id.
fn submit_with(line: &mut Line, task: &Value) -> String {
    let (status, answer) = line
        .ask("POST", "/api/v1/tasks", &task.to_string())
        .expect("an answer");
    assert_eq!(status, 201, "{answer}");
    answer["id"].as_str().expect("an id").to_owned()
}

/// Submits until the answer is another than 201. Gives the ids that were acknowledged, and that answer.
fn submit_until_refused(line: &mut Line, queue: &str) -> (BTreeSet<String>, u16, Value) {
    let mut ids = BTreeSet::new();
    for number in 0..1_000_000 {
        let (status, answer) = submit(line, queue, &format!("{number} {}", "x".repeat(500)));
        if status != 201 {
            return (ids, status, answer);
        }
        ids.insert(answer["id"].as_str().expect("an id").to_owned());
    }
    panic!("never refused");
}

fn claim(line: &mut Line, queue: &str, max: usize) -> Vec<(String, Value)> {
    let body = json!({"queues": [queue], "max": max, "lease": 3600});
    let (status, answer) = line
        .ask("POST", "/api/v1/claim", &body.to_string())
        .expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let tasks = answer["tasks"].as_array().expect("tasks").iter();
    tasks
        .map(|task| {
            (
                task["id"].as_str().expect("an id").to_owned(),
                task["token"].clone(),
            )
        })
        .collect()
}

/// The answer to the completion of a task that was claimed.
fn try_to_complete(line: &mut Line, (id, token): &(String, Value)) -> (u16, Value) {
    let path = format!("/api/v1/tasks/{id}/complete");
    line.ask("POST", &path, &json!({"token": token}).to_string())
        .expect("an answer")
}

fn complete(line: &mut Line, one: &(String, Value)) {
    let (status, answer) = try_to_complete(line, one);
    assert_eq!(status, 200, "{answer}");
}

/// The ids of all tasks that there are.
fn ids(daemon: &Daemon) -> BTreeSet<String> {
    all(daemon).into_keys().collect()
}

fn is_full_answer(status: u16, answer: &Value) {
    assert_eq!((status, &answer["status"]), (507, &json!(507)), "{answer}");
    assert_eq!(answer["type"], "/problems/no-room", "{answer}");
}

fn line_to(daemon: &Daemon) -> Line {
    Line::open(&daemon.address).expect("it serves")
}
