//! The daemon and the worker in a really booted systemd: readiness, sockets, watchdog, reload, sandbox, stops and restarts.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use common::container::{Machine, copy, put};

/// One machine for all tests here, one test at a time.
fn machine() -> Option<MutexGuard<'static, Machine>> {
    static MACHINE: LazyLock<Option<Mutex<Machine>>> =
        LazyLock::new(|| Machine::boot(install).map(Mutex::new));
    let machine = MACHINE.as_ref()?;
    Some(machine.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Puts the build into a root, where a package would.
fn install(root: &Path) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for program in [
        env!("CARGO_BIN_EXE_workqueued"),
        env!("CARGO_BIN_EXE_workqueue-worker"),
        env!("CARGO_BIN_EXE_workqueuectl"),
    ] {
        let program = Path::new(program);
        let name = program
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        copy(root, program, &format!("/usr/bin/{name}"));
    }
    for unit in ["workqueued.service", "workqueue-worker.service"] {
        copy(
            root,
            &project.join("systemd").join(unit),
            &format!("/usr/lib/systemd/system/{unit}"),
        );
    }
    for kind in ["sysusers", "tmpfiles"] {
        copy(
            root,
            &project.join(format!("packaging/{kind}.d/workqueue.conf")),
            &format!("/usr/lib/{kind}.d/workqueue.conf"),
        );
    }
    put(root, "/etc/hostname", "queue\n");
}

#[test]
fn it_starts_and_serves() {
    let Some(machine) = machine() else { return };
    machine.sh("systemctl start workqueued");
    assert_eq!(machine.show("workqueued", "ActiveState"), "active");
    let status =
        machine.sh("curl -sS --unix-socket /run/workqueue/admin.sock http://localhost/status");
    assert!(status.contains("\"version\""), "{status}");
    let page = machine.network(|| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect("127.0.0.1:5000").expect("connect");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("send");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read");
        text
    });
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(machine.main_pid("workqueued") > 0);
}
