//! Files that change while they are looked at: replaced, cut, renamed, given the id of another.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;

use super::{aside, files_in, looked_through, ready, rejected, serves_on, task, work_off};
use crate::{
    common::{
        Daemon, PATIENCE,
        account::{Chance, all, seed},
        mount::say,
        until,
    },
    limits::with,
};

const QUICK: &[&str] = &["--log-level", "warn"];

/// Puts a file of this content at a name, whatever is there.
fn put(daemon: &Daemon, name: &str, content: &str) {
    fs::rename(aside(daemon, name, content), daemon.tasks().join(name)).expect("dropped");
}

#[test]
fn a_path_that_turns_from_file_to_link_to_pipe_never_shows_what_is_behind_it() {
    const ROUNDS: usize = 300;
    let daemon = Daemon::start(QUICK);
    let secret = aside(&daemon, "secret", task("secret"));
    for number in 0..ROUNDS {
        let name = format!("{}.json", number % 7);
        let at = daemon.tasks().join(&name);
        put(&daemon, &name, &task(&number.to_string()));
        let other = daemon.scratch.path().join("other");
        match number % 3 {
            0 => symlink(&secret, &other).expect("a link"),
            1 => mkfifoat(CWD, &other, Mode::RUSR | Mode::WUSR).expect("a FIFO"),
            _ => fs::hard_link(&secret, &other).expect("a hard link"),
        }
        // Renaming one hard link over another of the same file does nothing.
        fs::rename(&other, &at).expect("replaced");
        fs::remove_file(&other).unwrap_or_default();
        put(&daemon, &name, &task(&format!("last {number}")));
    }
    looked_through(&daemon);
    let payloads = work_off(&daemon, "default", 7);
    assert_eq!(payloads.get("secret"), None);
    assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
    for number in ROUNDS - 7..ROUNDS {
        assert!(payloads.contains_key(&format!("last {number}")), "{number}");
    }
    assert_eq!(
        fs::read_to_string(secret).expect("it is there"),
        task("secret")
    );
    serves_on(&daemon);
}

#[test]
fn a_good_file_over_a_bad_one_is_taken_and_not_rejected_in_its_stead() {
    const FILES: usize = 400;
    let daemon = Daemon::start(QUICK);
    for number in 0..FILES {
        let name = format!("{number}.json");
        put(&daemon, &name, "bad");
        put(&daemon, &name, &task(&number.to_string()));
    }
    looked_through(&daemon);
    let wrong: Vec<_> = files_in(&daemon.data().join("rejected"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .filter(|path| fs::read_to_string(path).expect("its text") != "bad")
        .collect();
    assert!(wrong.is_empty(), "good files in rejected/: {wrong:?}");
    let payloads = work_off(&daemon, "default", FILES);
    assert_eq!(payloads.len(), FILES);
    assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
    serves_on(&daemon);
}

/// What became of a file that was cut while it was read.
#[derive(Debug, Default)]
struct Fate {
    /// How often it was handed out as a task.
    taken: u32,
    /// Its names in `rejected/`.
    rejected: Vec<String>,
}

#[test]
fn a_file_that_is_cut_or_grows_while_it_is_read_is_judged_by_what_it_is_in_the_end() {
    const FILES: usize = 40;
    const SIZE: usize = 300_000;
    let daemon = Daemon::start(QUICK);
    let stop = AtomicBool::new(false);
    // Each of another content, so that one that is taken twice is not taken for two.
    let payload = |number: usize| format!("{number:02}{}", "x".repeat(SIZE));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut chance = Chance(1);
            while !stop.load(Ordering::Relaxed) {
                let number = chance.below(FILES as u64);
                let path = daemon.tasks().join(format!("{number:02}.json"));
                // It may have been taken: then there is nothing to cut.
                if let Ok(file) = fs::File::options().write(true).open(&path) {
                    file.set_len(chance.below(SIZE as u64)).expect("cut");
                }
                thread::yield_now();
            }
        });
        for number in 0..FILES {
            put(
                &daemon,
                &format!("{number:02}.json"),
                &task(&payload(number)),
            );
        }
        until("all to be judged", || {
            files_in(&daemon.tasks())
                .iter()
                .all(|path| {
                    let name = path.file_name().expect("a name").to_string_lossy();
                    name.len() > 20
                })
                .then_some(())
        });
        stop.store(true, Ordering::Relaxed);
    });
    looked_through(&daemon);
    let mut fates: Vec<Fate> = (0..FILES).map(|_| Fate::default()).collect();
    for (name, (moved, reason)) in rejected(&daemon) {
        let number = name
            .get(..2)
            .and_then(|number| number.parse::<usize>().ok());
        let number = number.unwrap_or_else(|| panic!("{name} was nobody's name"));
        assert!(moved && !reason.is_empty(), "{name}: {moved}, {reason:?}");
        let kept = fs::read(daemon.data().join("rejected").join(&name)).expect("the file");
        assert_ne!(kept, task(&payload(number)).as_bytes(), "{name} is good");
        fates[number].rejected.push(name);
    }
    for (payload_of, count) in work_off(&daemon, "default", 0) {
        let number = payload_of.get(..2).and_then(|number| number.parse().ok());
        let number: usize = number.unwrap_or_else(|| panic!("{payload_of:.20} is no payload"));
        assert!(payload_of == payload(number), "half of {number} is a task");
        fates[number].taken += count;
    }
    let (mut taken, mut bad, mut both) = (0, 0, 0);
    for (number, fate) in fates.iter().enumerate() {
        // A file that was taken whole and cut then is a bad one, too.
        assert!(
            fate.taken <= 1 && fate.rejected.len() <= 1,
            "{number} has ended twice: {fate:?}"
        );
        match (fate.taken, fate.rejected.len()) {
            (0, 0) => panic!("{number} is lost"),
            (1, 0) => taken += 1,
            (0, _) => bad += 1,
            _ => both += 1,
        }
    }
    say(&format!("{taken} taken, {bad} rejected, {both} both"));
    assert!(all(&daemon).is_empty());
    serves_on(&daemon);
}

#[test]
fn a_file_written_slowly_in_place_is_taken_once_and_whole() {
    let whole = task(&"y".repeat(10_000));
    // A file that has not changed for 2 s is taken for whole: where a busy machine makes such a pause, this begins again.
    let written = (0..10).find_map(|_| {
        let daemon = Daemon::start(QUICK);
        let mut file = fs::File::create(daemon.tasks().join("slow.json")).expect("a file");
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        for part in whole.as_bytes().chunks(1000) {
            let before = std::mem::replace(&mut last, Instant::now());
            file.write_all(part).expect("a part");
            longest = longest.max(before.elapsed());
            let (status, answer) = daemon.admin("POST", "/rescan", "");
            assert!(status < 300, "{answer}");
        }
        let (ready, rejected) = (ready(&daemon, "default"), rejected(&daemon));
        longest = longest.max(last.elapsed());
        if longest >= Duration::from_secs(1) {
            return None;
        }
        assert_eq!(ready, 0);
        assert!(rejected.is_empty(), "{rejected:?}");
        Some(daemon)
    });
    let daemon = written.expect("a file that is written without a pause");
    assert_eq!(work_off(&daemon, "default", 1)[&"y".repeat(10_000)], 1);
    serves_on(&daemon);
}

#[test]
fn the_same_id_again_is_one_task_and_with_other_content_is_rejected() {
    let daemon = Daemon::start(QUICK);
    let id = "0198c0de-0000-7000-8000-000000000001";
    let body = |payload: &str| json!({"id": id, "payload": payload, "delay": 3600}).to_string();
    put(&daemon, "first.json", &body("first"));
    until("the first to be taken", || {
        (daemon.get(&format!("/api/v1/tasks/{id}")).0 == 200).then_some(())
    });
    put(
        &daemon,
        "again.json",
        &json!({"id": id, "payload": "first"}).to_string(),
    );
    put(&daemon, "other.json", &body("other"));
    let name = format!("1970-01-01T00:00:00_00000100_{id}.json");
    fs::create_dir(daemon.tasks().join("emails")).expect("a queue");
    put(&daemon, "named.json", "bad");
    fs::rename(
        aside(&daemon, "canonical", task("third")),
        daemon.tasks().join("emails").join(&name),
    )
    .expect("dropped");
    let list = until("all but the first to be rejected", || {
        looked_through(&daemon);
        let list = rejected(&daemon);
        (list.len() >= 3).then_some(list)
    });
    for wrong in ["other.json", &name] {
        let (moved, reason) = &list[wrong];
        assert!(*moved && reason.contains(id), "{reason}");
    }
    let (_, task) = daemon.get(&format!("/api/v1/tasks/{id}"));
    assert_eq!(
        (&task["payload"], &task["queue"]),
        (&json!("first"), &json!("default"))
    );
    until("what is not needed to be gone", || {
        (files_in(&daemon.tasks()).len() == 1).then_some(())
    });
    serves_on(&daemon);
}

#[test]
fn in_a_storm_of_renames_each_file_is_taken_once() {
    const FILES: u64 = 200;
    let daemon = Daemon::start(QUICK);
    let mut chance = Chance(seed("the storm of renames"));
    fs::create_dir(daemon.tasks().join("emails")).expect("a queue");
    let name = |number: u64| match number % 4 {
        0 => format!("{number}.json"),
        1 => format!(".{number}.json"),
        2 => format!("{number}.part"),
        _ => format!("{number}.x.json"),
    };
    let content = |number: u64| {
        let id = format!("0198c0de-0000-7000-8000-{number:012}");
        json!({"payload": number.to_string(), "id": id}).to_string()
    };
    for number in 0..FILES {
        let path = aside(&daemon, &format!("storm-{number}"), content(number));
        let mut at = path;
        for _ in 0..chance.below(20) {
            let to = daemon.tasks().join(name(number * 4 + chance.below(4)));
            // Taken already, under the name that it has: its file is no more.
            match fs::rename(&at, &to) {
                Ok(()) => at = to,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                    break;
                }
            }
        }
        let last = daemon.tasks().join(format!("end-{number}.json"));
        fs::rename(&at, last).unwrap_or_default();
    }
    looked_through(&daemon);
    let payloads = work_off(&daemon, "default", FILES as usize);
    assert_eq!(payloads.len(), FILES as usize);
    assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
    assert!(rejected(&daemon).is_empty());
    serves_on(&daemon);
}

/// Many files by one name, each over the one before: those that are overwritten may be lost, the last never.
#[test]
fn the_last_of_many_files_by_one_name_is_taken() {
    const ROUNDS: u32 = 20;
    let daemon = Daemon::start(QUICK);
    let mut lost = Vec::new();
    for round in 0..ROUNDS {
        for number in 0..100 {
            put(&daemon, "same.json", &task(&format!("{round}-{number}")));
        }
        looked_through(&daemon);
        let payloads = work_off(&daemon, "default", 0);
        assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
        if !payloads.contains_key(&format!("{round}-99")) {
            lost.push(round);
        }
    }
    assert!(lost.is_empty(), "the last of rounds {lost:?}");
    serves_on(&daemon);
}

/// Without an id, a file is only known by what it is: names that change while it is taken and removed make no second task.
#[test]
fn a_file_without_an_id_whose_name_changes_all_the_time_is_one_task() {
    const FILES: usize = 40;
    let daemon = with("spool_delay = \"300ms\"\n");
    fs::create_dir(daemon.tasks().join("emails")).expect("a queue");
    let names: Vec<PathBuf> = ["a.json", "emails/b.json", "c.txt.json", "emails/d.json"]
        .into_iter()
        .map(|name| daemon.tasks().join(name))
        .collect();
    for number in 0..FILES {
        let mut at = aside(&daemon, "storm", task(&number.to_string()));
        let begun = Instant::now();
        for to in names.iter().cycle() {
            assert!(begun.elapsed() < PATIENCE, "it is never removed");
            match fs::rename(&at, to) {
                Ok(()) => at.clone_from(to),
                // Removed under the name that it had.
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                    break;
                }
            }
            thread::yield_now();
        }
    }
    looked_through(&daemon);
    let mut payloads = work_off(&daemon, "default", 0);
    for (payload, count) in work_off(&daemon, "emails", 0) {
        *payloads.entry(payload).or_default() += count;
    }
    assert_eq!(payloads.len(), FILES);
    assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
    serves_on(&daemon);
}

/// Sets when a file was last written, as whoever copies or unpacks it does when all is written.
fn set_time(path: &Path, at: SystemTime) {
    let file = fs::File::open(path).expect("it is there still");
    file.set_modified(at).expect("its time");
}

/// `cp -p`, `unzip` and `tar` set a file's times after they have closed it. It is taken by then.
#[test]
fn a_file_whose_times_are_set_after_it_was_taken_is_one_task() {
    const FILES: usize = 60;
    let daemon = with("spool_delay = \"10s\"\n");
    let path = |number: usize| daemon.tasks().join(format!("{number}.json"));
    for number in 0..FILES {
        fs::write(path(number), task(&number.to_string())).expect("dropped");
    }
    until("all are taken", || {
        (ready(&daemon, "default") == FILES as u64).then_some(())
    });
    let mut payloads = work_off(&daemon, "default", FILES / 2);
    for number in 0..FILES {
        set_time(
            &path(number),
            UNIX_EPOCH + Duration::from_secs(number as u64),
        );
    }
    until("all are removed", || {
        (0..FILES)
            .all(|number| !path(number).exists())
            .then_some(())
    });
    looked_through(&daemon);
    for (payload, count) in work_off(&daemon, "default", 0) {
        *payloads.entry(payload).or_default() += count;
    }
    assert_eq!(payloads.len(), FILES);
    assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
    serves_on(&daemon);
}

#[test]
fn a_file_that_is_written_anew_after_it_was_taken_is_another_task_whatever_its_time() {
    let daemon = with("spool_delay = \"10s\"\n");
    let path = daemon.tasks().join("a.json");
    fs::write(&path, task("one")).expect("dropped");
    assert_eq!(work_off(&daemon, "default", 1)["one"], 1);
    let mut file = fs::File::options()
        .write(true)
        .open(&path)
        .expect("it is there still");
    file.write_all(task("two").as_bytes())
        .expect("as long as before");
    file.set_modified(UNIX_EPOCH).expect("its time");
    drop(file);
    assert_eq!(work_off(&daemon, "default", 1)["two"], 1);
    until("it is removed", || (!path.exists()).then_some(()));
    serves_on(&daemon);
}

/// Only the journal knows of a file that a former life took: by what it is, not by its name.
#[test]
fn a_taken_file_that_is_renamed_while_no_daemon_runs_is_no_second_task() {
    const FILES: usize = 20;
    let mut daemon = with("spool_delay = \"60s\"\n");
    let path = |daemon: &Daemon, name: &str| daemon.tasks().join(name);
    for number in 0..FILES {
        put(
            &daemon,
            &format!("{number}.json"),
            &task(&number.to_string()),
        );
    }
    until("all are taken", || {
        (ready(&daemon, "default") == FILES as u64).then_some(())
    });
    let body = json!({"queues": ["default"], "max": FILES / 2}).to_string();
    let (_, claimed) = daemon.post("/api/v1/claim", &body);
    for task in claimed["tasks"].as_array().expect("tasks") {
        super::complete(&daemon, task);
    }
    daemon.kill();
    fs::create_dir(path(&daemon, "emails")).expect("a queue");
    for number in 0..FILES {
        let to = ["b", "emails/b"][number % 2];
        let to = path(&daemon, &format!("{to}{number}.json"));
        fs::rename(path(&daemon, &format!("{number}.json")), to).expect("renamed");
    }
    put(&daemon, "other.json", &task("other"));
    daemon.restart();
    looked_through(&daemon);
    let payloads = work_off(&daemon, "default", FILES / 2 + 1);
    assert_eq!(payloads.len(), FILES / 2 + 1, "{payloads:?}");
    assert_eq!(payloads["other"], 1);
    assert_eq!(work_off(&daemon, "emails", 0), BTreeMap::new());
    serves_on(&daemon);
}

/// Whoever moves a task's file to another queue's folder means that queue. A task that a worker holds, or has just completed,
/// does not come again by that.
#[test]
fn files_of_tasks_that_are_moved_between_queues_while_workers_take_them_make_no_task_twice() {
    const TASKS: usize = 600;
    let daemon = with("spool_delay = \"50ms\"\n");
    let folders = ["a", "b"].map(|queue| daemon.tasks().join(queue));
    let mut chance = Chance(seed("tasks' files that are moved"));
    let over = AtomicBool::new(false);
    let mut done: BTreeMap<String, u32> = BTreeMap::new();
    thread::scope(|scope| {
        let (folders, over) = (&folders, &over);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                for (from, to) in [(0, 1), (1, 0)] {
                    for file in files_in(&folders[from]) {
                        let name = file.file_name().expect("a name");
                        let hidden = name.as_encoded_bytes().starts_with(b".");
                        if !hidden && chance.below(4) == 0 {
                            // Gone with its task, or no folder yet.
                            fs::rename(&file, folders[to].join(name)).unwrap_or_default();
                        }
                    }
                }
                thread::yield_now();
            }
        });
        for number in 0..TASKS {
            let queue = ["a", "b"][number % 2];
            daemon.submit(&json!({"payload": number.to_string(), "queue": queue}).to_string());
            if number % 10 == 0 {
                for queue in ["a", "b"] {
                    for (payload, count) in work_off(&daemon, queue, 0) {
                        *done.entry(payload).or_default() += count;
                    }
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    looked_through(&daemon);
    until("nothing is left", || {
        for queue in ["a", "b"] {
            for (payload, count) in work_off(&daemon, queue, 0) {
                *done.entry(payload).or_default() += count;
            }
        }
        let left = files_in(&folders[0]).len() + files_in(&folders[1]).len();
        (left == 0 && all(&daemon).is_empty()).then_some(())
    });
    let again: Vec<_> = done.iter().filter(|(_, count)| **count > 1).collect();
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(done.len(), TASKS, "{:?}", rejected(&daemon));
    serves_on(&daemon);
}

/// As a backup of the directory that is put back into the wrong place.
#[test]
fn copies_of_tasks_files_in_another_folder_are_each_rejected_and_the_tasks_stay() {
    const TASKS: usize = 300;
    let daemon = with("spool_delay = \"0s\"\n");
    for number in 0..TASKS {
        daemon.submit(&json!({"payload": number, "delay": 3600}).to_string());
    }
    until("their files are there", || {
        (files_in(&daemon.tasks()).len() == TASKS).then_some(())
    });
    let copies = daemon.scratch.path().join("copies");
    fs::create_dir(&copies).expect("a folder");
    for file in files_in(&daemon.tasks()) {
        fs::copy(&file, copies.join(file.file_name().expect("a name"))).expect("a copy");
    }
    fs::rename(&copies, daemon.tasks().join("copies")).expect("moved in");
    until("all are rejected", || {
        let (_, view) = daemon.admin("GET", "/status", "");
        (view["rejected"] == TASKS).then_some(())
    });
    assert_eq!(all(&daemon).len(), TASKS);
    assert_eq!(files_in(&daemon.tasks()).len(), TASKS);
    serves_on(&daemon);
}

#[test]
fn another_file_with_the_id_of_a_task_that_was_just_completed_is_a_task() {
    let daemon = with("spool_delay = \"1s\"\n");
    let id = "0198c0de-0000-7000-8000-000000000001";
    let body = |payload: &str| json!({"id": id, "payload": payload}).to_string();
    let (one, two) = (
        aside(&daemon, "one", body("one")),
        aside(&daemon, "two", body("two")),
    );
    fs::rename(one, daemon.tasks().join("a.json")).expect("dropped");
    assert_eq!(work_off(&daemon, "default", 1)["one"], 1);
    fs::rename(two, daemon.tasks().join("a.json")).expect("dropped");
    assert_eq!(work_off(&daemon, "default", 1)["two"], 1);
    assert!(rejected(&daemon).is_empty());
    serves_on(&daemon);
}

#[test]
fn the_file_of_a_dead_task_that_is_moved_back_is_a_task_again() {
    let daemon = with("spool_delay = \"0s\"\n");
    let id = daemon.submit(r#"{"payload": "again", "max_attempts": 1}"#);
    let token = daemon.claim("default", 1).remove(0)["token"].clone();
    let body = json!({"token": token, "error": "no"}).to_string();
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/fail"), &body);
    assert_eq!(status, 200, "{answer}");
    let dead = daemon.data().join("dead");
    let file = until("its file is in its place", || {
        let (_, view) = daemon.admin("GET", "/status", "");
        let file = files_in(&dead).pop();
        file.filter(|_| view["spool_pending"] == 0)
    });
    let name = file.file_name().expect("a name").to_owned();
    fs::rename(&file, daemon.tasks().join(name)).expect("moved back");
    assert_eq!(work_off(&daemon, "default", 1)["again"], 1);
    until("nothing is left", || all(&daemon).is_empty().then_some(()));
    assert!(files_in(&dead).is_empty() && rejected(&daemon).is_empty());
    serves_on(&daemon);
}

/// What is wrong with a task's own file is found when its payload is read, for the claim that is to get it.
#[test]
fn a_claim_that_meets_a_spoilt_file_is_answered_without_a_wait() {
    let daemon = with("payload_cache = \"0B\"\nspool_delay = \"0s\"\n");
    let id = daemon.submit(r#"{"payload": "x", "queue": "one"}"#);
    daemon.checkpoint();
    let files = files_in(&daemon.tasks().join("one"));
    assert_eq!(files.len(), 1);
    fs::write(&files[0], "garbage").expect("spoilt");
    let asked = Instant::now();
    let (status, answer) = daemon.post("/api/v1/claim", r#"{"queues": ["one"]}"#);
    assert_eq!((status, &answer["tasks"]), (200, &json!([])), "{answer}");
    // A payload that does not come is waited for half a minute.
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(daemon.get(&format!("/api/v1/tasks/{id}")).0, 404);
    serves_on(&daemon);
}
