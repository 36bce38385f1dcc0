//! Real disks that are full, that fail, and that have no room for one more name: what is answered meanwhile, and that
//! nothing acknowledged is lost.
//!
//! The small file systems are mounted, which needs root; where that can't be, each test says loudly that it was skipped.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
};

use common::{
    Daemon, PATIENCE,
    account::{Line, all, id_of},
    mount::{Mount, ext4, free_ranges, has, may_mount, skip, tool},
    names, request, until,
};
use serde_json::{Value, json};

const SMALL: &str = "journal_segment = \"64KiB\"\ncheckpoint_bytes = \"1MiB\"\n";

/// A scratch directory with settings in it, and nothing mounted yet.
fn scratch(settings: &str) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    fs::write(scratch.path().join("settings.toml"), settings).expect("settings");
    scratch
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

fn complete(line: &mut Line, (id, token): &(String, Value)) {
    let path = format!("/api/v1/tasks/{id}/complete");
    let (status, answer) = line
        .ask("POST", &path, &json!({"token": token}).to_string())
        .expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

fn is_full_answer(status: u16, answer: &Value) {
    assert_eq!((status, &answer["status"]), (507, &json!(507)), "{answer}");
    assert_eq!(answer["type"], "/problems/no-room", "{answer}");
}

fn a_full_disk(scratch: tempfile::TempDir, mount: &Mount) {
    let mut daemon = start(scratch);
    let mut line = Line::open(&daemon.address).expect("it serves");
    let (status, answer) = submit(&mut line, "default", "before");
    assert_eq!(status, 201, "{answer}");
    let ballast = mount.fill();
    let (mut there, status, answer) = submit_until_refused(&mut line, "default");
    is_full_answer(status, &answer);
    let head = daemon
        .raw(&request(
            "POST",
            "/api/v1/tasks",
            "application/json",
            r#"{"payload":1}"#,
        ))
        .1
        .to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/problem+json"),
        "{head}"
    );
    assert!(head.contains("retry-after:"), "{head}");
    assert!(there.len() > 10, "only {} were taken", there.len());

    // Claims and ends go on.
    let mut held = claim(&mut line, "default", there.len() / 2);
    assert!(held.len() > 4, "only {} were handed out", held.len());
    for _ in 0..held.len() / 2 {
        let one = held.pop().expect("one more");
        complete(&mut line, &one);
        there.remove(&one.0);
    }
    // It starts on the full disk too, and the leases are as they were.
    daemon.crash_and_restart();
    let mut line = Line::open(&daemon.address).expect("it serves");
    let found: BTreeSet<String> = all(&daemon).into_keys().collect();
    assert!(there.is_subset(&found), "{:?}", there.difference(&found));
    assert!(found.len() <= there.len() + 1, "what was completed is back");
    for one in held.drain(..) {
        complete(&mut line, &one);
        there.remove(&one.0);
    }
    let (more, status, answer) = submit_until_refused(&mut line, "default");
    is_full_answer(status, &answer);
    there.extend(more);

    // There is room again: all works, without a restart.
    fs::remove_file(ballast).expect("room");
    until("a submit is taken", || {
        let (status, answer) = submit(&mut line, "default", "after");
        if status != 201 {
            is_full_answer(status, &answer);
        }
        (status == 201).then_some(())
    });
    until("a file for each task", || {
        let files: BTreeSet<String> = names(&daemon.tasks())
            .iter()
            .filter_map(|name| id_of(name))
            .collect();
        let tasks: BTreeSet<String> = all(&daemon).into_keys().collect();
        assert!(there.is_subset(&tasks));
        (files == tasks).then_some(())
    });
    let (status, health) = daemon.text("/readyz");
    assert_eq!(status, 200, "{health}");
    let (status, answer) = daemon.admin("POST", "/checkpoint", "");
    assert!(status < 300, "{answer}");
    daemon.crash_and_restart();
    let tasks: BTreeSet<String> = all(&daemon).into_keys().collect();
    assert!(there.is_subset(&tasks));
    assert!(daemon.stop().success());
}

#[test]
fn a_full_disk_in_memory_refuses_submits_and_nothing_else() {
    let scratch = scratch(SMALL);
    if !may_mount() {
        return;
    }
    let data = scratch.path().join("data");
    let Some(mount) = Mount::tmpfs(&data, "4m") else {
        return;
    };
    a_full_disk(scratch, &mount);
}

#[test]
fn a_full_ext4_refuses_submits_and_nothing_else() {
    let scratch = scratch(SMALL);
    let image = scratch.path().join("image");
    let data = scratch.path().join("data");
    if !may_mount() || ext4(&image, 16, &["-m", "0"]).is_none() {
        return;
    }
    let Some(mount) = Mount::image(&data, &image) else {
        return;
    };
    a_full_disk(scratch, &mount);
}

/// Fills a directory of ext4 with names until its index holds no more: long ones first, which is quick, then such as ours.
fn fill_directory(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::create_dir_all(dir).expect("a directory");
    let mut made = Vec::new();
    let mut number = 0_u64;
    for length in [250, 72, 44] {
        let mut refused = 0;
        while refused < 400 {
            number += 1;
            let name = format!(".{number:0>length$}");
            // Hard links cost no inode; each inode has at most 65000 of them.
            let path = dir.join(name);
            let result = match made.last().filter(|_| number % 50_000 != 0) {
                Some(last) => fs::hard_link(last, &path),
                None => fs::write(&path, ""),
            };
            match result {
                Ok(()) => {
                    refused = 0;
                    made.push(path);
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::StorageFull => refused += 1,
                Err(cause) => panic!("{}: {cause}", path.display()),
            }
        }
    }
    made
}

#[test]
fn a_directory_that_holds_no_more_names_is_full_for_its_queue_alone() {
    let scratch = scratch(SMALL);
    let image = scratch.path().join("image");
    let data = scratch.path().join("data");
    // Blocks of 1 KiB and no third level of the index: it ends at some ten thousand names, not at ten million.
    let options = ["-b", "1024", "-O", "^large_dir", "-m", "0"];
    if !may_mount() || ext4(&image, 96, &options).is_none() {
        return;
    }
    let Some(_mount) = Mount::image(&data, &image) else {
        return;
    };
    let padding = fill_directory(&data.join("tasks/narrow"));
    let mut daemon = start(scratch);
    let (_, view) = daemon.admin("GET", "/status", "");
    assert!(
        view["disk_free"].as_u64().expect("room") > 20 << 20,
        "{view}"
    );
    let mut line = Line::open(&daemon.address).expect("it serves");
    let (there, status, answer) = submit_until_refused(&mut line, "narrow");
    is_full_answer(status, &answer);
    let detail = answer["detail"].as_str().expect("a detail");
    assert!(detail.contains("narrow"), "{detail}");
    assert!(!there.is_empty());

    // The other queues go on, and the journal does not grow on account of this one.
    for number in 0..3000 {
        let (status, answer) = submit(&mut line, "wide", &format!("{number} {}", "x".repeat(500)));
        assert_eq!(status, 201, "{answer}");
        for one in claim(&mut line, "wide", 1) {
            complete(&mut line, &one);
        }
    }
    let (status, answer) = submit(&mut line, "narrow", "more");
    is_full_answer(status, &answer);
    let (status, answer) = daemon.admin("POST", "/checkpoint", "");
    assert!(status < 300, "{status} {answer}");
    let journal: u64 = names(&daemon.data().join("journal"))
        .iter()
        .map(|name| {
            fs::metadata(daemon.data().join("journal").join(name)).map_or(0, |meta| meta.len())
        })
        .sum();
    assert!(journal < 1 << 20, "{journal} bytes of journal");

    // Claims and ends go on in it.
    let mut held = claim(&mut line, "narrow", 2);
    assert!(!held.is_empty());
    let first = held.remove(0);
    complete(&mut line, &first);
    daemon.crash_and_restart();
    let mut line = Line::open(&daemon.address).expect("it serves");
    let found = all(&daemon);
    let rest: BTreeSet<String> = there.iter().filter(|id| **id != first.0).cloned().collect();
    let narrow: BTreeSet<String> = found
        .iter()
        .filter(|(_, task)| task["queue"] == "narrow")
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(narrow, rest, "what was acknowledged, and no more");
    for id in &rest {
        let payload = found[id]["payload"].as_str().expect("a payload");
        assert!(payload.ends_with("xxx"), "{payload}");
    }
    for one in held {
        assert_eq!(found[&one.0]["state"], "leased");
        complete(&mut line, &one);
    }

    // Names go, and it works again.
    for path in padding {
        fs::remove_file(path).expect("a name less");
    }
    until("a submit is taken", || {
        (submit(&mut line, "narrow", "after").0 == 201).then_some(())
    });
    until("a file for each task", || {
        let files = names(&daemon.tasks().join("narrow"));
        let files: BTreeSet<String> = files.iter().filter_map(|name| id_of(name)).collect();
        let tasks = all(&daemon);
        let tasks = tasks.iter().filter(|(_, task)| task["queue"] == "narrow");
        (files == tasks.map(|(id, _)| id.clone()).collect()).then_some(())
    });
    assert!(daemon.stop().success());
}
