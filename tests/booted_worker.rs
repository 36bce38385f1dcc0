//! Workers, templates, timers, drops and users in a really booted systemd.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use common::{
    container::Machine,
    installed::{answers, api, drop_in, ids, install, machine, submit, submit_all},
    load,
};

const WORKER_FILE: &str = "/etc/workqueue/workqueue-worker.toml";

/// A worker whose handler is a shell script.
fn script(machine: &Machine, file: &str, settings: &str, script: &str) {
    machine.write("/usr/local/bin/handle", format!("#!/bin/sh\n{script}\n"));
    machine.sh("chmod 755 /usr/local/bin/handle");
    machine.write(
        file,
        format!("{settings}\n[handler]\ntype = \"exec\"\ncommand = [\"/usr/local/bin/handle\"]\n"),
    );
}

fn state(machine: &Machine, id: &str) -> String {
    let task = api(machine, "GET", &format!("/api/v1/tasks/{id}"), "");
    task["state"].as_str().unwrap_or("none").to_owned()
}

fn until_state(machine: &Machine, id: &str, wanted: &str) {
    machine.until(&format!("{id} is {wanted}"), || {
        (state(machine, id) == wanted).then_some(())
    });
}

#[test]
fn a_stop_during_a_handler_lets_it_finish_also_where_the_grace_is_longer_than_the_units_timeout() {
    let Some(machine) = machine() else { return };
    script(
        &machine,
        WORKER_FILE,
        "shutdown_grace = \"60s\"",
        "sleep 6; cat > done.txt",
    );
    // shutdown_grace is the one number: the worker asks for as much, however short this is.
    drop_in(
        &machine,
        "workqueue-worker.service",
        "[Service]\nTimeoutStopSec=2\n",
    );
    machine.sh("systemctl start workqueue-worker");
    let id = submit(&machine, r#"{"payload":"finished"}"#);
    until_state(&machine, &id, "leased");
    machine.sh("systemctl stop workqueue-worker");
    assert_eq!(machine.show("workqueue-worker", "Result"), "success");
    assert_eq!(
        machine.read("/var/lib/workqueue-worker/done.txt"),
        "finished"
    );
    assert_eq!(state(&machine, &id), "none", "its end was reported");
}

#[test]
fn a_stop_past_the_grace_releases_the_task_at_once() {
    let Some(machine) = machine() else { return };
    script(
        &machine,
        WORKER_FILE,
        "shutdown_grace = \"1s\"",
        "sleep 600",
    );
    machine.sh("systemctl start workqueue-worker");
    let id = submit(&machine, r#"{"payload":1,"lease":3600}"#);
    until_state(&machine, &id, "leased");
    machine.sh("systemctl stop workqueue-worker");
    assert_eq!(machine.show("workqueue-worker", "Result"), "success");
    let task = api(&machine, "GET", &format!("/api/v1/tasks/{id}"), "");
    assert_eq!(
        (task["state"].as_str(), task["attempts"].as_u64()),
        (Some("ready"), Some(0)),
        "{task}"
    );
    assert!(!machine.is("pgrep -f '[s]leep 600'"), "no process is left");
}

#[test]
fn workers_outlive_restarts_of_the_daemon_and_no_result_is_lost() {
    let Some(machine) = machine() else { return };
    script(
        &machine,
        WORKER_FILE,
        "concurrency = 8",
        "read -r number; echo \"$number\" >> numbers; sleep 0.05; echo \"$number\" >> ends",
    );
    machine.sh("systemctl start workqueue-worker");
    let worker = machine.main_pid("workqueue-worker");
    submit_all(&machine, (0..200).map(|number| format!("\"{number}\\n\"")));
    for goal in [20, 80, 140] {
        machine.until("workers get on", || {
            (machine
                .read("/var/lib/workqueue-worker/ends")
                .lines()
                .count()
                >= goal)
                .then_some(())
        });
        machine.sh("systemctl restart workqueued");
    }
    machine.until("all is done", || ids(&machine).is_empty().then_some(()));
    assert_eq!(
        machine.main_pid("workqueue-worker"),
        worker,
        "it was not restarted"
    );
    let totals = machine.read("/var/lib/workqueue-worker/ends");
    let mut ends: Vec<u32> = totals
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    ends.sort_unstable();
    assert_eq!(
        ends,
        (0..200).collect::<Vec<_>>(),
        "each handler ran once, and no result was lost"
    );
}

#[test]
fn a_handler_cannot_escape_and_a_drop_in_opens_one_step() {
    let Some(machine) = machine() else { return };
    machine.sh("install -d /home/ada && echo secret > /home/ada/secret && chmod 755 /home/ada");
    machine.write(
        "/usr/local/bin/escape.py",
        r#"
import ctypes, os, socket, subprocess, sys
def tries(name, what):
    try:
        what()
        print(name, "ESCAPED")
    except Exception as error:
        print(name, "held:", error)
def write(path):
    with open(path, "w") as file: file.write("x")
def ptrace():
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        import time; time.sleep(30); os._exit(0)
    result = libc.ptrace(16, child, None, None)
    number = ctypes.get_errno()
    os.kill(child, 9); os.waitpid(child, 0)
    if result != 0: raise OSError(number, os.strerror(number))
def mounted():
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000 | 0x10000000) != 0: raise OSError(ctypes.get_errno(), "unshare")
daemon = int(open("/run/daemon.pid").read())
tries("etc", lambda: write("/etc/escaped"))
tries("usr", lambda: write("/usr/escaped"))
tries("home", lambda: open("/home/ada/secret").read())
tries("state", lambda: os.listdir("/var/lib/workqueue"))
tries("admin", lambda: socket.socket(socket.AF_UNIX).connect("/run/workqueue/admin.sock"))
tries("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
tries("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
tries("ptrace", ptrace)
tries("kill", lambda: os.kill(daemon, 0))
tries("namespace", mounted)
tries("setuid", lambda: os.setuid(0))
tries("kmsg", lambda: open("/dev/kmsg"))
tries("sysctl", lambda: write("/proc/sys/net/ipv4/ip_forward"))
groups = [path for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if os.path.exists(path + "/cgroup.procs")]
tries("cgroup", lambda: write(groups[0] + "/system.slice/workqueued.service/cgroup.procs"))
tries("limits", lambda: write(groups[0] + "/system.slice/workqueue-worker.service/cgroup.max.depth"))
if not groups: print("no groups: ESCAPED")
tries("suid", lambda: os.chmod("report", 0o4755))
"#,
    );
    script(
        &machine,
        WORKER_FILE,
        "",
        "touch report; python3 /usr/local/bin/escape.py > report.part 2>&1; mv report.part report",
    );
    machine.sh("systemctl start workqueue-worker && systemctl show --value -p MainPID workqueued > /run/daemon.pid");
    let run = || {
        let id = submit(&machine, r#"{"payload":1}"#);
        until_state(&machine, &id, "none");
        machine.read("/var/lib/workqueue-worker/report")
    };
    let report = run();
    assert_eq!(
        report.lines().filter(|line| line.contains("held:")).count(),
        16,
        "{report}"
    );
    assert!(!report.contains("ESCAPED"), "{report}");
    // One line of the shipped example opens the home directories to readers, and nothing else.
    let example = machine.read("/usr/share/doc/workqueue/examples/workqueue-worker-open.conf");
    assert!(example.contains("#ProtectHome=read-only"), "{example}");
    drop_in(
        &machine,
        "workqueue-worker.service",
        &example.replace("#ProtectHome=read-only", "ProtectHome=read-only"),
    );
    machine.sh("systemctl restart workqueue-worker");
    let report = run();
    assert!(report.contains("home ESCAPED"), "{report}");
    assert_eq!(
        report.lines().filter(|line| line.contains("held:")).count(),
        15,
        "{report}"
    );
}

#[test]
fn a_timeout_ends_all_that_a_program_started_in_the_units_delegated_group() {
    let Some(machine) = machine() else { return };
    // An environment of its own, a session of its own, and nobody's child: nothing but the control group holds it.
    script(
        &machine,
        WORKER_FILE,
        "",
        "(env -i PATH=\"$PATH\" setsid sleep 54321 >&- 2>&- <&- &)\nexec sleep 54322",
    );
    // Both are to be seen in their group before that.
    let settings = machine.read(WORKER_FILE) + "timeout = \"10s\"\n";
    machine.write(WORKER_FILE, settings);
    machine.sh("systemctl start workqueue-worker");
    let group = "/sys/fs/cgroup$(systemctl show --value -p ControlGroup workqueue-worker)";
    let group = machine.sh(&format!(
        "for root in {group} {}; do [ -d $root ] && echo $root; done; true",
        group.replace("cgroup$", "cgroup/unified$")
    ));
    let group = group.lines().next().expect("the unit's group").to_owned();
    let id = submit(&machine, r#"{"payload":1,"max_attempts":1}"#);
    let inside = format!("cat {group}/attempt-*/cgroup.procs 2>/dev/null | wc -l");
    machine.until("both run in a group of their own", || {
        (machine.sh(&inside).trim() == "2").then_some(())
    });
    until_state(&machine, &id, "dead");
    assert_eq!(machine.sh("pgrep -c 'sleep' || true").trim(), "0");
    machine.until("its group is gone", || {
        (machine
            .sh(&format!("ls -d {group}/attempt-* 2>/dev/null | wc -l"))
            .trim()
            == "0")
            .then_some(())
    });
}

#[test]
fn instances_take_their_file_or_the_queue_of_their_name() {
    let Some(machine) = machine() else { return };
    script(
        &machine,
        "/etc/workqueue/workers/mail.toml",
        "queues = [\"mail-out\"]",
        "cat > by-file",
    );
    machine.sh("systemctl start workqueue-worker@mail workqueue-worker@reports");
    submit(&machine, r#"{"payload":"letter","queue":"mail-out"}"#);
    submit(&machine, r#"{"payload":"figures","queue":"reports"}"#);
    machine.until("both are done", || ids(&machine).is_empty().then_some(()));
    assert_eq!(
        machine.read("/var/lib/workqueue-worker/mail/by-file"),
        "letter"
    );
    machine.until("the figures are in the journal", || {
        machine
            .sh("journalctl -b -u workqueue-worker@reports --no-pager -o cat")
            .contains("figures")
            .then_some(())
    });
    machine.sh("systemctl stop 'workqueue-worker@*'");
}

#[test]
fn the_calendar_submits_once_where_the_last_one_waits() {
    let Some(machine) = machine() else { return };
    machine.sh("systemctl start workqueued");
    machine.write(
        "/etc/workqueue/submit/report.json",
        "{\"payload\":\"nightly\",\"unique_key\":\"report\"}\n",
    );
    drop_in(
        &machine,
        "workqueue-submit@report.timer",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/1\n",
    );
    machine.sh("systemctl start workqueue-submit@report.timer");
    let runs = || {
        let log = machine.sh("journalctl -b -u workqueue-submit@report --no-pager -o cat");
        log.lines().filter(|line| line.contains("Finished")).count()
    };
    machine.until("it ran twice", || (runs() >= 2).then_some(()));
    machine.sh("systemctl stop workqueue-submit@report.timer");
    assert_eq!(ids(&machine).len(), 1);
    assert!(machine.sh("workqueuectl list").contains("nightly"));
}

#[test]
fn members_of_the_group_drop_files_and_use_the_socket_and_others_do_not() {
    let Some(machine) = machine() else { return };
    machine.sh(
        "id ada >/dev/null 2>&1 || useradd -M -G workqueue ada; id bob >/dev/null 2>&1 || useradd -M bob
         systemctl start workqueued",
    );
    assert_eq!(
        machine.sh("stat -c '%a %U %G' /var/lib/workqueue/tasks"),
        "2770 workqueue workqueue"
    );
    assert_eq!(
        machine.sh("stat -c '%a %U %G' /run/workqueue/admin.sock"),
        "660 root workqueue"
    );
    machine.sh(
        "runuser -u ada -- sh -c 'umask 027; cd /var/lib/workqueue/tasks && echo hello > .new && mv .new hello.txt'",
    );
    machine.until("it is taken in", || {
        machine
            .sh("runuser -u ada -- workqueuectl list")
            .contains("hello")
            .then_some(())
    });
    // What nobody but its owner can read is told, not lost.
    machine.sh(
        "runuser -u ada -- sh -c 'umask 077; cd /var/lib/workqueue/tasks && echo x > .new && chgrp ada .new && mv .new closed.txt'",
    );
    machine.until("it is told", || {
        machine
            .sh("runuser -u ada -- workqueuectl rejected")
            .contains("closed.txt")
            .then_some(())
    });
    for refused in [
        "runuser -u bob -- workqueuectl list",
        "runuser -u bob -- ls /var/lib/workqueue/tasks",
        "runuser -u bob -- touch /var/lib/workqueue/tasks/x.txt",
        "runuser -u bob -- curl -sS --unix-socket /run/workqueue/admin.sock http://localhost/status",
    ] {
        assert!(!machine.is(refused), "{refused}");
    }
}

#[test]
fn the_workers_token_comes_from_a_credential() {
    let Some(machine) = machine() else { return };
    machine.write("/etc/credstore/workqueue.token", "s3cret\n");
    machine.sh(
        "chmod 600 /etc/credstore/workqueue.token; systemctl mask --runtime workqueued.service",
    );
    machine.write(WORKER_FILE, "url = \"http://127.0.0.1:5099\"\n");
    let head = machine.network(|| {
        let listener = TcpListener::bind("127.0.0.1:5099").expect("listen");
        machine.sh("systemctl start workqueue-worker");
        let (mut stream, _) = listener.accept().expect("a claim");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("timeout");
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).expect("its head");
        stream
            .write_all(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")
            .expect("an answer");
        String::from_utf8_lossy(&bytes[..count]).to_ascii_lowercase()
    });
    machine.sh("systemctl stop workqueue-worker; systemctl unmask --runtime workqueued.service");
    assert!(head.contains("authorization: bearer s3cret"), "{head}");
}

#[test]
fn an_ordinary_user_has_a_daemon_and_a_worker_without_root() {
    let Some(machine) = machine() else { return };
    machine.sh("id eve >/dev/null 2>&1 || useradd -m -s /bin/sh eve; loginctl enable-linger eve");
    let uid = machine.sh("id -u eve");
    let eve = |command: &str| {
        machine.sh(&format!(
            "runuser -u eve -- env XDG_RUNTIME_DIR=/run/user/{uid} HOME=/home/eve sh -c '{command}'"
        ))
    };
    machine.until("her manager runs", || {
        machine
            .is(&format!(
                "systemctl is-active user@{uid}.service && test -S /run/user/{uid}/bus"
            ))
            .then_some(())
    });
    eve(
        "mkdir -p ~/.config/workqueue && echo \"listen = [\\\"127.0.0.1:5055\\\"]\" > ~/.config/workqueue/workqueued.toml",
    );
    eve("systemctl --user start workqueued workqueue-worker");
    eve("workqueuectl submit -- for-eve");
    machine.until("her worker has done it", || {
        let log = machine
            .sh("journalctl -b --no-pager -o cat _SYSTEMD_USER_UNIT=workqueue-worker.service");
        log.contains("for-eve").then_some(())
    });
    eve("systemctl --user reload workqueued");
    eve("systemctl --user restart workqueued");
    assert_eq!(machine.sh("curl -sS http://127.0.0.1:5055/healthz"), "ok");
    eve("systemctl --user stop workqueue-worker workqueued workqueued.socket");
    machine.sh("loginctl disable-linger eve");
}

#[test]
fn the_machine_goes_down_under_load_in_time_and_nothing_acknowledged_is_lost() {
    let Some(machine) = Machine::boot(install) else {
        return;
    };
    script(
        &machine,
        WORKER_FILE,
        "shutdown_grace = \"2s\"\nconcurrency = 4",
        "sleep 600",
    );
    // As at a boot: the target brings up daemon and workers.
    machine.sh(
        "systemctl enable workqueued workqueue-worker && systemctl start multi-user.target --no-block
         systemctl start workqueued workqueue-worker",
    );
    for number in 0..4 {
        submit(&machine, &format!(r#"{{"payload":{number},"lease":3600}}"#));
    }
    machine.until("its handlers run", || {
        (machine.run("pgrep -c -f '^sleep 600'").stdout.trim_ascii() >= b"4".as_slice())
            .then_some(())
    });
    let (account, (took, files)) = machine.network(|| {
        load::submit_while(16, "127.0.0.1:5000", |answered| {
            answers(&machine, answered, 200);
            machine.power_off()
        })
    });
    println!("off in {took:?}, {} tasks answered", account.ids.len());
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(
        !machine.console().contains("ordering cycle"),
        "{}",
        machine.console()
    );
    // Started again on what is on its disk: every task that was answered, and the four that were given back.
    let scratch = tempfile::tempdir().expect("a scratch directory");
    std::fs::rename(files.join("var/lib/workqueue"), scratch.path().join("data"))
        .or_else(|_| {
            copy_tree(
                &files.join("var/lib/workqueue"),
                &scratch.path().join("data"),
            )
        })
        .expect("its data");
    let daemon = common::Daemon::start_in(scratch, &[]);
    let (_, status) = daemon.admin("GET", "/status", "");
    assert_eq!(status["leased"], 0, "given back at the stop: {status}");
    for id in &account.ids {
        let (status, task) = daemon.get(&format!("/api/v1/tasks/{id}"));
        assert_eq!(
            (status, task["state"].as_str()),
            (200, Some("ready")),
            "{task}"
        );
    }
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()?;
    assert!(status.success());
    Ok(())
}
