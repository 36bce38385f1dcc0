//! What is no regular file of its own, and what is too large: never opened, or never read.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::Path,
    time::Instant,
};

use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};

use super::{
    aside, complete, files_in, looked_through, ready, rejected, serves_on, task, work_off,
};
use crate::common::{
    Daemon, Way,
    account::id_of,
    mount::{may_mount, skip},
    names, until,
};

/// The most memory that a process has had, in bytes.
fn peak(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.expect("a number").parse::<u64>().expect("kB") << 10
}

#[test]
fn links_pipes_devices_and_folders_are_left_alone_and_reported() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let secret = aside(&daemon, "secret.json", task("secret"));
    let others = aside(&daemon, "others.json", task("others"));
    let at = |name: &str| daemon.tasks().join(name);
    fs::create_dir(at("emails")).expect("a queue");
    for name in ["link.json", "emails/link.json"] {
        symlink(&secret, at(name)).expect("a link");
    }
    symlink("/nowhere", at("dangling.json")).expect("a link");
    symlink("link-to-itself.json", at("link-to-itself.json")).expect("a link");
    symlink(daemon.scratch.path(), at("linked-folder")).expect("a link");
    fs::hard_link(&others, at("hard.json")).expect("a hard link");
    mkfifoat(CWD, at("pipe.json"), Mode::RUSR | Mode::WUSR).expect("a FIFO");
    let _socket = UnixListener::bind(at("socket.json")).expect("a socket");
    let device = mknodat(
        CWD,
        at("device.json"),
        FileType::CharacterDevice,
        Mode::RUSR,
        rustix::fs::makedev(1, 5),
    );
    fs::create_dir(at("No Queue")).expect("a folder");
    fs::create_dir(at("emails/deep")).expect("a folder");
    let mut left = vec![
        "tasks/link.json",
        "tasks/emails/link.json",
        "tasks/dangling.json",
        "tasks/link-to-itself.json",
        "tasks/linked-folder",
        "tasks/hard.json",
        "tasks/pipe.json",
        "tasks/socket.json",
        "tasks/No Queue",
        "tasks/emails/deep",
    ];
    if device.is_ok() {
        left.push("tasks/device.json");
    }
    let list = until("all to be reported", || {
        let list = rejected(&daemon);
        (list.len() >= left.len()).then_some(list)
    });
    looked_through(&daemon);
    assert_eq!(rejected(&daemon), list, "each is told once");
    for name in left {
        let (moved, reason) = list.get(name).unwrap_or_else(|| panic!("{name}: {list:?}"));
        assert!(!moved && !reason.is_empty(), "{name}: {reason}");
        assert!(
            fs::symlink_metadata(daemon.data().join(name)).is_ok(),
            "{name} is gone"
        );
    }
    assert_eq!(ready(&daemon, "default") + ready(&daemon, "emails"), 0);
    assert!(secret.exists() && others.exists());
    // What was not its own becomes its own: then it is a task.
    fs::remove_file(&others).expect("its other name goes");
    looked_through(&daemon);
    assert_eq!(work_off(&daemon, "default", 1)["others"], 1);
    fs::remove_file(at("dangling.json")).expect("a link goes");
    until("what is not there any more to be shown no longer", || {
        let list = rejected(&daemon);
        (!list.contains_key("tasks/hard.json") && !list.contains_key("tasks/dangling.json"))
            .then_some(())
    });
    serves_on(&daemon);
}

/// A folder is replaced by a link to one that is not the daemon's.
#[test]
fn a_queues_folder_that_becomes_a_link_leads_nowhere() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let outside = daemon.scratch.path().join("outside");
    fs::create_dir(&outside).expect("a folder of somebody else");
    fs::create_dir(daemon.tasks().join("emails")).expect("a queue");
    let first = daemon.submit(r#"{"payload": "first", "queue": "emails"}"#);
    let name = until("its file is there", || {
        names(&daemon.tasks().join("emails")).pop()
    });
    assert_eq!(id_of(&name), Some(first.clone()));
    // Somebody else's files: one by the very name of the task's, and one that would be a task.
    for name in [&*name, "theirs.json", "bad.json"] {
        let content = if name == "bad.json" {
            "no"
        } else {
            "{\"payload\": \"theirs\"}"
        };
        fs::write(outside.join(name), content).expect("their file");
    }
    let before = files_in(&outside);
    fs::rename(
        daemon.tasks().join("emails"),
        daemon.scratch.path().join("emails"),
    )
    .expect("the folder moves away");
    symlink(&outside, daemon.tasks().join("emails")).expect("a link in its place");
    fs::write(outside.join("later.json"), task("later")).expect("their file");
    looked_through(&daemon);
    let (status, answer) = daemon.send("DELETE", &format!("/api/v1/tasks/{first}"), "");
    assert!(status < 300 || status == 404, "{status}: {answer}");
    daemon.submit(r#"{"payload": "second", "queue": "emails"}"#);
    looked_through(&daemon);
    until("the file is tried", || {
        let (_, view) = daemon.admin("GET", "/status", "");
        let tried = view["spool_failing"].as_u64() > Some(0) || view["spool_pending"] == 0;
        tried.then_some(())
    });
    fs::remove_file(outside.join("later.json")).expect("it is still there");
    assert_eq!(files_in(&outside), before, "somebody else's folder");
    let list = rejected(&daemon);
    assert!(list.contains_key("tasks/emails"), "{list:?}");
    // The link goes, and the queue has its folder again.
    fs::remove_file(daemon.tasks().join("emails")).expect("the link goes");
    let payloads = work_off(&daemon, "emails", 1);
    assert_eq!(payloads.get("second"), Some(&1), "{payloads:?}");
    assert_eq!(payloads.get("theirs"), None, "{payloads:?}");
    serves_on(&daemon);
}

#[test]
fn a_file_of_ten_gigabytes_is_rejected_without_being_read() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    serves_on(&daemon);
    let before = peak(daemon.pid());
    for name in ["huge.json", "huge.txt"] {
        let path = aside(&daemon, name, "{\"payload\": 1}");
        let file = fs::File::options().write(true).open(&path).expect("a file");
        file.set_len(10 << 30).expect("a hole of 10 GiB");
        let begun = Instant::now();
        fs::rename(&path, daemon.tasks().join(name)).expect("dropped");
        let moved = daemon.data().join("rejected").join(name);
        until("it is rejected", || moved.exists().then_some(()));
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
        let (moved, reason) = rejected(&daemon).remove(name).expect("it is listed");
        assert!(moved && reason.contains("10737418240 bytes"), "{reason}");
    }
    let more = peak(daemon.pid()) - before;
    assert!(more < 32 << 20, "{more} bytes of memory for it");
    serves_on(&daemon);
}

/// A daemon to which files of others are closed, also when the test is root: there it is root of a world of its own.
fn unprivileged() -> Option<Daemon> {
    if !may_mount() {
        return skip("needs root, for files of another user");
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let way = Way {
        under: ["unshare", "--user", "--map-root-user"]
            .map(str::to_owned)
            .into(),
        ..Way::with(&["--log-level", "warn"])
    };
    Some(Daemon::start_so(scratch, way))
}

fn give(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    std::os::unix::fs::chown(path, Some(12_345), Some(12_345)).expect("its owner");
}

#[test]
fn what_may_not_be_read_is_left_alone_until_it_may() {
    let Some(daemon) = unprivileged() else { return };
    let path = aside(&daemon, "closed.json", task("closed"));
    give(&path, 0o600);
    fs::rename(&path, daemon.tasks().join("closed.json")).expect("dropped");
    let folder = daemon.tasks().join("closed-folder");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("a.json"), task("in a folder")).expect("a file");
    until("the first file", || {
        (ready(&daemon, "closed-folder") == 1).then_some(())
    });
    assert_eq!(work_off(&daemon, "closed-folder", 1).len(), 1);
    give(&folder, 0o700);
    fs::write(folder.join("b.json"), task("behind a door")).expect("a file");
    until("both to be reported", || {
        looked_through(&daemon);
        let list = rejected(&daemon);
        (list.contains_key("tasks/closed.json") && list.contains_key("tasks/closed-folder"))
            .then_some(())
    });
    serves_on(&daemon);
    give(&daemon.tasks().join("closed.json"), 0o644);
    assert_eq!(work_off(&daemon, "default", 1)["closed"], 1);
    give(&folder, 0o777);
    looked_through(&daemon);
    assert_eq!(work_off(&daemon, "closed-folder", 1)["behind a door"], 1);
    serves_on(&daemon);
}

/// What a checkpoint stands for is in it, where files can't be made true: it would wait for ever, and the journal grow.
#[test]
fn a_folder_that_the_daemon_may_not_write_holds_up_no_checkpoint_and_makes_no_task_twice() {
    let Some(mut daemon) = unprivileged() else {
        return;
    };
    let folder = daemon.tasks().join("closed");
    fs::create_dir(&folder).expect("a folder");
    give(&folder, 0o755);
    fs::rename(
        aside(&daemon, "dropped", task("dropped")),
        folder.join("dropped.json"),
    )
    .expect("dropped");
    daemon.submit(r#"{"payload": "submitted", "queue": "closed"}"#);
    daemon.submit(r#"{"payload": "done", "queue": "closed", "priority": 200}"#);
    until("all are tasks", || {
        (ready(&daemon, "closed") == 3).then_some(())
    });
    let failing = |daemon: &Daemon, count: u64| {
        until("changes that fail are told of", || {
            let (_, view) = daemon.admin("GET", "/status", "");
            (view["spool_failing"] == count).then_some(())
        });
    };
    failing(&daemon, 3);
    let first = daemon.claim("closed", 1).remove(0);
    assert_eq!(first["payload"], "done");
    complete(&daemon, &first);
    for round in 0..3 {
        // Twice: the second takes the place of the first, at the same frame.
        daemon.checkpoint();
        daemon.checkpoint();
        daemon.crash_and_restart();
        looked_through(&daemon);
        assert_eq!(ready(&daemon, "closed"), 2, "round {round}");
    }
    failing(&daemon, 2);
    let payloads = work_off(&daemon, "closed", 2);
    assert_eq!((payloads["dropped"], payloads["submitted"]), (1, 1));
    for round in 0..3 {
        daemon.checkpoint();
        daemon.checkpoint();
        daemon.crash_and_restart();
        looked_through(&daemon);
        assert_eq!(ready(&daemon, "closed"), 0, "round {round}");
        failing(&daemon, 1);
    }
    give(&folder, 0o777);
    until("what was dropped to be removed", || {
        files_in(&folder).is_empty().then_some(())
    });
    looked_through(&daemon);
    assert!(work_off(&daemon, "closed", 0).is_empty());
    assert!(rejected(&daemon).is_empty());
    serves_on(&daemon);
}
