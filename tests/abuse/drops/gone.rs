//! What the watcher needs goes away: the directory, the mount it lies on, room on the disk, the kernel's watches.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    aside, complete, files_in, looked_through, move_files, ready, rejected, serves_on, task,
    work_off,
};
use crate::common::{
    Daemon, Way,
    account::all,
    mount::{Mount, may_mount, skip},
    until,
};
use crate::soak::exchange;

pub(super) fn settings(scratch: &tempfile::TempDir, text: &str) -> Vec<String> {
    let file = scratch.path().join("settings.toml");
    fs::write(&file, text).expect("settings");
    let file = file.display().to_string();
    ["--log-level", "warn", "--config", &file]
        .map(str::to_owned)
        .into()
}

/// A daemon with these settings, started through other programs.
pub(super) fn under(programs: &[&str], text: &str) -> Daemon {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let way = Way {
        extra: settings(&scratch, text),
        under: programs.iter().map(ToString::to_string).collect(),
        ..Way::default()
    };
    Daemon::start_so(scratch, way)
}

fn put(daemon: &Daemon, name: &str, content: &str) {
    fs::rename(aside(daemon, "aside", content), daemon.tasks().join(name)).expect("dropped");
}

#[test]
fn a_task_directory_removed_with_all_that_is_in_it_and_made_again_is_served() {
    let daemon = under(&[], "spool_delay = \"0s\"\n");
    for round in 0..5 {
        for number in 0..20 {
            put(
                &daemon,
                &format!("{number}.json"),
                &task(&format!("{round}-{number}")),
            );
        }
        // Files come and go while it is removed.
        until("it is removed", || {
            match fs::remove_dir_all(daemon.tasks()) {
                Ok(()) => Some(()),
                Err(error) => {
                    assert_ne!(
                        error.kind(),
                        std::io::ErrorKind::PermissionDenied,
                        "{error}"
                    );
                    None
                }
            }
        });
        // The daemon may have been quicker, with the folder of a file.
        fs::create_dir_all(daemon.tasks()).expect("made again");
        put(&daemon, "new.json", &task(&format!("new {round}")));
        looked_through(&daemon);
        // Found by a scan, it is left alone until it has settled.
        let mut payloads = BTreeMap::new();
        until("the new file to be taken", || {
            for (payload, count) in work_off(&daemon, "default", 0) {
                *payloads.entry(payload).or_insert(0) += count;
            }
            payloads.contains_key(&format!("new {round}")).then_some(())
        });
        assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
        until("nothing is left", || all(&daemon).is_empty().then_some(()));
        serves_on(&daemon);
    }
}

#[test]
fn tasks_outlive_a_task_directory_that_is_moved_away_and_their_files_come_again() {
    let daemon = under(&[], "spool_delay = \"0s\"\n");
    let mut ids = BTreeSet::new();
    for queue in ["default", "emails"] {
        for number in 0..20 {
            ids.insert(daemon.submit(&format!(r#"{{"payload": "{number}", "queue": "{queue}"}}"#)));
        }
    }
    let there = || {
        let emails = daemon.tasks().join("emails");
        files_in(&daemon.tasks()).len() + files_in(&emails).len()
    };
    until("their files are there", || (there() == 40).then_some(()));
    fs::rename(daemon.tasks(), daemon.scratch.path().join("elsewhere")).expect("moved");
    fs::create_dir(daemon.tasks()).expect("another one");
    looked_through(&daemon);
    looked_through(&daemon);
    assert_eq!(all(&daemon).into_keys().collect::<BTreeSet<_>>(), ids);
    until("their files are there again", || {
        (there() == 40).then_some(())
    });
    // A file that is taken away and put back now is still meant.
    let file = files_in(&daemon.tasks()).pop().expect("a file");
    let aside = daemon.scratch.path().join("taken-away");
    fs::rename(&file, &aside).expect("taken away");
    until("its task is cancelled", || {
        (all(&daemon).len() == 39).then_some(())
    });
    fs::rename(&aside, &file).expect("put back");
    until("it is a task again", || {
        (all(&daemon).len() == 40).then_some(())
    });
    for queue in ["default", "emails"] {
        let payloads = work_off(&daemon, queue, 20);
        assert_eq!(payloads.len(), 20);
        assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
    }
    serves_on(&daemon);
}

#[test]
fn tasks_that_were_completed_do_not_come_back_with_a_directory_that_was_away() {
    let daemon = under(&[], "spool_delay = \"0s\"\n");
    for number in 0..20 {
        daemon.submit(&format!(r#"{{"payload": {number}}}"#));
    }
    until("their files are there", || {
        (files_in(&daemon.tasks()).len() == 20).then_some(())
    });
    let away = daemon.scratch.path().join("away");
    fs::rename(daemon.tasks(), &away).expect("moved away");
    assert_eq!(work_off(&daemon, "default", 20).len(), 20);
    until("it is told that they can't be removed", || {
        let (_, view) = daemon.admin("GET", "/status", "");
        (view["spool_failing"] == 20).then_some(())
    });
    fs::rename(&away, daemon.tasks()).expect("moved back");
    until("they are removed", || {
        files_in(&daemon.tasks()).is_empty().then_some(())
    });
    looked_through(&daemon);
    assert!(all(&daemon).is_empty());
    serves_on(&daemon);
}

/// The directory that was away is there again, with the files that were made meanwhile in the other one.
fn put_back(daemon: &Daemon, away: &Path) {
    exchange(&daemon.tasks(), away);
    move_files(away, &daemon.tasks());
    fs::remove_dir_all(away).expect("removed");
}

#[test]
fn a_file_that_was_taken_before_its_directory_went_is_no_second_task_when_that_comes_back() {
    let mut daemon = under(&[], "spool_delay = \"60s\"\n");
    put(&daemon, "first.json", &task("first"));
    until("it is taken", || (all(&daemon).len() == 1).then_some(()));
    let away = daemon.scratch.path().join("away");
    fs::rename(daemon.tasks(), &away).expect("moved away");
    fs::create_dir(daemon.tasks()).expect("another one");
    settings(&daemon.scratch, "spool_delay = \"0s\"\n");
    daemon.crash_and_restart();
    daemon.until_files_are_written();
    daemon.checkpoint();
    daemon.crash_and_restart();
    put_back(&daemon, &away);
    looked_through(&daemon);
    until("what was taken is removed", || {
        (!daemon.tasks().join("first.json").exists()).then_some(())
    });
    assert_eq!(all(&daemon).len(), 1);
    assert_eq!(work_off(&daemon, "default", 1)["first"], 1);
    serves_on(&daemon);
}

/// It had another name by then: the daemon was killed before that was in a checkpoint, and starts without the directory.
#[test]
fn a_task_whose_file_was_moved_before_its_directory_went_is_found_when_that_comes_back() {
    let mut daemon = under(&[], "spool_delay = \"0s\"\n");
    // That it was tried is in no file's name: checkpoints tell of it.
    let id = daemon.submit(r#"{"payload": "first", "backoff": {"base": 3600, "max": 3600}}"#);
    let failed = daemon.claim("default", 1).remove(0);
    let body = json!({"token": failed["token"], "error": "not yet"}).to_string();
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/fail"), &body);
    assert!(status < 300, "{answer}");
    daemon.until_files_are_written();
    looked_through(&daemon);
    daemon.checkpoint();
    let path = format!("/api/v1/tasks/{id}");
    let (status, answer) = daemon.send("PATCH", &path, r#"{"priority": 5, "delay": 0}"#);
    assert_eq!(status, 200, "{answer}");
    daemon.until_files_are_written();
    daemon.kill();
    let away = daemon.scratch.path().join("away");
    fs::rename(daemon.tasks(), &away).expect("moved away");
    fs::create_dir(daemon.tasks()).expect("another one");
    daemon.restart();
    looked_through(&daemon);
    let (_, view) = daemon.admin("GET", "/status", "");
    assert_eq!(view["left_behind"], 1, "{view}");
    put_back(&daemon, &away);
    looked_through(&daemon);
    assert_eq!(work_off(&daemon, "default", 1)["first"], 1);
    serves_on(&daemon);
}

/// An editor may take a file away and put another in its place a moment later.
#[test]
fn a_file_that_comes_back_when_its_task_was_cancelled_is_that_task_again_and_not_removed() {
    let daemon = under(&[], "spool_delay = \"1s\"\n");
    let id = daemon.submit(r#"{"payload": "there and back"}"#);
    let path = until("its file is there", || files_in(&daemon.tasks()).pop());
    let aside = daemon.scratch.path().join("taken-away");
    let task = || daemon.get(&format!("/api/v1/tasks/{id}")).0;
    fs::rename(&path, &aside).expect("taken away");
    until("it is cancelled", || (task() == 404).then_some(()));
    fs::rename(&aside, &path).expect("put back");
    until("it is a task again", || (task() == 200).then_some(()));
    // The change that the cancellation left has been made by then.
    until("all files are as they should be", || {
        let (_, text) = daemon.text("/metrics");
        text.contains("workqueue_spool_pending_files 0\n")
            .then_some(())
    });
    assert_eq!(files_in(&daemon.tasks()), [path]);
    let payloads = work_off(&daemon, "default", 1);
    assert_eq!(payloads.get("there and back"), Some(&1));
    serves_on(&daemon);
}

/// Whichever of them a removal of everything was quick enough to cancel.
#[test]
fn a_task_that_outlives_the_removal_of_the_task_directory_has_its_file_again() {
    let daemon = under(&[], "spool_delay = \"0s\"\n");
    let files = || {
        let folders = ["", "a", "b"].map(|queue| daemon.tasks().join(queue));
        folders
            .map(|folder| files_in(&folder).len())
            .iter()
            .sum::<usize>()
    };
    for _ in 0..10 {
        for number in 0..60 {
            let queue = ["default", "a", "b"][number % 3];
            daemon.submit(&format!(
                r#"{{"payload": {number}, "queue": "{queue}", "delay": 3600}}"#
            ));
        }
        until("all have files", || {
            (files() == all(&daemon).len()).then_some(())
        });
        until("it is removed", || fs::remove_dir_all(daemon.tasks()).ok());
        fs::create_dir_all(daemon.tasks()).expect("made again");
        looked_through(&daemon);
        until("who is left has a file", || {
            (files() == all(&daemon).len()).then_some(())
        });
    }
    serves_on(&daemon);
}

/// The folder is moved away, and no mount: its queue has none, and those of its tasks that no worker holds are cancelled.
#[test]
fn a_task_that_was_completed_while_its_folder_was_away_does_not_come_back_with_it_after_a_crash() {
    let stop_and_restart = |daemon: &mut Daemon| {
        assert!(daemon.stop().success());
        daemon.restart();
    };
    for restarts in [Daemon::crash_and_restart, stop_and_restart] {
        let mut daemon = under(&[], "spool_delay = \"0s\"\n");
        daemon.submit(r#"{"payload": "held", "queue": "q", "lease": 3600}"#);
        daemon.until_files_are_written();
        daemon.checkpoint();
        let task = daemon.claim("q", 1).remove(0);
        let away = daemon.scratch.path().join("away");
        fs::rename(daemon.tasks().join("q"), &away).expect("moved away");
        looked_through(&daemon);
        complete(&daemon, &task);
        restarts(&mut daemon);
        looked_through(&daemon);
        fs::rename(&away, daemon.tasks().join("q")).expect("moved back");
        looked_through(&daemon);
        let (_, answer) = daemon.post("/api/v1/claim", r#"{"queues": ["q"], "wait": 1}"#);
        assert_eq!(answer["tasks"], serde_json::json!([]), "{answer}");
        assert!(all(&daemon).is_empty());
        serves_on(&daemon);
    }
}

#[test]
fn bad_files_on_a_full_disk_are_rejected_when_there_is_room() {
    const FILES: usize = 50;
    if !may_mount() {
        return skip("mounting needs root").unwrap_or_default();
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let Some(mount) = Mount::tmpfs(&scratch.path().join("data"), "8m") else {
        return;
    };
    let extra = settings(&scratch, "rescan_every = \"0s\"\n");
    let daemon = Daemon::start_so(
        scratch,
        Way {
            extra,
            ..Way::default()
        },
    );
    let aside: Vec<_> = (0..FILES)
        .map(|number| {
            let path = daemon.data().join(format!("aside-{number}"));
            fs::write(&path, "bad").expect("a file");
            path
        })
        .collect();
    let ballast = mount.fill();
    for (number, path) in aside.iter().enumerate() {
        fs::rename(path, daemon.tasks().join(format!("{number}.json"))).expect("dropped");
    }
    until("it is told", || {
        daemon
            .logged()
            .contains("can't move a file to rejected/")
            .then_some(())
    });
    let list = rejected(&daemon);
    assert!(
        list.keys().any(|name| name.starts_with("tasks/")),
        "they are shown where they are: {list:?}"
    );
    fs::remove_file(ballast).expect("room");
    let folder = daemon.data().join("rejected");
    daemon.until_rejected(FILES);
    assert_eq!(files_in(&folder).len(), 2 * FILES);
    assert!(files_in(&daemon.tasks()).is_empty());
    let list = rejected(&daemon);
    assert_eq!(list.len(), FILES);
    assert!(list.values().all(|(moved, _)| *moved), "{list:?}");
    let (_, view) = daemon.admin("GET", "/status", "");
    assert_eq!(view["rejected"], FILES, "each is counted once");
    serves_on(&daemon);
}

/// A world of its own in which a user may have so many of something of inotify's.
fn world(limit: &str) -> [String; 6] {
    let script = format!("{limit} && exec \"$@\"");
    ["unshare", "--user", "--map-root-user", "sh", "-c", &script].map(str::to_owned)
}

fn limited(limit: &str) -> Option<Daemon> {
    let args = world(limit);
    let tried = std::process::Command::new(&args[0])
        .args(&args[1..])
        .args(["sh", "true"])
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        return skip("no user namespaces here");
    }
    let mut programs: Vec<&str> = args.iter().map(String::as_str).collect();
    programs.push("sh");
    Some(under(&programs, "rescan_every = \"1s\"\n"))
}

/// What `workqueuectl status` and the pages name as troubles.
fn troubles(daemon: &Daemon) -> String {
    let (status, text) = daemon.text("/api/v1/troubles");
    assert_eq!(status, 200, "{text}");
    text
}

#[test]
fn without_watches_for_a_folder_scans_find_its_files_and_it_is_said() {
    // Two are for the data directory and the task directory.
    let Some(daemon) = limited("echo 3 > /proc/sys/user/max_inotify_watches") else {
        return;
    };
    for queue in ["a", "b", "c"] {
        fs::create_dir(daemon.tasks().join(queue)).expect("a queue");
        put(&daemon, &format!("{queue}/first.json"), &task(queue));
    }
    for queue in ["a", "b", "c"] {
        assert_eq!(work_off(&daemon, queue, 1)[queue], 1);
    }
    // What came before a folder was looked at is found with it. What comes now is only seen by a scan.
    for queue in ["a", "b", "c"] {
        put(&daemon, &format!("{queue}/second.json"), &task(queue));
        assert_eq!(work_off(&daemon, queue, 1)[queue], 1);
    }
    assert!(
        daemon.logged().contains("max_user_watches"),
        "{}",
        daemon.logged()
    );
    let said = troubles(&daemon);
    assert!(said.contains("max_user_watches"), "{said}");
    serves_on(&daemon);
}

#[test]
fn without_a_watch_of_the_task_directory_scans_find_its_files_and_it_is_said() {
    for limit in ["max_inotify_watches", "max_inotify_instances"] {
        let limit = format!("echo 0 > /proc/sys/user/{limit}");
        let Some(daemon) = limited(&limit) else {
            return;
        };
        let begun = Instant::now();
        put(&daemon, "first.json", &task("first"));
        assert_eq!(work_off(&daemon, "default", 1)["first"], 1);
        put(&daemon, "bad.json", "bad");
        until("it is rejected", || {
            rejected(&daemon).contains_key("bad.json").then_some(())
        });
        // Scans that were not asked for come once a minute where there are no watches.
        assert!(
            begun.elapsed() < Duration::from_secs(55),
            "{:?}",
            begun.elapsed()
        );
        let id = daemon.submit(r#"{"payload": 1, "delay": 3600}"#);
        let file = until("its file", || files_in(&daemon.tasks()).pop());
        fs::remove_file(file).expect("removed");
        until("it is cancelled", || {
            (daemon.get(&format!("/api/v1/tasks/{id}")).0 == 404).then_some(())
        });
        assert!(
            daemon.logged().contains("fs.inotify.max_user_"),
            "{}",
            daemon.logged()
        );
        let said = troubles(&daemon);
        assert!(said.contains("fs.inotify.max_user_"), "{said}");
        assert_eq!(ready(&daemon, "default"), 0);
        serves_on(&daemon);
    }
}
