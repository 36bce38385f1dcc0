//! Programs from Python's package index for a test: each list of them in a directory of its own below `target/`, installed when the
//! list has changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// Only one of a program's tests installs.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Where the programs of `tests/NAME/requirements.txt` are.
pub fn installed(name: &str) -> PathBuf {
    let _installing = INSTALLING.lock().expect("the other test has not failed");
    let list = here(name).join("requirements.txt");
    let wanted = fs::read(&list).expect("the list of packages");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target/")
        .join(name);
    let note = place.join("installed.txt");
    let programs = place.join("bin");
    if fs::read(&note).is_ok_and(|text| text == wanted) {
        return programs;
    }
    if place.exists() {
        fs::remove_dir_all(&place).expect("what was installed before is removed");
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&place));
    run(Command::new(programs.join("pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(list));
    fs::write(note, wanted).expect("a note of what is installed");
    programs
}

/// The directory of a test's own files.
pub fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// Runs to a good end, or fails with all that was said.
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}
