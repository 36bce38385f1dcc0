//! A task's own file that somebody renames: while the daemon writes it, right before the task is completed, or after the task
//! had been dead; and a bad file that is away while it is judged. Nobody looks through the directory but where a test asks for it.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use serde_json::json;

use super::{complete, files_in, gone::settings, looked_through, rejected, serves_on, work_off};
use crate::common::{
    Daemon, Way,
    account::{all, id_of},
    names, until,
};

fn start(text: &str) -> Daemon {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let extra = settings(&scratch, &format!("rescan_every = \"0s\"\n{text}"));
    let way = Way {
        extra,
        ..Way::default()
    };
    Daemon::start_so(scratch, way)
}

/// The name of a task's file in the task directory.
fn file_of(daemon: &Daemon, id: &str) -> String {
    until("a file", || {
        let names = names(&daemon.tasks()).into_iter();
        let mut own = names.filter(|name| id_of(name).as_deref() == Some(id));
        own.next()
    })
}

#[test]
fn a_file_that_is_renamed_right_before_its_task_is_completed_makes_no_task() {
    const TASKS: usize = 60;
    let mut daemon = start("spool_delay = \"0s\"\n");
    for number in 0..TASKS {
        daemon.submit(&json!({"payload": format!("{number}")}).to_string());
    }
    daemon.until_files_are_written();
    let aside = daemon.tasks().join("other");
    fs::create_dir(&aside).expect("a folder");
    let tasks = daemon.claim("default", TASKS as u32);
    assert_eq!(tasks.len(), TASKS);
    for (number, task) in tasks.iter().enumerate() {
        let name = file_of(&daemon, task["id"].as_str().expect("an id"));
        let to = match number % 3 {
            0 => daemon.tasks().join(format!("renamed-{number}.json")),
            // As if it were of another priority.
            1 => daemon
                .tasks()
                .join(name.replacen("_00000100_", "_00000007_", 1)),
            _ => aside.join(&name),
        };
        fs::rename(daemon.tasks().join(name), to).expect("renamed");
        complete(&daemon, task);
    }
    looked_through(&daemon);
    assert_eq!(all(&daemon).len(), 0, "{}", daemon.logged());
    // Those that the daemon wrote anew while workers held their tasks are removed a little later.
    until("no file to be left", || {
        let left = [daemon.tasks(), aside.clone()].map(|folder| files_in(&folder).len());
        (left == [0, 0]).then_some(())
    });
    for (name, (moved, why)) in rejected(&daemon) {
        // Seen before the completion, one of another priority or queue is not what the task is.
        let is_told = why.contains("has just ended") || why.contains("other content");
        assert!(moved && is_told, "{name}: {why}");
    }
    serves_on(&daemon);
    assert!(daemon.stop().success());
}

/// Where nobody looked for the files of done tasks before a stop or a crash, the next life knows that they may be elsewhere.
#[test]
fn files_that_were_out_of_the_directory_over_a_restart_make_no_tasks_of_what_was_done() {
    const TASKS: usize = 30;
    for (how, checkpoint) in [("stop", false), ("kill", false), ("kill", true)] {
        let mut daemon = start("spool_delay = \"0s\"\n");
        for number in 0..TASKS {
            daemon.submit(&json!({"payload": format!("{number}")}).to_string());
        }
        daemon.until_files_are_written();
        if checkpoint {
            // The journal's tail tells of nothing but their ends.
            assert_eq!(daemon.admin("POST", "/checkpoint", "").0, 200);
        }
        let (out, other) = (
            daemon.scratch.path().join("elsewhere"),
            daemon.tasks().join("other"),
        );
        fs::create_dir(&out).expect("a folder outside");
        fs::create_dir(&other).expect("a folder");
        for task in daemon.claim("default", TASKS as u32) {
            let name = file_of(&daemon, task["id"].as_str().expect("an id"));
            fs::rename(daemon.tasks().join(&name), out.join(&name)).expect("moved out");
            complete(&daemon, &task);
        }
        if how == "stop" {
            assert!(daemon.stop().success());
        } else {
            daemon.kill();
        }
        daemon.restart();
        let mut moved = Vec::new();
        for (number, name) in names(&out).iter().enumerate() {
            let (to, new) = match number % 3 {
                0 => (daemon.tasks(), name.clone()),
                1 => (other.clone(), name.clone()),
                _ => (other.clone(), format!("back-{number}.json")),
            };
            fs::rename(out.join(name), to.join(&new)).expect("moved back");
            if to == other {
                moved.push(new);
            }
        }
        looked_through(&daemon);
        assert_eq!(all(&daemon).len(), 0, "{how}: {}", daemon.logged());
        until("no file to be left", || {
            let left = [daemon.tasks(), other.clone()].map(|folder| files_in(&folder).len());
            (left == [0, 0]).then_some(())
        });
        // One that is back at its own place before the new life has removed it there is removed as what it is.
        until("the others to be rejected", || {
            let rejected = rejected(&daemon);
            let mut moved = moved.iter();
            moved.all(|name| rejected.contains_key(name)).then_some(())
        });
        serves_on(&daemon);
        assert!(daemon.stop().success());
    }
}

/// The names of tasks' files are the daemon's to give. Whoever takes one when its task has just ended, or before its file was written,
/// finds the file in `rejected/`.
#[test]
fn files_that_take_the_names_of_tasks_files_are_told_of() {
    const TASKS: usize = 40;
    let mut daemon = start("spool_delay = \"5s\"\n");
    let aside = daemon.scratch.path().join("new");
    let drop_after = |before: SystemTime, place: PathBuf, payload: &str| {
        until("a file of a later time", || {
            fs::write(&aside, json!({ "payload": payload }).to_string()).expect("a file");
            let written = fs::metadata(&aside).and_then(|meta| meta.modified());
            (written.expect("its time") > before).then_some(())
        });
        fs::rename(&aside, place).expect("moved in");
    };
    // The kernel's clock of files has ticks of some milliseconds.
    let drop_at = |place: PathBuf, payload: &str| {
        drop_after(SystemTime::now() + Duration::from_millis(2), place, payload);
    };
    for number in 0..TASKS {
        daemon.submit(&json!({"payload": format!("{number}")}).to_string());
    }
    daemon.until_files_are_written();
    let names = names(&daemon.tasks());
    assert_eq!(names.len(), TASKS);
    for task in daemon.claim("default", TASKS as u32) {
        let name = file_of(&daemon, task["id"].as_str().expect("an id"));
        complete(&daemon, &task);
        drop_at(daemon.tasks().join(name), "after the end");
    }
    until("all to be rejected", || {
        let rejected = rejected(&daemon);
        let is_there = |name: &String| rejected.contains_key(name);
        names.iter().all(is_there).then_some(())
    });
    for (number, name) in names.iter().enumerate() {
        let kept = daemon.data().join("rejected").join(name);
        let text = fs::read_to_string(kept).expect("the file");
        assert!(text.contains("after the end"), "{number}: {text}");
    }
    // While the daemon was down, when no file can be on its way any more.
    let later = SystemTime::now() + Duration::from_secs(11);
    for ended in [&names[0], &names[1]] {
        assert!(daemon.stop().success());
        drop_after(later, daemon.tasks().join(ended), "while it was down");
        daemon.restart();
        until("one more to be rejected", || {
            let numbered = ended.replace(".json", "-1.json");
            rejected(&daemon).contains_key(&numbered).then_some(())
        });
    }
    // Before its file was written: who submits by HTTP may say the id.
    let id = "01a20faf-c61d-73d4-bb75-e529343f9307";
    daemon.submit(&json!({"id": id, "payload": "mine"}).to_string());
    let name = format!("1970-01-01T00:00:00_00000100_{id}.json");
    drop_at(daemon.tasks().join(&name), "before it was written");
    until("it to be rejected", || {
        rejected(&daemon).contains_key(&name).then_some(())
    });
    let tasks = daemon.claim("default", 10);
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    assert_eq!(tasks[0]["payload"], "mine");
    complete(&daemon, &tasks[0]);
    looked_through(&daemon);
    assert_eq!(all(&daemon).len(), 0, "{}", daemon.logged());
    serves_on(&daemon);
    assert!(daemon.stop().success());
}

/// A worker held its task, so the daemon wrote the file once more before it was killed.
#[test]
fn a_file_that_was_moved_from_under_a_worker_before_a_crash_makes_no_task_after_it() {
    let mut daemon = start("spool_delay = \"0s\"\n");
    let id = daemon.submit(r#"{"payload": 1}"#);
    let name = file_of(&daemon, &id);
    let task = daemon.claim("default", 1).remove(0);
    let out = daemon.scratch.path().join("moved");
    fs::rename(daemon.tasks().join(name), &out).expect("moved out");
    file_of(&daemon, &id);
    daemon.kill();
    daemon.restart();
    complete(&daemon, &task);
    fs::rename(&out, daemon.tasks().join("back.json")).expect("moved back");
    looked_through(&daemon);
    assert_eq!(all(&daemon).len(), 0, "{}", daemon.logged());
    assert_eq!(rejected(&daemon).len(), 1);
    serves_on(&daemon);
    assert!(daemon.stop().success());
}

/// A start writes the files of the journal's tail once more. What is moved before that has a second file from then on.
#[test]
fn files_that_are_moved_right_after_a_start_make_no_tasks_of_what_was_done() {
    const TASKS: usize = 300;
    let mut daemon = start("");
    for number in 0..TASKS {
        daemon.submit(&json!({"payload": format!("{number}")}).to_string());
    }
    daemon.until_files_are_written();
    let other = daemon.tasks().join("other");
    fs::create_dir(&other).expect("a folder");
    let mut tasks = Vec::new();
    while tasks.len() < TASKS {
        tasks.extend(daemon.claim("default", 100));
    }
    daemon.kill();
    daemon.restart();
    for task in &tasks {
        let id = task["id"].as_str().expect("an id");
        let names = names(&daemon.tasks()).into_iter();
        // One may be just being written.
        for name in names.filter(|name| id_of(name).as_deref() == Some(id)) {
            let to = other.join(name.replacen("_00000100_", "_00000388_", 1));
            drop(fs::rename(daemon.tasks().join(&name), to));
        }
        complete(&daemon, task);
    }
    looked_through(&daemon);
    assert_eq!(all(&daemon).len(), 0, "{}", daemon.logged());
    serves_on(&daemon);
    assert!(daemon.stop().success());
}

#[test]
fn files_that_are_moved_as_they_appear_are_tasks_where_they_are() {
    const TASKS: usize = 400;
    let mut daemon = start("spool_delay = \"0s\"\n");
    let other = daemon.tasks().join("other");
    fs::create_dir(&other).expect("a folder");
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                for name in names(&daemon.tasks()) {
                    // It may be gone, or a temporary one that is being renamed.
                    if id_of(&name).is_some() {
                        drop(fs::rename(daemon.tasks().join(&name), other.join(&name)));
                    }
                }
            }
        });
        let list: Vec<_> = (0..TASKS)
            .map(|number| json!({"payload": format!("{number}")}))
            .collect();
        let (status, answer) = daemon.post("/api/v1/tasks", &json!(list).to_string());
        assert_eq!(status, 201, "{answer}");
        until("some to be moved", || {
            (names(&other).len() > TASKS / 10).then_some(())
        });
        ends.store(true, Ordering::Relaxed);
    });
    // By what the kernel told alone: each file is that of a task in the queue of its folder, and each task has one.
    until("each file to be a task's", || {
        let tasks: BTreeSet<(String, String)> = all(&daemon)
            .into_iter()
            .map(|(id, task)| (id, task["queue"].as_str().expect("a queue").to_owned()))
            .collect();
        let folders = [(daemon.tasks(), "default"), (other.clone(), "other")];
        let files = folders.into_iter().flat_map(|(folder, queue)| {
            let ids = names(&folder).into_iter().filter_map(|name| id_of(&name));
            ids.map(move |id| (id, queue.to_owned()))
        });
        (files.collect::<BTreeSet<_>>() == tasks).then_some(())
    });
    let left = all(&daemon).len();
    let kept = rejected(&daemon).len();
    assert!(
        left + kept >= TASKS,
        "{left} tasks, {kept} rejected\n{}",
        daemon.logged()
    );
    let mut done = work_off(&daemon, "default", 0);
    for (payload, times) in work_off(&daemon, "other", 0) {
        *done.entry(payload).or_default() += times;
    }
    looked_through(&daemon);
    assert_eq!(all(&daemon).len(), 0);
    assert!(done.values().all(|times| *times == 1), "{done:?}");
    assert_eq!(done.len(), left);
    assert!(daemon.stop().success());
}

#[test]
fn the_removal_of_the_file_of_a_task_that_had_been_dead_cancels_it() {
    let mut daemon = start("spool_delay = \"0s\"\n");
    let id = daemon.submit(&json!({"payload": 1, "max_attempts": 1}).to_string());
    file_of(&daemon, &id);
    let task = daemon.claim("default", 1).remove(0);
    let body = json!({"token": task["token"], "error": "no"}).to_string();
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/fail"), &body);
    assert_eq!(status, 200, "{answer}");
    daemon.until_files_are_written();
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/retry"), "");
    assert_eq!(status, 200, "{answer}");
    let name = file_of(&daemon, &id);
    daemon.until_files_are_written();
    fs::remove_file(daemon.tasks().join(name)).expect("removed");
    until("the task to be cancelled", || {
        (daemon.get(&format!("/api/v1/tasks/{id}")).0 == 404).then_some(())
    });
    assert!(daemon.stop().success());
}

#[test]
fn bad_files_that_are_away_while_they_are_judged_are_rejected_in_the_end() {
    const FILES: usize = 200;
    let mut daemon = start("");
    let path = |number: usize, end: &str| -> PathBuf {
        daemon.tasks().join(format!("bad-{number}.{end}"))
    };
    for number in 0..FILES {
        fs::write(path(number, "tmp"), "no task").expect("a file");
    }
    for number in 0..FILES {
        fs::rename(path(number, "tmp"), path(number, "json")).expect("dropped");
        // Away and back, as long as the daemon lets it.
        for _ in 0..number % 8 {
            if fs::rename(path(number, "json"), path(number, "tmp")).is_ok() {
                fs::rename(path(number, "tmp"), path(number, "json")).expect("back");
            }
        }
    }
    daemon.until_rejected(FILES);
    assert_eq!(files_in(&daemon.tasks()).len(), 0);
    serves_on(&daemon);
    assert!(daemon.stop().success());
}
