//! The unit files are right in the eyes of systemd itself. Nothing is installed or started.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says so when it skips"
)]

use std::{fs, path::Path, process::Command};

/// Runs `systemd-analyze verify` on a copy of the unit that starts the program of this build.
fn verify(unit: &str, program: &str, built: &str) {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!(
            "SKIPPED: no systemd-analyze here, so {unit} was not verified; it is in the package systemd"
        );
        return;
    };
    assert!(version.status.success());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let text = fs::read_to_string(root.join(unit)).unwrap();
    let installed = format!("ExecStart=/usr/bin/{program}");
    assert!(text.contains(&installed), "{unit} starts {program}");
    let dir = tempfile::tempdir().unwrap();
    for other in ["workqueued.service", "workqueue-worker.service"] {
        fs::copy(root.join(other), dir.path().join(other)).unwrap();
    }
    let copy = dir.path().join(unit);
    fs::write(
        &copy,
        text.replace(&installed, &format!("ExecStart={built}")),
    )
    .unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&copy)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Complaints about units of the machine that the test runs on are not ours.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("workqueue"))
        .collect();
    assert!(ours.is_empty(), "{unit}:\n{}", ours.join("\n"));
    assert!(output.status.success(), "{unit}: {said}");
}

#[test]
fn the_daemons_unit_verifies() {
    verify(
        "workqueued.service",
        "workqueued",
        env!("CARGO_BIN_EXE_workqueued"),
    );
}

#[test]
fn the_workers_unit_verifies() {
    verify(
        "workqueue-worker.service",
        "workqueue-worker",
        env!("CARGO_BIN_EXE_workqueue-worker"),
    );
}
