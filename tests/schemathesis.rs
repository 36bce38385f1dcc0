//! The API does what its description says: schemathesis makes requests from it, right and wrong ones, and holds each answer
//! against it.
//!
//! A few minutes at most, from a fixed seed; `SCHEMATHESIS_SEED` and `SCHEMATHESIS_EXAMPLES` ask for another and for more.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
};

use common::Daemon;

/// Only one of the tests installs.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The program, in a directory of its own below `target/`, installed when its list of packages has changed.
fn schemathesis() -> PathBuf {
    let _installing = INSTALLING.lock().expect("the other test has not failed");
    let wanted = fs::read(here("requirements.txt")).expect("the list of packages");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target/")
        .join("schemathesis");
    let program = place.join("bin/schemathesis");
    let installed = place.join("installed.txt");
    if fs::read(&installed).is_ok_and(|text| text == wanted) {
        return program;
    }
    if place.exists() {
        fs::remove_dir_all(&place).expect("what was installed before is removed");
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&place));
    run(Command::new(place.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(here("requirements.txt")));
    fs::write(installed, wanted).expect("a note of what is installed");
    program
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/schemathesis")
        .join(name)
}

/// Runs to a good end, or fails with all that was said.
fn run(command: &mut Command) -> String {
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

fn hold_against_description(daemon: &Daemon, address: &str, extra: &[&str]) {
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let url = format!("http://{address}");
    let said = run(Command::new(schemathesis())
        .arg("run")
        .arg(format!("{url}/api/openapi.json"))
        .args(["--url", &url, "--checks", "all", "--continue-on-failure"])
        // It takes lines and nothing else, which can't be written from a schema.
        .args(["--exclude-path", "/api/v1/import"])
        .args(["--request-timeout", "20", "--no-color"])
        .args(["--seed", &setting("SCHEMATHESIS_SEED", "20")])
        .args(["--max-examples", &setting("SCHEMATHESIS_EXAMPLES", "8")])
        .args(extra)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", here(""))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // What it keeps for its next run is kept nowhere: each run is the same.
        .current_dir(daemon.scratch.path()));
    assert!(said.contains(" passed"), "{said}");
    let (status, _) = daemon.text("/healthz");
    assert_eq!(status, 200, "the daemon has survived it");
}

#[test]
fn what_is_served_on_tcp_is_as_described() {
    let daemon = Daemon::start(&[]);
    let address = daemon.address.clone();
    hold_against_description(&daemon, &address, &[]);
}

/// A daemon that drains answers 503, which would be held for a defect; one that is shut down answers nothing.
#[test]
fn what_is_served_on_the_admin_socket_is_as_described() {
    let daemon = Daemon::start(&[]);
    let address = forward_to(daemon.socket());
    hold_against_description(
        &daemon,
        &address,
        &["--exclude-path", "/drain", "--exclude-path", "/shutdown"],
    );
}

/// Carries TCP connections to a Unix socket. Gives the address.
fn forward_to(socket: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.expect("a connection");
            let far = UnixStream::connect(&socket).expect("the admin socket");
            let (near_2, far_2) = (
                near.try_clone().expect("a handle"),
                far.try_clone().expect("a handle"),
            );
            thread::spawn(move || {
                carry(&near, &far);
                // Either end may be gone already; then there is nothing left to end.
                drop(far.shutdown(Shutdown::Write));
            });
            thread::spawn(move || {
                carry(&far_2, &near_2);
                drop(near_2.shutdown(Shutdown::Write));
            });
        }
    });
    address
}

/// Until one of the two ends, which is no failure: clients go away when they like.
fn carry(mut from: impl Read, mut to: impl Write) {
    drop(io::copy(&mut from, &mut to));
}
