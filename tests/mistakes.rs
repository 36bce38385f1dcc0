//! Every error that a user can reach by a mistake: one clear line, and the exit code that says which kind it is.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{fs, net::TcpListener};

use common::{Daemon, refused};

const CTL: &str = env!("CARGO_BIN_EXE_workqueuectl");

#[track_caller]
fn one_line(text: &str, words: &[&str]) {
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    assert!(text.starts_with("workqueued: "), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} in {text}");
    }
}

#[test]
fn a_port_in_use_is_named_and_ends_with_69() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let scratch = tempfile::tempdir().expect("scratch");
    let (code, text) = refused(
        scratch.path(),
        &["--log-level", "error", "--listen", &address],
    );
    assert_eq!(code, 69, "{text}");
    one_line(&text, &[&address, "in use"]);
}

#[test]
fn a_second_daemon_is_refused_with_the_firsts_pid() {
    let daemon = Daemon::start(&[]);
    let (code, text) = refused(daemon.scratch.path(), &["--log-level", "error"]);
    assert_eq!(code, 69, "{text}");
    one_line(&text, &[&daemon.pid().to_string()]);
    assert_eq!(daemon.get("/api/v1/queues").0, 200, "the first serves on");
}

#[test]
fn a_second_daemon_is_refused_also_when_the_lock_is_removed_or_replaced() {
    let daemon = Daemon::start(&[]);
    let (lock, pid) = (daemon.data().join("lock"), daemon.pid().to_string());
    for replaced in [false, true] {
        fs::remove_file(&lock).expect("removed");
        if replaced {
            // As of a backup that is unpacked over it.
            fs::write(&lock, "1\n").expect("another file");
        }
        let (code, text) = refused(daemon.scratch.path(), &["--log-level", "error"]);
        assert_eq!(code, 69, "{text}");
        one_line(&text, &[&pid]);
        let data = daemon.data().display().to_string();
        let repair = common::run(CTL, &["check", "--repair", &data]);
        assert_eq!(repair.status.code(), Some(1), "{repair:?}");
        let said = String::from_utf8_lossy(&repair.stderr).into_owned();
        assert!(said.contains(&pid), "{said}");
        let looked = common::run(CTL, &["check", &data]);
        let said = common::out(&looked);
        assert!(looked.status.success(), "{said}");
        assert!(said.contains(&format!("held by process {pid}")), "{said}");
        assert!(said.contains("journal, which was not read"), "{said}");
        fs::write(&lock, "").expect("a file");
    }
    daemon.submit(r#"{"payload":1}"#);
}

#[test]
fn a_lock_that_is_no_file_is_named_and_ends_with_73() {
    let mut daemon = Daemon::start(&["--log-level", "error"]);
    assert!(daemon.stop().success());
    let lock = daemon.data().join("lock");
    fs::remove_file(&lock).expect("removed");
    fs::create_dir(&lock).expect("a directory");
    let (code, text) = refused(daemon.scratch.path(), &["--log-level", "error"]);
    assert_eq!(code, 73, "{text}");
    one_line(&text, &["data/lock is a directory", "remove it"]);
    let data = daemon.data().display().to_string();
    for more in [&[][..], &["--repair"]] {
        let check = common::run(CTL, &[&["check", &data], more].concat());
        assert_eq!(check.status.code(), Some(1), "{check:?}");
        let said = String::from_utf8_lossy(&check.stderr).into_owned() + &common::out(&check);
        assert!(said.contains("a directory, and has to be a file"), "{said}");
        assert!(!said.contains("all is well"), "{said}");
    }
    fs::remove_dir(&lock).expect("removed");
    daemon.restart();
}

#[test]
fn a_data_directory_that_is_a_file_ends_with_73() {
    let scratch = tempfile::tempdir().expect("scratch");
    fs::write(scratch.path().join("data"), "").expect("a file");
    let (code, text) = refused(scratch.path(), &["--log-level", "error"]);
    assert_eq!(code, 73, "{text}");
    one_line(&text, &["data", "director"]);
}

#[test]
fn a_data_directory_below_a_file_ends_with_73() {
    let scratch = tempfile::tempdir().expect("scratch");
    fs::write(scratch.path().join("plain"), "").expect("a file");
    let below = scratch.path().join("plain/data").display().to_string();
    let (code, text) = refused(
        scratch.path(),
        &["--log-level", "error", "--data-dir", &below],
    );
    // The flag that comes last is the one that counts, or it is refused as given twice: both are one line.
    assert!(code == 73 || code == 2, "{code}: {text}");
    assert!(text.contains("data"), "{text}");
}

#[test]
fn a_broken_configuration_names_file_line_and_key_and_ends_with_78() {
    let scratch = tempfile::tempdir().expect("scratch");
    let file = scratch.path().join("workqueued.toml");
    let path = file.display().to_string();
    for (content, line, word) in [
        (
            "listen = [\"127.0.0.1:0\"]\nspool_dely = \"1s\"\n",
            ":2",
            "spool_dely",
        ),
        ("spool_delay = \"2h\"\n", ":1", "spool_delay"),
        ("# fine\n\ndurability = \"perhaps\"\n", ":3", "durability"),
        ("listen = [\n", ":", "listen"),
    ] {
        fs::write(&file, content).expect("a file");
        let (code, text) = refused(scratch.path(), &["--config", &path]);
        assert_eq!(code, 78, "{content}: {text}");
        let place = format!("{path}{line}");
        assert!(text.contains(&place), "{place} in {text}");
        if word != "listen" {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    }
}

#[test]
fn an_address_that_other_machines_reach_needs_to_be_allowed() {
    let scratch = tempfile::tempdir().expect("scratch");
    let (code, text) = refused(scratch.path(), &["--listen", "0.0.0.0:0"]);
    assert_eq!(code, 78, "{text}");
    one_line(&text, &["0.0.0.0", "insecure"]);
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let scratch = tempfile::tempdir().expect("scratch");
    let (code, text) = refused(scratch.path(), &["--config", "/nowhere/at/all.toml"]);
    assert_eq!(code, 78, "{text}");
    one_line(&text, &["/nowhere/at/all.toml"]);
}

#[test]
fn an_admin_socket_that_is_a_file_is_left_alone() {
    let scratch = tempfile::tempdir().expect("scratch");
    fs::write(scratch.path().join("admin.sock"), "precious").expect("a file");
    let (code, text) = refused(scratch.path(), &["--log-level", "error"]);
    assert_eq!(code, 73, "{text}");
    one_line(&text, &["admin.sock", "no socket"]);
    assert_eq!(
        fs::read_to_string(scratch.path().join("admin.sock")).expect("still there"),
        "precious"
    );
}

#[test]
fn a_socket_that_a_killed_daemon_left_is_taken_over() {
    let mut daemon = Daemon::start(&[]);
    daemon.kill();
    assert!(daemon.socket().exists());
    daemon.restart();
    assert_eq!(daemon.admin("GET", "/status", "").0, 200);
}

#[test]
fn a_damaged_journal_stops_the_start_and_names_file_offset_and_command() {
    let mut daemon = Daemon::start(&["--log-level", "error"]);
    for number in 0..5 {
        daemon.submit(&format!(r#"{{"payload":{number}}}"#));
    }
    daemon.kill();
    let journal = daemon.data().join("journal");
    let mut segments: Vec<_> = fs::read_dir(&journal)
        .expect("the journal")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "wal"))
        .collect();
    segments.sort();
    let first = segments.first().expect("a segment");
    let mut bytes = fs::read(first).expect("its bytes");
    // In the first frame, behind the segment's header and the frame's own.
    bytes[64 + 40] ^= 0xff;
    fs::write(first, bytes).expect("damage");
    let (code, text) = refused(daemon.scratch.path(), &["--log-level", "error"]);
    assert_eq!(code, 65, "{text}");
    one_line(
        &text,
        &[".wal", "byte 64", "workqueuectl check", "--repair"],
    );
}

#[test]
fn wrong_flags_end_with_2_and_check_config_prints_what_counts() {
    let scratch = tempfile::tempdir().expect("scratch");
    assert_eq!(refused(scratch.path(), &["--no-such-flag"]).0, 2);
    let output = common::run(
        env!("CARGO_BIN_EXE_workqueued"),
        &["--check-config", "--data-dir", "/tmp/somewhere"],
    );
    assert!(output.status.success(), "{output:?}");
    let text = common::out(&output);
    assert!(
        text.contains("/tmp/somewhere") && text.contains("flag --data-dir"),
        "{text}"
    );
}
