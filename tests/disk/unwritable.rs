//! A task directory that can't be written to although the journal can: submits that wait for their files are told so in time.

use std::{collections::BTreeSet, fs};

use serde_json::json;

use crate::{
    claim,
    common::{
        account::Line,
        mount::{Mount, may_mount},
        until,
    },
    complete, ids, line_to, scratch, start,
};

/// More than the payloads that may wait for their files.
const LARGE: usize = 1_000_000;

#[test]
fn submits_are_answered_while_no_file_can_be_written() {
    let scratch = scratch("payload_cache = \"1MiB\"\n");
    if !may_mount() {
        return;
    }
    let tasks = scratch.path().join("data/tasks");
    fs::create_dir_all(&tasks).expect("a directory");
    let Some(mount) = Mount::tmpfs(&tasks, "64m") else {
        return;
    };
    let mut daemon = start(scratch);
    mount.set_writable(false);
    let mut line = line_to(&daemon);
    let submit = |line: &mut Line| {
        let task = json!({"payload": "x".repeat(LARGE)}).to_string();
        line.ask("POST", "/api/v1/tasks", &task).expect("an answer")
    };
    let mut there = BTreeSet::new();
    let (status, answer) = loop {
        let (status, answer) = submit(&mut line);
        if status != 201 {
            break (status, answer);
        }
        there.insert(answer["id"].as_str().expect("an id").to_owned());
        assert!(there.len() < 100, "payloads without files are not bounded");
    };
    assert_eq!(
        (status, &answer["type"]),
        (503, &json!("/problems/busy")),
        "{answer}"
    );
    let (_, troubles) = daemon.get("/api/v1/troubles");
    assert!(troubles.to_string().contains("files-failing"), "{troubles}");
    // All that needs no file goes on; and what has ended makes room.
    for one in claim(&mut line, "default", 2) {
        complete(&mut line, &one);
        there.remove(&one.0);
    }
    until("there to be room for one", || {
        let (status, answer) = submit(&mut line);
        (status == 201).then(|| there.insert(answer["id"].as_str().expect("an id").to_owned()))
    });
    mount.set_writable(true);
    daemon.until_files_are_written();
    let (status, answer) = submit(&mut line);
    assert_eq!(status, 201, "{answer}");
    there.insert(answer["id"].as_str().expect("an id").to_owned());
    daemon.crash_and_restart();
    assert_eq!(ids(&daemon), there);
    assert!(daemon.stop().success());
}
