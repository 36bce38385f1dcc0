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
    env,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    thread,
};

use common::{
    Daemon,
    python::{here, installed, run},
};

fn hold_against_description(daemon: &Daemon, address: &str, extra: &[&str]) {
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let url = format!("http://{address}");
    let said = run(Command::new(installed("schemathesis").join("schemathesis"))
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
        .env("PYTHONPATH", here("schemathesis"))
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
