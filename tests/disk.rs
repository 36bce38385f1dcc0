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
    io::Write as _,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use common::{
    Daemon, PATIENCE, Way,
    account::{Line, all, id_of},
    mount::{Mount, ext4, free_ranges, has, may_mount, skip, tool},
    names, request, until,
};
use serde_json::{Value, json};

const SMALL: &str =
    "spool_delay = \"300ms\"\njournal_segment = \"64KiB\"\ncheckpoint_bytes = \"1MiB\"\n";

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
            &json!({"payload": "x".repeat(500)}).to_string(),
        ))
        .1
        .to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/problem+json"),
        "{head}"
    );
    assert!(head.contains("retry-after:"), "{head}");
    assert!(there.len() > 3, "only {} were taken", there.len());

    // Claims and ends go on.
    let mut held = claim(&mut line, "default", there.len() / 2);
    assert!(held.len() > 1, "only {} were handed out", held.len());
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
    daemon.checkpoint();
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

/// Claims the next task, which a full disk may refuse for some time, but not for good.
fn claim_in_the_end(line: &mut Line) -> (String, Value) {
    let body = json!({"lease": 3600}).to_string();
    until("a claim is answered", || {
        let (status, answer) = line.ask("POST", "/api/v1/claim", &body).expect("an answer");
        if status != 200 {
            is_full_answer(status, &answer);
            return None;
        }
        let task = &answer["tasks"][0];
        Some((task["id"].as_str()?.to_owned(), task["token"].clone()))
    })
}

/// Fails `count` attempts with an error of `bytes`, one after the other.
fn fail_many(line: &mut Line, count: usize, bytes: usize) {
    for _ in 0..count {
        let (id, token) = claim_in_the_end(line);
        let body = json!({"token": token, "error": "e".repeat(bytes), "retry_in": 0}).to_string();
        let (status, answer) = line
            .ask("POST", &format!("/api/v1/tasks/{id}/fail"), &body)
            .expect("an answer");
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn attempts_that_fail_on_a_full_disk_do_not_use_up_the_room_for_claims() {
    for payload in [30_000, 2000] {
        fail_on_a_full_disk(payload);
    }
}

fn fail_on_a_full_disk(payload: usize) {
    let scratch = scratch("journal_segment = \"256KiB\"\n");
    if !may_mount() {
        return;
    }
    let data = scratch.path().join("data");
    let Some(mount) = Mount::tmpfs(&data, "16m") else {
        return;
    };
    let mut daemon = start(scratch);
    let mut line = Line::open(&daemon.address).expect("it serves");
    let mut there = BTreeSet::new();
    let (status, answer) = loop {
        let task = json!({"payload": "x".repeat(payload), "max_attempts": 1_000_000});
        let (status, answer) = line
            .ask("POST", "/api/v1/tasks", &task.to_string())
            .expect("an answer");
        if status != 201 {
            break (status, answer);
        }
        there.insert(answer["id"].as_str().expect("an id").to_owned());
    };
    is_full_answer(status, &answer);
    mount.fill();
    // Long errors, and so many attempts that their records alone are more than is kept.
    fail_many(&mut line, 300, 3000);
    // What a checkpoint lets go is gone again at once.
    mount.fill();
    fail_many(&mut line, 1500, 10);
    // What else wants room on a full disk has it, too.
    for change in ["/pause", "/resume"] {
        until("the switch is taken", || {
            let (status, answer) = daemon.admin("POST", change, "");
            if status != 200 {
                is_full_answer(status, &answer);
            }
            (status == 200).then_some(())
        });
    }
    daemon.crash_and_restart();
    let mut line = Line::open(&daemon.address).expect("it serves");
    fail_many(&mut line, 500, 10);
    let found: BTreeSet<String> = all(&daemon).into_keys().collect();
    assert_eq!(found, there);
    for _ in 0..there.len() {
        let one = claim_in_the_end(&mut line);
        complete(&mut line, &one);
    }
    assert!(all(&daemon).is_empty());
    assert!(daemon.stop().success());
}

/// Somebody who takes every byte that a disk has left, until he is told to end.
fn taking_all<T>(dir: &Path, meanwhile: impl FnOnce() -> T) -> T {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options()
                .append(true)
                .create(true)
                .open(dir.join("taken"));
            let mut file = file.expect("a file that takes the room");
            while !ends.load(Ordering::Relaxed) {
                if file.write_all(&[1; 1024]).is_err() {
                    thread::yield_now();
                }
            }
        });
        let done = meanwhile();
        ends.store(true, Ordering::Relaxed);
        done
    })
}

/// What a life leaves for the ends of tasks is free while the next one starts: somebody may take it then.
#[test]
fn a_start_on_a_disk_that_others_fill_answers_everything() {
    for has_reserve in [true, false] {
        let scratch = scratch("journal_segment = \"256KiB\"\nspool_delay = \"0s\"\n");
        if !may_mount() {
            return;
        }
        let data = scratch.path().join("data");
        let Some(mount) = Mount::tmpfs(&data, "8m") else {
            return;
        };
        let mut daemon = start(scratch);
        let mut there = BTreeSet::new();
        for number in 0..300 {
            let task = json!({"payload": format!("{number} {}", "x".repeat(1000))});
            there.insert(daemon.submit(&task.to_string()));
        }
        daemon.until_files_are_written();
        let mut line = Line::open(&daemon.address).expect("it serves");
        let held = claim(&mut line, "default", 20);
        until("room is set aside", || {
            data.join("journal/reserve").exists().then_some(())
        });
        daemon.kill();
        if !has_reserve {
            fs::remove_file(data.join("journal/reserve")).expect("removed");
        }
        mount.fill();
        taking_all(&data, || {
            daemon.restart();
            let mut line = Line::open(&daemon.address).expect("it serves");
            let (id, token) = &held[0];
            let path = format!("/api/v1/tasks/{id}/complete");
            let body = json!({"token": token}).to_string();
            let (status, answer) = line.ask("POST", &path, &body).expect("an answer");
            if status == 200 {
                there.remove(id);
            } else {
                assert!(!has_reserve);
                is_full_answer(status, &answer);
            }
            let (status, answer) = line.ask("POST", "/api/v1/claim", "{}").expect("an answer");
            if status != 200 {
                assert!(!has_reserve);
                is_full_answer(status, &answer);
            }
            for path in [
                "/api/v1/tasks?limit=1",
                "/api/v1/queues",
                "/api/v1/troubles",
            ] {
                assert_eq!(daemon.get(path).0, 200, "{path}");
            }
            assert!(daemon.metrics().contains("workqueue_up 1"));
        });
        fs::remove_file(data.join("taken")).expect("room");
        fs::remove_file(data.join("ballast")).expect("room");
        for one in held.iter().filter(|(id, _)| there.contains(id)) {
            until("a completion is taken", || {
                let path = format!("/api/v1/tasks/{}/complete", one.0);
                let body = json!({"token": one.1}).to_string();
                let (status, answer) = line_to(&daemon)
                    .ask("POST", &path, &body)
                    .expect("an answer");
                if status != 200 {
                    is_full_answer(status, &answer);
                }
                (status == 200).then_some(())
            });
        }
        let done: BTreeSet<String> = held.into_iter().map(|(id, _)| id).collect();
        let left: BTreeSet<String> = there.difference(&done).cloned().collect();
        daemon.crash_and_restart();
        let found: BTreeSet<String> = all(&daemon).into_keys().collect();
        assert_eq!(found, left);
        assert!(daemon.stop().success());
    }
}

fn line_to(daemon: &Daemon) -> Line {
    Line::open(&daemon.address).expect("it serves")
}

/// Fills a directory of ext4 with names until its index holds no more: long ones first, which is quick, then such as ours.
fn fill_directory(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::create_dir_all(dir).expect("a directory");
    let mut made = Vec::new();
    let (mut number, mut links) = (0_u64, 0);
    for length in [250, 72, 44] {
        let mut refused = 0;
        while refused < 400 {
            number += 1;
            let name = format!(".{number:0>length$}");
            // Hard links cost no inode; each inode has at most 65000 of them.
            let path = dir.join(name);
            let result = match made.last().filter(|_| links < 60_000) {
                Some(last) => fs::hard_link(last, &path),
                None => fs::write(&path, ""),
            };
            match result {
                Ok(()) => {
                    refused = 0;
                    links = if links < 60_000 { links + 1 } else { 0 };
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
    for number in 0..1000 {
        let (status, answer) = submit(&mut line, "wide", &format!("{number} {}", "x".repeat(500)));
        assert_eq!(status, 201, "{answer}");
        for one in claim(&mut line, "wide", 1) {
            complete(&mut line, &one);
        }
    }
    let (status, answer) = submit(&mut line, "narrow", "more");
    is_full_answer(status, &answer);
    daemon.checkpoint();
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

    // Names go, and it works again. All of them: a name fits only into the one block that its hash says.
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

/// What a service manager is told.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(scratch: &Path) -> (Self, (String, String)) {
        let path = scratch.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("patience");
        let variable = ("NOTIFY_SOCKET".to_owned(), path.display().to_string());
        (Self(socket), variable)
    }

    /// Waits until it is told something that contains `text`.
    fn hears(&self, text: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.recv(&mut buffer).expect("it is told in time");
            let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if told.contains(text) {
                return told;
            }
        }
    }
}

/// What must be so once a sync has failed: nothing is acknowledged any more, and it is said on every channel.
fn writes_have_stopped(daemon: &mut Daemon, manager: &Manager, held: &[(String, Value)]) {
    let mut line = Line::open(&daemon.address).expect("it serves");
    let (status, answer) = submit(&mut line, "default", "later");
    assert_eq!(
        (status, &answer["type"]),
        (503, &json!("/problems/fault")),
        "{answer}"
    );
    for (id, token) in held {
        let path = format!("/api/v1/tasks/{id}/complete");
        let (status, answer) = line
            .ask("POST", &path, &json!({"token": token}).to_string())
            .expect("an answer");
        assert_eq!(
            (status, &answer["type"]),
            (503, &json!("/problems/fault")),
            "{answer}"
        );
    }
    let (status, why) = daemon.text("/readyz");
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("sync journal/"), "{why}");
    let (status, metrics) = daemon.text("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("workqueue_up 0"), "{metrics}");
    let told = manager.hears("FAILED");
    assert!(
        told.starts_with("STATUS=") && told.contains("sync journal/"),
        "{told}"
    );
    assert!(daemon.logged().contains("no more writes are taken"));
    assert_eq!(daemon.stop().code(), Some(74), "{}", daemon.logged());
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_the_restart_has_what_was() {
    if !has("strace") {
        return skip("strace is not installed").unwrap_or_default();
    }
    // The fourth sync of a thread of the daemon fails, as if the disk had; one of those that write is the first to get there.
    for fails in [4, 9, 30] {
        let scratch = scratch("spool_delay = \"60s\"\n");
        let (manager, variable) = Manager::listen(scratch.path());
        let settings = scratch.path().join("settings.toml").display().to_string();
        let trace = scratch.path().join("trace");
        let inject = format!("inject=fdatasync:error=EIO:when={fails}");
        let mut way = Way::with(&["--log-level", "warn", "--config", &settings])
            .traced(&trace, &["-e", "trace=fdatasync", "-e", &inject]);
        way.environment.push(variable);
        let mut daemon = Daemon::start_so(scratch, way);
        let mut line = Line::open(&daemon.address).expect("it serves");
        let mut there = BTreeSet::new();
        let mut held = Vec::new();
        let (status, answer) = loop {
            let (status, answer) = submit(&mut line, "default", "payload");
            if status != 201 {
                break (status, answer);
            }
            there.insert(answer["id"].as_str().expect("an id").to_owned());
            if there.len() == 2 {
                let body = json!({"queues": ["default"], "lease": 3600});
                let (status, answer) = line
                    .ask("POST", "/api/v1/claim", &body.to_string())
                    .expect("an answer");
                if status == 200 {
                    let task = &answer["tasks"][0];
                    held.push((
                        task["id"].as_str().expect("an id").to_owned(),
                        task["token"].clone(),
                    ));
                }
            }
            assert!(there.len() < 100, "no sync has failed");
        };
        assert_eq!(
            (status, &answer["type"]),
            (503, &json!("/problems/fault")),
            "{answer}"
        );
        writes_have_stopped(&mut daemon, &manager, &held);
        daemon.set_way(Way::with(&["--log-level", "warn"]));
        daemon.restart();
        let found = all(&daemon);
        // The one that was answered 503 may be there.
        assert!(found.len() <= there.len() + 1, "{found:?}");
        for id in &there {
            assert!(found.contains_key(id), "{id} was acknowledged and is lost");
        }
        let mut line = Line::open(&daemon.address).expect("it serves");
        for one in &held {
            complete(&mut line, one);
        }
        assert!(daemon.stop().success());
    }
}

#[test]
fn what_is_mounted_below_the_data_directory_is_synced_before_a_checkpoint_lets_the_journal_go() {
    if !has("strace") {
        return skip("strace is not installed").unwrap_or_default();
    }
    let scratch = scratch("spool_delay = \"0s\"\n");
    let Some(mount) = Mount::tmpfs(&scratch.path().join("data/tasks"), "16m") else {
        return;
    };
    let settings = scratch.path().join("settings.toml").display().to_string();
    let trace = scratch.path().join("trace");
    let way = Way::with(&["--log-level", "warn", "--config", &settings])
        .traced(&trace, &["-y", "-e", "trace=syncfs"]);
    let mut daemon = Daemon::start_so(scratch, way);
    let synced = || {
        let text = fs::read_to_string(&trace).unwrap_or_default();
        text.matches("/data/tasks>) = 0").count()
    };
    // Files that were moved in while no daemon ran.
    until("the start to sync it", || (synced() >= 1).then_some(()));
    let before = synced();
    daemon.submit(r#"{"payload": 1}"#);
    daemon.checkpoint();
    until("the checkpoint to sync it", || {
        (synced() > before).then_some(())
    });
    assert!(daemon.stop().success());
    mount.unmount();
}

/// Where the frames of a segment end.
fn journal_end(segment: &Path) -> usize {
    let bytes = fs::read(segment).expect("a segment");
    let mut at = 64;
    loop {
        let len = bytes[at..at + 4].try_into().map(u32::from_le_bytes);
        match len.expect("four bytes") {
            0 => return at,
            len => at += 32 + len as usize,
        }
    }
}

/// A device that has room for what its file system keeps about itself, and for nothing else once its host is full: writes
/// that the kernel had taken fail when they are to be written.
fn failing_device(scratch: &Path) -> Option<(Mount, std::path::PathBuf)> {
    let host = Mount::tmpfs(&scratch.join("host"), "64m")?;
    let (sparse, image) = (scratch.join("sparse"), scratch.join("host/image"));
    ext4(&sparse, 32, &["-b", "4096", "-E", "nodiscard"])?;
    let (from, to) = (sparse.display().to_string(), image.display().to_string());
    tool("cp", &["--sparse=never", &from, &to]);
    for (from, length) in free_ranges(&image) {
        let (from, length) = (from.to_string(), length.to_string());
        tool("fallocate", &["-p", "-o", &from, "-l", &length, &to]);
    }
    Some((host, image))
}

#[test]
fn a_device_that_fails_stops_writes_and_what_it_lost_was_never_acknowledged() {
    let scratch = scratch("spool_delay = \"60s\"\njournal_segment = \"1MiB\"\n");
    if !may_mount() {
        return;
    }
    let Some((host, image)) = failing_device(scratch.path()) else {
        return;
    };
    let data = scratch.path().join("data");
    let Some(mount) = Mount::image(&data, &image) else {
        return;
    };
    let (manager, variable) = Manager::listen(scratch.path());
    let settings = scratch.path().join("settings.toml").display().to_string();
    let mut way = Way::with(&["--log-level", "warn", "--config", &settings]);
    way.environment.push(variable);
    let mut daemon = Daemon::start_so(scratch, way);
    let mut line = Line::open(&daemon.address).expect("it serves");
    let mut there = BTreeSet::new();
    let mut take = |line: &mut Line, length: usize| {
        let (status, answer) = submit(line, "default", &"x".repeat(length));
        assert_eq!(status, 201, "{answer}");
        there.insert(answer["id"].as_str().expect("an id").to_owned());
    };
    let segment = data.join("journal/00000000000000000001.wal");
    take(&mut line, 900);
    let beside = journal_end(&segment) - 64 - 900;
    let held = claim(&mut line, "default", 1);
    // A block ends with the last frame that is written well: of a write that meets room and then none, the loop device
    // says that it went well.
    let left = 4096 - journal_end(&segment) - beside;
    take(&mut line, left);
    assert_eq!(journal_end(&segment), 4096);
    // What the file system keeps about itself is written, then the host fills up.
    tool("sync", &["-f", &data.display().to_string()]);
    let ballast = host.fill();
    let (more, status, answer) = submit_until_refused(&mut line, "default");
    there.extend(more);
    assert_eq!(
        (status, &answer["type"]),
        (503, &json!("/problems/fault")),
        "{answer}"
    );
    writes_have_stopped(&mut daemon, &manager, &held);

    // The device is well again. What the kernel still remembers of the lost write is not on it: the start may not build on that.
    fs::remove_file(ballast).expect("room");
    // Nobody listens to what it tells the manager any more, and a full socket would hold it up.
    daemon.set_way(Way::with(&["--log-level", "warn"]));
    daemon.restart();
    let mut line = Line::open(&daemon.address).expect("it serves");
    for _ in 0..3 {
        let (status, answer) = submit(&mut line, "default", "after");
        assert_eq!(status, 201, "{answer}");
        there.insert(answer["id"].as_str().expect("an id").to_owned());
    }
    daemon.kill();
    // As after a power cut: nothing is read from memory.
    mount.unmount();
    let Some(_mount) = Mount::image(&data, &image) else {
        return;
    };
    daemon.restart();
    let found = all(&daemon);
    for id in &there {
        assert!(
            found.contains_key(id),
            "{id} was acknowledged and is lost: {}",
            daemon.logged()
        );
    }
    assert!(daemon.stop().success());
}
