//! Bytes that changed on the disk: a start refuses and says where, `workqueuectl check` says it in plain words and sets it
//! aside, and nothing acknowledged is lost in silence. Also what durability `interval` and `none` sync.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use common::{
    Daemon, PATIENCE, Way,
    account::{Chance, Line, all, id_of, seed},
    mount::{Mount, has, may_mount, say, skip, tool},
    names, out, refused, run, until,
};
use serde_json::{Value, json};

const CTL: &str = env!("CARGO_BIN_EXE_workqueuectl");

/// A daemon that was killed, with tasks in the checkpoint, in files, and only in the journal.
struct Killed {
    daemon: Daemon,
    tasks: BTreeMap<String, Value>,
    ended: BTreeSet<String>,
}

fn killed() -> Killed {
    killed_with(700)
}

/// The same, with payloads of about so many bytes.
fn killed_with(payload: usize) -> Killed {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("settings.toml");
    fs::write(
        &path,
        "spool_delay = \"60s\"\njournal_segment = \"64KiB\"\n",
    )
    .expect("settings");
    let path = path.display().to_string();
    let mut daemon = Daemon::start_in(scratch, &["--log-level", "warn", "--config", &path]);
    let mut ended = BTreeSet::new();
    for part in 0..2 {
        for number in 0..60 {
            daemon.submit(
                &json!({"payload": "x".repeat(payload + number), "max_attempts": 2 + part})
                    .to_string(),
            );
            if number % 3 == 0 {
                for task in daemon.claim("default", 1) {
                    let id = task["id"].as_str().expect("an id").to_owned();
                    let body = json!({"token": task["token"]}).to_string();
                    let (status, answer) =
                        daemon.post(&format!("/api/v1/tasks/{id}/complete"), &body);
                    assert_eq!(status, 200, "{answer}");
                    ended.insert(id);
                }
            }
        }
        if part == 0 {
            daemon.checkpoint();
        }
    }
    // The very last frame can't be told from a torn one: it holds nothing that matters here.
    let (status, answer) = daemon.admin("POST", "/pause?queue=default", "");
    assert!(status < 300, "{answer}");
    let tasks = all(&daemon);
    daemon.kill();
    Killed {
        daemon,
        tasks,
        ended,
    }
}

/// A copy of a data directory, in a scratch directory of its own.
fn copy(of: &Daemon) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (from, to) = (of.data().display().to_string(), scratch.path().join("data"));
    tool("cp", &["-a", &from, &to.display().to_string()]);
    scratch
}

fn journal(data: &Path) -> Vec<PathBuf> {
    let dir = data.join("journal");
    names(&dir).iter().map(|name| dir.join(name)).collect()
}

fn check(data: &Path, more: &[&str]) -> Output {
    let data = data.display().to_string();
    let mut args = vec!["check", &data];
    args.extend(more);
    run(CTL, &args)
}

/// Holds a daemon's tasks against those acknowledged before: all of them, none that had ended.
fn holds(killed: &Killed, daemon: &Daemon, what: &str) {
    let found = all(daemon);
    for (id, task) in &killed.tasks {
        let there = found
            .get(id)
            .unwrap_or_else(|| panic!("{what}: {id} is lost in silence"));
        assert_eq!(there["payload"], task["payload"], "{what}");
    }
    for id in &killed.ended {
        assert!(
            !found.contains_key(id),
            "{what}: {id} was completed and is back"
        );
    }
}

#[test]
fn a_changed_byte_stops_the_start_or_changes_nothing_and_check_mends_it() {
    let mut chance = Chance(seed("a_changed_byte"));
    let killed = killed();
    let (mut stopped, mut passed) = (0, 0);
    for round in 0..60 {
        let scratch = copy(&killed.daemon);
        let data = scratch.path().join("data");
        let mut files = journal(&data);
        files.retain(|file| fs::metadata(file).is_ok_and(|meta| meta.len() > 0));
        let file = &files[chance.below(files.len() as u64) as usize];
        let mut bytes = fs::read(file).expect("a journal file");
        // Among the bytes in use, mostly: a segment ends in zeros.
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(1, |last| last + 1);
        let end = if chance.below(8) == 0 {
            bytes.len()
        } else {
            used
        };
        let at = chance.below(end as u64) as usize;
        bytes[at] ^= 1 << chance.below(8);
        fs::write(file, &bytes).expect("written back");
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let what = format!("round {round}: byte {at} of {name}");

        let looked = check(&data, &[]);
        let mut first = Daemon::start_or_end(scratch.path(), Way::with(&["--log-level", "warn"]));
        let Some(status) = first.wait_ready_or_end() else {
            passed += 1;
            let daemon = first.ready(scratch);
            holds(&killed, &daemon, &what);
            assert_eq!(looked.status.code(), Some(0), "{what}: {}", out(&looked));
            continue;
        };
        stopped += 1;
        let said = fs::read_to_string(scratch.path().join("log")).expect("a log");
        assert_eq!(status.code(), Some(65), "{what}: {said}");
        assert!(said.contains("/journal/"), "{what}: {said}");
        let text = out(&looked);
        assert_eq!(looked.status.code(), Some(1), "{what}: {text}");
        if said.contains("is of format version") {
            // Refused, not guessed at, and not repaired either: a newer program may know better.
            assert!(text.contains("is of format version"), "{what}: {text}");
            assert_eq!(check(&data, &["--repair"]).status.code(), Some(1), "{what}");
            continue;
        }
        assert!(
            said.contains("is damaged at byte")
                && said.contains("workqueuectl check DATA --repair"),
            "{what}: {said}"
        );
        assert!(text.contains("is damaged at byte"), "{what}: {text}");
        mended(&killed, scratch, &what);
    }
    say(&format!(
        "changed bytes: {stopped} stopped the start, {passed} did not matter"
    ));
    assert!(stopped > 5, "{stopped}");
}

/// What is damaged is set aside, and a start goes on with what is left: all that has a file, and all before the damage.
fn mended(killed: &Killed, scratch: tempfile::TempDir, what: &str) {
    let data = scratch.path().join("data");
    let before = fs::read_dir(data.join("journal"))
        .expect("a journal")
        .count();
    let mended = check(&data, &["--repair"]);
    let said = String::from_utf8_lossy(&mended.stderr).into_owned();
    assert_eq!(
        mended.status.code(),
        Some(0),
        "{what}: {said} {}",
        out(&mended)
    );
    assert!(said.contains("set aside"), "{what}: {said}");
    let after = fs::read_dir(data.join("journal"))
        .expect("a journal")
        .count();
    assert!(after >= before, "{what}: something was deleted");
    assert!(
        names(&data.join("journal"))
            .iter()
            .any(|name| name.contains(".damaged"))
    );
    let files: BTreeSet<String> = names(&data.join("tasks"))
        .iter()
        .filter_map(|name| id_of(name))
        .collect();
    let daemon = Daemon::start_in(scratch, &["--log-level", "warn"]);
    let found = all(&daemon);
    for id in &files {
        // A file of a task that had ended may bring it back: what knew better is set aside, and that was said.
        assert!(
            found.contains_key(id) || killed.ended.contains(id),
            "{what}: {id}"
        );
    }
    for (id, task) in &found {
        if let Some(known) = killed.tasks.get(id) {
            assert_eq!(task["payload"], known["payload"], "{what}");
        }
    }
}

/// One byte of the checkpoint, and the journal behind it is whole: nothing is lost but what only the checkpoint told.
#[test]
fn a_damaged_checkpoint_does_not_take_the_journal_behind_it_with_it() {
    // So much that the first segment is gone with the checkpoint: the journal is not whole without it.
    let killed = killed_with(2000);
    let files: BTreeSet<String> = names(&killed.daemon.tasks())
        .iter()
        .filter_map(|name| id_of(name))
        .collect();
    let is_there = |id: &String| files.contains(id);
    assert!(!killed.tasks.keys().all(is_there) && killed.ended.iter().any(is_there));
    for at in [0, 13, 30, -5_isize] {
        let scratch = copy(&killed.daemon);
        let data = scratch.path().join("data");
        let checkpoint = checkpoint_of(&data);
        let mut bytes = fs::read(&checkpoint).expect("it is there");
        let at = at.rem_euclid(bytes.len() as isize) as usize;
        bytes[at] ^= 4;
        fs::write(&checkpoint, &bytes).expect("written back");
        let whole: Vec<(PathBuf, Vec<u8>)> = segments(&data)
            .into_iter()
            .map(|file| (file.clone(), fs::read(&file).expect("a segment")))
            .collect();

        let (code, said) = refused(scratch.path(), &[]);
        assert_eq!(code, 65, "{said}");
        let words = "an empty checkpoint takes its place, so that all that the journal tells from";
        let looked = check(&data, &[]);
        assert_eq!(looked.status.code(), Some(1), "{looked:?}");
        assert!(out(&looked).contains(words), "{}", out(&looked));
        let mended = check(&data, &["--repair"]);
        assert_eq!(mended.status.code(), Some(0), "{mended:?}");
        let said = String::from_utf8_lossy(&mended.stderr).into_owned();
        assert!(said.contains(words) && said.contains("lost is"), "{said}");
        assert_eq!(said.matches("set aside").count(), 1, "{said}");
        for (file, bytes) in whole {
            assert_eq!(fs::read(&file).expect("it stays"), bytes);
        }
        let aside = checkpoint.with_extension("checkpoint.damaged");
        assert_eq!(fs::read(aside).expect("it is set aside"), bytes);

        let what = format!("byte {at} of the checkpoint");
        let mut daemon = Daemon::start_in(scratch, &["--log-level", "warn"]);
        holds(&killed, &daemon, &what);
        daemon.checkpoint();
        daemon.crash_and_restart();
        holds(&killed, &daemon, &what);
        assert!(daemon.stop().success());
    }
}

/// The one checkpoint that there is.
fn checkpoint_of(data: &Path) -> PathBuf {
    let is_checkpoint = |file: &PathBuf| file.extension().is_some_and(|end| end == "checkpoint");
    let checkpoint = journal(data).into_iter().find(is_checkpoint);
    checkpoint.expect("a checkpoint")
}

#[test]
fn damage_that_nothing_needs_keeps_no_daemon_from_starting_and_is_told() {
    type Spoil = fn(&Path);
    let killed = killed_with(2000);
    let changes: [(&str, Spoil); 2] = [
        ("a frame that the checkpoint holds", |data| {
            let first = segments(data).remove(0);
            let mut bytes = fs::read(&first).expect("a segment");
            bytes[64 + 45] ^= 0xff;
            fs::write(&first, bytes).expect("written back");
        }),
        ("an empty file before the first segment", |data| {
            fs::write(data.join("journal/00000000000000000000.wal"), "").expect("a file");
        }),
    ];
    for (what, change) in changes {
        let scratch = copy(&killed.daemon);
        let data = scratch.path().join("data");
        change(&data);
        let before = names(&data.join("journal"));
        for more in [&[][..], &["--repair"]] {
            let looked = check(&data, more);
            assert_eq!(looked.status.code(), Some(0), "{what}: {}", out(&looked));
            assert!(out(&looked).contains("passed over"), "{}", out(&looked));
        }
        assert_eq!(names(&data.join("journal")), before, "{what}");
        let mut daemon = Daemon::start_in(scratch, &["--log-level", "warn"]);
        holds(&killed, &daemon, what);
        assert!(daemon.logged().contains("was passed over"), "{what}");
        daemon.checkpoint();
        daemon.crash_and_restart();
        holds(&killed, &daemon, what);
        assert!(daemon.stop().success());
        let looked = check(&daemon.data(), &[]);
        assert!(!out(&looked).contains("passed over"), "{}", out(&looked));
    }
}

#[test]
fn a_missing_checkpoint_does_not_take_the_journal_with_it() {
    let killed = killed_with(2000);
    let scratch = copy(&killed.daemon);
    let data = scratch.path().join("data");
    let checkpoint = checkpoint_of(&data);
    let other = checkpoint.with_file_name("00000000000000000099.checkpoint");
    fs::rename(&checkpoint, &other).expect("renamed");
    for more in [&[][..], &["--repair"]] {
        let looked = check(&data, more);
        let text = format!(
            "{}{}",
            out(&looked),
            String::from_utf8_lossy(&looked.stderr)
        );
        assert_eq!(looked.status.code(), Some(1), "{text}");
        let name = checkpoint.file_name().expect("a name").to_string_lossy();
        assert!(
            text.contains(&format!("call it journal/{name} again")),
            "{text}"
        );
    }
    fs::remove_file(&other).expect("it goes");
    let (code, said) = refused(scratch.path(), &[]);
    assert_eq!(code, 65, "{said}");
    let words = "an empty checkpoint takes its place, so that all that the journal tells from";
    let looked = check(&data, &[]);
    assert!(out(&looked).contains(words), "{}", out(&looked));
    let whole = segments(&data);
    let mended = check(&data, &["--repair"]);
    assert_eq!(mended.status.code(), Some(0), "{mended:?}");
    assert_eq!(segments(&data), whole);
    let mut daemon = Daemon::start_in(scratch, &["--log-level", "warn"]);
    holds(&killed, &daemon, "without its checkpoint");
    daemon.checkpoint();
    daemon.crash_and_restart();
    holds(&killed, &daemon, "without its checkpoint");
}

/// As `truncate -s 10T` makes it: there is nothing on the disk.
#[test]
fn a_journal_file_of_an_absurd_length_neither_hangs_a_start_nor_a_check() {
    let killed = killed_with(2000);
    for which in 0..3 {
        let scratch = copy(&killed.daemon);
        let data = scratch.path().join("data");
        let mut all = journal(&data);
        all.retain(|file| file.extension().is_some_and(|end| end == "wal"));
        let file = match which {
            0 => segments(&data).remove(0),
            1 => all.pop().expect("a spare"),
            _ => checkpoint_of(&data),
        };
        let opened = fs::File::options().write(true).open(&file);
        if opened.expect("a file").set_len(10 << 40).is_err() {
            return skip("the file system has no such files").unwrap_or_default();
        }
        if which < 2 {
            assert_eq!(check(&data, &[]).status.code(), Some(0), "{which}");
        } else {
            let (code, said) = refused(scratch.path(), &[]);
            assert_eq!(code, 65, "{said}");
            assert!(
                said.contains("it has another length than it says"),
                "{said}"
            );
            let mended = check(&data, &["--repair"]);
            assert_eq!(mended.status.code(), Some(0), "{mended:?}");
        }
        let daemon = Daemon::start_in(scratch, &["--log-level", "warn"]);
        holds(&killed, &daemon, &file.display().to_string());
    }
}

#[test]
fn another_version_of_a_format_is_refused_and_left_alone() {
    let killed = killed();
    for suffix in [".wal", ".checkpoint"] {
        let scratch = copy(&killed.daemon);
        let data = scratch.path().join("data");
        let files = journal(&data);
        let file = files
            .iter()
            .find(|file| file.to_string_lossy().ends_with(suffix));
        let file = file.expect("one of each");
        let mut bytes = fs::read(file).expect("a journal file");
        bytes[8] = 2;
        fs::write(file, &bytes).expect("written back");
        let (code, said) = refused(scratch.path(), &[]);
        assert_eq!(code, 65, "{said}");
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(
            said.contains(&name) && said.contains("is of format version 2"),
            "{said}"
        );
        for more in [&[][..], &["--repair"]] {
            let looked = check(&data, more);
            assert_eq!(looked.status.code(), Some(1), "{looked:?}");
        }
        assert_eq!(fs::read(file).expect("it is there"), bytes, "left alone");
    }
}

/// As `cp -al` and `rsync --link-dest` make a backup.
#[test]
fn a_data_directory_with_a_backup_by_links_is_sound() {
    let killed = killed();
    let scratch = copy(&killed.daemon);
    let data = scratch.path().join("data");
    let backup = scratch.path().join("backup");
    tool(
        "cp",
        &[
            "-al",
            &data.display().to_string(),
            &backup.display().to_string(),
        ],
    );
    let looked = check(&data, &["--repair"]);
    assert_eq!(looked.status.code(), Some(0), "{}", out(&looked));
    assert!(!out(&looked).contains("passed over"), "{}", out(&looked));
    let mut daemon = Daemon::start_in(scratch, &["--log-level", "warn"]);
    holds(&killed, &daemon, "beside a backup");
    assert!(!daemon.logged().contains("damaged"), "{}", daemon.logged());
    assert!(daemon.stop().success());
}

/// The segments that are in use, in their order.
fn segments(data: &Path) -> Vec<PathBuf> {
    let in_use = |file: &PathBuf| {
        file.extension().is_some_and(|end| end == "wal")
            && fs::read(file)
                .expect("a segment")
                .iter()
                .any(|byte| *byte != 0)
    };
    journal(data).into_iter().filter(in_use).collect()
}

/// What is done to a segment, with a place for it elsewhere.
type Change = fn(&Path, &Path);

#[test]
fn what_is_no_segment_of_its_name_stops_the_start_and_is_left_to_people() {
    let killed = killed();
    let changes: [(&str, Change, &str); 4] = [
        (
            "a link",
            |file, aside| {
                fs::rename(file, aside).expect("away");
                std::os::unix::fs::symlink(aside, file).expect("a link");
            },
            "is a symbolic link",
        ),
        (
            "a FIFO",
            |file, aside| {
                fs::rename(file, aside).expect("away");
                tool("mkfifo", &[&file.display().to_string()]);
            },
            "is a FIFO, socket or device",
        ),
        (
            "a folder",
            |file, aside| {
                fs::rename(file, aside).expect("away");
                fs::create_dir(file).expect("a folder");
            },
            "is a folder where none belongs",
        ),
        (
            "another's name",
            |file, _| {
                let name = file.with_file_name("00000000000000000099.wal");
                fs::rename(file, name).expect("renamed");
            },
            "under another name",
        ),
    ];
    for (what, change, words) in changes {
        let scratch = copy(&killed.daemon);
        let data = scratch.path().join("data");
        let file = segments(&data).pop().expect("a segment");
        let whole = fs::read(&file).expect("it is there");
        let aside = scratch.path().join("aside");
        change(&file, &aside);
        let (code, said) = refused(scratch.path(), &[]);
        assert_eq!(code, 65, "{what}: {said}");
        assert!(said.contains(words), "{what}: {said}");
        let before = names(&data.join("journal"));
        let looked = check(&data, &["--repair"]);
        let text = format!(
            "{}{}",
            out(&looked),
            String::from_utf8_lossy(&looked.stderr)
        );
        assert_eq!(looked.status.code(), Some(1), "{what}: {text}");
        assert!(text.contains(words), "{what}: {text}");
        assert_eq!(names(&data.join("journal")), before, "{what}");
        // Put right, everything is there.
        if fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_dir()) {
            fs::remove_dir(&file).expect("the folder goes");
        }
        fs::rename(file.with_file_name("00000000000000000099.wal"), &file)
            .or_else(|_| fs::rename(&aside, &file))
            .expect("back");
        assert_eq!(fs::read(&file).expect("it is there"), whole);
        let daemon = Daemon::start_in(scratch, &["--log-level", "warn"]);
        holds(&killed, &daemon, what);
    }
}

/// Damages a segment behind its middle. Gives the segment.
fn damage(data: &Path) -> PathBuf {
    let used = segments(data);
    let file = used[used.len() - 2].clone();
    let mut bytes = fs::read(&file).expect("a segment");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("frames");
    bytes[last / 2] ^= 0xff;
    fs::write(&file, &bytes).expect("written back");
    file
}

/// Only so the daemon's own user can open what root has repaired.
#[test]
fn a_repair_leaves_each_file_to_its_owner() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can give files away").unwrap_or_default();
    }
    let killed = killed();
    for without_reserve in [false, true] {
        let scratch = copy(&killed.daemon);
        let data = scratch.path().join("data");
        damage(&data);
        if without_reserve {
            // An empty checkpoint is put in, and there is nothing to make it of.
            fs::remove_file(data.join("journal/reserve")).expect("no reserve");
            for file in journal(&data) {
                if file.extension().is_some_and(|end| end == "checkpoint") {
                    fs::remove_file(file).expect("no checkpoint");
                }
            }
        }
        is_left_to_its_owner(&data);
    }
}

fn is_left_to_its_owner(data: &Path) {
    fs::remove_file(data.join("lock")).expect("a backup without it");
    tool("chown", &["-R", "65534:65534", &data.display().to_string()]);
    let mended = check(data, &["--repair"]);
    assert_eq!(mended.status.code(), Some(0), "{}", out(&mended));
    assert!(
        String::from_utf8_lossy(&mended.stderr).contains("stay in use"),
        "{mended:?}"
    );
    let mut files = journal(data);
    files.push(data.join("lock"));
    for file in files {
        let owner = fs::metadata(&file).expect("it is there").uid();
        assert_eq!(owner, 65534, "{}", file.display());
    }
}

#[test]
fn a_repair_that_finds_no_room_changes_nothing_and_one_with_room_keeps_what_is_whole() {
    let killed = killed();
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let at = scratch.path().join("data");
    let Some(mount) = may_mount().then(|| Mount::tmpfs(&at, "8m")).flatten() else {
        return skip("no mount can be made").unwrap_or_default();
    };
    let from = format!("{}/.", killed.daemon.data().display());
    tool("cp", &["-a", &from, &at.display().to_string()]);
    let file = damage(&at);
    let before = fs::read(&file).expect("a segment");
    let ballast = mount.fill();
    let full = check(&at, &["--repair"]);
    assert_eq!(full.status.code(), Some(1), "{full:?}");
    assert_eq!(fs::read(&file).expect("it is there"), before);
    fs::remove_file(ballast).expect("room");
    let mended = check(&at, &["--repair"]);
    assert_eq!(mended.status.code(), Some(0), "{mended:?}");
    let kept = fs::read(&file).expect("what is whole stays in its place");
    assert!(
        before.starts_with(&kept) && kept.len() > 1000,
        "{}",
        kept.len()
    );
    let aside = file.with_extension("wal.damaged");
    assert_eq!(fs::read(aside).expect("all of it is aside"), before);
}

#[test]
fn what_a_newer_program_wrote_is_not_set_aside_for_damage_before_it() {
    let killed = killed();
    let scratch = copy(&killed.daemon);
    let data = scratch.path().join("data");
    let damaged = damage(&data);
    let last = segments(&data).pop().expect("a segment behind it");
    assert!(last > damaged);
    let mut bytes = fs::read(&last).expect("a segment");
    bytes[8] = 2;
    fs::write(&last, &bytes).expect("written back");
    let before = names(&data.join("journal"));
    let looked = check(&data, &["--repair"]);
    assert_eq!(looked.status.code(), Some(1), "{looked:?}");
    let said = String::from_utf8_lossy(&looked.stderr).into_owned();
    assert!(said.contains("is of format version 2"), "{said}");
    assert_eq!(names(&data.join("journal")), before);
}

#[test]
fn check_refuses_to_repair_under_a_daemon_and_says_all_that_is_odd() {
    let mut daemon = Daemon::start(&["--log-level", "warn"]);
    let id = daemon.submit(r#"{"payload":1}"#);
    let name = until("its file is written", || {
        names(&daemon.tasks()).into_iter().next()
    });
    let busy = check(&daemon.data(), &["--repair"]);
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    let said = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(said.contains(&daemon.pid().to_string()), "{said}");
    daemon.kill();
    let sound = check(&daemon.data(), &["--json"]);
    assert_eq!(sound.status.code(), Some(0), "{}", out(&sound));
    let report: Value = serde_json::from_slice(&sound.stdout).expect("JSON");
    assert_eq!(report["problems"], json!([]));

    let data = daemon.data();
    fs::create_dir_all(data.join("tasks/q")).expect("a folder");
    fs::copy(
        data.join("tasks").join(&name),
        data.join("tasks/q").join(&name),
    )
    .expect("a second file");
    fs::write(data.join("rejected/lonely"), "x").expect("a file");
    fs::write(data.join("rejected/old.reason"), "x").expect("a file");
    fs::write(
        data.join("tasks/.wq-0198c0de-0000-7000-8000-000000000001.tmp"),
        "",
    )
    .expect("a file");
    fs::create_dir_all(data.join("tasks/NOT A QUEUE")).expect("a folder");
    let other = "1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-000000000002.json";
    fs::write(data.join("tasks").join(other), "{").expect("a file");
    let third = "1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-000000000003.json";
    fs::write(
        data.join("tasks").join(third),
        r#"{"payload":1,"priority":7}"#,
    )
    .expect("a file");
    let odd = check(&data, &[]);
    let text = out(&odd);
    assert_eq!(odd.status.code(), Some(1), "{text}");
    for words in [
        format!("{id} has another file"),
        "rejected/lonely: no reason beside it".to_owned(),
        "rejected/old.reason: a reason without its file".to_owned(),
        "NOT A QUEUE: a folder whose name is no queue's".to_owned(),
        format!("{other}: not JSON"),
        format!("{third}: its priority, 7, is not that of its name"),
        "temporary  1 files".to_owned(),
    ] {
        assert!(text.contains(&words), "{words:?} is missing in {text}");
    }
}

/// How long a daemon with `interval` waits before it syncs.
const INTERVAL: Duration = Duration::from_millis(100);

/// How many times a daemon with this durability syncs its journal, under load that does not pause until `enough` tasks and syncs
/// have been counted, and how long that took. All it was told is there after `kill -9`.
fn syncs(durability: &str, enough: impl Fn(usize, usize) -> bool) -> (usize, Duration) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("settings.toml");
    let settings = format!(
        "durability = \"{durability}\"\nsync_interval = \"{}ms\"\nspool_delay = \"60s\"\n",
        INTERVAL.as_millis()
    );
    fs::write(&path, settings).expect("settings");
    let (path, trace) = (path.display().to_string(), scratch.path().join("trace"));
    let way = Way::with(&["--log-level", "warn", "--config", &path])
        .traced(&trace, &["-e", "trace=fdatasync"]);
    let mut daemon = Daemon::start_so(scratch, way);
    let count = || {
        let text = fs::read_to_string(&trace).expect("a trace");
        text.lines()
            .filter(|line| line.contains("fdatasync("))
            .count()
    };
    let mut line = Line::open(&daemon.address).expect("it serves");
    let mut submit = || {
        let (status, answer) = line
            .ask("POST", "/api/v1/tasks", r#"{"payload":1}"#)
            .expect("an answer");
        assert_eq!(status, 201, "{answer}");
    };
    // The first makes the daemon want its second segment: that is synced whatever is chosen.
    submit();
    until("a second segment is made", || {
        (journal(&daemon.data()).len() >= 2).then_some(())
    });
    let begin = Instant::now();
    let before = count();
    let mut submitted = 1;
    while !enough(submitted - 1, count() - before) {
        assert!(begin.elapsed() < PATIENCE, "it does not sync");
        submit();
        submitted += 1;
    }
    let (busy, length) = (count() - before, begin.elapsed());
    if durability == "interval" {
        let from = count();
        submit();
        submitted += 1;
        until("the last of it is synced", || {
            (count() > from).then_some(())
        });
    }
    daemon.kill();
    daemon.set_way(Way::with(&["--log-level", "warn"]));
    daemon.restart();
    assert_eq!(
        all(&daemon).len(),
        submitted,
        "a crash of the daemon alone takes nothing"
    );
    assert!(daemon.stop().success());
    (busy, length)
}

#[test]
fn interval_syncs_in_time_under_load_and_when_idle_and_none_does_not() {
    if !has("strace") {
        return skip("strace is not installed").unwrap_or_default();
    }
    // A segment may be made on the way, which is synced in four pieces: two more are the interval's.
    let (busy, length) = syncs("interval", |_, syncs| syncs >= 6);
    let most = (length.as_millis() / INTERVAL.as_millis()) as usize + 5;
    assert!(busy <= most, "{busy} syncs in {length:?} of load");
    let (busy, _) = syncs("none", |tasks, _| tasks == 40);
    assert!(busy <= 4, "{busy} syncs with none");
    let (busy, _) = syncs("sync", |tasks, _| tasks == 40);
    assert!(busy >= 40, "{busy} syncs with sync");
}
