//! A disk without room: submits are refused, and nothing else.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::{
    SMALL, SMALL_SEGMENT, claim,
    common::{
        account::{Line, id_of},
        mount::{Mount, ext4, may_mount},
        names, request, until,
    },
    complete, ids, is_full_answer, line_to, scratch, scratch_in_memory, start, submit,
    submit_until_refused, try_to_complete,
};

pub(crate) fn a_full_disk(scratch: tempfile::TempDir, mount: &Mount) {
    let mut daemon = start(scratch);
    let mut line = line_to(&daemon);
    let (status, answer) = submit(&mut line, "default", "before");
    assert_eq!(status, 201, "{answer}");
    // A file that finds no room ends submits, and a disk that fills before the next segment is made leaves the first to claims and
    // ends.
    daemon.until_files_are_written();
    until("another segment is at hand", || {
        let made = daemon.data().join("journal/00000000000000000002.wal");
        let bytes = made.metadata().map_or(0, |meta| meta.len());
        (bytes == SMALL_SEGMENT).then_some(())
    });
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
    let mut line = line_to(&daemon);
    let found = ids(&daemon);
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
        let tasks = ids(&daemon);
        assert!(there.is_subset(&tasks));
        (files == tasks).then_some(())
    });
    let (status, health) = daemon.text("/readyz");
    assert_eq!(status, 200, "{health}");
    daemon.checkpoint();
    daemon.crash_and_restart();
    let tasks = ids(&daemon);
    assert!(there.is_subset(&tasks));
    assert!(daemon.stop().success());
}

#[test]
fn a_full_disk_in_memory_refuses_submits_and_nothing_else() {
    if let Some((scratch, mount)) = scratch_in_memory(SMALL, "4m") {
        a_full_disk(scratch, &mount);
    }
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
pub(crate) fn fail_many(line: &mut Line, count: usize, bytes: usize) {
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
    let settings = "journal_segment = \"256KiB\"\n";
    let Some((scratch, mount)) = scratch_in_memory(settings, "16m") else {
        return;
    };
    let mut daemon = start(scratch);
    let mut line = line_to(&daemon);
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
    let mut line = line_to(&daemon);
    fail_many(&mut line, 500, 10);
    let found = ids(&daemon);
    assert_eq!(found, there);
    for _ in 0..there.len() {
        let one = claim_in_the_end(&mut line);
        complete(&mut line, &one);
    }
    assert!(ids(&daemon).is_empty());
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
        let settings = "journal_segment = \"256KiB\"\nspool_delay = \"0s\"\n";
        let Some((scratch, mount)) = scratch_in_memory(settings, "8m") else {
            return;
        };
        let data = scratch.path().join("data");
        let mut daemon = start(scratch);
        let mut there = BTreeSet::new();
        for number in 0..300 {
            let task = json!({"payload": format!("{number} {}", "x".repeat(1000))});
            there.insert(daemon.submit(&task.to_string()));
        }
        daemon.until_files_are_written();
        let mut line = line_to(&daemon);
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
            let mut line = line_to(&daemon);
            let (status, answer) = try_to_complete(&mut line, &held[0]);
            if status == 200 {
                there.remove(&held[0].0);
            } else {
                assert!(!has_reserve);
                is_full_answer(status, &answer);
            }
            // One that waits as well: it is not told that there is nothing to do.
            for body in ["{}", r#"{"wait": 1}"#] {
                let (status, answer) = line.ask("POST", "/api/v1/claim", body).expect("an answer");
                if status == 200 {
                    assert_ne!(answer["tasks"], json!([]), "{body}");
                } else {
                    assert!(!has_reserve);
                    is_full_answer(status, &answer);
                }
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
                let (status, answer) = try_to_complete(&mut line_to(&daemon), one);
                if status != 200 {
                    is_full_answer(status, &answer);
                }
                (status == 200).then_some(())
            });
        }
        let done: BTreeSet<String> = held.into_iter().map(|(id, _)| id).collect();
        let left: BTreeSet<String> = there.difference(&done).cloned().collect();
        daemon.crash_and_restart();
        let found = ids(&daemon);
        assert_eq!(found, left);
        assert!(daemon.stop().success());
    }
}
