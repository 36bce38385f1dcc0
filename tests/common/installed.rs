//! A machine that has the files of the package.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;

use super::{
    container::{Machine, put},
    package::unpack,
};

/// The daemon's units.
pub const DAEMON: &str = "workqueued.service workqueued.socket workqueued-admin.socket";

/// One machine for all tests here, one test at a time, each on a fresh installation.
pub fn machine() -> Option<MutexGuard<'static, Machine>> {
    static MACHINE: LazyLock<Option<Mutex<Machine>>> =
        LazyLock::new(|| Machine::boot(install).map(Mutex::new));
    let machine = MACHINE.as_ref()?;
    let machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
    fresh(&machine);
    Some(machine)
}

/// Puts the package's files into a root.
pub fn install(root: &Path) {
    assert!(
        unpack(root),
        "where there is debootstrap, there is dpkg-deb"
    );
    put(root, "/etc/hostname", "queue\n");
}

/// As after an installation: nothing runs, nothing is kept, nothing is configured. Workers end first: by its socket, one that comes
/// between the daemon's stop and the socket's would have the daemon started again.
fn fresh(machine: &Machine) {
    machine.sh(&format!(
        "systemctl stop 'workqueue-worker*' 'workqueue-submit@*.timer' 'workqueue-submit@*' 2>/dev/null
         systemctl stop {DAEMON} 2>/dev/null; systemctl reset-failed
         rm -rf /var/lib/workqueue /var/lib/workqueue-worker /etc/workqueue /etc/credstore/workqueue.token
         rm -rf /etc/systemd/system/workqueue*.d /run/systemd/system/workqueue*.d
         systemd-tmpfiles --create workqueue.conf && systemctl daemon-reload"
    ));
}

/// A drop-in for a unit.
pub fn drop_in(machine: &Machine, unit: &str, text: &str) {
    machine.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), text);
    machine.sh("systemctl daemon-reload");
}

pub fn api(machine: &Machine, method: &str, path: &str, body: &str) -> Value {
    let body = if body.is_empty() {
        String::new()
    } else {
        format!("-H 'Content-Type: application/json' -d '{body}'")
    };
    let text = machine.sh(&format!(
        "curl -sS -X {method} {body} --unix-socket /run/workqueue/admin.sock http://localhost{path}"
    ));
    if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

pub fn submit(machine: &Machine, task: &str) -> String {
    let task = api(machine, "POST", "/api/v1/tasks", task);
    task["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{task}"))
        .to_owned()
}

pub fn ids(machine: &Machine) -> BTreeSet<String> {
    machine
        .sh("workqueuectl list --all --json")
        .lines()
        .map(|line| {
            let task: Value = serde_json::from_str(line).expect("a task");
            task["id"].as_str().expect("an id").to_owned()
        })
        .collect()
}

/// Waits until clients have got `more` further answers.
pub fn answers(machine: &Machine, answered: &AtomicU64, more: u64) {
    let goal = answered.load(Ordering::Relaxed) + more;
    machine.until("clients are answered", || {
        (answered.load(Ordering::Relaxed) >= goal).then_some(())
    });
}

/// Submits a task for each payload, which is JSON.
pub fn submit_all(machine: &Machine, payloads: impl Iterator<Item = String>) {
    let lines: Vec<String> = payloads
        .map(|payload| format!("{{\"payload\":{payload}}}\n"))
        .collect();
    machine.write("/root/tasks", lines.concat());
    machine.sh("workqueuectl submit --ndjson /root/tasks");
}
