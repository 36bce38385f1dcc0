//! The unit files are right in the eyes of systemd itself. Nothing is installed or started.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says so when it skips"
)]

use std::{fs, path::Path, process::Command};

/// Runs `systemd-analyze verify` on copies of all units below `dir` that start the programs of this build.
fn verify(dir: &str, mode: &str) {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!(
            "SKIPPED: no systemd-analyze here, so {dir} was not verified; it is in the package systemd"
        );
        return;
    };
    assert!(version.status.success());
    let built = Path::new(env!("CARGO_BIN_EXE_workqueued"))
        .parent()
        .unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let copy = scratch.path().join(path.file_name().unwrap());
        fs::write(&copy, text.replace("/usr/bin", built.to_str().unwrap())).unwrap();
        copies.push(copy);
    }
    assert!(copies.len() >= 4, "{copies:?}");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no", mode])
        .args(&copies)
        .env("XDG_RUNTIME_DIR", scratch.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Complaints about units of the machine that the test runs on are not ours.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("workqueue"))
        .collect();
    assert!(ours.is_empty(), "{dir}:\n{}", ours.join("\n"));
    assert!(output.status.success(), "{dir}: {said}");
}

#[test]
fn the_systems_units_verify() {
    verify("systemd", "--system");
}

#[test]
fn a_users_units_verify() {
    verify("systemd/user", "--user");
}
