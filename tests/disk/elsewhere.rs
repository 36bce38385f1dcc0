//! A directory that takes the journal's name under a running daemon, moved or mounted there: what is answered lies where the daemon
//! began, it says so and ends its writes, and no start takes the other directory for a journal that never was. And a daemon
//! on another file system, whose lock has the same inode.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path, process::Output};

use crate::{
    SMALL, claim,
    common::{
        Daemon,
        account::Line,
        mount::{Mount, may_mount},
        out, refused, run,
    },
    complete, ids, line_to, scratch, start, submit,
};

fn check(data: &Path) -> Output {
    let ctl = env!("CARGO_BIN_EXE_workqueuectl");
    run(ctl, &["check", &data.display().to_string()])
}

/// Submits until the daemon takes nothing any more, and gives what it took.
fn submit_until_stopped(line: &mut Line) -> BTreeSet<String> {
    let mut there = BTreeSet::new();
    loop {
        let (status, answer) = submit(line, "default", &"x".repeat(2000));
        if status == 503 {
            let why = answer["detail"].as_str().unwrap_or_default();
            assert!(why.contains("journal/ is not the directory"), "{answer}");
            return there;
        }
        assert_eq!(status, 201, "{answer}");
        there.insert(answer["id"].as_str().expect("an id").to_owned());
        assert!(there.len() < 1000, "what took its place was not seen");
    }
}

/// All that was acknowledged is there; the one that was answered 503 may be.
fn holds(daemon: &Daemon, there: &BTreeSet<String>) {
    let found = ids(daemon);
    assert!(found.is_superset(there), "{found:?} and {there:?}");
    assert!(found.len() <= there.len() + 1, "{found:?} and {there:?}");
}

/// It has stopped writes because of `journal/`, and says so.
fn says_so(daemon: &Daemon) {
    let (status, why) = daemon.text("/readyz");
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("journal/ is not the directory"), "{why}");
    let (_, troubles) = daemon.get("/api/v1/troubles");
    assert!(
        troubles.to_string().contains("writes-stopped"),
        "{troubles}"
    );
    let looked = check(&daemon.data());
    assert_eq!(looked.status.code(), Some(1), "{looked:?}");
    let said = out(&looked);
    let words = "journal: another directory than the daemon began with";
    assert!(said.contains(words), "{said}");
}

/// A start is refused with these words, and a check says those.
fn starts_in_vain(daemon: &Daemon, why: &str, checked: &str) {
    let (code, text) = refused(daemon.scratch.path(), &["--log-level", "error"]);
    assert_eq!(code, 65, "{text}");
    assert!(text.contains(why), "{text}");
    let looked = check(&daemon.data());
    assert_eq!(looked.status.code(), Some(1), "{looked:?}");
    let said = out(&looked);
    assert!(said.contains(checked), "{said}");
}

#[test]
fn a_directory_in_the_journals_place_gets_nothing_and_no_start_takes_it_for_the_journal() {
    let mut daemon = start(scratch(SMALL));
    let (journal, away) = (daemon.data().join("journal"), daemon.data().join("away"));
    let mut line = line_to(&daemon);
    let mut there = BTreeSet::from([daemon.submit(r#"{"payload":1}"#)]);
    fs::rename(&journal, &away).expect("moved away");
    fs::create_dir(&journal).expect("another in its place");
    there.append(&mut submit_until_stopped(&mut line));
    says_so(&daemon);
    assert_eq!(daemon.stop().code(), Some(74), "{}", daemon.logged());
    assert_eq!(fs::read_dir(&journal).expect("a directory").count(), 0);

    let words = "journal: without a journal, and another directory";
    starts_in_vain(
        &daemon,
        "data/journal has no journal in it, and is another",
        words,
    );

    fs::remove_dir(&journal).expect("removed");
    fs::rename(&away, &journal).expect("put back");
    daemon.restart();
    holds(&daemon, &there);
    assert!(daemon.stop().success());
}

/// The journal moves to a disk of its own, and at some later start that is not mounted: what was left below it is none of now.
#[test]
fn what_a_move_of_the_journal_left_behind_is_not_taken_for_the_journal() {
    let mut daemon = start(scratch(SMALL));
    let (journal, old) = (daemon.data().join("journal"), daemon.data().join("old"));
    let done = daemon.submit(r#"{"payload":1}"#);
    assert!(daemon.stop().success());
    fs::rename(&journal, &old).expect("moved away");
    let copied = run(
        "cp",
        &[
            "-a",
            &old.display().to_string(),
            &journal.display().to_string(),
        ],
    );
    assert!(copied.status.success(), "{copied:?}");
    daemon.restart();
    let mut line = line_to(&daemon);
    for one in claim(&mut line, "default", 10) {
        assert_eq!(one.0, done);
        complete(&mut line, &one);
    }
    let there = BTreeSet::from([daemon.submit(r#"{"payload":2}"#)]);
    daemon.kill();
    let new = daemon.data().join("new");
    fs::rename(&journal, &new).expect("not mounted");
    fs::rename(&old, &journal).expect("what is below");

    let words = "a journal that ends before";
    starts_in_vain(&daemon, "its journal ends before that one's", words);

    fs::rename(&journal, &old).expect("out of the way");
    fs::rename(&new, &journal).expect("mounted");
    daemon.restart();
    assert_eq!(ids(&daemon), there);
    assert!(daemon.stop().success());
}

#[test]
fn a_mount_over_the_journal_gets_nothing_and_what_was_answered_is_below_it() {
    let mut daemon = start(scratch(SMALL));
    if !may_mount() {
        return;
    }
    let journal = daemon.data().join("journal");
    let mut line = line_to(&daemon);
    let mut there = BTreeSet::from([daemon.submit(r#"{"payload":1}"#)]);
    let Some(mount) = Mount::tmpfs(&journal, "16m") else {
        return;
    };
    there.append(&mut submit_until_stopped(&mut line));
    says_so(&daemon);
    daemon.kill();
    let (code, text) = refused(daemon.scratch.path(), &["--log-level", "error"]);
    assert_eq!(code, 65, "{text}");
    mount.unmount();
    daemon.restart();
    holds(&daemon, &there);
    assert!(daemon.stop().success());
}

#[test]
fn a_daemon_on_another_file_system_does_not_hide_damage_from_check() {
    let (one, other) = (scratch(SMALL), scratch(SMALL));
    if !may_mount() {
        return;
    }
    let mounts = [&one, &other].map(|scratch| Mount::tmpfs(&scratch.path().join("data"), "16m"));
    if mounts.iter().any(Option::is_none) {
        return;
    }
    let mut damaged = start(other);
    damaged.submit(r#"{"payload":1}"#);
    damaged.kill();
    let segment = damaged.data().join("journal/00000000000000000001.wal");
    let mut bytes = fs::read(&segment).expect("a segment");
    bytes[20] ^= 1;
    fs::write(&segment, bytes).expect("written back");
    let at_work = start(one);
    let inode = |daemon: &Daemon| {
        let lock = fs::metadata(daemon.data().join("lock"));
        lock.expect("a lock").ino()
    };
    assert_eq!(inode(&at_work), inode(&damaged), "as both were made alike");
    let looked = check(&damaged.data());
    assert_eq!(looked.status.code(), Some(1), "{looked:?}");
    let said = out(&looked);
    assert!(said.contains("free: no daemon runs on it"), "{said}");
    assert!(said.contains("is damaged at byte 0"), "{said}");
    drop((at_work, damaged));
}
